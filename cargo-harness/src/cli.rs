//! The command line: argv to options.

mod archive;
mod before;
mod below;
mod changed;
mod completions;
mod doctests;
mod filter_options;
mod list;
mod man;
mod merge;
mod migrate;
mod peer;
mod prepared;
mod print;
mod reuse_options;
mod run;
mod runner_options;
mod runs;
mod show_config;
mod surroundings;
mod trace;
mod useless;
mod variables;

use crate::command_error::CommandError;
use camino::Utf8PathBuf;
use clap::{
    Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
    builder::styling::{AnsiColor, Styles},
};
use harness_runner::config::{Sources, ToolFile, UserSettings, UserSource};
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
#[command(name = "cargo-harness", bin_name = "cargo harness", version, styles = STYLES)]
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
    /// No effect: there is no pager. Accepted because cargo-nextest has it.
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
        let source = match &self.user_config_file {
            None => UserSource::Folder,
            Some(none) if none == "none" => UserSource::Nowhere,
            Some(file) => UserSource::File(file.clone()),
        };
        let variable = |name: &str| std::env::var_os(name);
        let (settings, warnings) =
            UserSettings::load(&source, &variable).map_err(prepared::config_error)?;
        for warning in warnings {
            prepared::warn(&warning.to_string(), self.stderr_colors());
        }
        Ok(settings)
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
    /// Build and list tests.
    List(Box<list::ListCommand>),
    /// Build tests, and put them into an archive.
    Archive(Box<archive::ArchiveCommand>),
    /// Show the processes, files and connections of a test.
    Trace(Box<trace::TraceCommand>),
    /// List the recorded runs, for `trace --run`.
    Runs(runs::RunsCommand),
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
}

/// Returns the command line as completions and manual pages show it, under this name.
fn documented(name: &'static str) -> clap::Command {
    fn without_help(command: clap::Command) -> clap::Command {
        // `help` as a subcommand is answered with the flag (see `peer`).
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
    let matches = variables::parse(&command, &args).unwrap_or_else(|error| error.exit());
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
            Command::List(command) => command.run(&self.global),
            Command::Archive(command) => command.run(&self.global),
            Command::Trace(command) => command.run(&self.global),
            Command::Runs(command) => command.run(&self.global),
            Command::Merge(command) => command.run(&self.global),
            Command::ShowConfig(command) => command.run(&self.global),
            Command::Migrate(command) => command.run(&self.global),
            Command::Completions(command) => command.run(),
            Command::Man(command) => command.run(),
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
