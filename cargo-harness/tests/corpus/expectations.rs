//! The expected trace of each program.

use crate::trace::Trace;
use harness_metadata::{
    RawString,
    outcome::Exit,
    trace::{
        Address, Backend,
        CallResult::{Err, Unknown},
        Creation, Disturbance, Doubt, FileCall, FileOperation as Op, NetworkOperation as Net,
        Reach, Sender,
    },
};
use nix::libc;
use std::collections::BTreeSet;

/// Something that a trace has to say.
pub(crate) struct Expectation {
    /// The program.
    pub(crate) program: &'static str,
    /// In words.
    pub(crate) what: &'static str,
    /// Whether it does.
    pub(crate) holds: fn(&Trace) -> bool,
    /// The reason why it does not if calls are notified.
    pub(crate) not_notified: Option<&'static Unseen>,
    /// Whether it does when no more than the lives of processes is followed.
    pub(crate) of_lives: bool,
}

impl Expectation {
    /// Blind spots of notification, with the reasons.
    const fn not_notified(self, why: &'static Unseen) -> Self {
        Self {
            not_notified: Some(why),
            ..self
        }
    }

    /// The events that the level `process` has, too.
    const fn of_lives(self) -> Self {
        Self {
            of_lives: true,
            ..self
        }
    }

    /// Whether it has to hold for a trace that was made in this way.
    pub(crate) fn is_due(&self, trace: &Trace) -> bool {
        match trace.backend {
            Backend::Notify => self.not_notified.is_none(),
            Backend::Lifecycle => self.of_lives,
            _ => true,
        }
    }
}

/// Something that notification does not see.
pub(crate) struct Unseen {
    /// In a word or two.
    pub(crate) what: &'static str,
    /// Its meaning.
    pub(crate) meaning: &'static str,
}

const fn unseen(what: &'static str, meaning: &'static str) -> Unseen {
    Unseen { what, meaning }
}

/// All of that.
#[rustfmt::skip]
pub(crate) const UNSEEN: &[&Unseen] = &[RESULTS, ENDS, SIGNALS, SILENT, KINDS, AGAIN, PORTS];
const RESULTS: &Unseen = &unseen(
    "results",
    "the result of a call that changes something, or that only the kernel can answer",
);
const ENDS: &Unseen = &unseen("ends", "how descendants end");
const SIGNALS: &Unseen = &unseen("signals", "the delivered signals and their senders");
const SILENT: &Unseen = &unseen(
    "silent processes",
    "processes that make no call of interest, and their creators if those are in between",
);
const KINDS: &Unseen = &unseen(
    "kinds of creation",
    "whether it was by `fork`, `vfork` or `clone`",
);
const AGAIN: &Unseen = &unseen(
    "restarts",
    "that an interrupted call begins again: it is seen once more",
);
const PORTS: &Unseen = &unseen(
    "chosen ports",
    "which port the kernel chooses for datagrams, so that it is not known to be the test's own",
);

const fn expect(
    program: &'static str,
    what: &'static str,
    holds: fn(&Trace) -> bool,
) -> Expectation {
    Expectation {
        program,
        what,
        holds,
        not_notified: None,
        of_lives: false,
    }
}

fn text(string: &RawString) -> String {
    string.to_string()
}

fn contains(string: &RawString, part: &str) -> bool {
    text(string).contains(part)
}

/// Returns the arguments of the executions that succeeded, each separated by spaces.
fn command_lines(trace: &Trace) -> Vec<String> {
    let execs = trace.execs().filter(|(_, exec)| trace.fine(exec.result));
    let lines = execs.map(|(_, exec)| exec.args.iter().map(text).collect::<Vec<_>>().join(" "));
    lines.collect()
}

fn exec_error(trace: &Trace, errno: i32) -> bool {
    trace.execs().any(|(_, exec)| exec.result == Err(errno))
}

fn any_file(trace: &Trace, wanted: impl Fn(&FileCall) -> bool) -> bool {
    trace.files().any(|(_, file)| wanted(file))
}

/// Returns true if a file was opened, and every time.
fn found(trace: &Trace, end: &str) -> bool {
    let opened = trace.opened(end);
    !opened.is_empty() && opened.into_iter().all(|result| trace.fine(result))
}

fn reaches(trace: &Trace, operation: Net, reach: Reach, wanted: fn(&Address) -> bool) -> bool {
    trace
        .network(operation)
        .into_iter()
        .any(|call| call.reach == reach && call.address.as_ref().is_some_and(wanted))
}

fn loopback(address: &Address) -> bool {
    matches!(address, Address::Ip { ip, .. } if ip.to_canonical().is_loopback())
}

fn network_error(trace: &Trace, errno: i32) -> bool {
    trace
        .network(Net::Connect)
        .into_iter()
        .any(|call| call.result == Err(errno))
}

fn sent_within(trace: &Trace, number: i32) -> bool {
    let signals = trace.signals(number);
    signals
        .iter()
        .any(|signal| matches!(signal.sender, Sender::Tree(_)))
}

/// The programs that do what makes a trace doubtful, what that is, and by which backends it is seen.
/// Others' traces are complete.
#[rustfmt::skip]
pub(crate) const DOUBTS: &[(&str, Doubt, &[Backend])] = {
    const CALLS: &[Backend] = &[Backend::Ptrace, Backend::Notify];
    const STATUS: Doubt = Doubt::Disturbed(Disturbance::StatusRead);
    &[
        // By ptrace(2) it is prevented.
        ("p10_asks_not_to_be_traced", Doubt::UntracedTask, &[Backend::Notify]),
        ("p18_executes_a_32_bit_program", Doubt::ForeignArchitecture, CALLS),
        ("p40_opens_by_the_32_bit_interface", Doubt::ForeignArchitecture, CALLS),
        ("p41_opens_by_the_x32_interface", Doubt::ForeignArchitecture, CALLS),
        ("p44_filters_itself", Doubt::OwnFilter, CALLS),
        ("p48_answers_its_own_calls", Doubt::OwnFilter, CALLS),
        // It cannot tell this from what only the kernel can read.
        ("p51_opens_paths_that_cannot_be_read", Doubt::Unreadable, &[Backend::Notify]),
        ("p53_forbids_reading_its_memory", Doubt::Undumpable, CALLS),
        ("p53_opens_a_path_in_secret_memory", Doubt::Unreadable, CALLS),
        ("p58_mounts", Doubt::ChangedNamespace, CALLS),
        ("p58_opens_by_handle", Doubt::OpenedByHandle, CALLS),
        ("p60_opens_a_path_that_changes", Doubt::Rewritten, &[Backend::Ptrace]),
        ("p62_sets_up_io_uring", Doubt::IoUring, CALLS),
        ("p63_is_given_a_descriptor", Doubt::ForeignDescriptor, CALLS),
        // Whose it was cannot be told.
        ("p63_takes_a_descriptor", Doubt::ForeignDescriptor, CALLS),
        ("p74_uses_other_channels", Doubt::KernelFacility, CALLS),
        ("p75_gets_a_signal_from_outside", Doubt::ForeignSignal, &[Backend::Ptrace]),
        ("p92_reads_its_own_child", Doubt::TracesOthers, CALLS),
        ("p92_traces_its_own_child", Doubt::TracesOthers, CALLS),
        ("p92_traces_its_own_child", Doubt::Disturbed(Disturbance::PtraceRefused), &[Backend::Ptrace]),
        ("p92_traces_its_own_child", STATUS, CALLS),
        ("p97_sees_its_tracer", STATUS, CALLS),
        ("p97_asks_for_its_seccomp_mode", Doubt::Disturbed(Disturbance::SeccompAsked), CALLS),
        ("p97_enters_the_strict_mode", Doubt::Disturbed(Disturbance::SeccompAsked), CALLS),
        ("p97_enters_the_strict_mode", Doubt::Disturbed(Disturbance::StrictModeRefused), CALLS),
        // They look for something else there.
        ("p22_executes_a_set_uid_program", STATUS, CALLS),
        ("p36_interrupts_a_blocked_open", STATUS, CALLS),
        ("p36_restarts_a_blocked_open", STATUS, CALLS),
        ("p43_may_gain_privileges_as_before", STATUS, CALLS),
        ("p91_uses_all_processors", STATUS, CALLS),
        ("p101_gives_addresses_that_are_none", Doubt::Unreadable, &[Backend::Notify]),
        ("p102_filters_itself_after_many_calls", Doubt::OwnFilter, CALLS),
    ]
};

/// The programs that make calls of unknown effect, and these calls.
#[rustfmt::skip]
pub(crate) const UNTOLD: &[(&str, &str)] = &[
    ("p72_uses_other_families", "a netlink socket"),
    ("p72_uses_other_families", "a socket of the family 38"),
    ("p74_asks_the_kernel", "a netlink socket"),
    ("p74_asks_the_kernel", "ioctl with the request 0x8915"),
    ("p74_asks_the_kernel", "mq_unlink"),
    ("p74_uses_other_channels", "msgctl"),
    ("p74_uses_other_channels", "semctl"),
    ("p74_uses_other_channels", "shmctl"),
    ("p74_uses_other_channels", "mq_unlink"),
];

/// All of them, by program.
#[rustfmt::skip]
pub(crate) const EXPECTATIONS: &[Expectation] = &[
    expect("p02_does_nothing", "one execution, of itself",
        |t| t.execs().count() == 1 && command_lines(t)[0].contains("--exact p02_does_nothing")).of_lives(),
    expect("p03_starts_many_children", "500 children", |t| t.created(Creation::Fork).len() == 500).not_notified(SILENT).of_lives(),
    expect("p05_asks_for_one_file", "it is written and read", |t| {
        let calls = t.calls(Op::Open, "/one");
        calls.len() == 2 && calls[0].access.is_some_and(|access| access.create && access.truncate)
            && calls[1].access.is_some_and(|access| access.read && !access.write)
            && calls.iter().all(|call| t.fine(call.result))
    }),
    expect("p06_forks_from_eight_threads", "200 children of eight threads", |t| {
        let created = t.created(Creation::Fork);
        let threads: BTreeSet<_> = created.iter().map(|(event, _)| event.tid).collect();
        created.len() == 200 && threads.len() == 8
    }).not_notified(SILENT).of_lives(),
    expect("p07_creates_every_kind_of_child", "each kind", |t| {
        let of_child = |how| t.created(how).iter().filter(|(event, _)| event.pid != t.root()).count();
        of_child(Creation::Fork) >= 1 && of_child(Creation::Vfork) == 1
            && of_child(Creation::Clone) == 1 && of_child(Creation::Thread) == 1
    }).not_notified(KINDS).of_lives(),
    expect("p08_spawns_from_sixteen_threads", "each child's own arguments", |t| {
        let lines = command_lines(t);
        lines.len() == 65 && (0..64).all(|code| lines.contains(&format!("/bin/sh -c exit $0 {code}")))
    }).of_lives(),
    expect("p08_spawns_from_sixteen_threads", "each child's end", |t| (1..64).all(|code| t.exited(code) == 1)).not_notified(ENDS).of_lives(),
    expect("p09_parent_dies_first", "20 children, of which ten have a creator that had ended",
        |t| t.created(Creation::Fork).len() == 20 && t.exited(0) == 21).not_notified(SILENT).of_lives(),
    expect("p10_asks_not_to_be_traced", "what the child opened", |t| t.files().any(|(event, file)|
        event.pid != t.root() && contains(file.path.path(), "from the untraced"))),
    expect("p11_uses_an_id_again", "eleven processes with one id", |t| {
        let created = t.created(Creation::Fork);
        created.len() == 11 && created.iter().all(|(_, child)| *child == created[0].1)
            && (1..10).all(|code| t.exited(code) == 1)
    }).not_notified(SILENT).of_lives(),
    expect("p12_creates_a_thread_as_if_by_vfork", "a thread, and a process that is none", |t| {
        let of_child = |how| t.created(how).iter().filter(|(event, _)| event.pid != t.root()).count();
        of_child(Creation::Thread) == 1 && of_child(Creation::Vfork) + of_child(Creation::Clone) == 1
    }).not_notified(KINDS).of_lives(),
    expect("p13_creates_a_sibling", "its creator, not its parent", |t| {
        let sibling = t.ends().find(|(_, end)| end.exit == Exit::Code(7)).map(|(event, _)| event.pid);
        let forks = t.created(Creation::Fork);
        let creator = |of| forks.iter().find(|(_, child)| Some(*child) == of).map(|(event, _)| event.pid);
        creator(creator(creator(sibling))) == Some(t.root())
    }).not_notified(SILENT).of_lives(),
    expect("p14_lives_in_its_own_namespace", "its end", |t| t.exited(3) == 1).not_notified(ENDS).of_lives(),
    expect("p14_lives_in_its_own_namespace", "its files",
        |t| t.opened("seen from within").into_iter().filter(|result| t.fine(*result)).count() >= 2),
    expect("p15_executes_from_a_thread", "the execution under the id of the process", |t| {
        let child = t.created(Creation::Fork)[0].1;
        t.execs().filter(|(event, exec)| event.pid == child && t.fine(exec.result)).count() == 1
    }).of_lives(),
    expect("p15_executes_from_a_thread", "the end under the id of the process", |t| {
        let child = t.created(Creation::Fork)[0].1;
        t.ends().any(|(event, end)| event.pid == child && end.exit == Exit::Code(4))
    }).not_notified(ENDS).of_lives(),
    expect("p16_executes_beside_many_threads", "five executions",
        |t| command_lines(t).iter().filter(|line| **line == "/bin/sh -c exit 5").count() == 5).of_lives(),
    expect("p16_executes_beside_many_threads", "five ends", |t| t.exited(5) == 5).not_notified(ENDS).of_lives(),
    expect("p17_fails_to_execute", "that there is no such program, and that it may not be executed", |t|
        [libc::ENOENT, libc::EACCES].iter().all(|errno| exec_error(t, *errno))),
    expect("p17_fails_to_execute", "that it is no program", |t| exec_error(t, libc::ENOEXEC)).not_notified(RESULTS),
    expect("p18_executes_one_after_another", "three programs of one process, each with its arguments", |t| {
        let child = t.created(Creation::Fork)[0].1;
        let last: Vec<_> = t.execs().filter(|(event, _)| event.pid == child)
            .map(|(_, exec)| text(exec.args.last().expect("there are some"))).collect();
        last == ["first", "second", "third"]
    }).of_lives(),
    expect("p18_executes_a_32_bit_program", "its end", |t| t.exited(42) == 1).not_notified(ENDS).of_lives(),
    expect("p19_executes_a_memfd", "a program in memory", |t|
        t.execs().any(|(_, exec)| contains(exec.program.path(), "memfd:nameless") && t.fine(exec.result)
            && exec.args == [RawString::from("by descriptor")])).of_lives(),
    expect("p19_executes_a_descriptor", "its path", |t|
        t.execs().any(|(_, exec)| contains(exec.program.path(), "bin/true") && t.fine(exec.result))).of_lives(),
    expect("p20_executes_a_script", "both interpreters and the loader", |t|
        t.execs().any(|(_, exec)| contains(exec.program.path(), "/outer")
            && exec.interpreters.iter().any(|path| contains(path, "/inner"))
            && exec.interpreters.iter().any(|path| contains(path, "bin/sh") || contains(path, "dash") || contains(path, "bash"))
            && exec.interpreters.iter().any(|path| contains(path, "ld-")))),
    expect("p21_executes_with_large_arguments", "that they are not all recorded",
        |t| t.execs().any(|(_, exec)| exec.truncated && t.fine(exec.result) && contains(&exec.args[0], "sh"))).of_lives(),
    expect("p22_executes_a_set_uid_program", "its execution",
        |t| t.execs().any(|(_, exec)| contains(exec.program.path(), "/id") && t.fine(exec.result))).of_lives(),
    expect("p23_executes_itself_after_its_removal", "the second execution", |t|
        command_lines(t).iter().any(|line| line == "/proc/self/exe -c exit 9")).of_lives(),
    expect("p23_executes_itself_after_its_removal", "its end", |t| t.exited(9) == 1).not_notified(ENDS).of_lives(),
    expect("p23_passes_on_descriptors", "what it was given, and nothing else", |t|
        t.execs().any(|(_, exec)| exec.inherited.iter().any(|fd| contains(&fd.target, "passed on")))
            && t.execs().all(|(_, exec)| exec.inherited.iter().filter(|fd| contains(&fd.target, "passed on")).count() <= 1)),
    expect("p25_stops_itself", "each signal, and who sent it", |t|
        [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].iter().all(|signal| sent_within(t, *signal))
            && t.signals(libc::SIGCONT).len() == 4).not_notified(SIGNALS),
    expect("p25_stops_itself", "each end", |t| t.exited(0) == 6).not_notified(ENDS).of_lives(),
    expect("p25_stops_with_all_threads", "one stop, one end", |t|
        t.signals(libc::SIGSTOP).len() == 1 && t.killed(libc::SIGKILL) == 1).not_notified(SIGNALS),
    expect("p25_is_killed_while_stopped", "its end", |t| t.killed(libc::SIGKILL) == 1).not_notified(ENDS).of_lives(),
    expect("p27_sends_real_time_signals_with_a_payload", "nothing that was not delivered",
        |t| t.exited(0) == 3 && (34..=64).all(|signal| t.signals(signal).is_empty())).not_notified(ENDS).of_lives(),
    expect("p27_handles_a_real_time_signal", "it, its code and its sender", |t| {
        let signals = t.signals(libc::SIGRTMIN() + 5);
        signals.len() == 1 && signals[0].code == libc::SI_QUEUE && matches!(signals[0].sender, Sender::Tree(_))
    }).not_notified(SIGNALS),
    expect("p27_survives_a_storm_of_timers", "the signals, from the kernel", |t|
        t.signals(libc::SIGALRM).len() + t.signals(libc::SIGPROF).len() >= 200
            && t.signals(libc::SIGALRM).iter().all(|signal| signal.sender == Sender::Kernel)).not_notified(SIGNALS),
    expect("p28_kills_busy_children", "30 ends", |t| t.killed(libc::SIGKILL) == 30).not_notified(ENDS).of_lives(),
    expect("p33_works_beside_a_busy_process", "50 children and one that was killed",
        |t| t.created(Creation::Fork).len() == 51 && t.killed(libc::SIGKILL) == 1).not_notified(SILENT).of_lives(),
    expect("p34_waits_for_many_ends_at_once", "all ends", |t| (1..50).all(|code| t.exited(code) == 1))
        .not_notified(ENDS).of_lives(),
    expect("p34_waits_for_many_ends_at_once", "signals of the kernel", |t|
        t.signals(libc::SIGCHLD).iter().any(|signal| signal.sender == Sender::Kernel)).not_notified(SIGNALS),
    expect("p35_learns_of_an_end_at_once", "the end", |t| t.exited(0) == 2).not_notified(ENDS).of_lives(),
    expect("p35_finds_a_child_whose_pidfd_is_readable", "each end", |t|
        [7, 8, 9].iter().all(|code| t.exited(*code) == 20)).not_notified(ENDS).of_lives(),
    expect("p35_finds_a_killed_child_whose_pidfd_is_readable", "each end", |t|
        t.killed(libc::SIGKILL) == 60 && t.killed(libc::SIGABRT) == 20).not_notified(ENDS).of_lives(),
    expect("p35_finds_a_spawned_child_whose_pidfd_is_readable", "each end", |t|
        t.exited(0) == 21 && t.exited(6) == 20).not_notified(ENDS).of_lives(),
    expect("p35_finds_an_adopted_child_whose_pidfd_is_readable", "each end", |t|
        t.exited(5) == 20 && t.exited(0) == 22).not_notified(ENDS).of_lives(),
    expect("p35_collects_in_a_handler", "each end", |t| t.exited(4) == 20).not_notified(ENDS).of_lives(),
    expect("p36_restarts_a_blocked_open", "one call", |t| {
        let reads = t.calls(Op::Open, "/pipe").into_iter().filter(|call| call.access.is_some_and(|access| access.read));
        let results: Vec<_> = reads.map(|call| call.result).collect();
        results.len() == 1 && t.fine(results[0]) && sent_within(t, libc::SIGUSR1)
    }).not_notified(AGAIN),
    expect("p36_interrupts_a_blocked_open", "three calls, none of which succeeded", |t|
        matches!(t.opened("/pipe")[..], [Err(libc::EINTR), Err(libc::EINTR), Err(libc::EINTR) | Unknown])).not_notified(AGAIN),
    expect("p36_is_stopped_while_it_sleeps", "the stop and its end",
        |t| sent_within(t, libc::SIGSTOP) && sent_within(t, libc::SIGCONT)).not_notified(SIGNALS),
    expect("p38_ends_its_first_thread_early", "one end, of the process", |t| t.exited(5) == 1).not_notified(ENDS).of_lives(),
    expect("p38_ends_by_signals", "each end", |t|
        t.killed(libc::SIGABRT) == 1 && t.killed(libc::SIGSEGV) == 2 && t.killed(libc::SIGTERM) == 1
            && t.killed(libc::SIGRTMIN() + 7) == 1).not_notified(ENDS).of_lives(),
    expect("p38_ends_by_signals", "that the kernel sent one", |t|
        t.signals(libc::SIGSEGV).iter().any(|signal| signal.sender == Sender::Kernel)).not_notified(SIGNALS),
    expect("p39_uses_memory_and_time", "how much", |t| t.ends().any(|(event, end)|
        event.pid != t.root() && end.peak_memory >= 48 << 20 && (end.user + end.system).as_millis() >= 20)).not_notified(ENDS).of_lives(),
    expect("p42_opens_in_a_grandchild", "it", |t|
        t.opened("/opened-by-a-grandchild").into_iter().filter(|result| t.fine(*result)).count() >= 2),
    expect("p43_may_gain_privileges_as_before", "what it read", |t| !t.opened("/status").is_empty()),
    expect("p44_filters_itself", "what was not hidden", |t|
        command_lines(t).iter().any(|line| line == "/bin/true")).of_lives(),
    expect("p49_opens_in_a_storm_of_signals", "each file once", |t| (0..200).all(|number|
        matches!(t.opened(&format!("/storm-{number}"))[..], [result] if t.fine(result)))),
    expect("p51_opens_a_path_at_the_end_of_memory", "its path", |t|
        t.opened("/at the end of memory").len() == 2),
    expect("p51_opens_paths_that_cannot_be_read", "the error of the execution; the others asked for nothing",
        |t| exec_error(t, libc::EFAULT)).not_notified(RESULTS),
    expect("p53_forbids_reading_its_memory", "what came later, as far as it can be read", |t|
        t.execs().filter(|(_, exec)| t.fine(exec.result)).count() == 2 && !t.opened("/etc/ld.so.cache").is_empty()),
    expect("p55_opens_relative_paths", "where they were, of each thread", |t| {
        let found = |end| t.opened(end).into_iter().filter(|result| t.fine(*result)).count();
        // Each once more when it was written.
        found("/a/relative-a") == 3 && found("/b/relative-b") == 5
            && any_file(t, |file| file.result == Err(libc::EBADF) && file.path.absolute.is_none())
            && t.calls(Op::ChangeDirectory, "/b").len() == 2
    }).not_notified(RESULTS),
    expect("p56_opens_in_unusual_ways", "that it was for its path only, or for a folder", |t| {
        let links = t.calls(Op::Open, "/link");
        links.len() == 2 && links[1].access.is_some_and(|access| access.path_only)
            && t.opened("/unusual").contains(&Err(libc::ENOTDIR))
            && t.calls(Op::Stat, "/link").len() == 2
    }).not_notified(RESULTS),
    expect("p56_opens_in_unusual_ways", "that it is a link", |t| t.opened("/link")[0] == Err(libc::ELOOP)).not_notified(RESULTS),
    expect("p57_opens_beneath_a_folder", "the flags", |t|
        t.calls(Op::Open, "/beneath").iter().any(|call| call.call == "openat2" && t.fine(call.result)
            && call.access.is_some_and(|access| access.create && access.write))),
    expect("p57_opens_beneath_a_folder", "that the other one is above", |t|
        t.opened("/above").contains(&Err(libc::EXDEV))).not_notified(RESULTS),
    expect("p58_changes_its_root", "the change, and what was opened", |t|
        any_file(t, |file| file.operation == Op::ChangeRoot && t.fine(file.result))
            && t.opened("/in the new root").into_iter().filter(|result| t.fine(*result)).count() == 2),
    expect("p58_changes_its_root", "what is no longer there", |t| t.opened("/etc").contains(&Err(libc::ENOENT))).not_notified(RESULTS),
    expect("p58_mounts", "the mount", |t| any_file(t, |file| file.operation == Op::Mount && t.fine(file.result))),
    expect("p58_watches_a_folder", "the watch", |t| any_file(t, |file| file.operation == Op::Watch)),
    expect("p59_opens_through_links_and_dots", "what was asked, and where that is", |t| {
        any_file(t, |file| text(&file.path.asked) == "./link/.././real//file"
            && file.path.absolute.as_ref().is_some_and(|path| text(path).ends_with("/real/file") && !contains(path, "link")))
            && any_file(t, |file| text(&file.path.asked) == "link/file" && contains(file.path.path(), "/link/file"))
            && found(t, "/dev/stdin")
    }),
    expect("p53_opens_a_path_in_secret_memory", "one execution", |t| t.execs().count() == 1),
    expect("p59_opens_a_long_path", "that it was found", |t| t.opened("/long").iter().any(|result| t.fine(*result))
        && t.calls(Op::Stat, "/long").iter().any(|call| t.fine(call.result))),
    expect("p59_follows_forty_links", "that it was found", |t|
        t.opened("/link-40").iter().any(|result| t.fine(*result))),
    expect("p60_opens_a_path_that_changes", "a hundred calls at least", |t|
        t.files().filter(|(event, file)| event.pid != t.root() && file.path.asked.as_bytes().starts_with(b"changes-")
            && t.fine(file.result)).count() >= 100),
    expect("p61_asks_what_is_and_what_is_not", "what is", |t|
        t.opened("/is").iter().filter(|result| t.fine(**result)).count() >= 2
            && t.opened("/made").into_iter().filter(|result| t.fine(*result)).count() == 2
            && t.calls(Op::Stat, "/is").iter().any(|call| t.fine(call.result))
            && t.calls(Op::ReadLink, "/loop").iter().any(|call| t.fine(call.result))),
    expect("p61_asks_what_is_and_what_is_not", "what is not", |t| {
        let has = |op, end: &str, errno| t.calls(op, end).iter().any(|call| call.result == Err(errno));
        has(Op::Open, "/is not", libc::ENOENT)
            && has(Op::Open, "/is/not", libc::ENOTDIR) && has(Op::Open, "/loop", libc::ELOOP)
            && has(Op::Open, "longlong", libc::ENAMETOOLONG)
            && has(Op::Stat, "/is not", libc::ENOENT) && has(Op::Access, "/is not", libc::ENOENT)
    }).not_notified(RESULTS),
    expect("p61_asks_what_is_and_what_is_not", "that it was not made", |t|
        t.opened("/is").iter().filter(|result| t.fine(**result)).count() == 2
            && t.opened("/is").contains(&Err(libc::EEXIST))).not_notified(RESULTS),
    expect("p61_asks_for_what_is_refused", "that nothing was found but what is there", |t|
        t.calls(Op::Stat, "/refused").iter().any(|call| t.fine(call.result))
            && [Op::Open, Op::Stat].iter().all(|operation| {
                let calls = t.calls(*operation, "/closed/within");
                matches!(calls.last().map(|call| call.result), Some(Err(libc::EACCES) | Unknown))
            })),
    expect("p61_asks_for_what_is_refused", "the refusals", |t| {
        let last = |end| t.opened(end).last().copied();
        last("/refused") == Some(Err(libc::EACCES)) && last("/closed/within") == Some(Err(libc::EACCES))
            && t.calls(Op::Stat, "/closed/within").iter().any(|call| call.result == Err(libc::EACCES))
    }).not_notified(RESULTS),
    expect("p61_runs_out_of_descriptors", "the error of the process, not of the file", |t|
        t.opened("/one too many").last() == Some(&Err(libc::EMFILE))).not_notified(RESULTS),
    expect("p61_waits_for_files", "each missing until it was found, once", |t| (0..100).all(|number| {
        let opens = t.opened(&format!("/awaited-{number}"));
        opens.split_last().is_some_and(|(last, before)|
            t.fine(*last) && before.iter().all(|result| *result == Err(libc::ENOENT)))
    })).not_notified(RESULTS),
    expect("p63_is_given_a_descriptor", "whom it is from, and no file", |t|
        reaches(t, Net::Connect, Reach::Machine, |address| matches!(address, Address::UnixAbstract(_)))
            && t.opened("/given").is_empty()),
    expect("p64_is_in_a_folder_that_is_gone", "the name, and the error", |t|
        t.opened("/file (deleted)").into_iter().filter(|result| t.fine(*result)).count() >= 2
            && t.opened("in a folder that is gone") == [Err(libc::ENOENT)]).not_notified(RESULTS),
    expect("p65_uses_names_that_are_no_text", "the bytes", |t| {
        t.files().filter(|(_, file)| file.path.asked.as_bytes().ends_with(b"/\xff\n\"\\\x01 name")).count() >= 2
    }),
    expect("p65_goes_deeper_than_a_path_is_long", "the calls, with a path or without", |t|
        t.files().filter(|(_, file)| file.operation == Op::Open && text(&file.path.asked) == "deep"
            && t.fine(file.result)).count() == 2),
    expect("p66_uses_temporary_files", "that they are", |t|
        any_file(t, |file| file.access.is_some_and(|access| access.unnamed) )
            && t.calls(Op::Remove, "/removed").iter().any(|call| t.fine(call.result))
            && any_file(t, |file| contains(file.path.path(), "/dev/shm/tracees-"))),
    expect("p67_renames_links_and_exchanges", "both names of each", |t| {
        let to = |op, from: &str, to: &str| t.calls(op, from).iter().any(|call| t.fine(call.result)
            && call.to.as_ref().is_some_and(|path| text(path.path()).ends_with(to)));
        to(Op::Rename, "/new", "/old") && to(Op::Link, "/old", "/second name") && to(Op::Rename, "/old", "/third")
            && t.calls(Op::MakeDirectory, "/folder").len() == 1 && t.calls(Op::RemoveDirectory, "/folder").len() == 1
    }),
    expect("p67_renames_links_and_exchanges", "that another one is missing", |t|
        t.calls(Op::Rename, "/missing").iter().any(|call| call.result == Err(libc::ENOENT))).not_notified(RESULTS),
    expect("p68_lists_a_folder", "the listing", |t| any_file(t, |file|
        file.operation == Op::List && contains(file.path.path(), "/tmp/tracees-"))),
    expect("p69_maps_a_file", "that it could be written, and the machine's state", |t|
        t.calls(Op::Open, "/mapped").iter().any(|call| call.access.is_some_and(|access| access.write && access.read))
            && found(t, "/proc/sys/kernel/ostype")),
    expect("p70_executes_a_static_program", "it, without a loader, and what it opened", |t| {
        let program = t.execs().find(|(_, exec)| contains(exec.program.path(), "/static"));
        program.is_some_and(|(exec, call)| call.interpreters.is_empty() && t.files().any(|(event, file)|
            event.pid == exec.pid && file.call == "open" && contains(file.path.path(), "opened by a static")))
    }),
    expect("p72_connects_to_itself", "both ends, in the tree", |t|
        reaches(t, Net::Connect, Reach::Tree, loopback) && !t.network(Net::Bind).is_empty()
            && !t.network(Net::Listen).is_empty() && !t.network(Net::Accept).is_empty()),
    expect("p72_connects_to_nobody", "the error", |t| network_error(t, libc::ECONNREFUSED)).not_notified(RESULTS),
    expect("p72_connects_without_waiting", "that it was begun", |t| network_error(t, libc::EINPROGRESS)
        || t.network(Net::Connect).iter().any(|call| t.fine(call.result))),
    expect("p72_sends_datagrams", "where each went", |t| {
        let calls = t.network(Net::Send);
        ["sendto", "sendmsg", "sendmmsg"].iter().all(|name| calls.iter().any(|call| call.call == *name
            && call.reach == Reach::Tree && call.address.as_ref().is_some_and(loopback)))
    }).not_notified(PORTS),
    expect("p72_connects_by_names", "the names", |t|
        reaches(t, Net::Connect, Reach::Tree, |address| matches!(address, Address::Unix(path) if contains(path, "/socket")))
            && reaches(t, Net::Connect, Reach::Tree, |address| matches!(address, Address::UnixAbstract(name) if contains(name, "tracees\0")))),
    expect("p72_connects_by_names", "that one is missing", |t| network_error(t, libc::ENOENT)).not_notified(RESULTS),
    expect("p72_connects_by_ipv6", "both addresses", |t|
        t.network(Net::Connect).iter().filter(|call| call.reach == Reach::Tree && call.address.as_ref().is_some_and(loopback)).count() == 2),
    expect("p72_uses_other_families", "the families", |t|
        reaches(t, Net::Bind, Reach::Tree, |address| *address == Address::Netlink)),
    expect("p72_uses_other_families", "the errors", |t|
        [libc::EINVAL, libc::EBADF].iter().all(|errno| network_error(t, *errno))).not_notified(RESULTS),
    expect("p72_asks_a_name_server", "the name", |t| t.events.iter().any(|event| matches!(&event.kind,
        harness_metadata::TraceEventKind::Lookup(lookup) if text(&lookup.name) == "corpus.tracees.invalid"))),
    expect("p73_looks_outside", "that it is outside", |t|
        reaches(t, Net::Connect, Reach::Outside, |address| address.to_string() == "192.0.2.1:9")),
    expect("p74_asks_the_kernel", "its socket", |t| !t.network(Net::Bind).is_empty()),
    expect("p74_uses_other_channels", "the file that was locked", |t| found(t, "/lock")),
    expect("p75_takes_a_queued_signal", "one execution", |t| t.execs().count() == 1),
    expect("p75_gets_a_signal_from_outside", "who sent it", |t|
        t.signals(libc::SIGUSR1).iter().any(|signal| signal.sender == Sender::Outside(std::process::id().cast_signed()))).not_notified(SIGNALS),
    expect("p76_leaves_a_daemon", "its end, after all others'", |t|
        t.killed(libc::SIGKILL) == 1 && t.ends().last().is_some_and(|(_, end)| end.exit != Exit::Code(0))),
    expect("p79_leaves_a_chain_of_processes", "all ends", |t| t.created(Creation::Fork).len() > 20).not_notified(SILENT).of_lives(),
    expect("p80_takes_orphans", "the orphan", |t| t.exited(6) == 1).not_notified(ENDS).of_lives(),
    expect("p81_dies_with_its_parent", "its end", |t| t.killed(libc::SIGKILL) == 1).not_notified(ENDS).of_lives(),
    expect("p83_leaves_its_output_open", "its end", |t| t.killed(libc::SIGKILL) == 1).not_notified(ENDS),
    expect("p85_waits_for_nobody", "all ends", |t| (1..5).all(|code| t.exited(code) == 1)).not_notified(ENDS).of_lives(),
    expect("p91_uses_all_processors", "what it read", |t| !t.opened("/status").is_empty()),
    expect("p97_sees_its_tracer", "what it read", |t| !t.opened("/status").is_empty()),
    expect("p98_makes_many_calls", "each, of each thread in order", |t|
        ["many", "one", "other"].iter().all(|name| missing(t, name) == (0..400).collect::<Vec<_>>())
            && t.calls(Op::ReadLink, "/link").len() == 400 && t.calls(Op::Stat, "/link").len() == 400),
    expect("p99_is_interrupted_in_a_recorded_call", "one call, and those before and after it", |t|
        t.opened("/pipe").into_iter().filter(|result| t.fine(*result)).count() == 2
            && ["before", "after"].iter().all(|name| missing(t, name) == (0..40).collect::<Vec<_>>())).not_notified(AGAIN),
    expect("p99_leaves_a_recorded_call", "a call without an answer", |t|
        t.opened("/pipe") == [Unknown] && missing(t, "before").len() == 40 && t.exited(7) == 1).not_notified(AGAIN),
    expect("p100_is_killed_while_it_records", "all that it counted, and at most one more", |t| {
        let (killed, counted) = (missing(t, "killed"), missing(t, "counted"));
        counted.len() == 1 && killed == (0..killed.len()).collect::<Vec<_>>()
            && (counted[0]..=counted[0] + 1).contains(&killed.len())
    }),
    expect("p101_gives_addresses_that_are_none", "all calls but those that named nothing", |t|
        ["before", "after"].iter().all(|name| missing(t, name) == (0..40).collect::<Vec<_>>())
            && t.files().filter(|(_, call)| call.path.asked.as_bytes().starts_with(b"/x/")).count() == 6),
    expect("p102_filters_itself_after_many_calls", "what came before", |t|
        missing(t, "before") == (0..40).collect::<Vec<_>>() && t.opened("/filtered").len() == 40),
    expect("p102_forbids_itself_the_clock", "all calls", |t|
        missing(t, "timeless") == (0..40).collect::<Vec<_>>()),
    expect("p103_forks_while_it_is_recorded", "the calls of each process", |t| {
        let children = (0..4).flat_map(|number| [format!("child-{number}"), format!("child-{number}-later")]);
        let names = children.chain(["before", "parent", "parent-later"].map(str::to_owned));
        names.into_iter().all(|name| missing(t, &name) == (0..40).collect::<Vec<_>>())
            && t.execs().filter(|(_, exec)| exec.program.path().as_bytes() == b"/bin/true").count() == 5
    }),
    expect("p104_asks_by_relative_paths", "each, from its own directory", |t| {
        let below = |folder: &str, name: &str| {
            let start = format!("/{folder}/{name}-");
            let found = t.files().filter(|(_, call)| {
                let asked = call.path.asked.to_string();
                asked.starts_with(name) && call.path.path().to_string().contains(&start)
            });
            found.count() == 40 && missing(t, name) == (0..40).collect::<Vec<_>>()
        };
        [("first", "of-first"), ("second", "of-thread"), ("first", "again"), ("other", "renamed"), ("second", "of-descriptor")]
            .into_iter().all(|(folder, name)| below(folder, name))
            && ["of-removed", "of-root"].iter().all(|name| missing(t, name).len() == 40)
            && t.opened("/second/file").into_iter().filter(|result| t.fine(*result)).count() == 81
    }),
    expect("p104_lists_directories", "each list, and the errors", |t| {
        let lists: Vec<_> = t.files().filter(|(_, call)| call.operation == Op::List).map(|(_, call)| call).collect();
        let failed = lists.iter().filter(|call| call.result == Err(libc::ENOTDIR));
        failed.count() == 40 && lists.iter().filter(|call| call.file.is_some() && call.path.absolute.is_none()).count() >= 80
    }).not_notified(RESULTS),
];

/// Returns the numbers of the files that were looked for in vain, in order: the 7 of `name-007`.
fn missing(trace: &Trace, name: &str) -> Vec<usize> {
    let number = |call: &FileCall| {
        let path = call.path.path().to_string();
        let (before, number) = path.rsplit_once('-')?;
        let is_so = before.rsplit('/').next() == Some(name) && call.operation == Op::Open;
        let is_missing = matches!(call.result, Err(libc::ENOENT) | Unknown);
        (is_so && is_missing).then(|| number.parse().ok())?
    };
    trace.files().filter_map(|(_, call)| number(call)).collect()
}
