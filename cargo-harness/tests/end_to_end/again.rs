//! Runs that go on where an earlier one ended: reruns, and tests that failed last.

use crate::{
    environment::installed,
    scene::{Finished, Scene, skip},
};
use harness_metadata::exit_code;
use std::{fs, path::PathBuf};

/// Tests that fail until a file is there.
const SOURCE: &str = r#"
#[cfg(test)]
mod tests {
    fn needs(name: &str) {
        assert!(std::path::Path::new(name).exists(), "{name} is missing");
    }
    #[test] fn a_passes() {}
    #[test] fn b_passes() {}
    #[test] fn c_needs() { needs("c") }
    #[test] fn d_needs() { needs("d") }
    #[test] #[ignore] fn e_needs() { needs("e") }
}
"#;

/// A package, and what is run in it.
struct Place {
    scene: Scene,
    package: PathBuf,
}

impl Place {
    fn new() -> Self {
        let scene = Scene::new();
        let package = scene.package("again", SOURCE);
        Self { scene, package }
    }

    fn harness(&self, args: &[&str]) -> Finished {
        let command = self.scene.harness_in(&self.package, args);
        self.scene.run(command)
    }

    /// Returns the names of the tests that a run has had, in order.
    fn ran(&self, args: &[&str], code: i32) -> Vec<String> {
        let run = self.harness(args);
        run.assert_code(code);
        names(&run)
    }

    fn mend(&self, name: &str) {
        self.scene.write(&format!("again/{name}"), "");
    }

    fn last_run(&self) -> String {
        let runs = self.harness(&["runs", "-T", "json"]);
        let line = runs.stdout.lines().next().expect("a run is kept");
        let run: serde_json::Value = serde_json::from_str(line).expect("it is JSON");
        run["run_id"].as_str().expect("it has an id").to_owned()
    }
}

/// Returns the names in the lines of finished tests, in order of the alphabet.
fn names(run: &Finished) -> Vec<String> {
    let lines = run.stderr.lines().map(str::trim_start);
    let lines = lines.take_while(|line| !line.starts_with("Summary"));
    let lines = lines.filter(|line| line.starts_with("PASS") || line.starts_with("FAIL"));
    let last = |line: &str| line.rsplit([':', ' ']).next().map(str::to_owned);
    let mut names: Vec<String> = lines.filter_map(last).collect();
    names.sort();
    names
}

const LATEST: [&str; 3] = ["run", "--rerun", "--no-fail-fast"];

#[test]
fn a_rerun_goes_on_until_nothing_is_outstanding() {
    let place = Place::new();
    place
        .harness(&["run", "--rerun"])
        .assert_code(exit_code::SETUP)
        .assert_says("no run is kept");

    let all = place.ran(&["run", "--no-fail-fast"], exit_code::TEST_RUN_FAILED);
    assert_eq!(all, ["a_passes", "b_passes", "c_needs", "d_needs"]);
    let again = place.harness(&LATEST);
    again.assert_code(exit_code::TEST_RUN_FAILED);
    again
        .assert_says("2 tests outstanding, 2 passed")
        .assert_says("(3 tests skipped, including 2 tests that already passed)");
    assert_eq!(names(&again), ["c_needs", "d_needs"]);

    // One passes; a filter narrows, and the other is not forgotten.
    place.mend("c");
    let narrowed = place.harness(&["run", "-R", "latest", "c_"]);
    narrowed.assert_code(exit_code::OUTSTANDING);
    narrowed
        .assert_says("1 outstanding test remains, which was not selected")
        .assert_says("  again tests::d_needs");
    assert_eq!(names(&narrowed), ["c_needs"]);
    let nothing = place.harness(&["run", "-R", "latest", "a_"]);
    nothing.assert_code(exit_code::OUTSTANDING);

    place.mend("d");
    assert_eq!(place.ran(&LATEST, exit_code::OK), ["d_needs"]);
    for _ in 0..2 {
        let done = place.harness(&LATEST);
        done.assert_code(exit_code::OK)
            .assert_says("no outstanding tests remain");
    }
    // The list says why.
    let list = place.harness(&["list", "--rerun", "latest", "-T", "json"]);
    list.assert_code(exit_code::OK);
    let list: serde_json::Value = serde_json::from_str(&list.stdout).expect("it is JSON");
    let cases = &list["rust-suites"]["again"]["testcases"];
    let reason = |test: &str| cases[test]["filter-match"]["reason"].clone();
    assert_eq!(reason("tests::a_passes"), "rerun-already-passed");
    assert_eq!(reason("tests::e_needs"), "ignored");
}

#[test]
fn a_failure_in_quarantine_is_not_outstanding() {
    let place = Place::new();
    place.scene.write(
        "again/.config/harness.toml",
        "[[profile.default.quarantine]]\nfilter = 'test(c_) | test(d_)'\nreason = 'x'\n\
         owner = 'y'\nexpires = 9999-12-31\n",
    );
    let first = place.harness(&["run"]);
    first
        .assert_code(exit_code::OK)
        .assert_says("2 failed in quarantine");
    let again = place.harness(&LATEST);
    again
        .assert_code(exit_code::OK)
        .assert_says("no outstanding tests remain");
}

#[test]
fn a_rerun_has_what_was_not_run_and_what_is_new_and_forgets_what_is_gone() {
    let place = Place::new();
    // One at a time, and the first failure ends it.
    let args = ["run", "-j", "1", "--fail-fast"];
    let first = place.ran(&args, exit_code::TEST_RUN_FAILED);
    assert_eq!(first, ["a_passes", "b_passes", "c_needs"]);
    let id = place.last_run();

    let source = SOURCE.replace(
        "#[test] fn c_needs() { needs(\"c\") }",
        "#[test] fn new() {}",
    );
    place.scene.write("again/src/lib.rs", &source);
    let again = place.ran(
        &["run", "--rerun", &id[..8], "--no-fail-fast"],
        exit_code::TEST_RUN_FAILED,
    );
    assert_eq!(again, ["d_needs", "new"]);
    place.mend("d");
    assert_eq!(place.ran(&LATEST, exit_code::OK), ["d_needs"]);

    // A test that comes back after it was gone is new.
    place.scene.write("again/src/lib.rs", SOURCE);
    place.mend("c");
    assert_eq!(place.ran(&LATEST, exit_code::OK), ["c_needs"]);
    // The first run of the chain is still as it was.
    let from_first = place.ran(&["run", "--rerun", &id], exit_code::OK);
    assert_eq!(from_first, ["c_needs", "d_needs"]);
    place
        .harness(&["run", "--rerun", "c_needs"])
        .assert_code(exit_code::SETUP)
        .assert_says("write `--rerun latest c_needs`");
}

#[test]
fn a_rerun_has_the_scope_of_the_build_unless_it_is_given_another() {
    let place = Place::new();
    place
        .scene
        .write("again/tests/other.rs", "#[test] fn z_passes() {}");
    let args = ["run", "--lib", "--no-fail-fast"];
    let first = place.ran(&args, exit_code::TEST_RUN_FAILED);
    assert_eq!(first, ["a_passes", "b_passes", "c_needs", "d_needs"]);
    let again = place.harness(&LATEST);
    again.assert_says("the build has the scope of that run: --lib");
    assert_eq!(names(&again), ["c_needs", "d_needs"]);
    let other = place.harness(&["run", "-R", "latest", "--test", "other"]);
    other
        .assert_code(exit_code::OUTSTANDING)
        .assert_says("the build has the scope of this command")
        .assert_says("2 outstanding tests remain");
    assert_eq!(names(&other), ["z_passes"]);
}

#[test]
fn tests_that_failed_last_run_alone_or_before_all_others() {
    let place = Place::new();
    place
        .harness(&["run", "--last-failed"])
        .assert_code(exit_code::SETUP)
        .assert_says("no run is kept");
    place.ran(&["run", "--no-fail-fast"], exit_code::TEST_RUN_FAILED);
    // A later run that has no result of a test changes nothing.
    place.ran(&["run", "a_"], exit_code::OK);
    let failed = ["run", "--last-failed", "--no-fail-fast"];
    let ran = place.ran(&failed, exit_code::TEST_RUN_FAILED);
    assert_eq!(ran, ["c_needs", "d_needs"]);
    place.mend("c");
    assert_eq!(place.ran(&["run", "c_"], exit_code::OK), ["c_needs"]);
    let ran = place.ran(&failed, exit_code::TEST_RUN_FAILED);
    assert_eq!(ran, ["d_needs"]);

    let events = place.scene.path("events");
    let events = events.to_str().expect("it is UTF-8");
    let first = ["run", "--failed-first", "-j", "1", "--events", events];
    place
        .harness(&first)
        .assert_code(exit_code::TEST_RUN_FAILED);
    let text = fs::read_to_string(events).expect("it was written");
    let began = text.lines().find(|line| line.contains("attempt-started"));
    let began = began.expect("a test was started");
    assert!(began.contains("tests::d_needs"), "{began}");

    place.mend("d");
    assert_eq!(place.ran(&failed, exit_code::OK), ["d_needs"]);
    place
        .harness(&failed)
        .assert_code(exit_code::OK)
        .assert_says("no selected test failed when it ran last");
}

/// The same steps under cargo-nextest, where it is installed.
#[test]
fn cargo_nextest_reruns_the_same_tests_with_the_same_codes() {
    const NAME: &str = "cargo_nextest_reruns_the_same_tests_with_the_same_codes";
    if !installed("cargo-nextest", &["nextest", "--version"]) {
        return skip(NAME, "cargo-nextest is not installed");
    }
    let place = Place::new();
    let records = "[experimental]\nrecord = true\n[record]\nenabled = true\n";
    let config = place.scene.write("user.toml", records);
    let peer = |args: &[&str]| {
        let mut command = place.scene.command("cargo-nextest");
        command.arg("nextest").args(&args[..1]);
        command.arg("--user-config-file").arg(&config);
        command.args(&args[1..]).current_dir(&place.package);
        command.env("NEXTEST_STATE_DIR", place.scene.path("state"));
        command.env("CARGO_TARGET_DIR", place.package.join("peer"));
        place.scene.run(command)
    };
    let steps: [(&str, &[&str]); 7] = [
        ("", &["run", "--no-fail-fast", "a_", "c_"]),
        // The filter of the first run is not taken over: others are new.
        ("", &["run", "-R", "latest", "--no-fail-fast"]),
        ("c", &["run", "-R", "latest", "c_"]),
        ("", &["run", "-R", "latest", "-E", "test(a_)"]),
        ("d", &["run", "-R", "latest", "--no-fail-fast"]),
        ("", &["run", "-R", "latest"]),
        ("e", &["run", "-R", "latest", "--run-ignored", "all"]),
    ];
    for (mended, args) in steps {
        if !mended.is_empty() {
            place.mend(mended);
        }
        let (theirs, ours) = (peer(args), place.harness(args));
        assert_eq!(names(&theirs), names(&ours), "{args:?}\n{}", theirs.stderr);
        assert_eq!(
            theirs.status.code(),
            ours.status.code(),
            "{args:?}\n{}",
            ours.stderr
        );
    }
}
