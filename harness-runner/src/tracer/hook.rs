//! The place where a dynamic loader tells debuggers that its work is done, how a task is stopped there,
//! and how it is made to install a filter.
//!
//! For debuggers glibc's loader calls an empty function, whenever it begins to load libraries and when
//! they are all mapped and relocated; which of the two is in `_r_debug` (`struct r_debug` of link.h).
//! The second time, nothing of the program and of its libraries has run yet but what picks an
//! implementation of a function (IFUNC). In that function is the [`Hook`]: a trap, and in front of it a
//! look at which of the two it is, if there is room for that.
//!
//! The injected calls leave nothing behind: the task's registers and the loader's code are
//! restored. Only memory below the stack's red zone is written to, which no program relies on.

use crate::sys::{self, Tid};
use libc::{c_long, sock_filter, user_regs_struct};
use nix::{Result, errno::Errno, sys::ptrace};
use syscalls::Sysno;

/// The hook of a loader, and the other needed addresses. Addresses are the file's.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    /// The start of the loader.
    entry: u64,
    /// The empty function.
    function: u64,
    /// The state of the loader: `r_state` of `_r_debug`.
    state: u64,
}

/// A hook in a task.
#[derive(Clone, Debug)]
pub(crate) struct Trap {
    function: u64,
    state: u64,
    /// The loader's code there.
    code: [u8; ROOM],
    /// The address at which a task stops that has run into it.
    after: u64,
}

/// A task that stands at a hook.
pub(crate) struct Reached {
    registers: user_regs_struct,
    /// Whether all is loaded.
    pub(crate) done: bool,
}

/// A task that is installing a filter.
#[derive(Debug)]
pub(crate) struct Installing {
    /// The registers to restore afterwards.
    registers: user_regs_struct,
}

/// `r_state` of link.h when all is loaded.
const CONSISTENT: i32 = 0;

/// Offset of `r_state` in `struct r_debug`.
const STATE: u64 = 24;

/// An empty function: `ret`.
const EMPTY: &[u8] = &[0xc3];

/// An empty function that may be called by its address: `endbr64` and `ret`.
const EMPTY_TARGET: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa, 0xc3];

/// The instruction `int3`.
const TRAP: u8 = 0xcc;

/// Up to where the linker pads a function: two words.
const ROOM: usize = 16;

/// The number of these bytes that [`trap_when_done`] takes.
const CONDITIONAL: usize = 11;

/// The instructions `syscall` and `int3`.
const CALL: [u8; 3] = [0x0f, 0x05, TRAP];

/// The bytes below the stack pointer that are still in use.
const RED_ZONE: u64 = 128;

/// The size of `struct sock_fprog`.
const PROGRAM: usize = 16;

/// As much as ptrace(2) reads or writes at once.
const WORD: usize = size_of::<c_long>();

impl Hook {
    /// Finds the hook in a loader's file. `None` if this is not glibc's.
    pub(crate) fn find(file: &[u8]) -> Option<Self> {
        let elf = elf::File::new(file)?;
        Some(Self {
            entry: elf.entry(),
            function: elf.symbol(b"_dl_debug_state")?,
            state: elf.symbol(b"_r_debug")?.checked_add(STATE)?,
        })
    }

    /// Sets a trap in a task that has just executed a program and stands at the loader's entry.
    pub(crate) fn set(&self, tid: Tid) -> Option<Trap> {
        let loaded_at = registers(tid).ok()?.rip.checked_sub(self.entry)?;
        if !loaded_at.is_multiple_of(crate::sys::arch::PAGE) {
            return None;
        }
        let function = loaded_at.checked_add(self.function)?;
        let state = loaded_at.checked_add(self.state)?;
        let code = peek(tid, function).ok()?;
        let mut empty = [EMPTY, EMPTY_TARGET].into_iter();
        let empty = empty.find(|empty| code.starts_with(empty))?;
        let padded = is_padding(&code[empty.len()..CONDITIONAL]) && !tests_plain();
        let conditional = trap_when_done(function, state).filter(|_| padded);
        let mut trapped = code;
        let length = match &conditional {
            Some(trap) => trap.len(),
            None => 1,
        };
        trapped[..length].copy_from_slice(conditional.as_ref().map_or(&[TRAP], |trap| trap));
        let trap = Trap {
            function,
            state,
            code,
            after: function + length as u64,
        };
        poke(tid, function, &trapped).ok()?;
        Some(trap)
    }
}

/// Whether there is to be a trap as if there were no padding. The only switch for tests in this crate: no
/// loader that can be installed here lacks the padding, and what is done without it rewrites a running
/// program, so it has to be tried. In a build for users it is a constant.
#[cfg(not(test))]
const fn tests_plain() -> bool {
    false
}

#[cfg(test)]
pub(crate) use tests::{PLAIN, tests_plain};

/// Returns code that runs into a trap at its end if `r_state` says that all is loaded, and else
/// returns: `cmpl $0, state(%rip)`, `je` to the trap, `ret`, `int3`. `None` if that is too far away.
fn trap_when_done(function: u64, state: u64) -> Option<[u8; CONDITIONAL]> {
    const COMPARE: u64 = 7;
    let distance = state.wrapping_sub(function + COMPARE).cast_signed();
    let [a, b, c, d] = i32::try_from(distance).ok()?.to_le_bytes();
    Some([
        0x83,
        0x3d,
        a,
        b,
        c,
        d,
        CONSISTENT as u8,
        0x74,
        1,
        0xc3,
        TRAP,
    ])
}

/// Returns whether code does nothing: instructions that assemblers put between functions, of which the
/// last one may be cut off.
fn is_padding(mut code: &[u8]) -> bool {
    while !code.is_empty() {
        let prefixes = code.iter().take_while(|byte| matches!(byte, 0x66 | 0x2e));
        let operation = &code[prefixes.count()..];
        let length = match operation {
            [] | [0x0f] | [0x0f, 0x1f] => return true,
            [0x90, ..] => 1,
            [TRAP, ..] if operation.len() == code.len() => 1,
            [0x0f, 0x1f, 0x00, ..] => 3,
            [0x0f, 0x1f, 0x40, ..] => 4,
            [0x0f, 0x1f, 0x44, ..] => 5,
            [0x0f, 0x1f, 0x80, ..] => 7,
            [0x0f, 0x1f, 0x84, ..] => 8,
            _ => return false,
        };
        code = operation.get(length..).unwrap_or_default();
    }
    true
}

impl Trap {
    /// Returns what a task that SIGTRAP has stopped is doing at the hook; `None` if it is elsewhere.
    pub(crate) fn reached(&self, tid: Tid) -> Option<Reached> {
        let mut registers = registers(tid).ok()?;
        if registers.rip != self.after {
            return None;
        }
        // An int in the lower half of the word.
        let state = peek_word(tid, self.state).ok()? as i32;
        // As the function would have done: it returns.
        registers.rip = peek_word(tid, registers.rsp).ok()?.cast_unsigned();
        registers.rsp += WORD as u64;
        Some(Reached {
            registers,
            done: state == CONSISTENT,
        })
    }

    /// Takes the trap away.
    pub(crate) fn remove(&self, tid: Tid) -> Result<()> {
        poke(tid, self.function, &self.code)
    }

    /// Makes a task at the hook install a filter, and then run into a trap again.
    pub(crate) fn install(
        &self,
        tid: Tid,
        reached: &Reached,
        program: &[sock_filter],
    ) -> Result<Installing> {
        let length = PROGRAM + size_of_val(program);
        let below = reached.registers.rsp - RED_ZONE - length as u64;
        let address = below & !0xf;
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&(program.len() as u64).to_ne_bytes());
        bytes.extend_from_slice(&(address + PROGRAM as u64).to_ne_bytes());
        for instruction in program {
            bytes.extend_from_slice(&instruction.code.to_ne_bytes());
            bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
            bytes.extend_from_slice(&instruction.k.to_ne_bytes());
        }
        let written = sys::write_memory(tid, address, &bytes)?;
        if written != bytes.len() {
            return Err(Errno::EFAULT);
        }
        let mut code = self.code;
        code[..CALL.len()].copy_from_slice(&CALL);
        poke_word(tid, self.function, &code)?;
        let mut registers = reached.registers;
        registers.rip = self.function;
        registers.rax = Sysno::seccomp as u64;
        registers.rdi = libc::SECCOMP_SET_MODE_FILTER.into();
        registers.rsi = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        registers.rdx = address;
        ptrace::setregs(tracee(tid), registers)?;
        Ok(Installing {
            registers: reached.registers,
        })
    }

    /// Returns the result once the task has run into the trap again; `None` if SIGTRAP has stopped
    /// it elsewhere.
    pub(crate) fn installed(&self, tid: Tid) -> Option<Result<()>> {
        let registers = registers(tid).ok()?;
        let after = self.function + CALL.len() as u64;
        (registers.rip == after).then(|| match registers.rax.cast_signed() {
            0 => Ok(()),
            result => Err(Errno::from_raw(-(result as i32))),
        })
    }
}

impl Reached {
    /// Puts a task behind the call of the hook's function.
    pub(crate) fn pass(&self, tid: Tid) -> Result<()> {
        ptrace::setregs(tracee(tid), self.registers)
    }
}

impl Installing {
    /// Puts a task behind the call of the hook's function.
    pub(crate) fn pass(&self, tid: Tid) -> Result<()> {
        ptrace::setregs(tracee(tid), self.registers)
    }
}

fn tracee(tid: Tid) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(tid.raw())
}

fn registers(tid: Tid) -> Result<user_regs_struct> {
    ptrace::getregs(tracee(tid))
}

fn peek(tid: Tid, address: u64) -> Result<[u8; ROOM]> {
    let mut bytes = [0; ROOM];
    for (word, address) in bytes.chunks_exact_mut(WORD).zip((address..).step_by(WORD)) {
        word.copy_from_slice(&peek_word(tid, address)?.to_ne_bytes());
    }
    Ok(bytes)
}

fn peek_word(tid: Tid, address: u64) -> Result<c_long> {
    ptrace::read(tracee(tid), address as ptrace::AddressType)
}

fn poke(tid: Tid, address: u64, code: &[u8; ROOM]) -> Result<()> {
    let mut words = code.chunks_exact(WORD).zip((address..).step_by(WORD));
    words.try_for_each(|(word, address)| poke_word(tid, address, word))
}

/// Writes the first word of some code.
fn poke_word(tid: Tid, address: u64, code: &[u8]) -> Result<()> {
    let mut word = [0; WORD];
    word.copy_from_slice(&code[..WORD]);
    let word = c_long::from_ne_bytes(word);
    ptrace::write(tracee(tid), address as ptrace::AddressType, word)
}

/// As much of ELF files (elf(5)) as is needed to find a symbol that a library exports.
mod elf {
    pub(super) struct File<'a> {
        bytes: &'a [u8],
    }

    /// SHT_DYNSYM, the type of the section with the exported symbols.
    const DYNAMIC_SYMBOLS: u32 = 11;

    impl<'a> File<'a> {
        /// Takes a file of 64 bits, the lowest byte first.
        pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
            bytes
                .starts_with(b"\x7fELF\x02\x01")
                .then_some(Self { bytes })
        }

        pub(super) fn entry(&self) -> u64 {
            self.word(24).unwrap_or(0)
        }

        /// Returns the address of an exported symbol.
        pub(super) fn symbol(&self, name: &[u8]) -> Option<u64> {
            let sections = self.word(40)?;
            let (size, count) = (self.short(58)?, self.short(60)?);
            let section = |index: u32| sections.checked_add(u64::from(index) * u64::from(size));
            let kind = |section: &u64| self.int(section.checked_add(4)?);
            let symbols = (0..u32::from(count))
                .filter_map(section)
                .find(|section| kind(section) == Some(DYNAMIC_SYMBOLS))?;
            let names = section(self.int(symbols.checked_add(40)?)?)?;
            let names = self.part(names)?;
            self.part(symbols)?.chunks_exact(24).find_map(|symbol| {
                let symbol = Self { bytes: symbol };
                let rest = names.get(symbol.int(0)? as usize..)?.strip_prefix(name)?;
                let defined = symbol.short(6)? != 0;
                (defined && rest.first() == Some(&0)).then(|| symbol.word(8))?
            })
        }

        /// Returns what a section contains.
        fn part(&self, section: u64) -> Option<&'a [u8]> {
            let at = |offset| usize::try_from(self.word(section.checked_add(offset)?)?).ok();
            let (start, length) = (at(24)?, at(32)?);
            self.bytes.get(start..start.checked_add(length)?)
        }

        fn word(&self, at: u64) -> Option<u64> {
            self.array(at).map(u64::from_le_bytes)
        }

        fn int(&self, at: u64) -> Option<u32> {
            self.array(at).map(u32::from_le_bytes)
        }

        fn short(&self, at: u64) -> Option<u16> {
            self.array(at).map(u16::from_le_bytes)
        }

        fn array<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
            let at = usize::try_from(at).ok()?;
            self.bytes.get(at..at.checked_add(N)?)?.try_into().ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, fs, path::Path};

    thread_local! {
        /// Whether traps of this thread are such as where there is no padding.
        pub(crate) static PLAIN: Cell<bool> = const { Cell::new(false) };
    }

    pub(crate) fn tests_plain() -> bool {
        PLAIN.get()
    }

    #[test]
    fn the_loader_of_this_machine_has_a_hook_if_it_is_that_of_glibc() {
        let loader = Path::new("/lib64/ld-linux-x86-64.so.2");
        let Ok(file) = fs::read(loader) else {
            return;
        };
        let hook = Hook::find(&file).expect("glibc's loader has the symbols");
        assert!(hook.function < file.len() as u64);
        assert_ne!(hook.function, hook.state);
        assert_ne!(hook.entry, 0);
    }

    #[test]
    fn padding_is_told_from_code() {
        let long = [0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0];
        let padding: [&[u8]; 9] = [
            &[],
            &[0x90; 7],
            &long,
            &long[..10],
            &long[..4],
            &[0x66, 0x90, 0x0f, 0x1f, 0x40, 0],
            &[0x0f, 0x1f, 0x44, 0, 0, 0x0f, 0x1f, 0],
            &[0x0f, 0x1f, 0x80, 0, 0, 0, 0],
            &[TRAP; 10],
        ];
        for padding in padding {
            assert!(is_padding(padding), "{padding:x?}");
        }
        let code: [&[u8]; 4] = [
            &[0x48, 0x8d, 0x05],
            &[0x90, 0xc3],
            &[0x66, 0xcc],
            &[0x0f, 0x1f, 0x40, 0, 0x0f, 0x05],
        ];
        for code in code {
            assert!(!is_padding(code), "{code:x?}");
        }
    }

    #[test]
    fn what_is_no_loader_has_no_hook_wherever_it_ends() {
        let own = fs::read("/proc/self/exe").expect("it is there");
        assert_eq!(Hook::find(&own), None);
        let Ok(file) = fs::read("/lib64/ld-linux-x86-64.so.2") else {
            return;
        };
        // The table of sections is at the end.
        for length in (0..file.len() - 4096).step_by(97) {
            assert_eq!(Hook::find(&file[..length]), None, "{length}");
        }
        for at in 0..64 {
            let mut wrong = file.clone();
            wrong[at] = 0xff;
            // Whatever it finds, it must not panic.
            let _ = Hook::find(&wrong);
        }
    }
}
