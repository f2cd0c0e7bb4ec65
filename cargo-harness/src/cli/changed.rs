//! Says which packages a selection by change has, and why.

use super::prepared;
use crate::command_error::{CommandError, Kind};
use harness_runner::{
    changes::{Affected, GitError, Since, Why},
    report::plural,
    session::{Changed, ChangedError, Options},
};
use std::path::Path;

/// Bounds the selection by what has changed, and says so.
pub(super) fn select(
    options: &mut Options,
    since: &Since,
    verbose: bool,
    colors: bool,
) -> Result<(), CommandError> {
    let changed = options.select_changed(since).map_err(error)?;
    prepared::note(&says(&changed), colors);
    if verbose {
        for line in each(&changed) {
            prepared::note(&line, colors);
        }
    }
    Ok(())
}

fn error(error: ChangedError) -> CommandError {
    match error {
        ChangedError::Git(error) => git_error(error),
        ChangedError::Locate(_) | ChangedError::Metadata(_) => {
            CommandError::new(Kind::Metadata, error)
        }
    }
}

/// Returns an error of git with its exit code and its hint.
pub(super) fn git_error(error: GitError) -> CommandError {
    let hint = error.hint();
    let error = CommandError::new(kind(&error), error);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

fn kind(error: &GitError) -> Kind {
    match error {
        GitError::Failed { .. } | GitError::Start(_) => Kind::Internal,
        _ => Kind::Setup,
    }
}

/// Says in one line what is selected.
fn says(changed: &Changed) -> String {
    let Changed {
        root,
        tree,
        affected,
    } = changed;
    let base = tree.base.get(..8).unwrap_or(&tree.base);
    let since = format!("since {base}, where this left `{}`", tree.name);
    let all = affected.packages.len();
    if let Some((path, why)) = &affected.all {
        let path = shown(path, root.as_std_path());
        return format!(
            "`{path}` has changed {since}; {why}, so all {} are selected",
            plural(all, "package", "packages")
        );
    }
    let files = plural(affected.files, "file has", "files have");
    match affected.selected().len() {
        0 if affected.files == 0 => format!("nothing has changed {since}; no package is selected"),
        0 => {
            format!("{files} changed {since}, which no test can depend on; no package is selected")
        }
        selected => format!(
            "{files} changed {since}, in {}; with what depends on them {selected} of {} are selected",
            plural(affected.changed(), "package", "packages"),
            plural(all, "package", "packages"),
        ),
    }
}

/// Says for each package whether it is selected and why.
fn each(changed: &Changed) -> Vec<String> {
    let Affected { packages, .. } = &changed.affected;
    let mut lines: Vec<String> = packages
        .values()
        .map(|(name, why)| match why {
            None => format!("package `{name}` is left out"),
            Some(why) => format!("package `{name}` is selected: {}", reason(why, changed)),
        })
        .collect();
    lines.sort();
    lines
}

fn reason(why: &Why, changed: &Changed) -> String {
    match why {
        Why::Changed(path, count) => {
            let path = shown(path, changed.root.as_std_path());
            match count {
                1 => format!("`{path}` has changed"),
                _ => format!("`{path}` and {} more have changed", count - 1),
            }
        }
        Why::Locked => "it is not the same in `Cargo.lock`".to_owned(),
        Why::DependsOn(package) => format!("it depends on `{package}`"),
        Why::All => "so are all".to_owned(),
    }
}

/// Returns a path as seen from the root of the workspace.
fn shown(path: &Path, root: &Path) -> String {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let path = path.strip_prefix(&root).unwrap_or(path);
    path.display().to_string()
}
