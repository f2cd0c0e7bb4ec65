//! The table of a simulation, its plot and its summary.

use super::children::Reasons;
use crate::{cli::recordings, command_error::CommandError};
use harness_metadata::TestId;
use harness_runner::{
    answers::simulation::{Compared, Figures, Method, figures},
    changes::Commit,
    report::{
        plural,
        style::{Styles, escaped, paint},
    },
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

/// The columns of a bar.
const BAR: usize = 20;

/// The characters of a commit's subject.
const SUBJECT: usize = 44;

/// Returns whether a file is a part of what cargo builds, by its name.
fn is_source(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    file.ends_with(".rs") || name == "Cargo.toml" || name == "Cargo.lock"
}

/// A commit.
pub(super) struct Row {
    commit: Commit,
    /// The kind of a mutant.
    kind: Option<&'static str>,
    files: usize,
    /// Whether a file of Rust or of cargo is among them.
    source: bool,
    result: Result<Compared, String>,
    /// The reasons why tests would run, by functions.
    reasons: Reasons,
}

impl Row {
    pub(super) fn new(
        commit: &Commit,
        files: &[String],
        compared: Compared,
        reasons: Reasons,
    ) -> Self {
        Self {
            commit: commit.clone(),
            kind: None,
            files: files.len(),
            source: files.iter().any(|file| is_source(file)),
            result: Ok(compared),
            reasons,
        }
    }

    pub(super) fn not_built(commit: &Commit, reason: String) -> Self {
        Self {
            commit: commit.clone(),
            kind: None,
            files: 0,
            source: false,
            result: Err(reason),
            reasons: Reasons::new(),
        }
    }

    /// Makes it that of a mutant of this kind.
    pub(super) fn of_kind(self, kind: &'static str) -> Self {
        let kind = Some(kind);
        Self { kind, ..self }
    }

    fn line(&self, styles: &Styles) -> String {
        let id = format!("{:<8.8}", self.commit.id);
        let most = self.kind.map_or(SUBJECT, |_| usize::MAX);
        let subject: String = self.commit.subject.chars().take(most).collect();
        let subject = escaped(&subject);
        match &self.result {
            Err(reason) => {
                let text = paint("not built", styles.warn);
                format!("{id}  {text}: {}  {subject}\n", escaped(reason))
            }
            Ok(compared) => {
                let part = |method| match compared.selected.get(&method) {
                    Some(count) => format!("{count:>5} {:>3.0} %", compared.percent(method)),
                    None => format!("{:>11}", "?"),
                };
                let parts: Vec<String> = Method::ALL.map(part).into();
                let line = format!(
                    "{id} {:>5} {:>5}  {}  {}  {subject}\n",
                    self.files,
                    compared.tests,
                    parts.join("  "),
                    bar(compared),
                );
                line + &told(compared, styles)
            }
        }
    }

    /// Returns whether it was built and compared.
    pub(super) fn is_compared(&self) -> bool {
        self.result.is_ok()
    }

    fn why(&self) -> Value {
        let reasons = self.reasons.iter();
        let reasons = reasons.filter_map(|(test, reason)| Some((test, reason.as_ref()?)));
        reasons
            .map(|(test, reason)| json!({"test": test, "reason": reason}))
            .collect()
    }

    fn json(&self) -> Value {
        let mut json = match self.kind {
            None => json!({"commit": self.commit.id}),
            Some(kind) => json!({"mutant": self.commit.id, "kind": kind}),
        };
        json["subject"] = self.commit.subject.as_str().into();
        match &self.result {
            Err(reason) => json["not-built"] = reason.as_str().into(),
            Ok(compared) => {
                json["files"] = self.files.into();
                json["source"] = self.source.into();
                json["tests"] = compared.tests.into();
                json["selected"] = json!(compared.selected);
                json["changed"] = json!(compared.changed);
                json["missed"] = json!(compared.missed);
                json["by-chance"] = json!(compared.by_chance);
                json["why"] = self.why();
            }
        }
        json
    }
}

/// Returns the lines about tests with another result.
fn told(compared: &Compared, styles: &Styles) -> String {
    let mut text = String::new();
    let mut add = |word: &str, style, tests: &BTreeSet<TestId>, by: &str| {
        for test in tests {
            text += &format!(
                "          {} {}{by}\n",
                paint(word, style),
                styles.name(test)
            );
        }
    };
    for (method, missed) in &compared.missed {
        let by = format!(", by {}", method.word());
        let style = if method.is_own() {
            styles.fail
        } else {
            styles.warn
        };
        add("missed", style, missed, &by);
    }
    add("by chance", styles.retry, &compared.by_chance, "");
    text
}

/// Draws the parts that are selected: `#` by functions, `+` with whole executables.
fn bar(compared: &Compared) -> String {
    let columns = |method| {
        let part = compared.percent(method) / 100.0;
        // A part that is not nothing has a column.
        (part * BAR as f64).ceil() as usize
    };
    let functions = columns(Method::Functions);
    let executables = columns(Method::Executables).max(functions);
    format!(
        "[{}{}{}]",
        "#".repeat(functions),
        "+".repeat(executables - functions),
        " ".repeat(BAR - executables)
    )
}

/// Writes what is found as it is found.
pub(super) struct Shown {
    /// Rows are these: one, and several.
    noun: (&'static str, &'static str),
    json: bool,
    styles: Styles,
    all: Vec<Row>,
}

impl Shown {
    pub(super) fn new(noun: (&'static str, &'static str), json: bool, colors: bool) -> Self {
        Self {
            noun,
            json,
            styles: Styles::new(colors),
            all: Vec::new(),
        }
    }

    /// Returns the number of commits.
    pub(super) fn rows(&self) -> usize {
        self.all.len()
    }

    /// Returns the number of results that a way of this runner missed.
    pub(super) fn wrong(&self) -> usize {
        self.compared(|_| true).map(|it| it.wrong().len()).sum()
    }

    /// Adds a commit, and shows it.
    pub(super) fn add(&mut self, row: Row) -> Result<(), CommandError> {
        let text = match self.json {
            true => format!("{}\n", row.json()),
            false if self.all.is_empty() => self.head() + &row.line(&self.styles),
            false => row.line(&self.styles),
        };
        self.all.push(row);
        write(&text)
    }

    fn head(&self) -> String {
        let ways: Vec<String> = Method::ALL.map(|it| format!("{:>11}", it.word())).into();
        format!(
            "{:<8} files tests  {}  {:<22}  subject\n",
            self.noun.0,
            ways.join("  "),
            "# functions + executables"
        )
    }

    /// Returns for each kind of mutants their number, and the number of those with other results.
    fn kinds(&self) -> BTreeMap<&'static str, (usize, usize)> {
        let mut kinds = BTreeMap::<_, (usize, usize)>::new();
        for row in &self.all {
            if let (Some(kind), Ok(compared)) = (row.kind, &row.result) {
                let (all, seen) = kinds.entry(kind).or_default();
                *all += 1;
                *seen += usize::from(!compared.changed.is_empty());
            }
        }
        kinds
    }

    /// Shows the summary.
    pub(super) fn conclude(&self) -> Result<(), CommandError> {
        match self.json {
            true => write(&format!("{}\n", self.summary_json())),
            false => write(&self.summary()),
        }
    }

    fn compared(&self, chosen: impl Fn(&Row) -> bool) -> impl Iterator<Item = &Compared> {
        let rows = self.all.iter().filter(move |row| chosen(row));
        rows.filter_map(|row| row.result.as_ref().ok())
    }

    fn of(&self, method: Method) -> Option<[Figures; 2]> {
        let known = self
            .compared(|_| true)
            .any(|it| it.selected.contains_key(&method));
        known.then(|| {
            [
                figures(self.compared(|_| true), method),
                figures(self.compared(|row| row.source), method),
            ]
        })
    }

    fn counts(&self) -> [usize; 6] {
        let all = || self.compared(|_| true);
        [
            all().count(),
            self.compared(|row| row.source).count(),
            self.all.len() - all().count(),
            all().map(|it| it.tests).sum(),
            all().map(|it| it.changed.len()).sum(),
            all().map(|it| it.by_chance.len()).sum(),
        ]
    }

    fn summary(&self) -> String {
        let [compared, source, not_built, tests, changed, by_chance] = self.counts();
        let mut text = format!(
            "\n{}, {source} with files of Rust or Cargo, {not_built} not built; {tests} results, of which {changed} are \
             other than before, {by_chance} of these by chance\n",
            plural(
                compared,
                &format!("{} is compared", self.noun.0),
                &format!("{} are compared", self.noun.1)
            ),
        );
        text += &format!(
            "{:<14}{:>24}{:>28}{:>10}\n",
            "selected by",
            format!("mean, median of {}", self.noun.1),
            "of those with Rust or Cargo",
            "missed"
        );
        for method in Method::ALL {
            let Some([all, source]) = self.of(method) else {
                text += &format!(
                    "{:<14}no executable has debugging information\n",
                    method.word()
                );
                continue;
            };
            let both = |it: Figures| format!("{:.1} %, {:.1} %", it.mean, it.median);
            text += &format!(
                "{:<14}{:>24}{:>28}{:>10}\n",
                method.word(),
                both(all),
                both(source),
                all.missed
            );
        }
        for (kind, (all, seen)) in self.kinds() {
            let mutants = plural(all, "mutant", "mutants");
            text += &format!("{kind:<22}{mutants:>12}, with other results: {seen}\n");
        }
        text
    }

    fn summary_json(&self) -> Value {
        let [compared, source, not_built, tests, changed, by_chance] = self.counts();
        let mut json = json!({"summary": {
            self.noun.1: compared,
            "with-source": source,
            "not-built": not_built,
            "results": tests,
            "changed": changed,
            "by-chance": by_chance,
        }});
        for method in Method::ALL {
            if let Some([all, source]) = self.of(method) {
                let both = json!({"all": all, "with-source": source});
                json["summary"][method.word()] = both;
            }
        }
        for (kind, (all, seen)) in self.kinds() {
            json["summary"]["kinds"][kind] = json!({"mutants": all, "with-other-results": seen});
        }
        json
    }
}

fn write(text: &str) -> Result<(), CommandError> {
    recordings::written(io::stdout().write_all(text.as_bytes()), "the simulation").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(functions: usize, executables: usize) -> Compared {
        let selected = [
            (Method::Functions, functions),
            (Method::Executables, executables),
        ];
        Compared {
            tests: 100,
            selected: selected.into(),
            ..Compared::default()
        }
    }

    #[test]
    fn a_bar_has_both_parts_and_one_test_has_a_column() {
        assert_eq!(bar(&compared(0, 0)), "[                    ]");
        assert_eq!(bar(&compared(1, 50)), "[#+++++++++          ]");
        assert_eq!(bar(&compared(100, 100)), "[####################]");
    }

    #[test]
    fn sources_are_told_by_their_names() {
        let of = is_source;
        assert!(of("src/lib.rs") && of("a/Cargo.toml") && of("Cargo.lock"));
        assert!(!of("README.md") && !of("src/words.txt"));
    }
}
