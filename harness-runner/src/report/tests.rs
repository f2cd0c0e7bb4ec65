//! The output of the sinks for hand-made runs.

mod screen;
mod steady;
mod surefire;

use super::{
    Kept, Sink,
    json::{EmbeddedOutput, JsonLines},
    junit::{Junit, JunitOptions, Schema},
    progress::ProgressMode,
    sample::{Memory, attempt, code, feed, leaky, run, signal, test, trace},
    terminal::{Terminal, TerminalOptions},
};
use expect_test::expect;
use harness_metadata::{
    Attempt, Event, EventKind, Exit, FinalStatusLevel, LimitHit, LimitKind, Outcome, RawString,
    Remote, StatusLevel, TraceEvent, TraceEventKind, Verdict,
    event::{AttemptPrinted, CancelReason, OutputStream, OutputWhen},
    trace::{Doubt, Failure, NetworkOperation, Operation},
};
use nextest_metadata::MismatchReason;
use proptest::prelude::*;
use quick_junit::Report;
use std::{io, time::Duration};

pub(super) fn mixed() -> (Vec<Event>, Memory) {
    let mut outputs = Memory::default();
    outputs.put(
        &test("a::fails"),
        1,
        b"",
        b"noise\nthread 'a::fails' (7) panicked at src/a.rs:3:5:\nboom\n",
    );
    outputs.put(&test("a::flaky"), 1, b"out\n", b"Error: first\n");
    outputs.put(&test("a::aborts"), 1, b"", b"\x1b[31mbye\x1b[0m\n");
    let tests = vec![
        (test("a::passes"), vec![code(1, 0)]),
        (test("a::fails"), vec![code(1, 101)]),
        (test("a::flaky"), vec![code(1, 1), code(2, 0)]),
        (test("a::aborts"), vec![signal(6)]),
        (test("a::leaks"), vec![leaky()]),
        (
            test("a::hangs\n"),
            vec![attempt(1, Outcome::TimedOut { exit: None }, Verdict::Fail)],
        ),
    ];
    (run(tests), outputs)
}

fn terminal(options: TerminalOptions, events: &[Event], outputs: &Memory) -> String {
    let mut sink = Terminal::new(Vec::new(), options);
    feed(&mut sink, events, outputs);
    String::from_utf8(sink.into_inner()).expect("the tests print text")
}

fn junit(events: &[Event], outputs: &Memory, change: impl Fn(&mut JunitOptions)) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("deep/junit.xml");
    let mut options = JunitOptions::new(path.to_str().expect("a UTF-8 path"));
    change(&mut options);
    feed(&mut Junit::new(options), events, outputs);
    std::fs::read_to_string(path).expect("the report was written")
}

#[test]
fn a_test_that_escaped_its_limits_says_how_and_is_no_leak() {
    let escaped = |limit| Attempt {
        limits: vec![limit],
        ..attempt(1, Outcome::Exited(Exit::Code(0)), Verdict::Fail)
    };
    let left = LimitHit::LeftCgroup {
        pid: 7,
        found: "/elsewhere".to_owned(),
    };
    let opened = LimitHit::CgroupOpened {
        pid: 7,
        file: "/cg/cgroup.procs".to_owned(),
    };
    let changed = LimitHit::LimitChanged {
        kind: LimitKind::Pids,
        file: "pids.max".to_owned(),
        wanted: "20".to_owned(),
        found: Some("max".to_owned()),
    };
    let events = run(vec![
        (test("leaves"), vec![escaped(left)]),
        (test("opens"), vec![escaped(opened)]),
        (test("raises"), vec![escaped(changed)]),
    ]);
    let terminal = terminal(TerminalOptions::default(), &events, &Memory::default());
    let junit = junit(&events, &Memory::default(), |_| {});
    for told in [&terminal, &junit] {
        for sentence in [
            "test left its cgroup, so its limits did not hold: a process was in `/elsewhere`",
            "test opened `/cg/cgroup.procs` for writing, so its limits may not have held",
            "test changed its pids-max: `pids.max` was 20 and is now max",
        ] {
            assert!(told.contains(sentence), "{told}");
        }
    }
    assert!(terminal.contains("     ESCAPED ["), "{terminal}");
    assert!(
        terminal.contains("0 passed, 3 failed, 0 skipped"),
        "{terminal}"
    );
    assert_eq!(junit.matches("type=\"test limit\"").count(), 3);
}

#[test]
fn a_test_that_ran_elsewhere_says_where() {
    let far = |attempt: Attempt, worker: &str| Attempt {
        remote: Some(Box::new(Remote {
            engine: "grpc://far:8980".to_owned(),
            worker: worker.to_owned(),
            queue: Duration::from_millis(1500),
            ..Remote::default()
        })),
        ..attempt
    };
    let events = run(vec![
        (test("fails_there"), vec![far(code(1, 1), "w7")]),
        (test("passes_there"), vec![far(code(1, 0), "")]),
        (test("passes_here"), vec![code(1, 0)]),
    ]);
    let outputs = Memory::default();
    let shown = |verbosity| {
        let options = TerminalOptions {
            verbosity,
            ..TerminalOptions::default()
        };
        let text = terminal(options, &events, &outputs);
        text.matches("ran on grpc://far:8980").count()
    };
    assert_eq!((shown(0), shown(1)), (1, 2), "of a pass it is a detail");
    let text = terminal(TerminalOptions::default(), &events, &outputs);
    assert!(
        text.contains("\n             ran on grpc://far:8980, worker w7\n"),
        "{text}"
    );
    let junit = junit(&events, &outputs, |options| options.properties = true);
    for place in ["grpc://far:8980, worker w7", "grpc://far:8980"] {
        let property = format!("<property name=\"ran-on\" value=\"{place}\"/>");
        assert_eq!(junit.matches(&property).count(), 1, "{junit}");
    }
}

#[test]
fn the_terminal_tells_what_happened() {
    let (events, outputs) = mixed();
    let expected = expect![[r#"
        ────────────
                 Run 6f1ed002 with profile default, trace process
            Starting 6 tests across 1 binary
                PASS [   1.234s] (1/6) sample a::passes
                FAIL [   1.234s] (2/6) sample a::fails
          failure ───
            thread 'a::fails' (7) panicked at src/a.rs:3:5:
            boom
          stderr ───
            noise

          TRY 1 FAIL [   1.234s] (───) sample a::flaky
          failure ───
            Error: first
          stdout ───
            out

            (test failed with exit code 1)

          TRY 2 PASS [   1.234s] (3/6) sample a::flaky
             SIGABRT [   1.234s] (4/6) sample a::aborts
          stderr ───
            bye

            (test aborted with signal 6: SIGABRT)

                LEAK [   1.234s] (5/6) sample a::leaks
                     left behind: pid 77 `sleep 30`, killed 0.200s after the test's end
             TIMEOUT [   1.234s] (6/6) sample a::hangs\n

            (test timed out and could not be killed)

        ────────────
             Summary [   5.000s] 6 tests run: 3 passed (1 flaky, 1 leaky), 2 failed, 1 timed out, 0 skipped
           FLAKY 2/2 [   1.234s] (3/6) sample a::flaky
                FAIL [   1.234s] (2/6) sample a::fails
                     src/a.rs:3: boom
             SIGABRT [   1.234s] (4/6) sample a::aborts
                     src/lib.rs:7: test aborted with signal 6: SIGABRT
             TIMEOUT [   1.234s] (6/6) sample a::hangs\n
                     src/lib.rs:7: test timed out and could not be killed
    "#]];
    expected.assert_eq(&terminal(TerminalOptions::default(), &events, &outputs));
}

/// A test that failed because it could not bind, with a trace that says so.
fn with_trace() -> Vec<Event> {
    let mut summary = trace();
    summary.doubts.push(Doubt::IoUring);
    summary.failures.push(Failure {
        at: Duration::ZERO,
        pid: 42,
        call: "bind".to_owned(),
        operation: Some(Operation::Network(NetworkOperation::Bind)),
        target: "127.0.0.1:80".into(),
        errno: libc::EADDRINUSE,
    });
    let failed = Attempt {
        trace: Some(Box::new(summary)),
        ..code(1, 1)
    };
    run(vec![(test("a::binds"), vec![failed])])
}

#[test]
fn the_terminal_tells_what_the_trace_says_of_a_failure() {
    let mut events = with_trace();
    for event in &mut events {
        if let EventKind::TestFinished(finished) = &mut event.kind {
            finished.output.failure = OutputWhen::ImmediateFinal;
        }
    }
    let shown = terminal(TerminalOptions::default(), &events, &Memory::default());
    let block = "  trace ───\n    another process: bind 127.0.0.1:80: Address already in use \
                 (EADDRINUSE)\n    more: cargo harness trace sample a::binds\n";
    assert_eq!(shown.matches(block).count(), 2, "{shown}");
}

#[test]
fn the_junit_report_tells_what_the_trace_says_of_a_failure() {
    let report = junit(&with_trace(), &Memory::default(), |options| {
        options.properties = true;
    });
    for expected in [
        "trace: another process: bind 127.0.0.1:80: Address already in use (EADDRINUSE)\n",
        "<property name=\"trace-level\" value=\"io\"/>",
        "<property name=\"trace-backend\" value=\"ptrace\"/>",
        "<property name=\"trace\" value=\"incomplete: io_uring was used",
        "<property name=\"processes\" value=\"0\"/>",
    ] {
        assert!(report.contains(expected), "no {expected:?} in {report}");
    }
}

#[test]
fn a_live_trace_is_for_the_terminal_only() {
    let seen = Event {
        at: Duration::ZERO,
        kind: EventKind::AttemptTraced {
            test: test("a::b"),
            attempt: 2,
            events: vec![TraceEvent {
                at: Duration::from_millis(1),
                pid: 7,
                tid: 7,
                kind: TraceEventKind::ThreadEnded,
            }],
            dropped: 3,
        },
    };
    let outputs = Memory::default();
    assert_eq!(
        terminal(
            TerminalOptions::default(),
            std::slice::from_ref(&seen),
            &outputs
        ),
        "sample a::b (try 2): 3 events came too fast to be shown\n\
         sample a::b (try 2): 0.001000 7 +++ thread ended +++\n"
    );
    let mut json = JsonLines::new(Vec::new(), "a file", EmbeddedOutput::None);
    feed(&mut json, &[seen], &outputs);
    assert_eq!(json.into_inner(), b"");
}

#[test]
fn live_output_has_its_test_in_each_line_and_is_for_the_terminal_only() {
    let printed = |stream, lines: &[&str], unfinished, dropped| Event {
        at: Duration::ZERO,
        kind: EventKind::AttemptPrinted(Box::new(AttemptPrinted {
            test: test("a::b"),
            attempt: 1,
            slot: 0,
            stream,
            lines: lines.iter().map(|line| RawString::from(*line)).collect(),
            unfinished,
            dropped,
        })),
    };
    let events = [
        printed(OutputStream::Stdout, &["one", "", "\x1b[31mred"], false, 0),
        // The color of the line before is still on, as on a terminal, and the screen is not cleared.
        printed(OutputStream::Stdout, &["still\x1b[2J"], false, 0),
        printed(OutputStream::Stderr, &["50 %\r100 %", "end"], true, 7),
    ];
    let outputs = Memory::default();
    let plain = terminal(TerminalOptions::default(), &events, &outputs);
    assert_eq!(
        plain,
        "sample a::b | one\n\
         sample a::b |\n\
         sample a::b | red\n\
         sample a::b | still\n\
         sample a::b ! 7 lines came too fast to be shown\n\
         sample a::b ! 50 %\n\
         sample a::b ! 100 %\n\
         sample a::b ! end (no end of line)\n"
    );
    let colors = TerminalOptions {
        colors: true,
        ..TerminalOptions::default()
    };
    let colored = terminal(colors, &events, &outputs);
    let first = "\u{1b}[36msample a::b |\u{1b}[0m one\n";
    assert!(colored.starts_with(first), "{colored:?}");
    assert!(
        colored.contains("\u{1b}[31mstill\u{1b}[0m\n"),
        "{colored:?}"
    );
    let mut json = JsonLines::new(Vec::new(), "a file", EmbeddedOutput::None);
    feed(&mut json, &events, &outputs);
    assert_eq!(json.into_inner(), b"");
}

#[test]
fn the_final_list_says_that_a_test_was_slow() {
    let slow = |attempt| Attempt {
        slow: true,
        ..attempt
    };
    let timed_out = Outcome::TimedOut {
        exit: Some(Exit::Code(0)),
    };
    let events = run(vec![
        (test("passes"), vec![slow(code(1, 0))]),
        (test("fails"), vec![slow(code(1, 1))]),
        (
            test("runs_out"),
            vec![slow(attempt(1, timed_out, Verdict::Pass))],
        ),
    ]);
    let options = TerminalOptions {
        final_status_level: FinalStatusLevel::All,
        status_level: StatusLevel::None,
        ..Default::default()
    };
    let text = terminal(options, &events, &Memory::default());
    let ending: Vec<_> = text
        .lines()
        .map(str::trim_start)
        .skip_while(|line| !line.starts_with("Summary"))
        .collect();
    expect![[r#"
        Summary [   5.000s] 3 tests run: 2 passed (1 slow), 1 failed, 0 skipped
        SLOW [   1.234s] (1/3) sample passes
        SLOW+TMPASS [   1.234s] (3/3) sample runs_out
        FAIL [   1.234s] (2/3) sample fails
        src/lib.rs:7: test failed with exit code 1"#]]
    .assert_eq(&ending.join("\n"));
}

#[test]
fn skipped_tests_are_in_the_report_if_they_are_to_be_reported() {
    let (mut events, outputs) = mixed();
    let skipped = |name, reported| Event {
        at: Duration::ZERO,
        kind: EventKind::TestSkipped {
            test: test(name),
            reason: MismatchReason::Ignored,
            reported,
            ignore_reason: reported.then(|| "needs <a> disk".to_owned()),
            location: None,
        },
    };
    events.splice(1..1, [skipped("told", true), skipped("untold", false)]);
    let report = junit(&events, &outputs, |_| ());
    Report::deserialize_from_str(&report).expect("well-formed");
    assert!(report.contains("<testcase name=\"told\""), "{report}");
    assert!(
        report.contains("<skipped message=\"ignored: needs &lt;a> disk\"")
            || report.contains("<skipped message=\"ignored: needs &lt;a&gt; disk\""),
        "{report}"
    );
    assert!(!report.contains("untold"), "{report}");
}

#[test]
fn output_that_is_too_long_for_the_junit_report_lies_beside_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("junit.xml");
    let long = "line\n".repeat(1000);
    let mut outputs = Memory::default();
    outputs.put(&test("long"), 1, b"short", long.as_bytes());
    outputs.put(&test("short"), 1, b"short", b"short");
    let failed = |name| (test(name), vec![code(1, 101)]);
    let mut events = run(vec![failed("long"), failed("short")]);
    if let EventKind::RunStarted(run) = &mut events[0].kind {
        let root = directory.path().canonicalize().expect("it is there");
        run.workspace_root = root.to_str().expect("it is UTF-8").to_owned();
    }
    let report = |attachments| {
        let mut options = JunitOptions::new(path.to_str().expect("a UTF-8 path"));
        (options.stream_cap, options.attachments) = (1000, attachments);
        feed(&mut Junit::new(options), &events, &outputs);
        std::fs::read_to_string(&path).expect("it is there")
    };
    let folder = directory.path().join("junit.xml.files");
    assert!(!report(false).contains("ATTACHMENT"));
    assert!(!folder.exists());

    let report = report(true);
    let mut attached = report.split("[[ATTACHMENT|").skip(1);
    let name = attached.next().and_then(|rest| rest.split("]]").next());
    assert_eq!(attached.next(), None, "only one stream is long: {report}");
    let file = directory.path().join(name.expect("it has one"));
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), long);
    assert_eq!(folder.read_dir().expect("it is there").count(), 1);
}

#[test]
fn a_report_that_is_closed_early_holds_what_is_known() {
    let (events, outputs) = mixed();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("junit.xml");
    let options = JunitOptions::new(path.to_str().expect("a UTF-8 path"));
    let mut sink = Junit::new(options);
    feed(&mut sink, &events[..3], &outputs);
    sink.close().expect("the folder can be written");
    let report = std::fs::read_to_string(path).expect("the report was written");
    let report = Report::deserialize_from_str(&report).expect("well-formed");
    assert_eq!(report.name.as_deref(), Some("harness-run (incomplete)"));
    // The last one says that the run did not end.
    assert_eq!((report.tests, report.errors), (2, 1));
}

/// Returns the names of the test cases of a report, and checks that its counts are right.
fn names(report: &str) -> Vec<String> {
    let parsed = Report::deserialize_from_str(report).expect("well-formed");
    let counted = |tag: &str| report.matches(tag).count();
    assert_eq!(parsed.tests, counted("<testcase "), "{report}");
    assert_eq!(parsed.failures, counted("<failure "), "{report}");
    assert_eq!(parsed.errors, counted("<error "), "{report}");
    let mut names = Vec::new();
    for suite in &parsed.test_suites {
        assert_eq!(suite.tests, suite.test_cases.len(), "{report}");
        names.extend(suite.test_cases.iter().map(|case| case.name.to_string()));
    }
    names
}

#[test]
fn the_junit_report_holds_every_result_as_soon_as_it_is_known() {
    let (mut events, outputs) = mixed();
    for event in &mut events {
        // Two binaries, whose tests take turns.
        if let EventKind::TestFinished(test) = &mut event.kind
            && ["a::fails", "a::aborts", "a::leaks"].contains(&test.test.name.as_str())
        {
            test.test.binary = "other".into();
        }
    }
    for at_once in 1..=events.len() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("junit.xml");
        std::fs::write(&path, "an older one").expect("the folder can be written");
        let mut options = JunitOptions::new(path.to_str().expect("a UTF-8 path"));
        options.properties = true;
        let mut sink = Junit::new(options);
        let mut expected = Vec::new();
        // The first event makes the file.
        let (first, rest) = events.split_at(1);
        for events in std::iter::once(first).chain(rest.chunks(at_once)) {
            for event in events {
                sink.handle(event, &outputs).expect("there is room");
                let report = std::fs::read_to_string(&path).expect("it is there at every moment");
                names(&report);
                if let EventKind::TestFinished(test) = &event.kind {
                    expected.push(test.test.name.as_str().replace('\n', "\\n"));
                }
            }
            sink.flush().expect("there is room");
            let report = std::fs::read_to_string(&path).expect("it is there at every moment");
            let mut names = names(&report);
            let is_over = |event: &Event| matches!(event.kind, EventKind::RunFinished(_));
            if events.iter().any(is_over) {
                names.sort();
                expected.sort();
            } else {
                assert_eq!(names.pop().as_deref(), Some("the run did not end"));
            }
            assert_eq!(names, expected);
        }
        let files = std::fs::read_dir(directory.path()).expect("it is there");
        assert_eq!(files.count(), 1, "nothing is left beside the report");
    }
}

#[test]
fn a_report_that_somebody_else_has_replaced_is_theirs_until_the_run_ends() {
    let (events, outputs) = mixed();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("junit.xml");
    let mut sink = Junit::new(JunitOptions::new(path.to_str().expect("a UTF-8 path")));
    let (beginning, rest) = events.split_at(5);
    feed(&mut sink, beginning, &outputs);
    std::fs::remove_file(&path).expect("it is there");
    std::fs::write(&path, "theirs").expect("the folder can be written");
    let (end, rest) = rest.split_last().expect("there are more");
    feed(&mut sink, rest, &outputs);
    let read = || std::fs::read_to_string(&path).expect("it is there");
    assert_eq!(read(), "theirs");
    feed(&mut sink, std::slice::from_ref(end), &outputs);
    assert_eq!(names(&read()).len(), 6);
}

#[test]
fn what_a_killed_run_has_left_beside_the_report_is_removed_by_the_next() {
    let (events, outputs) = mixed();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("junit.xml");
    let left = directory.path().join(".junit.xml-abc.interim");
    let unrelated = directory.path().join(".junit.xml-abc");
    for file in [&left, &unrelated] {
        std::fs::write(file, "").expect("the folder can be written");
    }
    let mut sink = Junit::new(JunitOptions::new(path.to_str().expect("a UTF-8 path")));
    let mut other = Junit::new(JunitOptions::new(path.to_str().expect("a UTF-8 path")));
    feed(&mut sink, &events[..3], &outputs);
    assert!(!left.exists() && unrelated.exists());
    // That of a run in progress stays.
    feed(&mut other, &events[..3], &outputs);
    let files = std::fs::read_dir(directory.path()).expect("it is there");
    assert_eq!(files.count(), 4);
}

#[test]
fn the_junit_report_has_one_verdict_a_test() {
    let (events, outputs) = mixed();
    let report = junit(&events, &outputs, |_| ());
    Report::deserialize_from_str(&report).expect("well-formed");
    expect![[r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="harness-run" tests="6" skipped="0" failures="3" errors="0" uuid="6f1ed002-ab59-4f6f-b8a1-6d2f3e1d9c11" timestamp="2023-11-14T22:13:20.000+00:00" time="5.000">
            <testsuite name="sample" tests="6" skipped="0" errors="0" failures="3" timestamp="2023-11-14T22:13:20.000+00:00" time="1.234" hostname="localhost">
                <testcase name="a::passes" classname="sample" timestamp="2023-11-14T22:13:20.000+00:00" time="1.234" file="src/lib.rs" line="7"/>
                <testcase name="a::fails" classname="sample" timestamp="2023-11-14T22:13:20.000+00:00" time="1.234" file="src/lib.rs" line="7">
                    <failure message="boom" type="test failure with exit code 101">boom
        thread 'a::fails' panicked at src/a.rs:3:5:
        boom</failure>
                    <system-out></system-out>
                    <system-err>noise
        thread 'a::fails' panicked at src/a.rs:3:5:
        boom
        </system-err>
                </testcase>
                <testcase name="a::flaky" classname="sample" timestamp="2023-11-14T22:13:20.000+00:00" time="1.234" file="src/lib.rs" line="7">
                    <flakyFailure timestamp="2023-11-14T22:13:20.000+00:00" time="1.234" message="Error: first" type="test failure with exit code 1">
                        <stackTrace>Error: first</stackTrace>
                        <system-out>out
        </system-out>
                        <system-err>Error: first
        </system-err>
                    </flakyFailure>
                </testcase>
                <testcase name="a::aborts" classname="sample" timestamp="2023-11-14T22:13:20.000+00:00" time="1.234" file="src/lib.rs" line="7">
                    <failure message="test aborted with signal 6: SIGABRT" type="test abort">test aborted with signal 6: SIGABRT</failure>
                    <system-out></system-out>
                    <system-err>bye
        </system-err>
                </testcase>
                <testcase name="a::leaks" classname="sample" timestamp="2023-11-14T22:13:20.000+00:00" time="1.234" file="src/lib.rs" line="7"/>
                <testcase name="a::hangs\n" classname="sample" timestamp="2023-11-14T22:13:20.000+00:00" time="1.234" file="src/lib.rs" line="7">
                    <failure message="test timed out and could not be killed" type="test timeout">test timed out and could not be killed</failure>
                    <system-out>(stdout not captured)</system-out>
                    <system-err>(stderr not captured)</system-err>
                </testcase>
            </testsuite>
        </testsuites>
    "#]].assert_eq(&report);
}

#[test]
fn the_same_events_make_the_same_bytes() {
    let (events, outputs) = mixed();
    for progress in [ProgressMode::Counter, ProgressMode::Bar] {
        let options = TerminalOptions {
            progress,
            colors: true,
            durations: 3,
            ..Default::default()
        };
        let once = terminal(options.clone(), &events, &outputs);
        assert_eq!(once, terminal(options, &events, &outputs));
    }
    let once = junit(&events, &outputs, |_| ());
    assert_eq!(once, junit(&events, &outputs, |_| ()));
}

#[test]
fn each_line_of_json_parses_back_into_its_event() {
    let (events, outputs) = mixed();
    let mut sink = JsonLines::new(Vec::new(), "memory", EmbeddedOutput::Failures { cap: 1000 });
    feed(&mut sink, &events, &outputs);
    let text = String::from_utf8(sink.into_inner()).expect("JSON is UTF-8");
    let parsed: Vec<Event> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("an event"))
        .collect();
    assert_eq!(parsed, events);
    assert!(text.contains("\"stdout\":\"out\\n\""));
    for (number, line) in text.lines().enumerate() {
        let line: serde_json::Value = serde_json::from_str(line).expect("it is JSON");
        assert_eq!(line["seq"], number);
    }
}

#[test]
fn a_line_of_a_failed_attempt_has_its_reason_and_place() {
    use crate::report::sample;
    let (fails, flaky) = (sample::test("fails"), sample::test("flaky"));
    let mut outputs = sample::Memory::default();
    let panicked = "thread 'T' (7) panicked at src/lib.rs:3:5:\nit broke\n  as a whole\n";
    for test in [&fails, &flaky] {
        let stderr = panicked.replace('T', test.name.as_str());
        outputs.put(test, 1, b"", stderr.as_bytes());
    }
    let events = sample::run(vec![
        (fails, vec![sample::code(1, 101)]),
        (flaky, vec![sample::code(1, 101), sample::code(2, 0)]),
        (sample::test("dies"), vec![sample::signal(11)]),
        (sample::test("passes"), vec![sample::code(1, 0)]),
    ]);
    let mut sink = JsonLines::new(Vec::new(), "memory", EmbeddedOutput::None);
    feed(&mut sink, &events, &outputs);
    let text = String::from_utf8(sink.into_inner()).expect("JSON is UTF-8");
    let lines = text.lines().map(serde_json::from_str);
    let lines: Vec<serde_json::Value> = lines.collect::<Result<_, _>>().expect("it is JSON");
    let failures = lines.iter().filter_map(|line| {
        let failure = line.get("failure")?;
        let event = line["event"].as_str().expect("it has one");
        Some(format!("{event} {failure}"))
    });
    let broke = r#"{"file":"src/lib.rs","line":3,"message":"it broke"}"#;
    assert_eq!(
        failures.collect::<Vec<_>>(),
        [
            format!("test-finished {broke}"),
            format!("attempt-failed {broke}"),
            "test-finished {\"file\":\"src/lib.rs\",\"line\":7,\
             \"message\":\"test aborted with signal 11: SIGSEGV\"}"
                .to_owned(),
        ]
    );
}

#[test]
fn a_plain_report_has_nothing_that_strict_schemas_reject() {
    let (events, outputs) = mixed();
    let report = junit(&events, &outputs, |options| {
        options.schema = Schema::Junit10;
        options.properties = true;
    });
    let root = report.lines().nth(1).unwrap_or_default();
    assert!(!root.contains("skipped") && !root.contains("uuid") && !root.contains("timestamp"));
    for line in report
        .lines()
        .filter(|line| line.contains("<testcase") || line.contains("<flaky"))
    {
        assert!(
            !line.contains("timestamp=") && !line.contains("file="),
            "{line}"
        );
    }
    assert!(!report.contains("<propert"));
}

#[test]
fn an_unfinished_report_says_so() {
    let (events, outputs) = mixed();
    let report = junit(&events[..5], &outputs, |_| ());
    let report = Report::deserialize_from_str(&report).expect("well-formed");
    assert_eq!(report.name.as_deref(), Some("harness-run (incomplete)"));
    assert_eq!(report.tests, 3, "the third says that the run did not end");
}

#[test]
fn output_beyond_the_cap_leaves_a_stated_gap() {
    let mut outputs = Memory::default();
    outputs.put(&test("t"), 1, &[b'x'; 5000], b"");
    let events = run(vec![(test("t"), vec![code(1, 1)])]);
    let report = junit(&events, &outputs, |options| options.stream_cap = 1000);
    assert!(report.contains("… 3.9 KiB left out …"), "{report}");
    assert!(report.len() < 3000);
}

#[test]
fn what_was_dropped_and_what_is_cut_add_up_to_one_gap() {
    let kept = |head: &'static [u8], tail: &'static [u8]| Kept {
        head: Box::new(head),
        dropped: 100,
        tail: Box::new(tail),
    };
    let all = kept(b"abcdef", b"uvwxyz").read_capped(12).expect("memory");
    assert_eq!(
        (&all.head[..], all.left_out, &all.tail[..]),
        (&b"abcdef"[..], 100, &b"uvwxyz"[..])
    );
    let cut = kept(b"abcdef", b"uvwxyz").read_capped(4).expect("memory");
    assert_eq!(
        (&cut.head[..], cut.left_out, &cut.tail[..]),
        (&b"ab"[..], 108, &b"yz"[..])
    );
}

#[test]
fn tests_that_never_ran_are_skipped_in_the_report_and_warned_of() {
    let (mut events, outputs) = mixed();
    if let Some(EventKind::RunFinished(run)) = events.last_mut().map(|event| &mut event.kind) {
        run.cancelled = Some(CancelReason::TestFailure);
        run.not_run = vec![test("z")];
        run.stats.selected += 1;
    }
    let report = junit(&events, &outputs, |_| ());
    assert!(
        report.contains("<skipped message=\"not run: test failure\"/>"),
        "{report}"
    );
    let text = terminal(TerminalOptions::default(), &events, &outputs);
    assert!(
        text.contains("warning: 1/7 tests were not run due to test failure"),
        "{text}"
    );
}

#[test]
fn a_closed_pipe_is_an_error_that_names_itself() {
    struct Closed;
    impl io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (events, outputs) = mixed();
    let mut sink = Terminal::new(Closed, TerminalOptions::default());
    sink.handle(&events[0], &outputs)
        .expect("nothing is written yet");
    let error = sink.flush().expect_err("the pipe is closed");
    assert_eq!(error.to_string(), "failed to write to standard error");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_was_printed_the_reports_are_well_formed(
        name in any::<String>(),
        stdout in proptest::collection::vec(any::<u8>(), 0..200),
        stderr in any::<String>(),
        cap in 1_usize..100,
    ) {
        let stderr = format!("{stderr}]]>\u{1b}[3\nthread 'x' panicked at {name}:1:2:\n\u{fffe}");
        let test = test(&name);
        let mut outputs = Memory::default();
        outputs.put(&test, 1, &stdout, stderr.as_bytes());
        outputs.put(&test, 2, stderr.as_bytes(), &stdout);
        let events = run(vec![(test, vec![code(1, 101), code(2, 3)])]);
        let report = junit(&events, &outputs, |options| {
            options.stream_cap = cap;
            options.properties = true;
        });
        let report = Report::deserialize_from_str(&report).expect("well-formed");
        prop_assert_eq!(report.tests, 1);
        for progress in [ProgressMode::Counter, ProgressMode::Bar] {
            for colors in [false, true] {
                let size = Some((cap as u16, 3));
                let options = TerminalOptions { progress, colors, size, ..Default::default() };
                feed(&mut Terminal::new(io::sink(), options), &events, &outputs);
            }
        }
    }
}

#[test]
fn what_came_first_stands_in_the_line_of_a_test_that_was_run_again() {
    use harness_metadata::{
        Exit, Outcome, Verdict,
        event::TraceLevel,
        trace::{Backend, Disturbance, Doubt, EarlierTime},
    };
    let first = |backend, disturbances| EarlierTime {
        level: TraceLevel::Io,
        backend,
        outcome: Outcome::Exited(Exit::Code(101)),
        verdict: Verdict::Fail,
        elapsed: Duration::from_millis(3),
        disturbances,
    };
    let mut attempt = super::sample::code(1, 0);
    assert_eq!(super::wording::disturbed(&attempt), None);
    attempt.earlier = vec![
        first(Backend::Ptrace, vec![Disturbance::PtraceRefused]),
        first(Backend::Notify, vec![Disturbance::ListenerRefused]),
    ];
    assert_eq!(
        super::wording::disturbed(&attempt).unwrap(),
        "failed first under ptrace, failed under notify, run again without a trace: ptrace was refused, \
         because the tracer had the process already; a seccomp listener was refused, because the tracer \
         was the listener already"
    );
    let mut disturbed = super::sample::code(1, 0);
    disturbed.trace = Some(Box::new(harness_metadata::TraceSummary {
        doubts: vec![Doubt::Disturbed(Disturbance::SeccompAsked)],
        ..super::sample::trace()
    }));
    assert_eq!(
        super::wording::disturbed(&disturbed).unwrap(),
        "disturbed by the tracer, and not run again: it asked for its seccomp mode, which the tracer's \
         filter changes"
    );
}
