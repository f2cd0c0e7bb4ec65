//! A cgroup as the stub sees whose attempt is born into it.

use super::{files, inside::Inside};
use crate::{
    protocol::{self, Escape},
    sys::{Pid, SEPARATE},
};
use harness_metadata::TraceEvent;
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

/// A cgroup that attempts are born into.
#[derive(Debug)]
pub(crate) struct Den {
    unified: Option<(PathBuf, File)>,
    tasks: Vec<(PathBuf, File)>,
    /// If it has limits.
    inside: Option<Inside>,
    /// As it was asked for.
    asked: (Vec<u8>, Vec<u8>),
}

impl Den {
    /// Opens it. `None` if there is to be none.
    pub(crate) fn open(asked: &protocol::Cgroup<'_>) -> io::Result<Option<Self>> {
        let unified = match paths(asked.unified).next() {
            Some(path) => Some((path.to_owned(), File::open(path)?)),
            None => None,
        };
        let tasks = paths(asked.tasks).take(SEPARATE).map(|path| {
            let file = File::options().write(true).open(path)?;
            Ok((path.to_owned(), file))
        });
        let tasks = tasks.collect::<io::Result<Vec<_>>>()?;
        if unified.is_none() && tasks.is_empty() {
            return Ok(None);
        }
        let mut den = Self {
            unified,
            tasks,
            inside: None,
            asked: (asked.unified.to_vec(), asked.tasks.to_vec()),
        };
        den.inside =
            (asked.limited).then(|| Inside::new(den.folders().map(Path::to_owned).collect()));
        Ok(Some(den))
    }

    /// Returns whether it has limits.
    pub(crate) fn is_limited(&self) -> bool {
        self.inside.is_some()
    }

    /// Returns where a process or thread of this root is, if it has left a group that has limits.
    pub(crate) fn left_by(&self, pid: Pid, root: Pid) -> Option<Escape> {
        self.inside.as_ref()?.left_by(pid, root)
    }

    /// As [`Self::left_by`], of any thread of a process.
    pub(crate) fn left_by_any_of(&self, process: Pid, root: Pid) -> Option<Escape> {
        self.inside.as_ref()?.left_by_any_of(process, root)
    }

    /// Returns whether an event shows by what a group that has limits can be left or changed.
    pub(crate) fn opened_by(&self, event: &TraceEvent) -> Option<Escape> {
        self.inside.as_ref()?.opened_by(event)
    }

    /// Whether this is the one that is asked for.
    pub(crate) fn is(&self, asked: &protocol::Cgroup<'_>) -> bool {
        (&*self.asked.0, &*self.asked.1) == (asked.unified, asked.tasks)
    }

    /// The folder that a child is born into.
    pub(crate) fn unified(&self) -> Option<RawFd> {
        self.unified.as_ref().map(|(_, folder)| folder.as_raw_fd())
    }

    /// The files by which a child joins the others.
    pub(crate) fn tasks(&self) -> [Option<RawFd>; SEPARATE] {
        let mut fds = [None; SEPARATE];
        for (fd, (_, file)) in fds.iter_mut().zip(&self.tasks) {
            *fd = Some(file.as_raw_fd());
        }
        fds
    }

    /// Kills all that is in it.
    pub(crate) fn kill(&self) {
        self.folders().for_each(files::kill);
    }

    /// Returns the processes in it and below.
    pub(crate) fn alive(&self) -> BTreeSet<Pid> {
        let below = self.folders().flat_map(files::folders);
        let mut alive: BTreeSet<_> = below.flat_map(|below| files::processes(&below)).collect();
        alive.extend(self.folders().flat_map(files::processes));
        // One of another pid namespace.
        alive.remove(&0);
        alive
    }

    /// Removes it if it is empty, and that of the run if that is empty and `of_run` is set.
    pub(crate) fn remove(&self, of_run: bool) {
        for folder in self.folders() {
            for below in files::folders(folder).iter().rev() {
                let _ = fs::remove_dir(below);
            }
            let _ = fs::remove_dir(folder);
            if of_run {
                let _ = folder.parent().map(fs::remove_dir);
            }
        }
    }

    fn folders(&self) -> impl Iterator<Item = &Path> {
        let unified = self.unified.iter().map(|(path, _)| path.as_path());
        unified.chain(self.tasks.iter().filter_map(|(path, _)| path.parent()))
    }
}

fn paths(terminated: &[u8]) -> impl Iterator<Item = &Path> {
    let paths = terminated
        .split(|byte| *byte == 0)
        .filter(|path| !path.is_empty());
    paths.map(|path| Path::new(OsStr::from_bytes(path)))
}
