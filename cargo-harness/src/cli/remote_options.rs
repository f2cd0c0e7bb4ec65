//! Options of `run` for tests that run elsewhere, and the connection to the engine.

use super::{prepared, runner_options::RunnerArgs};
use crate::command_error::{CommandError, Kind};
use camino::Utf8Path;
use clap::Args;
use harness_runner::{
    config::{CliOverrides, RunSettings},
    session::Remote,
};

/// Options for tests that run elsewhere.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Remote options")]
pub(super) struct RemoteArgs {
    /// Run tests by this engine too: `grpc://HOST:PORT`, or `grpcs://HOST:PORT` with TLS; empty for none.
    #[arg(long, value_name = "ADDRESS", env = "HARNESS_REMOTE")]
    pub(super) remote: Option<String>,
    /// Run this many tests elsewhere at the same time, beside those here.
    #[arg(long, value_name = "N", env = "HARNESS_REMOTE_SLOTS",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) remote_slots: Option<u32>,
}

impl RemoteArgs {
    /// Adds the settings of the command line.
    pub(super) fn add_to(&self, overrides: &mut CliOverrides) {
        overrides.run.remote_address.clone_from(&self.remote);
        let slots = self
            .remote_slots
            .and_then(|slots| usize::try_from(slots).ok());
        overrides.run.remote_slots = slots;
    }

    /// Connects to the engine of a run; `None` if it has none. `in_the_way` is a flag with which tests have to run here,
    /// and the reason.
    pub(super) fn connect(
        &self,
        settings: &RunSettings,
        root: &Utf8Path,
        in_the_way: Option<(&str, &str)>,
        colors: bool,
    ) -> Result<Option<Remote>, CommandError> {
        if settings.remote_address.is_empty() {
            return Ok(None);
        }
        let Some((flag, why)) = in_the_way else {
            return engine::connect(settings, root).map(Some);
        };
        match self.remote {
            Some(_) => {
                let message = format!("`--remote` cannot be used with `{flag}`: {why}");
                Err(CommandError::new(Kind::Usage, message))
            }
            None => {
                let text = format!("all tests run here with `{flag}`: {why}");
                prepared::note(&text, colors);
                Ok(None)
            }
        }
    }
}

#[cfg(feature = "remote")]
mod engine {
    use crate::{
        cli::prepared,
        command_error::{CommandError, Kind},
    };
    use camino::{Utf8Path, Utf8PathBuf};
    use harness_remote::{Client, Content, Input, Settings, Tls, Token};
    use harness_runner::{
        config::RunSettings,
        run::engine::{self, Action, Answer, Done, Engine, Failed},
        session::Remote,
    };
    use std::{os::unix::fs::PermissionsExt, path::Path, sync::Arc};

    /// The client as a run knows it.
    #[derive(Debug)]
    struct Connected(Client);

    pub(super) fn connect(settings: &RunSettings, root: &Utf8Path) -> Result<Remote, CommandError> {
        let usage = |why: &str| Err(CommandError::new(Kind::Setup, why));
        if settings.remote_token_file.is_some() && !settings.remote_token_command.is_empty() {
            return usage(
                "`remote.token-file` and `remote.token-command` are two places of one token",
            );
        }
        let path = |path: &Option<Utf8PathBuf>| {
            path.as_ref()
                .map(|path| root.join(path).into_std_path_buf())
        };
        let token = match (
            path(&settings.remote_token_file),
            &settings.remote_token_command,
        ) {
            (Some(file), _) => Token::File(file),
            (None, words) if words.is_empty() => Token::None,
            (None, words) => Token::Command(words.clone()),
        };
        let name = Some(settings.remote_server_name.clone());
        let settings = Settings {
            address: settings.remote_address.clone(),
            instance: settings.remote_instance.clone(),
            tls: Tls {
                ca: path(&settings.remote_ca),
                certificate: path(&settings.remote_certificate),
                key: path(&settings.remote_key),
                name: name.filter(|name| !name.is_empty()),
            },
            token,
        };
        let client = Client::connect(&settings);
        let client = client.map_err(|error| CommandError::new(Kind::Setup, error))?;
        Ok(Remote {
            engine: Arc::new(Connected(client)),
            notify: |notice| prepared::tell(&notice, false),
        })
    }

    impl Engine for Connected {
        fn address(&self) -> &str {
            &self.0.engine().address
        }

        fn execute(&self, action: Action, answer: Answer) -> Box<dyn Send> {
            let inputs = action.inputs.into_iter().map(|(path, content)| Input {
                path,
                content: content_of(content),
            });
            let translated = harness_remote::Action {
                arguments: action.arguments,
                inputs: inputs.collect(),
                outputs: action.outputs,
                properties: action.properties,
                timeout: action.timeout,
                patience: action.patience,
                salt: action.salt.into_bytes(),
                tries: action.tries,
            };
            let engine = self.address().to_owned();
            Box::new(self.0.execute(translated, move |done| {
                answer(match done {
                    Ok(done) => Ok(done_by(engine, done)),
                    Err(failure) => Err(Failed {
                        message: failure.message,
                        earlier: failure.earlier,
                    }),
                });
            }))
        }
    }

    fn content_of(content: engine::Content) -> Content {
        match content {
            engine::Content::Folder => Content::Folder,
            engine::Content::Bytes(bytes) => Content::Bytes(bytes),
            engine::Content::File(from) => Content::File {
                executable: is_executable(&from),
                from,
            },
        }
    }

    fn is_executable(file: &Path) -> bool {
        let mode = file.metadata().map(|found| found.permissions().mode());
        mode.is_ok_and(|mode| mode & 0o111 != 0)
    }

    fn done_by(engine: String, done: harness_remote::Done) -> Done {
        let times = done.times;
        let place = harness_metadata::Remote {
            engine,
            worker: done.worker,
            upload: times.upload,
            queue: times.queue,
            staging: times.staging,
            execution: times.execution,
            fetch: times.fetch,
            uploaded: done.uploaded,
            inputs: 0,
            backup: false,
            earlier: done.earlier,
        };
        Done {
            exit_code: done.exit_code,
            outputs: done.outputs,
            stderr: done.stderr,
            place,
        }
    }
}

#[cfg(not(feature = "remote"))]
mod engine {
    use crate::command_error::{CommandError, Kind};
    use camino::Utf8Path;
    use harness_runner::{config::RunSettings, session::Remote};

    /// Without the client no engine can be reached.
    pub(super) fn connect(
        settings: &RunSettings,
        _root: &Utf8Path,
    ) -> Result<Remote, CommandError> {
        let message = format!(
            "tests are to run by `{}`, and this program was built without the client of engines",
            settings.remote_address
        );
        Err(CommandError::new(Kind::Setup, message).with_hint(
            "`cargo install cargo-harness --features remote` installs it with that client",
        ))
    }
}

/// Returns a flag with which tests have to run here, and why. `bench` says that benchmarks run.
pub(super) fn in_the_way(
    runner: &RunnerArgs,
    no_capture: bool,
    bench: bool,
) -> Option<(&'static str, &'static str)> {
    let flags = [
        (
            bench,
            "bench",
            "times of different machines cannot be compared",
        ),
        (
            runner.runs_below(),
            "--debugger",
            "the test runs below another program",
        ),
        (
            runner.break_exec.is_some(),
            "--break-exec",
            "its processes are stopped",
        ),
        (
            !runner.inject.is_empty(),
            "--inject",
            "the tracer of this machine has the calls fail",
        ),
        (
            runner.trace_live,
            "--trace-live",
            "a trace comes back with the result",
        ),
        (
            runner.stress().is_some(),
            "--stress-count",
            "its iterations have one place",
        ),
        (no_capture, "--no-capture", "tests see the terminal"),
    ];
    flags
        .into_iter()
        .find_map(|(given, flag, why)| given.then_some((flag, why)))
}
