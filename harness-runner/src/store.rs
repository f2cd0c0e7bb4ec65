//! What is kept of runs: the traces of their attempts, in the target folder.

use camino::{Utf8Path, Utf8PathBuf};

/// Returns the folder that runs are kept in.
pub fn folder(target: &Utf8Path) -> Utf8PathBuf {
    target.join("harness").join("runs")
}
