//! The reason of a failure, as the output of the attempt says it, and its place.

use super::{
    Excerpt, Outputs, Stream,
    captured::plain,
    excerpt,
    extract::{self, Panic},
    style::escaped,
    wording,
};
use harness_metadata::{
    Attempt, AttemptId, Exit, Location, Outcome, TestId, Verdict, event::TestFinished,
};
use std::ops::Range;

/// The reason of a failure, in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    /// The file, inside the workspace and relative to its root, and the line: of the panic, or else of
    /// the test's definition.
    pub(super) place: Option<(String, u32)>,
    /// The words of the test or of the harness, without control characters. Empty if there are none.
    pub(super) message: String,
}

/// An attempt that failed.
pub(super) struct Failed<'a> {
    pub(super) test: &'a TestId,
    pub(super) attempt: &'a Attempt,
    /// The place of the test's definition, if it is known.
    pub(super) location: Option<&'a Location>,
}

impl Reason {
    /// Returns the reason of the last attempt; `None` if the test did not fail.
    pub(crate) fn of(
        finished: &TestFinished,
        workspace_root: &str,
        outputs: &dyn Outputs,
    ) -> Option<Self> {
        let failed = Failed {
            test: &finished.test,
            attempt: finished.attempts.last()?,
            location: finished.location.as_ref(),
        };
        (finished.verdict != Verdict::Pass)
            .then(|| Self::of_failed(&failed, workspace_root, outputs))
    }

    /// Returns the reason of one attempt.
    pub(super) fn of_failed(
        failed: &Failed<'_>,
        workspace_root: &str,
        outputs: &dyn Outputs,
    ) -> Self {
        let (test, attempt) = (failed.test, failed.attempt);
        let (text, before) = of_attempt(test, attempt, outputs);
        let panic = text.as_deref().and_then(extract::location);
        let panic = panic.and_then(|(file, line)| Some((inside(file, workspace_root)?, line)));
        // Rustdoc counts the lines of a panic from the beginning of the test, in a file of its own or not.
        let panic = panic.filter(|_| !test.binary.as_str().contains("::doc/"));
        let defined = failed.location.filter(|it| it.is_inside());
        let place = panic.or_else(|| defined.map(|it: &Location| (it.file.clone(), it.line)));
        let ordinary = matches!(attempt.outcome, Outcome::Exited(Exit::Code(code)) if code != 0)
            && attempt.limits.is_empty();
        let said = text.as_deref().map(extract::message).filter(|_| ordinary);
        let message = match said {
            Some(said) => said.to_owned(),
            None => wording::closing(attempt).unwrap_or_default(),
        };
        let message = message.lines().next().unwrap_or_default();
        let mut reason = Self {
            place,
            message: escaped(message).into_owned(),
        };
        if let Some(first) = before.first() {
            reason.follows(first, workspace_root);
        }
        reason
    }

    /// Adds the panic that was there before: mostly it is the cause.
    fn follows(&mut self, first: &Panic, workspace_root: &str) {
        let (thread, message) = (escaped(&first.thread), escaped(&first.message));
        if self.message.contains("Any { .. }") {
            // It says only that another thread has panicked.
            self.message = format!("{message} (in thread `{thread}`)");
            let place = first.place.rsplitn(3, ':').collect::<Vec<_>>();
            if let [_, line, file] = place[..]
                && let (Some(file), Ok(line)) = (inside(file, workspace_root), line.parse())
            {
                self.place = Some((file, line));
            }
            return;
        }
        self.message
            .push_str(&format!("; before it in thread `{thread}`: {message}"));
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

/// Returns the text in an attempt's output that says why it failed, and the panics before that.
fn of_attempt(
    test: &TestId,
    attempt: &Attempt,
    outputs: &dyn Outputs,
) -> (Option<String>, Vec<Panic>) {
    let id = AttemptId {
        test: test.clone(),
        attempt: attempt.number,
    };
    let read = |stream| excerpt(outputs, &id, stream, 2 * extract::SEARCHED);
    let (stdout, stderr) = (read(Stream::Stdout), read(Stream::Stderr));
    let before = stderr.as_ref().map(|stderr| before(test, stderr.end()));
    let text = text(test, stdout.as_ref(), stderr.as_ref());
    (text, before.unwrap_or_default())
}

/// Returns the panics in the standard error of a test before the one that says why it failed.
pub(super) fn before(test: &TestId, stderr: &[u8]) -> Vec<Panic> {
    let Some(range) = extract::in_stderr(stderr, test.name.as_str()) else {
        return Vec::new();
    };
    let from = range.start.saturating_sub(extract::SEARCHED);
    extract::panics(&plain(&stderr[from..range.start]))
}

/// Returns the text in the captured streams that says why a test failed, without escape sequences: the note of
/// its harness, and the panic.
pub(super) fn text(
    test: &TestId,
    stdout: Option<&Excerpt>,
    stderr: Option<&Excerpt>,
) -> Option<String> {
    let end = |excerpt: Option<&Excerpt>, find: &dyn Fn(&[u8]) -> Option<Range<usize>>| {
        let excerpt = excerpt?;
        Some(plain(excerpt.end().get(find(excerpt.end())?)?))
    };
    let note = end(stdout, &extract::in_stdout);
    let panic = end(stderr, &|bytes| {
        extract::in_stderr(bytes, test.name.as_str())
    });
    match (note, panic) {
        (Some(note), Some(panic)) => Some(format!("{note}\n{panic}")),
        (note, panic) => note.or(panic),
    }
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
