use super::*;
use crate::report::sample;
use camino::Utf8Path;
use harness_metadata::trace::ProcessSummary;

fn process(pid: i32, started: u64, ended: Option<u64>) -> ProcessSummary {
    ProcessSummary {
        pid,
        creator: (pid > 1).then_some(1),
        started: Duration::from_millis(started),
        ended: ended.map(Duration::from_millis),
        exit: None,
        killed_by: None,
        args: vec!["/bin/sh".into(), "</script>\u{1b}[0m".into()],
        execs: 1,
    }
}

fn traced(number: u32, code: i32) -> Attempt {
    let mut trace = sample::trace();
    trace.processes = vec![
        process(1, 0, Some(190)),
        process(2, 10, Some(60)),
        process(3, 30, Some(80)),
        process(4, 60, None),
        // Longer than its attempt, and before it: a forged recording.
        process(5, 70, Some(u64::MAX / 2_000_000)),
    ];
    Attempt {
        trace: Some(Box::new(trace)),
        ..sample::code(number, code)
    }
}

fn written(events: &[Event], path: &Utf8Path) -> Value {
    let mut sink = ChromeTrace::new(path);
    sample::feed(&mut sink, events, &sample::Memory::default());
    sink.close().expect("it can be written");
    serde_json::from_slice(&std::fs::read(path).expect("it is there")).expect("it is JSON")
}

/// Checks a timeline by the public description of the format, and that the slices of a track nest.
fn check(trace: &Value) {
    let entries = trace["traceEvents"].as_array().expect("a list");
    let mut tracks: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
    let mut open: BTreeMap<(u64, String), i32> = BTreeMap::new();
    for entry in entries {
        let ph = entry["ph"].as_str().expect("a phase");
        assert!(
            entry["name"].is_string() && entry["pid"].is_u64(),
            "{entry}"
        );
        let track = entry["tid"].as_u64().expect("a track");
        if ph != "M" {
            assert!(entry["ts"].is_number(), "{entry}");
        }
        match ph {
            "X" => {
                let (ts, dur) = (entry["ts"].as_f64(), entry["dur"].as_f64());
                let (ts, dur) = (ts.expect("a time"), dur.expect("a duration"));
                tracks.entry(track).or_default().push((ts, ts + dur));
            }
            "b" | "e" => {
                let kind = entry["cat"].as_str().expect("a category").to_owned();
                let id = entry["id"].as_u64().expect("an id");
                let count = open.entry((id, kind)).or_default();
                *count += if ph == "b" { 1 } else { -1 };
                assert!((0..2).contains(count), "{entry}");
            }
            "i" => assert!(["g", "p", "t"].contains(&entry["s"].as_str().expect("a scope"))),
            "C" => assert!(entry["args"]["tests"].is_u64()),
            "M" => {}
            other => panic!("no phase that is used here: {other}"),
        }
    }
    assert!(open.values().all(|count| *count == 0), "{open:?}");
    for (track, mut slices) in tracks {
        slices.sort_by(|a, b| (a.0, -a.1).partial_cmp(&(b.0, -b.1)).expect("numbers"));
        let mut stack: Vec<f64> = Vec::new();
        for (from, to) in slices {
            while stack.last().is_some_and(|end| *end <= from) {
                stack.pop();
            }
            let inside = stack.last().is_none_or(|end| to <= *end + 1e-3);
            assert!(inside, "track {track}: {from} to {to} in {stack:?}");
            stack.push(to);
        }
    }
}

fn names(trace: &Value, kind: &str) -> Vec<String> {
    let entries = trace["traceEvents"].as_array().expect("a list").iter();
    let of_kind = entries.filter(|entry| entry["cat"] == kind && entry["ph"] != "e");
    of_kind
        .map(|entry| {
            format!(
                "{} {}",
                entry["tid"],
                entry["name"].as_str().unwrap_or_default()
            )
        })
        .collect()
}

#[test]
fn tests_attempts_and_processes_nest_on_the_tracks_of_slots() {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(folder.path())
        .unwrap()
        .join("trace.json");
    let events = sample::run(vec![
        (sample::test("one"), vec![traced(1, 0)]),
        (sample::test("two"), vec![sample::code(1, 1), traced(2, 0)]),
    ]);
    let trace = written(&events, &path);
    check(&trace);
    let attempts = names(&trace, "attempt");
    assert!(
        attempts.iter().any(|name| name.ends_with("attempt 2 of 2")),
        "{attempts:?}"
    );
    let processes = names(&trace, "process");
    assert_eq!(processes.len(), 10, "{processes:?}");
    let tracks: std::collections::BTreeSet<_> = processes
        .iter()
        .map(|name| name.split(' ').next())
        .collect();
    assert!(
        tracks.len() == 2,
        "overlapping ones are apart: {processes:?}"
    );
    assert_eq!(names(&trace, "wait").len(), 1);
}

#[test]
fn a_run_that_was_killed_has_what_was_running() {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(folder.path())
        .unwrap()
        .join("trace.json");
    let mut events = sample::run(vec![(sample::test("one"), vec![sample::code(1, 0)])]);
    let started = |event: &Event| matches!(event.kind, EventKind::AttemptStarted(_));
    let until = events.iter().position(started).expect("it starts");
    events.truncate(until + 1);
    let trace = written(&events, &path);
    check(&trace);
    assert_eq!(names(&trace, "test"), ["1 sample one"]);
}

#[test]
fn an_attempt_elsewhere_shows_its_parts_one_after_the_other() {
    let millis = Duration::from_millis;
    let remote = Remote {
        upload: millis(10),
        queue: millis(20),
        staging: millis(5),
        execution: millis(100),
        fetch: millis(2),
        ..Remote::default()
    };
    let folder = tempfile::tempdir().expect("there is room");
    let path = Utf8Path::from_path(folder.path())
        .expect("UTF-8")
        .join("t.json");
    let mut sink = ChromeTrace::new(&path);
    sink.document = Some(Document::create(&path).expect("it can be made"));
    let agent = sink
        .parts(3, &remote, millis(1000), millis(1137))
        .expect("it is written");
    assert_eq!(agent, (millis(1035), millis(1135)));
    // More than the attempt has taken: a forged recording.
    let long = Remote {
        fetch: millis(9000),
        ..remote
    };
    let agent = sink
        .parts(3, &long, millis(1000), millis(1137))
        .expect("it is written");
    assert_eq!(agent, (millis(1000), millis(1000)));
}
