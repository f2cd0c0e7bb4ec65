//! What rustc says of the platforms: the host's triple, where the standard library lies, and which
//! `cfg` expressions hold.

use crate::sys::by_fork;
use camino::{Utf8Path, Utf8PathBuf};
use cargo_platform::Cfg;
use nextest_metadata::{
    BuildPlatform, BuildPlatformsSummary, HostPlatformSummary, PlatformLibdirSummary,
    PlatformLibdirUnavailable, TargetPlatformSummary,
};
use std::{
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
    /// Several targets were asked for.
    #[error(
        "tests cannot run for several targets at once ({}): give one `--target`",
        targets.iter().map(|target| format!("`{target}`")).collect::<Vec<_>>().join(", ")
    )]
    Targets {
        /// The targets.
        targets: Vec<String>,
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

/// The `cfg` values that hold for a platform.
pub(super) type Cfgs = Vec<Cfg>;

/// What cargo and rustc call the host when a target is asked for.
pub(super) const HOST_TUPLE: &str = "host-tuple";

/// The compiler that cargo uses.
#[derive(Clone, Debug)]
pub(super) struct Compiler {
    pub(super) program: Utf8PathBuf,
}

impl Platforms {
    /// Asks rustc; its processes run at the same time.
    pub(super) fn detect(targets: &[String], compiler: &Compiler) -> Result<Self, RustcError> {
        let named = targets.iter().find(|target| *target != HOST_TUPLE);
        let (host, host_libdir, libdir_of_named) = thread::scope(|scope| {
            let libdir_of_named =
                named.map(|target| scope.spawn(move || compiler.libdir(Some(target))));
            // Both answers from one process; rustc before 1.84 does not know `host-tuple`.
            let both = compiler.ask(&["--print", HOST_TUPLE, "--print", "target-libdir"]);
            let (host, host_libdir) = match both.as_ref().map(lines) {
                Ok(Some([host, libdir])) => (Ok(host), available(libdir)),
                _ => (compiler.verbose_host(), compiler.libdir(None)),
            };
            let libdir_of_named = libdir_of_named.map(|thread| {
                thread
                    .join()
                    .expect("asking for a directory does not panic")
            });
            (host, host_libdir, libdir_of_named)
        });
        let host = host?;
        let target = one_target(targets, &host)?;
        let target_libdir = match libdir_of_named {
            Some(libdir) if target.as_deref() != Some(&host) => libdir,
            _ => host_libdir.clone(),
        };
        Ok(Self {
            host: platform(&host)?,
            target: target.as_deref().map(platform).transpose()?,
            target_name: target,
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

    /// Returns the directory of a platform's standard library.
    pub(super) fn libdir(&self, platform: BuildPlatform) -> Option<&Utf8Path> {
        let libdir = match platform {
            BuildPlatform::Host => &self.host_libdir,
            BuildPlatform::Target => &self.target_libdir,
        };
        match libdir {
            PlatformLibdirSummary::Available { path } => Some(path),
            PlatformLibdirSummary::Unavailable { .. } => None,
        }
    }

    /// Returns the toolchain's folder.
    pub(super) fn sysroot(&self) -> Option<&Utf8Path> {
        // `SYSROOT/lib/rustlib/TRIPLE/lib`
        self.libdir(BuildPlatform::Host)?.ancestors().nth(4)
    }

    /// Returns the name of the target's folder below `target`; `None` without a target.
    pub(super) fn target_folder(&self) -> Option<&str> {
        let name = self.target_name.as_deref()?;
        let is_path = name.ends_with(".json");
        Some(match is_path {
            true => Utf8Path::new(name).file_stem().unwrap_or(name),
            false => name,
        })
    }
}

/// Returns the one target among those that were asked for, each of which may be repeated.
fn one_target(targets: &[String], host: &str) -> Result<Option<String>, RustcError> {
    let mut names: Vec<String> = targets
        .iter()
        .map(|target| match target.as_str() {
            HOST_TUPLE => host.to_owned(),
            target => target.to_owned(),
        })
        .collect();
    names.sort();
    names.dedup();
    match names.len() {
        0 | 1 => Ok(names.pop()),
        _ => Err(RustcError::Targets { targets: names }),
    }
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

impl Compiler {
    /// Returns what holds for a platform when it is compiled for with these flags. A compiler that
    /// does not answer says so again when it builds.
    pub(super) fn cfgs(&self, target: Option<&str>, flags: &[String]) -> Cfgs {
        let mut args = vec!["--print", "cfg"];
        args.extend(target_args(target));
        args.extend(flags.iter().map(String::as_str));
        let Ok(output) = self.ask(&args) else {
            return Cfgs::new();
        };
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn libdir(&self, target: Option<&str>) -> PlatformLibdirSummary {
        let mut args = vec!["--print", "target-libdir"];
        args.extend(target_args(target));
        match self.ask(&args) {
            Ok(output) if output.status.success() => match lines(&output) {
                Some([path]) => available(path),
                None => unavailable(PlatformLibdirUnavailable::RUSTC_OUTPUT_ERROR),
            },
            _ => unavailable(PlatformLibdirUnavailable::RUSTC_FAILED),
        }
    }

    fn verbose_host(&self) -> Result<String, RustcError> {
        let output = self.ask(&["-vV"]).map_err(RustcError::Run)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let host = text.lines().find_map(|line| line.strip_prefix("host: "));
        host.map(str::to_owned).ok_or_else(|| RustcError::Host {
            output: text.trim().to_owned(),
        })
    }

    fn ask(&self, args: &[&str]) -> io::Result<Output> {
        by_fork(Command::new(&self.program).args(args)).output()
    }
}

/// Returns the arguments that name a target. Specifications are unstable, as in cargo.
fn target_args(target: Option<&str>) -> Vec<&str> {
    let target = target.into_iter();
    let args = target.flat_map(|target| match target.ends_with(".json") {
        true => vec!["--target", target, "-Zunstable-options"],
        false => vec!["--target", target],
    });
    args.collect()
}

fn available(path: String) -> PlatformLibdirSummary {
    PlatformLibdirSummary::Available { path: path.into() }
}

fn unavailable(reason: PlatformLibdirUnavailable) -> PlatformLibdirSummary {
    PlatformLibdirSummary::Unavailable { reason }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_targets_are_refused_by_name() {
        let of = |targets: &[&str]| {
            let targets: Vec<String> = targets.iter().map(|name| (*name).to_owned()).collect();
            one_target(&targets, "host").map_err(|error| error.to_string())
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["a", "a"]), Ok(Some("a".to_owned())));
        assert_eq!(of(&["host", HOST_TUPLE]), Ok(Some("host".to_owned())));
        assert_eq!(
            of(&["b", HOST_TUPLE]).unwrap_err(),
            "tests cannot run for several targets at once (`b`, `host`): give one `--target`"
        );
    }
}
