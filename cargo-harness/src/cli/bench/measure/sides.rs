//! The two sides of a comparison of benchmarks: this workspace, and another revision or folder.

use super::{
    Side,
    figures::{Round, of_attempt},
};
use crate::{
    cli::{GlobalOptions, prepared},
    command_error::{CommandError, Kind},
};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{Event, EventKind, exit_code};
use harness_runner::changes;
use std::{
    env,
    ffi::OsString,
    fs,
    process::{Command, Stdio},
};

/// Flags of a run that many rounds cannot have, as each writes something or says where the workspace is.
const NOT_OF_ROUNDS: [&str; 12] = [
    "--events",
    "--junit",
    "--html",
    "--ctrf",
    "--allure",
    "--live",
    "--no-capture",
    "--nocapture",
    "--runs-dir",
    "--manifest-path",
    "--target-dir",
    "--message-format",
];

/// Flags of this command that are not of a run, and whether a value follows.
pub(super) const OWN: [(&str, bool); 7] = [
    ("--against", true),
    ("--program", true),
    ("--numbers", true),
    ("--precision", true),
    ("--max-rounds", true),
    ("--of-tests", false),
    ("--json", false),
];

/// Returns the arguments of the run of a round.
pub(super) fn arguments(of_tests: bool) -> Result<Vec<OsString>, CommandError> {
    rounds_of(env::args_os().skip(1).collect(), of_tests)
}

fn rounds_of(args: Vec<OsString>, of_tests: bool) -> Result<Vec<OsString>, CommandError> {
    let mut kept: Vec<OsString> = Vec::new();
    let mut args = args.into_iter().peekable();
    // Started by cargo, the first one is the name of the subcommand.
    args.next_if(|arg| arg == "harness");
    let mut is_named = false;
    while let Some(arg) = args.next() {
        let text = arg.to_str().unwrap_or_default();
        let name = text.split_once('=').map_or(text, |(name, _)| name);
        if text == "--" {
            kept.push(arg);
            kept.extend(args);
            break;
        }
        if !is_named && (text == "bench" || text == "b") {
            is_named = true;
            kept.push(if of_tests { "run" } else { "bench" }.into());
        } else if let Some((_, has_value)) = OWN.iter().find(|(own, _)| *own == name) {
            if *has_value && name == text {
                args.next();
            }
        } else if NOT_OF_ROUNDS.contains(&name) {
            let message = format!("`{name}` is about one run, and this makes many");
            return Err(CommandError::new(Kind::Usage, message)
                .with_hint("`--json` prints the figures of all rounds"));
        } else {
            kept.push(arg);
        }
    }
    let given = |names: &[&str]| {
        let kept = kept.iter().filter_map(|arg| arg.to_str());
        kept.take_while(|arg| *arg != "--")
            .any(|arg| names.iter().any(|name| arg.starts_with(name)))
    };
    let mut own: Vec<OsString> = Vec::new();
    if of_tests {
        if !given(&["-j", "--test-threads", "--jobs"]) {
            own.extend(["--test-threads", "1"].map(Into::into));
        }
        if !given(&["--trace"]) {
            own.extend(["--trace", "off"].map(Into::into));
        }
    } else {
        own.push("--live".into());
    }
    let at = kept
        .iter()
        .position(|arg| arg == "--")
        .unwrap_or(kept.len());
    kept.splice(at..at, own);
    Ok(kept)
}

/// A workspace, at a revision.
#[derive(Debug)]
pub(super) struct Workspace<'a> {
    /// As the table names it.
    name: String,
    /// The working directory of its runs.
    folder: Utf8PathBuf,
    /// The target directory, and whether the manifest has to be named.
    target: Option<Utf8PathBuf>,
    /// The arguments of a round.
    args: &'a [OsString],
    /// The folder for what a round writes.
    scratch: &'a Utf8Path,
}

impl<'a> Workspace<'a> {
    /// This workspace, as this program was started.
    pub(super) fn here(args: &'a [OsString], scratch: &'a Utf8Path) -> Result<Self, CommandError> {
        Ok(Self {
            name: "now".to_owned(),
            folder: working_directory()?,
            target: None,
            args,
            scratch,
        })
    }

    /// Another workspace: in a folder, or the files of a revision, which are written below the target directory.
    pub(super) fn against(
        &self,
        against: &str,
        root: &Utf8Path,
        target: &Utf8Path,
        global: &GlobalOptions,
    ) -> Result<Self, CommandError> {
        let own = target.join("harness").join("against");
        let below = self.folder.strip_prefix(root).unwrap_or(Utf8Path::new(""));
        let other = |name: String, folder: Utf8PathBuf, target: &str| Self {
            name,
            folder: folder.join(below),
            target: Some(own.join(target)),
            args: self.args,
            scratch: self.scratch,
        };
        let path = Utf8Path::new(against);
        if path.join("Cargo.toml").is_file() {
            let folder = path.canonicalize_utf8().map_err(|error| {
                CommandError::new(Kind::Setup, format!("failed to find `{against}`: {error}"))
            })?;
            let name = folder.file_name().unwrap_or("before").to_owned();
            return Ok(other(name, folder, "target-of-folder"));
        }
        let exported = changes::export(root, against, &own).map_err(|error| {
            let hint = match path.is_file() {
                true => "`--program PROGRAM --against PROGRAM -- ARGUMENTS` compares two programs",
                false => "`--against` names a revision, or a folder with a Cargo.toml",
            };
            CommandError::new(Kind::Setup, error.to_string()).with_hint(hint)
        })?;
        let lock = exported.workspace.join("Cargo.lock");
        if !lock.exists() {
            // Without one the dependencies could be others.
            let _ = fs::copy(root.join("Cargo.lock"), lock);
        }
        let short: String = exported.commit.chars().take(10).collect();
        prepared::note(
            &format!("`{against}` is commit {short}"),
            global.stderr_colors(),
        );
        let name = against.chars().take(14).collect();
        Ok(other(name, exported.workspace, "target"))
    }
}

impl Side for Workspace<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn round(&self) -> Result<Round, CommandError> {
        let failed = |what: String| CommandError::new(Kind::Internal, what);
        let program = env::current_exe()
            .map_err(|error| failed(format!("this program cannot be found: {error}")))?;
        let events = self.scratch.join("events");
        let at = self.args.iter().position(|arg| arg == "--");
        let (own, rest) = self.args.split_at(at.unwrap_or(self.args.len()));
        let mut command = Command::new(program);
        command
            .args(own)
            .args([
                "--cargo-quiet",
                "--status-level",
                "none",
                "--final-status-level",
                "none",
            ])
            .args(["--events", events.as_str()])
            .args(["--runs-dir", self.scratch.join("runs").as_str()]);
        if let Some(target) = &self.target {
            command.args(["--target-dir", target.as_str()]);
        }
        command
            .args(rest)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let output = command
            .output()
            .map_err(|error| failed(format!("a round could not be started: {error}")))?;
        if output.status.code() != Some(exit_code::OK) {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let message = format!("a round of `{}` ended with {}", self.name, output.status);
            return Err(CommandError::new(Kind::TestRun, message).with_detail(said));
        }
        let text = fs::read_to_string(&events)
            .map_err(|error| failed(format!("failed to read `{events}`: {error}")))?;
        Ok(figures(&text))
    }
}

fn working_directory() -> Result<Utf8PathBuf, CommandError> {
    let folder = env::current_dir()
        .ok()
        .and_then(|it| Utf8PathBuf::try_from(it).ok());
    folder.ok_or_else(|| {
        let message = "the working directory is gone, or its name is not UTF-8";
        CommandError::new(Kind::Setup, message)
    })
}

/// Returns the figures in the events of a run.
fn figures(events: &str) -> Round {
    let mut round = Round::default();
    for line in events
        .lines()
        .filter(|line| line.contains("\"test-finished\""))
    {
        let Ok(event) = serde_json::from_str::<Event>(line) else {
            continue;
        };
        if let EventKind::TestFinished(finished) = event.kind
            && let Some(last) = finished.attempts.last()
        {
            let seconds = last.elapsed.as_secs_f64();
            of_attempt(&finished.test, &last.metrics.found, seconds, &mut round);
        }
    }
    round
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn rounds(args: &[&str], of_tests: bool) -> Result<Vec<String>, String> {
        let args = args.iter().map(|arg| OsStr::new(arg).to_owned()).collect();
        let kept = rounds_of(args, of_tests).map_err(|error| format!("{error:?}"))?;
        Ok(kept
            .into_iter()
            .filter_map(|arg| arg.into_string().ok())
            .collect())
    }

    #[test]
    fn a_round_has_the_arguments_without_those_of_many_rounds() {
        assert_eq!(
            rounds(
                &[
                    "harness",
                    "-P",
                    "ci",
                    "bench",
                    "--against",
                    "main",
                    "parse",
                    "--json",
                    "--",
                    "--exact"
                ],
                false
            ),
            Ok(["-P", "ci", "bench", "parse", "--live", "--", "--exact"]
                .map(str::to_owned)
                .into())
        );
        assert_eq!(
            rounds(
                &["b", "--precision=1%", "--of-tests", "-E", "test(redis)"],
                true
            ),
            Ok([
                "run",
                "-E",
                "test(redis)",
                "--test-threads",
                "1",
                "--trace",
                "off"
            ]
            .map(str::to_owned)
            .into())
        );
        let refused = rounds(&["bench", "--against", "main", "--junit", "x"], false);
        assert!(refused.is_err_and(|error| error.contains("`--junit` is about one run")));
    }
}
