//! Builds the workspace with cargo and tells what came out of it.
//!
//! [`Workspace::load`] asks cargo and rustc about the workspace, both at once; [`Build::run`]
//! runs `cargo test --no-run` and hands over every [`TestBinary`] as soon as it is linked.
//! `cargo metadata` and the build do not overlap: both take the lock of the package cache, and
//! cargo then prints "Blocking waiting for file lock" (78 times in 20 runs, both sides counted).
//! Executing what was built is left to `list` and `run`.

mod artifacts;
mod cargo_config;
mod doctests;
mod environment;
mod folders;
mod locate;
mod messages;
mod moved;
mod options;
mod probe;
mod program;
mod reuse;
mod runner;
mod rustc;
mod scripts;
mod workspace;

use crate::sys;

pub(crate) use crate::protocol::Identity;
pub use artifacts::Built;
pub use cargo_config::{CargoConfig, ConfigError, Origin};
pub use doctests::{
    CompiledDoctests, DoctestBinary, DoctestError, Doctests, Example, Process, stand_in,
};
pub use locate::{LocateError, locate_workspace};
pub use moved::{Libdirs, Moved, Reused};
pub use options::{CargoMessageFormat, CargoOptions, Color, MessageFormatError};
pub use reuse::ReuseError;
pub use runner::{MissingRunner, Runner, Runners};
pub use rustc::{Platforms, RustcError, Target};
pub use workspace::{Graph, Located, MetadataError, Workspace, locate_target};

use crate::protocol::Environment;
use artifacts::Artifacts;
use camino::Utf8PathBuf;
use messages::Line;
use nextest_metadata::{
    BinaryListSummary, BuildPlatform, RustBinaryId, RustTestBinaryKind, RustTestBinarySummary,
};
use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, Stdio},
    sync::{Arc, mpsc::Sender},
};
use thiserror::Error;

/// An executable that holds tests.
#[derive(Clone, Debug)]
pub struct TestBinary {
    /// Its id, such as `my-crate::tests`.
    pub id: RustBinaryId,
    /// The package's id as cargo prints it.
    pub package_id: String,
    /// The package's name.
    pub package_name: String,
    /// The target's name.
    pub name: String,
    /// The target's kind.
    pub kind: RustTestBinaryKind,
    /// The executable.
    pub path: Utf8PathBuf,
    /// Its working directory: the package's directory.
    pub cwd: Utf8PathBuf,
    /// Its platform.
    pub platform: BuildPlatform,
    /// The target that it is built for, as it was asked for; `None` for the host.
    pub target: Option<String>,
    /// The harness that answers when it is asked for its tests.
    pub harness: Harness,
    /// The root of the crate, such as `src/lib.rs`.
    pub source_file: Utf8PathBuf,
    /// Its environment while it is listed, without the variables of the run.
    pub list_environment: Arc<Environment>,
}

impl TestBinary {
    /// Returns what other programs read of it.
    pub fn summary(&self) -> RustTestBinarySummary {
        RustTestBinarySummary {
            binary_id: self.id.clone(),
            binary_name: self.name.clone(),
            package_id: self.package_id.clone(),
            kind: self.kind.clone(),
            binary_path: self.path.clone(),
            build_platform: self.platform,
        }
    }
}

impl Built {
    /// Returns the summary of the binaries that other programs read.
    pub fn summary(&self) -> BinaryListSummary {
        let binaries = self.binaries.iter();
        BinaryListSummary {
            rust_build_meta: self.meta.clone(),
            rust_binaries: binaries
                .map(|binary| (binary.id.clone(), binary.summary()))
                .collect(),
        }
    }
}

/// The harness of a binary, as far as the manifest says.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Harness {
    /// The standard one, unless the crate has a `#![test_runner]` of its own, which only the binary
    /// tells.
    Libtest,
    /// The package's own, by `harness = false`: its tests may depend on anything.
    Custom,
}

/// An error that kept the workspace from being built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// Cargo could not be started.
    #[error("failed to start `{command}`")]
    Start {
        /// The command line.
        command: String,
        /// The reason.
        source: io::Error,
    },
    /// Cargo's messages could not be read, or not be passed on.
    #[error("failed to pass on the messages of `{command}`")]
    Messages {
        /// The command line.
        command: String,
        /// The reason.
        source: io::Error,
    },
    /// A message is not what cargo documents.
    #[error("`{command}` printed a message that is not understood: `{line}`")]
    Malformed {
        /// The command line.
        command: String,
        /// The message, shortened.
        line: String,
        /// The mistake.
        source: serde_json::Error,
    },
    /// The build failed. Cargo has said why on standard error.
    #[error("`{command}` exited with code {code}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit code.
        code: i32,
    },
    /// Cargo was killed.
    #[error("`{command}` was ended by signal {signal}")]
    Killed {
        /// The command line.
        command: String,
        /// The signal.
        signal: i32,
    },
    /// A package's manifest could not be read.
    #[error("failed to read `{path}`")]
    Manifest {
        /// The manifest.
        path: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Cargo did not say in which environment tests run.
    #[error("`cargo test` did not say in which environment it runs tests")]
    Probe {
        /// The reason.
        source: io::Error,
    },
    /// An artifact belongs to a package that `cargo metadata` does not know.
    #[error(
        "`cargo metadata` does not know package `{package_id}`, of which an artifact was built"
    )]
    UnknownPackage {
        /// The package.
        package_id: String,
    },
}

/// A `cargo test --no-run` to do.
#[derive(Debug)]
pub struct Build<'a> {
    /// The workspace.
    pub workspace: &'a Workspace,
    /// The options of a build.
    pub options: &'a CargoOptions,
    /// The environment that tests inherit.
    pub inherited: &'a Environment,
}

impl Build<'_> {
    /// Builds, with cargo's standard error passed through. Test binaries go to `ready` when they
    /// can be listed; a receiver that hung up is no error. JSON that the user asked for goes to
    /// `stdout`.
    ///
    /// # Errors
    ///
    /// When the build fails, and when cargo says what is not understood.
    pub fn run(
        &self,
        ready: Sender<Arc<TestBinary>>,
        stdout: &mut dyn Write,
    ) -> Result<Built, BuildError> {
        let mut command = self.options.build_command();
        let shown = options::shown(&command);
        let mut child = sys::by_fork(&mut command)
            .current_dir(&self.workspace.cwd)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| BuildError::Start {
                command: shown.clone(),
                source,
            })?;
        let mut artifacts = Artifacts::new(self.workspace, self.options, self.inherited);
        let read = self.read_messages(&mut child, &shown, &mut artifacts, &ready, stdout);
        // Cargo is waited for even when its messages were not understood: its pipe is closed by
        // now, so it fails or ends, and no zombie is left.
        let status = child.wait().map_err(|source| BuildError::Messages {
            command: shown.clone(),
            source,
        })?;
        read?;
        match (status.code(), status.signal()) {
            (Some(0), _) => {}
            (Some(code), _) => {
                return Err(BuildError::Failed {
                    command: shown,
                    code,
                });
            }
            (None, signal) => {
                let signal = signal.unwrap_or_default();
                return Err(BuildError::Killed {
                    command: shown,
                    signal,
                });
            }
        }
        let (built, rest) = artifacts.finish()?;
        for binary in rest {
            let _ = ready.send(binary);
        }
        Ok(built)
    }

    fn read_messages(
        &self,
        child: &mut Child,
        shown: &str,
        artifacts: &mut Artifacts<'_>,
        ready: &Sender<Arc<TestBinary>>,
        stdout: &mut dyn Write,
    ) -> Result<(), BuildError> {
        let failed = |source| BuildError::Messages {
            command: shown.to_owned(),
            source,
        };
        let pipe = child
            .stdout
            .take()
            .expect("standard output was piped above");
        let mut lines = BufReader::with_capacity(64 * 1024, pipe);
        let mut line = Vec::new();
        loop {
            line.clear();
            if lines.read_until(b'\n', &mut line).map_err(failed)? == 0 {
                return Ok(());
            }
            let parsed = messages::parse(&line).map_err(|source| BuildError::Malformed {
                command: shown.to_owned(),
                line: String::from_utf8_lossy(&line).chars().take(200).collect(),
                source,
            })?;
            if self.options.message_format.is_forwarded() || matches!(parsed, Line::Foreign) {
                stdout
                    .write_all(&line)
                    .and_then(|()| stdout.flush())
                    .map_err(failed)?;
            }
            if let Line::Message(message) = parsed {
                for binary in artifacts.add(message)? {
                    let _ = ready.send(binary);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
