//! Tests of the calls that are chosen, from events that were made by hand.

use super::*;
use crate::answers::tests::{bind, file, open, roots};
use std::path::Path;

fn places() -> Places {
    Places::new(&roots(), Path::new(""), Path::new(""))
}

/// Returns the candidates of an event, as lines.
fn lines(event: &TraceEvent) -> Vec<String> {
    let found = of_event(1, event, &|_| true);
    let line = |(call, place, errno, _): Candidate| {
        format!("{call} {} {errno}", String::from_utf8_lossy(&place))
    };
    found.into_iter().map(line).collect()
}

#[test]
fn what_is_opened_may_fail_and_so_may_what_is_done_with_it() {
    let write = Access {
        write: true,
        create: true,
        ..Access::default()
    };
    assert_eq!(
        lines(&open(1, "/tmp/a", write)),
        ["openat /tmp/a 28", "write /tmp/a 28", "fsync /tmp/a 5"]
    );
    let read = Access {
        read: true,
        ..Access::default()
    };
    assert_eq!(
        lines(&open(1, "/tmp/a", read)),
        ["openat /tmp/a 13", "read /tmp/a 5"]
    );
}

#[test]
fn a_call_that_failed_anyway_is_not_tried() {
    let missing = CallResult::Err(libc::ENOENT);
    let stat = file(1, FileOperation::Stat, "/tmp/a", None, missing);
    assert!(lines(&stat).is_empty());
    assert!(lines(&bind(1, 80, CallResult::Err(libc::EADDRINUSE))).is_empty());
    assert_eq!(
        lines(&bind(1, 80, CallResult::Ok(0))),
        [format!("bind 127.0.0.1:80 {}", libc::EADDRINUSE)]
    );
}

#[test]
fn a_port_that_the_kernel_chooses_has_a_pattern() {
    for port in [0, 45_000] {
        let chosen = lines(&bind(1, port, CallResult::Ok(0)));
        assert!(chosen[0].starts_with("bind 127.0.0.1:* "), "{chosen:?}");
    }
}

#[test]
fn a_pattern_has_the_folders_of_this_machine_and_what_is_drawn_is_open() {
    let roots = roots();
    let of = |path: &str| pattern(&places().name(path.as_bytes()), &roots);
    let inside = format!("{}/src/[a].rs", roots.workspace);
    let escaped = format!("{}/src/[[]a[]].rs", roots.workspace);
    assert_eq!(of(&inside), escaped);
    let drawn = format!("{}/.tmpAb12Cd/out-7.txt", roots.temp);
    let open = of(&drawn);
    assert!(open.starts_with(roots.temp.as_str()), "{open}");
    assert!(
        open.ends_with("/out-*.txt") && !open.contains("Ab12Cd"),
        "{open}"
    );
}

#[test]
fn the_folders_of_the_program_itself_are_left_aside() {
    let program = b"/srv/it/target/debug/deps/a-1";
    for place in [&b"/srv/it/target/debug"[..], b"/srv", program] {
        assert!(is_above(place, program));
    }
    for place in [&b"/srv/it/target/debug/dep"[..], b"/srv/it/src"] {
        assert!(!is_above(place, program));
    }
}
