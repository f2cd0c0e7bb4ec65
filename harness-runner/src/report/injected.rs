//! The wording of failures that the user asked for.

use super::{trace_line, wording::plural};
use harness_metadata::Attempt;

/// The most failures that are named in a line each.
const MOST: usize = 8;

/// Returns the failures that were injected into an attempt, line by line.
pub fn lines(attempt: &Attempt) -> Vec<String> {
    let Some(trace) = attempt.trace.as_deref() else {
        return Vec::new();
    };
    let named = trace.injected.iter().take(MOST);
    let mut lines: Vec<_> = named.map(trace_line::injected).collect();
    let all = trace.counts.get("injected").copied().unwrap_or_default();
    let more = usize::try_from(all)
        .unwrap_or(usize::MAX)
        .saturating_sub(MOST);
    if more > 0 {
        let more = plural(more, "more failure", "more failures");
        lines.push(format!("injected: {more}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixture_kit::sample::{code, trace};
    use harness_metadata::trace::Injected;

    #[test]
    fn a_failure_that_was_asked_for_names_the_call_the_file_and_the_request() {
        let injected = Injected {
            call: "openat".to_owned(),
            place: Some("/tmp/a.toml".into()),
            errno: libc::ENOSPC,
            request: "openat(*.toml):ENOSPC@2-".to_owned(),
            number: 2,
        };
        let mut attempt = code(1, 0);
        let mut summary = trace();
        summary.injected = vec![injected; MOST];
        summary.counts.insert("injected".to_owned(), 11);
        attempt.trace = Some(Box::new(summary));
        let lines = lines(&attempt);
        assert_eq!(
            lines[0],
            "injected: openat of \"/tmp/a.toml\" failed with ENOSPC (`openat(*.toml):ENOSPC@2-`, call 2)"
        );
        assert_eq!(lines[MOST], "injected: 3 more failures");
    }
}
