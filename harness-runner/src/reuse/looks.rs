//! Remembers looks at files: the tests of a run ask for the same ones.
//!
//! A look that was taken for one test counts for another, before or after it, if the same is there at the end of the
//! run: the time of a file's last change says so.

use super::{
    state::{Look, State, World},
    times::{is_settled, now},
};
use std::collections::{BTreeSet, HashMap};

/// Looks that are remembered. Tests make up names, and a look at each would take all memory in the end.
const MOST: usize = 100_000;

/// The looks of a run at files, and at names where nothing is.
#[derive(Debug, Default)]
pub(super) struct Looks(HashMap<Vec<u8>, Look>);

impl Looks {
    /// Returns the world for the inputs of one test.
    pub(super) fn of_test<'a>(&'a mut self, world: &'a mut dyn World) -> OfTest<'a> {
        OfTest {
            world,
            of_run: &mut self.0,
            own: HashMap::new(),
        }
    }

    /// Looks again, and returns the paths at which something else is now.
    pub(super) fn changed(&self, world: &mut dyn World) -> BTreeSet<Vec<u8>> {
        let mut changed = BTreeSet::new();
        for (path, look) in &self.0 {
            if world.look(path) != *look {
                changed.insert(path.clone());
            }
        }
        changed
    }
}

/// A world at which a test's inputs are looked at once.
pub(super) struct OfTest<'a> {
    world: &'a mut dyn World,
    of_run: &'a mut HashMap<Vec<u8>, Look>,
    /// Looks at what changes without being another, such as a folder with new names in it, and at files that have just
    /// changed: one more change could have the same time.
    own: HashMap<Vec<u8>, Look>,
}

impl World for OfTest<'_> {
    fn look(&mut self, path: &[u8]) -> Look {
        if let Some(look) = self.of_run.get(path).or_else(|| self.own.get(path)) {
            return look.clone();
        }
        let now = now();
        let look = self.world.look(path);
        let lasts = matches!(look.state, State::File { .. } | State::Absent { .. })
            && look.files.iter().all(|file| is_settled(file, now));
        let looks = match lasts && self.of_run.len() < MOST {
            true => &mut *self.of_run,
            false => &mut self.own,
        };
        looks.insert(path.to_vec(), look.clone());
        look
    }

    fn list(&mut self, path: &[u8]) -> Look {
        self.world.list(path)
    }
}
