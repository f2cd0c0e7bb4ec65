//! The folder in which cargo puts the products of one platform and profile.

use super::Workspace;
use camino::{Utf8Path, Utf8PathBuf};
use nextest_metadata::BuildPlatform;

/// The folders of one platform and profile, such as `target/debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folders {
    /// Below the target directory: what users look for.
    pub(super) artifacts: Utf8PathBuf,
    /// Below the build directory: what cargo makes on its way, `OUT_DIR` included.
    pub(super) intermediate: Utf8PathBuf,
}

impl Folders {
    /// Returns the folders that a test binary belongs to. Only the first parts of its path have a
    /// meaning, which is the same in all layouts: the target's name, if one was asked for, and the
    /// profile's folder.
    pub(super) fn of(
        workspace: &Workspace,
        executable: &Utf8Path,
        platform: BuildPlatform,
    ) -> Option<Self> {
        let roots = [workspace.build_directory(), workspace.target_directory()];
        let path = roots
            .iter()
            .find_map(|root| executable.strip_prefix(root).ok())?;
        let target = match platform {
            BuildPlatform::Host => None,
            BuildPlatform::Target => workspace.platforms.target_folder(),
        };
        let parts = if path.components().next()?.as_str() == target.unwrap_or_default() {
            2
        } else {
            1
        };
        let folder: Utf8PathBuf = path.components().take(parts).collect();
        let [intermediate, artifacts] = roots.map(|root| root.join(&folder));
        Some(Self {
            artifacts,
            intermediate,
        })
    }

    /// Returns whether a path is that of an executable that cargo put where users look for it.
    /// Those that are dependencies of other packages (`artifact = "bin"`) lie elsewhere.
    pub(super) fn is_final(workspace: &Workspace, executable: &Utf8Path) -> bool {
        let platform = match workspace.platforms.target {
            Some(_) => BuildPlatform::Target,
            None => BuildPlatform::Host,
        };
        let folders = Self::of(workspace, executable, platform);
        let folders = folders.as_ref().map(|folders| folders.artifacts.as_path());
        folders.is_some() && executable.parent() == folders
    }
}
