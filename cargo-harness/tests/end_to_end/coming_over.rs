//! The way over from cargo-nextest: its file, its variables, its name; and `migrate`.

use crate::environment::installed;
use crate::scene::{Finished, Scene, skip};
use harness_metadata::exit_code;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

/// Files with the keys that well-known projects have, and the profiles of each.
const FILES: &[(&str, &str, &[&str])] = &[
    (
        "plain",
        include_str!("coming_over/plain.toml"),
        &["default"],
    ),
    (
        "backoff",
        include_str!("coming_over/backoff.toml"),
        &["default", "heavy"],
    ),
    (
        "setup",
        include_str!("coming_over/setup.toml"),
        &["default", "ci"],
    ),
    (
        "versions",
        include_str!("coming_over/versions.toml"),
        &["default", "ci"],
    ),
    (
        "tiers",
        include_str!("coming_over/tiers.toml"),
        &["default", "ci"],
    ),
    (
        "multiline",
        include_str!("coming_over/multiline.toml"),
        &["ci"],
    ),
    (
        "serial",
        include_str!("coming_over/serial.toml"),
        &["default", "serial"],
    ),
    (
        "inline",
        include_str!("coming_over/inline.toml"),
        &["default", "ci"],
    ),
    (
        "platforms",
        include_str!("coming_over/platforms.toml"),
        &["default"],
    ),
    (
        "archive",
        include_str!("coming_over/archive.toml"),
        &["ci", "nightly"],
    ),
];

/// Tests that write down what they run under.
const TESTS: &str = r#"
#[cfg(test)]
fn report(name: &str) {
    let get = |name: &str| std::env::var(name).unwrap_or_default();
    let settings = ["NEXTEST_TOTAL_ATTEMPTS", "NEXTEST_TEST_GROUP", "NEXTEST_TEST_THREADS", "NEXTEST_PROFILE"];
    let line = settings.map(|name| get(name)).join(" ");
    std::fs::write(std::path::Path::new(&get("REPORTS")).join(name), line).unwrap();
}
#[test] fn native_auth() { report("native_auth") }
#[test] fn ext_integration() { report("ext_integration") }
#[test] fn slow_test_sort() { report("slow_test_sort") }
#[test] fn ultra_slow_test_sort() { report("ultra_slow_test_sort") }
#[cfg(test)] mod db {
    #[test] fn connects() { super::report("db::connects") }
    #[test] fn replicated() { super::report("db::replicated") }
}
#[cfg(test)] mod schema {
    #[test] fn migrates() { super::report("schema::migrates") }
    #[test] #[ignore] fn forgets() { super::report("schema::forgets") }
}
"#;

const THEIRS: &str = "over/.config/nextest.toml";
const OURS: &str = "over/.config/harness.toml";

/// The line that says where settings come from.
const SAID: &str = "settings are those of `.config/nextest.toml`; `cargo harness migrate` writes \
                    `.config/harness.toml` from it";

/// Runs the tests. Returns what each that ran wrote down.
fn reports(scene: &Scene, mut command: Command, name: &str) -> BTreeMap<String, String> {
    let folder = scene.path(name);
    fs::create_dir(&folder).expect("the name is new");
    command.env("REPORTS", &folder);
    scene.run(command).assert_code(exit_code::OK);
    let mut reports = BTreeMap::new();
    for entry in fs::read_dir(&folder).expect("it was made above") {
        let path = entry.expect("it can be read").path();
        let name = path.file_name().expect("it is a file").to_string_lossy();
        let text = fs::read_to_string(&path).expect("it was written");
        reports.insert(name.into_owned(), text);
    }
    assert!(!reports.is_empty(), "no test ran for {name}");
    reports
}

fn migrate(scene: &Scene, package: &Path, args: &[&str]) -> Finished {
    let args: Vec<&str> = ["migrate"].iter().chain(args).copied().collect();
    scene.run(scene.harness_in(package, &args))
}

#[test]
fn tests_run_as_under_cargo_nextest_before_and_after_the_migration() {
    if !installed("cargo-nextest", &["nextest", "--version"]) {
        return skip(
            "tests_run_as_under_cargo_nextest_before_and_after_the_migration",
            "cargo-nextest is not installed",
        );
    }
    let scene = Scene::new();
    let package = scene.package("over", TESTS);
    for (file, text, profiles) in FILES {
        scene.write(THEIRS, text);
        let _ = fs::remove_file(scene.path(OURS));
        let ours = |profile: &str, when: &str| {
            let command = scene.harness_in(&package, &["run", "-P", profile]);
            reports(&scene, command, &format!("{file}-{profile}-{when}"))
        };
        let mut before = Vec::new();
        for profile in *profiles {
            let mut command = scene.command("cargo-nextest");
            command
                .args(["nextest", "run", "-P", profile])
                .current_dir(&package)
                .env("CARGO_TARGET_DIR", package.join("target"));
            let theirs = reports(&scene, command, &format!("{file}-{profile}-peer"));
            assert_eq!(ours(profile, "before"), theirs, "{file}, profile {profile}");
            before.push(theirs);
        }
        migrate(&scene, &package, &[]).assert_code(exit_code::OK);
        for (profile, before) in profiles.iter().zip(before) {
            assert_eq!(ours(profile, "after"), before, "{file}, profile {profile}");
        }
    }
}

#[test]
fn every_setting_is_the_same_after_the_migration() {
    let scene = Scene::new();
    let package = scene.package("over", TESTS);
    for (file, text, profiles) in FILES {
        scene.write(THEIRS, text);
        let _ = fs::remove_file(scene.path(OURS));
        let settings = |profile: &str| {
            let shown = |args: &[&str]| {
                let shown = scene.run(scene.harness_in(&package, args));
                shown.assert_code(exit_code::OK);
                let lines = shown.stdout.lines();
                // Without the places, which are in another file.
                let values = lines.map(|line| line.split("  # ").next().unwrap_or(line).trim_end());
                values.collect::<Vec<_>>().join("\n")
            };
            let tests = shown(&["show-config", "test", "-P", profile]);
            let groups = shown(&["show-config", "groups", "-P", profile]);
            let run = shown(&["show-config", "run", "-P", profile]);
            // A report that is not written has no name.
            let run: Vec<&str> = run
                .lines()
                .filter(|line| {
                    let named = line.starts_with("junit.report-name");
                    !named || !run.contains("junit.path = none")
                })
                .collect();
            format!("{tests}\n{groups}\n{}", run.join("\n"))
        };
        let before: Vec<String> = profiles.iter().map(|profile| settings(profile)).collect();
        migrate(&scene, &package, &[]).assert_code(exit_code::OK);
        let after: Vec<String> = profiles.iter().map(|profile| settings(profile)).collect();
        assert_eq!(before, after, "{file}");
    }
}

#[test]
fn one_line_says_that_the_file_of_cargo_nextest_is_read() {
    let scene = Scene::new();
    let package = scene.package("over", TESTS);
    let show = || {
        let shown = scene.run(scene.harness_in(&package, &["show-config", "run", "-P", "ci"]));
        shown.assert_code(exit_code::OK);
        shown
    };
    scene.write(
        THEIRS,
        "[profile.ci]\ntest-threads = 3\nbench.slow-timeout = \"9s\"\n",
    );
    let shown = show();
    assert_eq!(shown.stderr.matches(SAID).count(), 1, "{}", shown.stderr);
    assert!(!shown.stderr.contains("bench"), "{}", shown.stderr);
    assert!(
        shown.stdout.contains("test-threads = 3"),
        "{}",
        shown.stdout
    );
    assert!(
        shown.stdout.contains("junit.report-name = \"nextest-run\""),
        "{}",
        shown.stdout
    );
    scene.write(OURS, "[profile.ci]\ntest-threads = 2\n");
    let shown = show();
    assert_eq!(shown.stderr, "");
    assert!(
        shown.stdout.contains("test-threads = 2"),
        "{}",
        shown.stdout
    );
}

#[test]
fn the_report_of_a_profile_is_where_cargo_nextest_writes_it() {
    let scene = Scene::new();
    let package = scene.package("over", "#[test] fn passes() {}\n");
    scene.write(THEIRS, "[profile.ci]\njunit.path = 'junit.xml'\n");
    let report = package.join("target/nextest/ci/junit.xml");
    for migrated in [false, true] {
        if migrated {
            migrate(&scene, &package, &[]).assert_code(exit_code::OK);
            fs::remove_file(&report).expect("it was written before");
        }
        let run = scene.run(scene.harness_in(&package, &["run", "-P", "ci"]));
        run.assert_code(exit_code::OK);
        let text = fs::read_to_string(&report).expect("it was written");
        assert!(text.contains("<testsuites name=\"nextest-run\""), "{text}");
    }
}

#[test]
fn variables_of_cargo_nextest_count_where_ours_are_not_set() {
    let scene = Scene::new();
    let package = scene.package("over", "#[test] fn fails() { panic!() }\n");
    let attempts = |variables: &[(&str, &str)]| {
        let mut command = scene.harness_in(&package, &["run"]);
        command.envs(variables.iter().copied());
        let run = scene.run(command);
        run.assert_code(exit_code::TEST_RUN_FAILED);
        run.stderr.matches("TRY ").count()
    };
    let theirs = ("NEXTEST_RETRIES", "2");
    assert_eq!(attempts(&[]), 0);
    let with_theirs = attempts(&[theirs]);
    assert!(with_theirs >= 3, "{with_theirs}");
    assert_eq!(attempts(&[theirs, ("HARNESS_RETRIES", "0")]), 0);

    let mut command = scene.harness_in(&package, &["run"]);
    command.env("NEXTEST_TEST_THREADS", "0");
    let run = scene.run(command);
    run.assert_code(exit_code::USAGE)
        .assert_says("`0` is not `num-cpus` or an integer other than 0");
}

/// The program by the name of cargo-nextest.
fn linked(scene: &Scene) -> PathBuf {
    let link = scene.path("cargo-nextest");
    symlink(env!("CARGO_BIN_EXE_cargo-harness"), &link).expect("the name is free");
    link
}

#[test]
fn by_the_name_of_cargo_nextest_it_answers_as_that_would() {
    let scene = Scene::new();
    let package = scene.package("over", "#[test] fn passes() {}\n");
    let link = linked(&scene);
    let call = |args: &[&str]| {
        let mut command = scene.command(&link);
        command
            .args(args)
            .current_dir(&package)
            .env("CARGO_TARGET_DIR", package.join("target"));
        scene.run(command)
    };
    for flag in ["--version", "-V"] {
        let version = call(&["nextest", flag]);
        version.assert_code(exit_code::OK);
        assert!(
            version.stdout.starts_with("cargo-nextest 0.9.143 "),
            "{}",
            version.stdout
        );
    }
    assert!(
        call(&["nextest", "--version"])
            .stdout
            .contains("\nrelease: 0.9.143\n")
    );
    let list = call(&["nextest", "list", "--message-format", "json"]);
    list.assert_code(exit_code::OK);
    assert!(list.stdout.starts_with('{'), "{}", list.stdout);
    call(&["nextest", "run", "--no-run"]).assert_code(exit_code::OK);
    call(&["nextest", "run", "--verbose", "--workspace"])
        .assert_code(exit_code::OK)
        .assert_says("1 passed");
    call(&["nextest", "run", "--no-pager", "nothing"]).assert_code(exit_code::NO_TESTS);
    call(&["nextest", "self"])
        .assert_code(exit_code::USAGE)
        .assert_says("`self` is cargo-nextest's and not supported yet");
}

/// A function that one test covers, and one that none does.
const COVERED: &str = "pub fn is_even(n: u32) -> bool { n % 2 == 0 }\n\
                       pub fn unused(n: u32) -> u32 { n + 1 }\n\
                       #[test] fn even() { assert!(crate::is_even(2)); assert!(!is_even(3)); }\n";

/// Returns a subcommand of cargo that calls cargo-nextest, which it finds under that name.
fn caller(scene: &Scene, package: &Path, args: &[&str]) -> Command {
    let link = linked(scene);
    let mut command = scene.command("cargo");
    let path = command
        .get_envs()
        .find_map(|(name, value)| value.filter(|_| name == "PATH"));
    let folders = std::env::split_paths(path.expect("it is set for every command"));
    let own = link.parent().expect("it is in the scene").to_owned();
    let path = std::env::join_paths([own].into_iter().chain(folders)).expect("they were joined");
    command.args(args).current_dir(package).env("PATH", path);
    command
}

#[test]
fn cargo_mutants_works_with_it() {
    if !installed("cargo-mutants", &["mutants", "--version"]) {
        return skip(
            "cargo_mutants_works_with_it",
            "cargo-mutants is not installed",
        );
    }
    let scene = Scene::new();
    let package = scene.package("over", COVERED);
    let args = ["mutants", "--test-tool=nextest", "--in-place"];
    let run = scene.run(caller(&scene, &package, &args));
    // Mutants of the function without a test are missed, which is exit code 2.
    run.assert_code(2);
    let read = |name: &str| {
        fs::read_to_string(package.join("mutants.out").join(name)).expect("it was written")
    };
    assert!(
        read("missed.txt").contains("unused"),
        "{}",
        read("missed.txt")
    );
    assert!(
        !read("missed.txt").contains("is_even"),
        "{}",
        read("missed.txt")
    );
    assert!(
        read("caught.txt").contains("is_even"),
        "{}",
        read("caught.txt")
    );
    let baseline = read("log/baseline.log");
    assert!(baseline.contains("trace io"), "{baseline}");
}

#[test]
fn cargo_llvm_cov_works_with_it() {
    let usable = installed("cargo-llvm-cov", &["llvm-cov", "--version"])
        && installed("cargo-llvm-cov", &["llvm-cov", "show-env"]);
    if !usable {
        return skip(
            "cargo_llvm_cov_works_with_it",
            "cargo-llvm-cov or the tools of LLVM are not installed",
        );
    }
    let scene = Scene::new();
    let package = scene.package("over", COVERED);
    let args = ["llvm-cov", "nextest", "--json", "--summary-only"];
    let run = scene.run(caller(&scene, &package, &args));
    run.assert_code(exit_code::OK).assert_says("trace io");
    let report: serde_json::Value = serde_json::from_str(&run.stdout).expect("it is JSON");
    let functions = &report["data"][0]["totals"]["functions"];
    assert_eq!(functions["count"], 3, "{report}");
    assert_eq!(functions["covered"], 2, "{report}");
}

#[test]
fn a_run_that_is_interrupted_ends_as_under_cargo_nextest_by_its_name() {
    let scene = Scene::new();
    let source = "#[test] fn waits() { println!(\"waiting\"); loop { std::thread::park() } }\n";
    let package = scene.package("over", source);
    let mut command = scene.command(linked(&scene));
    command
        .args(["nextest", "run", "--no-capture"])
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", package.join("target"));
    let running = scene.start(command);
    running.wait_for_output("waiting");
    running.signal(nix::sys::signal::Signal::SIGINT);
    running.finish().assert_code(exit_code::TEST_RUN_FAILED);
}

#[test]
fn the_migration_writes_once_and_tells_what_is_left_to_do() {
    let scene = Scene::new();
    let package = scene.package("over", TESTS);
    let theirs = "# Ours.\n[profile.ci]\nretries = 2\nfast = 1\n";
    migrate(&scene, &package, &[])
        .assert_code(exit_code::OK)
        .assert_says("there is no `.config/nextest.toml`, so no file is written");
    scene.write(THEIRS, theirs);
    scene.write(
        "over/.github/workflows/ci.yml",
        "steps:\n  - run: cargo nextest run -P ci\n  - run: cargo llvm-cov nextest\n",
    );
    let expected = "#:schema ./harness.schema.json\n# Ours.\n[profile.ci]\nretries = 2\nfast = 1\n";
    let shown = migrate(&scene, &package, &["--dry-run"]);
    shown.assert_code(exit_code::OK);
    assert_eq!(shown.stdout, expected);
    assert!(!scene.path(OURS).exists());
    migrate(&scene, &package, &["--check"])
        .assert_code(exit_code::SETUP)
        .assert_says("`.config/harness.toml` is not written yet");

    migrate(&scene, &package, &[])
        .assert_code(exit_code::OK)
        .assert_says(".config/nextest.toml:4:1: unknown key `profile.ci.fast`")
        .assert_says(
            ".github/workflows/ci.yml:2\n  - - run: cargo nextest run -P ci\n  \
             + - run: cargo harness run -P ci\n",
        )
        .assert_says("ln -s \"$(command -v cargo-harness)\"");
    let written = || fs::read_to_string(scene.path(OURS)).expect("it was written");
    assert_eq!(written(), expected);
    let schema = fs::read_to_string(scene.path("over/.config/harness.schema.json"));
    let shown = scene.run(scene.harness_in(&package, &["show-config", "schema"]));
    assert_eq!(schema.expect("it was written beside"), shown.stdout);

    scene.write(OURS, "# By hand.\n");
    migrate(&scene, &package, &[])
        .assert_code(exit_code::SETUP)
        .assert_says("`.config/harness.toml` is there already");
    assert_eq!(written(), "# By hand.\n");
    migrate(&scene, &package, &["--force"]).assert_code(exit_code::OK);
    assert_eq!(written(), expected);

    migrate(&scene, &package, &["--check"])
        .assert_code(exit_code::SETUP)
        .assert_says("the way over from cargo-nextest is not finished");
    scene.write(
        "over/.github/workflows/ci.yml",
        "steps:\n  - run: cargo harness run -P ci\n",
    );
    migrate(&scene, &package, &["--check"]).assert_code(exit_code::OK);
}

#[test]
fn a_required_version_that_is_too_new_ends_with_its_own_code() {
    let scene = Scene::new();
    let package = scene.package("over", "#[test] fn passes() {}\n");
    let call = |args: &[&str]| scene.run(scene.harness_in(&package, args));
    scene.write(OURS, "harness-version = '900.0.0'\n");
    call(&["run"])
        .assert_code(exit_code::REQUIRED_VERSION)
        .assert_says(".config/harness.toml:1:19: this workspace requires cargo harness 900.0.0")
        .assert_says("`--override-version-check` goes on all the same");
    call(&["run", "--override-version-check"])
        .assert_code(exit_code::OK)
        .assert_says("requires cargo harness 900.0.0");
    let shown = call(&["show-config", "version"]);
    shown.assert_code(exit_code::REQUIRED_VERSION);
    assert!(
        shown.stdout.ends_with("older than required\n"),
        "{}",
        shown.stdout
    );
    scene.write(OURS, "harness-version = { recommended = '900.0.0' }\n");
    call(&["list"])
        .assert_code(exit_code::OK)
        .assert_says("recommends cargo harness 900.0.0");
    call(&["show-config", "version"]).assert_code(exit_code::RECOMMENDED_VERSION);
    scene.write(OURS, "nextest-version = '0.9.50'\n");
    call(&["show-config", "version"]).assert_code(exit_code::OK);
}

#[test]
fn the_settings_of_a_person_count_where_command_line_and_environment_are_silent() {
    let scene = Scene::new();
    let package = scene.package("over", "#[test] fn passes() {}\n");
    scene.write(
        "config/harness/config.toml",
        "[ui]\nshow-progress = 'none'\n",
    );
    let run = |args: &[&str], variables: &[(&str, &str)]| {
        let args: Vec<&str> = ["run"].iter().chain(args).copied().collect();
        let mut command = scene.harness_in(&package, &args);
        command.env("XDG_CONFIG_HOME", scene.path("config"));
        command.envs(variables.iter().copied());
        let run = scene.run(command);
        run.assert_code(exit_code::OK);
        run.stderr.contains("(1/1)")
    };
    assert!(!run(&[], &[]));
    assert!(run(&["--user-config-file", "none"], &[]));
    assert!(run(&[], &[("NEXTEST_USER_CONFIG_FILE", "none")]));
    assert!(run(&[], &[("NEXTEST_SHOW_PROGRESS", "counter")]));
    assert!(run(&["--show-progress", "counter"], &[]));
    let mut command = scene.harness_in(&package, &["run"]);
    command.env("HARNESS_USER_CONFIG_FILE", scene.path("missing.toml"));
    scene
        .run(command)
        .assert_code(exit_code::SETUP)
        .assert_says("missing.toml` does not exist");
}

#[test]
fn the_file_of_a_tool_is_read_after_that_of_the_workspace() {
    let scene = Scene::new();
    let package = scene.package("over", "#[test] fn passes() {}\n");
    scene.write(OURS, "[profile.default]\nretries = 1\n");
    let tool = scene.write(
        "tool.toml",
        "[profile.default]\nretries = 2\nleak-timeout = '2s'\n",
    );
    let tool = format!("mutants:{}", tool.display());
    let args = ["show-config", "test", "--tool-config-file", &tool];
    let shown = scene.run(scene.harness_in(&package, &args));
    shown.assert_code(exit_code::OK);
    assert!(shown.stdout.contains("retries = 1"), "{}", shown.stdout);
    assert!(
        shown.stdout.contains("leak-timeout = { period = \"2s\""),
        "{}",
        shown.stdout
    );
    let args = ["list", "--tool-config-file", "mutants:relative.toml"];
    scene
        .run(scene.harness_in(&package, &args))
        .assert_code(exit_code::USAGE)
        .assert_says("`mutants:relative.toml` is not of the form `TOOL:/ABSOLUTE/PATH`");
}
