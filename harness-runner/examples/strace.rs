//! A small strace: runs a program under the tracer and prints what it and its descendants do, a line
//! an event. Exits as the program did.
//!
//! ```text
//! cargo run -p harness-runner --example strace -- [-o FILE] [--level process|io|full] PROGRAM [ARGS]
//! ```

use harness_metadata::{Exit, TraceEvent, event::TraceLevel, exit_code};
use harness_runner::{
    report::trace_line,
    trace::{Observer, Options, command, trace},
};
use std::{
    error::Error,
    ffi::OsString,
    fs::File,
    io::{self, BufWriter, Write},
    process::ExitCode,
};

const USAGE: &str = "usage: strace [-o FILE] [--level process|io|full] PROGRAM [ARGS]";

fn main() -> ExitCode {
    match run() {
        Ok(Exit::Code(code)) => ExitCode::from(code as u8),
        // As a shell has it.
        Ok(Exit::Signal { signal, .. }) => ExitCode::from(128 + signal as u8),
        Err(error) => {
            let mut message = format!("strace: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                message.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            let _ = writeln!(io::stderr(), "{message}");
            ExitCode::from(exit_code::DOUBLE_SPAWN as u8)
        }
    }
}

/// Prints every event.
struct Printer {
    output: Box<dyn Write>,
    failed: Option<io::Error>,
}

impl Observer for Printer {
    fn event(&mut self, event: &TraceEvent) {
        if self.failed.is_none() {
            self.failed = writeln!(self.output, "{}", trace_line::line(event)).err();
        }
    }
}

fn run() -> Result<Exit, Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let mut level = TraceLevel::Full;
    let mut output: Box<dyn Write> = Box::new(io::stderr());
    let program = loop {
        let arg: OsString = args.next().ok_or(USAGE)?;
        if arg == "-o" {
            let file = File::create(args.next().ok_or(USAGE)?)?;
            output = Box::new(BufWriter::new(file));
        } else if arg == "--level" {
            level = match args.next().ok_or(USAGE)?.to_str() {
                Some("process") => TraceLevel::Process,
                Some("io") => TraceLevel::Io,
                Some("full") => TraceLevel::Full,
                _ => return Err(USAGE.into()),
            };
        } else {
            break arg;
        }
    };
    let options = Options {
        level,
        ..Options::default()
    };
    let mut printer = Printer {
        output,
        failed: None,
    };
    let traced = trace(&command(program, args)?, options, &mut printer)?;
    printer.output.flush()?;
    match printer.failed {
        Some(error) => Err(error.into()),
        None => Ok(traced.exit),
    }
}
