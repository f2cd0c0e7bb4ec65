//! What one place of a configuration sets, and how several places add up.
//!
//! A layer holds what the command line, an override or a profile sets. Layers are laid over each
//! other in order of precedence; for each setting the first layer that has it wins, and its
//! [`Origin`] is kept.

use super::{
    error::Place,
    settings::{
        FlakyResult, LeakPolicy, LeakTimeout, MaxFail, RetryPolicy, SlowTimeout, TestGroup,
        TestThreads, ThreadsRequired, TimeoutResult, TraceBackend, TraceSetting,
    },
    show::Show,
    value::{GRACE_PERIOD, SLOW_PERIOD},
};
use camino::Utf8PathBuf;
use harness_metadata::{
    Cpus, FinalStatusLevel, ReportSkipped, StatusLevel,
    event::{OutputWhen, TraceLevel},
};
use std::{fmt, sync::Arc, time::Duration};

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A profile, by name.
    Profile(Arc<str>),
    /// An override.
    Override(Arc<OverrideOrigin>),
    /// The command line or the environment.
    CommandLine,
}

/// An override, as messages name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideOrigin {
    /// The profile that has it.
    pub profile: Arc<str>,
    /// Its index among the profile's overrides, from 0.
    pub index: usize,
    /// Its filterset.
    pub filter: Option<String>,
    /// Its platforms, as they are written.
    pub platform: Option<String>,
    /// Where it stands.
    pub place: Place,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("built-in default"),
            Self::Profile(name) => write!(f, "profile `{name}`"),
            Self::Override(origin) => origin.fmt(f),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

impl fmt::Display for OverrideOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`overrides[{}]` of profile `{}`",
            self.index, self.profile
        )?;
        let conditions = [("filter", &self.filter), ("platform", &self.platform)];
        let conditions: Vec<String> = conditions
            .into_iter()
            .filter_map(|(name, text)| text.as_ref().map(|text| format!("{name} `{text}`")))
            .collect();
        if conditions.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", conditions.join(", "))
        }
    }
}

/// A setting as `show-config` explains it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The key in the configuration.
    pub key: &'static str,
    /// The value, as it would be written in the configuration.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Defines a layer, the values that layers add up to, and the names of its settings.
macro_rules! layer {
    (
        $(#[$layer_doc:meta])* layer $Layer:ident;
        $(#[$values_doc:meta])* values $Values:ident;
        $(#[$setting_doc:meta])* setting $Setting:ident;
        $(#[$origins_doc:meta])* origins $Origins:ident;
        $($(#[$doc:meta])* $field:ident, $Name:ident, $key:literal: $type:ty = $default:expr;)+
    ) => {
        $(#[$layer_doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $Layer {
            $($(#[$doc])* pub $field: Option<$type>,)+
        }

        $(#[$values_doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Values {
            $($(#[$doc])* pub $field: $type,)+
        }

        $(#[$setting_doc])*
        #[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $Setting {
            $($(#[$doc])* $Name,)+
        }

        impl $Setting {
            /// All settings, in the order in which they are explained.
            pub const ALL: &'static [Self] = &[$(Self::$Name),+];

            /// Returns the key in the configuration.
            pub fn key(self) -> &'static str {
                match self {
                    $(Self::$Name => $key,)+
                }
            }
        }

        $(#[$origins_doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $Origins([Origin; $Setting::ALL.len()]);

        impl $Origins {
            /// Returns where a setting comes from.
            pub fn get(&self, setting: $Setting) -> &Origin {
                &self.0[setting as usize]
            }
        }

        impl $Values {
            /// Lays layers over each other, the one that wins first.
            pub(super) fn merge<'a>(
                layers: impl IntoIterator<Item = (&'a $Layer, &'a Origin)>,
            ) -> (Self, $Origins) {
                let mut merged = $Layer::default();
                let mut origins = $Origins([const { Origin::Default }; $Setting::ALL.len()]);
                for (layer, origin) in layers {
                    $(if let (None, Some(value)) = (&merged.$field, &layer.$field) {
                        merged.$field = Some(value.clone());
                        origins.0[$Setting::$Name as usize] = origin.clone();
                    })+
                }
                let values = Self { $($field: merged.$field.unwrap_or_else(|| $default),)+ };
                (values, origins)
            }

            /// Returns every setting with its value and its origin.
            pub(super) fn explain(&self, origins: &$Origins) -> Vec<Explained> {
                vec![$(Explained {
                    key: $key,
                    value: self.$field.show(),
                    origin: origins.get($Setting::$Name).clone(),
                },)+]
            }
        }
    };
}

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
    retries, Retries, "retries": RetryPolicy = RetryPolicy::NONE;
    /// What a test that passes after a failure counts as.
    flaky_result, FlakyResult, "flaky-result": FlakyResult = FlakyResult::Pass;
    /// When a test is slow, and when it is ended.
    slow_timeout, SlowTimeout, "slow-timeout": SlowTimeout = SlowTimeout {
        period: SLOW_PERIOD,
        terminate_after: None,
        grace_period: GRACE_PERIOD,
        on_timeout: TimeoutResult::Fail,
    };
    /// How long descendants and open output may outlive the test.
    leak_timeout, LeakTimeout, "leak-timeout": LeakTimeout = LeakTimeout {
        period: Duration::from_millis(200),
        result: None,
    };
    /// What a test counts as that leaves something behind.
    leak, Leak, "leak": LeakPolicy = LeakPolicy::Warn;
    /// How much memory the test may use; `None` for any.
    memory_max, MemoryMax, "memory-max": Option<u64> = None;
    /// How many processes and threads the test may have at the same time; `None` for any number.
    pids_max, PidsMax, "pids-max": Option<u32> = None;
    /// How many CPUs the test may use; `None` for all.
    cpu_max, CpuMax, "cpu-max": Option<Cpus> = None;
    /// How many of the run's slots the test takes.
    threads_required, ThreadsRequired, "threads-required": ThreadsRequired =
        ThreadsRequired::Count(1);
    /// The group that limits how many tests like it run at once.
    test_group, TestGroup, "test-group": TestGroup = TestGroup::Global;
    /// Tests with a higher priority start earlier.
    priority, Priority, "priority": i8 = 0;
    /// Arguments added to the test's command line.
    run_extra_args, RunExtraArgs, "run-extra-args": Vec<String> = Vec::new();
    /// How closely the test is watched.
    trace_level, TraceLevel, "trace.level": TraceLevel = TraceSetting::default().level;
    /// Whether the run fails rather than watch less closely.
    trace_required, TraceRequired, "trace.required": bool = TraceSetting::default().required;
    /// What the test may be traced by.
    trace_backend, TraceBackend, "trace.backend": TraceBackend =
        TraceSetting::default().backend;
    /// Whether no_new_privs may be set for the test.
    trace_no_new_privs, TraceNoNewPrivs, "trace.no-new-privs": bool =
        TraceSetting::default().no_new_privs;
    /// When the output of a test that passes is shown.
    success_output, SuccessOutput, "success-output": OutputWhen = OutputWhen::Never;
    /// When the output of a test that fails is shown.
    failure_output, FailureOutput, "failure-output": OutputWhen = OutputWhen::Immediate;
    /// Whether JUnit reports have the output of a test that passes.
    junit_success, JunitSuccess, "junit.store-success-output": bool = false;
    /// Whether JUnit reports have the output of a test that fails.
    junit_failure, JunitFailure, "junit.store-failure-output": bool = true;
    /// Which tests that did not run JUnit reports mention.
    report_skipped, ReportSkipped, "junit.report-skipped": ReportSkipped = ReportSkipped::None;
    /// What a test that passes in the end but fails as flaky is in JUnit reports.
    flaky_fail_status, FlakyFailStatus, "junit.flaky-fail-status": FlakyFailStatus =
        FlakyFailStatus::Failure;
}

/// What a test that passes in the end but fails as flaky is in JUnit reports.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum FlakyFailStatus {
    /// A failure.
    Failure,
    /// A success.
    Success,
}

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
    test_threads, TestThreads, "test-threads": TestThreads = TestThreads::NumCpus;
    /// When the run gives up.
    max_fail, MaxFail, "fail-fast": MaxFail = MaxFail::from_fail_fast(true);
    /// How long the run may take; `None` for ever.
    global_timeout, GlobalTimeout, "global-timeout": Option<Duration> = None;
    /// How long listing the tests of a binary may take.
    list_timeout, ListTimeout, "list-timeout": Duration = Duration::from_secs(60);
    /// Which tests get a line as they finish.
    status_level, StatusLevel, "status-level": StatusLevel = StatusLevel::Pass;
    /// Which tests get a line at the end.
    final_status_level, FinalStatusLevel, "final-status-level": FinalStatusLevel =
        FinalStatusLevel::Flaky;
    /// How many of the slowest tests are named at the end.
    durations, Durations, "durations": usize = 0;
    /// How many bytes of each output stream are kept.
    output_cap, OutputCap, "output-cap": u64 = 64 << 20;
    /// Where the JUnit report goes, as it is written; `None` for no report.
    junit_path, JunitPath, "junit.path": Option<Utf8PathBuf> = None;
    /// The name of the JUnit report.
    junit_report_name, JunitReportName, "junit.report-name": String = "harness-run".to_owned();
    /// How many bytes of each output stream go into the JUnit report.
    junit_output_cap, JunitOutputCap, "junit.output-cap": u64 = 1 << 20;
}

/// What the command line sets; it beats every profile and override.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CliOverrides {
    /// For every test.
    pub test: TestLayer,
    /// For the run as a whole.
    pub run: RunLayer,
}
