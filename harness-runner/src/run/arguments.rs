//! The arguments by which the process of a test knows its test.

use super::{
    Binary, Test,
    word::{Speaker, Word},
    work::Role,
};
use crate::protocol::{CommandBlocks, terminated};
use std::ffi::{OsStr, OsString};

/// The arguments of a test's process, argument zero included.
pub(super) fn arguments<'a>(binary: &'a Binary, test: &'a Test) -> Vec<&'a OsStr> {
    let name = test.id.name.as_str();
    let program = test.program(binary).iter().map(OsString::as_os_str);
    let mut args: Vec<&OsStr> = program.collect();
    if test.role != Role::Test || test.runs_by_itself() {
        return args;
    }
    args.push(OsStr::new("--exact"));
    let escaped = looks_like_an_option(name);
    if !escaped {
        args.push(OsStr::new(name));
    }
    args.push(OsStr::new("--nocapture"));
    if test.ignored {
        args.push(OsStr::new("--ignored"));
    }
    // Without `--bench`, as under `cargo test`, a benchmark runs once, and is not measured.
    if test.measured {
        args.push(OsStr::new("--bench"));
    }
    let extra = &test.settings.run_extra_args;
    // One test runs, so the number of threads changes nothing but this: libtest does not read
    // the CPU quota from the cgroup files first. One would change its output, two do not.
    if binary.libtest && !extra.iter().any(|arg| arg.starts_with("--test-threads")) {
        args.push(OsStr::new("--test-threads=2"));
    }
    args.extend(extra.iter().map(OsStr::new));
    if escaped {
        // Nothing behind `--` is an option, for libtest-mimic and for whatever else reads its
        // arguments with a library.
        args.extend([OsStr::new("--"), OsStr::new(name)]);
    }
    args
}

/// Returns the command of a test's process, as a stub takes it, with an environment block.
pub(super) fn command(binary: &Binary, test: &Test, environment: Vec<u8>) -> CommandBlocks {
    let program = test.program(binary).first();
    let args = arguments(binary, test);
    CommandBlocks {
        program: terminated(program.map_or(OsStr::new(""), OsString::as_os_str)),
        args: args.iter().flat_map(|arg| terminated(arg)).collect(),
        environment,
        cwd: terminated(binary.cwd.as_os_str()),
    }
}

/// Returns the search for what says that the test passed.
pub(super) fn word(binary: &Binary, test: &Test) -> Word {
    let name = test.id.name.as_str();
    let speaker = match binary.libtest {
        _ if test.runs_by_itself() => Speaker::None,
        true => Speaker::Libtest,
        false => Speaker::Other {
            escaped: looks_like_an_option(name),
        },
    };
    Word::new(speaker, name, &test.settings.run_extra_args)
}

/// Returns true if a harness would take a name for an option of its own.
fn looks_like_an_option(name: &str) -> bool {
    name.starts_with('-')
}

/// The command of a test, for people.
pub(super) fn displayed_command(binary: &Binary, test: &Test) -> Vec<String> {
    arguments(binary, test)
        .iter()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect()
}
