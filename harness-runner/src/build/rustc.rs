//! What rustc says of the platforms: the host's triple, and where the standard library lies.

use super::{CargoOptions, answers::Answers};
use camino::Utf8PathBuf;
use nextest_metadata::{
    BuildPlatformsSummary, HostPlatformSummary, PlatformLibdirSummary, PlatformLibdirUnavailable,
    TargetPlatformSummary,
};
use std::{
    env,
    ffi::OsString,
    io,
    path::Path,
    process::{Command, Output},
    thread,
};
use target_spec::{Platform, TargetFeatures, summaries::PlatformSummary};
use thiserror::Error;

/// Why rustc's word could not be had.
#[derive(Debug, Error)]
pub enum RustcError {
    /// It did not run.
    #[error("failed to run `rustc -vV`")]
    Run(#[source] io::Error),
    /// It does not name its host.
    #[error("`rustc -vV` does not name a host platform: `{output}`")]
    Host {
        /// What it said.
        output: String,
    },
    /// A platform is not known.
    #[error("platform `{triple}` is not known")]
    Platform {
        /// The triple.
        triple: String,
        /// Why.
        source: Box<target_spec::Error>,
    },
}

/// The platforms of a build.
#[derive(Clone, Debug)]
pub struct Platforms {
    /// Where cargo runs.
    pub host: Platform,
    /// Where the tests run, if that was asked for by name.
    pub target: Option<Platform>,
    /// The target as it was asked for: a triple or the path of a specification.
    pub target_name: Option<String>,
    pub(super) host_libdir: PlatformLibdirSummary,
    pub(super) target_libdir: PlatformLibdirSummary,
}

impl Platforms {
    /// Asks rustc; its processes run at the same time.
    pub(super) fn detect(target: Option<&str>, answers: &Answers) -> Result<Self, RustcError> {
        let (host, host_libdir, target_libdir) = thread::scope(|scope| {
            let libdir_of_target =
                target.map(|target| scope.spawn(move || libdir(Some(target), answers)));
            // Both answers from one process; rustc before 1.84 does not know `host-tuple`.
            let both = rustc(
                &["--print", "host-tuple", "--print", "target-libdir"],
                answers,
            );
            let (host, host_libdir) = match both.as_ref().map(lines) {
                Ok(Some([host, libdir])) => (Ok(host), available(libdir)),
                _ => (verbose_host(answers), libdir(None, answers)),
            };
            let target_libdir = match libdir_of_target {
                Some(thread) => thread
                    .join()
                    .expect("asking for a directory does not panic"),
                None => host_libdir.clone(),
            };
            (host, host_libdir, target_libdir)
        });
        Ok(Self {
            host: platform(&host?)?,
            target: target.map(platform).transpose()?,
            target_name: target.map(str::to_owned),
            host_libdir,
            target_libdir,
        })
    }

    /// Returns the platform that tests run on.
    pub fn effective_target(&self) -> &Platform {
        self.target.as_ref().unwrap_or(&self.host)
    }

    pub(super) fn summary(&self) -> BuildPlatformsSummary {
        let target = |platform: &Platform| TargetPlatformSummary {
            platform: PlatformSummary::from_platform(platform),
            libdir: self.target_libdir.clone(),
        };
        BuildPlatformsSummary {
            host: HostPlatformSummary {
                platform: PlatformSummary::from_platform(&self.host),
                libdir: self.host_libdir.clone(),
            },
            targets: self.target.iter().map(target).collect(),
        }
    }

    /// Returns the directories of the standard library, the target's first.
    pub(super) fn libdirs(&self) -> impl Iterator<Item = &Utf8PathBuf> {
        let [target, host] = [&self.target_libdir, &self.host_libdir].map(|libdir| match libdir {
            PlatformLibdirSummary::Available { path } => Some(path),
            PlatformLibdirSummary::Unavailable { .. } => None,
        });
        target
            .into_iter()
            .chain(host.filter(|host| Some(*host) != target))
    }
}

/// Returns the target that was asked for on the command line or in cargo's configuration.
pub(super) fn requested_target(
    options: &CargoOptions,
    config: &super::CargoConfig,
) -> Option<String> {
    let from_environment = || {
        env::var("CARGO_BUILD_TARGET")
            .ok()
            .filter(|name| !name.is_empty())
    };
    options
        .target
        .clone()
        .or_else(from_environment)
        .or_else(|| config.build_target())
}

fn platform(name: &str) -> Result<Platform, RustcError> {
    let failed = |source| RustcError::Platform {
        triple: name.to_owned(),
        source: Box::new(source),
    };
    if !name.ends_with(".json") {
        return Platform::new(name.to_owned(), TargetFeatures::Unknown).map_err(failed);
    }
    let path = Path::new(name);
    let json = std::fs::read_to_string(path).map_err(RustcError::Run)?;
    let triple = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Platform::new_custom(triple, &json, TargetFeatures::Unknown).map_err(failed)
}

fn libdir(target: Option<&str>, answers: &Answers) -> PlatformLibdirSummary {
    let mut args = vec!["--print", "target-libdir"];
    args.extend(target.into_iter().flat_map(|target| ["--target", target]));
    match rustc(&args, answers) {
        Ok(output) if output.status.success() => match lines(&output) {
            Some([path]) => available(path),
            None => unavailable(PlatformLibdirUnavailable::RUSTC_OUTPUT_ERROR),
        },
        _ => unavailable(PlatformLibdirUnavailable::RUSTC_FAILED),
    }
}

fn available(path: String) -> PlatformLibdirSummary {
    PlatformLibdirSummary::Available { path: path.into() }
}

fn unavailable(reason: PlatformLibdirUnavailable) -> PlatformLibdirSummary {
    PlatformLibdirSummary::Unavailable { reason }
}

fn verbose_host(answers: &Answers) -> Result<String, RustcError> {
    let output = rustc(&["-vV"], answers).map_err(RustcError::Run)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| RustcError::Host {
        output: text.trim().to_owned(),
    })
}

fn rustc(args: &[&str], answers: &Answers) -> io::Result<Output> {
    let program = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    answers.ask(Command::new(program).args(args), Command::output)
}

/// Returns the lines of a success, if there are as many as expected.
fn lines<const N: usize>(output: &Output) -> Option<[String; N]> {
    let text = std::str::from_utf8(&output.stdout)
        .ok()
        .filter(|_| output.status.success())?;
    text.lines()
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .try_into()
        .ok()
}
