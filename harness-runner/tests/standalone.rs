//! The tracer by itself: as a function, and as the example that is a small strace.

#![allow(clippy::unwrap_used, reason = "a test's only way to fail")]

use harness_metadata::{
    Exit, TraceEvent, TraceEventKind, event::TraceLevel, outcome::StartFailure, trace::Backend,
};
use harness_runner::trace::{Command, Options, TraceError, Traced, command, trace};
use std::{
    fs::{self, File},
    io::{Read, pipe},
    os::fd::OwnedFd,
    path::PathBuf,
    process, thread,
};

fn sh(script: &str) -> Command {
    command("/bin/sh", ["-c", script]).unwrap()
}

fn options(level: TraceLevel) -> Options {
    Options {
        level,
        ..Options::default()
    }
}

fn watch(command: &Command, level: TraceLevel) -> (Traced, Vec<TraceEvent>) {
    let mut events = Vec::new();
    let mut observer = |event: &TraceEvent| events.push(event.clone());
    let traced = trace(command, options(level), &mut observer).unwrap();
    (traced, events)
}

#[test]
fn a_command_is_followed_at_every_level_and_its_exit_returned() {
    let command = sh("/bin/cat /etc/hostname >/dev/null; exit 3");
    for (level, backend) in [
        (TraceLevel::Off, Backend::None),
        (TraceLevel::Process, Backend::Lifecycle),
        (TraceLevel::Io, Backend::Ptrace),
        (TraceLevel::Full, Backend::Ptrace),
    ] {
        let (traced, events) = watch(&command, level);
        assert_eq!((traced.exit, traced.backend), (Exit::Code(3), backend));
        let traced_at_all = level > TraceLevel::Off;
        assert_eq!(traced.processes, traced_at_all.then_some(2));
        let exited = |event: &&TraceEvent| matches!(event.kind, TraceEventKind::Exited(_));
        let ended = events.iter().filter(exited).count();
        assert_eq!(ended, if traced_at_all { 2 } else { 0 });
        let opened = events.iter().any(|event| {
            matches!(&event.kind, TraceEventKind::File(call)
                if call.path.path().as_bytes() == b"/etc/hostname")
        });
        assert_eq!(opened, level > TraceLevel::Process);
    }
}

#[test]
fn threads_trace_beside_each_other_and_leave_the_children_of_others_alone() {
    let mut other = process::Command::new("/bin/sh")
        .args(["-c", "read line; exit 9"])
        .stdin(process::Stdio::piped())
        .spawn()
        .unwrap();
    thread::scope(|scope| {
        for code in 0..8 {
            scope.spawn(move || {
                for _ in 0..10 {
                    let command = sh(&format!("(/bin/true; /bin/true); exit {code}"));
                    let (traced, events) = watch(&command, TraceLevel::Io);
                    assert_eq!(traced.exit, Exit::Code(code));
                    let exec = |event: &&TraceEvent| matches!(event.kind, TraceEventKind::Exec(_));
                    assert_eq!(events.iter().filter(exec).count(), 3);
                }
            });
        }
    });
    drop(other.stdin.take());
    assert_eq!(other.wait().unwrap().code(), Some(9));
}

#[test]
fn a_thread_with_children_is_refused_and_they_are_left_alone() {
    let mut child = process::Command::new("/bin/true").spawn().unwrap();
    let result = trace(&sh("exit 0"), Options::default(), &mut |_: &TraceEvent| ());
    assert!(matches!(result, Err(TraceError::HasChildren)), "{result:?}");
    assert!(child.wait().unwrap().success());
}

#[test]
fn output_goes_where_it_is_sent_even_if_the_streams_change_places() {
    let (mut reader, writer) = pipe().unwrap();
    let null: OwnedFd = File::open("/dev/null").unwrap().into();
    let options = Options {
        stdio: Some([
            null,
            writer.try_clone().unwrap().into(),
            OwnedFd::from(writer),
        ]),
        ..Options::default()
    };
    trace(
        &sh("echo out; echo err >&2"),
        options,
        &mut |_: &TraceEvent| (),
    )
    .unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "out\nerr\n");
}

#[test]
fn what_is_not_there_cannot_be_started() {
    let nothing = command("/no/such/program", [""; 0]).unwrap();
    for level in [TraceLevel::Off, TraceLevel::Process, TraceLevel::Io] {
        let result = trace(&nothing, options(level), &mut |_: &TraceEvent| ());
        let Err(TraceError::Start(StartFailure { errno, .. })) = result else {
            panic!("{level:?}: {result:?}");
        };
        assert_eq!(errno, 2);
    }
    let mut nowhere = sh("exit 0");
    nowhere.cwd = PathBuf::from("/no/such/folder");
    let result = trace(&nowhere, Options::default(), &mut |_: &TraceEvent| ());
    assert!(matches!(result, Err(TraceError::Start(_))), "{result:?}");
}

#[test]
fn orphans_are_followed_to_their_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("late");
    // Until the shell is not even a zombie.
    let wait = "while kill -0 $$ 2>/dev/null; do /bin/sleep 0.01; done";
    let script = format!("({wait}; echo late >{}) & exit 0", file.display());
    let (traced, events) = watch(&sh(&script), TraceLevel::Io);
    assert_eq!(traced.exit, Exit::Code(0));
    assert_eq!(fs::read(&file).unwrap(), b"late\n");
    let TraceEventKind::Exited(_) = events.last().unwrap().kind else {
        panic!("{:?}", events.last());
    };
    assert_ne!(events.last().unwrap().pid, traced.pid);
}

/// Builds the example, which cargo does not do for a single test, and runs it.
fn strace(args: &[&str]) -> process::Output {
    // This is in TARGET/PROFILE/deps.
    let own = std::env::current_exe().unwrap();
    let target = own.ancestors().nth(3).unwrap();
    let built = process::Command::new(env!("CARGO"))
        .args(["build", "--offline", "--quiet", "--example", "strace"])
        .args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        .arg("--target-dir")
        .arg(target)
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    let example = target.join("debug/examples/strace");
    process::Command::new(example).args(args).output().unwrap()
}

#[test]
fn the_example_prints_what_the_program_does_and_exits_as_it_did() {
    let output = strace(&["/bin/sh", "-c", "cat /etc/hostname; exit 3"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(output.stdout, fs::read("/etc/hostname").unwrap());
    let text = String::from_utf8(output.stderr).unwrap();
    let has = |part: &str| text.lines().any(|line| line.contains(part));
    assert!(
        has(r#"execve("/bin/sh", ["/bin/sh", "-c", "cat /etc/hostname; exit 3"]) = 0"#),
        "{text}"
    );
    assert!(has(r#"["cat", "/etc/hostname"]"#), "{text}");
    assert!(has(r#"openat("/etc/hostname""#), "{text}");
    assert!(has("fork() = "), "{text}");
    let ends: Vec<&str> = text.lines().filter(|line| line.contains("+++")).collect();
    assert!(ends[0].ends_with("+++ exited with 0 +++"), "{text}");
    assert!(ends[1].ends_with("+++ exited with 3 +++"), "{text}");
    assert_eq!(text.lines().last(), Some(ends[1]));
}

#[test]
fn the_example_writes_to_a_file_and_tells_what_went_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let file = file.to_str().unwrap();
    let output = strace(&[
        "-o",
        file,
        "--level",
        "process",
        "/bin/sh",
        "-c",
        "kill -9 $$",
    ]);
    assert_eq!(output.status.code(), Some(128 + 9));
    assert_eq!(output.stderr, b"");
    let text = fs::read_to_string(file).unwrap();
    assert!(text.ends_with("+++ killed by SIGKILL +++\n"), "{text}");
    let output = strace(&["/no/such/program"]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("/no/such/program"), "{message}");
    assert_ne!(output.status.code(), Some(0));
}
