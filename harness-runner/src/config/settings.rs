//! The settings of one test, after profiles, inheritance and overrides.

use super::budget::Budget;
use crate::policy::Policy;
use harness_metadata::{
    Limits,
    event::{OutputPolicy, TraceLevel},
    words,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, num::NonZeroU32, str::FromStr, time::Duration};
use thiserror::Error;

/// Everything that a test's attempts run under.
#[derive(Clone, Debug, PartialEq)]
pub struct TestSettings {
    /// The retries of a failed test, and the delays between them.
    pub retries: RetryPolicy,
    /// The result of a flaky test.
    pub flaky_result: FlakyResult,
    /// When a test is slow, and when it is ended.
    pub slow_timeout: SlowTimeout,
    /// The time that descendants and open output may outlive the test.
    pub leak_timeout: LeakTimeout,
    /// The result of a leaky test.
    pub leak: LeakPolicy,
    /// Its limits.
    pub limits: Limits,
    /// The number of slots that the test takes.
    pub threads_required: ThreadsRequired,
    /// Whether no other test runs beside it.
    pub exclusive: bool,
    /// The memory that it needs to start.
    pub memory_required: MemoryRequired,
    /// The group that limits how many tests like it run at once.
    pub test_group: TestGroup,
    /// Tests with a higher priority start earlier; −100 to 100.
    pub priority: i8,
    /// Arguments added to the test's command line.
    pub run_extra_args: Vec<String>,
    /// Variables of its environment.
    pub env: BTreeMap<String, String>,
    /// Whether exit code 0 is a pass only if the test harness reported one.
    pub require_result: bool,
    /// When and where its output is shown.
    pub output: OutputPolicy,
    /// The level of tracing.
    pub trace: TraceSetting,
    /// The files, programs and ways of communication that it may use.
    pub policy: Policy,
    /// The limits on numbers that its attempts measure.
    pub budget: Budget,
    /// Whether it may run elsewhere, and on which workers.
    pub remote: RemoteSetting,
}

/// Whether a test may run elsewhere, and on which workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSetting {
    /// Whether it may.
    pub allow: bool,
    /// Properties that a worker must have.
    pub properties: BTreeMap<String, String>,
    /// The time after which an attempt is started a second time; `None` for never.
    pub backup_after: Option<Duration>,
}

/// By the built-in defaults.
impl Default for RemoteSetting {
    fn default() -> Self {
        Self {
            allow: true,
            properties: BTreeMap::new(),
            backup_after: None,
        }
    }
}

/// The use of passes of tests that cannot have changed since.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum ReuseMode {
    /// Nothing.
    #[default]
    Off,
    /// They are stored, with what they rest on.
    Record,
    /// They are also used instead of running the tests.
    Cached,
}

words!(ReuseMode {
    Off = "off",
    Record = "record",
    Cached = "cached",
});

/// A part of a whole: 0 to 100 percent.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Percent(pub u8);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').unwrap_or(text).trim_end();
        match number.parse() {
            Ok(percent) if percent <= 100 => Ok(Self(percent)),
            _ => Err(format!("`{text}` is no part such as `5%`, from 0% to 100%")),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// The treatment of documentation tests.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Doctests {
    /// Say that they were not run.
    #[default]
    Warn,
    /// Run them with the others.
    Run,
    /// Leave them out.
    Skip,
}

words!(Doctests { Warn = "warn", Run = "run", Skip = "skip" });

/// The number of retries of a failed test, and the delays between them.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum RetryPolicy {
    /// The same delay each time.
    Fixed {
        /// Further attempts after the first.
        count: u32,
        /// The delay before each.
        delay: Duration,
        /// Whether each delay is shortened by a random factor in (0.5, 1].
        jitter: bool,
    },
    /// A delay that doubles.
    Exponential {
        /// Further attempts after the first.
        count: u32,
        /// The first delay.
        delay: Duration,
        /// Whether each delay is shortened by a random factor in (0.5, 1].
        jitter: bool,
        /// No delay is longer.
        max_delay: Option<Duration>,
    },
}

impl RetryPolicy {
    /// No retries.
    pub const NONE: Self = Self::Fixed {
        count: 0,
        delay: Duration::ZERO,
        jitter: false,
    };

    /// Returns so many retries, each at once.
    pub fn at_once(count: u32) -> Self {
        Self::Fixed {
            count,
            delay: Duration::ZERO,
            jitter: false,
        }
    }

    /// Returns how many further attempts a failed test gets.
    pub fn count(self) -> u32 {
        match self {
            Self::Fixed { count, .. } | Self::Exponential { count, .. } => count,
        }
    }

    /// Returns the delay before the attempt that follows failed attempt `attempt` (from 1),
    /// before jitter, and whether to apply jitter.
    pub fn delay_after(self, attempt: u32) -> (Duration, bool) {
        match self {
            Self::Fixed { delay, jitter, .. } => (delay, jitter),
            Self::Exponential {
                delay,
                jitter,
                max_delay,
                ..
            } => {
                let factor = 2u32.saturating_pow(attempt.saturating_sub(1));
                let delay = delay.saturating_mul(factor);
                (max_delay.map_or(delay, |max| delay.min(max)), jitter)
            }
        }
    }
}

/// The result of a test that passes after a failed attempt.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum FlakyResult {
    /// A success.
    #[default]
    Pass,
    /// A failure.
    Fail,
}

/// When a test is slow, and when it is ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowTimeout {
    /// A test is reported as slow each time it has run for this long again.
    pub period: Duration,
    /// After so many periods it is terminated; `None` for never.
    pub terminate_after: Option<NonZeroU32>,
    /// The time between SIGTERM and SIGKILL. Zero means SIGKILL at once.
    pub grace_period: Duration,
    /// The result of a timed-out test.
    pub on_timeout: TimeoutResult,
}

/// The result of a timed-out test.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeoutResult {
    /// A success.
    Pass,
    /// A failure.
    #[default]
    Fail,
}

/// The time that descendants and open output may outlive the test.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeakTimeout {
    /// The leak window.
    pub period: Duration,
    /// The result of a leaky test, if set here.
    pub result: Option<LeakResult>,
}

/// The result of a leaky test.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeakResult {
    /// A success, marked.
    #[default]
    Pass,
    /// A failure.
    Fail,
}

/// The result of a leaky test. Its leftovers are killed and recorded in any case.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeakPolicy {
    /// A success like any other.
    Allow,
    /// A success, marked.
    #[default]
    Warn,
    /// A failure.
    Fail,
}

impl From<LeakResult> for LeakPolicy {
    fn from(result: LeakResult) -> Self {
        match result {
            LeakResult::Pass => Self::Warn,
            LeakResult::Fail => Self::Fail,
        }
    }
}

/// The number of slots that a test takes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ThreadsRequired {
    /// This many; at least 1.
    Count(usize),
    /// As many as the machine has CPUs.
    NumCpus,
    /// All slots: nothing else runs beside it.
    NumTestThreads,
}

/// The memory that has to be available before a test starts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum MemoryRequired {
    /// None: the test starts whatever is available.
    None,
    /// So many bytes.
    Bytes(u64),
    /// As much as it used last time.
    Learnt,
}

/// The group of a test.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TestGroup {
    /// No group of its own (`@global`).
    #[default]
    Global,
    /// A group of the configuration.
    Named(String),
}

impl TestGroup {
    /// Returns the group's name, `@global` for none.
    pub fn name(&self) -> &str {
        match self {
            Self::Global => nextest_metadata::GLOBAL_TEST_GROUP,
            Self::Named(name) => name,
        }
    }
}

/// A number of threads as configuration and command line give it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TestThreads {
    /// This many.
    Count(usize),
    /// As many as there are CPUs.
    NumCpus,
    /// This many fewer than there are CPUs, but at least one.
    CpusMinus(usize),
}

impl TestThreads {
    /// Returns what an integer means: negative ones count down from the number of CPUs. Zero
    /// means nothing.
    pub fn from_integer(number: i64) -> Option<Self> {
        let magnitude = usize::try_from(number.unsigned_abs()).unwrap_or(usize::MAX);
        match number.signum() {
            1 => Some(Self::Count(magnitude)),
            -1 => Some(Self::CpusMinus(magnitude)),
            _ => None,
        }
    }

    /// Returns the number for a machine with `cpus` CPUs; at least 1.
    pub fn resolve(self, cpus: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::NumCpus => cpus,
            Self::CpusMinus(fewer) => cpus.saturating_sub(fewer).max(1),
        }
    }
}

/// An invalid word for a setting on the command line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{given}` is not {expected}")]
pub struct InvalidSetting {
    /// The given word.
    pub given: String,
    /// The expected form.
    pub expected: &'static str,
}

impl FromStr for TestThreads {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let number = || text.parse().ok().and_then(Self::from_integer);
        if text == "num-cpus" {
            Some(Self::NumCpus)
        } else {
            number()
        }
        .ok_or_else(|| InvalidSetting {
            given: text.to_owned(),
            expected: "`num-cpus` or an integer other than 0",
        })
    }
}

/// The level of tracing, and whether a lower one is accepted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TraceSetting {
    /// The level.
    pub level: TraceLevel,
    /// Whether the run fails rather than degrade.
    pub required: bool,
    /// The backends that may be used.
    pub backend: TraceBackend,
    /// Whether no_new_privs may be set for the test, if a filter can not be had without: its
    /// processes then get no privileges by set-user-id programs.
    pub no_new_privs: bool,
}

/// By the built-in defaults.
impl Default for TraceSetting {
    fn default() -> Self {
        Self {
            level: TraceLevel::Io,
            required: false,
            backend: TraceBackend::Auto,
            no_new_privs: true,
        }
    }
}

/// The backends that may trace a test.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum TraceBackend {
    /// The best that works.
    #[default]
    Auto,
    /// ptrace(2) only.
    Ptrace,
    /// ptrace(2) with calls recorded in the test's own processes where that is possible.
    Recorder,
    /// As [`Self::Recorder`], and each recorded call stops as well, to be compared.
    RecorderVerified,
    /// seccomp user notification only, which leaves ptrace(2) to the test.
    Notify,
    /// Nothing: the test is not traced whatever the level says.
    None,
}

/// When a run gives up.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum MaxFail {
    /// After this many failed tests.
    Count {
        /// The number; at least 1.
        max_fail: usize,
        /// The treatment of running tests at that time.
        terminate: TerminateMode,
    },
    /// Never.
    All,
}

impl MaxFail {
    /// Returns what `fail-fast = true` and `fail-fast = false` mean.
    pub fn from_fail_fast(fail_fast: bool) -> Self {
        if fail_fast {
            Self::Count {
                max_fail: 1,
                terminate: TerminateMode::Wait,
            }
        } else {
            Self::All
        }
    }
}

impl FromStr for MaxFail {
    type Err = InvalidSetting;

    /// Parses `all`, `N`, `N:wait` or `N:immediate`.
    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        if text == "all" {
            return Ok(Self::All);
        }
        let (number, terminate) = match text.split_once(':') {
            None => (text, Some(TerminateMode::Wait)),
            Some((number, "wait")) => (number, Some(TerminateMode::Wait)),
            Some((number, "immediate")) => (number, Some(TerminateMode::Immediate)),
            Some((number, _)) => (number, None),
        };
        match (number.parse(), terminate) {
            (Ok(max_fail @ 1..), Some(terminate)) => Ok(Self::Count {
                max_fail,
                terminate,
            }),
            _ => Err(InvalidSetting {
                given: text.to_owned(),
                expected: "`all` or a number from 1, with or without `:wait` or `:immediate`",
            }),
        }
    }
}

/// The order in which tests of the same priority start.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// By the results of earlier runs: failed ones first, then the longest.
    LongestFirst,
    /// By binary, then by name.
    Name,
    /// At random, by a seed.
    Shuffle,
}

/// The treatment of running tests when a run gives up.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum TerminateMode {
    /// They finish.
    #[default]
    Wait,
    /// They are terminated.
    Immediate,
}

words!(FlakyResult { Pass = "pass", Fail = "fail" });
words!(TimeoutResult { Pass = "pass", Fail = "fail" });
words!(LeakResult { Pass = "pass", Fail = "fail" });
words!(LeakPolicy { Allow = "allow", Warn = "warn", Fail = "fail" });
words!(Order {
    LongestFirst = "longest-first",
    Name = "name",
    Shuffle = "shuffle",
});
words!(TerminateMode { Wait = "wait", Immediate = "immediate" });
words!(TraceBackend {
    Auto = "auto",
    Ptrace = "ptrace",
    Recorder = "recorder",
    RecorderVerified = "recorder-verified",
    Notify = "notify",
    None = "none",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_read_from_numbers_and_from_num_cpus() {
        assert_eq!("4".parse(), Ok(TestThreads::Count(4)));
        assert_eq!("-2".parse(), Ok(TestThreads::CpusMinus(2)));
        assert_eq!("num-cpus".parse(), Ok(TestThreads::NumCpus));
        assert_eq!(
            "0".parse::<TestThreads>()
                .expect_err("0 runs nothing")
                .to_string(),
            "`0` is not `num-cpus` or an integer other than 0"
        );
    }

    #[test]
    fn fewer_threads_than_cpus_are_at_least_one() {
        assert_eq!(TestThreads::CpusMinus(8).resolve(2), 1);
        assert_eq!(TestThreads::CpusMinus(1).resolve(4), 3);
    }

    #[test]
    fn the_number_of_failures_may_say_what_becomes_of_running_tests() {
        let count = |max_fail, terminate| {
            Ok(MaxFail::Count {
                max_fail,
                terminate,
            })
        };
        assert_eq!("all".parse(), Ok(MaxFail::All));
        assert_eq!("3".parse(), count(3, TerminateMode::Wait));
        assert_eq!("3:wait".parse(), count(3, TerminateMode::Wait));
        assert_eq!("1:immediate".parse(), count(1, TerminateMode::Immediate));
        assert!("0".parse::<MaxFail>().is_err());
        assert!("3:now".parse::<MaxFail>().is_err());
    }

    #[test]
    fn exponential_delays_double_up_to_the_greatest() {
        let seconds = Duration::from_secs;
        let policy = RetryPolicy::Exponential {
            count: 9,
            delay: seconds(1),
            jitter: false,
            max_delay: Some(seconds(5)),
        };
        let delays: Vec<_> = (1..=4)
            .map(|attempt| policy.delay_after(attempt).0)
            .collect();
        assert_eq!(delays, [seconds(1), seconds(2), seconds(4), seconds(5)]);
    }
}
