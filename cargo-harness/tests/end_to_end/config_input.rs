//! Bad configuration and bad arguments. All of it is found before anything is built.

use crate::scene::{Finished, Scene};
use harness_metadata::exit_code;

/// Lists one package with this configuration.
fn list_with(scene: &Scene, config: &str) -> Finished {
    let config = scene.write("harness.toml", config);
    let mut command = scene.harness(["list", "-p", "macros"]);
    command.arg("--config-file").arg(config);
    scene.run(command)
}

#[test]
fn a_configuration_that_is_not_toml_is_an_error_with_its_place() {
    let scene = Scene::new();
    let run = list_with(&scene, "[profile.default]\nretries = = 3\n");
    run.assert_code(exit_code::SETUP)
        .assert_says("harness.toml")
        .assert_says("retries = = 3");
}

#[test]
fn a_value_of_the_wrong_type_is_an_error_with_its_key() {
    let scene = Scene::new();
    let wrong = [
        ("[profile.default]\nretries = \"often\"\n", "retries"),
        ("[profile.default]\nslow-timeout = 60\n", "slow-timeout"),
        ("[profile.default]\ntest-threads = 0\n", "test-threads"),
        ("[profile.default]\ntrace = \"everything\"\n", "trace"),
        (
            "[test-groups]\ng = { max-threads = \"many\" }\n",
            "max-threads",
        ),
        (
            "[profile.default]\nleak-timeout = \"soon\"\n",
            "leak-timeout",
        ),
    ];
    for (config, key) in wrong {
        list_with(&scene, config)
            .assert_code(exit_code::SETUP)
            .assert_says(key);
    }
}

#[test]
fn an_unknown_key_is_a_warning_with_the_nearest_known_one() {
    let scene = Scene::new();
    let run = list_with(&scene, "[profile.default]\nretrys = 3\n");
    run.assert_code(exit_code::OK)
        .assert_says("retrys")
        .assert_says("retries");
    assert!(
        run.stdout.contains("the_macro_has_a_test"),
        "{}",
        run.stdout
    );
}

#[test]
fn a_configuration_file_that_is_not_there_is_an_error() {
    let scene = Scene::new();
    let mut command = scene.harness(["list", "-p", "macros"]);
    command.arg("--config-file").arg(scene.path("missing.toml"));
    scene
        .run(command)
        .assert_code(exit_code::SETUP)
        .assert_says("missing.toml");
}

#[test]
fn an_unknown_profile_is_an_error_with_the_known_ones() {
    let scene = Scene::new();
    let run = scene.run(scene.harness(["run", "--profile", "nope"]));
    run.assert_code(exit_code::SETUP).assert_says("nope");
    run.assert_says("ci").assert_says("nightly");
}

#[test]
fn a_cycle_of_profiles_is_an_error() {
    let scene = Scene::new();
    let config = "[profile.a]\ninherits = \"b\"\n[profile.b]\ninherits = \"a\"\n";
    list_with(&scene, config)
        .assert_code(exit_code::SETUP)
        .assert_says("inherit");
}

#[test]
fn an_override_without_a_condition_is_an_error() {
    let scene = Scene::new();
    let run = list_with(&scene, "[[profile.default.overrides]]\nretries = 1\n");
    run.assert_code(exit_code::SETUP).assert_says("filter");
}

#[test]
fn an_unknown_test_group_is_an_error_with_its_name() {
    let scene = Scene::new();
    let config = "[[profile.default.overrides]]\nfilter = \"all()\"\ntest-group = \"nobody\"\n";
    list_with(&scene, config)
        .assert_code(exit_code::SETUP)
        .assert_says("nobody");
}

#[test]
fn an_invalid_filterset_is_shown_with_a_caret() {
    let scene = Scene::new();
    for filter in [
        "test(",
        "test(a) && test(b)",
        "no_such_predicate(a)",
        "test(/[/)",
    ] {
        let run = scene.run(scene.harness(["run", "-E", filter]));
        run.assert_code(exit_code::INVALID_FILTERSET)
            .assert_says(filter);
        let caret = run.stderr.lines().any(|line| {
            let line = line.trim_start_matches([' ', '│', '·', '|']);
            line.starts_with(['^', '─', '┬', '╰', '▲'])
        });
        assert!(caret, "nothing points at the mistake:\n{}", run.stderr);
    }
}

#[test]
fn a_filterset_that_can_match_nothing_is_an_error() {
    let scene = Scene::new();
    let run = scene.run(scene.harness(["run", "-E", "package(=no-such-package)"]));
    run.assert_code(exit_code::INVALID_FILTERSET)
        .assert_says("no-such-package");
}

#[test]
fn an_invalid_filterset_in_the_configuration_is_an_error_with_its_override() {
    let scene = Scene::new();
    let config = "[[profile.default.overrides]]\nfilter = \"test(\"\nretries = 1\n";
    let run = list_with(&scene, config);
    run.assert_code(exit_code::SETUP)
        .assert_says("default")
        .assert_says("test(");
}

#[test]
fn a_wrong_command_line_is_an_error_with_a_hint() {
    let scene = Scene::new();
    for args in [
        ["run", "--no-such-option"],
        ["run", "--partition=hash:4/3"],
        ["run", "--test-threads=0"],
        ["run", "--max-fail=zero"],
        ["run", "--status-level=loud"],
    ] {
        scene
            .run(scene.harness(args))
            .assert_code(exit_code::USAGE)
            .assert_says("--help");
    }
}

#[test]
fn an_argument_of_the_standard_harness_that_is_not_known_here_is_named() {
    let scene = Scene::new();
    let run = scene.run(scene.harness(["run", "--", "--test-threads", "1"]));
    run.assert_code(exit_code::SETUP)
        .assert_says("--test-threads");
}

#[test]
fn bad_input_is_found_before_anything_is_built() {
    let scene = Scene::new();
    for args in [["run", "-E", "test("], ["run", "--profile", "nope"]] {
        let mut command = scene.harness(args);
        command.env("CARGO_TARGET_DIR", scene.path("target"));
        let run = scene.run(command);
        assert!(!run.stderr.contains("Compiling"), "{}", run.stderr);
    }
}

#[test]
fn all_mistakes_of_all_files_are_said_at_once_in_their_order() {
    let scene = Scene::new();
    let own = "[profile.default]\nretries = \"often\"\ndefault-filter = \"test(\"\ntrace = 1\n";
    let own = scene.write("harness.toml", own);
    let tool = scene.write("tool.toml", "profile.default.retries = 'x'\n");
    let user = scene.write("user.toml", "ui.show-progress = 'bars'\n");
    let mut command = scene.harness(["run", "-p", "macros"]);
    command.arg("--config-file").arg(own);
    command.arg("--user-config-file").arg(user);
    command.arg(format!("--tool-config-file=t:{}", tool.display()));
    let run = scene.run(command);
    run.assert_code(exit_code::SETUP);
    let errors = run.stderr.lines();
    let errors = errors.filter_map(|line| line.strip_prefix("error: "));
    let places: Vec<&str> = errors
        .map(|error| {
            let end = error.find(": ").expect("each has its place");
            error[..end].rsplit('/').next().unwrap_or_default()
        })
        .collect();
    let expected = [
        "harness.toml:2:11",
        "harness.toml:3:18",
        "harness.toml:4:9",
        "tool.toml:1:27",
        "user.toml:1:20",
    ];
    assert_eq!(places, expected, "{}", run.stderr);
    // The diagram of the filterset stands below its line.
    run.assert_says("missing `)`");
    assert!(!run.stderr.contains("Compiling"), "{}", run.stderr);
}

#[test]
fn show_config_check_finds_the_mistakes_of_every_profile_and_file_at_once() {
    let scene = Scene::new();
    let check = |own: &str, user: &str| {
        let own = scene.write("harness.toml", own);
        let user = scene.write("user.toml", user);
        let mut command = scene.harness(["show-config", "check"]);
        command.arg("--config-file").arg(own);
        command.arg("--user-config-file").arg(user);
        scene.run(command)
    };
    let run = check(
        "[profile.a]\nretries = 'x'\n[profile.b]\ninherits = 'c'\n\
         default-filter = 'package(nowhere)'\n[profile.c]\ndefault-filter = 'binary(nothing)'\n",
        "ui = 1\n",
    );
    run.assert_code(exit_code::SETUP);
    for place in [
        "toml:2:11: ",
        "toml:5:18: ",
        "toml:7:18: ",
        "user.toml:1:6: ",
    ] {
        let said = run.stderr.matches(place).count();
        assert_eq!(said, 1, "{place}: {}", run.stderr);
    }
    assert_eq!(run.stderr.matches("error: ").count(), 4, "{}", run.stderr);
    assert!(!run.stderr.contains("Compiling"), "{}", run.stderr);

    let run = check("[profile.a]\nretries = 1\n", "");
    run.assert_code(exit_code::OK);
    let (files, profiles) = run.stdout.split_once("; ").expect("there are two parts");
    assert!(files.starts_with("no mistakes: `"), "{files}");
    assert_eq!(profiles, "profiles `a`, `default`, `default-miri`\n");
}

#[test]
fn a_filterset_that_would_exhaust_the_stack_is_an_error() {
    let scene = Scene::new();
    for filter in ["(", "!", "not "] {
        let deep = filter.repeat(20_000);
        let run = scene.run(scene.harness(["run", "-E", &deep]));
        run.assert_code(exit_code::INVALID_FILTERSET)
            .assert_says("more than 100 parentheses and negations");
    }
    list_with(
        &scene,
        &format!("profile.default.default-filter = '{}'", "(".repeat(20_000)),
    )
    .assert_code(exit_code::SETUP)
    .assert_says("more than 100 parentheses and negations");
}
