//! Descriptors that arrive in messages (SCM_RIGHTS, unix(7)).
//!
//! The file of a descriptor from an outside process was opened by no call of the attempt.

use super::{Decoded, Entry, Pending, Stop, Task, Then, memory::Memory, network};
use harness_metadata::{
    TraceEventKind,
    trace::{Address, CallResult, Doubt, Reach},
};

/// `struct cmsghdr`: its length, itself included; the level; the type.
const HEADER: u64 = 16;
/// The room that one descriptor needs (CMSG_LEN(3)).
const SHORTEST: u64 = HEADER + 4;
/// The greatest number of control messages of a message to read. There are fewer kinds.
const CONTROLS: usize = 64;

/// The fields of `struct msghdr` that are of interest.
struct Header {
    name: u64,
    name_length: u64,
    control: u64,
    control_length: u64,
}

impl Header {
    fn read(memory: &Memory<'_>, at: u64) -> Option<Self> {
        let word = |offset| memory.u64(at.checked_add(offset)?).ok();
        Some(Self {
            name: word(0)?,
            // An int, and a gap.
            name_length: u64::from(word(8)? as u32),
            control: word(32)?,
            control_length: word(40)?,
        })
    }

    /// Whether a descriptor may arrive. Before the call this is how much room there is, and after it
    /// how much has come.
    fn has_room(&self) -> bool {
        self.control != 0 && self.control_length >= SHORTEST
    }

    /// Whether one has arrived. What cannot be read may be one.
    fn has_descriptors(&self, memory: &Memory<'_>) -> bool {
        let mut at = 0_u64;
        for _ in 0..CONTROLS {
            if self.control_length.saturating_sub(at) < SHORTEST {
                return false;
            }
            let word = |offset| {
                memory
                    .u64(self.control.checked_add(at)?.checked_add(offset)?)
                    .ok()
            };
            let (Some(length), Some(kind)) = (word(0), word(8)) else {
                return true;
            };
            let (level, kind) = (kind as u32 as i32, (kind >> 32) as i32);
            let (level, kind) = if cfg!(target_endian = "little") {
                (level, kind)
            } else {
                (kind, level)
            };
            if (level, kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                return true;
            }
            if length < HEADER {
                return false;
            }
            let Some(next) = length
                .checked_next_multiple_of(8)
                .and_then(|length| at.checked_add(length))
            else {
                return false;
            };
            at = next;
        }
        true
    }
}

impl Stop<'_> {
    pub(super) fn receive_message(&mut self) -> Decoded {
        Ok(self.receives(vec![self.arg(1)]))
    }

    pub(super) fn receive_messages(&mut self) -> Decoded {
        let count = u64::from(self.arg(2) as u32).min(network::MESSAGES);
        let headers = (0..count)
            .map_while(|index| self.arg(1).checked_add(index * network::MESSAGE_OF_SEVERAL));
        let headers = headers.collect();
        Ok(self.receives(headers))
    }

    fn receives(&self, mut headers: Vec<u64>) -> Entry {
        headers
            .retain(|at| Header::read(&self.memory, *at).is_some_and(|header| header.has_room()));
        if headers.is_empty() {
            return Entry::Done;
        }
        let fd = self.int(0);
        Entry::Await(Pending {
            events: Vec::new(),
            doubt: None,
            asks: None,
            then: Then::Received { fd, headers },
        })
    }
}

/// Messages have arrived: with descriptors from outside? If the result is not known, they may have.
pub(super) fn returned(
    events: &mut Vec<TraceEventKind>,
    result: CallResult,
    (fd, headers): (i32, &[u64]),
    task: &dyn Task,
) {
    let is_unix = |address| {
        matches!(
            address,
            Address::Unix(_) | Address::UnixAbstract(_) | Address::UnixUnnamed
        )
    };
    let memory = Memory::new(task);
    let headers = headers.iter().filter_map(|at| Header::read(&memory, *at));
    let foreign = match result {
        CallResult::Ok(_) | CallResult::Found => {
            let mut headers = headers.filter(|header| header.has_descriptors(&memory));
            headers.any(|header| !is_of_own(&header, fd, &memory, task))
        }
        CallResult::Err(_) => false,
        CallResult::Unknown => {
            task.socket_name(fd).is_some_and(is_unix) && task.peer_is_own(fd) != Some(true)
        }
    };
    if foreign {
        events.push(TraceEventKind::Doubt(Doubt::ForeignDescriptor));
    }
}

/// Whether the attempt itself has sent a message: by its sender's address, or because it comes from
/// where the socket is connected to.
fn is_of_own(header: &Header, fd: i32, memory: &Memory<'_>, task: &dyn Task) -> bool {
    let sender = network::read_address(memory, header.name, header.name_length);
    let sender = sender.ok().flatten();
    let sender = sender.map(|sender| network::absolute(task, sender));
    sender.is_some_and(|sender| task.sockets().borrow().reach(&sender) == Reach::Tree)
        || task.peer_is_own(fd) == Some(true)
}
