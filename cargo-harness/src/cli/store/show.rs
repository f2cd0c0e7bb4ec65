//! `cargo harness store show`: what is recorded of a run.

use super::super::{
    GlobalOptions,
    recordings::{self, Place},
    runs::{coarse, result},
};
use crate::command_error::{CommandError, Kind};
use clap::Args;
use harness_metadata::{
    Event, EventKind, TestId, Verdict,
    event::{RunFinished, TestFinished},
};
use harness_runner::{
    report::{
        Outputs, Sink, SinkError, plural, size,
        style::{Styles, escaped, paint},
    },
    store::{Overview, PastRun, Recording, age},
};
use std::{
    fs,
    io::{self, Write},
    time::Duration,
};

/// Show what is recorded of a run.
#[derive(Debug, Args)]
pub(super) struct ShowCommand {
    /// The run: `latest`, the beginning of its id, its folder, or a file of `--events`.
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// The same as RUN.
    #[arg(long, short = 'R', value_name = "RUN", conflicts_with = "run")]
    run_id: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// A test that did not simply pass.
struct Notable {
    test: TestId,
    verdict: Verdict,
    attempts: usize,
    elapsed: Duration,
}

/// Gathers the tests that did not simply pass.
struct Gather<'a>(&'a mut Vec<Notable>);

impl Sink for Gather<'_> {
    fn handle(&mut self, event: &Event, _: &dyn Outputs) -> Result<(), SinkError> {
        if let EventKind::TestFinished(test) = &event.kind
            && (test.verdict != Verdict::Pass || test.flaky())
        {
            self.0.push(notable(test));
        }
        Ok(())
    }
}

fn notable(test: &TestFinished) -> Notable {
    Notable {
        test: test.test.clone(),
        verdict: test.verdict,
        attempts: test.attempts.len(),
        elapsed: test.attempts.iter().map(|attempt| attempt.elapsed).sum(),
    }
}

impl ShowCommand {
    pub(super) fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let run = self.run.as_ref().or(self.run_id.as_ref());
        let recording = self.place.recording(run.map(String::as_str), global)?;
        let mut notable = Vec::new();
        let replayed = recording
            .replay(&mut [Box::new(Gather(&mut notable))], &|_| ())
            .map_err(|error| CommandError::new(Kind::Setup, error))?;
        let mut text = String::new();
        for (name, value) in facts(&recording, replayed.finished.as_ref()) {
            text += &format!("{name:>10}  {}\n", escaped(&value));
        }
        let styles = Styles::new(global.stdout_colors());
        for test in &notable {
            text += &test.line(&styles);
        }
        recordings::warn_of_gaps(&recording, &replayed, global);
        recordings::written(io::stdout().write_all(text.as_bytes()), "the run")
    }
}

/// Returns the facts about a run, each with its name.
fn facts(recording: &Recording, finished: Option<&RunFinished>) -> Vec<(&'static str, String)> {
    let run = &recording.started;
    let started = run.started_at.format("%Y-%m-%d %H:%M:%S %:z");
    let ago = coarse(age(run.started_at));
    let mut facts = vec![
        ("run", run.run_id.to_string()),
        ("started", format!("{started}, {ago} ago")),
        ("profile", run.profile.clone()),
        ("command", shell(&run.command_line)),
        ("workspace", run.workspace_root.clone()),
        ("program", format!("cargo-harness {}", run.harness_version)),
        ("trace", run.trace.level.as_str().to_owned()),
    ];
    if let Some(finished) = finished {
        let took = format!("{:.3} s", finished.elapsed.as_secs_f64());
        facts.push(("took", took));
    }
    let path = match recording.path.extension() {
        Some("run") => Some(&*recording.path),
        _ => recording.path.parent(),
    };
    if let Some(overview) = path.and_then(PastRun::open).and_then(Overview::of) {
        facts.push(("result", result(&overview)));
        let files = match overview.run.is_packed() {
            true => 1,
            false => fs::read_dir(&overview.run.path).map_or(0, Iterator::count),
        };
        let files = plural(files, "file", "files");
        let unpacked = match overview.unpacked {
            Some(bytes) => format!(", unpacked {}", size(bytes)),
            None => String::new(),
        };
        let own = size(overview.bytes);
        facts.push(("size", format!("{own} in {files}{unpacked}")));
    }
    facts.push(("recording", recording.path.to_string()));
    facts
}

impl Notable {
    fn line(&self, styles: &Styles) -> String {
        let (word, style) = match self.verdict {
            Verdict::Pass => ("flaky", styles.retry),
            Verdict::Fail => ("failed", styles.fail),
            Verdict::Interrupted => ("interrupted", styles.warn),
            Verdict::Quarantined => ("quarantined", styles.warn),
        };
        let word = format!("{word:>11}");
        let attempts = plural(self.attempts, "attempt", "attempts");
        let (name, elapsed) = (styles.name(&self.test), self.elapsed.as_secs_f64());
        format!(
            "{}  {name}  {elapsed:.3} s, {attempts}\n",
            paint(&word, style)
        )
    }
}

fn shell(words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|word| shell_words::quote(word)).collect();
    words.join(" ")
}
