//! The messages of `cargo --message-format json`, as far as they matter here.

use camino::Utf8PathBuf;
use serde::Deserialize;

/// A line of cargo's standard output.
#[derive(Debug)]
pub(super) enum Line {
    /// A message that matters.
    Message(Message),
    /// A message that does not.
    Other,
    /// Not a message, such as a unit graph or what a compiler wrapper printed.
    Foreign,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub(super) enum Message {
    CompilerArtifact(Artifact),
    BuildScriptExecuted(BuildScript),
}

#[derive(Debug, Deserialize)]
pub(super) struct Artifact {
    pub(super) package_id: String,
    pub(super) target: Target,
    pub(super) profile: Profile,
    pub(super) filenames: Vec<Utf8PathBuf>,
    pub(super) executable: Option<Utf8PathBuf>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Target {
    pub(super) kind: Vec<String>,
    pub(super) name: String,
    pub(super) src_path: Utf8PathBuf,
}

#[derive(Debug, Deserialize)]
pub(super) struct Profile {
    pub(super) test: bool,
    /// `0` for no optimization; some versions of cargo have numbers.
    #[serde(default)]
    pub(super) opt_level: serde_json::Value,
}

#[derive(Debug, Deserialize)]
pub(super) struct BuildScript {
    pub(super) package_id: String,
    pub(super) linked_paths: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) out_dir: Utf8PathBuf,
}

impl Profile {
    /// Returns whether code may be optimized.
    pub(super) fn optimizes(&self) -> bool {
        let level = self.opt_level.as_str().map(str::to_owned);
        level.unwrap_or_else(|| self.opt_level.to_string()) != "0"
    }
}

/// Understands one line.
pub(super) fn parse(line: &[u8]) -> Result<Line, serde_json::Error> {
    #[derive(Deserialize)]
    struct Reason<'a> {
        #[serde(borrow)]
        reason: Option<std::borrow::Cow<'a, str>>,
    }
    if line.first() != Some(&b'{') {
        return Ok(Line::Foreign);
    }
    Ok(
        match serde_json::from_slice::<Reason<'_>>(line)?
            .reason
            .as_deref()
        {
            None => Line::Foreign,
            Some("compiler-artifact" | "build-script-executed") => {
                Line::Message(serde_json::from_slice(line)?)
            }
            Some(_) => Line::Other,
        },
    )
}
