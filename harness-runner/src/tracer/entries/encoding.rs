//! The instructions that note an entry, for x86-64, and where they are in memory.
//!
//! Below the executable there are, from the lowest address on: the bits, one page of code, and a copy of the text as it
//! was. All distances are those of the file, so one copy serves all processes, wherever they are loaded.

use object::{
    LittleEndian,
    elf::{FileHeader64, PF_X, PT_LOAD},
    read::elf::{FileHeader, ProgramHeader},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The size of a page, which all parts begin with.
const PAGE: u64 = 4096;

/// The distance that stays free below the executable.
const GAP: u64 = 16 * PAGE;

/// Bytes of text for a bit. Entries are at multiples of this.
const GRAIN: u64 = 16;

/// `call`, with a distance of four bytes.
const CALL: u8 = 0xe8;

/// The length of that.
const LENGTH: u64 = 5;

/// A longer text is not copied: the distances get too long for a call.
const LONGEST: u64 = 1 << 30;

/// The offset of the instructions `syscall` and `int3` in the page of code.
pub(super) const GADGET: u64 = 2048;

/// `syscall` and `int3`.
pub(super) const SYSCALL: [u8; 3] = [0x0f, 0x05, 0xcc];

/// A reason why entries of an executable cannot be recorded.
#[derive(Copy, Clone, Debug, Error, PartialEq, Eq)]
pub enum Unpatchable {
    /// There is no code for this machine.
    #[error("entries are recorded on x86-64 only")]
    Machine,
    /// Its headers make no sense.
    #[error("its program headers cannot be read")]
    Headers,
    /// It has no text, more than one, or one that shares pages with data.
    #[error("its text is not in pages of its own")]
    Text,
    /// The text is longer than a call reaches.
    #[error("its text is too long")]
    Long,
}

/// The places of the parts of a recorded executable. Addresses are the file's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The first instruction.
    pub entry: u64,
    /// The first page of the text.
    pub text: u64,
    /// The length of the text, in whole pages.
    pub length: u64,
    /// The distance from the text down to the page of code.
    pub below: u64,
    /// The length of the bits, in whole pages.
    pub bitmap: u64,
}

impl Shape {
    /// Returns the bit of a function.
    pub fn bit(&self, address: u64) -> u64 {
        address.wrapping_sub(self.text) / GRAIN
    }
}

/// Makes the file that is mapped: the page of code, the text as it is, and the text with a call at each entry that can
/// have one. Returns it with the entries that do.
///
/// # Errors
///
/// When the executable cannot be recorded.
pub fn copy(bytes: &[u8], entries: &[u64]) -> Result<(Vec<u8>, Shape), Unpatchable> {
    if !cfg!(target_arch = "x86_64") {
        return Err(Unpatchable::Machine);
    }
    let shape = shape(bytes)?;
    let (offset, length) = (shape.1, shape.0.length);
    let shape = shape.0;
    let size = usize::try_from(length).map_err(|_| Unpatchable::Long)?;
    let from = usize::try_from(offset).map_err(|_| Unpatchable::Headers)?;
    let text = bytes.get(from..).ok_or(Unpatchable::Headers)?;
    let mut original = text[..text.len().min(size)].to_vec();
    original.resize(size, 0);
    let mut patched = original.clone();
    for entry in entries {
        let at = entry.wrapping_sub(shape.text);
        // The code is below, by a distance that fits.
        let distance = -i64::try_from(shape.below + at + LENGTH).map_err(|_| Unpatchable::Long)?;
        let distance = i32::try_from(distance).map_err(|_| Unpatchable::Long)?;
        let at = usize::try_from(at).map_err(|_| Unpatchable::Text)?;
        let place = patched.get_mut(at..at + 5).ok_or(Unpatchable::Text)?;
        place[0] = CALL;
        place[1..].copy_from_slice(&distance.to_le_bytes());
    }
    let mut file = code(&shape)?;
    file.append(&mut original);
    file.append(&mut patched);
    Ok((file, shape))
}

/// Returns the places of an executable, and the offset of its text in the file.
fn shape(bytes: &[u8]) -> Result<(Shape, u64), Unpatchable> {
    let wrong = |_| Unpatchable::Headers;
    let header = FileHeader64::<LittleEndian>::parse(bytes).map_err(wrong)?;
    let little = LittleEndian;
    let segments = header.program_headers(little, bytes).map_err(wrong)?;
    let loaded = segments.iter().filter(|it| it.p_type(little) == PT_LOAD);
    let pages = |it: &object::elf::ProgramHeader64<LittleEndian>| {
        let (start, size) = (it.p_vaddr(little), it.p_memsz(little));
        let end = start.checked_add(size)?.checked_next_multiple_of(PAGE)?;
        Some(start / PAGE * PAGE..end)
    };
    let mut all = Vec::new();
    let mut text = None;
    for segment in loaded {
        let pages = pages(segment).ok_or(Unpatchable::Headers)?;
        if segment.p_flags(little) & PF_X != 0 {
            let offset = segment.p_offset(little) / PAGE * PAGE;
            if text.replace((pages.clone(), offset)).is_some() {
                return Err(Unpatchable::Text);
            }
        }
        all.push(pages);
    }
    let (text, offset) = text.ok_or(Unpatchable::Text)?;
    let others = all.iter().filter(|pages| **pages != text);
    if others
        .clone()
        .any(|it| it.start < text.end && text.start < it.end)
    {
        return Err(Unpatchable::Text);
    }
    let start = all
        .iter()
        .map(|it| it.start)
        .min()
        .ok_or(Unpatchable::Text)?;
    let length = text.end - text.start;
    if text.end - start > LONGEST {
        return Err(Unpatchable::Long);
    }
    let shape = Shape {
        entry: header.e_entry(little),
        text: text.start,
        length,
        below: text.start - start + GAP + length + PAGE,
        bitmap: (length / GRAIN).div_ceil(8).next_multiple_of(PAGE),
    };
    Ok((shape, offset))
}

/// Returns the page of code. It begins with what is called at an entry:
///
/// ```text
/// push rax; push rcx; push rdx; pushfq
/// mov  rax, [rsp+32]; sub rax, 5; mov [rsp+32], rax     ; it returns to the entry
/// lea  rcx, [text]; sub rax, rcx                        ; the distance of the entry
/// lea  rdx, [original]; mov rdx, [rdx+rax]              ; its first eight bytes
/// add  rcx, rax; shr rax, 4
/// lock bts [bits], rax
/// mov  [rcx], rdx
/// popfq; pop rdx; pop rcx; pop rax; ret
/// ```
///
/// Several threads may be here for one entry: each of them writes the same bytes. They are eight at a multiple of
/// sixteen, so that no thread sees a part of them. What is below the stack pointer is not in use where a function
/// begins.
fn code(shape: &Shape) -> Result<Vec<u8>, Unpatchable> {
    let below = i64::try_from(shape.below).map_err(|_| Unpatchable::Long)?;
    let bitmap = i64::try_from(shape.bitmap).map_err(|_| Unpatchable::Long)?;
    let mut page = vec![0x50, 0x51, 0x52, 0x9c];
    page.extend([0x48, 0x8b, 0x44, 0x24, 0x20]);
    page.extend([0x48, 0x83, 0xe8, LENGTH as u8]);
    page.extend([0x48, 0x89, 0x44, 0x24, 0x20]);
    // Distances from the start of the page.
    let relative = |code: &[u8], to: i64, page: &mut Vec<u8>| {
        page.extend(code);
        let after = page.len() as i64 + 4;
        let distance = i32::try_from(to - after).map_err(|_| Unpatchable::Long)?;
        page.extend(distance.to_le_bytes());
        Ok::<(), Unpatchable>(())
    };
    relative(&[0x48, 0x8d, 0x0d], below, &mut page)?;
    page.extend([0x48, 0x29, 0xc8]);
    relative(&[0x48, 0x8d, 0x15], PAGE as i64, &mut page)?;
    page.extend([0x48, 0x8b, 0x14, 0x02]);
    page.extend([0x48, 0x01, 0xc1]);
    page.extend([0x48, 0xc1, 0xe8, 0x04]);
    relative(&[0xf0, 0x48, 0x0f, 0xab, 0x05], -bitmap, &mut page)?;
    page.extend([0x48, 0x89, 0x11]);
    page.extend([0x9d, 0x5a, 0x59, 0x58, 0xc3]);
    page.resize(GADGET as usize, 0xcc);
    page.extend(SYSCALL);
    page.resize(PAGE as usize, 0xcc);
    Ok(page)
}
