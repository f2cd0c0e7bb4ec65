//! `--touching`: leaves out the tests that are known not to use a file.

use super::{
    GlobalOptions,
    kept::locate_error,
    prepared,
    recordings::find_error,
    who::{doubts, question_error, unseen_lookups},
};
use crate::command_error::CommandError;
use harness_runner::{
    answers::{
        self, Answer,
        question::{Files, Question},
        rules::Roots,
    },
    cargo::locate_target,
    report::plural,
    session::Options,
    store::FindError,
};
use std::sync::Arc;

/// Bounds the selection by the tests that may use these files, and says so.
pub(super) fn select(
    options: &mut Options,
    paths: &[String],
    global: &GlobalOptions,
) -> Result<(), CommandError> {
    let colors = global.stderr_colors();
    let located = locate_target(&options.cargo, &options.cwd).map_err(locate_error)?;
    let store = options.store_of(&located.root, &located.target);
    let store = store.map_err(prepared::session_error(colors))?;
    let roots = Roots::new(&located.root, &located.target);
    let files = paths
        .iter()
        .map(|path| Files::new(path, &options.cwd, &roots));
    let files = files.collect::<Result<Vec<_>, _>>();
    let question = Question::Touches(files.map_err(question_error)?);
    let answer = answers::answer(&store, &roots, &question, false);
    let answer = match answer {
        // Nothing is known, so all tests run.
        Err(error @ (FindError::NoRuns { .. } | FindError::OtherWorkspaces { .. })) => {
            prepared::note(&format!("{error}, so all tests are selected"), colors);
            return Ok(());
        }
        answer => answer.map_err(find_error)?,
    };
    prepared::note(&says(&answer), colors);
    for text in doubts(&answer.unknown, global.verbose) {
        prepared::note(&text, colors);
    }
    if let Some(text) = unseen_lookups(&answer, &question) {
        prepared::note(&text, colors);
    }
    options.filter.without = Some(Arc::new(answer.known_not_to()));
    Ok(())
}

fn says(answer: &Answer) -> String {
    format!(
        "{} touched it when traced last, {} may, {} did not and are left out; tests that have not run \
         yet are selected",
        plural(answer.hits.len(), "test", "tests"),
        answer.unknown.len(),
        answer.others.len(),
    )
}
