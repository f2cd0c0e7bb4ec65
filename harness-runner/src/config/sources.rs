//! The files that a configuration is read from, and their precedence.

use super::{
    Config, ConfigError, ConfigWarning, DEFAULT_PATH, Dialect, PEER_PATH, Standing,
    file::{self, FileTables, RUNS_DIR},
    names::is_identifier,
    parse::{Context, Document, Found, Table},
    version,
};
use camino::{Utf8Path, Utf8PathBuf};
use std::{fs, io, str::FromStr, sync::Arc};
use thiserror::Error;

/// The source of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A file instead of the workspace's own.
    pub config_file: Option<Utf8PathBuf>,
    /// Files of tools, which the workspace's own beats; an earlier one beats a later one.
    pub tool_files: Vec<ToolFile>,
    /// Whether to go on with a version that is older than required.
    pub override_version_check: bool,
}

/// A configuration file that a tool brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolFile {
    /// The tool's name.
    pub tool: String,
    /// The file, as an absolute path.
    pub path: Utf8PathBuf,
}

/// An error in the name of a tool's file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not of the form `TOOL:/ABSOLUTE/PATH`")]
pub struct InvalidToolFile(String);

impl FromStr for ToolFile {
    type Err = InvalidToolFile;

    fn from_str(text: &str) -> Result<Self, InvalidToolFile> {
        let invalid = || InvalidToolFile(text.to_owned());
        let (tool, path) = text.split_once(':').ok_or_else(invalid)?;
        let path = Utf8PathBuf::from(path);
        if !is_identifier(tool) || !path.is_absolute() {
            return Err(invalid());
        }
        Ok(Self {
            tool: tool.to_owned(),
            path,
        })
    }
}

/// A file before it is parsed.
struct Source {
    document: Document,
    tool: Option<String>,
}

/// Reads all files.
pub(super) fn load(
    root: &Utf8Path,
    sources: &Sources,
) -> Result<(Config, Vec<ConfigWarning>), ConfigError> {
    let (config, found, order) = load_all(root, sources)?;
    Ok((config, finish(found, &order)?))
}

/// Reads the folder for recorded runs, relative to the workspace root, if one is chosen: of that key and of
/// nothing else.
///
/// # Errors
///
/// When a file cannot be read, or that key makes no sense.
pub fn runs_dir(root: &Utf8Path, sources: &Sources) -> Result<Option<Utf8PathBuf>, ConfigError> {
    // Past runs are there for an older program too.
    let sources = Sources {
        override_version_check: true,
        ..sources.clone()
    };
    let (config, found, _) = load_all(root, &sources)?;
    let mistakes = found.mistakes.into_inner().into_iter();
    ConfigError::of(
        mistakes
            .filter(|mistake| mistake.is_about(RUNS_DIR))
            .collect(),
    )?;
    Ok(config.runs_dir)
}

/// Reads all files, whatever mistakes they have, unless one is not TOML.
pub(super) fn load_all(
    root: &Utf8Path,
    sources: &Sources,
) -> Result<(Config, Found, Vec<Arc<Utf8Path>>), ConfigError> {
    let mut dialect = Dialect::Harness;
    let own = match &sources.config_file {
        Some(path) => {
            if path.file_name() == Utf8Path::new(PEER_PATH).file_name() {
                dialect = Dialect::Peer;
            }
            Some(named(root, path)?)
        }
        None => match read(root, &root.join(DEFAULT_PATH))? {
            Some(document) => Some(document),
            None => {
                let peer = read(root, &root.join(PEER_PATH))?;
                if peer.is_some() {
                    dialect = Dialect::Peer;
                }
                peer
            }
        },
    };
    let mut files = Vec::new();
    files.extend(own.map(|document| Source {
        document,
        tool: None,
    }));
    for file in &sources.tool_files {
        files.push(Source {
            document: named(root, &file.path)?,
            tool: Some(file.tool.clone()),
        });
    }
    combine(&files, dialect, sources.override_version_check)
}

/// Reads one text.
pub(super) fn parse(
    file: &Utf8Path,
    text: String,
) -> Result<(Config, Vec<ConfigWarning>), ConfigError> {
    let peer = file.file_name() == Utf8Path::new(PEER_PATH).file_name();
    let dialect = if peer {
        Dialect::Peer
    } else {
        Dialect::Harness
    };
    parse_as(file, text, dialect)
}

/// Reads one text, with the defaults of `dialect`.
pub(super) fn parse_as(
    file: &Utf8Path,
    text: String,
    dialect: Dialect,
) -> Result<(Config, Vec<ConfigWarning>), ConfigError> {
    let source = Source {
        document: Document {
            file: Arc::from(file),
            text,
        },
        tool: None,
    };
    let (config, found, order) = combine(&[source], dialect, false)?;
    Ok((config, finish(found, &order)?))
}

/// Reads a file that must be there.
pub(super) fn named(root: &Utf8Path, path: &Utf8Path) -> Result<Document, ConfigError> {
    read(root, path)?.ok_or_else(|| ConfigError::Missing {
        file: path.strip_prefix(root).unwrap_or(path).to_owned(),
    })
}

pub(super) fn read(root: &Utf8Path, path: &Utf8Path) -> Result<Option<Document>, ConfigError> {
    let file = path.strip_prefix(root).unwrap_or(path);
    let unreadable = |source| ConfigError::Read {
        file: file.to_owned(),
        source,
    };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        unreadable(io::Error::new(
            io::ErrorKind::InvalidData,
            error.utf8_error(),
        ))
    })?;
    Ok(Some(Document {
        file: Arc::from(file),
        text,
    }))
}

/// Parses files, the one of highest precedence first, and puts them together.
fn combine(
    sources: &[Source],
    dialect: Dialect,
    override_version_check: bool,
) -> Result<(Config, Found, Vec<Arc<Utf8Path>>), ConfigError> {
    let (roots, broken): (Vec<_>, Vec<_>) = sources
        .iter()
        .map(|source| source.document.parse())
        .partition(Result::is_ok);
    // A file that is not TOML may have what others name.
    ConfigError::of(broken.into_iter().filter_map(Result::err).collect())?;
    let roots: Vec<_> = roots.into_iter().flatten().collect();
    let found = Found::default();
    let mut files = Vec::new();
    // A file may name the groups of those that it beats.
    for (source, root) in sources.iter().zip(&roots).rev() {
        let context = Context {
            document: &source.document,
            found: &found,
        };
        let requirements = version::read(&mut Table::root(context, root));
        for requirement in requirements.iter().filter(|asked| !asked.holds()) {
            let requirement = requirement.clone();
            let warning = match requirement.standing {
                Standing::Recommended => ConfigWarning::RecommendedVersion(requirement),
                Standing::Required if override_version_check => {
                    ConfigWarning::IgnoredVersion(requirement)
                }
                // Other mistakes may be none to a newer version.
                Standing::Required => return Err(ConfigError::RequiredVersion(requirement)),
            };
            found.warnings.borrow_mut().push(warning);
        }
        let table = Table::root(context, root);
        files.push(file::read(table, requirements, source.tool.as_deref()));
    }
    files.reverse();
    let files: Vec<FileTables> = files;
    let unused = found.scripts.take().into_iter();
    let unused = unused.filter(|script| !script.used);
    found
        .warnings
        .borrow_mut()
        .extend(unused.map(|script| ConfigWarning::UnusedScript {
            place: script.place,
            noun: script.kind.noun(),
            name: script.name,
        }));
    let config = Config::from_files(files, dialect);
    for mistake in file::check_inheritance(&config.profiles) {
        found.note(mistake);
    }
    let files = sources.iter();
    let files = files.map(|source| Arc::clone(&source.document.file));
    Ok((config, found, files.collect()))
}

/// Returns the warnings of files, or all of their mistakes, in the order of files and places.
pub(super) fn finish(
    found: Found,
    files: &[Arc<Utf8Path>],
) -> Result<Vec<ConfigWarning>, ConfigError> {
    let mut mistakes = found.mistakes.into_inner();
    mistakes.sort_by_key(|mistake| {
        let place = mistake.place()?;
        let file = files.iter().position(|file| *file == place.file);
        Some((file, place.line, place.column))
    });
    ConfigError::of(mistakes)?;
    Ok(sorted(found.warnings.into_inner()))
}

/// Returns warnings in the order of their places, with one for all keys that have no effect.
fn sorted(warnings: Vec<ConfigWarning>) -> Vec<ConfigWarning> {
    let mut unsupported = Vec::new();
    let mut sorted = Vec::new();
    for warning in warnings {
        match warning {
            ConfigWarning::UnsupportedKeys(keys) => unsupported.extend(keys),
            warning => sorted.push(warning),
        }
    }
    if !unsupported.is_empty() {
        unsupported.sort_by_key(|(place, _)| (place.line, place.column));
        sorted.push(ConfigWarning::UnsupportedKeys(unsupported));
    }
    sorted.sort_by_key(|warning| (warning.place().line, warning.place().column));
    sorted
}
