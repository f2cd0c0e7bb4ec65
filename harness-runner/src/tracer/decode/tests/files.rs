//! Calls that name files.

use super::{
    Told, call,
    fake::{Fake, PID, TID, id},
    file,
};
use crate::tracer::decode::ReadError;
use harness_metadata::{
    TraceEventKind,
    event::TraceLevel,
    trace::{Access, CallResult, Doubt, FileCall, FileOperation},
};
use syscalls::Sysno;

const CWD: u64 = libc::AT_FDCWD as u64;

fn openat(task: &Fake, directory: u64, path: u64, flags: i32, result: i64) -> Told {
    call(
        task,
        TraceLevel::Io,
        Sysno::openat,
        &[directory, path, flags as u64],
        result,
    )
}

fn absolute(call: &FileCall) -> Option<String> {
    call.path.absolute.as_ref().map(ToString::to_string)
}

#[test]
fn an_open_for_reading_is_answered_at_its_entry() {
    let mut task = Fake::new().with_file("/etc/hosts", b"");
    let path = task.string("/etc/hosts");
    let found = file(openat(&task, CWD, path, libc::O_CLOEXEC, 3).at_entry());
    assert_eq!(found.call, "openat");
    assert_eq!(found.operation, FileOperation::Open);
    assert_eq!(found.path.asked, "/etc/hosts".into());
    assert_eq!(found.path.absolute, None, "as asked");
    assert_eq!(found.result, CallResult::Found);
    assert_eq!(found.file, Some(id("/etc/hosts", false)));
    let read = Access {
        read: true,
        ..Access::default()
    };
    assert_eq!(found.access, Some(read));

    let path = task.string("nothing");
    let missing = file(openat(&task, CWD, path, 0, 3).at_entry());
    assert_eq!(missing.result, CallResult::Err(libc::ENOENT));
    assert_eq!(absolute(&missing).as_deref(), Some("/work/nothing"));
    assert_eq!(missing.file, None);
}

#[test]
fn an_open_for_writing_is_awaited() {
    let mut task = Fake::new()
        .with_file("/work/out", b"")
        .with_descriptor(7, "/work/out");
    let path = task.string("out");
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
    let written = file(openat(&task, CWD, path, flags, 7).at_exit());
    assert_eq!(written.result, CallResult::Ok(7));
    assert_eq!(written.file, Some(id("/work/out", false)));
    let access = written.access.expect("an open");
    assert!(access.write && access.create && access.truncate && !access.read);
    let failed = file(openat(&task, CWD, path, flags, -13).at_exit());
    assert_eq!(failed.result, CallResult::Err(libc::EACCES));
    assert_eq!(failed.file, None);
}

#[test]
fn p53_memory_that_may_not_be_read_is_a_doubt_and_bad_memory_is_not() {
    let mut task = Fake::new();
    task.refused = Some(ReadError::Refused);
    assert_eq!(
        openat(&task, CWD, 1, 0, 0).at_entry(),
        [TraceEventKind::Doubt(Doubt::Undumpable)]
    );
    task.refused = Some(ReadError::Gone);
    assert_eq!(openat(&task, CWD, 1, 0, 0).at_entry(), []);
    task.refused = None;
    assert_eq!(openat(&task, CWD, 1, 0, 0).at_entry(), []);
}

#[test]
fn p55_relative_paths_start_at_the_directory_that_the_kernel_names() {
    let mut task = Fake::new()
        .with_descriptor(5, "/srv/data")
        .with_descriptor(6, "pipe:[1]");
    let path = task.string("../x//y/./z");
    let at = |directory: i32| {
        absolute(&file(
            openat(&task, directory as u64, path, 0, 0).at_entry(),
        ))
    };
    assert_eq!(at(5).as_deref(), Some("/srv/x/y/z"));
    assert_eq!(at(libc::AT_FDCWD).as_deref(), Some("/x/y/z"));
    assert_eq!(at(6), None);
    assert_eq!(at(9), None);
}

#[test]
fn the_processes_own_directory_in_proc_is_named_by_its_number() {
    let mut task = Fake::new();
    for (asked, whole) in [
        ("/proc/self/maps", Some(format!("/proc/{PID}/maps"))),
        ("/proc//self", Some(format!("/proc/{PID}"))),
        (
            "/proc/thread-self/comm",
            Some(format!("/proc/{PID}/task/{TID}/comm")),
        ),
        ("/proc/selfish", None),
        ("/proc/self/../1/maps", Some("/proc/1/maps".to_owned())),
    ] {
        let path = task.string(asked);
        let event = file(openat(&task, CWD, path, 0, 0).at_entry());
        assert_eq!(absolute(&event), whole, "{asked}");
        assert_eq!(event.path.asked, asked.into());
    }
}
