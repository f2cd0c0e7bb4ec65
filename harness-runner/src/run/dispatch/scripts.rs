//! Decides when setup scripts and their teardowns run.
//!
//! Setup scripts run one after the other, in order, before any test. A teardown runs as soon as no
//! test wants its script any more, but not before those of later scripts, which may rest on it.

use super::{Action, Dispatcher};
use harness_metadata::{
    Attempt, EventKind, Survivor, TestId, Verdict,
    event::{CancelReason, OutputPolicy, RunningState, RunningTest, ScriptFinished, ScriptStarted},
};
use std::{collections::BTreeMap, time::Duration};

/// The variables that a script sets, or the reason why they cannot be taken.
pub(in crate::run) type Variables = Result<BTreeMap<String, String>, String>;

/// A setup script as the run sees it.
#[derive(Clone, Debug)]
pub(in crate::run) struct ScriptCandidate {
    pub(in crate::run) name: String,
    pub(in crate::run) setup: StepCandidate,
    pub(in crate::run) teardown: Option<StepCandidate>,
    /// The tests that want it.
    pub(in crate::run) tests: Vec<usize>,
    pub(in crate::run) output: OutputPolicy,
}

/// A process that a script needs to start.
#[derive(Clone, Debug)]
pub(in crate::run) struct StepCandidate {
    /// Its index behind the tests, by which it is started.
    pub(in crate::run) unit: usize,
    pub(in crate::run) id: TestId,
    pub(in crate::run) command: Vec<String>,
    pub(in crate::run) uncaptured: bool,
}

#[derive(Copy, Clone, Debug, PartialEq)]
enum Phase {
    Waiting,
    SettingUp {
        since: Duration,
    },
    /// Its process has ended. Others of it may live on.
    Up,
    TearingDown {
        since: Duration,
    },
    /// Its last processes are being killed.
    Ending,
    Over,
}

#[derive(Debug)]
struct Script {
    candidate: ScriptCandidate,
    phase: Phase,
    /// The number of tests that want it and have no result.
    left: usize,
}

impl Script {
    /// The process that runs, and since when.
    fn running(&self) -> Option<(&StepCandidate, Duration)> {
        match self.phase {
            Phase::SettingUp { since } => Some((&self.candidate.setup, since)),
            Phase::TearingDown { since } => Some((self.candidate.teardown.as_ref()?, since)),
            Phase::Waiting | Phase::Up | Phase::Ending | Phase::Over => None,
        }
    }
}

/// The setup scripts of a run.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    all: Vec<Script>,
    /// The slot of the first process.
    first_slot: usize,
    /// The unit of the first process.
    first_unit: usize,
    failed: Vec<String>,
}

impl Scripts {
    pub(super) fn new(
        candidates: Vec<ScriptCandidate>,
        first_slot: usize,
        first_unit: usize,
    ) -> Self {
        let all = candidates.into_iter().map(|candidate| Script {
            phase: Phase::Waiting,
            left: candidate.tests.len(),
            candidate,
        });
        Self {
            all: all.collect(),
            first_slot,
            first_unit,
            failed: Vec::new(),
        }
    }

    /// Returns whether tests may start.
    pub(super) fn are_up(&self) -> bool {
        let mut all = self.all.iter();
        !all.any(|script| matches!(script.phase, Phase::Waiting | Phase::SettingUp { .. }))
    }

    fn are_over(&self) -> bool {
        self.all.iter().all(|script| script.phase == Phase::Over)
    }

    /// Notes the result of a test.
    pub(super) fn test_over(&mut self, test: usize) {
        for script in &mut self.all {
            if script.candidate.tests.contains(&test) {
                script.left = script.left.saturating_sub(1);
            }
        }
    }

    /// Keeps all until no test will run any more: there are further iterations.
    fn last_to_the_end(&mut self) {
        for script in &mut self.all {
            script.left = usize::MAX;
        }
    }

    /// Gives up those that have not begun.
    pub(super) fn give_up(&mut self) {
        for script in &mut self.all {
            if script.phase == Phase::Waiting {
                script.phase = Phase::Over;
            }
        }
    }

    /// Returns the slot of a setup script that runs.
    pub(super) fn setting_up(&self) -> Option<usize> {
        let setting_up = |script: &&Script| matches!(script.phase, Phase::SettingUp { .. });
        let script = self.all.iter().find(setting_up)?;
        Some(self.slot(&script.candidate.setup))
    }

    pub(super) fn failed(&self) -> Vec<String> {
        self.failed.clone()
    }

    /// Returns the processes that run.
    pub(super) fn status(&self, now: Duration) -> impl Iterator<Item = RunningTest> {
        let running = self.all.iter().filter_map(Script::running);
        running.map(move |(step, since)| RunningTest {
            test: step.id.clone(),
            attempt: 1,
            slot: self.slot(step),
            elapsed: now.saturating_sub(since),
            state: RunningState::Running,
            detail: None,
        })
    }

    fn slot(&self, step: &StepCandidate) -> usize {
        self.first_slot + step.unit - self.first_unit
    }

    /// Returns the script whose process has a slot.
    fn at(&self, slot: usize) -> Option<usize> {
        self.all.iter().position(|script| {
            let steps = [
                Some(&script.candidate.setup),
                script.candidate.teardown.as_ref(),
            ];
            steps
                .into_iter()
                .flatten()
                .any(|step| self.slot(step) == slot)
        })
    }

    /// Returns the setup script that is to start, which is none while another runs.
    fn next_setup(&self) -> Option<usize> {
        let undecided =
            |script: &Script| matches!(script.phase, Phase::Waiting | Phase::SettingUp { .. });
        let next = self.all.iter().position(undecided)?;
        (self.all[next].phase == Phase::Waiting).then_some(next)
    }

    /// Returns the script that is to be torn down, which is none while another is. `ended` says that
    /// no test will run any more, `in_use` whether a service still rests on a script.
    fn next_teardown(&self, ended: bool, in_use: impl Fn(usize) -> bool) -> Option<usize> {
        let busy = |script: &Script| {
            let phase = script.phase;
            matches!(
                phase,
                Phase::SettingUp { .. } | Phase::TearingDown { .. } | Phase::Ending
            )
        };
        if self.all.iter().any(busy) {
            return None;
        }
        let counts = |script: &Script| {
            script.phase == Phase::Up && (ended || script.candidate.teardown.is_some())
        };
        let last = self.all.iter().rposition(counts)?;
        let over = ended || self.all[last].left == 0;
        (over && !in_use(last)).then_some(last)
    }

    fn started(&self, index: usize, step: &StepCandidate) -> Box<ScriptStarted> {
        Box::new(ScriptStarted {
            script: self.all[index].candidate.name.clone(),
            test: step.id.clone(),
            number: index + 1,
            total: self.all.len(),
            command: step.command.clone(),
            uncaptured: step.uncaptured,
        })
    }
}

impl Dispatcher {
    /// The run has these setup scripts. The process with unit `n` behind the tests gets slot `n` behind
    /// those of the tests.
    pub(in crate::run) fn with_scripts(mut self, candidates: Vec<ScriptCandidate>) -> Self {
        self.units = self.tests.len();
        for candidate in &candidates {
            self.units += 1 + usize::from(candidate.teardown.is_some());
        }
        self.scripts = Scripts::new(candidates, self.all_slots(), self.tests.len());
        if self.limits.stress.is_some() {
            self.scripts.last_to_the_end();
        }
        self
    }

    /// Starts what is to run now of scripts. Returns whether nothing of them is left to do.
    pub(super) fn run_scripts(&mut self, now: Duration, actions: &mut Vec<Action>) -> bool {
        if self.cancelled.is_some() {
            self.scripts.give_up();
        }
        if let Some(index) = self.scripts.next_setup() {
            self.scripts.all[index].phase = Phase::SettingUp { since: now };
            let step = self.scripts.all[index].candidate.setup.clone();
            let started = self.scripts.started(index, &step);
            actions.push(Action::Emit(EventKind::SetupStarted(started)));
            self.start_step(&step, actions);
        }
        let ended = self.slots.is_empty() && (self.cancelled.is_some() || !self.has_waiting());
        let in_use = |script: usize| self.services.want_script(script);
        if let Some(index) = self.scripts.next_teardown(ended, in_use) {
            match self.scripts.all[index].candidate.teardown.clone() {
                Some(step) => {
                    self.scripts.all[index].phase = Phase::TearingDown { since: now };
                    let started = self.scripts.started(index, &step);
                    actions.push(Action::Emit(EventKind::TeardownStarted(started)));
                    self.start_step(&step, actions);
                }
                None => self.end_script(index, actions),
            }
        }
        self.scripts.are_over()
    }

    fn start_step(&self, step: &StepCandidate, actions: &mut Vec<Action>) {
        actions.push(Action::Start {
            slot: self.scripts.slot(step),
            test: step.unit,
            attempt: 1,
            total_attempts: 1,
            group_slot: None,
            remote: false,
        });
    }

    /// Kills what is left of a script.
    fn end_script(&mut self, index: usize, actions: &mut Vec<Action>) {
        self.scripts.all[index].phase = Phase::Ending;
        let slot = self.scripts.slot(&self.scripts.all[index].candidate.setup);
        actions.push(Action::End { slot });
    }

    pub(super) fn script_over(
        &mut self,
        slot: usize,
        attempt: Attempt,
        variables: Variables,
        actions: &mut Vec<Action>,
    ) {
        let Some(index) = self.scripts.at(slot) else {
            return;
        };
        let phase = self.scripts.all[index].phase;
        let candidate = self.scripts.all[index].candidate.clone();
        let is_setup = matches!(phase, Phase::SettingUp { .. });
        let step = match (phase, candidate.teardown) {
            (Phase::SettingUp { .. }, _) => candidate.setup,
            (Phase::TearingDown { .. }, Some(teardown)) => teardown,
            _ => return,
        };
        let mut finished = ScriptFinished {
            script: candidate.name,
            test: step.id,
            number: index + 1,
            total: self.scripts.all.len(),
            command: step.command,
            attempt,
            problem: None,
            environment: BTreeMap::new(),
            output: candidate.output,
        };
        match variables {
            Ok(variables) => finished.environment = variables,
            Err(problem) => {
                finished.problem = Some(problem);
                finished.attempt.verdict = Verdict::Fail;
            }
        }
        let verdict = finished.attempt.verdict;
        if verdict == Verdict::Fail && !self.scripts.failed.contains(&finished.script) {
            self.scripts.failed.push(finished.script.clone());
        }
        let finished = Box::new(finished);
        if is_setup {
            self.scripts.all[index].phase = Phase::Up;
            actions.push(Action::Emit(EventKind::SetupFinished(finished)));
            if verdict == Verdict::Fail {
                self.cancel(CancelReason::SetupFailed, actions);
            }
        } else {
            actions.push(Action::Emit(EventKind::TeardownFinished(finished)));
            actions.push(Action::Close { slot });
            self.end_script(index, actions);
        }
    }

    /// The last process of a script is gone.
    pub(super) fn script_ended(
        &mut self,
        slot: usize,
        survivors: Vec<Survivor>,
        actions: &mut Vec<Action>,
    ) {
        let Some(index) = self.scripts.at(slot) else {
            return;
        };
        let script = &mut self.scripts.all[index];
        script.phase = Phase::Over;
        if !survivors.is_empty() {
            let script = script.candidate.name.clone();
            actions.push(Action::Emit(EventKind::SetupLeft { script, survivors }));
        }
        actions.push(Action::Close { slot });
    }

    /// The slot of a script is lost. Returns whether it had one that is.
    pub(super) fn script_lost(
        &mut self,
        now: Duration,
        slot: usize,
        message: &str,
        actions: &mut Vec<Action>,
    ) -> bool {
        let Some(index) = self.scripts.at(slot) else {
            return false;
        };
        let message = message.to_owned();
        match self.scripts.all[index].running() {
            Some((_, since)) => {
                let outcome =
                    harness_metadata::Outcome::HarnessFault(harness_metadata::Fault { message });
                let lost = self.attempt_without_report(now, since, 1, outcome, Verdict::Fail);
                self.script_over(slot, lost, Ok(BTreeMap::new()), actions);
            }
            None => self.script_ended(slot, Vec::new(), actions),
        }
        true
    }
}
