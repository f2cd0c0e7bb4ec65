//! The arguments and environments of programs, as the kernel puts them on their stacks.

use super::fuzz::Random;
use crate::tracer::decode::{Environment, Vectors};
use proptest::prelude::*;

/// The address of the stack.
const STACK: u64 = 0x7ffc_1234_5670;

/// A stack as the kernel would build it, with so much between the pointers and the strings.
fn stack(args: &[&str], environment: &[&str], gap: usize) -> Vec<u8> {
    const AUXILIARY: [u64; 4] = [31, 7, 0, 0];
    let pointers = 8 * (args.len() + environment.len() + 3 + AUXILIARY.len());
    let mut words = vec![args.len() as u64];
    let mut strings: Vec<u8> = Vec::new();
    for vector in [args, environment] {
        for string in vector {
            words.push(STACK + (pointers + gap + strings.len()) as u64);
            strings.extend(string.as_bytes());
            strings.push(0);
        }
        words.push(0);
    }
    words.extend(AUXILIARY);
    let mut stack: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    stack.extend(vec![0xaa; gap]);
    stack.extend(strings);
    // The program's name, and 0.
    stack.extend(b"/bin/program\0\0\0\0\0\0\0\0\0");
    stack
}

fn on(stack: &[u8]) -> Option<Vectors> {
    Vectors::on_stack(STACK, stack)
}

fn vectors(args: &[&str], environment: &[&str]) -> Vectors {
    Vectors {
        args: args.iter().map(|arg| (*arg).into()).collect(),
        environment: Environment::new(environment.iter().map(|it| it.as_bytes())),
        truncated: false,
    }
}

fn set_word(stack: &mut [u8], index: usize, value: u64) {
    stack[8 * index..8 * index + 8].copy_from_slice(&value.to_ne_bytes());
}

#[test]
fn a_new_stack_says_what_its_program_was_started_with() {
    for (args, environment) in [
        (&["program", "", "b c"][..], &["B=2", "A=1", "=", "B=3"][..]),
        (&["program"], &[]),
        (&[""], &["A="]),
        (&[], &["A=1"]),
        (&[], &[]),
    ] {
        for gap in [0, 5, 9000] {
            let told = on(&stack(args, environment, gap));
            assert_eq!(told, Some(vectors(args, environment)), "{gap}");
        }
    }
}

#[test]
fn a_stack_of_which_strings_are_missing_says_nothing() {
    let whole = stack(&["program", "argument"], &["A=1", "B=2"], 100);
    let expected = on(&whole).expect("it is whole");
    let end = whole.len() - b"/bin/program\0\0\0\0\0\0\0\0\0".len();
    for length in 0..end {
        assert_eq!(on(&whole[..length]), None, "{length}");
    }
    assert_eq!(on(&whole[..end]), Some(expected));
}

#[test]
fn a_stack_with_another_number_of_arguments_says_nothing() {
    for count in [0, 1, 3, 4, 5, 12, 1 << 32, u64::MAX / 8, u64::MAX] {
        let mut stack = stack(&["program", "argument"], &["A=1", "B=2"], 0);
        set_word(&mut stack, 0, count);
        assert_eq!(on(&stack), None, "{count}");
    }
    // What a program of 32 bits has: the number, and where the first argument is.
    let mut short = stack(&["program"], &[], 0);
    set_word(&mut short, 0, 1 | 0xffff_d000 << 32);
    assert_eq!(on(&short), None);
}

#[test]
fn a_stack_whose_pointers_lead_elsewhere_says_nothing() {
    let good = stack(&["program", "argument"], &["A=1"], 0);
    for (index, by) in [(1, -8), (1, 8), (2, 1), (2, -1), (4, 1), (4, 0x1000)] {
        let mut stack = good.clone();
        let before = u64::from_ne_bytes(stack[8 * index..][..8].try_into().expect("8 bytes"));
        set_word(&mut stack, index, before.wrapping_add_signed(by));
        assert_eq!(on(&stack), None, "{index} {by}");
    }
    for address in [1, 8, STACK - 1, STACK, STACK + 8, u64::MAX] {
        let mut stack = good.clone();
        set_word(&mut stack, 1, address);
        assert_eq!(on(&stack), None, "{address:x}");
    }
}

#[test]
fn p21_of_a_stack_with_many_strings_the_first_are_kept() {
    let many = vec!["a"; 4097];
    let most = &many[..4096];
    let told = on(&stack(&many, &["A=1"], 0)).expect("it is whole");
    assert!(told.truncated);
    assert_eq!(told.args.len(), 4096);
    assert_eq!(told.environment, Environment::new([&b"A=1"[..]]));

    let told = on(&stack(&["program"], &many, 0)).expect("it is whole");
    assert!(told.truncated && told.environment.is_truncated());

    assert!(!on(&stack(most, most, 0)).expect("it is whole").truncated);
}

#[test]
fn what_proc_says_is_what_the_stack_says() {
    let told = Vectors::in_blocks(Some(b"program\0\0b c\0"), Some(b"A=1\0B=2\0".to_vec()));
    assert_eq!(told, vectors(&["program", "", "b c"], &["A=1", "B=2"]));
    let told = Vectors::in_blocks(Some(b"\0"), Some(Vec::new()));
    assert_eq!(told, vectors(&[""], &[]));
}

#[test]
fn p21_what_proc_says_may_have_been_cut_off() {
    let long = [b"A=1\0B=".as_slice(), &vec![b'x'; Vectors::STACK]].concat();
    let long = &long[..Vectors::STACK];
    let told = Vectors::in_blocks(Some(b"program\0"), Some(long.to_vec()));
    assert!(told.truncated && told.environment.is_truncated());
    let told = Vectors::in_blocks(Some(long), Some(b"A=1\0".to_vec()));
    assert!(told.truncated && !told.environment.is_truncated());
    let many = b"a\0".repeat(4097);
    let told = Vectors::in_blocks(Some(&many), Some(Vec::new()));
    assert!(told.truncated);
    assert_eq!(told.args.len(), 4096);
    // "Unreadable" differs from "everything is gone".
    for cmdline in [None, Some(b"program\0".as_slice())] {
        let told = Vectors::in_blocks(cmdline, None);
        assert!(told.truncated && told.environment.is_truncated());
    }
    let told = Vectors::in_blocks(None, Some(b"A=1\0".to_vec()));
    assert!(told.truncated && !told.environment.is_truncated());
    // There was nothing.
    assert!(!Vectors::in_blocks(Some(b""), Some(Vec::new())).truncated);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_stack_does_harm(seed in any::<u64>(), changes in 0..4_usize, length in 0..400_usize) {
        let mut random = Random::new(seed);
        let mut stack = stack(&["program", "argument"], &["A=1", "B=2"], 16);
        for _ in 0..changes {
            let index = random.below(stack.len() as u64 / 8) as usize;
            let value = match random.below(3) {
                0 => random.below(16),
                1 => STACK + random.below(400),
                _ => random.next(),
            };
            set_word(&mut stack, index, value);
        }
        stack.truncate(length);
        if let Some(told) = on(&stack) {
            let args: usize = told.args.iter().map(|arg| arg.as_bytes().len()).sum();
            prop_assert!(args < length.max(1));
        }
    }
}
