//! Processes that multiply or change their ids as fast as they can, one kind a test. A test starts
//! them and passes; they go on until they are killed, or for as long as these programs live.

mod sys;

use std::{
    env,
    io::{Read, Write},
    process::ExitCode,
    ptr, thread,
    time::{Duration, Instant},
};
use sys::*;

const TESTS: [(&str, fn()); 11] = [
    ("bomb_of_500", bomb_of_500),
    ("born_again_when_a_parent_dies", born_again_when_a_parent_dies),
    ("dead_below_a_subreaper", dead_below_a_subreaper),
    ("double_forks", double_forks),
    ("ever_another_session", ever_another_session),
    ("ever_another_sibling", ever_another_sibling),
    ("passes", || {}),
    ("siblings_from_threads", siblings_from_threads),
    ("siblings_from_threads_without_a_stub", || without_a_stub(siblings_from_threads)),
    ("siblings_without_a_stub", || without_a_stub(ever_another_sibling)),
    ("sleepers_in_vfork", sleepers_in_vfork),
];

const CLONE_VFORK: c_int = 0x4000;
const CLONE_PARENT: c_int = 0x8000;

fn main() -> ExitCode {
    limit_life();
    let args: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if has("--list") {
        if !has("--ignored") {
            TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    let test = TESTS.iter().find(|(name, _)| has(name));
    (test.expect("it is listed").1)();
    ExitCode::SUCCESS
}

/// Starts a process that has nothing of the test's output, and returns when it is at work.
fn started(work: impl FnOnce(Instant)) {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let end = Instant::now() + Duration::from_secs(u64::from(LONGEST_LIFE) / 2);
    child(|| {
        for fd in 0..3 {
            // SAFETY: this process uses none of them again.
            unsafe { close(fd) };
        }
        (&writer).write_all(b".").expect("the test reads");
        work(end);
    });
    reader.read_exact(&mut [0]).expect("the child writes");
}

/// As fork(2), with these flags. Returns 0 in the child and something negative if it is refused.
fn clone(flags: c_int) -> c_int {
    const CLONE: c_long = if cfg!(target_arch = "x86_64") { 56 } else { 220 };
    let none = ptr::null_mut::<c_void>();
    // SAFETY: without CLONE_VM the child has a copy of this process, as after fork.
    unsafe { syscall(CLONE, c_long::from(flags | SIGCHLD), none, none, none, none) as c_int }
}

/// Ends this process, or the thread's.
fn exit() -> ! {
    // SAFETY: ends the process.
    unsafe { _exit(0) }
}

/// Goes on in a new process and ends the old one, again and again.
fn walk(end: Instant, flags: c_int, each: fn()) -> ! {
    while Instant::now() < end {
        match clone(flags) {
            0 => each(),
            // Too many are dead: the next try may be luckier.
            pid if pid < 0 => {}
            _ => exit(),
        }
    }
    exit()
}

fn own_session() {
    // SAFETY: no memory is involved.
    unsafe { setsid() };
}

/// 20 chains, in which each is the child of the test's own parent, as the one before was.
fn ever_another_sibling() {
    for _ in 0..10 {
        started(|end| walk(end, CLONE_PARENT, || {}));
        started(|end| walk(end, CLONE_PARENT, own_session));
    }
}

/// The rest becomes children of the runner.
fn without_a_stub(bomb: fn()) {
    bomb();
    // SAFETY: no memory is involved.
    unsafe { kill(getppid(), SIGKILL) };
}

fn ever_another_session() {
    for _ in 0..20 {
        started(|end| walk(end, 0, own_session));
    }
}

fn double_forks() {
    for _ in 0..4 {
        started(|end| {
            while Instant::now() < end {
                match clone(0) {
                    0 => {
                        own_session();
                        // Its child is an orphan from the start.
                        let _ = clone(0);
                        exit();
                    }
                    // SAFETY: the pointer may be null.
                    pid => unsafe { waitpid(pid, ptr::null_mut(), 0) },
                };
            }
        });
    }
}

fn siblings_from_threads() {
    started(|end| {
        own_session();
        let clones = move || {
            while Instant::now() < end {
                if clone(CLONE_PARENT) == 0 {
                    exit();
                }
            }
        };
        let threads: Vec<_> = (0..4).map(|_| thread::spawn(clones)).collect();
        threads.into_iter().for_each(|thread| drop(thread.join()));
    });
}

/// Parents that sleep until their children have ended, which they do last.
fn sleepers_in_vfork() {
    started(|end| {
        for _ in 0..300 {
            own_session();
            if clone(CLONE_VFORK) != 0 {
                exit();
            }
        }
        walk(end, CLONE_PARENT, || {})
    });
}

/// 500 that each have ever another child.
fn bomb_of_500() {
    started(|end| {
        for _ in 0..500 {
            if clone(0) == 0 {
                own_session();
                while Instant::now() < end {
                    match clone(0) {
                        0 => exit(),
                        // SAFETY: the pointer may be null.
                        pid => unsafe { waitpid(pid, ptr::null_mut(), 0) },
                    };
                }
                exit();
            }
        }
        hang();
    });
}

/// Its orphans are its own, and it reaps none.
fn dead_below_a_subreaper() {
    started(|end| {
        // SAFETY: no memory is involved.
        unsafe { prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
        own_session();
        for _ in 0..1_000 {
            if clone(0) == 0 {
                own_session();
                exit();
            }
        }
        if clone(0) == 0 {
            walk_slowly(end);
        }
        hang();
    });
}

/// As [`walk`], with so much rest that the dead are few.
fn walk_slowly(end: Instant) -> ! {
    while Instant::now() < end {
        if clone(0) > 0 {
            exit();
        }
        own_session();
        thread::sleep(Duration::from_micros(200));
    }
    exit()
}

/// A process that loses its parent takes its place, with a new child that waits for the same.
fn born_again_when_a_parent_dies() {
    const PR_SET_PDEATHSIG: c_int = 1;
    started(|end| {
        // Blocked, and waited for: no handler is needed.
        block_signals(1 << (SIGCONT - 1));
        while Instant::now() < end {
            own_session();
            if clone(0) != 0 {
                linger();
            }
            // SAFETY: no memory is involved.
            unsafe { prctl(PR_SET_PDEATHSIG, SIGCONT, 0, 0, 0) };
            let mut set: [c_ulong; 16] = [0; 16];
            set[0] = 1 << (SIGCONT - 1);
            let limit = [i64::from(LONGEST_LIFE), 0];
            // SAFETY: the set and the limit are live; nothing is asked for.
            unsafe { sigtimedwait(set.as_ptr(), ptr::null_mut(), &raw const limit) };
        }
    });
}
