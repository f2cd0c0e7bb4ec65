//! Tests of requests, and of what they count.

use super::*;

fn parsed(text: &str) -> Injection {
    text.parse().expect(text)
}

fn refused(text: &str) -> String {
    text.parse::<Injection>().expect_err(text).to_string()
}

fn call(name: &str) -> Sysno {
    name.parse().expect(name)
}

/// Returns the numbers of those of ten equal calls that fail.
fn failing(text: &str, name: &str, place: &str) -> Vec<u64> {
    let mut injections = Injections::from_bytes(text.as_bytes()).expect(text);
    let calls = (0..10).filter_map(|_| injections.count(call(name), &[place.into()], false));
    calls.map(|due| due.number).collect()
}

#[test]
fn the_numbers_say_which_of_the_matching_calls_fail() {
    let mkdir = |which: &str| failing(&format!("mkdirat:ENOSPC{which}"), "mkdirat", "/tmp/a");
    assert_eq!(mkdir("@2"), [2]);
    assert_eq!(mkdir("@2-4"), [2, 3, 4]);
    assert_eq!(mkdir("@9-"), [9, 10]);
    assert_eq!(mkdir("").len(), 10);
    assert_eq!(mkdir("@every").len(), 10);
    assert!(failing("mkdirat:ENOSPC", "unlinkat", "/tmp/a").is_empty());
}

#[test]
fn a_pattern_is_of_a_name_of_the_end_of_a_path_or_of_a_whole_path() {
    let fails = |pattern: &str, place: &str| {
        !failing(&format!("openat({pattern}):EIO@1"), "openat", place).is_empty()
    };
    assert!(fails("*.toml", "/srv/it/a.toml"));
    assert!(!fails("*.toml", "/srv/it/a.toml/b"));
    assert!(fails("it/*.toml", "/srv/it/a.toml"));
    assert!(!fails("srv/*.toml", "/srv/it/a.toml"));
    assert!(fails("/srv/**", "/srv/it/a.toml"));
    assert!(!fails("/it/**", "/srv/it/a.toml"));
    let connects = |pattern: &str| {
        !failing(
            &format!("connect({pattern}):ECONNREFUSED"),
            "connect",
            "127.0.0.1:80",
        )
        .is_empty()
    };
    assert!(connects("127.0.0.1:80") && connects("*:80") && !connects("*:443"));
}

#[test]
fn what_every_program_does_counts_only_with_a_pattern() {
    let library = "/usr/lib/x86_64-linux-gnu/libc.so.6";
    for place in [library, "/etc/ld.so.cache", "/proc/self/maps"] {
        assert!(
            failing("openat:ENOENT", "openat", place).is_empty(),
            "{place}"
        );
    }
    assert_eq!(failing("openat(libc.so*):ENOENT@1", "openat", library), [1]);
    let mut injections = Injections::from_bytes(b"write:ENOSPC").expect("it is one");
    let place = [b"pipe:[7]".to_vec()];
    assert!(injections.count(Sysno::write, &place, true).is_none());
    assert!(injections.count(Sysno::write, &place, false).is_some());
}

#[test]
fn several_requests_count_for_themselves_and_travel_together() {
    let all = [parsed("openat(a):EIO@2"), parsed("openat(*):ENOENT@3")];
    let mut injections = Injections::from_bytes(&to_bytes(&all)).expect("they are");
    let mut errors = Vec::new();
    for _ in 0..4 {
        let due = injections.count(Sysno::openat, &[b"/tmp/a".to_vec()], false);
        errors.push(due.map(|due| due.errno));
    }
    assert_eq!(errors, [None, Some(libc::EIO), Some(libc::ENOENT), None]);
}

#[test]
fn a_request_that_makes_no_sense_is_told_what_does() {
    assert!(refused("openat").contains("write `CALL:ERRNO`"));
    assert!(refused("openat(a:EIO").contains("write `CALL:ERRNO`"));
    let call = refused("opennat:EIO");
    assert!(call.contains("`opennat` is no call that can fail") && call.contains("openat2, "));
    assert!(refused("munmap:EIO").contains("`munmap` is no call"));
    let errno = refused("openat:ENOSPACE");
    assert!(errno.contains("`ENOSPACE` is no error") && errno.contains("ENOSPC"));
    for which in ["0", "x", "4-2", "", "-3"] {
        let text = refused(&format!("openat:EIO@{which}"));
        assert!(text.contains("`@2` is the second one"), "{text}");
    }
    // The address of a listener is not among the arguments.
    for call in ["pipe2(a):EMFILE", "listen(127.0.0.1:*):EADDRINUSE"] {
        assert!(refused(call).contains("it has no pattern"), "{call}");
    }
    assert_eq!(failing("listen:EADDRINUSE@1", "listen", ""), [1]);
    assert!(refused("openat([):EIO").contains("`[` is no pattern"));
}

#[test]
fn a_call_needs_the_level_that_sees_it() {
    assert_eq!(parsed("openat:EIO").level(), TraceLevel::Io);
    assert_eq!(parsed("write:EIO").level(), TraceLevel::Io);
    assert_eq!(parsed("statx:EIO").level(), TraceLevel::Full);
}

#[test]
fn calls_of_another_architecture_are_never_of_interest() {
    let injections = Injections::from_bytes(b"openat:EIO").expect("it is one");
    let mut call = Syscall {
        arch: NATIVE_ARCHITECTURE,
        number: Sysno::openat.id().cast_unsigned().into(),
        args: [0; 6],
    };
    assert_eq!(injections.of_interest(&call), Some(Sysno::openat));
    call.arch ^= 1;
    assert_eq!(injections.of_interest(&call), None);
}
