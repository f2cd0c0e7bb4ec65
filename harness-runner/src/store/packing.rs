//! Packs the runs that have ended: one compressed file in the place of a folder.
//!
//! A run packs itself when it ends, unless that would keep its user waiting. What is left, of a runner
//! that was killed above all, is packed by the next run, beside its tests, and by the commands that
//! read recordings. The pack is written under another name, synced and renamed before the folder goes,
//! so there is no moment without the one or the other.

use super::{
    CHAIN, LOCK, LONGEST_CHAIN, LONGEST_PRESENTATION, OUTPUT, OUTPUT_LIMIT, PRESENTATION, PastRun,
    RECORDING, TRACE, TRACED,
    files::PACKED,
    folder, in_progress,
    pack::{Cut, Facts, Pack, Writer},
    recording::{self, LONGEST, LONGEST_LINE},
    retention::DELETED,
    traced,
    worth::Ending,
};
use crate::own_files::{self, Beside};
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    fs::{self, File},
    io::{self, BufReader},
};

/// A run with more than this is packed by a later command, so that no user waits more than some ten
/// milliseconds for the prompt: zstd takes about 1 ms for 2 MiB of it.
const AT_ONCE: u64 = 8 * 1024 * 1024;

/// A file of traces has less.
const LONGEST_TRACES: u64 = 128 * 1024 * 1024;

/// The ending of the names of files that are written.
const NEW: &str = ".new";

/// A file of a run.
struct Part {
    name: String,
    path: Utf8PathBuf,
    bytes: u64,
    longest: u64,
}

/// Returns the path of the pack of the run in a folder.
pub(super) fn pack_of(folder: &Utf8Path) -> Utf8PathBuf {
    folder.with_extension(PACKED)
}

/// Packs a run that ends in this process, unless it is a large one.
pub(super) fn at_the_end(folder: &Utf8Path) -> io::Result<()> {
    let parts = parts(folder)?;
    let bytes: u64 = parts.iter().map(|part| part.bytes).sum();
    match bytes > AT_ONCE {
        true => Ok(()),
        false => pack(folder, parts).map(drop),
    }
}

/// Packs what has ended and is not packed yet. A run whose runner was killed is left until that has been
/// said.
pub fn pack_all(target: &Utf8Path) {
    let entries = folder(target).read_dir_utf8();
    for entry in entries.into_iter().flatten().flatten() {
        let path = entry.into_path();
        let is_run = path.extension().is_none() && path.is_dir();
        // Looked for before the lock: see `pack_one`. What is left beside a pack is removed.
        let begun = is_run && (path.join(RECORDING).exists() || pack_of(&path).exists());
        if begun && !path.join(LOCK).exists() {
            // A folder that cannot be packed is read as it is.
            let _ = pack_one(&path);
        }
    }
}

/// Packs the run in a folder, if it has ended. Returns its pack.
pub(super) fn pack_one(folder: &Utf8Path) -> io::Result<Utf8PathBuf> {
    // A run has its lock before its recording: what has a recording, and then no lock, has ended.
    let begun = folder.join(RECORDING).exists();
    if in_progress(folder) {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    let packed = pack_of(folder);
    let is_whole = |pack: Pack| pack.damage().is_none() && pack.facts().is_some();
    if Pack::open(&packed).is_ok_and(is_whole) {
        // Its packer was killed before the folder was deleted.
        return match remove(folder) {
            Err(_) if folder.exists() => Err(io::ErrorKind::ResourceBusy.into()),
            _ => Ok(packed),
        };
    }
    if !begun && folder.exists() {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    match parts(folder) {
        // As in `pack`.
        Err(_) if !folder.exists() && PastRun::open(&packed).is_some() => Ok(packed),
        parts => pack(folder, parts?),
    }
}

/// Returns the files that are packed: the recording first.
fn parts(folder: &Utf8Path) -> io::Result<Vec<Part>> {
    let mut parts = Vec::new();
    for entry in folder.read_dir_utf8()? {
        let path = entry?.into_path();
        let name = path.file_name().unwrap_or_default().to_owned();
        let longest = match name.as_str() {
            RECORDING => LONGEST,
            CHAIN => LONGEST_CHAIN,
            PRESENTATION => LONGEST_PRESENTATION,
            TRACED => traced::LONGEST,
            // The limit is looked at before an output, not within.
            OUTPUT => 2 * OUTPUT_LIMIT,
            name if !name.starts_with('.') && path.extension() == Some(TRACE) => LONGEST_TRACES,
            _ => continue,
        };
        let metadata = path.symlink_metadata()?;
        let bytes = metadata.len();
        if !metadata.is_file() || bytes > longest {
            let text = format!("`{path}` is not of our making");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        parts.push(Part {
            name,
            path,
            bytes,
            longest,
        });
    }
    let number = |part: &Part| {
        let stem = part.path.file_stem()?;
        stem.parse::<u64>().ok()
    };
    parts.sort_by_key(|part| (part.name != RECORDING, number(part), part.name.clone()));
    Ok(parts)
}

/// Packs the files of a run, and removes their folder.
fn pack(folder: &Utf8Path, parts: Vec<Part>) -> io::Result<Utf8PathBuf> {
    let packed = pack_of(folder);
    let done = write(folder, &parts, &packed).and_then(|()| remove(folder));
    match done {
        // Another process has done the same.
        Err(_) if !folder.exists() && PastRun::open(&packed).is_some() => Ok(packed),
        done => done.map(|()| packed),
    }
}

/// Writes a pack and gives it its name.
fn write(folder: &Utf8Path, parts: &[Part], packed: &Utf8Path) -> io::Result<()> {
    own_files::sweep(packed, NEW);
    let new = Beside::new(packed, NEW)?;
    write_to(&new.file, folder, parts)?;
    new.file.sync_all()?;
    new.replace(packed)?;
    Ok(())
}

/// Writes the pack of a run that has ended to a file, and leaves its folder as it is.
pub(super) fn copy_to(file: &File, folder: &Utf8Path) -> io::Result<()> {
    write_to(file, folder, &parts(folder)?)
}

fn write_to(file: &File, folder: &Utf8Path, parts: &[Part]) -> io::Result<()> {
    let mut writer = Writer::new(io::BufWriter::new(file))?;
    let mut unpacked = 0;
    for part in parts {
        let cut = match part.name.as_str() {
            RECORDING => Cut::Lines,
            _ => Cut::Anywhere,
        };
        let file = own_files::open(&part.path)?;
        let limited = io::Read::take(file, part.longest);
        let mut file = BufReader::new(limited);
        unpacked += writer.add(&part.name, &mut file, cut, LONGEST_LINE)?;
    }
    let facts = facts(folder, unpacked).ok_or(io::ErrorKind::InvalidData)?;
    writer.finish(&facts).map(drop)
}

/// Returns the facts about a run in its folder.
fn facts(folder: &Utf8Path, unpacked: u64) -> Option<Facts> {
    let run = PastRun::open(folder)?;
    let began = recording::first(&run.recording())?;
    Some(Facts {
        schema_version: began.schema_version,
        profile: began.profile,
        command_line: began.command_line,
        trace: began.trace.level,
        partial: began.partial,
        ending: Ending::of(&run),
        header: run.header,
        unpacked,
        imported: false,
    })
}

/// Deletes a folder. The rename makes it visible as a whole.
fn remove(folder: &Utf8Path) -> io::Result<()> {
    let deleted = folder.with_extension(DELETED);
    fs::rename(folder, &deleted)?;
    fs::remove_dir_all(&deleted)
}

#[cfg(test)]
pub(super) mod tests;
