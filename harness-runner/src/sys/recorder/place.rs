//! Places in a program that make one call, and how they come to lead to the hook.

use super::{HOOK, HOOK_SIZE, RING, Ring, hook};
use crate::sys::{
    Tid,
    arch::{self, PAGE},
    read_memory,
};
use libc::user_regs_struct;
use nix::{errno::Errno, sys::ptrace};
use std::{fs::File, os::unix::fs::FileExt};
use syscalls::Sysno;

/// The instruction `mov $number, %eax`, without its number.
pub(super) const MOVE: u8 = 0xb8;
/// The instruction `syscall`.
pub(super) const CALL: [u8; 2] = [0x0f, 0x05];
/// The instructions that move a number to %edx, %esi and %edi, as the last ones in front of a call.
const OTHER_MOVES: [u8; 3] = [0xba, 0xbe, 0xbf];
/// The length of each, and of a jump.
const JUMP: u64 = 5;
/// The bytes below the stack pointer that are still in use.
const RED_ZONE: u64 = 128;
/// The length of what a place is led to.
const STEP: usize = 64;

/// A place in a program that makes one call.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The address behind its `syscall`.
    pub(super) behind: u64,
    number: u32,
    /// The instruction in front of its `syscall`.
    moves: [u8; JUMP as usize],
}

impl Place {
    /// Returns the place that has made a call, by the address behind its `syscall`; `None` if what is in front of it
    /// is not what can be replaced.
    pub(crate) fn of(tid: Tid, behind: u64, number: u64) -> Option<Self> {
        let mut code = [0; JUMP as usize + CALL.len()];
        let start = behind.checked_sub(code.len() as u64)?;
        let read = read_memory(tid, start, &mut code).ok()?;
        let [instruction, a, b, c, d, call @ ..] = code;
        let number = u32::try_from(number).ok()?;
        let can_be = match instruction {
            MOVE => u32::from_le_bytes([a, b, c, d]) == number,
            other => OTHER_MOVES.contains(&other),
        };
        let is_place = read == code.len() && call == CALL && can_be;
        is_place.then_some(Self {
            behind,
            number,
            moves: [instruction, a, b, c, d],
        })
    }

    fn start(&self) -> u64 {
        self.behind - CALL.len() as u64 - JUMP
    }

    /// Returns an address for a page that can be reached from here.
    pub(crate) fn hint(&self) -> u64 {
        const DISTANCE: u64 = 64 << 20;
        match self.behind {
            // Below, there may be nothing, or the program.
            ..HOOK => HOOK + (1 << 20),
            behind => (behind - DISTANCE) & !(PAGE - 1),
        }
    }

    /// Returns whether a jump reaches a page from here.
    pub(crate) fn reaches(&self, page: u64) -> bool {
        let reaches = |end: u64| {
            let distance = end.wrapping_sub(self.behind).cast_signed();
            i32::try_from(distance).is_ok()
        };
        reaches(page) && reaches(page + PAGE)
    }

    /// Leads the program from here to the hook, over a free part of this page. Returns whether there was one.
    /// No thread that shares the memory may be running.
    ///
    /// # Errors
    ///
    /// When memory cannot be read or written.
    pub(crate) fn lead(&self, tid: Tid, memory: &File, page: u64) -> Result<bool, Errno> {
        let mut used = vec![0; PAGE as usize];
        if read_memory(tid, page, &mut used)? != used.len() {
            return Err(Errno::EFAULT);
        }
        let free = used.chunks_exact(STEP).position(|step| step[0] == 0);
        let Some(free) = free else {
            return Ok(false);
        };
        let step = page + (free * STEP) as u64;
        write_code(memory, step, &self.step())?;
        let distance = step.wrapping_sub(self.start() + JUMP).cast_signed();
        let distance = i32::try_from(distance).map_err(|_| Errno::ERANGE)?;
        let [a, b, c, d] = distance.to_le_bytes();
        write_code(memory, self.start(), &[0xe9, a, b, c, d])?;
        Ok(true)
    }

    /// Returns the way to the hook. The number of the call may have been chosen before the replaced instruction: if it is
    /// another one, the program makes that call itself. No flag is touched.
    fn step(&self) -> [u8; STEP] {
        const BEHIND: usize = STEP - 8;
        let hook = (HOOK as u32).to_le_bytes();
        let to_behind = (BEHIND as u32 - 11).to_le_bytes();
        let less = self.number.wrapping_neg().to_le_bytes();
        let parts: [&[u8]; 13] = [
            // lea -128(%rsp), %rsp
            &[0x48, 0x8d, 0x64, 0x24, 0x80],
            // push behind(%rip)
            &[0xff, 0x35],
            &to_behind,
            &self.moves,
            // lea -number(%rax), %ecx
            &[0x8d, 0x88],
            &less,
            // jecxz to behind the next four
            &[0x67, 0xe3, 15],
            // pop %rcx; lea -2(%rcx), %rcx
            &[0x59, 0x48, 0x8d, 0x49, 0xfe],
            // lea 128(%rsp), %rsp
            &[0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0],
            // jmp *%rcx
            &[0xff, 0xe1],
            // mov $HOOK, %ecx
            &[0xb9],
            &hook,
            // jmp *%rcx
            &[0xff, 0xe1],
        ];
        let mut step = [0xcc; STEP];
        let mut length = 0;
        for part in parts {
            step[length..length + part.len()].copy_from_slice(part);
            length += part.len();
        }
        step[BEHIND..].copy_from_slice(&self.behind.to_le_bytes());
        step
    }
}

/// Writes code to a process's memory.
pub(super) fn write_code(memory: &File, address: u64, code: &[u8]) -> Result<(), Errno> {
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    memory.write_all_at(code, address).map_err(errno)
}

/// A stopped thread that is made to map what the hook needs, call after call, and then to go on with the call that
/// it was about to make.
#[derive(Debug)]
pub(crate) struct Injection {
    /// The thread's registers in front of its own call.
    registers: user_regs_struct,
    place: Place,
    /// The next of the calls.
    step: Step,
}

/// A call that a thread is made to make.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Step {
    /// The ring is attached.
    #[default]
    Ring,
    /// Memory for the hook's code is mapped.
    Hook,
    /// A page near the place is mapped.
    Page,
}

/// The step after an injected call.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Injected {
    /// The thread is to make the next one.
    More(Step),
    /// All is there: this page leads to the hook.
    Whole(u64),
    /// It was refused.
    Refused,
}

impl Injection {
    /// Has a thread make the first of the missing calls, instead of the one in front of which its filter has
    /// stopped it.
    pub(crate) fn begin(tid: Tid, place: Place, step: Step, ring: &Ring) -> Result<Self, Errno> {
        let mut now = ptrace::getregs(tracee(tid))?;
        let mut registers = now;
        arch::rewind(&mut registers);
        let injection = Self {
            registers,
            place,
            step,
        };
        let (number, args) = injection.call(ring);
        now.orig_rax = number as u64;
        set_arguments(&mut now, args);
        ptrace::setregs(tracee(tid), now)?;
        Ok(injection)
    }

    /// The call has returned: the thread is to make the next one, or its own.
    pub(crate) fn returned(
        &mut self,
        tid: Tid,
        result: i64,
        ring: &Ring,
        memory: Option<&File>,
    ) -> Injected {
        let result = result.cast_unsigned();
        let next = match self.step {
            Step::Ring if result == RING => Step::Hook,
            Step::Hook if result == HOOK => {
                let written = memory.map(|memory| write_code(memory, HOOK, hook::code()));
                match written {
                    Some(Ok(())) => Step::Page,
                    _ => return Injected::Refused,
                }
            }
            Step::Page if self.place.reaches(result) => return Injected::Whole(result),
            Step::Ring | Step::Hook | Step::Page => return Injected::Refused,
        };
        self.step = next;
        let mut registers = self.registers;
        let (number, args) = self.call(ring);
        registers.rax = number as u64;
        set_arguments(&mut registers, args);
        match ptrace::setregs(tracee(tid), registers) {
            Ok(()) => Injected::More(next),
            Err(_) => Injected::Refused,
        }
    }

    /// Puts the thread in front of its own call.
    pub(crate) fn restore(&self, tid: Tid) {
        // If it is gone, its end will be reported.
        let _ = ptrace::setregs(tracee(tid), self.registers);
    }

    /// Returns the place for which it was begun.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    fn call(&self, ring: &Ring) -> (Sysno, [u64; 6]) {
        const RIGHTS: u64 = (libc::PROT_READ | libc::PROT_EXEC) as u64;
        const OWN: u64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        const THERE: u64 = libc::MAP_FIXED_NOREPLACE as u64;
        match self.step {
            Step::Ring => (Sysno::shmat, [ring.id as u64, RING, 0, 0, 0, 0]),
            Step::Hook => (
                Sysno::mmap,
                [HOOK, HOOK_SIZE, RIGHTS, OWN | THERE, u64::MAX, 0],
            ),
            Step::Page => (
                Sysno::mmap,
                [self.place.hint(), PAGE, RIGHTS, OWN, u64::MAX, 0],
            ),
        }
    }
}

fn set_arguments(registers: &mut user_regs_struct, args: [u64; 6]) {
    [
        registers.rdi,
        registers.rsi,
        registers.rdx,
        registers.r10,
        registers.r8,
        registers.r9,
    ] = args;
}

/// Leads a thread on that has faulted at the hook. Returns whether it has.
pub(crate) fn lead_on(tid: Tid) -> bool {
    let lead = || {
        let mut registers = ptrace::getregs(tracee(tid)).ok()?;
        registers.rip = hook::after_fault(registers.rip)?;
        ptrace::setregs(tracee(tid), registers).ok()
    };
    lead().is_some()
}

/// Has a thread that its filter has stopped, at a place that leads to the hook over this page, go there once more
/// instead of making its call. Returns whether it does.
pub(crate) fn lead_again(tid: Tid, page: u64) -> bool {
    let lead = || {
        let mut registers = ptrace::getregs(tracee(tid)).ok()?;
        let behind = registers.rip;
        arch::rewind(&mut registers);
        registers.rip = registers.rip.checked_sub(JUMP)?;
        let mut code = [0; JUMP as usize];
        let read = read_memory(tid, registers.rip, &mut code).ok()?;
        let [0xe9, a, b, c, d] = code else {
            return None;
        };
        let distance = i64::from(i32::from_le_bytes([a, b, c, d]));
        let to = (behind - CALL.len() as u64).wrapping_add_signed(distance);
        if read != code.len() || !(page..page + PAGE).contains(&to) {
            return None;
        }
        ptrace::setregs(tracee(tid), registers).ok()
    };
    lead().is_some()
}

/// Puts a thread that a signal has stopped right behind the recorded call to where it would be if its program had made
/// the call. Returns what the call has returned; `None` if the thread is elsewhere.
pub(crate) fn lead_back(tid: Tid) -> Option<i64> {
    let mut registers = ptrace::getregs(tracee(tid)).ok()?;
    if registers.rip != hook::behind_call() {
        return None;
    }
    // What the hook has pushed, the last first: r10, r9, r8, rdi, rsi, rdx, r13, r12, rbp, rbx, the number, the flags,
    // and the address behind the program's `syscall`, 128 bytes below which its stack ends.
    let mut frame = [0; 13 * 8];
    if read_memory(tid, registers.rsp, &mut frame) != Ok(frame.len()) {
        return None;
    }
    let word = |index: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&frame[8 * index..][..8]);
        u64::from_ne_bytes(word)
    };
    registers.r13 = word(6);
    registers.r12 = word(7);
    registers.rbp = word(8);
    registers.rbx = word(9);
    registers.eflags = word(11);
    registers.rip = word(12);
    registers.rcx = word(12);
    registers.rsp += frame.len() as u64 + RED_ZONE;
    ptrace::setregs(tracee(tid), registers).ok()?;
    Some(registers.rax.cast_signed())
}

/// Returns the address behind the instruction by which a stopped thread makes a call.
pub(crate) fn instruction(tid: Tid) -> Option<u64> {
    Some(ptrace::getregs(tracee(tid)).ok()?.rip)
}

fn tracee(tid: Tid) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(tid.raw())
}
