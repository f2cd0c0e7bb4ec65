//! Tasks of the running system, as [`decode`](super::decode) asks about them.
//!
//! The kernel is asked wherever it can answer: about directories and descriptors by the links in
//! /proc, about files by looking at them. Only the arguments and environment of a process are
//! remembered between two stops.

use super::{
    Map,
    decode::{Bound, Environment, Question, ReadError, Task},
    disturbed::Means,
    served,
    stop::Tracee,
};
use crate::{
    proc,
    sys::{self, Looked, RawUsage, Tgid, Tid},
};
use harness_metadata::{
    TraceEventKind,
    trace::{Address, CallResult, Disturbance, Doubt, FileId},
};
use nix::{
    errno::Errno,
    sys::socket::{self, SockaddrStorage, sockopt},
};
use std::{
    cell::{Cell, OnceCell, RefCell},
    ffi::{CStr, CString, OsStr},
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{FileExt, OpenOptionsExt},
        },
    },
    path::Path,
    rc::Rc,
};

mod addresses;
mod meeting;
mod rights;

use addresses::{address, own_addresses};
use rights::{Rights, rights};

/// The state that the tasks of an attempt share.
#[derive(Default)]
pub(crate) struct Context {
    /// The live processes.
    pub(crate) processes: Map<Tgid, Process>,
    /// Whether a path may mean something else to a task than to this process, because a root
    /// directory or mounts have changed. A file system may then also be served by a task of the
    /// tree, which cannot answer while it is stopped (FUSE).
    pub(crate) elsewhere: bool,
    /// Whether a task may have other rights than this process.
    other_rights: Cell<bool>,
    /// The tracer's influence on the tasks.
    means: Means,
    /// Processes that have set no_new_privs themselves.
    promised: RefCell<Vec<Tgid>>,
    /// Processes that a signal has stopped.
    stopped: RefCell<Vec<Tgid>>,
    /// The signals with a value that the attempt has queued, but for those that have arrived.
    queued: Cell<u64>,
    /// Whether memory may be served by a task (userfaultfd(2)).
    serves_memory: Cell<bool>,
    /// Whether a task may be refused what its rights allow.
    confined: Cell<bool>,
    own_rights: OnceCell<Option<Rights>>,
    /// The mount of this process's root directory.
    own_root: OnceCell<Option<u64>>,
    /// Made when the first socket is used: to ask for the machine's addresses takes longer than all
    /// else.
    sockets: OnceCell<RefCell<Bound>>,
}

/// A live process.
pub(crate) struct Process {
    /// The process that created it; `None` if unknown.
    pub(crate) creator: Option<Tgid>,
    /// Whether it has ever had more than one thread.
    pub(crate) threads: bool,
    /// The usage of its ended children.
    pub(crate) children: RawUsage,
    /// Its arguments and environment. Shared with the processes that it creates.
    pub(crate) environment: Rc<Environment>,
    /// Whether its program may meet the tracer, so that it is stopped at every call where there is no
    /// filter.
    pub(crate) may_meet_tracer: bool,
}

impl Process {
    pub(crate) fn new(creator: Option<Tgid>, environment: Rc<Environment>) -> Self {
        Self {
            creator,
            threads: false,
            children: RawUsage::default(),
            environment,
            may_meet_tracer: false,
        }
    }
}

impl Context {
    /// The context of an attempt to whose processes this is done.
    pub(crate) fn of(means: Means) -> Self {
        Self {
            means,
            ..Self::default()
        }
    }

    /// Looks whether a new process was created with another root or with mounts of its own.
    pub(crate) fn check_root_of(&mut self, process: Tgid) {
        if !self.elsewhere {
            let own = *self.own_root.get_or_init(|| root_mount(None));
            self.elsewhere = root_mount(Some(process)).is_some_and(|mount| Some(mount) != own);
        }
    }

    /// Returns true if a signal that was queued can be one that the attempt has queued, once for each.
    pub(crate) fn has_queued(&self) -> bool {
        let queued = self.queued.get();
        self.queued.set(queued.saturating_sub(1));
        queued > 0
    }

    /// Takes notice of what changes the meaning of paths.
    pub(crate) fn heed(&mut self, kind: &TraceEventKind) {
        self.elsewhere |= match kind {
            TraceEventKind::Doubt(doubt) => *doubt == Doubt::ChangedNamespace,
            TraceEventKind::File(call) => call.operation.moves_paths(),
            _ => false,
        };
    }

    /// A process has more than one thread.
    pub(crate) fn has_thread(&mut self, process: Tgid) {
        if let Some(process) = self.processes.get_mut(&process) {
            process.threads = true;
        }
    }

    /// A process has executed a program with this environment.
    pub(crate) fn set_environment(&mut self, process: Tgid, environment: Rc<Environment>) {
        if let Some(process) = self.processes.get_mut(&process) {
            process.environment = environment;
        }
    }
}

/// A stopped task.
pub(crate) struct Live<'a> {
    tid: Tid,
    process: Tgid,
    context: &'a Context,
}

/// Paths that mean something else to everybody who asks, and what they are for the thread `TID` of
/// the process `PID`.
const OWN_PATHS: &[(&[u8], &str)] = &[
    (b"/proc/self", "PID"),
    (b"/proc/thread-self", "TASK"),
    (b"/proc/mounts", "PID/mounts"),
    (b"/proc/net", "PID/net"),
    (b"/dev/fd", "TID/fd"),
    (b"/dev/stdin", "TID/fd/0"),
    (b"/dev/stdout", "TID/fd/1"),
    (b"/dev/stderr", "TID/fd/2"),
];

impl Task for Live<'_> {
    fn pid(&self) -> i32 {
        self.process.raw()
    }

    fn tid(&self) -> i32 {
        self.tid.raw()
    }

    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        if self.context.serves_memory.get() && served::may_wait(self.process, address, buffer.len())
        {
            return Err(ReadError::Waits);
        }
        let refused = match sys::read_memory(self.tid, address, buffer) {
            Ok(0) => return Err(ReadError::Fault),
            Ok(read) => return Ok(read),
            Err(Errno::EFAULT) => return Err(ReadError::Fault),
            Err(Errno::ESRCH) => return Err(ReadError::Gone),
            Err(errno) => errno,
        };
        // The call may be forbidden or missing in a sandbox where the file is not.
        let read = File::open(proc::path(self.tid, "mem"))
            .and_then(|memory| memory.read_at(buffer, address));
        match read {
            Ok(0) => Err(ReadError::Gone),
            Ok(read) => Ok(read),
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Err(ReadError::Fault),
            Err(_) if refused == Errno::ESRCH => Err(ReadError::Gone),
            Err(_) => Err(ReadError::Refused),
        }
    }

    fn cwd(&self) -> Option<Vec<u8>> {
        let cwd = self.link("cwd")?;
        (!cwd.starts_with(b"(unreachable)")).then_some(cwd)
    }

    fn root(&self) -> Option<Vec<u8>> {
        let root = self.context.elsewhere.then(|| self.link("root"))?;
        root.filter(|root| root != b"/")
    }

    fn descriptor(&self, fd: i32) -> Option<Vec<u8>> {
        self.link(&format!("fd/{fd}"))
    }

    fn descriptors(&self) -> Vec<(i32, Vec<u8>)> {
        let Ok(entries) = fs::read_dir(proc::path(self.tid, "fd")) else {
            return Vec::new();
        };
        let described = |entry: fs::DirEntry| {
            let fd = entry.file_name().to_str()?.parse().ok()?;
            // To read a link costs more than all else here.
            if fd <= libc::STDERR_FILENO {
                return None;
            }
            Some((fd, self.link(&format!("fd/{fd}"))?))
        };
        entries.flatten().filter_map(described).collect()
    }

    fn look(&self, directory: i32, path: &[u8], follow: bool) -> Result<FileId, i32> {
        let looked = self.find(directory, path, follow);
        looked
            .map(|looked| looked.file)
            .map_err(|errno| errno as i32)
    }

    fn file(&self, directory: i32, path: &[u8], offset: u64, buffer: &mut [u8]) -> Option<usize> {
        let file = if self.context.elsewhere {
            let found = self.open_elsewhere(directory, path, true).ok()?;
            reopen(&found)?
        } else {
            let name = self.name(directory, path, true).0;
            open_regular(OsStr::from_bytes(&name))?
        };
        file.read_at(buffer, offset).ok()
    }

    fn socket_name(&self, fd: i32) -> Option<Address> {
        let socket = self.descriptor_of_its_own(fd)?;
        let name = socket::getsockname::<SockaddrStorage>(socket.as_raw_fd()).ok()?;
        Some(address(&name))
    }

    fn peer_name(&self, fd: i32) -> Option<Address> {
        let socket = self.descriptor_of_its_own(fd)?;
        let name = socket::getpeername::<SockaddrStorage>(socket.as_raw_fd()).ok()?;
        Some(address(&name))
    }

    fn peer_is_own(&self, fd: i32) -> Option<bool> {
        let socket = self.descriptor_of_its_own(fd)?;
        let peer = socket::getsockopt(&socket, sockopt::PeerCredentials).ok()?;
        Some(self.context.processes.contains_key(&Tgid::new(peer.pid())))
    }

    fn is_own(&self, process: i32) -> bool {
        self.owns(process)
    }

    fn changes_rights(&self) {
        self.context.other_rights.set(true);
    }

    fn confines(&self) {
        self.context.confined.set(true);
    }

    fn executed(&self) {
        let Ok(program) = CString::new(proc::path(self.tid, "exe")) else {
            return;
        };
        if sys::look(libc::AT_FDCWD, &program, true).is_ok_and(|program| program.gives_rights()) {
            self.changes_rights();
        }
    }

    fn meets_tracer(&self, question: Question) -> bool {
        self.meets(question)
    }

    fn sees_tracer(&self, path: &[u8]) -> Option<Disturbance> {
        self.sees(path)
    }

    fn queues_signal(&self) {
        self.context.queued.update(|queued| queued + 1);
    }

    fn has_queued(&self) -> bool {
        self.context.has_queued()
    }

    fn promises(&self) {
        self.context.promised.borrow_mut().push(self.process);
    }

    fn serves_memory(&self) {
        self.context.serves_memory.set(true);
    }

    fn environment(&self) -> Option<Rc<Environment>> {
        let process = self.context.processes.get(&self.process)?;
        Some(Rc::clone(&process.environment))
    }

    fn sockets(&self) -> &RefCell<Bound> {
        let new = || RefCell::new(Bound::new(own_addresses()));
        self.context.sockets.get_or_init(new)
    }
}

impl<'a> Live<'a> {
    pub(crate) fn new(tracee: Tracee, context: &'a Context) -> Self {
        let Tracee { tid, process } = tracee;
        Self {
            tid,
            process,
            context,
        }
    }

    /// Whether the kernel tells the task of files what it tells the tracer: if the task has the same
    /// rights and is not confined.
    pub(crate) fn has_our_rights(&self) -> bool {
        if self.context.confined.get() {
            return false;
        }
        if !self.context.other_rights.get() {
            return true;
        }
        let own = self.context.own_rights.get_or_init(|| rights(None));
        own.is_some() && rights(Some(self.tid)) == *own
    }

    fn find(&self, directory: i32, path: &[u8], follow: bool) -> Result<Looked, Errno> {
        if path.len() >= libc::PATH_MAX as usize {
            return Err(Errno::ENAMETOOLONG);
        }
        if self.context.elsewhere {
            let file = self.open_elsewhere(directory, path, follow)?;
            return sys::look(file.as_raw_fd(), c"", false);
        }
        let (name, base) = self.name(directory, path, follow);
        // What a path is relative to is a link, which stands for the file that it leads to.
        let follow = follow || path.is_empty();
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        match sys::look(libc::AT_FDCWD, &name, follow) {
            Ok(looked) => Ok(looked),
            Err(Errno::ENOENT) if base > 0 && directory != libc::AT_FDCWD => {
                let base = CString::new(&name.as_bytes()[..base]).map_err(|_| Errno::EINVAL)?;
                match sys::look(libc::AT_FDCWD, &base, true) {
                    Err(Errno::ENOENT) => Err(Errno::EBADF),
                    _ => Err(Errno::ENOENT),
                }
            }
            Err(errno) => Err(errno),
        }
    }

    /// Returns a path as this process has to ask for it, and how much of it is the link that leads
    /// to what it is relative to.
    fn name(&self, directory: i32, path: &[u8], follow: bool) -> (Vec<u8>, usize) {
        let mut name = Vec::with_capacity(path.len() + 40);
        if path.first() == Some(&b'/') {
            self.absolute(path, follow, &mut name);
            return (name, 0);
        }
        self.base(directory, &mut name);
        let base = name.len();
        if !path.is_empty() {
            name.push(b'/');
            name.extend_from_slice(path);
        }
        (name, base)
    }

    /// Writes an absolute path as this process has to ask for it.
    fn absolute(&self, path: &[u8], follow: bool, name: &mut Vec<u8>) {
        // Nearly all others.
        if !path.starts_with(b"/proc/") && !path.starts_with(b"/dev/") {
            name.extend_from_slice(path);
            return;
        }
        for (prefix, own) in OWN_PATHS {
            match path.strip_prefix(*prefix) {
                // The link itself.
                Some([]) if !follow => break,
                Some(rest @ ([] | [b'/', ..])) => {
                    let (tid, process) = (self.tid, self.process);
                    let own = own
                        .replace("TASK", &format!("{process}/task/{tid}"))
                        .replace("PID", &process.to_string())
                        .replace("TID", &tid.to_string());
                    name.extend_from_slice(b"/proc/");
                    name.extend_from_slice(own.as_bytes());
                    name.extend_from_slice(rest);
                    return;
                }
                _ => {}
            }
        }
        name.extend_from_slice(path);
    }

    /// Writes the link that leads to what a relative path is relative to.
    fn base(&self, directory: i32, name: &mut Vec<u8>) {
        let tid = self.tid;
        // Writing to a vector cannot fail.
        let _ = if directory == libc::AT_FDCWD {
            name.write_all(proc::path(tid, "cwd").as_bytes())
        } else {
            name.write_all(proc::path(tid, format_args!("fd/{directory}")).as_bytes())
        };
    }

    /// Opens a file's identity for a task whose root or mounts may differ from ours: within its
    /// root, and without asking a file system that may not answer. EAGAIN if it would have to be
    /// asked.
    fn open_elsewhere(&self, directory: i32, path: &[u8], follow: bool) -> Result<OwnedFd, Errno> {
        let root = open_path(proc::path(self.tid, "root")).map_err(errno_of)?;
        let mut inside = Vec::new();
        if path.first() != Some(&b'/') {
            let base = match directory {
                libc::AT_FDCWD => self.link("cwd"),
                fd => self.link(&format!("fd/{fd}")),
            };
            let base = base.ok_or(Errno::EBADF)?;
            if path.is_empty() {
                let mut name = Vec::new();
                self.base(directory, &mut name);
                return open_path(OsStr::from_bytes(&name))
                    .map(OwnedFd::from)
                    .map_err(errno_of);
            }
            let root = self.link("root").ok_or(Errno::EACCES)?;
            let root = root.strip_suffix(b"/").unwrap_or(&root);
            inside.extend_from_slice(base.strip_prefix(root).ok_or(Errno::EAGAIN)?);
            inside.push(b'/');
        }
        inside.extend_from_slice(path);
        let inside = CString::new(inside).map_err(|_| Errno::EINVAL)?;
        sys::open_in_root(root.as_fd(), &inside, follow)
    }

    /// Returns what will come of executing a program, as far as a look at it tells.
    pub(crate) fn foresee_exec(&self, directory: i32, path: &[u8]) -> CallResult {
        match self.find(directory, path, true) {
            Err(Errno::EAGAIN) => return CallResult::Unknown,
            Err(errno) => return CallResult::Err(errno as i32),
            Ok(looked) if !looked.is_executable() => return CallResult::Err(libc::EACCES),
            Ok(looked) if looked.gives_rights() => self.changes_rights(),
            Ok(_) => {}
        }
        let mut magic = [0; 4];
        let read = self.file(directory, path, 0, &mut magic).unwrap_or(0);
        match &magic[..read] {
            b"\x7fELF" | [b'#', b'!', ..] => CallResult::Found,
            // What else can be run is the machine's to say (binfmt_misc).
            _ => CallResult::Unknown,
        }
    }

    /// Returns the descriptors that stay open when a program is executed, and what they are.
    pub(crate) fn lasting_descriptors(&self) -> Vec<(i32, Vec<u8>)> {
        let lasts = |fd: i32| {
            let info =
                fs::read_to_string(proc::path(self.tid, format_args!("fdinfo/{fd}"))).ok()?;
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
            let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
            Some(flags & libc::O_CLOEXEC == 0)
        };
        let mut descriptors = self.descriptors();
        descriptors.retain(|(fd, _)| lasts(*fd).unwrap_or(false));
        descriptors
    }

    /// Gets a copy of a descriptor, as dup(2) would.
    fn descriptor_of_its_own(&self, fd: i32) -> Option<OwnedFd> {
        sys::descriptor_of(self.process, fd)
    }

    /// Returns what a link of this task's in /proc says.
    pub(crate) fn link(&self, name: &str) -> Option<Vec<u8>> {
        proc::link(self.tid, name)
    }
}

/// Returns the mount of a task's root directory, or of this process's own.
fn root_mount(process: Option<Tgid>) -> Option<u64> {
    let root = match process {
        Some(process) => CString::new(proc::path(process, "root")).ok()?,
        None => CStr::to_owned(c"/"),
    };
    sys::look(libc::AT_FDCWD, &root, true)
        .ok()
        .map(|looked| looked.mount)
}

fn open_path(path: impl AsRef<Path>) -> io::Result<File> {
    File::options()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)
}

/// Opens a file for reading if it is a regular one: to open another may wait or do something.
fn open_regular(path: &OsStr) -> Option<File> {
    let name = CString::new(path.as_bytes()).ok()?;
    if !sys::look(libc::AT_FDCWD, &name, true).ok()?.regular {
        return None;
    }
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    File::options()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .ok()
}

/// Opens for reading what has been opened for its identity.
fn reopen(file: &OwnedFd) -> Option<File> {
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    open_regular(name.as_ref())
}

fn errno_of(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
