//! Names that do not change from attempt to attempt.

use crate::answers::rules::Roots;
use camino::Utf8Path;

/// The names of one attempt.
pub(super) struct Names<'a> {
    /// The root of the workspace in the run that the attempt belongs to.
    pub(super) workspace: &'a Utf8Path,
    pub(super) roots: &'a Roots,
    /// Its processes so far.
    pub(super) pids: std::collections::BTreeSet<i32>,
}

impl Names<'_> {
    /// Returns a path without what is made up anew for each attempt: the place of the workspace, ids of
    /// processes, and in folders for temporary files random names and numbers.
    pub(super) fn path(&self, path: &[u8]) -> Vec<u8> {
        let workspace = self.workspace.as_str().as_bytes();
        let (root, rest) = match path.strip_prefix(workspace) {
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
                false => name.extend(self.without_pids(part)),
            }
        }
        name
    }

    fn is_temporary(&self, path: &[u8]) -> bool {
        let below = |folder: &[u8]| {
            let rest = path.strip_prefix(folder);
            rest.is_some_and(|rest| rest.starts_with(b"/"))
        };
        let folders = [
            self.roots.temp.as_str().as_bytes(),
            b"/tmp",
            b"/var/tmp",
            b"/dev/shm",
        ];
        folders.into_iter().any(below) || memchr::memmem::find(path, b"/target/tmp/").is_some()
    }

    /// Returns a part of a path with `{pid}` in the place of a process of the attempt.
    fn without_pids(&self, part: &[u8]) -> Vec<u8> {
        each_number(part, |digits| {
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
    each_number(&text, |_| Some(&b"#"[..]))
}

/// Returns whether a word looks as if it was drawn: letters of both cases, or letters and digits, mixed.
fn is_random(word: &[u8]) -> bool {
    let has = |is: fn(&u8) -> bool| word.iter().any(is);
    let mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
        || has(u8::is_ascii_lowercase) && word.iter().skip(1).any(u8::is_ascii_uppercase);
    (6..=40).contains(&word.len()) && word.iter().all(u8::is_ascii_alphanumeric) && mixed
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

    #[test]
    fn what_is_made_up_for_an_attempt_is_left_out_of_names() {
        let roots = Roots {
            temp: "/scratch".into(),
            ..Roots::default()
        };
        let names = Names {
            workspace: "/home/me/project".into(),
            roots: &roots,
            pids: [4711].into(),
        };
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
        ];
        for (path, name) in cases {
            let found = names.path(path.as_bytes());
            assert_eq!(String::from_utf8(found).unwrap(), name, "{path}");
        }
    }
}
