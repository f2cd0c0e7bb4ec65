//! The recorder: code that makes a call inside the traced process and writes down what it answered,
//! the memory that it writes to, and what leads a program there. All that depends on x86-64 is here.
//!
//! ```text
//! the program                     near it, a page a process        at a fixed address
//! mov $257, %eax  ──┐
//! syscall   ◀─ ─ ─ ─│─ ─ ─ ─ ┐
//! next      ◀──┐    └──▶ lea -128(%rsp)       ┌──▶ HOOK: a slot of the ring is taken, the path copied,
//!              │             push next        │          the call made, its answer written down
//!              │             mov $257, %eax   │            │             │
//!              │             jmp HOOK ────────┘            │             └─ what it cannot record:
//!              └───────────────────────────────────────────┘                back to the `syscall`
//! ```
//!
//! Only the instruction in front of a `syscall` is replaced, if it is a `mov $number` of five bytes, by a jump of the
//! same length. The `syscall` stays where it is: a thread that stands at it, or is waiting in it, notices
//! nothing, and whatever the hook does not want to record goes there, with the registers that it would have
//! had. The filter stops it there.

mod hook;
mod place;

pub(crate) use hook::{RECORDED, behind_call};
pub(crate) use place::{
    Injected, Injection, Place, Step, instruction, lead_again, lead_back, lead_on,
};

use crate::sys::Tid;
use harness_metadata::trace::FileId;
use nix::errno::Errno;
use std::{
    mem::offset_of,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

/// The address of the hook in every process: low, so that programs that are linked to a low address can jump
/// near it, above what they occupy, and where no sanitizer has its shadow.
pub(crate) const HOOK: u64 = 0x7000_0000;
/// The size of the memory at [`HOOK`].
pub(crate) const HOOK_SIZE: u64 = 4096;
/// The address of the ring in every process.
pub(crate) const RING: u64 = 0x7001_0000;

/// The number of slots. A power of two.
const SLOTS: usize = 256;
/// The size of a slot, and of what is in front of them.
const SLOT_SIZE: usize = 512;
const SLOT_BITS: usize = SLOT_SIZE.trailing_zeros() as usize;
/// The size of the ring.
const RING_SIZE: usize = (1 + SLOTS) * SLOT_SIZE;
/// The longest recorded path, its NUL included. A longer one is not recorded.
const ROOM: usize = 328;

/// The state of a slot that is free.
const FREE: u64 = 0;
/// The state of a slot whose call has returned. Any other state is a ticket: its call has not returned.
const COMMITTED: u64 = 2;

/// Calls from this number on have a path in their second argument, after the descriptor of a directory.
const WITH_DIRECTORY: u64 = 256;

/// A slot's result of a look that was not made, which no call returns.
const NO_RESULT: i64 = 1;

/// The front of the ring.
#[repr(C)]
struct Front {
    /// Not 0 as long as calls are to be recorded.
    enabled: AtomicU32,
    unused: u32,
    /// The number of slots that were ever wanted.
    tickets: AtomicU64,
    /// The number of calls that have ever returned.
    committed: AtomicU64,
}

/// A recorded call. Processes of the test write to it: nothing in it is trusted to be sound.
#[repr(C)]
struct Slot {
    state: AtomicU64,
    /// The thread; 0 as long as not all up to the path is written.
    tid: u32,
    flags: u32,
    number: u64,
    args: [u64; 6],
    result: i64,
    /// The time stamp counter after the call.
    time: u64,
    /// The position among all calls, in the order in which they returned.
    position: u64,
    /// The length of the path, its NUL included.
    length: u32,
    /// The length of the directory that a relative path starts with, which is behind the path; 0 of an absolute one.
    start_length: u32,
    /// The result of a look at what the call was about, and what it found.
    file_result: i64,
    file: Stat,
    /// The result of a look at what the path leads to, after it was opened, and what it found.
    named_result: i64,
    named: Stat,
    path: [u8; ROOM],
}

const _: () = assert!(size_of::<Slot>() <= SLOT_SIZE && offset_of!(Slot, state) == 0);
const _: () = assert!(size_of::<Front>() <= SLOT_SIZE);

/// The path was not the same before and after the call.
const REWRITTEN: u32 = 1;
/// The device is written as by statx(2).
const OF_STATX: u32 = 2;

/// As much of `struct stat` as is of interest, in the order in which it is here.
#[repr(C)]
#[derive(Copy, Clone)]
struct Stat {
    device: u64,
    inode: u64,
    mode: u32,
    unused: u32,
    /// After statx(2), instead of the device.
    major: u32,
    minor: u32,
}

/// A call as the hook has written it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) tid: Tid,
    pub(crate) number: u64,
    pub(crate) args: [u64; 6],
    /// The result; `None` of a call that has not returned.
    pub(crate) result: Option<i64>,
    /// The time stamp counter after the call; 0 if it may not be asked.
    pub(crate) time: u64,
    position: u64,
    /// The path was another one after the call.
    pub(crate) rewritten: bool,
    /// With its NUL. Of a call without a path, this alone.
    pub(crate) path: Vec<u8>,
    /// The directory that a relative path starts with, or that a call without a path is about.
    pub(crate) start: Option<Vec<u8>>,
    /// The file that the call was about.
    pub(crate) file: Option<FileId>,
    /// The file that the path led to when it had been opened, or the error.
    pub(crate) named: Option<Result<FileId, i32>>,
}

/// The memory that an attempt's processes write records to (shmat(2)): they need no descriptor for it, and it
/// is gone with the last of them.
#[derive(Debug)]
pub(crate) struct Ring {
    /// The id of the shared memory.
    pub(crate) id: i32,
    memory: NonNull<u8>,
    /// The number of records that were taken.
    seen: u64,
}

impl Ring {
    /// Makes a ring.
    ///
    /// # Errors
    ///
    /// When there is no shared memory.
    pub(crate) fn new() -> Result<Self, Errno> {
        const OWNER: i32 = 0o600;
        // SAFETY: plain numbers.
        let id = unsafe { libc::shmget(libc::IPC_PRIVATE, RING_SIZE, libc::IPC_CREAT | OWNER) };
        let id = Errno::result(id)?;
        // SAFETY: the kernel chooses an address that nothing has.
        let memory = unsafe { libc::shmat(id, ptr::null(), 0) };
        // It lives as long as it is attached somewhere, and can be attached by its id as long.
        // SAFETY: this command takes no pointer.
        unsafe { libc::shmctl(id, libc::IPC_RMID, ptr::null_mut()) };
        if memory.addr() == usize::MAX {
            return Err(Errno::last());
        }
        let memory = NonNull::new(memory.cast()).ok_or(Errno::ENOMEM)?;
        let ring = Self {
            id,
            memory,
            seen: 0,
        };
        ring.front().enabled.store(1, Ordering::SeqCst);
        Ok(ring)
    }

    /// Has no more calls recorded: they are made where the filter stops them.
    pub(crate) fn disable(&self) {
        self.front().enabled.store(0, Ordering::SeqCst);
    }

    /// Moves the records of calls that have returned to a list, in the order in which they did.
    /// Returns whether they were so many that there may have been no room for the next one.
    pub(crate) fn drain(&mut self, records: &mut Vec<Record>) -> bool {
        let committed = self.front().committed.load(Ordering::Acquire);
        if committed == self.seen {
            return false;
        }
        let before = records.len();
        for index in 0..SLOTS {
            if self.state(index).load(Ordering::Acquire) == COMMITTED {
                records.push(self.record(index, true));
                self.state(index).store(FREE, Ordering::Release);
            }
        }
        // One whose position is taken and whose slot is not committed yet comes the next time.
        let taken = records.len() - before;
        self.seen += taken as u64;
        records[before..].sort_by_key(|record| record.position);
        taken >= SLOTS / 2
    }

    /// Takes the record of the call that a thread is in, the last one if a handler never returned to others.
    pub(crate) fn take(&self, thread: Tid) -> Option<Record> {
        let state = |index| self.state(index).load(Ordering::Acquire);
        let unreturned = (0..SLOTS).filter(|index| !matches!(state(*index), FREE | COMMITTED));
        let of_thread = unreturned.filter(|index| self.record(*index, false).tid == thread);
        let last = of_thread.max_by_key(|index| state(*index))?;
        let record = self.record(last, false);
        self.state(last).store(FREE, Ordering::Release);
        Some(record)
    }

    /// Moves the records of calls that will not return to a list: those of threads that are no more.
    pub(crate) fn abandon(&self, mut gone: impl FnMut(Tid) -> bool, records: &mut Vec<Record>) {
        for index in 0..SLOTS {
            let state = self.state(index).load(Ordering::Acquire);
            if state == FREE || state == COMMITTED {
                continue;
            }
            let record = self.record(index, false);
            if record.tid.raw() != 0 && gone(record.tid) {
                records.push(record);
                self.state(index).store(FREE, Ordering::Release);
            }
        }
    }

    fn front(&self) -> &Front {
        // SAFETY: the memory begins with a page boundary, is longer than this, stays until it is detached, and
        // all values are atomic, for which any bytes are valid.
        unsafe { self.memory.cast().as_ref() }
    }

    fn slot(&self, index: usize) -> NonNull<Slot> {
        debug_assert!(index < SLOTS);
        let offset = (1 + index % SLOTS) * SLOT_SIZE;
        // SAFETY: the ring has that many slots of this size, so the result is within it.
        unsafe { self.memory.byte_add(offset) }.cast()
    }

    fn state(&self, index: usize) -> &AtomicU64 {
        // SAFETY: the slot is within the ring and aligned, begins with its state, and that is only used as an atomic.
        unsafe { self.slot(index).cast().as_ref() }
    }

    /// Reads a record. Its memory is a hostile process's to change at any time.
    fn record(&self, index: usize, returned: bool) -> Record {
        // SAFETY: the slot is within the ring and aligned, and any bytes are a valid one.
        let slot = unsafe { ptr::read_volatile(self.slot(index).as_ptr()) };
        let length = (slot.length as usize).clamp(1, ROOM);
        let mut path = slot.path[..length].to_vec();
        path[length - 1] = 0;
        let start = slot.path[length..].get(..slot.start_length as usize);
        let start = start.filter(|start| !start.is_empty());
        let of_statx = slot.flags & OF_STATX != 0;
        let named = match slot.named_result {
            NO_RESULT => None,
            0 => Some(Ok(slot.named.file(false))),
            errno => Some(Err(-(errno as i32))),
        };
        Record {
            tid: Tid::new(slot.tid.cast_signed()),
            number: slot.number,
            args: slot.args,
            result: returned.then_some(slot.result),
            time: slot.time,
            position: slot.position,
            rewritten: slot.flags & REWRITTEN != 0,
            path,
            start: start.map(<[u8]>::to_vec),
            file: (slot.file_result == 0).then(|| slot.file.file(of_statx)),
            named,
        }
    }
}

impl Record {
    /// Returns the address of the path that the call names.
    pub(crate) fn address(&self) -> u64 {
        self.args[usize::from(self.number >= WITH_DIRECTORY)]
    }

    /// Returns the descriptor of the directory that a relative path starts with (openat(2)).
    pub(crate) fn directory(&self) -> i32 {
        match self.number >= WITH_DIRECTORY || self.number == libc::SYS_getdents64 as u64 {
            true => self.args[0] as i32,
            false => libc::AT_FDCWD,
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: it was attached here, and nothing that borrows from it outlives it.
        unsafe { libc::shmdt(self.memory.as_ptr().cast()) };
    }
}

impl Stat {
    fn file(&self, of_statx: bool) -> FileId {
        FileId {
            device: match of_statx {
                true => libc::makedev(self.major, self.minor),
                false => self.device,
            },
            inode: self.inode,
            directory: self.mode & libc::S_IFMT == libc::S_IFDIR,
        }
    }
}

/// Returns the time stamp counter.
pub(crate) fn counter() -> u64 {
    // SAFETY: every processor of this architecture has the instruction.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(test)]
mod tests;
