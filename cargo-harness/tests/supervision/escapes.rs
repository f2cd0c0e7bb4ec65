//! Ways in which a process outlives the test that it belongs to, one test each. A test writes the ids
//! of what it leaves behind into a file of its name in `ZOO_LEFT`, and passes; with `ZOO_STAY` it
//! does not end, so that the runner's end finds it all.

mod sys;

use std::{
    env, fs,
    io::{Read, Write},
    net::TcpListener,
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{Command, ExitCode, Stdio},
    ptr, thread,
    time::Duration,
};
use sys::*;

/// The leftovers.
enum Left {
    /// These processes.
    Processes(Vec<c_int>),
    /// At least one, under ever another id.
    Moving,
    /// None, because it cannot be done here.
    Impossible(&'static str),
}

const TESTS: [(&str, fn() -> Left); 31] = [
    ("as_another_user", as_another_user),
    ("as_its_parents_sibling", as_its_parents_sibling),
    ("below_a_subreaper", below_a_subreaper),
    ("by_double_fork", by_double_fork),
    ("from_a_thread", from_a_thread),
    ("holding_only_a_socket", holding_only_a_socket),
    ("holding_the_output", holding_the_output),
    ("in_a_namespace_of_pids", in_a_namespace_of_pids),
    ("in_its_own_group", in_its_own_group),
    ("in_its_own_session", in_its_own_session),
    ("in_vfork", in_vfork),
    ("like_daemon_3", like_daemon_3),
    ("many_at_once", many_at_once),
    ("on_a_terminal_of_its_own", on_a_terminal_of_its_own),
    ("orphaned_in_its_own_group", orphaned_in_its_own_group),
    ("running", running),
    ("stopped", stopped),
    ("through_nohup", through_nohup),
    ("through_spawn_and_setsid", through_spawn_and_setsid),
    ("tracing_its_sibling", tracing_its_sibling),
    ("under_another_name", under_another_name),
    ("untraced_by_its_own_wish", untraced_by_its_own_wish),
    ("walking", walking),
    ("while_it_forks", while_it_forks),
    ("with_every_signal_blocked", with_every_signal_blocked),
    ("with_sigterm_ignored", with_sigterm_ignored),
    ("without_descriptors", without_descriptors),
    ("without_environment", without_environment),
    ("without_exit_signal", without_exit_signal),
    ("without_its_first_thread", without_its_first_thread),
    ("without_its_program", without_its_program),
];

fn main() -> ExitCode {
    limit_life();
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
    if has("--daemonise") {
        let pid = daemon(|| {
            null_streams();
            hang();
        });
        print!("{pid}");
        return ExitCode::SUCCESS;
    }
    let test = TESTS.iter().find(|(name, _)| has(name));
    let (name, test) = test.expect("it is listed");
    let left = match test() {
        Left::Processes(pids) => pids.iter().map(|pid| format!("{pid}\n")).collect(),
        Left::Moving => "moving\n".to_owned(),
        Left::Impossible(why) => format!("impossible: {why}\n"),
    };
    let folder = env::var("ZOO_LEFT").expect("it is set");
    fs::write(format!("{folder}/left-{name}"), left).expect("it can be written");
    if env::var_os("ZOO_STAY").is_some() {
        hang();
    }
    ExitCode::SUCCESS
}

/// A child that is where it wants to be when this returns. `settle` brings it there.
fn settled(settle: impl FnOnce(), then: impl FnOnce()) -> c_int {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let pid = child(|| {
        settle();
        (&writer).write_all(b".").expect("the test reads");
        // It must not be mistaken for open output.
        // SAFETY: this process does not use it again.
        unsafe { close(writer.as_raw_fd()) };
        // SAFETY: as above.
        unsafe { close(reader.as_raw_fd()) };
        then();
    });
    reader.read_exact(&mut [0]).expect("the child writes");
    pid
}

fn one(settle: impl FnOnce()) -> Left {
    Left::Processes(vec![settled(settle, hang)])
}

/// A process in a session of its own whose parent is gone. Returns its id.
fn daemon(body: impl FnOnce()) -> c_int {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let first = child(|| {
        // SAFETY: no memory is involved.
        unsafe { setsid() };
        let second = settled(|| {}, body);
        (&writer).write_all(&second.to_ne_bytes()).expect("the test reads");
    });
    assert_eq!(end_of(first), 0);
    let mut pid = [0; 4];
    reader.read_exact(&mut pid).expect("the child has written");
    c_int::from_ne_bytes(pid)
}

fn own_group() {
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { setpgid(0, 0) }, 0);
}

fn own_session() {
    // SAFETY: no memory is involved.
    assert!(unsafe { setsid() } > 0);
}

fn close_all() {
    for fd in 0..1024 {
        // SAFETY: this process uses none of them again.
        unsafe { close(fd) };
    }
}

fn null_streams() {
    // SAFETY: the string is a literal with its zero.
    let null = unsafe { open(c"/dev/null".as_ptr(), 2) };
    for fd in 0..3 {
        // SAFETY: no memory is involved.
        unsafe { dup2(null, fd) };
    }
}

fn by_double_fork() -> Left {
    Left::Processes(vec![daemon(hang)])
}

fn in_its_own_session() -> Left {
    one(own_session)
}

fn in_its_own_group() -> Left {
    one(own_group)
}

fn with_sigterm_ignored() -> Left {
    one(|| {
        for number in [1, 2, 3, SIGTERM] {
            // SAFETY: no code is run by the action.
            unsafe { signal(number, SIG_IGN) };
        }
    })
}

fn with_every_signal_blocked() -> Left {
    Left::Processes(vec![settled(|| block_signals(c_ulong::MAX), || linger())])
}

fn stopped() -> Left {
    let pid = child(hang);
    send(pid, SIGSTOP);
    assert_eq!(status_of(pid), SIGSTOP << 8 | 0x7f);
    Left::Processes(vec![pid])
}

fn orphaned_in_its_own_group() -> Left {
    Left::Processes(vec![daemon(|| {
        own_group();
        hang();
    })])
}

fn under_another_name() -> Left {
    // SAFETY: the string is a literal with its zero.
    one(|| assert_eq!(unsafe { prctl(PR_SET_NAME, c"kworker/0:1) Z 1 (".as_ptr()) }, 0))
}

fn like_daemon_3() -> Left {
    Left::Processes(vec![daemon(|| {
        // SAFETY: the string is a literal with its zero.
        unsafe { chdir(c"/".as_ptr()) };
        null_streams();
        hang();
    })])
}

fn from_a_thread() -> Left {
    let thread = thread::spawn(|| settled(own_session, hang));
    Left::Processes(vec![thread.join().expect("it does not panic")])
}

fn holding_only_a_socket() -> Left {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    one(|| {
        for fd in (0..3).filter(|fd| *fd != listener.as_raw_fd()) {
            // SAFETY: this process uses none of them again.
            unsafe { close(fd) };
        }
    })
}

fn holding_the_output() -> Left {
    one(|| {})
}

fn many_at_once() -> Left {
    Left::Processes((0..200).map(|_| child(hang)).collect())
}

fn below_a_subreaper() -> Left {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let reaper = child(|| {
        // SAFETY: no memory is involved.
        unsafe { prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
        for _ in 0..2 {
            let pid = daemon(hang);
            (&writer).write_all(&pid.to_ne_bytes()).expect("the test reads");
        }
        hang();
    });
    let mut pids = vec![reaper];
    for _ in 0..2 {
        let mut pid = [0; 4];
        reader.read_exact(&mut pid).expect("the child writes");
        pids.push(c_int::from_ne_bytes(pid));
    }
    Left::Processes(pids)
}

fn as_another_user() -> Left {
    // SAFETY: no memory is involved.
    if unsafe { geteuid() } != 0 {
        return Left::Impossible("only root can become another user");
    }
    // SAFETY: no memory is involved.
    one(|| assert_eq!(unsafe { setresuid(65534, 65534, 65534) }, 0))
}

fn in_a_namespace_of_pids() -> Left {
    const CLONE_NEWUSER: c_int = 0x1000_0000;
    const CLONE_NEWPID: c_int = 0x2000_0000;
    // SAFETY: no memory is involved.
    let made = unsafe { unshare(CLONE_NEWPID) } == 0
        // SAFETY: no memory is involved.
        || unsafe { unshare(CLONE_NEWUSER | CLONE_NEWPID) } == 0;
    if !made {
        return Left::Impossible("no namespace may be made");
    }
    let inner = settled(|| { child(hang); }, hang);
    let children = fs::read_to_string(format!("/proc/{inner}/task/{inner}/children"));
    let children = children.expect("/proc is mounted");
    let within = children.split_whitespace().map(|pid| pid.parse().expect("a number"));
    Left::Processes(within.chain([inner]).collect())
}

fn on_a_terminal_of_its_own() -> Left {
    const O_RDWR: c_int = 2;
    const O_NOCTTY: c_int = 0o400;
    const TIOCSCTTY: c_ulong = 0x540e;
    one(|| {
        own_session();
        // SAFETY: no memory is involved.
        let near = unsafe { posix_openpt(O_RDWR | O_NOCTTY) };
        let mut name: [c_char; 64] = [0; 64];
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { grantpt(near) }, 0);
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { unlockpt(near) }, 0);
        // SAFETY: the buffer is as long as told.
        assert_eq!(unsafe { ptsname_r(near, name.as_mut_ptr(), name.len()) }, 0);
        // SAFETY: the name ends in a zero.
        let far = unsafe { open(name.as_ptr(), O_RDWR) };
        // SAFETY: the argument is a number.
        assert_eq!(unsafe { ioctl(far, TIOCSCTTY, 0) }, 0);
    })
}

/// A process whose parent sleeps in vfork(2) all the time.
fn in_vfork() -> Left {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let parent = child(|| {
        // It shares no memory, so both can go on as they like.
        const CLONE_VFORK: c_int = 0x4000;
        clone(CLONE_VFORK | SIGCHLD, || {
            // SAFETY: no memory is involved.
            let own = unsafe { getpid() };
            (&writer).write_all(&own.to_ne_bytes()).expect("the test reads");
            hang();
        });
    });
    let mut pid = [0; 4];
    reader.read_exact(&mut pid).expect("the child writes");
    Left::Processes(vec![parent, c_int::from_ne_bytes(pid)])
}

/// As fork(2), with these flags.
fn clone(flags: c_int, body: impl FnOnce()) -> c_int {
    const CLONE: c_long = if cfg!(target_arch = "x86_64") { 56 } else { 220 };
    let none = ptr::null_mut::<c_void>();
    // SAFETY: without CLONE_VM the child has a copy of this process, as after fork.
    let pid = unsafe { syscall(CLONE, c_long::from(flags), none, none, none, none) } as c_int;
    assert!(pid >= 0, "clone failed");
    if pid == 0 {
        run_as_child(body);
    }
    pid
}

fn as_its_parents_sibling() -> Left {
    const CLONE_PARENT: c_int = 0x8000;
    Left::Processes(vec![clone(CLONE_PARENT | SIGCHLD, hang)])
}

fn untraced_by_its_own_wish() -> Left {
    const CLONE_UNTRACED: c_int = 0x0080_0000;
    Left::Processes(vec![clone(CLONE_UNTRACED | SIGCHLD, || {
        own_session();
        hang();
    })])
}

/// Its parent gets no signal at its end, and wait(2) sees it only if asked for such children.
fn without_exit_signal() -> Left {
    Left::Processes(vec![clone(0, hang)])
}

fn tracing_its_sibling() -> Left {
    const PTRACE_SEIZE: c_long = 0x4206;
    let sibling = child(hang);
    let tracer = settled(
        || {
            let none = ptr::null_mut::<c_void>();
            // Fails if it is traced already, which is as good.
            // SAFETY: the request ignores the address, and takes the data as a number.
            unsafe { ptrace(PTRACE_SEIZE, sibling, none, none) };
        },
        hang,
    );
    Left::Processes(vec![sibling, tracer])
}

/// Another process every millisecond, each the child of the one before.
fn walking() -> Left {
    ever_another(1_000, Duration::from_millis(1))
}

/// The same without a rest.
fn running() -> Left {
    ever_another(5_000, Duration::ZERO)
}

/// One process after the other, each the child of the one before. The last one stays: a runner that does
/// not find it leaves all the dead to init, which may take longer to reap them than it takes to make
/// them, and then the machine is out of processes.
fn ever_another(lives: u32, rest: Duration) -> Left {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    child(|| {
        own_session();
        // The output must not be awaited.
        null_streams();
        (&writer).write_all(b".").expect("the test reads");
        for _ in 0..lives {
            // SAFETY: the child does the same as its parent would have done.
            if unsafe { fork() } > 0 {
                // SAFETY: ends the process.
                unsafe { _exit(0) };
            }
            if !rest.is_zero() {
                thread::sleep(rest);
            }
        }
        linger();
    });
    reader.read_exact(&mut [0]).expect("the child writes");
    Left::Moving
}

fn while_it_forks() -> Left {
    let forker = child(|| {
        loop {
            // SAFETY: the child only exits.
            match unsafe { fork() } {
                // SAFETY: ends the process.
                0 => unsafe { _exit(0) },
                // SAFETY: the pointer may be null.
                pid => unsafe { waitpid(pid, ptr::null_mut(), 0) },
            };
        }
    });
    // Not its children of a moment.
    assert!(forker > 0);
    Left::Moving
}

fn through_nohup() -> Left {
    // SAFETY: no memory is involved.
    unsafe { signal(1, SIG_DFL) };
    let own = env::current_exe().expect("it has a path");
    let mut command = Command::new("nohup");
    command.arg(own).args(["--nap", "through_nohup"]);
    spawned(&mut command)
}

fn through_spawn_and_setsid() -> Left {
    let own = env::current_exe().expect("it has a path");
    let output = Command::new(own)
        .args(["--daemonise", "through_spawn_and_setsid"])
        .output()
        .expect("it starts");
    let pid = String::from_utf8_lossy(&output.stdout);
    Left::Processes(vec![pid.trim().parse().expect("a number")])
}

fn spawned(command: &mut Command) -> Left {
    let streams = [Stdio::null(), Stdio::null(), Stdio::null()];
    let [stdin, stdout, stderr] = streams;
    let command = command.stdin(stdin).stdout(stdout).stderr(stderr);
    let child = command.spawn().expect("it starts");
    Left::Processes(vec![child.id().cast_signed()])
}

fn without_descriptors() -> Left {
    let pid = child(|| {
        own_session();
        close_all();
        let life = LONGEST_LIFE.to_string();
        let _ = Command::new("/bin/sleep").arg(life).exec();
    });
    // Until it has executed: its own end of no pipe can tell.
    loop {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).expect("/proc is mounted");
        if name.trim() == "sleep" {
            return Left::Processes(vec![pid]);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Marked on its command line instead, for those who look for what is left.
fn without_environment() -> Left {
    let own = env::current_exe().expect("it has a path");
    let mark = env::var("HARNESS_E2E_MARK").unwrap_or_default();
    let mut command = Command::new(own);
    command.env_clear().args(["--nap", "without_environment", &mark]);
    spawned(&mut command)
}

/// Its first thread is a zombie that cannot be reaped while the second one lives.
fn without_its_first_thread() -> Left {
    const EXIT: c_long = if cfg!(target_arch = "x86_64") { 60 } else { 93 };
    let pid = child(|| {
        own_session();
        thread::spawn(|| hang());
        // SAFETY: ends this thread, whose stack has no other user.
        unsafe { syscall(EXIT, 0) };
    });
    loop {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("/proc is mounted");
        if stat.contains(") Z ") {
            return Left::Processes(vec![pid]);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// The file that it executes is gone.
fn without_its_program() -> Left {
    let own = env::current_exe().expect("it has a path");
    let folder = env::var("ZOO_LEFT").expect("it is set");
    let copy = format!("{folder}/copy");
    fs::copy(own, &copy).expect("it can be copied");
    let mut command = Command::new(&copy);
    command.args(["--nap", "without_its_program"]);
    // Another test that forks meanwhile may have it open for writing (ETXTBSY).
    let left = spawned(&mut command);
    fs::remove_file(copy).expect("it is there");
    left
}
