//! Bad input and bad surroundings: each ends with a sentence and the documented exit code, and
//! what was known until then is not lost.

use crate::environment::installed;
use crate::scene::{Finished, Scene, fixture, skip};
use fixture_model::{final_lines, parse_events};
use harness_metadata::{EventKind, Outcome, exit_code};
use nix::unistd::geteuid;
use std::{
    fs::{self, File},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// Fails unless the last message is one for people: an error, and no debug text.
#[track_caller]
fn assert_sentence(run: &Finished) {
    let errors: Vec<_> = run
        .stderr
        .lines()
        .filter(|line| line.starts_with("error"))
        .collect();
    assert!(
        !errors.is_empty(),
        "no line starts with `error`:\n{}",
        run.stderr
    );
    for debug in [
        "RUST_BACKTRACE",
        "Os {",
        "Error {",
        "Some(",
        "stack backtrace",
    ] {
        assert!(
            !run.stderr.contains(debug),
            "`{debug}` in the messages:\n{}",
            run.stderr
        );
    }
}

/// Writes a package without a workspace into the scene.
fn package(scene: &Scene, name: &str, source: &str) -> std::path::PathBuf {
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n"
    );
    scene.write(&format!("{name}/src/lib.rs"), source);
    let manifest = scene.write(&format!("{name}/Cargo.toml"), &manifest);
    manifest.parent().expect("it is in a folder").to_owned()
}

/// Returns a command for a package of [`package`], built into its own folder.
fn harness_in(scene: &Scene, folder: &Path, args: &[&str]) -> Command {
    let mut command = scene.harness([]);
    command
        .args(args)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"));
    command
}

const TWO_TESTS: &str = "#[test]\nfn one() {}\n#[test]\nfn two() { panic!(\"two fails\") }\n";

#[test]
fn outside_of_a_workspace_there_is_nothing_to_run() {
    let scene = Scene::new();
    let folder = scene.path("nowhere");
    fs::create_dir(&folder).unwrap();
    let run = scene.run(harness_in(&scene, &folder, &["run"]));
    run.assert_code(exit_code::METADATA_FAILED)
        .assert_says("Cargo.toml");
    assert_sentence(&run);
}

#[test]
fn a_build_that_fails_is_shown_as_cargo_shows_it() {
    let scene = Scene::new();
    let folder = package(
        &scene,
        "broken",
        "#[test]\nfn broken() { no_such_function() }\n",
    );
    let run = scene.run(harness_in(&scene, &folder, &["run"]));
    run.assert_code(exit_code::BUILD_FAILED)
        .assert_says("no_such_function");
    assert_sentence(&run);
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
            assert_sentence(&run);
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
        assert_sentence(&run);
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
    assert!(
        !lines.contains_key("harnesses::unruly a_removes_the_binary"),
        "{}",
        run.stderr
    );

    let events = fs::read_to_string(scene.path("events")).unwrap();
    let failure = parse_events(&events)
        .unwrap()
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
fn a_closed_standard_output_fails_a_list_but_never_a_run() {
    let scene = Scene::new();
    let run = in_shell(&scene, ">&-", &["run", "-p", "targets"]);
    assert_eq!(run.status.code(), Some(exit_code::OK), "{}", run.stderr);
    let list = in_shell(&scene, ">&-", &["list", "-p", "targets"]);
    assert!(
        list.status.code().is_some(),
        "a signal killed it: {}",
        list.status
    );
}

#[test]
fn a_full_standard_output_fails_a_list() {
    let scene = Scene::new();
    let list = in_shell(&scene, "> /dev/full", &["list", "-p", "targets"]);
    list.assert_code(exit_code::WRITE_FAILED);
    assert_sentence(&list);
}

#[test]
fn a_full_or_closed_standard_error_never_hides_that_a_test_failed() {
    let scene = Scene::new();
    let folder = package(&scene, "two", TWO_TESTS);
    for redirection in ["2> /dev/full", "2>&-"] {
        for (filter, passing) in [("one", true), ("two", false)] {
            let junit = scene.path("junit.xml");
            let mut command = harness_in(&scene, &folder, &["run", filter, "--junit"]);
            command.arg(&junit);
            let run = redirected(&scene, &command, redirection);
            let code = run.status.code();
            let known = [
                Some(exit_code::WRITE_FAILED),
                Some(exit_code::TEST_RUN_FAILED),
            ];
            // A run whose messages cannot be written may say so; a failure is never a success.
            let right = known.contains(&code) || passing && code == Some(exit_code::OK);
            assert!(right, "{redirection} {filter}: {}", run.status);
        }
    }
}

#[test]
fn a_reader_of_the_list_may_leave_early() {
    let scene = Scene::new();
    let command = scene.harness(["list", "--workspace"]);
    let run = piped(&scene, &command, "| head -n 1");
    assert_eq!(run.stdout.lines().count(), 1, "{}", run.stdout);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

#[test]
fn events_that_cannot_be_written_are_no_success() {
    let scene = Scene::new();
    let run = scene.run(scene.harness(["run", "-p", "targets", "--events", "/dev/full"]));
    run.assert_code(exit_code::WRITE_FAILED)
        .assert_says("/dev/full");
    let mut command = scene.harness(["run", "-p", "targets", "--junit"]);
    command.arg(scene.write("a-file", "").join("junit.xml"));
    let run = scene.run(command);
    run.assert_code(exit_code::WRITE_FAILED)
        .assert_says("a-file");
    run.assert_says("7 tests run: 7 passed");
}

#[test]
fn a_target_folder_that_cannot_be_written_is_named() {
    let scene = Scene::new();
    let folder = package(&scene, "read-only", TWO_TESTS);
    let target = folder.join("target");
    if geteuid().is_root() {
        // Permissions do not stop root; a file in the place of the folder does.
        File::create(&target).unwrap();
    } else {
        fs::create_dir(&target).unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o500)).unwrap();
    }
    let run = scene.run(harness_in(&scene, &folder, &["run"]));
    assert!(
        !run.status.success() && run.status.code().is_some(),
        "{}",
        run.status
    );
    run.assert_says("target");
    assert_sentence(&run);
}

#[test]
fn a_built_target_folder_that_became_read_only_still_runs() {
    let name = "a_built_target_folder_that_became_read_only_still_runs";
    if !can_unshare() {
        return skip(name, "a mount namespace needs root");
    }
    let scene = Scene::new();
    let folder = package(&scene, "sealed", TWO_TESTS);
    scene
        .run(harness_in(&scene, &folder, &["run", "one"]))
        .assert_code(exit_code::OK);
    let script = "mount --bind target target && mount -o remount,bind,ro target && exec \"$@\"";
    let run = in_namespace(
        &scene,
        &harness_in(&scene, &folder, &["run", "one"]),
        script,
    );
    // Cargo may refuse to work on a folder that it cannot lock; then that is what is said.
    let code = run.status.code();
    assert!(
        [Some(0), Some(exit_code::BUILD_FAILED)].contains(&code),
        "{}: {}",
        run.status,
        run.stderr
    );
}

#[test]
fn without_proc_it_degrades_and_says_so() {
    let name = "without_proc_it_degrades_and_says_so";
    if !can_unshare() {
        return skip(name, "a mount namespace needs root");
    }
    let scene = Scene::new();
    let folder = package(&scene, "no-proc", TWO_TESTS);
    // Built first: neither cargo nor the compiler is the subject here.
    scene
        .run(harness_in(&scene, &folder, &["run", "one"]))
        .assert_code(exit_code::OK);
    let command = harness_in(&scene, &folder, &["run", "--no-fail-fast"]);
    let run = in_namespace(&scene, &command, "mount -t tmpfs none /proc && exec \"$@\"");
    run.assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("2 tests run: 1 passed, 1 failed");
    run.assert_says("/proc");
}

/// Runs the command with a redirection of the shell.
fn redirected(scene: &Scene, command: &Command, redirection: &str) -> Finished {
    shell(scene, command, &format!("exec \"$@\" {redirection}"))
}

fn piped(scene: &Scene, command: &Command, rest: &str) -> Finished {
    shell(scene, command, &format!("\"$@\" {rest}"))
}

fn in_shell(scene: &Scene, redirection: &str, args: &[&str]) -> Finished {
    let mut command = scene.harness([]);
    command.args(args);
    redirected(scene, &command, redirection)
}

/// Runs the command by a script of the shell, which finds it in its arguments.
fn shell(scene: &Scene, command: &Command, script: &str) -> Finished {
    scene.run(wrapped(scene, command, "sh", &["-c", script, "sh"]))
}

/// Runs the command in a mount namespace of its own, by a script that prepares it.
fn in_namespace(scene: &Scene, command: &Command, script: &str) -> Finished {
    let args = [
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        "sh",
    ];
    scene.run(wrapped(scene, command, "unshare", &args))
}

fn can_unshare() -> bool {
    geteuid().is_root() && installed("unshare", &["--mount", "true"])
}

/// Returns the same command, as arguments of another one.
pub(crate) fn wrapped(scene: &Scene, command: &Command, by: &str, args: &[&str]) -> Command {
    let mut wrapper = scene.command(by);
    wrapper
        .arg0(by)
        .args(args)
        .arg(command.get_program())
        .args(command.get_args());
    wrapper.current_dir(
        command
            .get_current_dir()
            .map_or_else(fixture, Path::to_owned),
    );
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapper.env(name, value),
            None => wrapper.env_remove(name),
        };
    }
    wrapper
}
