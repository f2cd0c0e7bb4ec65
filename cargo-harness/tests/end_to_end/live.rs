//! `--live`: the output of tests while they run.

use crate::scene::{LONGEST_RUN, Scene, wait_until};
use harness_metadata::exit_code;
use std::fs;

/// Two tests that wait for a file, each after its first words, and one that ends in the middle of a line.
const TESTS: &str = "\
use std::{fs, io::Write, path::Path, thread, time::Duration};
fn wait() {
    while !Path::new(\"go\").exists() { thread::sleep(Duration::from_millis(5)); }
}
#[test] fn one() { println!(\"one begins\"); wait(); println!(\"one ends\"); }
#[test] fn other() { eprintln!(\"other begins\"); wait(); panic!(\"as it should\"); }
#[test] fn breaks_off() {
    print!(\"half a line\");
    std::io::stdout().flush().unwrap();
    std::process::abort();
}
";

#[test]
fn live_output_is_shown_as_it_comes_and_is_in_the_reports_all_the_same() {
    let scene = Scene::new();
    let folder = scene.package("spoken", TESTS);
    let args = [
        "run",
        "--live",
        "-j",
        "3",
        "--no-fail-fast",
        "--color",
        "never",
    ];
    let mut command = scene.harness_in(&folder, &args);
    command.arg("--junit").arg(scene.path("junit.xml"));
    let run = scene.start(command);
    // The tests cannot end before that.
    for line in [
        "\nspoken one | one begins\n",
        "\nspoken other ! other begins\n",
    ] {
        let shown = || run.stderr_so_far().contains(line).then_some(());
        wait_until(LONGEST_RUN, shown)
            .unwrap_or_else(|| panic!("no {line:?}: {}", run.stderr_so_far()));
    }
    scene.write("spoken/go", "");
    let run = run.finish();
    run.assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("\nspoken one | one ends\n")
        .assert_says("half a line (no end of line)\n")
        .assert_says("\nspoken other ! as it should\n")
        .assert_says("3 tests run: 1 passed, 2 failed");
    // It is not shown a second time.
    assert_eq!(
        run.stderr.matches("other begins").count(),
        1,
        "{}",
        run.stderr
    );
    let junit = fs::read_to_string(scene.path("junit.xml")).expect("it was written");
    for text in ["other begins", "half a line"] {
        assert!(junit.contains(text), "{junit}");
    }
}

#[test]
fn output_that_was_shown_live_is_shown_again_if_a_flag_says_so() {
    let scene = Scene::new();
    let folder = scene.package("spoken", TESTS);
    scene.write("spoken/go", "");
    let args = ["run", "--live", "--failure-output", "final", "other"];
    let run = scene.run(scene.harness_in(&folder, &args));
    run.assert_code(exit_code::TEST_RUN_FAILED);
    assert_eq!(
        run.stderr.matches("other begins").count(),
        2,
        "{}",
        run.stderr
    );
}

#[test]
fn live_is_refused_where_nothing_is_captured() {
    let scene = Scene::new();
    let folder = scene.package("spoken", TESTS);
    let run = |args: &[&str]| scene.run(scene.harness_in(&folder, &[&["run"], args].concat()));
    for other in [
        &["--no-capture"][..],
        &["--debugger", "gdb"],
        &["--tracer", "strace"],
    ] {
        run(&[&["--live"], other].concat())
            .assert_code(exit_code::USAGE)
            .assert_says(other[0]);
    }
    run(&["--live", "--", "--nocapture"])
        .assert_code(exit_code::USAGE)
        .assert_says("`--live` shows what is captured");
    run(&["--live", "--no-run"])
        .assert_code(exit_code::OK)
        .assert_says("`--live` has no effect with `--no-run`");
}
