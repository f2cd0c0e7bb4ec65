//! The message for each mistake that a configuration can have beyond single values.

use super::*;
use expect_test::expect;
use std::fs;

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
fn names_of_features_are_known_and_switch_nothing() {
    warnings("experimental = ['setup-scripts']\n", expect![""]);
    warnings(
        "experimental = { wrapper-scripts = true, benchmarks = false }\n",
        expect![""],
    );
    error(
        "experimental = ['setup-script']\n",
        expect![
            "1:17: `experimental[0]` names the feature `setup-script`, which does not exist (did you mean `setup-scripts`?); known features: `setup-scripts`, `wrapper-scripts`, `benchmarks`"
        ],
    );
    error(
        "experimental = { setup-scripts = 'yes' }\n",
        expect![[
            r#"1:34: `experimental.setup-scripts` must be `true` or `false`, but is the string "yes""#
        ]],
    );
    error(
        "experimental = true\n",
        expect![
            "1:16: `experimental` must be an array of names or a table of booleans, but is the boolean true"
        ],
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
        expect![
            "2:12: `profile.ci.overrides[0].platform` is neither a target triple nor a `cfg(...)` expression: expected one of `=`, `,`, `)` here"
        ],
    );
    error(
        "[[profile.ci.overrides]]\nplatform = { host = 'not a triple' }",
        expect![
            "2:21: `profile.ci.overrides[0].platform.host` is neither a target triple nor a `cfg(...)` expression: failed to parse `not a triple` at index 3: character must be alphanumeric, `-`, `_` or `.`"
        ],
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
    line_error(
        "default-filter = 'test(a'",
        expect![[r#"
            2:18: `profile.default.default-filter` is not a valid filterset
            caused by:   × expected close parenthesis
               ╭────
             1 │ test(a
               ·       ▲
               ·       ╰── missing `)`
               ╰────"#]],
    );
    error(
        "[[profile.ci.overrides]]\nfilter = 'all()'\n\
         [[profile.ci.overrides]]\nfilter = 'test(a) && test(b)'\n",
        expect![[r#"
            4:10: `profile.ci.overrides[1].filter` is not a valid filterset
            caused by:   × invalid AND operator
               ╭────
             1 │ test(a) && test(b)
               ·         ─┬
               ·          ╰── expected `&` or `and`
               ╰────"#]],
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
    assert!(Config::load(root, &Sources::default()).is_ok());

    let file = root.join("other.toml");
    let error = Config::load(root, &from(&file)).expect_err("it is not there");
    assert_eq!(
        error.to_string(),
        "the config file `other.toml` does not exist"
    );

    fs::write(&file, "profile.ci.retries = 2").expect("the directory is writable");
    let (config, warnings) = Config::load(root, &from(&file)).expect("it is right");
    assert!(warnings.is_empty());
    assert_eq!(
        config.profile_names().collect::<Vec<_>>(),
        ["ci", "default", "default-miri"]
    );

    fs::write(&file, [0xff, 0xfe]).expect("the directory is writable");
    let error = Config::load(root, &from(&file)).expect_err("it is not UTF-8");
    assert_eq!(
        error.to_string(),
        "failed to read the config file `other.toml`"
    );
}

fn from(file: &Utf8Path) -> Sources {
    Sources {
        config_file: Some(file.to_owned()),
        ..Sources::default()
    }
}
