//! The least cost of a tracer's stops: the bound for every tracer of this kind.
//!
//! ```text
//! cargo bench -p harness-runner --bench stops -- TEST-BINARY [ROUNDS]
//! ```
//!
//! runs every test of a binary of the standard harness in a process of its own, from the working
//! directory, as many at once as there are processors: untraced; with the lives of its processes
//! traced; and with its most frequent calls that name files stopped too. The tracer resumes what has
//! stopped and looks at nothing: it reads no path, keeps no event, and awaits no result. A real one has
//! more stops, and something to do at each.

#![allow(clippy::print_stdout, reason = "a benchmark says what it measured")]
#![allow(unsafe_code, reason = "between fork and exec, and to install a filter")]

use nix::{
    errno::Errno,
    sys::{
        ptrace::{self, Options},
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use std::{
    collections::HashSet,
    env, io,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

/// The tracing of a test.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Mode {
    Untraced,
    /// Processes and threads created, programs executed, ends.
    Lives,
    /// These, and calls that a filter stops.
    Calls,
}

/// The calls that a filter stops: of the test suites looked at, the most frequent ones by far.
const STOPPED: [libc::c_long; 5] = [
    libc::SYS_openat,
    libc::SYS_chdir,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_clone3,
];

fn main() {
    // `--bench` comes from cargo.
    let mut args = env::args().skip(1).filter(|arg| arg != "--bench");
    let Some(binary) = args.next() else {
        println!("stops: left out, no test binary was named (-- TEST-BINARY [ROUNDS])");
        return;
    };
    let rounds = args.next().map_or(3, |rounds| {
        rounds.parse().expect("the second argument is a number")
    });
    let tests = list(&binary);
    let modes = [
        (Mode::Untraced, "untraced"),
        (Mode::Lives, "lives of processes"),
        (Mode::Calls, "and calls"),
    ];
    let mut times = modes.map(|_| Vec::new());
    let mut stops = modes.map(|_| 0);
    for _ in 0..rounds {
        for (index, (mode, _)) in modes.iter().enumerate() {
            let (time, stopped) = run(&binary, &tests, *mode);
            times[index].push(time);
            stops[index] = stopped;
        }
    }
    println!("stops: {} tests, {rounds} rounds", tests.len());
    let medians = times.map(|mut times| {
        times.sort();
        times[times.len() / 2].as_secs_f64()
    });
    for (index, (_, name)) in modes.iter().enumerate() {
        let (median, each) = (medians[index], stops[index] as f64 / tests.len() as f64);
        let ratio = median / medians[0];
        println!("  {name:<20}{median:>9.3} s{ratio:>8.2} × untraced{each:>8.1} stops a test");
    }
}

fn list(binary: &str) -> Vec<String> {
    let args = ["--list", "--format", "terse"];
    let output = Command::new(binary).args(args).output();
    let output = output.expect("the binary can be executed");
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let tests = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    tests.map(str::to_owned).collect()
}

/// Runs all tests. Returns how long that took, and how often one of their tasks has stopped.
fn run(binary: &str, tests: &[String], mode: Mode) -> (Duration, u64) {
    let (next, stops) = (AtomicUsize::new(0), AtomicU64::new(0));
    let started = Instant::now();
    let worker = || {
        while let Some(test) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
            stops.fetch_add(once(binary, test, mode), Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(worker);
        }
    });
    (started.elapsed(), stops.into_inner())
}

#[expect(clippy::zombie_processes, reason = "resume_all waits for all")]
fn once(binary: &str, test: &str, mode: Mode) -> u64 {
    let mut command = Command::new(binary);
    command.args(["--exact", test, "--nocapture", "--test-threads=2"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let prepare = move || match mode {
        Mode::Untraced => Ok(()),
        Mode::Lives => Ok(ptrace::traceme()?),
        Mode::Calls => ptrace::traceme()
            .map_err(io::Error::from)
            .and_then(|()| filter()),
    };
    // SAFETY: nothing is allocated, and nothing locked.
    unsafe { command.pre_exec(prepare) };
    if mode == Mode::Untraced {
        command.status().expect("the test starts");
        return 0;
    }
    let child = command.spawn().expect("the test starts");
    resume_all(Pid::from_raw(child.id().cast_signed()))
}

/// Resumes a process and all that it creates until all have ended.
fn resume_all(root: Pid) -> u64 {
    let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    let mut stops = 0;
    let mut known = HashSet::new();
    loop {
        let status = match waitpid(None, Some(flags)) {
            Ok(status) => status,
            Err(Errno::ECHILD) => return stops,
            Err(errno) => panic!("wait: {errno}"),
        };
        let (pid, signal) = match status {
            WaitStatus::Stopped(pid, Signal::SIGTRAP) if known.insert(pid) => {
                let options = Options::PTRACE_O_TRACECLONE
                    | Options::PTRACE_O_TRACEFORK
                    | Options::PTRACE_O_TRACEVFORK
                    | Options::PTRACE_O_TRACEEXEC
                    | Options::PTRACE_O_TRACESECCOMP
                    | Options::PTRACE_O_EXITKILL;
                ptrace::setoptions(pid, options).expect("it is stopped");
                (pid, None)
            }
            // The first stop of what a tracee has created.
            WaitStatus::Stopped(pid, Signal::SIGSTOP) if known.insert(pid) => (pid, None),
            WaitStatus::Stopped(pid, signal) => (pid, Some(signal)),
            WaitStatus::PtraceEvent(pid, ..) => (pid, None),
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                known.remove(&pid);
                if pid == root {
                    // What is left behind would be waited for.
                    for left in &known {
                        let _ = kill(*left, Signal::SIGKILL);
                    }
                }
                continue;
            }
            other => panic!("{other:?}"),
        };
        stops += 1;
        // It may have been killed.
        let _ = ptrace::cont(pid, signal);
    }
}

/// Installs a filter in the calling process.
fn filter() -> io::Result<()> {
    const COUNT: usize = STOPPED.len();
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    // The number is the first member of `struct seccomp_data`.
    let mut program = [statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0); COUNT + 3];
    for (index, number) in STOPPED.iter().enumerate() {
        program[index + 1] = libc::sock_filter {
            jt: (COUNT - index) as u8,
            ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, *number as u32)
        };
    }
    program[COUNT + 1] = statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW);
    program[COUNT + 2] = statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_TRACE);
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    nix::sys::prctl::set_no_new_privs()?;
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the kernel copies the program, which is on this stack.
    let installed = unsafe { libc::syscall(libc::SYS_seccomp, mode, 0, &raw const program) };
    Errno::result(installed).map(drop).map_err(io::Error::from)
}
