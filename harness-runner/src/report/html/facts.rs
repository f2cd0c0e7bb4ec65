//! The facts of a trace that are compared with those of an earlier trace of the same test: missing files,
//! ports, other processes and connections.

use super::index::Words;
use harness_metadata::{
    RawString, TraceSummary,
    event::TraceLevel,
    noise,
    trace::{Address, FileSummary, FileUse, NetworkOperation},
};
use std::collections::{BTreeMap, HashSet};

/// The names of the lists of [`Facts`].
pub(super) const NAMES: [&str; 4] = ["process", "port", "connection", "missing file"];

/// Folders whose entries have names made up by chance.
const TEMPORARY: &[&str] = &["/tmp/", "/var/tmp/", "/dev/shm/", "/run/user/"];

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
        let mut lists: [BTreeMap<String, String>; 4] = Default::default();
        for path in missing(trace) {
            let text = path.to_string();
            lists[3].entry(key(&text)).or_insert(text);
        }
        // The first is the test itself.
        for process in trace.processes.iter().skip(1) {
            if process.execs > 0 {
                let words: Vec<String> = process.args.iter().map(ToString::to_string).collect();
                let text = shell_words::join(&words);
                lists[0].entry(key(&text)).or_insert(text);
            }
        }
        for peer in &trace.peers {
            let list = match peer.operation {
                NetworkOperation::Bind | NetworkOperation::Listen => 1,
                NetworkOperation::Connect | NetworkOperation::Send => 2,
                NetworkOperation::Accept => continue,
            };
            if let Some(key) = address_key(&peer.address) {
                let text = peer.address.to_string();
                lists[list].entry(key).or_insert(text);
            }
        }
        let mut number = |facts: BTreeMap<String, String>| -> List {
            let facts = facts.into_iter();
            facts
                .map(|(key, text)| (keys.number(&key), texts.number(&text)))
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

/// Returns what is the same in each run: digits, and names in folders for temporary files, are not.
fn key(text: &str) -> String {
    let mut key = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(folder) = TEMPORARY.iter().find(|folder| rest.starts_with(**folder)) {
            key.push_str(folder);
            key.push('*');
            rest = &rest[folder.len()..];
            let end = rest.find(['/', ' ', '\'', ':', '=']).unwrap_or(rest.len());
            rest = &rest[end..];
            continue;
        }
        let component = rest[1..].find(['/', ' ']).map_or(rest.len(), |at| at + 1);
        let component = &rest[..rest.ceil_char_boundary(component)];
        push_component(&mut key, component);
        rest = &rest[component.len()..];
    }
    key
}

/// Adds a component, with the character that it begins with. A name as of mktemp(1) and of the crate
/// `tempfile` is made up by chance.
fn push_component(key: &mut String, component: &str) {
    let name = component.trim_start_matches(['/', ' ', '\'']);
    if ["tmp.", ".tmp"].iter().any(|by| name.starts_with(by)) {
        key.push_str(&component[..component.len() - name.len()]);
        key.push_str(".tmp*");
        return;
    }
    for word in component.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let plain = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let digits = plain.bytes().any(|byte| byte.is_ascii_digit());
        // The parts of a UUID after the first are shorter.
        let long = digits && plain.len() >= 8 || key.ends_with("#-") && plain.len() >= 4;
        if long && plain.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            key.push('#');
            key.push_str(&word[plain.len()..]);
            continue;
        }
        let mut in_digits = false;
        for c in word.chars() {
            if !c.is_ascii_digit() {
                key.push(c);
            } else if !in_digits {
                key.push('#');
            }
            in_digits = c.is_ascii_digit();
        }
    }
}

/// As [`key`], of an address; `None` for one that says nothing.
fn address_key(address: &Address) -> Option<String> {
    Some(match address {
        Address::Ip { ip, port, .. } if *port >= noise::FIRST_CHOSEN_PORT => {
            format!("{ip} any port")
        }
        Address::Ip { port: 0, ip, .. } => format!("{ip} any port"),
        Address::Unix(path) if noise::is_noise(path.as_bytes()) => return None,
        Address::Unix(_) | Address::UnixAbstract(_) => key(&address.to_string()),
        Address::UnixUnnamed | Address::Netlink => return None,
        _ => address.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_made_up_by_chance_are_the_same_in_each_run() {
        for (one, other) in [
            ("/tmp/.tmpAbC123/input", "/tmp/.tmpXyZ789/input"),
            ("/home/me/target/tmp.Ab/x", "/home/me/target/tmp.Cd/x"),
            ("/data/run-17/input", "/data/run-4/input"),
            (
                "/data/6f1ed002-ab59-4f6f-abcd-6d2f3e1d9c11",
                "/data/0a2bc9de-0012-ffff-8a6d-00aabbccddee",
            ),
            ("sh -c 'kill 123'", "sh -c 'kill 45'"),
            ("cat '/tmp/a b/c'", "cat '/tmp/b b/c'"),
            ("/ä/é7", "/ä/é8"),
        ] {
            assert_eq!(key(one), key(other), "{one} and {other}");
        }
        for (one, other) in [
            ("/etc/app.toml", "/etc/app.json"),
            ("/tmp/a/input", "/tmp/a/output"),
            ("sleep one", "sleep two"),
            ("", "/"),
        ] {
            assert_ne!(key(one), key(other), "{one} and {other}");
        }
    }

    #[test]
    fn a_port_that_the_kernel_gave_is_any() {
        let key = |text: &str| {
            let address: std::net::SocketAddr = text.parse().expect("an address");
            address_key(&Address::Ip {
                ip: address.ip(),
                port: address.port(),
            })
        };
        assert_eq!(key("127.0.0.1:40001"), key("127.0.0.1:50002"));
        assert_ne!(key("127.0.0.1:8080"), key("127.0.0.1:8081"));
        assert_ne!(key("127.0.0.1:40001"), key("10.0.0.1:40001"));
        assert_eq!(address_key(&Address::Netlink), None);
    }
}
