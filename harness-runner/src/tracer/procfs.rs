//! Reads files of proc(5).

use std::{
    fs::File,
    io::{self, Read},
};

/// As much as nearly all of them have.
const ROOM: usize = 8 * 1024;

/// Reads a whole file. It has no size that could be asked for, so there is room from the beginning.
pub(crate) fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(ROOM);
    // A file alone would be asked for its size all the same.
    File::open(path)?.take(u64::MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
