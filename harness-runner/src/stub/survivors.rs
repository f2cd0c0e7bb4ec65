//! Finds, names and kills the descendants of this process: through /proc, or else by asking the
//! kernel of every process id whether it is a child.

mod chase;

pub(super) use chase::{Chase, ChildList, most_reaped};

use super::{
    holds::{self, Interest},
    status::{self, Stat, command_line, stat},
    sys::{self, Pid},
};
use crate::{
    proc::{self, Mounted},
    report::less,
};
use harness_metadata::{Survivor, TraceSummary};
use nix::time::{ClockId, clock_gettime};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::AsFd,
    path::Path,
    sync::LazyLock,
    time::{Duration, Instant},
};

/// Returns all live descendants of this process; its children only where /proc does not know them.
///
/// Since the stub is a subreaper, a descendant always has a chain of live parents up to it.
///
/// Stops to look at `deadline`: a tree that forks as fast as it can has no end.
pub(super) fn descendants(deadline: Instant) -> BTreeSet<Pid> {
    Children::now().descendants(deadline)
}

/// Returns the children of this process that it has not started itself, zombies included. Empty where
/// /proc does not know them.
pub(super) fn adopted_children(variable: &str) -> Vec<Pid> {
    if !has_proc() {
        return Vec::new();
    }
    let mut children = Children::now().of(own_pid());
    children.retain(|child| is_adopted(*child, variable));
    children
}

/// Returns whether a child of this process is not one that it has started itself: it is in another
/// process group, or has gone to this one but has this variable, as `NAME=value`, in its environment.
pub(super) fn is_adopted(child: Pid, variable: &str) -> bool {
    let pid = nix::unistd::Pid::from_raw(child);
    let is_marked = || {
        let environment = fs::read(proc::path(child, "environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        !variable.is_empty() && variables.any(|one| one == variable.as_bytes())
    };
    // Thousands of dead may be among them, of each of which this is asked.
    nix::unistd::getpgid(Some(pid)).is_ok_and(|group| group != nix::unistd::getpgrp())
        || is_marked()
}

/// Returns true if the process group of this process is orphaned (POSIX, 3.264): no member has a
/// parent in another group of its session, so no shell continues it once it is stopped. Looks at
/// this process and at the group's leader.
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

/// The number of times in a row that the last child is looked for; a look takes microseconds.
const LOOKS: u32 = 1024;

/// Describes a child that ends and leaves another one faster than its state can be looked at: without
/// its name, if no look is fast enough for that. `None` if there is none that lives.
pub(super) fn name_in_passing(since: Instant) -> Option<Survivor> {
    let own = own_pid();
    let budget = Budget::of_this_thread();
    let found = |pid: Pid, command: String| Survivor {
        pid,
        parent: own,
        command,
        outlived: since.elapsed(),
        killed: true,
        age: None,
        ancestry: Vec::new(),
        holds: Vec::new(),
    };
    let before: BTreeSet<_> = proc::children(own).into_iter().collect();
    let mut came = None;
    for _ in 0..LOOKS {
        if budget.has_used(NAMING) {
            break;
        }
        // The last one is the youngest. Those before it are dead, if it is of that kind. On a busy machine
        // it mostly is dead, too, when this process has the CPU again.
        let Some(youngest) = proc::children(own).pop() else {
            continue;
        };
        if let Some(command) = command_line(youngest) {
            return Some(found(youngest, command));
        }
        // Who has come since the first look was left by one that was alive.
        if !before.contains(&youngest) {
            came = Some(youngest);
        }
    }
    Some(found(came?, UNNAMED.to_owned()))
}

/// The command of a survivor that ended and left another before it could be looked at.
const UNNAMED: &str = "[unknown: it ended before it could be looked at]";

/// Sends SIGKILL to all live descendants. Returns those that are not dead.
pub(super) fn kill_descendants() -> Vec<Pid> {
    let mut left = Vec::new();
    for pid in descendants(Instant::now() + WALK) {
        // Only a direct child's id is safe from reuse; another's is pinned by the pidfd, and
        // looked at again behind it.
        let pidfd = sys::pidfd_open(pid);
        let ours = match stat(pid) {
            Some(stat) => !stat.is_dead() && is_descendant(&stat),
            // There is no /proc, or it hides the process (`hidepid` of proc(5)).
            None => sys::is_live_child(pid),
        };
        if ours {
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

/// Stops the descendants of this process, the youngest first, if there are more than `few`: those
/// that each have ever another child would leave this process hardly any of the CPU to name and kill
/// them. What is stopped leaves its share at once, so a look at each comes later.
pub(super) fn stop_crowd(few: usize) {
    let budget = Budget::of_this_thread();
    let children = Children::now();
    let mut found = BTreeSet::new();
    let mut stops = false;
    let mut parents = vec![own_pid()];
    while let Some(parent) = parents.pop() {
        if budget.has_used(NAMING) {
            return;
        }
        let mut new = children.of(parent);
        new.retain(|child| found.insert(*child));
        if stops {
            stop_children(parent, &new);
        } else if found.len() > few {
            // Once more from the start.
            stops = true;
            found.clear();
            parents = vec![own_pid()];
            continue;
        }
        parents.extend(new);
    }
}

/// The most processes that are held by a pidfd at a time.
const MOST_HELD: usize = 128;

/// Stops children of a descendant, or of this process, and the process groups that they lead in other
/// sessions than ours: see `Groups`. Where there are no pidfds nothing is stopped, because an id
/// may be a stranger's by now.
fn stop_children(parent: Pid, pids: &[Pid]) {
    let session = nix::unistd::getsid(None).ok();
    for pids in pids.rchunks(MOST_HELD) {
        let held = |pid: &Pid| Some((*pid, sys::pidfd_open(*pid)?));
        let held: Vec<_> = pids.iter().rev().filter_map(held).collect();
        // One look at all that are held, rather than one at each: there is no time for that.
        let still: BTreeSet<_> = Children::now().of(parent).into_iter().collect();
        if parent != own_pid() && !stat(parent).is_some_and(|stat| is_descendant(&stat)) {
            return;
        }
        for (pid, pidfd) in held.iter().filter(|(pid, _)| still.contains(pid)) {
            let id = Some(nix::unistd::Pid::from_raw(*pid));
            let of_child = nix::unistd::getsid(id).ok();
            let is_elsewhere = session.is_some() && of_child.is_some() && of_child != session;
            match is_elsewhere && nix::unistd::getpgid(id).ok() == id {
                true => sys::stop_group_by_pidfd(pidfd.as_fd()),
                false => sys::stop_by_pidfd(pidfd.as_fd()),
            }
        }
    }
}

/// Returns whether a descendant is a member of this process group.
pub(super) fn has_descendant_in_group(group: Pid) -> bool {
    let of = |pid: Pid| nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid)));
    let in_group = |pid: Pid| of(pid).is_ok_and(|of| of.as_raw() == group);
    descendants(Instant::now() + WALK).into_iter().any(in_group)
}

/// The most processes that are described in full.
const MOST_DESCRIBED: usize = 64;

/// The time limit for a look at the open files of processes, and for a list of them: they are about
/// to be killed, and may fork as fast as they can. Their names are read within the same amount of
/// CPU time.
pub(super) const NAMING: Duration = Duration::from_millis(200);

/// The time limit for a look at the whole tree while it is killed: a missed process becomes a child
/// of this one when its parent is dead.
const WALK: Duration = Duration::from_millis(50);

/// Time of the CPU, which is the same however busy the machine is.
struct Budget {
    began: Instant,
    cpu: Option<Duration>,
}

impl Budget {
    /// The factor by which wall time may exceed CPU time.
    const MOST_STRETCHED: u32 = 10;

    fn of_this_thread() -> Self {
        Self {
            began: Instant::now(),
            cpu: cpu_time(),
        }
    }

    /// Returns whether this much of the CPU has been used, or so much time has passed that processes
    /// which fork as fast as they can must not be waited for.
    fn has_used(&self, limit: Duration) -> bool {
        let passed = self.began.elapsed();
        let used = self.cpu.zip(cpu_time());
        let used = used.map_or(passed, |(before, now)| now.saturating_sub(before));
        used >= limit || passed >= Self::MOST_STRETCHED * limit
    }
}

/// Returns how much of the CPU this thread has used.
fn cpu_time() -> Option<Duration> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok()?;
    Some(time.into())
}

/// The end that survivors outlived.
pub(super) struct Survived<'a> {
    /// The test's own process.
    pub(super) root: Pid,
    /// When it ended.
    pub(super) at: Instant,
    /// The wanted facts about survivors.
    pub(super) interest: &'a Interest,
    /// Their trace, if they were traced.
    pub(super) trace: Option<&'a TraceSummary>,
}

/// Describes those of `pids` that are alive.
pub(super) fn name(pids: &BTreeSet<Pid>, survived: &Survived<'_>) -> Vec<Survivor> {
    let outlived = survived.at.elapsed();
    let budget = Budget::of_this_thread();
    let nameless = proc::mounted().lacks();
    let nameless = nameless.map(|why| less::missing(&why));
    let mut survivors = Vec::new();
    for &pid in pids {
        if survivors.len() >= MOST_DESCRIBED && budget.has_used(NAMING)
            || budget.has_used(2 * NAMING)
        {
            // There are thousands, most of which are dead.
            break;
        }
        let mut survivor = Survivor {
            pid,
            parent: 0,
            command: nameless
                .as_ref()
                .map_or_else(String::new, |why| format!("[unknown: {why}]")),
            outlived,
            killed: true,
            age: None,
            ancestry: Vec::new(),
            holds: Vec::new(),
        };
        let stat = match &nameless {
            Some(_) => None,
            None => stat(pid),
        };
        let is_hidden = nameless.is_none() && stat.is_none() && sys::is_live_child(pid);
        if is_hidden {
            survivor.command = "[unknown: /proc hides it]".to_owned();
            survivor.parent = own_pid();
        } else if nameless.is_none() {
            let Some(stat) = stat.filter(|stat| !stat.is_dead()) else {
                continue;
            };
            survivor.parent = stat.parent;
            survivor.command = command_line(pid).unwrap_or_else(|| format!("[{}]", stat.name));
            if survivors.len() < MOST_DESCRIBED && !budget.has_used(NAMING) {
                survivor.age = holds::age(&stat);
                survivor.ancestry = holds::ancestry(pid, survived.root, survived.trace);
                survivor.holds = survived.interest.held(pid);
            }
        }
        survivors.push(survivor);
    }
    survivors
}

/// Returns whether a process of our cgroup is more than a zombie.
pub(super) fn is_alive(pid: Pid) -> bool {
    match stat(pid) {
        Some(stat) => !stat.is_dead(),
        None => !has_proc() && sys::is_live_child(pid),
    }
}

/// Returns whether a process has been killed already, by whatever killed its parent.
pub(super) fn is_dying(pid: Pid) -> bool {
    const KILL: u64 = 1 << (libc::SIGKILL - 1);
    let Ok(status) = fs::read_to_string(proc::path(pid, "status")) else {
        return true;
    };
    let exiting = stat(pid).is_none_or(|stat| stat.exits());
    let pending = status.lines().any(|line| {
        let mask = line
            .strip_prefix("SigPnd:")
            .or(line.strip_prefix("ShdPnd:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & KILL != 0)
    });
    exiting || pending
}

/// Returns whether /proc is there, and our own.
pub(super) fn has_proc() -> bool {
    proc::mounted() == Mounted::Own
}

fn own_pid() -> Pid {
    nix::unistd::getpid().as_raw()
}

/// The way to find the children of a process.
enum Children {
    /// The kernel tells them.
    Told,
    /// It was built without that (CONFIG_PROC_CHILDREN). All processes there are, by their parents.
    ByParent(BTreeMap<Pid, Vec<Pid>>),
    /// There is no /proc. Those of this process, which the kernel lets it wait for.
    Waitable(Vec<Pid>),
}

impl Children {
    fn now() -> Self {
        static TOLD: LazyLock<bool> =
            LazyLock::new(|| Path::new("/proc/thread-self/children").exists());
        if !has_proc() {
            Self::Waitable(waitable_children())
        } else if *TOLD {
            Self::Told
        } else {
            Self::by_parent()
        }
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
            Self::Told => proc::children(parent),
            Self::ByParent(children) => children.get(&parent).cloned().unwrap_or_default(),
            Self::Waitable(children) if parent == own_pid() => children.clone(),
            Self::Waitable(_) => Vec::new(),
        }
    }

    fn descendants(&self, deadline: Instant) -> BTreeSet<Pid> {
        let mut found = BTreeSet::new();
        let mut parents = vec![own_pid()];
        while let Some(parent) = parents.pop() {
            // The children of this process itself are one list.
            if !found.is_empty() && Instant::now() >= deadline {
                break;
            }
            for child in self.of(parent) {
                if found.insert(child) {
                    parents.push(child);
                }
            }
        }
        found
    }
}

/// The largest id that the kernel gives on any machine (PID_MAX_LIMIT).
const LARGEST_PID: Pid = 4 << 20;

/// Returns the live children of this process without a /proc of its own. Where no /proc knows this process
/// that takes a second if ids may be large, so it is for kills only.
fn waitable_children() -> Vec<Pid> {
    if let Some(mut children) = proc::own_children_seen_from_outside() {
        // The kernel has the last word.
        children.retain(|pid| sys::is_live_child(*pid));
        return children;
    }
    // The file of a foreign /proc is as good.
    let largest = fs::read_to_string("/proc/sys/kernel/pid_max").ok();
    let largest = largest.and_then(|text| text.trim().parse().ok());
    let exists = |pid: &Pid| nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(*pid))).is_ok();
    (2..=largest.unwrap_or(LARGEST_PID))
        .filter(exists)
        .filter(|pid| sys::is_live_child(*pid))
        .collect()
}

/// Returns whether /proc says so.
fn is_descendant(stat: &Stat) -> bool {
    let own = own_pid();
    let mut parent = stat.parent;
    while parent != own {
        match status::stat(parent) {
            Some(stat) => parent = stat.parent,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
    };

    #[test]
    fn children_that_lead_a_group_in_another_session_are_stopped_with_it() {
        let mut shell = Command::new("setsid")
            .args(["sh", "-c", "sleep 100 & echo $$ $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let pids: Vec<Pid> = (line.split_whitespace())
            .map(|pid| pid.parse().unwrap())
            .collect();
        assert_eq!(pids[0], shell.id().cast_signed());
        stop_children(own_pid(), &pids[..1]);
        // The second is that of a process with a tracer.
        let is_stopped = |pid: &Pid| stat(*pid).is_some_and(|stat| matches!(stat.state, 'T' | 't'));
        let limit = Instant::now() + Duration::from_secs(60);
        let mut stopped = 0;
        while stopped < pids.len() && Instant::now() < limit {
            stopped = pids.iter().filter(|pid| is_stopped(pid)).count();
        }
        for pid in pids.iter().rev() {
            let _ = sys::kill(*pid, libc::SIGKILL);
        }
        shell.wait().unwrap();
        assert_eq!(stopped, pids.len());
    }

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
        let soon = Instant::now() + Duration::from_secs(60);
        let found = Children::by_parent().descendants(soon);
        let told = Children::Told.descendants(soon);
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
