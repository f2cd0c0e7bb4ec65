//! Faults of cargo-nextest that are none of ours.

use crate::scene::Scene;
use fixture_kit::results;
use harness_metadata::{EventKind, Outcome, exit_code};
use std::fs;

const SOURCE: &str = r#"
    #[test] fn ends_its_process() { std::process::exit(0) }
    #[test] fn is_fine() {}
    #[test] fn is_slow() {}
    #[test] fn panics() { panic!("as it should") }
    #[test] fn times_out() {
        let shell = "trap '' TERM; while :; do sleep 0.1; done";
        std::process::Command::new("sh").args(["-c", shell]).spawn().unwrap();
        loop { std::thread::park() }
    }
"#;

#[test]
fn a_skip_by_its_exact_name_works_without_any_other_name() {
    let scene = Scene::new();
    let package = scene.package("faults", SOURCE);
    let args = [
        "list",
        "--message-format",
        "oneline",
        "--",
        "--exact",
        "--skip",
        "is_slow",
    ];
    let list = scene.run(scene.harness_in(&package, &args));
    list.assert_code(exit_code::OK);
    assert!(!list.stdout.contains("is_slow"), "{}", list.stdout);
    assert!(list.stdout.contains("is_fine"), "{}", list.stdout);
}

#[test]
fn what_ignores_the_end_of_a_test_dies_with_it_and_reports_are_the_same_again() {
    let scene = Scene::new();
    let package = scene.package("faults", SOURCE);
    let config = scene.write(
        "harness.toml",
        "profile.default.fail-fast = false\n[[profile.default.overrides]]\n\
         filter = 'test(times_out)'\n\
         slow-timeout = { period = '2s', terminate-after = 1, grace-period = '1s' }\n",
    );
    let mut command = scene.harness_in(&package, &["run"]);
    command.arg("--config-file").arg(config);
    command.arg("--junit").arg(scene.path("junit.xml"));
    command.arg("--events").arg(scene.path("events"));
    scene.run(command).assert_code(exit_code::TEST_RUN_FAILED);
    scene.assert_no_strays();

    let junit = fs::read_to_string(scene.path("junit.xml")).expect("it was written");
    let failures = junit.split("<failure").skip(1);
    let mut failures = failures.filter_map(|failure| failure.split("</failure>").next());
    let panicked = failures.find(|failure| failure.contains("as it should"));
    let panicked = panicked.expect("the panic is a failure");
    assert!(
        panicked.contains("thread 'panics' panicked at"),
        "{panicked}"
    );

    let events = results::events(&scene);
    let outcome = |name: &str| {
        let mut finished = events.iter().filter_map(|event| match &event.kind {
            EventKind::TestFinished(test) if test.test.name.as_str() == name => {
                test.attempts.last()
            }
            _ => None,
        });
        finished.next().map(|attempt| attempt.outcome.clone())
    };
    let ended = outcome("ends_its_process").expect("it ran");
    assert!(matches!(ended, Outcome::NoResult(_)), "{ended:?}");
}
