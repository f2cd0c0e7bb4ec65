//! The first command of the README, and the picture that the README has of it.

use crate::scene::Scene;
use harness_metadata::exit_code;
use std::{fs, path::Path};

#[test]
fn the_first_run_is_green_and_looks_as_in_the_readme() {
    let scene = Scene::new();
    let readme = readme();
    let mut command = scene.harness([]);
    // The arguments are the README's. A target folder of its own, so that the flaky test finds nothing.
    command
        .args(arguments(&readme))
        .current_dir(repository())
        .env("CARGO_TARGET_DIR", scene.path("target"));
    let run = scene.run(command);
    run.assert_code(exit_code::OK);

    let shown: Vec<String> = run.stderr.lines().map(shape).collect();
    let picture = picture(&readme);
    for line in picture.iter().filter(|line| line.trim() != "…") {
        let expected = shape(line);
        let found = shown.iter().any(|shown| match expected.strip_suffix('…') {
            Some(beginning) => shown.starts_with(beginning),
            None => *shown == expected,
        });
        assert!(found, "the run has no line `{expected}`:\n{}", run.stderr);
    }
    let looks = [
        (
            "trace",
            ["tally serve 127.0.0.1:0", "listened at 127.0.0.1:"],
        ),
        ("explain", ["a_cold_index_answers", "failed: exited with 2"]),
    ];
    for (name, parts) in looks {
        let name = format!(" -- {name} ");
        let command = readme.split('`').find(|text| text.contains(&name));
        let command = command.and_then(|command| command.split_once(" -- "));
        let (_, arguments) = command.expect("the README says how to look further");
        let mut command = scene.harness([]);
        command
            .args(arguments.split(' '))
            .current_dir(repository())
            .env("CARGO_TARGET_DIR", scene.path("target"));
        let look = scene.run(command);
        look.assert_code(exit_code::OK);
        for part in parts {
            assert!(look.stdout.contains(part), "{}", look.stdout);
        }
    }

    for word in ["PASS", "LEAK", "killed", "FLAKY", "trace ───", "Summary"] {
        let has = picture.iter().any(|line| line.contains(word));
        assert!(has, "the README's picture has no `{word}`");
    }
}

#[test]
fn the_shape_of_a_line_is_the_same_in_every_run() {
    assert_eq!(
        shape("        PASS [   0.004s] ( 9/20) tally totals::tests::one_two"),
        shape("        PASS [  12.504s] (19/20) tally totals::tests::one_two")
    );
    assert_eq!(
        shape("    pid 77 `/a/target/debug/tally serve 127.0.0.1:0`, killed"),
        shape("    pid 8 `…/debug/tally serve 127.0.0.1:0`, killed")
    );
    assert_ne!(shape("20 passed (1 flaky)"), shape("20 passed"));
}

/// Returns what the README gives the runner: the words after the lone `--` of its first command.
fn arguments(readme: &str) -> Vec<String> {
    let block = readme.split("```sh\n").nth(1).expect("it has a command");
    let (command, _) = block.split_once("\n```").expect("the block ends");
    let (cargo, arguments) = command.split_once(" -- ").expect("it is a `cargo run`");
    assert_eq!(cargo, "cargo run -p cargo-harness");
    arguments.split(' ').map(str::to_owned).collect()
}

/// Returns the lines of the README's first picture of a run.
fn picture(readme: &str) -> Vec<&str> {
    let block = readme.split("```text\n").nth(1).expect("it has a picture");
    let (picture, _) = block.split_once("\n```").expect("the block ends");
    picture.lines().collect()
}

/// Returns a line without what differs from run to run: numbers, the spaces before them, and where
/// the folders are.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    for word in line.split_whitespace() {
        let word = match word.rfind("/debug/") {
            Some(at) if word.starts_with('`') => format!("`…{}", &word[at..]),
            _ => word.to_owned(),
        };
        let digits = |c: char| c.is_ascii_digit();
        let mut rest = word.as_str();
        while let Some(at) = rest.find(digits) {
            shape.push_str(&rest[..at]);
            shape.push('#');
            rest = rest[at..].trim_start_matches(|c| digits(c) || c == '.');
        }
        shape.push_str(rest);
        shape.push(' ');
    }
    shape.trim_end().replace("[ ", "[").replace("( ", "(")
}

fn readme() -> String {
    fs::read_to_string(repository().join("README.md")).expect("it is in the repository")
}

fn repository() -> &'static Path {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    parent.expect("the crate is in the repository")
}
