//! `cargo harness run`.

use super::{
    GlobalOptions, before,
    below::Program,
    doctests::Documentation,
    filter_options::{Before, FilterArgs, Filters},
    prepared::{self, session_error},
    reuse_options::ReuseArgs,
    runner_options::{Annotations, NoTests, ReporterArgs, RunnerArgs, overrides},
    surroundings,
    useless::Given,
    variables,
};
use crate::{
    cargo_options::CargoArgs,
    command_error::{CommandError, Kind},
};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use harness_metadata::{StatusLevel, event::CancelReason, exit_code};
use harness_runner::{
    config::{RunSettings, ShowProgress, UserSettings},
    report::{
        github::Github,
        json::{EmbeddedOutput, JsonLines},
        junit::{Junit, JunitOptions},
        outlet::Outlet,
        progress::ProgressMode,
        signal_name,
        terminal::{Terminal, TerminalOptions},
    },
    run::{BreakExec, Capture},
    session::{Options, RunOptions, Session, Sinks, Start, Summary},
    stub::terminal,
};
use std::{
    env,
    io::{self, IsTerminal},
    os::fd::AsFd,
};

/// Bytes of each stream of a failed test that the event stream carries.
const EVENT_OUTPUT_CAP: usize = 64 * 1024;

/// The default number of running tests that the progress bar names.
const MOST_RUNNING: usize = 8;

/// Build and run tests.
#[derive(Debug, Args)]
pub(super) struct RunCommand {
    #[command(flatten)]
    cargo: CargoArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    reuse: ReuseArgs,
    #[command(flatten)]
    pub(super) runner: RunnerArgs,
    #[command(flatten)]
    pub(super) reporter: ReporterArgs,
}

impl RunCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let filters = self.filter.interpret(self.runner.no_capture)?;
        let program = Program::of(&self.runner)?;
        let no_capture = filters.no_capture;
        let capture = match &program {
            Some(program) => program.capture(),
            None if no_capture => Capture::Inherit { terminal: true },
            None => Capture::Pipes,
        };
        if capture == (Capture::Inherit { terminal: true }) {
            terminal::lend();
        }
        let options = self.session_options(filters, program.is_some(), global)?;
        let colors = global.stderr_colors();
        if options.nothing_changed() && self.runner.no_tests != NoTests::Fail {
            // It has been said, and nothing needs to be built.
            return Ok(exit_code::OK);
        }
        let mut notify = |notice| prepared::tell(&notice, colors);
        self.warn(no_capture, colors);
        let user = global.user_settings()?;
        let start = Start::new(&options, &mut notify).map_err(session_error(colors))?;
        if self.runner.no_run {
            start.build(&options).map_err(session_error(colors))?;
            return Ok(exit_code::OK);
        }
        let session = start
            .prepare(&options, &mut notify)
            .map_err(session_error(colors))?;
        if let Some(program) = &program {
            program.check(&session)?;
        }
        let documentation = match &program {
            None => Documentation::of(&session, &options, &self.runner)?,
            Some(_) => None,
        };
        let nothing_to_run = session.plan.tests.is_empty();
        let left_aside = session.left_aside().cloned();
        let sinks = self.sinks(&session, &options.cwd, global, capture, user)?;
        let run = RunOptions {
            below: program.as_ref().map(Program::below),
            write_timings: self.timings_path(&session, &options.cwd)?,
            junit: self.junit_path(&session, session.profile.run_settings(), &options.cwd),
            ..self.run_options(capture, user)
        };
        session.tell_of_killed(&mut notify);
        session.tell_of_quarantine(&mut notify);
        let summary = session.run(&run, sinks).map_err(session_error(colors))?;
        let cancelled = summary.cancelled.and_then(CancelReason::signal).is_some();
        let concluded = self.conclude(summary, nothing_to_run, colors);
        let concluded = concluded.and_then(|code| match left_aside {
            Some(left_aside) => before::conclude(&left_aside, colors),
            None => Ok(code),
        });
        match documentation.filter(|_| !cancelled) {
            Some(documentation) => {
                let told = documentation.conclude(&session, &options, concluded.is_ok(), colors);
                concluded.and_then(|code| told.map(|()| code))
            }
            None => concluded,
        }
    }

    /// Returns the options of the session; below another program a test has no limits.
    fn session_options(
        &self,
        filters: Filters,
        below: bool,
        global: &GlobalOptions,
    ) -> Result<Options, CommandError> {
        let mut overrides = overrides(&self.runner, &self.reporter);
        if below {
            Program::lift_limits(&mut overrides);
        }
        let cargo = self.cargo.clone();
        let mut options =
            prepared::options(global, cargo, &self.reuse, filters.options, overrides)?;
        options.seed = self.runner.shuffle.flatten();
        let before = Before {
            failed_first: self.runner.failed_first,
            ..filters.before
        };
        before.apply(&mut options, global)?;
        Ok(options)
    }

    fn run_options(&self, capture: Capture, user: UserSettings) -> RunOptions {
        RunOptions {
            command_line: env::args_os()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect(),
            capture,
            keys: self.keys(capture, user),
            trace_live: self.runner.trace_live,
            below: None,
            break_exec: self.runner.break_exec.clone().map(|breakpoint| BreakExec {
                breakpoint,
                command: self.runner.break_command.clone(),
            }),
            write_timings: None,
            junit: None,
        }
    }

    /// Warns of flags and variables that have no effect.
    fn warn(&self, no_capture: bool, colors: bool) {
        let args = (&self.runner, &self.reporter);
        let given = Given::of(args, no_capture, surroundings::surface());
        for warning in given.warnings() {
            prepared::warn(&warning, colors);
        }
        for warning in variables::unheeded(&|name| env::var(name).ok()) {
            prepared::warn(&warning, colors);
        }
    }

    fn conclude(
        &self,
        summary: Summary,
        nothing_to_run: bool,
        colors: bool,
    ) -> Result<i32, CommandError> {
        if let Some(why) = &summary.not_kept {
            let source = &why.source;
            let warning = format!("{why}, so this run is not kept whole: {source}");
            prepared::warn(&warning, colors);
        }
        if nothing_to_run && summary.cancelled.is_none() && summary.unwritten.is_empty() {
            return match self.runner.no_tests {
                NoTests::Pass => Ok(exit_code::OK),
                NoTests::Warn => {
                    prepared::warn("no tests to run", colors);
                    Ok(exit_code::OK)
                }
                // The outstanding tests decide.
                NoTests::Auto if self.filter.is_rerun() => Ok(exit_code::OK),
                NoTests::Auto if self.filter.wants_changed() => Ok(exit_code::OK),
                NoTests::Auto if self.filter.wants_last_failed() => {
                    prepared::note("no selected test failed when it ran last", colors);
                    Ok(exit_code::OK)
                }
                NoTests::Auto | NoTests::Fail => {
                    Err(CommandError::new(Kind::NoTests, "no tests to run")
                        .with_hint("use `--no-tests` to choose what that means"))
                }
            };
        }
        let mut unwritten = summary.unwritten;
        let signal = summary.cancelled.and_then(CancelReason::signal);
        let last = match signal {
            None => unwritten.pop(),
            Some(_) => None,
        };
        for error in unwritten {
            // Nothing can be reported once standard error is gone.
            let error = CommandError::new(Kind::Write, error);
            let _ = error.write(&mut io::stderr().lock(), colors);
        }
        if let Some(signal) = signal {
            let why = format!("test run was ended by {}", signal_name(signal));
            return Err(CommandError::new(Kind::EndedBy(signal), why));
        }
        if let Some(error) = last {
            return Err(CommandError::new(Kind::Write, error));
        }
        let scripts = &summary.failed_scripts;
        let failed = || {
            let names: Vec<String> = scripts.iter().map(|name| format!("`{name}`")).collect();
            let message = match scripts.len() {
                1 => format!("setup script {} failed", names[0]),
                _ => format!("setup scripts {} failed", names.join(", ")),
            };
            CommandError::new(Kind::SetupScript, message)
        };
        match summary.cancelled {
            Some(CancelReason::SetupFailed) => Err(failed()),
            None if summary.stats.success() && !scripts.is_empty() => Err(failed()),
            None if summary.stats.success() => Ok(exit_code::OK),
            Some(CancelReason::GlobalTimeout) => Err(CommandError::new(
                Kind::OutOfTime,
                "test run ran out of time (`global-timeout`)",
            )),
            _ => Err(CommandError::new(Kind::TestRun, "test run failed")),
        }
    }

    fn sinks(
        &self,
        session: &Session,
        cwd: &Utf8Path,
        global: &GlobalOptions,
        capture: Capture,
        user: UserSettings,
    ) -> Result<Sinks<'static>, CommandError> {
        let settings = session.profile.run_settings();
        let mut sinks = Sinks::default();
        if let Some(path) = self.junit_path(session, settings, cwd) {
            let mut junit = JunitOptions::new(path);
            junit.name.clone_from(&settings.junit_report_name);
            junit.stream_cap = usize::try_from(settings.junit_output_cap).unwrap_or(usize::MAX);
            junit.properties = true;
            junit.hostname = hostname();
            sinks.files.push(Box::new(Junit::new(junit)));
        }
        if let Some(path) = &self.reporter.events {
            let embedded = EmbeddedOutput::Failures {
                cap: EVENT_OUTPUT_CAP,
            };
            let (writer, place) = events_writer(path, cwd)?;
            sinks
                .readers
                .push(Box::new(JsonLines::new(writer, place, embedded)));
        }
        if self.annotates() {
            let commands: Box<dyn io::Write> = match self.reporter.events.as_deref() {
                Some(path) if path == "-" => Box::new(io::stderr()),
                _ => Box::new(io::stdout()),
            };
            let summary = env::var("GITHUB_STEP_SUMMARY").ok();
            let summary = summary
                .filter(|path| !path.is_empty())
                .map(Utf8PathBuf::from);
            sinks.readers.push(Box::new(Github::new(commands, summary)));
        }
        // Last, so that what it shows is in the events, whatever happens next.
        let terminal = self.terminal(settings, global, capture, user);
        sinks
            .readers
            .push(Box::new(Terminal::new(io::stderr(), terminal)));
        Ok(sinks)
    }

    /// Returns whether GitHub's annotations are written.
    fn annotates(&self) -> bool {
        match self.reporter.annotations {
            Annotations::Auto => env::var("GITHUB_ACTIONS").is_ok_and(|value| value == "true"),
            Annotations::Github => true,
            Annotations::None => false,
        }
    }

    /// True if keys are read: if a person sits at the terminal and no other program, such as a
    /// debugger, reads the keys.
    fn keys(&self, capture: Capture, user: UserSettings) -> bool {
        !self.reporter.no_input_handler
            && user.input_handler.unwrap_or(true)
            && capture == Capture::Pipes
            && self.runner.break_exec.is_none()
            && io::stdin().is_terminal()
            && io::stderr().is_terminal()
    }

    fn terminal(
        &self,
        settings: &RunSettings,
        global: &GlobalOptions,
        capture: Capture,
        user: UserSettings,
    ) -> TerminalOptions {
        let no_capture = capture != Capture::Pipes;
        let asked = self.reporter.show_progress.map(ShowProgress::from);
        let asked = asked.or(user.show_progress).unwrap_or(ShowProgress::Auto);
        let progress = match asked {
            _ if self.reporter.hide_progress_bar => ProgressMode::Counter,
            _ if no_capture => ProgressMode::Counter,
            ShowProgress::Auto => ProgressMode::Auto,
            ShowProgress::None => ProgressMode::None,
            ShowProgress::Bar => ProgressMode::Bar,
            ShowProgress::Counter => ProgressMode::Counter,
            ShowProgress::Only => ProgressMode::Only,
        };
        let mut status_level: StatusLevel = settings.status_level;
        let skipped_by_choice = status_level >= StatusLevel::Skip;
        if global.verbose {
            status_level = status_level.max(StatusLevel::All);
        }
        TerminalOptions {
            status_level,
            final_status_level: settings.final_status_level,
            skipped_by_choice,
            colors: global.stderr_colors(),
            unicode: unicode(),
            progress: progress.resolve(surroundings::surface(), surroundings::unobtrusive()),
            max_progress_running: self
                .reporter
                .max_progress_running
                .or(user.max_progress_running)
                .unwrap_or(MOST_RUNNING),
            indent_output: !self.reporter.no_output_indent && user.output_indent.unwrap_or(true),
            durations: settings.durations,
            size: None,
            // The command is wanted when a test is debugged.
            verbosity: u8::from(global.verbose || self.runner.runs_below()),
            no_capture,
        }
    }

    /// Returns the timing file to write: that of the command line, or that of the profile.
    fn timings_path(
        &self,
        session: &Session,
        cwd: &Utf8Path,
    ) -> Result<Option<Utf8PathBuf>, CommandError> {
        match &self.runner.write_timings {
            None => Ok(None),
            Some(Some(path)) => Ok(Some(cwd.join(path))),
            Some(None) => session.timings_file().map(Some).ok_or_else(|| {
                let message = "`--write-timings` needs a path, as the profile has no `timings`";
                CommandError::new(Kind::Setup, message)
            }),
        }
    }

    /// The command line's path is relative to where it was given, the profile's to the folder of its
    /// reports.
    fn junit_path(
        &self,
        session: &Session,
        settings: &RunSettings,
        cwd: &Utf8Path,
    ) -> Option<Utf8PathBuf> {
        if let Some(path) = &self.reporter.junit {
            return Some(cwd.join(path));
        }
        Some(session.reports().join(settings.junit_path.as_ref()?))
    }
}

/// Opens what the events are written to, and says what it is.
fn events_writer(path: &Utf8Path, cwd: &Utf8Path) -> Result<(Outlet, String), CommandError> {
    let (outlet, place) = match path.as_str() {
        "-" => {
            let stdout = io::stdout().as_fd().try_clone_to_owned();
            (
                stdout.and_then(Outlet::shared),
                "standard output".to_owned(),
            )
        }
        _ => {
            let path = cwd.join(path);
            (Outlet::create(path.as_std_path()), format!("`{path}`"))
        }
    };
    let outlet = outlet.map_err(|source| {
        let message = format!("failed to open {place} for the events: {source}");
        CommandError::new(Kind::Write, message)
    })?;
    Ok((outlet, place))
}

/// Whether the locale's characters are those of UTF-8 (locale(7)).
fn unicode() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()));
    locale.is_none_or(|locale| {
        let locale = locale.to_lowercase();
        locale.contains("utf-8") || locale.contains("utf8") || locale == "c" || locale == "posix"
    })
}

fn hostname() -> String {
    let name = nix::unistd::gethostname().ok();
    name.and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".to_owned())
}
