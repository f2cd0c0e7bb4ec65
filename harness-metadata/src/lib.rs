#![doc = include_str!("../README.md")]

pub mod budget;
pub mod event;
pub mod exit_code;
pub mod id;
pub mod level;
pub mod limit;
pub mod location;
pub mod machine;
pub mod measure;
pub mod metric;
pub mod noise;
pub mod outcome;
pub mod policy;
pub mod raw;
pub mod remote;
#[cfg(test)]
mod schema;
pub mod seconds;
pub mod stats;
pub mod trace;
pub mod usage;
pub mod word;

pub use budget::BudgetFinding;
pub use event::{Event, EventKind};
pub use id::{AttemptId, RunId, TestId};
pub use level::{DurationsBy, FinalStatusLevel, ReportSkipped, StatusLevel};
pub use limit::{Cpus, LimitHit, LimitKind, Limits};
pub use location::Location;
pub use machine::Machine;
pub use measure::{Measure, MeasureUnit, Measured};
pub use metric::{Metric, Metrics, Polarity};
pub use nextest_metadata::{RustBinaryId, TestCaseName};
pub use outcome::{
    Attempt, Exit, Fault, Interruption, Leak, NoResult, NoResultKind, Outcome, Quarantine,
    StartFailure, Survivor, Verdict,
};
pub use policy::{PolicyMode, Violation, Violations};
pub use raw::RawString;
pub use remote::Remote;
pub use stats::RunStats;
pub use trace::{TraceEvent, TraceEventKind, TraceSummary};
pub use usage::Usage;
pub use word::{UnknownWord, Word};
