//! An attempt that an engine runs elsewhere: sends what it needs, waits, and takes the result in.
//!
//! It is an action whose process is this program again, as an agent, which leaves the result, the output
//! and the trace as files. The engine is believed only about whether the agent has finished. All that keeps the agent
//! from that is a fault of the engine, is tried again, and never counts as an attempt of the test.

mod copies;

use self::copies::Copies;
use super::{
    engine::{Action, Away, Content, Done, Failed, MayGo},
    job::{
        AGENT, AGENT_ARGUMENT, FILES, JOB, Job, Kept, OUTPUTS, REPORT, Refusal, Report, STDERR,
        STDOUT, Settings, TRACE,
    },
    unreported,
};
use crate::{
    inputs::{Needs, missed},
    own_files,
    protocol::Environment,
    run::{
        Output,
        attempt::{Cut, Over},
        budget,
        capture::Captured,
        shared::Shared,
        slot::{Described, FromSlot, Slot, Start, ToSlot},
        unit::{Ending, verdict},
        until,
        work::Test,
    },
    store::KeptTrace,
};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{
    Attempt, Exit, Fault, Interruption, Outcome, Remote,
    event::{RunningDetail, RunningState},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
    time::Duration,
};

/// The time that an engine has beyond the test's own limits, for the agent and for killing what is left.
const SLACK: Duration = Duration::from_secs(60);

/// The number of times that a test can ask for further files before it is given up.
const MOST_ROUNDS: usize = 12;

/// Variables of this machine that a test elsewhere has too, since they say how it is to behave.
const SENT: [&str; 6] = [
    "LC_ALL",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "RUST_LIB_BACKTRACE",
    "PROPTEST_CASES",
    "CI",
];

/// An attempt elsewhere.
struct Elsewhere<'a> {
    slot: &'a mut Slot,
    shared: &'a Shared,
    away: &'a Away,
    may_go: &'a MayGo,
    test: &'a Test,
    start: Start,
    begun: Duration,
    /// Files that it has asked for in vain before.
    more: BTreeSet<Utf8PathBuf>,
    /// The reasons of its earlier tries.
    earlier: Vec<String>,
}

/// The end of one try.
enum Tried {
    Done(Box<Result<Done, Failed>>),
    Interrupted(Interruption),
}

/// Makes an attempt elsewhere. It is tried again as long as only the engine is at fault, or inputs were missing.
pub(in crate::run) async fn attempt(slot: &mut Slot, shared: &Shared, start: Start) -> Over {
    let once = shared.work.once(start.test);
    let test = shared.work.test(start.test);
    let begun = shared.clock.now();
    let away = shared.remote.as_ref();
    let Some((away, may_go)) = away.and_then(|away| Some((away, away.tests.get(&once)?))) else {
        return over(faulty(
            shared,
            start,
            begun,
            "the slot has no engine".to_owned(),
        ));
    };
    let elsewhere = Elsewhere {
        slot,
        shared,
        away,
        may_go,
        test,
        start,
        begun,
        more: BTreeSet::new(),
        earlier: Vec::new(),
    };
    elsewhere.run_to_end().await
}

impl Elsewhere<'_> {
    async fn run_to_end(mut self) -> Over {
        for _ in 0..MOST_ROUNDS {
            let done = match self.once().await {
                Tried::Interrupted(by) => return self.interrupted(by),
                Tried::Done(done) => *done,
            };
            let done = match done {
                Ok(done) => done,
                Err(failed) => {
                    self.earlier.extend(failed.earlier);
                    return self.given_up(failed.message);
                }
            };
            self.earlier.extend(done.place.earlier.iter().cloned());
            let report = match report(&done) {
                Ok(report) => report,
                Err(why) if self.earlier.len() + 1 < self.away.tries as usize => {
                    self.earlier.push(why);
                    continue;
                }
                Err(why) => return self.given_up(why),
            };
            let missed = self.missed(&report);
            if missed.is_empty() {
                return self.result(done, report);
            }
            self.learn(missed);
        }
        let message = format!("it asked for further files of the workspace {MOST_ROUNDS} times");
        self.given_up(message)
    }

    /// Has an engine make the attempt, and waits for it.
    async fn once(&mut self) -> Tried {
        let mut copies = Copies::new(&*self.away.engine);
        copies.start(self.action(""));
        let remote = &self.test.settings.remote;
        let mut backup_at =
            (remote.backup_after).map(|after| self.shared.clock.now().saturating_add(after));
        let mut slow_at = self
            .begun
            .saturating_add(self.test.settings.slow_timeout.period);
        loop {
            let clock = &self.shared.clock;
            let backup = backup_at.and_then(|at| clock.instant(at));
            tokio::select! {
                biased;
                done = copies.end() => {
                    let with_backup = |mut done: Done| {
                        done.place.backup = remote.backup_after.is_some() && backup_at.is_none();
                        done
                    };
                    return Tried::Done(Box::new(done.map(with_backup)));
                }
                Some(order) = self.slot.orders.recv() => match order {
                    ToSlot::Interrupt(by, _) => return Tried::Interrupted(by),
                    ToSlot::Describe(to) => drop(to.send(self.described())),
                    ToSlot::Signal { .. } | ToSlot::Look(_) | ToSlot::Start(_) | ToSlot::End => {}
                },
                () = until(backup) => {
                    copies.start(self.action(":backup"));
                    backup_at = None;
                }
                () = until(clock.instant(slow_at)) => {
                    self.tell_slow();
                    slow_at = slow_at.saturating_add(self.test.settings.slow_timeout.period);
                }
            }
        }
    }

    fn tell_slow(&self) {
        self.slot.tell(FromSlot::Slow {
            test: self.start.test,
            attempt: self.start.attempt,
            elapsed: self.shared.clock.now() - self.begun,
            terminating: false,
        });
    }

    fn described(&self) -> Described {
        Described {
            slot: self.slot.number,
            attempt: self.start.attempt,
            state: RunningState::Running,
            detail: RunningDetail::default(),
        }
    }

    /// Returns what an engine is to do. Actions that differ in their salts are different ones to it.
    fn action(&self, salt: &str) -> Action {
        let settings = &self.test.settings;
        let job = postcard::to_stdvec(&self.job()).expect("a job is plain data");
        let mut inputs = inputs(&self.may_go.needs, &self.more);
        inputs.insert(JOB.to_owned(), Content::Bytes(job.into()));
        inputs.insert(
            AGENT.to_owned(),
            Content::File(PathBuf::from("/proc/self/exe")),
        );
        let slow = settings.slow_timeout;
        let limit = slow.terminate_after.map(|periods| {
            let all = slow
                .period
                .saturating_mul(periods.get())
                .saturating_add(slow.grace_period);
            all.saturating_add(settings.leak_timeout.period)
                .saturating_add(SLACK)
        });
        Action {
            arguments: vec![AGENT.to_owned(), AGENT_ARGUMENT.to_owned()],
            inputs,
            outputs: OUTPUTS.map(str::to_owned).to_vec(),
            properties: (*self.may_go.properties).clone(),
            timeout: limit,
            patience: self.away.patience.saturating_add(limit.unwrap_or_default()),
            salt: format!("{}:{}{salt}", self.earlier.len(), self.more.len()),
            tries: self
                .away
                .tries
                .saturating_sub(u32::try_from(self.earlier.len()).unwrap_or(0))
                .max(1),
        }
    }

    fn job(&self) -> Job {
        let (work, away) = (&self.shared.work, self.away);
        let binary = &work.binaries[self.test.binary];
        let bytes = |text: &std::ffi::OsString| text.clone().into_vec();
        let places = away.places.built.iter().chain([&away.places.root]);
        let facts = work.blocks.facts();
        Job {
            run_id: facts.run_id,
            profile: facts.profile.to_owned(),
            mode: facts.mode,
            threads: facts.threads,
            started_at: work.started_at,
            test: self.test.id.clone(),
            ignored: self.test.ignored,
            settings: Settings::of(&self.test.settings),
            tracing: self.test.tracing,
            trace_required: self.test.settings.trace.required,
            keeps_trace: self.test.keeps_trace && work.trace_files.is_some(),
            program: binary.program.iter().map(bytes).collect(),
            cwd: binary.cwd.as_os_str().as_bytes().to_vec(),
            environment: variables(&binary.environment, self.test, &away.variables),
            libtest: binary.libtest,
            attempt: self.start.attempt,
            total_attempts: self.start.total_attempts,
            slot: self.slot.number,
            group_slot: self.start.group_slot,
            output_cap: work.output_cap,
            roots: outermost(places.map(|place| place.clone().into_std_path_buf())),
        }
    }

    /// Returns the files that it asked for, that exist here, and that it was not sent.
    fn missed(&self, report: &Report) -> BTreeSet<Utf8PathBuf> {
        // With a file all folders above it are sent.
        let inputs = &self.may_go.needs.inputs;
        let sent = |path: &Utf8Path| {
            let known = inputs.range(path.to_owned()..).next().map(|(path, _)| path);
            let more = self.more.range(path.to_owned()..).next();
            let mut next = known.into_iter().chain(more);
            next.any(|next| next.starts_with(path))
        };
        let trace = report.attempt.trace.as_ref();
        trace.map_or_else(BTreeSet::new, |trace| {
            missed(trace, &self.away.places, &sent)
        })
    }

    fn learn(&mut self, missed: BTreeSet<Utf8PathBuf>) {
        let first = missed.first().map_or("", |path| path.as_str());
        let count = missed.len();
        self.earlier.push(match count {
            1 => format!("it lacked `{first}`"),
            _ => format!("it lacked {count} files and folders, the first of them `{first}`"),
        });
        if let Some(learnt) = &mut *self.away.learnt.borrow_mut() {
            learnt.add(&self.test.id, missed.iter().cloned());
        }
        self.more.extend(missed);
    }

    /// Takes the result in.
    fn result(self, done: Done, report: Report) -> Over {
        let cap = self.shared.work.output_cap;
        let stream = |path: &str, kept: Kept| {
            let bytes = done
                .outputs
                .get(path)
                .map(Vec::as_slice)
                .unwrap_or_default();
            let head = usize::try_from(kept.head)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            let (head, tail) = bytes.split_at(head);
            Captured::received(cap, kept.written, head, tail)
        };
        let output = Output {
            stdout: stream(STDOUT, report.stdout),
            stderr: stream(STDERR, report.stderr),
            toll: None,
        };
        let trace = done.outputs.get(TRACE).and_then(|trace| self.keep(trace));
        let took = Duration::from_millis(report.millis);
        let since_begin =
            (self.shared.clock.now().saturating_sub(done.place.fetch)).saturating_sub(took);
        let place = Remote {
            inputs: self.may_go.needs.inputs.len() + self.more.len(),
            earlier: self.earlier,
            ..done.place
        };
        let mut attempt = Attempt {
            number: self.start.attempt,
            started_at: self.shared.work.started_at + since_begin.max(self.begun),
            remote: Some(Box::new(place)),
            ..report.attempt
        };
        attempt.budget = budget::judge(&self.test.settings.budget, &attempt);
        attempt.verdict = budget::verdict(attempt.verdict, &attempt.budget);
        Over {
            attempt,
            output: Some(output),
            trace,
            cut: None,
            lingers: None,
        }
    }

    /// Keeps a trace as if a stub here had written it.
    fn keep(&self, trace: &[u8]) -> Option<KeptTrace> {
        let files = self.shared.work.trace_files.as_ref()?;
        let file = files.create();
        let mut written = own_files::append(file.path()).ok()?;
        written.write_all(trace).ok()?;
        file.kept_since(0)
    }

    fn interrupted(self, by: Interruption) -> Over {
        let outcome = Outcome::Interrupted { by, exit: None };
        let attempt = self.without_report(outcome);
        Over {
            cut: Some(Cut::Interrupted),
            ..over(attempt)
        }
    }

    fn given_up(self, message: String) -> Over {
        let name = self.away.engine.address();
        let tries = self.earlier.len() + 1;
        let times = if tries == 1 {
            String::new()
        } else {
            format!(", after {tries} tries")
        };
        let message = format!("no result came from `{name}`{times}: {message}");
        over(self.without_report(Outcome::HarnessFault(Fault { message })))
    }

    fn without_report(&self, outcome: Outcome) -> Attempt {
        let place = Remote {
            engine: self.away.engine.address().to_owned(),
            inputs: self.may_go.needs.inputs.len() + self.more.len(),
            earlier: self.earlier.clone(),
            ..Remote::default()
        };
        Attempt {
            remote: Some(Box::new(place)),
            ..without_report(self.shared, self.start, self.begun, outcome)
        }
    }
}

fn over(attempt: Attempt) -> Over {
    Over {
        attempt,
        output: None,
        trace: None,
        cut: None,
        lingers: None,
    }
}

fn faulty(shared: &Shared, start: Start, begun: Duration, message: String) -> Attempt {
    without_report(
        shared,
        start,
        begun,
        Outcome::HarnessFault(Fault { message }),
    )
}

fn without_report(shared: &Shared, start: Start, begun: Duration, outcome: Outcome) -> Attempt {
    let ending = Ending {
        outcome,
        leak: None,
        slow: false,
        stub_free: true,
        lingers: false,
    };
    let settings = &shared.work.test(start.test).settings;
    let verdict = verdict(&ending, &[], false, settings);
    let elapsed = shared.clock.now().saturating_sub(begun);
    let started_at = shared.work.started_at + begun;
    unreported::attempt(
        start.attempt,
        (ending.outcome, verdict),
        started_at,
        elapsed,
    )
}

/// Returns the report of an agent, or why there is none.
fn report(done: &Done) -> Result<Report, String> {
    let said = String::from_utf8_lossy(&done.stderr);
    let said = said.trim().lines().last().unwrap_or_default();
    let said = if said.is_empty() {
        String::new()
    } else {
        format!(" (it said: {said})")
    };
    let Some(bytes) = done.outputs.get(REPORT) else {
        let how = match done.exit_code {
            0 => "left no report".to_owned(),
            code => format!("ended with exit code {code}"),
        };
        return Err(format!("the agent {how}{said}"));
    };
    if let Ok(Refusal { refused }) = serde_json::from_slice(bytes) {
        return Err(format!("the agent could not run the test: {refused}"));
    }
    let report: Report = serde_json::from_slice(bytes)
        .map_err(|error| format!("the report of the agent cannot be read: {error}"))?;
    // The agent reports a test that cannot be started: the engine's word is about the agent alone.
    if done.exit_code != 0 {
        return Err(format!(
            "the agent ended with exit code {} after its report{said}",
            done.exit_code
        ));
    }
    for (path, kept) in [(STDOUT, report.stdout), (STDERR, report.stderr)] {
        if kept.written > 0 && !done.outputs.contains_key(path) {
            return Err(format!("the engine has lost the output `{path}`"));
        }
    }
    // What it says is compared with what it says elsewhere.
    let exited = matches!(report.attempt.outcome, Outcome::Exited(Exit::Code(_)));
    match exited && report.attempt.pid.is_none() {
        true => Err("the report of the agent contradicts itself".to_owned()),
        false => Ok(report),
    }
}

/// Returns the files of a test, by their paths below the input root.
fn inputs(needs: &Needs, more: &BTreeSet<Utf8PathBuf>) -> BTreeMap<String, Content> {
    let known = needs.inputs.iter().map(|(path, need)| (path, need.folder));
    let more = more.iter().map(|path| (path, path.is_dir()));
    let all = known.chain(more).map(|(path, folder)| {
        let content = match folder {
            true => Content::Folder,
            false => Content::File(path.clone().into_std_path_buf()),
        };
        (format!("{FILES}{path}"), content)
    });
    all.collect()
}

/// Returns the variables that a test has elsewhere: those that cargo and the configuration set for it, and a few of
/// this machine's. The others are this machine's own business, and some are secrets.
fn variables(environment: &Environment, test: &Test, named: &[String]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let inherited = Environment::inherited();
    let is_sent = |name: &std::ffi::OsStr| {
        let name = name.to_str().unwrap_or_default();
        SENT.contains(&name) || named.iter().any(|named| named == name)
    };
    let mut all = environment.clone();
    let own: Vec<_> = (environment.iter())
        .filter(|(name, value)| inherited.get(name) == Some(*value) && !is_sent(name))
        .map(|(name, _)| name.to_owned())
        .collect();
    own.iter().for_each(|name| all.remove(name));
    for (name, value) in &test.settings.env {
        all.set(name, value);
    }
    let pair = |(name, value): (&std::ffi::OsStr, &std::ffi::OsStr)| {
        (name.as_bytes().to_vec(), value.as_bytes().to_vec())
    };
    all.iter().map(pair).collect()
}

/// Returns folders without those that are in another one of them.
fn outermost(folders: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut outermost: Vec<PathBuf> = Vec::new();
    let all: BTreeSet<PathBuf> = folders.collect();
    for folder in all {
        if !outermost.iter().any(|outer| folder.starts_with(outer)) {
            outermost.push(folder);
        }
    }
    outermost
}
