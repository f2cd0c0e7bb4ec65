//! Results outlive a killed runner, a full disk, a pipe without a reader.

use crate::{
    environment::installed,
    scene::{Finished, Scene, skip, wait_until},
};
use camino::Utf8Path;
use fixture_kit::model::{Remains, check_remains};
use harness_metadata::{EventKind, exit_code, trace::Doubt};
use harness_runner::{
    report::Stream,
    store::{self, PastRun, SpooledOutput},
};
use nix::{
    sys::{signal::Signal, stat::Mode},
    unistd::{geteuid, mkfifo},
};
use std::{
    collections::{BTreeSet, hash_map::RandomState},
    env,
    fmt::Write as _,
    fs,
    hash::{BuildHasher, Hasher},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// A test that passes, one that fails with some output, and one that leaves processes behind that
/// are hard to kill, again and again.
fn source(groups: usize) -> String {
    let mut source = String::from(
        "fn leave(command: &str) {\n    use std::process::{Command, Stdio};\n    \
         let mut shell = Command::new(\"sh\");\n    \
         shell.args([\"-c\", command]).stdout(Stdio::null()).stderr(Stdio::null());\n    \
         shell.spawn().unwrap();\n}\n\
         fn say(bytes: usize) {\n    \
         let line = format!(\"{}\\n\", \"ä€ ]]> <x> & \".repeat(8));\n    \
         for _ in 0..bytes / line.len() {\n        eprint!(\"{line}\");\n    }\n}\n",
    );
    for group in 0..groups {
        let size = 4_000 << (group % 7);
        writeln!(
            source,
            "#[test] fn passes_{group}() {{}}\n\
             #[test] fn fails_{group}() {{ say({size}); panic!(\"it fails\") }}\n\
             #[test] fn leaves_{group}() {{ leave(\"setsid sh -c 'trap : TERM; sleep 300' & \
             trap : TERM HUP; sleep 300\") }}"
        )
        .expect("memory has room");
    }
    source
}

const GROUPS: usize = 12;
const TESTS: usize = 3 * GROUPS;

/// The number of kills of the runner.
const KILLS: usize = 10;

/// Numbers that can be had again by the seed.
struct Random(u64);

impl Random {
    /// The seed is that of `HARNESS_SEED`, or a new one.
    fn new(test: &str) -> Self {
        let given = env::var("HARNESS_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        tell(&format!("{test}: HARNESS_SEED={seed}"));
        Self(seed | 1)
    }

    /// A number below `limit` (xorshift64*).
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % limit
    }
}

#[expect(clippy::print_stderr, reason = "who runs the tests wants to know")]
fn tell(text: &str) {
    eprintln!("{text}");
}

/// Returns the runs that a package has kept, each once: its pack, or its folder.
fn runs(package: &Path) -> Vec<PathBuf> {
    let runs = fs::read_dir(package.join("target/harness/runs"));
    let entries = runs.into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let runs: BTreeSet<_> = paths
        .filter(|path| match path.extension() {
            None => !path.with_extension("run").exists(),
            Some(extension) => extension == "run",
        })
        .collect();
    runs.into_iter().collect()
}

/// Returns the recording of a run.
fn recorded(run: &Path) -> String {
    let bytes = Utf8Path::from_path(run).map(store::recording_bytes);
    let bytes = bytes.and_then(Result::ok).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn text(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

fn built(scene: &Scene, name: &str, source: &str) -> PathBuf {
    let package = scene.package(name, source);
    scene
        .run(scene.harness_in(&package, &["run", "--no-run"]))
        .assert_code(exit_code::OK);
    package
}

#[track_caller]
fn remains(recording: &str, junit: &str, terminal: &str) -> Remains {
    check_remains(recording, junit, terminal).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_runner_that_is_killed_loses_nothing_that_was_known_and_the_next_run_says_so_once() {
    let mut random = Random::new("a_runner_that_is_killed");
    let scene = Scene::new();
    let package = built(&scene, "killed", &source(GROUPS));
    let junit = package.join("junit.xml");
    let mut told_of = 0;
    for _ in 0..KILLS {
        fs::remove_dir_all(package.join("target/harness/runs")).ok();
        fs::remove_file(&junit).ok();
        let mut command = scene.harness_in(&package, &["run", "--no-fail-fast", "-j2"]);
        command.arg("--junit").arg(&junit);
        let run = scene.start(command);
        // Somewhere in the run, and then somewhere in what it does at that moment.
        let results = random.below(TESTS as u64) as usize;
        wait_until(Duration::from_secs(60), || {
            let shown = run.stderr_so_far();
            (shown.matches(&format!("/{TESTS}) ")).count() >= results).then_some(())
        })
        .expect("the run goes on");
        let then = Instant::now() + Duration::from_micros(random.below(8_000));
        while Instant::now() < then {
            thread::yield_now();
        }
        run.signal(Signal::SIGKILL);
        let finished = run.finish();
        scene.assert_no_strays();

        let runs = runs(&package);
        let recording = runs.first().map(|run| recorded(run));
        let recording = recording.unwrap_or_default();
        let left = remains(&recording, &text(&junit), &finished.stderr);
        assert!(left.shown >= results, "{left:?}");
        if left.complete && !left.ended {
            panic!("the report is complete, and the recording is not: {left:?}");
        }
        assert_output_is_kept(&runs, &recording);
        let was_running = runs.first().is_some_and(|run| run.join("lock").exists());

        let known = format!("was killed: {} of {TESTS} results are known", left.recorded);
        let again = scene.run(scene.harness_in(&package, &["run", "passes_3"]));
        again.assert_code(exit_code::OK);
        if was_running && recording.contains('\n') {
            again.assert_says(&known).assert_says("junit.xml`");
            told_of += 1;
        }
        let twice = scene.run(scene.harness_in(&package, &["run", "passes_3"]));
        assert!(!twice.stderr.contains("was killed"), "{}", twice.stderr);
    }
    assert!(told_of > 0, "no run was killed before its end");
}

#[test]
fn a_runner_that_is_killed_while_it_packs_its_run_loses_nothing() {
    let mut random = Random::new("a_runner_that_is_killed_while_it_packs");
    let scene = Scene::new();
    let package = built(&scene, "packs", &source(GROUPS));
    for _ in 0..KILLS {
        fs::remove_dir_all(package.join("target/harness/runs")).ok();
        let run = scene.start(scene.harness_in(&package, &["run", "--no-fail-fast", "-j2"]));
        wait_until(Duration::from_secs(60), || {
            run.stderr_so_far().contains("tests run:").then_some(())
        })
        .expect("the run comes to its end");
        let then = Instant::now() + Duration::from_micros(random.below(12_000));
        while Instant::now() < then {
            thread::yield_now();
        }
        run.signal(Signal::SIGKILL);
        run.finish();
        scene.assert_no_strays();
        // Before any command has tidied up, and after.
        for _ in 0..2 {
            let runs = runs(&package);
            assert_eq!(runs.len(), 1, "{runs:?}");
            let recording = recorded(&runs[0]);
            let left = remains(&recording, "", "");
            assert_eq!((left.recorded, left.ended), (TESTS, true));
            assert_output_is_kept(&runs, &recording);
            let replay = scene.run(scene.harness_in(&package, &["replay"]));
            replay.assert_code(exit_code::OK);
            assert!(replay.stdout.contains(&format!("{TESTS} tests run:")));
        }
        let left = fs::read_dir(package.join("target/harness/runs")).expect("it is there");
        let left: Vec<_> = left.flatten().map(|entry| entry.path()).collect();
        let is_pack = |path: &PathBuf| path.extension().is_some_and(|it| it == "run");
        assert_eq!(
            left.iter().filter(|path| is_pack(path)).count(),
            1,
            "{left:?}"
        );
    }
}

/// Fails unless the output of each failed test is where the recording says.
fn assert_output_is_kept(runs: &[PathBuf], recording: &str) {
    let Some(run) = runs.first() else { return };
    let run = Utf8Path::from_path(run).and_then(PastRun::open);
    let run = run.expect("it can be read");
    for line in recording.split_inclusive('\n') {
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        if line["event"] != "test-finished" || line["verdict"] != "fail" {
            continue;
        }
        let kept = line["kept_output"].clone();
        let kept: SpooledOutput = serde_json::from_value(kept).expect("it is kept");
        let bytes = run.output(kept, Stream::Stderr).expect("it can be read");
        let written = line["attempts"][0]["stderr"]["written"].as_u64();
        assert_eq!(Some(bytes.len() as u64), written, "{line}");
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("it fails"), "{text}");
    }
}

#[test]
fn two_runs_at_once_in_one_target_folder_leave_each_other_alone() {
    let scene = Scene::new();
    let package = built(&scene, "two", &source(4));
    let junit = package.join("junit.xml");
    let start = || {
        let mut command = scene.harness_in(&package, &["run", "--no-fail-fast", "-j2"]);
        command.arg("--junit").arg(&junit);
        scene.start(command)
    };
    let running = [start(), start(), start()];
    let finished = running.map(|run| run.finish());
    for run in &finished {
        run.assert_code(exit_code::TEST_RUN_FAILED)
            .assert_says("12 tests run: 8 passed");
        assert!(!run.stderr.contains("was killed"), "{}", run.stderr);
        assert!(!run.stderr.contains("not kept"), "{}", run.stderr);
    }
    let runs = runs(&package);
    assert_eq!(runs.len(), 3);
    for run in runs {
        let left = remains(&recorded(&run), &text(&junit), "");
        let all = Remains {
            recorded: 12,
            reported: 12,
            shown: 0,
            ended: true,
            complete: true,
        };
        assert_eq!(left, all);
        assert!(!run.join("lock").exists(), "it has come to its end");
    }
    let beside = fs::read_dir(&package).expect("it is there").flatten();
    let left = beside.filter(|file| file.path().extension().is_some_and(|e| e == "interim"));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_run_that_is_interrupted_writes_a_complete_report() {
    let scene = Scene::new();
    let hangs = "#[test] fn a() {}\n#[test] fn hangs() { \
                 std::thread::sleep(std::time::Duration::from_secs(300)) }\n\
                 #[test] fn later() {}\n";
    let package = built(&scene, "interrupted", hangs);
    let junit = package.join("junit.xml");
    let mut command = scene.harness_in(&package, &["run", "-j1", "-v", "--junit"]);
    command.arg(&junit);
    let run = scene.start(command);
    wait_until(Duration::from_secs(60), || {
        (run.stderr_so_far().matches("START").count() == 2).then_some(())
    })
    .expect("the second test starts");
    let so_far = text(&junit);
    assert!(so_far.contains("the run did not end"), "{so_far}");
    run.signal(Signal::SIGINT);
    run.finish();
    let report = text(&junit);
    assert!(!report.contains("the run did not end"), "{report}");
    assert!(report.contains("type=\"interrupted\""), "{report}");
    assert!(report.contains("not run: interrupt"), "{report}");
    let recording = recorded(&runs(&package)[0]);
    assert!(remains(&recording, &report, "").ended);
}

/// Arguments of `unshare` that make a mount namespace; `None` if that is not allowed.
fn unshare() -> Option<Vec<&'static str>> {
    let as_root = ["--mount", "--propagation", "private"];
    let mut args = as_root.to_vec();
    if !geteuid().is_root() {
        args.extend(["--user", "--map-root-user"]);
    }
    let mounts = [args.as_slice(), &["mount", "-t", "tmpfs", "none", "/mnt"]].concat();
    installed("unshare", &mounts).then_some(args)
}

/// Runs a command where a small file system is mounted by `mount`, and then `after`.
fn where_mounted(scene: &Scene, command: &Command, mount: &str, after: &str) -> Option<Finished> {
    let mut args = unshare()?;
    let script = format!("{mount} || exit 77; \"$@\"; code=$?; {after}; exit $code");
    args.extend(["sh", "-c", &script, "sh"]);
    let run = scene.run(scene.wrapped(command, "unshare", &args));
    (run.status.code() != Some(77)).then_some(run)
}

const NO_NAMESPACE: &str = "nothing can be mounted here";

fn tests_with_output() -> String {
    let mut source = String::new();
    for test in 0..12 {
        writeln!(
            source,
            "#[test] fn passes_{test}() {{}}\n\
             #[test] fn fails_{test}() {{ for _ in 0..800 {{ eprintln!(\"some output of it\") }} \
             panic!(\"it fails\") }}"
        )
        .expect("memory has room");
    }
    source
}

/// Everything that a run of [`tests_with_output`] has to say, whatever is full.
#[track_caller]
fn assert_results(run: &Finished) {
    run.assert_says("24 tests run: 12 passed, 12 failed");
}

#[test]
fn where_the_store_is_full_the_results_are_shown_and_it_is_said_once() {
    let name = "where_the_store_is_full_the_results_are_shown_and_it_is_said_once";
    let scene = Scene::new();
    let package = built(&scene, "store", &tests_with_output());
    let mut command = scene.harness_in(&package, &["run", "--no-fail-fast"]);
    command.arg("--junit").arg(scene.path("junit.xml"));
    command.arg("--events").arg(scene.path("events.ndjson"));
    let mount = "mount -t tmpfs -o size=96k none target/harness";
    let after = "cp -r target/harness/runs kept-runs";
    let Some(run) = where_mounted(&scene, &command, mount, after) else {
        return skip(name, NO_NAMESPACE);
    };
    run.assert_code(exit_code::TEST_RUN_FAILED);
    assert_results(&run);
    run.assert_says("so this run is not kept whole: No space left on device");
    assert_eq!(run.stderr.matches("not kept whole").count(), 1);
    let events = text(&scene.path("events.ndjson"));
    let left = remains(&events, &text(&scene.path("junit.xml")), &run.stderr);
    assert_eq!((left.recorded, left.complete), (24, true));
    // Traces had no more room than the recording, and none claims to be whole.
    let events = fixture_kit::model::parse_events(&events).expect("they are events");
    let traces: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::TestFinished(test) => test.attempts[0].trace.as_deref(),
            _ => None,
        })
        .collect();
    let cut = traces
        .iter()
        .filter(|trace| trace.doubts.contains(&Doubt::Overflow) && trace.dropped.events > 0);
    assert!(cut.count() > 0 || traces.is_empty(), "{traces:#?}");
    let kept = fs::read_dir(package.join("kept-runs")).expect("it was copied");
    for run in kept.flatten() {
        let lock = run.path().join("lock");
        assert!(!lock.exists(), "a run that ended was not killed");
    }
}

#[test]
fn where_the_whole_target_folder_is_full_the_results_are_shown() {
    let name = "where_the_whole_target_folder_is_full_the_results_are_shown";
    let scene = Scene::new();
    let package = built(&scene, "target-full", &tests_with_output());
    fs::create_dir(package.join("room")).expect("it can be made");
    let command = scene.harness_in(&package, &["run", "--no-fail-fast"]);
    let mount = "mount -t tmpfs -o size=128k none room && mkdir room/upper room/work && \
                 mount -t overlay -o lowerdir=target,upperdir=room/upper,workdir=room/work \
                 none target";
    let Some(run) = where_mounted(&scene, &command, mount, ":") else {
        return skip(name, NO_NAMESPACE);
    };
    run.assert_code(exit_code::TEST_RUN_FAILED);
    assert_results(&run);
    run.assert_says("so this run is not kept whole: No space left on device");
}

#[test]
fn a_target_folder_that_is_read_only_costs_the_recording_and_nothing_else() {
    let name = "a_target_folder_that_is_read_only_costs_the_recording_and_nothing_else";
    let scene = Scene::new();
    let package = built(&scene, "sealed-store", &tests_with_output());
    let command = scene.harness_in(&package, &["run", "--no-fail-fast"]);
    let mount = "mount --bind target/harness target/harness && \
                 mount -o remount,bind,ro target/harness";
    let Some(run) = where_mounted(&scene, &command, mount, ":") else {
        return skip(name, NO_NAMESPACE);
    };
    run.assert_code(exit_code::TEST_RUN_FAILED);
    assert_results(&run);
    run.assert_says("so this run is not kept whole: Read-only file system");
}

#[test]
fn where_there_is_no_room_for_the_report_it_stays_valid_and_says_what_it_lacks() {
    let name = "where_there_is_no_room_for_the_report_it_stays_valid_and_says_what_it_lacks";
    let scene = Scene::new();
    let package = built(&scene, "report", &tests_with_output());
    fs::create_dir(package.join("small")).expect("it can be made");
    let args = ["run", "--no-fail-fast", "--junit", "small/junit.xml"];
    let command = scene.harness_in(&package, &args);
    let mount = "mount -t tmpfs -o size=96k none small";
    let Some(run) = where_mounted(&scene, &command, mount, "cp small/junit.xml .") else {
        return skip(name, NO_NAMESPACE);
    };
    run.assert_code(exit_code::WRITE_FAILED);
    assert_results(&run);
    run.assert_says("small/junit.xml`, which lacks ")
        .assert_says("caused by: No space left on device");
    let recording = recorded(&runs(&package)[0]);
    let junit = text(&package.join("junit.xml"));
    let error = check_remains(&recording, &junit, "").expect_err("some are missing");
    let lines: Vec<_> = error.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 2, "only their number may be wrong: {error}");
    let lacks = run.stderr.split("which lacks ").nth(1).expect("see above");
    let lacks: usize = lacks.split(' ').next().unwrap().parse().expect("a number");
    let cases = junit.matches("<testcase ").count();
    // One may be the mark of a report that could not be completed.
    let marks = junit.matches("the run did not end\"").count();
    assert_eq!(cases - marks, 24 - lacks, "{junit}");
}

#[test]
fn where_there_is_no_room_for_the_events_those_before_stay() {
    let name = "where_there_is_no_room_for_the_events_those_before_stay";
    let scene = Scene::new();
    let package = built(&scene, "events", &tests_with_output());
    fs::create_dir(package.join("small")).expect("it can be made");
    let args = ["run", "--no-fail-fast", "--events", "small/events.ndjson"];
    let command = scene.harness_in(&package, &args);
    let mount = "mount -t tmpfs -o size=96k none small";
    let Some(run) = where_mounted(&scene, &command, mount, "cp small/events.ndjson .") else {
        return skip(name, NO_NAMESPACE);
    };
    run.assert_code(exit_code::WRITE_FAILED);
    assert_results(&run);
    run.assert_says("failed to write all events to `")
        .assert_says("caused by: No space left on device");
    let left = remains(&text(&package.join("events.ndjson")), "", "");
    assert!(left.recorded > 0 && !left.ended, "{left:?}");
}

#[test]
fn where_there_is_no_room_for_output_the_gap_is_stated() {
    let name = "where_there_is_no_room_for_output_the_gap_is_stated";
    let scene = Scene::new();
    let floods = "#[test] fn floods() { for _ in 0..200_000 { \
                  println!(\"some 40 bytes of output, again and again\") } panic!(\"it fails\") }\n\
                  #[test] fn passes() {}\n";
    let package = built(&scene, "output", floods);
    fs::create_dir(package.join("small")).expect("it can be made");
    let mut command = scene.harness_in(&package, &["run", "--no-fail-fast"]);
    command.env("TMPDIR", package.join("small"));
    let mount = "mount -t tmpfs -o size=256k none small";
    let Some(run) = where_mounted(&scene, &command, mount, ":") else {
        return skip(name, NO_NAMESPACE);
    };
    run.assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("2 tests run: 1 passed, 1 failed");
    run.assert_says("6.8 MiB are lost: the temporary folder could not be written");
}

#[test]
fn a_pipe_gets_the_whole_report_and_one_that_nobody_reads_costs_nothing_but_itself() {
    let scene = Scene::new();
    let package = built(&scene, "pipes", &tests_with_output());
    let pipe = |name: &str| {
        let path = package.join(name);
        mkfifo(&path, Mode::S_IRWXU).expect("it can be made");
        path
    };
    let (read, unread, for_events) = (pipe("read"), pipe("unread"), pipe("for-events"));
    let start = |option: &str, path: &Path| {
        let mut command = scene.harness_in(&package, &["run", "--no-fail-fast", option]);
        command.arg(path);
        scene.start(command)
    };
    let waiting = [start("--junit", &unread), start("--events", &for_events)];
    let run = start("--junit", &read);
    let report = fs::read_to_string(&read).expect("it is written at the end");
    let run = run.finish();
    run.assert_code(exit_code::TEST_RUN_FAILED);
    assert_eq!(report.matches("<testcase ").count(), 24, "{report}");
    assert!(report.ends_with("</testsuites>\n"), "{report}");
    let [report, events] = waiting.map(|run| run.finish());
    report.assert_code(exit_code::WRITE_FAILED);
    assert_results(&report);
    report
        .assert_says("failed to write the JUnit report to `")
        .assert_says("no reader has opened it for reading within 10 seconds");
    events
        .assert_code(exit_code::WRITE_FAILED)
        .assert_says("for-events` for the events: no reader has opened it for reading within 10");
}

#[test]
fn where_there_is_no_room_for_a_database_of_runs_that_is_said_and_the_runs_stay() {
    let name = "where_there_is_no_room_for_a_database_of_runs_that_is_said_and_the_runs_stay";
    let scene = Scene::new();
    let package = built(&scene, "database", &tests_with_output());
    fs::create_dir(package.join("small")).expect("it can be made");
    let run = scene.harness_in(&package, &["run", "--no-fail-fast"]);
    scene.run(run);
    let args = ["store", "sql", "--to", "small/runs.sqlite"];
    let command = scene.harness_in(&package, &args);
    let mount = "mount -t tmpfs -o size=64k none small";
    let Some(asked) = where_mounted(&scene, &command, mount, "true") else {
        return skip(name, NO_NAMESPACE);
    };
    asked.assert_code(exit_code::WRITE_FAILED);
    asked.assert_says("small/runs.sqlite`: database or disk is full");
    let count = "SELECT count(*) FROM runs";
    let asked = scene.run(scene.harness_in(&package, &["store", "sql", count]));
    assert_eq!(asked.assert_code(exit_code::OK).stdout, "count(*)\n1\n");
}
