//! The kinds of values that settings have: how one is read, shown and described.

use super::{
    archive_include::{self, ArchiveInclude, OnMissing, RelativeTo},
    budget::{Budget, BudgetResult},
    limit,
    parse::{Noted, Value},
    policy, scripts,
    settings::*,
    show::Show,
    size, value,
};
use crate::policy::{Entries, Ipc, IpcWay, Net, NetAction};
use camino::Utf8PathBuf;
use harness_metadata::{Cpus, Word};
use serde_json::{Value as Json, json};
use std::{collections::BTreeMap, str::FromStr, time::Duration};

/// A kind of value.
pub(super) struct Kind<T> {
    /// Reads a value, or notes what is wrong with it.
    pub(super) read: fn(Value<'_>) -> Result<T, Noted>,
    /// Shows a value as the configuration would have it.
    pub(super) show: fn(&T) -> String,
    /// Says what may be written, in Markdown.
    pub(super) describe: fn() -> String,
    /// Returns the JSON Schema of what may be written.
    pub(super) schema: fn() -> Json,
}

/// Defines kinds: a name, the type, how it is read, what may be written, its schema.
macro_rules! kinds {
    ($($name:ident: $type:ty = $read:expr, $describe:expr, $schema:expr;)+) => {
        $(pub(super) const $name: Kind<$type> = Kind {
            read: $read,
            show: <$type as Show>::show,
            describe: || $describe.to_owned(),
            schema: || $schema,
        };)+
    };
}

kinds! {
    BOOLEAN: bool = |value| value.boolean(), "boolean", json!({ "type": "boolean" });
    TEXT: String = |value| value.string().map(str::to_owned), "string", json!({ "type": "string" });
    STRINGS: Vec<String> = value::strings, "array of strings",
        json!({ "type": "array", "items": { "type": "string" } });
    ENV: BTreeMap<String, String> = scripts::env, "table of names and strings",
        json!({ "type": "object", "additionalProperties": { "type": "string" } });
    PATH: Option<Utf8PathBuf> = value::path, "path", json!({ "type": "string", "minLength": 1 });
    COUNT: usize = |value| Ok(value::count(&value, 0)?.try_into().unwrap_or(usize::MAX)),
        "integer from 0", integer_from(0);
    COUNT_FROM_1: usize = |value| Ok(value::count(&value, 1)?.try_into().unwrap_or(usize::MAX)),
        "integer from 1", integer_from(1);
    TEXTS: BTreeMap<String, String> = value::texts, "table of names and strings",
        json!({ "type": "object", "additionalProperties": { "type": "string" } });
    SIZE: u64 = size::read, "size", size_schema();
    PERCENT: Percent = value::percent, "percentage such as `\"5%\"`", percent();
    DURATION: Duration = value::positive_duration, "duration above 0", duration();
    TIME_LIMIT: Option<Duration> = |value| value::positive_duration(value).map(Some),
        "duration above 0", duration();
    RETRIES: RetryPolicy = value::retries, "integer from 0, or table", retries();
    SLOW_TIMEOUT: SlowTimeout = value::slow_timeout, "duration above 0, or table", slow_timeout();
    LEAK_TIMEOUT: LeakTimeout = value::leak_timeout, "duration, or table", leak_timeout();
    MEMORY_MAX: Option<u64> = value::memory_max, "size from 1 MiB, or `\"none\"`",
        // `"none"` is a string, as a size may be.
        size_schema();
    PIDS_MAX: Option<u32> = value::pids_max, "integer from 1, or `\"none\"`",
        or_none(integer_from(1));
    CPU_MAX: Option<Cpus> = value::cpu_max,
        "number of CPUs such as `1.5`, from 0.01, or `\"none\"`",
        or_none(json!({ "type": "number", "minimum": 0.01, "maximum": 1_000_000 }));
    THREADS_REQUIRED: ThreadsRequired = value::threads_required,
        "integer from 1, `\"num-cpus\"` or `\"num-test-threads\"`",
        json!({ "anyOf": [integer_from(1), { "enum": ["num-cpus", "num-test-threads"] }] });
    MEMORY_REQUIRED: MemoryRequired = value::memory_required,
        "size, `\"learnt\"` for as much as last time, or `\"none\"`", size_schema();
    TEST_THREADS: TestThreads = value::threads, "integer other than 0, or `\"num-cpus\"`",
        json!({ "anyOf": [{ "type": "integer", "not": { "const": 0 } }, { "const": "num-cpus" }] });
    TEST_GROUP: TestGroup = value::test_group, "name of a group, or `\"@global\"` for none",
        json!({ "type": "string" });
    PRIORITY: i8 = value::priority, "integer from -100 to 100",
        json!({ "type": "integer", "minimum": -100, "maximum": 100 });
    ARCHIVE_INCLUDE: Vec<ArchiveInclude> = archive_include::read, "array of tables",
        json!({ "type": "array", "items": included() });
    ENTRIES: Entries = policy::entries, "array of [entries](policy.md#entries), or `\"all\"`", all_or_strings();
    IPC: Ipc = policy::ipc, "array of `\"abstract-sockets\"` and `\"signals\"`, or `\"all\"`",
        json!({ "anyOf": [
            { "const": "all" },
            { "type": "array", "items": { "enum": IpcWay::words() } },
        ] });
    NET: Net = policy::net, "array of [rules](policy.md#network), or `\"all\"`",
        json!({ "anyOf": [{ "const": "all" }, { "type": "array", "items": net_rule() }] });
    BUDGET: Budget = limit::read, "table of [names](budgets.md#names) and limits", budgets();
    FAIL_FAST: MaxFail = value::fail_fast, "boolean, or table", fail_fast();
}

/// Returns the kind of an enum of words.
pub(super) const fn words<T: Word + FromStr>() -> Kind<T> {
    Kind {
        read: |value| value::word(&value),
        show: |word| format!("{:?}", word.word()),
        describe: || one_of(&T::words()),
        schema: || json!({ "enum": T::words() }),
    }
}

/// Returns words as a sentence has them: `"a"`, `"b"` or `"c"`.
fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

fn integer_from(low: u32) -> Json {
    json!({ "type": "integer", "minimum": low })
}

fn percent() -> Json {
    json!({ "type": "string", "pattern": "^(100|[0-9]{1,2}) ?%?$" })
}

fn duration() -> Json {
    json!({ "type": "string", "minLength": 1 })
}

fn size_schema() -> Json {
    json!({ "anyOf": [integer_from(0), { "type": "string", "minLength": 1 }] })
}

fn net_rule() -> Json {
    let text = json!({ "type": "string", "minLength": 1 });
    json!({
        "type": "object",
        "properties": {
            "action": { "enum": NetAction::words() },
            "unix": text,
            "address": text,
            "host": text,
            "port": { "anyOf": [integer_from(0), text] },
        },
        "additionalProperties": false,
    })
}

fn all_or_strings() -> Json {
    let strings = json!({ "type": "array", "items": { "type": "string", "minLength": 1 } });
    json!({ "anyOf": [{ "const": "all" }, strings] })
}

fn or_none(schema: Json) -> Json {
    json!({ "anyOf": [schema, { "const": "none" }] })
}

fn either(schema: Json, properties: Json, required: &[&str]) -> Json {
    let table = json!({ "type": "object", "properties": properties, "required": required });
    json!({ "anyOf": [schema, table] })
}

fn retries() -> Json {
    let properties = json!({
        "backoff": { "enum": ["fixed", "exponential"] },
        "count": integer_from(0),
        "delay": duration(),
        "jitter": { "type": "boolean" },
        "max-delay": duration(),
    });
    either(integer_from(0), properties, &["backoff", "count"])
}

fn slow_timeout() -> Json {
    let properties = json!({
        "period": duration(),
        "terminate-after": integer_from(1),
        "grace-period": duration(),
        "on-timeout": { "enum": TimeoutResult::words() },
    });
    // `[profile.default]` may leave the period out.
    either(duration(), properties, &[])
}

fn leak_timeout() -> Json {
    let properties = json!({
        "period": duration(),
        "result": { "enum": LeakResult::words() },
    });
    either(duration(), properties, &["period"])
}

fn budgets() -> Json {
    let limit = json!({ "anyOf": [{ "type": "number" }, { "type": "string", "minLength": 1 }] });
    let table = json!({
        "type": "object",
        "properties": {
            "max": limit,
            "min": limit,
            "required": { "type": "boolean" },
            "result": { "enum": BudgetResult::words() },
        },
    });
    json!({ "type": "object", "additionalProperties": { "anyOf": [limit, table] } })
}

fn included() -> Json {
    json!({
        "type": "object",
        "properties": {
            "path": { "type": "string" },
            "relative-to": { "enum": RelativeTo::words() },
            "depth": { "anyOf": [integer_from(0), { "const": "infinite" }] },
            "on-missing": { "enum": OnMissing::words() },
        },
        "required": ["path", "relative-to"],
        "additionalProperties": false,
    })
}

fn fail_fast() -> Json {
    let properties = json!({
        "max-fail": { "anyOf": [integer_from(1), { "const": "all" }] },
        "terminate": { "enum": TerminateMode::words() },
    });
    either(json!({ "type": "boolean" }), properties, &["max-fail"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_listed_as_a_sentence_has_them() {
        assert_eq!(one_of(&["a"]), "`\"a\"`");
        assert_eq!(one_of(&["a", "b"]), "`\"a\"` or `\"b\"`");
        assert_eq!(one_of(&["a", "b", "c"]), "`\"a\"`, `\"b\"` or `\"c\"`");
    }
}
