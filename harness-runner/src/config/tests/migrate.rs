//! The migration of a file of cargo-nextest.

use crate::config::{Migrated, migrate};
use expect_test::{Expect, expect};

/// Returns the new file without its first line, which names the schema.
fn migrated(text: &str) -> Migrated {
    let mut migrated = migrate(text).expect("the file is right");
    assert!(migrated.same, "{}", migrated.text);
    let (first, rest) = migrated.text.split_once('\n').expect("it has a line");
    assert_eq!(first.trim_end(), "#:schema ./harness.schema.json");
    migrated.text = rest.to_owned();
    migrated
}

#[test]
fn the_first_line_names_our_schema_and_not_that_of_cargo_nextest() {
    for first in ["", "#:schema https://example.org/nextest.json\n"] {
        let rest = "# Ours.\n[profile.ci]\nretries = 2\n";
        assert_eq!(migrated(&format!("{first}{rest}")).text, rest);
    }
    assert_eq!(migrated("#:schema x").text, "");
}

#[test]
fn a_number_that_is_too_large_where_no_key_is_known_has_a_place() {
    let error = migrate("# Ours.\nother = 77777777777777777777777777\n").unwrap_err();
    expect![[r#"
        .config/nextest.toml:2:9: not valid TOML: integer number overflowed
          | other = 77777777777777777777777777
          |         ^"#]]
    .assert_eq(&error.to_string());
}

#[track_caller]
fn becomes(text: &str, expected: Expect) {
    expected.assert_eq(&migrated(text).text);
}

#[test]
fn what_means_the_same_stays_as_it_is() {
    const TEXT: &str = "# Ours.\n\
        nextest-version = { required = \"0.9.50\" }\n\
        \n\
        [profile.ci]   # for CI\n\
        retries = { backoff = 'fixed', count = 2,  delay = '1s' } # odd  spaces\n\
        \n\
        # At the end of a table.\n\
        [[profile.ci.overrides]]\n\
        filter = '''\n\
        test(a) |\n\
        [scripts.x]\n\
        '''\n\
        priority = 1\n\
        # At the end of the file.\n";
    // The brackets in the filter are text, so the filter must be one.
    let text = TEXT.replace("[scripts.x]", "test(/[scripts.x]/)");
    let migrated = migrated(&text);
    assert_eq!(migrated.text, text);
    assert_eq!(migrated.written_down, [""; 0]);
}

#[test]
fn lines_may_end_as_they_do_elsewhere() {
    let text = "[profile.ci]\r\nretries = 2\r\nbench.slow-timeout = '1s'\r\n[profile.x]\r\n";
    assert_eq!(migrated(text).text, text);
}

/// Keys below a profile.
const KEYS: &[&str] = &[
    "retries = 2",
    "retries = { backoff = \"fixed\", count = 1 }",
    "archive.include = [\n  { path = \"x\", relative-to = \"target\" }, # why\n]",
    "archive = { include = [] }",
    "bench.slow-timeout = \"1s\"",
    "scripts = [{ filter = \"all()\" }]",
    "default-filter = \"\"\"\n  test(a)\n  | test(/[x]/)\n\"\"\"",
    "junit.path = \"j.xml\"",
    "junit = { path = \"j.xml\", report-name = \"r\" }",
    "fail-fast = { max-fail = 3 } # comment",
    "overrides = [{ filter = \"test(b)\", bench.slow-timeout = \"1s\", priority = 1 }]",
    "overrides = [\n  { platform = \"cfg(unix)\", retries = 1, bench = {} },\n]",
];

/// Tables and keys of the whole file.
const TOPS: &[&str] = &[
    "# A comment.\n",
    "\n",
    "[[profile.p.scripts]]\nfilter = \"all()\"\n",
    "[scripts.setup.s]\ncommand = \"\"\"\nx\n[y]\n\"\"\"\n",
    "[scripts.wrapper.w]\ncommand = 'w'\n",
    "[[profile.p.overrides]]\nfilter = 'test(c)'\nretries = 3\n[profile.p.overrides.bench]\n",
    "[profile.p.bench.slow-timeout]\nperiod = \"1s\"\n",
    "[test-groups.g]\nmax-threads = 1\n",
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_is_written_how_the_new_file_says_the_same(
        dotted in proptest::sample::subsequence(KEYS, 0..=KEYS.len()),
        below in proptest::sample::subsequence(KEYS, 0..=KEYS.len()),
        tops in proptest::sample::subsequence(TOPS, 0..=TOPS.len()),
        windows in proptest::bool::ANY,
    ) {
        let unique = |keys: &[&'static str]| -> Vec<&'static str> {
            let first = |key: &str| key.split(['.', ' ']).next().unwrap_or_default().to_owned();
            let mut seen = std::collections::BTreeSet::new();
            keys.iter().copied().filter(|key| seen.insert(first(key))).collect()
        };
        let mut text = String::new();
        for key in unique(&dotted) {
            text.push_str(&format!("profile.d.{key}\n"));
        }
        // What a header opens, no dotted key above may have opened.
        if dotted.is_empty() {
            text.push_str("[profile.h] # why\n");
            for key in unique(&below) {
                text.push_str(&format!("{key}\n"));
            }
            text.extend(tops.iter().copied());
        }
        if windows {
            text = text.replace('\n', "\r\n");
        }
        let migrated = migrate(&text);
        proptest::prop_assert!(migrated.is_ok(), "{text}\n{migrated:?}");
        let migrated = migrated.expect("it was looked at above");
        proptest::prop_assert!(migrated.same, "{text}\n{}", migrated.text);
        let again = migrate(&migrated.text).expect("the new file is right");
        proptest::prop_assert_eq!(again.text, migrated.text);
    }
}

#[test]
fn reports_stay_where_they_are() {
    becomes(
        "[profile.ci]\nretries = 2\n\n[profile.ci.junit]\npath = \"junit.xml\"\n",
        expect![[r#"
            [profile.ci]
            retries = 2

            [profile.ci.junit]
            path = "junit.xml"

            [profile.default.junit]
            report-name = "nextest-run"

            [store]
            dir = "target/nextest"
        "#]],
    );
    becomes(
        "store = { dir = \"out\" }\nprofile.default.junit = { path = \"junit.xml\" }\n",
        expect![[r#"
            store = { dir = "out" }
            profile.default.junit = { path = "junit.xml" , report-name = "nextest-run" }
        "#]],
    );
    let text = "[store]\ndir = 'out'\n[profile.default.junit]\nreport-name = 'x'\n\
                [profile.ci]\njunit.path = 'y'\n";
    assert_eq!(migrated(text).text, text);
}

#[test]
fn a_file_that_is_wrong_is_not_migrated() {
    let error = migrate("[profile.ci]\nretries = 'often'\n").expect_err("it is no number");
    expect![[r#".config/nextest.toml:2:11: `profile.ci.retries` must be an integer or a table with `backoff`, but is the string "often""#]].assert_eq(&error.to_string());
}
