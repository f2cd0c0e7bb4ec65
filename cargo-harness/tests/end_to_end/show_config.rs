//! `cargo harness show-config`: which settings are in force, and why.

use crate::scene::{Finished, Scene};
use harness_metadata::exit_code;

const CONFIG: &str = r#"
[profile.ci]
retries = 2

[[profile.ci.overrides]]
filter = "test(=reads)"
slow-timeout = "5s"
test-group = "serial"

[test-groups]
serial = { max-threads = 1 }
"#;

fn show(args: &[&str]) -> Finished {
    let scene = Scene::new();
    let package = scene.package("shown", "#[test] fn reads() {}\n#[test] fn writes() {}\n");
    scene.write("shown/.config/harness.toml", CONFIG);
    let args: Vec<&str> = ["show-config"].iter().chain(args).copied().collect();
    scene.run(scene.harness_in(&package, &args))
}

#[test]
fn each_setting_of_a_test_is_shown_with_its_place_and_its_reason() {
    let shown = show(&["test", "-P", "ci", "reads"]);
    shown.assert_code(exit_code::OK);
    let mut lines = shown.stdout.lines();
    assert_eq!(lines.next(), Some("shown reads"), "{}", shown.stdout);
    let line = |key: &str| {
        let found = shown
            .stdout
            .lines()
            .find(|line| line.trim_start().starts_with(key));
        found.unwrap_or_else(|| panic!("no {key} in {}", shown.stdout))
    };
    assert!(line("retries = 2").ends_with("# .config/harness.toml:3:11, profile `ci`"));
    assert!(line("slow-timeout = { period = \"5s\"").contains(
        "# .config/harness.toml:7:16, `overrides[0]` of profile `ci` (filter `test(=reads)`)"
    ));
    assert!(line("leak = \"warn\"").ends_with("# built-in default"));
    assert!(!shown.stdout.contains("shown writes"), "{}", shown.stdout);
}

#[test]
fn groups_are_shown_with_their_tests() {
    let shown = show(&["groups", "-P", "ci"]);
    shown.assert_code(exit_code::OK);
    let serial = "serial (max-threads 1)\n    shown reads  # .config/harness.toml:8:14, \
                  `overrides[0]` of profile `ci` (filter `test(=reads)`)\n";
    let global = "@global\n    shown writes\n";
    assert_eq!(shown.stdout, format!("{serial}{global}"));
    for (name, text) in [("serial", serial), ("@global", global)] {
        let args = [
            "test-groups",
            "-P",
            "ci",
            "--show-default",
            "--groups",
            name,
        ];
        assert_eq!(show(&args).stdout, text);
    }
    show(&["groups", "--groups", "seriell"])
        .assert_code(exit_code::SETUP)
        .assert_says("the test group `seriell` does not exist; known groups: `serial`, `@global`");
}

#[test]
fn profiles_and_the_settings_of_the_run_are_shown_without_a_build() {
    let shown = show(&["profiles", "-P", "ci"]);
    shown.assert_code(exit_code::OK);
    assert_eq!(
        shown.stdout,
        "* ci (inherits from default)\n  default\n  default-miri (inherits from default)\n"
    );
    let shown = show(&["run", "-P", "ci"]);
    shown.assert_code(exit_code::OK);
    assert!(
        shown.stdout.contains("fail-fast = true"),
        "{}",
        shown.stdout
    );
}

#[test]
fn settings_of_no_test_are_an_error_that_says_so() {
    show(&["test", "nothing_is_called_this"])
        .assert_code(exit_code::NO_TESTS)
        .assert_says("no test is selected");
}
