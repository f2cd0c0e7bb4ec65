//! The uses that one event makes of things.

use super::{How, Thing};
use harness_metadata::{
    RawString, TraceEventKind,
    trace::{
        Exec, FileCall, FileOperation, FileUse, NetworkCall, NetworkOperation, Reach, TracedPath,
    },
};

/// Hands out each use: the thing, the way and the call.
type Told<'a> = &'a mut dyn FnMut(Thing, How, &str);

pub(super) fn uses_by(kind: &TraceEventKind, told: Told<'_>) {
    match kind {
        TraceEventKind::Exec(exec) => executed(exec, told),
        TraceEventKind::File(call) => file(call, told),
        TraceEventKind::Network(call) => network(call, told),
        TraceEventKind::Lookup(lookup) => {
            told(Thing::Host(lookup.name.clone()), How::Asked, "sendto");
        }
        _ => {}
    }
}

fn path(path: &TracedPath) -> Thing {
    Thing::Path(path.path().clone())
}

fn executed(exec: &Exec, told: Told<'_>) {
    match exec.result.error() {
        Some(errno) => told(path(&exec.program), failed(errno), "execve"),
        None => {
            told(path(&exec.program), How::Executed, "execve");
            for interpreter in &exec.interpreters {
                told(
                    Thing::Path(RawString::clone(interpreter)),
                    How::Interpreted,
                    "execve",
                );
            }
        }
    }
}

fn file(call: &FileCall, told: Told<'_>) {
    if let Some(errno) = call.result.error() {
        // The call did not happen, or is made again.
        if matches!(errno, libc::EINTR | libc::EAGAIN | 512..=516) {
            return;
        }
        let makes = matches!(
            call.operation,
            FileOperation::Open
                | FileOperation::MakeDirectory
                | FileOperation::MakeNode
                | FileOperation::SymbolicLink
        );
        match errno {
            libc::EEXIST if makes => told(path(&call.path), How::Exists, &call.call),
            // The second name is in the way.
            libc::EEXIST => {
                if let Some(to) = &call.to {
                    told(path(to), How::Exists, &call.call);
                }
            }
            errno => told(path(&call.path), failed(errno), &call.call),
        }
        return;
    }
    match call.operation {
        FileOperation::Open => opened(call, told),
        FileOperation::MakeDirectory => told(path(&call.path), How::MadeFolder, &call.call),
        FileOperation::ChangeDirectory => told(path(&call.path), How::Entered, &call.call),
        operation => told(path(&call.path), how(operation.file_use()), &call.call),
    }
    if let (Some(second), Some(to)) = (call.operation.second_use(), &call.to) {
        told(path(to), how(second), &call.call);
    }
}

fn opened(call: &FileCall, told: Told<'_>) {
    let access = call.access.unwrap_or_default();
    // A file without a name is in no other test's way.
    if access.unnamed {
        return;
    }
    let mut each = |how| told(path(&call.path), how, &call.call);
    let folder = access.directory || call.file.is_some_and(|file| file.directory);
    if access.path_only {
        return each(How::Queried);
    }
    if folder {
        return each(How::Listed);
    }
    if access.read || !access.write {
        each(How::Read);
    }
    // With O_EXCL it was not there before, so to empty it changes nothing.
    match (access.write, access.create && access.exclusive) {
        (_, true) => each(How::Created),
        (true, false) if access.truncate => each(How::Emptied),
        (true, false) => each(How::Written),
        (false, false) if access.truncate => each(How::Emptied),
        (false, false) => {}
    }
}

fn how(file_use: FileUse) -> How {
    match file_use {
        FileUse::Executed => How::Executed,
        FileUse::Read => How::Read,
        FileUse::Written => How::Written,
        FileUse::Created => How::Created,
        FileUse::Truncated => How::Emptied,
        FileUse::Removed => How::Removed,
        FileUse::RenamedFrom => How::RenamedFrom,
        FileUse::RenamedTo => How::RenamedTo,
        FileUse::MetadataChanged => How::MetadataChanged,
        FileUse::Listed => How::Listed,
        FileUse::Missing => How::Missing,
        FileUse::Refused => How::Refused,
        // The first name of a link stays what it was.
        _ => How::Queried,
    }
}

fn failed(errno: i32) -> How {
    match errno {
        libc::ENOENT | libc::ENOTDIR => How::Missing,
        libc::EEXIST => How::Exists,
        _ => How::Refused,
    }
}

fn network(call: &NetworkCall, told: Told<'_>) {
    let Some(thing) = call.address.as_ref().and_then(Thing::of) else {
        return;
    };
    let error = call.result.error();
    let how = match (call.operation, error) {
        (NetworkOperation::Bind, Some(libc::EADDRINUSE)) => How::Taken,
        (NetworkOperation::Bind | NetworkOperation::Accept, Some(_)) => return,
        (NetworkOperation::Bind, None) => How::Bound,
        // It belongs to the bind before it.
        (NetworkOperation::Listen, _) => return,
        (NetworkOperation::Accept, None) => match call.reach {
            Reach::Tree => return,
            _ => How::Accepted,
        },
        // A refused attempt has asked as well.
        (NetworkOperation::Connect | NetworkOperation::Send, _) if call.reach == Reach::Tree => {
            How::ConnectedOwn
        }
        (NetworkOperation::Connect, _) => How::Connected,
        (NetworkOperation::Send, _) => How::Sent,
    };
    told(thing, how, &call.call);
}
