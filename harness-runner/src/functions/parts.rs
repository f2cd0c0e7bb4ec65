//! The nodes of an executable: functions, named data, and data without a name, whose bounds are found here.

use super::{
    code::{self, Code},
    graph::Node,
    hash,
    image::{Image, Named, Pointer},
    names, unwind,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A piece of code that is a node.
#[derive(Debug)]
pub(super) struct Function<'a> {
    pub(super) start: u64,
    pub(super) end: u64,
    /// None for code between functions.
    pub(super) names: Vec<&'a str>,
    pub(super) code: Code,
    /// It is a leaf for those that refer to it: its entry is recorded.
    pub(super) watched: bool,
}

/// The target of an address.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Place {
    Function(usize, u64),
    /// A piece of data from its start to its end, and the distance from the start.
    Data(u64, u64, u64),
    Outside,
}

/// The nodes of an executable, twice: with and without lines and columns of panics.
#[derive(Debug)]
pub(super) struct Nodes {
    /// Functions come first, in their order.
    pub(super) strict: Vec<Node>,
    /// As long.
    pub(super) weak: Vec<Node>,
    /// The nodes of pieces of data, by their start.
    data: HashMap<u64, u32>,
}

/// An executable in pieces.
pub(super) struct Pieces<'a> {
    pub(super) image: &'a Image<'a>,
    pub(super) functions: Vec<Function<'a>>,
    /// The starts of data, in order.
    bounds: Vec<u64>,
    /// Tables of distances to data.
    relative: BTreeSet<u64>,
    /// The targets of calls that unwind, by function.
    unwinding: BTreeMap<u64, &'a [u8]>,
    /// A function that is left out, since it is another one whenever there is a new test.
    pub(super) left_out: Option<usize>,
}

impl<'a> Pieces<'a> {
    /// Takes an executable apart. In one that is `optimized`, code may point into the middle of data.
    pub(super) fn of(image: &'a Image<'a>, optimized: bool) -> Self {
        let mut pieces = Self {
            image,
            functions: functions(image),
            bounds: Vec::new(),
            relative: BTreeSet::new(),
            unwinding: unwind::tables(image),
            left_out: None,
        };
        pieces.bound(optimized);
        pieces
    }

    fn bound(&mut self, optimized: bool) {
        let image = self.image;
        let mut sure: BTreeSet<u64> = image.parts.iter().map(|part| part.start).collect();
        sure.extend(
            image
                .objects
                .iter()
                .flat_map(|it| [it.start, it.start + it.size]),
        );
        sure.extend(
            image
                .contents
                .iter()
                .flat_map(|(start, end)| [*start, *end]),
        );
        sure.extend(image.pointers.values().filter_map(|pointer| match pointer {
            Pointer::Here(there) => Some(*there),
            Pointer::Import(_) => None,
        }));
        let codes = self.functions.iter().map(|it| &it.code);
        let asked: BTreeSet<u64> = codes
            .clone()
            .flat_map(|it| it.references.iter().copied())
            .collect();
        if !optimized {
            sure.extend(&asked);
        }
        sure.extend(codes.clone().flat_map(|it| it.jumps.iter().copied()));
        let tables: BTreeSet<u64> = codes.flat_map(|it| it.tables.iter().copied()).collect();
        for table in &tables {
            let next = sure.range(table + 1..).next().copied().unwrap_or(*table);
            if let Some(targets) = self.distances(*table, next) {
                self.relative.insert(*table);
                sure.extend(targets);
            }
        }
        self.bounds = sure.into_iter().collect();
    }

    /// Returns where a table of distances to data leads, if it is one: as many entries as lead to such data.
    fn distances(&self, table: u64, end: u64) -> Option<Vec<u64>> {
        let bytes = self.image.bytes(table, end);
        let targets = bytes.chunks_exact(4).map_while(|entry| {
            let distance = i32::from_le_bytes(entry.try_into().expect("it has four bytes"));
            let target = table.wrapping_add_signed(distance.into());
            let part = self.image.part(target)?;
            (part.name.starts_with(".rodata") && distance != 0).then_some(target)
        });
        let targets: Vec<u64> = targets.collect();
        (!targets.is_empty()).then_some(targets)
    }

    fn place(&self, address: u64) -> Place {
        let Some(part) = self.image.part(address) else {
            return Place::Outside;
        };
        if part.code {
            let after = self.functions.partition_point(|it| it.start <= address);
            // Symbols may overlap: the last one that starts before it and contains it.
            let mut before = (after.saturating_sub(OVERLAPPING)..after).rev();
            return match before.find(|index| address < self.functions[*index].end) {
                Some(index) => Place::Function(index, address - self.functions[index].start),
                None => Place::Outside,
            };
        }
        if is_identifier(part.name) {
            return Place::Data(part.start, part.end(), address - part.start);
        }
        if let Some(object) = named_at(&self.image.objects, address) {
            let end = object.start + object.size;
            return Place::Data(object.start, end, address - object.start);
        }
        let (start, end) = self.around(address, part.start, part.end());
        Place::Data(start, end, address - start)
    }

    /// Returns the bounds of data without a name.
    pub(super) fn around(&self, address: u64, from: u64, to: u64) -> (u64, u64) {
        let after = self.bounds.partition_point(|bound| *bound <= address);
        let start = self.bounds[..after]
            .last()
            .copied()
            .unwrap_or(from)
            .max(from);
        let end = self.bounds.get(after).copied().unwrap_or(to).min(to);
        (start, end)
    }

    /// Returns all nodes. The last one is the start of the program, with all that runs before `main`.
    pub(super) fn nodes(&self) -> Nodes {
        let nodes = self.functions.iter().map(|_| Node::default());
        let mut made = Nodes {
            strict: nodes.clone().collect(),
            weak: nodes.collect(),
            data: HashMap::new(),
        };
        let mut next: Vec<(u64, u64)> = Vec::new();
        for (index, function) in self.functions.iter().enumerate() {
            let label = hash(names::joined(&function.names).as_bytes());
            let (own, on) = match self.left_out == Some(index) {
                true => (b"left out".to_vec(), Vec::new()),
                false => {
                    let mut own = vec![0];
                    own.extend_from_slice(&(function.code.text.len() as u64).to_le_bytes());
                    own.extend_from_slice(&function.code.text);
                    own.extend_from_slice(self.unwinding.get(&function.start).unwrap_or(&&[][..]));
                    let on = self.refer(&function.code.references, &mut own, &mut made, &mut next);
                    (own, on)
                }
            };
            let own = hash(&own);
            made.set(index, (own, own), label, on);
        }
        while let Some((start, end)) = next.pop() {
            self.add_data(start, end, &mut made, &mut next);
        }
        made
    }

    /// Returns the digests of all that a program does before its `main`, and of the tools that made it.
    pub(super) fn beginning(&self, made: &Nodes, digests: &[u128]) -> u128 {
        let mut own = self.image.tools.to_vec();
        let arrays = [".init_array", ".fini_array", ".preinit_array"];
        let parts = self
            .image
            .parts
            .iter()
            .filter(|part| arrays.contains(&part.name));
        let pointers = parts.flat_map(|part| self.image.pointers.range(part.start..part.end()));
        let targets = pointers.map(|(_, pointer)| match pointer {
            Pointer::Here(there) => *there,
            Pointer::Import(_) => 0,
        });
        for target in targets.chain([self.image.entry]) {
            match self.place(target) {
                Place::Function(index, _) if self.functions[index].watched => {
                    let names = names::joined(&self.functions[index].names);
                    own.extend_from_slice(names.as_bytes());
                }
                Place::Function(index, _) => own.extend_from_slice(&digests[index].to_le_bytes()),
                Place::Data(start, ..) => {
                    let digest = made
                        .data
                        .get(&start)
                        .map_or(0, |node| digests[*node as usize]);
                    own.extend_from_slice(&digest.to_le_bytes());
                }
                Place::Outside => own.push(0),
            }
        }
        hash(&own)
    }

    /// Adds what addresses lead to: labels to the content, and nodes to the answer.
    fn refer(
        &self,
        addresses: &[u64],
        own: &mut Vec<u8>,
        made: &mut Nodes,
        next: &mut Vec<(u64, u64)>,
    ) -> Vec<u32> {
        let mut on = Vec::with_capacity(addresses.len());
        for address in addresses {
            match self.place(*address) {
                Place::Outside => own.push(0),
                Place::Function(index, offset) => {
                    let function = &self.functions[index];
                    own.push(1);
                    own.extend_from_slice(&offset.to_le_bytes());
                    if function.watched {
                        let names = names::joined(&function.names);
                        own.extend_from_slice(&(names.len() as u64).to_le_bytes());
                        own.extend_from_slice(names.as_bytes());
                    } else {
                        own.push(0);
                        on.push(index as u32);
                    }
                }
                Place::Data(start, end, offset) => {
                    own.push(2);
                    own.extend_from_slice(&offset.to_le_bytes());
                    on.push(made.data(start, || next.push((start, end))));
                }
            }
        }
        on
    }

    fn add_data(&self, start: u64, end: u64, made: &mut Nodes, next: &mut Vec<(u64, u64)>) {
        let node = made.data[&start] as usize;
        let mut content = self.image.bytes(start, end).to_vec();
        let mut own = vec![1];
        let mut addresses = Vec::new();
        let name = named_at(&self.image.objects, start).filter(|it| it.start == start);
        if let Some(named) = name {
            own.extend_from_slice(names::joined(&named.names).as_bytes());
            own.extend_from_slice(&named.size.to_le_bytes());
        }
        if self.relative.contains(&start) {
            addresses = self.distances(start, end).unwrap_or_default();
            // What is behind it is no part of it, but may be of something else.
            content.drain(..(addresses.len() * 4).min(content.len()));
        }
        for (address, pointer) in self.image.pointers.range(start..end) {
            let offset = usize::try_from(address - start).unwrap_or(usize::MAX);
            own.extend_from_slice(&(offset as u64).to_le_bytes());
            let until = offset.saturating_add(8).min(content.len());
            if let Some(word) = content.get_mut(offset..until) {
                word.fill(0);
            }
            match pointer {
                Pointer::Here(there) => addresses.push(*there),
                Pointer::Import(name) => own.extend_from_slice(name.as_bytes()),
            }
        }
        // What is behind it is padding, or zero.
        while content.last() == Some(&0) {
            content.pop();
        }
        let on = self.refer(&addresses, &mut own, made, next);
        let mut weak = own.clone();
        own.extend_from_slice(&content);
        if self.is_location(start, end) {
            content.truncate(LENGTH_IN_LOCATION);
        }
        weak.extend_from_slice(&content);
        let label = match name {
            Some(named) => hash(names::joined(&named.names).as_bytes()),
            None => hash(&weak),
        };
        made.set(node, (hash(&own), hash(&weak)), label, on);
    }

    /// Returns whether data is a `core::panic::Location`: a pointer to the name of a source file that a NUL ends, the
    /// length of the name, a line and a column, of four bytes each.
    fn is_location(&self, start: u64, end: u64) -> bool {
        let Some(Pointer::Here(text)) = self.image.pointers.get(&start) else {
            return false;
        };
        let mut pointers = self.image.pointers.range(start..end);
        let (Some(length), Some(numbers)) =
            (self.image.word(start + 8), self.image.word(start + 16))
        else {
            return false;
        };
        let (line, column) = (numbers & 0xffff_ffff, numbers >> 32);
        let rest = self.image.bytes(start + 24, end);
        let name = match text.checked_add(length) {
            Some(after) if length < 4096 => self.image.bytes(*text, after + 1),
            _ => return false,
        };
        end - start >= 24
            && pointers.nth(1).is_none()
            && line > 0
            && column > 0
            && rest.iter().all(|byte| *byte == 0)
            && name.len() as u64 == length + 1
            && name.ends_with(b".rs\0")
    }
}

/// Functions that may start within another one, and are looked through.
const OVERLAPPING: usize = 16;

/// The pointer and the length in a `Location`, which stay if lines and columns do not count.
const LENGTH_IN_LOCATION: usize = 16;

impl Nodes {
    fn data(&mut self, start: u64, is_new: impl FnOnce()) -> u32 {
        let number = self.strict.len() as u32;
        *self.data.entry(start).or_insert_with(|| {
            is_new();
            self.strict.push(Node::default());
            self.weak.push(Node::default());
            number
        })
    }

    fn set(&mut self, node: usize, (strict, weak): (u128, u128), label: u128, on: Vec<u32>) {
        let with = |own, on| Node { own, label, on };
        self.weak[node] = with(weak, on.clone());
        self.strict[node] = with(strict, on);
    }
}

fn functions<'a>(image: &'a Image<'a>) -> Vec<Function<'a>> {
    let mut functions = Vec::new();
    let in_parts = image
        .parts
        .iter()
        .filter(|part| part.code && !part.name.starts_with(".plt"));
    for part in in_parts {
        let from = image.functions.partition_point(|it| it.start < part.start);
        let to = image.functions.partition_point(|it| it.start < part.end());
        let named = &image.functions[from..to];
        let mut covered = part.start;
        for (index, it) in named.iter().enumerate() {
            let next = named.get(index + 1).map_or(part.end(), |next| next.start);
            if covered < it.start {
                functions.extend(gap(image, covered, it.start));
            }
            let end = match it.size {
                0 => next,
                size => (it.start.saturating_add(size)).min(part.end()),
            };
            functions.push(Function {
                start: it.start,
                end,
                names: it.names.clone(),
                code: code::read(image, it.start, end),
                watched: false,
            });
            covered = covered.max(end);
        }
        if covered < part.end() {
            functions.extend(gap(image, covered, part.end()));
        }
    }
    functions.sort_by_key(|it| it.start);
    functions
}

/// Returns code between functions, if it is more than padding.
fn gap<'a>(image: &'a Image<'a>, start: u64, end: u64) -> Option<Function<'a>> {
    let code = code::read(image, start, end);
    let padding = image
        .bytes(start, end)
        .iter()
        .all(|byte| matches!(byte, 0 | 0xcc));
    (!padding && !code.text.is_empty()).then_some(Function {
        start,
        end,
        names: Vec::new(),
        code,
        watched: false,
    })
}

fn named_at<'a, 'b>(all: &'b [Named<'a>], address: u64) -> Option<&'b Named<'a>> {
    let after = all.partition_point(|it| it.start <= address);
    let found = all[..after].last()?;
    (address < found.start.saturating_add(found.size)).then_some(found)
}

/// Returns whether a linker makes `__start_` and `__stop_` for a part, between which programs look for all in it.
fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
