//! Filtersets as they are written in the configuration.

use super::{
    error::{ConfigError, Place},
    parse::{Noted, Value},
};
use crate::filter::check_syntax;
use nextest_filtering::FiltersetKind;

/// A filterset as it is written; known to parse.
#[derive(Clone, Debug)]
pub(super) struct FilterText {
    pub(super) kind: FiltersetKind,
    pub(super) text: String,
    pub(super) key: String,
    pub(super) place: Place,
}

/// Reads a filterset, and checks its syntax. What it names is checked when it is compiled.
pub(super) fn filter(kind: FiltersetKind, value: &Value<'_>) -> Result<FilterText, Noted> {
    let text = value.string()?;
    check_syntax(text, kind).map_err(|source| {
        value.note(ConfigError::Filterset {
            place: value.place(),
            key: value.key().to_owned(),
            source,
        })
    })?;
    Ok(FilterText {
        kind,
        text: text.to_owned(),
        key: value.key().to_owned(),
        place: value.place(),
    })
}
