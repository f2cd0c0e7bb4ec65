//! Exit codes of `cargo harness`. They are the peer's, so that scripts need no change, but for a run
//! that did not come to its end: the peer's is that of a failed test.

/// Everything asked for was done; every test that ran passed.
pub const OK: i32 = 0;
/// An unexpected internal error.
pub const INTERNAL: i32 = 1;
/// The command line could not be understood.
pub const USAGE: i32 = 2;
/// No test was selected, and `--no-tests` does not allow that; or no trace of it is kept.
pub const NO_TESTS: i32 = 4;
/// Every test that ran passed, and tests of a rerun's chain are still outstanding.
pub const OUTSTANDING: i32 = 5;
/// The double-spawn stub could not start; seen by the runner only.
pub const DOUBLE_SPAWN: i32 = 70;
/// A newer version is recommended; of `show-config version` only.
pub const RECOMMENDED_VERSION: i32 = 10;
/// The workspace requires a newer version.
pub const REQUIRED_VERSION: i32 = 92;
/// A filterset is invalid.
pub const INVALID_FILTERSET: i32 = 94;
/// The configuration, a profile or an argument is wrong.
pub const SETUP: i32 = 96;
/// A test failed or timed out.
pub const TEST_RUN_FAILED: i32 = 100;
/// `cargo test --no-run` failed.
pub const BUILD_FAILED: i32 = 101;
/// `cargo metadata` failed.
pub const METADATA_FAILED: i32 = 102;
/// An archive could not be written.
pub const ARCHIVE_FAILED: i32 = 103;
/// A test binary could not be listed.
pub const LIST_FAILED: i32 = 104;
/// A setup script failed, or its teardown did and nothing worse happened.
pub const SETUP_SCRIPT_FAILED: i32 = 105;
/// Results could not be written.
pub const WRITE_FAILED: i32 = 110;
/// The run as a whole ran out of time (`global-timeout`). As timeout(1) has it.
pub const GLOBAL_TIMEOUT: i32 = 124;

/// Returns the code of a run that was ended by a signal. As a shell has it: 130 for SIGINT.
pub const fn ended_by(signal: i32) -> i32 {
    128 + signal
}
