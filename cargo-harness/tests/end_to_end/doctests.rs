//! Documentation tests: never lost in silence, and entries like all others when asked for.

use crate::scene::Scene;
use harness_metadata::exit_code;
use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, path::Path};

const SOURCE: &str = "/// Two.\n///\n/// ```\n/// assert_eq!(doc::two(), 2);\n/// ```\n\
    pub fn two() -> u32 { 2 }\n#[test] fn passes() {}\n";

/// Every kind of documentation test.
const KINDS: &str = r#"//! ```
//! assert_eq!(doc::two(), 2);
//! ```

/// ```should_panic
/// panic!("as it should");
/// ```
/// ```should_panic
/// // It does not.
/// ```
/// ```
/// panic!("at \"once\"");
/// ```
/// ```no_run
/// panic!("this never runs");
/// ```
/// ```no_run,standalone_crate
/// unsafe extern "C" { fn there_is_no_such_function(); }
/// unsafe { there_is_no_such_function() }
/// ```
/// ```compile_fail
/// let number: u8 = "text";
/// ```
/// ```compile_fail
/// let number: u8 = 8;
/// ```
/// ```compile_fail,E0001
/// let number: u8 = "an error of another code";
/// ```
/// ```compile_fail
/// #![feature(never_type)]
/// fn needs_a_nightly_compiler(_: !) {}
/// ```
/// ```ignore
/// panic!("ignored");
/// ```
/// ```standalone_crate
/// assert_eq!(env!("CARGO_PKG_NAME"), "doc");
/// assert_eq!(std::env::var("CARGO_PKG_NAME").as_deref(), Ok("doc"));
/// ```
/// ```edition2018
/// let async_is_no_word = 1;
/// ```
/// ```
/// fn main() -> Result<(), std::num::ParseIntError> { "x".parse::<u8>().map(|_| ()) }
/// ```
/// ```
/// println!("running 0 tests");
/// std::process::exit(0);
/// ```
/// ```text
/// no test
/// ```
pub fn two() -> u32 { 2 }
"#;

const BROKEN: &str =
    "/// ```\n/// let number: u8 = \"not a number\";\n/// ```\npub fn broken() {}\n";

/// Returns what `cargo test --doc` makes of each test, by name.
fn by_cargo(scene: &Scene, folder: &Path) -> BTreeMap<String, String> {
    let mut command = scene.command("cargo");
    command
        .args(["test", "--doc", "--no-fail-fast"])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"));
    let run = scene.run(command);
    let results = run.stdout.lines().filter_map(|line| {
        let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
        let modes = [" - compile fail", " - compile", " - should panic"];
        let name = modes
            .iter()
            .find_map(|mode| name.strip_suffix(mode))
            .unwrap_or(name);
        Some((name.to_owned(), result.to_owned()))
    });
    results.collect()
}

/// Returns what a run made of each documentation test, in cargo's words.
fn by_harness(events: &str) -> BTreeMap<String, String> {
    let mut results = BTreeMap::new();
    for line in events.lines() {
        let event: serde_json::Value = serde_json::from_str(line).expect("each line is an event");
        let of_test = |verdict: &str| {
            let name = event["test"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            (name, verdict.to_owned())
        };
        let (name, verdict) = match event["event"].as_str().unwrap_or_default() {
            "test-finished" if event["verdict"] == "pass" => of_test("ok"),
            "test-finished" => of_test("FAILED"),
            "test-skipped" => of_test("ignored"),
            _ => continue,
        };
        results.insert(name, verdict);
    }
    results
}

#[test]
fn documentation_tests_that_were_not_run_are_named_with_the_command_that_runs_them() {
    let scene = Scene::new();
    let folder = scene.package("doc", SOURCE);
    let run = |args: &[&str]| scene.run(scene.harness_in(&folder, &[&["run"], args].concat()));
    let line = "warning: documentation tests were not run: about 1 example in `doc`; \
                `cargo test --doc` runs them, so does `--doc`";
    run(&[]).assert_code(exit_code::OK).assert_says(line);
    run(&["-p", "doc"])
        .assert_code(exit_code::OK)
        .assert_says("`cargo test --doc --package doc` runs them");
    // Those who choose want no others, and those who say so know it.
    for args in [&["passes"][..], &["--lib"], &["--no-doc"], &["-E", "all()"]] {
        let run = run(args);
        run.assert_code(exit_code::OK);
        assert!(
            !run.stderr.contains("documentation"),
            "{args:?}: {}",
            run.stderr
        );
    }
    scene.write(
        "doc/.config/harness.toml",
        "[profile.default]\ndoctests = \"skip\"\n",
    );
    let skipped = run(&[]);
    assert!(
        !skipped.stderr.contains("documentation"),
        "{}",
        skipped.stderr
    );
}

#[test]
fn each_documentation_test_has_the_verdict_that_it_has_under_cargo() {
    let scene = Scene::new();
    // Rustdoc merges the tests of an edition from 2024 on, unless one of them does not compile.
    for (edition, broken) in [("2024", ""), ("2024", BROKEN), ("2021", BROKEN)] {
        let folder = scene.package("doc", &[KINDS, broken].concat());
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        scene.write(
            "doc/Cargo.toml",
            &manifest.replace("edition = \"2024\"", &format!("edition = \"{edition}\"")),
        );
        let expected = by_cargo(&scene, &folder);
        assert_eq!(expected.len(), 15 + usize::from(!broken.is_empty()));
        let args = ["run", "--doc", "--no-fail-fast", "--events", "-"];
        let run = scene.run(scene.harness_in(&folder, &args));
        run.assert_code(exit_code::TEST_RUN_FAILED);
        let stderr = &run.stderr;
        assert_eq!(by_harness(&run.stdout), expected, "{edition}: {stderr}");
        let again = scene.run(scene.harness_in(&folder, &args));
        let stderr = &again.stderr;
        assert_eq!(by_harness(&again.stdout), expected, "{edition}: {stderr}");
        assert!(!stderr.contains("compiling"), "{edition}: {stderr}");
        run.assert_says("Test compiled successfully, but it's marked `compile_fail`.")
            .assert_says("The example succeeded, but it is marked `should_panic`.")
            .assert_says("src/lib.rs:11: at \"once\"");
    }
}

#[test]
fn documentation_tests_are_listed_filtered_and_divided_like_others() {
    let scene = Scene::new();
    let folder = scene.package("doc", &[KINDS, "#[test] fn passes() {}"].concat());
    scene.write(
        "doc/.config/harness.toml",
        "[profile.default]\ndoctests = \"run\"\n",
    );
    let list = |args: &[&str]| {
        let args = [&["list", "--message-format", "oneline"], args].concat();
        let run = scene.run(scene.harness_in(&folder, &args));
        run.assert_code(exit_code::OK);
        run.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let all = list(&[]);
    let documentation: Vec<String> = list(&["-E", "kind(doc)"]);
    assert_eq!(documentation.len(), 14);
    assert!(
        all.contains(&"doc::doc/doc src/lib.rs - (line 1)".to_owned()),
        "{all:?}"
    );
    assert_eq!(all.len(), documentation.len() + 1);
    assert_eq!(list(&["--no-doc"]), ["doc passes"]);
    assert_eq!(list(&["-E", "not kind(doc)"]), ["doc passes"]);
    assert_eq!(list(&["(line 1)"]), ["doc::doc/doc src/lib.rs - (line 1)"]);
    let parts = ["count:1/2", "count:2/2"].map(|part| list(&["--partition", part]));
    let mut parts = parts.concat();
    parts.sort();
    assert_eq!(parts, {
        let mut all = all.clone();
        all.sort();
        all
    });
    let mut build = scene.command("cargo");
    build
        .args(["test", "--no-run", "--verbose"])
        .current_dir(&folder)
        .env("CARGO_TARGET_DIR", folder.join("target"));
    let build = scene.run(build);
    assert!(build.stderr.contains("Fresh doc"), "{}", build.stderr);
    assert!(!build.stderr.contains("Running `"), "{}", build.stderr);
    // No program is there before a run.
    let compiled = folder.join("target/harness/doctests/doc--doc-doc");
    assert!(!compiled.exists());
    let json = scene.run(scene.harness_in(&folder, &["list", "--message-format", "json"]));
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let suite = &json["rust-suites"]["doc::doc/doc"];
    assert_eq!(suite["kind"], "doc");
    assert_eq!(suite["testcases"].as_object().unwrap().len(), 15);

    let other = scene.run(scene.harness_in(&folder, &["run", "passes"]));
    other.assert_code(exit_code::OK);
    assert!(!compiled.exists(), "they are compiled if one of them runs");
    let run = scene.run(scene.harness_in(&folder, &["run", "(line 1)"]));
    run.assert_code(exit_code::OK)
        .assert_says("info: compiling 15 documentation tests of `doc`")
        .assert_says("1 test run: 1 passed");
    let ignored = scene.run(scene.harness_in(&folder, &["run", "--run-ignored", "only"]));
    ignored
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("src/lib.rs:34: ignored");
}

#[test]
fn documentation_tests_are_compiled_again_only_when_something_they_are_made_of_changes() {
    let scene = Scene::new();
    let source = "/// ```\n/// assert_eq!(doc::two(), 2);\n/// ```\n/// ```compile_fail\n\
        /// let number: u8 = \"text\";\n/// ```\npub fn two() -> u32 { 2 }\n\
        /// ```\n/// assert_eq!(include_str!(\"../number.txt\").trim(), \"2\");\n\
        /// assert_eq!(option_env!(\"DOC_NUMBER\"), None);\n/// ```\npub fn included() {}\n";
    for edition in ["2024", "2021"] {
        let folder = scene.package("doc", source);
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let edition = format!("edition = \"{edition}\"");
        let manifest = manifest.replace("edition = \"2024\"", &edition);
        scene.write("doc/Cargo.toml", &manifest);
        scene.write("doc/number.txt", "2\n");
        let verdicts = |variable: Option<&str>, compiles: bool| {
            let args = ["run", "--doc", "--no-fail-fast", "--events", "-"];
            let mut command = scene.harness_in(&folder, &args);
            command.envs(variable.map(|value| ("DOC_NUMBER", value)));
            let run = scene.run(command);
            let said = run.stderr.contains("info: compiling 3 documentation tests");
            assert_eq!(said, compiles, "{edition}: {}", run.stderr);
            by_harness(&run.stdout)
        };
        let of_included = |verdicts: &BTreeMap<String, String>| {
            let mut found = verdicts.iter();
            let (_, verdict) = found.find(|(name, _)| name.contains("included")).unwrap();
            verdict.clone()
        };
        let first = verdicts(None, true);
        assert_eq!(first, by_cargo(&scene, &folder));
        assert_eq!(verdicts(None, false), first);
        // Neither the library nor an example has changed.
        scene.write("doc/number.txt", "3\n");
        assert_eq!(of_included(&verdicts(None, true)), "FAILED");
        scene.write("doc/number.txt", "2\n");
        assert_eq!(verdicts(None, true), first);
        assert_eq!(of_included(&verdicts(Some("2"), true)), "FAILED");
        assert_eq!(verdicts(None, true), first);
        assert_eq!(verdicts(None, false), first);
        let source = folder.join("src/lib.rs");
        let library = std::fs::read_to_string(&source).unwrap();
        std::fs::write(&source, library.replace("-> u32 { 2 }", "-> u32 { 3 }")).unwrap();
        let changed = verdicts(None, true);
        assert_ne!(changed, first);
        assert_eq!(changed, by_cargo(&scene, &folder));
        assert_eq!(verdicts(None, false), changed);
        // A program that is gone is made again.
        let programs = folder.join("target/harness/doctests/doc--doc-doc/first");
        let mut programs = std::fs::read_dir(programs).unwrap();
        let mut made = programs.find_map(|entry| {
            let program = entry.unwrap().path().join("rust_out");
            program.exists().then_some(program)
        });
        std::fs::remove_file(made.take().unwrap()).unwrap();
        assert_eq!(verdicts(None, true), changed);
    }
}

#[test]
fn documentation_tests_are_in_reports_and_tried_again_and_rerun() {
    let scene = Scene::new();
    let source = "/// ```\n/// let file = std::path::Path::new(\"tried\");\n\
        /// if std::fs::read(file).is_err() { std::fs::write(file, \"\").unwrap(); panic!(\"once\") }\n/// ```\n\
        /// ```\n/// panic!(\"always\")\n/// ```\npub fn two() {}\n";
    let folder = scene.package("doc", source);
    let args = [
        "run",
        "--doc",
        "--retries",
        "1",
        "--junit",
        "junit.xml",
        "--no-fail-fast",
    ];
    let run = scene.run(scene.harness_in(&folder, &args));
    run.assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("2 tests run: 1 passed (1 flaky), 1 failed")
        .assert_says("src/lib.rs:5: always");
    let junit = std::fs::read_to_string(folder.join("junit.xml")).unwrap();
    assert!(
        junit.contains("name=\"src/lib.rs - two (line 5)\""),
        "{junit}"
    );
    assert!(junit.contains("file=\"src/lib.rs\" line=\"5\""), "{junit}");
    let again = scene.run(scene.harness_in(&folder, &["run", "--doc", "--rerun"]));
    again
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("1 test run: 0 passed, 1 failed");
    let trace = ["trace", "src/lib.rs - two (line 1)"];
    let run = scene.run(scene.harness_in(&folder, &["run", "--doc", "--trace", "io", "(line 1)"]));
    run.assert_code(exit_code::OK);
    let traced = scene.run(scene.harness_in(&folder, &trace));
    traced.assert_code(exit_code::OK);
    assert!(traced.stdout.contains("tried"), "{}", traced.stdout);
    let refused = scene.run(scene.harness_in(&folder, &["run", "--doc", "--lib"]));
    refused
        .assert_code(exit_code::USAGE)
        .assert_says("`--doc` does not go with a choice of targets");
}

#[test]
fn where_rustdoc_refuses_documentation_tests_run_as_a_whole_and_that_is_said() {
    let scene = Scene::new();
    let folder = scene.package("doc", SOURCE);
    scene.write(
        "old-rustdoc",
        "#!/bin/sh\ncase \"$*\" in\n*-Zunstable-options*) echo 'error: unknown option' >&2\n\
         exit 1;;\nesac\nexec rustdoc \"$@\"\n",
    );
    let script = scene.path("old-rustdoc");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let command = |args: &[&str]| {
        let mut command = scene.harness_in(&folder, args);
        command.env("RUSTDOC", &script);
        command
    };
    let line = "warning: documentation tests are not listed one by one, and a run of all tests \
                runs them as a whole, by `cargo test --doc`: rustdoc failed (exit status: 1): \
                error: unknown option";
    let passes = scene.run(command(&["run", "--doc"]));
    passes
        .assert_code(exit_code::OK)
        .assert_says(line)
        .assert_says("1 test run: 1 passed")
        .assert_says("test src/lib.rs - two (line 3) ... ok");
    assert_eq!(passes.stdout, "", "results for people go to standard error");
    scene
        .run(command(&["list", "--doc"]))
        .assert_code(exit_code::OK)
        .assert_says(line);
    scene.write(
        "doc/.config/harness.toml",
        "[profile.default]\ndoctests = \"run\"\n",
    );
    scene.write(
        "doc/src/lib.rs",
        &SOURCE.replace("doc::two(), 2", "doc::two(), 3"),
    );
    let run = |args: &[&str]| scene.run(command(&[&["run"], args].concat()));
    run(&[])
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("1 test run: 1 passed")
        .assert_says("error: documentation tests failed (`cargo test --doc`: exit status: 101)");
    scene.write(
        "doc/src/lib.rs",
        &SOURCE.replace("passes() {}", "passes() { panic!() }"),
    );
    run(&[])
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("documentation tests were not run")
        .assert_says("because tests failed");
    run(&["--no-fail-fast"])
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("test src/lib.rs - two (line 3) ... ok");
}
