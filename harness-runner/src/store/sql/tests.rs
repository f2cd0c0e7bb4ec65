use super::*;
use crate::store::{Belongings, Run, folder, packing::tests::Scene};
use fixture_kit::sample::{self, test};
use harness_metadata::{
    Event, EventKind, RawString, RunId,
    event::{AttemptStarted, RunStarted, TestFinished},
    trace::{FileSummary, FileUse},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, os::unix::fs::FileExt};

const PAGE: &str = include_str!("../../../../site/docs/sql.md");

/// A reader that keeps all rows.
#[derive(Default)]
struct All {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

impl Rows for All {
    type Error = io::Error;

    fn columns(&mut self, names: &[String]) -> io::Result<()> {
        self.columns = names.to_vec();
        Ok(())
    }

    fn row(&mut self, values: &[Value]) -> io::Result<()> {
        self.rows.push(values.to_vec());
        Ok(())
    }
}

/// Metrics of each polarity, and a number that is none.
fn metrics() -> harness_metadata::Metrics {
    let lines = [
        r#"{"payload":"redis","invocation":2,"name":"p99","value":1.5,"unit":"ms","polarity":"lower-is-better","source":"json"}"#,
        r#"{"name":"ratio","value":"NaN","polarity":{"target":0.5}}"#,
        r#"{"name":"rate","value":"inf","polarity":"higher-is-better"}"#,
        r#"{"name":"plain","value":3}"#,
    ];
    harness_metadata::Metrics {
        found: lines.map(|line| serde_json::from_str(line).unwrap()).into(),
        unread: 0,
    }
}

fn budget() -> harness_metadata::BudgetFinding {
    let line = r#"{"name":"rss","value":5.0,"values":1,"unit":"B","max":4.0,"fails":true,"file":"a.toml","line":3}"#;
    serde_json::from_str(line).unwrap()
}

/// A database beside a run.
struct Place {
    scene: Scene,
    path: Utf8PathBuf,
}

impl Place {
    fn new() -> Self {
        let scene = Scene::new();
        let path = database(&scene.target);
        Self { scene, path }
    }

    #[track_caller]
    fn update(&self) -> Update {
        update(&self.scene.target, &self.path).unwrap()
    }

    #[track_caller]
    fn refused(&self) -> String {
        let error = update(&self.scene.target, &self.path).expect_err("it is refused");
        error.to_string().replace(self.path.as_str(), "FILE")
    }

    #[track_caller]
    fn ask(&self, text: &str) -> Vec<Vec<Value>> {
        let mut all = All::default();
        query(&self.path, text, &mut all).unwrap().unwrap();
        all.rows
    }

    #[track_caller]
    fn number(&self, text: &str) -> i64 {
        self.ask(text)[0][0].as_i64().expect("it is a number")
    }

    /// Keeps a further run, of one test that failed, with a trace.
    fn keep(&self) -> RunId {
        let id = RunId::random();
        let mut run = Run::create(&self.scene.target, id, None).unwrap();
        let at = Duration::ZERO;
        let started = RunStarted {
            run_id: id,
            tests: 1,
            ..sample::started()
        };
        let mut record = |kind| {
            let event = Event { at, kind };
            run.record(&event, Belongings::default()).unwrap();
        };
        record(EventKind::RunStarted(Box::new(started)));
        let id_of_test = test("crate::tests", "new");
        record(EventKind::AttemptStarted(AttemptStarted {
            test: id_of_test.clone(),
            attempt: 1,
            total_attempts: 1,
            slot: 3,
            running: 1,
            command: Vec::new(),
        }));
        let mut trace = sample::trace();
        let path = |bytes: &[u8]| RawString::from(bytes);
        let root = trace.processes.first().map_or(7, |root| root.pid);
        let own = format!("/proc/{root}/maps");
        trace.files = vec![
            FileSummary {
                path: path(b"/etc/missing"),
                uses: vec![FileUse::Missing],
            },
            FileSummary {
                path: path(b"/tmp/\xff"),
                uses: vec![FileUse::Read, FileUse::Written],
            },
            FileSummary {
                path: path(own.as_bytes()),
                uses: vec![FileUse::Read],
            },
        ];
        let attempt = harness_metadata::Attempt {
            trace: Some(Box::new(trace)),
            metrics: metrics(),
            budget: vec![budget()],
            ..sample::code(1, 101)
        };
        let finished = sample::finished(id_of_test, vec![attempt]);
        record(EventKind::TestFinished(Box::new(TestFinished {
            total_attempts: 1,
            ..finished
        })));
        run.end().unwrap();
        id
    }
}

#[test]
fn a_run_is_in_the_tables_with_its_attempts_and_what_their_traces_saw() {
    let place = Place::new();
    let id = place.keep();
    let update = place.update();
    assert_eq!((update.added, update.removed, update.unreadable), (2, 0, 0));
    assert_eq!(place.number("SELECT count(*) FROM runs"), 2);
    assert_eq!(place.number("SELECT count(*) FROM attempts"), 41);
    assert_eq!(
        place.number("SELECT sum(verdict = 'fail') FROM results"),
        21
    );
    let new =
        "FROM attempts JOIN runs ON runs.id = run JOIN tests ON tests.id = test WHERE name = 'new'";
    assert_eq!(
        place.ask(&format!(
            "SELECT runs.run_id, binary, outcome, exit_code, slot, reason, message {new}"
        )),
        [[
            json!(id.to_string()),
            json!("crate::tests"),
            json!("exited"),
            json!(101),
            json!(3),
            json!("test failure with exit code 101"),
            json!("test failure with exit code 101"),
        ]]
    );
    let files = format!("SELECT path, use FROM files WHERE attempt = (SELECT attempts.id {new})");
    let files = place.ask(&files);
    for row in [
        ["/etc/missing", "missing"],
        ["2f746d702fff", "read"],
        ["2f746d702fff", "written"],
    ] {
        assert!(files.contains(&row.map(Value::from).to_vec()), "{files:?}");
    }
    let metrics = "SELECT payload, invocation, name, iif(abs(value) > 1e308, 'inf', value), unit, polarity, target FROM metrics ORDER BY metrics.rowid";
    let expected = json!([
        ["redis", 2, "p99", 1.5, "ms", "lower-is-better", null],
        [null, null, "ratio", null, null, "target", 0.5],
        [null, null, "rate", "inf", null, "higher-is-better", null],
        [null, null, "plain", 3.0, null, "unknown", null],
    ]);
    assert_eq!(json!(place.ask(metrics)), expected);
    assert_eq!(
        json!(place.ask("SELECT name, value, max, min, fails, file, line FROM budgets")),
        json!([["rss", 5.0, 4.0, null, 1, "a.toml", 3]])
    );
    // A run that was killed has no counts.
    assert_eq!(
        place.number("SELECT count(*) FROM runs WHERE passed IS NULL"),
        1
    );
}

#[test]
fn a_database_follows_the_runs_that_are_kept() {
    let place = Place::new();
    assert_eq!(place.update().added, 1);
    assert_eq!((place.update().added, place.update().removed), (0, 0));
    let id = place.keep();
    assert_eq!(place.update().added, 1);
    let pack = folder(&place.scene.target).join(format!("{id}.run"));
    fs::remove_file(pack).unwrap();
    let update = place.update();
    assert_eq!((update.added, update.removed), (0, 1));
    // Nothing of it is left.
    assert_eq!(
        place.number("SELECT count(*) FROM tests WHERE name = 'new'"),
        0
    );
    assert_eq!(
        place.number("SELECT count(*) FROM paths WHERE path = '/etc/missing'"),
        0
    );
    assert_eq!(place.number("SELECT count(*) FROM attempts"), 40);
    assert!(place.ask("PRAGMA foreign_key_check").is_empty());
}

#[test]
fn a_database_of_another_version_is_made_anew() {
    let place = Place::new();
    place.update();
    let connection = Connection::open(&place.path).unwrap();
    let changed =
        "PRAGMA user_version = 9; ALTER TABLE runs ADD COLUMN more; CREATE TABLE \"a\"\"b\" (x);";
    connection.execute_batch(changed).unwrap();
    drop(connection);
    let update = place.update();
    assert_eq!((update.was_version, update.added), (Some(9), 1));
    assert_eq!(place.number("PRAGMA user_version"), 2);
    let left = "SELECT count(*) FROM sqlite_schema WHERE name = 'a\"b'";
    assert_eq!(place.number(left), 0);
}

#[test]
fn a_file_that_is_no_database_of_ours_is_said_in_a_sentence_and_left_alone() {
    let place = Place::new();
    fs::write(
        &place.path,
        "no database, but long enough for a header ".repeat(99),
    )
    .unwrap();
    let said = place.refused();
    assert_eq!(
        said,
        "`FILE` is damaged, or no database: file is not a database"
    );
    fs::remove_file(&place.path).unwrap();
    let connection = Connection::open(&place.path).unwrap();
    connection.execute_batch("CREATE TABLE own (x)").unwrap();
    drop(connection);
    let before = fs::read(&place.path).unwrap();
    assert_eq!(place.refused(), "`FILE` is a database of another program");
    assert_eq!(fs::read(&place.path).unwrap(), before);
    forget(&place.path).unwrap();
    fs::create_dir(&place.path).unwrap();
    assert_eq!(place.refused(), "`FILE` is not a file");
    fs::remove_dir(&place.path).unwrap();
    std::os::unix::fs::symlink("elsewhere", &place.path).unwrap();
    assert_eq!(place.refused(), "`FILE` is not a file");
    assert!(!place.path.with_file_name("elsewhere").exists());
    // An empty file is a database without tables.
    fs::remove_file(&place.path).unwrap();
    fs::write(&place.path, "").unwrap();
    assert_eq!(place.update().added, 1);
}

#[test]
fn no_flipped_bit_of_a_database_is_a_panic() {
    let place = Place::new();
    place.update();
    let good = fs::read(&place.path).unwrap();
    for at in (0..good.len()).step_by(4999) {
        fs::write(&place.path, &good).unwrap();
        let file = fs::OpenOptions::new()
            .write(true)
            .open(&place.path)
            .unwrap();
        file.write_all_at(&[!good[at]], at as u64).unwrap();
        if update(&place.scene.target, &place.path).is_ok() {
            let all = "SELECT * FROM attempts JOIN files ON files.attempt = attempts.id";
            let _ = query(&place.path, all, &mut All::default());
        }
    }
}

#[test]
fn a_database_in_use_is_waited_for_and_then_said_to_be() {
    let place = Place::new();
    place.update();
    place.keep();
    let reader = Connection::open(&place.path).unwrap();
    reader.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(place.refused(), "`FILE` is in use by another program");
    // What is there can be read meanwhile.
    assert_eq!(place.number("SELECT count(*) FROM runs"), 1);
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(place.update().added, 1);
}

#[test]
fn two_at_once_add_each_run_once() {
    let place = Place::new();
    for _ in 0..5 {
        place.keep();
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| update(&place.scene.target, &place.path));
        }
    });
    place.update();
    assert_eq!(place.number("SELECT count(*) FROM runs"), 6);
    assert_eq!(place.number("SELECT count(*) FROM attempts"), 45);
}

#[test]
fn a_place_that_cannot_be_written_and_queries_that_make_no_sense_are_said() {
    let place = Place::new();
    let missing = place.scene.target.join("no/where.sqlite");
    let error = update(&place.scene.target, &missing)
        .unwrap_err()
        .to_string();
    let said = error.replace(missing.as_str(), "FILE");
    assert_eq!(said, "failed to write `FILE`: unable to open database file");
    place.update();
    let refused = |text: &str| {
        let error = query(&place.path, text, &mut All::default()).unwrap_err();
        error.to_string()
    };
    for (text, said) in [
        (
            "SELEC",
            "the query is not understood: near \"SELEC\": syntax error",
        ),
        (
            "SELECT x FROM runs",
            "the query is not understood: no such column: x",
        ),
        (
            "DELETE FROM runs",
            "the query is not understood: attempt to write a readonly database",
        ),
        (
            "SELECT 1; SELECT 2",
            "the query is not understood: Multiple statements provided",
        ),
    ] {
        let error = refused(text);
        assert!(error.starts_with(said), "{error}");
    }
    assert!(refused("").starts_with("the query is not understood: "));
}

#[test]
fn the_page_describes_each_column_and_its_questions_are_answered() {
    let place = Place::new();
    place.keep();
    place.update();
    let mut described: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut table = None;
    for line in PAGE.lines() {
        if line.starts_with('#') {
            table = line
                .strip_prefix("### `")
                .map(|it| it.trim_end_matches('`'));
        }
        let column = line
            .strip_prefix("| `")
            .and_then(|line| line.split_once('`'));
        if let (Some(table), Some((column, _))) = (table, column) {
            described.entry(table).or_default().push(column);
        }
    }
    let inner = ["file_sets", "file_uses", "paths"];
    for row in place.ask("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')") {
        let table = row[0].as_str().unwrap();
        if inner.contains(&table) {
            assert!(PAGE.contains(&format!("`{table}` (`")), "{table}");
            continue;
        }
        let columns = place.ask(&format!("SELECT name FROM pragma_table_info('{table}')"));
        let columns: Vec<&str> = columns.iter().filter_map(|row| row[0].as_str()).collect();
        assert_eq!(described.remove(table).as_ref(), Some(&columns), "{table}");
    }
    assert_eq!(described, BTreeMap::new());
    let mut asked = 0;
    for block in PAGE.split("```sql\n").skip(1) {
        let (question, _) = block.split_once("```").unwrap();
        place.ask(question);
        asked += 1;
    }
    assert!(asked > 5, "only {asked} questions were found");
}

/// `STORE=DIR RUNS=N cargo test -p harness-runner --lib -- --ignored --exact
/// store::sql::tests::a_store_of_many_runs` fills a store, to measure what is done with it.
#[test]
#[ignore = "it fills a store"]
fn a_store_of_many_runs() {
    let number = |name: &str, usual: usize| {
        let given = std::env::var(name).ok();
        given.map_or(usual, |text| text.parse().expect("it is a number"))
    };
    let store = Utf8PathBuf::from(std::env::var("STORE").expect("`STORE` is set"));
    let (runs, tests) = (number("RUNS", 10_000), number("TESTS", 30));
    for run_number in 0..runs {
        let id = RunId::random();
        let mut run = Run::create(&store, id, None).unwrap();
        let mut started = RunStarted {
            run_id: id,
            tests,
            workspace_root: std::env::var("ROOT").unwrap_or_else(|_| "/work".to_owned()),
            ..sample::started()
        };
        started.started_at += Duration::from_secs(run_number as u64 * 60);
        let at = Duration::ZERO;
        let mut record = |kind| {
            let event = Event { at, kind };
            run.record(&event, Belongings::default()).unwrap();
        };
        record(EventKind::RunStarted(Box::new(started)));
        let mut stats = harness_metadata::RunStats::default();
        for number in 0..tests {
            let failed = (run_number + number).is_multiple_of(97);
            let attempt = harness_metadata::Attempt {
                trace: Some(Box::new(sample::trace())),
                ..sample::code(1, i32::from(failed))
            };
            let name = format!("part_{}::test_{number}", number / 10);
            let finished = sample::finished(test("crate::tests", &name), vec![attempt]);
            stats.add(&finished);
            record(EventKind::TestFinished(Box::new(finished)));
        }
        record(EventKind::RunFinished(Box::new(
            harness_metadata::event::RunFinished {
                elapsed: Duration::from_secs(1),
                stats,
                cancelled: None,
                not_run: Vec::new(),
                failed_scripts: Vec::new(),
                failed_services: Vec::new(),
                findings: harness_metadata::event::Findings::default(),
            },
        )));
        run.end().unwrap();
    }
}
