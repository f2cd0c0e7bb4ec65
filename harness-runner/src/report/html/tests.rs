use super::*;
use crate::report::{
    earlier::{EarlierRun, Wanted},
    sample,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use camino::Utf8Path;
use harness_metadata::{
    Attempt, Remote,
    trace::{FileSummary, FileUse, ProcessSummary},
};
use miniz_oxide::inflate::decompress_to_vec_zlib;
use serde_json::Value;
use std::fs;

fn traced(number: u32, code: i32, paths: &[String]) -> Attempt {
    let mut trace = sample::trace();
    trace.processes.push(ProcessSummary {
        pid: 7,
        creator: None,
        started: Duration::ZERO,
        ended: Some(Duration::from_millis(90)),
        exit: None,
        killed_by: None,
        args: vec!["/bin/</script><b>".into(), b"\xff".as_slice().into()],
        execs: 1,
    });
    trace.files = paths
        .iter()
        .map(|path| FileSummary {
            path: path.as_str().into(),
            uses: vec![FileUse::Read, FileUse::Written],
        })
        .collect();
    Attempt {
        trace: Some(Box::new(trace)),
        ..sample::code(number, code)
    }
}

/// No earlier runs.
#[derive(Debug)]
struct NoRuns;

impl EarlierRuns for NoRuns {
    fn look(&self, _: RunId, _: &mut dyn Wanted) {}
}

/// Results of one earlier run.
#[derive(Debug)]
struct OneRun(Vec<TestFinished>);

impl EarlierRuns for OneRun {
    fn look(&self, before: RunId, wanted: &mut dyn Wanted) {
        let run = EarlierRun {
            id: before,
            started_at: fixture_kit::sample::time(-60),
        };
        for finished in &self.0 {
            if wanted.wants(&finished.test) {
                wanted.take(&run, finished, &sample::Memory::default());
            }
        }
    }
}

fn written(events: &[Event], outputs: &sample::Memory) -> String {
    written_against(events, outputs, NoRuns)
}

fn written_against(
    events: &[Event],
    outputs: &sample::Memory,
    earlier: impl EarlierRuns + Send + 'static,
) -> String {
    let folder = tempfile::tempdir().expect("there is room");
    let path = Utf8Path::from_path(folder.path())
        .expect("it is UTF-8")
        .join("report.html");
    let mut sink = Html::new(&path).against(earlier);
    sample::feed(&mut sink, events, outputs);
    sink.close().expect("it can be written");
    fs::read_to_string(path).expect("it is there")
}

/// Returns the data of a page by their name.
fn data(page: &str, id: &str) -> Value {
    let (_, rest) = page
        .split_once(&format!("id=\"{id}\">"))
        .expect("it is there");
    let (packed, _) = rest.split_once("</script>").expect("it ends");
    let packed = STANDARD.decode(packed).expect("it is Base64");
    let text = decompress_to_vec_zlib(&packed).expect("it is compressed");
    serde_json::from_slice(&text).expect("it is JSON")
}

#[test]
fn output_that_is_too_long_for_the_page_lies_beside_it() {
    let folder = tempfile::tempdir().expect("there is room");
    let folder = Utf8Path::from_path(folder.path()).expect("it is UTF-8");
    let path = folder.join("report.html");
    let long = b"\xff0123456789".repeat(10_000);
    let mut outputs = sample::Memory::default();
    outputs.put(&sample::test("long"), 1, &long, b"short");
    let events = sample::run(vec![(sample::test("long"), vec![sample::code(1, 1)])]);
    let write = || {
        let mut sink = Html::new(&path).against(NoRuns);
        sample::feed(&mut sink, &events, &outputs);
        let page = fs::read_to_string(&path).expect("it is there");
        data(&page, "details")["tests"][0]["attempts"][0]["whole"].take()
    };
    let whole = write();
    assert_eq!(whole[1], Value::Null, "it is short: {whole}");
    let file = folder.join(whole[0]["file"].as_str().expect("there is one"));
    assert_eq!(fs::read(file).expect("it is there"), long);

    let files = folder.join("report.html.files");
    fs::remove_dir_all(&files).expect("it is there");
    fs::write(&files, "in the way").expect("there is room");
    let whole = write();
    assert!(whole[0]["why"].is_string(), "the page says why: {whole}");
}

#[test]
fn the_page_has_where_a_test_ran_and_how_long_each_part_took() {
    let far = Attempt {
        remote: Some(Box::new(Remote {
            engine: "grpc://far:8980".to_owned(),
            worker: "w7".to_owned(),
            queue: Duration::from_millis(1500),
            earlier: vec!["the worker was lost".to_owned()],
            ..Remote::default()
        })),
        ..sample::code(1, 0)
    };
    let page = written(
        &sample::run(vec![
            (sample::test("here"), vec![sample::code(1, 0)]),
            (sample::test("there"), vec![far]),
        ]),
        &sample::Memory::default(),
    );
    let place = "grpc://far:8980, worker w7";
    let rows = &data(&page, "index")["rows"];
    assert_eq!(rows["elsewhere"], serde_json::json!({ "1": place }));
    let tests = &data(&page, "details")["tests"];
    assert_eq!(tests[0]["attempts"][0]["elsewhere"], Value::Null);
    let elsewhere = &tests[1]["attempts"][0]["elsewhere"];
    assert_eq!(elsewhere["at"], place);
    assert_eq!(elsewhere["parts"][1], serde_json::json!(["queue", 1500.0]));
    assert_eq!(elsewhere["earlier"][0], "the worker was lost");
}

#[test]
fn the_index_has_every_test_and_the_details_what_it_did() {
    let mut outputs = sample::Memory::default();
    let fails = sample::test("fails");
    outputs.put(
        &fails,
        1,
        b"out \xff",
        b"thread 'fails' panicked at src/lib.rs:3:1:\n\
          assertion `left == right` failed\n  left: 1\n right: 2\n",
    );
    let page = written(
        &sample::run(vec![
            (
                sample::test("passes"),
                vec![traced(1, 0, &["/etc/passwd".to_owned()])],
            ),
            (
                sample::test("flaky"),
                vec![
                    sample::code(1, 101),
                    traced(2, 0, &["/etc/passwd".to_owned()]),
                ],
            ),
            (fails, vec![sample::code(1, 101)]),
        ]),
        &outputs,
    );
    let index = data(&page, "index");
    let rows = &index["rows"];
    assert_eq!(rows["name"].as_array().expect("a column").len(), 3);
    assert_eq!(rows["flags"], serde_json::json!([0, 2, 1]));
    assert_eq!(rows["place"]["2"], "src/lib.rs:3");
    assert_eq!(rows["message"]["2"], "assertion `left == right` failed");
    assert_eq!(rows["earlier"].as_array().expect("a list").len(), 1);
    let details = data(&page, "details");
    let tests = details["tests"].as_array().expect("a list");
    assert_eq!(tests[1]["attempts"].as_array().expect("a list").len(), 2);
    assert_eq!(tests[2]["attempts"][0]["stdout"], "out \\xff");
    let same =
        |test: usize, attempt: usize| tests[test]["attempts"][attempt]["trace"]["files"].clone();
    assert_eq!(same(0, 0), same(1, 1), "the same files are kept once");
    assert!(details["strings"].to_string().contains("/etc/passwd"));
}

#[test]
fn nothing_of_a_test_is_markup() {
    let hostile = "</script><script>alert(1)</script>\u{1b}[31m\u{202e}\0 & \"'";
    let test = sample::test(hostile);
    let mut outputs = sample::Memory::default();
    outputs.put(&test, 1, hostile.as_bytes(), hostile.as_bytes());
    let mut events = sample::run(vec![(test, vec![traced(1, 101, &[hostile.to_owned()])])]);
    if let EventKind::RunStarted(run) = &mut events[0].kind {
        run.workspace_root = format!("/home/{}", hostile.replace('/', ""));
        run.command_line = vec![hostile.to_owned()];
    }
    let page = written(&events, &outputs);
    assert!(!page.contains("<script>alert"), "{page}");
    assert!(!page.contains("<b>") && !page.contains('\0') && !page.contains('\u{1b}'));
    assert_eq!(data(&page, "index")["rows"]["name"][0], hostile);
    let title = page.split_once("<title>").expect("it has one").1;
    let title = title.split_once("</title>").expect("it ends").0;
    assert!(!title.contains('<') && title.contains("&lt;"), "{title}");
}

#[test]
fn a_run_without_an_end_has_what_was_known() {
    let mut events = sample::run(vec![
        (sample::test("one"), vec![sample::code(1, 0)]),
        (sample::test("two"), vec![sample::code(1, 0)]),
    ]);
    events.truncate(events.len() - 2);
    let index = data(&written(&events, &sample::Memory::default()), "index");
    assert_eq!(index["finished"], Value::Null);
    assert_eq!(index["rows"]["name"], serde_json::json!(["one", "two"]));
    assert_eq!(index["rows"]["flags"], serde_json::json!([0, 128]));
}

#[test]
fn ten_thousand_traced_tests_are_no_more_than_600_kilobytes() {
    let paths: Vec<String> = (0..20)
        .map(|number| format!("/usr/lib/lib{number}.so"))
        .collect();
    let tests = (0..10_000).map(|number| {
        let own = format!("/tmp/run-{number}/input");
        let paths: Vec<String> = paths.iter().cloned().chain([own]).collect();
        let name = format!(
            "module_{}::tests::case_{number}_is_{}",
            number % 97,
            number * 7919 % 10_007
        );
        let mut attempt = traced(1, i32::from(number % 50 == 0), &paths);
        let micros = 500 + number * 7919 % 30_011;
        attempt.elapsed = Duration::from_micros(micros);
        attempt.usage.user = Duration::from_micros(micros / 2);
        attempt.usage.peak_memory = 4_000_000 + 4096 * (number % 300);
        (sample::test(&name), vec![attempt])
    });
    let page = written(&sample::run(tests.collect()), &sample::Memory::default());
    let kilobytes = page.len() / 1000;
    assert!(kilobytes <= 600, "{kilobytes} kB");
}

fn lacks(paths: &[&str]) -> Attempt {
    let mut attempt = traced(1, 0, &[]);
    let trace = attempt.trace.as_mut().expect("it is traced");
    trace.doubts.clear();
    let missing = paths.iter().map(|path| FileSummary {
        path: (*path).into(),
        uses: vec![FileUse::Missing],
    });
    trace.files = missing.collect();
    attempt
}

fn before(page: &str) -> (Value, Value) {
    let mut details = data(page, "details");
    (details["before"].take(), details["strings"].take())
}

#[test]
fn a_test_is_shown_against_its_last_result() {
    let now = sample::run(vec![
        (
            sample::test("breaks"),
            vec![lacks(&["/etc/new.toml", "/tmp/.tmpBcDeFg/input"])],
        ),
        (sample::test("is new"), vec![sample::code(1, 0)]),
    ]);
    let earlier = fixture_kit::sample::finished(
        sample::test("breaks"),
        vec![lacks(&["/etc/old.toml", "/tmp/.tmpAbCdEf/input"])],
    );
    let other = fixture_kit::sample::finished(sample::test("is gone"), vec![sample::code(1, 0)]);
    let runs = OneRun(vec![other, earlier.clone(), earlier]);
    let page = written_against(&now, &sample::Memory::default(), runs);
    let (before, strings) = before(&page);
    assert_eq!(before["runs"].as_array().expect("a list").len(), 1);
    let results = before["results"].as_object().expect("a map");
    assert_eq!(results.len(), 1, "{results:?}");
    let traces = &results["0"][6];
    let text = |fact: &Value| strings[fact[1].as_u64().expect("a number") as usize].clone();
    assert_eq!(traces["new"][0][0], "missing file");
    assert_eq!(text(&traces["new"][0]), "/etc/new.toml");
    assert_eq!(text(&traces["gone"][0]), "/etc/old.toml");
    let counts = ["new", "gone"].map(|word| traces[word].as_array().expect("a list").len());
    assert_eq!(counts, [1, 1], "names made up by chance do not differ");
}

#[test]
fn an_incomplete_trace_makes_nothing_new_or_gone() {
    let doubtful = |paths: &[&str]| {
        let mut attempt = lacks(paths);
        let trace = attempt.trace.as_mut().expect("it is traced");
        trace.dropped.files = 1;
        vec![attempt]
    };
    let test = || sample::test("one");
    let of = |now: Vec<Attempt>, earlier: Vec<Attempt>| {
        let earlier = OneRun(vec![fixture_kit::sample::finished(test(), earlier)]);
        let events = sample::run(vec![(test(), now)]);
        let page = written_against(&events, &sample::Memory::default(), earlier);
        let traces = before(&page).0["results"]["0"][6].take();
        (traces["new"].clone(), traces["gone"].clone())
    };
    let whole = |path| vec![lacks(&[path])];
    let none = Value::Array(Vec::new());
    let (new, gone) = of(whole("/a"), doubtful(&["/b"]));
    assert_eq!((&new, gone == none), (&none, false));
    let (new, gone) = of(doubtful(&["/a"]), whole("/b"));
    assert_eq!((new == none, &gone), (false, &none));
}

#[test]
fn the_facts_that_are_new_are_bounded() {
    let many: Vec<String> = (0..500)
        .map(|n| format!("/etc/{}", "x".repeat(n + 1)))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let test = || sample::test("one");
    let earlier = fixture_kit::sample::finished(test(), vec![lacks(&[])]);
    let events = sample::run(vec![(test(), vec![lacks(&many)])]);
    let page = written_against(&events, &sample::Memory::default(), OneRun(vec![earlier]));
    let traces = before(&page).0["results"]["0"][6].take();
    assert_eq!(traces["new"].as_array().expect("a list").len(), 20);
    assert_eq!(traces["more"], 480);
}
