//! The order in which tests start, and the tests that run beside each other.

use crate::scene::{Finished, Scene};
use fixture_kit::{model::parse_events, results};
use harness_metadata::{Event, EventKind, Verdict, exit_code};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

/// Three tests, of which the second is the longest and the third fails.
const SOURCE: &str = "\
#[test] fn a() {}
#[test] fn b() { std::thread::sleep(std::time::Duration::from_millis(300)); }
#[test] fn c() { panic!(); }
";

/// Runs a package with one slot. Returns the names of its tests in the order of their starts.
fn order(scene: &Scene, folder: &Path, args: &[&str]) -> (Finished, Vec<String>) {
    let mut command = scene.harness_in(folder, &["run", "-j", "1", "--no-fail-fast"]);
    command.env_remove("HARNESS_ORDER").args(args);
    let (run, events) = run(scene, command);
    let started = events.into_iter().filter_map(|event| match event.kind {
        EventKind::AttemptStarted(attempt) => Some(attempt.test.name.to_string()),
        _ => None,
    });
    (run, started.collect())
}

/// Runs a command that writes events.
fn run(scene: &Scene, mut command: Command) -> (Finished, Vec<Event>) {
    command.arg("--events").arg(scene.path("events"));
    (scene.run(command), results::events(scene))
}

#[test]
fn a_run_begins_with_what_failed_last_time_and_then_with_the_longest() {
    let scene = Scene::new();
    let folder = scene.package("ordered", SOURCE);
    let (run, first) = order(&scene, &folder, &[]);
    run.assert_code(exit_code::TEST_RUN_FAILED);
    assert_eq!(first, ["a", "b", "c"], "nothing is known yet");
    assert_eq!(order(&scene, &folder, &[]).1, ["c", "b", "a"]);
    assert_eq!(
        order(&scene, &folder, &["--order", "name"]).1,
        ["a", "b", "c"]
    );

    let profile = "[profile.default]\norder = \"name\"\n";
    scene.write("ordered/.config/harness.toml", profile);
    assert_eq!(order(&scene, &folder, &[]).1, ["a", "b", "c"]);
    assert_eq!(
        order(&scene, &folder, &["--order", "longest-first"]).1,
        ["c", "b", "a"]
    );
}

#[test]
fn a_random_order_names_its_seed_and_comes_again_with_it() {
    let scene = Scene::new();
    let source: String = (0..20)
        .map(|number| format!("#[test] fn t{number:02}() {{}}\n"))
        .collect();
    let folder = scene.package("shuffled", &source);
    let (run, first) = order(&scene, &folder, &["--shuffle"]);
    run.assert_code(exit_code::OK)
        .assert_says("again with --shuffle ");
    let (_, rest) = run.stderr.split_once("again with ").expect("it says so");
    let again: Vec<&str> = rest.split_whitespace().take(2).collect();
    assert_eq!(order(&scene, &folder, &again).1, first);
    let (run, seventh) = order(&scene, &folder, &["--shuffle", "7"]);
    run.assert_says("again with --shuffle 7");
    assert_ne!(order(&scene, &folder, &["--shuffle", "8"]).1, seventh);
}

#[test]
fn a_word_in_the_place_of_a_seed_is_named() {
    let scene = Scene::new();
    let run = scene.run(scene.harness(["run", "--shuffle", "a_filter"]));
    run.assert_code(2)
        .assert_says("invalid value 'a_filter' for '--shuffle [<SEED>]'");
}

/// Returns for each test the names of those that ran while it ran.
fn beside(events: &[Event]) -> BTreeMap<String, BTreeSet<String>> {
    let mut running = BTreeSet::new();
    let mut beside: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in events {
        match &event.kind {
            EventKind::AttemptStarted(attempt) => {
                let name = attempt.test.name.to_string();
                for other in &running {
                    beside
                        .entry(name.clone())
                        .or_default()
                        .insert(String::clone(other));
                    beside
                        .entry(other.clone())
                        .or_default()
                        .insert(name.clone());
                }
                running.insert(name);
            }
            EventKind::TestFinished(finished) => {
                running.remove(finished.test.name.as_str());
            }
            _ => {}
        }
    }
    beside
}

/// Tests that each wait until another one has begun, but for `alone`.
const MEETING: &str = "\
fn meet(name: &str, other: &str) {
    let folder = std::path::Path::new(env!(\"CARGO_MANIFEST_DIR\"));
    std::fs::write(folder.join(name), name).unwrap();
    while !folder.join(other).exists() {
        std::thread::yield_now();
    }
}
#[test] fn one() { meet(\"one\", \"two\"); }
#[test] fn two() { meet(\"two\", \"one\"); }
#[test] fn alone() {}
#[test] fn third() {}
";

#[test]
fn an_exclusive_test_has_no_test_beside_it() {
    let scene = Scene::new();
    let folder = scene.package("exclusive", MEETING);
    let config = "[[profile.default.overrides]]\nfilter = \"test(=alone)\"\nexclusive = true\n";
    scene.write("exclusive/.config/harness.toml", config);
    let (run, events) = run(&scene, scene.harness_in(&folder, &["run", "-j", "4"]));
    run.assert_code(exit_code::OK);
    let beside = beside(&events);
    assert!(!beside.contains_key("alone"), "{beside:?}");
    assert!(beside["one"].contains("two"), "{beside:?}");
}

#[test]
fn a_test_that_needs_more_memory_than_there_is_runs_alone() {
    let scene = Scene::new();
    let folder = scene.package("memory", MEETING);
    let config = "[profile.default]\nmemory-required = \"learnt\"\n\
                  [[profile.default.overrides]]\nfilter = \"test(=alone)\"\n\
                  memory-required = \"1000000 GiB\"\n";
    scene.write("memory/.config/harness.toml", config);
    for _ in 0..2 {
        let (run, events) = run(&scene, scene.harness_in(&folder, &["run", "-j", "4"]));
        run.assert_code(exit_code::OK);
        let beside = beside(&events);
        assert!(!beside.contains_key("alone"), "{beside:?}");
        assert!(beside["one"].contains("two"), "{beside:?}");
    }
}

#[test]
fn a_failure_in_quarantine_is_reported_and_fails_no_run_until_its_day() {
    let scene = Scene::new();
    let folder = scene.package(
        "quarantine",
        "#[test] fn sound() {}\n#[test] fn shaky() { panic!(\"the port is taken\"); }\n",
    );
    let entry = |filter: &str, expires: &str| {
        format!(
            "[[profile.default.quarantine]]\nfilter = \"test(={filter})\"\n\
             reason = \"takes port 80\"\nowner = \"team net\"\nexpires = {expires}\n"
        )
    };
    let config = entry("shaky", "2999-12-31") + &entry("gone", "2999-12-31");
    scene.write("quarantine/.config/harness.toml", &config);
    let mut command = scene.harness_in(&folder, &["run", "--fail-fast"]);
    command.arg("--junit").arg(scene.path("junit.xml"));
    let (first, events) = run(&scene, command);
    first
        .assert_code(exit_code::OK)
        .assert_says("QUARANTINED")
        .assert_says("quarantine until 2999-12-31, team net: takes port 80")
        .assert_says("the port is taken")
        .assert_says("2 tests run: 1 passed, 1 failed in quarantine, 0 skipped")
        .assert_says("harness.toml:6:1: the quarantine of `test(=gone)` has no test");
    let verdicts = events.iter().filter_map(|event| match &event.kind {
        EventKind::TestFinished(test) => Some((test.test.name.to_string(), test.verdict)),
        _ => None,
    });
    let verdicts: BTreeMap<_, _> = verdicts.collect();
    assert_eq!(verdicts["shaky"], Verdict::Quarantined);
    assert_eq!(verdicts["sound"], Verdict::Pass);
    let junit = fs::read_to_string(scene.path("junit.xml")).expect("it was written");
    assert!(junit.contains("failures=\"0\""), "{junit}");
    assert!(junit.contains("<skipped "), "{junit}");
    assert!(junit.contains("the port is taken"), "{junit}");

    scene.write(
        "quarantine/.config/harness.toml",
        &entry("shaky", "2020-02-29"),
    );
    let (second, _) = run(&scene, scene.harness_in(&folder, &["run"]));
    second
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("has expired after 2020-02-29, so failures count again")
        .assert_says("quarantine expired after 2020-02-29, team net: takes port 80");
}

#[test]
fn parts_by_time_are_the_same_on_every_machine_with_the_file() {
    let scene = Scene::new();
    let source: String = (0..6)
        .map(|number| format!("#[test] fn t{number}() {{}}\n"))
        .collect();
    let folder = scene.package("parts", &source);
    let config = "[profile.default]\ntimings = \"timings.json\"\n";
    scene.write("parts/.config/harness.toml", config);
    let missing = scene.run(scene.harness_in(&folder, &["list", "--partition", "time:1/2"]));
    missing
        .assert_code(exit_code::SETUP)
        .assert_says("failed to read the timing file");
    scene
        .run(scene.harness_in(&folder, &["run", "--write-timings"]))
        .assert_code(exit_code::OK);
    let written = fs::read_to_string(scene.path("parts/timings.json")).expect("it was written");
    assert_eq!(written.matches("\"t").count(), 6, "{written}");

    // One test takes as long as all others together.
    let timings = "{\"version\": 1, \"milliseconds\": {\"parts\": {\"t3\": 500, \"t0\": 100, \
                   \"t1\": 100, \"t2\": 100, \"t4\": 100}}}";
    scene.write("parts/timings.json", timings);
    let part = |part: &str| {
        let list = scene.run(scene.harness_in(&folder, &["list", "--partition", part]));
        list.assert_code(exit_code::OK);
        list.stdout
    };
    assert_eq!(part("time:1/2"), "parts t3\n");
    assert_eq!(
        part("time:2/2"),
        "parts t0\nparts t1\nparts t2\nparts t4\nparts t5\n"
    );

    scene.write("parts/.config/harness.toml", "");
    scene
        .run(scene.harness_in(&folder, &["list", "--partition", "time:1/2"]))
        .assert_code(exit_code::OK)
        .assert_says("the parts rest on the record of this machine");
    scene
        .run(scene.harness_in(&folder, &["run", "--write-timings"]))
        .assert_code(exit_code::SETUP)
        .assert_says("`--write-timings` needs a path");
}

#[test]
fn the_reports_of_all_parts_become_one_and_a_missing_part_is_named() {
    let scene = Scene::new();
    let folder = scene.package("merged", SOURCE);
    for part in ["1", "2"] {
        let mut command = scene.harness_in(&folder, &["run", "--no-fail-fast"]);
        command.args(["--partition", &format!("slice:{part}/2")]);
        command
            .arg("--junit")
            .arg(scene.path(&format!("{part}.xml")));
        command
            .arg("--events")
            .arg(scene.path(&format!("{part}.ndjson")));
        scene.run(command);
    }
    let merge = |args: &[&str]| {
        let mut command = scene.command(env!("CARGO_BIN_EXE_cargo-harness"));
        command.arg("merge").args(args).current_dir(scene.path(""));
        scene.run(command)
    };
    let outputs = [
        "--junit",
        "all.xml",
        "--events",
        "all.ndjson",
        "--timings",
        "all.json",
    ];
    let all = ["1.xml", "2.xml", "1.ndjson", "2.ndjson"];
    merge(&[&all[..], &outputs].concat()).assert_code(exit_code::OK);
    let read = |name| fs::read_to_string(scene.path(name)).expect("it was written");
    let junit = read("all.xml");
    assert!(
        junit.contains("tests=\"3\" skipped=\"0\" failures=\"1\""),
        "{junit}"
    );
    assert_eq!(junit.matches("<testsuite ").count(), 1, "{junit}");
    let events = parse_events(&read("all.ndjson")).expect("they are events");
    let Some(EventKind::RunFinished(end)) = events.last().map(|event| &event.kind) else {
        panic!("it has no end")
    };
    assert_eq!((end.stats.finished, end.stats.passed), (3, 2));
    assert_eq!((end.stats.selected, end.stats.skipped), (3, 0));
    assert_eq!(read("all.json").matches(": ").count(), 6);

    let missing = merge(&["2.ndjson", "--events", "part.ndjson"]);
    missing
        .assert_code(exit_code::SETUP)
        .assert_says("part `slice:1/2` is missing");
    merge(&["2.ndjson", "--events", "part.ndjson", "--incomplete"])
        .assert_code(exit_code::OK)
        .assert_says("warning: part `slice:1/2` is missing");
    merge(&["1.xml", "1.xml", "--junit", "twice.xml"])
        .assert_code(exit_code::OK)
        .assert_says("has a result in `1.xml` and in `1.xml`");
    merge(&["1.xml"])
        .assert_code(exit_code::SETUP)
        .assert_says("`--junit` says where the merged one goes");
    scene.write("no.ndjson", "{}\n");
    merge(&["no.ndjson", "--events", "x"])
        .assert_code(exit_code::SETUP)
        .assert_says("no.ndjson:1:2: no event of a run");
}

/// Passes but for iteration 2 of 5.
const STRESSED: &str = "\
#[test] fn sound() {}
#[test] fn shaky() {
    assert_eq!(std::env::var(\"NEXTEST_STRESS_TOTAL\").unwrap(), \"5\");
    let iteration = std::env::var(\"HARNESS_STRESS_CURRENT\").unwrap();
    assert_eq!(std::env::var(\"NEXTEST_STRESS_CURRENT\").unwrap(), iteration);
    assert_ne!(iteration, \"2\");
}
";

#[test]
fn each_iteration_of_a_stress_run_has_its_results_and_each_test_its_rate() {
    let scene = Scene::new();
    let folder = scene.package("stressed", STRESSED);
    for mode in [
        &["--no-fail-fast"][..],
        &["--no-fail-fast", "--stress-parallel"],
    ] {
        let mut command = scene.harness_in(&folder, &["run", "--stress-count", "5", "-j", "3"]);
        command
            .args(mode)
            .arg("--junit")
            .arg(scene.path("junit.xml"));
        let (run, events) = run(&scene, command);
        run.assert_code(exit_code::TEST_RUN_FAILED)
            .assert_says("2 tests across 1 binary, 5 times")
            .assert_says("5 iterations: 4 passed, 1 failed; 10 tests run: 9 passed, 1 failed")
            .assert_says("stressed shaky: 4/5 passed, 80.0 % (95 % confidence: 37.6 % to 96.4 %)")
            .assert_says("1 test passed each time: 5/5 passed");
        let junit = fs::read_to_string(scene.path("junit.xml")).expect("it was written");
        assert!(
            junit.contains("<testsuite name=\"stressed@stress-2\" tests=\"2\""),
            "{junit}"
        );
        assert_eq!(junit.matches("file=\"src/lib.rs\"").count(), 10, "{junit}");
        let failed = events.iter().filter_map(|event| match &event.kind {
            EventKind::TestFinished(test) if test.verdict == Verdict::Fail => {
                Some(test.test.to_string())
            }
            _ => None,
        });
        assert_eq!(failed.collect::<Vec<_>>(), ["stressed@stress-2 shaky"]);
        let iterations = events.iter().filter_map(|event| match &event.kind {
            EventKind::IterationFinished(it) => Some((it.iteration, it.stats.passed)),
            _ => None,
        });
        let mut iterations: Vec<_> = iterations.collect();
        iterations.sort_unstable();
        assert_eq!(iterations, [(0, 2), (1, 2), (2, 1), (3, 2), (4, 2)]);
    }
    // An instance passed after the one that failed.
    let outstanding = scene.run(scene.harness_in(&folder, &["list", "--rerun"]));
    outstanding.assert_code(exit_code::OK);
    assert_eq!(outstanding.stdout, "stressed shaky\n");
    let mut until_failure = scene.harness_in(&folder, &["run", "--stress-count", "infinite"]);
    until_failure.args(["-j", "1", "shaky"]);
    scene
        .run(until_failure)
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("stressed@stress-0 shaky");
    scene
        .run(scene.harness_in(&folder, &["run", "--stress-duration", "10ms", "sound"]))
        .assert_code(exit_code::OK)
        .assert_says("1 test across 1 binary (1 test skipped), again and again for 10ms")
        .assert_says("passed each time");
    scene
        .run(scene.harness_in(
            &folder,
            &["run", "--stress-count", "2", "--debugger", "gdb"],
        ))
        .assert_code(2)
        .assert_says("--debugger");
    scene
        .run(scene.harness_in(&folder, &["run", "--stress-count", "0"]))
        .assert_code(2)
        .assert_says("must be an integer from 1 or `infinite`");
    scene
        .run(scene.harness_in(&folder, &["run", "--stress-parallel"]))
        .assert_code(2)
        .assert_says("--stress-count");
}
