//! Reads what `strace -ff -xx` wrote: one file a task.

use super::{Call, Process};
use std::{collections::BTreeMap, fs, path::Path};

/// Reads the files `NAME.PID` of one test. The calls of a thread are those of its process.
pub(super) fn read(folder: &Path, name: &str) -> Vec<Process> {
    let mut tasks = BTreeMap::new();
    let prefix = format!("{name}.");
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let entry = entry.expect("it can be read");
        let file = entry.file_name().into_string().expect("it is UTF-8");
        if let Some(id) = file.strip_prefix(&prefix) {
            let id: i32 = id.parse().expect("strace ends it with an id");
            let text = fs::read_to_string(entry.path()).expect("-xx leaves ASCII");
            tasks.insert(id, text);
        }
    }
    let mut parents = BTreeMap::new();
    let mut threads = BTreeMap::new();
    for (id, text) in &tasks {
        for line in text.lines() {
            let Some((call, arguments, result)) = split(line) else {
                continue;
            };
            let Ok(child) = result.parse::<i32>() else {
                continue;
            };
            if matches!(call, "clone" | "clone3" | "fork" | "vfork") && child > 0 {
                let thread = arguments.contains("CLONE_THREAD");
                parents.insert(child, *id);
                if thread {
                    threads.insert(child, *id);
                }
            }
        }
    }
    let leader = |mut id: i32| {
        while let Some(creator) = threads.get(&id) {
            id = *creator;
        }
        id
    };
    let mut processes: BTreeMap<i32, Process> = BTreeMap::new();
    for (id, text) in &tasks {
        let process = processes.entry(leader(*id)).or_insert_with(|| Process {
            id: leader(*id),
            creator: parents.get(&leader(*id)).map(|creator| leader(*creator)),
            calls: Vec::new(),
        });
        process.calls.extend(text.lines().filter_map(call));
    }
    processes.into_values().collect()
}

/// Splits `call(arguments) = result …`.
fn split(line: &str) -> Option<(&str, &str, &str)> {
    let (call, rest) = line.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(") = ").or_else(|| {
        // strace aligns short calls by spaces before the equals sign.
        let (before, result) = rest.rsplit_once(" = ")?;
        Some((before.trim_end().strip_suffix(')')?, result))
    })?;
    Some((call, arguments, result.split(' ').next()?))
}

fn call(line: &str) -> Option<Call> {
    let (call, arguments, result) = split(line)?;
    let error = line
        .rsplit_once(" = -1 ")
        .map(|(_, error)| error.split(' ').next().unwrap_or_default().to_owned());
    if result == "?" {
        return None;
    }
    let paths = strings(arguments, call);
    Some(Call {
        call: call.to_owned(),
        paths,
        error,
    })
}

/// Returns the paths among the arguments: the literals that are not within an array or a struct.
fn strings(arguments: &str, call: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut depth = 0;
    let mut rest = arguments;
    while let Some(at) = rest.find(['"', '[', ']', '{', '}']) {
        let (mark, after) = (rest.as_bytes()[at], &rest[at + 1..]);
        rest = after;
        match mark {
            b'"' => {
                let end = after.find('"').expect("a literal ends");
                if depth == 0 {
                    found.push(bytes(&after[..end]));
                }
                rest = &after[end + 1..];
            }
            b'[' | b'{' => depth += 1,
            _ => depth -= 1,
        }
    }
    // The text that readlink(2) returned is not an argument.
    if call.starts_with("readlink") {
        found.truncate(1);
    }
    found
}

/// Decodes `\x41\x42`.
fn bytes(literal: &str) -> Vec<u8> {
    literal
        .split("\\x")
        .skip(1)
        .map(|digits| u8::from_str_radix(&digits[..2], 16).expect("-xx writes two digits"))
        .collect()
}

#[test]
fn lines_of_strace_are_understood() {
    let line = r#"openat(AT_FDCWD, "\x2f\x61", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file or directory)"#;
    let expected = Call {
        call: "openat".to_owned(),
        paths: vec![b"/a".to_vec()],
        error: Some("ENOENT".to_owned()),
    };
    assert_eq!(call(line), Some(expected));
    let line = r#"execve("\x2f\x62", ["\x62", "\x63"], 0x7ffd /* 20 vars */) = 0"#;
    let expected = Call {
        call: "execve".to_owned(),
        paths: vec![b"/b".to_vec()],
        error: None,
    };
    assert_eq!(call(line), Some(expected));
    assert_eq!(call("exit_group(0) = ?"), None);
}
