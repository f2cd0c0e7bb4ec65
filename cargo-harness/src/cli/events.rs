//! The place of `--events`: a file, standard output, an inherited descriptor, a socket.

use crate::command_error::{CommandError, Kind};
use camino::Utf8Path;
use harness_runner::report::{
    Sink,
    feed::{Drain, Feed},
    json::{EmbeddedOutput, JsonLines},
    outlet::Outlet,
};
use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, OwnedFd},
};

/// Bytes of each stream of a failed test that the event stream carries.
const OUTPUT_CAP: usize = 64 * 1024;

const DESCRIPTOR: &str = "fd:";
const SOCKET: &str = "unix:";

/// The events of a run or of a recording.
#[derive(Debug, Default)]
pub(super) struct Events {
    place: Option<String>,
    /// The descriptor that the command line names.
    inherited: RefCell<Option<OwnedFd>>,
    drain: RefCell<Option<Drain>>,
}

impl Events {
    /// Returns the events for a place. An inherited descriptor is taken at once: later its number may be that of
    /// something else, and programs that are started would inherit it.
    pub(super) fn to(place: Option<&Utf8Path>) -> Result<Self, CommandError> {
        let place = place.map(|place| place.to_string());
        let number = place.as_deref().and_then(|it| it.strip_prefix(DESCRIPTOR));
        let inherited = match number.map(|number| (number, number.parse())) {
            None => None,
            Some((_, Ok(number))) => {
                let taken = Outlet::inherited(number);
                Some(taken.map_err(|source| unopened(&format!("`{DESCRIPTOR}{number}`"), source))?)
            }
            Some((number, Err(_))) => {
                let why =
                    format!("`{DESCRIPTOR}{number}` needs the number of a descriptor: `fd:3`");
                return Err(CommandError::new(Kind::Usage, why)
                    .with_hint(format!("a file of this name is `./{DESCRIPTOR}{number}`")));
            }
        };
        Ok(Self {
            place,
            inherited: RefCell::new(inherited),
            drain: RefCell::default(),
        })
    }

    /// Returns whether they go to standard output.
    pub(super) fn are_on_stdout(&self) -> bool {
        self.place.as_deref() == Some("-")
    }

    /// Returns the sink that writes them, if they are wanted.
    pub(super) fn sink(&self, cwd: &Utf8Path) -> Result<Option<Box<dyn Sink>>, CommandError> {
        let Some(place) = &self.place else {
            return Ok(None);
        };
        let embedded = EmbeddedOutput::Failures { cap: OUTPUT_CAP };
        let name = format!("`{place}`");
        let outlet = match place.strip_prefix(SOCKET) {
            Some(path) => {
                let connected = Outlet::connect(cwd.join(path).as_std_path());
                Some(connected.map_err(|source| unopened(&name, source))?)
            }
            None => {
                let inherited = self.inherited.borrow_mut().take();
                let outlet = inherited.map(Outlet::shared).transpose();
                outlet.map_err(|source| unopened(&name, source))?
            }
        };
        let Some(outlet) = outlet else {
            let (writer, name) = writer(Utf8Path::new(place), cwd)?;
            return Ok(Some(Box::new(JsonLines::new(writer, name, embedded))));
        };
        let (feed, drain) = Feed::start(outlet).map_err(|source| unopened(&name, source))?;
        *self.drain.borrow_mut() = Some(drain);
        Ok(Some(Box::new(JsonLines::new(feed, name, embedded))))
    }

    /// Waits for the reader, when the sink is gone. Returns a sentence if it did not get everything.
    pub(super) fn end(&self) -> Option<String> {
        let drain = self.drain.borrow_mut().take()?;
        let why = drain.finish()?;
        let place = self.place.as_deref().unwrap_or_default();
        Some(format!("the events to `{place}` were cut off: {why}"))
    }
}

/// Opens a file or standard output for events or messages. Returns it and its name.
pub(super) fn writer(path: &Utf8Path, cwd: &Utf8Path) -> Result<(Outlet, String), CommandError> {
    let (outlet, place) = match path.as_str() {
        "-" => {
            let stdout = io::stdout().as_fd().try_clone_to_owned();
            (
                stdout.and_then(Outlet::shared),
                "standard output".to_owned(),
            )
        }
        _ => {
            let path = cwd.join(path);
            (Outlet::create(path.as_std_path()), format!("`{path}`"))
        }
    };
    let outlet = outlet.map_err(|source| unopened(&place, source))?;
    Ok((outlet, place))
}

fn unopened(place: &str, source: io::Error) -> CommandError {
    let message = format!("failed to open {place} for the events: {source}");
    CommandError::new(Kind::Write, message)
}
