//! The machine, as its kernel describes it.

use crate::stub::open_files;
use harness_metadata::{Machine, machine::Limit};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use std::{env, fs};

/// The limits that tests may run into, by their names.
const LIMITS: [(&str, Resource); 12] = [
    ("as", Resource::RLIMIT_AS),
    ("core", Resource::RLIMIT_CORE),
    ("cpu", Resource::RLIMIT_CPU),
    ("data", Resource::RLIMIT_DATA),
    ("fsize", Resource::RLIMIT_FSIZE),
    ("memlock", Resource::RLIMIT_MEMLOCK),
    ("nice", Resource::RLIMIT_NICE),
    ("nofile", Resource::RLIMIT_NOFILE),
    ("nproc", Resource::RLIMIT_NPROC),
    ("rtprio", Resource::RLIMIT_RTPRIO),
    ("sigpending", Resource::RLIMIT_SIGPENDING),
    ("stack", Resource::RLIMIT_STACK),
];

/// Describes what this process has been given, and all tests are.
pub(super) fn machine() -> Machine {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of_status = |name: &str| {
        let mut lines = status.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    };
    let groups = of_status("Groups").unwrap_or_default();
    let groups = groups.split_whitespace();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    let limits = LIMITS.iter().filter_map(|(name, resource)| {
        let (mut soft, hard) = getrlimit(*resource).ok()?;
        if *resource == Resource::RLIMIT_NOFILE {
            soft = open_files::given().unwrap_or(soft);
        }
        let limit = |limit| (limit != RLIM_INFINITY).then_some(limit);
        let (soft, hard) = (limit(soft), limit(hard));
        Some(((*name).to_owned(), Limit { soft, hard }))
    });
    Machine {
        kernel: kernel.map(|release| release.trim().to_owned()),
        host: nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok()),
        architecture: env::consts::ARCH.to_owned(),
        processors: of_status("Cpus_allowed_list"),
        memory: memory(),
        user: nix::unistd::geteuid().as_raw(),
        group: nix::unistd::getegid().as_raw(),
        groups: groups.filter_map(|group| group.parse().ok()).collect(),
        umask: of_status("Umask").and_then(|mask| u32::from_str_radix(&mask, 8).ok()),
        limits: limits.collect(),
    }
}

fn memory() -> Option<u64> {
    let memory = fs::read_to_string("/proc/meminfo").ok()?;
    let total = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
