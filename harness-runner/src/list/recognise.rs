//! Tells the standard test harness from others by what is in the binary.
//!
//! The manifest alone cannot: a crate with `#![test_runner]` has `harness = true`. Neither can the
//! list, which other harnesses print in the same form. The text of libtest's own error messages is
//! in a binary that has libtest's `main`, stripped or not, and lies near the start of the file.

use camino::Utf8Path;
use memchr::memmem::Finder;
use std::{
    fs::File,
    io::{self, Read},
};

/// Parts of two messages of libtest, in all releases since Rust 1.18. libtest-mimic, which imitates
/// the help text, has neither.
const MESSAGES: [&[u8]; 2] = [
    b"RUST_TEST_THREADS is `",
    b"argument for --test-threads must not be 0",
];

/// The number of bytes to read at once.
const CHUNK: usize = 256 * 1024;

/// Returns true if a binary has the standard test harness. If it cannot be read it has not.
pub(super) fn is_libtest(path: &Utf8Path) -> bool {
    File::open(path).is_ok_and(|file| contains_all(file, &MESSAGES).unwrap_or(false))
}

/// Reads until all texts have been found.
fn contains_all(mut file: impl Read, texts: &[&[u8]]) -> io::Result<bool> {
    let mut missing: Vec<_> = texts.iter().map(|text| Finder::new(*text)).collect();
    let overlap = texts.iter().map(|text| text.len()).max().unwrap_or(1) - 1;
    let mut buffer = vec![0; CHUNK];
    let mut kept = 0;
    while !missing.is_empty() {
        let read = match file.read(&mut buffer[kept..]) {
            Ok(0) => return Ok(false),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let filled = kept + read;
        missing.retain(|text| text.find(&buffer[..filled]).is_none());
        // The start of a text may be at the end of what was read.
        kept = filled.min(overlap);
        buffer.copy_within(filled - kept..filled, 0);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a few bytes at a time.
    struct Dripping<'a>(&'a [u8], usize);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = self.1.min(buffer.len());
            self.0.read(&mut buffer[..len])
        }
    }

    #[test]
    fn this_test_binary_has_the_standard_harness_and_a_shell_has_not() {
        let own = std::env::current_exe().unwrap();
        assert!(is_libtest(Utf8Path::from_path(&own).unwrap()));
        assert!(!is_libtest(Utf8Path::new("/bin/sh")));
        assert!(!is_libtest(Utf8Path::new("/missing")));
    }

    proptest! {
        #[test]
        fn a_text_is_found_wherever_it_lies(
            before in prop::collection::vec(any::<u8>(), 0..300),
            between in prop::collection::vec(any::<u8>(), 0..300),
            step in 1usize..50,
            missing in any::<bool>(),
        ) {
            // The last byte is missing, and what follows is another one: a first byte may stand in `between`.
            let second = &MESSAGES[1][..MESSAGES[1].len() - usize::from(missing)];
            let bytes = [&before[..], MESSAGES[0], &between, second, b"\n"].concat();
            let found = contains_all(Dripping(&bytes, step), &MESSAGES).unwrap();
            prop_assert_eq!(found, !missing);
        }
    }
}
