//! The whole command, end to end: the fixture workspace, bad input, other users, public packages.
//!
//! Every run carries a mark in its environment, and after every run the machine is searched for
//! processes that still carry it: see [`scene`].

#![allow(
    clippy::too_many_lines,
    reason = "a test is read from top to bottom, and may be a table"
)]

mod again;
mod answers;
mod archives;
mod attached;
mod audits;
mod bad_input;
mod bad_surroundings;
mod below;
mod bench;
mod breaks;
mod budgets;
mod cargo_facts;
mod changed;
mod coming_over;
mod config_input;
mod doctests;
mod elsewhere;
mod events;
mod explain;
mod faults_of_the_peer;
mod findings;
mod first_run;
mod fixture;
mod functions;
mod html;
mod injections;
mod limits;
mod live;
mod load;
mod messages;
mod metrics;
mod nesting;
mod oracle;
mod others;
mod packages;
mod packages_run;
mod payloads;
mod peer;
mod places;
mod policy;
mod ptrace_refused;
mod readers;
mod recordings;
mod rerun;
mod reuse;
mod scheduling;
mod scripts;
mod servers;
mod services;
mod show_config;
mod simulate;
mod slow;
mod stores;
mod strays;
mod survive;
mod trace;
mod tracing;
mod unprivileged;
mod word;

use fixture_kit::{environment, nobody, registry, scene};
