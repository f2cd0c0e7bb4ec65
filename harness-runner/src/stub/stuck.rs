//! Finds out what the tasks of a test are waiting for, by /proc alone: which system call each sits
//! in, on which descriptor or child.
//!
//! Nothing is stopped for it, so a task may have moved on between two looks; what does not fit
//! together then is left out.

use super::{status, sys::Pid};
use crate::proc;
use harness_metadata::outcome::{Doing, StuckTask, WaitsOn};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Read,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};
use syscalls::Sysno;

/// The most tasks that are looked at.
const MOST_TASKS: usize = 64;

/// The time limit. The test is about to be ended and waits for nothing else.
const LIMIT: Duration = Duration::from_millis(200);

/// The most descriptors that are named of one call.
const MOST_DESCRIPTORS: usize = 4;

/// The most bytes of a table of sockets that are read.
const MOST_BYTES: u64 = 1 << 20;

/// Calls whose first argument is the descriptor that they wait on.
const ON_DESCRIPTOR: &[&str] = &[
    "accept",
    "accept4",
    "connect",
    "copy_file_range",
    "fcntl",
    "fdatasync",
    "flock",
    "fsync",
    "ioctl",
    "pread64",
    "preadv",
    "preadv2",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "read",
    "readv",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "splice",
    "tee",
    "vmsplice",
    "write",
    "writev",
];

/// Describes the tasks of these processes, in order of the processes, the first thread of each
/// first.
pub(super) fn describe(pids: &BTreeSet<Pid>) -> Vec<StuckTask> {
    let deadline = Instant::now() + LIMIT;
    let mut look = Look {
        pids,
        deadline,
        open: None,
    };
    let mut tasks = Vec::new();
    for &pid in pids {
        let Ok(threads) = fs::read_dir(proc::path(pid, "task")) else {
            continue;
        };
        let mut tids: Vec<Pid> = threads
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        tids.sort_unstable_by_key(|&tid| (tid != pid, tid));
        for tid in tids {
            if tasks.len() == MOST_TASKS || Instant::now() > deadline {
                return tasks;
            }
            tasks.extend(look.task(pid, tid));
        }
    }
    tasks
}

struct Look<'a> {
    pids: &'a BTreeSet<Pid>,
    deadline: Instant,
    /// The processes that have a pipe or socket open; built on first use.
    open: Option<BTreeMap<String, BTreeSet<Pid>>>,
}

impl Look<'_> {
    fn task(&mut self, pid: Pid, tid: Pid) -> Option<StuckTask> {
        let stat = status::stat(tid)?;
        let command = status::command_line(pid).unwrap_or_else(|| format!("[{}]", stat.name));
        let doing = match stat.state {
            'R' => Doing::Running,
            'T' | 't' => Doing::Stopped,
            'Z' | 'X' => return None,
            _ => self.doing(pid, tid),
        };
        Some(StuckTask {
            pid,
            tid,
            parent: stat.parent,
            command,
            thread: stat.name,
            doing,
        })
    }

    fn doing(&mut self, pid: Pid, tid: Pid) -> Doing {
        let text = fs::read_to_string(proc::path(tid, "syscall")).unwrap_or_default();
        match Call::parse(&text) {
            Some(Call { number, args }) => {
                let name = usize::try_from(number)
                    .ok()
                    .and_then(Sysno::new)
                    .map_or_else(
                        || format!("system call {number}"),
                        |call| call.name().into(),
                    );
                let on = self.waits_on(pid, tid, &name, &args);
                Doing::Waits { call: name, on }
            }
            None if text.starts_with("running") => Doing::Running,
            None => {
                let wchan = fs::read_to_string(proc::path(tid, "wchan"));
                let wchan = wchan.ok().filter(|name| !name.is_empty() && name != "0");
                Doing::Unknown { wchan }
            }
        }
    }

    fn waits_on(&mut self, pid: Pid, tid: Pid, call: &str, args: &[u64; 6]) -> Vec<WaitsOn> {
        let int = |at: usize| args[at] as u32 as i32;
        match call {
            "wait4" | "waitpid" => vec![WaitsOn::Child {
                pid: Some(int(0)).filter(|&pid| pid > 0),
            }],
            "waitid" => vec![WaitsOn::Child {
                pid: match args[0] as u32 {
                    libc::P_PID => Some(int(1)),
                    libc::P_PIDFD => pid_of_pidfd(tid, int(1)),
                    _ => None,
                },
            }],
            "futex" | "futex_wait" | "futex_waitv" => vec![WaitsOn::Thread],
            "nanosleep" | "clock_nanosleep" => vec![WaitsOn::Time],
            "poll" | "ppoll" => polled(tid, args[0], args[1])
                .into_iter()
                .filter_map(|fd| self.descriptor(pid, tid, fd))
                .collect(),
            "epoll_wait" | "epoll_pwait" | "epoll_pwait2" => watched(tid, int(0))
                .into_iter()
                .filter_map(|fd| self.descriptor(pid, tid, fd))
                .collect(),
            call if ON_DESCRIPTOR.contains(&call) => {
                self.descriptor(pid, tid, int(0)).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn descriptor(&mut self, pid: Pid, tid: Pid, fd: i32) -> Option<WaitsOn> {
        let link = proc::link(tid, format_args!("fd/{fd}"))?;
        let link = String::from_utf8_lossy(&link).into_owned();
        let shared = link.starts_with("pipe:[") || link.starts_with("socket:[");
        let others = match shared {
            true => self.others(pid, &link),
            false => Vec::new(),
        };
        let what = inode_of(&link, "socket:[")
            .and_then(|inode| socket(tid, inode))
            .unwrap_or(link);
        Some(WaitsOn::Descriptor { fd, what, others })
    }

    /// Returns the other processes of the test that have this pipe or socket open.
    fn others(&mut self, pid: Pid, link: &str) -> Vec<Pid> {
        let (pids, deadline) = (self.pids, self.deadline);
        let open = self.open.get_or_insert_with(|| {
            let mut open: BTreeMap<String, BTreeSet<Pid>> = BTreeMap::new();
            for &pid in pids {
                let Ok(fds) = fs::read_dir(proc::path(pid, "fd")) else {
                    continue;
                };
                for fd in fds.flatten() {
                    if Instant::now() > deadline {
                        return open;
                    }
                    let Ok(link) = fs::read_link(fd.path()) else {
                        continue;
                    };
                    if let Some(link) = link.to_str().filter(|link| link.contains(":[")) {
                        open.entry(link.to_owned()).or_default().insert(pid);
                    }
                }
            }
            open
        });
        let holders = open.get(link).into_iter().flatten();
        holders
            .copied()
            .filter(|&other| other != pid)
            .take(MOST_DESCRIPTORS)
            .collect()
    }
}

/// The contents of /proc/TID/syscall (proc_pid_syscall(5)).
struct Call {
    number: u64,
    args: [u64; 6],
}

impl Call {
    /// Returns `None` if the task runs, or is blocked outside of a system call.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let number = words.next()?.parse().ok()?;
        let mut args = [0; 6];
        for arg in &mut args {
            *arg = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
        }
        Some(Self { number, args })
    }
}

/// Reads the descriptors of a poll(2).
fn polled(tid: Pid, address: u64, count: u64) -> Vec<i32> {
    let count = usize::try_from(count).map_or(MOST_DESCRIPTORS, |n| n.min(MOST_DESCRIPTORS));
    let mut entries = [0; 8 * MOST_DESCRIPTORS];
    let entries = &mut entries[..8 * count];
    let read = File::open(proc::path(tid, "mem"))
        .and_then(|memory| memory.read_exact_at(entries, address));
    if read.is_err() {
        return Vec::new();
    }
    entries
        .chunks_exact(8)
        .filter_map(|entry| Some(i32::from_ne_bytes(entry.get(..4)?.try_into().ok()?)))
        .filter(|&fd| fd >= 0)
        .collect()
}

/// Returns the descriptors that an epoll instance watches.
fn watched(tid: Pid, fd: i32) -> Vec<i32> {
    info_of(tid, fd)
        .lines()
        .filter_map(|line| {
            line.strip_prefix("tfd:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .take(MOST_DESCRIPTORS)
        .collect()
}

fn pid_of_pidfd(tid: Pid, fd: i32) -> Option<Pid> {
    let info = info_of(tid, fd);
    info.lines()
        .find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
}

fn info_of(tid: Pid, fd: i32) -> String {
    capped(&proc::path(tid, format_args!("fdinfo/{fd}")))
}

fn capped(path: &str) -> String {
    let mut text = String::new();
    if let Ok(file) = File::open(path) {
        // What is not UTF-8 ends it, which only names of unix sockets can do.
        let _ = file.take(MOST_BYTES).read_to_string(&mut text);
    }
    text
}

pub(super) fn inode_of(link: &str, prefix: &str) -> Option<u64> {
    link.strip_prefix(prefix)?.strip_suffix(']')?.parse().ok()
}

/// Says what a socket is connected to or listens on.
pub(super) fn socket(tid: Pid, inode: u64) -> Option<String> {
    for protocol in ["tcp", "tcp6", "udp", "udp6"] {
        let table = capped(&proc::path(tid, format_args!("net/{protocol}")));
        if let Some(found) = table
            .lines()
            .find_map(|line| internet(protocol, line, inode))
        {
            return Some(found);
        }
    }
    let table = capped(&proc::path(tid, "net/unix"));
    table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        if fields.get(6)?.parse() != Ok(inode) {
            return None;
        }
        let name = fields.get(7).copied().unwrap_or("without a name");
        Some(format!("unix socket {name}"))
    })
}

/// Reads a line of /proc/net/tcp and the like, if it is about this inode.
fn internet(protocol: &str, line: &str, inode: u64) -> Option<String> {
    const LISTENS: &str = "0A";
    let fields: Vec<_> = line.split_whitespace().collect();
    if fields.get(9)?.parse() != Ok(inode) {
        return None;
    }
    let own = address(fields[1])?;
    let peer = address(fields[2])?;
    let protocol = protocol.trim_end_matches('6');
    Some(match fields[3] {
        LISTENS => format!("{protocol} socket listening on {own}"),
        _ if peer.ends_with(":0") => format!("{protocol} socket {own}"),
        _ => format!("{protocol} socket {own} to {peer}"),
    })
}

/// Reads an address as /proc/net has it: words in the machine's order, in hexadecimal digits.
fn address(text: &str) -> Option<String> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for at in (0..ip.len()).step_by(8) {
        let word = u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = match <[u8; 16]>::try_from(&bytes[..]) {
        Ok(bytes) => IpAddr::from(Ipv6Addr::from(bytes)).to_canonical(),
        Err(_) => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[..]).ok()?)),
    };
    Some(match ip {
        IpAddr::V4(ip) => format!("{ip}:{port}"),
        IpAddr::V6(ip) => format!("[{ip}]:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        os::fd::AsRawFd,
        process::{Child, Command, Stdio},
    };

    /// Waits until the process sleeps in the call, and returns what it waits on.
    fn waits(child: &mut Child, wanted: &[&str]) -> (StuckTask, Vec<WaitsOn>) {
        let pid = child.id().cast_signed();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let tasks = describe(&BTreeSet::from([pid, std::process::id().cast_signed()]));
            let task = tasks.into_iter().find(|task| task.tid == pid);
            if let Some(task) = task
                && let Doing::Waits { call, on } = &task.doing
                && wanted.contains(&call.as_str())
            {
                let on = on.clone();
                return (task, on);
            }
            assert!(Instant::now() < deadline, "it never sat in {wanted:?}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_process_that_reads_from_a_pipe_is_seen_to_and_who_has_its_other_end() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let (task, on) = waits(&mut child, &["read"]);
        let Some(WaitsOn::Descriptor {
            fd: 0,
            what,
            others,
        }) = on.first()
        else {
            panic!("{on:?}");
        };
        assert!(what.starts_with("pipe:["), "{what}");
        assert_eq!(others, &[std::process::id().cast_signed()]);
        assert_eq!(
            (task.command.as_str(), task.thread.as_str()),
            ("cat", "cat")
        );
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_waits_for_its_child_or_for_time_is_seen_to() {
        let mut shell = Command::new("sh")
            .args(["-c", "read gate; exit 0 & wait; sleep 1000 & echo $!; wait"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(shell.stdin.as_mut().unwrap()).unwrap();
        let mut sleeper = Vec::new();
        let mut byte = [0];
        let out = shell.stdout.as_mut().unwrap();
        while out.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            sleeper.extend(byte);
        }
        let sleeper: Pid = String::from_utf8(sleeper).unwrap().parse().unwrap();
        let waiting = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let (_, on) = waits(&mut shell, &["wait4", "waitid", "rt_sigsuspend"]);
            let deadline = Instant::now() + Duration::from_secs(60);
            loop {
                let tasks = describe(&BTreeSet::from([sleeper]));
                if tasks.iter().any(|task| {
                    matches!(&task.doing, Doing::Waits { call, on }
                        if call == "clock_nanosleep" && on == &[WaitsOn::Time])
                }) {
                    return on;
                }
                assert!(Instant::now() < deadline, "{tasks:?}");
            }
        }));
        let _ = super::super::sys::kill(sleeper, libc::SIGKILL);
        shell.wait().unwrap();
        // Shells differ in how they wait; those that use wait4 name no child.
        let on = waiting.unwrap();
        assert!(
            on.is_empty() || on == [WaitsOn::Child { pid: None }],
            "{on:?}"
        );
    }

    #[test]
    fn a_listening_socket_is_named_by_its_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = std::process::id().cast_signed();
        let link = fs::read_link(format!("/proc/{own}/fd/{}", listener.as_raw_fd())).unwrap();
        let inode = inode_of(link.to_str().unwrap(), "socket:[").unwrap();
        assert_eq!(
            socket(own, inode),
            Some(format!(
                "tcp socket listening on {}",
                listener.local_addr().unwrap()
            ))
        );
    }

    #[test]
    fn what_proc_says_of_a_call_is_read_or_left_out() {
        let call = Call::parse("61 0xffffffff 0x7ffc 0x0 0x0 0x0 0x0 0x7ffc 0x7f50\n").unwrap();
        assert_eq!((call.number, call.args[0]), (61, 0xffff_ffff));
        assert!(Call::parse("running\n").is_none());
        assert!(Call::parse("-1 0x7ffc 0x7f50\n").is_none());
        assert!(Call::parse("").is_none());
        assert_eq!(
            address("00000000000000000000000001000000:0050").as_deref(),
            Some("[::1]:80")
        );
    }
}
