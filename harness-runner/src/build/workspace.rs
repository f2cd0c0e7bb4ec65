//! The workspace, as `cargo metadata` and rustc know it.

use super::{
    CargoConfig, CargoOptions, ConfigError, LocateError, Platforms, Runners, RustcError,
    answers::Answers, locate_workspace, options::shown, rustc::requested_target,
};
use camino::{Utf8Path, Utf8PathBuf};
use guppy::{CargoMetadata, graph::PackageGraph};
use std::{
    io,
    process::{Command, Stdio},
    thread,
};
use target_spec::Platform;
use thiserror::Error;

/// A workspace.
#[derive(Debug)]
pub struct Workspace {
    /// Its packages.
    pub graph: PackageGraph,
    /// The platforms that it is built for.
    pub platforms: Platforms,
    /// Cargo's configuration.
    pub config: CargoConfig,
    /// What runs its test binaries.
    pub runners: Runners,
    /// Where cargo runs.
    pub cwd: Utf8PathBuf,
}

/// Why a workspace could not be loaded.
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
        /// Why.
        source: io::Error,
    },
    /// Cargo failed; it has said why on standard error.
    #[error("`{command}` failed ({status})")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// Cargo's answer is not UTF-8.
    #[error("`{command}` printed something that is not UTF-8")]
    NotUtf8 {
        /// The command line.
        command: String,
        /// Where.
        source: std::string::FromUtf8Error,
    },
    /// Cargo's answer does not describe a workspace.
    #[error("`{command}` printed something that is not understood")]
    Malformed {
        /// The command line.
        command: String,
        /// Why.
        source: Box<guppy::Error>,
    },
}

impl Workspace {
    /// Asks `cargo metadata` and rustc, at the same time.
    ///
    /// # Errors
    ///
    /// When there is no workspace, or one of them fails.
    pub fn load(options: &CargoOptions, cwd: &Utf8Path) -> Result<Self, MetadataError> {
        let root = locate_workspace(options.manifest_path.as_deref(), cwd)?;
        let config = CargoConfig::load(cwd, &options.config)?;
        let target = requested_target(options, &config);
        // Without a target, metadata is for the host. Its triple is rarely another than that of
        // this program, so cargo need not wait for rustc.
        let assumed = match &target {
            Some(target) => target.clone(),
            None => Platform::build_target()
                .map(|platform| platform.triple_str().to_owned())
                .unwrap_or_default(),
        };
        let answers = Answers::load(&target_directory(options, &config, &root, cwd), cwd);
        let (platforms, graph) = thread::scope(|scope| {
            let platforms = scope.spawn(|| Platforms::detect(target.as_deref(), &answers));
            let graph = (!assumed.is_empty()).then(|| metadata(options, &assumed, cwd, &answers));
            (
                platforms.join().expect("asking rustc does not panic"),
                graph,
            )
        });
        let platforms = platforms?;
        let host = platforms.host.triple_str();
        let graph = match graph {
            Some(graph) if target.is_some() || host == assumed => graph?,
            _ => metadata(options, host, cwd, &answers)?,
        };
        answers.save(&graph);
        let runners = Runners::find(&config, &platforms);
        Ok(Self {
            graph,
            platforms,
            config,
            runners,
            cwd: cwd.to_owned(),
        })
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

/// Returns the root of the workspace and its target directory, without asking cargo.
///
/// # Errors
///
/// When there is no workspace, or cargo's configuration is wrong.
pub fn locate_target(
    manifest_path: Option<&Utf8Path>,
    target_dir: Option<&Utf8Path>,
    cwd: &Utf8Path,
) -> Result<(Utf8PathBuf, Utf8PathBuf), MetadataError> {
    let root = locate_workspace(manifest_path, cwd)?;
    let config = CargoConfig::load(cwd, &[])?;
    let options = CargoOptions {
        target_dir: target_dir.map(Utf8Path::to_owned),
        ..CargoOptions::default()
    };
    let target = target_directory(&options, &config, &root, cwd);
    Ok((root, target))
}

/// Returns where cargo is likely to put what it builds. A wrong guess costs time only: what is
/// remembered is then not found.
fn target_directory(
    options: &CargoOptions,
    config: &CargoConfig,
    root: &Utf8Path,
    cwd: &Utf8Path,
) -> Utf8PathBuf {
    let from_environment = || {
        std::env::var("CARGO_TARGET_DIR")
            .ok()
            .filter(|dir| !dir.is_empty())
    };
    if let Some(directory) = &options.target_dir {
        return cwd.join(directory);
    }
    if let Some(directory) = from_environment() {
        return cwd.join(directory);
    }
    match config.get(&["build", "target-dir"]) {
        Some((toml::Value::String(directory), base)) => base.join(directory),
        _ => root.join("target"),
    }
}

fn metadata(
    options: &CargoOptions,
    platform: &str,
    cwd: &Utf8Path,
    answers: &Answers,
) -> Result<PackageGraph, MetadataError> {
    let mut command: Command = options.metadata_command(platform);
    let shown = shown(&command);
    command
        .current_dir(cwd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let run = |command: &mut Command| command.spawn()?.wait_with_output();
    let output = answers
        .ask(&mut command, run)
        .map_err(|source| MetadataError::Start {
            command: shown.clone(),
            source,
        })?;
    if !output.status.success() {
        return Err(MetadataError::Failed {
            command: shown,
            status: output.status,
        });
    }
    let json = String::from_utf8(output.stdout).map_err(|source| MetadataError::NotUtf8 {
        command: shown.clone(),
        source,
    })?;
    CargoMetadata::parse_json(json)
        .and_then(CargoMetadata::build_graph)
        .map_err(|source| MetadataError::Malformed {
            command: shown,
            source: Box::new(source),
        })
}
