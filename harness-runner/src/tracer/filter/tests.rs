use super::*;
use crate::tracer::decode::{
    Entry, Syscall,
    tests::{Fake, entry_of},
};
use proptest::prelude::*;

const FOREIGN: u32 = if cfg!(target_arch = "x86_64") {
    0x4000_0003 // AUDIT_ARCH_I386
} else {
    0x4000_0028 // AUDIT_ARCH_ARM
};

/// Interprets a filter as the kernel does (net/core/filter.c), for the instructions that seccomp(2)
/// allows and we use: returns the verdict and the number of instructions.
fn run(program: &[sock_filter], call: &Syscall) -> (u32, usize) {
    run_at(program, call, 0x7f00_0000_1234)
}

/// As [`run`], with the call's instruction at an address.
fn run_at(program: &[sock_filter], call: &Syscall, address: u64) -> (u32, usize) {
    let mut data = Vec::new();
    data.extend((call.number as u32).to_ne_bytes());
    data.extend(call.arch.to_ne_bytes());
    data.extend(address.to_ne_bytes());
    for argument in call.args {
        data.extend(argument.to_ne_bytes());
    }
    let mut accumulator = 0;
    let mut at = 0;
    for steps in 1..=program.len() {
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        let condition = match u32::from(code) {
            0x20 => {
                let word = data[k as usize..][..4].try_into().expect("4 bytes");
                accumulator = u32::from_ne_bytes(word);
                continue;
            }
            0x06 => return (k, steps),
            0x05 => {
                at += k as usize;
                continue;
            }
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            0x45 => accumulator & k != 0,
            code => panic!("unknown instruction {code:#x}"),
        };
        at += usize::from(if condition { jt } else { jf });
    }
    panic!("does not end");
}

fn stops(program: &[sock_filter], call: &Syscall) -> bool {
    match run(program, call).0 {
        libc::SECCOMP_RET_ALLOW => false,
        libc::SECCOMP_RET_TRACE => true,
        verdict => panic!("verdict {verdict:#x}"),
    }
}

fn native(number: u32, args: [u64; 6]) -> Syscall {
    Syscall {
        arch: NATIVE_ARCHITECTURE,
        number: number.into(),
        args,
    }
}

/// The plain table: is this call of interest?
fn expected(level: TraceLevel, call: &Syscall) -> bool {
    if call.arch != NATIVE_ARCHITECTURE || X32_BIT.is_some_and(|bit| call.number as u32 >= bit) {
        return true;
    }
    let Some(number) = Sysno::new(call.number as usize) else {
        return true;
    };
    if decode::watched(number, level).is_none() {
        return false;
    }
    let args = call.args;
    let int = |index: usize| args[index] as u32;
    match number.name() {
        "newfstatat" | "fstatat" => int(3) & 0x1000 == 0 || int(0) == 0xffff_ff9c,
        "statx" => int(2) & 0x1000 == 0 || int(0) == 0xffff_ff9c,
        "socket" => {
            let kind = int(1) & 0xf;
            int(0) != 1 && (![2, 10, 40].contains(&int(0)) || kind & 3 == 3 || kind >= 8)
        }
        "ioctl" => int(1) >> 8 != 0x54,
        "clone" => int(0) & (0x0080_0000 | 0x0002_0000 | 0x4000_0000) != 0,
        "unshare" => int(0) & (0x0002_0000 | 0x4000_0000) != 0,
        "prctl" => int(0) == 22 || (int(0) == 4 && int(1) != 1),
        "seccomp" => int(0) <= 1,
        "ptrace" => [0, 16, 0x4206].contains(&int(0)),
        "shmget" | "semget" | "msgget" => int(0) != 0,
        "sendto" => args[4] != 0 || (17..=512).contains(&args[2]),
        _ => true,
    }
}

/// Numbers that some check may turn on, and neighbours of them.
const INTERESTING: [u64; 30] = [
    0,
    1,
    2,
    3,
    4,
    15,
    16,
    17,
    22,
    512,
    513,
    10,
    40,
    0x5400,
    0x5500,
    0x8_0003,
    0xffff_ff9c,
    0x100,
    0x1000,
    0x1100,
    0x4206,
    0x0080_0000,
    0x0002_0000,
    0x4000_0000,
    0x003d_0f00,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0011,
    0xffff_ffff_0000_1000,
    u64::MAX,
];

#[test]
fn p40_p45_every_number_is_answered_as_a_plain_table_says() {
    for level in [TraceLevel::Io, TraceLevel::Full] {
        let program = program(level, Action::Trace);
        assert!(program.len() < 4096);
        for number in (0..=1000).chain([0x3fff_ffff, 0x4000_0000, 0x4000_0101, u32::MAX]) {
            for arch in [NATIVE_ARCHITECTURE, FOREIGN] {
                let known = Sysno::new(number as usize);
                let either = match known {
                    Some(call) => decode::is_rare(call),
                    None => number < Sysno::last().id() as u32,
                };
                if either && arch == NATIVE_ARCHITECTURE {
                    continue;
                }
                let check = |args| {
                    let call = Syscall {
                        arch,
                        number: number.into(),
                        args,
                    };
                    assert_eq!(
                        stops(&program, &call),
                        expected(level, &call),
                        "{level:?} {call:x?}"
                    );
                };
                check([0; 6]);
                for value in INTERESTING {
                    check([value; 6]);
                    for argument in 0..6 {
                        let mut args = [0; 6];
                        args[argument] = value;
                        check(args);
                        // The second argument of prctl, with its first as it has to be.
                        if argument > 0 {
                            args[0] = 4;
                            check(args);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_calls_that_every_program_makes_all_the_time_are_never_stopped() {
    let program = program(TraceLevel::Full, Action::Trace);
    for number in [
        Sysno::read,
        Sysno::write,
        Sysno::close,
        Sysno::mmap,
        Sysno::munmap,
        Sysno::brk,
        Sysno::futex,
        Sysno::fstat,
        Sysno::fcntl,
        Sysno::lseek,
        Sysno::clock_gettime,
        Sysno::clock_nanosleep,
        Sysno::rt_sigaction,
        Sysno::recvfrom,
        Sysno::wait4,
        Sysno::exit_group,
        Sysno::restart_syscall,
    ] {
        assert!(
            !stops(&program, &native(number.id() as u32, [u64::MAX; 6])),
            "{number}"
        );
    }
}

#[test]
fn look_ups_stop_at_the_level_full_only() {
    let (io, full) = (
        program(TraceLevel::Io, Action::Trace),
        program(TraceLevel::Full, Action::Trace),
    );
    for (number, at_io) in [
        (Sysno::openat, true),
        (Sysno::execve, true),
        (Sysno::connect, true),
        (Sysno::unlinkat, true),
        (Sysno::chdir, true),
        (Sysno::io_uring_setup, true),
        (Sysno::statx, false),
        (Sysno::faccessat, false),
        (Sysno::readlinkat, false),
        (Sysno::getdents64, false),
        // The last number of the table, which its iterator forgets.
        (Sysno::file_setattr, true),
    ] {
        let call = native(number.id() as u32, [0; 6]);
        assert_eq!(stops(&io, &call), at_io, "{number}");
        assert!(stops(&full, &call), "{number}");
    }
}

#[test]
fn below_the_level_io_and_for_a_listener() {
    for level in [TraceLevel::Off, TraceLevel::Process] {
        let program = program(level, Action::Trace);
        assert!(!stops(&program, &native(Sysno::openat.id() as u32, [0; 6])));
    }
    let program = program(TraceLevel::Io, Action::Notify);
    let (verdict, _) = run(&program, &native(Sysno::openat.id() as u32, [0; 6]));
    assert_eq!(verdict, libc::SECCOMP_RET_USER_NOTIF);
}

#[test]
fn few_instructions_are_on_the_way() {
    for (level, most) in [(TraceLevel::Io, 14), (TraceLevel::Full, 14)] {
        let program = program(level, Action::Trace);
        let steps = (0..1000).map(|number| run(&program, &native(number, [0; 6])).1);
        let worst = steps.max().expect("1000 numbers");
        assert!(program.len() <= 167, "{level:?}: {}", program.len());
        assert!(worst <= most + 8, "{level:?}: {worst} of {}", program.len());
        let open = run(&program, &native(Sysno::openat.id() as u32, [0; 6])).1;
        assert!(open <= most, "{level:?}: {open}");
    }
}

proptest! {
    /// Every decoded call stops; else the table of calls and this filter disagree. The reverse does
    /// not hold: the filter cannot follow pointers.
    #[test]
    fn what_the_filter_allows_has_nothing_to_tell(
        number in 0..500_u32,
        args in proptest::array::uniform6(prop_oneof![
            proptest::sample::select(&INTERESTING[..]),
            any::<u64>(),
            Just(Fake::STRING),
        ]),
    ) {
        let program = program(TraceLevel::Full, Action::Trace);
        let call = native(number, args);
        let name = Sysno::new(number as usize).map_or("", |number| number.name());
        // A path beside AT_EMPTY_PATH is missed on purpose.
        let missed = ["newfstatat", "fstatat", "statx"].contains(&name);
        if !stops(&program, &call) && !missed {
            let (entry, events) = entry_of(&call);
            prop_assert!(matches!(entry, Entry::Done) && events.is_empty(), "{name}: {events:?}");
        }
    }
}

/// Each call that stops does so wherever it is made but at the hook, and there each that is not recorded.
#[cfg(target_arch = "x86_64")]
#[test]
fn only_calls_that_are_recorded_pass_and_only_at_the_hook() {
    let hook = [HOOK, HOOK + 1, HOOK + HOOK_SIZE - 1];
    let elsewhere = [
        0,
        HOOK - 1,
        HOOK + HOOK_SIZE,
        HOOK | 1 << 32,
        HOOK | 1 << 63,
        u64::MAX,
    ];
    for level in [TraceLevel::Io, TraceLevel::Full] {
        let (stopping, recording) = (
            program(level, Action::Trace),
            program(level, Action::Record),
        );
        for number in 0..=Sysno::last().id() as u32 + 1 {
            let known = Sysno::new(number as usize);
            if known.map_or(number < Sysno::last().id() as u32, decode::is_rare) {
                continue;
            }
            for args in [
                [0; 6],
                [1, 0, 0x1000, 0x1000, 0, 0],
                [0xffff_ff9c, 0, 0, 0, 0, 0],
            ] {
                for arch in [NATIVE_ARCHITECTURE, FOREIGN] {
                    let call = Syscall {
                        arch,
                        ..native(number, args)
                    };
                    let stops = stops(&stopping, &call);
                    let recorded = known.is_some_and(|known| RECORDED.contains(&known));
                    let passes = recorded && arch == NATIVE_ARCHITECTURE;
                    let verdict = |address| run_at(&recording, &call, address).0;
                    let expected = |stops| match stops {
                        true => libc::SECCOMP_RET_TRACE,
                        false => libc::SECCOMP_RET_ALLOW,
                    };
                    for address in elsewhere {
                        assert_eq!(verdict(address), expected(stops), "{call:?} {address:#x}");
                    }
                    for address in hook {
                        assert_eq!(verdict(address), expected(stops && !passes), "{call:?}");
                    }
                }
            }
        }
    }
}
