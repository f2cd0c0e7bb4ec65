//! Tests that are tracers themselves: they are run again by what leaves them alone, once.

use crate::{
    nobody::Nobody,
    scene::{Finished, Scene, skip},
};
use fixture_kit::results;
use harness_metadata::{
    Attempt, EventKind, RunStats, Verdict, exit_code,
    trace::{Backend, Disturbance},
};
use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

/// The tests of a package. Each fails with what a process has one of at most.
const TRACERS: &str = r#"
#![cfg(test)]

use std::{ffi::{c_int, c_long, c_void}, os::unix::process::CommandExt, process::Command, ptr::null};

unsafe extern "C" {
    fn ptrace(request: c_int, pid: c_int, address: *const c_void, data: *const c_void) -> c_long;
    fn prctl(option: c_int, ...) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
}

#[cfg(target_arch = "x86_64")]
const SECCOMP: c_long = 317;
#[cfg(target_arch = "aarch64")]
const SECCOMP: c_long = 277;

#[test]
fn traces_its_child() {
    let mut command = Command::new("true");
    let trace_me = || {
        let done = unsafe { ptrace(0, 0, null(), null()) };
        if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    let mut child = unsafe { command.pre_exec(trace_me) }.spawn().expect("ptrace works");
    // It stops at its exec, and dies rather than to go on.
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn seizes_its_child() {
    const SEIZE: c_int = 0x4206;
    let mut child = Command::new("sleep").arg("50").spawn().unwrap();
    let seized = unsafe { ptrace(SEIZE, child.id() as c_int, null(), null()) };
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(seized, 0);
}

#[test]
fn listens_to_itself() {
    #[repr(C)]
    struct Instruction(u16, u8, u8, u32);
    #[repr(C)]
    struct Program(u16, *const Instruction);
    let allow = [Instruction(6, 0, 0, 0x7fff_0000)];
    let program = Program(1, allow.as_ptr());
    let listener = unsafe {
        prctl(38, 1, 0, 0, 0);
        syscall(SECCOMP, 1, 1 << 3, &raw const program)
    };
    assert!(listener >= 0);
}

#[test]
fn does_both() {
    seizes_its_child();
    listens_to_itself();
}

#[test]
fn neither() {}
"#;

/// The tracing of the last attempt of every test, and whether that was its second time.
fn how(scene: &Scene, run: &Finished) -> BTreeMap<String, (Option<Backend>, bool)> {
    let events = results::events(scene);
    let finished = events.iter().filter_map(|event| match &event.kind {
        EventKind::TestFinished(test) => Some(test),
        _ => None,
    });
    let how = |attempt: &Attempt| {
        let backend = attempt.trace.as_ref().map(|trace| trace.backend);
        for disturbance in attempt.earlier.iter().flat_map(|time| &time.disturbances) {
            run.assert_says(&disturbance.to_string());
        }
        (backend, !attempt.earlier.is_empty())
    };
    finished
        .map(|test| {
            assert_eq!(test.attempts.len(), 1, "{}", test.test);
            (test.test.name.as_str().to_owned(), how(&test.attempts[0]))
        })
        .collect()
}

fn run(scene: &Scene, folder: &Path, config: &str) -> Finished {
    run_at(scene, folder, config, "io")
}

fn run_at(scene: &Scene, folder: &Path, config: &str, level: &str) -> Finished {
    let command = scene.harness_in(folder, &["run", "--trace", level]);
    let run = scene.run(complete(scene, command, config));
    scene.assert_no_strays();
    run
}

fn complete(scene: &Scene, mut command: Command, config: &str) -> Command {
    command
        .env("CARGO_TARGET_DIR", scene.path("target"))
        .arg("--config-file")
        .arg(scene.write("harness.toml", config))
        .arg("--events")
        .arg(scene.path("events"))
        .arg("--junit")
        .arg(scene.path("junit.xml"))
        .arg("--no-fail-fast");
    command
}

/// Returns whether all backends work here.
fn all_work(scene: &Scene, folder: &Path) -> bool {
    [("ptrace", Backend::Ptrace), ("notify", Backend::Notify)]
        .into_iter()
        .all(|(name, backend)| {
            let config = format!("[profile.default]\ntrace = {{ backend = \"{name}\" }}\n");
            let run = run(scene, folder, &config);
            // Said even where tests fail.
            let how = how(scene, &run);
            how["neither"] == (Some(backend), false)
        })
}

#[test]
fn a_test_that_traces_is_run_again_by_another_backend_and_that_is_remembered() {
    const NAME: &str = "a_test_that_traces_is_run_again_by_another_backend_and_that_is_remembered";
    let scene = Scene::new();
    let folder = scene.package("tracers", TRACERS);
    if !all_work(&scene, &folder) {
        return skip(NAME, "not all backends work here");
    }
    let file = scene.path("target/harness/backends.json");
    assert!(!file.exists(), "what a configuration says is not learned");

    use Backend::{Notify, Ptrace};
    const CONFIG: &str = "[profile.default]\n";
    let first = run(&scene, &folder, CONFIG);
    first.assert_code(exit_code::OK);
    let expected = |tests: [(&str, Option<Backend>, bool); 5]| -> BTreeMap<_, _> {
        let how = |(name, backend, again): (&str, _, _)| (name.to_owned(), (backend, again));
        tests.map(how).into()
    };
    assert_eq!(
        how(&scene, &first),
        expected([
            ("traces_its_child", Some(Notify), true),
            ("seizes_its_child", Some(Notify), true),
            ("listens_to_itself", Some(Ptrace), false),
            // Neither backend lets it do both, so there is none the third time.
            ("does_both", None, true),
            ("neither", Some(Ptrace), false),
        ])
    );
    let junit = fs::read_to_string(scene.path("junit.xml")).unwrap();
    assert_eq!(
        junit.matches("<property name=\"rerun\"").count(),
        3,
        "{junit}"
    );

    let second = run(&scene, &folder, CONFIG);
    second.assert_code(exit_code::OK);
    assert_eq!(
        how(&scene, &second),
        expected([
            ("traces_its_child", Some(Notify), false),
            ("seizes_its_child", Some(Notify), false),
            ("listens_to_itself", Some(Ptrace), false),
            ("does_both", None, false),
            ("neither", Some(Ptrace), false),
        ])
    );

    // What was right for a test may become wrong.
    let learned = fs::read_to_string(&file).unwrap();
    let mut wrong: serde_json::Value = serde_json::from_str(&learned).unwrap();
    let lesson = wrong["entries"]["tracers seizes_its_child"].take();
    let met = &lesson["value"]["met"];
    assert_eq!(*met, serde_json::json!(["ptrace-refused"]));
    wrong["entries"] = serde_json::json!({ "tracers listens_to_itself": lesson });
    fs::write(&file, wrong.to_string()).unwrap();
    let corrected = run(&scene, &folder, CONFIG);
    corrected.assert_code(exit_code::OK);
    assert_eq!(how(&scene, &corrected)["listens_to_itself"], (None, true));
    let after = run(&scene, &folder, CONFIG);
    after.assert_code(exit_code::OK);
    assert_eq!(how(&scene, &after)["listens_to_itself"], (None, false));

    // Another binary may need something else.
    let source = fs::read_to_string(folder.join("src/lib.rs")).unwrap();
    scene.write(
        "tracers/src/lib.rs",
        &format!("{source}\n#[test]\nfn more() {{}}\n"),
    );
    let changed = how(&scene, &run(&scene, &folder, CONFIG));
    assert_eq!(changed["listens_to_itself"], (Some(Ptrace), false));
    assert_eq!(changed["seizes_its_child"], (Some(Notify), true));

    fs::write(&file, b"{\"tracers neither\": 3, \xff").unwrap();
    let fourth = how(&scene, &run(&scene, &folder, CONFIG));
    assert_eq!(fourth["seizes_its_child"], (Some(Notify), true));
    assert_eq!(fourth["neither"], (Some(Ptrace), false));
}

/// Tests that look whether they are traced or filtered, or want what a filter forbids.
const LOOKERS: &str = r#"
#![cfg(test)]

use std::{ffi::{c_int, c_long, c_void}, fs, io::Write, ptr::null};

unsafe extern "C" {
    fn ptrace(request: c_int, pid: c_int, address: *const c_void, data: *const c_void) -> c_long;
    fn prctl(option: c_int, ...) -> c_int;
    fn fork() -> c_int;
    fn getpid() -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(code: c_int) -> !;
}

fn status(field: &str) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().to_owned()
}

#[test]
fn is_not_traced() {
    assert_eq!(status("TracerPid:"), "0");
}

#[test]
fn skips_if_it_is_traced() {
    if status("TracerPid:") == "0" {
        println!("this tests something");
    }
}

#[test]
fn is_not_filtered() {
    assert_eq!(unsafe { prctl(21, 0, 0, 0, 0) }, 0);
}

#[test]
fn enters_strict_mode() {
    unsafe {
        let child = fork();
        if child == 0 {
            prctl(22, 1, 0, 0, 0);
            // Not among the calls that are allowed then.
            getpid();
            kill(0, 0);
            _exit(0);
        }
        let mut status = 0;
        waitpid(child, &mut status, 0);
        assert_eq!(status & 0x7f, 9, "it was not killed");
    }
}

#[test]
fn sees_that_its_child_is_stopped() {
    unsafe {
        let child = fork();
        if child == 0 {
            loop { kill(getpid(), 19); }
        }
        let mut status = 0;
        waitpid(child, &mut status, 2);
        let state = fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
        kill(child, 9);
        waitpid(child, &mut status, 0);
        assert!(state.contains(") T "), "{state}");
    }
}

/// Refused to everybody, traced or not.
#[test]
fn wants_to_trace_itself_and_has_a_bug() {
    const ATTACH: c_int = 16;
    let refused = unsafe { ptrace(ATTACH, getpid(), null(), null()) };
    let ran = std::env::var("RAN").unwrap();
    let mut ran = fs::File::options().append(true).create(true).open(ran).unwrap();
    ran.write_all(b"once\n").unwrap();
    panic!("a bug of its own: {refused}");
}
"#;

/// The attempts of a run by their tests' names, and the run's counts.
fn attempts(scene: &Scene) -> (BTreeMap<String, Attempt>, RunStats) {
    let events = results::events(scene);
    let mut attempts = BTreeMap::new();
    let mut stats = RunStats::default();
    for event in events {
        match event.kind {
            EventKind::TestFinished(test) => {
                assert_eq!(test.attempts.len(), 1, "{}", test.test);
                let name = test.test.name.as_str().to_owned();
                attempts.extend(
                    test.attempts
                        .into_iter()
                        .map(|attempt| (name.clone(), attempt)),
                );
            }
            EventKind::RunFinished(run) => stats = run.stats,
            _ => {}
        }
    }
    (attempts, stats)
}

/// Whether a run of ours, and so a test of its own, has a filter without ours.
fn is_confined() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    !status.contains("Seccomp:\t0")
}

#[test]
fn a_test_that_looks_for_its_tracer_is_run_again_without_what_it_sees_at_every_level() {
    const NAME: &str =
        "a_test_that_looks_for_its_tracer_is_run_again_without_what_it_sees_at_every_level";
    let scene = Scene::new();
    let folder = scene.package("lookers", LOOKERS);
    if is_confined() {
        return skip(NAME, "there is a filter already");
    }
    use Backend::{Lifecycle, Notify};
    use Disturbance::{SeccompAsked, StatusRead, StoppedRead, StrictModeRefused};
    use Verdict::{Fail, Pass};
    for level in ["process", "io", "full"] {
        let ran = scene.path(&format!("ran-{level}"));
        let run = || {
            let mut command = scene.harness_in(&folder, &["run", "--trace", level]);
            command.env("RAN", &ran);
            let run = scene.run(complete(&scene, command, "[profile.default]\n"));
            scene.assert_no_strays();
            run.assert_code(exit_code::TEST_RUN_FAILED);
            run
        };
        let first = run();
        let (found, stats) = attempts(&scene);
        if level == "io" && found["is_not_filtered"].earlier.is_empty() {
            return skip(NAME, "there is no filter here");
        }
        let how = |test: &str| {
            let attempt = &found[test];
            let earlier = attempt.earlier.iter();
            let earlier: Vec<_> = earlier
                .map(|time| (time.verdict, time.disturbances.clone()))
                .collect();
            let backend = attempt.trace.as_ref().map(|trace| trace.backend);
            (attempt.verdict, backend, earlier)
        };
        let status = vec![StatusRead];
        assert_eq!(
            how("is_not_traced"),
            (Pass, None, vec![(Fail, status.clone())])
        );
        assert_eq!(
            how("skips_if_it_is_traced"),
            (Pass, None, vec![(Pass, status)])
        );
        if level == "process" {
            // Without a filter none is seen.
            assert_eq!(how("is_not_filtered"), (Pass, Some(Lifecycle), vec![]));
            assert_eq!(how("enters_strict_mode"), (Pass, Some(Lifecycle), vec![]));
        } else {
            let lifecycle = |met| (Pass, Some(Lifecycle), vec![(Fail, vec![met])]);
            assert_eq!(how("is_not_filtered"), lifecycle(SeccompAsked));
            assert_eq!(how("enters_strict_mode"), lifecycle(StrictModeRefused));
            let stopped = (Pass, Some(Notify), vec![(Fail, vec![StoppedRead])]);
            assert_eq!(how("sees_that_its_child_is_stopped"), stopped);
            assert_eq!(stats.run_again, 5);
        }
        first.assert_says("failed first");
        first.assert_says("passed first");
        first.assert_says("run again without a trace");
        let junit = fs::read_to_string(scene.path("junit.xml")).unwrap();
        assert!(
            junit.contains("name=\"rerun\" value=\"failed first"),
            "{junit}"
        );

        // What is the test's own fault is no reason.
        let (verdict, _, earlier) = how("wants_to_trace_itself_and_has_a_bug");
        assert_eq!((verdict, earlier), (Fail, vec![]));
        assert_eq!(fs::read_to_string(&ran).unwrap(), "once\n");

        // The next run begins with what was right.
        run();
        let (found, stats) = attempts(&scene);
        assert!(found.values().all(|attempt| attempt.earlier.is_empty()));
        assert_eq!(stats.run_again, 0);
        fs::remove_file(scene.path("target/harness/backends.json")).unwrap();
    }
}

#[test]
fn what_settings_name_is_kept_and_what_it_disturbed_is_said() {
    let scene = Scene::new();
    let folder = scene.package("lookers", LOOKERS);
    let config = "[profile.default]\ntrace = { backend = \"ptrace\" }\n\
                  default-filter = \"test(skips_if)\"\n";
    let finished = run(&scene, &folder, config);
    finished.assert_code(exit_code::OK);
    let (found, stats) = attempts(&scene);
    let attempt = &found["skips_if_it_is_traced"];
    if attempt.trace.as_ref().map(|trace| trace.backend) != Some(Backend::Ptrace) {
        return skip(
            "what_settings_name_is_kept_and_what_it_disturbed_is_said",
            "no ptrace here",
        );
    }
    assert!(attempt.earlier.is_empty());
    assert_eq!(attempt.disturbances(), [Disturbance::StatusRead]);
    assert_eq!((stats.run_again, stats.disturbed), (0, 1));
    finished.assert_says("disturbed by the tracer, and not run again");
    finished.assert_says("1 test was disturbed by the tracer");
}

/// A runner that wants to be its program's tracer, as `strace` and `rr` do, and one that has to be
/// root, as `sudo` does.
const RUNNER: &str = r#"
use std::{ffi::{c_int, c_long, c_void}, os::unix::process::CommandExt, process::{Command, exit}, ptr::null};

unsafe extern "C" {
    fn ptrace(request: c_int, pid: c_int, address: *const c_void, data: *const c_void) -> c_long;
    fn geteuid() -> u32;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
}

fn main() {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.next_if(|arg| arg == "--root").is_some() {
        if unsafe { geteuid() } != 0 {
            eprintln!("effective uid is not 0");
            exit(1);
        }
        let error = Command::new(args.next().unwrap()).args(args).exec();
        panic!("{error}");
    }
    let trace_me = || {
        let done = unsafe { ptrace(0, 0, null(), null()) };
        if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    let mut command = Command::new(args.next().unwrap());
    command.args(args);
    let child = unsafe { command.pre_exec(trace_me) }.spawn().expect("ptrace works");
    let child = child.id() as c_int;
    let mut status = 0;
    loop {
        assert_eq!(unsafe { waitpid(child, &mut status, 0x4000_0000) }, child);
        if status & 0xff != 0x7f {
            exit(status >> 8);
        }
        // At its exec.
        let signal = if status >> 8 == 5 { 0 } else { status >> 8 };
        unsafe { ptrace(7, child, null(), signal as usize as *const c_void) };
    }
}
"#;

#[cfg(target_arch = "x86_64")]
const RUNNER_VARIABLE: &str = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER";
#[cfg(target_arch = "aarch64")]
const RUNNER_VARIABLE: &str = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER";

const SIMPLE: &str = "#[test]\nfn works() {}\n";

/// Builds the runner, and returns its path.
fn runner(scene: &Scene) -> String {
    let source = scene.write("runner.rs", RUNNER);
    let program = scene.path("runner");
    let mut rustc = scene.command("rustc");
    rustc
        .args(["--edition", "2024", "-o"])
        .arg(&program)
        .arg(source);
    scene.run(rustc).assert_code(0);
    program.to_str().expect("it is UTF-8").to_owned()
}

#[test]
fn a_runner_that_traces_lists_at_every_level_and_runs_tests_again() {
    let scene = Scene::new();
    let folder = scene.package("simple", SIMPLE);
    let runner = runner(&scene);
    for level in ["off", "process", "io"] {
        let mut command = scene.harness_in(&folder, &["run", "--trace", level]);
        command.env(RUNNER_VARIABLE, &runner);
        let run = scene.run(complete(&scene, command, "[profile.default]\n"));
        scene.assert_no_strays();
        run.assert_code(exit_code::OK);
        let (found, _) = attempts(&scene);
        let met: Vec<_> = found["works"]
            .earlier
            .iter()
            .map(|time| &time.disturbances)
            .collect();
        match (level, &met[..]) {
            ("off", []) => {}
            (_, []) => return skip("a_runner_that_traces", "nothing is traced here"),
            (_, [met, ..]) => assert_eq!(met[..], [Disturbance::PtraceRefused], "{level}"),
        }
        // Whatever is cached or remembered must not help the next one.
        fs::remove_dir_all(scene.path("target/harness")).unwrap();
    }
}

/// Makes a program root's, for everybody.
fn give_roots_rights(program: &str) {
    fs::set_permissions(program, fs::Permissions::from_mode(0o4755)).expect("it is ours");
}

#[test]
fn a_user_without_privileges_gains_those_of_set_user_id_programs() {
    const NAME: &str = "a_user_without_privileges_gains_those_of_set_user_id_programs";
    let scene = Scene::new();
    let runner = runner(&scene);
    let source = format!(
        "#[test]\nfn becomes_root() {{ let done = std::process::Command::new({runner:?})\
         .args([\"--root\", \"true\"]).status().unwrap(); assert!(done.success()); }}\n\
         #[test]\nfn works() {{}}\n"
    );
    let folder = scene.package("simple", &source);
    let list = || {
        let mut command = scene.harness_in(&folder, &["list"]);
        command.env("CARGO_TARGET_DIR", scene.path("target"));
        command
    };
    let nobody = match Nobody::who_can(&scene, &list()) {
        Ok(nobody) => nobody,
        Err(reason) => return skip(NAME, &reason),
    };
    // What was opened to all has lost the bit.
    give_roots_rights(&runner);
    let mut plain = scene.command(&runner);
    plain.args(["--root", "true"]);
    if !scene.run(nobody.wrapped(&scene, &plain)).status.success() {
        return skip(NAME, "set-user-id bits mean nothing here");
    }
    for level in ["process", "io"] {
        for again in [true, false] {
            let command = scene.harness_in(&folder, &["run", "--trace", level]);
            let command = complete(&scene, command, "[profile.default]\n");
            let run = scene.run(nobody.wrapped(&scene, &command));
            run.assert_code(exit_code::OK);
            let (found, _) = attempts(&scene);
            let attempt = &found["becomes_root"];
            let met: Vec<_> = attempt
                .earlier
                .iter()
                .flat_map(|time| &time.disturbances)
                .collect();
            let expected = again.then_some(&Disturbance::PrivilegesWithheld);
            assert_eq!(met, Vec::from_iter(expected), "{level}");
            assert!(attempt.trace.is_none());
            assert!(found["works"].earlier.is_empty());
        }
        fs::remove_file(scene.path("target/harness/backends.json")).unwrap();
    }
    for level in ["off", "io"] {
        fs::remove_dir_all(scene.path("target/harness")).unwrap();
        let mut command = scene.harness_in(&folder, &["run", "--trace", level, "works"]);
        command.env(RUNNER_VARIABLE, format!("{runner} --root"));
        let command = complete(&scene, command, "[profile.default]\n");
        let run = scene.run(nobody.wrapped(&scene, &command));
        run.assert_code(exit_code::OK);
        if level == "io" {
            run.assert_says("which runs the tests, gets privileges from its file");
        }
    }
    scene.assert_no_strays();
}

/// A child that does not look whether it is traced, and stops for a tracer.
const IGNORES: &str = r#"
#[test]
fn ignores_a_refusal() {
    use std::{ffi::{c_int, c_long, c_void}, ptr::null};
    unsafe extern "C" {
        fn fork() -> c_int;
        fn raise(signal: c_int) -> c_int;
        fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
        fn ptrace(request: c_int, pid: c_int, address: *const c_void, data: *const c_void) -> c_long;
        fn _exit(code: c_int) -> !;
    }
    let child = unsafe { fork() };
    if child == 0 {
        unsafe {
            ptrace(0, 0, null(), null());
            raise(19);
            _exit(3)
        }
    }
    let mut status = 0;
    assert_eq!(unsafe { waitpid(child, &mut status, 0) }, child);
    assert_eq!(status & 0xff, 0x7f, "it has stopped");
    assert_eq!(unsafe { ptrace(7, child, null(), null()) }, 0, "it is traced");
    assert_eq!(unsafe { waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 3 << 8);
}
"#;

#[test]
fn a_test_that_waits_for_a_stop_which_the_tracer_takes_is_run_again_at_once() {
    // By the number of the call, nothing shows that a program may trace.
    let by_number = IGNORES
        .replace("        fn ptrace(", "        fn syscall(number: c_long, ")
        .replace(" ptrace(", " syscall(PTRACE, ")
        .replace(
            "    unsafe extern",
            "    const PTRACE: c_long = if cfg!(target_arch = \"x86_64\") { 101 } else { 117 };\n\
             \x20   unsafe extern",
        );
    assert!(!by_number.contains("ptrace("));
    for (package, source) in [("ignores", IGNORES), ("ignores_by_number", &by_number)] {
        let scene = Scene::new();
        let folder = scene.package(package, source);
        for level in ["process", "io", "full"] {
            // It would hang for ever.
            let run = run_at(&scene, &folder, "", level);
            run.assert_code(exit_code::OK);
            let how = how(&scene, &run);
            assert!(how["ignores_a_refusal"].1, "{package} at {level}: {how:?}");
            fs::remove_file(scene.path("target/harness/backends.json")).unwrap();
        }
    }
}
