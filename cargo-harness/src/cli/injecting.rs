//! `run --inject`: what is said at the end.

use super::{GlobalOptions, prepared};
use harness_metadata::{Event, EventKind};
use harness_runner::{
    report::{Outputs, Sink, SinkError, plural},
    session::Session,
    tracer::inject::Injection,
};

/// Returns a sink that says at the end how many calls have failed, if any were to.
pub(super) fn sink(
    injections: &[Injection],
    session: &Session,
    global: &GlobalOptions,
) -> Option<Box<dyn Sink>> {
    let requests: Vec<String> = injections.iter().map(ToString::to_string).collect();
    (!requests.is_empty()).then(|| {
        Box::new(Counted {
            requests,
            kept: kept(session),
            calls: 0,
            tests: 0,
            without: 0,
            colors: global.stderr_colors(),
        }) as _
    })
}

/// Returns where a run is kept that is no history, and how to look at it.
fn kept(session: &Session) -> String {
    let store = session.store();
    match store.strip_prefix(session.workspace.root()) {
        Ok(within) => format!("`trace` and `explain` see it with `--runs-dir {within}`"),
        Err(_) => format!("in `{store}`"),
    }
}

/// The failures of a run.
struct Counted {
    requests: Vec<String>,
    /// The place of the run.
    kept: String,
    calls: u64,
    tests: usize,
    /// The tests in which nothing failed.
    without: usize,
    colors: bool,
}

impl Counted {
    fn text(&self) -> String {
        let requests = self.requests.join("`, `");
        if self.calls == 0 {
            return format!(
                "no call of a test was one that `{requests}` has fail: these results say nothing of it"
            );
        }
        let calls = usize::try_from(self.calls).unwrap_or(usize::MAX);
        let calls = plural(calls, "call", "calls");
        let tests = plural(self.tests, "test", "tests");
        let without = match self.without {
            0 => String::new(),
            count => format!("; {} made no such call", plural(count, "test", "tests")),
        };
        format!(
            "`{requests}` had {calls} of {tests} fail{without}; this run is kept apart, {}",
            self.kept
        )
    }
}

impl Sink for Counted {
    fn handle(&mut self, event: &Event, _: &dyn Outputs) -> Result<(), SinkError> {
        match &event.kind {
            EventKind::TestFinished(finished) => {
                let traces = finished
                    .attempts
                    .iter()
                    .filter_map(|it| it.trace.as_deref());
                let calls = traces.filter_map(|trace| trace.counts.get("injected"));
                let calls = calls.sum::<u64>();
                self.calls += calls;
                match calls {
                    0 => self.without += 1,
                    _ => self.tests += 1,
                }
            }
            EventKind::RunFinished(_) if self.calls == 0 => {
                prepared::warn(&self.text(), self.colors);
            }
            EventKind::RunFinished(_) => prepared::note(&self.text(), self.colors),
            _ => {}
        }
        Ok(())
    }
}
