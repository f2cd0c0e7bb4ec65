//! The message for each mistake that a single value can have.

use super::*;
use expect_test::expect;

#[test]
fn wrong_types_name_what_is_expected_and_what_is_there() {
    error(
        "profile = 3",
        expect!["1:11: `profile` must be a table, but is the integer 3"],
    );
    error(
        "profile.ci = 'x'",
        expect![[r#"1:14: `profile.ci` must be a table, but is the string "x""#]],
    );
    line_error(
        "inherits = 3",
        expect![
            "2:12: `profile.default.inherits` must be a string, but is the integer 3; put it in quotes"
        ],
    );
    line_error(
        "default-filter = true",
        expect![
            "2:18: `profile.default.default-filter` must be a string, but is the boolean true; put it in quotes"
        ],
    );
    line_error(
        "test-threads = '4'",
        expect![[
            r#"2:16: `profile.default.test-threads` must be an integer or `"num-cpus"`, but is the string "4"; remove the quotes"#
        ]],
    );
    line_error(
        "test-threads = 'all'",
        expect![[
            r#"2:16: `profile.default.test-threads` must be an integer or `"num-cpus"`, but is the string "all""#
        ]],
    );
    line_error(
        "threads-required = 1.5",
        expect![[
            r#"2:20: `profile.default.threads-required` must be an integer, `"num-cpus"` or `"num-test-threads"`, but is the float 1.5"#
        ]],
    );
    line_error(
        "retries = '2'",
        expect![[
            r#"2:11: `profile.default.retries` must be an integer or a table with `backoff`, but is the string "2"; remove the quotes"#
        ]],
    );
    line_error(
        "slow-timeout = 60",
        expect![[
            r#"2:16: `profile.default.slow-timeout` must be a duration such as `"1m 30s"`, but is the integer 60; write `"60s"` for seconds"#
        ]],
    );
    line_error(
        "global-timeout = ['1h']",
        expect![[
            r#"2:18: `profile.default.global-timeout` must be a duration such as `"1m 30s"`, but is an array"#
        ]],
    );
    line_error(
        "fail-fast = 'true'",
        expect![[
            r#"2:13: `profile.default.fail-fast` must be a boolean or a table with `max-fail`, but is the string "true"; remove the quotes"#
        ]],
    );
    line_error(
        "retries = 99999999999999999999",
        expect![
            "2:11: `profile.default.retries` must be an integer or a table with `backoff`, but is an integer that is too large"
        ],
    );
    line_error(
        "fail-fast = 3",
        expect![
            "2:13: `profile.default.fail-fast` must be a boolean or a table with `max-fail`, but is the integer 3; write `{ max-fail = 3 }`"
        ],
    );
    line_error(
        "fail-fast = { max-fail = '5' }",
        expect![[
            r#"2:26: `profile.default.fail-fast.max-fail` must be an integer or `"all"`, but is the string "5"; write `max-fail = 5`"#
        ]],
    );
    line_error(
        "fail-fast = { max-fail = 'many' }",
        expect![[
            r#"2:26: `profile.default.fail-fast.max-fail` must be an integer or `"all"`, but is the string "many""#
        ]],
    );
    line_error(
        "run-extra-args = '--verbose'",
        expect![[
            r#"2:18: `profile.default.run-extra-args` must be an array of strings, but is the string "--verbose"; write `["--verbose"]`"#
        ]],
    );
    line_error(
        "run-extra-args = [1]",
        expect![
            "2:19: `profile.default.run-extra-args[0]` must be a string, but is the integer 1; put it in quotes"
        ],
    );
    line_error(
        "status-level = 3",
        expect![
            "2:16: `profile.default.status-level` must be a string, but is the integer 3; write one of `none`, `fail`, `retry`, `slow`, `leak`, `pass`, `skip`, `all`"
        ],
    );
    line_error(
        "success-output = false",
        expect![
            "2:18: `profile.default.success-output` must be a string, but is the boolean false; write one of `immediate`, `immediate-final`, `final`, `never`"
        ],
    );
    line_error(
        "junit = 'junit.xml'",
        expect![[r#"2:9: `profile.default.junit` must be a table, but is the string "junit.xml""#]],
    );
    line_error(
        "junit.store-success-output = 'true'",
        expect![[
            r#"2:30: `profile.default.junit.store-success-output` must be `true` or `false`, but is the string "true"; remove the quotes"#
        ]],
    );
    line_error(
        "trace = true",
        expect![[
            r#"2:9: `profile.default.trace` must be `"off"`, `"process"`, `"io"`, `"full"` or a table, but is the boolean true; write `"io"`"#
        ]],
    );
    line_error(
        "output-cap = 1.5",
        expect![[
            r#"2:14: `profile.default.output-cap` must be a size such as `"64 MiB"` or a number of bytes, but is the float 1.5"#
        ]],
    );
    line_error(
        "durations = 1979-05-27",
        expect!["2:13: `profile.default.durations` must be an integer, but is a date"],
    );
    line_error(
        "overrides = { filter = 'all()' }",
        expect![
            "2:13: `profile.default.overrides` must be an array of tables, but is a table; write `[[profile.default.overrides]]`"
        ],
    );
    override_error(
        "platform = 3",
        expect![
            "3:12: `profile.default.overrides[0].platform` must be a string or a table with `host` and `target`, but is the integer 3"
        ],
    );
    override_error(
        "priority = 'high'",
        expect![[
            r#"3:12: `profile.default.overrides[0].priority` must be an integer from -100 to 100, but is the string "high""#
        ]],
    );
}

#[test]
fn values_that_make_no_sense_say_why() {
    line_error(
        "test-threads = 0",
        expect!["2:16: `profile.default.test-threads` must not be 0: that would run nothing"],
    );
    line_error(
        "threads-required = 0",
        expect!["2:20: `profile.default.threads-required` must be at least 1"],
    );
    line_error(
        "retries = -1",
        expect!["2:11: `profile.default.retries` must be at least 0"],
    );
    line_error(
        "retries = 99999999999",
        expect!["2:11: `profile.default.retries` is too large"],
    );
    line_error(
        "slow-timeout = '60 bananas'",
        expect![[
            r#"2:16: `profile.default.slow-timeout` is not a duration such as `"1m 30s"`: unknown time unit "bananas", supported units: ns, us/µs, ms, sec, min, hours, days, weeks, months, years (and few variations)"#
        ]],
    );
    line_error(
        "slow-timeout = '0s'",
        expect!["2:16: `profile.default.slow-timeout` must be longer than zero"],
    );
    override_error(
        "slow-timeout = { terminate-after = 2 }",
        expect!["3:16: `profile.default.overrides[0].slow-timeout` lacks `period`"],
    );
    error(
        "[profile.ci]\nslow-timeout = { terminate-after = 2 }\n",
        expect!["2:16: `profile.ci.slow-timeout` lacks `period`"],
    );
    warnings(
        "[profile.default]\nslow-timeout = { terminate-after = 2 }\n",
        expect![""],
    );
    line_error(
        "slow-timeout = { period = '1s', terminate-after = 0 }",
        expect!["2:51: `profile.default.slow-timeout.terminate-after` must be at least 1"],
    );
    line_error(
        "slow-timeout = { period = '1s', on-timeout = 'ok' }",
        expect![
            "2:46: `profile.default.slow-timeout.on-timeout` must be one of `pass`, `fail`, not `ok`"
        ],
    );
    line_error(
        "memory-max = '100 KiB'",
        expect![
            "2:14: `profile.default.memory-max` must be at least 1 MiB: no program can start with less"
        ],
    );
    line_error(
        "memory-max = true",
        expect![[
            r#"2:14: `profile.default.memory-max` must be a size such as `"64 MiB"` or a number of bytes, but is the boolean true"#
        ]],
    );
    line_error(
        "pids-max = 0",
        expect!["2:12: `profile.default.pids-max` must be at least 1"],
    );
    line_error(
        "cpu-max = 0",
        expect!["2:11: `profile.default.cpu-max` must be from 0.01 to 1000000 CPUs"],
    );
    line_error(
        "cpu-max = nan",
        expect!["2:11: `profile.default.cpu-max` must be from 0.01 to 1000000 CPUs"],
    );
    line_error(
        "cpu-max = '2'",
        expect![[
            r#"2:11: `profile.default.cpu-max` must be a number of CPUs such as `1.5`, or `"none"`, but is the string "2""#
        ]],
    );
    line_error(
        "leak = 'deny'",
        expect!["2:8: `profile.default.leak` must be one of `allow`, `warn`, `fail`, not `deny`"],
    );
    line_error(
        "leak-timeout = { result = 'fail' }",
        expect!["2:16: `profile.default.leak-timeout` lacks `period`"],
    );
    line_error(
        "global-timeout = '0s'",
        expect!["2:18: `profile.default.global-timeout` must be longer than zero"],
    );
    line_error(
        "fail-fast = { max-fail = 0 }",
        expect!["2:26: `profile.default.fail-fast.max-fail` must be at least 1"],
    );
    line_error(
        "fail-fast = { terminate = 'wait' }",
        expect!["2:13: `profile.default.fail-fast` lacks `max-fail`"],
    );
    line_error(
        "fail-fast = { max-fail = 1, terminate = 'now' }",
        expect![
            "2:41: `profile.default.fail-fast.terminate` must be one of `wait`, `immediate`, not `now`"
        ],
    );
    line_error(
        "flaky-result = 'failed'",
        expect![
            "2:16: `profile.default.flaky-result` must be one of `pass`, `fail`, not `failed` (did you mean `fail`?)"
        ],
    );
    line_error(
        "status-level = 'pas'",
        expect![
            "2:16: `profile.default.status-level` must be one of `none`, `fail`, `retry`, `slow`, `leak`, `pass`, `skip`, `all`, not `pas` (did you mean `pass`?)"
        ],
    );
    line_error(
        "final-status-level = 'nothing'",
        expect![
            "2:22: `profile.default.final-status-level` must be one of `none`, `fail`, `flaky`, `slow`, `skip`, `leak`, `pass`, `all`, not `nothing`"
        ],
    );
    line_error(
        "failure-output = 'immediately'",
        expect![
            "2:18: `profile.default.failure-output` must be one of `immediate`, `immediate-final`, `final`, `never`, not `immediately` (did you mean `immediate`?)"
        ],
    );
    line_error(
        "junit.path = ''",
        expect!["2:14: `profile.default.junit.path` must not be empty"],
    );
    line_error(
        "junit.report-skipped = true",
        expect![
            "2:24: `profile.default.junit.report-skipped` must be a string, but is the boolean true; write one of `none`, `ignored`, `all`"
        ],
    );
    line_error(
        "junit.flaky-fail-status = 'error'",
        expect![
            "2:27: `profile.default.junit.flaky-fail-status` must be one of `failure`, `success`, not `error`"
        ],
    );
    line_error(
        "trace = 'oi'",
        expect![
            "2:9: `profile.default.trace` must be one of `off`, `process`, `io`, `full`, not `oi` (did you mean `io`?)"
        ],
    );
    line_error(
        "trace = { level = 'fill' }",
        expect![
            "2:19: `profile.default.trace.level` must be one of `off`, `process`, `io`, `full`, not `fill` (did you mean `full`?)"
        ],
    );
    line_error(
        "trace = { backend = 'seccomp' }",
        expect![
            "2:21: `profile.default.trace.backend` must be one of `auto`, `ptrace`, `recorder`, `recorder-verified`, `notify`, `none`, not `seccomp`"
        ],
    );
    line_error(
        "trace = { no-new-privs = 'true' }",
        expect![
            "2:26: `profile.default.trace.no-new-privs` must be `true` or `false`, but is the string \"true\"; remove the quotes"
        ],
    );
    line_error(
        "output-cap = '64 megs'",
        expect![
            "2:14: `profile.default.output-cap` is not a size: `64 megs` should be a whole number followed by B, kB, MB, GB, KiB, MiB or GiB"
        ],
    );
    line_error(
        "output-cap = -1",
        expect!["2:14: `profile.default.output-cap` must not be negative"],
    );
}

#[test]
fn retries_are_validated_as_a_whole() {
    line_error(
        "retries = {}",
        expect![[
            r#"2:11: `profile.default.retries` lacks `backoff`, which is `"fixed"` or `"exponential"`"#
        ]],
    );
    line_error(
        "retries = { backoff = 'fixed' }",
        expect!["2:11: `profile.default.retries` lacks `count`"],
    );
    line_error(
        "retries = { backoff = 'linear', count = 1 }",
        expect![
            "2:23: `profile.default.retries.backoff` must be one of `fixed`, `exponential`, not `linear`"
        ],
    );
    line_error(
        "retries = { backoff = 'fixed', count = 1, delay = '0s', jitter = true }",
        expect![
            "2:66: `profile.default.retries.jitter` needs `delay`, because without one there is nothing to vary"
        ],
    );
    line_error(
        "retries = { backoff = 'fixed', count = 1, jitter = true }",
        expect![
            "2:52: `profile.default.retries.jitter` needs `delay`, because without one there is nothing to vary"
        ],
    );
    line_error(
        "retries = { backoff = 'fixed', count = 1, delays = '1s' }",
        expect!["2:43: `profile.default.retries.delays` is unknown (did you mean `delay`?)"],
    );
    line_error(
        "retries = { backoff = 'fixed', count = 1, max-delay = '1s' }",
        expect![
            "2:43: `profile.default.retries.max-delay` is unknown; known keys: `backoff`, `count`, `delay`, `jitter`"
        ],
    );
    line_error(
        "retries = { backoff = 'exponential', delay = '1s' }",
        expect!["2:11: `profile.default.retries` lacks `count`"],
    );
    line_error(
        "retries = { backoff = 'exponential', count = 0, delay = '1s' }",
        expect![
            "2:46: `profile.default.retries.count` must be at least 1 with exponential backoff"
        ],
    );
    line_error(
        "retries = { backoff = 'exponential', count = 1 }",
        expect!["2:11: `profile.default.retries` lacks `delay`, which exponential backoff needs"],
    );
    line_error(
        "retries = { backoff = 'exponential', count = 1, delay = '0s' }",
        expect![
            "2:11: `profile.default.retries` has a `delay` of zero, which exponential backoff cannot double"
        ],
    );
    line_error(
        "retries = { backoff = 'exponential', count = 1, delay = '2s', max-delay = '1s' }",
        expect!["2:75: `profile.default.retries.max-delay` must not be shorter than `delay`"],
    );
}
