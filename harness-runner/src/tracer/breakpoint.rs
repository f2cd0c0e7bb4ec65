//! Breakpoints: the executions of programs that a user wants to debug.

use regex::bytes::Regex;
use std::{
    ffi::OsStr,
    fmt,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    str::FromStr,
};
use thiserror::Error;

/// A pattern of executions to stop at, as users write it: `argv~REGEX`, `name=FILE`, `path=/FILE`
/// or `FILE`, each with `before:` or `after:` in front of it if wanted.
///
/// ```
/// use harness_runner::tracer::breakpoint::Breakpoint;
///
/// let breakpoint: Breakpoint = "before:argv~^cc -c".parse().unwrap();
/// assert_eq!(breakpoint.to_string(), "before:argv~^cc -c");
/// assert!("path=cc".parse::<Breakpoint>().is_err());
/// ```
#[derive(Clone, Debug)]
pub struct Breakpoint {
    text: String,
    pub(crate) moment: Moment,
    subject: Subject,
}

/// On which side of an execution to stop.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// In front of the call: the process is still what executes.
    Before,
    /// In front of the new program's first instruction.
    After,
}

#[derive(Clone, Debug)]
enum Subject {
    /// The arguments, with spaces in between.
    Arguments(Regex),
    /// The last part of the program's path.
    Name(String),
    /// The program's path.
    Path(PathBuf),
}

/// An error in the syntax of a breakpoint.
#[derive(Debug, Error)]
pub enum BreakpointError {
    /// It is not a regular expression.
    #[error("{0}")]
    Regex(#[from] regex::Error),
    /// A path that is not absolute, or does not name anything.
    #[error("`path=` needs an absolute path")]
    Relative,
    /// A name with a slash, or none.
    #[error("a file name is needed, without a slash; `path=/FILE` is for paths")]
    Name,
}

impl FromStr for Breakpoint {
    type Err = BreakpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (moment, rest) = if let Some(rest) = text.strip_prefix("before:") {
            (Moment::Before, rest)
        } else {
            (Moment::After, text.strip_prefix("after:").unwrap_or(text))
        };
        let subject = if let Some(regex) = rest.strip_prefix("argv~") {
            Subject::Arguments(Regex::new(regex)?)
        } else if let Some(path) = rest.strip_prefix("path=") {
            if !path.starts_with('/') {
                return Err(BreakpointError::Relative);
            }
            Subject::Path(PathBuf::from(path))
        } else {
            let name = rest.strip_prefix("name=").unwrap_or(rest);
            if name.is_empty() || name.contains('/') {
                return Err(BreakpointError::Name);
            }
            Subject::Name(name.to_owned())
        };
        Ok(Self {
            text: text.to_owned(),
            moment,
            subject,
        })
    }
}

impl fmt::Display for Breakpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Breakpoint {
    /// Returns whether this is to stop: what the program is called (as it was asked for, and as it is
    /// without links), and its arguments.
    pub(crate) fn matches(&self, paths: &[&[u8]], args: &[&[u8]]) -> bool {
        let mut paths = paths.iter().map(|path| Path::new(OsStr::from_bytes(path)));
        match &self.subject {
            Subject::Arguments(regex) => regex.is_match(&args.join(&b' ')),
            Subject::Name(name) => {
                paths.any(|path| path.file_name().is_some_and(|file| file == name.as_str()))
            }
            Subject::Path(wanted) => paths.any(|path| path == wanted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str) -> bool {
        let breakpoint: Breakpoint = pattern.parse().unwrap();
        breakpoint.matches(
            &[b"/usr/bin/cc", b"/usr/bin/gcc-12"],
            &[b"cc", b"-c", b"a b.c"],
        )
    }

    #[test]
    fn programs_are_known_by_arguments_name_or_path() {
        for pattern in [
            "cc",
            "name=gcc-12",
            "path=/usr/bin/cc",
            "argv~^cc -c",
            r"argv~b\.c$",
            "after:cc",
            "before:cc",
        ] {
            assert!(matches(pattern), "{pattern}");
        }
        for pattern in [
            "c",
            "name=bin",
            "path=/bin/cc",
            "argv~^c -c",
            "argv~/usr/bin",
        ] {
            assert!(!matches(pattern), "{pattern}");
        }
    }

    #[test]
    fn the_moment_is_after_unless_said_otherwise() {
        for (pattern, moment) in [
            ("cc", Moment::After),
            ("after:cc", Moment::After),
            ("before:argv~before:", Moment::Before),
        ] {
            let breakpoint: Breakpoint = pattern.parse().unwrap();
            assert_eq!(breakpoint.moment, moment);
        }
    }

    #[test]
    fn what_can_never_match_is_refused() {
        for pattern in [
            "", "before:", "name=", "name=a/b", "/bin/cc", "path=cc", "argv~(",
        ] {
            assert!(pattern.parse::<Breakpoint>().is_err(), "{pattern}");
        }
    }
}
