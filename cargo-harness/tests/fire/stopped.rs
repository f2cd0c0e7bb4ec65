//! Ctrl-Z and `fg` at random moments, on a terminal, while tests start and end all the time.

use crate::{
    course::{Course, LEVELS},
    package::Visit,
    processes::state,
    random::Random,
    results::events,
    scene::Scene,
    shell::{Job, News},
};
use fixture_kit::model::Runner;
use harness_metadata::{EventKind, Outcome, exit_code};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Tests that each take [`KNOWN`] time in small steps, of which a stop can hide one.
const TESTS: usize = 150;
const KNOWN: Duration = Duration::from_millis(50);
const SLOTS: u32 = 2;

/// The fifth of so many pauses is longer than any test may take, if pauses were to count.
const LONG_ONE_IN: u64 = 50;
const LONG_PAUSE: Duration = Duration::from_secs(5);
const CONFIG: &str = "slow-timeout = { period = '2s', terminate-after = 2 }";

/// A longer run hangs.
const LIMIT: Duration = Duration::from_secs(60);
const LIMIT_OF_PEER: Duration = Duration::from_secs(10);

pub(crate) fn run(course: &mut Course<'_>) {
    let mut all = Count::default();
    let mut round = 0;
    while all.stops < course.times {
        let level = LEVELS[round % 3];
        round += 1;
        let scene = Scene::new();
        let visit = visit();
        let mut command = visit.by_harness(&scene);
        command.args(["--trace", level.as_str()]);
        let left = course.times - all.stops;
        let job = Strike {
            scene: &scene,
            command: &mut command,
            left,
            limit: LIMIT,
        };
        let count = job.run(&mut course.random);
        assert_eq!(count.hangs, 0, "at level {level:?}:\n{}", count.screen);
        assert_eq!(
            count.code,
            exit_code::OK as u8,
            "at level {level:?}:\n{}",
            count.screen
        );
        scene.assert_no_strays();
        check_times(&scene, &count);
        all.add(&count);
    }
    tell(course, Runner::Harness, &all);
    if course.has_peer() {
        let scene = Scene::new();
        let mut command = visit().by(Runner::Peer, &scene);
        let left = (course.times / 10).max(10);
        let job = Strike {
            scene: &scene,
            command: &mut command,
            left,
            limit: LIMIT_OF_PEER,
        };
        let count = job.run(&mut course.random);
        scene.kill_strays();
        tell(course, Runner::Peer, &count);
    }
}

fn visit() -> Visit<'static> {
    Visit {
        binary: "weather",
        tests: "ticks_.*",
        config: CONFIG,
    }
}

fn tell(course: &mut Course<'_>, by: Runner, all: &Count) {
    let Count {
        stops,
        hangs,
        paused,
        code,
        ..
    } = all;
    let end = match (by, code) {
        (_, 0) => "every test passed",
        _ => "tests failed",
    };
    let was = format!("{hangs} of {stops}; {paused:.0?} of pauses, {end}");
    course.tell(by, "Ctrl-Z and `fg` while tests spawn: hangs", "0", was);
}

#[derive(Default)]
struct Count {
    stops: u64,
    hangs: u64,
    /// The observed time of the stop, which is less than the real one.
    paused: Duration,
    /// The time in all.
    wall: Duration,
    code: u8,
    screen: String,
}

impl Count {
    fn add(&mut self, other: &Self) {
        self.stops += other.stops;
        self.hangs += other.hangs;
        self.paused += other.paused;
        self.wall += other.wall;
        self.code = self.code.max(other.code);
    }
}

/// A run to be stopped and continued until it ends.
struct Strike<'a> {
    scene: &'a Scene,
    command: &'a mut std::process::Command,
    /// No more stops than this.
    left: u64,
    limit: Duration,
}

impl Strike<'_> {
    fn run(self, random: &mut Random) -> Count {
        self.command.args(["-j", &SLOTS.to_string()]);
        let mut count = Count::default();
        let begun = Instant::now();
        let mut job = Job::start(self.scene, self.command);
        while count.stops < self.left {
            let wait = Duration::from_micros(1 + random.below(30_000));
            match job.news(wait) {
                News::Nothing => job.press_ctrl_z(),
                News::Stopped => panic!("stopped before it was asked to"),
                News::Ended(code) => return count.end(job, begun, code),
            }
            match job.news(self.limit) {
                News::Stopped => {}
                // The key came too late.
                News::Ended(code) => return count.end(job, begun, code),
                News::Nothing => return count.hang(job, self.scene),
            }
            let since = Instant::now();
            count.stops += 1;
            let long = count.stops % LONG_ONE_IN == 5;
            thread::sleep(match long {
                true => LONG_PAUSE,
                false => Duration::from_micros(random.below(20_000)),
            });
            count.paused += since.elapsed();
            job.go_on();
        }
        match job.news(self.limit) {
            News::Ended(code) => count.end(job, begun, code),
            _ => count.hang(job, self.scene),
        }
    }
}

impl Count {
    /// Keeps what can tell why.
    fn hang(self, job: Job, scene: &Scene) -> Self {
        let all = scene.strays().into_iter();
        let all = all.map(|(pid, command)| format!("{pid} {:?} {command}\n", state(pid)));
        let all: String = all.collect();
        let screen = all + &job.abandon(scene);
        let hangs = self.hangs + 1;
        Self {
            hangs,
            screen,
            ..self
        }
    }

    fn end(self, job: Job, begun: Instant, code: u8) -> Self {
        let wall = begun.elapsed();
        Self {
            code,
            wall,
            screen: job.close(),
            ..self
        }
    }
}

/// Pauses count nowhere. What is compared are bounds that hold on a machine of any speed.
fn check_times(scene: &Scene, count: &Count) {
    let active = count.wall - count.paused;
    let mut tests = Vec::new();
    for event in events(scene) {
        match event.kind {
            EventKind::TestFinished(test) => tests.push(test),
            EventKind::RunFinished(end) => {
                assert!(end.elapsed <= active, "{:?} of {active:?}", end.elapsed);
            }
            _ => {}
        }
    }
    assert_eq!(tests.len(), TESTS);
    let attempts = tests.iter().flat_map(|test| &test.attempts);
    let timed_out = |outcome: &Outcome| matches!(outcome, Outcome::TimedOut { .. });
    assert!(attempts.clone().all(|attempt| !timed_out(&attempt.outcome)));
    let elapsed: Duration = attempts.map(|attempt| attempt.elapsed).sum();
    assert!(
        elapsed <= active * SLOTS,
        "{elapsed:?} of {active:?} in {SLOTS} slots"
    );
    // Steps that a stop hides are few.
    let known = KNOWN * TESTS as u32;
    assert!(elapsed >= known / 2, "{elapsed:?} of {known:?}");
}
