//! Has cargo say in which environment it runs each test binary.
//!
//! Cargo's messages do not tell everything: which execution of a build script belongs to which
//! binary, and where the artifacts of artifact dependencies are. But `cargo test` knows, and sets
//! variables accordingly. So, where it matters, `cargo test` is called once more after the build,
//! with a runner that writes down its environment and executes nothing. This costs another check
//! that everything is up to date, so it is done for the few workspaces that need it.

use super::{CargoConfig, CargoOptions, Workspace};
use crate::protocol::Environment;
use crate::sys::by_fork;
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    process::{Command, Stdio},
};
use target_spec::Platform;

/// The runner's script, and where it writes to.
const SCRIPT: &str = "HARNESS_PROBE_SCRIPT";
const FOLDER: &str = "HARNESS_PROBE_FOLDER";

/// Writes the path of the binary and the environment. Some shells drop variables whose names are
/// no names to them, such as `CARGO_BIN_EXE_my-tool`, so the environment is read from `/proc`,
/// with what the shell passes on as a substitute where `/proc` has other processes' numbers.
const RUNNER: &str = r#"file=$HARNESS_PROBE_FOLDER/$$
{ printf '%s\0' "$0"; env -0; } >"$file.shell"
{ printf '%s\0' "$0"; cat "/proc/$$/environ"; } >"$file.proc" 2>/dev/null"#;

/// Cargo's messages, by test binary.
#[derive(Debug, Default)]
pub(super) struct Probe {
    environments: BTreeMap<Utf8PathBuf, Environment>,
}

impl Probe {
    /// Asks cargo.
    pub(super) fn ask(options: &CargoOptions, workspace: &Workspace) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = command(options, workspace);
        command
            .current_dir(&workspace.cwd)
            .env(SCRIPT, RUNNER)
            .env(FOLDER, folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let output = by_fork(&mut command).spawn()?.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(said.trim().to_owned()));
        }
        let mut environments = BTreeMap::new();
        // `.proc` comes before `.shell`.
        let mut files: Vec<_> = fs::read_dir(folder.path())?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()?;
        files.sort();
        for file in files {
            let Some((binary, environment)) = parse(&fs::read(file)?) else {
                continue;
            };
            if environment.get(FOLDER) == Some(folder.path().as_os_str()) {
                environments.entry(binary).or_insert(environment);
            }
        }
        Ok(Self { environments })
    }

    /// Returns the environment in which cargo runs a binary.
    pub(super) fn get(&self, binary: &Utf8Path) -> Option<&Environment> {
        self.environments.get(binary)
    }
}

/// Sets what a probe found of artifact dependencies: `CARGO_BIN_FILE_…` and the like.
pub(super) fn set_artifacts(environment: &mut Environment, probed: &Environment) {
    let is_artifact = |name: &[u8]| {
        let rest = name.strip_prefix(b"CARGO_");
        let kinds: [&[u8]; 3] = [b"BIN_", b"CDYLIB_", b"STATICLIB_"];
        kinds.into_iter().any(|kind| {
            let what = rest.and_then(|rest| rest.strip_prefix(kind));
            what.is_some_and(|what| what.starts_with(b"FILE_") || what.starts_with(b"DIR_"))
        })
    };
    for (name, value) in probed.iter() {
        if is_artifact(name.as_bytes()) {
            environment.set(name, value);
        }
    }
}

fn parse(bytes: &[u8]) -> Option<(Utf8PathBuf, Environment)> {
    let mut words = bytes.split(|byte| *byte == 0);
    let binary = std::str::from_utf8(words.next()?).ok()?;
    let mut environment = Environment::default();
    for word in words {
        let Some(at) = word.iter().skip(1).position(|byte| *byte == b'=') else {
            continue;
        };
        let (name, value) = (&word[..=at], &word[at + 2..]);
        environment.set(OsStr::from_bytes(name), OsStr::from_bytes(value));
    }
    Some((binary.into(), environment))
}

fn command(options: &CargoOptions, workspace: &Workspace) -> Command {
    let mut options = options.clone();
    let platforms = &workspace.platforms;
    let triples: BTreeSet<&str> = [&platforms.host]
        .into_iter()
        .chain(platforms.of_tests())
        .map(Platform::triple_str)
        .collect();
    for triple in triples {
        options.config.push(runner(&workspace.config, triple));
    }
    let mut command = options.probe_command();
    // Tests in documentation are no test binaries.
    match std::env::var_os("RUSTDOC") {
        Some(_) => command.env("RUSTDOC", "true"),
        None => command.args(["--config", "build.rustdoc=\"true\""]),
    };
    command
}

/// Returns the argument of `--config` that sets the runner. Cargo merges a string with a string
/// only, and a list with a list; and it splits a string wherever there is white space.
fn runner(config: &CargoConfig, triple: &str) -> String {
    let value = match config.runner_is_list(triple) {
        true => r#"["sh", "-c", "eval \"$HARNESS_PROBE_SCRIPT\""]"#,
        false => r#"'sh -c eval${IFS}"$HARNESS_PROBE_SCRIPT"'"#,
    };
    format!("target.\"{triple}\".runner={value}")
}
