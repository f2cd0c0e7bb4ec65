//! Bytes for a reader that a run does not wait for.
//!
//! A thread of its own hands them on. What the reader has not taken waits in bounded memory; when that is full, or
//! the reader is gone, the rest is left out, which [`Drain::finish`] says.

use super::outlet::Outlet;
use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// The most bytes that wait for the reader.
const WAITING: usize = 16 * 1024 * 1024;

/// The time that a reader has at the end to take what waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// The writing end.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
    most: usize,
}

/// The end of a feed, to be awaited when the run is over.
#[derive(Debug)]
pub struct Drain {
    shared: Arc<Shared>,
    patience: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The reason why the reader does not get everything.
    cut_off: Option<String>,
    /// Nothing more is written.
    closed: bool,
    /// The thread has ended, and the reader has seen the end.
    ended: bool,
}

impl Feed {
    /// Begins to feed a reader.
    ///
    /// # Errors
    ///
    /// When there is no thread to be had.
    pub fn start(outlet: Outlet) -> io::Result<(Self, Drain)> {
        let shared = Arc::new(Shared::default());
        let here = Arc::clone(&shared);
        let thread = thread::Builder::new().name("events".to_owned());
        thread.spawn(move || here.hand_on(outlet))?;
        let feed = Self {
            shared: Arc::clone(&shared),
            most: WAITING,
        };
        let patience = PATIENCE;
        Ok((feed, Drain { shared, patience }))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A state is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits until nothing more comes.
    fn hand_on(&self, mut outlet: Outlet) {
        while let Some(bytes) = self.next() {
            if let Err(error) = outlet.write_all(&bytes) {
                let mut state = self.state();
                state.cut_off.get_or_insert(error.to_string());
                state.waiting.clear();
                state.bytes = 0;
                break;
            }
        }
        drop(outlet);
        self.state().ended = true;
        self.changed.notify_all();
    }

    fn next(&self) -> Option<Vec<u8>> {
        let state = self.state();
        let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let waited = self.changed.wait_while(state, idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let bytes = state.waiting.pop_front()?;
        state.bytes -= bytes.len();
        Some(bytes)
    }
}

impl Write for Feed {
    /// Takes all bytes, whatever becomes of them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.shared.state();
        if state.cut_off.is_some() {
            return Ok(bytes.len());
        }
        if state.bytes + bytes.len() > self.most {
            let why = "the reader is slower than the run";
            state.cut_off = Some(why.to_owned());
            return Ok(bytes.len());
        }
        state.bytes += bytes.len();
        state.waiting.push_back(bytes.to_vec());
        drop(state);
        self.shared.changed.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Drain {
    /// Waits for the reader to take the rest, for some seconds at most. Returns why it did not get everything, if
    /// so.
    pub fn finish(self) -> Option<String> {
        let state = self.shared.state();
        let busy = |state: &mut State| !state.ended;
        let waited = self
            .shared
            .changed
            .wait_timeout_while(state, self.patience, busy);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if !state.ended && state.cut_off.is_none() {
            let seconds = self.patience.as_secs();
            let why = format!("the reader has not read the rest within {seconds} seconds");
            state.cut_off = Some(why);
        }
        state.cut_off.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Read,
        os::{fd::OwnedFd, unix::net::UnixStream},
    };

    fn feed() -> (UnixStream, Feed, Drain) {
        let (reader, writer) = UnixStream::pair().expect("there are descriptors");
        let outlet = Outlet::shared(OwnedFd::from(writer)).expect("it is open");
        let (feed, drain) = Feed::start(outlet).expect("there is a thread");
        (reader, feed, drain)
    }

    #[test]
    fn a_reader_gets_everything_and_the_end() {
        let (mut reader, mut feed, drain) = feed();
        let thread = thread::spawn(move || {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).expect("it can be read");
            read
        });
        let mut expected = Vec::new();
        for number in 0..10_000 {
            let line = format!("line {number}\n");
            feed.write_all(line.as_bytes())
                .expect("it takes everything");
            expected.extend_from_slice(line.as_bytes());
        }
        drop(feed);
        assert_eq!(thread.join().expect("no panic"), expected);
        assert_eq!(drain.finish(), None);
    }

    #[test]
    fn a_reader_that_does_not_read_is_cut_off_in_bounded_memory() {
        let (reader, mut feed, mut drain) = feed();
        feed.most = 1 << 20;
        drain.patience = Duration::from_millis(1);
        for _ in 0..64 {
            feed.write_all(&[b'x'; 1 << 18])
                .expect("it takes everything");
        }
        assert!(feed.shared.state().bytes <= 1 << 20);
        drop(feed);
        let why = drain.finish().expect("it was cut off");
        assert_eq!(why, "the reader is slower than the run");
        drop(reader);
    }

    #[test]
    fn a_reader_that_stops_at_the_end_is_waited_for_no_longer_than_a_limit() {
        let (reader, mut feed, mut drain) = feed();
        drain.patience = Duration::from_millis(1);
        feed.write_all(&[b'x'; 1 << 23])
            .expect("it takes everything");
        drop(feed);
        let why = drain.finish().expect("it was cut off");
        assert_eq!(why, "the reader has not read the rest within 0 seconds");
        drop(reader);
    }

    #[test]
    fn a_reader_that_is_gone_is_no_error() {
        let (reader, mut feed, drain) = feed();
        drop(reader);
        for _ in 0..100 {
            feed.write_all(b"line\n").expect("it takes everything");
        }
        drop(feed);
        let why = drain.finish().expect("it was cut off");
        assert!(why.contains("Broken pipe"), "{why}");
    }
}
