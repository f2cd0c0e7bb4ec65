//! Under load, behind slow readers, beside other runs, and with other things in the place of the
//! files that runs keep.

use crate::scene::{Finished, LONGEST_RUN, Scene, wait_until};
use camino::Utf8Path;
use harness_metadata::exit_code;
use harness_runner::store;
use nix::{sys::stat::Mode, unistd::mkfifo};
use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::{fs::PermissionsExt, fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// The program of the package.
const PROGRAM: &str = r#"use std::io::Write;
fn number(name: &str) -> usize { std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(0) }
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let has = |arg: &str| args.iter().any(|it| it == arg);
    if has("--list") {
        let mut all = String::new();
        for test in 0..number("TESTS") { all += &format!("t{test:06}: test\n"); }
        if !has("--ignored") { print!("{all}"); }
        return;
    }
    std::thread::sleep(std::time::Duration::from_millis(number("SLEEP") as u64));
    let mut out = std::io::stdout().lock();
    let line = [b'y'; 99];
    for _ in 0..number("BYTES") / 100 { out.write_all(&line).unwrap(); out.write_all(b"\n").unwrap(); }
    out.flush().unwrap();
    std::process::exit(i32::from(number("BYTES") > 0));
}
"#;

/// A package whose tests are made by one program without the standard harness: `TESTS` of them, each
/// sleeps for `SLEEP` milliseconds, and prints `BYTES` bytes and fails if there are any.
fn package(scene: &Scene) -> PathBuf {
    let folder = scene.package("load", "");
    scene.write(
        "load/Cargo.toml",
        "[package]\nname = \"load\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [lib]\ntest = false\ndoctest = false\n\n[[test]]\nname = \"load\"\nharness = false\n",
    );
    scene.write("load/tests/load.rs", PROGRAM);
    folder
}

fn run(scene: &Scene, folder: &Path, tests: &str, args: &[&str]) -> Command {
    let mut command = scene.harness_in(folder, &[&["run"], args].concat());
    command.env("TESTS", tests);
    command
}

/// The configuration of a run with a report.
const JUNIT: &str = "[profile.default.junit]\npath = \"junit.xml\"\n";

/// Returns the package in its scene, with this configuration, after a run of so many tests.
fn built(config: &str, tests: &str) -> (Scene, PathBuf) {
    let scene = Scene::new();
    let folder = package(&scene);
    scene.write("load/.config/harness.toml", config);
    scene
        .run(run(&scene, &folder, tests, &[]))
        .assert_code(exit_code::OK);
    (scene, folder)
}

/// Programs that do nothing but use a CPU, as long as this is there.
struct Busy(Vec<Child>);

impl Busy {
    fn start(count: usize) -> Self {
        let busy = |_| {
            let mut shell = Command::new("sh");
            shell
                .args(["-c", "while :; do :; done"])
                .stdin(Stdio::null());
            shell.spawn().expect("there is a shell")
        };
        Self((0..count).map(busy).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn tests_that_start_nothing_never_leak_however_busy_the_machine_is() {
    let (scene, folder) = built(
        "[profile.default]\nleak-timeout = { period = \"1ms\", result = \"fail\" }\n",
        "1",
    );
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let _busy = Busy::start(2 * cpus);
    let mut command = run(&scene, &folder, "400", &["-j", "200", "--no-fail-fast"]);
    command.env("SLEEP", "50");
    let run = scene.run(command);
    run.assert_code(exit_code::OK)
        .assert_says("400 tests run: 400 passed, 0 skipped");
}

/// Returns the recording of a run.
fn recording(run: &Path) -> String {
    let bytes = Utf8Path::from_path(run).map(store::recording_bytes);
    let bytes = bytes.and_then(Result::ok).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns how many results the recordings below a package have, and whether one has its end.
fn recorded(folder: &Path) -> (usize, bool) {
    let runs = fs::read_dir(folder.join("target/harness/runs"));
    let texts = runs
        .into_iter()
        .flatten()
        .flatten()
        .map(|run| recording(&run.path()));
    let all: String = texts.collect();
    let count = |kind: &str| all.matches(&format!("\"event\":\"{kind}\"")).count();
    (count("test-finished"), count("run-finished") > 0)
}

/// Returns the peak memory of a process in KiB, and how many descriptors it has.
fn use_of(pid: u32) -> (u64, usize) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    (peak.unwrap_or(0), descriptors)
}

/// Runs tests that fail with much output behind a reader that does not read before the run is over,
/// and then reads all.
fn behind_a_slow_reader(args: &[&str], bytes: &str) {
    let scene = Scene::new();
    let folder = package(&scene);
    scene
        .run(run(&scene, &folder, "0", &["--no-tests", "pass"]))
        .assert_code(exit_code::OK);
    fs::remove_dir_all(folder.join("target/harness/runs")).expect("there was a run");
    let command = run(
        &scene,
        &folder,
        "150",
        &[args, &["--no-fail-fast", "-j2", "--junit", "junit.xml"]].concat(),
    );
    // Few descriptors, as some systems have.
    let limited = ["-c", "ulimit -n 64; exec \"$@\"", "sh"];
    let mut command = scene.wrapped(&command, "sh", &limited);
    command.env("BYTES", bytes);
    let (mut reader, writer) = io::pipe().expect("there are descriptors");
    command.stdout(Stdio::null()).stderr(writer);
    let mut child = command.spawn().expect("it can be started");
    drop(command);
    let mut most = (0, 0);
    let ended = wait_until(LONGEST_RUN, || {
        let (memory, descriptors) = use_of(child.id());
        most = (most.0.max(memory), most.1.max(descriptors));
        recorded(&folder).1.then_some(())
    });
    ended.expect("the run goes on whatever the reader does");
    assert_eq!(recorded(&folder).0, 150);
    let report = folder.join("junit.xml");
    let reported = wait_until(LONGEST_RUN, || {
        let report = fs::read_to_string(&report).ok()?;
        let whole = !report.contains("(incomplete)");
        whole.then(|| report.matches("<testcase").count())
    });
    assert_eq!(reported, Some(150), "the report does not wait for a reader");
    let (memory, descriptors) = most;
    assert!(memory < 150 * 1024, "{memory} KiB of memory");
    assert!(descriptors <= 64, "{descriptors} descriptors");
    let mut shown = Vec::new();
    reader.read_to_end(&mut shown).expect("it can be read");
    let status = child.wait().expect("it is a child");
    assert_eq!(status.code(), Some(exit_code::TEST_RUN_FAILED));
    let shown = String::from_utf8_lossy(&shown);
    let summary = shown
        .lines()
        .any(|line| line.contains("150 tests run: 0 passed, 150 failed"));
    assert!(summary, "no summary");
    let headings = shown.lines().filter(|line| line.contains("load::load"));
    let headings: Vec<&str> = headings.collect();
    for test in 0..150 {
        let name = format!("load::load t{test:06}");
        assert!(headings.iter().any(|line| line.contains(&name)), "{test}");
    }
    let output = shown
        .lines()
        .filter(|line| line.trim_start().starts_with("yyy"));
    let expected = 150 * bytes.parse::<usize>().expect("it is a number") / 100;
    assert_eq!(output.count(), expected, "lines of output");
}

#[test]
fn a_reader_that_does_not_read_costs_neither_results_nor_memory() {
    behind_a_slow_reader(&[], "1200000");
}

#[test]
fn output_that_is_shown_at_the_end_waits_on_disk() {
    behind_a_slow_reader(&["--failure-output", "final"], "200000");
}

#[test]
fn a_reader_that_goes_away_after_the_run_costs_no_result() {
    let scene = Scene::new();
    let folder = package(&scene);
    let mut command = run(&scene, &folder, "30", &["--no-fail-fast"]);
    command.env("BYTES", "200000");
    let (reader, writer) = io::pipe().expect("there are descriptors");
    command.stdout(Stdio::null()).stderr(writer);
    let mut child = command.spawn().expect("it can be started");
    drop(command);
    let ended = wait_until(LONGEST_RUN, || recorded(&folder).1.then_some(()));
    ended.expect("the run goes on whatever the reader does");
    drop(reader);
    child.wait().expect("it is a child");
    assert_eq!(recorded(&folder).0, 30);
}

#[test]
fn runs_beside_each_other_keep_their_reports_and_recordings() {
    let (scene, folder) = built(JUNIT, "5");
    let report = folder.join("target/harness/default/junit.xml");
    for _ in 0..2 {
        let runs: Vec<_> = (0..50)
            .map(|_| scene.start(run(&scene, &folder, "5", &["-j1"])))
            .collect();
        for run in runs {
            let run = run.finish();
            run.assert_code(exit_code::OK)
                .assert_says("5 tests run: 5 passed");
            for word in ["warning", "error"] {
                assert!(!run.stderr.contains(word), "{}", run.stderr);
            }
        }
        let report = fs::read_to_string(&report).expect("it is there");
        assert!(report.contains("name=\"harness-run\""), "{report}");
        assert_eq!(report.matches("<testcase").count(), 5, "{report}");
        assert!(report.trim_end().ends_with("</testsuites>"));
    }
    // One run alone packs what the others have left to each other.
    scene
        .run(run(&scene, &folder, "5", &[]))
        .assert_code(exit_code::OK);
    let kept = wait_until(Duration::from_secs(60), || {
        let runs = fs::read_dir(folder.join("target/harness/runs")).expect("there are runs");
        let mut names = runs.flatten().map(|run| run.path());
        names
            .all(|path| path.extension().is_some_and(|it| it == "run"))
            .then_some(())
    });
    kept.expect("each run is packed, and nothing else is left");
    let beside = fs::read_dir(report.parent().expect("it has one")).expect("it is there");
    assert_eq!(beside.count(), 1, "something is left beside the report");
}

/// Puts something in the place of a file.
fn obstruct(path: &Path, by: &str) {
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(path).expect("it can be removed");
    } else {
        let _ = fs::remove_file(path);
    }
    fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
    let made = match by {
        "a folder" => fs::create_dir(path),
        "a pipe" => mkfifo(path, Mode::S_IRWXU).map_err(Into::into),
        "a socket" => UnixListener::bind(path).map(drop),
        "an endless device" => symlink("/dev/zero", path),
        "a link to nothing" => symlink("/nowhere", path),
        "a link to itself" => symlink(path, path),
        "a large file" => File::create(path).and_then(|file| file.set_len(4 << 30)),
        _ => unreachable!("{by}"),
    };
    made.unwrap_or_else(|error| panic!("{by} at {}: {error}", path.display()));
}

const OBSTACLES: [&str; 7] = [
    "a folder",
    "a pipe",
    "a socket",
    "an endless device",
    "a link to nothing",
    "a link to itself",
    "a large file",
];

#[test]
fn whatever_is_in_the_place_of_our_files_a_run_ends_in_time_with_its_results() {
    let (scene, folder) = built("", "2");
    let files = [
        "tests.cache",
        "answers.cache",
        "backends.json",
        "runs",
        "runs/x",
        "runs/00000000-0000-4000-8000-000000000001.run",
    ];
    let of_a_run = ["lock", "size", "events.ndjson", "output", "1.trace"];
    for by in OBSTACLES {
        for file in files {
            let path = folder.join("target/harness").join(file);
            // A path of a socket has 108 bytes at most.
            if by == "a socket" && path.as_os_str().len() > 100 {
                continue;
            }
            obstruct(&path, by);
            let run = scene.run(run(&scene, &folder, "2", &[]));
            run.assert_code(exit_code::OK)
                .assert_says("2 tests run: 2 passed");
            if path.symlink_metadata().is_ok() && file.starts_with("runs") {
                obstruct(&path, "a folder");
                fs::remove_dir(&path).expect("it is empty");
            }
        }
        for file in of_a_run {
            // What earlier runs have left, each of which the next ones look at.
            let runs = folder.join("target/harness/runs");
            let kept = fs::read_dir(&runs).into_iter().flatten().flatten().next();
            let Some(kept) = kept else {
                continue;
            };
            // As a runner leaves them that was killed before it packed them.
            let short = runs.join("00000000-0000-4000-8000-000000000001");
            fs::create_dir(&short).expect("it can be made");
            fs::write(short.join("events.ndjson"), recording(&kept.path())).expect("there is room");
            let path = short.join(file);
            if by == "a socket" && path.as_os_str().len() > 100 {
                continue;
            }
            obstruct(&path, by);
            let run = scene.run(run(&scene, &folder, "2", &[]));
            run.assert_code(exit_code::OK)
                .assert_says("2 tests run: 2 passed");
            let trace = scene.run(scene.harness_in(&folder, &["trace", "t000001"]));
            assert!(trace.status.code().is_some(), "{file}: {by}");
            let _ = fs::remove_dir_all(&short);
        }
    }
}

#[test]
fn a_target_folder_that_is_a_link_is_one_like_any_other() {
    let scene = Scene::new();
    let folder = package(&scene);
    fs::create_dir(scene.path("elsewhere")).expect("it can be made");
    symlink(scene.path("elsewhere"), folder.join("target")).expect("it can be made");
    for _ in 0..2 {
        scene
            .run(run(&scene, &folder, "2", &[]))
            .assert_code(exit_code::OK);
    }
    assert_eq!(recorded(&folder).0, 4);
    assert!(folder.join("target").is_symlink());
    assert!(scene.path("elsewhere/harness/tests.cache").exists() || recorded(&folder).1);
}

#[test]
fn what_is_in_the_place_of_the_report_is_replaced_or_said() {
    let (scene, folder) = built(JUNIT, "2");
    let report = folder.join("target/harness/default/junit.xml");
    for by in ["a folder", "a link to itself", "a large file"] {
        obstruct(&report, by);
        let run: Finished = scene.run(run(&scene, &folder, "2", &[]));
        run.assert_says("2 tests run: 2 passed");
        match by {
            "a folder" => {
                run.assert_code(exit_code::WRITE_FAILED);
                run.assert_sentence();
            }
            _ => {
                run.assert_code(exit_code::OK);
                let text = fs::read_to_string(&report).expect("it is a report");
                assert_eq!(text.matches("<testcase").count(), 2, "{by}");
            }
        }
    }
}

#[test]
fn reports_and_recordings_have_the_modes_that_the_umask_leaves() {
    let (scene, folder) = built(JUNIT, "1");
    for (umask, file, of_folder) in [
        ("022", 0o644, 0o755),
        ("027", 0o640, 0o750),
        ("077", 0o600, 0o700),
    ] {
        let harness = folder.join("target/harness");
        fs::remove_dir_all(&harness).expect("it was made");
        fs::create_dir(&harness).expect("it can be made");
        fs::set_permissions(&harness, fs::Permissions::from_mode(0o2777)).expect("it is ours");
        let mut command = run(&scene, &folder, "2", &["--trace", "io", "--no-fail-fast"]);
        command.env("BYTES", "100");
        let script = format!("umask {umask}; exec \"$@\"");
        let run = scene.run(scene.wrapped(&command, "sh", &["-c", &script, "sh"]));
        run.assert_code(exit_code::TEST_RUN_FAILED);
        let mut seen = 0;
        let mut folders = vec![harness.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("it is ours").flatten() {
                let metadata = entry.metadata().expect("it is there");
                let mode = metadata.permissions().mode() & 0o7777;
                let name = entry.path();
                if metadata.is_dir() {
                    // As in every folder below one whose group is inherited.
                    assert_eq!(mode, 0o2000 | of_folder, "{umask}: {}", name.display());
                    folders.push(name);
                } else {
                    // A user who may read this one may lock it.
                    let private = name.ends_with("runs.gate");
                    let file = if private { 0o600 } else { file };
                    assert_eq!(mode, file, "{umask}: {}", name.display());
                }
                seen += 1;
            }
        }
        assert!(seen >= 6, "only {seen} files with umask {umask}");
    }
}
