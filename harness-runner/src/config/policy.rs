//! Reads and shows the settings of a policy.

use super::{
    parse::{Noted, Value, all},
    show::Show,
    value,
};
use crate::policy::{Entries, Entry, Ipc, Net, NetRule, Peers, Ports};

/// The word for no bounds.
const ALL: &str = "all";

/// Reads the files for which a right is given.
pub(super) fn entries(value: Value<'_>) -> Result<Entries, Noted> {
    match list(&value, "`\"all\"` or an array of paths", entry)? {
        None => Ok(Entries::All),
        Some(entries) => Ok(Entries::Only(entries)),
    }
}

fn entry(value: &Value<'_>) -> Result<Entry, Noted> {
    let entry = value.string()?.parse();
    entry.map_err(|error: crate::policy::EntryError| value.invalid(error.to_string()))
}

/// Reads the ways to reach other processes.
pub(super) fn ipc(value: Value<'_>) -> Result<Ipc, Noted> {
    let ways = list(&value, "`\"all\"` or an array of words", value::word)?;
    Ok(ways.map_or(Ipc::All, Ipc::Only))
}

/// Reads the peers that may be used.
pub(super) fn net(value: Value<'_>) -> Result<Net, Noted> {
    let rules = list(&value, "`\"all\"` or an array of tables", rule)?;
    Ok(rules.map_or(Net::All, Net::Only))
}

fn rule(value: &Value<'_>) -> Result<NetRule, Noted> {
    let mut table = value.table()?;
    let action = table.read("action", |value| value::word(&value));
    let unix = table.read("unix", |value| {
        let glob = value.string()?;
        match globset::Glob::new(glob) {
            Ok(_) if glob.starts_with('/') => Ok(Peers::Unix(glob.to_owned())),
            Ok(_) => Err(value.invalid("must be an absolute path, which may be a glob")),
            Err(error) => Err(value.invalid(format!("is no glob: {}", error.kind()))),
        }
    });
    let address = table.read("address", |value| {
        let network = value
            .string()?
            .parse()
            .map_err(|why: String| value.invalid(why))?;
        Ok(Peers::Network(network))
    });
    let host = table.read("host", |value| Ok(Peers::Host(value.string()?.to_owned())));
    let ports = table.read("port", |value| ports(&value));
    table.forbid_unknown()?;
    table.whole()?;
    let of_unix = unix.is_some();
    let mut peers = [unix, address, host].into_iter().flatten();
    let first = peers.next().unwrap_or(Peers::Any);
    if peers.next().is_some() {
        return Err(value.invalid("has two of `unix`, `address` and `host`: write a rule for each"));
    }
    if of_unix && ports.is_some() {
        return Err(value.invalid("has `unix` and `port`, and a unix socket has no port"));
    }
    Ok(NetRule {
        action: action.unwrap_or_default(),
        peers: first,
        ports,
    })
}

fn ports(value: &Value<'_>) -> Result<Ports, Noted> {
    let text = match (value.as_integer(), value.as_str()) {
        (Some(port), _) => port.to_string(),
        (None, Some(text)) => text.to_owned(),
        (None, None) => {
            return Err(value.wrong_type("a port or a range such as `\"8000-8100\"`", None));
        }
    };
    text.parse().map_err(|why: String| value.invalid(why))
}

/// Reads an array; `None` for the word that stands for everything.
fn list<T>(
    value: &Value<'_>,
    expected: &'static str,
    read: impl Fn(&Value<'_>) -> Result<T, Noted>,
) -> Result<Option<Vec<T>>, Noted> {
    if value.as_str() == Some(ALL) {
        return Ok(None);
    }
    let Some(elements) = value.as_array() else {
        let tables = expected.ends_with("tables");
        let text = value.as_str().filter(|_| !tables);
        let hint = text.map(|text| format!("write `[{text:?}]`"));
        return Err(value.wrong_type(expected, hint));
    };
    all(elements.map(|element| read(&element))).map(Some)
}

fn shown(texts: Option<Vec<String>>) -> String {
    texts.map_or_else(|| format!("{ALL:?}"), |texts| texts.show())
}

impl Show for Entries {
    fn show(&self) -> String {
        shown(match self {
            Self::All => None,
            Self::Only(entries) => Some(entries.iter().map(ToString::to_string).collect()),
        })
    }
}

impl Show for Ipc {
    fn show(&self) -> String {
        shown(match self {
            Self::All => None,
            Self::Only(ways) => Some(ways.iter().map(ToString::to_string).collect()),
        })
    }
}

impl Show for Net {
    fn show(&self) -> String {
        match self {
            Self::All => shown(None),
            Self::Only(rules) => {
                let rules: Vec<_> = rules.iter().map(ToString::to_string).collect();
                format!("[{}]", rules.join(", "))
            }
        }
    }
}
