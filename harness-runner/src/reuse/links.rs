//! The places that a path leads through: itself, the symbolic links on its way, and what it leads to.

use std::{
    collections::{HashMap, VecDeque},
    ffi::OsStr,
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
};

/// The most links that are followed (path_resolution(7)).
const MOST: usize = 40;

/// The symbolic links of this machine, each looked at once.
#[derive(Debug, Default)]
pub(super) struct Links(HashMap<Vec<u8>, Option<Vec<u8>>>);

impl Links {
    /// Returns the places of an absolute path, itself first.
    pub(super) fn places(&mut self, path: &[u8]) -> Vec<Vec<u8>> {
        let mut places = vec![path.to_vec()];
        let mut names: VecDeque<Vec<u8>> = names(path).collect();
        let mut at = Vec::new();
        let mut followed = 0;
        while let Some(name) = names.pop_front() {
            if name == b".." {
                at.truncate(at.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                continue;
            }
            let here = [at.as_slice(), b"/", &name].concat();
            match self.text(&here) {
                Some(text) if followed < MOST => {
                    followed += 1;
                    if text.first() == Some(&b'/') {
                        at.clear();
                    }
                    for name in self::names(&text).collect::<Vec<_>>().into_iter().rev() {
                        names.push_front(name);
                    }
                    places.push(here);
                }
                _ => at = here,
            }
        }
        places.push(at);
        places.dedup();
        places
    }

    /// Returns a path whose last name is not followed, with what its folder leads to.
    pub(super) fn entry(&mut self, path: &[u8]) -> Vec<u8> {
        let Some(end) = path.iter().rposition(|byte| *byte == b'/') else {
            return path.to_vec();
        };
        let folder = self.places(&path[..end]).pop().unwrap_or_default();
        [folder.as_slice(), &path[end..]].concat()
    }

    /// Returns the text of a link; `None` for what is none.
    fn text(&mut self, path: &[u8]) -> Option<Vec<u8>> {
        let read = || fs::read_link(OsStr::from_bytes(path)).ok();
        let text = || read().map(|text| text.into_os_string().into_vec());
        self.0.entry(path.to_vec()).or_insert_with(text).clone()
    }
}

fn names(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let names = path.split(|byte| *byte == b'/');
    names
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn each_link_on_the_way_is_a_place_and_so_is_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("real/in")).unwrap();
        symlink("real", root.join("first")).unwrap();
        symlink(root.join("first/in"), root.join("second")).unwrap();
        symlink("round", root.join("round")).unwrap();
        let at = |name: &str| root.join(name).into_os_string().into_vec();
        let mut links = Links::default();
        assert_eq!(
            links.places(&at("second/../file")),
            [
                at("second/../file"),
                at("second"),
                at("first"),
                at("real/file")
            ]
        );
        assert_eq!(links.places(&at("real/in")), [at("real/in")]);
        assert_eq!(links.entry(&at("second/round")), at("real/in/round"));
        assert_eq!(links.places(&at("round")).first(), Some(&at("round")));
    }
}
