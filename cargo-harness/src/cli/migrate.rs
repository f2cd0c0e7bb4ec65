//! `cargo harness migrate`.

mod invocations;

use super::{
    GlobalOptions,
    prepared::{self, config_error},
};
use crate::command_error::{CommandError, Kind};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use harness_metadata::exit_code;
use harness_runner::{
    cargo::locate_workspace,
    config::{DEFAULT_PATH, Migrated, PEER_PATH, SCHEMA_FILE, migrate, schema},
    report::style::escaped,
};
use invocations::{Found, Instead};
use std::{
    env, fs,
    io::{self, Write},
};

/// Write `.config/harness.toml` from cargo-nextest's file, and find where cargo-nextest is called.
#[derive(Debug, Args)]
pub(super) struct MigrateCommand {
    /// Path to Cargo.toml.
    #[arg(long, value_name = "PATH")]
    manifest_path: Option<Utf8PathBuf>,
    /// Write nothing; show the file that would be written.
    #[arg(long, conflicts_with_all = ["check", "force"])]
    dry_run: bool,
    /// Write nothing; fail if anything is left to do.
    #[arg(long, conflicts_with = "force")]
    check: bool,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
}

impl MigrateCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let root = self.root()?;
        let colors = global.stderr_colors();
        let note = |text: &str| prepared::note(text, colors);
        let mut left_to_do = match read(&root.join(PEER_PATH))? {
            None => {
                note(&format!("there is no `{PEER_PATH}`, so no file is written"));
                false
            }
            Some(text) => {
                let migrated = migrate(&text).map_err(|error| config_error(error, colors))?;
                let left_to_do = self.carry(&root, &migrated, &note)?;
                for line in told(&migrated) {
                    note(&line);
                }
                left_to_do
            }
        };
        let found = invocations::find(&root);
        let report = report(&found);
        left_to_do |= found.iter().any(|found| found.instead != Instead::Same);
        if !report.is_empty() {
            let _ = io::stderr().lock().write_all(report.as_bytes());
        }
        match self.check && left_to_do {
            true => Err(setup(
                "the way over from cargo-nextest is not finished".to_owned(),
            )),
            false => Ok(exit_code::OK),
        }
    }

    /// Returns the root of the workspace.
    fn root(&self) -> Result<Utf8PathBuf, CommandError> {
        let cwd = env::current_dir().map_err(|error| {
            setup(format!(
                "the current directory cannot be determined: {error}"
            ))
        })?;
        let cwd = Utf8PathBuf::from_path_buf(cwd).map_err(|path| {
            setup(format!(
                "the current directory `{}` is not UTF-8",
                path.display()
            ))
        })?;
        locate_workspace(self.manifest_path.as_deref(), &cwd)
            .map_err(|error| CommandError::new(Kind::Metadata, error))
    }

    /// Writes the new file, or does what the flags want instead. Returns whether it is still to be
    /// written.
    fn carry(
        &self,
        root: &Utf8Path,
        migrated: &Migrated,
        note: &dyn Fn(&str),
    ) -> Result<bool, CommandError> {
        if !migrated.same {
            let message = format!("`{PEER_PATH}` cannot be carried without a change");
            return Err(CommandError::new(Kind::Internal, message));
        }
        let target = root.join(DEFAULT_PATH);
        let there = read(&target)?;
        if self.dry_run {
            print(&migrated.text)?;
        } else if self.check {
            if there.is_none() {
                note(&format!("`{DEFAULT_PATH}` is not written yet"));
            }
            return Ok(there.is_none());
        } else if there.is_some() && !self.force {
            return Err(setup(format!("`{DEFAULT_PATH}` is there already"))
                .with_hint("`--force` replaces it, `--dry-run` shows the new one"));
        } else {
            write(&target, &migrated.text)?;
            let schema = format!("{:#}\n", schema());
            write(&target.with_file_name(SCHEMA_FILE), &schema)?;
            note(&format!(
                "wrote `{DEFAULT_PATH}`; `{PEER_PATH}` is not read any more and can go"
            ));
        }
        Ok(false)
    }
}

fn write(path: &Utf8Path, text: &str) -> Result<(), CommandError> {
    fs::write(path, text).map_err(|error| {
        let message = format!("failed to write `{path}`: {error}");
        CommandError::new(Kind::Write, message)
    })
}

fn setup(message: String) -> CommandError {
    CommandError::new(Kind::Setup, message)
}

/// Returns a sentence for each thing about the new file that has to be known.
fn told(migrated: &Migrated) -> Vec<String> {
    let mut told = Vec::new();
    told.extend(migrated.warnings.iter().map(ToString::to_string));
    if !migrated.written_down.is_empty() {
        told.push(format!(
            "reports stay where they are by {}",
            migrated
                .written_down
                .iter()
                .map(|line| format!("`{line}`"))
                .collect::<Vec<_>>()
                .join(" and ")
        ));
    }
    told
}

/// Writes the lines that call cargo-nextest, each with the line in its place.
fn report(found: &[Found]) -> String {
    let mut text = String::new();
    for found in found {
        let place = format!("{}:{}", found.file, found.line);
        text.push_str(&format!("\n{}\n", escaped(&place)));
        text.push_str(&format!("  - {}\n", escaped(found.text.trim())));
        let instead = match &found.instead {
            Instead::Line(line) => format!("  + {}", line.trim()),
            Instead::Same => {
                "    stays: it finds cargo harness by a link named `cargo-nextest`".to_owned()
            }
            Instead::Nothing(why) => format!("    stays: {why}"),
        };
        text.push_str(&format!("{}\n", escaped(&instead)));
    }
    if found.iter().any(|found| found.instead == Instead::Same) {
        text.push_str(
            "\nfor the lines that stay: ln -s \"$(command -v cargo-harness)\" \
             \"${CARGO_HOME:-$HOME/.cargo}/bin/cargo-nextest\"\n",
        );
    }
    text
}

fn read(path: &Utf8Path) -> Result<Option<String>, CommandError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CommandError::new(
            Kind::Setup,
            format!("failed to read `{path}`: {error}"),
        )),
    }
}

fn print(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CommandError::new(
            Kind::Write,
            format!("failed to write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}
