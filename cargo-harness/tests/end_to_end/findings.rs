//! The findings at the end of a run: tests that disturbed others, causes in common, credentials; and `--open`.

use crate::scene::{Finished, Scene};
use harness_metadata::{Event, EventKind, event::Findings, exit_code};
use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Tests of which one removes the file of another, tests that need a port, and one that reads a key.
const SUITE: &str = r#"
use std::{env, fs, net::TcpStream, path::PathBuf, thread, time::Duration};

fn shared(name: &str) -> PathBuf {
    PathBuf::from(env::var("SHARED").unwrap()).join(name)
}

fn wait_for(path: PathBuf) {
    while !path.exists() {
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn loses_its_state() {
    fs::write(shared("state"), "x").unwrap();
    fs::write(shared("written"), "").unwrap();
    wait_for(shared("removed"));
    fs::read(shared("state")).unwrap();
}

#[test]
fn removes_the_state() {
    wait_for(shared("written"));
    fs::remove_file(shared("state")).unwrap();
    fs::write(shared("removed"), "").unwrap();
}

fn needs_the_port() {
    TcpStream::connect("127.0.0.1:9").unwrap();
}

#[test]
fn port_1() {
    needs_the_port();
}

#[test]
fn port_2() {
    needs_the_port();
}

#[test]
fn port_3() {
    needs_the_port();
}

#[test]
fn reads_a_key() {
    let home = env::var("HOME").unwrap();
    fs::read(format!("{home}/.ssh/id_ed25519")).unwrap();
}

#[test]
fn asks_for_a_key_that_is_not_there() {
    let home = env::var("HOME").unwrap();
    let _ = fs::read(format!("{home}/.aws/credentials"));
}
"#;

struct Suite {
    scene: Scene,
    package: PathBuf,
}

impl Suite {
    fn new() -> Self {
        let scene = Scene::new();
        scene.write("suite/tests/all.rs", SUITE);
        scene.write("shared/.keep", "");
        scene.write("home/.ssh/id_ed25519", "a key");
        let package = scene.package("suite", "");
        Self { scene, package }
    }

    fn harness(&self, args: &[&str], variables: &[(&str, &Path)]) -> Finished {
        let mut command = self.scene.harness_in(&self.package, args);
        command.env("SHARED", self.scene.path("shared"));
        command.env("HOME", self.scene.path("home"));
        for name in ["BROWSER", "VISUAL", "EDITOR"] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        self.scene.run(command)
    }

    fn findings(&self) -> Findings {
        let events = self.harness(&["report", "--events", "-"], &[]);
        events.assert_code(exit_code::OK);
        let last = events.stdout.lines().next_back().unwrap_or_default();
        match serde_json::from_str::<Event>(last)
            .expect("it is an event")
            .kind
        {
            EventKind::RunFinished(finished) => finished.findings,
            other => panic!("{other:?}"),
        }
    }

    /// Makes a program that writes its arguments to a file, a line each. Returns both.
    fn program(&self, name: &str) -> (PathBuf, PathBuf) {
        let seen = self.scene.path(&format!("{name}.seen"));
        let script = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" > '{}'\n", seen.display());
        let program = self.scene.write(&format!("bin/{name}"), &script);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
        (program, seen)
    }
}

#[test]
fn a_failure_that_another_test_disturbed_names_it_in_its_line_of_evidence() {
    let suite = Suite::new();
    let run = suite.harness(&["run", "-j4", "state"], &[]);
    run.assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("failed while `suite::all removes_the_state` (slot ")
        .assert_says(") removed the same file `");
    assert_eq!(
        run.stderr.matches("failed while").count(),
        1,
        "{}",
        run.stderr
    );
    let findings = suite.findings();
    let [found] = findings.interferences.as_slice() else {
        panic!("{findings:?}");
    };
    assert_eq!(found.test.name.as_str(), "loses_its_state");
    assert_eq!((found.attempt, found.did.as_str()), (1, "removed"));
    assert!(
        found.thing.to_string().ends_with("/shared/state"),
        "{found:?}"
    );

    // No pass is kept, and this is known without one.
    let explained = suite.harness(&["explain", "loses_its_state"], &[]);
    explained.assert_code(exit_code::SETUP);
    let line = "  failed while `suite::all removes_the_state` (slot ";
    assert!(explained.stdout.contains(line), "{}", explained.stdout);
    let replayed = suite.harness(&["replay"], &[]);
    assert!(
        replayed.stdout.contains("failed while"),
        "{}",
        replayed.stdout
    );
}

#[test]
fn tests_that_one_after_the_other_use_a_file_do_not_disturb_each_other() {
    let suite = Suite::new();
    for name in ["state", "written", "removed"] {
        suite.scene.write(&format!("shared/{name}"), "");
    }
    let run = suite.harness(&["run", "-j1", "--no-fail-fast", "state"], &[]);
    // Whichever comes first, neither runs while the other does.
    assert!(!run.stderr.contains("failed while"), "{}", run.stderr);
    assert_eq!(suite.findings().interferences, []);
}

#[test]
fn a_dead_port_is_told_once_with_the_number_of_tests() {
    let suite = Suite::new();
    let run = suite.harness(&["run", "--no-fail-fast", "port_"], &[]);
    let cause = "connect 127.0.0.1:9: Connection refused (ECONNREFUSED)";
    run.assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says(&format!("Common cause 3 tests: {cause}\n"));
    let findings = suite.findings();
    let [common] = findings.causes.as_slice() else {
        panic!("{findings:?}");
    };
    assert_eq!((common.cause.as_str(), common.count), (cause, 3));
    assert_eq!(common.tests.len(), 3);
    let explained = suite.harness(&["explain", "port_2"], &[]);
    let line = format!("  2 other tests of the run failed by the same cause: {cause}\n");
    assert!(explained.stdout.contains(&line), "{}", explained.stdout);
}

#[test]
fn tests_that_read_credentials_are_named_also_when_they_pass() {
    let suite = Suite::new();
    let run = suite.harness(&["run", "a_key"], &[]);
    let line = " Credentials `suite::all reads_a_key` read `~/.ssh/id_ed25519` (";
    run.assert_code(exit_code::OK).assert_says(line);
    let line = run.stderr.lines().find(|it| it.contains("Credentials"));
    let line = line.expect("it was looked for above");
    assert!(!line.contains("asks_for_a_key"), "{line}");
    let findings = suite.findings();
    assert_eq!(findings.credentials.len(), 1, "{findings:?}");

    let settings = "[profile.default]\nwarn-credentials = false\n";
    suite.scene.write("suite/.config/harness.toml", settings);
    let silent = suite.harness(&["run", "a_key"], &[]);
    silent.assert_code(exit_code::OK);
    assert!(!silent.stderr.contains("Credentials"), "{}", silent.stderr);
    assert!(suite.findings().is_empty());
}

#[test]
fn the_place_of_the_first_failure_is_opened_in_the_editor_and_the_report_in_the_browser() {
    let suite = Suite::new();
    let (editor, seen) = suite.program("vim");
    let run = suite.harness(&["run", "--open", "port_1"], &[("EDITOR", &editor)]);
    run.assert_code(exit_code::TEST_RUN_FAILED);
    let place = fs::read_to_string(&seen).expect("the editor ran");
    let file = suite.package.join("tests/all.rs");
    let line = SUITE
        .lines()
        .position(|line| line.contains("connect("))
        .expect("it is there")
        + 1;
    assert_eq!(place, format!("+{line}\n{}\n", file.display()));

    let (browser, shown) = suite.program("browser");
    let report = suite.scene.path("report.html");
    let path = report.to_str().expect("it is UTF-8");
    let run = suite.harness(
        &["report", "--html", path, "--open"],
        &[("BROWSER", &browser)],
    );
    run.assert_code(exit_code::OK);
    let page = fs::read_to_string(&shown).expect("the browser ran");
    assert_eq!(page, format!("{path}\n"));
    fs::remove_file(&seen).expect("it is there");
    let both = ["report", "--html", path, "--open=failure"];
    suite
        .harness(&both, &[("VISUAL", &editor)])
        .assert_code(exit_code::OK);
    assert!(seen.exists());
}

#[test]
fn what_cannot_be_opened_is_said_in_a_sentence_and_changes_no_result() {
    let suite = Suite::new();
    let run = suite.harness(&["run", "--open", "port_1"], &[]);
    run.assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("neither `VISUAL` nor `EDITOR` is set")
        .assert_says("tests/all.rs:");
    let passed = suite.harness(&["run", "--open", "asks_for"], &[]);
    passed
        .assert_code(exit_code::OK)
        .assert_says("no test failed, so there is no place to open");
    let missing = suite.scene.path("bin/no-such-editor");
    suite.harness(&["run", "port_1"], &[]);
    let report = suite.harness(&["report", "--open=failure"], &[("EDITOR", &missing)]);
    report
        .assert_code(exit_code::SETUP)
        .assert_says("could not be started");
    report.assert_sentence();
    let none = suite.harness(&["report", "--open=report"], &[]);
    none.assert_code(exit_code::USAGE)
        .assert_says("add `--html PATH`");
    // A desktop without a browser: each of its programs fails.
    for name in ["xdg-open", "gio", "gnome-open", "kde-open", "wslview"] {
        let program = suite
            .scene
            .write(&format!("bin/{name}"), "#!/bin/sh\nexit 3\n");
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = [suite.scene.path("bin")]
        .into_iter()
        .chain(env::split_paths(&path));
    let path = env::join_paths(folders).expect("no folder has a colon");
    let page = suite.scene.path("page.html");
    let args = [
        "report",
        "--html",
        page.to_str().expect("it is UTF-8"),
        "--open",
    ];
    let unopened = suite.harness(&args, &[("BROWSER", &missing), ("PATH", Path::new(&path))]);
    unopened
        .assert_code(exit_code::SETUP)
        .assert_says("no browser opened `");
    unopened.assert_sentence();
    assert!(page.exists());
}
