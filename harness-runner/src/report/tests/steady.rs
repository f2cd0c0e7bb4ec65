//! Two runs of a test that fails in the same way, with other ids and addresses.

use super::*;

/// Returns the report of a test that failed twice and names its process, its thread and an address.
fn report(pid: u32, tid: u32, address: u64) -> String {
    let test = test("fails");
    let printed = format!(
        "thread 'fails' ({tid}) panicked at src/a.rs:3:5:\npid {pid} is not at {address:#x}\n"
    );
    let mut outputs = Memory::default();
    outputs.put(&test, 1, b"", printed.as_bytes());
    outputs.put(&test, 2, b"", printed.as_bytes());
    let killed = |number| Attempt {
        pid: Some(i32::try_from(pid).expect("it is small")),
        ..code(number, 101)
    };
    junit(
        &run(vec![(test, vec![killed(1), killed(2)])]),
        &outputs,
        |options| options.properties = true,
    )
}

/// Returns the values of an attribute.
fn attributes<'a>(report: &'a str, name: &str) -> Vec<&'a str> {
    let before = format!(" {name}=\"");
    let starts = report.match_indices(&before);
    starts
        .map(|(at, _)| {
            let rest = &report[at + before.len()..];
            rest.split('"').next().expect("it ends")
        })
        .collect()
}

#[test]
fn messages_of_two_runs_are_the_same_and_the_output_is_as_it_was() {
    let one = report(4711, 4712, 0x7f01_0203_0405);
    let other = report(15, 16, 0x55aa_0000_1111);
    for name in ["message", "type", "name", "value"] {
        assert_eq!(attributes(&one, name), attributes(&other, name));
    }
    assert_eq!(attributes(&one, "message"), ["pid … is not at 0x…"; 2]);
    for printed in ["pid 4711 is not at 0x7f0102030405", "pid … is not at 0x…\n"] {
        assert!(one.contains(printed), "{printed} in {one}");
    }
    assert!(!one.contains("4712"), "{one}");
}
