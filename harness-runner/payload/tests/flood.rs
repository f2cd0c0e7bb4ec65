//! A program that prints far more than fits into memory. A program of its own, whose memory is measured.

use harness_payload::{Format, MOST_KEPT, Payload};
use std::fs;

const GIB: u64 = 1 << 30;

/// The most memory that this process has ever used, in bytes.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("it is there");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("it is there");
    let kib = line
        .trim()
        .trim_end_matches(" kB")
        .parse::<u64>()
        .expect("it is a number");
    kib * 1024
}

#[test]
fn ten_gibibytes_of_output_take_bounded_memory() {
    let before = peak_memory();
    let flood = Payload::new("flood", "sh").format(Format::KeyValue);
    let script = "echo first=1; head -c 10737418240 /dev/zero; echo; echo last=2";
    let report = flood
        .invoke()
        .args(["-c", script])
        .run()
        .expect("it starts");
    report.assert_passed();
    let stdout = &report.stdout;
    assert_eq!(stdout.total(), 10 * GIB + 8 + 1 + 7);
    assert_eq!(
        (stdout.head().len(), stdout.tail().len()),
        (MOST_KEPT / 2, MOST_KEPT / 2)
    );
    assert_eq!(
        (report.metric("first"), report.metric("last")),
        (Some(1.0), Some(2.0))
    );
    assert!(
        report
            .to_string()
            .contains("bytes were left out, and metrics among them are not known")
    );
    let more = peak_memory() - before;
    assert!(more < 4 * MOST_KEPT as u64, "{more} bytes of memory");
}
