//! The selection of events.

use crate::command_error::{CommandError, Kind};
use camino::Utf8Path;
use clap::{Args, ValueEnum};
use harness_metadata::{
    RawString, TraceEvent, TraceEventKind,
    trace::{Address, Creation},
};
use harness_runner::tracer::record::Searches;
use std::collections::HashMap;

/// Options that choose events.
#[derive(Debug, Args)]
#[command(next_help_heading = "Filter options")]
pub(super) struct FilterArgs {
    /// Only events of these kinds, separated by commas.
    #[arg(long, value_enum, value_name = "KINDS", value_delimiter = ',')]
    kind: Vec<EventKind>,
    /// Only what concerns this path or is below it; `*` and `?` stand for any characters and any
    /// one. May be given several times.
    #[arg(long, value_name = "PATH")]
    path: Vec<String>,
    /// Only what this process did: its id, or its program's name. May be given several times.
    #[arg(long, value_name = "PROCESS")]
    process: Vec<String>,
    /// Only calls that failed, and ends that are no success. What many programs ask for in vain,
    /// such as the loader's search for libraries, only with --verbose.
    #[arg(long)]
    failed: bool,
}

/// Kinds of events.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum EventKind {
    /// Calls that name files.
    File,
    /// Sockets, and questions to name servers.
    Net,
    /// Executions of programs.
    Exec,
    /// Beginnings and ends of processes and threads.
    Process,
    /// Signals.
    Signal,
    /// Events that hide something from the tracer, and failures that were asked for.
    Doubt,
}

impl EventKind {
    fn of(kind: &TraceEventKind) -> Self {
        match kind {
            TraceEventKind::Created(_)
            | TraceEventKind::Exited(_)
            | TraceEventKind::ThreadEnded => Self::Process,
            TraceEventKind::Exec(_) => Self::Exec,
            TraceEventKind::Signal(_) => Self::Signal,
            TraceEventKind::File(_) => Self::File,
            TraceEventKind::Network(_) | TraceEventKind::Lookup(_) => Self::Net,
            TraceEventKind::Doubt(_) | TraceEventKind::Injected(_) => Self::Doubt,
        }
    }
}

impl FilterArgs {
    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    /// Interprets the options. Relative paths begin at `cwd`. `all` keeps failures that many
    /// programs have.
    pub(super) fn interpret(&self, cwd: &Utf8Path, all: bool) -> Result<Filter, CommandError> {
        if self.path.iter().any(String::is_empty) || self.process.iter().any(String::is_empty) {
            let message = "`--path` and `--process` need something to look for";
            return Err(CommandError::new(Kind::Setup, message));
        }
        let path = |path: &String| {
            let path = path.strip_prefix("./").unwrap_or(path);
            match path.starts_with(['/', '*']) {
                true => path.to_owned(),
                false => cwd.join(path).into_string(),
            }
        };
        Ok(Filter {
            kinds: self.kind.clone(),
            paths: self.path.iter().map(path).collect(),
            processes: self.process.clone(),
            failed: self.failed,
            programs: HashMap::new(),
            searches: (self.failed && !all && self.path.is_empty()).then(Searches::default),
        })
    }
}

/// Chooses events, which it must be shown in order.
#[derive(Debug, Default)]
pub(super) struct Filter {
    kinds: Vec<EventKind>,
    paths: Vec<String>,
    processes: Vec<String>,
    failed: bool,
    /// Executions.
    programs: HashMap<i32, Vec<u8>>,
    /// Knows which failures many programs have; `None` if they are shown.
    searches: Option<Searches>,
}

impl Filter {
    /// Returns whether anything is left out.
    pub(super) fn is_set(&self) -> bool {
        self.failed
            || !self.kinds.is_empty()
            || !self.paths.is_empty()
            || !self.processes.is_empty()
    }

    /// Returns whether events of this kind may be shown.
    pub(super) fn wants(&self, kind: EventKind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    /// Returns whether a path may be shown.
    pub(super) fn wants_path(&self, path: &RawString) -> bool {
        self.paths.is_empty()
            || self
                .paths
                .iter()
                .any(|pattern| matches(pattern.as_bytes(), path.as_bytes()))
    }

    /// Returns whether a process may be shown that executed this program last.
    pub(super) fn wants_process(&self, pid: i32, program: &[u8]) -> bool {
        self.processes.is_empty()
            || self.processes.iter().any(|process| {
                process.parse() == Ok(pid)
                    || process.as_bytes() == program
                    || process.as_bytes() == file_name(program)
            })
    }

    /// Returns whether [`Self::look_ahead`] is to be called for all events before any is judged.
    pub(super) fn looks_ahead(&self) -> bool {
        self.searches.is_some()
    }

    /// Remembers what says of an earlier event that it is of no interest.
    pub(super) fn look_ahead(&mut self, event: &TraceEvent) {
        if let (Some(searches), TraceEventKind::File(call)) = (&mut self.searches, &event.kind) {
            searches.look_ahead(event.pid, call);
        }
    }

    fn is_noise(&mut self, event: &TraceEvent) -> bool {
        match (&mut self.searches, &event.kind) {
            (Some(searches), TraceEventKind::File(call)) => searches.is_noise(event.pid, call),
            _ => false,
        }
    }

    /// Returns whether to show an event.
    pub(super) fn passes(&mut self, event: &TraceEvent) -> bool {
        self.follow(event);
        // Asked of all calls: one is noise because of others.
        if self.is_noise(event) {
            return false;
        }
        let program = self.programs.get(&event.pid);
        self.wants(EventKind::of(&event.kind))
            && self.wants_process(event.pid, program.map_or(&[], Vec::as_slice))
            && (!self.failed || failed(&event.kind))
            && (self.paths.is_empty() || self.concerns(&event.kind))
    }

    /// Remembers what the processes execute.
    fn follow(&mut self, event: &TraceEvent) {
        if self.processes.is_empty() {
            return;
        }
        match &event.kind {
            TraceEventKind::Exec(exec) if exec.result.error().is_none() => {
                let program = exec.program.path().as_bytes().to_vec();
                self.programs.insert(event.pid, program);
            }
            TraceEventKind::Created(created) if created.how != Creation::Thread => {
                let program = self.programs.get(&event.pid).cloned();
                self.programs
                    .insert(created.child, program.unwrap_or_default());
            }
            _ => {}
        }
    }

    fn concerns(&self, kind: &TraceEventKind) -> bool {
        let wants = |path: &RawString| self.wants_path(path);
        match kind {
            TraceEventKind::File(call) => {
                wants(call.path.path()) || call.to.as_ref().is_some_and(|to| wants(to.path()))
            }
            TraceEventKind::Exec(exec) => {
                wants(exec.program.path()) || exec.interpreters.iter().any(wants)
            }
            TraceEventKind::Network(call) => match &call.address {
                Some(Address::Unix(path)) => wants(path),
                _ => false,
            },
            _ => false,
        }
    }
}

fn failed(kind: &TraceEventKind) -> bool {
    match kind {
        TraceEventKind::File(call) => call.result.error().is_some(),
        TraceEventKind::Network(call) => call.result.error().is_some(),
        TraceEventKind::Exec(exec) => exec.result.error().is_some(),
        TraceEventKind::Exited(exited) => !exited.exit.success(),
        TraceEventKind::Doubt(_) | TraceEventKind::Injected(_) => true,
        TraceEventKind::Created(_)
        | TraceEventKind::ThreadEnded
        | TraceEventKind::Signal(_)
        | TraceEventKind::Lookup(_) => false,
    }
}

pub(super) fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// Returns whether a path is meant by a pattern, or below what is.
fn matches(pattern: &[u8], path: &[u8]) -> bool {
    let folder = pattern.strip_suffix(b"/").unwrap_or(pattern);
    if !pattern.contains(&b'*') && !pattern.contains(&b'?') {
        let rest = path.strip_prefix(folder);
        return rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/' || folder.is_empty());
    }
    let ends = (0..path.len()).filter(|at| path[*at] == b'/');
    glob(folder, path) || ends.into_iter().any(|end| glob(folder, &path[..end]))
}

/// Returns whether a pattern with `*` and `?` matches as a whole. Takes no more steps than the
/// product of the lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on if the last star is to stand for one byte more.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after, from)) = star else {
                    return false;
                };
                star = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_meant_by_itself_a_folder_above_it_or_a_pattern() {
        for (pattern, path, expected) in [
            ("/a/b", "/a/b", true),
            ("/a/b", "/a/b/c", true),
            ("/a/b/", "/a/b/c", true),
            ("/a/b", "/a/bc", false),
            ("/", "/a", true),
            ("*.json", "/x/y.json", true),
            ("*.json", "/x/y.json/z", true),
            ("*.json", "/x/y.jsonl", false),
            ("/x/?/z", "/x/y/z", true),
            ("/x/*b*b", "/x/abab", true),
            ("/x/*b*c", "/x/abab", false),
        ] {
            let found = matches(pattern.as_bytes(), path.as_bytes());
            assert_eq!(found, expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_hostile_pattern_does_not_take_for_ever() {
        let pattern = "*a".repeat(50) + "b";
        assert!(!glob(pattern.as_bytes(), &[b'a'; 5_000]));
    }
}
