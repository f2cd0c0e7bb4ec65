//! The store of a workspace: one answer for the commands that run tests, and for those that look back.

use super::{Options, RunOptions, SessionError, Start, explain, reuse::TakenUp};
use crate::{
    cargo::Workspace,
    config::{self, Sources},
    store::{self, Wish},
    tracer::inject,
};
use camino::{Utf8Path, Utf8PathBuf};
use std::sync::Arc;

/// Returns the store of the workspace with this root. Of its configuration one key is read, and mistakes in
/// others are left to those who need them.
///
/// # Errors
///
/// When the configuration cannot be read, or the folder that it names is something else.
pub fn store_of(
    root: &Utf8Path,
    target: &Utf8Path,
    sources: &Sources,
    wish: &Wish,
) -> Result<Utf8PathBuf, SessionError> {
    let chosen = match wish.given {
        Some(_) => None,
        None => config::runs_dir(root, sources)?,
    };
    let store = store::place(root, target, wish.or(chosen).as_deref())?;
    Ok(wish.apart(store))
}

impl Options {
    /// Returns the store of the workspace with this root, as [`store_of`] does.
    ///
    /// # Errors
    ///
    /// As for [`store_of`].
    pub fn store_of(
        &self,
        root: &Utf8Path,
        target: &Utf8Path,
    ) -> Result<Utf8PathBuf, SessionError> {
        store_of(root, target, &explain::sources(self), &self.store)
    }
}

impl Start {
    /// Returns the store of the workspace.
    pub(super) fn store(
        &self,
        options: &Options,
        workspace: &Workspace,
    ) -> Result<Utf8PathBuf, SessionError> {
        let chosen = options.store.or(self.config.runs_dir().cloned());
        let root = match &self.taken_up {
            // The sources of an archive go when the run is over.
            Some(TakenUp {
                own_sources: true, ..
            }) => &options.cwd,
            _ => &self.root,
        };
        let store = store::place(root, workspace.kept_in(), chosen.as_deref())?;
        Ok(options.store.apart(store))
    }
}

impl RunOptions {
    /// Returns the calls of tests that fail, as a stub takes them; `None` for none.
    pub(super) fn inject(&self) -> Option<Arc<[u8]>> {
        let any = !self.inject.is_empty();
        any.then(|| inject::to_bytes(&self.inject).into())
    }
}
