//! The facts of a trace that are compared with those of an earlier trace of the same test: missing files,
//! ports, other processes and connections.

use super::index::Words;
use harness_metadata::{
    RawString, TraceSummary,
    event::TraceLevel,
    noise::{self, Names},
    trace::{Address, FileSummary, FileUse, NetworkOperation},
};
use std::collections::{BTreeMap, HashSet};

/// The names of the lists of [`Facts`].
pub(super) const NAMES: [&str; 4] = ["process", "port", "connection", "missing file"];

/// A fact: its key, and its text. Those with the same key are the same in another run.
type List = Vec<(u32, u32)>;

/// The facts of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Facts {
    pub(super) level: TraceLevel,
    /// Whether each list has all that there was.
    pub(super) whole: [bool; 4],
    pub(super) lists: [List; 4],
}

impl Facts {
    /// Returns the facts of a trace; their keys and texts get numbers.
    pub(super) fn of(trace: &TraceSummary, keys: &mut Words, texts: &mut Words) -> Self {
        let dropped = &trace.dropped;
        let whole = |dropped: u64| trace.complete() && dropped == 0;
        let (files, peers) = (whole(dropped.files), whole(dropped.peers));
        let names = Names {
            pids: trace.processes.iter().map(|process| process.pid).collect(),
            ..Names::default()
        };
        let mut lists: [BTreeMap<Vec<u8>, String>; 4] = Default::default();
        for path in missing(trace) {
            let key = names.path(path.as_bytes());
            lists[3].entry(key).or_insert_with(|| path.to_string());
        }
        // The first is the test itself.
        for process in trace.processes.iter().skip(1) {
            if process.execs > 0 {
                let words: Vec<String> = process.args.iter().map(ToString::to_string).collect();
                let text = shell_words::join(&words);
                lists[0].entry(names.text(&text)).or_insert(text);
            }
        }
        for peer in &trace.peers {
            let list = match peer.operation {
                NetworkOperation::Bind | NetworkOperation::Listen => 1,
                NetworkOperation::Connect | NetworkOperation::Send => 2,
                NetworkOperation::Accept => continue,
            };
            if let Some(key) = address_key(&peer.address, &names) {
                let text = peer.address.to_string();
                lists[list].entry(key).or_insert(text);
            }
        }
        let mut number = |facts: BTreeMap<Vec<u8>, String>| -> List {
            let facts = facts.into_iter();
            facts
                .map(|(key, text)| {
                    let key = RawString::from(key).to_string();
                    (keys.number(&key), texts.number(&text))
                })
                .collect()
        };
        Self {
            level: trace.level,
            whole: [whole(dropped.processes), peers, peers, files],
            lists: lists.map(&mut number),
        }
    }
}

/// Returns the files that were missing. One whose name was found in another folder was searched for.
fn missing(trace: &TraceSummary) -> impl Iterator<Item = &RawString> {
    let lacks = |file: &&FileSummary| file.uses.contains(&FileUse::Missing);
    let found = trace.files.iter().filter(|file| !lacks(file));
    let found: HashSet<&[u8]> = found
        .map(|file| noise::file_name(file.path.as_bytes()))
        .collect();
    let paths = trace.files.iter().filter(lacks).map(|file| &file.path);
    paths.filter(move |path| {
        let path = path.as_bytes();
        !noise::is_noise(path) && !found.contains(noise::file_name(path))
    })
}

/// Returns what is the same in each run of an address; `None` for one that says nothing.
fn address_key(address: &Address, names: &Names) -> Option<Vec<u8>> {
    let text = match address {
        Address::Ip { ip, port, .. } if *port >= noise::FIRST_CHOSEN_PORT => {
            format!("{ip} any port")
        }
        Address::Ip { port: 0, ip, .. } => format!("{ip} any port"),
        Address::Unix(path) if noise::is_noise(path.as_bytes()) => return None,
        Address::Unix(_) | Address::UnixAbstract(_) => {
            return Some(names.text(&address.to_string()));
        }
        Address::UnixUnnamed | Address::Netlink => return None,
        _ => address.to_string(),
    };
    Some(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_the_kernel_gave_is_any() {
        let key = |text: &str| {
            let address: std::net::SocketAddr = text.parse().expect("an address");
            let address = Address::Ip {
                ip: address.ip(),
                port: address.port(),
            };
            address_key(&address, &Names::default())
        };
        assert_eq!(key("127.0.0.1:40001"), key("127.0.0.1:50002"));
        assert_ne!(key("127.0.0.1:8080"), key("127.0.0.1:8081"));
        assert_ne!(key("127.0.0.1:40001"), key("10.0.0.1:40001"));
        assert_eq!(address_key(&Address::Netlink, &Names::default()), None);
    }
}
