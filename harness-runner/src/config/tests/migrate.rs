//! What becomes of a file of cargo-nextest.

use crate::config::{Migrated, migrate};
use expect_test::{Expect, expect};

fn migrated(text: &str) -> Migrated {
    let migrated = migrate(text).expect("the file is right");
    assert!(migrated.same, "{}", migrated.text);
    migrated
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
    assert_eq!(migrated.left_out, []);
    assert_eq!(migrated.written_down, [""; 0]);
}

#[test]
fn what_has_no_effect_becomes_a_comment() {
    becomes(
        "experimental = [\"setup-scripts\"]\n\
         \n\
         # The database.\n\
         [scripts.setup.db]\n\
         command = [\n\
         \x20   \"cargo\",\n\
         \x20   \"run\",\n\
         ]\n\
         \n\
         [scripts.setup.empty]\n\
         \n\
         # All tests.\n\
         [profile.ci]\n\
         bench.slow-timeout = '1s'\n\
         retries = 2\n\
         archive.include = [{ path = 'x' }]\n\
         \n\
         [[profile.ci.scripts]]\n\
         filter = '''\n\
         all()\n\
         '''\n\
         setup = 'db'\n\
         \n\
         [[profile.ci.overrides]]\n\
         filter = 'all()'\n\
         priority = 1\n\
         [profile.ci.overrides.bench]\n\
         slow-timeout = '1s'\n",
        expect![[r#"
            experimental = ["setup-scripts"]

            # The database.
            # Of cargo-nextest; cargo harness does not support this yet:
            # [scripts.setup.db]
            # command = [
            #     "cargo",
            #     "run",
            # ]

            # [scripts.setup.empty]

            # All tests.
            [profile.ci]
            # Of cargo-nextest; cargo harness does not support this yet:
            # bench.slow-timeout = '1s'
            retries = 2
            # Of cargo-nextest; cargo harness does not support this yet:
            # archive.include = [{ path = 'x' }]

            # [[profile.ci.scripts]]
            # filter = '''
            # all()
            # '''
            # setup = 'db'

            [[profile.ci.overrides]]
            filter = 'all()'
            priority = 1
            # Of cargo-nextest; cargo harness does not support this yet:
            # [profile.ci.overrides.bench]
            # slow-timeout = '1s'
        "#]],
    );
}

#[test]
fn what_has_no_effect_is_taken_out_of_a_table_in_one_line() {
    becomes(
        "[profile]\n\
         ci = { retries = 2, bench = { slow-timeout = '1s' }, fail-fast = false } # why\n\
         x = { overrides = [{ filter = 'all()', bench.slow-timeout = '1s', priority = 1 }] }\n",
        expect![[r#"
            [profile]
            ci = { retries = 2, fail-fast = false } # why
            x = { overrides = [{ filter = 'all()', priority = 1 }] }
        "#]],
    );
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
