//! Scripts: what runs before, after and around tests.

use crate::scene::{Scene, wait_until};
use harness_metadata::{Event, EventKind, exit_code};
use nix::sys::signal::Signal;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(120);

/// Two tests: one that wants `$DB_URL`, and one that must not have it.
const TESTS: &str = r#"
#[test] fn db_reads() { assert_eq!(std::env::var("DB_URL").as_deref(), Ok("tcp://x=1")); }
#[test] fn plain() { assert!(std::env::var("DB_URL").is_err()); }
"#;

const SETUP: &str = r#"
[scripts.setup.db]
command = ["sh", "-c", 'echo DB_URL=tcp://x=1 >> "$HARNESS_ENV"; echo setup >> log; echo said']
capture-stdout = true
teardown = ["sh", "-c", 'echo "teardown $DB_URL" >> log']

[scripts.setup.unwanted]
command = "false"

[[profile.default.scripts]]
filter = "test(/^db_/)"
setup = "db"

[[profile.default.scripts]]
filter = "test(=there_is_none)"
setup = "unwanted"
"#;

/// A package with these tests and this configuration.
fn package(scene: &Scene, tests: &str, config: &str) -> PathBuf {
    let package = scene.package("scripted", tests);
    scene.write("scripted/.config/harness.toml", config);
    package
}

fn log(package: &Path) -> String {
    fs::read_to_string(package.join("log")).unwrap_or_default()
}

fn events(path: &Path) -> Vec<EventKind> {
    let text = fs::read_to_string(path).expect("the events were written");
    let event = |line: &str| {
        serde_json::from_str::<Event>(line)
            .expect("it is an event")
            .kind
    };
    text.lines().map(event).collect()
}

#[test]
fn a_script_sets_variables_for_the_tests_that_want_it_and_is_torn_down() {
    let scene = Scene::new();
    let package = package(&scene, TESTS, SETUP);
    let (junit, written) = (scene.path("junit.xml"), scene.path("events"));
    let args = ["run", "--junit", junit.to_str().unwrap(), "--events"];
    let args = [&args[..], &[written.to_str().unwrap()]].concat();
    let run = scene.run(scene.harness_in(&package, &args));
    run.assert_code(exit_code::OK)
        .assert_says("SETUP PASS")
        .assert_says("1/1: db")
        .assert_says("2 tests run: 2 passed");
    assert_eq!(log(&package), "setup\nteardown tcp://x=1\n");
    let junit = fs::read_to_string(junit).expect("the report was written");
    for part in [
        r#"<testsuite name="@setup-script:db" tests="2""#,
        r#"<property name="command" value="sh"/>"#,
        r#"<property name="output-env:DB_URL" value="tcp://x=1"/>"#,
        "<system-out>said\n</system-out>",
    ] {
        assert!(junit.contains(part), "{part}\n{junit}");
    }
    let kinds = events(&written);
    let place = |is: fn(&EventKind) -> bool| kinds.iter().position(is).expect("it is among them");
    let order = [
        place(|kind| matches!(kind, EventKind::SetupStarted(_))),
        place(|kind| matches!(kind, EventKind::SetupFinished(it) if it.environment.len() == 1)),
        place(|kind| matches!(kind, EventKind::AttemptStarted(_))),
        place(|kind| matches!(kind, EventKind::TeardownFinished(_))),
        place(|kind| matches!(kind, EventKind::RunFinished(_))),
    ];
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn no_script_runs_that_no_selected_test_wants() {
    let scene = Scene::new();
    let package = package(&scene, TESTS, SETUP);
    let run = scene.run(scene.harness_in(&package, &["run", "plain"]));
    run.assert_code(exit_code::OK);
    assert_eq!(log(&package), "");
    assert!(!run.stderr.contains("SETUP"), "{}", run.stderr);
}

#[test]
fn the_file_of_cargo_nextest_with_scripts_works_as_it_is() {
    let scene = Scene::new();
    let package = scene.package("scripted", TESTS);
    let theirs = SETUP.replace("HARNESS_ENV", "NEXTEST_ENV");
    scene.write(
        "scripted/.config/nextest.toml",
        &format!("experimental = ['setup-scripts']\n{theirs}"),
    );
    let run = scene.run(scene.harness_in(&package, &["run"]));
    run.assert_code(exit_code::OK);
    assert_eq!(log(&package), "setup\nteardown tcp://x=1\n");
}

#[test]
fn a_script_that_fails_ends_the_run_with_105_and_is_torn_down() {
    let scene = Scene::new();
    let config = SETUP.replace("echo said", "echo why >&2; exit 3");
    let config = config.replace("capture-stdout", "capture-stderr");
    let package = package(&scene, TESTS, &config);
    let run = scene.run(scene.harness_in(&package, &["run"]));
    run.assert_code(exit_code::SETUP_SCRIPT_FAILED)
        .assert_says("SETUP FAIL")
        .assert_says("why")
        .assert_says("error: setup script `db` failed")
        .assert_says("2/2 tests were not run due to setup script failure");
    assert_eq!(log(&package), "setup\nteardown \n");
}

#[test]
fn variables_that_no_environment_can_take_fail_the_script() {
    let scene = Scene::new();
    let config = SETUP.replace("echo DB_URL=tcp://x=1", "echo DB_URL");
    let package = package(&scene, TESTS, &config);
    let junit = scene.path("junit.xml");
    let args = ["run", "--junit", junit.to_str().unwrap()];
    let run = scene.run(scene.harness_in(&package, &args));
    let wrong = "line 1 of `$HARNESS_ENV` is not of the form `NAME=VALUE`: \"DB_URL\"";
    run.assert_code(exit_code::SETUP_SCRIPT_FAILED)
        .assert_says(wrong);
    let junit = fs::read_to_string(junit).expect("the report was written");
    assert!(junit.contains("is not of the form"), "{junit}");
}

#[test]
fn a_failed_teardown_is_105_unless_a_test_failed() {
    let scene = Scene::new();
    let config = SETUP.replace("teardown $DB_URL\" >> log", "broken\"; exit 1");
    let package = package(&scene, TESTS, &config);
    let run = scene.run(scene.harness_in(&package, &["run"]));
    run.assert_code(exit_code::SETUP_SCRIPT_FAILED)
        .assert_says("2 tests run: 2 passed")
        .assert_says("TDOWN FAIL");
    scene.write("scripted/src/lib.rs", "#[test] fn db_fails() { panic!() }");
    let run = scene.run(scene.harness_in(&package, &["run"]));
    run.assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("TDOWN FAIL");
}

#[test]
fn what_a_script_leaves_running_serves_the_tests_and_is_killed() {
    let scene = Scene::new();
    let tests = r#"
        #[test] fn its_server_lives() {
            let pid = std::fs::read_to_string("pid").unwrap();
            assert!(std::path::Path::new(&format!("/proc/{}", pid.trim())).exists());
        }
    "#;
    let config = "
        [scripts.setup.server]
        command = \"sh -c 'sleep 1000 & echo $! > pid'\"
        [[profile.default.scripts]]
        filter = 'all()'
        setup = 'server'
    ";
    let package = package(&scene, tests, config);
    let run = scene.run(scene.harness_in(&package, &["run"]));
    run.assert_code(exit_code::OK)
        .assert_says("SETUP LEAK")
        .assert_says("killed, left running by `server`: pid")
        .assert_says("`sleep 1000`");
    scene.assert_no_strays();
}

/// A test that waits until its file is gone, and a script that is torn down.
const WAITS: &str = r#"
#[test] fn waits() {
    std::fs::write("waiting", "").unwrap();
    while std::path::Path::new("waiting").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
"#;

const TORN_DOWN: &str = r#"
[scripts.setup.db]
command = ["sh", "-c", 'echo "URL=x" >> $HARNESS_ENV; echo setup >> log; sleep 1000 &']
teardown = ["sh", "-c", 'echo "teardown $URL" >> log']
[[profile.default.scripts]]
filter = "all()"
setup = "db"
"#;

#[test]
fn ctrl_c_tears_down() {
    let scene = Scene::new();
    let package = package(&scene, WAITS, TORN_DOWN);
    let run = scene.start(scene.harness_in(&package, &["run"]));
    wait_until(LIMIT, || package.join("waiting").exists().then_some(())).expect("it waits");
    run.signal(Signal::SIGINT);
    run.finish().assert_code(exit_code::ended_by(2));
    assert_eq!(log(&package), "setup\nteardown x\n");
    scene.assert_no_strays();
}

#[test]
fn a_killed_runner_is_followed_by_the_teardown() {
    let scene = Scene::new();
    let package = package(&scene, WAITS, TORN_DOWN);
    let run = scene.start(scene.harness_in(&package, &["run"]));
    wait_until(LIMIT, || package.join("waiting").exists().then_some(())).expect("it waits");
    run.signal(Signal::SIGKILL);
    run.finish();
    let whole = "setup\nteardown x\n";
    wait_until(LIMIT, || (log(&package) == whole).then_some(())).expect("it is torn down");
    wait_until(LIMIT, || scene.strays().is_empty().then_some(())).expect("nothing is left");
}

#[test]
fn a_teardown_after_a_killed_runner_finds_what_its_script_has_left() {
    let scene = Scene::new();
    let config = TORN_DOWN.replace("sleep 1000 &", "sleep 1000 & echo $! > pid");
    let config = config.replace("teardown $URL", "$(ps -o comm= -p $(cat pid))");
    let package = package(&scene, WAITS, &config);
    let run = scene.start(scene.harness_in(&package, &["run"]));
    wait_until(LIMIT, || package.join("waiting").exists().then_some(())).expect("it waits");
    run.signal(Signal::SIGKILL);
    run.finish();
    let whole = "setup\nsleep\n";
    wait_until(LIMIT, || (log(&package) == whole).then_some(())).expect("it is torn down");
    wait_until(LIMIT, || scene.strays().is_empty().then_some(())).expect("nothing is left");
}

#[test]
fn the_time_limit_of_the_run_tears_down() {
    let scene = Scene::new();
    let config = format!("{TORN_DOWN}\n[profile.default]\nglobal-timeout = '2s'\n");
    let package = package(&scene, WAITS, &config);
    let run = scene.run(scene.harness_in(&package, &["run"]));
    run.assert_code(exit_code::GLOBAL_TIMEOUT);
    assert_eq!(log(&package), "setup\nteardown x\n");
}

#[test]
fn a_wrapper_lists_and_runs_and_its_variables_win() {
    let scene = Scene::new();
    let tests = r#"
        #[test] fn is_wrapped() {
            assert_eq!(std::env::var("WRAPPED").as_deref(), Ok("run"));
            assert_eq!(std::env::var("BY").as_deref(), Ok("wrapper"));
        }
        #[test] fn is_not_wrapped() {
            assert!(std::env::var("WRAPPED").is_err());
            assert_eq!(std::env::var("BY").as_deref(), Ok("override"));
        }
    "#;
    let config = r#"
        [scripts.wrapper.run]
        command = { command-line = ["sh", "-c", 'WRAPPED=run exec "$@"', "sh"], env = { BY = "wrapper" } }
        [scripts.wrapper.list]
        command = ["sh", "-c", 'echo "$HARNESS_TEST_PHASE" >> log; exec "$@"', "sh"]
        [[profile.default.scripts]]
        filter = "test(=is_wrapped)"
        run-wrapper = "run"
        [[profile.default.scripts]]
        filter = "all()"
        list-wrapper = "list"
        [[profile.default.overrides]]
        filter = "all()"
        env = { BY = "override" }
    "#;
    let package = package(&scene, tests, config);
    let run = scene.run(scene.harness_in(&package, &["run"]));
    run.assert_code(exit_code::OK)
        .assert_says("2 tests run: 2 passed");
    assert_eq!(log(&package), "list\n", "one call has all of them");
}

#[test]
fn variables_of_overrides_scripts_and_cargo_have_their_precedence() {
    let scene = Scene::new();
    let tests = r#"
        #[test] fn sees() {
            let see = |name: &str| std::env::var(name).unwrap();
            assert_eq!([see("A"), see("B"), see("C")], ["cargo", "override", "script"]);
        }
    "#;
    let config = r#"
        [[profile.default.overrides]]
        filter = "test(=sees)"
        env = { B = "override" }
        [[profile.default.overrides]]
        filter = "all()"
        env = { B = "later", C = "later" }
        [scripts.setup.s]
        command = ["sh", "-c", 'echo C=script >> "$HARNESS_ENV"']
        [[profile.default.scripts]]
        filter = "all()"
        setup = "s"
    "#;
    let package = package(&scene, tests, config);
    scene.write(
        "scripted/.cargo/config.toml",
        "[env]\nA = 'cargo'\nB = 'cargo'\nC = 'cargo'\n",
    );
    scene
        .run(scene.harness_in(&package, &["run"]))
        .assert_code(exit_code::OK);
    let shown = scene.run(scene.harness_in(&package, &["show-config", "test"]));
    shown.assert_code(exit_code::OK);
    for part in [
        r#"env = { B = "override", C = "later" }"#,
        r#"setup = "s""#,
        "`scripts[0]` of profile `default` (filter `all()`)",
    ] {
        assert!(shown.stdout.contains(part), "{part}\n{}", shown.stdout);
    }
}
