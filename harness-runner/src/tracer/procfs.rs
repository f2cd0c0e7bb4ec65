//! Reads files of proc(5).

use std::{
    fs::File,
    io::{self, Read},
};

/// As much as nearly all of them have.
const ROOM: usize = 8 * 1024;

/// Reads a whole file. It has no size that could be asked for, so there is room from the beginning.
pub(crate) fn read(path: &str) -> io::Result<Vec<u8>> {
    read_all(File::open(path)?)
}

/// As [`read`], for a file that is open.
pub(crate) fn read_all(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(ROOM);
    // A file alone would be asked for its size all the same.
    file.take(u64::MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns the value of a field of proc_pid_status(5), which is named with its colon.
pub(crate) fn field<'a>(status: &'a [u8], name: &str) -> Option<&'a str> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(name.as_bytes()))?;
    Some(str::from_utf8(value).ok()?.trim())
}
