//! The cgroups of a slot: the one that its next attempt runs in, and the limits that were hit.

use crate::{
    protocol::{self, Escape},
    stub::cgroup::{CgroupError, Cgroups, Group},
};
use harness_metadata::{LimitHit, Limits, Usage};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The interval for checking whether an attempt with `pids-max` was refused processes: cgroups of
/// version 1 send no notification.
const LOOK: Duration = Duration::from_millis(100);

/// The cgroups of a slot.
#[derive(Default)]
pub(super) struct Bounds {
    /// For attempts without limits, one after the other: to make and remove one takes 0.1 ms, and
    /// the kernel keeps what is left of it in its caches.
    shared: Option<Group>,
    /// Of the attempt that has limits.
    limited: Option<Group>,
    unified: Vec<u8>,
    tasks: Vec<u8>,
    /// True if everything in it has been killed, so that no process can start in it any more.
    spoiled: bool,
    /// When to look next whether the attempt has been refused processes; `None` for never.
    look: Option<Instant>,
}

impl Bounds {
    /// Sets up what an attempt is to be born into. `name` is none that this run has had before.
    pub(super) fn begin(
        &mut self,
        cgroups: Option<&Cgroups>,
        name: &str,
        limits: Limits,
    ) -> Result<(), CgroupError> {
        self.unified.clear();
        self.tasks.clear();
        let Some(cgroups) = cgroups else {
            return Ok(());
        };
        self.limited = cgroups.limited(name, limits)?;
        if self.limited.is_none() && self.shared.is_none() {
            self.shared = cgroups.shared(name);
        }
        if let Some(group) = self.limited.as_mut().or(self.shared.as_mut()) {
            group.begin();
            self.unified = group.unified();
            self.tasks = group.tasks();
        }
        let counts = self.limited.is_some() && limits.pids_max.is_some();
        self.look = counts.then(|| Instant::now() + LOOK);
        Ok(())
    }

    /// The part of it that a stub gets.
    pub(super) fn cgroup(&self) -> protocol::Cgroup<'_> {
        protocol::Cgroup {
            unified: &self.unified,
            tasks: &self.tasks,
            limited: self.limited.is_some(),
        }
    }

    /// Waits until the attempt has been refused processes.
    pub(super) async fn refused(&mut self) {
        while let (Some(look), Some(group)) = (self.look, &self.limited) {
            sleep_until(look).await;
            let refused = group.has_been_refused();
            // Once is enough.
            self.look = (!refused).then(|| Instant::now() + LOOK);
            if refused {
                return;
            }
        }
        std::future::pending().await
    }

    /// Ends with an attempt that is over. Adds to what is known of its use, and returns which limits
    /// it hit, and by what they did not hold, `escapes` included. A stub that was `lost` may have removed
    /// the group.
    pub(super) fn end(
        &mut self,
        usage: &mut Usage,
        escapes: Vec<Escape>,
        lost: bool,
    ) -> Vec<LimitHit> {
        self.look = None;
        if let Some(group) = self.limited.as_ref().or(self.shared.as_ref()) {
            group.add_usage(usage);
        }
        if std::mem::take(&mut self.spoiled) {
            self.shared = None;
        }
        let Some(limited) = self.limited.take() else {
            return Vec::new();
        };
        let mut limits = limited.hits();
        if !lost {
            limits.extend(limited.changed());
        }
        for escape in escapes {
            // What a file may have been opened for is of no interest if that is known.
            let vague = matches!(escape, Escape::Opened { .. });
            if !vague || !limits.iter().any(LimitHit::escaped) {
                limits.push(escape.into());
            }
        }
        limits
    }

    /// To be called when the stub is asked to kill all that is in it: there are kernels (seen with 6.18)
    /// that kill every child from then on that is created into such a group.
    pub(super) fn spoil(&mut self) {
        self.spoiled = true;
    }

    /// Kills what is left of an attempt that its stub could not end.
    pub(super) fn kill(&mut self) {
        if let Some(group) = self.limited.as_ref().or(self.shared.as_ref()) {
            group.kill();
        }
        // What the kernel keeps would be in the next attempt's.
        self.shared = None;
    }
}
