//! A workspace whose files are watched, and the packages that their changes can affect.

use super::{ChangedError, Options};
use crate::{
    cargo::{Graph, Workspace, locate_workspace},
    changes::{Affected, FileEvent, Places, WatchError, Watched},
};
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// A workspace whose files are watched.
pub struct Watching {
    options: Options,
    root: Utf8PathBuf,
    workspace: Workspace,
    watched: Watched,
    /// `Cargo.lock` as it was when it was last looked at.
    lock: Option<String>,
}

/// An error in watching a workspace.
#[derive(Debug, Error)]
pub enum WatchingError {
    /// The workspace is not understood.
    #[error(transparent)]
    Workspace(#[from] ChangedError),
    /// Its files cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
}

/// A change of files.
#[derive(Clone, Debug)]
pub struct FilesChanged {
    /// The first of them, as seen from the root of the workspace.
    pub first: PathBuf,
    /// The number of files.
    pub count: usize,
    /// The packages that they can affect.
    pub affected: Affected,
}

impl Watching {
    /// Watches the files of a workspace and of the packages that it depends on by their paths, but for
    /// `written`, which runs write. `tell` is called for each event, in another thread.
    ///
    /// # Errors
    ///
    /// When there is no workspace, or its files cannot be watched.
    pub fn start(
        options: &Options,
        written: impl IntoIterator<Item = Utf8PathBuf>,
        tell: impl FnMut(FileEvent) + Send + 'static,
    ) -> Result<Self, WatchingError> {
        let root = locate_workspace(options.cargo.manifest_path.as_deref(), &options.cwd)
            .map_err(ChangedError::from)?;
        let root = root.canonicalize_utf8().unwrap_or(root);
        let workspace = load(options)?;
        let mut roots: Vec<PathBuf> = vec![root.clone().into()];
        let places = Places::new(&workspace.graph, None);
        let outside = places.folders().filter(|folder| !folder.starts_with(&root));
        roots.extend(outside.map(|folder| folder.to_owned().into_std_path_buf()));
        let target = workspace.target_directory();
        // A run says what is wrong with it.
        let store = options.store_of(workspace.root(), target).ok();
        let target = target.canonicalize().unwrap_or_else(|_| target.into());
        let mut except = BTreeSet::from([target]);
        except.extend(store.map(PathBuf::from));
        except.extend(
            written
                .into_iter()
                .map(|file| resolved(&options.cwd.join(file))),
        );
        let watched = Watched::new(roots, except, tell)?;
        Ok(Self {
            options: options.clone(),
            lock: lock(&root),
            root,
            workspace,
            watched,
        })
    }

    /// Returns the root of the workspace.
    pub fn root(&self) -> &Utf8Path {
        &self.root
    }

    /// Returns the files that these events have changed.
    ///
    /// # Errors
    ///
    /// When a new folder cannot be watched.
    pub fn changed(&mut self, events: Vec<FileEvent>) -> Result<BTreeSet<PathBuf>, WatchError> {
        self.watched.changed(events)
    }

    /// Returns what changes of these files can affect; `None` if no test can depend on them.
    ///
    /// # Errors
    ///
    /// When a manifest has changed and the workspace is not understood any more.
    pub fn affected(
        &mut self,
        files: &BTreeSet<PathBuf>,
    ) -> Result<Option<FilesChanged>, ChangedError> {
        let Some(first) = files.first() else {
            return Ok(None);
        };
        let is_manifest =
            |path: &PathBuf| path.file_name().is_some_and(|name| name == "Cargo.toml");
        if files.iter().any(is_manifest) {
            self.workspace = load(&self.options)?;
        }
        let settings = self.options.sources.config_file.as_ref();
        let settings = settings.map(|file| self.options.cwd.join(file));
        let places = Places::new(&self.workspace.graph, settings.as_deref());
        let paths = files.iter().map(AsRef::<Path>::as_ref);
        let affected = places.select(paths, self.lock.as_deref());
        self.lock = lock(&self.root);
        let any = !affected.selected().is_empty();
        Ok(any.then(|| FilesChanged {
            first: first.strip_prefix(&self.root).unwrap_or(first).to_owned(),
            count: files.len(),
            affected,
        }))
    }
}

/// Returns the path of a file that may not exist yet, without links.
fn resolved(file: &Utf8Path) -> PathBuf {
    let folder = file.parent().and_then(|it| it.canonicalize().ok());
    match (folder, file.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => file.to_owned().into(),
    }
}

fn load(options: &Options) -> Result<Workspace, ChangedError> {
    Ok(Workspace::load(
        &options.cargo,
        &options.cwd,
        Graph::Dependencies,
    )?)
}

fn lock(root: &Utf8Path) -> Option<String> {
    fs::read_to_string(root.join("Cargo.lock")).ok()
}
