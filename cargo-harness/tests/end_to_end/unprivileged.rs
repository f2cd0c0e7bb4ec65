//! The fixture as another user, who owns nothing but the folder that is built into.

use crate::{
    nobody::Nobody,
    scene::{Scene, skip},
};
use fixture_kit::model::{Runner, check_events, check_junit, check_terminal};
use harness_metadata::exit_code;
use std::fs;

const NAME: &str = "an_unprivileged_user_has_the_same_results";

#[test]
fn an_unprivileged_user_has_the_same_results() {
    let scene = Scene::new();
    // Built beforehand: whether this user can use a linker is not the subject. Everything that
    // cargo
    // writes later is in the scene, which is open to all.
    let mut list = scene.harness(["list", "--workspace"]);
    list.env("CARGO_TARGET_DIR", scene.path("target"));
    let nobody = match Nobody::who_can(&scene, &list) {
        Ok(nobody) => nobody,
        Err(reason) => return skip(NAME, &reason),
    };

    let mut command = scene.harness(["run", "--workspace", "--no-fail-fast", "-j", "4"]);
    command.arg("--junit").arg(scene.path("junit.xml"));
    command.arg("--events").arg(scene.path("events.ndjson"));
    command.args(["--final-status-level", "all", "--show-progress", "none"]);
    command.env("CARGO_TARGET_DIR", scene.path("target"));
    let run = scene.run(nobody.wrapped(&scene, &command));
    scene.assert_no_strays();
    run.assert_code(exit_code::TEST_RUN_FAILED);
    let read = |name| fs::read_to_string(scene.path(name)).expect("the report was written");
    check_events(&read("events.ndjson")).unwrap_or_else(|error| panic!("{error}"));
    // Who has no privileges installs filters too, also those that come after a test's loader.
    for missing in [
        "what the dynamic loader did",
        "the filter could not be installed",
    ] {
        let events = read("events.ndjson");
        let told = events.lines().find(|line| line.contains(missing));
        assert_eq!(told, None, "{missing}");
    }
    check_terminal(&run.stderr, Runner::Harness).unwrap_or_else(|error| panic!("{error}"));
    check_junit(&read("junit.xml"), Runner::Harness).unwrap_or_else(|error| panic!("{error}"));
}
