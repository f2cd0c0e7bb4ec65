//! The figures, at the end.

use fixture_kit::model::Runner;
use std::fmt;

/// The goal and the result.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: String,
    reach: String,
    harness: String,
    peer: String,
}

impl Table {
    /// Adds a figure: what was done and counted, what it should be, and what it is.
    pub(crate) fn add(&mut self, by: Runner, figure: Figure<'_>) {
        let Figure { what, reach, was } = figure;
        let row = match self.rows.iter_mut().find(|row| row.what == what) {
            Some(row) => row,
            None => {
                self.rows.push(Row {
                    what: what.to_owned(),
                    reach: reach.to_owned(),
                    harness: String::new(),
                    peer: String::new(),
                });
                self.rows.last_mut().expect("it was pushed above")
            }
        };
        match by {
            Runner::Harness => row.harness = was,
            Runner::Peer => row.peer = was,
        }
    }
}

/// A figure.
pub(crate) struct Figure<'a> {
    pub(crate) what: &'a str,
    pub(crate) reach: &'a str,
    pub(crate) was: String,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            return Ok(());
        }
        writeln!(f, "| what | to reach | cargo harness | cargo-nextest |")?;
        writeln!(f, "| --- | --- | --- | --- |")?;
        for Row {
            what,
            reach,
            harness,
            peer,
        } in &self.rows
        {
            writeln!(f, "| {what} | {reach} | {harness} | {peer} |")?;
        }
        Ok(())
    }
}
