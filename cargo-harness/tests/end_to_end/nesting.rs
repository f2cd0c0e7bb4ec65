//! A run within a test of a run: its tests are traced by the tracer of the outer one.
//!
//! These tests may be part of a run themselves. Then there is one more around all.

use crate::{
    environment::installed,
    scene::{Finished, Scene, skip, wait_until},
};
use harness_metadata::exit_code;
use nix::{sys::signal::Signal, unistd::geteuid};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// A package whose test starts a run in the first folder of `NEST_FOLDERS`, and leaves the others to
/// a test there.
const OUTER: &str = r#"#![cfg(test)]
    use std::{env, fs, path::Path, process::Command, thread, time::Duration};

    fn run() -> Command {
        let folders = env::var("NEST_FOLDERS").unwrap();
        let (folder, rest) = folders.split_once(':').unwrap_or((&folders, ""));
        let (filter, level) = match rest {
            "" => (env::var("NEST_FILTER").unwrap(), env::var("NEST_LEVEL").unwrap()),
            _ => ("test(=runs)".to_owned(), "io".to_owned()),
        };
        let mut command = Command::new(env::var("NEST_HARNESS").unwrap());
        command
            .args(["run", "--no-fail-fast", "-E", &filter, "--trace", &level])
            .current_dir(folder)
            .env("CARGO_TARGET_DIR", Path::new(folder).join("target"))
            .env("NEST_FOLDERS", rest);
        command
    }

    #[test]
    fn runs() {
        let status = run().status().unwrap();
        let fails = env::var("NEST_FILTER").unwrap().contains("fails");
        assert_eq!(status.code(), Some(if fails { 100 } else { 0 }));
    }

    #[test]
    fn kills() {
        let file = env::var("NEST_FILE").unwrap();
        let mut inner = run().spawn().unwrap();
        let pid = loop {
            if let Ok(pid) = fs::read_to_string(&file) && pid.ends_with('\n') {
                break pid.trim().to_owned();
            }
            thread::sleep(Duration::from_millis(5));
        };
        inner.kill().unwrap();
        inner.wait().unwrap();
        while Path::new("/proc").join(&pid).exists() {
            thread::sleep(Duration::from_millis(5));
        }
    }
"#;

const INNER: &str = r#"#![cfg(test)]
    use std::{env, fs, process::Command};

    #[test]
    fn works() {
        fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
        fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/written"), "").unwrap();
        assert!(Command::new("/bin/true").status().unwrap().success());
    }

    #[test]
    fn fails() {
        panic!("this is its outcome");
    }

    #[test]
    fn hangs() {
        // It leaves the process group, and ignores what can be ignored.
        let script = "trap '' HUP INT TERM; echo $$ > \"$NEST_FILE\"; while :; do sleep 50; done";
        let mut child = Command::new("setsid").args(["--wait", "sh", "-c", script]).spawn().unwrap();
        child.wait().unwrap();
    }
"#;

struct Nest {
    scene: Scene,
    inner: PathBuf,
    /// From the outermost to the one whose tests start the innermost run.
    folders: Vec<PathBuf>,
}

impl Nest {
    /// Makes and builds as many packages that start runs, and one that does not.
    fn new(depth: usize) -> Self {
        let scene = Scene::new();
        let names = (1..=depth).map(|number| format!("outer-{number}"));
        let nest = Self {
            folders: names.map(|name| scene.package(&name, OUTER)).collect(),
            inner: scene.package("inner", INNER),
            scene,
        };
        for folder in nest.folders.iter().chain([&nest.inner]) {
            let list = nest.scene.harness_in(folder, &["list"]);
            nest.scene.run(list).assert_code(exit_code::OK);
        }
        nest
    }

    /// Returns a run of a test of the outermost package, which has these tests run at this level.
    fn outermost(&self, test: &str, filter: &str, level: &str) -> Command {
        let filter_of_outer = format!("test(={test})");
        let args = ["run", "--trace", "io", "-E", &filter_of_outer];
        let mut command = self.scene.harness_in(&self.folders[0], &args);
        let folders = self.folders[1..].iter().chain([&self.inner]);
        let folders: Vec<_> = folders.map(|folder| folder.display().to_string()).collect();
        command
            .env("NEST_HARNESS", env!("CARGO_BIN_EXE_cargo-harness"))
            .env("NEST_FOLDERS", folders.join(":"))
            .env("NEST_FILTER", filter)
            .env("NEST_LEVEL", level)
            .env("NEST_FILE", self.scene.path("pid"));
        command
    }

    /// Returns the last trace of a test: what is said of it, and its events.
    fn trace(&self, folder: &Path, test: &str) -> (serde_json::Value, Vec<String>) {
        let trace = self.scene.harness_in(folder, &["trace", test, "--json"]);
        let trace = self.scene.run(trace);
        trace.assert_code(exit_code::OK);
        let mut lines = trace.stdout.lines();
        let header = serde_json::from_str(lines.next().expect("there is a first line"));
        (
            header.expect("it is JSON"),
            lines.map(str::to_owned).collect(),
        )
    }

    /// Fails unless what the test `works` does is in the trace of a test.
    #[track_caller]
    fn assert_sees_what_works_does(&self, folder: &Path, test: &str) -> serde_json::Value {
        let (header, events) = self.trace(folder, test);
        let inner = self.inner.display();
        let [manifest, written] =
            ["Cargo.toml", "written"].map(|name| format!("{{\"asked\":\"{inner}/{name}\""));
        let saw = |what: &[&str]| {
            let holds = |event: &String| what.iter().all(|part| event.contains(part));
            assert!(
                events.iter().any(holds),
                "{what:?} of {test}:\n{}",
                events.join("\n")
            );
        };
        saw(&["\"operation\":\"open\"", &manifest, "\"write\":false"]);
        saw(&[
            "\"operation\":\"open\"",
            &written,
            "\"create\":true",
            "\"ok\":",
        ]);
        saw(&["{\"exec\":", "\"args\":[\"/bin/true\"]", "\"ok\":0"]);
        saw(&["{\"exec\":", "\"--exact\",\"works\""]);
        assert_eq!(header["complete"], true, "{header}");
        header
    }
}

/// The events of tests, without times.
fn outcomes(run: &Finished) -> Vec<String> {
    let lines = run.stderr.lines().map(str::trim_start);
    let outcomes = lines.filter(|line| line.starts_with("PASS [") || line.starts_with("FAIL ["));
    let mut outcomes: Vec<_> = outcomes
        .filter_map(|line| Some(format!("{} {}", &line[..4], line.split_once(") ")?.1)))
        .filter(|line| line.contains(" inner "))
        .collect();
    outcomes.sort();
    outcomes.dedup();
    outcomes
}

#[test]
fn a_run_within_a_test_has_its_results_and_its_traces() {
    let nest = Nest::new(1);
    let mut alone = nest
        .scene
        .harness_in(&nest.inner, &["run", "--no-fail-fast"]);
    alone.args(["-E", "test(=works) | test(=fails)"]);
    let alone = nest.scene.run(alone);
    alone.assert_code(exit_code::TEST_RUN_FAILED);

    let mut command = nest.outermost("runs", "test(=works) | test(=fails)", "io");
    command.args(["--success-output", "immediate"]);
    let run = nest.scene.run(command);
    nest.scene.assert_no_strays();
    run.assert_code(exit_code::OK)
        .assert_says("trace io (outer)");
    assert_eq!(outcomes(&run), ["FAIL inner fails", "PASS inner works"]);
    assert_eq!(outcomes(&run), outcomes(&alone));

    let inner = nest.assert_sees_what_works_does(&nest.inner, "works");
    assert_eq!(
        (&inner["level"], &inner["backend"]),
        (&"io".into(), &"outer".into())
    );
    nest.assert_sees_what_works_does(&nest.folders[0], "runs");
    // What the child does before it becomes the test, and what others do, is not its own.
    let (_, events) = nest.trace(&nest.inner, "works");
    assert!(events[0].contains("\"exec\""), "{}", events[0]);
    assert!(
        events
            .last()
            .is_some_and(|last| last.contains("\"exited\""))
    );
    assert!(!events.iter().any(|event| event.contains("\"fails\"")));
}

#[test]
fn the_innermost_of_three_runs_has_its_traces() {
    let nest = Nest::new(2);
    let run = nest.scene.run(nest.outermost("runs", "test(=works)", "io"));
    nest.scene.assert_no_strays();
    run.assert_code(exit_code::OK);
    let inner = nest.assert_sees_what_works_does(&nest.inner, "works");
    assert_eq!(inner["backend"], "outer");
    for folder in &nest.folders {
        nest.assert_sees_what_works_does(folder, "runs");
    }
}

#[test]
fn a_run_within_a_test_has_the_level_that_there_is() {
    let nest = Nest::new(1);
    for (level, said) in [
        ("off", "trace off"),
        ("process", "trace process"),
        ("full", "traces at level io only"),
    ] {
        let mut command = nest.outermost("runs", "test(=works)", level);
        command.args(["--success-output", "immediate"]);
        let run = nest.scene.run(command);
        run.assert_code(exit_code::OK).assert_says(said);
    }
    assert_eq!(nest.trace(&nest.inner, "works").0["level"], "io");
}

#[test]
fn an_unprivileged_run_within_a_test_has_its_traces() {
    const NAME: &str = "an_unprivileged_run_within_a_test_has_its_traces";
    const NOBODY: [&str; 5] = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    // The toolchain may be in another user's home.
    const READ_EVERYTHING: [&str; 4] = [
        "--inh-caps",
        "-all,+dac_read_search",
        "--ambient-caps",
        "-all,+dac_read_search",
    ];
    if !geteuid().is_root() || !installed("setpriv", &["--version"]) {
        return skip(NAME, "only root, with setpriv, can become another user");
    }
    let nest = Nest::new(1);
    let mut open = nest.scene.command("chmod");
    open.args(["-R", "a+rwX"]).arg(nest.scene.path(""));
    nest.scene.run(open).assert_code(0);
    let args = [NOBODY.as_slice(), READ_EVERYTHING.as_slice()].concat();
    let as_nobody = |command: &Command| {
        let mut wrapped = nest.scene.wrapped(command, "setpriv", &args);
        wrapped
            .env("HOME", nest.scene.path(""))
            .env("CARGO_HOME", nest.scene.path("cargo-home"));
        wrapped
    };
    let list = nest.scene.harness_in(&nest.inner, &["list"]);
    if !nest.scene.run(as_nobody(&list)).status.success() {
        return skip(NAME, "another user cannot use cargo");
    }
    let run = nest.outermost("runs", "test(=works)", "io");
    nest.scene.run(as_nobody(&run)).assert_code(exit_code::OK);
    nest.scene.assert_no_strays();
    let inner = nest.assert_sees_what_works_does(&nest.inner, "works");
    assert_eq!(inner["backend"], "outer");
    nest.assert_sees_what_works_does(&nest.folders[0], "runs");
}

#[test]
fn a_run_within_a_test_that_is_killed_leaves_nothing() {
    let nest = Nest::new(1);
    let run = nest
        .scene
        .run(nest.outermost("kills", "test(=hangs)", "io"));
    nest.scene.assert_no_strays();
    run.assert_code(exit_code::OK);
}

#[test]
fn when_the_outer_run_is_killed_nothing_is_left_of_the_inner_one() {
    let nest = Nest::new(1);
    let running = nest
        .scene
        .start(nest.outermost("runs", "test(=hangs)", "io"));
    let pid = nest.scene.path("pid");
    let hangs = wait_until(Duration::from_secs(60), || {
        fs::read_to_string(&pid)
            .ok()
            .filter(|pid| pid.ends_with('\n'))
    });
    assert!(hangs.is_some(), "the innermost test did not start");
    running.signal(Signal::SIGKILL);
    let run = running.finish();
    assert_eq!(run.status.code(), None);
    nest.scene.assert_no_strays();
}
