//! The fixture as another user, who owns nothing but the folder that is built into.

use crate::{
    environment::installed,
    scene::{Scene, shared_target, skip},
};
use fixture_model::{Runner, check_events, check_junit, check_terminal};
use harness_metadata::exit_code;
use nix::unistd::geteuid;
use std::{fs, process::Command};

const NAME: &str = "an_unprivileged_user_has_the_same_results";
pub(crate) const NOBODY: [&str; 5] = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];

/// The toolchain may be in another user's home: this lets it be read, and nothing else.
pub(crate) const READ_EVERYTHING: [&str; 4] = [
    "--inh-caps",
    "-all,+dac_read_search",
    "--ambient-caps",
    "-all,+dac_read_search",
];

#[test]
fn an_unprivileged_user_has_the_same_results() {
    if !geteuid().is_root() {
        return skip(NAME, "only root can become another user");
    }
    if !installed("setpriv", &["--version"]) {
        return skip(NAME, "setpriv is not installed");
    }
    let scene = Scene::new();
    let as_nobody = |command: &Command, args: &[&str]| {
        let mut wrapped = scene.wrapped(command, "setpriv", args);
        wrapped
            .env("HOME", scene.path(""))
            .env("CARGO_HOME", scene.path("cargo-home"));
        wrapped
    };

    // Built beforehand: whether nobody can use a linker is not the subject. Everything that cargo
    // writes later is in the scene, which is open to all.
    let mut list = scene.harness(["list", "--workspace"]);
    list.env("CARGO_TARGET_DIR", scene.path("target"));
    scene
        .run(scene.wrapped(&list, "env", &[]))
        .assert_code(exit_code::OK);
    let mut open = scene.command("chmod");
    open.args(["-R", "a+rwX"]).arg(scene.path(""));
    scene.run(open).assert_code(0);
    let more = [NOBODY.as_slice(), READ_EVERYTHING.as_slice()].concat();
    let as_who = [NOBODY.as_slice(), more.as_slice()]
        .into_iter()
        .find(|args| scene.run(as_nobody(&list, args)).status.success());
    let Some(as_who) = as_who else {
        let shared = shared_target();
        return skip(
            NAME,
            &format!(
                "another user can use neither cargo nor {}",
                shared.display()
            ),
        );
    };

    let mut command = scene.harness(["run", "--workspace", "--no-fail-fast", "-j", "4"]);
    command.arg("--junit").arg(scene.path("junit.xml"));
    command.arg("--events").arg(scene.path("events.ndjson"));
    command.args(["--final-status-level", "all", "--show-progress", "none"]);
    command.env("CARGO_TARGET_DIR", scene.path("target"));
    let run = scene.run(as_nobody(&command, as_who));
    scene.assert_no_strays();
    run.assert_code(exit_code::TEST_RUN_FAILED);
    let read = |name| fs::read_to_string(scene.path(name)).expect("the report was written");
    check_events(&read("events.ndjson")).unwrap_or_else(|error| panic!("{error}"));
    check_terminal(&run.stderr, Runner::Harness).unwrap_or_else(|error| panic!("{error}"));
    check_junit(&read("junit.xml"), Runner::Harness).unwrap_or_else(|error| panic!("{error}"));
}
