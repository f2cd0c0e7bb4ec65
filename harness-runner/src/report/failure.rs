//! The reason of a failure, as the output of the attempt says it, and its place.

use super::{Excerpt, Outputs, Stream, captured::plain, excerpt, extract, style::escaped, wording};
use harness_metadata::{
    Attempt, AttemptId, Exit, Location, Outcome, TestId, Verdict, event::TestFinished,
};

/// The reason of a failure, in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reason {
    /// The file, inside the workspace and relative to its root, and the line: of the panic, or else of
    /// the test's definition.
    pub(super) place: Option<(String, u32)>,
    /// The words of the test or of the harness, without control characters. Empty if there are none.
    pub(super) message: String,
}

impl Reason {
    /// Returns the reason of the last attempt; `None` if the test did not fail.
    pub(super) fn of(
        finished: &TestFinished,
        workspace_root: &str,
        outputs: &dyn Outputs,
    ) -> Option<Self> {
        let last = finished.attempts.last()?;
        if finished.verdict == Verdict::Pass {
            return None;
        }
        let text = of_attempt(&finished.test, last, outputs);
        let panic = text.as_deref().and_then(extract::location);
        let panic = panic.and_then(|(file, line)| Some((inside(file, workspace_root)?, line)));
        let defined = finished.location.as_ref().filter(|it| it.is_inside());
        let place = panic.or_else(|| defined.map(|it: &Location| (it.file.clone(), it.line)));
        let ordinary = matches!(last.outcome, Outcome::Exited(Exit::Code(code)) if code != 0)
            && last.limits.is_empty();
        let said = text.as_deref().map(extract::message).filter(|_| ordinary);
        let message = match said {
            Some(said) => said.to_owned(),
            None => wording::closing(last).unwrap_or_default(),
        };
        let message = message.lines().next().unwrap_or_default();
        Some(Self {
            place,
            message: escaped(message).into_owned(),
        })
    }

    /// Returns the reason why a test that passed at last is flaky: its first attempt. Its output is gone by
    /// then, so the place is that of the definition.
    pub(super) fn of_flaky(finished: &TestFinished) -> Self {
        let defined = finished.location.as_ref().filter(|it| it.is_inside());
        let failed = finished.attempts.len() - 1;
        Self {
            place: defined.map(|it| (it.file.clone(), it.line)),
            message: format!(
                "it passed after {}",
                wording::plural(failed, "failed attempt", "failed attempts")
            ),
        }
    }

    /// Returns place and message; `None` if there is neither.
    pub(super) fn line(&self) -> Option<String> {
        match (&self.place, self.message.as_str()) {
            (None, "") => None,
            (None, message) => Some(message.to_owned()),
            (Some((file, line)), "") => Some(format!("{}:{line}", escaped(file))),
            (Some((file, line)), message) => Some(format!("{}:{line}: {message}", escaped(file))),
        }
    }
}

/// Returns the text in an attempt's output that says why it failed.
fn of_attempt(test: &TestId, attempt: &Attempt, outputs: &dyn Outputs) -> Option<String> {
    let id = AttemptId {
        test: test.clone(),
        attempt: attempt.number,
    };
    let read = |stream| excerpt(outputs, &id, stream, 2 * extract::SEARCHED);
    text(read(Stream::Stdout).as_ref(), read(Stream::Stderr).as_ref())
}

/// Returns the text in the captured streams that says why a test failed, without escape sequences.
pub(super) fn text(stdout: Option<&Excerpt>, stderr: Option<&Excerpt>) -> Option<String> {
    let in_stderr = stderr.and_then(|e| Some(e.end().get(extract::in_stderr(e.end())?)?.to_vec()));
    let found = in_stderr.or_else(|| {
        stdout.and_then(|e| Some(e.end().get(extract::in_stdout(e.end())?)?.to_vec()))
    })?;
    Some(plain(&found))
}

/// Returns a path that a panic named, relative to the workspace, if it is inside.
fn inside(file: &str, root: &str) -> Option<String> {
    let relative = match file.strip_prefix('/') {
        None => file.strip_prefix("./").unwrap_or(file),
        Some(_) if root.is_empty() => return None,
        Some(_) => file.strip_prefix(root)?.strip_prefix('/')?,
    };
    let leaves = relative.split('/').any(|part| part == "..");
    (!leaves).then(|| relative.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_places_inside_the_workspace_are_named() {
        assert_eq!(inside("src/a.rs", "/home").as_deref(), Some("src/a.rs"));
        assert_eq!(inside("./src/a.rs", "/home").as_deref(), Some("src/a.rs"));
        assert_eq!(
            inside("/home/src/a.rs", "/home").as_deref(),
            Some("src/a.rs")
        );
        for outside in ["/homes/a.rs", "/rustc/1/library/core/src/a.rs", "../b/a.rs"] {
            assert_eq!(inside(outside, "/home"), None);
        }
    }
}
