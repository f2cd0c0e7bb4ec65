//! The way from a test to a path: the programs that led to the process that asked for it.

use harness_metadata::{TraceEvent, TraceEventKind};
use std::collections::HashMap;

/// A process on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its id.
    pub pid: i32,
    /// Its program and arguments; empty for one that executed nothing since it was created.
    pub command: String,
}

/// Returns the processes from the test's own to the first one that asked for a path, and the call.
pub fn chain(
    root: i32,
    events: impl Iterator<Item = TraceEvent>,
    path: &[u8],
) -> Option<(Vec<Link>, String)> {
    let mut parents: HashMap<i32, i32> = HashMap::new();
    let mut commands: HashMap<i32, String> = HashMap::new();
    for event in events {
        match &event.kind {
            TraceEventKind::Created(created) => drop(parents.insert(created.child, event.pid)),
            TraceEventKind::Exec(exec) if exec.result.error().is_none() => {
                let interpreters = exec
                    .interpreters
                    .iter()
                    .map(harness_metadata::RawString::as_bytes);
                let opened = interpreters.chain([exec.program.path().as_bytes()]);
                let asks = { opened }.any(|opened| opened == path);
                let words: Vec<String> = exec.args.iter().map(ToString::to_string).collect();
                commands.insert(event.pid, shell_words::join(&words));
                if asks {
                    return Some((
                        links(root, event.pid, &parents, &commands),
                        "execve".to_owned(),
                    ));
                }
            }
            TraceEventKind::File(call) => {
                let to = call.to.iter().map(|to| to.path().as_bytes());
                if to
                    .chain([call.path.path().as_bytes()])
                    .any(|asked| asked == path)
                {
                    return Some((
                        links(root, event.pid, &parents, &commands),
                        call.call.clone(),
                    ));
                }
            }
            _ => {}
        }
    }
    None
}

fn links(
    root: i32,
    pid: i32,
    parents: &HashMap<i32, i32>,
    commands: &HashMap<i32, String>,
) -> Vec<Link> {
    let mut links = Vec::new();
    let mut at = Some(pid);
    // A pid that is used again would make a circle.
    while let Some(pid) = at.filter(|_| links.len() < 64) {
        let command = commands.get(&pid).cloned().unwrap_or_default();
        links.push(Link { pid, command });
        at = parents.get(&pid).copied().filter(|_| pid != root);
    }
    links.reverse();
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness_metadata::trace::{
        CallResult, Created, Creation, Exec, FileCall, FileOperation, TracedPath,
    };
    use std::time::Duration;

    fn event(pid: i32, kind: TraceEventKind) -> TraceEvent {
        TraceEvent {
            at: Duration::ZERO,
            pid,
            tid: pid,
            kind,
        }
    }

    #[test]
    fn the_way_leads_through_the_programs_that_were_executed() {
        let created = |child| {
            TraceEventKind::Created(Created {
                child,
                how: Creation::Fork,
            })
        };
        let exec = |args: &[&str]| {
            TraceEventKind::Exec(Box::new(Exec {
                args: args.iter().map(|arg| (*arg).into()).collect(),
                result: CallResult::Ok(0),
                ..Exec::default()
            }))
        };
        let read = TraceEventKind::File(Box::new(FileCall {
            call: "openat".to_owned(),
            operation: FileOperation::Open,
            path: TracedPath {
                asked: "/data".into(),
                absolute: None,
            },
            to: None,
            access: None,
            result: CallResult::Ok(3),
            file: None,
        }));
        let events = vec![
            event(1, exec(&["test"])),
            event(1, created(2)),
            event(2, exec(&["sh", "-c", "cat x"])),
            event(2, created(3)),
            event(3, read),
        ];
        let (links, call) = chain(1, events.into_iter(), b"/data").expect("it was read");
        let commands: Vec<_> = links.iter().map(|link| link.command.as_str()).collect();
        assert_eq!(commands, ["test", "sh -c 'cat x'", ""]);
        assert_eq!(call, "openat");
        assert_eq!(chain(1, std::iter::empty(), b"/data"), None);
    }
}
