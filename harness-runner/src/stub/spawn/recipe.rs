//! The parts that a root is made from.

use super::{Manner, SpawnError};
use crate::{
    policy::Bounds,
    protocol::{self, Recording, Spawn, Trace},
    stub::{
        broker::Broker,
        cgroup::Den,
        confine,
        sys::{Image, Options, Pid, RawUsage},
        watch::Way,
    },
    sys::Tgid,
    tracer::{
        breakpoint::Breakpoint,
        entries::{EntryRecord, Executables},
        filter::{self, Action},
        inject::Injections,
        loads::{Known, Load, Loads},
        tasks::{Loader, Root},
    },
};
use harness_metadata::{StartFailure, event::TraceLevel, trace::Backend};
use std::{
    borrow::Cow,
    cell::RefCell,
    ffi::{CStr, CString},
    io,
    rc::Rc,
    time::Instant,
};

/// A request to a spawner.
#[derive(Copy, Clone)]
pub(super) struct Asked<'a> {
    pub(super) spawn: &'a Spawn<'a>,
    pub(super) way: &'a Way,
    pub(super) manner: Manner,
}

/// All that a root is made from.
pub(super) struct Recipe<'a> {
    pub(super) asked: Asked<'a>,
    /// The broker that sends inner runs their events.
    pub(super) broker: Option<Rc<RefCell<Broker>>>,
    pub(super) environment: Cow<'a, [u8]>,
    pub(super) program: CString,
    pub(super) cwd: &'a CStr,
    pub(super) breakpoint: Option<Breakpoint>,
    /// If the functions that are entered are recorded.
    pub(super) entries: Option<EntryRecord>,
    /// The memory of loaders, if there is one.
    pub(super) loads: Option<Rc<RefCell<Loads>>>,
    /// If what its loader does is known, or to be remembered.
    pub(super) loader: Option<Loader>,
    /// The cgroup that it is born into.
    pub(super) den: Option<Rc<Den>>,
    /// The calls of its processes that fail.
    pub(super) inject: Option<Injections>,
    /// Its policy.
    pub(super) bounds: Option<Rc<Bounds>>,
}

/// The executables of the run whose entries are recorded, and the file that lists them.
#[derive(Default)]
pub(super) struct Listed(Option<(String, Rc<Executables>)>);

impl Listed {
    /// Returns the record of a child and its descendants. Without the list nothing is recorded, and so nothing is known
    /// of them.
    pub(super) fn recording(
        &mut self,
        asked: Option<protocol::Entries<'_>>,
    ) -> Option<EntryRecord> {
        let asked = asked?;
        let known = self.0.as_ref();
        let known = known.filter(|(path, _)| path == asked.executables);
        let executables = match known {
            Some((_, executables)) => Rc::clone(executables),
            None => {
                let executables = Rc::new(Executables::load(asked.executables).ok()?);
                let path = asked.executables.to_owned();
                self.0 = Some((path, Rc::clone(&executables)));
                executables
            }
        };
        Some(EntryRecord::new(executables, asked.prefix.to_owned()))
    }
}

/// The filter of the last child that had one, its level and what it does.
#[derive(Default)]
pub(super) struct Filters(Option<(TraceLevel, Action, Rc<[libc::sock_filter]>)>);

impl Filters {
    /// Returns the filter of a child.
    pub(super) fn of(&mut self, way: &Way, inject: Option<&Injections>) -> Rc<[libc::sock_filter]> {
        let action = match (way.backend, way.recording) {
            (Backend::Notify, _) => Action::Notify,
            (_, Recording::On) => Action::Record,
            (_, Recording::Off | Recording::Verified) => Action::Trace,
        };
        if let Some(inject) = inject {
            return filter::program_with(way.level, action, &inject.calls()).into();
        }
        match &self.0 {
            Some((level, does, program)) if (*level, *does) == (way.level, action) => {
                Rc::clone(program)
            }
            _ => {
                let program = Rc::from(filter::program(way.level, action));
                self.0 = Some((way.level, action, Rc::clone(&program)));
                program
            }
        }
    }
}

/// A root that has just been created.
#[derive(Copy, Clone)]
pub(super) struct Born {
    pub(super) pid: Pid,
    pub(super) at: Instant,
    /// The usage of the stub's earlier children.
    pub(super) baseline: RawUsage,
}

impl Recipe<'_> {
    /// Returns what its loader will do, if that is known.
    pub(super) fn known_load(&self) -> Option<&Rc<Load>> {
        match &self.loader.as_ref()?.known {
            Known::Yes(load) => Some(load),
            Known::No => None,
        }
    }

    /// Returns whether it must not run without a filter.
    pub(super) fn needs_filter(&self) -> bool {
        let bounds = self.bounds.as_deref();
        bounds.is_some_and(confine::needs_tracer) || self.inject.is_some()
    }

    /// Returns what stops it.
    pub(super) fn options(&self) -> Options {
        Options {
            filtered: self.asked.way.filtered() || self.breakpoint.is_some(),
            // There it is seen whether it is still in its cgroup.
            exits: self.den.as_ref().is_some_and(|den| den.is_limited()),
            ..Options::default()
        }
    }

    /// Returns the root as its tracer takes it.
    pub(super) fn into_root(self, born: Born) -> Root {
        let options = self.options();
        Root {
            pid: Tgid::new(born.pid),
            started: born.at,
            level: self.asked.way.level,
            program: self.program.into_bytes(),
            args: self.asked.spawn.command.args.to_vec(),
            environment: self.environment.into_owned(),
            cwd: self.cwd.to_bytes().to_vec(),
            breakpoint: self.breakpoint,
            policy: self.bounds.filter(|bounds| confine::needs_tracer(bounds)),
            inject: self.inject,
            loader: self.loader,
            entries: self.entries,
            loads: self.loads,
            recording: self.asked.way.recording,
            options,
            reaped: born.baseline,
        }
    }
}

/// Returns where to stop descendants. Who is let go of must not have a filter.
pub(super) fn breakpoint(trace: &Trace<'_>, way: &Way) -> Result<Option<Breakpoint>, SpawnError> {
    if trace.break_exec.is_empty() || way.filtered() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(trace.break_exec);
    match text.parse() {
        Ok(breakpoint) => Ok(Some(breakpoint)),
        Err(error) => Err(SpawnError::Stub(io::Error::other(error))),
    }
}

/// Returns a string that is ended by NUL.
pub(super) fn string(bytes: &[u8]) -> Result<&CStr, SpawnError> {
    CStr::from_bytes_with_nul(bytes).map_err(|_| {
        let message = "a path contains a NUL byte, which no path can";
        SpawnError::Test(StartFailure {
            message: message.to_owned(),
            errno: libc::EINVAL,
        })
    })
}

/// Returns the file that must not have changed.
pub(super) fn image(spawn: &Spawn<'_>) -> Result<Option<Image>, SpawnError> {
    let image = |image: &protocol::Image<'_>| -> Result<Image, SpawnError> {
        Ok(Image {
            path: string(image.path)?.to_owned(),
            identity: image.identity,
        })
    };
    spawn.image.as_ref().map(image).transpose()
}

/// Searches a program without a slash in the `PATH` of the environment, as execvp(3) would.
pub(super) fn find_program(program: &CStr, environment: &[u8], cwd: &CStr) -> CString {
    let name = program.to_bytes();
    if name.contains(&b'/') || name.is_empty() {
        return program.to_owned();
    }
    let variables = environment.split(|byte| *byte == 0);
    let path = variables
        .filter_map(|variable| variable.strip_prefix(b"PATH="))
        .next();
    for directory in path.unwrap_or(b"/bin:/usr/bin").split(|byte| *byte == b':') {
        let mut candidate = match directory {
            [b'/', ..] => directory.to_vec(),
            relative => [cwd.to_bytes(), b"/", relative].concat(),
        };
        candidate.push(b'/');
        candidate.extend_from_slice(name);
        let Ok(candidate) = CString::new(candidate) else {
            continue;
        };
        if nix::unistd::access(candidate.as_c_str(), nix::unistd::AccessFlags::X_OK).is_ok() {
            return candidate;
        }
    }
    program.to_owned()
}
