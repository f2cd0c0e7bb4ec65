#![no_main]

#[path = "../../tests/fuzzed/readers.rs"]
#[allow(dead_code, reason = "each target has one of them")]
mod readers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| readers::person(data));
