//! Makes the Landlock ruleset of an attempt's policy.
//!
//! A ruleset is made for each attempt: its rules are of files and not of paths, and a test may have removed a
//! folder and made it anew.

use super::watch::Way;
use crate::{
    policy::{Bounds, IpcWay, Right},
    protocol::Spawn,
    sys::Recording,
    sys::landlock::{self, Confinement, FOR_SCOPES},
    tracer::inject::Injections,
};
use harness_metadata::{PolicyMode, StartFailure, trace::Backend};
use std::{ffi::OsStr, os::fd::OwnedFd, os::unix::ffi::OsStrExt, path::Path};

const NO_TRACER: &str = "its policy cannot be enforced: `policy.net` needs `trace` from level `io` on, by ptrace; \
                         with `policy.mode = \"audit\"` violations are reported and not denied";

const NO_INJECTION: &str = "no call can be made to fail: `--inject` needs `trace` from level `io` on, by ptrace, and this \
                            test is not traced so";

/// Returns whether the tracer enforces a part of a policy.
pub(super) fn needs_tracer(bounds: &Bounds) -> bool {
    bounds.mode == PolicyMode::Enforce && bounds.bounds_net()
}

/// The policy of an attempt; `None` for none.
///
/// # Errors
///
/// When it has bounds that only the tracer could enforce, and no tracer sees calls.
pub(super) fn bounds(
    spawn: &Spawn<'_>,
    program: &[u8],
    way: &Way,
) -> Result<Option<Bounds>, StartFailure> {
    if spawn.policy.is_empty() {
        return Ok(None);
    }
    let mut bounds = Bounds::from_bytes(spawn.policy).map_err(|error| StartFailure {
        message: format!("its policy cannot be read: {error}"),
        errno: libc::EINVAL,
    })?;
    if needs_tracer(&bounds) && !(way.backend == Backend::Ptrace && way.filtered()) {
        return Err(StartFailure {
            message: NO_TRACER.to_owned(),
            errno: libc::EOPNOTSUPP,
        });
    }
    bounds.allow_program(Path::new(OsStr::from_bytes(program)));
    if let Some(image) = &spawn.image {
        let path = image.path.strip_suffix(&[0]).unwrap_or(image.path);
        bounds.allow_program(Path::new(OsStr::from_bytes(path)));
    }
    Ok(Some(bounds))
}

/// The calls of an attempt that fail because the user asked for that; `None` for none.
///
/// # Errors
///
/// When no tracer stops at calls: without it they would not fail.
pub(super) fn injections(spawn: &Spawn<'_>, way: &Way) -> Result<Option<Injections>, StartFailure> {
    if spawn.inject.is_empty() {
        return Ok(None);
    }
    let failure = |message: String, errno| StartFailure { message, errno };
    let recorded = way.recording != Recording::Off;
    if way.backend != Backend::Ptrace || !way.filtered() || recorded {
        return Err(failure(NO_INJECTION.to_owned(), libc::EOPNOTSUPP));
    }
    let injections = Injections::from_bytes(spawn.inject);
    let unread = |error| failure(format!("`--inject` cannot be read: {error}"), libc::EINVAL);
    injections.map(Some).map_err(unread)
}

/// Makes the ruleset of a policy that is enforced; `None` if there is nothing to enforce.
///
/// # Errors
///
/// When the kernel cannot enforce all of it. The attempt must not run then.
pub(super) fn ruleset(bounds: &Bounds) -> Result<Option<OwnedFd>, StartFailure> {
    if bounds.mode != PolicyMode::Enforce {
        return Ok(None);
    }
    let confinement = Confinement {
        read: bounds.paths(Right::Read),
        write: bounds.paths(Right::Write),
        exec: bounds.paths(Right::Exec),
        no_abstract_sockets: bounds.forbids(IpcWay::AbstractSockets),
        no_signals: bounds.forbids(IpcWay::Signals),
    };
    let needed = confinement.needs();
    if needed == 0 {
        return Ok(None);
    }
    if let Some(message) = lacking(landlock::version(), needed) {
        let errno = libc::EOPNOTSUPP;
        return Err(StartFailure { message, errno });
    }
    let ruleset = confinement.ruleset().map_err(|refusal| StartFailure {
        message: format!("its policy cannot be enforced: Landlock refuses it: {refusal}"),
        errno: libc::EOPNOTSUPP,
    })?;
    Ok(Some(ruleset))
}

/// Returns what is missing if a kernel has one version of Landlock and a policy needs another.
fn lacking(has: u32, needed: u32) -> Option<String> {
    let (setting, linux) = match needed {
        FOR_SCOPES => ("policy.ipc", "6.12"),
        _ => ("policy.fs", "6.2"),
    };
    let found = match has {
        0 => "has no Landlock, or it is not switched on (`lsm=` on the kernel's command line)"
            .to_owned(),
        has if has < needed => format!("has version {has}"),
        _ => return None,
    };
    Some(format!(
        "its policy cannot be enforced: `{setting}` needs Landlock of version {needed} (Linux {linux}), and this \
         kernel {found}; with `policy.mode = \"audit\"` violations are reported and not denied"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_is_too_old_is_named_with_the_way_out() {
        assert_eq!(lacking(7, 6), None);
        assert_eq!(lacking(3, 3), None);
        let old = lacking(5, 6).unwrap();
        assert!(
            old.contains("`policy.ipc` needs Landlock of version 6 (Linux 6.12)"),
            "{old}"
        );
        assert!(
            old.contains("has version 5; with `policy.mode = \"audit\"`"),
            "{old}"
        );
        let none = lacking(0, 3).unwrap();
        assert!(
            none.contains("`policy.fs` needs Landlock of version 3 (Linux 6.2)"),
            "{none}"
        );
        assert!(none.contains("has no Landlock"), "{none}");
    }

    #[test]
    fn what_is_only_audited_needs_no_ruleset() {
        let mut bounds = Bounds::default();
        bounds.ipc = Some(Vec::new());
        bounds.mode = PolicyMode::Audit;
        assert!(ruleset(&bounds).unwrap().is_none());
        bounds.ipc = None;
        bounds.mode = PolicyMode::Enforce;
        assert!(ruleset(&bounds).unwrap().is_none());
    }
}
