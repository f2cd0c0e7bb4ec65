//! `cargo harness audit`.

use fixture_kit::scene::Scene;
use harness_metadata::exit_code;
use std::{collections::BTreeMap, path::PathBuf};

const SUITE: &str = r#"
    use std::{env, fs, process};

    #[test]
    fn depends_on_nothing() {
        assert!(fs::metadata("Cargo.toml").is_ok());
        let file = env::temp_dir().join(format!("audited-{}", process::id()));
        fs::write(&file, "").unwrap();
        fs::remove_file(&file).unwrap();
    }

    #[test]
    fn depends_on_the_home_folder() {
        let home = env::var("HOME").unwrap();
        let _ = fs::read(format!("{home}/.audited"));
    }

    #[test]
    fn depends_on_the_time_zone() {
        let zone = env::var("TZ").unwrap_or("UTC".to_owned());
        let _ = fs::metadata(format!("/nowhere/zoneinfo/{zone}"));
    }

    #[test]
    fn depends_on_the_umask() {
        use std::os::unix::fs::PermissionsExt;
        let file = env::temp_dir().join(format!("masked-{}", process::id()));
        fs::write(&file, "").unwrap();
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        fs::remove_file(&file).unwrap();
        assert_ne!(mode, 0o600);
    }

    #[test]
    fn differs_from_run_to_run() {
        // The clock is not seen, but what is made of it is.
        let file = env::temp_dir().join("turns");
        let turn = fs::read_to_string(&file).unwrap_or_default();
        fs::write(&file, format!("{turn}x")).unwrap();
        let name = if turn.len() % 2 == 0 { "even" } else { "odd" };
        let _ = fs::metadata(format!("/nowhere/{name}"));
    }
"#;

fn suite(scene: &Scene) -> PathBuf {
    scene.write("suite/tests/conditions.rs", SUITE);
    scene.write("home/.audited", "");
    scene.write("temp/.keep", "");
    scene.package("suite", "")
}

#[test]
fn a_test_is_told_what_it_depends_on() {
    let scene = Scene::new();
    let package = suite(&scene);
    let harness = |args: &[&str]| {
        let mut command = scene.harness_in(&package, args);
        command.env_remove("TZ").env("TMPDIR", scene.path("temp"));
        command.env("HOME", scene.path("home"));
        scene.run(command)
    };
    let run = harness(&["audit", "depends_on", "differs", "--json"]);
    run.assert_code(exit_code::TEST_RUN_FAILED);
    let mut depends: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut varying = BTreeMap::new();
    for line in run.stdout.lines() {
        let row: serde_json::Value = serde_json::from_str(line).expect("it is an object");
        let test = row["test"]["name"].as_str().expect("it has a name");
        if row["condition"] == "as usual" {
            varying.insert(test.to_owned(), row["varying"].to_string());
            continue;
        }
        let on = depends.entry(test.to_owned()).or_default();
        if row["same"] == false {
            let text = |it: &serde_json::Value| it["text"].as_str().expect("a text").to_owned();
            let texts = row["differences"]
                .as_array()
                .expect("some")
                .iter()
                .map(text);
            let texts: Vec<String> = texts.collect();
            on.push(format!("{}: {}", row["condition"], texts.join("; ")));
        }
    }
    assert_eq!(depends.len(), 5, "{}", run.stdout);
    let on = |test: &str| depends[test].join("\n");
    assert_eq!(on("depends_on_nothing"), "", "{}", run.stdout);
    assert_eq!(
        on("depends_on_the_home_folder"),
        "\"with an empty home folder\": open to read ~/.audited: ENOENT (No such file or directory); \
         as usual: worked"
    );
    assert!(on("depends_on_the_time_zone").starts_with("\"in another time zone\": only here: "));
    assert!(
        on("depends_on_the_time_zone")
            .contains("only as usual: ask about /nowhere/zoneinfo/UTC: ENOENT")
    );
    assert!(on("depends_on_the_umask").starts_with("\"with the umask 077\": FAIL, as usual PASS"));
    assert_eq!(on("differs_from_run_to_run"), "");
    assert!(varying["differs_from_run_to_run"].contains("/nowhere/odd"));
    assert_eq!(varying["depends_on_nothing"], "[]");
    let target = package.join("target/harness");
    assert!(
        !target.join("trials").exists(),
        "nothing is left of the runs"
    );
    assert!(!target.join("history.cache").exists(), "they are no runs");
}

#[test]
fn an_audit_says_what_it_cannot_see_and_refuses_what_is_no_test() {
    let scene = Scene::new();
    let package = suite(&scene);
    let harness = |args: &[&str]| scene.run(scene.harness_in(&package, args));
    let run = harness(&["audit", "depends_on_nothing"]);
    run.assert_code(exit_code::OK)
        .assert_says("does not show the values of environment variables")
        .assert_says("1 test runs 2 times as usual and 2 times under each of 9 conditions");
    let last = run.stdout.lines().last().expect("it has an answer");
    assert_eq!(last, "  deterministic under all 9 conditions");
    harness(&["audit", "no_such_test"])
        .assert_code(exit_code::NO_TESTS)
        .assert_says("no test matches `no_such_test`");
    harness(&["audit", "x", "--times", "1"])
        .assert_code(exit_code::USAGE)
        .assert_says("1 is not in 2..=50");
}
