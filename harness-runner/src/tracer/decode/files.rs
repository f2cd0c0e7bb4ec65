//! Calls that name files.

use super::{
    Decoded, Entry, Pending, ReadError, Stop, Task, Then,
    calls::{Answer, Ask, At, Change, How, Name, RemoveWhat},
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
    fn look(&self, task: &dyn Task, follow: bool) -> Result<FileId, i32> {
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

    /// As [`Self::look`], for a file that is going to be opened for reading.
    fn look_to_read(&self, task: &dyn Task, follow: bool) -> Result<FileId, i32> {
        if self.overlong || self.path.asked.is_empty() {
            return self.look(task, follow);
        }
        task.look_to_read(self.directory, self.path.asked.as_bytes(), follow)
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

    /// Tells what the kernel answered to the tracer.
    fn found(&mut self, mut call: FileCall, answer: Result<FileId, i32>) -> Entry {
        // The answer would take a wait or other rights: then the call itself gives it.
        let unsure = answer == Err(libc::EAGAIN)
            || call.operation != FileOperation::List && !self.task.has_our_rights();
        if unsure {
            call.file = answer.ok();
            let opens = call.operation == FileOperation::Open;
            return awaited(call, if opens { Then::Returned } else { Then::Tell });
        }
        (call.result, call.file) = match answer {
            Ok(file) => (CallResult::Found, Some(file)),
            Err(errno) => (CallResult::Err(errno), None),
        };
        self.tell(TraceEventKind::File(Box::new(call)));
        Entry::Done
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
        let mut call = self.file(FileOperation::Open, named.path.clone());
        call.access = Some(access);
        let changes = access.write || access.create || access.truncate || access.unnamed;
        if changes || resolve != 0 {
            return Ok(awaited(call, Then::Returned));
        }
        let follow = flags & libc::O_NOFOLLOW == 0;
        let mut answer = if access.path_only {
            named.look(self.task, follow)
        } else {
            named.look_to_read(self.task, follow)
        };
        if let Ok(file) = answer {
            if access.directory && !file.directory {
                answer = Err(libc::ENOTDIR);
            } else if !follow && !access.path_only && !file.directory {
                // It may be a link, which fails.
                return Ok(awaited(call, Then::Returned));
            }
        }
        Ok(self.found(call, answer))
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
        let answer = named.look(self.task, follows(flags, ask.follow));
        let call = self.file(ask.operation, named.path);
        let sure = match (ask.answer, &answer) {
            (Answer::Exists, _) | (_, Err(_)) => true,
            (Answer::Mode(index), Ok(_)) => self.int(index) == libc::F_OK,
            (Answer::Link, Ok(file)) if file.directory => {
                return Ok(self.found(call, Err(libc::EINVAL)));
            }
            (Answer::Link | Answer::Nothing, Ok(_)) => false,
        };
        if sure {
            return Ok(self.found(call, answer));
        }
        Ok(awaited(
            FileCall {
                file: answer.ok(),
                ..call
            },
            Then::Tell,
        ))
    }

    /// chdir(2), which succeeds if it is a directory that all may enter. Of a link only the call can tell:
    /// it may lead to what the task has and the tracer has not, in /proc/self.
    pub(super) fn enter(&mut self, at: At) -> Decoded {
        let named = self.named(at, 0)?;
        let answer = match named.look_to_read(self.task, false) {
            Ok(file) if !file.directory => Err(libc::ENOTDIR),
            answer => answer,
        };
        let unsure = answer == Err(libc::EAGAIN);
        let file = unsure.then(|| named.look(self.task, true).ok()).flatten();
        let call = self.file(FileOperation::ChangeDirectory, named.path);
        if unsure {
            return Ok(awaited(FileCall { file, ..call }, Then::Tell));
        }
        Ok(self.found(call, answer))
    }

    pub(super) fn list(&mut self) -> Decoded {
        let named = self.named(At::Descriptor(0), 0)?;
        if named.elsewhere() {
            return Ok(Entry::Done);
        }
        let answer = named.look(self.task, true).and_then(|file| {
            if file.directory {
                Ok(file)
            } else {
                Err(libc::ENOTDIR)
            }
        });
        let call = self.file(FileOperation::List, named.path);
        Ok(self.found(call, answer))
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
        let text = self
            .memory
            .string(self.arg(text), paths::PATH_MAX - 1)?
            .bytes;
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

/// An open has returned: which file is it?
pub(super) fn returned(events: &mut [TraceEventKind], result: CallResult, task: &dyn Task) {
    if let CallResult::Ok(fd) = result
        && let Ok(fd) = i32::try_from(fd)
    {
        find(events, || task.look(fd, b"", true).ok());
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
