//! The parts of the C library that the test programs of this folder need, without a dependency, and children
//! that none of them leaves behind for long.

#![allow(dead_code, reason = "each of the programs needs a part of it")]

pub use std::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::{fs, process, ptr, thread, time::Duration};

pub const SIGKILL: c_int = 9;
pub const SIGTERM: c_int = 15;
pub const SIGCHLD: c_int = 17;
pub const SIGCONT: c_int = 18;
pub const SIGSTOP: c_int = 19;
pub const SIGTSTP: c_int = 20;
pub const SIGTTIN: c_int = 21;
pub const SIGTTOU: c_int = 22;
pub const SIG_SETMASK: c_int = 2;
pub const SIG_DFL: usize = 0;
pub const SIG_IGN: usize = 1;
pub const WUNTRACED: c_int = 2;
pub const WCONTINUED: c_int = 8;
pub const PR_SET_NAME: c_int = 15;
pub const PR_SET_CHILD_SUBREAPER: c_int = 36;

/// The lifetime of a process of these programs, with or without the runner.
pub const LONGEST_LIFE: c_uint = 50;

unsafe extern "C" {
    pub fn _exit(status: c_int) -> !;
    pub fn alarm(seconds: c_uint) -> c_uint;
    pub fn chdir(path: *const c_char) -> c_int;
    pub fn close(fd: c_int) -> c_int;
    pub fn dup2(from: c_int, to: c_int) -> c_int;
    pub fn fork() -> c_int;
    pub fn geteuid() -> c_uint;
    pub fn getpid() -> c_int;
    pub fn getppid() -> c_int;
    pub fn grantpt(fd: c_int) -> c_int;
    pub fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    pub fn kill(pid: c_int, signal: c_int) -> c_int;
    pub fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    pub fn pause() -> c_int;
    pub fn posix_openpt(flags: c_int) -> c_int;
    pub fn prctl(option: c_int, ...) -> c_int;
    pub fn ptrace(request: c_long, ...) -> c_long;
    pub fn ptsname_r(fd: c_int, name: *mut c_char, length: usize) -> c_int;
    pub fn setpgid(pid: c_int, group: c_int) -> c_int;
    pub fn setresuid(real: c_uint, effective: c_uint, saved: c_uint) -> c_int;
    pub fn setsid() -> c_int;
    pub fn signal(signal: c_int, handler: usize) -> usize;
    pub fn sigprocmask(how: c_int, set: *const c_ulong, old: *mut c_ulong) -> c_int;
    pub fn sigqueue(pid: c_int, signal: c_int, value: *mut c_void) -> c_int;
    pub fn sigtimedwait(set: *const c_ulong, info: *mut c_void, timeout: *const [i64; 2]) -> c_int;
    pub fn syscall(number: c_long, ...) -> c_long;
    pub fn unlockpt(fd: c_int) -> c_int;
    pub fn unshare(flags: c_int) -> c_int;
    pub fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
}

/// Ends this process in time. Survives exec; every [`child`] repeats it.
pub fn limit_life() {
    // SAFETY: no memory is involved.
    unsafe { alarm(LONGEST_LIFE) };
}

pub fn hang() {
    loop {
        // SAFETY: no memory is involved.
        unsafe { pause() };
    }
}

/// The same for who may have blocked the alarm.
pub fn linger() -> ! {
    thread::sleep(Duration::from_secs(u64::from(LONGEST_LIFE)));
    process::abort()
}

pub fn child(body: impl FnOnce()) -> c_int {
    // SAFETY: the child makes system calls only, and `_exit`.
    let pid = unsafe { fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        run_as_child(body);
    }
    pid
}

/// The work of a child whose parent goes on elsewhere.
pub fn run_as_child(body: impl FnOnce()) -> ! {
    limit_life();
    body();
    // SAFETY: ends the process.
    unsafe { _exit(0) }
}

pub fn status_of(pid: c_int) -> c_int {
    let mut status = 0;
    // SAFETY: the pointer is to a live local.
    let waited = unsafe { waitpid(pid, &raw mut status, WUNTRACED | WCONTINUED) };
    assert_eq!(waited, pid, "waitpid({pid}) failed");
    status
}

/// Waits for the end of a child, through stops and continues.
pub fn end_of(pid: c_int) -> c_int {
    let mut status = 0;
    // SAFETY: the pointer is to a live local.
    let waited = unsafe { waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid, "waitpid({pid}) failed");
    status
}

pub fn send(pid: c_int, number: c_int) {
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { kill(pid, number) }, 0, "kill({pid}, {number}) failed");
}

/// Blocks exactly the signals of a mask; bit 0 is signal 1.
pub fn block_signals(mask: c_ulong) {
    let mut set: [c_ulong; 16] = [0; 16];
    set[0] = mask;
    // SAFETY: the set is as large as the C library's; the old one is not asked for.
    unsafe { sigprocmask(SIG_SETMASK, set.as_ptr(), ptr::null_mut()) };
}

/// Starts a child in the process group of the runner, which is that of the parent of our parent.
pub fn join_the_runner() {
    // SAFETY: no memory is involved.
    let stub = unsafe { getppid() };
    let field = |pid: c_int, number: usize| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(") ")?;
        fields.split(' ').nth(number)?.parse::<c_int>().ok()
    };
    let group = field(stub, 1).and_then(|runner| field(runner, 2));
    let pid = child(hang);
    if let Some(group) = group {
        // Fails if the runner is in another session, or if the stub is gone.
        // SAFETY: no memory is involved.
        unsafe { setpgid(pid, group) };
    }
}
