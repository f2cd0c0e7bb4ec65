//! The output of build scripts, and the script that belongs to a test binary.
//!
//! Cargo runs a package's build script once for each way in which the package is built: for the
//! host and for the target, with other features, with another profile. Its messages name the
//! package only.

use super::{folders::Folders, messages::BuildScript};
use crate::protocol::Environment;
use camino::{Utf8Path, Utf8PathBuf};
use nextest_metadata::RustBuildMetaSummary;
use std::collections::{BTreeMap, BTreeSet};

/// The output of one execution of a build script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// `None` if cargo does not set it.
    pub(super) out_dir: Option<Utf8PathBuf>,
    /// `cargo::rustc-env`.
    pub(super) envs: BTreeMap<String, String>,
}

impl Script {
    /// Returns what cargo sets for a binary, of all that the executions of its package's script
    /// set.
    pub(super) fn probed(scripts: &[&Self], environment: &Environment) -> Self {
        let value = |name: &str| environment.get(name)?.to_str().map(str::to_owned);
        let names = scripts.iter().flat_map(|script| script.envs.keys());
        Self {
            out_dir: value("OUT_DIR").map(Utf8PathBuf::from),
            envs: names
                .filter_map(|name| Some((name.clone(), value(name)?)))
                .collect(),
        }
    }
}

/// The execution that a test binary belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Which<'a> {
    /// The package has no build script, or it has not been executed yet.
    None,
    One(&'a Script),
    /// The messages do not say which.
    Several(Vec<&'a Script>),
}

#[derive(Debug, Default)]
pub(super) struct Scripts {
    by_package: BTreeMap<String, Vec<Script>>,
    /// As cargo has them, `KIND=` included, in its order.
    linked_paths: BTreeSet<Utf8PathBuf>,
}

impl Scripts {
    pub(super) fn add(&mut self, message: BuildScript) {
        self.linked_paths
            .extend(message.linked_paths.into_iter().map(Utf8PathBuf::from));
        let script = Script {
            out_dir: Some(message.out_dir),
            envs: message.env.into_iter().collect(),
        };
        let known = self.by_package.entry(message.package_id).or_default();
        if !known.contains(&script) {
            known.push(script);
        }
    }

    /// Returns the executions that a summary has: one for each package. `moved` is given each value.
    pub(super) fn of_summary(meta: &RustBuildMetaSummary, moved: impl Fn(&str) -> String) -> Self {
        let build = meta.build_directory.as_ref();
        let build = build.unwrap_or(&meta.target_directory);
        let infos = meta.build_script_info.iter().flatten();
        let infos: BTreeMap<_, _> = infos.collect();
        let mut scripts = Self::default();
        for (package_id, out_dir) in &meta.build_script_out_dirs {
            let envs = infos.get(package_id).map(|info| info.envs.iter());
            let envs = envs.into_iter().flatten();
            let script = Script {
                out_dir: Some(build.join(out_dir)),
                envs: envs
                    .map(|(name, value)| (name.clone(), moved(value)))
                    .collect(),
            };
            scripts.by_package.insert(package_id.clone(), vec![script]);
        }
        scripts.linked_paths = (meta.linked_paths.iter())
            .map(|path| build.join(path))
            .collect();
        scripts
    }

    /// Returns the execution for a binary of a package that is built in these folders.
    pub(super) fn of(&self, package_id: &str, folders: Option<&Folders>) -> Which<'_> {
        let scripts = self.by_package.get(package_id);
        let all: Vec<&Script> = scripts.into_iter().flatten().collect();
        let is_in = |script: &&Script, folders: &Folders| {
            let out_dir = script.out_dir.as_deref();
            out_dir.is_some_and(|path| path.starts_with(&folders.intermediate))
        };
        let mut found = all.clone();
        if let Some(folders) = folders {
            found.retain(|script| is_in(script, folders));
        }
        if found.is_empty() {
            found = all;
        }
        match found[..] {
            [] => Which::None,
            [one] => Which::One(one),
            _ => Which::Several(found),
        }
    }

    /// Returns an execution for a package as a whole.
    pub(super) fn any(&self, package_id: &str) -> Option<&Script> {
        self.by_package.get(package_id)?.last()
    }

    pub(super) fn packages(&self) -> impl Iterator<Item = &String> {
        self.by_package.keys()
    }

    /// Returns the folders that build scripts asked to link from, in cargo's order.
    pub(super) fn linked_paths(&self) -> impl Iterator<Item = &Utf8Path> {
        self.linked_paths.iter().map(|path| without_kind(path))
    }
}

fn without_kind(path: &Utf8Path) -> &Utf8Path {
    match path.as_str().split_once('=') {
        Some(("native" | "crate" | "dependency" | "framework" | "all", path)) => path.into(),
        _ => path,
    }
}
