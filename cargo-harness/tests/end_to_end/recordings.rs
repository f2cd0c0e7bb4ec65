//! Recordings: replays, reports, and the list of the runs that are kept.

use crate::scene::{Finished, Scene};
use camino::Utf8Path;
use harness_metadata::exit_code;
use harness_runner::store;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Tests of every colour, with output that is no text, and processes below one.
const SOURCE: &str = r#"
#[cfg(test)]
mod tests {
    use std::{fs, io::Write, path::Path, process::Command};
    #[test] fn a_passes() { println!("seen by none"); }
    #[test] fn b_fails() {
        std::io::stderr().write_all(b"\x1b[31mred\x1b[0m \xff </script>\x07\n").unwrap();
        assert_eq!("one\ntwo", "one\nthree", "they differ");
    }
    #[test] fn c_is_flaky() {
        let again = Path::new("again").exists();
        fs::write("again", "").unwrap();
        assert!(again, "the first time");
    }
    #[test] fn d_has_processes() {
        let script = "true; sleep 0.01 & sleep 0.02 & wait";
        assert!(Command::new("sh").args(["-c", script]).status().unwrap().success());
    }
    #[test] #[ignore = "not today"] fn e_is_ignored() {}
}
"#;

const RUN: [&str; 4] = ["run", "--no-fail-fast", "--retries", "1"];

/// A package that was run.
struct Recorded {
    scene: Scene,
    package: PathBuf,
    run: Finished,
}

impl Recorded {
    fn new() -> Self {
        let scene = Scene::new();
        let package = scene.package("recorded", SOURCE);
        let mut args = RUN.to_vec();
        args.extend([
            "--junit",
            "run.xml",
            "--events",
            "run.ndjson",
            "--durations",
            "1",
        ]);
        let run = scene.run(scene.harness_in(&package, &args));
        run.assert_code(exit_code::TEST_RUN_FAILED);
        Self {
            scene,
            package,
            run,
        }
    }

    fn harness(&self, args: &[&str]) -> Finished {
        self.scene.run(self.scene.harness_in(&self.package, args))
    }

    fn read_bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.package.join(name)).expect("it was written")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.package.join(name)).expect("it was written")
    }

    /// Returns the recording of the latest run.
    fn recording(&self) -> String {
        let packed = self.packed();
        let packed = Utf8Path::from_path(&packed).expect("it is UTF-8");
        let bytes = store::recording_bytes(packed).expect("it can be read");
        String::from_utf8(bytes).expect("it is text")
    }

    /// Returns the file of the latest run.
    fn packed(&self) -> PathBuf {
        let runs = self.harness(&["store", "list", "-T", "json"]);
        let line = runs.stdout.lines().next().expect("a run is kept");
        let run: serde_json::Value = serde_json::from_str(line).expect("it is JSON");
        Path::new(run["path"].as_str().expect("it has a file")).to_owned()
    }
}

/// Returns what the reporter wrote: no build, no last word of the command.
fn reported(stderr: &str) -> &str {
    let from = stderr.find("────").expect("a run has a rule");
    let to = stderr
        .rfind("error: test run failed")
        .unwrap_or(stderr.len());
    &stderr[from..to]
}

#[test]
fn a_replay_is_byte_for_byte_what_the_run_printed() {
    let recorded = Recorded::new();
    let replay = recorded.harness(&["replay"]);
    replay.assert_code(exit_code::OK);
    assert_eq!(replay.stdout, reported(&recorded.run.stderr));
    assert_eq!(replay.stderr, "");
    let replay = recorded.harness(&["replay", "latest", "--exit-code"]);
    replay.assert_code(exit_code::TEST_RUN_FAILED);
    assert_eq!(replay.stderr, "error: test run failed\n");
    // With other options it is what a run with those options would have printed.
    let replay = recorded.harness(&[
        "replay",
        "--status-level",
        "none",
        "--failure-output",
        "never",
    ]);
    assert!(!replay.stdout.contains("PASS") && !replay.stdout.contains("panicked"));
    assert!(replay.stdout.contains("Durations"), "{}", replay.stdout);
    let replay = recorded.harness(&["replay", "--color", "always"]);
    assert!(replay.stdout.contains("\x1b["));
}

#[test]
fn reports_of_a_recording_are_those_of_the_run() {
    let recorded = Recorded::new();
    let reports = [
        "--junit",
        "later.xml",
        "--events",
        "later.ndjson",
        "--chrome-trace",
        "t.json",
    ];
    let args = [&["report"][..], &reports].concat();
    recorded.harness(&args).assert_code(exit_code::OK);
    assert_eq!(recorded.read("later.xml"), recorded.read("run.xml"));
    assert_eq!(recorded.read("later.ndjson"), recorded.read("run.ndjson"));
    let timeline: serde_json::Value =
        serde_json::from_str(&recorded.read("t.json")).expect("it is JSON");
    let entries = timeline["traceEvents"].as_array().expect("it has entries");
    let named = |kind: &str, name: &str| {
        let found = entries
            .iter()
            .filter(|entry| entry["cat"] == kind && entry["ph"] == "X");
        found
            .filter(|entry| entry["name"].as_str().is_some_and(|it| it.ends_with(name)))
            .count()
    };
    assert_eq!(named("attempt", "attempt 2 of 2"), 2);
    assert!(
        named("process", "sleep") >= 2,
        "the processes of a test are below it"
    );
    // From the file of events too, which has other contents than a recording.
    let args = [
        "report",
        "./run.ndjson",
        "--chrome-trace",
        "-",
        "--junit",
        "events.xml",
    ];
    recorded.harness(&args).assert_code(exit_code::OK);
    assert!(recorded.read("events.xml").contains("they differ"));
}

#[test]
fn a_run_leaves_one_file_and_all_of_it_is_read_from_there() {
    let recorded = Recorded::new();
    let runs = recorded.package.join("target/harness/runs");
    let entries: Vec<_> = fs::read_dir(&runs)
        .expect("it is there")
        .flatten()
        .collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    let path = entries[0].path();
    assert!(path.is_file() && path.extension().is_some_and(|it| it == "run"));
    // The traces of one test among several, and of both of its attempts.
    let trace = recorded.harness(&["trace", "d_has_processes", "--exec"]);
    trace.assert_code(exit_code::OK);
    assert!(trace.stdout.contains("sleep 0.01"), "{}", trace.stdout);
    for attempt in ["1", "2"] {
        let trace = recorded.harness(&["trace", "c_is_flaky", "--attempt", attempt, "--log"]);
        trace.assert_code(exit_code::OK);
        assert!(trace.stdout.contains("again"), "{}", trace.stdout);
    }
    // By its path as well.
    let path = path.to_str().expect("it is UTF-8");
    let replay = recorded.harness(&["replay", path]);
    assert_eq!(replay.stdout, reported(&recorded.run.stderr));
    recorded
        .harness(&["merge", path, "--events", "merged.ndjson"])
        .assert_code(exit_code::OK);
    assert!(recorded.read("merged.ndjson").contains("d_has_processes"));
    // A file that is cut off is a sentence, and what is there is shown.
    let bytes = fs::read(path).expect("it is there");
    fs::write(path, &bytes[..bytes.len() - 100]).expect("there is room");
    let replay = recorded.harness(&["replay"]);
    replay
        .assert_code(exit_code::OK)
        .assert_says("is cut off after ");
    assert_eq!(replay.stdout, reported(&recorded.run.stderr));
    let mut newer = bytes;
    newer[8] = 200;
    fs::write(path, newer).expect("there is room");
    let replay = recorded.harness(&["replay", path]);
    replay
        .assert_code(exit_code::SETUP)
        .assert_says("is a recording of version 200, and this program reads version 1");
    replay.assert_sentence();
}

#[test]
fn what_is_kept_is_listed_shown_and_deleted() {
    let recorded = Recorded::new();
    let first = recorded.packed();
    for _ in 0..2 {
        recorded
            .harness(&["run", "a_passes"])
            .assert_code(exit_code::OK);
    }
    recorded
        .harness(&["run", "d_has"])
        .assert_code(exit_code::OK);
    let list = recorded.harness(&["store", "list"]);
    let lines: Vec<_> = list.stdout.lines().collect();
    assert_eq!(lines.len(), 5, "{}", list.stdout);
    assert!(lines[0].contains("  AGE  "), "{}", list.stdout);
    assert!(lines[4].contains("3 passed, 1 failed"), "{}", list.stdout);
    let name = first
        .file_stem()
        .and_then(|name| name.to_str())
        .expect("it is an id");
    let show = recorded.harness(&["store", "info", "-R", &name[..8]]);
    show.assert_code(exit_code::OK);
    for word in [
        name,
        "b_fails",
        "flaky  recorded tests::c_is_flaky",
        "2 attempts",
        "KiB in 1 file, unpacked ",
    ] {
        assert!(show.stdout.contains(word), "{word} in {}", show.stdout);
    }
    let dry = recorded.harness(&["store", "prune", "--runs", "1", "--dry-run"]);
    assert!(dry.stdout.ends_with("KiB\n") && dry.stdout.contains("1 run would be deleted"));
    let because = "not the whole workspace, and later runs have all of its traces";
    assert!(dry.stdout.contains(because), "{}", dry.stdout);
    recorded
        .harness(&["store", "prune", "--runs", "1"])
        .assert_code(exit_code::OK);
    let left = recorded.harness(&["store", "list"]).stdout.lines().count();
    assert_eq!(
        left, 4,
        "the last run that failed stays, and the last traces"
    );
}

#[test]
fn a_bad_recording_or_path_is_a_sentence() {
    let recorded = Recorded::new();
    let says = |args: &[&str], code: i32, sentence: &str| {
        let run = recorded.harness(args);
        run.assert_code(code).assert_says(sentence);
        run.assert_sentence();
    };
    says(
        &["replay", "ffff"],
        exit_code::SETUP,
        "no run whose id begins with `ffff` is kept",
    );
    says(
        &["replay", "./run.xml"],
        exit_code::SETUP,
        "is no recording of a run",
    );
    says(
        &["replay", "./none"],
        exit_code::SETUP,
        "failed to read the recording",
    );
    says(
        &["report", "--junit", "src"],
        exit_code::WRITE_FAILED,
        "failed to write the JUnit report",
    );
    says(
        &["report", "--chrome-trace", "src"],
        exit_code::WRITE_FAILED,
        "failed to write the timeline",
    );
    says(
        &["report", "--events", "src"],
        exit_code::WRITE_FAILED,
        "for the events",
    );

    // As a runner leaves it that was killed before it packed it.
    let packed = recorded.packed();
    let folder = packed.with_extension("");
    let events = folder.join("events.ndjson");
    let whole = recorded.recording();
    let put = |text: &str| {
        // The command before has packed it.
        let _ = fs::remove_file(&packed);
        fs::create_dir_all(&folder).expect("it can be made");
        fs::write(&events, text).expect("there is room");
    };
    let cut = &whole[..whole.len() - 100];
    put(cut);
    let run = recorded.harness(&["replay"]);
    run.assert_code(exit_code::OK)
        .assert_says("ends before its run did");
    assert!(run.stdout.contains("FAIL"), "what is there is shown");
    let damaged = whole.replacen(
        "\"event\":\"attempt-started\"",
        "\"event\":\"attempt-started",
        1,
    );
    put(&damaged);
    let run = recorded.harness(&["report", "--junit", "damaged.xml"]);
    run.assert_code(exit_code::OK)
        .assert_says("is damaged and left out");
    let id = folder
        .file_name()
        .and_then(|name| name.to_str())
        .expect("it is an id");
    put(&whole.replacen("\"schema_version\":2", "\"schema_version\":99", 1));
    says(
        &["replay", &id[..8]],
        exit_code::SETUP,
        "has events of version 99",
    );
}

#[test]
fn a_test_is_followed_over_runs_and_two_runs_are_compared() {
    let recorded = Recorded::new();
    let lone = recorded.harness(&["compare"]);
    lone.assert_code(exit_code::SETUP)
        .assert_says("there is only one run");
    let source = SOURCE.replace("\"one\\nthree\"", "\"one\\ntwo\"");
    let source = source.replace("fn a_passes() {", "fn a_passes() { panic!(\"now\");");
    fs::write(recorded.package.join("src/lib.rs"), source).expect("there is room");
    recorded
        .harness(&RUN)
        .assert_code(exit_code::TEST_RUN_FAILED);

    let history = recorded.harness(&["history", "is_flaky"]);
    history.assert_code(exit_code::OK);
    let lines: Vec<_> = history.stdout.lines().collect();
    assert!(
        lines[0].contains("2 results, 0 failed, 1 flaky, median"),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("passed") && lines[1].contains("  1 attempt "),
        "{lines:?}"
    );
    assert!(
        lines[2].contains("flaky") && lines[2].contains("2 attempts"),
        "{lines:?}"
    );
    let history = recorded.harness(&["history", "b_fails", "-T", "json"]);
    let rows: Vec<serde_json::Value> = history
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("it is JSON"))
        .collect();
    let verdicts: Vec<_> = rows.iter().map(|row| row["verdict"].as_str()).collect();
    assert_eq!(verdicts, [Some("pass"), Some("fail")]);
    let of = |by: &str| {
        let history = recorded.harness(&["history", "b_fails", "-T", "json", "--by", by]);
        let rows = history.stdout.lines();
        rows.map(|line| serde_json::from_str(line).expect("it is JSON"))
            .collect::<Vec<serde_json::Value>>()
    };
    for (by, field) in [
        ("time", "seconds"),
        ("cpu", "cpu_seconds"),
        ("memory", "peak_memory"),
        ("io", "disk_bytes"),
        ("processes", "processes"),
    ] {
        let sizes: Vec<_> = of(by).iter().map(|row| row[field].as_f64()).collect();
        assert!(
            sizes.len() == 2 && sizes[0].is_some() && sizes[0] >= sizes[1],
            "{by}: {sizes:?}"
        );
    }
    let memory = recorded.harness(&["history", "b_fails", "--by", "memory"]);
    assert!(memory.stdout.contains(" MiB"), "{}", memory.stdout);
    let unknown = recorded.harness(&["history", "b_fals"]);
    unknown.assert_code(exit_code::SETUP).assert_says("b_fails");
    unknown.assert_sentence();

    let flaky = recorded.harness(&["flaky"]);
    let first = flaky.stdout.lines().next().unwrap_or_default();
    assert!(first.ends_with("c_is_flaky"), "{}", flaky.stdout);
    assert!(
        flaky
            .stdout
            .contains("1 of 3 attempts failed in 2 results, 1 flaky"),
        "{}",
        flaky.stdout
    );
    let compare = recorded.harness(&["compare"]);
    compare.assert_code(exit_code::OK);
    for line in [
        "broken  recorded tests::a_passes",
        "mended  recorded tests::b_fails",
    ] {
        assert!(compare.stdout.contains(line), "{}", compare.stdout);
    }
    let compare = recorded.harness(&["compare", "--by", "memory"]);
    let broken = compare.stdout.lines().find(|it| it.contains("  broken"));
    let broken = broken.unwrap_or_else(|| panic!("{}", compare.stdout));
    assert_eq!(broken.matches(" MiB").count(), 2, "{broken}");
    let wrong = recorded.harness(&["compare", "--by", "color"]);
    wrong
        .assert_code(exit_code::USAGE)
        .assert_says("[possible values: time, cpu, memory, io, processes]");
    let same = recorded.harness(&["compare", "latest", "latest", "-T", "json"]);
    assert!(
        same.stdout.contains("\"change\":\"still-fails\""),
        "{}",
        same.stdout
    );
}

#[test]
fn a_run_of_another_machine_is_looked_at_here_with_everything() {
    let there = Recorded::new();
    let export = there.harness(&[
        "store",
        "export",
        "-R",
        "latest",
        "--archive-file",
        "runs.tar",
    ]);
    export.assert_code(exit_code::OK);
    assert!(
        export.stdout.starts_with("1 run in `runs.tar`, "),
        "{}",
        export.stdout
    );
    let list = there.harness(&["store", "list", "-T", "json"]).stdout;
    let run: serde_json::Value = serde_json::from_str(&list).expect("it is JSON");
    let id = run["run_id"].as_str().expect("it has an id").to_owned();

    let here = Recorded::new();
    fs::copy(
        there.package.join("runs.tar"),
        here.package.join("runs.tar"),
    )
    .expect("there is room");
    let import = here.harness(&["store", "import", "runs.tar"]);
    import.assert_code(exit_code::OK);
    let workspace = format!("of the workspace `{}`", there.package.display());
    for words in [id.as_str(), &workspace, "3 passed, 1 failed, imported"] {
        assert!(
            import.stdout.contains(words),
            "{words} in {}",
            import.stdout
        );
    }
    let replay = here.harness(&["replay", &id]);
    assert_eq!(replay.stdout, reported(&there.run.stderr));
    let reports = [
        "report",
        &id,
        "--junit",
        "there.xml",
        "--events",
        "there.ndjson",
    ];
    here.harness(&reports).assert_code(exit_code::OK);
    assert_eq!(here.read("there.xml"), there.read("run.xml"));
    assert_eq!(here.read("there.ndjson"), there.read("run.ndjson"));
    let trace = here.harness(&["trace", "--run", &id, "d_has_processes", "--exec"]);
    trace.assert_code(exit_code::OK);
    assert!(trace.stdout.contains("sleep 0.01"), "{}", trace.stdout);
    let compare = here.harness(&["compare", &id, "latest"]);
    compare.assert_code(exit_code::OK);
    assert!(compare.stdout.contains("still-fails") || compare.stdout.contains("still fails"));
    // It is never the latest one here, nor in the history of this workspace.
    let replay = here.harness(&["replay"]);
    assert_eq!(replay.stdout, reported(&here.run.stderr));
    let history = here.harness(&["history", "b_fails"]);
    assert!(
        history.stdout.contains("1 result, 1 failed"),
        "{}",
        history.stdout
    );
    let again = here.harness(&["store", "import", "runs.tar"]);
    again
        .assert_code(exit_code::OK)
        .assert_says("is here already");

    let says = |args: &[&str], code: i32, sentence: &str| {
        let run = here.harness(args);
        run.assert_code(code).assert_says(sentence);
        run.assert_sentence();
    };
    let bytes = here.read_bytes("runs.tar");
    fs::write(here.package.join("cut.tar"), &bytes[..bytes.len() / 2]).expect("there is room");
    says(
        &["store", "import", "cut.tar"],
        exit_code::SETUP,
        "nothing was imported",
    );
    says(
        &["store", "import", "run.xml"],
        exit_code::SETUP,
        "is no export of runs: it does not begin with `export.json`",
    );
    says(
        &["store", "import", "none.tar"],
        exit_code::SETUP,
        "failed to read `",
    );
    says(
        &["store", "export", "--to", "src"],
        exit_code::WRITE_FAILED,
        "failed to write `",
    );
    says(
        &["store", "export", "ffff", "--to", "x.tar"],
        exit_code::SETUP,
        "no run whose id begins with `ffff` is kept",
    );
}
