//! Runs the programs: in which way, and as whom.

use crate::{environment::installed, scene::Scene, trace::Trace};
use camino::Utf8Path;
use fixture_kit::results;
use harness_metadata::{Attempt, RawString, TraceEvent, event::TraceLevel, exit_code};
use harness_runner::{
    store,
    trace::{self, Options, command},
};
use nix::{
    sys::{
        signal::{self, Signal},
        socket::{ControlMessage, MsgFlags, sendmsg},
    },
    unistd::{Pid, geteuid},
};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    io::{IoSlice, Read, Seek},
    iter,
    os::{
        fd::{AsRawFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// The user who runs the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// The user of these tests.
    Own,
    /// A user without privileges, who owns nothing but the target folder.
    Nobody,
}

const NOBODY: [&str; 5] = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];

/// The sources may be in another user's home: this lets them be read, and nothing else.
const READ_EVERYTHING: [&str; 4] = [
    "--inh-caps",
    "-all,+dac_read_search",
    "--ambient-caps",
    "-all,+dac_read_search",
];

/// Stands in for cargo and rustc: asks the real one, and remembers the answer for a user who cannot
/// use a toolchain.
const TOOL: &str = r#"#!/bin/sh
answer=$ANSWERS/${0##*/}-$(printf '%s\n' "$@" | cksum | tr ' ' -)
if test -z "$RECORD"; then
    exec cat "$answer"
fi
"$RECORD/${0##*/}" "$@" > "$answer.new" || exit
mv "$answer.new" "$answer" && exec cat "$answer"
"#;

/// Programs, ready to run.
pub(crate) struct Programs {
    pub(crate) scene: Scene,
    user: Vec<&'static str>,
}

impl Programs {
    /// Builds the programs, and finds out how that user can run them. Returns the reason if the
    /// user cannot.
    pub(crate) fn new(user: User) -> Result<Self, String> {
        if user == User::Nobody && !geteuid().is_root() {
            return Err("only root can become another user".to_owned());
        }
        if user == User::Nobody && !installed("setpriv", &["--version"]) {
            return Err("setpriv is not installed".to_owned());
        }
        let scene = Scene::new();
        for name in ["outside", "answers", "home"] {
            fs::create_dir(scene.path(name)).expect("the scene is new");
        }
        for tool in ["cargo", "rustc"] {
            scene.write(&format!("tools/{tool}"), TOOL);
        }
        let mut programs = Self {
            scene,
            user: Vec::new(),
        };
        programs.open();
        programs.build();
        if user == User::Own {
            return Ok(programs);
        }
        programs.open();
        for more in [&[][..], &READ_EVERYTHING] {
            programs.user = [&NOBODY, more].concat();
            let list = programs.harness(&["list"]);
            if programs.scene.run(list).status.success() {
                return Ok(programs);
            }
        }
        Err("another user can read neither the runner nor the programs".to_owned())
    }

    /// Lets everybody use what is in the scene.
    fn open(&self) {
        let mut open = self.scene.command("chmod");
        open.args(["-R", "a+rwX"]).arg(self.scene.path(""));
        self.scene.run(open).assert_code(0);
        let mut tools = self.scene.command("chmod");
        tools
            .arg("a+x")
            .args(["cargo", "rustc"].map(|tool| self.scene.path("tools").join(tool)));
        self.scene.run(tools).assert_code(0);
    }

    /// Builds once for all scenes, and once more, from what is built, where this one is.
    fn build(&self) {
        let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tracees");
        let mut build = self.scene.command(cargo());
        build
            .args(["test", "--no-run"])
            .current_dir(folder())
            .env("CARGO_TARGET_DIR", &shared);
        self.scene.run(build).assert_code(0);
        let mut copy = self.scene.command("cp");
        copy.arg("-a").arg(shared).arg(self.scene.path("target"));
        self.scene.run(copy).assert_code(0);
        let tools = cargo().parent().map(Path::to_owned).unwrap_or_default();
        for command in ["list", "run"] {
            let mut first = self.harness(&[command, "-E", "test(=p02_does_nothing)"]);
            first.env("RECORD", &tools);
            self.scene.run(first).assert_code(exit_code::OK);
        }
    }

    /// Returns the runner, started by the user.
    fn harness(&self, args: &[&str]) -> Command {
        let scene = &self.scene;
        let mut command = scene.harness_in(&folder(), args);
        command
            .env("CARGO_TARGET_DIR", scene.path("target"))
            .env("ANSWERS", scene.path("answers"))
            .env("CARGO", scene.path("tools/cargo"))
            .env("RUSTC", scene.path("tools/rustc"))
            .env("TRACEES_OUTSIDER", scene.path("outside"))
            .env("TRACEES_GIVER", self.giver())
            .env("TRACEES_PROCESSORS", processors());
        if self.user.is_empty() {
            return command;
        }
        let mut command = scene.wrapped(&command, "setpriv", &self.user);
        command.env("HOME", scene.path("home"));
        command
    }

    /// Returns the abstract name of a socket that is this run's own.
    fn giver(&self) -> String {
        format!("giver of {}", self.scene.path("").display())
    }

    /// Runs all programs. Returns how each ended, and what the run said.
    pub(crate) fn run(&self, options: &[&str]) -> (BTreeMap<String, Attempt>, String) {
        let events = self.scene.path("events");
        // What was recorded when the programs were prepared.
        let _ = fs::remove_dir_all(self.scene.path("target/harness/runs"));
        let mut command = self.harness(&["run", "--no-fail-fast", "--show-progress", "none"]);
        command.args(options).arg("--events").arg(&events);
        let run = self.with_outsider(|| self.scene.run(command));
        self.scene.assert_no_strays();
        let attempts = results::last_attempts(&self.scene).into_iter().collect();
        (attempts, run.stderr)
    }

    /// Returns the traces of a run, by the tests' own processes.
    pub(crate) fn traces(&self) -> BTreeMap<i32, Trace> {
        let target = self.scene.path("target");
        let target = Utf8Path::from_path(&target).expect("it is UTF-8");
        let mut traces = BTreeMap::new();
        for run in store::runs(&store::usual(target)).expect("there was a run") {
            for record in run.records().expect("it can be read") {
                let trace = record.kept_trace.map(|kept| run.trace(&kept));
                traces.extend(trace.map(|trace| Trace::read(trace.expect("it can be read"))));
            }
        }
        traces
    }

    /// Traces each program of a run once more, by itself, and no more of it than the lives of its
    /// processes.
    pub(crate) fn lives(&self, attempts: &BTreeMap<String, Attempt>) -> BTreeMap<String, Trace> {
        /// Some only wait.
        const AT_ONCE: usize = 4;
        let waiting = Mutex::new(attempts.iter());
        let next = || waiting.lock().expect("no thread panics").next();
        let follow = || {
            let followed = iter::from_fn(next).map(|(program, attempt)| {
                let summary = attempt.trace.as_deref().expect("it was traced");
                (program.clone(), self.life(&summary.processes[0].args))
            });
            followed.collect::<Vec<_>>()
        };
        self.with_outsider(|| {
            thread::scope(|scope| {
                let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(follow)).collect();
                let followed = threads.into_iter().map(|thread| thread.join());
                followed
                    .flat_map(|lives| lives.expect("it succeeds"))
                    .collect()
            })
        })
    }

    fn life(&self, args: &[RawString]) -> Trace {
        let mut args = args.iter().map(|arg| OsStr::from_bytes(arg.as_bytes()));
        let mut command =
            command(args.next().expect("there is a program"), args).expect("there is a directory");
        for (name, value) in self.harness(&[]).get_envs() {
            match value {
                Some(value) => command.environment.set(name, value),
                None => command.environment.remove(name),
            }
        }
        let mut output = tempfile::tempfile().expect("there is room");
        let copy = || OwnedFd::from(output.try_clone().expect("there are descriptors"));
        let nothing = File::open("/dev/null").expect("it is there");
        let options = Options {
            level: TraceLevel::Process,
            stdio: Some([nothing.into(), copy(), copy()]),
            ..Options::default()
        };
        let mut events = Vec::new();
        let mut observer = |event: &TraceEvent| events.push(event.clone());
        trace::trace(&command, options, &mut observer).expect("it starts");
        let mut text = String::new();
        output.rewind().expect("it is a file");
        output.read_to_string(&mut text).expect("it is text");
        Trace::of_lives(events, text.contains("skipped: "))
    }

    /// Meanwhile sends a signal to each process that asks for one from outside, and hands a descriptor
    /// to each that connects.
    fn with_outsider<T>(&self, body: impl FnOnce() -> T) -> T {
        let done = AtomicBool::new(false);
        let asked = self.scene.path("outside");
        let giver = SocketAddr::from_abstract_name(self.giver()).expect("it is short");
        let giver = UnixListener::bind_addr(&giver).expect("its name is unused");
        giver.set_nonblocking(true).expect("it is a socket");
        let given = self.scene.write("given", "from outside");
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for entry in fs::read_dir(&asked).expect("it was made").flatten() {
                        let name = entry.file_name();
                        let pid: i32 = name
                            .to_str()
                            .and_then(|name| name.parse().ok())
                            .expect("it is an id");
                        fs::remove_file(entry.path()).expect("it is removed only here");
                        // If it is gone it fails by itself.
                        let _ = signal::kill(Pid::from_raw(pid), Signal::SIGUSR1);
                    }
                    if let Ok((taker, _)) = giver.accept() {
                        give(&taker, &File::open(&given).expect("it was written"));
                    }
                    thread::sleep(Duration::from_millis(2));
                }
            });
            let result = body();
            done.store(true, Ordering::Relaxed);
            result
        })
    }
}

/// Sends a descriptor. If its taker is gone, it fails by itself.
fn give(taker: &UnixStream, file: &File) {
    let descriptors = [file.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let text = [IoSlice::new(b"x")];
    let flags = MsgFlags::MSG_NOSIGNAL;
    let _ = sendmsg::<()>(taker.as_raw_fd(), &text, &rights, flags, None);
}

/// Returns the root of the programs' workspace.
pub(crate) fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.expect("it is a member").join("fixtures/tracees")
}

fn cargo() -> PathBuf {
    PathBuf::from(env!("CARGO"))
}

fn processors() -> String {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
    line.expect("it is reported").to_owned()
}
