//! The files of a cgroup: what versions 1 and 2 have in common and what they call differently.

use crate::sys::{self, Pid};
use harness_metadata::{Cpus, LimitKind};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// The version of a hierarchy.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// The period over which CPU time is shared out, in microseconds: the kernel's own default.
const CPU_PERIOD: u64 = 100_000;

/// Returns what the controller is called that has a limit.
pub(super) fn controller(kind: LimitKind) -> &'static str {
    match kind {
        LimitKind::Memory => "memory",
        LimitKind::Pids => "pids",
        LimitKind::Cpu => "cpu",
    }
}

/// The controllers that a group has.
pub(super) fn available(group: &Path) -> BTreeSet<LimitKind> {
    controllers(&group.join("cgroup.controllers"))
}

/// The controllers that the groups below a group have.
pub(super) fn enabled(group: &Path) -> BTreeSet<LimitKind> {
    controllers(&group.join("cgroup.subtree_control"))
}

fn controllers(file: &Path) -> BTreeSet<LimitKind> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let all = [LimitKind::Memory, LimitKind::Pids, LimitKind::Cpu];
    let has = |kind: &LimitKind| {
        text.split_whitespace()
            .any(|name| name == controller(*kind))
    };
    all.into_iter().filter(has).collect()
}

/// Has the groups below a group have a controller.
pub(super) fn enable(group: &Path, kind: LimitKind) -> io::Result<()> {
    write(
        group,
        "cgroup.subtree_control",
        &format!("+{}", controller(kind)),
    )
}

/// Undoes [`enable`].
pub(super) fn disable(group: &Path, kind: LimitKind) -> io::Result<()> {
    write(
        group,
        "cgroup.subtree_control",
        &format!("-{}", controller(kind)),
    )
}

/// Moves a process into a group.
pub(super) fn enter(group: &Path, pid: Pid) -> io::Result<()> {
    write(group, "cgroup.procs", &pid.to_string())
}

/// The processes in a group, but not below it.
pub(super) fn processes(group: &Path) -> BTreeSet<Pid> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|pid| pid.parse().ok()).collect()
}

/// The groups below a group, each after the one that it is in.
pub(super) fn folders(group: &Path) -> Vec<PathBuf> {
    let mut found = vec![group.to_owned()];
    let mut next = 0;
    while let Some(folder) = found.get(next) {
        next += 1;
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        let below: Vec<_> = entries.filter(is_folder).map(|e| e.path()).collect();
        found.extend(below);
    }
    found.remove(0);
    found
}

/// Sends SIGKILL to all in a group and below.
pub(super) fn kill(group: &Path) {
    // All at once, those included that are being created. There is none in version 1, and none
    // before Linux 5.14.
    if write(group, "cgroup.kill", "1").is_ok() {
        return;
    }
    for folder in folders(group).iter().map(PathBuf::as_path).chain([group]) {
        for pid in processes(folder).into_iter().filter(|pid| *pid > 0) {
            let _ = sys::kill(pid, libc::SIGKILL);
        }
    }
}

pub(super) fn write(group: &Path, file: &str, text: &str) -> io::Result<()> {
    // In one call: each is a command of its own.
    fs::write(group.join(file), text)
}

/// The files by which a process or thread is moved into a group.
pub(super) const MEMBERS: [&str; 3] = ["cgroup.procs", "cgroup.threads", "tasks"];

/// The files of a group that have its limits, in both versions.
pub(super) const LIMITS: [&str; 8] = [
    "memory.max",
    "memory.swap.max",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "pids.max",
    "cpu.max",
    "cpu.cfs_period_us",
    "cpu.cfs_quota_us",
];

/// A file of a group with a limit, and what is in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) file: &'static str,
    pub(super) value: String,
}

/// Writes a limit. Returns what the kernel made of it, which rounds.
fn set(group: &Path, file: &'static str, text: &str) -> io::Result<Setting> {
    write(group, file, text)?;
    let value = value(group, file)?;
    Ok(Setting { file, value })
}

/// Returns what is in a file of a group with a limit.
pub(super) fn value(group: &Path, file: &str) -> io::Result<String> {
    Ok(fs::read_to_string(group.join(file))?.trim().to_owned())
}

/// Limits memory; there is no swap beside it, or the limit would be no limit.
pub(super) fn limit_memory(version: Version, group: &Path, bytes: u64) -> io::Result<Vec<Setting>> {
    let (memory, swap, of_swap) = match version {
        Version::Two => ("memory.max", "memory.swap.max", 0),
        // Of both together.
        Version::One => (
            "memory.limit_in_bytes",
            "memory.memsw.limit_in_bytes",
            bytes,
        ),
    };
    let mut settings = vec![set(group, memory, &bytes.to_string())?];
    match set(group, swap, &of_swap.to_string()) {
        Ok(setting) => settings.push(setting),
        // A kernel that does not count swap.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            ) => {}
        Err(error) => return Err(error),
    }
    Ok(settings)
}

/// Limits the number of tasks.
pub(super) fn limit_pids(group: &Path, pids: u32) -> io::Result<Vec<Setting>> {
    Ok(vec![set(group, "pids.max", &pids.to_string())?])
}

/// Limits CPU time.
pub(super) fn limit_cpu(version: Version, group: &Path, cpus: Cpus) -> io::Result<Vec<Setting>> {
    let quota = u64::from(cpus.thousandths) * CPU_PERIOD / 1000;
    match version {
        Version::Two => {
            let text = format!("{quota} {CPU_PERIOD}");
            Ok(vec![set(group, "cpu.max", &text)?])
        }
        Version::One => Ok(vec![
            set(group, "cpu.cfs_period_us", &CPU_PERIOD.to_string())?,
            set(group, "cpu.cfs_quota_us", &quota.to_string())?,
        ]),
    }
}

/// Returns how many processes have been killed for want of memory.
pub(super) fn killed_for_memory(version: Version, group: &Path) -> u64 {
    let file = match version {
        Version::Two => "memory.events",
        Version::One => "memory.oom_control",
    };
    entry(group, file, "oom_kill")
}

/// Returns how many tasks have been refused.
pub(super) fn refused_tasks(group: &Path) -> u64 {
    entry(group, "pids.events", "max")
}

/// Returns the most memory that there was.
pub(super) fn peak_memory_file(version: Version) -> &'static str {
    match version {
        Version::Two => "memory.peak",
        Version::One => "memory.max_usage_in_bytes",
    }
}

/// Returns for how long tasks had to wait for their share of CPU time.
pub(super) fn throttled(version: Version, group: &Path) -> Duration {
    match version {
        Version::Two => Duration::from_micros(entry(group, "cpu.stat", "throttled_usec")),
        Version::One => Duration::from_nanos(entry(group, "cpu.stat", "throttled_time")),
    }
}

/// The CPU time that a group has used, in user mode and in the kernel. Version 2.
///
/// The file stays open: it is read twice per attempt, and a read alone is one system call, where to
/// open, size, read to the end and close it takes seven.
#[derive(Debug)]
pub(super) struct CpuTime(File);

impl CpuTime {
    pub(super) fn open(group: &Path) -> io::Result<Self> {
        File::open(group.join("cpu.stat")).map(Self)
    }

    /// Returns `None` once the group is gone.
    pub(super) fn read(&self) -> Option<(Duration, Duration)> {
        // Both values are in the first three lines.
        let mut text = [0; 256];
        let length = self.0.read_at(&mut text, 0).ok()?;
        let text = text[..length].utf8_chunks().next()?.valid();
        let of = |key| entry_of(text, key).map(Duration::from_micros);
        Some((of("user_usec")?, of("system_usec")?))
    }
}

fn entry(group: &Path, file: &str, key: &str) -> u64 {
    let text = fs::read_to_string(group.join(file)).unwrap_or_default();
    entry_of(&text, key).unwrap_or(0)
}

/// Returns a value of a file that has one line a key.
fn entry_of(text: &str, key: &str) -> Option<u64> {
    let value = |line: &str| {
        line.split_once(' ')
            .filter(|(name, _)| *name == key)?
            .1
            .parse()
            .ok()
    };
    text.lines().find_map(value)
}
