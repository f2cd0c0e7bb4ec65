//! Passes that rest on functions: which changes of sources select which tests, and that none is missed.

use crate::scene::{Finished, Scene, skip};
use harness_metadata::exit_code;
use std::{collections::BTreeSet, fs, path::PathBuf};

const LIBRARY: &str = r#"
use std::sync::atomic::{AtomicU32, Ordering};

pub const RATE: u32 = 3;
pub static TABLE: [u32; 4] = [10, 20, 30, 40];
pub static DROPPED: AtomicU32 = AtomicU32::new(0);

pub struct Cart { pub items: u32 }
impl Default for Cart { fn default() -> Self { Self { items: 2 } } }

pub trait Price {
    fn price(&self) -> u32;
    fn twice(&self) -> u32 { self.price() * 2 }
}
pub struct Apple;
pub struct Pear;
impl Price for Apple { fn price(&self) -> u32 { 5 } }
impl Price for Pear {
    fn price(&self) -> u32 { 7 }
}
pub fn total(all: &[Box<dyn Price>]) -> u32 { all.iter().map(|it| it.twice()).sum() }

pub struct Guard;
pub fn guarded() -> u32 {
    let guards = vec![Guard, Guard];
    drop(guards);
    DROPPED.load(Ordering::SeqCst)
}

pub fn sum(a: u32, b: u32) -> u32 { a + b }
pub fn entry(index: usize) -> u32 { TABLE[index] }
pub fn words() -> &'static str { include_str!("words.txt") }
pub fn greeting() -> &'static str { env!("GREETING") }
pub const fn square(x: u32) -> u32 { x * x }
pub const NINE: u32 = square(3);
macro_rules! three { () => { 3 } }
pub fn by_macro() -> u32 { three!() }
pub fn largest<T: PartialOrd + Copy>(all: &[T]) -> T {
    let mut most = all[0];
    for one in all { if *one > most { most = *one; } }
    most
}
pub fn name(number: u8) -> &'static str {
    match number { 0 => "zero", 1 => "one", 2 => "two", 3 => "three", 4 => "four", _ => "many" }
}
#[derive(Debug)]
pub struct Shown { pub of: u32 }

#[cfg(test)]
mod tests {
    use super::*;
    #[test] fn rate() { assert_eq!(RATE * 2, 6); }
    #[test] fn table() { assert_eq!(entry(2), 30); }
    #[test] fn default() { assert_eq!(Cart::default().items, 2); }
    #[test] fn vtable() {
        let all: [Box<dyn Price>; 2] = [Box::new(Apple), Box::new(Pear)];
        assert_eq!(total(&all), 24);
    }
    #[test] fn drops() { assert_eq!(guarded(), 0); }
    #[test] fn operator() { assert_eq!(sum(2, 3), 5); }
    #[test] fn included() { assert_eq!(words(), "three words here\n"); }
    #[test] fn of_build_script() { assert_eq!(greeting(), "hello"); }
    #[test] fn constant_function() { assert_eq!(NINE, 9); }
    #[test] fn macros() { assert_eq!(by_macro(), 3); }
    #[test] fn generic() { assert_eq!(largest(&[1, 3, 2]), 3); }
    #[test] fn jump_table() { assert_eq!(name(3), "three"); }
    #[test] fn derived() { assert_eq!(format!("{:?}", Shown { of: 1 }), "Shown { of: 1 }"); }
    #[test] #[should_panic(expected = "empty cart")] fn panics() { panic!("the empty cart"); }
    #[test] fn threads() {
        let threads: Vec<_> = (0..8).map(|it| std::thread::spawn(move || entry(it % 4))).collect();
        let all: u32 = threads.into_iter().map(|it| it.join().unwrap()).sum();
        assert_eq!(all, 200);
    }
    #[test] fn place() {
        let place = std::panic::Location::caller();
        assert!(place.line() > 70 && place.line() < 110, "{place}");
    }
    #[test] fn untouched() { assert_eq!("a".repeat(3), "aaa"); }
}
"#;

const PROGRAM: &str = r#"
fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("sum") => println!("{}", shop::sum(1, 2)),
        Some("name") => println!("{}", shop::name(2)),
        _ => println!("{}", shop::words().len()),
    }
}
"#;

const COMMAND: &str = r#"
use std::process::Command;
fn run(word: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_shop")).arg(word).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
#[test] fn command_sums() { assert_eq!(run("sum"), "3\n"); }
#[test] fn command_names() { assert_eq!(run("name"), "two\n"); }
#[test] fn command_counts() { assert_eq!(run("count"), "17\n"); }
"#;

const BUILD: &str = "fn main() { println!(\"cargo:rustc-env=GREETING=hello\"); }\n";

/// A change of a file, by two texts, that some test fails with.
const MUTANTS: [(&str, &str, &str); 17] = [
    ("src/lib.rs", "RATE: u32 = 3", "RATE: u32 = 4"),
    ("src/lib.rs", "[10, 20, 30, 40]", "[10, 20, 31, 40]"),
    ("src/lib.rs", "items: 2", "items: 1"),
    (
        "src/lib.rs",
        "{ 7 }\n",
        "{ 7 }\n    fn twice(&self) -> u32 { 1 }\n",
    ),
    ("src/lib.rs", "self.price() * 2", "self.price() * 3"),
    (
        "src/lib.rs",
        "pub struct Guard;",
        "pub struct Guard;\nimpl Drop for Guard { fn drop(&mut self) { DROPPED.fetch_add(1, Ordering::SeqCst); } }",
    ),
    ("src/lib.rs", "{ a + b }", "{ a - b }"),
    ("src/words.txt", "three", "seven"),
    ("build.rs", "hello", "howdy"),
    ("src/lib.rs", "{ x * x }", "{ x + x }"),
    ("src/lib.rs", "=> { 3 }", "=> { 2 }"),
    ("src/lib.rs", "*one > most", "*one < most"),
    ("src/lib.rs", "\"three\", 4", "\"tree\", 4"),
    (
        "src/lib.rs",
        "pub struct Shown { pub of: u32 }",
        "pub struct Shown { pub of: u32, }\nimpl Shown { pub fn x(&self) {} }",
    ),
    (
        "src/lib.rs",
        "expected = \"empty cart\"",
        "expected = \"full cart\"",
    ),
    ("src/lib.rs", "AtomicU32::new(0)", "AtomicU32::new(1)"),
    ("src/main.rs", "Some(\"sum\")", "Some(\"sun\")"),
];

struct Shop {
    scene: Scene,
    package: PathBuf,
}

impl Shop {
    fn new() -> Self {
        let scene = Scene::new();
        scene.write("shop/src/main.rs", PROGRAM);
        scene.write("shop/src/words.txt", "three words here\n");
        scene.write("shop/tests/command.rs", COMMAND);
        scene.write("shop/build.rs", BUILD);
        let package = scene.package("shop", LIBRARY);
        Self { scene, package }
    }

    fn harness(&self, args: &[&str]) -> Finished {
        let mut command = self.scene.harness_in(&self.package, args);
        // With it a panic reads the binary, which counts as a whole then.
        command.env("RUST_BACKTRACE", "0");
        self.scene.run(command)
    }

    /// Returns the tests that would run, with their reasons.
    fn selected(&self) -> Vec<(String, String)> {
        let plan = self.harness(&["plan", "--json"]);
        plan.assert_code(exit_code::OK);
        let rows = plan.stdout.lines().filter_map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).expect("it is JSON");
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let runs = row["decision"] == "run";
            runs.then(|| (text(&row["test"]["name"]), text(&row["reason"])))
        });
        rows.collect()
    }

    /// Runs all tests, and returns those that fail.
    fn failing(&self) -> BTreeSet<String> {
        let events = "target/events.ndjson";
        self.harness(&["run", "--no-cached", "--no-fail-fast", "--events", events]);
        let events = fs::read_to_string(self.package.join(events)).expect("they are written");
        let rows = events.lines().filter_map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).expect("it is JSON");
            let failed = row["event"] == "test-finished" && row["attempts"][0]["verdict"] == "fail";
            failed.then(|| row["test"]["name"].as_str().unwrap_or_default().to_owned())
        });
        rows.collect()
    }
}

#[test]
fn a_change_of_sources_selects_each_test_that_fails_by_it() {
    if cfg!(not(target_arch = "x86_64")) {
        let test = "functions::a_change_of_sources_selects_each_test_that_fails_by_it";
        skip(test, "entries are recorded on x86-64 only");
        return;
    }
    let shop = Shop::new();
    shop.harness(&["run", "--cached"])
        .assert_code(exit_code::OK)
        .assert_says("20 tests run: 20 passed");
    assert_eq!(shop.selected(), []);

    // Lines that move change nothing but for the test that looks at its line, and the one whose panic tells it.
    shop.scene
        .write("shop/src/lib.rs", &format!("// A comment.\n\n{LIBRARY}"));
    let selected = shop.selected();
    // Their order is that of their durations.
    let names: BTreeSet<&str> = selected.iter().map(|(name, _)| name.as_str()).collect();
    let moved = BTreeSet::from(["tests::panics", "tests::place"]);
    assert_eq!(names, moved, "{selected:#?}");
    shop.scene.write("shop/src/lib.rs", LIBRARY);

    let of = |file: &str| match file {
        "src/lib.rs" => LIBRARY,
        "src/main.rs" => PROGRAM,
        "build.rs" => BUILD,
        _ => "three words here\n",
    };
    let (mut failures, mut most) = (0, 0);
    for (file, from, to) in MUTANTS {
        let before = of(file);
        assert!(before.contains(from), "{from}");
        shop.scene
            .write(&format!("shop/{file}"), &before.replacen(from, to, 1));
        let selected = shop.selected();
        let names: BTreeSet<String> = selected.iter().map(|(name, _)| name.clone()).collect();
        let failing = shop.failing();
        assert!(
            failing.is_subset(&names),
            "{to}: missed {failing:?}, selected {selected:#?}"
        );
        failures += failing.len();
        // A build script's variable is in the environment of all tests as well.
        if file != "build.rs" {
            assert!(!names.contains("tests::untouched"), "{to}: {selected:#?}");
            most = most.max(names.len());
        }
        shop.scene.write(&format!("shop/{file}"), before);
    }
    // All but one of them make a test fail, and none selects half of the tests.
    assert!(failures >= MUTANTS.len() - 1, "{failures}");
    assert!(most < 10, "{most}");
}

#[test]
fn changed_functions_are_listed_with_the_tests_that_enter_them() {
    let test = "functions::changed_functions_are_listed_with_the_tests_that_enter_them";
    if cfg!(not(target_arch = "x86_64")) {
        skip(test, "entries are recorded on x86-64 only");
        return;
    }
    let shop = Shop::new();
    shop.harness(&["run", "--cached"])
        .assert_code(exit_code::OK);
    shop.harness(&["changed"])
        .assert_code(exit_code::OK)
        .assert_says("no function differs");
    let text = LIBRARY.replace("{ a + b }", "{ a - b }");
    shop.scene.write("shop/src/lib.rs", &text);
    let changed = shop.harness(&["changed"]);
    changed.assert_code(exit_code::OK);
    let program =
        "target/debug/shop: 1 difference\n    shop::sum  1 test: shop::command command_sums\n";
    assert!(changed.stdout.contains(program), "{}", changed.stdout);
    let unit = ": 1 difference\n    shop::sum  1 test: shop tests::operator\n";
    assert!(changed.stdout.contains(unit), "{}", changed.stdout);

    // Another build that is not there, and one without symbols.
    shop.harness(&["changed", "nowhere"])
        .assert_says("nowhere` is no folder, so there is no other build in it");
    let manifest = "[package]\nname = \"shop\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[profile.dev]\nstrip = true\n";
    shop.scene.write("shop/Cargo.toml", manifest);
    shop.harness(&["plan"])
        .assert_code(exit_code::OK)
        .assert_says("are not told apart, so a change of it counts as a whole: it has no symbols");
}
