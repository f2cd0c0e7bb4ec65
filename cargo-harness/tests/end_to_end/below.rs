//! `--debugger` and `--tracer`: one test, run by another program.

use crate::environment::installed;
use crate::scene::{Scene, skip};
use harness_metadata::exit_code;
use std::fs::{self, File};

const TESTS: &str = "#[test] fn one() { println!(\"in {}\", std::process::id()); }\n\
    #[test] fn other() {}\n\
    #[test] fn takes_its_time() { std::thread::sleep(std::time::Duration::from_secs(3)); }\n\
    #[test] fn fails() { panic!(); }\n";

/// Limits that the slow test does not keep to.
const SHORT: &str = "[profile.default]\nretries = 2\n\
    slow-timeout = { period = \"1s\", terminate-after = 1, grace-period = \"0s\" }\n\
    global-timeout = \"1s\"\n";

#[test]
fn exactly_one_test_runs_below_another_program() {
    let scene = Scene::new();
    let folder = scene.package("below", TESTS);
    let run = |args: &[&str]| scene.run(scene.harness_in(&folder, &[&["run"], args].concat()));
    let several = run(&["--debugger", "true"]);
    several
        .assert_code(exit_code::SETUP)
        .assert_says("`--debugger` needs one test, and 4 are selected")
        .assert_says("  below fails\n  below one\n")
        .assert_says("`-E 'test(=NAME)'` selects one by its whole name");
    run(&["--tracer", "true", "none-such"])
        .assert_code(exit_code::SETUP)
        .assert_says("`--tracer` needs one test, and none is selected");
    run(&["--tracer", "no-such-program", "one"])
        .assert_code(exit_code::SETUP)
        .assert_says("the program `no-such-program` of `--tracer` does not exist");
    run(&["--tracer", "'", "one"])
        .assert_code(exit_code::USAGE)
        .assert_says("`--tracer` has a command that a shell would not take");
    run(&["--tracer", "", "one"])
        .assert_code(exit_code::USAGE)
        .assert_says("`--tracer` names no program");
    run(&["--tracer", "true", "--debugger", "true"]).assert_code(exit_code::USAGE);
    run(&["--tracer", "true", "--no-run"]).assert_code(exit_code::USAGE);
}

#[test]
fn the_program_has_the_command_of_the_test_and_no_limits() {
    let scene = Scene::new();
    let folder = scene.package("below", TESTS);
    scene.write("below/.config/harness.toml", SHORT);
    let run = |args: &[&str]| scene.run(scene.harness_in(&folder, &[&["run"], args].concat()));
    let shows = run(&[
        "--tracer",
        "sh -c 'echo \"$0 $*\"; exec \"$0\" \"$@\"'",
        "one",
    ]);
    shows.assert_code(exit_code::OK).assert_says("1 passed");
    assert!(
        shows.stdout.contains(" --exact one --nocapture"),
        "{}",
        shows.stdout
    );
    assert!(shows.stdout.contains("\nin "), "{}", shows.stdout);
    run(&["--tracer", "env", "takes_its_time"])
        .assert_code(exit_code::OK)
        .assert_says("1 test run: 1 passed");
    let fails = run(&["--tracer", "env", "fails"]);
    fails
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("1 test run: 0 passed, 1 failed");
    assert!(!fails.stderr.contains("TRY "), "{}", fails.stderr);
}

#[test]
fn a_debugger_reads_the_input_of_the_run_and_a_tracer_reads_none() {
    let scene = Scene::new();
    let folder = scene.package("below", TESTS);
    let input = scene.write("input", "from the input\n");
    let run = |flag: &str| {
        let command = "sh -c 'read -r line; echo \"read $line.\"'";
        let mut run = scene.harness_in(&folder, &["run", flag, command, "one"]);
        run.stdin(File::open(&input).expect("it was written"));
        scene.run(run)
    };
    let debugger = run("--debugger");
    assert!(
        debugger.stdout.contains("read from the input."),
        "{}",
        debugger.stdout
    );
    let tracer = run("--tracer");
    assert!(tracer.stdout.contains("read .\n"), "{}", tracer.stdout);
}

#[test]
fn a_test_runs_below_strace() {
    if !installed("strace", &["-o", "/dev/null", "true"]) {
        return skip(
            "a_test_runs_below_strace",
            "there is no strace, or it may not trace",
        );
    }
    let scene = Scene::new();
    let folder = scene.package("below", TESTS);
    let out = scene.path("calls");
    let tracer = format!("strace -f -o {} -e trace=execve", out.display());
    scene
        .run(scene.harness_in(&folder, &["run", "--tracer", &tracer, "one"]))
        .assert_code(exit_code::OK);
    let calls = fs::read_to_string(out).expect("strace wrote it");
    assert!(calls.contains("\"--exact\", \"one\""), "{calls}");
}

#[test]
fn a_test_runs_below_gdb() {
    if !installed("gdb", &["--version"]) {
        return skip("a_test_runs_below_gdb", "there is no gdb");
    }
    let scene = Scene::new();
    let folder = scene.package("below", TESTS);
    let input = scene.write("input", "run\nquit\n");
    let args = ["run", "--debugger", "gdb -q -nx --args", "one"];
    let mut run = scene.harness_in(&folder, &args);
    run.stdin(File::open(input).expect("it was written"));
    let run = scene.run(run);
    run.assert_code(exit_code::OK);
    assert!(run.stdout.contains("test one ... ok"), "{}", run.stdout);
}

#[test]
fn a_debugger_runs_the_wrapper_of_a_test() {
    let scene = Scene::new();
    let folder = scene.package("below", TESTS);
    let config = "[scripts.wrapper.w]\ncommand = ['env', 'WRAPPED=1']\n\
                  [[profile.default.scripts]]\nfilter = 'all()'\nrun-wrapper = 'w'\n";
    scene.write("below/.config/harness.toml", config);
    let debugger = "sh -c 'echo \"below $1 $2.\"; exec \"$@\"' sh";
    let args = ["run", "--debugger", debugger, "one"];
    let run = scene.run(scene.harness_in(&folder, &args));
    run.assert_code(exit_code::OK);
    assert!(
        run.stdout.contains("below env WRAPPED=1."),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("test one ... ok"), "{}", run.stdout);
}
