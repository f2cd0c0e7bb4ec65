//! Finds the place of the first failure of a run, to open it in an editor.

use super::{Outputs, Reason, Sink, SinkError};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{Event, EventKind, TestId, Verdict, event::TestFinished};
use std::{cell::RefCell, rc::Rc};

/// A test that failed, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The test.
    pub test: TestId,
    /// The file and the line: of the panic inside the workspace, or else of the test's definition; `None` if neither is
    /// known.
    pub at: Option<(Utf8PathBuf, u32)>,
}

/// The sink that finds it. Clones share what they found.
#[derive(Clone, Debug, Default)]
pub struct FirstFailure(Rc<RefCell<Found>>);

#[derive(Debug, Default)]
struct Found {
    workspace_root: String,
    place: Option<Place>,
}

impl FirstFailure {
    /// Returns the first failure whose place is known, or else the first one; `None` if no test failed.
    pub fn place(&self) -> Option<Place> {
        self.0.borrow().place.clone()
    }
}

impl Found {
    fn finished(&mut self, finished: &TestFinished, outputs: &dyn Outputs) {
        let known = self.place.as_ref().is_some_and(|place| place.at.is_some());
        if known || finished.verdict != Verdict::Fail {
            return;
        }
        let reason = Reason::of(finished, &self.workspace_root, outputs);
        let at = reason.and_then(|reason| reason.place);
        let root = Utf8Path::new(&self.workspace_root);
        let at = at.map(|(file, line)| (root.join(file), line));
        if self.place.is_none() || at.is_some() {
            let test = finished.test.clone();
            self.place = Some(Place { test, at });
        }
    }
}

impl Sink for FirstFailure {
    fn handle(&mut self, event: &Event, outputs: &dyn Outputs) -> Result<(), SinkError> {
        let mut found = self.0.borrow_mut();
        match &event.kind {
            EventKind::RunStarted(run) => found.workspace_root.clone_from(&run.workspace_root),
            EventKind::TestFinished(finished) => found.finished(finished, outputs),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{self, Memory};
    use harness_metadata::Location;

    #[test]
    fn the_first_failure_with_a_place_is_found_and_a_pass_is_none() {
        let mut events = sample::run(vec![
            (sample::test("passes"), vec![sample::code(1, 0)]),
            (sample::test("has_no_place"), vec![sample::code(1, 101)]),
            (sample::test("fails"), vec![sample::code(1, 101)]),
            (sample::test("fails_too"), vec![sample::code(1, 101)]),
        ]);
        let placed = ["passes", "fails", "fails_too"];
        for (line, event) in (1..).zip(&mut events) {
            let EventKind::TestFinished(finished) = &mut event.kind else {
                continue;
            };
            finished.location = None;
            if placed.contains(&finished.test.name.as_str()) {
                let file = "src/lib.rs".to_owned();
                finished.location = Some(Location {
                    file,
                    line,
                    column: 1,
                });
            }
        }
        let found = FirstFailure::default();
        assert_eq!(found.place(), None);
        sample::feed(&mut found.clone(), &events, &Memory::default());
        let place = found.place().expect("a test failed");
        assert_eq!(place.test, sample::test("fails"));
        let (file, _) = place.at.expect("its place is known");
        assert!(file.ends_with("src/lib.rs") && file.is_absolute(), "{file}");
    }
}
