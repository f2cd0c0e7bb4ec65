//! The part of earlier runs and states in a selection: reruns, tests that failed last, and changes.

use super::{
    GlobalOptions, changed, filter_options::Before, kept::locate_error, prepared, touching,
};
use crate::command_error::{CommandError, Kind};
use harness_metadata::exit_code;
use harness_runner::{
    cargo::locate_target,
    filter::TestSet,
    report::plural,
    session::{Options, Scope},
    store::{self, FindError, Standing, WhichRun},
};
use std::sync::Arc;

/// Outstanding tests that a message names.
const NAMED: usize = 20;

impl Before {
    /// Looks at the runs that are kept, and adds what they say to the options.
    pub(super) fn apply(
        &self,
        options: &mut Options,
        global: &GlobalOptions,
    ) -> Result<(), CommandError> {
        let colors = global.stderr_colors();
        if let Some(since) = &self.changed {
            changed::select(options, since, global.verbose, colors)?;
        }
        if !self.touching.is_empty() {
            touching::select(options, &self.touching, global)?;
        }
        if self.rerun.is_none() && !self.last_failed && !self.failed_first {
            return Ok(());
        }
        let located = locate_target(&options.cargo, &options.cwd).map_err(locate_error)?;
        let root = &located.root;
        let store = options.store_of(root, &located.target);
        let store = &store.map_err(prepared::session_error(colors))?;
        if let Some(run) = &self.rerun {
            let standing = Standing::of(store, root, &WhichRun::named(run));
            let standing = standing.map_err(|error| find_error(error, Some(run)))?;
            let text = says(&standing);
            let scope = options.continue_chain(standing);
            prepared::note(&format!("{text}; {}", says_scope(scope.as_ref())), colors);
        }
        if self.last_failed {
            let failed = store::last_failed(store, root).map_err(|it| find_error(it, None))?;
            options.filter.among = Some(Arc::new(failed));
        }
        if self.failed_first {
            // Where nothing is known, nothing comes first.
            match store::last_failed(store, root) {
                Ok(failed) => options.first = Some(Arc::new(failed)),
                Err(FindError::NoRuns { .. } | FindError::OtherWorkspaces { .. }) => {}
                Err(error) => return Err(find_error(error, None)),
            }
        }
        Ok(())
    }
}

fn says(standing: &Standing) -> String {
    let id = standing.run.to_string();
    let outstanding = plural(standing.outstanding.len(), "test", "tests");
    let passed = standing.passed.len();
    format!(
        "rerun of {}: {outstanding} outstanding, {passed} passed",
        id.get(..8).unwrap_or(&id)
    )
}

fn says_scope(scope: Option<&Scope>) -> String {
    match scope.map(|scope| scope.cargo.scope_flags()) {
        None => "the build has the scope of this command".to_owned(),
        Some(flags) if flags.is_empty() => "the build has the scope of that run".to_owned(),
        Some(flags) => format!("the build has the scope of that run: {flags}"),
    }
}

fn find_error(error: FindError, run: Option<&str>) -> CommandError {
    let hint = match (&error, run) {
        (FindError::NoRuns { .. } | FindError::OtherWorkspaces { .. }, _) => {
            "`cargo harness run` keeps one".to_owned()
        }
        (FindError::NoSuchRun { .. }, Some(run)) => format!(
            "`cargo harness runs` lists what is kept; if `{run}` is part of a test's name, write \
             `--rerun latest {run}`"
        ),
        _ => "`cargo harness runs` lists what is kept".to_owned(),
    };
    CommandError::new(Kind::Setup, error).with_hint(hint)
}

/// Returns the end of a run, which for a rerun without failures is what it has left to do.
pub(super) fn concluded(
    run: Result<i32, CommandError>,
    left: Option<&TestSet>,
    colors: bool,
) -> Result<i32, CommandError> {
    match (run, left) {
        (Ok(_), Some(left)) => conclude(left, colors),
        (run, _) => run,
    }
}

/// Says what a rerun without failures has left to do. Returns the exit code.
fn conclude(left: &TestSet, colors: bool) -> Result<i32, CommandError> {
    if left.is_empty() {
        prepared::note("no outstanding tests remain", colors);
        return Ok(exit_code::OK);
    }
    let message = match left.len() {
        1 => "1 outstanding test remains, which was not selected".to_owned(),
        many => format!("{many} outstanding tests remain, which were not selected"),
    };
    Err(CommandError::new(Kind::Outstanding, message)
        .with_detail(names(left))
        .with_hint("`cargo harness run --rerun` goes on with them"))
}

fn names(tests: &TestSet) -> String {
    let named = tests.iter().take(NAMED).map(|test| format!("  {test}"));
    let mut lines: Vec<String> = named.collect();
    if tests.len() > NAMED {
        lines.push(format!("  … and {} more", tests.len() - NAMED));
    }
    lines.join("\n")
}
