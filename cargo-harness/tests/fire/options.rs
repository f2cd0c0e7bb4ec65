//! The command line: that of any test binary, and what is ours.

use clap::Parser;

/// Storms over runs of tests.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// The storms whose names contain one of these; all without any.
    names: Vec<String>,
    /// As often as it takes to be sure, which takes an hour.
    #[arg(long)]
    pub(crate) full: bool,
    /// Repeat what was random.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// List the storms.
    #[arg(long)]
    pub(crate) list: bool,
    /// None of them is ignored.
    #[arg(long)]
    pub(crate) ignored: bool,
    /// Names are whole names.
    #[arg(long)]
    exact: bool,
    /// Leave out storms whose names contain this.
    #[arg(long)]
    skip: Vec<String>,
    /// Of libtest, without effect here.
    #[arg(long, visible_aliases = ["no-capture", "include-ignored", "quiet", "show-output"], short = 'q')]
    nocapture: bool,
    /// Of libtest, without effect here.
    #[arg(long, visible_aliases = ["format", "color"])]
    test_threads: Option<String>,
}

impl Options {
    pub(crate) fn of_command_line() -> Self {
        Self::parse()
    }

    /// Returns whether a storm is asked for.
    pub(crate) fn wants(&self, storm: &str) -> bool {
        let matches = |name: &String| match self.exact {
            true => name == storm,
            false => storm.contains(name.as_str()),
        };
        !self.ignored
            && (self.names.is_empty() || self.names.iter().any(matches))
            && !self.skip.iter().any(|skip| storm.contains(skip.as_str()))
    }
}
