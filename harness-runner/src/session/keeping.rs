//! Keeps the traces of a run for later: the index of its attempts, beside the files that the stubs
//! write.

use crate::{
    report::{Outputs, Sink, SinkError},
    store,
};
use harness_metadata::{Attempt, Event, EventKind, TestId};
use std::{cell::RefCell, collections::HashMap, io, rc::Rc};

/// Why the index could not be written to its end, if so.
pub(super) type Broken = Rc<RefCell<Option<io::Error>>>;

/// The sink that writes the index.
pub(super) struct Keeping {
    run: store::Run,
    /// The number of the first attempt of every test that is traced.
    numbers: HashMap<TestId, u64>,
    broken: Broken,
}

impl Keeping {
    pub(super) fn new(run: store::Run, numbers: HashMap<TestId, u64>, broken: &Broken) -> Self {
        Self {
            run,
            numbers,
            broken: Rc::clone(broken),
        }
    }

    fn finished(&mut self, test: &TestId, attempt: &Attempt) {
        let first = self.numbers.get(test);
        let number = first.map(|first| first + u64::from(attempt.number) - 1);
        let added = self.run.attempt_finished(number, test, attempt);
        self.note(added);
    }

    /// What cannot be kept does not end the run that it is about.
    fn note(&self, done: io::Result<()>) {
        if let Err(error) = done {
            self.broken.borrow_mut().get_or_insert(error);
        }
    }
}

impl Sink for Keeping {
    fn handle(&mut self, event: &Event, _: &dyn Outputs) -> Result<(), SinkError> {
        match &event.kind {
            EventKind::AttemptFailed { test, attempt, .. } => self.finished(test, attempt),
            EventKind::TestFinished(test) => {
                if let Some(last) = test.attempts.last() {
                    self.finished(&test.test, last);
                }
            }
            EventKind::RunFinished(_) => return self.close(),
            _ => {}
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        let written = self.run.tick();
        self.note(written);
        Ok(())
    }

    fn close(&mut self) -> Result<(), SinkError> {
        let written = self.run.flush();
        self.note(written);
        Ok(())
    }
}
