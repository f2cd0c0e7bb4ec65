//! Programs that are executed.

use super::{
    Decoded, Entry, Environment, Pending, ReadError, Stop, Task, Then, Vectors,
    calls::{Ask, At},
    environment::environment_change,
    files::Named,
    memory::Memory,
    paths,
    vectors::Strings,
};
use harness_metadata::{
    RawString, TraceEventKind,
    trace::{CallResult, Doubt, EnvironmentChange, Exec, FileOperation, InheritedDescriptor},
};
use std::rc::Rc;

/// The greatest number of inherited descriptors to report.
const DESCRIPTORS: usize = 256;

/// The flag of execveat(2) that only asks whether the file could be executed: AT_EXECVE_CHECK
/// (linux/fcntl.h), since Linux 6.14.
const EXECVE_CHECK: i32 = 0x10000;

/// The greatest number of times that the kernel replaces a script by its interpreter (fs/exec.c,
/// exec_binprm).
const INTERPRETERS: usize = 5;
/// The number of bytes of a script that the kernel reads (linux/binfmts.h, BINPRM_BUF_SIZE).
const SCRIPT: usize = 256;
/// The number of bytes of a program to read first: its headers and, nearly always, its loader's
/// name.
const HEAD: usize = 1024;
/// The machine that a program is for (`e_machine` of elf(5)), if it is for this one.
#[cfg(target_arch = "x86_64")]
const NATIVE_MACHINE: u16 = libc::EM_X86_64;
/// The machine that a program is for (`e_machine` of elf(5)), if it is for this one.
#[cfg(target_arch = "aarch64")]
const NATIVE_MACHINE: u16 = libc::EM_AARCH64;
/// The greatest number of program headers to read.
const HEADERS: u64 = 128;

/// Reads from a file of this name at this offset, and returns how much.
pub type ReadFile<'a> = dyn FnMut(&[u8], u64, &mut [u8]) -> Option<usize> + 'a;

/// The facts in a program's file.
#[derive(Default)]
struct Image {
    interpreters: Vec<RawString>,
    /// Whether it is an ELF file of the machine's own architecture, with pointers of 64 bits.
    native: bool,
}

/// Returns what the kernel opens beside a program: the interpreters of a script (execve(2)), as far
/// as they go, and the loader (PT_INTERP of elf(5)) of the program that is run in the end.
///
/// `read` reads from the file with this name at this offset. For the first one the name is the
/// program's.
pub fn interpreters(program: &[u8], read: &mut ReadFile<'_>) -> Vec<RawString> {
    image(program, read).interpreters
}

fn image(program: &[u8], read: &mut ReadFile<'_>) -> Image {
    let mut image = Image::default();
    let found = &mut image.interpreters;
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
            image.native = found.is_empty() && is_native(head);
            found.extend(loader(head, &mut |offset, buffer| {
                read(&file, offset, buffer)
            }));
            break;
        }
    }
    image
}

/// Returns whether a file begins as an ELF file of the machine's own architecture does.
fn is_native(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF\x02\x01") && number(head, 18, 2) == Some(u64::from(NATIVE_MACHINE))
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

/// Reads a number of the lower byte order.
fn number(bytes: &[u8], offset: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(offset..offset + length)?;
    Some(
        bytes
            .iter()
            .rfold(0_u64, |n, byte| n << 8 | u64::from(*byte)),
    )
}

/// An exec that has not returned: what is executed, and with what.
#[derive(Debug)]
pub(super) struct Executing {
    pub(super) directory: i32,
    /// Empty for the descriptor itself; `None` if it could not be read.
    pub(super) path: Option<Vec<u8>>,
    /// The number of the call's argument with the arguments.
    args: u64,
    /// The number of the call's argument with the environment.
    environment: u64,
    /// The environment, once that and the arguments have been read.
    pub(super) read: Option<Rc<Environment>>,
}

impl Executing {
    /// Takes what the program is started with.
    fn take(&mut self, vectors: Vectors, exec: &mut Exec, task: &dyn Task) {
        let old = task.environment();
        let environment = vectors.environment.shared(old.as_ref());
        exec.environment = environment_change(old.as_deref(), &environment);
        (exec.args, exec.truncated) = (vectors.args, vectors.truncated);
        self.read = Some(environment);
    }
}

impl Pending {
    fn executing(&mut self) -> Option<(&mut Executing, &mut Exec)> {
        match (&mut self.then, self.events.first_mut()) {
            (Then::Executed(executing), Some(TraceEventKind::Exec(exec))) => {
                Some((executing, exec))
            }
            _ => None,
        }
    }

    /// Reads what an exec's program is to be started with where the call has it, while the task is at
    /// its entry: for a backend that does not see its result, or not in time.
    pub fn read_vectors(&mut self, task: &dyn Task, events: &mut Vec<TraceEventKind>) {
        let Some((executing, exec)) = self.executing().filter(|(it, _)| it.read.is_none()) else {
            return;
        };
        let memory = Memory::new(task);
        let (vectors, error) = Vectors::of_call(&memory, executing.args, executing.environment);
        executing.take(vectors, exec, task);
        if error == Some(ReadError::Refused) {
            events.push(TraceEventKind::Doubt(Doubt::Undumpable));
        }
    }

    /// Takes what the program was started with of an exec that has succeeded, unless that was read at
    /// its entry.
    pub fn started(&mut self, vectors: impl FnOnce() -> Vectors, task: &dyn Task) {
        if let Some((executing, exec)) = self.executing().filter(|(it, _)| it.read.is_none()) {
            executing.take(vectors(), exec, task);
        }
    }
}

impl Stop<'_> {
    pub(super) fn exec(&mut self, at: At, args: u8, environment: u8, flags: Option<u8>) -> Decoded {
        if self.flags(flags) & EXECVE_CHECK != 0 {
            return self.ask(Ask {
                operation: FileOperation::Access,
                at,
                flags,
                follow: true,
            });
        }
        let flags = self.flags(flags);
        let named = self.named(at, flags);
        let mut exec = Exec {
            cwd: self.task.cwd().unwrap_or_default().into(),
            ..Exec::default()
        };
        let mut executing = Executing {
            directory: libc::AT_FDCWD,
            path: None,
            args: self.arg(args),
            environment: self.arg(environment),
            read: None,
        };
        let refused = matches!(named, Err(ReadError::Refused));
        let unread = matches!(named, Err(ReadError::Fault)).then(|| self.memory.fault());
        let (mut native, mut is_there) = (false, true);
        if let Ok(named) = named {
            // Most of a search in PATH is for what is not there.
            is_there = named.look(self.task, true).is_ok();
            if is_there {
                let image = self.image(&named);
                (exec.interpreters, native) = (image.interpreters, image.native);
            }
            executing.directory = named.directory;
            executing.path = match named.path.asked.as_bytes() {
                _ if named.descriptor => Some(Vec::new()),
                b"" => None,
                asked => Some(asked.to_vec()),
            };
            exec.program = named.path;
        }
        if refused {
            self.tell(TraceEventKind::Doubt(Doubt::Undumpable));
        }
        let event = TraceEventKind::Exec(Box::new(exec));
        let mut pending = Pending::new(event, Then::Executed(executing));
        pending.unread = unread;
        // The stack of another architecture looks different, and of a script the kernel changes the
        // arguments.
        if is_there && !native {
            pending.read_vectors(self.task, self.events);
        }
        Ok(Entry::Await(pending))
    }

    /// Looks into the program that a call names.
    fn image(&self, named: &Named) -> Image {
        let task = self.task;
        let directory = named.directory;
        if named.overlong {
            Image::default()
        } else if named.descriptor {
            // Its interpreters' names are relative to the working directory, its own is empty.
            image(b"", &mut |path, offset, buffer| {
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
            image(asked, &mut |path, offset, buffer| {
                let is_program = std::mem::take(&mut first) || path == asked;
                let from = if is_program {
                    directory
                } else {
                    libc::AT_FDCWD
                };
                // An empty path would be the directory itself.
                (!path.is_empty()).then(|| task.file(from, path, offset, buffer))?
            })
        }
    }
}

/// An exec has succeeded or failed.
pub(super) fn executed(
    events: &mut [TraceEventKind],
    result: CallResult,
    executing: &Executing,
    task: &dyn Task,
) {
    let Some(TraceEventKind::Exec(exec)) = events.first_mut() else {
        return;
    };
    if executing.read.is_none() {
        // Of one that never returned the memory may be gone, or another program's, as it is where the
        // new program could not be loaded into it.
        let args = match result {
            CallResult::Unknown
            | CallResult::Err(libc::EFAULT | libc::EINVAL | libc::EIO | libc::ENOMEM) => {
                Err(ReadError::Gone)
            }
            _ => Strings::read(&Memory::new(task), executing.args),
        };
        exec.truncated = args.as_ref().map_or(true, |args| args.truncated);
        exec.args = args.unwrap_or_default().into_raw();
    }
    if result.error().is_some() {
        exec.environment = EnvironmentChange::default();
    }
    if matches!(result, CallResult::Ok(_)) {
        task.executed();
        if exec.interpreters.is_empty() {
            exec.interpreters = interpreters_of_executed(task);
        }
        // What is closed on exec is closed by now.
        exec.inherited = inherited(task.descriptors());
    }
}

/// Returns what the kernel has opened beside the program that a task has just executed, if that could
/// not be found out before: the loader at least.
pub(in crate::tracer) fn interpreters_of_executed(task: &dyn Task) -> Vec<RawString> {
    interpreters(b"/proc/self/exe", &mut |path, offset, buffer| {
        task.file(libc::AT_FDCWD, path, offset, buffer)
    })
}

/// Tells of the descriptors that are open in a new program: all but the standard streams.
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
