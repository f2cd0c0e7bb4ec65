//! Failures that a user asks for: calls that are not made, and answered with an error instead.
//!
//! A request is `CALL:ERRNO`, with a pattern of files or addresses behind the call and a number behind the
//! error if wanted: `openat(*.toml):ENOSPC@2`. Calls are counted over all processes of an attempt, in the order in
//! which the tracer sees them.

mod calls;
#[cfg(test)]
mod tests;

pub use calls::{Errors, names};
pub(super) use calls::{Place, descriptor};

use super::decode::{NATIVE_ARCHITECTURE, Syscall};
use globset::{GlobBuilder, GlobMatcher};
use harness_metadata::{
    event::TraceLevel,
    noise::{file_name, is_library, is_noise},
};
use std::{ffi::OsStr, fmt, os::unix::ffi::OsStrExt, path::Path, str::FromStr};
use syscalls::Sysno;
use thiserror::Error;

/// A request to have calls fail.
///
/// ```
/// use harness_runner::tracer::inject::Injection;
///
/// let injection: Injection = "openat(*.toml):ENOSPC@2".parse().unwrap();
/// assert_eq!(injection.to_string(), "openat(*.toml):ENOSPC@2");
/// assert!("openat:NOSPACE".parse::<Injection>().is_err());
/// ```
#[derive(Clone, Debug)]
pub struct Injection {
    text: String,
    call: Sysno,
    pattern: Option<Pattern>,
    errno: i32,
    which: Which,
}

/// The files or addresses of a request.
#[derive(Clone, Debug)]
struct Pattern {
    glob: GlobMatcher,
    /// Whether it is about the last part of a path only.
    of_name: bool,
}

/// The matching calls that fail, counted from 1.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Which {
    first: u64,
    /// `None` for all from the first one on.
    last: Option<u64>,
}

/// An error in the syntax of a request.
#[derive(Debug, Error)]
pub enum InjectionError {
    /// It has another form.
    #[error(
        "`{0}` is no failure to inject: write `CALL:ERRNO`, `CALL:ERRNO@N` or `CALL(PATTERN):ERRNO@N`, such as \
         `openat(*.toml):ENOSPC@2`"
    )]
    Form(String),
    /// There is no such call, or it cannot be made to fail.
    #[error("`{name}` is no call that can fail on request; these can: {}", names().join(", "))]
    Call {
        /// The name.
        name: String,
    },
    /// There is no such error.
    #[error("`{name}` is no error of errno(3); these are: {}", Errors::names().join(", "))]
    Errno {
        /// The name.
        name: String,
    },
    /// The numbers make no sense.
    #[error(
        "`@{0}` says for no call that it fails: `@2` is the second one, `@2-4` three of them, `@3-` all from the \
         third one on, and `@every` all"
    )]
    Which(String),
    /// The call has nothing that a pattern could match.
    #[error("`{call}` names no file and no address, so it has no pattern: write `{call}:ERRNO`")]
    Nameless {
        /// The call.
        call: String,
    },
    /// The pattern is none.
    #[error("`{pattern}` is no pattern")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The reason.
        source: globset::Error,
    },
}

impl FromStr for Which {
    type Err = InjectionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || InjectionError::Which(text.to_owned());
        let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0);
        if text == "every" {
            return Ok(Self::EVERY);
        }
        let Some((first, last)) = text.split_once('-') else {
            let only = number(text).ok_or_else(wrong)?;
            return Ok(Self {
                first: only,
                last: Some(only),
            });
        };
        let first = number(first).ok_or_else(wrong)?;
        let last = match last {
            "" => None,
            last => Some(
                number(last)
                    .filter(|last| *last >= first)
                    .ok_or_else(wrong)?,
            ),
        };
        Ok(Self { first, last })
    }
}

impl Which {
    const EVERY: Self = Self {
        first: 1,
        last: None,
    };

    fn has(self, number: u64) -> bool {
        self.first <= number && self.last.is_none_or(|last| number <= last)
    }
}

impl FromStr for Injection {
    type Err = InjectionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || InjectionError::Form(text.to_owned());
        // A pattern may have any of the other signs in it.
        let (call, rest) = match text.split_once('(') {
            Some((call, rest)) if !call.contains(':') => {
                let (pattern, rest) = rest.rsplit_once("):").ok_or_else(form)?;
                ((call, Some(pattern)), rest)
            }
            _ => {
                let (call, rest) = text.split_once(':').ok_or_else(form)?;
                ((call, None), rest)
            }
        };
        let (name, pattern) = call;
        let (errno, which) = match rest.split_once('@') {
            Some((errno, which)) => (errno, which.parse()?),
            None => (rest, Which::EVERY),
        };
        if name.is_empty() || errno.is_empty() || text.contains('\0') {
            return Err(form());
        }
        let unknown = || InjectionError::Call {
            name: name.to_owned(),
        };
        let call = calls::number(name).ok_or_else(unknown)?;
        let errno = Errors::number(errno).ok_or_else(|| InjectionError::Errno {
            name: errno.to_owned(),
        })?;
        if pattern.is_some() && calls::place(call) == Some(Place::Nowhere) {
            return Err(InjectionError::Nameless {
                call: name.to_owned(),
            });
        }
        Ok(Self {
            text: text.to_owned(),
            call,
            pattern: pattern.map(Pattern::new).transpose()?,
            errno,
            which,
        })
    }
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Pattern {
    fn new(text: &str) -> Result<Self, InjectionError> {
        let of_name = !text.contains('/');
        let whole = match text {
            _ if of_name || text.starts_with('/') => text.to_owned(),
            // The end of a path.
            end => format!("**/{end}"),
        };
        let glob = GlobBuilder::new(&whole).literal_separator(true).build();
        let glob = glob.map_err(|source| InjectionError::Pattern {
            pattern: text.to_owned(),
            source,
        })?;
        Ok(Self {
            glob: glob.compile_matcher(),
            of_name,
        })
    }

    fn matches(&self, place: &[u8]) -> bool {
        let text = match self.of_name {
            true => file_name(place),
            false => place,
        };
        self.glob.is_match(Path::new(OsStr::from_bytes(text)))
    }
}

impl Injection {
    /// Returns the level from which on the call is seen with what it names.
    pub fn level(&self) -> TraceLevel {
        calls::level(self.call)
    }

    /// Returns whether a call is one that counts. `places` are the files or addresses that it names.
    fn concerns(&self, call: Sysno, places: &[Vec<u8>], standard_stream: bool) -> bool {
        if self.call != call {
            return false;
        }
        match &self.pattern {
            Some(pattern) => places.iter().any(|place| pattern.matches(place)),
            // Every program makes these, before the test begins and between its lines.
            None => !standard_stream && !places.iter().any(|place| is_of_every_program(place)),
        }
    }
}

/// Returns whether each program opens such a file, through its loader, the C library and the Rust runtime.
fn is_of_every_program(path: &[u8]) -> bool {
    is_noise(path)
        || is_library(file_name(path))
        || path.starts_with(b"/proc/")
        || path.starts_with(b"/sys/")
}

/// The requests of an attempt, and what has been counted for each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Injections(Vec<(Injection, u64)>);

/// A call that is to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// The error.
    pub(crate) errno: i32,
    /// The request.
    pub(crate) request: String,
    /// The number of the call among those that the request is about.
    pub(crate) number: u64,
}

/// Returns requests as they travel to a stub.
pub fn to_bytes(injections: &[Injection]) -> Vec<u8> {
    let texts: Vec<&str> = injections.iter().map(|it| it.text.as_str()).collect();
    texts.join("\0").into_bytes()
}

impl Injections {
    /// Reads what [`to_bytes`] has written.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, InjectionError> {
        let text = String::from_utf8_lossy(bytes);
        let parsed = text.split('\0').map(|text| Ok((text.parse()?, 0)));
        parsed.collect::<Result<_, _>>().map(Self)
    }

    /// Returns the calls that have to be stopped at, whatever their arguments are.
    pub(crate) fn calls(&self) -> Vec<Sysno> {
        self.0.iter().map(|(injection, _)| injection.call).collect()
    }

    /// Returns whether a call is of interest: a native one that a request names.
    pub(super) fn of_interest(&self, call: &Syscall) -> Option<Sysno> {
        let number = calls::native(call)?;
        let mut all = self.0.iter();
        all.any(|(it, _)| it.call == number).then_some(number)
    }

    /// Counts a call. Returns how it fails, if it is to.
    pub(super) fn count(
        &mut self,
        call: Sysno,
        places: &[Vec<u8>],
        standard_stream: bool,
    ) -> Option<Due> {
        let mut due = None;
        for (injection, counted) in &mut self.0 {
            if !injection.concerns(call, places, standard_stream) {
                continue;
            }
            *counted += 1;
            if due.is_none() && injection.which.has(*counted) {
                due = Some(Due {
                    errno: injection.errno,
                    request: injection.text.clone(),
                    number: *counted,
                });
            }
        }
        due
    }
}
