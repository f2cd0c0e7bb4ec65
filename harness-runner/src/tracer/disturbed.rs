//! Decides whether the tracer is the reason for an answer or a refusal of the kernel.
//!
//! Facts in, answer out: what is refused to everybody, and what the test itself has brought about, is
//! none of the tracer's doing.

use crate::{proc, sys::Pid};
use harness_metadata::trace::Disturbance;
use std::{fs, sync::OnceLock};

/// CAP_SYS_PTRACE and CAP_SYS_ADMIN, as bits of a set (capabilities(7)).
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;

/// The tracer's influence on the processes of an attempt.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Means {
    /// It traces them (ptrace(2)).
    pub(crate) traces: bool,
    /// They have its filter (seccomp(2)).
    pub(crate) filters: bool,
    /// It listens to that filter (seccomp_unotify(2)).
    pub(crate) listens: bool,
}

/// The request of a task.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// To be traced by its parent.
    TraceMe,
    /// To trace this task.
    Attach(i32),
    /// To listen to a filter.
    Listen,
    /// Its seccomp mode, or a mode that excludes the one of our filter.
    SeccompMode,
    /// Whether no_new_privs is set.
    NoNewPrivs,
    /// To confine itself, which only those may who have set no_new_privs, or who have CAP_SYS_ADMIN.
    Confine,
}

/// The fields of proc_pid_status(5) that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Real, effective and saved.
    pub(crate) users: [u32; 3],
    pub(crate) groups: [u32; 3],
    effective: u64,
    permitted: u64,
    bounding: u64,
    no_new_privs: bool,
    seccomp: u32,
    /// The number of filters; `None` before Linux 5.9.
    filters: Option<u32>,
    ended: bool,
}

impl Standing {
    pub(crate) fn of(task: impl Into<Pid>) -> Option<Self> {
        Self::parse(&proc::read(&proc::path(task, "status")).ok()?)
    }

    /// Returns that of this process, which does not change.
    pub(crate) fn own() -> &'static Self {
        static OWN: OnceLock<Standing> = OnceLock::new();
        OWN.get_or_init(|| {
            let status = proc::read("/proc/self/status").ok();
            status
                .and_then(|status| Self::parse(&status))
                .unwrap_or_default()
        })
    }

    fn parse(status: &[u8]) -> Option<Self> {
        let field = |name| proc::field(status, name);
        let ids = |name| -> Option<[u32; 3]> {
            let mut ids = field(name)?.split_ascii_whitespace().map(str::parse::<u32>);
            Some([ids.next()?.ok()?, ids.next()?.ok()?, ids.next()?.ok()?])
        };
        let set = |name| u64::from_str_radix(field(name)?, 16).ok();
        Some(Self {
            users: ids("Uid:")?,
            groups: ids("Gid:")?,
            effective: proc::effective_capabilities(status)?,
            permitted: set("CapPrm:")?,
            bounding: set("CapBnd:")?,
            no_new_privs: field("NoNewPrivs:") == Some("1"),
            seccomp: field("Seccomp:").and_then(|mode| mode.parse().ok())?,
            filters: field("Seccomp_filters:").and_then(|filters| filters.parse().ok()),
            ended: field("State:").is_some_and(|state| state.starts_with(['Z', 'X'])),
        })
    }

    /// Returns whether our filter is the only one, and there would be none without it.
    pub(crate) fn has_only_our_filter(&self, own: &Self) -> bool {
        own.seccomp == 0
            && self.seccomp == libc::SECCOMP_MODE_FILTER
            && self.filters.is_none_or(|filters| filters == 1)
    }

    /// Returns whether no_new_privs is set and was not inherited from us. Who has not set it itself
    /// has it because of our filter.
    pub(crate) fn was_given_no_new_privs(&self, own: &Self) -> bool {
        self.no_new_privs && !own.no_new_privs
    }

    pub(crate) fn has_no_new_privs(&self) -> bool {
        self.no_new_privs
    }

    pub(crate) fn is_administrator(&self) -> bool {
        self.effective & SYS_ADMIN != 0
    }

    /// Returns whether tracees of this process keep what a program's file gives them: if it may trace
    /// anything and needs no no_new_privs for a filter.
    pub(crate) fn withholds_nothing(&self) -> bool {
        self.effective & SYS_PTRACE != 0 && self.is_administrator()
    }
}

/// The settings that decide which task may trace which other, beside their standing.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    /// `ptrace_scope` of the Yama module; 0 if there is none.
    pub(crate) yama: u8,
    /// Whether the target is a descendant of who wants to trace it.
    pub(crate) descends: bool,
}

/// Returns Yama's scope (Documentation/admin-guide/LSM/Yama.rst of Linux).
pub(crate) fn yama() -> u8 {
    static SCOPE: OnceLock<u8> = OnceLock::new();
    *SCOPE.get_or_init(|| {
        let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok();
        scope
            .and_then(|scope| scope.trim().parse().ok())
            .unwrap_or(0)
    })
}

/// Returns whether a process without a tracer could be traced by its parent.
pub(crate) fn may_be_traced_by_parent(yama: u8, child: &Standing) -> bool {
    match yama {
        0 | 1 => true,
        2 => child.effective & SYS_PTRACE != 0,
        _ => false,
    }
}

/// Returns whether a caller could trace a process of the same attempt that has no tracer (ptrace(2),
/// "Ptrace access mode checking"). What cannot be known, such as whether it may be dumped, is taken to
/// allow it.
pub(crate) fn may_attach(caller: &Standing, target: &Standing, scope: Scope) -> bool {
    let privileged = caller.effective & SYS_PTRACE != 0;
    let same = |who: u32, ids: [u32; 3]| ids == [who; 3];
    let same_user = same(caller.users[1], target.users) && same(caller.groups[1], target.groups);
    let in_scope = match scope.yama {
        0 => true,
        1 => privileged || scope.descends,
        2 => privileged,
        _ => false,
    };
    !target.ended && in_scope && (privileged || same_user)
}

/// The privileges that a program's file gives.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gift {
    /// The user whose rights it gives (set-user-id).
    pub(crate) user: Option<u32>,
    /// The group whose rights it gives (set-group-id).
    pub(crate) group: Option<u32>,
    /// File capabilities: the permitted set.
    pub(crate) capabilities: u64,
}

impl Gift {
    /// Returns whether nothing is given.
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Returns whether some of it did not arrive at a process that has just executed the file.
    pub(crate) fn is_withheld_from(self, after: &Standing) -> bool {
        self.user.is_some_and(|user| user != after.users[1])
            || self.group.is_some_and(|group| group != after.groups[1])
            || self.capabilities & after.bounding & !after.permitted != 0
    }
}

/// Reads the permitted set from the value of the attribute `security.capability` (`vfs_cap_data` of
/// linux/capability.h).
pub(crate) fn file_capabilities(value: &[u8]) -> u64 {
    let word = |index: usize| {
        let bytes = value.get(4 * index..4 * index + 4)?;
        Some(u64::from(u32::from_le_bytes(bytes.try_into().ok()?)))
    };
    // Revision and flags; permitted and inheritable of the lower half; the same of the upper one.
    word(1).unwrap_or(0) | word(3).unwrap_or(0) << 32
}

/// A file of a process in /proc that shows whether it is traced.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// `None` for who asks.
    pub(crate) task: Option<Pid>,
    /// The evidence.
    pub(crate) disturbance: Disturbance,
}

/// Returns what an absolute path shows of a tracer, if it is a file of proc(5) that does.
pub(crate) fn shown(path: &[u8]) -> Option<Shown> {
    let path = path.strip_prefix(b"/proc/")?;
    let disturbance = if path.ends_with(b"/status") {
        Disturbance::StatusRead
    } else if path.ends_with(b"/stat") {
        Disturbance::StoppedRead
    } else {
        return None;
    };
    let mut names = str::from_utf8(path).ok()?.split('/');
    let whose = |name: &str| match name {
        "self" | "thread-self" => Some(None),
        pid => pid.parse().ok().map(Some),
    };
    let process = whose(names.next()?)?;
    let task = match (names.next()?, names.next(), names.next(), names.next()) {
        ("status" | "stat", None, None, None) => process,
        ("task", Some(thread), Some("status" | "stat"), None) => whose(thread)?,
        _ => return None,
    };
    Some(Shown { task, disturbance })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Standing = Standing {
        users: [1000; 3],
        groups: [1000; 3],
        effective: 0,
        permitted: 0,
        bounding: u64::MAX,
        no_new_privs: false,
        seccomp: 0,
        filters: Some(0),
        ended: false,
    };

    #[test]
    fn a_standing_is_read_as_the_kernel_writes_it() {
        let status = b"Name:\tx\nState:\tt (tracing stop)\nUid:\t1\t2\t3\t2\nGid:\t4\t5\t6\t5\n\
            CapInh:\t0000000000000000\nCapPrm:\t0000000000200000\nCapEff:\t0000000000280000\n\
            CapBnd:\t00000000000000ff\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n";
        let standing = Standing::parse(status).expect("it has all that is needed");
        let expected = Standing {
            users: [1, 2, 3],
            groups: [4, 5, 6],
            effective: SYS_PTRACE | SYS_ADMIN,
            permitted: SYS_ADMIN,
            bounding: 0xff,
            no_new_privs: true,
            seccomp: 2,
            filters: Some(3),
            ended: false,
        };
        assert_eq!(standing, expected);
        assert!(standing.withholds_nothing());
        assert!(Standing::of(std::process::id().cast_signed()).is_some());
    }

    #[test]
    fn a_refusal_is_ours_only_where_the_caller_could_trace_the_target_without_us() {
        let root = Standing {
            users: [0; 3],
            groups: [0; 3],
            effective: u64::MAX,
            ..USER
        };
        let may = |caller: &Standing, target: &Standing, yama, descends| {
            may_attach(caller, target, Scope { yama, descends })
        };
        assert!(may(&USER, &USER, 0, false));
        assert!(may(&USER, &USER, 1, true));
        assert!(!may(&USER, &USER, 1, false));
        assert!(!may(&USER, &USER, 2, true));
        assert!(!may(&USER, &root, 0, true), "another user's");
        assert!(may(&root, &USER, 2, false));
        assert!(!may(&root, &USER, 3, true));
        let ended = Standing {
            ended: true,
            ..USER
        };
        assert!(!may(&root, &ended, 0, true));
        assert!(may_be_traced_by_parent(1, &USER));
        assert!(!may_be_traced_by_parent(2, &USER));
        assert!(!may_be_traced_by_parent(3, &root));
    }

    #[test]
    fn a_filter_is_the_reason_only_if_there_would_be_none_without_ours() {
        let filtered = |filters| Standing {
            seccomp: libc::SECCOMP_MODE_FILTER,
            filters,
            ..USER
        };
        assert!(filtered(Some(1)).has_only_our_filter(&USER));
        assert!(filtered(None).has_only_our_filter(&USER));
        assert!(
            !filtered(Some(2)).has_only_our_filter(&USER),
            "the test's own"
        );
        let confined = filtered(Some(1));
        assert!(
            !filtered(Some(2)).has_only_our_filter(&confined),
            "a container's"
        );
        assert!(!USER.has_only_our_filter(&USER));
        let gave_up = Standing {
            no_new_privs: true,
            ..USER
        };
        assert!(gave_up.was_given_no_new_privs(&USER));
        assert!(!gave_up.was_given_no_new_privs(&gave_up));
    }

    #[test]
    fn what_a_file_gives_is_withheld_if_it_did_not_arrive() {
        let set_user = Gift {
            user: Some(0),
            ..Gift::default()
        };
        assert!(set_user.is_withheld_from(&USER));
        let became = Standing {
            users: [1000, 0, 0],
            ..USER
        };
        assert!(!set_user.is_withheld_from(&became));
        let set_group = Gift {
            group: Some(7),
            ..Gift::default()
        };
        assert!(set_group.is_withheld_from(&USER));
        // cap_net_raw=ep, as setcap(8) writes it.
        let value = [
            1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        let capable = Gift {
            capabilities: file_capabilities(&value),
            ..Gift::default()
        };
        assert_eq!(capable.capabilities, 1 << 13);
        assert!(capable.is_withheld_from(&USER));
        let bounded = Standing {
            bounding: 0,
            ..USER
        };
        assert!(
            !capable.is_withheld_from(&bounded),
            "no process could have it"
        );
        assert_eq!(file_capabilities(b"short"), 0);
        assert!(Gift::default().is_empty());
    }

    #[test]
    fn only_the_status_and_the_state_of_processes_show_a_tracer() {
        use Disturbance::{StatusRead, StoppedRead};
        for (path, expected) in [
            ("/proc/self/status", Some((None, StatusRead))),
            ("/proc/thread-self/status", Some((None, StatusRead))),
            ("/proc/12/status", Some((Some(12), StatusRead))),
            ("/proc/12/task/13/status", Some((Some(13), StatusRead))),
            ("/proc/self/stat", Some((None, StoppedRead))),
            ("/proc/12/task/13/stat", Some((Some(13), StoppedRead))),
            ("/proc/stat", None),
            ("/proc/self/statm", None),
            ("/proc/self/root/etc/status", None),
            ("/proc/sys/status", None),
            ("/proc/12/cwd/status", None),
            ("/home/proc/self/status", None),
            ("/proc/net/stat", None),
        ] {
            let shown = shown(path.as_bytes()).map(|shown| (shown.task, shown.disturbance));
            assert_eq!(shown, expected, "{path}");
        }
    }
}
