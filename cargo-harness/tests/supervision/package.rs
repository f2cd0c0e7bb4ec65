//! A package whose test binaries are the programs of this folder, and runs of it.

use crate::scene::Scene;
use fixture_model::{Runner, parse_events};
use harness_metadata::{Attempt, Event, EventKind, event::TestFinished};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The test binaries, and what is compiled into them.
const BINARIES: [(&str, &str); 4] = [
    ("bombs", include_str!("bombs.rs")),
    ("zoo", include_str!("zoo.rs")),
    ("escapes", include_str!("escapes.rs")),
    ("weather", include_str!("weather.rs")),
];

/// The tests to run, and their settings.
pub(crate) struct Visit<'a> {
    /// The test binary.
    pub(crate) binary: &'a str,
    /// A regular expression that whole names match.
    pub(crate) tests: &'a str,
    /// Keys of the default profile.
    pub(crate) config: &'a str,
}

impl Visit<'_> {
    /// Returns a run by `cargo harness` that writes its events into the scene.
    pub(crate) fn by_harness(&self, scene: &Scene) -> Command {
        let config = format!("[profile.default]\n{}\n", self.config);
        let config = scene.write("harness.toml", &config);
        let mut run = scene.harness(["run", "--no-fail-fast"]);
        run.arg("--config-file").arg(config);
        run.arg("--events").arg(scene.path("events"));
        self.complete(scene, run)
    }

    /// Returns a list by `cargo harness`, for which everything is built.
    pub(crate) fn listed_by_harness(&self, scene: &Scene) -> Command {
        self.complete(scene, scene.harness(["list"]))
    }

    /// Returns a run by one or the other.
    pub(crate) fn by(&self, runner: Runner, scene: &Scene) -> Command {
        match runner {
            Runner::Harness => self.by_harness(scene),
            Runner::Peer => self.by_peer(scene),
        }
    }

    /// Returns a run by cargo-nextest.
    fn by_peer(&self, scene: &Scene) -> Command {
        let store = scene.path("store");
        let config = format!(
            "[store]\ndir = {store:?}\n\n[profile.default]\n{}\n",
            self.config
        );
        let config = scene.write("nextest.toml", &config);
        let mut run = scene.command("cargo-nextest");
        run.args(["nextest", "run", "--no-fail-fast", "--config-file"]);
        run.arg(config);
        self.complete(scene, run)
    }

    fn complete(&self, scene: &Scene, mut run: Command) -> Command {
        let Self { binary, tests, .. } = self;
        run.args(["--test", binary, "-E"])
            .arg(format!("test(/^({tests})$/)"))
            .current_dir(zoo())
            .env("CARGO_TARGET_DIR", zoo().join("target"))
            .env("ZOO_BEAT", scene.path("beat"))
            .env("ZOO_LEFT", scene.path(""));
        run
    }
}

/// Returns the package.
pub(crate) fn zoo() -> &'static Path {
    static ZOO: OnceLock<PathBuf> = OnceLock::new();
    ZOO.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("zoo");
        let mut manifest = manifest("zoo");
        write(&folder.join("src/lib.rs"), "");
        write(&folder.join("tests/sys.rs"), include_str!("sys.rs"));
        for (name, source) in BINARIES {
            write(&folder.join(format!("tests/{name}.rs")), source);
            manifest.push_str(&format!("\n[[test]]\nname = \"{name}\"\nharness = false\n"));
        }
        write(&folder.join("Cargo.toml"), &manifest);
        folder
    })
}

/// Very many tests.
pub(crate) struct Crowd {
    /// The number; one of [`CROWDS`].
    pub(crate) tests: u64,
}

/// The possible numbers of tests in a [`Crowd`].
const CROWDS: [u64; 3] = [1_000, 10_000, 100_000];

impl Crowd {
    /// Returns a command of one or the other runner.
    pub(crate) fn by(&self, runner: Runner, scene: &Scene, what: &str) -> Command {
        let folder = Self::package();
        let mut command = match runner {
            Runner::Harness => scene.harness([what]),
            Runner::Peer => {
                let mut command = scene.command("cargo-nextest");
                command.args(["nextest", what]);
                command
            }
        };
        command
            .arg("--test")
            .arg(format!("crowd_{}", self.tests))
            .current_dir(folder)
            .env("CARGO_TARGET_DIR", folder.join("target"));
        command
    }

    fn package() -> &'static Path {
        static CROWD: OnceLock<PathBuf> = OnceLock::new();
        CROWD.get_or_init(|| {
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crowd");
            let mut manifest = manifest("crowd");
            for tests in CROWDS {
                manifest.push_str(&format!(
                    "\n[[test]]\nname = \"crowd_{tests}\"\npath = \"tests/crowd.rs\"\n\
                     harness = false\n"
                ));
            }
            write(&folder.join("src/lib.rs"), "");
            write(&folder.join("tests/crowd.rs"), include_str!("crowd.rs"));
            write(&folder.join("Cargo.toml"), &manifest);
            folder
        })
    }
}

/// Returns the beginning of a manifest.
fn manifest(package: &str) -> String {
    format!(
        "[package]\nname = \"{package}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
         autotests = false\n\n[workspace]\n"
    )
}

/// Returns the names of the ways to escape.
pub(crate) fn escapes() -> Vec<&'static str> {
    names_in(include_str!("escapes.rs"))
}

/// Returns the names of the ways to multiply.
pub(crate) fn bombs() -> Vec<&'static str> {
    names_in(include_str!("bombs.rs"))
}

fn names_in(source: &'static str) -> Vec<&'static str> {
    let (_, table) = source.split_once("const TESTS").expect("it is there");
    let (table, _) = table.split_once("];").expect("it ends");
    let names = table
        .lines()
        .filter_map(|line| line.trim().strip_prefix("(\""));
    names.filter_map(|line| line.split('"').next()).collect()
}

/// Returns the lines that were written to their end.
pub(crate) fn whole_lines(text: &str) -> &str {
    text.rfind('\n').map_or("", |end| &text[..=end])
}

/// Writes a file, unless that would only make it newer: it would be compiled again.
pub(crate) fn write(path: &Path, contents: &str) {
    if fs::read_to_string(path).is_ok_and(|before| before == contents) {
        return;
    }
    fs::create_dir_all(path.parent().expect("it is in the folder")).expect("it is made");
    fs::write(path, contents).expect("it can be written");
}

/// Returns the events of the last run.
pub(crate) fn events(scene: &Scene) -> Vec<Event> {
    let events = fs::read_to_string(scene.path("events")).expect("they were written");
    parse_events(&events).expect("they are events")
}

/// Returns the tests that have ended.
pub(crate) fn finished_tests(scene: &Scene) -> Vec<TestFinished> {
    let finished = events(scene)
        .into_iter()
        .filter_map(|event| match event.kind {
            EventKind::TestFinished(test) => Some(*test),
            _ => None,
        });
    finished.collect()
}

/// Returns the last attempts of the tests that have ended, by name.
pub(crate) fn last_attempts(scene: &Scene) -> Vec<(String, Attempt)> {
    let last = |test: TestFinished| {
        let last = test.attempts.last().cloned().expect("there is one");
        (test.test.name.to_string(), last)
    };
    finished_tests(scene).into_iter().map(last).collect()
}
