//! Faults that need no repetition, side by side with cargo-nextest.

use crate::{
    course::Course,
    environment::installed,
    package::Visit,
    scene::{Finished, LONGEST_RUN, Scene, wait_until},
};
use fixture_kit::model::Runner;
use nix::{sys::signal::Signal, unistd::geteuid};
use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

pub(crate) fn run(course: &mut Course<'_>) {
    let mut who = vec![Runner::Harness];
    if course.has_peer() {
        who.push(Runner::Peer);
    }
    for runner in who {
        interrupted_in_the_delay_of_a_retry(course, runner);
        junit_on_a_full_disk(course, runner);
    }
}

/// A test has failed and waits for its next attempt when Ctrl-C comes: it keeps the result it had.
fn interrupted_in_the_delay_of_a_retry(course: &mut Course<'_>, runner: Runner) {
    const RETRIES: &str = "retries = { backoff = 'fixed', count = 1, delay = '30s' }";
    let scene = Scene::new();
    let command = with_junit(runner, &scene, "zoo", "fails", RETRIES);
    let run = scene.start(command);
    let failed_once = || {
        let shown = fs::read_to_string(scene.path("stderr-0")).unwrap_or_default();
        shown.contains("TRY 1 FAIL").then_some(())
    };
    assert!(
        wait_until(LONGEST_RUN, failed_once).is_some(),
        "{}",
        run.finish().stderr
    );
    let since = Instant::now();
    run.signal(Signal::SIGINT);
    let finished = run.finish();
    let took = since.elapsed();
    let junit = fs::read_to_string(junit(runner, &scene)).unwrap_or_default();
    let known = junit.contains("name=\"fails\"") && junit.contains("<failure");
    if runner == Runner::Harness {
        assert!(known, "the result is lost:\n{junit}\n{}", finished.stderr);
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
    let result = if known { "in the report" } else { "lost" };
    let what = "Ctrl-C while a failed test waits for its retry: its result";
    let was = format!("{result}; exit code {}, after {took:.1?}", code(&finished));
    course.tell(runner, what, "in the report", was);
}

/// There is no room for the report.
fn junit_on_a_full_disk(course: &mut Course<'_>, runner: Runner) {
    // As a mount of the run's own, invisible to other processes.
    let namespace: &[&str] = match geteuid().is_root() {
        true => &["--mount"],
        false => &["--mount", "--map-root-user"],
    };
    let probe = [namespace, &["mount", "-t", "tmpfs", "none", "/mnt"]].concat();
    if !installed("unshare", &probe) {
        course.note("skipped: a full disk under the report: nothing may be mounted");
        return;
    }
    let scene = Scene::new();
    let command = with_junit(runner, &scene, "weather", "ends_.*", "");
    let mount = "mount -t tmpfs -o size=4k none \"$0\" && exec \"$@\"";
    let store = scene.path("store");
    fs::create_dir_all(&store).expect("it can be made");
    let store = store.to_string_lossy();
    let args = [namespace, &["sh", "-c", mount, &store]].concat();
    let finished = scene.run(scene.wrapped(&command, "unshare", &args));
    scene.kill_strays();
    let results = finished.stderr.contains("60 tests run");
    let shown = finished
        .stderr
        .replace(&*scene.path("").to_string_lossy(), "…/");
    let said = shown.lines().rev().find(|line| line.starts_with("error"));
    if runner == Runner::Harness {
        assert!(results, "{}", finished.stderr);
        finished.assert_sentence();
    }
    let was = format!(
        "results {}; exit code {}, `{}`",
        if results { "shown" } else { "not shown" },
        code(&finished),
        said.unwrap_or("no error").replace('`', "'")
    );
    let what = "a full disk under the JUnit report";
    course.tell(runner, what, "results shown, a sentence", was);
}

/// Returns a run that reports into a folder `store` of the scene.
fn with_junit(runner: Runner, scene: &Scene, binary: &str, tests: &str, config: &str) -> Command {
    let config = match runner {
        Runner::Harness => config.to_owned(),
        Runner::Peer => format!("{config}\n[profile.default.junit]\npath = 'junit.xml'"),
    };
    let mut command = Visit {
        binary,
        tests,
        config: &config,
    }
    .by(runner, scene);
    if runner == Runner::Harness {
        fs::create_dir_all(scene.path("store")).expect("it can be made");
        command.arg("--junit").arg(junit(runner, scene));
    }
    command
}

fn junit(runner: Runner, scene: &Scene) -> PathBuf {
    match runner {
        Runner::Harness => scene.path("store/junit.xml"),
        Runner::Peer => scene.path("store/default/junit.xml"),
    }
}

fn code(finished: &Finished) -> String {
    let code = finished.status.code();
    code.map_or_else(|| finished.status.to_string(), |code| code.to_string())
}
