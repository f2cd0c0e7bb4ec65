//! Reads again what the fuzzer has found: inputs that reach different places, and those that were
//! mistakes once. `fuzz` has the fuzzer, and says how it runs.

#[path = "fuzzed/readers.rs"]
mod readers;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// The limit of one input, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

#[expect(
    clippy::print_stderr,
    reason = "after a crash the last line names the input"
)]
fn replay(name: &str, read: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let inputs = fs::read_dir(corpus.join(name)).expect("the corpus is kept");
    let mut count = 0;
    for input in inputs {
        let path = input.expect("it is readable").path();
        let data = fs::read(&path).expect("it is readable");
        let started = Instant::now();
        eprintln!("{}", path.display());
        read(&data);
        assert!(started.elapsed() < LIMIT, "{} took long", path.display());
        count += 1;
    }
    assert!(count > 10, "only {count} inputs are kept");
}

#[test]
fn configurations_that_the_fuzzer_found_are_read() {
    replay("configuration", readers::configuration);
}

#[test]
fn settings_of_a_person_that_the_fuzzer_found_are_read() {
    replay("person", readers::person);
}

#[test]
fn filtersets_that_the_fuzzer_found_are_read() {
    replay("filterset", readers::filterset);
}

#[test]
fn archives_that_the_fuzzer_found_are_read() {
    replay("archive", readers::archive);
}
