//! Programs that are executed.

use super::{
    Decoded, Environment, Pending, ReadError, Stop, Task, Then,
    calls::At,
    environment::{BYTES, ENTRIES, environment_change},
    memory::Memory,
    paths,
};
use harness_metadata::{
    RawString, TraceEventKind,
    trace::{CallResult, Doubt, Exec, InheritedDescriptor, TracedPath},
};

/// How many inherited descriptors are told.
const DESCRIPTORS: usize = 256;

/// How often the kernel replaces a script by its interpreter (fs/exec.c, exec_binprm).
const INTERPRETERS: usize = 5;
/// How much of a script the kernel looks at (linux/binfmts.h, BINPRM_BUF_SIZE).
const SCRIPT: usize = 256;
/// How much of a program is read first: its headers and, nearly always, its loader's name.
const HEAD: usize = 1024;
/// How many program headers are looked at.
const HEADERS: u64 = 128;

/// Reads from a file of this name at this offset, and returns how much.
pub type ReadFile<'a> = dyn FnMut(&[u8], u64, &mut [u8]) -> Option<usize> + 'a;

/// Returns what the kernel opens beside a program: the interpreters of a script (execve(2)), as far
/// as they go, and the loader (PT_INTERP of elf(5)) of the program that is run in the end.
///
/// `read` reads from the file with this name at this offset. For the first one the name is the
/// program's.
pub fn interpreters(program: &[u8], read: &mut ReadFile<'_>) -> Vec<RawString> {
    let mut found: Vec<RawString> = Vec::new();
    for _ in 0..=INTERPRETERS {
        let mut head = [0; HEAD];
        let file = found.last().map_or(program, RawString::as_bytes).to_vec();
        let length = read(&file, 0, &mut head).unwrap_or(0).min(HEAD);
        let head = &head[..length];
        if let Some(line) = head.strip_prefix(b"#!") {
            match script_interpreter(line) {
                Some(interpreter) => found.push(interpreter.into()),
                None => break,
            }
        } else {
            found.extend(loader(head, &mut |offset, buffer| {
                read(&file, offset, buffer)
            }));
            break;
        }
    }
    found
}

/// Returns the interpreter that a script names, given what follows `#!`.
fn script_interpreter(line: &[u8]) -> Option<&[u8]> {
    let line = &line[..line.len().min(SCRIPT - 2)];
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = line.iter().position(|byte| !blank(byte))?;
    let rest = &line[start..];
    let end = rest
        .iter()
        .position(|byte| blank(byte) || matches!(byte, b'\n' | 0));
    let end = match end {
        Some(end) => end,
        // A file may end with its first line; one whose name does not fit is not run.
        None if line.len() < SCRIPT - 2 => rest.len(),
        None => return None,
    };
    (end > 0).then(|| &rest[..end])
}

/// Returns the loader that an ELF file names.
fn loader(head: &[u8], read: &mut dyn FnMut(u64, &mut [u8]) -> Option<usize>) -> Option<RawString> {
    let rest = head.strip_prefix(b"\x7fELF")?;
    // Of the other byte order, it is not run here.
    let (wide, little) = (*rest.first()? == 2, *rest.get(1)? == 1);
    if !little {
        return None;
    }
    let mut bytes = |offset: u64, length: usize| {
        let mut buffer = vec![0; length];
        match usize::try_from(offset)
            .ok()
            .and_then(|offset| head.get(offset..offset.checked_add(length)?))
        {
            Some(known) => buffer.copy_from_slice(known),
            None => {
                let read = read(offset, &mut buffer)?;
                buffer.truncate(read);
            }
        }
        Some(buffer)
    };
    let number = |bytes: &[u8], offset: usize, length: usize| {
        let bytes = bytes.get(offset..offset + length)?;
        Some(
            bytes
                .iter()
                .rfold(0_u64, |n, byte| n << 8 | u64::from(*byte)),
        )
    };
    let (table, size, count) = if wide {
        (
            number(head, 32, 8)?,
            number(head, 54, 2)?,
            number(head, 56, 2)?,
        )
    } else {
        (
            number(head, 28, 4)?,
            number(head, 42, 2)?,
            number(head, 44, 2)?,
        )
    };
    let expected = if wide { 56 } else { 32 };
    if size != expected {
        return None;
    }
    let table = bytes(table, (size * count.min(HEADERS)) as usize)?;
    let header = table
        .chunks_exact(expected as usize)
        .find(|header| number(header, 0, 4) == Some(u64::from(libc::PT_INTERP)))?;
    let (offset, length) = if wide {
        (number(header, 8, 8)?, number(header, 32, 8)?)
    } else {
        (number(header, 4, 4)?, number(header, 16, 4)?)
    };
    if !(2..=paths::PATH_MAX as u64).contains(&length) {
        return None;
    }
    let name = bytes(offset, length as usize)?;
    let end = name.iter().position(|byte| *byte == 0)?;
    (end > 0).then(|| name[..end].into())
}

/// The strings of a vector that ends with NULL.
#[derive(Default)]
struct Strings {
    strings: Vec<Vec<u8>>,
    truncated: bool,
}

impl Strings {
    fn into_environment(self) -> Environment {
        let environment = Environment::new(self.strings.iter().map(Vec::as_slice));
        environment.cut_if(self.truncated)
    }
}

/// Reads a vector of strings, as far as there is room for it.
fn strings(memory: &Memory<'_>, address: u64) -> Result<Strings, ReadError> {
    let mut read = Strings::default();
    // Linux takes no vector for an empty one.
    if address == 0 {
        return Ok(read);
    }
    let mut room = BYTES;
    for index in 0..=ENTRIES as u64 {
        let at = address.checked_add(8 * index).ok_or(ReadError::Fault)?;
        let string = memory.u64(at)?;
        if string == 0 {
            return Ok(read);
        }
        if index == ENTRIES as u64 || room == 0 {
            break;
        }
        let text = memory.string(string, room)?;
        // An empty one takes room as well: its NUL.
        room = room.saturating_sub(text.bytes.len() + 1);
        read.strings.push(text.bytes);
        if !text.whole {
            break;
        }
    }
    read.truncated = true;
    Ok(read)
}

impl Stop<'_> {
    /// Reads a vector. That it cannot be read is no reason to say nothing of the program.
    fn strings(&mut self, address: u64) -> Strings {
        strings(&self.memory, address).unwrap_or_else(|error| {
            self.unread(error);
            Strings::default()
        })
    }

    fn unread(&mut self, error: ReadError) {
        if error == ReadError::Refused {
            self.tell(TraceEventKind::Doubt(Doubt::Undumpable));
        }
    }

    pub(super) fn exec(&mut self, at: At, args: u8, environment: u8, flags: Option<u8>) -> Decoded {
        let named = self.named(at, self.flags(flags));
        let refused = matches!(named, Err(ReadError::Refused));
        let args = self.strings(self.arg(args));
        let environment = self.strings(self.arg(environment));
        let truncated = args.truncated || environment.truncated;
        let old = self.task.environment();
        let environment = environment.into_environment().shared(old.as_ref());
        let mut directory = libc::AT_FDCWD;
        let mut path = None;
        let (program, interpreters) = match named {
            Ok(named) => {
                let task = self.task;
                directory = named.directory;
                path = match named.path.asked.as_bytes() {
                    _ if named.descriptor => Some(Vec::new()),
                    b"" => None,
                    asked => Some(asked.to_vec()),
                };
                let interpreters = if named.overlong {
                    Vec::new()
                } else if named.descriptor {
                    // Its interpreters' names are relative to the working directory, its own is
                    // empty.
                    interpreters(b"", &mut |path, offset, buffer| {
                        let directory = if path.is_empty() {
                            directory
                        } else {
                            libc::AT_FDCWD
                        };
                        task.file(directory, path, offset, buffer)
                    })
                } else {
                    let asked = named.path.asked.as_bytes();
                    let mut first = true;
                    interpreters(asked, &mut |path, offset, buffer| {
                        let is_program = std::mem::take(&mut first) || path == asked;
                        let from = if is_program {
                            directory
                        } else {
                            libc::AT_FDCWD
                        };
                        // An empty path would be the directory itself.
                        (!path.is_empty()).then(|| task.file(from, path, offset, buffer))?
                    })
                };
                (named.path, interpreters)
            }
            Err(_) => (TracedPath::default(), Vec::new()),
        };
        if refused {
            self.unread(ReadError::Refused);
        }
        let exec = Exec {
            program,
            args: args.strings.into_iter().map(RawString::from).collect(),
            cwd: self.task.cwd().unwrap_or_default().into(),
            environment: environment_change(old.as_deref(), &environment),
            inherited: Vec::new(),
            interpreters,
            result: CallResult::Unknown,
            truncated,
        };
        Ok(super::Entry::Await(Pending::new(
            TraceEventKind::Exec(Box::new(exec)),
            Then::Executed {
                environment,
                directory,
                path,
            },
        )))
    }
}

/// An exec has succeeded or failed.
pub(super) fn executed(
    events: &mut [TraceEventKind],
    result: CallResult,
    environment: &Environment,
    task: &dyn Task,
) {
    let Some(TraceEventKind::Exec(exec)) = events.first_mut() else {
        return;
    };
    exec.truncated |= environment.is_truncated();
    if !matches!(result, CallResult::Ok(_)) {
        return;
    }
    task.executed();
    // What is closed on exec is closed by now.
    exec.inherited = inherited(task.descriptors());
}

/// Tells of the descriptors that are open in a new program.
pub fn inherited(descriptors: Vec<(i32, Vec<u8>)>) -> Vec<InheritedDescriptor> {
    let mut inherited: Vec<_> = descriptors
        .into_iter()
        .filter(|(fd, _)| *fd > 2)
        .map(|(fd, target)| InheritedDescriptor {
            fd,
            target: target.into(),
        })
        .collect();
    inherited.sort_unstable_by_key(|descriptor| descriptor.fd);
    inherited.truncate(DESCRIPTORS);
    inherited
}
