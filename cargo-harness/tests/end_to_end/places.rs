//! The places of tests: where they are defined, and the reports that name them.

use crate::scene::Scene;
use fixture_kit::results;
use harness_metadata::{EventKind, exit_code};
use std::fs;

/// One that fails at a line that is not its own, one that is ignored, and one in a harness of its own.
const TESTS: &str = r#"
fn helper() {
    panic!("two: lines,\nof it");
}

#[test]
fn fails() {
    helper();
}

#[test]
#[ignore = "needs \"a\" disk"]
fn ignored() {}
"#;

fn package(scene: &Scene) -> std::path::PathBuf {
    let folder = scene.package("places", TESTS);
    scene.write(
        "places/.config/harness.toml",
        "[profile.default.junit]\npath = \"junit.xml\"\nreport-skipped = \"ignored\"\n",
    );
    folder
}

#[test]
fn every_report_says_where_a_test_is_defined_and_why_it_is_ignored() {
    let scene = Scene::new();
    let folder = package(&scene);
    let mut command = scene.harness_in(&folder, &["run", "--no-fail-fast", "--junit"]);
    command.arg(scene.path("junit.xml"));
    command.arg("--events").arg(scene.path("events"));
    let run = scene.run(command);
    run.assert_code(exit_code::TEST_RUN_FAILED);

    let report = fs::read_to_string(scene.path("junit.xml")).unwrap();
    let case = |name: &str| {
        let at = report.find(&format!("<testcase name=\"{name}\"")).unwrap();
        report[at..].lines().next().unwrap().to_owned()
    };
    // Not the line of the panic, which is the third.
    assert!(
        case("fails").contains(r#"file="src/lib.rs" line="7""#),
        "{report}"
    );
    assert!(
        case("ignored").contains(r#"file="src/lib.rs" line="13""#),
        "{report}"
    );
    assert!(report.contains("ignored: needs"), "{report}");

    let events = results::events(&scene);
    let finished = results::finished(events.clone());
    let location = finished[0].location.as_ref().unwrap();
    assert_eq!(location.to_string(), "src/lib.rs:7");
    let skipped = events.iter().find_map(|event| match &event.kind {
        EventKind::TestSkipped {
            ignore_reason,
            location,
            ..
        } => Some((ignore_reason.clone(), location.clone())),
        _ => None,
    });
    let (reason, location) = skipped.unwrap();
    assert_eq!(reason.as_deref(), Some("needs \"a\" disk"));
    assert_eq!(location.unwrap().line, 13);

    let list = ["list", "--message-format", "json"];
    let list = scene.run(scene.harness_in(&folder, &list));
    let list: serde_json::Value = serde_json::from_str(&list.stdout).unwrap();
    let case = &list["rust-suites"]["places"]["testcases"]["ignored"];
    assert_eq!(case["ignore-reason"], "needs \"a\" disk");
    assert_eq!(case["location"]["line"], 13);
}

#[test]
fn the_end_of_a_run_says_where_and_why_a_test_failed_and_how_github_shows_it() {
    let scene = Scene::new();
    let folder = package(&scene);
    let summary = scene.path("summary.md");
    let mut command = scene.harness_in(&folder, &["run", "--no-fail-fast"]);
    command.env("GITHUB_ACTIONS", "true");
    command.env("GITHUB_STEP_SUMMARY", &summary);
    let run = scene.run(command);
    let end = &run.stderr[run.stderr.find("Summary").unwrap()..];
    assert!(
        end.contains("\n             src/lib.rs:3: two: lines,\n"),
        "{}",
        run.stderr
    );
    assert_eq!(
        run.stdout,
        "::error file=src/lib.rs,line=3,title=places fails failed::two: lines,\n"
    );
    let summary = fs::read_to_string(summary).unwrap();
    assert!(summary.contains("<code>src/lib.rs:3</code>"), "{summary}");

    let mut command = scene.harness_in(&folder, &["run", "--annotations", "none"]);
    command.env("GITHUB_ACTIONS", "true");
    assert_eq!(scene.run(command).stdout, "");
}

#[test]
fn each_service_gets_failures_in_its_own_form() {
    let scene = Scene::new();
    let folder = package(&scene);
    let run = |service: &str, variable: (&str, &str)| {
        let mut command = scene.harness_in(&folder, &["run", "--annotations", service]);
        command.env(variable.0, variable.1);
        scene.run(command)
    };
    let none = ("NO_SERVICE", "");
    let reports = folder.join("target/harness/default");
    let gitlab = run("auto", ("GITLAB_CI", "true"));
    assert!(
        gitlab.stderr.contains("\x1b[0Ksection_start:"),
        "{}",
        gitlab.stderr
    );
    let after = gitlab.stderr.split_once("\x1b[0Ksection_end:").unwrap().1;
    assert!(after.contains("Summary"), "{}", gitlab.stderr);
    let quality = fs::read_to_string(reports.join("gl-code-quality-report.json")).unwrap();
    let quality: serde_json::Value = serde_json::from_str(&quality).unwrap();
    assert_eq!(quality[0]["location"]["path"], "src/lib.rs");
    assert_eq!(quality[0]["location"]["lines"]["begin"], 3);

    let azure = run("azure", none).stdout;
    let issue = "##vso[task.logissue type=error;sourcepath=src/lib.rs;linenumber=3]places fails failed: two: lines,\n";
    assert!(azure.starts_with(issue), "{azure}");
    let summary = fs::read_to_string(reports.join("summary.md")).unwrap();
    assert!(summary.starts_with("### Tests failed"), "{summary}");

    let teamcity = run("teamcity", none).stdout;
    assert!(
        teamcity.contains("##teamcity[testFailed name='places: fails' message='two: lines,'"),
        "{teamcity}"
    );
    assert!(
        teamcity
            .contains("##teamcity[testIgnored name='places: ignored' message='needs \"a\" disk']"),
        "{teamcity}"
    );
}

#[test]
fn the_agent_of_buildkite_gets_the_summary_and_its_absence_is_told() {
    let scene = Scene::new();
    let folder = package(&scene);
    let arguments = ["run", "--annotations", "buildkite"];
    let run = scene.run(scene.harness_in(&folder, &arguments));
    run.assert_code(exit_code::TEST_RUN_FAILED);
    assert!(
        run.stderr.contains("there is no `buildkite-agent` here"),
        "{}",
        run.stderr
    );

    let got = scene.path("got");
    let agent = format!(
        "#!/bin/sh\necho \"$@\" > '{0}'; cat >> '{0}'\n",
        got.display()
    );
    scene.write("bin/buildkite-agent", &agent);
    let agent = scene.path("bin/buildkite-agent");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&agent, mode).unwrap();
    let mut command = scene.harness_in(&folder, &arguments);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", scene.path("bin").display()));
    let run = scene.run(command);
    assert!(
        run.stderr.contains("\n^^^ +++\n+++ Test results\n"),
        "{}",
        run.stderr
    );
    let got = fs::read_to_string(got).unwrap();
    assert!(
        got.starts_with("annotate --context cargo-harness --style error\n### Tests failed\n"),
        "{got}"
    );
}
