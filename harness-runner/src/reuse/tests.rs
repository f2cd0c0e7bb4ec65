//! A pass, from the events of a trace to the decision about it, in a world of the tests' own.

use super::{
    choose::{self, Candidate, Since},
    decide::{self, Changed, Decision, Limits, Why},
    digests::Digest,
    inputs::Inputs,
    key::{Key, Surroundings, Value},
    ledger::{Distrust, Ledger, Pass, Stored},
    looks::Looks,
    programs::Programs,
    settle::{Settled, settle},
    state::{Here, Look, State, World, nearest},
    times::{Clock, now},
};
use crate::sys::Identity;
use camino::Utf8Path;
use harness_metadata::{
    RunId, TestId, TraceEvent, TraceEventKind,
    trace::{
        Access, Address, CallResult, Doubt, Exec, FileCall, FileId, FileOperation, NetworkCall,
        NetworkOperation, Reach, TracedPath,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

/// When the test begins.
const BEGAN: Duration = Duration::from_secs(1_000);
/// A time long before.
const OLD: i64 = 500;

fn no_programs() -> Programs {
    Programs::none(Utf8Path::new("/nowhere"))
}

/// Decides where nothing is known of functions.
fn decide(stored: &Stored, key: &Key, limits: Limits, world: &mut dyn World) -> Decision {
    let test = candidate("a").test;
    decide::decide(stored, (key, &test), limits, world, &mut no_programs())
}

fn choose(
    ledger: &Ledger,
    candidates: &[Candidate],
    limits: Limits,
    here: &mut Here,
) -> Vec<Decision> {
    choose::choose(ledger, candidates, limits, here, &mut no_programs())
}

fn affected(ledger: &Ledger, candidates: &[Candidate], since: &Since) -> Vec<Decision> {
    choose::affected(ledger, candidates, since, &mut no_programs())
}

#[derive(Clone, Debug)]
struct File {
    /// `None` for a folder.
    content: Option<Vec<u8>>,
    mode: u32,
    identity: Identity,
}

/// Files in memory.
#[derive(Clone, Debug, Default)]
struct Memory {
    files: BTreeMap<Vec<u8>, File>,
    inodes: u64,
}

impl Memory {
    fn new() -> Self {
        let mut memory = Self::default();
        for folder in ["/ws", "/tmp"] {
            memory.put(folder, None, OLD);
        }
        memory
    }

    fn put(&mut self, path: &str, content: Option<&str>, at: i64) -> FileId {
        self.inodes += 1;
        let identity = Identity {
            device: 1,
            inode: self.inodes,
            size: 0,
            modified: (at, 0),
            changed: (at, 0),
        };
        let file = File {
            content: content.map(|text| text.as_bytes().to_vec()),
            mode: 0o644,
            identity,
        };
        self.files.insert(path.as_bytes().to_vec(), file);
        FileId {
            device: 1,
            inode: self.inodes,
            directory: content.is_none(),
        }
    }

    fn file(&mut self, path: &str, content: &str) -> FileId {
        self.put(path, Some(content), OLD)
    }

    fn edit(&mut self, path: &str, content: &str) {
        self.put(path, Some(content), OLD);
    }

    fn change(&mut self, path: &str, with: impl FnOnce(&mut File)) {
        with(self.files.get_mut(path.as_bytes()).expect("it is there"));
    }

    fn remove(&mut self, path: &str) {
        self.files.remove(path.as_bytes());
    }
}

impl World for Memory {
    fn look(&mut self, path: &[u8]) -> Look {
        let Some(file) = self.files.get(path) else {
            let is_there = |folder: &[u8]| self.files.contains_key(folder);
            return Look::nothing(State::Absent {
                nearest: nearest(path, &is_there),
            });
        };
        let mode = file.mode;
        let state = match &file.content {
            Some(content) => State::File {
                link: None,
                mode,
                size: content.len() as u64,
                digest: Some(Digest::of(content)),
            },
            None => State::Folder { link: None, mode },
        };
        Look {
            state,
            files: vec![file.identity],
            prompt: true,
        }
    }

    fn list(&mut self, path: &[u8]) -> Look {
        let Look { files, .. } = self.look(path);
        let prefix = [path, b"/"].concat();
        let names = self.files.keys().filter(|name| name.starts_with(&prefix));
        let names: Vec<u8> = names.flatten().copied().collect();
        Look {
            state: State::Names(Digest::of(&names)),
            files,
            prompt: true,
        }
    }
}

fn event(kind: TraceEventKind) -> TraceEvent {
    TraceEvent {
        at: Duration::ZERO,
        pid: 10,
        tid: 10,
        kind,
    }
}

fn path(path: &str) -> TracedPath {
    TracedPath {
        asked: path.into(),
        absolute: None,
    }
}

fn call(operation: FileOperation, at: &str, result: CallResult) -> FileCall {
    FileCall {
        call: "call".to_owned(),
        operation,
        path: path(at),
        to: None,
        access: None,
        result,
        file: None,
    }
}

fn did(operation: FileOperation, at: &str) -> TraceEvent {
    event(TraceEventKind::File(Box::new(call(
        operation,
        at,
        CallResult::Ok(0),
    ))))
}

fn failed(operation: FileOperation, at: &str, errno: i32) -> TraceEvent {
    event(TraceEventKind::File(Box::new(call(
        operation,
        at,
        CallResult::Err(errno),
    ))))
}

fn opened(at: &str, file: Option<FileId>, access: Access) -> TraceEvent {
    let mut call = call(FileOperation::Open, at, CallResult::Ok(3));
    (call.file, call.access) = (file, Some(access));
    event(TraceEventKind::File(Box::new(call)))
}

fn read(at: &str, file: FileId) -> TraceEvent {
    let access = Access {
        read: true,
        ..Access::default()
    };
    opened(at, Some(file), access)
}

const WRITE: Access = Access {
    read: false,
    write: true,
    create: true,
    exclusive: false,
    truncate: false,
    unnamed: false,
    directory: false,
    path_only: false,
};

const REPLACE: Access = Access {
    truncate: true,
    ..WRITE
};

fn executed(program: &str, interpreters: &[&str]) -> TraceEvent {
    event(TraceEventKind::Exec(Box::new(Exec {
        program: path(program),
        interpreters: interpreters.iter().map(|it| (*it).into()).collect(),
        result: CallResult::Ok(0),
        ..Exec::default()
    })))
}

fn key() -> Key {
    let around = [
        ("variable HOME", Value::Hidden(Digest::of(b"/root"))),
        ("kernel", Value::Plain("6.8".to_owned())),
    ];
    let around = around.map(|(name, value)| (name.to_owned(), value));
    Key {
        harness: "1".to_owned(),
        binary: Digest::of(b"binary"),
        command: Digest::of(b"command"),
        surroundings: Arc::new(Surroundings(around.into())),
    }
}

const LIMITS: Limits = Limits {
    now: Duration::from_secs(2_000),
    lifetime: Duration::from_secs(10_000),
};

fn pass(settled: Settled) -> Pass {
    Pass {
        key: key(),
        settled,
        entered: Vec::new(),
        run: RunId(uuid::Uuid::nil()),
        at: BEGAN,
        elapsed: Duration::from_secs(1),
    }
}

fn stored(settled: Settled) -> Stored {
    Stored {
        passes: vec![pass(settled)],
        ..Stored::default()
    }
}

fn settled(world: &mut Memory, events: Vec<TraceEvent>) -> Result<Settled, String> {
    settle(&Inputs::of(10, events.into_iter()), BEGAN, world)
}

/// Returns the decision about a test that did this, after the world has changed like that.
fn after(mut world: Memory, events: Vec<TraceEvent>, change: impl FnOnce(&mut Memory)) -> Decision {
    let settled = settled(&mut world, events).expect("it is known what it rests on");
    change(&mut world);
    decide(&stored(settled), &key(), LIMITS, &mut world)
}

fn is_reused(decision: &Decision) -> bool {
    matches!(decision, Decision::Reuse(_))
}

fn changed_input(decision: &Decision) -> String {
    match decision {
        Decision::Run(why) => match &**why {
            Why::Differs(Changed::Input { path, .. } | Changed::Output { path, .. }) => {
                String::from_utf8_lossy(path).into_owned()
            }
            why => panic!("{why:?}"),
        },
        decision @ Decision::Reuse(_) => panic!("{decision:?}"),
    }
}

fn later(file: &mut File) {
    file.identity.modified = (1_500, 0);
    file.identity.changed = (1_500, 0);
}

#[test]
fn a_pass_counts_as_long_as_the_content_of_what_was_read_is_the_same() {
    let mut world = Memory::new();
    let file = world.file("/ws/data", "old");
    let events = || vec![read("/ws/data", file)];
    let touched = after(world.clone(), events(), |world| {
        world.change("/ws/data", later)
    });
    assert!(is_reused(&touched), "{touched:?}");
    let changed = after(world.clone(), events(), |world| {
        world.edit("/ws/data", "new");
    });
    assert_eq!(changed_input(&changed), "/ws/data");
    let mode = after(world.clone(), events(), |world| {
        world.change("/ws/data", |file| file.mode = 0o755);
    });
    assert_eq!(changed_input(&mode), "/ws/data");
    let gone = after(world, events(), |world| world.remove("/ws/data"));
    assert_eq!(changed_input(&gone), "/ws/data");
}

#[test]
fn a_name_that_was_not_there_counts_with_the_nearest_folder() {
    let world = Memory::new();
    let events = || vec![failed(FileOperation::Stat, "/ws/a/config", libc::ENOENT)];
    assert!(is_reused(&after(world.clone(), events(), |_| ())));
    let appeared = after(world.clone(), events(), |world| {
        world.put("/ws/a", None, OLD);
        world.file("/ws/a/config", "");
    });
    assert_eq!(changed_input(&appeared), "/ws/a/config");
    let folder = after(world, events(), |world| {
        world.put("/ws/a", None, OLD);
    });
    assert_eq!(changed_input(&folder), "/ws/a/config");
}

#[test]
fn names_in_a_folder_count_if_they_were_listed() {
    let mut world = Memory::new();
    world.file("/ws/one", "");
    let listed = || vec![did(FileOperation::List, "/ws")];
    let more = |world: &mut Memory| world.edit("/ws/two", "");
    assert!(is_reused(&after(world.clone(), listed(), |world| {
        world.file("/ws/one", "other");
    })));
    assert_eq!(changed_input(&after(world.clone(), listed(), more)), "/ws");
    let asked = vec![did(FileOperation::Stat, "/ws")];
    assert!(is_reused(&after(world, asked, more)));
}

#[test]
fn programs_and_their_interpreters_are_inputs() {
    let mut world = Memory::new();
    world.file("/ws/script", "#!/ws/sh");
    world.file("/ws/sh", "shell");
    world.file("/ws/ld.so", "loader");
    let events = || vec![executed("/ws/script", &["/ws/sh", "/ws/ld.so"])];
    for file in ["/ws/script", "/ws/sh", "/ws/ld.so"] {
        let changed = after(world.clone(), events(), |world| world.edit(file, "new"));
        assert_eq!(changed_input(&changed), file);
    }
    assert!(is_reused(&after(world, events(), |_| ())));
}

#[test]
fn what_a_test_makes_itself_is_no_input() {
    let mut world = Memory::new();
    let own = world.file("/tmp/x/a", "own");
    world.remove("/tmp/x/a");
    let events = vec![
        did(FileOperation::MakeDirectory, "/tmp/x"),
        opened("/tmp/x/a", None, REPLACE),
        read("/tmp/x/a", own),
        failed(FileOperation::Stat, "/tmp/x/b", libc::ENOENT),
        did(FileOperation::Remove, "/tmp/x/a"),
        did(FileOperation::RemoveDirectory, "/tmp/x"),
    ];
    assert!(is_reused(&after(world.clone(), events.clone(), |_| ())));
    // It could not be made again.
    let there = after(world, events, |world| {
        world.put("/tmp/x", None, OLD);
    });
    assert_eq!(changed_input(&there), "/tmp/x");
}

#[test]
fn what_a_test_leaves_has_to_be_as_it_was_left() {
    let mut world = Memory::new();
    world.put("/ws/out", Some("result"), 1_001);
    let events = || vec![opened("/ws/out", None, REPLACE)];
    assert!(is_reused(&after(world.clone(), events(), |_| ())));
    let changed = after(world.clone(), events(), |world| {
        world.edit("/ws/out", "edited");
    });
    assert_eq!(changed_input(&changed), "/ws/out");
    let gone = after(world, events(), |world| world.remove("/ws/out"));
    assert_eq!(changed_input(&gone), "/ws/out");
}

#[test]
fn own_links_lead_to_inputs() {
    let mut world = Memory::new();
    let file = world.file("/ws/data", "old");
    let mut link = call(
        FileOperation::SymbolicLink,
        "/tmp/x/link",
        CallResult::Ok(0),
    );
    link.to = Some(path("/ws"));
    let events = vec![
        did(FileOperation::MakeDirectory, "/tmp/x"),
        event(TraceEventKind::File(Box::new(link))),
        read("/tmp/x/link/data", file),
        did(FileOperation::Remove, "/tmp/x/link"),
        did(FileOperation::RemoveDirectory, "/tmp/x"),
    ];
    let changed = after(world, events, |world| world.edit("/ws/data", "new"));
    assert_eq!(changed_input(&changed), "/ws/data");
}

#[test]
fn a_pass_is_refused_if_its_inputs_are_not_known() {
    let mut world = Memory::new();
    let file = world.file("/ws/data", "old");
    let other = FileId {
        inode: 4711,
        ..file
    };
    let socket = |reach| {
        event(TraceEventKind::Network(Box::new(NetworkCall {
            call: "connect".to_owned(),
            operation: NetworkOperation::Connect,
            fd: 3,
            address: Some(Address::Ip {
                ip: [127, 0, 0, 1].into(),
                port: 80,
            }),
            reach,
            result: CallResult::Ok(0),
        })))
    };
    let mut renamed = call(FileOperation::Rename, "/ws/data", CallResult::Ok(0));
    renamed.to = Some(path("/ws/other"));
    let unknown = call(FileOperation::Stat, "/ws/data", CallResult::Unknown);
    let file_call = |call: FileCall| event(TraceEventKind::File(Box::new(call)));
    let cases = [
        (vec![read("/ws/data", other)], "another file"),
        (vec![read("/ws/gone", file)], "is not now"),
        (
            vec![failed(FileOperation::Stat, "/ws/data", libc::ENOENT)],
            "and is now",
        ),
        (
            vec![
                failed(FileOperation::Stat, "/ws/data", libc::ENOENT),
                read("/ws/data", file),
            ],
            "by others while it ran",
        ),
        (
            vec![read("/ws/data", file), opened("/ws/data", None, REPLACE)],
            "then replaces",
        ),
        (vec![did(FileOperation::Remove, "/ws/data")], "removes"),
        (vec![did(FileOperation::Truncate, "/ws/data")], "cuts"),
        (
            vec![did(FileOperation::ChangeMetadata, "/ws/data")],
            "metadata",
        ),
        (vec![file_call(renamed)], "renames"),
        (vec![file_call(unknown)], "is not known"),
        (vec![socket(Reach::Machine)], "connected to"),
        (vec![socket(Reach::Outside)], "connected to"),
        (
            vec![event(TraceEventKind::Doubt(Doubt::IoUring))],
            "io_uring",
        ),
        (vec![did(FileOperation::Stat, "/dev/tty")], "/dev/tty"),
        (
            vec![did(FileOperation::Stat, "/proc/loadavg")],
            "/proc/loadavg",
        ),
        (vec![did(FileOperation::Stat, "data")], "relative"),
        (
            vec![failed(
                FileOperation::Stat,
                "/ws/link/../data2",
                libc::ENOENT,
            )],
            "`..`",
        ),
        (
            vec![
                did(FileOperation::MakeDirectory, "/tmp/x"),
                read("/tmp/x/data", file),
            ],
            "by others",
        ),
    ];
    for (events, expected) in cases {
        let error = settled(&mut world, events).expect_err(expected);
        assert!(error.contains(expected), "{error}: {expected}");
    }
    assert!(settled(&mut world, vec![socket(Reach::Tree)]).is_ok());
    let no_terminal = vec![failed(FileOperation::Open, "/dev/tty", libc::ENXIO)];
    assert!(settled(&mut world, no_terminal).is_ok());
}

#[test]
fn a_file_that_is_as_young_as_the_test_is_no_known_input() {
    let mut world = Memory::new();
    let events = |file| vec![read("/ws/data", file)];
    let young = world.put("/ws/data", Some("new"), 1_000);
    let error = settled(&mut world, events(young)).expect_err("it is too young");
    assert_eq!(error, "`/ws/data` was changed when it began or later");
    // The content may be set back in time, the change of the file cannot.
    world.change("/ws/data", |file| file.identity.modified = (OLD, 0));
    assert!(settled(&mut world, events(young)).is_err());
    let list = vec![did(FileOperation::List, "/ws")];
    assert!(settled(&mut world, list.clone()).is_ok());
    world.change("/ws", later);
    assert!(settled(&mut world, list).is_err());
    let write = vec![opened("/ws/data", Some(young), WRITE)];
    let error = settled(&mut world, write).expect_err("it has been written to");
    assert_eq!(error, "it writes to `/ws/data`, which was there before it");
}

#[test]
fn a_clock_that_was_set_is_noticed() {
    let secs = Duration::from_secs;
    let before = Clock::at(secs(1_000), secs(10));
    assert!(before.went_on_until(Clock::at(secs(1_060), secs(70))));
    assert!(!before.went_on_until(Clock::at(secs(1_059), secs(70))));
    assert!(!before.went_on_until(Clock::at(secs(5_000), secs(70))));
    assert!(!before.went_on_until(Clock::at(secs(900), secs(70))));
}

#[test]
fn the_key_comes_before_the_inputs() {
    let mut world = Memory::new();
    let stored = stored(Settled::default());
    let mut why = |key: &Key| match decide(&stored, key, LIMITS, &mut world) {
        Decision::Run(why) => *why,
        Decision::Reuse(_) => panic!("{key:?}"),
    };
    let mut other = key();
    other.binary = Digest::of(b"another");
    assert!(matches!(why(&other), Why::Differs(Changed::Binary { .. })));
    other = key();
    other.command = Digest::of(b"another");
    assert!(matches!(why(&other), Why::Differs(Changed::Command)));
    other = key();
    other.harness = "2".to_owned();
    assert!(matches!(why(&other), Why::Differs(Changed::Harness { .. })));
    other = key();
    Arc::make_mut(&mut other.surroundings)
        .0
        .insert("variable NEW".to_owned(), Value::Plain("1".to_owned()));
    assert!(matches!(
        why(&other),
        Why::Differs(Changed::Surroundings { name, before: None, .. }) if name == "variable NEW"
    ));
    for (now, counts) in [(2_000, true), (12_000, false), (900, false)] {
        let limits = Limits {
            now: Duration::from_secs(now),
            ..LIMITS
        };
        let decision = decide(&stored, &key(), limits, &mut world);
        assert_eq!(is_reused(&decision), counts, "{now}");
    }
}

#[test]
fn distrust_ends_with_another_binary() {
    let mut world = Memory::new();
    let mut stored = stored(Settled::default());
    stored.distrust = Some(Distrust {
        reason: "it is flaky".to_owned(),
        binary: key().binary,
    });
    let decision = decide(&stored, &key(), LIMITS, &mut world);
    assert!(matches!(decision, Decision::Run(why) if matches!(*why, Why::Distrusted(_))));
    stored.distrust = Some(Distrust {
        reason: "it was flaky".to_owned(),
        binary: Digest::of(b"another"),
    });
    assert!(is_reused(&decide(&stored, &key(), LIMITS, &mut world)));
}

#[test]
fn a_pass_of_another_branch_is_found_again() {
    let mut world = Memory::new();
    let file = world.file("/ws/data", "one");
    let one = settled(&mut world, vec![read("/ws/data", file)]).expect("it is known");
    let file = world.file("/ws/data", "two");
    let two = settled(&mut world, vec![read("/ws/data", file)]).expect("it is known");
    let mut stored = stored(one);
    stored.add(pass(two));
    world.file("/ws/data", "one");
    assert!(is_reused(&decide(&stored, &key(), LIMITS, &mut world)));
    world.file("/ws/data", "three");
    assert_eq!(
        changed_input(&decide(&stored, &key(), LIMITS, &mut world)),
        "/ws/data"
    );
}

fn test(name: &str) -> TestId {
    TestId {
        binary: nextest_metadata::RustBinaryId::new("crate"),
        name: nextest_metadata::TestCaseName::new(name),
    }
}

fn candidate(name: &str) -> Candidate {
    Candidate {
        test: test(name),
        key: Ok(key()),
    }
}

#[test]
fn a_test_runs_if_another_one_runs_that_changes_what_it_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    let shared = folder.path().join("shared");
    let shared = shared.to_str().expect("UTF-8");
    let store = Utf8Path::from_path(folder.path()).expect("UTF-8");
    let mut here = Here::default();
    let events = [failed(FileOperation::Stat, shared, libc::ENOENT)];
    let inputs = Inputs::of(10, events.into_iter());
    let reads = settle(&inputs, BEGAN, &mut here).expect("it is known");
    let mut ledger = Ledger::empty(store);
    let writer = Stored {
        changes: vec![shared.as_bytes().to_vec()],
        refused: Some("it removes it".to_owned()),
        ..Stored::default()
    };
    ledger.tests.insert(test("reader"), stored(reads));
    let both = [candidate("reader"), candidate("writer")];
    let decisions = choose(&ledger, &both, LIMITS, &mut here);
    assert!(is_reused(&decisions[0]), "{decisions:?}");
    ledger.tests.insert(test("writer"), writer);
    let decisions = choose(&ledger, &both, LIMITS, &mut here);
    let Decision::Run(why) = &decisions[0] else {
        panic!("{decisions:?}");
    };
    assert!(matches!(&**why, Why::Entangled { with, .. } if *with == test("writer")));
    // The writer does not run.
    let decisions = choose(&ledger, &both[..1], LIMITS, &mut here);
    assert!(is_reused(&decisions[0]), "{decisions:?}");
}

#[test]
fn a_changed_file_affects_the_tests_that_asked_for_it() {
    let mut world = Memory::new();
    let file = world.file("/ws/data", "old");
    let events = vec![
        read("/ws/data", file),
        did(FileOperation::List, "/ws"),
        failed(FileOperation::Stat, "/ws/x/y", libc::ENOENT),
    ];
    let rests_on = settled(&mut world, events).expect("it is known");
    let mut ledger = Ledger::empty(Utf8Path::new("/nowhere"));
    ledger.tests.insert(test("a"), stored(rests_on));
    let is_affected = |path: &str| {
        let since = Since {
            paths: BTreeSet::from([PathBuf::from(path)]),
            all: None,
        };
        !is_reused(&affected(&ledger, &[candidate("a")], &since)[0])
    };
    assert!(is_affected("/ws/data"));
    // A new name in a folder whose names were read.
    assert!(is_affected("/ws/new"));
    assert!(is_affected("/ws/x"));
    assert!(!is_affected("/ws/sub/new"));
    assert!(!is_affected("/other"));
    let unknown = affected(
        &ledger,
        &[candidate("b")],
        &Since {
            paths: BTreeSet::new(),
            all: None,
        },
    );
    assert!(!is_reused(&unknown[0]));
}

#[test]
fn a_changed_file_affects_the_tests_that_reach_it_by_a_link() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().canonicalize().expect("it is there");
    std::fs::create_dir(root.join("real")).expect("it can be made");
    std::os::unix::fs::symlink("real", root.join("link")).expect("it can be made");
    let asked = root.join("link/data");
    let asked = asked.to_str().expect("UTF-8");
    let mut world = Memory::new();
    let file = world.file(asked, "old");
    let rests_on = settled(&mut world, vec![read(asked, file)]).expect("it is known");
    let mut ledger = Ledger::empty(Utf8Path::new("/nowhere"));
    ledger.tests.insert(test("a"), stored(rests_on));
    for (name, expected) in [("real/data", true), ("link", true), ("real/other", false)] {
        let since = Since {
            paths: BTreeSet::from([root.join(name)]),
            all: None,
        };
        let decision = &affected(&ledger, &[candidate("a")], &since)[0];
        assert_eq!(!is_reused(decision), expected, "{name}");
    }
}

#[test]
fn a_look_for_one_test_counts_for_another_unless_the_file_is_another_at_the_end() {
    let mut world = Memory::new();
    world.file("/ws/data", "old");
    let mut looks = Looks::default();
    let paths: [&[u8]; 3] = [b"/ws/data", b"/ws/absent", b"/ws"];
    let first = paths.map(|path| looks.of_test(&mut world).look(path));
    assert!(looks.changed(&mut world).is_empty());
    world.file("/ws/data", "new");
    world.file("/ws/absent", "");
    let second = paths.map(|path| looks.of_test(&mut world).look(path));
    assert_eq!(first[..2], second[..2]);
    let changed: Vec<Vec<u8>> = looks.changed(&mut world).into_iter().collect();
    assert_eq!(changed, [b"/ws/absent".to_vec(), b"/ws/data".to_vec()]);
}

#[test]
fn a_look_at_a_file_that_has_just_changed_counts_for_one_test() {
    let mut world = Memory::new();
    let just = i64::try_from(now().as_secs()).expect("it is not that late");
    world.put("/ws/data", Some("old"), just);
    let mut looks = Looks::default();
    let first = looks.of_test(&mut world).look(b"/ws/data");
    // Within one step of the file system's times.
    let file = world.files.get_mut(b"/ws/data".as_slice());
    file.expect("it is there").content = Some(b"new".to_vec());
    assert_ne!(looks.of_test(&mut world).look(b"/ws/data"), first);
}

#[test]
fn a_ledger_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Utf8Path::from_path(folder.path()).expect("UTF-8");
    let mut world = Memory::new();
    let file = world.file("/ws/data", "old");
    let rests_on = settled(&mut world, vec![read("/ws/data", file)]).expect("it is known");
    let mut entry = stored(rests_on);
    entry.changes = vec![b"/ws/out".to_vec()];
    entry.distrust = Some(Distrust {
        reason: "it is flaky".to_owned(),
        binary: Digest::of(b"other"),
    });
    // Two runs at once add to each other.
    for name in ["a", "b"] {
        Ledger::update(store, |ledger| {
            ledger.tests.insert(test(name), entry.clone());
        })
        .expect("it can be written");
    }
    let ledger = Ledger::load(store).expect("it can be read");
    assert_eq!(ledger.tests.len(), 2);
    assert_eq!(ledger.tests[&test("a")], entry);
    let path = super::folder(store).join("ledger");
    let bytes = std::fs::read(&path).expect("it is there");
    let mut other = bytes.clone();
    other[8] += 1;
    std::fs::write(&path, other).expect("it can be written");
    let error = Ledger::load(store).expect_err("it is of another version");
    assert!(error.to_string().contains("another version"), "{error}");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("it can be written");
    let error = Ledger::load(store).expect_err("it is cut short");
    assert!(error.to_string().contains("is damaged"), "{error}");
}
