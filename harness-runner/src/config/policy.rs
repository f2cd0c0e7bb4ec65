//! Reads and shows the settings of a policy.

use super::{
    parse::{Noted, Value, all},
    show::Show,
    value,
};
use crate::policy::{Entries, Entry, Ipc};

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
        let hint = value.as_str().map(|text| format!("write `[{text:?}]`"));
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
