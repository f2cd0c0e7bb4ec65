//! Reads services: what runs beside the tests that want it.

use super::{ScriptCommand, command, env};
use crate::config::{
    parse::{Noted, Table, Value},
    value,
};
use harness_metadata::words;
use regex::bytes::Regex;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
    time::Duration,
};

/// The time in which a service has to be ready unless configured.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// The time between two looks whether it is ready, unless configured.
const INTERVAL: Duration = Duration::from_millis(100);

/// A service: a process that runs as long as tests want it.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: Arc<str>,
    /// Its command.
    pub command: ScriptCommand,
    /// The tests that share an instance of it.
    pub scope: ServiceScope,
    /// When it is ready.
    pub ready: Ready,
    /// Variables of the tests that want it.
    pub env: BTreeMap<String, String>,
    /// The signal that asks it to end.
    pub stop_signal: StopSignal,
    /// The time that it has to end.
    pub grace_period: Duration,
    /// Whether JUnit reports have its output if it did not fail.
    pub junit_success: bool,
    /// Whether JUnit reports have its output if it failed.
    pub junit_failure: bool,
}

/// The tests that share an instance of a service.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum ServiceScope {
    /// All tests of the run.
    #[default]
    Run,
    /// Those of a test group.
    Group,
    /// Those of a test binary.
    Binary,
}

words!(ServiceScope {
    Run = "run",
    Group = "group",
    Binary = "binary",
});

/// The signal that asks a service to end.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM.
    #[default]
    Term,
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    Hup,
    /// SIGKILL.
    Kill,
}

words!(StopSignal {
    Term = "SIGTERM",
    Int = "SIGINT",
    Quit = "SIGQUIT",
    Hup = "SIGHUP",
    Kill = "SIGKILL",
});

impl StopSignal {
    /// Returns its number.
    pub fn number(self) -> i32 {
        match self {
            Self::Term => libc::SIGTERM,
            Self::Int => libc::SIGINT,
            Self::Quit => libc::SIGQUIT,
            Self::Hup => libc::SIGHUP,
            Self::Kill => libc::SIGKILL,
        }
    }
}

/// When a service is ready: everything that is given here holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// A line of its output matches.
    pub line: Option<Line>,
    /// A port accepts connections: a number, or a host, `:` and a number.
    pub port: Option<String>,
    /// A file is there. If it is a socket, it accepts connections.
    pub path: Option<String>,
    /// A command ends with exit code 0.
    pub command: Option<ScriptCommand>,
    /// The time in which that has to be so.
    pub timeout: Duration,
    /// The time between two looks.
    pub interval: Duration,
}

/// The pattern of a line.
#[derive(Clone, Debug)]
pub struct Line(pub Regex);

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// Something that the runner chooses for an instance of a service, and writes where this stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placeholder {
    /// `{port}` or `{port:NAME}`: a free TCP port.
    Port(Option<String>),
    /// `{dir}`: an empty folder.
    Dir,
}

static PLACEHOLDER: LazyLock<regex::Regex> = LazyLock::new(|| {
    regex::Regex::new(r"(\$?)\{(?:(dir)|port(?::([A-Za-z][A-Za-z0-9_]*))?)\}")
        .expect("the pattern is right")
});

/// Replaces the placeholders of a text. `${port}` of a shell is none.
pub fn filled(text: &str, mut value: impl FnMut(Placeholder) -> String) -> String {
    let fill = |found: &regex::Captures<'_>| {
        let placeholder = match found.get(2) {
            Some(_) => Placeholder::Dir,
            None => Placeholder::Port(found.get(3).map(|name| name.as_str().to_owned())),
        };
        match &found[1] {
            "" => value(placeholder),
            _ => found[0].to_owned(),
        }
    };
    PLACEHOLDER.replace_all(text, fill).into_owned()
}

impl Service {
    /// Returns the placeholders that it uses.
    pub fn placeholders(&self) -> BTreeSet<Placeholder> {
        let mut used = BTreeSet::new();
        let commands = [Some(&self.command), self.ready.command.as_ref()];
        let commands = commands.into_iter().flatten();
        let texts = commands
            .flat_map(|command| {
                let words = [&command.program].into_iter().chain(&command.args);
                words.chain(command.env.values())
            })
            .chain(self.env.values())
            .chain(&self.ready.port)
            .chain(&self.ready.path);
        for text in texts {
            filled(text, |placeholder| {
                used.insert(placeholder);
                String::new()
            });
        }
        used
    }
}

/// Reads a service.
pub(in crate::config) fn read(name: &str, value: &Value<'_>) -> Result<Service, Noted> {
    let mut table = value.table()?;
    let command = table.read("command", |value| command(&value));
    let scope = table.read("scope", |value| value::word(&value));
    let ready = table.read("ready", |value| ready(&value));
    let env = table.read("env", env);
    let stop_signal = table.read("stop-signal", |value| value::word(&value));
    let grace_period = table.read("grace-period", |value| value::duration(&value));
    let flag = |table: &mut Table<'_>, key| table.read(key, |value| value.boolean());
    let (mut junit_success, mut junit_failure) = (true, true);
    if let Some(mut junit) = table.read("junit", |value| value.table()) {
        junit_success = flag(&mut junit, "store-success-output").unwrap_or(true);
        junit_failure = flag(&mut junit, "store-failure-output").unwrap_or(true);
        junit.warn_of_unknown();
    }
    table.forbid_unknown()?;
    Ok(Service {
        name: Arc::from(name),
        command: command.ok_or_else(|| table.lacks("command", ""))?,
        scope: scope.unwrap_or_default(),
        ready: ready.unwrap_or(Ready {
            line: None,
            port: None,
            path: None,
            command: None,
            timeout: READY_TIMEOUT,
            interval: INTERVAL,
        }),
        env: env.unwrap_or_default(),
        stop_signal: stop_signal.unwrap_or_default(),
        grace_period: grace_period.unwrap_or(value::GRACE_PERIOD),
        junit_success,
        junit_failure,
    })
}

fn ready(value: &Value<'_>) -> Result<Ready, Noted> {
    let mut table = value.table()?;
    let line = table.read("line", |value| line(&value));
    let port = table.read("port", |value| port(&value));
    let path = table.read("path", |value| path(&value));
    let command = table.read("command", |value| command(&value));
    let timeout = table.read("timeout", value::positive_duration);
    let interval = table.read("interval", value::positive_duration);
    table.forbid_unknown()?;
    table.whole()?;
    if line.is_none() && port.is_none() && path.is_none() && command.is_none() {
        return Err(value.invalid("says nothing: it needs `line`, `port`, `path` or `command`"));
    }
    Ok(Ready {
        line,
        port,
        path,
        command,
        timeout: timeout.unwrap_or(READY_TIMEOUT),
        interval: interval.unwrap_or(INTERVAL),
    })
}

fn line(value: &Value<'_>) -> Result<Line, Noted> {
    let text = value.string()?;
    Regex::new(text).map(Line).map_err(|error| {
        // The last line of the message says what is wrong; those before show where.
        let message = error.to_string();
        let last = message.lines().last().unwrap_or_default();
        let last = last.strip_prefix("error: ").unwrap_or(last);
        value.invalid(format!("is not a regular expression: {last}"))
    })
}

fn path(value: &Value<'_>) -> Result<String, Noted> {
    let text = value.string()?;
    if text.is_empty() || text.contains('\0') {
        return Err(value.invalid("is not a path"));
    }
    Ok(text.to_owned())
}

fn port(value: &Value<'_>) -> Result<String, Noted> {
    let invalid = || {
        value.invalid(
            "is not a port: it must be a number from 1 to 65535 or `{port}`, with a host and `:` \
             before it if it is not on 127.0.0.1",
        )
    };
    let text = match value.as_integer() {
        Some(number) => number.to_string(),
        None if value.as_str().is_some() => value.string()?.to_owned(),
        None => return Err(value.wrong_type("a number or a string", None)),
    };
    let example = filled(&text, |placeholder| match placeholder {
        Placeholder::Port(_) => "1".to_owned(),
        Placeholder::Dir => "/".to_owned(),
    });
    let (host, number) = example.rsplit_once(':').unwrap_or(("127.0.0.1", &example));
    let right = number.parse::<u16>().is_ok_and(|number| number > 0);
    match right && !host.is_empty() {
        true => Ok(text),
        false => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_and_variables_of_a_shell_are_left() {
        let fill = |text: &str| {
            filled(text, |placeholder| match placeholder {
                Placeholder::Port(None) => "1".to_owned(),
                Placeholder::Port(Some(name)) => format!("<{name}>"),
                Placeholder::Dir => "/d".to_owned(),
            })
        };
        assert_eq!(fill("a:{port} {port:admin} {dir}/x"), "a:1 <admin> /d/x");
        assert_eq!(
            fill("${port} ${dir} {ports} {port:} { port }"),
            "${port} ${dir} {ports} {port:} { port }"
        );
    }
}
