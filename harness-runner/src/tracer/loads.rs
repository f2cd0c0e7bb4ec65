//! What dynamic loaders do before a program runs: remembered, so that it need not be watched again.
//!
//! Of an empty test, most stops are its loader's, which looks for each library in folder after folder.
//! What a loader does is a function of the program, of a few environment variables, of the working
//! directory, and of what the file system answers. So what it did is seen once ([`Load`]), together with
//! every [`Fact`] that it has found. The next time that all facts are the same, it is not watched; that
//! it then has mapped the same files is looked at when it says that it is done ([`super::hook`]).
//!
//! A fact is what a path leads to. Of a path that leads nowhere the directory that it is in belongs to
//! it, or the one in that which is not there either: the loader's next questions depend on that too. A
//! changed file is another fact.

use super::{
    Map,
    hook::Hook,
    sys::{self, Looked, Pid, Version},
};
use harness_metadata::{
    RawString, TraceEventKind,
    event::TraceLevel,
    trace::{CallResult, FileCall},
};
use nix::errno::Errno;
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CString,
    fs,
    rc::Rc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How many programs are remembered.
const PROGRAMS: usize = 256;

/// How exact the times of files are, at the least.
const TICK: Duration = Duration::from_millis(20);

/// The list of libraries that a loader loads into every program. Whether it is there is not asked by a
/// call that is seen at each level.
const PRELOADED: &[u8] = b"/etc/ld.so.preload";

/// What loaders have done.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    /// `None` of what cannot be remembered.
    known: Map<Key, Option<Rc<Load>>>,
    hooks: Map<Vec<u8>, (Answer, Option<Hook>)>,
    refused: bool,
}

/// What a load depends on, beside facts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    program: Vec<u8>,
    cwd: Vec<u8>,
    /// LD_LIBRARY_PATH.
    folders: Option<Vec<u8>>,
    level: TraceLevel,
    no_new_privs: bool,
}

/// What a loader did.
#[derive(Debug)]
pub(crate) struct Load {
    facts: Vec<Fact>,
    /// What it did, in order.
    pub(crate) events: Vec<TraceEventKind>,
    /// What interprets the program: the loader.
    pub(crate) interpreters: Vec<RawString>,
    pub(crate) hook: Hook,
    /// The files that were mapped.
    mapped: BTreeSet<MappedFile>,
    /// Whether the process had given up gaining privileges, to be allowed a filter.
    pub(crate) no_new_privs: bool,
}

/// What a path led to, as the kernel says it.
#[derive(Debug)]
struct Fact {
    path: CString,
    answer: Answer,
}

/// What is to be done about a program's loader.
#[derive(Debug)]
pub(crate) enum Known {
    /// It is to be watched, and what it does remembered.
    No,
    /// It will do this.
    Yes(Rc<Load>),
}

/// The device and inode of a file that is mapped, as proc_pid_maps(5) has them.
type MappedFile = (Vec<u8>, u64);

impl Key {
    /// Takes what a program is executed with; strings without NUL. `None` if its environment has
    /// anything more to say to a loader than where to look.
    pub(crate) fn new(
        program: &[u8],
        cwd: &[u8],
        environment: &[u8],
        level: TraceLevel,
        no_new_privs: bool,
    ) -> Option<Self> {
        let mut folders = None;
        for variable in environment.split(|byte| *byte == 0) {
            if let Some(value) = variable.strip_prefix(b"LD_LIBRARY_PATH=") {
                if folders.replace(value.to_vec()).is_some() {
                    return None;
                }
            } else if variable.starts_with(b"LD_") || variable.starts_with(b"GLIBC_TUNABLES=") {
                return None;
            }
        }
        let program = match program {
            [b'/', ..] => program.to_vec(),
            relative => [cwd, b"/", relative].concat(),
        };
        Some(Self {
            program,
            cwd: cwd.to_vec(),
            folders,
            level,
            no_new_privs,
        })
    }
}

impl Loads {
    /// Returns what the loader of a program that is about to be executed will do. `None` if that can
    /// not be known.
    pub(crate) fn of(&mut self, key: &Key) -> Option<Known> {
        if self.refused {
            return None;
        }
        match self.known.get(key) {
            Some(None) => None,
            Some(Some(load)) if load.facts.iter().all(Fact::holds) => {
                Some(Known::Yes(Rc::clone(load)))
            }
            _ => Some(Known::No),
        }
    }

    /// Returns the hook of the loader that interprets a program.
    pub(crate) fn hook(&mut self, interpreters: &[RawString]) -> Option<Hook> {
        // A script has more than one.
        let [loader] = interpreters else {
            return None;
        };
        let path = loader.as_bytes();
        let looked = look(&CString::new(path).ok()?);
        if let Some((known, hook)) = self.hooks.get(path)
            && *known == looked
        {
            return *hook;
        }
        let hook = read(path).and_then(|file| Hook::find(&file));
        self.hooks.insert(path.to_vec(), (looked, hook));
        hook
    }

    /// Remembers what the loader of a process has done, which stands at the hook.
    pub(crate) fn learn(&mut self, key: Key, process: Pid, seen: Seen) {
        if self.known.len() >= PROGRAMS {
            self.known.clear();
        }
        let load = Load::new(&key, process, seen).map(Rc::new);
        let fresh = load.as_ref().is_some_and(|load| load.is_fresh());
        if !fresh {
            self.known.insert(key, load);
        }
    }

    /// A program's loader cannot be remembered.
    pub(crate) fn give_up(&mut self, key: Key) {
        self.known.insert(key, None);
    }

    /// A loader has done something else than was remembered.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.known.remove(key);
    }

    /// A filter could not be installed at a hook, so none will be.
    pub(crate) fn refuse(&mut self) {
        self.refused = true;
    }
}

/// What was seen of a loader.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) events: Vec<TraceEventKind>,
    pub(crate) interpreters: Vec<RawString>,
    pub(crate) hook: Hook,
}

impl Load {
    /// `None` if it cannot be told from facts what a loader does.
    fn new(key: &Key, process: Pid, seen: Seen) -> Option<Self> {
        let mut facts = Facts::default();
        let (program, _) = facts.of(&key.program)?.ok()?;
        // Who gains privileges by an exec is not what it was when that is remembered.
        let (executed, _) = look(&CString::new(format!("/proc/{process}/exe")).ok()?).ok()?;
        if program.mode & (libc::S_ISUID | libc::S_ISGID) != 0 || executed.file != program.file {
            return None;
        }
        for interpreter in &seen.interpreters {
            let _ = facts.of(interpreter.as_bytes())?.ok()?;
        }
        // What the loader asks by calls that are not seen at each level.
        let _ = facts.of(PRELOADED)?;
        for event in &seen.events {
            let TraceEventKind::File(call) = event else {
                return None;
            };
            facts.of_call(call)?;
        }
        Some(Self {
            facts: facts.into_vec(),
            events: seen.events,
            interpreters: seen.interpreters,
            hook: seen.hook,
            mapped: mapped(process)?,
            no_new_privs: gave_up_privileges(process)?,
        })
    }

    /// Returns whether a file has been changed so recently that another change might not show.
    fn is_fresh(&self) -> bool {
        let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else {
            return true;
        };
        let changed = |fact: &Fact| {
            let (seconds, nanoseconds) = fact.answer.ok()?.1.changed;
            Some(Duration::new(u64::try_from(seconds).ok()?, nanoseconds))
        };
        let mut changed = self.facts.iter().filter_map(changed);
        changed.any(|changed| changed + TICK > now)
    }

    /// Returns whether the same files are mapped by a process.
    pub(crate) fn is_mapped_by(&self, process: Pid) -> bool {
        mapped(process).is_some_and(|files| files == self.mapped)
    }
}

/// Facts that are being collected.
#[derive(Default)]
struct Facts(BTreeMap<Vec<u8>, Answer>);

impl Facts {
    /// Adds what a path leads to, and returns it. `None` if that depends on who asks.
    fn of(&mut self, path: &[u8]) -> Option<Answer> {
        let own = [b"/proc/".as_slice(), b"/dev/", b"/sys/"];
        if path.first() != Some(&b'/') || own.iter().any(|own| path.starts_with(own)) {
            return None;
        }
        if let Some(answer) = self.0.get(path) {
            return Some(*answer);
        }
        let answer = look(&CString::new(path).ok()?);
        self.0.insert(path.to_vec(), answer);
        if answer.is_err() {
            let _ = self.of(parent(path)?)?;
        }
        Some(answer)
    }

    /// Adds what a call has found. `None` if it is not just what its path leads to.
    fn of_call(&mut self, call: &FileCall) -> Option<()> {
        let answer = self.of(call.path.path().as_bytes())?;
        let same = match call.result {
            CallResult::Found => call.file == answer.ok().map(|(looked, _)| looked.file),
            CallResult::Err(errno) => answer.err() == Some(Errno::from_raw(errno)),
            CallResult::Ok(_) | CallResult::Unknown => false,
        };
        same.then_some(())
    }

    /// Returns them, without those that follow from others: nothing is in what is not there.
    fn into_vec(self) -> Vec<Fact> {
        let missing = |path: &[u8]| self.0.get(path).is_some_and(Result::is_err);
        let facts = self
            .0
            .iter()
            .filter(|(path, answer)| answer.is_ok() || !parent(path).is_some_and(missing));
        let fact = |(path, answer): (&Vec<u8>, &Answer)| {
            let path = CString::new(path.as_slice()).ok()?;
            let answer = *answer;
            Some(Fact { path, answer })
        };
        facts.filter_map(fact).collect()
    }
}

impl Fact {
    fn holds(&self) -> bool {
        look(&self.path) == self.answer
    }
}

/// What a path leads to.
type Answer = Result<(Looked, Version), Errno>;

/// Asks what a path leads to. What is in a directory is not its own business.
fn look(path: &CString) -> Answer {
    let (looked, version) = sys::look_closely(path)?;
    Ok(match looked.file.directory {
        true => (looked, Version::default()),
        false => (looked, version),
    })
}

fn parent(path: &[u8]) -> Option<&[u8]> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    match slash {
        0 => Some(b"/"),
        slash => Some(&path[..slash]),
    }
}

fn read(path: &[u8]) -> Option<Vec<u8>> {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    fs::read(OsStr::from_bytes(path)).ok()
}

/// Returns the files that a process has mapped.
fn mapped(process: Pid) -> Option<BTreeSet<MappedFile>> {
    let maps = fs::read(format!("/proc/{process}/maps")).ok()?;
    let mut files = BTreeSet::new();
    for line in maps.split(|byte| *byte == b'\n') {
        let mut words = line.split(|byte| *byte == b' ').skip(3);
        let (Some(device), Some(inode)) = (words.next(), words.next()) else {
            continue;
        };
        let inode = std::str::from_utf8(inode).ok()?.parse().ok()?;
        if inode != 0 {
            files.insert((device.to_vec(), inode));
        }
    }
    Some(files)
}

/// Returns whether a process has set no_new_privs. `None` if it could not install a filter.
fn gave_up_privileges(process: Pid) -> Option<bool> {
    const ADMINISTRATOR: u64 = 1 << 21;
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let field = |name: &str| {
        let mut lines = status.lines();
        lines
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let capabilities = u64::from_str_radix(field("CapEff:")?, 16).ok()?;
    let gave_up = field("NoNewPrivs:")? == "1";
    (gave_up || capabilities & ADMINISTRATOR != 0).then_some(gave_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_environment_that_says_no_more_than_where_to_look_has_a_key() {
        let key = |environment: &[u8]| {
            Key::new(b"program", b"/folder", environment, TraceLevel::Io, true)
        };
        let plain = key(b"A=1\0").expect("nothing concerns the loader");
        assert_eq!(plain.program, b"/folder/program");
        assert_eq!(plain.folders, None);
        let folders = key(b"A=1\0LD_LIBRARY_PATH=/a:b\0").expect("it may say that");
        assert_eq!(folders.folders.as_deref(), Some(b"/a:b".as_slice()));
        assert_ne!(plain, folders);
        for more in [
            b"LD_PRELOAD=/a\0".as_slice(),
            b"LD_AUDIT=\0",
            b"A=1\0LD_BIND_NOW=1\0",
            b"GLIBC_TUNABLES=a=1\0",
            b"LD_LIBRARY_PATH=/a\0LD_LIBRARY_PATH=/b\0",
        ] {
            assert_eq!(key(more), None, "{}", more.escape_ascii());
        }
    }

    #[test]
    fn what_is_not_there_is_asked_for_once() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().to_str().expect("it is known to be UTF-8");
        let mut facts = Facts::default();
        for name in ["missing/a/x.so", "missing/b/x.so", "y.so"] {
            let answer = facts.of(format!("{path}/{name}").as_bytes());
            assert_eq!(answer, Some(Err(Errno::ENOENT)));
        }
        let facts = facts.into_vec();
        let asked: Vec<_> = facts.iter().map(|fact| fact.path.to_str()).collect();
        let there = |name: &str| format!("{path}{name}");
        let expected = [there(""), there("/missing"), there("/y.so")];
        assert_eq!(asked, expected.each_ref().map(|path| Ok(path.as_str())));

        assert!(facts.iter().all(Fact::holds));
        std::fs::create_dir_all(folder.path().join("missing/a")).expect("a folder can be made");
        let broken = facts.iter().filter(|fact| !fact.holds());
        assert_eq!(broken.count(), 1);
    }

    #[test]
    fn what_is_somebody_elses_for_everybody_is_no_fact() {
        let mut facts = Facts::default();
        for path in [b"/proc/self/exe".as_slice(), b"/dev/fd/3", b"relative"] {
            assert_eq!(facts.of(path), None);
        }
    }
}
