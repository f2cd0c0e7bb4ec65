//! Rules for the network: the peers that a test may connect and send to.

use globset::GlobBuilder;
use harness_metadata::{trace::Address, words};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{IpAddr, ToSocketAddrs},
    str::FromStr,
};

/// The peers that a test may connect and send to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Net {
    /// All.
    #[default]
    All,
    /// Those that a rule allows. The first one that matches decides; without one a peer is denied.
    Only(Vec<NetRule>),
}

impl Net {
    /// The key of its setting.
    pub const KEY: &str = "policy.net";
}

/// The decision of a rule.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetAction {
    /// The peer may be used.
    #[default]
    Allow,
    /// The peer may not be used.
    Deny,
}

words!(NetAction {
    Allow = "allow",
    Deny = "deny",
});

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetRule {
    /// Its decision.
    pub action: NetAction,
    /// The peers that it is for.
    pub peers: Peers,
    /// The ports that it is for; `None` for all.
    pub ports: Option<Ports>,
}

/// The peers of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Every address of the internet protocols.
    Any,
    /// Unix sockets with a path that a glob matches.
    Unix(String),
    /// An address, or a network.
    Network(Network),
    /// The addresses of a name when the run starts.
    Host(String),
}

/// The addresses that begin with the same bits.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    ip: IpAddr,
    bits: u8,
}

impl Network {
    fn of(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        Self { ip, bits }
    }

    fn has(self, ip: IpAddr) -> bool {
        let masked =
            |ip: u128, width: u8| ip.checked_shr(u32::from(width - self.bits)).unwrap_or(0);
        match (self.ip, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                masked(own.to_bits().into(), 32) == masked(ip.to_bits().into(), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                masked(own.to_bits(), 128) == masked(ip.to_bits(), 128)
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid =
            || format!("must be an address or a network such as `10.0.0.0/8`, not `{text}`");
        let (ip, bits) = text
            .split_once('/')
            .map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let whole = Self::of(ip.parse().map_err(|_| invalid())?);
        let bits = bits
            .map_or(Ok(whole.bits), str::parse)
            .map_err(|_| invalid())?;
        match bits <= whole.bits {
            true => Ok(Self { bits, ..whole }),
            false => Err(invalid()),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self == Self::of(self.ip) {
            true => write!(f, "{}", self.ip),
            false => write!(f, "{}/{}", self.ip, self.bits),
        }
    }
}

/// Ports, from the first one to the last one.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(format!(
                "must be a port or a range such as `8000-8100`, not `{text}`"
            )),
        }
    }
}

/// Shows a rule as the configuration has it.
impl fmt::Display for NetRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.action == NetAction::Deny {
            parts.push("action = \"deny\"".to_owned());
        }
        match &self.peers {
            Peers::Any => {}
            Peers::Unix(glob) => parts.push(format!("unix = {glob:?}")),
            Peers::Network(network) => parts.push(format!("address = \"{network}\"")),
            Peers::Host(host) => parts.push(format!("host = {host:?}")),
        }
        match self.ports {
            Some(Ports { first, last }) if first == last => parts.push(format!("port = {first}")),
            Some(Ports { first, last }) => parts.push(format!("port = \"{first}-{last}\"")),
            None => {}
        }
        write!(f, "{{ {} }}", parts.join(", "))
    }
}

/// A rule with the addresses of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Resolved {
    action: NetAction,
    /// For unix sockets.
    unix: Option<String>,
    /// For these networks; `None` for all.
    networks: Option<Vec<Network>>,
    ports: Option<Ports>,
}

impl Resolved {
    pub(super) fn of(rule: &NetRule) -> Self {
        let (unix, networks) = match &rule.peers {
            Peers::Any => (None, None),
            Peers::Unix(glob) => (Some(glob.clone()), None),
            Peers::Network(network) => (None, Some(vec![*network])),
            Peers::Host(host) => {
                // A name without an address allows none.
                let found = (host.as_str(), 0).to_socket_addrs().into_iter().flatten();
                (None, Some(found.map(|at| Network::of(at.ip())).collect()))
            }
        };
        Self {
            action: rule.action,
            unix,
            networks,
            ports: rule.ports,
        }
    }

    fn matches(&self, address: &Address) -> bool {
        match (address, &self.unix) {
            (Address::Unix(path), Some(glob)) => {
                let glob = GlobBuilder::new(glob).literal_separator(true).build();
                glob.is_ok_and(|glob| glob.compile_matcher().is_match(path.to_string()))
            }
            (Address::Ip { ip, port }, None) => {
                let networks = self.networks.as_ref();
                let ip = ip.to_canonical();
                networks.is_none_or(|all| all.iter().any(|network| network.has(ip)))
                    && self
                        .ports
                        .is_none_or(|it| (it.first..=it.last).contains(port))
            }
            _ => false,
        }
    }
}

/// Returns whether rules allow a peer that is not of the test's own tree.
pub(super) fn allows(rules: &[Resolved], address: &Address) -> bool {
    match address {
        // `policy.ipc` is for abstract names; the others lead to no peer.
        Address::UnixAbstract(_) | Address::UnixUnnamed | Address::Netlink => true,
        // AF_UNSPEC takes a socket's peer away (connect(2)).
        Address::Other(0) => true,
        _ => {
            let rule = rules.iter().find(|rule| rule.matches(address));
            rule.is_some_and(|rule| rule.action == NetAction::Allow)
        }
    }
}

/// Returns the rule that allows a peer.
pub(super) fn written(address: &Address) -> String {
    let rule = |peers, port: Option<u16>| NetRule {
        action: NetAction::Allow,
        peers,
        ports: port.map(|port| Ports {
            first: port,
            last: port,
        }),
    };
    match address {
        Address::Ip { ip, port } => rule(Peers::Network(Network::of(*ip)), Some(*port)).to_string(),
        Address::Unix(path) => rule(Peers::Unix(path.to_string()), None).to_string(),
        _ => "all".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness_metadata::RawString;

    fn ip(text: &str, port: u16) -> Address {
        Address::Ip {
            ip: text.parse().unwrap(),
            port,
        }
    }

    fn rule(action: NetAction, peers: Peers, ports: &str) -> Resolved {
        Resolved::of(&NetRule {
            action,
            peers,
            ports: (!ports.is_empty()).then(|| ports.parse().unwrap()),
        })
    }

    fn network(text: &str) -> Peers {
        Peers::Network(text.parse().unwrap())
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_without_one_a_peer_is_denied() {
        let rules = [
            rule(NetAction::Deny, network("10.0.0.7"), ""),
            rule(NetAction::Allow, network("10.0.0.0/8"), "80-90"),
            rule(NetAction::Allow, network("fd00::/8"), ""),
            rule(NetAction::Allow, Peers::Unix("/run/*/sock".to_owned()), ""),
            rule(NetAction::Allow, Peers::Any, "53"),
        ];
        for (address, allowed) in [
            (ip("10.0.0.7", 80), false),
            (ip("10.200.0.1", 80), true),
            (ip("::ffff:10.200.0.1", 90), true),
            (ip("10.200.0.1", 91), false),
            (ip("11.0.0.1", 80), false),
            (ip("fd12::1", 1), true),
            (ip("fe80::1", 1), false),
            (ip("8.8.8.8", 53), true),
            (Address::Unix(RawString::from("/run/a/sock")), true),
            (Address::Unix(RawString::from("/run/a/b/sock")), false),
            (Address::UnixAbstract(RawString::from("bus")), true),
            (Address::Vsock { cid: 2, port: 1 }, false),
            (Address::Other(0), true),
            (Address::Other(40), false),
        ] {
            assert_eq!(allows(&rules, &address), allowed, "{address}");
        }
        assert!(!allows(&[], &ip("127.0.0.1", 1)));
    }

    #[test]
    fn a_name_stands_for_its_addresses() {
        let rules = [rule(
            NetAction::Allow,
            Peers::Host("localhost".to_owned()),
            "",
        )];
        assert!(allows(&rules, &ip("127.0.0.1", 80)) || allows(&rules, &ip("::1", 80)));
        assert!(!allows(&rules, &ip("192.0.2.1", 80)));
        let rules = [rule(
            NetAction::Allow,
            Peers::Host("no.such.invalid".to_owned()),
            "",
        )];
        assert!(!allows(&rules, &ip("192.0.2.1", 80)));
    }

    #[test]
    fn the_rule_that_would_allow_a_peer_is_one_that_can_be_written() {
        let written = |address| written(&address);
        assert_eq!(
            written(ip("1.2.3.4", 80)),
            "{ address = \"1.2.3.4\", port = 80 }"
        );
        assert_eq!(written(ip("::1", 80)), "{ address = \"::1\", port = 80 }");
        let path = Address::Unix(RawString::from("/run/x"));
        assert_eq!(written(path), "{ unix = \"/run/x\" }");
    }
}
