//! The wording of a policy's violations.

use super::{
    stuck::Pids,
    style::escaped,
    trace_line::{errno_name, quoted},
    wording::plural,
};
use harness_metadata::{Attempt, PolicyMode, Violation, Violations};

/// The most violations that are named in a line each.
const MOST: usize = 8;

/// Returns the violations of an attempt's policy, line by line, each with the entry that would allow it.
pub(super) fn lines(attempt: &Attempt, pids: Pids) -> Vec<String> {
    let Some(policy) = attempt.policy.as_deref() else {
        return Vec::new();
    };
    let named = policy.found.iter().take(MOST);
    let mut lines: Vec<_> = named.map(|it| line(policy, it, pids)).collect();
    let more = policy.found.len().saturating_sub(MOST) + policy.more as usize;
    if more > 0 {
        lines.push(format!(
            "policy: {}",
            plural(more, "more violation", "more violations")
        ));
    }
    lines
}

/// Returns one violation in a line.
fn line(policy: &Violations, violation: &Violation, pids: Pids) -> String {
    let rule = &violation.rule;
    let verb = match (policy.mode, violation.errno) {
        (PolicyMode::Enforce, Some(_)) => format!("`{rule}` denied"),
        (PolicyMode::Enforce, None) => format!("`{rule}` could not deny"),
        (PolicyMode::Audit | PolicyMode::Observe, _) => format!("`{rule}` does not allow"),
    };
    let target = quoted(&violation.target);
    let errno = violation
        .errno
        .map_or_else(String::new, |errno| format!(" ({})", errno_name(errno)));
    let by = by(violation, pids);
    format!(
        "policy: {verb} {} of {target}{errno}{by}; to allow it, add {}",
        escaped(&violation.call),
        entry(&violation.allow),
    )
}

/// Returns an entry of a setting as the configuration has it: a rule for the network is a table.
pub fn entry(allow: &str) -> String {
    match allow.starts_with('{') {
        true => escaped(allow).into_owned(),
        false => format!("{allow:?}"),
    }
}

fn by(violation: &Violation, pids: Pids) -> String {
    let program = match violation.program.is_empty() {
        true => String::new(),
        false => format!(" by {}", quoted(&violation.program)),
    };
    match pids {
        Pids::Shown => format!("{program} (pid {})", violation.pid),
        Pids::Hidden => program,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixture_kit::sample;
    use harness_metadata::RawString;
    use std::time::Duration;

    fn violation(errno: Option<i32>) -> Violation {
        Violation {
            at: Duration::from_millis(3),
            pid: 77,
            program: RawString::from("/usr/bin/git"),
            call: "openat".to_owned(),
            target: RawString::from("/root/.gitconfig"),
            rule: "policy.fs.read".to_owned(),
            allow: "home/.gitconfig".to_owned(),
            errno,
        }
    }

    fn told(mode: PolicyMode, found: Vec<Violation>, more: u64) -> Vec<String> {
        let mut attempt = sample::code(1, 0);
        attempt.policy = Some(Box::new(Violations { mode, found, more }));
        lines(&attempt, Pids::Shown)
    }

    #[test]
    fn a_denied_call_is_told_with_the_entry_that_would_allow_it() {
        let denied = told(PolicyMode::Enforce, vec![violation(Some(libc::EACCES))], 0);
        let expected = "policy: `policy.fs.read` denied openat of \"/root/.gitconfig\" (EACCES) by \
                        \"/usr/bin/git\" (pid 77); to allow it, add \"home/.gitconfig\"";
        assert_eq!(denied, [expected]);
        let seen = told(PolicyMode::Audit, vec![violation(None)], 0);
        assert!(
            seen[0].starts_with("policy: `policy.fs.read` does not allow openat of"),
            "{seen:?}"
        );
        let undeniable = told(PolicyMode::Enforce, vec![violation(None)], 0);
        assert!(undeniable[0].contains("could not deny"), "{undeniable:?}");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let lines = told(PolicyMode::Audit, vec![violation(None); 10], 4);
        assert_eq!(lines.len(), MOST + 1);
        assert_eq!(lines[MOST], "policy: 6 more violations");
    }
}
