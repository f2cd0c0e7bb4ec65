//! The argument vector and the environment of a program, and the places to read them from.
//!
//! At the entry of an exec both are where the call has them, string by string. After a success, the
//! kernel has put all of it in one place: on the new program's stack.

use super::{
    Environment, ReadError,
    environment::{BYTES, ENTRIES, strings},
    memory::Memory,
};
use harness_metadata::RawString;
use std::ffi::CStr;

/// The arguments and environment of a program.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Vectors {
    /// The arguments, argument zero included.
    pub args: Vec<RawString>,
    /// The environment.
    pub environment: Environment,
    /// Whether there was more of either than is kept.
    pub truncated: bool,
}

impl Vectors {
    /// The number of bytes to read from a stack. Nearly all programs are started with less.
    pub const STACK: usize = BYTES;

    /// Takes what the kernel has put on the stack of a new program of 64 bits, from `address` on, which
    /// is the stack pointer: the number of arguments, where each of them is, 0, where each string of the
    /// environment is, 0, and more; and further up those strings, one after the other (System V ABI,
    /// "Process Initialization"). `None` if that is not what is there, or not all of it.
    pub fn on_stack(address: u64, stack: &[u8]) -> Option<Self> {
        let words = stack.as_chunks::<8>().0.iter();
        let mut words = words.map(|word| u64::from_ne_bytes(*word));
        let count = usize::try_from(words.next()?).ok()?;
        let mut pointers: Vec<u64> = words.by_ref().take(count).collect();
        if pointers.len() < count || words.next()? != 0 {
            return None;
        }
        loop {
            match words.next()? {
                0 => break,
                pointer => pointers.push(pointer),
            }
        }
        let offset = |pointer: u64| usize::try_from(pointer.checked_sub(address)?).ok();
        let mut end = match pointers.first() {
            Some(first) => offset(*first)?,
            None => return Some(Self::default()),
        };
        // The strings are further up than the count, the pointers and what ends them.
        if end < 8 * (pointers.len() + 3) {
            return None;
        }
        let mut args = Vec::with_capacity(count.min(ENTRIES));
        let mut environment = end;
        for (index, pointer) in pointers.iter().enumerate() {
            if offset(*pointer)? != end {
                return None;
            }
            let string = CStr::from_bytes_until_nul(stack.get(end..)?).ok()?;
            end += string.count_bytes() + 1;
            if index < count {
                environment = end;
                if index < ENTRIES {
                    args.push(string.to_bytes().into());
                }
            }
        }
        Some(Self {
            args,
            environment: Environment::from_block(&stack[environment..end]),
            truncated: count > ENTRIES || pointers.len() - count > ENTRIES,
        })
    }

    /// Takes the beginnings of /proc/PID/cmdline and /proc/PID/environ, each at most as long as
    /// [`Self::STACK`]; one that is as long has been cut off. `None` for one that could not be read: of
    /// a program that its user may not read, only the first can.
    pub fn in_blocks(cmdline: Option<&[u8]>, environ: Option<Vec<u8>>) -> Self {
        let is_whole = |length: usize| length < BYTES;
        let args_cut = !cmdline.is_some_and(|block| is_whole(block.len()));
        let cmdline = cmdline.unwrap_or_default();
        let mut args = strings(cmdline).map(|string| cmdline[string].into());
        let cut = !environ.as_ref().is_some_and(|block| is_whole(block.len()));
        let environment = Environment::from_block(environ.unwrap_or_default()).cut_if(cut);
        Self {
            args: args.by_ref().take(ENTRIES).collect(),
            truncated: args_cut || args.next().is_some() || environment.is_truncated(),
            environment,
        }
    }

    /// Reads what a call has at these addresses. Also returns the first error: that something cannot be
    /// read is no reason to say nothing of the rest.
    pub(super) fn of_call(
        memory: &Memory<'_>,
        args: u64,
        environment: u64,
    ) -> (Self, Option<ReadError>) {
        let mut error = None;
        let mut read = |address| {
            Strings::read(memory, address).unwrap_or_else(|why| {
                error.get_or_insert(why);
                Strings::default()
            })
        };
        let (args, environment) = (read(args), read(environment));
        let vectors = Self {
            truncated: args.truncated || environment.truncated,
            args: args.into_raw(),
            environment: Environment::new(environment.strings.iter().map(Vec::as_slice))
                .cut_if(environment.truncated),
        };
        (vectors, error)
    }
}

/// The strings of a vector that ends with NULL.
#[derive(Default)]
pub(super) struct Strings {
    strings: Vec<Vec<u8>>,
    pub(super) truncated: bool,
}

impl Strings {
    /// Reads a vector of strings, as far as there is room for it.
    pub(super) fn read(memory: &Memory<'_>, address: u64) -> Result<Self, ReadError> {
        let mut read = Self::default();
        // Linux takes no vector for an empty one.
        if address == 0 {
            return Ok(read);
        }
        let mut room = BYTES;
        for index in 0..=ENTRIES as u64 {
            let at = address.checked_add(8 * index).ok_or(ReadError::Fault)?;
            let string = memory.u64(at)?;
            if string == 0 {
                return Ok(read);
            }
            if index == ENTRIES as u64 || room == 0 {
                break;
            }
            let text = memory.string(string, room)?;
            // An empty one takes room as well: its NUL.
            room = room.saturating_sub(text.bytes.len() + 1);
            read.strings.push(text.bytes);
            if !text.whole {
                break;
            }
        }
        read.truncated = true;
        Ok(read)
    }

    pub(super) fn into_raw(self) -> Vec<RawString> {
        self.strings.into_iter().map(RawString::from).collect()
    }
}
