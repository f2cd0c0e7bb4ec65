//! Job control while setup scripts and services start.

use super::*;
use nix::{sys::stat::Mode, unistd::mkfifo};
use std::path::Path;

/// Returns a command of a shell that goes on when a line comes through a pipe. It has no children while
/// it waits: a shell whose child was stopped between vfork(2) and execve(2) sleeps and does not stop.
fn waits(begun: &Path, go: &Path, then: &str) -> String {
    let (begun, go) = (begun.display(), go.display());
    format!("['sh', '-c', ': > {begun}; read line < {go}; {then}']")
}

/// Stops a run and lets it go on, while it waits for a process that `config` makes of a command.
fn stops_and_goes_on(test: &str, then: &str, config: impl Fn(&str) -> String) {
    let scene = Scene::new();
    let Some(terminal) = Terminal::with_shell(&scene, test) else {
        return;
    };
    let before = terminal.mode();
    let (begun, go) = (scene.path("begun"), scene.path("go"));
    mkfifo(&go, Mode::S_IRWXU).expect("it can be made");
    let rule = "[[profile.default.scripts]]\nfilter = 'all()'\n";
    let config = format!("{}{rule}", config(&waits(&begun, &go, then)));
    let config = match config.contains("[scripts.setup.") {
        true => format!("{config}setup = 's'\n"),
        false => format!("{config}service = 's'\n"),
    };
    terminal.type_in(&line(&plain_run(&scene, &config, "passes")));
    wait_until(LONGEST_RUN, || begun.exists().then_some(())).expect("it begins");
    let waiting = await_processes(&scene, "sh -c : >", 1);
    for _ in 0..3 {
        let in_front = || {
            let group = tcgetpgrp(terminal.master()).ok()?;
            (group.as_raw() != terminal.child.id().cast_signed()).then_some(())
        };
        wait_until(SOON, in_front).expect("the run is in the foreground");
        terminal.type_in("\x1a");
        terminal.await_shell();
        await_state(&waiting, is_stopped);
        terminal.assert_mode(&before);
        terminal.type_in("fg; last=$?\n");
        await_state(&waiting, |state| !is_stopped(state));
    }
    // Opened for both, a pipe without a reader blocks no writer (fifo(7)).
    let mut pipe = fs::File::options().read(true).write(true).open(go);
    let pipe = pipe.as_mut().expect("it is there");
    pipe.write_all(b"go\n").expect("there is room");
    terminal.assert_given_back(&before, exit_code::OK);
    scene.assert_no_strays();
}

#[test]
fn ctrl_z_stops_a_setup_script_and_fg_lets_it_go_on() {
    stops_and_goes_on("ctrl-z during a setup script", "true", |command| {
        format!("[scripts.setup.s]\ncommand = {command}\n")
    });
}

#[test]
fn ctrl_z_stops_a_service_that_starts_and_fg_lets_it_go_on() {
    stops_and_goes_on(
        "ctrl-z while a service starts",
        "echo ready; sleep 1000",
        |command| {
            format!("[scripts.service.s]\ncommand = {command}\nready = {{ line = 'ready' }}\n")
        },
    );
}
