//! The choice of who reaps the dead among the children of this process: itself, or the kernel.
//!
//! The children of a killed stub come to the runner. If it multiplies, thousands have died before the runner
//! has so much as heard of it: without a privilege it gets a few hundredths of the CPU. So the kernel reaps them
//! from the start, and the dead never wait. Nothing depends on how a child of the runner ended.
//! The CPU time of a stub and its tests counts as that of the runner, which time(1) shows, only if the runner
//! reaps the stub. So it does that for stubs that it ends itself.

use super::sys::KernelReaps;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The reasons for one or the other.
#[derive(Debug)]
struct Reasons {
    /// The number of runs. A process has one.
    runs: usize,
    /// The number of stubs that are being ended.
    ending: usize,
    /// The number of kills of what stubs have left.
    killing: usize,
    kernel: Option<KernelReaps>,
}

impl Reasons {
    fn is_kernels(&self) -> bool {
        self.killing > 0 || self.runs > 0 && self.ending == 0
    }

    fn change(&mut self, of: Reason, change: impl FnOnce(usize) -> usize) {
        let count = match of {
            Reason::Run => &mut self.runs,
            Reason::Ending => &mut self.ending,
            Reason::Killing => &mut self.killing,
        };
        *count = change(*count);
        match self.is_kernels() {
            true if self.kernel.is_none() => self.kernel = Some(KernelReaps::begin()),
            true => {}
            false => self.kernel = None,
        }
    }
}

static REASONS: Mutex<Reasons> = Mutex::new(Reasons {
    runs: 0,
    ending: 0,
    killing: 0,
    kernel: None,
});

fn reasons() -> MutexGuard<'static, Reasons> {
    REASONS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Reason {
    Run,
    Ending,
    Killing,
}

/// A reason, while it lasts.
#[derive(Debug)]
#[must_use = "it lasts as long as this"]
pub struct Lasting(Reason);

impl Lasting {
    /// Tests run: the kernel reaps.
    pub(super) fn run() -> Self {
        Self::begin(Reason::Run)
    }

    /// A stub that lives is being ended: this process reaps.
    pub(super) fn ending() -> Self {
        Self::begin(Reason::Ending)
    }

    /// The remains of a stub are being killed: the kernel reaps, whatever else is done.
    pub(super) fn killing() -> Self {
        Self::begin(Reason::Killing)
    }

    fn begin(reason: Reason) -> Self {
        reasons().change(reason, |count| count + 1);
        Self(reason)
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        reasons().change(self.0, |count| count - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_reaps_while_tests_run_but_for_stubs_that_the_runner_ends() {
        let with = |runs, ending, killing| {
            let kernel = None;
            Reasons {
                runs,
                ending,
                killing,
                kernel,
            }
        };
        for (reasons, kernels) in [
            (with(0, 0, 0), false),
            (with(1, 0, 0), true),
            (with(1, 2, 0), false),
            (with(1, 2, 1), true),
            (with(0, 0, 1), true),
        ] {
            assert_eq!(reasons.is_kernels(), kernels, "{reasons:?}");
        }
    }
}
