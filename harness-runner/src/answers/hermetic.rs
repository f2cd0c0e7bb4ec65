//! Dependences of tests on what is not theirs: the home folder, other machines, the source tree, files that
//! stay in the folder for temporary ones.

use super::{
    Unknown,
    rules::{Roots, noise},
    seen,
    uses::{Gap, How, Thing, Use, Uses},
};
use crate::store::{Found, last::Last};
use harness_metadata::{RawString, TestId, TraceSummary, trace::FileUse};
use serde::Serialize;
use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
};

/// A kind of dependence. The first one is the worst.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Reads files with keys, tokens or passwords.
    Credentials,
    /// Runs a program with the rights of its owner.
    SetUid,
    /// Writes in the workspace, outside of the target folder.
    Source,
    /// Writes in a folder that is neither temporary nor of the workspace.
    Elsewhere,
    /// Leaves something in the folder for temporary files.
    Left,
    /// Uses the network beyond this machine.
    Network,
    /// Reads the home folder, or asks for files in it.
    Home,
    /// Reads files outside of the workspace, of the home folder and of the system's packages.
    Outside,
}

impl Class {
    /// All of them, the worst first.
    pub const ALL: [Self; 8] = [
        Self::Credentials,
        Self::SetUid,
        Self::Source,
        Self::Elsewhere,
        Self::Left,
        Self::Network,
        Self::Home,
        Self::Outside,
    ];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::SetUid => "set-uid",
            Self::Source => "source",
            Self::Elsewhere => "elsewhere",
            Self::Left => "left",
            Self::Network => "network",
            Self::Home => "home",
            Self::Outside => "outside",
        }
    }

    /// Returns what happened, as the beginning of a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Self::Credentials => "files that hold keys, tokens or passwords were read",
            Self::SetUid => "programs ran with the rights of their owners",
            Self::Source => "the workspace was written, outside of the target folder",
            Self::Elsewhere => {
                "files outside of the workspace and of the temporary folder were written"
            }
            Self::Left => "what was made in the temporary folder is still there",
            Self::Network => "the network beyond this machine was used",
            Self::Home => "the home folder was read, or asked for files",
            Self::Outside => "other files of this machine were read",
        }
    }
}

/// Files in the home folder that hold secrets: a file, or a folder with all below it.
pub const CREDENTIALS: [&str; 12] = [
    ".ssh",
    ".aws",
    ".gnupg",
    ".netrc",
    ".git-credentials",
    ".pgpass",
    ".docker/config.json",
    ".kube/config",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".config/gh/hosts.yml",
    ".config/gcloud",
];

/// A dependence of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub class: Class,
    /// The file, address or name.
    pub thing: Thing,
    /// The use that tells most.
    pub by: Use,
}

/// A test that depends on something.
#[derive(Clone, Debug)]
pub struct Dependent {
    /// The test.
    pub test: TestId,
    /// The attempt that this rests on.
    pub found: Found,
    /// Its dependences, the worst first.
    pub findings: Vec<Finding>,
    /// The reasons why there may be more.
    pub gaps: Vec<Gap>,
}

/// The dependences of tests.
#[derive(Clone, Debug, Default)]
pub struct Dependences {
    /// The tests that have some.
    pub tests: Vec<Dependent>,
    /// The tests of which it is not known whether they have.
    pub unknown: Vec<Unknown>,
    /// The number of tests without, as their traces say.
    pub free: usize,
    /// The number of tests whose look-ups were not seen.
    pub blind_to_lookups: usize,
}

/// Finds the dependences of tests, from their last traces.
pub fn dependences(tests: Vec<Last>, roots: &Roots) -> Dependences {
    let mut all = Dependences::default();
    for last in tests {
        let (test, found, uses) = match seen(last, &|thing| noise(thing, roots).is_none()) {
            Ok(seen) => seen,
            Err(unknown) => {
                all.unknown.push(unknown);
                continue;
            }
        };
        all.blind_to_lookups += usize::from(uses.blind_to_lookups);
        let findings = findings(&uses, roots);
        match uses.gaps.first() {
            _ if !findings.is_empty() => all.tests.push(Dependent {
                test,
                found,
                findings,
                gaps: uses.gaps,
            }),
            Some(gap) => {
                let reason = Some(gap.words());
                all.unknown.push(Unknown { test, reason });
            }
            None => all.free += 1,
        }
    }
    all
}

/// Returns the dependences of an attempt, the worst first, and of one class in order of time.
pub(super) fn findings(uses: &Uses, roots: &Roots) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for (thing, ways) in &uses.things {
        let found = match thing {
            Thing::Path(path) => of_path(&path.to_string(), thing, ways, uses, roots),
            _ => of_peer(thing, ways),
        };
        findings.extend(found.map(|(class, by)| Finding {
            class,
            thing: thing.clone(),
            by: by.clone(),
        }));
    }
    findings.sort_by_key(|finding| (finding.class, finding.by.at));
    findings
}

fn of_peer<'a>(thing: &Thing, ways: &'a [Use]) -> Option<(Class, &'a Use)> {
    let beyond = match thing {
        Thing::Ip(ip, _) => !ip.is_loopback() && !ip.is_unspecified(),
        Thing::Host(_) => true,
        _ => false,
    };
    let mut ways = ways.iter();
    let asks = |how| matches!(how, How::Connected | How::Sent | How::Asked);
    let by = ways.find(|it| asks(it.how)).filter(|_| beyond)?;
    Some((Class::Network, by))
}

fn of_path<'a>(
    path: &str,
    thing: &Thing,
    ways: &'a [Use],
    uses: &Uses,
    roots: &Roots,
) -> Option<(Class, &'a Use)> {
    let first = |is: fn(How) -> bool| ways.iter().find(|it| is(it.how));
    if first(|how| how == How::Executed).is_some() && is_set_uid(path) {
        return Some((Class::SetUid, first(|how| how == How::Executed)?));
    }
    let effect = || first(How::is_effect);
    let read = || first(|how| matches!(how, How::Read | How::Listed));
    match roots.root_of(path) {
        Some("target") => None,
        Some("workspace") => Some((Class::Source, effect()?)),
        Some("temp") => {
            let made = effect()?;
            let stays = is_entry_of(path, roots) && is_left(thing, ways, uses);
            stays.then_some((Class::Left, made))
        }
        Some("home") => {
            if let (true, Some(by)) = (is_credential(path, roots), read()) {
                return Some((Class::Credentials, by));
            }
            match effect() {
                Some(by) => Some((Class::Elsewhere, by)),
                // A search for a program goes on where it is not there.
                None => {
                    let mut read = ways.iter().filter(|it| it.how.is_reading());
                    let by = read.find(|it| it.how == How::Executed || it.call != "execve")?;
                    Some((Class::Home, by))
                }
            }
        }
        _ if is_root(path, roots) => None,
        _ => match effect() {
            Some(by) => Some((Class::Elsewhere, by)),
            None => Some((Class::Outside, first(|how| how == How::Read)?)),
        },
    }
}

/// Returns whether a path is one of the roots, or a folder above one.
fn is_root(path: &str, roots: &Roots) -> bool {
    let path = path.trim_end_matches('/');
    let home = roots.home.as_deref().map(camino::Utf8Path::as_str);
    let all = [
        roots.workspace.as_str(),
        roots.target.as_str(),
        roots.temp.as_str(),
        home.unwrap_or_default(),
    ];
    let above = |root: &str| {
        let rest = root.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    all.into_iter().any(above)
}

fn is_credential(path: &str, roots: &Roots) -> bool {
    let home = roots.home.as_deref();
    let below = home.and_then(|home| path.strip_prefix(home.as_str())?.strip_prefix('/'));
    below.is_some_and(|below| {
        CREDENTIALS.into_iter().any(|secret| {
            let rest = below.strip_prefix(secret);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    })
}

/// Returns the files with keys, tokens or passwords that a trace says were read, with `~` for the home folder.
pub fn credentials_read(trace: &TraceSummary, roots: &Roots) -> Vec<RawString> {
    let Some(home) = roots.home.as_deref() else {
        return Vec::new();
    };
    let mut read = Vec::new();
    for file in &trace.files {
        let is_read = |usage: &FileUse| matches!(usage, FileUse::Read | FileUse::Listed);
        // Most files are not in the home folder.
        if !file.path.as_bytes().starts_with(home.as_str().as_bytes())
            || !file.uses.iter().any(is_read)
        {
            continue;
        }
        let path = file.path.to_string();
        if roots.root_of(&path) == Some("home") && is_credential(&path, roots) {
            read.push(roots.shown(&path).as_str().into());
        }
    }
    read
}

/// Returns whether a path is an entry of the folder for temporary files itself: what is below stays with it.
fn is_entry_of(path: &str, roots: &Roots) -> bool {
    let below = path.strip_prefix(roots.temp.as_str());
    below.is_some_and(|below| !below.trim_matches('/').contains('/'))
}

/// Returns whether a test made something, has not removed it since, and it is still there.
pub(super) fn is_left(thing: &Thing, ways: &[Use], uses: &Uses) -> bool {
    let last = |is: fn(How) -> bool| ways.iter().filter(|it| is(it.how)).map(|it| it.last).max();
    let made = last(|how| {
        matches!(
            how,
            How::Created | How::MadeFolder | How::RenamedTo | How::Emptied | How::Bound
        )
    });
    let gone = last(|how| matches!(how, How::Removed | How::RenamedFrom));
    let existed = ways.iter().any(|it| matches!(it.how, How::Exists));
    let Some(path) = thing
        .path()
        .filter(|_| made > gone && !existed && uses.began.is_some())
    else {
        return false;
    };
    fs::symlink_metadata(Path::new(OsStr::from_bytes(path))).is_ok()
}

fn is_set_uid(path: &str) -> bool {
    let metadata = fs::metadata(path);
    metadata.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o6000 != 0)
}
