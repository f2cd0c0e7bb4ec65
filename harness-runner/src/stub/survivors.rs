//! Finds, names and kills the descendants of this process through /proc.

use super::{
    holds::{self, Interest},
    sys::{self, Pid},
};
use crate::tracer::procfs;
use harness_metadata::{Survivor, TraceSummary};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::AsFd,
    path::Path,
    sync::LazyLock,
    time::{Duration, Instant},
};

/// Returns all live descendants of this process. Empty where there is no /proc.
///
/// Since the stub is a subreaper, a descendant always has a chain of live parents up to it.
pub(super) fn descendants() -> BTreeSet<Pid> {
    Children::now().descendants()
}

/// Returns the children of this process that it has not started itself, zombies included: those in
/// other process groups, and those that have gone to its own but have this variable, as `NAME=value`,
/// in their environment. Empty where there is no /proc.
pub(super) fn adopted_children(variable: &str) -> Vec<Pid> {
    let own_group = nix::unistd::getpgrp().as_raw();
    let is_marked = |pid: Pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        !variable.is_empty() && variables.any(|one| one == variable.as_bytes())
    };
    let mut children = Children::now().of(own_pid());
    children.retain(|child| {
        stat(*child).is_some_and(|stat| stat.group != own_group) || is_marked(*child)
    });
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

/// How often in a row it is looked for new children; a look takes microseconds.
const LOOKS: u32 = 64;

/// After so many looks without a new child there is none.
const QUIET_LOOKS: u32 = 8;

/// Sends SIGKILL to the children, and at once to those that come meanwhile. A process that does
/// nothing but fork and end is ever another one, and who takes longer than one of its lives to look
/// at it never hits it. A child's id is its own until it has been waited for.
fn kill_children() {
    if !matches!(Children::now(), Children::Told) {
        return;
    }
    let own = own_pid();
    let mut killed = BTreeSet::new();
    let mut quiet = 0;
    for _ in 0..LOOKS {
        quiet += 1;
        for child in told_children(own) {
            if killed.insert(child) {
                let _ = sys::kill(child, libc::SIGKILL);
                quiet = 0;
            }
        }
        if quiet > QUIET_LOOKS {
            break;
        }
    }
    kill_groups_of(&killed);
}

/// Sends SIGKILL to the process groups of these children, dead ones included, as far as they are in
/// other sessions than ours. Only descendants can be in those; and no fork escapes a signal to its
/// group, however fast it is.
pub(super) fn kill_groups_of<'a>(children: impl IntoIterator<Item = &'a Pid>) {
    let Some(own) = stat(own_pid()) else {
        return;
    };
    let stats = children.into_iter().filter_map(|child| stat(*child));
    let groups: BTreeSet<Pid> = stats
        // Zero is a group of another namespace.
        .filter(|stat| stat.session != own.session && stat.group > 1)
        .map(|stat| stat.group)
        .collect();
    for group in groups {
        let _ = sys::kill(-group, libc::SIGKILL);
    }
}

/// Describes a child that ends and leaves another one faster than its state can be looked at.
/// `None` if there is none that lives.
pub(super) fn name_in_passing(since: Instant) -> Option<Survivor> {
    let own = own_pid();
    // The last one is the youngest. Those before it are dead, if it is of that kind.
    let youngest = (0..LOOKS).filter_map(|_| told_children(own).pop());
    youngest.into_iter().find_map(|pid| {
        Some(Survivor {
            pid,
            parent: own,
            command: command_line(pid)?,
            outlived: since.elapsed(),
            killed: true,
            age: None,
            ancestry: Vec::new(),
            holds: Vec::new(),
        })
    })
}

/// Sends SIGKILL to all live descendants. Returns those that are not dead.
pub(super) fn kill_descendants() -> Vec<Pid> {
    kill_children();
    let mut left = Vec::new();
    for pid in descendants() {
        // Only a direct child's id is safe from reuse; another's is pinned by the pidfd, and
        // looked at again behind it.
        let pidfd = sys::pidfd_open(pid);
        if stat(pid).is_some_and(|stat| !stat.is_dead() && is_descendant(&stat)) {
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
    !has_proc() || descendants().into_iter().any(in_group)
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
            let Some(stat) = stat(pid).filter(|stat| !stat.is_dead()) else {
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

/// Returns whether a process has been killed already, by whatever killed its parent.
pub(super) fn is_dying(pid: Pid) -> bool {
    const KILL: u64 = 1 << (libc::SIGKILL - 1);
    /// PF_EXITING of the kernel, in field 9 of proc_pid_stat(5).
    const EXITING: u64 = 4;
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return true;
    };
    let exiting = stat(pid).is_none_or(|stat| stat.flags & EXITING != 0);
    let pending = status.lines().any(|line| {
        let mask = line
            .strip_prefix("SigPnd:")
            .or(line.strip_prefix("ShdPnd:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & KILL != 0)
    });
    exiting || pending
}

/// Returns whether /proc is there.
pub(super) fn has_proc() -> bool {
    stat(own_pid()).is_some()
}

fn own_pid() -> Pid {
    nix::unistd::getpid().as_raw()
}

/// How the children of a process are found.
enum Children {
    /// The kernel tells them.
    Told,
    /// It was built without that (CONFIG_PROC_CHILDREN). All processes there are, by their parents.
    ByParent(BTreeMap<Pid, Vec<Pid>>),
}

impl Children {
    fn now() -> Self {
        static TOLD: LazyLock<bool> =
            LazyLock::new(|| Path::new("/proc/thread-self/children").exists());
        if *TOLD { Self::Told } else { Self::by_parent() }
    }

    /// Looks at every process. One that gets a new parent meanwhile may be missed, and is found by
    /// the next look.
    fn by_parent() -> Self {
        let mut children: BTreeMap<Pid, Vec<Pid>> = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some((pid, stat)) = pid.and_then(|pid| Some((pid, stat(pid)?))) {
                children.entry(stat.parent).or_default().push(pid);
            }
        }
        Self::ByParent(children)
    }

    fn of(&self, parent: Pid) -> Vec<Pid> {
        match self {
            Self::Told => told_children(parent),
            Self::ByParent(children) => children.get(&parent).cloned().unwrap_or_default(),
        }
    }

    fn descendants(&self) -> BTreeSet<Pid> {
        let mut found = BTreeSet::new();
        let mut parents = vec![own_pid()];
        while let Some(parent) = parents.pop() {
            for child in self.of(parent) {
                if found.insert(child) {
                    parents.push(child);
                }
            }
        }
        found
    }
}

/// Children of all threads of a process (proc_pid_task_children(5)).
fn told_children(parent: Pid) -> Vec<Pid> {
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
    while parent != own {
        match self::stat(parent) {
            Some(stat) => parent = stat.parent,
            None => return false,
        }
    }
    true
}

/// The first fields of /proc/PID/stat (proc_pid_stat(5)).
pub(super) struct Stat {
    pub(super) name: String,
    pub(super) state: char,
    pub(super) parent: Pid,
    pub(super) group: Pid,
    session: Pid,
    flags: u64,
    threads: u32,
    /// When it started, in clock ticks since the machine did.
    pub(super) started: u64,
}

impl Stat {
    /// Returns whether nothing of the process runs. One whose first thread has ended is a zombie
    /// (`Z`), too, but its other threads live and keep all that it has open.
    pub(super) fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }
}

pub(super) fn stat(pid: Pid) -> Option<Stat> {
    let bytes = procfs::read(&format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // The name is in parentheses and may itself hold some.
    let (before, after) = text.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let mut fields = after.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    // The 9th, the 20th and the 22nd field; the session is the sixth.
    let flags = fields.nth(2)?.parse().ok()?;
    let threads = fields.nth(10)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    Some(Stat {
        name,
        state,
        parent,
        group,
        session,
        flags,
        threads,
        started,
    })
}

pub(super) fn command_line(pid: Pid) -> Option<String> {
    let of_first = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let bytes = Some(of_first)
        .filter(|bytes| !bytes.is_empty())
        // A first thread that has ended has no memory to read it from, but the others have.
        .or_else(|| {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
            let mut lines = threads.flat_map(|thread| fs::read(thread.path().join("cmdline")));
            lines.find(|line| !line.is_empty())
        })?;
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    let args = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    Some(shell_words::join(args))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
    };

    #[test]
    fn descendants_are_found_even_if_the_kernel_does_not_tell_children() {
        let mut shell = Command::new("sh")
            .args(["-c", "(sleep 100 & echo $!; wait) & wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let sleep: Pid = line.trim().parse().unwrap();
        let found = Children::by_parent().descendants();
        let told = Children::Told.descendants();
        assert!(is_descendant(&stat(sleep).unwrap()));
        let between = stat(sleep).unwrap().parent;
        for pid in [sleep, between] {
            let _ = sys::kill(pid, libc::SIGKILL);
        }
        shell.kill().unwrap();
        shell.wait().unwrap();
        for pid in [shell.id().cast_signed(), between, sleep] {
            assert!(found.contains(&pid), "{pid} in {found:?}");
            assert!(told.contains(&pid) || told.is_empty(), "{pid} in {told:?}");
        }
        assert!(!found.contains(&own_pid()) && !found.contains(&1));
    }
}
