//! Calls that name files.

use super::{
    Entry, Told, call, entry, exit,
    fake::{Fake, PID, TID, id},
    file, native,
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

const EFAULT: i64 = -(libc::EFAULT as i64);
const ENOENT: i64 = -(libc::ENOENT as i64);

#[test]
fn an_open_for_reading_tells_what_the_call_answered() {
    let mut task = Fake::new()
        .with_file("/etc/hosts", b"")
        .with_descriptor(3, "/etc/hosts");
    let path = task.string("/etc/hosts");
    let found = file(openat(&task, CWD, path, libc::O_CLOEXEC, 3).at_exit());
    assert_eq!(found.call, "openat");
    assert_eq!(found.operation, FileOperation::Open);
    assert_eq!(found.path.asked, "/etc/hosts".into());
    assert_eq!(found.path.absolute, None, "as asked");
    assert_eq!(found.result, CallResult::Ok(3));
    assert_eq!(found.file, Some(id("/etc/hosts", false)));
    let read = Access {
        read: true,
        ..Access::default()
    };
    assert_eq!(found.access, Some(read));

    // It is there by now: that is not what the call answered.
    let refused = file(openat(&task, CWD, path, 0, ENOENT).at_exit());
    assert_eq!(refused.result, CallResult::Err(libc::ENOENT));
    assert_eq!(refused.file, None);

    let path = task.string("nothing");
    let missing = file(openat(&task, CWD, path, 0, ENOENT).at_exit());
    assert_eq!(missing.result, CallResult::Err(libc::ENOENT));
    assert_eq!(absolute(&missing).as_deref(), Some("/work/nothing"));
    assert_eq!(missing.file, None);
}

/// Opens `/a` with this descriptor as the result, after which its path goes on.
fn open_and_rewrite(task: &mut Fake, fd: i64, rewrite: bool) -> Vec<TraceEventKind> {
    let path = task.string("/a");
    let mut events = Vec::new();
    let open = native(Sysno::openat, &[CWD, path, 0]);
    let Entry::Await(pending) = entry(&open, TraceLevel::Io, task, &mut events) else {
        panic!("it is not awaited");
    };
    if rewrite {
        task.memory.insert(path, b"/ab\0".to_vec());
    }
    exit(pending, fd, task, &mut events);
    events
}

#[test]
fn a_path_that_was_rewritten_during_the_call_is_a_doubt() {
    let rewritten = TraceEventKind::Doubt(Doubt::Rewritten);
    let mut task = Fake::new()
        .with_file("/a", b"")
        .with_file("/bb", b"")
        .with_descriptor(3, "/a")
        .with_descriptor(4, "/bb")
        .with_descriptor(5, "/a (deleted)");
    assert_eq!(open_and_rewrite(&mut task, 3, false).len(), 1);
    assert_eq!(open_and_rewrite(&mut task, 3, true)[1], rewritten);
    assert_eq!(open_and_rewrite(&mut task, ENOENT, true)[1], rewritten);
    // It was rewritten and restored: the descriptor is another file.
    assert_eq!(open_and_rewrite(&mut task, 4, false)[1], rewritten);
    // It was removed meanwhile, and so has no other name.
    assert_eq!(open_and_rewrite(&mut task, 5, false).len(), 1);
}

#[test]
fn changes_of_rights_are_noticed() {
    let changes: [(Sysno, &[u64]); 7] = [
        (Sysno::setuid, &[65534]),
        (Sysno::setgroups, &[0, 0]),
        (Sysno::capset, &[0, 0]),
        (Sysno::unshare, &[libc::CLONE_NEWUSER as u64]),
        (Sysno::clone, &[libc::CLONE_NEWUSER as u64]),
        (Sysno::prctl, &[libc::PR_CAPBSET_DROP as u64, 1]),
        (Sysno::landlock_restrict_self, &[3, 0]),
    ];
    for (number, args) in changes {
        let task = Fake::new();
        let told = call(&task, TraceLevel::Full, number, args, 0);
        assert_eq!(told.at_entry(), [], "{number}");
        assert!(task.other_rights.get(), "{number}");
    }
    let task = Fake::new();
    let own_name = [libc::PR_SET_NAME as u64];
    call(&task, TraceLevel::Full, Sysno::prctl, &own_name, 0);
    call(
        &task,
        TraceLevel::Full,
        Sysno::unshare,
        &[libc::CLONE_FS as u64],
        0,
    );
    assert!(!task.other_rights.get());
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
    assert_eq!(openat(&task, CWD, 1, 0, EFAULT).at_exit(), []);
}

#[test]
fn memory_that_only_the_kernel_can_read_is_a_doubt() {
    let mut task = Fake::new();
    let unreadable = [TraceEventKind::Doubt(Doubt::Unreadable)];
    assert_eq!(openat(&task, CWD, 1, 0, 3).at_exit(), unreadable);
    // The kernel has read the path, or it would not know that nothing is there.
    assert_eq!(openat(&task, CWD, 1, 0, ENOENT).at_exit(), unreadable);
    let receive = call(&task, TraceLevel::Io, Sysno::recvmsg, &[4, 1, 0], 1);
    assert_eq!(receive.at_exit(), unreadable);
    let clone = call(&task, TraceLevel::Io, Sysno::clone3, &[1, 88], 700);
    assert_eq!(clone.at_exit(), unreadable);
    let arguments = task.strings(&["true"]);
    let told = call(
        &task,
        TraceLevel::Io,
        Sysno::execve,
        &[1, arguments, arguments],
        0,
    );
    assert!(told.at_exit().contains(&unreadable[0]));
}

#[test]
fn p55_relative_paths_start_at_the_directory_that_the_kernel_names() {
    let mut task = Fake::new()
        .with_descriptor(5, "/srv/data")
        .with_descriptor(6, "pipe:[1]");
    let path = task.string("../x//y/./z");
    let at = |directory: i32| {
        absolute(&file(
            openat(&task, directory as u64, path, 0, ENOENT).at_exit(),
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
        let event = file(openat(&task, CWD, path, 0, ENOENT).at_exit());
        assert_eq!(absolute(&event), whole, "{asked}");
        assert_eq!(event.path.asked, asked.into());
    }
}

#[test]
fn p51_a_string_may_end_where_memory_ends_and_is_read_page_by_page() {
    let mut task = Fake::new();
    let long = format!("/{}", "x".repeat(4094));
    let mut page = vec![b'#'; 3000];
    page.extend_from_slice(long.as_bytes());
    page.push(0);
    let at = task.bytes(&page) + 3000;
    let event = file(openat(&task, CWD, at, 0, ENOENT).at_exit());
    assert_eq!(event.path.asked, long.as_str().into());
    assert_eq!(task.reads.get(), 3 + 3, "and once more at its exit");
    // Without its NUL the call fails.
    let at = task.bytes(b"/tmp");
    assert_eq!(openat(&task, CWD, at, 0, EFAULT).at_exit(), []);
}

#[test]
fn p51_a_path_that_is_too_long_fails_and_is_cut_off() {
    let mut task = Fake::new();
    let at = task.bytes(&[b'/'; 3 * 4096]);
    let too_long = -i64::from(libc::ENAMETOOLONG);
    let event = file(openat(&task, CWD, at, 0, too_long).at_exit());
    assert_eq!(event.result, CallResult::Err(libc::ENAMETOOLONG));
    assert_eq!(event.path.asked.as_bytes().len(), 4095);
}

#[test]
fn p55_the_root_of_a_task_is_where_its_absolute_paths_start() {
    let mut task = Fake::new();
    task.root = Some(b"/jail".to_vec());
    let path = task.string("/../etc/passwd");
    let event = file(openat(&task, CWD, path, 0, ENOENT).at_exit());
    assert_eq!(absolute(&event).as_deref(), Some("/jail/etc/passwd"));
    let path = task.string("/..");
    let event = file(openat(&task, CWD, path, 0, ENOENT).at_exit());
    assert_eq!(absolute(&event).as_deref(), Some("/jail"));
    // The kernel gives its path in full.
    task.cwd = Some(b"/jail/home".to_vec());
    let path = task.string("x");
    let event = file(openat(&task, CWD, path, 0, ENOENT).at_exit());
    assert_eq!(absolute(&event).as_deref(), Some("/jail/home/x"));
}

#[test]
fn p56_fstat_in_disguise_is_no_event() {
    let mut task = Fake::new().with_descriptor(3, "/etc/hosts");
    let empty = task.string("");
    let flags = libc::AT_EMPTY_PATH as u64;
    for path in [empty, 0] {
        let told = call(&task, TraceLevel::Full, Sysno::statx, &[3, path, flags], 0);
        assert_eq!(told.at_entry(), []);
    }
    // Without the flag it is a path that nothing has.
    let told = call(
        &task,
        TraceLevel::Full,
        Sysno::statx,
        &[3, empty, 0],
        ENOENT,
    );
    assert_eq!(file(told.at_exit()).result, CallResult::Err(libc::ENOENT));
    // With a path, it is a look-up all the same.
    let path = task.string("/x");
    let told = call(&task, TraceLevel::Full, Sysno::statx, &[3, path, flags], 0);
    assert_eq!(file(told.at_exit()).operation, FileOperation::Stat);
}

#[test]
fn p56_flags_say_how_a_file_is_opened() {
    let default = Access::default();
    for (flags, access) in [
        (
            libc::O_PATH | libc::O_RDWR | libc::O_CREAT,
            Access {
                path_only: true,
                ..default
            },
        ),
        (
            libc::O_TMPFILE | libc::O_RDWR,
            Access {
                read: true,
                write: true,
                unnamed: true,
                ..default
            },
        ),
        (
            libc::O_DIRECTORY,
            Access {
                read: true,
                directory: true,
                ..default
            },
        ),
        (
            libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_APPEND,
            Access {
                write: true,
                create: true,
                exclusive: true,
                ..default
            },
        ),
        (3, default),
    ] {
        let mut task = Fake::new().with_file("/x", b"");
        let path = task.string("/x");
        let told = openat(&task, CWD, path, flags, -1);
        let events = told.then.unwrap_or(told.first);
        assert_eq!(file(events).access, Some(access), "{flags:o}");
    }
}

#[test]
fn p56_links_are_followed_as_the_call_follows_them() {
    let mut task = Fake::new().with_file("/x", b"").with_file("/d/", b"");
    let path = task.string("/x");
    let nofollow = libc::AT_SYMLINK_NOFOLLOW as u64;
    let full = TraceLevel::Full;
    #[cfg(target_arch = "x86_64")]
    {
        call(&task, full, Sysno::stat, &[path], 0).at_exit();
        call(&task, full, Sysno::lstat, &[path], 0).at_exit();
        let looks: Vec<_> = task.looks.take().into_iter().map(|look| look.2).collect();
        assert_eq!(looks, [true, false]);
    }
    call(&task, full, Sysno::statx, &[CWD, path, nofollow], 0).at_exit();
    call(&task, full, Sysno::statx, &[CWD, path, 0], 0).at_exit();
    call(&task, full, Sysno::unlinkat, &[CWD, path, 0], 0).at_exit();
    // What a descriptor is by a name that was not asked for is looked at by the path.
    let mut task = task.with_descriptor(3, "/y").with_file("/y", b"");
    let link = task.string("/x");
    for flags in [libc::O_NOFOLLOW, 0] {
        openat(&task, CWD, link, flags, 3).at_exit();
    }
    let looks: Vec<_> = task.looks.take().into_iter().map(|look| look.2).collect();
    assert_eq!(looks, [false, true, false, true, false, true, true]);
}

#[test]
fn p57_openat2_has_its_flags_in_memory() {
    let mut task = Fake::new()
        .with_descriptor(5, "/srv")
        .with_file("/etc", b"");
    let path = task.string("/etc/../../x");
    let mut open = |how: &[u64], size: u64| {
        let how = task.words(how);
        let args = [5, path, how, size];
        let told = call(
            &task,
            TraceLevel::Io,
            Sysno::openat2,
            &args,
            -libc::EINVAL as i64,
        );
        file(told.then.unwrap_or(told.first))
    };
    let flags = (libc::O_WRONLY | libc::O_CREAT) as u64;
    let event = open(&[flags, 0o600, 0], 24);
    assert!(
        event
            .access
            .is_some_and(|access| access.write && access.create)
    );
    assert_eq!(absolute(&event).as_deref(), Some("/x"));
    // Of a later kernel.
    let event = open(&[flags, 0o600, 0, 7, 7], 40);
    assert!(event.access.is_some_and(|access| access.write));
    // The directory is the root.
    let event = open(&[0, 0, libc::RESOLVE_IN_ROOT], 24);
    assert_eq!(absolute(&event).as_deref(), Some("/srv/x"));
    assert_eq!(event.result, CallResult::Err(libc::EINVAL), "awaited");
    // Too short: an error, but no reason to fall over.
    assert_eq!(open(&[1], 3).result, CallResult::Err(libc::EINVAL));
}

#[test]
fn p64_p67_a_rename_tells_both_names_and_which_file_it_was() {
    let mut task = Fake::new().with_file("/work/a", b"");
    let (from, to) = (task.string("a"), task.string("b"));
    let args = [CWD, from, CWD, to, 0];
    let event = file(call(&task, TraceLevel::Io, Sysno::renameat2, &args, 0).at_exit());
    assert_eq!(event.call, "renameat2");
    assert_eq!(event.operation, FileOperation::Rename);
    assert_eq!(absolute(&event).as_deref(), Some("/work/a"));
    assert_eq!(event.to.expect("two names").path(), &"/work/b".into());
    assert_eq!(event.file, Some(id("/work/a", false)));
    assert_eq!(event.result, CallResult::Ok(0));
}

#[test]
fn what_is_made_linked_and_removed() {
    let mut task = Fake::new()
        .with_file("/work/d/", b"")
        .with_file("/work/f", b"");
    let (d, f, g) = (task.string("d"), task.string("f"), task.string("g"));
    let io = |number, args: &[u64]| file(call(&task, TraceLevel::Io, number, args, 0).at_exit());

    let made = io(Sysno::mkdirat, &[CWD, d, 0o755]);
    assert_eq!(made.operation, FileOperation::MakeDirectory);
    assert_eq!(made.file, Some(id("/work/d", true)));

    let link = io(Sysno::symlinkat, &[f, CWD, g]);
    assert_eq!(link.path.asked, "g".into());
    assert_eq!(link.to.expect("its text").asked, "f".into());

    let link = io(Sysno::linkat, &[CWD, f, CWD, g, 0]);
    assert_eq!(link.operation, FileOperation::Link);
    assert_eq!(
        (link.path.asked, link.to.map(|to| to.asked)),
        ("f".into(), Some("g".into()))
    );

    let removed = io(Sysno::unlinkat, &[CWD, f, 0]);
    assert_eq!(removed.operation, FileOperation::Remove);
    assert_eq!(removed.file, Some(id("/work/f", false)), "which it was");
    let removed = io(Sysno::unlinkat, &[CWD, d, libc::AT_REMOVEDIR as u64]);
    assert_eq!(removed.operation, FileOperation::RemoveDirectory);
}

#[test]
fn a_descriptor_is_named_where_there_is_no_path() {
    let mut task = Fake::new()
        .with_descriptor(4, "/work/f")
        .with_descriptor(5, "socket:[8]")
        .with_file("/work/f", b"")
        .with_file("/work/", b"");
    let io = |number, args: &[u64]| call(&task, TraceLevel::Io, number, args, 0);
    for (number, args) in [
        (Sysno::fchmod, &[4, 0o644][..]),
        // futimens(3).
        (Sysno::utimensat, &[4, 0, 0, 0]),
    ] {
        let event = file(io(number, args).at_exit());
        assert_eq!(event.operation, FileOperation::ChangeMetadata);
        assert_eq!(event.path.asked, "/work/f".into());
        assert_eq!(event.file, Some(id("/work/f", false)));
    }
    assert_eq!(io(Sysno::fchmod, &[5, 0]).at_entry(), [], "no file");
    let empty = task.string("");
    let flags = libc::AT_EMPTY_PATH as u64;
    let event = file(
        call(
            &task,
            TraceLevel::Io,
            Sysno::fchownat,
            &[4, empty, 0, 0, flags],
            0,
        )
        .at_exit(),
    );
    assert_eq!(event.path.asked, "/work/f".into());
}

#[test]
fn p68_listing_a_directory_is_a_look_up() {
    let task = Fake::new()
        .with_descriptor(3, "/work")
        .with_descriptor(4, "/f")
        .with_file("/work/", b"")
        .with_file("/f", b"");
    let list = |fd, result| {
        let args = [fd, 1, 1];
        call(&task, TraceLevel::Full, Sysno::getdents64, &args, result).at_exit()
    };
    let event = file(list(3, 9));
    assert_eq!(event.operation, FileOperation::List);
    assert_eq!(event.path.asked, "/work".into());
    assert_eq!(event.result, CallResult::Ok(9));
    assert_eq!(event.file, Some(id("/work", true)));
    let refused = file(list(4, -i64::from(libc::ENOTDIR)));
    assert_eq!(refused.result, CallResult::Err(libc::ENOTDIR));
    assert_eq!(refused.file, None);
    let told = call(&task, TraceLevel::Io, Sysno::getdents64, &[3, 1, 1], 9);
    assert_eq!(told.at_entry(), [], "not at this level");
}

#[test]
fn a_look_up_tells_what_the_call_answered() {
    let mut task = Fake::new().with_file("/f", b"").with_file("/d/", b"");
    let (f, none) = (task.string("/f"), task.string("/none"));
    let full = |number, args: &[u64], result| {
        file(call(&task, TraceLevel::Full, number, args, result).at_exit())
    };
    for (path, result, file) in [
        (f, 0, Some(id("/f", false))),
        // What is there now was not there for the call, and the other way round.
        (f, -2, None),
        (none, 0, None),
        (none, -2, None),
    ] {
        let told = full(Sysno::faccessat, &[CWD, path, libc::F_OK as u64], result);
        assert_eq!(told.file, file, "{path} {result}");
        assert_eq!(told.result.error().is_none(), result == 0);
    }
    let refused = full(Sysno::readlinkat, &[CWD, f, 1, 1], -i64::from(libc::EINVAL));
    assert_eq!(refused.result, CallResult::Err(libc::EINVAL));
}

#[test]
fn p58_mounts_and_roots() {
    let mut task = Fake::new().with_file("/mnt/", b"");
    let path = task.string("/mnt");
    let io = |number, args: &[u64], result| call(&task, TraceLevel::Io, number, args, result);
    let events = io(Sysno::mount, &[0, path], 0).at_exit();
    assert_eq!(
        events[1..],
        [TraceEventKind::Doubt(Doubt::ChangedNamespace)]
    );
    let failed = file(io(Sysno::mount, &[0, path], -1).at_exit());
    assert_eq!(failed.operation, FileOperation::Mount);
    // Another root can be followed.
    let root = file(io(Sysno::chroot, &[path], 0).at_exit());
    assert_eq!(root.operation, FileOperation::ChangeRoot);
}

#[test]
fn which_directory_was_entered_is_told_after_the_call() {
    let mut task = Fake::new().with_file("/work/", b"");
    let mut chdir = |path: &str, result| {
        let path = task.string(path);
        file(call(&task, TraceLevel::Io, Sysno::chdir, &[path], result).at_exit())
    };
    // The fake's working directory.
    let found = chdir("/link", 0);
    assert_eq!(found.operation, FileOperation::ChangeDirectory);
    assert_eq!(found.file, Some(id("/work", true)));
    assert_eq!(found.result, CallResult::Ok(0));
    for errno in [libc::ENOTDIR, libc::ENOENT, libc::EACCES] {
        let failed = chdir("/work", -i64::from(errno));
        assert_eq!(failed.result, CallResult::Err(errno));
        assert_eq!(failed.file, None);
    }
}

#[test]
fn p36_a_call_that_was_interrupted_says_so() {
    let mut task = Fake::new();
    let path = task.string("x");
    let event = file(openat(&task, CWD, path, libc::O_WRONLY, -512).at_exit());
    assert_eq!(event.result, CallResult::Err(libc::EINTR));
}
