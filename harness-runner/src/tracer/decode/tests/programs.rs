//! Programs, and what hides calls.

use super::{call, exec, fake::Fake, native};
use crate::tracer::decode::{
    Entry, Environment, Pending, Question, ReadError, Syscall, Vectors, entry, environment_change,
    exit, interpreters, unfinished,
};
use harness_metadata::{
    RawString, TraceEventKind,
    event::TraceLevel,
    trace::{CallResult, Disturbance, Doubt, EnvironmentChange, FileOperation},
};
use std::rc::Rc;
use syscalls::Sysno;

fn doubts(told: &super::Told) -> Vec<Doubt> {
    told.first
        .iter()
        .chain(told.then.iter().flatten())
        .filter_map(|event| match event {
            TraceEventKind::Doubt(doubt) => Some(doubt.clone()),
            TraceEventKind::File(_) => None,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn texts(strings: &[RawString]) -> Vec<String> {
    strings.iter().map(ToString::to_string).collect()
}

/// An ELF file of 64 bits that names a loader, which is at the end of `padding`.
fn elf(loader: &str, padding: usize) -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    let machine = if cfg!(target_arch = "x86_64") {
        libc::EM_X86_64
    } else {
        libc::EM_AARCH64
    };
    file[18..20].copy_from_slice(&machine.to_le_bytes());
    file[32..40].copy_from_slice(&64_u64.to_le_bytes());
    file[54..56].copy_from_slice(&56_u16.to_le_bytes());
    file[56..58].copy_from_slice(&2_u16.to_le_bytes());
    file.extend([0; 56]);
    let mut header = vec![0; 56];
    header[..4].copy_from_slice(&3_u32.to_le_bytes());
    header[8..16].copy_from_slice(&(176 + padding as u64).to_le_bytes());
    header[32..40].copy_from_slice(&(loader.len() as u64 + 1).to_le_bytes());
    file.extend(header);
    file.extend(vec![0; padding]);
    file.extend(loader.as_bytes());
    file.push(0);
    file
}

fn variables(strings: &[&str]) -> Environment {
    Environment::new(strings.iter().map(|string| string.as_bytes()))
}

#[test]
fn an_exec_tells_program_arguments_environment_and_what_is_inherited() {
    let mut task = Fake::new()
        .with_file("/work/tool", b"#!/bin/sh -e\n")
        .with_file("/bin/sh", &elf("/lib/ld.so", 0))
        .with_descriptor(9, "/folder/lock")
        .with_descriptor(0, "/dev/null")
        .with_descriptor(4, "pipe:[4]");
    task.environment = Some(Rc::new(variables(&["A=1", "GONE=", "SAME=x"])));
    let path = task.string("tool");
    let args = task.strings(&["tool", "", "b c"]);
    let environment = task.strings(&["SAME=x", "A=2", "NEW=a=b", "A=3"]);
    let words = [path, args, environment];
    let mut events = Vec::new();
    let call = native(Sysno::execve, &words);
    let Entry::Await(pending) = entry(&call, TraceLevel::Io, &task, &mut events) else {
        panic!("not awaited");
    };
    assert!(pending.is_exec());
    let new = pending.environment().expect("an exec");
    assert_eq!(*new, variables(&["SAME=x", "A=2", "NEW=a=b", "A=3"]));
    exit(pending, 0, &task, &mut events);
    let exec = exec(events);
    assert_eq!(exec.program.asked, "tool".into());
    assert_eq!(exec.program.path(), &"/work/tool".into());
    assert_eq!(texts(&exec.args), ["tool", "", "b c"]);
    assert_eq!(exec.cwd, "/work".into());
    let set = [("A".into(), "2".into()), ("NEW".into(), "a=b".into())];
    assert_eq!(exec.environment.set, set);
    assert_eq!(texts(&exec.environment.unset), ["GONE"]);
    let inherited: Vec<_> = exec.inherited.iter().map(|it| it.fd).collect();
    assert_eq!(inherited, [4, 9]);
    assert_eq!(texts(&exec.interpreters), ["/bin/sh", "/lib/ld.so"]);
    assert_eq!(exec.result, CallResult::Ok(0));
    assert!(!exec.truncated);
}

/// Makes an exec of `path` up to its exit.
fn awaited(task: &Fake, words: &[u64]) -> Pending {
    let mut events = Vec::new();
    let entry = entry(
        &native(Sysno::execve, words),
        TraceLevel::Io,
        task,
        &mut events,
    );
    let Entry::Await(pending) = entry else {
        panic!("not awaited: {events:?}");
    };
    assert_eq!(events, []);
    pending
}

#[test]
fn a_program_tells_itself_what_it_was_started_with() {
    let mut task = Fake::new().with_file("/bin/tool", &elf("/lib/ld.so", 0));
    task.environment = Some(Rc::new(variables(&["A=1", "GONE="])));
    let path = task.string("/bin/tool");
    let args = task.strings(&["another", "thread", "rewrites", "this"]);
    let environment = task.strings(&["REWRITTEN=1"]);
    let mut pending = awaited(&task, &[path, args, environment]);
    assert_eq!(task.reads.get(), 1, "of its path");
    assert_eq!(pending.environment(), None);

    let vectors = || Vectors::in_blocks(Some(b"tool\0-x\0"), Some(b"A=2\0".to_vec()));
    pending.started(vectors, &task);
    let environment = pending.environment().expect("it has started");
    assert_eq!(*environment, variables(&["A=2"]));
    let mut events = Vec::new();
    exit(pending, 0, &task, &mut events);
    assert_eq!(task.reads.get(), 1, "not again");
    let exec = exec(events);
    assert_eq!(texts(&exec.args), ["tool", "-x"]);
    assert_eq!(exec.environment.set, [("A".into(), "2".into())]);
    assert_eq!(texts(&exec.environment.unset), ["GONE"]);
    assert!(!exec.truncated);
}

#[test]
fn p18_p20_of_a_script_and_of_another_machine_s_program_the_call_says_it() {
    let mut other_width = elf("/ld", 0);
    other_width[4] = 1;
    let mut other_machine = elf("/ld", 0);
    other_machine[18..20].copy_from_slice(&[0xf7, 0xff]);
    for content in [
        b"#!/bin/sh\n",
        b"echo 1234\n",
        &other_width[..],
        &other_machine,
    ] {
        let mut task = Fake::new().with_file("/bin/tool", content);
        let path = task.string("/bin/tool");
        let args = task.strings(&["tool", "-x"]);
        let environment = task.strings(&["A=2"]);
        let mut pending = awaited(&task, &[path, args, environment]);
        pending.started(|| panic!("it is known"), &task);
        assert_eq!(pending.environment().as_deref(), Some(&variables(&["A=2"])));
        let mut events = Vec::new();
        exit(pending, 0, &task, &mut events);
        assert_eq!(texts(&exec(events).args), ["tool", "-x"]);
    }
}

#[test]
fn who_sees_no_exit_reads_everything_at_the_entry() {
    let mut task = Fake::new().with_file("/bin/tool", &elf("/ld", 0));
    let path = task.string("/bin/tool");
    let args = task.strings(&["tool", "-x"]);
    let environment = task.strings(&["A=2"]);
    let mut pending = awaited(&task, &[path, args, environment]);
    let mut events = Vec::new();
    pending.read_vectors(&task, &mut events);
    assert_eq!(pending.environment().as_deref(), Some(&variables(&["A=2"])));
    unfinished(pending, &task, &mut events);
    let exec = exec(events);
    assert_eq!(texts(&exec.args), ["tool", "-x"]);
    assert_eq!(exec.environment.set.len(), 1);
    assert!(!exec.truncated);
}

#[test]
fn p17_an_exec_of_what_is_not_there_has_its_arguments_and_no_environment() {
    let mut task = Fake::new()
        .with_descriptor(9, "/folder/lock")
        .with_descriptor(5, "/dir");
    let path = task.string("none");
    let args = task.strings(&["none", "-x"]);
    let environment = task.strings(&["A=2"]);
    let told = |number, words: &[u64]| {
        let missing = -i64::from(libc::ENOENT);
        exec(call(&task, TraceLevel::Io, number, words, missing).at_exit())
    };
    let in_cwd = told(Sysno::execve, &[path, args, environment]);
    assert_eq!(in_cwd.program.path(), &"/work/none".into());
    assert_eq!(in_cwd.cwd, "/work".into());
    assert_eq!(in_cwd.result, CallResult::Err(libc::ENOENT));
    assert_eq!(texts(&in_cwd.args), ["none", "-x"]);
    assert_eq!(in_cwd.environment, EnvironmentChange::default());
    assert!(in_cwd.inherited.is_empty() && !in_cwd.truncated);
    let in_dir = told(Sysno::execveat, &[5, path, args, environment, 0]);
    assert_eq!(in_dir.program.path(), &"/dir/none".into());
}

#[test]
fn p17_an_exec_that_may_fail_for_another_reason_is_awaited() {
    let mut task = Fake::new().with_descriptor(5, "/dir");
    let path = task.string("none");
    let empty = task.string("");
    let long = task.string(&"x".repeat(5000));
    let too_long = task.strings(&[&"x".repeat(70_000)]);
    let (args, nowhere) = (task.strings(&["none"]), 8);
    let empty_path = libc::AT_EMPTY_PATH as u64;
    for words in [
        // Not a descriptor, flags that there are not, the descriptor itself, no path.
        [7, path, args, 0, 0],
        [5, path, args, 0, 1],
        [5, empty, args, 0, empty_path],
        [5, empty, args, 0, 0],
        [5, long, args, 0, 0],
        [5, path, nowhere, 0, 0],
        [5, path, too_long, 0, 0],
    ] {
        let told = call(&task, TraceLevel::Io, Sysno::execveat, &words, -2);
        let exec = exec(told.at_exit());
        assert_eq!(exec.result, CallResult::Err(libc::ENOENT), "{words:?}");
    }
    // Only the kernel knows what it tells a task with other rights.
    task.other_rights.set(true);
    let told = call(&task, TraceLevel::Io, Sysno::execve, &[path, args, 0], -13);
    assert_eq!(exec(told.at_exit()).result, CallResult::Err(libc::EACCES));
}

#[test]
fn p17_a_failed_exec_has_arguments_and_no_change_of_the_environment() {
    for content in [b"#!/none\n".to_vec(), elf("/none", 0)] {
        let mut task = Fake::new()
            .with_file("/tool", &content)
            .with_descriptor(9, "/folder/lock");
        let path = task.string("/tool");
        let args = task.strings(&["tool", "-x"]);
        let environment = task.strings(&["A=2"]);
        let words = [path, args, environment];
        let told = call(&task, TraceLevel::Io, Sysno::execve, &words, -2);
        let exec = exec(told.at_exit());
        assert_eq!(exec.result, CallResult::Err(libc::ENOENT));
        assert_eq!(texts(&exec.args), ["tool", "-x"]);
        assert_eq!(exec.environment, EnvironmentChange::default());
        assert!(exec.inherited.is_empty() && !exec.truncated);
    }
}

#[test]
fn p19_a_program_may_be_a_descriptor() {
    let mut task = Fake::new()
        .with_descriptor(5, "/memfd:x (deleted)")
        .with_file("/memfd:x (deleted)", &elf("/ld", 0));
    let empty = task.string("");
    let args = [5, empty, 0, 0, libc::AT_EMPTY_PATH as u64];
    let exec = exec(call(&task, TraceLevel::Io, Sysno::execveat, &args, 0).at_exit());
    assert_eq!(exec.program.asked, "/memfd:x (deleted)".into());
    assert_eq!(texts(&exec.interpreters), ["/ld"]);
}

#[test]
fn p21_large_vectors_are_cut_off_and_flagged() {
    let mut task = Fake::new();
    let path = task.string("/x");
    let long = "y".repeat(40_000);
    let args = task.strings(&[&long, &long, "z"]);
    let run = |args, environment| {
        let words = [path, args, environment];
        exec(call(&task, TraceLevel::Io, Sysno::execve, &words, 0).at_exit())
    };
    let cut = run(args, 0);
    assert!(cut.truncated);
    let lengths: Vec<_> = cut.args.iter().map(|arg| arg.as_bytes().len()).collect();
    assert_eq!(lengths.iter().sum::<usize>(), 64 * 1024 - 1);
    // A vector without an end.
    let string = task.string("s");
    let many = task.words(&[string; 5000]);
    let words = [path, many, many];
    let cut = exec(call(&task, TraceLevel::Io, Sysno::execve, &words, 0).at_exit());
    assert!(cut.truncated);
    assert_eq!(cut.args.len(), 4096);
}

#[test]
fn p53_a_program_of_a_task_that_may_not_be_read_is_told_of_without_what_is_in_memory() {
    let mut task = Fake::new();
    task.refused = Some(ReadError::Refused);
    let told = call(&task, TraceLevel::Io, Sysno::execve, &[1, 1, 1], 0);
    assert!(
        told.first
            .contains(&TraceEventKind::Doubt(Doubt::Undumpable))
    );
    let exec = exec(told.then.expect("awaited"));
    assert_eq!(exec.program, Default::default());
    assert_eq!(exec.cwd, "/work".into());
}

#[test]
fn environments_differ_by_what_is_set_and_unset() {
    let (old, new) = (variables(&["A=1", "B=2", "=C=3"]), variables(&["B=2", "D"]));
    let change = environment_change(Some(&old), &new);
    assert_eq!(change.set, [("D".into(), "".into())]);
    assert_eq!(texts(&change.unset), ["=C", "A"]);
    assert_eq!(environment_change(None, &new).set.len(), 2);
    assert_eq!(Environment::from_block(b"B=2\0D\0"), new);
    // Of what was cut off nothing is known to be gone.
    let long = format!("L={}", "x".repeat(70_000));
    let cut = variables(&["B=2", &long]);
    let change = environment_change(Some(&old), &cut);
    assert!(change.unset.is_empty());
}

#[test]
fn p20_interpreters_are_followed_as_the_kernel_follows_them() {
    let follow = |files: &[(&str, &[u8])]| {
        let found = interpreters(b"main", &mut |path, offset, buffer| {
            let (_, content) = files.iter().find(|(name, _)| name.as_bytes() == path)?;
            let rest = content.get(offset as usize..)?;
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            Some(length)
        });
        texts(&found)
    };
    assert_eq!(follow(&[]), [""; 0]);
    assert_eq!(follow(&[("main", b"echo")]), [""; 0]);
    assert_eq!(follow(&[("main", b"#! \t/bin/x\targ\n")]), ["/bin/x"]);
    assert_eq!(follow(&[("main", b"#!/bin/x")]), ["/bin/x"]);
    assert_eq!(follow(&[("main", b"#!\n/bin/x")]), [""; 0]);
    assert_eq!(follow(&[("main", &elf("/ld", 0))]), ["/ld"]);
    assert_eq!(follow(&[("main", &elf("/far/ld", 9000))]), ["/far/ld"]);
    // A name that does not fit into what the kernel looks at.
    let long = [b"#!/".as_slice(), &[b'x'; 300], b"\n"].concat();
    assert_eq!(follow(&[("main", &long)]), [""; 0]);
    // A script that is its own interpreter: the kernel gives up after five.
    assert_eq!(follow(&[("main", b"#!main")]).len(), 6);
    // A loader's name of no length or too much of it, a table elsewhere.
    for (at, value) in [
        (120 + 32, u64::MAX),
        (120 + 32, 0),
        (120 + 8, u64::MAX),
        (32, u64::MAX),
    ] {
        let mut file = elf("/ld", 0);
        file[at..at + 8].copy_from_slice(&value.to_le_bytes());
        assert_eq!(follow(&[("main", &file)]), [""; 0]);
    }
}

#[test]
fn p10_p44_p62_what_hides_calls_is_a_doubt_if_it_succeeds() {
    let mut task = Fake::new();
    let untraced = task.words(&[libc::CLONE_UNTRACED as u64]);
    let new_mounts = libc::CLONE_NEWNS as u64;
    for (number, args, doubt) in [
        (Sysno::io_uring_setup, &[8, 1][..], Doubt::IoUring),
        (Sysno::seccomp, &[1, 0, 1], Doubt::OwnFilter),
        (Sysno::prctl, &[22, 2, 1], Doubt::OwnFilter),
        (Sysno::prctl, &[4, 0], Doubt::Undumpable),
        (Sysno::prctl, &[4, 2], Doubt::Undumpable),
        (Sysno::process_vm_readv, &[1], Doubt::TracesOthers),
        (Sysno::pidfd_getfd, &[3, 4], Doubt::ForeignDescriptor),
        (Sysno::open_by_handle_at, &[3, 4], Doubt::OpenedByHandle),
        (Sysno::bpf, &[0], Doubt::KernelFacility),
        (Sysno::shmget, &[7], Doubt::KernelFacility),
        (Sysno::setns, &[3], Doubt::ChangedNamespace),
        (Sysno::unshare, &[new_mounts], Doubt::ChangedNamespace),
    ] {
        let io = |result| doubts(&call(&task, TraceLevel::Io, number, args, result));
        assert_eq!(io(3), [doubt], "{number}");
        assert_eq!(io(-1), [], "{number} failed");
    }
    for (number, args, doubt) in [
        (
            Sysno::clone,
            &[libc::CLONE_UNTRACED as u64][..],
            Doubt::UntracedTask,
        ),
        (Sysno::clone3, &[untraced, 88], Doubt::UntracedTask),
        (Sysno::clone, &[new_mounts], Doubt::ChangedNamespace),
    ] {
        let told = call(&task, TraceLevel::Io, number, args, 0);
        assert_eq!(told.at_entry(), [TraceEventKind::Doubt(doubt)], "{number}");
    }
    // Also awaited, because it may be refused: see the next test.
    let told = call(&task, TraceLevel::Io, Sysno::ptrace, &[0], 0);
    assert_eq!(told.first, [TraceEventKind::Doubt(Doubt::TracesOthers)]);
}

#[test]
fn p92_a_refusal_to_trace_is_ours_only_if_it_would_have_been_allowed_without_us() {
    let attach = libc::PTRACE_ATTACH as u64;
    let refused = Doubt::Disturbed(Disturbance::PtraceRefused);
    for (args, ours, result, disturbed) in [
        (&[attach, 7][..], Some(Question::Attach(7)), -1, true),
        // Not there, or done.
        (&[attach, 7], Some(Question::Attach(7)), -3, false),
        (&[attach, 7], Some(Question::Attach(7)), 0, false),
        // Refused to everybody, as it is for a process's own threads.
        (&[attach, 7], None, -1, false),
        (&[0, 0], Some(Question::TraceMe), -1, true),
        (&[0x4206, 8], Some(Question::Attach(8)), -1, true),
    ] {
        let mut task = Fake::new();
        task.met.extend(ours);
        let told = doubts(&call(&task, TraceLevel::Io, Sysno::ptrace, args, result));
        assert_eq!(told[0], Doubt::TracesOthers);
        assert_eq!(told.contains(&refused), disturbed, "{args:?} {result}");
    }
}

/// The doubts of a call of a task for which the tracer is the answer to a question.
fn met(mut task: Fake, question: Question, number: Sysno, args: &[u64]) -> Vec<Doubt> {
    task.met.push(question);
    doubts(&call(&task, TraceLevel::Io, number, args, 0))
}

#[test]
fn p97_questions_whose_answer_is_the_tracer_are_disturbed() {
    use Disturbance::{NoNewPrivsAsked, NoNewPrivsUsed, SeccompAsked, StrictModeRefused};
    use Question::{Confine, NoNewPrivs, SeccompMode};
    for (number, args, question, how) in [
        (Sysno::prctl, &[21][..], SeccompMode, SeccompAsked),
        (Sysno::prctl, &[39], NoNewPrivs, NoNewPrivsAsked),
        (Sysno::prctl, &[22, 1], SeccompMode, StrictModeRefused),
        (Sysno::seccomp, &[0, 0, 0], SeccompMode, StrictModeRefused),
        (Sysno::landlock_restrict_self, &[3], Confine, NoNewPrivsUsed),
    ] {
        let disturbed = [Doubt::Disturbed(how)];
        assert_eq!(
            met(Fake::new(), question, number, args),
            disturbed,
            "{args:?}"
        );
        let undisturbed = doubts(&call(&Fake::new(), TraceLevel::Io, number, args, 0));
        assert!(!undisturbed.contains(&disturbed[0]), "{args:?}");
    }
    // Wrong arguments: refused to everybody.
    assert_eq!(
        met(Fake::new(), SeccompMode, Sysno::seccomp, &[0, 1, 0]),
        []
    );
}

#[test]
fn p48_a_filter_of_its_own_is_read_for_what_meets_the_tracer() {
    const RETURN: u64 = libc::BPF_RET as u64;
    let with_filter = |answer: u32| {
        let mut task = Fake::new();
        let code = task.words(&[RETURN | u64::from(answer) << 32]);
        let program = task.words(&[1, code]);
        (task, program)
    };
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let (task, program) = with_filter(libc::SECCOMP_RET_ALLOW);
    let refused = Doubt::Disturbed(Disturbance::ListenerRefused);
    assert_eq!(
        met(
            task,
            Question::Listen,
            Sysno::seccomp,
            &[1, listener, program]
        ),
        [refused]
    );
    let (task, program) = with_filter(libc::SECCOMP_RET_ALLOW);
    let allowed = doubts(&call(
        &task,
        TraceLevel::Io,
        Sysno::seccomp,
        &[1, listener, program],
        5,
    ));
    assert_eq!(allowed, [Doubt::OwnFilter]);
    let (task, program) = with_filter(libc::SECCOMP_RET_TRACE | 3);
    let told = doubts(&call(
        &task,
        TraceLevel::Io,
        Sysno::prctl,
        &[22, 2, program],
        0,
    ));
    let traced = Doubt::Disturbed(Disturbance::FilterForTracer);
    assert_eq!(told, [traced, Doubt::OwnFilter]);
    let (task, program) = with_filter(libc::SECCOMP_RET_ALLOW);
    let unpromised = met(task, Question::Confine, Sysno::seccomp, &[1, 0, program]);
    let used = Doubt::Disturbed(Disturbance::NoNewPrivsUsed);
    assert_eq!(unpromised, [used, Doubt::OwnFilter]);
    // Nothing that could be a filter.
    let told = met(
        Fake::new(),
        Question::Listen,
        Sysno::seccomp,
        &[1, listener, 0],
    );
    assert_eq!(told, [Doubt::OwnFilter]);
}

#[test]
fn p97_who_reads_the_state_of_its_own_processes_sees_the_tracer() {
    let opened = |path: &str, flags: i32| {
        let mut task = Fake::new().with_file(path, b"");
        let path = task.string(path);
        let at = libc::AT_FDCWD as u64;
        doubts(&call(
            &task,
            TraceLevel::Io,
            Sysno::openat,
            &[at, path, flags as u64],
            3,
        ))
    };
    let read = [Doubt::Disturbed(Disturbance::StatusRead)];
    assert_eq!(opened("/proc/self/status", libc::O_RDONLY), read);
    assert_eq!(opened("/proc/self/status", libc::O_PATH), []);
    assert_eq!(opened("/proc/self/maps", libc::O_RDONLY), []);
}

#[test]
fn what_hides_nothing_is_no_doubt() {
    let task = Fake::new();
    for (number, args) in [
        (Sysno::seccomp, &[2, 0, 1][..]),
        (Sysno::prctl, &[15, 1]),
        (Sysno::prctl, &[4, 1]),
        (
            Sysno::clone,
            &[(libc::CLONE_VM | libc::CLONE_THREAD) as u64],
        ),
        (Sysno::process_vm_readv, &[100]),
        (Sysno::shmget, &[0]),
        (Sysno::unshare, &[libc::CLONE_FS as u64]),
        (Sysno::ptrace, &[7]),
        (Sysno::read, &[0, 1, 1]),
    ] {
        let told = call(&task, TraceLevel::Full, number, args, 0);
        assert_eq!(told.at_entry(), [], "{number}");
    }
}

#[test]
fn p40_p41_calls_of_another_architecture_are_a_doubt() {
    let task = Fake::new();
    let told = |call: Syscall| {
        let mut events = Vec::new();
        let entry = entry(&call, TraceLevel::Io, &task, &mut events);
        assert!(matches!(entry, Entry::Done));
        events
    };
    let open = native(Sysno::openat, &[]);
    let foreign = [TraceEventKind::Doubt(Doubt::ForeignArchitecture)];
    let i386 = 0x4000_0003;
    assert_eq!(told(Syscall { arch: i386, ..open }), foreign);
    if cfg!(target_arch = "x86_64") {
        let number = open.number | 0x4000_0000;
        assert_eq!(told(Syscall { number, ..open }), foreign);
    }
    // A call that its tracer skips, and one that there is not.
    for number in [u64::MAX, 0xffff_ffff] {
        assert_eq!(told(Syscall { number, ..open }), []);
    }
}

#[test]
fn a_call_that_never_returned_is_told_without_a_result() {
    let mut task = Fake::new().with_file("/x", &elf("/ld", 0));
    let path = task.string("/x");
    let args = task.strings(&["another program's by now"]);
    let pending = awaited(&task, &[path, args, 0]);
    let mut events = Vec::new();
    unfinished(pending, &task, &mut events);
    let exec = exec(events);
    assert_eq!(exec.result, CallResult::Unknown);
    assert!(exec.args.is_empty() && exec.truncated);
}

#[test]
fn to_ask_whether_a_file_could_be_executed_executes_nothing() {
    const CHECK: u64 = 0x10000;
    let mut task = Fake::new().with_file("/bin/tool", &elf("/lib/ld.so", 0));
    let path = task.string("/bin/tool");
    let nothing = task.strings(&[]);
    let words = [libc::AT_FDCWD as u64, path, nothing, nothing, CHECK];
    for (result, told) in [(0, CallResult::Ok(0)), (-13, CallResult::Err(libc::EACCES))] {
        let call = call(&task, TraceLevel::Io, Sysno::execveat, &words, result);
        let asked = super::file(call.at_exit());
        assert_eq!(
            (asked.operation, asked.result),
            (FileOperation::Access, told)
        );
    }
}
