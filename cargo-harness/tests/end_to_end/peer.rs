//! The same fixture under cargo-nextest, where it is installed: what the model expects is no
//! invention.

use crate::environment::installed;
use crate::scene::{Scene, fixture, shared_target, skip};
use fixture_kit::model::{Runner, check_junit, check_list, check_terminal};
use std::fs;

#[test]
fn the_model_holds_for_cargo_nextest_too() {
    if !installed("cargo-nextest", &["nextest", "--version"]) {
        return skip(
            "the_model_holds_for_cargo_nextest_too",
            "cargo-nextest is not installed",
        );
    }
    let scene = Scene::new();
    let nextest = |args: &[&str]| {
        let mut command = scene.command("cargo-nextest");
        command.arg("nextest").args(args).current_dir(fixture());
        command.env("CARGO_TARGET_DIR", shared_target());
        command
    };

    let list = scene.run(nextest(&[
        "list",
        "--workspace",
        "--message-format",
        "json",
    ]));
    list.assert_code(0);
    check_list(&list.stdout, Runner::Peer).unwrap_or_else(|error| panic!("{error}"));

    // Reports go to the scene's folder rather than into the sources.
    let config = fs::read_to_string(fixture().join(".config/nextest.toml")).expect("it is there");
    let store = format!("[store]\ndir = {:?}\n\n{config}", scene.path("store"));
    let config = scene.write("nextest.toml", &store);
    let mut command = nextest(&["run", "--workspace", "-j", "4", "--show-progress", "none"]);
    let run = scene.run({
        command.arg("--config-file").arg(config);
        command
    });
    scene.kill_strays();
    run.assert_code(100);
    check_terminal(&run.stderr, Runner::Peer).unwrap_or_else(|error| panic!("{error}"));
    let junit = fs::read_to_string(scene.path("store/default/junit.xml")).expect("it was written");
    // It lets characters pass that no XML may hold, not even escaped.
    let junit = junit.replace(['\u{fffe}', '\u{ffff}'], "");
    check_junit(&junit, Runner::Peer).unwrap_or_else(|error| panic!("{error}"));
}

/// Filtersets with every predicate, every matcher, and what is written in an odd way.
const FILTERSETS: &[&str] = &[
    "all()",
    "none()",
    "default()",
    "test(a)",
    "test(=passes)",
    "test(~pass) - test(#*slow*)",
    "test(/^(a|p).*s$/)",
    "test(/\\/x/) + test(#*[*]*)",
    "not test(/./)",
    "! (kind(lib) | kind(test))",
    "kind(lib) & not package(outcomes)",
    "kind(bin) or kind(example) or kind(bench)",
    "kind(proc-macro)",
    "package(out*)",
    "package(=output) + package(~proc)",
    "deps(output)",
    "rdeps(sys)",
    "rdeps(macros) and platform(target)",
    "platform(host)",
    "platform( host ) | binary_id(#*::*)",
    "binary(~o) - binary_id(outcomes)",
    "binary_id(targets::*)",
    "group(@global)",
    "test(=with\\u{20}a blank)",
    "test( a )",
    "kind(nothing)",
    "(all()\n - test(a))\n + test(b)",
];

#[test]
fn filtersets_select_what_they_select_under_cargo_nextest() {
    let name = "filtersets_select_what_they_select_under_cargo_nextest";
    if !installed("cargo-nextest", &["nextest", "--version"]) {
        return skip(name, "cargo-nextest is not installed");
    }
    let scene = Scene::new();
    let list = ["list", "--workspace", "-T", "oneline", "-E"];
    let mut selected = 0;
    for set in FILTERSETS {
        let mut theirs = scene.command("cargo-nextest");
        theirs.arg("nextest").args(list).arg(set);
        theirs.current_dir(fixture());
        theirs.env("CARGO_TARGET_DIR", shared_target());
        let mut ours = scene.harness(list);
        ours.arg(set);
        let (theirs, ours) = (scene.run(theirs), scene.run(ours));
        assert_eq!(ours.stdout, theirs.stdout, "{set}");
        let (code, expected) = (ours.status.code(), theirs.status.code());
        assert_eq!(code, expected, "{set}: {}", ours.stderr);
        selected += usize::from(!ours.stdout.is_empty());
    }
    assert!(selected > 15, "{selected} filtersets select something");
}
