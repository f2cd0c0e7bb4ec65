//! Builds, lists, plans, runs and reports the tests of a Cargo workspace, one process per test,
//! every process under a tracer.
//!
//! Modules import one way, in this order: `sys`; then `proc`, `own_files`, `policy`; then `filter`, `report`, `protocol`,
//! `tracer`, `keys`, `functions`; then `stub`, `config`, `cargo`, `store`, `cache`, `changes`; then `trace`, `archive`,
//! `history`, `answers`, `reuse`, `inputs`; then `list`, `plan`, `run`, and `session` last, the only one that knows everybody.
//!
//! The tracer can be used by itself, too: see [its module](trace).

#![cfg_attr(
    test,
    allow(
        clippy::too_many_lines,
        reason = "a test is read from top to bottom, and may be a table"
    )
)]

pub mod answers;
pub mod archive;
mod cache;
pub mod cargo;
pub mod changes;
pub mod config;
pub mod filter;
pub mod functions;
pub mod history;
pub mod inputs;
pub mod keys;
pub mod list;
pub mod own_files;
pub mod plan;
pub mod policy;
mod proc;
pub mod protocol;
pub mod report;
pub mod reuse;
pub mod run;
pub mod session;
pub mod store;
pub mod stub;
mod sys;
pub mod trace;
pub mod tracer;
