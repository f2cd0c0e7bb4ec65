//! The memory that tests can have: that of the machine, and of every cgroup that this process is in.

use super::mounts::Mounts;
use std::{fs, path::Path};

/// Returns how many bytes of memory are available; `None` if neither the machine nor a cgroup says so.
pub fn available_memory() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| of_machine(&text));
    let groups = Mounts::read().memory();
    let groups = groups
        .iter()
        .filter_map(|(folder, unified)| of_group(folder, *unified));
    machine.into_iter().chain(groups).min()
}

/// From /proc/meminfo (proc_meminfo(5)).
fn of_machine(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes.saturating_mul(1024))
}

/// Returns what a group may still have. The kernel gives up its file pages before it refuses memory
/// (cgroups(7)).
fn of_group(folder: &Path, unified: bool) -> Option<u64> {
    let (limit, used, pages) = match unified {
        true => ("memory.max", "memory.current", "inactive_file"),
        false => (
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    };
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    // `max` is no number.
    let limit: u64 = read(limit)?.trim().parse().ok()?;
    let used: u64 = read(used)?.trim().parse().ok()?;
    let stat = read("memory.stat").unwrap_or_default();
    let pages = stat.lines().find_map(|line| {
        let (name, bytes) = line.split_once(' ')?;
        (name == pages).then(|| bytes.parse::<u64>().ok()).flatten()
    });
    Some(limit.saturating_sub(used.saturating_sub(pages.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_says_what_is_available() {
        let text = "MemTotal:  16000 kB\nMemFree: 10 kB\nMemAvailable:    2000 kB\n";
        assert_eq!(of_machine(text), Some(2_048_000));
        assert_eq!(of_machine("MemTotal: 1 kB\n"), None);
        assert!(available_memory().is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn a_group_has_what_its_limit_leaves_and_the_pages_that_it_can_give_up() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(of_group(folder.path(), true), None);
        write("memory.max", "max\n");
        write("memory.current", "600\n");
        assert_eq!(of_group(folder.path(), true), None);
        write("memory.max", "1000\n");
        assert_eq!(of_group(folder.path(), true), Some(400));
        write("memory.stat", "anon 1\ninactive_file 150\n");
        assert_eq!(of_group(folder.path(), true), Some(550));
        write("memory.limit_in_bytes", "1000\n");
        write("memory.usage_in_bytes", "2000\n");
        assert_eq!(of_group(folder.path(), false), Some(0));
    }
}
