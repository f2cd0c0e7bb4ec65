//! Benchmarks: `cargo harness bench`, on its own and beside cargo-nextest.

use crate::{
    environment::installed,
    scene::{Finished, Scene, shared_target, skip, wait_until},
};
use fixture_kit::{place, results};
use harness_metadata::{EventKind, Outcome, Verdict, exit_code};
use nix::sys::signal::Signal;
use std::{
    collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path, process::Command,
    time::Duration,
};

/// Benchmarks of the standard harness beside tests.
const STANDARD: &str = r#"
    #![feature(test)]
    extern crate test;
    #[test] fn a_test() { panic!("it is none of the benchmarks") }
    #[bench] fn adds(b: &mut test::Bencher) { b.iter(|| std::hint::black_box(1) + 1) }
    #[bench] #[ignore] fn waits(b: &mut test::Bencher) { b.iter(|| 1) }
"#;

/// A harness that says how it is called.
const CUSTOM: &str = r#"
    fn main() {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let has = |name: &str| args.iter().any(|arg| arg == name);
        if has("--list") {
            if !has("--ignored") { println!("zebra: benchmark\nfails: benchmark\nplain: test") }
            return;
        }
        let get = |name: &str| std::env::var(name).unwrap_or_default();
        println!("called with {}", args.join(" "));
        println!("modes {} {}", get("HARNESS_RUN_MODE"), get("NEXTEST_RUN_MODE"));
        if has("fails") { std::process::exit(3) }
        if let Ok(name) = std::env::var("SLEEPS") { if has(&name) { loop { std::thread::park() } } }
    }
"#;

/// A package with both, in a scene.
struct Case(Scene);

impl Case {
    fn new() -> Self {
        let scene = Scene::new();
        scene.package("measured", STANDARD);
        scene.write("measured/benches/custom.rs", CUSTOM);
        let manifest = scene.path("measured/Cargo.toml");
        let text = fs::read_to_string(&manifest).expect("it was written");
        let bench = "[[bench]]\nname = \"custom\"\nharness = false\n";
        fs::write(manifest, text + bench).expect("it is ours");
        Self(scene)
    }

    fn command(&self, args: &[&str]) -> Command {
        let package = self.0.path("measured");
        let mut command = self.0.harness_in(&package, args);
        // `#[bench]` is unstable.
        command.env("RUSTC_BOOTSTRAP", "1");
        command
    }

    fn run(&self, args: &[&str]) -> Finished {
        self.0.run(self.command(args))
    }

    fn config(&self, text: &str) {
        self.0.write("measured/.config/harness.toml", text);
    }

    /// Returns each result that a run wrote to `events`: the name, and whether it passed.
    fn results(&self) -> Vec<(String, bool)> {
        let finished = results::finished(results::events(&self.0));
        let result = |test: &harness_metadata::event::TestFinished| {
            (test.test.to_string(), test.verdict == Verdict::Pass)
        };
        finished.iter().map(result).collect()
    }
}

#[test]
fn benchmarks_measure_one_at_a_time_and_in_order_and_write_to_the_terminal() {
    let case = Case::new();
    case.config("[profile.default]\ntest-threads = 8\ntrace = { level = 'io', required = true }\n");
    let junit = case.0.path("junit.xml");
    let events = case.0.path("events");
    let mut command = case.command(&["bench", "--no-fail-fast", "--junit"]);
    command.arg(&junit).arg("--events").arg(&events);
    let run = case.0.run(command);
    run.assert_code(exit_code::TEST_RUN_FAILED);
    run.assert_says("Finished `bench` profile");
    run.assert_says("Starting 3 benchmarks across 2 binaries (1 benchmark skipped)");
    run.assert_says("3 benchmarks run: 2 passed, 1 failed, 1 skipped");
    // Their figures are on the terminal.
    assert!(run.stdout.contains(" ... bench:"), "{}", run.stdout);
    assert!(
        run.stdout
            .contains("called with --exact zebra --nocapture --bench\n")
    );
    assert!(
        run.stdout.contains("modes benchmark benchmark\n"),
        "{}",
        run.stdout
    );
    let expected = [
        ("measured adds", true),
        ("measured::bench/custom fails", false),
        ("measured::bench/custom zebra", true),
    ];
    let expected = expected.map(|(name, passed)| (name.to_owned(), passed));
    assert_eq!(case.results(), expected);
    let events = results::events(&case.0);
    let started = results::started(&events);
    assert_eq!((started.slots, started.skipped_tests), (1, 1));
    assert_eq!(
        started.trace.level,
        harness_metadata::event::TraceLevel::Off
    );
    let report = fs::read_to_string(junit).expect("it was written");
    assert!(report.contains(r#"name="zebra""#), "{report}");
    assert!(
        !report.contains("a_test") && !report.contains("plain"),
        "{report}"
    );

    // The next run of tests does not look at it.
    let run = case.run(&["run", "--last-failed", "--benches"]);
    run.assert_code(exit_code::SETUP)
        .assert_says("no run is kept");
}

#[test]
fn output_of_benchmarks_is_captured_and_shown_live_if_asked_for() {
    let case = Case::new();
    let junit = case.0.path("junit.xml");
    case.config("[profile.default.junit]\nstore-success-output = true\n");
    let mut command = case.command(&["bench", "--live", "zebra", "--junit"]);
    command.arg(&junit);
    let run = case.0.run(command);
    run.assert_code(exit_code::OK);
    run.assert_says("called with --exact zebra --nocapture --bench");
    run.assert_says("1 benchmark run: 1 passed");
    let report = fs::read_to_string(junit).expect("it was written");
    assert!(report.contains("called with --exact zebra"), "{report}");
}

#[test]
fn messages_for_programs_have_what_benchmarks_print() {
    let case = Case::new();
    let run = case.run(&[
        "bench",
        "--message-format",
        "libtest-json",
        "-E",
        "test(adds)",
    ]);
    run.assert_code(exit_code::OK);
    for line in run.stdout.lines() {
        assert!(line.starts_with('{'), "{line}");
    }
}

#[test]
fn benchmarks_have_time_limits_of_their_own() {
    let case = Case::new();
    // The limits of tests are short, and no limits of benchmarks.
    case.config(
        "[profile.default]\nslow-timeout = { period = '1ms', terminate-after = 1 }\n\
         global-timeout = '1ms'\n\
         [profile.short]\n\
         bench.slow-timeout = { period = '1s', terminate-after = 1, grace-period = '0s' }\n\
         [profile.whole]\nbench.global-timeout = '2s'\n\
         [[profile.named.overrides]]\nfilter = 'test(zebra)'\n\
         bench.slow-timeout = { period = '1s', terminate-after = 1, grace-period = '0s' }\n",
    );
    case.run(&["bench", "-E", "test(adds)"])
        .assert_code(exit_code::OK);
    for (profile, code) in [
        ("short", exit_code::TEST_RUN_FAILED),
        ("named", exit_code::TEST_RUN_FAILED),
        ("whole", exit_code::GLOBAL_TIMEOUT),
    ] {
        let mut command = case.command(&["bench", "zebra", "-P", profile, "--events"]);
        command.arg(case.0.path("events")).env("SLEEPS", "zebra");
        case.0.run(command).assert_code(code);
        let events = results::events(&case.0);
        let outcome = events.iter().find_map(|event| match &event.kind {
            EventKind::TestFinished(test) => test.attempts.last().map(|last| last.outcome.clone()),
            _ => None,
        });
        let timed_out = matches!(outcome, Some(Outcome::TimedOut { .. }));
        assert_eq!(
            timed_out,
            code == exit_code::TEST_RUN_FAILED,
            "{profile}: {outcome:?}"
        );
    }
    case.0.assert_no_strays();
}

#[test]
fn what_makes_no_sense_for_benchmarks_is_said() {
    let case = Case::new();
    for flag in [
        "--rerun",
        "--last-failed",
        "--failed-first",
        "--write-timings",
        "--doc",
        "--no-doc",
    ] {
        let run = case.run(&["bench", flag]);
        run.assert_code(exit_code::USAGE);
        run.assert_says(&format!(
            "`{flag}` is about tests, and `bench` runs benchmarks"
        ));
    }
    let run = case.run(&[
        "bench",
        "-j",
        "2",
        "--trace-required",
        "--failure-output",
        "final",
        "none",
    ]);
    run.assert_code(exit_code::NO_TESTS);
    run.assert_says("no benchmarks to run");
    run.assert_says("`--test-threads`, `--failure-output` have no effect with `bench`");
    run.assert_says("`--trace-required` has no effect with `bench` without `--trace`");
    let run = case.run(&["bench", "--archive-file", "a.tar.zst"]);
    run.assert_code(exit_code::USAGE);
    // Cargo's `bench` has no `--release`, and its profile is another one.
    let run = case.run(&["bench", "--release", "--no-run"]);
    run.assert_code(exit_code::OK)
        .assert_says("`release` profile");
}

#[test]
fn benchmarks_are_those_of_cargo_nextest_by_its_name_too() {
    let name = "benchmarks_are_those_of_cargo_nextest_by_its_name_too";
    if !installed("cargo-nextest", &["nextest", "--version"]) {
        return skip(name, "cargo-nextest is not installed");
    }
    let case = Case::new();
    let theirs = |args: &[&str]| {
        let mut command = case.0.command("cargo-nextest");
        command
            .args(["nextest", "bench", "--no-fail-fast"])
            .args(args);
        command.current_dir(case.0.path("measured"));
        command.env("CARGO_TARGET_DIR", case.0.path("measured/target"));
        command.env("RUSTC_BOOTSTRAP", "1");
        command.env("NEXTEST_EXPERIMENTAL_BENCHMARKS", "1");
        case.0.run(command)
    };
    for args in [
        &[][..],
        &["--run-ignored", "all"],
        &["-E", "kind(bench)"],
        &["zebra"],
        &["nothing"],
    ] {
        let theirs = theirs(args);
        let all: Vec<&str> = ["nextest", "b", "--no-fail-fast"]
            .iter()
            .chain(args)
            .copied()
            .collect();
        let ours = case.run(&all);
        assert_eq!(
            ours.status.code(),
            theirs.status.code(),
            "{args:?}: {}",
            ours.stderr
        );
        assert_eq!(called(&ours), called(&theirs), "{args:?}");
        ours.assert_says(&counted(&theirs, " run: "));
    }
}

/// Returns how the custom harness was called.
fn called(run: &Finished) -> BTreeSet<&str> {
    let lines = run.stdout.lines();
    lines.filter(|line| line.starts_with("called")).collect()
}

/// Returns the counts of the line that has this, without what stands before the first of them.
fn counted(run: &Finished, has: &str) -> String {
    let line = run.stderr.lines().find(|line| line.contains(has));
    let line = line.unwrap_or_else(|| panic!("no line has {has:?}:\n{}", run.stderr));
    let count = line.find(" benchmark").expect("it counts benchmarks");
    let start = line[..count].rfind(' ').expect("a number stands before");
    line[start..].to_owned()
}

#[test]
fn criterion_and_divan_measure() {
    let scene = Scene::new();
    let config = scene.write(
        "harness.toml",
        "[[profile.default.overrides]]\nfilter = 'binary(criterion)'\n\
         run-extra-args = ['--quick', '--noplot']\n",
    );
    let command = || {
        let mut command = scene.command(place::runner());
        command.current_dir(place::workspace().join("fixtures/others"));
        command.env("CARGO_TARGET_DIR", shared_target().join("others"));
        command.env("CRITERION_HOME", scene.path("criterion"));
        // The profile of tests, which other tests have built already.
        command.args(["bench", "--locked", "--cargo-profile", "dev"]);
        command.args(["--bench", "*", "--config-file"]).arg(&config);
        command
    };
    let run = scene.run(command());
    run.assert_code(exit_code::OK)
        .assert_says("2 benchmarks run: 2 passed");
    assert!(run.stdout.contains("time:   ["), "{}", run.stdout);
    assert!(run.stdout.contains("fastest"), "{}", run.stdout);
    assert!(Path::new(&scene.path("criterion/add with criterion")).is_dir());

    // Captured, their figures are read.
    let mut captured = command();
    captured
        .args(["--live", "--events"])
        .arg(scene.path("events"));
    scene.run(captured).assert_code(exit_code::OK);
    let finished = results::finished(results::events(&scene));
    let metrics = finished
        .iter()
        .flat_map(|test| &test.attempts[0].metrics.found);
    let iterations: BTreeSet<_> = metrics
        .filter(|metric| metric.name == "iteration")
        .map(|metric| {
            assert!(metric.value.0 > 0.0 && metric.unit.as_deref() == Some("ns"));
            metric.source.clone().unwrap_or_default()
        })
        .collect();
    let expected = ["criterion".to_owned(), "divan".to_owned()];
    assert_eq!(iterations, BTreeSet::from(expected));
}

/// A benchmark whose figure is in its source.
const FIGURE: &str = r#"
    const FIGURE: u64 = 100;
    fn main() {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let has = |name: &str| args.iter().any(|arg| arg == name);
        if has("--list") {
            if !has("--ignored") { println!("zebra: benchmark") }
            return;
        }
        println!("test zebra ... bench: {FIGURE:>11} ns/iter (+/- 3)");
    }
"#;

#[test]
fn two_revisions_are_measured_in_turns_and_compared_in_one_table() {
    const NAME: &str = "two_revisions_are_measured_in_turns_and_compared_in_one_table";
    if !installed("git", &["--version"]) {
        return skip(NAME, "git is not installed");
    }
    let scene = Scene::new();
    let package = scene.package("measured", "");
    scene.write("measured/benches/custom.rs", FIGURE);
    let manifest = scene.path("measured/Cargo.toml");
    let text = fs::read_to_string(&manifest).expect("it was written");
    let bench = "[[bench]]\nname = \"custom\"\nharness = false\n";
    fs::write(manifest, text + bench).expect("it is ours");
    scene.write("measured/.gitignore", "target\nCargo.lock\n");
    for args in [
        &["init", "-q"][..],
        &["add", "."],
        &["commit", "-qm", "first"],
    ] {
        let mut git = scene.command("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@b"]);
        git.args(args).current_dir(&package);
        scene.run(git).assert_code(0);
    }
    scene.write(
        "measured/benches/custom.rs",
        &FIGURE.replace("= 100", "= 150"),
    );
    let bench = [
        "bench",
        "--cargo-profile",
        "dev",
        "--bench",
        "custom",
        "--max-rounds",
        "8",
    ];
    let mut compared = bench.to_vec();
    compared.extend(["--against", "HEAD"]);
    let run = scene.run(scene.harness_in(&package, &compared));
    run.assert_code(exit_code::OK);
    run.assert_says("`HEAD` is commit ");
    run.assert_says("8 rounds of at most 8: 1 of 1 figure is known to 2 %");
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let words: Vec<_> = lines[1].split_whitespace().collect();
    assert_eq!(
        words.join(" "),
        "measured::bench/custom zebra iteration 100 ns 150 ns +50.0 % (+50.0 to +50.0) 8 worse"
    );
    // No run of a round is kept, and neither the index nor the working tree has changed.
    let mut git = scene.command("git");
    git.args(["status", "--short"]).current_dir(&package);
    assert_eq!(scene.run(git).stdout.trim(), "M benches/custom.rs");

    let mut alone = bench.to_vec();
    alone.push("--json");
    let run = scene.run(scene.harness_in(&package, &alone));
    run.assert_code(exit_code::OK);
    let row: serde_json::Value = serde_json::from_str(&run.stdout).expect("it is one line of JSON");
    assert_eq!(
        (&row["metric"], &row["now"]),
        (&"iteration".into(), &vec![150.0; 8].into())
    );

    let unknown = scene.run(scene.harness_in(&package, &["bench", "--against", "no-such"]));
    unknown
        .assert_code(exit_code::SETUP)
        .assert_says("`no-such` is no revision");
    let refused =
        scene.run(scene.harness_in(&package, &["bench", "--against", "HEAD", "--junit", "x"]));
    refused
        .assert_code(exit_code::USAGE)
        .assert_says("`--junit` is about one run");
    scene.assert_no_strays();
}

/// A test that records what its source says.
const RECORDS: &str = r#"
#[test]
fn records() {
    use std::io::Write;
    let file = std::env::var_os("HARNESS_METRICS_FILE").expect("it is set");
    let mut file = std::fs::File::options().create(true).append(true).open(file).expect("it is opened");
    writeln!(file, "{{\"name\":\"p99\",\"value\":100,\"unit\":\"us\",\"polarity\":\"lower-is-better\"}}").expect("it is written");
}
"#;

#[test]
fn tests_are_measured_by_their_metrics_and_compared_with_those_of_another_folder() {
    let scene = Scene::new();
    let package = scene.package("measured", RECORDS);
    let manifest = fs::read_to_string(package.join("Cargo.toml")).expect("it was written");
    scene.write("before/measured/Cargo.toml", &manifest);
    scene.write(
        "before/measured/src/lib.rs",
        &RECORDS.replace(":100,", ":80,"),
    );
    let before = scene.path("before/measured");
    let before = before.to_str().expect("it is UTF-8");
    let of_tests = [
        "bench",
        "--of-tests",
        "--max-rounds",
        "8",
        "--against",
        before,
    ];
    let run = scene.run(scene.harness_in(&package, &of_tests));
    run.assert_code(exit_code::OK);
    let words: Vec<_> = run.stdout.split_whitespace().collect();
    assert!(
        words
            .join(" ")
            .ends_with("rounds measured records p99 80 us 100 us +25.0 % (+25.0 to +25.0) 8 worse"),
        "{}",
        run.stdout
    );
    // Nothing of the other folder was changed, and no round is kept.
    assert!(!scene.path("before/measured/target").exists());
    let kept = scene.run(scene.harness_in(&package, &["store", "list"]));
    assert!(!kept.stdout.contains("passed"), "{}", kept.stdout);
    scene.assert_no_strays();
}

/// Two programs with the same figures, which write down that they were started.
fn programs(scene: &Scene) -> [String; 2] {
    ["old", "new"].map(|name| {
        let work = if name == "old" { 100 } else { 150 };
        let starts = scene.path("starts");
        let script = format!(
            "#!/bin/sh\n\
             echo {name} \"$@\" >> {}\n\
             echo \"test zebra ... bench: {work} ns/iter (+/- 3)\"\n\
             echo work={work}\n",
            starts.display()
        );
        let file = scene.write(name, &script);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("it is ours");
        file.to_str().expect("it is UTF-8").to_owned()
    })
}

#[test]
fn two_programs_are_measured_in_turns_and_compared_in_one_table() {
    let scene = Scene::new();
    let [old, new] = programs(&scene);
    // No workspace is needed.
    let bench = |args: &[&str]| {
        let mut command = scene.command(place::runner());
        command.args(["bench", "--program", &new]).args(args);
        command.current_dir(scene.path(""));
        scene.run(command)
    };
    let run = bench(&[
        "--against",
        &old,
        "--max-rounds",
        "9",
        "--precision",
        "0%",
        "--",
        "-x",
    ]);
    run.assert_code(exit_code::OK);
    run.assert_says("9 rounds of at most 9: ");
    let row = |text: &str, name: &str| {
        let row = text.lines().find(|line| line.starts_with(name));
        let words = row.unwrap_or_else(|| panic!("no {name}:\n{text}"));
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    // A benchmark harness prints a deviation too, which is no figure of its own.
    assert_eq!(
        row(&run.stdout, "zebra"),
        "zebra 100 ns/iter 150 ns/iter +50.0 % (+50.0 to +50.0) 9 worse"
    );
    let names: Vec<_> = run
        .stdout
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(names, ["", "cpu", "rss", "time", "zebra"], "{}", run.stdout);
    assert!(
        run.stdout
            .lines()
            .next()
            .is_some_and(|line| line.contains("…/old") && line.contains("…/new"))
    );
    // Each round has both, and the one that is first changes. The first round warms up.
    let starts = fs::read_to_string(scene.path("starts")).expect("they were started");
    let expected = ["new -x\nold -x\n", "new -x\nold -x\n", "old -x\nnew -x\n"];
    let turns: String = (0..10)
        .map(|round| expected[if round == 0 { 0 } else { 2 - round % 2 }])
        .collect();
    assert_eq!(starts, turns);

    let alone = bench(&["--numbers", "key-value", "--max-rounds", "8", "--json"]);
    alone.assert_code(exit_code::OK);
    let rows = alone
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("it is JSON"));
    let rows: Vec<serde_json::Value> = rows.collect();
    let work = rows
        .iter()
        .find(|row| row["metric"] == "work")
        .expect("it was printed");
    assert_eq!(
        (&work["now"], &work["test"]),
        (&vec![150.0; 8].into(), &serde_json::Value::Null)
    );
    scene.assert_no_strays();
}

#[test]
fn programs_that_cannot_be_measured_are_explained() {
    let scene = Scene::new();
    let [old, new] = programs(&scene);
    let bench = |args: &[&str]| {
        let mut command = scene.command(place::runner());
        command.arg("bench").args(args).current_dir(scene.path(""));
        scene.run(command)
    };
    let missing = bench(&["--program", "./no-such"]);
    missing
        .assert_code(exit_code::SETUP)
        .assert_says("`./no-such` could not be started: ");
    missing.assert_says("does not exist: was it built?");
    let failing = bench(&["--program", &new, "--against", "false"]);
    failing
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("a round of `false` failed");
    failing.assert_says("it ended with exit code 1");
    let silent = bench(&["--program", "true", "--numbers", "json"]);
    silent
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("`true` printed no numbers");
    silent.assert_says("no metrics in the format `json` in stdout or stderr");
    let of_workspace = bench(&["--program", &new, "-E", "all()"]);
    of_workspace.assert_code(exit_code::USAGE);
    of_workspace
        .assert_says("`-E` is about benchmarks of a workspace, and `--program` measures a program");
    // One of two programs is missing.
    let package = scene.package("measured", "");
    let half = scene.run(scene.harness_in(&package, &["bench", "--against", &old]));
    half.assert_code(exit_code::SETUP);
    half.assert_says("`--program PROGRAM --against PROGRAM -- ARGUMENTS`");
    scene.assert_no_strays();
}

#[test]
fn a_program_that_is_measured_is_killed_with_the_command() {
    let scene = Scene::new();
    let script = format!(
        "setsid sleep 1000 & echo $! > {0}.part; mv {0}.part {0}; exec sleep 1000",
        scene.path("started").display()
    );
    let mut command = scene.command(place::runner());
    command.args(["bench", "--program", "sh", "--", "-c", &script]);
    command.current_dir(scene.path(""));
    let running = scene.start(command);
    let started = wait_until(Duration::from_secs(60), || {
        scene.path("started").exists().then_some(())
    });
    assert!(started.is_some(), "{}", running.stderr_so_far());
    // SIGINT is ignored in the background jobs of a shell, and in what they start.
    running.signal(Signal::SIGTERM);
    assert!(!running.finish().status.success());
    let gone = wait_until(Duration::from_secs(60), || {
        scene.strays().is_empty().then_some(())
    });
    assert!(gone.is_some(), "{:?}", scene.strays());
}

#[test]
fn the_figures_of_a_benchmark_are_metrics_of_its_result() {
    let case = Case::new();
    let mut command = case.command(&["bench", "--live", "adds", "--events"]);
    command.arg(case.0.path("events"));
    case.0.run(command).assert_code(exit_code::OK);
    let finished = results::finished(results::events(&case.0));
    let metrics = &finished[0].attempts[0].metrics.found;
    let names: Vec<_> = metrics
        .iter()
        .map(|it| (it.name.as_str(), it.unit.as_deref()))
        .collect();
    assert_eq!(
        names,
        [("iteration", Some("ns")), ("deviation", Some("ns"))]
    );
}
