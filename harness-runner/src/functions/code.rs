//! Instructions without what the layout of an executable makes of them.
//!
//! A distance becomes the thing at its end, in a list beside the instructions; a jump within a function becomes the
//! number of an instruction. Several ways in which a compiler or linker writes one thing become one.

use super::image::{Image, Pointer};
use iced_x86::{Code as Op, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use std::collections::BTreeSet;

/// The code of a function.
#[derive(Debug, Default)]
pub(super) struct Code {
    /// The instructions, with a mark for each reference.
    pub(super) text: Vec<u8>,
    /// The addresses that they refer to, in order.
    pub(super) references: Vec<u64>,
    /// Those among them that look like tables of distances to data.
    pub(super) tables: BTreeSet<u64>,
    /// Places where the code has a table of its own among the data.
    pub(super) jumps: BTreeSet<u64>,
    /// Whether all of it is instructions.
    pub(super) whole: bool,
}

/// Marks in the text of a function. Whatever follows one has a fixed or a written length.
mod mark {
    pub(super) const PLAIN: u8 = 0;
    pub(super) const WITHIN: u8 = 1;
    pub(super) const CALL: u8 = 2;
    pub(super) const ADDRESS: u8 = 3;
    pub(super) const DATA: u8 = 4;
    pub(super) const IMPORT: u8 = 5;
    pub(super) const OF_THREAD: u8 = 6;
    pub(super) const TABLE: u8 = 7;
    pub(super) const NO_INSTRUCTION: u8 = 8;
}

/// Entries of a table; a longer one is cut.
const LONGEST_TABLE: usize = 100_000;

/// Reads the code between two addresses.
pub(super) fn read(image: &Image, start: u64, end: u64) -> Code {
    let bytes = image.bytes(start, end);
    let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
    let mut instructions: Vec<Instruction> = Vec::with_capacity(bytes.len() / 4);
    while decoder.can_decode() {
        instructions.push(decoder.decode());
    }
    let bases = (0..instructions.len()).filter_map(|at| base_of_table(&instructions[at..]));
    let bases: BTreeSet<Register> = bases.collect();
    let mut reading = Reading {
        image,
        bytes,
        start,
        end,
        of_thread: Vec::new(),
        code: Code {
            whole: true,
            ..Code::default()
        },
        within: Vec::new(),
    };
    let mut places = Vec::with_capacity(instructions.len());
    let mut number = 0_u32;
    for instruction in &instructions {
        places.push((instruction.ip(), number));
        if instruction.mnemonic() == Mnemonic::Nop {
            continue;
        }
        number += 1;
        reading.add(instruction, &bases);
    }
    reading.number(&places);
    reading.code
}

/// Returns the base of a table of distances from itself: `movsxd r, dword ptr [base + index*4]`, and soon `add` of both.
fn base_of_table(instructions: &[Instruction]) -> Option<Register> {
    let (first, rest) = instructions.split_first()?;
    let scaled = first.mnemonic() == Mnemonic::Movsxd
        && first.op1_kind() == OpKind::Memory
        && first.memory_index_scale() == 4
        && first.memory_index() != Register::None;
    let (base, entry) = (first.memory_base(), first.op0_register());
    let adds = |it: &Instruction| {
        let operands = (it.op0_register(), it.op1_register());
        it.mnemonic() == Mnemonic::Add && (operands == (base, entry) || operands == (entry, base))
    };
    (scaled && rest.iter().take(SOON).any(adds)).then_some(base)
}

/// Instructions between the load of a distance and its use.
const SOON: usize = 8;

struct Reading<'a> {
    image: &'a Image<'a>,
    bytes: &'a [u8],
    start: u64,
    end: u64,
    /// The registers that hold the address of the block of the thread.
    of_thread: Vec<Register>,
    code: Code,
    /// Places in the text for the number of the instruction at an address.
    within: Vec<(usize, u64)>,
}

impl Reading<'_> {
    fn add(&mut self, instruction: &Instruction, bases: &BTreeSet<Register>) {
        if instruction.is_invalid() {
            self.code.whole = false;
            self.mark(mark::NO_INSTRUCTION);
            self.raw(instruction, 0..0);
            return;
        }
        if instruction.op0_kind() == OpKind::NearBranch64 {
            self.branch(instruction);
        } else if instruction.is_ip_rel_memory_operand() {
            self.relative(instruction, bases);
        } else if !self.thread(instruction) {
            self.mark(mark::PLAIN);
            self.raw(instruction, 0..0);
        }
        self.follow(instruction);
    }

    fn mark(&mut self, mark: u8) {
        self.code.text.push(mark);
    }

    fn number_of(&mut self, value: u64) {
        self.code.text.extend_from_slice(&value.to_le_bytes());
    }

    /// Adds an instruction as it is, but for some of its bytes.
    fn raw(&mut self, instruction: &Instruction, without: std::ops::Range<usize>) {
        let at = usize::try_from(instruction.ip() - self.start).expect("it is in memory");
        let bytes = &self.bytes[at..at + instruction.len()];
        self.code.text.push(bytes.len() as u8);
        self.code.text.extend_from_slice(&bytes[..without.start]);
        self.code.text.extend(without.clone().map(|_| 0));
        self.code.text.extend_from_slice(&bytes[without.end..]);
    }

    fn branch(&mut self, instruction: &Instruction) {
        let target = instruction.near_branch_target();
        let kind = instruction.mnemonic() as u64;
        if (self.start..self.end).contains(&target) {
            self.mark(mark::WITHIN);
            self.number_of(kind);
            self.within.push((self.code.text.len(), target));
            self.number_of(0);
            return;
        }
        match self.image.part(target) {
            Some(part) if part.name.starts_with(".plt") => {
                match slot_of(self.image, target).and_then(|slot| self.image.pointers.get(&slot)) {
                    Some(Pointer::Here(there)) => self.refer(mark::CALL, kind, *there),
                    Some(Pointer::Import(name)) => self.import(kind, &name.clone()),
                    None => self.refer(mark::CALL, kind, target),
                }
            }
            _ => self.refer(mark::CALL, kind, target),
        }
    }

    fn refer(&mut self, mark: u8, what: u64, target: u64) {
        self.mark(mark);
        self.number_of(what);
        self.code.references.push(target);
    }

    fn import(&mut self, what: u64, name: &str) {
        self.mark(mark::IMPORT);
        self.number_of(what);
        self.number_of(name.len() as u64);
        self.code.text.extend_from_slice(name.as_bytes());
    }

    /// An instruction with the distance of something in memory.
    fn relative(&mut self, instruction: &Instruction, bases: &BTreeSet<Register>) {
        let address = instruction.ip_rel_memory_address();
        let part = self.image.part(address);
        let indirect = part.is_some_and(|part| part.name.starts_with(".got"));
        let (kind, register) = (instruction.mnemonic(), instruction.op0_register());
        if indirect {
            return self.through(instruction, address);
        }
        if kind == Mnemonic::Lea {
            let data = part.is_some_and(|part| !part.code && !part.writable);
            if data && bases.contains(&register) && self.table(address, register) {
                return;
            }
            return self.refer(mark::ADDRESS, register as u64, address);
        }
        self.data(instruction, address);
    }

    fn data(&mut self, instruction: &Instruction, address: u64) {
        self.mark(mark::DATA);
        self.raw(
            instruction,
            displacement(instruction, self.bytes, self.start),
        );
        self.code.references.push(address);
    }

    /// An instruction that uses a slot of the table of addresses (GOT).
    fn through(&mut self, instruction: &Instruction, slot: u64) {
        let (kind, register) = (instruction.mnemonic(), instruction.op0_register());
        let what = match kind {
            Mnemonic::Call | Mnemonic::Jmp => kind as u64,
            _ => register as u64,
        };
        let pointer = self.image.pointers.get(&slot).cloned();
        match (kind, pointer) {
            (Mnemonic::Call | Mnemonic::Jmp, Some(Pointer::Here(there))) => {
                self.refer(mark::CALL, what, there);
            }
            (Mnemonic::Mov, Some(Pointer::Here(there)))
                if instruction.op1_kind() == OpKind::Memory =>
            {
                self.refer(mark::ADDRESS, what, there);
            }
            (_, Some(Pointer::Here(there))) => self.data(instruction, there),
            (_, Some(Pointer::Import(name))) => {
                self.mark(mark::PLAIN);
                self.raw(
                    instruction,
                    displacement(instruction, self.bytes, self.start),
                );
                self.import(what, &name);
            }
            // The linker knew the value.
            (_, None) => {
                let value = self.image.word(slot).unwrap_or(0);
                self.mark(mark::PLAIN);
                self.raw(
                    instruction,
                    displacement(instruction, self.bytes, self.start),
                );
                self.number_of(value);
            }
        }
    }

    /// Adds a table of distances; `false` if there is none.
    fn table(&mut self, address: u64, register: Register) -> bool {
        let part = self.image.part(address).expect("it is in one");
        let mut targets = Vec::new();
        let bytes = self.image.bytes(address, part.end());
        for entry in bytes.chunks_exact(4).take(LONGEST_TABLE) {
            let distance = i32::from_le_bytes(entry.try_into().expect("it has four bytes"));
            let target = address.wrapping_add_signed(distance.into());
            if !(self.start..self.end).contains(&target) {
                break;
            }
            targets.push(target);
        }
        if targets.is_empty() {
            self.code.tables.insert(address);
            return false;
        }
        self.code.jumps.insert(address);
        self.mark(mark::TABLE);
        self.number_of(register as u64);
        self.number_of(targets.len() as u64);
        for target in targets {
            self.within.push((self.code.text.len(), target));
            self.number_of(0);
        }
        true
    }

    /// Adds an instruction that uses a variable of the thread. `false` if it does not, as far as is known.
    fn thread(&mut self, instruction: &Instruction) -> bool {
        let memory =
            (0..instruction.op_count()).any(|it| instruction.op_kind(it) == OpKind::Memory);
        let base = instruction.memory_base();
        let direct = instruction.memory_segment() == Register::FS && base == Register::None;
        if !memory || !(direct || self.of_thread.contains(&base)) {
            return false;
        }
        let distance = instruction.memory_displacement64().cast_signed();
        let offset = self.image.thread_block.checked_add_signed(distance);
        let Some(offset) = offset.filter(|_| distance < 0) else {
            return false;
        };
        let Some((variable, name)) = self.image.of_threads.range(..=offset).next_back() else {
            return false;
        };
        let (variable, name) = (*variable, name.as_bytes());
        self.mark(mark::OF_THREAD);
        self.raw(
            instruction,
            displacement(instruction, self.bytes, self.start),
        );
        self.number_of(name.len() as u64);
        self.code.text.extend_from_slice(name);
        self.number_of(offset - variable);
        let mut parts = self.image.parts.iter();
        let initial = parts.find(|part| part.name.starts_with(".tdata"));
        if let Some(part) = initial.filter(|part| variable < part.size) {
            self.refer(mark::DATA, 0, part.start + variable);
        }
        true
    }

    /// Follows which registers hold the address of the block of the thread.
    fn follow(&mut self, instruction: &Instruction) {
        use iced_x86::FlowControl;
        if instruction.flow_control() != FlowControl::Next
            && instruction.flow_control() != FlowControl::ConditionalBranch
        {
            self.of_thread.clear();
            return;
        }
        if instruction.op_count() == 0 || instruction.op0_kind() != OpKind::Register {
            return;
        }
        let register = instruction.op0_register().full_register();
        self.of_thread.retain(|it| *it != register);
        let block = instruction.code() == Op::Mov_r64_rm64
            && instruction.op1_kind() == OpKind::Memory
            && instruction.memory_segment() == Register::FS
            && instruction.memory_base() == Register::None
            && instruction.memory_displacement64() == 0;
        if block {
            self.of_thread.push(register);
        }
    }

    /// Writes the numbers of instructions. A place between instructions counts by its distance.
    fn number(&mut self, places: &[(u64, u32)]) {
        for (at, target) in &self.within {
            let found = places.binary_search_by_key(target, |(ip, _)| *ip);
            let number = match found {
                Ok(index) => u64::from(places[index].1),
                Err(_) => u64::MAX - (target - self.start),
            };
            self.code.text[*at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
    }
}

/// Returns where the displacement is in an instruction.
fn displacement(instruction: &Instruction, bytes: &[u8], start: u64) -> std::ops::Range<usize> {
    let at = usize::try_from(instruction.ip() - start).expect("it is in memory");
    let code = &bytes[at..at + instruction.len()];
    let mut decoder = Decoder::with_ip(64, code, instruction.ip(), DecoderOptions::NONE);
    let again = decoder.decode();
    let constants = decoder.get_constant_offsets(&again);
    let from = constants.displacement_offset();
    from..from + constants.displacement_size()
}

/// Returns the slot that a stub of the table of procedures (PLT) jumps by.
fn slot_of(image: &Image, stub: u64) -> Option<u64> {
    let bytes = image.bytes(stub, stub + 16);
    let mut decoder = Decoder::with_ip(64, bytes, stub, DecoderOptions::NONE);
    for _ in 0..2 {
        let instruction = decoder.decode();
        if instruction.mnemonic() == Mnemonic::Jmp && instruction.is_ip_rel_memory_operand() {
            return Some(instruction.ip_rel_memory_address());
        }
    }
    None
}
