//! Runs on terminals of several sizes.

use super::*;
use harness_metadata::event::RunStarted;
use unicode_width::UnicodeWidthStr;

/// Returns the options of a terminal of this size, without a bar.
fn fitted(size: (u16, u16)) -> TerminalOptions {
    TerminalOptions {
        fitted: true,
        size: Some(size),
        progress: ProgressMode::None,
        ..Default::default()
    }
}

/// Returns the lines from the summary on.
fn end(shown: &str) -> Vec<&str> {
    let lines = shown.lines();
    lines
        .skip_while(|line| !line.contains("Summary ["))
        .collect()
}

fn with_command_line(mut events: Vec<Event>, line: &[&str]) -> Vec<Event> {
    for event in &mut events {
        if let EventKind::RunStarted(run) = &mut event.kind {
            let RunStarted { command_line, .. } = &mut **run;
            *command_line = line.iter().map(ToString::to_string).collect();
        }
    }
    events
}

/// Returns the lines with a bar before each, so that an expectation has their indent.
fn barred(lines: &[&str]) -> String {
    let lines = lines
        .iter()
        .map(|line| format!("|{line}").trim_end().to_owned() + "\n");
    lines.collect()
}

/// As many tests as wanted that fail, with long names.
fn failing(count: usize) -> (Vec<Event>, Memory) {
    let mut outputs = Memory::default();
    let mut tests = Vec::new();
    for nth in 0..count {
        let id = test(&format!("module::of_many_tests::test_number_{nth}_fails"));
        let stderr = format!(
            "thread 'x' (7) panicked at src/deep/module.rs:{nth}:5:\nthe answer was {nth}, which is wrong in many ways\n"
        );
        outputs.put(&id, 1, b"", stderr.as_bytes());
        tests.push((id, vec![code(1, 101)]));
    }
    let line = ["cargo-harness", "harness", "run", "--release"];
    (with_command_line(run(tests), &line), outputs)
}

#[test]
fn the_end_of_a_failing_run_has_a_line_for_each_failure_and_the_command() {
    let (events, outputs) = failing(2);
    let shown = terminal(fitted((80, 24)), &events, &outputs);
    expect![[r#"
        |     Summary [   5.000s] 2 tests run: 0 passed, 2 failed, 0 skipped
        |        FAIL sample…umber_0_fails  …c/deep/module.rs:0  the answer was 0, which…
        |        FAIL sample…umber_1_fails  …c/deep/module.rs:1  the answer was 1, which…
        |   Run again cargo harness run --last-failed --release
    "#]]
    .assert_eq(&barred(&end(&shown)));
    let wide = terminal(fitted((200, 60)), &events, &outputs);
    let line = "        FAIL sample module::of_many_tests::test_number_0_fails  src/deep/module.rs:0  the answer \
                was 0, which is wrong in many ways";
    assert!(end(&wide).contains(&line), "{wide}");
    let narrow = terminal(fitted((40, 10)), &events, &outputs);
    expect![[r#"
        |FAIL sample…umber_0_fails  …module.rs:0
        |FAIL sample…umber_1_fails  …module.rs:1
    "#]]
    .assert_eq(&barred(&end(&narrow)[1..3]));
}

#[test]
fn a_failing_run_of_any_size_ends_within_a_screen() {
    for count in [1, 5, 10_000] {
        let (events, outputs) = failing(count);
        for (columns, rows) in [(40, 10), (80, 24), (132, 43), (250, 70), (20, 8)] {
            let shown = terminal(fitted((columns, rows)), &events, &outputs);
            let end = end(&shown);
            let room = usize::from(rows).max(8);
            assert!(end.len() < room, "{columns}×{rows}: {}", end.join("\n"));
            for line in end.iter().filter(|line| line.contains("FAIL ")) {
                assert!(
                    line.width() <= usize::from(columns).max(22),
                    "{columns}: {line}"
                );
            }
            let unlisted = end.iter().any(|line| line.contains("… and "));
            assert_eq!(
                unlisted,
                count == 10_000 || (count == 5 && rows <= 10),
                "{}",
                end.join("\n")
            );
        }
    }
}

#[test]
fn the_evidence_of_a_trace_has_a_line_at_the_end() {
    let events = with_command_line(with_trace(), &["cargo-harness", "run"]);
    let shown = terminal(fitted((80, 24)), &events, &Memory::default());
    let evidence =
        "             another process: bind ….0.1:80: Address already in use (EADDRINUSE)";
    let end = end(&shown);
    assert_eq!(end[2], evidence, "{shown}");
    assert_eq!(end[3], "     Explain cargo harness explain");
    assert_eq!(end[4], "   Run again cargo harness run --last-failed");
}

#[test]
fn what_has_passed_scrolls_only_if_it_fits_or_is_asked_for() {
    let tests = |count| {
        let tests = (0..count).map(|nth| (test(&format!("test_{nth}")), vec![code(1, 0)]));
        run(tests.collect())
    };
    let shown = |count, brief| {
        let options = TerminalOptions {
            brief,
            progress: ProgressMode::Bar,
            ..fitted((80, 24))
        };
        terminal(options, &tests(count), &Memory::default())
            .matches("PASS [")
            .count()
    };
    assert_eq!(shown(10, true), 10);
    assert_eq!(shown(100, true), 0);
    assert_eq!(shown(100, false), 100);
}

#[test]
fn a_name_of_wide_or_right_to_left_characters_takes_one_row() {
    let names = [
        "測試::".repeat(20),
        "בדיקה::".repeat(20),
        "a\u{301}".repeat(90),
    ];
    let tests = names.iter().map(|name| (test(name), vec![code(1, 0)]));
    let shown = terminal(fitted((80, 24)), &run(tests.collect()), &Memory::default());
    let lines: Vec<_> = shown
        .lines()
        .filter(|line| line.contains("PASS ["))
        .collect();
    assert_eq!(lines.len(), 3);
    for line in lines {
        assert!(line.width() <= 80 && line.width() > 70, "{line}");
        assert!(line.contains('…'), "{line}");
    }
}

/// A test of the standard harness that prints, whose worker panics, and that panics itself.
fn of_libtest() -> (Vec<Event>, Memory) {
    let mut outputs = Memory::default();
    let stdout = "\nrunning 1 test\nloading\ntest a::b ... FAILED\n\nfailures:\n\nfailures:\n    a::b\n\ntest result: \
                  FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.00s\n\n";
    let stderr = "noise\n\nthread 'worker' (8) panicked at src/w.rs:1:2:\nthe queue was empty\n\nthread 'a::b' (7) \
                  panicked at src/a.rs:3:5:\nassertion `left == right` failed\n  left: \"one\\ntwo\\nthree\"\n right: \
                  \"one\\ntoo\\nthree\"\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
    outputs.put(&test("a::b"), 1, stdout.as_bytes(), stderr.as_bytes());
    (run(vec![(test("a::b"), vec![code(1, 101)])]), outputs)
}

#[test]
fn the_failure_comes_first_and_the_words_of_the_harness_do_not_come() {
    let (events, outputs) = of_libtest();
    let shown = terminal(TerminalOptions::default(), &events, &outputs);
    let block: Vec<_> = shown
        .lines()
        .skip_while(|line| !line.contains("FAIL ["))
        .skip(1)
        .collect();
    let block: Vec<_> = block
        .into_iter()
        .take_while(|line| !line.starts_with('─'))
        .collect();
    expect![[r#"
        |  failure ───
        |    thread 'a::b' (7) panicked at src/a.rs:3:5:
        |    assertion `left == right` failed
        |      left: "one\ntwo\nthree"
        |     right: "one\ntoo\nthree"
        |    difference (- left, + right):
        |      one
        |    - two
        |    + too
        |       ^
        |      three
        |    note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
        |    before it, thread `worker` panicked at src/w.rs:1:2: the queue was empty
        |  stdout ───
        |    loading
        |  stderr ───
        |    noise
        |
        |    thread 'worker' (8) panicked at src/w.rs:1:2:
        |    the queue was empty
        |
    "#]]
    .assert_eq(&barred(&block));
}

#[test]
fn with_v_the_streams_are_as_they_were() {
    let (events, outputs) = of_libtest();
    let options = TerminalOptions {
        verbosity: 1,
        ..Default::default()
    };
    let shown = terminal(options, &events, &outputs);
    for line in [
        "    running 1 test",
        "    failures:",
        "        a::b",
        "    noise",
    ] {
        assert!(
            shown.lines().any(|shown| shown == line),
            "no `{line}` in {shown}"
        );
    }
    assert!(!shown.contains("failure ───"), "{shown}");
}
