//! `cargo harness changed`: the functions that differ between two builds, and the tests that enter them.

use super::{
    GlobalOptions, changed,
    filter_options::FilterArgs,
    prepared::{self, session_error},
    recordings,
    reuse_options::ReuseArgs,
};
use crate::{
    cargo_options::CargoArgs,
    command_error::{CommandError, Kind},
};
use camino::Utf8PathBuf;
use clap::Args;
use harness_runner::{
    config::CliOverrides,
    functions::{self, Difference},
    report::{plural, style::escaped},
    session::{ChangedFunction, ChangedProgram, Deciding, Start},
};
use serde_json::{Value, json};
use std::io::{self, Write};

/// Tests of a function that are shown.
const SHOWN: usize = 3;

/// Build, and list the functions of the workspace that differ from an earlier build, with the tests that enter them.
#[derive(Debug, Args)]
pub(super) struct ChangedCommand {
    /// The target directory of the other build; without it, the executables with which tests passed last.
    #[arg(value_name = "TARGET-DIR")]
    base: Option<Utf8PathBuf>,
    #[command(flatten)]
    cargo: CargoArgs,
    /// Print JSON, an object for each executable.
    #[arg(long, help_heading = "Output options")]
    json: bool,
}

impl ChangedCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let colors = global.stderr_colors();
        let filters = FilterArgs::default().interpret(false)?;
        let overrides = CliOverrides::default();
        let reuse = ReuseArgs::default();
        let options = prepared::options(global, self.cargo, &reuse, filters.options, overrides)?;
        let base = self.base.map(|base| options.cwd.join(base));
        if let Some(base) = base.as_ref().filter(|base| !base.is_dir()) {
            let message = format!("`{base}` is no folder, so there is no other build in it");
            return Err(CommandError::new(Kind::Usage, message));
        }
        let mut notify = |notice| prepared::tell(&notice, colors);
        let start = Start::new(&options, &mut notify).map_err(session_error(colors))?;
        let session = start.prepare(&options, &mut notify);
        let mut session = session.map_err(session_error(colors))?;
        let decided = session.decide(&Deciding::Profile, &mut notify);
        decided.map_err(changed::git_error)?;
        let programs = session.changed_functions(base.as_deref());
        let root = session.workspace.root();
        let shown = |program: &ChangedProgram| {
            let path = program.path.strip_prefix(root).unwrap_or(&program.path);
            path.to_string()
        };
        let text: String = match self.json {
            true => programs
                .iter()
                .map(|it| format!("{}\n", json_of(it, &shown(it))))
                .collect(),
            false => programs.iter().map(|it| text_of(it, &shown(it))).collect(),
        };
        if programs.is_empty() {
            prepared::note("no function differs", colors);
        }
        recordings::written(io::stdout().write_all(text.as_bytes()), "the answer")
    }
}

fn text_of(program: &ChangedProgram, path: &str) -> String {
    let functions = match &program.functions {
        Ok(functions) => functions,
        Err(reason) => return format!("{}: not known: {}\n", escaped(path), escaped(reason)),
    };
    let count = plural(functions.len(), "difference", "differences");
    let mut text = format!("{}: {count}\n", escaped(path));
    for function in functions {
        let (name, how) = words(&function.difference);
        text += &format!("    {}{how}{}\n", escaped(&name), tests(function));
    }
    text
}

fn tests(function: &ChangedFunction) -> String {
    let names: Vec<String> = function
        .tests
        .iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect();
    match function.tests.len() {
        0 => String::new(),
        count => {
            let more = if count > SHOWN { ", …" } else { "" };
            let tests = plural(count, "test", "tests");
            format!("  {tests}: {}{more}", escaped(&names.join(", ")))
        }
    }
}

/// Returns the name of what differs, and how it does.
fn words(difference: &Difference) -> (String, &'static str) {
    match difference {
        Difference::Beginning => ("what runs before `main`, or the compiler".to_owned(), ""),
        Difference::Function(name) => (functions::shown(name), ""),
        Difference::Gone(name) => (functions::shown(name), " is gone"),
        Difference::Test => ("an entry of the table of tests".to_owned(), ""),
    }
}

fn json_of(program: &ChangedProgram, path: &str) -> Value {
    match &program.functions {
        Err(reason) => json!({ "program": path, "unknown": reason }),
        Ok(functions) => {
            let functions: Vec<Value> = functions
                .iter()
                .map(|function| {
                    let symbol = match &function.difference {
                        Difference::Function(name) | Difference::Gone(name) => Some(name),
                        Difference::Beginning | Difference::Test => None,
                    };
                    json!({
                        "function": words(&function.difference).0,
                        "symbol": symbol,
                        "gone": matches!(function.difference, Difference::Gone(_)),
                        "tests": function.tests,
                    })
                })
                .collect();
            json!({ "program": path, "functions": functions })
        }
    }
}
