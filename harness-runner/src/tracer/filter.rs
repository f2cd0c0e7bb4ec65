//! Builds the seccomp filter that stops a task at the calls of interest.
//!
//! The table of decoding names these calls. Some of them are of interest with some arguments only;
//! the filter decides by numbers, which costs nanoseconds and not a stop. The kernel caches the
//! numbers that are always allowed (5.11), so only the number of instructions on the way to a
//! stopping call counts.

use super::decode::{self, NATIVE_ARCHITECTURE, X32_BIT};
use crate::sys::recorder::{HOOK, HOOK_SIZE, RECORDED};
use harness_metadata::event::TraceLevel;
use libc::sock_filter;
use std::mem::offset_of;
use syscalls::Sysno;

/// The way in which a task is stopped (seccomp(2)).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// For a tracer: SECCOMP_RET_TRACE.
    Trace,
    /// For a tracer, unless the address of the call's instruction is the recorder's.
    Record,
    /// For a listener: SECCOMP_RET_USER_NOTIF.
    Notify,
}

impl Action {
    fn value(self) -> u32 {
        match self {
            Self::Trace | Self::Record => libc::SECCOMP_RET_TRACE,
            Self::Notify => libc::SECCOMP_RET_USER_NOTIF,
        }
    }
}

/// Returns the filter of a level. Below [`TraceLevel::Io`] it allows everything, and need not be
/// installed.
pub fn program(level: TraceLevel, action: Action) -> Vec<sock_filter> {
    program_with(level, action, &[])
}

/// As [`program`], and stops at each of these calls, whatever its arguments are.
pub(crate) fn program_with(
    level: TraceLevel,
    action: Action,
    always: &[Sysno],
) -> Vec<sock_filter> {
    if level < TraceLevel::Io {
        return vec![ret(libc::SECCOMP_RET_ALLOW)];
    }
    let mut code = Code::new(action);
    let native = code.tree(&segments(level, action, always));
    // No native call has so high a number.
    let native = match X32_BIT {
        Some(bit) => code.jump(libc::BPF_JGE, bit, Code::STOP, native),
        None => native,
    };
    let native = code.load(offset_of!(libc::seccomp_data, nr), native);
    // Calls of another architecture have other numbers. All of them stop.
    let checked = code.jump(libc::BPF_JEQ, NATIVE_ARCHITECTURE, native, Code::STOP);
    code.load(offset_of!(libc::seccomp_data, arch), checked);
    code.program()
}

/// When a call is of interest.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Never,
    /// The shorter one of both.
    Either,
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
    /// fstat(2) as libc makes it, with a descriptor. A call with this flag, a descriptor and a path is
    /// missed.
    const EMPTY_PATH: u32 = libc::AT_EMPTY_PATH as u32;
    let of_cwd = low(0, Is::Equal(libc::AT_FDCWD as u32));
    const SHORTEST: u32 = *decode::QUESTION.start() as u32;
    const LONGEST: u32 = *decode::QUESTION.end() as u32;
    Rule::If(match number {
        #[cfg(target_arch = "x86_64")]
        Sysno::newfstatat => vec![vec![low(3, Is::Without(EMPTY_PATH))], vec![of_cwd]],
        #[cfg(target_arch = "aarch64")]
        Sysno::fstatat => vec![vec![low(3, Is::Without(EMPTY_PATH))], vec![of_cwd]],
        Sysno::statx => vec![vec![low(2, Is::Without(EMPTY_PATH))], vec![of_cwd]],
        Sysno::clone => vec![vec![low(0, Is::Any(decode::CLONE_FLAGS))]],
        Sysno::unshare => vec![vec![low(0, Is::Any(decode::UNSHARED))]],
        Sysno::prctl => vec![
            vec![
                low(0, Is::Equal(libc::PR_SET_DUMPABLE as u32)),
                low(1, Is::Not(1)),
            ],
            vec![
                // Hardly anybody makes the one between the two ranges.
                low(0, Is::AtLeast(*decode::ASKED.start())),
                low(0, Is::AtMost(*decode::RIGHTS[0].end())),
            ],
            vec![
                low(0, Is::AtLeast(*decode::PROMISES.start())),
                low(0, Is::AtMost(*decode::PROMISES.end())),
            ],
            vec![low(0, Is::Equal(*decode::RIGHTS[1].start()))],
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
        Sysno::socket => sockets(),
        Sysno::ioctl => vec![
            vec![low(1, Is::AtMost(*decode::TERMINAL.start() - 1))],
            vec![low(1, Is::AtLeast(*decode::TERMINAL.end() + 1))],
        ],
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

/// Sockets of families and types whose traffic is not told.
fn sockets() -> Vec<Vec<Test>> {
    vec![
        vec![
            low(0, Is::Not(libc::AF_UNIX as u32)),
            low(0, Is::Not(libc::AF_INET as u32)),
            low(0, Is::Not(libc::AF_INET6 as u32)),
            low(0, Is::Not(libc::AF_VSOCK as u32)),
        ],
        // Of the types below 8, SOCK_RAW has both bits.
        vec![
            low(0, Is::Not(libc::AF_UNIX as u32)),
            low(1, Is::Any(1)),
            low(1, Is::Any(2)),
        ],
        vec![low(0, Is::Not(libc::AF_UNIX as u32)), low(1, Is::Any(8))],
    ]
}

/// Numbers from one on, up to the next segment, that have one rule.
#[derive(Clone, Debug)]
struct Segment {
    from: u32,
    /// The offset of the next segment.
    end: u32,
    rule: Rule,
    /// Whether such a call passes if the recorder makes it.
    recorded: bool,
}

/// Divides all numbers into segments.
fn segments(level: TraceLevel, action: Action, always: &[Sysno]) -> Vec<Segment> {
    let mut segments = vec![Segment {
        from: 0,
        end: u32::MAX,
        rule: Rule::Never,
        recorded: false,
    }];
    // Not `Sysno::iter`, which forgets the last one. One number more ends the last segment.
    for number in 0..=Sysno::last().id() as u32 + 1 {
        let rule = match Sysno::new(number as usize) {
            Some(call) if always.contains(&call) => Rule::Always,
            Some(call) if decode::watched(call, level).is_some() => rule(call),
            Some(call) if decode::is_rare(call) => Rule::Either,
            Some(_) => Rule::Never,
            // There is none, so that it fails.
            None if number < Sysno::last().id() as u32 => Rule::Either,
            // A call of a later kernel.
            None => Rule::Always,
        };
        let recorded = action == Action::Record
            && rule != Rule::Never
            && Sysno::new(number as usize).is_some_and(|call| RECORDED.contains(&call));
        match segments.last_mut() {
            Some(_) if rule == Rule::Either => continue,
            Some(last) if last.rule == rule && last.recorded == recorded => continue,
            Some(last) if last.from == number => {
                (last.rule, last.recorded) = (rule, recorded);
                continue;
            }
            Some(last) => last.end = number,
            None => {}
        }
        segments.push(Segment {
            from: number,
            end: u32::MAX,
            rule,
            recorded,
        });
    }
    segments
}

/// A program that is written from its end on, so that everything can jump to the same two answers.
///
/// Every process gets its own copy, which the kernel translates (a fifth of a microsecond an
/// instruction): what counts is how few there are.
struct Code {
    /// The last instruction comes first.
    backwards: Vec<sock_filter>,
    /// The place of calls that stop unless the recorder makes them.
    unrecorded: Place,
}

/// A place in a program: how many instructions come after it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Place(usize);

impl Code {
    const ALLOW: Place = Place(0);
    const STOP: Place = Place(1);

    /// Calls of interest that are compared one after the other, rather than searched for.
    const IN_A_ROW: usize = 3;

    fn new(action: Action) -> Self {
        let mut code = Self {
            backwards: vec![ret(libc::SECCOMP_RET_ALLOW), ret(action.value())],
            unrecorded: Self::STOP,
        };
        if action == Action::Record {
            code.unrecorded = code.pass_recorder();
        }
        code
    }

    /// Allows a call whose instruction is the recorder's, and stops every other.
    fn pass_recorder(&mut self) -> Place {
        let address = offset_of!(libc::seccomp_data, instruction_pointer);
        let half = |upper| address + half_of(upper);
        let end = (HOOK + HOOK_SIZE) as u32;
        let begun = self.jump(libc::BPF_JGE, HOOK as u32, Self::ALLOW, Self::STOP);
        let within = self.jump(libc::BPF_JGE, end, Self::STOP, begun);
        let low = self.load(half(false), within);
        let upper = self.jump(libc::BPF_JEQ, (HOOK >> 32) as u32, low, Self::STOP);
        self.load(half(true), upper)
    }

    fn program(mut self) -> Vec<sock_filter> {
        self.backwards.reverse();
        self.backwards
    }

    fn push(&mut self, instruction: sock_filter) -> Place {
        self.backwards.push(instruction);
        Place(self.backwards.len() - 1)
    }

    /// Returns how many instructions would be left out by a jump to a place.
    fn distance(&self, to: Place) -> usize {
        self.backwards.len() - 1 - to.0
    }

    /// Goes to one of two places.
    fn jump(&mut self, condition: u32, value: u32, mut so: Place, mut otherwise: Place) -> Place {
        // Conditional jumps do not reach far. One step of the way may make the other too long.
        for place in [&mut otherwise, &mut so] {
            if self.distance(*place) >= usize::from(u8::MAX) {
                let distance = self.distance(*place) as u32;
                let jump = instruction(libc::BPF_JMP | libc::BPF_JA, distance, 0, 0);
                *place = self.push(jump);
            }
        }
        let (so, otherwise) = (self.distance(so) as u8, self.distance(otherwise) as u8);
        let code = libc::BPF_JMP | condition | libc::BPF_K;
        self.push(instruction(code, value, so, otherwise))
    }

    /// Loads a word and goes on at a place.
    fn load(&mut self, offset: usize, next: Place) -> Place {
        let code = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
        let load = instruction(code, offset as u32, 0, 0);
        if self.distance(next) > 0 {
            let distance = self.distance(next) as u32;
            self.push(instruction(libc::BPF_JMP | libc::BPF_JA, distance, 0, 0));
        }
        self.push(load)
    }

    /// A search for the number, which is in the accumulator.
    fn tree(&mut self, segments: &[Segment]) -> Place {
        let of_interest = |segment: &&Segment| segment.rule != Rule::Never;
        if segments.iter().filter(of_interest).count() <= Self::IN_A_ROW {
            return self.row(segments);
        }
        let (left, right) = segments.split_at(segments.len() / 2);
        let from = right[0].from;
        let right = self.tree(right);
        let left = self.tree(left);
        self.jump(libc::BPF_JGE, from, right, left)
    }

    /// Compares the number with one segment after the other.
    fn row(&mut self, segments: &[Segment]) -> Place {
        let mut next = Self::ALLOW;
        for (index, segment) in segments.iter().enumerate().rev() {
            let leaf = match &segment.rule {
                Rule::Never | Rule::Either => continue,
                Rule::Always => self.stop(segment),
                Rule::If(alternatives) => self.alternatives(alternatives, self.stop(segment)),
            };
            let Segment { from, end, .. } = *segment;
            next = if end - from == 1 {
                self.jump(libc::BPF_JEQ, from, leaf, next)
            } else {
                // What is below is none of the segments before either.
                let reached = match index {
                    0 => leaf,
                    _ => self.jump(libc::BPF_JGE, from, leaf, Self::ALLOW),
                };
                match segments.len() - index {
                    1 => reached,
                    _ => self.jump(libc::BPF_JGE, end, next, reached),
                }
            };
        }
        next
    }

    /// Returns where calls of a segment go that are of interest.
    fn stop(&self, segment: &Segment) -> Place {
        match segment.recorded {
            true => self.unrecorded,
            false => Self::STOP,
        }
    }

    /// Goes to where a call stops if all tests of one alternative hold.
    fn alternatives(&mut self, alternatives: &[Vec<Test>], stop: Place) -> Place {
        let mut next = Self::ALLOW;
        for tests in alternatives.iter().rev() {
            let mut holds = stop;
            for test in tests.iter().rev() {
                let (operation, value, holds_if) = match test.is {
                    Is::Equal(value) => (libc::BPF_JEQ, value, true),
                    Is::Not(value) => (libc::BPF_JEQ, value, false),
                    Is::AtLeast(value) => (libc::BPF_JGE, value, true),
                    Is::AtMost(value) => (libc::BPF_JGT, value, false),
                    Is::Any(bits) => (libc::BPF_JSET, bits, true),
                    Is::Without(bits) => (libc::BPF_JSET, bits, false),
                };
                let (so, otherwise) = if holds_if {
                    (holds, next)
                } else {
                    (next, holds)
                };
                let compared = self.jump(operation, value, so, otherwise);
                holds = self.load(argument(test), compared);
            }
            next = holds;
        }
        next
    }
}

/// The offset of one half of an argument.
fn argument(test: &Test) -> usize {
    offset_of!(libc::seccomp_data, args) + 8 * usize::from(test.argument) + half_of(test.upper)
}

/// The offset of one half within a number of 64 bits.
fn half_of(upper: bool) -> usize {
    let upper_is_second = cfg!(target_endian = "little");
    if upper == upper_is_second { 4 } else { 0 }
}

fn ret(value: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, value, 0, 0)
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
