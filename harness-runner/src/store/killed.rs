//! Runs whose runner was killed: what the next one says of them, once.

use super::{Claim, Extent, LOCK, PastRun, folder, packing};
use crate::own_files;
use camino::{Utf8Path, Utf8PathBuf};
use std::{fmt, fs, io::Read};

/// As much of a report is read to tell whose it is.
const BEGINNING: u64 = 4 * 1024;

/// A lock says no more than this.
const LONGEST_CLAIM: u64 = 64 * 1024;

/// Tests that are named.
const NAMED: usize = 3;

/// A run whose runner was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Killed {
    /// The run.
    pub run: PastRun,
    /// The extent of its recording.
    pub extent: Extent,
    /// The path of its JUnit report; `None` if it has none by now.
    pub junit: Option<Utf8PathBuf>,
}

/// Returns the runs whose runner was killed, the latest first. Each is returned to one caller only,
/// and only once.
pub fn take_killed(target: &Utf8Path) -> Vec<Killed> {
    let Ok(entries) = folder(target).read_dir_utf8() else {
        return Vec::new();
    };
    let folders = entries.flatten().map(|entry| entry.into_path());
    let mut killed: Vec<Killed> = folders.filter_map(|folder| take(&folder)).collect();
    killed.sort_by_key(|killed| std::cmp::Reverse(killed.run.header.started_at));
    killed
}

fn take(folder: &Utf8Path) -> Option<Killed> {
    let path = folder.join(LOCK);
    let lock = own_files::open(&path).ok()?;
    // A run without a beginning may be about to get one.
    let run = PastRun::open(folder)?;
    lock.try_lock().ok()?;
    // Of several who look at the same time one removes it; the owner may have done so by now.
    fs::remove_file(&path).ok()?;
    let mut claim = String::new();
    let _ = lock.take(LONGEST_CLAIM).read_to_string(&mut claim);
    let packed = packing::pack_one(folder).ok();
    let run = packed.and_then(|pack| PastRun::open(&pack)).unwrap_or(run);
    let claim: Claim = serde_json::from_str(&claim).unwrap_or_default();
    let id = run.header.run_id.to_string();
    Some(Killed {
        extent: run.extent().unwrap_or_default(),
        junit: claim.junit.filter(|path| is_of(path, &id)),
        run,
    })
}

/// Returns whether this is a report of that run, and not of a later one.
fn is_of(path: &Utf8Path, run_id: &str) -> bool {
    let mut beginning = Vec::new();
    // The report may have been written through a link.
    let opened = path.canonicalize().and_then(own_files::open);
    let read = opened.and_then(|file| file.take(BEGINNING).read_to_end(&mut beginning));
    read.is_ok() && String::from_utf8_lossy(&beginning).contains(run_id)
}

/// A sentence about it.
impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, extent, junit } = self;
        let id = run.header.run_id.to_string();
        let started = run.header.started_at.format("%Y-%m-%d %H:%M:%S");
        let (known, tests) = (extent.known, run.header.tests);
        write!(
            f,
            "the runner of run {} of {started} was killed: {known} of {tests} results are known",
            id.get(..8).unwrap_or(&id),
        )?;
        let running = &extent.running;
        if !running.is_empty() {
            let names = running.iter().take(NAMED);
            let names: Vec<_> = names.map(|test| format!("`{test}`")).collect();
            write!(f, ", running were {}", names.join(", "))?;
            if running.len() > NAMED {
                write!(f, " and {} more", running.len() - NAMED)?;
            }
        }
        write!(f, "; its recording is `{}`", run.recording())?;
        match junit {
            Some(junit) => write!(f, ", its JUnit report `{junit}`"),
            None => Ok(()),
        }
    }
}
