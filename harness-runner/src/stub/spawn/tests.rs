//! The replayed work of dynamic loaders equals the traced one: see [`loads`](crate::tracer::loads).
//! Each test runs a program several times through one spawner.

mod descendants;
mod execs;

use super::*;
use crate::{
    protocol::Trace,
    sys::{Blocked, WaitAny, Waited},
    sys::{Tid, kill},
    tracer::{Observer, loads::Known},
};
use harness_metadata::{
    TraceEvent, TraceEventKind,
    trace::{CallResult, Doubt, Exec, FileCall, Sender},
};
use nix::sys::signal::Signal;
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

const EMPTY: &str = "int main(void) { return 0; }";

/// A program that needs a library that is in one of the folders `first` and `second`.
const USES_LIBRARY: &str = "int answer(void); int main(void) { return answer(); }";

/// A slot: a folder for programs and a spawner that starts them.
struct Slot {
    folder: TempDir,
    spawner: Spawner,
    level: TraceLevel,
    /// Variables that programs are started with.
    environment: String,
}

/// The trace of an attempt.
struct Seen {
    /// Whether it was known beforehand what its loader would do.
    known: bool,
    exit: Exit,
    /// The events, without the parts that differ from attempt to attempt.
    events: Vec<String>,
    files: Vec<FileCall>,
    execs: Vec<Exec>,
    doubts: Vec<Doubt>,
}

impl Slot {
    fn new(level: TraceLevel) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        for name in ["first", "second"] {
            fs::create_dir(folder.path().join(name)).expect("a folder can be made");
        }
        let path = folder.path().display();
        Self {
            environment: format!("LD_LIBRARY_PATH={path}/first:{path}/second\0"),
            folder,
            spawner: Spawner::new(Loaders::Remembered).expect("a spawner can be made"),
            level,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Compiles a program, and waits until another change of a file would show.
    fn compile(&self, name: &str, source: &str, args: &[&str]) -> PathBuf {
        let (file, out) = (
            self.path(&format!("{}.c", name.replace('/', "-"))),
            self.path(name),
        );
        fs::write(&file, source).expect("it can be written");
        let mut cc = Command::new("cc");
        cc.arg(&file).arg("-o").arg(&out).args(args);
        // The linker needs them when it looks for what a library needs.
        cc.current_dir(&self.folder);
        assert!(cc.status().expect("cc starts").success(), "{name}");
        self.settle(&out);
        out
    }

    /// Waits until a file is no longer too new to be remembered.
    fn settle(&self, file: &Path) {
        let changed = fs::metadata(file).expect("it is there");
        let changed = Duration::new(changed.ctime() as u64, changed.ctime_nsec() as u32);
        let settled = UNIX_EPOCH + changed + Duration::from_millis(40);
        while SystemTime::now() < settled {
            std::thread::yield_now();
        }
    }

    /// Writes a script.
    fn script(&self, line: &str) -> PathBuf {
        let script = self.path("script");
        // By another process: what another test forks meanwhile would have our descriptor, too, and a
        // file that is open for writing is not executed (ETXTBSY, execve(2)).
        let write = format!("printf '#!/bin/sh\\n{line}\\n' > \"$0\" && chmod 755 \"$0\"");
        let written = Command::new("sh")
            .args(["-c", &write])
            .arg(&script)
            .status();
        assert!(written.expect("sh starts").success());
        self.settle(&script);
        script
    }

    /// Compiles the library that [`USES_LIBRARY`] needs.
    fn compile_library(&self, folder: &str, source: &str) {
        self.compile(
            &format!("{folder}/libanswer.so"),
            source,
            &["-shared", "-fPIC"],
        );
    }

    fn run(&mut self, program: &Path) -> Seen {
        self.run_and(program, |_| ())
    }

    /// Runs a program, and does something with the id of each process that has executed one.
    fn run_and(&mut self, program: &Path, mut executed: impl FnMut(sys::Pid)) -> Seen {
        let terminated = [program.as_os_str().as_bytes(), b"\0"].concat();
        let cwd = [self.folder.path().as_os_str().as_bytes(), b"\0"].concat();
        let trace = Trace {
            level: self.level,
            backend: Backend::Ptrace,
            ..Trace::LIFECYCLE
        };
        let spawn = Spawn {
            ticket: 0,
            command: crate::protocol::RawCommand {
                program: &terminated,
                args: &terminated,
                environment: self.environment.as_bytes(),
                cwd: &cwd,
            },
            trace,
            foreground: false,
            cgroup: crate::protocol::Cgroup::default(),
            image: None,
            farewell: None,
            policy: &[],
            inject: &[],
            entries: None,
        };
        let null = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .expect("it is there");
        let stdio = [0; 3].map(|_| null.try_clone().expect("a descriptor can be copied").into());
        let way = Way::choose(&trace, &crate::protocol::Available::default());
        let path = without_nul(&terminated);
        let cwd = without_nul(&cwd);
        let key = Key::of_root(
            path,
            cwd,
            self.environment.as_bytes(),
            self.level,
            trace.no_new_privs,
        );
        let known = key.and_then(|key| self.spawner.loads.borrow_mut().of(&key));
        let manner = Manner {
            mask: Blocked::new().before(),
            own_group: true,
            seized_or_killed: true,
            remembers: self.spawner.loaders == Loaders::Remembered,
        };
        let started = self.spawner.create(&spawn, &stdio, &way, None, manner);
        let Ok(Started {
            pid,
            traced: Traced::Ptrace(mut tasks),
            ..
        }) = started
        else {
            panic!("{} could not be started and seized", program.display());
        };
        let mut all = Vec::new();
        let mut observer = |event: &TraceEvent| {
            if matches!(event.kind, TraceEventKind::Exec(_)) {
                executed(event.pid);
            }
            all.push(event.clone());
        };
        let mut ended = None;
        while let WaitAny::News {
            pid: task,
            waited,
            usage,
        } = sys::wait_for_own(true)
        {
            if let (Waited::Ended(exit), true) = (&waited, task == pid) {
                ended = Some(*exit);
            }
            tasks.handle(
                Tid::new(task),
                waited,
                usage,
                &mut observer as &mut dyn Observer,
            );
        }
        Seen {
            known: matches!(known, Some(Known::Yes(_))),
            exit: ended.expect("the root was a child of this thread"),
            events: told(&all),
            files: all
                .iter()
                .filter_map(|event| match &event.kind {
                    TraceEventKind::File(call) => Some(FileCall::clone(call)),
                    _ => None,
                })
                .collect(),
            execs: all
                .iter()
                .filter_map(|event| match &event.kind {
                    TraceEventKind::Exec(exec) => Some(Exec::clone(exec)),
                    _ => None,
                })
                .collect(),
            doubts: all
                .iter()
                .filter_map(|event| match &event.kind {
                    TraceEventKind::Doubt(doubt) => Some(doubt.clone()),
                    _ => None,
                })
                .collect(),
        }
    }
}

fn without_nul(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\0").unwrap_or(text)
}

/// Events without what differs from attempt to attempt. Ids are replaced as fields, by the order in
/// which they come: as text, a short one is also a part of an inode's number.
fn told(events: &[TraceEvent]) -> Vec<String> {
    let mut ids = Vec::new();
    let mut number = |id: &mut i32| {
        let known = ids.iter().position(|known| known == id);
        *id = known.unwrap_or_else(|| {
            ids.push(*id);
            ids.len() - 1
        }) as i32;
    };
    let told = |event: &TraceEvent| {
        let mut event = event.clone();
        event.at = Duration::ZERO;
        number(&mut event.pid);
        number(&mut event.tid);
        match &mut event.kind {
            TraceEventKind::Created(created) => number(&mut created.child),
            // Another file for everybody who asks.
            TraceEventKind::File(call)
                if call.path.asked.as_bytes().starts_with(b"/proc/self/") =>
            {
                (call.path.absolute, call.file) = (None, None);
            }
            TraceEventKind::Exited(exited) => {
                (exited.user, exited.system, exited.peak_memory) = Default::default();
            }
            TraceEventKind::Signal(signal) => {
                if let Sender::Tree(sender) = &mut signal.sender {
                    number(sender);
                }
            }
            _ => {}
        }
        format!("{event:?}")
    };
    events.iter().map(told).collect()
}

impl Seen {
    /// Calls that name this file.
    fn of(&self, path: &Path) -> Vec<&FileCall> {
        let path = path.as_os_str().as_bytes();
        let named = |call: &&FileCall| call.path.path().as_bytes() == path;
        self.files.iter().filter(named).collect()
    }

    fn assert_whole(&self) -> &Self {
        assert_eq!(self.doubts, []);
        self
    }
}

/// Runs a program three times. The events of the later attempts must equal those of the first.
fn assert_the_same_each_time(slot: &mut Slot, program: &Path, known: bool) -> Seen {
    let first = slot.run(program);
    first.assert_whole();
    assert!(!first.known);
    for _ in 0..2 {
        let later = slot.run(program);
        later.assert_whole();
        assert_eq!(later.known, known);
        assert_eq!(later.exit, first.exit);
        assert_eq!(later.events, first.events);
    }
    first
}

/// Whether there is a hook for loaders of this machine.
const HOOKED: bool = cfg!(target_arch = "x86_64");

#[test]
fn what_is_told_from_memory_is_what_was_seen() {
    for level in [TraceLevel::Io, TraceLevel::Full] {
        for args in [["-pie", "-fPIE"], ["-no-pie", "-fno-pie"]] {
            let mut slot = Slot::new(level);
            let program = slot.compile("empty", EMPTY, &args);
            let seen = assert_the_same_each_time(&mut slot, &program, HOOKED);
            assert!(
                !seen.of(&slot.path("first/libc.so.6")).is_empty(),
                "{:?}",
                seen.events
            );
        }
    }
}

#[test]
fn a_slot_that_remembers_no_loaders_sees_the_same() {
    for level in [TraceLevel::Io, TraceLevel::Full] {
        let mut remembers = Slot::new(level);
        let program = remembers.compile("empty", EMPTY, &[]);
        let first = remembers.run(&program);
        let told = remembers.run(&program);
        assert_eq!(told.known, HOOKED);
        let mut watches = Slot {
            spawner: Spawner::new(Loaders::Watched).expect("a spawner can be made"),
            ..remembers
        };
        for _ in 0..2 {
            let seen = watches.run(&program);
            assert!(!seen.known);
            assert_eq!(seen.events, first.events);
            assert_eq!(seen.events, told.events);
        }
    }
}

#[test]
fn the_variable_has_loaders_watched_unless_it_says_no() {
    let of = |value: Option<&str>| Loaders::from_value(value.map(OsStr::new));
    for value in [None, Some(""), Some("0"), Some("false")] {
        assert_eq!(of(value), Loaders::Remembered, "{value:?}");
    }
    assert_eq!(of(Some("1")), Loaders::Watched);
}

#[test]
fn a_program_without_a_loader_is_watched_each_time() {
    let mut slot = Slot::new(TraceLevel::Io);
    let source = "#include <fcntl.h>\nint main(void) { return open(\"missing\", O_RDONLY) != -1; }";
    let program = slot.compile("static", source, &["-static"]);
    let seen = assert_the_same_each_time(&mut slot, &program, false);
    assert_eq!(seen.of(&slot.path("missing")).len(), 1);
}

#[test]
fn a_script_is_watched_each_time() {
    let mut slot = Slot::new(TraceLevel::Full);
    let script = slot.script("exit 3");
    let seen = assert_the_same_each_time(&mut slot, &script, false);
    assert_eq!(seen.exit, Exit::Code(3));
}

#[test]
fn what_constructors_do_is_seen_each_time() {
    const OPENS: &str = "#include <fcntl.h>\n\
        __attribute__((constructor)) static void opens(void) { open(NAME, O_RDONLY); }\n";
    let mut slot = Slot::new(TraceLevel::Io);
    let library = format!("#define NAME \"by-library\"\n{OPENS} int answer(void) {{ return 0; }}");
    slot.compile_library("second", &library);
    let source = format!("#define NAME \"by-program\"\n{OPENS} {USES_LIBRARY}");
    let program = slot.compile("constructors", &source, &["-Lsecond", "-lanswer"]);
    for time in 0..3 {
        // What is asked for changes, so it cannot have been remembered.
        let file = slot.path("by-library");
        if time == 2 {
            fs::write(&file, "").expect("it can be written");
        }
        let seen = slot.run(&program);
        seen.assert_whole();
        assert_eq!(seen.known, HOOKED && time > 0);
        let expected = match time {
            2 => None,
            _ => Some(libc::ENOENT),
        };
        let [by_library] = seen.of(&file)[..] else {
            panic!("{:?}", seen.events);
        };
        assert_eq!(by_library.result.error(), expected);
        assert_eq!(seen.of(&slot.path("by-program")).len(), 1);
    }
}

#[test]
fn a_library_that_appears_is_seen() {
    let mut slot = Slot::new(TraceLevel::Io);
    slot.compile_library("second", "int answer(void) { return 2; }");
    let program = slot.compile("uses", USES_LIBRARY, &["-Lsecond", "-lanswer"]);
    let before = assert_the_same_each_time(&mut slot, &program, HOOKED);
    assert_eq!(before.exit, Exit::Code(2));

    slot.compile_library("first", "int answer(void) { return 1; }");
    let after = assert_the_same_each_time(&mut slot, &program, HOOKED);
    assert_eq!(after.exit, Exit::Code(1));
    let [found] = after.of(&slot.path("first/libanswer.so"))[..] else {
        panic!("{:?}", after.events);
    };
    assert_eq!(found.result.error(), None);
    assert!(after.of(&slot.path("second/libanswer.so")).is_empty());
}

#[test]
fn a_file_that_is_no_library_and_appears_is_seen() {
    let mut slot = Slot::new(TraceLevel::Io);
    let program = slot.compile("empty", EMPTY, &[]);
    let file = slot.path("first/libc.so.6");
    // The loader passes by what is for another kind of machine.
    let mut elsewhere = fs::read(&program).expect("it is there");
    elsewhere[18] = 0xff;
    let before = assert_the_same_each_time(&mut slot, &program, HOOKED);
    assert_eq!(before.of(&file)[0].result, CallResult::Err(libc::ENOENT));

    fs::write(&file, elsewhere).expect("it can be written");
    slot.settle(&file);
    let after = assert_the_same_each_time(&mut slot, &program, HOOKED);
    assert_eq!(after.exit, Exit::Code(0));
    assert_eq!(after.of(&file)[0].result.error(), None);
}

#[test]
fn a_library_that_appears_while_a_program_is_started_makes_its_trace_incomplete() {
    if !HOOKED {
        return;
    }
    let mut slot = Slot::new(TraceLevel::Io);
    slot.compile_library("second", "int answer(void) { return 2; }");
    slot.compile(
        "libother.so",
        "int answer(void) { return 1; }",
        &["-shared", "-fPIC"],
    );
    let program = slot.compile("uses", USES_LIBRARY, &["-Lsecond", "-lanswer"]);
    assert_the_same_each_time(&mut slot, &program, true);

    let (other, first) = (slot.path("libother.so"), slot.path("first/libanswer.so"));
    let surprised = slot.run_and(&program, |_| {
        fs::rename(&other, &first).expect("it can be moved");
    });
    slot.settle(&first);
    assert_eq!(surprised.exit, Exit::Code(1));
    assert!(surprised.known);
    let [Doubt::Backend(missing)] = &surprised.doubts[..] else {
        panic!("{:?}", surprised.doubts);
    };
    assert!(
        missing.contains("it loaded something else than before"),
        "{missing}"
    );
    assert_the_same_each_time(&mut slot, &program, true);
}

#[test]
fn a_changed_program_is_another_one() {
    let mut slot = Slot::new(TraceLevel::Io);
    let program = slot.compile("changes", EMPTY, &[]);
    assert_the_same_each_time(&mut slot, &program, HOOKED);
    let program = slot.compile("changes", "int main(void) { return 5; }", &[]);
    let seen = assert_the_same_each_time(&mut slot, &program, HOOKED);
    assert_eq!(seen.exit, Exit::Code(5));
}

#[test]
fn a_loader_with_more_to_heed_is_watched_each_time() {
    let mut slot = Slot::new(TraceLevel::Full);
    slot.compile("preloaded.so", "int preloaded;", &["-shared", "-fPIC"]);
    let preloaded = slot.path("preloaded.so");
    slot.environment = format!("LD_PRELOAD={}\0", preloaded.display());
    let program = slot.compile("empty", EMPTY, &[]);
    let seen = assert_the_same_each_time(&mut slot, &program, false);
    assert!(!seen.of(&preloaded).is_empty(), "{:?}", seen.events);
    slot.environment = "GLIBC_TUNABLES=glibc.malloc.check=1\0".to_owned();
    assert_the_same_each_time(&mut slot, &program, false);
}

#[test]
fn a_set_user_id_program_is_watched_each_time() {
    let mut slot = Slot::new(TraceLevel::Io);
    let program = slot.compile("empty", EMPTY, &[]);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("it is ours");
    slot.settle(&program);
    assert_the_same_each_time(&mut slot, &program, false);
}

#[test]
fn a_program_that_is_killed_in_its_loader_is_told_to_have_loaded() {
    let mut slot = Slot::new(TraceLevel::Io);
    let program = slot.compile("empty", EMPTY, &[]);
    let killed_by = |slot: &mut Slot, signal: Signal| {
        slot.run_and(&program, |pid| {
            kill(pid, signal as i32).expect("it is a child of ours");
        })
    };
    // One that is watched can be killed at any time.
    killed_by(&mut slot, Signal::SIGKILL).assert_whole();
    let first = assert_the_same_each_time(&mut slot, &program, HOOKED);
    // It takes effect when the program goes on.
    let killed = killed_by(&mut slot, Signal::SIGTERM);
    killed.assert_whole();
    if HOOKED {
        assert!(killed.known);
        assert_eq!(killed.files, first.files);
        let crashed = killed_by(&mut slot, Signal::SIGSEGV);
        let [Doubt::Backend(missing)] = &crashed.doubts[..] else {
            panic!("{:?}", crashed.doubts);
        };
        assert!(missing.contains("ended before it was done"), "{missing}");
    }
    assert_the_same_each_time(&mut slot, &program, HOOKED);
}

#[test]
fn a_program_that_is_signalled_in_its_loader_goes_on() {
    let mut slot = Slot::new(TraceLevel::Io);
    let program = slot.compile("empty", EMPTY, &[]);
    assert_the_same_each_time(&mut slot, &program, HOOKED);
    // Without a handler, it does nothing.
    let seen = slot.run_and(&program, |pid| {
        kill(pid, libc::SIGWINCH).expect("it is a child of ours");
    });
    assert_eq!(seen.known, HOOKED);
    assert_eq!(seen.exit, Exit::Code(0));
}

/// Ends with 0 if it finds itself, and the loader's code, as it would be unwatched.
///
/// Position-independent code has the loader's own `_r_debug`, not a copy of its beginnings.
const LOOKS: &str = "#include <fcntl.h>\n#include <link.h>\n#include <signal.h>\n\
    #include <string.h>\n#include <unistd.h>\n\
    int main(void) {\n\
        sigset_t blocked; struct sigaction trap; char code[16];\n\
        sigprocmask(SIG_SETMASK, NULL, &blocked);\n\
        sigaction(SIGTRAP, NULL, &trap);\n\
        for (int s = 1; s < 65; s++) if (sigismember(&blocked, s) == 1) return 1;\n\
        if (trap.sa_handler != SIG_DFL) return 2;\n\
        int loader = open(\"/lib64/ld-linux-x86-64.so.2\", O_RDONLY);\n\
        if (loader < 0) return 0;\n\
        pread(loader, code, sizeof code, _r_debug.r_brk - _r_debug.r_ldbase);\n\
        if (memcmp(code, (char *)_r_debug.r_brk, sizeof code)) return 3;\n\
        return _r_debug.r_state;\n\
    }";

#[test]
fn a_program_finds_itself_as_it_would_be_unwatched() {
    let mut slot = Slot::new(TraceLevel::Io);
    let program = slot.compile("looks", LOOKS, &["-fPIC"]);
    let seen = assert_the_same_each_time(&mut slot, &program, HOOKED);
    assert_eq!(seen.exit, Exit::Code(0));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn it_does_so_where_a_trap_cannot_look_whether_all_is_loaded() {
    crate::tracer::hook::PLAIN.set(true);
    a_program_finds_itself_as_it_would_be_unwatched();
}

#[test]
fn the_same_program_elsewhere_is_another_one() {
    let mut slot = Slot::new(TraceLevel::Io);
    let program = slot.compile("empty", EMPTY, &[]);
    assert_the_same_each_time(&mut slot, &program, HOOKED);
    slot.environment = "LD_LIBRARY_PATH=first:second\0".to_owned();
    let seen = assert_the_same_each_time(&mut slot, &program, HOOKED);
    assert!(
        !seen.of(&slot.path("first/libc.so.6")).is_empty(),
        "{:?}",
        seen.events
    );
    slot.level = TraceLevel::Full;
    assert_the_same_each_time(&mut slot, &program, HOOKED);
}
