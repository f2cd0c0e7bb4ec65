//! What the process of a test is given to know which test it is.

use super::{Binary, Test};
use std::ffi::{OsStr, OsString};

/// The arguments of a test's process, argument zero included.
pub(super) fn arguments<'a>(binary: &'a Binary, test: &'a Test) -> Vec<&'a OsStr> {
    let mut args: Vec<&OsStr> = binary.program.iter().map(OsString::as_os_str).collect();
    args.extend([
        OsStr::new("--exact"),
        OsStr::new(test.id.name.as_str()),
        OsStr::new("--nocapture"),
    ]);
    if test.ignored {
        args.push(OsStr::new("--ignored"));
    }
    if test.bench {
        args.push(OsStr::new("--bench"));
    }
    let extra = &test.settings.run_extra_args;
    // One test runs, so the number of threads changes nothing but this: libtest does not read
    // the CPU quota from the cgroup files first. One would change its output, two do not.
    if binary.libtest && !extra.iter().any(|arg| arg.starts_with("--test-threads")) {
        args.push(OsStr::new("--test-threads=2"));
    }
    args.extend(extra.iter().map(OsStr::new));
    args
}

/// The command of a test, for people.
pub(super) fn displayed_command(binary: &Binary, test: &Test) -> Vec<String> {
    arguments(binary, test)
        .iter()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect()
}
