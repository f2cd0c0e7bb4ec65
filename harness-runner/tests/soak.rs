//! Many short attempts through a few stubs: processes that fork, execute from threads, start others by
//! vfork, stop, and are killed at random moments. None may hang, leave a process behind, or lose an
//! exit status.
//!
//! `SOAK_ATTEMPTS` says how many (a few seconds' worth by default), `SOAK_SEED` repeats what was random.
//!
//! This has a `main` of its own because a stub is a process of this executable, and so are the
//! programs.

#![allow(unsafe_code, reason = "the programs do what only system calls can")]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks,
    reason = "system calls with plain arguments"
)]
#![allow(clippy::unwrap_used, reason = "a test's only way to fail")]

#[path = "soak/programs.rs"]
mod programs;

use fixture_kit::random::Random;
use harness_metadata::{
    Exit, TraceEvent, TraceEventKind,
    event::TraceLevel,
    trace::{Backend, Creation},
};
use harness_runner::{
    protocol::{Cgroup, Left, RawCommand, Request, Response, Spawn, Trace},
    stub::{self, link::Stub},
};
use libtest_mimic::{Arguments, Trial};
use programs::Kind;
use std::{
    collections::BTreeMap,
    env, fs,
    fs::File,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const ATTEMPTS: u64 = 600;
/// The number of tracers beside each other.
const STUBS: u32 = 3;
/// A longer run hangs.
const LIMIT: Duration = Duration::from_secs(60);
const LEVELS: [TraceLevel; 3] = [TraceLevel::Process, TraceLevel::Io, TraceLevel::Full];

/// The state that all stubs' threads share.
struct Soak {
    attempts: u64,
    seed: u64,
    next: AtomicU64,
    /// The work done of each kind at each level.
    done: Mutex<BTreeMap<(&'static str, TraceLevel), Count>>,
}

impl Soak {
    /// Runs attempts until there have been enough.
    fn work(&self) {
        let stub = Stub::launch().unwrap();
        stub.ready().unwrap();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.attempts {
                return;
            }
            let mut random = Random::new(self.seed.wrapping_add(number));
            let kind = random.pick(&Kind::ALL);
            // Not in step with anything else.
            let level = LEVELS[(number % 3) as usize];
            let attempt = Attempt {
                stub: &stub,
                number,
                seed: self.seed,
                kind,
                level,
                random: &mut random,
            };
            let checked = catch_unwind(AssertUnwindSafe(|| attempt.check()));
            let Ok(processes) = checked else {
                panic!(
                    "attempt {number}, {kind:?} at {level:?}; again: SOAK_SEED={}",
                    self.seed
                );
            };
            let mut done = self.done.lock().unwrap();
            let count = done.entry((kind.name(), level)).or_default();
            count.attempts += 1;
            count.processes += processes;
        }
    }
}

/// The work done.
#[derive(Default)]
struct Count {
    attempts: u64,
    processes: u64,
}

struct Attempt<'a> {
    stub: &'a Stub,
    number: u64,
    seed: u64,
    kind: Kind,
    level: TraceLevel,
    random: &'a mut Random,
}

impl Attempt<'_> {
    /// Runs it. Returns how many processes it had.
    fn check(self) -> u64 {
        let live = self.random.below(4) == 0;
        let code = self.random.below(100) as i32;
        let program_seed = self.random.next().to_string();
        self.start(code, &program_seed, live);
        if self.kind == Kind::KilledFromOutside {
            // At a random moment, which may be before it has executed.
            thread::sleep(Duration::from_micros(self.random.below(4_000)));
            let ticket = self.number;
            self.stub.send(&Request::Kill { ticket }, &[]).unwrap();
        }
        let expected = if self.kind.is_killed() {
            Exit::Signal {
                signal: libc::SIGKILL,
                core_dumped: false,
            }
        } else {
            Exit::Code(code)
        };
        let mut events = Vec::new();
        let mut root = None;
        let processes = loop {
            let response = self.stub.receive(LIMIT).unwrap();
            match response {
                Response::Seen {
                    ticket,
                    events: new,
                } => {
                    assert_eq!(ticket, self.number);
                    events.extend(new);
                }
                Response::Exited { ticket, exited } => {
                    assert_eq!((ticket, exited.exit, root), (self.number, expected, None));
                    root = Some(exited.pid);
                    if !exited.descendants_alive {
                        break exited.so_far.usage.processes;
                    }
                }
                Response::Gone {
                    ticket,
                    so_far,
                    left,
                    ..
                } => {
                    assert_eq!((ticket, left), (self.number, Left::Nothing));
                    break so_far.usage.processes;
                }
                other => panic!("{other:?}"),
            }
        };
        let root = root.expect("its exit was reported");
        if live {
            check_events(root, expected, &events, self.kind.cuts_forks_short());
        }
        if self.number.is_multiple_of(64) {
            assert_eq!(strays(&self.marker()), Vec::<String>::new());
        }
        u64::from(processes.expect("it was traced"))
    }

    /// Marks every process of the attempt, whatever becomes of it.
    fn marker(&self) -> String {
        format!("SOAK_MARK={}-{}-", std::process::id(), self.number)
    }

    fn start(&self, code: i32, program_seed: &str, live: bool) {
        let own = env::current_exe().unwrap();
        let own = [own.as_os_str().as_bytes(), b"\0"].concat();
        let mut args = own.clone();
        let code = code.to_string();
        for arg in [programs::ARGUMENT, self.kind.name(), &code, program_seed] {
            args.extend_from_slice(arg.as_bytes());
            args.push(0);
        }
        let environment = format!("PATH=/usr/bin:/bin\0{}\0", self.marker());
        let spawn = Spawn {
            ticket: self.number,
            command: RawCommand {
                program: &own,
                args: &args,
                environment: environment.as_bytes(),
                cwd: b"/\0",
            },
            trace: Trace {
                level: self.level,
                backend: Backend::Ptrace,
                live,
                ..Trace::LIFECYCLE
            },
            cgroup: Cgroup::default(),
            image: None,
            farewell: None,
            policy: &[],
            inject: &[],
            entries: None,
            foreground: false,
        };
        let null = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .unwrap();
        let stderr = std::io::stderr();
        let fds = [null.as_fd(), null.as_fd(), stderr.as_fd()];
        let request = Request::Spawn(spawn);
        self.stub
            .send(&request, &fds)
            .unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
    }
}

/// Every process that was created ends once, with a status, and the root with the right one.
fn check_events(root: i32, expected: Exit, events: &[TraceEvent], cut_short: bool) {
    let mut alive: BTreeMap<i32, u32> = BTreeMap::from([(root, 1)]);
    for event in events {
        match &event.kind {
            TraceEventKind::Created(created) if created.how != Creation::Thread => {
                *alive.entry(created.child).or_default() += 1;
            }
            TraceEventKind::Exited(exited) => {
                let one = alive.get_mut(&event.pid);
                // The kernel does not tell of a creation if the creator is killed before it can.
                assert!(one.is_some() || cut_short, "not created: {event:?}");
                if let Some(one) = one {
                    *one = one.saturating_sub(1);
                }
                if event.pid == root {
                    assert_eq!(exited.exit, expected);
                }
            }
            _ => {}
        }
    }
    alive.retain(|_, count| *count > 0);
    assert_eq!(alive, BTreeMap::new(), "no end was reported: {events:#?}");
}

/// Returns the processes that have a marker in their environment.
fn strays(marker: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let marked = processes.filter_map(|process| {
        let environment = fs::read(process.path().join("environ")).ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        let found = variables.any(|variable| variable.starts_with(marker.as_bytes()));
        found.then(|| fs::read_to_string(process.path().join("stat")).unwrap_or_default())
    });
    marked.collect()
}

fn number_of(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={value}")),
    )
}

#[allow(clippy::print_stdout, reason = "the figures of the test")]
fn many_short_attempts_hang_nowhere_and_leave_and_lose_nothing() {
    let soak = Soak {
        attempts: number_of("SOAK_ATTEMPTS").unwrap_or(ATTEMPTS),
        seed: number_of("SOAK_SEED").unwrap_or_else(Random::seed),
        next: AtomicU64::new(0),
        done: Mutex::default(),
    };
    println!("{} attempts, SOAK_SEED={}", soak.attempts, soak.seed);
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..STUBS {
            scope.spawn(|| soak.work());
        }
    });
    let left = strays(&format!("SOAK_MARK={}-", std::process::id()));
    assert_eq!(left, Vec::<String>::new());
    let done = soak.done.into_inner().unwrap();
    let (mut attempts, mut processes) = (0, 0);
    for ((kind, level), count) in &done {
        let (some, their) = (count.attempts, count.processes);
        println!("{kind:>21} at {level:?}: {some} attempts, {their} processes");
        attempts += some;
        processes += their;
    }
    assert_eq!(attempts, soak.attempts);
    println!(
        "{attempts} attempts with {processes} processes in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(stub::ARGUMENT) => return ExitCode::from(stub::serve() as u8),
        Some(programs::ARGUMENT) => programs::run(&args[1..]),
        _ => {}
    }
    let soak = Trial::test("many_short_attempts", || {
        many_short_attempts_hang_nowhere_and_leave_and_lose_nothing();
        Ok(())
    });
    libtest_mimic::run(&Arguments::from_args(), vec![soak]).exit_code()
}
