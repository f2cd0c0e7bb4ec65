//! Rustc's answers about the platforms: the host's triple, the folder of the standard library, and
//! the `cfg` expressions that hold.

use super::{moved::Libdirs, program::Host};
use crate::sys::by_fork;
use camino::{Utf8Path, Utf8PathBuf};
use cargo_platform::Cfg;
use nextest_metadata::{
    BuildPlatformsSummary, HostPlatformSummary, PlatformLibdirSummary, PlatformLibdirUnavailable,
    RustBuildMetaSummary, TargetPlatformSummary,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    process::{Command, Output},
    thread,
};
use target_spec::{Platform, TargetFeatures, summaries::PlatformSummary};
use thiserror::Error;

/// An error that kept rustc from answering.
#[derive(Debug, Error)]
pub enum RustcError {
    /// It did not run.
    #[error("failed to run `rustc -vV`")]
    Run(#[source] io::Error),
    /// It does not name its host.
    #[error("`rustc -vV` does not name a host platform: `{output}`")]
    Host {
        /// Its output.
        output: String,
    },
    /// A platform is not known.
    #[error("platform `{triple}` is not known")]
    Platform {
        /// The triple.
        triple: String,
        /// The reason.
        source: Box<target_spec::Error>,
    },
}

/// The platforms of a build.
#[derive(Clone, Debug)]
pub struct Platforms {
    /// The working directory of cargo.
    pub host: Platform,
    /// The targets of the tests, if they were asked for by name; ordered by name.
    pub targets: Vec<Target>,
    pub(super) host_libdir: PlatformLibdirSummary,
}

/// A platform that was asked for by name.
#[derive(Clone, Debug)]
pub struct Target {
    /// As it was asked for: a triple or the path of a specification.
    pub name: String,
    /// Its kind.
    pub platform: Platform,
    pub(super) libdir: PlatformLibdirSummary,
}

impl Target {
    /// Returns the name of its folder below `target`.
    pub fn folder(&self) -> &str {
        match self.name.ends_with(".json") {
            true => Utf8Path::new(&self.name).file_stem().unwrap_or(&self.name),
            false => &self.name,
        }
    }

    fn summary(&self) -> TargetPlatformSummary {
        TargetPlatformSummary {
            platform: PlatformSummary::from_platform(&self.platform),
            libdir: self.libdir.clone(),
        }
    }
}

/// The `cfg` values that hold for a platform.
pub(super) type Cfgs = Vec<Cfg>;

/// The name of the host for cargo and rustc when a target is requested.
pub(super) const HOST_TUPLE: &str = "host-tuple";

/// The compiler that cargo uses.
#[derive(Clone, Debug)]
pub(super) struct Compiler {
    pub(super) program: Utf8PathBuf,
    /// Its host triple, if that is known without asking: to ask takes as long as cargo takes to
    /// find that everything is built.
    pub(super) host: Option<Host>,
}

impl Platforms {
    /// Asks rustc; its processes run at the same time.
    pub(super) fn detect(targets: &[String], compiler: &Compiler) -> Result<Self, RustcError> {
        let named = distinct(targets.iter().filter(|target| *target != HOST_TUPLE));
        let (host, host_libdir, libdirs) = thread::scope(|scope| {
            let libdirs: Vec<_> = named
                .iter()
                .map(|target| scope.spawn(move || compiler.libdir(Some(target))))
                .collect();
            let (host, host_libdir) = compiler.host();
            let libdirs: Vec<_> = libdirs
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .expect("asking for a directory does not panic")
                })
                .collect();
            (host, host_libdir, libdirs)
        });
        let host = host?;
        let mut known: BTreeMap<String, PlatformLibdirSummary> =
            named.into_iter().zip(libdirs).collect();
        if targets.iter().any(|target| *target == HOST_TUPLE) {
            known.insert(host.clone(), host_libdir.clone());
        }
        let targets = known.into_iter().map(|(name, libdir)| {
            Ok(Target {
                platform: platform(&name)?,
                name,
                libdir,
            })
        });
        Ok(Self {
            host: platform(&host)?,
            targets: targets.collect::<Result<_, RustcError>>()?,
            host_libdir,
        })
    }

    /// Returns the platforms of a build that was made before.
    pub(super) fn of_summary(
        meta: &RustBuildMetaSummary,
        libdirs: Option<&Libdirs>,
    ) -> Result<Self, target_spec::Error> {
        let Some(platforms) = &meta.platforms else {
            return Self::of_old_summary(meta);
        };
        let moved = |own: &PlatformLibdirSummary, moved: Option<&Utf8PathBuf>| match libdirs {
            None => own.clone(),
            Some(_) => moved.map_or_else(
                || unavailable(PlatformLibdirUnavailable::NOT_IN_ARCHIVE),
                |path| available(path.to_string()),
            ),
        };
        let targets = platforms.targets.iter().enumerate().map(|(index, target)| {
            let platform = target.platform.to_platform()?;
            let path = libdirs.and_then(|libdirs| libdirs.targets.get(&index));
            Ok(Target {
                name: platform.triple_str().to_owned(),
                libdir: moved(&target.libdir, path),
                platform,
            })
        });
        let host_libdir = libdirs.and_then(|libdirs| libdirs.host.as_ref());
        Ok(Self {
            host: platforms.host.platform.to_platform()?,
            targets: targets.collect::<Result<_, target_spec::Error>>()?,
            host_libdir: moved(&platforms.host.libdir, host_libdir),
        })
    }

    /// Those of cargo-nextest before 0.9.72 name the targets at the most.
    fn of_old_summary(meta: &RustBuildMetaSummary) -> Result<Self, target_spec::Error> {
        let unknown = || unavailable(PlatformLibdirUnavailable::OLD_SUMMARY);
        let targets = meta.target_platform.iter().map(|name| {
            Ok(Target {
                name: name.clone(),
                platform: Platform::new(name.clone(), TargetFeatures::Unknown)?,
                libdir: unknown(),
            })
        });
        Ok(Self {
            host: Platform::build_target()?,
            targets: targets.collect::<Result<_, target_spec::Error>>()?,
            host_libdir: unknown(),
        })
    }

    /// Returns the platforms that tests run on: the targets, or the host without any.
    pub fn of_tests(&self) -> Vec<&Platform> {
        match &self.targets[..] {
            [] => vec![&self.host],
            targets => targets.iter().map(|target| &target.platform).collect(),
        }
    }

    /// Returns a target by the name of its folder.
    pub(super) fn target_in(&self, folder: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.folder() == folder)
    }

    pub(super) fn summary(&self) -> BuildPlatformsSummary {
        BuildPlatformsSummary {
            host: HostPlatformSummary {
                platform: PlatformSummary::from_platform(&self.host),
                libdir: self.host_libdir.clone(),
            },
            targets: self.targets.iter().map(Target::summary).collect(),
        }
    }

    /// Returns the directory of the standard library for a target; of the host for `None`.
    pub(super) fn libdir<'a>(&'a self, target: Option<&'a Target>) -> Option<&'a Utf8Path> {
        let libdir = target.map_or(&self.host_libdir, |target| &target.libdir);
        match libdir {
            PlatformLibdirSummary::Available { path } => Some(path),
            PlatformLibdirSummary::Unavailable { .. } => None,
        }
    }

    /// Returns the toolchain's folder.
    pub(super) fn sysroot(&self) -> Option<&Utf8Path> {
        // `SYSROOT/lib/rustlib/TRIPLE/lib`
        self.libdir(None)?.ancestors().nth(4)
    }
}

/// Returns the names without repetitions, ordered. Cargo builds for each target once, too.
fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let names: BTreeSet<&String> = names.collect();
    names.into_iter().cloned().collect()
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
    /// A compiler that has to be asked for everything.
    pub(super) fn new(program: Utf8PathBuf) -> Self {
        Self {
            program,
            host: None,
        }
    }

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

    /// Returns the host, and where its standard library is.
    fn host(&self) -> (Result<String, RustcError>, PlatformLibdirSummary) {
        if let Some(Host { triple, libdir }) = &self.host {
            return (Ok(triple.clone()), available(libdir.to_string()));
        }
        // Both answers from one process; rustc before 1.84 does not know `host-tuple`.
        let both = self.ask(&["--print", HOST_TUPLE, "--print", "target-libdir"]);
        match both.as_ref().map(lines) {
            Ok(Some([host, libdir])) => (Ok(host), available(libdir)),
            _ => (self.verbose_host(), self.libdir(None)),
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
    fn a_target_that_is_asked_for_twice_is_one() {
        let names = ["b", "a", "b"].map(str::to_owned);
        assert_eq!(distinct(names.iter()), ["a", "b"]);
    }
}
