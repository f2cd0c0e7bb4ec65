//! What a loader has found, as far as that can be asked for again.
//!
//! A fact is what a path leads to. Of a path that leads nowhere the directory that it is in belongs to
//! it, or the one in that which is not there either: the loader's next questions depend on that too. A
//! changed file is another fact.

use crate::tracer::sys::{self, Looked, Version};
use harness_metadata::trace::{CallResult, FileCall};
use nix::errno::Errno;
use std::{
    collections::BTreeMap,
    ffi::CString,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How exact the times of files are, at the least.
const TICK: Duration = Duration::from_millis(20);

/// What a path led to, as the kernel says it.
#[derive(Debug)]
pub(super) struct Fact {
    path: CString,
    answer: Answer,
}

/// Facts that are being collected.
#[derive(Default)]
pub(super) struct Facts(BTreeMap<Vec<u8>, Answer>);

impl Facts {
    /// Adds what a path leads to, and returns it. `None` if that depends on who asks.
    pub(super) fn of(&mut self, path: &[u8]) -> Option<Answer> {
        let own = [b"/proc/".as_slice(), b"/dev/", b"/sys/"];
        if path.first() != Some(&b'/') || own.iter().any(|own| path.starts_with(own)) {
            return None;
        }
        if let Some(answer) = self.0.get(path) {
            return Some(*answer);
        }
        let answer = look(&CString::new(path).ok()?);
        self.0.insert(path.to_vec(), answer);
        if answer.is_err() {
            let _ = self.of(parent(path)?)?;
        }
        Some(answer)
    }

    /// Adds what a call has found. `None` if it is not just what its path leads to.
    pub(super) fn of_call(&mut self, call: &FileCall) -> Option<()> {
        let answer = self.of(call.path.path().as_bytes())?;
        let same = match call.result {
            CallResult::Found => call.file == answer.ok().map(|(looked, _)| looked.file),
            CallResult::Err(errno) => answer.err() == Some(Errno::from_raw(errno)),
            CallResult::Ok(_) | CallResult::Unknown => false,
        };
        same.then_some(())
    }

    /// Returns them, without those that follow from others: nothing is in what is not there.
    pub(super) fn into_vec(self) -> Vec<Fact> {
        let missing = |path: &[u8]| self.0.get(path).is_some_and(Result::is_err);
        let facts = self
            .0
            .iter()
            .filter(|(path, answer)| answer.is_ok() || !parent(path).is_some_and(missing));
        let fact = |(path, answer): (&Vec<u8>, &Answer)| {
            let path = CString::new(path.as_slice()).ok()?;
            let answer = *answer;
            Some(Fact { path, answer })
        };
        facts.filter_map(fact).collect()
    }
}

impl Fact {
    pub(super) fn holds(&self) -> bool {
        look(&self.path) == self.answer
    }
}

/// What a path leads to.
pub(super) type Answer = Result<(Looked, Version), Errno>;

/// Asks what a path leads to. What is in a directory is not its own business.
pub(super) fn look(path: &CString) -> Answer {
    let (looked, version) = sys::look_closely(path)?;
    Ok(match looked.file.directory {
        true => (looked, Version::default()),
        false => (looked, version),
    })
}

fn parent(path: &[u8]) -> Option<&[u8]> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    match slash {
        0 => Some(b"/"),
        slash => Some(&path[..slash]),
    }
}

/// Returns whether a file has been changed so recently that another change might not show.
pub(super) fn is_fresh(facts: &[Fact]) -> bool {
    let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else {
        return true;
    };
    let changed = |fact: &Fact| {
        let (seconds, nanoseconds) = fact.answer.ok()?.1.changed;
        Some(Duration::new(u64::try_from(seconds).ok()?, nanoseconds))
    };
    let mut changed = facts.iter().filter_map(changed);
    changed.any(|changed| changed + TICK > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_asked_for_once() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().to_str().expect("it is known to be UTF-8");
        let mut facts = Facts::default();
        for name in ["missing/a/x.so", "missing/b/x.so", "y.so"] {
            let answer = facts.of(format!("{path}/{name}").as_bytes());
            assert_eq!(answer, Some(Err(Errno::ENOENT)));
        }
        let facts = facts.into_vec();
        let asked: Vec<_> = facts.iter().map(|fact| fact.path.to_str()).collect();
        let there = |name: &str| format!("{path}{name}");
        let expected = [there(""), there("/missing"), there("/y.so")];
        assert_eq!(asked, expected.each_ref().map(|path| Ok(path.as_str())));

        assert!(facts.iter().all(Fact::holds));
        std::fs::create_dir_all(folder.path().join("missing/a")).expect("a folder can be made");
        let broken = facts.iter().filter(|fact| !fact.holds());
        assert_eq!(broken.count(), 1);
    }

    #[test]
    fn what_is_somebody_elses_for_everybody_is_no_fact() {
        let mut facts = Facts::default();
        for path in [b"/proc/self/exe".as_slice(), b"/dev/fd/3", b"relative"] {
            assert_eq!(facts.of(path), None);
        }
    }
}
