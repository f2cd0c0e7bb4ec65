//! Programs that tests run: supervised to the last descendant, with metrics read from their output, and
//! checked.
//!
//! ```
//! use harness_payload::{Check, Format, Payload};
//!
//! const COUNTER: Payload = Payload::new("counter", "sh")
//!     .args(&["-c", "echo lines=3; sleep 1000 &"])
//!     .format(Format::KeyValue)
//!     .checks(&[Check::min("lines", 1.0)]);
//!
//! # fn main() -> Result<(), harness_payload::Error> {
//! let report = COUNTER.invoke().run()?;
//! report.assert_passed();
//! // The program ended and left another one behind. It is gone.
//! assert_eq!(report.left_behind.len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! - A [`Payload`] describes a program: a constant of the test suite.
//! - An [`Invocation`] is one start of it. [`run`](Invocation::run) waits for its end,
//!   [`spawn`](Invocation::spawn) returns while it runs.
//! - [`Running`] is a program that runs. When it is dropped, such as by a panic, the program is killed with
//!   all its descendants. When the test process itself is killed, so are they.
//! - A [`Report`] has how it ended, what it printed, its [metrics](Metric), and all [checks](Check) that
//!   failed.
//!
//! # Supervision
//!
//! Between the test and its program there is a small process, the guardian. It is the parent of the program
//! and the subreaper of what descends from it, so a daemon that forks twice and calls setsid(2) is still
//! its own. When the program ends, runs out of time or loses its test, the guardian kills its process group
//! and then every descendant, and reaps them. Only then are the streams read to their ends, which no
//! process can hold open any more. The test process itself does not become a subreaper, and its handling of
//! SIGCHLD does not matter.
//!
//! It works the same under `cargo test`, cargo-nextest and `cargo harness`. The last one keeps the metrics with
//! the result of the test: it names a file for them by [`METRICS_FILE`].
//!
//! # Nothing is forgotten
//!
//! The compiler warns of an invocation that is not started, of a handle that is dropped at once, and of a report that
//! no test looks at:
//!
//! ```compile_fail
//! #![deny(unused_must_use)]
//! harness_payload::Payload::new("true", "true").invoke();
//! ```
//!
//! ```compile_fail
//! #![deny(unused_must_use)]
//! harness_payload::Payload::new("true", "true").invoke().spawn().unwrap();
//! ```
//!
//! ```compile_fail
//! #![deny(unused_must_use)]
//! harness_payload::Payload::new("true", "true").invoke().run().unwrap();
//! ```
//!
//! ```
//! #![deny(unused_must_use)]
//! harness_payload::Payload::new("true", "true").invoke().run().unwrap().assert_passed();
//! ```
//!
//! The library is Linux's alone.

mod check;
mod error;
mod guardian;
mod invocation;
mod metric;
mod output;
mod payload;
mod report;
mod runner;
mod running;
mod status;
mod supervise;
mod sys;

pub use check::{Check, Failure};
pub use error::Error;
pub use invocation::{GRACE, Invocation, Limits, Stdin};
pub use metric::{Expected, Format, MOST_METRICS, Metric, Polarity, Reader, Stream};
pub use output::{MOST_KEPT, Output};
pub use payload::{Kind, Payload};
pub use report::{LeftBehind, Report, Usage};
pub use runner::{METRICS_FILE, record};
pub use running::Running;
pub use status::Status;
