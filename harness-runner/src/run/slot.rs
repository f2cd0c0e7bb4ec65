//! A slot: what outlives the attempts that are made in it, one after the other.

mod idle;
mod lost;
mod messages;
mod stub;
mod traces;
mod watched;

pub(super) use lost::watch_over;
pub(super) use messages::{Broken, Described, FromSlot, Made, PassedOn, Spoken, Start, ToSlot};
pub(super) use watched::{WatchedStub, runner_stopped};

use super::bounds::Bounds;
use crate::{protocol::Ticket, stub::link::Stub};
use std::{fs::File, io};
use stub::SlotStub;
use tokio::sync::mpsc;
use traces::Traces;

/// A slot.
pub(super) struct Slot {
    pub(super) number: usize,
    pub(super) stub: SlotStub,
    /// After the stub, which is gone before what it was in is removed.
    pub(super) bounds: Bounds,
    pub(super) traces: Traces,
    /// The buffer for output.
    pub(super) buffer: Vec<u8>,
    pub(super) orders: mpsc::UnboundedReceiver<ToSlot>,
    tell: mpsc::UnboundedSender<FromSlot>,
    last_ticket: Ticket,
    pub(super) null: Null,
    /// The number of the attempt whose descendants live on in the stub.
    pub(super) lingering: Option<Ticket>,
}

/// The ends of a slot's channels.
pub(super) struct Mail {
    pub(super) orders: mpsc::UnboundedReceiver<ToSlot>,
    pub(super) tell: mpsc::UnboundedSender<FromSlot>,
}

impl Slot {
    /// A slot that may have a stub already.
    pub(super) fn new(number: usize, stub: Option<Stub>, mail: Mail) -> Self {
        Self {
            number,
            stub: SlotStub::new(stub),
            bounds: Bounds::default(),
            traces: Traces::default(),
            buffer: Vec::new(),
            orders: mail.orders,
            tell: mail.tell,
            last_ticket: 0,
            null: Null::default(),
            lingering: None,
        }
    }

    /// Returns a number that no attempt has had before.
    pub(super) fn next_ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// Tells the dispatcher something. It does not listen any more if the run has been abandoned.
    pub(super) fn tell(&self, message: FromSlot) {
        let _ = self.tell.send(message);
    }
}

/// `/dev/null`, opened when it is first needed.
#[derive(Default)]
pub(super) struct Null(Option<File>);

impl Null {
    pub(super) fn open(&mut self) -> io::Result<&File> {
        match &mut self.0 {
            Some(null) => Ok(null),
            none => Ok(none.insert(File::open("/dev/null")?)),
        }
    }
}
