//! Writes settings the way the configuration would.

use super::settings::{
    LeakTimeout, MaxFail, MemoryRequired, Percent, RetryPolicy, SlowTimeout, TerminateMode,
    TestGroup, TestThreads, ThreadsRequired,
};
use camino::Utf8PathBuf;
use harness_metadata::{Cpus, Word};
use std::{collections::BTreeMap, time::Duration};

/// A setting that can be written in TOML.
pub(super) trait Show {
    /// Returns the value in TOML. What has no TOML, such as no limit, is a word without quotes.
    fn show(&self) -> String;
}

/// Things that print as TOML already, or do when quoted.
macro_rules! show_with {
    ($format:literal: $($type:ty),+) => {
        $(impl Show for $type {
            fn show(&self) -> String {
                format!($format, self)
            }
        })+
    };
}

show_with!("{}": bool, i8, u32, usize, Cpus);
show_with!("{:?}": String, Utf8PathBuf, Vec<String>);

impl Show for BTreeMap<String, String> {
    fn show(&self) -> String {
        let entries: Vec<_> = (self.iter())
            .map(|(name, value)| format!("{name} = {value:?}"))
            .collect();
        match entries.is_empty() {
            true => "{}".to_owned(),
            false => format!("{{ {} }}", entries.join(", ")),
        }
    }
}

impl Show for Percent {
    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Show for Duration {
    fn show(&self) -> String {
        format!("\"{}\"", humantime::format_duration(*self))
    }
}

/// A limit, which the word `"none"` lifts again.
macro_rules! show_limits {
    ($($type:ty),+) => {
        $(impl Show for Option<$type> {
            fn show(&self) -> String {
                self.as_ref().map_or_else(|| "\"none\"".to_owned(), Show::show)
            }
        })+
    };
}

show_limits!(u64, u32, Cpus);

/// A setting that has no value to write if it is absent.
macro_rules! show_optional {
    ($($type:ty),+) => {
        $(impl Show for Option<$type> {
            fn show(&self) -> String {
                self.as_ref().map_or_else(|| "none".to_owned(), Show::show)
            }
        })+
    };
}

show_optional!(Duration, Utf8PathBuf);

impl Show for u64 {
    fn show(&self) -> String {
        for (unit, bytes) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if *self > 0 && self.is_multiple_of(bytes) {
                return format!("\"{} {unit}\"", self / bytes);
            }
        }
        self.to_string()
    }
}

impl Show for RetryPolicy {
    fn show(&self) -> String {
        match *self {
            Self::Fixed {
                count,
                delay: Duration::ZERO,
                ..
            } => count.to_string(),
            Self::Fixed {
                count,
                delay,
                jitter,
            } => format!(
                "{{ backoff = \"fixed\", count = {count}, delay = {}, jitter = {jitter} }}",
                delay.show()
            ),
            Self::Exponential {
                count,
                delay,
                jitter,
                max_delay,
            } => {
                let max_delay = max_delay
                    .map_or_else(String::new, |max| format!(", max-delay = {}", max.show()));
                format!(
                    "{{ backoff = \"exponential\", count = {count}, delay = {}, \
                     jitter = {jitter}{max_delay} }}",
                    delay.show()
                )
            }
        }
    }
}

impl Show for SlowTimeout {
    fn show(&self) -> String {
        let terminate_after = self
            .terminate_after
            .map_or_else(String::new, |n| format!("terminate-after = {n}, "));
        format!(
            "{{ period = {}, {terminate_after}grace-period = {}, on-timeout = {} }}",
            self.period.show(),
            self.grace_period.show(),
            quoted(self.on_timeout)
        )
    }
}

impl Show for LeakTimeout {
    fn show(&self) -> String {
        format!(
            "{{ period = {}, result = {} }}",
            self.period.show(),
            quoted(self.result.unwrap_or_default())
        )
    }
}

impl Show for ThreadsRequired {
    fn show(&self) -> String {
        match self {
            Self::Count(count) => count.to_string(),
            Self::NumCpus => "\"num-cpus\"".to_owned(),
            Self::NumTestThreads => "\"num-test-threads\"".to_owned(),
        }
    }
}

impl Show for MemoryRequired {
    fn show(&self) -> String {
        match self {
            Self::None => "\"none\"".to_owned(),
            Self::Learnt => "\"learnt\"".to_owned(),
            Self::Bytes(bytes) => bytes.show(),
        }
    }
}

impl Show for TestGroup {
    fn show(&self) -> String {
        format!("{:?}", self.name())
    }
}

impl Show for TestThreads {
    fn show(&self) -> String {
        match self {
            Self::Count(count) => count.to_string(),
            Self::NumCpus => "\"num-cpus\"".to_owned(),
            Self::CpusMinus(fewer) => format!("-{fewer}"),
        }
    }
}

impl Show for MaxFail {
    fn show(&self) -> String {
        match self {
            Self::All => "false".to_owned(),
            Self::Count {
                max_fail: 1,
                terminate: TerminateMode::Wait,
            } => "true".to_owned(),
            Self::Count {
                max_fail,
                terminate,
            } => {
                format!(
                    "{{ max-fail = {max_fail}, terminate = {} }}",
                    quoted(*terminate)
                )
            }
        }
    }
}

fn quoted(word: impl Word) -> String {
    format!("{:?}", word.word())
}
