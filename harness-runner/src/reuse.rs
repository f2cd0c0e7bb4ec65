//! Decides which tests cannot have changed since they passed.
//!
//! A pass is stored with everything that it is known to rest on: the test's binary, its surroundings, and the
//! inputs that a trace at the level `full` has seen, each with its state. It is used again if all of these are the
//! same. Unknown means run.
//!
//! - `inputs` reads the events of a trace: what the test asked for before it changed that itself, which `tracked` knows;
//! - `settle` proves that what a path leads to after the test is what the test met, or refuses the pass;
//! - `decide` compares a stored pass with the present, `choose` does so for all tests of a plan;
//! - `ledger` is the file of all that;
//! - `observing` does the first two beside a run;
//! - `sources` names the source files of what tests entered, to compare with selection by file.
//!
//! Nothing is started here.

mod chain;
mod choose;
mod decide;
mod digests;
mod entered;
mod inputs;
mod key;
mod ledger;
mod links;
mod looks;
mod observing;
mod programs;
mod settle;
mod sources;
mod special;
mod state;
#[cfg(test)]
mod tests;
mod times;
mod tracked;
mod words;

pub use chain::{Link, chain};
pub use choose::{Candidate, Since, affected, choose, counts, of_sample, sample};
pub use decide::{Changed, Decision, Limits, Why, decide};
pub use digests::Digest;
pub use entered::Program;
pub use key::{Key, Surroundings, Value, version};
pub use ledger::{Distrust, Known, Ledger, LedgerError, Pass, Stored};
pub use observing::{Audit, Observed, Observing, OfRun, Watched, digest_of};
pub use programs::{Entered, Maps, Otherwise, Programs};
pub use settle::{Fact, Settled};
pub use sources::entered_files;
pub use state::{Here, State, World};
pub use times::{now, remove_old, touch};
pub use words::ago;

use camino::{Utf8Path, Utf8PathBuf};

/// Returns the folder of stored inputs below a store of runs.
pub fn folder(store: &Utf8Path) -> Utf8PathBuf {
    store.join("reuse")
}
