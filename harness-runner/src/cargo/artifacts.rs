//! The result of cargo's messages.

use super::{
    BuildError, CargoOptions, Harness, TestBinary, Workspace,
    environment::{Shared, Subject, environment},
    folders::Folders,
    messages::{Artifact, Message, Profile, Target},
    moved::Reused,
    probe::Probe,
    program::cargo_program,
    scripts::{Script, Scripts, Which},
};
use crate::protocol::Environment;
use camino::{Utf8Path, Utf8PathBuf};
use guppy::{
    PackageId,
    graph::{BuildTargetId, PackageMetadata},
};
use nextest_metadata::{
    BuildPlatform, BuildScriptInfoSummary, RustBinaryId, RustBuildMetaSummary,
    RustNonTestBinaryKind, RustNonTestBinarySummary, RustTestBinaryKind, RustTestBinarySummary,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use target_spec::summaries::PlatformSummary;
use toml::{Table, Value};

/// The products of a build.
#[derive(Clone, Debug)]
pub struct Built {
    /// The test binaries, ordered by id.
    pub binaries: Vec<Arc<TestBinary>>,
    /// For each binary, what its tests see, apart from what depends on the test or the run.
    pub environments: BTreeMap<RustBinaryId, Arc<Environment>>,
    /// The summary for `list --message-format json`.
    pub meta: RustBuildMetaSummary,
    /// The other executables, by their paths.
    pub programs: BTreeSet<Utf8PathBuf>,
    /// Whether any of its crates may be optimized; what compiles them, and their build scripts, do not count.
    pub optimized: bool,
}

/// The facts about a package so far.
#[derive(Debug, Default)]
pub(super) struct PackageFacts {
    /// Executables by name.
    pub(super) executables: BTreeMap<String, Utf8PathBuf>,
}

pub(super) struct Artifacts<'a> {
    workspace: &'a Workspace,
    options: &'a CargoOptions,
    inherited: &'a Environment,
    cargo: Option<Utf8PathBuf>,
    /// By package and target.
    facts: BTreeMap<(String, Option<String>), PackageFacts>,
    scripts: Scripts,
    non_test: BTreeMap<String, BTreeSet<RustNonTestBinarySummary>>,
    /// Folders with shared libraries.
    library_folders: BTreeSet<Utf8PathBuf>,
    output_directories: BTreeSet<Utf8PathBuf>,
    manifests: BTreeMap<String, Table>,
    /// Binaries of which not all is known that they need to be listed.
    waiting: Vec<Artifact>,
    binaries: BTreeMap<RustBinaryId, Arc<TestBinary>>,
    optimized: bool,
    /// The build that these are of, if it was made before.
    reused: Option<&'a Reused>,
}

impl<'a> Artifacts<'a> {
    pub(super) fn new(
        workspace: &'a Workspace,
        options: &'a CargoOptions,
        inherited: &'a Environment,
    ) -> Self {
        Self {
            workspace,
            options,
            inherited,
            cargo: cargo_program(inherited, workspace.platforms.sysroot()),
            facts: BTreeMap::new(),
            scripts: Scripts::default(),
            non_test: BTreeMap::new(),
            library_folders: BTreeSet::new(),
            output_directories: BTreeSet::new(),
            manifests: BTreeMap::new(),
            waiting: Vec::new(),
            binaries: BTreeMap::new(),
            optimized: false,
            reused: None,
        }
    }

    /// Makes of a build that was made before what cargo's messages would make of it.
    pub(super) fn reused(
        workspace: &'a Workspace,
        options: &'a CargoOptions,
        inherited: &'a Environment,
        reused: &'a Reused,
    ) -> Result<Built, BuildError> {
        let mut artifacts = Self {
            cargo: None,
            reused: Some(reused),
            ..Self::new(workspace, options, inherited)
        };
        let meta = reused.meta();
        artifacts.scripts = Scripts::of_summary(&meta, |value| reused.value(value));
        for (package_id, binaries) in &meta.non_test_binaries {
            for binary in binaries {
                artifacts.take_non_test(package_id, binary);
            }
        }
        for binary in reused.summary.rust_binaries.values() {
            let artifact = artifacts.artifact(binary)?;
            artifacts.binary(artifact, &Probe::default())?;
        }
        let (built, _) = artifacts.finish()?;
        Ok(Built { meta, ..built })
    }

    fn take_non_test(&mut self, package_id: &str, binary: &RustNonTestBinarySummary) {
        let path = self.workspace.target_directory().join(&binary.path);
        if binary.kind == RustNonTestBinaryKind::DYLIB {
            let Self {
                library_folders, ..
            } = self;
            library_folders.extend(path.parent().map(Utf8Path::to_owned));
        } else if let Some(folders) = Folders::of_final(self.workspace, &path) {
            let key = (package_id.to_owned(), folders.target);
            let facts = self.facts.entry(key).or_default();
            facts.executables.insert(binary.name.clone(), path);
        }
    }

    /// Returns the message that cargo sent about a binary when it built it.
    fn artifact(&self, binary: &RustTestBinarySummary) -> Result<Artifact, BuildError> {
        let reused = self
            .reused
            .expect("only those of a reused build are made up");
        let package = self.package(&binary.package_id)?;
        let kind = binary.kind.as_str();
        let mut targets = package.build_targets();
        let target = targets.find(|target| match target.id() {
            BuildTargetId::Binary(name) => kind == "bin" && name == binary.binary_name,
            BuildTargetId::Example(name) => kind == "example" && name == binary.binary_name,
            BuildTargetId::Test(name) => kind == "test" && name == binary.binary_name,
            BuildTargetId::Benchmark(name) => kind == "bench" && name == binary.binary_name,
            BuildTargetId::Library => kind == "lib" || kind == "proc-macro",
            _ => false,
        });
        let src_path = target.map_or(package.manifest_path(), |target| target.path());
        Ok(Artifact {
            package_id: binary.package_id.clone(),
            target: Target {
                kind: vec![kind.to_owned()],
                name: binary.binary_name.clone(),
                src_path: src_path.to_owned(),
            },
            profile: Profile {
                test: true,
                opt_level: serde_json::Value::Null,
            },
            filenames: Vec::new(),
            executable: Some(reused.file(&binary.binary_path)),
        })
    }

    /// Takes a message, and returns the binaries that can be listed now.
    pub(super) fn add(&mut self, message: Message) -> Result<Vec<Arc<TestBinary>>, BuildError> {
        match message {
            Message::BuildScriptExecuted(script) => {
                self.scripts.add(script);
                self.take_ready()
            }
            Message::CompilerArtifact(artifact) if artifact.profile.test => {
                self.optimized |= artifact.profile.optimizes();
                if artifact.executable.is_none() {
                    return Ok(Vec::new());
                }
                self.waiting.push(artifact);
                self.take_ready()
            }
            Message::CompilerArtifact(artifact) => {
                let kinds = &artifact.target.kind;
                let of_build = |kind: &String| kind == "custom-build" || kind == "proc-macro";
                self.optimized |= artifact.profile.optimizes() && !kinds.iter().any(of_build);
                self.add_non_test(&artifact);
                self.take_ready()
            }
        }
    }

    /// Ends the collection, and returns the binaries that were not returned before.
    pub(super) fn finish(mut self) -> Result<(Built, Vec<Arc<TestBinary>>), BuildError> {
        let waiting = std::mem::take(&mut self.waiting);
        let probe = self.probe(&waiting)?;
        let rest: Vec<_> = waiting
            .into_iter()
            .map(|artifact| self.binary(artifact, &probe))
            .collect::<Result<_, _>>()?;
        let mut environments = BTreeMap::new();
        for (id, binary) in &self.binaries {
            let complete = self.environment(binary, &probe)?;
            environments.insert(id.clone(), Arc::new(complete));
        }
        let meta = self.meta();
        let facts = self.facts.into_values();
        let programs = facts.flat_map(|facts| facts.executables.into_values());
        let programs = programs.collect();
        // A build that was made before does not say it.
        let optimized = self.optimized || self.reused.is_some();
        let binaries = self.binaries.into_values().collect();
        Ok((
            Built {
                binaries,
                environments,
                meta,
                programs,
                optimized,
            },
            rest,
        ))
    }

    /// Asks cargo about what its messages leave open, if that matters to any binary.
    fn probe(&self, waiting: &[Artifact]) -> Result<Probe, BuildError> {
        let waiting = waiting.iter().filter_map(|artifact| {
            let platform = platform(&binary_kind(&artifact.target.kind));
            Some((
                &artifact.package_id,
                artifact.executable.as_ref()?,
                platform,
            ))
        });
        let listed = self.binaries.values();
        let listed = listed.map(|binary| (&binary.package_id, &binary.path, binary.platform));
        let is_open = |(package_id, path, platform): (&String, &Utf8PathBuf, _)| {
            let folders = Folders::of(self.workspace, path, platform);
            let which = self.scripts.of(package_id, folders.as_ref());
            matches!(which, Which::Several(_)) || self.workspace.uses_artifacts(package_id)
        };
        // Cargo can say nothing about a build that was made elsewhere.
        if self.reused.is_some() || !waiting.chain(listed).any(is_open) {
            return Ok(Probe::default());
        }
        Probe::ask(self.options, self.workspace).map_err(|source| BuildError::Probe { source })
    }

    fn add_non_test(&mut self, artifact: &Artifact) {
        let is = |kind: &str| artifact.target.kind.iter().any(|has| has == kind);
        let folders = artifact.executable.as_ref();
        let folders = folders.and_then(|path| Folders::of_final(self.workspace, path));
        let kind = match (&artifact.executable, folders) {
            (Some(path), Some(folders)) if is("bin") => {
                let key = (artifact.package_id.clone(), folders.target);
                let facts = self.facts.entry(key).or_default();
                facts
                    .executables
                    .insert(artifact.target.name.clone(), path.clone());
                RustNonTestBinaryKind::BIN_EXE
            }
            (None, _) if is("dylib") || is("cdylib") => {
                let folders = artifact.filenames.iter().filter_map(|path| path.parent());
                self.library_folders.extend(folders.map(Utf8Path::to_owned));
                RustNonTestBinaryKind::DYLIB
            }
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
    /// package: cargo does not report up-to-date artifacts in the order of their dependencies. A
    /// harness that can list whatever its build script says waits to the end: only then it is
    /// known whether the script is executed once.
    fn take_ready(&mut self) -> Result<Vec<Arc<TestBinary>>, BuildError> {
        let mut ready = Vec::new();
        for artifact in std::mem::take(&mut self.waiting) {
            let kind = binary_kind(&artifact.target.kind);
            let harness = self.harness(&artifact.package_id, &kind, &artifact.target.name)?;
            match self.is_ready(&artifact, harness) {
                true => ready.push(artifact),
                false => self.waiting.push(artifact),
            }
        }
        let probe = Probe::default();
        ready
            .into_iter()
            .map(|artifact| self.binary(artifact, &probe))
            .collect()
    }

    fn is_ready(&self, artifact: &Artifact, harness: Harness) -> bool {
        let kind = binary_kind(&artifact.target.kind);
        if harness == Harness::Custom && self.depends_on_the_whole_build(&artifact.package_id) {
            return false;
        }
        if kind != RustTestBinaryKind::TEST && kind != RustTestBinaryKind::BENCH {
            return true;
        }
        let Ok(package) = self.package(&artifact.package_id) else {
            return true;
        };
        let target = self.target_of(artifact.executable.as_deref(), &kind);
        let facts = self.facts.get(&(artifact.package_id.clone(), target));
        package.build_targets().all(|target| match target.id() {
            BuildTargetId::Binary(name) => {
                facts.is_some_and(|facts| facts.executables.contains_key(name))
            }
            _ => true,
        })
    }

    /// Returns what tells a binary from that of another target, if it is built for several.
    fn ending(&self, folders: &Folders) -> Option<String> {
        let targets = &self.workspace.platforms.targets;
        let several = targets.len() > 1;
        let own = targets
            .iter()
            .find(|own| Some(&own.name) == folders.target.as_ref());
        own.filter(|_| several)
            .map(|target| format!("@{}", target.folder()))
    }

    fn target_of(
        &self,
        executable: Option<&Utf8Path>,
        kind: &RustTestBinaryKind,
    ) -> Option<String> {
        Folders::of(self.workspace, executable?, platform(kind))?.target
    }

    fn depends_on_the_whole_build(&self, package_id: &str) -> bool {
        let has_script = self.package(package_id).is_ok_and(|package| {
            let mut targets = package.build_targets();
            targets.any(|target| target.id() == BuildTargetId::BuildScript)
        });
        has_script || self.workspace.uses_artifacts(package_id)
    }

    fn binary(&mut self, artifact: Artifact, probe: &Probe) -> Result<Arc<TestBinary>, BuildError> {
        let path = artifact
            .executable
            .expect("only artifacts with an executable wait");
        let kind = binary_kind(&artifact.target.kind);
        let platform = platform(&kind);
        let folders = Folders::of(self.workspace, &path, platform);
        if let Some(folders) = &folders {
            self.output_directories.insert(folders.artifacts.clone());
        }
        let target = folders.as_ref().and_then(|folders| folders.target.clone());
        let harness = self.harness(&artifact.package_id, &kind, &artifact.target.name)?;
        let package = self.package(&artifact.package_id)?;
        let id = RustBinaryId::from_parts(package.name(), &kind, &artifact.target.name);
        let id = match folders.and_then(|folders| self.ending(&folders)) {
            Some(ending) => RustBinaryId::new(&format!("{id}{ending}")),
            None => id,
        };
        let manifest = package.manifest_path();
        let mut binary = TestBinary {
            id: id.clone(),
            package_name: package.name().to_owned(),
            cwd: manifest.parent().unwrap_or(manifest).to_owned(),
            package_id: artifact.package_id,
            name: artifact.target.name,
            kind,
            path,
            platform,
            target,
            harness,
            source_file: artifact.target.src_path,
            list_environment: Arc::default(),
        };
        binary.list_environment = Arc::new(self.environment(&binary, probe)?);
        let binary = Arc::new(binary);
        self.binaries.insert(id, Arc::clone(&binary));
        Ok(binary)
    }

    /// Returns what a binary sees, as far as it is known by now.
    fn environment(&self, binary: &TestBinary, probe: &Probe) -> Result<Environment, BuildError> {
        let folders = Folders::of(self.workspace, &binary.path, binary.platform);
        let probed = probe.get(&binary.path);
        let which = self.scripts.of(&binary.package_id, folders.as_ref());
        let script = match (&which, probed) {
            (Which::None, _) => None,
            (Which::One(script), _) => Some((*script).clone()),
            (Which::Several(scripts), Some(probed)) => Some(Script::probed(scripts, probed)),
            // Before the end of the build, for a binary whose list does not depend on it.
            (Which::Several(scripts), None) => scripts.last().map(|script| (*script).clone()),
        };
        let shared = Shared {
            workspace: self.workspace,
            inherited: self.inherited,
            cargo: self.cargo.as_deref(),
            scripts: &self.scripts,
            library_folders: &self.library_folders,
        };
        let subject = Subject {
            id: binary.id.as_str(),
            kind: &binary.kind,
            package: &self.package(&binary.package_id)?,
            executables: self
                .facts
                .get(&(binary.package_id.clone(), binary.target.clone()))
                .map(|facts| &facts.executables),
            script: script.as_ref(),
            folders: folders.as_ref(),
            probed,
        };
        Ok(environment(&shared, &subject))
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
            let text = match std::fs::read_to_string(path) {
                Ok(text) => text,
                // It is asked for its tests each time, whatever harness it has.
                Err(_) if self.reused.is_some() => return Ok(Harness::Custom),
                Err(source) => {
                    let path = path.to_owned();
                    return Err(BuildError::Manifest { path, source });
                }
            };
            // Cargo has just read it, so it is TOML.
            self.manifests
                .insert(package_id.to_owned(), text.parse().unwrap_or_default());
        }
        Ok(declared_harness(&self.manifests[package_id], kind, name))
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
            .scripts
            .packages()
            .filter(|id| self.package(id).is_ok_and(|package| package.in_workspace()))
            .filter_map(|id| Some((id, self.scripts.any(id)?)))
            .collect();
        RustBuildMetaSummary {
            target_directory: self.workspace.target_directory().to_owned(),
            build_directory: Some(self.workspace.build_directory().to_owned()),
            base_output_directories: self
                .output_directories
                .iter()
                .filter_map(|path| self.relative(path))
                .collect(),
            non_test_binaries: self.non_test.clone(),
            build_script_out_dirs: members
                .iter()
                .filter_map(|(id, script)| {
                    Some(((*id).clone(), self.relative(script.out_dir.as_deref()?)?))
                })
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
            linked_paths: self
                .scripts
                .linked_paths()
                .filter_map(|path| self.relative(path))
                .collect(),
            platforms: Some(platforms.summary()),
            target_platforms: (platforms.of_tests().into_iter())
                .map(PlatformSummary::from_platform)
                .collect(),
            // For readers who know of one.
            target_platform: platforms.targets.first().map(|target| target.name.clone()),
        }
    }
}

/// Tests of proc macros run where the compiler runs.
fn platform(kind: &RustTestBinaryKind) -> BuildPlatform {
    match *kind == RustTestBinaryKind::PROC_MACRO {
        true => BuildPlatform::Host,
        false => BuildPlatform::Target,
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
