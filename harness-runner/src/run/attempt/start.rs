//! The start of an attempt: the request to the stub.

use super::Running;
use crate::{
    protocol::{Request, Spawn, Trace},
    run::{
        Capture, Image, StandardInput,
        arguments::{arguments, word},
        blocks,
        causes::with_causes,
        environment::OfAttempt,
        scripts,
        unit::Input,
        will,
        work::Role,
    },
    stub::{blocking::terminated, link::StubError},
};
use harness_metadata::StartFailure;
use std::{
    ffi::{OsStr, OsString},
    io::{self, IsTerminal},
    os::fd::{AsFd, OwnedFd},
};

impl Running<'_> {
    /// Gives the attempt to the stub. Fails with what the unit is to know of it.
    pub(super) fn spawn(&mut self) -> Result<(), Input> {
        let name = format!("slot-{}.{}", self.slot.number, self.ticket);
        let cgroups = self.shared.work.cgroups.as_deref();
        let limits = self.test.settings.limits;
        let bounded = self.slot.bounds.begin(cgroups, &name, limits);
        bounded.map_err(|error| {
            Input::StartFailed(StartFailure {
                message: with_causes(&error),
                errno: error.source.raw_os_error().unwrap_or_default(),
            })
        })?;
        self.prepare_script()?;
        self.ask_to_start().map_err(|error| {
            self.refused(error.is_scarcity());
            Input::StubLost(with_causes(&error))
        })
    }

    /// Gives a setup script the file for its variables, and its stub the teardown.
    fn prepare_script(&mut self) -> Result<(), Input> {
        let Role::Setup {
            script, teardown, ..
        } = self.test.role
        else {
            return Ok(());
        };
        let made = self.shared.scripts.make_file(script);
        self.env_file = Some(made.map_err(|error| {
            Input::StartFailed(StartFailure {
                message: format!("no file for its variables could be made: {error}"),
                errno: error.raw_os_error().unwrap_or_default(),
            })
        })?);
        let left = teardown.map(|unit| will::leave(self.slot, self.shared, unit));
        left.transpose()
            .map(drop)
            .map_err(|error| Input::StubLost(with_causes(&error)))
    }

    fn ask_to_start(&mut self) -> Result<(), StubError> {
        let work = &self.shared.work;
        let binary = &work.binaries[self.test.binary];
        let program = self.test.program(binary).first();
        let args = arguments(binary, self.test);
        let args: Vec<u8> = args.iter().flat_map(|arg| terminated(arg)).collect();
        let (environment, trace_file) = (self.environment(), self.trace_file());
        let [stdout, stderr] = self.outputs()?;
        let null = self.slot.null.open()?;
        let own = io::stdin();
        let is_test = self.test.role == Role::Test;
        let terminal = is_test && work.capture == Capture::Inherit { terminal: true };
        let asks = match work.stdin {
            StandardInput::Terminal => terminal && own.is_terminal(),
            StandardInput::Own => is_test,
            StandardInput::Null => false,
        };
        let stdin = if asks { own.as_fd() } else { null.as_fd() };
        let spawn = Spawn {
            ticket: self.ticket,
            program: &terminated(program.map_or(OsStr::new(""), OsString::as_os_str)),
            args: &args,
            environment: &environment,
            cwd: &terminated(binary.cwd.as_os_str()),
            trace: Trace {
                level: self.tracing.level,
                backend: self.tracing.backend,
                file: &trace_file,
                live: work.live.is_some(),
                no_new_privs: self.tracing.no_new_privs,
                break_exec: work.break_exec.as_bytes(),
            },
            foreground: terminal,
            cgroup: self.slot.bounds.cgroup(),
            image: binary.image.as_ref().map(Image::to_protocol),
        };
        let fds = [stdin, stdout.as_fd(), stderr.as_fd()];
        self.slot.stub.start(&Request::Spawn(spawn), &fds)
    }

    fn environment(&self) -> Vec<u8> {
        if self.test.role != Role::Test {
            let mut block = blocks::of_script(self.shared, self.test);
            if let Some(path) = &self.env_file {
                scripts::push_file(&mut block, path);
            }
            return block;
        }
        blocks::of_attempt(
            self.shared,
            &OfAttempt {
                test: self.test,
                attempt: self.start.attempt,
                total_attempts: self.start.total_attempts,
                slot: self.slot.number,
                group_slot: self.start.group_slot,
            },
        )
    }

    /// Returns where its trace is written; empty for nowhere.
    fn trace_file(&self) -> Vec<u8> {
        match (&self.shared.work.trace_files, self.test.trace_number) {
            (Some(files), Some(first)) => {
                let path = files.path(first + u64::from(self.start.attempt) - 1);
                path.into_string().into_bytes()
            }
            _ => Vec::new(),
        }
    }

    /// Returns its standard output and its standard error.
    fn outputs(&mut self) -> io::Result<[OwnedFd; 2]> {
        let work = &self.shared.work;
        let captured = match (work.capture, self.test.role) {
            (Capture::Inherit { .. }, _) => [false; 2],
            (Capture::Pipes, Role::Test) => [true; 2],
            (Capture::Pipes, Role::Setup { capture, .. } | Role::Teardown { capture, .. }) => {
                capture
            }
        };
        let own = || -> io::Result<[OwnedFd; 2]> {
            Ok([
                io::stdout().as_fd().try_clone_to_owned()?,
                io::stderr().as_fd().try_clone_to_owned()?,
            ])
        };
        if captured == [false; 2] {
            return own();
        }
        let word = word(&work.binaries[self.test.binary], self.test);
        let (stdout, stderr) = self.streams.open(work.output_cap, word)?;
        let [own_stdout, own_stderr] = own()?;
        Ok([
            if captured[0] { stdout } else { own_stdout },
            if captured[1] { stderr } else { own_stderr },
        ])
    }
}
