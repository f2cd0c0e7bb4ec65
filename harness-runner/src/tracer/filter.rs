//! Builds the seccomp filter that stops a task at the calls of interest.
//!
//! Which these are says the table that they are decoded by. Some of them are of interest with some
//! arguments only; what can be told from numbers is told here, where it costs nanoseconds and not a
//! stop. The kernel caches which numbers are always allowed (5.11), so what counts is how few
//! instructions are on the way to the calls that stop.

use super::decode::{self, NATIVE_ARCHITECTURE, X32_BIT};
use harness_metadata::event::TraceLevel;
use libc::sock_filter;
use std::mem::offset_of;
use syscalls::Sysno;

/// How a task is stopped (seccomp(2)).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// For a tracer: SECCOMP_RET_TRACE.
    Trace,
    /// For a listener: SECCOMP_RET_USER_NOTIF.
    Notify,
}

impl Action {
    fn value(self) -> u32 {
        match self {
            Self::Trace => libc::SECCOMP_RET_TRACE,
            Self::Notify => libc::SECCOMP_RET_USER_NOTIF,
        }
    }
}

/// Returns the filter of a level. Below [`TraceLevel::Io`] it allows everything, and need not be
/// installed.
pub fn program(level: TraceLevel, action: Action) -> Vec<sock_filter> {
    let stop = ret(action.value());
    if level < TraceLevel::Io {
        return vec![ret(libc::SECCOMP_RET_ALLOW)];
    }
    let tree = tree(&segments(level), &stop);
    let mut program = vec![
        load(offset_of!(libc::seccomp_data, arch)),
        // Calls of another architecture have other numbers. All of them stop.
        jump(libc::BPF_JEQ, NATIVE_ARCHITECTURE, 1, 0),
        stop,
        load(offset_of!(libc::seccomp_data, nr)),
    ];
    if let Some(bit) = X32_BIT {
        // No native call has so high a number.
        program.extend([jump(libc::BPF_JGE, bit, 0, 1), stop]);
    }
    program.extend(tree);
    program
}

/// When a call is of interest.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Never,
    Always,
    /// If all tests of one of these hold.
    If(Vec<Vec<Test>>),
}

/// A test of an argument.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Test {
    argument: u8,
    /// The upper 32 bits, and not the lower ones.
    upper: bool,
    is: Is,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Is {
    Equal(u32),
    Not(u32),
    AtLeast(u32),
    AtMost(u32),
    /// Has one of these bits.
    Any(u32),
    /// Has none of these bits.
    Without(u32),
}

fn low(argument: u8, is: Is) -> Test {
    Test {
        argument,
        upper: false,
        is,
    }
}

fn high(argument: u8, is: Is) -> Test {
    Test {
        argument,
        upper: true,
        is,
    }
}

/// Calls that say in a number that there is nothing to tell.
fn rule(number: Sysno) -> Rule {
    /// fstat(2) as libc makes it. Whoever passes this flag and a path is missed.
    const EMPTY_PATH: u32 = libc::AT_EMPTY_PATH as u32;
    const SHORTEST: u32 = *decode::QUESTION.start() as u32;
    const LONGEST: u32 = *decode::QUESTION.end() as u32;
    const UNSHARED: u32 = decode::NAMESPACES;
    Rule::If(match number {
        #[cfg(target_arch = "x86_64")]
        Sysno::newfstatat => vec![vec![low(3, Is::Without(EMPTY_PATH))]],
        #[cfg(target_arch = "aarch64")]
        Sysno::fstatat => vec![vec![low(3, Is::Without(EMPTY_PATH))]],
        Sysno::statx => vec![vec![low(2, Is::Without(EMPTY_PATH))]],
        Sysno::clone => vec![vec![low(0, Is::Any(decode::CLONE_FLAGS))]],
        Sysno::unshare => vec![vec![low(0, Is::Any(UNSHARED))]],
        Sysno::prctl => vec![
            vec![low(0, Is::Equal(libc::PR_SET_SECCOMP as u32))],
            vec![
                low(0, Is::Equal(libc::PR_SET_DUMPABLE as u32)),
                low(1, Is::Not(1)),
            ],
        ],
        Sysno::seccomp => vec![vec![low(0, Is::AtMost(libc::SECCOMP_SET_MODE_FILTER))]],
        Sysno::ptrace => vec![
            vec![low(0, Is::Equal(decode::PTRACE_STARTS[0]))],
            vec![low(0, Is::Equal(decode::PTRACE_STARTS[1]))],
            vec![low(0, Is::Equal(decode::PTRACE_STARTS[2]))],
        ],
        Sysno::shmget | Sysno::semget | Sysno::msgget => {
            vec![vec![low(0, Is::Not(libc::IPC_PRIVATE as u32))]]
        }
        // To an address, or what may be a question to a name server.
        Sysno::sendto => vec![
            vec![low(4, Is::Not(0))],
            vec![high(4, Is::Not(0))],
            vec![
                low(2, Is::AtLeast(SHORTEST)),
                low(2, Is::AtMost(LONGEST)),
                high(2, Is::Equal(0)),
            ],
        ],
        _ => return Rule::Always,
    })
}

/// Numbers from one on, up to the next segment, that have one rule.
#[derive(Clone, Debug)]
struct Segment {
    from: u32,
    rule: Rule,
}

/// Divides all numbers into segments.
fn segments(level: TraceLevel) -> Vec<Segment> {
    let mut segments = vec![Segment {
        from: 0,
        rule: Rule::Never,
    }];
    // Not `Sysno::iter`, which forgets the last one. One number more ends the last segment.
    for number in 0..=Sysno::last().id() as u32 + 1 {
        let rule = match Sysno::new(number as usize) {
            Some(call) if decode::watched(call, level).is_some() => rule(call),
            _ => Rule::Never,
        };
        match segments.last_mut() {
            Some(last) if last.rule == rule => {}
            Some(last) if last.from == number => last.rule = rule,
            _ => segments.push(Segment { from: number, rule }),
        }
    }
    segments
}

/// A binary search: the number is in the accumulator.
fn tree(segments: &[Segment], stop: &sock_filter) -> Vec<sock_filter> {
    match segments {
        [] => Vec::new(),
        [segment] => leaf(&segment.rule, stop),
        segments => {
            let (left, right) = segments.split_at(segments.len() / 2);
            let from = right[0].from;
            let left = tree(left, stop);
            let mut code = match u8::try_from(left.len()) {
                Ok(over) => vec![jump(libc::BPF_JGE, from, over, 0)],
                // Conditional jumps do not reach as far.
                Err(_) => vec![
                    jump(libc::BPF_JGE, from, 0, 1),
                    instruction(libc::BPF_JMP | libc::BPF_JA, left.len() as u32, 0, 0),
                ],
            };
            code.extend(left);
            code.extend(tree(right, stop));
            code
        }
    }
}

fn leaf(rule: &Rule, stop: &sock_filter) -> Vec<sock_filter> {
    let allow = ret(libc::SECCOMP_RET_ALLOW);
    let alternatives = match rule {
        Rule::Never => return vec![allow],
        Rule::Always => return vec![*stop],
        Rule::If(alternatives) => alternatives,
    };
    let mut code = Vec::new();
    for tests in alternatives {
        // A load and a jump for each, then the stop; what fails goes to the next alternative.
        for (index, test) in tests.iter().enumerate() {
            let to_next = (2 * (tests.len() - index - 1) + 1) as u8;
            let (operation, value, holds_if) = match test.is {
                Is::Equal(value) => (libc::BPF_JEQ, value, true),
                Is::Not(value) => (libc::BPF_JEQ, value, false),
                Is::AtLeast(value) => (libc::BPF_JGE, value, true),
                Is::AtMost(value) => (libc::BPF_JGT, value, false),
                Is::Any(bits) => (libc::BPF_JSET, bits, true),
                Is::Without(bits) => (libc::BPF_JSET, bits, false),
            };
            let (so, otherwise) = if holds_if { (0, to_next) } else { (to_next, 0) };
            code.push(load(argument(test)));
            code.push(jump(operation, value, so, otherwise));
        }
        code.push(*stop);
    }
    code.push(allow);
    code
}

/// Where half of an argument is.
fn argument(test: &Test) -> usize {
    let upper_is_second = cfg!(target_endian = "little");
    let half = if test.upper == upper_is_second { 4 } else { 0 };
    offset_of!(libc::seccomp_data, args) + 8 * usize::from(test.argument) + half
}

fn load(offset: usize) -> sock_filter {
    instruction(
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        offset as u32,
        0,
        0,
    )
}

fn ret(value: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, value, 0, 0)
}

fn jump(condition: u32, value: u32, if_so: u8, otherwise: u8) -> sock_filter {
    instruction(
        libc::BPF_JMP | condition | libc::BPF_K,
        value,
        if_so,
        otherwise,
    )
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

#[cfg(test)]
mod tests;
