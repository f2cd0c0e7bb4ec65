//! The compared runners, and the way in which each runs a workload.

use crate::{
    environment::{command, installed},
    workload::Workload,
};
use std::{
    ffi::OsStr,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

/// A runner of tests.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// `cargo harness` without tracing.
    Off,
    /// `cargo harness` with the lives of processes traced.
    Process,
    /// `cargo harness` as users run it: with what a test opens, executes, changes and connects to.
    Io,
    /// `cargo harness` with look-ups too.
    Full,
    /// cargo-nextest.
    Nextest,
    /// A loop that starts and reaps the same processes.
    Floor,
}

/// Returns how many tests run at the same time.
pub(crate) fn slots() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

impl Contender {
    /// Returns all that are here.
    pub(crate) fn installed() -> Vec<Self> {
        let mut contenders = vec![Self::Off, Self::Process, Self::Io, Self::Full];
        if installed("cargo-nextest", &["nextest", "--version"]) {
            contenders.push(Self::Nextest);
        } else {
            println!("cargo-nextest: left out, it is not installed");
        }
        contenders.push(Self::Floor);
        contenders
    }

    /// Returns whether a long workload is run too: some of the levels are enough.
    pub(crate) fn is_patient(self) -> bool {
        !matches!(self, Self::Process | Self::Full)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Off => "harness, trace off",
            Self::Process => "harness, trace process",
            Self::Io => "harness, trace io",
            Self::Full => "harness, trace full",
            Self::Nextest => "cargo-nextest",
            Self::Floor => "floor",
        }
    }

    /// Returns the command that runs a workload's tests; the floor has none.
    pub(crate) fn command(self, workload: &Workload) -> Option<Command> {
        self.command_of(env!("CARGO_BIN_EXE_cargo-harness").as_ref(), workload)
    }

    /// As [`command`](Self::command), with another `cargo harness`.
    pub(crate) fn command_of(self, harness: &OsStr, workload: &Workload) -> Option<Command> {
        self.command_with(harness, workload, slots())
    }

    /// As [`command`](Self::command), with another number of slots.
    pub(crate) fn command_in(self, workload: &Workload, slots: usize) -> Option<Command> {
        self.command_with(
            env!("CARGO_BIN_EXE_cargo-harness").as_ref(),
            workload,
            slots,
        )
    }

    fn command_with(self, harness: &OsStr, workload: &Workload, slots: usize) -> Option<Command> {
        let (program, first): (_, &[&str]) = match self {
            Self::Off => (harness, &["run", "--trace", "off"]),
            Self::Process => (harness, &["run", "--trace", "process"]),
            Self::Io => (harness, &["run", "--trace", "io"]),
            Self::Full => (harness, &["run", "--trace", "full"]),
            Self::Nextest => ("cargo-nextest".as_ref(), &["nextest", "run"]),
            Self::Floor => return None,
        };
        let mut command = command(program);
        command
            .args(first)
            .args(&workload.targets)
            .args(&workload.filter)
            .arg("--no-fail-fast");
        command.args([
            "--no-tests",
            "pass",
            "--show-progress",
            "none",
            "--color",
            "never",
        ]);
        command.args(["--status-level", "none", "--final-status-level", "none"]);
        command.args(["-j", &slots.to_string(), "--failure-output", "never"]);
        command
            .current_dir(&workload.folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Some(command)
    }

    /// Runs the workload once and checks that every test ran.
    pub(crate) fn check(self, workload: &Workload) {
        let Some(mut command) = self.command(workload) else {
            return;
        };
        let output = command
            .stderr(Stdio::piped())
            .output()
            .expect("the contender starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let ran = format!("{} tests run", workload.tests());
        assert!(
            stderr.contains(&ran),
            "{} on {}: {stderr}",
            self.name(),
            workload.name
        );
    }

    /// Runs the workload once and returns how long that took.
    pub(crate) fn run(self, workload: &Workload) -> Duration {
        let Some(mut command) = self.command(workload) else {
            return floor(workload);
        };
        let started = Instant::now();
        let status = command.status().expect("the contender starts");
        let elapsed = started.elapsed();
        // A public suite may have tests that fail on this machine, under any runner.
        let known = status.success() || workload.may_fail && status.code() == Some(100);
        assert!(known, "{} on {}: {status}", self.name(), workload.name);
        elapsed
    }
}

/// The least that can be done: posix_spawn, wait, next.
fn floor(workload: &Workload) -> Duration {
    let started = Instant::now();
    if workload.selects_nothing() {
        assert!(workload.build().success(), "it was built before");
        return started.elapsed();
    }
    let next = AtomicUsize::new(0);
    let worker = || {
        while let Some((binary, test)) = workload.test(next.fetch_add(1, Ordering::Relaxed)) {
            let mut command = Command::new(&binary.path);
            command
                .args(["--exact", test, "--nocapture"])
                .current_dir(&workload.folder);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let status = command.status().expect("the test starts");
            assert!(status.success() || workload.may_fail, "{test}: {status}");
        }
    };
    thread::scope(|scope| {
        for _ in 0..slots() {
            scope.spawn(worker);
        }
    });
    started.elapsed()
}
