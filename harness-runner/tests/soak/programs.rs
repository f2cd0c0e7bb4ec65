//! Programs that start, stop and end processes in ways that are hard to follow. Each checks what it can
//! itself, and ends with the exit code that it was given unless it is killed.

use fixture_kit::{
    forks::{assert_exited, fork, wait, wait_for},
    random::Random,
};
use std::{
    os::unix::process::CommandExt,
    process::{self, Command},
    thread,
    time::Duration,
};

pub(crate) const ARGUMENT: &str = "__soak";

/// The actions of a program.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing.
    Exits,
    /// Children and grandchildren that are waited for.
    Forks,
    /// Children by vfork, from several threads.
    Spawns,
    /// A thread executes while others fork.
    ThreadExecutes,
    /// It kills itself while threads fork.
    KillsItself,
    /// It kills itself while threads are in vfork.
    KillsItselfInVfork,
    /// It kills a child that forks.
    KillsAChild,
    /// It forks until it is killed.
    KilledFromOutside,
    /// Grandchildren outlive it.
    LeavesOrphans,
    /// A child is stopped and continued.
    Stops,
    /// Its first thread ends first.
    LeaderEndsFirst,
}

impl Kind {
    pub(crate) const ALL: [Self; 11] = [
        Self::Exits,
        Self::Forks,
        Self::Spawns,
        Self::ThreadExecutes,
        Self::KillsItself,
        Self::KillsItselfInVfork,
        Self::KillsAChild,
        Self::KilledFromOutside,
        Self::LeavesOrphans,
        Self::Stops,
        Self::LeaderEndsFirst,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Exits => "exits",
            Self::Forks => "forks",
            Self::Spawns => "spawns",
            Self::ThreadExecutes => "thread-executes",
            Self::KillsItself => "kills-itself",
            Self::KillsItselfInVfork => "kills-itself-in-vfork",
            Self::KillsAChild => "kills-a-child",
            Self::KilledFromOutside => "killed-from-outside",
            Self::LeavesOrphans => "leaves-orphans",
            Self::Stops => "stops",
            Self::LeaderEndsFirst => "leader-ends-first",
        }
    }

    /// Returns whether it ends by SIGKILL.
    pub(crate) fn is_killed(self) -> bool {
        matches!(
            self,
            Self::KillsItself | Self::KillsItselfInVfork | Self::KilledFromOutside
        )
    }

    /// Returns whether a task of it may be killed, or ended by exec, while it forks.
    pub(crate) fn cuts_forks_short(self) -> bool {
        self.is_killed() || matches!(self, Self::KillsAChild | Self::ThreadExecutes)
    }
}

/// Runs a program: its name, its exit code and its seed.
pub(crate) fn run(args: &[String]) -> ! {
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == args[0]);
    let code: i32 = args[1].parse().unwrap();
    let mut random = Random::new(args[2].parse().unwrap());
    match kind.unwrap() {
        Kind::Exits => {}
        Kind::Forks => forks(&mut random),
        Kind::Spawns => spawns(&mut random),
        Kind::ThreadExecutes => thread_executes(&mut random, &args[1]),
        Kind::KillsItself => {
            forking_threads(&mut random);
            random.dawdle();
            kill(unsafe { libc::getpid() });
        }
        Kind::KillsItselfInVfork => {
            for _ in 0..=random.below(3) {
                thread::spawn(|| {
                    loop {
                        let _ = Command::new("/bin/true").status();
                    }
                });
            }
            random.dawdle();
            thread::sleep(Duration::from_micros(random.below(2_000)));
            kill(unsafe { libc::getpid() });
        }
        Kind::KillsAChild => kills_a_child(&mut random),
        Kind::KilledFromOutside => {
            forking_threads(&mut random);
            loop {
                wait(fork(|| 0));
            }
        }
        Kind::LeavesOrphans => {
            for _ in 0..=random.below(2) {
                let mut random = Random::new(random.next());
                wait(fork(|| {
                    fork(|| {
                        random.dawdle();
                        5
                    });
                    0
                }));
            }
        }
        Kind::Stops => stops(&mut random),
        Kind::LeaderEndsFirst => {
            let mut random = random.clone();
            thread::spawn(move || {
                random.dawdle();
                unsafe { libc::syscall(libc::SYS_exit_group, code) }
            });
            unsafe { libc::syscall(libc::SYS_exit, 3) };
        }
    }
    process::exit(code)
}

fn forks(random: &mut Random) {
    for _ in 0..=random.below(4) {
        let (child_code, grandchildren) = (random.below(256) as i32, random.below(3));
        let mut own = Random::new(random.next());
        let child = fork(|| {
            for _ in 0..grandchildren {
                let code = own.below(256) as i32;
                assert_exited(wait(fork(|| code)), code);
            }
            child_code
        });
        random.dawdle();
        assert_exited(wait(child), child_code);
    }
}

fn spawns(random: &mut Random) {
    let (threads, each) = (1 + random.below(3), 1 + random.below(2));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(move || {
                for _ in 0..each {
                    let fine = Command::new("/bin/true").status().unwrap();
                    assert_eq!(fine.code(), Some(0));
                    let failed = Command::new("/bin/false").status().unwrap();
                    assert_eq!(failed.code(), Some(1));
                    assert!(Command::new("/no/such/program").status().is_err());
                }
            });
        }
    });
}

fn thread_executes(random: &mut Random, code: &str) {
    forking_threads(random);
    let (code, mut own) = (code.to_owned(), Random::new(random.next()));
    let executes = thread::spawn(move || {
        own.dawdle();
        let program = std::env::current_exe().unwrap();
        let failed = Command::new(program)
            .args([ARGUMENT, Kind::Exits.name(), &code, "0"])
            .exec();
        panic!("{failed}");
    });
    random.dawdle();
    let _ = executes.join();
    process::exit(255);
}

/// Starts threads that fork until the process ends.
fn forking_threads(random: &mut Random) {
    for _ in 0..=random.below(3) {
        thread::spawn(|| {
            loop {
                wait(fork(|| 0));
            }
        });
    }
}

fn kills_a_child(random: &mut Random) {
    for _ in 0..=random.below(2) {
        let child = fork(|| {
            loop {
                wait(fork(|| 0));
            }
        });
        random.dawdle();
        kill(child);
        let status = wait(child);
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL);
    }
}

fn stops(random: &mut Random) {
    let code = random.below(256) as i32;
    let child = fork(|| {
        unsafe { libc::raise(libc::SIGSTOP) };
        code
    });
    let status = wait_for(child, libc::WUNTRACED);
    assert!(libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGSTOP);
    random.dawdle();
    unsafe { libc::kill(child, libc::SIGCONT) };
    assert_exited(wait(child), code);
}

fn kill(pid: i32) {
    unsafe { libc::kill(pid, libc::SIGKILL) };
}
