//! Test processes that behave badly or unusually, as one program without dependencies that speaks
//! the protocol of test binaries. Whatever becomes of the runner, none lives for a minute.

mod sys;

use std::{
    env, fs,
    io::{Read, Write},
    process::{Command, ExitCode, Stdio},
    ptr, thread,
    time::{Duration, Instant},
};
use sys::*;

const TESTS: [(&str, fn()); 28] = [
    ("beats", beats),
    ("beats_too", beats),
    ("children_of_dead_parents_are_traced", orphans),
    ("closes_every_descriptor", closes_every_descriptor),
    ("every_stop_is_seen_by_the_parent", stops),
    ("fails", || panic!("as it should")),
    ("floods", floods),
    ("forks_from_eight_threads", forks_from_eight_threads),
    ("forks_without_end", forks_without_end),
    ("hangs", hang),
    ("has_three_descriptors", has_three_descriptors),
    ("ignores_signals", ignores_signals),
    ("inherits_what_the_run_has", inherits_what_the_run_has),
    ("is_missed_by_a_server", is_missed_by_a_server),
    ("kills_its_group", || send(0, SIGKILL)),
    ("kills_its_parent", || end_parent(SIGKILL)),
    ("leaves_a_child", || assert!(child(hang) > 0)),
    ("leaves_its_group", leaves_its_group),
    ("passes", || {}),
    ("payloads_of_real_time_signals_arrive", payloads),
    ("sees_default_signals", sees_default_signals),
    ("spawns_from_sixteen_threads", spawns_from_sixteen_threads),
    ("stops_all_stubs_and_the_runner", || stops_the_runner(true)),
    ("stops_its_runner", || stops_the_runner(false)),
    ("stops_its_parent", || end_parent(SIGSTOP)),
    ("stops_its_parent_and_passes", stops_its_parent_and_passes),
    ("subreaper_with_daemons", subreaper_with_daemons),
    ("vforks_and_is_killed", vforks_and_is_killed),
];

fn main() -> ExitCode {
    limit_life();
    let args: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if has("--list") {
        // With this, the first reader is killed before the answer.
        if let Some(once) = env::var_os("ZOO_KILLS_WHO_LISTS")
            && fs::File::create_new(once).is_ok()
        {
            // SAFETY: no memory is involved.
            send(unsafe { getppid() }, SIGKILL);
        }
        // With this, the answer is not given before there is such a file.
        if let Some(after) = env::var_os("ZOO_LISTS_AFTER").map(std::path::PathBuf::from) {
            fs::write(after.with_extension("begun"), "").expect("it is a folder for all");
            while !after.exists() {
                thread::sleep(Duration::from_millis(10));
            }
        }
        if !has("--ignored") {
            for (name, _) in TESTS {
                println!("{name}: test");
            }
            for number in 0..16 {
                println!("naps_{number}: test");
            }
        }
        return ExitCode::SUCCESS;
    }
    if has("--nap") {
        hang();
    }
    if args.iter().any(|arg| arg.starts_with("naps_")) {
        naps();
        return ExitCode::SUCCESS;
    }
    let test = TESTS.iter().find(|(name, _)| has(name));
    (test.expect("it is listed").1)();
    ExitCode::SUCCESS
}

/// Is there for a moment, and looks whether it is given the limits that it should.
fn naps() {
    if let Ok(wanted) = env::var("ZOO_OPEN_FILES") {
        let limits = fs::read_to_string("/proc/self/limits").expect("/proc is mounted");
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let soft = line.and_then(|line| line.split_whitespace().next());
        assert_eq!(soft, Some(wanted.as_str()));
    }
    thread::sleep(Duration::from_millis(300));
}

/// Looks whether a careful parent has left the rest as it was given.
fn inherits_what_the_run_has() {
    let wanted = env::var("ZOO_INHERITS").expect("it is set");
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:\t"));
    let stat = fs::read_to_string("/proc/self/stat").expect("/proc is mounted");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("it has a name").1.split(' ').collect();
    let limits = fs::read_to_string("/proc/self/limits").expect("/proc is mounted");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    let core: Vec<&str> = line.expect("there is one").split_whitespace().take(2).collect();
    // Fields 19 and 41 of proc_pid_stat(5); the first here is the third.
    let (nice, policy) = (fields[16], fields[38]);
    let has = format!("{} {nice} {policy} {}", umask.unwrap_or_default(), core.join(" "));
    assert_eq!(has, wanted, "umask, niceness, policy, soft and hard limit of core files");
}

fn has_three_descriptors() {
    let open = fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    let mut open: Vec<(u32, String)> = open
        .flatten()
        .map(|entry| {
            let number = entry.file_name().to_string_lossy().parse().expect("it is a number");
            let target = fs::read_link(entry.path());
            (number, target.map_or_else(|_| String::new(), |to| to.display().to_string()))
        })
        .filter(|(_, target)| !target.starts_with("/proc/"))
        .collect();
    open.sort_unstable();
    let numbers: Vec<u32> = open.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [0, 1, 2], "{open:?}");
}

/// Grows a file all the time, so that others can see whether this process is stopped.
fn beats() {
    let path = format!("{}-{}", env::var("ZOO_BEAT").expect("it is set"), std::process::id());
    let mut file = fs::File::create(path).expect("it can be created");
    loop {
        file.write_all(b".").expect("it can be written");
        thread::sleep(Duration::from_millis(2));
    }
}

fn ignores_signals() {
    for number in [1, 2, 3, 15] {
        // SAFETY: no handler is installed.
        unsafe { signal(number, SIG_IGN) };
    }
    println!("ignores all that can be ignored");
    hang();
}

fn end_parent(number: c_int) {
    // A child and a daemon, so that there is something to be left behind.
    child(hang);
    daemon();
    join_the_runner();
    // SAFETY: no memory is involved.
    send(unsafe { getppid() }, number);
    hang();
}

/// Passes as soon as they are stopped: no one but the stubs is left to notice.
fn stops_the_runner(stubs_too: bool) {
    // SAFETY: no memory is involved.
    let stub = unsafe { getppid() };
    let stat = fs::read_to_string(format!("/proc/{stub}/stat")).expect("/proc is mounted");
    let (_, fields) = stat.rsplit_once(") ").expect("it has a name");
    let runner: c_int = fields.split(' ').nth(1).expect("it is there").parse().expect("a number");
    send(runner, SIGSTOP);
    let is_stopped = || {
        let stat = fs::read_to_string(format!("/proc/{runner}/stat")).expect("it is there");
        stat.contains(") T ")
    };
    while !is_stopped() {
        thread::sleep(Duration::from_millis(1));
    }
    if stubs_too {
        let threads = fs::read_dir(format!("/proc/{runner}/task")).expect("it is there").flatten();
        let lists = threads.map(|thread| fs::read_to_string(thread.path().join("children")));
        let children: String = lists.map(|list| list.unwrap_or_default()).collect();
        for child in children.split_whitespace() {
            send(child.parse().expect("a number"), SIGSTOP);
        }
    }
}

fn stops_its_parent_and_passes() {
    // SAFETY: no memory is involved.
    send(unsafe { getppid() }, SIGSTOP);
}

fn daemon() {
    let first = child(|| {
        // SAFETY: no memory is involved.
        unsafe { setsid() };
        child(|| {
            // SAFETY: no memory is involved.
            unsafe { signal(15, SIG_IGN) };
            for fd in 0..3 {
                // SAFETY: this process uses none of them again.
                unsafe { close(fd) };
            }
            hang();
        });
    });
    assert_eq!(end_of(first), 0);
}

fn closes_every_descriptor() {
    for fd in 0..1024 {
        // SAFETY: this process uses none of them again.
        unsafe { close(fd) };
    }
}

fn leaves_its_group() {
    // A group of the same session to go to.
    let other = child(hang);
    // SAFETY: no memory is involved.
    unsafe { setpgid(other, other) };
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { setpgid(0, other) }, 0);
    hang();
}

/// A child, and a server as its grandchild, that have all that others may miss. The server prints on
/// and on, and has begun to when the test ends.
fn is_missed_by_a_server() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let lock = fs::File::create(concat!(env!("CARGO_MANIFEST_DIR"), "/target/zoo-lock"));
    let lock = lock.expect("it can be created");
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    child(|| {
        child(|| {
            // SAFETY: no memory is involved.
            unsafe { setsid() };
            (&writer).write_all(b".").expect("the test reads");
            loop {
                let _ = std::io::stdout().write_all(b"still here\n");
                thread::sleep(Duration::from_millis(5));
            }
        });
        hang();
    });
    reader.read_exact(&mut [0]).expect("the server writes");
    drop((listener, lock));
}

fn subreaper_with_daemons() {
    // SAFETY: no memory is involved.
    unsafe { prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    daemon();
    daemon();
}

/// Processes that come and go so fast that their tracer always has news.
fn forks_without_end() {
    for _ in 0..12 {
        child(|| {
            loop {
                // SAFETY: the child only exits; the pointer may be null.
                unsafe {
                    match fork() {
                        0 => _exit(0),
                        pid => waitpid(pid, ptr::null_mut(), 0),
                    };
                }
            }
        });
    }
    hang();
}

fn floods() {
    let line = [b'x'; 4096];
    for _ in 0..4096 {
        std::io::stdout().write_all(&line).expect("it has a reader");
        std::io::stderr().write_all(&line).expect("it has a reader");
    }
}

fn forks_from_eight_threads() {
    let threads = (0..8).map(|_| {
        thread::spawn(|| {
            for _ in 0..125 {
                assert_eq!(end_of(child(|| {})), 0);
            }
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().expect("no thread panics");
    }
}

fn spawns_from_sixteen_threads() {
    let threads = (0..16).map(|number: u32| {
        thread::spawn(move || {
            for round in 0..10 {
                let text = format!("{number} {round}");
                let output = Command::new("echo").arg(&text).output().expect("it starts");
                assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), text);
            }
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().expect("no thread panics");
    }
}

/// Parents that are gone before their children have run.
fn orphans() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    for _ in 0..100 {
        let parent = child(|| { child(|| {}); });
        assert_eq!(end_of(parent), 0);
    }
    drop(writer);
    let rest = std::io::read_to_string(reader).expect("all have closed it");
    assert_eq!(rest, "");
}

fn stops() {
    for number in [SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU] {
        let pid = child(|| {
            // SAFETY: no memory is involved.
            unsafe { setpgid(0, 0) };
            hang();
        });
        for _ in 0..20 {
            send(pid, number);
            assert_eq!(status_of(pid), number << 8 | 0x7f, "stopped by {number}");
            send(pid, SIGCONT);
            assert_eq!(status_of(pid), 0xffff, "continued");
        }
        // A thread of it that is stopped, too, and one that is killed while it is.
        send(pid, number);
        assert_eq!(status_of(pid), number << 8 | 0x7f);
        send(pid, SIGKILL);
        assert_eq!(status_of(pid), SIGKILL);
    }
}

fn payloads() {
    let number = 40;
    let mut set: [c_ulong; 16] = [0; 16];
    set[0] = 1 << (number - 1);
    block_signals(set[0]);
    let own = std::process::id().cast_signed();
    for value in 1..=100usize {
        // SAFETY: the value is a number that is not used as a pointer.
        assert_eq!(unsafe { sigqueue(own, number, ptr::without_provenance_mut(value)) }, 0);
    }
    for value in 1..=100u64 {
        let mut info = [0u64; 16];
        let limit = [5i64, 0];
        // SAFETY: the buffer has the size of siginfo_t (128 bytes), the others are live.
        let got = unsafe { sigtimedwait(set.as_ptr(), info.as_mut_ptr().cast(), &raw const limit) };
        assert_eq!((got, info[3]), (number, value), "in order, with its payload");
    }
    // And delivered through a stop, to a handler's place: a signal that is not blocked.
    let pid = child(hang);
    block_signals(0);
    let other = child(hang);
    send(other, 63);
    assert_eq!(status_of(other), 63);
    send(pid, SIGKILL);
    assert_eq!(status_of(pid), SIGKILL);
}

fn sees_default_signals() {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.expect("it is there").trim(), 16).expect("it is a mask")
    };
    // Those between 31 and 34 belong to the C library.
    let ours = !(3 << 31);
    assert_eq!(mask("SigBlk:") & ours, 0, "no signal is blocked");
    // The Rust runtime of this program ignores SIGPIPE itself.
    assert_eq!(mask("SigIgn:") & ours & !(1 << 12), 0, "no signal is ignored");
    // SAFETY: no code is run by the default action.
    assert_ne!(unsafe { signal(17, SIG_DFL) }, SIG_IGN);
}

/// A parent that sleeps in vfork(2) until its child has gone on, and is killed with it.
fn vforks_and_is_killed() {
    let own = env::current_exe().expect("it has a path");
    let mut parent = Command::new("sh")
        .args(["-c", "\"$0\" --nap & wait"])
        .arg(own)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("there is a shell");
    parent.kill().expect("it is a child");
    let started = Instant::now();
    parent.wait().expect("it is a child");
    assert!(started.elapsed() < Duration::from_secs(30));
}
