//! The rules of answers, all in this place: what is noise, and what is no clash. Each has a name and a
//! reason, which the page about answers has too.

use super::uses::{How, Thing, Use};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::noise::{FIRST_CHOSEN_PORT, file_name, is_library, is_noise};
use std::env;

/// The folders that have names in answers and rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// The root of the workspace.
    pub workspace: Utf8PathBuf,
    /// The target folder.
    pub target: Utf8PathBuf,
    /// The home folder of the user.
    pub home: Option<Utf8PathBuf>,
    /// The folder for temporary files.
    pub temp: Utf8PathBuf,
}

impl Roots {
    /// Returns those of this process, for a workspace.
    pub fn new(workspace: &Utf8Path, target: &Utf8Path) -> Self {
        let folder = |text: String| {
            let text = text.trim_end_matches('/').to_owned();
            (text.starts_with('/')).then(|| Utf8PathBuf::from(text))
        };
        let variable = |name: &str| env::var(name).ok().and_then(folder);
        Self {
            workspace: workspace.to_owned(),
            target: target.to_owned(),
            home: variable("HOME"),
            temp: variable("TMPDIR").unwrap_or_else(|| "/tmp".into()),
        }
    }

    /// Returns a path as a reader knows it: from the root of the workspace, or with `~`.
    pub fn shown(&self, path: &str) -> String {
        if let Some(below) = below(path, &self.workspace) {
            return below.to_owned();
        }
        let home = self.home.as_deref();
        match home.and_then(|home| below(path, home)) {
            Some(rest) => format!("~/{rest}"),
            None => path.to_owned(),
        }
    }

    /// Returns the name of the folder that a path is in: `target`, `workspace`, `temp`, `home`.
    pub fn root_of(&self, path: &str) -> Option<&'static str> {
        let home = self.home.as_deref().unwrap_or(Utf8Path::new(""));
        let roots = [
            ("target", self.target.as_path()),
            ("workspace", self.workspace.as_path()),
            ("temp", self.temp.as_path()),
            ("home", home),
        ];
        // One may be within another. Of two that are the same the first one counts.
        let roots = roots.into_iter().rev();
        let around = roots.filter(|(_, root)| below(path, root).is_some());
        let nearest = around.max_by_key(|(_, root)| root.as_str().len());
        nearest.map(|(name, _)| name)
    }
}

fn below<'a>(path: &'a str, folder: &Utf8Path) -> Option<&'a str> {
    let rest = path.strip_prefix(folder.as_str())?.strip_prefix('/')?;
    (!folder.as_str().is_empty() && !rest.is_empty()).then_some(rest)
}

/// A rule, as it is shown.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// The reason.
    pub reason: &'static str,
}

/// A kind of files that say nothing of a test, or cannot be evidence.
struct Noise {
    rule: Rule,
    has: fn(&[u8], &Roots) -> bool,
}

/// The kinds of noise. The first that has a path counts.
const NOISE: &[Noise] = &[
    Noise {
        rule: Rule {
            name: "kernel",
            reason: "`/proc` and `/sys` are made by the kernel at each look, for each process anew",
        },
        has: |path, _| {
            path.starts_with(b"/proc/") || path.starts_with(b"/sys/") || path == b"/proc"
        },
    },
    Noise {
        rule: Rule {
            name: "device",
            reason: "devices such as `/dev/null` and `/dev/urandom` keep nothing; `/dev/shm` is a folder and counts",
        },
        has: |path, _| path.starts_with(b"/dev/") && !path.starts_with(b"/dev/shm/"),
    },
    Noise {
        rule: Rule {
            name: "search",
            reason: "the search of the loader, for locales, terminals and debug information is the same in every process",
        },
        has: |path, _| is_noise(path),
    },
    Noise {
        rule: Rule {
            name: "system",
            reason: "libraries, locales and time zones of the system change with its packages, not with tests",
        },
        has: |path, _| is_of_the_system(path),
    },
    Noise {
        rule: Rule {
            name: "accounts",
            reason: "the C library reads accounts, hosts and services for many calls",
        },
        has: |path, _| ACCOUNTS.contains(&path),
    },
    Noise {
        rule: Rule {
            name: "toolchain",
            reason: "the toolchain is installed, and tests only run it",
        },
        has: |path, _| contains(path, b"/.rustup/") || contains(path, b"/rustup/toolchains/"),
    },
    Noise {
        rule: Rule {
            name: "build",
            reason: "test binaries and libraries are built before a test starts",
        },
        has: |path, roots| is_built(path, roots),
    },
    Noise {
        rule: Rule {
            name: "coverage",
            reason: "`*.profraw` is written by the instrumentation, a file for each process",
        },
        has: |path, _| path.ends_with(b".profraw") || path.ends_with(b".gcda"),
    },
];

const ACCOUNTS: &[&[u8]] = &[
    b"/etc/passwd",
    b"/etc/group",
    b"/etc/hosts",
    b"/etc/services",
    b"/etc/protocols",
    b"/etc/nsswitch.conf",
    b"/etc/ssl/openssl.cnf",
    b"/etc/mtab",
];

/// Folders of the system's packages.
const SYSTEM: &[&[u8]] = &[
    b"/usr/lib/",
    b"/usr/lib64/",
    b"/usr/share/",
    b"/lib/",
    b"/lib64/",
    b"/usr/local/lib/",
    b"/nix/store/",
];

fn is_of_the_system(path: &[u8]) -> bool {
    SYSTEM.iter().any(|folder| path.starts_with(folder))
        || path.starts_with(b"/etc/ld.so") && is_library(file_name(path))
}

fn is_built(path: &[u8], roots: &Roots) -> bool {
    let below = path.strip_prefix(roots.target.as_str().as_bytes());
    below.is_some_and(|below| {
        contains(below, b"/deps/")
            || contains(below, b"/.fingerprint/")
            || contains(below, b"/build/") && is_library(file_name(below))
    })
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    memchr::memmem::find(bytes, what).is_some()
}

/// Returns the rule by which a thing is noise.
pub fn noise(thing: &Thing, roots: &Roots) -> Option<Rule> {
    let path = thing.path()?;
    let found = NOISE.iter().find(|noise| (noise.has)(path, roots));
    found.map(|noise| noise.rule)
}

/// The weight of a clash that has been seen.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is none.
    Excluded,
    /// It comes after the others, with the reason.
    Weaker,
}

/// The uses of one thing by two tests.
pub struct Shared<'a> {
    /// The thing.
    pub thing: &'a Thing,
    /// The uses of the one.
    pub one: &'a [Use],
    /// Those of the other.
    pub other: &'a [Use],
    /// The folders that both keep locked by their own locks.
    pub locked: &'a [Vec<u8>],
    /// The processes of the two tests themselves.
    pub pids: (i32, i32),
    /// Whether the one changes names in a folder, and the other lists it.
    pub entry: bool,
    /// Whether both ran in the same run.
    pub same_run: bool,
}

impl Shared<'_> {
    fn all(&self) -> impl Iterator<Item = &Use> {
        self.one.iter().chain(self.other)
    }

    fn any(&self, how: How) -> bool {
        self.all().any(|it| it.how == how)
    }

    fn both(&self, chosen: impl Fn(How) -> bool) -> bool {
        let has = |uses: &[Use]| uses.iter().any(|it| chosen(it.how));
        has(self.one) && has(self.other)
    }
}

/// A rule about what two tests share.
struct Exclusion {
    rule: Rule,
    effect: Effect,
    holds: fn(&Shared<'_>, &Roots) -> bool,
}

/// The rules about what two tests share. The first that holds counts.
const EXCLUSIONS: &[Exclusion] = &[
    Exclusion {
        rule: Rule {
            name: "shared-root",
            reason: "entries of the temp folder, of the root, of `/dev/shm` and of the home folder come and go by all programs",
        },
        effect: Effect::Excluded,
        holds: |shared, roots| is_shared_root(shared.thing, roots),
    },
    Exclusion {
        rule: Rule {
            name: "folder-that-stays",
            reason: "both make the folder if it is not there, and neither removes or renames it",
        },
        effect: Effect::Excluded,
        holds: |shared, _| is_folder_that_stays(shared),
    },
    Exclusion {
        rule: Rule {
            name: "cargo-lock",
            reason: "cargo locks the folders that it builds and caches in",
        },
        effect: Effect::Excluded,
        holds: |shared, _| {
            let path = shared.thing.path();
            // `target/tmp` is for tests, and cargo locks nothing there.
            let in_it = |below: &[u8]| below != b"tmp" && !below.starts_with(b"tmp/");
            path.is_some_and(|path| {
                let mut folders = shared.locked.iter();
                folders.any(|folder| path.strip_prefix(&folder[..]).is_some_and(in_it))
            })
        },
    },
    Exclusion {
        rule: Rule {
            name: "python-cache",
            reason: "Python replaces its compiled files as a whole, by the same",
        },
        effect: Effect::Excluded,
        holds: |shared, _| {
            shared
                .thing
                .path()
                .is_some_and(|path| contains(path, b"__pycache__"))
        },
    },
    Exclusion {
        rule: Rule {
            name: "own-pid",
            reason: "the name has the test's own process id, which two running tests never share",
        },
        effect: Effect::Excluded,
        holds: |shared, _| !shared.same_run && has_own_pid(shared),
    },
    Exclusion {
        rule: Rule {
            name: "chosen-port",
            reason: "the kernel chooses ports from 32768 on for those who ask for any: both may have got it by chance, or have named it",
        },
        effect: Effect::Weaker,
        holds: |shared, _| match shared.thing {
            Thing::Ip(_, port) => *port >= FIRST_CHOSEN_PORT && !shared.any(How::Taken),
            _ => false,
        },
    },
    Exclusion {
        rule: Rule {
            name: "log",
            reason: "lines are appended to a `*.log` that neither empties, removes or renames",
        },
        effect: Effect::Weaker,
        holds: |shared, _| {
            let log = shared
                .thing
                .path()
                .is_some_and(|path| path.ends_with(b".log"));
            log && !shared.all().any(|it| {
                it.how == How::Emptied || it.how != How::Created && it.how.changes_names()
            })
        },
    },
    Exclusion {
        rule: Rule {
            name: "lock-file",
            reason: "both open a `*.lock` or `*.lck`: they wait for each other if they lock it, which is not seen",
        },
        effect: Effect::Weaker,
        holds: |shared, _| {
            let path = shared.thing.path().unwrap_or_default();
            let lock =
                path.ends_with(b".lock") || path.ends_with(b".lck") || path.ends_with(b"/lock");
            lock && shared.both(|how| matches!(how, How::Written | How::Emptied | How::Read))
                && !shared.any(How::Removed)
        },
    },
    Exclusion {
        rule: Rule {
            name: "metadata-alone",
            reason: "only mode, owner or times are changed, and no process asks whether they are",
        },
        effect: Effect::Weaker,
        holds: |shared, _| {
            let mut effects = shared.all().filter(|it| it.how.is_effect());
            effects.all(|it| it.how == How::MetadataChanged)
        },
    },
    Exclusion {
        rule: Rule {
            name: "asked-only",
            reason: "the other only looks whether it is there",
        },
        effect: Effect::Weaker,
        holds: |shared, _| {
            let asks = |uses: &[Use]| {
                uses.iter().all(|it| match it.how {
                    How::Queried | How::Entered => true,
                    // To open or to remove it in vain is more than a question.
                    How::Missing | How::Refused => only_asks(&it.call),
                    _ => false,
                })
            };
            asks(shared.one) || asks(shared.other)
        },
    },
];

/// Returns whether a call only asks about a path.
fn only_asks(call: &str) -> bool {
    let calls = ["stat", "access", "readlink"];
    calls.iter().any(|name| call.contains(name))
}

/// Returns whether all programs make and remove entries of it.
pub(super) fn is_shared_root(thing: &Thing, roots: &Roots) -> bool {
    let Some(path) = thing.path() else {
        return false;
    };
    let is = |root: &Utf8Path| root.as_str().as_bytes() == path;
    is(&roots.temp)
        || roots.home.as_deref().is_some_and(is)
        || [&b"/"[..], b"/tmp", b"/dev/shm", b"/var/tmp"].contains(&path)
}

fn is_folder_that_stays(shared: &Shared<'_>) -> bool {
    let makes = |uses: &[Use]| {
        uses.iter()
            .any(|it| matches!(it.how, How::MadeFolder | How::Exists))
    };
    let mild = |it: &Use| {
        matches!(
            it.how,
            How::MadeFolder
                | How::Exists
                | How::Listed
                | How::Entered
                | How::Queried
                | How::Missing
                | How::Refused
        )
    };
    !shared.entry
        && shared.any(How::MadeFolder)
        && makes(shared.one)
        && makes(shared.other)
        && shared.all().all(mild)
}

fn has_own_pid(shared: &Shared<'_>) -> bool {
    let Some(path) = shared.thing.path() else {
        return false;
    };
    [shared.pids.0, shared.pids.1].into_iter().any(|pid| {
        let pid = pid.to_string();
        let digits = path.split(|byte| !byte.is_ascii_digit());
        pid.len() > 2 && digits.into_iter().any(|digits| digits == pid.as_bytes())
    })
}

/// Returns the rule that holds for what two tests share, and its effect.
pub fn exclusion(shared: &Shared<'_>, roots: &Roots) -> Option<(Rule, Effect)> {
    let found = EXCLUSIONS.iter().find(|it| (it.holds)(shared, roots));
    found.map(|it| (it.rule, it.effect))
}

/// Returns the reason of a rule about what two tests share, by its name.
pub fn reason_of(name: &str) -> &'static str {
    let found = EXCLUSIONS.iter().find(|it| it.rule.name == name);
    found.map_or("", |it| it.rule.reason)
}

/// Returns the folder that a file locks, by what cargo does: the target folder of `.cargo-lock`, the
/// home of `.package-cache`.
pub fn locks_folder(path: &[u8]) -> Option<Vec<u8>> {
    let name = file_name(path);
    let folder = path.get(..path.len() - name.len())?;
    match name {
        b".package-cache" | b".package-cache-mutate" => Some(folder.to_vec()),
        // `target/debug/.cargo-lock`: what is beside `debug` is cargo's as well.
        b".cargo-lock" => {
            let above = folder.strip_suffix(b"/")?;
            Some(above[..above.len() - file_name(above).len()].to_vec())
        }
        _ => None,
    }
}

/// Returns the rules of noise, for the page.
pub fn rules_of_noise() -> impl Iterator<Item = Rule> {
    NOISE.iter().map(|noise| noise.rule)
}

/// Returns the rules about what two tests share, for the page.
pub fn rules_of_clashes() -> impl Iterator<Item = (Rule, Effect)> {
    EXCLUSIONS.iter().map(|it| (it.rule, it.effect))
}
