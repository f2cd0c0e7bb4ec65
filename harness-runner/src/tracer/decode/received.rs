//! Descriptors that arrive in messages (SCM_RIGHTS, unix(7)).
//!
//! The file of a descriptor from an outside process was opened by no call of the attempt.

use super::{Decoded, Entry, Pending, Stop, Task, Then, control::Header, memory::Memory, network};
use harness_metadata::{
    TraceEventKind,
    trace::{Address, CallResult, Doubt, Reach},
};

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
        let mut unread = None;
        headers.retain(|at| match Header::read(&self.memory, *at) {
            Some(header) => header.has_room(),
            None => {
                unread = Some(*at);
                false
            }
        });
        if headers.is_empty() && unread.is_none() {
            return Entry::Done;
        }
        let fd = self.int(0);
        Entry::Await(Pending {
            unread,
            then: Then::Received { fd, headers },
            ..Pending::silent()
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
