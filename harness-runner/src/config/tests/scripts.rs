//! Scripts and the rules for them: each mistake, with its place.

use super::*;
use expect_test::expect;
use std::time::Duration;

const RULE: &str = "[[profile.default.scripts]]\nfilter = 'all()'\n";

/// Checks the message about a line of the setup script `s`, which a rule names.
#[track_caller]
fn script_error(line: &str, expected: Expect) {
    error(
        &format!("[scripts.setup.s]\n{line}\n{RULE}setup = 's'\n"),
        expected,
    );
}

#[track_caller]
fn setup(text: &str) -> Arc<SetupScript> {
    let (config, warnings) = parse(text).expect("the configuration is right");
    assert_eq!(warnings, [], "{text}");
    Arc::clone(&config.scripts.setup[0])
}

#[test]
fn a_command_is_a_line_an_array_or_a_table() {
    let command = |line: &str| {
        let script = setup(&format!(
            "[scripts.setup.s]\ncommand = {line}\n{RULE}setup = ['s']\n"
        ));
        let ScriptCommand {
            program,
            args,
            relative_to,
            env,
        } = script.command.clone();
        (program, args.join("|"), relative_to, env.len())
    };
    let none = CommandBase::None;
    let plain = |program: &str, args: &str| (program.to_owned(), args.to_owned(), none, 0);
    assert_eq!(command("'a b \"c d\"'"), plain("a", "b|c d"));
    assert_eq!(command("['a b', 'c']"), plain("a b", "c"));
    assert_eq!(
        command("{ command-line = ['a', ''], relative-to = 'target', env = { A = '1' } }"),
        ("a".to_owned(), String::new(), CommandBase::Target, 1)
    );
}

#[test]
fn every_key_of_a_setup_script_is_read() {
    let script = setup(&format!(
        "[scripts.setup.s]\ncommand = 'a'\nteardown = 'b c'\nteardown-timeout = '3s'\n\
         slow-timeout = {{ period = '1s', terminate-after = 2 }}\n\
         leak-timeout = {{ period = '5s', result = 'fail' }}\n\
         capture-stdout = true\ncapture-stderr = true\n\
         junit = {{ store-success-output = false, store-failure-output = false }}\n\
         {RULE}setup = 's'\n"
    ));
    assert_eq!(script.teardown.as_ref().map(|it| &*it.program), Some("b"));
    assert_eq!(script.teardown_timeout, Duration::from_secs(3));
    assert_eq!(script.slow_timeout.period, Duration::from_secs(1));
    assert_eq!(script.leak_timeout.period, Duration::from_secs(5));
    assert!(script.capture_stdout && script.capture_stderr);
    assert!(!script.junit_success && !script.junit_failure);
}

#[test]
fn the_old_form_of_scripts_means_the_same_and_warns() {
    warnings(
        &format!("[script.s]\ncommand = 'a'\n{RULE}setup = 's'\n"),
        expect!["1:2: `script` is the old form of `scripts.setup`"],
    );
    error(
        "[script.s]\ncommand = 'a'\n[scripts.setup.t]\ncommand = 'a'\n",
        expect!["1:2: `script` is the old form of `scripts.setup`, and both are there"],
    );
}

#[test]
fn a_script_is_checked() {
    script_error("", expect!["1:1: `scripts.setup.s` lacks `command`"]);
    script_error(
        "command = 3",
        expect![
            "2:11: `scripts.setup.s.command` must be a string, an array of strings or a table with `command-line`, but is the integer 3"
        ],
    );
    script_error(
        "command = ''",
        expect!["2:11: `scripts.setup.s.command` names no program"],
    );
    script_error(
        "command = []",
        expect!["2:11: `scripts.setup.s.command` names no program"],
    );
    script_error(
        "command = \"a 'b\"",
        expect!["2:11: `scripts.setup.s.command` has a quote that is not closed"],
    );
    script_error(
        "command = { command-line = 'a', relative = 'x' }",
        expect![
            "2:33: `scripts.setup.s.command.relative` is unknown; known keys: `command-line`, `relative-to`, `env`"
        ],
    );
    script_error(
        "command = { relative-to = 'none' }",
        expect!["2:11: `scripts.setup.s.command` lacks `command-line`"],
    );
    script_error(
        "command = { command-line = '/a', relative-to = 'target' }",
        expect![
            "2:48: `scripts.setup.s.command.relative-to` cannot be combined with `/a`, an absolute path"
        ],
    );
    script_error(
        "command = { command-line = 'a', env = { NEXTEST_X = '1' } }",
        expect![
            "2:53: `scripts.setup.s.command.env.NEXTEST_X` cannot be set: names that begin with `NEXTEST` are the runner's own"
        ],
    );
    script_error(
        "command = 'a'\nteardown-timeout = '1s'",
        expect!["3:20: `scripts.setup.s.teardown-timeout` needs `teardown`"],
    );
}

#[test]
fn the_name_of_a_script_is_checked() {
    error(
        "[scripts.setup.'1x']\ncommand = 'a'\n",
        expect![
            "1:1: `scripts.setup.1x` is not a name for a setup script: it must begin with a letter and go on with letters, digits, `_` and `-`"
        ],
    );
    error(
        "[scripts.setup.x]\ncommand = 'a'\n[scripts.wrapper.x]\ncommand = 'a'\n",
        expect!["3:1: `scripts.wrapper.x` has the name of the setup script at 1:16"],
    );
    warnings(
        "[scripts.setup.x]\ncommand = 'a'\n[scripts.wrapper.y]\ncommand = 'a'\n",
        expect![[r#"
            1:16: the setup script `x` never runs, because no rule of a profile names it
            3:18: the wrapper script `y` never runs, because no rule of a profile names it"#]],
    );
}

#[test]
fn a_rule_is_checked() {
    let rule_error = |line: &str, expected: Expect| {
        error(
            &format!(
                "[scripts.setup.db]\ncommand = 'a'\n[scripts.wrapper.time]\ncommand = 'b'\n\
                 [[profile.default.scripts]]\n{line}\n"
            ),
            expected,
        );
    };
    rule_error(
        "setup = 'db'",
        expect![
            "5:1: `profile.default.scripts[0]` needs `filter` or `platform`, to say which tests it is for"
        ],
    );
    rule_error(
        "filter = 'all()'\nsetup = 'dbb'",
        expect![
            "7:9: `profile.default.scripts[0].setup` names the setup script `dbb`, which does not exist (did you mean `db`?); known: `db`"
        ],
    );
    rule_error(
        "filter = 'all()'\nsetup = ['db', 'time']",
        expect![
            "7:16: `profile.default.scripts[0].setup[1]` must name a setup script, and `time` is a wrapper script (3:18)"
        ],
    );
    rule_error(
        "filter = 'all()'\nrun-wrapper = 'db'",
        expect![
            "7:15: `profile.default.scripts[0].run-wrapper` must name a wrapper script, and `db` is a setup script (1:16)"
        ],
    );
    rule_error(
        "filter = 'test(a)'\nlist-wrapper = 'time'",
        expect![
            "6:10: `profile.default.scripts[0].filter` must not ask for tests, because `list-wrapper` lists whole binaries: `test()` cannot be used"
        ],
    );
    for filter in ["default()", "group(x)"] {
        let text = format!("[[profile.default.scripts]]\nfilter = '{filter}'\n");
        let error = parse(&text).expect_err("it is not allowed there");
        assert_eq!(
            error.to_string(),
            ".config/harness.toml:2:10: `profile.default.scripts[0].filter` is not a valid filterset"
        );
    }
    warnings(
        RULE,
        expect!["1:1: `profile.default.scripts[0]` has no effect, because it names no script"],
    );
    error(
        "[profile.default]\nscripts = 'x'\n",
        expect![[
            r#"2:11: `profile.default.scripts` must be an array of tables, but is the string "x"; write `[[profile.default.scripts]]`"#
        ]],
    );
}

#[test]
fn variables_of_an_override_are_checked() {
    override_error(
        "env = { '1x' = 'y' }",
        expect![
            "3:16: `profile.default.overrides[0].env.1x` is not a name for a variable: it must begin with a letter or `_` and go on with letters, digits and `_`"
        ],
    );
    override_error(
        "env = { A = 1 }",
        expect![
            "3:13: `profile.default.overrides[0].env.A` must be a string, but is the integer 1; put it in quotes"
        ],
    );
}
