use super::*;
use crate::report::sample::{self, Memory, attempt, code, test};
use camino::Utf8Path;
use harness_metadata::{
    Exit, Outcome, Verdict,
    event::CancelReason,
    outcome::{Quarantine, StartFailure},
};
use nextest_metadata::MismatchReason;
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};

/// The files of a folder by their names.
type Files = BTreeMap<String, String>;

fn files(folder: &Utf8Path) -> Files {
    let entries = folder.read_dir_utf8().expect("it is there").flatten();
    let read = |path: &Utf8Path| fs::read_to_string(path).expect("it is text");
    entries
        .map(|entry| (entry.file_name().to_owned(), read(entry.path())))
        .collect()
}

fn written(events: &[Event], outputs: &Memory) -> Files {
    let folder = tempfile::tempdir().expect("there is room");
    let folder = Utf8Path::from_path(folder.path()).expect("it is UTF-8");
    let folder = folder.join("deep/results");
    let mut sink = Allure::new(&folder);
    sample::feed(&mut sink, events, outputs);
    files(&folder)
}

/// Returns the results in the order of their starts and names, each as Allure's types want it.
fn results(files: &Files) -> Vec<Value> {
    let found = files.iter().filter_map(|(name, text)| {
        let uuid = name.strip_suffix("-result.json")?;
        let value: Value = serde_json::from_str(text).expect("it is JSON");
        assert_eq!(value["uuid"], uuid, "{value}");
        check(&value, files);
        Some(value)
    });
    let mut results: Vec<Value> = found.collect();
    let order = |value: &Value| (value["fullName"].to_string(), value["start"].as_i64());
    results.sort_by_key(order);
    results
}

/// Checks a result by the types of `allure-js-commons`.
fn check(value: &Value, files: &Files) {
    for field in ["uuid", "historyId", "testCaseId", "fullName", "name"] {
        let text = value[field].as_str();
        assert!(
            text.is_some_and(|text| !text.is_empty()),
            "{field}: {value}"
        );
    }
    for field in ["start", "stop"] {
        assert!(value[field].is_u64(), "{field}: {value}");
    }
    assert_eq!(value["stage"], "finished");
    let statuses = ["passed", "failed", "broken", "skipped"];
    assert!(
        statuses.iter().any(|status| value["status"] == *status),
        "{value}"
    );
    for field in [
        "labels",
        "links",
        "parameters",
        "steps",
        "attachments",
        "titlePath",
    ] {
        assert!(value[field].is_array(), "{field}: {value}");
    }
    for pair in ["labels", "parameters"]
        .iter()
        .flat_map(|field| list(&value[*field]))
    {
        assert!(
            pair["name"].is_string() && pair["value"].is_string(),
            "{pair}"
        );
    }
    for attachment in list(&value["attachments"]) {
        let source = attachment["source"].as_str().expect("it has one");
        assert!(files.contains_key(source), "{source}");
        assert!(
            source.contains("-attachment"),
            "Allure knows it by that: {source}"
        );
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("it is a list")
}

fn pairs(value: &Value) -> BTreeMap<&str, &str> {
    let pairs = list(value).iter();
    pairs
        .map(|pair| {
            let name = pair["name"].as_str().expect("it has one");
            (name, pair["value"].as_str().expect("it has one"))
        })
        .collect()
}

#[test]
fn a_failed_test_has_its_words_its_labels_and_its_output() {
    let fails = test("a::b::fails");
    let mut outputs = Memory::default();
    outputs.put(
        &fails,
        1,
        b"out \xff\x1b[31mred\x1b[0m\x07\n",
        b"thread 'a::b::fails' (7) panicked at src/a.rs:3:5:\nat 0x7f0102030405\n",
    );
    let files = written(&sample::run(vec![(fails, vec![code(1, 101)])]), &outputs);
    let results = results(&files);
    let [result] = results.as_slice() else {
        panic!("{results:?}")
    };
    assert_eq!(result["name"], "a::b::fails");
    assert_eq!(result["fullName"], "sample a::b::fails");
    assert_eq!(result["titlePath"], json!(["sample", "sample", "a", "b"]));
    assert_eq!(result["status"], "failed");
    assert_eq!(result["start"], 1_700_000_000_000_u64);
    assert_eq!(result["stop"], 1_700_000_001_234_u64);
    assert_eq!(result["description"], "`src/lib.rs:7`");
    let details = json!({
        "message": "at 0x…",
        "trace": "at 0x…\nthread 'a::b::fails' panicked at src/a.rs:3:5:\nat 0x7f0102030405",
    });
    assert_eq!(result["statusDetails"], details);
    let labels = [
        ("framework", "cargo-harness"),
        ("language", "rust"),
        ("package", "sample.a.b"),
        ("parentSuite", "sample"),
        ("subSuite", "a::b"),
        ("suite", "sample"),
        ("testClass", "sample::a::b"),
        ("testMethod", "fails"),
        ("thread", "slot 0"),
    ];
    assert_eq!(pairs(&result["labels"]), BTreeMap::from(labels));
    let parameters = pairs(&result["parameters"]);
    assert_eq!(parameters["attempts"], "1");
    assert_eq!(parameters["type"], "test failure with exit code 101");
    let attached: Vec<_> = list(&result["attachments"])
        .iter()
        .map(|attachment| {
            let source = attachment["source"].as_str().expect("it has one");
            (
                attachment["name"].as_str().expect("it has one"),
                files[source].as_str(),
            )
        })
        .collect();
    let stderr = "thread 'a::b::fails' (7) panicked at src/a.rs:3:5:\nat 0x7f0102030405\n";
    assert_eq!(
        attached,
        [("stdout", "out \\xFFred\\u{7}\n"), ("stderr", stderr)]
    );
    let environment = &files["environment.properties"];
    assert_eq!(
        environment,
        "Profile=default\ncargo-harness=0.1.0\nTrace=process\n"
    );
}

#[test]
fn the_attempts_of_a_test_have_one_history_and_names_of_their_own() {
    let mut second = code(2, 0);
    second.started_at = fixture_kit::sample::time(9);
    let events = sample::run(vec![
        (test("flaky"), vec![code(1, 1), second]),
        (test("other"), vec![code(1, 0)]),
    ]);
    let files = written(&events, &Memory::default());
    let all = results(&files);
    let [first, second, other] = all.as_slice() else {
        panic!("{all:?}")
    };
    assert_eq!(first["historyId"], second["historyId"]);
    assert_ne!(first["historyId"], other["historyId"]);
    assert_ne!(first["uuid"], second["uuid"]);
    assert_eq!(
        (&first["status"], &second["status"]),
        (&json!("failed"), &json!("passed"))
    );
    assert_eq!(second["statusDetails"], json!({ "flaky": true }));
    let once = |number| {
        let files = written(
            &sample::run(vec![(test("flaky").of_iteration(number), vec![code(1, 0)])]),
            &Memory::default(),
        );
        results(&files).remove(0)
    };
    assert_ne!(
        once(1)["historyId"],
        once(2)["historyId"],
        "they are no retries"
    );
    assert_eq!(once(1)["testCaseId"], first["testCaseId"]);
    assert_eq!(pairs(&once(2)["parameters"])["iteration"], "2");
    assert_eq!(
        files,
        written(&events, &Memory::default()),
        "the same bytes"
    );
}

#[test]
fn tests_without_a_result_of_their_own_are_broken_or_skipped() {
    let failure = StartFailure {
        message: "no such file".to_owned(),
        errno: 2,
    };
    let unstarted = attempt(1, Outcome::StartFailed(failure), Verdict::Fail);
    let exited = attempt(1, Outcome::Exited(Exit::Code(101)), Verdict::Fail);
    let mut events = sample::run(vec![
        (test("a"), vec![unstarted]),
        (test("quarantined"), vec![exited]),
    ]);
    for event in &mut events {
        match &mut event.kind {
            EventKind::TestFinished(finished) if finished.test == test("quarantined") => {
                finished.verdict = Verdict::Quarantined;
                finished.quarantine = Some(Box::new(Quarantine {
                    reason: "it is known".to_owned(),
                    owner: "ada".to_owned(),
                    expires: chrono::NaiveDate::default(),
                    expired: false,
                }));
            }
            EventKind::RunFinished(run) => {
                run.cancelled = Some(CancelReason::Interrupt);
                run.not_run = vec![test("z")];
            }
            _ => {}
        }
    }
    let ignored = EventKind::TestSkipped {
        test: test("ignored"),
        reason: MismatchReason::Ignored,
        reported: false,
        ignore_reason: None,
        location: None,
    };
    let (at, kind) = (Duration::ZERO, ignored);
    events.insert(1, Event { at, kind });
    let results = results(&written(&events, &Memory::default()));
    let told: Vec<_> = results
        .iter()
        .map(|result| {
            let message = result["statusDetails"]["message"].as_str();
            (
                result["status"].as_str().expect("it has one"),
                message.expect("it has one"),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("broken", "test could not be started: no such file"),
            ("skipped", "skipped: does not match the run-ignored option"),
            (
                "skipped",
                "quarantine until 1970-01-01, ada: it is known: test failure with exit code 101"
            ),
            ("skipped", "not run: interrupt"),
        ]
    );
    assert_eq!(results[2]["statusDetails"]["muted"], true);
    assert_eq!(pairs(&results[2]["labels"])["owner"], "ada");
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_at_the_end_with_the_number_of_tests() {
    let folder = tempfile::tempdir().expect("there is room");
    let folder = Utf8Path::from_path(folder.path()).expect("it is UTF-8");
    let file = folder.join("file");
    fs::write(&file, "theirs").expect("there is room");
    let events = sample::run(vec![
        (test("a"), vec![code(1, 0)]),
        (test("b"), vec![code(1, 0)]),
    ]);
    let (end, rest) = events.split_last().expect("there are some");
    let mut sink = Allure::new(&file);
    sample::feed(&mut sink, rest, &Memory::default());
    let error = sink.handle(end, &Memory::default()).expect_err("a file");
    let said = format!("failed to write the Allure results to `{file}`, which lack 2 tests");
    assert_eq!(error.to_string(), said);
    sink.close().expect("it has been said");
    assert_eq!(fs::read_to_string(file).expect("it is there"), "theirs");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn whatever_was_printed_the_results_are_valid(
        name in any::<String>(),
        stdout in proptest::collection::vec(any::<u8>(), 0..200),
        stderr in any::<String>(),
    ) {
        let name = format!("a{name}");
        let stderr = format!("{stderr}\u{1b}[3\nthread 'x' panicked at {name}:1:2:\n\u{fffe}\0");
        let test = test(&name);
        let mut outputs = Memory::default();
        outputs.put(&test, 1, &stdout, stderr.as_bytes());
        outputs.put(&test, 2, stderr.as_bytes(), &stdout);
        let files = written(&sample::run(vec![(test, vec![code(1, 101), code(2, 3)])]), &outputs);
        prop_assert_eq!(results(&files).len(), 2);
        for text in files.values() {
            prop_assert!(!text.contains('\u{1b}') && !text.contains('\0'), "{}", text);
        }
    }
}
