//! The words about services.

use harness_metadata::{
    Verdict,
    event::{ServiceFinished, TestFinished, UsedService},
};

/// Returns why a service failed, if it did.
pub(super) fn problem(finished: &ServiceFinished) -> Option<String> {
    let problem = finished.problem.as_ref()?;
    Some(format!("`{}` {problem}", finished.service))
}

/// Returns what is said of the services that a failed test has used, one line each.
pub(super) fn lines(finished: &TestFinished) -> impl Iterator<Item = String> {
    let failed = matches!(finished.verdict, Verdict::Fail | Verdict::Quarantined);
    finished.services.iter().filter(move |_| failed).map(line)
}

fn line(used: &UsedService) -> String {
    let name = &used.service;
    let does = match &used.problem {
        Some(problem) => format!("its service `{name}` {problem}"),
        None => format!("it used the service `{name}`"),
    };
    match used.last_lines.as_slice() {
        [] => format!("{does}, which wrote nothing"),
        [line] => format!("{does}, which wrote: {line}"),
        lines => format!("{does}, which wrote last: {}", lines.join(" ⏎ ")),
    }
}
