//! The runner is killed at a random moment, while tests have started what is hard to kill.

use crate::{
    course::{Course, LEVELS},
    package::{Visit, escapes, whole_lines, zoo},
    processes::processes,
    random::Random,
    scene::{LONGEST_RUN, Scene, is_killed, wait_until},
};
use camino::Utf8Path;
use fixture_kit::model::{Runner, check_junit_rules, parse_events};
use harness_metadata::{Event, EventKind, exit_code};
use harness_runner::store;
use nix::sys::signal::Signal;
use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// The time limit for the kill of leftovers.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// The same while there are stubs, which are counted but may have had no CPU to kill anybody.
const STUBS_GONE_WITHIN: Duration = Duration::from_secs(60);

/// The number of tests of a run; they are drawn.
const TESTS: usize = 8;

pub(crate) fn run(course: &mut Course<'_>) {
    // Built, so that no linker is ever among what is left.
    let scene = Scene::new();
    let visit = Visit {
        binary: "escapes",
        tests: ".*",
        config: "",
    };
    scene
        .run(visit.listed_by_harness(&scene))
        .assert_code(exit_code::OK);
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
        late,
        left,
        known,
        longest,
    } = all;
    let what = "SIGKILL of the runner: processes alive after 2 s";
    let was = match left.len() {
        0 => format!("{late}, {times} times; {alive} killed, the last within {longest:.0?}"),
        left => format!("{left}, {times} times"),
    };
    course.tell(by, what, "0", was);
    if by == Runner::Harness {
        let what = "the same: results that are not in the recording, reports that are not valid";
        let was = format!("0, {known} times with results by then");
        course.tell(by, what, "0", was);
    }
}

/// The state at the kill of a runner.
#[derive(Default)]
struct Killed {
    /// The number of live processes, the runner not counted.
    alive: usize,
    /// The number two seconds later, while a stub was alive too.
    late: usize,
    /// The processes that were alive two seconds later without a stub.
    left: Vec<String>,
    /// The number of runs that had results by then.
    known: u64,
    /// The time that the others took.
    longest: Duration,
}

impl Killed {
    fn add(&mut self, other: Self) {
        self.alive += other.alive;
        self.late += other.late;
        self.known += other.known;
        self.left.extend(other.left);
        self.longest = self.longest.max(other.longest);
    }
}

/// Runs tests and kills the runner.
fn strike(runner: Runner, args: &[&str], random: &mut Random) -> Killed {
    loop {
        if let Some(killed) = try_strike(runner, args, random) {
            return killed;
        }
    }
}

/// The same; `None` if the run has come to its end before.
fn try_strike(runner: Runner, args: &[&str], random: &mut Random) -> Option<Killed> {
    let scene = Scene::new();
    let ways = escapes();
    let drawn: Vec<&str> = (0..TESTS).map(|_| random.pick(&ways)).collect();
    let visit = Visit {
        binary: "escapes",
        tests: &drawn.join("|"),
        config: "",
    };
    let mut command = visit.by(runner, &scene);
    if runner == Runner::Harness {
        command.arg("--junit").arg(scene.path("junit.xml"));
    }
    command.args(["-j", "4"]).args(args);
    if random.below(3) == 0 {
        // The tests are there with all that they have started, too.
        command.env("ZOO_STAY", "1");
    }
    let mut run = scene.start(command);
    if random.below(4) > 0 {
        let mut started = || run.has_ended() || !processes(&scene, "--exact").is_empty();
        let started = wait_until(LONGEST_RUN, || started().then_some(()));
        started.expect("a test starts");
    }
    thread::sleep(Duration::from_micros(random.below(700_000)));
    if run.has_ended() {
        run.finish();
        scene.kill_strays();
        return None;
    }
    let alive = scene.strays().len().saturating_sub(1);
    run.signal(Signal::SIGKILL);
    run.finish();
    let killed = Instant::now();
    // Who is ever another process is not in every look.
    let look = || (0..10).map(|_| left(&scene)).find(|left| !left.is_empty());
    let gone = || look().is_none().then_some(());
    wait_until(GONE_WITHIN, gone);
    let mut left = look().unwrap_or_default();
    let mut late = 0;
    let is_stub = |line: &String| line.contains("__double-spawn");
    if left.iter().any(is_stub) {
        late = left.len();
        let without_stub = || {
            let left = look().unwrap_or_default();
            (!left.iter().any(is_stub)).then_some(())
        };
        wait_until(STUBS_GONE_WITHIN, without_stub);
        wait_until(GONE_WITHIN, gone);
        left = look().unwrap_or_default();
    }
    let longest = killed.elapsed();
    scene.kill_strays();
    let known = runner == Runner::Harness && check_what_is_known(&scene);
    Some(Killed {
        alive,
        late,
        known: u64::from(known),
        left,
        longest,
    })
}

/// Returns what is there of tests and stubs. A build that was going on is brought to its end by
/// cargo, as without a runner.
fn left(scene: &Scene) -> Vec<String> {
    let strays = scene.strays().into_iter();
    let left = strays.filter(|(_, line)| {
        let program = line.split(' ').next().unwrap_or_default();
        !["cargo", "rustc"].contains(&program.rsplit('/').next().unwrap_or_default())
    });
    // What has been killed only waits for the CPU.
    let left = left.filter(|(pid, _)| !is_killed(*pid));
    left.map(|(pid, line)| format!("{pid} {line}")).collect()
}

/// Every reported result is in the recording, and the report is whole. Returns whether there was
/// anything to tell.
fn check_what_is_known(scene: &Scene) -> bool {
    let told = read(&scene.path("events"));
    let Some(EventKind::RunStarted(start)) = told.first().map(|first| &first.kind) else {
        // It was still being built.
        return false;
    };
    let runs = zoo().join("target/harness/runs");
    let recording = runs.join(start.run_id.to_string());
    let recorded = Utf8Path::from_path(&recording).map(store::recording_bytes);
    let recorded = recorded.and_then(Result::ok).unwrap_or_default();
    let recorded = finished(&parsed(&String::from_utf8_lossy(&recorded), &recording));
    let told = finished(&told);
    let lost: Vec<_> = told.difference(&recorded).collect();
    assert!(
        lost.is_empty(),
        "{lost:?} are not in {}",
        recording.display()
    );
    let report = fs::read_to_string(scene.path("junit.xml")).unwrap_or_default();
    if told.is_empty() && report.is_empty() {
        return false;
    }
    if let Err(error) = check_junit_rules(&report) {
        let error = error.to_string();
        // The case that says so is of no file.
        let mut wrong = error.lines().skip(1);
        let all_known = wrong.all(|line| line.contains(" the run did not end: no `"));
        assert!(all_known, "{error}\n{report}");
    }
    let is_reported = |name: &&String| report.contains(&format!("name=\"{name}\""));
    let missing: Vec<_> = told.iter().filter(|name| !is_reported(name)).collect();
    // The one that was about to be.
    assert!(
        missing.len() <= 1,
        "{missing:?} are not in the report:\n{report}"
    );
    !told.is_empty()
}

/// Reads events, but for a last one that was cut short.
fn read(path: &Path) -> Vec<Event> {
    parsed(&fs::read_to_string(path).unwrap_or_default(), path)
}

fn parsed(events: &str, path: &Path) -> Vec<Event> {
    let events = parse_events(whole_lines(events));
    events.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the tests that have a result.
fn finished(events: &[Event]) -> BTreeSet<String> {
    let finished = events.iter().filter_map(|event| match &event.kind {
        EventKind::TestFinished(test) => Some(test.test.name.to_string()),
        _ => None,
    });
    finished.collect()
}
