//! The cgroups of this process.

use super::files;
use harness_metadata::LimitKind;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The hierarchies that are mounted, and where in them this process is.
#[derive(Debug, Default)]
pub(super) struct Mounts(Vec<Mount>);

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// The controllers of a hierarchy of version 1; `None` for version 2.
    controllers: Option<Vec<String>>,
    /// Its mount point.
    top: PathBuf,
    /// The group that is mounted there, as in /proc/PID/cgroup.
    root: PathBuf,
    /// The cgroup of this process.
    own: PathBuf,
}

/// The group of an attempt in one hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Home {
    /// The controllers of a hierarchy of version 1; `None` for version 2.
    pub(super) controllers: Option<Vec<String>>,
    /// The group, as in /proc/PID/cgroup.
    pub(super) group: String,
}

impl Mounts {
    pub(super) fn read() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        Self::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
    }

    /// From /proc/PID/mountinfo (proc_pid_mountinfo(5)) and /proc/PID/cgroup (cgroups(7)).
    fn parse(mounts: &str, groups: &str) -> Self {
        let mount = |line: &str| {
            let (before, after) = line.split_once(" - ")?;
            let mut before = before.split(' ').skip(3);
            let root = unescaped(before.next()?);
            let top = PathBuf::from(unescaped(before.next()?));
            let mut after = after.split(' ');
            let (kind, options) = (after.next()?, after.nth(1)?);
            let options: Vec<String> = options.split(',').map(str::to_owned).collect();
            let is_own = |line: &&str| match kind {
                "cgroup2" => is_of(line, None),
                "cgroup" => is_of(line, Some(&options)),
                _ => false,
            };
            let own = groups.lines().find(is_own)?.splitn(3, ':').nth(2)?;
            let own = Path::new(own).strip_prefix(&root).ok()?;
            Some(Mount {
                controllers: (kind == "cgroup").then_some(options),
                own: top.join(own),
                root: PathBuf::from(root),
                top,
            })
        };
        Self(mounts.lines().filter_map(mount).collect())
    }

    /// The folders in which groups of version 2 may be made, the best one first: below the group of
    /// this process, and for root at the top.
    pub(super) fn unified(&self) -> Vec<PathBuf> {
        let Some(mount) = self.0.iter().find(|mount| mount.controllers.is_none()) else {
            return Vec::new();
        };
        let mut places = vec![mount.own.clone()];
        if nix::unistd::geteuid().is_root() && mount.top != mount.own {
            places.push(mount.top.clone());
        }
        places
    }

    /// The folders in which groups of version 1 with this limit may be made.
    pub(super) fn separate(&self, kind: LimitKind) -> Option<PathBuf> {
        let has = |mount: &&Mount| {
            let controllers = mount.controllers.iter().flatten();
            controllers
                .into_iter()
                .any(|name| name == files::controller(kind))
        };
        self.0.iter().find(has).map(|mount| mount.own.clone())
    }

    /// Returns the cgroup of this process and those above it, as far as they are mounted, in each
    /// hierarchy that counts memory; whether its version is 2.
    pub(super) fn memory(&self) -> Vec<(PathBuf, bool)> {
        let mut groups = Vec::new();
        for mount in &self.0 {
            let unified = mount.controllers.is_none();
            let names = mount.controllers.iter().flatten();
            if unified || names.into_iter().any(|name| name == "memory") {
                let above = mount.own.ancestors();
                let above = above.take_while(|folder| folder.starts_with(&mount.top));
                groups.extend(above.map(|folder| (folder.to_owned(), unified)));
            }
        }
        groups
    }

    /// Returns which group has this folder.
    pub(super) fn home(&self, folder: &Path) -> Option<Home> {
        let mounts = self.0.iter().filter(|mount| folder.starts_with(&mount.top));
        let mount = mounts.max_by_key(|mount| mount.top.components().count())?;
        let below = folder.strip_prefix(&mount.top).ok()?;
        Some(Home {
            controllers: mount.controllers.clone(),
            group: mount.root.join(below).to_string_lossy().into_owned(),
        })
    }

    /// The mount points of the hierarchies of these groups.
    pub(super) fn tops(&self, homes: &[Home]) -> Vec<PathBuf> {
        let joined = |mount: &&Mount| {
            let mut homes = homes.iter();
            homes.any(|home| home.controllers == mount.controllers)
        };
        let joined = self.0.iter().filter(joined);
        joined.map(|mount| mount.top.clone()).collect()
    }
}

/// Returns whether a line of /proc/PID/cgroup is of a hierarchy: that with these controllers, or that
/// of version 2.
pub(super) fn is_of(line: &str, controllers: Option<&[String]>) -> bool {
    let names = line.split(':').nth(1).unwrap_or_default();
    match controllers {
        None => line.starts_with("0::"),
        Some(controllers) => names
            .split(',')
            .any(|name| controllers.iter().any(|controller| controller == name)),
    }
}

/// Undoes how the kernel writes spaces and the like: as three octal digits.
fn unescaped(text: &str) -> String {
    let mut plain = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).filter(|_| *first == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &tail[3..];
            }
            None => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
        30 25 0:26 / /sys/fs/cgroup rw shared:5 - tmpfs tmpfs rw,mode=755\n\
        31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        32 30 0:28 /box /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        33 30 0:29 / /sys/fs/cgroup/a\\040b rw - cgroup2 cgroup2 rw,nsdelegate\n";
    const OWN: &str = "\
        3:memory:/box/of/mine\n2:cpu,cpuacct:/\n1:name=systemd:/user\n0::/user/mine:1\n";

    #[test]
    fn the_own_place_in_each_hierarchy_is_found() {
        let mounts = Mounts::parse(HYBRID, OWN);
        let places = mounts.unified();
        assert_eq!(places[0], Path::new("/sys/fs/cgroup/a b/user/mine:1"));
        let separate = |kind| mounts.separate(kind);
        assert_eq!(
            separate(LimitKind::Memory).as_deref(),
            Some(Path::new("/sys/fs/cgroup/memory/of/mine"))
        );
        assert_eq!(
            separate(LimitKind::Cpu).as_deref(),
            Some(Path::new("/sys/fs/cgroup/cpu,cpuacct/"))
        );
        assert_eq!(separate(LimitKind::Pids), None);
    }

    #[test]
    fn the_name_of_a_group_is_that_of_its_folder_below_what_is_mounted() {
        let mounts = Mounts::parse(HYBRID, OWN);
        let name = |folder: &str| Some(mounts.home(Path::new(folder))?.group);
        let found = [
            "/sys/fs/cgroup/memory/of/mine/run/slot-0.1",
            "/sys/fs/cgroup/a b/user/mine:1/run/slot-0.1",
            "/sys/fs/cgroup/cpu,cpuacct/run",
            "/sys/fs/cgroup/elsewhere",
        ];
        let names = [
            Some("/box/of/mine/run/slot-0.1".to_owned()),
            Some("/user/mine:1/run/slot-0.1".to_owned()),
            Some("/run".to_owned()),
            None,
        ];
        assert_eq!(found.map(name), names);
    }

    #[test]
    fn a_hierarchy_that_a_group_is_not_in_is_none_that_it_can_be_left_in() {
        let mounts = Mounts::parse(HYBRID, OWN);
        let home = mounts.home(Path::new("/sys/fs/cgroup/memory/of/mine/run"));
        let homes: Vec<Home> = home.into_iter().collect();
        assert_eq!(mounts.tops(&homes), [Path::new("/sys/fs/cgroup/memory")]);
    }

    #[test]
    fn who_is_outside_of_what_is_mounted_has_no_place_there() {
        let mounts = Mounts::parse(HYBRID, "3:memory:/elsewhere\n0::/\n");
        assert_eq!(mounts.separate(LimitKind::Memory), None);
        assert!(Mounts::parse("", OWN).unified().is_empty());
        assert!(Mounts::parse(HYBRID, "").unified().is_empty());
    }
}
