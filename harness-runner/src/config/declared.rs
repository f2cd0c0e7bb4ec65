//! All settings, one row each. Reading, merging, origins, `show-config`, the schema and the page of the
//! configuration come from here.
//!
//! To add a setting, add a row, a kind if there is none that fits, and its use.

use super::{
    archive_include::ArchiveInclude,
    budget::Budget,
    error::Place,
    kind::{self, Kind, words},
    layer::{Declared, Explained, Origin, Scope, layer},
    parse::Sections,
    settings::*,
    value::{GRACE_PERIOD, NO_LIMIT, SLOW_PERIOD},
};
use crate::policy::{Entries, Ipc, Net};
use camino::Utf8PathBuf;
use harness_metadata::{
    Cpus, DurationsBy, FinalStatusLevel, PolicyMode, ReportSkipped, StatusLevel,
    event::{OutputWhen, RunMode, TraceLevel},
    words,
};
use std::{collections::BTreeMap, time::Duration};

layer! {
    /// The settings of a test from one place.
    layer TestLayer;
    /// The settings of a test from all places together.
    values TestValues;
    /// A setting that overrides can change for a test.
    setting TestSetting;
    /// The origin of each setting of a test.
    origins TestOrigins;

    /// The retries of a failed test, and the delays between them.
    retries: RetryPolicy {
        Retries, "retries", Both, kind::RETRIES, default RetryPolicy::NONE,
        flag "--retries",
        "[further attempts](limits-of-a-test.md#retries) of a failed test"
    }
    /// The result of a flaky test.
    flaky_result: FlakyResult {
        FlakyResult, "flaky-result", Both, words(), default FlakyResult::Pass,
        flag "--flaky-result",
        "the result of a flaky test"
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
        "[the time after which a test is slow](limits-of-a-test.md#slow-tests), and after which it is ended"
    }
    /// When a benchmark is slow, and when it is ended.
    bench_slow_timeout: SlowTimeout {
        BenchSlowTimeout, "bench.slow-timeout", Both, kind::SLOW_TIMEOUT,
        default SlowTimeout {
            period: NO_LIMIT,
            terminate_after: None,
            grace_period: GRACE_PERIOD,
            on_timeout: TimeoutResult::Fail,
        },
        "the time after which a [benchmark](bench.md#limits) is slow, and after which it is ended"
    }
    /// The time that descendants and open output may outlive the test.
    leak_timeout: LeakTimeout {
        LeakTimeout, "leak-timeout", Both, kind::LEAK_TIMEOUT,
        default LeakTimeout {
            period: Duration::from_millis(200),
            result: None,
        },
        "[the time](limits-of-a-test.md#leaks) that descendants and open output may outlive the test"
    }
    /// The result of a leaky test.
    leak: LeakPolicy {
        Leak, "leak", Both, words(), default LeakPolicy::Warn,
        "[the result of a leaky test](limits-of-a-test.md#leaks)"
    }
    /// The memory limit; `None` for no limit.
    memory_max: Option<u64> {
        MemoryMax, "memory-max", Both, kind::MEMORY_MAX, default None,
        "[the memory](limits-of-a-test.md#memory-processes-cpu-time) that the test and its descendants may use together"
    }
    /// The limit on simultaneous processes and threads; `None` for no limit.
    pids_max: Option<u32> {
        PidsMax, "pids-max", Both, kind::PIDS_MAX, default None,
        "the number of simultaneous processes and threads"
    }
    /// The limit on CPUs; `None` for no limit.
    cpu_max: Option<Cpus> {
        CpuMax, "cpu-max", Both, kind::CPU_MAX, default None,
        "the CPUs that it may use"
    }
    /// The number of slots that the test takes.
    threads_required: ThreadsRequired {
        ThreadsRequired, "threads-required", Both, kind::THREADS_REQUIRED,
        default ThreadsRequired::Count(1),
        "the number of slots that the test takes"
    }
    /// Whether no other test runs beside it.
    exclusive: bool {
        Exclusive, "exclusive", Both, kind::BOOLEAN, default false,
        "whether [no other test runs beside it](scheduling.md#exclusive-tests)"
    }
    /// The memory that the test needs to start.
    memory_required: MemoryRequired {
        MemoryRequired, "memory-required", Both, kind::MEMORY_REQUIRED,
        default MemoryRequired::None,
        "[the memory](scheduling.md#memory) that has to be available before it starts"
    }
    /// The group that limits how many tests like it run at once.
    test_group: TestGroup {
        TestGroup, "test-group", Override, kind::TEST_GROUP, default TestGroup::Global,
        "the group of the test"
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
    /// Variables of the test's environment.
    env: BTreeMap<String, String> {
        Env, "env", Override, kind::ENV, default BTreeMap::new(),
        "[variables of the test's environment](scripts.md#variables)"
    }
    /// Whether exit code 0 is a pass only if the test harness reported one.
    require_result: bool {
        RequireResult, "require-result", Both, kind::BOOLEAN, default true,
        "whether exit code 0 passes [only with a report of the test harness](faults.md#the-proof-of-a-pass)"
    }
    /// The level of tracing.
    trace_level: TraceLevel {
        TraceLevel, "trace.level", Both, words(), default TraceSetting::default().level,
        flag "--trace",
        "[the level of tracing](tracing.md); `trace = \"off\"` is short for `trace = { level = \"off\" }`"
    }
    /// Whether the run fails rather than watch less closely.
    trace_required: bool {
        TraceRequired, "trace.required", Both, kind::BOOLEAN,
        default TraceSetting::default().required,
        flag "--trace-required",
        "whether the run fails if that level is unavailable"
    }
    /// The backends that may trace the test.
    trace_backend: TraceBackend {
        TraceBackend, "trace.backend", Both, words(), default TraceSetting::default().backend,
        "[the backend](tracing.md#backends)"
    }
    /// Whether no_new_privs may be set for the test.
    trace_no_new_privs: bool {
        TraceNoNewPrivs, "trace.no-new-privs", Both, kind::BOOLEAN,
        default TraceSetting::default().no_new_privs,
        "whether the tracer may take away the right to [gain privileges](tracing.md#set-user-id-programs)"
    }
    /// The effect of the policy.
    policy_mode: PolicyMode {
        PolicyMode, "policy.mode", Both, words(), default PolicyMode::Observe,
        "[the effect of the policy](policy.md): none, violations are reported, or they are denied"
    }
    /// The files that may be read.
    policy_read: Entries {
        PolicyRead, "policy.fs.read", Both, kind::ENTRIES, default Entries::All,
        "[the files](policy.md#files) that the test may read, and the folders that it may list"
    }
    /// The files that may be changed.
    policy_write: Entries {
        PolicyWrite, "policy.fs.write", Both, kind::ENTRIES, default Entries::All,
        "[the files and folders](policy.md#files) that the test may change"
    }
    /// The programs that may be executed.
    policy_exec: Entries {
        PolicyExec, "policy.fs.exec", Both, kind::ENTRIES, default Entries::All,
        "[the programs](policy.md#files) that the test may execute, beside its own"
    }
    /// The peers that the test may connect and send to.
    policy_net: Net {
        PolicyNet, "policy.net", Both, kind::NET, default Net::All,
        "[the peers](policy.md#network) that the test may connect and send to, beside its own sockets"
    }
    /// The ways to reach processes that are not of the test.
    policy_ipc: Ipc {
        PolicyIpc, "policy.ipc", Both, kind::IPC, default Ipc::All,
        "[the ways](policy.md#other-processes) by which the test may reach processes that it has not started"
    }
    /// The budgets, each by itself.
    budget: Budget {
        Budget, "budget", Both, kind::BUDGET, default Budget::default(),
        "[budgets](budgets.md): limits on numbers that were measured, judged at the end of an attempt"
    }
    /// Whether the test may run elsewhere.
    remote_allow: bool {
        RemoteAllow, "remote.allow", Both, kind::BOOLEAN, default true,
        "whether the test may run [elsewhere](remote.md#tests-that-stay-here), if the run has an engine"
    }
    /// Properties that a worker must have.
    remote_properties: BTreeMap<String, String> {
        RemoteProperties, "remote.properties", Both, kind::TEXTS, default BTreeMap::new(),
        "[properties](remote.md#the-engine) of the platform that the engine's worker must have"
    }
    /// The time after which an attempt elsewhere is started a second time; `None` for never.
    remote_backup_after: Option<Duration> {
        RemoteBackupAfter, "remote.backup-after", Both, kind::TIME_LIMIT, default None,
        "the time after which an attempt elsewhere is [started a second time](remote.md#stragglers); without it never"
    }
    /// When the output of a test that passes is shown.
    success_output: OutputWhen {
        SuccessOutput, "success-output", Both, words(), default OutputWhen::Never,
        flag "--success-output",
        "the time to show the output of passed tests"
    }
    /// When the output of a test that fails is shown.
    failure_output: OutputWhen {
        FailureOutput, "failure-output", Both, words(), default OutputWhen::Immediate,
        flag "--failure-output",
        "the time to show the output of failed tests"
    }
    /// Whether JUnit reports have the output of a test that passes.
    junit_success: bool {
        JunitSuccess, "junit.store-success-output", Both, kind::BOOLEAN, default false,
        "whether the report has the output of passed tests"
    }
    /// Whether JUnit reports have the output of a test that fails.
    junit_failure: bool {
        JunitFailure, "junit.store-failure-output", Both, kind::BOOLEAN, default true,
        "whether the report has the output of failed tests"
    }
    /// The tests that did not run but appear in JUnit reports.
    report_skipped: ReportSkipped {
        ReportSkipped, "junit.report-skipped", Both, words(), default ReportSkipped::None,
        "the tests that did not run but appear in the report"
    }
    /// The form in JUnit reports of a test that passes in the end but fails as flaky.
    flaky_fail_status: FlakyFailStatus {
        FlakyFailStatus, "junit.flaky-fail-status", Both, words(),
        default FlakyFailStatus::Failure,
        "the form in the report of a flaky test that counts as failed"
    }
}

/// The form in JUnit reports of a test that passes in the end but fails as flaky.
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

/// The schema that the JUnit report keeps to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum JunitSchema {
    /// None: with all that is known.
    Free,
    /// `junit-10.xsd`, which Jenkins has.
    Junit10,
    /// `surefire-test-report.xsd`, which Maven has.
    Surefire,
}

words!(JunitSchema {
    Free = "free",
    Junit10 = "junit-10",
    Surefire = "surefire",
});

layer! {
    /// The settings of a run from one place.
    layer RunLayer;
    /// The settings of the run as a whole.
    values RunSettings;
    /// A setting of the run as a whole.
    setting RunSetting;
    /// The origin of each setting of the run.
    origins RunOrigins;

    /// The number of tests that run at the same time.
    test_threads: TestThreads {
        TestThreads, "test-threads", Profile, kind::TEST_THREADS, default TestThreads::NumCpus,
        flag "--test-threads",
        "the number of tests that run at the same time; negative: so many fewer than CPUs, at least 1"
    }
    /// The order in which tests of the same priority start.
    order: Order {
        Order, "order", Profile, words(), default Order::LongestFirst,
        flag "--order",
        "[the order](scheduling.md#order) in which tests of the same priority start"
    }
    /// The path of the timing file, as written; `None` for none.
    timings: Option<Utf8PathBuf> {
        Timings, "timings", Profile, kind::PATH, default None,
        "the path of [the timing file](scheduling.md#parts-of-equal-duration) of `--partition time:M/N`, relative to the workspace"
    }
    /// When the run gives up.
    max_fail: MaxFail {
        MaxFail, "fail-fast", Profile, kind::FAIL_FAST, default MaxFail::from_fail_fast(true),
        flag "--max-fail",
        "the number of failures after which the run gives up"
    }
    /// The time limit of the run; `None` for no limit.
    global_timeout: Option<Duration> {
        GlobalTimeout, "global-timeout", Profile, kind::TIME_LIMIT, default None,
        "the time limit of the run"
    }
    /// The time limit of a run of benchmarks; `None` for no limit.
    bench_global_timeout: Option<Duration> {
        BenchGlobalTimeout, "bench.global-timeout", Profile, kind::TIME_LIMIT, default None,
        "the time limit of a run of [benchmarks](bench.md#limits)"
    }
    /// The time limit for listing a binary.
    list_timeout: Duration {
        ListTimeout, "list-timeout", Profile, kind::DURATION, default Duration::from_secs(60),
        "the time limit for a binary to list its tests"
    }
    /// The tests that get a line as they finish.
    status_level: StatusLevel {
        StatusLevel, "status-level", Profile, words(), default StatusLevel::Pass,
        flag "--status-level",
        "the tests that get a [line](output.md#levels) as they finish"
    }
    /// The tests that get a line at the end.
    final_status_level: FinalStatusLevel {
        FinalStatusLevel, "final-status-level", Profile, words(), default FinalStatusLevel::Flaky,
        flag "--final-status-level",
        "the tests that get a [line](output.md#levels) at the end"
    }
    /// The number of slowest tests to name at the end.
    durations: usize {
        Durations, "durations", Profile, kind::COUNT, default 0,
        flag "--durations",
        "the number of slowest tests to name at the end"
    }
    /// The order of those tests.
    durations_by: DurationsBy {
        DurationsBy, "durations-by", Profile, words(), default DurationsBy::Time,
        flag "--durations-by",
        "the use by which those tests are [sorted](output.md#durations)"
    }
    /// The number of bytes to keep of each output stream.
    output_cap: u64 {
        OutputCap, "output-cap", Profile, kind::SIZE, default 64 << 20,
        "the kept size of each output stream of a test"
    }
    /// The bytes of recorded runs.
    keep_size: u64 {
        KeepSize, "keep-size", Profile, kind::SIZE, default 1 << 30,
        "the size of all [recorded runs](recordings.md#store) together"
    }
    /// Whether the end of a run names tests that read credentials.
    warn_credentials: bool {
        WarnCredentials, "warn-credentials", Profile, kind::BOOLEAN, default true,
        "whether the end of a run [names tests that read credentials](output.md#credentials)"
    }
    /// The path of the JUnit report, as written; `None` for no report.
    junit_path: Option<Utf8PathBuf> {
        JunitPath, "junit.path", Profile, kind::PATH, default None,
        flag "--junit",
        "the path of the report, below [the store](#store) unless absolute"
    }
    /// The name of the JUnit report.
    junit_report_name: String {
        JunitReportName, "junit.report-name", Profile, kind::TEXT, default "harness-run".to_owned(),
        "the report's name"
    }
    /// The schema that the JUnit report keeps to.
    junit_schema: JunitSchema {
        JunitSchema, "junit.schema", Profile, words(), default JunitSchema::Free,
        "the [schema](output.md#strict-schemas) that the report keeps to"
    }
    /// The number of bytes of each output stream in the JUnit report.
    junit_output_cap: u64 {
        JunitOutputCap, "junit.output-cap", Profile, kind::SIZE, default 1 << 20,
        "the size of each stream in the report"
    }
    /// Whether output that is too long for the JUnit report lies whole beside it.
    junit_attachments: bool {
        JunitAttachments, "junit.attachments", Profile, kind::BOOLEAN, default false,
        "whether traces of failed attempts, and output of which the report has only the ends, lie [beside it](output.md#attachments)"
    }
    /// The path of the HTML report, as written; `None` for no report.
    html_path: Option<Utf8PathBuf> {
        HtmlPath, "html.path", Profile, kind::PATH, default None,
        flag "--html",
        "the path of the [HTML report](html-report.md), below [the store](#store) unless absolute"
    }
    /// The path of the CTRF report, as written; `None` for no report.
    ctrf_path: Option<Utf8PathBuf> {
        CtrfPath, "ctrf.path", Profile, kind::PATH, default None,
        flag "--ctrf",
        "the path of the [CTRF report](output.md#ctrf), below [the store](#store) unless absolute"
    }
    /// The folder of the results for Allure, as written; `None` for none.
    allure_path: Option<Utf8PathBuf> {
        AllurePath, "allure.path", Profile, kind::PATH, default None,
        flag "--allure",
        "the folder of the [results for Allure](output.md#allure), below [the store](#store) unless absolute"
    }
    /// The treatment of documentation tests.
    doctests: Doctests {
        Doctests, "doctests", Profile, words(), default Doctests::Warn,
        flag "--doc",
        "whether [documentation tests](documentation-tests.md) run with the others"
    }
    /// The use of passes of tests that cannot have changed since.
    reuse_mode: ReuseMode {
        ReuseMode, "reuse.mode", Profile, words(), default ReuseMode::Off,
        flag "--cached",
        "whether [passes](reuse.md) are stored with what they rest on (`record`), and used again (`cached`)"
    }
    /// The part of the tests that need not run and that run all the same.
    reuse_audit: Percent {
        ReuseAudit, "reuse.audit", Profile, kind::PERCENT, default Percent(5),
        flag "--audit",
        "the part of the tests that need not run and that [run all the same](reuse.md#the-sample), one at least"
    }
    /// Whether passes are used and none is stored.
    reuse_read_only: bool {
        ReuseReadOnly, "reuse.read-only", Profile, kind::BOOLEAN, default false,
        flag "--cache-read-only",
        "whether passes are used and [none is stored](reuse.md#in-ci)"
    }
    /// Whether passes rest on functions.
    reuse_functions: bool {
        ReuseFunctions, "reuse.functions", Profile, kind::BOOLEAN, default true,
        "whether a pass rests on the [functions](reuse.md#below-the-executable) that its test entered, and not on whole executables"
    }
    /// The time for which a pass counts.
    reuse_lifetime: Duration {
        ReuseLifetime, "reuse.lifetime", Profile, kind::DURATION,
        default Duration::from_secs(14 * 24 * 60 * 60),
        "the time after which a test runs though nothing has changed"
    }
    /// Variables whose values do not count.
    reuse_ignore_environment: Vec<String> {
        ReuseIgnoreEnvironment, "reuse.ignore-environment", Profile, kind::STRINGS,
        default Vec::new(),
        "names of [variables](reuse.md#the-environment) whose values do not count; `*` at the end stands for any"
    }
    /// The address of the engine that runs tests elsewhere; empty for none.
    remote_address: String {
        RemoteAddress, "remote.address", Profile, kind::TEXT, default String::new(),
        flag "--remote",
        "the address of the engine that runs tests [elsewhere](remote.md): `grpc://HOST:PORT`, or `grpcs://HOST:PORT` with TLS; empty for none"
    }
    /// The instance of the engine.
    remote_instance: String {
        RemoteInstance, "remote.instance", Profile, kind::TEXT, default String::new(),
        "the name of the engine's instance; empty for none"
    }
    /// The number of tests that run elsewhere at the same time.
    remote_slots: usize {
        RemoteSlots, "remote.slots", Profile, kind::COUNT_FROM_1, default 16,
        flag "--remote-slots",
        "the number of tests that run elsewhere at the same time, beside those here"
    }
    /// Certificates of those who may vouch for the engine.
    remote_ca: Option<Utf8PathBuf> {
        RemoteCa, "remote.ca", Profile, kind::PATH, default None,
        "a PEM file of those who may [vouch for the engine](remote.md#tls-and-tokens), relative to the workspace; without it those of the system"
    }
    /// The certificate that shows the engine who calls.
    remote_certificate: Option<Utf8PathBuf> {
        RemoteCertificate, "remote.certificate", Profile, kind::PATH, default None,
        "a PEM file with the certificate that shows the engine who calls, relative to the workspace"
    }
    /// The key of that certificate.
    remote_key: Option<Utf8PathBuf> {
        RemoteKey, "remote.key", Profile, kind::PATH, default None,
        "a PEM file with the key of that certificate, relative to the workspace"
    }
    /// The name in the engine's certificate.
    remote_server_name: String {
        RemoteServerName, "remote.server-name", Profile, kind::TEXT, default String::new(),
        "the name in the engine's certificate, if it is another one than in its address"
    }
    /// The file that has the token.
    remote_token_file: Option<Utf8PathBuf> {
        RemoteTokenFile, "remote.token-file", Profile, kind::PATH, default None,
        "a file with the [token](remote.md#tls-and-tokens) that shows the engine who calls, relative to the workspace"
    }
    /// The command that prints the token.
    remote_token_command: Vec<String> {
        RemoteTokenCommand, "remote.token-command", Profile, kind::STRINGS, default Vec::new(),
        "a program and its arguments that prints that token"
    }
    /// The number of tries of an attempt.
    remote_tries: usize {
        RemoteTries, "remote.tries", Profile, kind::COUNT_FROM_1, default 4,
        "how often an attempt elsewhere is tried [as long as only the engine is at fault](remote.md#faults-of-an-engine)"
    }
    /// The time after which an attempt is given up.
    remote_patience: Duration {
        RemotePatience, "remote.patience", Profile, kind::DURATION,
        default Duration::from_secs(30 * 60),
        "the time from the submission of an attempt to its end after which it is given up, beside the test's own limit"
    }
    /// Variables of this machine that tests elsewhere have too.
    remote_variables: Vec<String> {
        RemoteVariables, "remote.variables", Profile, kind::STRINGS, default Vec::new(),
        "names of [variables](remote.md#variables) of this machine that tests elsewhere have too"
    }
    /// The paths that go into an archive beside the products of the build.
    archive_include: Vec<ArchiveInclude> {
        ArchiveInclude, "archive.include", Profile, kind::ARCHIVE_INCLUDE, default Vec::new(),
        "[further files](archives.md#further-files) that go into an archive"
    }
}

/// The settings of the command line, which beat every profile and override.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CliOverrides {
    /// For every test.
    pub test: TestLayer,
    /// For the run as a whole.
    pub run: RunLayer,
    /// The kind of items that run: benchmarks have time limits of their own.
    pub mode: RunMode,
}

/// Returns every setting as it is declared: those of a test, then those of the run as a whole.
pub fn declared() -> Vec<Declared> {
    let mut declared = TestSetting::declared();
    declared.extend(RunSetting::declared());
    declared
}
