//! The map of an executable: a digest for each function that matters.

use super::{
    graph,
    image::{Image, NoMap},
    names,
    parts::{Function as Piece, Pieces},
    table,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The room that a recording call needs at the entry of a function, and the distance between entries that it tells
/// apart.
const ROOM: u64 = 16;

/// A function of the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its symbol; several if there are several for one.
    pub name: String,
    /// Its address in the file's own counting.
    pub address: u64,
    /// The digest with lines and columns of panics.
    pub strict: u128,
    /// The digest without them.
    pub weak: u128,
    /// It shows where a panic was, so that lines and columns count.
    pub shows_places: bool,
}

/// The entries of an executable that can be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The addresses of functions, in the order of [`Map::functions`].
    pub entries: Vec<u64>,
}

/// The functions of an executable, with all that they depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    /// The functions whose entries are worth to be known, by their addresses.
    pub functions: Vec<Function>,
    /// The digest of all that runs before `main`, and of the tools that made the executable: strict and weak.
    pub beginning: (u128, u128),
    /// The entries of libtest's table, by texts in them, of which one is the test's name. `None` for another harness.
    pub tests: Option<BTreeMap<String, Option<u128>>>,
    /// Lines and columns of panics count in any case: the functions that show them are not known.
    pub always_strict: bool,
}

/// A difference between two maps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// Code that runs before `main` differs, or the compiler.
    Beginning,
    /// This function differs, or something that it depends on.
    Function(String),
    /// It is not there any more.
    Gone(String),
    /// The test's own entry in the table of tests differs, such as the text of its panic.
    Test,
}

impl Map {
    /// Reads the functions of an executable whose workspace has these crates.
    ///
    /// # Errors
    ///
    /// When nothing can be said of its functions.
    pub fn read(bytes: &[u8], crates: &[String], optimized: bool) -> Result<Self, NoMap> {
        let image = Image::read(bytes)?;
        let mut pieces = Pieces::of(&image, optimized);
        watch(&mut pieces.functions, crates);
        let table = table::find(&pieces);
        pieces.left_out = table.as_ref().map(|table| table.main);
        let nodes = pieces.nodes();
        let (strict, weak) = (graph::digests(&nodes.strict), graph::digests(&nodes.weak));
        let shows = |it: &Piece| it.names.iter().any(|name| names::shows_places(name));
        let numbered = pieces.functions.iter().enumerate();
        let kept = numbered.filter(|(_, it)| it.watched || shows(it) && is_recordable(it));
        let functions: Vec<Function> = kept
            .map(|(index, it)| Function {
                name: names::joined(&it.names),
                address: it.start,
                strict: strict[index],
                weak: weak[index],
                shows_places: shows(it),
            })
            .collect();
        let shown = pieces.functions.iter().filter(|it| shows(it));
        let known = shown.clone().all(is_recordable);
        let panics = shown
            .flat_map(|it| &it.names)
            .any(|name| names::is_of_panics(name));
        Ok(Self {
            functions,
            beginning: (
                pieces.beginning(&nodes, &strict),
                pieces.beginning(&nodes, &weak),
            ),
            tests: table.map(|table| table.tests),
            always_strict: optimized || !known || !panics,
        })
    }

    /// Returns the entries to record.
    pub fn patch(&self) -> Patch {
        Patch {
            entries: self.functions.iter().map(|it| it.address).collect(),
        }
    }

    /// Returns whether lines and columns count whatever was entered.
    pub(super) fn is_strict(&self, before: &Self) -> bool {
        self.always_strict || before.always_strict
    }

    /// Returns the names of functions that differ, and those that are new or gone. Lines and columns of panics count
    /// if `strict`.
    pub fn differences(&self, before: &Self, strict: bool) -> BTreeSet<Difference> {
        let strict = strict || self.is_strict(before);
        let (then, now) = (before.by_name(strict), self.by_name(strict));
        let mut all = BTreeSet::new();
        let pick = |both: (u128, u128)| if strict { both.0 } else { both.1 };
        if pick(self.beginning) != pick(before.beginning) {
            all.insert(Difference::Beginning);
        }
        for name in then.keys().chain(now.keys()) {
            if then.get(name) == now.get(name) {
                continue;
            }
            all.insert(match now.contains_key(name) {
                true => Difference::Function((*name).to_owned()),
                false => Difference::Gone((*name).to_owned()),
            });
        }
        all
    }

    /// Returns the digests of all functions of a name. Copies of one function have one name.
    pub(super) fn by_name(&self, strict: bool) -> BTreeMap<&str, Vec<u128>> {
        let mut all: BTreeMap<&str, Vec<u128>> = BTreeMap::new();
        for function in &self.functions {
            let digest = if strict {
                function.strict
            } else {
                function.weak
            };
            all.entry(&function.name).or_default().push(digest);
        }
        for digests in all.values_mut() {
            digests.sort_unstable();
            digests.dedup();
        }
        all
    }
}

/// Chooses the functions whose entries are recorded: those of the workspace that have room for that. All others are
/// part of those that can reach them.
fn watch(functions: &mut [Piece], crates: &[String]) {
    let next: Vec<u64> = (1..=functions.len())
        .map(|index| functions.get(index).map_or(u64::MAX, |next| next.start))
        .collect();
    for (function, next) in functions.iter_mut().zip(next) {
        let of_workspace = function
            .names
            .iter()
            .any(|name| names::mentions(name, crates));
        let alone = next - function.start >= ROOM;
        function.watched = of_workspace && alone && is_recordable(function);
    }
}

fn is_recordable(function: &Piece) -> bool {
    !function.names.is_empty()
        && function.code.whole
        && function.start.is_multiple_of(ROOM)
        && function.end - function.start >= 5
}
