//! Starts the root of an attempt.

mod recipe;

use super::{
    broker::Broker,
    cgroup::Den,
    confine, explain,
    holds::{self, Interest},
    nest::Nest,
    outer::Subtree,
    sys::{
        self, Block, Child, ChildStack, Confined, Filter, HandOver, OpenFiles, SignalMask, Signals,
        Stage,
    },
    traced::Traced,
    tree::Tree,
    watch::{Watch, Way},
};
use crate::{
    policy::Bounds,
    protocol::{self, Spawn},
    sys::{Tid, notify::Listener},
    tracer::{
        loads::{Key, Loads},
        notified::Notified,
        tasks::{Loader, Root, Tasks},
    },
};
use harness_metadata::{Exit, StartFailure, event::TraceLevel, exit_code, trace::Backend};
use nix::{errno::Errno, fcntl::OFlag};
use recipe::{Asked, Born, Filters, Listed, Recipe};
use std::{
    borrow::Cow,
    cell::{OnceCell, RefCell},
    ffi::{CStr, OsStr},
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

/// The time limit for a child to install its filter. It takes microseconds.
const HAND_OVER: Duration = Duration::from_secs(10);

/// Creates roots.
pub(super) struct Spawner {
    go: Pipe,
    failed: Pipe,
    /// The place where a child writes the descriptor of its filter's listener.
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
    filters: Filters,
    /// The policy of the last child, as it came.
    policy: Vec<u8>,
    /// The loads of its children and their descendants, by that policy.
    loads: Rc<RefCell<Loads>>,
    loaders: Loaders,
    executables: Listed,
    /// The folder of the workspace, which is the same for all tests of a run.
    workspace: OnceCell<Option<Rc<Path>>>,
    /// The usage of all children, if each of them has been reaped.
    pub(super) reaped: Option<sys::RawUsage>,
}

/// The treatment of loaders of programs that were executed before. This is the one door to the
/// machinery for it: `tracer/loads`, `tracer/hook`, `tracer/maps` and `tracer/tasks/loading`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Loaders {
    /// Their calls are reported from memory where that is safe.
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
    pub(super) traced: Traced,
    /// The broker that sends inner runs their events.
    broker: Option<Rc<RefCell<Broker>>>,
    /// The cgroup that it was born into.
    den: Option<Rc<Den>>,
    /// Its policy.
    bounds: Option<Rc<Bounds>>,
}

/// The differences for a process that is not a stub.
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

/// The error that kept the root from starting.
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
            filters: Filters::default(),
            policy: Vec::new(),
            loads: Rc::default(),
            loaders,
            executables: Listed::default(),
            workspace: OnceCell::new(),
            reaped: None,
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
            traced,
            broker,
            den,
            bounds,
        } = self.create(spawn, stdio, way, Some(nest), manner)?;
        let workspace = || holds::workspace(spawn.command.environment);
        let workspace = self.workspace.get_or_init(workspace).clone();
        let watch = match &traced {
            Traced::Not => Watch::default(),
            Traced::Ptrace(_) => Watch::new(pid, way, &spawn.trace).telling(broker),
            Traced::Notify(_) => Watch::new(pid, way, &spawn.trace),
            Traced::Outer(followed) => {
                let level = followed.as_ref().map(Subtree::level).map_err(Clone::clone);
                Watch::new(pid, &Way::by_outer(level), &spawn.trace)
            }
        };
        let watch = watch.judged_by(bounds).since(at);
        Ok(Tree::new(pid, at, baseline, traced, watch)
            .born_into(den)
            .interested_in(Interest::new(stdio, workspace)))
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
        let asked = Asked { spawn, way, manner };
        let recipe = self.recipe(asked, nest.as_deref())?;
        let bounds = recipe.bounds.clone();
        let child = self.child(&recipe, stdio)?;
        let at = Instant::now();
        // Between two attempts nothing is reaped.
        let baseline = self.reaped.take().unwrap_or_else(sys::usage_of_reaped);
        let pid = self.fork(child, spawn.cgroup.limited)?;
        let born = Born { pid, at, baseline };
        let (broker, den) = (recipe.broker.clone(), recipe.den.clone());
        let traced = match way.backend {
            _ if way.level == TraceLevel::Off => Traced::Not,
            Backend::Notify => self.listened_to(born, recipe)?,
            Backend::Outer => self.followed(born, way.level, nest)?,
            Backend::Ptrace | Backend::Lifecycle | Backend::None => self.seized(born, recipe)?,
        };
        Ok(Started {
            pid,
            at,
            baseline,
            traced,
            broker,
            den,
            bounds,
        })
    }

    /// Collects all that a root is made from.
    fn recipe<'a>(
        &mut self,
        asked: Asked<'a>,
        nest: Option<&Nest>,
    ) -> Result<Recipe<'a>, SpawnError> {
        let Asked { spawn, way, manner } = asked;
        let broker = nest.and_then(|nest| nest.broker(way));
        let environment = match nest {
            Some(nest) => nest.environment(spawn.command.environment, broker.as_ref()),
            None => Cow::Borrowed(spawn.command.environment),
        };
        let cwd = recipe::string(spawn.command.cwd)?;
        let program =
            recipe::find_program(recipe::string(spawn.command.program)?, &environment, cwd);
        let breakpoint = recipe::breakpoint(&spawn.trace, way)?;
        let bounds = confine::bounds(spawn, program.to_bytes(), way).map_err(SpawnError::Test)?;
        if self.policy != spawn.policy {
            // A loader that is denied a library does something else than it did without a policy.
            self.policy = spawn.policy.to_vec();
            self.loads = Rc::default();
        }
        let inject = confine::injections(spawn, way).map_err(SpawnError::Test)?;
        let by_filter = bounds.as_ref().is_some_and(confine::needs_tracer) || inject.is_some();
        let remembers = !by_filter && remembers(way, manner);
        let loads = remembers.then(|| Rc::clone(&self.loads));
        let loader = loads
            .as_ref()
            .and_then(|_| self.loader(&program, cwd, &environment, spawn, way));
        Ok(Recipe {
            asked,
            broker,
            environment,
            program,
            cwd,
            breakpoint,
            entries: self.executables.recording(spawn.entries),
            loads,
            loader,
            den: self.den(&spawn.cgroup)?,
            inject,
            bounds: bounds.map(Rc::new),
        })
    }

    /// Returns what a child reads from until it has executed.
    fn child(&mut self, recipe: &Recipe<'_>, stdio: &[OwnedFd]) -> Result<Box<Child>, SpawnError> {
        let [stdin, stdout, stderr] = stdio else {
            return Err(SpawnError::Stub(io::Error::from(
                io::ErrorKind::InvalidData,
            )));
        };
        let Asked { spawn, way, manner } = recipe.asked;
        let known = recipe.known_load();
        let filter = (way.filtered() && known.is_none()).then(|| Filter {
            program: self.filters.of(way, recipe.inject.as_ref()),
            no_new_privs: spawn.trace.no_new_privs,
            required: recipe.needs_filter(),
            listener: (way.backend == Backend::Notify).then(|| HandOver {
                ready: self.ready.writer.as_raw_fd(),
                taken: self.go.reader.as_raw_fd(),
            }),
        });
        let den = recipe.den.as_ref();
        let bounds = recipe.bounds.as_deref();
        let ruleset = bounds.map_or(Ok(None), confine::ruleset);
        let ruleset = ruleset.map_err(SpawnError::Test)?;
        let confined = ruleset.map(|ruleset| Confined {
            ruleset,
            no_new_privs: spawn.trace.no_new_privs,
        });
        Ok(Box::new(Child {
            program: recipe.program.clone(),
            args: Block::new(spawn.command.args),
            environment: Block::new(&recipe.environment),
            cwd: recipe.cwd.to_owned(),
            stdio: [stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()],
            go: (way.level > TraceLevel::Off).then(|| self.go.reader.as_raw_fd()),
            filter,
            confined,
            no_new_privs: known.is_some_and(|load| load.no_new_privs),
            image: recipe::image(spawn)?,
            failed: self.failed.writer.as_raw_fd(),
            cgroup: den.and_then(|den| den.unified()),
            tasks: den.map_or_else(Default::default, |den| den.tasks()),
            mask: manner.mask,
            own_group: manner.own_group,
            foreground: self.foreground.take(),
            open_files: self.open_files,
            stub: self.stub,
        }))
    }

    /// Creates a child's process. A cgroup that is gone is no reason not to, unless it has limits.
    fn fork(&mut self, child: Box<Child>, limited: bool) -> Result<sys::Pid, SpawnError> {
        let child = self.last.insert(child);
        let root = sys::clone_into(child, &self.stack);
        let root = root.or_else(|errno| match child.cgroup {
            Some(_) if !limited => {
                child.cgroup = None;
                sys::clone_into(child, &self.stack)
            }
            _ => Err(errno),
        });
        root.map_err(|errno| {
            let message = "the system refused a new process (limit of processes or memory)";
            SpawnError::Test(StartFailure {
                message: message.to_owned(),
                errno: errno as i32,
            })
        })
    }

    /// Seizes a child, and lets it go on. If it is not there to be seized it has failed already, and
    /// says so in its report.
    fn seized(&mut self, born: Born, recipe: Recipe<'_>) -> Result<Traced, SpawnError> {
        let seized = sys::seize(Tid::new(born.pid), recipe.options()).is_ok();
        let denies = recipe.bounds.as_deref().is_some_and(confine::needs_tracer);
        if !seized && (denies || recipe.asked.manner.seized_or_killed) {
            let _ = sys::kill(born.pid, libc::SIGKILL);
        }
        self.let_go()?;
        if !seized {
            self.forget_last_go()?;
            return Ok(Traced::Not);
        }
        Ok(Traced::Ptrace(Tasks::new(recipe.into_root(born))))
    }

    /// Has a child followed by the tracer around us, and lets it go on.
    fn followed(
        &mut self,
        born: Born,
        level: TraceLevel,
        nest: Option<&mut Nest>,
    ) -> Result<Traced, SpawnError> {
        let followed = nest.map(|nest| nest.follow(born.pid, born.at, level));
        self.let_go()?;
        self.forget_last_go()?;
        Ok(followed.map_or(Traced::Not, Traced::Outer))
    }

    /// Lets a child install its filter, and takes the listener of that.
    fn listened_to(&mut self, born: Born, recipe: Recipe<'_>) -> Result<Traced, SpawnError> {
        self.let_go()?;
        let Some(listener) = self.listen(born.pid)? else {
            self.forget_last_go()?;
            return Ok(Traced::Not);
        };
        let root = Root {
            breakpoint: None,
            entries: None,
            loader: None,
            loads: None,
            ..recipe.into_root(born)
        };
        Ok(Traced::Notify(Notified::new(root, listener)))
    }

    /// Gives a child its byte, for which it waits if it is traced.
    fn let_go(&mut self) -> Result<(), SpawnError> {
        self.go.writer.write_all(&[1]).map_err(SpawnError::Stub)
    }

    /// The last child may never take its byte, and the next one would not wait for its own. It has
    /// both ends of the old pipe.
    fn forget_last_go(&mut self) -> Result<(), SpawnError> {
        self.go = Pipe::new(OFlag::O_CLOEXEC).map_err(SpawnError::Stub)?;
        Ok(())
    }

    /// Removes the cgroup of the last child, and that of the run if no other process is left to do
    /// it.
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
    /// Without a listener it does not go on: with a filter that has no listener, all its calls
    /// would fail. The probe has had one, so this is as rare as a failing fork.
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
            filter: self.filters.of(way, None),
        })
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

#[cfg(test)]
mod tests;
