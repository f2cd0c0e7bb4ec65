//! Limits of what a test may use, and the cgroups that have them.
//!
//! Where none can be had, which is so for most users of most machines, the run says so and the tests
//! run without.

use crate::{
    nobody::Nobody,
    scene::{Finished, Scene, skip, wait_until},
};
use fixture_kit::results::{self, events};
use harness_metadata::{Attempt, Event, EventKind, Exit, LimitHit, Outcome, Verdict, exit_code};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Tests that use more than others. Whatever becomes of the run, none lives for a minute.
const HOGS: &str = r#"
#![cfg(test)]

use std::{ffi::{c_int, c_uint}, thread};

unsafe extern "C" {
    fn _exit(status: c_int) -> !;
    fn alarm(seconds: c_uint) -> c_uint;
    fn clock_gettime(clock: c_int, time: *mut i64) -> c_int;
    fn close(descriptor: c_int) -> c_int;
    fn fork() -> c_int;
    fn pause() -> c_int;
    fn setsid() -> c_int;
    fn signal(signal: c_int, handler: usize) -> usize;
}

const MIB: usize = 1 << 20;

#[test]
fn eats_memory() {
    let eaten: Vec<Vec<u8>> = (0..256).map(|_| vec![1; MIB]).collect();
    assert_eq!(eaten.iter().map(|part| part[MIB / 2] as usize).sum::<usize>(), 256);
}

#[test]
fn has_thirty_threads() {
    // None ends before all are there.
    let all = std::sync::Arc::new(std::sync::Barrier::new(30));
    let threads = (0..30).map(|_| {
        let all = all.clone();
        thread::spawn(move || { all.wait(); })
    });
    let threads: Vec<_> = threads.collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Only ever run with a limit that has been seen to work.
#[test]
fn forks_without_end() {
    unsafe {
        signal(15, 1);
        loop {
            if fork() == 0 {
                alarm(40);
                setsid();
            }
        }
    }
}

#[test]
fn spins_for_a_third_of_a_second() {
    // CPU time, as other processes may have most of it.
    const PROCESS: c_int = 2;
    let mut spent = [0i64; 2];
    while spent[0] == 0 && spent[1] < 333_000_000 {
        unsafe { clock_gettime(PROCESS, spent.as_mut_ptr()) };
    }
}

#[test]
fn leaves_a_daemon_and_hangs() {
    unsafe {
        alarm(50);
        if fork() == 0 {
            setsid();
            if fork() == 0 {
                alarm(50);
                for descriptor in 0..3 {
                    close(descriptor);
                }
                loop { pause(); }
            }
            _exit(0);
        }
        loop { pause(); }
    }
}
"#;

const LIMITS: &str = "[profile.default]\nfail-fast = false\n\
    [[profile.default.overrides]]\nfilter = 'test(eats_memory)'\nmemory-max = '64 MiB'\n\
    [[profile.default.overrides]]\nfilter = 'test(threads) + test(forks)'\npids-max = 20\n\
    [[profile.default.overrides]]\nfilter = 'test(spins)'\ncpu-max = 0.2\n";

/// Returns a run of these tests.
fn run(scene: &Scene, package: &Path, filter: &str) -> Command {
    let events = scene.path("events");
    let junit = scene.path("junit");
    let mut command = scene.harness_in(package, &["run", "-E", filter]);
    command.arg("--events").arg(events);
    command.arg("--junit").arg(junit);
    command
}

fn hogs(scene: &Scene) -> PathBuf {
    scene.write("hogs/.config/harness.toml", LIMITS);
    scene.package("hogs", HOGS)
}

/// Returns what the last run said of limits that it cannot enforce.
fn missing(events: &[Event]) -> Option<String> {
    results::started(events).limits_missing.clone()
}

fn attempt(events: &[Event], test: &str) -> Attempt {
    let found = events.iter().find_map(|event| match &event.kind {
        EventKind::TestFinished(finished) if finished.test.name.as_str() == test => {
            finished.attempts.last().cloned()
        }
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no `{test}`"))
}

/// Fails unless a test, which would pass, was failed by its limit if that is enforced.
fn assert_limited(events: &[Event], test: &str, key: &str, hit: impl Fn(&LimitHit) -> bool) {
    let attempt = attempt(events, test);
    if missing(events).is_some_and(|missing| missing.contains(key)) {
        assert_eq!(
            (attempt.verdict, &*attempt.limits),
            (Verdict::Pass, &[][..])
        );
    } else {
        assert_eq!(attempt.verdict, Verdict::Fail);
        assert!(
            matches!(&*attempt.limits, [limit] if hit(limit)),
            "{attempt:?}"
        );
    }
}

fn assert_as_limited(scene: &Scene, run: &Finished) {
    let events = events(scene);
    let of_memory = |hit: &LimitHit| {
        matches!(
            hit,
            LimitHit::MemoryMax {
                bytes: 67_108_864,
                killed: 1..
            }
        )
    };
    let of_pids = |hit: &LimitHit| {
        matches!(
            hit,
            LimitHit::PidsMax {
                pids: 20,
                refused: 1..
            }
        )
    };
    assert_limited(&events, "eats_memory", "memory-max", of_memory);
    assert_limited(&events, "has_thirty_threads", "pids-max", of_pids);
    let spun = attempt(&events, "spins_for_a_third_of_a_second");
    assert_eq!(spun.verdict, Verdict::Pass);
    let junit = fs::read_to_string(scene.path("junit")).expect("it was written");
    match missing(&events) {
        Some(missing) => {
            run.assert_says(&missing);
            assert!(missing.contains(" not enforced: "), "{missing}");
        }
        None => {
            run.assert_code(exit_code::TEST_RUN_FAILED);
            run.assert_says("MEMORY-MAX [");
            run.assert_says("PIDS-MAX [");
            for told in [&run.stderr, &junit] {
                assert!(told.contains("hit its memory-max of 64 MiB, which killed 1 process"));
                assert!(
                    told.contains("hit its pids-max of 20, which refused "),
                    "{told}"
                );
            }
            assert!(junit.contains("type=\"test limit\""));
            let used = spun.usage.user + spun.usage.system;
            // A fifth of a CPU, and what is left of a period at both ends.
            let share = spun.elapsed / 5 + Duration::from_millis(60);
            assert!(used <= share, "{used:?} in {:?}", spun.elapsed);
            assert!(spun.usage.throttled.is_some(), "{:?}", spun.usage);
        }
    }
}

const HARMLESS: &str = "test(eats) + test(threads) + test(spins)";

#[test]
fn a_test_that_hits_a_limit_fails_and_says_which_or_the_run_says_that_there_is_none() {
    let scene = Scene::new();
    let package = hogs(&scene);
    let harmless = scene.run(run(&scene, &package, HARMLESS));
    assert_as_limited(&scene, &harmless);
    if let Some(missing) = missing(&events(&scene)) {
        return skip("forks_without_end", &missing);
    }

    let bombed = scene.run(run(&scene, &package, "test(forks_without_end)"));
    scene.assert_no_strays();
    bombed.assert_code(exit_code::TEST_RUN_FAILED);
    let attempt = attempt(&events(&scene), "forks_without_end");
    assert!(matches!(
        attempt.outcome,
        Outcome::Exited(Exit::Signal { signal: 9, .. })
    ));
    assert!(matches!(
        &*attempt.limits,
        [LimitHit::PidsMax {
            pids: 20,
            refused: 1..
        }]
    ));
}

#[test]
fn an_unprivileged_user_is_told_which_limits_are_not_enforced() {
    const NAME: &str = "an_unprivileged_user_is_told_which_limits_are_not_enforced";
    let scene = Scene::new();
    let package = hogs(&scene);
    let mut list = scene.harness_in(&package, &["list"]);
    list.env("CARGO_HOME", scene.path("cargo-home"));
    let nobody = match Nobody::who_can(&scene, &list) {
        Ok(nobody) => nobody,
        Err(reason) => return skip(NAME, &reason),
    };
    let run = scene.run(nobody.wrapped(&scene, &run(&scene, &package, HARMLESS)));
    scene.assert_no_strays();
    assert_as_limited(&scene, &run);
    let missing = missing(&events(&scene)).expect("this user owns no cgroup");
    assert!(
        missing.starts_with("memory-max and pids-max and cpu-max are not enforced: ")
            || missing.matches(" is not enforced: ").count() == 3,
        "{missing}"
    );
}

/// Returns the state letter of a process (proc_pid_stat(5)) and its parent, if it exists.
fn state_and_parent(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.parse().ok()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// Only the cgroup still knows an untraced process whose stub is gone.
#[test]
fn what_a_run_that_was_killed_with_its_stubs_left_behind_the_next_run_kills() {
    const NAME: &str = "what_a_run_that_was_killed_with_its_stubs_left_behind";
    let scene = Scene::new();
    let package = hogs(&scene);
    let hanging = || {
        let mut command = run(&scene, &package, "test(hangs)");
        command.args(["--trace", "off"]);
        command
    };
    let mut command = hanging();
    // A group that becomes orphaned while a member is stopped gets SIGHUP from the kernel (setpgid(2)):
    // this test's own, without a shell that has jobs.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let first = scene.start(command);
    let of_test = || {
        let strays = scene.strays().into_iter();
        let tests = strays.filter(|(_, command)| command.contains("--exact"));
        let pids: Vec<i32> = tests.map(|(pid, _)| pid).collect();
        // Of two processes the second may also be the one that makes the daemon.
        let has_parent =
            |pid: &i32| state_and_parent(*pid).is_none_or(|(_, parent)| pids.contains(&parent));
        (pids.len() == 2 && !pids.iter().any(has_parent)).then_some(pids)
    };
    let tests = wait_until(Duration::from_secs(120), of_test).expect("the test starts");
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", tests[0])).unwrap_or_default();
    let in_group = cgroup.contains(&format!("-{}-", first.pid()));
    let send = |pid: i32, signal| {
        // It may be gone by now.
        let _ = signal::kill(Pid::from_raw(pid), signal);
    };
    // First the stubs: the end of their runner, even if they are stopped, has them clean up. Stopped,
    // it does not replace them.
    first.signal(Signal::SIGSTOP);
    let own = first.pid().as_raw();
    let stopped = || state_and_parent(own).filter(|(state, _)| *state == 'T');
    wait_until(Duration::from_secs(60), stopped).expect("it stops");
    let no_stubs = || {
        let strays = scene.strays().into_iter();
        let stubs = strays.filter(|(_, command)| command.contains("__double-spawn"));
        let stubs: Vec<i32> = stubs.map(|(pid, _)| pid).collect();
        stubs.iter().for_each(|stub| send(*stub, Signal::SIGKILL));
        stubs.is_empty().then_some(())
    };
    wait_until(Duration::from_secs(60), no_stubs).expect("they are killed");
    // Any run that begins once this one is gone, of whichever test, does what is to be shown.
    let left = tests.iter().filter_map(|pid| state_and_parent(*pid));
    let left = left.filter(|(state, parent)| *state != 'Z' && *parent == own);
    let left = left.count();
    first.signal(Signal::SIGKILL);
    first.finish();
    if !in_group {
        scene.kill_strays();
        return skip(NAME, "this user can make no cgroup here");
    }
    assert!(left > 0, "or there is nothing to show");

    scene.run(run(&scene, &package, "test(spins)"));
    scene.assert_no_strays();
}

/// Tests that try to be without their limits.
const ESCAPES: &str = r#"
#![cfg(test)]

use std::{fs, path::{Path, PathBuf}, process::{self, Command}, thread, time::Duration};

const LIMITS: [&str; 2] = ["memory.max", "memory.limit_in_bytes"];

/// The groups of this run that it is in, one a hierarchy.
fn groups() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let mut found = Vec::new();
    for mount in mounts.lines().filter(|mount| mount.contains(" - cgroup")) {
        let fields: Vec<&str> = mount.split(' ').collect();
        for group in groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)) {
            let below = group.strip_prefix(fields[3].trim_end_matches('/')).unwrap_or(group);
            let folder = PathBuf::from(format!("{}{below}", fields[4]));
            if below.contains("/slot-") && folder.exists() {
                found.push(folder);
            }
        }
    }
    found
}

/// The group that has the limit of memory.
fn own() -> PathBuf {
    let limited = |folder: &PathBuf| LIMITS.iter().any(|file| folder.join(file).exists());
    groups().into_iter().find(limited).expect("there are limits")
}

fn enter(folder: &Path, pid: u32) -> bool {
    fs::write(folder.join("cgroup.procs"), pid.to_string()).is_ok()
}

/// The nearest group outside that takes a process.
fn leave(pid: u32) {
    let own = own();
    assert!(own.ancestors().skip(1).any(|folder| enter(folder, pid)));
}

fn eat() {
    let eaten = vec![1u8; 128 << 20];
    assert_eq!(eaten.iter().step_by(4096).map(|byte| *byte as usize).sum::<usize>(), 32768);
}

#[test]
fn stays() {
    fs::create_dir(own().join("below")).unwrap();
    assert!(Command::new("true").status().unwrap().success());
}

#[test]
fn leaves_for_a_group_above() {
    leave(process::id());
    eat();
}

#[test]
fn leaves_for_a_new_group() {
    let new = own().with_file_name("new");
    fs::create_dir(&new).unwrap();
    assert!(enter(&new, process::id()));
    eat();
}

#[test]
fn raises_its_limit() {
    let own = own();
    for (file, none) in [("memory.memsw.limit_in_bytes", "-1"), (LIMITS[0], "max"), (LIMITS[1], "-1")] {
        if own.join(file).exists() {
            fs::write(own.join(file), none).unwrap();
        }
    }
    eat();
}

#[test]
fn has_a_child_that_leaves() {
    let script = "read go; head -c 100000000 /dev/zero | tail -c 1";
    let mut child = Command::new("sh").args(["-c", script]).stdin(process::Stdio::piped())
        .stdout(process::Stdio::null()).spawn().unwrap();
    leave(child.id());
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn leaves_and_comes_back() {
    let own = own();
    leave(process::id());
    eat();
    assert!(enter(&own, process::id()));
}

#[test]
fn leaves_every_hierarchy_and_ends() {
    for folder in groups() {
        folder.ancestors().skip(1).any(|folder| enter(folder, process::id()));
    }
}

#[test]
fn leaves_and_hangs() {
    leave(process::id());
    thread::sleep(Duration::from_secs(50));
}
"#;

const NO_ESCAPE: &str = "[profile.default]\nfail-fast = false\nmemory-max = '64 MiB'\n\
    [[profile.default.overrides]]\nfilter = 'test(hangs)'\n\
    slow-timeout = { period = '2s', terminate-after = 1, grace-period = '0s', on-timeout = 'pass' }\n";

/// Returns the limits that did not hold, by what shows it.
fn escape(attempt: &Attempt) -> Option<&'static str> {
    assert!(
        attempt.limits.is_empty() || attempt.verdict == Verdict::Fail,
        "{attempt:?}"
    );
    attempt.limits.iter().find_map(|limit| match limit {
        LimitHit::LeftCgroup { .. } => Some("left"),
        LimitHit::CgroupOpened { .. } => Some("opened"),
        LimitHit::LimitChanged { .. } => Some("changed"),
        LimitHit::MemoryMax { .. } | LimitHit::PidsMax { .. } => None,
    })
}

#[test]
fn a_test_that_escapes_its_limits_fails_and_says_how() {
    const NAME: &str = "a_test_that_escapes_its_limits_fails_and_says_how";
    let scene = Scene::new();
    scene.write("escapes/.config/harness.toml", NO_ESCAPE);
    let package = scene.package("escapes", ESCAPES);
    for level in ["io", "process", "off"] {
        // A process that leaves and returns between two looks is not known without a trace.
        let filter = match level {
            "io" => "all()",
            "process" => "not test(back)",
            _ => "test(stays) + test(raises) + test(hangs) + test(every)",
        };
        let mut command = run(&scene, &package, filter);
        command.args(["--trace", level]);
        let run = scene.run(command);
        let events = events(&scene);
        if let Some(missing) = missing(&events) {
            return skip(NAME, &missing);
        }
        let probed = attempt(&events, "raises_its_limit");
        if probed.limits.is_empty() && probed.outcome == Outcome::Exited(Exit::Code(101)) {
            return skip(NAME, "no test can write to its cgroup here");
        }
        run.assert_code(exit_code::TEST_RUN_FAILED);
        let of = |test: &str| escape(&attempt(&events, test));
        assert_eq!(attempt(&events, "stays").verdict, Verdict::Pass);
        assert_eq!(of("raises_its_limit"), Some("changed"), "{level}");
        assert_eq!(of("leaves_and_hangs"), Some("left"), "{level}");
        let junit = fs::read_to_string(scene.path("junit")).expect("it was written");
        for told in [&run.stderr, &junit] {
            assert!(
                told.contains("test changed its memory-max: `memory."),
                "{told}"
            );
            assert!(told.contains("test left its cgroup, so its limits did not hold"));
        }
        run.assert_says("ESCAPED [");
        assert!(junit.contains("type=\"test limit\""));
        // The group of a process that has ended is known in version 2.
        let own = fs::read_to_string("/proc/self/cgroup").expect("it is there");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("it is there");
        if level != "off" || (own.contains("0::") && mounts.contains(" - cgroup2 ")) {
            let test = "leaves_every_hierarchy_and_ends";
            assert_eq!(of(test), Some("left"), "at {level}");
        }
        if level == "off" {
            continue;
        }
        for test in [
            "leaves_for_a_group_above",
            "leaves_for_a_new_group",
            "has_a_child_that_leaves",
        ] {
            assert_eq!(of(test), Some("left"), "{test} at {level}");
        }
        if level == "io" {
            assert!(of("leaves_and_comes_back").is_some());
        }
    }
}
