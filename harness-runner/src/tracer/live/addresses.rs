//! Addresses of sockets, as the kernel has them.

use harness_metadata::trace::Address;
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage};
use std::{net::IpAddr, os::unix::ffi::OsStrExt};

/// Returns an address as the kernel has it of a socket.
pub(super) fn address(name: &SockaddrStorage) -> Address {
    if let Some(ip) = name.as_sockaddr_in() {
        let (ip, port) = (IpAddr::V4(ip.ip()), ip.port());
        return Address::Ip { ip, port };
    }
    if let Some(ip) = name.as_sockaddr_in6() {
        let (ip, port) = (IpAddr::V6(ip.ip()), ip.port());
        return Address::Ip { ip, port };
    }
    if let Some(unix) = name.as_unix_addr() {
        return match (unix.path(), unix.as_abstract()) {
            (Some(path), _) => Address::Unix(path.as_os_str().as_bytes().into()),
            (None, Some(name)) => Address::UnixAbstract(name.into()),
            (None, None) => Address::UnixUnnamed,
        };
    }
    match name.family() {
        Some(AddressFamily::Netlink) => Address::Netlink,
        Some(AddressFamily::Vsock) => {
            name.as_vsock_addr()
                .map_or(Address::Other(libc::AF_VSOCK as u16), |vsock| {
                    Address::Vsock {
                        cid: vsock.cid(),
                        port: vsock.port(),
                    }
                })
        }
        family => Address::Other(family.map_or(0, |family| family as u16)),
    }
}

/// Returns the addresses of this machine, as far as they can be found out.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    let addresses = interfaces.filter_map(|interface| interface.address);
    let ip = |name: SockaddrStorage| match address(&name) {
        Address::Ip { ip, .. } => Some(ip),
        _ => None,
    };
    addresses.filter_map(ip).collect()
}
