//! The environment of a test binary.

use super::{
    Workspace,
    folders::Folders,
    probe,
    scripts::{Script, Scripts},
};
use crate::protocol::Environment;
use camino::{Utf8Path, Utf8PathBuf};
use guppy::graph::PackageMetadata;
use nextest_metadata::RustTestBinaryKind;
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ffi::OsString,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// The version of cargo-nextest whose variables these are; tests may ask for a minimum.
const PEER_VERSION: &str = "0.9.143";

/// The search path of the dynamic linker.
const LIBRARY_PATH: &str = if cfg!(target_os = "macos") {
    "DYLD_FALLBACK_LIBRARY_PATH"
} else {
    "LD_LIBRARY_PATH"
};

/// Facts that all binaries of a build share.
pub(super) struct Shared<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) inherited: &'a Environment,
    /// The cargo that builds.
    pub(super) cargo: Option<&'a Utf8Path>,
    pub(super) scripts: &'a Scripts,
    /// Absolute folders of shared libraries that were built.
    pub(super) library_folders: &'a BTreeSet<Utf8PathBuf>,
}

/// A binary.
pub(super) struct Subject<'a> {
    pub(super) id: &'a str,
    pub(super) kind: &'a RustTestBinaryKind,
    pub(super) package: &'a PackageMetadata<'a>,
    pub(super) executables: Option<&'a BTreeMap<String, Utf8PathBuf>>,
    pub(super) script: Option<&'a Script>,
    pub(super) folders: Option<&'a Folders>,
    /// Cargo's own answer, if it was asked.
    pub(super) probed: Option<&'a Environment>,
}

/// Returns what a binary sees that depends neither on a test nor on the run. What is set later
/// wins, in cargo's order.
pub(super) fn environment(shared: &Shared<'_>, subject: &Subject<'_>) -> Environment {
    let mut environment = shared.inherited.clone();
    let mut cargos = CargosOwn {
        environment: &mut environment,
        names: BTreeSet::new(),
    };
    cargos.set(LIBRARY_PATH, library_path(shared, subject));
    if let Some(script) = subject.script {
        if let Some(out_dir) = &script.out_dir {
            cargos.set("OUT_DIR", out_dir.as_str());
        }
        for (name, value) in &script.envs {
            cargos.set(name, value);
        }
    }
    if let Some(cargo) = shared.cargo {
        cargos.set("CARGO", cargo.as_str());
    }
    let rust_version = shared.workspace.rust_version(subject.package.id().repr());
    set_package(&mut cargos, subject.package, rust_version);
    let names = cargos.names;
    let config = &shared.workspace.config;
    config.apply_env(&mut environment, shared.inherited, |name| {
        names.contains(name)
    });
    if let Some(probed) = subject.probed {
        probe::set_artifacts(&mut environment, probed);
    }
    let sees_executables = [RustTestBinaryKind::TEST, RustTestBinaryKind::BENCH];
    if sees_executables.contains(subject.kind) {
        for (name, path) in subject.executables.into_iter().flatten() {
            environment.set(format!("CARGO_BIN_EXE_{name}"), path.as_str());
            for prefix in ["NEXTEST", "HARNESS"] {
                environment.set(format!("{prefix}_BIN_EXE_{name}"), path.as_str());
                // Some shells drop variables with hyphens.
                let name = name.replace('-', "_");
                environment.set(format!("{prefix}_BIN_EXE_{name}"), path.as_str());
            }
        }
    }
    copy_linker_variables(&mut environment);
    let root = shared.workspace.root().as_str();
    for (name, value) in [
        ("NEXTEST", "1"),
        ("NEXTEST_EXECUTION_MODE", "process-per-test"),
        ("NEXTEST_BINARY_ID", subject.id),
        ("NEXTEST_WORKSPACE_ROOT", root),
        ("NEXTEST_VERSION", PEER_VERSION),
        ("NEXTEST_REQUIRED_VERSION", "none"),
        ("NEXTEST_RECOMMENDED_VERSION", "none"),
        ("HARNESS", "1"),
        ("HARNESS_EXECUTION_MODE", "process-per-test"),
        ("HARNESS_BINARY_ID", subject.id),
        ("HARNESS_WORKSPACE_ROOT", root),
        ("HARNESS_VERSION", env!("CARGO_PKG_VERSION")),
    ] {
        environment.set(name, value);
    }
    environment
}

/// Sets variables, and remembers which: `[env]` does not replace them, whatever it says.
struct CargosOwn<'a> {
    environment: &'a mut Environment,
    names: BTreeSet<String>,
}

impl CargosOwn<'_> {
    fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.set(name, value);
        self.names.insert(name.to_owned());
    }
}

fn set_package(
    environment: &mut CargosOwn<'_>,
    package: &PackageMetadata<'_>,
    rust_version: Option<&str>,
) {
    let version = package.version();
    let directory = package
        .manifest_path()
        .parent()
        .unwrap_or(package.manifest_path());
    for (name, value) in [
        ("CARGO_MANIFEST_DIR", directory.as_str()),
        ("CARGO_MANIFEST_PATH", package.manifest_path().as_str()),
        (
            "CARGO_PKG_README",
            package.readme().map_or("", |path| path.as_str()),
        ),
        ("CARGO_PKG_VERSION", &version.to_string()),
        ("CARGO_PKG_VERSION_MAJOR", &version.major.to_string()),
        ("CARGO_PKG_VERSION_MINOR", &version.minor.to_string()),
        ("CARGO_PKG_VERSION_PATCH", &version.patch.to_string()),
        ("CARGO_PKG_VERSION_PRE", version.pre.as_str()),
        ("CARGO_PKG_AUTHORS", &package.authors().join(":")),
        ("CARGO_PKG_NAME", package.name()),
        (
            "CARGO_PKG_DESCRIPTION",
            package.description().unwrap_or_default(),
        ),
        ("CARGO_PKG_HOMEPAGE", package.homepage().unwrap_or_default()),
        (
            "CARGO_PKG_REPOSITORY",
            package.repository().unwrap_or_default(),
        ),
        ("CARGO_PKG_LICENSE", package.license().unwrap_or_default()),
        (
            "CARGO_PKG_LICENSE_FILE",
            package.license_file().map_or("", |path| path.as_str()),
        ),
        ("CARGO_PKG_RUST_VERSION", rust_version.unwrap_or_default()),
    ] {
        environment.set(name, value);
    }
}

/// Returns where libraries are looked for: what cargo says, in its order; then what cargo forgets
/// where the build directory is another than the target directory; then what was inherited.
fn library_path(shared: &Shared<'_>, subject: &Subject<'_>) -> OsString {
    let mut paths: Vec<&Utf8Path> = Vec::new();
    let is_below = |root: &Utf8Path, path: &Utf8Path| path.starts_with(root);
    let linked = || shared.scripts.linked_paths();
    if let Some(Folders { artifacts, .. }) = subject.folders {
        paths.extend(linked().filter(|path| is_below(artifacts, path)));
        paths.push(artifacts);
    }
    let deps = subject
        .folders
        .map(|folders| folders.intermediate.join("deps"));
    if let Some(deps) = deps.as_deref().filter(|deps| deps.is_dir()) {
        paths.push(deps);
    }
    let platforms = &shared.workspace.platforms;
    let target = subject
        .folders
        .and_then(|folders| folders.target.as_deref());
    let target = target.and_then(|name| platforms.targets.iter().find(|own| own.name == name));
    paths.extend(platforms.libdir(target));
    if let Some(Folders { intermediate, .. }) = subject.folders {
        let built = shared.library_folders.iter().map(Utf8PathBuf::as_path);
        for path in linked()
            .chain(built)
            .filter(|path| is_below(intermediate, path))
        {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    let mut paths: Vec<PathBuf> = paths.into_iter().map(PathBuf::from).collect();
    // A directory with a colon in its name cannot be said; the others then go without it.
    paths.retain(|path| !path.as_os_str().as_bytes().contains(&b':'));
    // Left as it is, duplicates and all; only an empty variable is no directory.
    let inherited = shared.inherited.get(LIBRARY_PATH);
    let inherited = inherited.filter(|inherited| !inherited.is_empty());
    let inherited: Vec<PathBuf> = inherited.into_iter().flat_map(env::split_paths).collect();
    if inherited.starts_with(&paths) {
        paths.clear();
    }
    paths.extend(inherited);
    env::join_paths(paths).unwrap_or_default()
}

/// Copies every `LD_*` to `NEXTEST_LD_*`: a test may run behind a program from which the system
/// hides the originals.
fn copy_linker_variables(environment: &mut Environment) {
    let copies: Vec<(OsString, OsString)> = environment
        .iter()
        .filter(|(name, _)| {
            let name = name.as_bytes();
            name.starts_with(b"LD_") || name.starts_with(b"DYLD_")
        })
        .flat_map(|(name, value)| {
            ["NEXTEST_", "HARNESS_"].map(|prefix| {
                let mut copy = OsString::from(prefix);
                copy.push(name);
                (copy, value.to_owned())
            })
        })
        .collect();
    for (name, value) in copies {
        environment.set(name, value);
    }
}
