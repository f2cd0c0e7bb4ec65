//! A test under other conditions: what it did otherwise than as usual.
//!
//! Each run becomes an [`Observation`]. A condition is blamed only for what was the same in all usual runs, the
//! same in all runs under it, and different between the two. The rest varies by itself, and is counted.

#[cfg(test)]
mod tests;

use super::{
    difference::{Answered, Asked, Observed},
    rules::{Roots, noise},
    uses::{Gap, Thing, Uses},
};
use crate::{store::Found, tracer::record::file::ReadError};
use harness_metadata::{
    TraceEvent, TraceEventKind,
    event::TraceLevel,
    noise::Names,
    trace::{Created, Creation},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// The folders that have the same names in all runs, wherever they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places(Vec<(Vec<u8>, &'static str)>);

/// The name of the folder for temporary files.
const TEMPORARY: &str = "{temp}";

impl Places {
    /// Names the workspace, and all folders for temporary files and home folders, the usual ones and others.
    pub fn new(roots: &Roots, temporary: &Path, home: &Path) -> Self {
        let bytes = |path: &Path| path.as_os_str().as_encoded_bytes().to_vec();
        let mut all = vec![
            (bytes(roots.workspace.as_std_path()), "{workspace}"),
            (bytes(roots.temp.as_std_path()), TEMPORARY),
            (bytes(temporary), TEMPORARY),
            (bytes(home), "~"),
        ];
        let usual = roots.home.as_ref();
        all.extend(usual.map(|home| (bytes(home.as_std_path()), "~")));
        // Below an empty path is every path.
        all.retain(|(folder, _)| !folder.is_empty());
        // One may be within another.
        all.sort_by_key(|(folder, _)| std::cmp::Reverse(folder.len()));
        Self(all)
    }

    /// Returns the name that a path has in all runs.
    pub fn name(&self, path: &[u8]) -> String {
        let observed = Observed::new(names(), &|_| true).with_places(&self.0);
        observed.shown(path)
    }
}

/// The answers that a test got in one run.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// The way in which it ended, such as `PASS` or `SIGABRT`.
    pub ending: String,
    /// Each question, with its answers.
    pub asked: BTreeMap<Asked, Answered>,
    /// The processes that it started.
    pub children: u64,
    /// The threads that it started.
    pub threads: u64,
    /// The reasons why something may be missing.
    pub gaps: Vec<Gap>,
}

impl Observation {
    /// A test of which nothing but its end is known.
    pub fn without_trace(ending: String) -> Self {
        Self {
            ending,
            gaps: vec![Gap::Level(TraceLevel::Off)],
            ..Self::default()
        }
    }
}

/// Returns what a test did, from its trace, and how it ended.
///
/// # Errors
///
/// When the trace cannot be read.
pub fn observe(
    found: &Found,
    ending: String,
    roots: &Roots,
    places: &Places,
) -> Result<Observation, ReadError> {
    let wanted = |thing: &Thing| noise(thing, roots).is_none() || is_of_time_zone(thing);
    let mut observed = Observed::new(names(), &wanted).with_places(&places.0);
    let (mut children, mut threads) = (0, 0);
    let mut uses = Uses::with_events(found, &wanted, &mut |root, event: &TraceEvent| {
        if let TraceEventKind::Created(Created { how, .. }) = &event.kind {
            let count = match how {
                Creation::Thread => &mut threads,
                _ => &mut children,
            };
            *count += 1;
        }
        observed.event(root, event);
    })?;
    if observed.left_out > 0 {
        uses.gaps.push(Gap::Dropped(observed.left_out));
    }
    Ok(Observation {
        ending,
        asked: observed.asked,
        children,
        threads,
        gaps: uses.gaps,
    })
}

/// The folders have names already.
fn names() -> Names {
    Names {
        workspace: Vec::new(),
        temp: TEMPORARY.into(),
        pids: BTreeSet::new(),
    }
}

/// Returns whether a file says what time it is here. The C library reads one when it is asked for local time.
fn is_of_time_zone(thing: &Thing) -> bool {
    let path = thing.path().unwrap_or_default();
    path == b"/etc/localtime"
        || path == b"/etc/timezone"
        || memchr::memmem::find(path, b"/zoneinfo/").is_some()
}

/// Something that a test did otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It ended in another way.
    Ending {
        /// As usual.
        usual: String,
        /// Under the condition.
        here: String,
    },
    /// It asked for something else, or the answers differ.
    Answers {
        /// The question.
        asked: Asked,
        /// The answers as usual; `None` if it did not ask.
        usual: Option<Box<Answered>>,
        /// The answers under the condition; `None` if it did not ask.
        here: Option<Box<Answered>>,
    },
    /// It asked another number of times.
    Times {
        /// The question.
        asked: Asked,
        /// As usual.
        usual: u64,
        /// Under the condition.
        here: u64,
    },
    /// It started another number of processes or threads.
    Started {
        /// The name of many of them.
        what: &'static str,
        /// As usual.
        usual: u64,
        /// Under the condition.
        here: u64,
    },
    /// It asked in another order.
    Order {
        /// The first question that comes at another place, as usual.
        usual: Asked,
        /// The question at its place under the condition.
        here: Asked,
    },
}

/// The comparison of runs under a condition with usual ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The differences that the condition makes.
    pub departures: Vec<Departure>,
    /// The names of all that differs from run to run under the same condition, as usual or here.
    pub varying: Vec<String>,
}

impl Comparison {
    /// Returns whether the condition changes nothing.
    pub fn same(&self) -> bool {
        self.departures.is_empty()
    }

    /// Returns whether the condition changes how the test ends.
    pub fn changes_ending(&self) -> bool {
        let mut all = self.departures.iter();
        all.any(|it| matches!(it, Departure::Ending { .. }))
    }

    /// Compares a value of each run, and takes notice if it varies.
    fn differing<T: PartialEq + Clone>(
        &mut self,
        what: impl FnOnce() -> String,
        usual: &[T],
        here: &[T],
    ) -> Option<(T, T)> {
        let steady = |values: &[T]| values.windows(2).all(|two| two[0] == two[1]);
        if !steady(usual) || !steady(here) {
            self.varying.push(what());
            return None;
        }
        let (usual, here) = (usual.first()?, here.first()?);
        (usual != here).then(|| (usual.clone(), here.clone()))
    }
}

/// Compares runs under a condition with usual ones. Without runs under it, only what varies as usual is found.
pub fn compare(usual: &[Observation], here: &[Observation]) -> Comparison {
    let mut found = Comparison::default();
    let of = |value: &dyn Fn(&Observation) -> String| {
        let all = |runs: &[Observation]| runs.iter().map(value).collect::<Vec<_>>();
        (all(usual), all(here))
    };
    let (a, b) = of(&|run| run.ending.clone());
    let ending = found.differing(|| "how it ends".to_owned(), &a, &b);
    let ending = ending.map(|(usual, here)| Departure::Ending { usual, here });
    found.departures.extend(ending);
    let runs = || usual.iter().chain(here);
    let questions: BTreeSet<&Asked> = runs().flat_map(|run| run.asked.keys()).collect();
    let mut times = Vec::new();
    for asked in questions {
        match compare_answers(&mut found, asked, usual, here) {
            Some(departure @ Departure::Times { .. }) => times.push(departure),
            departure => found.departures.extend(departure),
        }
    }
    // What is not the same on both sides has no order.
    let order = compare_order(&mut found, usual, here);
    found.departures.extend(times);
    for (what, count) in [
        ("processes", (|run| run.children) as fn(&Observation) -> u64),
        ("threads", |run| run.threads),
    ] {
        let all = |runs: &[Observation]| runs.iter().map(count).collect::<Vec<_>>();
        let words = || format!("the number of {what}");
        let differs = found.differing(words, &all(usual), &all(here));
        let differs = differs.map(|(usual, here)| Departure::Started { what, usual, here });
        found.departures.extend(differs);
    }
    found.departures.extend(order);
    found
}

/// Compares the answers to one question, and how often it was asked.
fn compare_answers(
    found: &mut Comparison,
    asked: &Asked,
    usual: &[Observation],
    here: &[Observation],
) -> Option<Departure> {
    let said = |runs: &[Observation]| -> Vec<_> {
        let said = |run: &Observation| run.asked.get(asked).map(|it| it.said.clone());
        runs.iter().map(said).collect()
    };
    let words = || asked.to_string();
    let before = found.varying.len();
    if found.differing(words, &said(usual), &said(here)).is_some() {
        let answered = |runs: &[Observation]| {
            let first = runs.first()?.asked.get(asked)?;
            Some(Box::new(first.clone()))
        };
        return Some(Departure::Answers {
            asked: asked.clone(),
            usual: answered(usual),
            here: answered(here),
        });
    }
    if found.varying.len() > before {
        return None;
    }
    let times = |runs: &[Observation]| -> Vec<u64> {
        let times = |run: &Observation| run.asked.get(asked).map_or(0, |it| it.times);
        runs.iter().map(times).collect()
    };
    let words = || format!("the number of times: {asked}");
    let (usual, here) = found.differing(words, &times(usual), &times(here))?;
    Some(Departure::Times {
        asked: asked.clone(),
        usual,
        here,
    })
}

/// Compares the order of the questions that all runs asked.
fn compare_order(
    found: &mut Comparison,
    usual: &[Observation],
    here: &[Observation],
) -> Option<Departure> {
    let in_all = |asked: &&Asked| {
        let mut runs = usual.iter().chain(here);
        runs.all(|run| run.asked.contains_key(*asked))
    };
    let order = |runs: &[Observation]| -> Vec<Vec<Asked>> {
        let of_run = |run: &Observation| {
            let mut asked: Vec<_> = run.asked.keys().filter(in_all).cloned().collect();
            asked.sort_by_key(|asked| run.asked[asked].place);
            asked
        };
        runs.iter().map(of_run).collect()
    };
    let (usual, here) = (order(usual), order(here));
    let (usual, here) = found.differing(|| "the order".to_owned(), &usual, &here)?;
    let mut both = usual.into_iter().zip(here);
    let (usual, here) = both.find(|(usual, here)| usual != here)?;
    Some(Departure::Order { usual, here })
}
