//! Names the group of a run after its runner, and removes those whose runner is gone.

use super::remove_all;
use crate::stub::{status, sys::Pid};
use nix::errno::Errno;
use std::{fs, path::Path, process};

const PREFIX: &str = "harness-";

/// A runner, as no other will ever be: by its pid namespace, its pid, and when it started.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner {
    namespace: u64,
    pid: Pid,
    started: u64,
}

impl Owner {
    fn own() -> Option<Self> {
        let pid = process::id().cast_signed();
        Some(Self {
            namespace: own_namespace()?,
            pid,
            started: status::stat(pid)?.started,
        })
    }

    fn name(&self) -> String {
        let Self {
            namespace,
            pid,
            started,
        } = self;
        format!("{PREFIX}{namespace}-{pid}-{started}")
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(PREFIX)?.split('-');
        let owner = Self {
            namespace: parts.next()?.parse().ok()?,
            pid: parts.next()?.parse().ok()?,
            started: parts.next()?.parse().ok()?,
        };
        (owner.pid > 0 && owner.name() == name).then_some(owner)
    }

    /// Whether it is known to be gone.
    fn is_gone(&self) -> bool {
        if own_namespace() != Some(self.namespace) {
            return false;
        }
        match status::stat(self.pid) {
            Some(stat) => stat.started != self.started,
            // Others' processes may be hidden (`hidepid` of proc(5)).
            None => {
                let there = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), None);
                there == Err(Errno::ESRCH)
            }
        }
    }
}

/// Returns the name of this run's group. `None` without /proc.
pub(super) fn own_name() -> Option<String> {
    Some(Owner::own()?.name())
}

/// Removes the groups in this one whose runner is gone, with all that is in them.
pub(super) fn remove(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let owner = entry.file_name().to_str().and_then(Owner::parse);
        if owner.is_some_and(|owner| owner.is_gone()) {
            remove_all(&entry.path());
        }
    }
}

fn own_namespace() -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    Some(fs::metadata("/proc/self/ns/pid").ok()?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_runner_that_is_gone_is_gone() {
        let own = Owner::own().unwrap();
        assert_eq!(Owner::parse(&own.name()), Some(own.clone()));
        assert!(!own.is_gone());
        let later = Owner {
            started: own.started + 1,
            ..own.clone()
        };
        assert!(later.is_gone(), "its pid is another's by now");
        let elsewhere = Owner {
            namespace: own.namespace + 1,
            ..later
        };
        assert!(!elsewhere.is_gone(), "nothing is known of it");
        let mut child = process::Command::new("true").spawn().unwrap();
        let child_owner = Owner {
            pid: child.id().cast_signed(),
            started: 0,
            ..own
        };
        child.wait().unwrap();
        assert!(child_owner.is_gone());
    }

    #[test]
    fn a_name_that_is_not_ours_is_nobodys() {
        for name in [
            "harness-1-2",
            "harness-1-2-3-4",
            "harness-1-0-3",
            "harness-1--2-3",
            "user-1-2-3",
        ] {
            assert_eq!(Owner::parse(name), None, "{name}");
        }
        assert!(Owner::parse("harness-1-2-3").is_some());
    }
}
