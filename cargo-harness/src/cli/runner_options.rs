//! Options of `run`: execution and reports.

use super::{doc_options::DocArgs, open_options::OpenArgs, service::AnnotationsArg};
use clap::{
    Args, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use harness_metadata::{
    DurationsBy, FinalStatusLevel, StatusLevel,
    event::{OutputWhen, TraceLevel},
};
use harness_runner::{
    config::{
        CliOverrides, Hyperlinks, ShowProgress,
        settings::{FlakyResult, MaxFail, Order, RetryPolicy, TestThreads},
    },
    report::libtest_json::Form,
    run::{Stress, StressMode, Until},
    tracer::{breakpoint::Breakpoint, inject::Injection},
};
use std::str::FromStr;

/// Returns a parser of words that `--help` lists.
pub(super) fn one_of<T>(words: impl Into<PossibleValuesParser>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static> + Clone + Send + Sync + 'static,
{
    words.into().try_map(|word| word.parse())
}

/// Options for running tests.
#[derive(Debug, Args)]
#[command(next_help_heading = "Runner options")]
pub(crate) struct RunnerArgs {
    /// Only build.
    #[arg(long, conflicts_with = "doc")]
    pub(super) no_run: bool,
    /// Run this many tests at the same time: a number, a negative number to leave CPUs free, or
    /// `num-cpus`.
    #[arg(
        long,
        short = 'j',
        visible_alias = "jobs",
        value_name = "N",
        env = "HARNESS_TEST_THREADS",
        allow_negative_numbers = true
    )]
    pub(super) test_threads: Option<TestThreads>,
    /// Start tests of the same priority in this order.
    #[arg(long, value_name = "ORDER", env = "HARNESS_ORDER",
        value_parser = one_of::<Order>(["longest-first", "name", "shuffle"]))]
    pub(super) order: Option<Order>,
    /// Start tests in a random order; the same seed gives the same order.
    #[arg(long, value_name = "SEED", num_args = 0..=1, conflicts_with = "order")]
    pub(super) shuffle: Option<Option<u64>>,
    /// Try a failed test again this many times.
    #[arg(long, value_name = "N", env = "HARNESS_RETRIES")]
    pub(super) retries: Option<u32>,
    /// Treat flaky tests as passing or failing.
    #[arg(long, value_name = "RESULT", env = "HARNESS_FLAKY_RESULT",
        value_parser = one_of::<FlakyResult>(["pass", "fail"]))]
    pub(super) flaky_result: Option<FlakyResult>,
    /// Start no further tests after the first failure.
    #[arg(long, visible_alias = "ff", overrides_with = "no_fail_fast")]
    pub(super) fail_fast: bool,
    /// Run all tests, also after failures.
    #[arg(long, visible_alias = "nff", overrides_with = "fail_fast")]
    pub(super) no_fail_fast: bool,
    /// Start no further tests after this many failures: `N`, `N:wait`, `N:immediate`, `all`.
    #[arg(
        long,
        value_name = "N[:MODE]",
        conflicts_with_all = ["fail_fast", "no_fail_fast", "no_run"]
    )]
    max_fail: Option<MaxFail>,
    /// Run tests first that failed when they ran last, whatever their priority.
    #[arg(long)]
    pub(super) failed_first: bool,
    /// Run all tests this many times, or `infinite` for until the run is ended.
    #[arg(
        long,
        value_name = "N",
        value_parser = stress_count,
        group = "stress",
        conflicts_with_all = ["debugger", "tracer"]
    )]
    pub(super) stress_count: Option<Until>,
    /// Run all tests again and again, until this much time has passed.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = stress_duration,
        group = "stress",
        conflicts_with_all = ["debugger", "tracer"]
    )]
    pub(super) stress_duration: Option<Until>,
    /// Begin the next iteration of a stress run when a slot is free, not when the one before is over.
    #[arg(long, requires = "stress")]
    pub(super) stress_parallel: bool,
    /// Write how long each test takes to this file, or to that of the profile, for `--partition
    /// time:M/N`.
    #[arg(long, value_name = "PATH", num_args = 0..=1)]
    pub(super) write_timings: Option<Option<camino::Utf8PathBuf>>,
    /// Trace tests at this level.
    #[arg(long, value_name = "LEVEL", env = "HARNESS_TRACE")]
    pub(super) trace: Option<TraceArg>,
    /// Fail if the requested trace level is unavailable.
    #[arg(long)]
    pub(super) trace_required: bool,
    /// Show the events of tests live, one line each.
    #[arg(long)]
    pub(super) trace_live: bool,
    /// Stop the descendants of tests at matching executions, for a debugger:
    /// `argv~REGEX`, `path=/FILE`, `name=FILE` or `FILE`, with `before:` or `after:` in front.
    #[arg(long, value_name = "PATTERN")]
    pub(super) break_exec: Option<Breakpoint>,
    /// Run this by `sh -c` for each process that is stopped; `{pid}` stands for it.
    #[arg(long, value_name = "COMMAND", requires = "break_exec")]
    pub(super) break_command: Option<String>,
    /// Have system calls of tests fail: `CALL:ERRNO`, with a pattern and the number of the call if wanted, such as
    /// `openat(*.toml):ENOSPC@2`.
    #[arg(
        long,
        value_name = "CALL:ERRNO[@N]",
        conflicts_with_all = ["debugger", "tracer", "break_exec", "no_run"]
    )]
    pub(super) inject: Vec<Injection>,
    #[command(flatten)]
    pub(super) documentation: DocArgs,
    /// Run the one selected test in this debugger, such as `gdb --args`: without capture and limits,
    /// with the terminal.
    #[arg(
        long,
        value_name = "COMMAND",
        allow_hyphen_values = true,
        conflicts_with_all = ["tracer", "no_run", "break_exec"]
    )]
    pub(super) debugger: Option<String>,
    /// Run the one selected test below this system call tracer, such as `strace -f`: without capture
    /// and limits.
    #[arg(
        long,
        value_name = "COMMAND",
        allow_hyphen_values = true,
        conflicts_with_all = ["no_run", "break_exec"]
    )]
    pub(super) tracer: Option<String>,
    /// Set the behavior if no test is selected.
    #[arg(
        long,
        value_name = "ACTION",
        default_value = "auto",
        env = "HARNESS_NO_TESTS"
    )]
    pub(super) no_tests: NoTests,
    /// Show the output of tests while they run, each line with its test. It is captured all the same.
    #[arg(long, conflicts_with_all = ["no_capture", "debugger", "tracer"])]
    pub(super) live: bool,
    /// Let tests write to the terminal, one test at a time.
    #[arg(long, visible_alias = "nocapture")]
    pub(super) no_capture: bool,
}

impl RunnerArgs {
    /// Returns whether a test runs below a debugger or a tracer.
    pub(super) fn runs_below(&self) -> bool {
        self.debugger.is_some() || self.tracer.is_some()
    }
}

/// Options for output.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reporter options")]
pub(crate) struct ReporterArgs {
    /// Print a line for these tests when they finish.
    #[arg(long, value_name = "LEVEL", env = "HARNESS_STATUS_LEVEL",
        value_parser = one_of::<StatusLevel>(["none", "fail", "retry", "slow", "leak", "pass", "skip", "all"]))]
    pub(super) status_level: Option<StatusLevel>,
    /// Print a line for these tests at the end.
    #[arg(long, value_name = "LEVEL", env = "HARNESS_FINAL_STATUS_LEVEL",
        value_parser = one_of::<FinalStatusLevel>(["none", "fail", "flaky", "retry", "slow", "skip", "leak", "pass", "all"]))]
    pub(super) final_status_level: Option<FinalStatusLevel>,
    /// Set the time to show the output of failed tests.
    #[arg(long, value_name = "WHEN", env = "HARNESS_FAILURE_OUTPUT")]
    pub(super) failure_output: Option<OutputArg>,
    /// Set the time to show the output of passed tests.
    #[arg(long, value_name = "WHEN", env = "HARNESS_SUCCESS_OUTPUT")]
    pub(super) success_output: Option<OutputArg>,
    /// Show progress in this form.
    #[arg(long, value_name = "HOW", env = "HARNESS_SHOW_PROGRESS")]
    pub(super) show_progress: Option<ShowProgressArg>,
    /// The same as `--show-progress counter`.
    #[arg(
        long,
        conflicts_with = "show_progress",
        env = "HARNESS_HIDE_PROGRESS_BAR",
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    pub(super) hide_progress_bar: bool,
    /// Name at most this many running tests in the progress bar, or `infinite`; 8 by default.
    #[arg(long, value_name = "N", env = "HARNESS_MAX_PROGRESS_RUNNING", value_parser = running)]
    pub(super) max_progress_running: Option<usize>,
    /// Do not listen to keys: Enter for the progress, `t` for what is running.
    #[arg(
        long,
        env = "HARNESS_NO_INPUT_HANDLER",
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    pub(super) no_input_handler: bool,
    /// Do not indent captured output.
    #[arg(
        long,
        env = "HARNESS_NO_OUTPUT_INDENT",
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    pub(super) no_output_indent: bool,
    /// Name the N slowest tests at the end, with what they used.
    #[arg(long, visible_alias = "slowest", value_name = "N")]
    pub(super) durations: Option<usize>,
    /// Name those at the end that used the most of this.
    #[arg(long, value_name = "USE", env = "HARNESS_DURATIONS_BY",
        value_parser = one_of::<DurationsBy>(["time", "cpu", "memory", "io", "processes"]))]
    pub(super) durations_by: Option<DurationsBy>,
    /// Write a JUnit report to this file.
    #[arg(long, value_name = "PATH")]
    pub(super) junit: Option<camino::Utf8PathBuf>,
    /// Write an HTML report to this file: one page, without a network.
    #[arg(long, value_name = "PATH")]
    pub(super) html: Option<camino::Utf8PathBuf>,
    /// Write a report in the Common Test Report Format (JSON) to this file.
    #[arg(long, value_name = "PATH")]
    pub(super) ctrf: Option<camino::Utf8PathBuf>,
    /// Write results for Allure to this folder, a file for each attempt.
    #[arg(long, value_name = "DIR")]
    pub(super) allure: Option<camino::Utf8PathBuf>,
    #[command(flatten)]
    pub(super) open: OpenArgs,
    /// Annotate the lines of failed tests for the service that runs this, and write its summary.
    #[arg(
        long,
        value_name = "SERVICE",
        env = "HARNESS_ANNOTATIONS",
        default_value = "auto",
        hide_default_value = true
    )]
    pub(super) annotations: AnnotationsArg,
    /// Make places in the source links, for terminals that open them.
    #[arg(long, value_name = "WHEN", env = "HARNESS_HYPERLINKS")]
    pub(super) hyperlinks: Option<HyperlinksArg>,
    /// The address of a link, such as `vscode://file{path}:{line}`; `{host}` is this machine.
    #[arg(long, value_name = "FORMAT", env = "HARNESS_HYPERLINK_FORMAT")]
    pub(super) hyperlink_format: Option<String>,
    /// Write messages to standard output for programs that read those of libtest or of cargo-nextest.
    #[arg(
        long,
        value_name = "FORMAT",
        env = "HARNESS_MESSAGE_FORMAT",
        default_value = "human",
        hide_default_value = true
    )]
    pub(super) message_format: RunFormat,
    /// Give messages in this version of their format: `0.1`, the only one.
    #[arg(long, value_name = "VERSION", env = "HARNESS_MESSAGE_FORMAT_VERSION",
        value_parser = message_version)]
    pub(super) message_format_version: Option<String>,
    /// Write the events of the run to this place, one JSON object a line: a file, `-` for standard output,
    /// `fd:N` for a descriptor, `unix:PATH` for a socket.
    #[arg(long, value_name = "PATH")]
    pub(super) events: Option<camino::Utf8PathBuf>,
}

impl RunnerArgs {
    /// Returns whether a flag says after how many failures the run ends.
    pub(super) fn says_when_to_stop(&self) -> bool {
        self.fail_fast || self.no_fail_fast || self.max_fail.is_some()
    }

    /// Returns the iterations of a stress run.
    pub(super) fn stress(&self) -> Option<Stress> {
        let until = self.stress_count.or(self.stress_duration)?;
        let mode = match self.stress_parallel {
            true => StressMode::Parallel,
            false => StressMode::Serial,
        };
        Some(Stress { until, mode })
    }
}

/// Parses a number of iterations.
fn stress_count(text: &str) -> Result<Until, String> {
    match text {
        "infinite" => Ok(Until::Ended),
        _ => text
            .parse()
            .map(Until::Count)
            .map_err(|_| "must be an integer from 1 or `infinite`".to_owned()),
    }
}

/// Parses the time for iterations.
fn stress_duration(text: &str) -> Result<Until, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time.is_zero() => Err("must be longer than zero".to_owned()),
        Ok(time) => Ok(Until::Time(time)),
        Err(error) => Err(error.to_string()),
    }
}

/// The behavior if no test is selected.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NoTests {
    /// Fail.
    Auto,
    /// Succeed silently.
    Pass,
    /// Succeed with a warning.
    Warn,
    /// Fail.
    #[value(alias = "error")]
    Fail,
}

/// Whether places in the source are links.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HyperlinksArg {
    /// If the terminal is known to open links, or cargo's `term.hyperlinks` says so.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl From<HyperlinksArg> for Hyperlinks {
    fn from(arg: HyperlinksArg) -> Self {
        match arg {
            HyperlinksArg::Auto => Self::Auto,
            HyperlinksArg::Always => Self::Always,
            HyperlinksArg::Never => Self::Never,
        }
    }
}

fn message_version(text: &str) -> Result<String, String> {
    match text {
        "0.1" => Ok(text.to_owned()),
        _ => Err("the messages have one version, `0.1`".to_owned()),
    }
}

/// The messages on standard output.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RunFormat {
    /// None: people read standard error.
    Human,
    /// Those of libtest.
    LibtestJson,
    /// Those of libtest at once, with the binary in those of suites.
    LibtestJsonPlus,
}

impl RunFormat {
    /// Returns the form of the messages; `None` for no messages.
    pub(super) fn form(self) -> Option<Form> {
        match self {
            Self::Human => None,
            Self::LibtestJson => Some(Form::Plain),
            Self::LibtestJsonPlus => Some(Form::Plus),
        }
    }
}

/// The form of progress.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShowProgressArg {
    /// A bar on a terminal, a counter elsewhere.
    Auto,
    /// Nothing.
    None,
    /// A bar with the running tests.
    #[value(alias = "running")]
    Bar,
    /// A counter beside each test.
    Counter,
    /// A bar, and no lines for tests that pass.
    Only,
}

impl From<ShowProgressArg> for ShowProgress {
    fn from(arg: ShowProgressArg) -> Self {
        match arg {
            ShowProgressArg::Auto => Self::Auto,
            ShowProgressArg::None => Self::None,
            ShowProgressArg::Bar => Self::Bar,
            ShowProgressArg::Counter => Self::Counter,
            ShowProgressArg::Only => Self::Only,
        }
    }
}

/// Parses a number of running tests.
fn running(text: &str) -> Result<usize, String> {
    match text {
        "infinite" => Ok(usize::MAX),
        _ => text
            .parse()
            .map_err(|_| "must be an integer from 0 or `infinite`".to_owned()),
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputArg {
    /// When the test finishes.
    Immediate,
    /// When the test finishes, and again at the end.
    ImmediateFinal,
    /// At the end.
    Final,
    /// Not at all.
    Never,
}

impl From<OutputArg> for OutputWhen {
    fn from(arg: OutputArg) -> Self {
        match arg {
            OutputArg::Immediate => Self::Immediate,
            OutputArg::ImmediateFinal => Self::ImmediateFinal,
            OutputArg::Final => Self::Final,
            OutputArg::Never => Self::Never,
        }
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TraceArg {
    /// Not at all.
    Off,
    /// The life of every descendant: fork, exec, signals, exit.
    Process,
    /// Also the files that are opened or changed, and the network.
    Io,
    /// Also every look-up: everything that a result can depend on.
    Full,
}

impl From<TraceArg> for TraceLevel {
    fn from(arg: TraceArg) -> Self {
        match arg {
            TraceArg::Off => Self::Off,
            TraceArg::Process => Self::Process,
            TraceArg::Io => Self::Io,
            TraceArg::Full => Self::Full,
        }
    }
}

/// Returns the level of tracing: as high as the calls need that are to fail, and `full` if nothing else is asked for.
fn level_for(injections: &[Injection], asked: Option<TraceLevel>) -> Option<TraceLevel> {
    let needed = injections.iter().map(Injection::level).max();
    match needed {
        None => asked,
        Some(needed) => Some(asked.map_or(TraceLevel::Full, |asked| asked.max(needed))),
    }
}

/// Adds what the options say to what beats the profile.
pub(super) fn overrides(runner: &RunnerArgs, reporter: &ReporterArgs) -> CliOverrides {
    let mut cli = CliOverrides::default();
    cli.run.test_threads = runner.test_threads;
    cli.run.order = match runner.shuffle {
        Some(_) => Some(Order::Shuffle),
        None => runner.order,
    };
    cli.run.doctests = runner.documentation.wanted();
    cli.test.retries = runner.retries.map(RetryPolicy::at_once);
    cli.test.flaky_result = runner.flaky_result;
    cli.run.max_fail = match (runner.fail_fast, runner.no_fail_fast) {
        (true, _) => Some(MaxFail::from_fail_fast(true)),
        (_, true) => Some(MaxFail::from_fail_fast(false)),
        _ => runner.max_fail,
    };
    let level = runner.trace.map(TraceLevel::from);
    cli.test.trace_level = level_for(&runner.inject, level);
    cli.test.trace_required = runner.trace_required.then_some(true);
    cli.test.success_output = reporter.success_output.map(OutputWhen::from);
    cli.test.failure_output = reporter.failure_output.map(OutputWhen::from);
    cli.run.status_level = reporter.status_level;
    cli.run.final_status_level = reporter.final_status_level;
    cli.run.durations = reporter.durations;
    cli.run.durations_by = reporter.durations_by;
    cli
}
