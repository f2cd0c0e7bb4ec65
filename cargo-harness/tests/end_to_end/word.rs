//! A pass needs the word of the test's own harness, from the binary that was listed.

use crate::scene::{Finished, Scene, fixture, wait_until};
use fixture_kit::results::{self, events};
use harness_metadata::{EventKind, NoResultKind, Outcome, Verdict, exit_code};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// The time limit for a test to start, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A package whose tests have a harness of their own.
fn with_harness(scene: &Scene, name: &str, harness: &str) -> PathBuf {
    let folder = scene.package(name, "");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("it was written");
    let target = "\n[[test]]\nname = \"own\"\nharness = false\n";
    scene.write(&format!("{name}/Cargo.toml"), &(manifest + target));
    scene.write(&format!("{name}/tests/own.rs"), harness);
    folder
}

fn run(scene: &Scene, folder: &Path, args: &[&str]) -> Command {
    let mut command = scene.harness_in(folder, &["run", "--no-fail-fast"]);
    command.arg("--events").arg(scene.path("events")).args(args);
    command
}

/// The result of every test, by its name: its outcome in a word, and whether it passed.
fn results(scene: &Scene) -> BTreeMap<String, (&'static str, bool)> {
    let finished = events(scene)
        .into_iter()
        .filter_map(|event| match event.kind {
            EventKind::TestFinished(test) => Some(test),
            _ => None,
        });
    let result = |test: Box<harness_metadata::event::TestFinished>| {
        let word = match &test.attempts[0].outcome {
            Outcome::Exited(exit) if exit.success() => "exit 0",
            Outcome::Exited(_) => "failed",
            Outcome::BinaryChanged(_) => "changed",
            Outcome::NoResult(no) => match no.kind {
                NoResultKind::Unreported => "unreported",
                NoResultKind::RanNothing => "ran nothing",
                NoResultKind::Ignored => "ignored",
            },
            other => panic!("{}: {other:?}", test.test),
        };
        let name = test.test.name.as_str().to_owned();
        (name, (word, test.verdict == Verdict::Pass))
    };
    finished.map(result).collect()
}

#[track_caller]
fn assert_results(scene: &Scene, expected: &[(&str, &'static str, bool)]) {
    let expected = expected.iter();
    let expected = expected.map(|(name, word, passed)| ((*name).to_owned(), (*word, *passed)));
    assert_eq!(results(scene), expected.collect());
}

const WAITS: &str = r#"
#[test] fn a_waits() {
    std::fs::write(std::env::var_os("STARTED").unwrap(), "").unwrap();
    while !std::path::Path::new(&std::env::var_os("GO_ON").unwrap()).exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
#[test] fn b_passes() {}
#[test] fn z_fails() { panic!("it is here no longer, and failed") }
"#;

/// Runs a package whose tests wait until the binary has been built anew.
fn rebuilt_meanwhile(scene: &Scene, folder: &Path, args: &[&str]) -> Finished {
    let (waiting, go_on) = (scene.path("started"), scene.path("go-on"));
    let mut command = run(scene, folder, args);
    command.args(["-j", "1"]);
    command.env("STARTED", &waiting).env("GO_ON", &go_on);
    let running = scene.start(command);
    let waits = wait_until(SOON, || waiting.exists().then_some(()));
    assert!(waits.is_some(), "{}", running.stderr_so_far());
    let source = fs::read_to_string(folder.join("src/lib.rs")).expect("it was written");
    fs::write(
        folder.join("src/lib.rs"),
        source.replace("z_fails", "z_renamed"),
    )
    .expect("it is ours");
    let mut cargo = scene.command("cargo");
    cargo.args(["test", "--no-run"]).current_dir(folder);
    cargo.env("CARGO_TARGET_DIR", folder.join("target"));
    scene.run(cargo).assert_code(0);
    fs::write(go_on, "").expect("the folder is ours");
    running.finish()
}

#[test]
fn what_is_left_of_a_binary_that_was_rebuilt_meanwhile_does_not_run() {
    for level in ["off", "process", "io"] {
        let scene = Scene::new();
        let folder = scene.package("rebuilt", WAITS);
        let run = rebuilt_meanwhile(&scene, &folder, &["--trace", level]);
        run.assert_code(exit_code::TEST_RUN_FAILED);
        assert_results(
            &scene,
            &[
                // It was there first, whatever replaced it while it ran.
                ("a_waits", "exit 0", true),
                ("b_passes", "changed", false),
                ("z_fails", "changed", false),
            ],
        );
        run.assert_says("was rebuilt or replaced after its tests were listed; start another run")
            .assert_says("2 not run as their binary changed");
    }
}

#[test]
fn a_test_may_link_its_own_binary_and_change_its_permissions() {
    const LINKS: &str = r#"
use std::{fs, os::unix::fs::PermissionsExt};
#[test] fn a_links() {
    let own = std::env::current_exe().unwrap();
    fs::hard_link(&own, own.with_extension("link")).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
}
#[test] fn b_passes() {}
"#;
    let scene = Scene::new();
    let folder = scene.package("links", LINKS);
    let run = scene.run(run(&scene, &folder, &["-j", "1"]));
    run.assert_code(exit_code::OK);
}

#[test]
fn a_binary_that_was_replaced_below_a_target_runner_is_no_pass() {
    let scene = Scene::new();
    let folder = scene.package("runner", WAITS);
    let runner = "[target.'cfg(unix)']\nrunner = [\"env\"]\n";
    scene.write("runner/.cargo/config.toml", runner);
    let run = rebuilt_meanwhile(&scene, &folder, &[]);
    run.assert_code(exit_code::TEST_RUN_FAILED);
    let changed = |name| (name, "changed", false);
    assert_results(&scene, &["a_waits", "b_passes", "z_fails"].map(changed));
    run.assert_says("while its target runner ran, which may have executed either");
}

#[test]
fn output_of_any_size_and_order_hides_no_result() {
    const NOISY: &str = r#"
use std::io::Write;
fn flood(mut to: impl Write) { for _ in 0..40_000 { to.write_all(&[b'x'; 79]).unwrap(); to.write_all(b"\n").unwrap() } }
#[test] fn floods() { flood(std::io::stdout()) }
#[test] fn floods_and_exits() { flood(std::io::stdout()); std::process::exit(0) }
#[test] fn prints_no_newline() { print!("no newline") }
#[test] fn writes_from_a_thread_all_the_time() {
    std::thread::spawn(|| loop { println!("noise") });
    std::thread::sleep(std::time::Duration::from_millis(20));
}
#[test] fn has_a_child_that_goes_on() {
    std::process::Command::new("sh").args(["-c", "(sleep 0.1; seq 20000) & seq 20000"]).status().unwrap();
}
#[test] #[should_panic] fn should_panic() { println!("running 0 tests"); panic!("as it should") }
#[test] #[should_panic] fn should_panic_and_exits() { std::process::exit(0) }
#[test] #[ignore] fn ignored() {}
#[test] fn quiet() {}
"#;
    let scene = Scene::new();
    let folder = scene.package("noisy", NOISY);
    let expected = [
        ("floods", "exit 0", true),
        ("floods_and_exits", "unreported", false),
        ("has_a_child_that_goes_on", "exit 0", true),
        ("ignored", "exit 0", true),
        ("prints_no_newline", "exit 0", true),
        ("quiet", "exit 0", true),
        ("should_panic", "exit 0", true),
        ("should_panic_and_exits", "unreported", false),
        ("writes_from_a_thread_all_the_time", "exit 0", true),
    ];
    for (config, arguments) in [
        ("", &[][..]),
        ("output-cap = '1 KiB'", &[]),
        ("output-cap = 0", &["--trace", "off"]),
        ("run-extra-args = ['--test-threads=1']", &[]),
        ("run-extra-args = ['--quiet']", &[]),
        (
            "run-extra-args = ['--format', 'terse', '--color=always']",
            &[],
        ),
    ] {
        let config = format!("[profile.default]\nleak-timeout = '30s'\n{config}\n");
        scene.write("noisy/.config/harness.toml", &config);
        let mut args = vec!["--run-ignored", "all", "--failure-output", "never"];
        args.extend(arguments);
        let run = scene.run(run(&scene, &folder, &args));
        run.assert_code(exit_code::TEST_RUN_FAILED);
        assert_results(&scene, &expected);
        run.assert_says("2 without a result");
    }
}

#[test]
fn a_test_without_a_result_can_be_allowed_to_pass_and_one_that_did_not_run_cannot() {
    let scene = Scene::new();
    let config = scene.write(
        "loose.toml",
        "[profile.default]\nrequire-result = false\nfail-fast = false\n",
    );
    let mut command = scene.harness(["run", "-p", "harnesses", "-E", "binary(imitation)"]);
    command.arg("--config-file").arg(config);
    command.arg("--events").arg(scene.path("events"));
    let run = scene.run(command);
    run.assert_code(exit_code::TEST_RUN_FAILED);
    let results = results(&scene);
    assert_eq!(results["exits early"], ("exit 0", true));
    assert_eq!(results["was listed and is gone"], ("ran nothing", false));
    run.assert_says("IGNORED")
        .assert_says("ignored by themselves");
}

#[test]
fn a_harness_that_lists_nothing_is_named() {
    let scene = Scene::new();
    let sentence = "`harnesses::silent` has `harness = false` and lists no tests";
    let mut command = scene.harness(["run", "-p", "harnesses", "-E", "test(=plain)"]);
    command.arg("--events").arg(scene.path("events"));
    let run = scene.run(command);
    run.assert_code(exit_code::OK).assert_says(sentence);
    let events = events(&scene);
    let silent = &results::started(&events).silent_binaries;
    let silent: Vec<_> = silent.iter().map(|binary| binary.as_str()).collect();
    assert_eq!(silent, ["harnesses::silent"]);

    let list = scene.run(scene.harness(["list", "-p", "harnesses"]));
    list.assert_code(exit_code::OK).assert_says(sentence);
    let verbose = scene.harness(["list", "-p", "harnesses", "-v", "-T", "human"]);
    let verbose = scene.run(verbose);
    let remark = "(no tests: it has `harness = false` and lists none, so nothing of it runs";
    assert!(verbose.stdout.contains(remark), "{}", verbose.stdout);
    // One that was not asked is not known to list nothing.
    let elsewhere = scene.run(scene.harness(["run", "-p", "harnesses", "-E", "binary(custom)"]));
    assert!(!elsewhere.stderr.contains("silent"), "{}", elsewhere.stderr);
}

#[test]
fn a_test_runner_of_the_crate_is_given_the_documented_arguments_and_asked_each_time() {
    const RUNNER: &str = r#"
#![feature(custom_test_frameworks)]
#![test_runner(crate::run)]
#[cfg(test)]
fn run(tests: &[&dyn Fn()]) {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let names = std::fs::read_to_string("names.txt").unwrap_or("one".into());
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list", "--format", "terse"] => names.lines().for_each(|name| println!("{name}: test")),
        ["--list", "--format", "terse", "--ignored"] => {}
        ["--exact", name, "--nocapture"] if names.lines().any(|n| n == name) => tests[0](),
        ref other => panic!("unknown arguments {other:?}"),
    }
}
#[test_case] fn it() {}
"#;
    let scene = Scene::new();
    let folder = scene.package("runner", RUNNER);
    let run = |scene: &Scene| {
        let mut command = run(scene, &folder, &[]);
        command.env("RUSTC_BOOTSTRAP", "1");
        scene.run(command).assert_code(exit_code::OK);
        results(scene).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(run(&scene), ["one"]);
    scene.write("runner/names.txt", "one\ntwo\n");
    assert_eq!(run(&scene), ["one", "two"]);
    assert!(!folder.join("target/harness/tests.cache").exists());
}

#[test]
fn names_reach_the_harness_as_they_are_or_are_an_error() {
    const NAMES: &str = r#"
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let list = std::fs::read_to_string("list.txt").unwrap();
    if args[0] == "--list" {
        if args.len() == 3 { print!("{list}") }
        return;
    }
    let name = &args[1];
    assert!(list.contains(&format!("{name}: test\n")), "{args:?}");
}
"#;
    let scene = Scene::new();
    let folder = with_harness(&scene, "names", NAMES);
    let names = [
        " a space ",
        "crlf\r",
        "esc\u{1b}[31m",
        "tab\t",
        "\u{85}\u{2028}",
        "é",
    ];
    let list: String = names.iter().map(|name| format!("{name}: test\n")).collect();
    scene.write("names/list.txt", &list);
    scene
        .run(run(&scene, &folder, &[]))
        .assert_code(exit_code::OK);
    assert_eq!(results(&scene).into_keys().collect::<Vec<_>>(), {
        let mut names = names;
        names.sort_unstable();
        names
    });

    for (list, sentence) in [
        (
            "a: test\n: test\n",
            "line 2 names a test that cannot be run by its name, because the name is empty",
        ),
        (
            "a\0b: test\n",
            "the name contains a NUL character: `a\\0b`; rename the test",
        ),
        (
            "two\nlines: test\n",
            "line 1 does not end in `: test` or `: benchmark`: `two`",
        ),
    ] {
        scene.write("names/list.txt", list);
        let run = scene.run(run(&scene, &folder, &[]));
        run.assert_code(exit_code::LIST_FAILED);
        run.assert_says(sentence).assert_sentence();
    }
}

#[test]
fn without_capture_the_run_says_on_what_a_pass_rests() {
    let scene = Scene::new();
    let mut command = scene.harness(["run", "-p", "output", "--no-capture", "-E"]);
    command.arg("test(=prints_without_a_newline)");
    let run = scene.run(command);
    run.assert_code(exit_code::OK)
        .assert_says("output is not read, so a pass rests on exit code 0 alone");
    assert!(fixture().exists());
}
