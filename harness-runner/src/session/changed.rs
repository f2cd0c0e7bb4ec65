//! Selection by change: the packages that differ from a revision, and those that depend on them.

use super::Options;
use crate::{
    cargo::{Graph, LocateError, MetadataError, Workspace, locate_workspace},
    changes::{Affected, GitError, Places, Since, Tree},
};
use camino::Utf8PathBuf;
use std::{collections::BTreeSet, path::Path, sync::Arc};
use thiserror::Error;

/// A selection by change.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The root of the workspace.
    pub root: Utf8PathBuf,
    /// The files that changed.
    pub tree: Tree,
    /// The packages that they can affect.
    pub affected: Affected,
}

/// An error in selecting by change.
#[derive(Debug, Error)]
#[allow(
    missing_docs,
    reason = "each variant is the error of the module that it names"
)]
pub enum ChangedError {
    #[error(transparent)]
    Locate(#[from] LocateError),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error(transparent)]
    Git(#[from] GitError),
}

impl Options {
    /// Bounds the selection by the packages that what has changed since a revision can affect.
    ///
    /// # Errors
    ///
    /// When git or cargo does not say what is needed.
    pub fn select_changed(&mut self, since: &Since) -> Result<Changed, ChangedError> {
        let root = locate_workspace(self.cargo.manifest_path.as_deref(), &self.cwd)?;
        let tree = Tree::since(&root, since)?;
        let workspace = Workspace::load(&self.cargo, &self.cwd, Graph::Dependencies)?;
        let settings = self
            .sources
            .config_file
            .as_ref()
            .map(|it| self.cwd.join(it));
        let places = Places::new(&workspace.graph, settings.as_deref());
        let paths = tree.paths.iter().map(AsRef::<Path>::as_ref);
        let affected = places.select(paths, tree.lock.as_deref());
        self.filter.packages = Some(Arc::new(affected.selected()));
        Ok(Changed {
            root,
            tree,
            affected,
        })
    }

    /// Returns whether a selection by change has left nothing.
    pub fn nothing_changed(&self) -> bool {
        let packages = self.filter.packages.as_deref();
        packages.is_some_and(BTreeSet::is_empty)
    }
}
