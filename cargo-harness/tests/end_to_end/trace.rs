//! `cargo harness trace`, with runs that were made by hand: no process is traced here.

use crate::scene::{Finished, Scene};
use camino::Utf8PathBuf;
use expect_test::expect;
use fixture_kit::sample::{self, path, seen};
use harness_metadata::{
    Attempt, Event, EventKind, Exit, RunId, TraceEvent, TraceEventKind,
    event::{RunStarted, TraceLevel},
    exit_code,
    trace::{
        Access, Address, Backend, CallResult, Creation, Doubt, Exec, FileCall, FileOperation,
        NetworkCall, NetworkOperation, Reach,
    },
};
use harness_runner::{
    store::{self, Belongings, KeptTrace, Run},
    tracer::{Observer, record::Recorder},
};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

const ROOT: i32 = 4242;
const RUN: &str = "0d31c2a4-2f0f-4f0e-9a55-3f1f2c6f0a01";

struct Kept {
    scene: Scene,
    package: PathBuf,
    run: Run,
}

impl Kept {
    fn new() -> Self {
        let scene = Scene::new();
        let package = scene.package("kept", "");
        let target =
            Utf8PathBuf::from_path_buf(package.join("target")).expect("it is known to work");
        let id = RunId(RUN.parse().expect("it is known to work"));
        let mut kept = Self {
            scene,
            package,
            run: Run::create(&store::usual(&target), id, None).expect("it is known to work"),
        };
        kept.record(EventKind::RunStarted(Box::new(began(id))), None);
        kept
    }

    fn record(&mut self, kind: EventKind, trace: Option<KeptTrace>) {
        let at = Duration::ZERO;
        let belongings = Belongings {
            trace,
            output: None,
        };
        self.run
            .record(&Event { at, kind }, belongings)
            .expect("it is known to work");
    }

    fn attempt(
        &mut self,
        name: &str,
        number: u32,
        code: i32,
        events: &[TraceEvent],
    ) -> Utf8PathBuf {
        let traces = self.run.trace_files().create();
        let path = traces.path().to_owned();
        let file = Some(path.clone().into_std_path_buf());
        let mut recorder = Recorder::new(ROOT, TraceLevel::Io, Backend::Ptrace, file);
        for event in events {
            recorder.event(event);
        }
        let summary = recorder.summary();
        recorder.complete().expect("it is known to work");
        let attempt = Attempt {
            elapsed: Duration::from_millis(1_250),
            pid: Some(ROOT),
            trace: Some(Box::new(summary)),
            ..sample::code(number, code)
        };
        let finished = sample::finished(sample::test("kept::tests", name), vec![attempt]);
        let finished = EventKind::TestFinished(Box::new(finished));
        self.record(finished, traces.kept_since(0));
        path
    }

    fn trace(&self, args: &[&str]) -> Finished {
        let args = [&["trace"], args].concat();
        self.scene.run(self.scene.harness_in(&self.package, &args))
    }

    #[track_caller]
    fn shown(&self, args: &[&str]) -> String {
        let run = self.trace(args);
        run.assert_code(exit_code::OK);
        assert_eq!(run.stderr, "");
        run.stdout
    }
}

fn began(run_id: RunId) -> RunStarted {
    RunStarted {
        run_id,
        tests: 1,
        ..sample::started()
    }
}

fn exec(pid: i32, millis: u64, program: &str, args: &[&str]) -> TraceEvent {
    let exec = Exec {
        cwd: "/".into(),
        ..sample::exec(program, args, CallResult::Ok(0))
    };
    seen(pid, millis, TraceEventKind::Exec(Box::new(exec)))
}

fn open(pid: i32, millis: u64, name: &str, write: bool, result: CallResult) -> TraceEvent {
    let call = FileCall {
        call: "openat".to_owned(),
        operation: FileOperation::Open,
        path: path(name),
        to: None,
        access: Some(Access {
            read: !write,
            write,
            create: write,
            exclusive: write,
            ..Access::default()
        }),
        result,
        file: None,
    };
    seen(pid, millis, TraceEventKind::File(Box::new(call)))
}

fn exited(pid: i32, millis: u64, code: i32) -> TraceEvent {
    seen(pid, millis, sample::exited(Exit::Code(code)))
}

fn fork(pid: i32, millis: u64, child: i32) -> TraceEvent {
    seen(pid, millis, sample::created(child, Creation::Vfork))
}

fn events() -> Vec<TraceEvent> {
    let connect = NetworkCall {
        call: "connect".to_owned(),
        operation: NetworkOperation::Connect,
        fd: 3,
        address: Some(Address::Ip {
            ip: [127, 0, 0, 1].into(),
            port: 80,
        }),
        reach: Reach::Machine,
        result: CallResult::Err(nix::libc::ECONNREFUSED),
    };
    let missing = CallResult::Err(nix::libc::ENOENT);
    vec![
        exec(
            ROOT,
            0,
            "/work/target/kept",
            &["/work/target/kept", "a::test"],
        ),
        open(ROOT, 1, "/etc/ld.so.preload", false, missing),
        open(ROOT, 2, "/lib/libc.so.6", false, CallResult::Found),
        fork(ROOT, 3, 4243),
        exec(4243, 4, "/usr/bin/printf", &["printf", "%s", "two words\n"]),
        fork(4243, 5, 4244),
        exited(4244, 6, 0),
        exited(4243, 7, 1),
        fork(ROOT, 8, 4245),
        open(ROOT, 9, "/work/tests/fixture.json", false, missing),
        open(ROOT, 10, "/work/out", true, CallResult::Ok(3)),
        seen(ROOT, 11, TraceEventKind::Network(Box::new(connect))),
        seen(ROOT, 12, TraceEventKind::Doubt(Doubt::IoUring)),
        exited(ROOT, 1_250, 101),
    ]
}

#[test]
fn the_tree_shows_processes_files_and_connections_and_what_may_be_missing() {
    let mut kept = Kept::new();
    kept.attempt("a::test", 1, 101, &events());
    expect![[r#"
        kept::tests a::test: exited with 101 in 1.250 s
        attempt 1 of run 0d31c2a4-2f0f-4f0e-9a55-3f1f2c6f0a01, 2023-11-14 22:13:20

        Processes
          4242 0.000–1.250 s exited with 101  /work/target/kept a::test
          ├─ 4243 0.003–0.007 s exited with 1  printf %s $'two words\n'
          │  └─ 4244 0.005–0.006 s exited with 0  printf %s $'two words\n' (forked)
          └─ 4245 0.008 s– alive at the end  /work/target/kept a::test (forked)

        Calls that failed
          0.009 s 4242 openat tests/fixture.json: No such file or directory (ENOENT)
          0.011 s 4242 connect 127.0.0.1:80: Connection refused (ECONNREFUSED)

        Files, relative to /work
          created
            out
          executed
            target/kept
            /usr/bin/printf
          read
            /lib/libc.so.6
          missing
            tests/fixture.json
          1 missing that many programs look for (--verbose lists them)

        Network
          connected to 127.0.0.1:80 (this machine): Connection refused (ECONNREFUSED)

        Trace
          incomplete at level io, by ptrace with a filter:
          - io_uring was used, whose operations are not system calls
    "#]]
    .assert_eq(&kept.shown(&["a::test"]));
}

#[test]
fn the_log_has_a_line_an_event_and_can_be_filtered() {
    let mut kept = Kept::new();
    kept.attempt("a::test", 1, 101, &events());
    let lines = |args: &[&str]| kept.shown(args).lines().count();
    assert_eq!(lines(&["test", "--log"]), events().len());
    assert_eq!(lines(&["test", "--log", "--kind", "file"]), 4);
    assert_eq!(lines(&["test", "--log", "--kind", "net,doubt"]), 2);
    assert_eq!(lines(&["test", "--log", "--path", "/work"]), 3);
    assert_eq!(lines(&["test", "--log", "--path", "*.json"]), 1);
    assert_eq!(lines(&["test", "--log", "--process", "printf"]), 4);
    assert_eq!(lines(&["test", "--log", "--process", "4244"]), 1);
    let failed = ["test", "--log", "--failed", "--kind", "file"];
    assert_eq!(lines(&failed), 1, "without what many programs look for");
    assert_eq!(lines(&[&failed[..], &["--verbose"]].concat()), 2);
    let shown = kept.shown(&["test", "--log", "--path", "*.json"]);
    assert_eq!(
        shown,
        "  0.009000 4242 openat(\"/work/tests/fixture.json\", O_RDONLY) = -1 ENOENT \
         (No such file or directory)\n"
    );
}

#[test]
fn the_lists_of_the_tree_are_filtered_and_its_processes_stay() {
    let mut kept = Kept::new();
    kept.attempt("a::test", 1, 101, &events());
    let shown = kept.shown(&["test", "--path", "/work/tests"]);
    assert!(shown.contains("tests/fixture.json"), "{shown}");
    assert!(shown.contains("4244"), "{shown}");
    assert!(!shown.contains("libc.so.6"), "{shown}");
    assert!(!shown.contains("127.0.0.1"), "{shown}");
    assert!(shown.contains("io_uring"), "{shown}");
}

#[test]
fn executions_can_be_pasted_into_a_shell() {
    let mut kept = Kept::new();
    kept.attempt("a::test", 1, 101, &events());
    let shown = kept.shown(&["test", "--exec"]);
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(
        lines,
        [
            "cd / && /work/target/kept a::test",
            "cd / && /usr/bin/printf %s $'two words\\n'"
        ]
    );
    let printed = std::process::Command::new("bash")
        .args(["-c", lines[1]])
        .output();
    assert_eq!(printed.unwrap().stdout, b"two words\n");
}

#[test]
fn json_has_a_line_about_the_trace_and_then_one_an_event() {
    let mut kept = Kept::new();
    kept.attempt("a::test", 2, 101, &events());
    let shown = kept.shown(&["test", "--json"]);
    let mut lines = shown.lines();
    let header: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(header["attempt"], 2);
    assert_eq!(header["run_id"], RUN);
    assert_eq!(header["complete"], false);
    let read: Vec<TraceEvent> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(read, events());
}

#[test]
fn attempts_are_chosen_by_name_number_run_and_failure() {
    let mut kept = Kept::new();
    kept.attempt("a::test", 1, 101, &events());
    kept.attempt("a::test", 2, 0, &events());
    kept.attempt("a::other", 1, 0, &events());
    let attempt = |args: &[&str]| {
        let shown = kept.shown(args);
        shown
            .lines()
            .nth(1)
            .unwrap()
            .split(',')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(attempt(&["a::test"]), format!("attempt 2 of run {RUN}"));
    let one = format!("attempt 1 of run {RUN}");
    assert_eq!(attempt(&["kept::tests", "a::test", "--attempt", "1"]), one);
    assert_eq!(attempt(&["--last-failed"]), one);
    assert_eq!(attempt(&["a::other", "--run", &RUN[..8]]), one);
    assert_eq!(attempt(&["a::other", "--run", "latest"]), one);

    let wrong = |args: &[&str], code, says: &str| {
        let run = kept.trace(args);
        run.assert_code(code).assert_says(says);
        run.assert_sentence();
    };
    wrong(&["a::"], exit_code::SETUP, "kept::tests a::other");
    wrong(&["a::tets"], exit_code::NO_TESTS, "kept::tests a::test");
    wrong(
        &["a::test", "--attempt", "9"],
        exit_code::NO_TESTS,
        "no attempt 9",
    );
    wrong(&["a::test", "--run", "ffff"], exit_code::NO_TESTS, RUN);
    wrong(&["a::test", "--path", ""], exit_code::SETUP, "--path");
    kept.trace(&[]).assert_code(exit_code::USAGE);
    kept.trace(&["a", "--log", "--json"])
        .assert_code(exit_code::USAGE);
}

#[test]
fn without_a_run_it_says_how_to_record_one() {
    let scene = Scene::new();
    let folder = scene.package("fresh", "");
    let run = scene.run(scene.harness_in(&folder, &["trace", "x"]));
    run.assert_code(exit_code::NO_TESTS)
        .assert_says("no run is kept");
    run.assert_says("cargo harness run --trace io");
    run.assert_sentence();
}

#[test]
fn what_is_left_of_a_file_is_shown_and_what_is_no_trace_is_said_to_be_none() {
    let mut kept = Kept::new();
    let file = kept.attempt("a::test", 1, 101, &events());
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 3]).unwrap();
    let cut = kept.trace(&["test", "--log"]);
    cut.assert_code(exit_code::OK)
        .assert_says("the trace ends before the attempt did");
    assert_eq!(cut.stdout.lines().count(), events().len());
    fs::write(&file, "nonsense").unwrap();
    let run = kept.trace(&["test", "--log"]);
    run.assert_code(exit_code::NO_TESTS)
        .assert_says("is no trace");
    run.assert_sentence();
    fs::remove_file(&file).unwrap();
    let run = kept.trace(&["test", "--json"]);
    run.assert_code(exit_code::NO_TESTS);
    run.assert_sentence();
    // The summary is in the index.
    assert!(kept.shown(&["test"]).contains("tests/fixture.json"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut kept = Kept::new();
    let many: Vec<_> = (0..50_000)
        .map(|number| open(ROOT, number, "/work/in", false, CallResult::Found))
        .collect();
    kept.attempt("a::test", 1, 0, &many);
    for view in ["--log", "--json"] {
        let mut command = kept
            .scene
            .harness_in(&kept.package, &["trace", "test", view]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut first = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut first).unwrap();
        drop(out);
        let mut errors = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut errors)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(exit_code::OK), "{view}");
        assert_eq!(errors, "");
    }
}
