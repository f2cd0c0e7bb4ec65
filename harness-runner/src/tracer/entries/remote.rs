//! Makes a process map what records its entries, while it stands behind its execution.
//!
//! It has one thread then, and none of its code has run. Two instructions are put where it is about to go on, and make
//! the first two calls; from then on those in the page that has been mapped do. All is as it was afterwards, but for
//! the mappings. Signals that come meanwhile are sent again.

use super::{
    Failure, Recorded,
    encoding::{GADGET, SYSCALL},
};
use crate::{
    proc,
    sys::{self, End, RawSignal, Stop, Tgid, Tid, Waited},
};
use libc::{c_int, user_regs_struct};
use nix::sys::ptrace;
use syscalls::Sysno;

/// The instruction `int3`.
const TRAP: u8 = 0xcc;

/// The size of a page.
const PAGE: u64 = 4096;

/// The bytes below the stack pointer that are left alone.
const BELOW: u64 = 256;

/// `AT_ENTRY` of the auxiliary vector: the program's first instruction.
const AT_ENTRY: u64 = 9;

/// Gives a process the copy of its text.
pub(super) fn record(process: Tgid, recorded: &Recorded, file: &str) -> Result<(), Failure> {
    let shape = &recorded.shape;
    let entry = entry(process).ok_or_else(|| refused("its entry is not known"))?;
    let base = entry.wrapping_sub(shape.entry);
    let text = base.wrapping_add(shape.text);
    if !base.is_multiple_of(PAGE) || text < shape.below + shape.bitmap {
        return Err(refused("it is not loaded as expected"));
    }
    let mut calls = Calls::begin(process.leader())?;
    let code = text - shape.below;
    let done = calls.map(recorded, file, code, text);
    // Whatever happened, it goes on where it was.
    calls.end()?;
    done
}

fn refused(reason: &str) -> Failure {
    Failure::Refused(reason.to_owned())
}

fn failed(what: &str) -> impl Fn(nix::errno::Errno) -> Failure {
    let what = what.to_owned();
    move |errno| match errno {
        nix::errno::Errno::ESRCH => Failure::Gone,
        errno => Failure::Refused(format!("{what}: {errno}")),
    }
}

/// Returns the address of a process's first own instruction.
fn entry(process: Tgid) -> Option<u64> {
    let vector = proc::read(&proc::path(process, "auxv")).ok()?;
    let mut pairs = vector.chunks_exact(16);
    let word = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_ne_bytes);
    let found = pairs.find(|pair| word(&pair[..8]) == Some(AT_ENTRY))?;
    word(&found[8..])
}

/// System calls that a stopped task is made to do.
struct Calls {
    tid: Tid,
    before: user_regs_struct,
    /// The signals that it blocks.
    mask: u64,
    /// The address of the instructions.
    gadget: u64,
    /// The word that was there.
    word: Option<i64>,
    /// Signals that came meanwhile.
    signals: Vec<c_int>,
}

impl Calls {
    fn begin(tid: Tid) -> Result<Self, Failure> {
        let before = ptrace::getregs(nix_pid(tid)).map_err(failed("its registers"))?;
        let mask = sys::signal_mask(tid).map_err(failed("its signals"))?;
        let mut calls = Self {
            tid,
            before,
            mask,
            gadget: before.rip + 1,
            word: None,
            signals: Vec::new(),
        };
        // All but the one by which it stops.
        let trap = 1_u64 << (libc::SIGTRAP - 1);
        sys::set_signal_mask(tid, !trap).map_err(failed("its signals"))?;
        let place = before.rip as ptrace::AddressType;
        let word = ptrace::read(nix_pid(tid), place).map_err(failed("its code"))?;
        let mut bytes = word.to_ne_bytes();
        bytes[0] = TRAP;
        bytes[1..=SYSCALL.len()].copy_from_slice(&SYSCALL);
        let there = i64::from_ne_bytes(bytes);
        ptrace::write(nix_pid(tid), place, there).map_err(failed("its code"))?;
        calls.word = Some(word);
        // It is still within its execve, whose result would take the place of a call's number.
        let trapped = ptrace::cont(nix_pid(tid), None)
            .map_err(failed("to let it go on"))
            .and_then(|()| calls.wait())
            .and_then(|()| ptrace::getregs(nix_pid(tid)).map_err(failed("its registers")));
        match trapped {
            Ok(registers) if registers.rip == before.rip + 1 => {
                calls.before = registers;
                calls.before.rip = before.rip;
                Ok(calls)
            }
            Ok(_) => {
                calls.end()?;
                Err(refused("it did not go on where it began"))
            }
            Err(failure) => {
                calls.end()?;
                Err(failure)
            }
        }
    }

    fn map(
        &mut self,
        recorded: &Recorded,
        file: &str,
        code: u64,
        text: u64,
    ) -> Result<(), Failure> {
        let shape = &recorded.shape;
        let read = libc::PROT_READ as u64;
        let (write, run) = (libc::PROT_WRITE as u64, libc::PROT_EXEC as u64);
        let (private, shared) = (libc::MAP_PRIVATE as u64, libc::MAP_SHARED as u64);
        let (fixed, free) = (libc::MAP_FIXED as u64, libc::MAP_FIXED_NOREPLACE as u64);
        let copy = self.open(recorded.copy.as_str(), libc::O_RDONLY)?;
        let length = PAGE + shape.length;
        let mapped = self.call(
            Sysno::mmap,
            [code, length, read | run, private | free, copy, 0],
        );
        let mapped = mapped.and_then(|at| place("the copy of its text", at, code));
        if let Err(failure) = mapped {
            let _ = self.call(Sysno::close, [copy, 0, 0, 0, 0, 0]);
            return Err(failure);
        }
        self.restore()?;
        self.gadget = code + GADGET;
        let bits = self.open(file, libc::O_RDWR)?;
        let at = code - shape.bitmap;
        let mapped = self.call(
            Sysno::mmap,
            [at, shape.bitmap, read | write, shared | free, bits, 0],
        );
        self.call(Sysno::close, [bits, 0, 0, 0, 0, 0])?;
        mapped.and_then(|there| place("the record of its entries", there, at))?;
        let all = read | write | run;
        let mapped = self.call(
            Sysno::mmap,
            [text, shape.length, all, private | fixed, copy, length],
        );
        self.call(Sysno::close, [copy, 0, 0, 0, 0, 0])?;
        mapped.and_then(|there| place("its text, writable and executable", there, text))
    }

    fn open(&mut self, path: &str, how: c_int) -> Result<u64, Failure> {
        let mut bytes = path.as_bytes().to_vec();
        bytes.push(0);
        let below = self.before.rsp - BELOW - bytes.len() as u64;
        let written = sys::write_memory(self.tid, below, &bytes).map_err(failed("its stack"))?;
        if written != bytes.len() {
            return Err(refused("its stack has no room"));
        }
        let here = i64::from(libc::AT_FDCWD).cast_unsigned();
        let how = u64::from((how | libc::O_CLOEXEC).cast_unsigned());
        let opened = self.call(Sysno::openat, [here, below, how, 0, 0, 0])?;
        match errno_of(opened) {
            Some(errno) => Err(Failure::Refused(format!(
                "it cannot open `{path}`: {errno}"
            ))),
            None => Ok(opened),
        }
    }

    /// Has it do a call, and returns the result.
    fn call(&mut self, call: Sysno, args: [u64; 6]) -> Result<u64, Failure> {
        let mut registers = self.before;
        registers.rip = self.gadget;
        registers.rax = call as u64;
        // Not in a call, so that the kernel does not make another one again.
        registers.orig_rax = u64::MAX;
        let [rdi, rsi, rdx, r10, r8, r9] = args;
        (registers.rdi, registers.rsi, registers.rdx) = (rdi, rsi, rdx);
        (registers.r10, registers.r8, registers.r9) = (r10, r8, r9);
        let pid = nix_pid(self.tid);
        ptrace::setregs(pid, registers).map_err(failed("its registers"))?;
        ptrace::cont(pid, None).map_err(failed("to let it go on"))?;
        self.wait()?;
        let after = ptrace::getregs(pid).map_err(failed("its registers"))?;
        if after.rip != self.gadget + SYSCALL.len() as u64 {
            return Err(refused("it did not do a system call"));
        }
        Ok(after.rax)
    }

    /// Waits until it has run into the trap behind its call.
    fn wait(&mut self) -> Result<(), Failure> {
        loop {
            if !sys::stops_again(self.tid) {
                return Err(Failure::Gone);
            }
            let Some((Waited::Stopped(stopped), _)) = sys::news_of(self.tid.led()) else {
                return Err(Failure::Gone);
            };
            match stopped.at() {
                Stop::Signal(libc::SIGTRAP) => {
                    stopped.over();
                    return Ok(());
                }
                // The call, or an instruction of ours, is refused by killing who makes it.
                Stop::Signal(libc::SIGSEGV | libc::SIGILL | libc::SIGBUS | libc::SIGSYS) => {
                    stopped.over();
                    return Err(refused("it is not allowed a call that is needed"));
                }
                Stop::Signal(signal) | Stop::Group(signal) => {
                    self.signals.push(signal);
                    stopped
                        .end(End::Resume(None))
                        .map_err(failed("to let it go on"))?;
                }
                _ => stopped
                    .end(End::Resume(None::<RawSignal>))
                    .map_err(failed("to let it go on"))?,
            }
        }
    }

    fn restore(&mut self) -> Result<(), Failure> {
        let Some(word) = self.word.take() else {
            return Ok(());
        };
        let place = self.before.rip as ptrace::AddressType;
        ptrace::write(nix_pid(self.tid), place, word).map_err(failed("its code"))
    }

    fn end(mut self) -> Result<(), Failure> {
        self.restore()?;
        ptrace::setregs(nix_pid(self.tid), self.before).map_err(failed("its registers"))?;
        sys::set_signal_mask(self.tid, self.mask).map_err(failed("its signals"))?;
        for signal in &self.signals {
            let _ = sys::send_to_thread(self.tid, *signal);
        }
        Ok(())
    }
}

fn nix_pid(tid: Tid) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(tid.raw())
}

fn errno_of(result: u64) -> Option<nix::errno::Errno> {
    let result = result.cast_signed();
    (-4095..0)
        .contains(&result)
        .then(|| nix::errno::Errno::from_raw(-result as c_int))
}

/// Checks that a mapping is where it has to be.
fn place(what: &str, at: u64, wanted: u64) -> Result<(), Failure> {
    match errno_of(at) {
        Some(errno) => Err(Failure::Refused(format!("it cannot map {what}: {errno}"))),
        None if at == wanted => Ok(()),
        None => Err(Failure::Refused(format!("{what} is elsewhere"))),
    }
}
