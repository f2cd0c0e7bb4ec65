//! Finds out whether memory of a process would have to be served by a process (userfaultfd(2)).
//!
//! A page that is registered and not there is made by the handler of its faults. To read it from
//! outside waits for that, which may be a task that is stopped for us, or may never come.

use crate::{proc, sys::Tgid};
use std::{fs::File, os::unix::fs::FileExt};

/// The smallest page.
const PAGE: u64 = 4096;
/// The bit of an entry of proc_pid_pagemap(5) of a page that is in memory, and of one that is swapped
/// out.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;

/// Returns whether to read memory of a process could wait for a handler of its faults. What cannot be
/// found out could.
pub(super) fn may_wait(process: Tgid, address: u64, length: usize) -> bool {
    let Ok(smaps) = proc::read(&proc::path(process, "smaps")) else {
        return true;
    };
    let end = address.saturating_add(length as u64);
    is_registered(&smaps, address, end) && !is_present(process, address, end).unwrap_or(false)
}

/// Returns whether one of the mappings that a range touches is registered for faults of pages that are
/// missing or have not been mapped (`um` and `ui` of proc_pid_smaps(5)).
fn is_registered(smaps: &[u8], address: u64, end: u64) -> bool {
    let mut touched = false;
    for line in smaps.split(|byte| *byte == b'\n') {
        if let Some((from, to)) = range(line) {
            touched = from < end && address < to;
        } else if touched && line.starts_with(b"VmFlags:") {
            let mut flags = line.split(|byte| *byte == b' ');
            if flags.any(|flag| matches!(flag, b"um" | b"ui")) {
                return true;
            }
        }
    }
    false
}

/// Returns the range of a mapping's first line, `FROM-TO rw-p …` with hexadecimal numbers.
fn range(line: &[u8]) -> Option<(u64, u64)> {
    let end = line.iter().position(|byte| *byte == b' ')?;
    let (from, to) = str::from_utf8(&line[..end]).ok()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(from)?, number(to)?))
}

/// Returns whether all pages of a range are there.
fn is_present(process: Tgid, address: u64, end: u64) -> Option<bool> {
    let pagemap = File::open(proc::path(process, "pagemap")).ok()?;
    let page_size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    let page_size = u64::try_from(page_size).ok()?.max(PAGE);
    for page in address / page_size..end.div_ceil(page_size) {
        let mut entry = [0; 8];
        pagemap.read_exact_at(&mut entry, page * 8).ok()?;
        if u64::from_ne_bytes(entry) & (PRESENT | SWAPPED) == 0 {
            return Some(false);
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &[u8] = b"\
00001000-00003000 rw-p 00000000 00:00 0 \n\
Size:                  8 kB\n\
VmFlags: rd wr mr mw me ac sd \n\
00003000-00005000 rw-p 00000000 00:00 0 \n\
Rss:                   0 kB\n\
VmFlags: rd wr mr mw me um ac sd \n\
00007000-00008000 rw-p 00000000 00:00 0    [stack]\n\
VmFlags: rd wr ui \n";

    #[test]
    fn only_mappings_that_are_registered_for_missing_pages_may_have_to_be_served() {
        for (from, to, registered) in [
            (0x1000, 0x1010, false),
            (0x2ff0, 0x3000, false),
            (0x2ff0, 0x3001, true),
            (0x4fff, 0x5000, true),
            (0x5000, 0x7000, false),
            (0x7fff, 0x8000, true),
        ] {
            assert_eq!(is_registered(SMAPS, from, to), registered, "{from:x}");
        }
    }

    #[test]
    fn memory_that_is_there_is_read_at_once() {
        let own = Tgid::new(std::process::id().cast_signed());
        let there = [7_u8; 16];
        let address = std::ptr::from_ref(&there) as u64;
        assert!(!may_wait(own, address, there.len()));
        assert_eq!(is_present(own, address, address + 16), Some(true));
    }
}
