//! Decides whether processes are still in the cgroup that has their limits.
//!
//! A process that may write to `cgroup.procs` of another group can leave: root, and a user in an
//! own group. The kernel sends no notification, so /proc/PID/cgroup is read (cgroups(7)). For an
//! exiting process of version 1 it is always `/`.

use super::{
    files,
    mounts::{Home, Mounts, is_of},
};
use crate::{
    proc,
    protocol::Escape,
    stub::{status, sys::Pid},
};
use harness_metadata::{
    TraceEvent, TraceEventKind,
    trace::{CallResult, FileOperation},
};
use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// The suffix that the kernel adds to the name of a removed group.
const REMOVED: &str = " (deleted)";

/// A group in which a process should not be.
#[derive(Debug, PartialEq, Eq)]
struct Elsewhere {
    group: String,
    /// Whether it is what a process of version 1 that exits shows.
    may_be_exit: bool,
}

/// The cgroups in which the processes of an attempt with limits must be.
#[derive(Debug)]
pub(super) struct Inside {
    homes: Vec<Home>,
    folders: Vec<PathBuf>,
    /// The mount points of the hierarchies. Other hierarchies, such as that of a limit which only a
    /// run within the test has, do not count.
    mounts: Vec<PathBuf>,
}

impl Inside {
    /// The group has these folders, one in each hierarchy.
    pub(super) fn new(folders: Vec<PathBuf>) -> Self {
        let mounts = Mounts::read();
        let homes: Vec<Home> = folders.iter().filter_map(|own| mounts.home(own)).collect();
        Self {
            mounts: mounts.tops(&homes),
            homes,
            folders,
        }
    }

    /// Returns where a process or thread of this root is, if it is not where it should be.
    pub(super) fn left_by(&self, pid: Pid, root: Pid) -> Option<Escape> {
        let groups = fs::read(proc::path(pid, "cgroup")).ok()?;
        let elsewhere = elsewhere(&String::from_utf8_lossy(&groups), &self.homes)?;
        let stat = status::stat(pid);
        let counts = match &stat {
            // Until it executes, it may still have to join.
            Some(stat) if pid == root && stat.has_not_executed() => false,
            Some(stat) => !elsewhere.may_be_exit || !stat.exits(),
            None => !elsewhere.may_be_exit,
        };
        counts.then_some(Escape::Left {
            pid,
            found: elsewhere.group,
        })
    }

    /// As [`Self::left_by`], of any thread of a process.
    pub(super) fn left_by_any_of(&self, process: Pid, root: Pid) -> Option<Escape> {
        let threads = fs::read_dir(proc::path(process, "task")).ok()?;
        let threads = threads.flatten();
        let mut threads = threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok());
        threads.find_map(|thread| self.left_by(thread, root))
    }

    /// Returns what an event shows: that a file was opened by which a process can leave, or by which
    /// a limit of this group can be changed.
    pub(super) fn opened_by(&self, event: &TraceEvent) -> Option<Escape> {
        let TraceEventKind::File(call) = &event.kind else {
            return None;
        };
        let opened = call.operation == FileOperation::Open
            && call.access.is_some_and(|access| access.write)
            && matches!(call.result, CallResult::Ok(_) | CallResult::Found);
        let path = Path::new(OsStr::from_bytes(call.path.path().as_bytes()));
        (opened && self.opens(path)).then(|| Escape::Opened {
            pid: event.pid,
            file: path.display().to_string(),
        })
    }

    fn opens(&self, path: &Path) -> bool {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return false;
        };
        if files::MEMBERS.iter().any(|file| name == *file) {
            // A group below has the same limits.
            let within = |own: &PathBuf| folder.starts_with(own);
            return self.mounts.iter().any(|top| folder.starts_with(top))
                && !self.folders.iter().any(within);
        }
        files::LIMITS.iter().any(|file| name == *file)
            && self.folders.iter().any(|own| own == folder)
    }
}

/// Returns where a process is that is outside of one of its homes, by its /proc/PID/cgroup.
fn elsewhere(groups: &str, homes: &[Home]) -> Option<Elsewhere> {
    let of = |home: &Home| {
        let line = groups
            .lines()
            .find(|line| is_of(line, home.controllers.as_deref()))?;
        let group = line.splitn(3, ':').nth(2)?;
        let plain = group.strip_suffix(REMOVED).unwrap_or(group);
        let inside = |group: &str| {
            let below = group.strip_prefix(&*home.group);
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        };
        let outside = !inside(group) && !inside(plain);
        outside.then(|| Elsewhere {
            group: group.to_owned(),
            may_be_exit: home.controllers.is_some() && group == "/",
        })
    };
    let found: Vec<_> = homes.iter().filter_map(of).collect();
    let sure = found.iter().position(|elsewhere| !elsewhere.may_be_exit);
    found.into_iter().nth(sure.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness_metadata::trace::{Access, FileCall, TracedPath};
    use std::time::Duration;

    fn homes() -> Vec<Home> {
        let home = |controllers: Option<&str>, group: &str| Home {
            controllers: controllers.map(|name| vec!["rw".to_owned(), name.to_owned()]),
            group: group.to_owned(),
        };
        vec![
            home(None, "/run/slot-0.1"),
            home(Some("memory"), "/box/run/slot-0.1"),
        ]
    }

    fn found(groups: &str) -> Option<(String, bool)> {
        let elsewhere = elsewhere(groups, &homes())?;
        Some((elsewhere.group, elsewhere.may_be_exit))
    }

    #[test]
    fn a_process_in_its_group_or_below_has_not_left_it() {
        let own = "8:pids:/\n4:memory:/box/run/slot-0.1\n0::/run/slot-0.1\n";
        assert_eq!(found(own), None);
        let below = "4:memory:/box/run/slot-0.1/a:b\n0::/run/slot-0.1/inner/runner\n";
        assert_eq!(found(below), None);
        let removed = "4:memory:/box/run/slot-0.1\n0::/run/slot-0.1 (deleted)\n";
        assert_eq!(found(removed), None);
        assert_eq!(found(""), None, "the process is gone");
    }

    #[test]
    fn a_process_in_another_group_of_any_hierarchy_has_left() {
        let parent = "4:memory:/box/run\n0::/run/slot-0.1\n";
        assert_eq!(found(parent), Some(("/box/run".to_owned(), false)));
        let sibling = "4:memory:/box/run/slot-0.1\n0::/run/slot-0.10\n";
        assert_eq!(found(sibling), Some(("/run/slot-0.10".to_owned(), false)));
        let removed = "4:memory:/box/run/other (deleted)\n0::/run/slot-0.1\n";
        let other = "/box/run/other (deleted)".to_owned();
        assert_eq!(found(removed), Some((other, false)));
    }

    #[test]
    fn the_root_of_a_hierarchy_of_version_1_may_be_that_of_a_process_that_exits() {
        let exits = "4:memory:/\n0::/run/slot-0.1\n";
        assert_eq!(found(exits), Some(("/".to_owned(), true)));
        let left = "4:memory:/box/run/slot-0.1\n0::/\n";
        assert_eq!(found(left), Some(("/".to_owned(), false)));
        let both = "4:memory:/\n0::/elsewhere\n";
        assert_eq!(found(both), Some(("/elsewhere".to_owned(), false)));
    }

    #[test]
    fn only_a_file_by_which_limits_do_not_hold_counts_as_opened() {
        let inside = Inside {
            homes: homes(),
            folders: vec![PathBuf::from("/cg/memory/run/slot-0.1")],
            mounts: vec![PathBuf::from("/cg/memory")],
        };
        let opened = |path: &str, write, result| {
            let call = FileCall {
                call: "openat".to_owned(),
                operation: FileOperation::Open,
                path: TracedPath {
                    asked: path.into(),
                    absolute: None,
                },
                to: None,
                access: Some(Access {
                    write,
                    ..Access::default()
                }),
                result,
                file: None,
            };
            let event = TraceEvent {
                at: Duration::ZERO,
                pid: 7,
                tid: 7,
                kind: TraceEventKind::File(Box::new(call)),
            };
            inside.opened_by(&event).is_some()
        };
        let ok = CallResult::Ok(3);
        assert!(opened("/cg/memory/cgroup.procs", true, ok));
        assert!(opened("/cg/memory/new/tasks", true, CallResult::Found));
        assert!(opened("/cg/memory/run/slot-0.1/memory.max", true, ok));
        assert!(!opened("/cg/memory/cgroup.procs", false, ok), "read");
        assert!(
            !opened("/cg/memory/tasks", true, CallResult::Err(13)),
            "refused"
        );
        assert!(!opened("/cg/memory/run/slot-0.1/below/tasks", true, ok));
        assert!(!opened(
            "/cg/memory/run/slot-0.1/below/memory.max",
            true,
            ok
        ));
        assert!(!opened("/home/tasks", true, ok), "another file");
    }
}
