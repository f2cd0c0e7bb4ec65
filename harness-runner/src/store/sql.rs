//! A database of all that is recorded, for queries: `history.sqlite` in the store, or a file anywhere.
//!
//! The recordings are the truth. The database is made of them when it is asked for: runs that are not in it
//! are added, and runs that were deleted go. It may be deleted at any time.

mod fill;
mod query;

pub use query::{Rows, query};

use super::{PastRun, runs};
use camino::{Utf8Path, Utf8PathBuf};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params};
use std::{collections::BTreeSet, fs, io, time::Duration};
use thiserror::Error;

/// The file in a store.
const FILE: &str = "history.sqlite";

/// The version of the schema, in `user_version`. It grows with every change of the schema.
pub const SQL_SCHEMA_VERSION: i32 = 2;

/// The mark of our databases, in `application_id`: `HRNS`.
const APPLICATION: i32 = 0x4852_4e53;

const SCHEMA: &str = include_str!("sql/schema.sql");

/// Deletes rows that no run refers to any more.
const SWEEP: &str = "
    DELETE FROM tests
    WHERE id NOT IN (SELECT test FROM results UNION SELECT test FROM attempts);
    DELETE FROM file_sets
    WHERE id NOT IN (SELECT file_set FROM attempts WHERE file_set IS NOT NULL);
    DELETE FROM paths WHERE id NOT IN (SELECT path FROM file_uses);
";

/// So many runs become visible at once.
const BATCH: usize = 64;

/// The time to wait for another program that reads or writes the database.
const BUSY: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

/// The reason why a database cannot be used. The recordings are as before.
#[derive(Debug, Error)]
pub enum SqlError {
    /// The recordings cannot be listed.
    #[error("failed to read `{path}`")]
    Runs {
        /// Their folder.
        path: Utf8PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Something else is in its place.
    #[error("`{path}` is not a file")]
    NoFile {
        /// The path.
        path: Utf8PathBuf,
    },
    /// It has the tables of something else.
    #[error("`{path}` is a database of another program")]
    Foreign {
        /// The file.
        path: Utf8PathBuf,
    },
    /// It is damaged, or no database.
    #[error("`{path}` is damaged, or no database: {reason}")]
    Damaged {
        /// The file.
        path: Utf8PathBuf,
        /// The words of SQLite.
        reason: String,
    },
    /// Another program uses it.
    #[error("`{path}` is in use by another program")]
    Busy {
        /// The file.
        path: Utf8PathBuf,
    },
    /// It cannot be written.
    #[error("failed to write `{path}`: {reason}")]
    Write {
        /// The file.
        path: Utf8PathBuf,
        /// The words of SQLite.
        reason: String,
    },
    /// The query makes no sense.
    #[error("the query is not understood: {reason}")]
    Query {
        /// The words of SQLite.
        reason: String,
    },
}

/// The changes of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// The file.
    pub path: Utf8PathBuf,
    /// The runs that were added.
    pub added: usize,
    /// The runs that are gone.
    pub removed: usize,
    /// The runs that cannot be read.
    pub unreadable: usize,
    /// The version of the schema that it had, if that was another one. Then it was made anew.
    pub was_version: Option<i32>,
}

/// Returns the path of the database in a store.
pub fn database(store: &Utf8Path) -> Utf8PathBuf {
    store.join(FILE)
}

/// Brings a database up to date with the runs in a store. It is made if it is not there.
///
/// # Errors
///
/// When it cannot be read or written, or is something else.
pub fn update(store: &Utf8Path, path: &Utf8Path) -> Result<Update, SqlError> {
    let mut kept = runs(store).map_err(|source| SqlError::Runs {
        path: super::folder(store),
        source,
    })?;
    kept.retain(|run| !run.in_progress());
    // The oldest one is first.
    kept.reverse();
    let said = said(path);
    let path = &resolved(path);
    match path.symlink_metadata() {
        Ok(metadata) if !metadata.is_file() => {
            let path = path.clone();
            return Err(SqlError::NoFile { path });
        }
        _ => {}
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(&said)?;
    connection.busy_timeout(BUSY).map_err(&said)?;
    let was_version = prepare(&mut connection, path)?;
    let mut update = Update {
        path: path.clone(),
        was_version,
        ..Update::default()
    };
    fill_in(&mut connection, &kept, &mut update).map_err(said)?;
    Ok(update)
}

/// Returns a function that says what SQLite says.
fn said(path: &Utf8Path) -> impl Fn(rusqlite::Error) -> SqlError {
    let path = path.to_owned();
    move |error| {
        let path = path.clone();
        let reason = match &error {
            rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
            error => error.to_string(),
        };
        // The path is said already, as it was given.
        let reason = match reason.split_once(": ") {
            Some((reason, named)) if named.ends_with(path.file_name().unwrap_or(named)) => {
                reason.to_owned()
            }
            _ => reason,
        };
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => SqlError::Busy { path },
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                SqlError::Damaged { path, reason }
            }
            _ => SqlError::Write { path, reason },
        }
    }
}

/// Returns a path whose folder is without links: SQLite follows none.
fn resolved(path: &Utf8Path) -> Utf8PathBuf {
    let folder = path.parent().and_then(|it| it.canonicalize_utf8().ok());
    match (folder, path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// Makes the tables. Returns the version that they had, if that was another one.
fn prepare(connection: &mut Connection, path: &Utf8Path) -> Result<Option<i32>, SqlError> {
    let said = said(path);
    let number = |connection: &Connection, name: &str| {
        connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0))
    };
    let empty = number(connection, "schema_version").map_err(&said)? == 0;
    let application = number(connection, "application_id").map_err(&said)?;
    if !empty && application != APPLICATION {
        let path = path.to_owned();
        return Err(SqlError::Foreign { path });
    }
    let version = number(connection, "user_version").map_err(&said)?;
    if version != SQL_SCHEMA_VERSION {
        make(connection).map_err(&said)?;
    }
    let on = connection.pragma_update(None, "foreign_keys", true);
    on.map_err(said)?;
    Ok((!empty && version != SQL_SCHEMA_VERSION).then_some(version))
}

/// Makes the tables in the place of those that are there.
fn make(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    drop_all(&transaction)?;
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", SQL_SCHEMA_VERSION)?;
    transaction.commit()
}

/// Drops all tables and views, which may be those of another version.
fn drop_all(connection: &Connection) -> rusqlite::Result<()> {
    let query = "SELECT type, name FROM sqlite_schema \
                 WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY rowid DESC";
    let mut statement = connection.prepare(query)?;
    let names = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let names: Vec<(String, String)> = names.collect::<Result<_, _>>()?;
    for (kind, name) in names {
        let name = name.replace('"', "\"\"");
        connection.execute_batch(&format!("DROP {kind} \"{name}\""))?;
    }
    Ok(())
}

/// Adds what is missing, and deletes what is no longer kept.
fn fill_in(
    connection: &mut Connection,
    kept: &[PastRun],
    update: &mut Update,
) -> rusqlite::Result<()> {
    let known: BTreeSet<String> = {
        let mut known = connection.prepare("SELECT run_id FROM runs")?;
        let ids = known.query_map([], |row| row.get(0))?;
        ids.collect::<Result<_, _>>()?
    };
    let id = |run: &PastRun| run.header.run_id.to_string();
    let ids: BTreeSet<String> = kept.iter().map(id).collect();
    let gone: Vec<&String> = known.difference(&ids).collect();
    let new: Vec<&PastRun> = kept
        .iter()
        .filter(|run| !known.contains(&id(run)))
        .collect();
    if !gone.is_empty() {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for id in gone {
            update.removed += transaction.execute("DELETE FROM runs WHERE run_id = ?1", [id])?;
        }
        transaction.execute_batch(SWEEP)?;
        transaction.commit()?;
    }
    for batch in new.chunks(BATCH) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for run in batch {
            let already = transaction
                .prepare("SELECT 1 FROM runs WHERE run_id = ?1")?
                .exists(params![id(run)])?;
            // Another process is doing the same.
            if !already {
                match fill::add(&transaction, run)? {
                    true => update.added += 1,
                    false => update.unreadable += 1,
                }
            }
        }
        transaction.commit()?;
    }
    Ok(())
}

/// Deletes a database with what SQLite has beside it, so that it is made anew.
///
/// # Errors
///
/// When it cannot be deleted.
pub fn forget(path: &Utf8Path) -> io::Result<()> {
    let beside = Utf8PathBuf::from(format!("{path}-journal"));
    match fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::remove_file(path)
}

#[cfg(test)]
mod tests;
