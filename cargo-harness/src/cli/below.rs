//! `--debugger` and `--tracer`: one test, run by another program.

use super::runner_options::RunnerArgs;
use crate::command_error::{CommandError, Kind};
use harness_metadata::event::TraceLevel;
use harness_runner::{
    config::{
        CliOverrides,
        settings::{LeakPolicy, LeakTimeout, RetryPolicy, SlowTimeout, TimeoutResult},
    },
    run::{Below, Capture, StandardInput},
    session::Session,
};
use std::{env, ffi::OsString, path::Path, time::Duration};

/// The number of candidates that an error names.
const NAMED: usize = 8;

/// A program for one test to run below.
pub(super) struct Program {
    flag: &'static str,
    words: Vec<String>,
    terminal: bool,
}

impl Program {
    /// Returns the program that the options ask for.
    pub(super) fn of(runner: &RunnerArgs) -> Result<Option<Self>, CommandError> {
        let (flag, text, terminal) = match (&runner.debugger, &runner.tracer) {
            (Some(text), _) => ("--debugger", text, true),
            (None, Some(text)) => ("--tracer", text, false),
            (None, None) => return Ok(None),
        };
        let words = shell_words::split(text).map_err(|error| {
            let message = format!("`{flag}` has a command that a shell would not take: {error}");
            CommandError::new(Kind::Usage, message)
        })?;
        let Some(name) = words.first().filter(|name| !name.is_empty()) else {
            return Err(CommandError::new(
                Kind::Usage,
                format!("`{flag}` names no program"),
            ));
        };
        let Some(path) = found(name) else {
            let message = format!("the program `{name}` of `{flag}` does not exist");
            return Err(CommandError::new(Kind::Setup, message)
                .with_hint("install it, or write where it is"));
        };
        let mut words = words;
        words[0] = path;
        Ok(Some(Self {
            flag,
            words,
            terminal,
        }))
    }

    pub(super) fn capture(&self) -> Capture {
        Capture::Inherit {
            terminal: self.terminal,
        }
    }

    pub(super) fn below(&self) -> Below {
        Below {
            words: self.words.iter().map(OsString::from).collect(),
            stdin: match self.terminal {
                true => StandardInput::Own,
                false => StandardInput::Null,
            },
        }
    }

    /// Lifts what would get in the way: how long a person looks at a test is not known.
    pub(super) fn lift_limits(cli: &mut CliOverrides) {
        cli.test.retries = Some(RetryPolicy::NONE);
        let never = SlowTimeout {
            period: Duration::MAX,
            terminate_after: None,
            grace_period: Duration::ZERO,
            on_timeout: TimeoutResult::Fail,
        };
        cli.test.slow_timeout = Some(never);
        cli.test.bench_slow_timeout = Some(never);
        cli.test.leak_timeout = Some(LeakTimeout {
            period: Duration::ZERO,
            result: None,
        });
        cli.test.leak = Some(LeakPolicy::Allow);
        cli.test.memory_max = Some(None);
        cli.test.pids_max = Some(None);
        cli.test.cpu_max = Some(None);
        // A process has one tracer.
        cli.test.trace_level = Some(TraceLevel::Off);
        cli.test.trace_required = Some(false);
        cli.run.global_timeout = Some(None);
        cli.run.bench_global_timeout = Some(None);
    }

    /// Checks that one test is selected.
    pub(super) fn check(&self, session: &Session) -> Result<(), CommandError> {
        let flag = self.flag;
        let tests = &session.plan.tests;
        if tests.is_empty() {
            let message = format!("`{flag}` needs one test, and none is selected");
            return Err(CommandError::new(Kind::Setup, message));
        }
        if tests.len() > 1 {
            let message = format!("`{flag}` needs one test, and {} are selected", tests.len());
            let named = tests.iter().take(NAMED);
            let mut lines: Vec<String> = named.map(|test| format!("  {}", test.id)).collect();
            if tests.len() > NAMED {
                lines.push(format!("  … and {} more", tests.len() - NAMED));
            }
            return Err(CommandError::new(Kind::Setup, message)
                .with_detail(lines.join("\n"))
                .with_hint("`-E 'test(=NAME)'` selects one by its whole name"));
        }
        Ok(())
    }
}

/// Returns the file that a shell would execute by this name.
fn found(name: &str) -> Option<String> {
    if name.contains('/') {
        return Path::new(name).is_file().then(|| name.to_owned());
    }
    let path = env::var_os("PATH")?;
    let mut folders = env::split_paths(&path);
    let file = folders.find_map(|folder| {
        let file = folder.join(name);
        file.is_file().then_some(file)
    })?;
    file.into_os_string().into_string().ok()
}
