//! A part of a file.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
};

/// A part of a file as a reader.
pub(super) struct Section<'a> {
    pub(super) file: &'a File,
    pub(super) offset: u64,
    pub(super) left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.file.read_at(&mut buffer[..len], self.offset)?;
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}
