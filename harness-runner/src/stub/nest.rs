//! A run within a test: what ties a stub to the runs in the tests that it traces, and to the tracer
//! of the test that its own run is part of.

use super::{
    broker::Broker,
    outer::{Outer, Subtree},
    sys::{self, Pid},
    watch::Way,
};
use crate::protocol::broker::VARIABLE;
use harness_metadata::{event::TraceLevel, trace::Backend};
use memchr::memmem;
use std::{
    borrow::Cow,
    cell::{OnceCell, RefCell},
    rc::Rc,
    time::Instant,
};

/// Both ends.
pub(super) struct Nest {
    /// The tracer around us.
    pub(super) outer: Option<Outer>,
    /// Made for the first test that is traced. `None` if that failed: runs in tests then do without.
    broker: OnceCell<Option<Rc<RefCell<Broker>>>>,
}

impl Nest {
    pub(super) fn new(outer: Option<Outer>) -> Self {
        Self {
            outer,
            broker: OnceCell::new(),
        }
    }

    /// Returns who tells runs in a test what they do, if we trace that test.
    pub(super) fn broker(&self, way: &Way) -> Option<Rc<RefCell<Broker>>> {
        if !matches!(way.backend, Backend::Ptrace | Backend::Lifecycle) {
            return None;
        }
        let new = || {
            let broker = Broker::new(sys::interrupt_waits_for).ok()?;
            Some(Rc::new(RefCell::new(broker)))
        };
        self.broker.get_or_init(new).clone()
    }

    /// Has a child that was created at `started`, and that waits, followed by the tracer around us.
    ///
    /// # Errors
    ///
    /// A sentence fragment that says why it is not.
    pub(super) fn follow(
        &mut self,
        root: Pid,
        started: Instant,
        level: TraceLevel,
    ) -> Result<Subtree, String> {
        match &mut self.outer {
            Some(outer) => outer.follow(root, started, level),
            None => Err("no other run traces this one".to_owned()),
        }
    }

    /// Returns the environment of a test, in which the tracer around it is named, and no other.
    pub(super) fn environment<'a>(
        &self,
        block: &'a [u8],
        broker: Option<&Rc<RefCell<Broker>>>,
    ) -> Cow<'a, [u8]> {
        match broker {
            Some(broker) => named(block, Some(broker.borrow().name())),
            // Our tracer traces the test too, and a run in it can ask for itself.
            None if self.outer.is_some() => Cow::Borrowed(block),
            None => named(block, None),
        }
    }
}

/// Returns an environment block with this name of a tracer's socket, or without any.
fn named<'a>(block: &'a [u8], name: Option<&str>) -> Cow<'a, [u8]> {
    let is_it = |variable: &[u8]| {
        let value = variable.strip_prefix(VARIABLE.as_bytes());
        value.is_some_and(|value| value.first() == Some(&b'='))
    };
    let mut changed = Cow::Borrowed(block);
    let variables = || block.split_inclusive(|byte| *byte == 0);
    // Nearly all blocks lack it, and a search for it is much quicker than a look at each variable.
    if memmem::find(block, VARIABLE.as_bytes()).is_some() && variables().any(is_it) {
        changed = Cow::Owned(
            variables()
                .filter(|v| !is_it(v))
                .collect::<Vec<_>>()
                .concat(),
        );
    }
    if let Some(name) = name {
        let block = changed.to_mut();
        block.extend_from_slice(format!("{VARIABLE}={name}\0").as_bytes());
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_finds_the_name_of_its_own_tracer_only() {
        const OTHER: &[u8] = b"A=1\0HARNESS_TRACE_BROKER=other\0HARNESS_TRACE_BROKERS=2\0";
        const NONE: &[u8] = b"A=1\0HARNESS_TRACE_BROKERS=2\0";
        assert_eq!(*named(OTHER, None), *NONE);
        assert_eq!(*named(NONE, None), *NONE);
        let own = [NONE, b"HARNESS_TRACE_BROKER=own\0"].concat();
        assert_eq!(*named(OTHER, Some("own")), *own);
        assert_eq!(*named(NONE, Some("own")), *own);
    }
}
