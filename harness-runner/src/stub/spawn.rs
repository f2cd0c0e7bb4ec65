//! Starts the root of an attempt.

use super::{
    explain,
    sys::{self, Block, Child, ChildStack, Filter, SignalMask, Signals, Stage},
    tree::Tree,
    watch::{Watch, Way},
};
use crate::{
    protocol::{Spawn, Trace},
    tracer::{
        breakpoint::Breakpoint,
        filter::{self, Action},
        tasks::{Root, Tasks},
    },
};
use harness_metadata::{Exit, StartFailure, event::TraceLevel, exit_code};
use nix::fcntl::OFlag;
use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, OwnedFd},
    rc::Rc,
    time::Instant,
};

/// Creates roots.
pub(super) struct Spawner {
    go: Pipe,
    failed: Pipe,
    stack: ChildStack,
    stub: sys::Pid,
    /// The last child's memory, which it reads from until it has executed. There is no next child
    /// before it is gone.
    last: Option<Box<Child>>,
    /// The filter of the last child that had one, and its level.
    program: Option<(TraceLevel, Rc<[libc::sock_filter]>)>,
}

struct Pipe {
    reader: File,
    writer: File,
}

/// A root that exists.
pub(super) struct Started {
    pub(super) pid: sys::Pid,
    pub(super) at: Instant,
    baseline: sys::RawUsage,
    /// `None` if it could not be seized, or was not to be.
    pub(super) tasks: Option<Tasks>,
}

/// What is different for a process that is not a stub.
#[derive(Copy, Clone)]
pub(super) struct Manner {
    /// The signal mask that the root starts with.
    pub(super) mask: SignalMask,
    /// Whether the root leads a process group.
    pub(super) own_group: bool,
    /// Whether a root that could not be seized is killed before it becomes anything.
    pub(super) seized_or_killed: bool,
}

/// Why no root was started.
pub(super) enum SpawnError {
    /// It is the test's fault, or its environment's.
    Test(StartFailure),
    /// The stub cannot go on.
    Stub(io::Error),
}

impl Spawner {
    pub(super) fn new() -> io::Result<Self> {
        let stub = nix::unistd::getpid().as_raw();
        let go = Pipe::new(OFlag::O_CLOEXEC)?;
        // Not blocking: a child that did not fail has left nothing to read.
        let failed = Pipe::new(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Self {
            go,
            failed,
            stack: ChildStack::new()?,
            stub,
            last: None,
            program: None,
        })
    }

    /// Creates a root, and seizes it before it becomes the test.
    pub(super) fn spawn(
        &mut self,
        spawn: &Spawn<'_>,
        stdio: &[OwnedFd],
        way: &Way,
        signals: &Signals,
    ) -> Result<Tree, SpawnError> {
        let manner = Manner {
            mask: signals.inherited,
            own_group: true,
            seized_or_killed: false,
        };
        let started = self.create(spawn, stdio, way, manner)?;
        let watch = if started.tasks.is_some() {
            Watch::new(started.pid, way, &spawn.trace)
        } else {
            Watch::default()
        };
        let Started {
            pid,
            at,
            baseline,
            tasks,
        } = started;
        Ok(Tree::new(pid, at, baseline, tasks, watch))
    }

    /// As [`Self::spawn`], and leaves what is to be done with what is seen to the caller.
    pub(super) fn create(
        &mut self,
        spawn: &Spawn<'_>,
        stdio: &[OwnedFd],
        way: &Way,
        manner: Manner,
    ) -> Result<Started, SpawnError> {
        let [stdin, stdout, stderr] = stdio else {
            return Err(SpawnError::Stub(io::Error::from(
                io::ErrorKind::InvalidData,
            )));
        };
        let environment = Block::new(spawn.environment);
        let cwd = string(spawn.cwd)?;
        let program = find_program(string(spawn.program)?, environment.bytes(), cwd);
        let breakpoint = breakpoint(&spawn.trace, way)?;
        let traced = way.level > TraceLevel::Off;
        let filter = way.filtered().then(|| Filter {
            program: self.filter(way.level),
            no_new_privs: spawn.trace.no_new_privs,
        });
        let started = Instant::now();
        let baseline = sys::usage_of_reaped();
        let child = self.last.insert(Box::new(Child {
            program,
            args: Block::new(spawn.args),
            environment,
            cwd: cwd.to_owned(),
            stdio: [stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()],
            go: traced.then(|| self.go.reader.as_raw_fd()),
            filter,
            failed: self.failed.writer.as_raw_fd(),
            mask: manner.mask,
            own_group: manner.own_group,
            stub: self.stub,
        }));
        let root = sys::clone_into(child, &self.stack).map_err(|errno| {
            let message = "the system refused a new process (limit of processes or memory)";
            SpawnError::Test(StartFailure {
                message: message.to_owned(),
                errno: errno as i32,
            })
        })?;
        // If it is not there to be seized it has failed already, and says so in its report.
        let seized = traced && sys::seize(root, way.filtered() || breakpoint.is_some()).is_ok();
        if traced && !seized && manner.seized_or_killed {
            let _ = sys::kill(root, libc::SIGKILL);
        }
        if traced {
            self.go.writer.write_all(&[1]).map_err(SpawnError::Stub)?;
        }
        if traced && !seized {
            // It may never take its byte, and the next one would not wait for its own. It has
            // both ends of the old pipe.
            self.go = Pipe::new(OFlag::O_CLOEXEC).map_err(SpawnError::Stub)?;
        }
        let tasks = seized.then(|| {
            Tasks::new(Root {
                pid: root,
                started,
                level: way.level,
                program: child.program.as_bytes().to_vec(),
                args: spawn.args.to_vec(),
                environment: spawn.environment.to_vec(),
                cwd: cwd.to_bytes().to_vec(),
                breakpoint,
            })
        });
        Ok(Started {
            pid: root,
            at: started,
            baseline,
            tasks,
        })
    }

    /// Returns the filter of a level.
    fn filter(&mut self, level: TraceLevel) -> Rc<[libc::sock_filter]> {
        match &self.program {
            Some((of, program)) if *of == level => Rc::clone(program),
            _ => {
                let program = Rc::from(filter::program(level, Action::Trace));
                self.program = Some((level, Rc::clone(&program)));
                program
            }
        }
    }

    /// Returns why a root did not become the test, if it did not. `executed` is what the tracer
    /// knows of that.
    pub(super) fn failure_of(
        &mut self,
        executed: Option<bool>,
        exit: Exit,
    ) -> Option<StartFailure> {
        match executed {
            Some(true) => return None,
            // Whatever it was, it may not have taken its byte.
            Some(false) => self.go = Pipe::new(OFlag::O_CLOEXEC).ok()?,
            None if exit == Exit::Code(exit_code::DOUBLE_SPAWN) => {}
            None => return None,
        }
        let mut report = [0; sys::REPORT_LEN];
        self.failed.reader.read_exact(&mut report).ok()?;
        let (stage, errno) = report.split_at(4);
        let stage = Stage::from_raw(i32::from_ne_bytes(stage.try_into().ok()?))?;
        let errno = i32::from_ne_bytes(errno.try_into().ok()?);
        let child = self.last.as_ref()?;
        let (program, cwd) = (explain::path(&child.program), explain::path(&child.cwd));
        let message = explain::failure(stage, errno, &program, &cwd);
        Some(StartFailure { message, errno })
    }
}

impl Pipe {
    fn new(flags: OFlag) -> io::Result<Self> {
        let (reader, writer) = nix::unistd::pipe2(flags)?;
        Ok(Self {
            reader: reader.into(),
            writer: writer.into(),
        })
    }
}

/// Returns where to stop descendants. Who is let go of must not have a filter.
fn breakpoint(trace: &Trace<'_>, way: &Way) -> Result<Option<Breakpoint>, SpawnError> {
    if trace.break_exec.is_empty() || way.filtered() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(trace.break_exec);
    match text.parse() {
        Ok(breakpoint) => Ok(Some(breakpoint)),
        Err(error) => Err(SpawnError::Stub(io::Error::other(error))),
    }
}

fn string(bytes: &[u8]) -> Result<&CStr, SpawnError> {
    CStr::from_bytes_with_nul(bytes).map_err(|_| {
        let message = "a path contains a NUL byte, which no path can";
        SpawnError::Test(StartFailure {
            message: message.to_owned(),
            errno: libc::EINVAL,
        })
    })
}

/// Searches a program without a slash in the `PATH` of the environment, as execvp(3) would.
fn find_program(program: &CStr, environment: &[u8], cwd: &CStr) -> CString {
    let name = program.to_bytes();
    if name.contains(&b'/') || name.is_empty() {
        return program.to_owned();
    }
    let variables = environment.split(|byte| *byte == 0);
    let path = variables
        .filter_map(|variable| variable.strip_prefix(b"PATH="))
        .next();
    for directory in path.unwrap_or(b"/bin:/usr/bin").split(|byte| *byte == b':') {
        let mut candidate = match directory {
            [b'/', ..] => directory.to_vec(),
            relative => [cwd.to_bytes(), b"/", relative].concat(),
        };
        candidate.push(b'/');
        candidate.extend_from_slice(name);
        let Ok(candidate) = CString::new(candidate) else {
            continue;
        };
        if nix::unistd::access(candidate.as_c_str(), nix::unistd::AccessFlags::X_OK).is_ok() {
            return candidate;
        }
    }
    program.to_owned()
}
