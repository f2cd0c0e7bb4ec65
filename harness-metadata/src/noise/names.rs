//! Names that last from attempt to attempt and from run to run, so that two traces of a test can be compared.

use super::find;
use std::collections::BTreeSet;

/// Folders for temporary files.
const TEMPORARY: [&[u8]; 4] = [b"/tmp", b"/var/tmp", b"/dev/shm", b"/run/user"];

/// Beginnings of names as mktemp(1) and the crate `tempfile` draw them.
const DRAWN: [&[u8]; 2] = [b".tmp", b"tmp."];

/// The sources of the names of one attempt.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// The root of the workspace; empty to leave it as it is.
    pub workspace: Vec<u8>,
    /// A folder for temporary files beside the usual ones; empty if there is none.
    pub temp: Vec<u8>,
    /// The processes of the attempt so far.
    pub pids: BTreeSet<i32>,
}

impl Names {
    /// Returns a path without what is made up anew for each attempt: the place of the workspace, ids of
    /// processes, hashes, drawn names, and in folders for temporary files numbers.
    pub fn path(&self, path: &[u8]) -> Vec<u8> {
        let (root, rest) = match path.strip_prefix(self.workspace.as_slice()) {
            Some(rest) if self.workspace.is_empty() => (&b""[..], rest),
            Some(rest) if rest.is_empty() || rest.starts_with(b"/") => (&b"{workspace}"[..], rest),
            _ => (&b""[..], path),
        };
        let temporary = self.is_temporary(path);
        let mut name = root.to_vec();
        for (number, part) in rest.split(|byte| *byte == b'/').enumerate() {
            if number > 0 {
                name.push(b'/');
            }
            match temporary {
                true => name.extend(lasting(part)),
                false => name.extend(self.outside(part)),
            }
        }
        name
    }

    /// As [`Self::path`], for a text that may have paths in it, such as a command line.
    pub fn text(&self, text: &str) -> Vec<u8> {
        let mut name = Vec::with_capacity(text.len());
        let between = |c: char| matches!(c, ' ' | '\'' | '"' | '=' | ':' | ',' | '@');
        for word in text.split_inclusive(between) {
            let inner = word.trim_end_matches(between);
            name.extend(self.path(inner.as_bytes()));
            name.extend(&word.as_bytes()[inner.len()..]);
        }
        name
    }

    fn is_temporary(&self, path: &[u8]) -> bool {
        let below = |folder: &[u8]| {
            let rest = path.strip_prefix(folder);
            !folder.is_empty() && rest.is_some_and(|rest| rest.starts_with(b"/"))
        };
        TEMPORARY.into_iter().any(below)
            || below(&self.temp)
            || find(path, b"/target/tmp/").is_some()
    }

    /// Returns a part of a path that is in no folder for temporary files.
    fn outside(&self, part: &[u8]) -> Vec<u8> {
        if DRAWN.iter().any(|by| part.starts_with(by)) {
            return b".tmp*".to_vec();
        }
        let part = without_hashes(part);
        each_number(&part, |digits| {
            let number = std::str::from_utf8(digits).ok()?.parse::<i32>().ok()?;
            self.pids.contains(&number).then_some(&b"{pid}"[..])
        })
    }
}

/// Returns a name in a folder for temporary files without its random part and its numbers.
fn lasting(part: &[u8]) -> Vec<u8> {
    // As tempfile(3) and its kin make them: `.tmpAb12Cd`, `tmp.Ab12Cd34Ef`, `name-Ab12Cd`, `tmpab12_x9z`.
    let is_separator = |byte: &u8| matches!(byte, b'.' | b'-' | b'_');
    let start = part.iter().rposition(is_separator).map_or(0, |at| at + 1);
    let (head, tail) = part.split_at(start);
    let (kept, random) = match tail.strip_prefix(b"tmp") {
        Some(rest) if rest.len() >= 6 => (&b"tmp"[..], rest),
        _ => (&b""[..], tail),
    };
    let text = if is_random(random) || !kept.is_empty() {
        [head, kept, b"*"].concat()
    } else {
        part.to_vec()
    };
    each_number(&without_hashes(&text), |_| Some(&b"#"[..]))
}

/// Returns whether a word looks as if it was drawn: letters of both cases, or letters and digits, mixed.
fn is_random(word: &[u8]) -> bool {
    let has = |is: fn(&u8) -> bool| word.iter().any(is);
    let mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
        || has(u8::is_ascii_lowercase) && word.iter().skip(1).any(u8::is_ascii_uppercase);
    (6..=40).contains(&word.len()) && word.iter().all(u8::is_ascii_alphanumeric) && mixed
}

/// Replaces hashes and UUIDs: words of at least eight hexadecimal digits, some of them letters and some not.
fn without_hashes(part: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(part.len());
    for word in part.split_inclusive(|byte| !byte.is_ascii_alphanumeric()) {
        let end = word.iter().rposition(u8::is_ascii_alphanumeric);
        let (plain, rest) = word.split_at(end.map_or(0, |at| at + 1));
        let has = |is: fn(&u8) -> bool| plain.iter().any(is);
        // The parts of a UUID after the first are shorter.
        let hash = plain.len() >= 8 && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
            || plain.len() == 4 && out.ends_with(b"{hash}-")
            || plain.len() == 12 && out.ends_with(b"{hash}-");
        match hash && plain.iter().all(u8::is_ascii_hexdigit) {
            true => out.extend_from_slice(b"{hash}"),
            false => out.extend_from_slice(plain),
        }
        out.extend_from_slice(rest);
    }
    out
}

/// Replaces numbers.
fn each_number<'a>(text: &[u8], by: impl Fn(&[u8]) -> Option<&'a [u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for run in text.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()) {
        match run[0].is_ascii_digit().then(|| by(run)).flatten() {
            Some(instead) => out.extend_from_slice(instead),
            None => out.extend_from_slice(run),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            workspace: b"/home/me/project".to_vec(),
            temp: b"/scratch".to_vec(),
            pids: [4711].into(),
        }
    }

    #[test]
    fn what_is_made_up_for_an_attempt_is_left_out_of_names() {
        let cases = [
            ("/home/me/project", "{workspace}"),
            ("/home/me/project/data/a1.json", "{workspace}/data/a1.json"),
            ("/home/me/project2/data", "/home/me/project2/data"),
            ("/var/log/x-4711.log", "/var/log/x-{pid}.log"),
            ("/var/log/x-4712.log", "/var/log/x-4712.log"),
            ("/tmp/.tmpQ3xZk9/file", "/tmp/.tmp*/file"),
            ("/scratch/tmp.AbCdEfGh12/out.txt", "/scratch/tmp.*/out.txt"),
            ("/tmp/suite-x8Kq2Z/log", "/tmp/suite-*/log"),
            ("/tmp/tmpab12_x9z/log", "/tmp/tmpab#_x#z/log"),
            ("/tmp/server-4711.sock", "/tmp/server-#.sock"),
            ("/tmp/shared/state.json", "/tmp/shared/state.json"),
            ("/srv/target/tmp/run17/x", "/srv/target/tmp/run#/x"),
            ("/srv/work/.tmpQ3xZk9/file", "/srv/work/.tmp*/file"),
            ("/srv/deps/app-7b38ac87bbe2ca76", "/srv/deps/app-{hash}"),
            (
                "/srv/6f1ed002-ab59-4f6f-abcd-6d2f3e1d9c11/x",
                "/srv/{hash}-{hash}-{hash}-{hash}-{hash}/x",
            ),
            ("/srv/20261127/decade", "/srv/20261127/decade"),
            ("/srv/facade/ä4711é", "/srv/facade/ä{pid}é"),
        ];
        for (path, name) in cases {
            let found = names().path(path.as_bytes());
            assert_eq!(String::from_utf8(found).unwrap(), name, "{path}");
        }
    }

    #[test]
    fn paths_in_a_command_line_last_too() {
        let cases = [
            ("sh -c 'kill 4711'", "sh -c 'kill {pid}'"),
            ("cat '/tmp/.tmpAb12Cd/a b'", "cat '/tmp/.tmp*/a b'"),
            (
                "cc -I/x --out=/tmp/cc-Ab12Cd,/home/me/project/o",
                "cc -I/x --out=/tmp/cc-*,{workspace}/o",
            ),
            ("sleep 17", "sleep 17"),
            ("", ""),
        ];
        for (text, name) in cases {
            let found = names().text(text);
            assert_eq!(String::from_utf8(found).unwrap(), name, "{text}");
        }
    }

    #[test]
    fn other_names_stay_apart() {
        for (one, other) in [
            ("/etc/app.toml", "/etc/app.json"),
            ("/tmp/.tmpAb12Cd/input", "/tmp/.tmpAb12Cd/output"),
            ("/data/run-17/input", "/data/run-4/input"),
            ("", "/"),
        ] {
            let of = |path: &str| Names::default().path(path.as_bytes());
            assert_ne!(of(one), of(other), "{one} and {other}");
        }
    }
}
