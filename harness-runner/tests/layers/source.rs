//! Reads sources: which words they use, and which modules they name.
//!
//! Sources are cut into words and punctuation here. `syn` would do it, but it shares a crate with the
//! procedural macros that are built anyway, and cargo then builds all of those twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A path of names, such as that of a module from the crate's root.
pub(crate) type Names = Vec<String>;

/// A source file.
pub(crate) struct Source {
    /// Relative to the crate's `src`.
    pub(crate) path: String,
    /// The path of its module; empty for the crate's root.
    pub(crate) module: Names,
    pub(crate) text: String,
}

/// A path that a source names.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// The module that names it, with those that are written into the file.
    pub(crate) from: Names,
    pub(crate) path: Names,
    pub(crate) line: usize,
    /// Whether only tests do.
    pub(crate) in_tests: bool,
}

impl Named {
    /// Returns the path from the crate's root, if it is one within the crate.
    pub(crate) fn absolute(&self, is_module: &dyn Fn(&[String]) -> bool) -> Option<Names> {
        let mut base = self.from.clone();
        let mut rest = self.path.iter();
        match self.path.first()?.as_str() {
            "crate" => {
                rest.next();
                base.clear();
            }
            "self" => drop(rest.next()),
            "super" => {
                while rest.as_slice().first().is_some_and(|name| name == "super") {
                    rest.next();
                    base.pop()?;
                }
            }
            child => {
                let child = [base.as_slice(), &[child.to_owned()]].concat();
                if !is_module(&child) {
                    return None;
                }
            }
        }
        // `self` in a group stands for the group's own module.
        base.extend(rest.filter(|name| *name != "self").cloned());
        Some(base)
    }
}

/// A word or a piece of punctuation.
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// The paths in a source.
#[derive(Default)]
pub(crate) struct Paths {
    pub(crate) named: Vec<Named>,
    /// The paths that a module hands on, and their names there.
    handed_on: Vec<(Named, String)>,
}

impl Source {
    /// Returns its words and punctuation, without comments and literals.
    pub(crate) fn tokens(&self) -> Vec<Token> {
        tokens(&self.text)
    }

    /// Returns what it names.
    pub(crate) fn paths(&self) -> Paths {
        let tokens = self.tokens();
        let mut walk = Walk {
            tokens: &tokens,
            at: 0,
            depth: 0,
            module: self.module.clone(),
            written: Vec::new(),
            in_tests: self.module.iter().any(|name| name == "tests"),
            for_tests: false,
            found: Paths::default(),
        };
        while walk.at < tokens.len() {
            walk.step();
        }
        walk.found
    }
}

/// A walk through the tokens of a source.
struct Walk<'a> {
    tokens: &'a [Token],
    at: usize,
    /// The number of open braces.
    depth: usize,
    /// The module that this is in.
    module: Names,
    /// The modules that are written into the file and not over yet: at which depth they began, and
    /// whether what is around them is for tests.
    written: Vec<(usize, bool)>,
    in_tests: bool,
    /// Whether the next item is for tests only.
    for_tests: bool,
    found: Paths,
}

impl Walk<'_> {
    fn text(&self, ahead: usize) -> &str {
        self.tokens
            .get(self.at + ahead)
            .map_or("", |token| token.text.as_str())
    }

    fn before(&self) -> &str {
        let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        before.map_or("", |token| token.text.as_str())
    }

    fn is_next(&self, texts: &[&str]) -> bool {
        let mut texts = texts.iter().enumerate();
        texts.all(|(ahead, text)| self.text(ahead) == *text)
    }

    fn step(&mut self) {
        const FOR_TESTS: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
        match self.text(0) {
            "#" if self.is_next(&FOR_TESTS) => {
                self.for_tests = true;
                self.at += FOR_TESTS.len();
                return;
            }
            "mod" if self.text(2) == "{" => {
                let name = self.text(1).to_owned();
                self.module.push(name);
                self.written.push((self.depth, self.in_tests));
                self.in_tests |= self.for_tests;
                self.at += 2;
                return;
            }
            "use" => return self.import(),
            "{" => (self.depth, self.for_tests) = (self.depth + 1, false),
            "}" => {
                self.depth -= 1;
                let ended = self.written.pop_if(|(began, _)| *began == self.depth);
                if let Some((_, in_tests)) = ended {
                    self.module.pop();
                    self.in_tests = in_tests;
                }
            }
            ";" => self.for_tests = false,
            // `pub(in PATH)` names a module around this one.
            name if is_name(name) && self.text(1) == "::" && self.before() != "in" => {
                return self.path();
            }
            _ => {}
        }
        self.at += 1;
    }

    fn add(&mut self, path: Names, line: usize) {
        self.found.named.push(Named {
            from: self.module.clone(),
            path,
            line,
            in_tests: self.in_tests || self.for_tests,
        });
    }

    fn path(&mut self) {
        let line = self.tokens[self.at].line;
        // What follows `>::` belongs to a type.
        let whole = self.before() != "::";
        let mut path = vec![self.text(0).to_owned()];
        while self.text(1) == "::" && is_name(self.text(2)) {
            path.push(self.text(2).to_owned());
            self.at += 2;
        }
        self.at += 1;
        if whole {
            self.add(path, line);
        }
    }

    fn import(&mut self) {
        // The end of `pub` or of `pub(crate)`.
        let handed_on = ["pub", ")"].contains(&self.before());
        self.at += 1;
        self.tree(&Names::new(), handed_on);
    }

    /// Adds the paths of an import that begin so.
    fn tree(&mut self, before: &Names, handed_on: bool) {
        let mut path = before.clone();
        loop {
            let Some(token) = self.tokens.get(self.at) else {
                return;
            };
            let (text, line) = (token.text.clone(), token.line);
            self.at += 1;
            match text.as_str() {
                "::" => {}
                "{" => {
                    while !matches!(self.text(0), "}" | "") {
                        self.tree(&path, handed_on);
                        if self.text(0) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "*" => return self.add(path, line),
                name => {
                    path.push(name.to_owned());
                    if self.text(0) == "::" {
                        continue;
                    }
                    let renamed = (self.text(0) == "as").then(|| self.text(1).to_owned());
                    if renamed.is_some() {
                        self.at += 2;
                    }
                    let as_name = renamed.unwrap_or_else(|| name.to_owned());
                    self.add(path, line);
                    if handed_on && let Some(named) = self.found.named.last() {
                        self.found.handed_on.push((named.clone(), as_name));
                    }
                    return;
                }
            }
        }
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The modules of a crate, and which of them name each other.
pub(crate) struct Modules {
    modules: BTreeSet<Names>,
    /// The paths of the names that a module hands on.
    handed_on: BTreeMap<(Names, String), Names>,
    named: Vec<Named>,
}

/// A module that names another, each as the part of the same module around both.
pub(crate) type Edge = (Names, Names);

impl Modules {
    pub(crate) fn of(sources: &[Source]) -> Self {
        let mut all = Self {
            modules: sources.iter().map(|source| source.module.clone()).collect(),
            handed_on: BTreeMap::new(),
            named: Vec::new(),
        };
        for source in sources {
            let paths = source.paths();
            for (named, name) in paths.handed_on {
                if let Some(path) = all.absolute(&named) {
                    all.handed_on.insert((named.from, name), path);
                }
            }
            all.named.extend(paths.named);
        }
        all
    }

    fn absolute(&self, named: &Named) -> Option<Names> {
        named.absolute(&|module| self.modules.contains(module))
    }

    /// Returns the module that has what a path leads to.
    fn home(&self, path: &[String]) -> Names {
        let mut path = path.to_vec();
        // A name may be handed on from module to module.
        for _ in 0..8 {
            let inner = (0..=path.len()).rev();
            let module = inner
                .map(|length| path[..length].to_vec())
                .find(|module| self.modules.contains(module))
                .unwrap_or_default();
            let Some(name) = path.get(module.len()) else {
                return module;
            };
            match self.handed_on.get(&(module.clone(), name.clone())) {
                Some(further) => {
                    let rest = &path[module.len() + 1..];
                    path = [further.as_slice(), rest].concat();
                }
                None => return module,
            }
        }
        Names::new()
    }

    /// Returns which modules name which, where neither is around the other. Tests do not count.
    pub(crate) fn edges(&self) -> BTreeMap<Edge, String> {
        let mut edges = BTreeMap::new();
        for named in self.named.iter().filter(|named| !named.in_tests) {
            let Some(path) = self.absolute(named) else {
                continue;
            };
            let (from, to) = (self.home(&named.from), self.home(&path));
            let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if common < from.len() && common < to.len() {
                let edge = (from[..=common].to_vec(), to[..=common].to_vec());
                let place = format!("{}, line {}", from.join("::"), named.line);
                edges.entry(edge).or_insert(place);
            }
        }
        edges
    }
}

/// Returns the edges that are part of a circle.
pub(crate) fn circles(edges: &BTreeMap<Edge, String>) -> Vec<String> {
    let leads_to = |from: &Names, to: &Names| {
        let mut seen = BTreeSet::from([from]);
        let mut next = vec![from];
        while let Some(module) = next.pop() {
            for (_, further) in edges.keys().filter(|(start, _)| start == module) {
                if further == to {
                    return true;
                }
                if seen.insert(further) {
                    next.push(further);
                }
            }
        }
        false
    };
    let in_circle = edges.iter().filter(|((from, to), _)| leads_to(to, from));
    in_circle
        .map(|((from, to), place)| {
            let (from, to) = (from.join("::"), to.join("::"));
            format!("`{from}` names `{to}`, which leads back to it: {place}")
        })
        .collect()
}

pub(crate) fn workspace() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder
        .parent()
        .expect("the crate is in a workspace")
        .to_owned()
}

/// Returns the sources of a crate, by path.
pub(crate) fn sources(folder: &str) -> Vec<Source> {
    let root = workspace().join(folder);
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("sources can be read") {
            let path = entry.expect("sources can be read").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let relative = path
                .strip_prefix(&root)
                .expect("it was found below the root");
            let module: Names = relative
                .with_extension("")
                .iter()
                .map(|part| part.to_string_lossy().into_owned())
                .collect();
            let is_root = matches!(module.as_slice(), [only] if only == "lib" || only == "main");
            found.push(Source {
                path: relative.to_string_lossy().into_owned(),
                module: if is_root { Vec::new() } else { module },
                text: fs::read_to_string(&path).expect("sources are UTF-8"),
            });
        }
    }
    assert!(!found.is_empty(), "no sources in {folder}");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Cuts a source into names and punctuation. Comments and literals are left out.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let char_at = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let (mut at, mut line, mut counted) = (0, 1, 0);
    while at < chars.len() {
        line += chars[counted..at].iter().filter(|c| **c == '\n').count();
        counted = at;
        let start = at;
        match chars[at] {
            '/' if char_at(at + 1) == '/' => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
            }
            '/' if char_at(at + 1) == '*' => at = after_block_comment(&chars, at),
            '"' => at = after_string(&chars, at),
            '\'' if char_at(at + 1) == '\\' => {
                at += 3;
                while at < chars.len() && chars[at - 1] != '\'' {
                    at += 1;
                }
            }
            // A lifetime has no second quote after its first character.
            '\'' if char_at(at + 2) == '\'' => at += 3,
            c if is_name(c) => {
                while is_name(char_at(at)) {
                    at += 1;
                }
                let text: String = chars[start..at].iter().collect();
                let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
                let raw = matches!(text.as_str(), "r" | "br" | "cr");
                if raw && char_at(at + hashes) == '"' {
                    at = after_raw_string(&chars, at + hashes + 1, hashes);
                } else {
                    tokens.push(Token { text, line });
                }
            }
            ':' if char_at(at + 1) == ':' => {
                at += 2;
                let text = "::".to_owned();
                tokens.push(Token { text, line });
            }
            c => {
                at += 1;
                if !c.is_whitespace() {
                    let text = c.to_string();
                    tokens.push(Token { text, line });
                }
            }
        }
    }
    tokens
}

fn after_block_comment(chars: &[char], opening: usize) -> usize {
    let mut at = opening + 2;
    let mut depth = 1;
    while at < chars.len() && depth > 0 {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at.min(chars.len())
}

fn after_string(chars: &[char], opening: usize) -> usize {
    let mut at = opening + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn after_raw_string(chars: &[char], first: usize, hashes: usize) -> usize {
    let mut at = first;
    while at < chars.len() {
        let hashed = chars[at + 1..].iter().take(hashes);
        if chars[at] == '"' && hashed.filter(|c| **c == '#').count() == hashes {
            return at + 1 + hashes;
        }
        at += 1;
    }
    at
}
