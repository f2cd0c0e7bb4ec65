//! Tests that try to escape, and disturbed runs: results stay true, nothing hangs, and
//! nothing is left behind.

#[path = "supervision/faults.rs"]
mod faults;
#[path = "supervision/surroundings.rs"]
mod surroundings;

#[path = "supervision/ends.rs"]
mod ends;
#[path = "supervision/terminal.rs"]
mod terminal;

use fixture_kit::{environment, package, processes, results, scene};
use harness_metadata::{Attempt, EventKind, Outcome, Survivor, Verdict, exit_code, outcome::Held};
use nix::{
    fcntl::OFlag,
    sys::signal::{self, Signal},
    unistd::Pid,
};
use package::Visit;
use processes::{SOON, await_left, await_processes, await_state, is_stopped, processes, send};
use results::last_attempts;
use scene::{Finished, LONGEST_RUN, Running, Scene, wait_until};
use std::{
    fs,
    io::Write,
    os::{
        fd::AsRawFd,
        unix::{
            fs::OpenOptionsExt,
            process::{CommandExt, ExitStatusExt},
        },
    },
    process::Command,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const SIGINT: i32 = Signal::SIGINT as i32;

/// Returns a run of these tests of the zoo.
fn zoo_run(scene: &Scene, config: &str, tests: &str) -> Command {
    let visit = Visit {
        binary: "zoo",
        tests,
        config,
    };
    visit.by_harness(scene)
}

fn last_attempt(scene: &Scene) -> Attempt {
    last_attempts(scene).pop().expect("a test has ended").1
}

/// Ends a run of tests that do not end by themselves.
fn interrupt(run: Running) -> Finished {
    run.signal(Signal::SIGINT);
    run.finish()
}

#[test]
fn unusual_but_right_tests_pass_under_the_tracer() {
    let scene = Scene::new();
    let right = "children_of_dead_parents_are_traced|closes_every_descriptor|\
                 every_stop_is_seen_by_the_parent|floods|forks_from_eight_threads|\
                 payloads_of_real_time_signals_arrive|sees_default_signals|\
                 spawns_from_sixteen_threads|vforks_and_is_killed";
    let run = scene.run(zoo_run(&scene, "", right));
    run.assert_code(exit_code::OK);
    let attempts = last_attempts(&scene);
    assert_eq!(attempts.len(), 9);
    let processes = |test: &str| {
        let (_, attempt) = attempts
            .iter()
            .find(|(name, _)| name == test)
            .expect("it ran");
        attempt.usage.processes
    };
    assert_eq!(processes("forks_from_eight_threads"), Some(1001));
    assert_eq!(processes("spawns_from_sixteen_threads"), Some(161));
    assert_eq!(processes("children_of_dead_parents_are_traced"), Some(201));
}

#[test]
fn ctrl_z_stops_the_tests_and_the_clock_and_fg_continues_them() {
    for trace in ["process", "off"] {
        let scene = Scene::new();
        let mut command = zoo_run(&scene, "", "beats|beats_too");
        // A shell gives every job a group of its own, and is there to continue it.
        command.args(["-j", "2", "--trace", trace]).process_group(0);
        let begun = Instant::now();
        let run = scene.start(command);
        let tests = await_processes(&scene, "--exact beats", 2);
        let own = run.pid().as_raw();
        let mut stopped_for = Duration::ZERO;
        for _ in 0..10 {
            run.signal(Signal::SIGTSTP);
            await_state(&[own], is_stopped);
            let since = Instant::now();
            await_state(&tests, is_stopped);
            stopped_for += since.elapsed();
            run.signal(Signal::SIGCONT);
            await_state(&[own], |state| !is_stopped(state));
            await_state(&tests, |state| !is_stopped(state));
        }
        interrupt(run).assert_code(exit_code::ended_by(SIGINT));
        let in_all = begun.elapsed();
        let active = last_attempt(&scene).elapsed;
        assert!(
            active + stopped_for <= in_all,
            "{active:?} of {in_all:?}, stopped for {stopped_for:?}"
        );
    }
}

#[test]
fn ctrl_z_is_ignored_where_nobody_could_continue_the_run() {
    let scene = Scene::new();
    let run = zoo_run(&scene, "", "beats");
    if !environment::installed("setsid", &["true"]) {
        return scene::skip("ctrl-z in an orphaned group", "there is no setsid");
    }
    // In a session of its own, as under `ssh -t` or in a container.
    let run = scene.start(scene.wrapped(&run, "setsid", &["--wait"]));
    await_processes(&scene, "--exact beats", 1);
    let runner = processes(&scene, "--events").into_iter().find(|pid| {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline"));
        command.is_ok_and(|command| !command.starts_with("setsid"))
    });
    let runner = runner.expect("it runs");
    send(runner, Signal::SIGTSTP);
    send(runner, Signal::SIGINT);
    run.finish().assert_code(exit_code::ended_by(SIGINT));
}

#[test]
fn a_test_that_stops_its_stub_ends_when_its_time_is_up() {
    let scene = Scene::new();
    // The other one may take its time.
    let slow = "[[profile.default.overrides]]\n\
                filter = 'test(stops_its_parent)'\n\
                slow-timeout = { period = '100ms', terminate-after = 2, grace-period = '100ms' }";
    let run = scene.run(zoo_run(&scene, slow, "stops_its_parent|passes"));
    run.assert_code(exit_code::TEST_RUN_FAILED);
    let attempts = last_attempts(&scene);
    assert_eq!(attempts.len(), 2);
    for (name, attempt) in attempts {
        match name.as_str() {
            "passes" => assert_eq!(attempt.verdict, Verdict::Pass),
            _ => assert!(
                matches!(attempt.outcome, Outcome::TimedOut { .. }),
                "{attempt:?}"
            ),
        }
    }
}

#[test]
fn a_run_that_a_test_has_stopped_is_continued_and_says_so() {
    for test in ["stops_its_runner", "stops_all_stubs_and_the_runner"] {
        for trace in ["io", "process", "off"] {
            let scene = Scene::new();
            let mut command = zoo_run(&scene, "", &format!("{test}|naps_.*"));
            command.args(["-j", "2", "--trace", trace]);
            // A group that becomes orphaned while a member is stopped gets SIGHUP from the kernel
            // (setpgid(2)): this test's own, without a shell that has jobs.
            command.process_group(0);
            let run = scene.run(command);
            run.assert_code(exit_code::OK);
            run.assert_says(" Stopped by SIGSTOP for ");
            run.assert_says("not by Ctrl-Z: a stub has let it go on; running were ");
            let told = |event: &harness_metadata::Event| {
                matches!(&event.kind, EventKind::Stopped { continued: true, running, .. }
                    if running.iter().any(|one| one.name.as_str() == test))
            };
            assert!(results::events(&scene).iter().any(told), "{trace}");
        }
    }
}

#[test]
fn a_test_that_kills_its_stub_is_a_fault_and_leaves_nothing() {
    for trace in ["process", "off"] {
        let scene = Scene::new();
        let mut command = zoo_run(&scene, "", "kills_its_parent|passes");
        command.args(["-j", "1", "--trace", trace]);
        let run = scene.run(command);
        scene.assert_no_strays();
        run.assert_code(exit_code::TEST_RUN_FAILED);
        let attempts = last_attempts(&scene);
        assert!(
            matches!(attempts[0].1.outcome, Outcome::HarnessFault(_)),
            "{attempts:?}"
        );
        assert_eq!(attempts[1].1.verdict, Verdict::Pass, "another stub goes on");
    }
}

#[test]
fn a_stub_that_is_killed_while_it_is_idle_costs_nothing() {
    let scene = Scene::new();
    // Longer than it takes to notice the failure, however busy the machine is.
    let retries = "retries = { backoff = 'fixed', count = 1, delay = '10s' }";
    let run = scene.start(zoo_run(&scene, retries, "fails"));
    ends::await_event(&scene, "attempt-failed");
    for stub in processes(&scene, "__double-spawn") {
        send(stub, Signal::SIGKILL);
    }
    run.finish().assert_code(exit_code::TEST_RUN_FAILED);
    let last = last_attempt(&scene);
    assert_eq!(last.number, 2);
    assert!(matches!(last.outcome, Outcome::Exited(_)), "{last:?}");
}

#[test]
fn a_tree_that_forks_without_end_is_terminated() {
    for trace in ["process", "off"] {
        let scene = Scene::new();
        let slow = "slow-timeout = { period = '300ms', terminate-after = 1, grace-period = '0s' }";
        let mut command = zoo_run(&scene, slow, "forks_without_end");
        command.args(["--trace", trace]);
        scene.run(command).assert_code(exit_code::TEST_RUN_FAILED);
        scene.assert_no_strays();
        let outcome = last_attempt(&scene).outcome;
        assert!(
            matches!(outcome, Outcome::TimedOut { exit: Some(_) }),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_tree_that_forks_without_end_dies_with_the_run() {
    for trace in ["process", "off"] {
        let scene = Scene::new();
        let mut command = zoo_run(&scene, "", "forks_without_end");
        command.args(["--trace", trace]);
        let run = scene.start(command);
        await_processes(&scene, "--exact forks", 13);
        run.signal(Signal::SIGKILL);
        run.finish();
        scene.assert_no_strays();
    }
}

/// As many as there are children of the run's stubs and of the runner now, the dead included.
fn children_of_run(scene: &Scene) -> usize {
    let stubs = processes(scene, "__double-spawn").into_iter();
    let own = stubs.chain(processes(scene, "--events"));
    let children = own.map(|pid| {
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        list.unwrap_or_default().split_whitespace().count()
    });
    children.sum()
}

/// Runs a test of processes that multiply, and counts the children of the run while it lasts.
fn run_and_count(scene: &Scene, test: &str, trace: &str, cgroups: Cgroups) -> (Finished, usize) {
    // Two that multiply at the same time take the CPU from each other's runner: each has the machine for itself.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let visit = Visit {
        binary: "bombs",
        tests: test,
        config: "",
    };
    let mut command = visit.by_harness(scene);
    command.args(["-j", "1", "--trace", trace]);
    let mut run = scene.start(match cgroups {
        Cgroups::Writable => command,
        Cgroups::Hidden => without_cgroups(scene, &command),
    });
    let mut most = 0;
    while !run.has_ended() {
        most = most.max(children_of_run(scene));
        std::thread::sleep(Duration::from_millis(2));
    }
    let run = run.finish();
    scene.assert_no_strays();
    (run, most)
}

/// Whether a run can use cgroups, whose kill hits everything at once.
#[derive(Copy, Clone)]
enum Cgroups {
    Writable,
    Hidden,
}

/// Returns a command without cgroups, where they can be hidden.
fn without_cgroups(scene: &Scene, command: &Command) -> Command {
    let script = "umount -l /sys/fs/cgroup && exec \"$@\"";
    let args = [
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        "sh",
    ];
    let tried = [&args[..6], &["sh", "true"]].concat();
    match environment::installed("unshare", &tried) {
        true => scene.wrapped(command, "unshare", &args),
        // There are none for other users on most machines.
        false => scene.wrapped(command, "env", &[]),
    }
}

/// The number of the dead that may wait at a time: enough for a busy machine, on which they wait longer. The
/// machine has room for 32,000.
const MOST_DEAD: usize = 8_000;

/// The end of the names of tests that kill their stub.
const WITHOUT_A_STUB: &str = "_without_a_stub";

#[test]
fn what_multiplies_as_fast_as_it_can_is_killed_and_the_dead_do_not_pile_up() {
    let bombs = package::bombs().into_iter();
    for test in bombs.filter(|test| !test.ends_with(WITHOUT_A_STUB)) {
        for (trace, cgroups) in [
            ("io", Cgroups::Hidden),
            ("process", Cgroups::Hidden),
            ("off", Cgroups::Hidden),
            ("off", Cgroups::Writable),
        ] {
            let scene = Scene::new();
            let (run, most) = run_and_count(&scene, test, trace, cgroups);
            run.assert_code(exit_code::OK);
            assert!(most < MOST_DEAD, "{test} at {trace}: {most} children");
            // What lives by itself ends after 25 seconds.
            let last = last_attempt(&scene);
            let leak = last.leak.filter(|leak| !leak.survivors.is_empty());
            assert_eq!(leak.is_some(), test != "passes", "{test} at {trace}");
        }
    }
}

#[test]
fn what_multiplies_is_killed_and_reaped_by_the_runner_if_its_stub_was_killed() {
    let bombs = package::bombs().into_iter();
    for test in bombs.filter(|test| test.ends_with(WITHOUT_A_STUB)) {
        let scene = Scene::new();
        let (run, most) = run_and_count(&scene, test, "off", Cgroups::Hidden);
        run.assert_code(exit_code::TEST_RUN_FAILED);
        assert!(most < MOST_DEAD, "{test}: {most} children");
        let last = last_attempt(&scene);
        assert!(matches!(last.outcome, Outcome::HarnessFault(_)), "{last:?}");
        let named = last.leak.is_some_and(|leak| !leak.survivors.is_empty());
        assert!(named, "{test}");
    }
}

#[test]
fn a_test_that_left_its_process_group_is_terminated_with_it() {
    let scene = Scene::new();
    let slow = "slow-timeout = { period = '200ms', terminate-after = 1, grace-period = '60s' }";
    let run = scene.run(zoo_run(&scene, slow, "leaves_its_group"));
    run.assert_code(exit_code::TEST_RUN_FAILED);
    let last = last_attempt(&scene);
    assert!(last.elapsed < Duration::from_secs(60), "{last:?}");
}

#[test]
fn a_leak_counts_as_the_profile_says_and_is_killed_and_recorded_in_any_case() {
    for (leak, code, verdict, says) in [
        ("allow", exit_code::OK, Verdict::Pass, "1 passed, "),
        ("warn", exit_code::OK, Verdict::Pass, "1 passed (1 leaky)"),
        (
            "fail",
            exit_code::TEST_RUN_FAILED,
            Verdict::Fail,
            "1 failed (1 due to being leaky)",
        ),
    ] {
        let scene = Scene::new();
        let leak = format!("leak = \"{leak}\"");
        let mut command = zoo_run(&scene, &leak, "subreaper_with_daemons");
        command.arg("--junit").arg(scene.path("junit"));
        let run = scene.run(command);
        run.assert_code(code).assert_says(says);
        let last = last_attempt(&scene);
        assert_eq!(last.verdict, verdict);
        assert_eq!(last.leak.as_ref().map(|leak| leak.survivors.len()), Some(2));
        let junit = fs::read_to_string(scene.path("junit")).expect("it was written");
        for told in [&run.stderr, &junit] {
            let named = told.matches("left behind: ").count();
            assert_eq!(named > 0, last.leaked().is_some(), "{told}");
        }
        scene.assert_no_strays();
    }
}

#[test]
fn survivors_are_told_with_their_parents_and_what_they_hold() {
    for trace in ["io", "process", "off"] {
        let scene = Scene::new();
        // Time for the server to print, beside whatever else the machine does.
        let leak = "leak-timeout = '3s'";
        let mut command = zoo_run(&scene, leak, "is_missed_by_a_server");
        command.args(["--trace", trace]);
        command.arg("--junit").arg(scene.path("junit"));
        let run = scene.run(command);
        run.assert_code(exit_code::OK);
        let last = last_attempt(&scene);
        let leak = last.leak.expect("it leaks");
        assert!(leak.late_output > 0, "{trace}");
        let (child, server) = match &*leak.survivors {
            // In the order of their ids, which begin anew some day.
            [one, other] if one.parent == other.pid => (other, one),
            [one, other] => (one, other),
            _ => panic!("{leak:?}"),
        };
        for survivor in [child, server] {
            let lock = package::zoo()
                .canonicalize()
                .expect("it exists")
                .join("target/zoo-lock");
            let lock = Held::File {
                path: lock.display().to_string(),
            };
            for held in [Held::Stdout, Held::Stderr, lock] {
                assert!(survivor.holds.contains(&held), "{trace}: {survivor:?}");
            }
            let listens = |held: &Held| matches!(held, Held::Socket { what } if what.starts_with("tcp socket listening on 127.0.0.1:"));
            assert!(survivor.holds.iter().any(listens), "{trace}: {survivor:?}");
            let age = survivor.age.expect("there is /proc");
            assert!(age < Duration::from_secs(60), "{trace}: {survivor:?}");
        }
        let ancestry = |survivor: &Survivor| -> Vec<i32> {
            survivor.ancestry.iter().map(|one| one.pid).collect()
        };
        // Only a tracer has seen the parent that is gone.
        let test = last.pid.filter(|_| trace != "off");
        let of_child = Vec::from_iter(test);
        assert_eq!(ancestry(child), of_child, "{trace}");
        assert_eq!(
            ancestry(server),
            [&[child.pid], &*of_child].concat(),
            "{trace}"
        );
        let junit = fs::read_to_string(scene.path("junit")).expect("it was written");
        for told in [&run.stderr, &junit] {
            assert!(
                told.contains("tcp socket listening on 127.0.0.1:"),
                "{told}"
            );
            assert!(told.contains(", held stdout of the test, "), "{told}");
        }
        run.assert_says(&format!("child of pid {} `", child.pid));
        run.assert_says(" came after the test's end");
    }
}

#[test]
fn daemons_of_a_subreaper_are_named_and_killed() {
    for trace in ["process", "off"] {
        let scene = Scene::new();
        let mut command = zoo_run(&scene, "", "subreaper_with_daemons");
        command.args(["--trace", trace]);
        scene.run(command).assert_code(exit_code::OK);
        let leak = last_attempt(&scene).leak.expect("it leaks");
        assert_eq!(leak.survivors.len(), 2, "{leak:?}");
    }
}

#[test]
fn a_stub_that_is_killed_while_it_lists_costs_nothing() {
    let scene = Scene::new();
    let mut command = zoo_run(&scene, "", "passes");
    // Built here, so that its tests are not remembered.
    command.env("CARGO_TARGET_DIR", scene.path("target"));
    command.env("ZOO_KILLS_WHO_LISTS", scene.path("killed"));
    scene.run(command).assert_code(exit_code::OK);
    assert!(scene.path("killed").exists(), "no process was killed");
}

#[test]
fn survivors_that_are_hard_to_see_are_named_and_killed() {
    for trace in ["io", "process", "off"] {
        let scene = Scene::new();
        let visit = Visit {
            binary: "escapes",
            // A zombie by its looks, and processes that are ever another one.
            tests: "without_its_first_thread|walking|running",
            config: "",
        };
        let mut command = visit.by_harness(&scene);
        command.args(["-j", "1", "--trace", trace]);
        scene.run(command).assert_code(exit_code::OK);
        scene.assert_no_strays();
        for (name, attempt) in last_attempts(&scene) {
            let leak = attempt.leak;
            let named = leak.as_ref().is_some_and(|leak| !leak.survivors.is_empty());
            assert!(named, "{name} at {trace}: {leak:?}");
        }
    }
}

#[test]
fn ignored_and_blocked_signals_of_a_careless_parent_do_no_harm() {
    let scene = Scene::new();
    let careless = "import os, signal, sys\n\
                    signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n\
                    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n\
                    for name in ('INT', 'TERM', 'QUIT', 'TSTP', 'USR1'):\n\
                    \x20   signal.signal(getattr(signal, 'SIG' + name), signal.SIG_IGN)\n\
                    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))\n\
                    os.execv(sys.argv[1], sys.argv[1:])";
    if !environment::installed("python3", &["-c", "pass"]) {
        return scene::skip("ignored and blocked signals", "there is no python3");
    }
    let wrapped = |test| {
        let run = zoo_run(&scene, "", test);
        scene.wrapped(&run, "python3", &["-c", careless])
    };
    scene
        .run(wrapped("sees_default_signals"))
        .assert_code(exit_code::OK);
    assert_eq!(last_attempt(&scene).verdict, Verdict::Pass);
    let run = scene.start(wrapped("hangs"));
    await_processes(&scene, "--exact hangs", 1);
    interrupt(run).assert_code(exit_code::ended_by(SIGINT));
    assert_eq!(last_attempt(&scene).verdict, Verdict::Interrupted);
}

#[test]
fn a_run_whose_messages_nobody_reads_can_still_be_interrupted() {
    let scene = Scene::new();
    let (_reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = zoo_run(&scene, "", "hangs");
    command.stderr(writer.try_clone().expect("it can be cloned"));
    let mut run = command.spawn().expect("it starts");
    await_processes(&scene, "--exact hangs", 1);
    // Opened anew: the run's own descriptors must not become nonblocking, not even for a moment.
    let mut filler = fs::File::options()
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(format!("/proc/self/fd/{}", writer.as_raw_fd()))
        .expect("it is a pipe");
    while filler.write(&[b'x'; 4096]).is_ok() {}
    while filler.write(b"x").is_ok() {}
    let ended = wait_until(SOON, || {
        let _ = signal::kill(Pid::from_raw(run.id().cast_signed()), Signal::SIGINT);
        run.try_wait().expect("it is a child")
    });
    if ended.is_none() {
        run.kill().expect("it is a child");
        run.wait().expect("it is a child");
    }
    let status = ended.expect("it ends");
    assert_eq!(status.signal(), Some(Signal::SIGINT as i32));
}

#[test]
fn a_run_under_nohup_outlives_its_terminal() {
    let scene = Scene::new();
    let run = zoo_run(&scene, "", "hangs");
    let run = scene.start(scene.wrapped(&run, "nohup", &[]));
    await_processes(&scene, "--exact hangs", 1);
    let status = fs::read_to_string(format!("/proc/{}/status", run.pid())).expect("it runs");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.expect("it is there").trim(), 16);
    assert_eq!(ignored.expect("it is a mask") & 1, 1, "SIGHUP is ignored");
    interrupt(run).assert_code(exit_code::ended_by(SIGINT));
}
