//! Finds out whether a program may meet the tracer: whether it needs the symbol `ptrace`, or has the name
//! of the line of proc_pid_status(5) that says who traces it.
//!
//! Without a filter, a program that does is stopped at each of its calls. A program that calls by
//! number, or that gets the name from elsewhere, is not noticed.

use crate::{
    proc,
    sys::{self, Identity, Tgid},
};
use harness_metadata::trace::FileId;
use std::{cell::RefCell, collections::HashMap, ffi::CString, fs::File, os::unix::fs::FileExt};

/// The symbol, as it stands in a table of strings.
const SYMBOL: &[u8] = b"\0ptrace\0";

/// The number of remembered programs.
const PROGRAMS: usize = 256;

/// Most bytes of a table.
const TABLE: u64 = 16 * 1024 * 1024;

/// The texts that a program looks for to find its tracer.
const LINE: &[u8] = b"TracerPid";

/// Kinds and flags of sections (elf(5)).
const SHT_PROGBITS: u64 = 1;
const SHF_ALLOC: u64 = 2;
const SHF_WRITE_OR_EXECUTE: u64 = 1 | 4;
const SHT_SYMTAB: u64 = 2;
const SHT_DYNSYM: u64 = 11;

thread_local! {
    static KNOWN: RefCell<HashMap<FileId, (Identity, bool)>> = RefCell::default();
}

/// Returns whether the program that a process has executed may meet its tracer.
pub(super) fn may_meet_tracer(process: Tgid) -> bool {
    let Ok(name) = CString::new(proc::path(process, "exe")) else {
        return false;
    };
    let Ok((looked, identity)) = sys::look_closely(&name) else {
        return false;
    };
    KNOWN.with_borrow_mut(|known| {
        if let Some((of, may)) = known.get(&looked.file)
            && *of == identity
        {
            return *may;
        }
        if known.len() >= PROGRAMS {
            known.clear();
        }
        let file = File::open(proc::path(process, "exe")).ok();
        let may = file.is_some_and(|file| meets_tracer(&file).unwrap_or(false));
        known.insert(looked.file, (identity, may));
        may
    })
}

/// Returns whether an ELF file names `ptrace` in a table of symbols, or has the other name among its
/// constants. Of one that needs libraries the table is that of the symbols that it needs or offers; one
/// that needs none may have been stripped of its table.
fn meets_tracer(file: &File) -> Option<bool> {
    let sections = Sections::read(file)?;
    let symbols = sections
        .of_kind(SHT_DYNSYM)
        .or_else(|| sections.of_kind(SHT_SYMTAB));
    let strings = symbols.and_then(|symbols| {
        let strings = number(symbols, 40, 4)?;
        sections.all().nth(usize::try_from(strings).ok()?)
    });
    let has = |section: &[u8], text| {
        let content = sections.content(section).unwrap_or_default();
        memchr::memmem::find(&content, text).is_some()
    };
    let is_constant = |section: &&[u8]| {
        let flags = number(section, 8, 8).unwrap_or(0);
        number(section, 4, 4) == Some(SHT_PROGBITS)
            && flags & SHF_ALLOC != 0
            && flags & SHF_WRITE_OR_EXECUTE == 0
    };
    let mut constants = sections.all().filter(is_constant);
    Some(
        strings.is_some_and(|strings| has(strings, SYMBOL))
            || constants.any(|section| has(section, LINE)),
    )
}

/// The headers of an ELF file's sections.
struct Sections<'a> {
    file: &'a File,
    headers: Vec<u8>,
}

impl<'a> Sections<'a> {
    const HEADER: usize = 64;

    /// Reads them of a file with 64 bits of the lower byte order: what this tracer runs on.
    fn read(file: &'a File) -> Option<Self> {
        let mut head = [0; 64];
        file.read_exact_at(&mut head, 0).ok()?;
        let size = number(&head, 58, 2)?;
        if !head.starts_with(b"\x7fELF\x02\x01") || size != Self::HEADER as u64 {
            return None;
        }
        let count = number(&head, 60, 2)?;
        let mut headers = vec![0; usize::try_from(size * count).ok()?];
        file.read_exact_at(&mut headers, number(&head, 40, 8)?)
            .ok()?;
        Some(Self { file, headers })
    }

    fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.headers.chunks_exact(Self::HEADER)
    }

    fn of_kind(&self, kind: u64) -> Option<&[u8]> {
        self.all().find(|header| number(header, 4, 4) == Some(kind))
    }

    fn content(&self, header: &[u8]) -> Option<Vec<u8>> {
        let (offset, length) = (number(header, 24, 8)?, number(header, 32, 8)?);
        let mut content = vec![0; usize::try_from(length.min(TABLE)).ok()?];
        self.file.read_exact_at(&mut content, offset).ok()?;
        Some(content)
    }
}

/// Reads a number of the lower byte order.
fn number(bytes: &[u8], offset: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(offset..offset + length)?;
    Some(
        bytes
            .iter()
            .rfold(0, |number, byte| number << 8 | u64::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_traces_is_told_from_one_that_does_not() {
        // This test's own program has a tracer in it.
        let own = File::open("/proc/self/exe").unwrap();
        assert_eq!(meets_tracer(&own), Some(true));
        assert!(may_meet_tracer(Tgid::new(std::process::id().cast_signed())));
        for harmless in ["/bin/sh", "/bin/true"] {
            if let Ok(file) = File::open(harmless) {
                assert_ne!(meets_tracer(&file), Some(true), "{harmless}");
            }
        }
        let script = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(script.path(), "#!/bin/sh\n# ptrace\n".repeat(8)).unwrap();
        assert_eq!(meets_tracer(script.as_file()), None);
    }
}
