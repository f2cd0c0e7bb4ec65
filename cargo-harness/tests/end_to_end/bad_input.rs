//! Bad input: each ends with a sentence and the documented exit code, and what was known until
//! then is not lost.

use crate::scene::Scene;
use fixture_kit::{model::final_lines, results};
use harness_metadata::{EventKind, Outcome, exit_code};
use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

#[test]
fn outside_of_a_workspace_there_is_nothing_to_run() {
    let scene = Scene::new();
    let folder = scene.path("nowhere");
    fs::create_dir(&folder).unwrap();
    let run = scene.run(scene.harness_in(&folder, &["run"]));
    run.assert_code(exit_code::METADATA_FAILED)
        .assert_says("Cargo.toml");
    run.assert_sentence();
}

#[test]
fn a_build_that_fails_is_shown_as_cargo_shows_it() {
    let scene = Scene::new();
    let folder = scene.package("broken", "#[test]\nfn broken() { no_such_function() }\n");
    let run = scene.run(scene.harness_in(&folder, &["run"]));
    run.assert_code(exit_code::BUILD_FAILED)
        .assert_says("no_such_function");
    run.assert_sentence();
}

#[test]
fn a_run_without_tests_is_what_the_user_says_it_is() {
    let scene = Scene::new();
    let outcomes = [
        (None, exit_code::NO_TESTS),
        (Some("fail"), exit_code::NO_TESTS),
        (Some("warn"), exit_code::OK),
        (Some("pass"), exit_code::OK),
    ];
    for (no_tests, code) in outcomes {
        let mut command = scene.harness(["run", "-p", "empty"]);
        command.args(no_tests.map(|no_tests| format!("--no-tests={no_tests}")));
        let run = scene.run(command);
        run.assert_code(code);
        let says = run.stderr.contains("no tests to run");
        assert_eq!(
            says,
            no_tests != Some("pass"),
            "{no_tests:?}: {}",
            run.stderr
        );
    }
}

#[test]
fn a_filter_that_nothing_matches_is_no_success() {
    let scene = Scene::new();
    let run = scene.run(scene.harness(["run", "-p", "targets", "no_such_test_anywhere"]));
    run.assert_code(exit_code::NO_TESTS)
        .assert_says("no tests to run");
}

#[test]
fn a_binary_that_cannot_be_listed_is_named_with_what_it_said() {
    let scene = Scene::new();
    let ways = [
        ("garbage", "What is a list?"),
        ("empty-line", "harnesses::unruly"),
        ("not-utf-8", "harnesses::unruly"),
        ("fails", "no list today"),
        ("crashes", "about to abort"),
    ];
    for (way, says) in ways {
        for command in ["list", "run"] {
            let mut command = scene.harness([command, "-p", "harnesses"]);
            command
                .args(["--features", "unruly"])
                .env("FIXTURE_UNRULY", way);
            let run = scene.run(command);
            run.assert_code(exit_code::LIST_FAILED)
                .assert_says("harnesses::unruly");
            run.assert_says(says);
            run.assert_sentence();
        }
    }
}

#[test]
fn a_binary_whose_list_is_empty_has_no_tests() {
    let scene = Scene::new();
    let mut command = scene.harness(["list", "-p", "harnesses", "--features", "unruly"]);
    command.env("FIXTURE_UNRULY", "nothing");
    let list = scene.run(command);
    list.assert_code(exit_code::OK);
    assert!(
        !list.stdout.contains("harnesses::unruly"),
        "{}",
        list.stdout
    );
    assert!(
        list.stdout.contains("harnesses::custom plain\n"),
        "{}",
        list.stdout
    );
}

#[test]
fn a_binary_that_hangs_when_listed_is_named_and_killed() {
    let scene = Scene::new();
    let config = scene.write("harness.toml", "[profile.default]\nlist-timeout = \"2s\"\n");
    // Built beforehand: how long that takes is not the subject.
    let build = ["list", "-p", "harnesses", "--features", "unruly"];
    scene.run(scene.harness(build)).assert_code(exit_code::OK);
    for way in ["hangs", "hangs-with-a-child"] {
        let mut command = scene.harness(["run", "-p", "harnesses", "--features", "unruly"]);
        command
            .env("FIXTURE_UNRULY", way)
            .arg("--config-file")
            .arg(&config);
        let started = Instant::now();
        let run = scene.run(command);
        run.assert_code(exit_code::LIST_FAILED)
            .assert_says("harnesses::unruly");
        assert!(
            started.elapsed() < Duration::from_secs(50),
            "it waited for the binary"
        );
        run.assert_sentence();
        scene.assert_no_strays();
    }
}

#[test]
fn a_binary_that_disappears_between_list_and_run_fails_its_tests_by_name() {
    let scene = Scene::new();
    let mut command = scene.harness(["run", "-p", "harnesses", "--features", "unruly", "-j", "1"]);
    // The binary is removed: this needs a target folder of its own.
    command
        .env("CARGO_TARGET_DIR", scene.path("target"))
        .arg("--no-fail-fast");
    command.arg("--events").arg(scene.path("events"));
    let run = scene.run(command);
    run.assert_code(exit_code::TEST_RUN_FAILED);
    let lines = final_lines(&run.stderr);
    assert_eq!(lines["harnesses::unruly b_comes_after"], "XFAIL");
    assert_eq!(lines["harnesses::unruly a_removes_the_binary"], "PASS");

    let failure = results::events(&scene)
        .into_iter()
        .find_map(|event| match event.kind {
            EventKind::TestFinished(test) if test.test.name.as_str() == "b_comes_after" => {
                Some(test.attempts[0].outcome.clone())
            }
            _ => None,
        });
    let Some(Outcome::StartFailed(failure)) = failure else {
        panic!("the test did not fail to start: {failure:?}");
    };
    assert_eq!(failure.errno, nix::libc::ENOENT);
    assert!(
        failure.message.contains("unruly-"),
        "no path in {failure:?}"
    );
}

#[test]
fn an_error_about_a_variable_names_the_variable() {
    let scene = Scene::new();
    let folder = scene.path("nowhere");
    fs::create_dir(&folder).unwrap();
    let help = scene.run(scene.harness_in(&folder, &["run", "--help"]));
    let ours: BTreeSet<&str> = (help.stdout.split("[env: ").skip(1))
        .filter_map(|rest| rest.split('=').next())
        .collect();
    let theirs = ours.iter().filter_map(|name| name.strip_prefix("HARNESS_"));
    let theirs: Vec<String> = theirs.map(|name| format!("NEXTEST_{name}")).collect();
    let mut refused = Vec::new();
    for name in ours
        .iter()
        .copied()
        .chain(theirs.iter().map(String::as_str))
    {
        let mut command = scene.harness_in(&folder, &["run"]);
        command.env(name, "bogus");
        let run = scene.run(command);
        if let Some(error) = run.stderr.lines().find(|line| line.contains("'bogus'")) {
            assert!(error.contains(&format!("for '{name}'")), "{name}: {error}");
            run.assert_code(exit_code::USAGE);
            refused.push(name);
        }
    }
    for name in ["CARGO_TERM_COLOR", "HARNESS_TRACE", "NEXTEST_RETRIES"] {
        assert!(refused.contains(&name), "{refused:?}");
    }
    assert!(refused.len() > 20, "{refused:?}");

    // The command line wins over a variable.
    let mut command = scene.harness_in(&folder, &["run", "--trace", "bogus"]);
    command.env("HARNESS_TRACE", "io");
    let run = scene.run(command);
    run.assert_says("for '--trace <LEVEL>'");
}

#[test]
fn help_has_subcommands_and_pages_and_names_what_it_has_not() {
    let scene = Scene::new();
    let page = scene.run(scene.harness(["help", "filtersets"]));
    page.assert_code(exit_code::OK);
    assert!(page.stdout.contains("binary_id(my-crate::tests)"));
    let subcommand = scene.run(scene.harness(["help", "show-config", "test"]));
    subcommand.assert_code(exit_code::OK);
    let usage = "Usage: cargo harness show-config test";
    assert!(subcommand.stdout.contains(usage), "{}", subcommand.stdout);
    let unknown = scene.run(scene.harness(["help", "show-config", "nothing"]));
    unknown
        .assert_code(exit_code::USAGE)
        .assert_says("no subcommand and no topic `show-config nothing`");
    unknown.assert_sentence();
}
