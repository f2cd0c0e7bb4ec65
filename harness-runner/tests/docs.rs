//! Holds the pages of the site to the code: what the code knows by name has its place in the
//! page that is about it.
//!
//! Sources are read as text; what is looked for is written in few and plain ways there.

#[path = "docs/words.rs"]
mod words;

use expect_test::expect_file;
use fixture_kit::model::check_document;
use harness_runner::config::{
    Config, ConfigWarning, Declared, UserSettings, declared, schema, user_schema,
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

#[test]
fn every_setting_stands_in_its_page_as_it_is_declared() {
    let page = read("site/docs/configuration.md");
    let rows = declared().into_iter().map(|setting| {
        let Declared {
            key,
            kind,
            default,
            says,
            ..
        } = setting;
        format!("| `{key}` | {kind} | `{default}` | {says} |")
    });
    let missing: Vec<String> = rows.filter(|row| !page.contains(row.as_str())).collect();
    assert!(
        missing.is_empty(),
        "configuration.md lacks the rows\n{}",
        missing.join("\n")
    );
}

#[test]
fn the_schema_of_the_configuration_is_the_one_that_the_site_has() {
    let schema = serde_json::to_string_pretty(&schema()).expect("it is plain data");
    expect_file!["../../site/docs/harness.schema.json"].assert_eq(&(schema + "\n"));
}

#[test]
fn the_schema_of_the_settings_of_a_person_is_the_one_that_the_site_has_and_has_all_keys() {
    let schema = user_schema();
    let text = serde_json::to_string_pretty(&schema).expect("it is plain data");
    expect_file!["../../site/docs/user.schema.json"].assert_eq(&(text + "\n"));
    let source = read("harness-runner/src/config/user.rs");
    let keys = first_strings(&source, "read(&mut ui, ");
    assert!(keys.len() > 3, "too few keys were found: {keys:?}");
    for key in keys {
        let key = key.strip_prefix("ui.").expect("all are in one section");
        let known = &schema["properties"]["ui"]["properties"][key];
        assert!(known.is_object(), "the schema lacks `ui.{key}`");
    }
}

#[test]
fn the_examples_of_the_pages_are_valid_by_the_schemas_and_right() {
    let folder = workspace().join("site/docs");
    let pages = fs::read_dir(folder).expect("it is there");
    let pages = pages.map(|page| page.expect("it is readable").path());
    let (mut found, mut persons) = (0, 0);
    for page in pages.filter(|page| page.extension().is_some_and(|end| end == "md")) {
        let text = fs::read_to_string(&page).expect("it is readable");
        for example in text.split("```toml\n").skip(1) {
            let example = example.split("```").next().unwrap_or_default();
            let table: toml::Table = example.parse().expect("the example is TOML");
            let cargo = [
                "package",
                "dependencies",
                "dev-dependencies",
                "lib",
                "bin",
                "test",
                "target",
            ];
            if cargo.iter().any(|key| table.contains_key(*key)) {
                continue;
            }
            found += 1;
            let file = page.as_path().try_into().expect("the path is UTF-8");
            let person = table.contains_key("ui");
            persons += usize::from(person);
            let (schema, warnings) = match person {
                true => {
                    let read = UserSettings::parse(file, example.to_owned());
                    (user_schema(), read.expect("the example is right").1)
                }
                false => {
                    let read = Config::parse(file, example.to_owned());
                    (schema(), read.expect("the example is right").1)
                }
            };
            let unknown = warnings
                .iter()
                .filter(|warning| matches!(warning, ConfigWarning::UnknownKey { .. }));
            assert_eq!(unknown.count(), 0, "{file}: {warnings:?}");
            let valid = check_document(schema, &json(&toml::Value::Table(table)));
            valid.unwrap_or_else(|error| panic!("{file}: {error}\n{example}"));
        }
    }
    assert!(
        found > 10 && persons > 0,
        "only {found} examples were found"
    );
}

#[test]
fn the_schemas_refuse_wrong_values_and_unknown_keys() {
    for wrong in [
        "profile.ci.retrys = 1",
        "profile.ci.retries = 'x'",
        "profile.ci.status-level = 'loud'",
        "test-groups.a = {}",
        "scripts.setup.a = {}",
        "profile.ci.overrides = [{ priority = 101 }]",
        "profile.ci.quarantine = [{ filter = 'all()' }]",
    ] {
        let table = wrong.parse().expect("it is TOML");
        let checked = check_document(schema(), &json(&toml::Value::Table(table)));
        assert!(checked.is_err(), "{wrong}");
    }
    for wrong in ["ui.show-progress = 'bars'", "ui.x = 1", "overrides = [{}]"] {
        let table = wrong.parse().expect("it is TOML");
        let checked = check_document(user_schema(), &json(&toml::Value::Table(table)));
        assert!(checked.is_err(), "{wrong}");
    }
}

/// Returns a TOML value as editors' validators see it: a date is a string.
fn json(value: &toml::Value) -> serde_json::Value {
    match value {
        toml::Value::Datetime(date) => date.to_string().into(),
        toml::Value::Array(array) => array.iter().map(json).collect(),
        toml::Value::Table(table) => {
            let entries = table.iter().map(|(key, value)| (key.clone(), json(value)));
            serde_json::Value::Object(entries.collect())
        }
        toml::Value::String(text) => text.clone().into(),
        toml::Value::Integer(integer) => (*integer).into(),
        toml::Value::Float(float) => (*float).into(),
        toml::Value::Boolean(boolean) => (*boolean).into(),
    }
}

/// Keys of tables, which are not settings of their own.
#[test]
fn every_key_of_a_table_is_in_the_page_of_the_configuration() {
    let mut keys: BTreeSet<String> = BTreeSet::new();
    for file in ["file.rs", "value.rs", "overrides.rs"] {
        let source = read(&format!("harness-runner/src/config/{file}"));
        keys.extend(first_strings(&source, ".read("));
        keys.extend(first_strings(&source, ".get("));
        keys.extend(lists_of_strings(&source, ".unsupported(&["));
    }
    assert!(keys.len() > 20, "too few keys were found: {keys:?}");
    let page = read("site/docs/configuration.md");
    let missing: Vec<_> = keys.iter().filter(|key| !in_page(&page, key)).collect();
    assert!(missing.is_empty(), "not in configuration.md: {missing:?}");
}

#[test]
fn every_key_in_the_tables_of_the_page_is_known_to_the_code() {
    let sources: String = ["file.rs", "value.rs", "overrides.rs"]
        .map(|file| read(&format!("harness-runner/src/config/{file}")))
        .concat();
    let settings: BTreeSet<&str> = declared().iter().map(|setting| setting.key).collect();
    let page = read("site/docs/configuration.md");
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let keys: Vec<&str> = cells.filter_map(|cell| cell.split('`').next()).collect();
    assert!(keys.len() > 30, "too few keys were found: {keys:?}");
    for key in keys {
        assert!(
            settings.contains(key) || sources.contains(&format!("\"{key}\"")),
            "configuration.md has `{key}`, which the code does not read"
        );
    }
}

#[test]
fn the_page_of_exit_codes_has_every_code_and_no_other() {
    let source = read("harness-metadata/src/exit_code.rs");
    let known: BTreeSet<&str> = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const "))
        .filter_map(|line| line.split('=').nth(1))
        .map(|value| value.trim().trim_end_matches(';'))
        .collect();
    assert!(known.len() > 10, "too few codes were found: {known:?}");
    let page = read("site/docs/exit-codes.md");
    let told: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
        .filter(|cell| cell.parse::<i32>().is_ok())
        .collect();
    assert_eq!(told, known);
}

#[test]
fn every_variable_that_tests_see_is_in_the_page_of_the_environment() {
    let page = read("site/docs/environment.md");
    let mut missing = Vec::new();
    let mut found = 0;
    for file in ["run/environment.rs", "cargo/environment.rs"] {
        for name in strings(&read(&format!("harness-runner/src/{file}"))) {
            let is_name = |c: char| c.is_ascii_uppercase() || c == '_';
            if name.len() < 4 || name.ends_with('_') || !name.chars().all(is_name) {
                continue;
            }
            found += 1;
            let whole = ["HARNESS", "NEXTEST", "CARGO", "OUT_DIR", "LD_", "DYLD_"];
            let names = match whole.iter().any(|prefix| name.starts_with(prefix)) {
                true => vec![name],
                // The rest comes under two prefixes.
                false => vec![format!("HARNESS_{name}"), format!("NEXTEST_{name}")],
            };
            missing.extend(names.into_iter().filter(|name| !in_page(&page, name)));
        }
    }
    assert!(found > 35, "only {found} variables were found");
    assert!(missing.is_empty(), "not in environment.md: {missing:?}");
}

#[test]
fn every_flag_is_in_the_page_of_the_command_line_and_its_variable_in_that_of_the_environment() {
    let flags_page = read("site/docs/command-line.md");
    let variables_page = read("site/docs/environment.md");
    let mut missing = Vec::new();
    let mut found = 0;
    for file in [
        "cli.rs",
        "cli/compare.rs",
        "cli/filter_options.rs",
        "cli/flaky.rs",
        "cli/history.rs",
        "cli/list.rs",
        "cli/man.rs",
        "cli/migrate.rs",
        "cli/recordings.rs",
        "cli/replay.rs",
        "cli/report.rs",
        "cli/runner_options.rs",
        "cli/runs.rs",
        "cli/store.rs",
        "cli/trace.rs",
        "cli/trace/filter.rs",
        "cargo_options.rs",
    ] {
        let source = read(&format!("cargo-harness/src/{file}"));
        for (attributes, field) in arguments(&source) {
            let words: Vec<&str> = attributes.split([',', ' ', '\n', '(']).collect();
            if !words.contains(&"long") {
                continue;
            }
            found += 1;
            let given = first_strings(&attributes, "long = ");
            let long = given
                .into_iter()
                .next()
                .unwrap_or_else(|| field.replace('_', "-"));
            let flag = format!("--{long}");
            if !flags_page
                .split(|c: char| c != '-' && !c.is_alphanumeric())
                .any(|word| word == flag)
            {
                missing.push(flag);
            }
            let variables = first_strings(&attributes, "env = ");
            missing.extend(
                variables
                    .into_iter()
                    .filter(|name| !in_page(&variables_page, name)),
            );
        }
    }
    assert!(found > 50, "only {found} flags were found");
    assert!(missing.is_empty(), "in no page: {missing:?}");
}

#[test]
fn every_test_that_the_pages_of_faults_name_is_there() {
    let pages = [
        "site/docs/bench.md",
        "site/docs/beside-cargo-nextest.md",
        "site/docs/budgets.md",
        "site/docs/coming-over.md",
        "site/docs/faults.md",
        "site/docs/metrics.md",
        "site/docs/never-wrong.md",
        "site/docs/payloads.md",
        "site/docs/what-cargo-says.md",
    ]
    .map(read);
    let rows = pages
        .iter()
        .flat_map(|page| page.lines())
        .filter(|line| line.starts_with("| "));
    let proofs = rows.filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next());
    let named: BTreeSet<&str> = proofs
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter(|name| name.matches('_').count() > 3)
        .collect();
    assert!(named.len() > 30, "too few tests were found: {named:?}");
    let mut sources = String::new();
    for folder in [
        "cargo-harness/src",
        "cargo-harness/tests",
        "harness-metadata/src",
        "harness-runner/payload",
        "harness-runner/src",
        "harness-runner/tests",
    ] {
        gather(&workspace().join(folder), &mut sources);
    }
    let lines: Vec<&str> = sources.lines().map(str::trim_start).collect();
    let sources = lines.join("\n");
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !sources.contains(&format!("#[test]\nfn {name}(")))
        .collect();
    assert!(
        missing.is_empty(),
        "the pages of faults name tests that are not there: {missing:?}"
    );
}

#[test]
fn every_file_that_the_page_for_contributors_names_is_there() {
    let page = read(".github/CONTRIBUTING.md");
    let named: BTreeSet<&str> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.ends_with(".rs") || name.ends_with(".md"))
        .collect();
    assert!(named.len() > 30, "too few files were found: {named:?}");
    let is_there = |name: &str| {
        let folders = [
            "",
            "harness-runner",
            "harness-runner/src",
            "harness-metadata/src",
        ];
        let below = |folder: &str| workspace().join(folder).join(name).is_file();
        folders.into_iter().any(below)
    };
    let missing: Vec<_> = named.iter().filter(|name| !is_there(name)).collect();
    assert!(
        missing.is_empty(),
        "CONTRIBUTING.md names files that are not there: {missing:?}"
    );
}

/// "`file.rs` (`name`)" and "`name` (`file.rs`)" say that the file defines the name.
#[test]
fn every_name_that_the_page_for_contributors_gives_a_file_is_defined_in_it() {
    let page = read(".github/CONTRIBUTING.md").replace('\n', " ");
    let (mut found, mut missing) = (0, Vec::new());
    for (before, after) in page.match_indices("` (`").map(|(at, gap)| {
        let (before, after) = (&page[..at], &page[at + gap.len()..]);
        (before.rsplit('`').next(), after.split('`').next())
    }) {
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        let (file, name) = match (before.ends_with(".rs"), after.ends_with(".rs")) {
            (true, false) => (before, after),
            (false, true) => (after, before),
            _ => continue,
        };
        found += 1;
        let folders = ["harness-runner/src", "harness-metadata/src", "."];
        let mut paths = folders
            .iter()
            .map(|folder| workspace().join(folder).join(file));
        let text = paths.find_map(|path| fs::read_to_string(path).ok());
        let text = text.unwrap_or_else(|| panic!("there is no `{file}`"));
        let is_defined = |kind: &str| {
            let definition = format!("{kind} {name}");
            let mut rests = text.split(&definition).skip(1);
            rests.any(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        };
        if !["fn", "struct", "enum", "trait"]
            .into_iter()
            .any(is_defined)
        {
            missing.push(format!("`{name}` in `{file}`"));
        }
    }
    assert!(found >= 5, "only {found} names with a file were found");
    assert!(
        missing.is_empty(),
        "CONTRIBUTING.md names what is elsewhere: {missing:?}"
    );
}

#[test]
fn the_page_of_how_it_works_has_every_module_in_its_order() {
    let root = read("harness-runner/src/lib.rs");
    let (documentation, code): (Vec<&str>, Vec<&str>) =
        root.lines().partition(|line| line.starts_with("//!"));
    let declared: BTreeSet<&str> = code
        .iter()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "))
        .filter_map(|line| line.strip_suffix(';'))
        .collect();
    // `tests/layers.rs` holds the documentation of the crate to the layers.
    let documentation = documentation.join("\n");
    let modules: Vec<&str> = in_backticks(&documentation)
        .filter(|name| declared.contains(name))
        .collect();
    let page = read("site/docs/how-it-works.md");
    let section = page.split("\n## The modules\n").nth(1);
    let section = section.expect("the page has a section about the modules");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    assert_eq!(rows, modules);
}

/// The words in backticks that are written as files, types and constants are.
#[test]
fn every_file_type_and_constant_that_the_page_of_how_it_works_names_is_there() {
    let page = read("site/docs/how-it-works.md");
    let mut sources = String::new();
    for folder in [
        "harness-metadata/src",
        "harness-runner/src",
        "cargo-harness/src",
    ] {
        gather(&workspace().join(folder), &mut sources);
    }
    let is_defined = |name: &str| {
        ["struct", "enum", "trait", "type"].iter().any(|kind| {
            let definition = format!("{kind} {name}");
            let definitions = sources.split(&definition).skip(1);
            let mut ends = definitions.filter_map(|rest| rest.chars().next());
            ends.any(|next| !next.is_alphanumeric() && next != '_')
        })
    };
    let (mut found, mut missing) = (0, Vec::new());
    for name in in_backticks(&page) {
        let is_word = name.chars().all(|c| c.is_alphanumeric() || c == '_');
        let is_there = if name.ends_with(".rs") {
            [
                "harness-runner",
                "harness-runner/src",
                "harness-metadata/src",
            ]
            .iter()
            .any(|folder| workspace().join(folder).join(name).is_file())
        } else if is_word && name.contains('_') && name.to_uppercase() == name {
            sources.contains(name)
        } else if is_word && name.starts_with(|c: char| c.is_uppercase()) {
            is_defined(name)
        } else if name.ends_with(".cache") || name.starts_with("__") {
            sources.contains(&format!("{name}\""))
        } else {
            continue;
        };
        found += 1;
        if !is_there {
            missing.push(name);
        }
    }
    assert!(found > 10, "only {found} names were found");
    assert!(
        missing.is_empty(),
        "how-it-works.md names {missing:?}, which the code lacks"
    );
}

/// Returns the texts in single backticks.
fn in_backticks(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Appends all sources below a folder.
fn gather(folder: &Path, sources: &mut String) {
    for entry in fs::read_dir(folder).expect("sources can be read") {
        let path = entry.expect("sources can be read").path();
        if path.is_dir() {
            gather(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(&path).expect("sources are UTF-8"));
        }
    }
}

#[test]
fn a_name_that_is_missing_is_noticed() {
    assert!(in_page("the key `a` and `b.c`", "b.c"));
    assert!(in_page("`trace = \"off\"` and `retries`", "retries"));
    assert!(!in_page("the key `alpha`", "al"));
    assert_eq!(
        first_strings(
            "table.read(\n  \"one\", x); y.get(key); .read(\"two\")",
            ".read("
        ),
        ["one", "two"]
    );
    assert_eq!(
        lists_of_strings("t.unsupported(&[\"a\",\n \"b\"]);", ".unsupported(&["),
        ["a", "b"]
    );
    let found = arguments("#[arg(long, env = \"X\")]\n    pub(super) one_two: bool,");
    assert_eq!(
        found,
        [("long, env = \"X\"".to_owned(), "one_two".to_owned())]
    );
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in a workspace")
        .to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns whether the page has the name in backticks, alone.
fn in_page(page: &str, name: &str) -> bool {
    page.contains(&format!("`{name}`"))
}

/// Returns the string literals that follow `before`, with nothing but space in between.
fn first_strings(source: &str, before: &str) -> Vec<String> {
    let after = source.split(before).skip(1).map(str::trim_start);
    let literals = after.filter_map(|text| text.strip_prefix('"')?.split('"').next());
    literals.map(str::to_owned).collect()
}

/// Returns the string literals in the lists that `before` opens.
fn lists_of_strings(source: &str, before: &str) -> Vec<String> {
    let lists = source
        .split(before)
        .skip(1)
        .filter_map(|text| text.split(']').next());
    lists.flat_map(strings).collect()
}

/// Returns all string literals of a source whose literals hold no quotes and whose comments hold
/// no single ones.
fn strings(source: &str) -> Vec<String> {
    let code = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let code: String = code.collect::<Vec<_>>().join("\n");
    let code = code.replace("'\"'", "");
    code.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Returns the arguments of each `#[arg(…)]`, and the name of the field below it.
fn arguments(source: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    for after in source.split("#[arg(").skip(1) {
        let Some((attributes, rest)) = after.split_once(")]") else {
            continue;
        };
        let field = rest.split(':').next().unwrap_or_default();
        let field = field.rsplit([' ', '\n']).next().unwrap_or_default();
        found.push((attributes.to_owned(), field.to_owned()));
    }
    found
}

#[test]
fn every_key_of_a_script_is_in_its_page() {
    let mut keys: BTreeSet<String> = BTreeSet::new();
    for file in ["scripts.rs", "scripts/services.rs", "rules.rs"] {
        let source = read(&format!("harness-runner/src/config/{file}"));
        keys.extend(first_strings(&source, ".read("));
        keys.extend(first_strings(&source, ".get("));
        keys.extend(first_strings(&source, "flag(&mut table, "));
    }
    assert!(keys.len() > 10, "too few keys were found: {keys:?}");
    let page = read("site/docs/scripts.md");
    let missing: Vec<_> = keys.iter().filter(|key| !in_page(&page, key)).collect();
    assert!(missing.is_empty(), "not in scripts.md: {missing:?}");
}
