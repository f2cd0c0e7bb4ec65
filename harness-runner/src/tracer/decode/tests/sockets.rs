//! The reach of addresses.

use crate::tracer::decode::Bound;
use harness_metadata::trace::{Address, Reach};
use std::net::{IpAddr, Ipv4Addr};

fn ip(text: &str) -> Address {
    let address: std::net::SocketAddr = text.parse().expect("an address");
    Address::Ip {
        ip: address.ip(),
        port: address.port(),
    }
}

fn reach(bound: &[&str], address: &str) -> Reach {
    let mut table = Bound::new([IpAddr::V4(Ipv4Addr::new(192, 168, 0, 7))]);
    for address in bound {
        table.bound(&ip(address));
    }
    table.reach(&ip(address))
}

#[test]
fn p73_addresses_without_a_socket_of_the_tree() {
    for (address, expected) in [
        ("127.0.0.1:80", Reach::Machine),
        ("127.9.9.9:80", Reach::Machine),
        ("[::1]:80", Reach::Machine),
        ("[::ffff:127.0.0.1]:80", Reach::Machine),
        ("0.0.0.0:80", Reach::Machine),
        ("192.168.0.7:80", Reach::Machine),
        ("192.168.0.8:80", Reach::Outside),
        ("8.8.8.8:53", Reach::Outside),
        ("[2001:db8::1]:80", Reach::Outside),
        ("224.0.0.1:80", Reach::Outside),
    ] {
        assert_eq!(reach(&[], address), expected, "{address}");
    }
}

#[test]
fn p73_what_the_tree_has_bound_is_its_own() {
    for (bound, address, expected) in [
        ("127.0.0.1:80", "127.0.0.1:80", Reach::Tree),
        ("127.0.0.1:80", "127.0.0.1:81", Reach::Machine),
        ("127.0.0.1:80", "127.0.0.2:80", Reach::Machine),
        ("127.0.0.1:80", "0.0.0.0:80", Reach::Tree),
        ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", Reach::Tree),
        ("127.0.0.1:0", "127.0.0.1:0", Reach::Machine),
        ("0.0.0.0:80", "127.0.0.1:80", Reach::Tree),
        ("0.0.0.0:80", "192.168.0.7:80", Reach::Tree),
        ("0.0.0.0:80", "8.8.8.8:80", Reach::Outside),
        ("0.0.0.0:80", "[::1]:80", Reach::Machine),
        ("[::]:80", "[::1]:80", Reach::Tree),
        ("[::]:80", "127.0.0.1:80", Reach::Tree),
        ("192.168.0.7:80", "192.168.0.7:80", Reach::Tree),
    ] {
        assert_eq!(reach(&[bound], address), expected, "{bound} {address}");
    }
}

#[test]
fn names_of_unix_sockets() {
    let mut bound = Bound::default();
    let path = Address::Unix("/run/s".into());
    let name = Address::UnixAbstract("/run/s".into());
    assert_eq!(bound.reach(&path), Reach::Machine);
    bound.bound(&path);
    bound.bound(&Address::UnixUnnamed);
    assert_eq!(bound.reach(&path), Reach::Tree);
    assert_eq!(bound.reach(&name), Reach::Machine, "another name space");
    assert_eq!(bound.reach(&Address::UnixUnnamed), Reach::Unknown);
    assert_eq!(bound.reach(&Address::Netlink), Reach::Machine);
    let host = Address::Vsock { cid: 2, port: 1 };
    assert_eq!(bound.reach(&host), Reach::Outside);
}

#[test]
fn it_does_not_grow_without_end() {
    let mut bound = Bound::default();
    for number in 0..20_000_u32 {
        bound.bound(&Address::Vsock {
            cid: 1,
            port: number,
        });
    }
    let reach = |port| bound.reach(&Address::Vsock { cid: 1, port });
    assert_eq!(reach(0), Reach::Tree);
    assert_eq!(
        reach(19_999),
        Reach::Machine,
        "what did not fit is not claimed"
    );
}
