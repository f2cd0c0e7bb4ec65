//! The tasks of a timed-out test and the things that they waited for, in a few lines.

use super::style::escaped;
use harness_metadata::{
    Attempt,
    outcome::{Doing, StuckTask, WaitsOn},
};

/// The most tasks that are named.
const MOST: usize = 8;

/// The most characters of a command line.
const COMMAND: usize = 80;

/// Whether processes are named by their ids, too: for someone who looks at them, and not in texts
/// that are to be the same in every run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Pids {
    Shown,
    Hidden,
}

/// Returns a line for each task that is of interest. A thread that waits for another one explains
/// nothing if the process has one that waits for something else.
pub(super) fn lines(test: Option<i32>, tasks: &[StuckTask], pids: Pids) -> Vec<String> {
    let names = Names { test, tasks, pids };
    let telling = |task: &&StuckTask| {
        !waits_for_thread(task)
            || !tasks
                .iter()
                .any(|other| other.pid == task.pid && !waits_for_thread(other))
    };
    let chosen: Vec<_> = tasks.iter().filter(telling).collect();
    let left_out = chosen.len().saturating_sub(MOST);
    let mut lines: Vec<_> = chosen
        .into_iter()
        .take(MOST)
        .map(|task| format!("{}: {}", names.who(task), names.doing(&task.doing)))
        .collect();
    if left_out > 0
        && let Some(last) = lines.last_mut()
    {
        last.push_str(&format!(", and {left_out} more tasks"));
    }
    lines
}

/// Returns what an attempt was doing when it was last reported as slow, a line for each task of interest. Nothing of one
/// whose time was up, which has its states at that time.
pub(super) fn slow(attempt: &Attempt, pids: Pids) -> Vec<String> {
    if !attempt.stuck.is_empty() {
        return Vec::new();
    }
    let lines = lines(attempt.pid, &attempt.slow_tasks, pids).into_iter();
    lines.map(|line| format!("slow: {line}")).collect()
}

fn waits_for_thread(task: &StuckTask) -> bool {
    matches!(&task.doing, Doing::Waits { on, .. } if on == &[WaitsOn::Thread])
}

/// The names of processes.
struct Names<'a> {
    test: Option<i32>,
    tasks: &'a [StuckTask],
    pids: Pids,
}

impl Names<'_> {
    fn who(&self, task: &StuckTask) -> String {
        let process = if self.test == Some(task.pid) {
            "the test".to_owned()
        } else {
            match self.pids {
                Pids::Shown => format!("pid {} {}", task.pid, command(task)),
                Pids::Hidden => command(task),
            }
        };
        if task.tid == task.pid {
            process
        } else {
            format!("{process}, thread `{}`", escaped(&task.thread))
        }
    }

    /// Names a process of which only the id is known.
    fn other(&self, pid: i32) -> String {
        match (self.pids, self.tasks.iter().find(|task| task.pid == pid)) {
            (Pids::Shown, _) => pid.to_string(),
            (Pids::Hidden, _) if self.test == Some(pid) => "the test".to_owned(),
            (Pids::Hidden, Some(task)) => command(task),
            (Pids::Hidden, None) => "another process".to_owned(),
        }
    }

    fn doing(&self, doing: &Doing) -> String {
        match doing {
            Doing::Running => "was running".to_owned(),
            Doing::Stopped => "was stopped".to_owned(),
            Doing::Waits { call, on } => {
                let call = escaped(call);
                let on: Vec<_> = on.iter().map(|on| self.waits_on(on)).collect();
                if on.is_empty() {
                    format!("waited in {call}")
                } else {
                    format!("waited in {call} {}", on.join(", "))
                }
            }
            Doing::Unknown { wchan: Some(wchan) } => {
                format!("waited in the kernel, in {}", escaped(wchan))
            }
            Doing::Unknown { wchan: None } => "waited".to_owned(),
        }
    }

    fn waits_on(&self, on: &WaitsOn) -> String {
        match on {
            WaitsOn::Descriptor { fd, what, others } => {
                let mut others: Vec<_> = others.iter().map(|pid| self.other(*pid)).collect();
                others.dedup();
                let shared = match (others.as_slice(), self.pids) {
                    ([], _) => String::new(),
                    (_, Pids::Shown) => format!(", also open in pid {}", others.join(", ")),
                    (_, Pids::Hidden) => format!(", also open in {}", others.join(", ")),
                };
                let what = match self.pids {
                    Pids::Shown => what,
                    Pids::Hidden => without_inode(what),
                };
                format!("on {fd} ({}{shared})", escaped(what))
            }
            WaitsOn::Child { pid: Some(pid) } => format!("for child {}", self.other(*pid)),
            WaitsOn::Child { pid: None } => "for any child".to_owned(),
            WaitsOn::Thread => "for another thread".to_owned(),
            WaitsOn::Time => "for time to pass".to_owned(),
        }
    }
}

fn command(task: &StuckTask) -> String {
    let command = escaped(&task.command);
    let short: String = command.chars().take(COMMAND).collect();
    let cut = if short.len() < command.len() {
        "…"
    } else {
        ""
    };
    format!("`{short}{cut}`")
}

/// Returns what a descriptor is without the number that it has in this run: `pipe:[9]` is a pipe.
fn without_inode(what: &str) -> &str {
    match what.split_once(":[") {
        Some((kind, number)) if number.strip_suffix(']').is_some_and(is_number) => kind,
        _ => what,
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(pid: i32, tid: i32, call: &str, on: Vec<WaitsOn>) -> StuckTask {
        StuckTask {
            pid,
            tid,
            parent: 1,
            command: "sleep 100\n".to_owned(),
            thread: "hangs".to_owned(),
            doing: Doing::Waits {
                call: call.to_owned(),
                on,
            },
        }
    }

    #[test]
    fn every_process_says_what_it_waits_for() {
        let pipe = WaitsOn::Descriptor {
            fd: 0,
            what: "pipe:[9]".to_owned(),
            others: vec![3, 4],
        };
        let tasks = [
            task(1, 1, "futex", vec![WaitsOn::Thread]),
            task(1, 2, "wait4", vec![WaitsOn::Child { pid: Some(3) }]),
            task(3, 3, "clock_nanosleep", vec![WaitsOn::Time]),
            task(4, 4, "read", vec![pipe]),
        ];
        assert_eq!(
            lines(Some(1), &tasks, Pids::Shown),
            [
                "the test, thread `hangs`: waited in wait4 for child 3",
                r"pid 3 `sleep 100\n`: waited in clock_nanosleep for time to pass",
                r"pid 4 `sleep 100\n`: waited in read on 0 (pipe:[9], also open in pid 3, 4)",
            ]
        );
        assert_eq!(
            lines(Some(1), &tasks, Pids::Hidden),
            [
                r"the test, thread `hangs`: waited in wait4 for child `sleep 100\n`",
                r"`sleep 100\n`: waited in clock_nanosleep for time to pass",
                r"`sleep 100\n`: waited in read on 0 (pipe, also open in `sleep 100\n`)",
            ]
        );
    }

    #[test]
    fn threads_that_all_wait_for_each_other_are_shown() {
        let tasks = [1, 2].map(|tid| task(1, tid, "futex", vec![WaitsOn::Thread]));
        assert_eq!(
            lines(Some(1), &tasks, Pids::Shown),
            [
                "the test: waited in futex for another thread",
                "the test, thread `hangs`: waited in futex for another thread",
            ]
        );
    }

    #[test]
    fn there_are_few_lines_however_many_tasks() {
        let tasks: Vec<_> = (0..50)
            .map(|pid| task(pid, pid, "pause", Vec::new()))
            .collect();
        let lines = lines(None, &tasks, Pids::Shown);
        assert_eq!(lines.len(), MOST);
        assert!(
            lines[MOST - 1].ends_with(", and 42 more tasks"),
            "{lines:?}"
        );
    }
}
