//! Stubs are killed at random moments. Each test has its known outcome, or that
//! the harness failed; and then there is another attempt.

use crate::{
    course::{Course, LEVELS},
    package::Visit,
    processes::{parent, processes},
    results::finished_tests,
    scene::{LONGEST_RUN, Scene},
};
use fixture_kit::model::Runner;
use harness_metadata::{Attempt, Exit, Outcome, Verdict, event::TestFinished, exit_code};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    collections::BTreeSet,
    fs, thread,
    time::{Duration, Instant},
};

const TESTS: usize = 60;

/// As many as the runner replaces over one thing that it asks a stub for before the tests run. A slow
/// machine takes longer for that than all the kills.
const MOST_BEFORE: u64 = 4;

/// So that no test runs out of attempts by faults alone.
const RETRIES: &str = "retries = 8";

pub(crate) fn run(course: &mut Course<'_>) {
    let mut all = Count::default();
    let mut round = 0;
    while all.kills < course.times {
        let level = LEVELS[round % 3];
        round += 1;
        let scene = Scene::new();
        let visit = Visit {
            binary: "weather",
            tests: "ends_.*",
            config: RETRIES,
        };
        let mut command = visit.by_harness(&scene);
        command.args(["-j", "4", "--trace", level.as_str()]);
        let mut run = scene.start(command);
        let begun = Instant::now();
        let mut kills = 0;
        while !run.has_ended() && begun.elapsed() < LONGEST_RUN {
            thread::sleep(Duration::from_micros(course.random.below(60_000)));
            let mut stubs = processes(&scene, "__double-spawn");
            // A test that is about to execute looks like its stub.
            stubs.retain(|pid| parent(*pid) == Some(run.pid().as_raw()));
            if stubs.is_empty() || all.kills + kills >= course.times {
                continue;
            }
            let events = fs::read_to_string(scene.path("events")).unwrap_or_default();
            if kills >= MOST_BEFORE && !events.contains("run-started") {
                continue;
            }
            match kill(Pid::from_raw(course.random.pick(&stubs)), Signal::SIGKILL) {
                Ok(()) => kills += 1,
                Err(error) => assert_eq!(error, Errno::ESRCH),
            }
        }
        // Those that are to fail do.
        run.finish().assert_code(exit_code::TEST_RUN_FAILED);
        scene.assert_no_strays();
        all.kills += kills;
        let tests = finished_tests(&scene);
        let names: BTreeSet<_> = tests
            .iter()
            .map(|test| test.test.name.to_string())
            .collect();
        assert_eq!(
            (tests.len(), names.len()),
            (TESTS, TESTS),
            "every test has one result"
        );
        for test in &tests {
            check(test, &mut all);
        }
    }
    let Count {
        kills,
        attempts,
        faults,
    } = all;
    let was = format!("0 of {attempts} attempts; {kills} kills, {faults} faults, each tried again");
    let what = "SIGKILL of a random stub: results lost or invented, orphans";
    course.tell(Runner::Harness, what, "0", was);
}

#[derive(Default)]
struct Count {
    kills: u64,
    attempts: usize,
    faults: usize,
}

fn check(test: &TestFinished, all: &mut Count) {
    let name = test.test.name.to_string();
    let truth = truth(&name);
    for (attempt, number) in test.attempts.iter().zip(1..) {
        assert_eq!(attempt.number, number, "{name}");
        all.attempts += 1;
        if is_fault(attempt) {
            all.faults += 1;
            assert_eq!(attempt.verdict, Verdict::Fail, "{name}");
            continue;
        }
        assert_eq!(attempt.outcome, Outcome::Exited(truth), "{name}");
        let survivors = attempt.leak.as_ref().map_or(0, |leak| leak.survivors.len());
        let leaves = name.ends_with("_leaving") || name.ends_with("_joining");
        assert_eq!(survivors, usize::from(leaves), "{name}: {:?}", attempt.leak);
    }
    // Tried again until it passes or there are no attempts left.
    let last = test.attempts.last().expect("there is one");
    let total = test.total_attempts as usize;
    let passed = last.verdict == Verdict::Pass;
    assert!(
        passed || test.attempts.len() == total,
        "{name}: {:?}",
        test.attempts
    );
    let earlier = &test.attempts[..test.attempts.len() - 1];
    assert!(
        earlier
            .iter()
            .all(|attempt| attempt.verdict == Verdict::Fail),
        "{name}"
    );
    assert_eq!(test.verdict, last.verdict, "{name}");
}

fn is_fault(attempt: &Attempt) -> bool {
    matches!(attempt.outcome, Outcome::HarnessFault(_))
}

/// Returns how a test ends, which its name tells.
fn truth(name: &str) -> Exit {
    let parts: Vec<&str> = name.split('_').collect();
    let value = parts[3].parse().expect("it is a number");
    match parts[2] {
        "signal" => Exit::Signal {
            signal: value,
            core_dumped: false,
        },
        _ => Exit::Code(value),
    }
}
