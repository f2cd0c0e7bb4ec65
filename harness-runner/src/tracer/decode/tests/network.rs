//! Calls on sockets, and questions to name servers.

use super::{Told, call, fake::Fake, network};
use crate::tracer::decode::{names, network::address};
use harness_metadata::{
    TraceEventKind,
    event::TraceLevel,
    trace::{Address, CallResult, Doubt, NameLookup, NetworkOperation, Reach},
};
use syscalls::Sysno;

fn ip(text: &str) -> Address {
    let address: std::net::SocketAddr = text.parse().expect("an address");
    Address::Ip {
        ip: address.ip(),
        port: address.port(),
    }
}

fn inet(ip: [u8; 4], port: u16) -> Vec<u8> {
    let mut bytes = (libc::AF_INET as u16).to_ne_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    bytes.extend(ip);
    bytes.extend([0; 8]);
    bytes
}

fn inet6(ip: &str, port: u16) -> Vec<u8> {
    let mut bytes = (libc::AF_INET6 as u16).to_ne_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(
        ip.parse::<std::net::Ipv6Addr>()
            .expect("an address")
            .octets(),
    );
    bytes.extend([0; 4]);
    bytes
}

fn unix(name: &[u8]) -> Vec<u8> {
    [&(libc::AF_UNIX as u16).to_ne_bytes(), name].concat()
}

/// A question for the address of a name of one letter per label.
fn question(name: &str) -> Vec<u8> {
    let mut message = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend(b"\0\0\x1c\0\x01");
    message
}

fn io(task: &Fake, number: Sysno, args: &[u64], result: i64) -> Told {
    call(task, TraceLevel::Io, number, args, result)
}

fn connect(task: &mut Fake, address: &[u8], result: i64) -> Told {
    let at = task.bytes(address);
    io(task, Sysno::connect, &[3, at, address.len() as u64], result)
}

#[test]
fn p72_addresses_of_all_families() {
    let other = |family: i32, length: usize| {
        let mut bytes = vec![0; length];
        bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        bytes
    };
    let mut vsock = other(libc::AF_VSOCK, 16);
    vsock[4..8].copy_from_slice(&5000_u32.to_ne_bytes());
    vsock[8..12].copy_from_slice(&2_u32.to_ne_bytes());
    for (bytes, expected) in [
        (inet([127, 0, 0, 1], 80), ip("127.0.0.1:80")),
        (inet6("2001:db8::1", 443), ip("[2001:db8::1]:443")),
        (inet6("::ffff:10.0.0.1", 443), ip("10.0.0.1:443")),
        (inet6("::1", 1)[..24].to_vec(), ip("[::1]:1")),
        (unix(b"/run/x\0rest"), Address::Unix("/run/x".into())),
        (unix(b"/run/x"), Address::Unix("/run/x".into())),
        (unix(b"\0a\0b"), Address::UnixAbstract(b"a\0b"[..].into())),
        (unix(b""), Address::UnixUnnamed),
        (other(libc::AF_NETLINK, 12), Address::Netlink),
        (vsock.clone(), Address::Vsock { cid: 2, port: 5000 }),
        (other(libc::AF_PACKET, 20), Address::Other(17)),
        (other(libc::AF_UNSPEC, 16), Address::Other(0)),
        // Too short for their families.
        (inet([1, 2, 3, 4], 5)[..15].to_vec(), Address::Other(2)),
        (inet6("::1", 1)[..23].to_vec(), Address::Other(10)),
        (vsock[..12].to_vec(), Address::Other(40)),
    ] {
        assert_eq!(address(&bytes), Some(expected), "{bytes:?}");
    }
    assert_eq!(address(b"\x02"), None);
}

#[test]
fn p72_a_connect_that_goes_on_in_the_background() {
    let mut task = Fake::new();
    let told = connect(
        &mut task,
        &inet([93, 184, 216, 34], 443),
        -libc::EINPROGRESS as i64,
    );
    let call = network(told.at_exit());
    assert_eq!(call.call, "connect");
    assert_eq!(call.operation, NetworkOperation::Connect);
    assert_eq!(call.fd, 3);
    assert_eq!(call.address, Some(ip("93.184.216.34:443")));
    assert_eq!(call.reach, Reach::Outside);
    assert_eq!(call.result, CallResult::Err(libc::EINPROGRESS));
}

#[test]
fn p72_lengths_of_addresses_that_make_no_sense() {
    let mut task = Fake::new();
    let at = task.bytes(&inet([1, 2, 3, 4], 5));
    for length in [0, 1] {
        let told = io(&task, Sysno::connect, &[3, at, length], -22);
        assert_eq!(network(told.at_exit()).address, None);
    }
    // More than is there.
    for length in [17, 1000, u64::MAX] {
        let told = io(&task, Sysno::connect, &[3, at, length], -14);
        assert_eq!(told.at_exit(), []);
    }
}

#[test]
fn a_unix_socket_is_named_in_full() {
    let mut task = Fake::new();
    let call = network(connect(&mut task, &unix(b"../run/s\0"), 0).at_exit());
    assert_eq!(call.address, Some(Address::Unix("/run/s".into())));
    assert_eq!(call.reach, Reach::Machine);
}

#[test]
fn p72_p73_a_port_that_the_kernel_chose_is_found_out_and_is_the_trees_own() {
    let mut task = Fake::new();
    task.names.insert(3, ip("127.0.0.1:40000"));
    let bind = inet([127, 0, 0, 1], 0);
    let at = task.bytes(&bind);
    let bound = network(io(&task, Sysno::bind, &[3, at, 16], 0).at_exit());
    assert_eq!(bound.address, Some(ip("127.0.0.1:40000")));
    assert_eq!(bound.reach, Reach::Tree);
    let peer = network(connect(&mut task, &inet([127, 0, 0, 1], 40000), 0).at_exit());
    assert_eq!(peer.reach, Reach::Tree);
    let other = network(connect(&mut task, &inet([127, 0, 0, 1], 5432), 0).at_exit());
    assert_eq!(other.reach, Reach::Machine);
}

#[test]
fn p73_who_failed_to_bind_owns_nothing() {
    let mut task = Fake::new();
    let address = inet([127, 0, 0, 1], 5432);
    let at = task.bytes(&address);
    let told = io(&task, Sysno::bind, &[3, at, 16], -libc::EADDRINUSE as i64);
    assert_eq!(
        network(told.at_exit()).result.error(),
        Some(libc::EADDRINUSE)
    );
    let peer = network(connect(&mut task, &address, 0).at_exit());
    assert_eq!(peer.reach, Reach::Machine);
}

#[test]
fn p73_a_client_is_the_trees_own_if_it_connected_from_the_tree() {
    let mut task = Fake::new();
    let listener = ip("127.0.0.1:7000");
    task.names.insert(8, listener.clone());
    let listen = network(io(&task, Sysno::listen, &[8, 128], 0).at_exit());
    assert_eq!(listen.address, Some(listener));

    task.names.insert(3, ip("127.0.0.1:50001"));
    network(connect(&mut task, &inet([127, 0, 0, 1], 7000), 0).at_exit());
    task.peers.insert(9, ip("127.0.0.1:50001"));
    let accept = |task: &Fake| network(io(task, Sysno::accept4, &[8], 9).at_exit());
    let accepted = accept(&task);
    assert_eq!(accepted.operation, NetworkOperation::Accept);
    assert_eq!(accepted.address, Some(ip("127.0.0.1:50001")));
    assert_eq!(accepted.reach, Reach::Tree);

    task.peers.insert(9, ip("127.0.0.1:50002"));
    assert_eq!(accept(&task).reach, Reach::Machine, "another program");
    // One that is just connecting: its connect has not returned.
    task.sockets.borrow_mut().connecting();
    assert_eq!(accept(&task).reach, Reach::Tree);
    task.sockets.borrow_mut().connected();

    task.peers.insert(9, Address::UnixUnnamed);
    assert_eq!(accept(&task).reach, Reach::Unknown);
    task.own_peers.insert(9, true);
    assert_eq!(accept(&task).reach, Reach::Tree);
}

#[test]
fn p72_datagrams_without_a_connection() {
    let mut task = Fake::new();
    let to = task.bytes(&inet([10, 1, 1, 1], 9999));
    let payload = task.bytes(&[7; 40]);
    let part = task.words(&[payload, 40]);
    let header = |task: &mut Fake, name| task.words(&[name, 16, part, 1, 0, 0, 0]);
    let message = header(&mut task, to);
    let several = [to, 16, part, 1, 0, 0, 0, 0, to, 16, part, 1, 0, 0, 0, 0];
    let several = task.words(&several);
    for (number, args) in [
        (Sysno::sendto, &[4, payload, 40, 0, to, 16][..]),
        (Sysno::sendmsg, &[4, message]),
        (Sysno::sendmmsg, &[4, several, 2]),
    ] {
        let sent = network(io(&task, number, args, 40).at_exit());
        assert_eq!(sent.operation, NetworkOperation::Send, "{number}");
        assert_eq!(sent.address, Some(ip("10.1.1.1:9999")));
        assert_eq!(sent.reach, Reach::Outside);
        assert_eq!(sent.result, CallResult::Ok(40));
    }
    // To whom it is connected.
    let message = header(&mut task, 0);
    for (number, args) in [
        (Sysno::sendto, &[4, payload, 40, 0, 0, 0][..]),
        (Sysno::sendmsg, &[4, message]),
    ] {
        assert_eq!(io(&task, number, args, 40).at_entry(), [], "{number}");
    }
    assert_eq!(
        task.peer_questions.get(),
        0,
        "no question, so no server was asked"
    );
}

#[test]
fn p72_names_are_read_from_questions_to_name_servers() {
    let lookup = |name: &str, server: &str| {
        TraceEventKind::Lookup(NameLookup {
            name: name.into(),
            server: ip(server),
        })
    };
    let mut task = Fake::new();
    let server = task.bytes(&inet([127, 0, 0, 53], 53));
    let message = question("example.com");
    let length = message.len() as u64;
    let payload = task.bytes(&message);
    // musl.
    let told = io(
        &task,
        Sysno::sendto,
        &[4, payload, length, 0, server, 16],
        29,
    );
    assert_eq!(told.first, [lookup("example.com", "127.0.0.53:53")]);
    assert_eq!(
        network(told.then.expect("awaited")).operation,
        NetworkOperation::Send
    );
    // glibc: connected, two questions at once.
    task.peers.insert(4, ip("10.0.0.2:53"));
    let part = task.words(&[payload, length]);
    let one = [0, 0, part, 1, 0, 0, 0, 0];
    let messages = task.words(&[one, one].concat());
    let told = io(&task, Sysno::sendmmsg, &[4, messages, 2], 2);
    assert_eq!(told.at_entry(), [lookup("example.com", "10.0.0.2:53")]);
    assert_eq!(task.peer_questions.take(), 1);
    let told = io(&task, Sysno::sendto, &[4, payload, length, 0, 0, 0], 29);
    assert_eq!(told.at_entry(), [lookup("example.com", "10.0.0.2:53")]);
    // Over TCP, in two parts.
    let prefix = task.bytes(&(length as u16).to_be_bytes());
    let parts = task.words(&[prefix, 2, payload, length]);
    let header = task.words(&[0, 0, parts, 2, 0, 0, 0]);
    let told = io(&task, Sysno::sendmsg, &[4, header], 29);
    assert_eq!(told.at_entry(), [lookup("example.com", "10.0.0.2:53")]);
    // Not a name server.
    task.peers.insert(4, ip("10.0.0.2:5353"));
    let told = io(&task, Sysno::sendto, &[4, payload, length, 0, 0, 0], 29);
    assert_eq!(told.at_entry(), []);
}

#[test]
fn questions_are_told_from_other_messages() {
    let name = |message: &[u8]| names::question(message).map(|name| name.to_string());
    let good = question("a.bc.example");
    assert_eq!(name(&good).as_deref(), Some("a.bc.example"));
    for end in 0..good.len() {
        assert_eq!(name(&good[..end]), None);
    }
    // An answer, another operation, two questions, with answers, an unknown class, a long label.
    for (at, value) in [
        (2, 0x81),
        (2, 0x11),
        (5, 2),
        (7, 1),
        (good.len() - 1, 7),
        (12, 64),
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(name(&bad), None, "{at}");
    }
    let mut root = good[..12].to_vec();
    root.extend(b"\0\0\x02\0\x01");
    assert_eq!(name(&root).as_deref(), Some("."));
}

#[test]
fn compression_in_questions_ends() {
    let header = &question("x")[..12];
    // To itself, forward, into the header, and there and back.
    for tail in [
        &b"\xc0\x0c\0\x01\0\x01"[..],
        b"\xc0\x20\0\x01\0\x01",
        b"\xc0\x02\0\x01\0\x01",
        b"\x01a\xc0\x0e\0\x01\0\x01",
        b"\x01a\xc0\x0c\0\x01\0\x01",
    ] {
        assert_eq!(names::question(&[header, tail].concat()), None, "{tail:?}");
    }
}

/// Puts a `struct msghdr` with one control message somewhere.
fn controlled(task: &mut Fake, kind: i32, sender: Option<&[u8]>) -> u64 {
    let mut control = 20_u64.to_ne_bytes().to_vec();
    control.extend(libc::SOL_SOCKET.to_ne_bytes());
    control.extend(kind.to_ne_bytes());
    control.extend(7_u64.to_ne_bytes());
    let control = task.bytes(&control);
    let length = sender.map_or(0, <[u8]>::len) as u64;
    let sender = sender.map_or(0, |sender| task.bytes(sender));
    task.words(&[sender, length, 0, 0, control, 24, 0])
}

#[test]
fn p63_a_descriptor_from_outside_makes_a_trace_doubtful() {
    let foreign = [TraceEventKind::Doubt(Doubt::ForeignDescriptor)];
    let with_peer = |own: Option<bool>| {
        let mut task = Fake::new();
        task.own_peers.extend(own.map(|own| (4, own)));
        task
    };
    for (own, doubts) in [
        (Some(true), &[][..]),
        (Some(false), &foreign),
        (None, &foreign),
    ] {
        let mut task = with_peer(own);
        let header = controlled(&mut task, libc::SCM_RIGHTS, None);
        let received = io(&task, Sysno::recvmsg, &[4, header, 0], 1);
        assert_eq!(received.at_exit(), doubts, "{own:?}");
        let failed = io(&task, Sysno::recvmsg, &[4, header, 0], -11);
        assert_eq!(failed.at_exit(), [], "{own:?}");
        // The second of two messages, of 64 bytes each.
        let mut both = [0; 16];
        let second = task.memory[&header].clone();
        let words = second
            .chunks_exact(8)
            .map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes")));
        both[8..15].copy_from_slice(&words.collect::<Vec<_>>());
        let both = task.words(&both);
        let received = io(&task, Sysno::recvmmsg, &[4, both, 2, 0, 0], 2);
        assert_eq!(received.at_exit(), doubts, "{own:?}");
    }
}

#[test]
fn p63_a_descriptor_is_the_attempts_own_if_its_sender_is() {
    let mut task = Fake::new();
    let own = [&(libc::AF_UNIX as u16).to_ne_bytes()[..], b"\0own"].concat();
    task.sockets
        .borrow_mut()
        .bound(&Address::UnixAbstract("own".into()));
    let header = controlled(&mut task, libc::SCM_RIGHTS, Some(&own));
    let received = io(&task, Sysno::recvmsg, &[4, header, 0], 1);
    assert_eq!(received.at_exit(), []);
}

#[test]
fn messages_without_room_for_a_descriptor_are_not_awaited() {
    let mut task = Fake::new();
    let header = task.words(&[0, 0, 0, 0, 0x1000, 16, 0]);
    let other = task.words(&[0, 0, 0, 0, 0, 24, 0]);
    for header in [header, other] {
        let received = io(&task, Sysno::recvmsg, &[4, header, 0], 1);
        assert_eq!(received.at_entry(), []);
    }
    // Room was there, and something else came.
    let header = controlled(&mut task, libc::SCM_CREDENTIALS, None);
    let received = io(&task, Sysno::recvmsg, &[4, header, 0], 1);
    assert_eq!(received.at_exit(), []);
}
