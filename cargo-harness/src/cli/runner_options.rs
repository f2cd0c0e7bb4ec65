//! Options of `run`: execution and reports.

use clap::{
    Args, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use harness_metadata::{
    FinalStatusLevel, StatusLevel,
    event::{OutputWhen, TraceLevel},
};
use harness_runner::{
    config::{
        CliOverrides, ShowProgress,
        settings::{Doctests, FlakyResult, MaxFail, Order, RetryPolicy, TestThreads},
    },
    tracer::breakpoint::Breakpoint,
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
    #[arg(long)]
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
    /// Run documentation tests after the others, by `cargo test --doc`.
    #[arg(long, conflicts_with_all = ["no_run", "no_doc"])]
    pub(super) doc: bool,
    /// Do not mention documentation tests.
    #[arg(long)]
    pub(super) no_doc: bool,
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
    /// Name the N slowest tests at the end.
    #[arg(long, value_name = "N")]
    pub(super) durations: Option<usize>,
    /// Write a JUnit report to this file.
    #[arg(long, value_name = "PATH")]
    pub(super) junit: Option<camino::Utf8PathBuf>,
    /// Annotate the lines of failed tests for the service that runs this, and write its summary.
    #[arg(
        long,
        value_name = "SERVICE",
        env = "HARNESS_ANNOTATIONS",
        default_value = "auto",
        hide_default_value = true
    )]
    pub(super) annotations: Annotations,
    /// Write the events of the run to this file, one JSON object a line; `-` is standard output.
    #[arg(long, value_name = "PATH")]
    pub(super) events: Option<camino::Utf8PathBuf>,
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

/// The service whose annotations are written.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Annotations {
    /// GitHub if `GITHUB_ACTIONS` is `true`, none otherwise.
    Auto,
    /// GitHub Actions.
    Github,
    /// None.
    None,
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

/// Adds what the options say to what beats the profile.
pub(super) fn overrides(runner: &RunnerArgs, reporter: &ReporterArgs) -> CliOverrides {
    let mut cli = CliOverrides::default();
    cli.run.test_threads = runner.test_threads;
    cli.run.order = match runner.shuffle {
        Some(_) => Some(Order::Shuffle),
        None => runner.order,
    };
    cli.run.doctests = match (runner.doc, runner.no_doc) {
        (true, _) => Some(Doctests::Run),
        (_, true) => Some(Doctests::Skip),
        _ => None,
    };
    cli.test.retries = runner.retries.map(RetryPolicy::at_once);
    cli.test.flaky_result = runner.flaky_result;
    cli.run.max_fail = match (runner.fail_fast, runner.no_fail_fast) {
        (true, _) => Some(MaxFail::from_fail_fast(true)),
        (_, true) => Some(MaxFail::from_fail_fast(false)),
        _ => runner.max_fail,
    };
    cli.test.trace_level = runner.trace.map(TraceLevel::from);
    cli.test.trace_required = runner.trace_required.then_some(true);
    cli.test.success_output = reporter.success_output.map(OutputWhen::from);
    cli.test.failure_output = reporter.failure_output.map(OutputWhen::from);
    cli.run.status_level = reporter.status_level;
    cli.run.final_status_level = reporter.final_status_level;
    cli.run.durations = reporter.durations;
    cli
}
