//! A machine on which ptrace is refused, as in some containers: a seccomp filter answers EPERM.

use crate::scene::{Scene, fixture, shared_target};
use fixture_kit::results;
use harness_metadata::{EventKind, Outcome, event::TraceLevel, exit_code, trace::Backend};
use nix::libc;
use std::{io, os::unix::process::CommandExt, process::Command};

/// Makes every ptrace(2) of the command and its children fail with EPERM.
#[expect(unsafe_code, reason = "filters are installed between fork and exec")]
fn refuse_ptrace(command: &mut Command) {
    // SAFETY: the closure makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(install_filter);
    }
}

#[expect(unsafe_code, reason = "prctl(2) has no safe form for filters")]
fn install_filter() -> io::Result<()> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const PTRACE: u32 = libc::SYS_ptrace as u32;
    const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

    let instruction = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut instructions = [
        instruction(LOAD, 0, 0, 0),
        instruction(JUMP_IF_EQUAL, PTRACE, 0, 1),
        instruction(RETURN, REFUSE, 0, 0),
        instruction(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: 4,
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: PR_SET_NO_NEW_PRIVS reads no memory.
    let privileges = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: `program` and what it points to outlive the call.
    let filter = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    if privileges == 0 && filter == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[test]
fn without_ptrace_it_says_so_once_and_goes_on() {
    let scene = Scene::new();
    let mut command = scene.harness(["run", "-p", "processes", "--no-fail-fast", "-E"]);
    command
        .arg("binary(leaks)")
        .arg("--events")
        .arg(scene.path("events"));
    refuse_ptrace(&mut command);
    let run = scene.run(command);
    scene.assert_no_strays();
    run.assert_code(exit_code::TEST_RUN_FAILED);
    let said = run
        .stderr
        .lines()
        .filter(|line| line.contains("ptrace"))
        .count();
    assert_eq!(said, 1, "{}", run.stderr);

    let events = results::events(&scene);
    let start = results::started(&events);
    // Filters of system calls may work all the same.
    let without_ptrace = [
        (TraceLevel::Io, Backend::Notify),
        (TraceLevel::Off, Backend::None),
    ];
    let in_force = (start.trace.level, start.trace.backend);
    assert!(without_ptrace.contains(&in_force), "{:?}", start.trace);
    assert!(start.trace.degraded.is_some(), "{:?}", start.trace);
    if start.trace.backend == Backend::Notify {
        run.assert_says("trace io (notify)");
        let traces = events.iter().filter_map(|event| match &event.kind {
            EventKind::TestFinished(test) => Some(test.attempts[0].trace.as_ref()),
            _ => None,
        });
        for trace in traces {
            let trace = trace.expect("every test is traced");
            assert_eq!(trace.backend, Backend::Notify);
            // The test's own program, and the loader's search for its libraries.
            assert!(trace.counts.contains_key("exec"), "{:?}", trace.counts);
            assert!(trace.counts.contains_key("file"), "{:?}", trace.counts);
            assert!(!trace.complete(), "results are not seen");
        }
    }
    // What the subreaper finds is found without a tracer.
    let mut daemons = events.iter().filter_map(|event| match &event.kind {
        EventKind::TestFinished(test) if test.test.name.as_str() == "leaves_a_daemon" => Some(test),
        _ => None,
    });
    let daemon = &daemons.next().expect("the test ran").attempts[0];
    assert!(matches!(daemon.outcome, Outcome::Exited(exit) if exit.success()));
    assert_eq!(
        daemon.leak.as_ref().map(|leak| leak.survivors.len()),
        Some(1)
    );
}

#[test]
fn without_ptrace_a_run_that_requires_it_does_not_start() {
    let scene = Scene::new();
    let config = "[profile.default]\ntrace = { level = \"process\", required = true }\n";
    let mut command = scene.harness(["run", "-p", "targets"]);
    command
        .arg("--config-file")
        .arg(scene.write("harness.toml", config));
    refuse_ptrace(&mut command);
    let run = scene.run(command);
    run.assert_code(exit_code::SETUP).assert_says("ptrace");

    let mut command = scene.harness(["run", "-p", "targets", "--trace-required"]);
    command.args(["--trace", "process"]);
    refuse_ptrace(&mut command);
    let run = scene.run(command);
    run.assert_code(exit_code::SETUP).assert_says("ptrace");
}

#[test]
fn without_ptrace_a_run_that_asks_for_no_trace_says_nothing_of_it() {
    let scene = Scene::new();
    let mut command = scene.harness(["run", "-p", "targets", "--trace", "off"]);
    refuse_ptrace(&mut command);
    let run = scene.run(command);
    run.assert_code(exit_code::OK);
    assert!(!run.stderr.contains("ptrace"), "{}", run.stderr);
}

#[test]
fn the_filter_of_these_tests_does_refuse_ptrace() {
    let scene = Scene::new();
    for (refused, code) in [(false, 0), (true, 101)] {
        let mut command = scene.command("cargo");
        command.args([
            "test",
            "-p",
            "processes",
            "--test",
            "trees",
            "traces_its_own_child",
        ]);
        command
            .current_dir(fixture())
            .env("CARGO_TARGET_DIR", shared_target());
        if refused {
            refuse_ptrace(&mut command);
        }
        let run = scene.run(command);
        assert_eq!(run.status.code(), Some(code), "{}", run.stdout);
    }
}
