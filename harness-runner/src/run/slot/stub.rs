//! The stub of a slot: started when it is needed, replaced when it is lost.

use super::WatchedStub;
use crate::{
    protocol::Request,
    stub::link::{Stub, StubError},
};
use std::{io, os::fd::BorrowedFd};

/// The stub of a slot.
pub(in crate::run) struct SlotStub {
    /// `None` before the first attempt and after a fault.
    current: Option<WatchedStub>,
    /// One that has been started already.
    spare: Option<Stub>,
    /// The last request to it.
    asked: &'static str,
}

impl SlotStub {
    pub(super) fn new(spare: Option<Stub>) -> Self {
        Self {
            current: None,
            spare,
            asked: "",
        }
    }

    pub(in crate::run) fn current(&self) -> Option<&WatchedStub> {
        self.current.as_ref()
    }

    pub(super) fn take(&mut self) -> Option<WatchedStub> {
        self.current.take()
    }

    /// The last request to it.
    pub(in crate::run) fn asked(&self) -> &'static str {
        self.asked
    }

    /// Has an attempt started, by another stub if this one is gone.
    pub(in crate::run) fn start(
        &mut self,
        request: &Request<'_>,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), StubError> {
        self.asked = "start the test";
        let stub = match &self.current {
            Some(stub) => stub,
            None => {
                let stub = match self.spare.take() {
                    Some(stub) => stub,
                    None => Stub::launch()?,
                };
                self.current.insert(WatchedStub::new(stub)?)
            }
        };
        match stub.stub.send(request, fds) {
            Err(StubError::Talk { source }) if source.kind() == io::ErrorKind::BrokenPipe => {
                // Killed while it had nothing to do: no test need suffer from that.
                self.current = None;
                let fresh = WatchedStub::new(Stub::launch()?)?;
                self.current.insert(fresh).stub.send(request, fds)
            }
            result => result,
        }
    }

    /// Says something to the stub. If it is gone, that is heard from its socket.
    pub(in crate::run) fn ask(&mut self, request: &Request<'_>, asked: &'static str) {
        self.asked = asked;
        if let Some(stub) = &self.current {
            stub.stub.wake();
            let _ = stub.stub.send(request, &[]);
        }
    }
}
