//! The quarantine of a profile.

use super::*;
use crate::filter::fixture;
use chrono::NaiveDate;
use expect_test::expect;
use nextest_metadata::TestCaseName;

/// Checks the message about an entry.
#[track_caller]
fn entry_error(keys: &str, expected: Expect) {
    error(&format!("[[profile.ci.quarantine]]\n{keys}\n"), expected);
}

fn day(text: &str) -> NaiveDate {
    text.parse().expect("it is a day")
}

#[test]
fn an_entry_needs_a_filter_a_reason_an_owner_and_a_date() {
    let filter = "filter = 'test(a)'";
    entry_error(
        "",
        expect![[r#"
            4 mistakes in the configuration:
            1:1: `profile.ci.quarantine[0]` lacks `filter`
            1:1: `profile.ci.quarantine[0]` lacks `reason`
            1:1: `profile.ci.quarantine[0]` lacks `owner`
            1:1: `profile.ci.quarantine[0]` lacks `expires`"#]],
    );
    entry_error(
        filter,
        expect![[r#"
            3 mistakes in the configuration:
            1:1: `profile.ci.quarantine[0]` lacks `reason`
            1:1: `profile.ci.quarantine[0]` lacks `owner`
            1:1: `profile.ci.quarantine[0]` lacks `expires`"#]],
    );
    entry_error(
        &format!("{filter}\nreason = ' '"),
        expect![[r#"
            3 mistakes in the configuration:
            1:1: `profile.ci.quarantine[0]` lacks `owner`
            1:1: `profile.ci.quarantine[0]` lacks `expires`
            3:10: `profile.ci.quarantine[0].reason` must not be empty"#]],
    );
    entry_error(
        &format!("{filter}\nreason = 'r'"),
        expect![[r#"
            2 mistakes in the configuration:
            1:1: `profile.ci.quarantine[0]` lacks `owner`
            1:1: `profile.ci.quarantine[0]` lacks `expires`"#]],
    );
    entry_error(
        &format!("{filter}\nreason = 'r'\nowner = 'o'"),
        expect!["1:1: `profile.ci.quarantine[0]` lacks `expires`"],
    );
    let most = format!("{filter}\nreason = 'r'\nowner = 'o'");
    entry_error(
        &format!("{most}\nexpires = 'soon'"),
        expect![
            "5:11: `profile.ci.quarantine[0].expires` must be a date such as `2026-12-31`, not `soon`"
        ],
    );
    entry_error(
        &format!("{most}\nexpires = 12"),
        expect![
            "5:11: `profile.ci.quarantine[0].expires` must be a date such as `2026-12-31`, but is the integer 12"
        ],
    );
    entry_error(
        &format!("{most}\nexpires = 2026-12-31T10:00:00Z"),
        expect![
            "5:11: `profile.ci.quarantine[0].expires` must be a date such as `2026-12-31`, not `2026-12-31T10:00:00Z`"
        ],
    );
    entry_error(
        &format!("{most}\nexpires = 2026-12-31\nexpire = 1"),
        expect![
            "6:1: `profile.ci.quarantine[0].expire` is unknown; known keys: `filter`, `reason`, `owner`, `expires`"
        ],
    );
    entry_error(
        "filter = 'test(a'",
        expect![[r#"
            4 mistakes in the configuration:
            1:1: `profile.ci.quarantine[0]` lacks `reason`
            1:1: `profile.ci.quarantine[0]` lacks `owner`
            1:1: `profile.ci.quarantine[0]` lacks `expires`
            2:10: `profile.ci.quarantine[0].filter` is not a valid filterset
              × expected close parenthesis
               ╭────
             1 │ test(a
               ·       ▲
               ·       ╰── missing `)`
               ╰────"#]],
    );
    error(
        "[profile.ci]\nquarantine = { filter = 'all()' }",
        expect![
            "2:14: `profile.ci.quarantine` must be an array of tables, but is a table; write `[[profile.ci.quarantine]]`"
        ],
    );
}

#[test]
fn the_first_entry_that_has_a_test_counts_up_to_its_last_day() {
    let text = "[[profile.default.quarantine]]\n\
                filter = 'test(flaky)'\nreason = 'the port'\nowner = 'net'\nexpires = 2026-12-31\n\
                [[profile.default.quarantine]]\n\
                filter = 'all()'\nreason = 'later'\nowner = 'all'\nexpires = '2027-01-31'\n";
    let profile = precedence::compile(text, "default");
    let alpha = fixture::alpha();
    let settings = profile.for_binary(&alpha.query());
    let entries = |name: &str| settings.quarantine(&alpha.test(&TestCaseName::new(name)));
    assert_eq!(entries("flaky_one"), [0, 1]);
    assert_eq!(entries("sound"), [1]);
    let first = &profile.quarantine()[0];
    assert!(!first.on(day("2026-12-31")).expired);
    let expired = first.on(day("2027-01-01"));
    assert!(expired.expired);
    assert_eq!((&*expired.reason, &*expired.owner), ("the port", "net"));
    expect!["harness.toml:1:1: the quarantine of `test(flaky)` has expired after 2026-12-31, so failures count again; its owner is net"].assert_eq(&first.has_expired());
    expect!["harness.toml:1:1: the quarantine of `test(flaky)` has no test: remove it"]
        .assert_eq(&first.has_no_test());
}
