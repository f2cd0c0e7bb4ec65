//! Variables that stand for arguments. Those of cargo-nextest count where ours are not set.

use clap::{
    Arg, ArgMatches, Command, Id,
    builder::Resettable,
    error::{ContextKind, ContextValue},
};
use std::{
    env,
    ffi::{OsStr, OsString},
};

/// Our variables, and those of cargo-nextest that mean the same.
const SHARED: &[(&str, &str)] = &[
    ("HARNESS_FAILURE_OUTPUT", "NEXTEST_FAILURE_OUTPUT"),
    ("HARNESS_FINAL_STATUS_LEVEL", "NEXTEST_FINAL_STATUS_LEVEL"),
    ("HARNESS_FLAKY_RESULT", "NEXTEST_FLAKY_RESULT"),
    ("HARNESS_HIDE_PROGRESS_BAR", "NEXTEST_HIDE_PROGRESS_BAR"),
    (
        "HARNESS_MAX_PROGRESS_RUNNING",
        "NEXTEST_MAX_PROGRESS_RUNNING",
    ),
    ("HARNESS_MESSAGE_FORMAT", "NEXTEST_MESSAGE_FORMAT"),
    (
        "HARNESS_MESSAGE_FORMAT_VERSION",
        "NEXTEST_MESSAGE_FORMAT_VERSION",
    ),
    ("HARNESS_NO_INPUT_HANDLER", "NEXTEST_NO_INPUT_HANDLER"),
    ("HARNESS_NO_OUTPUT_INDENT", "NEXTEST_NO_OUTPUT_INDENT"),
    ("HARNESS_NO_TESTS", "NEXTEST_NO_TESTS"),
    ("HARNESS_PROFILE", "NEXTEST_PROFILE"),
    ("HARNESS_RETRIES", "NEXTEST_RETRIES"),
    ("HARNESS_SHOW_PROGRESS", "NEXTEST_SHOW_PROGRESS"),
    ("HARNESS_STATUS_LEVEL", "NEXTEST_STATUS_LEVEL"),
    ("HARNESS_SUCCESS_OUTPUT", "NEXTEST_SUCCESS_OUTPUT"),
    ("HARNESS_TEST_THREADS", "NEXTEST_TEST_THREADS"),
    ("HARNESS_USER_CONFIG_FILE", "NEXTEST_USER_CONFIG_FILE"),
    ("HARNESS_VERBOSE", "NEXTEST_VERBOSE"),
];

/// Variables that every test is given: within a test they are about the run that it is in.
const OF_A_TEST: &[&str] = &["NEXTEST_PROFILE", "NEXTEST_TEST_THREADS"];

/// A variable by which a test knows that it is one.
const WITHIN_A_TEST: &str = "NEXTEST_ATTEMPT";

/// Variables of cargo-nextest that have no effect, a value that asks for nothing, and what to do instead.
const UNHEEDED: &[(&str, &str, &str)] =
    &[("NEXTEST_EXPERIMENTAL_RECORD", "0", "every run is kept")];

/// Lets arguments take their values from variables of cargo-nextest where ours are not set.
pub(super) fn shared(command: Command) -> Command {
    let is_set = |name: &str| env::var_os(name).is_some();
    command
        .mut_args(
            |arg| match arg.get_env().and_then(|own| theirs(own, &is_set)) {
                Some(theirs) => arg.env(theirs),
                None => arg,
            },
        )
        .mut_subcommands(shared)
}

/// Parses a command line. An error about the value of a variable names the variable, and not the
/// argument that it stands for.
pub(super) fn parse(command: &Command, args: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let parse = |command: Command| command.try_get_matches_from(args);
    parse(command.clone()).map_err(|mut error| {
        for kind in [ContextKind::InvalidArg, ContextKind::PriorArg] {
            let Some(blamed) = argument(&error, kind) else {
                continue;
            };
            let mut built = command.clone();
            built.build();
            let Some((id, variable)) = variable_of(&built, &blamed) else {
                continue;
            };
            // An argument that is given is not taken from its variable.
            let given = parse(without(command.clone(), &id)).err();
            let given = given.and_then(|error| argument(&error, kind));
            if given.as_ref() != Some(&blamed) {
                error.insert(kind, ContextValue::String(variable));
            }
        }
        error
    })
}

/// Returns the argument that an error is about, as clap shows it.
fn argument(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(argument) => Some(argument.clone()),
        ContextValue::Strings(arguments) => arguments.first().cloned(),
        _ => None,
    }
}

/// Returns the id of an argument as clap shows it, and the variable that stands for it, if that is set.
fn variable_of(built: &Command, shown: &str) -> Option<(Id, String)> {
    let set = |arg: &&Arg| {
        arg.get_env()
            .is_some_and(|name| env::var_os(name).is_some())
    };
    let arg = (built.get_arguments().filter(set)).find(|arg| arg.to_string() == shown);
    let own = arg.and_then(|arg| {
        let name = arg.get_env()?.to_string_lossy().into_owned();
        Some((arg.get_id().clone(), name))
    });
    let mut below = built.get_subcommands();
    own.or_else(|| below.find_map(|command| variable_of(command, shown)))
}

/// Takes the variable of an argument away.
fn without(command: Command, id: &Id) -> Command {
    command
        .mut_args(|arg| match arg.get_id() == id {
            true => arg.env(Resettable::Reset),
            false => arg,
        })
        .mut_subcommands(|command| without(command, id))
}

/// Returns a sentence for each variable of cargo-nextest that asks for what a run does not do.
pub(super) fn unheeded(value: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let asked = UNHEEDED.iter().filter_map(|(name, harmless, instead)| {
        let value = value(name).filter(|value| value != harmless)?;
        Some(format!("`{name}={value}` has no effect; {instead}"))
    });
    asked.collect()
}

/// Returns the variable of cargo-nextest that counts in the place of `own`.
fn theirs(own: &OsStr, is_set: &dyn Fn(&str) -> bool) -> Option<&'static str> {
    let &(own, theirs) = SHARED.iter().find(|(name, _)| *name == own)?;
    let of_a_test = OF_A_TEST.contains(&theirs) && is_set(WITHIN_A_TEST);
    (!is_set(own) && is_set(theirs) && !of_a_test).then_some(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(own: &str, set: &[&str]) -> Option<&'static str> {
        theirs(own.as_ref(), &|name| set.contains(&name))
    }

    #[test]
    fn a_variable_of_cargo_nextest_counts_where_ours_is_not_set() {
        let (ours, theirs) = ("HARNESS_RETRIES", "NEXTEST_RETRIES");
        assert_eq!(counts(ours, &[theirs]), Some(theirs));
        assert_eq!(counts(ours, &[ours, theirs]), None);
        assert_eq!(counts(ours, &[]), None);
        assert_eq!(counts("HARNESS_TRACE", &["NEXTEST_TRACE"]), None);
    }

    #[test]
    fn variables_that_a_test_is_given_are_not_for_a_run_within_the_test() {
        let (ours, theirs) = ("HARNESS_PROFILE", "NEXTEST_PROFILE");
        assert_eq!(counts(ours, &[theirs]), Some(theirs));
        assert_eq!(counts(ours, &[theirs, WITHIN_A_TEST]), None);
        let chosen = "NEXTEST_RETRIES";
        let counted = counts("HARNESS_RETRIES", &[chosen, WITHIN_A_TEST]);
        assert_eq!(counted, Some(chosen));
    }

    #[test]
    fn variables_that_ask_for_what_is_missing_are_named() {
        let named = |set: &str| {
            unheeded(&|name| {
                let (set, value) = set.split_once('=')?;
                (set == name).then(|| value.to_owned())
            })
        };
        assert_eq!(
            named("NEXTEST_EXPERIMENTAL_RECORD=1"),
            ["`NEXTEST_EXPERIMENTAL_RECORD=1` has no effect; every run is kept"]
        );
        assert_eq!(named("NEXTEST_EXPERIMENTAL_RECORD=0"), [""; 0]);
        assert_eq!(named("NEXTEST_LOG=debug"), [""; 0]);
    }

    #[test]
    fn every_shared_variable_is_that_of_an_argument() {
        fn variables(command: &Command, found: &mut Vec<String>) {
            let set = command.get_arguments().filter_map(clap::Arg::get_env);
            found.extend(set.map(|name| name.to_string_lossy().into_owned()));
            for command in command.get_subcommands() {
                variables(command, found);
            }
        }
        let mut found = Vec::new();
        let app = <super::super::App as clap::CommandFactory>::command();
        variables(&app, &mut found);
        for (own, theirs) in SHARED {
            assert!(found.iter().any(|name| name == own), "{own}");
            assert_eq!(own.strip_prefix("HARNESS"), theirs.strip_prefix("NEXTEST"));
        }
    }
}
