//! Gathers what a run tells at its end beside its counts: tests that disturbed others, causes that failures have in
//! common, credentials that were read.
//!
//! It hears of each attempt when that is recorded, and adds what it found to the last event. So the recording, the
//! reports and the terminal all have it.

use super::{hermetic, interference::Watch, rules::Roots};
use crate::{
    report::{Outputs, Reason, causes::Causes},
    store::{KeptTrace, PastRun},
};
use camino::Utf8Path;
use chrono::{DateTime, FixedOffset};
use harness_metadata::{
    Attempt, Event, EventKind, TestId, Verdict,
    event::{CredentialsRead, Findings},
};

/// Tests that are named with the credentials that they read.
const READERS: usize = 100;
/// Files that are named of one test.
const FILES: usize = 5;

/// The findings of a run so far.
pub struct Gathered {
    roots: Roots,
    watch: Watch,
    causes: Causes,
    /// `None` if they are not to be told.
    credentials: Option<Vec<CredentialsRead>>,
    more_credentials: usize,
    began: Option<DateTime<FixedOffset>>,
}

impl Gathered {
    /// Returns the findings of a run that has not begun. `credentials` says whether tests that read them are named.
    pub fn new(workspace: &Utf8Path, target: &Utf8Path, credentials: bool) -> Self {
        let roots = Roots::new(workspace, target);
        Self {
            watch: Watch::new(roots.clone()),
            roots,
            causes: Causes::default(),
            credentials: credentials.then(Vec::new),
            more_credentials: 0,
            began: None,
        }
    }

    /// Hears an event. The trace and the output are those of the attempt that it ends.
    pub fn hear(&mut self, event: &Event, kept_trace: Option<&KeptTrace>, outputs: &dyn Outputs) {
        match &event.kind {
            EventKind::RunStarted(run) => self.began = Some(run.started_at),
            EventKind::AttemptStarted(started) => {
                if let Some(began) = self.began {
                    self.watch
                        .started(&started.test, started.slot, began + event.at);
                }
            }
            EventKind::AttemptFailed { test, attempt, .. } => {
                self.watch.ended(test, attempt, kept_trace);
                self.credentials_of(test, attempt);
            }
            EventKind::TestFinished(finished) => {
                let Some(last) = finished.attempts.last() else {
                    return;
                };
                self.watch.ended(&finished.test, last, kept_trace);
                self.credentials_of(&finished.test, last);
                let trace = last.trace.as_deref();
                match finished.verdict {
                    Verdict::Fail => {
                        let root = self.roots.workspace.as_str();
                        let reason = Reason::of(finished, root, outputs);
                        self.causes.failed(&finished.test, trace, reason.as_ref());
                    }
                    Verdict::Pass => self.causes.passed(trace),
                    Verdict::Quarantined | Verdict::Interrupted => {}
                }
            }
            _ => {}
        }
    }

    /// Notes the files with credentials that an attempt read.
    fn credentials_of(&mut self, test: &TestId, attempt: &Attempt) {
        let (Some(readers), Some(trace)) = (&mut self.credentials, attempt.trace.as_deref()) else {
            return;
        };
        let read = hermetic::credentials_read(trace, &self.roots);
        if read.is_empty() {
            return;
        }
        let (test, _) = test.without_iteration();
        // Another attempt of a test mostly reads the same.
        if readers.iter().any(|reader| reader.test == test) {
            return;
        }
        if readers.len() == READERS {
            self.more_credentials += 1;
            return;
        }
        readers.push(CredentialsRead {
            test,
            more: read.len().saturating_sub(FILES),
            files: read.into_iter().take(FILES).collect(),
        });
    }

    /// Returns the findings at the end of a run. Its traces are read from this folder, if any are to be.
    pub fn findings(self, folder: Option<&Utf8Path>) -> Findings {
        let run = || PastRun::open(folder?);
        let interferences = match self.watch.has_some() {
            true => run().map(|run| self.watch.found(&run)),
            false => None,
        };
        Findings {
            interferences: interferences.unwrap_or_default(),
            causes: self.causes.common(),
            credentials: self.credentials.unwrap_or_default(),
            more_credentials: self.more_credentials,
        }
    }
}
