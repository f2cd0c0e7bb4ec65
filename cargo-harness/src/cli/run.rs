//! `cargo harness run`.

mod verdict;

pub(super) use verdict::verdict;

use super::{
    GlobalOptions, before,
    below::Program,
    cached::{self, CachedArgs},
    doctests::{self, Documentation},
    events::{self, Events},
    filter_options::{Before, FilterArgs, Filters},
    injecting, measuring,
    open::Openable,
    prepared::{self, session_error},
    remote_options::{self, RemoteArgs},
    reuse_options::ReuseArgs,
    runner_options::{NoTests, ReporterArgs, RunnerArgs, overrides},
    service::Service,
    surroundings,
    useless::Given,
    variables,
};
use crate::{
    cargo_options::CargoArgs,
    command_error::{CommandError, Kind, both},
};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use harness_metadata::{
    StatusLevel,
    event::{CancelReason, RunMode},
    exit_code,
};
use harness_runner::{
    config::{
        Hyperlinks, JunitSchema, Origin, RunSetting, RunSettings, ShowProgress, UserSettings,
    },
    report::{
        Sink, SinkError,
        allure::Allure,
        annotations::Annotations,
        ctrf::Ctrf,
        html::Html,
        junit::{Junit, JunitOptions, Schema},
        libtest_json::LibtestJson,
        links::Links,
        progress::{ProgressMode, Surface},
        terminal::{Fold, Terminal, TerminalOptions},
    },
    run::{BreakExec, Capture},
    session::{Options, Remote, RunOptions, Session, Sinks, Start, Summary},
    store::{JunitPresentation, Presentation},
    stub::terminal,
};
use std::{
    env,
    io::{self, IsTerminal},
};

/// The default number of running tests that the progress bar names.
const MOST_RUNNING: usize = 8;

/// Build and run tests.
#[derive(Debug, Args)]
pub(super) struct RunCommand {
    #[command(flatten)]
    pub(super) cargo: CargoArgs,
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    #[command(flatten)]
    pub(super) reuse: ReuseArgs,
    #[command(flatten)]
    pub(super) runner: RunnerArgs,
    #[command(flatten)]
    pub(super) reporter: ReporterArgs,
    #[command(flatten)]
    pub(super) cached: CachedArgs,
    #[command(flatten)]
    pub(super) remote: RemoteArgs,
    /// The kind of items that run.
    #[arg(skip)]
    pub(super) mode: RunMode,
}

impl RunCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let events = Events::to(self.reporter.events.as_deref())?;
        let openable = Openable::default();
        let code = self.run_with(&events, &openable, global);
        if let Some(cut_off) = events.end() {
            prepared::warn(&cut_off, global.stderr_colors());
        }
        self.reporter.open.open_after(&code, &openable, global);
        code
    }

    fn run_with(
        &self,
        events: &Events,
        openable: &Openable,
        global: &GlobalOptions,
    ) -> Result<i32, CommandError> {
        let filters = self.filters()?;
        let program = Program::of(&self.runner)?;
        let no_capture = filters.no_capture || self.writes_by_itself(events);
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
        let start = Start::new(&options, &mut notify).map_err(session_error(colors));
        let (start, user) = both(start, global.user_settings())?;
        if self.runner.no_run {
            start.build(&options).map_err(session_error(colors))?;
            return Ok(exit_code::OK);
        }
        let remote = self.engine(&start, no_capture, colors)?;
        let mut session = start
            .prepare(&options, &mut notify)
            .map_err(session_error(colors))?;
        if let Some(program) = &program {
            program.check(&session)?;
        }
        let documentation = Documentation::of(&session, &options, &self.runner.documentation);
        // Below a debugger one test runs.
        let documentation = documentation.filter(|_| program.is_none());
        let cached = &self.cached;
        let nothing_to_run = cached.leave_out(&self.runner, no_capture, &mut session, colors)?;
        let left_aside = session.left_aside().cloned();
        let mut sinks = self.sinks(&session, events, &options.cwd, global, capture, &user)?;
        let settings = session.profile.run_settings();
        let [junit, html] = self.paths(&session, &options.cwd);
        let open = &self.reporter.open;
        open.prepare(openable, html, &mut sinks.readers)?;
        let run = RunOptions {
            below: program.as_ref().map(Program::below),
            write_timings: self.timings_path(&session, &options.cwd)?,
            junit,
            remote,
            ..self.run_options(settings, global, capture, &user)
        };
        doctests::compile(&mut session, colors)?;
        session.tell_of_killed(&mut notify);
        session.tell_of_quarantine(&mut notify);
        let summary = session.run(&run, sinks).map_err(session_error(colors))?;
        let cancelled = summary.cancelled.and_then(CancelReason::signal).is_some();
        let concluded = self.conclude(summary, nothing_to_run, global);
        let concluded = before::concluded(concluded, left_aside.as_ref(), colors);
        let Some(documentation) = documentation.filter(|_| !cancelled) else {
            return concluded;
        };
        let told = documentation.conclude(&session, &options, concluded.is_ok(), colors);
        concluded.and_then(|code| told.map(|()| code))
    }

    /// Connects to the engine of the run, if it has one.
    fn engine(
        &self,
        start: &Start,
        no_capture: bool,
        colors: bool,
    ) -> Result<Option<Remote>, CommandError> {
        let bench = self.mode == RunMode::Benchmark;
        let in_the_way = remote_options::in_the_way(&self.runner, no_capture, bench);
        let (settings, root) = (&start.settings, start.workspace_root());
        self.remote.connect(settings, root, in_the_way, colors)
    }

    /// Returns the paths of the JUnit report and of the HTML report.
    fn paths(&self, session: &Session, cwd: &Utf8Path) -> [Option<Utf8PathBuf>; 2] {
        let settings = session.profile.run_settings();
        let (junit, html) = (&settings.junit_path, &settings.html_path);
        [
            report_path(&self.reporter.junit, junit, session, cwd),
            report_path(&self.reporter.html, html, session, cwd),
        ]
    }

    fn filters(&self) -> Result<Filters, CommandError> {
        let filters = self.filter.interpret(self.runner.no_capture)?;
        if self.runner.live && filters.no_capture {
            let why = "`--live` shows what is captured, so it cannot be used with `--nocapture`";
            return Err(CommandError::new(Kind::Usage, why));
        }
        Ok(filters)
    }

    /// Returns whether benchmarks write to the terminal: as under `cargo bench`, unless their output is to be
    /// captured, or standard output belongs to another program.
    fn writes_by_itself(&self, events: &Events) -> bool {
        let taken = events.are_on_stdout() || self.reporter.message_format.form().is_some();
        self.mode == RunMode::Benchmark && !self.runner.live && !taken
    }

    /// Returns the options of the session; below another program a test has no limits.
    fn session_options(
        &self,
        filters: Filters,
        below: bool,
        global: &GlobalOptions,
    ) -> Result<Options, CommandError> {
        let mut overrides = overrides(&self.runner, &self.reporter);
        self.cached.add_to(&mut overrides);
        self.remote.add_to(&mut overrides);
        let benchmarks = self.mode == RunMode::Benchmark;
        if benchmarks {
            measuring::settle(&mut overrides);
        }
        if below {
            Program::lift_limits(&mut overrides);
        }
        let cargo = self.cargo.clone();
        let mut options =
            prepared::options(global, cargo, &self.reuse, filters.options, overrides)?;
        options.seed = self.runner.shuffle.flatten();
        options.store.is_apart = !self.runner.inject.is_empty();
        options.documentation = true;
        if benchmarks {
            measuring::select(&mut options);
        }
        self.runner.documentation.check(&options.cargo)?;
        let before = Before {
            failed_first: self.runner.failed_first,
            ..filters.before
        };
        before.apply(&mut options, global)?;
        Ok(options)
    }

    fn run_options(
        &self,
        settings: &RunSettings,
        global: &GlobalOptions,
        capture: Capture,
        user: &UserSettings,
    ) -> RunOptions {
        RunOptions {
            command_line: env::args_os()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect(),
            capture,
            keys: self.keys(capture, user),
            trace_live: self.runner.trace_live,
            output_live: self.runner.live,
            below: None,
            break_exec: self.runner.break_exec.clone().map(|breakpoint| BreakExec {
                breakpoint,
                command: self.runner.break_command.clone(),
            }),
            inject: self.runner.inject.clone(),
            stress: self.runner.stress(),
            write_timings: None,
            junit: None,
            remote: None,
            presentation: self.presentation(settings, global, capture, user),
        }
    }

    /// Returns the options of the reports, for a replay.
    fn presentation(
        &self,
        settings: &RunSettings,
        global: &GlobalOptions,
        capture: Capture,
        user: &UserSettings,
    ) -> Presentation {
        Presentation {
            // A replay has no bar, so no test has a line only there.
            terminal: self.terminal(settings, false, global, capture, user),
            junit: Some(JunitPresentation {
                name: settings.junit_report_name.clone(),
                stream_cap: settings.junit_output_cap,
                hostname: hostname(),
                schema: schema(settings),
                attachments: settings.junit_attachments,
            }),
        }
    }

    /// Warns of flags and variables that have no effect.
    fn warn(&self, no_capture: bool, colors: bool) {
        let args = (&self.runner, &self.reporter);
        let given = Given::of(args, no_capture, surroundings::surface());
        let given = match self.mode {
            RunMode::Benchmark => given.of_benchmarks(),
            _ => given,
        };
        for warning in given.warnings() {
            prepared::warn(&warning, colors);
        }
        for warning in variables::unheeded(&|name| env::var(name).ok()) {
            prepared::warn(&warning, colors);
        }
    }

    /// Says that nothing is selected.
    fn none(&self) -> &'static str {
        match self.mode {
            RunMode::Benchmark => "no benchmarks to run",
            _ => "no tests to run",
        }
    }

    fn conclude(
        &self,
        mut summary: Summary,
        nothing_to_run: bool,
        global: &GlobalOptions,
    ) -> Result<i32, CommandError> {
        let colors = global.stderr_colors();
        cached::conclude(summary.observed.as_ref(), global.verbose, colors);
        if let Some(why) = &summary.not_kept {
            let source = &why.source;
            let warning = format!("{why}, so this run is not kept whole: {source}");
            prepared::warn(&warning, colors);
        }
        if nothing_to_run && summary.cancelled.is_none() && summary.unwritten.is_empty() {
            return match self.runner.no_tests {
                NoTests::Pass => Ok(exit_code::OK),
                NoTests::Warn => {
                    prepared::warn(self.none(), colors);
                    Ok(exit_code::OK)
                }
                // The outstanding tests decide.
                NoTests::Auto if self.filter.is_rerun() => Ok(exit_code::OK),
                NoTests::Auto if self.filter.wants_changed() => Ok(exit_code::OK),
                NoTests::Auto if self.filter.wants_touching() => Ok(exit_code::OK),
                NoTests::Auto if self.filter.wants_last_failed() => {
                    prepared::note("no selected test failed when it ran last", colors);
                    Ok(exit_code::OK)
                }
                NoTests::Auto | NoTests::Fail => Err(CommandError::new(Kind::NoTests, self.none())
                    .with_hint("use `--no-tests` to choose what that means")),
            };
        }
        let signal = summary.cancelled.and_then(CancelReason::signal);
        let mut errors = std::mem::take(&mut summary.unwritten);
        let last = match signal {
            None => errors.pop(),
            Some(_) => None,
        };
        tell_unwritten(errors, colors);
        match last {
            Some(error) => Err(CommandError::new(Kind::Write, error)),
            None => verdict(&summary),
        }
    }

    fn sinks(
        &self,
        session: &Session,
        events: &Events,
        cwd: &Utf8Path,
        global: &GlobalOptions,
        capture: Capture,
        user: &UserSettings,
    ) -> Result<Sinks<'static>, CommandError> {
        let settings = session.profile.run_settings();
        let mut sinks = Sinks::default();
        let place = |given: &Option<Utf8PathBuf>, set: &Option<Utf8PathBuf>| {
            report_path(given, set, session, cwd)
        };
        if let Some(path) = place(&self.reporter.junit, &settings.junit_path) {
            let mut junit = JunitOptions::new(path);
            junit.name.clone_from(&settings.junit_report_name);
            junit.stream_cap = usize::try_from(settings.junit_output_cap).unwrap_or(usize::MAX);
            junit.properties = true;
            junit.schema = schema(settings);
            junit.attachments = settings.junit_attachments;
            junit.hostname = hostname();
            sinks.files.push(Box::new(Junit::new(junit)));
        }
        if let Some(path) = place(&self.reporter.html, &settings.html_path) {
            let html = Html::new(path).against(session.earlier_runs());
            sinks.files.push(Box::new(html));
        }
        if let Some(path) = place(&self.reporter.ctrf, &settings.ctrf_path) {
            sinks.files.push(Box::new(Ctrf::new(path)));
        }
        if let Some(path) = place(&self.reporter.allure, &settings.allure_path) {
            sinks.files.push(Box::new(Allure::new(path)));
        }
        sinks.readers.extend(events.sink(cwd)?);
        let service = self.reporter.annotations.service();
        if let Some(sink) = service.and_then(|service| self.annotations(service, events, session)) {
            sinks.readers.push(sink);
        }
        if let Some(form) = self.reporter.message_format.form() {
            let (writer, place) = events::writer(Utf8Path::new("-"), cwd)?;
            let messages = LibtestJson::new(writer, place, form);
            sinks.readers.push(Box::new(messages));
        }
        // Last, so that what it shows is in the events, whatever happens next.
        let brief = {
            let origins = session.profile.run_origins();
            *origins.get(RunSetting::StatusLevel) == Origin::Default
        };
        let mut terminal = self.terminal(settings, brief, global, capture, user);
        self.for_this_place(&mut terminal, session, service, user);
        sinks
            .readers
            .push(Box::new(Terminal::new(io::stderr(), terminal)));
        sinks
            .readers
            .extend(injecting::sink(&self.runner.inject, session, global));
        Ok(sinks)
    }

    /// Returns the sink that annotates for a service.
    fn annotations(
        &self,
        service: Service,
        events: &Events,
        session: &Session,
    ) -> Option<Box<dyn Sink>> {
        let taken = events.are_on_stdout() || self.reporter.message_format.form().is_some();
        let commands: Box<dyn io::Write> = match taken {
            true => Box::new(io::stderr()),
            false => Box::new(io::stdout()),
        };
        let (form, summary) = service.form(&session.reports())?;
        Some(Box::new(Annotations::new(form, commands, summary)))
    }

    /// Sets the options that depend on the terminal or the service behind it.
    fn for_this_place(
        &self,
        terminal: &mut TerminalOptions,
        session: &Session,
        service: Option<Service>,
        user: &UserSettings,
    ) {
        let cargo = &session.workspace.config;
        let known = || {
            cargo
                .switch(&["term", "hyperlinks"])
                .unwrap_or_else(surroundings::links)
        };
        let asked = self
            .reporter
            .hyperlinks
            .map(Hyperlinks::from)
            .or(user.hyperlinks);
        let linked = match asked.unwrap_or(Hyperlinks::Auto) {
            Hyperlinks::Auto => terminal.fitted && known(),
            Hyperlinks::Always => true,
            Hyperlinks::Never => false,
        };
        let format = self.reporter.hyperlink_format.as_deref();
        terminal.links = linked.then(|| Links {
            format: format.unwrap_or(Links::FORMAT).to_owned(),
            host: hostname(),
        });
        let integration = cargo.switch(&["term", "progress", "term-integration"]);
        let quiet = terminal.progress == ProgressMode::None || terminal.no_capture;
        terminal.taskbar = surroundings::surface() == Surface::Full
            && !quiet
            && integration.unwrap_or_else(surroundings::taskbar);
        terminal.fold = service.map_or(Fold::None, Service::fold);
    }

    /// True if keys are read: if a person sits at the terminal and no other program, such as a
    /// debugger, reads the keys.
    fn keys(&self, capture: Capture, user: &UserSettings) -> bool {
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
        brief: bool,
        global: &GlobalOptions,
        capture: Capture,
        user: &UserSettings,
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
            unicode: surroundings::unicode(),
            progress: progress.resolve(surroundings::surface(), surroundings::unobtrusive()),
            max_progress_running: self
                .reporter
                .max_progress_running
                .or(user.max_progress_running)
                .unwrap_or(MOST_RUNNING),
            indent_output: !self.reporter.no_output_indent && user.output_indent.unwrap_or(true),
            durations: settings.durations,
            durations_by: settings.durations_by,
            size: None,
            fitted: surroundings::surface() != Surface::None,
            brief: brief && asked == ShowProgress::Auto && !global.verbose,
            // The command is wanted when a test is debugged.
            verbosity: u8::from(global.verbose || self.runner.runs_below()),
            no_capture,
            shown_live: self.runner.live
                && self.reporter.failure_output.is_none()
                && self.reporter.success_output.is_none(),
            ..TerminalOptions::default()
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
}

/// Returns the schema that the JUnit report keeps to.
fn schema(settings: &RunSettings) -> Schema {
    match settings.junit_schema {
        JunitSchema::Free => Schema::Free,
        JunitSchema::Junit10 => Schema::Junit10,
        JunitSchema::Surefire => Schema::Surefire,
    }
}

/// Returns the path of a report: that of the command line is relative to where it was given, that of the profile
/// to the folder of its reports.
fn report_path(
    given: &Option<Utf8PathBuf>,
    set: &Option<Utf8PathBuf>,
    session: &Session,
    cwd: &Utf8Path,
) -> Option<Utf8PathBuf> {
    match given {
        Some(path) => Some(cwd.join(path)),
        None => Some(session.reports().join(set.as_ref()?)),
    }
}

/// Fails with the last of what could not be written, when the others have been said.
pub(super) fn unwritten(mut errors: Vec<SinkError>, colors: bool) -> Result<(), CommandError> {
    let last = errors.pop();
    tell_unwritten(errors, colors);
    last.map_or(Ok(()), |error| Err(CommandError::new(Kind::Write, error)))
}

fn tell_unwritten(errors: Vec<SinkError>, colors: bool) {
    for error in errors {
        // Nothing can be reported once standard error is gone.
        let error = CommandError::new(Kind::Write, error);
        let _ = error.write(&mut io::stderr().lock(), colors);
    }
}

fn hostname() -> String {
    let name = nix::unistd::gethostname().ok();
    name.and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".to_owned())
}
