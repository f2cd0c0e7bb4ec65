//! The tracing of each test of a plan, as [`tracing`](super::tracing) decides it from the known
//! facts.

use super::{
    Notice, RunOptions, Session, SessionError,
    backends::{Binaries, Known},
    lister,
    tracing::{self, Choice, Circumstances, Means},
};
use crate::{
    cargo::Identity,
    config::settings::TraceSetting,
    list::ListedBinary,
    plan::PlannedTest,
    protocol::Available,
    report::less,
    stub::{self, link::Stub},
};
use harness_metadata::event::TraceLevel;
use std::time::Duration;

/// Of what the system did not have enough, and for how long it was to be tried again.
pub(super) type Awaited = (String, Duration);

impl Session {
    /// Decides for every test of the plan how it is traced. Returns also what was waited for, if a stub
    /// was not to be had at once.
    pub(super) fn choose_tracing(
        &self,
        options: &RunOptions,
        stubs: &mut Vec<Stub>,
    ) -> Result<(Vec<Choice>, Option<Awaited>), SessionError> {
        let tests = &self.plan.tests;
        let known = Known::load(self.workspace.kept_in(), self.identities());
        let mut available = Available::default();
        let mut awaited = None;
        if tests
            .iter()
            .any(|test| tracing::wanted(&test.settings.trace))
        {
            available = lister::ask(stubs, |notice| {
                if let Notice::AwaitsSystem { because, limit } = notice {
                    awaited = Some((because, limit));
                }
            })?;
        }
        let means = Means {
            available,
            privileges: tracing::privileges(),
            no_proc: stub::no_proc(),
        };
        let runners = self.workspace.runners.all().into_iter();
        let privileged: Vec<_> = runners
            .filter_map(|runner| Some((runner, tracing::privileged_program(&runner.program)?)))
            .collect();
        let choose = |test: &PlannedTest| {
            // What a pass rests on is known if look-ups are seen.
            let level = match test.settings.trace.level {
                TraceLevel::Io if self.reusing.is_some() => TraceLevel::Full,
                level => level,
            };
            let setting = &TraceSetting {
                level,
                ..test.settings.trace
            };
            let target = self.tests.binaries[test.binary].binary.target.as_deref();
            let own = self.workspace.runners.get(target);
            let runner = privileged.iter().find(|(runner, _)| Some(*runner) == own);
            let circumstances = Circumstances {
                known: known.of(&test.id),
                privileged_runner: runner.map(|(_, program)| program.clone()),
                breaks: options.break_exec.is_some(),
            };
            match means.choose(setting, &circumstances) {
                Choice {
                    lost: Some(less), ..
                } if setting.required => Err(SessionError::TraceRequired {
                    reason: less::less(&less),
                }),
                choice => Ok(match options.inject.is_empty() {
                    true => choice,
                    // Each call has to stop.
                    false => choice.without_recording(),
                }),
            }
        };
        let choices: Result<_, SessionError> = tests.iter().map(choose).collect();
        Ok((choices?, awaited))
    }

    /// Returns the state of each binary's file.
    pub(super) fn identities(&self) -> Binaries {
        let binaries = self.tests.binaries.iter();
        let identity = |listed: &ListedBinary| {
            let binary = &listed.binary;
            Some((binary.id.clone(), Identity::of(&binary.path)?))
        };
        binaries.filter_map(identity).collect()
    }
}
