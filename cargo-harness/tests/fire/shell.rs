//! A shell with job control on a terminal of its own: what Ctrl-Z and `fg` are made of.
//!
//! The shell is a process of this executable, because it has to lead a session. It starts one job,
//! tells when that is stopped or has ended, and continues it on request.

use crate::scene::Scene;
use nix::{
    pty::{OpenptyResult, Winsize, openpty},
    sys::{
        signal::{SigSet, Signal, killpg},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpgrp, setsid, tcsetpgrp, ttyname},
};
use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Command, ExitCode, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

/// The argument by which this executable is asked to be a shell.
pub(crate) const ARGUMENT: &str = "__shell";

const CTRL_Z: u8 = 0x1a;

const READY: u8 = b'r';
const STOPPED: u8 = b's';
const ENDED: u8 = b'e';
const GO_ON: u8 = b'c';
const GOES_ON: u8 = b'g';

/// The state of a job.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It is stopped.
    Stopped,
    /// It has exited with this code; 255 if a signal ended it.
    Ended(u8),
    /// Nothing, for as long as was waited.
    Nothing,
}

/// A job in a shell.
pub(crate) struct Job {
    shell: Child,
    control: UnixStream,
    keyboard: File,
    screen: Option<JoinHandle<Vec<u8>>>,
}

impl Job {
    /// Starts a command in the foreground of a shell of its own.
    pub(crate) fn start(scene: &Scene, command: &Command) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let OpenptyResult { master, slave } = openpty(&size, None).expect("a terminal");
        let (near, far) = UnixStream::pair().expect("a socket");
        // Even if its file has been replaced since.
        let own = format!("/proc/{}/exe", std::process::id());
        let mut shell = scene.wrapped(command, &own, &[ARGUMENT]);
        let stdout = slave.try_clone().expect("it can be cloned");
        shell.stdin(OwnedFd::from(far)).stdout(stdout).stderr(slave);
        let child = shell.spawn().expect("it starts");
        // Its descriptors of the terminal, without which reading would not come to an end.
        drop(shell);
        let mut reader = File::from(master.try_clone().expect("it can be cloned"));
        let screen = thread::spawn(move || {
            let mut shown = Vec::new();
            // EIO when no process has the terminal open any more.
            let _ = reader.read_to_end(&mut shown);
            shown
        });
        let mut job = Self {
            shell: child,
            control: near,
            keyboard: File::from(master),
            screen: Some(screen),
        };
        let mut byte = [0];
        job.control
            .read_exact(&mut byte)
            .expect("the shell starts it");
        assert_eq!(byte, [READY]);
        job
    }

    /// Presses Ctrl-Z.
    pub(crate) fn press_ctrl_z(&mut self) {
        self.keyboard
            .write_all(&[CTRL_Z])
            .expect("the terminal takes it");
    }

    /// Waits for news.
    pub(crate) fn news(&mut self, limit: Duration) -> News {
        self.control
            .set_read_timeout(Some(limit))
            .expect("a limit above zero");
        let mut byte = [0];
        match self.control.read_exact(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return News::Nothing,
            Err(error) => panic!("the shell is gone: {error}"),
            Ok(()) => {}
        }
        if byte == [STOPPED] {
            return News::Stopped;
        }
        self.control
            .read_exact(&mut byte)
            .expect("the code follows");
        News::Ended(byte[0])
    }

    /// Has a stopped job go on, in the foreground. A key that is pressed before it does is lost:
    /// the kernel forgets it with SIGCONT (signal(7)), or has no group to tell.
    pub(crate) fn go_on(&mut self) {
        self.control.write_all(&[GO_ON]).expect("the shell listens");
        self.control
            .set_read_timeout(None)
            .expect("that is no limit");
        let mut byte = [0];
        self.control.read_exact(&mut byte).expect("the shell tells");
        assert_eq!(byte, [GOES_ON]);
    }

    /// Kills everything of a job that hangs. Returns what was on the screen.
    pub(crate) fn abandon(mut self, scene: &Scene) -> String {
        let _ = self.shell.kill();
        scene.kill_strays();
        self.close()
    }

    /// Waits for the end of the shell of a job that has ended. Returns what was on the screen.
    pub(crate) fn close(mut self) -> String {
        self.shell.wait().expect("it is a child");
        let screen = self.screen.take().expect("it is read once");
        let shown = screen.join().expect("it does not panic");
        String::from_utf8_lossy(&shown).into_owned()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // The kernel sends SIGHUP to the job of a terminal whose session is over.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// The shell's own process.
pub(crate) fn main(args: &[String]) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => panic!("the shell failed: {error}"),
    }
}

fn run(args: &[String]) -> io::Result<()> {
    let terminal = io::stdout();
    setsid()?;
    // The first terminal that the leader of a session opens becomes its controlling one.
    let opened = File::options()
        .read(true)
        .write(true)
        .open(ttyname(terminal.as_fd())?)?;
    let mut control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut job = Command::new(&args[0]);
    job.args(&args[1..])
        .process_group(0)
        .stdin(Stdio::from(opened));
    let job = Pid::from_raw(job.spawn()?.id().cast_signed());
    give_terminal_to(job)?;
    control.write_all(&[READY])?;
    loop {
        match waitpid(job, Some(WaitPidFlag::WUNTRACED))? {
            WaitStatus::Stopped(..) => {
                give_terminal_to(getpgrp())?;
                control.write_all(&[STOPPED])?;
                control.read_exact(&mut [0])?;
                give_terminal_to(job)?;
                killpg(job, Signal::SIGCONT)?;
                control.write_all(&[GOES_ON])?;
            }
            WaitStatus::Exited(_, code) => {
                return control.write_all(&[ENDED, code as u8]);
            }
            WaitStatus::Signaled(..) => return control.write_all(&[ENDED, u8::MAX]),
            _ => {}
        }
    }
}

/// Makes a process group the one in the foreground.
fn give_terminal_to(group: Pid) -> io::Result<()> {
    // From the background this would stop the shell itself (tcsetpgrp(3)).
    let ttou = SigSet::from(Signal::SIGTTOU);
    ttou.thread_block()?;
    tcsetpgrp(io::stdout().as_fd(), group)?;
    ttou.thread_unblock()?;
    Ok(())
}
