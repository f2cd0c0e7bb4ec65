//! A fork bomb with a limit of processes: it fails by that, and other tests are not disturbed.

use crate::{course::Course, package::Visit, results::last_attempts, scene::Scene};
use fixture_kit::model::Runner;
use harness_metadata::{LimitHit, Verdict, exit_code};
use std::{
    process::Command,
    time::{Duration, Instant},
};

/// The limit of processes of the bomb.
const PIDS: u32 = 200;

/// The time limit for another test to create a process.
const USABLE: Duration = Duration::from_secs(10);

pub(crate) fn run(course: &mut Course<'_>) {
    let mut slowest = Duration::ZERO;
    let mut others = 0;
    for _ in 0..course.times {
        let scene = Scene::new();
        let visit = Visit {
            binary: "weather",
            tests: "bomb|ends_000_code_0",
            config: &format!("pids-max = {PIDS}"),
        };
        let mut run = scene.start(visit.by_harness(&scene));
        while !run.has_ended() {
            let begun = Instant::now();
            let status = Command::new("true").status();
            let status = status.unwrap_or_else(|error| panic!("the machine is taken: {error}"));
            assert!(status.success());
            slowest = slowest.max(begun.elapsed());
            others += 1;
        }
        let finished = run.finish();
        scene.assert_no_strays();
        if let Some(reason) = finished
            .stderr
            .lines()
            .find(|line| line.contains("not enforced"))
        {
            // The bomb sees that, too, and does not go off.
            return course.note(&format!("skipped: {}", reason.trim()));
        }
        finished.assert_code(exit_code::TEST_RUN_FAILED);
        for (name, attempt) in last_attempts(&scene) {
            if name != "bomb" {
                assert_eq!(attempt.verdict, Verdict::Pass, "{name}");
                continue;
            }
            assert_eq!(attempt.verdict, Verdict::Fail);
            let is_pids = |hit: &LimitHit| matches!(hit, LimitHit::PidsMax { pids: PIDS, .. });
            assert!(attempt.limits.iter().any(is_pids), "{:?}", attempt.limits);
        }
    }
    assert!(slowest < USABLE, "a process took {slowest:?}");
    let was = format!(
        "failed by it, {} times; {others} processes of others meanwhile, the slowest {slowest:.0?}",
        course.times
    );
    let what = "fork bomb under `pids-max`: fails by its limit, the machine usable, the tree gone";
    course.tell(Runner::Harness, what, "all three", was);
}
