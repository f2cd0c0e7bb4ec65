//! `cargo harness who-reads`, `who-writes`, `who-connects`, `who-runs`: the tests that used something, from
//! their last traces.

use super::{
    GlobalOptions,
    history::short,
    kept::{Kept, working_directory},
    prepared, recordings,
    recordings::Place,
    runs::coarse,
};
use crate::command_error::{CommandError, Kind};
use camino::Utf8Path;
use clap::Args;
use harness_metadata::TestId;
use harness_runner::{
    answers::{
        self, Answer, Hit, Unknown,
        question::{Files, Peer, Program, Question, QuestionError},
        rules::Roots,
        uses::{Gap, Thing},
    },
    report::{
        plural,
        style::{Styles, escaped},
    },
    store::age,
};
use serde::Serialize;
use std::io::{self, Write};

/// Tests that are named at the end, unless all are asked for.
const NAMED: usize = 5;

/// The form and the extent of an answer.
#[derive(Debug, Args)]
pub(super) struct AnswerForm {
    /// Count noise too: the loader, locales, the toolchain, `/proc`.
    #[arg(long)]
    all: bool,
    /// Print JSON, an object a line.
    #[arg(long, help_heading = "Output options")]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// List the tests that read a file or folder, or ask for it.
#[derive(Debug, Args)]
pub(super) struct WhoReads {
    /// The file, the folder with all below it, or a glob.
    #[arg(value_name = "PATH")]
    path: String,
    #[command(flatten)]
    form: AnswerForm,
}

/// List the tests that write, create, rename or remove a file or folder.
#[derive(Debug, Args)]
pub(super) struct WhoWrites {
    /// The file, the folder with all below it, or a glob.
    #[arg(value_name = "PATH")]
    path: String,
    #[command(flatten)]
    form: AnswerForm,
}

/// List the tests that connect to an address.
#[derive(Debug, Args)]
pub(super) struct WhoConnects {
    /// The port, HOST:PORT, the path of a unix socket, or `@NAME`.
    #[arg(value_name = "ADDRESS")]
    address: String,
    #[command(flatten)]
    form: AnswerForm,
}

/// List the tests that run a program, or that the kernel runs it for.
#[derive(Debug, Args)]
pub(super) struct WhoRuns {
    /// The program's name, its path, or a glob of paths.
    #[arg(value_name = "PROGRAM")]
    program: String,
    #[command(flatten)]
    form: AnswerForm,
}

impl WhoReads {
    pub(super) fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let question =
            |cwd: &Utf8Path, roots: &Roots| Files::new(&self.path, cwd, roots).map(Question::Reads);
        self.form.answer(&question, global)
    }
}

impl WhoWrites {
    pub(super) fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let question = |cwd: &Utf8Path, roots: &Roots| {
            Files::new(&self.path, cwd, roots).map(Question::Writes)
        };
        self.form.answer(&question, global)
    }
}

impl WhoConnects {
    pub(super) fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let question = |cwd: &Utf8Path, roots: &Roots| {
            Peer::new(&self.address, cwd, roots).map(Question::Connects)
        };
        self.form.answer(&question, global)
    }
}

impl WhoRuns {
    pub(super) fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let question = |cwd: &Utf8Path, roots: &Roots| {
            Program::new(&self.program, cwd, roots).map(Question::Runs)
        };
        self.form.answer(&question, global)
    }
}

/// Makes the question, from the working directory.
type Asking<'a> = &'a dyn Fn(&Utf8Path, &Roots) -> Result<Question, QuestionError>;

impl AnswerForm {
    fn answer(&self, ask: Asking<'_>, global: &GlobalOptions) -> Result<i32, CommandError> {
        let cwd = working_directory()?;
        let Kept {
            root,
            store,
            target,
        } = self.place.locate(global)?;
        let roots = Roots::new(&root, &target);
        let question = ask(&cwd, &roots).map_err(question_error)?;
        let answer = answers::answer(&store, &roots, &question, self.all);
        let answer = answer.map_err(recordings::find_error)?;
        let styles = Styles::new(global.stdout_colors());
        let mut text = String::new();
        for hit in &answer.hits {
            text += &match self.json {
                true => json(hit, &roots),
                false => line(hit, &roots, &styles),
            };
        }
        if self.json {
            text.extend(answer.unknown.iter().map(json_of_unknown));
        }
        let written = recordings::written(io::stdout().write_all(text.as_bytes()), "the answer");
        conclude(&answer, &question, global);
        written
    }
}

/// Says what the answer lacks.
fn conclude(answer: &Answer, question: &Question, global: &GlobalOptions) {
    let colors = global.stderr_colors();
    if answer.hits.is_empty() {
        let others = plural(answer.others.len(), "test", "tests");
        prepared::note(&format!("none of {others} with a whole trace did"), colors);
    }
    for text in doubts(&answer.unknown, global.verbose) {
        prepared::warn(&text, colors);
    }
    if answer.noise > 0 {
        let uses = plural(answer.noise, "use", "uses");
        let text = format!("{uses} of noise are left out; `--all` shows them");
        prepared::note(&text, colors);
    }
    let incomplete = answer.hits.iter().filter(|hit| !hit.gaps.is_empty());
    let incomplete = incomplete.count();
    if incomplete > 0 {
        let text = format!(
            "{} in the list have an incomplete trace and may have done more",
            plural(incomplete, "test", "tests")
        );
        prepared::note(&text, colors);
    }
    if let Some(text) = unseen_lookups(answer, question) {
        prepared::note(&text, colors);
    }
}

/// Says what a question with a mistake lacks.
pub(super) fn question_error(error: QuestionError) -> CommandError {
    CommandError::new(Kind::Usage, error)
}

/// Says which tests are unknown, and why.
pub(super) fn doubts(unknown: &[Unknown], all: bool) -> Vec<String> {
    let (without, incomplete): (Vec<&Unknown>, Vec<_>) =
        unknown.iter().partition(|it| it.reason.is_none());
    let mut lines = Vec::new();
    if !without.is_empty() {
        let tests = plural(without.len(), "test has", "tests have");
        let names = without.iter().map(|it| it.test.to_string());
        let names = names_of(names.collect(), all);
        lines.push(format!("{tests} no trace, so they are unknown: {names}"));
    }
    if !incomplete.is_empty() {
        let tests = plural(incomplete.len(), "test has", "tests have");
        let names = incomplete.iter().map(|it| {
            let reason = it.reason.as_deref().unwrap_or_default();
            format!("{} ({reason})", it.test)
        });
        let names = names_of(names.collect(), all);
        lines.push(format!(
            "{tests} no complete trace, so they are unknown: {names}"
        ));
    }
    lines
}

fn names_of(names: Vec<String>, all: bool) -> String {
    let shown = if all { names.len() } else { NAMED };
    let more = names.len().saturating_sub(shown);
    let mut text = names[..names.len().min(shown)].join(", ");
    if more > 0 {
        text += &format!(" and {more} more (`--verbose` names all)");
    }
    text
}

/// Says what traces without look-ups do not show.
pub(super) fn unseen_lookups(answer: &Answer, question: &Question) -> Option<String> {
    let blind = answer.blind_to_lookups;
    (blind > 0 && question.needs_lookups()).then(|| {
        format!(
            "{} traced without look-ups: a test that only asks whether a file is there is seen at \
             `--trace full`",
            plural(blind, "test was", "tests were")
        )
    })
}

/// Returns a thing as a reader knows it.
pub(super) fn shown(thing: &Thing, roots: &Roots) -> String {
    let text = match thing {
        Thing::Path(path) => roots.shown(&path.to_string()),
        Thing::Ip(ip, port) if ip.is_ipv6() => format!("[{ip}]:{port}"),
        Thing::Ip(ip, port) => format!("{ip}:{port}"),
        Thing::Abstract(name) => format!("@{name}"),
        Thing::Host(name) => name.to_string(),
        Thing::Other(text) => text.clone(),
    };
    escaped(&text).into_owned()
}

fn line(hit: &Hit, roots: &Roots, styles: &Styles) -> String {
    let ways: Vec<&str> = hit.ways().into_iter().map(|how| how.words()).collect();
    let (thing, first) = &hit.uses[0];
    let things: std::collections::BTreeSet<_> = hit.uses.iter().map(|(thing, _)| thing).collect();
    let more = match things.len() {
        1 => String::new(),
        many => format!(" and {} more", many - 1),
    };
    let header = &hit.found.run.header;
    format!(
        "{}  {} {}{more}  ({} at {:.3} s by {}; run {}, {} ago){}\n",
        styles.name(&hit.test),
        ways.join(", "),
        shown(thing, roots),
        escaped(&first.call),
        first.at.as_secs_f64(),
        first.pid,
        short(&hit.found.run),
        coarse(age(header.started_at)),
        if hit.gaps.is_empty() {
            ""
        } else {
            " [incomplete trace]"
        },
    )
}

/// A line of JSON.
#[derive(Serialize)]
struct Row<'a> {
    test: &'a TestId,
    /// `yes`, or `unknown`.
    answer: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    uses: Vec<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    /// Whether nothing can be missing.
    complete: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<String>,
}

/// Returns a thing in JSON.
pub(super) fn json_of(thing: &Thing, roots: &Roots) -> serde_json::Map<String, serde_json::Value> {
    let (kind, text) = match thing {
        Thing::Path(path) => ("path", path.to_string()),
        Thing::Host(name) => ("host", name.to_string()),
        other => ("address", shown(other, roots)),
    };
    let mut map = serde_json::Map::new();
    map.insert(kind.to_owned(), text.clone().into());
    if let Some(root) = thing.path().and_then(|_| roots.root_of(&text)) {
        map.insert("root".to_owned(), root.into());
    }
    map
}

fn json(hit: &Hit, roots: &Roots) -> String {
    let uses = hit.uses.iter().map(|(thing, it)| {
        let mut map = json_of(thing, roots);
        map.insert("how".to_owned(), serde_json::json!(it.how));
        map.insert("seconds".to_owned(), it.at.as_secs_f64().into());
        map.insert("pid".to_owned(), it.pid.into());
        map.insert("call".to_owned(), it.call.clone().into());
        map.insert("count".to_owned(), it.count.into());
        serde_json::Value::Object(map)
    });
    let header = &hit.found.run.header;
    let row = Row {
        test: &hit.test,
        answer: "yes",
        uses: uses.collect(),
        run_id: Some(header.run_id.to_string()),
        started_at: Some(header.started_at.to_rfc3339()),
        attempt: Some(hit.found.record.attempt),
        complete: hit.gaps.is_empty(),
        gaps: hit.gaps.iter().map(Gap::words).collect(),
    };
    serde_json::json!(row).to_string() + "\n"
}

fn json_of_unknown(unknown: &Unknown) -> String {
    let row = Row {
        test: &unknown.test,
        answer: "unknown",
        uses: Vec::new(),
        run_id: None,
        started_at: None,
        attempt: None,
        complete: false,
        gaps: vec![
            unknown
                .reason
                .clone()
                .unwrap_or_else(|| "no trace of it is kept".to_owned()),
        ],
    };
    serde_json::json!(row).to_string() + "\n"
}
