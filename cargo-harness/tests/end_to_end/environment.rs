//! The environment of a run that is started from within a test or a benchmark: nothing by which
//! cargo or a test runner describe the program that starts it.

use std::{
    collections::BTreeSet,
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Returns a command with that environment, and without input. Runs have the order of names, whatever
/// earlier runs in the same target folder have found.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os().filter(|(name, _)| !passes_on(name)) {
        command.env_remove(name);
    }
    command.env("PATH", search_path()).stdin(Stdio::null());
    command.env("HARNESS_ORDER", "name");
    command
}

/// Returns true if this program can be started.
pub(crate) fn installed(program: &str, args: &[&str]) -> bool {
    let mut command = command(program);
    command
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn passes_on(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let kept = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        // Where the tracer is, if these tests are traced. A run can have no other one.
        "HARNESS_TRACE_BROKER",
    ];
    let dropped = [
        "CARGO",
        "NEXTEST",
        "HARNESS",
        "RUST_TEST",
        "LD_LIBRARY_PATH",
        "OUT_DIR",
    ];
    let dropped_names = [
        // A shell looks at the folder that they name, which is wherever the tests were started.
        "PWD",
        "OLDPWD",
        "CI",
        "RUST_BACKTRACE",
        "NO_COLOR",
        "FORCE_COLOR",
        "CLICOLOR_FORCE",
    ];
    kept.iter().any(|kept| name.starts_with(kept))
        || !dropped.iter().any(|dropped| name.starts_with(dropped))
            && !dropped_names.contains(&name.as_ref())
}

/// Returns the folder of the cargo that built this program, then what there was.
fn search_path() -> OsString {
    let own = env::var_os("CARGO").map(PathBuf::from);
    let own = own.as_deref().and_then(Path::parent).map(Path::to_owned);
    let rest = env::var_os("PATH").unwrap_or_default();
    let folders = own.into_iter().chain(env::split_paths(&rest));
    let mut seen = BTreeSet::new();
    env::join_paths(folders.filter(|folder| seen.insert(folder.clone()))).expect("they were joined")
}
