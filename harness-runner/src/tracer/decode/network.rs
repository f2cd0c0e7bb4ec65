//! Calls on sockets.

use super::{
    Decoded, Entry, Pending, ReadError, Stop, Task, Then, control, memory::Memory, names, paths,
};
use crate::policy::Bounds;
use harness_metadata::{
    TraceEventKind,
    trace::{Address, CallResult, Doubt, NameLookup, NetworkCall, NetworkOperation, Reach},
};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The longest address of any family (`struct sockaddr_storage`).
const LONGEST: u64 = 128;
/// The most messages that sendmmsg(2) takes, and the most parts that a message has (UIO_MAXIOV).
pub(super) const MESSAGES: u64 = 1024;
/// The greatest number of parts of a message to search for a question.
const PARTS: u64 = 8;

/// Sizes of `struct msghdr` and `struct mmsghdr` on 64-bit machines, and of `struct iovec`.
const MESSAGE: u64 = 56;
pub(super) const MESSAGE_OF_SEVERAL: u64 = 64;
const PART: u64 = 16;

/// Decodes an address as bytes. What is shorter than its family wants is only known by its family.
pub(super) fn address(bytes: &[u8]) -> Option<Address> {
    let family = u16::from_ne_bytes(*bytes.first_chunk()?);
    let port = || Some(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?));
    let word = |offset: usize| Some(u32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?));
    let known = match i32::from(family) {
        libc::AF_INET if bytes.len() >= 16 => bytes.get(4..).and_then(|rest| {
            Some(Address::Ip {
                ip: IpAddr::V4(Ipv4Addr::from(*rest.first_chunk::<4>()?)),
                port: port()?,
            })
        }),
        // Without the scope (RFC 2133) the kernel takes it as well.
        libc::AF_INET6 if bytes.len() >= 24 => bytes.get(8..).and_then(|rest| {
            Some(Address::Ip {
                // An IPv4 address in IPv6's clothes reaches IPv4.
                ip: IpAddr::V6(Ipv6Addr::from(*rest.first_chunk::<16>()?)).to_canonical(),
                port: port()?,
            })
        }),
        libc::AF_UNIX => Some(match &bytes[2..] {
            [] => Address::UnixUnnamed,
            [0, name @ ..] => Address::UnixAbstract(name.into()),
            path => {
                let end = path.iter().position(|byte| *byte == 0);
                Address::Unix(path[..end.unwrap_or(path.len())].into())
            }
        }),
        libc::AF_NETLINK => Some(Address::Netlink),
        libc::AF_VSOCK if bytes.len() >= 16 => word(8).and_then(|cid| {
            Some(Address::Vsock {
                port: word(4)?,
                cid,
            })
        }),
        _ => None,
    };
    Some(known.unwrap_or(Address::Other(family)))
}

/// Reads an address as it is in memory; `None` if there is none.
pub(super) fn read_address(
    memory: &Memory<'_>,
    at: u64,
    length: u64,
) -> Result<Option<Address>, ReadError> {
    let bytes = read_bytes(memory, at, length)?;
    Ok(bytes.and_then(|bytes| address(&bytes)))
}

fn read_bytes(memory: &Memory<'_>, at: u64, length: u64) -> Result<Option<Vec<u8>>, ReadError> {
    // The kernel takes an int. A negative length is an error.
    let length = u64::from(length as u32).min(LONGEST) as usize;
    if at == 0 || length < 2 {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    memory.fill(at, &mut bytes)?;
    Ok(Some(bytes))
}

/// A message that is sent.
struct Message {
    /// The destination; `None` for the socket's peer.
    to: Option<Address>,
    /// Its parts: address and length.
    parts: Vec<(u64, u64)>,
}

impl Pending {
    /// Returns whether a policy denies a peer of the call.
    pub(crate) fn is_denied_by(&self, policy: &Bounds) -> bool {
        self.events.iter().any(|event| match event {
            TraceEventKind::Network(call) => policy.denied_peer(call).is_some(),
            _ => false,
        })
    }
}

impl Stop<'_> {
    /// Reads an address; `None` if there is none.
    fn address(&self, at: u64, length: u64) -> Result<Option<Address>, ReadError> {
        let Some(bytes) = read_bytes(&self.memory, at, length)? else {
            return Ok(None);
        };
        self.has_read(at, &bytes);
        Ok(address(&bytes).map(|address| absolute(self.task, address)))
    }

    fn call(&self, operation: NetworkOperation, address: Option<Address>) -> NetworkCall {
        let reach = match (&address, operation) {
            (Some(address), NetworkOperation::Connect | NetworkOperation::Send) => {
                self.task.sockets().borrow().reach(address)
            }
            // Its own address.
            (_, NetworkOperation::Bind | NetworkOperation::Listen) => Reach::Tree,
            _ => Reach::Unknown,
        };
        NetworkCall {
            call: self.name.to_owned(),
            operation,
            fd: self.int(0),
            address,
            reach,
            result: CallResult::Unknown,
        }
    }

    pub(super) fn network(&mut self, operation: NetworkOperation) -> Decoded {
        let address = match operation {
            NetworkOperation::Connect | NetworkOperation::Bind => {
                self.address(self.arg(1), self.arg(2))?
            }
            NetworkOperation::Listen | NetworkOperation::Accept => None,
            NetworkOperation::Send => return self.send_to(),
        };
        let call = self.call(operation, address);
        if operation == NetworkOperation::Connect && call.reach == Reach::Tree {
            self.task.sockets().borrow_mut().connecting();
        }
        Ok(Entry::Await(Pending::new(
            TraceEventKind::Network(Box::new(call)),
            Then::Socket(operation),
        )))
    }

    fn send_to(&mut self) -> Decoded {
        let message = Message {
            to: self.address(self.arg(4), self.arg(5))?,
            parts: vec![(self.arg(1), self.arg(2))],
        };
        Ok(self.sent(&[message]))
    }

    pub(super) fn send_message(&mut self) -> Decoded {
        let message = self.message(self.arg(1))?;
        self.hands_out(&[self.arg(1)], std::slice::from_ref(&message));
        Ok(self.sent(&[message]))
    }

    pub(super) fn send_messages(&mut self) -> Decoded {
        let count = u64::from(self.arg(2) as u32).min(MESSAGES);
        let messages: Vec<_> = (0..count)
            .map_while(|index| {
                let at = self.arg(1).checked_add(index * MESSAGE_OF_SEVERAL)?;
                // What was sent before one that cannot be read is sent.
                self.message(at).ok()
            })
            .collect();
        if messages.is_empty() && count > 0 {
            // Why?
            self.message(self.arg(1))?;
        }
        let headers = (0..messages.len() as u64)
            .map(|index| self.arg(1).wrapping_add(index * MESSAGE_OF_SEVERAL));
        self.hands_out(&headers.collect::<Vec<_>>(), &messages);
        Ok(self.sent(&messages))
    }

    /// A descriptor that is sent outside may be a socket by which others come back: its holder writes
    /// to where the attempt reads.
    fn hands_out(&mut self, headers: &[u64], messages: &[Message]) {
        let is_own = |message: &Message| match &message.to {
            Some(to) => self.task.sockets().borrow().reach(to) == Reach::Tree,
            None => self.task.peer_is_own(self.int(0)) == Some(true),
        };
        let handed = headers.iter().zip(messages).any(|(header, message)| {
            control::has_descriptors(&self.memory, *header) && !is_own(message)
        });
        if handed {
            self.tell(TraceEventKind::Doubt(Doubt::ForeignDescriptor));
        }
    }

    /// Reads a `struct msghdr`.
    fn message(&self, at: u64) -> Result<Message, ReadError> {
        let mut header = [0; MESSAGE as usize];
        self.memory.fill(at, &mut header)?;
        let word = |index: usize| {
            let (words, _) = header.as_chunks::<8>();
            u64::from_ne_bytes(words[index])
        };
        let length = u64::from(u32::from_ne_bytes([
            header[8], header[9], header[10], header[11],
        ]));
        let parts = (0..word(3).min(PARTS))
            .map_while(|index| {
                let at = word(2).checked_add(PART * index)?;
                let start = self.memory.u64(at).ok()?;
                let length = self.memory.u64(at.checked_add(8)?).ok()?;
                Some((start, length))
            })
            .collect();
        Ok(Message {
            to: self.address(word(0), length)?,
            parts,
        })
    }

    /// Tells of questions to name servers at once, and waits for what is sent to an address.
    fn sent(&mut self, messages: &[Message]) -> Entry {
        let mut peers = BTreeSet::new();
        let mut asked = BTreeSet::new();
        // Who it is connected to is asked at most once, and only for what looks like a question.
        let mut connected = None;
        for message in messages {
            let server = match &message.to {
                Some(to) => {
                    peers.insert(to.clone());
                    Some(to.clone()).filter(is_name_server)
                }
                None => None,
            };
            if message.to.is_some() && server.is_none() {
                continue;
            }
            let payload = self.payload(&message.parts);
            let question = names::question(&payload).or_else(|| names::stream_question(&payload));
            let Some(name) = question else {
                continue;
            };
            let server = server.or_else(|| {
                connected
                    .get_or_insert_with(|| {
                        let peer = self.task.peer_name(self.int(0));
                        peer.filter(is_name_server)
                    })
                    .clone()
            });
            if let Some(server) = server {
                asked.insert((name, server));
            }
        }
        for (name, server) in asked {
            self.tell(TraceEventKind::Lookup(NameLookup { name, server }));
        }
        if peers.is_empty() {
            return Entry::Done;
        }
        let events = peers
            .into_iter()
            .map(|peer| {
                let call = self.call(NetworkOperation::Send, Some(peer));
                TraceEventKind::Network(Box::new(call))
            })
            .collect();
        Entry::Await(Pending {
            events,
            then: Then::Socket(NetworkOperation::Send),
            ..Pending::silent()
        })
    }

    /// Reads as much of a message as a question has; what is longer is none, and left empty.
    fn payload(&self, parts: &[(u64, u64)]) -> Vec<u8> {
        let longest = *names::QUESTION.end();
        let mut payload = Vec::new();
        for (start, length) in parts {
            let done = payload.len();
            let Some(length) = usize::try_from(*length)
                .ok()
                .filter(|length| *length <= longest - done)
            else {
                return Vec::new();
            };
            payload.resize(done + length, 0);
            if self.memory.fill(*start, &mut payload[done..]).is_err() {
                return Vec::new();
            }
        }
        payload
    }
}

fn is_name_server(address: &Address) -> bool {
    matches!(
        address,
        Address::Ip {
            port: names::PORT,
            ..
        }
    )
}

/// Completes the path of a unix socket.
pub(super) fn absolute(task: &dyn Task, address: Address) -> Address {
    match address {
        Address::Unix(path) => {
            let absolute = paths::absolute(task, libc::AT_FDCWD, path.as_bytes());
            Address::Unix(absolute.map_or(path, Into::into))
        }
        address => address,
    }
}

/// A call has returned: keeps what own sockets are called, and finds out addresses.
pub(super) fn returned(
    events: &mut [TraceEventKind],
    result: CallResult,
    operation: NetworkOperation,
    task: &dyn Task,
) {
    let Some(TraceEventKind::Network(call)) = events.first_mut() else {
        return;
    };
    let succeeded = matches!(result, CallResult::Ok(_));
    let own_name = || Some(absolute(task, task.socket_name(call.fd)?));
    let sockets = task.sockets();
    match operation {
        NetworkOperation::Connect if call.reach == Reach::Tree => {
            let name = (succeeded || result.error() == Some(libc::EINPROGRESS))
                .then(own_name)
                .flatten();
            let mut sockets = sockets.borrow_mut();
            sockets.connected();
            if let Some(name) = name {
                sockets.bound(&name);
            }
        }
        NetworkOperation::Connect => {}
        // Its answers come to this name.
        NetworkOperation::Send if succeeded && call.reach == Reach::Tree => {
            if let Some(name) = own_name() {
                sockets.borrow_mut().bound(&name);
            }
        }
        NetworkOperation::Send => {}
        NetworkOperation::Bind if succeeded || result == CallResult::Unknown => {
            if succeeded && is_chosen_by_kernel(call.address.as_ref()) {
                call.address = own_name().or(call.address.take());
            }
            if let Some(address) = &call.address {
                sockets.borrow_mut().bound(address);
            }
        }
        // Its address it has from before.
        NetworkOperation::Listen if succeeded || result == CallResult::Unknown => {
            call.address = own_name();
            if let Some(address) = &call.address {
                sockets.borrow_mut().bound(address);
            }
        }
        NetworkOperation::Accept => {
            let Some(fd) = accepted(result) else {
                return;
            };
            call.address = task.peer_name(fd).map(|peer| absolute(task, peer));
            if let Some(address) = &call.address {
                call.reach = reach_of_peer(address, fd, task);
            }
        }
        NetworkOperation::Bind | NetworkOperation::Listen => {}
    }
}

/// Returns true if the kernel chooses the port or the name when a socket is bound to this address.
fn is_chosen_by_kernel(address: Option<&Address>) -> bool {
    matches!(
        address,
        None | Some(Address::Ip { port: 0, .. } | Address::UnixUnnamed)
    )
}

/// Returns the reach of a connection that was accepted, by the address of its other end.
fn reach_of_peer(address: &Address, fd: i32, task: &dyn Task) -> Reach {
    let sockets = task.sockets();
    match address {
        Address::Unix(_) | Address::UnixAbstract(_) | Address::UnixUnnamed => {
            match task.peer_is_own(fd) {
                Some(true) => Reach::Tree,
                Some(false) => Reach::Machine,
                None => sockets.borrow().reach(address),
            }
        }
        address => sockets.borrow().reach_of_client(address),
    }
}

fn accepted(result: CallResult) -> Option<i32> {
    match result {
        CallResult::Ok(fd) => i32::try_from(fd).ok(),
        _ => None,
    }
}
