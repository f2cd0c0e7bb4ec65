//! Reads the traces of a run's tests beside the run, and stores what their passes rest on.
//!
//! It has a thread of its own: no test waits for it. A test's files are looked at as soon as it has ended.

use super::{
    digests::Digest,
    entered::{self, Program},
    inputs::Inputs,
    key::Key,
    ledger::{Distrust, Ledger, LedgerError, Pass, Stored},
    looks::Looks,
    programs::Entered,
    settle::{Fact, Settled, settle},
    state::{Here, State, World},
    times::Clock,
};
use crate::{
    store::{KeptTrace, open_trace},
    tracer::{
        entries::EntryFiles,
        record::file::{Ending, ReadError},
    },
};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{
    Exit, Outcome, RunId, TestId, Verdict,
    event::{TestFinished, TraceLevel},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::mpsc,
    thread::{Builder, JoinHandle},
    time::Duration,
};

const FLAKY: &str = "it is flaky: it passed only after a failed attempt";

/// A test whose result may be used again.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The circumstances that have to be the same before inputs are compared.
    pub key: Key,
    /// Something about it rules out that its result is used again.
    pub ruled_out: Option<String>,
    /// The pass that would have been used, if it runs as a sample.
    pub sampled: Option<Settled>,
}

/// The result of a test that ran as a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// The test.
    pub test: TestId,
    /// The difference from the pass that would have been used; `None` for none.
    pub mismatch: Option<String>,
}

/// The result of observing a run.
#[derive(Debug, Default)]
pub struct Observed {
    /// The number of passes that are stored.
    pub stored: usize,
    /// The tests that passed, and the reasons why that is not stored.
    pub refused: Vec<(TestId, String)>,
    /// The tests of which it is not known what they entered, so that their executables count as a whole, and the reasons.
    pub unrecorded: Vec<(TestId, String)>,
    /// The samples.
    pub audits: Vec<Audit>,
    /// The reason why the ledger could not be written.
    pub unwritten: Option<LedgerError>,
}

/// A run that is observed.
#[derive(Debug)]
pub struct Observing {
    /// `None` when the run is over.
    ended: Option<mpsc::Sender<Ended>>,
    thread: Option<JoinHandle<Observed>>,
}

/// A test that has ended.
#[derive(Debug)]
struct Ended {
    test: TestId,
    result: Result<Passed, String>,
    /// Whether it passed only after a failed attempt.
    flaky: bool,
    trace: Option<KeptTrace>,
}

#[derive(Debug)]
struct Passed {
    at: Duration,
    elapsed: Duration,
}

/// The run, as its observer has to know it.
#[derive(Debug)]
pub struct OfRun {
    /// The store.
    pub store: Utf8PathBuf,
    /// The folder of the run.
    pub folder: Utf8PathBuf,
    /// Its id.
    pub run: RunId,
    /// The tests.
    pub watched: BTreeMap<TestId, Watched>,
    /// The executables whose entries are recorded.
    pub programs: Vec<Program>,
    /// The files of that record; `None` if there is none.
    pub entries: Option<EntryFiles>,
    /// The tests' own binaries.
    pub binaries: BTreeMap<TestId, Utf8PathBuf>,
    /// Whether nothing is stored.
    pub read_only: bool,
    /// The key of digests that may stand for secrets.
    pub secret: [u8; 32],
}

impl Observing {
    /// Starts to observe a run. `here` remembers the digests that were needed until now.
    ///
    /// # Errors
    ///
    /// When there is no thread to be had.
    pub fn start(of: OfRun, here: Here) -> io::Result<Self> {
        let (ended, next) = mpsc::channel();
        let work = Work {
            of,
            here,
            looks: Looks::default(),
            clock: Clock::read(),
            news: BTreeMap::new(),
            observed: Observed::default(),
        };
        let thread = Builder::new().name("inputs".to_owned());
        Ok(Self {
            ended: Some(ended),
            thread: Some(thread.spawn(move || work.follow(next))?),
        })
    }

    /// Takes a test that has its result.
    pub fn finished(&self, finished: &TestFinished, trace: Option<KeptTrace>) {
        // The files of another machine are not those of this one, so what it rests on is not known here.
        let was_here = finished.attempts.iter().all(|it| it.remote.is_none());
        let trace = trace.filter(|_| was_here);
        let ended = Ended {
            test: finished.test.clone(),
            result: passed(finished),
            flaky: finished.flaky(),
            trace,
        };
        if let Some(sender) = &self.ended {
            // If the thread has panicked, nothing is stored.
            let _ = sender.send(ended);
        }
    }

    /// The run is over. Waits until all is stored.
    pub fn end(mut self) -> Observed {
        self.ended = None;
        let thread = self.thread.take();
        thread
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default()
    }
}

/// Returns the pass that a test has, or why it is none to be used again.
fn passed(finished: &TestFinished) -> Result<Passed, String> {
    let fail = |reason: &str| Err(reason.to_owned());
    let Some(last) = finished.attempts.last() else {
        return fail("it has no result");
    };
    if finished.verdict != Verdict::Pass {
        return fail("it did not pass");
    }
    if finished.attempts.len() > 1 {
        return fail(FLAKY);
    }
    if !matches!(last.outcome, Outcome::Exited(Exit::Code(0))) || !last.limits.is_empty() {
        return fail("it passed in an unusual way");
    }
    if last.leak.is_some() {
        return fail("it left processes or open output behind");
    }
    if last.policy.is_some() {
        return fail("it violated its policy");
    }
    if !last.budget.is_empty() {
        return fail("it did not keep to its budget");
    }
    if finished.quarantine.is_some() {
        return fail("it is in quarantine");
    }
    if !last.earlier.is_empty() || !last.disturbances().is_empty() {
        return fail("the tracer was in its way");
    }
    let since_1970 = last.started_at.timestamp_micros().try_into();
    Ok(Passed {
        at: Duration::from_micros(since_1970.unwrap_or(0)),
        elapsed: last.elapsed,
    })
}

/// The change of the ledger by a test.
#[derive(Debug)]
struct News {
    key: Key,
    /// The pass, or why there is none.
    pass: Result<Pass, String>,
    /// The facts that a failure rests on.
    failed: Option<Settled>,
    /// The paths that the test changed.
    changes: Vec<Vec<u8>>,
    distrust: Option<Distrust>,
}

struct Work {
    of: OfRun,
    here: Here,
    looks: Looks,
    clock: Option<Clock>,
    news: BTreeMap<TestId, News>,
    observed: Observed,
}

impl Work {
    fn follow(mut self, next: mpsc::Receiver<Ended>) -> Observed {
        for ended in next {
            let Some(watched) = self.of.watched.get(&ended.test).cloned() else {
                continue;
            };
            self.add(ended, watched);
        }
        self.forget_changed();
        self.write();
        self.observed
    }

    fn add(&mut self, ended: Ended, watched: Watched) {
        let Ended {
            test,
            result,
            flaky,
            trace,
        } = ended;
        let read = read(&self.of.folder, trace.as_ref());
        let (inputs, began) = match read {
            Ok((inputs, began)) => (Ok(inputs), began),
            Err(reason) => (Err(reason), Duration::ZERO),
        };
        let entered = self.entered(&test, &inputs);
        let changes: Vec<Vec<u8>> = match &inputs {
            Ok(inputs) => inputs.changes().map(<[u8]>::to_vec).collect(),
            Err(_) => Vec::new(),
        };
        let settled = inputs.and_then(|inputs| {
            let settled = settle(&inputs, began, &mut self.looks.of_test(&mut self.here))?;
            self.clock_went_on()?;
            Ok(settled)
        });
        let failed = result.is_err();
        let distrust = self.distrust(&test, &watched, result.as_ref().map(drop), &settled);
        let distrust = distrust.or_else(|| flaky.then(|| FLAKY.to_owned()));
        let distrust = distrust.map(|reason| Distrust {
            reason,
            binary: watched.key.binary,
        });
        let failure = settled.as_ref().ok().filter(|_| failed).cloned();
        let settled = result.and_then(|passed| match &watched.ruled_out {
            Some(reason) => Err(reason.clone()),
            None => Ok((settled?, passed)),
        });
        let pass = settled.map(|(settled, passed)| Pass {
            key: watched.key.clone(),
            settled,
            entered,
            run: self.of.run,
            at: passed.at,
            elapsed: passed.elapsed,
        });
        match &pass {
            Ok(_) => self.observed.stored += 1,
            Err(reason) => {
                if !failed {
                    self.observed.refused.push((test.clone(), reason.clone()));
                }
            }
        }
        let news = News {
            key: watched.key,
            pass,
            failed: failure,
            changes,
            distrust,
        };
        self.news.insert(test, news);
    }

    /// Returns what a test has entered of the executables that it did nothing else with than to execute them.
    fn entered(&mut self, test: &TestId, inputs: &Result<Inputs, String>) -> Vec<Entered> {
        let Some(files) = &self.of.entries else {
            return Vec::new();
        };
        let prefix = files.prefix(test);
        let entered = match (inputs, self.of.binaries.get(test)) {
            (Ok(inputs), Some(own)) => {
                entered::read(&prefix, &self.of.programs, own, &inputs.executions)
            }
            _ => Err(String::new()),
        };
        entered::remove(&prefix, self.of.programs.len());
        let mut entered = match entered {
            Ok(entered) => entered,
            Err(reason) => {
                if !reason.is_empty() {
                    self.observed.unrecorded.push((test.clone(), reason));
                }
                return Vec::new();
            }
        };
        let asked = inputs.iter().flat_map(|inputs| &inputs.asked);
        let read: BTreeSet<&[u8]> = asked
            .filter(|it| it.read)
            .map(|it| it.path.as_slice())
            .collect();
        let own = entered.first().map(|it| it.path.clone());
        entered.retain(|it| !read.contains(it.path.as_str().as_bytes()));
        // It has read its own binary, which counts as a whole.
        if entered.first().map(|it| &it.path) != own.as_ref() {
            entered.clear();
        }
        entered
    }

    /// Returns why a test that ran as a sample is not what its pass said.
    fn distrust(
        &mut self,
        test: &TestId,
        watched: &Watched,
        result: Result<(), &String>,
        settled: &Result<Settled, String>,
    ) -> Option<String> {
        let before = watched.sampled.as_ref()?;
        let mismatch = match (result, settled) {
            (Err(reason), _) => Some(format!("when it was run as a sample, {reason}")),
            (Ok(()), Ok(settled)) => {
                // Executables differ where what the test enters does not.
                let programs = self.of.programs.iter();
                let programs = programs.map(|it| it.path.as_str().as_bytes()).collect();
                mismatch(before, settled, &programs)
            }
            // What it rests on is not known this time. That refuses the pass, and says nothing of the one before.
            (Ok(()), Err(_)) => return None,
        };
        self.observed.audits.push(Audit {
            test: test.clone(),
            mismatch: mismatch.clone(),
        });
        mismatch
    }

    /// Forgets what rests on a file that has changed since it was looked at for the first time.
    fn forget_changed(&mut self) {
        let changed = self.looks.changed(&mut self.here);
        if changed.is_empty() {
            return;
        }
        for (test, news) in &mut self.news {
            let rests_on = |settled: &Settled| {
                let mut facts = settled.inputs.iter().chain(&settled.outputs);
                facts.find_map(|fact| changed.get(&fact.path)).cloned()
            };
            if news.failed.as_ref().and_then(rests_on).is_some() {
                news.failed = None;
            }
            let Some(path) = (news.pass.as_ref().ok()).and_then(|pass| rests_on(&pass.settled))
            else {
                continue;
            };
            let path = String::from_utf8_lossy(&path);
            let reason = format!("`{path}` was changed while the run went on");
            self.observed.stored -= 1;
            self.observed.refused.push((test.clone(), reason.clone()));
            // What it was compared with as a sample is not known either.
            let known = |audit: &Audit| audit.test != *test || audit.mismatch.is_some();
            self.observed.audits.retain(known);
            news.pass = Err(reason);
        }
    }

    /// A clock that was set back makes changes look old.
    fn clock_went_on(&self) -> Result<(), String> {
        let went_on = self.clock.zip(Clock::read());
        match went_on.is_some_and(|(before, now)| before.went_on_until(now)) {
            true => Ok(()),
            false => Err("the clock was set while the run went on".to_owned()),
        }
    }

    fn write(&mut self) {
        // What is wrong with a test is kept by readers too.
        let news = std::mem::take(&mut self.news);
        let read_only = self.of.read_only;
        let wrong = |news: &News| news.distrust.is_some() || news.failed.is_some();
        if news.is_empty() || read_only && !news.values().any(wrong) {
            return;
        }
        let digests = std::mem::take(&mut self.here.digests);
        let secret = self.of.secret;
        let updated = Ledger::update(&self.of.store, |ledger| {
            if ledger.tests.is_empty() {
                ledger.secret = secret;
            } else if ledger.secret != secret {
                // Another run has begun the ledger meanwhile. Digests by two keys cannot be compared.
                return;
            }
            for (test, news) in news {
                let stored = ledger.tests.entry(test).or_default();
                news.enter(stored, read_only);
            }
            let before = std::mem::replace(&mut ledger.digests, digests);
            ledger.digests.add(before);
        });
        self.observed.unwritten = updated.err();
    }
}

impl News {
    fn enter(self, stored: &mut Stored, read_only: bool) {
        let as_before = |failed: &Settled| {
            let mut passes = stored.passes.iter();
            let none = BTreeSet::new();
            passes.any(|pass| {
                pass.key == self.key && mismatch(&pass.settled, failed, &none).is_none()
            })
        };
        if self.failed.as_ref().is_some_and(as_before) {
            stored.distrust = Some(Distrust {
                reason: "it is flaky: it has passed and failed with the same inputs".to_owned(),
                binary: self.key.binary,
            });
        }
        if self.distrust.is_some() {
            stored.distrust = self.distrust;
        }
        if read_only {
            return;
        }
        stored.changes = self.changes;
        match self.pass {
            Ok(pass) => {
                let binary = pass.key.binary;
                stored.distrust = stored.distrust.take().filter(|it| it.binary == binary);
                stored.add(pass);
            }
            Err(reason) => stored.refused = Some(reason),
        }
    }
}

/// Reads the inputs of a test from its trace, and when it began.
fn read(folder: &Utf8Path, trace: Option<&KeptTrace>) -> Result<(Inputs, Duration), String> {
    let trace = trace.ok_or("no trace of it is kept")?;
    let words = |error: ReadError| error.to_string();
    let mut reader = open_trace(folder, trace).map_err(words)?;
    let (level, root, began) = {
        let header = reader.header();
        (header.level, header.root, header.started_at)
    };
    let mut inputs = Inputs::of(root, reader.by_ref());
    let incomplete = match reader.ending() {
        _ if level < TraceLevel::Full => Some(format!(
            "its trace at the level `{}` lacks look-ups; `full` has them",
            level.as_str()
        )),
        Some(Ending::Complete(trailer)) => match trailer.doubts.first() {
            Some(doubt) => Some(doubt.to_string()),
            None if trailer.dropped.events > 0 => Some("its trace has no room".to_owned()),
            None => None,
        },
        Some(Ending::Truncated) | None => Some("its trace is cut short".to_owned()),
    };
    // It comes before what was found in the part that is there.
    if let Some(reason) = incomplete {
        inputs.obstacle = Some(reason);
    }
    Ok((inputs, began))
}

/// Returns how what a test has met as a sample differs from what it met before. Names that it made up itself, and
/// looked for in vain, are no difference.
fn mismatch(before: &Settled, now: &Settled, programs: &BTreeSet<&[u8]>) -> Option<String> {
    let there = |settled: &Settled| -> BTreeSet<Fact> {
        let facts = settled.inputs.iter();
        facts
            .filter(|fact| !matches!(fact.state, State::Absent { .. } | State::Folder { .. }))
            .filter(|fact| !programs.contains(fact.path.as_slice()))
            .cloned()
            .collect()
    };
    let (before, now) = (there(before), there(now));
    let path = |fact: &Fact| String::from_utf8_lossy(&fact.path).into_owned();
    if let Some(more) = now.difference(&before).next() {
        return Some(format!(
            "it used `{}`, which it did not use before",
            path(more)
        ));
    }
    let less = before.difference(&now).next()?;
    Some(format!(
        "it did not use `{}`, which it used before",
        path(less)
    ))
}

/// Returns the digest of a file.
///
/// # Errors
///
/// When it cannot be read.
pub fn digest_of(here: &mut Here, path: &Utf8Path) -> io::Result<Digest> {
    match here.look(path.as_str().as_bytes()).state {
        State::File {
            digest: Some(digest),
            ..
        } => Ok(digest),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}
