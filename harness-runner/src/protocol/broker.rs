//! The messages between the stub of a run within a test and the stub that traces that test.
//!
//! A task has one tracer (ptrace(2)). So a run that is itself traced asks the outer tracer to tell
//! it what its own tests do. The outer stub listens at an abstract unix socket whose name is in the
//! test's environment; one connection an inner stub, one message a packet, encoded with postcard.
//! Unlike a runner and its stubs, the two can be of different builds: hence the version.

use harness_metadata::{TraceEvent, event::TraceLevel};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The variable with the name of the socket, without its leading NUL.
pub const VARIABLE: &str = "HARNESS_TRACE_BROKER";

/// The version of these messages and of the events in them.
pub const VERSION: u32 = 1;

/// A message from an inner stub.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Am I traced by you? The first message.
    Hello {
        /// [`VERSION`].
        version: u32,
    },
    /// Tell me what this child of mine and its descendants do. It exists, waits, and will go on when
    /// this has been answered.
    Follow {
        /// The process.
        root: i32,
    },
}

/// A message from the outer stub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tell {
    /// The process is followed, or for [`Ask::Hello`] the inner stub is.
    Following {
        /// At this level, whatever was wanted.
        level: TraceLevel,
        /// The time now, since the outer attempt began.
        at: Duration,
    },
    /// It is not.
    Refused(String),
    /// Events, in order. Times are those of the outer attempt.
    Seen(Vec<TraceEvent>),
    /// The last of the subtree is gone.
    Gone {
        /// Events that could not be told, because the inner stub did not take them.
        lost: u64,
    },
}
