//! The roles in which cargo, rustdoc and stubs start this program for documentation tests.
//!
//! Cargo takes it for rustdoc, and it writes down how it was called. Rustdoc takes it for rustc, and it
//! executes rustc without the variable that unlocks rustdoc's unstable options. A stub executes it for a
//! test whose verdict is not the exit code of a program of its own.

use super::{
    calls::Call,
    kept,
    signs::{
        ARGUMENT, BOOTSTRAP, FAILED, HAS_TO_FAIL, NOT_LINKED, OPEN, OWN_BOOTSTRAP, PASSED, RECORDS,
        RUSTC, RUSTDOC, SAID, UNLOCK,
    },
};
use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, Write},
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
};

/// The exit code of a failed test, as that of a panic.
const TEST_FAILED: i32 = 101;

/// Plays the role in which this process was started, if it was started for a documentation test. Returns
/// its exit code.
pub fn stand_in(args: &[OsString]) -> Option<i32> {
    let own = args.get(1..).unwrap_or_default();
    if own.first().is_some_and(|first| first == ARGUMENT) {
        return Some(as_test(&own[1..]));
    }
    if let Some(rustc) = env::var_os(RUSTC) {
        return Some(as_rustc(&rustc, own));
    }
    let records = env::var_os(RECORDS)?;
    Some(as_rustdoc(Path::new(&records), own))
}

fn as_test(args: &[OsString]) -> i32 {
    let word = args.first().and_then(|word| word.to_str());
    match (word, args.get(1..).unwrap_or_default()) {
        (Some(PASSED), []) => 0,
        (Some(FAILED), [messages]) => {
            let text = std::fs::read(messages).unwrap_or_default();
            let _ = io::stderr().lock().write_all(&text);
            TEST_FAILED
        }
        (Some(HAS_TO_FAIL), [program, args @ ..]) => has_to_fail(program, args),
        _ => {
            say("this is no command for people");
            TEST_FAILED
        }
    }
}

fn has_to_fail(program: &OsStr, args: &[OsString]) -> i32 {
    match Command::new(program).args(args).status() {
        Ok(status) if status.success() => {
            say("The example succeeded, but it is marked `should_panic`.");
            TEST_FAILED
        }
        Ok(_) => 0,
        Err(error) => {
            say(&format!("failed to start `{}`: {error}", program.display()));
            TEST_FAILED
        }
    }
}

fn as_rustc(rustc: &OsStr, args: &[OsString]) -> i32 {
    let mut command = Command::new(rustc);
    for name in [RUSTC, OWN_BOOTSTRAP, NOT_LINKED, SAID] {
        command.env_remove(name);
    }
    // Rustdoc itself unlocks what the runner of merged tests needs, with any toolchain. It reads nothing else.
    if args.iter().any(|arg| is_named(arg, "doctest_runner_")) {
        command.args(args);
        return executed(command);
    }
    let own = without_ours(args);
    let emits = |arg: &OsString| arg.as_bytes().starts_with(b"--emit");
    let emitted = own.iter().any(emits);
    command.args(own);
    if is_not_linked(args) {
        // As without `--persist-doctests`.
        command.arg("--emit=metadata");
    } else if !emitted {
        command.arg("--emit=link");
    }
    match env::var_os(OWN_BOOTSTRAP) {
        Some(own) => command.env(BOOTSTRAP, own),
        None => command.env_remove(BOOTSTRAP),
    };
    match env::var_os(SAID) {
        Some(said) => {
            let merged = args.iter().any(|arg| is_named(arg, "doctest_bundle_"));
            watched(command, Path::new(&said), merged)
        }
        None => executed(command),
    }
}

/// Lets rustc say which files it reads. Of a call that is not known in full, a file is left that says so.
/// Rustdoc compiles each test alone after merged ones have failed, so their failure decides nothing.
fn watched(mut rustc: Command, said: &Path, merged: bool) -> i32 {
    let own = said.join(process::id().to_string());
    let open = own.with_extension(OPEN);
    let files = own.with_extension("d");
    // The number of a process may come again. Then the call is not known either.
    let first = !files.exists() && std::fs::File::create_new(&open).is_ok();
    if !first {
        let _ = std::fs::write(&open, "");
        return executed(rustc);
    }
    let mut emit = OsString::from("--emit=dep-info=");
    emit.push(&files);
    let child = rustc.arg(emit).stderr(Stdio::piped()).spawn();
    let output = match child.and_then(Child::wait_with_output) {
        Ok(output) => output,
        Err(error) => {
            say(&format!("failed to start rustc: {error}"));
            return 1;
        }
    };
    let _ = io::stderr().lock().write_all(&output.stderr);
    let known = merged || output.status.success() || kept::fails_by_itself(&output.stderr);
    if known && files.exists() {
        let _ = std::fs::remove_file(&open);
    }
    // Rustdoc asks for success or failure only.
    output.status.code().unwrap_or(1)
}

/// Returns arguments without the unstable option that is ours: rustdoc passes it on, in a file.
fn without_ours(args: &[OsString]) -> Vec<OsString> {
    let mut kept = Vec::new();
    for arg in args {
        let file = arg.to_str().and_then(|arg| arg.strip_prefix('@'));
        match file.and_then(|file| std::fs::read_to_string(file).ok()) {
            Some(lines) => kept.extend(lines.lines().map(OsString::from)),
            None => kept.push(arg.clone()),
        }
    }
    if let Some(ours) = kept.iter().position(|arg| arg == UNLOCK) {
        kept.remove(ours);
    } else if let Some(ours) = kept.windows(2).position(|pair| {
        let (first, second) = UNLOCK.split_at(2);
        pair[0] == first && pair[1] == second
    }) {
        kept.drain(ours..ours + 2);
    }
    kept
}

/// Returns true if the program of these arguments is that of a test which is compiled only.
fn is_not_linked(args: &[OsString]) -> bool {
    let folders = env::var(NOT_LINKED).unwrap_or_default();
    let output = args.windows(2).find(|pair| pair[0] == "-o");
    let folder = output.and_then(|pair| Path::new(&pair[1]).parent()?.file_name()?.to_str());
    folder.is_some_and(|folder| folders.split('/').any(|other| other == folder))
}

/// Returns true if an argument is a source of merged tests with a name that begins so.
fn is_named(arg: &OsStr, begins: &str) -> bool {
    let name = Path::new(arg).file_name().and_then(OsStr::to_str);
    name.is_some_and(|name| name.starts_with(begins) && name.ends_with(".rs"))
}

fn as_rustdoc(records: &Path, args: &[OsString]) -> i32 {
    if !args.iter().any(|arg| arg == "--test") {
        // A build script asks.
        let rustdoc = env::var_os(RUSTDOC).unwrap_or_else(|| OsString::from("rustdoc"));
        let mut command = Command::new(rustdoc);
        command.args(args);
        return executed(command);
    }
    let cwd = env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let call = Call {
        args: args.to_vec(),
        environment: env::vars_os().collect(),
        cwd,
    };
    let file = records.join(format!("{}.json", process::id()));
    let written = serde_json::to_vec(&call)
        .map_err(io::Error::from)
        .and_then(|text| std::fs::write(&file, text));
    match written {
        Ok(()) => 0,
        Err(error) => {
            say(&format!("failed to write `{}`: {error}", file.display()));
            1
        }
    }
}

/// Becomes another program. Returns if that fails.
fn executed(mut command: Command) -> i32 {
    let error = command.exec();
    let program = command.get_program().display();
    say(&format!("failed to execute `{program}`: {error}"));
    1
}

fn say(text: &str) {
    // Nothing can be reported once standard error is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_unstable_option_that_is_ours_is_taken_from_the_arguments_of_rustc() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let in_file = format!("@{}", file.path().display());
        let kept = |lines: &str, args: &[&str]| {
            std::fs::write(file.path(), lines).unwrap();
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            let kept = without_ours(&args).into_iter();
            kept.map(|arg| arg.into_string().unwrap())
                .collect::<Vec<_>>()
        };
        let lines = "--cfg=a b\n-Zunstable-options\n-Zother\n";
        assert_eq!(
            kept(lines, &[&in_file, "x.rs"]),
            ["--cfg=a b", "-Zother", "x.rs"]
        );
        let twice = ["-Z", "unstable-options", "-Z", "unstable-options"];
        assert_eq!(kept("", &twice), &twice[..2]);
        assert_eq!(kept("", &["-Z", "a", "@missing"]), ["-Z", "a", "@missing"]);
    }
}
