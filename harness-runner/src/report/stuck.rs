//! What a test whose time was up was waiting for, in a few lines.

use super::style::escaped;
use harness_metadata::outcome::{Doing, StuckTask, WaitsOn};

/// The most tasks that are named.
const MOST: usize = 8;

/// The most characters of a command line.
const COMMAND: usize = 80;

/// Returns a line for each task that is of interest. A thread that waits for another one explains
/// nothing if the process has one that waits for something else.
pub(super) fn lines(test: Option<i32>, tasks: &[StuckTask]) -> Vec<String> {
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
        .map(|task| format!("{}: {}", who(test, task), doing(&task.doing)))
        .collect();
    if left_out > 0
        && let Some(last) = lines.last_mut()
    {
        last.push_str(&format!(", and {left_out} more tasks"));
    }
    lines
}

fn waits_for_thread(task: &StuckTask) -> bool {
    matches!(&task.doing, Doing::Waits { on, .. } if on == &[WaitsOn::Thread])
}

fn who(test: Option<i32>, task: &StuckTask) -> String {
    let process = if test == Some(task.pid) {
        "the test".to_owned()
    } else {
        let command = escaped(&task.command);
        let short: String = command.chars().take(COMMAND).collect();
        let cut = if short.len() < command.len() {
            "…"
        } else {
            ""
        };
        format!("pid {} `{short}{cut}`", task.pid)
    };
    if task.tid == task.pid {
        process
    } else {
        format!("{process}, thread `{}`", escaped(&task.thread))
    }
}

fn doing(doing: &Doing) -> String {
    match doing {
        Doing::Running => "was running".to_owned(),
        Doing::Stopped => "was stopped".to_owned(),
        Doing::Waits { call, on } => {
            let call = escaped(call);
            let on: Vec<_> = on.iter().map(waits_on).collect();
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

fn waits_on(on: &WaitsOn) -> String {
    match on {
        WaitsOn::Descriptor { fd, what, others } => {
            let shared = match &others[..] {
                [] => String::new(),
                pids => {
                    let pids: Vec<_> = pids.iter().map(i32::to_string).collect();
                    format!(", also open in pid {}", pids.join(", "))
                }
            };
            format!("on {fd} ({}{shared})", escaped(what))
        }
        WaitsOn::Child { pid: Some(pid) } => format!("for child {pid}"),
        WaitsOn::Child { pid: None } => "for any child".to_owned(),
        WaitsOn::Thread => "for another thread".to_owned(),
        WaitsOn::Time => "for time to pass".to_owned(),
    }
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
            lines(Some(1), &tasks),
            [
                "the test, thread `hangs`: waited in wait4 for child 3",
                r"pid 3 `sleep 100\n`: waited in clock_nanosleep for time to pass",
                r"pid 4 `sleep 100\n`: waited in read on 0 (pipe:[9], also open in pid 3, 4)",
            ]
        );
    }

    #[test]
    fn threads_that_all_wait_for_each_other_are_shown() {
        let tasks = [1, 2].map(|tid| task(1, tid, "futex", vec![WaitsOn::Thread]));
        assert_eq!(
            lines(Some(1), &tasks),
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
        let lines = lines(None, &tasks);
        assert_eq!(lines.len(), MOST);
        assert!(
            lines[MOST - 1].ends_with(", and 42 more tasks"),
            "{lines:?}"
        );
    }
}
