//! Terminals of several sizes.

use super::*;
use std::fmt::Write;

/// Sixty tests, three of which fail.
fn package(scene: &Scene) -> std::path::PathBuf {
    let mut tests = String::new();
    for nth in 0..60 {
        let body = match nth % 20 {
            7 => {
                "assert_eq!(\"a long text that differs\", \"a long text that differed\", \"why it did\");"
            }
            _ => "",
        };
        let _ = write!(
            tests,
            "#[test]\nfn a_test_with_a_name_that_is_rather_long_number_{nth}() {{ {body} }}\n"
        );
    }
    scene.package("screens", &tests)
}

#[test]
fn the_end_of_a_failing_run_fits_the_screen() {
    let scene = Scene::new();
    let folder = package(&scene);
    for (columns, rows) in [(40, 10), (80, 24), (132, 43)] {
        let arguments = ["--color", "never", "run", "--no-fail-fast"];
        let command = scene.harness_in(&folder, &arguments);
        let mut terminal = Terminal::sized(command, (columns, rows));
        let ended = wait_until(LONGEST_RUN, || {
            terminal.child.try_wait().expect("it is a child")
        });
        terminal.await_shown("error: test run failed");
        let code = ended.expect("it ends").code();
        assert_eq!(
            code,
            Some(exit_code::TEST_RUN_FAILED),
            "{}",
            terminal.text()
        );
        let text = terminal.text();
        assert!(!text.contains("PASS ["), "{text}");
        assert_eq!(text.matches("FAIL [").count(), 3, "{text}");
        let (_, end) = text.rsplit_once("Summary").expect("it has ended");
        let lines: Vec<_> = end.lines().collect();
        let failed: Vec<_> = lines.iter().filter(|line| line.contains("FAIL ")).collect();
        assert_eq!(failed.len(), 3, "{end}");
        for line in failed {
            assert!(
                line.chars().count() <= usize::from(columns),
                "{columns}: {line}"
            );
            assert!(line.contains("lib.rs:"), "{line}");
        }
        let taken: usize = lines
            .iter()
            .map(|line| 1 + line.chars().count() / usize::from(columns))
            .sum();
        assert!(taken < usize::from(rows), "{columns}×{rows}: {end}");
        assert!(end.contains("run --last-failed --no-fail-fast"), "{end}");
    }
}

#[test]
fn the_task_bar_shows_the_progress_and_is_cleared_by_ctrl_z_and_at_the_end() {
    let scene = Scene::new();
    let Some(terminal) = Terminal::with_shell(&scene, "the task bar") else {
        return;
    };
    let before = terminal.mode();
    let mut run = plain_run(&scene, "", "hangs|passes");
    run.env("CARGO_TERM_PROGRESS_TERM_INTEGRATION", "true");
    let group = start_in(&terminal, &scene, &run, "hangs");
    terminal.await_shown("\x1b]9;4;1;50\x1b\\");
    terminal.type_in("\x1a");
    terminal.await_shell();
    await_state(&[group], is_stopped);
    let cleared = |count| {
        let cleared =
            || (terminal.text().matches("\x1b]9;4;0;\x1b\\").count() == count).then_some(());
        wait_until(SOON, cleared).unwrap_or_else(|| panic!("not cleared: {}", terminal.text()));
    };
    cleared(1);
    terminal.type_in("fg; last=$?\n");
    terminal.await_keys(true);
    let again = || (terminal.text().matches("\x1b]9;4;1;50\x1b\\").count() >= 2).then_some(());
    wait_until(SOON, again).unwrap_or_else(|| panic!("not again: {}", terminal.text()));
    terminal.type_in("\x03");
    terminal.await_shown("Summary");
    cleared(2);
    terminal.assert_given_back(&before, exit_code::ended_by(SIGINT));
}

/// Returns all that a command shows on a terminal until it has ended.
fn shown(command: Command, code: i32) -> String {
    let mut terminal = Terminal::sized(command, (100, 30));
    let ended = wait_until(LONGEST_RUN, || {
        terminal.child.try_wait().expect("it is a child")
    });
    assert_eq!(
        ended.expect("it ends").code(),
        Some(code),
        "{}",
        terminal.text()
    );
    // The other side is closed: the rest has been read.
    let reader = terminal.reader.take().expect("it is there");
    reader.join().expect("it does not panic");
    terminal.text()
}

#[test]
fn places_are_links_where_the_terminal_opens_them() {
    let scene = Scene::new();
    let folder = package(&scene);
    let run = |options: &[&str], term_program: &str| {
        let arguments = [&["run", "--no-fail-fast"], options].concat();
        let mut command = scene.harness_in(&folder, &arguments);
        command
            .env("TERM_PROGRAM", term_program)
            .env("TERM_PROGRAM_VERSION", "99.0");
        for other in [
            "VTE_VERSION",
            "WT_SESSION",
            "KONSOLE_VERSION",
            "COLORTERM",
            "DOMTERM",
            "FORCE_HYPERLINK",
        ] {
            command.env_remove(other);
        }
        shown(command, exit_code::TEST_RUN_FAILED)
    };
    assert!(!run(&[], "").contains("\x1b]8;;"));
    let linked = run(&[], "WezTerm");
    assert_eq!(linked.matches("\x1b]8;;file://").count(), 3, "{linked}");
    assert!(linked.contains("/screens/src/lib.rs#"), "{linked}");
    // Cargo has links of its own.
    let unlinked = run(&["--hyperlinks", "never"], "WezTerm");
    assert!(!unlinked.contains("/screens/src/lib.rs#"), "{unlinked}");
    let options = [
        "--hyperlinks",
        "always",
        "--hyperlink-format",
        "vscode://file{path}:{line}",
    ];
    assert!(run(&options, "").contains("\x1b]8;;vscode://file/"));
}

#[test]
fn a_person_reads_the_list_in_a_pager() {
    let scene = Scene::new();
    let folder = package(&scene);
    let pager = |pager: &str| scene.write("person/harness/config.toml", pager);
    let shown = |arguments: &[&str]| {
        let arguments = [arguments, &["--color", "never"]].concat();
        let mut command = scene.harness_in(&folder, &arguments);
        command.env("XDG_CONFIG_HOME", scene.path("person"));
        self::shown(command, exit_code::OK)
    };
    pager("ui.pager = [\"sed\", \"s/^/paged: /\"]\n");
    let list = shown(&["list"]);
    assert!(list.contains("paged: screens:"), "{list}");
    assert_eq!(list.matches("paged:     a_test_with").count(), 60, "{list}");
    assert!(shown(&["show-config", "run"]).contains("paged: "));
    assert!(shown(&["run", "--help"]).contains("paged: Build and run tests"));
    assert!(!shown(&["list", "--no-pager"]).contains("paged: "));
    assert!(!shown(&["list", "--message-format", "json"]).contains("paged: "));
    pager("ui.pager = \"true\"\n");
    assert!(!shown(&["list"]).contains("a_test_with"));
    pager("ui.pager = \"no-such-pager -x\"\n");
    let list = shown(&["list"]);
    assert!(
        list.contains("failed to start the pager `no-such-pager -x`"),
        "{list}"
    );
    assert!(list.contains("a_test_with"), "{list}");
    pager("ui.paginate = \"never\"\nui.pager = [\"sed\", \"s/^/paged: /\"]\n");
    assert!(!shown(&["list"]).contains("paged: "));
}
