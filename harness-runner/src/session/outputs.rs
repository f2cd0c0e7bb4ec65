//! Captured output for the sinks that read it: in a file as a rule, in bounded memory if no file
//! can take it.

use crate::{
    report::{Kept, Outputs, Stream},
    run::Output,
    store::{self, KeptTrace, SpoolFile, SpooledOutput},
};
use camino::Utf8PathBuf;
use harness_metadata::{AttemptId, TestId};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// The most bytes of output in memory, of all attempts together.
const IN_MEMORY: u64 = 32 * 1024 * 1024;

/// The room in memory for output that no file can take.
#[derive(Clone, Debug, Default)]
pub(super) struct Room(Arc<AtomicU64>);

/// The position of an attempt's output.
#[derive(Debug)]
pub(super) enum Place {
    /// In a file.
    File(SpoolFile, SpooledOutput),
    /// In memory, and maybe in files of its own.
    Memory(InRoom),
    /// Nowhere: so many bytes of each stream are lost.
    Lost {
        /// Of standard output.
        stdout: u64,
        /// Of standard error.
        stderr: u64,
    },
}

/// Output that takes a part of the room, as long as it is there.
#[derive(Debug)]
pub(super) struct InRoom {
    output: Output,
    room: Room,
}

impl Place {
    /// Puts output into memory, if there is room for it.
    pub(super) fn in_memory(output: Output, room: &Room) -> Self {
        let size = output.weight();
        let before = room.0.fetch_add(size, Ordering::Relaxed);
        let entered = InRoom {
            output,
            room: room.clone(),
        };
        match before + size <= IN_MEMORY {
            true => Self::Memory(entered),
            false => Self::Lost {
                stdout: entered.output.stdout_written(),
                stderr: entered.output.stderr_written(),
            },
        }
    }

    fn open(&self, stream: Stream) -> io::Result<Kept<'_>> {
        Ok(match self {
            Self::File(file, output) => file.open(*output, stream)?,
            Self::Memory(InRoom { output, .. }) => match stream {
                Stream::Stdout => output.stdout(),
                Stream::Stderr => output.stderr(),
            },
            Self::Lost { stdout, stderr } => Kept {
                head: Box::new(io::empty()),
                dropped: match stream {
                    Stream::Stdout => *stdout,
                    Stream::Stderr => *stderr,
                },
                tail: Box::new(io::empty()),
            },
        })
    }
}

impl Drop for InRoom {
    fn drop(&mut self) {
        let size = self.output.weight();
        self.room.0.fetch_sub(size, Ordering::Relaxed);
    }
}

/// The captured output and the traces that can still be asked for.
#[derive(Debug, Default)]
pub(super) struct OutputStore {
    outputs: BTreeMap<AttemptId, Arc<Place>>,
    traces: BTreeMap<AttemptId, Traced>,
}

/// The trace of an attempt, in the folder of its run.
#[derive(Clone, Debug)]
pub(super) struct Traced {
    pub(super) run: Utf8PathBuf,
    pub(super) trace: KeptTrace,
}

impl OutputStore {
    pub(super) fn add(&mut self, attempt: AttemptId, place: Arc<Place>) {
        self.outputs.insert(attempt, place);
    }

    pub(super) fn add_trace(&mut self, attempt: AttemptId, traced: Traced) {
        self.traces.insert(attempt, traced);
    }

    /// Forgets the output of a test's attempts.
    pub(super) fn forget(&mut self, test: &TestId, attempts: u32) {
        for attempt in 1..=attempts {
            let id = AttemptId {
                test: test.clone(),
                attempt,
            };
            self.outputs.remove(&id);
            self.traces.remove(&id);
        }
    }
}

impl Outputs for OutputStore {
    fn open(&self, attempt: &AttemptId, stream: Stream) -> io::Result<Option<Kept<'_>>> {
        let place = self.outputs.get(attempt);
        place.map(|place| place.open(stream)).transpose()
    }

    fn write_trace(&self, attempt: &AttemptId, to: &mut dyn Write) -> io::Result<bool> {
        let Some(Traced { run, trace }) = self.traces.get(attempt) else {
            return Ok(false);
        };
        store::write_trace(run, trace, to).map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_for_output_is_bounded_and_given_back() {
        let room = Room::default();
        let output = || Output::of(&vec![b'x'; 1 << 20]);
        let mut places: Vec<Place> = (0..40).map(|_| Place::in_memory(output(), &room)).collect();
        let lost =
            |place: &&Place| matches!(place, Place::Lost { stdout, .. } if *stdout == 1 << 20);
        let count = places.iter().filter(lost).count();
        assert!((8..12).contains(&count), "{count} of 40 are lost");
        assert!(lost(&&places[39]), "the last ones are");
        assert_eq!(places[39].open(Stream::Stdout).unwrap().dropped, 1 << 20);
        places.clear();
        assert!(matches!(
            Place::in_memory(output(), &room),
            Place::Memory(_)
        ));
    }
}
