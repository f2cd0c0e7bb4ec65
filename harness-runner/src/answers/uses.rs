//! The uses of an attempt: what it did with which file, address and program, from its whole trace.

mod calls;

use crate::{
    store::Found,
    tracer::record::file::{Ending, Header, ReadError},
};
use harness_metadata::{
    RawString, TraceEvent,
    event::TraceLevel,
    trace::{Address, Doubt, FileUse},
};
use serde::Serialize;
use std::{collections::BTreeMap, net::IpAddr, time::Duration};

/// Things of one attempt; what follows is counted only.
const THINGS: usize = 200_000;

/// Something that tests can share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Thing {
    /// A file, a folder, or a unix socket in one: its absolute path.
    Path(RawString),
    /// A port of an address.
    Ip(IpAddr, u16),
    /// A unix socket with an abstract name.
    Abstract(RawString),
    /// A name that a name server was asked for.
    Host(RawString),
    /// Another address, as it is shown.
    Other(String),
}

impl Thing {
    fn of(address: &Address) -> Option<Self> {
        Some(match address {
            Address::Ip { ip, port } => Self::Ip(*ip, *port),
            Address::Unix(path) => Self::Path(path.clone()),
            Address::UnixAbstract(name) => Self::Abstract(name.clone()),
            Address::UnixUnnamed | Address::Netlink => return None,
            other => Self::Other(other.to_string()),
        })
    }

    /// Returns the path, if it is one.
    pub fn path(&self) -> Option<&[u8]> {
        match self {
            Self::Path(path) => Some(path.as_bytes()),
            _ => None,
        }
    }
}

/// A way of using a thing.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Executed.
    Executed,
    /// Opened by the kernel to execute something else: an interpreter, a loader.
    Interpreted,
    /// Opened for reading.
    Read,
    /// Opened for writing.
    Written,
    /// Opened for writing, and emptied.
    Emptied,
    /// Created.
    Created,
    /// A folder was made.
    MadeFolder,
    /// Removed.
    Removed,
    /// Given another name.
    RenamedFrom,
    /// The new name of a file.
    RenamedTo,
    /// Mode, owner, times or attributes changed.
    MetadataChanged,
    /// Opened as a folder, or its entries were read.
    Listed,
    /// Made the working directory.
    Entered,
    /// Asked for its existence or metadata, or watched.
    Queried,
    /// To be created, and there already.
    Exists,
    /// Asked for, and not there.
    Missing,
    /// Asked for, and refused for another reason.
    Refused,
    /// Connected to.
    Connected,
    /// Connected to a socket of the test's own.
    ConnectedOwn,
    /// Sent to, without a connection.
    Sent,
    /// Bound.
    Bound,
    /// To be bound, and taken.
    Taken,
    /// A connection was accepted.
    Accepted,
    /// A name server was asked for it.
    Asked,
}

impl How {
    /// Returns whether it changes what another test may see.
    pub fn is_effect(self) -> bool {
        matches!(
            self,
            Self::Written
                | Self::Emptied
                | Self::Created
                | Self::MadeFolder
                | Self::Removed
                | Self::RenamedFrom
                | Self::RenamedTo
                | Self::MetadataChanged
                | Self::Bound
        )
    }

    /// Returns whether it adds a name to a folder, takes one away, or may do so.
    pub fn changes_names(self) -> bool {
        matches!(
            self,
            Self::Created | Self::MadeFolder | Self::Removed | Self::RenamedFrom | Self::RenamedTo
        )
    }

    /// Returns whether it learns something of a file.
    pub fn is_reading(self) -> bool {
        matches!(
            self,
            Self::Executed
                | Self::Interpreted
                | Self::Read
                | Self::Listed
                | Self::Entered
                | Self::Queried
                | Self::Exists
                | Self::Missing
                | Self::Refused
        )
    }

    /// Returns the words for it, the thing left out.
    pub fn words(self) -> &'static str {
        match self {
            Self::Executed => "executed",
            Self::Interpreted => "loaded to execute",
            Self::Read => "read",
            Self::Written => "opened to write",
            Self::Emptied => "opened to write from empty",
            Self::Created => "created",
            Self::MadeFolder => "made as a folder",
            Self::Removed => "removed",
            Self::RenamedFrom => "renamed",
            Self::RenamedTo => "replaced by a rename",
            Self::MetadataChanged => "changed metadata of",
            Self::Listed => "listed",
            Self::Entered => "entered",
            Self::Queried => "asked about",
            Self::Exists => "found already there",
            Self::Missing => "found absent",
            Self::Refused => "was refused",
            Self::Connected => "connected to",
            Self::ConnectedOwn => "connected to its own",
            Self::Sent => "sent to",
            Self::Bound => "bound",
            Self::Taken => "found taken",
            Self::Accepted => "accepted from",
            Self::Asked => "asked a name server for",
        }
    }
}

/// The uses of a thing in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Use {
    /// The way.
    pub how: How,
    /// The first time, since the start of the attempt.
    pub at: Duration,
    /// The last time.
    pub last: Duration,
    /// The process of the first time.
    pub pid: i32,
    /// The system call of the first time.
    pub call: String,
    /// The number of times.
    pub count: u64,
}

/// A reason why something may be missing in the uses of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The level of the trace leaves them out.
    Level(TraceLevel),
    /// A doubt of the tracer.
    Doubt(Doubt),
    /// The trace has no room for so many events.
    Dropped(u64),
    /// The file ends before the attempt did.
    Truncated,
    /// So many paths are relative to a folder that is not known.
    Unplaced(u64),
}

impl Gap {
    /// Returns it as a sentence fragment.
    pub fn words(&self) -> String {
        match self {
            Self::Level(level) => format!("the level `{}` does not see files", level.as_str()),
            Self::Doubt(doubt) => doubt.to_string(),
            Self::Dropped(events) => format!("the trace had no room for {events} events"),
            Self::Truncated => "the trace ends before the test did".to_owned(),
            Self::Unplaced(paths) => {
                format!("{paths} paths are relative to a folder that is not known")
            }
        }
    }
}

/// The uses of an attempt.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    /// Each thing with its uses, in order of their first times.
    pub things: BTreeMap<Thing, Vec<Use>>,
    /// The reasons why something may be missing.
    pub gaps: Vec<Gap>,
    /// Whether look-ups (`stat`, `access`) are not seen, as at the level `io`.
    pub blind_to_lookups: bool,
    /// The test's own process.
    pub root: i32,
    /// The start of the trace, since 1970; `None` without a file.
    pub began: Option<Duration>,
}

impl Uses {
    /// Reads an attempt's trace. Things that `wanted` refuses are left out.
    ///
    /// # Errors
    ///
    /// When it has no trace that can be read.
    pub fn of(found: &Found, wanted: &dyn Fn(&Thing) -> bool) -> Result<Self, ReadError> {
        Self::with_events(found, wanted, &mut |_, _| {})
    }

    /// As [`Self::of`], and hands each event to `each`, with the test's own process.
    ///
    /// # Errors
    ///
    /// As [`Self::of`].
    pub(super) fn with_events(
        found: &Found,
        wanted: &dyn Fn(&Thing) -> bool,
        each: &mut dyn FnMut(i32, &TraceEvent),
    ) -> Result<Self, ReadError> {
        let Some(reader) = found.trace() else {
            return Ok(Self::of_processes(found, wanted).unwrap_or_else(Self::nothing_seen));
        };
        let mut reader = match reader {
            Ok(reader) => reader,
            Err(error) => return Self::of_processes(found, wanted).ok_or(error),
        };
        let Header {
            root,
            level,
            started_at,
            ..
        } = *reader.header();
        let mut uses =
            Self::from_events(reader.by_ref().inspect(|event| each(root, event)), wanted);
        uses.root = root;
        uses.began = Some(started_at);
        if level < TraceLevel::Io {
            uses.gaps.push(Gap::Level(level));
        }
        uses.blind_to_lookups = level < TraceLevel::Full;
        let mut doubts: Vec<Doubt> = Vec::new();
        let mut dropped = 0;
        match reader.ending() {
            Some(Ending::Complete(trailer)) => {
                doubts.clone_from(&trailer.doubts);
                dropped = trailer.dropped.events;
            }
            _ => uses.gaps.push(Gap::Truncated),
        }
        if let Some(summary) = found.record.trace.as_deref() {
            doubts.extend(summary.doubts.iter().cloned());
            dropped = dropped.max(summary.dropped.events);
        }
        doubts.sort();
        doubts.dedup();
        let doubts = doubts.into_iter().filter(hides_uses);
        uses.gaps.extend(doubts.map(Gap::Doubt));
        if dropped > 0 {
            uses.gaps.push(Gap::Dropped(dropped));
        }
        Ok(uses)
    }

    /// Makes them of the summary, if the level is below that of files: a test that started no process
    /// has no file then.
    fn of_processes(found: &Found, wanted: &dyn Fn(&Thing) -> bool) -> Option<Self> {
        let summary = found.record.trace.as_deref();
        let summary = summary.filter(|it| it.level == TraceLevel::Process)?;
        let mut uses = Self {
            gaps: vec![Gap::Level(summary.level)],
            blind_to_lookups: true,
            ..Self::default()
        };
        let executed = summary.files.iter();
        let executed = executed.filter(|file| file.uses.contains(&FileUse::Executed));
        for file in executed {
            let thing = Thing::Path(file.path.clone());
            if wanted(&thing) {
                let executed = Use {
                    how: How::Executed,
                    at: Duration::ZERO,
                    last: Duration::ZERO,
                    pid: found.record.trace.as_deref()?.processes.first()?.pid,
                    call: "execve".to_owned(),
                    count: 1,
                };
                uses.things.insert(thing, vec![executed]);
            }
        }
        let doubts = summary.doubts.iter().filter(|doubt| hides_uses(doubt));
        uses.gaps.extend(doubts.cloned().map(Gap::Doubt));
        Some(uses)
    }

    fn nothing_seen() -> Self {
        Self {
            gaps: vec![Gap::Level(TraceLevel::Off)],
            ..Self::default()
        }
    }

    /// Makes them of events.
    pub fn from_events(
        events: impl Iterator<Item = TraceEvent>,
        wanted: &dyn Fn(&Thing) -> bool,
    ) -> Self {
        let mut uses = Self::default();
        let (mut unplaced, mut dropped) = (0, 0);
        for event in events {
            calls::uses_by(&event.kind, &mut |thing, how, call| {
                if thing.path().is_some_and(|path| !path.starts_with(b"/")) {
                    unplaced += u64::from(thing.path().is_some_and(|path| !path.is_empty()));
                    return;
                }
                if !wanted(&thing) {
                    return;
                }
                if uses.things.len() == THINGS && !uses.things.contains_key(&thing) {
                    dropped += 1;
                    return;
                }
                let known = uses.things.entry(thing).or_default();
                add(known, &event, how, call);
            });
        }
        if unplaced > 0 {
            uses.gaps.push(Gap::Unplaced(unplaced));
        }
        if dropped > 0 {
            uses.gaps.push(Gap::Dropped(dropped));
        }
        uses
    }

    /// Returns whether nothing can be missing, look-ups aside.
    pub fn complete(&self) -> bool {
        self.gaps.is_empty()
    }
}

fn add(known: &mut Vec<Use>, event: &TraceEvent, how: How, call: &str) {
    match known.iter_mut().find(|it| it.how == how) {
        Some(before) => {
            before.last = event.at;
            before.count += 1;
        }
        None => known.push(Use {
            how,
            at: event.at,
            last: event.at,
            pid: event.pid,
            call: call.to_owned(),
            count: 1,
        }),
    }
}

/// Returns whether a doubt can hide a use of a file, an address or a program.
fn hides_uses(doubt: &Doubt) -> bool {
    // A signal names nothing. A netlink socket, a log or a message queue is none of these things.
    !matches!(doubt, Doubt::ForeignSignal | Doubt::Untold(_))
}
