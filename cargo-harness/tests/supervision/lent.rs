//! Tests that want the terminal: with captured output they have none, and without it is theirs while
//! they run.

use super::*;
use std::{fmt::Write as _, path::Path};

/// Asks its user in the ways of `ssh`, `sudo` and a shell.
const ASKS: &str = r#"
#[test]
fn has_none() {
    let opened = std::fs::File::open("/dev/tty");
    assert_eq!(opened.map_err(|error| error.raw_os_error()).err(), Some(Some(6)), "ENXIO");
    let set = std::process::Command::new("sh").args(["-c", "stty -echo < /dev/tty"]).status();
    assert!(!set.expect("there is a shell").success());
}

#[test]
fn asks() {
    use std::io::{BufRead, BufReader};
    let stty = |mode: &str| {
        let command = format!("stty {mode} < /dev/tty");
        let set = std::process::Command::new("sh").args(["-c", &command]).status();
        assert!(set.expect("there is a shell").success());
    };
    let mut terminal = BufReader::new(std::fs::File::open("/dev/tty").expect("it has a terminal"));
    let mut answer = String::new();
    stty("-echo");
    println!("first''question");
    terminal.read_line(&mut answer).expect("it is typed");
    std::io::stdin().read_line(&mut answer).expect("it is typed");
    println!("answers: {answer:?}");
    // What it leaves behind is none of its user's business.
    stty("raw");
}

#[test]
fn waits() {
    println!("waits''now");
    std::thread::sleep(std::time::Duration::from_secs(60));
}
"#;

fn run(scene: &Scene, folder: &Path, test: &str, options: &[&str]) -> Command {
    let args = ["run", "--color", "never", "-E"];
    let filter = format!("test(={test})");
    let args = [&args[..], &[&filter], options].concat();
    scene.harness_in(folder, &args)
}

#[test]
fn a_test_whose_output_is_captured_has_no_terminal_to_be_stopped_by() {
    let scene = Scene::new();
    let folder = scene.package("asks", ASKS);
    for level in ["off", "process", "io", "full"] {
        let Some(terminal) = Terminal::with_shell(&scene, "no terminal") else {
            return;
        };
        let before = terminal.mode();
        terminal.type_in(&line(&run(
            &scene,
            &folder,
            "has_none",
            &["--trace", level],
        )));
        terminal.await_shown("Summary");
        terminal.assert_given_back(&before, exit_code::OK);
    }
}

#[test]
fn without_capture_the_terminal_belongs_to_the_test_that_runs() {
    let scene = Scene::new();
    let folder = scene.package("asks", ASKS);
    for level in ["off", "io"] {
        let Some(terminal) = Terminal::with_shell(&scene, "terminal lent") else {
            return;
        };
        let before = terminal.mode();
        let options = ["--no-capture", "--trace", level];
        terminal.type_in(&line(&run(&scene, &folder, "asks", &options)));
        terminal.await_shown("first''question");
        // The run stops with the test, and both go on.
        terminal.type_in("\x1a");
        terminal.await_shell();
        terminal.assert_mode(&before);
        terminal.type_in("fg; last=$?\n");
        terminal.await_shown("Continuing");
        let hidden = || {
            let local = terminal.mode().local_flags;
            (!local.contains(LocalFlags::ECHO)).then_some(())
        };
        wait_until(SOON, hidden).unwrap_or_else(|| panic!("not its mode: {}", terminal.text()));
        terminal.type_in("one\n");
        terminal.type_in("two\n");
        terminal.await_shown(r#"answers: "one\ntwo\n""#);
        terminal.await_shown("Summary");
        terminal.assert_given_back(&before, exit_code::OK);
    }
}

#[test]
fn ctrl_c_ends_the_run_of_a_test_that_has_the_terminal() {
    let scene = Scene::new();
    let folder = scene.package("asks", ASKS);
    let Some(terminal) = Terminal::with_shell(&scene, "ctrl-c") else {
        return;
    };
    let before = terminal.mode();
    terminal.type_in(&line(&run(&scene, &folder, "waits", &["--no-capture"])));
    terminal.await_shown("waits''now");
    terminal.type_in("\x03");
    terminal.await_shown("Cancelling due to interrupt");
    terminal.assert_given_back(&before, exit_code::ended_by(SIGINT));
}

#[test]
fn a_debugger_has_the_terminal_and_ctrl_c_stops_its_program_and_not_the_run() {
    const TEST: &str = "a debugger in a terminal";
    if !environment::installed("gdb", &["--version"]) {
        return scene::skip(TEST, "there is no gdb");
    }
    let scene = Scene::new();
    let folder = scene.package("asks", ASKS);
    let Some(terminal) = Terminal::with_shell(&scene, TEST) else {
        return;
    };
    let before = terminal.mode();
    let options = ["--debugger", "gdb -q -nx --args"];
    terminal.type_in(&line(&run(&scene, &folder, "waits", &options)));
    terminal.await_shown("(gdb)");
    terminal.type_in("run\n");
    terminal.await_shown("waits''now");
    terminal.type_in("\x03");
    terminal.await_shown("SIGINT");
    terminal.type_in("kill\n");
    terminal.await_shown("(y or n)");
    terminal.type_in("y\n");
    terminal.await_shown("killed]");
    terminal.type_in("quit\n");
    terminal.await_shown("Summary");
    terminal.await_shell();
    terminal.assert_mode(&before);
    terminal.await_code(exit_code::OK);
    terminal.exit();
}

/// Tests that end as soon as they have begun.
fn instant_tests() -> String {
    let mut source = String::new();
    for number in 0..100 {
        let test =
            format!("#[test] fn t{number:03}() {{ println!(\"output of t{number:03}\"); }}\n");
        source.write_str(&test).expect("it is memory");
    }
    source
}

#[track_caller]
fn assert_in_order(text: &str) {
    let mut seen = Vec::new();
    for line in text.lines() {
        let kind = ["START", "output of", "PASS"]
            .into_iter()
            .find(|kind| line.contains(kind));
        let name = line.split_whitespace().next_back().unwrap_or_default();
        seen.extend(kind.map(|kind| (kind, name.to_owned())));
    }
    let expected = (0..100).flat_map(|number| {
        ["START", "output of", "PASS"].map(|kind| (kind, format!("t{number:03}")))
    });
    assert_eq!(seen, expected.collect::<Vec<_>>(), "{text}");
}

#[test]
fn without_capture_each_test_starts_prints_and_ends_before_the_next() {
    let scene = Scene::new();
    let folder = scene.package("instant", &instant_tests());
    let args = ["run", "--no-capture", "--color", "never"];
    let mut by_shell = scene.command("sh");
    let run = scene.harness_in(&folder, &args);
    by_shell
        .arg("-c")
        .arg(format!("({}) 2>&1", line(&run).trim_end()));
    let finished = scene.run(by_shell);
    assert_in_order(&finished.stdout);
    let Some(terminal) = Terminal::with_shell(&scene, "order") else {
        return;
    };
    terminal.type_in(&line(&run));
    terminal.await_shown("Summary");
    terminal.await_shell();
    let text = terminal.text();
    let (_, shown) = text.split_once("Starting").expect("it has begun");
    let (shown, _) = shown.split_once("Summary").expect("it has ended");
    assert_in_order(shown);
    terminal.exit();
}
