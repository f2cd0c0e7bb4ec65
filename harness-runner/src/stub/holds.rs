//! Finds out what survivors have open that others may miss: the test's output, sockets, files of the
//! workspace; and who their parents were.

use super::{
    status::{self, Stat},
    stuck,
    sys::Pid,
};
use crate::proc;
use harness_metadata::{
    TraceSummary,
    outcome::{Ancestor, Held},
};
use nix::{
    sys::stat::{SFlag, fstat},
    unistd::{SysconfVar, sysconf},
};
use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    os::{
        fd::AsFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::Path,
    rc::Rc,
    time::Duration,
};

/// The most things that are named of one process.
const MOST_HELD: usize = 16;

/// The most descriptors of a process that are looked at.
const MOST_DESCRIPTORS: usize = 1024;

/// The most ancestors that are named of one process.
const MOST_ANCESTORS: usize = 16;

/// The wanted facts about a process.
#[derive(Debug, Default)]
pub(super) struct Interest {
    /// The pipes of the test's output, if it is captured.
    output: [Option<libc::ino_t>; 2],
    workspace: Option<Rc<Path>>,
}

impl Interest {
    /// The output is the second and third of `stdio`.
    pub(super) fn new(stdio: &[impl AsFd], workspace: Option<Rc<Path>>) -> Self {
        let pipe = |fd| {
            let stat = fstat(fd).ok()?;
            let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
            (kind == SFlag::S_IFIFO).then_some(stat.st_ino)
        };
        let output = [1, 2].map(|number| stdio.get(number).and_then(pipe));
        Self { output, workspace }
    }

    /// Returns what of that a process has open.
    pub(super) fn held(&self, pid: Pid) -> Vec<Held> {
        let mut held = BTreeSet::new();
        let entries = fs::read_dir(proc::path(pid, "fd"));
        let entries = entries.into_iter().flatten().flatten();
        for entry in entries.take(MOST_DESCRIPTORS) {
            if held.len() == MOST_HELD {
                break;
            }
            let name = entry.file_name();
            if let Some(link) = proc::link(pid, format_args!("fd/{}", name.display())) {
                let link = OsString::from_vec(link);
                held.extend(self.interesting(pid, Path::new(&link)));
            }
        }
        held.into_iter().collect()
    }

    fn interesting(&self, pid: Pid, link: &Path) -> Option<Held> {
        let text = link.to_string_lossy();
        if let Some(inode) = stuck::inode_of(&text, "pipe:[") {
            let at = self.output.iter().position(|output| *output == Some(inode));
            return at.map(|at| [Held::Stdout, Held::Stderr][at].clone());
        }
        if let Some(inode) = stuck::inode_of(&text, "socket:[") {
            return stuck::socket(pid, inode).map(|what| Held::Socket { what });
        }
        let inside = self
            .workspace
            .as_ref()
            .is_some_and(|root| link.starts_with(root));
        inside.then(|| Held::File {
            path: text.into_owned(),
        })
    }
}

/// Returns the folder of the workspace that an environment names.
pub(super) fn workspace(environment: &[u8]) -> Option<Rc<Path>> {
    const ROOT: &[u8] = b"HARNESS_WORKSPACE_ROOT=";
    let mut variables = environment.split(|byte| *byte == 0);
    let root = variables.find_map(|variable| variable.strip_prefix(ROOT))?;
    Some(Rc::from(Path::new(OsStr::from_bytes(root))))
}

/// Returns the parents of a process up to the test's own, the nearest first: by who created whom
/// where that has been traced, else by who is whose parent now.
pub(super) fn ancestry(pid: Pid, root: Pid, trace: Option<&TraceSummary>) -> Vec<Ancestor> {
    let own = nix::unistd::getpid().as_raw();
    // An id may have been given twice. The last one is that of who was there last.
    let traced = |pid| {
        let processes = trace.map_or(&[][..], |trace| &trace.processes);
        processes.iter().rev().find(|process| process.pid == pid)
    };
    let parent = |pid| {
        let creator = traced(pid).and_then(|process| process.creator);
        creator.or_else(|| status::stat(pid).map(|stat| stat.parent))
    };
    let mut ancestry = Vec::new();
    let mut child = pid;
    while let Some(parent) = parent(child).filter(|parent| *parent > 1 && *parent != own) {
        let told = traced(parent).map(|process| {
            let args = process.args.iter().map(ToString::to_string);
            shell_words::join(args.collect::<Vec<_>>())
        });
        let command = told.or_else(|| status::command_line(parent));
        ancestry.push(Ancestor {
            pid: parent,
            command: command.unwrap_or_default(),
        });
        if parent == root || ancestry.len() == MOST_ANCESTORS {
            break;
        }
        child = parent;
    }
    ancestry
}

/// Returns how long ago a process was created.
pub(super) fn age(stat: &Stat) -> Option<Duration> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
    let ticks = sysconf(SysconfVar::CLK_TCK).ok()??;
    let started = stat.started as f64 / ticks as f64;
    Duration::try_from_secs_f64(uptime - started).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, net::TcpListener, os::fd::OwnedFd, process};

    #[test]
    fn output_sockets_and_files_of_the_workspace_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let _inside = File::create(root.join("lock")).unwrap();
        let _outside = File::open("/dev/null").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let null = OwnedFd::from(File::open("/dev/null").unwrap());
        let stdio = [null, OwnedFd::from(writer), OwnedFd::from(reader)];
        let environment = format!("A=1\0HARNESS_WORKSPACE_ROOT={}\0", root.display());
        let interest = Interest::new(&stdio, workspace(environment.as_bytes()));
        let held = interest.held(process::id().cast_signed());
        let address = listener.local_addr().unwrap();
        for wanted in [
            Held::Socket {
                what: format!("tcp socket listening on {address}"),
            },
            Held::File {
                path: root.join("lock").display().to_string(),
            },
        ] {
            assert!(held.contains(&wanted), "{wanted:?} in {held:?}");
        }
        // Both ends of one pipe: it is named once, as what comes first.
        assert!(held.contains(&Held::Stdout), "{held:?}");
        assert!(
            !held
                .iter()
                .any(|held| matches!(held, Held::File { path } if path == "/dev/null"))
        );
    }

    #[test]
    fn a_process_is_as_old_as_it_is() {
        let mut child = process::Command::new("sleep").arg("50").spawn().unwrap();
        let pid = child.id().cast_signed();
        let young = age(&status::stat(pid).unwrap()).unwrap();
        let own = age(&status::stat(process::id().cast_signed()).unwrap()).unwrap();
        let parents = ancestry(pid, 0, None);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            young <= own + Duration::from_millis(20),
            "{young:?}, {own:?}"
        );
        assert!(own < Duration::from_secs(3600), "{own:?}");
        // This process is where it ends: a stub.
        assert_eq!(parents, []);
    }
}
