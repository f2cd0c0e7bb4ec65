//! Programs that run test binaries: cargo's `runner` setting.

use super::{CargoConfig, Platforms};
use camino::Utf8Path;
use nextest_metadata::BuildPlatform;
use std::{env, ffi::OsString, path::PathBuf};
use target_spec::{Platform, TargetSpecExpression};
use toml::Value;

/// A program that is given a test binary and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    /// The program.
    pub program: PathBuf,
    /// Arguments before the test binary's path.
    pub args: Vec<OsString>,
    /// Where it was set, for messages.
    pub origin: String,
}

/// The runners of both platforms, with what was wrong in their settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runners {
    /// For binaries of the host, such as the tests of proc macros.
    pub host: Option<Runner>,
    /// For all others.
    pub target: Option<Runner>,
    /// Settings that were ignored because they make no sense, as sentences.
    pub warnings: Vec<String>,
}

impl Runners {
    /// Finds the runners.
    pub fn find(config: &CargoConfig, platforms: &Platforms) -> Self {
        let mut warnings = Vec::new();
        let target = find(config, platforms.effective_target(), &mut warnings);
        let host = match &platforms.target {
            Some(_) => find(config, &platforms.host, &mut warnings),
            None => target.clone(),
        };
        Self {
            host,
            target,
            warnings,
        }
    }

    /// Returns the runner for a platform's binaries.
    pub fn get(&self, platform: BuildPlatform) -> Option<&Runner> {
        match platform {
            BuildPlatform::Host => self.host.as_ref(),
            BuildPlatform::Target => self.target.as_ref(),
        }
    }
}

fn find(config: &CargoConfig, platform: &Platform, warnings: &mut Vec<String>) -> Option<Runner> {
    let triple = platform.triple_str();
    let variable = format!(
        "CARGO_TARGET_{}_RUNNER",
        triple.to_uppercase().replace(['-', '.'], "_")
    );
    if let Ok(text) = env::var(&variable) {
        match words(&text) {
            Some(words) => return Some(runner(words, Utf8Path::new(""), variable)),
            None => warnings.push(format!("`{variable}` is empty and is ignored")),
        }
    }
    let expressions = config.target_keys().filter(|key| {
        key.starts_with("cfg(")
            && TargetSpecExpression::new(key)
                .is_ok_and(|expression| expression.eval(platform).unwrap_or(false))
    });
    for key in std::iter::once(triple).chain(expressions) {
        let Some((value, base)) = config.get(&["target", key, "runner"]) else {
            continue;
        };
        let origin = format!("target.'{key}'.runner");
        let parsed = match value {
            Value::String(text) => words(text),
            Value::Array(items) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .filter(|words| !words.is_empty()),
            _ => None,
        };
        match parsed {
            Some(words) => return Some(runner(words, base, origin)),
            None => warnings.push(format!(
                "`{origin}` is neither a string nor an array of strings, or is empty, and is \
                 ignored"
            )),
        }
    }
    None
}

fn words(text: &str) -> Option<Vec<String>> {
    let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
    (!words.is_empty()).then_some(words)
}

fn runner(words: Vec<String>, base: &Utf8Path, origin: String) -> Runner {
    let mut words = words.into_iter();
    let program = words.next().expect("callers pass at least one word");
    // A bare name is searched for in PATH; a path is relative to the file that names it.
    let program = if program.contains('/') {
        base.join(program).into()
    } else {
        PathBuf::from(program)
    };
    Runner {
        program,
        args: words.map(OsString::from).collect(),
        origin,
    }
}
