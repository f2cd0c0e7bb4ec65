//! The cgroup of a program, below that of the test process.

use crate::guardian::Place;
use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

/// Returns a name without the slashes in front of it, or the reason why it is none.
pub(super) fn checked(name: &str) -> Result<&str, String> {
    let shown = name.replace('\0', "\\0");
    let stripped = name.trim_start_matches('/').trim_end_matches('/');
    if stripped.is_empty() {
        return Err("the name of the cgroup is empty".to_owned());
    }
    if stripped.contains('\0') {
        return Err(format!("the name of the cgroup, `{shown}`, has a NUL byte"));
    }
    if stripped.split('/').any(|part| part == "..") {
        return Err(format!(
            "the name of the cgroup, `{shown}`, has `..`: a program can only be below its test"
        ));
    }
    Ok(stripped)
}

/// Makes the cgroup, if it is not there, and opens what the guardian needs. Errors are for people.
pub(super) fn open(name: &str) -> Result<Place, String> {
    let own = own_folder()?;
    let folder = own.join(name);
    let cannot = |what: &str, path: &Path, error: &io::Error| {
        format!(
            "{what} `{}` failed: {error} (the cgroup of the test must belong to its user: start the \
             tests by `systemd-run --user --scope -p Delegate=yes`, or leave out `in_cgroup`)",
            path.display()
        )
    };
    let made = !folder.exists();
    fs::create_dir_all(&folder).map_err(|error| cannot("making the cgroup", &folder, &error))?;
    let write = |file: &str| OpenOptions::new().write(true).open(folder.join(file));
    let opened = File::open(&folder).and_then(|folder| Ok((folder, write("cgroup.procs")?)));
    let (opened, procs) = opened.map_err(|error| cannot("opening the cgroup", &folder, &error))?;
    let remove = CString::new(folder.as_os_str().as_bytes()).ok();
    Ok(Place {
        folder: opened.into(),
        procs: procs.into(),
        kill: write("cgroup.kill").ok().map(OwnedFd::from),
        remove: remove.filter(|_| made),
    })
}

/// Returns the folder of the test's own cgroup of version 2.
fn own_folder() -> Result<PathBuf, String> {
    let read = |path: &str| {
        fs::read_to_string(path).map_err(|error| format!("`{path}` cannot be read: {error}"))
    };
    let mounts = read("/proc/self/mountinfo")?;
    let groups = read("/proc/self/cgroup")?;
    folder(&mounts, &groups).ok_or_else(|| {
        "there is no cgroup file system of version 2, in which a cgroup could be made".to_owned()
    })
}

/// Reads proc_pid_mountinfo(5) and cgroups(7).
fn folder(mounts: &str, groups: &str) -> Option<PathBuf> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        if kind.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // A container may see a part of the hierarchy only.
        let below = Path::new(own).strip_prefix(root).ok()?;
        Some(Path::new(point).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_in_front_of_a_name_do_not_count_and_bad_names_are_refused() {
        assert_eq!(checked("//a/b/"), Ok("a/b"));
        assert_eq!(checked("a..b"), Ok("a..b"));
        for (name, part) in [
            ("", "empty"),
            ("//", "empty"),
            ("a\0", "NUL"),
            ("a/../b", ".."),
        ] {
            assert!(
                checked(name).is_err_and(|fault| fault.contains(part)),
                "{name:?}"
            );
        }
    }

    #[test]
    fn the_own_cgroup_is_found_in_containers_and_hybrid_systems() {
        let mounts = "30 1 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      31 1 0:27 /a /sys/fs/cgroup/unified rw,nosuid shared:1 - cgroup2 cgroup2 rw\n";
        let found = folder(mounts, "4:cpu:/x\n0::/a/b\n");
        assert_eq!(
            found.as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified/b"))
        );
        assert_eq!(folder(mounts, "0::/c\n"), None);
        assert_eq!(folder("", "0::/\n"), None);
    }
}
