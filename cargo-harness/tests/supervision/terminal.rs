//! Runs in a terminal: keys, job control, and a terminal that is left exactly as it was found.

#![expect(
    unsafe_code,
    reason = "there is no safe way to give a child a terminal of its own"
)]

#[path = "lent.rs"]
mod lent;
#[path = "screens.rs"]
mod screens;
#[path = "starting.rs"]
mod starting;
#[path = "watch.rs"]
mod watch;

use super::*;
use crate::{package::zoo, processes::state};
use harness_metadata::event::{CancelReason, RunningDetail, RunningState};
use nix::{
    libc,
    poll::{PollFd, PollFlags, poll},
    pty::openpty,
    sys::termios::{LocalFlags, Termios, tcgetattr},
    unistd::tcgetpgrp,
};
use std::{
    fs::File,
    io::Read,
    os::fd::AsFd,
    process::{Child, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// A terminal with a program in its foreground.
struct Terminal {
    /// `None` once the terminal is gone.
    master: Option<File>,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Reads the shown text, until it is stopped.
    reader: Option<thread::JoinHandle<()>>,
    done: Arc<AtomicBool>,
    child: Child,
}

impl Terminal {
    /// Starts a program in a terminal of its own, as the leader of a session.
    fn new(command: Command) -> Self {
        // More than the rows of the progress bar, and so wide that no name is cut.
        Self::sized(command, (200, 40))
    }

    /// As before, with so many columns and rows.
    fn sized(mut command: Command, (columns, rows): (u16, u16)) -> Self {
        let pty = openpty(None, None).expect("there are terminals");
        let size = libc::winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let copy = || Stdio::from(pty.slave.try_clone().expect("it can be cloned"));
        command.stdin(copy()).stdout(copy()).stderr(copy());
        command.env("TERM", "xterm").env_remove("CI");
        let attach = move || {
            nix::unistd::setsid()?;
            // SAFETY: standard input is the terminal; the rest are numbers.
            nix::errno::Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })?;
            // SAFETY: reads a copy that belongs to the closure.
            nix::errno::Errno::result(unsafe {
                libc::ioctl(0, libc::TIOCSWINSZ, &raw const size)
            })?;
            Ok(())
        };
        // SAFETY: the closure makes system calls only.
        unsafe { command.pre_exec(attach) };
        let child = command.spawn().expect("it starts");
        // With it the last descriptor of the other side that is not the program's own.
        drop(command);
        drop(pty.slave);
        let master = File::from(pty.master);
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let done = Arc::<AtomicBool>::default();
        let mut from = master.try_clone().expect("it can be cloned");
        let (to, stop) = (Arc::clone(&shown), Arc::clone(&done));
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while !stop.load(Ordering::Relaxed) {
                let mut wait = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
                if poll(&mut wait, 20u8).is_ok_and(|ready| ready > 0) {
                    match from.read(&mut bytes) {
                        Ok(count @ 1..) => {
                            to.lock()
                                .expect("no thread panics with it")
                                .extend(&bytes[..count]);
                        }
                        // EIO when no process has the other side open any more.
                        _ => return,
                    }
                }
            }
        });
        Self {
            master: Some(master),
            shown,
            reader: Some(reader),
            done,
            child,
        }
    }

    /// Starts a shell that leaves the terminal's mode to the programs that it runs. Returns `None`,
    /// having said so, where there is none.
    fn with_shell(scene: &Scene, test: &str) -> Option<Self> {
        if !environment::installed("dash", &["-c", "true"]) {
            scene::skip(test, "there is no dash");
            return None;
        }
        let mut shell = scene.command("dash");
        shell.arg("-i").env("PS1", "READY ").env_remove("ENV");
        let shell = Self::new(shell);
        shell.await_shown("READY ");
        Some(shell)
    }

    fn master(&self) -> &File {
        self.master.as_ref().expect("it is there")
    }

    fn mode(&self) -> Termios {
        tcgetattr(self.master()).expect("it is a terminal")
    }

    /// Returns whether keys come one by one and unseen.
    fn takes_keys(&self) -> bool {
        let local = self.mode().local_flags;
        !local.intersects(LocalFlags::ICANON | LocalFlags::ECHO)
    }

    fn await_keys(&self, wanted: bool) {
        let taken = || (self.takes_keys() == wanted).then_some(());
        wait_until(SOON, taken).unwrap_or_else(|| panic!("not so: keys {wanted}: {}", self.text()));
    }

    fn type_in(&self, text: &str) {
        self.master()
            .write_all(text.as_bytes())
            .expect("it takes them");
    }

    fn text(&self) -> String {
        let shown = self.shown.lock().expect("no thread panics with it");
        String::from_utf8_lossy(&shown).into_owned()
    }

    fn await_shown(&self, text: &str) {
        let shown = || self.text().contains(text).then_some(());
        wait_until(SOON, shown).unwrap_or_else(|| panic!("no `{text}`: {}", self.text()));
    }

    /// Fails unless the last run that this shell has waited for ended so.
    fn await_code(&self, code: i32) {
        let said = format!("its code={code}\r\n");
        let asked = || {
            // The echo of what is typed is not what is waited for. Asked again, because a shell
            // forgets what it reads when Ctrl-C comes.
            self.type_in("echo its code''=$last\n");
            let answer = || self.text().contains("its code=").then_some(());
            wait_until(Duration::from_secs(1), answer)
        };
        wait_until(SOON, asked).unwrap_or_else(|| panic!("no code: {}", self.text()));
        self.await_shown(&said);
    }

    /// Fails unless the mode is exactly this one.
    #[track_caller]
    fn assert_mode(&self, before: &Termios) {
        assert_eq!(
            libc_mode(&self.mode()),
            libc_mode(before),
            "{}",
            self.text()
        );
    }

    /// Waits until the shell is in the foreground again, with nothing between.
    fn await_shell(&self) {
        let back = || {
            let group = tcgetpgrp(self.master()).ok()?;
            (group.as_raw() == self.child.id().cast_signed()).then_some(())
        };
        wait_until(SOON, back).unwrap_or_else(|| panic!("no shell: {}", self.text()));
    }

    /// Waits until the shell has the terminal again, as it was before a run that ended with this code.
    /// Then the shell ends.
    #[track_caller]
    fn assert_given_back(self, before: &Termios, code: i32) {
        self.await_shell();
        self.assert_mode(before);
        self.await_code(code);
        self.exit();
    }

    /// Ends the shell.
    fn exit(mut self) {
        self.type_in("exit\n");
        let ended = wait_until(SOON, || self.child.try_wait().expect("it is a child"));
        if ended.is_none() {
            self.child.kill().expect("it is a child");
            self.child.wait().expect("it is a child");
        }
        assert!(ended.is_some(), "the shell does not end: {}", self.text());
    }
}

/// All that tcgetattr(3) tells.
fn libc_mode(mode: &Termios) -> (u32, u32, u32, u32, Vec<u8>) {
    let mode = libc::termios::from(mode.clone());
    (
        mode.c_iflag,
        mode.c_oflag,
        mode.c_cflag,
        mode.c_lflag,
        mode.c_cc.to_vec(),
    )
}

/// Returns the run as a line for a shell.
fn line(command: &Command) -> String {
    let quoted = |text: &std::ffi::OsStr| {
        format!(
            "'{}'",
            text.to_str().expect("it is text").replace('\'', r"'\''")
        )
    };
    let mut words = vec!["env".to_owned()];
    let folder = command.get_current_dir().expect("it has one").as_os_str();
    for (name, value) in command.get_envs() {
        let name = name.to_str().expect("it is text");
        // The shell has the rest already.
        if let Some(value) = value.filter(|_| name.starts_with("ZOO") || name.starts_with("CARGO"))
        {
            words.push(format!("{name}={}", quoted(value)));
        }
    }
    words.push(quoted(command.get_program()));
    words.extend(command.get_args().map(quoted));
    format!("cd {} && {}; last=$?\n", quoted(folder), words.join(" "))
}

/// Returns a run of these tests of the zoo, two at a time however many CPUs there are, without colors.
fn plain_run(scene: &Scene, config: &str, tests: &str) -> Command {
    let mut run = zoo_run(scene, config, tests);
    run.args(["--color", "never", "-j", "2"]);
    run
}

/// Starts a run in a shell and waits until it listens to keys. Returns its process id.
fn start_in(terminal: &Terminal, scene: &Scene, run: &Command, test: &str) -> i32 {
    terminal.type_in(&line(run));
    await_processes(scene, &format!("--exact {test}"), 1);
    terminal.await_keys(true);
    let group = tcgetpgrp(terminal.master())
        .expect("a job is in the foreground")
        .as_raw();
    assert!(
        group > 1 && group != terminal.child.id().cast_signed(),
        "{}",
        terminal.text()
    );
    group
}

#[test]
fn keys_tell_what_runs_and_how_far_the_run_is() {
    let scene = Scene::new();
    let Some(terminal) = Terminal::with_shell(&scene, "keys") else {
        return;
    };
    let before = terminal.mode();
    let run = plain_run(&scene, "", "ignores_signals|passes");
    start_in(&terminal, &scene, &run, "ignores_signals");
    ends::await_deaf(&scene);
    // A single request shows the state at that time.
    ends::await_event(&scene, "test-finished");
    let test = processes(&scene, "--exact ignores_signals")[0];
    let waits = format!("pid {test}, stdout ");
    let told = || {
        terminal.type_in("t");
        terminal.text().contains("waited in pause").then_some(())
    };
    wait_until(SOON, told).unwrap_or_else(|| panic!("no status: {}", terminal.text()));
    terminal.await_shown("Status 1 test running");
    terminal.await_shown(&waits);
    terminal.await_shown("ignores all that can be ignored");
    terminal.type_in("\n");
    terminal.await_shown("1/2: 1 running, 1 passed");
    // What is typed is not shown, and Ctrl-C is still a signal.
    assert!(!terminal.text().contains("\rt"), "{}", terminal.text());
    terminal.type_in("\x03");
    terminal.await_shown("Cancelling due to interrupt");
    terminal.type_in("\x03");
    terminal.assert_given_back(&before, exit_code::ended_by(SIGINT));
}

#[test]
fn sigusr1_tells_what_runs_without_a_terminal() {
    for trace in ["process", "off"] {
        let scene = Scene::new();
        let mut run = plain_run(&scene, "", "ignores_signals");
        run.args(["--trace", trace]);
        let run = scene.start(run);
        let test = await_processes(&scene, "--exact ignores_signals", 1)[0];
        let told = || {
            run.signal(Signal::SIGUSR1);
            let told = ends::statuses(&scene).pop()?.pop()?;
            let detail = told.detail.as_ref()?;
            (!detail.tasks.is_empty() && detail.stdout.as_ref()?.written > 0).then_some(told)
        };
        let told = wait_until(SOON, told).expect("it is shown");
        assert_eq!(told.state, RunningState::Running);
        let RunningDetail { pid, stdout, .. } = *told.detail.expect("it was there");
        assert_eq!(pid, Some(test));
        let last = stdout.expect("it is captured").last;
        assert_eq!(last.as_bytes(), b"ignores all that can be ignored");
        run.signal(Signal::SIGINT);
        run.signal(Signal::SIGTERM);
        run.finish().assert_says("Status 1 test running");
    }
}

#[test]
fn the_terminal_is_as_it_was_found_however_the_run_ends() {
    type End = fn(&Terminal, &Scene, i32);
    let ends: [(&str, &str, i32, End); 6] = [
        ("hangs", "", 130, |terminal, _, _| terminal.type_in("\x03")),
        ("hangs", "", 131, |terminal, _, _| terminal.type_in("\x1c")),
        // Not before it has been seen to run.
        ("hangs", "global-timeout = '10s'", 124, |_, _, _| {}),
        ("hangs", "", 143, |_, _, run| send(run, Signal::SIGTERM)),
        // As a shell has it that does not look after the terminal itself.
        ("hangs", "", 137, |_, _, run| send(run, Signal::SIGKILL)),
        ("hangs", "", 134, |_, _, run| send(run, Signal::SIGABRT)),
    ];
    for (test, config, code, end) in ends {
        let scene = Scene::new();
        let Some(terminal) = Terminal::with_shell(&scene, "a terminal as found") else {
            return;
        };
        let before = terminal.mode();
        let run = start_in(&terminal, &scene, &plain_run(&scene, config, test), test);
        end(&terminal, &scene, run);
        terminal.await_shell();
        terminal.await_keys(false);
        terminal.assert_mode(&before);
        terminal.await_code(code);
        terminal.exit();
    }
}

#[test]
fn the_third_ctrl_c_leaves_the_terminal_as_it_was_found() {
    let scene = Scene::new();
    let Some(terminal) = Terminal::with_shell(&scene, "three times ctrl-c") else {
        return;
    };
    let before = terminal.mode();
    let grace = "slow-timeout = { period = '60s', grace-period = '600s' }";
    let run = plain_run(&scene, grace, "ignores_signals");
    start_in(&terminal, &scene, &run, "ignores_signals");
    ends::await_deaf(&scene);
    terminal.type_in("\x03");
    terminal.await_shown("Cancelling due to interrupt");
    terminal.type_in("\x03");
    terminal.await_shown("Killing due to interrupt");
    terminal.type_in("\x03");
    terminal.assert_given_back(&before, exit_code::ended_by(SIGINT));
}

#[test]
fn job_control_gives_the_terminal_back_and_takes_it_again() {
    let scene = Scene::new();
    let Some(terminal) = Terminal::with_shell(&scene, "job control") else {
        return;
    };
    let before = terminal.mode();
    let run = start_in(&terminal, &scene, &plain_run(&scene, "", "hangs"), "hangs");
    for _ in 0..3 {
        terminal.type_in("\x1a");
        terminal.await_shell();
        await_state(&[run], is_stopped);
        terminal.assert_mode(&before);
        terminal.type_in("fg; last=$?\n");
        terminal.await_keys(true);
    }
    // Stopped by force, it cannot give anything back; no other program has a mode of
    // its own here. Continued, it goes on as before.
    send(run, Signal::SIGSTOP);
    terminal.await_shell();
    terminal.type_in("fg; last=$?\n");
    await_state(&[run], |state| !is_stopped(state));
    terminal.await_keys(true);
    terminal.type_in("\x1a");
    terminal.await_shell();
    await_state(&[run], is_stopped);
    terminal.assert_mode(&before);
    terminal.type_in("bg\n");
    await_state(&[run], |state| !is_stopped(state));
    // In the background it shows its progress, but leaves mode and keys alone.
    terminal.await_shown("Continuing");
    terminal.type_in("echo who reads''=this\n");
    terminal.await_shown("who reads=this");
    terminal.assert_mode(&before);
    assert!(state(run).is_some_and(|state| !is_stopped(state)));
    terminal.type_in("fg; last=$?\n");
    // A shell sends no signal when a running job comes to the foreground.
    terminal.await_keys(true);
    terminal.type_in("\x03");
    terminal.assert_given_back(&before, exit_code::ended_by(SIGINT));
}

#[test]
fn keys_are_left_alone_where_nobody_wants_them() {
    for option in ["--no-input-handler", "--no-capture"] {
        let scene = Scene::new();
        let Some(terminal) = Terminal::with_shell(&scene, "keys left alone") else {
            return;
        };
        let before = terminal.mode();
        let mut run = plain_run(&scene, "", "hangs");
        run.arg(option);
        terminal.type_in(&line(&run));
        await_processes(&scene, "--exact hangs", 1);
        terminal.type_in("echoed");
        terminal.await_shown("echoed");
        terminal.assert_mode(&before);
        terminal.type_in("\x03");
        terminal.assert_given_back(&before, exit_code::ended_by(SIGINT));
    }
}

/// Takes the terminal away from a run of two tests that is the leader of its session, and returns how
/// it ended.
fn hung_up(scene: &Scene, command: Command) -> Option<i32> {
    let mut terminal = Terminal::new(command);
    await_processes(scene, "--exact hangs", 1);
    // Or the other one might not have been started.
    ends::await_event(scene, "test-finished");
    terminal.await_keys(true);
    terminal.done.store(true, Ordering::Relaxed);
    let reader = terminal.reader.take().expect("it is there");
    reader.join().expect("it does not panic");
    // The last descriptor of this side.
    drop(terminal.master.take());
    let ended = wait_until(SOON, || terminal.child.try_wait().expect("it is a child"));
    if ended.is_none() {
        terminal.child.kill().expect("it is a child");
        terminal.child.wait().expect("it is a child");
    }
    ended.expect("it ends").code()
}

#[test]
fn a_run_whose_terminal_goes_away_ends_and_tells_the_rest() {
    let scene = Scene::new();
    let mut run = plain_run(&scene, "", "hangs|passes");
    run.arg("--junit").arg(scene.path("junit.xml"));
    let code = hung_up(&scene, run);
    // It learns of it by SIGHUP, by a write that fails, or by both.
    assert_eq!(code, Some(exit_code::ended_by(Signal::SIGHUP as i32)));
    scene.assert_no_strays();
    assert_eq!(last_attempts(&scene).len(), 2);
    let junit = fs::read_to_string(scene.path("junit.xml")).expect("it was written");
    assert!(junit.contains("tests=\"2\""), "{junit}");
}

#[test]
fn a_run_that_ignores_the_end_of_its_terminal_cannot_report_and_says_so_by_its_code() {
    let scene = Scene::new();
    let mut run = plain_run(&scene, "", "hangs|passes");
    run.arg("--junit").arg(scene.path("junit.xml"));
    let deaf = "trap '' HUP; exec \"$@\"";
    let code = hung_up(&scene, scene.wrapped(&run, "sh", &["-c", deaf, "sh"]));
    assert_eq!(code, Some(exit_code::WRITE_FAILED));
    scene.assert_no_strays();
    assert_eq!(last_attempts(&scene).len(), 2);
    let junit = fs::read_to_string(scene.path("junit.xml")).expect("it was written");
    assert!(junit.contains("type=\"report-failed\""), "{junit}");
}

/// Waits for the end of a run of which not all output goes to files, and does something to it
/// meanwhile, again and again.
fn code_of(mut run: Child, meanwhile: impl Fn(i32)) -> Option<i32> {
    let ended = wait_until(SOON, || {
        meanwhile(run.id().cast_signed());
        run.try_wait().expect("it is a child")
    });
    if ended.is_none() {
        run.kill().expect("it is a child");
        run.wait().expect("it is a child");
    }
    ended.expect("it ends").code()
}

#[test]
fn a_run_whose_messages_go_to_a_pipe_that_is_closed_ends_and_tells_the_rest() {
    let scene = Scene::new();
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = plain_run(&scene, "", "hangs|passes");
    command.arg("--junit").arg(scene.path("junit.xml"));
    command.stderr(writer);
    let run = command.spawn().expect("it starts");
    drop(command);
    // What cargo has to say comes first, and matters to it.
    let mut shown = Vec::new();
    let mut bytes = [0; 4096];
    while !String::from_utf8_lossy(&shown).contains("Starting 2 tests") {
        let count = reader.read(&mut bytes).expect("it is a pipe");
        assert!(count > 0, "{}", String::from_utf8_lossy(&shown));
        shown.extend(&bytes[..count]);
    }
    drop(reader);
    // All that it has to say by itself may have been said.
    let ask = |run| send(run, Signal::SIGUSR1);
    assert_eq!(code_of(run, ask), Some(exit_code::WRITE_FAILED));
    scene.assert_no_strays();
    let finished = ends::run_finished(&scene);
    assert_eq!(finished.cancelled, Some(CancelReason::ReportFailed));
    let junit = fs::read_to_string(scene.path("junit.xml")).expect("it was written");
    assert!(junit.contains("tests=\"2\""), "{junit}");
}

#[test]
fn a_run_whose_events_nobody_reads_comes_to_its_end_and_says_so() {
    let scene = Scene::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = scene.harness(["run", "--no-fail-fast", "--events", "-", "--junit"]);
    command
        .arg(scene.path("junit.xml"))
        .args(["--test", "zoo", "-E", "test(/^(fails|passes)$/)"])
        .current_dir(zoo())
        .env("CARGO_TARGET_DIR", zoo().join("target"))
        .stderr(File::create(scene.path("stderr")).expect("it can be created"))
        .stdout(writer);
    let run = command.spawn().expect("it starts");
    assert_eq!(code_of(run, |_| ()), Some(exit_code::WRITE_FAILED));
    let stderr = fs::read_to_string(scene.path("stderr")).expect("it was written");
    for part in [
        "2 tests run: 1 passed, 1 failed",
        "error: failed to write all events to standard output",
    ] {
        assert!(stderr.contains(part), "no `{part}` in {stderr}");
    }
    let junit = fs::read_to_string(scene.path("junit.xml")).expect("it was written");
    assert!(junit.contains("tests=\"2\""), "{junit}");
}
