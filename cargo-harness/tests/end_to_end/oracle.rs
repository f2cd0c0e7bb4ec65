//! strace as the oracle: at level `full`, what our tracer tells of a test's file calls is what
//! `strace -f` tells of the same test.
//!
//! The two cannot watch the same run, so names that differ from run to run are made equal first.

mod strace;

use crate::{
    environment::installed,
    registry::unpack,
    scene::{Scene, skip},
};
use harness_metadata::{
    Exit, TraceEvent, TraceEventKind,
    trace::{CallResult, Creation},
};
use nix::errno::Errno;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

/// A call that names files, as both tell it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    call: String,
    /// As the program gave them.
    paths: Vec<Vec<u8>>,
    /// The name of the error.
    error: Option<String>,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.paths.iter().map(|path| path.escape_ascii()).collect();
        write!(f, "{}(", self.call)?;
        for path in paths {
            write!(f, " {path}")?;
        }
        write!(f, " ) {}", self.error.as_deref().unwrap_or("ok"))
    }
}

/// A process, in order of ids.
struct Process {
    id: i32,
    creator: Option<i32>,
    calls: Vec<Call>,
}

/// The calls that are compared: those that name files by path. A stat of a descriptor is not one.
const CALLS: &str = "open,openat,openat2,creat,stat,lstat,newfstatat,statx,access,faccessat,\
                     faccessat2,readlink,readlinkat,execve,execveat,chdir,rename,renameat,\
                     renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat,\
                     mknod,mknodat,truncate,chmod,fchmodat,chown,lchown,fchownat,utimensat";

/// Calls that distinguish processes from threads.
const CREATIONS: &str = "clone,clone3,fork,vfork";

/// Beginnings of names that are random in their rest.
const RANDOM: &[&[u8]] = &[b".tmp", b"tmp", b"prefix", b"foobar"];

/// A difference that is right.
struct Explained {
    /// In tests whose name contains this.
    test: &'static str,
    /// In this call. If empty, the test is not compared at all.
    call: &'static str,
    /// The reason, for the reader.
    #[expect(dead_code, reason = "for people")]
    why: &'static str,
}

const EXPLAINED: &[Explained] = &[
    Explained {
        test: "_with_progress_work",
        call: "",
        why: "the test ends without waiting for its thread (`thread::spawn` without a join), so \
              what the thread still does depends on how fast it is",
    },
    Explained {
        test: "tests::popen::cwd",
        call: "utimensat",
        why: "`touch` gives a descriptor and no path; strace leaves it at that, and we name the \
              descriptor's file",
    },
];

#[test]
fn walkdir_is_seen_as_strace_sees_it() {
    compare("oracle walkdir", "walkdir", "2.5.0");
}

#[test]
fn tempfile_is_seen_as_strace_sees_it() {
    compare("oracle tempfile", "tempfile", "3.27.0");
}

#[test]
fn fs_extra_is_seen_as_strace_sees_it() {
    compare("oracle fs_extra", "fs_extra", "1.3.0");
    // Its tests write to its folder: one comparison after the other.
    let package = ("fs_extra", "1.3.0");
    compare_by("oracle recorder fs_extra", package, "recorder");
}

#[test]
fn subprocess_is_seen_as_strace_sees_it() {
    compare("oracle subprocess", "subprocess", "0.2.15");
}

#[test]
fn walkdir_is_recorded_as_strace_sees_it() {
    compare_by("oracle recorder walkdir", ("walkdir", "2.5.0"), "recorder");
}

/// Runs the tests of a package twice, and compares test by test.
fn compare(name: &str, package: &str, version: &str) {
    compare_by(name, (package, version), "auto");
}

/// As [`compare`], with this backend.
fn compare_by(name: &str, (package, version): (&str, &str), backend: &str) {
    if !installed("strace", &["--version"]) {
        return skip(name, "strace is not installed");
    }
    let scene = Scene::new();
    let Some(folder) = unpack(package, version) else {
        return skip(name, "the registry cannot be reached");
    };
    // Tests find what is left in it, by the run before or by another one at the same time.
    let temporary = scene.path("temporary");
    let config = format!("[profile.default]\ntrace = {{ backend = \"{backend}\" }}\n");
    let config = scene.write("harness.toml", &config);
    let run = |level: &str| {
        let _ = fs::remove_dir_all(folder.join("tests/temp"));
        let _ = fs::remove_dir_all(&temporary);
        fs::create_dir(&temporary).expect("it is not there");
        let arguments = ["run", "--tests", "--no-fail-fast", "-j1", "--trace", level];
        let mut command = scene.harness([]);
        command.args(arguments).current_dir(&folder);
        command.arg("--config-file").arg(&config);
        command.env("TMPDIR", &temporary);
        // The shell of the wrapper would set it, and shells that tests start look at it.
        command.env_remove("PWD");
        command
    };
    // One after the other, so that one tool's run is not seen by the other's.
    let ours = scene.run(run("full"));
    let traces = scene.path("strace");
    fs::create_dir(&traces).expect("it can be made");
    let wrapper = scene.write("strace.sh", &wrapper(&traces));
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let mut theirs = run("off");
    theirs.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", &wrapper);
    theirs.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", &wrapper);
    let theirs = scene.run(theirs);
    assert!(ours.stderr.contains("tests run"), "{}", ours.stderr);
    assert!(theirs.stderr.contains("tests run"), "{}", theirs.stderr);

    // The later one has the tests as well, and no traces.
    let words = ours.stderr.split_whitespace();
    let id = words.skip_while(|word| *word != "Run").nth(1);
    let id = id.expect("a run says its id");

    let mut compared = 0;
    let mut calls = 0;
    let mut let_off = 0;
    let mut wrong = Vec::new();
    for test in traced_tests(&traces) {
        let theirs = merged(&strace::read(&traces, &test.file));
        let (processes, killed) = our_processes(&scene, &folder, id, &test);
        let ours = merged(&processes);
        // How far a process has come before it is killed depends on how fast it is.
        if killed
            || EXPLAINED
                .iter()
                .any(|e| e.call.is_empty() && test.name.contains(e.test))
        {
            let_off += 1;
            continue;
        }
        compared += 1;
        calls += theirs.len();
        for (call, who) in difference(&theirs, &ours) {
            if is_explained(&test.name, &call.1) {
                continue;
            }
            let (program, call) = call;
            wrong.push(format!("{}: only {who}: {program}: {call}", test.name));
        }
    }
    // A comparison that lets most off would prove nothing.
    assert!(
        compared >= 10 && compared > 4 * let_off,
        "only {compared} tests were compared, {let_off} let off"
    );
    tell(&format!(
        "{package}: {compared} tests, {calls} calls compared with strace's; {let_off} tests let off"
    ));
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn is_explained(test: &str, call: &Call) -> bool {
    EXPLAINED
        .iter()
        .any(|explained| test.contains(explained.test) && explained.call == call.call)
}

#[expect(clippy::print_stderr, reason = "who runs the tests wants to know")]
fn tell(text: &str) {
    eprintln!("{text}");
}

/// A test that strace has watched.
struct Traced {
    /// Its binary and name, as the store knows them.
    binary: String,
    name: String,
    file: String,
}

/// A script that runs a test under strace, and a listing without.
fn wrapper(traces: &Path) -> String {
    let traces = traces.display();
    format!(
        "#!/bin/sh\n\
         [ \"$HARNESS_EXECUTION_MODE\" = process-per-test ] && [ -n \"$HARNESS_TEST_NAME\" ] || exec \"$@\"\n\
         n=$(printf %s \"$HARNESS_BINARY_ID/$HARNESS_TEST_NAME\" | tr -c 'A-Za-z0-9\\n' _)\n\
         printf '%s\\n%s\\n' \"$HARNESS_BINARY_ID\" \"$HARNESS_TEST_NAME\" > \"{traces}/$n\"\n\
         exec env -u PWD -u OLDPWD strace -ff -qq -xx -s 65536 -e trace={CALLS},{CREATIONS} -e signal=none \
         -o \"{traces}/$n\" \"$@\"\n"
    )
}

fn traced_tests(traces: &Path) -> Vec<Traced> {
    let mut tests = Vec::new();
    for entry in fs::read_dir(traces).expect("it is there") {
        let file = entry.expect("it can be read").file_name();
        let file = file.into_string().expect("it is ASCII");
        if file.contains('.') {
            continue;
        }
        let text = fs::read_to_string(traces.join(&file)).expect("it can be read");
        let (binary, name) = text.trim_end().split_once('\n').expect("two lines");
        tests.push(Traced {
            binary: binary.to_owned(),
            name: name.to_owned(),
            file,
        });
    }
    tests
}

/// Reads a test's trace as a user would. Also returns whether a process was killed.
fn our_processes(scene: &Scene, folder: &Path, run: &str, test: &Traced) -> (Vec<Process>, bool) {
    let mut killed = false;
    let mut command: Command = scene.harness(["trace", "--json", "--run", run]);
    command
        .arg(format!("{} {}", test.binary, test.name))
        .current_dir(folder);
    let output = scene.run(command);
    assert!(output.status.success(), "{}: {}", test.name, output.stderr);
    let mut processes: BTreeMap<i32, Process> = BTreeMap::new();
    // The first line is about the trace.
    for line in output.stdout.lines().skip(1) {
        let event: TraceEvent = serde_json::from_str(line).expect("a line is an event");
        let process = processes.entry(event.pid).or_insert_with(|| Process {
            id: event.pid,
            creator: None,
            calls: Vec::new(),
        });
        match event.kind {
            TraceEventKind::Created(created) if created.how != Creation::Thread => {
                let creator = Some(event.pid);
                let child = processes.entry(created.child).or_insert_with(|| Process {
                    id: created.child,
                    creator,
                    calls: Vec::new(),
                });
                child.creator = creator;
            }
            TraceEventKind::Exec(exec) => {
                let name = "execve".to_owned();
                process
                    .calls
                    .push(our_call(name, vec![exec.program.asked], exec.result));
            }
            TraceEventKind::File(file) if CALLS.split(',').any(|call| call == file.call) => {
                let mut paths = vec![file.path.asked];
                if let Some(to) = file.to {
                    paths.push(to.asked);
                }
                if file.call.starts_with("symlink") {
                    paths.reverse();
                }
                process.calls.push(our_call(file.call, paths, file.result));
            }
            TraceEventKind::Exited(exited) => {
                killed |= matches!(exited.exit, Exit::Signal { .. });
            }
            _ => {}
        }
    }
    (processes.into_values().collect(), killed)
}

fn our_call(call: String, paths: Vec<harness_metadata::RawString>, result: CallResult) -> Call {
    Call {
        call,
        paths: paths.into_iter().map(|path| path.into_bytes()).collect(),
        error: result
            .error()
            .map(|errno| format!("{:?}", Errno::from_raw(errno))),
    }
}

/// A call with the program that made it: (program, call).
type Told = BTreeSet<(String, Call)>;

/// Puts the processes of a test together by the programs that they run, with what differs from
/// run to run made equal.
fn merged(processes: &[Process]) -> Told {
    let ids: BTreeSet<i32> = processes.iter().map(|process| process.id).collect();
    let mut programs: BTreeMap<i32, String> = BTreeMap::new();
    let mut told = Told::new();
    // A creator's id can be greater than its child's, if ids have started anew: until all are done.
    let mut left: Vec<&Process> = processes.iter().collect();
    while !left.is_empty() {
        let before = left.len();
        left.retain(|process| {
            let started_by = match process.creator.filter(|creator| ids.contains(creator)) {
                None => Some(String::new()),
                Some(creator) => programs.get(&creator).cloned(),
            };
            let Some(mut program) = started_by else {
                return true;
            };
            for call in &process.calls {
                if matches!(call.call.as_str(), "clone" | "clone3" | "fork" | "vfork") {
                    continue;
                }
                if call.call.starts_with("execve") && call.error.is_none() {
                    told.insert((program.clone(), alike(call)));
                    let path = String::from_utf8_lossy(&call.paths[0]).into_owned();
                    program = path.rsplit('/').next().unwrap_or_default().to_owned();
                    continue;
                }
                let by_descriptor = call.paths.first().is_none_or(Vec::is_empty);
                if !by_descriptor {
                    told.insert((program.clone(), alike(call)));
                }
            }
            programs.insert(process.id, program);
            false
        });
        assert!(left.len() < before, "processes create each other");
    }
    told
}

/// Replaces names that are random.
fn alike(call: &Call) -> Call {
    let mut call = call.clone();
    for path in &mut call.paths {
        let components = path.split(|byte| *byte == b'/').map(|component| {
            let digits = component.iter().all(u8::is_ascii_digit);
            let random = RANDOM
                .iter()
                .any(|start| component.len() > start.len() + 5 && component.starts_with(start));
            match component {
                [] => component.to_vec(),
                _ if digits => b"NUMBER".to_vec(),
                _ if random => b"RANDOM".to_vec(),
                _ => component.to_vec(),
            }
        });
        *path = components.collect::<Vec<_>>().join(&b'/');
    }
    call
}

fn difference<'a>(theirs: &'a Told, ours: &'a Told) -> Vec<(&'a (String, Call), &'static str)> {
    let only_theirs = theirs.difference(ours).map(|call| (call, "strace"));
    let only_ours = ours.difference(theirs).map(|call| (call, "ours"));
    only_theirs.chain(only_ours).collect()
}
