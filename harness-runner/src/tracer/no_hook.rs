//! For architectures on which a task cannot be made to install a filter: no loader has a hook.

use crate::sys::Tid;
use libc::sock_filter;
use nix::Result;

/// There is none.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hook {}

/// There is none.
#[derive(Clone, Debug)]
pub(crate) enum Trap {}

/// There is none.
pub(crate) struct Reached {
    pub(crate) done: bool,
    never: Trap,
}

/// There is none.
#[derive(Debug)]
pub(crate) enum Installing {}

impl Hook {
    pub(crate) fn find(_: &[u8]) -> Option<Self> {
        None
    }

    pub(crate) fn set(&self, _: Tid) -> Option<Trap> {
        match *self {}
    }
}

impl Trap {
    pub(crate) fn reached(&self, _: Tid) -> Option<Reached> {
        match *self {}
    }

    pub(crate) fn remove(&self, _: Tid) -> Result<()> {
        match *self {}
    }

    pub(crate) fn install(&self, _: Tid, _: &Reached, _: &[sock_filter]) -> Result<Installing> {
        match *self {}
    }

    pub(crate) fn installed(&self, _: Tid) -> Option<Result<()>> {
        match *self {}
    }
}

impl Reached {
    pub(crate) fn pass(&self, _: Tid) -> Result<()> {
        match self.never {}
    }
}

impl Installing {
    pub(crate) fn pass(&self, _: Tid) -> Result<()> {
        match *self {}
    }
}
