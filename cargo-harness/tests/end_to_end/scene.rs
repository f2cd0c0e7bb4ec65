//! The place of a run: a folder of its own, an environment without traces of the runner that
//! runs these tests, and a mark by which every process that it leaves behind is found.

use crate::environment;
use nix::{
    errno::Errno,
    sys::signal::{self, Signal},
    unistd::Pid,
};
use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const MARK: &str = "HARNESS_E2E_MARK";

/// The time limit of a run, which may begin with a build: far more than it needs on a busy machine.
pub(crate) const LONGEST_RUN: Duration = Duration::from_secs(900);

/// The number of looks that must find no process.
const LOOKS: u32 = 10;

/// The time that a process may outlive its run, and the last of its stubs, without being
/// killed.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// The time that a stub may outlive its run, and a process the signal that kills it: both have to be given
/// the CPU for that.
const SCHEDULED_WITHIN: Duration = Duration::from_secs(60);

/// The place of a run. When it goes out of scope, no process of it may be left.
pub(crate) struct Scene {
    folder: TempDir,
    mark: String,
    runs: AtomicU32,
}

impl Scene {
    /// Sets a scene.
    pub(crate) fn new() -> Self {
        static SCENES: AtomicU32 = AtomicU32::new(0);
        let number = SCENES.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::Builder::new().prefix("harness-e2e-").tempdir();
        let folder = folder.expect("a temporary folder can be made");
        let mark = format!(
            "{}-{number}-{}",
            std::process::id(),
            folder.path().display()
        );
        Self {
            folder,
            mark,
            runs: AtomicU32::new(0),
        }
    }

    /// Returns a path in the scene's own folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file in the scene's own folder, with the folders above it.
    pub(crate) fn write(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is in the scene")).expect("it can be made");
        fs::write(&path, contents).expect("it can be written");
        path
    }

    /// Returns a command that belongs to this scene.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = environment::command(program);
        command.env(MARK, &self.mark);
        command.env("FIXTURE_IGNORED_SIGNALS", ignored_signals());
        close_inherited_descriptors(&mut command);
        command
    }

    /// Returns `cargo-harness` in the fixture workspace, built into the target folder that all
    /// tests share.
    pub(crate) fn harness<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_cargo-harness"));
        command
            .args(args)
            .current_dir(fixture())
            .env("CARGO_TARGET_DIR", shared_target());
        command
    }

    /// Writes a package, a workspace of its own, into the scene. Returns its folder.
    pub(crate) fn package(&self, name: &str, source: &str) -> PathBuf {
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n"
        );
        self.write(&format!("{name}/src/lib.rs"), source);
        self.write(&format!("{name}/Cargo.toml"), &manifest);
        self.path(name)
    }

    /// Returns `cargo-harness` for a package of [`Scene::package`], built into its own folder.
    pub(crate) fn harness_in(&self, folder: &Path, args: &[&str]) -> Command {
        let mut command = self.harness([]);
        command
            .args(args)
            .current_dir(folder)
            .env("CARGO_TARGET_DIR", folder.join("target"));
        command
    }

    /// Returns a command that is given the whole other command as its last arguments.
    pub(crate) fn wrapped(&self, command: &Command, by: &str, args: &[&str]) -> Command {
        let mut wrapper = self.command(by);
        wrapper
            .args(args)
            .arg(command.get_program())
            .args(command.get_args());
        wrapper.current_dir(
            command
                .get_current_dir()
                .map_or_else(fixture, Path::to_owned),
        );
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapper.env(name, value),
                None => wrapper.env_remove(name),
            };
        }
        wrapper
    }

    /// Starts a command. Its output goes to files, so that a process that keeps it open delays
    /// nothing.
    pub(crate) fn start(&self, mut command: Command) -> Running {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let stdout = self.path(&format!("stdout-{number}"));
        let stderr = self.path(&format!("stderr-{number}"));
        let create = |path: &Path| File::create(path).expect("it can be created");
        command.stdout(create(&stdout)).stderr(create(&stderr));
        let child = command.spawn();
        let child = child.unwrap_or_else(|error| panic!("failed to start {command:?}: {error}"));
        Running {
            child,
            stdout,
            stderr,
            command: format!("{command:?}"),
        }
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, command: Command) -> Finished {
        self.start(command).finish()
    }

    /// Kills what is left, for runs of programs that leave processes behind.
    pub(crate) fn kill_strays(&self) {
        let deadline = Instant::now() + SCHEDULED_WITHIN;
        while Instant::now() < deadline {
            // Who is ever another process is not in every look.
            let Some(strays) = (0..LOOKS).map(|_| self.strays()).find(|s| !s.is_empty()) else {
                return;
            };
            for (pid, _) in strays {
                // It may be gone by now, which is as good.
                let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Fails if a process of this scene is alive after a moment.
    pub(crate) fn assert_no_strays(&self) {
        let begun = Instant::now();
        let mut on_their_way = begun;
        loop {
            let strays = self.strays();
            if strays.is_empty() {
                return;
            }
            let has_stub = strays
                .iter()
                .any(|(_, line)| line.contains("__double-spawn"));
            let all_are_killed = strays.iter().all(|(pid, _)| is_killed(*pid));
            if (has_stub || all_are_killed) && begun.elapsed() < SCHEDULED_WITHIN {
                on_their_way = Instant::now();
            }
            if on_their_way.elapsed() > GONE_WITHIN {
                self.kill_strays();
                panic!("processes were left behind: {strays:#?}");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns the processes that carry this scene's mark in their environment or on their command
    /// line, with their command lines.
    pub(crate) fn strays(&self) -> Vec<(i32, String)> {
        let mark = format!("{MARK}={}", self.mark);
        let mut strays = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc is mounted").flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let environment = read_of_process(&entry.path(), "environ");
            let command = read_of_process(&entry.path(), "cmdline");
            let mut variables = environment.split(|byte| *byte == 0);
            let mut args = command.split(|byte| *byte == 0);
            if variables.any(|variable| variable == mark.as_bytes())
                || args.any(|arg| arg == self.mark.as_bytes())
            {
                strays.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
            }
        }
        strays
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if thread::panicking() {
            self.kill_strays();
        } else {
            self.assert_no_strays();
        }
    }
}

/// A command that runs.
pub(crate) struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    command: String,
}

impl Running {
    /// Returns its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Returns what it has printed for people so far.
    pub(crate) fn stderr_so_far(&self) -> String {
        let bytes = fs::read(&self.stderr).expect("it was created before");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until its standard output has this.
    pub(crate) fn wait_for_output(&self, text: &str) {
        let has_it = || {
            let bytes = fs::read(&self.stdout).expect("it was created before");
            String::from_utf8_lossy(&bytes).contains(text).then_some(())
        };
        let seen = wait_until(LONGEST_RUN, has_it);
        assert!(seen.is_some(), "{} did not print {text:?}", self.command);
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, number: Signal) {
        match signal::kill(self.pid(), number) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => panic!("kill failed: {error}"),
        }
    }

    /// Returns whether it has ended.
    #[allow(dead_code, reason = "for those who do something to it meanwhile")]
    pub(crate) fn has_ended(&mut self) -> bool {
        let status = self.child.try_wait().expect("it is a child");
        status.is_some()
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Finished {
        let status = wait_until(LONGEST_RUN, || {
            self.child.try_wait().expect("it is a child")
        });
        let read = |path: &Path| {
            let bytes = fs::read(path).expect("it was created above");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (stdout, stderr) = (read(&self.stdout), read(&self.stderr));
        let Some(status) = status else {
            self.child.kill().expect("it is a child");
            self.child.wait().expect("it is a child");
            panic!("{} did not end:\n{stdout}\n{stderr}", self.command);
        };
        Finished {
            status,
            stdout,
            stderr,
            command: self.command,
        }
    }
}

/// A command that ran.
pub(crate) struct Finished {
    /// Its wait status.
    pub(crate) status: ExitStatus,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
    command: String,
}

impl Finished {
    /// Fails unless it exited with this code.
    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) -> &Self {
        let Self {
            status,
            stdout,
            stderr,
            command,
        } = self;
        assert_eq!(
            status.code(),
            Some(code),
            "{status} of {command}:\n{stdout}\n{stderr}"
        );
        assert_no_panic(stderr);
        self
    }

    /// Fails unless its messages contain this.
    #[track_caller]
    pub(crate) fn assert_says(&self, text: &str) -> &Self {
        let Self {
            stderr, command, ..
        } = self;
        assert!(
            stderr.contains(text),
            "no `{text}` in the messages of {command}:\n{stderr}"
        );
        self
    }

    /// Fails unless the messages are for people: an error, and no debug text.
    #[track_caller]
    pub(crate) fn assert_sentence(&self) {
        let Self { stderr, .. } = self;
        let error = stderr.lines().find(|line| line.starts_with("error"));
        assert!(error.is_some(), "no line starts with `error`:\n{stderr}");
        for debug in [
            "RUST_BACKTRACE",
            "Os {",
            "Error {",
            "Some(",
            "stack backtrace",
        ] {
            assert!(
                !stderr.contains(debug),
                "`{debug}` in the messages:\n{stderr}"
            );
        }
    }
}

/// Fails if the runner itself panicked. Panics of tests are shown indented.
#[track_caller]
fn assert_no_panic(stderr: &str) {
    let panicked = stderr
        .lines()
        .find(|line| line.starts_with("error: something went wrong inside of cargo harness"));
    assert_eq!(panicked, None, "the runner panicked:\n{stderr}");
}

/// Asks again and again until there is an answer or the time is up, and once after that: a caller that asks
/// may have had no CPU for all the time.
pub(crate) fn wait_until<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let last = Instant::now() >= deadline;
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if last {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reads a file of a process, by any of its threads: the first one may have ended. Empty if the
/// process is gone, or another user's.
fn read_of_process(process: &Path, file: &str) -> Vec<u8> {
    let threads = || fs::read_dir(process.join("task")).into_iter().flatten();
    let of_first = fs::read(process.join(file)).unwrap_or_default();
    let mut of_others = threads().flatten().map(|thread| thread.path().join(file));
    if of_first.is_empty() {
        let found = of_others.find_map(|path| fs::read(path).ok().filter(|read| !read.is_empty()));
        return found.unwrap_or_default();
    }
    of_first
}

/// Returns whether a process has been sent SIGKILL and only waits for the CPU to die by it, or is gone.
pub(crate) fn is_killed(pid: i32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return true;
    };
    let pending = status.lines().filter_map(|line| {
        let mask = line
            .strip_prefix("SigPnd:\t")
            .or_else(|| line.strip_prefix("ShdPnd:\t"))?;
        u64::from_str_radix(mask, 16).ok()
    });
    let kill = 1 << (Signal::SIGKILL as i32 - 1);
    pending.fold(0, |all, mask| all | mask) & kill != 0
}

/// Says that a test is left out, and why.
#[expect(clippy::print_stderr, reason = "who runs the tests wants to know")]
pub(crate) fn skip(test: &str, reason: &str) {
    eprintln!("skipped: {test}: {reason}");
}

/// Returns the root of the fixture workspace.
pub(crate) fn fixture() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("it is a member");
    root.join("fixtures/workspace")
}

/// Returns the target folder of the fixture workspace. Cargo's own lock keeps builds apart.
pub(crate) fn shared_target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("fixture")
}

/// Descriptors that the starter of these tests left open are none of a run's business: a test of
/// the fixture counts its own.
#[expect(
    unsafe_code,
    reason = "there is no safe way to run code between fork and exec"
)]
fn close_inherited_descriptors(command: &mut Command) {
    let close = || {
        let flags = nix::libc::CLOSE_RANGE_CLOEXEC.cast_signed();
        // SAFETY: the call touches no memory, and the descriptors stay open until exec.
        unsafe { nix::libc::close_range(3, u32::MAX, flags) };
        Ok(())
    };
    // SAFETY: the closure makes one system call and touches no memory.
    unsafe { command.pre_exec(close) };
}

/// Returns the mask of signals that this process was started with as ignored. SIGPIPE is not among
/// them: the runtime of the language ignores it here, and gives it back to what is started.
fn ignored_signals() -> String {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:\t"));
    let mask = u64::from_str_radix(line.expect("it is reported"), 16).expect("it is a mask");
    format!(
        "{:x}",
        mask & !(1 << (nix::sys::signal::Signal::SIGPIPE as i32 - 1))
    )
}
