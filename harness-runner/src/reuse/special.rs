//! Files of the kernel's: what they say, and to whom.

use std::collections::BTreeSet;

/// The worth of a path of the kernel's as an input.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Special {
    /// It is a path like others, or its content is compared like that of others.
    None,
    /// Its content depends on the process alone, on chance, or on circumstances that are compared anyway.
    Harmless,
    /// Its content is another at each look.
    Unsure,
}

/// Devices that keep nothing.
const DEVICES: &[&[u8]] = &[
    b"/dev/null",
    b"/dev/zero",
    b"/dev/full",
    b"/dev/random",
    b"/dev/urandom",
    b"/dev/stdin",
    b"/dev/stdout",
    b"/dev/stderr",
    b"/dev/fd",
];

/// Files that stay the same until they are set, by their beginnings.
const SET: &[&[u8]] = &[
    b"/proc/filesystems",
    b"/proc/version",
    b"/proc/cmdline",
    b"/proc/sys/",
    b"/sys/devices/system/cpu/online",
    b"/sys/devices/system/cpu/possible",
    b"/sys/devices/system/cpu/present",
    b"/sys/kernel/mm/transparent_hugepage/",
    b"/sys/fs/selinux",
];

/// Folders of the controller of processors, as version 1 of cgroups has them.
const PROCESSORS: &[&[u8]] = &[
    b"/sys/fs/cgroup",
    b"/sys/fs/cgroup/cpu",
    b"/sys/fs/cgroup/cpu,cpuacct",
];

/// Below the folder of a process, where its files depend on more than the process.
const OF_OTHERS: &[&[u8]] = &[
    b"cwd",
    b"root",
    b"mounts",
    b"mountinfo",
    b"mountstats",
    b"net",
    b"ns",
];

/// Returns the worth of a path. `own` are the processes of the test.
pub(super) fn special(path: &[u8], own: &BTreeSet<i32>) -> Special {
    if path.starts_with(b"/dev/") && !path.starts_with(b"/dev/shm") {
        let harmless = DEVICES.contains(&path) || path.starts_with(b"/dev/fd/");
        return if harmless {
            Special::Harmless
        } else {
            Special::Unsure
        };
    }
    if let Some(below) = path.strip_prefix(b"/proc/") {
        return of_proc(path, below, own);
    }
    if path == b"/proc" || path == b"/sys" || path == b"/dev" {
        return Special::None;
    }
    if path.starts_with(b"/sys/") {
        // The number of processors is compared.
        let quota = path.starts_with(b"/sys/fs/cgroup")
            && (path.ends_with(b"/cpu.max") || path.ends_with(b"/cpu.cfs_quota_us"))
            || path.ends_with(b"/cpu.cfs_period_us");
        return match quota {
            true => Special::Harmless,
            false if is_set(path) || PROCESSORS.contains(&path) => Special::None,
            false => Special::Unsure,
        };
    }
    Special::None
}

fn is_set(path: &[u8]) -> bool {
    SET.iter().any(|set| path.starts_with(set))
}

fn of_proc(path: &[u8], below: &[u8], own: &BTreeSet<i32>) -> Special {
    // The model and the features of the processors are compared.
    if below == b"cpuinfo" || below == b"sys/kernel/random/uuid" {
        return Special::Harmless;
    }
    if below == b"sys/kernel/random/boot_id" || below.starts_with(b"sys/kernel/random/") {
        return Special::Unsure;
    }
    if is_set(path) {
        return Special::None;
    }
    let mut names = below.split(|byte| *byte == b'/');
    let process = names.next().unwrap_or_default();
    let pid = std::str::from_utf8(process)
        .ok()
        .and_then(|name| name.parse().ok());
    let is_own = matches!(process, b"self" | b"thread-self")
        || pid.is_some_and(|pid: i32| own.contains(&pid));
    let mut name = names.next().unwrap_or_default();
    if name == b"task" {
        name = names.nth(1).unwrap_or_default();
    }
    match is_own && !OF_OTHERS.contains(&name) {
        true => Special::Harmless,
        false => Special::Unsure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_sorted_by_what_they_depend_on() {
        let own = BTreeSet::from([4711]);
        let worth = |path: &str| special(path.as_bytes(), &own);
        for path in [
            "/dev/null",
            "/dev/fd/3",
            "/proc/self/maps",
            "/proc/4711/task/4712/comm",
            "/proc/cpuinfo",
            "/sys/fs/cgroup/user.slice/cpu.max",
        ] {
            assert_eq!(worth(path), Special::Harmless, "{path}");
        }
        for path in [
            "/dev/sda",
            "/dev/tty",
            "/proc/4712/maps",
            "/proc/self/cwd/a",
            "/proc/self/task/1/root/etc",
            "/proc/self/mountinfo",
            "/proc/loadavg",
            "/proc/meminfo",
            "/proc/sys/kernel/random/boot_id",
            "/sys/class/net",
        ] {
            assert_eq!(worth(path), Special::Unsure, "{path}");
        }
        for path in [
            "/dev/shm/a",
            "/proc/sys/kernel/ngroups_max",
            "/sys/fs/cgroup/cpu",
            "/etc/passwd",
        ] {
            assert_eq!(worth(path), Special::None, "{path}");
        }
    }
}
