//! An overview of the kept runs.

use super::{Ending, Extent, PastRun, recording, retention};
use harness_metadata::event::TraceLevel;

/// A run that is kept, in a few facts.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The run.
    pub run: PastRun,
    /// The profile's name.
    pub profile: String,
    /// The command line.
    pub command_line: Vec<String>,
    /// The level at which its tests were traced.
    pub trace: TraceLevel,
    /// Its state.
    pub state: State,
    /// The bytes of its files before they were packed; `None` if they are not.
    pub unpacked: Option<u64>,
    /// The bytes of its files.
    pub bytes: u64,
}

/// The state of a run.
#[derive(Clone, Debug)]
pub enum State {
    /// It is being written.
    InProgress,
    /// It came to its end.
    Ended(Ending),
    /// It did not: its runner was killed.
    Killed(Extent),
}

impl Overview {
    /// Looks at a run; `None` if it has been deleted meanwhile.
    pub fn of(run: PastRun) -> Option<Self> {
        let bytes = retention::size(&run);
        if let Some(facts) = run.facts() {
            let state = match facts.ending {
                Some(ending) => State::Ended(ending),
                None => State::Killed(run.extent().unwrap_or_default()),
            };
            return Some(Self {
                profile: facts.profile,
                command_line: facts.command_line,
                trace: facts.trace,
                state,
                unpacked: Some(facts.unpacked),
                bytes,
                run,
            });
        }
        let began = recording::first(&run.path)?;
        let state = match Ending::of(&run) {
            Some(ending) => State::Ended(ending),
            None if run.in_progress() => State::InProgress,
            None => State::Killed(run.extent().unwrap_or_default()),
        };
        Some(Self {
            profile: began.profile,
            command_line: began.command_line,
            trace: began.trace.level,
            state,
            unpacked: None,
            bytes,
            run,
        })
    }
}
