//! The terminal: a line for each test, output where it is wanted, and a summary.
//!
//! Lines are gathered and written once per [`Sink::flush`], together with the progress bar if
//! there is one.

mod beginning;
mod block;
mod durations;
mod ending;
mod failures;
mod fold;
mod levels;
mod live;
mod moments;
mod options;
mod running;
mod scripts;
mod services;
mod stress;
mod traces;

use self::block::Shown;
pub use self::{fold::Fold, options::TerminalOptions};
use super::{
    Outputs, Sink, SinkError,
    budget::{self, Unjudged},
    failure::Reason,
    injected, leak,
    progress::{Bar, ProgressMode, terminal_size},
    stuck::{self, Pids},
    style::{Styles, escaped, paint},
    taskbar::Taskbar,
    violations,
    wording::{self, Class},
};
use harness_metadata::{
    Attempt, AttemptId, Event, EventKind, Interruption, Outcome, RunStats, TestId, Verdict,
    event::{AttemptStarted, Findings, OutputWhen, RunMode, TestFinished},
    level::StatusLevel,
    trace::Disturbance,
};
use levels::{listed_from, shown_from};
use live::Live;
use owo_colors::Style;
use scripts::Step;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io::Write,
    mem,
    time::Duration,
};
use stress::Stress;
use traces::{Kept, last_evidence};
use unicode_width::UnicodeWidthStr;

/// The sink for people.
pub struct Terminal<W: Write> {
    writer: W,
    pending: Vec<u8>,
    options: TerminalOptions,
    styles: Styles,
    bar: Option<Bar>,
    taskbar: Option<Taskbar>,
    stats: RunStats,
    at: Duration,
    drawn: Option<Duration>,
    delayed: HashSet<TestId>,
    skipped: Vec<TestId>,
    /// The number of tests that do not run, because nothing has changed.
    cached: usize,
    kept: Vec<Kept>,
    slowest: Vec<TestFinished>,
    /// The number of tests that were run again, by kind of disturbance.
    run_again: BTreeMap<Disturbance, usize>,
    /// As before, of those that were not.
    disturbed: BTreeMap<Disturbance, usize>,
    /// The budgets that could not be judged.
    unjudged: Unjudged,
    live: Live,
    /// The iterations of a stress run, and the results of its tests.
    stress: Stress,
    /// Binaries whose tests were not counted, since `default-filter` leaves all of them out.
    binaries_skipped_by_default: usize,
    mode: RunMode,
    workspace_root: String,
    /// The start of the run, in seconds since 1970.
    started_at: Option<i64>,
    /// The words of the command that runs the failed tests again.
    again: Option<String>,
    /// Whether there is a failure that can be compared with a pass.
    explains: bool,
    /// Findings of the traces of the run.
    findings: Findings,
    /// Whether the line that is written next has the whole name of its test.
    whole_names: bool,
    /// Columns and rows when they were last asked for, if lines are made to fit.
    room: Option<(usize, usize)>,
    ended: bool,
}

/// A name is not made shorter than this.
const SHORTEST_NAME: usize = 12;
/// The bar is not drawn more often than this.
const REDRAW: Duration = Duration::from_millis(50);
/// More than this is written without waiting for a flush.
const BATCH: usize = 64 * 1024;

impl<W: Write> Terminal<W> {
    /// Returns a sink that writes to `writer`.
    pub fn new(writer: W, options: TerminalOptions) -> Self {
        Self {
            writer,
            pending: Vec::new(),
            styles: Styles::new(options.colors),
            bar: None,
            taskbar: options.taskbar.then(Taskbar::default),
            stats: RunStats::default(),
            at: Duration::ZERO,
            drawn: None,
            delayed: HashSet::new(),
            skipped: Vec::new(),
            cached: 0,
            kept: Vec::new(),
            slowest: Vec::new(),
            run_again: BTreeMap::new(),
            disturbed: BTreeMap::new(),
            unjudged: Unjudged::default(),
            live: Live::default(),
            stress: Stress::default(),
            binaries_skipped_by_default: 0,
            mode: RunMode::Test,
            workspace_root: String::new(),
            started_at: None,
            again: None,
            explains: false,
            findings: Findings::default(),
            whole_names: false,
            room: options.room(),
            ended: false,
            options,
        }
    }

    /// Returns the writer. What was not flushed is lost.
    pub fn into_inner(self) -> W {
        self.writer
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let sent = self
            .writer
            .write_all(bytes)
            .and_then(|()| self.writer.flush());
        sent.map_err(|source| SinkError {
            what: "to standard error".to_owned(),
            source,
        })
    }

    fn draw(&mut self) -> Result<(), SinkError> {
        let lines = mem::take(&mut self.pending);
        let mut bytes = match &mut self.bar {
            Some(bar) => {
                self.drawn = Some(self.at);
                bar.draw(&lines, &self.stats, self.at)
            }
            None if lines.is_empty() => return Ok(()),
            None => lines,
        };
        if let Some(progress) = self.taskbar.as_mut().and_then(|it| it.update(&self.stats)) {
            bytes.extend_from_slice(progress.as_bytes());
        }
        self.send(&bytes)
    }

    fn say(&mut self, line: &str) {
        self.pending.extend_from_slice(line.as_bytes());
        self.pending.push(b'\n');
    }

    fn rule(&mut self) {
        let line = if self.options.unicode { "─" } else { "-" }.repeat(12);
        self.say(&line);
    }

    /// Writes one line of the usual form: status, clock, counter, test.
    fn status(
        &mut self,
        status: &str,
        style: Style,
        clock: &str,
        nth: Option<usize>,
        test: &TestId,
    ) {
        let counter = match self.options.progress {
            ProgressMode::Counter => {
                let total = self.stats.selected.to_string();
                let width = total.len();
                match nth {
                    Some(nth) if self.stress.is_open() => format!("({nth}) "),
                    Some(nth) => format!("({nth:>width$}/{total}) "),
                    None => {
                        let dash = if self.options.unicode { "─" } else { "-" };
                        format!("({}) ", dash.repeat(2 * width + 1))
                    }
                }
            }
            _ => String::new(),
        };
        let used = format!("{status:>12} [{clock:>9}] {counter}").width();
        let line = format!(
            "{} [{clock:>9}] {counter}{}",
            paint(&format!("{status:>12}"), style),
            self.name_after(used, test),
        );
        self.say(&line);
    }

    /// Returns the name of a test after so many columns of its line. It is whole where output follows, and
    /// where no terminal is.
    fn name_after(&self, used: usize, test: &TestId) -> String {
        match self.room {
            Some((columns, _)) if !self.whole_names && self.options.verbosity == 0 => {
                let width = columns.saturating_sub(used).max(SHORTEST_NAME);
                self.styles.name_within(test, width)
            }
            _ => self.styles.name(test),
        }
    }

    fn note(&mut self, status: &str, style: Style, text: &str) {
        let line = format!("{} {text}", paint(&format!("{status:>12}"), style));
        self.say(&line);
    }

    fn attempt_started(&mut self, started: &AttemptStarted) {
        if let Some(bar) = &mut self.bar {
            bar.started(started.test.clone(), started.attempt, self.at);
        }
        let announced = self.options.no_capture || self.options.verbosity > 0;
        let delayed = self.delayed.remove(&started.test);
        if started.attempt > 1 {
            let wanted = delayed && self.options.status_level >= StatusLevel::Retry;
            if wanted || announced {
                let status = format!("RETRY {}/{}", started.attempt, started.total_attempts);
                self.status(&status, self.styles.retry, "", None, &started.test);
            }
        } else if announced {
            self.status("START", self.styles.pass, "", None, &started.test);
        }
        if self.options.verbosity > 0 {
            let quoted: Vec<_> = started
                .command
                .iter()
                .map(|argument| escaped(&shell_words::quote(argument)).into_owned())
                .collect();
            self.say(&format!("             command: {}", quoted.join(" ")));
        }
    }

    fn slow(&mut self, test: &TestId, attempt: u32, elapsed: Duration, terminating: bool) {
        if let Some(bar) = &mut self.bar {
            bar.slow(test, terminating);
        }
        if self.options.status_level < StatusLevel::Slow {
            return;
        }
        let (word, style) = match (terminating, attempt) {
            (false, 1) => ("SLOW".to_owned(), self.styles.warn),
            (false, _) => (format!("TRY {attempt} SLOW"), self.styles.warn),
            (true, 1) => ("TERMINATING".to_owned(), self.styles.fail),
            (true, _) => (format!("TRY {attempt} TRMNTG"), self.styles.fail),
        };
        let clock = format!(">{:>8}", wording::seconds(elapsed));
        self.status(&word, style, &clock, None, test);
    }

    fn finished(&mut self, finished: &TestFinished, outputs: &dyn Outputs) {
        self.stats = finished.stats;
        self.delayed.remove(&finished.test);
        self.live.finished(&finished.test);
        if let Some(bar) = &mut self.bar {
            bar.finished(&finished.test);
        }
        self.count_disturbed(finished);
        self.unjudged.count(finished);
        self.stress.count(finished);
        let class = Class::of(finished);
        let when = self.output_when(finished);
        if self.options.status_level >= shown_from(class, &self.options) || when.immediate() {
            self.whole_names = when.immediate();
            self.finished_line(finished, &wording::finished_status(finished));
            self.whole_names = false;
            self.quarantined(finished);
            self.elsewhere(finished, class);
            self.used_services(finished);
            self.run_again(finished);
            self.left_behind(finished);
            if when.immediate() {
                self.block_of(finished, &last_evidence(finished), outputs);
            }
        }
        let listed = self.options.final_status_level >= listed_from(class);
        if listed || when.at_end() {
            let reason = Reason::of(finished, &self.workspace_root, outputs);
            self.kept.push(Kept::new(finished, reason));
        }
        self.remember_slow(finished);
    }

    fn finished_line(&mut self, finished: &TestFinished, status: &str) {
        let style = match Class::of(finished) {
            Class::Failed => self.styles.fail,
            Class::Interrupted | Class::Quarantined | Class::Slow | Class::Leaky => {
                self.styles.warn
            }
            Class::Flaky => self.styles.retry,
            Class::Passed => self.styles.pass,
        };
        let elapsed = finished
            .attempts
            .last()
            .map(|last| wording::seconds(last.elapsed));
        let nth = Some(finished.stats.finished);
        self.status(
            status,
            style,
            &elapsed.unwrap_or_default(),
            nth,
            &finished.test,
        );
    }

    fn quarantined(&mut self, finished: &TestFinished) {
        if let Some(line) = wording::quarantined(finished) {
            let line = escaped(&line).into_owned();
            self.say(&format!("             {}", paint(&line, self.styles.warn)));
        }
    }

    /// Says where a test ran that did so elsewhere. Of one that passed that is a detail.
    fn elsewhere(&mut self, finished: &TestFinished, class: Class) {
        if class == Class::Passed && self.options.verbosity == 0 {
            return;
        }
        if let Some(place) = finished.attempts.last().and_then(wording::elsewhere) {
            self.say(&format!("             ran on {}", escaped(&place)));
        }
    }

    fn run_again(&mut self, finished: &TestFinished) {
        if let Some(line) = finished.attempts.iter().find_map(wording::disturbed) {
            self.say(&format!("             {}", paint(&line, self.styles.warn)));
        }
    }

    /// Counts a test that the tracer was in the way of.
    fn count_disturbed(&mut self, finished: &TestFinished) {
        let earlier = finished.attempts.iter().flat_map(|it| &it.earlier);
        let met: BTreeSet<_> = earlier
            .flat_map(|time| &time.disturbances)
            .copied()
            .collect();
        for why in met {
            *self.run_again.entry(why).or_default() += 1;
        }
        let last = finished.attempts.last();
        for why in last.map(Attempt::disturbances).unwrap_or_default() {
            *self.disturbed.entry(why).or_default() += 1;
        }
    }

    fn left_behind(&mut self, finished: &TestFinished) {
        let Some(last) = finished.attempts.last() else {
            return;
        };
        let violations = violations::lines(last, Pids::Shown);
        let budgets = budget::measured_lines(last, Pids::Shown);
        let lines = leak::lines(last, Pids::Shown).into_iter();
        let slow = stuck::slow(last, Pids::Shown);
        let injected = injected::lines(last).into_iter();
        let lines = injected.chain(lines);
        for line in lines.chain(slow).chain(violations).chain(budgets) {
            self.say(&format!("             {}", paint(&line, self.styles.warn)));
        }
    }

    fn block_of(&mut self, finished: &TestFinished, evidence: &[String], outputs: &dyn Outputs) {
        if let Some(last) = finished.attempts.last() {
            let id = AttemptId {
                test: finished.test.clone(),
                attempt: last.number,
            };
            let shown = Shown {
                attempt: last,
                id: &id,
                evidence,
            };
            block::write(
                &mut self.pending,
                &shown,
                outputs,
                self.styles,
                &self.options,
            );
        }
    }

    /// Returns when the output of a finished test is shown. A test that the user or fail-fast
    /// ended has nothing to explain.
    fn output_when(&self, finished: &TestFinished) -> OutputWhen {
        let own_end = finished.attempts.last().is_some_and(|last| {
            !matches!(
                last.outcome,
                Outcome::Interrupted {
                    by: Interruption::Signal(2) | Interruption::FailFast,
                    ..
                }
            )
        });
        match finished.verdict {
            _ if self.options.no_capture || self.options.shown_live || !own_end => {
                OutputWhen::Never
            }
            Verdict::Pass => finished.output.success,
            Verdict::Fail | Verdict::Interrupted | Verdict::Quarantined => finished.output.failure,
        }
    }
}

impl<W: Write> Terminal<W> {
    /// Draws what is pending if that is much.
    fn draw_much(&mut self) -> Result<(), SinkError> {
        if self.pending.len() > BATCH {
            return self.draw();
        }
        Ok(())
    }
}

impl<W: Write> Sink for Terminal<W> {
    #[expect(
        clippy::too_many_lines,
        reason = "an arm for each event, and each only calls what shows it"
    )]
    fn handle(&mut self, event: &Event, outputs: &dyn Outputs) -> Result<(), SinkError> {
        self.at = event.at;
        match &event.kind {
            EventKind::RunStarted(run) => self.run_started(run),
            EventKind::TestSkipped { test, reason, .. } => self.test_skipped(test, *reason),
            EventKind::TestCached(cached) => self.test_cached(&cached.test),
            EventKind::AttemptStarted(started) => self.attempt_started(started),
            EventKind::AttemptSlow {
                test,
                attempt,
                elapsed,
                terminating,
            } => self.slow(test, *attempt, *elapsed, *terminating),
            EventKind::AttemptPrinted(printed) => self.printed(printed),
            EventKind::AttemptTraced {
                test,
                attempt,
                events,
                dropped,
            } => self.traced(test, *attempt, events, *dropped),
            EventKind::AttemptBroke {
                test, pid, args, ..
            } => self.broke(test, *pid, args),
            EventKind::AttemptFailed {
                test,
                attempt,
                total_attempts,
                delay,
                output,
            } => {
                self.attempt_failed(test, attempt, *output, outputs);
                self.put_off(test, attempt.number + 1, *total_attempts, *delay);
            }
            EventKind::TestFinished(finished) => self.finished(finished, outputs),
            EventKind::SetupStarted(started) => self.script_started(started, Step::Setup),
            EventKind::TeardownStarted(started) => self.script_started(started, Step::Teardown),
            EventKind::SetupSlow {
                test,
                elapsed,
                terminating,
            } => self.script_slow(test, *elapsed, *terminating),
            EventKind::SetupFinished(finished) => {
                self.script_finished(finished, Step::Setup, outputs);
            }
            EventKind::TeardownFinished(finished) => {
                self.script_finished(finished, Step::Teardown, outputs);
            }
            EventKind::SetupLeft { script, survivors } => self.script_left(script, survivors),
            EventKind::ServiceStarted(started) => self.service_started(started),
            EventKind::ServiceReady(ready) => self.service_ready(ready),
            EventKind::ServiceFinished(finished) => self.service_finished(finished, outputs),
            EventKind::Cancelled {
                reason,
                running,
                killing,
            } => self.cancelled(*reason, *running, *killing),
            EventKind::IterationFinished(iteration) => self.iteration_finished(iteration),
            EventKind::FewerSlots { slots, because } => self.fewer_slots(*slots, because),
            EventKind::MoreSlots { slots } => self.more_slots(*slots),
            EventKind::AwaitsSystem { because, limit } => self.awaits_system(because, *limit),
            EventKind::Stopped {
                elapsed,
                continued,
                running,
            } => self.was_stopped(*elapsed, *continued, running),
            EventKind::Paused { running } => {
                self.paused(*running);
                return self.draw();
            }
            EventKind::Continued { running } => self.continued(*running),
            EventKind::Status { running, stats } => self.status_dump(running, stats),
            EventKind::Progress { running, stats } => self.progress(*running, stats),
            EventKind::RunFinished(run) => {
                self.run_finished(run, outputs);
                return self.close();
            }
        }
        self.draw_much()
    }

    fn keeps_output(&self, finished: &TestFinished) -> bool {
        self.output_when(finished).at_end()
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        let recent = |drawn| self.at.saturating_sub(drawn) < REDRAW;
        if self.bar.is_some() && self.drawn.is_some_and(recent) {
            // The next tick draws; a burst of events is drawn once.
            return Ok(());
        }
        if self.pending.is_empty() && self.bar.is_none() {
            Ok(())
        } else {
            self.draw()
        }
    }

    /// Clears the bar and writes out what is pending.
    fn close(&mut self) -> Result<(), SinkError> {
        let lines = mem::take(&mut self.pending);
        let mut bytes = match self.bar.take() {
            Some(mut bar) => bar.finish(&lines),
            None => lines,
        };
        if let Some(clear) = self.taskbar.take().and_then(|mut it| it.clear()) {
            bytes.extend_from_slice(clear.as_bytes());
        }
        self.send(&bytes)
    }

    fn tick(&mut self, at: Duration) -> Result<(), SinkError> {
        self.at = self.at.max(at);
        if let (Some(bar), None, Some(size)) = (&self.bar, self.options.size, terminal_size()) {
            bar.resize(size);
        }
        self.room = self.options.room();
        match self.bar {
            Some(_) => self.draw(),
            None => self.flush(),
        }
    }
}
