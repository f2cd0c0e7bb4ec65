//! The tracer by itself: runs a command under it, in this process, and tells what it does.
//!
//! A run of tests has a process per slot for this, which also kills what is left over, is the
//! subreaper of orphans and keeps limits. Here is only the tracing: [`trace`] starts a command, hands
//! every [`TraceEvent`](harness_metadata::TraceEvent) to an [`Observer`], and returns when the command
//! and all of its descendants have ended.
//!
//! ```
//! use harness_metadata::{Exit, TraceEvent, TraceEventKind};
//! use harness_runner::trace::{Options, command, trace};
//!
//! let mut programs = Vec::new();
//! let mut observer = |event: &TraceEvent| {
//!     if let TraceEventKind::Exec(exec) = &event.kind {
//!         programs.push(exec.program.path().to_string());
//!     }
//! };
//! let command = command("/bin/sh", ["-c", "/bin/true; exit 3"])?;
//! let traced = trace(&command, Options::default(), &mut observer)?;
//! assert_eq!(traced.exit, Exit::Code(3));
//! assert_eq!(programs, ["/bin/sh", "/bin/true"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What a trace can say is in [`harness_metadata::trace`]; [`Recorder`] makes a bounded summary and a
//! file of it.

pub use crate::{
    protocol::{Command, Environment},
    stub::standalone::{Options, TraceError, Traced, command, trace},
    tracer::{
        Observer,
        record::{Loaded, Recorder},
    },
};
