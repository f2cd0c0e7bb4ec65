//! The file that a test appends its metrics to, one JSON object a line.
//!
//! A test that has none makes no file, and costs one look. The file is read when the attempt is over, so
//! what was recorded before a crash is kept.

use crate::{own_files, protocol::Ticket};
use harness_metadata::{Metric, Metrics, RunId};
use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

/// The variable with its path.
pub(super) const METRICS_FILE: &str = "HARNESS_METRICS_FILE";

/// The beginning of its name.
const PREFIX: &str = "harness-metrics-";

/// The most metrics of an attempt.
const MOST: usize = 10_000;
/// The most bytes that are read.
const MOST_BYTES: u64 = 8 * 1024 * 1024;

/// Returns the path for an attempt. It is among temporary files, which tests may write.
pub(super) fn path(run: &str, slot: usize, ticket: Ticket) -> PathBuf {
    env::temp_dir().join(format!("{PREFIX}{run}-{slot}.{ticket}"))
}

/// Deletes the files of a run whose runner was killed, so that it could not take them. It is enough to know its
/// id: no other run has it.
pub(crate) fn forget(run: RunId) {
    let prefix = format!("{PREFIX}{run}-");
    let Ok(entries) = fs::read_dir(env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(&prefix)) {
            // One that cannot be deleted is no worse than before.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Takes the metrics of an attempt that is over, if it may have some.
pub(super) fn of(path: Option<&Path>) -> Metrics {
    path.map(take).unwrap_or_default()
}

/// Takes the metrics of an attempt that is over. The file is gone then.
fn take(path: &Path) -> Metrics {
    let Ok(file) = own_files::open(path) else {
        // A test without metrics, or one that has made something else of it.
        return Metrics::default();
    };
    // If it cannot be deleted it stays, and no other attempt has its name.
    let _ = fs::remove_file(path);
    read(file)
}

fn read(from: impl Read) -> Metrics {
    let mut metrics = Metrics::default();
    let mut lines = BufReader::new(from.take(MOST_BYTES));
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return metrics,
            Ok(_) => {}
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<Metric>(&line) {
            Ok(metric) if metrics.found.len() < MOST => metrics.found.push(metric),
            _ => metrics.unread += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn lines_are_metrics_and_others_are_counted() {
        let text = "{\"name\":\"a\",\"value\":1}\n\nno\n{\"name\":\"b\",\"value\":\"NaN\"}\n{\"name\":\"c\"";
        let metrics = read(text.as_bytes());
        let names: Vec<&str> = metrics
            .found
            .iter()
            .map(|metric| metric.name.as_str())
            .collect();
        assert_eq!((names.as_slice(), metrics.unread), (&["a", "b"][..], 2));
        let many = "{\"name\":\"a\",\"value\":1}\n".repeat(MOST + 3);
        let metrics = read(many.as_bytes());
        assert_eq!((metrics.found.len(), metrics.unread), (MOST, 3));
    }

    #[test]
    fn the_files_of_a_killed_run_go_and_those_of_others_stay() {
        let (killed, other) = (RunId::random(), RunId::random());
        let files = [(killed, 0), (killed, 3), (other, 0)]
            .map(|(run, slot)| path(&run.to_string(), slot, 7));
        for file in &files {
            fs::write(file, "{\"name\":\"a\",\"value\":1}\n").expect("it is written");
        }
        forget(killed);
        let there = files.each_ref().map(|file| file.exists());
        forget(other);
        assert_eq!(there, [false, false, true]);
        assert!(!files[2].exists());
    }

    #[test]
    fn the_file_is_read_once_and_a_link_or_a_pipe_is_none() {
        let folder = tempfile::tempdir().expect("it is made");
        let path = folder.path().join("metrics");
        assert!(take(&path).is_empty());
        fs::write(&path, "{\"name\":\"a\",\"value\":1}\n").expect("it is written");
        assert_eq!(take(&path).found.len(), 1);
        assert!(take(&path).is_empty() && !path.exists());
        let other = folder.path().join("other");
        fs::write(&other, "{\"name\":\"a\",\"value\":1}\n").expect("it is written");
        symlink(&other, &path).expect("it is made");
        assert!(take(&path).is_empty());
    }
}
