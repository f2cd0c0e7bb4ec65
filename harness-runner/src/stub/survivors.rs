//! Finds, names and kills the descendants of this process through /proc.

use super::{
    holds::{self, Interest},
    sys::{self, Pid},
};
use harness_metadata::{Survivor, TraceSummary};
use std::{
    collections::BTreeSet,
    fs,
    os::fd::AsFd,
    path::Path,
    time::{Duration, Instant},
};

/// Returns all live descendants of this process. Empty where there is no /proc.
///
/// Since the stub is a subreaper, a descendant always has a chain of live parents up to it.
pub(super) fn descendants() -> BTreeSet<Pid> {
    let mut found = BTreeSet::new();
    let mut parents = vec![own_pid()];
    while let Some(parent) = parents.pop() {
        for child in children(parent) {
            if found.insert(child) {
                parents.push(child);
            }
        }
    }
    found
}

/// Returns the children of this process that are not in its process group, zombies included. Empty
/// where there is no /proc.
pub(super) fn children_in_other_groups() -> Vec<Pid> {
    let own_group = nix::unistd::getpgrp().as_raw();
    let mut children = children(own_pid());
    children.retain(|child| stat(*child).is_some_and(|stat| stat.group != own_group));
    children
}

/// Returns whether the process group of this process is orphaned (POSIX, 3.264): no member has a
/// parent in another group of its session, so nobody is there to continue it once it is stopped.
/// Looks at this process and at the group's leader.
pub(crate) fn own_group_is_orphaned() -> bool {
    let Some(own) = stat(own_pid()) else {
        return false;
    };
    let outside = |parent: Pid| {
        stat(parent).is_some_and(|p| p.session == own.session && p.group != own.group)
    };
    let leader = stat(own.group);
    !outside(own.parent) && !leader.is_some_and(|leader| outside(leader.parent))
}

/// Sends SIGKILL to all live descendants. Returns those that are not zombies.
pub(super) fn kill_descendants() -> Vec<Pid> {
    let mut left = Vec::new();
    for pid in descendants() {
        // Only a direct child's id is safe from reuse; another's is pinned by the pidfd, and
        // looked at again behind it.
        let pidfd = sys::pidfd_open(pid);
        if stat(pid).is_some_and(|stat| stat.state != 'Z' && is_descendant(&stat)) {
            match pidfd {
                Some(pidfd) => sys::kill_by_pidfd(pidfd.as_fd()),
                // There are none before Linux 5.3 and in some sandboxes. It was ours a moment
                // ago, and must not be left behind.
                None => drop(sys::kill(pid, libc::SIGKILL)),
            }
            left.push(pid);
        }
    }
    left
}

/// Returns whether a descendant is a member of this process group. Assumes so where that cannot
/// be seen.
pub(super) fn has_descendant_in_group(group: Pid) -> bool {
    let in_group = |pid: Pid| stat(pid).is_some_and(|stat| stat.group == group);
    !Path::new("/proc/thread-self/children").exists() || descendants().into_iter().any(in_group)
}

/// The most processes that are described in full.
const MOST_DESCRIBED: usize = 64;

/// How long a look at what processes hold may take: they are about to be killed.
const LIMIT: Duration = Duration::from_millis(200);

/// What survivors survived.
pub(super) struct Survived<'a> {
    /// The test's own process.
    pub(super) root: Pid,
    /// When it ended.
    pub(super) at: Instant,
    /// What of survivors is of interest.
    pub(super) interest: &'a Interest,
    /// What was seen of them, if they were traced.
    pub(super) trace: Option<&'a TraceSummary>,
}

/// Describes those of `pids` that are alive.
pub(super) fn name(pids: &BTreeSet<Pid>, survived: &Survived<'_>) -> Vec<Survivor> {
    let outlived = survived.at.elapsed();
    let deadline = Instant::now() + LIMIT;
    let nameless = !has_proc();
    let mut survivors = Vec::new();
    for &pid in pids {
        let mut survivor = Survivor {
            pid,
            parent: 0,
            command: "[unknown: no /proc]".to_owned(),
            outlived,
            killed: true,
            age: None,
            ancestry: Vec::new(),
            holds: Vec::new(),
        };
        if !nameless {
            let Some(stat) = stat(pid).filter(|stat| stat.state != 'Z') else {
                continue;
            };
            survivor.parent = stat.parent;
            survivor.command = command_line(pid).unwrap_or_else(|| format!("[{}]", stat.name));
            if survivors.len() < MOST_DESCRIBED && Instant::now() < deadline {
                survivor.age = holds::age(&stat);
                survivor.ancestry = holds::ancestry(pid, survived.root, survived.trace);
                survivor.holds = survived.interest.held(pid);
            }
        }
        survivors.push(survivor);
    }
    survivors
}

/// Returns whether /proc is there.
pub(super) fn has_proc() -> bool {
    stat(own_pid()).is_some()
}

fn own_pid() -> Pid {
    nix::unistd::getpid().as_raw()
}

/// Children of all threads of a process (proc_pid_task_children(5)).
fn children(parent: Pid) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else {
        return Vec::new();
    };
    let lists = threads
        .flatten()
        .map(|thread| fs::read_to_string(thread.path().join("children")));
    lists
        .flatten()
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

fn is_descendant(stat: &Stat) -> bool {
    let own = own_pid();
    let mut parent = stat.parent;
    while parent > 1 {
        if parent == own {
            return true;
        }
        match self::stat(parent) {
            Some(stat) => parent = stat.parent,
            None => return false,
        }
    }
    false
}

/// The first fields of /proc/PID/stat (proc_pid_stat(5)).
pub(super) struct Stat {
    pub(super) name: String,
    pub(super) state: char,
    pub(super) parent: Pid,
    group: Pid,
    session: Pid,
    /// When it started, in clock ticks since the machine did.
    pub(super) started: u64,
}

pub(super) fn stat(pid: Pid) -> Option<Stat> {
    let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // The name is in parentheses and may itself hold some.
    let (before, after) = text.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let mut fields = after.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    // Field 22; this was the sixth.
    let started = fields.nth(15)?.parse().ok()?;
    Some(Stat {
        name,
        state,
        parent,
        group,
        session,
        started,
    })
}

pub(super) fn command_line(pid: Pid) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if bytes.is_empty() {
        return None;
    }
    let args = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    Some(shell_words::join(args))
}
