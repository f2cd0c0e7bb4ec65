use super::*;
use fixture_kit::sample::{self, test, time as at};
use harness_metadata::{
    Attempt, RunStats, TestId, TraceSummary,
    event::{AttemptStarted, Findings, RunFinished, RunMode, RunStarted, TestFinished},
};

const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn target() -> (tempfile::TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    (folder, path)
}

fn began(seconds: i64) -> RunStarted {
    RunStarted {
        run_id: RunId::random(),
        started_at: at(seconds),
        tests: 4,
        ..sample::started()
    }
}

fn event(kind: EventKind) -> Event {
    Event {
        at: Duration::from_millis(3),
        kind,
    }
}

/// Ends a run without packing it, as one that is too large for that.
fn end(run: Run) {
    fs::remove_file(run.folder.join(LOCK)).unwrap();
}

/// Begins a run.
fn create(target: &Utf8Path, began: &RunStarted) -> Run {
    let mut run = Run::create(target, began.run_id, None).unwrap();
    let started = event(EventKind::RunStarted(Box::new(began.clone())));
    run.record(&started, Belongings::default()).unwrap();
    run
}

fn started(name: &str) -> Event {
    event(EventKind::AttemptStarted(AttemptStarted {
        test: test("crate::tests", name),
        attempt: 1,
        total_attempts: 1,
        slot: 0,
        running: 1,
        command: Vec::new(),
    }))
}

fn finished(id: TestId, attempt: Attempt) -> Event {
    let finished = TestFinished {
        total_attempts: 1,
        ..sample::finished(id, vec![attempt])
    };
    event(EventKind::TestFinished(Box::new(finished)))
}

fn traced(number: u64) -> Belongings {
    Belongings {
        trace: Some(KeptTrace {
            file: format!("{number}.trace"),
            part: None,
        }),
        output: None,
    }
}

fn attempt(number: u32, code: i32) -> Attempt {
    Attempt {
        trace: Some(Box::new(TraceSummary {
            counts: [("exec".to_owned(), 1)].into(),
            ..sample::trace()
        })),
        ..sample::code(number, code)
    }
}

/// Writes a run with these tests, and returns its id.
pub(super) fn kept(target: &Utf8Path, seconds: i64, tests: &[(&str, u32, i32)]) -> String {
    let began = began(seconds);
    let mut run = create(target, &began);
    for (number, (name, attempt_number, code)) in tests.iter().enumerate() {
        let attempt = attempt(*attempt_number, *code);
        let finished = finished(test("crate::tests", name), attempt);
        run.record(&finished, traced(number as u64)).unwrap();
    }
    end(run);
    began.run_id.to_string()
}

fn found(target: &Utf8Path, query: Query) -> String {
    match find(target, &query) {
        Ok(found) => format!(
            "{} attempt {} {}",
            found.record.test.name,
            found.record.attempt,
            found.record.kept_trace.unwrap().file
        ),
        Err(FindError::Ambiguous { candidates, .. }) => candidates.join(", "),
        Err(FindError::NotFound { nearest, .. }) => format!("nearest: {}", nearest.join(", ")),
        Err(error) => error.to_string(),
    }
}

fn named(test: &str) -> Query {
    Query {
        test: Some(test.to_owned()),
        ..Query::default()
    }
}

#[test]
fn an_attempt_is_found_by_its_name_or_a_part_of_it() {
    let (_folder, target) = target();
    kept(
        &target,
        0,
        &[
            ("a::one", 1, 1),
            ("a::one", 2, 0),
            ("a::one_more", 1, 0),
            ("b::two", 1, 0),
        ],
    );
    let found = |query| found(&target, query);
    assert_eq!(found(named("a::one")), "a::one attempt 2 1.trace");
    assert_eq!(
        found(named("crate::tests a::one")),
        "a::one attempt 2 1.trace"
    );
    assert_eq!(found(named("two")), "b::two attempt 1 3.trace");
    assert_eq!(
        found(named("one")),
        "crate::tests a::one, crate::tests a::one_more"
    );
    assert_eq!(found(named("b::tow")), "nearest: crate::tests b::two");
    let first = Query {
        attempt: Some(1),
        ..named("a::one")
    };
    assert_eq!(found(first), "a::one attempt 1 0.trace");
    let third = Query {
        attempt: Some(3),
        ..named("a::one")
    };
    assert_eq!(found(third), "`crate::tests a::one` has no attempt 3");
    let failed = Query {
        failed: true,
        ..Query::default()
    };
    assert_eq!(found(failed), "a::one attempt 1 0.trace");
}

#[test]
fn the_latest_run_that_has_the_test_counts_unless_another_is_asked_for() {
    let (_folder, target) = target();
    assert!(matches!(
        find(&target, &named("one")),
        Err(FindError::NoRuns { .. })
    ));
    let old = kept(&target, 0, &[("one", 1, 1), ("gone", 1, 0)]);
    let new = kept(&target, 10, &[("one", 1, 0)]);
    let run_of =
        |query: &Query| find(&target, query).map(|found| found.run.header.run_id.to_string());
    assert_eq!(run_of(&named("one")).unwrap(), new);
    assert_eq!(run_of(&named("gone")).unwrap(), old);
    let latest = Query {
        run: WhichRun::Latest,
        ..named("gone")
    };
    assert!(matches!(run_of(&latest), Err(FindError::NotFound { .. })));
    let chosen = Query {
        run: WhichRun::Id(old[..13].to_owned()),
        ..named("one")
    };
    assert_eq!(run_of(&chosen).unwrap(), old);
    let nobody = Query {
        run: WhichRun::Id("none".to_owned()),
        ..named("one")
    };
    let Err(FindError::NoSuchRun { kept, .. }) = run_of(&nobody) else {
        panic!("there is no such run");
    };
    assert_eq!(kept, [new, old]);
}

#[test]
fn a_run_without_a_trace_of_the_test_does_not_hide_an_earlier_one_that_has_it() {
    let (_folder, target) = target();
    let untraced = |seconds, name| {
        let began = began(seconds);
        let mut run = create(&target, &began);
        let finished = finished(test("crate::tests", name), attempt(1, 0));
        run.record(&finished, Belongings::default()).unwrap();
        end(run);
        began.run_id.to_string()
    };
    let traced = kept(&target, 0, &[("one", 1, 1)]);
    untraced(10, "one");
    let latest = untraced(20, "one");
    let run_of = |query: &Query| find(&target, query).unwrap().run.header.run_id.to_string();
    assert_eq!(run_of(&named("one")), traced);
    let later = find(&target, &named("one")).unwrap().later;
    assert_eq!(
        later.map(|run| run.header.run_id.to_string()),
        Some(latest.clone())
    );
    let asked_for = Query {
        run: WhichRun::Latest,
        ..named("one")
    };
    assert_eq!(run_of(&asked_for), latest);
    let never_traced = untraced(30, "two");
    assert_eq!(run_of(&named("two")), never_traced);
}

#[test]
fn a_line_that_is_not_whole_costs_nothing_but_itself() {
    let (_folder, target) = target();
    kept(&target, 0, &[("one", 1, 0), ("two", 1, 0)]);
    let run = runs(&target).unwrap().remove(0);
    let path = run.recording();
    let mut recording = File::options().append(true).open(&path).unwrap();
    recording.write_all(b"\xff{\"test\": nonsense\n").unwrap();
    let text = fs::read(&path).unwrap();
    let begun = &text[text.len() / 2..][..40];
    recording.write_all(begun).unwrap();
    assert_eq!(run.events().unwrap().count(), 3);
    assert_eq!(run.records().unwrap().count(), 2);
    assert_eq!(found(&target, named("two")), "two attempt 1 1.trace");
    // Not even the first line is whole.
    fs::write(&path, b"{\"schema_ver").unwrap();
    assert_eq!(runs(&target).unwrap(), []);
}

#[test]
fn a_result_is_in_the_file_at_once_and_everything_else_when_it_is_flushed() {
    let (_folder, target) = target();
    let mut run = create(&target, &began(0));
    run.record(&started("one"), Belongings::default()).unwrap();
    let past = runs(&target).unwrap().remove(0);
    assert_eq!(past.events().unwrap().count(), 1);
    run.flush().unwrap();
    assert_eq!(past.events().unwrap().count(), 2);
    let result = finished(test("crate::tests", "one"), attempt(1, 0));
    run.record(&result, Belongings::default()).unwrap();
    let lines: Vec<Line> = past.events().unwrap().collect();
    assert_eq!(lines[2].event, result);
    assert_eq!(past.records().unwrap().next().unwrap().kept_trace, None);
}

#[test]
fn output_is_read_back_by_what_its_line_says() {
    let (_folder, target) = target();
    let mut run = create(&target, &began(0));
    let mut spool = run.spool();
    let kept = |head: &'static [u8], tail: &'static [u8]| Kept {
        head: Box::new(head),
        dropped: 5,
        tail: Box::new(tail),
    };
    for (name, out) in [("one", b"1"), ("two", b"2")] {
        let output = spool.add(kept(out, b"\xff\n"), kept(b"", b"")).unwrap();
        let result = finished(test("crate::tests", name), attempt(1, 1));
        let belongings = Belongings {
            trace: None,
            output: Some(output),
        };
        run.record(&result, belongings).unwrap();
    }
    let past = runs(&target).unwrap().remove(0);
    let record = past.records().unwrap().nth(1).unwrap();
    let output = record.output.unwrap();
    assert_eq!(output.stdout.dropped, 5);
    assert_eq!(past.output(output, Stream::Stdout).unwrap(), b"2\xff\n");
    assert_eq!(past.output(output, Stream::Stderr).unwrap(), b"");
}

#[test]
fn a_killed_runner_is_told_of_once_with_what_is_known() {
    let (_folder, target) = target();
    let began = began(0);
    let junit = target.join("junit.xml");
    let mut run = Run::create(&target, began.run_id, Some(&junit)).unwrap();
    let first = event(EventKind::RunStarted(Box::new(began.clone())));
    run.record(&first, Belongings::default()).unwrap();
    assert_eq!(take_killed(&target), [], "it has its lock");
    for name in ["one", "two"] {
        run.record(&started(name), Belongings::default()).unwrap();
    }
    let result = finished(test("crate::tests", "one"), attempt(1, 0));
    run.record(&result, Belongings::default()).unwrap();
    // Dropped without its end, as the kernel does it.
    drop(run);
    fs::write(&junit, format!("<testsuites uuid=\"{}\"", began.run_id)).unwrap();
    // A child that another test is just starting may have a copy of the lock.
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut killed = take_killed(&target);
    while killed.is_empty() && Instant::now() < deadline {
        thread::yield_now();
        killed = take_killed(&target);
    }
    assert_eq!(killed.len(), 1);
    let sentence = killed[0].to_string().replace(target.as_str(), "…");
    let id = began.run_id.to_string();
    assert_eq!(
        sentence.replace(&id, "ID").replace(&id[..8], "ID"),
        "the runner of run ID of 2023-11-14 22:13:20 was killed: 1 of 4 results are known, running \
         were `crate::tests two`; its recording is `…/runs/ID.run`, its JUnit \
         report `…/junit.xml`"
    );
    assert_eq!(take_killed(&target), []);
    assert_eq!(runs(&target).unwrap().len(), 1, "it is still kept");
}

#[test]
fn a_run_that_came_to_its_end_was_not_killed_even_if_its_end_could_not_be_written() {
    let (_folder, target) = target();
    kept(&target, 0, &[("one", 1, 0)]);
    assert_eq!(take_killed(&target), []);
}

#[test]
fn the_oldest_runs_are_deleted_but_none_in_progress() {
    let (_folder, target) = target();
    let in_progress = began(-5);
    let running = create(&target, &in_progress);
    let ids: Vec<_> = (0..5)
        .map(|number| kept(&target, number, &[("one", 1, 0)]))
        .collect();
    let retention = Retention {
        runs: 2,
        bytes: u64::MAX,
        ..Retention::default()
    };
    let left = || -> Vec<String> {
        let runs = runs(&target).unwrap();
        runs.iter()
            .map(|run| run.header.run_id.to_string())
            .collect()
    };
    let busy = in_progress.run_id.to_string();
    let expected = [ids[4].clone(), ids[3].clone(), busy];
    prune_until(&target, retention, || left() == expected);
    drop(running);
    let newest = folder(&target).join(&ids[4]);
    fs::write(newest.join("0.trace"), [0; 5_000]).unwrap();
    // It has been counted without that file: what is finished does not grow.
    fs::remove_file(newest.join("size")).unwrap();
    let retention = Retention {
        runs: 9,
        bytes: 6_000,
        ..Retention::default()
    };
    prune_until(&target, retention, || left() == ids[4..]);
    let entries = folder(&target).read_dir_utf8().unwrap().count();
    assert_eq!(entries, 1, "nothing is left of what was deleted");
}

/// Keeps a run that ended with these counts of passed and failed tests.
fn ended(target: &Utf8Path, seconds: i64, passed: usize, failed: usize, partial: bool) -> String {
    let tests = passed + failed;
    let began = RunStarted {
        tests,
        partial,
        ..began(seconds)
    };
    let mut run = create(target, &began);
    let finished = RunFinished {
        elapsed: Duration::from_secs(1),
        stats: RunStats {
            selected: tests,
            finished: tests,
            passed,
            failed,
            ..RunStats::default()
        },
        cancelled: None,
        not_run: Vec::new(),
        failed_scripts: Vec::new(),
        failed_services: Vec::new(),
        findings: Findings::default(),
    };
    let finished = event(EventKind::RunFinished(Box::new(finished)));
    run.record(&finished, Belongings::default()).unwrap();
    match tests {
        0 => run.end().unwrap(),
        _ => end(run),
    }
    began.run_id.to_string()
}

fn left(target: &Utf8Path) -> Vec<String> {
    let runs = runs(target).unwrap();
    let ids = runs.iter().map(|run| run.header.run_id.to_string());
    ids.collect()
}

#[test]
fn many_small_runs_do_not_push_out_the_last_failure_nor_the_last_whole_success() {
    let (_folder, target) = target();
    let green = ended(&target, 0, 100, 0, false);
    let red = ended(&target, 1, 99, 1, false);
    let small: Vec<_> = (2..30)
        .map(|seconds| ended(&target, seconds, 1, 0, true))
        .collect();
    let most = Retention::default();
    prune_until(&target, most, || left(&target).len() == most.runs);
    let kept = left(&target);
    assert_eq!(kept[0], small[27]);
    assert_eq!(kept[8..], [red.clone(), green]);

    let newer = ended(&target, 40, 50, 0, false);
    let retention = Retention {
        runs: 2,
        bytes: u64::MAX,
        ..Retention::default()
    };
    // The latest is the last whole one.
    let expected = [newer, red];
    prune_until(&target, retention, || left(&target) == expected);
}

/// Keeps a run that ended `days` ago with a trace of each of these tests.
fn traced_run(target: &Utf8Path, days: u64, partial: bool, tests: &[(&str, i32)]) -> String {
    let now = age(at(0)).as_secs().cast_signed();
    let began = RunStarted {
        started_at: at(now - days.cast_signed() * 86_400),
        partial,
        ..began(0)
    };
    let mut run = create(target, &began);
    for (number, (name, code)) in (0..).zip(tests) {
        let finished = finished(test("crate::tests", name), attempt(1, *code));
        run.record(&finished, traced(number)).unwrap();
    }
    let last = RunFinished {
        elapsed: Duration::from_secs(1),
        stats: RunStats {
            selected: tests.len(),
            finished: tests.len(),
            passed: tests.len(),
            ..RunStats::default()
        },
        cancelled: None,
        not_run: Vec::new(),
        failed_scripts: Vec::new(),
        failed_services: Vec::new(),
        findings: Findings::default(),
    };
    let last = event(EventKind::RunFinished(Box::new(last)));
    run.record(&last, Belongings::default()).unwrap();
    run.end().unwrap();
    began.run_id.to_string()
}

#[test]
fn the_last_green_and_the_last_red_trace_of_each_test_are_kept_and_whole_runs_for_a_year() {
    let (_folder, target) = target();
    let old = traced_run(&target, 500, false, &[("one", 0), ("two", 0)]);
    let young = traced_run(&target, 300, false, &[("one", 0), ("two", 0)]);
    let red = traced_run(&target, 200, true, &[("one", 1)]);
    let earlier = traced_run(&target, 150, true, &[("one", 0)]);
    let green = traced_run(&target, 100, true, &[("one", 0)]);
    let two = traced_run(&target, 50, true, &[("two", 0)]);
    let latest = traced_run(&target, 1, true, &[("three", 0)]);
    let retention = Retention {
        runs: 1,
        ..Retention::default()
    };
    let reasons: Vec<_> = prunable(&target, retention)
        .unwrap()
        .into_iter()
        .map(|it| (it.run.header.run_id.to_string(), it.reason))
        .collect();
    // `young` is the last whole run that passed.
    let expected = [(old.clone(), Reason::Old), (earlier, Reason::Part)];
    assert_eq!(reasons, expected);
    prune_until(&target, retention, || left(&target).len() == 5);
    assert_eq!(
        left(&target),
        [latest.clone(), two, green, red, young.clone()]
    );
    // The run of least worth goes for want of room.
    let room = Retention {
        bytes: 1,
        ..retention
    };
    let reasons = prunable(&target, room).unwrap();
    assert!(
        reasons.iter().all(|it| it.reason == Reason::Room),
        "{reasons:?}"
    );
    assert_eq!(reasons.len(), 4, "all but the latest");
}

#[test]
fn how_a_run_ended_is_known_without_its_note() {
    let (_folder, target) = target();
    let red = ended(&target, 0, 1, 1, false);
    fs::remove_file(folder(&target).join(red).join("ending.json")).unwrap();
    let run = runs(&target).unwrap().remove(0);
    let overview = Overview::of(run).unwrap();
    let State::Ended(ending) = overview.state else {
        panic!("{overview:?}")
    };
    assert!(ending.failed());
    assert_eq!(ending.stats.passed, 1);
    assert!(overview.bytes > 0);
}

#[test]
fn a_recording_without_an_end_is_read_once() {
    let (_folder, target) = target();
    let mut run = create(&target, &began(0));
    run.flush().unwrap();
    drop(run);
    let red = ended(&target, 1, 1, 1, false);
    let runs = runs(&target).unwrap();
    let [red, cut] = &runs[..] else {
        panic!("{runs:?} besides {red}")
    };
    // As in `prune_until`, it may be taken for one in progress for a moment.
    let (noted, deadline) = (cut.path.join("ending.json"), Instant::now() + MINUTE);
    while !noted.exists() {
        assert_eq!(Ending::of(cut), None);
        assert!(Instant::now() < deadline, "it is never noted");
        thread::yield_now();
    }
    // Who reads it again finds another's end.
    fs::copy(red.recording(), cut.recording()).unwrap();
    assert_eq!(Ending::of(cut), None);
    assert!(Ending::of(red).is_some());
}

#[test]
fn a_run_of_no_tests_is_not_kept() {
    let (_folder, target) = target();
    let red = ended(&target, 0, 1, 1, false);
    for seconds in 1..20 {
        ended(&target, seconds, 0, 0, true);
    }
    prune_until(&target, Retention::default(), || {
        left(&target) == [red.as_str()]
    });
}

#[test]
fn what_a_killed_deletion_left_is_deleted_by_the_next() {
    let (_folder, target) = target();
    kept(&target, 0, &[]);
    let left = folder(&target).join("something.deleted");
    fs::create_dir(&left).unwrap();
    prune_until(&target, Retention::default(), || !left.exists());
}

/// Deletes until this is so. A child that another test is just starting has a copy of every descriptor,
/// and with it of the lock of a run that was made here, which keeps all others from deleting.
#[track_caller]
fn prune_until(target: &Utf8Path, retention: Retention, so: impl Fn() -> bool) {
    let deadline = Instant::now() + MINUTE;
    loop {
        prune(target, retention).unwrap();
        if so() {
            return;
        }
        assert!(Instant::now() < deadline, "it never is so");
        thread::yield_now();
    }
}

#[test]
fn a_target_folder_that_is_none_is_said_in_a_sentence() {
    let (_folder, target) = target();
    fs::write(folder(&target), "").unwrap();
    let error = Run::create(&target, RunId::random(), None).unwrap_err();
    let folder = folder(&target);
    assert_eq!(error.to_string(), format!("failed to write `{folder}`"));
}

#[test]
fn a_run_has_the_modes_that_the_umask_leaves() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, target) = target();
    let id = kept(&target, 0, &[]);
    let mode = |path: &Utf8Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (usual, usual_file) = (target.join("usual"), target.join("usual-file"));
    fs::create_dir(&usual).unwrap();
    fs::write(&usual_file, "").unwrap();
    let run = folder(&target).join(&id);
    assert_eq!(mode(&folder(&target)), mode(&usual));
    assert_eq!(mode(&run), mode(&usual));
    for file in [RECORDING, OUTPUT] {
        let path = run.join(file);
        if path.exists() {
            assert_eq!(mode(&path), mode(&usual_file), "{file}");
        }
    }
}

#[test]
fn another_user_can_read_a_run_and_lock_nothing_of_it() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, target) = target();
    let run = Run::create(&target, RunId::random(), None).unwrap();
    let mode = |path: Utf8PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(run.folder.join(LOCK)) & 0o077, 0);
    let runs = folder(&target);
    assert_eq!(mode(runs.with_extension(GATE)) & 0o077, 0);
    // Any other user can do that to the folder.
    let locked = File::open(&runs).unwrap();
    locked.lock().unwrap();
    let since = Instant::now();
    let gate = gate(&runs);
    assert!(gate.is_some() && since.elapsed() < GATE_LIMIT);
    // A pipe in the place of the file: then it is the folder.
    drop((gate, locked));
    fs::remove_file(runs.with_extension(GATE)).unwrap();
    let place = runs.with_extension(GATE);
    nix::unistd::mkfifo(place.as_std_path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(super::gate(&runs).is_some());
}

#[test]
fn a_run_that_is_being_made_is_not_deleted() {
    let (_folder, target) = target();
    fs::create_dir_all(folder(&target)).unwrap();
    let making = gate(&folder(&target)).unwrap();
    let path = folder(&target).join(RunId::random().to_string());
    fs::create_dir(&path).unwrap();
    // The clock was set, or the machine slept.
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    File::open(&path).unwrap().set_modified(long_ago).unwrap();
    prune(&target, Retention::default()).unwrap();
    assert!(path.exists());
    drop(making);
    // No run makes it any more.
    prune_until(&target, Retention::default(), || !path.exists());
}

#[test]
fn a_lock_that_cannot_be_opened_is_held() {
    let (_folder, target) = target();
    let id = kept(&target, 0, &[]);
    let run = folder(&target).join(id);
    assert!(!in_progress(&run));
    nix::unistd::mkfifo(run.join(LOCK).as_std_path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(!in_progress(&run), "no run has made that");
    let too_long = run.join("x".repeat(300));
    assert!(in_progress(&too_long), "nothing can be known of it");
}

#[test]
fn a_recording_without_an_end_of_line_is_not_read_into_memory() {
    let (_folder, target) = target();
    let id = kept(&target, 0, &[]);
    let path = folder(&target).join(id).join(RECORDING);
    let before = fs::read(&path).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(before.len() as u64 + (100 << 20)).unwrap();
    let mut last = Vec::new();
    for line in recording::lines(&path).unwrap() {
        last = line;
    }
    assert!(last.len() <= 64 << 20, "{} bytes", last.len());
    file.set_len(0).unwrap();
    file.set_len(4 << 30).unwrap();
    assert_eq!(runs(&target).unwrap(), []);
}

/// Measures; see the one of `tracer::record`.
#[test]
#[ignore = "it measures"]
fn the_cost_of_many_attempts() {
    let (_folder, target) = target();
    let mut attempt = attempt(1, 0);
    let trace = attempt.trace.as_mut().unwrap();
    trace.files = (0..40)
        .map(|number| harness_metadata::trace::FileSummary {
            path: format!("/usr/lib/x86_64-linux-gnu/file-{number}")
                .as_str()
                .into(),
            uses: vec![harness_metadata::trace::FileUse::Read],
        })
        .collect();
    let start = Instant::now();
    let mut run = create(&target, &began(0));
    for number in 0..20_000 {
        let id = test("crate::tests", &format!("module::test_{number}"));
        run.record(&finished(id, attempt.clone()), traced(number))
            .unwrap();
    }
    run.flush().unwrap();
    eprintln!("20,000 attempts: {:?}", start.elapsed());
    drop(run);
    let start = Instant::now();
    assert_eq!(
        found(&target, named("test_19999")),
        "module::test_19999 attempt 1 19999.trace"
    );
    eprintln!("finding one of them: {:?}", start.elapsed());
}

#[test]
fn what_is_left_to_do_is_that_of_tests_and_not_of_benchmarks() {
    let (_folder, target) = target();
    let root = Utf8Path::new("/work");
    let ran = |at, mode, name| {
        let began = RunStarted { mode, ..began(at) };
        let mut run = create(&target, &began);
        let event = finished(test("crate::tests", name), attempt(1, 1));
        run.record(&event, Belongings::default()).unwrap();
        began.run_id
    };
    let tests = ran(0, RunMode::Test, "a_test");
    let benchmarks = ran(1, RunMode::Benchmark, "a_benchmark");
    let standing = Standing::of(&target, root, &WhichRun::Latest).unwrap();
    assert_eq!(standing.run, tests);
    assert_eq!(last_failed(&target, root).unwrap().len(), 1);
    let ids = |of| {
        let runs = ended_runs(&target, root, of).unwrap();
        runs.iter().map(|run| run.header.run_id).collect::<Vec<_>>()
    };
    assert_eq!(ids(RunsOf::Tests), [tests]);
    assert_eq!(ids(RunsOf::Everything), [benchmarks, tests]);
}

#[test]
fn a_chain_is_known_after_each_run_also_after_one_that_was_killed() {
    let (_folder, target) = target();
    let began = began(0);
    let mut run = create(&target, &began);
    let tests = |names: &[&str]| {
        let tests = names.iter().map(|name| test("crate::tests", name));
        tests.collect::<crate::filter::TestSet>()
    };
    let chain = Chain {
        rerun_of: Some(RunId::random()),
        scope: serde_json::json!({ "any": 1 }),
        passed: tests(&["before"]),
        outstanding: tests(&["aside"]),
        selected: tests(&["failed", "passed", "not-run"]),
    };
    run.note_chain(&chain).unwrap();
    for (name, code) in [("failed", 1), ("passed", 0)] {
        let event = finished(test("crate::tests", name), attempt(1, code));
        run.record(&event, Belongings::default()).unwrap();
    }
    let root = Utf8Path::new("/work");
    let busy = Standing::of(&target, root, &WhichRun::Latest);
    assert!(matches!(busy, Err(FindError::InProgress { .. })));
    // As the end of its process does.
    drop(run);
    let standing = Standing::of(&target, root, &WhichRun::Latest).unwrap();
    let expected = Standing {
        run: began.run_id,
        scope: Some(chain.scope.clone()),
        passed: tests(&["before", "passed"]),
        outstanding: tests(&["aside", "failed", "not-run"]),
    };
    assert_eq!(standing, expected);
    assert_eq!(last_failed(&target, root).unwrap(), tests(&["failed"]));
    // The note is a file that anybody can write.
    let runs = runs(&target).unwrap();
    fs::write(runs[0].path.join("chain.json"), "{").unwrap();
    let standing = Standing::after(&runs[0]).unwrap();
    assert_eq!(standing.scope, None);
    assert_eq!(standing.outstanding, tests(&["failed"]));
}
