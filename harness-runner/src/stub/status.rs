//! The facts in /proc about one process.

use super::sys::Pid;
use crate::proc;
use std::fs;

/// The first fields of /proc/PID/stat (proc_pid_stat(5)).
pub(super) struct Stat {
    pub(super) name: String,
    pub(super) state: char,
    pub(super) parent: Pid,
    pub(super) group: Pid,
    pub(super) session: Pid,
    /// The device number of its terminal; 0 for none.
    pub(super) terminal: i32,
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

    /// Returns whether it exits or has done so: PF_EXITING of the kernel.
    pub(super) fn exits(&self) -> bool {
        self.flags & 0x4 != 0
    }

    /// Returns whether it has not executed a program since it was created: PF_FORKNOEXEC of the
    /// kernel.
    pub(super) fn has_not_executed(&self) -> bool {
        self.flags & 0x40 != 0
    }
}

/// Returns what the kernel says of a process; `None` if it is not there.
pub(super) fn stat(pid: Pid) -> Option<Stat> {
    let bytes = proc::read(&proc::path(pid, "stat")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // The name is in parentheses and may itself hold some.
    let (before, after) = text.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let mut fields = after.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    let terminal = fields.next()?.parse().ok()?;
    // The 9th, the 20th and the 22nd field; the terminal is the seventh.
    let flags = fields.nth(1)?.parse().ok()?;
    let threads = fields.nth(10)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    Some(Stat {
        name,
        state,
        parent,
        group,
        session,
        terminal,
        flags,
        threads,
        started,
    })
}

/// Returns the command line of a process, quoted for a shell; `None` if it has none.
pub(super) fn command_line(pid: Pid) -> Option<String> {
    let of_first = fs::read(proc::path(pid, "cmdline")).ok()?;
    let bytes = Some(of_first)
        .filter(|bytes| !bytes.is_empty())
        // A first thread that has ended has no memory to read it from, but the others have.
        .or_else(|| {
            let threads = fs::read_dir(proc::path(pid, "task")).ok()?.flatten();
            let mut lines = threads.flat_map(|thread| fs::read(thread.path().join("cmdline")));
            lines.find(|line| !line.is_empty())
        })?;
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    let args = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    Some(shell_words::join(args))
}
