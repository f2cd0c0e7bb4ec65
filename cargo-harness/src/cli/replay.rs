//! `cargo harness replay`: what a run printed, from its recording.

use super::{
    GlobalOptions,
    recordings::{self, Place},
    run,
    runner_options::{OutputArg, one_of},
    surroundings,
};
use crate::command_error::{CommandError, Kind};
use clap::Args;
use harness_metadata::{
    Event, EventKind, FinalStatusLevel, StatusLevel,
    event::{OutputPolicy, OutputWhen},
    exit_code,
};
use harness_runner::{
    report::{
        Sink,
        progress::ProgressMode,
        terminal::{Terminal, TerminalOptions},
    },
    session::Summary,
    store::Presentation,
};
use owo_colors::Stream;
use std::io;

/// Print what a recorded run printed.
#[derive(Debug, Args)]
pub(super) struct ReplayCommand {
    /// The run: `latest`, the beginning of its id, its folder, or a file of `--events`.
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// The same as RUN.
    #[arg(long, short = 'R', value_name = "RUN", conflicts_with = "run")]
    run_id: Option<String>,
    /// Exit with the code of the run, and say why.
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    shown: ShownArgs,
    #[command(flatten)]
    place: Place,
}

/// Options for output. What they do not say is as it was in the run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reporter options")]
struct ShownArgs {
    /// Print a line for these tests when they finish.
    #[arg(long, value_name = "LEVEL",
        value_parser = one_of::<StatusLevel>(["none", "fail", "retry", "slow", "leak", "pass", "skip", "all"]))]
    status_level: Option<StatusLevel>,
    /// Print a line for these tests at the end.
    #[arg(long, value_name = "LEVEL",
        value_parser = one_of::<FinalStatusLevel>(["none", "fail", "flaky", "retry", "slow", "skip", "leak", "pass", "all"]))]
    final_status_level: Option<FinalStatusLevel>,
    /// Set the time to show the output of failed tests.
    #[arg(long, value_name = "WHEN")]
    failure_output: Option<OutputArg>,
    /// Set the time to show the output of passed tests, as far as the run has kept it.
    #[arg(long, value_name = "WHEN")]
    success_output: Option<OutputArg>,
    /// Do not indent captured output.
    #[arg(long)]
    no_output_indent: bool,
    /// The same as `--success-output immediate --failure-output immediate --no-output-indent`.
    #[arg(long, visible_alias = "nocapture")]
    no_capture: bool,
    /// Name the N slowest tests at the end.
    #[arg(long, value_name = "N")]
    durations: Option<usize>,
}

impl ShownArgs {
    /// Returns the options of the terminal.
    fn terminal(&self, noted: TerminalOptions, global: &GlobalOptions) -> TerminalOptions {
        let mut options = noted;
        if options.progress == ProgressMode::Only {
            // Lines of passed tests were left out.
            options.status_level = options.status_level.min(StatusLevel::Leak);
        }
        if options.progress != ProgressMode::Counter {
            options.progress = ProgressMode::None;
        }
        if let Some(level) = self.status_level {
            options.status_level = level;
            options.skipped_by_choice = level >= StatusLevel::Skip;
        }
        if let Some(level) = self.final_status_level {
            options.final_status_level = level;
        }
        if let Some(durations) = self.durations {
            options.durations = durations;
        }
        if global.verbose {
            options.verbosity = 1;
            options.status_level = options.status_level.max(StatusLevel::All);
        }
        options.indent_output &= !(self.no_output_indent || self.no_capture);
        options.colors = global.color.on(Stream::Stdout);
        if options.fitted && surroundings::stdout_size().is_none() {
            options.fitted = false;
            options.links = None;
        }
        options.taskbar = false;
        options.size = surroundings::stdout_size().or(Some((u16::MAX, u16::MAX)));
        options
    }

    /// Changes what an event says of the output of its test.
    fn change(&self, event: &mut Event) {
        let at_once = self.no_capture.then_some(OutputWhen::Immediate);
        let failure = self.failure_output.map(OutputWhen::from).or(at_once);
        let success = self.success_output.map(OutputWhen::from).or(at_once);
        let change = |policy: &mut OutputPolicy| {
            policy.failure = failure.unwrap_or(policy.failure);
            policy.success = success.unwrap_or(policy.success);
        };
        match &mut event.kind {
            EventKind::AttemptFailed { output, .. } => change(output),
            EventKind::TestFinished(finished) => change(&mut finished.output),
            EventKind::SetupFinished(finished) | EventKind::TeardownFinished(finished) => {
                change(&mut finished.output);
            }
            EventKind::ServiceFinished(finished) => change(&mut finished.output),
            _ => {}
        }
    }
}

impl ReplayCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let named = self.run.as_deref().or(self.run_id.as_deref());
        let recording = self.place.recording(named, global)?;
        let Presentation { terminal, .. } = recording.presentation();
        let options = self.shown.terminal(terminal, global);
        let terminal: Box<dyn Sink> = Box::new(Terminal::new(io::stdout(), options));
        let change = |event: &mut Event| self.shown.change(event);
        let replayed = recording
            .replay(&mut [terminal], &change)
            .map_err(|error| CommandError::new(Kind::Setup, error))?;
        recordings::warn_of_gaps(&recording, &replayed, global);
        let failed = replayed.errors.into_iter().next();
        recordings::written(failed.map_or(Ok(()), |error| Err(error.source)), "the run")?;
        let Some(finished) = replayed.finished.filter(|_| self.exit_code) else {
            return Ok(exit_code::OK);
        };
        run::verdict(&Summary {
            stats: finished.stats,
            cancelled: finished.cancelled,
            failed_scripts: finished.failed_scripts,
            failed_services: finished.failed_services,
            not_kept: None,
            unwritten: Vec::new(),
            observed: None,
        })
    }
}
