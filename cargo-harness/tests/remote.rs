//! Tests that run elsewhere: by a small engine in this process, and by `buildbox-casd` where that is installed.

#![allow(
    clippy::too_many_lines,
    reason = "a test is read from top to bottom, and may be a table"
)]

use fixture_kit::{
    model,
    scene::{Finished, Scene, skip, wait_until},
};
use harness_metadata::{Attempt, EventKind, Outcome, Remote, exit_code};
use harness_remote::engine::{Behaviour, LocalEngine, State};
use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// A package whose tests look for all that a test can look for.
const TESTS: &str = "use std::{env, fs, path::Path, process::Command};\n\
    fn here() -> String { env::var(\"CARGO_MANIFEST_DIR\").unwrap() }\n\
    #[test] fn reads_a_file_of_its_package() {\n\
    assert_eq!(fs::read_to_string(\"data/a.txt\").unwrap(), \"a\"); }\n\
    #[test] fn reads_a_file_outside_of_its_package() {\n\
    let beside = Path::new(&here()).parent().unwrap().join(\"shared/b.txt\");\n\
    assert_eq!(fs::read_to_string(beside).unwrap(), \"b\"); }\n\
    #[test] fn finds_its_program() {\n\
    let found = Command::new(env!(\"CARGO_BIN_EXE_pack\")).output();\n\
    let found = found.or_else(|_| Command::new(env::var(\"CARGO_BIN_EXE_pack\").unwrap()).output());\n\
    assert_eq!(found.unwrap().stdout, b\"from the program\\n\"); }\n\
    #[test] fn lists_a_folder() {\n\
    let mut names: Vec<_> = fs::read_dir(\"data\").unwrap().map(|e| e.unwrap().file_name()).collect();\n\
    names.sort(); assert_eq!(names, [\"a.txt\", \"c.txt\"]); }\n\
    #[test] fn fails_and_says_why() { println!(\"said before\"); panic!(\"wrong\"); }\n\
    #[test] fn passes_the_second_time() { assert_eq!(env::var(\"HARNESS_ATTEMPT\").unwrap(), \"2\"); }\n\
    #[test] fn sees_no_variable_of_the_other_machine() {\n\
    assert_eq!(env::var(\"SECRET_OF_THIS_MACHINE\").ok(), None);\n\
    assert_eq!(env::var(\"SENT_ALONG\").unwrap(), \"yes\"); }\n";

const CONFIG: &str = "[profile.default]\nretries = 1\n\
    [profile.default.remote]\nvariables = [\"SENT_ALONG\"]\n";

struct Elsewhere {
    scene: Scene,
    folder: PathBuf,
}

impl Elsewhere {
    /// A workspace with the package and a folder beside it.
    fn new() -> Self {
        let scene = Scene::new();
        for (name, text) in [
            (
                "space/Cargo.toml",
                "[workspace]\nresolver = \"3\"\nmembers = [\"pack\"]\n",
            ),
            ("space/.config/harness.toml", CONFIG),
            ("space/shared/b.txt", "b"),
            (
                "space/pack/Cargo.toml",
                "[package]\nname = \"pack\"\nversion = \"0.0.0\"\nedition = \"2024\"\n",
            ),
            (
                "space/pack/src/main.rs",
                "fn main() { println!(\"from the program\"); }\n",
            ),
            ("space/pack/tests/it.rs", TESTS),
            ("space/pack/data/a.txt", "a"),
            ("space/pack/data/c.txt", "c"),
        ] {
            scene.write(name, text);
        }
        let folder = scene.path("space");
        Self { scene, folder }
    }

    fn events(&self) -> PathBuf {
        self.scene.path("events.json")
    }

    fn run(&self, address: &str, args: &[&str]) -> Finished {
        let events = self.events();
        let mut command = self
            .scene
            .harness_in(&self.folder, &["run", "--no-fail-fast"]);
        command
            .args([
                "--remote",
                address,
                "--remote-slots",
                "20",
                "-j1",
                "--show-progress",
                "none",
            ])
            .arg("--events")
            .arg(&events)
            .args(args)
            .env("SECRET_OF_THIS_MACHINE", "x")
            .env("SENT_ALONG", "yes");
        self.scene.run(command)
    }

    fn attempts(&self) -> Vec<(String, Vec<Attempt>)> {
        let lines = fs::read_to_string(self.events()).expect("it was written");
        attempts(&lines)
    }
}

fn attempts(lines: &str) -> Vec<(String, Vec<Attempt>)> {
    let events = model::parse_events(lines).expect("they are events");
    let finished = events.into_iter().filter_map(|event| match event.kind {
        EventKind::TestFinished(finished) => {
            Some((finished.test.name.to_string(), finished.attempts))
        }
        _ => None,
    });
    finished.collect()
}

fn of<'a>(attempts: &'a [(String, Vec<Attempt>)], name: &str) -> &'a [Attempt] {
    let found = attempts.iter().find(|(test, _)| test == name);
    &found.expect("it has run").1
}

fn place(attempt: &Attempt) -> &Remote {
    attempt.remote.as_ref().expect("it ran elsewhere")
}

fn engine(behaviour: Behaviour) -> (Arc<State>, LocalEngine) {
    let state = Arc::new(State::new(behaviour));
    let engine = LocalEngine::start(&state, None).expect("there is a port");
    (state, engine)
}

/// Checks the run of [`Elsewhere`] on an engine, twice.
fn check_twice(elsewhere: &Elsewhere, address: &str) {
    let first = elsewhere.run(address, &["--success-output", "immediate"]);
    first.assert_code(exit_code::TEST_RUN_FAILED);
    first.assert_says("said before");
    first.assert_says("wrong");
    first.assert_says("7 tests run: 6 passed (1 flaky), 1 failed");
    let attempts = elsewhere.attempts();
    assert!(
        attempts
            .iter()
            .flat_map(|(_, all)| all)
            .all(|attempt| attempt.remote.is_some())
    );
    // It is not in the package: it was missed, sent, and is no attempt of the test.
    let [outside] = of(&attempts, "reads_a_file_outside_of_its_package") else {
        panic!("it needs one attempt");
    };
    let lacked = &place(outside).earlier;
    assert!(
        lacked[0].contains("it lacked `") && lacked[0].ends_with("shared/b.txt`"),
        "{lacked:?}"
    );
    let [_, _] = of(&attempts, "passes_the_second_time") else {
        panic!("it needs two attempts");
    };
    assert!(place(outside).execution + place(outside).queue > Duration::ZERO);

    let second = elsewhere.run(address, &[]);
    second.assert_code(exit_code::TEST_RUN_FAILED);
    let attempts = elsewhere.attempts();
    for (name, attempt) in attempts
        .iter()
        .flat_map(|(name, all)| all.iter().map(move |it| (name, it)))
    {
        assert_eq!(place(attempt).earlier, Vec::<String>::new(), "{name}");
        // The job and the folders that lead to it: nothing of the workspace, and no program.
        assert!(
            place(attempt).uploaded < 20_000,
            "{name}: {}",
            place(attempt).uploaded
        );
    }
    elsewhere.scene.assert_no_strays();
}

#[test]
fn tests_elsewhere_have_their_files_their_output_and_their_results() {
    let (state, engine) = engine(Behaviour::default());
    let elsewhere = Elsewhere::new();
    check_twice(&elsewhere, &engine.address());
    assert!(state.counts.executed.load(Ordering::SeqCst) >= 16);
}

#[test]
fn the_fixture_workspace_has_the_same_results_elsewhere() {
    let (_, engine) = engine(Behaviour::default());
    check_fixture(&engine.address());
}

/// Runs the fixture workspace, as much as possible of it by the engine.
fn check_fixture(address: &str) {
    let scene = Scene::new();
    let events = scene.path("events.json");
    let mut command = scene.harness(["run", "--no-fail-fast", "--remote", address]);
    command
        .args([
            "--remote-slots",
            "8",
            "-j1",
            "--show-progress",
            "none",
            "--events",
        ])
        .arg(&events);
    let finished = scene.run(command);
    finished.assert_code(exit_code::TEST_RUN_FAILED);
    let lines = fs::read_to_string(&events).expect("it was written");
    model::check_events(&lines).unwrap_or_else(|differences| panic!("{differences}"));
    let all = attempts(&lines);
    let remote =
        |(_, attempts): &&(String, Vec<Attempt>)| attempts.iter().any(|it| it.remote.is_some());
    let elsewhere = all.iter().filter(remote).count();
    assert!(
        elsewhere >= 8,
        "{elsewhere} of {} tests ran elsewhere",
        all.len()
    );
    scene.assert_no_strays();
}

#[test]
fn a_result_that_an_engine_loses_is_a_fault_with_its_name_and_no_result_is_made_up() {
    let lost = "harness-remote/report.json".to_owned();
    let (_, engine) = engine(Behaviour {
        loses: vec![lost],
        ..Behaviour::default()
    });
    let elsewhere = Elsewhere::new();
    let finished = elsewhere.run(
        &engine.address(),
        &["--retries", "0", "reads_a_file_of_its_package"],
    );
    finished.assert_code(exit_code::TEST_RUN_FAILED);
    finished.assert_says("after 4 tries: the agent left no report");
    let attempts = elsewhere.attempts();
    let [attempt] = of(&attempts, "reads_a_file_of_its_package") else {
        panic!("a fault of the engine is no attempt");
    };
    assert!(
        matches!(attempt.outcome, Outcome::HarnessFault(_)),
        "{:?}",
        attempt.outcome
    );

    let lost = "harness-remote/stdout".to_owned();
    let (_, engine) = self::engine(Behaviour {
        loses: vec![lost],
        ..Behaviour::default()
    });
    let finished = elsewhere.run(
        &engine.address(),
        &["--retries", "0", "reads_a_file_of_its_package"],
    );
    finished.assert_code(exit_code::TEST_RUN_FAILED);
    finished.assert_says("the engine has lost the output `harness-remote/stdout`");
}

#[test]
fn faults_of_an_engine_are_no_retries_of_a_test() {
    let behaviour = Behaviour {
        fails: 1.into(),
        evicts: 1.into(),
        ..Behaviour::default()
    };
    let (_, engine) = engine(behaviour);
    let elsewhere = Elsewhere::new();
    let finished = elsewhere.run(
        &engine.address(),
        &["--retries", "0", "reads_a_file_of_its_package"],
    );
    finished.assert_code(exit_code::OK);
    finished.assert_says("1 test run: 1 passed");
    let attempts = elsewhere.attempts();
    let [attempt] = of(&attempts, "reads_a_file_of_its_package") else {
        panic!("it is one attempt");
    };
    assert_eq!(
        place(attempt).earlier.len(),
        2,
        "{:?}",
        place(attempt).earlier
    );
}

#[test]
fn an_engine_that_hangs_is_given_up_with_a_sentence() {
    let (state, engine) = engine(Behaviour {
        hangs: 9.into(),
        ..Behaviour::default()
    });
    let elsewhere = Elsewhere::new();
    elsewhere.scene.write(
        "space/.config/harness.toml",
        "[profile.default.remote]\npatience = \"1s\"\ntries = 1\n",
    );
    let finished = elsewhere.run(&engine.address(), &["reads_a_file_of_its_package"]);
    finished.assert_code(exit_code::TEST_RUN_FAILED);
    finished.assert_says("the engine has not finished the action within 1 s");
    let cancelled = || (state.counts.cancelled.load(Ordering::SeqCst) > 0).then_some(());
    wait_until(Duration::from_secs(30), cancelled).expect("it is cancelled");
}

#[test]
fn a_straggler_is_started_a_second_time_where_the_profile_allows_it() {
    // The first action has no end.
    let (state, engine) = engine(Behaviour {
        hangs: 1.into(),
        ..Behaviour::default()
    });
    let elsewhere = Elsewhere::new();
    elsewhere.scene.write(
        "space/.config/harness.toml",
        "[profile.default.remote]\nbackup-after = \"1s\"\n",
    );
    let finished = elsewhere.run(&engine.address(), &["reads_a_file_of_its_package"]);
    finished.assert_code(exit_code::OK);
    finished.assert_says("1 test run: 1 passed");
    let attempts = elsewhere.attempts();
    let [attempt] = of(&attempts, "reads_a_file_of_its_package") else {
        panic!("it is one attempt");
    };
    assert!(place(attempt).backup);
    assert_eq!(place(attempt).earlier, Vec::<String>::new());
    assert_eq!(state.counts.accepted.load(Ordering::SeqCst), 2);
    let cancelled = || (state.counts.cancelled.load(Ordering::SeqCst) == 1).then_some(());
    wait_until(Duration::from_secs(30), cancelled).expect("the first one is cancelled");
}

#[test]
fn an_override_keeps_a_test_here() {
    let (_, engine) = engine(Behaviour::default());
    let elsewhere = Elsewhere::new();
    elsewhere.scene.write(
        "space/.config/harness.toml",
        "[profile.default.remote]\nvariables = [\"SENT_ALONG\"]\n\
         [[profile.default.overrides]]\nfilter = \"test(reads_)\"\nremote.allow = false\n",
    );
    let finished = elsewhere.run(&engine.address(), &["-E", "test(reads_) | test(lists_)"]);
    finished.assert_code(exit_code::OK);
    finished.assert_says("2 tests run here and not elsewhere: `remote.allow` is false");
    let attempts = elsewhere.attempts();
    for (name, all) in &attempts {
        assert_eq!(
            all[0].remote.is_none(),
            name.starts_with("reads_"),
            "{name}"
        );
    }
}

#[test]
fn a_wrong_address_is_a_sentence_before_anything_is_built() {
    let elsewhere = Elsewhere::new();
    for (address, says) in [
        (
            "localhost",
            "is no address of an engine: it has the form `grpc://HOST:PORT`",
        ),
        (
            "grpc://127.0.0.1:1",
            "no engine can be reached at `grpc://127.0.0.1:1`",
        ),
    ] {
        let finished = elsewhere.run(address, &[]);
        finished.assert_code(exit_code::SETUP);
        finished.assert_says(says);
        finished.assert_sentence();
        assert!(!elsewhere.folder.join("target").exists(), "it was built");
    }
    let (_, engine) = engine(Behaviour {
        stores_only: true,
        ..Behaviour::default()
    });
    let finished = elsewhere.run(&engine.address(), &[]);
    finished.assert_code(exit_code::SETUP);
    finished.assert_says("it stores results and executes nothing");
    let finished = elsewhere.run(&engine.address(), &["--no-capture"]);
    finished.assert_code(exit_code::USAGE);
    finished.assert_says("`--remote` cannot be used with `--no-capture`: tests see the terminal");
}

#[test]
fn a_pass_elsewhere_is_not_used_again_and_a_failure_there_counts() {
    let (_, engine) = engine(Behaviour::default());
    let elsewhere = Elsewhere::new();
    for _ in 0..2 {
        let finished = elsewhere.run(&engine.address(), &["--cached", "-E", "test(reads_)"]);
        finished.assert_code(exit_code::OK);
        finished.assert_says("2 tests run: 2 passed");
    }
    // Here they are stored and used.
    for says in ["2 tests run: 2 passed", "0 tests run: 0 passed"] {
        let args = [
            "--cached",
            "--audit",
            "0%",
            "--no-tests",
            "pass",
            "-E",
            "test(reads_)",
        ];
        let finished = elsewhere.run("", &args);
        finished.assert_code(exit_code::OK);
        finished.assert_says(says);
    }
}

#[test]
fn an_interrupted_run_does_not_wait_for_an_engine() {
    let (state, engine) = engine(Behaviour {
        hangs: 9.into(),
        ..Behaviour::default()
    });
    let elsewhere = Elsewhere::new();
    let address = engine.address();
    let args = [
        "run",
        "--remote",
        &address,
        "--remote-slots",
        "20",
        "reads_a_file_of_its_package",
    ];
    let running = elsewhere
        .scene
        .start(elsewhere.scene.harness_in(&elsewhere.folder, &args));
    let accepted = || (state.counts.accepted.load(Ordering::SeqCst) > 0).then_some(());
    wait_until(Duration::from_secs(300), accepted).expect("it is submitted");
    running.signal(nix::sys::signal::Signal::SIGINT);
    let finished = running.finish();
    finished.assert_code(exit_code::ended_by(nix::sys::signal::Signal::SIGINT as i32));
    finished.assert_says("1 test run: 0 passed, 1 interrupted");
    elsewhere.scene.assert_no_strays();
}

/// `buildbox-casd`, which is ended when this is dropped.
struct Casd {
    process: Child,
    port: u16,
}

impl Drop for Casd {
    fn drop(&mut self) {
        // Killed outright, it would leave its runner behind.
        let pid = nix::unistd::Pid::from_raw(self.process.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

impl Casd {
    /// Starts it, if it is installed: on the path, or in the folder that `BUILDBOX` names.
    fn start(scene: &Scene, test: &str) -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::var_os("BUILDBOX")
            .map(PathBuf::from)
            .into_iter()
            .chain(env::split_paths(&path));
        let found: Vec<PathBuf> = folders.collect();
        let has = |name: &str| {
            found
                .iter()
                .map(|folder| folder.join(name))
                .find(|file| file.is_file())
        };
        let (Some(casd), Some(runner), Some(_)) =
            (has("buildbox-casd"), has("buildbox-run"), has("bwrap"))
        else {
            skip(
                test,
                "`buildbox-casd`, `buildbox-run` or `bwrap` is not installed",
            );
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr());
        let port = port.expect("there is a port").port();
        let mut command = Command::new(&casd);
        let tools = casd.parent().unwrap_or(Path::new("/"));
        let all = env::join_paths(
            [tools.to_owned()]
                .into_iter()
                .chain(env::split_paths(&path)),
        );
        command
            .env("PATH", all.expect("they were paths"))
            .arg(format!("--bind=127.0.0.1:{port}"))
            .arg(format!("--buildbox-run={}", runner.display()))
            .args(["--jobs=4", "--runner-arg=--staging-mode=copy-or-link"]);
        for mount in [
            "/usr:/usr",
            "/usr/bin:/bin",
            "/usr/lib:/lib",
            "/usr/lib64:/lib64",
        ] {
            command.arg(format!("--runner-arg=--ro-bind-mount={mount}"));
        }
        command
            .arg(scene.path("casd"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command.spawn().expect("it is executable");
        let casd = Self { process, port };
        let connects = || std::net::TcpStream::connect(("127.0.0.1", port)).ok();
        let there = wait_until(Duration::from_secs(60), connects);
        match there {
            Some(_) => Some(casd),
            None => {
                skip(test, "`buildbox-casd` does not start here");
                None
            }
        }
    }

    fn address(&self) -> String {
        format!("grpc://127.0.0.1:{}", self.port)
    }
}

#[test]
fn buildbox_runs_tests_as_they_run_here() {
    let elsewhere = Elsewhere::new();
    if let Some(casd) = Casd::start(&elsewhere.scene, "buildbox_runs_tests_as_they_run_here") {
        check_twice(&elsewhere, &casd.address());
    }
}

#[test]
fn buildbox_has_the_results_of_the_fixture_workspace() {
    let scene = Scene::new();
    if let Some(casd) = Casd::start(&scene, "buildbox_has_the_results_of_the_fixture_workspace") {
        check_fixture(&casd.address());
    }
}
