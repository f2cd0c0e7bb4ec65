//! One start of a payload, from its arguments to its process.

mod cgroup;
mod explain;
mod start;

use crate::{
    Check, Error, Kind, Payload, Report, Running, check::Wanted, guardian::Group,
    running::Judgement,
};
use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    time::Duration,
};

/// The standard input of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stdin {
    /// It is empty.
    #[default]
    Empty,
    /// It is the standard input of the test process.
    Inherit,
    /// It is these bytes. A program need not read them all.
    Bytes(Vec<u8>),
}

/// Limits of a program and of each of its descendants, as setrlimit(2) sets them. Nothing is no limit.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of address space.
    pub address_space: Option<u64>,
    /// The most CPU time, in whole seconds. The kernel ends the program by SIGXCPU or SIGKILL.
    pub cpu_seconds: Option<u64>,
    /// The largest file that it can write, in bytes.
    pub file_size: Option<u64>,
    /// The most open files.
    pub open_files: Option<u64>,
    /// The largest core dump, in bytes.
    pub core: Option<u64>,
}

/// The time that a program has to end after SIGTERM, before it is killed.
pub const GRACE: Duration = Duration::from_secs(2);

/// One start of a payload.
///
/// Nothing is started before [`run`](Self::run) or [`spawn`](Self::spawn), and a mistake in the calls
/// before is an error of theirs, with the name of the call.
#[derive(Clone, Debug)]
#[must_use = "nothing is started before `run` or `spawn`"]
pub struct Invocation<'a> {
    payload: Payload<'a>,
    program: OsString,
    args: Vec<OsString>,
    checks: Vec<Check<'a>>,
    /// Whether metrics that are expected must be there.
    expects: bool,
    wanted: Wanted,
    environment: Vec<(OsString, Option<OsString>)>,
    folder: Option<PathBuf>,
    stdin: Stdin,
    cgroup: Option<String>,
    limit: Option<Duration>,
    grace: Duration,
    limits: Limits,
    group: Group,
    /// The first mistake.
    mistake: Option<(&'static str, String)>,
}

impl<'a> Payload<'a> {
    /// Begins an invocation with the default arguments and checks.
    pub fn invoke(&self) -> Invocation<'a> {
        Invocation::new(*self)
    }
}

impl<'a> Invocation<'a> {
    fn new(payload: Payload<'a>) -> Self {
        let invocation = Self {
            payload,
            program: payload.program.into(),
            args: Vec::new(),
            checks: Vec::new(),
            expects: true,
            wanted: Wanted::Success,
            environment: Vec::new(),
            folder: None,
            stdin: Stdin::Empty,
            cgroup: None,
            limit: None,
            grace: GRACE,
            limits: Limits::default(),
            group: Group::Own,
            mistake: None,
        };
        let invocation = invocation.program(payload.program).args(payload.args);
        payload
            .checks
            .iter()
            .fold(invocation, |all, check| all.check(*check))
    }

    /// Starts another file than the payload says, by the same rules.
    pub fn program(mut self, program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        self.refuse_nul("program", program);
        if program.is_empty() {
            self.refuse("program", "the path of the program is empty");
        }
        self.program = program.to_owned();
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.refuse_nul("arg", arg.as_ref());
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Removes all arguments: the default ones and those that were added.
    pub fn clear_args(mut self) -> Self {
        self.args.clear();
        self
    }

    /// Adds a check.
    pub fn check(mut self, check: Check<'a>) -> Self {
        if let Some(fault) = check.fault() {
            self.refuse("check", &fault);
        }
        self.checks.push(check);
        self
    }

    /// Removes all checks: the default ones, those that were added, and that expected metrics are there.
    /// The exit code must still be 0: see [`any_exit`](Self::any_exit).
    pub fn clear_checks(mut self) -> Self {
        self.checks.clear();
        self.expects = false;
        self
    }

    /// Accepts any exit code and any signal, unless a check of the exit code is added.
    pub fn any_exit(mut self) -> Self {
        self.wanted = Wanted::Any;
        self
    }

    /// Sets a variable of the environment. The others are those of the test process.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let (name, value) = (name.as_ref(), value.as_ref());
        self.check_name("env", name);
        self.refuse_nul("env", value);
        self.environment
            .push((name.to_owned(), Some(value.to_owned())));
        self
    }

    /// Removes a variable from the environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.check_name("env_remove", name.as_ref());
        self.environment.push((name.as_ref().to_owned(), None));
        self
    }

    /// Starts it in this folder. A relative one is relative to the working directory of the test.
    pub fn cwd(mut self, folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        self.refuse_nul("cwd", folder.as_os_str());
        if folder.as_os_str().is_empty() {
            self.refuse("cwd", "the path of the folder is empty");
        }
        self.folder = Some(folder);
        self
    }

    /// Gives it this standard input.
    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// Starts it in this cgroup below that of the test process, which is made if it is not there, and
    /// then removed in the end. Slashes in front do not count.
    pub fn in_cgroup(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        match cgroup::checked(&name) {
            Ok(name) => self.cgroup = Some(name.to_owned()),
            Err(fault) => self.refuse("in_cgroup", &fault),
        }
        self
    }

    /// Ends it if it runs for longer: by SIGTERM, and [later](Self::grace) by SIGKILL. That is no error:
    /// what it has printed by then is judged, and its status says so.
    pub fn timeout(mut self, limit: Duration) -> Self {
        if limit.is_zero() {
            self.refuse("timeout", "a program cannot run for no time: give it some");
        }
        self.limit = Some(limit);
        self
    }

    /// Gives it this time to end after SIGTERM; [`GRACE`] if this is not called. Zero kills it at once.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets limits of its resources.
    pub fn limits(mut self, limits: Limits) -> Self {
        if limits.open_files.is_some_and(|files| files < 3) {
            self.refuse(
                "limits",
                "with fewer than 3 open files no program has its streams",
            );
        }
        self.limits = limits;
        self
    }

    /// Leaves it in the process group of the test process, for a program that uses the terminal. Signals
    /// of the terminal, such as by Ctrl-C, then go to it as well.
    pub fn inherit_process_group(mut self) -> Self {
        self.group = Group::Inherited;
        self
    }

    /// Starts the program and waits until it and all its descendants are gone.
    ///
    /// # Errors
    ///
    /// If it could not be started, or a call before was wrong. A failed check and a time-out are no
    /// errors: see [`Report`].
    pub fn run(self) -> Result<Report, Error> {
        if self.payload.kind == Kind::Server && self.limit.is_none() {
            return Err(Error::Refused {
                payload: self.payload.name.to_owned(),
                reason: "it is a server, which does not end by itself: call `spawn` and later `stop`, \
                         or set a `timeout`",
            });
        }
        self.spawn()?.wait()
    }

    /// Starts the program, and returns while it runs.
    ///
    /// # Errors
    ///
    /// If it could not be started, or a call before was wrong.
    pub fn spawn(self) -> Result<Running<'a>, Error> {
        let name = self.payload.name;
        if self.payload.kind == Kind::Service {
            return Err(Error::Refused {
                payload: name.to_owned(),
                reason: "it is a service, which the test runner starts: declare it as \
                         `[scripts.service.NAME]` in `.config/harness.toml`, and read its address from the \
                         environment",
            });
        }
        if let Some((call, fault)) = self.mistake {
            return Err(Error::Misuse {
                payload: name.to_owned(),
                call,
                fault,
            });
        }
        #[cfg(feature = "regex")]
        if let crate::Format::Regex(pattern) = self.payload.format
            && let Err(fault) = crate::metric::check_pattern(pattern)
        {
            return Err(Error::Misuse {
                payload: name.to_owned(),
                call: "format",
                fault: format!("the pattern `{pattern}` is wrong: {fault}"),
            });
        }
        let judgement =
            Judgement::new(self.payload, self.checks.clone(), self.expects, self.wanted);
        let (tree, grace) = (start::start(&self)?, self.grace);
        Running::new(tree, judgement, grace)
    }

    fn refuse(&mut self, call: &'static str, fault: &str) {
        if self.mistake.is_none() {
            self.mistake = Some((call, fault.to_owned()));
        }
    }

    fn refuse_nul(&mut self, call: &'static str, text: &OsStr) {
        if text.as_bytes().contains(&0) {
            let text = text.to_string_lossy().replace('\0', "\\0");
            self.refuse(
                call,
                &format!("`{text}` has a NUL byte, with which a string ends"),
            );
        }
    }

    fn check_name(&mut self, call: &'static str, name: &OsStr) {
        self.refuse_nul(call, name);
        if name.is_empty() || name.as_bytes().contains(&b'=') {
            let name = name.to_string_lossy();
            self.refuse(
                call,
                &format!("`{name}` is no name of a variable: it is empty or has a `=`"),
            );
        }
    }
}
