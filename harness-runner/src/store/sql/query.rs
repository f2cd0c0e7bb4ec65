//! Asks a database.

use super::{BUSY, SqlError, resolved, said};
use camino::Utf8Path;
use rusqlite::{Connection, OpenFlags, types::ValueRef};
use serde_json::Value;

/// A reader of rows: their columns, and then the values of each.
pub trait Rows {
    /// The error of what it writes.
    type Error;

    /// Takes the names of the columns.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    fn columns(&mut self, names: &[String]) -> Result<(), Self::Error>;

    /// Takes the values of a row, in the order of the columns. Bytes that are no text are a text with two digits for each.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    fn row(&mut self, values: &[Value]) -> Result<(), Self::Error>;
}

/// Asks a database, which is only read. The result of the reader is within.
///
/// # Errors
///
/// When the query is not understood, or the database cannot be read.
pub fn query<R: Rows>(
    path: &Utf8Path,
    query: &str,
    rows: &mut R,
) -> Result<Result<(), R::Error>, SqlError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let unread = said(path);
    let connection = Connection::open_with_flags(resolved(path), flags).map_err(&unread)?;
    connection.busy_timeout(BUSY).map_err(&unread)?;
    let understood = |error: rusqlite::Error| match unread(error) {
        SqlError::Write { reason, .. } => SqlError::Query { reason },
        error => error,
    };
    let mut statement = connection.prepare(query).map_err(&understood)?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    if let Err(error) = rows.columns(&names) {
        return Ok(Err(error));
    }
    let mut found = statement.query([]).map_err(&understood)?;
    while let Some(row) = found.next().map_err(&understood)? {
        let values = (0..names.len()).map(|number| row.get_ref(number).map(json));
        let values: Vec<Value> = values.collect::<Result<_, _>>().map_err(&understood)?;
        if let Err(error) = rows.row(&values) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

fn json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => {
            let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
            digits.collect::<String>().into()
        }
    }
}
