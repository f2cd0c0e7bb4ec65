//! The executables of a build: their maps of functions, and what records the functions that tests enter.

use super::{Notice, Session};
use crate::{
    functions::{Difference, Map},
    reuse::{self, Digest, Here, Ledger, Maps, Program, Programs},
    sys::Identity,
    tracer::entries::{self, EntryFiles, Executables, Recorded},
};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::TestId;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

/// Copies that no run has used since then are removed.
const KEPT: Duration = Duration::from_secs(86_400);

/// The files by which a run records entries. They are removed when this is dropped.
#[derive(Debug)]
pub(super) struct OfRun {
    folder: Utf8PathBuf,
    /// The executables, in their order in the list for stubs.
    pub(super) programs: Vec<Program>,
}

impl OfRun {
    pub(super) fn files(&self) -> EntryFiles {
        EntryFiles::new(&self.folder)
    }
}

impl Drop for OfRun {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Session {
    /// Returns the executables of the build with their contents; those without a map get one. Without one an executable
    /// counts as a whole, and a sentence says why.
    pub(super) fn programs(&self, here: &mut Here, notify: &mut dyn FnMut(Notice)) -> Programs {
        let mut maps = Maps::of(&self.store);
        let mut now = BTreeMap::new();
        let mut without: BTreeMap<String, Vec<Utf8PathBuf>> = BTreeMap::new();
        let crates = self.crates();
        for path in self.executables() {
            let Ok(digest) = reuse::digest_of(here, &path) else {
                continue;
            };
            now.insert(path.clone(), digest);
            if maps.get(digest).is_some() {
                continue;
            }
            let made = self.map(&path, &crates);
            let kept =
                made.and_then(|map| maps.keep(digest, map).map_err(|error| error.to_string()));
            if let Err(reason) = kept {
                without.entry(reason).or_default().push(path);
            }
        }
        for (reason, paths) in without {
            let more = match paths.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let path = &paths[0];
            notify(Notice::Functions(format!(
                "functions of `{path}`{more} are not told apart, so a change of it counts as a whole: {reason}"
            )));
        }
        maps.tidy();
        Programs::new(now, maps)
    }

    fn map(&self, path: &Utf8Path, crates: &[String]) -> Result<Map, String> {
        if self.built.optimized {
            return Err("crates of it may be optimized, as in a release build".to_owned());
        }
        let bytes = fs::read(path).map_err(|error| error.to_string())?;
        Map::read(&bytes, crates, self.built.optimized).map_err(|error| error.to_string())
    }

    fn executables(&self) -> BTreeSet<Utf8PathBuf> {
        let tests = self.plan.tests.iter();
        let binaries = tests.map(|test| self.tests.binaries[test.binary].binary.path.clone());
        binaries
            .chain(self.built.programs.iter().cloned())
            .collect()
    }

    /// Returns the names of the workspace's crates, as they are in symbols.
    fn crates(&self) -> Vec<String> {
        let packages = self.workspace.graph.packages();
        let members = packages.filter(|package| package.in_workspace());
        let names = members.flat_map(|package| {
            let targets = package.build_targets();
            targets
                .map(|target| target.name().replace('-', "_"))
                .collect::<Vec<_>>()
        });
        let names: BTreeSet<String> = names.collect();
        names.into_iter().collect()
    }

    /// Prepares the record of entries of a run; `None` if none is made.
    pub(super) fn records(&self, programs: &mut Programs) -> Option<OfRun> {
        let folder = reuse::folder(&self.store).join("entries");
        let copies = reuse::folder(&self.store).join("copies");
        let mut of_run = OfRun {
            folder: folder.join(self.run_id.to_string()),
            programs: Vec::new(),
        };
        // Without a place for them nothing is recorded, and executables count as a whole.
        fs::create_dir_all(&of_run.folder).ok()?;
        fs::create_dir_all(&copies).ok()?;
        reuse::remove_old(&folder, KEPT);
        reuse::remove_old(&copies, KEPT);
        let now: Vec<(Utf8PathBuf, Digest)> = programs
            .now
            .iter()
            .map(|(path, digest)| (path.clone(), *digest))
            .collect();
        let (mut all, mut recorded) = (Vec::new(), Vec::new());
        for (path, digest) in now {
            let Some(map) = programs.maps().get(digest) else {
                continue;
            };
            let copy = copies.join(format!("{digest}-{}", map.functions.len()));
            let Ok(Some(it)) = prepare(&path, &map, copy) else {
                continue;
            };
            all.push(Program {
                path,
                digest,
                map: Arc::new((*map).clone()),
                shape: it.shape.clone(),
            });
            recorded.push(it);
        }
        let list = of_run.files().executables();
        fs::write(list, Executables(recorded).to_bytes()).ok()?;
        of_run.programs = all;
        Some(of_run)
    }
}

/// Returns what a stub has to know of an executable; `None` if it cannot be recorded.
fn prepare(path: &Utf8Path, map: &Map, copy: Utf8PathBuf) -> io::Result<Option<Recorded>> {
    let Some(executable) = Identity::of(path) else {
        return Ok(None);
    };
    let bytes = fs::read(path)?;
    let Ok((content, shape)) = entries::copy(&bytes, &map.patch().entries) else {
        return Ok(None);
    };
    let there = fs::metadata(&copy).is_ok_and(|it| it.len() == content.len() as u64);
    match there {
        true => reuse::touch(&copy)?,
        false => crate::own_files::replace(&copy, &content)?,
    }
    Ok(Some(Recorded {
        executable,
        copy,
        shape,
    }))
}

/// An executable, compared with an earlier build of it.
#[derive(Debug)]
pub struct ChangedProgram {
    /// Its path.
    pub path: Utf8PathBuf,
    /// The functions that differ, or why that is not known.
    pub functions: Result<Vec<ChangedFunction>, String>,
}

/// A function that differs.
#[derive(Debug)]
pub struct ChangedFunction {
    /// The difference.
    pub difference: Difference,
    /// The tests that entered it when they passed last.
    pub tests: Vec<TestId>,
}

impl Session {
    /// Returns how the executables differ from those in another target directory, or from those with which tests passed
    /// last. Those that are the same are left out. [`Self::decide`] comes before it.
    pub fn changed_functions(&self, base: Option<&Utf8Path>) -> Vec<ChangedProgram> {
        let Some(reusing) = &self.reusing else {
            return Vec::new();
        };
        let ledger = reusing.ledger();
        let mut programs = reusing.programs();
        let now: Vec<(Utf8PathBuf, Digest)> = programs
            .now
            .iter()
            .map(|(path, digest)| (path.clone(), *digest))
            .collect();
        let mut all = Vec::new();
        for (path, digest) in now {
            let before = match base {
                Some(base) => self.map_in(base, &path),
                None => {
                    let before = last_entered(ledger, &path);
                    if before == Some(digest) {
                        continue;
                    }
                    let map = before.map(|before| programs.maps().get(before));
                    let map = map.ok_or("no test that passed is known to have entered it");
                    map.and_then(|map| map.ok_or("there is no map of its earlier build"))
                        .map_err(str::to_owned)
                }
            };
            let now = programs.maps().get(digest).ok_or("it has no map");
            let both = before.and_then(|before| Ok((before, now?)));
            let functions = both.map(|(before, now)| {
                let differences = now.differences(&before, false).into_iter();
                let differences = differences.map(|difference| ChangedFunction {
                    tests: entering(ledger, programs.maps(), &path, &difference),
                    difference,
                });
                differences.collect::<Vec<_>>()
            });
            if functions.as_ref().is_ok_and(Vec::is_empty) {
                continue;
            }
            all.push(ChangedProgram { path, functions });
        }
        all
    }

    /// Returns the map of an executable in another target directory.
    fn map_in(&self, base: &Utf8Path, path: &Utf8Path) -> Result<Rc<Map>, String> {
        let below = path.strip_prefix(self.workspace.target_directory());
        let there = base.join(below.map_err(|_| "it is outside of the target directory")?);
        let there = match there.is_file() {
            true => there,
            false => sibling(&there).ok_or_else(|| format!("there is no `{there}`"))?,
        };
        self.map(&there, &self.crates()).map(Rc::new)
    }
}

/// Returns the only file in a folder that has the same name but for the hash at its end.
fn sibling(path: &Utf8Path) -> Option<Utf8PathBuf> {
    let stem = |name: &str| name.rsplit_once('-').map(|(stem, _)| stem.to_owned());
    let wanted = stem(path.file_name()?)?;
    let entries = path.parent()?.read_dir_utf8().ok()?.flatten();
    let same = entries.filter(|entry| {
        let name = entry.file_name();
        !name.contains('.') && stem(name).as_ref() == Some(&wanted)
    });
    let found: Vec<_> = same.collect();
    match &found[..] {
        [only] => Some(only.path().to_owned()),
        _ => None,
    }
}

/// Returns the content of an executable with which a test passed last.
fn last_entered(ledger: &Ledger, path: &Utf8Path) -> Option<Digest> {
    let passes = ledger
        .tests
        .values()
        .filter_map(|stored| stored.passes.first());
    let entered = passes.flat_map(|pass| {
        let of_path = pass.entered.iter().filter(|it| it.path == path);
        of_path.map(|it| (pass.at, it.digest))
    });
    entered.max().map(|(_, digest)| digest)
}

/// Returns the tests that entered a function when they passed last. What runs before `main` all of them did.
fn entering(
    ledger: &Ledger,
    maps: &mut Maps,
    path: &Utf8Path,
    difference: &Difference,
) -> Vec<TestId> {
    let mut tests = Vec::new();
    for (test, stored) in &ledger.tests {
        let entered = stored
            .passes
            .first()
            .into_iter()
            .flat_map(|pass| &pass.entered);
        let mut entered = entered.filter(|it| it.path == path);
        let has = |name: &str, it: &reuse::Entered, maps: &mut Maps| {
            let map = maps.get(it.digest);
            map.is_some_and(|map| {
                let mut functions = it.functions.iter();
                let names = |number: &u32| map.functions.get(*number as usize);
                functions.any(|number| names(number).is_some_and(|it| it.name == name))
            })
        };
        let found = entered.any(|it| match difference {
            Difference::Function(name) | Difference::Gone(name) => has(name, it, maps),
            Difference::Beginning => true,
            Difference::Test => false,
        });
        if found {
            tests.push(test.clone());
        }
    }
    tests
}
