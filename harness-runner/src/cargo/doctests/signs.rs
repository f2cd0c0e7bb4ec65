//! Words and variables by which this program knows in which role it was started.

/// The first argument of the process of a test.
pub(super) const ARGUMENT: &str = "__doctest";
/// Then: the test passed when it was compiled.
pub(super) const PASSED: &str = "passed";
/// Then, and the file of the compiler's messages: the test failed when it was compiled.
pub(super) const FAILED: &str = "failed";
/// Then, and a command: the command has to fail.
pub(super) const HAS_TO_FAIL: &str = "has-to-fail";

/// The folder of the records, when cargo takes this program for rustdoc.
pub(super) const RECORDS: &str = "__CARGO_HARNESS_RUSTDOC_CALLS";
/// The real rustdoc, meanwhile.
pub(super) const RUSTDOC: &str = "__CARGO_HARNESS_RUSTDOC";
/// The real rustc, when rustdoc takes this program for rustc.
pub(super) const RUSTC: &str = "__CARGO_HARNESS_RUSTC";
/// The user's value of [`BOOTSTRAP`], meanwhile.
pub(super) const OWN_BOOTSTRAP: &str = "__CARGO_HARNESS_RUSTC_BOOTSTRAP";
/// The folders of tests that are compiled only, with slashes between them, meanwhile.
pub(super) const NOT_LINKED: &str = "__CARGO_HARNESS_NOT_LINKED";
/// The folder for what rustc says of the files that it has read, meanwhile.
pub(super) const SAID: &str = "__CARGO_HARNESS_RUSTC_SAID";
/// The extension of a file that stands for a call of rustc of which not everything is known.
pub(super) const OPEN: &str = "open";
/// The variable that unlocks unstable options.
pub(super) const BOOTSTRAP: &str = "RUSTC_BOOTSTRAP";

/// The name of each program that rustdoc leaves.
pub(super) const PROGRAM: &str = "rust_out";

/// The option that unlocks others.
pub(super) const UNLOCK: &str = "-Zunstable-options";
