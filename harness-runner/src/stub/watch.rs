//! The records and reports of the tracer's events.

use super::{
    broker::{Broker, Traced},
    cgroup::Den,
    sys::Pid,
};
use crate::{
    policy::{Bounds, Judge},
    protocol::{Available, Escape, Recording, Trace},
    tracer::{
        Observer, notified,
        record::{Loaded, Recorder},
    },
};
use harness_metadata::{
    TraceEvent, TraceSummary, Violations,
    event::TraceLevel,
    trace::{Backend, Doubt},
};
use std::{
    cell::RefCell,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

/// The receivers of a tree's events.
#[derive(Default)]
pub(super) struct Watch {
    /// `None` if it is not traced.
    recorder: Option<Recorder>,
    /// Events that were not sent to the runner yet; `None` if it does not want them.
    unsaid: Option<Vec<TraceEvent>>,
    /// Tells runs within the test.
    broker: Option<Rc<RefCell<Broker>>>,
    /// A cgroup with limits.
    limited: Option<Rc<Den>>,
    /// The first event that shows by what its limits may not have held.
    opened: Option<Escape>,
    /// Finds violations of the policy.
    judge: Option<Judge>,
}

/// The tracing of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) level: TraceLevel,
    pub(super) backend: Backend,
    /// Whether calls are recorded.
    pub(super) recording: Recording,
    /// The requested part that is missing.
    missing: Option<String>,
}

impl Way {
    /// Chooses what works here of what is asked for.
    pub(super) fn choose(asked: &Trace<'_>, available: &Available) -> Self {
        let nothing = Self {
            level: TraceLevel::Off,
            backend: Backend::None,
            recording: Recording::Off,
            missing: None,
        };
        let backend = match asked.backend {
            _ if asked.level == TraceLevel::Off => Backend::None,
            Backend::Ptrace if asked.level == TraceLevel::Process => Backend::Lifecycle,
            backend => backend,
        };
        if backend == Backend::Outer {
            // If it turns out not to be there, that is said.
            return Self {
                level: asked.level,
                backend,
                ..nothing
            };
        }
        if backend == Backend::Notify {
            let works = available.no_notify.is_none() && asked.level > TraceLevel::Process;
            let level = asked.level;
            return if works {
                Self {
                    level,
                    backend,
                    recording: Recording::Off,
                    missing: Some(notified::UNSEEN.to_owned()),
                }
            } else {
                nothing
            };
        }
        if backend == Backend::None || available.no_ptrace.is_some() {
            return nothing;
        }
        if backend == Backend::Ptrace && available.no_filter.is_none() {
            return Self {
                level: asked.level,
                backend,
                recording: asked.recording,
                missing: None,
            };
        }
        let less = asked.level > TraceLevel::Process;
        Self {
            level: TraceLevel::Process,
            backend: Backend::Lifecycle,
            recording: Recording::Off,
            missing: less.then(|| "what processes do, only that they exist".to_owned()),
        }
    }

    /// Returns whether a filter is needed.
    pub(super) fn filtered(&self) -> bool {
        self.level > TraceLevel::Process
            && matches!(self.backend, Backend::Ptrace | Backend::Notify)
    }

    /// The work of the outer tracer at this level, or the reason why it does none.
    pub(super) fn by_outer(level: Result<TraceLevel, String>) -> Self {
        let (level, missing) = match level {
            Ok(level) => (level, None),
            Err(why) => (TraceLevel::Process, Some(format!("anything: {why}"))),
        };
        Self {
            level,
            backend: Backend::Outer,
            recording: Recording::Off,
            missing,
        }
    }
}

impl Watch {
    /// Watches a root.
    pub(super) fn new(root: Pid, way: &Way, asked: &Trace<'_>) -> Self {
        if way.level == TraceLevel::Off {
            return Self::default();
        }
        let wanted = way.level > TraceLevel::Process && !asked.file.is_empty();
        let file = wanted.then(|| PathBuf::from(OsStr::from_bytes(asked.file)));
        let mut recorder = Recorder::new(root, way.level, way.backend, file);
        if let Some(missing) = &way.missing {
            recorder.doubt(Doubt::Backend(missing.clone()));
        }
        Self {
            recorder: Some(recorder),
            unsaid: asked.live.then(Vec::new),
            broker: None,
            limited: None,
            opened: None,
            judge: None,
        }
    }

    /// The tree has this policy.
    pub(super) fn judged_by(self, bounds: Option<Rc<Bounds>>) -> Self {
        let judge = bounds.and_then(|bounds| Judge::of_mode((*bounds).clone()));
        Self { judge, ..self }
    }

    /// Returns the violations of the policy so far, if there are any.
    pub(super) fn violations(&self) -> Option<Box<Violations>> {
        Some(Box::new(self.judge.as_ref()?.violations()?))
    }

    /// The root was created at this moment, of which the times of the trace count.
    pub(super) fn since(self, created: Instant) -> Self {
        let recorder = self.recorder.map(|recorder| recorder.since(created));
        Self { recorder, ..self }
    }

    /// The tree has to be in a cgroup with limits, if so.
    pub(super) fn within(self, limited: Option<Rc<Den>>) -> Self {
        Self { limited, ..self }
    }

    /// Returns by what the limits of the tree may not have held.
    pub(super) fn opened(&self) -> Option<&Escape> {
        self.opened.as_ref()
    }

    /// Has runs within the test told too.
    pub(super) fn telling(self, broker: Option<Rc<RefCell<Broker>>>) -> Self {
        Self { broker, ..self }
    }

    /// Sees to what runs within the test want to know.
    pub(super) fn serve(&mut self, traced: &dyn Traced) {
        if let Some(broker) = &self.broker {
            broker.borrow_mut().serve(traced);
        }
    }

    /// Adds a reason why the trace may lack something.
    pub(super) fn doubt(&mut self, doubt: Doubt) {
        if let Some(recorder) = &mut self.recorder {
            recorder.doubt(doubt);
        }
    }

    /// Returns what was seen so far. That a disk is full shows in it.
    pub(super) fn summary(&mut self) -> Option<Box<TraceSummary>> {
        let recorder = self.recorder.as_mut()?;
        recorder.flush();
        Some(Box::new(recorder.summary()))
    }

    /// Returns whether the runner wants to be told every event at once.
    pub(super) fn is_live(&self) -> bool {
        self.unsaid.is_some()
    }

    /// Returns events that the runner is to be told, if there are at least so many.
    pub(super) fn unsaid(&mut self, least: usize) -> Option<Vec<TraceEvent>> {
        let unsaid = self.unsaid.as_mut()?;
        (unsaid.len() >= least).then(|| std::mem::take(unsaid))
    }

    /// Completes the record, before the runner learns that the attempt is over: it looks then where the
    /// record ends. That it could not be written shows in the summary.
    pub(super) fn complete(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            let _ = recorder.complete();
        }
    }

    /// Tells runs within the test that it is over.
    pub(super) fn attempt_over(self) {
        if let Some(broker) = self.broker {
            broker.borrow_mut().attempt_over();
        }
    }
}

impl Watch {
    /// Returns true if a receiver wants single events.
    fn tells_events(&self) -> bool {
        let asked = |broker: &Rc<RefCell<Broker>>| broker.borrow().is_asked();
        self.unsaid.is_some() || self.broker.as_ref().is_some_and(asked)
    }

    /// Tells an event to all but the recorder.
    fn pass_on(&mut self, event: &TraceEvent) {
        if let Some(broker) = &self.broker {
            broker.borrow_mut().event(event);
        }
        if let Some(unsaid) = &mut self.unsaid {
            unsaid.push(event.clone());
        }
    }
}

impl Observer for Watch {
    fn event(&mut self, event: &TraceEvent) {
        if let Some(den) = self.limited.as_ref().filter(|_| self.opened.is_none()) {
            self.opened = den.opened_by(event);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.event(event);
        }
        if let Some(judge) = &mut self.judge {
            judge.event(event);
        }
        self.pass_on(event);
    }

    fn loaded(&mut self, at: Duration, pid: Pid, loaded: &Rc<Loaded>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.loaded(at, pid, loaded);
        }
        let tells = self.tells_events();
        if tells || self.judge.is_some() {
            for event in loaded.events(at, pid) {
                if let Some(judge) = &mut self.judge {
                    judge.event(&event);
                }
                if tells {
                    self.pass_on(&event);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness_metadata::{
        TraceEventKind,
        trace::{CallResult, FileCall, FileOperation, Missing, TracedPath},
    };

    #[test]
    fn who_wants_single_events_is_told_those_of_a_loader_too() {
        let call = FileCall {
            call: "openat".to_owned(),
            operation: FileOperation::Open,
            path: TracedPath::default(),
            to: None,
            access: None,
            result: CallResult::Found,
            file: None,
        };
        let kind = TraceEventKind::File(Box::new(call));
        let loaded = Loaded::new(vec![kind.clone(), kind.clone()]).expect("these are calls");
        let asked = Trace {
            level: TraceLevel::Io,
            backend: Backend::Ptrace,
            live: true,
            ..Trace::LIFECYCLE
        };
        let way = Way::choose(&asked, &Available::default());
        let mut watch = Watch::new(1, &way, &asked);
        let at = Duration::from_millis(3);
        watch.loaded(at, 7, &Rc::new(loaded));
        let event = TraceEvent {
            at,
            pid: 7,
            tid: 7,
            kind,
        };
        assert_eq!(watch.unsaid(1), Some(vec![event.clone(), event]));
        let summary = watch.summary().expect("it is traced");
        assert_eq!(summary.counts["file"], 2);
    }

    #[test]
    fn what_does_not_work_is_replaced_by_less_and_said() {
        let asked = Trace {
            level: TraceLevel::Io,
            backend: Backend::Ptrace,
            ..Trace::LIFECYCLE
        };
        let all = Available::default();
        let no_notify = Available {
            no_notify: Some(Missing::PtraceUntrue),
            ..all.clone()
        };
        let no_filter = Available {
            no_filter: Some(Missing::PtraceUntrue),
            ..all.clone()
        };
        let no_ptrace = Available {
            no_ptrace: Some(Missing::PtraceUntrue),
            ..all.clone()
        };
        let way = |asked: Trace<'_>, available: &Available| {
            let way = Way::choose(&asked, available);
            (way.level, way.backend, way.missing.is_some())
        };
        use {Backend::*, TraceLevel::*};
        assert_eq!(way(asked, &all), (Io, Ptrace, false));
        assert_eq!(way(asked, &no_filter), (Process, Lifecycle, true));
        assert_eq!(way(asked, &no_ptrace), (Off, None, false));
        assert_eq!(
            way(Trace::LIFECYCLE, &no_filter),
            (Process, Lifecycle, false)
        );
        let outer = Trace {
            backend: Outer,
            ..asked
        };
        assert_eq!(way(outer, &no_ptrace), (Io, Outer, false));
        let notify = Trace {
            backend: Notify,
            ..asked
        };
        assert_eq!(way(notify, &no_ptrace), (Io, Notify, true));
        assert_eq!(way(notify, &no_notify), (Off, None, false));
        let notify = Trace {
            level: Process,
            ..notify
        };
        assert_eq!(way(notify, &all), (Off, None, false));
        let off = Trace {
            level: Off,
            ..asked
        };
        assert_eq!(way(off, &all), (Off, None, false));
    }
}
