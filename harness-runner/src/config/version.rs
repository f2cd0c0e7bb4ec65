//! The versions that a workspace requires and recommends: `harness-version`, and `nextest-version`
//! where it comes from cargo-nextest.
//!
//! They are read before all else, because an older program may not understand the rest.

use super::{
    error::ConfigError,
    parse::{Table, Value},
    requirement::{Program, Requirement, Standing},
};
use semver::Version;

/// Reads what a document asks for.
pub(super) fn read(root: &mut Table<'_>) -> Result<Vec<Requirement>, ConfigError> {
    let mut requirements = Vec::new();
    if let Some(value) = root.get("harness-version") {
        versions(Program::Harness, &value, &mut requirements)?;
    }
    if let Some(value) = root.get("nextest-version") {
        versions(Program::Peer, &value, &mut requirements)?;
    }
    Ok(requirements)
}

/// Reads a version, which is required, or a table with `required` and `recommended`.
fn versions(
    program: Program,
    value: &Value<'_>,
    requirements: &mut Vec<Requirement>,
) -> Result<(), ConfigError> {
    let mut push = |standing, value: &Value<'_>| {
        let text = value.string()?;
        let version = Version::parse(text).map_err(|error| {
            value.invalid(format!("is not a version such as `\"1.2.3\"`: {error}"))
        })?;
        requirements.push(Requirement {
            program,
            standing,
            version,
            place: value.place(),
        });
        Ok(())
    };
    if value.as_str().is_some() {
        return push(Standing::Required, value);
    }
    let Some(mut table) = value.as_table() else {
        return Err(value.wrong_type(
            "a version or a table with `required` and `recommended`",
            None,
        ));
    };
    if let Some(required) = table.get("required") {
        push(Standing::Required, &required)?;
    }
    if let Some(recommended) = table.get("recommended") {
        push(Standing::Recommended, &recommended)?;
    }
    table.warn_of_unknown();
    Ok(())
}
