//! The words for a decision, for people.

use super::{
    decide::{Changed, Decision, Why},
    state::State,
};
use crate::functions::{self, Difference};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path, time::Duration};

/// Shows a path as seen from the root of the workspace, if it is below it.
fn shown(path: &[u8], root: &Path) -> String {
    let path = Path::new(OsStr::from_bytes(path));
    let below = path.strip_prefix(root).ok();
    let below = below.filter(|below| !below.as_os_str().is_empty());
    below.unwrap_or(path).display().to_string()
}

/// Returns a time in the largest whole unit.
pub fn ago(time: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [
        (86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let seconds = time.as_secs();
    let unit = UNITS.iter().find(|(length, _)| seconds >= *length);
    let (length, name) = unit.copied().unwrap_or((1, "second"));
    match seconds / length {
        1 => format!("1 {name} ago"),
        count => format!("{count} {name}s ago"),
    }
}

impl Decision {
    /// Returns the reason in a line. `root` is the workspace's, `now` the time since 1970.
    pub fn reason(&self, root: &Path, now: Duration) -> String {
        match self {
            Self::Reuse(known) => {
                let ago = ago(now.saturating_sub(known.at));
                format!("all that its pass {ago} rests on is the same")
            }
            Self::Run(why) => why.reason(root),
        }
    }
}

impl Why {
    /// Returns it in a line. `root` is the workspace's.
    pub fn reason(&self, root: &Path) -> String {
        match self {
            Self::Unknown => "no pass of it is stored".to_owned(),
            Self::NotStored(reason) => format!("its last result is not used again: {reason}"),
            Self::Distrusted(reason) => {
                format!("reuse is off for it until its binary changes: {reason}")
            }
            Self::Circumstance(reason) => reason.clone(),
            Self::Expired(age) if age.is_zero() => {
                "its last pass is dated later than the clock shows".to_owned()
            }
            Self::Expired(age) => format!("its last pass is too old: {}", ago(*age)),
            Self::Differs(changed) => changed.reason(root),
            Self::Entangled { path, with } => {
                let path = shown(path, root);
                format!("it shares `{path}` with `{with}`, which runs and changes it")
            }
            Self::Sampled(_) => "nothing has changed; it is in the sample that runs".to_owned(),
            Self::OfAll { path, why } => format!("`{}` has changed: {why}", shown(path, root)),
            Self::Touched { path, asked } if path == asked => {
                format!("`{}` has changed", shown(path, root))
            }
            Self::Touched { path, asked } => {
                let (path, asked) = (shown(path, root), shown(asked, root));
                format!("`{path}` has changed, and it asks for `{asked}`")
            }
        }
    }
}

impl Changed {
    /// Returns it in a line.
    pub fn reason(&self, root: &Path) -> String {
        match self {
            Self::Harness { .. } => "another version of cargo harness stored its pass".to_owned(),
            Self::Binary { .. } => "its test binary has changed".to_owned(),
            Self::Function {
                program,
                difference,
            } => of_function(&shown(program.as_str().as_bytes(), root), difference),
            Self::Command => "its command or its settings have changed".to_owned(),
            Self::Surroundings { name, before, now } => {
                let how = match (before, now) {
                    (None, _) => "is new",
                    (_, None) => "is gone",
                    _ => "has changed",
                };
                format!("the {name} {how}")
            }
            Self::Input { path, before, now } => of_file(&shown(path, root), before, now),
            Self::Output { path, before, now } => {
                let changed = of_file(&shown(path, root), before, now);
                format!("{changed} since it wrote it")
            }
        }
    }

    /// Returns the values before and now, if they can be shown.
    pub fn values(&self) -> Option<(String, String)> {
        let shown = |value: Option<&super::key::Value>| {
            value.map_or_else(|| "not there".to_owned(), ToString::to_string)
        };
        match self {
            Self::Harness { before } => Some((before.clone(), super::key::version().to_owned())),
            Self::Binary { before, now } => Some((
                format!("the content {before}"),
                format!("the content {now}"),
            )),
            Self::Command | Self::Function { .. } => None,
            Self::Surroundings { before, now, .. } => {
                Some((shown(before.as_ref()), shown(now.as_ref())))
            }
            Self::Input { before, now, .. } | Self::Output { before, now, .. } => {
                Some((before.to_string(), now.to_string()))
            }
        }
    }

    /// Returns the path, if it is about one.
    pub fn path(&self) -> Option<&[u8]> {
        match self {
            Self::Input { path, .. } | Self::Output { path, .. } => Some(path),
            _ => None,
        }
    }
}

fn of_function(program: &str, difference: &Difference) -> String {
    match difference {
        Difference::Beginning => {
            format!("what runs before `main` in `{program}` has changed, or its compiler")
        }
        Difference::Function(name) => {
            let name = functions::shown(name);
            format!(
                "`{name}` in `{program}`, which it entered, has changed, or something that it depends on"
            )
        }
        Difference::Gone(name) => {
            let name = functions::shown(name);
            format!("`{name}`, which it entered, is not in `{program}` any more")
        }
        Difference::Test => format!("its own entry among the tests of `{program}` has changed"),
    }
}

fn of_file(path: &str, before: &State, now: &State) -> String {
    match (before, now) {
        (State::Absent { .. }, State::Absent { .. }) => {
            format!("a folder has come or gone in which it looked for `{path}`")
        }
        (State::Absent { .. }, _) => format!("`{path}` has appeared"),
        (_, State::Absent { .. }) => format!("`{path}` is gone"),
        (State::Names(_), _) => format!("the names in `{path}` have changed"),
        _ => format!("`{path}` has changed"),
    }
}
