//! What is said about each mistake that a configuration can have.

use super::*;
use expect_test::{Expect, expect};

fn parse(text: &str) -> Result<(Config, Vec<ConfigWarning>), ConfigError> {
    Config::parse(".config/harness.toml".into(), text.to_owned())
}

/// Checks the message of a mistake, its causes included, without the name of the file.
#[track_caller]
fn error(text: &str, expected: Expect) {
    let error = parse(text).expect_err("the configuration is wrong");
    let mut message = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        message.push_str(&format!("\ncaused by: {cause}"));
        source = cause.source();
    }
    expected.assert_eq(&message.replace(".config/harness.toml:", ""));
}

/// Checks the warnings about a configuration that is otherwise right.
#[track_caller]
fn warnings(text: &str, expected: Expect) {
    let (_, warnings) = parse(text).expect("the configuration is usable");
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    expected.assert_eq(&warnings.join("\n").replace(".config/harness.toml:", ""));
}

/// Checks the message about one line of the default profile.
#[track_caller]
fn line_error(line: &str, expected: Expect) {
    error(&format!("[profile.default]\n{line}\n"), expected);
}

/// Checks the message about one line of an override with a filter.
#[track_caller]
fn override_error(line: &str, expected: Expect) {
    error(
        &format!("[[profile.default.overrides]]\nfilter = 'test(a)'\n{line}\n"),
        expected,
    );
}

#[test]
fn the_place_of_a_mistake_names_the_file() {
    let error = parse("[profile.ci]\nretries = true").expect_err("it is no number");
    expect![".config/harness.toml:2:11: `profile.ci.retries` must be an integer or a table with `backoff`, but is the boolean true"].assert_eq(&error.to_string());
}

#[test]
fn text_that_is_not_toml_is_shown_with_a_caret() {
    error(
        "[profile.ci]\n\tretries = = 3\n",
        expect![[r#"
        2:12: not valid TOML: extra `=`, expected nothing
          | 	retries = = 3
          | 	          ^"#]],
    );
    error(
        "[profile.ci\nretries = 3",
        expect![[r#"
        1:12: not valid TOML: unclosed table, expected `]`
          | [profile.ci
          |            ^"#]],
    );
    error(
        "[profile.ci]\nretries = 1\nretries = 2",
        expect![[r#"
        3:1: not valid TOML: duplicate key
          | retries = 2
          | ^"#]],
    );
    error(
        "[profile.ci]\nretries =",
        expect![[r#"
        2:10: not valid TOML: string values must be quoted, expected literal string
          | retries =
          |          ^"#]],
    );
}

#[test]
fn unknown_keys_are_warned_about_with_the_nearest_known_key() {
    warnings(
        "retires = 2\n\
         [profile.ci]\n\
         retires = 2\n\
         test_threads = 2\n\
         zebra = 'x'\n\
         slow-timeout = { period = '60s', grace = '1s' }\n\
         leak-timeout = { period = '60s', result-of = 'pass' }\n\
         fail-fast = { max-fail = 2, until = 1 }\n\
         trace = { level = 'off', requird = true }\n\
         junit = { pth = 'junit.xml' }\n\
         [[profile.ci.overrides]]\n\
         filter = 'all()'\n\
         test-grup = 'x'\n\
         [test-groups.serial]\n\
         max-threads = 1\n\
         min-threads = 1\n",
        expect![[r#"
            1:1: unknown key `retires`
            3:1: unknown key `profile.ci.retires` (did you mean `retries`?)
            4:1: unknown key `profile.ci.test_threads` (did you mean `test-threads`?)
            5:1: unknown key `profile.ci.zebra`
            6:34: unknown key `profile.ci.slow-timeout.grace`
            7:34: unknown key `profile.ci.leak-timeout.result-of` (did you mean `result`?)
            8:29: unknown key `profile.ci.fail-fast.until`
            9:26: unknown key `profile.ci.trace.requird` (did you mean `required`?)
            10:11: unknown key `profile.ci.junit.pth` (did you mean `path`?)
            13:1: unknown key `profile.ci.overrides[0].test-grup` (did you mean `test-group`?)
            16:1: unknown key `test-groups.serial.min-threads`"#]],
    );
}

#[test]
fn keys_of_cargo_nextest_that_do_nothing_yet_are_named_as_such() {
    warnings(
        "nextest-version = '0.9.50'\n\
         experimental = ['setup-scripts']\n\
         store.dir = 'target/x'\n\
         [scripts.setup.db]\n\
         command = 'x'\n\
         [profile.ci]\n\
         archive.include = []\n\
         bench.slow-timeout = '1s'\n\
         [[profile.ci.scripts]]\n\
         filter = 'all()'\n",
        expect![[r#"
            1:19: `nextest-version` is a key of cargo-nextest that cargo harness does not support yet
            2:16: `experimental` is a key of cargo-nextest that cargo harness does not support yet
            3:1: `store` is a key of cargo-nextest that cargo harness does not support yet
            4:2: `scripts` is a key of cargo-nextest that cargo harness does not support yet
            7:1: `profile.ci.archive` is a key of cargo-nextest that cargo harness does not support yet
            8:1: `profile.ci.bench` is a key of cargo-nextest that cargo harness does not support yet
            9:1: `profile.ci.scripts` is a key of cargo-nextest that cargo harness does not support yet"#]],
    );
}

#[test]
fn profiles_with_reserved_names_are_ignored_with_a_warning() {
    warnings(
        "[profile.default-fast]\nretries = true\n",
        expect![
            "1:10: profile `default-fast` is ignored, because names that begin with `default-` are reserved"
        ],
    );
    warnings("[profile.default-miri]\nretries = 1\n", expect![[""]]);
}

#[test]
fn a_target_that_nobody_knows_is_a_warning() {
    warnings(
        "[[profile.ci.overrides]]\nplatform = 'my-own-board'\nretries = 1\n",
        expect!["2:12: `profile.ci.overrides[0].platform` names the unknown target `my-own-board`"],
    );
}

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
            r#"2:13: `profile.default.fail-fast` must be a boolean or a table with `max-fail`, but is the string "true""#
        ]],
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
            r#"2:9: `profile.default.trace` must be `"off"`, `"process"` or a table with `level`, but is the boolean true"#
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
    line_error(
        "slow-timeout = { terminate-after = 2 }",
        expect!["2:16: `profile.default.slow-timeout` lacks `period`"],
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
        "trace = 'io'",
        expect!["2:9: `profile.default.trace` must be one of `off`, `process`, not `io`"],
    );
    line_error(
        "trace = { required = true }",
        expect!["2:9: `profile.default.trace` lacks `level`"],
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

#[test]
fn overrides_are_validated() {
    error(
        "[[profile.ci.overrides]]\nretries = 2",
        expect![
            "1:1: `profile.ci.overrides[0]` needs `filter` or `platform`, to say which tests it is for"
        ],
    );
    error(
        "[[profile.ci.overrides]]\nplatform = {}\nretries = 2",
        expect![
            "1:1: `profile.ci.overrides[0]` needs `filter` or `platform`, to say which tests it is for"
        ],
    );
    error(
        "[[profile.ci.overrides]]\nplatform = 'cfg(unix'",
        expect![[r#"
            2:12: `profile.ci.overrides[0].platform` is neither a target triple nor a `cfg(...)` expression
            caused by: invalid cfg() expression
            caused by: error parsing cfg() expression"#]],
    );
    error(
        "[[profile.ci.overrides]]\nplatform = { host = 'not a triple' }",
        expect![[r#"
            2:21: `profile.ci.overrides[0].platform.host` is neither a target triple nor a `cfg(...)` expression
            caused by: failed to parse target spec as a plain string
            caused by: failed to parse `not a triple` at index 3: character must be alphanumeric, `-`, `_` or `.`"#]],
    );
    error(
        "[[profile.ci.overrides]]\ndefault-filter = 'all()'",
        expect![
            "1:1: `profile.ci.overrides[0]` needs `filter` or `platform`, to say which tests it is for"
        ],
    );
    override_error(
        "default-filter = 'all()'",
        expect![
            "3:18: `profile.default.overrides[0].default-filter` cannot be combined with `filter`"
        ],
    );
    override_error(
        "priority = 101",
        expect!["3:12: `profile.default.overrides[0].priority` must be from -100 to 100"],
    );
    override_error(
        "priority = -300",
        expect!["3:12: `profile.default.overrides[0].priority` must be from -100 to 100"],
    );
    override_error(
        "test-group = 'serial'",
        expect![
            "3:14: `profile.default.overrides[0].test-group` names the test group `serial`, which does not exist; known groups: `@global`"
        ],
    );
    error(
        "test-groups.serial.max-threads = 1\n\
         [[profile.ci.overrides]]\n\
         filter = 'all()'\n\
         test-group = 'seriel'\n",
        expect![
            "4:14: `profile.ci.overrides[0].test-group` names the test group `seriel`, which does not exist (did you mean `serial`?); known groups: `serial`, `@global`"
        ],
    );
}

#[test]
fn the_syntax_of_filtersets_is_checked_without_a_package_graph() {
    line_error("default-filter = 'test(a'", expect![[""]]);
    error(
        "[[profile.ci.overrides]]\nfilter = 'all()'\n\
         [[profile.ci.overrides]]\nfilter = 'test(a) && test(b)'\n",
        expect![[""]],
    );
}

#[test]
fn test_groups_are_validated() {
    error(
        "test-groups.serial = 1",
        expect!["1:22: `test-groups.serial` must be a table, but is the integer 1"],
    );
    error(
        "test-groups.serial = {}",
        expect!["1:22: `test-groups.serial` lacks `max-threads`"],
    );
    error(
        "test-groups.serial.max-threads = 0",
        expect!["1:34: `test-groups.serial.max-threads` must not be 0: that would run nothing"],
    );
    error(
        "test-groups.serial.max-threads = 'one'",
        expect![[
            r#"1:34: `test-groups.serial.max-threads` must be an integer or `"num-cpus"`, but is the string "one""#
        ]],
    );
    error(
        "test-groups.'@global'.max-threads = 1",
        expect![[
            r#"1:13: `test-groups."@global"` is not a name for a test group: it must begin with a letter and go on with letters, digits, `_` and `-`"#
        ]],
    );
    error(
        "test-groups.'2nd'.max-threads = 1",
        expect![
            "1:13: `test-groups.2nd` is not a name for a test group: it must begin with a letter and go on with letters, digits, `_` and `-`"
        ],
    );
}

#[test]
fn names_of_profiles_are_validated() {
    error(
        "[profile.'a/b']",
        expect![[
            r#"1:1: `profile."a/b"` is not a name for a profile: it must not be empty, begin with `.`, contain `/`, `\` or control characters, or have spaces around it"#
        ]],
    );
    error(
        "[profile.'']",
        expect![[
            r#"1:1: `profile.""` is not a name for a profile: it must not be empty, begin with `.`, contain `/`, `\` or control characters, or have spaces around it"#
        ]],
    );
    error(
        "[profile.'..']",
        expect![[
            r#"1:1: `profile.".."` is not a name for a profile: it must not be empty, begin with `.`, contain `/`, `\` or control characters, or have spaces around it"#
        ]],
    );
}

#[test]
fn inheritance_is_validated() {
    error(
        "[profile.default]\ninherits = 'ci'\n[profile.ci]",
        expect![
            "2:12: `profile.default.inherits` cannot be set: the built-in profile `default` inherits from no other"
        ],
    );
    error(
        "[profile.default-miri]\ninherits = 'default'",
        expect![
            "2:12: `profile.default-miri.inherits` cannot be set: the built-in profile `default-miri` inherits from no other"
        ],
    );
    error(
        "[profile.ci]\ninherits = 'ci'",
        expect!["2:12: `profile.ci.inherits` names the profile itself"],
    );
    error(
        "[profile.ci-fast]\ninherits = 'cl'\n[profile.ci]",
        expect![
            "2:12: `profile.ci-fast.inherits` names the profile `cl`, which does not exist (did you mean `ci`?); known profiles: `ci`, `default`, `default-miri`"
        ],
    );
    error(
        "[profile.a]\ninherits = 'b'\n[profile.b]\ninherits = 'c'\n[profile.c]\ninherits = 'b'",
        expect!["6:12: `profile.c.inherits` goes in a circle: `b` → `c` → `b`"],
    );
}

#[test]
fn an_unknown_profile_is_answered_with_the_known_ones() {
    let (config, _) = parse("[profile.ci]\n[profile.nightly]").expect("it is right");
    let error = config
        .profile("nigthly")
        .expect_err("there is no such profile");
    expect!["profile `nigthly` does not exist (did you mean `nightly`?); known profiles: `ci`, `default`, `default-miri`, `nightly`"].assert_eq(&error.to_string());
    let error = config
        .profile("release")
        .expect_err("there is no such profile");
    expect!["profile `release` does not exist; known profiles: `ci`, `default`, `default-miri`, `nightly`"].assert_eq(&error.to_string());
}

#[test]
fn a_config_file_that_is_asked_for_must_exist() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = Utf8Path::from_path(directory.path()).expect("the path is UTF-8");
    assert!(Config::load(root, None).is_ok());

    let file = root.join("other.toml");
    let error = Config::load(root, Some(&file)).expect_err("it is not there");
    assert_eq!(
        error.to_string(),
        "the config file `other.toml` does not exist"
    );

    fs::write(&file, "profile.ci.retries = 2").expect("the directory is writable");
    let (config, warnings) = Config::load(root, Some(&file)).expect("it is right");
    assert!(warnings.is_empty());
    assert_eq!(
        config.profile_names().collect::<Vec<_>>(),
        ["ci", "default", "default-miri"]
    );

    fs::write(&file, [0xff, 0xfe]).expect("the directory is writable");
    let error = Config::load(root, Some(&file)).expect_err("it is not UTF-8");
    assert_eq!(
        error.to_string(),
        "failed to read the config file `other.toml`"
    );
}
