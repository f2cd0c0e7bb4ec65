//! Each behaviour of the page about payloads, by a program that shows it.

#![allow(unsafe_code)]
#![allow(clippy::print_stdout, reason = "that a test skips is for people")]

use harness_payload::{
    Check, Error, Expected, Format, Invocation, Kind, Limits, Payload, Polarity, Report, Status,
    Stdin,
};
use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const SHELL: Payload = Payload::new("shell", "sh").args(&["-c"]);

fn sh(script: &str) -> Invocation<'static> {
    SHELL.invoke().arg(script)
}

fn run(script: &str) -> Report {
    sh(script).run().expect("it starts")
}

/// Waits for a state, on a machine that may be busy.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "still not so: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns whether a process is there and no zombie.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
    !state.is_empty() && !state.starts_with('Z')
}

fn stdout(report: &Report) -> String {
    report.stdout.text().into_owned()
}

/// A folder that is deleted in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("payload-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("it can be made");
        Self(folder)
    }

    fn write(&self, name: &str, contents: &[u8], mode: u32) -> PathBuf {
        let file = self.0.join(name);
        fs::write(&file, contents).expect("it can be written");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("it is ours");
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn arguments_are_appended_to_the_default_ones_and_can_be_cleared() {
    const ECHO: Payload = Payload::new("echo", "echo").args(&["default"]);
    let of = |invocation: Invocation<'_>| stdout(&invocation.run().expect("it starts"));
    assert_eq!(
        of(ECHO.invoke().arg("a").args(["b", "c"])),
        "default a b c\n"
    );
    assert_eq!(of(ECHO.invoke().arg("a").clear_args().arg("b")), "b\n");
}

#[test]
fn checks_are_appended_to_the_default_ones_and_can_be_cleared() {
    const LINES: Payload = Payload::new("lines", "echo")
        .args(&["a=1"])
        .format(Format::KeyValue)
        .metrics(&[Expected::new("b", "ms", Polarity::LowerIsBetter)])
        .checks(&[Check::min("a", 2.0)]);
    let all = LINES
        .invoke()
        .check(Check::max("a", 0.0))
        .run()
        .expect("it starts");
    let failed: Vec<String> = all
        .failures
        .iter()
        .map(|failure| failure.check.clone())
        .collect();
    assert_eq!(
        failed,
        ["`a` is at least 2", "`a` is at most 0", "`b` is there"]
    );
    let cleared = LINES.invoke().check(Check::max("a", 0.0)).clear_checks();
    cleared.run().expect("it starts").assert_passed();
}

#[test]
fn metrics_have_the_unit_and_polarity_that_are_expected_and_the_index_of_their_invocation() {
    const ONE: Payload = Payload::new("one", "echo")
        .args(&["a=1"])
        .format(Format::KeyValue)
        .metrics(&[Expected::new("a", "ms", Polarity::LowerIsBetter)]);
    for index in 0..3 {
        let report = ONE.invoke().run().expect("it starts");
        let metric = &report.assert_passed().metrics[0];
        assert_eq!(
            (metric.unit.as_deref(), metric.polarity),
            (Some("ms"), Polarity::LowerIsBetter)
        );
        assert_eq!((metric.invocation, report.metric("a")), (index, Some(1.0)));
    }
}

#[test]
fn environment_folder_and_input_are_as_given() {
    let folder = Folder::new("input");
    let report = sh("echo $PAYLOAD_A:$PAYLOAD_B; pwd; cat")
        .env("PAYLOAD_A", "a")
        .env("PAYLOAD_B", "b")
        .env_remove("PAYLOAD_B")
        .cwd(&folder.0)
        .stdin(Stdin::Bytes(b"input\0".to_vec()))
        .run()
        .expect("it starts");
    let expected = format!("a:\n{}\ninput\0", folder.0.display());
    assert_eq!(stdout(&report), expected);
    assert_eq!(stdout(&run("cat")), "", "the standard input is empty");
}

#[test]
fn input_that_is_not_read_holds_nothing_up() {
    let input = Stdin::Bytes(vec![0; 1 << 20]);
    let report = sh("exec <&-; echo done")
        .stdin(input.clone())
        .run()
        .expect("it starts");
    assert_eq!(stdout(&report), "done\n");
    let read = sh("wc -c").stdin(input).run().expect("it starts");
    assert_eq!(stdout(&read).trim(), "1048576");
}

#[test]
fn streams_are_kept_apart_byte_by_byte() {
    let report = run(r"printf 'a\377\000b'; printf 'c\n' >&2; exit 0");
    assert_eq!(report.stdout.whole(), Some(&b"a\xff\0b"[..]));
    assert_eq!(report.stderr.whole(), Some(&b"c\n"[..]));
}

#[test]
fn a_stream_that_is_too_long_is_announced_whatever_the_format() {
    let most = harness_payload::MOST_KEPT;
    let fits = run(&format!("head -c {most} /dev/zero"));
    assert_eq!(fits.stdout.whole().map(<[u8]>::len), Some(most));
    assert_eq!(fits.notes, [""; 0]);
    let over = run(&format!("head -c {} /dev/zero >&2", most + 1));
    assert_eq!((over.stderr.whole(), over.stderr.omitted()), (None, 1));
    assert_eq!(over.notes, ["stderr: 1 byte was left out"]);
}

#[test]
fn a_status_tells_an_exit_code_a_signal_and_a_time_out_apart() {
    assert_eq!(run("exit 143").status, Status::Exited(143));
    let signalled = run("kill -TERM $$");
    assert_eq!(signalled.status, Status::Signalled { signal: 15 });
    assert!(!signalled.passed());
    let limit = Duration::from_millis(200);
    let timed_out = sh("exec sleep 1000")
        .timeout(limit)
        .run()
        .expect("it starts");
    let expected = Status::TimedOut {
        after: limit,
        killed_by: 15,
    };
    assert_eq!(timed_out.status, expected);
    timed_out.assert_passed();
}

#[test]
fn a_time_out_is_judged_by_what_was_printed() {
    const SLOW: Payload = Payload::new("slow", "sh")
        .args(&["-c", "echo a=1; exec sleep 1000"])
        .format(Format::KeyValue)
        .checks(&[Check::min("a", 1.0)]);
    // It prints before it has used a time that a busy machine cannot take from it.
    let report = SLOW
        .invoke()
        .timeout(Duration::from_secs(5))
        .run()
        .expect("it starts");
    assert!(matches!(report.status, Status::TimedOut { .. }));
    report.assert_passed();
    let strict = SLOW
        .invoke()
        .timeout(Duration::from_millis(10))
        .check(Check::exit_code(0));
    let report = strict.run().expect("it starts");
    assert!(
        report.to_string().contains("it ran for longer than 10ms"),
        "{report}"
    );
}

#[test]
fn a_program_that_ignores_sigterm_is_killed_after_its_grace_period() {
    // Its children ignore it too.
    let mut running = sh("trap '' TERM; echo ready; while :; do sleep 0.1; done")
        .timeout(Duration::from_secs(1))
        .grace(Duration::from_millis(300))
        .spawn()
        .expect("it starts");
    let report = running.wait().expect("it was not taken");
    let Status::TimedOut { killed_by, .. } = report.status else {
        panic!("{report}");
    };
    // On a busy machine it may have had no time to ignore it.
    let was_ready = report.stdout.total() > 0;
    assert_eq!(killed_by, if was_ready { 9 } else { 15 }, "{report}");
    assert!(!is_alive(&running.pid().to_string()));
}

#[test]
fn a_wrong_exit_code_fails_with_the_end_of_stderr_unless_any_is_right() {
    let report = run("echo no such table >&2; exit 3");
    let text = report.to_string();
    assert!(text.contains("it ended with exit code 3"), "{text}");
    assert!(text.contains("no such table"), "{text}");
    let any = sh("exit 3").any_exit().run().expect("it starts");
    any.assert_passed();
}

#[test]
#[should_panic(
    expected = "payload `shell` failed a check: not so: the exit code is 0: it ended with exit code 3"
)]
fn a_failed_check_panics_with_the_name_of_the_payload() {
    run("exit 3").assert_passed();
}

#[test]
fn a_daemon_that_forks_twice_and_leaves_its_session_is_found_and_killed() {
    let report =
        run("setsid sh -c 'sleep 1000 & echo $!; sleep 1000 & echo $!; exit' & wait; exit 0");
    assert_eq!(report.status, Status::Exited(0));
    let text = stdout(&report);
    let pids: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(pids.len(), 2, "{text}");
    assert!(pids.iter().all(|pid| !is_alive(pid)), "{text}");
    // Each may be looked at before it executes `sleep`, or just then, when it has its short name only.
    let left = &report.left_behind;
    assert!(
        left.len() == 2
            && left.iter().all(|one| ["sh", "sleep"]
                .iter()
                .any(|name| one.command.starts_with(name))),
        "{left:?}"
    );
    assert!(
        report.to_string().contains(") behind, which was killed"),
        "{report}"
    );
}

#[test]
fn a_program_that_daemonises_has_ended_when_it_says_so() {
    let begun = Instant::now();
    let report = run("setsid sh -c 'exec >/dev/null 2>&1; sleep 1000' & echo started");
    assert_eq!(stdout(&report), "started\n");
    assert!(
        begun.elapsed() < Duration::from_secs(500),
        "it was not waited for"
    );
}

#[test]
fn a_pipe_that_a_descendant_holds_is_not_waited_for() {
    let begun = Instant::now();
    let report = run("sleep 1000 & echo $!");
    let pid = stdout(&report).trim().to_owned();
    assert!(!is_alive(&pid) && begun.elapsed() < Duration::from_secs(500));
}

#[test]
fn descendants_that_fork_on_and_on_are_killed() {
    // Each ends once it has started the next one, in a session of its own.
    let folder = Folder::new("chain");
    let script = folder.write(
        "chain",
        b"#!/bin/sh\n\
          [ -e \"$1/stop\" ] && exit\n\
          echo $$ >> \"$1/pids\"\n\
          setsid \"$0\" \"$1\" &\n\
          sleep 0.05\n",
        0o755,
    );
    let chain = format!(
        "{} {} & sleep 0.3; exit 0",
        script.display(),
        folder.0.display()
    );
    let report = run(&chain);
    assert_eq!((report.status, report.unkillable), (Status::Exited(0), 0));
    let pids = fs::read_to_string(folder.0.join("pids")).expect("it ran");
    assert!(pids.lines().all(|pid| !is_alive(pid)));
    // None is left that would write.
    fs::write(folder.0.join("stop"), "").expect("it can be written");
    assert_eq!(
        fs::read_to_string(folder.0.join("pids")).expect("it ran"),
        pids
    );
}

#[test]
fn a_program_that_closes_its_streams_is_waited_for() {
    let folder = Folder::new("closes");
    let file = folder.0.join("done");
    let report = sh("exec >&- 2>&-; sleep 0.2; : > \"$0\"")
        .arg(&file)
        .run()
        .expect("it starts");
    assert!(file.exists() && report.passed(), "{report}");
    assert_eq!(report.stdout.total(), 0);
}

#[test]
fn the_program_leads_a_process_group_and_has_no_signal_blocked_and_no_child_signal_ignored() {
    let own = |name: &str| format!("sed -n 's/^{name}:\\s*//p' /proc/self/status");
    let script = format!(
        "echo $$; ps -o pgid= -p $$; {}; {}",
        own("SigBlk"),
        own("SigIgn")
    );
    let report = run(&script);
    let text = stdout(&report);
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words[0], words[1], "{text}");
    assert_eq!(words[2], "0000000000000000", "a signal is blocked");
    let ignored = u64::from_str_radix(words[3], 16).expect("it is a mask");
    // Others may be ignored by whatever started the tests. The standard library ignores SIGPIPE.
    let ours = 1 << (libc::SIGCHLD - 1) | 1 << (libc::SIGPIPE - 1);
    assert_eq!(ignored & ours, 0, "{text}");
}

#[test]
fn a_program_for_a_terminal_stays_in_the_process_group_of_its_test() {
    let group = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is alive");
        let rest = stat.rsplit(')').next().unwrap_or_default();
        rest.split_whitespace().nth(2).map(str::to_owned)
    };
    let mut running = sh("sleep 1000 & exec sleep 1000")
        .inherit_process_group()
        .spawn()
        .expect("it starts");
    assert_eq!(group(&running.pid().to_string()), group("self"));
    let report = running.stop().expect("it was not taken");
    assert_eq!(report.status, Status::Signalled { signal: 15 });
}

#[test]
fn limits_are_set_for_the_program_and_one_above_that_of_the_test_is_explained() {
    let limits = Limits {
        open_files: Some(17),
        core: Some(0),
        ..Limits::default()
    };
    let report = sh("ulimit -n; ulimit -c")
        .limits(limits)
        .run()
        .expect("it starts");
    assert_eq!(stdout(&report), "17\n0\n");
    let limits = Limits {
        open_files: Some(u64::MAX - 1),
        ..Limits::default()
    };
    let error = sh("true")
        .limits(limits)
        .run()
        .expect_err("no process may have as many");
    assert!(
        error.to_string().contains("its limits cannot be set"),
        "{error}"
    );
}

#[test]
fn a_handle_answers_while_its_program_runs_and_gives_its_result_once() {
    let mut running = sh("read line; echo $line; exit 0")
        .stdin(Stdin::Bytes(b"x\n".to_vec()))
        .spawn()
        .expect("it starts");
    assert_eq!(running.name(), "shell");
    let report = running.wait().expect("it was not taken");
    assert_eq!(stdout(&report), "x\n");
    let taken = [
        running.wait().map(drop),
        running.try_wait().map(drop),
        running.kill().map(drop),
        running.stop().map(drop),
    ];
    for error in taken.map(|taken| taken.expect_err("it was taken")) {
        let text = error.to_string();
        assert!(text.contains("`shell` has no result any more"), "{text}");
    }
    let mut running = sh("exec sleep 1000").spawn().expect("it starts");
    assert!(running.try_wait().expect("it was not taken").is_none());
    assert!(is_alive(&running.pid().to_string()));
    let killed = running.kill().expect("it was not taken");
    assert_eq!(killed.status, Status::Signalled { signal: 9 });
    killed.assert_passed();
}

#[test]
fn a_program_that_has_ended_is_seen_without_waiting() {
    let mut running = sh("exit 5").any_exit().spawn().expect("it starts");
    let begun = Instant::now();
    let report = loop {
        if let Some(report) = running.try_wait().expect("it was not taken") {
            break report;
        }
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    };
    assert_eq!(report.status, Status::Exited(5));
}

#[test]
fn a_server_that_is_stopped_ends_in_its_own_way() {
    let folder = Folder::new("stop");
    let ready = folder.0.join("ready");
    let script = "trap 'echo bye; exit 7' TERM; : > \"$0\"; while :; do sleep 0.05; done";
    let server = Payload::new("server", "sh")
        .args(&["-c"])
        .kind(Kind::Server);
    let mut running = server
        .invoke()
        .arg(script)
        .arg(&ready)
        .grace(Duration::from_secs(60))
        .spawn()
        .expect("it starts");
    wait_until("the server is ready", || ready.exists());
    let report = running.stop().expect("it was not taken");
    assert_eq!(
        (report.status, stdout(&report)),
        (Status::Exited(7), "bye\n".to_owned())
    );
    report.assert_passed();
}

#[test]
fn dropping_a_handle_kills_and_reaps_the_tree() {
    let folder = Folder::new("drop");
    let file = folder.0.join("pid");
    let script = "setsid sh -c 'echo $$ > \"$0\"; exec sleep 1000' \"$0\" & exec sleep 1000";
    let running = sh(script).arg(&file).spawn().expect("it starts");
    let written = || fs::read_to_string(&file).unwrap_or_default();
    wait_until("the descendant runs", || written().ends_with('\n'));
    let pids = [running.pid().to_string(), written().trim().to_owned()];
    assert!(pids.iter().all(|pid| is_alive(pid)), "{pids:?}");
    drop(running);
    for pid in pids {
        assert!(!PathBuf::from(format!("/proc/{pid}")).exists(), "{pid}");
    }
}

#[test]
fn kinds_that_a_test_must_not_start_are_refused_with_what_to_do() {
    let server = Payload::new("web", "sh").kind(Kind::Server);
    let error = server
        .invoke()
        .run()
        .expect_err("it would not end")
        .to_string();
    assert!(
        error.contains("`web` must not be started so") && error.contains("call `spawn`"),
        "{error}"
    );
    let limited = server
        .invoke()
        .args(["-c", "exit 0"])
        .timeout(Duration::from_secs(60));
    limited.run().expect("it has an end").assert_passed();
    let service = Payload::new("db", "sh").kind(Kind::Service);
    let errors = [
        service.invoke().run().map(drop),
        service.invoke().spawn().map(drop),
    ];
    for error in errors.map(|result| result.expect_err("the runner starts it").to_string()) {
        assert!(error.contains("`[scripts.service.NAME]`"), "{error}");
    }
}

#[test]
fn a_builder_that_is_used_wrongly_names_the_call_and_starts_nothing() {
    let folder = Folder::new("misuse");
    let file = folder.0.join("started");
    let base = || sh(": > \"$0\"").arg(&file);
    let wrong: [(Invocation<'_>, &str, &str); 17] = [
        (base().arg("a\0b"), "arg", "NUL"),
        (base().env("a=b", "c"), "env", "no name of a variable"),
        (base().env("", "c"), "env", "empty"),
        (base().env("a", "b\0"), "env", "NUL"),
        (base().env_remove("a\0"), "env_remove", "NUL"),
        (base().cwd(""), "cwd", "empty"),
        (base().cwd("a\0"), "cwd", "NUL"),
        (base().program(""), "program", "empty"),
        (base().in_cgroup("/"), "in_cgroup", "empty"),
        (base().in_cgroup("a/../../b"), "in_cgroup", "`..`"),
        (base().in_cgroup("a\0"), "in_cgroup", "NUL"),
        (base().timeout(Duration::ZERO), "timeout", "no time"),
        (
            base().check(Check::range("a", 2.0, 1.0)),
            "check",
            "lower bound first",
        ),
        (
            base().check(Check::max("a", f64::NAN)),
            "check",
            "not a number",
        ),
        (base().check(Check::exists("")), "check", "empty"),
        (base().check(Check::exit_code(-1)), "check", "exit code -1"),
        (
            base().limits(Limits {
                open_files: Some(2),
                ..Limits::default()
            }),
            "limits",
            "fewer than 3",
        ),
    ];
    for (invocation, call, part) in wrong {
        let Err(Error::Misuse {
            call: named, fault, ..
        }) = invocation.run()
        else {
            panic!("`{call}` was accepted");
        };
        assert_eq!(named, call);
        assert!(fault.contains(part), "{fault}");
    }
    assert!(!file.exists(), "a program was started");
}

#[cfg(feature = "regex")]
#[test]
fn a_wrong_pattern_is_refused_before_anything_is_started() {
    for (pattern, part) in [("(", "unclosed group"), ("a", "no named group")] {
        let payload = Payload::new("p", "true").format(Format::Regex(pattern));
        let error = payload.invoke().run().expect_err("it is wrong").to_string();
        assert!(
            error.contains("`format`") && error.contains(part),
            "{error}"
        );
    }
}

#[test]
fn a_failure_to_start_is_explained() {
    let folder = Folder::new("explain");
    let foreign = {
        let mut elf = vec![0; 64];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        // ET_EXEC for s390x, which no machine of ours is.
        (elf[16], elf[18], elf[20]) = (2, 22, 1);
        elf
    };
    let files = [
        folder.write("script", b"#!/no/such/interpreter -x\n", 0o755),
        folder.write("plain", b"echo x\n", 0o755),
        folder.write("closed", b"#!/bin/sh\n", 0o644),
        folder.write("empty", b"", 0o755),
        folder.write("foreign", &foreign, 0o755),
        folder.0.clone(),
        folder.0.join("missing"),
    ];
    let parts = [
        "needs the interpreter `/no/such/interpreter`, which does not exist",
        "neither a program nor a script",
        "is not marked as executable",
        "is empty",
        "is built for another architecture: `s390x`",
        "is a folder, not a program",
        "does not exist: was it built?",
    ];
    for (file, part) in files.iter().zip(parts) {
        let error = sh("")
            .program(file)
            .run()
            .expect_err("it cannot start")
            .to_string();
        assert!(
            error.contains("could not be started") && error.contains(part),
            "{error}"
        );
    }
}

/// An ELF file of this machine with an interpreter (elf(5)).
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn elf(interpreter: &str) -> Vec<u8> {
    const HEADER: usize = 64;
    const ENTRY: usize = 56;
    let machine: u16 = if cfg!(target_arch = "x86_64") {
        62
    } else {
        183
    };
    let path = [interpreter.as_bytes(), b"\0"].concat();
    let mut file = vec![0; HEADER + ENTRY];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &2_u16.to_le_bytes());
    put(18, &machine.to_le_bytes());
    put(20, &1_u32.to_le_bytes());
    put(32, &(HEADER as u64).to_le_bytes());
    put(52, &(HEADER as u16).to_le_bytes());
    put(54, &(ENTRY as u16).to_le_bytes());
    put(56, &1_u16.to_le_bytes());
    // PT_INTERP: its place in the file, and its length.
    put(HEADER, &3_u32.to_le_bytes());
    put(HEADER + 8, &((HEADER + ENTRY) as u64).to_le_bytes());
    put(HEADER + 32, &(path.len() as u64).to_le_bytes());
    file.extend(path);
    file
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn a_program_whose_loader_is_missing_is_explained() {
    let folder = Folder::new("loader");
    let file = folder.write("program", &elf("/no/such/ld.so"), 0o755);
    let error = sh("").program(&file).run().expect_err("it cannot start");
    let expected = format!(
        "payload `shell` could not be started: `{}` needs the interpreter `/no/such/ld.so`, which does not exist",
        file.display()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn arguments_that_are_too_long_for_the_system_are_explained() {
    // The kernel takes 32 pages for one argument, of up to 64 KiB each.
    let long = "x".repeat(4 << 20);
    let error = sh("true").arg(long).run().expect_err("it cannot start");
    let error = error.to_string();
    assert!(error.contains("larger than the system allows"), "{error}");
}

#[test]
fn a_program_or_folder_that_is_not_found_is_explained() {
    let folder = Folder::new("search");
    folder.write("closed", b"#!/bin/sh\n", 0o644);
    let named = Payload::new("none", "no-such-program");
    let error = named.invoke().run().expect_err("there is none").to_string();
    assert!(
        error.contains("there is no `no-such-program` in the folders of `PATH`"),
        "{error}"
    );
    let error = named
        .invoke()
        .env_remove("PATH")
        .run()
        .expect_err("there is none")
        .to_string();
    assert!(
        error.contains("`PATH`, where it would be looked for, is not set"),
        "{error}"
    );
    let closed = Payload::new("closed", "closed")
        .invoke()
        .env("PATH", &folder.0);
    let error = closed.run().expect_err("it is not executable").to_string();
    assert!(error.contains("is not marked as executable"), "{error}");
    let nowhere = sh("true").cwd(folder.0.join("missing"));
    let error = nowhere.run().expect_err("there is no folder").to_string();
    assert!(
        error.contains("its working directory") && error.contains("cannot be entered"),
        "{error}"
    );
}

/// Runs a program in a cgroup, which has to be gone afterwards. Where no cgroup can be made, the error says so.
fn in_a_cgroup(name: &str) {
    let name = format!("/payload-{name}-{}", std::process::id());
    let report = match sh("cat /proc/self/cgroup; sleep 1000 &")
        .in_cgroup(&name)
        .run()
    {
        Ok(report) => report,
        Err(error) => {
            let error = error.to_string();
            assert!(
                error.contains("making the cgroup")
                    || error.contains("cgroup file system of version 2"),
                "{error}"
            );
            println!("skipped: in a cgroup: {error}");
            return;
        }
    };
    let line = stdout(&report)
        .lines()
        .find(|line| line.starts_with("0::"))
        .map(str::to_owned);
    assert!(
        line.is_some_and(|line| line.ends_with(&name)),
        "{}",
        stdout(&report)
    );
    let again = sh("true").in_cgroup(&name).run().expect("it was removed");
    again.assert_passed();
}

#[test]
fn a_program_is_in_its_cgroup_before_it_executes_and_the_cgroup_is_removed() {
    in_a_cgroup("clone3");
}

#[test]
fn without_clone3_a_program_enters_its_cgroup_before_it_executes() {
    let output = itself("without-clone3").output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let skipped = text.lines().filter(|line| line.starts_with("skipped: "));
    skipped.for_each(|line| println!("{line}"));
}

/// Has the kernel answer clone3(2) as one that has no such call, for this process and its descendants.
fn refuse_clone3() {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        // The number of the call is the first field of `seccomp_data`.
        step(LOAD, 0, 0, 0),
        step(JUMP, 0, 1, libc::SYS_clone3 as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: plain numbers.
    let ret = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(ret, 0);
    // SAFETY: the kernel reads the program and its steps, which live until it has returned.
    let ret = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn many_payloads_run_at_once_and_none_waits_for_another() {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let servers: Vec<_> = (0..8)
                    .map(|_| sh("exec sleep 1000").spawn().expect("it starts"))
                    .collect();
                for mut server in servers {
                    let report = server.kill().expect("it was not taken");
                    assert_eq!(report.status, Status::Signalled { signal: 9 });
                }
            });
        }
    });
}

#[test]
fn a_report_has_the_resources_that_the_program_used() {
    let report = run("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done");
    let usage = report.usage;
    assert!(usage.user + usage.system > Duration::ZERO, "{usage:?}");
    assert!(
        usage.peak_memory > 100_000 && usage.elapsed > Duration::ZERO,
        "{usage:?}"
    );
}

/// The variable by which this program knows that it is started by one of its tests.
const PART: &str = "PAYLOAD_TEST_PART";

fn itself(part: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("it is running"));
    command.args(["--exact", "part_of_other_tests", "--ignored", "--nocapture"]);
    command.env(PART, part).stdin(Stdio::null());
    command
}

/// The parts that other tests start in a process of their own.
#[test]
#[ignore = "other tests start it"]
fn part_of_other_tests() {
    match env::var(PART).as_deref() {
        Ok("hangs") => {
            let running = sh("setsid sleep 1000 & echo $! >&2; exec sleep 1000").spawn();
            let running = running.expect("it starts");
            println!("\npid {}", running.pid());
            loop {
                std::thread::park();
            }
        }
        Ok("without-clone3") => {
            refuse_clone3();
            in_a_cgroup("hand-shake");
        }
        Ok("drops") => drop(sh("exec sleep 1000").spawn().expect("it starts")),
        Ok("measures") => {
            let one = Payload::new("one", "echo")
                .args(&["a=1", "b=NaN"])
                .format(Format::KeyValue);
            one.invoke().run().expect("it starts").assert_passed();
            harness_payload::record("own", 2.0, "ms", Polarity::LowerIsBetter)
                .expect("it is written");
        }
        _ => {}
    }
}

#[test]
fn a_test_process_that_is_killed_takes_its_programs_along() {
    let mut test = itself("hangs")
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(test.stdout.take().expect("it is piped")).lines();
    let mut pids = lines
        .map_while(Result::ok)
        .filter_map(|line| Some(line.strip_prefix("pid ")?.to_owned()));
    let pid = pids.next().expect("it says so");
    assert!(is_alive(&pid));
    test.kill().expect("it runs");
    test.wait().expect("it is ours");
    wait_until("the program is gone", || !is_alive(&pid));
}

#[test]
fn a_handle_that_is_dropped_warns_that_its_metrics_are_lost() {
    let output = itself("drops").output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr);
    let warning = "warning: payload `shell` was dropped before `wait`, `stop` or `kill`: it was killed, \
                   and its metrics are lost";
    assert!(text.contains(warning), "{text}");
}

#[test]
fn metrics_are_appended_to_the_file_that_is_named() {
    let folder = Folder::new("metrics");
    let file = folder.0.join("metrics");
    for _ in 0..2 {
        let status = itself("measures")
            .env(harness_payload::METRICS_FILE, &file)
            .output();
        assert!(status.expect("it starts").status.success());
    }
    let text = fs::read_to_string(&file).expect("it was written");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{text}");
    assert!(
        lines[0].contains(r#""name":"a""#) && lines[0].contains(r#""payload":"one""#),
        "{text}"
    );
    assert!(lines[1].contains(r#""value":"NaN""#), "{text}");
    assert!(
        lines[2].contains(r#""name":"own""#) && lines[2].contains(r#""unit":"ms""#),
        "{text}"
    );
}
