//! Questions about the uses of tests: a file, folder or glob, an address, a program.

use super::{
    rules::Roots,
    uses::{How, Thing},
};
use camino::Utf8Path;
use globset::{GlobBuilder, GlobMatcher};
use harness_metadata::noise::file_name;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::ffi::OsStrExt,
    path::Path,
};
use thiserror::Error;

/// A mistake in a question.
#[derive(Debug, Error)]
pub enum QuestionError {
    /// It is empty.
    #[error("an empty name is nothing that a test can use")]
    Empty,
    /// The glob makes no sense.
    #[error("`{text}` is no glob")]
    Glob {
        /// The glob.
        text: String,
        /// The reason.
        source: globset::Error,
    },
    /// It is no address.
    #[error("`{0}` is neither a port, nor HOST:PORT, nor the path of a unix socket, nor `@NAME`")]
    Address(String),
}

/// Files: one and what is below it, or those that a glob has.
#[derive(Clone, Debug)]
pub struct Files {
    text: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Its absolute paths: as given, and with links followed.
    These(Vec<Vec<u8>>),
    Glob(GlobMatcher),
}

/// The way in which a use concerns files that are asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Concern {
    /// It is one of them, or below it.
    Itself,
    /// It is a folder above it.
    Above,
}

impl Files {
    /// Interprets a path or a glob. A relative one begins at `cwd`, and `~/` in the home folder. A
    /// path that is there is no glob.
    ///
    /// # Errors
    ///
    /// When it is empty, or a glob that makes no sense.
    pub fn new(text: &str, cwd: &Utf8Path, roots: &Roots) -> Result<Self, QuestionError> {
        if text.is_empty() {
            return Err(QuestionError::Empty);
        }
        let home = roots.home.as_deref();
        let absolute = match (text.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ if text == "~" => home.unwrap_or(Utf8Path::new("/")).to_owned(),
            _ => cwd.join(text),
        };
        let absolute = lexical(absolute.as_str());
        let is_glob = text.contains(['*', '?', '[', '{']);
        let there = Path::new(&absolute).symlink_metadata().is_ok();
        let kind = match is_glob && !there {
            true => {
                let glob = GlobBuilder::new(&absolute).literal_separator(true).build();
                let glob = glob.map_err(|source| QuestionError::Glob {
                    text: text.to_owned(),
                    source,
                })?;
                Kind::Glob(glob.compile_matcher())
            }
            false => {
                let mut paths = vec![absolute.clone().into_bytes()];
                paths.extend(followed(Path::new(&absolute)));
                paths.dedup();
                Kind::These(paths)
            }
        };
        Ok(Self {
            text: text.to_owned(),
            kind,
        })
    }

    /// Returns them as they were given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns whether a path concerns them.
    pub fn concern(&self, path: &[u8]) -> Option<Concern> {
        match &self.kind {
            Kind::Glob(glob) => {
                let path = Path::new(std::ffi::OsStr::from_bytes(path));
                glob.is_match(path).then_some(Concern::Itself)
            }
            Kind::These(paths) => paths.iter().find_map(|own| {
                if is_in(path, own) {
                    Some(Concern::Itself)
                } else if is_in(own, path) {
                    Some(Concern::Above)
                } else {
                    None
                }
            }),
        }
    }

    /// Returns whether a path is the folder that one of them is in.
    fn is_folder_of(&self, path: &[u8]) -> bool {
        match &self.kind {
            Kind::Glob(_) => false,
            Kind::These(paths) => paths.iter().any(|own| {
                let parent = &own[..own.len() - file_name(own).len()];
                parent.strip_suffix(b"/").unwrap_or_default() == path
            }),
        }
    }

    /// Returns whether they name what a rule would leave out as noise, and so ask for it.
    pub fn ask_for(&self, is_noise: impl Fn(&Thing) -> bool) -> bool {
        match &self.kind {
            Kind::Glob(_) => false,
            Kind::These(paths) => {
                let mut paths = paths.iter();
                paths.any(|path| is_noise(&Thing::Path(path.clone().into())))
            }
        }
    }
}

/// Returns whether a path is a folder or something in it.
fn is_in(path: &[u8], folder: &[u8]) -> bool {
    let folder = folder.strip_suffix(b"/").unwrap_or(folder);
    match path.strip_prefix(folder) {
        Some(rest) => rest.is_empty() || rest[0] == b'/',
        None => false,
    }
}

/// Returns the path with its links followed, or those of the nearest folder that is there.
fn followed(path: &Path) -> Option<Vec<u8>> {
    let mut below = Vec::new();
    let mut at = path;
    loop {
        if let Ok(there) = at.canonicalize() {
            let whole = below.iter().rev().fold(there, |path, name| path.join(name));
            return Some(whole.as_os_str().as_bytes().to_vec());
        }
        below.push(at.file_name()?.to_owned());
        at = at.parent()?;
    }
}

/// Returns an absolute path without `.`, `..` and double slashes.
fn lexical(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

/// An address that tests connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A port of any address.
    Port(u16),
    /// A port of these addresses.
    Ip(Vec<IpAddr>, u16),
    /// A port, for tests that have asked a name server for this name.
    Host(String, u16),
    /// A unix socket, by its path or its abstract name.
    Unix(Thing),
}

impl Peer {
    /// Interprets a port, HOST:PORT, the path of a unix socket or `@NAME`.
    ///
    /// # Errors
    ///
    /// When it is none of these.
    pub fn new(text: &str, cwd: &Utf8Path, roots: &Roots) -> Result<Self, QuestionError> {
        if text.is_empty() {
            return Err(QuestionError::Empty);
        }
        if let Some(name) = text.strip_prefix('@') {
            return Ok(Self::Unix(Thing::Abstract(name.into())));
        }
        if text.contains('/') {
            let home = roots.home.as_deref();
            let path = match (text.strip_prefix("~/"), home) {
                (Some(rest), Some(home)) => home.join(rest),
                _ => cwd.join(text),
            };
            return Ok(Self::Unix(Thing::Path(
                lexical(path.as_str()).as_str().into(),
            )));
        }
        let wrong = || QuestionError::Address(text.to_owned());
        if let Ok(port) = text.parse() {
            return Ok(Self::Port(port));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let bare = bare.unwrap_or(host);
        Ok(match bare.parse::<IpAddr>() {
            Ok(ip) => Self::Ip(vec![ip], port),
            Err(_) if bare == "localhost" => {
                let both = [
                    IpAddr::from(Ipv4Addr::LOCALHOST),
                    Ipv6Addr::LOCALHOST.into(),
                ];
                Self::Ip(both.to_vec(), port)
            }
            Err(_) if bare.is_empty() || bare.contains(':') => return Err(wrong()),
            Err(_) => Self::Host(bare.trim_end_matches('.').to_ascii_lowercase(), port),
        })
    }

    /// Returns whether a thing is it.
    fn is(&self, thing: &Thing) -> bool {
        match (self, thing) {
            (Self::Port(port) | Self::Host(_, port), Thing::Ip(_, other)) => port == other,
            (Self::Ip(ips, port), Thing::Ip(ip, other)) => {
                let canonical = ip.to_canonical();
                port == other && ips.iter().any(|own| own.to_canonical() == canonical)
            }
            (Self::Unix(own), thing) => own == thing,
            _ => false,
        }
    }
}

/// A program: by its name, its path, or a glob of paths.
#[derive(Clone, Debug)]
pub enum Program {
    /// The last name of its path.
    Name(String),
    /// Its path.
    Path(Files),
}

/// A question about the uses of tests.
#[derive(Clone, Debug)]
pub enum Question {
    /// The tests that read files, or ask for them.
    Reads(Files),
    /// The tests that write, create, rename or remove files.
    Writes(Files),
    /// The tests that read or write any of these.
    Touches(Vec<Files>),
    /// The tests that connect to an address.
    Connects(Peer),
    /// The tests that run a program.
    Runs(Program),
}

impl Question {
    /// Returns whether a use is an answer.
    pub fn is_answered_by(&self, thing: &Thing, how: How) -> bool {
        match self {
            Self::Reads(files) => reads(files, thing, how),
            Self::Writes(files) => writes(files, thing, how),
            Self::Touches(all) => all
                .iter()
                .any(|files| reads(files, thing, how) || writes(files, thing, how)),
            Self::Connects(peer) => {
                matches!(how, How::Connected | How::ConnectedOwn | How::Sent) && peer.is(thing)
            }
            Self::Runs(program) => {
                matches!(how, How::Executed | How::Interpreted) && program.is(thing)
            }
        }
    }

    /// Returns whether any use of a thing can be an answer.
    pub fn concerns(&self, thing: &Thing) -> bool {
        match self {
            Self::Reads(files) | Self::Writes(files) => about(files, thing),
            Self::Touches(all) => all.iter().any(|files| about(files, thing)),
            Self::Connects(peer) => peer.is(thing) || matches!(thing, Thing::Host(_)),
            Self::Runs(program) => program.is(thing),
        }
    }

    /// Returns the name that a test must have asked a name server for.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Connects(Peer::Host(host, _)) => Some(host),
            _ => None,
        }
    }

    /// Returns whether a trace without look-ups may lack answers.
    pub fn needs_lookups(&self) -> bool {
        matches!(self, Self::Reads(_) | Self::Touches(_))
    }

    /// Returns whether it names noise, and so asks for it.
    pub fn asks_for(&self, is_noise: impl Fn(&Thing) -> bool) -> bool {
        match self {
            Self::Reads(files) | Self::Writes(files) => files.ask_for(is_noise),
            Self::Touches(_) | Self::Connects(_) | Self::Runs(_) => true,
        }
    }
}

fn about(files: &Files, thing: &Thing) -> bool {
    thing
        .path()
        .is_some_and(|path| files.concern(path).is_some())
}

fn reads(files: &Files, thing: &Thing, how: How) -> bool {
    let Some(path) = thing.path() else {
        return false;
    };
    match files.concern(path) {
        Some(Concern::Itself) => how.is_reading() || matches!(how, How::Connected | How::Sent),
        // Its name is in the list.
        Some(Concern::Above) => how == How::Listed && files.is_folder_of(path),
        None => false,
    }
}

fn writes(files: &Files, thing: &Thing, how: How) -> bool {
    let Some(path) = thing.path() else {
        return false;
    };
    match files.concern(path) {
        Some(Concern::Itself) => how.is_effect(),
        // It goes along.
        Some(Concern::Above) => {
            matches!(how, How::Removed | How::RenamedFrom | How::RenamedTo)
        }
        None => false,
    }
}

impl Program {
    /// Interprets a program: with a slash it is a path or a glob.
    ///
    /// # Errors
    ///
    /// When it is empty, or a glob that makes no sense.
    pub fn new(text: &str, cwd: &Utf8Path, roots: &Roots) -> Result<Self, QuestionError> {
        if text.is_empty() {
            return Err(QuestionError::Empty);
        }
        match text.contains('/') {
            true => Files::new(text, cwd, roots).map(Self::Path),
            false => Ok(Self::Name(text.to_owned())),
        }
    }

    fn is(&self, thing: &Thing) -> bool {
        let Some(path) = thing.path() else {
            return false;
        };
        match self {
            Self::Name(name) => file_name(path) == name.as_bytes(),
            Self::Path(files) => files.concern(path) == Some(Concern::Itself),
        }
    }
}
