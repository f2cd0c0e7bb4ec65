//! The precedence of settings.

use crate::config::{settings::*, *};
use crate::filter::fixture::{self, Binary};
use expect_test::expect;
use harness_metadata::event::{OutputWhen, RunMode, TraceLevel};
use nextest_filtering::ParseContext;
use nextest_metadata::TestCaseName;
use std::time::Duration;
use target_spec::{Platform, TargetFeatures};

fn platform(triple: &'static str) -> Platform {
    Platform::new(triple, TargetFeatures::Unknown).expect("the triple is known")
}

fn named(triple: &'static str) -> (String, Platform) {
    (triple.to_owned(), platform(triple))
}

fn linux() -> Platforms {
    Platforms {
        host: platform("x86_64-unknown-linux-gnu"),
        targets: Vec::new(),
    }
}

fn windows_from_linux() -> Platforms {
    Platforms {
        targets: vec![named("x86_64-pc-windows-gnu")],
        ..linux()
    }
}

fn compile_for(
    text: &str,
    profile: &str,
    platforms: &Platforms,
    cli: CliOverrides,
) -> Result<CompiledProfile, ConfigError> {
    let (config, _) = Config::parse("harness.toml".into(), text.to_owned())?;
    let graph = fixture::graph();
    config
        .profile(profile)?
        .compile(&ParseContext::new(&graph), platforms, cli)
}

pub(super) fn compile(text: &str, profile: &str) -> CompiledProfile {
    compile_for(text, profile, &linux(), CliOverrides::default()).expect("it is right")
}

fn resolve(profile: &CompiledProfile, binary: &Binary, test: &str) -> Arc<Resolved> {
    profile.settings_for(&binary.test(&TestCaseName::new(test)))
}

fn retries(profile: &CompiledProfile, binary: &Binary, test: &str) -> u32 {
    resolve(profile, binary, test).settings.retries.count()
}

#[test]
fn without_a_configuration_every_setting_has_its_default() {
    let profile = compile("", "default");
    let explained = |settings: Vec<Explained>| -> String {
        assert!(
            settings
                .iter()
                .all(|setting| setting.origin == Origin::Default)
        );
        settings
            .iter()
            .map(|setting| format!("{} = {}\n", setting.key, setting.value))
            .collect()
    };
    expect![[r#"
        test-threads = "num-cpus"
        order = "longest-first"
        timings = none
        fail-fast = true
        global-timeout = none
        bench.global-timeout = none
        list-timeout = "1m"
        status-level = "pass"
        final-status-level = "flaky"
        durations = 0
        durations-by = "time"
        output-cap = "64 MiB"
        keep-size = "1 GiB"
        warn-credentials = true
        junit.path = none
        junit.report-name = "harness-run"
        junit.schema = "free"
        junit.output-cap = "1 MiB"
        junit.attachments = false
        html.path = none
        ctrf.path = none
        allure.path = none
        doctests = "warn"
        reuse.mode = "off"
        reuse.audit = "5%"
        reuse.read-only = false
        reuse.functions = true
        reuse.lifetime = "14days"
        reuse.ignore-environment = []
        remote.address = ""
        remote.instance = ""
        remote.slots = 16
        remote.ca = none
        remote.certificate = none
        remote.key = none
        remote.server-name = ""
        remote.token-file = none
        remote.token-command = []
        remote.tries = 4
        remote.patience = "30m"
        remote.variables = []
        archive.include = []
    "#]]
    .assert_eq(&explained(profile.explain_run()));
    expect![[r#"
        retries = 0
        flaky-result = "pass"
        slow-timeout = { period = "1m", grace-period = "10s", on-timeout = "fail" }
        bench.slow-timeout = { period = "30years", grace-period = "10s", on-timeout = "fail" }
        leak-timeout = { period = "200ms", result = "pass" }
        leak = "warn"
        memory-max = "none"
        pids-max = "none"
        cpu-max = "none"
        threads-required = 1
        exclusive = false
        memory-required = "none"
        test-group = "@global"
        priority = 0
        run-extra-args = []
        env = {}
        require-result = true
        trace.level = "io"
        trace.required = false
        trace.backend = "auto"
        trace.no-new-privs = true
        policy.mode = "observe"
        policy.fs.read = "all"
        policy.fs.write = "all"
        policy.fs.exec = "all"
        policy.net = "all"
        policy.ipc = "all"
        budget = {}
        remote.allow = true
        remote.properties = {}
        remote.backup-after = none
        success-output = "never"
        failure-output = "immediate"
        junit.store-success-output = false
        junit.store-failure-output = true
        junit.report-skipped = "none"
        junit.flaky-fail-status = "failure"
    "#]]
    .assert_eq(&explained(
        resolve(&profile, &fixture::alpha(), "a").explain(),
    ));
    assert_eq!(profile.default_filter().text, "all()");
    assert_eq!(profile.default_filter().origin, Origin::Default);
}

/// Every key that a profile can have, with a value other than the default.
const EVERY_KEY: &str = r#"
[test-groups.serial]
max-threads = 1

[test-groups.most]
max-threads = -1

[profile.ci]
default-filter = "not test(slow)"
test-threads = -2
order = "name"
threads-required = "num-cpus"
memory-required = "learnt"
retries = { backoff = "exponential", count = 3, delay = "1s", jitter = true, max-delay = "5s" }
flaky-result = "fail"
slow-timeout = { period = "30s", terminate-after = 4, grace-period = "0s", on-timeout = "pass" }
leak-timeout = { period = "500ms", result = "fail" }
leak = "allow"
memory-max = "512 MiB"
pids-max = 100
cpu-max = 1.5
global-timeout = "1h 30m"
list-timeout = "5s"
fail-fast = { max-fail = 5, terminate = "immediate" }
run-extra-args = ["--verbose", "a b"]
require-result = false
status-level = "all"
final-status-level = "retry"
failure-output = "immediate-final"
success-output = "final"
trace = { level = "full", required = true, backend = "ptrace", no-new-privs = false }
output-cap = "1 MiB"
durations = 10
durations-by = "memory"

[profile.ci.junit]
path = "junit.xml"
report-name = "mine"
schema = "junit-10"
store-success-output = true
store-failure-output = false
report-skipped = "ignored"
flaky-fail-status = "success"
output-cap = 1000

[[profile.ci.overrides]]
filter = "test(heavy)"
platform = { host = "cfg(unix)", target = "cfg(target_os = \"linux\")" }
priority = -100
test-group = "serial"
threads-required = "num-test-threads"
exclusive = true
memory-required = "2GiB"
retries = { backoff = "fixed", count = 2, delay = "1s" }
slow-timeout = "2m"
leak-timeout = "1s"
memory-max = "none"
cpu-max = 2
run-extra-args = []
require-result = true
failure-output = "never"
trace = "off"
junit.report-skipped = "all"
"#;

#[test]
fn every_key_is_read() {
    let (config, warnings) =
        Config::parse("harness.toml".into(), EVERY_KEY.to_owned()).expect("it is right");
    assert_eq!(warnings, []);
    assert_eq!(config.test_groups()["most"], TestThreads::CpusMinus(1));

    let profile = compile(EVERY_KEY, "ci");
    let explained = |settings: Vec<Explained>| -> String {
        settings
            .iter()
            .map(
                |Explained {
                     key, value, origin, ..
                 }| format!("{key} = {value}  # {origin}\n"),
            )
            .collect()
    };
    expect![[r#"
        test-threads = -2  # profile `ci`
        order = "name"  # profile `ci`
        timings = none  # built-in default
        fail-fast = { max-fail = 5, terminate = "immediate" }  # profile `ci`
        global-timeout = "1h 30m"  # profile `ci`
        bench.global-timeout = none  # built-in default
        list-timeout = "5s"  # profile `ci`
        status-level = "all"  # profile `ci`
        final-status-level = "flaky"  # profile `ci`
        durations = 10  # profile `ci`
        durations-by = "memory"  # profile `ci`
        output-cap = "1 MiB"  # profile `ci`
        keep-size = "1 GiB"  # built-in default
        warn-credentials = true  # built-in default
        junit.path = "junit.xml"  # profile `ci`
        junit.report-name = "mine"  # profile `ci`
        junit.schema = "junit-10"  # profile `ci`
        junit.output-cap = 1000  # profile `ci`
        junit.attachments = false  # built-in default
        html.path = none  # built-in default
        ctrf.path = none  # built-in default
        allure.path = none  # built-in default
        doctests = "warn"  # built-in default
        reuse.mode = "off"  # built-in default
        reuse.audit = "5%"  # built-in default
        reuse.read-only = false  # built-in default
        reuse.functions = true  # built-in default
        reuse.lifetime = "14days"  # built-in default
        reuse.ignore-environment = []  # built-in default
        remote.address = ""  # built-in default
        remote.instance = ""  # built-in default
        remote.slots = 16  # built-in default
        remote.ca = none  # built-in default
        remote.certificate = none  # built-in default
        remote.key = none  # built-in default
        remote.server-name = ""  # built-in default
        remote.token-file = none  # built-in default
        remote.token-command = []  # built-in default
        remote.tries = 4  # built-in default
        remote.patience = "30m"  # built-in default
        remote.variables = []  # built-in default
        archive.include = []  # built-in default
    "#]]
    .assert_eq(&explained(profile.explain_run()));
    let expected = expect![[r#"
        retries = { backoff = "exponential", count = 3, delay = "1s", jitter = true, max-delay = "5s" }  # profile `ci`
        flaky-result = "fail"  # profile `ci`
        slow-timeout = { period = "30s", terminate-after = 4, grace-period = "0s", on-timeout = "pass" }  # profile `ci`
        bench.slow-timeout = { period = "30years", grace-period = "10s", on-timeout = "fail" }  # built-in default
        leak-timeout = { period = "500ms", result = "fail" }  # profile `ci`
        leak = "allow"  # profile `ci`
        memory-max = "512 MiB"  # profile `ci`
        pids-max = 100  # profile `ci`
        cpu-max = 1.5  # profile `ci`
        threads-required = "num-cpus"  # profile `ci`
        exclusive = false  # built-in default
        memory-required = "learnt"  # profile `ci`
        test-group = "@global"  # built-in default
        priority = 0  # built-in default
        run-extra-args = ["--verbose", "a b"]  # profile `ci`
        env = {}  # built-in default
        require-result = false  # profile `ci`
        trace.level = "full"  # profile `ci`
        trace.required = true  # profile `ci`
        trace.backend = "ptrace"  # profile `ci`
        trace.no-new-privs = false  # profile `ci`
        policy.mode = "observe"  # built-in default
        policy.fs.read = "all"  # built-in default
        policy.fs.write = "all"  # built-in default
        policy.fs.exec = "all"  # built-in default
        policy.net = "all"  # built-in default
        policy.ipc = "all"  # built-in default
        budget = {}  # built-in default
        remote.allow = true  # built-in default
        remote.properties = {}  # built-in default
        remote.backup-after = none  # built-in default
        success-output = "final"  # profile `ci`
        failure-output = "immediate-final"  # profile `ci`
        junit.store-success-output = true  # profile `ci`
        junit.store-failure-output = false  # profile `ci`
        junit.report-skipped = "ignored"  # profile `ci`
        junit.flaky-fail-status = "success"  # profile `ci`
    "#]];
    expected.assert_eq(&explained(
        resolve(&profile, &fixture::alpha(), "light").explain(),
    ));
    let expected = expect![[r#"
        retries = { backoff = "fixed", count = 2, delay = "1s", jitter = false }  # `overrides[0]` of profile `ci` (filter `test(heavy)`, platform `host = cfg(unix), target = cfg(target_os = "linux")`)
        flaky-result = "fail"  # profile `ci`
        slow-timeout = { period = "2m", grace-period = "10s", on-timeout = "fail" }  # `overrides[0]` of profile `ci` (filter `test(heavy)`, platform `host = cfg(unix), target = cfg(target_os = "linux")`)
        bench.slow-timeout = { period = "30years", grace-period = "10s", on-timeout = "fail" }  # built-in default
        leak-timeout = { period = "1s", result = "pass" }  # `overrides[0]` of profile `ci` (filter `test(heavy)`, platform `host = cfg(unix), target = cfg(target_os = "linux")`)
        leak = "allow"  # profile `ci`
        memory-max = "none"  # `overrides[0]` of profile `ci` (filter `test(heavy)`, platform `host = cfg(unix), target = cfg(target_os = "linux")`)
        pids-max = 100  # profile `ci`
        cpu-max = 2  # `overrides[0]` of profile `ci` (filter `test(heavy)`, platform `host = cfg(unix), target = cfg(target_os = "linux")`)
        threads-required = "num-test-threads"  # `overrides[0]` of profile `ci` (filter `test(heavy)`, platform `host = cfg(unix), target = cfg(target_os = "linux")`)
        exclusive = true  # `overrides[0]` of profile `ci` (filter `test(heavy)`, platform `host = cfg(unix), target = cfg(target_os = "linux")`)
        memory-required = "2 GiB"  # `overrides[0]` of profile `ci` (filter `test(heavy)`, platform `host = cfg(unix), target = cfg(target_os = "linux")`)
        test-group = "serial"  # `overrides[0]` of profile `ci` (filter `test(heavy)`, platform `host = cfg(unix), target = cfg(target_os = "linux")`)
        priority = -100  # `overrides[0]` of profile `ci` (filter `test(heavy)`, platform `host = cfg(unix), target = cfg(target_os = "linux")`)
        run-extra-args = []  # `overrides[0]` of profile `ci` (filter `test(heavy)`, platform `host = cfg(unix), target = cfg(target_os = "linux")`)
        env = {}  # built-in default
        require-result = true  # `overrides[0]` of profile `ci` (filter `test(heavy)`, platform `host = cfg(unix), target = cfg(target_os = "linux")`)
        trace.level = "off"  # `overrides[0]` of profile `ci` (filter `test(heavy)`, platform `host = cfg(unix), target = cfg(target_os = "linux")`)
        trace.required = true  # profile `ci`
        trace.backend = "ptrace"  # profile `ci`
        trace.no-new-privs = false  # profile `ci`
        policy.mode = "observe"  # built-in default
        policy.fs.read = "all"  # built-in default
        policy.fs.write = "all"  # built-in default
        policy.fs.exec = "all"  # built-in default
        policy.net = "all"  # built-in default
        policy.ipc = "all"  # built-in default
        budget = {}  # built-in default
        remote.allow = true  # built-in default
        remote.properties = {}  # built-in default
        remote.backup-after = none  # built-in default
        success-output = "final"  # profile `ci`
        failure-output = "never"  # `overrides[0]` of profile `ci` (filter `test(heavy)`, platform `host = cfg(unix), target = cfg(target_os = "linux")`)
        junit.store-success-output = true  # profile `ci`
        junit.store-failure-output = false  # profile `ci`
        junit.report-skipped = "all"  # `overrides[0]` of profile `ci` (filter `test(heavy)`, platform `host = cfg(unix), target = cfg(target_os = "linux")`)
        junit.flaky-fail-status = "success"  # profile `ci`
    "#]];
    expected.assert_eq(&explained(
        resolve(&profile, &fixture::alpha(), "heavy").explain(),
    ));
    assert_eq!(profile.default_filter().text, "not test(slow)");
}

#[test]
fn a_setting_comes_from_the_nearest_profile_that_has_it() {
    let text = r#"
        [profile.default]
        retries = 1
        success-output = "final"
        failure-output = "final"
        [profile.ci]
        retries = 2
        failure-output = "never"
        junit.path = "junit.xml"
        [profile.nightly]
        inherits = "ci"
        retries = 3
    "#;
    let profile = compile(text, "nightly");
    let resolved = resolve(&profile, &fixture::alpha(), "a");
    assert_eq!(resolved.settings.retries.count(), 3);
    assert_eq!(resolved.settings.output.failure, OutputWhen::Never);
    assert_eq!(resolved.settings.output.success, OutputWhen::Final);
    assert_eq!(
        resolved.origins.get(TestSetting::FailureOutput).to_string(),
        "profile `ci`"
    );
    assert_eq!(
        profile.run_settings().junit_path.as_deref(),
        Some("junit.xml".into())
    );
    assert_eq!(
        profile.run_origins().get(RunSetting::JunitPath).to_string(),
        "profile `ci`"
    );
}

#[test]
fn the_miri_profile_is_always_there() {
    let profile = compile("profile.default.retries = 4", MIRI_PROFILE);
    assert_eq!(retries(&profile, &fixture::alpha(), "a"), 4);
}

#[test]
fn the_first_override_that_has_a_setting_wins() {
    let text = r#"
        [[profile.default.overrides]]
        filter = "test(a)"
        retries = 1
        [[profile.default.overrides]]
        filter = "test(ab)"
        retries = 2
        priority = 7
    "#;
    let profile = compile(text, "default");
    let resolved = resolve(&profile, &fixture::alpha(), "ab");
    assert_eq!(resolved.settings.retries.count(), 1);
    assert_eq!(resolved.settings.priority, 7);
    assert_eq!(
        resolved.origins.get(TestSetting::Priority).to_string(),
        "`overrides[1]` of profile `default` (filter `test(ab)`)"
    );
}

#[test]
fn overrides_are_inherited_through_the_whole_chain() {
    let text = r#"
        [[profile.default.overrides]]
        filter = "all()"
        retries = 1
        priority = 1
        slow-timeout = "1s"
        [[profile.ci.overrides]]
        filter = "all()"
        retries = 2
        priority = 2
        [profile.nightly]
        inherits = "ci"
        [[profile.nightly.overrides]]
        filter = "all()"
        retries = 3
    "#;
    let settings = &resolve(&compile(text, "nightly"), &fixture::alpha(), "a").settings;
    assert_eq!(settings.retries.count(), 3);
    assert_eq!(settings.priority, 2);
    assert_eq!(settings.slow_timeout.period, Duration::from_secs(1));
}

#[test]
fn an_override_of_any_profile_beats_what_a_nearer_profile_says_for_all_tests() {
    let text = r#"
        [[profile.default.overrides]]
        filter = "all()"
        retries = 1
        [profile.ci]
        retries = 2
    "#;
    assert_eq!(retries(&compile(text, "ci"), &fixture::alpha(), "a"), 1);
}

#[test]
fn the_command_line_beats_everything() {
    let text = r#"
        [profile.default]
        test-threads = 3
        [[profile.default.overrides]]
        filter = "all()"
        retries = { backoff = "fixed", count = 5, delay = "1h" }
    "#;
    let cli = CliOverrides {
        test: TestLayer {
            retries: Some(RetryPolicy::at_once(2)),
            ..TestLayer::default()
        },
        run: RunLayer {
            test_threads: Some(TestThreads::Count(9)),
            ..RunLayer::default()
        },
        ..CliOverrides::default()
    };
    let profile = compile_for(text, "default", &linux(), cli).expect("it is right");
    let resolved = resolve(&profile, &fixture::alpha(), "a");
    assert_eq!(resolved.settings.retries, RetryPolicy::at_once(2));
    assert_eq!(
        *resolved.origins.get(TestSetting::Retries),
        Origin::CommandLine
    );
    assert_eq!(profile.run_settings().test_threads, TestThreads::Count(9));
}

#[test]
fn benchmarks_have_the_limits_of_benchmarks_and_tests_those_of_tests() {
    let text = r#"
        [profile.default]
        slow-timeout = "1s"
        global-timeout = "2s"
        bench.global-timeout = "20s"
        [[profile.default.overrides]]
        filter = "test(a)"
        bench = { slow-timeout = { period = "10s", terminate-after = 3 } }
    "#;
    let limits = |mode| {
        let cli = CliOverrides {
            mode,
            ..CliOverrides::default()
        };
        let profile = compile_for(text, "default", &linux(), cli).expect("it is right");
        let slow = |test| {
            resolve(&profile, &fixture::alpha(), test)
                .settings
                .slow_timeout
        };
        let (a, b) = (slow("a"), slow("b"));
        let whole = profile.global_timeout().map(|limit| limit.as_secs());
        (
            a.period.as_secs(),
            b.period.as_secs(),
            a.terminate_after.is_some(),
            whole,
        )
    };
    assert_eq!(limits(RunMode::Test), (1, 1, false, Some(2)));
    let thirty_years = 30 * 31_557_600;
    assert_eq!(
        limits(RunMode::Benchmark),
        (10, thirty_years, true, Some(20))
    );
}

#[test]
fn the_default_filter_is_that_of_the_nearest_profile_that_has_one() {
    let text = r#"
        [profile.default]
        default-filter = "test(default)"
        [profile.ci]
        default-filter = "test(ci)"
        [profile.nightly]
        inherits = "ci"
        [profile.other]
    "#;
    let nightly = compile(text, "nightly");
    assert_eq!(nightly.default_filter().text, "test(ci)");
    assert_eq!(nightly.default_filter().origin.to_string(), "profile `ci`");
    assert_eq!(
        compile(text, "other").default_filter().text,
        "test(default)"
    );
}

#[test]
fn the_default_filter_can_be_another_for_a_platform() {
    let text = r#"
        [profile.ci]
        default-filter = "all()"
        [[profile.ci.overrides]]
        platform = "cfg(windows)"
        default-filter = "not test(unix)"
        [[profile.ci.overrides]]
        platform = "cfg(target_arch = \"x86_64\")"
        default-filter = "not test(arm)"
    "#;
    assert_eq!(compile(text, "ci").default_filter().text, "not test(arm)");
    let windows = compile_for(text, "ci", &windows_from_linux(), CliOverrides::default());
    let windows = windows.expect("it is right");
    assert_eq!(windows.default_filter().text, "not test(unix)");
    assert_eq!(
        windows.default_filter().origin.to_string(),
        "`overrides[0]` of profile `ci` (platform `cfg(windows)`)"
    );
}

#[test]
fn a_platform_is_that_which_the_binary_is_built_for() {
    let text = r#"
        [[profile.ci.overrides]]
        platform = "cfg(windows)"
        retries = 1
        [[profile.ci.overrides]]
        platform = "x86_64-unknown-linux-gnu"
        retries = 2
        [[profile.ci.overrides]]
        platform = { host = "cfg(windows)" }
        priority = 1
        [[profile.ci.overrides]]
        platform = { host = "cfg(unix)", target = "cfg(windows)" }
        priority = 2
    "#;
    let profile = compile_for(text, "ci", &windows_from_linux(), CliOverrides::default());
    let profile = profile.expect("it is right");
    assert_eq!(retries(&profile, &fixture::alpha(), "a"), 1);
    assert_eq!(retries(&profile, &fixture::macros(), "a"), 2);
    assert_eq!(
        resolve(&profile, &fixture::alpha(), "a").settings.priority,
        2
    );
    assert_eq!(
        resolve(&profile, &fixture::macros(), "a").settings.priority,
        0
    );
    assert_eq!(retries(&compile(text, "ci"), &fixture::alpha(), "a"), 2);
}

#[test]
fn with_several_targets_an_override_is_for_the_binaries_of_those_that_match() {
    let text = r#"
        [[profile.ci.overrides]]
        platform = "cfg(windows)"
        retries = 1
        default-filter = "not test(unix)"
        [[profile.ci.overrides]]
        platform = "cfg(unix)"
        filter = "binary_id(alpha) | package(macros)"
        retries = 2
    "#;
    let (linux_gnu, windows) = ("x86_64-unknown-linux-gnu", "x86_64-pc-windows-gnu");
    let platforms = Platforms {
        targets: vec![named(windows), named(linux_gnu)],
        ..linux()
    };
    let profile = compile_for(text, "ci", &platforms, CliOverrides::default());
    let profile = profile.expect("it is right");
    let retries = |binary: fixture::Binary| retries(&profile, &binary, "a");
    assert_eq!(retries(fixture::alpha().of_target(windows)), 1);
    assert_eq!(retries(fixture::alpha().of_target(linux_gnu)), 2);
    assert_eq!(retries(fixture::macros()), 2, "it is the host's");
    // What bounds the run would hide tests of the other target.
    assert_eq!(profile.default_filter().text, "all()");
}

#[test]
fn an_override_that_depends_on_unknown_target_features_applies() {
    let text = r#"
        [[profile.default.overrides]]
        platform = "cfg(target_feature = \"avx512f\")"
        retries = 1
    "#;
    assert_eq!(
        retries(&compile(text, "default"), &fixture::alpha(), "a"),
        1
    );
}

#[test]
fn an_override_can_build_on_the_default_filter() {
    let text = r#"
        [profile.default]
        default-filter = "test(fast)"
        [[profile.default.overrides]]
        filter = "not default()"
        retries = 1
    "#;
    let profile = compile(text, "default");
    assert_eq!(retries(&profile, &fixture::alpha(), "slow"), 1);
    assert_eq!(retries(&profile, &fixture::alpha(), "fast"), 0);
}

#[test]
fn tests_to_which_the_same_overrides_apply_share_their_settings() {
    let text = r#"
        [[profile.default.overrides]]
        filter = "package(alpha)"
        retries = 1
        [[profile.default.overrides]]
        filter = "package(beta) and test(b)"
        retries = 2
    "#;
    let profile = compile(text, "default");
    let settings = |binary, test| Arc::clone(&resolve(&profile, binary, test).settings);
    let (alpha, integration) = (fixture::alpha(), fixture::integration());
    let (beta, macros) = (fixture::beta(), fixture::macros());
    assert!(Arc::ptr_eq(
        &settings(&alpha, "a"),
        &settings(&integration, "b")
    ));
    assert!(Arc::ptr_eq(&settings(&beta, "a"), &settings(&macros, "b")));
    assert!(!Arc::ptr_eq(&settings(&beta, "a"), &settings(&beta, "b")));
    assert_eq!(retries(&profile, &beta, "b"), 2);
}

#[test]
fn a_filterset_of_something_that_does_not_exist_is_shown_with_its_place() {
    let text = r#"
[[profile.ci.overrides]]
filter = "all()"
[[profile.ci.overrides]]
filter = "package(gamma) | rdeps(delta)"
"#;
    let error = compile_for(text, "ci", &linux(), CliOverrides::default());
    let error = error.expect_err("there is no such package");
    expect!["harness.toml:5:10: `profile.ci.overrides[1].filter` is not a valid filterset"]
        .assert_eq(&error.to_string());
    let diagrams = error.filterset().expect("it is about a filterset");
    expect![[r#"
        wrong:
          × operator didn't match any packages
           ╭────
         1 │ package(gamma) | rdeps(delta)
           ·         ──┬──
           ·           ╰── no packages matched this
           ╰────
          × operator didn't match any packages
           ╭────
         1 │ package(gamma) | rdeps(delta)
           ·                        ──┬──
           ·                          ╰── no packages matched this
           ╰────"#]]
    .assert_eq(&format!("wrong:\n{diagrams}"));
}

#[test]
fn predicates_that_a_configuration_cannot_use_are_errors() {
    let diagrams = |text: &str| {
        let error = compile_for(text, "default", &linux(), CliOverrides::default());
        let error = error.expect_err("the predicate is not allowed");
        let diagrams = error.filterset().expect("it is about a filterset");
        format!("wrong:\n{diagrams}")
    };
    expect![[r#"
        wrong:
          × predicate not allowed in `default-filter` expressions
           ╭────
         1 │ not default()
           ·     ────┬────
           ·         ╰── default() causes infinite recursion
           ╰────"#]]
    .assert_eq(&diagrams(
        "profile.default.default-filter = 'not default()'",
    ));
    expect![[r#"
        wrong:
          × predicate not allowed in `override-filter` expressions
           ╭────
         1 │ group(@global)
           ·       ───┬───
           ·          ╰── group() creates a circular dependency with overrides
           ╰────"#]]
    .assert_eq(&diagrams(
        "[[profile.default.overrides]]\nfilter = 'group(@global)'\nretries = 1",
    ));
}

#[test]
fn what_an_override_says_of_tracing_leaves_the_rest_as_it_was() {
    let text = r#"
        [profile.default]
        trace = { level = "process", required = true }
        [[profile.default.overrides]]
        filter = "test(ptrace)"
        trace = "off"
        [[profile.default.overrides]]
        filter = "test(sudo)"
        trace = { level = "full", backend = "notify", no-new-privs = false }
        [[profile.default.overrides]]
        filter = "test(sudo_)"
        trace = { level = "io" }
    "#;
    let profile = compile(text, "default");
    let trace = |test| resolve(&profile, &fixture::alpha(), test).settings.trace;
    let default = TraceSetting {
        level: TraceLevel::Process,
        required: true,
        backend: TraceBackend::Auto,
        no_new_privs: true,
    };
    assert_eq!(trace("a"), default);
    assert_eq!(
        trace("ptrace"),
        TraceSetting {
            level: TraceLevel::Off,
            ..default
        }
    );
    // The first of two overrides wins, as for every setting.
    assert_eq!(
        trace("sudo_"),
        TraceSetting {
            level: TraceLevel::Full,
            backend: TraceBackend::Notify,
            no_new_privs: false,
            ..default
        }
    );
}

#[test]
fn profiles_can_be_used_from_several_threads() {
    fn check<T: Send + Sync>() {}
    check::<Config>();
    check::<Profile>();
    check::<CompiledProfile>();
    check::<BinarySettings<'_>>();
    check::<ConfigError>();
}

#[test]
fn the_first_place_that_says_what_a_leak_counts_as_is_right() {
    let policy = |default: &str, ci: &str, heavy: &str| {
        let text = format!(
            "[profile.default]\n{default}\n[profile.ci]\n{ci}\n[[profile.ci.overrides]]\n\
             filter = 'test(heavy)'\n{heavy}\n"
        );
        let profile = compile(&text, "ci");
        resolve(&profile, &fixture::alpha(), "heavy").settings.leak
    };
    const FAIL: &str = "leak-timeout = { period = '1s', result = 'fail' }";
    const PASS: &str = "leak-timeout = { period = '1s', result = 'pass' }";
    const PERIOD: &str = "leak-timeout = '2s'";
    assert_eq!(policy("", "", ""), LeakPolicy::Warn);
    assert_eq!(policy("", FAIL, ""), LeakPolicy::Fail);
    assert_eq!(policy("leak = 'fail'", "", ""), LeakPolicy::Fail);
    assert_eq!(
        policy("leak = 'fail'", "", "leak = 'allow'"),
        LeakPolicy::Allow
    );
    assert_eq!(policy("leak = 'fail'", "", PASS), LeakPolicy::Warn);
    assert_eq!(policy("", FAIL, "leak = 'allow'"), LeakPolicy::Allow);
    assert_eq!(policy("leak = 'allow'", "", FAIL), LeakPolicy::Fail);
    // Where one place says both.
    assert_eq!(
        policy("", &format!("leak = 'allow'\n{FAIL}"), ""),
        LeakPolicy::Allow
    );
    // A window alone says nothing of it, but replaces the table of another place.
    assert_eq!(policy("leak = 'fail'", "", PERIOD), LeakPolicy::Fail);
    assert_eq!(policy("", FAIL, PERIOD), LeakPolicy::Warn);
    assert_eq!(policy("leak = 'allow'", FAIL, PERIOD), LeakPolicy::Allow);
}
