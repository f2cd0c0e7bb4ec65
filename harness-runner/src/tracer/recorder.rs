//! The state of the in-process recorder of an attempt: which processes have it, which places of theirs make many
//! calls, and what was recorded.
//!
//! A place is found by the stops that it causes. When it has caused [`MANY`], its process is made to map the hook,
//! once, and the place is led there. So a process that asks for little is left alone, and nothing has to be known
//! of files: libc, a static program and a library that is loaded later are the same. A place stays as it is, and
//! stops, if its instructions are not those that can be replaced, or as long as other threads of its process are
//! running.

use super::Map;
use crate::{
    proc,
    sys::{
        Recording, Tgid, Tid,
        recorder::{
            Injected, Injection, Place, Record, Ring, Step, counter, instruction, lead_again,
            lead_back,
        },
    },
};
use std::{
    fs::{self, File},
    io,
    time::{Duration, Instant},
};

/// The stops of a place after which its calls are recorded. A power of two.
const MANY: u32 = 16;

/// The recorder of an attempt.
#[derive(Debug)]
pub(crate) struct Recorder {
    verifies: bool,
    /// Made when the first place is led to the hook.
    ring: Option<Ring>,
    /// No more calls are to be recorded.
    disabled: bool,
    processes: Map<Tgid, Process>,
    injections: Map<Tid, (Tgid, Injection)>,
    /// The counter and the time at the same moment.
    began: (u64, Instant),
    records: Vec<Record>,
    /// The ring was full, as far as is known, before the records were taken at this stop.
    was_full: bool,
}

/// A process. What it creates has the same memory, or a copy of it.
#[derive(Clone, Debug, Default)]
struct Process {
    /// The places that have caused stops, and how many.
    places: Map<u64, u32>,
    mapped: Mapped,
}

#[derive(Copy, Clone, Debug)]
enum Mapped {
    /// This is the next call to make.
    Not(Step),
    Page(u64),
    /// It was refused.
    Never,
}

impl Default for Mapped {
    fn default() -> Self {
        Self::Not(Step::default())
    }
}

/// The next step of a thread that its filter has stopped in front of a call that could be recorded.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Consider {
    /// It makes its call.
    Call,
    /// It makes the recorder's own call.
    Injected,
    /// It goes to the hook once more.
    Again,
}

impl Recorder {
    pub(crate) fn new(recording: Recording) -> Option<Self> {
        let verifies = match recording {
            Recording::Off => return None,
            Recording::On => false,
            Recording::Verified => true,
        };
        Some(Self {
            verifies,
            ring: None,
            disabled: false,
            processes: Map::default(),
            injections: Map::default(),
            began: (counter(), Instant::now()),
            records: Vec::new(),
            was_full: false,
        })
    }

    /// Returns whether each recorded call stops as well, to be compared.
    pub(super) fn verifies(&self) -> bool {
        self.verifies
    }

    /// Has no more calls recorded, of any process.
    pub(super) fn disable(&mut self) {
        self.disabled = true;
        if let Some(ring) = &self.ring {
            ring.disable();
        }
    }

    /// Takes the records of calls that have returned. `elapsed` is the time of the attempt.
    pub(super) fn drain(&mut self, elapsed: Duration) -> Vec<(Record, Duration)> {
        let Some(ring) = &mut self.ring else {
            return Vec::new();
        };
        self.was_full = ring.drain(&mut self.records);
        let records = std::mem::take(&mut self.records);
        let dated = |record| self.dated(record, elapsed);
        records.into_iter().map(dated).collect()
    }

    /// Takes the records of calls that will not return, because their threads are gone.
    pub(super) fn abandon(
        &mut self,
        elapsed: Duration,
        gone: impl FnMut(Tid) -> bool,
    ) -> Vec<(Record, Duration)> {
        let Some(ring) = &self.ring else {
            return Vec::new();
        };
        ring.abandon(gone, &mut self.records);
        let records = std::mem::take(&mut self.records);
        records
            .into_iter()
            .map(|record| (record, elapsed))
            .collect()
    }

    /// Dates a record.
    fn dated(&self, record: Record, elapsed: Duration) -> (Record, Duration) {
        let (counted, passed) = (counter() - self.began.0, self.began.1.elapsed());
        let since = record.time.saturating_sub(self.began.0);
        let at = match (record.time, counted) {
            (0, _) | (_, 0) => elapsed,
            _ => {
                let share = (since as f64 / counted as f64).min(1.0);
                elapsed.saturating_sub(passed.mul_f64(1.0 - share))
            }
        };
        (record, at)
    }

    /// A filter has stopped a thread in front of a call that can be recorded. `is_still` tells whether no other
    /// thread of its process may be running.
    pub(super) fn consider(
        &mut self,
        (tid, process): (Tid, Tgid),
        number: u64,
        is_still: impl FnOnce() -> bool,
    ) -> Consider {
        if self.disabled {
            return Consider::Call;
        }
        let Some(behind) = instruction(tid) else {
            return Consider::Call;
        };
        let known = self.processes.entry(process).or_default();
        // There is room again. A call that is not recorded for another reason comes back here, and finds it so.
        if let Mapped::Page(page) = known.mapped
            && self.was_full
            && !self.verifies
            && lead_again(tid, page)
        {
            return Consider::Again;
        }
        let stops = known.places.entry(behind).or_default();
        *stops = stops.saturating_add(1);
        // What is to be compared, is as soon as possible.
        let many = if self.verifies { 1 } else { MANY };
        if *stops < many || !stops.is_power_of_two() || matches!(known.mapped, Mapped::Never) {
            return Consider::Call;
        }
        let Some(place) = Place::of(tid, behind, number) else {
            return Consider::Call;
        };
        if !is_still() {
            return Consider::Call;
        }
        match known.mapped {
            Mapped::Page(page) => {
                lead(place, tid, page);
                Consider::Call
            }
            Mapped::Not(step) => self.inject(tid, process, place, step),
            Mapped::Never => Consider::Call,
        }
    }

    fn inject(&mut self, tid: Tid, process: Tgid, place: Place, step: Step) -> Consider {
        if self.ring.is_none() {
            self.ring = Ring::new().ok();
        }
        let Some(ring) = &self.ring else {
            self.disabled = true;
            return Consider::Call;
        };
        match Injection::begin(tid, place, step, ring) {
            Ok(injection) => {
                self.injections.insert(tid, (process, injection));
                Consider::Injected
            }
            Err(_) => Consider::Call,
        }
    }

    /// Returns whether a thread makes calls of the recorder's.
    pub(super) fn injects(&self, tid: Tid) -> bool {
        !self.injections.is_empty() && self.injections.contains_key(&tid)
    }

    /// A call of the recorder's has returned in a thread. Returns whether it makes another one; else it makes its
    /// own. `is_still` is as before.
    pub(super) fn returned(
        &mut self,
        tid: Tid,
        result: i64,
        is_still: impl FnOnce() -> bool,
    ) -> bool {
        let (Some((process, injection)), Some(ring)) =
            (self.injections.get_mut(&tid), self.ring.as_ref())
        else {
            return false;
        };
        let known = self.processes.entry(*process).or_default();
        let memory = memory(tid);
        match injection.returned(tid, result, ring, memory.as_ref().ok()) {
            Injected::More(step) => {
                known.mapped = Mapped::Not(step);
                return true;
            }
            Injected::Whole(page) => {
                known.mapped = Mapped::Page(page);
                if is_still() {
                    lead(injection.place(), tid, page);
                }
            }
            Injected::Refused => known.mapped = Mapped::Never,
        }
        self.interrupt(tid);
        false
    }

    /// A thread is to make its own call, whatever it was made to do.
    pub(super) fn interrupt(&mut self, tid: Tid) {
        if let Some((_, injection)) = self.injections.remove(&tid) {
            injection.restore(tid);
        }
    }

    /// A signal has stopped a thread. If it is right behind a recorded call, it goes on as if its program had made
    /// the call. Returns that call, and its result.
    pub(super) fn signalled(&mut self, tid: Tid) -> Option<(Record, i64)> {
        let ring = self.ring.as_ref()?;
        let result = lead_back(tid)?;
        Some((ring.take(tid)?, result))
    }

    /// A process has created another one.
    pub(super) fn created(&mut self, creator: Tgid, child: Tgid) {
        if let Some(known) = self.processes.get(&creator).cloned() {
            self.processes.insert(child, known);
        }
    }

    /// A process has new memory, or none.
    pub(super) fn forget(&mut self, process: Tgid) {
        self.processes.remove(&process);
        self.injections.retain(|_, (of, _)| *of != process);
    }

    /// A thread is gone.
    pub(super) fn forget_thread(&mut self, tid: Tid) {
        if !self.injections.is_empty() {
            self.injections.remove(&tid);
        }
    }
}

/// Leads a place to the hook.
fn lead(place: Place, tid: Tid, page: u64) {
    // If it cannot be, or the page is full, it goes on stopping.
    let _ = memory(tid).map(|memory| place.lead(tid, &memory, page));
}

/// Opens the memory of a tracee, also that which it may not write itself (proc_pid_mem(5)).
fn memory(tid: Tid) -> io::Result<File> {
    File::options().write(true).open(proc::path(tid, "mem"))
}

/// Returns whether all threads of a process but one sleep in the kernel: none is in the middle of an instruction.
pub(super) fn is_still(process: Tgid, but: Tid) -> bool {
    let Ok(tasks) = fs::read_dir(proc::path(process, "task")) else {
        return false;
    };
    tasks.flatten().all(|task| {
        task.file_name().to_str() == Some(&but.to_string()) || {
            let stat = fs::read(task.path().join("stat")).unwrap_or_default();
            let after = stat.iter().rposition(|byte| *byte == b')');
            let state = after.and_then(|after| stat.get(after + 2));
            matches!(state, Some(b'S' | b'D' | b'T' | b't' | b'Z' | b'X'))
        }
    })
}
