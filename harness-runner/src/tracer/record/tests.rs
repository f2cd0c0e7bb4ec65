//! Events are made by hand here; no process is traced.

use super::{
    failures::FAILURES,
    file::{Ending, Header, ReadError, Reader, Trailer, Writer},
    summary::{FILES, PATH_BYTES, PROCESSES},
    *,
};
use fixture_kit::sample::{self, READ, exited, path, seen as event};
use harness_metadata::{
    Exit, RawString,
    trace::{
        Access, Address, CallResult, Creation, Exec, FileCall, FileOperation, FileUse, NameLookup,
        NetworkCall, NetworkOperation, Reach, Sender, Signal, TracedPath,
    },
};
use proptest::prelude::*;
use std::{fs, path::Path, rc::Rc, time::Duration};

mod loaded;

const ROOT: i32 = 100;

fn file(operation: FileOperation, call: &str, name: &str, result: CallResult) -> TraceEventKind {
    TraceEventKind::File(Box::new(FileCall {
        call: call.to_owned(),
        operation,
        path: path(name),
        to: None,
        access: None,
        result,
        file: None,
    }))
}

fn open(name: &str, result: CallResult) -> TraceEventKind {
    open_for(name, READ, result)
}

fn open_for(name: &str, access: Access, result: CallResult) -> TraceEventKind {
    let TraceEventKind::File(mut call) = file(FileOperation::Open, "openat", name, result) else {
        unreachable!("it is a call on a file");
    };
    call.access = Some(access);
    TraceEventKind::File(call)
}

fn exec(program: &str, args: &[&str], result: CallResult) -> TraceEventKind {
    TraceEventKind::Exec(Box::new(sample::exec(program, args, result)))
}

fn connect(port: u16, result: CallResult) -> TraceEventKind {
    TraceEventKind::Network(Box::new(NetworkCall {
        call: "connect".to_owned(),
        operation: NetworkOperation::Connect,
        fd: 3,
        address: Some(address(port)),
        reach: Reach::Machine,
        result,
    }))
}

fn address(port: u16) -> Address {
    Address::Ip {
        ip: [127, 0, 0, 1].into(),
        port,
    }
}

fn fork(child: i32) -> TraceEventKind {
    sample::created(child, Creation::Fork)
}

const MISSING: CallResult = CallResult::Err(libc::ENOENT);

fn recorder(file: Option<&Path>) -> Recorder {
    let file = file.map(Path::to_owned);
    Recorder::new(ROOT, TraceLevel::Io, Backend::Ptrace, file)
}

fn summary(events: impl IntoIterator<Item = (i32, TraceEventKind)>) -> TraceSummary {
    let mut recorder = recorder(None);
    for (millis, (pid, kind)) in (0..).zip(events) {
        recorder.event(&event(pid, millis, kind));
    }
    recorder.summary()
}

fn failures(events: impl IntoIterator<Item = TraceEventKind>) -> Vec<(String, i32)> {
    let summary = summary(events.into_iter().map(|kind| (ROOT, kind)));
    let failures = summary.failures.into_iter();
    failures
        .map(|failure| (failure.target.to_string(), failure.errno))
        .collect()
}

#[test]
fn processes_are_told_with_creators_arguments_and_ends() {
    let summary = summary([
        (ROOT, exec("/t/test", &["test", "a"], CallResult::Ok(0))),
        (ROOT, fork(101)),
        (101, exec("/bin/sh", &["sh"], CallResult::Ok(0))),
        (101, fork(102)),
        (
            102,
            TraceEventKind::Signal(Signal {
                signal: libc::SIGTERM,
                code: 0,
                sender: Sender::Tree(ROOT),
            }),
        ),
        (
            102,
            exited(Exit::Signal {
                signal: libc::SIGTERM,
                core_dumped: false,
            }),
        ),
        (101, exited(Exit::Code(3))),
    ]);
    let told: Vec<_> = summary
        .processes
        .iter()
        .map(|process| {
            let args = process.args.iter().map(RawString::to_string);
            let args = args.collect::<Vec<_>>().join(" ");
            (process.pid, process.creator, args, process.execs)
        })
        .collect();
    assert_eq!(
        told,
        [
            (ROOT, None, "test a".to_owned(), 1),
            (101, Some(ROOT), "sh".to_owned(), 1),
            (102, Some(101), "sh".to_owned(), 0),
        ]
    );
    assert_eq!(summary.processes[0].ended, None);
    assert_eq!(summary.processes[1].exit, Some(Exit::Code(3)));
    assert_eq!(summary.processes[2].killed_by, Some(Sender::Tree(ROOT)));
    assert_eq!(summary.counts["created"], 2);
    assert!(!summary.counts.contains_key("network"));
}

#[test]
fn an_id_that_is_used_again_is_another_process() {
    let summary = summary([
        (ROOT, fork(101)),
        (101, exited(Exit::Code(1))),
        (ROOT, fork(101)),
        (101, exited(Exit::Code(2))),
    ]);
    let exits: Vec<_> = summary
        .processes
        .iter()
        .map(|process| process.exit)
        .collect();
    assert_eq!(exits, [None, Some(Exit::Code(1)), Some(Exit::Code(2))]);
}

#[test]
fn uses_of_files_are_in_the_order_of_their_kinds() {
    let all = uses::USES.map(|file_use| file_use as usize);
    assert_eq!(all.to_vec(), (0..all.len()).collect::<Vec<_>>());
}

#[test]
fn files_are_told_with_all_that_was_done_to_them() {
    let write = Access {
        read: false,
        write: true,
        create: true,
        exclusive: true,
        truncate: true,
        ..READ
    };
    let to = |kind: TraceEventKind, to: &str| {
        let TraceEventKind::File(mut call) = kind else {
            unreachable!("it is a call on a file");
        };
        call.to = Some(path(to));
        TraceEventKind::File(call)
    };
    let (done, rename) = (CallResult::Ok(0), FileOperation::Rename);
    let summary = summary(
        [
            open("/in", CallResult::Found),
            open("/in", CallResult::Found),
            open_for("/out.tmp", write, CallResult::Ok(3)),
            to(file(rename, "rename", "/out.tmp", done), "/out"),
            open("/none", MISSING),
            open("/secret", CallResult::Err(libc::EACCES)),
            file(FileOperation::Remove, "unlink", "/in", done),
        ]
        .map(|kind| (ROOT, kind)),
    );
    let told: Vec<_> = summary
        .files
        .iter()
        .map(|file| (file.path.to_string(), file.uses.as_slice()))
        .collect();
    use FileUse::*;
    assert_eq!(
        told,
        [
            ("/in".to_owned(), &[Read, Removed][..]),
            ("/none".to_owned(), &[Missing]),
            ("/out".to_owned(), &[RenamedTo]),
            (
                "/out.tmp".to_owned(),
                &[Written, Created, Truncated, RenamedFrom]
            ),
            ("/secret".to_owned(), &[Refused]),
        ]
    );
}

#[test]
fn failures_are_what_a_reader_wants_and_not_searches_that_found_something() {
    let told = failures([
        open("/etc/ld.so.preload", MISSING),
        open("/a/lib/libz.so.1", MISSING),
        open("/b/lib/libz.so.1", CallResult::Found),
        exec("/a/bin/git", &[], MISSING),
        exec("/b/bin/git", &[], CallResult::Ok(0)),
        open("fixture.json", MISSING),
        connect(80, CallResult::Err(libc::ECONNREFUSED)),
        connect(80, CallResult::Err(libc::ECONNREFUSED)),
        connect(81, CallResult::Err(libc::EINPROGRESS)),
        file(
            FileOperation::ReadLink,
            "readlink",
            "/no-link",
            CallResult::Err(libc::EINVAL),
        ),
    ]);
    assert_eq!(
        told,
        [
            ("fixture.json".to_owned(), libc::ENOENT),
            ("127.0.0.1:80".to_owned(), libc::ECONNREFUSED),
        ]
    );
}

#[test]
fn a_library_and_a_program_that_are_nowhere_are_told_once() {
    let told = failures([
        open("/a/lib/libz.so.1", MISSING),
        open("/b/lib/libz.so.1", MISSING),
        exec("/a/bin/git", &[], MISSING),
        exec("/b/bin/git", &[], MISSING),
    ]);
    assert_eq!(
        told,
        [
            ("/b/lib/libz.so.1".to_owned(), libc::ENOENT),
            ("/b/bin/git".to_owned(), libc::ENOENT),
        ]
    );
}

#[test]
fn many_look_ups_do_not_push_out_the_file_that_could_not_be_opened() {
    let look_up = |number| {
        let name = format!("/search/{number}");
        file(FileOperation::Stat, "statx", &name, MISSING)
    };
    let events = [open("fixture.json", MISSING)];
    let told = failures(events.into_iter().chain((0..100).map(look_up)));
    assert_eq!(told.len(), FAILURES);
    assert_eq!(told[0].0, "fixture.json");
    assert_eq!(told[FAILURES - 1].0, "/search/99");
}

#[test]
fn names_that_were_asked_for_are_told_with_the_server() {
    let ask = |name: &str| {
        let lookup = NameLookup {
            name: name.into(),
            server: address(53),
        };
        (ROOT, TraceEventKind::Lookup(lookup))
    };
    let summary = summary([
        (ROOT, connect(53, CallResult::Ok(0))),
        ask("a.example"),
        ask("a.example"),
        ask("b.example"),
    ]);
    assert_eq!(summary.peers.len(), 1);
    let names: Vec<_> = summary.peers[0]
        .names
        .iter()
        .map(RawString::to_string)
        .collect();
    assert_eq!(names, ["a.example", "b.example"]);
    assert_eq!(summary.peers[0].count, 1);
}

#[test]
fn a_summary_is_bounded_and_counts_what_it_leaves_out() {
    let long = "x".repeat(1000);
    let files = (0..10_000).map(|number| (ROOT, open(&format!("/{long}{number}"), MISSING)));
    let forks = (0..5_000).map(|number| (ROOT, fork(1_000 + number)));
    let huge = "y".repeat(10_000_000);
    let execs = (0..200).map(|_| (ROOT, exec("/bin/true", &["true", &huge], CallResult::Ok(0))));
    let summary = summary(files.chain(forks).chain(execs));
    let bytes: usize = summary
        .files
        .iter()
        .map(|file| file.path.as_bytes().len())
        .sum();
    assert!(bytes <= PATH_BYTES && bytes > PATH_BYTES - 2_000, "{bytes}");
    // The program of the executions does not fit either.
    assert!(summary.files.len() <= FILES);
    assert!(summary.dropped.files > 8_000);
    assert_eq!(summary.processes.len(), PROCESSES);
    assert_eq!(summary.dropped.processes, 5_001 - PROCESSES as u64);
    assert!(summary.processes[0].args[1].as_bytes().len() < 5_000);
    let size = postcard::to_allocvec(&summary).unwrap().len();
    assert!(size < 2 * 1024 * 1024, "{size}");
    // Without a file they are unknown.
    assert_eq!(summary.doubts, [Doubt::Overflow]);
}

#[test]
fn what_the_summary_leaves_out_is_no_doubt_as_long_as_the_file_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.trace");
    let mut recorder = recorder(Some(&path));
    for number in 0..5_000 {
        recorder.event(&event(ROOT, number, open(&format!("/{number}"), MISSING)));
    }
    let summary = recorder.summary();
    assert_eq!(summary.dropped.files, 5_000 - FILES as u64);
    assert_eq!(summary.doubts, []);
    recorder.complete().unwrap();
    let mut reader = Reader::open(&path).unwrap();
    assert_eq!(reader.by_ref().count(), 5_000);
    let Some(Ending::Complete(trailer)) = reader.ending() else {
        panic!("the file is complete");
    };
    assert_eq!(trailer.counts["file"], 5_000);
    assert_eq!(trailer.dropped, summary.dropped);
}

#[test]
fn doubts_come_from_events_and_from_outside_each_once() {
    let mut recorder = recorder(None);
    let doubt = TraceEventKind::Doubt(Doubt::IoUring);
    recorder.event(&event(ROOT, 0, doubt.clone()));
    recorder.event(&event(ROOT, 1, doubt));
    recorder.doubt(Doubt::Interrupted);
    recorder.doubt(Doubt::Interrupted);
    assert_eq!(
        recorder.summary().doubts,
        [Doubt::IoUring, Doubt::Interrupted]
    );
}

#[test]
fn an_attempt_without_events_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.trace");
    recorder(Some(&path)).complete().unwrap();
    assert!(!path.exists());
}

#[test]
fn a_full_disk_is_an_error_and_a_doubt_and_the_summary_is_kept() {
    let mut recorder = recorder(Some(Path::new("/dev/full")));
    recorder.event(&event(ROOT, 0, open("/in", CallResult::Found)));
    assert_eq!(recorder.summary().doubts, []);
    recorder.flush();
    recorder.event(&event(ROOT, 1, open("/more", CallResult::Found)));
    let summary = recorder.summary();
    assert_eq!(summary.doubts, [Doubt::Overflow]);
    assert_eq!(summary.dropped.events, 2);
    assert_eq!(summary.files.len(), 2);
    let error = recorder.complete().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
}

#[test]
fn a_file_has_a_limit_after_which_events_are_only_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.trace");
    let limits = file::Limits {
        events: 10,
        bytes: u64::MAX,
    };
    let mut writer = Writer::with_limits(path.clone(), header(), limits);
    for number in 0..25 {
        writer.event(&event(ROOT, number, open("/in", CallResult::Found)));
    }
    assert_eq!(writer.dropped(), 15);
    writer.complete(&Trailer::default()).unwrap();
    assert_eq!(Reader::open(&path).unwrap().count(), 10);

    let limits = file::Limits {
        events: u64::MAX,
        bytes: 20_000,
    };
    let mut writer = Writer::with_limits(path.clone(), header(), limits);
    for number in 0..1_000_000 {
        let name = format!("/{:x}", u128::from(number) * 0x9e37_79b9_7f4a_7c15);
        writer.event(&event(ROOT, number, open(&name, CallResult::Found)));
    }
    assert!(writer.dropped() > 900_000);
    writer.complete(&Trailer::default()).unwrap();
    assert!(fs::metadata(&path).unwrap().len() < 300_000);
}

#[test]
fn what_happened_a_second_ago_is_in_the_file_even_if_the_writer_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.trace");
    let mut recorder = recorder(Some(&path));
    for millis in [0, 10, 1_500, 1_600] {
        recorder.event(&event(ROOT, millis, open("/in", CallResult::Found)));
    }
    // As a kill would have it.
    std::mem::forget(recorder);
    let mut reader = Reader::open(&path).unwrap();
    assert_eq!(reader.by_ref().count(), 3);
    assert_eq!(reader.ending(), Some(&Ending::Truncated));
}

#[test]
fn a_file_that_is_cut_anywhere_is_read_as_far_as_it_is_whole() {
    let (bytes, events) = small_file();
    let mut most = 0;
    for length in 0..=bytes.len() {
        let cut = &bytes[..length];
        match Reader::new(cut, Path::new("cut")) {
            Ok(mut reader) => {
                let read: Vec<_> = reader.by_ref().collect();
                assert_eq!(read, events[..read.len()]);
                assert!(read.len() >= most, "more bytes have fewer events");
                most = read.len();
                let complete = matches!(reader.ending(), Some(Ending::Complete(_)));
                assert_eq!(complete, length == bytes.len());
            }
            Err(error) => assert!(matches!(error, ReadError::NoTrace { .. }), "{error}"),
        }
    }
    assert_eq!(most, events.len());
}

#[test]
fn a_file_with_a_damaged_byte_tells_nothing_that_was_not_so() {
    let (bytes, events) = small_file();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x41;
        if let Ok(mut reader) = Reader::new(damaged.as_slice(), Path::new("damaged")) {
            let read: Vec<_> = reader.by_ref().collect();
            assert_eq!(read, events[..read.len()], "byte {at}");
            assert_eq!(reader.ending(), Some(&Ending::Truncated), "byte {at}");
        }
    }
}

#[test]
fn a_file_of_another_version_is_said_to_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.trace");
    let header = Header {
        version: 99,
        ..header()
    };
    let limits = file::Limits {
        events: 1,
        bytes: 1000,
    };
    let mut writer = Writer::with_limits(path.clone(), header, limits);
    writer.event(&event(ROOT, 0, TraceEventKind::ThreadEnded));
    writer.complete(&Trailer::default()).unwrap();
    let error = Reader::open(&path).unwrap_err();
    assert!(error.to_string().contains("its version is 99"), "{error}");
}

#[test]
fn the_times_of_a_trace_begin_when_its_root_was_created() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.trace");
    let Some(created) = Instant::now().checked_sub(Duration::from_secs(5)) else {
        return fixture_kit::scene::skip("the times of a trace", "the machine has just started");
    };
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut recorder = recorder(Some(&path)).since(created);
    recorder.event(&event(ROOT, 0, TraceEventKind::ThreadEnded));
    recorder.complete().unwrap();
    let started = Reader::open(&path).unwrap().header().started_at;
    // The wall clock of a test machine is not set back by four seconds meanwhile.
    assert!(started + Duration::from_secs(1) < before, "{started:?}");
}

fn header() -> Header {
    Header {
        version: VERSION,
        root: ROOT,
        level: TraceLevel::Full,
        backend: Backend::Notify,
        started_at: Duration::from_secs(1_700_000_000),
    }
}

/// Returns a file with several chunks, one of them compressed, and what a loader did twice; and its
/// events.
fn small_file() -> (Vec<u8>, Vec<TraceEvent>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.trace");
    let mut recorder = recorder(Some(&path));
    let mut events = Vec::new();
    let calls = ["/lib/a.so", "/lib/b.so"].map(|name| open(name, CallResult::Found));
    let loaded = Rc::new(Loaded::new(calls.to_vec()).unwrap());
    for number in 0..100 {
        // After two of them a second is over.
        let millis = if number < 2 { 0 } else { 1_000 + number };
        if [1, 50].contains(&number) {
            let at = Duration::from_millis(millis);
            recorder.loaded(at, ROOT, &loaded);
            events.extend(loaded.events(at, ROOT));
        }
        let name = format!("/a/directory/with/a/name/{number}");
        let event = event(ROOT, millis, open(&name, CallResult::Found));
        recorder.event(&event);
        events.push(event);
    }
    recorder.complete().unwrap();
    (fs::read(path).unwrap(), events)
}

fn raw() -> impl Strategy<Value = RawString> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(RawString::from)
}

fn traced() -> impl Strategy<Value = TracedPath> {
    (raw(), prop::option::of(raw())).prop_map(|(asked, absolute)| TracedPath { asked, absolute })
}

fn result() -> impl Strategy<Value = CallResult> {
    prop_oneof![
        Just(CallResult::Unknown),
        Just(CallResult::Found),
        any::<i64>().prop_map(CallResult::Ok),
        any::<i32>().prop_map(CallResult::Err),
    ]
}

fn kind() -> impl Strategy<Value = TraceEventKind> {
    let exec = (
        traced(),
        prop::collection::vec(raw(), 0..4),
        raw(),
        result(),
    );
    let call = (".*", traced(), prop::option::of(traced()), result());
    let network = (raw(), any::<[u8; 16]>(), any::<u16>(), result());
    prop_oneof![
        any::<i32>().prop_map(fork),
        exec.prop_map(|(program, args, cwd, result)| {
            let set = args.iter().map(|arg| (arg.clone(), cwd.clone())).collect();
            TraceEventKind::Exec(Box::new(Exec {
                program,
                environment: harness_metadata::trace::EnvironmentChange {
                    set,
                    unset: args.clone(),
                },
                interpreters: args.clone(),
                args,
                cwd,
                inherited: Vec::new(),
                result,
                truncated: true,
            }))
        }),
        call.prop_map(
            |(call, path, to, result)| TraceEventKind::File(Box::new(FileCall {
                call,
                operation: FileOperation::Rename,
                path,
                to,
                access: Some(READ),
                result,
                file: None,
            }))
        ),
        network.prop_map(|(name, ip, port, result)| {
            let address = match port % 3 {
                0 => Address::UnixAbstract(name),
                1 => Address::Ip {
                    ip: ip.into(),
                    port,
                },
                _ => Address::Unix(name),
            };
            TraceEventKind::Network(Box::new(NetworkCall {
                call: "bind".to_owned(),
                operation: NetworkOperation::Bind,
                fd: -1,
                address: Some(address),
                reach: Reach::Outside,
                result,
            }))
        }),
        any::<i32>().prop_map(|code| exited(Exit::Code(code))),
        Just(TraceEventKind::ThreadEnded),
        ".*".prop_map(|missing| TraceEventKind::Doubt(Doubt::Backend(missing))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_recorded_is_read_back(
        events in prop::collection::vec(
            (any::<u32>(), any::<i32>(), any::<i32>(), kind()).prop_map(
                |(millis, pid, tid, kind)| TraceEvent {
                    at: Duration::from_millis(millis.into()),
                    pid,
                    tid,
                    kind,
                },
            ),
            1..200,
        ),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.trace");
        let mut recorder = recorder(Some(&path));
        for event in &events {
            recorder.event(event);
        }
        let summary = recorder.summary();
        recorder.complete().unwrap();
        let mut reader = Reader::open(&path).unwrap();
        let read: Vec<_> = reader.by_ref().collect();
        prop_assert_eq!(&read, &events);
        let Some(Ending::Complete(trailer)) = reader.ending() else {
            panic!("the file is complete");
        };
        prop_assert_eq!(&trailer.counts, &summary.counts);
        let json = serde_json::to_string(&summary).unwrap();
        prop_assert_eq!(serde_json::from_str::<TraceSummary>(&json).unwrap(), summary);
    }
}

/// Measures; compare in release mode: `cargo test --release -p harness-runner --lib -- --ignored
/// --nocapture the_cost_of`.
#[test]
#[ignore = "it measures"]
fn the_cost_of_a_small_attempt() {
    const ATTEMPTS: u32 = 2_000;
    let folder = tempfile::tempdir().unwrap();
    for (what, with_file, count) in [
        ("summary and file, 15 events", true, 15_u64),
        ("summary only, 15 events", false, 15),
        ("summary and file, 500 events", true, 500),
    ] {
        let names = (0..count).map(|number| format!("/usr/lib/x86_64-linux-gnu/file-{number}"));
        let events: Vec<_> = names
            .zip(0..)
            .map(|(name, at)| event(ROOT, at, open(&name, CallResult::Found)))
            .collect();
        let start = std::time::Instant::now();
        for number in 0..ATTEMPTS {
            let path = folder.path().join(format!("{number}.trace"));
            let mut recorder = recorder(with_file.then_some(&path));
            for event in &events {
                recorder.event(event);
            }
            std::hint::black_box(recorder.summary());
            recorder.complete().unwrap();
        }
        eprintln!("{what}: {:?} an attempt", start.elapsed() / ATTEMPTS);
    }
}
