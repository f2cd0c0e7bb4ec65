//! A command that is traced in this process: see [`crate::trace`].

use super::{
    probe,
    spawn::{Loaders, Manner, SpawnError, Spawner, Started},
    sys::{self, Blocked, Pid, WaitAny, Waited},
    watch::Way,
};
use crate::{
    protocol::{Available, Cgroup, Command, CommandBlocks, Environment, Spawn, Trace},
    sys::Tid,
    tracer::{Observer, tasks::Tasks},
};
use harness_metadata::{Exit, StartFailure, event::TraceLevel, trace::Backend};
use std::{
    ffi::OsString,
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};
use thiserror::Error;

/// The interval for checking whether a held task can be released.
const TICK: Duration = Duration::from_millis(5);

/// The tracing of a command.
#[derive(Debug)]
pub struct Options {
    /// The level. At [`TraceLevel::Process`] there is no filter; at [`TraceLevel::Off`] nothing is
    /// traced.
    pub level: TraceLevel,
    /// Whether no_new_privs may be set, without which only root can install the filter of the levels
    /// above [`TraceLevel::Process`], and with which set-user-id programs do not work.
    pub no_new_privs: bool,
    /// Standard input, output and error. `None` leaves the command this process's own.
    pub stdio: Option<[OwnedFd; 3]>,
}

impl Default for Options {
    /// The level of a test run, with inherited standard streams.
    fn default() -> Self {
        Self {
            level: TraceLevel::default(),
            no_new_privs: true,
            stdio: None,
        }
    }
}

/// The end of a traced command.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// The process of the command.
    pub pid: i32,
    /// Its wait status.
    pub exit: Exit,
    /// Its lifetime.
    pub elapsed: Duration,
    /// By what it was traced.
    pub backend: Backend,
    /// The number of processes, itself included. `None` if it was not traced.
    pub processes: Option<u32>,
}

/// An error that kept a command from being traced to its end.
#[derive(Debug, Error)]
pub enum TraceError {
    /// It could not be started.
    #[error("{}", .0.message)]
    Start(StartFailure),
    /// The kernel does not let it be traced (ptrace(2)): by policy, or because this process is
    /// itself traced in a way that forbids it. The command was not run.
    #[error("the system does not let `{}` be traced", .program.display())]
    Refused {
        /// The program.
        program: PathBuf,
    },
    /// The calling thread has children already. The tracer waits for all that it has, and would take
    /// their exit statuses away.
    #[error("the thread that is to trace has children that have not been waited for")]
    HasChildren,
    /// The system does not give what tracing needs: descriptors or memory.
    #[error("the tracer cannot work")]
    System {
        /// The reason.
        source: io::Error,
    },
}

/// Returns a command with the environment and the working directory of this process.
///
/// # Errors
///
/// When the working directory is gone or cannot be read.
pub fn command<A: Into<OsString>>(
    program: impl Into<PathBuf>,
    args: impl IntoIterator<Item = A>,
) -> io::Result<Command> {
    Ok(Command {
        program: program.into(),
        args: args.into_iter().map(Into::into).collect(),
        environment: Environment::inherited(),
        cwd: std::env::current_dir()?,
    })
}

/// Runs a command, tells the observer what it and its descendants do, and returns when all of them
/// have ended.
///
/// The calling thread is the tracer. It must not have children of its own meanwhile; those of other
/// threads are left alone, and other threads may trace other commands. The command is in the process
/// group of this process, so that what is typed at a terminal reaches it. If this process is killed,
/// so is all that it traces.
///
/// The tracer reports its own blind spots, by events of the kind
/// [`Doubt`](harness_metadata::TraceEventKind::Doubt).
///
/// # Errors
///
/// When the command could not be started, or could not be traced; then it has not run.
pub fn trace(
    command: &Command,
    options: Options,
    observer: &mut dyn Observer,
) -> Result<Traced, TraceError> {
    if sys::has_own_children() {
        return Err(TraceError::HasChildren);
    }
    let mut spawner =
        Spawner::new(Loaders::Watched).map_err(|source| TraceError::System { source })?;
    let asked = Trace {
        level: options.level,
        backend: Backend::Ptrace,
        no_new_privs: options.no_new_privs,
        ..Trace::LIFECYCLE
    };
    // What else is not available shows when it is tried.
    let available = Available {
        no_filter: probe::no_paths(),
        ..Available::default()
    };
    let way = Way::choose(&asked, &available);
    let started = start(&mut spawner, command, options.stdio, asked, &way)?;
    let Started {
        pid,
        at,
        mut traced,
        ..
    } = started;
    let root = follow(pid, traced.tasks_mut(), observer);
    let Some((exit, ended)) = root else {
        let source = io::Error::other("another thread has waited for the command");
        return Err(TraceError::System { source });
    };
    let tasks = traced.tasks();
    let executed = tasks.map(Tasks::root_executed);
    if let Some(failure) = spawner.failure_of(executed, exit) {
        return Err(TraceError::Start(failure));
    }
    if tasks.is_none() && way.level > TraceLevel::Off {
        let program = command.program.clone();
        return Err(TraceError::Refused { program });
    }
    Ok(Traced {
        pid,
        exit,
        elapsed: ended - at,
        backend: way.backend,
        processes: tasks.map(Tasks::count),
    })
}

/// Handles what a root and its descendants do until all of them have ended. Returns how the root has
/// ended, and when.
fn follow(
    root: Pid,
    mut tasks: Option<&mut Tasks>,
    observer: &mut dyn Observer,
) -> Option<(Exit, Instant)> {
    let mut ended = None;
    loop {
        let holds = tasks.as_ref().is_some_and(|tasks| tasks.holds());
        match sys::wait_for_own(!holds) {
            WaitAny::News { pid, waited, usage } => {
                if let Waited::Ended(exit) = &waited
                    && pid == root
                {
                    ended = Some((*exit, Instant::now()));
                }
                match (&mut tasks, waited) {
                    (Some(tasks), waited) => tasks.handle(Tid::new(pid), waited, usage, observer),
                    // It is not traced.
                    (None, Waited::Stopped(stopped)) => stopped.over(),
                    (None, Waited::Ended(_)) => {}
                }
            }
            WaitAny::Quiet => {
                if let Some(tasks) = tasks.as_mut().filter(|_| holds) {
                    thread::sleep(TICK);
                    tasks.release_overdue(observer);
                }
            }
            WaitAny::Nobody => return ended,
        }
    }
}

/// Creates the root.
fn start(
    spawner: &mut Spawner,
    command: &Command,
    stdio: Option<[OwnedFd; 3]>,
    asked: Trace<'_>,
    way: &Way,
) -> Result<Started, TraceError> {
    let blocks = CommandBlocks::of(command);
    let spawn = Spawn {
        ticket: 0,
        command: blocks.raw(),
        trace: asked,
        foreground: false,
        cgroup: Cgroup::default(),
        image: None,
        farewell: None,
        policy: &[],
        inject: &[],
        entries: None,
    };
    let stdio = match stdio {
        Some(streams) => streams.iter().map(above_standard).collect(),
        None => inherited(),
    };
    let stdio: Vec<OwnedFd> = stdio.map_err(|source| TraceError::System { source })?;
    let blocked = Blocked::new();
    let manner = Manner {
        mask: blocked.before(),
        own_group: false,
        seized_or_killed: true,
        remembers: false,
    };
    spawner
        .create(&spawn, &stdio, way, None, manner)
        .map_err(|error| match error {
            SpawnError::Test(failure) => TraceError::Start(failure),
            SpawnError::Stub(source) => TraceError::System { source },
        })
}

fn inherited() -> io::Result<Vec<OwnedFd>> {
    Ok(vec![
        above_standard(&io::stdin())?,
        above_standard(&io::stdout())?,
        above_standard(&io::stderr())?,
    ])
}

/// Copies a descriptor to a number that is not one of the standard streams: the child puts one after
/// the other in their places.
fn above_standard(fd: &impl AsFd) -> io::Result<OwnedFd> {
    // The standard library has F_DUPFD_CLOEXEC begin at 3.
    fd.as_fd().try_clone_to_owned()
}
