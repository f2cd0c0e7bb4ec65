//! The lines of services.

use super::Terminal;
use crate::report::{
    entry, service,
    style::{escaped, paint},
    wording,
};
use harness_metadata::{
    Exit, Outcome,
    event::{ServiceFinished, ServiceReady, ServiceStarted, TestFinished},
    level::StatusLevel,
};
use owo_colors::Style;
use std::io::Write;

impl<W: Write> Terminal<W> {
    pub(super) fn service_started(&mut self, started: &ServiceStarted) {
        let name = started.test.name.as_str();
        self.service_line("SERVICE", self.styles.pass, "", name);
        if self.options.verbosity > 0 {
            let command: Vec<_> = (started.command.iter())
                .map(|argument| escaped(&shell_words::quote(argument)).into_owned())
                .collect();
            self.say(&format!("             command: {}", command.join(" ")));
        }
    }

    pub(super) fn service_ready(&mut self, ready: &ServiceReady) {
        let clock = wording::seconds(ready.elapsed);
        let name = ready.test.name.as_str();
        self.service_line("SVC READY", self.styles.pass, &clock, name);
    }

    pub(super) fn service_finished(
        &mut self,
        finished: &ServiceFinished,
        outputs: &dyn super::Outputs,
    ) {
        let clock = wording::seconds(finished.attempt.elapsed);
        let name = finished.test.name.as_str();
        let Some(problem) = &finished.problem else {
            let killed = was_killed(finished);
            if killed {
                self.service_line("SVC KILLED", self.styles.warn, &clock, name);
                let text = "it had not ended within its grace period";
                self.say(&format!("             {}", paint(text, self.styles.warn)));
            } else if self.options.status_level >= StatusLevel::Pass {
                self.service_line("SVC ENDED", self.styles.pass, &clock, name);
            }
            return;
        };
        self.service_line("SVC FAIL", self.styles.fail, &clock, name);
        let text = escaped(&format!("`{}` {problem}", finished.service)).into_owned();
        self.say(&format!("             {}", paint(&text, self.styles.fail)));
        self.block_of(&entry::of_service(finished), &[], outputs);
    }

    /// Says which services a test that did not pass has used.
    pub(super) fn used_services(&mut self, finished: &TestFinished) {
        for line in service::lines(finished) {
            let line = escaped(&line).into_owned();
            self.say(&format!("             {}", paint(&line, self.styles.warn)));
        }
    }

    fn service_line(&mut self, word: &str, style: Style, clock: &str, name: &str) {
        let word = format!("{word:>12}");
        let name = escaped(name);
        self.say(&format!("{} [{clock:>9}] {name}", paint(&word, style)));
    }
}

/// Returns whether a service was killed because it did not end when it was asked to.
fn was_killed(finished: &ServiceFinished) -> bool {
    const SIGKILL: i32 = 9;
    matches!(
        finished.attempt.outcome,
        Outcome::Interrupted {
            exit: Some(Exit::Signal {
                signal: SIGKILL,
                ..
            }) | None,
            ..
        }
    )
}
