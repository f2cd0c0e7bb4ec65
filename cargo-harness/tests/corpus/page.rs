//! The checklist as a page of the site.

use crate::{
    checklist::{Line, PARTS, program},
    expectations::GAPS,
};
use expect_test::expect_file;
use std::fmt::{self, Write};

const INTRODUCTION: &str = "\
# The tracer's checklist

Tracing goes wrong in many ways. Each line here is one of them. A program for each that can be
tested lies in `fixtures/tracees`: it checks by itself what has to be the same traced and untraced,
and runs untraced, with processes followed, and with everything traced, each as root and as a user
without privileges. What its trace has to say is in `cargo-harness/tests/corpus`.

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
    for (title, lines) in PARTS {
        writeln!(page, "\n## {title}\n")?;
        writeln!(
            page,
            "| | what is so | program | tested elsewhere, or why not |"
        )?;
        writeln!(page, "| --- | --- | --- | --- |")?;
        for line in lines {
            let Line {
                number, fact, note, ..
            } = line;
            let programs = line
                .programs
                .iter()
                .map(|name| format!("`{}`", program(line, name)));
            let programs = programs.collect::<Vec<_>>().join(", ");
            let gaps = GAPS
                .iter()
                .filter(|(name, _)| line.programs.iter().any(|own| program(line, own) == *name));
            let gaps = gaps.map(|(_, gap)| format!("**not yet right:** {gap}"));
            let notes = [(*note).to_owned()].into_iter().chain(gaps);
            let notes: Vec<_> = notes.filter(|note| !note.is_empty()).collect();
            let notes = notes.join("; ");
            writeln!(page, "| P{number} | {fact} | {programs} | {notes} |")?;
        }
    }
    Ok(())
}
