//! Reports for programs, written by runs and made of recordings.

use crate::scene::{Finished, Scene};
use fixture_kit::model::check_surefire;
use harness_metadata::exit_code;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const SOURCE: &str = r#"
#[cfg(test)]
mod tests {
    use std::{fs, path::Path};
    #[test] fn passes() {}
    #[test] fn fails() {
        let here = &0;
        println!("a line");
        panic!("pid {} is not at {here:p}", std::process::id());
    }
    #[test] fn is_flaky() {
        let again = Path::new("again").exists();
        fs::write("again", "").unwrap();
        assert!(again, "the first time");
    }
    #[test] #[ignore = "not today"] fn is_ignored() {}
}
"#;

struct Reported {
    scene: Scene,
    package: PathBuf,
}

impl Reported {
    fn new() -> Self {
        let scene = Scene::new();
        let package = scene.package("read", SOURCE);
        Self { scene, package }
    }

    fn harness(&self, args: &[&str]) -> Finished {
        self.scene.run(self.scene.harness_in(&self.package, args))
    }

    fn json(&self, path: &str) -> Value {
        let text = fs::read_to_string(self.package.join(path)).expect("it was written");
        serde_json::from_str(&text).expect("it is JSON")
    }

    /// Returns the files of a folder.
    fn files(&self, path: &str) -> BTreeMap<PathBuf, String> {
        let read = |path: &Path| fs::read_to_string(path).expect("it is text");
        let entries = fs::read_dir(self.package.join(path)).expect("it was made");
        let entries = entries.map(|entry| entry.expect("it can be read").path());
        entries
            .map(|path| (path.file_name().expect("it has one").into(), read(&path)))
            .collect()
    }
}

#[test]
fn reports_for_programs_have_each_test_and_a_recording_makes_the_same() {
    let reported = Reported::new();
    let run = reported.harness(&[
        "run",
        "--no-fail-fast",
        "--retries",
        "1",
        "--ctrf",
        "run.json",
        "--allure",
        "run",
    ]);
    run.assert_code(exit_code::TEST_RUN_FAILED);
    let later = reported.harness(&["report", "--ctrf", "later.json", "--allure", "later"]);
    later.assert_code(exit_code::OK);
    let report = reported.json("run.json");
    assert_eq!(reported.json("later.json"), report);
    assert_eq!(reported.files("later"), reported.files("run"));

    let summary = &report["results"]["summary"];
    let counts = ["tests", "passed", "failed", "skipped", "flaky"].map(|count| &summary[count]);
    assert_eq!(counts, [4, 2, 1, 1, 1], "{summary}");
    let tests = report["results"]["tests"].as_array().expect("a list");
    let named = |name: &str| tests.iter().find(|test| test["name"] == name).expect(name);
    let fails = named("tests::fails");
    assert_eq!(fails["message"], "pid … is not at 0x…");
    assert_eq!(
        (&fails["filePath"], &fails["line"]),
        (&"src/lib.rs".into(), &6.into())
    );
    assert_eq!(fails["retries"], 1);
    assert!(
        fails["stdout"].to_string().contains("\"a line\""),
        "{fails}"
    );
    assert_eq!(named("tests::is_flaky")["flaky"], true);
    assert_eq!(named("tests::is_ignored")["message"], "ignored: not today");

    let files = reported.files("run");
    let results = files
        .iter()
        .filter(|(name, _)| name.to_string_lossy().ends_with("-result.json"));
    let results: Vec<Value> = results
        .map(|(_, text)| serde_json::from_str(text).expect("it is JSON"))
        .collect();
    // Two tests have two attempts.
    assert_eq!(results.len(), 6);
    let history = |name: &str| {
        let of_it = results.iter().filter(|result| result["name"] == name);
        let mut ids: Vec<_> = of_it
            .map(|result| result["historyId"].to_string())
            .collect();
        ids.dedup();
        ids
    };
    assert_eq!(history("tests::fails").len(), 1, "its attempts are retries");
    assert_ne!(history("tests::fails"), history("tests::passes"));
}

#[test]
fn the_configuration_asks_for_reports_and_one_that_cannot_be_written_takes_nothing_from_others() {
    let reported = Reported::new();
    let config =
        "[profile.ci.ctrf]\npath = \"ctrf.json\"\n[profile.ci.allure]\npath = \"allure\"\n";
    reported.scene.write("read/.config/harness.toml", config);
    let run = reported.harness(&["run", "-P", "ci", "passes"]);
    run.assert_code(exit_code::OK);
    let report = reported.json("target/harness/ci/ctrf.json");
    assert_eq!(report["results"]["summary"]["passed"], 1);
    // The result, that of the ignored test, and the environment.
    assert_eq!(reported.files("target/harness/ci/allure").len(), 3);

    let run = reported.harness(&[
        "run",
        "passes",
        "--ctrf",
        "/dev/full",
        "--allure",
        "src/lib.rs",
        "--junit",
        "run.xml",
    ]);
    run.assert_code(exit_code::WRITE_FAILED);
    run.assert_says("failed to write the CTRF report to `/dev/full`")
        .assert_says("No space left on device")
        .assert_says("failed to write the Allure results to")
        .assert_says("which lack 2 tests")
        .assert_says("1 passed");
    let junit = fs::read_to_string(reported.package.join("run.xml")).expect("it is there");
    assert!(junit.contains("tests::passes"), "{junit}");
    let run = reported.harness(&["run", "passes", "--ctrf", "src"]);
    run.assert_code(exit_code::WRITE_FAILED);
    run.assert_says("failed to write the CTRF report")
        .assert_says("1 passed");
}

#[test]
fn a_report_by_the_schema_of_maven_is_valid_and_a_recording_makes_the_same() {
    let reported = Reported::new();
    let config = "[profile.default.junit]\npath = \"junit.xml\"\nschema = \"surefire\"\n";
    reported.scene.write("read/.config/harness.toml", config);
    let run = reported.harness(&["run", "--no-fail-fast", "--retries", "1"]);
    run.assert_code(exit_code::TEST_RUN_FAILED);
    let read = |path: &str| {
        let path = reported.package.join(path);
        fs::read_to_string(path).expect("it was written")
    };
    let report = read("target/harness/default/junit.xml");
    check_surefire(&report).unwrap_or_else(|error| panic!("{error}\n{report}"));
    for element in ["<failure ", "<rerunFailure ", "<flakyFailure "] {
        assert!(report.contains(element), "{element} in {report}");
    }
    let later = reported.harness(&["report", "--junit", "later.xml"]);
    later.assert_code(exit_code::OK);
    assert_eq!(read("later.xml"), report);
}
