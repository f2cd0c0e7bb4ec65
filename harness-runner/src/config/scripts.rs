//! Reads scripts: what runs before tests, and what runs around them.

mod services;

pub use services::{Placeholder, Ready, Service, ServiceScope, StopSignal, filled};

use super::{
    error::{ConfigWarning, Place, nearest, quoted},
    names::{KnownScript, ScriptKind, is_identifier},
    parse::{Noted, Table, Value, all},
    settings::{LeakTimeout, SlowTimeout, TimeoutResult},
    value,
};
use harness_metadata::words;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The slow period of a setup script unless configured: as good as none.
const SLOW_PERIOD: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
/// The leak period of a setup script unless configured.
pub(crate) const LEAK_PERIOD: Duration = Duration::from_millis(200);
/// The time limit of a teardown unless configured.
const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(60);

/// The beginnings of the names of variables that the runner sets itself.
const RESERVED: [&str; 2] = ["HARNESS_", "NEXTEST"];

/// The command of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptCommand {
    /// The program as it is written.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// The folder that the program is relative to.
    pub relative_to: CommandBase,
    /// Variables of its environment.
    pub env: BTreeMap<String, String>,
}

/// The folder that the program of a script is relative to.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum CommandBase {
    /// None: it is searched for in `PATH`, or relative to the working directory.
    #[default]
    None,
    /// The root of the workspace.
    WorkspaceRoot,
    /// The target folder.
    Target,
}

words!(CommandBase {
    None = "none",
    WorkspaceRoot = "workspace-root",
    Target = "target",
});

/// A script that runs before the tests that want it.
#[derive(Clone, Debug, PartialEq)]
pub struct SetupScript {
    /// Its name.
    pub name: Arc<str>,
    /// Its command.
    pub command: ScriptCommand,
    /// The command that runs after the last test that wants it.
    pub teardown: Option<ScriptCommand>,
    /// The time limit of that.
    pub teardown_timeout: Duration,
    /// When it is slow, and when it is ended.
    pub slow_timeout: SlowTimeout,
    /// The time that descendants and open output may outlive it.
    pub leak_timeout: LeakTimeout,
    /// Whether its standard output is captured.
    pub capture_stdout: bool,
    /// Whether its standard error is captured.
    pub capture_stderr: bool,
    /// Whether JUnit reports have its output if it passes.
    pub junit_success: bool,
    /// Whether JUnit reports have its output if it fails.
    pub junit_failure: bool,
}

/// A command that runs another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrapperScript {
    /// Its name.
    pub name: Arc<str>,
    /// Its command, to which the command of the test is added.
    pub command: ScriptCommand,
    /// Its place beside a target runner.
    pub target_runner: WithRunner,
}

/// The place of a wrapper beside a target runner.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum WithRunner {
    /// The target runner is not used.
    #[default]
    Ignore,
    /// The wrapper is not used where there is a target runner.
    OverridesWrapper,
    /// The wrapper starts the target runner.
    WithinWrapper,
    /// The target runner starts the wrapper.
    AroundWrapper,
}

words!(WithRunner {
    Ignore = "ignore",
    OverridesWrapper = "overrides-wrapper",
    WithinWrapper = "within-wrapper",
    AroundWrapper = "around-wrapper",
});

/// The scripts of a file, in the order in which they are written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scripts {
    pub(super) setup: Vec<Arc<SetupScript>>,
    pub(super) wrapper: Vec<Arc<WrapperScript>>,
    pub(super) service: Vec<Arc<Service>>,
}

/// Reads the scripts of a document. `tool` is the name of the tool whose file it is.
pub(super) fn read(root: &mut Table<'_>, tool: Option<&str>) -> Scripts {
    let mut scripts = Scripts::default();
    let both = root.has("script") && root.has("scripts");
    root.read("script", |old| {
        if both {
            return Err(old.invalid("is the old form of `scripts.setup`, and both are there"));
        }
        old.warn(|place, key| ConfigWarning::OldForm {
            place,
            key,
            new: "scripts.setup",
        });
        setup_scripts(&old.table()?, tool, &mut scripts);
        Ok(())
    });
    if let Some(mut table) = root.read("scripts", |new| new.table()) {
        if let Some(setup) = table.read("setup", |setup| setup.table()) {
            setup_scripts(&setup, tool, &mut scripts);
        }
        if let Some(wrapper) = table.read("wrapper", |wrapper| wrapper.table()) {
            for (place, name, value) in wrapper.named() {
                declare(place, name, &value, ScriptKind::Wrapper, tool);
                let script = wrapper_script(name, &value);
                scripts.wrapper.extend(script.ok().map(Arc::new));
            }
        }
        if let Some(service) = table.read("service", |service| service.table()) {
            for (place, name, value) in service.named() {
                declare(place, name, &value, ScriptKind::Service, tool);
                let service = services::read(name, &value);
                scripts.service.extend(service.ok().map(Arc::new));
            }
        }
        table.warn_of_unknown();
    }
    scripts
}

fn setup_scripts(table: &Table<'_>, tool: Option<&str>, scripts: &mut Scripts) {
    for (place, name, value) in table.named() {
        declare(place, name, &value, ScriptKind::Setup, tool);
        let script = setup_script(name, &value);
        scripts.setup.extend(script.ok().map(Arc::new));
    }
}

/// Lets rules know a script, whose name is that of no other. They know one with a wrong name too, so
/// that its name is the only mistake.
fn declare(place: Place, name: &str, value: &Value<'_>, kind: ScriptKind, tool: Option<&str>) {
    let noun = kind.noun();
    if let Some(tool) = tool {
        let prefix = format!("@tool:{tool}:");
        if !name.strip_prefix(&prefix).is_some_and(is_identifier) {
            value.invalid(format!(
                "is not a name for a {noun} of a tool: it must be `{prefix}` and a name"
            ));
        }
    } else if !is_identifier(name) {
        value.invalid(format!(
            "is not a name for a {noun}: it must begin with a letter and go on with letters, \
             digits, `_` and `-`"
        ));
    }
    let mut known = value.scripts().borrow_mut();
    if let Some(other) = known.iter().find(|script| script.name == name) {
        value.invalid(format!(
            "has the name of the {} at {}",
            other.kind.noun(),
            other.place
        ));
        return;
    }
    known.push(KnownScript {
        name: name.to_owned(),
        kind,
        place,
        used: false,
    });
}

fn setup_script(name: &str, value: &Value<'_>) -> Result<SetupScript, Noted> {
    let mut table = value.table()?;
    let command = table.read("command", |value| command(&value));
    let teardown = table.read("teardown", |value| self::command(&value));
    let can_end = table.has("teardown");
    let teardown_timeout = table.read("teardown-timeout", |value| match can_end {
        true => value::positive_duration(value),
        false => Err(value.invalid("needs `teardown`")),
    });
    let slow_timeout = table.read("slow-timeout", value::slow_timeout);
    let leak_timeout = table.read("leak-timeout", value::leak_timeout);
    let flag = |table: &mut Table<'_>, key| table.read(key, |value| value.boolean());
    let capture_stdout = flag(&mut table, "capture-stdout").unwrap_or(false);
    let capture_stderr = flag(&mut table, "capture-stderr").unwrap_or(false);
    let (mut junit_success, mut junit_failure) = (true, true);
    if let Some(mut junit) = table.read("junit", |value| value.table()) {
        junit_success = flag(&mut junit, "store-success-output").unwrap_or(true);
        junit_failure = flag(&mut junit, "store-failure-output").unwrap_or(true);
        junit.warn_of_unknown();
    }
    table.warn_of_unknown();
    Ok(SetupScript {
        name: Arc::from(name),
        command: command.ok_or_else(|| table.lacks("command", ""))?,
        teardown,
        teardown_timeout: teardown_timeout.unwrap_or(TEARDOWN_TIMEOUT),
        slow_timeout: slow_timeout.unwrap_or(NEVER_SLOW),
        leak_timeout: leak_timeout.unwrap_or(LeakTimeout {
            period: LEAK_PERIOD,
            result: None,
        }),
        capture_stdout,
        capture_stderr,
        junit_success,
        junit_failure,
    })
}

/// The slow timeout of scripts for which nothing else is configured.
pub(crate) const NEVER_SLOW: SlowTimeout = SlowTimeout {
    period: SLOW_PERIOD,
    terminate_after: None,
    grace_period: value::GRACE_PERIOD,
    on_timeout: TimeoutResult::Fail,
};

fn wrapper_script(name: &str, value: &Value<'_>) -> Result<WrapperScript, Noted> {
    let mut table = value.table()?;
    let command = table.read("command", |value| command(&value));
    let target_runner = table.read("target-runner", |value| value::word(&value));
    table.warn_of_unknown();
    Ok(WrapperScript {
        name: Arc::from(name),
        command: command.ok_or_else(|| table.lacks("command", ""))?,
        target_runner: target_runner.unwrap_or_default(),
    })
}

/// Reads a command: a string in the words of a shell, an array, or a table with either.
fn command(value: &Value<'_>) -> Result<ScriptCommand, Noted> {
    if value.as_table().is_none() {
        let expected = "a string, an array of strings or a table with `command-line`";
        let (program, args) = command_line(value, expected)?;
        return Ok(ScriptCommand {
            program,
            args,
            relative_to: CommandBase::None,
            env: BTreeMap::new(),
        });
    }
    let mut table = value.table()?;
    let line = table.read("command-line", |value| {
        command_line(&value, "a string or an array of strings")
    });
    let relative_to = table.get("relative-to");
    let base = table.read("relative-to", |value| value::word(&value));
    let base = base.unwrap_or_default();
    let env = table.read("env", env);
    table.forbid_unknown()?;
    let (program, args) = line.ok_or_else(|| table.lacks("command-line", ""))?;
    if let Some(relative_to) = relative_to
        && base != CommandBase::None
        && program.starts_with('/')
    {
        return Err(relative_to.invalid(format!(
            "cannot be combined with `{program}`, an absolute path"
        )));
    }
    Ok(ScriptCommand {
        program,
        args,
        relative_to: base,
        env: env.unwrap_or_default(),
    })
}

fn command_line(value: &Value<'_>, expected: &'static str) -> Result<(String, Vec<String>), Noted> {
    let mut words = if let Some(text) = value.as_str() {
        let words = shell_words::split(text);
        words.map_err(|_| value.invalid("has a quote that is not closed"))?
    } else if value.as_array().is_some() {
        value::strings(value.clone())?
    } else {
        return Err(value.wrong_type(expected, None));
    };
    if words.first().is_none_or(String::is_empty) {
        return Err(value.invalid("names no program"));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(value.invalid("has a NUL, which no command can have"));
    }
    let program = words.remove(0);
    Ok((program, words))
}

/// Reads variables and their values.
pub(super) fn env(value: Value<'_>) -> Result<BTreeMap<String, String>, Noted> {
    let Some(table) = value.as_table() else {
        return Err(value.wrong_type("a table of names and strings", None));
    };
    let variables = table.named().into_iter().map(|(_, name, value)| {
        check_variable(name).map_err(|problem| value.invalid(problem))?;
        let text = value.string()?;
        if text.contains('\0') {
            return Err(value.invalid("has a NUL, which no variable can have"));
        }
        Ok((name.to_owned(), text.to_owned()))
    });
    Ok(all(variables)?.into_iter().collect())
}

/// Fails, with the end of a sentence that starts with the name, if a script may not set a variable.
pub(crate) fn check_variable(name: &str) -> Result<(), String> {
    let mut chars = name.chars();
    let begins = chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !begins || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(
            "is not a name for a variable: it must begin with a letter or `_` and go on with \
             letters, digits and `_`"
                .to_owned(),
        );
    }
    let reserved = RESERVED.iter().find(|prefix| name.starts_with(**prefix));
    match reserved {
        Some(prefix) => Err(format!(
            "cannot be set: names that begin with `{prefix}` are the runner's own"
        )),
        None => Ok(()),
    }
}

/// Reads the names of scripts of a kind: one or an array of them.
pub(super) fn names(value: &Value<'_>, kind: ScriptKind) -> Result<Vec<String>, Noted> {
    let elements: Vec<Value<'_>> = match value.as_array() {
        Some(array) => array.collect(),
        None if value.as_str().is_some() => vec![value.clone()],
        None => return Err(value.wrong_type("the name of a script, or an array of names", None)),
    };
    all(elements.iter().map(|element| name(element, kind)))
}

/// Reads the name of a script of a kind.
pub(super) fn name(value: &Value<'_>, kind: ScriptKind) -> Result<String, Noted> {
    let name = value.string()?;
    let mut known = value.scripts().borrow_mut();
    if let Some(script) = known.iter_mut().find(|script| script.name == name) {
        script.used = true;
        if script.kind == kind {
            return Ok(name.to_owned());
        }
        return Err(value.invalid(format!(
            "must name a {}, and `{name}` is a {} ({})",
            kind.noun(),
            script.kind.noun(),
            script.place
        )));
    }
    let of_kind = known.iter().filter(|script| script.kind == kind);
    let of_kind: Vec<&str> = of_kind.map(|script| script.name.as_str()).collect();
    let hint = nearest(name, of_kind.iter().copied())
        .map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"));
    let there = match of_kind.is_empty() {
        true => "there is none".to_owned(),
        false => format!("known: {}", quoted(&of_kind)),
    };
    Err(value.invalid(format!(
        "names the {} `{name}`, which does not exist{hint}; {there}",
        kind.noun()
    )))
}
