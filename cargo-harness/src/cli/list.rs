//! `cargo harness list`.

use super::{
    GlobalOptions,
    doc_options::DocArgs,
    doctests,
    filter_options::FilterArgs,
    pager::Output,
    prepared::{self, session_error},
    reuse_options::ReuseArgs,
};
use crate::{cargo_options::CargoArgs, command_error::CommandError};
use clap::{Args, ValueEnum};
use harness_metadata::{TestId, exit_code};
use harness_runner::{
    config::CliOverrides,
    list::{Format, Listing, ListingTest, Styles, write_binaries, write_tests},
    report::silent_binary,
    session::Start,
};
use nextest_metadata::FilterMatch;
use std::io::{self, IsTerminal};

/// Build and list tests.
#[derive(Debug, Args)]
pub(super) struct ListCommand {
    #[command(flatten)]
    cargo: CargoArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    reuse: ReuseArgs,
    /// The form of the list.
    #[arg(
        long,
        short = 'T',
        value_enum,
        value_name = "FORMAT",
        default_value = "auto",
        help_heading = "Output options"
    )]
    message_format: MessageFormat,
    /// List tests or binaries.
    #[arg(
        long,
        value_enum,
        value_name = "TYPE",
        default_value = "full",
        help_heading = "Output options"
    )]
    list_type: ListType,
    #[command(flatten)]
    documentation: DocArgs,
}

/// The form of a list.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
enum MessageFormat {
    /// `human` on a terminal, `oneline` elsewhere.
    Auto,
    /// Binaries as headings over their tests.
    Human,
    /// A test a line.
    Oneline,
    /// JSON in one line.
    Json,
    /// Pretty-printed JSON.
    JsonPretty,
}

/// The contents of the list.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
enum ListType {
    /// Tests.
    Full,
    /// Binaries. They are not executed.
    BinariesOnly,
}

impl ListCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let filters = self.filter.interpret(false)?;
        let mut overrides = CliOverrides::default();
        overrides.run.doctests = self.documentation.wanted();
        let mut options =
            prepared::options(global, self.cargo, &self.reuse, filters.options, overrides)?;
        options.documentation = true;
        self.documentation.check(&options.cargo)?;
        let colors = global.stderr_colors();
        filters.before.apply(&mut options, global)?;
        let mut notify = |notice| prepared::tell(&notice, colors);
        let format = self.message_format.resolve(global.verbose);
        let styles = match global.stdout_colors() {
            true => Styles::colored(),
            false => Styles::default(),
        };
        let start = Start::new(&options, &mut notify).map_err(session_error(colors))?;
        let output = || Output::new(global, matches!(format, Format::Human { .. }));
        // Cargo's own messages may go to standard output, before the list.
        let (out, written) = match self.list_type {
            ListType::BinariesOnly => {
                let (_, built) = start.build(&options).map_err(session_error(colors))?;
                let mut out = output()?;
                let written = write_binaries(&built, format, &styles, &mut out);
                (out, written)
            }
            ListType::Full => {
                let session = start
                    .prepare(&options, &mut notify)
                    .map_err(session_error(colors))?;
                doctests::warn_of_refusal(&session, colors);
                for binary in session.tests.silent() {
                    prepared::warn(&silent_binary(&binary.id), colors);
                }
                let matches = session.filter_matches();
                let filter = |test: &ListingTest<'_>| {
                    let binary = test.query.binary_query.binary_id.clone();
                    let id = TestId {
                        binary,
                        name: test.query.test_name.clone(),
                    };
                    matches.get(&id).copied().unwrap_or(FilterMatch::Matches)
                };
                let (tests, meta) = (&session.tests, &session.built.meta);
                let listing = Listing {
                    tests,
                    meta,
                    filter: &filter,
                };
                let mut out = output()?;
                let written = write_tests(&listing, format, &styles, &mut out);
                (out, written)
            }
        };
        out.finish(written, "the list").map(|()| exit_code::OK)
    }
}

impl MessageFormat {
    fn resolve(self, verbose: bool) -> Format {
        let terminal = io::stdout().is_terminal();
        match self {
            Self::Auto if terminal => Format::Human { verbose },
            Self::Auto | Self::Oneline => Format::Oneline { verbose, terminal },
            Self::Human => Format::Human { verbose },
            Self::Json => Format::Json,
            Self::JsonPretty => Format::JsonPretty,
        }
    }
}
