//! Decides how each test is traced: what its settings ask for, as far as it works here.

use crate::{
    config::settings::{TraceBackend, TraceSetting},
    protocol::Available,
    run::Tracing,
};
use harness_metadata::{
    event::{TraceInForce, TraceLevel},
    trace::Backend,
};
use std::fs;

/// CAP_SYS_ADMIN, as a bit of a set of capabilities (capabilities(7)).
const SYS_ADMIN: u64 = 1 << 21;

/// What there is to trace with.
#[derive(Clone, Debug)]
pub(super) struct Means {
    /// What the stubs have found to work.
    pub(super) available: Available,
    /// Whether a filter can be installed without no_new_privs (seccomp(2)).
    pub(super) privileged: bool,
    /// Why there is no /proc, if so.
    pub(super) no_proc: Option<&'static str>,
}

/// How a test is traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) tracing: Tracing,
    /// What is missing, if it is less than what was asked for, and what that costs.
    pub(super) lost: Option<String>,
}

impl Choice {
    fn new(level: TraceLevel, backend: Backend, setting: &TraceSetting) -> Self {
        Self {
            tracing: Tracing {
                level,
                backend,
                no_new_privs: setting.no_new_privs,
                otherwise: None,
            },
            lost: None,
        }
    }
}

/// Returns whether the test is to be traced at all.
pub(super) fn wanted(setting: &TraceSetting) -> bool {
    setting.level > TraceLevel::Off && setting.backend != TraceBackend::None
}

/// Returns the settings of a test some of whose processes are to be stopped for a debugger. What is
/// let go of must not have a filter; what must not be traced by ptrace cannot be stopped.
pub(super) fn for_breaks(setting: &TraceSetting) -> TraceSetting {
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

/// Returns what that costs.
pub(super) fn cost_of_breaks() -> String {
    "a process that `--break-exec` lets go of must not have a filter; files and the network are not \
     seen"
        .to_owned()
}

impl Means {
    /// Returns how a test with these settings is traced.
    /// What it turned out to need in an earlier run is `known`.
    pub(super) fn choose(&self, setting: &TraceSetting, known: Option<Backend>) -> Choice {
        if !wanted(setting) {
            return Choice::new(TraceLevel::Off, Backend::None, setting);
        }
        if setting.backend != TraceBackend::Auto || setting.level <= TraceLevel::Process {
            return self.best(setting);
        }
        let mut choice = match known.filter(|known| self.missing(*known, setting).is_none()) {
            Some(Backend::None) => Choice::new(TraceLevel::Off, Backend::None, setting),
            Some(known) => Choice::new(setting.level, known, setting),
            None => self.best(setting),
        };
        let other = match choice.tracing.backend {
            Backend::Ptrace => Backend::Notify,
            Backend::Notify => Backend::Ptrace,
            Backend::Lifecycle | Backend::Outer | Backend::None => return choice,
        };
        let works = self.missing(other, setting).is_none();
        choice.tracing.otherwise = Some(if works { other } else { Backend::None });
        choice
    }

    fn best(&self, setting: &TraceSetting) -> Choice {
        let candidates: &[Backend] = match (setting.level, setting.backend) {
            (TraceLevel::Off, _) | (_, TraceBackend::None) => &[],
            // It sees no more of processes than is seen anyway.
            (TraceLevel::Process, TraceBackend::Notify) => &[],
            (_, TraceBackend::Notify) => &[Backend::Notify],
            (TraceLevel::Process, _) => &[Backend::Lifecycle, Backend::Outer],
            (_, TraceBackend::Ptrace) => &[Backend::Ptrace, Backend::Outer, Backend::Lifecycle],
            (_, TraceBackend::Auto) => &[
                Backend::Ptrace,
                Backend::Outer,
                Backend::Notify,
                Backend::Lifecycle,
            ],
        };
        let mut missing: Vec<String> = Vec::new();
        for &backend in candidates {
            match self.missing(backend, setting) {
                None => return self.degraded(backend, setting, &missing),
                // That no other run traces this one is as it should be.
                Some(_) if backend == Backend::Outer && self.available.no_outer.is_none() => {}
                Some(reason) if missing.contains(&reason) => {}
                Some(reason) => missing.push(reason),
            }
        }
        self.degraded(Backend::None, setting, &missing)
    }

    /// Returns why a backend cannot be used for a test, if so.
    fn missing(&self, backend: Backend, setting: &TraceSetting) -> Option<String> {
        if let Some(reason) = self.available.missing(backend) {
            return Some(reason.to_owned());
        }
        let has_filter = matches!(backend, Backend::Ptrace | Backend::Notify);
        (has_filter && !setting.no_new_privs && !self.privileged).then(|| {
            "a filter of system calls needs no_new_privs, which `trace.no-new-privs` forbids"
                .to_owned()
        })
    }

    /// Returns the choice of a backend that is left when others are `missing`.
    fn degraded(&self, backend: Backend, setting: &TraceSetting, missing: &[String]) -> Choice {
        let level = match backend {
            Backend::Ptrace | Backend::Notify => setting.level,
            Backend::Lifecycle => TraceLevel::Process,
            Backend::Outer => {
                let outer = self.available.outer.unwrap_or(TraceLevel::Off);
                setting.level.min(outer)
            }
            Backend::None => TraceLevel::Off,
        };
        let mut choice = Choice::new(level, backend, setting);
        if backend == Backend::Outer {
            // It tells what ours would see, if it looks as closely.
            choice.lost = (level < setting.level).then(|| {
                let level = level.as_str();
                format!("the run that this run is part of traces at level {level} only")
            });
            return choice;
        }
        if missing.is_empty() {
            return choice;
        }
        let cost = match (backend, self.no_proc) {
            (Backend::Ptrace | Backend::Outer, _) => "nothing is lost",
            (Backend::Notify, _) => {
                "seccomp notification is used instead, which sees what is asked of the kernel but \
                 not what comes of it"
            }
            (Backend::Lifecycle, None) => {
                "processes are followed, but files and the network are not seen"
            }
            (Backend::Lifecycle, Some(_)) => {
                "processes are followed, but files and the network are not seen; what a test leaves \
                 behind is killed, but cannot be named"
            }
            (Backend::None, None) => {
                "descendants are known by the subreaper and the process group only, and processes \
                 are not counted"
            }
            (Backend::None, Some(_)) => {
                "processes are not counted; what a test leaves behind is killed, but cannot be named"
            }
        };
        choice.lost = Some(format!("{}; {cost}", missing.join("; ")));
        choice
    }
}

/// Returns what is in force in a run whose tests are traced like this.
pub(super) fn in_force<'a>(
    choices: impl IntoIterator<Item = &'a Choice>,
    no_proc: Option<&str>,
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
            force.degraded.clone_from(&choice.lost);
        }
    }
    if let (Some(why), None) = (no_proc, &force.degraded) {
        let lost = format!("{why}; what a test leaves behind is killed, but cannot be named");
        force.degraded = Some(lost);
    }
    force
}

/// Returns whether this process has CAP_SYS_ADMIN.
pub(super) fn privileged() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| has_sys_admin(&status))
}

fn has_sys_admin(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .is_some_and(|set| set & SYS_ADMIN != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(level: TraceLevel) -> TraceSetting {
        TraceSetting {
            level,
            ..TraceSetting::default()
        }
    }

    fn means(no_ptrace: bool, no_filter: bool, no_notify: bool) -> Means {
        let why = |missing: bool, why: &str| missing.then(|| why.to_owned());
        Means {
            available: Available {
                no_ptrace: why(no_ptrace, "no ptrace"),
                no_filter: why(no_filter, "no filter"),
                no_notify: why(no_notify, "no notify"),
                ..Available::default()
            },
            privileged: false,
            no_proc: None,
        }
    }

    fn chosen(choice: &Choice) -> (TraceLevel, Backend) {
        (choice.tracing.level, choice.tracing.backend)
    }

    #[test]
    fn where_all_works_a_test_gets_what_it_asks_for() {
        let all = means(false, false, false);
        for (level, backend) in [
            (TraceLevel::Off, Backend::None),
            (TraceLevel::Process, Backend::Lifecycle),
            (TraceLevel::Io, Backend::Ptrace),
            (TraceLevel::Full, Backend::Ptrace),
        ] {
            let choice = all.choose(&setting(level), None);
            assert_eq!(chosen(&choice), (level, backend));
            assert_eq!(choice.lost, None);
        }
    }

    #[test]
    fn files_are_seen_by_the_best_backend_that_works_and_the_loss_is_told() {
        let choose = |means: Means| means.choose(&setting(TraceLevel::Full), None);
        let notify = choose(means(true, false, false));
        assert_eq!(chosen(&notify), (TraceLevel::Full, Backend::Notify));
        assert!(notify.lost.unwrap().starts_with("no ptrace; seccomp"));
        let lifecycle = choose(means(false, true, true));
        assert_eq!(
            chosen(&lifecycle),
            (TraceLevel::Process, Backend::Lifecycle)
        );
        assert_eq!(
            lifecycle.lost.unwrap(),
            "no filter; no notify; processes are followed, but files and the network are not seen"
        );
        let nothing = choose(means(true, true, true));
        assert_eq!(chosen(&nothing), (TraceLevel::Off, Backend::None));
        // The same reason is told once, though two backends lack it.
        assert_eq!(nothing.lost.unwrap().matches("no ptrace").count(), 1);
    }

    #[test]
    fn a_run_that_is_traced_has_its_tests_traced_by_its_tracer() {
        let mut means = means(true, true, false);
        means.available.outer = Some(TraceLevel::Io);
        let choose = |level, backend| {
            let setting = TraceSetting {
                backend,
                ..setting(level)
            };
            let choice = means.choose(&setting, None);
            (chosen(&choice), choice.lost.is_some())
        };
        use TraceLevel::*;
        for (level, backend, expected) in [
            (Off, TraceBackend::Auto, ((Off, Backend::None), false)),
            (
                Process,
                TraceBackend::Auto,
                ((Process, Backend::Outer), false),
            ),
            (Io, TraceBackend::Auto, ((Io, Backend::Outer), false)),
            (Io, TraceBackend::Ptrace, ((Io, Backend::Outer), false)),
            (Full, TraceBackend::Auto, ((Io, Backend::Outer), true)),
            (Io, TraceBackend::Notify, ((Io, Backend::Notify), false)),
        ] {
            assert_eq!(choose(level, backend), expected);
        }
    }

    #[test]
    fn a_backend_that_is_named_is_not_replaced_by_one_that_uses_something_else() {
        let notify_only = TraceSetting {
            backend: TraceBackend::Notify,
            ..setting(TraceLevel::Io)
        };
        let choice = means(false, false, true).choose(&notify_only, None);
        assert_eq!(chosen(&choice), (TraceLevel::Off, Backend::None));
        assert!(choice.lost.is_some());
        let ptrace_only = TraceSetting {
            backend: TraceBackend::Ptrace,
            ..setting(TraceLevel::Io)
        };
        let choice = means(false, true, false).choose(&ptrace_only, None);
        assert_eq!(chosen(&choice), (TraceLevel::Process, Backend::Lifecycle));
        let none = TraceSetting {
            backend: TraceBackend::None,
            ..setting(TraceLevel::Full)
        };
        let choice = means(true, true, true).choose(&none, None);
        assert_eq!(
            (chosen(&choice), choice.lost),
            ((TraceLevel::Off, Backend::None), None)
        );
    }

    #[test]
    fn a_test_that_traces_is_run_as_it_turned_out_to_need_unless_its_settings_say_how() {
        let all = means(false, false, false);
        let choose = |means: &Means, backend, known| {
            let setting = TraceSetting {
                backend,
                ..setting(TraceLevel::Io)
            };
            let tracing = means.choose(&setting, known).tracing;
            (tracing.backend, tracing.otherwise)
        };
        use Backend::{Lifecycle, Notify, Ptrace};
        let auto = TraceBackend::Auto;
        assert_eq!(choose(&all, auto, None), (Ptrace, Some(Notify)));
        assert_eq!(choose(&all, auto, Some(Notify)), (Notify, Some(Ptrace)));
        assert_eq!(
            choose(&all, auto, Some(Backend::None)),
            (Backend::None, None)
        );
        let only_ptrace = means(false, false, true);
        assert_eq!(
            choose(&only_ptrace, auto, Some(Notify)),
            (Ptrace, Some(Backend::None))
        );
        assert_eq!(
            choose(&means(false, true, true), auto, None),
            (Lifecycle, None)
        );
        for known in [None, Some(Notify)] {
            assert_eq!(choose(&all, TraceBackend::Ptrace, known), (Ptrace, None));
        }
    }

    #[test]
    fn without_no_new_privs_only_the_privileged_get_a_filter() {
        let setting = TraceSetting {
            no_new_privs: false,
            ..setting(TraceLevel::Io)
        };
        let mut means = means(false, false, false);
        let choice = means.choose(&setting, None);
        assert_eq!(chosen(&choice), (TraceLevel::Process, Backend::Lifecycle));
        assert!(choice.lost.unwrap().contains("no_new_privs"));
        means.privileged = true;
        let choice = means.choose(&setting, None);
        assert_eq!(chosen(&choice), (TraceLevel::Io, Backend::Ptrace));
        assert!(!choice.tracing.no_new_privs);
    }

    #[test]
    fn where_processes_are_stopped_there_is_no_filter_and_what_is_off_stays_off() {
        use {TraceBackend::*, TraceLevel::*};
        for (level, backend, expected) in [
            (Full, Auto, (Process, Backend::Lifecycle)),
            (Io, Ptrace, (Process, Backend::Lifecycle)),
            (Off, Auto, (Off, Backend::None)),
            (Io, Notify, (Off, Backend::None)),
            (Io, None, (Off, Backend::None)),
        ] {
            let setting = TraceSetting {
                backend,
                ..setting(level)
            };
            let choice = means(false, false, false).choose(&for_breaks(&setting), Option::None);
            assert_eq!(chosen(&choice), expected, "{level:?} {backend:?}");
        }
    }

    #[test]
    fn what_is_in_force_in_a_run_is_its_highest_level() {
        let all = means(false, false, false);
        let choices = [TraceLevel::Off, TraceLevel::Io, TraceLevel::Process]
            .map(|level| all.choose(&setting(level), None));
        let force = in_force(&choices, None);
        assert_eq!(
            (force.level, force.backend, force.degraded),
            (TraceLevel::Io, Backend::Ptrace, None)
        );
        assert_eq!(
            in_force(&choices, Some("there is no /proc"))
                .degraded
                .as_deref(),
            Some("there is no /proc; what a test leaves behind is killed, but cannot be named")
        );
        assert_eq!(in_force(&[], None).level, TraceLevel::Off);
    }

    #[test]
    fn privileges_are_read_from_the_effective_set() {
        assert!(has_sys_admin("CapPrm:\t0\nCapEff:\t000001ffffffffff\n"));
        assert!(!has_sys_admin(
            "CapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\n"
        ));
    }
}
