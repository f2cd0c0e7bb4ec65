//! Starts the root of an attempt.

use super::{
    broker::Broker,
    cgroup::Den,
    explain,
    holds::Interest,
    nest::Nest,
    outer::Subtree,
    sys::{
        self, Block, Child, ChildStack, Filter, HandOver, Image, OpenFiles, Options, SignalMask,
        Signals, Stage,
    },
    tree::Tree,
    watch::{Watch, Way},
};
use crate::{
    protocol::{self, Spawn, Trace},
    sys::{Tgid, Tid, notify::Listener},
    tracer::{
        breakpoint::Breakpoint,
        filter::{self, Action},
        loads::{Key, Known, Loads},
        notified::Notified,
        tasks::{Loader, Root, Tasks},
    },
};
use harness_metadata::{Exit, StartFailure, event::TraceLevel, exit_code, trace::Backend};
use nix::{errno::Errno, fcntl::OFlag};
use std::{
    borrow::Cow,
    cell::RefCell,
    ffi::{CStr, CString, OsStr},
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    rc::Rc,
    time::{Duration, Instant},
};

/// How long a child may take until it has a filter. It takes microseconds.
const HAND_OVER: Duration = Duration::from_secs(10);

/// Creates roots.
pub(super) struct Spawner {
    go: Pipe,
    failed: Pipe,
    /// Where a child says which descriptor its filter's listener is.
    ready: Pipe,
    stack: ChildStack,
    stub: sys::Pid,
    /// The limit of open files that roots start with, if it is not the stub's.
    pub(super) open_files: Option<OpenFiles>,
    /// The terminal, if the next root is to have it.
    pub(super) foreground: Option<RawFd>,
    /// The last child's memory, which it reads from until it has executed. There is no next child
    /// before it is gone.
    last: Option<Box<Child>>,
    /// The cgroup of the last child that had one.
    den: Option<Rc<Den>>,
    /// The filter of the last child that had one, its level and what it does.
    program: Option<(TraceLevel, Action, Rc<[libc::sock_filter]>)>,
    /// What the loaders of its children and of their descendants have done.
    loads: Rc<RefCell<Loads>>,
    loaders: Loaders,
}

/// What is done about the loaders of programs that were executed before. This is the one door to the
/// machinery for it: `tracer/loads`, `tracer/hook`, `tracer/maps` and `tracer/tasks/loading`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Loaders {
    /// What they do is told from memory where that is safe.
    Remembered,
    /// They are watched each time.
    Watched,
}

impl Loaders {
    /// To find out whether a trace depends on memory, and what memory saves.
    const VARIABLE: &str = "HARNESS_WATCH_LOADERS";

    pub(super) fn of_environment() -> Self {
        Self::from_value(std::env::var_os(Self::VARIABLE).as_deref())
    }

    fn from_value(value: Option<&OsStr>) -> Self {
        match value.map(OsStr::as_bytes) {
            None | Some(b"" | b"0" | b"false" | b"no" | b"off") => Self::Remembered,
            Some(_) => Self::Watched,
        }
    }
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
    /// If it was to be followed by whoever traces us: whether it is.
    followed: Option<Result<Subtree, String>>,
    /// If there is a listener.
    notified: Option<Notified>,
    /// Who tells runs in it what they do.
    broker: Option<Rc<RefCell<Broker>>>,
    /// The cgroup that it was born into.
    den: Option<Rc<Den>>,
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
    /// Whether there will be more children, so that what loaders do is worth being remembered.
    pub(super) remembers: bool,
}

/// Why no root was started.
pub(super) enum SpawnError {
    /// It is the test's fault, or its environment's.
    Test(StartFailure),
    /// The stub cannot go on.
    Stub(io::Error),
}

impl Spawner {
    pub(super) fn new(loaders: Loaders) -> io::Result<Self> {
        let stub = nix::unistd::getpid().as_raw();
        let go = Pipe::new(OFlag::O_CLOEXEC)?;
        // Not blocking: a child that did not fail has left nothing to read.
        let failed = Pipe::new(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let ready = Pipe::new(OFlag::O_CLOEXEC)?;
        Ok(Self {
            go,
            failed,
            ready,
            stack: ChildStack::new()?,
            stub,
            open_files: None,
            foreground: None,
            last: None,
            den: None,
            program: None,
            loads: Rc::default(),
            loaders,
        })
    }

    /// Creates a root, and seizes it before it becomes the test.
    pub(super) fn spawn(
        &mut self,
        spawn: &Spawn<'_>,
        stdio: &[OwnedFd],
        way: &Way,
        nest: &mut Nest,
        signals: &Signals,
    ) -> Result<Tree, SpawnError> {
        let manner = Manner {
            mask: signals.inherited,
            own_group: true,
            seized_or_killed: false,
            remembers: self.loaders == Loaders::Remembered,
        };
        let Started {
            pid,
            at,
            baseline,
            tasks,
            followed,
            notified,
            broker,
            den,
        } = self.create(spawn, stdio, way, Some(nest), manner)?;
        let watch = match &followed {
            Some(followed) => {
                let level = followed.as_ref().map(Subtree::level).map_err(Clone::clone);
                Watch::new(pid, &Way::by_outer(level), &spawn.trace)
            }
            None if tasks.is_some() => Watch::new(pid, way, &spawn.trace).telling(broker),
            None if notified.is_some() => Watch::new(pid, way, &spawn.trace),
            None => Watch::default(),
        };
        let tree = Tree::new(pid, at, baseline, tasks, watch)
            .born_into(den)
            .interested_in(Interest::new(stdio, spawn.environment));
        Ok(match (followed, notified) {
            (Some(Ok(subtree)), _) => tree.followed_as(subtree),
            (_, Some(notified)) => tree.with_listener(notified),
            _ => tree,
        })
    }

    /// As [`Self::spawn`], and leaves what is to be done with what is seen to the caller.
    pub(super) fn create(
        &mut self,
        spawn: &Spawn<'_>,
        stdio: &[OwnedFd],
        way: &Way,
        nest: Option<&mut Nest>,
        manner: Manner,
    ) -> Result<Started, SpawnError> {
        let [stdin, stdout, stderr] = stdio else {
            return Err(SpawnError::Stub(io::Error::from(
                io::ErrorKind::InvalidData,
            )));
        };
        let broker = nest.as_ref().and_then(|nest| nest.broker(way));
        let variables = match &nest {
            Some(nest) => nest.environment(spawn.environment, broker.as_ref()),
            None => Cow::Borrowed(spawn.environment),
        };
        let environment = Block::new(&variables);
        let cwd = string(spawn.cwd)?;
        let program = find_program(string(spawn.program)?, environment.bytes(), cwd);
        let breakpoint = breakpoint(&spawn.trace, way)?;
        let traced = way.level > TraceLevel::Off;
        let notify = way.backend == Backend::Notify;
        let loads = remembers(way, manner).then(|| Rc::clone(&self.loads));
        let loader = loads
            .as_ref()
            .and_then(|_| self.loader(&program, cwd, environment.bytes(), spawn, way));
        let known = loader.as_ref().and_then(|loader| match &loader.known {
            Known::Yes(load) => Some(load),
            Known::No => None,
        });
        let filter = (way.filtered() && known.is_none()).then(|| Filter {
            program: self.filter(way),
            no_new_privs: spawn.trace.no_new_privs,
            listener: notify.then(|| HandOver {
                ready: self.ready.writer.as_raw_fd(),
                taken: self.go.reader.as_raw_fd(),
            }),
        });
        let den = self.den(&spawn.cgroup)?;
        let started = Instant::now();
        let baseline = sys::usage_of_reaped();
        let child = self.last.insert(Box::new(Child {
            program: program.clone(),
            args: Block::new(spawn.args),
            environment,
            cwd: cwd.to_owned(),
            stdio: [stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()],
            go: traced.then(|| self.go.reader.as_raw_fd()),
            filter,
            no_new_privs: known.is_some_and(|load| load.no_new_privs),
            image: image(spawn)?,
            failed: self.failed.writer.as_raw_fd(),
            cgroup: den.as_ref().and_then(|den| den.unified()),
            tasks: den
                .as_ref()
                .map_or_else(Default::default, |den| den.tasks()),
            mask: manner.mask,
            own_group: manner.own_group,
            foreground: self.foreground.take(),
            open_files: self.open_files,
            stub: self.stub,
        }));
        let root = sys::clone_into(child, &self.stack);
        let root = root.or_else(|errno| match child.cgroup {
            // It may be gone, which nobody needs to suffer from but who has limits.
            Some(_) if !spawn.cgroup.limited => {
                child.cgroup = None;
                sys::clone_into(child, &self.stack)
            }
            _ => Err(errno),
        });
        let root = root.map_err(|errno| {
            let message = "the system refused a new process (limit of processes or memory)";
            SpawnError::Test(StartFailure {
                message: message.to_owned(),
                errno: errno as i32,
            })
        })?;
        // If it is not there to be seized it has failed already, and says so in its report.
        let by_outer = traced && way.backend == Backend::Outer;
        let by_us = traced && !notify && !by_outer;
        let options = Options {
            filtered: way.filtered() || breakpoint.is_some(),
            // There it is seen whether it is still in its cgroup.
            exits: den.as_ref().is_some_and(|den| den.is_limited()),
            ..Options::default()
        };
        let seized = by_us && sys::seize(Tid::new(root), options).is_ok();
        if by_us && !seized && manner.seized_or_killed {
            let _ = sys::kill(root, libc::SIGKILL);
        }
        let followed = nest
            .filter(|_| by_outer)
            .map(|nest| nest.follow(root, started, way.level));
        if traced {
            self.go.writer.write_all(&[1]).map_err(SpawnError::Stub)?;
        }
        let listener = if notify { self.listen(root)? } else { None };
        if traced && !seized && listener.is_none() {
            // It may never take its byte, and the next one would not wait for its own. It has
            // both ends of the old pipe.
            self.go = Pipe::new(OFlag::O_CLOEXEC).map_err(SpawnError::Stub)?;
        }
        let described = |breakpoint, loader, loads| Root {
            pid: Tgid::new(root),
            started,
            level: way.level,
            program: program.as_bytes().to_vec(),
            args: spawn.args.to_vec(),
            environment: variables.to_vec(),
            cwd: cwd.to_bytes().to_vec(),
            breakpoint,
            loader,
            loads,
            options,
        };
        Ok(Started {
            pid: root,
            at: started,
            baseline,
            tasks: seized.then(|| Tasks::new(described(breakpoint, loader, loads))),
            followed,
            notified: listener.map(|listener| Notified::new(described(None, None, None), listener)),
            broker,
            den,
        })
    }

    /// Removes the cgroup of the last child, and that of the run if nobody else is there to do it.
    pub(super) fn remove_den(&mut self, of_run: bool) {
        if let Some(den) = self.den.take() {
            den.remove(of_run);
        }
    }

    /// Returns the cgroup that a child is to be born into.
    fn den(&mut self, asked: &protocol::Cgroup<'_>) -> Result<Option<Rc<Den>>, SpawnError> {
        if let Some(den) = self.den.as_ref().filter(|den| den.is(asked)) {
            return Ok(Some(Rc::clone(den)));
        }
        match Den::open(asked) {
            Ok(den) => {
                self.den = den.map(Rc::new);
                Ok(self.den.clone())
            }
            Err(_) if !asked.limited => Ok(None),
            Err(error) => Err(SpawnError::Test(StartFailure {
                message: "its cgroup, which has its limits, cannot be opened".to_owned(),
                errno: error.raw_os_error().unwrap_or_default(),
            })),
        }
    }

    /// Takes the listener of a child's filter, and lets the child go on. `None` if it has failed
    /// before that and ends by itself.
    ///
    /// Without a listener it does not go on: with a filter that nobody listens to, it could do
    /// nothing. The probe has had one, so this is as rare as that no process can be created.
    fn listen(&mut self, child: sys::Pid) -> Result<Option<Listener>, SpawnError> {
        let pidfd = sys::pidfd_open(child);
        let listener = match &pidfd {
            Some(pidfd) => take_listener(&mut self.ready.reader, pidfd.as_fd()),
            None => Err(Errno::ENOSYS),
        };
        match listener {
            Ok(Some(listener)) => {
                self.go.writer.write_all(&[1]).map_err(SpawnError::Stub)?;
                Ok(Some(listener))
            }
            Ok(None) => {
                let _ = self.go.writer.write_all(&[1]);
                Ok(None)
            }
            Err(errno) => {
                let _ = sys::kill(child, libc::SIGKILL);
                sys::wait_for_end_of(child);
                (self.go, self.ready) = fresh().map_err(SpawnError::Stub)?;
                let message = "no listener could be had for its system calls (seccomp)";
                Err(SpawnError::Test(StartFailure {
                    message: message.to_owned(),
                    errno: errno as i32,
                }))
            }
        }
    }

    /// Returns what is known of a child's loader, if it can be.
    fn loader(
        &mut self,
        program: &CStr,
        cwd: &CStr,
        environment: &[u8],
        spawn: &Spawn<'_>,
        way: &Way,
    ) -> Option<Loader> {
        let (program, cwd) = (program.to_bytes(), cwd.to_bytes());
        let no_new_privs = spawn.trace.no_new_privs;
        let key = Key::of_root(program, cwd, environment, way.level, no_new_privs)?;
        let known = self.loads.borrow_mut().of(&key)?;
        Some(Loader {
            key,
            known,
            filter: self.filter(way),
        })
    }

    /// Returns the filter of a child.
    fn filter(&mut self, way: &Way) -> Rc<[libc::sock_filter]> {
        let action = match way.backend {
            Backend::Notify => Action::Notify,
            _ => Action::Trace,
        };
        match &self.program {
            Some((level, does, program)) if (*level, *does) == (way.level, action) => {
                Rc::clone(program)
            }
            _ => {
                let program = Rc::from(filter::program(way.level, action));
                self.program = Some((way.level, action, Rc::clone(&program)));
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
        let program = match (stage, &child.image) {
            (Stage::Image, Some(image)) => &image.path,
            _ => &child.program,
        };
        let (program, cwd) = (explain::path(program), explain::path(&child.cwd));
        let message = explain::failure(stage, errno, &program, &cwd);
        Some(StartFailure { message, errno })
    }
}

/// Returns whether it is remembered what the loaders of a child and of its descendants do.
fn remembers(way: &Way, manner: Manner) -> bool {
    let can = manner.remembers && way.filtered() && way.backend == Backend::Ptrace;
    // The kernel resets a blocked or ignored SIGTRAP when int3 forces it. Looked at last: it takes a
    // system call.
    can && !manner.mask.blocks(libc::SIGTRAP) && !sys::is_ignored(libc::SIGTRAP)
}

/// The pipes of a child that shares them with none before.
fn fresh() -> io::Result<(Pipe, Pipe)> {
    let new = || Pipe::new(OFlag::O_CLOEXEC);
    Ok((new()?, new()?))
}

/// Takes a child's listener once it says which descriptor that is. `None` if the child has ended.
///
/// # Errors
///
/// When it could not make one, or it cannot be taken.
pub(super) fn take_listener(
    ready: &mut File,
    child: BorrowedFd<'_>,
) -> Result<Option<Listener>, Errno> {
    let [said, ended] = sys::either([ready.as_fd(), child], HAND_OVER);
    if !said {
        return if ended {
            Ok(None)
        } else {
            Err(Errno::ETIMEDOUT)
        };
    }
    let mut fd = [0; sys::READY_LEN];
    ready.read_exact(&mut fd).map_err(|_| Errno::EIO)?;
    match i32::from_ne_bytes(fd) {
        fd @ 0.. => Listener::of_child(child, fd).map(Some),
        refused => Err(Errno::from_raw(-refused)),
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

/// Returns the file that must not have changed.
fn image(spawn: &Spawn<'_>) -> Result<Option<Image>, SpawnError> {
    let image = |image: &protocol::Image<'_>| -> Result<Image, SpawnError> {
        Ok(Image {
            path: string(image.path)?.to_owned(),
            identity: image.identity,
        })
    };
    spawn.image.as_ref().map(image).transpose()
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

#[cfg(test)]
mod tests;
