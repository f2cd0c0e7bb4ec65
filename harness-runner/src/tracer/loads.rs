//! The remembered work of dynamic loaders before a program runs, so that it need not be traced
//! again.
//!
//! Of an empty test, most stops are its loader's, which looks for each library in folder after folder.
//! What a loader does is a function of the program, of a few environment variables, of the working
//! directory, and of what the file system answers. So what it did is seen once ([`Load`]), together with
//! every [`Fact`] that it has found. The next time that all facts are the same, it is not watched; that
//! it then has mapped the same files is looked at when it says that it is done ([`super::hook`]).
//!
//! The same is remembered of programs that tests start. They have inherited a filter. It is suspended
//! until then where that is allowed, and else what it stops goes on without a look.

mod facts;

use super::{Map, decode::Environment, hook::Hook, record::Loaded};
use crate::{
    proc::{
        self,
        maps::{MappedFile, mapped},
    },
    sys::Pid,
};
use facts::{Answer, Fact, Facts, look};
use harness_metadata::{RawString, TraceEventKind, event::TraceLevel, trace::Exec};
use std::{
    collections::BTreeSet,
    ffi::{CString, OsStr},
    fs::File,
    io::Read,
    os::unix::ffi::OsStrExt,
    rc::Rc,
};

/// The number of remembered programs.
const PROGRAMS: usize = 256;

/// The list of libraries that a loader loads into every program. Whether it is there is not asked by a
/// call that is seen at each level.
const PRELOADED: &[u8] = b"/etc/ld.so.preload";

/// The remembered loads.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    known: Map<Key, Memory>,
    hooks: Map<Vec<u8>, (Answer, Option<Hook>)>,
    refused: bool,
    /// The number of filters of this process, once it was asked for; `None` if the kernel does not
    /// show it.
    own_filters: Option<Option<u32>>,
}

/// The remembered facts about a program.
#[derive(Debug)]
enum Memory {
    /// The work of its loader.
    Load(Rc<Load>),
    /// The work of its loader does not follow from facts.
    Unclear,
}

/// The conditions of a load, beside facts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    program: Vec<u8>,
    /// The working directory, if a path that the loader gets is relative to it.
    cwd: Option<Vec<u8>>,
    /// LD_LIBRARY_PATH.
    folders: Option<Vec<u8>>,
    level: TraceLevel,
    executed_by: By,
}

/// The process that executed a program.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
enum By {
    /// We, without a filter if it is known what will be done, and perhaps without new privileges.
    Us { no_new_privs: bool },
    /// A process with our filter.
    Tracee,
}

/// The work of a loader.
#[derive(Debug)]
pub(crate) struct Load {
    facts: Vec<Fact>,
    /// Its calls.
    pub(crate) told: Rc<Loaded>,
    /// The program's interpreter: the loader.
    pub(crate) interpreters: Vec<RawString>,
    pub(crate) hook: Hook,
    /// The files that were mapped.
    mapped: BTreeSet<MappedFile>,
    /// Whether the process had given up gaining privileges, to be allowed a filter.
    pub(crate) no_new_privs: bool,
}

/// The action for a program's loader.
#[derive(Debug)]
pub(crate) enum Known {
    /// It is to be watched, and what it does remembered.
    No,
    /// It will do this.
    Yes(Rc<Load>),
}

impl Key {
    /// Takes what a root is going to be executed with; strings without NUL. `None` if its environment
    /// has anything more to say to a loader than where to look.
    pub(crate) fn of_root(
        program: &[u8],
        cwd: &[u8],
        environment: &[u8],
        level: TraceLevel,
        no_new_privs: bool,
    ) -> Option<Self> {
        let mut rest = environment;
        // A search is much quicker here than a look at each byte.
        let variables = std::iter::from_fn(|| {
            let end = memchr::memchr(0, rest).unwrap_or(rest.len());
            let (variable, after) = rest.split_at(end);
            let all = std::mem::replace(&mut rest, after.get(1..).unwrap_or_default());
            (!all.is_empty()).then_some(variable)
        });
        let variables = variables.map(|variable| {
            let equals = memchr::memchr(b'=', variable);
            let (name, value) = variable.split_at(equals.unwrap_or(variable.len()));
            (name, value.get(1..).unwrap_or_default())
        });
        let executed_by = By::Us { no_new_privs };
        Self::new(program, cwd, folders(variables)?, level, executed_by)
    }

    /// Takes what a tracee has executed, with this environment.
    pub(crate) fn of_tracee(
        exec: &Exec,
        environment: &Environment,
        level: TraceLevel,
    ) -> Option<Self> {
        let variables = || folders(environment.variables());
        let folders = environment.is_whole().then(variables)??;
        // Of a script it is its last interpreter that has a loader.
        let program = match &exec.interpreters[..] {
            [] => return None,
            [_] => exec.program.path(),
            [.., program, _] => program,
        };
        let (program, cwd) = (program.as_bytes(), exec.cwd.as_bytes());
        Self::new(program, cwd, folders, level, By::Tracee)
    }

    fn new(
        program: &[u8],
        cwd: &[u8],
        folders: Option<&[u8]>,
        level: TraceLevel,
        executed_by: By,
    ) -> Option<Self> {
        let is_relative = |path: &[u8]| path.first() != Some(&b'/');
        let relative_folder = |folders: &[u8]| {
            let mut folders = folders.split(|byte| matches!(byte, b':' | b';'));
            folders.any(is_relative)
        };
        if program.is_empty() || is_relative(cwd) {
            return None;
        }
        let absolute = match is_relative(program) {
            true => [cwd, b"/", program].concat(),
            false => program.to_vec(),
        };
        Some(Self {
            program: absolute,
            cwd: folders.is_some_and(relative_folder).then(|| cwd.to_vec()),
            folders: folders.map(<[u8]>::to_vec),
            level,
            executed_by,
        })
    }
}

/// Returns the value of LD_LIBRARY_PATH; `None` if variables have more to say to a loader.
fn folders<'a>(
    variables: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Option<Option<&'a [u8]>> {
    let mut folders = None;
    for (name, value) in variables {
        if name == b"LD_LIBRARY_PATH" {
            if folders.replace(value).is_some() {
                return None;
            }
        } else if name.starts_with(b"LD_") || name == b"GLIBC_TUNABLES" {
            return None;
        }
    }
    Some(folders)
}

impl Loads {
    /// Returns what the loader of a program that is about to be executed will do. `None` if that can
    /// not be known.
    pub(crate) fn of(&mut self, key: &Key) -> Option<Known> {
        if self.refused {
            return None;
        }
        match self.known.get(key) {
            Some(Memory::Load(load)) if load.holds() => Some(Known::Yes(Rc::clone(load))),
            Some(Memory::Unclear) => None,
            Some(Memory::Load(_)) | None => Some(Known::No),
        }
    }

    fn remember(&mut self, key: Key, memory: Memory) {
        if self.known.len() >= PROGRAMS {
            self.known
                .retain(|_, memory| matches!(memory, Memory::Load(_)));
        }
        if self.known.len() >= PROGRAMS {
            self.known.clear();
        }
        self.known.insert(key, memory);
    }

    /// Returns how many filters this process has. It never has others than at first.
    pub(crate) fn own_filters(&mut self, ask: impl FnOnce() -> Option<u32>) -> Option<u32> {
        *self.own_filters.get_or_insert_with(ask)
    }

    /// Returns the hook of the loader that interprets a program.
    pub(crate) fn hook(&mut self, loader: &RawString) -> Option<Hook> {
        let path = loader.as_bytes();
        if path.first() != Some(&b'/') {
            return None;
        }
        let looked = look(&CString::new(path).ok()?);
        if let Some((known, hook)) = self.hooks.get(path)
            && *known == looked
        {
            return *hook;
        }
        let regular = looked.is_ok_and(|(looked, _)| looked.regular);
        let file = regular.then(|| read(path)).flatten();
        let hook = file.and_then(|file| Hook::find(&file));
        self.hooks.insert(path.to_vec(), (looked, hook));
        hook
    }

    /// Remembers what the loader of a process has done, which stands at the hook. Some files are mapped by us.
    pub(crate) fn learn(
        &mut self,
        key: Key,
        process: Pid,
        seen: Seen,
        ours: &BTreeSet<MappedFile>,
    ) {
        match Load::new(&key, process, seen, ours) {
            Some(load) if facts::is_fresh(&load.facts) => {}
            Some(load) => self.remember(key, Memory::Load(Rc::new(load))),
            None => self.remember(key, Memory::Unclear),
        }
    }

    /// A program's loader cannot be remembered.
    pub(crate) fn give_up(&mut self, key: Key) {
        self.remember(key, Memory::Unclear);
    }

    /// A loader has done something else than was remembered.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.known.remove(key);
    }

    /// Returns of how many programs that tracees execute it is known what their loaders do.
    #[cfg(test)]
    pub(crate) fn of_tracees(&self) -> usize {
        let known = self.known.iter();
        let known = known.filter(|(key, memory)| {
            key.executed_by == By::Tracee && matches!(memory, Memory::Load(_))
        });
        known.count()
    }

    /// A filter could not be installed at a hook, so none will be.
    pub(crate) fn refuse(&mut self) {
        self.refused = true;
    }
}

/// The observed work of a loader.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) events: Vec<TraceEventKind>,
    pub(crate) interpreters: Vec<RawString>,
    pub(crate) hook: Hook,
}

impl Load {
    /// `None` if it cannot be told from facts what a loader does.
    fn new(key: &Key, process: Pid, seen: Seen, ours: &BTreeSet<MappedFile>) -> Option<Self> {
        let no_new_privs = match key.executed_by {
            By::Us { .. } => gave_up_privileges(process)?,
            By::Tracee => false,
        };
        let mut facts = Facts::default();
        let (program, _) = facts.of(&key.program)?.ok()?;
        // Who gains privileges by an exec is not what it was when that is remembered.
        let (executed, _) = look(&CString::new(proc::path(process, "exe")).ok()?).ok()?;
        if program.mode & (libc::S_ISUID | libc::S_ISGID) != 0 || executed.file != program.file {
            return None;
        }
        for interpreter in &seen.interpreters {
            let _ = facts.of(interpreter.as_bytes())?.ok()?;
        }
        // What the loader asks by calls that are not seen at each level.
        let _ = facts.of(PRELOADED)?;
        let told = Loaded::new(seen.events)?;
        for call in told.calls() {
            if key.cwd.is_none() && call.path.asked.as_bytes().first() != Some(&b'/') {
                return None;
            }
            facts.of_call(call)?;
        }
        Some(Self {
            facts: facts.into_vec(),
            told: Rc::new(told),
            interpreters: seen.interpreters,
            hook: seen.hook,
            mapped: &mapped(process)? - ours,
            no_new_privs,
        })
    }

    /// Returns whether all facts are the same.
    pub(crate) fn holds(&self) -> bool {
        facts::hold(&self.facts)
    }

    /// Returns whether the same files are mapped by a process, beside ours.
    pub(crate) fn is_mapped_by(&self, process: Pid, ours: &BTreeSet<MappedFile>) -> bool {
        mapped(process).is_some_and(|files| &files - ours == self.mapped)
    }
}

/// Reads a file as far as a loader goes at most.
fn read(path: &[u8]) -> Option<Vec<u8>> {
    const MOST_BYTES: u64 = 16 * 1024 * 1024;
    let mut bytes = Vec::new();
    let file = File::open(OsStr::from_bytes(path)).ok()?;
    file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Returns whether a process has set no_new_privs. `None` if it could not install a filter.
fn gave_up_privileges(process: Pid) -> Option<bool> {
    const ADMINISTRATOR: u64 = 1 << 21;
    let status = proc::read(&proc::path(process, "status")).ok()?;
    let capabilities = proc::effective_capabilities(&status)?;
    let gave_up = proc::field(&status, "NoNewPrivs:")? == "1";
    (gave_up || capabilities & ADMINISTRATOR != 0).then_some(gave_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_environment_that_says_no_more_than_where_to_look_has_a_key() {
        let key = |environment: &[u8]| {
            Key::of_root(b"program", b"/folder", environment, TraceLevel::Io, true)
        };
        let plain = key(b"A=1\0").expect("nothing concerns the loader");
        assert_eq!(plain.program, b"/folder/program");
        assert_eq!(plain.folders, None);
        let folders = key(b"A=1\0LD_LIBRARY_PATH=/a:/b\0").expect("it may say that");
        assert_eq!(folders.folders.as_deref(), Some(b"/a:/b".as_slice()));
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
    fn where_a_program_is_executed_matters_only_if_a_folder_is_relative_to_that() {
        let key = |cwd: &[u8], folders: &str| {
            let environment = format!("LD_LIBRARY_PATH={folders}\0");
            Key::of_root(b"/p", cwd, environment.as_bytes(), TraceLevel::Io, true)
        };
        assert_eq!(key(b"/here", "/a:/b"), key(b"/there", "/a:/b"));
        for relative in ["a", "/a:b", "/a;b", "", "/a:", "$ORIGIN/a"] {
            assert_ne!(
                key(b"/here", relative),
                key(b"/there", relative),
                "{relative}"
            );
        }
    }

    #[test]
    fn the_key_of_a_script_is_that_of_its_interpreter() {
        let environment = |text: &[u8]| Environment::from_block(text);
        let key = |program: &str, interpreters: &[&str], environment: &Environment| {
            let mut exec = Exec {
                interpreters: interpreters.iter().map(|it| it.as_bytes().into()).collect(),
                cwd: b"/folder".as_slice().into(),
                ..Exec::default()
            };
            exec.program.asked = program.as_bytes().into();
            Key::of_tracee(&exec, environment, TraceLevel::Io)
        };
        let plain = environment(b"A=1\0");
        let program = key("/bin/sh", &["/lib/ld.so"], &plain);
        assert!(program.is_some());
        assert_eq!(key("/script", &["/bin/sh", "/lib/ld.so"], &plain), program);
        let chain = ["/bin/script", "/bin/sh", "/lib/ld.so"];
        assert_eq!(key("/script", &chain, &plain), program);
        assert_eq!(key("/static", &[], &plain), None);
        for unsure in [b"LD_PRELOAD=/a\0".as_slice(), b"A=1\0A=2\0"] {
            assert_eq!(key("/bin/sh", &["/lib/ld.so"], &environment(unsure)), None);
        }
    }
}
