//! Decides how each process that we start is traced: the listing of tests, and each test by what its
//! settings ask for, as far as it works here and leaves the test alone.

use super::backends::Lesson;
use crate::{
    config::settings::{TraceBackend, TraceSetting},
    proc,
    protocol::{Available, Recording, Trace},
    report::less,
    run::{
        Tracing,
        ladder::{Disturbances, Ladder, Step},
    },
};
use harness_metadata::{
    event::{TraceInForce, TraceLevel},
    trace::{Backend, Less, Missing, Reason},
};
use std::{env, fs, os::unix::fs::MetadataExt, path::Path};

/// CAP_SYS_ADMIN and CAP_SYS_PTRACE, as bits of a set of capabilities (capabilities(7)).
const SYS_ADMIN: u64 = 1 << 21;
const SYS_PTRACE: u64 = 1 << 19;

/// The backends that can be used.
#[derive(Clone, Debug)]
pub(super) struct Means {
    /// The backends that work, as the stubs have found.
    pub(super) available: Available,
    /// The privileges of this process.
    pub(super) privileges: Privileges,
    /// The reason why /proc is missing, if it is.
    pub(super) no_proc: Option<Missing>,
}

/// The capabilities of this process that matter.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Privileges {
    /// CAP_SYS_ADMIN: a filter can be installed without no_new_privs (seccomp(2)).
    pub(super) filters: bool,
    /// CAP_SYS_PTRACE: what is traced keeps the privileges that a program's file gives (ptrace(2)).
    pub(super) traces: bool,
}

/// Facts about a test, beside its settings.
#[derive(Clone, Debug, Default)]
pub(super) struct Circumstances {
    /// The facts that earlier runs have found.
    pub(super) known: Option<Lesson>,
    /// The program that runs it, if that gets privileges from its file.
    pub(super) privileged_runner: Option<String>,
    /// Whether some of its processes are to be stopped for a debugger.
    pub(super) breaks: bool,
}

/// The tracing of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) tracing: Tracing,
    /// The reasons for less than requested, and the cost.
    pub(super) lost: Option<Less>,
}

impl Choice {
    /// Returns the same, with a stop at each call.
    pub(super) fn without_recording(mut self) -> Self {
        self.tracing.recording = Recording::Off;
        self
    }

    fn new(level: TraceLevel, backend: Backend, setting: &TraceSetting) -> Self {
        Self {
            tracing: Tracing {
                level,
                backend,
                recording: match (backend, setting.backend) {
                    (Backend::Ptrace, TraceBackend::Recorder) => Recording::On,
                    (Backend::Ptrace, TraceBackend::RecorderVerified) => Recording::Verified,
                    _ => Recording::Off,
                },
                no_new_privs: setting.no_new_privs,
                ladder: None,
            },
            lost: None,
        }
    }
}

/// Returns how a binary is traced that is asked for its tests: not at all. Its answer is all that is
/// wanted, what it leaves behind is found without a tracer, and a program or a runner that cannot live
/// with one has tests as well.
pub(super) fn of_listing() -> Trace<'static> {
    Trace::NONE
}

/// Returns whether the test is to be traced at all.
pub(super) fn wanted(setting: &TraceSetting) -> bool {
    setting.level > TraceLevel::Off && setting.backend != TraceBackend::None
}

/// Returns the settings of a test some of whose processes are to be stopped for a debugger. What is
/// let go of must not have a filter; what must not be traced by ptrace cannot be stopped.
fn for_breaks(setting: &TraceSetting) -> TraceSetting {
    let stops = wanted(setting) && setting.backend != TraceBackend::Notify;
    TraceSetting {
        level: if stops {
            TraceLevel::Process
        } else {
            TraceLevel::Off
        },
        ..*setting
    }
}

impl Means {
    /// Returns how a test with these settings is traced.
    pub(super) fn choose(&self, setting: &TraceSetting, test: &Circumstances) -> Choice {
        if test.breaks {
            return self.best(&for_breaks(setting));
        }
        if !wanted(setting) {
            return Choice::new(TraceLevel::Off, Backend::None, setting);
        }
        // Every other word than `auto` is taken as it is.
        if setting.backend != TraceBackend::Auto {
            return self.best(setting);
        }
        if let Some(runner) = &test.privileged_runner
            && !(self.privileges.filters && self.privileges.traces)
        {
            let reason = Reason::PrivilegedRunner(runner.clone());
            return self.degraded(Backend::None, setting, vec![reason]);
        }
        let mut choice = self.best(setting);
        // Another run's tracer cannot be told to let go.
        if matches!(choice.tracing.backend, Backend::Outer | Backend::None) {
            return choice;
        }
        let works = |backend| self.missing(backend, setting).is_none();
        let mut ladder = Ladder {
            level: setting.level,
            ptrace: works(Backend::Ptrace),
            notify: works(Backend::Notify),
            lifecycle: works(Backend::Lifecycle),
            met: Disturbances::NONE,
        };
        if let Some(known) = &test.known {
            ladder.met = known.met();
            let step = match known.untraced {
                true => Step::NONE,
                false => ladder.step(),
            };
            choice.tracing.level = step.level;
            choice.tracing.backend = step.backend;
        }
        choice.tracing.ladder = Some(ladder);
        choice
    }

    fn best(&self, setting: &TraceSetting) -> Choice {
        let candidates: &[Backend] = match (setting.level, setting.backend) {
            (TraceLevel::Off, _) | (_, TraceBackend::None) => &[],
            // It sees no more of processes than is seen anyway.
            (TraceLevel::Process, TraceBackend::Notify) => &[],
            (_, TraceBackend::Notify) => &[Backend::Notify],
            (TraceLevel::Process, _) => &[Backend::Lifecycle, Backend::Outer],
            (_, TraceBackend::Ptrace | TraceBackend::Recorder | TraceBackend::RecorderVerified) => {
                &[Backend::Ptrace, Backend::Outer, Backend::Lifecycle]
            }
            (_, TraceBackend::Auto) => &[
                Backend::Ptrace,
                Backend::Outer,
                Backend::Notify,
                Backend::Lifecycle,
            ],
        };
        let mut missing: Vec<Reason> = Vec::new();
        for &backend in candidates {
            match self.missing(backend, setting) {
                None => return self.degraded(backend, setting, missing),
                // That no other run traces this one is as it should be.
                Some(_) if backend == Backend::Outer && self.available.no_outer.is_none() => {}
                Some(reason) if missing.contains(&reason) => {}
                Some(reason) => missing.push(reason),
            }
        }
        self.degraded(Backend::None, setting, missing)
    }

    /// Returns why a backend cannot be used for a test, if so.
    fn missing(&self, backend: Backend, setting: &TraceSetting) -> Option<Reason> {
        if let Some(reason) = self.available.missing(backend) {
            return Some(Reason::Unavailable(reason.clone()));
        }
        let has_filter = matches!(backend, Backend::Ptrace | Backend::Notify);
        (has_filter && !setting.no_new_privs && !self.privileges.filters)
            .then_some(Reason::NoNewPrivsForbidden)
    }

    /// Returns the choice of a backend that is left when others are missing.
    fn degraded(
        &self,
        backend: Backend,
        setting: &TraceSetting,
        mut because: Vec<Reason>,
    ) -> Choice {
        let level = match backend {
            Backend::Ptrace | Backend::Notify => setting.level,
            Backend::Lifecycle => TraceLevel::Process,
            Backend::Outer => {
                let outer = self.available.outer.unwrap_or(TraceLevel::Off);
                setting.level.min(outer)
            }
            Backend::None => TraceLevel::Off,
        };
        if backend == Backend::Outer {
            because.clear();
            if level < setting.level {
                because.push(Reason::OuterLevel(level));
            }
        }
        let lost = (!because.is_empty()).then_some(Less {
            because,
            left: backend,
            has_proc: self.no_proc.is_none(),
        });
        Choice {
            lost,
            ..Choice::new(level, backend, setting)
        }
    }
}

/// Returns what is in force in a run whose tests are traced like this.
pub(super) fn in_force<'a>(
    choices: impl IntoIterator<Item = &'a Choice>,
    no_proc: Option<&Missing>,
) -> TraceInForce {
    let mut force = TraceInForce {
        level: TraceLevel::Off,
        backend: Backend::None,
        degraded: None,
    };
    for choice in choices {
        let of_tests_that_trace = (force.backend, choice.tracing.backend);
        let usual = of_tests_that_trace == (Backend::Notify, Backend::Ptrace);
        if choice.tracing.level > force.level || choice.tracing.level == force.level && usual {
            force.level = choice.tracing.level;
            force.backend = choice.tracing.backend;
        }
        if force.degraded.is_none() {
            force.degraded = choice.lost.as_ref().map(less::less);
        }
    }
    if let (Some(why), None) = (no_proc, &force.degraded) {
        force.degraded = Some(less::nameless(why));
    }
    force
}

/// Returns the name of a program if its file gives privileges to who executes it: another user's or
/// group's, or capabilities.
pub(super) fn privileged_program(program: &Path) -> Option<String> {
    const SET: u32 = libc::S_ISUID | libc::S_ISGID;
    let found = if program.components().count() > 1 {
        program.to_owned()
    } else {
        let path = env::var_os("PATH")?;
        let mut candidates = env::split_paths(&path).map(|folder| folder.join(program));
        candidates.find(|candidate| candidate.is_file())?
    };
    let mode = fs::metadata(&found).ok()?.mode();
    let capable = rustix::fs::getxattr(&found, "security.capability", &mut [0; 24]).is_ok();
    (mode & SET != 0 || capable).then(|| program.display().to_string())
}

/// Returns what this process may.
pub(super) fn privileges() -> Privileges {
    proc::read("/proc/self/status")
        .map(|status| privileges_in(&status))
        .unwrap_or_default()
}

fn privileges_in(status: &[u8]) -> Privileges {
    let set = proc::effective_capabilities(status).unwrap_or(0);
    Privileges {
        filters: set & SYS_ADMIN != 0,
        traces: set & SYS_PTRACE != 0,
    }
}

#[cfg(test)]
mod tests;
