//! Reads single settings from TOML values.

use super::{
    error::{nearest, quoted},
    parse::{Noted, Table, Value, all},
    settings::{
        LeakTimeout, MaxFail, MemoryRequired, Percent, RetryPolicy, SlowTimeout, TestGroup,
        TestThreads, ThreadsRequired, TimeoutResult,
    },
    size,
};
use camino::Utf8PathBuf;
use harness_metadata::{Cpus, Word};
use nextest_metadata::GLOBAL_TEST_GROUP;
use std::{collections::BTreeMap, num::NonZeroU32, str::FromStr, time::Duration};

/// The period after which a test is slow, unless configured.
pub(super) const SLOW_PERIOD: Duration = Duration::from_secs(60);
/// The period after which a benchmark is slow, unless configured: as in cargo-nextest, never.
pub(super) const NO_LIMIT: Duration = Duration::from_secs(30 * 31_557_600);
/// The key of the table that says what is left out.
const BUILT_IN_SLOW_TIMEOUT: &str = "profile.default.slow-timeout";
/// The default time between SIGTERM and SIGKILL.
pub(super) const GRACE_PERIOD: Duration = Duration::from_secs(10);

/// The least `memory-max`.
const LEAST_MEMORY: u64 = 1 << 20;

/// A duration in words.
pub(super) fn duration(value: &Value<'_>) -> Result<Duration, Noted> {
    let Some(text) = value.as_str() else {
        let hint = value
            .as_integer()
            .map(|number| format!("write `\"{number}s\"` for seconds"));
        return Err(value.wrong_type("a duration such as `\"1m 30s\"`", hint));
    };
    humantime::parse_duration(text)
        .map_err(|error| value.invalid(format!("is not a duration such as `\"1m 30s\"`: {error}")))
}

/// A part of a whole, as a text.
pub(super) fn percent(value: Value<'_>) -> Result<Percent, Noted> {
    let Some(text) = value.as_str() else {
        let hint = value
            .as_integer()
            .map(|number| format!("write `\"{number}%\"`"));
        return Err(value.wrong_type("a percentage such as `\"5%\"`", hint));
    };
    text.parse()
        .map_err(|_| value.invalid("is not a percentage from `0%` to `100%`"))
}

/// A duration above zero, in words.
pub(super) fn positive_duration(value: Value<'_>) -> Result<Duration, Noted> {
    let duration = duration(&value)?;
    nonzero(&value, duration)
}

/// An integer from `low` on.
pub(super) fn count(value: &Value<'_>, low: u32) -> Result<u32, Noted> {
    let number = value
        .as_integer()
        .ok_or_else(|| not_an_integer(value, "an integer"))?;
    match u32::try_from(number) {
        Ok(number) if number >= low => Ok(number),
        Ok(_) => Err(value.invalid(format!("must be at least {low}"))),
        Err(_) if number < 0 => Err(value.invalid(format!("must be at least {low}"))),
        Err(_) => Err(value.invalid("is too large")),
    }
}

fn not_an_integer(value: &Value<'_>, expected: &'static str) -> Noted {
    let quoted_number = value
        .as_str()
        .is_some_and(|text| text.parse::<i64>().is_ok());
    value.wrong_type(
        expected,
        quoted_number.then(|| "remove the quotes".to_owned()),
    )
}

/// One of the words of an enum.
pub(super) fn word<T: Word + FromStr>(value: &Value<'_>) -> Result<T, Noted> {
    // What parses may be another spelling, which messages do not name.
    let parsed = value.as_str().and_then(|text| text.parse().ok());
    parsed.map_or_else(|| one_of(value, T::WORDS), Ok)
}

/// One of a few words.
fn one_of<T: Copy>(value: &Value<'_>, words: &[(&'static str, T)]) -> Result<T, Noted> {
    let names: Vec<&str> = words.iter().map(|&(name, _)| name).collect();
    let Some(text) = value.as_str() else {
        return Err(value.wrong_type("a string", Some(format!("write one of {}", quoted(&names)))));
    };
    words
        .iter()
        .find(|&&(name, _)| name == text)
        .map(|&(_, word)| word)
        .ok_or_else(|| {
            let nearest = nearest(text, names.iter().copied())
                .map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"));
            value.invalid(format!(
                "must be one of {}, not `{text}`{nearest}",
                quoted(&names)
            ))
        })
}

/// `retries`: a number or a table.
pub(super) fn retries(value: Value<'_>) -> Result<RetryPolicy, Noted> {
    if value.as_integer().is_some() {
        let count = count(&value, 0)?;
        return Ok(RetryPolicy::Fixed {
            count,
            delay: Duration::ZERO,
            jitter: false,
        });
    }
    let Some(mut table) = value.as_table() else {
        return Err(not_an_integer(
            &value,
            "an integer or a table with `backoff`",
        ));
    };
    let exponential = table.read("backoff", |value| {
        one_of(&value, &[("fixed", false), ("exponential", true)])
    });
    let retries = Retries::read(&mut table);
    match exponential {
        None => Err(table.lacks("backoff", ", which is `\"fixed\"` or `\"exponential\"`")),
        Some(true) => retries.exponential(&mut table),
        Some(false) => retries.fixed(&table),
    }
}

/// The keys that both kinds of `backoff` have, and the places of those that may make no sense.
struct Retries<'a> {
    count: Option<(Value<'a>, u32)>,
    delay: Option<Duration>,
    jitter: Option<(Value<'a>, bool)>,
}

impl<'a> Retries<'a> {
    fn read(table: &mut Table<'a>) -> Self {
        Self {
            count: table.read("count", |value| {
                let count = count(&value, 0)?;
                Ok((value, count))
            }),
            delay: table.read("delay", |value| duration(&value)),
            jitter: table.read("jitter", |value| {
                let jitter = value.boolean()?;
                Ok((value, jitter))
            }),
        }
    }

    fn fixed(self, table: &Table<'_>) -> Result<RetryPolicy, Noted> {
        table.forbid_unknown()?;
        let count = self.count.ok_or_else(|| table.lacks("count", ""));
        table.whole()?;
        let no_delay = self.delay.is_none_or(|delay| delay.is_zero());
        if let (Some((value, true)), true) = (&self.jitter, no_delay) {
            return Err(
                value.invalid("needs `delay`, because without one there is nothing to vary")
            );
        }
        Ok(RetryPolicy::Fixed {
            count: count?.1,
            delay: self.delay.unwrap_or_default(),
            jitter: self.jitter.is_some_and(|(_, jitter)| jitter),
        })
    }

    fn exponential(self, table: &mut Table<'_>) -> Result<RetryPolicy, Noted> {
        let max_delay = table.read("max-delay", |value| {
            let max = duration(&value)?;
            Ok((value, max))
        });
        table.forbid_unknown()?;
        let count = match self.count {
            Some((value, 0)) => Err(value.invalid("must be at least 1 with exponential backoff")),
            Some((_, count)) => Ok(count),
            None => Err(table.lacks("count", "")),
        };
        let delay = match self.delay {
            Some(Duration::ZERO) => {
                Err(table.invalid("has a `delay` of zero, which exponential backoff cannot double"))
            }
            Some(delay) => Ok(delay),
            None => Err(table.lacks("delay", ", which exponential backoff needs")),
        };
        if let (Some((value, max)), Ok(delay)) = (&max_delay, &delay)
            && max < delay
        {
            return Err(value.invalid("must not be shorter than `delay`"));
        }
        table.whole()?;
        Ok(RetryPolicy::Exponential {
            count: count?,
            delay: delay?,
            jitter: self.jitter.is_some_and(|(_, jitter)| jitter),
            max_delay: max_delay.map(|(_, max)| max),
        })
    }
}

/// `slow-timeout`: a duration or a table.
pub(super) fn slow_timeout(value: Value<'_>) -> Result<SlowTimeout, Noted> {
    let mut slow = SlowTimeout {
        period: SLOW_PERIOD,
        terminate_after: None,
        grace_period: GRACE_PERIOD,
        on_timeout: TimeoutResult::Fail,
    };
    let Some(mut table) = value.as_table() else {
        slow.period = nonzero(&value, duration(&value)?)?;
        return Ok(slow);
    };
    let period = table.read("period", positive_duration);
    slow.terminate_after = table.read("terminate-after", |value| {
        let count = count(&value, 1)?;
        Ok(NonZeroU32::new(count).expect("`count` is at least 1"))
    });
    let grace = table.read("grace-period", |value| duration(&value));
    slow.grace_period = grace.unwrap_or(slow.grace_period);
    let result = table.read("on-timeout", |value| word(&value));
    slow.on_timeout = result.unwrap_or(slow.on_timeout);
    table.warn_of_unknown();
    // As in cargo-nextest, where this one table is laid over the built-in one.
    if table.has("period") || value.key() != BUILT_IN_SLOW_TIMEOUT {
        slow.period = period.ok_or_else(|| table.lacks("period", ""))?;
    }
    Ok(slow)
}

/// A period of zero would report a test as slow without end.
fn nonzero(value: &Value<'_>, duration: Duration) -> Result<Duration, Noted> {
    if duration.is_zero() {
        Err(value.invalid("must be longer than zero"))
    } else {
        Ok(duration)
    }
}

/// `leak-timeout`: a duration or a table.
pub(super) fn leak_timeout(value: Value<'_>) -> Result<LeakTimeout, Noted> {
    let Some(mut table) = value.as_table() else {
        return Ok(LeakTimeout {
            period: duration(&value)?,
            result: None,
        });
    };
    let period = table.read("period", |value| duration(&value));
    let result = table.read("result", |value| word(&value));
    table.warn_of_unknown();
    let period = period.ok_or_else(|| table.lacks("period", ""))?;
    Ok(LeakTimeout { period, result })
}

/// Reads a limit, or `"none"`, by which an override lifts that of its profile.
fn limit<T>(
    value: &Value<'_>,
    read: impl FnOnce() -> Result<T, Noted>,
) -> Result<Option<T>, Noted> {
    match value.as_str() {
        Some("none") => Ok(None),
        _ => read().map(Some),
    }
}

/// `memory-max`.
pub(super) fn memory_max(value: Value<'_>) -> Result<Option<u64>, Noted> {
    limit(&value, || match size::read(value.clone())? {
        bytes @ LEAST_MEMORY.. => Ok(bytes),
        _ => Err(value.invalid("must be at least 1 MiB: no program can start with less")),
    })
}

/// `pids-max`.
pub(super) fn pids_max(value: Value<'_>) -> Result<Option<u32>, Noted> {
    limit(&value, || count(&value, 1))
}

/// `cpu-max`.
pub(super) fn cpu_max(value: Value<'_>) -> Result<Option<Cpus>, Noted> {
    limit(&value, || {
        let Some(number) = value.as_number() else {
            return Err(value.wrong_type("a number of CPUs such as `1.5`, or `\"none\"`", None));
        };
        // A kernel takes no share that is smaller.
        if !(0.01..=1_000_000.0).contains(&number) {
            return Err(value.invalid("must be from 0.01 to 1000000 CPUs"));
        }
        Ok(Cpus {
            thousandths: (number * 1000.0).round() as u32,
        })
    })
}

/// `test-threads` and a group's `max-threads`.
pub(super) fn threads(value: Value<'_>) -> Result<TestThreads, Noted> {
    if let Some(number) = value.as_integer() {
        return TestThreads::from_integer(number)
            .ok_or_else(|| value.invalid("must not be 0: that would run nothing"));
    }
    match value.as_str() {
        Some("num-cpus") => Ok(TestThreads::NumCpus),
        _ => Err(not_an_integer(&value, "an integer or `\"num-cpus\"`")),
    }
}

/// `threads-required`.
pub(super) fn threads_required(value: Value<'_>) -> Result<ThreadsRequired, Noted> {
    if value.as_integer().is_some() {
        let count = count(&value, 1)?;
        return Ok(ThreadsRequired::Count(
            count.try_into().unwrap_or(usize::MAX),
        ));
    }
    match value.as_str() {
        Some("num-cpus") => Ok(ThreadsRequired::NumCpus),
        Some("num-test-threads") => Ok(ThreadsRequired::NumTestThreads),
        _ => Err(not_an_integer(
            &value,
            "an integer, `\"num-cpus\"` or `\"num-test-threads\"`",
        )),
    }
}

/// `memory-required`.
pub(super) fn memory_required(value: Value<'_>) -> Result<MemoryRequired, Noted> {
    match value.as_str() {
        Some("none") => Ok(MemoryRequired::None),
        Some("learnt") => Ok(MemoryRequired::Learnt),
        _ => size::read(value).map(MemoryRequired::Bytes),
    }
}

/// `fail-fast`: a boolean or a table.
pub(super) fn fail_fast(value: Value<'_>) -> Result<MaxFail, Noted> {
    if let Some(fail_fast) = value.as_bool() {
        return Ok(MaxFail::from_fail_fast(fail_fast));
    }
    let Some(mut table) = value.as_table() else {
        let hint = match value.as_str() {
            Some("true" | "false") => Some("remove the quotes".to_owned()),
            _ => value
                .as_integer()
                .map(|count| format!("write `{{ max-fail = {count} }}`")),
        };
        return Err(value.wrong_type("a boolean or a table with `max-fail`", hint));
    };
    let max_fail = table.read("max-fail", |value| max_fail(&value));
    let terminate = table.read("terminate", |value| word(&value));
    table.warn_of_unknown();
    Ok(match max_fail.ok_or_else(|| table.lacks("max-fail", ""))? {
        None => MaxFail::All,
        Some(max_fail) => MaxFail::Count {
            max_fail,
            terminate: terminate.unwrap_or_default(),
        },
    })
}

/// `max-fail`; `None` for no limit.
fn max_fail(value: &Value<'_>) -> Result<Option<usize>, Noted> {
    match (value.as_str(), value.as_integer()) {
        (Some("all"), _) => Ok(None),
        (Some(text), _) if text.parse::<u32>().is_ok() => Err(value.wrong_type(
            "an integer or `\"all\"`",
            Some(format!("write `max-fail = {text}`")),
        )),
        (None, Some(_)) => Ok(Some(count(value, 1)?.try_into().unwrap_or(usize::MAX))),
        _ => Err(value.wrong_type("an integer or `\"all\"`", None)),
    }
}

/// `run-extra-args`.
pub(super) fn strings(value: Value<'_>) -> Result<Vec<String>, Noted> {
    let Some(elements) = value.as_array() else {
        let hint = value.as_str().map(|text| format!("write `[{text:?}]`"));
        return Err(value.wrong_type("an array of strings", hint));
    };
    all(elements.map(|element| element.string().map(str::to_owned)))
}

/// A table of names and strings.
pub(super) fn texts(value: Value<'_>) -> Result<BTreeMap<String, String>, Noted> {
    let Some(table) = value.as_table() else {
        return Err(value.wrong_type("a table of names and strings", None));
    };
    let texts = table.named().into_iter();
    let texts =
        all(texts.map(|(_, name, value)| Ok((name.to_owned(), value.string()?.to_owned()))))?;
    Ok(texts.into_iter().collect())
}

/// `junit.path`.
pub(super) fn path(value: Value<'_>) -> Result<Option<Utf8PathBuf>, Noted> {
    match value.string()? {
        "" => Err(value.invalid("must not be empty")),
        path => Ok(Some(path.into())),
    }
}

/// `priority`.
pub(super) fn priority(value: Value<'_>) -> Result<i8, Noted> {
    let Some(number) = value.as_integer() else {
        return Err(value.wrong_type("an integer from -100 to 100", None));
    };
    match i8::try_from(number) {
        Ok(priority @ -100..=100) => Ok(priority),
        _ => Err(value.invalid("must be from -100 to 100")),
    }
}

/// `test-group`.
pub(super) fn test_group(value: Value<'_>) -> Result<TestGroup, Noted> {
    let name = value.string()?;
    if name == GLOBAL_TEST_GROUP {
        return Ok(TestGroup::Global);
    }
    let mut known = value.test_groups();
    if known.iter().any(|group| group == name) {
        return Ok(TestGroup::Named(name.to_owned()));
    }
    known.push(GLOBAL_TEST_GROUP.to_owned());
    let hint = nearest(name, known.iter().map(String::as_str))
        .map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"));
    Err(value.invalid(format!(
        "names the test group `{name}`, which does not exist{hint}; known groups: {}",
        quoted(&known)
    )))
}
