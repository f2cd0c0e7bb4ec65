//! The difference between a run of benchmarks and one of tests.

use harness_metadata::event::{RunMode, TraceLevel};
use harness_runner::{
    config::{
        CliOverrides,
        settings::{Order, TestThreads},
    },
    session::Options,
};

/// Adds to the settings of a run of benchmarks that it measures, and not how well it is watched: one at a time,
/// in the order of the list, without a trace.
pub(super) fn settle(cli: &mut CliOverrides) {
    cli.mode = RunMode::Benchmark;
    cli.run.test_threads = Some(TestThreads::Count(1));
    cli.run.order.get_or_insert(Order::Name);
    if cli.test.trace_level.is_none() {
        cli.test.trace_level = Some(TraceLevel::Off);
        cli.test.trace_required = Some(false);
    }
}

/// Lets a session build and select benchmarks.
pub(super) fn select(options: &mut Options) {
    options.cargo.mode = RunMode::Benchmark;
    options.filter.mode = RunMode::Benchmark;
    options.documentation = false;
}
