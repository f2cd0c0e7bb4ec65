use super::*;
use proptest::prelude::*;

const PASSED: &str = "\nrunning 1 test\ntest a::b ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; \
                      0 measured; 5 filtered out; finished in 0.00s\n\n";
const NONE: &str = "\nrunning 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 6 \
                    filtered out; finished in 0.00s\n\n";
const ALONE: Speaker = Speaker::Other { escaped: false };

fn kind_with(speaker: Speaker, args: &[&str], output: &[u8]) -> Option<NoResultKind> {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let mut word = Word::new(speaker, "a::b", &args);
    word.push(output);
    word.missing().map(|no| no.kind)
}

fn libtest(output: &str) -> Option<NoResultKind> {
    kind_with(Speaker::Libtest, &[], output.as_bytes())
}

fn other(output: &str) -> Option<NoResultKind> {
    kind_with(ALONE, &[], output.as_bytes())
}

#[test]
fn libtests_own_result_is_a_pass() {
    assert_eq!(libtest(PASSED), None);
    assert_eq!(
        libtest(&PASSED.replace("a::b", "a::b - should panic")),
        None
    );
    // Up to Rust 1.22 there is no count of what was filtered out.
    assert_eq!(
        libtest(&PASSED.replace("; 5 filtered out; finished in 0.00s", "")),
        None
    );
    let bench = PASSED
        .replace("ok\n\n", "bench:           1.66 ns/iter (+/- 0.57)\n\n")
        .replace(
            "1 passed; 0 failed; 0 ignored; 0",
            "0 passed; 0 failed; 0 ignored; 1",
        );
    assert_eq!(libtest(&bench), None);
    let colored = PASSED.replace("ok", "\x1b[32mok\x1b[0m");
    assert_eq!(libtest(&colored), None);
}

#[test]
fn what_the_test_prints_in_between_does_no_harm() {
    assert_eq!(libtest(&PASSED.replace("test a", "no newlinetest a")), None);
    assert_eq!(libtest(&PASSED.replace("... ok", "... noise\nok\n")), None);
    assert_eq!(
        libtest(&PASSED.replace("t: ok", "t: noise\nok\nnoise")),
        None
    );
    assert_eq!(libtest(&format!("{PASSED}late noise")), None);
    assert_eq!(libtest(&format!("{NONE}{PASSED}")), None);
}

#[test]
fn a_test_that_ends_its_process_has_no_result() {
    let unreported = Some(NoResultKind::Unreported);
    for output in [
        "",
        "\nrunning 1 test\n",
        "\nrunning 1 test\ntest a::b ... ",
        "\nrunning 1 test\ntest a::b ... ok\n",
        // Of another test, or of another run.
        "\nrunning 1 test\ntest c ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured",
        "\nrunning 1 test\ntest a::b ... ok\n\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured",
        "\nrunning 1 test\ntest a::b ... FAILED\n\ntest result: FAILED. 0 passed; 1 failed; 0 ignored",
    ] {
        assert_eq!(libtest(output), unreported, "{output}");
    }
    assert_eq!(libtest(NONE), Some(NoResultKind::RanNothing));
}

#[test]
fn every_format_of_libtest_is_understood() {
    let told = |args: &[&str], output: &str| kind_with(Speaker::Libtest, args, output.as_bytes());
    let terse = PASSED.replace("test a::b ... ok\n", ".");
    assert_eq!(told(&["-q"], &terse), None);
    assert_eq!(told(&["--format", "terse"], &terse), None);
    assert_eq!(told(&[], &terse), Some(NoResultKind::Unreported));
    let json = "{ \"type\": \"suite\", \"event\": \"ok\", \"passed\": 1, \"failed\": 0, \"ignored\": 0, \
                \"measured\": 0, \"filtered_out\": 6, \"exec_time\": 0.000098 }\n";
    assert_eq!(told(&["-Zunstable-options", "--format=json"], json), None);
    assert!(told(&["--format=json"], PASSED).is_some());
    let junit = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><testsuites><testsuite name=\"test\" \
                 package=\"test\" id=\"0\" errors=\"0\" failures=\"0\" tests=\"1\" skipped=\"0\" >";
    assert_eq!(told(&["--format=junit"], junit), None);
    assert_eq!(told(&["--format=json", "--format=pretty"], PASSED), None);
}

#[test]
fn another_harness_is_believed_unless_it_says_otherwise() {
    assert_eq!(other(""), None);
    assert_eq!(other("running \"plain\"\n"), None);
    assert_eq!(other(PASSED), None);
    assert_eq!(other("running 1 test\ntest x ... ok\n"), None);
    // Of a test run within the test.
    assert_eq!(other(&format!("starts\n{NONE}ends\n")), None);
}

#[test]
fn another_harness_that_ran_nothing_is_no_pass() {
    let nothing = Some(NoResultKind::RanNothing);
    assert_eq!(other(NONE), nothing);
    assert_eq!(other(&format!("loading\n{NONE}")), nothing);
    assert_eq!(other("running 0 tests\n"), nothing);
    assert_eq!(other("a: test\nb c: benchmark\n"), nothing);
    assert_eq!(other(&"a_test: test\n".repeat(5000)), nothing);
    let help = "USAGE: [OPTIONS] [FILTER]\n\nOptions:\n      --list\n";
    assert_eq!(other(help), nothing);
    assert_eq!(other(&help.replace("USAGE", "About\n\nUsage")), nothing);
    let json = "{ \"type\": \"suite\", \"event\": \"started\", \"test_count\": 0 }\n";
    assert_eq!(other(json), nothing);
    let json = "{ \"type\": \"suite\", \"event\": \"ok\", \"passed\": 0, \"failed\": 0, \"ignored\": 0, \
                \"measured\": 0, \"filtered_out\": 5, \"exec_time\": 0.001 }\n";
    assert_eq!(other(json), nothing);
    assert_eq!(other(&json.replace("\"passed\": 0", "\"passed\": 1")), None);
    let ignored = PASSED.replace("1 passed; 0 failed; 0", "0 passed; 0 failed; 1");
    assert_eq!(other(&ignored), Some(NoResultKind::Ignored));
    assert_eq!(
        other("running 1 test\nnoise"),
        Some(NoResultKind::Unreported)
    );
    let failed = PASSED.replace("ok. 1 passed; 0", "FAILED. 0 passed; 1");
    assert_eq!(other(&failed), Some(NoResultKind::Unreported));
}

#[test]
fn a_name_that_had_to_be_escaped_needs_a_word() {
    let escaped = Speaker::Other { escaped: true };
    assert_eq!(kind_with(escaped, &[], PASSED.as_bytes()), None);
    assert_eq!(
        kind_with(escaped, &[], b"done\n"),
        Some(NoResultKind::Unreported)
    );
}

#[test]
fn nothing_but_an_exit_with_0_needs_the_word() {
    let word = Word::new(Speaker::Libtest, "a::b", &[]);
    let failed = Outcome::Exited(Exit::Code(101));
    assert_eq!(judged(failed.clone(), Some(&word), true), failed);
    let passed = Outcome::Exited(Exit::Code(0));
    assert!(matches!(
        judged(passed.clone(), Some(&word), true),
        Outcome::NoResult(_)
    ));
    assert_eq!(judged(passed.clone(), Some(&word), false), passed);
    let mut nothing = Word::new(Speaker::Libtest, "a::b", &[]);
    nothing.push(NONE.as_bytes());
    assert!(matches!(
        judged(passed.clone(), Some(&nothing), false),
        Outcome::NoResult(_)
    ));
    assert_eq!(judged(passed.clone(), None, true), passed);
}

proptest! {
    /// Any output before, between and after, however it is cut: the pieces are found, and where one
    /// is missing there is no pass.
    #[test]
    fn the_word_is_found_in_hostile_output(
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 6),
        cuts in prop::collection::vec(1usize..40, 1..40),
        lost in prop::option::of(0usize..5),
        flood in any::<bool>(),
    ) {
        let pieces: [&[u8]; 5] = [
            b"test a::b",
            b" ... ",
            b"test result: ",
            b"ok",
            b". 1 passed; 0 failed; 0 ignored; 0 measured",
        ];
        let mut output = if flood { vec![b'x'; 3 * EDGE] } else { Vec::new() };
        for (at, piece) in pieces.iter().enumerate() {
            // Without a piece of the word in the noise itself.
            output.extend(noise[at].iter().filter(|byte| !b"tok. ".contains(byte)));
            if lost != Some(at) {
                output.extend_from_slice(piece);
            }
        }
        output.extend(&noise[5]);
        let mut word = Word::new(Speaker::Libtest, "a::b", &[]);
        let mut rest = &output[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(rest.len().min(*cut));
            word.push(now);
            rest = later;
        }
        // The noise at the end may hold a lost short piece, but never the last one after it.
        prop_assert_eq!(word.missing().is_none(), lost.is_none());
    }

    #[test]
    fn any_output_of_any_harness_is_judged(
        output in prop::collection::vec(any::<u8>(), 0..9000),
        escaped in any::<bool>(),
    ) {
        let mut word = Word::new(Speaker::Other { escaped }, "a::b", &[]);
        for chunk in output.chunks(777) {
            word.push(chunk);
        }
        let _ = word.missing();
    }
}
