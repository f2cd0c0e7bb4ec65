//! `cargo harness archive`.

use super::{
    GlobalOptions,
    filter_options::check,
    prepared::{self, session_error},
    reuse_options::{ArchiveFormat, ReuseArgs},
};
use crate::{
    cargo_options::CargoArgs,
    command_error::{CommandError, Kind},
};
use camino::Utf8PathBuf;
use clap::Args;
use harness_metadata::{TestId, exit_code};
use harness_runner::{
    archive::{Creation, Format, Inputs},
    config::CliOverrides,
    filter::FilterOptions,
    report::{plural, size},
    session::{Archived, Options, Start, compressing_threads},
};

/// Build tests, and put them into an archive.
#[derive(Debug, Args)]
pub(super) struct ArchiveCommand {
    #[command(flatten)]
    cargo: CargoArgs,
    /// Write the archive to this file.
    #[arg(long, value_name = "PATH", help_heading = "Archive options")]
    archive_file: Utf8PathBuf,
    /// The form of the archive.
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "auto",
        help_heading = "Archive options"
    )]
    archive_format: ArchiveFormat,
    /// Compress with this level, from -7 (fast) to 22 (small); 0 is the default.
    #[arg(
        long,
        value_name = "LEVEL",
        default_value_t = 0,
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(-7..=22),
        help_heading = "Archive options"
    )]
    zstd_level: i32,
    /// Put the files of the workspace into it that the tests were seen to use in the last traced
    /// runs, so that it runs without a checkout.
    #[arg(long, help_heading = "Archive options")]
    with_inputs: bool,
    /// Archive binaries in this set. It cannot ask about tests.
    #[arg(
        long = "filterset",
        short = 'E',
        alias = "filter-expr",
        value_name = "EXPR",
        allow_hyphen_values = true,
        help_heading = "Filter options"
    )]
    filtersets: Vec<String>,
}

impl ArchiveCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        check(&self.filtersets)?;
        let format = Format::from(self.archive_format);
        (format.check(&self.archive_file))
            .map_err(|error| CommandError::new(Kind::Setup, error))?;
        let filter = FilterOptions {
            filtersets: self.filtersets,
            ..FilterOptions::default()
        };
        let options = prepared::options(
            global,
            self.cargo,
            &ReuseArgs::default(),
            filter,
            CliOverrides::default(),
        )?;
        let colors = global.stderr_colors();
        let mut notify = |notice| prepared::tell(&notice, colors);
        let inputs = match self.with_inputs {
            true => Some(inputs(&options, colors)?),
            false => None,
        };
        let start = Start::new(&options, &mut notify).map_err(session_error(colors))?;
        let creation = Creation {
            file: options.cwd.join(&self.archive_file),
            level: self.zstd_level,
            threads: compressing_threads(),
        };
        let archived = start
            .archive(&options, &creation, inputs.as_ref(), &mut notify)
            .map_err(session_error(colors))?;
        prepared::note(&told(&archived, &self.archive_file), colors);
        Ok(exit_code::OK)
    }
}

/// Builds and lists, and finds the inputs of the tests. Says of which tests nothing is known.
fn inputs(options: &Options, colors: bool) -> Result<Inputs, CommandError> {
    let failed = session_error(colors);
    let start = Start::new(options, &mut |_| ()).map_err(&failed)?;
    let session = start.prepare(options, &mut |_| ()).map_err(&failed)?;
    let inputs = session.inputs().map_err(&failed)?;
    prepared::note(
        &format!(
            "{} of the workspace, which {} used",
            plural(inputs.files.len(), "file", "files"),
            plural(inputs.traced, "traced test", "traced tests"),
        ),
        colors,
    );
    if let Some(text) = named(&inputs.untraced) {
        let text = format!(
            "no trace with files is kept of {text}: what they need may be missing from the archive; \
             `cargo harness run --trace io` makes traces"
        );
        prepared::warn(&text, colors);
    }
    if let Some(text) = named(&inputs.doubtful) {
        let text = format!("the trace may lack files of {text}");
        prepared::warn(&text, colors);
    }
    Ok(inputs)
}

/// Returns the number of tests, and the first of them by name.
fn named(tests: &[TestId]) -> Option<String> {
    const MOST: usize = 8;
    let names: Vec<String> = (tests.iter().take(MOST))
        .map(|test| format!("`{test}`"))
        .collect();
    let more = if tests.len() > MOST { ", …" } else { "" };
    let count = plural(tests.len(), "test", "tests");
    (!tests.is_empty()).then(|| format!("{count}: {}{more}", names.join(", ")))
}

fn told(archived: &Archived, file: &Utf8PathBuf) -> String {
    let Archived {
        binaries,
        filtered,
        created,
    } = archived;
    let plural = if *binaries == 1 { "y" } else { "ies" };
    let left_out = match filtered {
        0 => String::new(),
        filtered => format!(" ({filtered} are not in the filterset)"),
    };
    format!(
        "{binaries} test binar{plural}{left_out} in `{file}`: {} files, {} of {}",
        created.files,
        size(created.compressed),
        size(created.bytes)
    )
}
