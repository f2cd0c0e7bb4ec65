//! The JSON Schemas of `harness.toml` and of the settings of a person, for editors.

use super::{
    declared::declared,
    kind,
    layer::{Declared, Scope},
    scripts::{CommandBase, ServiceScope, StopSignal, WithRunner},
};
use harness_metadata::Word;
use serde_json::{Map, Value as Json, json};

/// Returns the JSON Schema of `harness.toml` (draft 2020-12), made from the declarations of all
/// settings. A key that it does not have is one that has no effect.
pub fn schema() -> Json {
    let mut profile = properties(Scope::Profile);
    profile.insert("inherits".to_owned(), json!({ "type": "string" }));
    profile.insert("default-filter".to_owned(), json!({ "type": "string" }));
    let overrides = json!({ "type": "array", "items": object(override_properties()) });
    profile.insert("overrides".to_owned(), overrides);
    let rules = json!({ "type": "array", "items": object(rule_properties()) });
    profile.insert("scripts".to_owned(), rules);
    profile.insert("quarantine".to_owned(), quarantine());
    let group = json!({
        "type": "object",
        "properties": { "max-threads": (kind::TEST_THREADS.schema)() },
        "required": ["max-threads"],
        "additionalProperties": false,
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "harness.toml",
        "description": "The configuration of cargo harness",
        "type": "object",
        "properties": {
            "profile": { "type": "object", "additionalProperties": object(profile) },
            "harness-version": versions(),
            "nextest-version": versions(),
            "experimental": { "type": ["array", "object"] },
            "store": object(store(&["dir", RUNS_DIR])),
            "scripts": scripts(),
            "script": { "type": "object", "additionalProperties": setup_script() },
            "test-groups": { "type": "object", "additionalProperties": group },
        },
        "additionalProperties": false,
    })
}

/// The key below `store` of the folder for recorded runs.
const RUNS_DIR: &str = "runs-dir";

/// Returns the JSON Schemas of these keys below `store`.
fn store(keys: &[&str]) -> Map<String, Json> {
    let path = |key: &&str| {
        let says = match *key {
            RUNS_DIR => "the folder for recorded runs, relative to the workspace root",
            _ => "the folder for reports, relative to the workspace root",
        };
        let path = json!({ "type": "string", "minLength": 1, "description": says });
        ((*key).to_owned(), path)
    };
    keys.iter().map(path).collect()
}

/// Returns the JSON Schema of the settings of a person (draft 2020-12).
pub fn user_schema() -> Json {
    let ui = object(super::user::properties());
    let store = object(store(&[RUNS_DIR]));
    let entry = json!({
        "type": "object",
        "properties": { "platform": { "type": "string" }, "ui": ui, "store": store },
        "required": ["platform"],
        "additionalProperties": false,
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "harness/config.toml",
        "description": "The settings of a person for cargo harness",
        "type": "object",
        "properties": { "ui": ui, "store": store, "overrides": { "type": "array", "items": entry } },
        "additionalProperties": false,
    })
}

fn quarantine() -> Json {
    let text = json!({ "type": "string", "minLength": 1 });
    let entry = json!({
        "type": "object",
        "properties": { "filter": text, "reason": text, "owner": text, "expires": text },
        "required": ["filter", "reason", "owner", "expires"],
        "additionalProperties": false,
    });
    json!({ "type": "array", "items": entry })
}

fn versions() -> Json {
    let version = json!({ "type": "string" });
    let table = json!({
        "type": "object",
        "properties": { "required": version, "recommended": version },
        "additionalProperties": false,
    });
    json!({ "anyOf": [version, table] })
}

/// Returns the schema of `scripts`.
fn scripts() -> Json {
    let wrapper = json!({
        "type": "object",
        "properties": {
            "command": command(),
            "target-runner": { "enum": WithRunner::words() },
        },
        "required": ["command"],
        "additionalProperties": false,
    });
    json!({
        "type": "object",
        "properties": {
            "setup": { "type": "object", "additionalProperties": setup_script() },
            "wrapper": { "type": "object", "additionalProperties": wrapper },
            "service": { "type": "object", "additionalProperties": service() },
        },
        "additionalProperties": false,
    })
}

fn service() -> Json {
    let flag = json!({ "type": "boolean" });
    let text = json!({ "type": "string" });
    let junit = json!({
        "type": "object",
        "properties": { "store-success-output": flag, "store-failure-output": flag },
        "additionalProperties": false,
    });
    let port = json!({ "type": "integer", "minimum": 1, "maximum": 65535 });
    let ready = json!({
        "type": "object",
        "properties": {
            "line": text,
            "port": { "anyOf": [port, text] },
            "path": text,
            "command": command(),
            "timeout": (kind::DURATION.schema)(),
            "interval": (kind::DURATION.schema)(),
        },
        "minProperties": 1,
        "additionalProperties": false,
    });
    json!({
        "type": "object",
        "properties": {
            "command": command(),
            "scope": { "enum": ServiceScope::words() },
            "ready": ready,
            "env": (kind::ENV.schema)(),
            "stop-signal": { "enum": StopSignal::words() },
            "grace-period": (kind::DURATION.schema)(),
            "junit": junit,
        },
        "required": ["command"],
        "additionalProperties": false,
    })
}

fn setup_script() -> Json {
    let flag = json!({ "type": "boolean" });
    let junit = json!({
        "type": "object",
        "properties": { "store-success-output": flag, "store-failure-output": flag },
        "additionalProperties": false,
    });
    json!({
        "type": "object",
        "properties": {
            "command": command(),
            "teardown": command(),
            "teardown-timeout": (kind::DURATION.schema)(),
            "slow-timeout": (kind::SLOW_TIMEOUT.schema)(),
            "leak-timeout": (kind::LEAK_TIMEOUT.schema)(),
            "capture-stdout": flag,
            "capture-stderr": flag,
            "junit": junit,
        },
        "required": ["command"],
        "additionalProperties": false,
    })
}

/// Returns the schema of a script's command.
fn command() -> Json {
    let strings = json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 });
    let line = json!({ "anyOf": [{ "type": "string", "minLength": 1 }, strings] });
    let table = json!({
        "type": "object",
        "properties": {
            "command-line": line,
            "relative-to": { "enum": CommandBase::words() },
            "env": (kind::ENV.schema)(),
        },
        "required": ["command-line"],
        "additionalProperties": false,
    });
    json!({ "anyOf": [line, table] })
}

fn rule_properties() -> Map<String, Json> {
    let name = json!({ "type": "string" });
    let names = json!({ "anyOf": [name, { "type": "array", "items": name }] });
    Map::from_iter([
        ("filter".to_owned(), name.clone()),
        ("platform".to_owned(), platform()),
        ("setup".to_owned(), names.clone()),
        ("service".to_owned(), names),
        ("list-wrapper".to_owned(), name.clone()),
        ("run-wrapper".to_owned(), name),
    ])
}

fn platform() -> Json {
    let platforms = json!({
        "type": "object",
        "properties": { "host": { "type": "string" }, "target": { "type": "string" } },
        "additionalProperties": false,
    });
    json!({ "anyOf": [{ "type": "string" }, platforms] })
}

fn override_properties() -> Map<String, Json> {
    let mut properties = properties(Scope::Override);
    properties.insert("filter".to_owned(), json!({ "type": "string" }));
    properties.insert("default-filter".to_owned(), json!({ "type": "string" }));
    properties.insert("platform".to_owned(), platform());
    properties
}

/// Returns the declared settings that may stand in a table, those of sections in theirs.
fn properties(table: Scope) -> Map<String, Json> {
    let mut properties = Map::new();
    let mut sections: Map<String, Json> = Map::new();
    for setting in declared() {
        if !setting.scope.covers(table) {
            continue;
        }
        match setting.key.split_once('.') {
            None => {
                properties.insert(setting.key.to_owned(), described(setting));
            }
            Some((section, key)) => {
                let keys = sections.entry(section).or_insert_with(|| json!({}));
                let Some((inner, key)) = key.split_once('.') else {
                    keys[key] = described(setting);
                    continue;
                };
                let inner = keys.as_object_mut().expect("made above").entry(inner);
                let inner = inner.or_insert_with(|| object(Map::new()));
                inner["properties"][key] = described(setting);
            }
        }
    }
    for (section, keys) in sections {
        let Json::Object(keys) = keys else { continue };
        let level = keys.get("level").cloned();
        let table = object(keys);
        // `trace = "off"` is short for a table with a level.
        let schema = match level {
            Some(level) => json!({ "anyOf": [level, table] }),
            None => table,
        };
        properties.insert(section, schema);
    }
    properties
}

fn object(properties: Map<String, Json>) -> Json {
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn described(setting: Declared) -> Json {
    let mut schema = setting.schema;
    schema["description"] = Json::from(without_links(setting.says));
    schema
}

/// Returns Markdown with the texts of its links in the place of the links.
pub(super) fn without_links(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some((before, link)) = rest.split_once('[') {
        let Some((label, after)) = link.split_once("](") else {
            break;
        };
        let Some((_, after)) = after.split_once(')') else {
            break;
        };
        text.push_str(before);
        text.push_str(label);
        rest = after;
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_replaced_by_its_text() {
        assert_eq!(without_links("a [b](c.md#d) e [f](g)"), "a b e f");
        assert_eq!(without_links("an [open bracket"), "an [open bracket");
    }

    #[test]
    fn a_setting_is_where_it_may_stand_and_nowhere_else() {
        let schema = schema();
        let profile = &schema["properties"]["profile"]["additionalProperties"]["properties"];
        let entry = &profile["overrides"]["items"]["properties"];
        assert!(profile["test-threads"].is_object() && entry["test-threads"].is_null());
        assert!(entry["priority"].is_object() && profile["priority"].is_null());
        assert!(entry["junit"]["properties"]["path"].is_null());
        assert!(profile["junit"]["properties"]["path"].is_object());
        assert_eq!(
            entry["trace"]["anyOf"][0]["enum"],
            json!(["off", "process", "io", "full"])
        );
    }
}
