//! The calls of rustdoc that `cargo test --doc` makes.

use super::refusal::DoctestError;
use super::signs::{BOOTSTRAP, NOT_LINKED, OWN_BOOTSTRAP, RECORDS, RUSTC, RUSTDOC, SAID, UNLOCK};
use crate::{
    cargo::{CargoOptions, Color, Workspace},
    protocol::Environment,
    sys::by_fork,
};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// A call of rustdoc.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) args: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) cwd: PathBuf,
}

/// The real programs.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    rustdoc: Utf8PathBuf,
    rustc: Utf8PathBuf,
    own: PathBuf,
    host: String,
}

impl Programs {
    /// Finds the rustdoc that cargo would call, and its rustc.
    pub(super) fn of(workspace: &Workspace) -> Result<Self, DoctestError> {
        let inside = |name| Some(workspace.platforms.sysroot()?.join("bin").join(name));
        let rustdoc = workspace.config.rustdoc().or_else(|| inside("rustdoc"));
        let rustdoc = rustdoc.unwrap_or_else(|| "rustdoc".into());
        let beside = rustdoc.parent().map(|folder| folder.join("rustc"));
        let rustc = beside
            .filter(|path| path.exists())
            .or_else(|| inside("rustc"));
        let own = env::current_exe().map_err(DoctestError::Own)?;
        Ok(Self {
            rustdoc,
            rustc: rustc.unwrap_or_else(|| "rustc".into()),
            own,
            host: workspace.platforms.host.triple_str().to_owned(),
        })
    }

    /// All of them.
    pub(super) fn all(&self) -> [&Path; 3] {
        let (rustdoc, rustc) = (self.rustdoc.as_std_path(), self.rustc.as_std_path());
        [rustdoc, rustc, &self.own]
    }

    /// The platform that is meant without `--target`.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// This program.
    pub(super) fn own(&self) -> &OsStr {
        self.own.as_os_str()
    }
}

impl Call {
    /// Lets cargo call rustdoc for each package. Everything that rustdoc links is built then.
    pub(super) fn record(
        workspace: &Workspace,
        options: &CargoOptions,
        programs: &Programs,
    ) -> Result<Vec<Self>, DoctestError> {
        let records = tempfile::tempdir().map_err(DoctestError::Records)?;
        let color = match options.color {
            Color::Auto if io::stderr().is_terminal() => Color::Always,
            color => color,
        };
        let silent = CargoOptions {
            cargo_quiet: options.cargo_quiet.max(1),
            cargo_verbose: 0,
            unit_graph: false,
            timings: None,
            color,
            ..options.clone()
        };
        let shown = options.shown_doctest_command();
        let mut command = silent.doctest_command();
        let output = by_fork(&mut command)
            .current_dir(&workspace.cwd)
            .env("RUSTDOC", &programs.own)
            .env(RUSTDOC, &programs.rustdoc)
            .env(RECORDS, records.path())
            .stdin(Stdio::null())
            .output()
            .map_err(|source| DoctestError::Start {
                command: shown.clone(),
                source,
            })?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() && said.contains("no library targets found in package") {
            return Ok(Vec::new());
        }
        // Nothing can be reported once standard error is gone.
        let _ = io::stderr().lock().write_all(&output.stderr);
        if !output.status.success() {
            let status = output.status;
            return Err(DoctestError::Cargo {
                command: shown,
                status,
            });
        }
        Self::read(records.path()).map_err(DoctestError::Records)
    }

    fn read(records: &Path) -> io::Result<Vec<Self>> {
        let mut calls = Vec::new();
        for entry in records.read_dir()? {
            let text = std::fs::read(entry?.path())?;
            calls.push(serde_json::from_slice::<Self>(&text)?);
        }
        Ok(calls)
    }

    /// Returns the environment of the tests, which is that of rustdoc.
    pub(super) fn environment(&self) -> Environment {
        let mut environment = Environment::default();
        for (name, value) in &self.environment {
            environment.set(name, value);
        }
        for name in [RUSTDOC, RECORDS] {
            environment.remove(name);
        }
        match env::var_os("RUSTDOC") {
            Some(own) => environment.set("RUSTDOC", own),
            None => environment.remove("RUSTDOC"),
        }
        environment
    }

    /// Returns the value of an option that has one, in the form of two words.
    pub(super) fn value(&self, option: &str) -> Option<&OsStr> {
        let at = self.args.iter().position(|arg| arg == option)?;
        self.args.get(at + 1).map(OsString::as_os_str)
    }

    /// Returns the libraries that the tests link.
    pub(super) fn libraries(&self) -> impl Iterator<Item = &Utf8Path> {
        self.externs().map(|(_, library)| Utf8Path::new(library))
    }

    /// Returns the libraries that the tests link, each with its name and options before it.
    pub(super) fn externs(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.args.windows(2);
        let externs = pairs.filter(|pair| pair[0] == "--extern");
        externs.filter_map(|pair| pair[1].to_str()?.split_once('='))
    }

    /// Calls rustdoc with further arguments and its unstable options unlocked. What it compiles is
    /// compiled without them, and not linked if its folder is one of `not_linked`. Rustc says in the folder
    /// `said` which files it reads.
    pub(super) fn unlocked(
        &self,
        programs: &Programs,
        args: &[&OsStr],
        not_linked: &str,
        said: Option<&Utf8Path>,
    ) -> Result<Output, DoctestError> {
        let mut command = self.command(programs);
        if let Some(own) = self.environment().get(BOOTSTRAP) {
            command.env(OWN_BOOTSTRAP, own);
        }
        command
            .env(BOOTSTRAP, "1")
            .env(RUSTC, &programs.rustc)
            .env(NOT_LINKED, not_linked)
            .envs(said.map(|said| (SAID, said)))
            .args([UNLOCK, "--test-builder"])
            .arg(&programs.own)
            .args(args);
        output(command)
    }

    /// Calls rustdoc as cargo does, with further arguments.
    pub(super) fn plain(&self, programs: &Programs, args: &[&str]) -> Result<Output, DoctestError> {
        let mut command = self.command(programs);
        command.args(args);
        output(command)
    }

    fn command(&self, programs: &Programs) -> Command {
        let mut command = Command::new(&programs.rustdoc);
        let mut args = self.args.iter();
        while let Some(arg) = args.next() {
            // Tests do not run by rustdoc.
            match arg.to_str() {
                Some("--test-runtool" | "--test-runtool-arg") => drop(args.next()),
                _ => drop(command.arg(arg)),
            }
        }
        let environment = self.environment();
        command
            .env_clear()
            .envs(environment.iter())
            .current_dir(&self.cwd)
            .stdin(Stdio::null());
        command
    }
}

fn output(mut command: Command) -> Result<Output, DoctestError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = by_fork(&mut command).output();
    output.map_err(|source| DoctestError::Start {
        command: program,
        source,
    })
}

impl Programs {
    /// Returns true if rustdoc knows error codes of `compile_fail`, which a stable one does not.
    pub(super) fn knows_error_codes(&self, call: &Call) -> bool {
        if call.environment().get(BOOTSTRAP).is_some() {
            return true;
        }
        let version = call.plain_version(self).unwrap_or_default();
        version.contains("-nightly") || version.contains("-dev")
    }
}

impl Call {
    fn plain_version(&self, programs: &Programs) -> Option<String> {
        let mut command = Command::new(&programs.rustdoc);
        let environment = self.environment();
        let command = command.arg("-V").env_clear().envs(environment.iter());
        let output = by_fork(command).current_dir(&self.cwd).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
