//! Tests that are tracers themselves: they are run again by what leaves them alone, once.

use crate::scene::{Finished, Scene, skip};
use fixture_model::parse_events;
use harness_metadata::{Attempt, EventKind, exit_code, trace::Backend};
use std::{collections::BTreeMap, fs, path::Path};

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

/// How the last attempt of every test was traced, and whether that was its second time.
fn how(scene: &Scene, run: &Finished) -> BTreeMap<String, (Option<Backend>, bool)> {
    let events = fs::read_to_string(scene.path("events")).expect("they were asked for");
    let events = parse_events(&events).expect("they are well-formed");
    let finished = events.iter().filter_map(|event| match &event.kind {
        EventKind::TestFinished(test) => Some(test),
        _ => None,
    });
    let how = |attempt: &Attempt| {
        let backend = attempt.trace.as_ref().map(|trace| trace.backend);
        if let Some(because) = &attempt.rerun {
            run.assert_says(because);
        }
        (backend, attempt.rerun.is_some())
    };
    finished
        .map(|test| {
            assert_eq!(test.attempts.len(), 1, "{}", test.test);
            (test.test.name.as_str().to_owned(), how(&test.attempts[0]))
        })
        .collect()
}

fn run(scene: &Scene, folder: &Path, config: &str) -> Finished {
    let mut command = scene.harness_in(folder, &["run", "--trace", "io"]);
    command
        .env("CARGO_TARGET_DIR", scene.path("target"))
        .arg("--config-file")
        .arg(scene.write("harness.toml", config))
        .arg("--events")
        .arg(scene.path("events"))
        .arg("--junit")
        .arg(scene.path("junit.xml"))
        .arg("--no-fail-fast");
    let run = scene.run(command);
    scene.assert_no_strays();
    run
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
    // Neither backend lets this one do both.
    first.assert_code(exit_code::TEST_RUN_FAILED);
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
            ("does_both", Some(Notify), true),
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
    let known = |test: &str| format!("\"tracers {test}\": \"notify\"");
    assert!(learned.contains(&known("seizes_its_child")), "{learned}");
    fs::write(&file, format!("{{{}}}", known("listens_to_itself"))).unwrap();
    let third = how(&scene, &run(&scene, &folder, CONFIG));
    assert_eq!(third["listens_to_itself"], (Some(Ptrace), true));

    fs::write(&file, b"{\"tracers neither\": 3, \xff").unwrap();
    let fourth = how(&scene, &run(&scene, &folder, CONFIG));
    assert_eq!(fourth["seizes_its_child"], (Some(Notify), true));
    assert_eq!(fourth["neither"], (Some(Ptrace), false));
}
