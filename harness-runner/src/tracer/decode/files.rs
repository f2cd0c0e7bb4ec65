//! Calls that name files.

use super::{
    Decoded, Entry, Pending, ReadError, Stop, Task, Then,
    calls::{Ask, At, Change, How, Name, RemoveWhat},
    paths,
};
use harness_metadata::{
    TraceEventKind,
    trace::{Access, CallResult, Doubt, FileCall, FileId, FileOperation, TracedPath},
};

/// A file as a call names it.
pub(super) struct Named {
    /// The directory that the path is relative to.
    pub(super) directory: i32,
    pub(super) path: TracedPath,
    /// There is no path: it is the descriptor itself.
    pub(super) descriptor: bool,
    /// The path is longer than the kernel takes.
    pub(super) overlong: bool,
}

impl Named {
    /// The question of [`Task::look`]. An empty path that does not mean a descriptor is none.
    pub(super) fn look(&self, task: &dyn Task, follow: bool) -> Result<FileId, i32> {
        if self.overlong {
            Err(libc::ENAMETOOLONG)
        } else if self.descriptor {
            task.look(self.directory, b"", true)
        } else if self.path.asked.is_empty() {
            Err(libc::ENOENT)
        } else {
            task.look(self.directory, self.path.asked.as_bytes(), follow)
        }
    }

    /// Whether it is a descriptor of something that is no file: a pipe, a socket.
    fn elsewhere(&self) -> bool {
        self.descriptor && self.path.asked.as_bytes().first() != Some(&b'/')
    }
}

/// Reads which file a call names.
pub(super) fn named(stop: &Stop<'_>, at: At, flags: i32) -> Result<Named, ReadError> {
    let (directory, address) = match at {
        At::Path(path) => (libc::AT_FDCWD, stop.arg(path)),
        At::Relative(directory, path) => (stop.int(directory), stop.arg(path)),
        At::RelativeOrNull(directory, path) if stop.arg(path) == 0 => {
            return Ok(descriptor(stop.task, stop.int(directory)));
        }
        At::RelativeOrNull(directory, path) => (stop.int(directory), stop.arg(path)),
        At::Descriptor(fd) => return Ok(descriptor(stop.task, stop.int(fd))),
    };
    let empty = flags & libc::AT_EMPTY_PATH != 0;
    // Since Linux 6.11, NULL is as good as an empty path.
    if empty && address == 0 {
        return Ok(descriptor(stop.task, directory));
    }
    let text = stop.memory.string(address, paths::PATH_MAX - 1)?;
    stop.has_read_text(address, &text);
    if empty && text.bytes.is_empty() {
        return Ok(descriptor(stop.task, directory));
    }
    Ok(Named {
        directory,
        path: paths::resolve(stop.task, directory, text.bytes),
        descriptor: false,
        overlong: !text.whole,
    })
}

fn descriptor(task: &dyn Task, fd: i32) -> Named {
    let asked = match fd {
        libc::AT_FDCWD => task.cwd(),
        fd => task.descriptor(fd),
    };
    Named {
        directory: fd,
        path: TracedPath {
            asked: asked.unwrap_or_default().into(),
            absolute: None,
        },
        descriptor: true,
        overlong: false,
    }
}

impl Stop<'_> {
    fn file(&self, operation: FileOperation, path: TracedPath) -> FileCall {
        FileCall {
            call: self.name.to_owned(),
            operation,
            path,
            to: None,
            access: None,
            result: CallResult::Unknown,
            file: None,
        }
    }

    pub(super) fn open(&mut self, at: At, how: How) -> Decoded {
        let (flags, resolve) = self.open_flags(how)?;
        let mut named = self.named(at, 0)?;
        if resolve & libc::RESOLVE_IN_ROOT != 0 {
            let asked = named.path.asked.into_bytes();
            named.path = paths::resolve_within(self.task, named.directory, asked);
        }
        let access = access(flags);
        if access.read
            && let Some(how) = self.task.sees_tracer(named.path.path().as_bytes())
        {
            self.tell(TraceEventKind::Doubt(Doubt::Disturbed(how)));
        }
        if named.path.path().as_bytes() == b"/dev/userfaultfd" {
            self.task.serves_memory();
        }
        // A file without a name, and one that may lie below another root, cannot be asked for again.
        let again = (!access.unnamed && resolve == 0).then_some(Question {
            directory: named.directory,
            follow: flags & libc::O_NOFOLLOW == 0,
        });
        let mut call = self.file(FileOperation::Open, named.path);
        call.access = Some(access);
        Ok(awaited(call, Then::Opened(again)))
    }

    /// Returns the flags of a call that opens a file, and its limits on the resolution of the path
    /// (`RESOLVE_*`).
    fn open_flags(&self, how: How) -> Result<(i32, u64), ReadError> {
        let (flags, resolve) = match how {
            How::Flags(index) => (self.int(index), 0),
            How::Creat => (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, 0),
            How::Read => (libc::O_RDONLY, 0),
            How::Struct(address, size) => {
                // A longer one is of a kernel that this was not written for, a shorter one an error.
                let mut words = [0; 24];
                let size = self.arg(size).min(24) as usize;
                self.memory.fill(self.arg(address), &mut words[..size])?;
                let word = |index: usize| {
                    words[8 * index..]
                        .iter()
                        .take(8)
                        .rfold(0_u64, |word, byte| word << 8 | u64::from(*byte))
                };
                (word(0) as i32, word(2))
            }
        };
        if flags & libc::O_PATH == 0 {
            return Ok((flags, resolve));
        }
        // The kernel ignores everything else.
        let counted = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        Ok((flags & counted, resolve))
    }

    pub(super) fn ask(&mut self, ask: Ask) -> Decoded {
        let flags = self.flags(ask.flags);
        let named = self.named(ask.at, flags)?;
        if named.descriptor || (named.path.asked.is_empty() && ask.operation != FileOperation::Stat)
        {
            // Of a file that was opened already.
            return Ok(Entry::Done);
        }
        let question = Question {
            directory: named.directory,
            follow: follows(flags, ask.follow),
        };
        let call = self.file(ask.operation, named.path);
        Ok(awaited(call, Then::Asked(question)))
    }

    /// chdir(2).
    pub(super) fn enter(&mut self, at: At) -> Decoded {
        let named = self.named(at, 0)?;
        let call = self.file(FileOperation::ChangeDirectory, named.path);
        Ok(awaited(call, Then::Entered))
    }

    pub(super) fn list(&mut self) -> Decoded {
        let named = self.named(At::Descriptor(0), 0)?;
        if named.elsewhere() {
            return Ok(Entry::Done);
        }
        let question = Question {
            directory: named.directory,
            follow: true,
        };
        let call = self.file(FileOperation::List, named.path);
        Ok(awaited(call, Then::Asked(question)))
    }

    pub(super) fn change(&mut self, change: Change) -> Decoded {
        let flags = self.flags(change.flags);
        let named = self.named(change.at, flags)?;
        if named.elsewhere() {
            return Ok(Entry::Done);
        }
        let file = named.look(self.task, follows(flags, change.follow)).ok();
        let call = FileCall {
            file,
            ..self.file(change.operation, named.path)
        };
        let then = match change.operation {
            FileOperation::ChangeRoot => Then::Root,
            _ => Then::Tell,
        };
        Ok(awaited(call, then))
    }

    pub(super) fn make(&mut self, operation: FileOperation, at: At) -> Decoded {
        let named = self.named(at, 0)?;
        Ok(self.made(operation, named))
    }

    fn made(&self, operation: FileOperation, named: Named) -> Entry {
        let then = Then::Made {
            directory: named.directory,
            path: named.path.asked.as_bytes().to_vec(),
        };
        awaited(self.file(operation, named.path), then)
    }

    pub(super) fn remove(&mut self, at: At, what: RemoveWhat) -> Decoded {
        let directory = match what {
            RemoveWhat::Name => false,
            RemoveWhat::Directory => true,
            RemoveWhat::Flags(index) => self.int(index) & libc::AT_REMOVEDIR != 0,
        };
        let operation = if directory {
            FileOperation::RemoveDirectory
        } else {
            FileOperation::Remove
        };
        let named = self.named(at, 0)?;
        let file = named.look(self.task, false).ok();
        let call = self.file(operation, named.path);
        Ok(awaited(FileCall { file, ..call }, Then::Tell))
    }

    pub(super) fn name(&mut self, name: Name) -> Decoded {
        let flags = self.flags(name.flags);
        let from = self.named(name.from, flags)?;
        // AT_EMPTY_PATH concerns the old name only.
        let to = self.named(name.to, 0)?;
        let file = from
            .look(self.task, flags & libc::AT_SYMLINK_FOLLOW != 0)
            .ok();
        let call = self.file(name.operation, from.path);
        Ok(awaited(
            FileCall {
                file,
                to: Some(to.path),
                ..call
            },
            Then::Tell,
        ))
    }

    pub(super) fn symbolic_link(&mut self, text: u8, at: At) -> Decoded {
        let address = self.arg(text);
        let text = self.memory.string(address, paths::PATH_MAX - 1)?;
        self.has_read_text(address, &text);
        let text = text.bytes;
        let named = self.named(at, 0)?;
        let mut entry = self.made(FileOperation::SymbolicLink, named);
        if let Entry::Await(pending) = &mut entry
            && let Some(TraceEventKind::File(call)) = pending.events.first_mut()
        {
            call.to = Some(TracedPath {
                asked: text.into(),
                absolute: None,
            });
        }
        Ok(entry)
    }

    pub(super) fn mount(&mut self, at: At, flags: Option<u8>) -> Decoded {
        let named = self.named(at, self.flags(flags))?;
        let call = self.file(FileOperation::Mount, named.path);
        let mut pending = Pending::new(TraceEventKind::File(Box::new(call)), Then::Tell);
        pending.doubt = Some(Doubt::ChangedNamespace);
        Ok(Entry::Await(pending))
    }
}

fn awaited(call: FileCall, then: Then) -> Entry {
    Entry::Await(Pending::new(TraceEventKind::File(Box::new(call)), then))
}

fn follows(flags: i32, otherwise: bool) -> bool {
    otherwise && flags & libc::AT_SYMLINK_NOFOLLOW == 0
}

/// The meaning of the flags of open(2).
fn access(flags: i32) -> Access {
    let has = |flag| flags & flag == flag;
    let path_only = has(libc::O_PATH);
    // Not O_ACCMODE, which is another number in musl. 3 is for ioctl(2) only.
    let mode = flags & 3;
    Access {
        read: !path_only && matches!(mode, libc::O_RDONLY | libc::O_RDWR),
        write: matches!(mode, libc::O_WRONLY | libc::O_RDWR),
        create: has(libc::O_CREAT),
        exclusive: has(libc::O_EXCL | libc::O_CREAT),
        truncate: has(libc::O_TRUNC),
        // O_TMPFILE contains O_DIRECTORY, which must be one then.
        unnamed: has(libc::O_TMPFILE),
        directory: has(libc::O_DIRECTORY) && !has(libc::O_TMPFILE),
        path_only,
    }
}

/// The way in which a path was asked for.
#[derive(Copy, Clone, Debug)]
pub(super) struct Question {
    directory: i32,
    follow: bool,
}

/// An open has returned: which file is it? Returns true if that is not what the path leads to: it was
/// rewritten after it had been read, or leads elsewhere now.
pub(super) fn opened(
    events: &mut [TraceEventKind],
    result: CallResult,
    question: Option<Question>,
    task: &dyn Task,
) -> bool {
    let CallResult::Ok(fd) = result else {
        return false;
    };
    let Ok(fd) = i32::try_from(fd) else {
        return false;
    };
    let Some(TraceEventKind::File(call)) = events.first_mut() else {
        return false;
    };
    call.file = task.look(fd, b"", true).ok();
    let (Some(question), Some(file)) = (question, call.file) else {
        return false;
    };
    let path = call.path.path().as_bytes();
    if task
        .descriptor(fd)
        .is_some_and(|shown| is_shown_as(&shown, path))
    {
        return false;
    }
    let asked = call.path.asked.as_bytes();
    // Links, a path that is too long for this question, a file that has moved since.
    match task.look(question.directory, asked, question.follow) {
        Ok(now) => now != file,
        Err(libc::ELOOP | libc::ENAMETOOLONG) => false,
        Err(_) => true,
    }
}

/// Returns whether a descriptor's name in /proc is a path, or that of a file that was removed.
fn is_shown_as(shown: &[u8], path: &[u8]) -> bool {
    shown == path || shown.strip_suffix(b" (deleted)") == Some(path)
}

/// A call that only asks has returned: which file is it about?
pub(super) fn asked(
    events: &mut [TraceEventKind],
    result: CallResult,
    question: Question,
    task: &dyn Task,
) {
    let Some(TraceEventKind::File(call)) = events.first_mut() else {
        return;
    };
    // The kernel has read no link, and knows no directory, of what is not there.
    if matches!(result, CallResult::Ok(_)) {
        let path = match call.operation {
            FileOperation::List => b"",
            _ => call.path.asked.as_bytes(),
        };
        call.file = task.look(question.directory, path, question.follow).ok();
    }
}

/// A directory was entered: which is it?
pub(super) fn entered(events: &mut [TraceEventKind], result: CallResult, task: &dyn Task) {
    if matches!(result, CallResult::Ok(_)) {
        find(events, || task.look(libc::AT_FDCWD, b"", true).ok());
    }
}

/// Something was made: which file is it?
pub(super) fn made(
    events: &mut [TraceEventKind],
    result: CallResult,
    (directory, path): (i32, &[u8]),
    task: &dyn Task,
) {
    if matches!(result, CallResult::Ok(_)) {
        find(events, || task.look(directory, path, false).ok());
    }
}

fn find(events: &mut [TraceEventKind], look: impl FnOnce() -> Option<FileId>) {
    if let Some(TraceEventKind::File(call)) = events.first_mut() {
        call.file = look();
    }
}
