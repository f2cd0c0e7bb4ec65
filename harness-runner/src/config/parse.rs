//! Walks a TOML document, and knows for every value its place and its dotted key.
//!
//! A [`Table`] remembers which keys were read; the others are unknown.

use super::{
    error::{ConfigError, ConfigWarning, Place, nearest},
    names::KnownScript,
};
use camino::Utf8Path;
use std::{cell::RefCell, ops::Range, sync::Arc};
use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue},
};

/// A configuration file's text.
#[derive(Debug)]
pub(super) struct Document {
    /// Its path as messages name it.
    pub(super) file: Arc<Utf8Path>,
    /// Its text.
    pub(super) text: String,
}

impl Document {
    /// Returns the place of a byte of the text.
    pub(super) fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            file: Arc::clone(&self.file),
            line: from_one(before.matches('\n').count()),
            column: from_one(before[line_start..].chars().count()),
        }
    }

    /// Parses the text.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'_>>, ConfigError> {
        DeTable::parse(&self.text)
            .map_err(|error| self.broken(error.span().map(|span| span.start), error.message()))
    }

    /// Returns the error of a text that a parser refuses at a byte, or at its end.
    pub(super) fn broken(&self, at: Option<usize>, message: &str) -> ConfigError {
        let place = self.place(at.unwrap_or(self.text.len()));
        let before = self.text.lines().take(place.line as usize);
        let line = before.last().unwrap_or_default();
        // Tabs stay tabs, so that the caret stands where the terminal puts the character.
        let indent: String = line
            .chars()
            .take(place.column as usize - 1)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        ConfigError::Syntax {
            message: message.lines().collect::<Vec<_>>().join(", "),
            excerpt: format!("  | {line}\n  | {indent}^"),
            place,
        }
    }
}

/// Counts from 1 what was counted from 0.
fn from_one(index: usize) -> u32 {
    u32::try_from(index).map_or(u32::MAX, |index| index.saturating_add(1))
}

/// The state that all values of a document share.
#[derive(Copy, Clone)]
pub(super) struct Context<'a> {
    pub(super) document: &'a Document,
    pub(super) found: &'a Found,
}

/// The findings in the documents that are read together.
#[derive(Default)]
pub(super) struct Found {
    pub(super) warnings: RefCell<Vec<ConfigWarning>>,
    pub(super) mistakes: RefCell<Vec<ConfigError>>,
    /// The names of the test groups: those of files read before, and of this one once they are read.
    test_groups: RefCell<Vec<String>>,
    /// The scripts, as the test groups.
    pub(super) scripts: RefCell<Vec<KnownScript>>,
}

impl Found {
    /// Notes a mistake. Reading goes on, so that all mistakes are found at once.
    pub(super) fn note(&self, mistake: ConfigError) -> Noted {
        self.mistakes.borrow_mut().push(mistake);
        Noted(())
    }
}

/// A mistake was noted. The reader of a value gives up with this; the table that the value stands in
/// is read to its end.
#[derive(Copy, Clone, Debug)]
pub(super) struct Noted(());

/// Puts results together. All are looked at, so that the mistake of each is noted.
pub(super) fn all<T>(results: impl Iterator<Item = Result<T, Noted>>) -> Result<Vec<T>, Noted> {
    let results: Vec<_> = results.collect();
    results.into_iter().collect()
}

/// A value, with its dotted key.
#[derive(Clone)]
pub(super) struct Value<'a> {
    context: Context<'a>,
    key: String,
    value: &'a DeValue<'a>,
    span: Range<usize>,
}

impl<'a> Value<'a> {
    pub(super) fn place(&self) -> Place {
        self.context.document.place(self.span.start)
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Notes that the value is not of the `expected` type.
    pub(super) fn wrong_type(&self, expected: &'static str, hint: Option<String>) -> Noted {
        self.context.found.note(ConfigError::WrongType {
            place: self.place(),
            key: self.key.clone(),
            expected,
            found: describe(self.value),
            hint,
        })
    }

    /// Notes that the value makes no sense; `problem` continues a sentence that starts with the key.
    pub(super) fn invalid(&self, problem: impl Into<String>) -> Noted {
        self.context.found.note(ConfigError::Invalid {
            place: self.place(),
            key: self.key.clone(),
            problem: problem.into(),
        })
    }

    /// Notes another mistake.
    pub(super) fn note(&self, mistake: ConfigError) -> Noted {
        self.context.found.note(mistake)
    }

    pub(super) fn warn(&self, warning: impl FnOnce(Place, String) -> ConfigWarning) {
        let warnings = &self.context.found.warnings;
        warnings
            .borrow_mut()
            .push(warning(self.place(), self.key.clone()));
    }

    /// Warns about a key of cargo-nextest, which stands at `place`: about the keys of its table if there
    /// are any and `depth` is not used up.
    fn unsupported(&self, place: Place, depth: u32) {
        let entries = match self.as_table() {
            Some(table) if depth > 0 => table.named(),
            _ => Vec::new(),
        };
        if entries.is_empty() {
            self.warn(|_, key| ConfigWarning::UnsupportedKeys(vec![(place, key)]));
        }
        for (place, _, value) in entries {
            value.unsupported(place, depth - 1);
        }
    }

    /// Returns the names of the document's test groups.
    pub(super) fn test_groups(&self) -> Vec<String> {
        self.context.found.test_groups.borrow().clone()
    }

    /// Returns the scripts that rules can name.
    pub(super) fn scripts(&self) -> &'a RefCell<Vec<KnownScript>> {
        &self.context.found.scripts
    }

    pub(super) fn as_str(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        self.value.as_bool()
    }

    /// Returns a date or a time as it is written.
    pub(super) fn as_date(&self) -> Option<String> {
        self.value.as_datetime().map(ToString::to_string)
    }

    /// Returns an integer; `None` for other types and for integers beyond 64 bits.
    pub(super) fn as_integer(&self) -> Option<i64> {
        self.value.as_integer().and_then(to_i64)
    }

    /// Returns a number, whole or not.
    pub(super) fn as_number(&self) -> Option<f64> {
        let float = self
            .value
            .as_float()
            .and_then(|float| float.as_str().parse().ok());
        float.or_else(|| self.as_integer().map(|integer| integer as f64))
    }

    pub(super) fn as_array(&self) -> Option<impl Iterator<Item = Value<'a>> + use<'a>> {
        let array = self.value.as_array()?;
        let (context, key) = (self.context, self.key.clone());
        Some(array.iter().enumerate().map(move |(index, element)| Value {
            context,
            key: format!("{key}[{index}]"),
            value: element.get_ref(),
            span: element.span(),
        }))
    }

    pub(super) fn as_table(&self) -> Option<Table<'a>> {
        let entries = self.value.as_table()?;
        Some(Table {
            context: self.context,
            key: self.key.clone(),
            entries,
            start: self.span.start,
            asked: Vec::new(),
            wrong: None,
        })
    }

    pub(super) fn string(&self) -> Result<&'a str, Noted> {
        self.as_str()
            .ok_or_else(|| self.wrong_type("a string", self.quoting_hint()))
    }

    pub(super) fn boolean(&self) -> Result<bool, Noted> {
        let hint = match self.as_str() {
            Some("true" | "false") => Some("remove the quotes".to_owned()),
            _ => None,
        };
        self.as_bool()
            .ok_or_else(|| self.wrong_type("`true` or `false`", hint))
    }

    pub(super) fn table(&self) -> Result<Table<'a>, Noted> {
        self.as_table()
            .ok_or_else(|| self.wrong_type("a table", None))
    }

    fn quoting_hint(&self) -> Option<String> {
        match self.value {
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                Some("put it in quotes".to_owned())
            }
            _ => None,
        }
    }
}

/// A table, with its dotted key.
pub(super) struct Table<'a> {
    context: Context<'a>,
    key: String,
    entries: &'a DeTable<'a>,
    start: usize,
    asked: Vec<&'static str>,
    /// Whether the value of a key was wrong.
    wrong: Option<Noted>,
}

impl<'a> Table<'a> {
    /// Returns the table of a whole document.
    pub(super) fn root(context: Context<'a>, root: &'a Spanned<DeTable<'a>>) -> Self {
        Self {
            context,
            key: String::new(),
            entries: root.get_ref(),
            start: 0,
            asked: Vec::new(),
            wrong: None,
        }
    }

    /// Returns the value of a key, if it is there, and remembers that the key has a meaning.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        let value = self.entries.get(key)?;
        Some(Value {
            context: self.context,
            key: self.dotted(key),
            value: value.get_ref(),
            span: value.span(),
        })
    }

    /// Returns the value of a key converted by `read`, if it is there and right.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Value<'a>) -> Result<T, Noted>,
    ) -> Option<T> {
        let read = self.get(key).map(read)?;
        self.wrong = self.wrong.or(read.as_ref().err().copied());
        read.ok()
    }

    /// Returns whether a key is there, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Fails if a key was wrong: one that seems to contradict another, or to be left out, may only be
    /// the wrong one.
    pub(super) fn whole(&self) -> Result<(), Noted> {
        self.wrong.map_or(Ok(()), Err)
    }

    /// Notes that a key is left out, unless it is there and wrong; `rest` ends the sentence.
    pub(super) fn lacks(&self, key: &str, rest: &str) -> Noted {
        match self.wrong {
            Some(noted) if self.has(key) => noted,
            _ => self.invalid(format!("lacks `{key}`{rest}")),
        }
    }

    /// Lets values know the document's test groups.
    pub(super) fn declare_test_groups(&self, names: impl Iterator<Item = String>) {
        self.context.found.test_groups.borrow_mut().extend(names);
    }

    /// Warns about keys that mean something to cargo-nextest only.
    pub(super) fn unsupported(&mut self, keys: &[&'static str]) {
        for &key in keys {
            if let Some(value) = self.get(key) {
                value.unsupported(value.place(), 0);
            }
        }
    }

    /// Warns about keys of cargo-nextest as well, but names what stands in their tables, so many tables
    /// deep.
    pub(super) fn unsupported_below(&mut self, keys: &[&'static str], depth: u32) {
        for &key in keys {
            if let Some(value) = self.get(key) {
                value.unsupported(value.place(), depth);
            }
        }
    }

    /// Returns the text of the whole document.
    pub(super) fn text(&self) -> &'a str {
        &self.context.document.text
    }

    /// Returns all entries of a table whose keys are names: their place, their name, their value.
    pub(super) fn named(&self) -> Vec<(Place, &'a str, Value<'a>)> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        entries
            .into_iter()
            .map(|(name, value)| {
                let place = self.context.document.place(name.span().start);
                let text: &str = name.get_ref();
                let key = self.dotted(text);
                let value = Value {
                    context: self.context,
                    key,
                    value: value.get_ref(),
                    span: value.span(),
                };
                (place, text, value)
            })
            .collect()
    }

    /// Notes that the table makes no sense as a whole.
    pub(super) fn invalid(&self, problem: impl Into<String>) -> Noted {
        self.context.found.note(ConfigError::Invalid {
            place: self.context.document.place(self.start),
            key: self.key.clone(),
            problem: problem.into(),
        })
    }

    /// Warns about keys that were not read.
    pub(super) fn warn_of_unknown(&self) {
        for (place, key, nearest) in self.unknown() {
            let warning = ConfigWarning::UnknownKey {
                place,
                key,
                nearest: nearest.map(str::to_owned),
            };
            self.context.found.warnings.borrow_mut().push(warning);
        }
    }

    /// Fails if there are keys that were not read.
    pub(super) fn forbid_unknown(&self) -> Result<(), Noted> {
        let unknown = self.unknown().into_iter().map(|(place, key, nearest)| {
            let problem = match nearest {
                Some(nearest) => format!("is unknown (did you mean `{nearest}`?)"),
                None => {
                    let known = super::error::quoted(&self.asked);
                    format!("is unknown; known keys: {known}")
                }
            };
            self.context.found.note(ConfigError::Invalid {
                place,
                key,
                problem,
            })
        });
        unknown.last().map_or(Ok(()), Err)
    }

    fn unknown(&self) -> Vec<(Place, String, Option<&'static str>)> {
        let unknown = |name: &&Spanned<_>| {
            let name: &toml::de::DeString<'_> = name.get_ref();
            !self.asked.iter().any(|&asked| asked == name.as_ref())
        };
        self.entries
            .keys()
            .filter(unknown)
            .map(|name| {
                let text: &str = name.get_ref();
                // A known key that is already there is not what an unknown one was meant to be.
                let absent = self
                    .asked
                    .iter()
                    .copied()
                    .filter(|&known| !self.entries.contains_key(known));
                (
                    self.context.document.place(name.span().start),
                    self.dotted(text),
                    nearest(text, absent),
                )
            })
            .collect()
    }

    fn dotted(&self, key: &str) -> String {
        let bare = !key.is_empty()
            && key
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let key = if bare {
            key.to_owned()
        } else {
            format!("{key:?}")
        };
        if self.key.is_empty() {
            key
        } else {
            format!("{}.{key}", self.key)
        }
    }
}

/// A table whose keys may stand in sections: `junit.path` is `path` in the table `junit`.
pub(super) struct Sections<'a> {
    table: Table<'a>,
    /// The sections that were asked for; one that is wrong is as good as missing.
    open: Vec<(&'static str, Section<'a>)>,
}

enum Section<'a> {
    Missing,
    Table(Table<'a>),
    /// A value that is short for a table with one key.
    Short(&'static str, Value<'a>),
}

/// Sections that may be written as one value, the key that the value stands for, and what may be
/// written.
const SHORT: &[(&str, &str, &str)] = &[(
    "trace",
    "level",
    "`\"off\"`, `\"process\"`, `\"io\"`, `\"full\"` or a table",
)];

impl<'a> Sections<'a> {
    pub(super) fn of(table: Table<'a>) -> Self {
        Self {
            table,
            open: Vec::new(),
        }
    }

    /// Returns the value of a dotted key, if it is there.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        let Some((section, key)) = key.rsplit_once('.') else {
            return self.table.get(key);
        };
        match self.section(section) {
            Section::Missing => None,
            Section::Table(table) => table.get(key),
            Section::Short(short, value) => (*short == key).then(|| value.clone()),
        }
    }

    /// Warns about keys of a section that mean something to cargo-nextest only.
    pub(super) fn unsupported(&mut self, section: &str, keys: &[&'static str]) {
        let open = self.open.iter_mut().find(|(name, _)| *name == section);
        if let Some((_, Section::Table(table))) = open {
            table.unsupported(keys);
        }
    }

    /// Warns about unknown keys in sections, and returns the table.
    pub(super) fn close(self) -> Table<'a> {
        for (_, section) in &self.open {
            if let Section::Table(table) = section {
                table.warn_of_unknown();
            }
        }
        self.table
    }

    fn section(&mut self, name: &'static str) -> &mut Section<'a> {
        let index = match self.open.iter().position(|(open, _)| *open == name) {
            Some(index) => index,
            None => {
                let read =
                    |table: &mut Table<'a>, key| table.read(key, |value| Section::new(name, value));
                let section = match name.rsplit_once('.') {
                    None => read(&mut self.table, name),
                    // `fs` in the section `policy`.
                    Some((around, key)) => match self.section(around) {
                        Section::Table(table) => read(table, key),
                        Section::Missing | Section::Short(..) => None,
                    },
                };
                self.open.push((name, section.unwrap_or(Section::Missing)));
                self.open.len() - 1
            }
        };
        &mut self.open[index].1
    }
}

impl<'a> Section<'a> {
    fn new(name: &str, value: Value<'a>) -> Result<Self, Noted> {
        if let Some(table) = value.as_table() {
            return Ok(Self::Table(table));
        }
        let short = SHORT.iter().find(|(section, ..)| *section == name);
        let Some(&(_, key, expected)) = short else {
            return Err(value.wrong_type("a table", None));
        };
        if value.as_str().is_some() {
            return Ok(Self::Short(key, value));
        }
        let hint = value
            .as_bool()
            .map(|on| format!("write `{:?}`", if on { "io" } else { "off" }));
        Err(value.wrong_type(expected, hint))
    }
}

fn to_i64(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// Returns what a value is, with its article, and the value itself if it is short.
fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.chars().count() <= 40 => format!("the string {text:?}"),
        DeValue::String(_) => "a string".to_owned(),
        DeValue::Integer(integer) if to_i64(integer).is_none() => {
            "an integer that is too large".to_owned()
        }
        DeValue::Integer(integer) => format!("the integer {integer}"),
        DeValue::Float(float) => format!("the float {float}"),
        DeValue::Boolean(boolean) => format!("the boolean {boolean}"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
