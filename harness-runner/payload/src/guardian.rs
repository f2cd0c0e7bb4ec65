//! The process between a test and its program. It is the program's parent and the subreaper of all that
//! descends from it, so the test process does not become one, which its other children would notice.
//!
//! It takes orders through a pipe and reports through another. When the program ends, when it gets the
//! order, or when the test process is gone, it kills the whole tree, reaps it and ends. It is a fork of a
//! process with threads: system calls only, no memory but its stack.

use crate::sys::{self, Forked, Pid, Reaped, Strings};
use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

/// The order to send SIGTERM to the program's process group.
pub(crate) const TERMINATE: u8 = b'T';
/// The order to kill the tree.
pub(crate) const KILL: u8 = b'K';

/// The process group of a program.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// The program leads one.
    Own,
    /// It is in that of the test process, and so in the foreground of its terminal.
    Inherited,
}

/// A cgroup to start a program in.
pub(crate) struct Place {
    pub(crate) folder: OwnedFd,
    /// `cgroup.procs`, to write to.
    pub(crate) procs: OwnedFd,
    /// `cgroup.kill`, since Linux 5.14.
    pub(crate) kill: Option<OwnedFd>,
    /// The folder to remove in the end, if it was made for this.
    pub(crate) remove: Option<CString>,
}

/// Everything that the guardian needs, made before it is forked.
pub(crate) struct Setup {
    pub(crate) orders: OwnedFd,
    pub(crate) report: OwnedFd,
    pub(crate) group: Group,
    pub(crate) place: Option<Place>,
    /// Resources and their limits.
    pub(crate) limits: Vec<(u32, u64)>,
    /// The test process.
    pub(crate) test: Pid,
    pub(crate) program: CString,
    pub(crate) args: Strings,
    pub(crate) environment: Strings,
    pub(crate) folder: Option<CString>,
}

/// The step at which a program failed to start.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Guardian,
    Cgroup,
    Folder,
    Limits,
    Exec,
}

impl Stage {
    fn from_raw(raw: u64) -> Self {
        use Stage::{Cgroup, Exec, Folder, Guardian, Limits};
        let all = [Guardian, Cgroup, Folder, Limits, Exec];
        let found = all.into_iter().find(|stage| *stage as u64 == raw);
        found.unwrap_or(Guardian)
    }
}

/// A message of the guardian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Started(Pid),
    /// The program could not be started.
    Failed {
        stage: Stage,
        errno: i32,
    },
    /// The program ended.
    Ended {
        status: i32,
        user_us: u64,
        system_us: u64,
        peak_kib: u64,
    },
    /// A process that was alive when the program had ended, with its command line.
    Survivor {
        pid: Pid,
        command: String,
    },
    /// The whole tree is gone, but for this many processes.
    Gone {
        left: u64,
    },
}

/// The length of a record: far below that up to which a write to a pipe is atomic.
pub(crate) const RECORD: usize = 256;
/// The numbers of a record stand before its text.
const NUMBERS: usize = 5;
const TEXT: usize = 8 + 8 * NUMBERS;

type Raw = [u8; RECORD];

fn raw(kind: u8, numbers: [u64; NUMBERS]) -> Raw {
    let mut raw = [0; RECORD];
    raw[0] = kind;
    for (at, number) in numbers.into_iter().enumerate() {
        raw[8 + 8 * at..][..8].copy_from_slice(&number.to_ne_bytes());
    }
    raw
}

impl Record {
    /// Reads a record; `None` if it is none.
    pub(crate) fn from_raw(raw: &Raw) -> Option<Self> {
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&raw[8 + 8 * at..][..8]);
            u64::from_ne_bytes(bytes)
        };
        Some(match raw[0] {
            b'S' => Self::Started(number(0) as Pid),
            b'F' => Self::Failed {
                stage: Stage::from_raw(number(0)),
                errno: number(1) as i32,
            },
            b'E' => Self::Ended {
                status: number(0) as i32,
                user_us: number(1),
                system_us: number(2),
                peak_kib: number(3),
            },
            b'V' => Self::Survivor {
                pid: number(0) as Pid,
                command: command_line(&raw[TEXT..][..(number(1) as usize).min(RECORD - TEXT)]),
            },
            b'G' => Self::Gone { left: number(0) },
            _ => return None,
        })
    }
}

/// Joins the arguments of a process, which are ended by NUL.
fn command_line(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    text.trim_end_matches(['\0', '\n']).replace('\0', " ")
}

/// Becomes the guardian, and forks the process that executes the program. It returns in neither, so that
/// the standard library, which would wait for the wrong one, has no failure to handle.
pub(crate) fn stand_between(setup: &Setup) -> ! {
    sys::restore_child_signal();
    if let Err(error) = sys::become_subreaper() {
        give_up(setup, Stage::Guardian, &error);
    }
    sys::block_signals(true);
    let guardian = sys::own_pid();
    let cgroup = setup.place.as_ref().map(|place| place.folder.as_raw_fd());
    match sys::fork_into(cgroup) {
        Ok((Forked::Parent(leader), _)) => guard(setup, leader),
        Ok((Forked::Child, has_to_enter)) => become_program(setup, guardian, has_to_enter),
        Err(error) => give_up(setup, Stage::Guardian, &error),
    }
}

/// Reports a failure to start, and ends.
fn give_up(setup: &Setup, stage: Stage, error: &io::Error) -> ! {
    let errno = error.raw_os_error().unwrap_or_default();
    let report = raw(b'F', [stage as u64, errno as u64, 0, 0, 0]);
    sys::write(setup.report.as_raw_fd(), &report);
    sys::exit(127)
}

fn become_program(setup: &Setup, guardian: Pid, has_to_enter: bool) -> ! {
    if setup.group == Group::Own {
        sys::lead_group(0);
    }
    // A belt: whatever kills the guardian does not leave the program behind.
    if !sys::die_with(guardian) {
        sys::exit(127);
    }
    if let Some(place) = setup.place.as_ref().filter(|_| has_to_enter)
        && !sys::write(place.procs.as_raw_fd(), b"0")
    {
        give_up(setup, Stage::Cgroup, &io::Error::last_os_error());
    }
    if let Some(folder) = &setup.folder
        && let Err(error) = sys::enter(folder)
    {
        give_up(setup, Stage::Folder, &error);
    }
    for (resource, value) in &setup.limits {
        if let Err(error) = sys::limit(*resource, *value) {
            give_up(setup, Stage::Limits, &error);
        }
    }
    sys::block_signals(false);
    let error = sys::execute(&setup.program, &setup.args, &setup.environment);
    give_up(setup, Stage::Exec, &error)
}

/// The test process.
#[derive(Copy, Clone)]
struct Test {
    pid: Pid,
    /// A descriptor that can be read when it has ended; `None` if the kernel has none.
    end: Option<RawFd>,
}

/// No limit, for poll(2).
const FOREVER: i32 = -1;

/// The state of the tree.
struct Tree {
    leader: Pid,
    group: Group,
    report: RawFd,
    ended: bool,
    /// The number of survivors that were described.
    described: u32,
}

/// The interval of looks at whether the test process is alive, where the kernel has no descriptor of a process: its
/// end closes the pipe, unless it was forked without an exec.
const LOOK_MS: i32 = 500;

fn guard(setup: &Setup, leader: Pid) -> ! {
    if setup.group == Group::Own {
        sys::lead_group(leader);
    }
    // What signals the test's process group does not meet the guardian.
    sys::lead_group(0);
    sys::set_name(c"payload-guard");
    // No file system is kept busy by it.
    let _ = sys::enter(c"/");
    let orders = setup.orders.as_raw_fd();
    let kill = setup.place.as_ref().and_then(|place| place.kill.as_ref());
    let kill = kill.map(AsRawFd::as_raw_fd);
    let mut kept = [orders, setup.report.as_raw_fd(), kill.unwrap_or(orders)];
    kept.sort_unstable();
    sys::close_all_but(&kept);
    let mut tree = Tree {
        leader,
        group: setup.group,
        report: setup.report.as_raw_fd(),
        ended: false,
        described: 0,
    };
    tree.say(&raw(b'S', [leader as u64, 0, 0, 0, 0]));
    let signals = sys::child_signals();
    let test = Test {
        pid: setup.test,
        end: sys::process_end(setup.test),
    };
    tree.wait(orders, signals, test);
    if let Some(kill) = kill {
        sys::write(kill, b"1");
    }
    let left = tree.kill_all(signals);
    if let Some(folder) = setup.place.as_ref().and_then(|place| place.remove.as_ref()) {
        sys::remove_folder(folder);
    }
    tree.say(&raw(b'G', [left, 0, 0, 0, 0]));
    sys::exit(0)
}

/// The most survivors that are described.
const MOST_DESCRIBED: u32 = 16;
/// The time limit for killing the tree, which only a process that the kernel holds in a call exceeds.
const KILLING_MS: u64 = 30_000;

impl Tree {
    fn say(&self, raw: &Raw) {
        // If the test process is gone there is no reader, and nothing to do about it.
        sys::write(self.report, raw);
    }

    /// Waits for the end of the program, the order to kill, or the end of the test process. Obeys the
    /// other orders.
    fn wait(&mut self, orders: RawFd, signals: RawFd, test: Test) {
        let limit = test.end.map_or(LOOK_MS, |_| FOREVER);
        let mut buffer = [0; 128];
        loop {
            // The leader stays a zombie until its group is killed, so the group's id is its own.
            while let Ok(Some(pid)) = sys::ended_child() {
                if pid == self.leader {
                    return;
                }
                sys::reap(pid);
            }
            // An id that was taken by another process before its descriptor was opened is no parent of ours.
            if sys::parent_pid() != test.pid {
                return;
            }
            let watched = [orders, signals, test.end.unwrap_or(-1)];
            let has_order = sys::wait_for_any(watched, limit);
            while sys::read(signals, &mut buffer).is_some() {}
            if sys::parent_pid() != test.pid {
                return;
            }
            if has_order {
                let mut order = [0];
                match sys::read(orders, &mut order) {
                    Some(_) if order == [TERMINATE] => self.terminate(),
                    _ => return,
                }
            }
        }
    }

    /// Sends SIGTERM, and SIGCONT so that a stopped program gets it.
    fn terminate(&self) {
        let to = self.group_or_leader();
        sys::kill(to, libc::SIGTERM);
        sys::kill(to, libc::SIGCONT);
    }

    fn group_or_leader(&self) -> Pid {
        match self.group {
            Group::Own => -self.leader,
            Group::Inherited => self.leader,
        }
    }

    /// Kills and reaps all descendants. Returns the number of those that do not end.
    ///
    /// Only children are killed: when one is dead, its children are ours. So no id is a stranger's.
    fn kill_all(&mut self, signals: RawFd) -> u64 {
        if sys::has_ended(self.leader) {
            self.describe_children();
        }
        sys::kill(self.group_or_leader(), libc::SIGKILL);
        let begun = sys::now_ms();
        let mut buffer = [0; 128];
        loop {
            let found = self.kill_children();
            let reaped = loop {
                match sys::ended_child() {
                    Ok(Some(pid)) => self.reap(pid),
                    Ok(None) => break false,
                    // There are no children, and so no descendants.
                    Err(_) => break true,
                }
            };
            if reaped {
                return 0;
            }
            if sys::now_ms() - begun > KILLING_MS {
                return found.max(1);
            }
            sys::wait_for_any([signals, -1, -1], 20);
            while sys::read(signals, &mut buffer).is_some() {}
        }
    }

    fn reap(&mut self, pid: Pid) {
        let Some(reaped) = sys::reap(pid) else { return };
        if pid == self.leader && !self.ended {
            self.ended = true;
            let Reaped {
                status,
                user_us,
                system_us,
                peak_kib,
            } = reaped;
            self.say(&raw(
                b'E',
                [status as u32 as u64, user_us, system_us, peak_kib, 0],
            ));
        }
    }

    fn kill_children(&mut self) -> u64 {
        let mut found = 0;
        each_child(|pid| {
            sys::kill(pid, libc::SIGKILL);
            found += 1;
        });
        found
    }

    /// Reports the children that outlived the program, before they are killed. Their own children are
    /// not among them: each tree that was left behind is named by its root.
    fn describe_children(&mut self) {
        let leader = self.leader;
        let mut count = self.described;
        let report = self.report;
        each_child(|pid| {
            if pid != leader && count < MOST_DESCRIBED && !sys::has_ended(pid) {
                count += 1;
                let mut record = raw(b'V', [pid as u64, 0, 0, 0, 0]);
                let mut path = [0; 40];
                // The first one is empty while a process executes another program.
                let files: [&[u8]; 2] = [b"/cmdline\0", b"/comm\0"];
                let lengths = files.into_iter().map(|file| {
                    read_file(
                        numbered(&mut path, b"/proc/", pid, file),
                        &mut record[TEXT..],
                    )
                });
                let length = lengths.into_iter().find(|length| *length > 0).unwrap_or(0);
                record[16..24].copy_from_slice(&(length as u64).to_ne_bytes());
                sys::write(report, &record);
            }
        });
        self.described = count;
    }
}

/// Writes a path with a number in it, ended by NUL, without allocating.
fn numbered<'a>(
    into: &'a mut [u8; 40],
    before: &[u8],
    number: Pid,
    after: &[u8],
) -> &'a std::ffi::CStr {
    let mut digits = [0; 10];
    let (mut rest, mut count) = (number.unsigned_abs(), 0);
    loop {
        digits[count] = b'0' + (rest % 10) as u8;
        count += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    digits[..count].reverse();
    let mut at = 0;
    for part in [before, &digits[..count], after] {
        into[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    std::ffi::CStr::from_bytes_until_nul(into).unwrap_or(c"")
}

fn read_file(path: &std::ffi::CStr, into: &mut [u8]) -> usize {
    let Some(fd) = sys::open(path) else { return 0 };
    let mut length = 0;
    while let Some(count) = sys::read(fd, &mut into[length..]) {
        length += count;
    }
    sys::close(fd);
    length
}

/// Calls a function for each child of this process.
fn each_child(mut visit: impl FnMut(Pid)) {
    // CONFIG_PROC_CHILDREN. The process has one thread.
    let Some(fd) = sys::open(c"/proc/thread-self/children") else {
        return each_possible_child(visit);
    };
    let mut buffer = [0; 4096];
    let (mut pid, mut any) = (0, false);
    while let Some(count) = sys::read(fd, &mut buffer) {
        for byte in &buffer[..count] {
            if byte.is_ascii_digit() {
                pid = pid * 10 + Pid::from(byte - b'0');
                any = true;
            } else if any {
                visit(pid);
                (pid, any) = (0, false);
            }
        }
    }
    sys::close(fd);
    if any {
        visit(pid);
    }
}

/// The largest process id of any kernel: PID_MAX_LIMIT.
const MOST_PROCESSES: Pid = 4 * 1024 * 1024;

/// As `each_child` where /proc does not know them: the kernel says of each id whether it is a child.
fn each_possible_child(visit: impl FnMut(Pid)) {
    (1..MOST_PROCESSES)
        .filter(|pid| sys::is_child(*pid))
        .for_each(visit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let mut survivor = raw(b'V', [7, 9, 0, 0, 0]);
        survivor[TEXT..TEXT + 9].copy_from_slice(b"sleep\x0060\0");
        let expected = Record::Survivor {
            pid: 7,
            command: "sleep 60".to_owned(),
        };
        assert_eq!(Record::from_raw(&survivor), Some(expected));
        let ended = raw(b'E', [u64::from(-1i32 as u32), 1, 2, 3, 0]);
        let expected = Record::Ended {
            status: -1,
            user_us: 1,
            system_us: 2,
            peak_kib: 3,
        };
        assert_eq!(Record::from_raw(&ended), Some(expected));
        assert_eq!(Record::from_raw(&raw(b'?', [0; NUMBERS])), None);
    }

    #[test]
    fn a_path_of_a_process_is_written_without_memory() {
        let mut buffer = [0; 40];
        let path = numbered(&mut buffer, b"/proc/", Pid::MAX, b"/cmdline\0");
        assert_eq!(path.to_str(), Ok("/proc/2147483647/cmdline"));
        assert_eq!(
            numbered(&mut buffer, b"/proc/", 0, b"\0").to_str(),
            Ok("/proc/0")
        );
    }

    #[test]
    fn the_end_of_a_process_wakes_without_a_limit() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("it starts");
        let Some(end) = sys::process_end(child.id() as Pid) else {
            eprintln!("skipped: the kernel has no descriptors of processes");
            child.kill().expect("it runs");
            child.wait().expect("it is ours");
            return;
        };
        // Nothing has ended yet.
        assert!(!sys::wait_for_any([end, -1, -1], 0));
        drop(child.stdin.take());
        assert!(sys::wait_for_any([end, -1, -1], FOREVER));
        child.wait().expect("it is ours");
        sys::close(end);
        assert_eq!(sys::process_end(child.id() as Pid), None);
    }

    #[test]
    fn children_are_found_with_and_without_proc() {
        // The list is of the thread that started them, so that no other test's are in it.
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("it starts");
        let mut told = Vec::new();
        each_child(|pid| told.push(pid));
        let asked = sys::is_child(child.id() as Pid);
        child.kill().expect("it runs");
        child.wait().expect("it is ours");
        assert_eq!(told, [child.id() as Pid]);
        assert!(asked && !sys::is_child(child.id() as Pid));
    }
}
