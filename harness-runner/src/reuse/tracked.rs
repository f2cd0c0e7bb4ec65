//! The paths that a test has made or replaced itself, so that they are no inputs from then on.

use super::state::parent;
use std::collections::{BTreeMap, BTreeSet};

/// Links of a path that are followed.
const LINKS: usize = 16;

/// The paths of a test's own.
#[derive(Clone, Debug, Default)]
pub(super) struct Made {
    paths: BTreeSet<Vec<u8>>,
    /// Those that are symbolic links, with their texts.
    links: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Made {
    pub(super) fn add(&mut self, path: &[u8]) {
        self.links.remove(path);
        self.paths.insert(path.to_vec());
    }

    pub(super) fn add_link(&mut self, path: &[u8], text: &[u8]) {
        self.paths.insert(path.to_vec());
        self.links.insert(path.to_vec(), text.to_vec());
    }

    pub(super) fn has(&self, path: &[u8]) -> bool {
        self.paths.contains(path)
    }

    /// Returns whether a folder above a path is its own.
    pub(super) fn has_above(&self, path: &[u8]) -> bool {
        let mut at = parent(path);
        while at.len() > 1 {
            if self.paths.contains(at) {
                return true;
            }
            at = parent(at);
        }
        false
    }

    /// Gives a path, and all that is below it, another name.
    pub(super) fn rename(&mut self, from: &[u8], to: &[u8]) {
        let renamed = |path: &[u8]| -> Option<Vec<u8>> {
            let rest = path.strip_prefix(from)?;
            (rest.is_empty() || rest[0] == b'/').then(|| [to, rest].concat())
        };
        let more: Vec<_> = self.paths.iter().filter_map(|path| renamed(path)).collect();
        let links: Vec<_> = self
            .links
            .iter()
            .filter_map(|(path, text)| Some((renamed(path)?, text.clone())))
            .collect();
        self.paths.extend(more);
        self.paths.insert(to.to_vec());
        self.links.extend(links);
    }

    /// Returns a path without those of its links that are the test's own. The last name is followed too if `last`.
    pub(super) fn followed(&self, path: &[u8], last: bool) -> Vec<u8> {
        let mut path = path.to_vec();
        for _ in 0..LINKS {
            let Some(next) = self.first_link(&path, last) else {
                break;
            };
            path = next;
        }
        path
    }

    fn first_link(&self, path: &[u8], last: bool) -> Option<Vec<u8>> {
        if self.links.is_empty() {
            return None;
        }
        let ends = (1..path.len()).filter(|&end| path[end] == b'/');
        let ends = ends.chain(last.then_some(path.len()));
        for end in ends {
            let Some(text) = self.links.get(&path[..end]) else {
                continue;
            };
            let base: &[u8] = match text.first() {
                Some(b'/') => b"",
                _ => parent(&path[..end]),
            };
            return Some(lexical(&[base, b"/", text, &path[end..]].concat()));
        }
        None
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.paths.iter().map(Vec::as_slice)
    }
}

/// Returns an absolute path without `.`, `..` and double slashes.
fn lexical(path: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    let mut whole = Vec::with_capacity(path.len());
    for name in names {
        whole.push(b'/');
        whole.extend_from_slice(name);
    }
    if whole.is_empty() {
        whole.push(b'/');
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_links_are_followed_and_others_are_not() {
        let mut made = Made::default();
        made.add(b"/tmp/a");
        made.add_link(b"/tmp/a/link", b"../../etc");
        assert_eq!(made.followed(b"/tmp/a/link/passwd", true), b"/etc/passwd");
        assert_eq!(made.followed(b"/tmp/a/link", false), b"/tmp/a/link");
        assert_eq!(made.followed(b"/tmp/b/link", true), b"/tmp/b/link");
    }

    #[test]
    fn links_in_a_circle_end() {
        let mut made = Made::default();
        made.add_link(b"/tmp/one", b"/tmp/two");
        made.add_link(b"/tmp/two", b"/tmp/one");
        made.followed(b"/tmp/one/x", true);
    }

    #[test]
    fn all_below_a_renamed_folder_has_its_new_name() {
        let mut made = Made::default();
        made.add(b"/tmp/a");
        made.add(b"/tmp/a/x");
        made.add(b"/tmp/ab");
        made.rename(b"/tmp/a", b"/tmp/c");
        assert!(made.has(b"/tmp/c/x"));
        assert!(!made.has(b"/tmp/cb"));
        assert!(made.has_above(b"/tmp/c/y"));
    }
}
