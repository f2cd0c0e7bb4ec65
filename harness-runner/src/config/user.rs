//! Settings of a person rather than of a workspace: how a run looks and where it is kept, never what it
//! comes to.

use super::{
    ConfigError, ConfigWarning,
    file::RUNS_DIR,
    kind,
    overrides::target_spec,
    parse::{Context, Document, Found, Noted, Sections, Table, Value},
    scripts, sources, value,
};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{Word, words};
use serde_json::{Map, Value as Json, json};
use std::{collections::BTreeMap, ffi::OsString, sync::Arc};
use target_spec::Platform;

/// The paths of the settings of a person, below the folder for configuration. The first file that is there
/// counts; the second is that of cargo-nextest.
const FILES: [&str; 2] = ["harness/config.toml", "nextest/config.toml"];

/// Keys of cargo-nextest that have no effect here.
const UNSUPPORTED: &[&str] = &["streampager"];

/// The source of the settings of a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UserSource {
    /// The folder for configuration; nothing if no file is there.
    #[default]
    Folder,
    /// Nowhere.
    Nowhere,
    /// This file, which must be there.
    File(Utf8PathBuf),
}

/// Show progress in this form.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ShowProgress {
    /// A bar on a terminal, a counter elsewhere.
    Auto,
    /// Nothing.
    None,
    /// A bar with the running tests.
    Bar,
    /// A counter beside each test.
    Counter,
    /// A bar, and no lines for tests that pass.
    Only,
}

words!(ShowProgress {
    Auto = "auto",
    None = "none",
    Bar = "bar",
    Counter = "counter",
    Only = "only",
});

/// Whether places in the source are links.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Hyperlinks {
    /// If the terminal is known to open links, or cargo's `term.hyperlinks` says so.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

words!(Hyperlinks {
    Auto = "auto",
    Always = "always",
    Never = "never",
});

/// Whether what is longer than a screen goes through a pager.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Paginate {
    /// If a person reads it.
    Auto,
    /// No.
    Never,
}

words!(Paginate {
    Auto = "auto",
    Never = "never",
});

/// A pager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PagerCommand {
    /// The program and its arguments; nothing for no pager.
    pub command: Vec<String>,
    /// Variables of its environment.
    pub env: BTreeMap<String, String>,
}

impl Default for PagerCommand {
    /// One that ends by itself if all fits a screen, and lets colors through.
    fn default() -> Self {
        Self {
            command: vec!["less".to_owned(), "-FRX".to_owned()],
            env: BTreeMap::from([("LESSCHARSET".to_owned(), "utf-8".to_owned())]),
        }
    }
}

/// The settings of a person; `None` for what they leave open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserSettings {
    /// Show progress in this form.
    pub show_progress: Option<ShowProgress>,
    /// Name at most this many running tests in the progress bar.
    pub max_progress_running: Option<usize>,
    /// Whether keys are listened to.
    pub input_handler: Option<bool>,
    /// Whether captured output is indented.
    pub output_indent: Option<bool>,
    /// Whether places in the source are links.
    pub hyperlinks: Option<Hyperlinks>,
    /// The pager.
    pub pager: Option<PagerCommand>,
    /// Whether there is one.
    pub paginate: Option<Paginate>,
    /// The folder for recorded runs, relative to the workspace root.
    pub runs_dir: Option<Utf8PathBuf>,
}

impl UserSettings {
    /// Reads the settings of a person. `variable` looks up the environment.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or what it says makes no sense.
    pub fn load(
        source: &UserSource,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<(Self, Vec<ConfigWarning>), ConfigError> {
        let document = match source {
            UserSource::Nowhere => None,
            UserSource::File(path) => Some(sources::named(Utf8Path::new(""), path)?),
            UserSource::Folder => {
                let mut found = None;
                for file in folder(variable).iter().flat_map(|folder| {
                    let paths = FILES.iter().map(|file| folder.join(file));
                    paths.collect::<Vec<_>>()
                }) {
                    found = sources::read(Utf8Path::new(""), &file)?;
                    if found.is_some() {
                        break;
                    }
                }
                found
            }
        };
        match document {
            Some(document) => Self::of(&document),
            None => Ok((Self::default(), Vec::new())),
        }
    }

    /// Reads the settings of a person from a text. `file` is what messages call it.
    ///
    /// # Errors
    ///
    /// When what it says makes no sense.
    pub fn parse(file: &Utf8Path, text: String) -> Result<(Self, Vec<ConfigWarning>), ConfigError> {
        Self::of(&Document {
            file: Arc::from(file),
            text,
        })
    }

    fn of(document: &Document) -> Result<(Self, Vec<ConfigWarning>), ConfigError> {
        let root = document.parse()?;
        let found = Found::default();
        let context = Context {
            document,
            found: &found,
        };
        let mut root = Table::root(context, &root);
        let mut layers = Vec::new();
        if let Some(list) = root.get("overrides") {
            let entries = list.as_array();
            if entries.is_none() {
                let hint = "write `[[overrides]]`".to_owned();
                list.wrong_type("an array of tables", Some(hint));
            }
            for entry in entries.into_iter().flatten() {
                layers.extend(Self::entry(&entry).ok().flatten());
            }
        }
        root.unsupported_below(&["experimental"], 1);
        layers.push(Self::read(root));
        let warnings = sources::finish(found, &[Arc::clone(&document.file)])?;
        Ok((layers.into_iter().fold(Self::default(), Self::or), warnings))
    }

    /// Reads an entry of `overrides`; `None` if it is not for this platform.
    fn entry(entry: &Value<'_>) -> Result<Option<Self>, Noted> {
        let mut table = entry.table()?;
        if !table.has("platform") {
            entry.invalid("needs `platform`, to say where it counts");
        }
        let spec = table.read("platform", |platform| target_spec(&platform));
        let layer = Self::read(table);
        let here = Platform::build_target()
            .is_ok_and(|here| spec.is_some_and(|spec| spec.eval(&here).unwrap_or(true)));
        Ok(here.then_some(layer))
    }

    fn read(mut table: Table<'_>) -> Self {
        table.unsupported_below(&["record"], 1);
        let mut ui = Sections::of(table);
        let settings = Self {
            show_progress: read(&mut ui, "ui.show-progress", |value| value::word(&value)),
            max_progress_running: read(&mut ui, "ui.max-progress-running", |value| {
                match value.as_str() {
                    Some("infinite") => Ok(usize::MAX),
                    Some(_) => Err(value.wrong_type("an integer or `\"infinite\"`", None)),
                    None => Ok(value::count(&value, 0)?.try_into().unwrap_or(usize::MAX)),
                }
            }),
            input_handler: read(&mut ui, "ui.input-handler", |value| value.boolean()),
            output_indent: read(&mut ui, "ui.output-indent", |value| value.boolean()),
            hyperlinks: read(&mut ui, "ui.hyperlinks", |value| value::word(&value)),
            pager: read(&mut ui, "ui.pager", pager),
            paginate: read(&mut ui, "ui.paginate", |value| value::word(&value)),
            runs_dir: read(&mut ui, RUNS_DIR, value::path).flatten(),
        };
        ui.unsupported("ui", UNSUPPORTED);
        ui.close().warn_of_unknown();
        settings
    }

    /// Fills what is open from what comes after.
    fn or(self, next: Self) -> Self {
        Self {
            show_progress: self.show_progress.or(next.show_progress),
            max_progress_running: self.max_progress_running.or(next.max_progress_running),
            input_handler: self.input_handler.or(next.input_handler),
            output_indent: self.output_indent.or(next.output_indent),
            hyperlinks: self.hyperlinks.or(next.hyperlinks),
            pager: self.pager.or(next.pager),
            paginate: self.paginate.or(next.paginate),
            runs_dir: self.runs_dir.or(next.runs_dir),
        }
    }
}

/// Returns the JSON Schemas of the keys of `ui`.
pub(super) fn properties() -> Map<String, Json> {
    let several =
        json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, { "const": "infinite" }] });
    let keys = [
        (
            "show-progress",
            "the form in which progress is shown",
            json!({ "enum": ShowProgress::words() }),
        ),
        (
            "max-progress-running",
            "the number of running tests that the progress bar names",
            several,
        ),
        (
            "input-handler",
            "whether keys are listened to",
            (kind::BOOLEAN.schema)(),
        ),
        (
            "output-indent",
            "whether captured output is indented",
            (kind::BOOLEAN.schema)(),
        ),
        (
            "hyperlinks",
            "whether places in the source are links",
            json!({ "enum": Hyperlinks::words() }),
        ),
        ("pager", "the pager", pager_schema()),
        (
            "paginate",
            "whether there is a pager",
            json!({ "enum": Paginate::words() }),
        ),
    ];
    let described = keys.into_iter().map(|(key, says, mut schema)| {
        schema["description"] = Json::from(says);
        (key.to_owned(), schema)
    });
    described.collect()
}

/// Returns the JSON Schema of a pager.
fn pager_schema() -> Json {
    let words = json!({ "type": "array", "items": { "type": "string" } });
    let command = json!({ "anyOf": [{ "type": "string" }, words] });
    let table = json!({
        "type": "object",
        "properties": { "command": command, "env": (kind::ENV.schema)() },
        "required": ["command"],
        "additionalProperties": false,
    });
    json!({ "anyOf": [{ "type": "string" }, words, table] })
}

/// Reads a pager: a string, a list of words, or a table with both and an environment. `:builtin` is that of
/// cargo-nextest, for which the default stands.
fn pager(value: Value<'_>) -> Result<PagerCommand, Noted> {
    let mut pager = PagerCommand::default();
    if let Some(text) = value.as_str() {
        if text != ":builtin" {
            let unclosed = |_| value.invalid("has a quote without an end");
            pager.command = shell_words::split(text).map_err(unclosed)?;
        }
        return Ok(pager);
    }
    if value.as_array().is_some() {
        pager.command = value::strings(value)?;
        return Ok(pager);
    }
    let mut table = value.table()?;
    let Some(command) = table.get("command") else {
        return Err(value.invalid("needs `command`"));
    };
    pager = self::pager(command)?;
    if let Some(env) = table.get("env") {
        pager.env = scripts::env(env)?;
    }
    table.warn_of_unknown();
    Ok(pager)
}

fn read<'a, T>(
    sections: &mut Sections<'a>,
    key: &'static str,
    read: impl FnOnce(Value<'a>) -> Result<T, Noted>,
) -> Option<T> {
    sections.get(key).map(read)?.ok()
}

/// Returns the folder for configuration, if there is one (XDG Base Directory Specification).
fn folder(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<Utf8PathBuf> {
    let path = |name| {
        let value = variable(name)?.into_string().ok()?;
        Some(Utf8PathBuf::from(value)).filter(|path| path.is_absolute())
    };
    path("XDG_CONFIG_HOME").or_else(|| Some(path("HOME")?.join(".config")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use std::{collections::BTreeMap, fs};

    fn parse(text: &str) -> Result<(UserSettings, Vec<ConfigWarning>), ConfigError> {
        UserSettings::parse(Utf8Path::new("config.toml"), text.to_owned())
    }

    #[track_caller]
    fn error(text: &str, expected: Expect) {
        let error = parse(text).expect_err("it is wrong");
        expected.assert_eq(&error.to_string());
    }

    #[test]
    fn each_setting_of_a_person_is_that_of_the_first_override_for_this_platform() {
        let (settings, warnings) = parse(
            "[ui]\n\
             show-progress = 'bar'\n\
             max-progress-running = 'infinite'\n\
             input-handler = false\n\
             output-indent = true\n\
             hyperlinks = 'always'\n\
             paginate = 'never'\n\
             pager = { command = ['most', '-w'], env = { A = 'b' } }\n\
             [store]\n\
             runs-dir = '/runs'\n\
             [[overrides]]\n\
             platform = 'cfg(windows)'\n\
             ui.show-progress = 'none'\n\
             [[overrides]]\n\
             platform = 'cfg(target_os = \"linux\")'\n\
             ui.show-progress = 'only'\n\
             [[overrides]]\n\
             platform = 'cfg(unix)'\n\
             ui = { show-progress = 'counter', output-indent = false }\n",
        )
        .expect("it is right");
        assert_eq!(warnings, []);
        let expected = UserSettings {
            show_progress: Some(ShowProgress::Only),
            max_progress_running: Some(usize::MAX),
            input_handler: Some(false),
            output_indent: Some(false),
            hyperlinks: Some(Hyperlinks::Always),
            paginate: Some(Paginate::Never),
            pager: Some(PagerCommand {
                command: vec!["most".to_owned(), "-w".to_owned()],
                env: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
            }),
            runs_dir: Some("/runs".into()),
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn mistakes_of_a_person_have_their_places() {
        error(
            "ui.show-progress = 'bars'",
            expect![
                "config.toml:1:20: `ui.show-progress` must be one of `auto`, `none`, `bar`, `counter`, `only`, not `bars` (did you mean `bar`?)"
            ],
        );
        error(
            "ui.max-progress-running = -1",
            expect!["config.toml:1:27: `ui.max-progress-running` must be at least 0"],
        );
        error(
            "ui.max-progress-running = 'many'",
            expect![[
                r#"config.toml:1:27: `ui.max-progress-running` must be an integer or `"infinite"`, but is the string "many""#
            ]],
        );
        error(
            "ui.output-indent = 'true'",
            expect![[
                r#"config.toml:1:20: `ui.output-indent` must be `true` or `false`, but is the string "true"; remove the quotes"#
            ]],
        );
        error(
            "ui = 1",
            expect!["config.toml:1:6: `ui` must be a table, but is the integer 1"],
        );
        error(
            "overrides = 1",
            expect![
                "config.toml:1:13: `overrides` must be an array of tables, but is the integer 1; write `[[overrides]]`"
            ],
        );
        error(
            "[[overrides]]\nui.show-progress = 'bar'",
            expect!["config.toml:1:1: `overrides[0]` needs `platform`, to say where it counts"],
        );
        error(
            "[[overrides]]\nplatform = 'cfg('",
            expect![
                "config.toml:2:12: `overrides[0].platform` is neither a target triple nor a `cfg(...)` expression: expected one of `=`, `,`, `)` here"
            ],
        );
        error(
            "overrides = [{ platform = 'cfg(', ui.pager = 1, ui.show-progress = 1 }, {}, 2]\n\
             ui = { input-handler = 1, output-indent = 'x', max-progress-running = -1 }",
            expect![[r#"
                8 mistakes in the configuration:
                config.toml:1:27: `overrides[0].platform` is neither a target triple nor a `cfg(...)` expression: expected one of `=`, `,`, `)` here
                config.toml:1:46: `overrides[0].ui.pager` must be a table, but is the integer 1
                config.toml:1:68: `overrides[0].ui.show-progress` must be a string, but is the integer 1; write one of `auto`, `none`, `bar`, `counter`, `only`
                config.toml:1:73: `overrides[1]` needs `platform`, to say where it counts
                config.toml:1:77: `overrides[2]` must be a table, but is the integer 2
                config.toml:2:24: `ui.input-handler` must be `true` or `false`, but is the integer 1
                config.toml:2:43: `ui.output-indent` must be `true` or `false`, but is the string "x"
                config.toml:2:71: `ui.max-progress-running` must be at least 0"#]],
        );
        let (_, warnings) = parse(
            "ui.streampager.wrapping = 'word'\nui.pagr = 1\nrecord.enabled = true\n\
             experimental.record = true\nx = 1",
        )
        .expect("it is usable");
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        let expected = expect![[r#"
            keys of cargo-nextest that have no effect here yet: `ui.streampager` (config.toml:1:4), `record.enabled` (config.toml:3:8), `experimental.record` (config.toml:4:14)
            config.toml:2:4: unknown key `ui.pagr` (did you mean `pager`?)
            config.toml:5:1: unknown key `x`"#]];
        expected.assert_eq(&warnings.join("\n"));
    }

    #[test]
    fn a_person_s_own_file_counts_before_that_of_cargo_nextest() {
        let home = tempfile::tempdir().expect("a temporary folder can be made");
        let home: &Utf8Path = home.path().try_into().expect("the name is UTF-8");
        let write = |file: &str, count: usize| {
            let path = home.join(file);
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("it can be made");
            fs::write(path, format!("ui.max-progress-running = {count}")).expect("it is writable");
        };
        let read = |source: &UserSource, variables: &[(&str, &Utf8Path)]| {
            let variables: BTreeMap<&str, OsString> = variables
                .iter()
                .map(|(name, value)| (*name, value.as_str().into()))
                .collect();
            let loaded = UserSettings::load(source, &|name| variables.get(name).cloned());
            loaded.map(|(settings, _)| settings.max_progress_running)
        };
        let of_home = [("HOME", home)];
        let folder = UserSource::Folder;
        assert_eq!(read(&folder, &of_home).expect("nothing is there"), None);
        write(".config/nextest/config.toml", 1);
        assert_eq!(read(&folder, &of_home).expect("it is right"), Some(1));
        write(".config/harness/config.toml", 2);
        assert_eq!(read(&folder, &of_home).expect("it is right"), Some(2));
        write("xdg/harness/config.toml", 3);
        let xdg = home.join("xdg");
        let both = [("HOME", home), ("XDG_CONFIG_HOME", &*xdg)];
        assert_eq!(read(&folder, &both).expect("it is right"), Some(3));
        let relative = [("HOME", home), ("XDG_CONFIG_HOME", Utf8Path::new("xdg"))];
        assert_eq!(read(&folder, &relative).expect("it is right"), Some(2));
        assert_eq!(read(&UserSource::Nowhere, &both).expect("no file"), None);
        let missing = UserSource::File(home.join("missing.toml"));
        assert!(matches!(
            read(&missing, &both),
            Err(ConfigError::Missing { .. })
        ));
    }
}
