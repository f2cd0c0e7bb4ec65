//! The folder in which cargo puts the products of one platform and profile.

use super::{Platforms, Workspace};
use camino::{Utf8Path, Utf8PathBuf};
use nextest_metadata::BuildPlatform;

/// The folders of one platform and profile, such as `target/debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folders {
    /// Below the target directory: what users look for.
    pub(super) artifacts: Utf8PathBuf,
    /// Below the build directory: what cargo makes on its way, `OUT_DIR` included.
    pub(super) intermediate: Utf8PathBuf,
    /// The name of the target; `None` for the host, if it was not asked for by name.
    pub(super) target: Option<String>,
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
        Self::below(roots, &workspace.platforms, executable, platform)
    }

    fn below(
        [build, target]: [&Utf8Path; 2],
        platforms: &Platforms,
        executable: &Utf8Path,
        platform: BuildPlatform,
    ) -> Option<Self> {
        let mut roots = [build, target].into_iter();
        let path = roots.find_map(|root| executable.strip_prefix(root).ok())?;
        let first = path.components().next()?.as_str();
        let built_for = match platform {
            BuildPlatform::Host => None,
            BuildPlatform::Target => platforms.target_in(first),
        };
        let parts = 1 + usize::from(built_for.is_some());
        let folder: Utf8PathBuf = path.components().take(parts).collect();
        Some(Self {
            artifacts: target.join(&folder),
            intermediate: build.join(&folder),
            target: built_for.map(|target| target.name.clone()),
        })
    }

    /// Returns the folders of an executable that cargo put where users look for it. Those that are
    /// dependencies of other packages (`artifact = "bin"`) lie elsewhere.
    pub(super) fn of_final(workspace: &Workspace, executable: &Utf8Path) -> Option<Self> {
        let platform = match workspace.platforms.targets.is_empty() {
            false => BuildPlatform::Target,
            true => BuildPlatform::Host,
        };
        let folders = Self::of(workspace, executable, platform)?;
        (executable.parent() == Some(&folders.artifacts)).then_some(folders)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo::Target;
    use nextest_metadata::{PlatformLibdirSummary, PlatformLibdirUnavailable};
    use target_spec::{Platform, TargetFeatures};

    fn platforms(targets: &[&str]) -> Platforms {
        let host = Platform::new("x86_64-unknown-linux-gnu", TargetFeatures::Unknown);
        let host = host.expect("the triple is known");
        let libdir = PlatformLibdirSummary::Unavailable {
            reason: PlatformLibdirUnavailable::RUSTC_FAILED,
        };
        let target = |name: &&str| Target {
            name: (*name).to_owned(),
            platform: host.clone(),
            libdir: libdir.clone(),
        };
        Platforms {
            targets: targets.iter().map(target).collect(),
            host_libdir: libdir.clone(),
            host: host.clone(),
        }
    }

    #[test]
    fn the_first_part_of_a_path_names_the_target_if_it_is_one_of_those_asked_for() {
        let (arm, custom) = ("aarch64-unknown-linux-gnu", "/specs/mine.json");
        let platforms = platforms(&[arm, custom]);
        let roots = ["/b", "/t"].map(Utf8Path::new);
        let of = |path: &str, platform| {
            let folders = Folders::below(roots, &platforms, path.into(), platform)?;
            let Folders {
                artifacts,
                intermediate,
                target,
            } = folders;
            Some(format!("{artifacts} {intermediate} {target:?}"))
        };
        let (host, target) = (BuildPlatform::Host, BuildPlatform::Target);
        for (path, platform, expected) in [
            (
                "/b/aarch64-unknown-linux-gnu/debug/deps/a-1",
                target,
                "/t/aarch64-unknown-linux-gnu/debug /b/aarch64-unknown-linux-gnu/debug \
                 Some(\"aarch64-unknown-linux-gnu\")",
            ),
            (
                "/b/mine/release/deps/a-1",
                target,
                "/t/mine/release /b/mine/release Some(\"/specs/mine.json\")",
            ),
            ("/b/debug/deps/macros-1", host, "/t/debug /b/debug None"),
            ("/t/debug/examples/e", target, "/t/debug /b/debug None"),
        ] {
            assert_eq!(of(path, platform).as_deref(), Some(expected), "{path}");
        }
        assert_eq!(of("/elsewhere/a", target), None);
    }
}
