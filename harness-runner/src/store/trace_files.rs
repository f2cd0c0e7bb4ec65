//! The files that traces are written to while a run goes on: few, each with many traces one after the other.
//!
//! A file a trace would cost more than its contents: the inodes that an earlier run has just given back are
//! looked through for each new one (ext4 does so for some seconds).

use super::TRACE;
use crate::own_files;
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    os::unix::fs::MetadataExt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// After this many bytes another file is begun. With its last trace it has twice as much at most.
const FULL: u64 = 64 * 1024 * 1024;

/// The position of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptTrace {
    /// The name of its file, in the run's folder or pack.
    #[serde(rename = "trace_file")]
    pub file: String,
    /// Its bytes in the file; `None` if it has the file for itself, as in recordings of version 0.1.0.
    #[serde(rename = "trace_at", default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Span>,
}

/// Bytes of a file.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The offset of the first one.
    pub start: u64,
    /// The offset after the last one.
    pub end: u64,
}

/// Makes the files of a run.
#[derive(Clone, Debug)]
pub struct TraceFiles {
    folder: Utf8PathBuf,
    last: Arc<AtomicU64>,
}

impl TraceFiles {
    /// Makes them in a folder that is there.
    pub(crate) fn new(folder: &Utf8Path) -> Self {
        Self {
            folder: folder.to_owned(),
            last: Arc::default(),
        }
    }

    /// Makes a file. Only one trace at a time may be written to it. If it cannot be made, as on a full disk, who
    /// writes a trace notices.
    pub fn create(&self) -> TraceFile {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let name = format!("{number}.{TRACE}");
        let path = self.folder.join(&name);
        let file = own_files::create(&path).ok();
        TraceFile { name, path, file }
    }
}

/// A file of traces. Who writes them opens it by its path and appends.
#[derive(Debug)]
pub struct TraceFile {
    name: String,
    path: Utf8PathBuf,
    /// `None` if it could not be made.
    file: Option<File>,
}

impl TraceFile {
    /// Returns its path.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Returns where the next trace begins; `None` if another file is to be begun for it, as this one is
    /// full or gone.
    pub fn next(&self) -> Option<u64> {
        let metadata = self.file.as_ref()?.metadata().ok()?;
        (metadata.nlink() > 0 && metadata.len() < FULL).then_some(metadata.len())
    }

    /// Returns the trace that begins there and ends where the file does; `None` if nothing was written.
    pub fn kept_since(&self, start: u64) -> Option<KeptTrace> {
        let end = self.file.as_ref()?.metadata().ok()?.len();
        let span = Span { start, end };
        (start < end).then(|| KeptTrace {
            file: self.name.clone(),
            part: Some(span),
        })
    }
}
