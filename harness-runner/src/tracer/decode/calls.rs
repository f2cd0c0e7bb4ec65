//! The calls that are watched: from which level on, and how their arguments are laid out.
//!
//! What is not here and not [`harmless`] is watched too: such a call is a doubt.

use super::harmless::harmless;
use harness_metadata::{
    event::TraceLevel,
    trace::{Doubt, FileOperation, NetworkOperation},
};
use syscalls::Sysno;

/// A watched call.
#[derive(Clone, Debug)]
pub(in crate::tracer) struct Call {
    /// The level from which on it is watched.
    pub(super) level: TraceLevel,
    /// Its arguments.
    pub(super) shape: Shape,
}

/// The position of a path among the arguments.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Relative to the working directory.
    Path(u8),
    /// Relative to a directory's descriptor.
    Relative(u8, u8),
    /// As before; no path at all (NULL) means the descriptor itself.
    RelativeOrNull(u8, u8),
    /// No path: a descriptor.
    Descriptor(u8),
}

/// The position of the flags of an open.
#[derive(Copy, Clone, Debug)]
pub(super) enum How {
    /// An argument.
    Flags(u8),
    /// creat(2).
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))]
    Creat,
    /// `struct open_how`, and its size (openat2(2)).
    Struct(u8, u8),
    /// Read-only.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))]
    Read,
}

/// A call that changes nothing.
#[derive(Copy, Clone, Debug)]
pub(super) struct Ask {
    pub(super) operation: FileOperation,
    pub(super) at: At,
    /// The argument with AT_EMPTY_PATH and AT_SYMLINK_NOFOLLOW.
    pub(super) flags: Option<u8>,
    /// Whether a link is followed if no flag says otherwise.
    pub(super) follow: bool,
}

/// A call that changes something of one existing file.
#[derive(Copy, Clone, Debug)]
pub(super) struct Change {
    pub(super) operation: FileOperation,
    pub(super) at: At,
    pub(super) flags: Option<u8>,
    pub(super) follow: bool,
}

/// A call that gives a file another name, or a further one.
#[derive(Copy, Clone, Debug)]
pub(super) struct Name {
    pub(super) operation: FileOperation,
    pub(super) from: At,
    pub(super) to: At,
    pub(super) flags: Option<u8>,
}

/// The layout of a call's arguments.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    Open {
        at: At,
        how: How,
    },
    Ask(Ask),
    List,
    /// A directory becomes the one that paths are relative to.
    Enter(At),
    Change(Change),
    /// Something that was not there.
    Make {
        operation: FileOperation,
        at: At,
    },
    Remove {
        at: At,
        flags: RemoveWhat,
    },
    Name(Name),
    SymbolicLink {
        text: u8,
        at: At,
    },
    Mount {
        at: At,
        flags: Option<u8>,
    },
    Exec {
        at: At,
        args: u8,
        environment: u8,
        flags: Option<u8>,
    },
    /// connect, bind, listen, accept, sendto.
    Network(NetworkOperation),
    SendMessage,
    SendMessages,
    ReceiveMessage,
    ReceiveMessages,
    /// The doubt that a success raises.
    Doubt(Doubt),
    /// A call whose effects and answers are not told, which is a doubt.
    Untold,
    /// socket(2), of a family or a type whose traffic is not told.
    Socket,
    /// ioctl(2), with a request that concerns more than a terminal.
    Control,
    /// A signal for the process in this argument, or a question about it.
    Process(u8),
    /// A signal with a value for the process in the first argument.
    QueuesSignal,
    /// A signal is taken that was never delivered.
    TakesSignal,
    Clone,
    Clone3,
    Prctl,
    Seccomp,
    Ptrace,
    ProcessMemory,
    Unshare,
    /// System V objects with a key.
    Keyed,
    /// Changes of who the caller is and what it may.
    Rights,
    /// The caller gives up what its rights would allow.
    Confine,
}

impl Shape {
    /// Returns the level from which on such calls are watched.
    fn level(&self) -> TraceLevel {
        match self {
            Self::Ask(ask) => ask.operation.level(),
            Self::List => FileOperation::List.level(),
            _ => TraceLevel::Io,
        }
    }
}

/// The removed thing.
#[derive(Copy, Clone, Debug)]
pub(super) enum RemoveWhat {
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))]
    Name,
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))]
    Directory,
    /// The argument with AT_REMOVEDIR.
    Flags(u8),
}

const fn ask(operation: FileOperation, at: At, flags: Option<u8>, follow: bool) -> Shape {
    Shape::Ask(Ask {
        operation,
        at,
        flags,
        follow,
    })
}

const fn change(operation: FileOperation, at: At, flags: Option<u8>, follow: bool) -> Shape {
    Shape::Change(Change {
        operation,
        at,
        flags,
        follow,
    })
}

const fn metadata(at: At) -> Shape {
    change(FileOperation::ChangeMetadata, at, None, true)
}

const fn name(operation: FileOperation, from: At, to: At, flags: Option<u8>) -> Shape {
    Shape::Name(Name {
        operation,
        from,
        to,
        flags,
    })
}

/// Returns how a call is decoded at a level; `None` if it is not watched.
pub(in crate::tracer) fn watched(number: Sysno, level: TraceLevel) -> Option<Call> {
    call(number).filter(|call| call.level <= level)
}

/// Returns the level from which on a call is seen with the files, the program or the address that it names; `None`
/// if it names none.
pub(in crate::tracer) fn level_of_named(number: Sysno) -> Option<TraceLevel> {
    let shape = told(number)?;
    let names = matches!(
        shape,
        Shape::Open { .. }
            | Shape::Ask(_)
            | Shape::List
            | Shape::Enter(_)
            | Shape::Change(_)
            | Shape::Make { .. }
            | Shape::Remove { .. }
            | Shape::Name(_)
            | Shape::SymbolicLink { .. }
            | Shape::Mount { .. }
            | Shape::Exec { .. }
            | Shape::Network(_)
            | Shape::SendMessage
            | Shape::SendMessages
    );
    names.then(|| shape.level())
}

/// The table.
fn call(number: Sysno) -> Option<Call> {
    let shape = told(number).or_else(|| harmless(number).is_none().then_some(Shape::Untold))?;
    let level = shape.level();
    Some(Call { level, shape })
}

fn told(number: Sysno) -> Option<Shape> {
    let tables = [looks, old_looks, changes, old_changes, others];
    tables.iter().find_map(|table| table(number))
}

/// Returns true for a call that is a doubt because nothing is known of it.
#[cfg(all(test, target_arch = "x86_64"))]
pub(super) fn is_untold(number: Sysno) -> bool {
    matches!(
        call(number),
        Some(Call {
            shape: Shape::Untold,
            ..
        })
    )
}

/// Look-ups, on architectures with calls from before directories had descriptors.
#[cfg(target_arch = "x86_64")]
fn old_looks(number: Sysno) -> Option<Shape> {
    use FileOperation::*;
    let path = At::Path(0);
    Some(match number {
        Sysno::stat => ask(Stat, path, None, true),
        Sysno::lstat => ask(Stat, path, None, false),
        Sysno::access => ask(Access, path, None, true),
        Sysno::readlink => ask(ReadLink, path, None, false),
        Sysno::getdents => Shape::List,
        _ => return None,
    })
}

/// Calls that open or change files, on architectures with calls from before directories had
/// descriptors.
#[cfg(target_arch = "x86_64")]
fn old_changes(number: Sysno) -> Option<Shape> {
    use FileOperation::*;
    let at = At::Path(0);
    let open = |how| Shape::Open { at, how };
    let make = |operation| Shape::Make { operation, at };
    let remove = |flags| Shape::Remove { at, flags };
    Some(match number {
        Sysno::open => open(How::Flags(1)),
        Sysno::creat => open(How::Creat),
        Sysno::uselib => open(How::Read),
        Sysno::rename => name(Rename, at, At::Path(1), None),
        Sysno::link => name(Link, at, At::Path(1), None),
        Sysno::symlink => Shape::SymbolicLink {
            text: 0,
            at: At::Path(1),
        },
        Sysno::unlink => remove(RemoveWhat::Name),
        Sysno::rmdir => remove(RemoveWhat::Directory),
        Sysno::mkdir => make(MakeDirectory),
        Sysno::mknod => make(MakeNode),
        Sysno::chmod | Sysno::chown | Sysno::utime | Sysno::utimes => metadata(at),
        Sysno::lchown => change(ChangeMetadata, at, None, false),
        Sysno::futimesat => metadata(At::RelativeOrNull(0, 1)),
        _ => return None,
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn old_looks(_: Sysno) -> Option<Shape> {
    None
}

#[cfg(not(target_arch = "x86_64"))]
fn old_changes(_: Sysno) -> Option<Shape> {
    None
}

/// Look-ups.
fn looks(number: Sysno) -> Option<Shape> {
    use FileOperation::*;
    let at = At::Relative(0, 1);
    Some(match number {
        #[cfg(target_arch = "x86_64")]
        Sysno::newfstatat => ask(Stat, at, Some(3), true),
        #[cfg(target_arch = "aarch64")]
        Sysno::fstatat => ask(Stat, at, Some(3), true),
        Sysno::statx => ask(Stat, at, Some(2), true),
        Sysno::statfs => ask(Stat, At::Path(0), None, true),
        Sysno::name_to_handle_at => ask(Stat, at, None, false),
        Sysno::file_getattr => ask(Stat, at, Some(4), true),
        Sysno::getxattr | Sysno::listxattr => ask(Stat, At::Path(0), None, true),
        Sysno::lgetxattr | Sysno::llistxattr => ask(Stat, At::Path(0), None, false),
        Sysno::getxattrat | Sysno::listxattrat => ask(Stat, at, Some(2), true),
        Sysno::faccessat => ask(Access, at, None, true),
        Sysno::faccessat2 => ask(Access, at, Some(3), true),
        Sysno::readlinkat => ask(ReadLink, at, None, false),
        Sysno::getdents64 => Shape::List,
        Sysno::inotify_add_watch => ask(Watch, At::Path(1), None, true),
        Sysno::fanotify_mark => ask(Watch, At::RelativeOrNull(3, 4), None, true),
        _ => return None,
    })
}

/// Calls that open or change files.
fn changes(number: Sysno) -> Option<Shape> {
    use FileOperation::*;
    let at = At::Relative(0, 1);
    Some(match number {
        Sysno::openat => Shape::Open {
            at,
            how: How::Flags(2),
        },
        Sysno::openat2 => Shape::Open {
            at,
            how: How::Struct(2, 3),
        },
        Sysno::renameat => name(Rename, at, At::Relative(2, 3), None),
        Sysno::renameat2 => name(Rename, at, At::Relative(2, 3), None),
        Sysno::linkat => name(Link, at, At::Relative(2, 3), Some(4)),
        Sysno::symlinkat => Shape::SymbolicLink {
            text: 0,
            at: At::Relative(1, 2),
        },
        Sysno::unlinkat => Shape::Remove {
            at,
            flags: RemoveWhat::Flags(2),
        },
        Sysno::mkdirat => Shape::Make {
            operation: MakeDirectory,
            at,
        },
        Sysno::mknodat => Shape::Make {
            operation: MakeNode,
            at,
        },
        Sysno::truncate => change(Truncate, At::Path(0), None, true),
        Sysno::fchmodat => metadata(at),
        Sysno::fchmodat2 => change(ChangeMetadata, at, Some(3), true),
        Sysno::fchownat => change(ChangeMetadata, at, Some(4), true),
        Sysno::utimensat => change(ChangeMetadata, At::RelativeOrNull(0, 1), Some(3), true),
        Sysno::setxattr | Sysno::removexattr => metadata(At::Path(0)),
        Sysno::lsetxattr | Sysno::lremovexattr => change(ChangeMetadata, At::Path(0), None, false),
        Sysno::setxattrat | Sysno::removexattrat => change(ChangeMetadata, at, Some(2), true),
        Sysno::file_setattr => change(ChangeMetadata, at, Some(4), true),
        Sysno::fchmod | Sysno::fchown | Sysno::fsetxattr | Sysno::fremovexattr => {
            metadata(At::Descriptor(0))
        }
        Sysno::chdir => Shape::Enter(At::Path(0)),
        Sysno::fchdir => change(ChangeDirectory, At::Descriptor(0), None, true),
        Sysno::chroot => change(ChangeRoot, At::Path(0), None, true),
        Sysno::mount => Shape::Mount {
            at: At::Path(1),
            flags: None,
        },
        Sysno::umount2 | Sysno::pivot_root => Shape::Mount {
            at: At::Path(0),
            flags: None,
        },
        Sysno::move_mount => Shape::Mount {
            at: At::Relative(2, 3),
            flags: None,
        },
        Sysno::mount_setattr => Shape::Mount { at, flags: Some(2) },
        _ => return None,
    })
}

/// Programs, sockets, rights, and what a trace may be blind to.
fn others(number: Sysno) -> Option<Shape> {
    Some(match number {
        Sysno::execve => Shape::Exec {
            at: At::Path(0),
            args: 1,
            environment: 2,
            flags: None,
        },
        Sysno::execveat => Shape::Exec {
            at: At::Relative(0, 1),
            args: 2,
            environment: 3,
            flags: Some(4),
        },
        Sysno::connect => Shape::Network(NetworkOperation::Connect),
        Sysno::bind => Shape::Network(NetworkOperation::Bind),
        Sysno::listen => Shape::Network(NetworkOperation::Listen),
        Sysno::accept | Sysno::accept4 => Shape::Network(NetworkOperation::Accept),
        Sysno::sendto => Shape::Network(NetworkOperation::Send),
        Sysno::sendmsg => Shape::SendMessage,
        Sysno::sendmmsg => Shape::SendMessages,
        Sysno::recvmsg => Shape::ReceiveMessage,
        Sysno::recvmmsg => Shape::ReceiveMessages,
        Sysno::clone => Shape::Clone,
        Sysno::clone3 => Shape::Clone3,
        Sysno::prctl => Shape::Prctl,
        Sysno::seccomp => Shape::Seccomp,
        Sysno::ptrace => Shape::Ptrace,
        Sysno::process_vm_readv | Sysno::process_vm_writev => Shape::ProcessMemory,
        Sysno::unshare => Shape::Unshare,
        Sysno::shmget | Sysno::semget | Sysno::msgget => Shape::Keyed,
        Sysno::setuid
        | Sysno::setgid
        | Sysno::setreuid
        | Sysno::setregid
        | Sysno::setresuid
        | Sysno::setresgid
        | Sysno::setgroups
        | Sysno::setfsuid
        | Sysno::setfsgid
        | Sysno::capset => Shape::Rights,
        Sysno::landlock_restrict_self => Shape::Confine,
        Sysno::socket => Shape::Socket,
        Sysno::ioctl => Shape::Control,
        Sysno::kill | Sysno::tkill | Sysno::tgkill | Sysno::pidfd_open => Shape::Process(0),
        Sysno::rt_sigtimedwait => Shape::TakesSignal,
        Sysno::rt_sigqueueinfo | Sysno::rt_tgsigqueueinfo => Shape::QueuesSignal,
        _ => return hidden(number),
    })
}

/// Calls after which a trace may be blind to something.
fn hidden(number: Sysno) -> Option<Shape> {
    Some(match number {
        Sysno::io_uring_setup => Shape::Doubt(Doubt::IoUring),
        Sysno::pidfd_getfd => Shape::Doubt(Doubt::ForeignDescriptor),
        Sysno::open_by_handle_at => Shape::Doubt(Doubt::OpenedByHandle),
        Sysno::setns | Sysno::fsmount | Sysno::open_tree | Sysno::open_tree_attr => {
            Shape::Doubt(Doubt::ChangedNamespace)
        }
        Sysno::bpf
        | Sysno::perf_event_open
        | Sysno::userfaultfd
        | Sysno::keyctl
        | Sysno::add_key
        | Sysno::request_key
        | Sysno::mq_open => Shape::Doubt(Doubt::KernelFacility),
        // Signals that are read from it are never delivered, and a sender can be outside.
        #[cfg(target_arch = "x86_64")]
        Sysno::signalfd => Shape::Doubt(Doubt::ForeignSignal),
        Sysno::signalfd4 => Shape::Doubt(Doubt::ForeignSignal),
        _ => return None,
    })
}
