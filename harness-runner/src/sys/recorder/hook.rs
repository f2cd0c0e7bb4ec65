//! The code that records a call, and what is known of it. Position-independent: it is copied into each process.

use super::{
    COMMITTED, FREE, Front, HOOK, NO_RESULT, OF_STATX, REWRITTEN, RING, ROOM, SLOT_BITS, SLOT_SIZE,
    SLOTS, Slot, Stat,
};
use std::{arch::global_asm, mem::offset_of};
use syscalls::Sysno;

// The hook. It is entered by a jump, with the address behind the program's `syscall` on top of the stack, 128
// bytes below which the program's own begins (the red zone of the System V ABI), the call's number in rax, its
// arguments where the kernel expects them, and rcx and r11 free: `syscall` overwrites them. It leaves all
// other registers and the flags as they were, and touches no vector register. It can be interrupted anywhere
// by a handler that uses it too: all that it knows is in registers, on the stack and in its slot.
//
// rbx: the slot   rbp: the path   r12: the ring   r13: the slot's ticket
global_asm!(
    ".pushsection .rodata.cargo_harness_recorder, \"a\"",
    ".balign 16",
    ".globl cargo_harness_recorder_begin",
    ".hidden cargo_harness_recorder_begin",
    ".globl cargo_harness_recorder_end",
    ".hidden cargo_harness_recorder_end",
    ".globl cargo_harness_recorder_faults",
    ".hidden cargo_harness_recorder_faults",
    "cargo_harness_recorder_begin:",
    // Everything that is used is saved. The number is at 80(%rsp) then.
    "  pushfq",
    "  push rax",
    "  push rbx",
    "  push rbp",
    "  push r12",
    "  push r13",
    "  push rdx",
    "  push rsi",
    "  push rdi",
    "  push r8",
    "  push r9",
    "  push r10",
    // If the recorder is switched off, the program makes its call itself.
    "  mov r12d, {ring}",
    "  cmp dword ptr [r12 + {enabled}], 0",
    "  je 90f",
    // Calls from before directories had descriptors have the path first, and numbers below 256.
    "  mov rbp, rdi",
    "  cmp eax, 256",
    "  jb 12f",
    "  mov rbp, rsi",
    "12:",
    // No path is in the first page or in the kernel's half. Such an address is a mistake, of which the kernel
    // is to tell the program.
    "  cmp rbp, 4096",
    "  jb 90f",
    "  mov rcx, rbp",
    "  shr rcx, 47",
    "  jnz 90f",
    // What a relative path starts with would have to be found out as well.
    "20:",
    "  cmp byte ptr [rbp], '/'",
    "21:",
    "  jne 90f",
    // A slot is taken: the next one, if it is free.
    "  mov r13d, 1",
    "  lock xadd qword ptr [r12 + {tickets}], r13",
    "  mov ecx, r13d",
    "  and ecx, {slots} - 1",
    "  shl ecx, {slot_bits}",
    "  lea rbx, [r12 + rcx + {slot_size}]",
    // A ticket is odd, so that it is no other state.
    "  lea r13, [r13 * 4 + 1]",
    "  xor eax, eax",
    "  lock cmpxchg qword ptr [rbx + {state}], r13",
    "  jne 90f",
    "  mov dword ptr [rbx + {tid}], 0",
    "  mov dword ptr [rbx + {flags}], 0",
    "  mov qword ptr [rbx + {file_result}], {no_result}",
    "  mov qword ptr [rbx + {named_result}], {no_result}",
    // The path is copied with its NUL. Its memory may not be there: the tracer leads the fault to 89.
    "  xor ecx, ecx",
    "30:",
    "  mov al, byte ptr [rbp + rcx]",
    "31:",
    "  mov byte ptr [rbx + rcx + {path}], al",
    "  inc ecx",
    "  test al, al",
    "  jz 32f",
    "  cmp ecx, {room}",
    "  jb 30b",
    "  jmp 89f",
    "32:",
    "  mov dword ptr [rbx + {length}], ecx",
    // Below /proc and /dev a path can mean something else to each thread, and may be spelled `//proc` and
    // `/./proc`.
    "  mov eax, dword ptr [rbx + {path} + 1]",
    "  cmp eax, 0x636f7270",
    "  je 89f",
    "  cmp al, '/'",
    "  je 89f",
    "  cmp al, '.'",
    "  je 89f",
    "  and eax, 0xffffff",
    "  cmp eax, 0x766564",
    "  je 89f",
    // The call is written down, at last the thread that makes it.
    "  mov rax, qword ptr [rsp + 80]",
    "  mov qword ptr [rbx + {number}], rax",
    "  mov qword ptr [rbx + {args}], rdi",
    "  mov qword ptr [rbx + {args} + 8], rsi",
    "  mov qword ptr [rbx + {args} + 16], rdx",
    "  mov qword ptr [rbx + {args} + 24], r10",
    "  mov qword ptr [rbx + {args} + 32], r8",
    "  mov qword ptr [rbx + {args} + 40], r9",
    "  mov eax, {gettid}",
    "  syscall",
    "  mov dword ptr [rbx + {tid}], eax",
    // The call itself. If the kernel restarts it after a signal, it does so here.
    "  mov rax, qword ptr [rsp + 80]",
    "  syscall",
    // From here on the result is where the number was.
    "40:",
    "  mov qword ptr [rsp + 80], rax",
    "  mov qword ptr [rbx + {result}], rax",
    // A process can have forbidden itself this instruction (PR_SET_TSC): the tracer leads the fault to 42.
    "41:",
    "  rdtsc",
    "  jmp 43f",
    "42:",
    "  xor eax, eax",
    "  xor edx, edx",
    "43:",
    "  shl rdx, 32",
    "  or rax, rdx",
    "  mov qword ptr [rbx + {time}], rax",
    // The path is compared with what was copied.
    "  xor ecx, ecx",
    "50:",
    "  mov al, byte ptr [rbp + rcx]",
    "51:",
    "  cmp al, byte ptr [rbx + rcx + {path}]",
    "  jne 52f",
    "  inc ecx",
    "  cmp ecx, dword ptr [rbx + {length}]",
    "  jb 50b",
    "  jmp 53f",
    "52:",
    "  mov dword ptr [rbx + {flags}], {rewritten}",
    "53:",
    // After a failure there is no more to know.
    "  mov rax, qword ptr [rsp + 80]",
    "  cmp rax, -4096",
    "  ja 80f",
    "  mov ecx, dword ptr [rbx + {number}]",
    "  mov r10d, dword ptr [rbx + {args} + 16]",
    "  cmp ecx, {openat}",
    "  je 60f",
    "  mov r10d, dword ptr [rbx + {args} + 8]",
    "  cmp ecx, {open}",
    "  je 60f",
    // What a stat has found is in the program's memory.
    "  mov rsi, qword ptr [rbx + {args} + 8]",
    "  cmp ecx, {stat}",
    "  je 62f",
    "  cmp ecx, {lstat}",
    "  je 62f",
    "  mov rsi, qword ptr [rbx + {args} + 16]",
    "  cmp ecx, {newfstatat}",
    "  je 62f",
    "  mov rsi, qword ptr [rbx + {args} + 32]",
    "  cmp ecx, {statx}",
    "  je 64f",
    // Of others, it is asked what the path leads to, a link itself where the call did so.
    "  mov r10d, {nofollow}",
    "  cmp ecx, {readlink}",
    "  je 55f",
    "  cmp ecx, {readlinkat}",
    "  je 55f",
    "  xor r10d, r10d",
    "  cmp ecx, {faccessat2}",
    "  jne 55f",
    "  mov r10d, dword ptr [rbx + {args} + 24]",
    "  and r10d, {nofollow}",
    "55:",
    "  mov edi, {cwd}",
    "  lea rsi, [rbx + {path}]",
    "  lea rdx, [rbx + {file}]",
    "  mov eax, {newfstatat}",
    "  syscall",
    "  mov qword ptr [rbx + {file_result}], rax",
    "  jmp 80f",
    // Of a descriptor, what it is, and what the path leads to. O_NOFOLLOW is 512 times AT_SYMLINK_NOFOLLOW.
    "60:",
    "  shr r10d, 9",
    "  and r10d, {nofollow}",
    "  mov edi, eax",
    "  lea rsi, [rbx + {file}]",
    "  mov eax, {fstat}",
    "  syscall",
    "  mov qword ptr [rbx + {file_result}], rax",
    "  mov edi, {cwd}",
    "  lea rsi, [rbx + {path}]",
    "  lea rdx, [rbx + {named}]",
    "  mov eax, {newfstatat}",
    "  syscall",
    "  mov qword ptr [rbx + {named_result}], rax",
    "  jmp 80f",
    // `struct stat`: device, inode, mode. Its memory may be gone by now: then this stays unknown.
    "62:",
    "  mov rdx, qword ptr [rsi]",
    "  mov rdi, qword ptr [rsi + 8]",
    "  mov ecx, dword ptr [rsi + 24]",
    "63:",
    "  mov qword ptr [rbx + {file} + {device}], rdx",
    "  mov qword ptr [rbx + {file} + {inode}], rdi",
    "  mov dword ptr [rbx + {file} + {mode}], ecx",
    "  mov qword ptr [rbx + {file_result}], 0",
    "  jmp 80f",
    // `struct statx`: mode, inode, device, if the mask says that the first two were filled in.
    "64:",
    "  mov eax, dword ptr [rsi]",
    "  movzx ecx, word ptr [rsi + 28]",
    "  mov rdi, qword ptr [rsi + 32]",
    "  mov rdx, qword ptr [rsi + 136]",
    "65:",
    "  and eax, 0x101",
    "  cmp eax, 0x101",
    "  jne 80f",
    "  mov dword ptr [rbx + {file} + {mode}], ecx",
    "  mov qword ptr [rbx + {file} + {inode}], rdi",
    "  mov qword ptr [rbx + {file} + {major}], rdx",
    "  or dword ptr [rbx + {flags}], {of_statx}",
    "  mov qword ptr [rbx + {file_result}], 0",
    // The record is complete, unless the tracer has given the slot away.
    "80:",
    "  mov eax, 1",
    "  lock xadd qword ptr [r12 + {committed}], rax",
    "  mov qword ptr [rbx + {position}], rax",
    "  mov rax, r13",
    "  mov ecx, {is_committed}",
    "  lock cmpxchg qword ptr [rbx + {state}], rcx",
    // Back behind the program's `syscall`, which leaves that address in rcx too.
    "  pop r10",
    "  pop r9",
    "  pop r8",
    "  pop rdi",
    "  pop rsi",
    "  pop rdx",
    "  pop r13",
    "  pop r12",
    "  pop rbp",
    "  pop rbx",
    "  pop rax",
    "  popfq",
    "  pop rcx",
    "  lea rsp, [rsp + 128]",
    "  jmp rcx",
    // The slot is given back.
    "89:",
    "  mov qword ptr [rbx + {state}], {is_free}",
    // Back to the program's own `syscall`, two bytes before.
    "90:",
    "  pop r10",
    "  pop r9",
    "  pop r8",
    "  pop rdi",
    "  pop rsi",
    "  pop rdx",
    "  pop r13",
    "  pop r12",
    "  pop rbp",
    "  pop rbx",
    "  pop rax",
    "  popfq",
    "  pop rcx",
    "  lea rcx, [rcx - 2]",
    "  lea rsp, [rsp + 128]",
    "  jmp rcx",
    "cargo_harness_recorder_end:",
    // Where memory of the program is touched, and where to go on if it is not there: from, to, then.
    ".balign 4",
    "cargo_harness_recorder_faults:",
    "  .long 20b - cargo_harness_recorder_begin, 21b - cargo_harness_recorder_begin, 90b - cargo_harness_recorder_begin",
    "  .long 30b - cargo_harness_recorder_begin, 31b - cargo_harness_recorder_begin, 89b - cargo_harness_recorder_begin",
    "  .long 41b - cargo_harness_recorder_begin, 42b - cargo_harness_recorder_begin, 42b - cargo_harness_recorder_begin",
    "  .long 50b - cargo_harness_recorder_begin, 51b - cargo_harness_recorder_begin, 52b - cargo_harness_recorder_begin",
    "  .long 62b - cargo_harness_recorder_begin, 63b - cargo_harness_recorder_begin, 80b - cargo_harness_recorder_begin",
    "  .long 64b - cargo_harness_recorder_begin, 65b - cargo_harness_recorder_begin, 80b - cargo_harness_recorder_begin",
    // Behind the call itself.
    "  .long 40b - cargo_harness_recorder_begin",
    ".popsection",
    ring = const RING,
    slots = const SLOTS,
    slot_size = const SLOT_SIZE,
    slot_bits = const SLOT_BITS,
    room = const ROOM,
    is_free = const FREE,
    is_committed = const COMMITTED,
    no_result = const NO_RESULT,
    rewritten = const REWRITTEN,
    of_statx = const OF_STATX,
    enabled = const offset_of!(Front, enabled),
    tickets = const offset_of!(Front, tickets),
    committed = const offset_of!(Front, committed),
    state = const offset_of!(Slot, state),
    tid = const offset_of!(Slot, tid),
    flags = const offset_of!(Slot, flags),
    number = const offset_of!(Slot, number),
    args = const offset_of!(Slot, args),
    result = const offset_of!(Slot, result),
    time = const offset_of!(Slot, time),
    position = const offset_of!(Slot, position),
    length = const offset_of!(Slot, length),
    file_result = const offset_of!(Slot, file_result),
    file = const offset_of!(Slot, file),
    named_result = const offset_of!(Slot, named_result),
    named = const offset_of!(Slot, named),
    path = const offset_of!(Slot, path),
    device = const offset_of!(Stat, device),
    inode = const offset_of!(Stat, inode),
    mode = const offset_of!(Stat, mode),
    major = const offset_of!(Stat, major),
    cwd = const libc::AT_FDCWD,
    nofollow = const libc::AT_SYMLINK_NOFOLLOW,
    gettid = const libc::SYS_gettid,
    open = const libc::SYS_open,
    openat = const libc::SYS_openat,
    stat = const libc::SYS_stat,
    lstat = const libc::SYS_lstat,
    fstat = const libc::SYS_fstat,
    newfstatat = const libc::SYS_newfstatat,
    statx = const libc::SYS_statx,
    readlink = const libc::SYS_readlink,
    readlinkat = const libc::SYS_readlinkat,
    faccessat2 = const libc::SYS_faccessat2,
);

/// The number of places at which the hook touches memory of the program.
pub(super) const FAULTS: usize = 6;

unsafe extern "C" {
    static cargo_harness_recorder_begin: u8;
    static cargo_harness_recorder_end: u8;
    static cargo_harness_recorder_faults: [u32; 3 * FAULTS + 1];
}

/// The calls that the hook records.
pub(crate) const RECORDED: &[Sysno] = &[
    Sysno::open,
    Sysno::stat,
    Sysno::lstat,
    Sysno::access,
    Sysno::readlink,
    Sysno::openat,
    Sysno::newfstatat,
    Sysno::readlinkat,
    Sysno::faccessat,
    Sysno::statx,
    Sysno::faccessat2,
];

/// Returns the hook's code.
pub(super) fn code() -> &'static [u8] {
    let begin = &raw const cargo_harness_recorder_begin;
    let end = &raw const cargo_harness_recorder_end;
    let length = end.addr() - begin.addr();
    // SAFETY: the assembler puts both labels into one section, the second one behind what is between them,
    // which is never written to.
    unsafe { std::slice::from_raw_parts(begin, length) }
}

pub(super) fn faults() -> &'static [u32; 3 * FAULTS + 1] {
    // SAFETY: the assembler has put as many numbers there, and they are never written to.
    unsafe { &cargo_harness_recorder_faults }
}

/// Returns the address behind the instruction that makes the recorded call.
pub(crate) fn behind_call() -> u64 {
    HOOK + u64::from(faults()[3 * FAULTS])
}

/// Returns where a thread goes on that has faulted at an address of the hook; `None` if it is not one at which
/// it touches memory of the program.
pub(super) fn after_fault(address: u64) -> Option<u64> {
    let offset = u32::try_from(address.checked_sub(HOOK)?).ok()?;
    let mut places = faults().chunks_exact(3);
    let place = places.find(|place| (place[0]..place[1]).contains(&offset))?;
    Some(HOOK + u64::from(place[2]))
}
