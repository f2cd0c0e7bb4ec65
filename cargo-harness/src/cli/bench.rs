//! `cargo harness bench`: runs benchmarks, and lets them measure.

mod measure;

use super::{
    GlobalOptions,
    cached::CachedArgs,
    filter_options::FilterArgs,
    remote_options::RemoteArgs,
    reuse_options::ReuseArgs,
    run::RunCommand,
    runner_options::{ReporterArgs, RunnerArgs},
};
use crate::{
    cargo_options::CargoArgs,
    command_error::{CommandError, Kind},
};
use clap::Args;
use harness_metadata::event::RunMode;

/// Build benchmarks, and run them one at a time.
#[derive(Debug, Args)]
#[command(
    mut_arg("test_threads", |arg| arg.hide(true)),
    mut_arg("stress_parallel", |arg| arg.hide(true)),
    mut_arg("no_capture", |arg| arg.hide(true)),
    mut_arg("rerun", |arg| arg.hide(true)),
    mut_arg("last_failed", |arg| arg.hide(true)),
    mut_arg("failed_first", |arg| arg.hide(true)),
    mut_arg("write_timings", |arg| arg.hide(true)),
    mut_arg("doc", |arg| arg.hide(true)),
    mut_arg("no_doc", |arg| arg.hide(true)),
    mut_arg("release", |arg| arg.help(
        "Build with the profile `release` instead of `bench`, which is like it unless the manifest says more"
    )),
    mut_arg("live", |arg| arg.help(
        "Capture the output of benchmarks, and show it while they run, each line with its benchmark"
    )),
    mut_arg("trace", |arg| arg.help(
        "Trace benchmarks at this level; without it they are not traced, as a trace takes time"
    )),
)]
pub(super) struct BenchCommand {
    #[command(flatten)]
    cargo: CargoArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    runner: RunnerArgs,
    #[command(flatten)]
    reporter: ReporterArgs,
    #[command(flatten)]
    measure: measure::MeasureArgs,
}

impl BenchCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        self.refuse()?;
        if self.measure.is_wanted() {
            return self.measure(global);
        }
        let run = RunCommand {
            cargo: self.cargo,
            filter: self.filter,
            reuse: ReuseArgs::default(),
            runner: self.runner,
            reporter: self.reporter,
            cached: CachedArgs::default(),
            remote: RemoteArgs::default(),
            mode: RunMode::Benchmark,
        };
        run.run(global)
    }

    /// Refuses what is about the results of tests.
    fn refuse(&self) -> Result<(), CommandError> {
        let documentation = &self.runner.documentation;
        let of_tests = [
            ("--rerun", self.filter.is_rerun()),
            ("--last-failed", self.filter.wants_last_failed()),
            ("--failed-first", self.runner.failed_first),
            ("--write-timings", self.runner.write_timings.is_some()),
            ("--doc", documentation.doc),
            ("--no-doc", documentation.no_doc),
        ];
        match of_tests.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((flag, _)) => {
                let message = format!("`{flag}` is about tests, and `bench` runs benchmarks");
                Err(CommandError::new(Kind::Usage, message).with_hint("`cargo harness run` has it"))
            }
        }
    }
}
