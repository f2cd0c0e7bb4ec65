//! Reads `.config/harness.toml` and answers which settings a test runs under.

pub mod settings;
