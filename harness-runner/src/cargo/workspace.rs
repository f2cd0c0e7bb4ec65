//! The workspace, as `cargo metadata` and rustc know it.

use super::{
    CargoConfig, CargoOptions, ConfigError, LocateError, Platforms, Runners, RustcError,
    locate_workspace,
    options::{MetadataOf, shown},
    rustc::HOST_TUPLE,
};
use crate::sys::by_fork;
use camino::{Utf8Path, Utf8PathBuf};
use guppy::{CargoMetadata, graph::PackageGraph};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    process::{Command, Stdio},
    thread,
};
use target_spec::Platform;
use thiserror::Error;

/// The needed part of the package graph.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Graph {
    /// The packages of the workspace. Cargo resolves nothing for that, so it takes 4 ms more than
    /// to start cargo, takes no lock, and needs no network.
    Members,
    /// Their dependencies too, for filtersets such as `deps(serde)`.
    Dependencies,
}

/// A workspace.
#[derive(Debug)]
pub struct Workspace {
    /// Its packages.
    pub graph: PackageGraph,
    /// The platforms that it is built for.
    pub platforms: Platforms,
    /// Cargo's configuration.
    pub config: CargoConfig,
    /// The program that runs its test binaries.
    pub runners: Runners,
    /// The working directory of cargo.
    pub cwd: Utf8PathBuf,
    /// The directory that runs are kept below, if it is not the target directory.
    pub(super) kept_in: Option<Utf8PathBuf>,
    /// Cargo's answer, if it has the dependencies.
    pub(super) answer: Option<String>,
    /// Packages with artifact dependencies.
    users_of_artifacts: BTreeSet<String>,
    /// `rust-version` of packages, as it is written: guppy makes `1.85.0` of `1.85`.
    rust_versions: BTreeMap<String, String>,
}

/// An error in loading a workspace.
#[derive(Debug, Error)]
pub enum MetadataError {
    /// There is none.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// Cargo's configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// rustc does not answer.
    #[error(transparent)]
    Rustc(#[from] RustcError),
    /// Cargo could not be started.
    #[error("failed to start `{command}`")]
    Start {
        /// The command line.
        command: String,
        /// The reason.
        source: io::Error,
    },
    /// Cargo failed; it has said why on standard error.
    #[error("`{command}` failed ({status})")]
    Failed {
        /// The command line.
        command: String,
        /// Its wait status.
        status: std::process::ExitStatus,
    },
    /// Cargo's answer does not describe a workspace.
    #[error("`{command}` printed something that is not understood")]
    Malformed {
        /// The command line.
        command: String,
        /// The reason.
        source: Box<guppy::Error>,
    },
    /// Cargo's answer is not JSON.
    #[error("`{command}` printed something that is not JSON")]
    NotJson {
        /// The command line.
        command: String,
        /// The reason.
        source: serde_json::Error,
    },
}

impl Workspace {
    /// Asks `cargo metadata` and rustc, at the same time.
    ///
    /// # Errors
    ///
    /// When there is no workspace, or one of them fails.
    pub fn load(
        options: &CargoOptions,
        cwd: &Utf8Path,
        wanted: Graph,
    ) -> Result<Self, MetadataError> {
        locate_workspace(options.manifest_path.as_deref(), cwd)?;
        let config = CargoConfig::load(cwd, &options.config)?;
        let targets = requested_targets(options, &config, cwd)?;
        let compiler = config.rustc();
        let (platforms, graph) = thread::scope(|scope| {
            let platforms = scope.spawn(|| Platforms::detect(&targets, &compiler));
            let graph = match wanted {
                Graph::Members => members(options, cwd),
                Graph::Dependencies => with_dependencies(options, &assumed(&targets), cwd),
            };
            (
                platforms.join().expect("asking rustc does not panic"),
                graph,
            )
        });
        let (platforms, mut known) = (platforms?, graph?);
        let names: Vec<String> = match &platforms.targets[..] {
            [] => vec![platforms.host.triple_str().to_owned()],
            targets => targets.iter().map(|target| target.name.clone()).collect(),
        };
        let is_partial = match wanted {
            Graph::Members => !has_all(&known.graph, &options.package),
            Graph::Dependencies => names != assumed(&targets),
        };
        if is_partial {
            known = with_dependencies(options, &names, cwd)?;
        }
        let runners = Runners::find(&config, &platforms, &compiler)?;
        Ok(Self {
            graph: known.graph,
            platforms,
            config,
            runners,
            cwd: cwd.to_owned(),
            kept_in: None,
            answer: known.answer,
            users_of_artifacts: known.users_of_artifacts,
            rust_versions: known.rust_versions,
        })
    }

    /// Makes a workspace of what was found of it before, without asking anyone.
    ///
    /// # Errors
    ///
    /// When that does not describe a workspace, or cargo's configuration is wrong.
    pub(super) fn of_answer(
        answer: Answer,
        platforms: Platforms,
        config: CargoConfig,
        cwd: &Utf8Path,
    ) -> Result<Self, MetadataError> {
        let Answer {
            file,
            metadata,
            kept_in,
        } = answer;
        let known = understand(file, metadata)?;
        let runners = Runners::find(&config, &platforms, &config.rustc())?;
        Ok(Self {
            graph: known.graph,
            platforms,
            config,
            runners,
            cwd: cwd.to_owned(),
            kept_in: Some(kept_in),
            answer: None,
            users_of_artifacts: BTreeSet::new(),
            rust_versions: known.rust_versions,
        })
    }

    /// Returns the answer of `cargo metadata`, if the dependencies were asked for.
    pub fn answer(&self) -> Option<&str> {
        self.answer.as_deref()
    }

    /// Returns the directory below which runs, reports and what is remembered are kept.
    pub fn kept_in(&self) -> &Utf8Path {
        self.kept_in.as_deref().unwrap_or(self.target_directory())
    }

    /// Returns the `rust-version` of a package.
    pub(super) fn rust_version(&self, package_id: &str) -> Option<&str> {
        self.rust_versions.get(package_id).map(String::as_str)
    }

    /// Returns whether a package has artifact dependencies, which are unstable as yet.
    pub(super) fn uses_artifacts(&self, package_id: &str) -> bool {
        self.users_of_artifacts.contains(package_id)
    }

    /// Returns the workspace's root directory.
    pub fn root(&self) -> &Utf8Path {
        self.graph.workspace().root()
    }

    /// Returns the directory of everything that is built.
    pub fn target_directory(&self) -> &Utf8Path {
        self.graph.workspace().target_directory()
    }

    /// Returns the directory of intermediate artifacts; often the target directory.
    pub fn build_directory(&self) -> &Utf8Path {
        self.graph
            .workspace()
            .build_directory()
            .unwrap_or(self.target_directory())
    }
}

/// An answer of `cargo metadata` from before.
pub(super) struct Answer {
    /// The file that has it, for messages.
    pub(super) file: String,
    pub(super) metadata: Value,
    /// The directory that runs are kept below.
    pub(super) kept_in: Utf8PathBuf,
}

/// Returns what is built for: what the command line says, or else what the configuration says.
fn requested_targets(
    options: &CargoOptions,
    config: &CargoConfig,
    cwd: &Utf8Path,
) -> Result<Vec<String>, ConfigError> {
    let targets = match options.target.is_empty() {
        true => config.build_targets()?,
        false => options.target.clone(),
    };
    // Like cargo, which needs one name for one specification.
    let canonical = |target: String| match target.ends_with(".json") {
        true => cwd
            .join(&target)
            .canonicalize_utf8()
            .map_or(target, Utf8PathBuf::into_string),
        false => target,
    };
    Ok(targets.into_iter().map(canonical).collect())
}

/// Returns the platforms to ask for before rustc has said what the host is. It is rarely another
/// than that of this program, so cargo need not wait for rustc.
fn assumed(targets: &[String]) -> Vec<String> {
    let host = || {
        Platform::build_target()
            .map(|platform| platform.triple_str().to_owned())
            .unwrap_or_default()
    };
    let names = targets.iter().map(|target| match target == HOST_TUPLE {
        true => host(),
        false => target.clone(),
    });
    let names: BTreeSet<String> = names.collect();
    match names.is_empty() {
        true => vec![host()],
        false => names.into_iter().collect(),
    }
}

/// Returns whether all packages that are to be tested are in a graph. Cargo also takes patterns,
/// versions and addresses, and packages outside the workspace: then the answer is no.
fn has_all(graph: &PackageGraph, packages: &[String]) -> bool {
    let workspace = graph.workspace();
    packages
        .iter()
        .all(|name| workspace.contains_name(name.as_str()))
}

/// The folder of a workspace, and its target folder.
#[derive(Debug)]
pub struct Located {
    /// The root of the workspace.
    pub root: Utf8PathBuf,
    /// The target directory.
    pub target: Utf8PathBuf,
    /// The reason why cargo did not answer, if it did not: then its configuration decides.
    pub without_cargo: Option<MetadataError>,
}

/// Returns where the workspace and its target directory are. Cargo is asked; where it fails, such
/// as for a manifest that is being edited, its configuration is read without it.
///
/// # Errors
///
/// When there is no workspace, or cargo's configuration is wrong.
pub fn locate_target(options: &CargoOptions, cwd: &Utf8Path) -> Result<Located, MetadataError> {
    let root = locate_workspace(options.manifest_path.as_deref(), cwd)?;
    let error = match members(options, cwd) {
        Ok(known) => {
            let workspace = known.graph.workspace();
            return Ok(Located {
                root: workspace.root().to_owned(),
                target: workspace.target_directory().to_owned(),
                without_cargo: None,
            });
        }
        Err(error) => error,
    };
    let target = match &options.target_dir {
        Some(directory) => Some(cwd.join(directory)),
        None => CargoConfig::load(cwd, &options.config)?.target_directory(),
    };
    Ok(Located {
        target: target.unwrap_or_else(|| root.join("target")),
        root,
        without_cargo: Some(error),
    })
}

/// Asks for the packages of the workspace only.
fn members(options: &CargoOptions, cwd: &Utf8Path) -> Result<Known, MetadataError> {
    let (command, mut metadata) = metadata(options, MetadataOf::Members, cwd)?;
    // A graph needs a resolution; this one has no edges.
    let ids = metadata.get("workspace_members").and_then(Value::as_array);
    let nodes: Vec<_> = ids
        .into_iter()
        .flatten()
        .map(|id| json!({ "id": id, "dependencies": [], "deps": [], "features": [] }))
        .collect();
    metadata["resolve"] = json!({ "nodes": nodes, "root": null });
    understand(command, metadata)
}

fn with_dependencies(
    options: &CargoOptions,
    platforms: &[String],
    cwd: &Utf8Path,
) -> Result<Known, MetadataError> {
    let (command, metadata) = metadata(options, MetadataOf::Dependencies(platforms), cwd)?;
    let answer = metadata.to_string();
    let known = understand(command, metadata)?;
    Ok(Known {
        answer: Some(answer),
        ..known
    })
}

/// The metadata.
struct Known {
    graph: PackageGraph,
    answer: Option<String>,
    users_of_artifacts: BTreeSet<String>,
    rust_versions: BTreeMap<String, String>,
}

fn understand(command: String, metadata: Value) -> Result<Known, MetadataError> {
    let users_of_artifacts = users_of_artifacts(&metadata);
    let rust_versions = rust_versions(&metadata);
    let metadata: CargoMetadata =
        serde_json::from_value(metadata).map_err(|source| MetadataError::NotJson {
            command: command.clone(),
            source,
        })?;
    let graph = metadata
        .build_graph()
        .map_err(|source| MetadataError::Malformed {
            command,
            source: Box::new(source),
        })?;
    Ok(Known {
        graph,
        answer: None,
        users_of_artifacts,
        rust_versions,
    })
}

fn rust_versions(metadata: &Value) -> BTreeMap<String, String> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let of_package = |package: &Value| {
        let text = |key: &str| package[key].as_str().map(str::to_owned);
        Some((text("id")?, text("rust_version")?))
    };
    packages.filter_map(of_package).collect()
}

/// Returns the packages with a dependency that has an `artifact`, which guppy does not read.
fn users_of_artifacts(metadata: &Value) -> BTreeSet<String> {
    let uses = |package: &&Value| {
        let dependencies = package["dependencies"].as_array();
        let is_artifact = |dependency: &Value| dependency["artifact"].is_object();
        dependencies.is_some_and(|dependencies| dependencies.iter().any(is_artifact))
    };
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages
        .filter(uses)
        .filter_map(|package| package["id"].as_str().map(str::to_owned))
        .collect()
}

/// Returns the command and its answer.
fn metadata(
    options: &CargoOptions,
    of: MetadataOf<'_>,
    cwd: &Utf8Path,
) -> Result<(String, Value), MetadataError> {
    let mut command: Command = options.metadata_command(of);
    let shown = shown(&command);
    command
        .current_dir(cwd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let child = by_fork(&mut command).spawn();
    let output = child.and_then(std::process::Child::wait_with_output);
    let output = output.map_err(|source| MetadataError::Start {
        command: shown.clone(),
        source,
    })?;
    if !output.status.success() {
        return Err(MetadataError::Failed {
            command: shown,
            status: output.status,
        });
    }
    match serde_json::from_slice(&output.stdout) {
        Ok(metadata) => Ok((shown, metadata)),
        Err(source) => Err(MetadataError::NotJson {
            command: shown,
            source,
        }),
    }
}
