//! Very many tests in one run, against few: what a test costs, and the memory of the runner.

use crate::{course::Course, package::Crowd, results::events, scene::Scene, watched::watch};
use fixture_kit::model::Runner;
use harness_metadata::{EventKind, exit_code};
use std::time::Duration;

/// The reference.
const FEW: u64 = 1_000;
/// From so many on, time is measured with care, and the peer's, too.
const VERY_MANY: u64 = 100_000;

pub(crate) fn run(course: &mut Course<'_>) {
    measure(course, Runner::Harness);
    if course.times >= VERY_MANY && course.has_peer() {
        measure(course, Runner::Peer);
    }
}

fn measure(course: &mut Course<'_>, runner: Runner) {
    let many = course.times;
    // The median.
    let runs = if many >= VERY_MANY { 5 } else { 1 };
    let mut few: Vec<Measured> = (0..runs).map(|_| Measured::of(runner, FEW)).collect();
    few.sort_by_key(|measured| measured.wall);
    let few = few.swap_remove(runs / 2);
    let all = Measured::of(runner, many);
    let what = format!("{many} tests in one run: cost of a test, against {FEW}");
    let (each, each_of_few) = (all.wall / many as u32, few.wall / FEW as u32);
    let times = each.as_secs_f64() / each_of_few.as_secs_f64();
    let was = format!("{times:.2} times ({each:.2?} against {each_of_few:.2?})");
    course.tell(runner, &what, "1.1 times", was);
    let what = format!("{many} tests in one run: memory");
    let bytes = (all.peak.saturating_sub(few.peak) << 20) / (many - FEW);
    let was = format!("{} MiB ({bytes} bytes a test)", all.peak);
    course.tell(runner, &what, "bounded by what is known of a test", was);
}

/// The duration of a run, from the start of the command to its end.
struct Measured {
    wall: Duration,
    /// In MiB.
    peak: u64,
}

impl Measured {
    fn of(runner: Runner, tests: u64) -> Self {
        let scene = Scene::new();
        let crowd = Crowd { tests };
        // Built, and listed once: neither is a test's cost.
        let mut list = crowd.by(runner, &scene, "list");
        list.args(["-E", "none()"]);
        scene.run(list);
        let mut command = crowd.by(runner, &scene, "run");
        command.args([
            "--status-level",
            "none",
            "--show-progress",
            "none",
            "-j",
            "2",
        ]);
        if runner == Runner::Harness {
            command.arg("--events").arg(scene.path("events"));
        }
        let watched = watch(&scene, command);
        watched.finished.assert_code(exit_code::OK);
        if runner == Runner::Harness {
            check(&scene, tests);
        }
        Self {
            wall: watched.wall,
            peak: watched.peak,
        }
    }
}

/// Every test has passed.
fn check(scene: &Scene, tests: u64) {
    let end = events(scene)
        .into_iter()
        .next_back()
        .map(|event| event.kind);
    let Some(EventKind::RunFinished(end)) = end else {
        panic!("the last event is {end:?}");
    };
    let stats = end.stats;
    assert_eq!((stats.finished as u64, stats.passed as u64), (tests, tests));
}
