//! The environment that a program was started with.
//!
//! Most programs are started with their creator's. So an environment is kept as the block of
//! strings that it is, and searched on demand.

use harness_metadata::trace::EnvironmentChange;
use std::{cell::OnceCell, ffi::CStr, ops::Range, rc::Rc};

/// The number of bytes to keep of an argument vector, and of an environment.
pub(super) const BYTES: usize = 64 * 1024;
/// The number of their entries to keep.
pub(super) const ENTRIES: usize = 4096;

/// The environment that a program was started with.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Strings of the form `NAME=VALUE`, each ended by NUL.
    block: Vec<u8>,
    /// Whether there was more.
    cut: bool,
    index: OnceCell<Index>,
}

/// The positions of the variables of a block.
#[derive(Clone, Debug, Default)]
struct Index {
    /// In order of their names.
    variables: Vec<Variable>,
    truncated: bool,
    /// Whether a name occurs twice.
    doubled: bool,
}

#[derive(Clone, Debug)]
struct Variable {
    name: Range<usize>,
    value: Range<usize>,
}

impl Environment {
    /// Takes strings of the form `NAME=VALUE`. Of several with one name, the first counts, as in
    /// getenv(3).
    pub fn new<'a>(strings: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut block = Vec::new();
        for string in strings {
            block.extend_from_slice(string);
            block.push(0);
        }
        Self::from_block(block)
    }

    /// Takes what /proc/PID/environ says.
    pub fn from_block(block: impl Into<Vec<u8>>) -> Self {
        Self {
            block: block.into(),
            ..Self::default()
        }
    }

    /// Says whether there was more than what was taken.
    pub(in crate::tracer) fn cut_if(self, cut: bool) -> Self {
        Self { cut, ..self }
    }

    /// Returns another environment instead if it is the same one.
    pub(in crate::tracer) fn shared(self, with: Option<&Rc<Self>>) -> Rc<Self> {
        let same = with.filter(|with| with.is_same_block(&self));
        same.map_or_else(|| Rc::new(self), Rc::clone)
    }

    fn is_same_block(&self, other: &Self) -> bool {
        self.cut == other.cut && self.block == other.block
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| {
            let mut index = Index::of(&self.block);
            index.truncated |= self.cut;
            index
        })
    }

    /// Returns whether there was more than is kept.
    pub(in crate::tracer) fn is_truncated(&self) -> bool {
        self.index().truncated
    }

    /// Returns whether [`Self::variables`] are all that there is.
    pub(in crate::tracer) fn is_whole(&self) -> bool {
        !self.index().truncated && !self.index().doubled
    }

    /// Returns the variables' names and values, in order of their names.
    pub fn variables(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let variables = self.index().variables.iter();
        variables
            .map(|Variable { name, value }| (&self.block[name.clone()], &self.block[value.clone()]))
    }
}

impl PartialEq for Environment {
    fn eq(&self, other: &Self) -> bool {
        let (own, its) = (self.index(), other.index());
        self.is_same_block(other)
            || (own.truncated, own.doubled) == (its.truncated, its.doubled)
                && self.variables().eq(other.variables())
    }
}

impl Eq for Environment {}

impl Index {
    fn of(block: &[u8]) -> Self {
        let mut index = Self::default();
        let mut room = BYTES;
        let strings = strings(block).filter(|string| !string.is_empty());
        for (number, string) in strings.enumerate() {
            if number == ENTRIES || string.len() > room {
                index.truncated = true;
                break;
            }
            room -= string.len();
            // A name is not empty, so a leading `=` belongs to it.
            let text = &block[string.clone()];
            let equals = text.iter().skip(1).position(|byte| *byte == b'=');
            let (name, value) = match equals {
                Some(before) => (
                    string.start..string.start + before + 1,
                    string.start + before + 2..string.end,
                ),
                None => (string.clone(), string.end..string.end),
            };
            index.variables.push(Variable { name, value });
        }
        let all = index.variables.len();
        let name = |variable: &Variable| &block[variable.name.clone()];
        // Those of one name stay in their order, and the first is kept.
        index
            .variables
            .sort_by(|one, other| name(one).cmp(name(other)));
        index
            .variables
            .dedup_by(|one, kept| name(one) == name(kept));
        index.doubled = index.variables.len() < all;
        index
    }
}

/// Returns where strings are that are ended by NUL, but for the last one perhaps.
pub(super) fn strings(block: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = block.get(start..).filter(|rest| !rest.is_empty())?;
        let length = CStr::from_bytes_until_nul(rest).map_or(rest.len(), CStr::count_bytes);
        let string = start..start + length;
        start = string.end + 1;
        Some(string)
    })
}

/// Says how two environments differ; `None` for the old one if nothing is known of it.
pub fn environment_change(old: Option<&Environment>, new: &Environment) -> EnvironmentChange {
    let nothing = Environment::default();
    let old = old.unwrap_or(&nothing);
    let mut change = EnvironmentChange::default();
    if old.is_same_block(new) {
        return change;
    }
    let mut old = old.variables().peekable();
    // Both are in order of their names.
    for (name, value) in new.variables() {
        while let Some((gone, _)) = old.next_if(|(old, _)| *old < name) {
            change.unset.push(gone.into());
        }
        let same = old.next_if(|(old, _)| *old == name);
        if same.is_none_or(|(_, old)| old != value) {
            change.set.push((name.into(), value.into()));
        }
    }
    change.unset.extend(old.map(|(name, _)| name.into()));
    // Of one that was cut off nothing is known to be missing.
    if new.is_truncated() {
        change.unset.clear();
    }
    change
}
