//! `cargo harness trace`: what an attempt did, from what is kept of runs.

mod filter;
mod shell;
mod tree;

use super::{
    GlobalOptions,
    kept::{Kept, locate_error, working_directory},
    prepared,
};
use crate::command_error::{CommandError, Kind};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use filter::{Filter, FilterArgs};
use harness_metadata::{TestId, TraceEvent, TraceSummary, exit_code, trace::TRACE_SCHEMA_VERSION};
use harness_runner::{
    cargo::{CargoOptions, locate_target},
    report::{style::Styles, trace_line},
    store::{FindError, Found, Query, WhichRun, find},
    tracer::{
        Observer,
        record::{
            Recorder,
            file::{Ending, Header, ReadError, Reader},
        },
    },
};
use serde::Serialize;
use std::io::{self, BufWriter, Write};

/// Show the processes, files and connections of a test.
#[derive(Debug, Args)]
pub(super) struct TraceCommand {
    /// The test: its name, a part of it, or its binary's id and its name.
    #[arg(value_name = "TEST", num_args = 1..=2, required_unless_present = "last_failed")]
    test: Vec<String>,
    /// The run: the beginning of its id, or `latest`. Default: the latest that has the test.
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// The attempt's number. Default: the last one.
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// Only failed attempts; without TEST the last one of all.
    #[arg(long)]
    last_failed: bool,
    /// Print every event in order, a line each, in the form of strace.
    #[arg(long, group = "view", help_heading = "Output options")]
    log: bool,
    /// Print the executions as shell commands.
    #[arg(long, group = "view", help_heading = "Output options")]
    exec: bool,
    /// Print the events as JSON, a line each, after a line about the trace.
    #[arg(long, group = "view", help_heading = "Output options")]
    json: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// Path to Cargo.toml.
    #[arg(long, value_name = "PATH")]
    manifest_path: Option<Utf8PathBuf>,
    /// The target directory.
    #[arg(long, value_name = "DIR")]
    target_dir: Option<Utf8PathBuf>,
    /// Override a value of Cargo's configuration, as for the run.
    #[arg(long, value_name = "KEY=VALUE|PATH")]
    config: Vec<String>,
}

/// A trace that is read.
type Opened = Reader<Box<dyn io::Read>>;

/// The first line of `--json`.
#[derive(Serialize)]
struct JsonHeader<'a> {
    schema_version: u32,
    test: &'a TestId,
    attempt: u32,
    run_id: String,
    workspace_root: &'a Utf8Path,
    root: i32,
    level: harness_metadata::event::TraceLevel,
    backend: harness_metadata::trace::Backend,
    /// True if nothing can be missing; `null` if that is unknown.
    complete: Option<bool>,
    doubts: &'a [harness_metadata::trace::Doubt],
}

/// The reason for the early end of a view.
enum Broken {
    Write(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

impl TraceCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let cwd = working_directory()?;
        let mut located = locate_target(&self.cargo_options(), &cwd).map_err(locate_error)?;
        let without_cargo = located.without_cargo.take();
        let kept = Kept::of(located, global)?;
        kept.tell_of_left_behind(global);
        let Kept { root, store, .. } = kept;
        if let Some(error) = without_cargo {
            let message = format!("the runs in `{store}` are searched, though {error}");
            prepared::warn(&message, global.stderr_colors());
        }
        prepared::tidy(&store, global);
        let found = find(&store, &self.query(root)).map_err(|error| find_error(error, &self))?;
        if let Some(later) = &found.later {
            let shown = &found.run.header;
            let text = format!(
                "run {} of {} has this test without a trace; this is run {} of {}",
                short(&later.header.run_id.to_string()),
                later.header.started_at.format(DATE),
                short(&shown.run_id.to_string()),
                shown.started_at.format(DATE),
            );
            prepared::note(&text, global.stderr_colors());
        }
        let mut filter = self.filter.interpret(&cwd, global.verbose)?;
        let open = || found.trace();
        if filter.looks_ahead()
            && let Some(Ok(reader)) = open()
        {
            reader.for_each(|event| filter.look_ahead(&event));
        }
        let reader = open();
        let mut out = BufWriter::new(io::stdout().lock());
        let shown = match (reader, self.log || self.exec || self.json) {
            (Some(Ok(reader)), true) => Ok(self.events(reader, &found, filter, global, &mut out)),
            (reader, true) => Err(no_events(&found, reader.and_then(Result::err))),
            (reader, false) => tree(reader, &found, filter, global, &mut out),
        };
        let shown = shown.map_err(|error| match self.last_traced(&store, &found) {
            Some(hint) => error.with_hint(hint),
            None => error,
        })?;
        match shown.and_then(|()| Ok(out.flush()?)) {
            Ok(()) => Ok(exit_code::OK),
            // `trace … | head` has seen enough.
            Err(Broken::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                // The rest of the buffer has no reader.
                let _ = out.into_parts();
                Ok(exit_code::OK)
            }
            Err(Broken::Write(error)) => {
                let message = format!("failed to write the trace to standard output: {error}");
                Err(CommandError::new(Kind::Write, message))
            }
        }
    }

    /// Returns what decides where cargo builds, as it does for a run. Nothing is fetched, and cargo
    /// is silent: if it fails, its configuration is read without it.
    fn cargo_options(&self) -> CargoOptions {
        CargoOptions {
            manifest_path: self.manifest_path.clone(),
            target_dir: self.target_dir.clone(),
            config: self.config.clone(),
            cargo_quiet: 2,
            ..CargoOptions::default()
        }
    }

    /// Says where the test was traced last, if one run was asked for and that has no trace of it.
    fn last_traced(&self, store: &Utf8Path, found: &Found) -> Option<String> {
        let test = &found.record.test;
        let query = Query {
            test: Some(test.to_string()),
            workspace: Some(found.run.header.workspace_root.clone()),
            ..Query::default()
        };
        let traced = find(store, &query).ok()?;
        traced.record.kept_trace.as_ref()?;
        if traced.run == found.run && traced.record.attempt == found.record.attempt {
            return None;
        }
        let header = &traced.run.header;
        let id = header.run_id.to_string();
        let id = short(&id);
        let words = [test.binary.as_str(), test.name.as_str()].map(shell_words::quote);
        let test = words.join(" ");
        Some(format!(
            "it was traced last in run {id} of {}: `cargo harness trace --run {id} {test}`; {RECORD}",
            header.started_at.format(DATE)
        ))
    }

    fn query(&self, workspace: Utf8PathBuf) -> Query {
        let run = self.run.as_deref().map(WhichRun::named);
        Query {
            test: (!self.test.is_empty()).then(|| self.test.join(" ")),
            run: run.unwrap_or_default(),
            attempt: self.attempt,
            failed: self.last_failed,
            workspace: Some(workspace),
        }
    }

    /// Writes the events one after the other.
    fn events(
        &self,
        mut reader: Opened,
        found: &Found,
        mut filter: Filter,
        global: &GlobalOptions,
        out: &mut dyn Write,
    ) -> Result<(), Broken> {
        let mut shell = shell::Commands::default();
        if self.json {
            let header = json_header(found, reader.header());
            serde_json::to_writer(&mut *out, &header).map_err(io::Error::from)?;
            writeln!(out)?;
        }
        for event in reader.by_ref() {
            let passes = filter.passes(&event);
            if self.exec {
                let command = shell.event(&event, self.filter.failed());
                if let Some(command) = command.filter(|_| passes) {
                    writeln!(out, "{command}")?;
                }
            } else if !passes {
            } else if self.json {
                serde_json::to_writer(&mut *out, &event).map_err(io::Error::from)?;
                writeln!(out)?;
            } else {
                writeln!(out, "{}", trace_line::line(&event))?;
            }
        }
        out.flush()?;
        if reader.ending() == Some(&Ending::Truncated) {
            prepared::warn(TRUNCATED, global.stderr_colors());
        }
        Ok(())
    }
}

/// The form of times.
const DATE: &str = "%Y-%m-%d %H:%M:%S";

/// Returns as much of a run's id as is needed to speak of it.
fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

const TRUNCATED: &str =
    "the trace ends before the attempt did: its writer was killed or is still writing";

/// Writes the tree of processes and what they did in all.
fn tree(
    reader: Option<Result<Opened, ReadError>>,
    found: &Found,
    mut filter: Filter,
    global: &GlobalOptions,
    out: &mut dyn Write,
) -> Result<Result<(), Broken>, CommandError> {
    let mut truncated = false;
    let kept = found.record.trace.as_deref().cloned();
    let rebuilt = match (reader, &kept) {
        (Some(Ok(reader)), kept) if filter.is_set() || kept.is_none() => {
            let (summary, ending) = digest(reader, kept.as_ref(), &mut filter);
            truncated = ending == Some(Ending::Truncated);
            Some(summary)
        }
        (Some(Err(error)), _) if filter.is_set() || kept.is_none() => {
            return Err(no_events(found, Some(error)));
        }
        _ => None,
    };
    let Some(summary) = rebuilt.or(kept) else {
        return Err(no_events(found, None));
    };
    if truncated {
        prepared::warn(TRUNCATED, global.stderr_colors());
    }
    let tree = tree::Tree {
        found,
        summary: &summary,
        filter: &filter,
        styles: Styles::new(global.stdout_colors()),
        verbose: global.verbose,
    };
    Ok(tree.write(out).map_err(Broken::Write))
}

/// Makes a summary of what passes the filter, and of all processes.
fn digest(
    mut reader: Opened,
    kept: Option<&TraceSummary>,
    filter: &mut Filter,
) -> (TraceSummary, Option<Ending>) {
    let Header {
        root,
        level,
        backend,
        ..
    } = *reader.header();
    let mut recorder = Recorder::new(root, level, backend, None);
    for event in reader.by_ref() {
        let passes = filter.passes(&event);
        if passes || is_about_processes(&event) {
            recorder.event(&event);
        }
    }
    let mut summary = recorder.summary();
    match (kept, reader.ending()) {
        (Some(kept), _) => summary.doubts.clone_from(&kept.doubts),
        (None, Some(Ending::Complete(trailer))) => summary.doubts.clone_from(&trailer.doubts),
        (None, _) => {
            let interrupted = harness_metadata::trace::Doubt::Interrupted;
            summary.doubts.push(interrupted);
        }
    }
    (summary, reader.ending().cloned())
}

fn is_about_processes(event: &TraceEvent) -> bool {
    use harness_metadata::TraceEventKind::{Created, Exec, Exited, Signal};
    match &event.kind {
        Created(_) | Exited(_) | Signal(_) => true,
        // What it executed is also a file, and failures are listed.
        Exec(exec) => exec.result.error().is_none(),
        _ => false,
    }
}

fn json_header<'a>(found: &'a Found, header: &Header) -> JsonHeader<'a> {
    let summary = found.record.trace.as_deref();
    JsonHeader {
        schema_version: TRACE_SCHEMA_VERSION,
        test: &found.record.test,
        attempt: found.record.attempt,
        run_id: found.run.header.run_id.to_string(),
        workspace_root: &found.run.header.workspace_root,
        root: header.root,
        level: header.level,
        backend: header.backend,
        complete: summary.map(TraceSummary::complete),
        doubts: summary.map_or(&[], |summary| &summary.doubts),
    }
}

fn no_events(found: &Found, error: Option<ReadError>) -> CommandError {
    match error {
        Some(error) => CommandError::new(Kind::NoTests, error),
        None => {
            let (test, number) = (&found.record.test, found.record.attempt);
            let message = format!("there is no trace of attempt {number} of `{test}`");
            CommandError::new(Kind::NoTests, message)
        }
    }
    .with_hint(RECORD)
}

const RECORD: &str = "`cargo harness run --trace io TEST` records one";

fn find_error(error: FindError, command: &TraceCommand) -> CommandError {
    let kind = match &error {
        FindError::Ambiguous { .. } | FindError::ManyRuns { .. } => Kind::Setup,
        _ => Kind::NoTests,
    };
    let (detail, hint) = match &error {
        FindError::Ambiguous {
            candidates, count, ..
        } => {
            let mut lines = list(candidates);
            if *count > candidates.len() {
                lines += &format!("\n  … and {} more", count - candidates.len());
            }
            (lines, "give the whole name".to_owned())
        }
        FindError::ManyRuns { runs, .. } => (list(runs), "give more of the id".to_owned()),
        FindError::OtherWorkspaces { .. } => (
            String::new(),
            "`--run ID` shows a run of any workspace".to_owned(),
        ),
        FindError::NoSuchRun { kept, .. } => (list(kept), "these runs are kept".to_owned()),
        FindError::NotFound { nearest, .. } if !nearest.is_empty() => {
            (list(nearest), format!("is it one of these? {RECORD}"))
        }
        FindError::NoAttempt { .. } => {
            let hint = "without `--attempt` it is the last one";
            (String::new(), hint.to_owned())
        }
        FindError::NothingFailed if command.run.is_some() => (
            String::new(),
            "without `--run` all runs are searched".to_owned(),
        ),
        _ => (String::new(), RECORD.to_owned()),
    };
    let error = CommandError::new(kind, error).with_hint(hint);
    match detail.is_empty() {
        true => error,
        false => error.with_detail(detail),
    }
}

fn list(names: &[String]) -> String {
    let lines = names.iter().map(|name| {
        let name = harness_runner::report::style::escaped(name);
        format!("  {name}")
    });
    lines.collect::<Vec<_>>().join("\n")
}
