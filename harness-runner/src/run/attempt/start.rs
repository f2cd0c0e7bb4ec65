//! The start of an attempt: the request to the stub.

use super::Running;
use crate::{
    protocol::{Entries, OwnFarewell, Request, Spawn, Trace},
    run::{
        Capture, Image, StandardInput,
        arguments::{command, word},
        blocks,
        causes::with_causes,
        dispatch::Said,
        environment::OfAttempt,
        scripts,
        slot::FromSlot,
        unit::Input,
        will,
        work::Role,
    },
    stub::link::StubError,
};
use harness_metadata::StartFailure;
use std::{
    io::{self, IsTerminal},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
};

impl Running<'_> {
    /// Gives the attempt to the stub. Fails with what the unit is to know of it.
    pub(super) fn spawn(&mut self) -> Result<(), Input> {
        let name = format!("slot-{}.{}", self.slot.number, self.ticket);
        let cgroups = self.shared.work.cgroups.as_deref();
        // Another run kills what is in the cgroups of a dead runner, and these are to outlive it.
        let outlives = matches!(self.test.role, Role::Service { .. } | Role::Setup { .. });
        let cgroups = cgroups.filter(|_| !outlives);
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
        })?;
        if let Role::Service { .. } = self.test.role {
            self.slot.tell(FromSlot::Said {
                slot: self.slot.number,
                what: Said::Begun,
            });
        }
        Ok(())
    }

    /// Gives a setup script or a service the file for its variables, and the stub of a setup script the
    /// teardown.
    fn prepare_script(&mut self) -> Result<(), Input> {
        let (made, teardown) = match self.test.role {
            Role::Setup {
                script, teardown, ..
            } => (self.shared.scripts.make_file(script), teardown),
            Role::Service { service } => {
                self.shared.services.release_ports(service);
                (self.shared.services.files.make_file(service), None)
            }
            Role::Test | Role::Teardown { .. } | Role::Probe { .. } => return Ok(()),
        };
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
        let command = command(binary, self.test, self.environment());
        let trace_file = self.trace_file();
        let [stdout, stderr] = self.outputs()?;
        let farewell = self.farewell();
        let entries = self.entries();
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
            command: command.raw(),
            trace: Trace {
                level: self.tracing.level,
                backend: self.tracing.backend,
                recording: self.tracing.recording,
                file: &trace_file,
                live: work.live.is_some(),
                no_new_privs: self.tracing.no_new_privs,
                break_exec: work.break_exec.as_bytes(),
            },
            foreground: terminal,
            cgroup: self.slot.bounds.cgroup(),
            image: binary.image.as_ref().map(Image::to_protocol),
            farewell: farewell.as_ref().map(OwnFarewell::to_protocol),
            policy: self.test.policy.as_deref().unwrap_or_default(),
            inject: self.test.inject.as_deref().unwrap_or_default(),
            entries: entries.as_ref().map(|(executables, prefix)| Entries {
                executables,
                prefix,
            }),
        };
        let mut fds = vec![stdin, stdout.as_fd(), stderr.as_fd()];
        if farewell.is_some() {
            fds.extend(self.streams.readers());
        }
        self.slot.stub.start(&Request::Spawn(spawn), &fds)
    }

    /// Returns the list of executables whose entries are recorded, and where.
    fn entries(&self) -> Option<(String, String)> {
        let of_run = self.shared.work.entries.as_ref()?;
        let recorded = self.test.role == Role::Test && self.test.keeps_trace;
        recorded.then(|| (of_run.executables(), of_run.prefix(&self.test.id)))
    }

    /// Returns how the stub ends it if the runner dies.
    fn farewell(&self) -> Option<OwnFarewell> {
        let Role::Service { service } = self.test.role else {
            return None;
        };
        let (signal, folder) = self.shared.services.farewell(service);
        Some(OwnFarewell {
            signal,
            grace: self.test.settings.slow_timeout.grace_period,
            folder: folder.map_or_else(Vec::new, |folder| folder.as_os_str().as_bytes().to_vec()),
        })
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
                iteration: self.shared.work.iteration(self.start.test),
                attempt: self.start.attempt,
                total_attempts: self.start.total_attempts,
                slot: self.slot.number,
                group_slot: self.start.group_slot,
                metrics_file: self.metrics_file.as_deref(),
            },
        )
    }

    /// Returns where its trace is written; empty for nowhere.
    fn trace_file(&mut self) -> Vec<u8> {
        let files = self.shared.work.trace_files.as_ref();
        let Some(files) = files.filter(|_| self.test.keeps_trace) else {
            return Vec::new();
        };
        self.slot.traces.begin(files).as_str().into()
    }

    /// Returns its standard output and its standard error.
    fn outputs(&mut self) -> io::Result<[OwnedFd; 2]> {
        let work = &self.shared.work;
        let captured = match (work.capture, self.test.role) {
            (_, Role::Service { .. } | Role::Probe { .. }) => [true; 2],
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
        let (stdout, stderr) = self
            .streams
            .open(work.output_cap, word, self.printed.is_some())?;
        if let Role::Service { service } = self.test.role
            && let Some(line) = self.shared.services.line(service)
        {
            self.streams.look_for(line);
        }
        let [own_stdout, own_stderr] = own()?;
        Ok([
            if captured[0] { stdout } else { own_stdout },
            if captured[1] { stderr } else { own_stderr },
        ])
    }
}
