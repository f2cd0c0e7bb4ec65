//! Real programs under a stub. Each test runs one of `tracing/programs.rs` in a stub and
//! looks at the events.
//!
//! This has a `main` of its own because a stub is a process of this executable, and so are the
//! programs.

#![allow(
    clippy::too_many_lines,
    reason = "a test is read from top to bottom, and may be a table"
)]
#![allow(unsafe_code, reason = "the programs do what only system calls can")]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks,
    reason = "system calls with plain arguments"
)]
#![allow(clippy::unwrap_used, reason = "a test's only way to fail")]

#[path = "tracing/compared.rs"]
mod compared;
#[path = "tracing/programs.rs"]
mod programs;
#[path = "tracing/random.rs"]
mod random;

use harness_metadata::{
    Exit, TraceEvent, TraceEventKind, TraceSummary,
    event::TraceLevel,
    trace::{Backend, CallResult, Creation, Doubt, Exec, FileCall, FileOperation, Sender},
};
use harness_runner::{
    protocol::{Cgroup, RawCommand, Recording, Request, Response, Spawn, Trace},
    stub::{self, link::Stub},
};
use libtest_mimic::{Arguments, Trial};
use std::{
    collections::BTreeSet,
    env,
    fs::File,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::Path,
    process::ExitCode,
    time::Duration,
};

const SOON: Duration = Duration::from_secs(60);

/// The trace of a program.
struct Seen {
    root: i32,
    /// Its own folder.
    folder: String,
    exit: Exit,
    events: Vec<TraceEvent>,
    summary: TraceSummary,
}

/// Runs a program of `tracing/programs.rs` in a folder of its own.
fn watch(level: TraceLevel, program: &str) -> Seen {
    watch_and(level, program, |_| ())
}

/// As [`watch`], and does something once the program has been started.
fn watch_and(level: TraceLevel, program: &str, meanwhile: impl FnOnce(&Stub)) -> Seen {
    watch_by(Backend::Ptrace, level, program, meanwhile)
}

/// As [`watch_and`], by another backend.
fn watch_by(
    backend: Backend,
    level: TraceLevel,
    program: &str,
    meanwhile: impl FnOnce(&Stub),
) -> Seen {
    watch_recorded((backend, Recording::Off), level, program, meanwhile)
}

/// As [`watch_by`], perhaps with a recorder.
fn watch_recorded(
    (backend, recording): (Backend, Recording),
    level: TraceLevel,
    program: &str,
    meanwhile: impl FnOnce(&Stub),
) -> Seen {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::launch().unwrap();
    assert_eq!(stub.ready().unwrap().missing(backend), None);
    let terminated = |path: &Path| [path.as_os_str().as_bytes(), b"\0"].concat();
    let own = terminated(&env::current_exe().unwrap());
    let spawn = Spawn {
        ticket: 1,
        command: RawCommand {
            program: &own,
            args: &[
                &own,
                programs::ARGUMENT.as_bytes(),
                b"\0",
                program.as_bytes(),
                b"\0",
            ]
            .concat(),
            environment: b"PATH=/usr/bin:/bin\0KEPT=1\0",
            cwd: &terminated(folder.path()),
        },
        trace: Trace {
            level,
            backend,
            recording,
            file: &[],
            live: true,
            no_new_privs: true,
            break_exec: &[],
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
    stub.send(&Request::Spawn(spawn), &fds).unwrap();
    meanwhile(&stub);
    let mut events = Vec::new();
    let mut ended = None;
    loop {
        match stub.receive(SOON).unwrap() {
            Response::Seen { events: new, .. } => events.extend(new),
            Response::Exited { exited, .. } => {
                let summary = *exited.so_far.trace.unwrap();
                ended = Some((exited.pid, exited.exit));
                if !exited.descendants_alive {
                    return Seen {
                        root: exited.pid,
                        folder: folder.path().display().to_string(),
                        exit: exited.exit,
                        events,
                        summary,
                    };
                }
            }
            Response::Gone { so_far, .. } => {
                let (root, exit) = ended.unwrap();
                let summary = *so_far.trace.unwrap();
                return Seen {
                    root,
                    folder: folder.path().display().to_string(),
                    exit,
                    events,
                    summary,
                };
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Whether a listener can be had here: there is one at most, and it may be an outer one's.
fn can_listen() -> bool {
    let ready = Stub::launch().unwrap().ready().unwrap();
    ready.missing(Backend::Notify).is_none()
}

impl Seen {
    fn files(&self) -> impl Iterator<Item = &FileCall> {
        self.events.iter().filter_map(|event| match &event.kind {
            TraceEventKind::File(call) => Some(&**call),
            _ => None,
        })
    }

    /// The calls that name a file so.
    fn of_file(&self, name: &str) -> Vec<&FileCall> {
        let is = |call: &&FileCall| call.path.path().as_bytes().ends_with(name.as_bytes());
        self.files().filter(is).collect()
    }

    fn execs(&self) -> Vec<(&TraceEvent, &Exec)> {
        let exec = |event: &'_ TraceEvent| matches!(event.kind, TraceEventKind::Exec(_));
        let events = self.events.iter().filter(|event| exec(event));
        events
            .filter_map(|event| match &event.kind {
                TraceEventKind::Exec(exec) => Some((event, &**exec)),
                _ => None,
            })
            .collect()
    }

    fn created(&self) -> Vec<(i32, i32, Creation)> {
        let created = |event: &TraceEvent| match &event.kind {
            TraceEventKind::Created(created) => Some((event.pid, created.child, created.how)),
            _ => None,
        };
        self.events.iter().filter_map(created).collect()
    }

    fn signals(&self, number: i32) -> Vec<Sender> {
        let sender = |event: &TraceEvent| match &event.kind {
            TraceEventKind::Signal(signal) if signal.signal == number => Some(signal.sender),
            _ => None,
        };
        self.events.iter().filter_map(sender).collect()
    }

    fn doubts(&self) -> Vec<&Doubt> {
        let doubt = |event: &'_ TraceEvent| matches!(event.kind, TraceEventKind::Doubt(_));
        let events = self.events.iter().filter(|event| doubt(event));
        events
            .filter_map(|event| match &event.kind {
                TraceEventKind::Doubt(doubt) => Some(doubt),
                _ => None,
            })
            .collect()
    }

    /// Every task does things after its creation and nothing after its end, and every process ends.
    fn assert_whole(&self) {
        let mut known = BTreeSet::from([self.root]);
        let mut alive = known.clone();
        for event in &self.events {
            assert!(known.contains(&event.tid), "before its creation: {event:?}");
            assert!(alive.contains(&event.tid), "after its end: {event:?}");
            match &event.kind {
                TraceEventKind::Created(created) => {
                    known.insert(created.child);
                    alive.insert(created.child);
                }
                TraceEventKind::Exited(_) | TraceEventKind::ThreadEnded => {
                    alive.remove(&event.tid);
                }
                _ => {}
            }
        }
        let odd = self.events.iter().filter(|e| {
            alive.contains(&e.tid)
                || matches!(&e.kind, TraceEventKind::Created(c) if alive.contains(&c.child))
        });
        let odd: Vec<_> = odd.collect();
        assert!(odd.is_empty(), "still alive at the end: {odd:#?}");
        assert_eq!(self.exit, Exit::Code(0));
    }
}

/// P5.
fn a_listener_hears_what_is_asked_and_nothing_before_the_program() {
    if !can_listen() {
        return;
    }
    let seen = watch_by(Backend::Notify, TraceLevel::Full, "files", |_| ());
    assert_eq!(seen.exit, Exit::Code(0));
    let first = &seen.events[0].kind;
    assert!(matches!(first, TraceEventKind::Exec(_)), "{first:?}");
    let last = &seen.events.last().unwrap().kind;
    assert!(matches!(last, TraceEventKind::Exited(_)), "{last:?}");
    let told = |name: &str| -> Vec<CallResult> {
        let calls = seen.of_file(name);
        calls.iter().map(|call| call.result).collect()
    };
    // No result is seen.
    assert_eq!(told("/made"), [CallResult::Unknown; 2]);
    assert_eq!(told("/below/missing"), [CallResult::Unknown]);
    let own = format!("/proc/{}/status", seen.root);
    assert_eq!(told(&own), [CallResult::Unknown]);
    assert_eq!(seen.summary.backend, Backend::Notify);
    assert!(!seen.summary.complete());
}

fn a_listener_hears_of_a_process_before_it_does_anything() {
    if !can_listen() {
        return;
    }
    for program in ["spawns", "orphan", "thread-exec"] {
        let seen = watch_by(Backend::Notify, TraceLevel::Io, program, |_| ());
        assert_eq!(seen.exit, Exit::Code(0), "{program}");
        let mut known = BTreeSet::from([seen.root]);
        for event in &seen.events {
            assert!(known.contains(&event.tid), "{program}: {event:?}");
            if let TraceEventKind::Created(created) = &event.kind {
                assert!(known.insert(created.child), "{program}: {event:?}");
            }
        }
        if program == "spawns" {
            let execs = seen.execs();
            let (_, of_children) = execs.split_first().unwrap();
            let args = of_children.iter().map(|(_, e)| e.args[1].to_string());
            let args: BTreeSet<_> = args.collect();
            assert_eq!(args.len(), programs::THREADS * 4);
            for (_, exec) in of_children {
                assert_eq!(exec.result, CallResult::Found);
                assert_eq!(exec.environment.set.len(), 1, "{exec:?}");
            }
        }
    }
    let failed = watch_by(Backend::Notify, TraceLevel::Io, "failed-exec", |_| ());
    let (_, exec) = failed.execs()[1];
    assert_eq!(exec.result, CallResult::Err(libc::ENOENT));
}

fn calls_are_told_alike_whether_they_stop_or_are_recorded() {
    let watch = |recording| {
        let by = (Backend::Ptrace, recording);
        watch_recorded(by, TraceLevel::Full, "calls", |_| ())
    };
    let told = |seen: &Seen| {
        let calls = seen
            .files()
            .skip_while(|call| call.path.asked.as_bytes() != b"/none-0");
        let of_test = |call: &&FileCall| call.path.asked.as_bytes() != b"/proc/self/maps";
        let calls = calls.filter(of_test).take(2 * programs::CALLS);
        let calls =
            calls.map(|call| (call.call.clone(), call.path.clone(), call.result, call.file));
        calls.collect::<Vec<_>>()
    };
    let stopped = watch(Recording::Off);
    assert_eq!(stopped.of_file("/stopped").len(), 1);
    assert_eq!(told(&stopped).len(), 2 * programs::CALLS);
    for recording in [Recording::On, Recording::Verified] {
        let recorded = watch(recording);
        assert_eq!(recorded.exit, Exit::Code(0));
        assert_eq!(recorded.doubts(), Vec::<&Doubt>::new(), "{recording:?}");
        assert_eq!(told(&recorded), told(&stopped), "{recording:?}");
        assert!(recorded.events.is_sorted_by_key(|event| event.at));
        let is_here = match cfg!(target_arch = "x86_64") {
            true => "/recorded",
            false => "/stopped",
        };
        assert_eq!(recorded.of_file(is_here).len(), 1, "{recording:?}");
    }
}

fn who_is_listened_to_can_be_killed() {
    if !can_listen() {
        return;
    }
    let kill = |stub: &Stub| {
        stub.send(&Request::Kill { ticket: 1 }, &[]).unwrap();
        stub.wake();
    };
    let seen = watch_by(Backend::Notify, TraceLevel::Full, "waits", kill);
    let killed = Exit::Signal {
        signal: libc::SIGKILL,
        core_dumped: false,
    };
    assert_eq!(seen.exit, killed);
}

fn what_cannot_be_executed_is_no_attempt_for_a_listener_either() {
    if !can_listen() {
        return;
    }
    let stub = Stub::launch().unwrap();
    stub.ready().unwrap();
    let start = |ticket, program: &[u8], cwd: &[u8]| {
        let spawn = Spawn {
            ticket,
            command: RawCommand {
                program,
                args: b"x\0",
                environment: b"",
                cwd,
            },
            trace: Trace {
                level: TraceLevel::Io,
                backend: Backend::Notify,
                recording: Recording::Off,
                file: &[],
                live: false,
                no_new_privs: true,
                break_exec: &[],
            },
            cgroup: Cgroup::default(),
            image: None,
            farewell: None,
            policy: &[],
            inject: &[],
            entries: None,
            foreground: false,
        };
        let null = File::open("/dev/null").unwrap();
        let fds = [null.as_fd(), null.as_fd(), null.as_fd()];
        stub.send(&Request::Spawn(spawn), &fds).unwrap();
        stub.receive(SOON).unwrap()
    };
    for round in 0..20 {
        let missing = start(3 * round + 1, b"/missing\0", b"/\0");
        assert!(
            matches!(missing, Response::StartFailed { .. }),
            "{missing:?}"
        );
        let nowhere = start(3 * round + 2, b"/bin/true\0", b"/missing\0");
        assert!(
            matches!(nowhere, Response::StartFailed { .. }),
            "{nowhere:?}"
        );
        let works = start(3 * round + 3, b"/bin/true\0", b"/\0");
        let Response::Exited { exited, .. } = works else {
            panic!("{works:?}");
        };
        assert_eq!(exited.exit, Exit::Code(0));
        assert_eq!(exited.so_far.trace.unwrap().processes.len(), 1);
    }
}

/// P2, P5, P38.
fn an_empty_program_is_executed_ends_and_shows_nothing_of_the_harness() {
    for level in [TraceLevel::Process, TraceLevel::Io, TraceLevel::Full] {
        let seen = watch(level, "empty");
        seen.assert_whole();
        let first = &seen.events[0];
        let TraceEventKind::Exec(exec) = &first.kind else {
            panic!("{first:?}");
        };
        assert_eq!(exec.result, CallResult::Ok(0));
        assert_eq!(exec.args[2].as_bytes(), b"empty");
        let last = &seen.events.last().unwrap().kind;
        assert!(matches!(last, TraceEventKind::Exited(_)), "{last:?}");
        assert_eq!(seen.files().count() > 0, level > TraceLevel::Process);
        assert_eq!(
            exec.interpreters.len(),
            usize::from(level > TraceLevel::Process)
        );
        assert_eq!(seen.summary.level, level);
        assert_eq!(seen.doubts(), Vec::<&Doubt>::new());
    }
}

fn files_are_told_with_their_results_and_absolute_paths() {
    use FileOperation::*;
    let seen = watch(TraceLevel::Full, "files");
    seen.assert_whole();
    let told = |name: &str| -> Vec<(FileOperation, CallResult)> {
        let calls = seen.of_file(name);
        calls
            .iter()
            .map(|call| (call.operation, call.result))
            .collect()
    };
    let missing = CallResult::Err(libc::ENOENT);
    let done = CallResult::Ok(0);
    let made = told("/made");
    assert!(
        matches!(
            made[..],
            [(Open, CallResult::Ok(3..)), (Link, CallResult::Ok(0))]
        ),
        "{made:?}"
    );
    assert_eq!(
        told("/below"),
        [(MakeDirectory, done), (ChangeDirectory, done)]
    );
    assert_eq!(told("/below/missing"), [(Open, missing)]);
    assert_eq!(told("/below/link"), [(SymbolicLink, done), (Remove, done)]);
    assert_eq!(told("/below/hard"), [(Rename, done)]);
    assert_eq!(told("/proc/self/status"), []);
    let own = format!("/proc/{}/status", seen.root);
    let opened = told(&own);
    assert!(
        matches!(opened[..], [(Open, CallResult::Ok(3..))]),
        "{opened:?}"
    );
    assert_eq!(told("/etc/hostname-that-is-not"), [(Stat, missing)]);
}

/// P6, P9, P12.
fn of_many_forks_every_child_has_a_creator() {
    for level in [TraceLevel::Process, TraceLevel::Io] {
        let seen = watch(level, "forks");
        seen.assert_whole();
        let forks = seen
            .created()
            .iter()
            // A loaded machine may leave open how.
            .filter(|(_, _, how)| *how != Creation::Thread)
            .count();
        let threads = seen
            .created()
            .iter()
            .filter(|(_, _, how)| *how == Creation::Thread)
            .count();
        assert_eq!(
            (forks, threads),
            (programs::FORKS * programs::THREADS, programs::THREADS)
        );
    }
}

/// P8.
fn of_many_spawns_every_exec_has_its_own_arguments() {
    for level in [TraceLevel::Process, TraceLevel::Io] {
        let seen = watch(level, "spawns");
        seen.assert_whole();
        let args: BTreeSet<String> = seen
            .execs()
            .iter()
            .filter(|(event, _)| event.pid != seen.root)
            .map(|(_, exec)| {
                assert_eq!(exec.environment.unset.len(), 1, "{exec:?}");
                assert_eq!(exec.environment.set.len(), 1, "{exec:?}");
                exec.args[1].to_string()
            })
            .collect();
        assert_eq!(args.len(), programs::THREADS * 4);
    }
}

/// P9.
fn a_child_of_a_dead_parent_is_still_traced() {
    let seen = watch(TraceLevel::Io, "orphan");
    seen.assert_whole();
    assert_eq!(seen.of_file("/by-orphan").len(), 1);
    assert_eq!(seen.doubts(), Vec::<&Doubt>::new());
}

/// P15, P18.
fn an_exec_by_another_thread_is_the_process_s() {
    for level in [TraceLevel::Process, TraceLevel::Io] {
        let seen = watch(level, "thread-exec");
        let execs = seen.execs();
        let [_, (event, exec)] = execs[..] else {
            panic!("{execs:?}");
        };
        assert_eq!((event.pid, event.tid), (seen.root, seen.root));
        assert_eq!(exec.args.len(), 2);
        assert_eq!(exec.result, CallResult::Ok(0));
        assert_eq!(seen.exit, Exit::Code(0));
    }
}

/// P17.
fn a_failed_exec_is_told_with_its_error() {
    let seen = watch(TraceLevel::Io, "failed-exec");
    seen.assert_whole();
    let execs = seen.execs();
    assert_eq!(execs.len(), 2);
    assert_eq!(execs[1].1.result, CallResult::Err(libc::ENOENT));
}

/// P27.
fn a_real_time_signal_arrives_with_its_payload_and_its_sender_is_known() {
    let seen = watch(TraceLevel::Io, "real-time");
    seen.assert_whole();
    assert_eq!(
        seen.signals(libc::SIGRTMIN() + 3),
        [Sender::Tree(seen.root)]
    );
}

/// P24, P25.
fn a_stopped_child_is_seen_as_stopped_by_its_parent_and_goes_on() {
    for level in [TraceLevel::Process, TraceLevel::Io] {
        watch(level, "stops").assert_whole();
    }
}

/// P36.
fn a_call_that_is_made_again_after_a_signal_counts_once() {
    let seen = watch(TraceLevel::Io, "restart");
    seen.assert_whole();
    let calls = seen.of_file("/pipe");
    let calls: Vec<_> = calls
        .iter()
        .filter(|call| call.call.starts_with("open"))
        .collect();
    let [_, call] = calls[..] else {
        panic!("{calls:?}");
    };
    assert!(
        matches!(call.result, CallResult::Ok(_) | CallResult::Found),
        "{call:?}"
    );
}

/// P28.
fn a_call_in_which_its_caller_is_killed_has_no_result() {
    let seen = watch(TraceLevel::Io, "killed");
    seen.assert_whole();
    let calls = seen.of_file("/pipe");
    let opens: Vec<_> = calls
        .iter()
        .filter(|call| call.call.starts_with("open"))
        .collect();
    assert_eq!(opens.len(), 1, "{opens:?}");
    assert_eq!(opens[0].result, CallResult::Unknown);
}

/// P38.
fn a_leader_that_ends_first_ends_with_its_process() {
    let seen = watch(TraceLevel::Io, "leader-first");
    assert_eq!(seen.exit, Exit::Code(7));
    let ends = seen
        .events
        .iter()
        .filter(|e| matches!(e.kind, TraceEventKind::Exited(_)));
    assert_eq!(ends.count(), 1);
}

/// P10.
fn a_child_that_was_not_to_be_traced_is() {
    let seen = watch(TraceLevel::Io, "untraced");
    seen.assert_whole();
    assert_eq!(seen.created().len(), 1, "{:?}", seen.created());
}

/// P13.
fn a_child_belongs_to_its_creator_and_not_to_its_parent() {
    let seen = watch(TraceLevel::Io, "clone-parent");
    seen.assert_whole();
    let created = seen.created();
    assert_eq!(created.len(), 2, "{created:?}");
    assert_eq!(created[1].0, created[0].1);
}

/// P55, P58.
fn paths_in_another_root_directory_are_found_there() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let seen = watch(TraceLevel::Full, "another-root");
    seen.assert_whole();
    let results = |name: &str| -> Vec<CallResult> {
        let calls = seen.of_file(name);
        let stats = calls
            .iter()
            .filter(|call| call.operation == FileOperation::Stat);
        stats
            .map(|call| match call.result {
                // Who asks while names are changed elsewhere is to ask again (RESOLVE_CACHED of
                // openat2(2)), so the call itself is awaited.
                CallResult::Ok(0) => CallResult::Found,
                result => result,
            })
            .collect()
    };
    assert_eq!(results("/another/inside"), [CallResult::Found]);
    // Absolute links lead to what is inside, too.
    assert_eq!(results("/another/link"), [CallResult::Found]);
    // It was never looked up, so the kernel has no answer without the file system.
    assert_eq!(results("/another/etc"), [CallResult::Err(libc::ENOENT)]);
}

/// P26, P75.
fn a_signal_of_the_harness_is_known_as_such() {
    let seen = watch_and(TraceLevel::Io, "waits", |stub| {
        // Its first events show that it runs.
        assert!(matches!(stub.receive(SOON).unwrap(), Response::Seen { .. }));
        stub.send(
            &Request::Signal {
                ticket: 1,
                signal: libc::SIGTERM,
            },
            &[],
        )
        .unwrap();
    });
    assert_eq!(seen.signals(libc::SIGTERM), [Sender::Harness]);
    assert_eq!(seen.doubts(), Vec::<&Doubt>::new());
}

const TESTS: &[(&str, fn())] = &[
    (
        "random_programs",
        compared::random_programs_have_the_same_trace_with_and_without_a_recorder,
    ),
    (
        "an_empty_program",
        an_empty_program_is_executed_ends_and_shows_nothing_of_the_harness,
    ),
    (
        "files",
        files_are_told_with_their_results_and_absolute_paths,
    ),
    ("of_many_forks", of_many_forks_every_child_has_a_creator),
    (
        "of_many_spawns",
        of_many_spawns_every_exec_has_its_own_arguments,
    ),
    (
        "a_child_of_a_dead_parent",
        a_child_of_a_dead_parent_is_still_traced,
    ),
    (
        "an_exec_by_another_thread",
        an_exec_by_another_thread_is_the_process_s,
    ),
    ("a_failed_exec", a_failed_exec_is_told_with_its_error),
    (
        "a_real_time_signal",
        a_real_time_signal_arrives_with_its_payload_and_its_sender_is_known,
    ),
    (
        "a_stopped_child",
        a_stopped_child_is_seen_as_stopped_by_its_parent_and_goes_on,
    ),
    (
        "a_call_made_again",
        a_call_that_is_made_again_after_a_signal_counts_once,
    ),
    (
        "a_call_cut_short",
        a_call_in_which_its_caller_is_killed_has_no_result,
    ),
    (
        "a_leader_that_ends_first",
        a_leader_that_ends_first_ends_with_its_process,
    ),
    ("an_untraced_task", a_child_that_was_not_to_be_traced_is),
    (
        "a_child_of_its_creator",
        a_child_belongs_to_its_creator_and_not_to_its_parent,
    ),
    (
        "paths_in_another_root",
        paths_in_another_root_directory_are_found_there,
    ),
    (
        "a_signal_of_the_harness",
        a_signal_of_the_harness_is_known_as_such,
    ),
    (
        "notify_what_is_asked",
        a_listener_hears_what_is_asked_and_nothing_before_the_program,
    ),
    (
        "notify_of_a_process",
        a_listener_hears_of_a_process_before_it_does_anything,
    ),
    ("notify_killed", who_is_listened_to_can_be_killed),
    (
        "recorded_calls",
        calls_are_told_alike_whether_they_stop_or_are_recorded,
    ),
    (
        "notify_not_executed",
        what_cannot_be_executed_is_no_attempt_for_a_listener_either,
    ),
];

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(stub::ARGUMENT) => return ExitCode::from(stub::serve() as u8),
        Some(programs::ARGUMENT) => programs::run(&args[1]),
        _ => {}
    }
    let trial = |(name, test): &(&str, fn())| {
        let test = *test;
        Trial::test(*name, move || {
            test();
            Ok(())
        })
    };
    let arguments = Arguments {
        // One after the other: there is one listener at most.
        test_threads: Some(1),
        ..Arguments::from_args()
    };
    libtest_mimic::run(&arguments, TESTS.iter().map(trial).collect()).exit_code()
}
