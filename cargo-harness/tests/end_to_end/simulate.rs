//! Simulations: histories of all kinds, and mistakes.

use crate::{
    environment::installed,
    scene::{Finished, Scene, skip, wait_until},
};
use harness_metadata::exit_code;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{fs, path::PathBuf, process::Command, time::Duration};

const LIBRARY: &str = r#"
pub fn one() -> u32 { 1 }
pub fn two() -> u32 { 2 }

#[cfg(test)]
mod tests {
    use std::{env, fs};
    #[test] fn one() { assert_eq!(super::one(), 1); }
    #[test] fn two() { assert_eq!(super::two(), 2); }
    #[test] fn mode() { assert_eq!(env::var("MODE").as_deref(), Ok("a")); }
    #[test] fn times() {
        let time = |path| fs::metadata(path).unwrap().modified().unwrap();
        assert!(time("data") <= time("data/x"));
    }
}
"#;

/// A package in a repository.
struct Repository {
    scene: Scene,
    root: PathBuf,
}

impl Repository {
    /// Returns `None`, having said so, where there is no git.
    fn new(test: &str) -> Option<Self> {
        if !installed("git", &["--version"]) {
            skip(test, "git is not installed");
            return None;
        }
        let scene = Scene::new();
        let root = scene.package("it", LIBRARY);
        scene.write("it/.gitignore", "target\nCargo.lock\n");
        fs::create_dir(scene.path("temporary")).expect("it can be made");
        let repository = Self { scene, root };
        repository.git(&["init", "-q", "-b", "main"]);
        Some(repository)
    }

    fn command(&self, mut command: Command) -> Command {
        command
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("TMPDIR", self.scene.path("temporary"));
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "x");
            command.env(format!("GIT_{role}_EMAIL"), "x@example.com");
        }
        command
    }

    fn git(&self, args: &[&str]) -> Finished {
        let mut command = self.command(self.scene.command("git"));
        command.args(args).current_dir(&self.root);
        let finished = self.scene.run(command);
        finished.assert_code(0);
        finished
    }

    fn commit(&self, subject: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", subject]);
    }

    fn write(&self, file: &str, text: &str) {
        self.scene.write(&format!("it/{file}"), text);
    }

    fn simulate(&self, args: &[&str]) -> Command {
        let args = [&["simulate"], args].concat();
        self.command(self.scene.harness_in(&self.root, &args))
    }

    /// Returns whether nothing is left of a simulation.
    fn is_clean(&self) -> bool {
        let temporary = fs::read_dir(self.scene.path("temporary"));
        let left = temporary.expect("it is there").count();
        let worktrees = self.git(&["worktree", "list", "--porcelain"]).stdout;
        left == 0 && worktrees.matches("worktree ").count() == 1
    }
}

/// Returns the names of tests in an array of JSON.
fn names(tests: &Value) -> Vec<&str> {
    let tests = tests.as_array().into_iter().flatten();
    tests
        .filter_map(|test| test["name"].as_str()?.strip_prefix("tests::"))
        .collect()
}

/// Makes a history with a commit of each kind.
fn history(it: &Repository) {
    let ignored = "[profile.default.reuse]\nignore-environment = [\"MODE\"]\n";
    it.write(".config/harness.toml", ignored);
    it.write(".cargo/config.toml", "[env]\nMODE = \"a\"\n");
    it.write("data/x", "x");
    it.commit("first");
    let other = LIBRARY.replace("{ 2 }", "{ 3 }");
    it.write("src/lib.rs", &other);
    it.commit("two is three");
    it.write("NOTES.md", "words");
    it.commit("words");
    it.write("src/lib.rs", "fn");
    it.commit("broken");
    it.write(
        "src/lib.rs",
        &LIBRARY.replace("fn one() { a", "fn uno() { a"),
    );
    it.commit("renamed");
    it.write(".cargo/config.toml", "[env]\nMODE = \"b\"\n");
    it.commit("another mode");
    it.write("data/y", "y");
    it.commit("another file");
}

#[test]
fn each_commit_is_compared_with_the_one_before() {
    let name = "simulate::each_commit_is_compared_with_the_one_before";
    if cfg!(not(target_arch = "x86_64")) {
        skip(name, "entries are recorded on x86-64 only");
        return;
    }
    let Some(it) = Repository::new(name) else {
        return;
    };
    history(&it);
    // Changes that are not committed are not tested, and stay.
    it.write("src/lib.rs", "this is no Rust");
    let simulated = it.scene.run(it.simulate(&["--json"]));
    simulated
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("what is not committed is no part of the simulation")
        .assert_says("1 test ended with another result and would have been skipped: 3 more runs")
        .assert_says("1 result would have been missed by functions or executables");
    let text = fs::read_to_string(it.root.join("src/lib.rs")).expect("it is there");
    assert_eq!(text, "this is no Rust");
    assert!(it.is_clean());

    let rows = simulated.stdout.lines();
    let rows: Vec<Value> = rows
        .map(|line| serde_json::from_str(line).expect("it is JSON"))
        .collect();
    let subjects: Vec<&str> = rows
        .iter()
        .filter_map(|it| it["subject"].as_str())
        .collect();
    let expected = [
        "two is three",
        "words",
        "broken",
        "renamed",
        "another mode",
        "another file",
    ];
    assert_eq!(subjects, expected);
    let [three, words, broken, renamed, mode, file, summary] = &rows[..] else {
        panic!("{rows:#?}");
    };
    let selected = |functions: u32, executables: u32, packages: u32, files: u32| json!({"functions": functions, "executables": executables, "packages": packages, "files": files});
    // The library is one file and one executable.
    assert_eq!(three["selected"], selected(1, 4, 4, 4));
    assert_eq!(names(&three["changed"]), ["two"]);
    // A test that has failed runs; for the other ways that is nothing.
    assert_eq!(words["selected"], selected(1, 1, 4, 1), "{words:#}");
    assert!(words["changed"].as_array().is_some_and(Vec::is_empty));
    let reason = broken["not-built"].as_str().unwrap_or_default();
    assert!(reason.starts_with("error"), "{reason}");
    // A test with another name is a new one. The commit is compared with the last one that was built.
    assert_eq!(names(&renamed["changed"]), ["two"]);
    assert_eq!(renamed["files"], 1);
    assert_eq!(renamed["selected"]["functions"], 2);
    // The configuration says that the variable does not count, and it does.
    assert_eq!(names(&mode["missed"]["functions"]), ["mode"]);
    assert_eq!(names(&mode["missed"]["executables"]), ["mode"]);
    assert!(names(&mode["missed"]["packages"]).is_empty());
    // The time of a folder is another after each checkout.
    assert_eq!(names(&file["changed"]), ["times"]);
    assert_eq!(names(&file["by-chance"]), ["times"]);
    assert!(names(&file["missed"]["functions"]).is_empty());
    let summary = &summary["summary"];
    let counts = ["commits", "not-built", "changed", "by-chance"].map(|it| &summary[it]);
    assert_eq!(counts, [&json!(5), &json!(1), &json!(4), &json!(1)]);
    assert_eq!(summary["functions"]["all"]["missed"], 1);
}

/// A package with places of all kinds that a mutant may change.
const KINDS: &str = r#"
pub static TABLE: [u32; 3] = [10, 20, 30];
pub const WORDS: &str = include_str!("words.txt");
pub struct Cart { pub items: u32 }
impl Default for Cart { fn default() -> Self { Self { items: 2 } } }
impl Drop for Cart { fn drop(&mut self) { assert_eq!(self.items, 2); } }
pub trait Price { fn price(&self) -> u32 { 5 } }
impl Price for Cart {}
macro_rules! three { () => { 3 } }
pub fn entry(index: usize) -> u32 { TABLE[index] + three!() }
pub fn greeting() -> &'static str { env!("GREETING") }
pub fn feature() -> bool { cfg!(feature = "loud") }

#[cfg(test)]
mod tests {
    use super::*;
    #[test] fn entries() { assert_eq!(entry(1), 23); }
    #[test] fn words() { assert_eq!(WORDS, "words"); }
    #[test] fn carts() { assert_eq!((&Cart::default() as &dyn Price).price(), 5); }
    #[test] fn greets() { assert_eq!(greeting(), "hello"); }
    #[test] fn loud() { assert!(feature()); }
    #[test] #[should_panic(expected = "empty")] fn panics() { panic!("empty cart"); }
    #[test] fn untouched() { assert_eq!("a".repeat(2), "aa"); }
}
"#;

#[test]
fn mutants_of_each_kind_are_compared_and_none_is_missed() {
    let name = "simulate::mutants_of_each_kind_are_compared_and_none_is_missed";
    if cfg!(not(target_arch = "x86_64")) {
        skip(name, "entries are recorded on x86-64 only");
        return;
    }
    let Some(it) = Repository::new(name) else {
        return;
    };
    it.write("src/lib.rs", KINDS);
    it.write("src/words.txt", "words");
    let script = "fn main() { println!(\"cargo:rustc-env=GREETING={}\", \"hello\"); }\n";
    it.write("build.rs", script);
    let manifest = fs::read_to_string(it.root.join("Cargo.toml")).expect("it is there");
    let features = "\n[features]\ndefault = [\"loud\"]\nloud = []\n";
    it.write("Cargo.toml", &(manifest + features));
    it.commit("first");
    let simulated = it
        .scene
        .run(it.simulate(&["--mutants", "12", "--seed", "3", "--json"]));
    simulated.assert_code(exit_code::OK);
    let rows = simulated.stdout.lines();
    let rows: Vec<Value> = rows
        .map(|line| serde_json::from_str(line).expect("it is JSON"))
        .collect();
    let summary = &rows.last().expect("it is there")["summary"];
    assert_eq!(summary["mutants"], 12, "{summary:#}");
    assert_eq!(summary["functions"]["all"]["missed"], 0, "{summary:#}");
    // Kinds take turns, so each of them is among the first ones.
    let kinds = ["Default", "Drop", "feature", "included file", "static"];
    for kind in kinds {
        assert!(summary["kinds"].get(kind).is_some(), "{kind}: {summary:#}");
    }
    // Most of them make a test fail, and few of them concern all tests.
    let changed = rows.iter().filter(|row| !names(&row["changed"]).is_empty());
    assert!(changed.count() >= 8, "{}", simulated.stdout);
    let mean = summary["functions"]["all"]["mean"].as_f64();
    assert!(mean.is_some_and(|mean| mean < 60.0), "{summary:#}");
    assert!(it.is_clean());
}

#[test]
fn a_shallow_clone_and_mistakes_are_answered_with_a_sentence() {
    let Some(it) =
        Repository::new("simulate::a_shallow_clone_and_mistakes_are_answered_with_a_sentence")
    else {
        return;
    };
    let says = |args: &[&str], code: i32, text: &str| {
        let finished = it.scene.run(it.simulate(args));
        finished.assert_code(code).assert_says(text);
        finished
    };
    says(&[], exit_code::SETUP, "has no commit yet");
    it.write("src/lib.rs", "#[test] fn one() {}\n");
    it.commit("first");
    says(
        &[],
        exit_code::SETUP,
        "`HEAD` is the only commit, and a comparison takes two",
    );
    let gone = ["--manifest-path", "nowhere/Cargo.toml"];
    says(&gone, exit_code::METADATA_FAILED, "there is no manifest");
    says(
        &["--base", "nowhere"],
        exit_code::SETUP,
        "`nowhere` is no revision",
    );
    says(
        &["--base", "HEAD"],
        exit_code::SETUP,
        "`HEAD` has no commit after `HEAD`",
    );
    says(&["--commits", "0"], exit_code::USAGE, "0 is not in 1..");
    let words = ["words", "more words", "last words"];
    for text in words {
        it.write("NOTES.md", text);
        it.commit(text);
    }
    let from = format!("file://{}", it.root.display());
    let to = it.scene.path("shallow");
    let to = to.to_str().expect("it is UTF-8");
    it.git(&["clone", "-q", "--depth", "2", &from, to]);
    let mut command = it.simulate(&["--", "--lib"]);
    command.current_dir(to);
    let simulated = it.scene.run(command);
    simulated
        .assert_code(exit_code::OK)
        .assert_says("this is a shallow clone, so only 1 commit is simulated");
    assert!(
        simulated
            .stdout
            .contains("[                    ]  last words"),
        "{}",
        simulated.stdout
    );
    assert!(
        simulated
            .stdout
            .contains("1 commit is compared, 0 with files of Rust"),
        "{}",
        simulated.stdout
    );
    assert!(it.is_clean());

    it.write("src/lib.rs", "fn");
    it.commit("broken");
    it.write("src/lib.rs", "fn f");
    it.commit("broken again");
    says(
        &["--commits", "1"],
        exit_code::BUILD_FAILED,
        "none of these commits can be built and run",
    );
    let outside = it.scene.package("outside", LIBRARY);
    let mut command = it.simulate(&[]);
    command.current_dir(&outside);
    let outside = it.scene.run(command);
    outside
        .assert_code(exit_code::SETUP)
        .assert_says("is in no working tree of git");
    assert!(it.is_clean());
}

#[test]
fn a_signal_ends_a_simulation_and_leaves_nothing() {
    let Some(it) = Repository::new("simulate::a_signal_ends_a_simulation_and_leaves_nothing")
    else {
        return;
    };
    let begun = it.scene.path("begun");
    let waits = format!(
        "#[test] fn waits() {{ std::fs::write({begun:?}, \"\").unwrap(); loop {{ std::thread::park(); }} }}\n"
    );
    it.write("src/lib.rs", &waits);
    it.commit("first");
    it.write("NOTES.md", "words");
    it.commit("second");
    let running = it.scene.start(it.simulate(&[]));
    let seen = wait_until(Duration::from_secs(300), || begun.exists().then_some(()));
    assert!(seen.is_some(), "{}", running.stderr_so_far());
    running.signal(Signal::SIGINT);
    let finished = running.finish();
    finished
        .assert_code(exit_code::ended_by(2))
        .assert_says("SIGINT ended the simulation after 0 commits");
    it.scene.assert_no_strays();
    assert!(it.is_clean());
}
