//! The checklist as a page of the site.

use crate::{
    checklist::{Line, PARTS, program},
    expectations::{EXPECTATIONS, UNSEEN},
};
use expect_test::expect_file;
use std::{
    collections::BTreeSet,
    fmt::{self, Write},
};

const INTRODUCTION: &str = "\
# The tracer's checklist

Tracing goes wrong in many ways. Each line here is one of them. A program for each that can be
tested lies in `fixtures/tracees`: it checks by itself what has to be the same traced and untraced,
and runs untraced, with processes followed, and with everything traced by `ptrace` and by `notify`, each
as root and as a user without privileges. What its trace has to say is in `cargo-harness/tests/corpus`.

`ptrace` sees all of it. The column `process` has a mark where the [level](tracing.md#levels) of that
name has something to say, and the lives of the program's processes are checked there as well. The
column `notify` says what that [backend](tracing.md#backends) does not see of the program:

";

const MADE: &str = "
This page is made of the list there: `UPDATE_EXPECT=1 cargo test -p cargo-harness --test corpus page`.
";

/// Compares the page with the list. With `UPDATE_EXPECT=1` it writes the page instead.
pub(crate) fn check() {
    let mut page = String::new();
    render(&mut page).expect("it is a string");
    expect_file!["../../../site/docs/tracer-checklist.md"].assert_eq(&page);
}

fn render(page: &mut String) -> fmt::Result {
    page.push_str(INTRODUCTION);
    for unseen in UNSEEN {
        writeln!(page, "- {}: {}", unseen.what, unseen.meaning)?;
    }
    page.push_str(MADE);
    for (title, lines) in PARTS {
        writeln!(page, "\n## {title}\n")?;
        writeln!(
            page,
            "| | what is so | program | `process` | not by `notify` | tested elsewhere, or why not |"
        )?;
        writeln!(page, "| --- | --- | --- | --- | --- | --- |")?;
        for line in lines {
            self::line(page, line)?;
        }
    }
    Ok(())
}

fn line(page: &mut String, line: &Line) -> fmt::Result {
    let Line {
        number, fact, note, ..
    } = line;
    let names = line.programs.iter().map(|name| program(line, name));
    let names: Vec<_> = names.collect();
    let expected = EXPECTATIONS.iter();
    let expected = expected.filter(|expected| names.iter().any(|name| name == expected.program));
    let expected: Vec<_> = expected.collect();
    let lives = if expected.iter().any(|expected| expected.of_lives) {
        "✓"
    } else {
        ""
    };
    let unseen = expected.iter().filter_map(|expected| expected.not_notified);
    let unseen: BTreeSet<_> = unseen.map(|unseen| unseen.what).collect();
    let unseen = unseen.into_iter().collect::<Vec<_>>().join(", ");
    let programs = names.iter().map(|name| format!("`{name}`"));
    let programs = programs.collect::<Vec<_>>().join(", ");
    writeln!(
        page,
        "| P{number} | {fact} | {programs} | {lives} | {unseen} | {note} |"
    )
}
