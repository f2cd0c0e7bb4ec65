//! Asks binaries for their tests.

use super::{Execute, ListError, ListOptions, parse, recognise};
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

/// One of the two calls of a binary.
pub(super) struct Job {
    pub(super) binary: Arc<TestBinary>,
    pub(super) ignored: bool,
}

/// The result of a job.
pub(super) struct Answer {
    pub(super) id: RustBinaryId,
    pub(super) ignored: bool,
    /// Whether the binary was found to have the standard harness. Only the call without `--ignored`
    /// looks.
    pub(super) libtest: bool,
    pub(super) output: Result<Vec<u8>, ListError>,
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
        let Ok(Job { binary, ignored }) = job else {
            return;
        };
        if failed.load(Ordering::Relaxed) {
            continue;
        }
        let libtest = !ignored && has_libtest(&binary);
        let output = ask(worker, &binary, ignored, options);
        if output.is_err() {
            failed.store(true, Ordering::Relaxed);
        }
        let _ = answers.send(Answer {
            id: binary.id.clone(),
            ignored,
            libtest,
            output,
        });
    }
}

fn has_libtest(binary: &TestBinary) -> bool {
    match binary.harness {
        Harness::Libtest => recognise::is_libtest(&binary.path),
        Harness::Custom => false,
    }
}

fn ask(
    worker: &mut dyn Execute,
    binary: &TestBinary,
    ignored: bool,
    options: &ListOptions<'_>,
) -> Result<Vec<u8>, ListError> {
    let command = command(binary, ignored, options);
    let words = std::iter::once(command.program.as_os_str())
        .chain(command.args.iter().map(OsString::as_os_str));
    let shown = shell_words::join(words.map(|word| word.to_string_lossy()));
    let explained = |error: ListError| match has_libtest(binary) {
        true => error,
        false => ListError::Harness {
            binary: binary.id.clone(),
            declared: binary.harness == Harness::Custom,
            source: Box::new(error),
        },
    };
    let executed =
        worker
            .execute(&command, options.limit)
            .map_err(|source| ListError::Execute {
                command: shown.clone(),
                source,
            })?;
    if let Some(failure) = executed.start_failure {
        return Err(ListError::Start {
            command: shown,
            failure,
        });
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match executed.exit {
        None => {
            let (binary, limit) = (binary.id.clone(), options.limit);
            return Err(explained(ListError::TooSlow {
                binary,
                command: shown,
                limit,
            }));
        }
        Some(exit) if !exit.success() => {
            let (stdout, stderr) = (text(&executed.stdout), text(&executed.stderr));
            return Err(explained(ListError::Failed {
                command: shown,
                exit,
                stdout,
                stderr,
            }));
        }
        Some(_) => {}
    }
    match parse::lines(&executed.stdout) {
        Ok(_) => Ok(executed.stdout),
        Err(source) => {
            let stdout = text(&executed.stdout);
            Err(explained(ListError::Malformed {
                command: shown,
                stdout,
                source,
            }))
        }
    }
}

fn command(binary: &TestBinary, ignored: bool, options: &ListOptions<'_>) -> Command {
    let mut environment = Environment::clone(&binary.list_environment);
    for (name, value) in options.environment {
        environment.set(name, value);
    }
    for prefix in ["NEXTEST", "HARNESS"] {
        environment.set(format!("{prefix}_TEST_PHASE"), "list");
    }
    let mut args = vec!["--list", "--format", "terse"];
    args.extend(ignored.then_some("--ignored"));
    let args = args.into_iter().map(OsString::from);
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
