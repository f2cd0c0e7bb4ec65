//! Documentation tests that are not listed: they run as a whole, after those of a run, or are not run.

use super::{doc_options::DocArgs, prepared};
use crate::command_error::{CommandError, Kind};
use harness_runner::{
    cargo::{CargoOptions, Doctests},
    config::RunSettings,
    config::settings::{Doctests as Wanted, MaxFail},
    report::plural,
    session::{Options, Session},
};

/// The policy for the documentation tests that belong to a run. They are looked for after it, since that
/// takes a read of all sources.
pub(super) struct Documentation {
    wanted: Wanted,
    fail_fast: bool,
}

impl Documentation {
    /// Returns the policy for those that `cargo test` would run with the same options; `None` for no word
    /// about them.
    pub(super) fn of(session: &Session, options: &Options, args: &DocArgs) -> Option<Self> {
        let settings: &RunSettings = session.profile.run_settings();
        let targets = options.cargo.selects_targets();
        let refused = session.doctests_refused();
        if settings.doctests == Wanted::Run && refused.is_none() && options.reuse.is_none() {
            // They are tests of the run.
            return None;
        }
        if !options.filter.mode.is_test() {
            return None;
        }
        // A few tests that were chosen are not the suite, and what was built elsewhere stays there.
        let whole = !targets && !options.filter.is_set() && options.reuse.is_none();
        let wanted = match settings.doctests {
            Wanted::Warn if !whole => Wanted::Skip,
            Wanted::Run if !whole && !args.doc => Wanted::Skip,
            wanted => wanted,
        };
        if wanted == Wanted::Skip {
            return None;
        }
        Some(Self {
            wanted,
            fail_fast: settings.max_fail != MaxFail::All,
        })
    }

    /// Runs them, or says that they were not run. `passed` tells of the tests of the run.
    pub(super) fn conclude(
        &self,
        session: &Session,
        options: &Options,
        passed: bool,
        colors: bool,
    ) -> Result<(), CommandError> {
        let binaries = session.built.binaries.iter();
        let packages = binaries.map(|binary| binary.package_id.as_str());
        let found = session.workspace.doctests(packages);
        if found.examples == 0 {
            return Ok(());
        }
        if self.wanted != Wanted::Run {
            prepared::warn(&not_run(&found, &options.cargo), colors);
            return Ok(());
        }
        if !passed && self.fail_fast {
            let text = format!("{}, because tests failed", not_run(&found, &options.cargo));
            prepared::warn(&text, colors);
            return Ok(());
        }
        let ended = options.cargo.run_doctests(&options.cwd, self.fail_fast);
        let status = ended.map_err(|source| {
            let message = format!("failed to start `cargo test --doc`: {source}");
            CommandError::new(Kind::Build, message)
        })?;
        match status.success() {
            true => Ok(()),
            false => Err(CommandError::new(
                Kind::TestRun,
                format!("documentation tests failed (`cargo test --doc`: {status})"),
            )),
        }
    }
}

/// Compiles the documentation tests that are to run, or says why they have no entries.
pub(super) fn compile(session: &mut Session, colors: bool) -> Result<(), CommandError> {
    warn_of_refusal(session, colors);
    session
        .compile_doctests(&mut |notice| prepared::tell(&notice, colors))
        .map_err(prepared::session_error(colors))
}

/// Says why documentation tests have no entries, if they should.
pub(super) fn warn_of_refusal(session: &Session, colors: bool) {
    if let Some(error) = session.doctests_refused() {
        let text = format!(
            "documentation tests are not listed one by one, and a run of all tests runs them as a whole, by \
             `cargo test --doc`: {error}"
        );
        prepared::warn(&text, colors);
    }
}

fn not_run(found: &Doctests, cargo: &CargoOptions) -> String {
    let names: Vec<String> = (found.packages.iter())
        .map(|name| format!("`{name}`"))
        .collect();
    format!(
        "documentation tests were not run: about {} in {}; `{}` runs them, so does `--doc`, and \
         `doctests = \"skip\"` in the profile says that they are run elsewhere",
        plural(found.examples, "example", "examples"),
        names.join(", "),
        cargo.shown_doctest_command()
    )
}
