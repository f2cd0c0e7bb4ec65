//! Creates the child that becomes a test.
//!
//! Between its creation and exec, a child makes system calls without libc and touches nothing but
//! its own stack: it shares its memory with the stub.

use super::{Identity, Pid, SignalMask, notify};
use harness_metadata::exit_code;
use nix::errno::Errno;
use std::{
    ffi::{CStr, CString, c_char, c_int, c_ulong, c_void},
    fs::File,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
    ptr,
    rc::Rc,
};
use syscalls::{Sysno, syscall};

/// The most hierarchies of version 1 that a process joins: one for each limit.
pub(crate) const SEPARATE: usize = 3;

/// The soft and the hard limit of open files that a test starts with.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct OpenFiles {
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// Everything that a child needs from its creation until it has executed the test. It owns its
/// memory, which the child reads from.
pub(crate) struct Child {
    pub(crate) program: CString,
    pub(crate) args: Block,
    pub(crate) environment: Block,
    pub(crate) cwd: CString,
    /// Descriptors that are to become the standard streams.
    pub(crate) stdio: [RawFd; 3],
    /// If it is to be traced: a byte can be read from here once it has been seized.
    pub(crate) go: Option<RawFd>,
    /// The cgroup of version 2 that it is born into.
    pub(crate) cgroup: Option<RawFd>,
    /// Files of cgroups of version 1; who writes to one is in that group.
    pub(crate) tasks: [Option<RawFd>; SEPARATE],
    /// Whether it leads a process group, rather than being in the stub's.
    pub(crate) own_group: bool,
    /// The terminal that its group is to have.
    pub(crate) foreground: Option<RawFd>,
    /// Report a failure here.
    pub(crate) failed: RawFd,
    /// The signal mask to start with.
    pub(crate) mask: SignalMask,
    /// The limit of open files to start with, if it is not the stub's.
    pub(crate) open_files: Option<OpenFiles>,
    /// Its last act before it executes the test, so that what it does before is not traced.
    pub(crate) filter: Option<Filter>,
    /// The bounds that it takes on.
    pub(crate) confined: Option<Confined>,
    /// Whether it gives up gaining privileges, because it will install a filter after that.
    pub(crate) no_new_privs: bool,
    /// The file that must not have changed when it executes.
    pub(crate) image: Option<Image>,
    pub(crate) stub: Pid,
}

/// A Landlock ruleset that a child enters.
pub(crate) struct Confined {
    pub(crate) ruleset: OwnedFd,
    /// As [`Filter::no_new_privs`].
    pub(crate) no_new_privs: bool,
}

/// A file in a known state.
pub(crate) struct Image {
    pub(crate) path: CString,
    pub(crate) identity: Identity,
}

/// A seccomp filter.
#[derive(Clone)]
pub(crate) struct Filter {
    pub(crate) program: Rc<[libc::sock_filter]>,
    /// Whether no_new_privs may be set. Without it or CAP_SYS_ADMIN the kernel takes no filter.
    pub(crate) no_new_privs: bool,
    pub(crate) listener: Option<HandOver>,
    /// Whether the child must not execute without it.
    pub(crate) required: bool,
}

/// The way in which a child gives away the listener of its filter. Its calls for that are not
/// filtered, since no listener could let them pass yet.
#[derive(Copy, Clone)]
pub(crate) struct HandOver {
    /// Write here which descriptor the listener is, or the negated errno; native-endian.
    pub(crate) ready: RawFd,
    /// A byte can be read from here once that has been taken.
    pub(crate) taken: RawFd,
}

/// Size of what is written to [`HandOver::ready`].
pub(crate) const READY_LEN: usize = size_of::<c_int>();

/// Strings ended by NUL, one after the other, and an array of pointers to them that is ended by
/// a null pointer, as execve(2) takes it.
pub(crate) struct Block {
    #[expect(dead_code, reason = "the pointers lead into it")]
    bytes: Vec<u8>,
    pointers: Vec<*const c_char>,
}

impl Block {
    /// Copies the strings. What follows the last NUL is left out.
    pub(crate) fn new(strings: &[u8]) -> Self {
        let bytes = strings.to_vec();
        let mut pointers = Vec::with_capacity(128);
        let mut start = 0;
        for end in memchr::memchr_iter(0, &bytes) {
            pointers.push(bytes[start..].as_ptr().cast());
            start = end + 1;
        }
        pointers.push(ptr::null());
        Self { bytes, pointers }
    }
}

/// The step at which a child failed before it became the test.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Stage {
    Stdio = 1,
    Chdir = 2,
    Exec = 3,
    Orphaned = 4,
    Cgroup = 5,
    Image = 6,
    Policy = 7,
}

/// A child's report: the stage and the errno, native-endian.
pub(crate) const REPORT_LEN: usize = 8;

impl Stage {
    pub(crate) fn from_raw(raw: i32) -> Option<Self> {
        use Stage::{Cgroup, Chdir, Exec, Image, Orphaned, Policy, Stdio};
        [Stdio, Chdir, Exec, Orphaned, Cgroup, Image, Policy]
            .into_iter()
            .find(|stage| *stage as i32 == raw)
    }
}

/// A child's stack, with an inaccessible page below it.
pub(crate) struct ChildStack {
    base: *mut c_void,
}

/// Many times the need of the child's few frames.
const STACK_SIZE: usize = 64 * 1024;
const GUARD_SIZE: usize = 64 * 1024;

impl ChildStack {
    pub(crate) fn new() -> Result<Self, Errno> {
        let len = GUARD_SIZE + STACK_SIZE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        // SAFETY: the range is the lower part of the mapping that was just made.
        Errno::result(unsafe { libc::mprotect(base, GUARD_SIZE, libc::PROT_NONE) })?;
        Ok(Self { base })
    }
}

impl Drop for ChildStack {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made, and it is not used after.
        unsafe { libc::munmap(self.base, GUARD_SIZE + STACK_SIZE) };
    }
}

/// Creates a child that becomes the test. Returns its pid.
///
/// The child shares the stub's memory until it executes the test, as with vfork(2): copying the
/// page tables and faulting written pages in again costs more than all the rest of a spawn. If it
/// is to be traced, it runs beside the stub, which must be able to seize it; the caller keeps
/// `child` alive until it is known to have executed or ended. If not, the stub is suspended until
/// then (CLONE_VFORK).
pub(crate) fn clone_into(child: &Child, stack: &ChildStack) -> Result<Pid, Errno> {
    let vfork = if child.go.is_some() {
        0
    } else {
        libc::CLONE_VFORK
    };
    // SAFETY: one past the end of the mapping, where a stack that grows down begins.
    let top = unsafe { stack.base.byte_add(GUARD_SIZE + STACK_SIZE) };
    let argument = ptr::from_ref(child).cast_mut().cast::<c_void>();
    let flags = libc::CLONE_VM | vfork | libc::SIGCHLD;
    if let Some(cgroup) = child.cgroup {
        let flags = libc::CLONE_VM | vfork;
        return clone_into_cgroup(flags, cgroup, stack, become_test, argument);
    }
    // SAFETY: the child has a stack of its own. Until it executes, it makes system calls without
    // libc (which would write to the errno that it shares with the stub), allocates nothing,
    // writes to nothing but its stack, and never returns.
    Errno::result(unsafe { libc::clone(become_test, top, flags, argument) })
}

/// Flag of clone3(2): the child is in the cgroup from the start. To move it afterwards takes a lock
/// for which the kernel waits until every CPU has been through the scheduler: 10 ms.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// The argument of clone3(2).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// As clone(3), into a cgroup; the C library has no function for it. `main` does not return.
fn clone_into_cgroup(
    flags: c_int,
    cgroup: RawFd,
    stack: &ChildStack,
    main: extern "C" fn(*mut c_void) -> c_int,
    argument: *mut c_void,
) -> Result<Pid, Errno> {
    let args = CloneArgs {
        flags: CLONE_INTO_CGROUP | flags as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.base.addr() as u64 + GUARD_SIZE as u64,
        stack_size: STACK_SIZE as u64,
        cgroup: cgroup as u64,
        ..CloneArgs::default()
    };
    let returned: isize;
    // SAFETY: the child has a stack of its own, on which it calls `main`, which does what is said
    // of it in `clone_into` and never returns; so nothing of this frame is touched twice. The parent
    // comes out below with the result and, as from any system call, all but the named registers as
    // they were. `main` and its argument are in named registers, since any other may be the frame
    // pointer, which the child clears.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r8",
            "call r9",
            "ud2",
            "2:",
            in("r8") argument,
            in("r9") main,
            inlateout("rax") libc::SYS_clone3 as isize => returned,
            in("rdi") &raw const args,
            in("rsi") size_of::<CloneArgs>(),
            out("rcx") _,
            out("r11") _,
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x2",
            "blr x3",
            "brk 1",
            "2:",
            in("x2") argument,
            in("x3") main,
            in("x8") libc::SYS_clone3,
            inlateout("x0") (&raw const args) as isize => returned,
            in("x1") size_of::<CloneArgs>(),
        );
    }
    match returned {
        pid @ 0.. => Ok(pid as Pid),
        errno => Err(Errno::from_raw(-errno as i32)),
    }
}

/// Tries whether a process can be born into a cgroup, with one that exits at once.
pub(crate) fn can_be_born_into(cgroup: &File) -> Result<(), Errno> {
    extern "C" fn exit(_: *mut c_void) -> c_int {
        // SAFETY: plain numbers. As every such child, without the C library.
        let _ = unsafe { syscall!(Sysno::exit_group, 0) };
        0
    }
    let stack = ChildStack::new()?;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK;
    // No signal may run a handler in the child, in memory that is ours.
    let blocked = super::Blocked::new();
    let child = clone_into_cgroup(flags, cgroup.as_raw_fd(), &stack, exit, ptr::null_mut());
    drop(blocked);
    super::wait_for_end_of(child?);
    Ok(())
}

/// Forks a child that waits for `go` and then runs `main` and exits with what it returns. For the
/// probe; `main` must make plain system calls only.
pub(crate) fn fork_probe(go: BorrowedFd<'_>, main: impl FnOnce() -> c_int) -> Result<Pid, Errno> {
    let stub = std::process::id();
    // SAFETY: the stub has one thread, so the child's copy of memory is in a consistent state.
    match unsafe { libc::fork() } {
        -1 => Err(Errno::last()),
        0 => {
            // It has the other end of `go` itself, and the stub's socket: without this it would wait
            // for ever if the stub is killed, and the runner with it.
            die_with_parent(stub);
            wait_for_go(go.as_raw_fd());
            exit_now(main())
        }
        pid => Ok(pid),
    }
}

/// Has this process killed when its parent dies, which was this one (prctl(2), PR_SET_PDEATHSIG).
fn die_with_parent(parent: u32) {
    // SAFETY: plain numbers.
    let _ = unsafe { syscall!(Sysno::prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    // SAFETY: no arguments.
    if unsafe { syscall!(Sysno::getppid) } != Ok(parent as usize) {
        exit_now(exit_code::DOUBLE_SPAWN);
    }
}

/// Ends this process without running anything of the standard library's.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Forks a process that exits at once, and waits for it. For the probe's child. Returns the errno if
/// there is no process to be had.
pub(crate) fn fork_and_reap() -> c_int {
    // SAFETY: as in `fork_probe`; the child only exits.
    match unsafe { libc::fork() } {
        -1 => Errno::last_raw(),
        0 => exit_now(0),
        pid => {
            let mut status = 0;
            // SAFETY: the pointer is to a live local.
            let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
            c_int::from(reaped != pid || status != 0)
        }
    }
}

/// Installs a filter and then looks for a file. For the probe's child. Returns the errno of what was
/// refused.
pub(crate) fn filter_and_open(filter: &Filter, path: &CStr) -> c_int {
    if let Err(errno) = install_and_hand_over(filter) {
        return errno.into_raw();
    }
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: the path is valid and ended by NUL.
    match unsafe { syscall!(Sysno::openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) } {
        // Without a tracer, a filtered call is not there.
        Err(syscalls::Errno::ENOSYS) => libc::ENOSYS,
        _ => 0,
    }
}

fn wait_for_go(go: c_int) {
    let mut byte = 0u8;
    loop {
        // SAFETY: reads at most one byte into a live local.
        match unsafe { syscall!(Sysno::read, go, &raw mut byte, 1) } {
            Err(syscalls::Errno::EINTR) => {}
            Ok(1) => return,
            // The stub is gone.
            _ => exit_now(exit_code::DOUBLE_SPAWN),
        }
    }
}

/// The child's life until it executes. See [`clone_into`] for what it may do.
extern "C" fn become_test(argument: *mut c_void) -> c_int {
    // SAFETY: the argument is the `Child` that `clone_into` was given and that its caller keeps.
    let child = unsafe { &*argument.cast::<Child>() };
    let (stage, errno) = match prepare(child).and_then(|()| take_filter(child)) {
        Ok(()) => (Stage::Exec, execute(child)),
        Err(failure) => failure,
    };
    let mut report = [0; REPORT_LEN];
    report[..4].copy_from_slice(&(stage as i32).to_ne_bytes());
    report[4..].copy_from_slice(&errno.into_raw().to_ne_bytes());
    let failed = child.failed;
    // SAFETY: writes from a live local of that length. A write this small to a pipe is atomic.
    let _ = unsafe { syscall!(Sysno::write, failed, report.as_ptr(), report.len()) };
    exit_now(exit_code::DOUBLE_SPAWN)
}

fn prepare(child: &Child) -> Result<(), (Stage, syscalls::Errno)> {
    if child.own_group {
        // A process that has just been created can always lead a group.
        // SAFETY: plain numbers.
        let _ = unsafe { syscall!(Sysno::setpgid, 0, 0) };
    }
    if let Some(terminal) = child.foreground {
        // SAFETY: no arguments.
        let own = unsafe { syscall!(Sysno::getpid) }.unwrap_or_default() as Pid;
        // SIGTTOU is blocked, as all signals are in the stub. Without a terminal it goes on as well.
        // SAFETY: reads from a live local.
        let _ = unsafe { syscall!(Sysno::ioctl, terminal, libc::TIOCSPGRP, &raw const own) };
    }
    // Dies with the stub even where it is not traced; a belt, prctl(2) PR_SET_PDEATHSIG.
    // SAFETY: plain numbers.
    let _ = unsafe { syscall!(Sysno::prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    // SAFETY: no arguments.
    if unsafe { syscall!(Sysno::getppid) } != Ok(child.stub as usize) {
        return Err((Stage::Orphaned, syscalls::Errno::ESRCH));
    }
    for tasks in child.tasks.iter().flatten() {
        let own = b"0";
        // SAFETY: writes one byte of a static string.
        unsafe { syscall!(Sysno::write, *tasks, own.as_ptr(), own.len()) }
            .map_err(|errno| (Stage::Cgroup, errno))?;
    }
    for (fd, target) in child.stdio.iter().zip(0..) {
        // SAFETY: plain numbers. The stub keeps its own descriptors above 2, so they differ.
        unsafe { syscall!(Sysno::dup3, *fd, target, 0) }.map_err(|errno| (Stage::Stdio, errno))?;
    }
    // SAFETY: the string is valid and ended by NUL.
    unsafe { syscall!(Sysno::chdir, child.cwd.as_ptr()) }.map_err(|errno| (Stage::Chdir, errno))?;
    // Rust's runtime ignores SIGPIPE in the stub, and ignored signals survive exec. All zero is
    // the kernel's struct sigaction for SIG_DFL without flags; the last argument is the size of
    // its mask.
    let default = [0u64; 4];
    // SAFETY: reads from a live local that is as large as the kernel's struct.
    let _ = unsafe { syscall!(Sysno::rt_sigaction, libc::SIGPIPE, default.as_ptr(), 0, 8) };
    let mask = &raw const child.mask.0;
    // SAFETY: reads the first 8 bytes of a signal set, which are the kernel's.
    let _ = unsafe { syscall!(Sysno::rt_sigprocmask, libc::SIG_SETMASK, mask, 0, 8) };
    if let Some(limit) = &child.open_files {
        let (files, limit) = (libc::RLIMIT_NOFILE, ptr::from_ref(limit));
        // SAFETY: reads a live limit, which is laid out as the kernel's struct rlimit64; the old one
        // is not asked for.
        let _ = unsafe { syscall!(Sysno::prlimit64, 0, files, limit, 0) };
    }
    if let Some(go) = child.go {
        wait_for_go(go);
    }
    if let Some(confined) = &child.confined {
        confine(confined).map_err(|errno| (Stage::Policy, errno))?;
    }
    // As late as can be without being traced: what follows takes microseconds.
    match &child.image {
        Some(image) if has_changed(image) => Err((Stage::Image, syscalls::Errno::ESTALE)),
        _ => Ok(()),
    }
}

/// Returns whether a file is there and not in its known state. If it cannot be looked at, the exec
/// says why.
fn has_changed(image: &Image) -> bool {
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let (path, mask) = (image.path.as_ptr(), libc::STATX_BASIC_STATS);
    // SAFETY: the path is valid and ended by NUL; the kernel writes no more than its struct.
    let looked = unsafe {
        syscall!(
            Sysno::statx,
            libc::AT_FDCWD,
            path,
            0,
            mask,
            found.as_mut_ptr()
        )
    };
    // SAFETY: all zero is a valid value, and the kernel has written one over it at most.
    let found = unsafe { found.assume_init() };
    let time = |time: libc::statx_timestamp| (time.tv_sec, i64::from(time.tv_nsec));
    let identity = Identity {
        device: libc::makedev(found.stx_dev_major, found.stx_dev_minor),
        inode: found.stx_ino,
        size: found.stx_size,
        modified: time(found.stx_mtime),
        changed: time(found.stx_ctime),
    };
    looked.is_ok() && !identity.is_same_content(&image.identity)
}

/// Enters a ruleset, which descendants cannot leave.
fn confine(confined: &Confined) -> Result<(), syscalls::Errno> {
    let ruleset = confined.ruleset.as_raw_fd();
    // SAFETY: plain numbers.
    let enter = || unsafe { syscall!(Sysno::landlock_restrict_self, ruleset, 0) };
    match enter() {
        // Without CAP_SYS_ADMIN the kernel wants no_new_privs (landlock_restrict_self(2)).
        Err(syscalls::Errno::EPERM) if confined.no_new_privs => {
            // SAFETY: plain numbers.
            unsafe { syscall!(Sysno::prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }?;
            enter()
        }
        entered => entered,
    }
    .map(drop)
}

/// Installs a filter, and waits until its listener has been taken if it has one.
fn install_and_hand_over(filter: &Filter) -> Result<(), syscalls::Errno> {
    let Some(HandOver { ready, taken }) = filter.listener else {
        return install(filter, FLAGS).map(drop);
    };
    let installed = install(filter, LISTENER_FLAGS);
    let said: c_int = match installed {
        Ok(fd) => fd as c_int,
        Err(errno) => -errno.into_raw(),
    };
    // SAFETY: writes from a live local of that length.
    let _ = unsafe { syscall!(Sysno::write, ready, &raw const said, READY_LEN) };
    wait_for_go(taken);
    installed.map(drop)
}

/// Flags to install a filter with, the best ones first. Without SPEC_ALLOW, some kernels before 5.16
/// slow the task down. Others do not know it.
const FLAGS: &[c_ulong] = &[libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW, 0];

/// As [`FLAGS`], for a listener.
const LISTENER_FLAGS: &[c_ulong] = &[
    libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW | notify::LISTENER_FLAGS[0],
    libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW | notify::LISTENER_FLAGS[1],
];

/// Installs a filter (seccomp(2)). Returns the listener's descriptor if the flags ask for one.
fn install(filter: &Filter, flags: &[c_ulong]) -> Result<usize, syscalls::Errno> {
    let program = libc::sock_fprog {
        len: filter.program.len() as u16,
        filter: filter.program.as_ptr().cast_mut(),
    };
    let mut others = flags.iter();
    let mut flags = others.next().copied().unwrap_or(0);
    let mut may_set = filter.no_new_privs;
    loop {
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        // SAFETY: the kernel reads the program, which is valid and as long as it says.
        match unsafe { syscall!(Sysno::seccomp, mode, flags, &raw const program) } {
            Ok(fd) => return Ok(fd),
            Err(errno @ syscalls::Errno::EINVAL) => match others.next() {
                Some(fewer) => flags = *fewer,
                None => return Err(errno),
            },
            Err(syscalls::Errno::EACCES) if may_set => {
                may_set = false;
                // SAFETY: plain numbers.
                unsafe { syscall!(Sysno::prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }?;
            }
            Err(errno) => return Err(errno),
        }
    }
}

/// Takes the filter, if there is one.
fn take_filter(child: &Child) -> Result<(), (Stage, syscalls::Errno)> {
    let Some(filter) = &child.filter else {
        return Ok(());
    };
    match install_and_hand_over(filter) {
        Err(errno) if filter.required => Err((Stage::Policy, errno)),
        // Without it, the trace has less, and shows so; the test runs all the same.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Becomes the test, or returns why not.
fn execute(child: &Child) -> syscalls::Errno {
    if child.no_new_privs {
        // SAFETY: plain numbers.
        let _ = unsafe { syscall!(Sysno::prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    }
    let (argv, envp) = (
        child.args.pointers.as_ptr(),
        child.environment.pointers.as_ptr(),
    );
    // SAFETY: the strings and the arrays are valid, ended by NUL and null.
    match unsafe { syscall!(Sysno::execve, child.program.as_ptr(), argv, envp) } {
        Err(errno) => errno,
        Ok(_) => syscalls::Errno::ENOEXEC,
    }
}
