//! Calls whose effects or answers are not told.

use super::{
    Entry, call, entry, exit,
    fake::{Fake, PID},
    file, native,
};
use crate::tracer::decode::Syscall;
use harness_metadata::{
    TraceEventKind,
    event::TraceLevel,
    trace::{Doubt, FileOperation},
};
use syscalls::Sysno;

#[test]
fn a_call_of_which_nothing_is_known_is_a_doubt_if_it_succeeds() {
    let untold = |what: &str| [TraceEventKind::Doubt(Doubt::Untold(what.to_owned()))];
    let task = Fake::new();
    let number = |number: u64, result| {
        let call = Syscall {
            number,
            ..native(Sysno::openat, &[])
        };
        let mut events = Vec::new();
        let Entry::Await(pending) = entry(&call, TraceLevel::Io, &task, &mut events) else {
            panic!("{number} is not awaited");
        };
        exit(pending, result, &task, &mut events);
        events
    };
    assert_eq!(number(999, 0), untold("system call 999"));
    assert_eq!(number(999, -38), []);
    let io = |number, args: &[u64]| call(&task, TraceLevel::Io, number, args, 0).at_exit();
    let none = |number, args: &[u64]| call(&task, TraceLevel::Io, number, args, 0).at_entry();
    assert_eq!(io(Sysno::syslog, &[3]), untold("syslog"));
    assert_eq!(io(Sysno::socket, &[16, 3, 0]), untold("a netlink socket"));
    assert_eq!(io(Sysno::socket, &[2, 3, 17]), untold("a raw socket"));
    assert_eq!(io(Sysno::socket, &[17, 0x80003]), untold("a packet socket"));
    assert_eq!(
        io(Sysno::socket, &[38, 5]),
        untold("a socket of the family 38")
    );
    for plain in [[1, 1], [2, 0x80001], [10, 2]] {
        assert_eq!(none(Sysno::socket, &plain), []);
    }
    let interface = untold("ioctl with the request 0x8915");
    assert_eq!(io(Sysno::ioctl, &[3, 0x8915]), interface);
    for request in [0x5401, 0x541b, 0x8901, 0x4004_9409] {
        assert_eq!(none(Sysno::ioctl, &[3, request]), [], "{request:#x}");
    }
    let outside = untold("kill for a process outside");
    assert_eq!(io(Sysno::kill, &[7, 0]), outside);
    for own in [PID as u64, 0, u64::MAX] {
        assert_eq!(none(Sysno::kill, &[own, 0]), []);
    }
}

#[test]
fn attributes_of_a_file_that_is_open_are_a_change() {
    let task = Fake::new().with_descriptor(4, "/f").with_file("/f", b"");
    let told = call(&task, TraceLevel::Io, Sysno::ioctl, &[4, 0x4008_6602, 1], 0);
    let change = file(told.at_exit());
    assert_eq!(change.operation, FileOperation::ChangeMetadata);
    assert_eq!(change.path.asked, "/f".into());
}

#[test]
fn a_signal_that_is_taken_has_to_be_the_attempts_own() {
    let foreign = [TraceEventKind::Doubt(Doubt::ForeignSignal)];
    let mut task = Fake::new();
    let mut takes = |code: i32, sender: i32| {
        let words = [10_u32, 0, code.cast_unsigned(), 0, sender.cast_unsigned()];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let info = task.bytes(&bytes);
        call(
            &task,
            TraceLevel::Io,
            Sysno::rt_sigtimedwait,
            &[1, info],
            10,
        )
        .at_exit()
    };
    assert_eq!(takes(libc::SI_USER, PID), []);
    assert_eq!(takes(libc::CLD_EXITED, 7), []);
    assert_eq!(takes(libc::SI_USER, 7), foreign);
    // Its sender chooses the id that it shows.
    assert_eq!(takes(libc::SI_QUEUE, PID), foreign);
    let timed_out = call(&task, TraceLevel::Io, Sysno::rt_sigtimedwait, &[1, 0], -11);
    assert_eq!(timed_out.at_exit(), []);
    let unknown = call(&task, TraceLevel::Io, Sysno::rt_sigtimedwait, &[1, 0], 10);
    assert_eq!(unknown.at_exit(), foreign);
}
