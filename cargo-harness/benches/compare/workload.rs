//! The workloads: generated packages and a public one, built before anything is measured.

use crate::{environment::command, registry};
use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

/// The calls of a loop of [`Workload::calling`].
pub(crate) const CALLS: usize = 100_000;
/// The variable with the file into which such a loop writes the nanoseconds that it took, and how often its thread
/// waited.
pub(crate) const TOOK: &str = "COMPARE_TOOK";

/// Tests to run.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// The folder of the workspace.
    pub(crate) folder: PathBuf,
    /// Arguments that select what is built; cargo knows them too.
    pub(crate) targets: Vec<&'static str>,
    /// Arguments that select among the tests.
    pub(crate) filter: Vec<&'static str>,
    /// The number of measurements.
    pub(crate) rounds: usize,
    /// Whether tests may fail, because they are not ours.
    pub(crate) may_fail: bool,
    binaries: Vec<Binary>,
}

/// A test binary with its tests.
pub(crate) struct Binary {
    pub(crate) path: PathBuf,
    tests: Vec<String>,
}

impl Workload {
    /// 1,000 empty tests in one binary.
    pub(crate) const THOUSAND: &str = "thousand-empty";
    /// 20,000 empty tests in 20 binaries.
    pub(crate) const TWENTY_THOUSAND: &str = "twenty-thousand-empty";
    /// A real suite of short tests, most of which start processes.
    pub(crate) const SUITE: &str = "real-suite";
    /// Tests that compile a small package from nothing, as tests of build tools do.
    const COMPILE: &str = "compile";
    /// Everything is built and nothing is selected.
    pub(crate) const NOTHING: &str = "nothing-selected";

    /// All names, in the order in which they are measured.
    pub(crate) const NAMES: [&str; 5] = [
        Self::THOUSAND,
        Self::COMPILE,
        Self::SUITE,
        Self::NOTHING,
        Self::TWENTY_THOUSAND,
    ];

    /// Writes and builds a workload. Returns `None` if its sources cannot be had.
    pub(crate) fn prepare(name: &'static str) -> Option<Self> {
        let (folder, rounds) = match name {
            Self::THOUSAND => (generate(name, 1, 1_000), 9),
            Self::NOTHING => (generate(Self::THOUSAND, 1, 1_000), 15),
            Self::TWENTY_THOUSAND => (generate(name, 20, 1_000), 3),
            Self::COMPILE => (generate_compiling(name), 5),
            // Its tests start the program that it is, again and again.
            Self::SUITE => (registry::unpack("just", "1.59.0")?, 3),
            other => unreachable!("{other} is not a name"),
        };
        let mut workload = Self {
            name,
            folder,
            targets: vec!["--tests"],
            filter: Vec::new(),
            rounds,
            may_fail: name == Self::SUITE,
            binaries: Vec::new(),
        };
        match name {
            Self::SUITE => workload.targets = vec!["--test", "integration"],
            Self::NOTHING => workload.filter = vec!["-E", "none()"],
            _ => {}
        }
        workload.binaries = workload.list();
        Some(workload)
    }

    /// A public package with its tests. Returns `None` if its sources cannot be had.
    pub(crate) fn public(
        name: &'static str,
        version: &str,
        targets: &[&'static str],
    ) -> Option<Self> {
        let mut workload = Self {
            name,
            folder: registry::unpack(name, version)?,
            targets: targets.to_vec(),
            filter: Vec::new(),
            rounds: 1,
            may_fail: true,
            binaries: Vec::new(),
        };
        workload.binaries = workload.list();
        Some(workload)
    }

    /// A package with one test that prints so many bytes and passes or fails.
    pub(crate) fn printing(mebibytes: usize) -> Self {
        let source = format!(
            "use std::io::Write;\n\
             fn print() {{\n\
             \x20   let chunk = [b\"0123456789abcde\\n\".as_slice(); 65536].concat();\n\
             \x20   for _ in 0..{mebibytes} {{ std::io::stdout().write_all(&chunk).unwrap(); }}\n\
             }}\n\
             #[test]\nfn passes() {{ print() }}\n\
             #[test]\nfn fails() {{ print(); panic!() }}\n"
        );
        let folder = write_package("printing", &[("printing".to_owned(), source)]);
        Self {
            may_fail: true,
            ..Self::written("printing", folder)
        }
    }

    /// A package with tests that make one call again and again, and write down how long that took.
    pub(crate) fn calling() -> Self {
        let (calls, took) = (CALLS, TOOK);
        let source = format!(
            "use std::{{env, fs, fs::File, path::Path, time::Instant}};\n\
             fn waits() -> u64 {{\n\
             \x20   let status = fs::read_to_string(\"/proc/thread-self/status\").unwrap();\n\
             \x20   let waits = status.lines().find_map(|line| line.strip_prefix(\"voluntary_ctxt_switches:\"));\n\
             \x20   waits.unwrap().trim().parse().unwrap()\n\
             }}\n\
             fn repeat(call: impl Fn()) {{\n\
             \x20   let before = waits();\n\
             \x20   let started = Instant::now();\n\
             \x20   (0..{calls}).for_each(|_| call());\n\
             \x20   let took = started.elapsed().as_nanos();\n\
             \x20   let taken = format!(\"{{took}} {{}}\", waits() - before);\n\
             \x20   fs::write(env::var_os(\"{took}\").unwrap(), taken).unwrap();\n\
             }}\n\
             const FILE: &str = concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/Cargo.toml\");\n\
             #[test]\nfn opens() {{ repeat(|| drop(File::open(FILE).unwrap())) }}\n\
             #[test]\nfn opens_relative() {{ repeat(|| drop(File::open(\"Cargo.toml\").unwrap())) }}\n\
             #[test]\nfn opens_missing() {{ repeat(|| assert!(File::open(\"/not/there\").is_err())) }}\n\
             #[test]\nfn stats() {{ repeat(|| assert!(Path::new(FILE).exists())) }}\n\
             #[test]\nfn lists() {{\n\
             \x20   let _ = fs::create_dir(\"target/empty\");\n\
             \x20   repeat(|| assert_eq!(fs::read_dir(\"target/empty\").unwrap().count(), 0))\n\
             }}\n"
        );
        let folder = write_package("calling", &[("calling".to_owned(), source)]);
        let profiles = ["ptrace", "recorder"]
            .map(|backend| format!("[profile.{backend}]\ntrace = {{ backend = \"{backend}\" }}\n"));
        write_if_new(&folder.join(".config/harness.toml"), &profiles.concat());
        Self::written("calling", folder)
    }

    /// Builds a package that was written.
    fn written(name: &'static str, folder: PathBuf) -> Self {
        let mut workload = Self {
            name,
            folder,
            targets: vec!["--tests"],
            filter: Vec::new(),
            rounds: 1,
            may_fail: false,
            binaries: Vec::new(),
        };
        workload.binaries = workload.list();
        workload
    }

    /// Returns how many tests there are to run.
    pub(crate) fn tests(&self) -> usize {
        if self.selects_nothing() {
            return 0;
        }
        self.binaries.iter().map(|binary| binary.tests.len()).sum()
    }

    pub(crate) fn selects_nothing(&self) -> bool {
        self.name == Self::NOTHING
    }

    /// Returns the test of this number, counted over all binaries.
    pub(crate) fn test(&self, mut number: usize) -> Option<(&Binary, &str)> {
        for binary in &self.binaries {
            if let Some(test) = binary.tests.get(number) {
                return Some((binary, test));
            }
            number -= binary.tests.len();
        }
        None
    }

    /// Lets cargo find that everything is built.
    pub(crate) fn build(&self) -> ExitStatus {
        let mut build = self.cargo();
        build
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("cargo starts")
    }

    fn cargo(&self) -> Command {
        let mut cargo = command("cargo");
        cargo.args([
            "test",
            "--no-run",
            "--message-format",
            "json-render-diagnostics",
        ]);
        cargo.args(&self.targets).current_dir(&self.folder);
        cargo
    }

    /// Builds, and lists the tests that are not ignored.
    fn list(&self) -> Vec<Binary> {
        let built = self
            .cargo()
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo starts");
        assert!(built.status.success(), "{} cannot be built", self.name);
        let messages = String::from_utf8(built.stdout).expect("cargo prints JSON");
        let mut binaries = Vec::new();
        for message in messages.lines() {
            let message: serde_json::Value = serde_json::from_str(message).expect("it is JSON");
            let is_test = message["profile"]["test"] == serde_json::Value::Bool(true);
            if let Some(path) = message["executable"].as_str().filter(|_| is_test) {
                let path = PathBuf::from(path);
                let list = |more: &[&str]| {
                    let mut list = command(&path);
                    list.args(["--list", "--format", "terse"]).args(more);
                    let list = list.current_dir(&self.folder).output().expect("it starts");
                    let list = String::from_utf8(list.stdout).expect("names are UTF-8");
                    let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
                    names.map(str::to_owned).collect::<Vec<_>>()
                };
                let ignored = list(&["--ignored"]);
                let tests = list(&[])
                    .into_iter()
                    .filter(|test| !ignored.contains(test))
                    .collect();
                binaries.push(Binary { path, tests });
            }
        }
        binaries
    }
}

/// Writes a package of empty tests.
fn generate(name: &str, binaries: usize, tests: usize) -> PathBuf {
    let sources = (0..binaries).map(|binary| {
        let mut source = String::new();
        for test in 0..tests {
            writeln!(source, "#[test]\nfn empty_{test:04}() {{}}").expect("strings take anything");
        }
        (format!("tests_{binary:02}"), source)
    });
    write_package(name, &sources.collect::<Vec<_>>())
}

/// Writes a package whose tests run `cargo check` on a package with a build script, each time into
/// an empty folder.
fn generate_compiling(name: &str) -> PathBuf {
    const TESTS: usize = 4;
    let mut source = String::from(
        "use std::{fs, path::Path, process::Command};\n\
         fn compile(name: &str) {\n\
         \x20   let folder = Path::new(env!(\"CARGO_MANIFEST_DIR\"));\n\
         \x20   let target = folder.join(\"target/fresh\").join(name);\n\
         \x20   let _ = fs::remove_dir_all(&target);\n\
         \x20   let mut check = Command::new(env!(\"CARGO\"));\n\
         \x20   check.args([\"check\", \"--offline\", \"--quiet\"]);\n\
         \x20   check.current_dir(folder.join(\"inner\")).env(\"CARGO_TARGET_DIR\", &target);\n\
         \x20   assert!(check.status().unwrap().success());\n\
         }\n",
    );
    for test in 0..TESTS {
        writeln!(
            source,
            "#[test]\nfn compiles_{test}() {{ compile(\"{test}\") }}"
        )
        .expect("strings take anything");
    }
    let folder = write_package(name, &[("compiling".to_owned(), source)]);
    let manifest = "[package]\nname = \"inner\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
                    [workspace]\n";
    write_if_new(&folder.join("inner/Cargo.toml"), manifest);
    write_if_new(&folder.join("inner/build.rs"), "fn main() {}\n");
    let functions = (0..200).map(|number| {
        format!("pub fn f{number}(x: u64) -> String {{ format!(\"{{}}\", x + {number}) }}\n")
    });
    let library = functions.collect::<String>();
    write_if_new(&folder.join("inner/src/lib.rs"), &library);
    folder
}

/// Writes a package of integration tests, if it is not there yet.
pub(crate) fn write_package(name: &str, tests: &[(String, String)]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("compare")
        .join(name);
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[lib]\n\
         test = false\n\n[workspace]\n"
    );
    write_if_new(&folder.join("Cargo.toml"), &manifest);
    write_if_new(&folder.join("src/lib.rs"), "");
    for (test, source) in tests {
        write_if_new(&folder.join(format!("tests/{test}.rs")), source);
    }
    folder
}

/// Leaves a file alone that is right already, so that nothing is built twice.
fn write_if_new(path: &Path, contents: &str) {
    if fs::read_to_string(path).is_ok_and(|was| was == contents) {
        return;
    }
    fs::create_dir_all(path.parent().expect("it is in a folder")).expect("it can be made");
    fs::write(path, contents).expect("it can be written");
}
