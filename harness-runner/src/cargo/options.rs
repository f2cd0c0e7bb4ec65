//! The user's options for cargo, and the command lines made of them.

use camino::Utf8PathBuf;
use harness_metadata::event::RunMode;
use serde::{Deserialize, Serialize};
use std::{ffi::OsString, process::Command};
use thiserror::Error;

/// Everything that is passed on to cargo. Field names are those of the flags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each field is the flag of the same name")]
pub struct CargoOptions {
    /// Whether tests are built, by `cargo test`, or benchmarks, by `cargo bench`.
    pub mode: RunMode,
    pub package: Vec<String>,
    /// `--workspace` or `--all`.
    pub workspace: bool,
    pub exclude: Vec<String>,
    pub lib: bool,
    pub bin: Vec<String>,
    pub bins: bool,
    pub example: Vec<String>,
    pub examples: bool,
    pub test: Vec<String>,
    pub tests: bool,
    pub bench: Vec<String>,
    pub benches: bool,
    pub all_targets: bool,
    pub features: Vec<String>,
    pub all_features: bool,
    pub no_default_features: bool,
    /// `--build-jobs`; cargo's `--jobs`.
    pub build_jobs: Option<String>,
    pub release: bool,
    /// `--cargo-profile`; cargo's `--profile`.
    pub cargo_profile: Option<String>,
    pub target: Vec<String>,
    pub target_dir: Option<Utf8PathBuf>,
    pub unit_graph: bool,
    /// `--timings`, with its formats if there are any.
    pub timings: Option<Option<String>>,
    pub manifest_path: Option<Utf8PathBuf>,
    pub frozen: bool,
    pub locked: bool,
    pub offline: bool,
    /// The number of `--cargo-quiet` flags; two silence cargo altogether.
    pub cargo_quiet: u8,
    /// The number of `--cargo-verbose` flags.
    pub cargo_verbose: u8,
    pub ignore_rust_version: bool,
    pub future_incompat_report: bool,
    pub config: Vec<String>,
    /// `-Z`.
    pub unstable: Vec<String>,
    #[serde(skip)]
    pub message_format: CargoMessageFormat,
    #[serde(skip)]
    pub color: Color,
}

/// When cargo uses color.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Color {
    /// If standard error is a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The scope of a call of `cargo metadata`.
#[derive(Copy, Clone, Debug)]
pub(super) enum MetadataOf<'a> {
    /// The packages of the workspace.
    Members,
    /// All packages that are needed on these platforms.
    Dependencies(&'a [String]),
}

/// The form of cargo's diagnostics, and whether its JSON goes to standard output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CargoMessageFormat {
    /// For people, on standard error.
    #[default]
    Human,
    /// JSON on standard output; these are cargo's names of formats.
    Json(Vec<String>),
}

/// An invalid combination of `--cargo-message-format` values.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum MessageFormatError {
    /// There is no such format.
    #[error("unknown cargo message format `{0}`")]
    Unknown(String),
    /// A format for people was given beside others.
    #[error("cargo message format `{0}` cannot be combined with others")]
    Exclusive(String),
    /// A format was given twice.
    #[error("cargo message format `{0}` is given more than once")]
    Duplicate(String),
    /// Rendered diagnostics are not part of the JSON, so their form cannot be chosen.
    #[error("cargo message format `json-render-diagnostics` cannot be combined with `{0}`")]
    Rendered(String),
}

impl CargoMessageFormat {
    /// Understands the values of the flag, each of which may be a list separated by commas.
    ///
    /// # Errors
    ///
    /// When a value is unknown or does not go with another.
    pub fn parse<'a>(
        values: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, MessageFormatError> {
        const RENDER: &str = "json-render-diagnostics";
        let values: Vec<&str> = values
            .into_iter()
            .flat_map(|value| value.split(','))
            .collect();
        for (index, value) in values.iter().enumerate() {
            match *value {
                "human" | "short" if values.len() > 1 => {
                    return Err(MessageFormatError::Exclusive((*value).to_owned()));
                }
                "human" | "short" | "json" | RENDER => {}
                "json-diagnostic-short" | "json-diagnostic-rendered-ansi" => {
                    if values.contains(&RENDER) {
                        return Err(MessageFormatError::Rendered((*value).to_owned()));
                    }
                }
                _ => return Err(MessageFormatError::Unknown((*value).to_owned())),
            }
            if values[..index].contains(value) {
                return Err(MessageFormatError::Duplicate((*value).to_owned()));
            }
        }
        if matches!(values[..], [] | ["human" | "short"]) {
            return Ok(Self::Human);
        }
        Ok(Self::Json(values.into_iter().map(str::to_owned).collect()))
    }

    /// Returns whether cargo's JSON goes to standard output.
    pub fn is_forwarded(&self) -> bool {
        matches!(self, Self::Json(_))
    }

    fn for_cargo(&self) -> String {
        match self {
            Self::Human => "json-render-diagnostics".to_owned(),
            Self::Json(formats) => formats.join(","),
        }
    }
}

impl CargoOptions {
    /// Returns whether they choose among packages and targets.
    pub fn selects(&self) -> bool {
        let lists = [
            &self.package,
            &self.exclude,
            &self.bin,
            &self.example,
            &self.test,
            &self.bench,
        ];
        let flags = [self.lib, self.bins, self.examples, self.tests, self.benches];
        lists.iter().any(|list| !list.is_empty()) || flags.contains(&true)
    }

    /// Returns the options that decide which binaries there are and how they are built, without
    /// those that decide where, how fast and how loudly.
    pub fn scope(&self) -> Self {
        Self::default().with_scope(self)
    }

    /// Returns these options with the scope of others.
    #[must_use]
    pub fn with_scope(&self, other: &Self) -> Self {
        Self {
            mode: self.mode,
            build_jobs: self.build_jobs.clone(),
            target_dir: self.target_dir.clone(),
            unit_graph: self.unit_graph,
            timings: self.timings.clone(),
            manifest_path: self.manifest_path.clone(),
            frozen: self.frozen,
            locked: self.locked,
            offline: self.offline,
            cargo_quiet: self.cargo_quiet,
            cargo_verbose: self.cargo_verbose,
            future_incompat_report: self.future_incompat_report,
            message_format: self.message_format.clone(),
            color: self.color,
            ..other.clone()
        }
    }

    /// Returns the scope as flags, quoted as a shell would need it; empty for the default.
    pub fn scope_flags(&self) -> String {
        let mut command = Command::new("");
        self.scope().add_build(&mut command);
        shell_words::join(command.get_args().map(|word| word.to_string_lossy()))
    }

    /// Returns `cargo test --no-run`, or `cargo bench --no-run`, with everything that was asked for.
    pub fn build_command(&self) -> Command {
        let mut command = self.cargo();
        command.args([self.verb(), "--no-run", "--message-format"]);
        command.arg(self.message_format.for_cargo());
        self.add_build(&mut command);
        command
    }

    /// Returns `cargo test --doc` with everything that was asked for.
    pub(super) fn doctest_command(&self) -> Command {
        let mut command = self.cargo();
        command.args(["test", "--doc"]);
        self.add_build(&mut command);
        command
    }

    /// Returns `cargo test --doc` as a shell would take it.
    pub fn shown_doctest_command(&self) -> String {
        let mut command = Command::new("cargo");
        command.args(["test", "--doc"]);
        self.add_build(&mut command);
        shown(&command)
    }

    /// Returns `cargo test` with everything that was asked for, in silence: nothing is left to
    /// build.
    pub(super) fn probe_command(&self) -> Command {
        let options = Self {
            cargo_quiet: 1,
            cargo_verbose: 0,
            unit_graph: false,
            timings: None,
            color: Color::Never,
            ..self.clone()
        };
        let mut command = options.cargo();
        command.args([options.verb(), "--no-fail-fast"]);
        options.add_build(&mut command);
        command
    }

    /// Returns the name of cargo's command.
    fn verb(&self) -> &'static str {
        match self.mode {
            RunMode::Benchmark => "bench",
            _ => "test",
        }
    }

    /// Returns the profile of cargo, if it has to be named.
    fn profile(&self) -> Option<&str> {
        // `cargo bench` builds with its own profile, and has no `--release`.
        let release = self.release && self.mode == RunMode::Benchmark;
        let profile = self.cargo_profile.as_deref();
        profile.or(release.then_some("release"))
    }

    fn add_build(&self, command: &mut Command) {
        let flags = [
            (self.workspace, "--workspace"),
            (self.lib, "--lib"),
            (self.bins, "--bins"),
            (self.examples, "--examples"),
            (self.tests, "--tests"),
            (self.benches, "--benches"),
            (self.all_targets, "--all-targets"),
            (self.all_features, "--all-features"),
            (self.no_default_features, "--no-default-features"),
            (self.release && self.mode.is_test(), "--release"),
            (self.unit_graph, "--unit-graph"),
            (self.ignore_rust_version, "--ignore-rust-version"),
            (self.future_incompat_report, "--future-incompat-report"),
            (self.cargo_quiet > 0, "--quiet"),
        ];
        command.args(
            flags
                .into_iter()
                .filter(|(given, _)| *given)
                .map(|(_, flag)| flag),
        );
        let lists = [
            ("--package", &self.package),
            ("--exclude", &self.exclude),
            ("--bin", &self.bin),
            ("--example", &self.example),
            ("--test", &self.test),
            ("--bench", &self.bench),
            ("--features", &self.features),
            ("--target", &self.target),
        ];
        for (flag, values) in lists {
            command.args(values.iter().flat_map(|value| [flag, value]));
        }
        let values = [
            ("--jobs", self.build_jobs.as_deref()),
            ("--profile", self.profile()),
            (
                "--target-dir",
                self.target_dir.as_deref().map(|dir| dir.as_str()),
            ),
        ];
        for (flag, value) in values {
            command.args(value.into_iter().flat_map(|value| [flag, value]));
        }
        match &self.timings {
            None => {}
            Some(None) => drop(command.arg("--timings")),
            Some(Some(formats)) => drop(command.arg(format!("--timings={formats}"))),
        }
        self.add_common(command);
        if self.cargo_quiet > 1 {
            command.stderr(std::process::Stdio::null());
        }
    }

    /// Returns `cargo metadata`.
    pub(super) fn metadata_command(&self, of: MetadataOf<'_>) -> Command {
        let mut command = self.cargo();
        command.args(["metadata", "--format-version=1"]);
        match of {
            MetadataOf::Members => drop(command.arg("--no-deps")),
            MetadataOf::Dependencies(platforms) => {
                command.arg("--all-features");
                let flags = platforms
                    .iter()
                    .flat_map(|name| ["--filter-platform", name]);
                command.args(flags);
            }
        }
        if self.cargo_quiet > 0 {
            // It says so when it has to wait for another cargo.
            command.arg("--quiet");
        }
        if let Some(target_dir) = &self.target_dir {
            command.env("CARGO_TARGET_DIR", target_dir);
        }
        self.add_common(&mut command);
        if self.cargo_quiet > 1 {
            command.stderr(std::process::Stdio::null());
        }
        command
    }

    fn cargo(&self) -> Command {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(program);
        command.arg(match self.color {
            Color::Auto => "--color=auto",
            Color::Always => "--color=always",
            Color::Never => "--color=never",
        });
        command
    }

    /// Adds what every cargo command takes.
    fn add_common(&self, command: &mut Command) {
        if let Some(path) = &self.manifest_path {
            command.args(["--manifest-path", path.as_str()]);
        }
        for (given, flag) in [
            (self.frozen, "--frozen"),
            (self.locked, "--locked"),
            (self.offline, "--offline"),
        ] {
            if given {
                command.arg(flag);
            }
        }
        command.args(self.config.iter().flat_map(|value| ["--config", value]));
        command.args(self.unstable.iter().flat_map(|value| ["-Z", value]));
        command.args((0..self.cargo_verbose).map(|_| "--verbose"));
    }
}

/// Returns a command line as a shell would take it.
pub(super) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    shell_words::join(words.map(|word| word.to_string_lossy()))
}
