//! Levels of detail: for tests as they finish, at the end of a run, and in reports.

use crate::words;
use serde::{Deserialize, Serialize};

/// The tests that get a line as they finish. Each level shows more than the ones before it.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum StatusLevel {
    /// None.
    None,
    /// Failed ones.
    Fail,
    /// Also attempts that will be followed by another.
    Retry,
    /// Also slow ones.
    Slow,
    /// Also leaky ones.
    Leak,
    /// Also passed ones.
    #[default]
    Pass,
    /// Also skipped ones.
    Skip,
    /// Everything.
    All,
}

/// The tests that get a line at the end of the run. Each level shows more than the ones before it.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum FinalStatusLevel {
    /// None.
    None,
    /// Failed ones.
    Fail,
    /// Also flaky ones. May be written `retry`.
    #[default]
    #[serde(alias = "retry")]
    Flaky,
    /// Also slow ones.
    Slow,
    /// Also skipped ones.
    Skip,
    /// Also leaky ones.
    Leak,
    /// Also passed ones.
    Pass,
    /// Everything.
    All,
}

/// The tests that did not run but appear in a JUnit report.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum ReportSkipped {
    /// None.
    #[default]
    None,
    /// Those left out because they are marked `#[ignore]` or, with `--run-ignored only`, because
    /// they are not.
    Ignored,
    /// All that were listed.
    All,
}

/// The order of tests in the list of `--durations`, the largest first.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
#[serde(rename_all = "kebab-case")]
pub enum DurationsBy {
    /// By elapsed time.
    #[default]
    Time,
    /// By CPU time.
    Cpu,
    /// By peak memory.
    Memory,
    /// By bytes read from and written to disks.
    Io,
    /// By number of processes.
    Processes,
}

words!(DurationsBy {
    Time = "time",
    Cpu = "cpu",
    Memory = "memory",
    Io = "io",
    Processes = "processes",
});

words!(StatusLevel {
    None = "none",
    Fail = "fail",
    Retry = "retry",
    Slow = "slow",
    Leak = "leak",
    Pass = "pass",
    Skip = "skip",
    All = "all",
});

words!(FinalStatusLevel {
    None = "none",
    Fail = "fail",
    Flaky = "flaky" | "retry",
    Slow = "slow",
    Skip = "skip",
    Leak = "leak",
    Pass = "pass",
    All = "all",
});

words!(ReportSkipped { None = "none", Ignored = "ignored", All = "all" });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::word::Word;
    use std::{fmt::Debug, str::FromStr};

    fn reads_its_words<T: Word + FromStr + Debug>()
    where
        T::Err: Debug + PartialEq,
    {
        for &(word, value) in T::WORDS {
            assert_eq!(word.parse(), Ok(value));
            assert_eq!(value.word(), word);
        }
    }

    #[test]
    fn every_word_parses_to_the_value_that_it_stands_for() {
        reads_its_words::<StatusLevel>();
        reads_its_words::<FinalStatusLevel>();
        reads_its_words::<ReportSkipped>();
        reads_its_words::<DurationsBy>();
    }

    #[test]
    fn words_are_what_serde_writes() {
        for &(word, level) in FinalStatusLevel::WORDS {
            assert_eq!(serde_json::to_value(level).expect("a unit variant"), word);
        }
    }

    #[test]
    fn levels_are_ordered_as_they_are_listed() {
        assert!(StatusLevel::Leak < StatusLevel::Pass);
        assert!(FinalStatusLevel::Skip < FinalStatusLevel::Leak);
    }

    #[test]
    fn the_final_level_retry_is_another_name_for_flaky() {
        assert_eq!("retry".parse(), Ok(FinalStatusLevel::Flaky));
        let from_json: FinalStatusLevel =
            serde_json::from_str("\"retry\"").expect("`retry` is an alias");
        assert_eq!(from_json, FinalStatusLevel::Flaky);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = "some"
            .parse::<ReportSkipped>()
            .expect_err("there is no such level");
        assert_eq!(
            error.to_string(),
            "`some` is none of `none`, `ignored`, `all`"
        );
    }
}
