//! Calls whose effects or answers are not told, which makes them doubts.

use super::{Decoded, Entry, Pending, Stop, Task, Then, calls::At, memory::Memory};
use harness_metadata::{
    TraceEventKind,
    trace::{CallResult, Doubt, FileOperation},
};

/// Requests of ioctl(2) that concern a terminal, or are of every descriptor (asm-generic/ioctls.h).
pub(in crate::tracer) const TERMINAL: std::ops::RangeInclusive<u32> = 0x5400..=0x54ff;
/// Requests that concern the receiver of a socket's signals, and its queue (asm-generic/sockios.h).
const OWNER: std::ops::RangeInclusive<u32> = 0x8901..=0x8907;
/// Requests that change attributes of a file that may be open for reading: FS_IOC_SETFLAGS and
/// FS_IOC_FSSETXATTR (linux/fs.h).
const SET_ATTRIBUTES: [u32; 2] = [0x4008_6602, 0x401c_5820];
/// Requests of linux/fs.h between files that are open already, or about one: FICLONE, FICLONERANGE,
/// FIDEDUPERANGE; FS_IOC_GETFLAGS, FS_IOC_FSGETXATTR, FS_IOC_FIEMAP, FIGETBSZ.
const OF_OPEN_FILES: [u32; 7] = [
    0x4004_9409,
    0x4020_940d,
    0xc018_9436,
    0x8008_6601,
    0x801c_581f,
    0xc020_660b,
    2,
];

/// The kind of requests to the listener of a seccomp filter (SECCOMP_IOC_MAGIC of linux/seccomp.h). The filter
/// is a doubt.
const LISTENER: u32 = 0x21;

/// The types of sockets that hand over what was sent to others, SOCK_RAW and SOCK_PACKET.
const RAW: [i32; 2] = [libc::SOCK_RAW, 10];
/// The bits of a socket's type without its flags (SOCK_TYPE_MASK of linux/net.h).
const TYPE: i32 = 0xf;

/// `si_code` and `si_pid` in a `siginfo_t` (sigaction(2)).
const CODE: u64 = 8;
const SENDER: u64 = 16;

impl Stop<'_> {
    /// A call that is a doubt.
    pub(super) fn untold(&self, what: String) -> Entry {
        Entry::Await(Pending::doubt(Doubt::Untold(what)))
    }

    pub(super) fn socket(&self) -> Entry {
        let (family, kind) = (self.int(0), self.int(1) & TYPE);
        match family {
            libc::AF_UNIX | libc::AF_VSOCK => Entry::Done,
            libc::AF_INET | libc::AF_INET6 if !RAW.contains(&kind) => Entry::Done,
            libc::AF_NETLINK => self.untold("a netlink socket".to_owned()),
            libc::AF_INET | libc::AF_INET6 => self.untold("a raw socket".to_owned()),
            libc::AF_PACKET => self.untold("a packet socket".to_owned()),
            family => self.untold(format!("a socket of the family {family}")),
        }
    }

    pub(super) fn control(&mut self) -> Decoded {
        let request = self.arg(1) as u32;
        if SET_ATTRIBUTES.contains(&request) {
            let at = At::Descriptor(0);
            return self.change(super::calls::Change {
                operation: FileOperation::ChangeMetadata,
                at,
                flags: None,
                follow: true,
            });
        }
        let harmless = TERMINAL.contains(&request)
            || OWNER.contains(&request)
            || request >> 8 & 0xff == LISTENER
            || OF_OPEN_FILES.contains(&request);
        Ok(match harmless {
            true => Entry::Done,
            false => self.untold(format!("ioctl with the request {request:#x}")),
        })
    }

    /// A call that tells whether a process is there. Groups are those of the attempt.
    pub(super) fn concerns_process(&self, pid: u8) -> Entry {
        let process = self.int(pid);
        match process <= 0 || self.task.is_own(process) {
            true => Entry::Done,
            false => self.untold(format!("{} for a process outside", self.name)),
        }
    }

    pub(super) fn takes_signal(&self) -> Entry {
        let mut pending = Pending::silent();
        pending.then = Then::Signal { info: self.arg(1) };
        Entry::Await(pending)
    }
}

/// Whether a call with this result leaves something unknown. A failure is an answer too, but for that of
/// a call, a request or a process that does not exist.
pub(super) fn is_raised_by(doubt: &Doubt, result: CallResult) -> bool {
    const NONE: [i32; 3] = [libc::ENOSYS, libc::ENOTTY, libc::ESRCH];
    match (doubt, result.error()) {
        (_, None) => true,
        (Doubt::Untold(_), Some(errno)) => !NONE.contains(&errno),
        _ => false,
    }
}

/// Whether the kernel may have read what the tracer could not, by the result of the call.
pub(super) fn may_have_been_read(at: u64, result: CallResult) -> bool {
    /// Nothing is there for anyone (mmap_min_addr of proc_sys_vm(5)).
    const NULL: std::ops::Range<u64> = 0..4096;
    match result {
        CallResult::Err(libc::EFAULT) => false,
        CallResult::Unknown => !NULL.contains(&at),
        _ => true,
    }
}

/// A signal was taken: from outside?
pub(super) fn taken(
    events: &mut Vec<TraceEventKind>,
    result: CallResult,
    info: u64,
    task: &dyn Task,
) {
    // A backend without results sees no signals either, and says so.
    if !matches!(result, CallResult::Ok(_)) {
        return;
    }
    let memory = Memory::new(task);
    let word = |offset| {
        let mut bytes = [0; 4];
        memory.fill(info.checked_add(offset)?, &mut bytes).ok()?;
        Some(i32::from_ne_bytes(bytes))
    };
    let is_own = match (word(CODE), word(SENDER)) {
        // The kernel wrote the sender's id.
        (Some(libc::SI_USER | libc::SI_TKILL), Some(sender)) => task.is_own(sender),
        // The sender of a signal with a value chooses the id that it shows.
        (Some(libc::SI_QUEUE), Some(sender)) => task.is_own(sender) && task.has_queued(),
        (Some(..0) | None, _) | (_, None) => false,
        (Some(_), Some(_)) => true,
    };
    if !is_own {
        events.push(TraceEventKind::Doubt(Doubt::ForeignSignal));
    }
}
