//! An attempt, for people: its processes as a tree, and everything that they did together.

use super::{
    filter::{EventKind, Filter},
    shell,
};
use harness_metadata::{
    Exit, Outcome, RawString, TraceSummary, Verdict,
    noise::{is_library, is_noise},
    trace::{Address, FileSummary, FileUse, PeerSummary, ProcessSummary, Reach, Sender},
};
use harness_runner::{
    report::{
        signal_name,
        style::{Styles, escaped, paint},
        trace_line::quoted,
    },
    store::Found,
};
use nix::errno::Errno;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    time::Duration,
};

/// Lines of a list, unless everything is asked for.
const LINES: usize = 20;
/// Characters of a command line, unless everything is asked for.
const COMMAND: usize = 160;

/// The shown part.
pub(super) struct Tree<'a> {
    pub(super) found: &'a Found,
    pub(super) summary: &'a TraceSummary,
    pub(super) filter: &'a Filter,
    pub(super) styles: Styles,
    pub(super) verbose: bool,
}

/// A list with a heading.
struct Group {
    heading: &'static str,
    /// A file is listed with the first group that has one of its uses.
    uses: &'static [FileUse],
}

const GROUPS: &[Group] = &[
    Group {
        heading: "created",
        uses: &[FileUse::Created],
    },
    Group {
        heading: "written",
        uses: &[FileUse::Written, FileUse::Truncated],
    },
    Group {
        heading: "renamed",
        uses: &[FileUse::RenamedFrom, FileUse::RenamedTo],
    },
    Group {
        heading: "removed",
        uses: &[FileUse::Removed],
    },
    Group {
        heading: "linked or changed in mode, owner or times",
        uses: &[FileUse::Linked, FileUse::MetadataChanged],
    },
    Group {
        heading: "executed",
        uses: &[FileUse::Executed],
    },
    Group {
        heading: "read",
        uses: &[FileUse::Read],
    },
    Group {
        heading: "listed",
        uses: &[FileUse::Listed],
    },
    Group {
        heading: "looked up",
        uses: &[FileUse::Queried],
    },
    Group {
        heading: "refused",
        uses: &[FileUse::Refused],
    },
    Group {
        heading: "missing",
        uses: &[FileUse::Missing],
    },
];

impl Tree<'_> {
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        self.title(out)?;
        self.processes(out)?;
        self.failures(out)?;
        self.files(out)?;
        self.network(out)?;
        self.verdict(out)
    }

    fn title(&self, out: &mut dyn Write) -> io::Result<()> {
        let record = &self.found.record;
        let style = match record.verdict {
            Verdict::Pass => self.styles.pass,
            Verdict::Fail => self.styles.fail,
            Verdict::Interrupted | Verdict::Quarantined => self.styles.warn,
        };
        let run = self.found.run.header.run_id.to_string();
        writeln!(
            out,
            "{}: {} in {}",
            self.styles.name(&record.test),
            paint(&outcome(&record.outcome), style),
            seconds(record.elapsed),
        )?;
        let at = record.started_at.format("%Y-%m-%d %H:%M:%S");
        writeln!(out, "attempt {} of run {run}, {at}", record.attempt)
    }

    fn heading(&self, out: &mut dyn Write, text: &str) -> io::Result<()> {
        writeln!(out, "\n{}", paint(text, self.styles.count))
    }

    fn processes(&self, out: &mut dyn Write) -> io::Result<()> {
        self.heading(out, "Processes")?;
        let processes = &self.summary.processes;
        let mut children: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
        // The latest process with an id so far: ids are used again.
        let mut by_pid = BTreeMap::new();
        for (number, process) in processes.iter().enumerate() {
            let creator = process.creator.and_then(|pid| by_pid.get(&pid).copied());
            children.entry(creator).or_default().push(number);
            by_pid.insert(process.pid, number);
        }
        // Not by recursion: a chain of processes may be long.
        let mut stack = Vec::new();
        let push = |stack: &mut Vec<(usize, String, String)>, parent, before: &str| {
            let below = children.get(&parent).map_or(&[][..], Vec::as_slice);
            for (index, number) in below.iter().enumerate().rev() {
                let last = index + 1 == below.len();
                let (branch, after) = match (parent, last) {
                    (None, _) => ("", ""),
                    (_, true) => ("└─ ", "   "),
                    (_, false) => ("├─ ", "│  "),
                };
                stack.push((
                    *number,
                    format!("{before}{branch}"),
                    format!("{before}{after}"),
                ));
            }
        };
        push(&mut stack, None, "");
        while let Some((number, before, below)) = stack.pop() {
            self.process(out, &processes[number], &before)?;
            push(&mut stack, Some(number), &below);
        }
        if self.summary.dropped.processes > 0 {
            writeln!(out, "  … and {} more", self.summary.dropped.processes)?;
        }
        Ok(())
    }

    fn process(
        &self,
        out: &mut dyn Write,
        process: &ProcessSummary,
        before: &str,
    ) -> io::Result<()> {
        let ProcessSummary { pid, started, .. } = process;
        let from = started.as_secs_f64();
        let time = match process.ended {
            Some(ended) => format!("{from:.3}–{:.3} s", ended.as_secs_f64()),
            None => format!("{from:.3} s–"),
        };
        let (end, style) = match process.exit {
            Some(exit) if exit.success() => (self::exit(exit), self.styles.pass),
            Some(exit) => (self::exit(exit), self.styles.fail),
            None => ("alive at the end".to_owned(), self.styles.warn),
        };
        let by = process.killed_by.map(sender).unwrap_or_default();
        let forked = if process.execs == 0 && process.creator.is_some() {
            " (forked)"
        } else {
            ""
        };
        writeln!(
            out,
            "  {before}{} {time} {}{by}  {}{forked}",
            paint(&pid.to_string(), self.styles.count),
            paint(&end, style),
            self.command(&process.args),
        )
    }

    fn command(&self, args: &[RawString]) -> String {
        let words: Vec<_> = args
            .iter()
            .map(|arg| shell::quoted(arg.as_bytes()))
            .collect();
        let line = words.join(" ");
        if self.verbose || line.chars().count() <= COMMAND {
            return line;
        }
        line.chars().take(COMMAND).chain(['…']).collect()
    }

    fn failures(&self, out: &mut dyn Write) -> io::Result<()> {
        let failures: Vec<_> = self.summary.failures.iter().collect();
        if failures.is_empty() {
            return Ok(());
        }
        self.heading(out, "Calls that failed")?;
        let shown = if self.verbose { failures.len() } else { LINES };
        let left_out = failures.len().saturating_sub(shown);
        self.left_out(out, left_out, "earlier ones")?;
        for failure in failures.into_iter().skip(left_out) {
            writeln!(
                out,
                "  {:.3} s {} {} {}: {}",
                failure.at.as_secs_f64(),
                failure.pid,
                escaped(&failure.call),
                self.path(&failure.target),
                paint(&errno(failure.errno), self.styles.fail),
            )?;
        }
        Ok(())
    }

    fn files(&self, out: &mut dyn Write) -> io::Result<()> {
        let (groups, noise) = self.grouped_files();
        if groups.iter().all(Vec::is_empty) {
            return Ok(());
        }
        let root = &self.found.run.header.workspace_root;
        self.heading(
            out,
            &format!("Files, relative to {}", escaped(root.as_str())),
        )?;
        for (group, mut files) in GROUPS.iter().zip(groups) {
            if files.is_empty() {
                continue;
            }
            writeln!(out, "  {}", paint(group.heading, self.styles.module))?;
            // The workspace's own first.
            files.sort_by_key(|file| (self.inside(&file.path).is_none(), &file.path));
            let shown = if self.verbose { files.len() } else { LINES };
            for file in files.iter().take(shown) {
                writeln!(out, "    {}{}", self.path(&file.path), further(group, file))?;
            }
            self.left_out(out, files.len().saturating_sub(shown), "more")?;
        }
        if noise > 0 {
            writeln!(
                out,
                "  {noise} missing that many programs look for (--verbose lists them)"
            )?;
        }
        if self.summary.dropped.files > 0 {
            let dropped = self.summary.dropped.files;
            writeln!(out, "  {dropped} uses of further files (--log has them)")?;
        }
        Ok(())
    }

    /// Returns the files of each of [`GROUPS`], and how many are left out because many programs look
    /// for them.
    fn grouped_files(&self) -> (Vec<Vec<&FileSummary>>, usize) {
        let mut groups: Vec<Vec<&FileSummary>> = vec![Vec::new(); GROUPS.len()];
        let mut noise = 0;
        let of_loader = OfLoader::new(&self.summary.files);
        for file in &self.summary.files {
            if !self.wants(file) {
                continue;
            }
            let missing = !self.verbose && file.uses == [FileUse::Missing];
            let path = file.path.as_bytes();
            if missing && (is_noise(path) || of_loader.looked_for(path)) {
                noise += 1;
                continue;
            }
            let group = GROUPS
                .iter()
                .position(|group| group.uses.iter().any(|used| file.uses.contains(used)));
            if let Some(group) = group {
                groups[group].push(file);
            }
        }
        (groups, noise)
    }

    fn wants(&self, file: &FileSummary) -> bool {
        let executed = file.uses.contains(&FileUse::Executed);
        let kind =
            self.filter.wants(EventKind::File) || executed && self.filter.wants(EventKind::Exec);
        kind && self.filter.wants_path(&file.path)
    }

    fn left_out(&self, out: &mut dyn Write, count: usize, what: &str) -> io::Result<()> {
        match count {
            0 => Ok(()),
            _ => writeln!(out, "    … {count} {what} (--verbose lists all)"),
        }
    }

    fn network(&self, out: &mut dyn Write) -> io::Result<()> {
        let wanted = self.filter.wants(EventKind::Net);
        let wants = |peer: &&PeerSummary| {
            wanted
                && match &peer.address {
                    Address::Unix(path) => self.filter.wants_path(path),
                    _ => true,
                }
        };
        let peers: Vec<_> = self.summary.peers.iter().filter(wants).collect();
        if peers.is_empty() {
            return Ok(());
        }
        self.heading(out, "Network")?;
        let shown = if self.verbose { peers.len() } else { LINES };
        for peer in peers.iter().take(shown) {
            writeln!(out, "  {}", self.peer(peer))?;
        }
        self.left_out(out, peers.len().saturating_sub(shown), "more")
    }

    fn peer(&self, peer: &PeerSummary) -> String {
        let verb = peer.operation.verb();
        let address = match &peer.address {
            Address::Unix(path) => self.path(path),
            address => escaped(&address.to_string()).into_owned(),
        };
        let reach = match peer.reach {
            Reach::Tree => " (the test's own)",
            Reach::Machine => " (this machine)",
            Reach::Outside => " (another machine)",
            Reach::Unknown => "",
        };
        let mut line = format!("{verb} {address}{reach}");
        if peer.count > 1 {
            line += &format!(", {} times", peer.count);
        }
        if !peer.names.is_empty() {
            let names: Vec<_> = peer.names.iter().map(shown).collect();
            line += &format!(", asked for {}", names.join(", "));
        }
        if let Some(error) = peer.error {
            line += &format!(": {}", paint(&errno(error), self.styles.fail));
        }
        line
    }

    fn verdict(&self, out: &mut dyn Write) -> io::Result<()> {
        self.heading(out, "Trace")?;
        let backend = match self.summary.backend {
            harness_metadata::trace::Backend::Ptrace => "ptrace with a filter",
            harness_metadata::trace::Backend::Notify => "seccomp notification",
            harness_metadata::trace::Backend::Lifecycle => "ptrace without a filter",
            harness_metadata::trace::Backend::None => "nothing",
            harness_metadata::trace::Backend::Outer => "the tracer of an outer run",
        };
        let level = self.summary.level.as_str();
        if self.summary.complete() {
            let word = paint("complete", self.styles.pass);
            return writeln!(out, "  {word} at level {level}, by {backend}");
        }
        let word = paint("incomplete", self.styles.warn);
        writeln!(out, "  {word} at level {level}, by {backend}:")?;
        for doubt in &self.summary.doubts {
            writeln!(out, "  - {}", escaped(&doubt.to_string()))?;
        }
        Ok(())
    }

    /// Returns a path relative to the workspace where it is inside.
    fn path(&self, path: &RawString) -> String {
        shown(self.inside(path).as_ref().unwrap_or(path))
    }

    fn inside(&self, path: &RawString) -> Option<RawString> {
        let root = self.found.run.header.workspace_root.as_str().as_bytes();
        let rest = path.as_bytes().strip_prefix(root)?.strip_prefix(b"/")?;
        (!rest.is_empty()).then(|| rest.into())
    }
}

/// The libraries and folders that dynamic loaders looked for.
struct OfLoader<'a> {
    /// Libraries that were found: the loader looks for them in one folder after the other.
    found: BTreeSet<&'a [u8]>,
    /// Folders without such a library: the loader asks whether there is a folder at all.
    searched: BTreeSet<&'a [u8]>,
}

impl<'a> OfLoader<'a> {
    fn new(files: &'a [FileSummary]) -> Self {
        let used = |used: FileUse| {
            let files = files.iter().filter(move |file| file.uses.contains(&used));
            files.map(|file| file.path.as_bytes())
        };
        let found = used(FileUse::Read).map(library);
        let searched = used(FileUse::Missing)
            .filter(|path| !library(path).is_empty())
            .map(|path| &path[..path.len() - library(path).len()])
            .map(|folder| folder.strip_suffix(b"/").unwrap_or(folder));
        Self {
            found: found.filter(|name| !name.is_empty()).collect(),
            searched: searched.collect(),
        }
    }

    fn looked_for(&self, path: &[u8]) -> bool {
        self.found.contains(library(path)) || self.searched.contains(path)
    }
}

/// Returns what else was done with a file than what its group says.
fn further(group: &Group, file: &FileSummary) -> String {
    let words: Vec<_> = file
        .uses
        .iter()
        .filter(|used| !group.uses.contains(used) || group.uses.len() > 1)
        .map(|used| match used {
            FileUse::Executed => "executed",
            FileUse::Read => "read",
            FileUse::Written => "written",
            FileUse::Created => "created",
            FileUse::Truncated => "cut",
            FileUse::Removed => "removed",
            FileUse::RenamedFrom => "renamed away",
            FileUse::RenamedTo => "renamed to this",
            FileUse::Linked => "linked",
            FileUse::MetadataChanged => "metadata changed",
            FileUse::Queried => "looked up",
            FileUse::Listed => "listed",
            FileUse::Missing => "missing at times",
            FileUse::Refused => "refused at times",
        })
        .collect();
    match words.as_slice() {
        [] | ["written"] => String::new(),
        words => format!(" ({})", words.join(", ")),
    }
}

/// Returns bytes as they are if that is clear, and else in quotes.
/// Returns the file name of a shared library, nothing for another file.
fn library(path: &[u8]) -> &[u8] {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if is_library(name) { name } else { b"" }
}

fn shown(text: &RawString) -> String {
    let plain = text.to_string();
    let in_quotes = quoted(text);
    match in_quotes.len() == plain.len() + 2 && !plain.contains(' ') && !plain.is_empty() {
        true => plain,
        false => in_quotes,
    }
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited(exit) => self::exit(*exit),
        Outcome::StartFailed(failure) => format!("not started: {}", escaped(&failure.message)),
        Outcome::TimedOut { .. } => "timed out".to_owned(),
        Outcome::Interrupted { .. } => "interrupted".to_owned(),
        Outcome::HarnessFault(fault) => format!("harness fault: {}", escaped(&fault.message)),
        Outcome::NoResult(no) => escaped(&no.message).into_owned(),
        Outcome::BinaryChanged(fault) => format!("did not run: {}", escaped(&fault.message)),
    }
}

fn exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited with {code}"),
        Exit::Signal {
            signal,
            core_dumped,
        } => {
            let core = if core_dumped { ", core dumped" } else { "" };
            format!("killed by {}{core}", signal_name(signal))
        }
    }
}

fn sender(sender: Sender) -> String {
    match sender {
        Sender::Kernel => " from the kernel".to_owned(),
        Sender::Tree(pid) => format!(" from {pid}"),
        Sender::Harness => " from the harness".to_owned(),
        Sender::Outside(pid) => format!(" from {pid}, which is no process of the test"),
    }
}

fn errno(errno: i32) -> String {
    match Errno::from_raw(errno) {
        Errno::UnknownErrno => format!("error {errno}"),
        known => format!("{} ({known:?})", known.desc()),
    }
}

fn seconds(elapsed: Duration) -> String {
    format!("{:.3} s", elapsed.as_secs_f64())
}
