//! What a test binary sees in its environment.

use super::{TestBinary, Workspace, artifacts::PackageFacts};
use crate::protocol::Environment;
use camino::Utf8PathBuf;
use guppy::graph::PackageMetadata;
use nextest_metadata::RustTestBinaryKind;
use std::{collections::BTreeSet, env, ffi::OsString, os::unix::ffi::OsStrExt, path::PathBuf};

/// The version of cargo-nextest whose variables these are; tests may ask for a minimum.
const PEER_VERSION: &str = "0.9.143";

/// Where the dynamic linker looks for libraries.
const LIBRARY_PATH: &str = if cfg!(target_os = "macos") {
    "DYLD_FALLBACK_LIBRARY_PATH"
} else {
    "LD_LIBRARY_PATH"
};

/// What all binaries of a build share.
pub(super) struct Shared<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) inherited: &'a Environment,
    /// Absolute directories that build scripts asked to link from.
    pub(super) linked_paths: &'a BTreeSet<Utf8PathBuf>,
    /// Absolute directories such as `target/debug`.
    pub(super) output_directories: &'a BTreeSet<Utf8PathBuf>,
}

/// What identifies a binary here.
pub(super) struct Subject<'a> {
    pub(super) id: &'a str,
    pub(super) kind: &'a RustTestBinaryKind,
    pub(super) package: &'a PackageMetadata<'a>,
    pub(super) facts: Option<&'a PackageFacts>,
}

impl<'a> Subject<'a> {
    pub(super) fn of(
        binary: &'a TestBinary,
        package: &'a PackageMetadata<'a>,
        facts: Option<&'a PackageFacts>,
    ) -> Self {
        Self {
            id: binary.id.as_str(),
            kind: &binary.kind,
            package,
            facts,
        }
    }
}

/// Returns what a binary sees that depends neither on a test nor on the run.
pub(super) fn environment(shared: &Shared<'_>, subject: &Subject<'_>) -> Environment {
    let mut environment = shared.inherited.clone();
    shared.workspace.config.apply_env(&mut environment);
    set_package(&mut environment, subject.package);
    if let Some(script) = subject.facts.and_then(|facts| facts.script.as_ref()) {
        environment.set("OUT_DIR", script.out_dir.as_str());
        for (name, value) in &script.envs {
            environment.set(name, value);
        }
    }
    let sees_executables = [RustTestBinaryKind::TEST, RustTestBinaryKind::BENCH];
    if sees_executables.contains(subject.kind) {
        for (name, path) in subject.facts.iter().flat_map(|facts| &facts.executables) {
            environment.set(format!("CARGO_BIN_EXE_{name}"), path.as_str());
            for prefix in ["NEXTEST", "HARNESS"] {
                environment.set(format!("{prefix}_BIN_EXE_{name}"), path.as_str());
                // Some shells drop variables with hyphens.
                let name = name.replace('-', "_");
                environment.set(format!("{prefix}_BIN_EXE_{name}"), path.as_str());
            }
        }
    }
    set_library_path(&mut environment, shared);
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

fn set_package(environment: &mut Environment, package: &PackageMetadata<'_>) {
    let version = package.version();
    let rust_version = package.rust_version().map(ToString::to_string);
    let directory = package
        .manifest_path()
        .parent()
        .unwrap_or(package.manifest_path());
    for (name, value) in [
        ("CARGO_MANIFEST_DIR", directory.as_str()),
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
        (
            "CARGO_PKG_RUST_VERSION",
            rust_version.as_deref().unwrap_or_default(),
        ),
    ] {
        environment.set(name, value);
    }
}

fn set_library_path(environment: &mut Environment, shared: &Shared<'_>) {
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut add = |path: PathBuf| {
        if !paths.contains(&path) {
            paths.push(path);
        }
    };
    shared.linked_paths.iter().for_each(|path| add(path.into()));
    for directory in shared.output_directories {
        add(directory.into());
        add(directory.join("deps").into());
    }
    shared
        .workspace
        .platforms
        .libdirs()
        .for_each(|path| add(path.into()));
    if let Some(inherited) = environment.get(LIBRARY_PATH) {
        // Left as it is, duplicates and all; only an empty variable is no directory.
        paths.extend(env::split_paths(inherited).filter(|_| !inherited.is_empty()));
    }
    // A directory with a colon in its name cannot be said; the others then go without it.
    paths.retain(|path| !path.as_os_str().as_bytes().contains(&b':'));
    environment.set(LIBRARY_PATH, env::join_paths(paths).unwrap_or_default());
    copy_linker_variables(environment);
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
