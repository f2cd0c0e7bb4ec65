//! The places that a call names, before it is made.

use super::{Executing, Pending, Then};
use harness_metadata::TraceEventKind;

impl Pending {
    /// Returns the files, the program or the address that the call names.
    pub(in crate::tracer) fn places(&self) -> Vec<Vec<u8>> {
        match self.events.first() {
            Some(TraceEventKind::File(call)) => {
                let paths = std::iter::once(&call.path).chain(&call.to);
                paths.map(|path| path.path().as_bytes().to_vec()).collect()
            }
            Some(TraceEventKind::Exec(exec)) => vec![exec.program.path().as_bytes().to_vec()],
            Some(TraceEventKind::Network(call)) => {
                let address = call.address.iter();
                address.map(|it| it.to_string().into_bytes()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns what an exec is going to execute, as [`Task::look`](super::Task::look) is asked for it; `None` if that
    /// could not be read.
    pub fn program(&self) -> Option<(i32, &[u8])> {
        match &self.then {
            Then::Executed(Executing {
                directory, path, ..
            }) => Some((*directory, path.as_deref()?)),
            _ => None,
        }
    }
}
