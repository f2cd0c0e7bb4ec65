//! The reach of addresses, as far as it follows from the addresses and from those of the attempt's
//! own sockets.

use harness_metadata::trace::{Address, Reach};
use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The number of remembered addresses. One that does not fit is not taken for the attempt's own.
const ADDRESSES: usize = 16 * 1024;

/// The addresses of an attempt's sockets.
///
/// An address stays the attempt's own when its socket is closed, and TCP's ports are not told from
/// UDP's.
#[derive(Clone, Debug, Default)]
pub struct Bound {
    addresses: HashSet<Address>,
    machine: HashSet<IpAddr>,
    /// The number of connects to own addresses that have not returned.
    connecting: usize,
}

impl Bound {
    /// Starts with no socket. `machine` are the machine's own addresses, beside the loopback ones.
    pub fn new(machine: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            machine: machine.into_iter().map(|ip| ip.to_canonical()).collect(),
            ..Self::default()
        }
    }

    /// Remembers the address of a socket of the attempt.
    pub fn bound(&mut self, address: &Address) {
        let address = match address {
            // Port 0 is not an address yet.
            Address::Ip { ip, port } if *port != 0 => Address::Ip {
                ip: ip.to_canonical(),
                port: *port,
            },
            Address::Unix(_) | Address::UnixAbstract(_) | Address::Vsock { .. } => address.clone(),
            _ => return,
        };
        if self.addresses.len() < ADDRESSES {
            self.addresses.insert(address);
        }
    }

    /// Says where an address is, seen from the attempt.
    pub fn reach(&self, address: &Address) -> Reach {
        if self.owns(address) {
            return Reach::Tree;
        }
        match address {
            Address::Ip { ip, .. } => {
                if self.local(ip.to_canonical()) {
                    Reach::Machine
                } else {
                    Reach::Outside
                }
            }
            Address::Unix(_) | Address::UnixAbstract(_) | Address::Netlink => Reach::Machine,
            // Our own machine's loopback, or any.
            Address::Vsock {
                cid: 1 | u32::MAX, ..
            } => Reach::Machine,
            Address::Vsock { .. } => Reach::Outside,
            Address::UnixUnnamed | Address::Other(_) => Reach::Unknown,
        }
    }

    /// Says where a peer is that connected to us. One that just connects is not known by its address
    /// yet.
    pub fn reach_of_client(&self, address: &Address) -> Reach {
        match self.reach(address) {
            Reach::Machine if self.connecting > 0 => Reach::Tree,
            reach => reach,
        }
    }

    /// A connect to an own address has begun.
    pub(super) fn connecting(&mut self) {
        self.connecting += 1;
    }

    /// A connect to an own address has returned.
    pub(super) fn connected(&mut self) {
        self.connecting = self.connecting.saturating_sub(1);
    }

    fn owns(&self, address: &Address) -> bool {
        let Address::Ip { ip, port } = address else {
            return self.addresses.contains(address);
        };
        let ip = ip.to_canonical();
        let bound = |ip| self.addresses.contains(&Address::Ip { ip, port: *port });
        let everywhere = || {
            // A socket of all IPv6 addresses takes IPv4 as well, unless it is set not to.
            bound(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
                || (ip.is_ipv4() && bound(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
        };
        // To connect to "any" is to connect to oneself (ip(7)).
        bound(ip)
            || (self.local(ip) && everywhere())
            || (ip.is_unspecified()
                && (bound(IpAddr::V4(Ipv4Addr::LOCALHOST))
                    || bound(IpAddr::V6(Ipv6Addr::LOCALHOST))))
    }

    /// Whether an address is the machine's own.
    fn local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || ip.is_unspecified() || self.machine.contains(&ip)
    }
}
