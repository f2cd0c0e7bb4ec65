//! An executable as it will be in memory: its parts, symbols and pointers.

use object::{
    Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, SectionFlags,
    elf::{
        R_X86_64_64, R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT, R_X86_64_RELATIVE, SHF_ALLOC,
        SHF_EXECINSTR, SHF_WRITE, SHT_RELR,
    },
    read::elf::ElfFile64,
};
use std::collections::BTreeMap;
use thiserror::Error;

/// A reason why there is no map of an executable.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NoMap {
    /// It is for another kind of machine.
    #[error("it is no program for x86-64")]
    Machine,
    /// It is damaged, or no program.
    #[error("it is no ELF file that can be read: {0}")]
    Elf(String),
    /// It is loaded to a fixed address.
    #[error(
        "it is not position-independent (`-C relocation-model`), so pointers in it look like numbers"
    )]
    Fixed,
    /// It has no names of functions.
    #[error(
        "it has no symbols; `strip = \"symbols\"` or `strip = true` takes them away, `strip = \"debuginfo\"` does not"
    )]
    Stripped,
}

/// A pointer that the loader fills in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pointer {
    /// To an address of the executable itself.
    Here(u64),
    /// To a name of a library; or another relocation, by its number.
    Import(String),
}

/// A part of an executable.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) name: &'a str,
    pub(super) start: u64,
    pub(super) size: u64,
    /// Shorter than the part if the rest is zero.
    pub(super) bytes: &'a [u8],
    pub(super) code: bool,
    pub(super) writable: bool,
}

impl Part<'_> {
    pub(super) fn end(&self) -> u64 {
        self.start + self.size
    }

    pub(super) fn has(&self, address: u64) -> bool {
        (self.start..self.end()).contains(&address)
    }
}

/// A named piece of an executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named<'a> {
    pub(super) start: u64,
    pub(super) size: u64,
    /// Its names, in order.
    pub(super) names: Vec<&'a str>,
}

/// An executable.
#[derive(Debug)]
pub(super) struct Image<'a> {
    pub(super) entry: u64,
    /// In the order of their addresses.
    pub(super) parts: Vec<Part<'a>>,
    /// By their addresses.
    pub(super) functions: Vec<Named<'a>>,
    /// By their addresses.
    pub(super) objects: Vec<Named<'a>>,
    /// Content that the linker has a name for, as start and end.
    pub(super) contents: Vec<(u64, u64)>,
    /// Variables of threads, by their offset in the block of a thread.
    pub(super) of_threads: BTreeMap<u64, &'a str>,
    /// The size of the block of a thread, aligned.
    pub(super) thread_block: u64,
    pub(super) pointers: BTreeMap<u64, Pointer>,
    /// The notes of compilers and linkers about themselves.
    pub(super) tools: &'a [u8],
}

/// Symbols that stand for content: their names change with the module that they are in.
const OF_CONTENT: [&str; 7] = [
    "anon.",
    "alloc_",
    "vtable.",
    "switch.table",
    ".L",
    "str.",
    "GCC_except_table",
];

impl<'a> Image<'a> {
    /// Reads an executable.
    ///
    /// # Errors
    ///
    /// When nothing can be said of its functions.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, NoMap> {
        let wrong = |error: object::Error| NoMap::Elf(error.to_string());
        let file = ElfFile64::<object::Endianness>::parse(bytes).map_err(wrong)?;
        if file.architecture() != object::Architecture::X86_64 {
            return Err(NoMap::Machine);
        }
        if file.kind() != object::ObjectKind::Dynamic {
            return Err(NoMap::Fixed);
        }
        let mut image = Self {
            entry: file.entry(),
            parts: Vec::new(),
            functions: Vec::new(),
            objects: Vec::new(),
            contents: Vec::new(),
            of_threads: BTreeMap::new(),
            thread_block: 0,
            pointers: BTreeMap::new(),
            tools: &[],
        };
        let mut relative = Vec::new();
        for section in file.sections() {
            let name = section.name().map_err(wrong)?;
            let SectionFlags::Elf { sh_flags } = section.flags() else {
                continue;
            };
            let bytes = section.data().map_err(wrong)?;
            if name == ".comment" {
                image.tools = bytes;
            }
            if sh_flags & u64::from(SHF_ALLOC) == 0 {
                continue;
            }
            if section
                .elf_section_header()
                .sh_type
                .get(object::Endianness::Little)
                == SHT_RELR
            {
                relative = packed(bytes);
            }
            image.parts.push(Part {
                name,
                start: section.address(),
                size: section.size(),
                bytes,
                code: sh_flags & u64::from(SHF_EXECINSTR) != 0,
                writable: sh_flags & u64::from(SHF_WRITE) != 0,
            });
        }
        // What is there once for each thread has no address of its own, though `.tbss` says one.
        image.parts.retain(|part| !part.name.starts_with(".tbss"));
        image.parts.sort_by_key(|part| part.start);
        image.thread_block = thread_block(&file);
        image.name(&file)?;
        image.point(&file, &relative);
        Ok(image)
    }

    fn name(&mut self, file: &ElfFile64<'a>) -> Result<(), NoMap> {
        let mut functions: BTreeMap<u64, Named> = BTreeMap::new();
        let mut objects: BTreeMap<u64, Named> = BTreeMap::new();
        for symbol in file.symbols() {
            let Ok(name) = symbol.name() else { continue };
            if name.is_empty() || !symbol.is_definition() {
                continue;
            }
            let (start, size) = (symbol.address(), symbol.size());
            if symbol.kind() == object::SymbolKind::Tls {
                self.of_threads.insert(start, name);
                continue;
            }
            let Some(part) = self.part(start) else {
                continue;
            };
            let wanted = match part.code {
                true => &mut functions,
                false if size == 0 => continue,
                false if OF_CONTENT.iter().any(|it| name.starts_with(it)) => {
                    self.contents.push((start, start.saturating_add(size)));
                    continue;
                }
                false => &mut objects,
            };
            let named = wanted.entry(start).or_insert_with(|| Named {
                start,
                size,
                names: Vec::new(),
            });
            named.size = named.size.max(size);
            named.names.push(plain(name));
        }
        if functions.is_empty() {
            return Err(NoMap::Stripped);
        }
        let in_order = |named: BTreeMap<u64, Named<'a>>| {
            let mut all: Vec<Named> = named.into_values().collect();
            for named in &mut all {
                named.names.sort_unstable();
                named.names.dedup();
            }
            all
        };
        self.functions = in_order(functions);
        self.objects = in_order(objects);
        Ok(())
    }

    fn point(&mut self, file: &ElfFile64<'a>, relative: &[u64]) {
        for address in relative {
            if let Some(word) = self.word(*address) {
                self.pointers.insert(*address, Pointer::Here(word));
            }
        }
        let names = file.dynamic_symbol_table();
        for (address, relocation) in file.dynamic_relocations().into_iter().flatten() {
            let RelocationFlags::Elf { r_type } = relocation.flags() else {
                continue;
            };
            let addend = relocation.addend().cast_unsigned();
            let symbol = match relocation.target() {
                RelocationTarget::Symbol(index) => names.as_ref().and_then(|names| {
                    object::ObjectSymbolTable::symbol_by_index(names, index).ok()
                }),
                _ => None,
            };
            let pointer = match (r_type, symbol) {
                (R_X86_64_RELATIVE, _) => Pointer::Here(addend),
                (R_X86_64_64 | R_X86_64_GLOB_DAT | R_X86_64_JUMP_SLOT, Some(symbol))
                    if symbol.is_definition() =>
                {
                    Pointer::Here(symbol.address().wrapping_add(addend))
                }
                (kind, symbol) => {
                    let name = symbol.as_ref().and_then(|symbol| symbol.name().ok());
                    Pointer::Import(format!("{kind} {} {addend}", name.unwrap_or_default()))
                }
            };
            self.pointers.insert(address, pointer);
        }
    }

    /// Returns the part that an address is in.
    pub(super) fn part(&self, address: u64) -> Option<&Part<'a>> {
        let after = self.parts.partition_point(|part| part.start <= address);
        let part = self.parts[..after]
            .iter()
            .rev()
            .find(|part| part.size > 0)?;
        part.has(address).then_some(part)
    }

    /// Returns the content from an address to another one in the same part; zeros are left out at its end.
    pub(super) fn bytes(&self, start: u64, end: u64) -> &'a [u8] {
        let Some(part) = self.part(start) else {
            return &[];
        };
        let at = |address: u64| {
            let offset = address.min(part.end()) - part.start;
            usize::try_from(offset).map_or(part.bytes.len(), |it| it.min(part.bytes.len()))
        };
        &part.bytes[at(start)..at(end.max(start))]
    }

    /// Returns the eight bytes at an address.
    pub(super) fn word(&self, address: u64) -> Option<u64> {
        let bytes = self.bytes(address, address.checked_add(8)?);
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }
}

/// Returns a name without what tells copies by other modules of one program apart.
fn plain(name: &str) -> &str {
    name.split(".llvm.").next().unwrap_or(name)
}

fn thread_block(file: &ElfFile64) -> u64 {
    use object::read::elf::ProgramHeader;
    let little = object::Endianness::Little;
    let mut headers = file.elf_program_headers().iter();
    let block = headers.find(|header| header.p_type(little) == object::elf::PT_TLS);
    block.map_or(0, |block| {
        let align = block.p_align(little).max(1);
        block.p_memsz(little).next_multiple_of(align)
    })
}

/// Returns the addresses in a table of packed relative relocations (`SHT_RELR`): an address, and then
/// bits for the words behind it.
fn packed(bytes: &[u8]) -> Vec<u64> {
    let mut all = Vec::new();
    let mut next = 0_u64;
    for word in bytes.chunks_exact(8) {
        let word = u64::from_le_bytes(word.try_into().expect("it has eight bytes"));
        if word & 1 == 0 {
            all.push(word);
            next = word.wrapping_add(8);
            continue;
        }
        let bits = (1..64).filter(|bit| word >> bit & 1 == 1);
        all.extend(bits.map(|bit| next.wrapping_add((bit - 1) * 8)));
        next = next.wrapping_add(63 * 8);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_relocations_are_an_address_and_bits_for_what_follows() {
        let words = [0x1000_u64, 0b1011, 0x2000];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(packed(&bytes), [0x1000, 0x1008, 0x1018, 0x2000]);
    }

    #[test]
    fn text_is_no_executable() {
        assert!(matches!(Image::read(b"#!/bin/sh\n"), Err(NoMap::Elf(_))));
    }
}
