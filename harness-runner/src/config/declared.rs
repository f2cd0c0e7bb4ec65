//! All settings, one row each. Reading, merging, origins, `show-config`, the schema and the page of the
//! configuration come from here.
//!
//! To add a setting, add a row, a kind if there is none that fits, and its use.

use super::{
    error::{ConfigError, Place},
    kind::{self, Kind, words},
    layer::{Declared, Explained, Origin, Scope, layer},
    parse::Sections,
    settings::*,
    value::{GRACE_PERIOD, SLOW_PERIOD},
};
use camino::Utf8PathBuf;
use harness_metadata::{
    Cpus, FinalStatusLevel, ReportSkipped, StatusLevel,
    event::{OutputWhen, TraceLevel},
    words,
};
use std::time::Duration;

layer! {
    /// What one place sets for a test.
    layer TestLayer;
    /// What all places together set for a test.
    values TestValues;
    /// A setting that overrides can change for a test.
    setting TestSetting;
    /// Where each setting of a test comes from.
    origins TestOrigins;

    /// How often and when a failed test is tried again.
    retries: RetryPolicy {
        Retries, "retries", Both, kind::RETRIES, default RetryPolicy::NONE,
        flag "--retries",
        "[further attempts](limits-of-a-test.md#retries) of a failed test"
    }
    /// What a test that passes after a failure counts as.
    flaky_result: FlakyResult {
        FlakyResult, "flaky-result", Both, words(), default FlakyResult::Pass,
        flag "--flaky-result",
        "what a test counts as that passes after a failure"
    }
    /// When a test is slow, and when it is ended.
    slow_timeout: SlowTimeout {
        SlowTimeout, "slow-timeout", Both, kind::SLOW_TIMEOUT,
        default SlowTimeout {
            period: SLOW_PERIOD,
            terminate_after: None,
            grace_period: GRACE_PERIOD,
            on_timeout: TimeoutResult::Fail,
        },
        "[when a test is slow](limits-of-a-test.md#slow-tests), and when it is ended"
    }
    /// How long descendants and open output may outlive the test.
    leak_timeout: LeakTimeout {
        LeakTimeout, "leak-timeout", Both, kind::LEAK_TIMEOUT,
        default LeakTimeout {
            period: Duration::from_millis(200),
            result: None,
        },
        "[how long](limits-of-a-test.md#leaks) descendants and open output may outlive the test"
    }
    /// What a test counts as that leaves something behind.
    leak: LeakPolicy {
        Leak, "leak", Both, words(), default LeakPolicy::Warn,
        "[what a test counts as](limits-of-a-test.md#leaks) that leaves something behind"
    }
    /// How much memory the test may use; `None` for any.
    memory_max: Option<u64> {
        MemoryMax, "memory-max", Both, kind::MEMORY_MAX, default None,
        "[how much memory](limits-of-a-test.md#memory-processes-cpu-time) the test and all that it starts may use"
    }
    /// How many processes and threads the test may have at the same time; `None` for any number.
    pids_max: Option<u32> {
        PidsMax, "pids-max", Both, kind::PIDS_MAX, default None,
        "how many processes and threads it may have at the same time"
    }
    /// How many CPUs the test may use; `None` for all.
    cpu_max: Option<Cpus> {
        CpuMax, "cpu-max", Both, kind::CPU_MAX, default None,
        "how much CPU time it may use"
    }
    /// How many of the run's slots the test takes.
    threads_required: ThreadsRequired {
        ThreadsRequired, "threads-required", Both, kind::THREADS_REQUIRED,
        default ThreadsRequired::Count(1),
        "how many slots the test takes"
    }
    /// The group that limits how many tests like it run at once.
    test_group: TestGroup {
        TestGroup, "test-group", Override, kind::TEST_GROUP, default TestGroup::Global,
        "which group the test is in"
    }
    /// Tests with a higher priority start earlier.
    priority: i8 {
        Priority, "priority", Override, kind::PRIORITY, default 0,
        "tests with a higher one start earlier"
    }
    /// Arguments added to the test's command line.
    run_extra_args: Vec<String> {
        RunExtraArgs, "run-extra-args", Both, kind::STRINGS, default Vec::new(),
        "arguments added to the test's command line"
    }
    /// Whether exit code 0 is a pass only if the test harness reported one.
    require_result: bool {
        RequireResult, "require-result", Both, kind::BOOLEAN, default true,
        "whether exit code 0 passes [only if the test harness said so](faults.md#what-a-pass-needs)"
    }
    /// How closely the test is watched.
    trace_level: TraceLevel {
        TraceLevel, "trace.level", Both, words(), default TraceSetting::default().level,
        flag "--trace",
        "[how closely](tracing.md) the test is watched; `trace = \"off\"` is short for `trace = { level = \"off\" }`"
    }
    /// Whether the run fails rather than watch less closely.
    trace_required: bool {
        TraceRequired, "trace.required", Both, kind::BOOLEAN,
        default TraceSetting::default().required,
        flag "--trace-required",
        "whether the run fails if that level is unavailable"
    }
    /// What the test may be traced by.
    trace_backend: TraceBackend {
        TraceBackend, "trace.backend", Both, words(), default TraceSetting::default().backend,
        "[by which means](tracing.md#backends)"
    }
    /// Whether no_new_privs may be set for the test.
    trace_no_new_privs: bool {
        TraceNoNewPrivs, "trace.no-new-privs", Both, kind::BOOLEAN,
        default TraceSetting::default().no_new_privs,
        "whether the tracer may take away the right to [gain privileges](tracing.md#set-user-id-programs)"
    }
    /// When the output of a test that passes is shown.
    success_output: OutputWhen {
        SuccessOutput, "success-output", Both, words(), default OutputWhen::Never,
        flag "--success-output",
        "when the output of a test that passes is shown"
    }
    /// When the output of a test that fails is shown.
    failure_output: OutputWhen {
        FailureOutput, "failure-output", Both, words(), default OutputWhen::Immediate,
        flag "--failure-output",
        "when the output of a test that fails is shown"
    }
    /// Whether JUnit reports have the output of a test that passes.
    junit_success: bool {
        JunitSuccess, "junit.store-success-output", Both, kind::BOOLEAN, default false,
        "whether the report has the output of a test that passes"
    }
    /// Whether JUnit reports have the output of a test that fails.
    junit_failure: bool {
        JunitFailure, "junit.store-failure-output", Both, kind::BOOLEAN, default true,
        "whether the report has the output of a test that fails"
    }
    /// Which tests that did not run JUnit reports mention.
    report_skipped: ReportSkipped {
        ReportSkipped, "junit.report-skipped", Both, words(), default ReportSkipped::None,
        "which tests that did not run the report mentions"
    }
    /// What a test that passes in the end but fails as flaky is in JUnit reports.
    flaky_fail_status: FlakyFailStatus {
        FlakyFailStatus, "junit.flaky-fail-status", Both, words(),
        default FlakyFailStatus::Failure,
        "what a flaky test that counts as failed is in the report"
    }
}

/// What a test that passes in the end but fails as flaky is in JUnit reports.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum FlakyFailStatus {
    /// A failure.
    Failure,
    /// A success.
    Success,
}

words!(FlakyFailStatus {
    Failure = "failure",
    Success = "success",
});

layer! {
    /// What one place sets for the run as a whole.
    layer RunLayer;
    /// The settings of the run as a whole.
    values RunSettings;
    /// A setting of the run as a whole.
    setting RunSetting;
    /// Where each setting of the run comes from.
    origins RunOrigins;

    /// How many tests run at once.
    test_threads: TestThreads {
        TestThreads, "test-threads", Profile, kind::TEST_THREADS, default TestThreads::NumCpus,
        flag "--test-threads",
        "how many tests run at once; negative: so many fewer than CPUs, at least 1"
    }
    /// When the run gives up.
    max_fail: MaxFail {
        MaxFail, "fail-fast", Profile, kind::FAIL_FAST, default MaxFail::from_fail_fast(true),
        flag "--max-fail",
        "when to give up"
    }
    /// How long the run may take; `None` for ever.
    global_timeout: Option<Duration> {
        GlobalTimeout, "global-timeout", Profile, kind::TIME_LIMIT, default None,
        "how long the run may take"
    }
    /// How long listing the tests of a binary may take.
    list_timeout: Duration {
        ListTimeout, "list-timeout", Profile, kind::DURATION, default Duration::from_secs(60),
        "how long a binary may take to list its tests"
    }
    /// Which tests get a line as they finish.
    status_level: StatusLevel {
        StatusLevel, "status-level", Profile, words(), default StatusLevel::Pass,
        flag "--status-level",
        "which tests get a [line](output.md#levels) as they finish"
    }
    /// Which tests get a line at the end.
    final_status_level: FinalStatusLevel {
        FinalStatusLevel, "final-status-level", Profile, words(), default FinalStatusLevel::Flaky,
        flag "--final-status-level",
        "which tests get a [line](output.md#levels) at the end"
    }
    /// How many of the slowest tests are named at the end.
    durations: usize {
        Durations, "durations", Profile, kind::COUNT, default 0,
        flag "--durations",
        "how many of the slowest tests are named at the end"
    }
    /// How many bytes of each output stream are kept.
    output_cap: u64 {
        OutputCap, "output-cap", Profile, kind::SIZE, default 64 << 20,
        "how much of each output stream of a test is kept"
    }
    /// Where the JUnit report goes, as it is written; `None` for no report.
    junit_path: Option<Utf8PathBuf> {
        JunitPath, "junit.path", Profile, kind::PATH, default None,
        flag "--junit",
        "where the report goes, below [the store](#store) unless absolute"
    }
    /// The name of the JUnit report.
    junit_report_name: String {
        JunitReportName, "junit.report-name", Profile, kind::TEXT, default "harness-run".to_owned(),
        "the report's name"
    }
    /// How many bytes of each output stream go into the JUnit report.
    junit_output_cap: u64 {
        JunitOutputCap, "junit.output-cap", Profile, kind::SIZE, default 1 << 20,
        "how much of each stream goes into the report"
    }
}

/// What the command line sets; it beats every profile and override.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CliOverrides {
    /// For every test.
    pub test: TestLayer,
    /// For the run as a whole.
    pub run: RunLayer,
}

/// Returns every setting as it is declared: those of a test, then those of the run as a whole.
pub fn declared() -> Vec<Declared> {
    let mut declared = TestSetting::declared();
    declared.extend(RunSetting::declared());
    declared
}
