//! How much a run tells: about tests as they finish, at its end, and in reports.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use thiserror::Error;

/// Which tests get a line as they finish. Each level shows what the ones before it show, and
/// more.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
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
    /// Everything there is.
    All,
}

/// Which tests get a line at the end of the run. Each level shows what the ones before it show,
/// and more.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
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
    /// Everything there is.
    All,
}

/// Which of the tests that did not run a JUnit report mentions.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
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

/// The name of no level.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{name}` is none of {}", quoted(.known))]
pub struct UnknownLevel {
    /// What was given.
    pub name: String,
    /// What could have been given.
    pub known: &'static [&'static str],
}

fn quoted(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Gives an enum its names: `NAMES`, `Display` and `FromStr`.
macro_rules! names {
    ($level:ident { $($variant:ident = $name:literal $(| $alias:literal)?),+ $(,)? }) => {
        impl $level {
            /// The names of all values, in ascending order.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// Returns the name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }

        impl fmt::Display for $level {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $level {
            type Err = UnknownLevel;

            fn from_str(name: &str) -> Result<Self, UnknownLevel> {
                match name {
                    $($name $(| $alias)? => Ok(Self::$variant),)+
                    _ => Err(UnknownLevel { name: name.to_owned(), known: Self::NAMES }),
                }
            }
        }
    };
}

names!(StatusLevel {
    None = "none",
    Fail = "fail",
    Retry = "retry",
    Slow = "slow",
    Leak = "leak",
    Pass = "pass",
    Skip = "skip",
    All = "all",
});

names!(FinalStatusLevel {
    None = "none",
    Fail = "fail",
    Flaky = "flaky" | "retry",
    Slow = "slow",
    Skip = "skip",
    Leak = "leak",
    Pass = "pass",
    All = "all",
});

names!(ReportSkipped { None = "none", Ignored = "ignored", All = "all" });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_the_value_that_displays_it() {
        for &name in StatusLevel::NAMES {
            assert_eq!(
                name.parse::<StatusLevel>().map(StatusLevel::as_str),
                Ok(name)
            );
        }
        for &name in FinalStatusLevel::NAMES {
            assert_eq!(
                name.parse::<FinalStatusLevel>()
                    .map(FinalStatusLevel::as_str),
                Ok(name)
            );
        }
        for &name in ReportSkipped::NAMES {
            assert_eq!(
                name.parse::<ReportSkipped>().map(ReportSkipped::as_str),
                Ok(name)
            );
        }
    }

    #[test]
    fn names_are_what_serde_writes() {
        for &name in FinalStatusLevel::NAMES {
            let level: FinalStatusLevel = name.parse().expect("it is one of the names");
            assert_eq!(serde_json::to_value(level).expect("a unit variant"), name);
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
