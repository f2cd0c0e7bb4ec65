//! The whole command, end to end: the fixture workspace, bad input, other users, public packages.
//!
//! Every run carries a mark in its environment, and after every run the machine is searched for
//! processes that still carry it: see [`scene`].

#![allow(
    clippy::too_many_lines,
    reason = "a test is read from top to bottom, and may be a table"
)]

mod again;
mod archives;
mod bad_input;
mod bad_surroundings;
mod below;
mod breaks;
mod cargo_facts;
mod changed;
mod coming_over;
mod config_input;
mod doctests;
mod first_run;
mod fixture;
mod limits;
mod load;
mod nesting;
mod oracle;
mod packages;
mod packages_run;
mod peer;
mod places;
mod ptrace_refused;
mod rerun;
mod scheduling;
mod scripts;
mod show_config;
mod strays;
mod survive;
mod trace;
mod tracing;
mod unprivileged;
mod word;

use fixture_kit::{environment, nobody, registry, scene};
