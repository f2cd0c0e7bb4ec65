//! One storm while it rages.

use crate::{
    environment::installed,
    random::Random,
    table::{Figure, Table},
};
use fixture_kit::model::Runner;
use harness_metadata::event::TraceLevel;
use std::sync::OnceLock;

/// The inputs of a storm.
pub(crate) struct Course<'a> {
    /// The number of strikes.
    pub(crate) times: u64,
    pub(crate) random: Random,
    table: &'a mut Table,
}

/// The levels that a storm passes over in turn.
pub(crate) const LEVELS: [TraceLevel; 3] = [TraceLevel::Off, TraceLevel::Process, TraceLevel::Io];

impl<'a> Course<'a> {
    pub(crate) fn new(times: u64, random: Random, table: &'a mut Table) -> Self {
        Self {
            times,
            random,
            table,
        }
    }

    /// Says a figure, and keeps it for the table.
    pub(crate) fn tell(&mut self, by: Runner, what: &str, reach: &str, was: String) {
        self.note(&format!("{by:?}: {what}: {was}"));
        self.table.add(by, Figure { what, reach, was });
    }

    /// Says something that is no figure.
    #[allow(
        clippy::print_stdout,
        clippy::unused_self,
        reason = "what the program is for"
    )]
    pub(crate) fn note(&self, sentence: &str) {
        println!("  {sentence}");
    }

    /// Returns whether cargo-nextest is here to be compared with. Says so if not.
    pub(crate) fn has_peer(&self) -> bool {
        static PEER: OnceLock<bool> = OnceLock::new();
        let there = *PEER.get_or_init(|| installed("cargo-nextest", &["nextest", "--version"]));
        if !there {
            self.note("skipped: cargo-nextest, which is not installed");
        }
        there
    }
}
