//! What cargo's messages amount to.

use super::{
    BuildError, Harness, TestBinary, Workspace,
    environment::{Shared, Subject, environment},
    messages::{Artifact, BuildScript, Message},
};
use crate::protocol::Environment;
use camino::{Utf8Path, Utf8PathBuf};
use guppy::{
    PackageId,
    graph::{BuildTargetId, PackageMetadata},
};
use nextest_metadata::{
    BuildPlatform, BuildScriptInfoSummary, RustBinaryId, RustBuildMetaSummary,
    RustNonTestBinaryKind, RustNonTestBinarySummary, RustTestBinaryKind,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use target_spec::summaries::PlatformSummary;
use toml::{Table, Value};

/// What a build made.
#[derive(Clone, Debug)]
pub struct Built {
    /// The test binaries, ordered by id.
    pub binaries: Vec<Arc<TestBinary>>,
    /// For each binary, what its tests see, apart from what depends on the test or the run.
    pub environments: BTreeMap<RustBinaryId, Arc<Environment>>,
    /// The summary for `list --message-format json`.
    pub meta: RustBuildMetaSummary,
}

/// What is known of a package so far.
#[derive(Debug, Default)]
pub(super) struct PackageFacts {
    pub(super) script: Option<ScriptFacts>,
    /// Executables by name.
    pub(super) executables: BTreeMap<String, Utf8PathBuf>,
}

#[derive(Debug)]
pub(super) struct ScriptFacts {
    pub(super) out_dir: Utf8PathBuf,
    pub(super) envs: BTreeMap<String, String>,
}

pub(super) struct Artifacts<'a> {
    workspace: &'a Workspace,
    inherited: &'a Environment,
    facts: BTreeMap<String, PackageFacts>,
    non_test: BTreeMap<String, BTreeSet<RustNonTestBinarySummary>>,
    linked_paths: BTreeSet<Utf8PathBuf>,
    output_directories: BTreeSet<Utf8PathBuf>,
    manifests: BTreeMap<String, Table>,
    /// Integration tests whose package's executables have not all been reported.
    waiting: Vec<Artifact>,
    binaries: BTreeMap<RustBinaryId, Arc<TestBinary>>,
}

impl<'a> Artifacts<'a> {
    pub(super) fn new(workspace: &'a Workspace, inherited: &'a Environment) -> Self {
        Self {
            workspace,
            inherited,
            facts: BTreeMap::new(),
            non_test: BTreeMap::new(),
            linked_paths: BTreeSet::new(),
            output_directories: BTreeSet::new(),
            manifests: BTreeMap::new(),
            waiting: Vec::new(),
            binaries: BTreeMap::new(),
        }
    }

    /// Takes a message, and returns the binaries that can be listed now.
    pub(super) fn add(&mut self, message: Message) -> Result<Vec<Arc<TestBinary>>, BuildError> {
        match message {
            Message::BuildScriptExecuted(script) => {
                self.add_script(script);
                Ok(Vec::new())
            }
            Message::CompilerArtifact(artifact) if artifact.profile.test => {
                if artifact.executable.is_none() {
                    return Ok(Vec::new());
                }
                self.waiting.push(artifact);
                self.take_ready()
            }
            Message::CompilerArtifact(artifact) => {
                self.add_non_test(&artifact);
                self.take_ready()
            }
        }
    }

    /// Ends the collection, and returns the binaries that were not returned before.
    pub(super) fn finish(mut self) -> Result<(Built, Vec<Arc<TestBinary>>), BuildError> {
        let waiting = std::mem::take(&mut self.waiting);
        let rest: Vec<_> = waiting
            .into_iter()
            .map(|artifact| self.binary(artifact))
            .collect::<Result<_, _>>()?;
        let mut environments = BTreeMap::new();
        for (id, binary) in &self.binaries {
            let package = self.package(&binary.package_id)?;
            let subject = Subject::of(binary, &package, self.facts.get(&binary.package_id));
            let complete = environment(&self.shared(), &subject);
            environments.insert(id.clone(), Arc::new(complete));
        }
        let meta = self.meta();
        let binaries = self.binaries.into_values().collect();
        Ok((
            Built {
                binaries,
                environments,
                meta,
            },
            rest,
        ))
    }

    fn add_script(&mut self, script: BuildScript) {
        for path in &script.linked_paths {
            // `native=DIR`, `dependency=DIR` and the like, or just `DIR`.
            let path = Utf8Path::new(path.split_once('=').map_or(path.as_str(), |(_, path)| path));
            // Like cargo: only what was built here, so that no system directory is shadowed.
            if path.starts_with(self.workspace.target_directory())
                || path.starts_with(self.workspace.build_directory())
            {
                self.linked_paths.insert(path.to_owned());
            }
        }
        let facts = self.facts.entry(script.package_id).or_default();
        facts.script = Some(ScriptFacts {
            out_dir: script.out_dir,
            envs: script.env.into_iter().collect(),
        });
    }

    fn add_non_test(&mut self, artifact: &Artifact) {
        let is = |kind: &str| artifact.target.kind.iter().any(|has| has == kind);
        let kind = match &artifact.executable {
            Some(path) if is("bin") => {
                let facts = self.facts.entry(artifact.package_id.clone()).or_default();
                facts
                    .executables
                    .insert(artifact.target.name.clone(), path.clone());
                RustNonTestBinaryKind::BIN_EXE
            }
            None if is("dylib") || is("cdylib") => RustNonTestBinaryKind::DYLIB,
            _ => return,
        };
        let files = match &artifact.executable {
            Some(path) => std::slice::from_ref(path),
            None => &artifact.filenames[..],
        };
        for file in files {
            // A library of a package outside the target directory cannot be moved with it.
            let Some(path) = self.relative(file) else {
                continue;
            };
            self.non_test
                .entry(artifact.package_id.clone())
                .or_default()
                .insert(RustNonTestBinarySummary {
                    name: artifact.target.name.clone(),
                    kind: kind.clone(),
                    path,
                    build_platform: Some(BuildPlatform::Target),
                });
        }
    }

    /// Returns what waits no longer. Integration tests wait for the executables of their
    /// package: cargo does not report up-to-date artifacts in the order of their dependencies.
    fn take_ready(&mut self) -> Result<Vec<Arc<TestBinary>>, BuildError> {
        let (ready, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<Vec<_>, _>(|artifact| self.is_ready(artifact));
        self.waiting = waiting;
        ready
            .into_iter()
            .map(|artifact| self.binary(artifact))
            .collect()
    }

    fn is_ready(&self, artifact: &Artifact) -> bool {
        let kind = binary_kind(&artifact.target.kind);
        if kind != RustTestBinaryKind::TEST && kind != RustTestBinaryKind::BENCH {
            return true;
        }
        let Ok(package) = self.package(&artifact.package_id) else {
            return true;
        };
        let facts = self.facts.get(&artifact.package_id);
        package.build_targets().all(|target| match target.id() {
            BuildTargetId::Binary(name) => {
                facts.is_some_and(|facts| facts.executables.contains_key(name))
            }
            _ => true,
        })
    }

    fn binary(&mut self, artifact: Artifact) -> Result<Arc<TestBinary>, BuildError> {
        let path = artifact
            .executable
            .expect("only artifacts with an executable wait");
        let kind = binary_kind(&artifact.target.kind);
        let platform = if kind == RustTestBinaryKind::PROC_MACRO {
            BuildPlatform::Host
        } else {
            BuildPlatform::Target
        };
        if let Some(deps) = path
            .parent()
            .filter(|parent| parent.file_name() == Some("deps"))
            && let Some(directory) = deps.parent()
        {
            self.output_directories.insert(directory.to_owned());
        }
        let harness = self.harness(&artifact.package_id, &kind, &artifact.target.name)?;
        let package = self.package(&artifact.package_id)?;
        let id = RustBinaryId::from_parts(package.name(), &kind, &artifact.target.name);
        let subject = Subject {
            id: id.as_str(),
            kind: &kind,
            package: &package,
            facts: self.facts.get(&artifact.package_id),
        };
        let list_environment = Arc::new(environment(&self.shared(), &subject));
        let manifest = package.manifest_path();
        let binary = Arc::new(TestBinary {
            id: id.clone(),
            package_name: package.name().to_owned(),
            cwd: manifest.parent().unwrap_or(manifest).to_owned(),
            package_id: artifact.package_id,
            name: artifact.target.name,
            kind,
            path,
            platform,
            harness,
            source_file: artifact.target.src_path,
            list_environment,
        });
        self.binaries.insert(id, Arc::clone(&binary));
        Ok(binary)
    }

    fn package(&self, package_id: &str) -> Result<PackageMetadata<'a>, BuildError> {
        self.workspace
            .graph
            .metadata(&PackageId::new(package_id))
            .map_err(|_| BuildError::UnknownPackage {
                package_id: package_id.to_owned(),
            })
    }

    fn harness(
        &mut self,
        package_id: &str,
        kind: &RustTestBinaryKind,
        name: &str,
    ) -> Result<Harness, BuildError> {
        if !self.manifests.contains_key(package_id) {
            let path = self.package(package_id)?.manifest_path();
            let text = std::fs::read_to_string(path).map_err(|source| BuildError::Manifest {
                path: path.to_owned(),
                source,
            })?;
            // Cargo has just read it, so it is TOML.
            self.manifests
                .insert(package_id.to_owned(), text.parse().unwrap_or_default());
        }
        Ok(declared_harness(&self.manifests[package_id], kind, name))
    }

    fn shared(&self) -> Shared<'_> {
        Shared {
            workspace: self.workspace,
            inherited: self.inherited,
            linked_paths: &self.linked_paths,
            output_directories: &self.output_directories,
        }
    }

    /// Returns a path relative to the target directory.
    fn relative(&self, path: &Utf8Path) -> Option<Utf8PathBuf> {
        let roots = [
            self.workspace.target_directory(),
            self.workspace.build_directory(),
        ];
        roots
            .iter()
            .find_map(|root| path.strip_prefix(root).ok())
            .map(Utf8Path::to_owned)
    }

    fn meta(&self) -> RustBuildMetaSummary {
        let platforms = &self.workspace.platforms;
        let members: BTreeMap<_, _> = self
            .facts
            .iter()
            .filter(|(id, _)| self.package(id).is_ok_and(|package| package.in_workspace()))
            .filter_map(|(id, facts)| Some((id, facts.script.as_ref()?)))
            .collect();
        let relative = |paths: &BTreeSet<Utf8PathBuf>| {
            paths
                .iter()
                .filter_map(|path| self.relative(path))
                .collect()
        };
        RustBuildMetaSummary {
            target_directory: self.workspace.target_directory().to_owned(),
            build_directory: Some(self.workspace.build_directory().to_owned()),
            base_output_directories: relative(&self.output_directories),
            non_test_binaries: self.non_test.clone(),
            build_script_out_dirs: members
                .iter()
                .filter_map(|(id, script)| Some(((*id).clone(), self.relative(&script.out_dir)?)))
                .collect(),
            build_script_info: Some(
                members
                    .iter()
                    .map(|(id, script)| {
                        let envs = script.envs.clone();
                        ((*id).clone(), BuildScriptInfoSummary { envs })
                    })
                    .collect(),
            ),
            linked_paths: relative(&self.linked_paths),
            platforms: Some(platforms.summary()),
            target_platforms: vec![PlatformSummary::from_platform(platforms.effective_target())],
            target_platform: platforms.target_name.clone(),
        }
    }
}

fn binary_kind(kinds: &[String]) -> RustTestBinaryKind {
    match kinds.first().map(String::as_str).unwrap_or_default() {
        "test" => RustTestBinaryKind::TEST,
        "bench" => RustTestBinaryKind::BENCH,
        "bin" => RustTestBinaryKind::BIN,
        "example" => RustTestBinaryKind::EXAMPLE,
        "proc-macro" => RustTestBinaryKind::PROC_MACRO,
        // `rlib`, `cdylib`, … are all what the user calls the library.
        _ => RustTestBinaryKind::LIB,
    }
}

/// Returns what a manifest says of a target's harness.
fn declared_harness(manifest: &Table, kind: &RustTestBinaryKind, name: &str) -> Harness {
    let says_no = |target: &Value| target.get("harness").and_then(Value::as_bool) == Some(false);
    let custom = match manifest.get(kind.as_str()) {
        _ if [RustTestBinaryKind::LIB, RustTestBinaryKind::PROC_MACRO].contains(kind) => {
            manifest.get("lib").is_some_and(says_no)
        }
        Some(Value::Array(targets)) => targets.iter().any(|target| {
            target.get("name").and_then(Value::as_str) == Some(name) && says_no(target)
        }),
        _ => false,
    };
    if custom {
        Harness::Custom
    } else {
        Harness::Libtest
    }
}
