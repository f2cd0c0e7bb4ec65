//! Tests that run elsewhere, as far as a program without the client of engines knows of them: what they need, and parts of a
//! build on several machines. `tests/remote.rs` has the others.

use crate::scene::Scene;
use harness_metadata::exit_code;
use std::fs;

const PAGE: &str = include_str!("../../../site/docs/remote.md");

#[cfg(not(feature = "remote"))]
#[test]
fn a_program_without_the_client_of_engines_says_how_to_install_it() {
    let scene = Scene::new();
    let package = scene.package("pack", "#[test] fn passes() {}\n");
    let finished = scene.run(scene.harness_in(&package, &["run", "--remote", "grpc://engine:1"]));
    finished.assert_code(exit_code::SETUP);
    finished.assert_says("this program was built without the client of engines");
    finished.assert_says("cargo install cargo-harness --features remote");
    finished.assert_sentence();
    assert!(!package.join("target").exists(), "it was built");
    // A profile that names an engine, and a run that is to be here.
    scene.write(
        "pack/.config/harness.toml",
        "[profile.default.remote]\naddress = \"grpc://engine:1\"\n",
    );
    let here = scene.run(scene.harness_in(&package, &["run", "--remote", ""]));
    here.assert_code(exit_code::OK);
}

#[test]
fn the_inputs_of_a_test_are_those_of_its_trace_or_its_package() {
    let scene = Scene::new();
    let source = "#[test] fn reads() { std::fs::read(\"data.txt\").unwrap(); }\n";
    let package = scene.package("pack", source);
    scene.write("pack/data.txt", "x");
    scene.write("pack/other.txt", "x");
    let inputs = |args: &[&str]| {
        let all: Vec<&str> = ["inputs"].iter().chain(args).copied().collect();
        let finished = scene.run(scene.harness_in(&package, &all));
        finished.assert_code(exit_code::OK);
        finished.stdout
    };
    let before = inputs(&[]);
    assert!(
        before.contains("pack reads (no trace: the whole package)\n"),
        "{before}"
    );
    assert!(
        before.contains("  other.txt  in its package: no trace says what it reads\n"),
        "{before}"
    );
    scene
        .run(scene.harness_in(&package, &["run"]))
        .assert_code(exit_code::OK);
    let after = inputs(&["reads"]);
    assert!(
        after.contains("  data.txt  read in its last trace\n"),
        "{after}"
    );
    assert!(after.contains("  the test's binary\n"), "{after}");
    assert!(!after.contains("other.txt"), "{after}");
    assert_eq!(
        inputs(&["--format", "bazel"]),
        "data = [\n    \"//:data.txt\",\n]\n"
    );
    let image = inputs(&["--format", "dockerfile"]);
    assert!(
        image.ends_with("COPY [\"data.txt\", \"./data.txt\"]\n"),
        "{image}"
    );
}

/// Returns the commands of the workflow on the page.
fn commands() -> Vec<String> {
    let (_, workflow) = PAGE
        .split_once("```yaml\n")
        .expect("the page has a workflow");
    let (workflow, _) = workflow.split_once("```").expect("it ends");
    let mut commands: Vec<String> = Vec::new();
    let mut open = false;
    for line in workflow.lines() {
        let text = line.trim();
        if let Some(command) = text.strip_prefix("- run: ") {
            open = command == ">-";
            commands.push(if open {
                String::new()
            } else {
                command.to_owned()
            });
        } else if open && !text.starts_with("- ") && !text.ends_with(':') {
            let command = commands.last_mut().expect("it was pushed above");
            *command = format!("{command} {text}").trim().to_owned();
        } else {
            open = false;
        }
    }
    commands
}

#[test]
fn the_workflow_on_the_page_runs_every_test_once() {
    let scene = Scene::new();
    let tests: String = (0..9)
        .map(|number| format!("#[test] fn t{number}() {{}}\n"))
        .collect();
    let package = scene.package("pack", &tests);
    let run = |command: &str| {
        let words = command.strip_prefix("cargo harness ").expect("it is ours");
        let words: Vec<&str> = words.split_whitespace().collect();
        scene
            .run(scene.harness_in(&package, &words))
            .assert_code(exit_code::OK);
    };
    let commands = commands();
    let [archive, part, merge] = &commands[..] else {
        panic!("the workflow has other commands: {commands:?}");
    };
    run(archive);
    for number in 1..=4 {
        run(&part.replace("${{ matrix.part }}", &number.to_string()));
    }
    run(merge);
    let merged = fs::read_to_string(package.join("all.json")).expect("it was written");
    let finished = merged
        .lines()
        .filter(|line| line.contains("\"event\":\"test-finished\""));
    assert_eq!(finished.count(), 9);
    assert!(package.join("all.xml").exists());
}
