//! Understands what follows `--` the way a test binary would.

use super::{NameFilter, RunIgnored};
use thiserror::Error;

/// The selection by the arguments after `--`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emulated {
    names: Vec<String>,
    skip: Vec<String>,
    exact: bool,
    /// The choice of ignored tests by `--ignored` or `--include-ignored`.
    pub run_ignored: Option<RunIgnored>,
    /// Whether `--nocapture` is there.
    pub no_capture: bool,
}

/// An error in the arguments after `--`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EmulatedError {
    /// Arguments of test binaries that mean nothing here.
    #[error("arguments after `--` that are not supported: {}", list(.0))]
    Unsupported(Vec<String>),
    /// An argument that may be there once is there twice.
    #[error("`{0}` is given more than once")]
    Duplicated(&'static str),
    /// Two arguments contradict each other.
    #[error("`{0}` and `{1}` are mutually exclusive")]
    Exclusive(&'static str, &'static str),
    /// `--skip` without a name.
    #[error("`--skip` needs the name of a test after it")]
    SkipWhat,
}

fn list(args: &[String]) -> String {
    args.iter()
        .map(|arg| format!("`{arg}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

impl Emulated {
    /// Parses the arguments after `--`.
    ///
    /// # Errors
    ///
    /// When they contain what is not supported, all of which the error lists, or contradict
    /// themselves.
    pub fn parse(args: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, EmulatedError> {
        let mut emulated = Self::default();
        let mut unsupported = Vec::new();
        let mut args = args.into_iter().map(Into::into);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--" => {
                    emulated.names.extend(args.by_ref());
                }
                "--ignored" => emulated.set_ignored(RunIgnored::Only)?,
                "--include-ignored" => emulated.set_ignored(RunIgnored::All)?,
                "--exact" => set(&mut emulated.exact, "--exact")?,
                "--nocapture" | "--no-capture" => set(&mut emulated.no_capture, "--no-capture")?,
                "--skip" => emulated
                    .skip
                    .push(args.next().ok_or(EmulatedError::SkipWhat)?),
                _ => match arg.strip_prefix("--skip=") {
                    Some(name) => emulated.skip.push(name.to_owned()),
                    None if arg.starts_with('-') => unsupported.push(arg),
                    None => emulated.names.push(arg),
                },
            }
        }
        if unsupported.is_empty() {
            Ok(emulated)
        } else {
            Err(EmulatedError::Unsupported(unsupported))
        }
    }

    fn set_ignored(&mut self, run_ignored: RunIgnored) -> Result<(), EmulatedError> {
        match (self.run_ignored.replace(run_ignored), run_ignored) {
            (None, _) => Ok(()),
            (Some(RunIgnored::Only), RunIgnored::Only) => {
                Err(EmulatedError::Duplicated("--ignored"))
            }
            (Some(RunIgnored::All), RunIgnored::All) => {
                Err(EmulatedError::Duplicated("--include-ignored"))
            }
            (Some(_), _) => Err(EmulatedError::Exclusive("--ignored", "--include-ignored")),
        }
    }

    /// Adds the names from before `--`, to which `--exact` does not apply.
    pub fn names(&self, before: Vec<String>) -> NameFilter {
        let mut filter = NameFilter {
            contains: before,
            ..NameFilter::default()
        };
        if self.exact {
            filter.equals.clone_from(&self.names);
            filter.skip_equals.clone_from(&self.skip);
        } else {
            filter.contains.extend_from_slice(&self.names);
            filter.skip_contains.clone_from(&self.skip);
        }
        filter
    }

    /// Combines what is said about ignored tests here with `--run-ignored`.
    ///
    /// # Errors
    ///
    /// When both say something.
    pub fn run_ignored(&self, option: Option<RunIgnored>) -> Result<RunIgnored, EmulatedError> {
        match (self.run_ignored, option) {
            (Some(RunIgnored::All), Some(_)) => Err(EmulatedError::Exclusive(
                "--include-ignored",
                "--run-ignored",
            )),
            (Some(_), Some(_)) => Err(EmulatedError::Exclusive("--ignored", "--run-ignored")),
            (here, option) => Ok(here.or(option).unwrap_or_default()),
        }
    }

    /// Combines `--no-capture` here with the option of the same name before `--`.
    ///
    /// # Errors
    ///
    /// When both are there.
    pub fn no_capture(&self, option: bool) -> Result<bool, EmulatedError> {
        if self.no_capture && option {
            return Err(EmulatedError::Duplicated("--no-capture"));
        }
        Ok(self.no_capture || option)
    }
}

fn set(flag: &mut bool, name: &'static str) -> Result<(), EmulatedError> {
    if std::mem::replace(flag, true) {
        Err(EmulatedError::Duplicated(name))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Emulated, EmulatedError> {
        Emulated::parse(line.split_whitespace())
    }

    fn names(before: &[&str], after: &str) -> NameFilter {
        let before = before.iter().map(|&name| name.to_owned()).collect();
        parse(after)
            .expect("the arguments are supported")
            .names(before)
    }

    fn message(line: &str) -> String {
        parse(line)
            .expect_err("the arguments are wrong")
            .to_string()
    }

    #[test]
    fn names_after_the_dashes_select_by_part() {
        let filter = names(&[], "alpha beta");
        assert!(filter.selects("module::alphabet"));
        assert!(filter.selects("beta"));
        assert!(!filter.selects("gamma"));
    }

    #[test]
    fn exact_applies_to_names_after_the_dashes_only() {
        let filter = names(&["alpha"], "--exact beta");
        assert!(filter.selects("alphabet"));
        assert!(filter.selects("beta"));
        assert!(!filter.selects("betamax"));
    }

    #[test]
    fn skips_beat_names() {
        let filter = names(&[], "alpha --skip alphabet");
        assert!(filter.selects("alpha"));
        assert!(!filter.selects("alphabet"));
    }

    #[test]
    fn an_exact_skip_without_any_name_skips_exactly_that_test() {
        let filter = names(&[], "--exact --skip alpha");
        assert!(!filter.selects("alpha"));
        assert!(filter.selects("alphabet"));
        assert!(filter.selects("beta"));
    }

    #[test]
    fn no_names_select_every_test() {
        assert!(names(&[], "").selects("anything"));
        assert!(names(&[], "--exact").selects("anything"));
    }

    #[test]
    fn a_second_pair_of_dashes_makes_everything_a_name() {
        let filter = names(&[], "--exact -- --ignored -- alpha");
        assert_eq!(filter.equals, ["--ignored", "--", "alpha"]);
    }

    #[test]
    fn skip_takes_its_name_in_both_spellings() {
        assert_eq!(names(&[], "--skip a --skip=b").skip_contains, ["a", "b"]);
        assert_eq!(
            message("--skip"),
            "`--skip` needs the name of a test after it"
        );
    }

    #[test]
    fn all_unsupported_arguments_are_listed() {
        assert_eq!(
            message("--test-threads=1 alpha --format json -q"),
            "arguments after `--` that are not supported: `--test-threads=1`, `--format`, `-q`"
        );
    }

    #[test]
    fn flags_that_are_given_twice_are_errors() {
        assert_eq!(
            message("--exact --exact"),
            "`--exact` is given more than once"
        );
        assert_eq!(
            message("--nocapture --no-capture"),
            "`--no-capture` is given more than once"
        );
        assert_eq!(
            message("--ignored --ignored"),
            "`--ignored` is given more than once"
        );
        assert_eq!(
            message("--include-ignored --include-ignored"),
            "`--include-ignored` is given more than once"
        );
    }

    #[test]
    fn contradictions_about_ignored_tests_are_errors() {
        assert_eq!(
            message("--ignored --include-ignored"),
            "`--ignored` and `--include-ignored` are mutually exclusive"
        );
        let emulated = parse("--ignored").expect("it is supported");
        assert_eq!(
            emulated
                .run_ignored(Some(RunIgnored::All))
                .expect_err("both")
                .to_string(),
            "`--ignored` and `--run-ignored` are mutually exclusive"
        );
        assert_eq!(emulated.run_ignored(None), Ok(RunIgnored::Only));
        let emulated = parse("--include-ignored").expect("it is supported");
        assert_eq!(emulated.run_ignored(None), Ok(RunIgnored::All));
        assert_eq!(
            Emulated::default().run_ignored(None),
            Ok(RunIgnored::Default)
        );
    }

    #[test]
    fn no_capture_on_both_sides_of_the_dashes_is_an_error() {
        let emulated = parse("--nocapture").expect("it is supported");
        assert_eq!(emulated.no_capture(false), Ok(true));
        assert!(emulated.no_capture(true).is_err());
        assert_eq!(Emulated::default().no_capture(false), Ok(false));
    }
}
