//! Budgets.

use super::{precedence::compile, *};
use crate::filter::fixture;
use expect_test::expect;
use nextest_metadata::TestCaseName;

#[test]
fn a_budget_that_makes_no_sense_is_refused_at_its_place() {
    for (line, expected) in [
        (
            "budget = 4",
            expect![[
                r#"2:10: `profile.default.budget` must be a table such as `{ rss = "200 MiB", processes = 4 }`, but is the integer 4"#
            ]],
        ),
        (
            "budget = { rss = '200 parsec' }",
            expect![
                "2:18: `profile.default.budget.rss` is not a size: `200 parsec` should be a whole number followed by B, kB, MB, GB, KiB, MiB or GiB"
            ],
        ),
        (
            "budget = { time = 3 }",
            expect![[
                r#"2:19: `profile.default.budget.time` must be a duration such as `"1m 30s"`, but is the integer 3; write `"3s"` for seconds"#
            ]],
        ),
        (
            "budget = { processes = 'many' }",
            expect![
                "2:24: `profile.default.budget.processes` is a text; the limit of a count or a metric is a number, in the metric's own unit"
            ],
        ),
        (
            "budget = { p99_us = '1 ms' }",
            expect![
                "2:21: `profile.default.budget.p99_us` is a text; the limit of a count or a metric is a number, in the metric's own unit"
            ],
        ),
        (
            "budget = { p99_us = true }",
            expect![
                "2:21: `profile.default.budget.p99_us` must be a number, but is the boolean true"
            ],
        ),
        (
            "budget = { p99_us = nan }",
            expect!["2:21: `profile.default.budget.p99_us` must be finite"],
        ),
        (
            "budget = { p99_us = { max = 1, min = 2 } }",
            expect![
                "2:21: `profile.default.budget.p99_us` has a `min` above its `max`, so no value is within it"
            ],
        ),
        (
            "budget = { p99_us = { result = 'warn' } }",
            expect!["2:21: `profile.default.budget.p99_us` has neither `max` nor `min`"],
        ),
        (
            "budget = { p99_us = { max = 1, results = 'warn' } }",
            expect![
                "2:32: `profile.default.budget.p99_us.results` is unknown (did you mean `result`?)"
            ],
        ),
        (
            "budget = { p99_us = { max = 1, result = 'ignore' } }",
            expect![
                "2:41: `profile.default.budget.p99_us.result` must be one of `fail`, `warn`, not `ignore`"
            ],
        ),
        (
            "budget = { p99_us = {} }",
            expect!["2:21: `profile.default.budget.p99_us` has neither `max` nor `min`"],
        ),
        (
            "budget = { 'files.open' = 3 }",
            expect![[
                r#"2:27: `profile.default.budget."files.open"` is not measured: the runner knows `files.opened`, `files.written`, `files.removed`, `files.missing`. For a metric of this name write `"metric.files.open"`"#
            ]],
        ),
        (
            "budget = { '' = 3 }",
            expect![[r#"2:17: `profile.default.budget.""` is no name of a metric"#]],
        ),
        (
            "budget = { rss = 3, 'rss' = 4 }",
            expect![[r#"
            2:21: not valid TOML: duplicate key
              | budget = { rss = 3, 'rss' = 4 }
              |                     ^"#]],
        ),
        (
            "budget = { 'files.opened' = 3, files = { opened = 4 } }",
            expect!["2:51: `profile.default.budget.files.opened` is there twice"],
        ),
    ] {
        line_error(line, expected);
    }
}

#[test]
fn an_override_changes_single_budgets_and_lifts_others() {
    let profile = compile(
        r#"
        [profile.default.budget]
        rss = "200 MiB"
        processes = 4
        files.opened = 100
        p99_us = { max = 1500, min = 0.5, result = "warn" }
        "metric.time" = { max = 3, required = true }
        [[profile.default.overrides]]
        filter = "test(cache)"
        budget = { rss = "1 GiB", processes = "none", time = "1m 30s" }
        "#,
        "default",
    );
    let shown = |test| {
        let query = TestCaseName::new(test);
        let resolved = profile.settings_for(&fixture::alpha().test(&query));
        let lines: Vec<_> = resolved
            .settings
            .budget
            .0
            .iter()
            .map(|limit| limit.place.line)
            .collect();
        let row = resolved
            .explain()
            .into_iter()
            .find(|row| row.key == "budget");
        (row.expect("it is a setting").value, lines)
    };
    let (value, lines) = shown("a");
    assert_eq!(
        value,
        "{ rss = \"200 MiB\", processes = 4, \"files.opened\" = 100, \
         p99_us = { max = 1500, min = 0.5, result = \"warn\" }, \
         \"metric.time\" = { max = 3, required = true } }"
    );
    assert_eq!(lines, [3, 4, 5, 6, 7]);
    let (value, lines) = shown("cache");
    assert_eq!(
        value,
        "{ rss = \"1 GiB\", time = \"1m 30s\", \"files.opened\" = 100, \
         p99_us = { max = 1500, min = 0.5, result = \"warn\" }, \
         \"metric.time\" = { max = 3, required = true } }"
    );
    assert_eq!(lines, [10, 10, 5, 6, 7]);
}
