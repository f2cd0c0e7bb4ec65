//! The progress of a run and its running tests, at the user's request.

use super::Terminal;
use crate::report::{
    captured::{Captured, Shown, overwritten},
    stuck::{self, Pids},
    style::paint,
    wording,
};
use harness_metadata::{
    RunStats,
    event::{OutputSoFar, RunningDetail, RunningState, RunningTest},
};
use std::io::Write;

impl<W: Write> Terminal<W> {
    /// Writes one line that says how far the run is.
    pub(super) fn progress(&mut self, running: usize, stats: &RunStats) {
        let text = format!(
            "[{:>9}] {}/{}: {running} running, {}",
            wording::seconds(self.at),
            stats.finished,
            stats.selected,
            self.counts(stats),
        );
        self.note("Running", self.styles.pass, &text);
    }

    /// Writes what is running, and all that is known of it.
    pub(super) fn status_dump(&mut self, running: &[RunningTest], stats: &RunStats) {
        let text = format!(
            "{} running, {}",
            self.items(running.len()),
            self.counts(stats),
        );
        self.note("Status", self.styles.pass, &text);
        for test in running {
            let state = match test.state {
                RunningState::Running => "running",
                RunningState::Terminating => "terminating",
                RunningState::Draining => "draining",
                RunningState::Waiting => "delay",
            };
            let state = if test.attempt > 1 {
                format!("try {} {state}", test.attempt)
            } else {
                state.to_owned()
            };
            self.status(
                &state,
                self.styles.warn,
                &wording::seconds(test.elapsed),
                None,
                &test.test,
            );
            match &test.detail {
                Some(detail) => self.running_detail(detail),
                None if test.state == RunningState::Waiting => {}
                None => self.say("             its slot did not answer in time"),
            }
        }
    }

    fn running_detail(&mut self, detail: &RunningDetail) {
        let mut facts = Vec::new();
        match detail.pid {
            Some(pid) => facts.push(format!("pid {pid}")),
            None => facts.push("its own process has ended".to_owned()),
        }
        if detail.slow {
            facts.push("slow".to_owned());
        }
        if let Some(left) = detail.left {
            facts.push(format!("{} until it is killed", wording::seconds(left)));
        }
        let streams = [("stdout", &detail.stdout), ("stderr", &detail.stderr)];
        for (name, so_far) in &streams {
            if let Some(so_far) = so_far {
                facts.push(format!("{name} {}", wording::size(so_far.written)));
            }
        }
        self.say(&format!("             {}", facts.join(", ")));
        for line in stuck::lines(detail.pid, &detail.tasks, Pids::Shown) {
            self.say(&format!("             {line}"));
        }
        for (name, so_far) in streams {
            if let Some(so_far) = so_far.as_ref().filter(|so_far| so_far.written > 0) {
                self.last_lines(name, so_far);
            }
        }
    }

    fn last_lines(&mut self, name: &str, so_far: &OutputSoFar) {
        let heading = format!("end of {name}:");
        self.say(&format!(
            "             {}",
            paint(&heading, self.styles.count)
        ));
        let mut captured = Captured::new(Shown {
            colors: false,
            unicode: self.options.unicode,
        });
        let text = so_far.last.as_bytes();
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let lines = text.split(|byte| *byte == b'\n');
        for line in lines.skip_while(|line| line.is_empty()) {
            for line in overwritten(line).0 {
                self.say(&format!("               {}", captured.line(line)));
            }
        }
    }
}
