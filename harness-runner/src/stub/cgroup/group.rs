//! One cgroup: its limits, its counters, its end.

use super::{
    Cgroups,
    files::{self, CpuTime, Setting, Version},
    remove_all,
};
use harness_metadata::{LimitHit, LimitKind, Limits, Usage};
use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::{ffi::OsStringExt, fs::FileExt},
    path::{Path, PathBuf},
    time::Duration,
};
use thiserror::Error;

/// An error of setting a limit.
#[derive(Debug, Error)]
#[error("its {key} could not be set in the cgroup `{group}`")]
pub struct CgroupError {
    key: &'static str,
    group: String,
    /// The reason.
    pub source: io::Error,
}

/// A group, of one attempt or of one attempt after the other. Removed, with all that is in it, when
/// this is dropped.
#[derive(Debug)]
pub struct Group {
    unified: Option<PathBuf>,
    cpu_time: Option<CpuTime>,
    /// For each limit that it has: where its files are.
    limited: Vec<(LimitKind, Version, PathBuf)>,
    limits: Limits,
    /// The limits as the kernel has them, each with its folder.
    set: Vec<(LimitKind, PathBuf, Setting)>,
    peak: Option<Peak>,
    /// Whether there was an attempt in it.
    used: bool,
    /// The usage of earlier attempts.
    before: (Duration, Duration),
}

/// The most memory that there was.
#[derive(Debug)]
struct Peak {
    file: File,
    /// Whether it can be made to begin again, through the same descriptor (Linux 6.12).
    known: bool,
}

impl Group {
    pub(super) fn new(
        cgroups: &Cgroups,
        name: &str,
        limits: Limits,
    ) -> Result<Option<Self>, CgroupError> {
        let unified = cgroups.unified.as_ref().map(|run| run.join(name));
        let place = |kind| {
            let (version, run) = cgroups.place(kind)?;
            Some((kind, version, run.join(name)))
        };
        let mut group = Self {
            // What has been made of it is removed if the rest cannot be made.
            unified: None,
            cpu_time: None,
            limited: Vec::new(),
            limits,
            set: Vec::new(),
            peak: None,
            used: false,
            before: Default::default(),
        };
        if let Some(own) = &unified {
            match make(own) {
                Ok(()) => {
                    group.cpu_time = CpuTime::open(own).ok();
                    group.unified = unified;
                }
                Err(source) => return Err(group.error("cgroup", own, source)),
            }
        }
        for (kind, version, own) in limits.kinds().filter_map(place) {
            let limited = make(&own).and_then(|()| group.limit(kind, version, &own));
            group.limited.push((kind, version, own.clone()));
            let settings = limited.map_err(|source| group.error(kind.key(), &own, source))?;
            let settings = settings.into_iter();
            group
                .set
                .extend(settings.map(|setting| (kind, own.clone(), setting)));
        }
        let memory = place(LimitKind::Memory).filter(|(_, _, own)| own.exists());
        if let Some((_, version, own)) = memory {
            let file = own.join(files::peak_memory_file(version));
            let file = File::options().read(true).write(true).open(&file);
            let file = file.or_else(|_| File::open(own.join(files::peak_memory_file(version))));
            group.peak = file.ok().map(|file| Peak { file, known: true });
        }
        let somewhere = group.unified.is_some() || !group.limited.is_empty();
        Ok(somewhere.then_some(group))
    }

    fn limit(&self, kind: LimitKind, version: Version, own: &Path) -> io::Result<Vec<Setting>> {
        match (kind, self.limits) {
            (
                LimitKind::Memory,
                Limits {
                    memory_max: Some(bytes),
                    ..
                },
            ) => files::limit_memory(version, own, bytes),
            (
                LimitKind::Pids,
                Limits {
                    pids_max: Some(pids),
                    ..
                },
            ) => files::limit_pids(own, pids),
            (
                LimitKind::Cpu,
                Limits {
                    cpu_max: Some(cpus),
                    ..
                },
            ) => files::limit_cpu(version, own, cpus),
            _ => Ok(Vec::new()),
        }
    }

    fn error(&self, key: &'static str, own: &Path, source: io::Error) -> CgroupError {
        CgroupError {
            key,
            group: own.display().to_string(),
            source,
        }
    }

    /// Has counters begin again, as far as they can, for the next attempt in it.
    pub fn begin(&mut self) {
        self.before = self.cpu_time();
        // Version 2 has had no way to do it before Linux 6.12.
        if std::mem::replace(&mut self.used, true)
            && let Some(peak) = &mut self.peak
        {
            peak.known = peak.file.write_all_at(b"0", 0).is_ok();
        }
    }

    /// Whether it is of one attempt only.
    pub fn is_limited(&self) -> bool {
        !self.limited.is_empty()
    }

    /// For a stub: the folder in the hierarchy of version 2, ended by NUL; empty for none.
    pub fn unified(&self) -> Vec<u8> {
        self.unified.clone().map_or_else(Vec::new, terminated)
    }

    /// For a stub: the files of version 1 by which a process joins it, each ended by NUL.
    pub fn tasks(&self) -> Vec<u8> {
        let separate = self.limited.iter();
        let separate = separate.filter(|(_, version, _)| *version == Version::One);
        separate
            .flat_map(|(_, _, own)| terminated(own.join("tasks")))
            .collect()
    }

    /// Adds to what is known of an attempt's use.
    pub fn add_usage(&self, usage: &mut Usage) {
        let (user, system) = self.cpu_time();
        // Also of processes without a waiting parent.
        usage.user = usage.user.max(user.saturating_sub(self.before.0));
        usage.system = usage.system.max(system.saturating_sub(self.before.1));
        let peak = self.peak.as_ref().filter(|peak| peak.known);
        usage.peak_tree_memory = peak.and_then(|peak| {
            let mut text = [0; 32];
            let length = peak.file.read_at(&mut text, 0).ok()?;
            std::str::from_utf8(&text[..length])
                .ok()?
                .trim()
                .parse()
                .ok()
        });
        let cpu = self
            .limited
            .iter()
            .find(|(kind, ..)| *kind == LimitKind::Cpu);
        usage.throttled = cpu.map(|(_, version, own)| files::throttled(*version, own));
    }

    fn cpu_time(&self) -> (Duration, Duration) {
        let cpu_time = self.cpu_time.as_ref();
        cpu_time.and_then(CpuTime::read).unwrap_or_default()
    }

    /// Returns which limits have been hit. Only of a group that is of one attempt.
    pub fn hits(&self) -> Vec<LimitHit> {
        let hit = |(kind, version, own): &(LimitKind, Version, PathBuf)| match kind {
            LimitKind::Memory => {
                let killed = files::killed_for_memory(*version, own);
                let bytes = self.limits.memory_max?;
                (killed > 0).then_some(LimitHit::MemoryMax { bytes, killed })
            }
            LimitKind::Pids => {
                let refused = files::refused_tasks(own);
                let pids = self.limits.pids_max?;
                (refused > 0).then_some(LimitHit::PidsMax { pids, refused })
            }
            LimitKind::Cpu => None,
        };
        self.limited.iter().filter_map(hit).collect()
    }

    /// Returns which limits are not any more what they were set to. Only of a group that is of one
    /// attempt.
    pub fn changed(&self) -> Vec<LimitHit> {
        let changed = |(kind, own, setting): &(LimitKind, PathBuf, Setting)| {
            // A file that cannot be read is as good as none.
            let found = files::value(own, setting.file).ok();
            let changed = found.as_ref() != Some(&setting.value);
            changed.then(|| LimitHit::LimitChanged {
                kind: *kind,
                file: setting.file.to_owned(),
                wanted: setting.value.clone(),
                found,
            })
        };
        self.set.iter().filter_map(changed).collect()
    }

    /// Returns whether processes have been refused.
    pub fn has_been_refused(&self) -> bool {
        let pids = self
            .limited
            .iter()
            .find(|(kind, ..)| *kind == LimitKind::Pids);
        pids.is_some_and(|(_, _, own)| files::refused_tasks(own) > 0)
    }

    /// Kills all that is in it.
    pub fn kill(&self) {
        for own in self.folders() {
            files::kill(own);
        }
    }

    fn folders(&self) -> impl Iterator<Item = &Path> {
        let separate = self.limited.iter().map(|(_, _, own)| own.as_path());
        self.unified.iter().map(PathBuf::as_path).chain(separate)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for own in self.folders() {
            // As a rule it is empty by now.
            if fs::remove_dir(own).is_err() && own.exists() {
                remove_all(own);
            }
        }
    }
}

/// Limits of version 2 share one folder.
fn make(own: &Path) -> io::Result<()> {
    match fs::create_dir(own) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn terminated(path: PathBuf) -> Vec<u8> {
    let mut bytes = OsString::from(path).into_vec();
    bytes.push(0);
    bytes
}
