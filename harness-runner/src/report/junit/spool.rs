//! Rendered test cases on disk until the report is put together.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::{FileExt, PermissionsExt},
};

/// The name of the test case that holds the place of a suite's cases.
pub(super) const MARK: &str = "@cases";
/// How that test case is rendered. Not in any other text, where `<` is escaped.
pub(super) const PLACE: &str = "        <testcase name=\"@cases\"/>\n";

/// A place in the spool.
#[derive(Copy, Clone, Debug)]
pub(super) struct Part {
    offset: u64,
    length: u64,
}

/// A file without a name that holds rendered test cases.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    end: u64,
}

impl Spool {
    pub(super) fn new(file: File) -> Self {
        Self { file, end: 0 }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<Part> {
        self.file.write_all_at(bytes, self.end)?;
        let part = Part {
            offset: self.end,
            length: bytes.len() as u64,
        };
        self.end += part.length;
        Ok(part)
    }

    pub(super) fn copy(&self, part: Part, writer: &mut impl Write) -> io::Result<()> {
        let mut buffer = vec![0; part.length.min(64 * 1024) as usize];
        let (mut at, end) = (part.offset, part.offset + part.length);
        while at < end {
            let room = buffer.len().min((end - at) as usize);
            let read = self.file.read_at(&mut buffer[..room], at)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            writer.write_all(&buffer[..read])?;
            at += read as u64;
        }
        Ok(())
    }
}

/// Returns what a report of one suite has inside that suite.
pub(super) fn inside_suite(report: &str) -> &str {
    let from = report.find("        <testcase").unwrap_or(report.len());
    let to = report.rfind("    </testsuite>").unwrap_or(report.len());
    report.get(from..to).unwrap_or_default()
}

/// Leaves out the attribute that strict schemas do not know at the root.
pub(super) fn without_skipped_total(report: &str) -> String {
    let Some(root) = report.find("<testsuites") else {
        return report.to_owned();
    };
    let Some(from) = report[root..].find(" skipped=\"").map(|at| root + at) else {
        return report.to_owned();
    };
    let Some(length) = report[from + 10..].find('"') else {
        return report.to_owned();
    };
    format!("{}{}", &report[..from], &report[from + 10 + length + 1..])
}

/// Gives a temporary file, private at first, the mode of an ordinary one: reports are read by
/// others.
pub(super) fn readable_by_all(file: &File) -> io::Result<()> {
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}
