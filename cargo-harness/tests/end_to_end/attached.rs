//! The trace of a test that failed, as a file that reports refer to.

use crate::{html::details, scene::Scene};
use harness_metadata::exit_code;
use std::{
    fs,
    path::{Path, PathBuf},
};

const SUITE: &str = r#"
#[test] fn fails() { std::fs::read("no-such-file").unwrap(); }
#[test] fn fails_first() {
    let there = std::path::Path::new("again").exists();
    std::fs::write("again", "").unwrap();
    assert!(there);
}
#[test] fn passes() { std::fs::read("Cargo.toml").unwrap(); }
"#;

/// Returns the traces that the reports of a prefix refer to: of JUnit, HTML and Allure.
fn attached(package: &Path, prefix: &str) -> [Vec<String>; 3] {
    let read = |path: PathBuf| fs::read_to_string(path).expect("a report refers to it");
    let text = read(package.join(format!("{prefix}.xml")));
    let named = text.split("[[ATTACHMENT|").skip(1);
    let named = named.filter_map(|rest| rest.split("]]").next());
    let junit: Vec<String> = named.map(|path| read(package.join(path))).collect();

    let details = details(&package.join(format!("{prefix}.html")));
    let attempts = details["tests"].as_array().expect("it is a list").iter();
    let attempts = attempts.flat_map(|test| test["attempts"].as_array().expect("it is a list"));
    let files = attempts.filter_map(|attempt| attempt["traceFile"]["file"].as_str());
    let html: Vec<String> = files.map(|file| read(package.join(file))).collect();

    let folder = package.join(format!("{prefix}-allure"));
    let results = fs::read_dir(&folder).expect("it is there").flatten();
    let results = results.filter(|entry| entry.path().to_string_lossy().ends_with("-result.json"));
    let allure = results.filter_map(|entry| {
        let result: serde_json::Value =
            serde_json::from_str(&read(entry.path())).expect("it is JSON");
        let attachments = result["attachments"].as_array().expect("it is a list");
        let trace = attachments.iter().find(|it| it["name"] == "trace")?;
        let source = trace["source"].as_str().expect("it has one");
        Some(read(folder.join(source)))
    });
    let mut all = [junit, html, allure.collect()];
    all.iter_mut().for_each(|of_one| of_one.sort());
    all
}

#[test]
fn the_trace_of_a_test_that_failed_is_attached_to_junit_html_and_allure() {
    let scene = Scene::new();
    let package = scene.package("attached", SUITE);
    let config = "[profile.default.junit]\nattachments = true\n";
    scene.write("attached/.config/harness.toml", config);
    let harness = |args: &[&str]| scene.run(scene.harness_in(&package, args));
    let reports = |prefix: &str| {
        let file = |end: &str| format!("{prefix}{end}");
        [
            "--junit",
            &file(".xml"),
            "--html",
            &file(".html"),
            "--allure",
            &file("-allure"),
        ]
        .map(str::to_owned)
    };
    let run = [
        &["run", "--no-fail-fast", "--retries", "1", "--trace", "io"].map(str::to_owned)[..],
        &reports("run"),
    ]
    .concat();
    let run: Vec<&str> = run.iter().map(String::as_str).collect();
    harness(&run).assert_code(exit_code::TEST_RUN_FAILED);
    let found = attached(&package, "run");
    // Each attempt that failed has one: two of the first test, and one of the second.
    assert_eq!(found.each_ref().map(Vec::len), [3; 3], "{found:?}");
    assert!(found.iter().all(|of_one| *of_one == found[0]));
    for attempt in ["1", "2"] {
        let log = harness(&["trace", "attached fails", "--attempt", attempt, "--log"]).stdout;
        assert!(log.contains("no-such-file"), "{log}");
        assert!(found[0].contains(&log), "{log}\n{found:?}");
    }
    // Reports of the kept run have the same.
    let later = [&["report".to_owned()][..], &reports("later")].concat();
    let later: Vec<&str> = later.iter().map(String::as_str).collect();
    harness(&later).assert_code(exit_code::OK);
    assert_eq!(attached(&package, "later"), found);

    // Without a trace there is none, and nothing is amiss.
    let untraced = [
        &["run", "--trace", "off", "--no-fail-fast"].map(str::to_owned)[..],
        &reports("untraced"),
    ]
    .concat();
    let untraced: Vec<&str> = untraced.iter().map(String::as_str).collect();
    let run = harness(&untraced);
    run.assert_code(exit_code::TEST_RUN_FAILED);
    assert!(!run.stderr.contains("warning:"), "{}", run.stderr);
    assert_eq!(attached(&package, "untraced").map(|it| it.len()), [0; 3]);
    scene.assert_no_strays();
}
