//! `cargo harness explain`: what differed between an attempt that failed and one that passed.

use super::{
    GlobalOptions,
    history::short,
    kept::Kept,
    prepared,
    recordings::{self, Place},
    runs::coarse,
    who::{json_of, shown},
};
use crate::command_error::{CommandError, Kind};
use camino::Utf8Path;
use clap::Args;
use harness_metadata::{
    Verdict,
    event::{CommonCause, Findings, Interference},
    exit_code,
};
use harness_runner::{
    answers::{
        difference::{Answered, Difference, Differences, Modified, Said, differences},
        rules::Roots,
        uses::Gap,
    },
    report::{
        findings, plural,
        style::{Styles, escaped},
    },
    store::{
        Found, Query, WhichRun, age, find,
        last::{last_of_run, passed_and_traced, passing_beside},
    },
};
use nix::errno::Errno;
use serde_json::json;
use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

/// Differences that are shown, unless all are asked for.
const SHOWN: usize = 12;

/// The remedy for a test without a pass.
const UNTIL_IT_PASSES: &str =
    "run it until it passes, as with `--retries 5`, or name a run with `--against`";

/// Explain a failure: what was answered differently when the test passed, and which other test changed it.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The test: its name, a part of it, or its binary's id and its name. Default: the one that failed last.
    #[arg(value_name = "TEST", num_args = 0..=2)]
    test: Vec<String>,
    /// The run with the failure: the beginning of its id, or `latest`. Default: the latest that has one.
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// The number of the attempt that failed. Default: the last one.
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// The run with the attempt that passed, also an imported one. Default: the same run, else the last one
    /// before it.
    #[arg(long, value_name = "ID")]
    against: Option<String>,
    /// Show every difference, and count noise too: the loader, locales, the toolchain, `/proc`.
    #[arg(long)]
    all: bool,
    /// Print JSON.
    #[arg(long, help_heading = "Output options")]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Explain {
    pub(super) fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let Kept {
            root,
            store,
            target,
        } = self.place.locate(global)?;
        let roots = Roots::new(&root, &target);
        let failing = find(&store, &self.failing(&root)).map_err(recordings::find_error)?;
        // Without the end of the run its findings are not known.
        let findings = failing.run.findings().unwrap_or_default();
        let found = AtTheEnd::of(&failing, &findings);
        let passing = match self.passing(&store, &root, &failing) {
            Ok(passing) => passing,
            Err(error) => {
                // This much is known without a pass.
                let text = match self.json {
                    true => String::new(),
                    false => found.text(),
                };
                let _ = io::stdout().write_all(text.as_bytes());
                return Err(error);
            }
        };
        let compared = differences(&failing, &passing, &roots, self.all);
        let unreadable = |error| CommandError::new(Kind::Setup, error);
        let mut compared = compared.map_err(unreadable)?;
        if !compared.all.is_empty() {
            // Without the other tests of the run their part is not known.
            let others = last_of_run(&failing.run).unwrap_or_default();
            compared.add_causes(&failing, &others);
        }
        let text = match self.json {
            true => json(&failing, &passing, &compared, &found, &roots),
            false => self.text(&failing, &passing, &compared, &found, &roots, global),
        };
        recordings::written(io::stdout().write_all(text.as_bytes()), "the explanation")?;
        for text in reservations(&compared, &roots) {
            prepared::note(&text, global.stderr_colors());
        }
        Ok(exit_code::OK)
    }

    fn failing(&self, workspace: &Utf8Path) -> Query {
        let run = self.run.as_deref().map(WhichRun::named);
        Query {
            test: (!self.test.is_empty()).then(|| self.test.join(" ")),
            run: run.unwrap_or_default(),
            attempt: self.attempt,
            failed: true,
            workspace: Some(workspace.to_owned()),
        }
    }

    /// Finds the attempt that passed.
    fn passing(
        &self,
        store: &Utf8Path,
        workspace: &Utf8Path,
        failing: &Found,
    ) -> Result<Found, CommandError> {
        let (test, _) = failing.record.test.without_iteration();
        let wrong = |text: String| CommandError::new(Kind::Setup, text);
        if failing.record.kept_trace.is_none() {
            let text = format!(
                "no trace is kept of the failure of `{test}` in run {}",
                short(&failing.run)
            );
            return Err(wrong(text).with_hint("run it again with `--trace io` or `--trace full`"));
        }
        let Some(id) = &self.against else {
            let found = passing_beside(store, workspace, failing);
            return found.map_err(recordings::find_error)?.ok_or_else(|| {
                let text = "passed and its files were traced";
                let error = wrong(format!("no run is kept in which `{test}` {text}"));
                error.with_hint(UNTIL_IT_PASSES)
            });
        };
        let query = Query {
            test: Some(test.to_string()),
            run: WhichRun::Id(id.clone()),
            ..Query::default()
        };
        let found = find(store, &query).map_err(recordings::find_error)?;
        let (record, short) = (&found.record, short(&found.run));
        match record.verdict {
            Verdict::Pass if passed_and_traced(record) => Ok(found),
            Verdict::Pass => Err(wrong(format!(
                "`{test}` passed in run {short}, and its files were not traced"
            ))),
            _ => Err(wrong(format!("`{test}` did not pass in run {short}"))),
        }
    }

    fn text(
        &self,
        failing: &Found,
        passing: &Found,
        compared: &Differences,
        found: &AtTheEnd<'_>,
        roots: &Roots,
        global: &GlobalOptions,
    ) -> String {
        let styles = Styles::new(global.stdout_colors());
        let mut text = format!("{}\n", styles.name(&failing.record.test));
        text += &format!("  failed: {}\n", place(failing, None));
        text += &format!("  passed: {}\n", place(passing, Some(failing)));
        text += &found.text();
        if compared.none() {
            text += "\nNothing in files, network or children differs, as far as the traces show.\n";
            return text;
        }
        let shown = match self.all {
            true => compared.all.len(),
            false => SHOWN,
        };
        for difference in compared.all.iter().take(shown) {
            text.push('\n');
            text += &words(difference, roots);
        }
        let more = compared.all.len().saturating_sub(shown);
        if more > 0 {
            text += &format!("\n{more} more, of less weight: `--all` shows them\n");
        }
        for Modified { path, at } in &compared.modified {
            let path = roots.shown(&path.to_string());
            text += &format!(
                "\nread in both, and modified between them, at {}: {}\n",
                at.format("%Y-%m-%d %H:%M:%S"),
                escaped(&path)
            );
        }
        if compared.only_passing > 0 {
            let things = plural(compared.only_passing, "thing", "things");
            text += &format!("\nThe attempt that failed did not come to {things}.\n");
        }
        text
    }
}

/// Findings at the end of a run that are about an attempt.
struct AtTheEnd<'a> {
    disturbed: Option<&'a Interference>,
    common: Option<&'a CommonCause>,
}

impl<'a> AtTheEnd<'a> {
    fn of(failing: &Found, findings: &'a Findings) -> Self {
        let (test, attempt) = (&failing.record.test, failing.record.attempt);
        let mut disturbed = findings.interferences.iter();
        let mut causes = findings.causes.iter();
        Self {
            disturbed: disturbed.find(|it| it.test == *test && it.attempt == attempt),
            common: causes.find(|it| it.tests.contains(test)),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if let Some(disturbed) = self.disturbed {
            let _ = writeln!(text, "\n  {}", findings::interference(disturbed));
        }
        if let Some(common) = self.common {
            let others = plural(common.count - 1, "other test", "other tests");
            let cause = escaped(&common.cause);
            let _ = writeln!(
                text,
                "\n  {others} of the run failed by the same cause: {cause}"
            );
        }
        text
    }
}

/// Names an attempt.
fn place(found: &Found, beside: Option<&Found>) -> String {
    let number = found.record.attempt;
    let header = &found.run.header;
    if beside.is_some_and(|other| other.run.header.run_id == header.run_id) {
        return format!("attempt {number} of the same run");
    }
    format!(
        "attempt {number} of run {}, {} ago",
        short(&found.run),
        coarse(age(header.started_at))
    )
}

/// Returns a difference as lines.
fn words(difference: &Difference, roots: &Roots) -> String {
    let asked = &difference.asked;
    let name = match &difference.failing.thing {
        Some(thing) => shown(thing, roots),
        None => escaped(&asked.name).into_owned(),
    };
    let name = name.replace("{workspace}/", "");
    let mut text = format!("  {} {name}", asked.verb);
    if let Some(to) = &asked.to {
        let _ = write!(text, " as {}", escaped(&to.replace("{workspace}/", "")));
    }
    let first = &difference.failing.first;
    let call = first.call.as_deref().map(|call| format!(" in {call}"));
    let _ = write!(
        text,
        "\n      failed: {}, at {:.3} s by {}{}\n",
        answers(&difference.failing),
        first.at.as_secs_f64(),
        first.pid,
        call.unwrap_or_default()
    );
    let passed = difference.passing.as_ref();
    let passed = passed.map_or_else(|| "did not do that".to_owned(), answers);
    let _ = writeln!(text, "      passed: {passed}");
    for cause in &difference.causes {
        let _ = writeln!(
            text,
            "      {:.3} s before that, {} {} it",
            cause.before.as_secs_f64(),
            cause.test,
            match cause.how.words() {
                // A word that has its object in it.
                "made as a folder" => "made",
                "changed metadata of" => "changed the metadata of",
                words => words,
            }
        );
    }
    text
}

/// Returns the answers in words.
pub(super) fn answers(answered: &Answered) -> String {
    let all: Vec<String> = answered.said.iter().map(answer).collect();
    all.join("; ")
}

fn answer(said: &Said) -> String {
    match said {
        Said::Worked => "worked".to_owned(),
        Said::Failed(errno) => match Errno::from_raw(*errno) {
            Errno::UnknownErrno => format!("error {errno}"),
            known => format!("{known:?} ({})", known.desc()),
        },
        Said::Exited(code) => format!("exited with {code}"),
        Said::Signal(signal) => match nix::sys::signal::Signal::try_from(*signal) {
            Ok(signal) => signal.as_str().to_owned(),
            Err(_) => format!("signal {signal}"),
        },
    }
}

/// Says what the answer cannot know.
fn reservations(compared: &Differences, roots: &Roots) -> Vec<String> {
    let mut texts = Vec::new();
    let gaps = [
        ("failed", &compared.failing_gaps),
        ("passed", &compared.passing_gaps),
    ];
    for (which, gaps) in gaps {
        if let Some(gap) = gaps.first() {
            let words = gap.words();
            texts.push(format!(
                "the trace of the attempt that {which} may lack something: {words}"
            ));
        }
    }
    if compared.blind_to_lookups {
        let text = "look-ups (`stat`, `access`) were not traced: `--trace full` shows them";
        texts.push(text.to_owned());
    }
    if let Some(first) = compared.modified_since.first() {
        let files = plural(compared.modified_since.len(), "file", "files");
        texts.push(format!(
            "both attempts read {files} that were modified or removed since, so it is not known what they \
             had in them: {}",
            escaped(&roots.shown(&first.to_string()))
        ));
    }
    if compared.none() && compared.complete() && compared.modified_since.is_empty() {
        let text = "what is left is time, randomness, scheduling, and what no trace shows: the \
                    environment's values, the clock, memory, data that passed through pipes and sockets";
        texts.push(text.to_owned());
    }
    texts
}

fn json(
    failing: &Found,
    passing: &Found,
    compared: &Differences,
    found: &AtTheEnd<'_>,
    roots: &Roots,
) -> String {
    let attempt = |found: &Found, gaps: &[Gap]| {
        json!({
            "run_id": found.run.header.run_id,
            "started_at": found.run.header.started_at.to_rfc3339(),
            "attempt": found.record.attempt,
            "gaps": gaps.iter().map(Gap::words).collect::<Vec<_>>(),
        })
    };
    let said = |answered: &Answered| -> Vec<String> { answered.said.iter().map(answer).collect() };
    let rows = compared.all.iter().map(|it| {
        let thing = it.failing.thing.as_ref();
        let causes = it.causes.iter().map(|cause| {
            json!({
                "test": cause.test,
                "how": cause.how,
                "seconds_before": cause.before.as_secs_f64(),
            })
        });
        json!({
            "verb": it.asked.verb,
            "name": it.asked.name,
            "to": it.asked.to,
            "thing": thing.map(|thing| json_of(thing, roots)),
            "failing": said(&it.failing),
            "passing": it.passing.as_ref().map(said),
            "seconds": it.failing.first.at.as_secs_f64(),
            "pid": it.failing.first.pid,
            "call": it.failing.first.call,
            "causes": causes.collect::<Vec<_>>(),
        })
    });
    let modified = compared
        .modified
        .iter()
        .map(|it| json!({ "path": it.path.to_string(), "modified_at": it.at.to_rfc3339() }));
    let explanation = json!({
        "test": failing.record.test,
        "failing": attempt(failing, &compared.failing_gaps),
        "passing": attempt(passing, &compared.passing_gaps),
        "differences": rows.collect::<Vec<_>>(),
        "modified": modified.collect::<Vec<_>>(),
        "modified_since": compared.modified_since.iter().map(|it| it.to_string()).collect::<Vec<_>>(),
        "only_passing": compared.only_passing,
        "lookups_traced": !compared.blind_to_lookups,
        "disturbed_by": found.disturbed,
        "common_cause": found.common,
    });
    explanation.to_string() + "\n"
}
