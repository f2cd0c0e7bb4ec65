//! Holds captured output for the sinks: that of the event at hand as the run handed it over, and
//! what is wanted again at the end of the run in one file on disk.

use crate::{
    report::{Kept, Outputs, Stream},
    run::Output,
};
use harness_metadata::{AttemptId, TestId};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Read, Seek, Write},
    os::unix::fs::FileExt,
};

/// The captured output that can still be asked for.
#[derive(Debug, Default)]
pub(super) struct OutputStore {
    /// Of attempts whose test is not over, and of the event at hand.
    fresh: BTreeMap<AttemptId, Output>,
    kept: BTreeMap<AttemptId, Spooled>,
    spool: Option<File>,
    end: u64,
}

/// Where the output of an attempt lies in the spool.
#[derive(Copy, Clone, Debug)]
struct Spooled {
    stdout: SpooledStream,
    stderr: SpooledStream,
}

#[derive(Copy, Clone, Debug)]
struct SpooledStream {
    offset: u64,
    head: u64,
    dropped: u64,
    tail: u64,
}

impl OutputStore {
    pub(super) fn add(&mut self, attempt: AttemptId, output: Output) {
        self.fresh.insert(attempt, output);
    }

    /// Moves the output of a test's attempts to disk.
    ///
    /// If the disk is full it stays in memory: nothing that is known is lost.
    pub(super) fn keep(&mut self, test: &TestId, attempts: u32) {
        for attempt in self.ids(test, attempts) {
            let Some(output) = self.fresh.remove(&attempt) else {
                continue;
            };
            match self.spool(&output) {
                Ok(spooled) => drop(self.kept.insert(attempt, spooled)),
                Err(_) => drop(self.fresh.insert(attempt, output)),
            }
        }
    }

    /// Forgets the output of a test's attempts.
    pub(super) fn forget(&mut self, test: &TestId, attempts: u32) {
        for attempt in self.ids(test, attempts) {
            self.fresh.remove(&attempt);
        }
    }

    fn ids(&self, test: &TestId, attempts: u32) -> Vec<AttemptId> {
        (1..=attempts)
            .map(|attempt| AttemptId {
                test: test.clone(),
                attempt,
            })
            .collect()
    }

    fn spool(&mut self, output: &Output) -> io::Result<Spooled> {
        let mut file = match self.spool.take() {
            Some(file) => file,
            None => tempfile::tempfile()?,
        };
        let spooled = file.seek(io::SeekFrom::Start(self.end)).and_then(|_| {
            let mut writer = BufWriter::new(&file);
            let mut end = self.end;
            let stdout = copy(output.stdout(), &mut writer, &mut end)?;
            let stderr = copy(output.stderr(), &mut writer, &mut end)?;
            writer.flush()?;
            self.end = end;
            Ok(Spooled { stdout, stderr })
        });
        self.spool = Some(file);
        spooled
    }
}

fn copy(mut kept: Kept<'_>, to: &mut impl Write, end: &mut u64) -> io::Result<SpooledStream> {
    let offset = *end;
    let head = io::copy(&mut kept.head, to)?;
    let tail = io::copy(&mut kept.tail, to)?;
    *end += head + tail;
    Ok(SpooledStream {
        offset,
        head,
        dropped: kept.dropped,
        tail,
    })
}

impl Outputs for OutputStore {
    fn open(&self, attempt: &AttemptId, stream: Stream) -> io::Result<Option<Kept<'_>>> {
        if let Some(output) = self.fresh.get(attempt) {
            return Ok(Some(match stream {
                Stream::Stdout => output.stdout(),
                Stream::Stderr => output.stderr(),
            }));
        }
        let (Some(spooled), Some(file)) = (self.kept.get(attempt), &self.spool) else {
            return Ok(None);
        };
        let stream = match stream {
            Stream::Stdout => spooled.stdout,
            Stream::Stderr => spooled.stderr,
        };
        let tail = stream.offset + stream.head;
        Ok(Some(Kept {
            head: Box::new(Section {
                file,
                offset: stream.offset,
                end: tail,
            }),
            dropped: stream.dropped,
            tail: Box::new(Section {
                file,
                offset: tail,
                end: tail + stream.tail,
            }),
        }))
    }
}

/// A part of the spool as a reader.
struct Section<'a> {
    file: &'a File,
    offset: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.end - self.offset;
        let len = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.file.read_at(&mut buffer[..len], self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
