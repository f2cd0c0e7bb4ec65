//! Metrics over runs: they are kept, drawn with their noise band, and compared.

use crate::{
    html::details,
    scene::{Finished, Scene},
};
use fixture_kit::results;
use harness_metadata::{Measure, Measured, Word, exit_code};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Its latency is what the environment says.
const SUITE: &str = r#"
#![cfg(test)]

use std::{env, fs, io::Write};

#[test]
fn has_latency() {
    let file = env::var_os("HARNESS_METRICS_FILE").expect("it is set");
    let mut file = fs::File::options().create(true).append(true).open(file).expect("it is opened");
    let value = env::var("LATENCY").expect("it is set");
    writeln!(file, "{{\"name\":\"latency\",\"value\":{value},\"unit\":\"us\",\"polarity\":\"lower-is-better\"}}").expect("it is written");
    writeln!(file, "{{\"name\":\"steady\",\"value\":7}}").expect("it is written");
}
"#;

struct Recorded {
    scene: Scene,
    package: PathBuf,
}

impl Recorded {
    fn new() -> Self {
        let scene = Scene::new();
        let package = scene.package("metrics", SUITE);
        Self { scene, package }
    }

    fn run(&self, latency: f64) {
        let mut command = self.scene.harness_in(&self.package, &["run"]);
        command.env("LATENCY", latency.to_string());
        self.scene.run(command).assert_code(exit_code::OK);
    }

    fn ask(&self, args: &[&str]) -> Finished {
        let package: &Path = &self.package;
        self.scene.run(self.scene.harness_in(package, args))
    }
}

#[test]
fn a_metric_is_followed_over_runs_and_only_enough_of_them_are_a_regression() {
    let recorded = Recorded::new();
    for latency in [100.0, 103.0, 98.0, 101.0, 99.0, 102.0, 97.0, 100.5] {
        recorded.run(latency);
    }
    let history = recorded.ask(&["history", "has_latency", "--metric", "latency"]);
    history.assert_code(exit_code::OK);
    let lines: Vec<_> = history.stdout.lines().collect();
    assert!(
        lines[0].contains(
            "latency, lower is better: 8 runs, median 100.25 us, noise band 97.350 us to 102.65 us"
        ),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("passed") && lines[1].contains("100.50 us") && lines[1].contains('*'),
        "{lines:?}"
    );
    let rows: Vec<serde_json::Value> = recorded
        .ask(&[
            "history",
            "has_latency",
            "--metric",
            "latency",
            "-T",
            "json",
        ])
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("it is JSON"))
        .collect();
    assert_eq!(
        (rows.len(), &rows[0]["values"]),
        (8, &serde_json::json!([100.5]))
    );
    let plain = recorded
        .ask(&["history", "has_latency", "-T", "json"])
        .stdout;
    assert!(
        plain.contains(r#""metrics":[{"name":"latency","polarity":"lower-is-better","unit":"us","value":100.5}"#),
        "{plain}"
    );
    let time = recorded.ask(&["history", "has_latency", "--metric", "time"]);
    assert!(
        time.stdout
            .contains("time, lower is better: 8 runs, median "),
        "{}",
        time.stdout
    );
    let unknown = recorded.ask(&["history", "has_latency", "--metric", "latncy"]);
    unknown
        .assert_code(exit_code::NO_TESTS)
        .assert_says("no recorded run has `latncy` of a test `has_latency`");

    // Four slow runs are not enough, whatever they are like.
    let asked = [
        "regressions",
        "--metric",
        "latency",
        "--metric",
        "steady",
        "--check",
    ];
    for latency in [400.0, 405.0, 395.0, 410.0] {
        recorded.run(latency);
        let answer = recorded.ask(&asked);
        answer.assert_code(exit_code::OK);
        assert_eq!(answer.stdout, "");
        answer.assert_says("2 numbers were not compared, for want of 13 comparable passes");
    }
    recorded.run(401.0);
    let answer = recorded.ask(&asked);
    answer.assert_code(exit_code::TEST_RUN_FAILED);
    let lines: Vec<_> = answer.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(
        lines[0].contains("worse") && lines[0].contains("latency: 100.25 us to 401 us, +300.0 %"),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("before   8 passes, median    100.25 us"),
        "{lines:?}"
    );
    assert!(
        lines[2].contains("latest   5 passes, median       401 us"),
        "{lines:?}"
    );
    // 2 of 1287 splits, twice: two numbers are compared.
    assert!(
        lines[3].contains("noise band 97.350 us to 102.65 us, probability of chance 0.00311"),
        "{lines:?}"
    );

    let rows = recorded.ask(&[
        "store",
        "sql",
        "SELECT count(*), max(value) FROM metrics WHERE name = 'latency'",
    ]);
    assert_eq!(
        rows.stdout.lines().last(),
        Some("13\t410.0"),
        "{}",
        rows.stdout
    );
    recorded.scene.assert_no_strays();
}

#[test]
fn numbers_that_the_runner_measured_are_in_the_reports() {
    let recorded = Recorded::new();
    let scene = &recorded.scene;
    let mut command = scene.harness_in(&recorded.package, &["run", "--trace", "io"]);
    for report in ["--events", "--junit", "--html"] {
        command.arg(report).arg(scene.path(&report[2..]));
    }
    command.env("LATENCY", "1");
    scene.run(command).assert_code(exit_code::OK);
    let (_, attempt) = results::last_attempts(scene).remove(0);
    let known = |measure: Measure| match measure.of(&attempt) {
        Measured::Exactly(number) => number,
        other => panic!("{measure}: {other:?}"),
    };
    assert!(known(Measure::Time) > 0.0 && known(Measure::Cpu) > 0.0 && known(Measure::Rss) > 0.0);
    let junit = fs::read_to_string(scene.path("junit")).expect("it is written");
    let property = |name: &str| {
        let (_, rest) = junit.split_once(&format!("<property name=\"{name}\" value=\""))?;
        Some(rest.split('"').next().unwrap_or_default().to_owned())
    };
    for name in ["cpu-time", "peak-memory", "processes"] {
        assert!(property(name).is_some(), "{name}: {junit}");
    }
    let page = details(&scene.path("html"));
    let shown = &page["tests"][0]["attempts"][0];
    assert!(
        shown["user"].is_f64() && shown["memory"].is_u64(),
        "{shown}"
    );
    for measure in [Measure::FilesOpened, Measure::CallsFiles] {
        let number = known(measure).to_string();
        assert_eq!(property(measure.word()), Some(number.clone()), "{junit}");
        let row = serde_json::json!([measure.word(), number]);
        let rows = shown["measured"].as_array().expect("it has some");
        assert!(rows.contains(&row), "{rows:?}");
        // The history has them by the same names.
        let history = recorded.ask(&["history", "has_latency", "--metric", measure.word()]);
        let says = format!("{measure}, lower is better: 1 run, median {number}");
        assert!(history.stdout.contains(&says), "{}", history.stdout);
    }
}
