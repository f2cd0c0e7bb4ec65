//! The in-process recorder of an attempt: when a place is led to it, and what it has recorded.
//!
//! The records of all processes come in front of the events of the next stop, whichever task that is of: they were
//! committed before it.

use super::{Call, Tasks, is_interruption};
use crate::{
    sys::{
        Stop, Stopped, Syscall, SyscallInfo, Tgid, Tid,
        recorder::{self, RECORDED, Record},
    },
    tracer::{
        Map, Observer,
        decode::{self, Entry, NATIVE_ARCHITECTURE},
        recorded::Recorded,
        recorder::{Consider, Recorder, is_still},
        stop::{Kernel, Next, Tracee},
    },
};
use harness_metadata::{
    TraceEventKind,
    trace::{CallResult, Doubt},
};
use std::{collections::VecDeque, time::Duration};
use syscalls::Sysno;

/// The recorder's calls.
pub(super) struct Recording {
    pub(super) recorder: Option<Recorder>,
    /// In the verifying mode: threads that stand in a recorded call, and what their stops have told, which the
    /// records are going to be compared with.
    within: Map<Tid, ()>,
    told: Map<Tid, VecDeque<Vec<TraceEventKind>>>,
}

impl Recording {
    pub(super) fn new(recorder: Option<Recorder>) -> Self {
        Self {
            recorder,
            within: Map::default(),
            told: Map::default(),
        }
    }
}

impl<K: Kernel> Tasks<K> {
    /// Tells what was recorded although nothing has stopped.
    pub(crate) fn tell_recorded(&mut self, observer: &mut dyn Observer) {
        self.take_recorded();
        self.deliver(observer);
    }

    /// Takes what was recorded since the last stop.
    pub(super) fn take_recorded(&mut self) {
        let elapsed = self.outbox.elapsed();
        let Some(recorder) = &mut self.recording.recorder else {
            return;
        };
        for (record, at) in recorder.drain(elapsed) {
            self.tell_record(&record, at);
        }
    }

    /// Takes what was recorded of threads that are gone, whose calls do not return.
    fn take_abandoned(&mut self, gone: impl Fn(&Self, Tid) -> bool) {
        let elapsed = self.outbox.elapsed();
        let Some(mut recorder) = self.recording.recorder.take() else {
            return;
        };
        let records = recorder.abandon(elapsed, |tid| gone(self, tid));
        self.recording.recorder = Some(recorder);
        for (record, at) in records {
            self.tell_record(&record, at);
        }
    }

    fn tell_record(&mut self, record: &Record, at: Duration) {
        let tracee = self.tree.tracee(record.tid);
        let number = usize::try_from(record.number).ok().and_then(Sysno::new);
        let mut events = Vec::new();
        if number.is_some_and(|number| RECORDED.contains(&number)) {
            let call = Syscall {
                arch: NATIVE_ARCHITECTURE,
                number: record.number,
                args: record.args,
            };
            let task = Recorded::new(self.live(tracee), record);
            let entry = decode::entry(&call, self.root.level, &task, &mut events);
            match (entry, record.result) {
                (Entry::Done, _) => {}
                (Entry::Await(pending), Some(result)) => {
                    decode::exit(pending, result, &task, &mut events);
                }
                (Entry::Await(pending), None) => decode::unfinished(pending, &task, &mut events),
            }
            if record.rewritten {
                events.push(TraceEventKind::Doubt(Doubt::Rewritten));
            }
        } else {
            let missing = "what a process did that wrote to the recorder's memory".to_owned();
            events.push(TraceEventKind::Doubt(Doubt::Backend(missing)));
        }
        if self.verifies() {
            self.compare(tracee, record, &mut events);
        }
        self.outbox.date(Some(at));
        self.report(tracee, &mut events);
        self.outbox.date(None);
    }

    fn verifies(&self) -> bool {
        self.recording
            .recorder
            .as_ref()
            .is_some_and(Recorder::verifies)
    }

    /// Compares what was recorded with what the stops of the same call have told, which is what counts.
    fn compare(&mut self, tracee: Tracee, record: &Record, events: &mut Vec<TraceEventKind>) {
        let told = self.recording.told.get_mut(&tracee.tid);
        let stopped = told.and_then(VecDeque::pop_front);
        if record.result.is_none() {
            self.recording.within.remove(&tracee.tid);
        }
        match stopped {
            Some(stopped) if stopped == *events => {}
            // The tracer may not, or must not, read what the process reads.
            Some(stopped) if is_blind(&stopped) => *events = stopped,
            // Another thread has changed the path between the two.
            Some(stopped) if is_rewritten(&stopped, events) => {
                *events = stopped;
                let rewritten = TraceEventKind::Doubt(Doubt::Rewritten);
                if !events.contains(&rewritten) {
                    events.push(rewritten);
                }
            }
            // It was killed before its call, or before it wrote down the answer.
            None if record.result.is_none() => {}
            Some(stopped) if record.result.is_none() && unanswered(&stopped) == *events => {
                *events = stopped;
            }
            stopped => {
                let difference = format!(
                    "what a call answered: the recorder has {events:?}, and its stops {stopped:?}"
                );
                events.clear();
                events.extend(stopped.into_iter().flatten());
                events.push(TraceEventKind::Doubt(Doubt::Backend(difference)));
            }
        }
    }

    /// Keeps what the stops of a recorded call tell, until its record comes. Returns whether it is one.
    pub(super) fn keeps_for_comparison(
        &mut self,
        tid: Tid,
        events: &mut Vec<TraceEventKind>,
    ) -> bool {
        if self.recording.within.is_empty() || self.recording.within.remove(&tid).is_none() {
            return false;
        }
        let told = self.recording.told.entry(tid).or_default();
        told.push_back(std::mem::take(events));
        true
    }

    /// A filter has stopped a task in front of a call. Returns the answer if that is the recorder's to give.
    pub(super) fn at_recordable(&mut self, tracee: Tracee, call: &Syscall) -> Option<Next> {
        self.recording.recorder.as_ref()?;
        let number = usize::try_from(call.number).ok().and_then(Sysno::new);
        let number = number.filter(|_| call.arch == NATIVE_ARCHITECTURE)?;
        let filters = match number {
            Sysno::seccomp => true,
            Sysno::prctl => call.args[0] as i32 == libc::PR_SET_SECCOMP,
            _ => false,
        };
        if filters {
            // The recorder's own calls are not among those that it will allow.
            self.stop_recording();
        }
        if !RECORDED.contains(&number) {
            return None;
        }
        if self.verifies() && self.is_recorders(tracee.tid)? {
            return Some(Next::Go(None));
        }
        let Tracee { tid, process } = tracee;
        if self.loaders.is_at_work(process) || self.is_watched(tid) || self.calls.has(tid) {
            return None;
        }
        let threads = self.tree.has_other_thread(process);
        let still = || !threads || is_still(process, tid);
        let recorder = self.recording.recorder.as_mut()?;
        match recorder.consider((tid, process), call.number, still) {
            Consider::Call => None,
            Consider::Injected => Some(Next::ToExit),
            Consider::Again => Some(Next::Go(None)),
        }
    }

    /// In the verifying mode: returns true for a call that the recorder makes for itself. One that it makes for the
    /// program is stopped like any other, and remembered.
    fn is_recorders(&mut self, tid: Tid) -> Option<bool> {
        let behind = recorder::instruction(tid)?;
        let end = recorder::HOOK + recorder::HOOK_SIZE;
        if behind == recorder::behind_call() {
            self.recording.within.insert(tid, ());
            return Some(false);
        }
        Some((recorder::HOOK..end).contains(&behind))
    }

    /// A task has stopped that makes calls of the recorder's. Returns the answer if that concerns only those.
    pub(super) fn at_injection(&mut self, stopped: &Stopped) -> Option<Next> {
        let tid = stopped.tid();
        let recorder = self.recording.recorder.as_mut()?;
        if !recorder.injects(tid) {
            return None;
        }
        let process = self.tree.tracee(tid).process;
        match (stopped.at(), self.kernel.syscall_info(tid)) {
            (Stop::Syscall, Some(SyscallInfo::Exit(result))) => {
                let threads = self.tree.has_other_thread(process);
                let still = || !threads || is_still(process, tid);
                match recorder.returned(tid, result, still) {
                    true => Some(Next::ToExit),
                    false => Some(Next::Go(None)),
                }
            }
            (Stop::Syscall | Stop::Filtered, _) => Some(Next::ToExit),
            // A signal. The handler finds the program in front of its own call.
            _ => {
                recorder.interrupt(tid);
                None
            }
        }
    }

    /// A fault has stopped a task. Returns whether it is the recorder's, which goes on.
    pub(super) fn at_recorders_fault(&self, tid: Tid) -> bool {
        if self.recording.recorder.is_none() {
            return false;
        }
        let is_fault = self
            .kernel
            .signal_origin(tid)
            .is_some_and(|(code, _)| code > 0);
        is_fault && recorder::lead_on(tid)
    }

    /// A signal has stopped a task. A handler is not to run on top of a recorded call, to which it might never return:
    /// the call goes on as one that has stopped.
    pub(super) fn leave_hook(&mut self, tracee: Tracee) {
        let recorder = self.recording.recorder.as_mut();
        let Some((record, result)) = recorder.and_then(|recorder| recorder.signalled(tracee.tid))
        else {
            return;
        };
        // In the verifying mode it has stopped, and that alone counts.
        if self.recording.within.remove(&tracee.tid).is_some() {
            return;
        }
        let told = self.recording.told.get_mut(&tracee.tid);
        if let Some(mut told) = told.and_then(VecDeque::pop_back) {
            self.report(tracee, &mut told);
            return;
        }
        let call = Syscall {
            arch: NATIVE_ARCHITECTURE,
            number: record.number,
            args: record.args,
        };
        let mut events = Vec::new();
        let entry = decode::entry(&call, self.root.level, &self.live(tracee), &mut events);
        self.report(tracee, &mut events);
        match entry {
            Entry::Done => {}
            Entry::Await(pending) if is_interruption(result) => {
                self.calls.set(tracee.tid, Call::Interrupted(call, pending));
            }
            Entry::Await(pending) => self.complete(tracee, pending, |pending, task, events| {
                decode::exit(pending, result, task, events);
            }),
        }
    }

    /// Has nothing more recorded: what the recorder relies on may not hold any more.
    pub(super) fn stop_recording(&mut self) {
        if let Some(recorder) = &mut self.recording.recorder {
            recorder.disable();
        }
    }

    /// Has nothing more recorded if a path may not mean the same to each task any more.
    pub(super) fn stop_recording_elsewhere(&mut self) {
        if self.context.elsewhere {
            self.stop_recording();
        }
    }

    /// A process was created, with a copy of its creator's memory.
    pub(super) fn recorded_creation(&mut self, creator: Tgid, child: Tid) {
        if let Some(recorder) = &mut self.recording.recorder {
            recorder.created(creator, child.led());
        }
        self.stop_recording_elsewhere();
    }

    /// A process has executed a program: nothing of the recorder's is in its memory.
    pub(super) fn recorded_execution(&mut self, process: Tgid) {
        self.take_abandoned(|tasks, tid| tasks.tree.tracee(tid).process == process);
        if let Some(recorder) = &mut self.recording.recorder {
            recorder.forget(process);
        }
    }

    /// A task has ended.
    pub(super) fn recorded_end(&mut self, tid: Tid) {
        self.take_abandoned(|_, gone| gone == tid);
        self.recording.within.remove(&tid);
        self.recording.told.remove(&tid);
        if let Some(recorder) = &mut self.recording.recorder {
            recorder.forget_thread(tid);
            recorder.forget(tid.led());
        }
    }
}

/// Returns whether the stops of a call only tell that its memory could not be read.
fn is_blind(told: &[TraceEventKind]) -> bool {
    let unread = [Doubt::Undumpable, Doubt::Unreadable];
    let is_unread = |kind: &TraceEventKind| matches!(kind, TraceEventKind::Doubt(doubt) if unread.contains(doubt));
    !told.is_empty() && told.iter().all(is_unread)
}

/// Returns whether a path was not the same when the stops and the recorder read it, or for one of them.
fn is_rewritten(told: &[TraceEventKind], recorded: &[TraceEventKind]) -> bool {
    let asked = |told: &[TraceEventKind]| match told.first() {
        Some(TraceEventKind::File(call)) => Some(call.path.asked.clone()),
        _ => None,
    };
    let rewritten = TraceEventKind::Doubt(Doubt::Rewritten);
    let (one, other) = (asked(told), asked(recorded));
    one.is_some() && other.is_some() && one != other
        || told.contains(&rewritten)
        || recorded.contains(&rewritten)
}

/// Returns the events of a call of which the answer is not known.
fn unanswered(told: &[TraceEventKind]) -> Vec<TraceEventKind> {
    let mut told = told.to_vec();
    for kind in &mut told {
        if let TraceEventKind::File(call) = kind {
            call.result = CallResult::Unknown;
            call.file = None;
        }
    }
    told
}
