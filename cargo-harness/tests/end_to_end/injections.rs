//! `run --inject` and `audit --faults`.

use crate::{
    nobody::Nobody,
    scene::{Finished, Scene, skip},
};
use fixture_kit::results::last_attempts;
use harness_metadata::exit_code;
use std::{fs, path::PathBuf, process::Command};

const SUITE: &str = r#"
    use std::{env, fs::{self, File}, io::Write, net::{TcpListener, TcpStream}, path::PathBuf, process, thread, time};

    fn file(name: &str) -> PathBuf {
        env::temp_dir().join(name)
    }

    #[test]
    fn says_why() {
        let path = file("says.toml");
        fs::write(&path, "x").unwrap();
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn hangs() {
        let path = file("hangs");
        let _ = fs::create_dir(&path);
        while !path.exists() {
            thread::sleep(time::Duration::from_millis(1));
        }
        fs::remove_dir(&path).unwrap();
    }

    #[test]
    fn ignores_it() {
        let _ = fs::create_dir(file("ignored"));
        let _ = fs::remove_dir(file("ignored"));
    }

    #[test]
    fn aborts() {
        let path = file("aborts.txt");
        if File::create(&path).is_err() {
            process::abort();
        }
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn leaves_a_file() {
        let (one, other) = (file("one.txt"), file("other.txt"));
        fs::write(&one, "x").unwrap();
        assert!(fs::rename(&one, &other).is_ok(), "it was not renamed");
        fs::remove_file(&other).unwrap();
    }

    #[test]
    fn leaks_a_process() {
        let path = file("leaks.txt");
        let mut child = process::Command::new("sleep").arg("600").spawn().unwrap();
        let made = File::create(&path);
        if made.is_ok() {
            child.kill().unwrap();
            child.wait().unwrap();
            fs::remove_file(&path).unwrap();
        }
        made.unwrap();
    }

    #[test]
    fn writes_in_a_child() {
        let path = file("child.txt");
        let command = format!("echo x > '{}'", path.display());
        let status = process::Command::new("sh").args(["-c", &command]).status();
        assert!(status.expect("a shell").success());
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn writes_in_threads() {
        let threads: Vec<_> = (0..4)
            .map(|number| thread::spawn(move || File::create(file(&format!("thread-{number}.txt"))).is_ok()))
            .collect();
        let made = threads.into_iter().filter(|_| true).map(|it| it.join().unwrap());
        assert_eq!(made.filter(|made| !made).count(), 1);
        for number in 0..4 {
            let _ = fs::remove_file(file(&format!("thread-{number}.txt")));
        }
    }

    #[test]
    fn connects() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    }

    #[test]
    fn writes_all() {
        let path = file("all.txt");
        let mut file = File::create(&path).unwrap();
        let first = file.write_all(b"one");
        let second = file.write_all(b"two");
        fs::remove_file(&path).unwrap();
        first.expect("the first one");
        second.expect("the second one");
    }
"#;

struct Suite {
    scene: Scene,
    package: PathBuf,
}

impl Suite {
    fn new() -> Self {
        let scene = Scene::new();
        scene.write("suite/tests/faulty.rs", SUITE);
        scene.write("temp/.keep", "");
        let package = scene.package("suite", "");
        Self { scene, package }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.scene.harness_in(&self.package, args);
        command.env("TMPDIR", self.scene.path("temp"));
        command
    }

    fn harness(&self, args: &[&str]) -> Finished {
        self.scene.run(self.command(args))
    }

    /// Runs a test while a call of it fails.
    fn inject(&self, request: &str, test: &str) -> Finished {
        self.harness(&["run", "--inject", request, test])
    }
}

#[test]
fn a_call_fails_where_it_is_made_and_the_report_says_that_it_was_asked_for() {
    let suite = Suite::new();
    let path = |name: &str| suite.scene.path(name).display().to_string();
    let (events, junit) = (path("events"), path("junit"));
    let reports = ["--events", &events, "--junit", &junit];
    let args = ["run", "says_why", "--inject", "openat(*.toml):ENOSPC@1"];
    let run = suite.harness(&[&args[..], &reports].concat());
    run.assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("says.toml\" failed with ENOSPC (`openat(*.toml):ENOSPC@1`, call 1)")
        .assert_says("No space left on device")
        .assert_says("had 1 call of 1 test fail; this run is kept apart");
    let read = |path: &str| fs::read_to_string(path).expect("it is written");
    let attempts = last_attempts(&suite.scene);
    let trace = attempts[0].1.trace.as_deref().expect("a trace");
    assert_eq!(trace.injected.len(), 1, "{trace:?}");
    assert_eq!(trace.injected[0].errno, 28);
    assert_eq!(trace.counts["injected"], 1);
    assert!(
        read(&junit).contains("name=\"injected\""),
        "{}",
        read(&junit)
    );
    let apart = "target/harness/injected";
    let shown = suite.harness(&["trace", "says_why", "--log", "--runs-dir", apart]);
    let lines = shown.stdout.lines();
    let lines: Vec<&str> = lines
        .skip_while(|line| !line.contains("+++ injected"))
        .collect();
    assert!(
        lines.len() > 1 && lines[1].contains("ENOSPC"),
        "{}",
        shown.stdout
    );
    // The second call is another one.
    let run = suite.inject("openat(says.toml):ENOSPC@2", "says_why");
    run.assert_code(exit_code::OK)
        .assert_says("no call of a test was one that `openat(says.toml):ENOSPC@2` has fail");
}

#[test]
fn a_run_with_failures_that_were_asked_for_is_no_history_and_stores_no_pass() {
    let suite = Suite::new();
    suite
        .inject("mkdir:EACCES", "ignores_it")
        .assert_code(exit_code::OK);
    let kept = suite.package.join("target/harness");
    assert!(!kept.join("runs").exists() && !kept.join("history.cache").exists());
    assert!(kept.join("injected/runs").is_dir());
    suite
        .harness(&["history", "ignores_it"])
        .assert_code(exit_code::SETUP);
    suite
        .harness(&["run", "--cached", "--inject", "mkdir:EACCES", "ignores_it"])
        .assert_code(exit_code::USAGE)
        .assert_says("`--cached` cannot be used with `--inject`");
    // Where passes are stored by the configuration, none is, and the run says so.
    let config = "[profile.default.reuse]\nmode = 'cached'\n";
    suite.scene.write("suite/.config/harness.toml", config);
    suite
        .inject("mkdir:EACCES", "ignores_it")
        .assert_code(exit_code::OK)
        .assert_says("passes are neither stored nor used with `--inject`");
    let plan = suite.harness(&["plan", "ignores_it"]);
    assert!(plan.stdout.contains("run"), "{}", plan.stdout);
}

#[test]
fn children_threads_sockets_programs_and_writes_can_fail() {
    let suite = Suite::new();
    let failed = |request: &str, test: &str, words: &str| {
        let run = suite.inject(request, test);
        run.assert_code(exit_code::TEST_RUN_FAILED)
            .assert_says(words);
    };
    failed(
        "openat(child.txt):EACCES",
        "writes_in_a_child",
        "Permission denied",
    );
    // The exec of a child that shares the memory of its parent (vfork(2)).
    failed("execve(sh):ENOENT", "writes_in_a_child", "a shell");
    failed(
        "connect(127.0.0.1:*):ECONNREFUSED",
        "connects",
        "Connection refused",
    );
    failed("write(all.txt):ENOSPC@2", "writes_all", "the second one");
    failed("write(all.txt):EIO@1", "writes_all", "the first one");
    // One of four threads, and whichever comes second.
    let run = suite.inject("openat(thread-*.txt):EMFILE@2", "writes_in_threads");
    run.assert_code(exit_code::OK)
        .assert_says("failed with EMFILE");
    // A write that is interrupted with EINTR is made again by the standard library.
    let run = suite.inject("write(all.txt):EINTR@1", "writes_all");
    run.assert_code(exit_code::OK)
        .assert_says("failed with EINTR");
}

#[test]
fn a_request_that_cannot_be_met_is_told_why() {
    let suite = Suite::new();
    let usage = |request: &str, words: &str| {
        let run = suite.inject(request, "says_why");
        run.assert_code(exit_code::USAGE).assert_says(words);
    };
    usage(
        "opennat:EIO",
        "`opennat` is no call that can fail on request; these can: ",
    );
    usage("openat:ENOSPACE", "`ENOSPACE` is no error of errno(3)");
    usage("openat:EIO@0", "says for no call that it fails");
    // The level is raised, and another backend says that it cannot.
    let off = [
        "run",
        "--trace",
        "off",
        "--inject",
        "openat(*.toml):EIO",
        "says_why",
    ];
    suite
        .harness(&off)
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("failed with EIO");
    let config = "[profile.default]\ntrace = { level = 'io', backend = 'notify' }\n";
    suite.scene.write("suite/.config/harness.toml", config);
    suite
        .inject("openat(*.toml):EIO", "says_why")
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("`--inject` needs `trace` from level `io` on, by ptrace");
}

#[test]
fn an_unprivileged_user_injects_failures_too() {
    const NAME: &str = "an_unprivileged_user_injects_failures_too";
    let suite = Suite::new();
    let mut list = suite.command(&["list"]);
    list.env("CARGO_TARGET_DIR", suite.scene.path("target"));
    let nobody = match Nobody::who_can(&suite.scene, &list) {
        Ok(nobody) => nobody,
        Err(reason) => return skip(NAME, &reason),
    };
    let mut command = suite.command(&["run", "says_why", "--inject", "openat(*.toml):ENOSPC"]);
    command.env("CARGO_TARGET_DIR", suite.scene.path("target"));
    let run = suite.scene.run(nobody.wrapped(&suite.scene, &command));
    run.assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("failed with ENOSPC")
        .assert_says("No space left on device");
}

/// Returns the results of the failures of a test: call, name and result, with files and processes that stay.
fn came(suite: &Suite, test: &str, args: &[&str]) -> (Finished, Vec<String>) {
    let args = [&["audit", "--faults", "--json", test], args].concat();
    let run = suite.harness(&args);
    let rows = run.stdout.lines().map(|line| {
        let row: serde_json::Value = serde_json::from_str(line).expect("it is an object");
        let text = |key: &str| row[key].as_str().expect("it is a text").to_owned();
        format!(
            "{} {} {} {} {}",
            text("call"),
            text("name"),
            text("result"),
            row["files"],
            row["processes"]
        )
    });
    let rows = rows.collect();
    (run, rows)
}

#[test]
fn each_call_fails_once_and_what_comes_of_it_is_told() {
    let suite = Suite::new();
    let found = |test: &str, code: i32, args: &[&str], row: &str| {
        let (run, rows) = came(&suite, test, args);
        assert!(
            rows.iter().any(|it| it.starts_with(row)),
            "{row}: {rows:#?} {}",
            run.stderr
        );
        run.assert_code(code);
    };
    let bad = exit_code::TEST_RUN_FAILED;
    let hang = ["--hang-after", "2", "--limit", "1"];
    found("hangs", bad, &hang, "mkdir {temp}/hangs hangs");
    found("aborts", bad, &[], "openat {temp}/aborts.txt killed");
    found(
        "says_why",
        bad,
        &[],
        "write {temp}/says.toml says [\"{temp}/says.toml\"]",
    );
    found(
        "leaves_a_file",
        bad,
        &[],
        "rename {temp}/one.txt silent [\"{temp}/one.txt\"]",
    );
    found(
        "leaks_a_process",
        bad,
        &[],
        "openat {temp}/leaks.txt says [] [\"sleep 600\"]",
    );
    let one = ["--limit", "1"];
    found(
        "ignores_it",
        exit_code::OK,
        &one,
        "mkdir {temp}/ignored unnoticed",
    );
    found(
        "ignores_it",
        bad,
        &[],
        "rmdir {temp}/ignored unnoticed [\"{temp}/ignored\"]",
    );
    suite.scene.assert_no_strays();
    let target = suite.package.join("target/harness");
    assert!(
        !target.join("trials").exists(),
        "nothing is left of the runs"
    );
}

#[test]
fn the_limit_of_failures_and_what_is_left_out_are_told() {
    let suite = Suite::new();
    let run = suite.harness(&["audit", "--faults", "--all", "--limit", "1", "says_why"]);
    run.assert_says("1 call of `suite::faulty says_why` fail, each in a run of its own");
    assert!(
        run.stdout
            .contains("calls were not tried: `--limit` has more"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("again: --inject '"), "{}", run.stdout);
    suite
        .harness(&["audit", "--faults", "no_such_test"])
        .assert_code(exit_code::NO_TESTS);
    suite
        .harness(&["audit", "--hang-after", "1", "says_why"])
        .assert_code(exit_code::USAGE);
}
