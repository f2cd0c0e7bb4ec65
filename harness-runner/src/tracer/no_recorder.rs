//! For architectures without a hook: every call stops.

use crate::sys::{Recording, Tgid, Tid, recorder::Record};
use std::time::Duration;

/// There is none.
#[derive(Debug)]
pub(crate) enum Recorder {}

/// As where there is a hook.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Consider {
    #[expect(dead_code)]
    Call,
    #[expect(dead_code)]
    Injected,
    #[expect(dead_code)]
    Again,
}

impl Recorder {
    pub(crate) fn new(_: Recording) -> Option<Self> {
        None
    }

    pub(super) fn verifies(&self) -> bool {
        match *self {}
    }

    pub(super) fn disable(&mut self) {
        match *self {}
    }

    pub(super) fn drain(&mut self, _: Duration) -> Vec<(Record, Duration)> {
        match *self {}
    }

    pub(super) fn abandon(
        &mut self,
        _: Duration,
        _: impl FnMut(Tid) -> bool,
    ) -> Vec<(Record, Duration)> {
        match *self {}
    }

    pub(super) fn consider(
        &mut self,
        _: (Tid, Tgid),
        _: u64,
        _: impl FnOnce() -> bool,
    ) -> Consider {
        match *self {}
    }

    pub(super) fn injects(&self, _: Tid) -> bool {
        match *self {}
    }

    pub(super) fn returned(&mut self, _: Tid, _: i64, _: impl FnOnce() -> bool) -> bool {
        match *self {}
    }

    pub(super) fn interrupt(&mut self, _: Tid) {
        match *self {}
    }

    pub(super) fn signalled(&mut self, _: Tid) -> Option<(Record, i64)> {
        match *self {}
    }

    pub(super) fn created(&mut self, _: Tgid, _: Tgid) {
        match *self {}
    }

    pub(super) fn forget(&mut self, _: Tgid) {
        match *self {}
    }

    pub(super) fn forget_thread(&mut self, _: Tid) {
        match *self {}
    }
}

pub(super) fn is_still(_: Tgid, _: Tid) -> bool {
    false
}
