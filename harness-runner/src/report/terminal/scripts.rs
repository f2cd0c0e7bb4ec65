//! The lines of setup scripts.

use super::{Terminal, shown_from};
use crate::report::{
    Outputs, entry, leak,
    stuck::Pids,
    style::{escaped, paint},
    wording::{self, Class},
};
use harness_metadata::{
    Survivor, TestId, Verdict,
    event::{ScriptFinished, ScriptStarted},
    level::StatusLevel,
};
use std::{io::Write, time::Duration};

/// The steps of a script.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Setup,
    Teardown,
}

impl Step {
    fn word(self) -> &'static str {
        match self {
            Self::Setup => "SETUP",
            Self::Teardown => "TEARDOWN",
        }
    }
}

impl<W: Write> Terminal<W> {
    pub(super) fn script_started(&mut self, started: &ScriptStarted, step: Step) {
        let command: Vec<_> = (started.command.iter())
            .map(|argument| escaped(&shell_words::quote(argument)).into_owned())
            .collect();
        self.script_line(step, "", "", &started.script, started.number, started.total);
        if self.options.verbosity > 0 {
            self.say(&format!("             command: {}", command.join(" ")));
        }
        if started.uncaptured
            && let Some(bar) = &mut self.bar
        {
            // It writes to the terminal itself.
            bar.set_visible(false);
        }
    }

    pub(super) fn script_slow(&mut self, test: &TestId, elapsed: Duration, terminating: bool) {
        let word = if terminating {
            "SETUP TRMNTG"
        } else {
            "SETUP SLOW"
        };
        let style = match terminating {
            true => self.styles.fail,
            false => self.styles.warn,
        };
        let clock = format!(">{:>8}", wording::seconds(elapsed));
        let name = escaped(test.name.as_str());
        let line = format!(
            "{} [{clock:>9}] {name}",
            paint(&format!("{word:>12}"), style)
        );
        self.say(&line);
    }

    pub(super) fn script_finished(
        &mut self,
        finished: &ScriptFinished,
        step: Step,
        outputs: &dyn Outputs,
    ) {
        if let Some(bar) = &mut self.bar {
            bar.set_visible(true);
        }
        let test = entry::of_script(finished);
        let class = Class::of(&test);
        let failed = finished.attempt.verdict == Verdict::Fail;
        if !failed
            && self.options.status_level < shown_from(class, &self.options).min(StatusLevel::Pass)
        {
            return;
        }
        let status = match &finished.problem {
            Some(_) => "FAIL".to_owned(),
            None => wording::attempt_status(&finished.attempt),
        };
        let clock = wording::seconds(finished.attempt.elapsed);
        let (number, total) = (finished.number, finished.total);
        self.script_line(step, &status, &clock, &finished.script, number, total);
        if let Some(problem) = &finished.problem {
            let text = escaped(problem).into_owned();
            self.say(&format!("             {}", paint(&text, self.styles.fail)));
        }
        let lingers = (finished.attempt.leaked())
            .is_some_and(|leak| leak.survivors.is_empty() && step == Step::Setup);
        if lingers {
            let text = "left running: processes that are killed when they are no longer wanted";
            self.say(&format!("             {}", paint(text, self.styles.warn)));
        } else {
            self.left_behind(&test);
        }
        if failed {
            self.block_of(&test, &[], outputs);
        }
    }

    pub(super) fn script_left(&mut self, name: &str, survivors: &[Survivor]) {
        for survivor in survivors {
            let what = leak::named_survivor(survivor, Pids::Shown);
            let text = format!("killed, left running by `{}`: {what}", escaped(name));
            self.note("SETUP LEFT", self.styles.warn, &text);
        }
    }

    fn script_line(
        &mut self,
        step: Step,
        status: &str,
        clock: &str,
        name: &str,
        number: usize,
        total: usize,
    ) {
        let style = match status {
            "" | "PASS" => self.styles.pass,
            "LEAK" | "SLOW + LEAK" | "TIMEOUT-PASS" => self.styles.warn,
            _ => self.styles.fail,
        };
        let word = match (step, status) {
            (step, "") => step.word().to_owned(),
            (Step::Setup, status) => format!("SETUP {status}"),
            (Step::Teardown, status) => format!("TDOWN {status}"),
        };
        let line = format!(
            "{} [{clock:>9}] {number}/{total}: {}",
            paint(&format!("{word:>12}"), style),
            escaped(name),
        );
        self.say(&line);
    }
}
