//! How tracing goes wrong, line by line: what is so, and where it is tested or why it is not.
//! `site/docs/tracer-checklist.md` is made of this.

/// A line of the checklist.
pub(crate) struct Line {
    /// Its number: the 9 of P9.
    pub(crate) number: u32,
    /// What is so, and easily got wrong.
    pub(crate) fact: &'static str,
    /// The programs of `fixtures/tracees`, without the `p09_` that they all start with.
    pub(crate) programs: &'static [&'static str],
    /// Where else it is tested, why it is not, or what the programs leave open.
    pub(crate) note: &'static str,
}

const fn line(
    number: u32,
    fact: &'static str,
    programs: &'static [&'static str],
    note: &'static str,
) -> Line {
    Line {
        number,
        fact,
        programs,
        note,
    }
}

/// Returns the name of a program of a line.
pub(crate) fn program(line: &Line, name: &str) -> String {
    format!("p{:02}_{name}", line.number)
}

/// The parts, each with its lines.
#[rustfmt::skip]
pub(crate) const PARTS: [(&str, &[Line]); 9] = [
    ("Starting, and creating processes", &[
        line(1, "Seizing a process does not stop it; until then it may run, execute or end", &[],
            "nobody runs meanwhile: the child waits to be seized. Tests of the stub"),
        line(2, "The first execution is easily lost", &["does_nothing"], ""),
        line(3, "A child that stops itself to be seized can hang its descendants", &["starts_many_children"], ""),
        line(4, "A hook before the execution that waits for its parent never returns", &[],
            "by construction: the stub forks by itself and has one thread"),
        line(5, "What the harness does to start a test is not what the test does", &["asks_for_one_file"], ""),
        line(6, "A child may be seen before the call that created it", &["forks_from_eight_threads"], ""),
        line(7, "Every kind of new task announces itself alike", &["creates_every_kind_of_child"], ""),
        line(8, "A child by vfork shares memory, and its parent sleeps until it executes", &["spawns_from_sixteen_threads"], ""),
        line(9, "A parent may be gone before its child is seen", &["parent_dies_first"], ""),
        line(10, "A child can be created so that no tracer gets it", &["asks_not_to_be_traced"],
            "`ptrace` makes it a traced one from the level `io` on, `notify` says that there is one; at `process` it is not noticed"),
        line(11, "Ids of processes are used again", &["uses_an_id_again"], "as root only"),
        line(12, "The event that the kernel reports does not say whether it is a thread", &["creates_a_thread_as_if_by_vfork"], ""),
        line(13, "The creator need not be the parent", &["creates_a_sibling"], ""),
        line(14, "In a namespace a process has another id", &["lives_in_its_own_namespace"], ""),
    ]),
    ("Executing programs", &[
        line(15, "A thread that executes takes over the id of the first thread", &["executes_from_a_thread"], ""),
        line(16, "The other threads end in any order then", &["executes_beside_many_threads"], ""),
        line(17, "An execution that fails is reported by its result only", &["fails_to_execute"], ""),
        line(18, "After an execution the registers are the new program's, perhaps of the other word size",
            &["executes_one_after_another", "executes_a_32_bit_program"], ""),
        line(19, "A program need not have a path", &["executes_a_memfd", "executes_a_descriptor"], ""),
        line(20, "The kernel opens interpreters and loaders without a system call", &["executes_a_script"],
            "not `binfmt_misc`, which is the machine's to configure"),
        line(21, "Arguments can be megabytes", &["executes_with_large_arguments"], ""),
        line(22, "Set-user-id bits mean nothing when the tracer has no privileges", &["executes_a_set_uid_program"],
            "as root, for whom nothing changes; for others the bits are ignored"),
        line(23, "A program can execute itself when its file is gone, and passes descriptors on",
            &["executes_itself_after_its_removal", "passes_on_descriptors"], ""),
    ]),
    ("Signals, stops, waiting", &[
        line(24, "There are many kinds of stops, and unknown ones", &[],
            "tests of the tracer; every program here meets several"),
        line(25, "A stop by a signal has to last, and the parent has to learn of it and of its end",
            &["stops_itself", "stops_with_all_threads", "is_killed_while_stopped"], ""),
        line(26, "Ctrl-Z stops the tests and their clocks", &[], "`supervision`: `ctrl_z_stops_the_tests_and_the_clock_and_fg_continues_them`"),
        line(27, "Signals have to arrive unchanged, real-time ones with their payload",
            &["sends_real_time_signals_with_a_payload", "handles_a_real_time_signal", "survives_a_storm_of_timers"], ""),
        line(28, "SIGKILL can come between any two steps of the tracer", &["kills_busy_children"], ""),
        line(29, "Whoever else waits can steal a stop", &[], "by construction: only the stub has tests as children"),
        line(30, "Only the thread that seized may ask", &[], "by construction: the stub has one thread"),
        line(31, "When the tracer ends, all that it traced is killed", &[],
            "`supervision`: `a_test_that_kills_its_stub_is_a_fault_and_leaves_nothing`"),
        line(32, "Waiting gets slower with every tracee", &[], "by construction: a tracer per slot. The benchmarks"),
        line(33, "One busy process must not starve others", &["works_beside_a_busy_process"], ""),
        line(34, "Many ends at once, and an inherited disposition of SIGCHLD", &["waits_for_many_ends_at_once"],
            "`supervision`: `ignored_and_blocked_signals_of_a_careless_parent_do_no_harm`"),
        line(35, "The parent learns of an end only when the tracer has", &["learns_of_an_end_at_once"], ""),
        line(36, "Interrupted calls begin again, and are one call",
            &["restarts_a_blocked_open", "interrupts_a_blocked_open", "is_stopped_while_it_sleeps"],
            "the same call again, after it failed with EINTR, cannot be told from its restart"),
        line(37, "Old kernels have another order of stops", &[], "older kernels are not supported"),
        line(38, "How a test ended is what its last thread said", &["ends_its_first_thread_early", "ends_by_signals"], ""),
        line(39, "What a process used is known at its end", &["uses_memory_and_time"], ""),
    ]),
    ("Filters", &[
        line(40, "The 32-bit interface has other numbers", &["opens_by_the_32_bit_interface"], "x86-64 only"),
        line(41, "So has x32", &["opens_by_the_x32_interface"], "x86-64 only; few kernels have it"),
        line(42, "Filters are for all descendants and for ever", &["opens_in_a_grandchild"],
            "nothing outlives the tracer: P76 to P82"),
        line(43, "A filter needs privileges, or gives up gaining any", &["may_gain_privileges_as_before"], "as root"),
        line(44, "A program's own filter can hide calls", &["filters_itself"], ""),
        line(45, "Filters have limits of size and of distance", &[], "tests of the filter"),
        line(46, "A filter can slow down what it does not concern", &[], "measured by the benchmarks, not tested"),
        line(47, "Filters may be refused, and the run goes on", &[], "tests of the stub; `ptrace_refused` for ptrace"),
        line(48, "There is one listener for all filters", &["answers_its_own_calls"], ""),
        line(49, "Signals interrupt calls that somebody looks at", &["opens_in_a_storm_of_signals"], ""),
        line(50, "What was looked at may change before the call goes on", &[],
            "the tracer observes and guards nothing; P60"),
    ]),
    ("Paths", &[
        line(51, "A path may end where memory does, or be none",
            &["opens_a_path_at_the_end_of_memory", "opens_paths_that_cannot_be_read"], ""),
        line(52, "There are three ways to read memory", &[], "they are alternatives of the tracer; the kernel here has all"),
        line(53, "A process can forbid reading its memory", &["forbids_reading_its_memory"], ""),
        line(54, "Some kernels lack `process_vm_readv`", &[], "the kernel here has it"),
        line(55, "Threads can have directories and descriptors of their own", &["opens_relative_paths"], ""),
        line(56, "Paths may be empty, followed or not, for a folder, for a file without a name", &["opens_in_unusual_ways"], ""),
        line(57, "`openat2` has its flags in memory", &["opens_beneath_a_folder"], ""),
        line(58, "Roots, mounts and handles change what a path means",
            &["changes_its_root", "mounts", "opens_by_handle", "watches_a_folder"],
            "not `pivot_root` and the newer mount calls"),
        line(59, "What was asked for is not what it resolves to", &["opens_through_links_and_dots"], ""),
        line(60, "Another thread can change a path while it is read", &["opens_a_path_that_changes"], ""),
        line(61, "Who looks at entries only has to find out the result", &["asks_what_is_and_what_is_not", "asks_for_what_is_refused"], ""),
        line(62, "Operations of io_uring are no system calls", &["sets_up_io_uring"], ""),
        line(63, "Descriptors come from elsewhere", &["passes_a_descriptor", "takes_a_descriptor", "is_given_a_descriptor"], ""),
        line(64, "A removed file looks like one with an odd name", &["is_in_a_folder_that_is_gone"], ""),
        line(65, "Names are bytes, and folders deeper than a path is long",
            &["uses_names_that_are_no_text", "goes_deeper_than_a_path_is_long"], ""),
        line(66, "Some files are nobody else's", &["uses_temporary_files"], ""),
        line(67, "Content moves with the file, not with the name", &["renames_links_and_exchanges"], ""),
        line(68, "The names in a folder are a question too", &["lists_a_folder"], ""),
        line(69, "What is mapped was opened; /proc and /sys are the machine's state", &["maps_a_file"], ""),
        line(70, "Static programs are no different", &["executes_a_static_program"], "x86-64 only"),
        line(71, "Clocks and random numbers need no system call", &[], "cannot be seen by any tracer"),
    ]),
    ("Network, and other channels", &[
        line(72, "Addresses come in many calls, families and lengths",
            &["connects_to_itself", "connects_to_nobody", "connects_without_waiting", "sends_datagrams",
              "connects_by_names", "connects_by_ipv6", "uses_other_families", "asks_a_name_server"], ""),
        line(73, "Inside is what the same tree listens to, not what is loopback", &["looks_outside"],
            "inside: the programs of P72"),
        line(74, "There are channels without a path", &["uses_other_channels"], "that they work; they are not recorded"),
        line(75, "A signal from outside is an input", &["gets_a_signal_from_outside"], ""),
    ]),
    ("Ending and cleaning up", &[
        line(76, "A daemon has left everything by which it is usually found", &["leaves_a_daemon"], ""),
        line(77, "A control group can be killed as a whole", &[], "control groups are not used"),
        line(78, "A process can leave its control group", &[], "control groups are not used"),
        line(79, "Processes fork while they are being killed", &["leaves_a_chain_of_processes"],
            "`supervision`: `a_tree_that_forks_without_end_is_terminated`"),
        line(80, "Orphans go to the nearest subreaper, the test's own too", &["takes_orphans"], ""),
        line(81, "A signal on the parent's death is for those who ask", &["dies_with_its_parent"], ""),
        line(82, "Nothing of the harness runs when it is killed", &[], "`end_to_end`: `nothing_outlives_a_run_that_is_killed`"),
        line(83, "Others can keep the output open", &["leaves_its_output_open"], ""),
        line(84, "Some processes cannot be killed for now", &[], "nothing here sleeps uninterruptibly on demand"),
        line(85, "Ends are to be collected even when nobody asks", &["waits_for_nobody"], ""),
    ]),
    ("Surroundings", &[
        line(86, "Policies restrict ptrace", &[], "`end_to_end`: `ptrace_refused`; Yama and SELinux are the machine's to configure"),
        line(87, "So do containers", &[], "as P86; no container runtime here"),
        line(88, "No privileges are needed", &[], "all programs run as another user too"),
        line(89, "Emulators lie about ptrace", &[], "no emulator here; the stub tries before it relies on it"),
        line(90, "Stops shift what happens when", &[], "programs here assert nothing about time but generous limits"),
        line(91, "A test is to see the processors that there are", &["uses_all_processors"], ""),
    ]),
    ("Tools under test", &[
        line(92, "A process has one tracer", &["traces_its_own_child", "reads_its_own_child"], ""),
        line(93, "Tests that trace need another way", &[], "`trace = \"off\"`: `end_to_end`, `every_test_has_its_outcome_when_traced`"),
        line(94, "A harness can run under a harness", &[], "`end_to_end`: `nesting`"),
        line(95, "Some sanitizers refuse to be traced", &[], "they need an unstable compiler"),
        line(96, "Coverage builds write profiles", &[], "a matter of who reads traces"),
        line(97, "A test can see that it is traced", &["sees_its_tracer"], ""),
    ]),
];
