//! The tests in an executable, as libtest's `main` has them in a table: whether a test is ignored, and how it panics.
//!
//! That table is another one whenever there is a new test. So `main` is left out of the map, and each test rests on
//! its own entry.

use super::{
    hash,
    image::{Image, Pointer},
    names,
    parts::{Function, Pieces},
};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Register};
use std::collections::BTreeMap;

/// The function of libtest that gets the table.
const TAKER: &str = "test_main_static";

/// Instructions of a `main` that does nothing but that, as bytes.
const SHORT: u64 = 128;

/// The words of an entry that hold lines and columns, one after the other.
const PLACES: usize = 4;

/// More than any source file has lines, or a line columns.
const MANY: u64 = 1 << 20;

/// The table of an executable.
#[derive(Debug)]
pub(super) struct Table {
    /// The number of the `main` among the functions.
    pub(super) main: usize,
    /// A digest for each test, by its name; `None` if two entries have that text.
    pub(super) tests: BTreeMap<String, Option<u128>>,
}

/// Finds the table; `None` if the executable has another harness, or one that is not understood.
pub(super) fn find(pieces: &Pieces) -> Option<Table> {
    let calls = |index: usize| {
        let function = &pieces.functions[index];
        function.end - function.start <= SHORT
            && (function.code.references.iter()).any(|address| {
                let mut named = pieces.functions.iter();
                let callee = named.find(|it| it.start == *address);
                callee.is_some_and(|it| it.names.iter().any(|name| name.contains(TAKER)))
            })
    };
    let is_main = |index: &usize| {
        let names = &pieces.functions[*index].names;
        names.iter().any(|name| name.contains("4main"))
    };
    let main = (0..pieces.functions.len())
        .filter(is_main)
        .find(|it| calls(*it))?;
    let image = pieces.image;
    let references = &pieces.functions[main].code.references;
    let data = |address: &&u64| image.part(**address).is_some_and(|part| !part.code);
    let start = *references.iter().find(data)?;
    let count = count(image, &pieces.functions[main])?;
    let entries = entries(image, start, count)?;
    Some(Table {
        main,
        tests: tests(pieces, &entries)?,
    })
}

/// Returns the number of tests that `main` passes on: its second argument.
fn count(image: &Image, main: &Function) -> Option<u64> {
    let bytes = image.bytes(main.start, main.end);
    let decoder = Decoder::with_ip(64, bytes, main.start, DecoderOptions::NONE);
    let mut instructions = decoder.into_iter();
    let passes =
        |it: &Instruction| it.code() == Code::Mov_r32_imm32 && it.op0_register() == Register::ESI;
    let found = instructions.find(passes);
    found.map(|it| u64::from(it.immediate32()))
}

/// Returns where the entries of the table are; `None` unless all of them are pointers.
fn entries(image: &Image, table: u64, count: u64) -> Option<Vec<u64>> {
    let slots = (0..count).map(|number| table + number * 8);
    let pointers = slots.map(|slot| match image.pointers.get(&slot) {
        Some(Pointer::Here(there)) if !image.part(*there)?.code => Some(*there),
        _ => None,
    });
    pointers.collect()
}

fn tests(pieces: &Pieces, entries: &[u64]) -> Option<BTreeMap<String, Option<u128>>> {
    let image = pieces.image;
    let mut sorted = entries.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let nearest = sorted.windows(2).map(|pair| pair[1] - pair[0]).min();
    let size = match (nearest, sorted.first()) {
        (Some(size), _) => size,
        (None, Some(only)) => {
            let part = image.part(*only)?;
            let (start, end) = pieces.around(*only, part.start, part.end());
            (start == *only).then_some(end - start)?
        }
        (None, None) => return Some(BTreeMap::new()),
    };
    let read: Vec<Entry> = entries
        .iter()
        .map(|it| Entry::read(pieces, *it, size))
        .collect();
    let places = places(&read);
    let mut tests = BTreeMap::new();
    for entry in read {
        let digest = entry.digest(places);
        for text in entry.texts() {
            let known = tests.entry(text).or_insert(Some(digest));
            if *known != Some(digest) {
                *known = None;
            }
        }
    }
    Some(tests)
}

#[derive(Debug, PartialEq, Eq)]
enum Word {
    Number(u64),
    Text(Vec<u8>),
    /// The length of the text before it.
    Length(u64),
    Function(String),
    /// Something that is not known.
    Other(Vec<u8>),
}

struct Entry {
    words: Vec<Word>,
}

impl Entry {
    fn read(pieces: &Pieces, start: u64, size: u64) -> Self {
        let image = pieces.image;
        let mut words = Vec::new();
        let mut text = false;
        for at in (start..start + size).step_by(8) {
            let number = image.word(at).unwrap_or(0);
            let word = match image.pointers.get(&at) {
                None if text => Word::Length(number),
                None => Word::Number(number),
                Some(Pointer::Import(name)) => Word::Other(name.as_bytes().to_vec()),
                Some(Pointer::Here(there)) => target(pieces, *there, image.word(at + 8)),
            };
            text = matches!(word, Word::Text(_));
            words.push(word);
        }
        Self { words }
    }

    fn texts(&self) -> impl Iterator<Item = String> {
        self.words.iter().filter_map(|word| match word {
            Word::Text(text) => String::from_utf8(text.clone()).ok(),
            _ => None,
        })
    }

    /// Returns whether lines and columns may begin at a word.
    fn may_have_places(&self, at: usize) -> bool {
        let number = |offset: usize| match self.words.get(at + offset) {
            Some(Word::Number(number)) if (1..MANY).contains(number) => Some(*number),
            _ => None,
        };
        let all: Option<Vec<u64>> = (0..PLACES).map(number).collect();
        all.is_some_and(|all| all[0] <= all[2])
    }

    fn digest(&self, places: Option<usize>) -> u128 {
        let mut bytes = Vec::new();
        for (index, word) in self.words.iter().enumerate() {
            let of_place = places.is_some_and(|at| (at..at + PLACES).contains(&index));
            let (mark, content) = match word {
                Word::Number(_) if of_place => continue,
                Word::Number(number) => (0, number.to_le_bytes().to_vec()),
                Word::Length(number) => (1, number.to_le_bytes().to_vec()),
                Word::Text(text) => (2, text.clone()),
                Word::Function(name) => (3, name.clone().into_bytes()),
                Word::Other(bytes) => (4, bytes.clone()),
            };
            bytes.push(mark);
            bytes.extend_from_slice(&(content.len() as u64).to_le_bytes());
            bytes.extend_from_slice(&content);
        }
        hash(&bytes)
    }
}

/// Returns where a pointer of an entry leads. A text has its length in the word behind the pointer.
fn target(pieces: &Pieces, there: u64, next: Option<u64>) -> Word {
    let image = pieces.image;
    let Some(part) = image.part(there) else {
        return Word::Other(Vec::new());
    };
    if part.code {
        let mut functions = pieces.functions.iter();
        let function = functions.find(|it| it.start == there);
        let names = function.map(|it| names::joined(&it.names));
        return Word::Function(names.unwrap_or_default());
    }
    let text = next
        .filter(|length| *length < MANY)
        .map(|length| image.bytes(there, there + length));
    match text {
        Some(text) if Some(text.len() as u64) == next => Word::Text(text.to_vec()),
        _ => Word::Other(image.bytes(there, part.end()).to_vec()),
    }
}

/// Returns the word at which lines and columns begin in all entries; `None` unless there is one such word.
fn places(entries: &[Entry]) -> Option<usize> {
    let words = entries.first()?.words.len();
    let mut fitting = (0..words).filter(|at| entries.iter().all(|it| it.may_have_places(*at)));
    let first = fitting.next()?;
    fitting.next().is_none().then_some(first)
}
