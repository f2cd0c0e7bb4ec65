//! Makes the processes of an invocation.

use super::{Invocation, Limits, Stdin, cgroup, explain};
use crate::{
    Error,
    guardian::{self, Record, Setup},
    supervise::{Streams, Tree, next_record},
    sys,
};
use std::{
    collections::BTreeMap,
    env,
    ffi::{CString, OsStr, OsString},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

/// Starts the program. Returns once it executes.
pub(super) fn start(invocation: &Invocation<'_>) -> Result<Tree, Error> {
    let payload = invocation.payload.name;
    let fail = |reason: String| Error::Start {
        payload: payload.to_owned(),
        reason,
    };
    let system = |error: io::Error| fail(format!("its pipes could not be made: {error}"));
    let environment = environment(invocation);
    let search = environment.get(OsStr::new("PATH")).map(OsString::as_os_str);
    let program = explain::find(&invocation.program, search).map_err(fail)?;
    let folder = invocation.folder.as_deref().map(std::path::absolute);
    let folder = folder.transpose().map_err(system)?;
    let (orders, to_guardian) = io::pipe().map_err(system)?;
    let (from_guardian, report) = io::pipe().map_err(system)?;
    let (stdout, stdout_end) = io::pipe().map_err(system)?;
    let (stderr, stderr_end) = io::pipe().map_err(system)?;
    let (stdin_end, stdin) = stdin(&invocation.stdin).map_err(system)?;
    let files = Files {
        program: &program,
        folder: folder.as_deref(),
    };
    let setup = setup(invocation, &environment, files, orders, report).map_err(fail)?;
    for fd in [stdout.as_fd(), stderr.as_fd()] {
        sys::set_nonblocking(fd).map_err(system)?;
    }
    let begun = Instant::now();
    // The standard library forks with the streams in place, and hides no signal from the program. The
    // rest is done before it would execute: see `guardian`.
    let mut command = Command::new(&program);
    command
        .stdin(stdin_end)
        .stdout(stdout_end)
        .stderr(stderr_end);
    sys::before_exec(&mut command, move || guardian::stand_between(&setup));
    let child = command.spawn().map_err(|error| {
        fail(format!(
            "the process that supervises it could not be created: {error}"
        ))
    })?;
    // With it, this process's ends of the program's pipes.
    drop(command);
    let tree = Tree::new(
        payload.to_owned(),
        child,
        to_guardian,
        Streams {
            stdout,
            stderr,
            stdin,
            report: from_guardian,
        },
        begun,
        invocation.limit,
        invocation.grace,
    );
    started(tree, files).map_err(fail)
}

/// The files of an invocation, as absolute paths.
#[derive(Copy, Clone)]
struct Files<'a> {
    program: &'a Path,
    folder: Option<&'a Path>,
}

/// Prepares all that is needed behind the fork, where nothing can be allocated.
fn setup(
    invocation: &Invocation<'_>,
    environment: &BTreeMap<OsString, OsString>,
    files: Files<'_>,
    orders: io::PipeReader,
    report: io::PipeWriter,
) -> Result<Setup, String> {
    let place = invocation.cgroup.as_deref().map(cgroup::open).transpose()?;
    let arguments = std::iter::once(&invocation.program).chain(&invocation.args);
    let variables = environment.iter().map(|(name, value)| {
        let all = [name.as_bytes(), b"=", value.as_bytes()];
        OsString::from_vec(all.concat())
    });
    Ok(Setup {
        orders: orders.into(),
        report: report.into(),
        group: invocation.group,
        place,
        limits: limits(invocation.limits),
        test: sys::own_pid(),
        program: string(files.program.as_os_str()),
        args: sys::Strings::new(arguments.map(|arg| string(arg)).collect()),
        environment: sys::Strings::new(variables.map(|text| string(&text)).collect()),
        folder: files.folder.map(|folder| string(folder.as_os_str())),
    })
}

/// Reads the guardian's first words. The program executes, or has failed to: the pipe by which the
/// standard library knows is closed in it, and so a failure has been reported.
fn started(mut tree: Tree, files: Files<'_>) -> Result<Tree, String> {
    let mut failure = None;
    while tree.leader.is_none() && failure.is_none() {
        match next_record(&tree.streams.report) {
            Some(Record::Started(pid)) => tree.leader = Some(pid),
            Some(Record::Failed { stage, errno }) => failure = Some((stage, errno)),
            Some(record) => tree.early.push(record),
            None => {
                tree.reap();
                return Err("the process that supervises it was ended by another one".to_owned());
            }
        }
    }
    let report = tree.streams.report.as_fd();
    sys::set_nonblocking(report).map_err(|error| error.to_string())?;
    while failure.is_none() {
        match next_record(&tree.streams.report) {
            Some(Record::Failed { stage, errno }) => failure = Some((stage, errno)),
            Some(record) => tree.early.push(record),
            None => return Ok(tree),
        }
    }
    tree.reap();
    let (stage, errno) = failure.unwrap_or((guardian::Stage::Guardian, 0));
    Err(explain::failure(stage, errno, files.program, files.folder))
}

/// Returns the program's end of its standard input, and what is to be written to the other one.
type Input = Option<(io::PipeWriter, Vec<u8>)>;

fn stdin(stdin: &Stdin) -> io::Result<(Stdio, Input)> {
    Ok(match stdin {
        Stdin::Empty => (Stdio::null(), None),
        Stdin::Inherit => (Stdio::inherit(), None),
        Stdin::Bytes(bytes) => {
            let (reader, writer) = io::pipe()?;
            sys::set_nonblocking(writer.as_fd())?;
            (OwnedFd::from(reader).into(), Some((writer, bytes.clone())))
        }
    })
}

fn environment(invocation: &Invocation<'_>) -> BTreeMap<OsString, OsString> {
    let mut environment: BTreeMap<OsString, OsString> = env::vars_os().collect();
    for (name, value) in &invocation.environment {
        match value {
            Some(value) => environment.insert(name.clone(), value.clone()),
            None => environment.remove(name),
        };
    }
    environment
}

fn limits(limits: Limits) -> Vec<(u32, u64)> {
    let all = [
        (sys::ADDRESS_SPACE, limits.address_space),
        (sys::CPU, limits.cpu_seconds),
        (sys::FILE_SIZE, limits.file_size),
        (sys::OPEN_FILES, limits.open_files),
        (sys::CORE, limits.core),
    ];
    let set = all
        .into_iter()
        .filter_map(|(resource, value)| Some((resource, value?)));
    set.collect()
}

/// Strings with a NUL were refused when they were given, and the environment has none.
fn string(text: &OsStr) -> CString {
    let bytes = text.as_bytes();
    let end = bytes.iter().position(|byte| *byte == 0);
    CString::new(&bytes[..end.unwrap_or(bytes.len())]).unwrap_or_default()
}
