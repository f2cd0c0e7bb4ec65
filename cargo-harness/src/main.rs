//! `cargo harness`: runs the tests of a Cargo workspace, one traced process per test.

mod cargo_options;
mod cli;
mod command_error;
mod panics;

use cli::{Called, Foreign};
use command_error::{CommandError, Kind};
use harness_runner::{cargo, run::agent, stub};
use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, Write},
    process::ExitCode,
};

fn main() -> ExitCode {
    panics::install();
    let mut args: Vec<OsString> = env::args_os().collect();
    let first = args.get(1).map(OsString::as_os_str);
    if first == Some(OsStr::new(stub::ARGUMENT)) {
        return exit_code(stub::serve());
    }
    if first == Some(OsStr::new(agent::ARGUMENT)) {
        stub::restore_signals();
        return exit_code(panics::guarded(agent::serve));
    }
    if let Some(code) = cargo::stand_in(&args) {
        return exit_code(code);
    }
    stub::restore_signals();
    // `cargo harness …` runs `cargo-harness harness …`.
    if first == Some(OsStr::new("harness")) {
        args.remove(1);
    }
    exit_code(panics::guarded(|| match cli::peer(&args) {
        Some(Foreign::Means { args, called, said }) => {
            if let Some(said) = said {
                let _ = writeln!(io::stderr().lock(), "info: {said}");
            }
            run(args, called)
        }
        Some(Foreign::Lacks(sentence)) => {
            let error = CommandError::new(Kind::Usage, sentence);
            let _ = error.write(&mut io::stderr().lock(), false);
            error.exit_code()
        }
        None => run(args, Called::Harness),
    }))
}

fn run(args: Vec<OsString>, called: Called) -> i32 {
    let app = cli::parse(args, called);
    let colors = app.colors();
    app.run().unwrap_or_else(|error| {
        // Nothing can be reported once standard error is gone.
        let _ = error.write(&mut std::io::stderr().lock(), colors);
        match called {
            Called::Harness => error.exit_code(),
            Called::Peer => error.exit_code_of_peer(),
        }
    })
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
