//! Traces as a user sees them.

use crate::scene::Scene;
use fixture_kit::results;
use harness_metadata::{
    EventKind, Verdict,
    event::TraceLevel,
    exit_code,
    machine::Limit,
    outcome::{Doing, WaitsOn},
};
use std::fs;

/// Time to start the child, beside whatever else the machine does.
const QUICK: &str = "[profile.default]\n\
    slow-timeout = { period = \"3s\", terminate-after = 1, grace-period = \"1s\" }\n";

#[test]
fn a_test_that_timed_out_says_which_child_it_waited_for_and_what_that_did() {
    // What is looked at is /proc, whatever is traced.
    for level in ["io", "off"] {
        let scene = Scene::new();
        let mut command = scene.harness(["run", "-p", "outcomes", "--trace", level, "-E"]);
        command
            .arg("test(=waits_for_a_child_that_hangs)")
            .arg("--config-file")
            .arg(scene.write("harness.toml", QUICK))
            .arg("--events")
            .arg(scene.path("events"))
            .arg("--junit")
            .arg(scene.path("junit.xml"));
        let run = scene.run(command);
        scene.assert_no_strays();
        run.assert_code(exit_code::TEST_RUN_FAILED)
            .assert_says("`sleep 50`: waited in clock_nanosleep for time to pass");
        let events = results::events(&scene);
        let finished = events.iter().find_map(|event| match &event.kind {
            EventKind::TestFinished(test) => Some(test),
            _ => None,
        });
        let attempt = &finished.expect("the test ran").attempts[0];
        assert_eq!(attempt.verdict, Verdict::Fail);
        let sleep = attempt.stuck.iter().find(|task| task.command == "sleep 50");
        let sleep = sleep.expect("the child was there").pid;
        let waits_for_it = attempt.stuck.iter().any(|task| {
            matches!(&task.doing, Doing::Waits { on, .. }
                if on == &[WaitsOn::Child { pid: Some(sleep) }])
        });
        assert!(waits_for_it, "{:?}", attempt.stuck);
        let junit = fs::read_to_string(scene.path("junit.xml")).unwrap();
        assert!(
            junit.contains("`sleep 50`: waited in clock_nanosleep"),
            "{junit}"
        );
    }
}

#[test]
fn the_level_of_the_command_line_is_in_force() {
    for (level, expected) in [
        ("off", TraceLevel::Off),
        ("process", TraceLevel::Process),
        ("io", TraceLevel::Io),
        ("full", TraceLevel::Full),
    ] {
        let scene = Scene::new();
        let mut command = scene.harness(["run", "-p", "macros", "--trace", level]);
        command.arg("--events").arg(scene.path("events"));
        let run = scene.run(command);
        run.assert_code(exit_code::OK);
        let events = results::events(&scene);
        let start = results::started(&events);
        if start.trace.degraded.is_none() {
            assert_eq!(start.trace.level, expected);
            run.assert_says(&format!("profile default, trace {level}"));
        }
    }
}

/// No trace has it, and every test gets it.
#[test]
fn what_tests_get_from_the_machine_is_recorded() {
    const TEST: &str = r#"
        #[test]
        fn has_what_the_run_was_started_with() {
            let read = |name| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap();
            assert!(read("status").lines().any(|line| line == "Umask:\t0027"));
            let limits = read("limits");
            let limit = limits.lines().find(|line| line.starts_with("Max open files"));
            let words: Vec<_> = limit.unwrap().split_whitespace().collect();
            assert_eq!(words[3..5], ["500", "600"]);
        }
    "#;
    let scene = Scene::new();
    let package = scene.package("surroundings", TEST);
    let mut command = scene.harness_in(&package, &["run"]);
    command.arg("--events").arg(scene.path("events"));
    let limited = "umask 027; ulimit -S -n 500; ulimit -H -n 600; exec \"$@\"";
    let run = scene.run(scene.wrapped(&command, "sh", &["-c", limited, "sh"]));
    run.assert_code(exit_code::OK);
    let events = results::events(&scene);
    let start = results::started(&events);
    let machine = start.machine.as_ref().expect("it is recorded");
    assert_eq!(machine.umask, Some(0o27));
    let limit = Limit {
        soft: Some(500),
        hard: Some(600),
    };
    assert_eq!(machine.limits["nofile"], limit);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(machine.kernel.as_deref(), Some(kernel.trim()));
    assert_eq!(machine.user, nix::unistd::geteuid().as_raw());
    assert_eq!(machine.group, nix::unistd::getegid().as_raw());
    assert!(machine.memory > Some(0) && machine.processors.is_some());
}
