//! The tables of functions that say where a call goes on when it unwinds (LSDA, of the C++ ABI), by way of the frame
//! descriptions (`.eh_frame`, of the Linux Standard Base).

use super::image::{Image, Part};
use std::collections::BTreeMap;

/// An encoding of addresses: four signed bytes, from its own place on.
const RELATIVE_4: u8 = 0x1b;

/// Something is left out.
const OMITTED: u8 = 0xff;

/// Returns the tables of functions, by their addresses.
pub(super) fn tables<'a>(image: &Image<'a>) -> BTreeMap<u64, &'a [u8]> {
    let Some(frames) = image.parts.iter().find(|part| part.name == ".eh_frame") else {
        return BTreeMap::new();
    };
    let mut tables = BTreeMap::new();
    let mut at = frames.start;
    while let Some((function, next, table)) = entry(image, frames, at) {
        if let Some((function, table)) = function.zip(table) {
            tables.insert(function, contents(image, table));
        }
        at = next;
    }
    tables
}

type Entry = (Option<u64>, u64, Option<u64>);

/// Reads the description at an address: the function, the next description, and the table. `None` at the end.
fn entry(image: &Image, frames: &Part, at: u64) -> Option<Entry> {
    let length = int(image, at)?;
    if length == 0 || length == u32::MAX || !frames.has(at) {
        return None;
    }
    let id_at = at + 4;
    let (id, next) = (int(image, id_at)?, id_at + u64::from(length));
    if id == 0 {
        return Some((None, next, None));
    }
    let common = id_at.checked_sub(u64::from(id))?;
    let Some((pointers, tables)) = encodings(image, common) else {
        return Some((None, next, None));
    };
    if pointers != RELATIVE_4 || tables != RELATIVE_4 {
        return Some((None, next, None));
    }
    let function = relative(image, id_at + 4)?;
    let (_, after) = number(image, id_at + 12)?;
    let table = relative(image, after).filter(|table| *table != after);
    Some((Some(function), next, table))
}

/// Returns how the descriptions of a common part (CIE) write the addresses of functions and of tables.
fn encodings(image: &Image, common: u64) -> Option<(u8, u8)> {
    // Behind the length and the id, which is zero.
    if int(image, common + 4)? != 0 {
        return None;
    }
    let text = common + 9;
    let mut at = text;
    let mut letters = Vec::new();
    loop {
        match byte(image, at)? {
            0 => break,
            letter => letters.push(letter),
        }
        at += 1;
    }
    if letters.first() != Some(&b'z') {
        return None;
    }
    let (_, at) = number(image, at + 1)?;
    let (_, at) = number(image, at)?;
    let (_, at) = number(image, at)?;
    let (_, mut at) = number(image, at)?;
    let (mut pointers, mut tables) = (0, OMITTED);
    for letter in &letters[1..] {
        match letter {
            b'R' => pointers = byte(image, at)?,
            b'L' => tables = byte(image, at)?,
            // An encoding, and an address of four bytes, or of eight.
            b'P' => {
                at += if byte(image, at)? & 0x0f == 0x0c {
                    8
                } else {
                    4
                }
            }
            b'S' => continue,
            _ => return None,
        }
        at += 1;
    }
    Some((pointers, tables))
}

/// Returns a table from its start to its end.
fn contents<'a>(image: &Image<'a>, table: u64) -> &'a [u8] {
    let end = end(image, table).unwrap_or(table);
    image.bytes(table, end)
}

fn end(image: &Image, table: u64) -> Option<u64> {
    if byte(image, table)? != OMITTED {
        return None;
    }
    if byte(image, table + 1)? != OMITTED {
        let (types, after) = number(image, table + 2)?;
        return Some(after + types);
    }
    let (calls, after) = number(image, table + 3)?;
    Some(after + calls)
}

fn byte(image: &Image, at: u64) -> Option<u8> {
    image.bytes(at, at + 1).first().copied()
}

fn int(image: &Image, at: u64) -> Option<u32> {
    Some(u32::from_le_bytes(image.bytes(at, at + 4).try_into().ok()?))
}

fn relative(image: &Image, at: u64) -> Option<u64> {
    let distance = int(image, at)?.cast_signed();
    Some(at.wrapping_add_signed(distance.into()))
}

/// Returns a number of seven bits a byte, and where it ends.
fn number(image: &Image, mut at: u64) -> Option<(u64, u64)> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = byte(image, at)?;
        at += 1;
        if shift < 63 {
            value |= u64::from(byte & 0x7f) << shift;
        }
        shift += 7;
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
    }
}
