//! `cargo harness watch`: runs tests again when files change.
//!
//! Each run is a process of its own, `cargo harness run`, with the keys and the terminal as always. Between
//! runs this one reads the keys. A change during a run waits for its end.

pub(super) mod signals;
mod state;

use super::{App, GlobalOptions, prepared, run::RunCommand, runner_options::NoTests};
use crate::command_error::{CommandError, Kind};
use camino::Utf8PathBuf;
use clap::{Args, CommandFactory};
use harness_metadata::exit_code;
use harness_runner::{
    changes::{FileEvent, WatchError},
    config::CliOverrides,
    filter::FilterOptions,
    keys::{self, Keys},
    report::plural,
    session::{ChangedError, FilesChanged, Watching, WatchingError},
};
use nix::sys::signal::{Signal, kill};
use signals::{Heard, Run, Signals};
use state::{Answer, Selection, State};
use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::{Command, ExitStatus},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

/// Events that follow each other within this time are one change.
const QUIET: Duration = Duration::from_millis(100);

/// Events are one change for no longer than this: a file may be written without end.
const LONGEST_BURST: Duration = Duration::from_secs(2);

/// Run tests, and again when files change that they can depend on.
#[derive(Debug, Args)]
pub(super) struct WatchCommand {
    #[command(flatten)]
    run: RunCommand,
}

/// An input.
enum Told {
    Key(u8),
    Files(FileEvent),
    Signal(Heard),
    /// The run has ended.
    Ended(io::Result<ExitStatus>),
}

/// The driver of the [`State`].
struct Driver {
    told: Receiver<Told>,
    tell: Sender<Told>,
    watching: Watching,
    /// The terminal, if a person sits there.
    keys: Option<Keys>,
    state: State,
    /// The arguments of this program, and flags that each run has beside.
    args: Vec<OsString>,
    further: Further,
    running: Arc<Run>,
    /// Events that came during a run.
    waiting: Vec<FileEvent>,
    colors: bool,
}

impl WatchCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        if self.run.runner.runs_below() {
            let why = "`watch` takes no `--debugger` and no `--tracer`: those are for one run";
            return Err(CommandError::new(Kind::Usage, why));
        }
        let cargo = self.run.cargo.clone();
        let (filter, overrides) = (FilterOptions::default(), CliOverrides::default());
        let options = prepared::options(global, cargo, &self.run.reuse, filter, overrides)?;
        if options.reuse.is_some() {
            let why = "a build that is reused never changes, so there is nothing to watch";
            return Err(CommandError::new(Kind::Usage, why));
        }
        let (tell, told) = mpsc::channel();
        let running = Arc::<Run>::default();
        // Before there are other threads.
        let signals = Signals::block().map_err(internal)?;
        let (to, run) = (tell.clone(), Arc::clone(&running));
        let heard = move |signal| to.send(Told::Signal(signal)).is_ok();
        signals.listen(run, heard).map_err(internal)?;
        let to = tell.clone();
        let heard = move |event| drop(to.send(Told::Files(event)));
        let watching = Watching::start(&options, self.written(), heard).map_err(error)?;
        let keys = match self.run.reporter.no_input_handler {
            true => None,
            false => Keys::open().ok().flatten(),
        };
        if let Some(keys) = &keys {
            // A run is to have the terminal first.
            keys::lend();
            let to = tell.clone();
            let heard = move |key| drop(to.send(Told::Key(key)));
            keys.listen_to_all(heard).map_err(internal)?;
        }
        let mut driver = Driver {
            told,
            tell,
            watching,
            keys,
            state: State::default(),
            args: env::args_os().skip(1).collect(),
            further: self.further(),
            running,
            waiting: Vec::new(),
            colors: global.stderr_colors(),
        };
        driver.drive()
    }

    /// Returns the files that each run writes.
    fn written(&self) -> Vec<Utf8PathBuf> {
        let (runner, reporter) = (&self.run.runner, &self.run.reporter);
        let timings = runner.write_timings.clone().flatten();
        let files = [
            reporter.junit.clone(),
            reporter.html.clone(),
            reporter.ctrf.clone(),
            reporter.allure.clone(),
            reporter.events.clone(),
            timings,
        ];
        files.into_iter().flatten().collect()
    }

    fn further(&self) -> Further {
        let runner = &self.run.runner;
        Further {
            all: !runner.says_when_to_stop(),
            none_is_fine: runner.no_tests == NoTests::Auto,
        }
    }
}

/// Flags that runs have if the command line does not say otherwise.
#[derive(Copy, Clone, Debug)]
struct Further {
    /// A failure of one test says nothing about the others.
    all: bool,
    /// A package without tests is no mistake.
    none_is_fine: bool,
}

impl Further {
    fn flags(self, selection: &Selection) -> Vec<OsString> {
        let mut flags = Vec::new();
        if self.all {
            flags.push("--no-fail-fast");
        }
        // Where none has failed, a line says so already.
        if self.none_is_fine && *selection != Selection::Failed {
            flags.extend(["--no-tests", "warn"]);
        }
        flags.into_iter().map(OsString::from).collect()
    }
}

impl Driver {
    fn drive(&mut self) -> Result<i32, CommandError> {
        let mut next = Some(Selection::All);
        loop {
            if let Some(selection) = next.take() {
                if let Some(signal) = self.run(&selection)? {
                    return Ok(exit_code::ended_by(signal as i32));
                }
                let events = std::mem::take(&mut self.waiting);
                let events = self.until_quiet(events);
                next = self.changed(events, true);
                if next.is_none() {
                    self.menu();
                }
                continue;
            }
            match self.told.recv().map_err(internal)? {
                Told::Signal(heard) => {
                    self.show("\n");
                    return Ok(exit_code::ended_by(heard.signal as i32));
                }
                Told::Files(event) => {
                    let events = self.until_quiet(vec![event]);
                    next = self.changed(events, false);
                }
                Told::Key(key) => match self.state.key(key) {
                    Answer::Nothing => {}
                    Answer::Show(text) => self.show(&text),
                    Answer::Menu => {
                        self.show("\n");
                        self.menu();
                    }
                    Answer::Run(selection) => next = Some(selection),
                    Answer::Quit => return Ok(exit_code::OK),
                },
                // There is no run.
                Told::Ended(_) => {}
            }
        }
    }

    /// Adds the events that follow at once.
    fn until_quiet(&mut self, mut events: Vec<FileEvent>) -> Vec<FileEvent> {
        let begun = Instant::now();
        let mut others = Vec::new();
        while begun.elapsed() < LONGEST_BURST {
            match self.told.recv_timeout(QUIET) {
                Ok(Told::Files(event)) => events.push(event),
                Ok(other) => others.push(other),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        for other in others {
            // The receiver lives in this value.
            let _ = self.tell.send(other);
        }
        events
    }

    /// Says what changed. Returns the tests that are to run because of it.
    fn changed(&mut self, events: Vec<FileEvent>, during_run: bool) -> Option<Selection> {
        if events.is_empty() {
            return None;
        }
        let told = self.watching.changed(events).map_err(watch_error);
        let mut files = self.or_tell(told)?;
        if during_run {
            let written = self.state.changed_during_run(&mut files);
            self.tell_of_written(&written);
        }
        let told = self.watching.affected(&files).map_err(changed_error);
        let changed = self.or_tell(told)??;
        if self.state.is_typing() {
            self.show("\n");
        }
        Some(self.due(&changed))
    }

    fn due(&mut self, changed: &FilesChanged) -> Selection {
        let first = changed.first.display();
        let files = match changed.count {
            1 => format!("`{first}` has changed"),
            count => format!(
                "`{first}` and {} have changed",
                plural(count - 1, "other file", "other files")
            ),
        };
        let selection = match changed.affected.all {
            Some(_) => Selection::All,
            None => Selection::Packages(changed.affected.names()),
        };
        let due = self.state.due(selection);
        let of = match &due {
            Selection::Packages(names) => {
                let list: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
                list.join(", ")
            }
            Selection::All | Selection::Failed => "all packages".to_owned(),
        };
        prepared::note(&format!("{files}; running tests of {of}"), self.colors);
        due
    }

    /// Returns the value, or tells of the error, after which the watch goes on.
    fn or_tell<T>(&self, told: Result<T, CommandError>) -> Option<T> {
        told.map_err(|error| {
            // Nothing can be reported once standard error is gone.
            let _ = error.write(&mut io::stderr().lock(), self.colors);
        })
        .ok()
    }

    fn tell_of_written(&self, written: &[PathBuf]) {
        for file in written {
            let file = file.strip_prefix(self.watching.root()).unwrap_or(file);
            let text = format!(
                "`{}` has changed in two runs, so tests write it: its changes during runs no longer count",
                file.display()
            );
            prepared::warn(&text, self.colors);
        }
    }

    /// Runs tests. Returns the signal that ends the watch, if one came.
    fn run(&mut self, selection: &Selection) -> Result<Option<Signal>, CommandError> {
        keys::lend();
        let mut further = self.further.flags(selection);
        further.extend(self.state.flags(selection));
        let args = state::arguments(&self.args, &further, &is_run);
        let args = args.ok_or_else(|| internal("`watch` is not among the arguments"))?;
        let program = env::current_exe().map_err(internal)?;
        let mut child = Command::new(program).args(args).spawn().map_err(internal)?;
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        self.running.begin(pid);
        let (tell, running) = (self.tell.clone(), Arc::clone(&self.running));
        let wait = move || {
            let status = child.wait();
            running.end();
            // The receiver is gone only if the watch is.
            let _ = tell.send(Told::Ended(status));
        };
        thread::Builder::new().spawn(wait).map_err(internal)?;
        let mut ended_by = None;
        let status = loop {
            match self.told.recv().map_err(internal)? {
                Told::Ended(status) => break status.map_err(internal)?,
                Told::Signal(heard) => {
                    if !heard.from_terminal {
                        let _ = kill(pid, heard.signal);
                    }
                    ended_by = Some(heard.signal);
                }
                Told::Files(event) => self.waiting.push(event),
                // It was meant for the run.
                Told::Key(_) => {}
            }
        };
        self.state.ended(selection, status.code());
        if ended_by.is_none() {
            keys::resume();
        }
        Ok(ended_by)
    }

    fn menu(&self) {
        let text = match &self.keys {
            None => "waiting for changes; no keys are read, and SIGINT or SIGTERM ends the watch"
                .to_owned(),
            Some(_) => self.state.menu(),
        };
        prepared::note(&text, self.colors);
    }

    fn show(&self, text: &str) {
        let mut out = io::stderr().lock();
        // Nothing can be shown once the terminal is gone; then a signal comes.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// Returns whether arguments are those of `run`.
fn is_run(args: &[OsString]) -> bool {
    let first = args.first().and_then(|arg| arg.to_str());
    let args = match first {
        Some("harness" | "nextest") => &args[1..],
        _ => args,
    };
    let words = std::iter::once(&OsString::from("cargo-harness"))
        .chain(args)
        .cloned()
        .collect::<Vec<_>>();
    let matches = App::command().try_get_matches_from(words);
    matches.is_ok_and(|matches| matches.subcommand_name() == Some("run"))
}

fn internal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CommandError {
    CommandError::new(Kind::Internal, error)
}

fn error(error: WatchingError) -> CommandError {
    match error {
        WatchingError::Workspace(error) => changed_error(error),
        WatchingError::Watch(error) => watch_error(error),
    }
}

fn changed_error(error: ChangedError) -> CommandError {
    match error {
        ChangedError::Locate(_) | ChangedError::Metadata(_) => {
            CommandError::new(Kind::Metadata, error)
        }
        ChangedError::Git(_) => internal(error),
    }
}

fn watch_error(error: WatchError) -> CommandError {
    let is_full = matches!(error, WatchError::TooMany { .. });
    let error = CommandError::new(Kind::Setup, error);
    match is_full {
        true => error.with_hint(
            "`sysctl fs.inotify.max_user_watches` is the number of folders that a user can watch",
        ),
        false => error,
    }
}
