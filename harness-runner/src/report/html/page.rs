//! The page around the data: a skeleton, one style and one script, each allowed by its hash.

use base64::{display::Base64Display, engine::general_purpose::STANDARD};
use miniz_oxide::deflate::compress_to_vec_zlib;
use std::io::{self, Write};

const SKELETON: &str = include_str!("page/skeleton.html");
const STYLE: &str = include_str!("page/style.css");

/// The modules of the script, each after those that it imports.
const MODULES: &[&str] = &[
    include_str!("page/dom.js"),
    include_str!("page/data.js"),
    include_str!("page/state.js"),
    include_str!("page/text.js"),
    include_str!("page/difference.js"),
    include_str!("page/list.js"),
    include_str!("page/timeline.js"),
    include_str!("page/rankings.js"),
    include_str!("page/before.js"),
    include_str!("page/details.js"),
    include_str!("page/main.js"),
];

/// SHA-256 of [`STYLE`] and of [`script`], in Base64, as a content security policy wants them. A test holds
/// them.
const STYLE_HASH: &str = "tZYpY541TD7rr7ARk3b8NHQkxrkPxNjJAcM4kkps/3k=";
const SCRIPT_HASH: &str = "nspDiPKNrtVCd9fMxowtlbACjQIPiWocJIaJkf0wn+8=";

/// The trade of time for size: 9 is 2 % smaller and takes three times as long.
const LEVEL: u8 = 6;

/// Writes the page.
pub(super) fn write(
    to: &mut dyn Write,
    title: &str,
    index: &[u8],
    details: &[u8],
) -> io::Result<()> {
    let mut rest = SKELETON;
    while let Some((before, after)) = rest.split_once("{{") {
        to.write_all(before.as_bytes())?;
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        match name {
            "title" => to.write_all(escaped(title).as_bytes())?,
            "policy" => to.write_all(policy().as_bytes())?,
            "style" => to.write_all(STYLE.as_bytes())?,
            "script" => to.write_all(script().as_bytes())?,
            "index" => data(to, index)?,
            "details" => data(to, details)?,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        rest = after;
    }
    to.write_all(rest.as_bytes())
}

/// Returns the policy of the page: nothing is loaded, sent or run but what is in it.
fn policy() -> String {
    format!(
        "default-src 'none'; script-src 'sha256-{SCRIPT_HASH}'; style-src 'sha256-{STYLE_HASH}'; \
         base-uri 'none'; form-action 'none'"
    )
}

/// Returns the modules as one: a page from disk can load no other file. What they import of each other
/// is in the same scope then.
fn script() -> String {
    let mut script = String::new();
    for module in MODULES {
        for line in module.lines() {
            if line.starts_with("import ") {
                continue;
            }
            script.push_str(line.strip_prefix("export ").unwrap_or(line));
            script.push('\n');
        }
    }
    script
}

fn data(to: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    let compressed = compress_to_vec_zlib(bytes, LEVEL);
    write!(to, "{}", Base64Display::new(&compressed, &STANDARD))
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use std::{
        collections::BTreeSet,
        process::{Command, Stdio},
    };

    fn sha256(text: &str) -> String {
        let mut child = Command::new("sha256sum")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("coreutils are there");
        let mut stdin = child.stdin.take().expect("it is a pipe");
        stdin.write_all(text.as_bytes()).expect("it reads");
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        let hex = String::from_utf8(output.stdout).expect("it is text");
        let bytes: Vec<u8> = (0..32)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("it is hex"))
            .collect();
        STANDARD.encode(bytes)
    }

    #[test]
    fn the_policy_has_the_hashes_of_style_and_script() {
        let (style, script) = (sha256(STYLE), sha256(&script()));
        assert_eq!((STYLE_HASH, SCRIPT_HASH), (&*style, &*script));
    }

    #[test]
    fn modules_import_only_what_stands_before_them() {
        let mut exported: Vec<String> = Vec::new();
        for module in MODULES {
            for line in module.lines() {
                if let Some(names) = line.strip_prefix("import { ") {
                    let (names, _) = names.split_once(" }").expect("an import is one line");
                    for name in names.split(", ") {
                        assert!(exported.iter().any(|known| known == name), "{name}");
                    }
                }
                if let Some(what) = line.strip_prefix("export ") {
                    let mut words = what.split([' ', '(']).skip(1);
                    exported.extend(words.find(|word| *word != "function").map(str::to_owned));
                }
            }
        }
        let script = script();
        let mut names = BTreeSet::new();
        for line in script.lines() {
            let line = line.strip_prefix("async ").unwrap_or(line);
            let mut words = line.split([' ', '(', ',']);
            if let Some("function" | "const" | "let" | "class") = words.next() {
                let name = words.next().unwrap_or_default();
                assert!(names.insert(name), "`{name}` is declared twice");
            }
        }
        assert!(
            !script.contains("innerHTML") && !script.contains("</"),
            "output is text"
        );
    }
}
