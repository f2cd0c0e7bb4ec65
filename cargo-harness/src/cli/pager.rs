//! The pager: what is longer than a screen goes through it, where a person reads.

use super::{GlobalOptions, prepared};
use crate::command_error::{CommandError, Kind};
use harness_runner::config::{PagerCommand, Paginate, UserSettings, UserSource};
use nix::sys::signal::{SigSet, Signal};
use std::{
    ffi::OsString,
    io::{self, BufWriter, ErrorKind, IsTerminal, StdoutLock, Write},
    process::{Child, ChildStdin, Command, Stdio},
};

/// Standard output, or a pager that has it.
pub(super) enum Output {
    Plain(BufWriter<StdoutLock<'static>>),
    Paged {
        child: Child,
        /// `None` once all has been written.
        input: Option<BufWriter<ChildStdin>>,
    },
}

impl Output {
    /// Returns standard output for a text that is for people, or not.
    pub(super) fn new(global: &GlobalOptions, for_people: bool) -> Result<Self, CommandError> {
        if !for_people || global.no_pager || !io::stdout().is_terminal() {
            return Ok(Self::plain());
        }
        let settings = global.user_settings()?;
        Ok(Self::with(&settings, global.stderr_colors()))
    }

    fn plain() -> Self {
        Self::Plain(BufWriter::new(io::stdout().lock()))
    }

    /// Starts the pager of a person; without one, says so and goes on without.
    pub(super) fn with(settings: &UserSettings, colors: bool) -> Self {
        if settings.paginate == Some(Paginate::Never) {
            return Self::plain();
        }
        let pager = settings.pager.clone().unwrap_or_default();
        match start(&pager) {
            Ok(Some((child, input))) => {
                // Ctrl-C is for the pager, which started before.
                let mut interrupt = SigSet::empty();
                interrupt.add(Signal::SIGINT);
                let _ = interrupt.thread_block();
                Self::Paged {
                    child,
                    input: Some(BufWriter::new(input)),
                }
            }
            Ok(None) => Self::plain(),
            Err(error) => {
                let words = pager.command.join(" ");
                let warning = format!("failed to start the pager `{words}`: {error}");
                prepared::warn(&warning, colors);
                Self::plain()
            }
        }
    }

    /// Writes out what is left, and waits until the reader has seen enough. `what` names the text.
    pub(super) fn finish(
        mut self,
        written: io::Result<()>,
        what: &str,
    ) -> Result<(), CommandError> {
        let written = written.and_then(|()| self.flush());
        if let Self::Paged { child, input } = &mut self {
            // Unwritten bytes of a pager that is gone have no reader.
            if let Some(input) = input.take() {
                drop(input.into_parts());
            }
            let _ = child.wait();
        }
        match written {
            Ok(()) => Ok(()),
            // `| head`, or `q`.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            Err(error) => {
                let message = format!("failed to write {what} to standard output: {error}");
                Err(CommandError::new(Kind::Write, message))
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Paged { input, .. } => match input {
                Some(input) => input.write(bytes),
                None => Err(ErrorKind::BrokenPipe.into()),
            },
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Paged { input, .. } => input.as_mut().map_or(Ok(()), Write::flush),
        }
    }
}

/// Starts a pager; `None` if there is to be none.
fn start(pager: &PagerCommand) -> io::Result<Option<(Child, ChildStdin)>> {
    let Some((program, arguments)) = pager.command.split_first() else {
        return Ok(None);
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(&pager.env)
        .stdin(Stdio::piped());
    let mut child = command.spawn()?;
    let input = child.stdin.take();
    Ok(input.map(|input| (child, input)))
}

/// Prints the help that was asked for, with a pager if that is wanted, and exits; any other error exits as ever.
pub(super) fn exit_with(error: &clap::Error, args: &[OsString]) -> ! {
    let help = error.kind() == clap::error::ErrorKind::DisplayHelp;
    let without = args.iter().any(|arg| arg == "--no-pager");
    if !help || without || !io::stdout().is_terminal() {
        error.exit();
    }
    let variable = |name: &str| std::env::var_os(name);
    // A file with a mistake in it is no reason for no help.
    let source = match variable("HARNESS_USER_CONFIG_FILE") {
        None => UserSource::Folder,
        Some(file) => match file.into_string() {
            Ok(file) if file != "none" => UserSource::File(file.into()),
            _ => UserSource::Nowhere,
        },
    };
    let settings = UserSettings::load(&source, &variable);
    let (settings, _) = settings.unwrap_or_default();
    let text = match super::surroundings::colors(owo_colors::Stream::Stdout) {
        true => error.render().ansi().to_string(),
        false => error.render().to_string(),
    };
    let mut out = Output::with(&settings, false);
    let written = out.write_all(text.as_bytes());
    let code = match out.finish(written, "the help") {
        Ok(()) => 0,
        Err(error) => error.exit_code(),
    };
    std::process::exit(code)
}
