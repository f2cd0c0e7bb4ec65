//! The command line: argv to options.

mod archive;
mod audit;
mod before;
mod below;
mod bench;
mod cached;
mod changed;
mod compare;
mod completions;
mod conditions;
mod conflicts;
mod differences;
mod doc_options;
mod doctests;
mod events;
mod explain;
mod filter_options;
mod flaky;
mod help;
mod hermetic;
mod history;
mod injecting;
mod inputs;
mod kept;
mod list;
mod man;
mod measuring;
mod merge;
mod migrate;
mod open;
mod open_options;
mod pager;
mod peer;
mod plan;
mod policy;
mod prepared;
mod print;
mod recordings;
mod regressions;
mod remote_options;
mod replay;
mod report;
mod reuse_options;
mod run;
mod runner_options;
mod runs;
mod series;
mod service;
mod shake;
mod show_config;
mod simulate;
mod store;
mod surroundings;
mod touching;
mod trace;
mod trials;
mod useless;
mod variables;
mod watch;
mod who;

use crate::command_error::CommandError;
use camino::Utf8PathBuf;
use clap::{
    Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
    builder::styling::{AnsiColor, Styles},
};
use harness_runner::{
    config::{ConfigWarning, Sources, ToolFile, UserSettings, UserSource},
    store::Wish,
};
use owo_colors::Stream;
pub(crate) use peer::{Called, Foreign};
use std::ffi::OsString;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Runs the tests of a Cargo workspace, one traced process per test.
#[derive(Debug, Parser)]
#[command(
    name = "cargo-harness",
    bin_name = "cargo harness",
    version,
    styles = STYLES,
    disable_help_subcommand = true
)]
pub(crate) struct App {
    #[command(flatten)]
    global: GlobalOptions,
    #[command(subcommand)]
    command: Command,
}

/// Options of every subcommand.
#[derive(Debug, Args)]
pub(crate) struct GlobalOptions {
    /// Control colors in the output.
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        default_value = "auto",
        env = "CARGO_TERM_COLOR",
        global = true
    )]
    color: Color,
    /// Print more: skipped tests, the command of each test.
    #[arg(long, short, env = "HARNESS_VERBOSE", value_parser = clap::builder::FalseyValueParser::new(), global = true)]
    verbose: bool,
    /// Read this file instead of `.config/harness.toml`.
    #[arg(
        long,
        value_name = "PATH",
        global = true,
        help_heading = "Config options"
    )]
    config_file: Option<Utf8PathBuf>,
    /// Read settings of this tool from this file too; those of the workspace win, then those of
    /// earlier files.
    #[arg(
        long,
        value_name = "TOOL:ABS_PATH",
        global = true,
        help_heading = "Config options"
    )]
    tool_config_file: Vec<ToolFile>,
    /// Read the settings of a person from this file; `none` for from nowhere.
    #[arg(
        long,
        value_name = "PATH|none",
        env = "HARNESS_USER_CONFIG_FILE",
        global = true,
        help_heading = "Config options"
    )]
    user_config_file: Option<Utf8PathBuf>,
    /// Keep recorded runs in this folder, relative to the workspace root, and look for them there.
    #[arg(
        long,
        value_name = "DIR",
        env = "HARNESS_RUNS_DIR",
        global = true,
        help_heading = "Config options"
    )]
    runs_dir: Option<Utf8PathBuf>,
    /// Do not use a pager.
    #[arg(long, global = true)]
    no_pager: bool,
    /// Go on if the workspace requires a newer version.
    #[arg(long, global = true, help_heading = "Config options")]
    override_version_check: bool,
    /// The profile to use.
    #[arg(
        long,
        short = 'P',
        value_name = "NAME",
        env = "HARNESS_PROFILE",
        global = true,
        help_heading = "Config options"
    )]
    profile: Option<String>,
}

/// The choice of colors.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    fn on(self, stream: Stream) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => surroundings::colors(stream),
        }
    }
}

impl From<Color> for harness_runner::cargo::Color {
    fn from(color: Color) -> Self {
        match color {
            Color::Auto => Self::Auto,
            Color::Always => Self::Always,
            Color::Never => Self::Never,
        }
    }
}

impl GlobalOptions {
    /// Reads the settings of a person, and tells what of them has no effect.
    fn user_settings(&self) -> Result<UserSettings, CommandError> {
        let (settings, warnings) = self.load_user_settings()?;
        for warning in warnings {
            prepared::warn(&warning.to_string(), self.stderr_colors());
        }
        Ok(settings)
    }

    fn load_user_settings(&self) -> Result<(UserSettings, Vec<ConfigWarning>), CommandError> {
        let source = match &self.user_config_file {
            None => UserSource::Folder,
            Some(none) if none == "none" => UserSource::Nowhere,
            Some(file) => UserSource::File(file.clone()),
        };
        let variable = |name: &str| std::env::var_os(name);
        UserSettings::load(&source, &variable)
            .map_err(|error| prepared::config_error(error, self.stderr_colors()))
    }

    /// Returns the folders that are asked for, for the store of the runs.
    fn store(&self) -> Result<Wish, CommandError> {
        let (settings, _) = self.load_user_settings()?;
        Ok(Wish {
            person: settings.runs_dir,
            ..self.store_given()
        })
    }

    /// Returns the folder that the command line asks for.
    fn store_given(&self) -> Wish {
        let given = self.runs_dir.clone();
        Wish {
            given: given.filter(|folder| folder != ""),
            person: None,
            is_apart: false,
        }
    }

    fn sources(&self) -> Sources {
        Sources {
            config_file: self.config_file.clone(),
            tool_files: self.tool_config_file.clone(),
            override_version_check: self.override_version_check,
        }
    }

    fn stderr_colors(&self) -> bool {
        self.color.on(Stream::Stderr)
    }

    fn stdout_colors(&self) -> bool {
        self.color.on(Stream::Stdout)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build and run tests.
    #[command(visible_alias = "r")]
    Run(Box<run::RunCommand>),
    /// Build and run benchmarks.
    #[command(visible_alias = "b")]
    Bench(Box<bench::BenchCommand>),
    /// Run tests again when files change that they can depend on.
    Watch(Box<watch::WatchCommand>),
    /// Build and list tests.
    List(Box<list::ListCommand>),
    /// Build, and say for each test whether it would run, or need not because nothing has changed since it passed.
    Plan(Box<plan::PlanCommand>),
    /// Build, and say why a test would run.
    Why(Box<plan::WhyCommand>),
    /// Build, and list the functions that differ from an earlier build, with the tests that enter them.
    Changed(Box<differences::ChangedCommand>),
    /// Build, and list the files that tests need of this machine to run elsewhere.
    Inputs(Box<inputs::InputsCommand>),
    /// Build tests, and put them into an archive.
    Archive(Box<archive::ArchiveCommand>),
    /// Show the processes, files and connections of a test.
    Trace(Box<trace::TraceCommand>),
    /// Explain a failure: what was answered differently when the test passed, and which other test changed it.
    Explain(explain::Explain),
    /// Rank what tests depend on that is not theirs: credentials, the home folder, the network, the source tree.
    Hermetic(hermetic::Hermetic),
    /// Write a policy that allows what traces show, or check traces against the policies of the tests.
    Policy(policy::PolicyCommand),
    /// Run a test many times, as usual and under other conditions, and tell which of them make it fail.
    Shake(shake::Shake),
    /// Run tests as usual and under other conditions, and tell what they do otherwise: files, addresses, programs,
    /// order.
    Audit(audit::Audit),
    /// Go through the history of the repository, and say for each commit which tests would have been selected, and
    /// which of those that would not have had another result.
    Simulate(simulate::SimulateCommand),
    /// List the tests that read a file or folder, or ask for it.
    WhoReads(who::WhoReads),
    /// List the tests that write, create, rename or remove a file or folder.
    WhoWrites(who::WhoWrites),
    /// List the tests that connect to an address.
    WhoConnects(who::WhoConnects),
    /// List the tests that run a program.
    WhoRuns(who::WhoRuns),
    /// List the pairs of tests that use one file, folder, port or socket, and at least one changes it.
    Conflicts(conflicts::ConflictsCommand),
    /// List the recorded runs, for `trace --run`.
    Runs(runs::RunsCommand),
    /// Print what a recorded run printed.
    Replay(replay::ReplayCommand),
    /// Write reports of a recorded run: JUnit, events, a timeline.
    Report(report::ReportCommand),
    /// Show how a test ended in the recorded runs, and how long it took.
    History(history::HistoryCommand),
    /// Rank the tests that passed and failed in the recorded runs.
    Flaky(flaky::FlakyCommand),
    /// Find the numbers of tests that are worse or better in the latest runs than before.
    Regressions(regressions::RegressionsCommand),
    /// Compare two recorded runs.
    Compare(compare::CompareCommand),
    /// List, show and delete recorded runs.
    Store(store::StoreCommand),
    /// Merge the JUnit reports and the events of several parts of a run.
    Merge(merge::MergeCommand),
    /// Show the settings in force, with the origin of each.
    ShowConfig(show_config::ShowConfigCommand),
    /// Write `.config/harness.toml` from cargo-nextest's file, and find where cargo-nextest is
    /// called.
    Migrate(migrate::MigrateCommand),
    /// Print a script that completes the command line in a shell.
    Completions(completions::CompletionsCommand),
    /// Print a manual page, or write all of them to a folder.
    Man(man::ManCommand),
    /// Print the help of a subcommand, or a page about a topic.
    Help(help::HelpCommand),
}

/// Returns the command line as completions and manual pages show it, under this name.
fn documented(name: &'static str) -> clap::Command {
    fn without_help(command: clap::Command) -> clap::Command {
        // `help` names the subcommands below one too.
        command
            .disable_help_subcommand(true)
            .mut_subcommands(without_help)
    }
    without_help(App::command().bin_name(name))
}

/// Looks for what another program has on its command line and this one has not.
pub(crate) fn peer(args: &[OsString]) -> Option<Foreign> {
    let app = App::command();
    let known = |subcommand: Option<&str>, name: &str| match name.strip_prefix("--") {
        None => app.find_subcommand(name).is_some(),
        Some(flag) => {
            let chosen = subcommand.and_then(|name| app.find_subcommand(name));
            let flags = chosen.into_iter().flat_map(clap::Command::get_arguments);
            let mut flags = flags.chain(app.get_arguments());
            flags.any(|arg| arg.get_long() == Some(flag))
        }
    };
    peer::foreign(args, &known)
}

/// Parses the command line. Exits with a message if it makes no sense.
pub(crate) fn parse(args: Vec<OsString>, called: Called) -> App {
    let command = variables::shared(App::command());
    let command = match called {
        Called::Harness => command,
        Called::Peer => command
            .name("cargo-nextest")
            .bin_name("cargo nextest")
            .version(peer::VERSION)
            .long_version(peer::LONG_VERSION),
    };
    let matches =
        variables::parse(&command, &args).unwrap_or_else(|error| pager::exit_with(&error, &args));
    App::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

impl App {
    /// Whether standard error has colors.
    pub(crate) fn colors(&self) -> bool {
        self.global.stderr_colors()
    }

    /// Does what the command line says. Returns the exit code.
    pub(crate) fn run(self) -> Result<i32, CommandError> {
        match self.command {
            Command::Run(command) => command.run(&self.global),
            Command::Bench(command) => command.run(&self.global),
            Command::Watch(command) => command.run(&self.global),
            Command::List(command) => command.run(&self.global),
            Command::Plan(command) => command.run(&self.global),
            Command::Why(command) => command.run(&self.global),
            Command::Changed(command) => command.run(&self.global),
            Command::Inputs(command) => command.run(&self.global),
            Command::Archive(command) => command.run(&self.global),
            Command::Trace(command) => command.run(&self.global),
            Command::Explain(command) => command.run(&self.global),
            Command::Hermetic(command) => command.run(&self.global),
            Command::Policy(command) => command.run(&self.global),
            Command::Audit(command) => command.run(&self.global),
            Command::Shake(command) => command.run(&self.global),
            Command::Simulate(command) => command.run(&self.global),
            Command::WhoReads(command) => command.run(&self.global),
            Command::WhoWrites(command) => command.run(&self.global),
            Command::WhoConnects(command) => command.run(&self.global),
            Command::WhoRuns(command) => command.run(&self.global),
            Command::Conflicts(command) => command.run(&self.global),
            Command::Runs(command) => command.run(&self.global),
            Command::Replay(command) => command.run(&self.global),
            Command::Report(command) => command.run(&self.global),
            Command::History(command) => command.run(&self.global),
            Command::Flaky(command) => command.run(&self.global),
            Command::Regressions(command) => command.run(&self.global),
            Command::Compare(command) => command.run(&self.global),
            Command::Store(command) => command.run(&self.global),
            Command::Merge(command) => command.run(&self.global),
            Command::ShowConfig(command) => command.run(&self.global),
            Command::Migrate(command) => command.run(&self.global),
            Command::Completions(command) => command.run(),
            Command::Man(command) => command.run(),
            Command::Help(command) => command.run(&self.global),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the program and all its subcommands, each with the name of its manual page.
    pub(super) fn subcommands() -> Vec<(String, clap::Command)> {
        fn add(name: &str, command: &clap::Command, to: &mut Vec<(String, clap::Command)>) {
            to.push((format!("{name}.1"), command.clone()));
            for below in command.get_subcommands() {
                add(&format!("{name}-{}", below.get_name()), below, to);
            }
        }
        let mut app = documented("cargo harness");
        app.build();
        let mut all = Vec::new();
        add("cargo-harness", &app, &mut all);
        all
    }

    #[test]
    fn the_command_line_is_consistent() {
        App::command().debug_assert();
    }

    #[test]
    fn the_flag_of_each_setting_is_a_flag_of_run() {
        let app = App::command();
        let run = app.find_subcommand("run").expect("`run` is a subcommand");
        let flags: Vec<&str> = run
            .get_arguments()
            .filter_map(clap::Arg::get_long)
            .collect();
        for setting in harness_runner::config::declared() {
            let flag = setting.flag.and_then(|flag| flag.strip_prefix("--"));
            assert!(
                flag.is_none_or(|flag| flags.contains(&flag)),
                "`{}` is set by `--{}`, which is no flag",
                setting.key,
                flag.unwrap_or_default()
            );
        }
    }
}
