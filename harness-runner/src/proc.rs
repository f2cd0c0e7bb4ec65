//! Reads files of proc(5), and decides whether its process ids are ours.
//!
//! Every path below the folder of a process is made here, by [`path`]: the ids in a /proc that was
//! mounted for another PID namespace are those of other processes.

pub(crate) mod maps;

use crate::sys::Pid;
use harness_metadata::trace;
use std::{
    ffi::{OsStr, OsString},
    fmt::Display,
    fs::{self, File},
    io::{self, Read},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::MetadataExt,
    },
    path::Path,
    sync::LazyLock,
};

/// The suffix that the kernel adds to the name of a removed file.
const REMOVED: &[u8] = b" (deleted)";

/// The kind of file system at /proc.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mounted {
    /// It knows processes by the ids that this process knows them by.
    Own,
    /// The /proc of another PID namespace (pid_namespaces(7)).
    Foreign,
    Missing,
}

impl Mounted {
    /// Decides by the link /proc/self and by /proc/self/status, whose `NSpid` has one id for each
    /// namespace from that of the mount down to that of the process. Before Linux 4.1 there is no
    /// `NSpid`.
    fn decide(link: Option<&str>, status: &[u8], own: Pid) -> Self {
        let Some(link) = link else {
            return Self::Missing;
        };
        let ids = field(status, "NSpid:").map_or(1, |ids| ids.split_whitespace().count());
        match link.parse() == Ok(own) && ids == 1 {
            true => Self::Own,
            false => Self::Foreign,
        }
    }

    fn look() -> Self {
        let own = nix::unistd::getpid().as_raw();
        let link = fs::read_link("/proc/self").ok();
        let status = read("/proc/self/status").unwrap_or_default();
        match Self::decide(link.as_ref().and_then(|link| link.to_str()), &status, own) {
            // A namespace that this process is not in, not even by another id, has no such link.
            Self::Missing if fs::symlink_metadata("/proc/self").is_ok() => Self::Foreign,
            mounted => mounted,
        }
    }

    /// Returns why processes cannot be looked at, if so.
    pub(crate) fn lacks(self) -> Option<trace::Missing> {
        match self {
            Self::Own => None,
            Self::Foreign => Some(trace::Missing::OwnProc),
            Self::Missing => Some(trace::Missing::Proc),
        }
    }
}

/// Returns what is mounted at /proc. Decided once for this process.
pub(crate) fn mounted() -> Mounted {
    static MOUNTED: LazyLock<Mounted> = LazyLock::new(Mounted::look);
    *MOUNTED
}

/// Returns the path of a file below the folder of a process or thread. There is nothing at that path
/// if /proc is not our own: no process has the id 0.
pub(crate) fn path(task: impl Into<Pid>, name: impl Display) -> String {
    let task = task.into();
    let task = if mounted() == Mounted::Own { task } else { 0 };
    format!("/proc/{task}/{name}")
}

/// As much as nearly all of them have.
const ROOM: usize = 8 * 1024;

/// Reads a whole file. It has no size that could be asked for, so there is room from the beginning.
pub(crate) fn read(path: &str) -> io::Result<Vec<u8>> {
    read_all(File::open(path)?)
}

/// As [`read`], for a file that is open.
pub(crate) fn read_all(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(ROOM);
    // A file alone would be asked for its size all the same.
    file.take(u64::MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns the children of all threads of a process (proc_pid_task_children(5)).
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    children_of_threads(&path(parent, "task"))
}

fn children_of_threads(folder: &str) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let lists = threads
        .flatten()
        .map(|thread| fs::read_to_string(thread.path().join("children")));
    lists
        .flatten()
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Returns the children of this process by the /proc of a PID namespace around its own, which has other
/// ids for them. `None` if it does not tell.
pub(crate) fn own_children_seen_from_outside() -> Option<Vec<Pid>> {
    let own = ids("self")?;
    let is_own = own.last() == Some(&nix::unistd::getpid().as_raw());
    if !is_own || !Path::new("/proc/thread-self/children").exists() {
        return None;
    }
    let outside = children_of_threads("/proc/self/task");
    let here = |child: &Pid| ids(&child.to_string())?.get(own.len() - 1).copied();
    outside.iter().map(here).collect()
}

/// Returns the ids of a process in the namespaces that it is in, the outermost first (NSpid of
/// proc_pid_status(5)).
fn ids(process: &str) -> Option<Vec<Pid>> {
    let status = read(&format!("/proc/{process}/status")).ok()?;
    let ids = field(&status, "NSpid:")?.split_whitespace();
    ids.map(|id| id.parse().ok()).collect()
}

/// Returns the value of a field of proc_pid_status(5), which is named with its colon.
pub(crate) fn field<'a>(status: &'a [u8], name: &str) -> Option<&'a str> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(name.as_bytes()))?;
    Some(str::from_utf8(value).ok()?.trim())
}

/// Returns the effective capabilities (capabilities(7)) that proc_pid_status(5) says.
pub(crate) fn effective_capabilities(status: &[u8]) -> Option<u64> {
    u64::from_str_radix(field(status, "CapEff:")?, 16).ok()
}

/// Returns what a link below the folder of a process or thread leads to, by its name: without the
/// remark that the file has been removed.
pub(crate) fn link(task: impl Into<Pid>, name: impl Display) -> Option<Vec<u8>> {
    let link = path(task, name);
    let target = nix::fcntl::readlink(link.as_str())
        .ok()
        .map(OsString::into_vec)?;
    let Some(name) = target.strip_suffix(REMOVED) else {
        return Some(target);
    };
    Some(match is_named(&link, &target) {
        true => target,
        false => name.to_vec(),
    })
}

/// Returns whether what a link leads to has this very name.
fn is_named(link: &str, name: &[u8]) -> bool {
    let Ok(file) = fs::metadata(link) else {
        return false;
    };
    match fs::symlink_metadata(OsStr::from_bytes(name)) {
        Ok(named) => (named.dev(), named.ino()) == (file.dev(), file.ino()),
        // It may be in another mount namespace. A directory that was removed has no links.
        Err(_) => file.is_dir() && file.nlink() > 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn only_a_proc_that_knows_us_by_our_own_id_and_by_no_other_is_ours() {
        let decide = |link, status: &[u8]| Mounted::decide(link, status, 2);
        assert_eq!(decide(Some("2"), b"Pid:\t2\nNSpid:\t2\n"), Mounted::Own);
        assert_eq!(decide(Some("2"), b"Pid:\t2\n"), Mounted::Own, "before 4.1");
        let outer = b"Pid:\t4711\nNSpid:\t4711\t2\n";
        assert_eq!(decide(Some("4711"), outer), Mounted::Foreign);
        let by_chance = b"Pid:\t2\nNSpid:\t2\t2\n";
        assert_eq!(decide(Some("2"), by_chance), Mounted::Foreign);
        assert_eq!(decide(None, b""), Mounted::Missing);
    }

    #[test]
    fn a_proc_of_these_tests_is_their_own() {
        assert_eq!(Mounted::look(), Mounted::Own);
        let own = nix::unistd::getpid().as_raw();
        assert!(read(&path(own, "stat")).is_ok());
    }

    fn name_of(file: &File) -> OsString {
        let own = nix::unistd::getpid().as_raw();
        let link = link(own, format_args!("fd/{}", file.as_raw_fd()));
        OsString::from_vec(link.expect("it is open"))
    }

    #[test]
    fn the_remark_of_the_kernel_is_not_part_of_a_name() {
        let folder = tempfile::tempdir().expect("there is room");
        for (name, directory) in [("file", false), ("folder", true), ("x (deleted)", false)] {
            let path = folder.path().join(name);
            let remove = match directory {
                true => {
                    fs::create_dir(&path).expect("it is new");
                    fs::remove_dir
                }
                false => {
                    File::create(&path).expect("it is new");
                    fs::remove_file
                }
            };
            let file = File::open(&path).expect("it is there");
            assert_eq!(name_of(&file), path);
            remove(&path).expect("it is there");
            assert_eq!(name_of(&file), path, "{name} was removed");
            let mut other = path.clone().into_os_string();
            other.push(" (deleted)");
            File::create(&other).expect("it is new");
            assert_eq!(name_of(&file), path, "another file has the name");
        }
    }
}
