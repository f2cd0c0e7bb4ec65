//! Unpacks a public package, runs its tests under each runner, and compares.

use crate::{
    environment::installed,
    packages::{PACKAGES, Package},
    registry::unpack,
    scene::{Finished, Scene, skip},
};
use fixture_kit::model::{final_lines, parse_events};
use harness_metadata::{EventKind, Verdict};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A result in the form of all runners.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It passed, or counts as passed.
    Passed,
    /// It failed, in whatever way.
    Failed,
    /// It is ignored.
    Ignored,
}

/// A runner's results, by binary and name.
type Results = BTreeMap<String, Outcome>;

/// Compares the runners on this package.
pub(crate) fn compare(test: &str, name: &str) {
    let package = PACKAGES.iter().find(|package| package.name == name);
    let package = package.expect("it is in the table");
    let scene = Scene::new();
    let Some(folder) = unpack(package.name, package.version) else {
        return skip(test, "the registry cannot be reached");
    };
    let run = PackageRun {
        scene: &scene,
        package,
        folder: &folder,
    };

    let in_one_process = run.cargo_test();
    let ours = run.harness("io");
    for level in ["off", "full"] {
        run.check(&format!("`--trace {level}`"), &run.harness(level), &ours);
    }
    assert!(
        ours.len() >= package.least,
        "{name} has {} tests only",
        ours.len()
    );
    run.check("cargo test", &explained(package, in_one_process), &ours);
    if installed("cargo-nextest", &["nextest", "--version"]) {
        run.check("cargo nextest", &run.nextest(), &ours);
    } else {
        skip(
            test,
            "the comparison with cargo-nextest: it is not installed",
        );
    }
}

/// Replaces the outcomes that are known to differ by those that are expected of other runners.
fn explained(package: &Package, mut results: Results) -> Results {
    for differing in package.differing {
        let was = results.insert(differing.test.to_owned(), differing.in_its_own);
        let Some(was) = was else {
            panic!("there is no test {}", differing.test)
        };
        assert_eq!(
            was, differing.in_one_process,
            "{}: {}",
            differing.test, differing.why
        );
    }
    results
}

struct PackageRun<'a> {
    scene: &'a Scene,
    package: &'a Package,
    folder: &'a Path,
}

impl PackageRun<'_> {
    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = self.scene.command(program);
        command
            .args(args)
            .args(self.package.targets)
            .current_dir(self.folder);
        command
    }

    /// Fails with all differences at once.
    fn check(&self, runner: &str, theirs: &Results, ours: &Results) {
        let tests: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
        let differences: Vec<_> = tests
            .into_iter()
            .filter(|test| theirs.get(*test) != ours.get(*test))
            .filter(|test| !self.package.timed.contains(&test.as_str()))
            .map(|test| {
                format!(
                    "{test}: {:?} there, {:?} here",
                    theirs.get(test),
                    ours.get(test)
                )
            })
            .collect();
        let Package {
            name,
            version,
            because,
            ..
        } = self.package;
        assert!(
            differences.is_empty(),
            "{name} {version}, which {because}, differs from {runner}:\n  {}",
            differences.join("\n  ")
        );
    }

    fn harness(&self, level: &str) -> Results {
        let events = self.scene.path(&format!("events-{level}"));
        let mut command = self.command(
            env!("CARGO_BIN_EXE_cargo-harness"),
            &["run", "--no-fail-fast", "--show-progress", "none"],
        );
        command
            .args(["--trace", level])
            .arg("--events")
            .arg(&events);
        self.limit(&mut command);
        let run = self.scene.run(command);
        self.scene.assert_no_strays();
        let events = fs::read_to_string(events).unwrap_or_default();
        let mut results = Results::new();
        for event in parse_events(&events).unwrap_or_else(|error| panic!("{error}")) {
            match event.kind {
                EventKind::TestFinished(test) => {
                    let passed = test.verdict == Verdict::Pass;
                    let outcome = if passed {
                        Outcome::Passed
                    } else {
                        Outcome::Failed
                    };
                    results.insert(test.test.to_string(), outcome);
                }
                EventKind::TestSkipped { test, .. } => {
                    results.insert(test.to_string(), Outcome::Ignored);
                }
                _ => {}
            }
        }
        assert_agrees(&run, &results, 100);
        results
    }

    fn nextest(&self) -> Results {
        let args = [
            "nextest",
            "run",
            "--no-fail-fast",
            "--show-progress",
            "none",
        ];
        let mut command = self.command("cargo-nextest", &args);
        command.args(["--final-status-level", "all", "--status-level", "none"]);
        self.limit(&mut command);
        let run = self.scene.run(command);
        self.scene.kill_strays();
        let outcome = |status: &str| match status {
            "SKIP" => Outcome::Ignored,
            "PASS" | "LEAK" | "SLOW" => Outcome::Passed,
            _ => Outcome::Failed,
        };
        let lines = final_lines(&run.stderr);
        let results = lines
            .into_iter()
            .map(|(test, status)| (test, outcome(&status)))
            .collect();
        assert_agrees(&run, &results, 100);
        results
    }

    fn cargo_test(&self) -> Results {
        let binaries = self.binaries();
        // Both streams into one file: the name of a binary is on the one, its tests on the other.
        let mut command = self.scene.command("sh");
        command.args([
            "-c",
            "exec \"$@\" 2>&1",
            "sh",
            "cargo",
            "test",
            "--no-fail-fast",
        ]);
        command.args(self.package.targets).current_dir(self.folder);
        let run = self.scene.run(command);
        self.scene.kill_strays();
        let results = parse_cargo_test(&run.stdout, &binaries);
        assert_agrees(&run, &results, 101);
        results
    }

    fn limit(&self, command: &mut Command) {
        if self.package.one_at_a_time.is_some() {
            command.args(["-j", "1"]);
        }
    }

    /// Builds and lists the test binaries.
    fn binaries(&self) -> Vec<Binary> {
        let args = [
            "test",
            "--no-run",
            "--message-format",
            "json-render-diagnostics",
        ];
        let build = self.scene.run(self.command("cargo", &args));
        build.assert_code(0);
        let messages = build.stdout.lines();
        let messages = messages.map(|line| serde_json::from_str(line).expect("it is JSON"));
        messages
            .filter_map(|message| self.binary(&message))
            .collect()
    }

    /// Lists the test binary of which this message tells, if it does.
    fn binary(&self, message: &serde_json::Value) -> Option<Binary> {
        let path = message["executable"].as_str()?;
        if message["profile"]["test"] != serde_json::Value::Bool(true) {
            return None;
        }
        let target = &message["target"];
        let name = target["name"].as_str().expect("targets have names");
        let package = self.package.name;
        let id = match target["kind"][0].as_str().expect("targets have kinds") {
            "test" => format!("{package}::{name}"),
            kind @ ("bin" | "bench" | "example") => format!("{package}::{kind}/{name}"),
            _ => package.to_owned(),
        };
        let mut list = self.scene.command(path);
        list.args(["--list", "--format", "terse"])
            .current_dir(self.folder);
        let list = self.scene.run(list);
        let tests = list
            .stdout
            .lines()
            .filter_map(|line| line.strip_suffix(": test"));
        let tests = tests.map(str::to_owned).collect();
        Some(Binary {
            path: PathBuf::from(path),
            id,
            tests,
        })
    }
}

/// A test binary.
struct Binary {
    path: PathBuf,
    id: String,
    tests: Vec<String>,
}

/// Reads what the standard harness prints: `test NAME ... OUTCOME`. What tests and their children
/// print may stand before it on the line, and may even look like it.
fn parse_cargo_test(output: &str, binaries: &[Binary]) -> Results {
    let mut results = Results::new();
    let mut running = None;
    let mut unfinished = None;
    for line in output.lines() {
        if let Some(shown) = line.trim_start().strip_prefix("Running ") {
            let path = shown
                .rsplit_once('(')
                .and_then(|(_, path)| path.strip_suffix(')'));
            let binary = |path| binaries.iter().find(|binary| binary.path.ends_with(path));
            running = path.and_then(binary).or(running);
        }
        if let Some(outcome) = parse_outcome(line) {
            results.extend(unfinished.take().map(|test| (test, outcome)));
        }
        let Some((before, outcome)) = line.rsplit_once(" ... ") else {
            continue;
        };
        let Some(binary) = running else { continue };
        let before = before.trim_end();
        let before = before.strip_suffix(" - should panic").unwrap_or(before);
        let is_named = |name: &&String| {
            before
                .strip_suffix(name.as_str())
                .is_some_and(|before| before.ends_with("test "))
        };
        let Some(name) = binary
            .tests
            .iter()
            .filter(is_named)
            .max_by_key(|name| name.len())
        else {
            continue;
        };
        if let Some(outcome) = parse_outcome(outcome) {
            results.insert(format!("{} {name}", binary.id), outcome);
        } else {
            // A test that is alone is announced before it runs, and may print in between.
            unfinished = Some(format!("{} {name}", binary.id));
        }
    }
    results
}

fn parse_outcome(outcome: &str) -> Option<Outcome> {
    match outcome.split(',').next()? {
        "ok" => Some(Outcome::Passed),
        "FAILED" => Some(Outcome::Failed),
        "ignored" => Some(Outcome::Ignored),
        _ => None,
    }
}

/// Fails unless the exit code says what the results say.
#[track_caller]
fn assert_agrees(run: &Finished, results: &Results, failure: i32) {
    let failed = results.values().any(|outcome| *outcome == Outcome::Failed);
    run.assert_code(if failed { failure } else { 0 });
}
