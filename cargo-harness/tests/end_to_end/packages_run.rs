//! Unpacks a public package, runs its tests under each runner, and compares.

use crate::{
    packages::{PACKAGES, Package},
    scene::{Finished, Scene, installed, skip},
};
use fixture_model::{final_lines, parse_events};
use harness_metadata::{EventKind, Verdict};
use nix::fcntl::{Flock, FlockArg};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// What all runners agree to say of a test.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It passed, or counts as passed.
    Passed,
    /// It failed, in whatever way.
    Failed,
    /// It is ignored.
    Ignored,
}

/// What a runner says of each test, by binary and name.
type Results = BTreeMap<String, Outcome>;

/// Compares the runners on this package.
pub(crate) fn compare(test: &str, name: &str) {
    let package = PACKAGES.iter().find(|package| package.name == name);
    let package = package.expect("it is in the table");
    let scene = Scene::new();
    let Some(folder) = unpack(&scene, package) else {
        return skip(test, "the registry cannot be reached");
    };
    let run = PackageRun {
        scene: &scene,
        package,
        folder: &folder,
    };

    let in_one_process = run.cargo_test();
    let ours = run.harness();
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

    fn harness(&self) -> Results {
        let events = self.scene.path("events");
        let mut command = self.command(
            env!("CARGO_BIN_EXE_cargo-harness"),
            &["run", "--no-fail-fast", "--show-progress", "none"],
        );
        command.arg("--events").arg(&events);
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
        if self.package.serial_in_process {
            command.env("RUST_TEST_THREADS", "1");
        }
        let run = self.scene.run(command);
        self.scene.kill_strays();
        let results = parse_cargo_test(&run.stdout, &binaries);
        assert_agrees(&run, &results, 101);
        results
    }

    /// Returns the id of each test binary, by its path.
    fn binaries(&self) -> BTreeMap<PathBuf, String> {
        let args = [
            "test",
            "--no-run",
            "--message-format",
            "json-render-diagnostics",
        ];
        let build = self.scene.run(self.command("cargo", &args));
        build.assert_code(0);
        let mut binaries = BTreeMap::new();
        for line in build.stdout.lines() {
            let message: serde_json::Value = serde_json::from_str(line).expect("it is JSON");
            let Some(path) = message["executable"].as_str() else {
                continue;
            };
            let target = &message["target"];
            let name = target["name"].as_str().expect("targets have names");
            let package = self.package.name;
            let id = match target["kind"][0].as_str().expect("targets have kinds") {
                "test" => format!("{package}::{name}"),
                kind @ ("bin" | "bench" | "example") => format!("{package}::{kind}/{name}"),
                _ => package.to_owned(),
            };
            binaries.insert(PathBuf::from(path), id);
        }
        binaries
    }
}

/// Reads what the standard harness prints: `test NAME ... OUTCOME`.
fn parse_cargo_test(output: &str, binaries: &BTreeMap<PathBuf, String>) -> Results {
    let mut results = Results::new();
    let mut binary = "";
    for line in output.lines() {
        if let Some(running) = line.trim_start().strip_prefix("Running ") {
            let path = running
                .rsplit_once('(')
                .and_then(|(_, path)| path.strip_suffix(')'));
            let path = Path::new(path.expect("cargo shows the path"));
            let known = binaries.iter().find(|(known, _)| known.ends_with(path));
            binary = known
                .unwrap_or_else(|| panic!("{} is unknown", path.display()))
                .1;
        }
        let Some((name, outcome)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.rsplit_once(" ... "))
        else {
            continue;
        };
        let outcome = match outcome.split(',').next() {
            Some("ok") => Outcome::Passed,
            Some("ignored") => Outcome::Ignored,
            _ => Outcome::Failed,
        };
        let name = name.strip_suffix(" - should panic").unwrap_or(name);
        let name = name.strip_suffix(" - compile fail").unwrap_or(name);
        results.insert(format!("{binary} {name}"), outcome);
    }
    results
}

/// Fails unless the exit code says what the results say.
#[track_caller]
fn assert_agrees(run: &Finished, results: &Results, failure: i32) {
    let failed = results.values().any(|outcome| *outcome == Outcome::Failed);
    run.assert_code(if failed { failure } else { 0 });
}

/// Puts the package's sources into a folder of their own, as a workspace of their own. Returns
/// `None` if they cannot be had.
fn unpack(scene: &Scene, package: &Package) -> Option<PathBuf> {
    let packages = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
    let Package { name, version, .. } = package;
    let folder = packages.join(format!("{name}-{version}"));
    fs::create_dir_all(packages.join("sources/src")).expect("the folder can be made");
    let lock = File::create(packages.join("lock")).expect("the lock can be made");
    let _lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .expect("the lock can be waited for");
    if folder.join("Cargo.toml").is_file() {
        return Some(folder);
    }

    let sources = packages.join("sources");
    let vendored = sources.join(format!("vendor/{name}-{version}"));
    if !vendored.is_dir() && !vendor(scene, &sources) {
        return None;
    }
    copy(&vendored, &folder);
    // Last, because it says that the rest is complete.
    let mut manifest = fs::read_to_string(vendored.join("Cargo.toml")).expect("it has one");
    manifest.push_str("\n[workspace]\n");
    fs::write(folder.join("Cargo.toml"), manifest).expect("it can be written");
    Some(folder)
}

/// Lets cargo fetch the sources of all packages, from wherever it is configured to.
fn vendor(scene: &Scene, sources: &Path) -> bool {
    let mut manifest = "[package]\nname = \"sources\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
                        [workspace]\n\n[dependencies]\n"
        .to_owned();
    for Package { name, version, .. } in &PACKAGES {
        manifest.push_str(&format!("{name} = \"={version}\"\n"));
    }
    fs::write(sources.join("Cargo.toml"), manifest).expect("it can be written");
    fs::write(sources.join("src/lib.rs"), "").expect("it can be written");
    let mut command = scene.command("cargo");
    command
        .args(["vendor", "--versioned-dirs", "vendor"])
        .current_dir(sources);
    scene.run(command).status.success()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder can be made");
    for entry in fs::read_dir(from).expect("it is a folder") {
        let entry = entry.expect("it can be read");
        let (name, kind) = (entry.file_name(), entry.file_type().expect("it has a type"));
        if kind.is_dir() {
            copy(&entry.path(), &to.join(&name));
        } else if name != ".cargo-checksum.json" && name != "Cargo.toml" {
            fs::copy(entry.path(), to.join(&name)).expect("it can be copied");
        }
    }
}
