//! The calls that a trace can do without, and why.
//!
//! Every call that is neither here nor in the table of watched calls is a doubt: a call of a kernel that is
//! newer than this program is one of those.

use syscalls::Sysno;

/// A reason why a call needs no event.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::tracer) enum Reason {
    /// It uses a descriptor, which had its event when it was opened, connected or received.
    Descriptor,
    /// It makes a descriptor of something that only its makers can reach.
    Own,
    /// It concerns the caller's memory.
    Memory,
    /// It concerns the caller's own attributes, handlers, timers and scheduling.
    Itself,
    /// It waits, or ends the caller. Creations, ends and signals are ptrace(2)'s events.
    Life,
    /// It tells the time, which every test is taken to depend on.
    Clock,
    /// It tells of the machine or of the user, which every test is taken to depend on.
    Machine,
    /// The kernel has no such call any more, or never had.
    Gone,
}

/// The calls, by reason.
const CALLS: &[(Reason, &[Sysno])] = &[
    (
        Reason::Descriptor,
        &[
            Sysno::read,
            Sysno::readv,
            Sysno::pread64,
            Sysno::preadv,
            Sysno::preadv2,
            Sysno::write,
            Sysno::writev,
            Sysno::pwrite64,
            Sysno::pwritev,
            Sysno::pwritev2,
            Sysno::lseek,
            Sysno::close,
            Sysno::close_range,
            Sysno::dup,
            Sysno::dup3,
            Sysno::fcntl,
            Sysno::flock,
            Sysno::fstat,
            Sysno::fstatfs,
            Sysno::fgetxattr,
            Sysno::flistxattr,
            Sysno::fsync,
            Sysno::fdatasync,
            Sysno::sync,
            Sysno::syncfs,
            Sysno::sync_file_range,
            Sysno::ftruncate,
            Sysno::fallocate,
            Sysno::fadvise64,
            Sysno::readahead,
            Sysno::cachestat,
            Sysno::copy_file_range,
            Sysno::sendfile,
            Sysno::splice,
            Sysno::tee,
            Sysno::vmsplice,
            Sysno::io_setup,
            Sysno::io_destroy,
            Sysno::io_submit,
            Sysno::io_cancel,
            Sysno::io_getevents,
            Sysno::io_pgetevents,
            Sysno::recvfrom,
            Sysno::shutdown,
            Sysno::getsockname,
            Sysno::getpeername,
            Sysno::getsockopt,
            Sysno::setsockopt,
            Sysno::ppoll,
            Sysno::pselect6,
            Sysno::epoll_ctl,
            Sysno::epoll_pwait,
            Sysno::epoll_pwait2,
            Sysno::inotify_rm_watch,
            Sysno::timerfd_settime,
            Sysno::timerfd_gettime,
            Sysno::landlock_add_rule,
            Sysno::pidfd_send_signal,
            Sysno::io_uring_enter,
            Sysno::io_uring_register,
        ],
    ),
    (
        Reason::Own,
        &[
            Sysno::pipe2,
            Sysno::eventfd2,
            Sysno::epoll_create1,
            Sysno::timerfd_create,
            Sysno::inotify_init1,
            Sysno::memfd_create,
            Sysno::memfd_secret,
            Sysno::socketpair,
            Sysno::landlock_create_ruleset,
        ],
    ),
    (
        Reason::Memory,
        &[
            Sysno::mmap,
            Sysno::munmap,
            Sysno::mremap,
            Sysno::mprotect,
            Sysno::pkey_mprotect,
            Sysno::pkey_alloc,
            Sysno::pkey_free,
            Sysno::brk,
            Sysno::madvise,
            Sysno::msync,
            Sysno::mincore,
            Sysno::mlock,
            Sysno::mlock2,
            Sysno::mlockall,
            Sysno::munlock,
            Sysno::munlockall,
            Sysno::mseal,
            Sysno::remap_file_pages,
            Sysno::mbind,
            Sysno::set_mempolicy,
            Sysno::set_mempolicy_home_node,
            Sysno::get_mempolicy,
            Sysno::membarrier,
            Sysno::rseq,
            Sysno::futex,
            Sysno::futex_wait,
            Sysno::futex_wake,
            Sysno::futex_waitv,
            Sysno::futex_requeue,
            Sysno::set_robust_list,
        ],
    ),
    (
        Reason::Itself,
        &[
            Sysno::getpid,
            Sysno::gettid,
            Sysno::getppid,
            Sysno::getpgid,
            Sysno::getsid,
            Sysno::setpgid,
            Sysno::setsid,
            Sysno::umask,
            Sysno::personality,
            Sysno::set_tid_address,
            Sysno::rt_sigaction,
            Sysno::rt_sigprocmask,
            Sysno::rt_sigpending,
            Sysno::rt_sigreturn,
            Sysno::sigaltstack,
            Sysno::getitimer,
            Sysno::setitimer,
            Sysno::timer_create,
            Sysno::timer_delete,
            Sysno::timer_settime,
            Sysno::timer_gettime,
            Sysno::timer_getoverrun,
            Sysno::getrusage,
            Sysno::times,
            Sysno::getpriority,
            Sysno::setpriority,
            Sysno::ioprio_get,
            Sysno::ioprio_set,
            Sysno::sched_yield,
            Sysno::sched_setparam,
            Sysno::sched_setscheduler,
            Sysno::sched_setaffinity,
            Sysno::sched_setattr,
            Sysno::restart_syscall,
            Sysno::getcwd,
        ],
    ),
    (
        Reason::Life,
        &[
            Sysno::exit,
            Sysno::exit_group,
            Sysno::wait4,
            Sysno::waitid,
            Sysno::nanosleep,
            Sysno::clock_nanosleep,
            Sysno::rt_sigsuspend,
        ],
    ),
    (
        Reason::Clock,
        &[
            Sysno::clock_gettime,
            Sysno::clock_getres,
            Sysno::gettimeofday,
        ],
    ),
    (
        Reason::Machine,
        &[
            Sysno::uname,
            Sysno::sysinfo,
            Sysno::getcpu,
            Sysno::getrandom,
            Sysno::getuid,
            Sysno::geteuid,
            Sysno::getgid,
            Sysno::getegid,
            Sysno::getresuid,
            Sysno::getresgid,
            Sysno::getgroups,
            Sysno::capget,
            Sysno::prlimit64,
            Sysno::sched_getaffinity,
            Sysno::sched_getattr,
            Sysno::sched_getparam,
            Sysno::sched_getscheduler,
            Sysno::sched_get_priority_max,
            Sysno::sched_get_priority_min,
            Sysno::sched_rr_get_interval,
        ],
    ),
];

/// Those that newer architectures have not.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[(Reason, &[Sysno])] = &[
    (
        Reason::Descriptor,
        &[
            Sysno::dup2,
            Sysno::poll,
            Sysno::select,
            Sysno::epoll_wait,
            Sysno::epoll_ctl_old,
            Sysno::epoll_wait_old,
        ],
    ),
    (
        Reason::Own,
        &[
            Sysno::pipe,
            Sysno::eventfd,
            Sysno::epoll_create,
            Sysno::inotify_init,
        ],
    ),
    (
        Reason::Memory,
        &[Sysno::map_shadow_stack, Sysno::modify_ldt],
    ),
    (
        Reason::Itself,
        &[
            Sysno::arch_prctl,
            Sysno::getpgrp,
            Sysno::setrlimit,
            Sysno::alarm,
        ],
    ),
    (Reason::Life, &[Sysno::pause, Sysno::fork, Sysno::vfork]),
    (Reason::Clock, &[Sysno::time]),
    (Reason::Machine, &[Sysno::getrlimit]),
    (
        Reason::Gone,
        &[
            Sysno::_sysctl,
            Sysno::create_module,
            Sysno::get_kernel_syms,
            Sysno::query_module,
            Sysno::nfsservctl,
            Sysno::getpmsg,
            Sysno::putpmsg,
            Sysno::afs_syscall,
            Sysno::tuxcall,
            Sysno::security,
            Sysno::set_thread_area,
            Sysno::get_thread_area,
            Sysno::vserver,
        ],
    ),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[(Reason, &[Sysno])] = &[];

/// Those that hardly any program makes.
const RARE: &[Sysno] = &[
    Sysno::cachestat,
    Sysno::epoll_pwait2,
    Sysno::futex_requeue,
    Sysno::futex_waitv,
    Sysno::futex_wait,
    Sysno::futex_wake,
    Sysno::get_mempolicy,
    Sysno::getitimer,
    Sysno::getpriority,
    Sysno::inotify_init1,
    Sysno::inotify_rm_watch,
    Sysno::io_cancel,
    Sysno::io_destroy,
    Sysno::io_getevents,
    Sysno::io_pgetevents,
    Sysno::io_setup,
    Sysno::io_submit,
    Sysno::io_uring_enter,
    Sysno::io_uring_register,
    Sysno::ioprio_get,
    Sysno::ioprio_set,
    Sysno::landlock_add_rule,
    Sysno::landlock_create_ruleset,
    Sysno::mbind,
    Sysno::memfd_secret,
    Sysno::mlock,
    Sysno::mlock2,
    Sysno::mlockall,
    Sysno::mseal,
    Sysno::munlock,
    Sysno::munlockall,
    Sysno::personality,
    Sysno::pidfd_send_signal,
    Sysno::pkey_alloc,
    Sysno::pkey_free,
    Sysno::pkey_mprotect,
    Sysno::preadv2,
    Sysno::pwritev2,
    Sysno::readahead,
    Sysno::remap_file_pages,
    Sysno::sched_get_priority_max,
    Sysno::sched_get_priority_min,
    Sysno::sched_getattr,
    Sysno::sched_getparam,
    Sysno::sched_getscheduler,
    Sysno::sched_rr_get_interval,
    Sysno::sched_setattr,
    Sysno::sched_setparam,
    Sysno::sched_setscheduler,
    Sysno::set_mempolicy,
    Sysno::set_mempolicy_home_node,
    Sysno::setpriority,
    Sysno::sync,
    Sysno::sync_file_range,
    Sysno::syncfs,
    Sysno::tee,
    Sysno::timer_getoverrun,
    Sysno::vmsplice,
    Sysno::capget,
    Sysno::getgroups,
    Sysno::getresgid,
    Sysno::getresuid,
    Sysno::getsid,
    Sysno::getpgid,
];
#[cfg(target_arch = "x86_64")]
const OLD_AND_RARE: &[Sysno] = &[
    Sysno::alarm,
    Sysno::epoll_create,
    Sysno::epoll_ctl_old,
    Sysno::epoll_wait_old,
    Sysno::eventfd,
    Sysno::inotify_init,
    Sysno::map_shadow_stack,
    Sysno::modify_ldt,
    Sysno::setrlimit,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_AND_RARE: &[Sysno] = &[];

/// Returns why a call needs no event; `None` if it may need one.
pub(in crate::tracer) fn harmless(number: Sysno) -> Option<Reason> {
    let mut groups = CALLS.iter().chain(OLD_CALLS);
    let (reason, _) = groups.find(|(_, calls)| calls.contains(&number))?;
    Some(*reason)
}

/// Returns true for a call that hardly any program makes. The filter may stop it for nothing, where it is
/// shorter for that: it is translated for each process.
pub(in crate::tracer) fn is_rare(number: Sysno) -> bool {
    harmless(number) == Some(Reason::Gone)
        || RARE.contains(&number)
        || OLD_AND_RARE.contains(&number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracer::decode::calls;
    use harness_metadata::event::TraceLevel;

    fn all() -> impl Iterator<Item = Sysno> {
        (0..=Sysno::last().id() as usize).filter_map(Sysno::new)
    }

    #[test]
    fn no_call_is_both_harmless_and_watched() {
        for number in all().filter(|number| harmless(*number).is_some()) {
            let watched = calls::watched(number, TraceLevel::Full);
            assert!(watched.is_none(), "{number}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_other_call_is_a_doubt() {
        let mut doubts: Vec<&str> = Vec::new();
        doubts.extend(
            all()
                .filter(|one| calls::is_untold(*one))
                .map(|one| one.name()),
        );
        expect_test::expect!["shmat shmctl semop semctl shmdt msgsnd msgrcv msgctl syslog ustat sysfs vhangup adjtimex acct settimeofday swapon swapoff reboot sethostname setdomainname iopl ioperm init_module delete_module quotactl lookup_dcookie semtimedop clock_settime mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr kexec_load migrate_pages get_robust_list move_pages fanotify_init clock_adjtime kcmp finit_module kexec_file_load uretprobe uprobe fsopen fsconfig fspick process_madvise quotactl_fd process_mrelease statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules"].assert_eq(&doubts.join(" "));
    }
}
