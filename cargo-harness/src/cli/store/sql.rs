//! `cargo harness store sql`: recordings as a database.

use super::super::{
    GlobalOptions,
    kept::working_directory,
    prepared,
    recordings::{Place, written},
    runs::{ListForm, MessageFormat},
};
use crate::command_error::{CommandError, Kind};
use camino::Utf8PathBuf;
use clap::Args;
use harness_runner::{
    report::{plural, style::escaped},
    store::{
        self,
        sql::{self, Rows, SQL_SCHEMA_VERSION, SqlError},
    },
};
use serde::{Serializer, ser::SerializeMap};
use serde_json::Value;
use std::io::{self, BufWriter, Write};

/// Bring a SQLite database of all recorded runs up to date, and query it.
///
/// Without a query its path is printed, for other programs: `sqlite3 "$(cargo harness store sql)"`. The tables
/// are those of the page `sql` (`cargo harness help sql`).
#[derive(Debug, Args)]
pub(super) struct SqlCommand {
    /// The query.
    #[arg(value_name = "QUERY")]
    query: Option<String>,
    /// Write the database to this file instead of the store.
    #[arg(long, value_name = "FILE")]
    to: Option<Utf8PathBuf>,
    #[command(flatten)]
    list: ListForm,
    #[command(flatten)]
    place: Place,
}

impl SqlCommand {
    pub(super) fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let colors = global.stderr_colors();
        let kept = self.place.locate(global)?;
        let runs = store::folder(&kept.store);
        if !runs.exists() {
            let message = format!("no run is kept in `{runs}`");
            let error = CommandError::new(Kind::Setup, message);
            return Err(error.with_hint("`cargo harness run` keeps one"));
        }
        let file = match &self.to {
            Some(file) => working_directory()?.join(file),
            None => sql::database(&kept.store),
        };
        let update = sql::update(&kept.store, &file).map_err(|error| self.failed(error))?;
        if let Some(version) = update.was_version {
            let text = format!(
                "`{file}` had version {version} of the tables: it was made anew, with version \
                 {SQL_SCHEMA_VERSION}"
            );
            prepared::note(&text, colors);
        }
        if update.unreadable > 0 {
            let runs = plural(update.unreadable, "run", "runs");
            let text = format!("{runs} cannot be read, and left out");
            prepared::warn(&text, colors);
        }
        let Some(query) = &self.query else {
            let text = format!("{file}\n");
            return written(io::stdout().write_all(text.as_bytes()), "the path");
        };
        let mut table = Table {
            out: BufWriter::new(io::stdout().lock()),
            json: self.list.message_format == MessageFormat::Json,
            columns: Vec::new(),
        };
        let asked = sql::query(&file, query, &mut table).map_err(|error| self.failed(error))?;
        let flushed = asked.and_then(|()| table.out.flush());
        if flushed.is_err() {
            // `| head` has seen enough.
            let _ = table.out.into_parts();
        }
        written(flushed, "the rows")
    }

    fn failed(&self, error: SqlError) -> CommandError {
        let (kind, hint) = match &error {
            SqlError::Runs { .. } => (Kind::Setup, None),
            SqlError::Query { .. } => (
                Kind::Usage,
                Some("`cargo harness help sql` describes the tables"),
            ),
            SqlError::Damaged { .. } if self.to.is_none() => (
                Kind::Setup,
                Some("delete it: it is made anew, and all that is in it comes from the runs"),
            ),
            SqlError::NoFile { .. } | SqlError::Foreign { .. } | SqlError::Damaged { .. } => {
                (Kind::Setup, Some("`--to FILE` names another file"))
            }
            SqlError::Busy { .. } => (Kind::Write, Some("try it again when that has ended")),
            SqlError::Write { .. } if self.to.is_none() => (
                Kind::Write,
                Some("`--to FILE` writes the database elsewhere"),
            ),
            SqlError::Write { .. } => (Kind::Write, None),
        };
        let error = CommandError::new(kind, error);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// Rows as lines: columns between tabs, or objects of JSON.
struct Table<W: Write> {
    out: BufWriter<W>,
    json: bool,
    columns: Vec<String>,
}

impl<W: Write> Rows for Table<W> {
    type Error = io::Error;

    fn columns(&mut self, names: &[String]) -> io::Result<()> {
        self.columns = names.to_vec();
        match self.json {
            true => Ok(()),
            false => self.line(names.iter().map(String::as_str)),
        }
    }

    fn row(&mut self, values: &[Value]) -> io::Result<()> {
        if self.json {
            let mut serializer = serde_json::Serializer::new(&mut self.out);
            let mut object = serializer.serialize_map(Some(values.len()))?;
            for (name, value) in self.columns.iter().zip(values) {
                object.serialize_entry(name, value)?;
            }
            object.end()?;
            return self.out.write_all(b"\n");
        }
        let texts: Vec<String> = values.iter().map(text).collect();
        self.line(texts.iter().map(String::as_str))
    }
}

impl<W: Write> Table<W> {
    fn line<'a>(&mut self, texts: impl Iterator<Item = &'a str>) -> io::Result<()> {
        // A tab in a value would be another column, and a newline another row.
        let texts: Vec<_> = texts.map(escaped).collect();
        writeln!(self.out, "{}", texts.join("\t"))
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}
