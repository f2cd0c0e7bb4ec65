//! The versions that a workspace requires and recommends: `harness-version`, and `nextest-version`
//! where it comes from cargo-nextest.
//!
//! They are read before all else, because an older program may not understand the rest.

use super::{
    parse::{Noted, Table, Value},
    requirement::{Program, Requirement, Standing},
};
use semver::Version;

/// Reads what a document asks for.
pub(super) fn read(root: &mut Table<'_>) -> Vec<Requirement> {
    let mut requirements = Vec::new();
    for (key, program) in [
        ("harness-version", Program::Harness),
        ("nextest-version", Program::Peer),
    ] {
        let read = root.read(key, |value| versions(program, &value));
        requirements.extend(read.unwrap_or_default());
    }
    requirements
}

/// Reads a version, which is required, or a table with `required` and `recommended`.
fn versions(program: Program, value: &Value<'_>) -> Result<Vec<Requirement>, Noted> {
    let requirement = |standing, value: &Value<'_>| {
        let text = value.string()?;
        let version = Version::parse(text).map_err(|error| {
            value.invalid(format!("is not a version such as `\"1.2.3\"`: {error}"))
        })?;
        Ok(Requirement {
            program,
            standing,
            version,
            place: value.place(),
        })
    };
    if value.as_str().is_some() {
        return Ok(vec![requirement(Standing::Required, value)?]);
    }
    let Some(mut table) = value.as_table() else {
        return Err(value.wrong_type(
            "a version or a table with `required` and `recommended`",
            None,
        ));
    };
    let required = table.read("required", |value| requirement(Standing::Required, &value));
    let recommended = table.read("recommended", |value| {
        requirement(Standing::Recommended, &value)
    });
    table.warn_of_unknown();
    Ok(required.into_iter().chain(recommended).collect())
}
