//! All mistakes of all files are found in one go, and none because of another.

use super::*;
use crate::filter::fixture;
use expect_test::expect;
use nextest_filtering::ParseContext;
use std::fs;
use target_spec::TargetFeatures;

#[test]
fn all_mistakes_of_a_file_are_found_at_once_in_their_order() {
    error(
        r#"nextest-version = 'new'
experimental = ['setup-scripts', 'setup', 1]
store.dir = ''
[profile.default]
retries = '3'
slow-timeout = { period = '0s', terminate-after = 0, grace-period = 10 }
leak-timeout = { period = 'soon', result = 'ok' }
fail-fast = { max-fail = '5', terminate = 'now' }
run-extra-args = [1, 'x', true]
trace = true
default-filter = 'test(a'
[profile.ci]
inherits = 'cl'
junit = 'junit.xml'
test-threads = 0
archive.include = [{ path = '/etc', depth = -1 }, 'x']
scripts = [{ filter = 'all()', setup = ['dbb', 'w'], run-wrapper = 'db' }]
[[profile.ci.overrides]]
retries = 1
[[profile.ci.overrides]]
filter = 'test(a) && b'
platform = { host = 'cfg(', target = 'not a triple' }
priority = 101
env = { '1' = 'x', HARNESS_X = 'y', OK = 2 }
[[profile.ci.quarantine]]
reason = ''
expires = 'soon'
[test-groups]
'1st' = { max-threads = 1 }
serial = {}
[scripts.setup.db]
command = "'open"
teardown-timeout = '1s'
[scripts.wrapper]
w = { command = { command-line = ['/x'], relative-to = 'target' } }
db = 1
"#,
        expect![[r#"
            45 mistakes in the configuration:
            1:19: `nextest-version` is not a version such as `"1.2.3"`: unexpected character 'n' while parsing major version number
            2:34: `experimental[1]` names the feature `setup`, which does not exist; known features: `setup-scripts`, `wrapper-scripts`, `benchmarks`
            2:43: `experimental[2]` must be a string, but is the integer 1; put it in quotes
            3:13: `store.dir` must not be empty
            5:11: `profile.default.retries` must be an integer or a table with `backoff`, but is the string "3"; remove the quotes
            6:27: `profile.default.slow-timeout.period` must be longer than zero
            6:51: `profile.default.slow-timeout.terminate-after` must be at least 1
            6:69: `profile.default.slow-timeout.grace-period` must be a duration such as `"1m 30s"`, but is the integer 10; write `"10s"` for seconds
            7:27: `profile.default.leak-timeout.period` is not a duration such as `"1m 30s"`: expected number at 0
            7:44: `profile.default.leak-timeout.result` must be one of `pass`, `fail`, not `ok`
            8:26: `profile.default.fail-fast.max-fail` must be an integer or `"all"`, but is the string "5"; write `max-fail = 5`
            8:43: `profile.default.fail-fast.terminate` must be one of `wait`, `immediate`, not `now`
            9:19: `profile.default.run-extra-args[0]` must be a string, but is the integer 1; put it in quotes
            9:27: `profile.default.run-extra-args[2]` must be a string, but is the boolean true; put it in quotes
            10:9: `profile.default.trace` must be `"off"`, `"process"`, `"io"`, `"full"` or a table, but is the boolean true; write `"io"`
            11:18: `profile.default.default-filter` is not a valid filterset
              × expected close parenthesis
               ╭────
             1 │ test(a
               ·       ▲
               ·       ╰── missing `)`
               ╰────
            13:12: `profile.ci.inherits` names the profile `cl`, which does not exist; known profiles: `default`, `default-miri`
            14:9: `profile.ci.junit` must be a table, but is the string "junit.xml"
            15:16: `profile.ci.test-threads` must not be 0: that would run nothing
            16:20: `profile.ci.archive.include[0]` lacks `relative-to`, which is `"target"`
            16:29: `profile.ci.archive.include[0].path` must be a path below `relative-to`: not absolute, without `..`
            16:45: `profile.ci.archive.include[0].depth` must be at least 0
            16:51: `profile.ci.archive.include[1]` must be a table, but is the string "x"
            17:41: `profile.ci.scripts[0].setup[0]` names the setup script `dbb`, which does not exist (did you mean `db`?); known: `db`
            17:48: `profile.ci.scripts[0].setup[1]` must name a setup script, and `w` is a wrapper script (35:1)
            17:68: `profile.ci.scripts[0].run-wrapper` must name a wrapper script, and `db` is a setup script (31:16)
            18:1: `profile.ci.overrides[0]` needs `filter` or `platform`, to say which tests it is for
            21:10: `profile.ci.overrides[1].filter` is not a valid filterset
              × invalid AND operator
               ╭────
             1 │ test(a) && b
               ·         ─┬
               ·          ╰── expected `&` or `and`
               ╰────
              × expected expression
               ╭────
             1 │ test(a) && b
               ·           ─┬
               ·            ╰── missing expression
               ╰────
              × expected end of expression
               ╭────
             1 │ test(a) && b
               ·           ─┬
               ·            ╰── unparsed input
               ╰────
            22:21: `profile.ci.overrides[1].platform.host` is neither a target triple nor a `cfg(...)` expression: expected one of `=`, `,`, `)` here
            22:38: `profile.ci.overrides[1].platform.target` is neither a target triple nor a `cfg(...)` expression: failed to parse `not a triple` at index 3: character must be alphanumeric, `-`, `_` or `.`
            23:12: `profile.ci.overrides[1].priority` must be from -100 to 100
            24:15: `profile.ci.overrides[1].env.1` is not a name for a variable: it must begin with a letter or `_` and go on with letters, digits and `_`
            24:32: `profile.ci.overrides[1].env.HARNESS_X` cannot be set: names that begin with `HARNESS_` are the runner's own
            24:42: `profile.ci.overrides[1].env.OK` must be a string, but is the integer 2; put it in quotes
            25:1: `profile.ci.quarantine[0]` lacks `filter`
            25:1: `profile.ci.quarantine[0]` lacks `owner`
            26:10: `profile.ci.quarantine[0].reason` must not be empty
            27:11: `profile.ci.quarantine[0].expires` must be a date such as `2026-12-31`, not `soon`
            29:9: `test-groups.1st` is not a name for a test group: it must begin with a letter and go on with letters, digits, `_` and `-`
            30:10: `test-groups.serial` lacks `max-threads`
            32:11: `scripts.setup.db.command` has a quote that is not closed
            33:20: `scripts.setup.db.teardown-timeout` needs `teardown`
            35:56: `scripts.wrapper.w.command.relative-to` cannot be combined with `/x`, an absolute path
            36:6: `scripts.wrapper.db` has the name of the setup script at 31:16
            36:6: `scripts.wrapper.db` must be a table, but is the integer 1"#]],
    );
}

#[test]
fn a_mistake_is_no_reason_for_another() {
    // Each names what has a mistake of its own: a group, a script, a profile, a key beside it.
    error(
        "[profile.a]\ninherits = 'b'\n\
         retries = { backoff = 'exponential', count = '2', delay = 1, max-delay = '1s' }\n\
         leak-timeout = { period = 1 }\n\
         slow-timeout = { period = 1 }\n\
         fail-fast = { max-fail = true }\n\
         scripts = [{ platform = 1, setup = 's' }]\n\
         [[profile.a.overrides]]\n\
         platform = 1\n\
         test-group = 'g'\n\
         [[profile.a.overrides]]\n\
         platform = 'cfg('\n\
         default-filter = 'all()'\n\
         [profile]\nb = 1\n\
         [test-groups]\n\
         g = 1\n\
         [scripts.setup]\n\
         s = 1\n",
        expect![[r#"
            11 mistakes in the configuration:
            3:46: `profile.a.retries.count` must be an integer, but is the string "2"; remove the quotes
            3:59: `profile.a.retries.delay` must be a duration such as `"1m 30s"`, but is the integer 1; write `"1s"` for seconds
            4:27: `profile.a.leak-timeout.period` must be a duration such as `"1m 30s"`, but is the integer 1; write `"1s"` for seconds
            5:27: `profile.a.slow-timeout.period` must be a duration such as `"1m 30s"`, but is the integer 1; write `"1s"` for seconds
            6:26: `profile.a.fail-fast.max-fail` must be an integer or `"all"`, but is the boolean true
            7:25: `profile.a.scripts[0].platform` must be a string or a table with `host` and `target`, but is the integer 1
            9:12: `profile.a.overrides[0].platform` must be a string or a table with `host` and `target`, but is the integer 1
            12:12: `profile.a.overrides[1].platform` is neither a target triple nor a `cfg(...)` expression: expected one of `=`, `,`, `)` here
            15:5: `profile.b` must be a table, but is the integer 1
            17:5: `test-groups.g` must be a table, but is the integer 1
            19:5: `scripts.setup.s` must be a table, but is the integer 1"#]],
    );
}

#[test]
fn text_that_is_not_toml_is_the_only_mistake() {
    error(
        "[profile.ci]\nretries = 'x'\nstatus-level = = 1\n",
        expect![[r#"
            3:16: not valid TOML: extra `=`, expected nothing
              | status-level = = 1
              |                ^"#]],
    );
}

#[test]
fn a_version_that_is_too_old_is_the_only_mistake() {
    error(
        "harness-version = '99.0.0'\n[profile.ci]\nretries = 'x'\n",
        expect![
            "1:19: this workspace requires cargo harness 99.0.0 or later, but this is 0.1.0; update it"
        ],
    );
}

/// Reads a workspace with a file of its own and two of tools.
fn files(own: (&str, &str), first: &str, second: &str) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let root: &Utf8Path = folder.path().try_into().expect("the name is UTF-8");
    fs::create_dir(root.join(".config")).expect("the folder is writable");
    for (name, text) in [own, ("a.toml", first), ("b.toml", second)] {
        fs::write(root.join(name), text).expect("the folder is writable");
    }
    let tool = |name: &str| ToolFile {
        tool: "t".to_owned(),
        path: root.join(name),
    };
    let sources = Sources {
        tool_files: vec![tool("a.toml"), tool("b.toml")],
        ..Sources::default()
    };
    let error = Config::load(root, &sources).expect_err("the files are wrong");
    error.to_string()
}

#[test]
fn mistakes_of_several_files_are_found_at_once() {
    let group = "test-groups.x.max-threads = 1\n";
    let own = "profile.a.inherits = 'b'\nprofile.ci.retries = 'x'\n";
    let tool = "profile.ci.retries = 'y'\n";
    let expected = expect![[r#"
            5 mistakes in the configuration:
            FILE:1:22: `profile.a.inherits` names the profile `b`, which does not exist; known profiles: `ci`, `default`, `default-miri`
            FILE:2:22: `profile.ci.retries` must be an integer or a table with `backoff`, but is the string "x"
            a.toml:1:13: `test-groups.x` is not a name for a test group of a tool: it must be `@tool:t:` and a name
            a.toml:2:22: `profile.ci.retries` must be an integer or a table with `backoff`, but is the string "y"
            b.toml:1:22: `profile.ci.retries` must be an integer or a table with `backoff`, but is the string "y""#]];
    for file in [DEFAULT_PATH, PEER_PATH] {
        let said = files((file, own), &format!("{group}{tool}"), tool);
        expected.assert_eq(&said.replace(file, "FILE"));
    }
    // A file that is not TOML may have the group that another one names.
    let expected = expect![[r#"
        2 mistakes in the configuration:
        a.toml:1:4: not valid TOML: string values must be quoted, expected literal string
          | a =
          |    ^
        b.toml:1:4: not valid TOML: string values must be quoted, expected literal string
          | b =
          |    ^"#]];
    expected.assert_eq(&files((DEFAULT_PATH, own), "a =", "b ="));
}

#[test]
fn filtersets_that_name_what_is_missing_are_found_at_once() {
    let text = "[profile.ci]\ndefault-filter = 'package(nowhere)'\n\
                [[profile.ci.overrides]]\nfilter = 'binary(nothing)'\nretries = 1\n\
                [[profile.ci.quarantine]]\nfilter = 'binary_id(nothing)'\n\
                reason = 'r'\nowner = 'o'\nexpires = 2030-01-01\n";
    let (config, _) = parse(text).expect("each filterset parses");
    let profile = config.profile("ci").expect("it is there");
    let graph = fixture::graph();
    let platforms = Platforms {
        host: target_spec::Platform::new("x86_64-unknown-linux-gnu", TargetFeatures::Unknown)
            .expect("the triple is known"),
        targets: Vec::new(),
    };
    let packages = ParseContext::new(&graph);
    let error = profile
        .compile(&packages, &platforms, CliOverrides::default())
        .expect_err("the filtersets match nothing");
    let expected = expect![[r#"
        3 mistakes in the configuration:
        .config/harness.toml:2:18: `profile.ci.default-filter` is not a valid filterset
          × operator didn't match any packages
           ╭────
         1 │ package(nowhere)
           ·         ───┬───
           ·            ╰── no packages matched this
           ╰────
        .config/harness.toml:4:10: `profile.ci.overrides[0].filter` is not a valid filterset
          × operator didn't match any binary names
           ╭────
         1 │ binary(nothing)
           ·        ───┬───
           ·           ╰── no binary names matched this
           ╰────
        .config/harness.toml:7:10: `profile.ci.quarantine[0].filter` is not a valid filterset
          × operator didn't match any binary IDs
           ╭────
         1 │ binary_id(nothing)
           ·           ───┬───
           ·              ╰── no binary IDs matched this
           ╰────"#]];
    expected.assert_eq(&error.to_string());
}

/// A date is a wrong value for every key. A new key has to show its message here.
#[test]
fn the_wrong_value_of_each_key_is_answered_with_what_it_takes() {
    let mut text = "[profile.p]\n".to_owned();
    for setting in declared() {
        if setting.scope != Scope::Override {
            text.push_str(&format!("{} = 1979-05-27\n", setting.key));
        }
    }
    text.push_str("inherits = 1979-05-27\ndefault-filter = 1979-05-27\n");
    text.push_str("[[profile.p.overrides]]\nfilter = 1979-05-27\nplatform = 1979-05-27\n");
    for setting in declared() {
        if setting.scope == Scope::Override {
            text.push_str(&format!("{} = 1979-05-27\n", setting.key));
        }
    }
    let others = [
        "[[profile.p.scripts]]\nfilter = D\nplatform = D\nsetup = D\n\
         list-wrapper = D\nrun-wrapper = D\n",
        "[[profile.p.quarantine]]\nfilter = D\nreason = D\nowner = D\nexpires = 1\n",
        "[profile.q]\noverrides = D\nscripts = D\nquarantine = D\n\
         junit = D\narchive = D\ntrace = D\n",
        "[test-groups]\na = D\nb.max-threads = D\n",
        "[scripts.setup.s]\ncommand = D\nteardown = D\nteardown-timeout = D\nslow-timeout = D\n\
         leak-timeout = D\ncapture-stdout = D\ncapture-stderr = D\njunit = D\n",
        "[scripts.setup.t]\ncommand = { command-line = D, relative-to = D, env = D }\n\
         junit = { store-success-output = D, store-failure-output = D }\n",
        "[scripts.wrapper.w]\ncommand = D\ntarget-runner = D\n",
    ];
    text.push_str(&others.concat().replace(" D", " 1979-05-27"));
    let top = "harness-version = D\nnextest-version = { required = D, recommended = D }\n\
               experimental = D\nstore = D\n";
    let text = format!("{}{text}", top.replace(" D", " 1979-05-27"));
    let mistakes = parse(&text).expect_err("each value is wrong").into_each();
    // Without its place, so that a new key is one new line.
    let said = mistakes.iter().map(|mistake| {
        let message = mistake.to_string();
        let place = mistake.place().expect("each has one");
        message.replacen(&format!("{place}: "), "", 1)
    });
    let expected = expect![[r#"
        `harness-version` must be a version or a table with `required` and `recommended`, but is a date
        `nextest-version.required` must be a string, but is a date
        `nextest-version.recommended` must be a string, but is a date
        `experimental` must be an array of names or a table of booleans, but is a date
        `store` must be a table, but is a date
        `profile.p.retries` must be an integer or a table with `backoff`, but is a date
        `profile.p.flaky-result` must be a string, but is a date; write one of `pass`, `fail`
        `profile.p.slow-timeout` must be a duration such as `"1m 30s"`, but is a date
        `profile.p.bench.slow-timeout` must be a duration such as `"1m 30s"`, but is a date
        `profile.p.leak-timeout` must be a duration such as `"1m 30s"`, but is a date
        `profile.p.leak` must be a string, but is a date; write one of `allow`, `warn`, `fail`
        `profile.p.memory-max` must be a size such as `"64 MiB"` or a number of bytes, but is a date
        `profile.p.pids-max` must be an integer, but is a date
        `profile.p.cpu-max` must be a number of CPUs such as `1.5`, or `"none"`, but is a date
        `profile.p.threads-required` must be an integer, `"num-cpus"` or `"num-test-threads"`, but is a date
        `profile.p.exclusive` must be `true` or `false`, but is a date
        `profile.p.memory-required` must be a size such as `"64 MiB"` or a number of bytes, but is a date
        `profile.p.run-extra-args` must be an array of strings, but is a date
        `profile.p.require-result` must be `true` or `false`, but is a date
        `profile.p.trace.level` must be a string, but is a date; write one of `off`, `process`, `io`, `full`
        `profile.p.trace.required` must be `true` or `false`, but is a date
        `profile.p.trace.backend` must be a string, but is a date; write one of `auto`, `ptrace`, `recorder`, `recorder-verified`, `notify`, `none`
        `profile.p.trace.no-new-privs` must be `true` or `false`, but is a date
        `profile.p.policy.mode` must be a string, but is a date; write one of `observe`, `audit`, `enforce`
        `profile.p.policy.fs.read` must be `"all"` or an array of paths, but is a date
        `profile.p.policy.fs.write` must be `"all"` or an array of paths, but is a date
        `profile.p.policy.fs.exec` must be `"all"` or an array of paths, but is a date
        `profile.p.policy.net` must be `"all"` or an array of tables, but is a date
        `profile.p.policy.ipc` must be `"all"` or an array of words, but is a date
        `profile.p.budget` must be a table such as `{ rss = "200 MiB", processes = 4 }`, but is a date
        `profile.p.remote.allow` must be `true` or `false`, but is a date
        `profile.p.remote.properties` must be a table of names and strings, but is a date
        `profile.p.remote.backup-after` must be a duration such as `"1m 30s"`, but is a date
        `profile.p.success-output` must be a string, but is a date; write one of `immediate`, `immediate-final`, `final`, `never`
        `profile.p.failure-output` must be a string, but is a date; write one of `immediate`, `immediate-final`, `final`, `never`
        `profile.p.junit.store-success-output` must be `true` or `false`, but is a date
        `profile.p.junit.store-failure-output` must be `true` or `false`, but is a date
        `profile.p.junit.report-skipped` must be a string, but is a date; write one of `none`, `ignored`, `all`
        `profile.p.junit.flaky-fail-status` must be a string, but is a date; write one of `failure`, `success`
        `profile.p.test-threads` must be an integer or `"num-cpus"`, but is a date
        `profile.p.order` must be a string, but is a date; write one of `longest-first`, `name`, `shuffle`
        `profile.p.timings` must be a string, but is a date
        `profile.p.fail-fast` must be a boolean or a table with `max-fail`, but is a date
        `profile.p.global-timeout` must be a duration such as `"1m 30s"`, but is a date
        `profile.p.bench.global-timeout` must be a duration such as `"1m 30s"`, but is a date
        `profile.p.list-timeout` must be a duration such as `"1m 30s"`, but is a date
        `profile.p.status-level` must be a string, but is a date; write one of `none`, `fail`, `retry`, `slow`, `leak`, `pass`, `skip`, `all`
        `profile.p.final-status-level` must be a string, but is a date; write one of `none`, `fail`, `flaky`, `slow`, `skip`, `leak`, `pass`, `all`
        `profile.p.durations` must be an integer, but is a date
        `profile.p.durations-by` must be a string, but is a date; write one of `time`, `cpu`, `memory`, `io`, `processes`
        `profile.p.output-cap` must be a size such as `"64 MiB"` or a number of bytes, but is a date
        `profile.p.keep-size` must be a size such as `"64 MiB"` or a number of bytes, but is a date
        `profile.p.warn-credentials` must be `true` or `false`, but is a date
        `profile.p.junit.path` must be a string, but is a date
        `profile.p.junit.report-name` must be a string, but is a date
        `profile.p.junit.schema` must be a string, but is a date; write one of `free`, `junit-10`, `surefire`
        `profile.p.junit.output-cap` must be a size such as `"64 MiB"` or a number of bytes, but is a date
        `profile.p.junit.attachments` must be `true` or `false`, but is a date
        `profile.p.html.path` must be a string, but is a date
        `profile.p.ctrf.path` must be a string, but is a date
        `profile.p.allure.path` must be a string, but is a date
        `profile.p.doctests` must be a string, but is a date; write one of `warn`, `run`, `skip`
        `profile.p.reuse.mode` must be a string, but is a date; write one of `off`, `record`, `cached`
        `profile.p.reuse.audit` must be a percentage such as `"5%"`, but is a date
        `profile.p.reuse.read-only` must be `true` or `false`, but is a date
        `profile.p.reuse.functions` must be `true` or `false`, but is a date
        `profile.p.reuse.lifetime` must be a duration such as `"1m 30s"`, but is a date
        `profile.p.reuse.ignore-environment` must be an array of strings, but is a date
        `profile.p.remote.address` must be a string, but is a date
        `profile.p.remote.instance` must be a string, but is a date
        `profile.p.remote.slots` must be an integer, but is a date
        `profile.p.remote.ca` must be a string, but is a date
        `profile.p.remote.certificate` must be a string, but is a date
        `profile.p.remote.key` must be a string, but is a date
        `profile.p.remote.server-name` must be a string, but is a date
        `profile.p.remote.token-file` must be a string, but is a date
        `profile.p.remote.token-command` must be an array of strings, but is a date
        `profile.p.remote.tries` must be an integer, but is a date
        `profile.p.remote.patience` must be a duration such as `"1m 30s"`, but is a date
        `profile.p.remote.variables` must be an array of strings, but is a date
        `profile.p.archive.include` must be an array of tables, but is a date
        `profile.p.inherits` must be a string, but is a date
        `profile.p.default-filter` must be a string, but is a date
        `profile.p.overrides[0].filter` must be a string, but is a date
        `profile.p.overrides[0].platform` must be a string or a table with `host` and `target`, but is a date
        `profile.p.overrides[0].test-group` must be a string, but is a date
        `profile.p.overrides[0].priority` must be an integer from -100 to 100, but is a date
        `profile.p.overrides[0].env` must be a table of names and strings, but is a date
        `profile.p.scripts[0].filter` must be a string, but is a date
        `profile.p.scripts[0].platform` must be a string or a table with `host` and `target`, but is a date
        `profile.p.scripts[0].setup` must be the name of a script, or an array of names, but is a date
        `profile.p.scripts[0].list-wrapper` must be a string, but is a date
        `profile.p.scripts[0].run-wrapper` must be a string, but is a date
        `profile.p.quarantine[0].filter` must be a string, but is a date
        `profile.p.quarantine[0].reason` must be a string, but is a date
        `profile.p.quarantine[0].owner` must be a string, but is a date
        `profile.p.quarantine[0].expires` must be a date such as `2026-12-31`, but is the integer 1
        `profile.q.overrides` must be an array of tables, but is a date; write `[[profile.q.overrides]]`
        `profile.q.scripts` must be an array of tables, but is a date; write `[[profile.q.scripts]]`
        `profile.q.quarantine` must be an array of tables, but is a date; write `[[profile.q.quarantine]]`
        `profile.q.junit` must be a table, but is a date
        `profile.q.archive` must be a table, but is a date
        `profile.q.trace` must be `"off"`, `"process"`, `"io"`, `"full"` or a table, but is a date
        `test-groups.a` must be a table, but is a date
        `test-groups.b.max-threads` must be an integer or `"num-cpus"`, but is a date
        `scripts.setup.s.command` must be a string, an array of strings or a table with `command-line`, but is a date
        `scripts.setup.s.teardown` must be a string, an array of strings or a table with `command-line`, but is a date
        `scripts.setup.s.teardown-timeout` must be a duration such as `"1m 30s"`, but is a date
        `scripts.setup.s.slow-timeout` must be a duration such as `"1m 30s"`, but is a date
        `scripts.setup.s.leak-timeout` must be a duration such as `"1m 30s"`, but is a date
        `scripts.setup.s.capture-stdout` must be `true` or `false`, but is a date
        `scripts.setup.s.capture-stderr` must be `true` or `false`, but is a date
        `scripts.setup.s.junit` must be a table, but is a date
        `scripts.setup.t.command.command-line` must be a string or an array of strings, but is a date
        `scripts.setup.t.command.relative-to` must be a string, but is a date; write one of `none`, `workspace-root`, `target`
        `scripts.setup.t.command.env` must be a table of names and strings, but is a date
        `scripts.setup.t.junit.store-success-output` must be `true` or `false`, but is a date
        `scripts.setup.t.junit.store-failure-output` must be `true` or `false`, but is a date
        `scripts.wrapper.w.command` must be a string, an array of strings or a table with `command-line`, but is a date
        `scripts.wrapper.w.target-runner` must be a string, but is a date; write one of `ignore`, `overrides-wrapper`, `within-wrapper`, `around-wrapper`"#]];
    expected.assert_eq(&said.collect::<Vec<_>>().join("\n"));
    for whole in ["profile", "test-groups", "scripts", "script"] {
        let said = parse(&format!("{whole} = 1")).expect_err("it is no table");
        let expected = format!("`{whole}` must be a table, but is the integer 1");
        assert!(said.to_string().ends_with(&expected), "{said}");
    }
}
