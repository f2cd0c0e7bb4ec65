//! A task can have anything in its memory and in its registers: nothing of it makes the tracer
//! panic, work for long, or keep much.

use super::Fake;
use crate::tracer::decode::{
    Entry, NATIVE_ARCHITECTURE, ReadError, Syscall, entry, exit, interpreters, names,
    network::address, paths::normalised, unfinished,
};
use harness_metadata::{RawString, TraceEventKind, event::TraceLevel};
use proptest::prelude::*;
use syscalls::Sysno;

/// The most memory to read for one call: two vectors of 4096 entries, each of which may lie on a
/// page of its own, or a thousand messages of eight parts.
const READS: usize = 40_000;

/// The address of the memory. It is small, so that pointers in it lead back into it.
const BASE: u64 = 0x1000;
const SIZE: usize = 3 * 4096;

/// Numbers that follow from a seed (xorshift): much quicker than a strategy for each byte.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 8) % limit
    }

    fn bytes(&mut self, length: usize, of: &[u8]) -> Vec<u8> {
        let byte = |random: &mut Self| match of {
            [] => random.next() as u8,
            of => of[random.below(of.len() as u64) as usize],
        };
        (0..length).map(|_| byte(self)).collect()
    }

    fn pointer(&mut self) -> u64 {
        match self.below(13) {
            0 => 0,
            1 => self.next(),
            2 => libc::AT_FDCWD as u64,
            3 | 4 => self.below(600),
            5 => 1 << self.below(64),
            6 => u64::MAX - self.below(5000),
            _ => BASE + self.below(SIZE as u64 + 64),
        }
    }

    /// Memory of pointers, lengths, text and anything else.
    fn memory(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let length = self.below(SIZE as u64) as usize;
        while bytes.len() < length {
            let count = self.below(60) as usize;
            let piece = match self.below(10) {
                0..=3 => (0..count)
                    .flat_map(|_| self.pointer().to_ne_bytes())
                    .collect(),
                4 | 5 => self.bytes(count, b"abc./\0=#!"),
                6 => self.bytes(3 * count, b""),
                7 => vec![b'a'; 50 * count],
                // One pointer over and over.
                8 => (BASE + self.below(4096)).to_ne_bytes().repeat(5 * count),
                // An address of some family.
                _ => {
                    let family = self.below(45) as u16;
                    [&family.to_ne_bytes()[..], &self.bytes(26, b"")].concat()
                }
            };
            bytes.extend(piece);
            if self.below(4) == 0 {
                bytes.resize(bytes.len().next_multiple_of(8), 0);
            }
        }
        bytes.truncate(length);
        bytes
    }
}

fn size(string: &RawString) -> usize {
    string.as_bytes().len() + 16
}

/// About how much an event keeps.
fn kept(event: &TraceEventKind) -> usize {
    64 + match event {
        TraceEventKind::Exec(exec) => {
            size(exec.program.path())
                + exec.args.iter().map(size).sum::<usize>()
                + exec
                    .environment
                    .set
                    .iter()
                    .map(|(name, value)| size(name) + size(value))
                    .sum::<usize>()
                + exec.environment.unset.iter().map(size).sum::<usize>()
                + exec.interpreters.iter().map(size).sum::<usize>()
        }
        TraceEventKind::File(call) => {
            size(call.path.path())
                + size(&call.path.asked)
                + call.to.as_ref().map_or(0, |to| size(to.path()))
        }
        TraceEventKind::Lookup(lookup) => size(&lookup.name),
        _ => 0,
    }
}

/// All numbers of the table, each as likely as another.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        20 => (0..=Sysno::last().id() as u64)
            .prop_filter("a call", |number| Sysno::new(*number as usize).is_some()),
        1 => any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn p51_p60_no_memory_and_no_arguments_do_harm(
        number in number(),
        seed in any::<u64>(),
        refused in prop_oneof![
            20 => Just(None),
            1 => Just(Some(ReadError::Refused)),
            1 => Just(Some(ReadError::Gone)),
        ],
        result in prop_oneof![-5000..5000_i64, any::<i64>()],
        known in any::<bool>(),
        returns in any::<bool>(),
    ) {
        let mut task = Fake::new();
        let mut random = Random::new(seed);
        task.memory.insert(BASE, random.memory());
        let args = std::array::from_fn(|_| random.pointer());
        task.refused = refused;
        task.cwd = known.then(|| b"/work".to_vec());
        for fd in 0..8 {
            let target = if fd % 2 == 0 { "/dir" } else { "pipe:[1]" };
            task.descriptors.insert(fd, target.into());
        }
        let call = Syscall { arch: NATIVE_ARCHITECTURE, number, args };
        let mut events = Vec::new();
        if let Entry::Await(pending) = entry(&call, TraceLevel::Full, &task, &mut events) {
            if returns {
                exit(pending, result, &task, &mut events);
            } else {
                unfinished(pending, &task, &mut events);
            }
        }
        prop_assert!(task.reads.get() <= READS, "{} reads", task.reads.get());
        prop_assert!(events.len() <= 2100, "{} events", events.len());
        let kept: usize = events.iter().map(kept).sum();
        prop_assert!(kept < 1 << 20, "{kept} bytes");
    }

    #[test]
    fn p21_vectors_of_programs_end(
        seed in any::<u64>(),
        length in 0..1024_usize,
        at in BASE..BASE + 64,
    ) {
        let mut task = Fake::new();
        let mut random = Random::new(seed);
        let words = (0..length).flat_map(|_| (BASE + random.below(8192)).to_ne_bytes());
        task.memory.insert(BASE, words.collect());
        let call = Syscall {
            arch: NATIVE_ARCHITECTURE,
            number: Sysno::execve.id() as u64,
            args: [at, at, BASE, 0, 0, 0],
        };
        let mut events = Vec::new();
        let entry = entry(&call, TraceLevel::Io, &task, &mut events);
        prop_assert!(matches!(&entry, Entry::Await(pending) if pending.is_exec()));
        prop_assert!(task.reads.get() <= READS);
    }

    #[test]
    fn p72_no_address_does_harm(seed in any::<u64>(), length in 0..200_usize, family in 0..50_u16) {
        let bytes = Random::new(seed).bytes(length, b"");
        let _ = address(&bytes);
        let bytes = [&family.to_ne_bytes(), &bytes[..]].concat();
        prop_assert!(address(&bytes).is_some());
    }

    #[test]
    fn no_message_to_a_name_server_does_harm(
        header in any::<bool>(),
        seed in any::<u64>(),
        length in 0..600_usize,
        alphabet in proptest::sample::select(vec![&b""[..], b"\xc0\x0c\x0d\x0e\x01\x00", b"\x01\x02\x03", b"\xc0\xc1\x3f"]),
    ) {
        let start: &[u8] = if header { b"\0\0\x01\0\0\x01\0\0\0\0\0\0" } else { b"" };
        let message = [start, &Random::new(seed).bytes(length, alphabet)].concat();
        for name in [names::question(&message), names::stream_question(&message)].into_iter().flatten() {
            prop_assert!((1..=255).contains(&name.as_bytes().len()));
        }
    }

    #[test]
    fn p20_no_program_does_harm(
        start in proptest::sample::select(vec![&b"\x7fELF\x02\x01"[..], b"\x7fELF\x01\x01", b"#!", b""]),
        seed in any::<u64>(),
        length in 0..3000_usize,
    ) {
        let mut random = Random::new(seed);
        let alphabet: &[u8] = if seed % 2 == 0 { b"" } else { b"\x00\x00\x00\x38\x20\x03 /x" };
        let mut file = [start, &random.bytes(length, alphabet)].concat();
        // Sizes that are looked at, so that what follows is.
        if seed % 3 == 0 && file.len() > 64 {
            file[54..58].copy_from_slice(&[56, 0, random.below(256) as u8, random.below(2) as u8]);
            file[32..40].copy_from_slice(&random.below(4000).to_le_bytes());
        }
        let mut reads = 0;
        let found = interpreters(b"main", &mut |_, offset, buffer| {
            reads += 1;
            let rest = file.get(usize::try_from(offset).ok()?..)?;
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            Some(length)
        });
        prop_assert!(found.len() <= 6 && reads <= 20);
    }

    #[test]
    fn normal_paths_are_normal(seed in any::<u64>(), length in 0..60_usize) {
        let path = Random::new(seed).bytes(length, b"/../a\xff");
        let normal = normalised(&path);
        prop_assert_eq!(normal[0], b'/');
        for part in normal[1..].split(|byte| *byte == b'/') {
            prop_assert!(normal == b"/" || ![&b""[..], b".", b".."].contains(&part));
        }
        prop_assert_eq!(normalised(&normal), normal);
    }
}
