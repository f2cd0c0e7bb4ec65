//! Programs that run test binaries: cargo's `runner` setting.

use super::{
    CargoConfig, ConfigError, Platforms,
    cargo_config::Set,
    rustc::{Cfgs, Compiler},
};
use cargo_platform::CfgExpr;
use std::{collections::BTreeMap, env, ffi::OsString, path::PathBuf};
use target_spec::{Platform, TargetSpec};
use thiserror::Error;

/// A program that is given a test binary and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    /// The program.
    pub program: PathBuf,
    /// Arguments before the test binary's path.
    pub args: Vec<OsString>,
    /// The place that set it, for messages.
    pub origin: String,
}

/// A runner's program is not there.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "the target runner `{}` ({origin}) does not exist{}; install it, or change the setting",
    .program.display(),
    if .program.is_absolute() { "" } else { " in any folder of `PATH`" }
)]
pub struct MissingRunner {
    /// The program.
    pub program: PathBuf,
    /// The place that set it.
    pub origin: String,
}

impl Runner {
    /// Looks for the program, as far as its name does not depend on the folder that it is started in.
    ///
    /// # Errors
    ///
    /// When it is missing.
    pub fn check(&self) -> Result<(), MissingRunner> {
        let there = if self.program.is_absolute() {
            self.program.exists()
        } else if self.program.components().count() == 1 {
            let path = env::var_os("PATH").unwrap_or_default();
            env::split_paths(&path).any(|folder| folder.join(&self.program).exists())
        } else {
            true
        };
        match there {
            true => Ok(()),
            false => Err(MissingRunner {
                program: self.program.clone(),
                origin: self.origin.clone(),
            }),
        }
    }
}

/// The runners of all platforms, with what was wrong in their settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runners {
    /// For binaries of the host, such as the tests of proc macros.
    pub host: Option<Runner>,
    /// For those of each target that was asked for, by its name.
    pub targets: BTreeMap<String, Runner>,
    /// Settings that were ignored because they make no sense, as sentences.
    pub warnings: Vec<String>,
}

impl Runners {
    /// Finds the runners. Only if a `cfg` expression has a say, rustc is asked what holds.
    pub(super) fn find(
        config: &CargoConfig,
        platforms: &Platforms,
        compiler: &Compiler,
    ) -> Result<Self, ConfigError> {
        let mut warnings = Vec::new();
        let mut find = |platform, name| {
            let finder = Finder {
                config,
                compiler,
                platform,
                name,
            };
            finder.find(&mut warnings)
        };
        let mut targets = BTreeMap::new();
        for target in &platforms.targets {
            if let Some(runner) = find(&target.platform, Some(&target.name))? {
                targets.insert(target.name.clone(), runner);
            }
        }
        let host = find(&platforms.host, None)?;
        Ok(Self {
            host,
            targets,
            warnings,
        })
    }

    /// Returns the runner for the binaries of a target, or of the host.
    pub fn get(&self, target: Option<&str>) -> Option<&Runner> {
        match target {
            None => self.host.as_ref(),
            Some(name) => self.targets.get(name),
        }
    }

    /// Returns all, each once.
    pub fn all(&self) -> Vec<&Runner> {
        let mut all: Vec<&Runner> = Vec::new();
        for runner in self.host.iter().chain(self.targets.values()) {
            if !all.contains(&runner) {
                all.push(runner);
            }
        }
        all
    }
}

struct Finder<'a> {
    config: &'a CargoConfig,
    compiler: &'a Compiler,
    platform: &'a Platform,
    /// The platform's name for rustc; `None` for the host.
    name: Option<&'a str>,
}

impl Finder<'_> {
    /// Finds what is set for the triple, or else for the one expression that holds. Cargo refuses
    /// to choose between several, and says so itself when it builds.
    fn find(&self, warnings: &mut Vec<String>) -> Result<Option<Runner>, ConfigError> {
        let triple = self.platform.triple_str();
        if let Some(set) = self.config.runner(triple)? {
            return Ok(self.runner(set, warnings));
        }
        let mut with_runner = Vec::new();
        for key in self.config.target_expressions() {
            if let Some(set) = self.config.runner(key)? {
                with_runner.push((key, set));
            }
        }
        if with_runner.is_empty() {
            return Ok(None);
        }
        let cfgs = self.cfgs();
        let holds = |key: &str| match cfgs.is_empty() {
            // Without a rustc, as where an archive is run: the platform's own values.
            true => TargetSpec::new(key.to_owned())
                .is_ok_and(|spec| spec.eval(self.platform) == Some(true)),
            false => CfgExpr::matches_key(key, &cfgs),
        };
        let found = with_runner.into_iter().find(|(key, _)| holds(key));
        Ok(found.and_then(|(_, set)| self.runner(set, warnings)))
    }

    /// Returns what holds for the platform. Flags can add to it, and expressions can add flags:
    /// like cargo, this asks again once.
    fn cfgs(&self) -> Cfgs {
        let triple = self.platform.triple_str();
        let flags = self.config.rustflags(triple, &[]);
        let cfgs = self.compiler.cfgs(self.name, &flags);
        let matching = self.config.target_expressions();
        let matching: Vec<_> = matching
            .filter(|key| CfgExpr::matches_key(key, &cfgs))
            .collect();
        let more_flags = self.config.rustflags(triple, &matching);
        match more_flags == flags {
            true => cfgs,
            false => self.compiler.cfgs(self.name, &more_flags),
        }
    }

    fn runner(&self, set: Set<Vec<String>>, warnings: &mut Vec<String>) -> Option<Runner> {
        let Set { value, origin } = set;
        let Some((program, args)) = value.split_first() else {
            warnings.push(format!("the runner in {origin} is empty and is ignored"));
            return None;
        };
        Some(Runner {
            program: self.config.program(program, &origin).into_std_path_buf(),
            args: args.iter().map(OsString::from).collect(),
            origin: origin.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_that_is_missing_is_named_with_its_setting() {
        let check = |program: &str| {
            let runner = Runner {
                program: program.into(),
                args: Vec::new(),
                origin: "file".to_owned(),
            };
            runner.check().map_err(|error| error.to_string())
        };
        assert_eq!(check("sh"), Ok(()));
        assert_eq!(check("/bin/sh"), Ok(()));
        assert_eq!(
            check("/no/such"),
            Err(
                "the target runner `/no/such` (file) does not exist; install it, or change the \
                 setting"
                    .to_owned()
            )
        );
        assert_eq!(
            check("no-such-program"),
            Err(
                "the target runner `no-such-program` (file) does not exist in any folder of \
                 `PATH`; install it, or change the setting"
                    .to_owned()
            )
        );
    }
}
