//! Ways in which a tracer can disturb the test that it traces.

use super::Backend;
use crate::{
    event::TraceLevel,
    outcome::{Outcome, Verdict},
};
use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};

/// A difference that the tracer made to a test.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum Disturbance {
    /// `ptrace(2)` was refused: a process has one tracer, and that was ours.
    PtraceRefused,
    /// A listener for system calls was refused: there is one (`seccomp_unotify(2)`), and that was ours.
    ListenerRefused,
    /// Seccomp's strict mode was refused, because our filter was installed.
    StrictModeRefused,
    /// It asked which seccomp mode it is in (`PR_GET_SECCOMP`), and our filter is the answer.
    SeccompAsked,
    /// It asked whether it has given up gaining privileges (`PR_GET_NO_NEW_PRIVS`), which was done for
    /// our filter.
    NoNewPrivsAsked,
    /// It confined itself without giving up gaining privileges first, which the kernel allowed because
    /// that was done for our filter.
    NoNewPrivsUsed,
    /// It opened `/proc/PID/status` of one of its processes, which shows a tracer, filters and
    /// no_new_privs.
    StatusRead,
    /// It opened `/proc/PID/stat` of one of its processes that a signal had stopped: with a tracer,
    /// another state stands there.
    StoppedRead,
    /// A filter of its own hands calls to a tracer (`SECCOMP_RET_TRACE`), which was ours, or which our
    /// filter kept them from.
    FilterForTracer,
    /// A set-user-id or set-group-id program, or one with file capabilities, did not gain them, because
    /// of our filter (no_new_privs) or our tracer.
    PrivilegesWithheld,
}

impl Disturbance {
    /// All disturbances, in order.
    pub const ALL: [Self; 10] = [
        Self::PtraceRefused,
        Self::ListenerRefused,
        Self::StrictModeRefused,
        Self::SeccompAsked,
        Self::NoNewPrivsAsked,
        Self::NoNewPrivsUsed,
        Self::StatusRead,
        Self::StoppedRead,
        Self::FilterForTracer,
        Self::PrivilegesWithheld,
    ];

    /// Returns true if this backend can cause it.
    pub fn is_caused_by(self, backend: Backend) -> bool {
        use Backend::{Lifecycle, None, Notify, Outer, Ptrace};
        match self {
            Self::PtraceRefused | Self::StoppedRead => {
                matches!(backend, Ptrace | Lifecycle | Outer)
            }
            Self::ListenerRefused => backend == Notify,
            Self::StrictModeRefused
            | Self::SeccompAsked
            | Self::NoNewPrivsAsked
            | Self::NoNewPrivsUsed
            | Self::FilterForTracer => matches!(backend, Ptrace | Notify | Outer),
            Self::StatusRead | Self::PrivilegesWithheld => backend != None,
        }
    }
}

/// Shows it as a sentence fragment.
impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PtraceRefused => "ptrace was refused, because the tracer had the process already",
            Self::ListenerRefused => {
                "a seccomp listener was refused, because the tracer was the listener already"
            }
            Self::StrictModeRefused => {
                "seccomp's strict mode was refused, because the tracer's filter was installed"
            }
            Self::SeccompAsked => {
                "it asked for its seccomp mode, which the tracer's filter changes"
            }
            Self::NoNewPrivsAsked => {
                "it asked for no_new_privs, which is set for the tracer's filter"
            }
            Self::NoNewPrivsUsed => {
                "it confined itself without no_new_privs of its own, which is set for the tracer's \
                 filter"
            }
            Self::StatusRead => {
                "it opened /proc/PID/status of its own, which shows the tracer and its filter"
            }
            Self::StoppedRead => {
                "it opened /proc/PID/stat of a stopped process of its own, whose state a tracer \
                 changes"
            }
            Self::FilterForTracer => {
                "a seccomp filter of its own hands calls to a tracer, \
                 which the tracer comes between"
            }
            Self::PrivilegesWithheld => {
                "a program did not gain the privileges that its file gives, because of the tracer"
            }
        })
    }
}

/// An earlier time of an attempt that does not count, because the tracer disturbed it or may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct EarlierTime {
    /// The level of tracing.
    pub level: TraceLevel,
    /// The backend.
    pub backend: Backend,
    /// The outcome.
    pub outcome: Outcome,
    /// The profile's verdict.
    pub verdict: Verdict,
    /// The running time of the test's own process.
    #[serde(with = "crate::seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub elapsed: Duration,
    /// The disturbances. Empty for a failure under another backend, chosen because of an earlier
    /// disturbance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disturbances: Vec<Disturbance>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_tracer_nothing_is_in_the_way_and_each_disturbance_has_a_cause() {
        use Disturbance::*;
        let mut asked = Vec::new();
        for (disturbance, causes) in [
            (PtraceRefused, "ptrace lifecycle outer"),
            (ListenerRefused, "notify"),
            (StrictModeRefused, "ptrace notify outer"),
            (SeccompAsked, "ptrace notify outer"),
            (NoNewPrivsAsked, "ptrace notify outer"),
            (NoNewPrivsUsed, "ptrace notify outer"),
            (StatusRead, "ptrace notify lifecycle outer"),
            (StoppedRead, "ptrace lifecycle outer"),
            (FilterForTracer, "ptrace notify outer"),
            (PrivilegesWithheld, "ptrace notify lifecycle outer"),
        ] {
            let all = [
                Backend::Ptrace,
                Backend::Notify,
                Backend::Lifecycle,
                Backend::Outer,
                Backend::None,
            ];
            let caused: Vec<_> = all
                .into_iter()
                .filter(|backend| disturbance.is_caused_by(*backend))
                .map(Backend::as_str)
                .collect();
            let mut expected: Vec<_> = causes.split(' ').collect();
            let order = |name: &&str| all.iter().position(|backend| backend.as_str() == *name);
            expected.sort_by_key(order);
            assert_eq!(caused, expected, "{disturbance:?}");
            asked.push(disturbance);
        }
        assert_eq!(asked, Disturbance::ALL);
        let numbers = Disturbance::ALL.map(|disturbance| disturbance as usize);
        assert_eq!(numbers, std::array::from_fn(|number| number));
    }
}
