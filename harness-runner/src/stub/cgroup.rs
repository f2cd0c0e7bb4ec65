//! The cgroups of a run: one per slot, in which one attempt after the other runs, and one for each
//! attempt that has limits. They are below one of the run, whose name says whose it is.
//!
//! The runner makes and removes them, sets limits and reads counters: [`Cgroups`] and [`Group`]. A
//! stub has attempts born into them, finds processes in them, and kills by them: `Den`. Whatever
//! a stub or a runner that was killed has left, the next run kills and removes.
//!
//! A group is in the hierarchy of version 2, if there is one, and in those of version 1 that have
//! a controller which that one lacks, if a limit needs it. See cgroups(7).

mod available;
mod den;
mod files;
mod group;
mod inside;
mod mounts;
mod stale;

pub use available::available_memory;
pub(crate) use den::Den;
pub use group::{CgroupError, Group};

use super::sys;
use crate::{proc, report::less};
use files::Version;
use harness_metadata::{LimitKind, Limits};
use mounts::Mounts;
use nix::errno::Errno;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, Instant},
};

/// The time limit for the processes of a removed group to end.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// The interval for checking that.
const POLL: Duration = Duration::from_millis(1);

/// Below which the runner itself goes, if the group that it is in has to be without processes.
const RUNNER: &str = "runner";

/// The cgroups of a run. Removed, with all that is in them, when this is dropped.
#[derive(Debug)]
pub struct Cgroups {
    /// The run's cgroup in the hierarchy of version 2.
    unified: Option<PathBuf>,
    /// The available controllers.
    unified_limits: BTreeSet<LimitKind>,
    /// Those of the run in hierarchies of version 1.
    separate: BTreeMap<LimitKind, PathBuf>,
    /// The former cgroup of this process, if it had to move.
    moved_from: Option<PathBuf>,
}

/// The result of making the cgroups of a run.
#[derive(Debug, Default)]
pub struct Made {
    /// They; `None` if there can be none.
    pub cgroups: Option<Cgroups>,
    /// The limits that are unavailable, with the reasons.
    pub missing: BTreeMap<LimitKind, String>,
}

impl Cgroups {
    /// Makes the cgroups of this run, in which these limits are to be had.
    ///
    /// An unavailable limit has no substitute: a limit of address space (RLIMIT_AS) is none of
    /// memory, RLIMIT_NPROC counts all processes of the user, and there is none of CPUs.
    pub fn make(wanted: &BTreeSet<LimitKind>) -> Made {
        let Some(name) = stale::own_name() else {
            let why = proc::mounted().lacks().map(|why| less::missing(&why));
            let why = why.as_deref().unwrap_or("/proc does not show this process");
            return Made::nothing(wanted, why);
        };
        let mounts = Mounts::read();
        let mut cgroups = Self {
            unified: None,
            unified_limits: BTreeSet::new(),
            separate: BTreeMap::new(),
            moved_from: None,
        };
        let mut why = BTreeMap::new();
        let elsewhere = |kind: &LimitKind| mounts.separate(*kind).is_some();
        let of_unified: BTreeSet<_> = wanted.iter().copied().filter(|k| !elsewhere(k)).collect();
        for base in mounts.unified() {
            let refused = match cgroups.unify(&base, &name, &of_unified) {
                Ok(refused) => refused,
                Err(error) => error,
            };
            let all = of_unified.is_subset(&cgroups.unified_limits);
            if cgroups.unified.is_some() && all {
                break;
            }
            for kind in of_unified.difference(&cgroups.unified_limits) {
                why.entry(*kind).or_insert_with(|| refused.clone());
            }
        }
        for kind in wanted.difference(&cgroups.unified_limits.clone()) {
            let Some(base) = mounts.separate(*kind) else {
                continue;
            };
            match make_below(&base, &name) {
                Ok(own) => drop(cgroups.separate.insert(*kind, own)),
                Err(error) => drop(why.insert(*kind, refusal(&base, &error))),
            }
        }
        let no_mount = "no file system of cgroups with a controller for it is mounted";
        let missing = wanted.iter().filter(|kind| !cgroups.has(**kind));
        let missing = missing.map(|kind| {
            let why = why.remove(kind).unwrap_or_else(|| no_mount.to_owned());
            (*kind, why)
        });
        let missing = missing.collect();
        let any = cgroups.unified.is_some() || !cgroups.separate.is_empty();
        Made {
            cgroups: any.then_some(cgroups),
            missing,
        }
    }

    /// Makes the run's group below `base`, unless one elsewhere is as good. Returns what is to be
    /// said of controllers that are not there.
    ///
    /// # Errors
    ///
    /// The reason why there can be none.
    fn unify(
        &mut self,
        base: &Path,
        name: &str,
        wanted: &BTreeSet<LimitKind>,
    ) -> Result<String, String> {
        let own = make_below(base, name).map_err(|error| refusal(base, &error))?;
        let born = fs::File::open(&own)
            .map_err(|error| refusal(base, &error))
            .and_then(|own| {
                sys::can_be_born_into(&own).map_err(|errno| {
                    format!("no process can be put into a cgroup: {}", errno.desc())
                })
            });
        if let Err(error) = born {
            let _ = fs::remove_dir(&own);
            return Err(error);
        }
        let mut refused = format!("the cgroup `{}` has no controller for it", base.display());
        if let Err(error) = self.enable(base, &own, wanted) {
            refused = error;
        }
        let offered = files::enabled(&own);
        let better =
            offered.intersection(wanted).count() > self.unified_limits.intersection(wanted).count();
        if self.unified.is_none() || better {
            if let Some(before) = self.unified.replace(own) {
                let _ = fs::remove_dir(before);
            }
            self.unified_limits = offered;
        } else {
            let _ = fs::remove_dir(own);
        }
        Ok(refused)
    }

    /// Has the controllers that are wanted, and those that cost nothing, in the groups below `own`.
    ///
    /// # Errors
    ///
    /// The reason why some of the wanted ones are missing.
    fn enable(
        &mut self,
        base: &Path,
        own: &Path,
        wanted: &BTreeSet<LimitKind>,
    ) -> Result<(), String> {
        let there = files::enabled(base);
        let available = files::available(base);
        let mut result = Ok(());
        for kind in wanted.iter().filter(|kind| available.contains(kind)) {
            if there.contains(kind) {
                continue;
            }
            let enabled = match files::enable(base, *kind) {
                // A group with processes of its own cannot share out what it has (cgroups(7), "no
                // internal processes").
                Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => self
                    .make_room(base, own)
                    .and_then(|()| files::enable(base, *kind).map_err(|e| refusal(base, &e))),
                enabled => enabled.map_err(|error| refusal(base, &error)),
            };
            result = result.and(enabled);
        }
        // CPU time is shared out differently once that controller is on.
        let free = [LimitKind::Memory, LimitKind::Pids];
        for kind in files::available(own) {
            if wanted.contains(&kind) || free.contains(&kind) {
                let enabled = files::enable(own, kind).map_err(|error| refusal(own, &error));
                result = result.and(enabled);
            }
        }
        result
    }

    /// Moves this run's processes out of `base`, if there are no others.
    fn make_room(&mut self, base: &Path, own: &Path) -> Result<(), String> {
        let inside = files::processes(base);
        let ours = super::link::own_processes();
        if let Some(stranger) = inside.iter().find(|pid| !ours.contains(pid)) {
            return Err(format!(
                "the cgroup `{}` cannot share out what it has while others are in it, such as pid \
                 {stranger}",
                base.display()
            ));
        }
        let room = own.join(RUNNER);
        let moved = fs::create_dir(&room)
            .and_then(|()| inside.iter().try_for_each(|pid| files::enter(&room, *pid)));
        self.moved_from = Some(base.to_owned());
        moved.map_err(|error| refusal(&room, &error))
    }

    fn has(&self, kind: LimitKind) -> bool {
        self.unified_limits.contains(&kind) || self.separate.contains_key(&kind)
    }

    /// The folder of a limit's files.
    fn place(&self, kind: LimitKind) -> Option<(Version, &Path)> {
        match (&self.unified, self.separate.get(&kind)) {
            (Some(own), _) if self.unified_limits.contains(&kind) => Some((Version::Two, own)),
            (_, Some(own)) => Some((Version::One, own)),
            _ => None,
        }
    }

    /// Makes the group of a slot, for attempts without limits. `None` if there can be none, which
    /// costs no test anything.
    pub fn shared(&self, name: &str) -> Option<Group> {
        Group::new(self, name, Limits::default()).ok().flatten()
    }

    /// Makes the group of an attempt with limits. `None` if none of them can be had.
    ///
    /// # Errors
    ///
    /// When one cannot be set that the system has.
    pub fn limited(&self, name: &str, limits: Limits) -> Result<Option<Group>, CgroupError> {
        if limits.kinds().any(|kind| self.has(kind)) {
            Group::new(self, name, limits)
        } else {
            Ok(None)
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        if let (Some(base), Some(own)) = (&self.moved_from, &self.unified) {
            // Back, or the group could not be removed; which `base` allows only if it shares out
            // nothing.
            for kind in files::enabled(own) {
                let _ = files::disable(own, kind);
            }
            for kind in files::enabled(base) {
                let _ = files::disable(base, kind);
            }
            let _ = files::enter(base, process::id().cast_signed());
        }
        for own in self.unified.iter().chain(self.separate.values()) {
            remove_all(own);
        }
    }
}

impl Made {
    fn nothing(wanted: &BTreeSet<LimitKind>, why: &str) -> Self {
        Self {
            cgroups: None,
            missing: wanted.iter().map(|kind| (*kind, why.to_owned())).collect(),
        }
    }

    /// Returns which limits cannot be had and why, as a sentence fragment.
    pub fn not_enforced(&self) -> Option<String> {
        let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (kind, why) in &self.missing {
            by_reason.entry(why).or_default().push(kind.key());
        }
        let told = by_reason.iter().map(|(why, keys)| {
            let verb = if keys.len() == 1 { "is" } else { "are" };
            format!("{} {verb} not enforced: {why}", keys.join(" and "))
        });
        let told: Vec<_> = told.collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

/// Makes a group of the run, and removes those of runs that are gone.
fn make_below(base: &Path, name: &str) -> io::Result<PathBuf> {
    stale::remove(base);
    let own = base.join(name);
    fs::create_dir(&own)?;
    Ok(own)
}

fn refusal(place: &Path, error: &io::Error) -> String {
    let why = match error.raw_os_error() {
        Some(errno) => Errno::from_raw(errno).desc().to_owned(),
        None => error.to_string(),
    };
    format!("no cgroup can be used below `{}`: {why}", place.display())
}

/// Kills what is in a group and below, and removes it all. Gives up after a while: the next run
/// tries again.
fn remove_all(group: &Path) {
    let deadline = Instant::now() + GONE_WITHIN;
    loop {
        let below = files::folders(group);
        // The lower ones are in the later half of the list.
        for folder in below.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
        if fs::remove_dir(group).is_ok() || !group.exists() || Instant::now() >= deadline {
            return;
        }
        files::kill(group);
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests;
