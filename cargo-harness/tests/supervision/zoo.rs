//! Test processes that behave badly or unusually, as one program without dependencies that speaks
//! the protocol of test binaries. Whatever becomes of the runner, none lives for a minute.

use std::{
    env,
    ffi::{c_int, c_uint, c_ulong, c_void},
    fs,
    io::Write,
    process::{Command, ExitCode, Stdio},
    ptr, thread,
    time::{Duration, Instant},
};

const SIGKILL: c_int = 9;
const SIGSTOP: c_int = 19;
const SIGCONT: c_int = 18;
const SIGTSTP: c_int = 20;
const SIGTTIN: c_int = 21;
const SIGTTOU: c_int = 22;
const SIG_SETMASK: c_int = 2;
const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;
const WUNTRACED: c_int = 2;
const WCONTINUED: c_int = 8;
const PR_SET_CHILD_SUBREAPER: c_int = 36;

unsafe extern "C" {
    fn _exit(status: c_int) -> !;
    fn alarm(seconds: c_uint) -> c_uint;
    fn close(fd: c_int) -> c_int;
    fn fork() -> c_int;
    fn getppid() -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn pause() -> c_int;
    fn prctl(option: c_int, ...) -> c_int;
    fn setpgid(pid: c_int, group: c_int) -> c_int;
    fn setsid() -> c_int;
    fn signal(signal: c_int, handler: usize) -> usize;
    fn sigprocmask(how: c_int, set: *const c_ulong, old: *mut c_ulong) -> c_int;
    fn sigqueue(pid: c_int, signal: c_int, value: *mut c_void) -> c_int;
    fn sigtimedwait(set: *const c_ulong, info: *mut c_void, timeout: *const [i64; 2]) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
}

const TESTS: [(&str, fn()); 21] = [
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
    ("is_missed_by_a_server", is_missed_by_a_server),
    ("kills_its_group", || send(0, SIGKILL)),
    ("kills_its_parent", || end_parent(SIGKILL)),
    ("leaves_its_group", leaves_its_group),
    ("passes", || {}),
    ("payloads_of_real_time_signals_arrive", payloads),
    ("sees_default_signals", sees_default_signals),
    ("spawns_from_sixteen_threads", spawns_from_sixteen_threads),
    ("stops_its_parent", || end_parent(SIGSTOP)),
    ("subreaper_with_daemons", subreaper_with_daemons),
    ("vforks_and_is_killed", vforks_and_is_killed),
];

fn main() -> ExitCode {
    // SAFETY: no memory is involved. Survives exec, and every fork here repeats it.
    unsafe { alarm(50) };
    let args: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if has("--list") {
        if !has("--ignored") {
            for (name, _) in TESTS {
                println!("{name}: test");
            }
        }
        return ExitCode::SUCCESS;
    }
    if has("--nap") {
        hang();
    }
    let test = TESTS.iter().find(|(name, _)| has(name));
    (test.expect("it is listed").1)();
    ExitCode::SUCCESS
}

fn hang() {
    loop {
        // SAFETY: no memory is involved.
        unsafe { pause() };
    }
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

fn child(body: impl FnOnce()) -> c_int {
    // SAFETY: the child makes system calls only, and `_exit`.
    let pid = unsafe { fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        // SAFETY: no memory is involved.
        unsafe { alarm(50) };
        body();
        // SAFETY: ends the process.
        unsafe { _exit(0) };
    }
    pid
}

fn status_of(pid: c_int) -> c_int {
    let mut status = 0;
    // SAFETY: the pointer is to a live local.
    let waited = unsafe { waitpid(pid, &raw mut status, WUNTRACED | WCONTINUED) };
    assert_eq!(waited, pid, "waitpid({pid}) failed");
    status
}

/// Waits for the end of a child, whoever stops and continues it meanwhile.
fn end_of(pid: c_int) -> c_int {
    let mut status = 0;
    // SAFETY: the pointer is to a live local.
    let waited = unsafe { waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid, "waitpid({pid}) failed");
    status
}

fn send(pid: c_int, number: c_int) {
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { kill(pid, number) }, 0, "kill({pid}, {number}) failed");
}

fn end_parent(number: c_int) {
    // A child and a daemon, so that there is something to be left behind.
    child(hang);
    daemon();
    // SAFETY: no memory is involved.
    send(unsafe { getppid() }, number);
    hang();
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

/// A child, and a server as its grandchild, that have all that others may miss, and a server that
/// prints on and on.
fn is_missed_by_a_server() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let lock = fs::File::create(concat!(env!("CARGO_MANIFEST_DIR"), "/target/zoo-lock"));
    let lock = lock.expect("it can be created");
    child(|| {
        child(|| {
            // SAFETY: no memory is involved.
            unsafe { setsid() };
            loop {
                let _ = std::io::stdout().write_all(b"still here\n");
                thread::sleep(Duration::from_millis(5));
            }
        });
        hang();
    });
    drop((listener, lock));
}

fn subreaper_with_daemons() {
    // SAFETY: no memory is involved.
    unsafe { prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    daemon();
    daemon();
}

/// Processes that come and go so fast that whoever follows them always has news.
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
        std::io::stdout().write_all(&line).expect("somebody reads");
        std::io::stderr().write_all(&line).expect("somebody reads");
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
    let set: [c_ulong; 16] = {
        let mut set = [0; 16];
        set[0] = 1 << (number - 1);
        set
    };
    // SAFETY: the set is as large as the C library's; the old one is not asked for.
    unsafe { sigprocmask(SIG_SETMASK, set.as_ptr(), ptr::null_mut()) };
    let own = std::process::id().cast_signed();
    for value in 1..=100usize {
        // SAFETY: the value is a number that nobody follows.
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
    // SAFETY: as above.
    let empty = [0 as c_ulong; 16];
    // SAFETY: the set is as large as the C library's.
    unsafe { sigprocmask(SIG_SETMASK, empty.as_ptr(), ptr::null_mut()) };
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
    assert!(started.elapsed() < Duration::from_secs(10));
}
