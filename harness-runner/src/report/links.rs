//! Links to places in the source that a terminal can open (OSC 8).

use serde::{Deserialize, Serialize};

/// The form of links to places in the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// The address, in which `{host}`, `{path}` and `{line}` are replaced.
    pub format: String,
    /// The name of this machine.
    pub host: String,
}

impl Links {
    /// The address that terminals and editors know: a file of this machine, with the line as its fragment.
    pub const FORMAT: &'static str = "file://{host}{path}#{line}";

    /// Returns a text that leads to a line of a file in the workspace.
    pub(super) fn link(&self, text: &str, root: &str, file: &str, line: u32) -> String {
        let path = format!("{}/{file}", root.trim_end_matches('/'));
        let address = (self.format)
            .replace("{host}", &encoded(&self.host))
            .replace("{path}", &encoded(&path))
            .replace("{line}", &line.to_string());
        // The rest of the format must not end the sequence.
        let address: String = address.chars().filter(|c| !c.is_control()).collect();
        format!("\x1b]8;;{address}\x1b\\{text}\x1b]8;;\x1b\\")
    }
}

/// Returns a path as a part of an address (RFC 3986).
fn encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_path_or_a_format_ends_the_sequence() {
        let mut links = Links {
            format: Links::FORMAT.to_owned(),
            host: "box".to_owned(),
        };
        assert_eq!(
            links.link("a.rs:3", "/home/ada", "src/a b\x1b;é.rs", 3),
            "\x1b]8;;file://box/home/ada/src/a%20b%1B%3B%C3%A9.rs#3\x1b\\a.rs:3\x1b]8;;\x1b\\"
        );
        links.format = "vscode://file{path}:{line}\x1b\\".to_owned();
        assert_eq!(
            links.link("x", "/", "a.rs", 7),
            "\x1b]8;;vscode://file/a.rs:7\\\x1b\\x\x1b]8;;\x1b\\"
        );
    }
}
