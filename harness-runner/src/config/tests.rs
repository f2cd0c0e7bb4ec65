//! Helpers for the tests of messages.

mod at_once;
mod budget;
mod migrate;
mod policy;
mod precedence;
mod quarantine;
mod scripts;
mod services;
mod sources;
mod structure;
mod values;

use super::*;
use expect_test::Expect;

fn parse(text: &str) -> Result<(Config, Vec<ConfigWarning>), ConfigError> {
    Config::parse(".config/harness.toml".into(), text.to_owned())
}

/// Checks the message of a mistake, its causes included, without the name of the file.
#[track_caller]
fn error(text: &str, expected: Expect) {
    let error = parse(text).expect_err("the configuration is wrong");
    let mut message = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        message.push_str(&format!("\ncaused by: {cause}"));
        source = cause.source();
    }
    expected.assert_eq(&message.replace(".config/harness.toml:", ""));
}

/// Checks the warnings about a configuration that is otherwise right.
#[track_caller]
fn warnings(text: &str, expected: Expect) {
    let (_, warnings) = parse(text).expect("the configuration is usable");
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    expected.assert_eq(&warnings.join("\n").replace(".config/harness.toml:", ""));
}

/// Checks the message about one line of the default profile.
#[track_caller]
fn line_error(line: &str, expected: Expect) {
    error(&format!("[profile.default]\n{line}\n"), expected);
}

/// Checks the message about one line of an override with a filter.
#[track_caller]
fn override_error(line: &str, expected: Expect) {
    error(
        &format!("[[profile.default.overrides]]\nfilter = 'test(a)'\n{line}\n"),
        expected,
    );
}
