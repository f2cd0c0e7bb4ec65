//! Output in memory and readers of hand-made runs, for tests of reports.

use super::{Kept, Outputs, Sink, Stream};
pub(crate) use fixture_kit::sample::{attempt, code, leaky, run, signal, trace};
use harness_metadata::{AttemptId, Event, TestId};
use std::{collections::HashMap, io};

/// Captured output in memory.
#[derive(Default)]
pub(crate) struct Memory(pub(crate) HashMap<(AttemptId, bool), Vec<u8>>);

impl Memory {
    pub(crate) fn put(&mut self, test: &TestId, attempt: u32, stdout: &[u8], stderr: &[u8]) {
        let id = AttemptId {
            test: test.clone(),
            attempt,
        };
        self.0.insert((id.clone(), true), stdout.to_vec());
        self.0.insert((id, false), stderr.to_vec());
    }
}

impl Outputs for Memory {
    fn open(&self, attempt: &AttemptId, stream: Stream) -> io::Result<Option<Kept<'_>>> {
        let bytes = self.0.get(&(attempt.clone(), stream == Stream::Stdout));
        Ok(bytes.map(|bytes| Kept {
            head: Box::new(&bytes[..]),
            dropped: 0,
            tail: Box::new(io::empty()),
        }))
    }
}

pub(crate) fn test(name: &str) -> TestId {
    fixture_kit::sample::test("sample", name)
}

pub(crate) fn feed(sink: &mut dyn Sink, events: &[Event], outputs: &dyn Outputs) {
    for event in events {
        sink.handle(event, outputs)
            .expect("the writer takes everything");
        sink.flush().expect("the writer takes everything");
    }
}
