//! Asks binaries for their tests.

use super::{Execute, Executed, ListError, ListOptions, ListedTest, located, parse, recognise};
use crate::{
    cargo::{Harness, TestBinary},
    protocol::{Command, Environment},
};
use camino::Utf8PathBuf;
use nextest_metadata::RustBinaryId;
use std::{
    ffi::OsString,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender},
    },
};

/// A question for a binary.
pub(super) struct Job {
    pub(super) binary: Arc<TestBinary>,
    pub(super) question: Question,
}

/// The forms in which a binary is asked.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// All at once, with places, if the binary turns out to have the standard harness; otherwise, and if
    /// the answer is not understood, the two calls that every harness knows.
    Everything,
    /// One of these two.
    Names(Call),
}

/// The two calls that every harness knows.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// All tests, or those that are not ignored.
    All,
    /// The ignored ones.
    Ignored,
}

/// A binary's answer.
pub(super) struct Answer {
    pub(super) id: RustBinaryId,
    /// Whether the binary was found to have the standard harness.
    pub(super) libtest: bool,
    pub(super) output: Result<Output, ListError>,
}

/// The tests in an answer.
pub(super) enum Output {
    /// All of them, ordered by name.
    Tests(Vec<ListedTest>),
    /// The standard output of a call.
    Names(Call, Vec<u8>),
}

/// Answers one job after the other, until there are no more.
pub(super) fn work(
    worker: &mut dyn Execute,
    queue: &Mutex<Receiver<Job>>,
    answers: &Sender<Answer>,
    failed: &AtomicBool,
    options: &ListOptions<'_>,
) {
    loop {
        let job = queue
            .lock()
            .expect("no worker panics while it takes a job")
            .recv();
        let Ok(Job { binary, question }) = job else {
            return;
        };
        let (libtest, calls) = match question {
            Question::Everything => (has_libtest(&binary), &[Call::All, Call::Ignored][..]),
            Question::Names(Call::All) => (false, &[Call::All][..]),
            Question::Names(Call::Ignored) => (false, &[Call::Ignored][..]),
        };
        let tell = |output: Result<Output, ListError>| {
            if output.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            let id = binary.id.clone();
            let _ = answers.send(Answer {
                id,
                libtest,
                output,
            });
        };
        if libtest && !failed.load(Ordering::Relaxed) {
            match ask_everything(worker, &binary, options).transpose() {
                Some(tests) => {
                    tell(tests.map(Output::Tests));
                    continue;
                }
                None => tracing::debug!("`{}` is asked in the stable form", binary.id),
            }
        }
        for call in calls {
            if !failed.load(Ordering::Relaxed) {
                let output = ask(worker, &binary, *call, options);
                tell(output.map(|output| Output::Names(*call, output)));
            }
        }
    }
}

fn has_libtest(binary: &TestBinary) -> bool {
    match binary.harness {
        Harness::Libtest => recognise::is_libtest(&binary.path),
        Harness::Custom => false,
    }
}

/// Asks for everything at once; `None` if the answer is not understood.
fn ask_everything(
    worker: &mut dyn Execute,
    binary: &TestBinary,
    options: &ListOptions<'_>,
) -> Result<Option<Vec<ListedTest>>, ListError> {
    let mut command = command(binary, &located::ARGUMENTS, options);
    command.environment.set(located::UNLOCK, "1");
    let executed = execute(worker, binary, &command, options)?;
    Ok(match executed.exit {
        Some(exit) if exit.success() => located::parse(&executed.stdout),
        _ => None,
    })
}

/// Asks for names.
fn ask(
    worker: &mut dyn Execute,
    binary: &TestBinary,
    call: Call,
    options: &ListOptions<'_>,
) -> Result<Vec<u8>, ListError> {
    let args = ["--list", "--format", "terse", "--ignored"];
    let args = match call {
        Call::All => &args[..3],
        Call::Ignored => &args[..],
    };
    let command = command(binary, args, options);
    let executed = execute(worker, binary, &command, options)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if let Some(exit) = executed.exit.filter(|exit| !exit.success()) {
        let error = ListError::Failed {
            command: shown(&command),
            exit,
            stdout: text(&executed.stdout),
            stderr: text(&executed.stderr),
        };
        return Err(explained(binary, error));
    }
    match parse::lines(&executed.stdout) {
        Ok(_) => Ok(executed.stdout),
        Err(source) => {
            let error = ListError::Malformed {
                command: shown(&command),
                stdout: text(&executed.stdout),
                source,
            };
            Err(explained(binary, error))
        }
    }
}

/// Runs a binary, which has to end within the limit.
fn execute(
    worker: &mut dyn Execute,
    binary: &TestBinary,
    command: &Command,
    options: &ListOptions<'_>,
) -> Result<Executed, ListError> {
    let executed = worker
        .execute(command, options.limit)
        .map_err(|source| ListError::Execute {
            command: shown(command),
            source,
        })?;
    if let Some(failure) = executed.start_failure {
        return Err(ListError::Start {
            command: shown(command),
            failure,
        });
    }
    if executed.exit.is_none() {
        let error = ListError::TooSlow {
            binary: binary.id.clone(),
            command: shown(command),
            limit: options.limit,
        };
        return Err(explained(binary, error));
    }
    Ok(executed)
}

/// Says so if a binary has a harness of its own.
fn explained(binary: &TestBinary, error: ListError) -> ListError {
    match has_libtest(binary) {
        true => error,
        false => ListError::Harness {
            binary: binary.id.clone(),
            declared: binary.harness == Harness::Custom,
            source: Box::new(error),
        },
    }
}

/// Returns a command line for copy and paste.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.program.as_os_str())
        .chain(command.args.iter().map(OsString::as_os_str));
    shell_words::join(words.map(|word| word.to_string_lossy()))
}

fn command(binary: &TestBinary, args: &[&str], options: &ListOptions<'_>) -> Command {
    let mut environment = Environment::clone(&binary.list_environment);
    for (name, value) in options.environment {
        environment.set(name, value);
    }
    for prefix in ["NEXTEST", "HARNESS"] {
        environment.set(format!("{prefix}_TEST_PHASE"), "list");
    }
    let args = args.iter().map(OsString::from);
    let cwd = binary.cwd.clone().into();
    let path: Utf8PathBuf = binary.path.clone();
    if let Some(wrapper) = (options.wrapper)(binary) {
        for (name, value) in &wrapper.env {
            environment.set(name, value);
        }
        let mut words = wrapper.words.into_iter().chain([path.into_os_string()]);
        return Command {
            program: words.next().unwrap_or_default().into(),
            args: words.chain(args).collect(),
            environment,
            cwd,
        };
    }
    match options.runners.get(binary.target.as_deref()) {
        None => Command {
            program: path.into(),
            args: args.collect(),
            environment,
            cwd,
        },
        Some(runner) => {
            let before = runner.args.iter().cloned().chain([path.into_os_string()]);
            let program = runner.program.clone();
            Command {
                program,
                args: before.chain(args).collect(),
                environment,
                cwd,
            }
        }
    }
}
