use super::*;
use harness_metadata::{
    Exit, RustBinaryId, TestCaseName, Usage,
    event::TraceLevel,
    outcome::StreamSize,
    trace::{Backend, Dropped},
};
use std::io::Write as _;

fn at(seconds: i64) -> DateTime<FixedOffset> {
    let time = DateTime::from_timestamp(1_700_000_000 + seconds, 0);
    time.expect("it is a time").fixed_offset()
}

fn target() -> (tempfile::TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    (folder, path)
}

fn header(seconds: i64) -> RunHeader {
    RunHeader::new(RunId::random(), at(seconds), Utf8Path::new("/work"))
}

fn test(binary: &str, name: &str) -> TestId {
    TestId {
        binary: RustBinaryId::new(binary),
        name: TestCaseName::new(name),
    }
}

fn attempt(number: u32, code: i32) -> Attempt {
    Attempt {
        number,
        outcome: Outcome::Exited(Exit::Code(code)),
        leak: None,
        limits: Vec::new(),
        verdict: if code == 0 {
            Verdict::Pass
        } else {
            Verdict::Fail
        },
        slow: false,
        started_at: at(0),
        elapsed: Duration::from_millis(5),
        usage: Usage::default(),
        stdout: StreamSize::default(),
        stderr: StreamSize::default(),
        pid: Some(7),
        stuck: Vec::new(),
        rerun: None,
        trace: Some(Box::new(TraceSummary {
            level: TraceLevel::Io,
            backend: Backend::Ptrace,
            doubts: Vec::new(),
            processes: Vec::new(),
            files: Vec::new(),
            peers: Vec::new(),
            failures: Vec::new(),
            counts: [("exec".to_owned(), 1)].into(),
            dropped: Dropped::default(),
        })),
    }
}

/// Writes a run with these tests, and returns its id.
fn kept(target: &Utf8Path, seconds: i64, tests: &[(&str, u32, i32)]) -> String {
    let header = header(seconds);
    let mut run = Run::create(target, &header).unwrap();
    for (number, (name, attempt_number, code)) in tests.iter().enumerate() {
        let attempt = attempt(*attempt_number, *code);
        run.attempt_finished(Some(number as u64), &test("crate::tests", name), &attempt)
            .unwrap();
    }
    run.flush().unwrap();
    header.run_id.to_string()
}

fn found(target: &Utf8Path, query: Query) -> String {
    match find(target, &query) {
        Ok(found) => format!(
            "{} attempt {} {}",
            found.record.test.name,
            found.record.attempt,
            found.trace_path().unwrap().file_name().unwrap()
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
fn a_line_that_is_not_whole_costs_nothing_but_itself() {
    let (_folder, target) = target();
    kept(&target, 0, &[("one", 1, 0), ("two", 1, 0)]);
    let run = runs(&target).unwrap().remove(0);
    let path = run.folder.join(INDEX);
    let mut index = OpenOptions::new().append(true).open(&path).unwrap();
    index.write_all(b"\xff{\"test\": nonsense\n").unwrap();
    let text = fs::read(&path).unwrap();
    index.write_all(&text[text.len() / 2..][..40]).unwrap();
    assert_eq!(run.records().unwrap().count(), 2);
    assert_eq!(found(&target, named("two")), "two attempt 1 1.trace");
    // Not even the first line is whole.
    fs::write(&path, b"{\"schema_ver").unwrap();
    assert_eq!(runs(&target).unwrap(), []);
}

#[test]
fn lines_are_written_when_they_have_waited_long_enough() {
    let (_folder, target) = target();
    let mut run = Run::create(&target, &header(0)).unwrap();
    let one = test("crate", "one");
    run.attempt_finished(None, &one, &attempt(1, 0)).unwrap();
    run.pending_since -= FLUSH_AFTER;
    run.tick().unwrap();
    let records: Vec<_> = runs(&target).unwrap()[0].records().unwrap().collect();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].file, None);
}

#[test]
fn the_oldest_runs_are_deleted_but_none_in_progress() {
    let (_folder, target) = target();
    let in_progress = header(-5);
    let running = Run::create(&target, &in_progress).unwrap();
    let ids: Vec<_> = (0..5)
        .map(|number| kept(&target, number, &[("one", 1, 0)]))
        .collect();
    let retention = Retention {
        runs: 2,
        bytes: u64::MAX,
    };
    prune(&target, retention).unwrap();
    let left = || -> Vec<String> {
        let runs = runs(&target).unwrap();
        runs.iter()
            .map(|run| run.header.run_id.to_string())
            .collect()
    };
    let busy = in_progress.run_id.to_string();
    assert_eq!(left(), [ids[4].clone(), ids[3].clone(), busy.clone()]);
    drop(running);
    let newest = folder(&target).join(&ids[4]);
    fs::write(newest.join("0.trace"), [0; 5_000]).unwrap();
    // It has been counted without that file: what is finished does not grow.
    fs::remove_file(newest.join("size")).unwrap();
    prune(
        &target,
        Retention {
            runs: 9,
            bytes: 4_000,
        },
    )
    .unwrap();
    assert_eq!(left(), [ids[4].clone()]);
    let entries = folder(&target).read_dir_utf8().unwrap().count();
    assert_eq!(entries, 1, "nothing is left of what was deleted");
}

#[test]
fn what_a_killed_deletion_left_is_deleted_by_the_next() {
    let (_folder, target) = target();
    kept(&target, 0, &[]);
    let left = folder(&target).join("something.deleted");
    fs::create_dir(&left).unwrap();
    prune(&target, Retention::default()).unwrap();
    assert!(!left.exists());
}

#[test]
fn a_target_folder_that_is_none_is_said_in_a_sentence() {
    let (_folder, target) = target();
    fs::write(target.join("harness"), "").unwrap();
    let error = Run::create(&target, &header(0)).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("so no trace of this run is kept"),
        "{error}"
    );
}

#[test]
fn a_run_is_for_its_owner_and_the_folders_above_it_are_as_usual() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, target) = target();
    let id = kept(&target, 0, &[]);
    let mode = |path: &Utf8Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let usual = target.join("usual");
    fs::create_dir(&usual).unwrap();
    assert_eq!(mode(&folder(&target)), mode(&usual));
    assert_eq!(mode(&folder(&target).join(&id)), 0o700);
    assert_eq!(mode(&folder(&target).join(id).join(INDEX)), 0o600);
}

/// Measures; see the one of `tracer::record`.
#[test]
#[ignore = "it measures"]
fn the_cost_of_many_attempts() {
    let (_folder, target) = target();
    let mut finished = attempt(1, 0);
    let trace = finished.trace.as_mut().unwrap();
    trace.files = (0..40)
        .map(|number| harness_metadata::trace::FileSummary {
            path: format!("/usr/lib/x86_64-linux-gnu/file-{number}")
                .as_str()
                .into(),
            uses: vec![harness_metadata::trace::FileUse::Read],
        })
        .collect();
    let start = Instant::now();
    let mut run = Run::create(&target, &header(0)).unwrap();
    for number in 0..20_000 {
        let id = test("crate::tests", &format!("module::test_{number}"));
        run.attempt_finished(Some(number), &id, &finished).unwrap();
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
