//! Documentation tests: never lost in silence, and run when asked for.

use crate::scene::Scene;
use harness_metadata::exit_code;

const SOURCE: &str = "/// Two.\n///\n/// ```\n/// assert_eq!(doc::two(), 2);\n/// ```\n\
    pub fn two() -> u32 { 2 }\n#[test] fn passes() {}\n";

#[test]
fn documentation_tests_that_were_not_run_are_named_with_the_command_that_runs_them() {
    let scene = Scene::new();
    let folder = scene.package("doc", SOURCE);
    let run = |args: &[&str]| scene.run(scene.harness_in(&folder, &[&["run"], args].concat()));
    let line = "warning: documentation tests were not run: about 1 example in `doc`; \
                `cargo test --doc` runs them, so does `--doc`";
    run(&[]).assert_code(exit_code::OK).assert_says(line);
    run(&["-p", "doc"])
        .assert_code(exit_code::OK)
        .assert_says("`cargo test --doc --package doc` runs them");
    // Those who choose want no others, and those who say so know it.
    for args in [&["passes"][..], &["--lib"], &["--no-doc"], &["-E", "all()"]] {
        let run = run(args);
        run.assert_code(exit_code::OK);
        assert!(
            !run.stderr.contains("documentation"),
            "{args:?}: {}",
            run.stderr
        );
    }
    scene.write(
        "doc/.config/harness.toml",
        "[profile.default]\ndoctests = \"skip\"\n",
    );
    let skipped = run(&[]);
    assert!(
        !skipped.stderr.contains("documentation"),
        "{}",
        skipped.stderr
    );
}

#[test]
fn documentation_tests_run_after_the_others_and_decide_with_them() {
    let scene = Scene::new();
    let folder = scene.package("doc", SOURCE);
    let run = |args: &[&str]| scene.run(scene.harness_in(&folder, &[&["run"], args].concat()));
    let passes = run(&["--doc"]);
    passes
        .assert_code(exit_code::OK)
        .assert_says("1 test run: 1 passed")
        .assert_says("test src/lib.rs - two (line 3) ... ok");
    assert_eq!(passes.stdout, "", "results for people go to standard error");
    scene.write(
        "doc/.config/harness.toml",
        "[profile.default]\ndoctests = \"run\"\n",
    );
    scene.write(
        "doc/src/lib.rs",
        &SOURCE.replace("doc::two(), 2", "doc::two(), 3"),
    );
    run(&[])
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("1 test run: 1 passed")
        .assert_says("error: documentation tests failed (`cargo test --doc`: exit status: 101)");
    scene.write(
        "doc/src/lib.rs",
        &SOURCE.replace("passes() {}", "passes() { panic!() }"),
    );
    run(&[])
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("documentation tests were not run")
        .assert_says("because tests failed");
    run(&["--no-fail-fast"])
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("test src/lib.rs - two (line 3) ... ok");
    run(&["--doc", "--lib"])
        .assert_code(exit_code::USAGE)
        .assert_says("`--doc` does not go with a choice of targets");
}
