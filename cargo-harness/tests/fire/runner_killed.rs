//! The runner is killed at a random moment, while tests have started what is hard to kill.

use crate::{
    course::{Course, LEVELS},
    package::{Visit, escapes, whole_lines},
    processes::{SOON, processes},
    random::Random,
    scene::{Scene, wait_until},
};
use fixture_model::{Runner, parse_events};
use nix::sys::signal::Signal;
use std::{
    fs, thread,
    time::{Duration, Instant},
};

/// How long what is left may take to disappear.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// How many tests a run has; they are drawn.
const TESTS: usize = 8;

pub(crate) fn run(course: &mut Course<'_>) {
    let mut all = Killed::default();
    for number in 0..course.times {
        let level = LEVELS[(number % 3) as usize];
        let killed = strike(
            Runner::Harness,
            &["--trace", level.as_str()],
            &mut course.random,
        );
        assert_eq!(
            killed.left,
            Vec::<String>::new(),
            "strike {number}, at level {level:?}"
        );
        all.add(killed);
    }
    tell(course, Runner::Harness, course.times, &all);
    if course.has_peer() {
        // Each takes as long as is waited for what is left.
        let times = course.times / 10;
        let mut all = Killed::default();
        for _ in 0..times {
            all.add(strike(Runner::Peer, &[], &mut course.random));
        }
        tell(course, Runner::Peer, times, &all);
    }
}

fn tell(course: &mut Course<'_>, by: Runner, times: u64, all: &Killed) {
    let Killed {
        alive,
        left,
        longest,
    } = all;
    let left = left.len();
    let was = match left {
        0 => format!("{left} of {alive}, {times} times; the last gone after {longest:.0?}"),
        _ => format!("{left} of {alive}, {times} times"),
    };
    course.tell(
        by,
        "SIGKILL of the runner: processes alive after 2 s",
        "0",
        was,
    );
}

/// What was there when a runner was killed.
#[derive(Default)]
struct Killed {
    /// How many processes were alive, the runner not counted.
    alive: usize,
    /// What was alive two seconds later.
    left: Vec<String>,
    /// How long the others took.
    longest: Duration,
}

impl Killed {
    fn add(&mut self, other: Self) {
        self.alive += other.alive;
        self.left.extend(other.left);
        self.longest = self.longest.max(other.longest);
    }
}

/// Runs tests and kills the runner.
fn strike(runner: Runner, args: &[&str], random: &mut Random) -> Killed {
    let scene = Scene::new();
    let ways = escapes();
    let drawn: Vec<&str> = (0..TESTS).map(|_| random.pick(&ways)).collect();
    let visit = Visit {
        binary: "escapes",
        tests: &drawn.join("|"),
        config: "",
    };
    let mut command = visit.by(runner, &scene);
    command.args(["-j", "4"]).args(args);
    if random.below(2) == 0 {
        // The tests are there with all that they have started, too.
        command.env("ZOO_STAY", "1");
    }
    let run = scene.start(command);
    if random.below(4) > 0 {
        let started = || (!processes(&scene, "--exact").is_empty()).then_some(());
        if wait_until(SOON, started).is_none() {
            panic!("no test starts: {}", run.finish().stderr);
        }
    }
    thread::sleep(Duration::from_micros(random.below(500_000)));
    let alive = scene.strays().len().saturating_sub(1);
    run.signal(Signal::SIGKILL);
    run.finish();
    let killed = Instant::now();
    let gone = wait_until(GONE_WITHIN, || scene.strays().is_empty().then_some(()));
    let longest = killed.elapsed();
    let left = match gone {
        Some(()) => Vec::new(),
        None => scene
            .strays()
            .into_iter()
            .map(|(pid, line)| format!("{pid} {line}"))
            .collect(),
    };
    scene.kill_strays();
    if runner == Runner::Harness {
        check_events(&scene);
    }
    Killed {
        alive,
        left,
        longest,
    }
}

/// What was written is whole, but for a last line.
fn check_events(scene: &Scene) {
    // There is no file before the run begins.
    let events = fs::read_to_string(scene.path("events")).unwrap_or_default();
    if let Err(error) = parse_events(whole_lines(&events)) {
        panic!("{error}");
    }
}
