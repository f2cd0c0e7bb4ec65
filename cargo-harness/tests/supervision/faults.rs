//! Scarce resources of a run, and attacks on its stubs.

use super::{SOON, await_processes, last_attempt, last_attempts, processes, send, zoo_run};
use crate::{
    environment::installed,
    processes::{await_left, parent},
    scene::{Finished, LONGEST_RUN, Scene, skip, wait_until},
};
use harness_metadata::{Outcome, Verdict, exit_code};
use nix::{
    sys::resource::{Resource, getrlimit},
    sys::{
        ptrace,
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, geteuid},
};
use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Tests that are all there at the same time if they can be.
const NAPS: usize = 16;

/// Returns a run of sixteen tests that sleep for a moment, sixteen at a time.
fn naps(scene: &Scene) -> Command {
    let mut run = zoo_run(scene, "", "naps_.*");
    run.args(["-j", "16"]);
    run
}

/// Builds the zoo, so that what cargo needs is not the subject.
fn build(scene: &Scene) {
    scene
        .run(zoo_run(scene, "", "passes"))
        .assert_code(exit_code::OK);
}

/// Runs a command by a script of the shell, which finds it in its arguments.
fn in_shell(scene: &Scene, script: &str, command: &Command) -> Finished {
    scene.run(scene.wrapped(command, "sh", &["-c", script, "sh"]))
}

fn assert_all_pass(scene: &Scene, run: &Finished) {
    run.assert_code(exit_code::OK);
    let attempts = last_attempts(scene);
    assert_eq!(attempts.len(), NAPS);
    for (name, attempt) in attempts {
        assert_eq!(
            (attempt.verdict, attempt.number),
            (Verdict::Pass, 1),
            "{name}: {attempt:?}"
        );
    }
}

#[test]
fn what_a_killed_stub_leaves_needs_no_runner_to_reap_its_dead() {
    let scene = Scene::new();
    let mut run = zoo_run(&scene, "", "leaves_dead_to_a_stopped_runner");
    run.args(["-j", "1", "--trace", "off"]);
    // As for a run that a test has stopped.
    run.process_group(0);
    let run = scene.start(run);
    let waiting = wait_until(SOON, || fs::read_to_string(scene.path("waiting")).ok());
    run.signal(Signal::SIGCONT);
    run.finish().assert_code(exit_code::TEST_RUN_FAILED);
    let last = last_attempt(&scene);
    assert!(matches!(last.outcome, Outcome::HarnessFault(_)), "{last:?}");
    let waiting: usize = (waiting.expect("it is written").parse()).expect("a number");
    assert!(waiting < 50, "{waiting} wait to be reaped");
    scene.assert_no_strays();
}

#[test]
fn the_cpu_time_of_a_stub_that_the_runner_ends_counts_as_that_of_the_runner() {
    let scene = Scene::new();
    build(&scene);
    // The kernel ends it when it has used two seconds, by a clock that ticks. Its stub has no more to do then.
    let burn = r#"["sh", "-c", "(ulimit -t 2; while :; do :; done); true"]"#;
    let config = format!(
        "[scripts.setup.burn]\ncommand = {burn}\n\
         [[profile.default.scripts]]\nfilter = 'all()'\nsetup = 'burn'"
    );
    for trace in ["io", "off"] {
        let mut run = zoo_run(&scene, &config, "passes");
        run.args(["--trace", trace]);
        let run = in_shell(&scene, "\"$@\" && times", &run);
        run.assert_code(exit_code::OK);
        // The last line is that of children, on and off user code: `0m1.510s 0m0.520s`.
        let last = run.stdout.lines().last().unwrap_or_default();
        let seconds = |time: &str| {
            let (minutes, seconds) = time.strip_suffix('s')?.split_once('m')?;
            Some(60.0 * minutes.parse::<f64>().ok()? + seconds.parse::<f64>().ok()?)
        };
        let used: Option<Vec<f64>> = last.split(' ').map(seconds).collect();
        let used: f64 = used.unwrap_or_else(|| panic!("{last}")).iter().sum();
        assert!(used >= 1.0, "{trace}: {last}");
    }
}

#[test]
fn a_low_soft_limit_of_open_files_is_raised_for_the_run_and_given_back_to_its_tests() {
    let scene = Scene::new();
    build(&scene);
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is one");
    if hard < 1024 {
        return skip(
            "a low soft limit",
            "the hard limit of open files is below 1024",
        );
    }
    for trace in ["io", "off"] {
        let mut run = naps(&scene);
        run.args(["--trace", trace]).env("ZOO_OPEN_FILES", "40");
        let run = in_shell(&scene, "ulimit -S -n 40 && exec \"$@\"", &run);
        assert_all_pass(&scene, &run);
        assert!(!run.stderr.contains("Slots"), "{}", run.stderr);
    }
}

#[test]
fn a_low_hard_limit_of_open_files_makes_fewer_slots_and_loses_nothing() {
    let scene = Scene::new();
    build(&scene);
    for trace in ["io", "off"] {
        let mut run = naps(&scene);
        run.args(["--trace", trace]).env("ZOO_OPEN_FILES", "64");
        let run = in_shell(&scene, "ulimit -n 64 && exec \"$@\"", &run);
        assert_all_pass(&scene, &run);
        run.assert_says("at a time: 16 were asked for");
        run.assert_says("no more than 64 open files here");
    }
}

/// Arguments of `setpriv` that make an unused user, not even another run of these tests, so
/// that no other process counts against its limit. Reading is allowed to it everywhere: the toolchain
/// may be in the home of another user.
fn somebody() -> Vec<String> {
    let id = 60_000 + std::process::id() % 5_000;
    let args = format!(
        "--reuid {id} --regid {id} --clear-groups --inh-caps -all,+dac_read_search \
         --ambient-caps -all,+dac_read_search"
    );
    args.split(' ').map(str::to_owned).collect()
}

/// Returns the same command as that user's, with a limit of processes and what is built into the scene.
fn as_somebody(scene: &Scene, run: &Command, most: usize) -> Command {
    let somebody = somebody();
    let somebody: Vec<&str> = somebody.iter().map(String::as_str).collect();
    let limited = scene.wrapped(run, "prlimit", &[&format!("--nproc={most}")]);
    let mut run = scene.wrapped(&limited, "setpriv", &somebody);
    run.env("HOME", scene.path(""))
        .env("CARGO_HOME", scene.path("cargo-home"))
        .env("CARGO_TARGET_DIR", scene.path("target"));
    run
}

/// Builds the zoo into a scene that is open to all. Returns whether that user can use it.
fn open_to_somebody(scene: &Scene, test: &str) -> bool {
    if !geteuid().is_root() || !installed("setpriv", &["prlimit", "true"]) {
        let why = "only root can become a user who has no processes yet, by setpriv and prlimit";
        skip(test, why);
        return false;
    }
    let mut build = zoo_run(scene, "", "passes");
    build.env("CARGO_TARGET_DIR", scene.path("target"));
    scene.run(build).assert_code(exit_code::OK);
    let mut open = scene.command("chmod");
    open.args(["-R", "a+rwX"]).arg(scene.path(""));
    scene.run(open).assert_code(0);
    let usable = scene.run(as_somebody(scene, &zoo_run(scene, "", "passes"), 1000));
    if !usable.status.success() {
        let why = "another user can use neither cargo nor the folder of this test";
        skip(test, why);
        return false;
    }
    true
}

#[test]
fn a_limit_of_processes_makes_fewer_slots_and_loses_nothing() {
    let scene = Scene::new();
    if !open_to_somebody(&scene, "a limit of processes") {
        return;
    }
    for (trace, most) in [("io", 16), ("io", 25), ("off", 16), ("off", 25)] {
        let mut run = naps(&scene);
        run.args(["--trace", trace]);
        let run = scene.run(as_somebody(&scene, &run, most));
        assert_all_pass(&scene, &run);
        run.assert_says("at a time: ");
    }
}

/// Sets the limit of processes of all that run in a scene, as the user who they belong to.
fn limit_processes(scene: &Scene, most: usize) {
    let somebody = somebody();
    let somebody: Vec<&str> = somebody.iter().map(String::as_str).collect();
    for (pid, _) in scene.strays() {
        let mut limit = scene.command("prlimit");
        limit.args(["--pid", &pid.to_string(), &format!("--nproc={most}:")]);
        // It may have ended.
        let _ = scene.wrapped(&limit, "setpriv", &somebody).output();
    }
}

#[test]
fn a_shortage_while_binaries_are_listed_is_waited_for() {
    let scene = Scene::new();
    let allowed = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = allowed
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let cpu = allowed.and_then(|list| list.trim().split([',', '-']).next());
    let cpu = cpu.unwrap_or("0");
    if !installed("taskset", &["-c", cpu, "true"]) {
        return skip(
            "a shortage while binaries are listed",
            "there is no taskset",
        );
    }
    if !open_to_somebody(&scene, "a shortage while binaries are listed") {
        return;
    }
    // One CPU, so that one stub asks the binary for both of its lists, one after the other.
    let run = scene.wrapped(&zoo_run(&scene, "", "passes"), "taskset", &["-c", cpu]);
    let mut run = as_somebody(&scene, &run, 1000);
    run.env("ZOO_LISTS_AFTER", scene.path("listed"));
    let run = scene.start(run);
    let begun = || scene.path("listed.begun").exists().then_some(());
    assert!(wait_until(LONGEST_RUN, begun).is_some(), "it is listed");
    limit_processes(&scene, 1);
    fs::write(scene.path("listed"), "").expect("it can be written");
    let waits = || {
        let said = run.stderr_so_far();
        said.contains("waiting for the system, for 30s at most: ")
            .then_some(())
    };
    assert!(wait_until(SOON, waits).is_some(), "{}", run.stderr_so_far());
    limit_processes(&scene, 1000);
    run.finish().assert_code(exit_code::OK);
    assert_eq!(last_attempt(&scene).verdict, Verdict::Pass);
}

#[test]
fn a_stub_that_a_test_has_stopped_is_continued_while_the_test_runs() {
    for trace in ["io", "off"] {
        let scene = Scene::new();
        let mut command = zoo_run(&scene, "", "stops_its_parent_and_passes");
        command.args(["--trace", trace]);
        scene.run(command).assert_code(exit_code::OK);
        let attempt = last_attempt(&scene);
        // The tests of the zoo live for 50 seconds and have no limit here.
        assert!(attempt.elapsed < Duration::from_secs(30), "{attempt:?}");
    }
}

#[test]
fn a_stub_that_does_not_answer_is_killed_and_its_attempt_a_fault_that_is_retried() {
    let name = "a_stub_that_does_not_answer_is_killed";
    let scene = Scene::new();
    let run = scene.start(zoo_run(&scene, "retries = 1", "hangs"));
    let tests = await_processes(&scene, "--exact hangs", 1);
    // Not just any: there are idle ones.
    let stub = Pid::from_raw(parent_of(tests[0]));
    // Who is stopped for a tracer is not continued by SIGCONT.
    let held = ptrace::seize(stub, ptrace::Options::empty()).and_then(|()| ptrace::interrupt(stub));
    if let Err(error) = held {
        super::interrupt(run);
        return skip(name, &format!("a stub cannot be traced from here: {error}"));
    }
    let again = wait_until(SOON, || {
        // Its tracer hears of its end first, and only then its parent.
        let _ = waitpid(stub, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL));
        let now = processes(&scene, "--exact hangs");
        now.iter().any(|pid| !tests.contains(pid)).then_some(now)
    });
    let now = again.expect("the second attempt starts");
    assert!(
        tests.iter().all(|pid| !now.contains(pid)),
        "{tests:?} live on: {now:?}"
    );
    let run = super::interrupt(run);
    run.assert_says("has not answered for 30s, and was killed");
    run.assert_says(&format!("the double-spawn stub (process {stub})"));
    run.assert_says("the last thing that it was asked was to start the test");
    assert_eq!(last_attempt(&scene).number, 2);
}

#[test]
fn a_stub_that_somebody_holds_does_not_keep_a_run_from_its_end() {
    let scene = Scene::new();
    let mut command = zoo_run(&scene, "", "hangs|passes");
    command.args(["-j", "2"]);
    let run = scene.start(command);
    let tests = await_processes(&scene, "--exact hangs", 1);
    // The other one has passed.
    super::ends::await_event(&scene, "test-finished");
    let idle = processes(&scene, "__double-spawn");
    let idle = idle.into_iter().find(|stub| *stub != parent_of(tests[0]));
    let idle = Pid::from_raw(idle.expect("there are two"));
    let held = ptrace::seize(idle, ptrace::Options::empty()).and_then(|()| ptrace::interrupt(idle));
    let run = super::interrupt(run);
    run.assert_says("2 tests run: 1 passed, 1 interrupted");
    if let Err(error) = held {
        return skip("a held stub", &error.to_string());
    }
    // Its tracer hears of its end first, and only then who has adopted it.
    let gone = wait_until(SOON, || {
        let news = waitpid(idle, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL));
        matches!(news, Ok(WaitStatus::Signaled(..)) | Err(_)).then_some(())
    });
    assert!(gone.is_some(), "it was killed");
}

fn parent_of(pid: i32) -> i32 {
    parent(pid).expect("it runs")
}

/// Adopts orphans in the session of its child, as a service manager does. A stopped process whose
/// parent dies is not continued by the kernel then: its group is not orphaned.
const SUBREAPER: &str = "import ctypes, os, subprocess, sys\n\
                         ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n\
                         subprocess.Popen(sys.argv[1:])\n\
                         try:\n\
                         \x20   while True: os.wait()\n\
                         except ChildProcessError: pass\n";

#[test]
fn a_stopped_stub_outlives_its_runner_no_more_than_others() {
    if !installed("python3", &["-c", "import ctypes"]) {
        return skip("a stopped stub outlives its runner", "there is no python3");
    }
    for trace in ["io", "off"] {
        let scene = Scene::new();
        let mut command = zoo_run(&scene, "", "hangs|beats");
        command.args(["-j", "2", "--trace", trace]);
        let run = scene.start(scene.wrapped(&command, "python3", &["-c", SUBREAPER]));
        await_processes(&scene, "--exact", 2);
        let stubs = processes(&scene, "__double-spawn");
        for stub in &stubs {
            // Not for long: it has a timer that lets it go on.
            send(*stub, Signal::SIGSTOP);
        }
        let runner = processes(&scene, "--events");
        let runner = runner.into_iter().find(|pid| *pid != run.pid().as_raw());
        send(runner.expect("it runs"), Signal::SIGKILL);
        // It ends when the last process has.
        run.finish();
        scene.assert_no_strays();
    }
}

#[test]
fn what_a_killed_stub_leaves_is_named_and_killed() {
    let scene = Scene::new();
    let mut command = zoo_run(&scene, "", "kills_its_parent");
    command.args(["--trace", "off"]);
    scene.run(command).assert_code(exit_code::TEST_RUN_FAILED);
    scene.assert_no_strays();
    let attempt = last_attempt(&scene);
    assert!(
        matches!(attempt.outcome, Outcome::HarnessFault(_)),
        "{attempt:?}"
    );
    // A child, a daemon, and one in the runner's group. The test itself died with its parent.
    let survivors = attempt.leak.expect("something is left").survivors;
    assert_eq!(survivors.len(), 3, "{survivors:?}");
}

#[test]
fn a_process_that_cannot_be_waited_for_is_given_up_after_a_limit() {
    let name = "a_process_that_cannot_be_waited_for_is_given_up_after_a_limit";
    let scene = Scene::new();
    // Longer than it takes to seize the test, and not for the other one.
    let slow = "[[profile.default.overrides]]\n\
                filter = 'test(hangs)'\n\
                slow-timeout = { period = '10s', terminate-after = 1, grace-period = '100ms' }";
    let mut command = zoo_run(&scene, slow, "hangs|passes");
    command.args(["-j", "1", "--trace", "off"]);
    let run = scene.start(command);
    let test = Pid::from_raw(await_processes(&scene, "--exact hangs", 1)[0]);
    // What is killed while it is traced is kept from its parent until its tracer has seen it: to the
    // run, that looks as a process does which the kernel does not let go.
    let held = ptrace::seize(test, ptrace::Options::empty());
    let run = run.finish();
    let _ = waitpid(test, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL));
    if let Err(error) = held {
        return skip(name, &format!("a test cannot be traced from here: {error}"));
    }
    run.assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("2 tests run: 1 passed, 1 timed out");
    let attempts = last_attempts(&scene);
    let (_, hung) = attempts
        .iter()
        .find(|(name, _)| name == "hangs")
        .expect("it ran");
    assert_eq!(
        hung.outcome,
        Outcome::TimedOut { exit: None },
        "its end is unknown"
    );
}

#[test]
fn without_a_trace_the_tests_themselves_die_with_a_run_and_its_stubs_that_are_killed() {
    let scene = Scene::new();
    let mut command = zoo_run(&scene, "", "hangs|beats|beats_too");
    command.args(["-j", "3", "--trace", "off"]);
    let run = scene.start(command);
    await_processes(&scene, "--exact", 3);
    let mut ours = processes(&scene, "__double-spawn");
    ours.insert(0, run.pid().as_raw());
    for pid in ours {
        // One of them may have ended the other.
        let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    run.finish();
    scene.assert_no_strays();
}

/// A cgroup of the first version whose processes do nothing, not even die, until it is dropped.
struct Freezer(PathBuf);

impl Freezer {
    fn new(scene: &Scene) -> Option<Self> {
        let name = scene.path("").file_name()?.to_string_lossy().into_owned();
        let folder = Path::new("/sys/fs/cgroup/freezer").join(name);
        // Not in a folder that is only called so.
        let real = Path::new("/sys/fs/cgroup/freezer/cgroup.procs").exists();
        (real && fs::create_dir(&folder).is_ok()).then_some(Self(folder))
    }

    fn freeze(&self, pid: i32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("it exists");
        fs::write(self.0.join("freezer.state"), "FROZEN").expect("it can be frozen");
        let frozen = || {
            let state = fs::read_to_string(self.0.join("freezer.state")).ok()?;
            (state.trim() == "FROZEN").then_some(())
        };
        wait_until(SOON, frozen).expect("it freezes");
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        let gone = || fs::remove_dir(&self.0).ok();
        let _ = wait_until(SOON, gone);
    }
}

#[test]
fn a_process_that_the_kernel_keeps_is_named_and_not_waited_for() {
    let name = "a_process_that_the_kernel_keeps_is_named_and_not_waited_for";
    let scene = Scene::new();
    let Some(freezer) = Freezer::new(&scene) else {
        return skip(name, "there is no freezer (cgroup v1) to be written to");
    };
    let config = "leak-timeout = '10s'\nretries = 1";
    let run = scene.start(zoo_run(&scene, config, "leaves_a_child"));
    let left = await_left(&scene, "leaves_a_child");
    freezer.freeze(left);
    let run = run.finish();
    drop(freezer);
    scene.assert_no_strays();
    run.assert_says(&format!("processes [{left}] could not be killed"));
    // In another stub, whose child is not frozen.
    run.assert_code(exit_code::OK);
    assert_eq!(last_attempt(&scene).number, 2);
}
