//! The functions of an executable, and what they depend on.
//!
//! A changed line relinks a whole test binary, and changes a few functions of it. A [`Map`] has a digest for each
//! function of the workspace: of its instructions, of the data that they refer to, and of all code of other origin
//! that it can reach. Neither a place in the executable nor the order of things counts. Two maps tell which functions
//! differ.
//!
//! - `image` reads the file, `code` its instructions, `parts` makes the pieces and finds the bounds of data;
//! - `graph` digests what refers to each other in circles;
//! - `map` is the answer, `compare` tells two apart, `table` reads the table of tests that libtest's `main` has;
//! - `unwind` says where calls lead when they unwind;
//! - `sources` finds the source files of functions, which no digest depends on.
//!
//! What is not understood is part of some digest as it is. So it makes a function look changed, and never the same.

mod code;
mod compare;
mod graph;
mod image;
mod map;
mod names;
mod parts;
mod sources;
mod table;
mod unwind;

pub use compare::Comparison;
pub use image::NoMap;
pub use map::{Difference, Function, Map, Patch};
pub use names::shown;
pub use sources::source_files;

/// Returns a digest of 16 bytes.
fn hash(bytes: &[u8]) -> u128 {
    let digest = blake3::hash(bytes);
    let (half, _) = digest
        .as_bytes()
        .split_first_chunk::<16>()
        .expect("it has 32");
    u128::from_le_bytes(*half)
}
