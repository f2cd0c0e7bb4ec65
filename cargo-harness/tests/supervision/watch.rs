//! Tests that run again when files change.

use super::*;
use std::path::Path;

/// A workspace of two packages; these are the bodies of a test in each.
fn workspace(scene: &Scene, bodies: [(&str, &str); 2]) {
    scene.write(
        "it/Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"a\", \"b\"]\n",
    );
    for (name, body) in bodies {
        let manifest =
            format!("[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n");
        scene.write(&format!("it/{name}/Cargo.toml"), &manifest);
        scene.write(&format!("it/{name}/src/lib.rs"), &source(name, body));
    }
    scene.write("it/.gitignore", "*.log\ntarget\n");
}

fn source(name: &str, body: &str) -> String {
    format!("#[test] fn of_{name}() {{ {body} }}\n")
}

/// Fails while a file is there that is no source.
const BROKEN: &str = "assert!(!std::path::Path::new(\"broken\").exists());";

/// Lasts until an ignored file is there.
const GATE: &str = "while !std::path::Path::new(\"../go.log\").exists() { \
                    std::thread::sleep(std::time::Duration::from_millis(5)); }";

fn command(scene: &Scene, further: &[&str]) -> Command {
    let mut args = vec!["watch", "--color", "never", "--show-progress", "none"];
    args.extend(further);
    scene.harness_in(&scene.path("it"), &args)
}

/// Waits until the terminal has shown this so often.
fn await_times(terminal: &Terminal, text: &str, times: usize) {
    let shown = || (terminal.text().matches(text).count() >= times).then_some(());
    wait_until(LONGEST_RUN, shown)
        .unwrap_or_else(|| panic!("not {times} times `{text}`: {}", terminal.text()));
}

/// Waits until a number of runs have ended and keys are read.
fn await_runs(terminal: &Terminal, times: usize) {
    await_times(terminal, "waiting for changes", times);
    terminal.await_keys(true);
}

fn runs(terminal: &Terminal) -> usize {
    terminal.text().matches("waiting for changes").count()
}

fn await_code(terminal: &mut Terminal, code: i32) {
    let ended = wait_until(SOON, || terminal.child.try_wait().expect("it is a child"));
    let ended = ended.unwrap_or_else(|| panic!("it does not end: {}", terminal.text()));
    assert_eq!(ended.code(), Some(code), "{}", terminal.text());
}

#[test]
fn a_watch_runs_what_a_change_can_affect_and_what_keys_ask_for() {
    let scene = Scene::new();
    workspace(&scene, [("a", ""), ("b", BROKEN)]);
    let mut terminal = Terminal::new(command(&scene, &[]));
    let before = terminal.mode();
    await_runs(&terminal, 1);
    await_times(&terminal, "2 tests run: 2 passed", 1);

    // Nothing that git ignores is a change.
    scene.write("it/a/ignored.log", "x");
    scene.write("it/a/src/lib.rs", &source("a", "/* changed */"));
    await_runs(&terminal, 2);
    let said = "`a/src/lib.rs` has changed; running tests of `a`\r\n";
    await_times(&terminal, said, 1);
    await_times(&terminal, "1 test run: 1 passed", 1);
    scene.write("it/b/broken", "");
    await_runs(&terminal, 3);
    await_times(&terminal, "running tests of `b`\r\n", 1);
    await_times(&terminal, "1 test run: 0 passed, 1 failed", 1);

    terminal.type_in("f");
    await_runs(&terminal, 4);
    await_times(&terminal, "1 test run: 0 passed, 1 failed", 2);
    terminal.type_in("pof_a\r");
    await_runs(&terminal, 5);
    await_times(&terminal, "to tests named `of_a`", 1);
    await_times(&terminal, "1 test run: 1 passed", 2);
    terminal.type_in("\r");
    await_runs(&terminal, 6);
    await_times(&terminal, "1 test run: 1 passed", 3);
    // The name holds for changes too, and a package without such a test is no mistake.
    fs::remove_file(scene.path("it/b/broken")).expect("it was written");
    await_runs(&terminal, 7);
    await_times(&terminal, "warning: no tests to run", 1);
    // The first byte of an arrow is Esc, its last one is no `a`.
    terminal.type_in("\x1b[A");
    terminal.type_in("?");
    await_times(&terminal, "waiting for changes to tests named", 4);
    terminal.type_in("a");
    // The menu that was asked for is one more.
    await_runs(&terminal, 9);
    await_times(&terminal, "2 tests run: 2 passed", 2);
    terminal.type_in("q");
    await_code(&mut terminal, exit_code::OK);
    terminal.assert_mode(&before);
    assert!(
        !terminal.text().contains("ignored.log"),
        "{}",
        terminal.text()
    );
}

#[test]
fn a_burst_of_changes_is_one_run_and_a_change_during_a_run_is_the_next() {
    let scene = Scene::new();
    workspace(&scene, [("a", GATE), ("b", "")]);
    let mut terminal = Terminal::new(command(&scene, &["-E", "all()"]));
    await_processes(&scene, "--exact of_a", 1);
    for number in 0..40 {
        scene.write(&format!("it/b/src/part_{number}.rs"), "");
    }
    // The run goes on with what it has built.
    assert!(!terminal.text().contains("changed"), "{}", terminal.text());
    scene.write("it/go.log", "");
    await_runs(&terminal, 1);
    let said = "`b/src/part_0.rs` and 39 other files have changed; running tests of `b`\r\n";
    await_times(&terminal, said, 1);
    await_times(&terminal, "1 test run: 1 passed", 1);
    for number in 0..40 {
        scene.write(&format!("it/b/src/part_{number}.rs"), "// changed\n");
    }
    await_runs(&terminal, 2);
    await_times(&terminal, said, 2);
    terminal.type_in("q");
    await_code(&mut terminal, exit_code::OK);
    assert_eq!(runs(&terminal), 2, "{}", terminal.text());
}

#[test]
fn tests_that_a_broken_build_kept_from_running_run_with_the_next_change() {
    let scene = Scene::new();
    workspace(&scene, [("a", ""), ("b", "")]);
    let mut terminal = Terminal::new(command(&scene, &[]));
    await_runs(&terminal, 1);
    scene.write("it/a/src/lib.rs", "fn broken");
    await_runs(&terminal, 2);
    await_times(&terminal, "could not compile `a`", 1);
    scene.write("it/b/src/lib.rs", &source("b", "/* changed */"));
    await_runs(&terminal, 3);
    await_times(&terminal, "running tests of `a`, `b`\r\n", 1);
    scene.write("it/a/src/lib.rs", &source("a", "/* mended */"));
    await_runs(&terminal, 4);
    await_times(&terminal, "running tests of `a`, `b`\r\n", 2);
    await_times(&terminal, "2 tests run: 2 passed", 2);
    terminal.type_in("q");
    await_code(&mut terminal, exit_code::OK);
}

#[test]
fn files_that_runs_write_do_not_keep_them_going() {
    let writes = "let now = std::time::SystemTime::now(); \
                  std::fs::write(\"out.txt\", format!(\"{now:?}\")).unwrap();";
    let scene = Scene::new();
    workspace(&scene, [("a", writes), ("b", "")]);
    let reports = ["--junit", "junit.xml", "--events", "events.ndjson"];
    let mut terminal = Terminal::new(command(&scene, &reports));
    await_times(
        &terminal,
        "`a/out.txt` has changed in two runs, so tests write it",
        1,
    );
    await_runs(&terminal, 1);
    scene.write(
        "it/a/src/lib.rs",
        &source("a", &format!("{writes} /* changed */")),
    );
    await_runs(&terminal, 2);
    terminal.type_in("q");
    await_code(&mut terminal, exit_code::OK);
    assert_eq!(runs(&terminal), 2, "{}", terminal.text());
    assert!(scene.path("it/junit.xml").exists());
    assert!(
        !terminal.text().contains("junit.xml"),
        "{}",
        terminal.text()
    );
}

#[test]
fn ctrl_c_ends_a_watch_and_its_run_and_the_terminal_is_as_it_was_found() {
    let scene = Scene::new();
    workspace(&scene, [("a", GATE), ("b", "")]);
    let mut terminal = Terminal::new(command(&scene, &[]));
    let before = terminal.mode();
    await_processes(&scene, "--exact of_a", 1);
    terminal.await_keys(true);
    terminal.type_in("\x03");
    await_code(&mut terminal, exit_code::ended_by(SIGINT));
    await_times(&terminal, "Interrupted the run received SIGINT", 1);
    terminal.assert_mode(&before);
    drop(terminal);

    scene.write("it/go.log", "");
    let mut terminal = Terminal::new(command(&scene, &[]));
    await_runs(&terminal, 1);
    terminal.type_in("\x03");
    await_code(&mut terminal, exit_code::ended_by(SIGINT));
    terminal.assert_mode(&before);
}

#[test]
fn ctrl_z_stops_a_watch_and_its_run_and_gives_the_terminal_back() {
    let scene = Scene::new();
    let Some(terminal) = Terminal::with_shell(&scene, "ctrl-z of a watch") else {
        return;
    };
    workspace(&scene, [("a", GATE), ("b", "")]);
    let before = terminal.mode();
    let mut command = command(&scene, &["-j", "2"]);
    command.env("CARGO_TERM_COLOR", "never");
    terminal.type_in(&line(&command));
    let test = await_processes(&scene, "--exact of_a", 1);
    terminal.await_keys(true);
    let job = tcgetpgrp(terminal.master())
        .expect("a job is there")
        .as_raw();
    for running in [true, false] {
        terminal.type_in("\x1a");
        terminal.await_shell();
        terminal.assert_mode(&before);
        await_state(&[job], is_stopped);
        if running {
            await_state(&test, is_stopped);
        }
        terminal.type_in("fg; last=$?\n");
        await_state(&[job], |state| !is_stopped(state));
        terminal.await_keys(true);
        if running {
            scene.write("it/go.log", "");
            await_runs(&terminal, 1);
            await_times(&terminal, "2 tests run: 2 passed", 1);
        }
    }
    terminal.type_in("q");
    terminal.assert_given_back(&before, exit_code::OK);
}

#[test]
fn without_a_terminal_a_watch_says_so_and_a_signal_ends_it_and_its_run() {
    let scene = Scene::new();
    workspace(&scene, [("a", ""), ("b", "")]);
    let watch = scene.start(command(&scene, &[]));
    let said = |text: &str, times: usize| {
        let shown = || (watch.stderr_so_far().matches(text).count() >= times).then_some(());
        wait_until(LONGEST_RUN, shown)
            .unwrap_or_else(|| panic!("no `{text}`: {}", watch.stderr_so_far()));
    };
    said("no keys are read, and SIGINT or SIGTERM ends the watch", 1);
    scene.write("it/a/src/lib.rs", &source("a", GATE));
    said("running tests of `a`\n", 1);
    await_processes(&scene, "--exact of_a", 1);
    watch.signal(Signal::SIGTERM);
    let ended = watch.finish();
    ended.assert_code(exit_code::ended_by(Signal::SIGTERM as i32));
    ended.assert_says("Interrupted the run received SIGTERM");
    scene.assert_no_strays();
}

#[test]
fn a_watch_of_a_build_that_never_changes_is_refused() {
    let scene = Scene::new();
    workspace(&scene, [("a", ""), ("b", "")]);
    let refused = |args: &[&str], why: &str| {
        let refused = scene.run(command(&scene, args));
        refused.assert_code(exit_code::USAGE).assert_says(why);
    };
    refused(&["--debugger", "gdb"], "`watch` takes no `--debugger`");
    refused(
        &["--archive-file", "tests.tar.zst"],
        "a build that is reused never changes",
    );
    let nowhere = scene.harness_in(Path::new("/"), &["watch"]);
    scene.run(nowhere).assert_code(exit_code::METADATA_FAILED);
}
