//! Files beside a report: the output that is too long for it, and the traces of attempts that failed.
//!
//! They lie in a folder that has the name of the report and `.files`. Each is whole or not there. A report that is
//! written again takes those away that it does not refer to.

use super::{Kept, Outputs, Stream, derived, document::Document, wording};
use crate::own_files;
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{Attempt, AttemptId, Verdict};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
};

/// The endings of the names of attachments.
const SUFFIXES: [&str; 3] = [".stdout.txt", ".stderr.txt", TRACE];
const TRACE: &str = ".trace.txt";

/// The most traces of a report: the first failures say most.
pub(super) const MOST_TRACES: usize = 200;

/// The most characters of a test's name in the name of a file.
const NAME: usize = 60;

/// The attachments of a report.
#[derive(Debug)]
pub(super) struct Attachments {
    folder: Utf8PathBuf,
    names: BTreeSet<String>,
    traces: usize,
}

impl Attachments {
    /// Returns the attachments of the report at `report`; `None` if that is no file that others could lie beside.
    pub(super) fn beside(report: &Utf8Path) -> Option<Self> {
        let special = report.starts_with("/dev") || report.starts_with("/proc");
        let is_file = fs::metadata(report).map_or(true, |there| there.is_file());
        (!special && is_file).then(|| Self {
            folder: Utf8PathBuf::from(format!("{report}.files")),
            names: BTreeSet::new(),
            traces: 0,
        })
    }

    /// Returns the folder.
    pub(super) fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    /// Writes the kept part of a stream to a file. Returns the name of the file; `None` if nothing was kept.
    ///
    /// # Errors
    ///
    /// When the output cannot be read back, or the file cannot be written.
    pub(super) fn add(
        &mut self,
        id: &AttemptId,
        stream: Stream,
        outputs: &dyn Outputs,
    ) -> io::Result<Option<String>> {
        let Some(kept) = outputs.open(id, stream)? else {
            return Ok(None);
        };
        let name = name(id, SUFFIXES[usize::from(stream == Stream::Stderr)]);
        let mut file = Document::create(&self.folder.join(&name))?;
        copy(kept, &mut file)?;
        file.flush()?;
        file.finish()?;
        self.names.insert(name.clone());
        Ok(Some(name))
    }

    /// Writes the trace of an attempt that failed to a file. Returns the name of the file; `None` if none is kept, and of
    /// all but the first [`MOST_TRACES`].
    ///
    /// # Errors
    ///
    /// As for [`add`](Self::add).
    pub(super) fn add_trace(
        &mut self,
        id: &AttemptId,
        attempt: &Attempt,
        outputs: &dyn Outputs,
    ) -> io::Result<Option<String>> {
        if !wants_trace(attempt) || self.traces >= MOST_TRACES {
            return Ok(None);
        }
        let name = name(id, TRACE);
        let mut file = Document::create(&self.folder.join(&name))?;
        // Without a trace the file never gets its name.
        if !outputs.write_trace(id, &mut file)? {
            return Ok(None);
        }
        file.flush()?;
        file.finish()?;
        self.traces += 1;
        self.names.insert(name.clone());
        Ok(Some(name))
    }

    /// Removes the attachments of the report that was there before, and the folder if it is empty then.
    pub(super) fn finish(self) {
        let entries = self.folder.read_dir_utf8().into_iter().flatten();
        for entry in entries.flatten() {
            let name = entry.file_name();
            if is_attachment(name) && !self.names.contains(name) {
                let _ = fs::remove_file(entry.path());
            }
        }
        if self.names.is_empty() {
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// Returns whether the trace of an attempt may explain something.
pub(super) fn wants_trace(attempt: &Attempt) -> bool {
    attempt.verdict != Verdict::Pass && attempt.trace.is_some()
}

/// Copies a stream. A line stands where bytes were not kept.
fn copy(mut kept: Kept<'_>, to: &mut dyn Write) -> io::Result<()> {
    io::copy(&mut kept.head, to)?;
    if kept.dropped > 0 {
        write!(to, "\n… {} not kept …\n", wording::size(kept.dropped))?;
        io::copy(&mut kept.tail, to)?;
    }
    Ok(())
}

/// Returns the name of a file: the test's, as far as a file can have it, and an id, which tells tests with equal
/// beginnings apart.
fn name(id: &AttemptId, suffix: &str) -> String {
    let (binary, test) = (id.test.binary.as_str(), id.test.name.as_str());
    let attempt = id.attempt.to_string();
    let number = derived::id(&[binary, test, &attempt]).simple().to_string();
    let readable: String = (test.chars().take(NAME))
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    format!("{readable}-{}{suffix}", &number[..16])
}

/// Returns whether a file has a name of [`name`].
fn is_attachment(file: &str) -> bool {
    let stem = SUFFIXES.iter().find_map(|suffix| file.strip_suffix(suffix));
    let id = stem.and_then(|stem| stem.rsplit_once('-'));
    id.is_some_and(|(_, id)| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Returns the path of a file as a report may have it: from the workspace, if it lies there.
pub(super) fn shown(file: &Utf8Path, workspace: &Utf8Path) -> Utf8PathBuf {
    let whole = own_files::directory(file)
        .canonicalize_utf8()
        .map(|folder| folder.join(file.file_name().unwrap_or_default()));
    let whole = whole.unwrap_or_else(|_| file.to_owned());
    match whole.strip_prefix(workspace) {
        Ok(within) => within.to_owned(),
        Err(_) => file.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{Memory, test};

    fn id(name: &str, attempt: u32) -> AttemptId {
        AttemptId {
            test: test(name),
            attempt,
        }
    }

    #[test]
    fn names_are_those_of_files_and_differ() {
        let long = "x/../y::".repeat(40);
        let names = [
            name(&id("a::b", 1), SUFFIXES[0]),
            name(&id("a::b", 1), SUFFIXES[1]),
            name(&id("a::b", 1), TRACE),
            name(&id("a::b", 2), SUFFIXES[0]),
            name(&id("a/:b", 1), SUFFIXES[0]),
            name(&id(&long, 1), SUFFIXES[0]),
        ];
        for one in &names {
            assert!(is_attachment(one), "{one}");
            assert!(!one.contains('/') && one.len() < 100, "{one}");
        }
        assert!(names[0].starts_with("a--b-"), "{}", names[0]);
        let different: BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len());
        for other in ["notes.txt", "a-b.stdout.txt", "0123456789abcdef.stdout.txt"] {
            assert!(!is_attachment(other), "{other}");
        }
    }

    #[test]
    fn those_of_the_report_before_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let report = Utf8Path::from_path(folder.path()).unwrap().join("r.html");
        let mut outputs = Memory::default();
        let (old, new) = (id("old", 1), id("new", 1));
        outputs.put(&old.test, 1, b"old", b"");
        outputs.put(&new.test, 1, b"\xffnew\n", b"");
        let mut first = Attachments::beside(&report).unwrap();
        let old = first.add(&old, Stream::Stdout, &outputs).unwrap().unwrap();
        first.finish();
        let files = folder.path().join("r.html.files");
        assert_eq!(fs::read(files.join(&old)).unwrap(), b"old");
        fs::write(files.join("notes.txt"), "theirs").unwrap();

        let mut second = Attachments::beside(&report).unwrap();
        let nothing = second.add(&id("new", 2), Stream::Stdout, &outputs).unwrap();
        assert_eq!(nothing, None);
        let new = second.add(&new, Stream::Stdout, &outputs).unwrap().unwrap();
        second.finish();
        assert_eq!(fs::read(files.join(&new)).unwrap(), b"\xffnew\n");
        assert!(!files.join(&old).exists());
        assert!(files.join("notes.txt").exists());

        let none = Attachments::beside(&report).unwrap();
        none.finish();
        assert!(files.join("notes.txt").exists() && !files.join(&new).exists());
        assert!(Attachments::beside(Utf8Path::new("/dev/stdout")).is_none());
    }

    /// Every attempt has a trace of one line.
    struct OneLine;

    impl Outputs for OneLine {
        fn open(&self, _: &AttemptId, _: Stream) -> io::Result<Option<Kept<'_>>> {
            Ok(None)
        }

        fn write_trace(&self, _: &AttemptId, to: &mut dyn Write) -> io::Result<bool> {
            writeln!(to, "line").map(|()| true)
        }
    }

    #[test]
    fn traces_of_the_first_attempts_that_failed_are_attached() {
        let folder = tempfile::tempdir().unwrap();
        let report = Utf8Path::from_path(folder.path()).unwrap().join("r.xml");
        let traced = |exit| Attempt {
            trace: Some(Box::new(crate::report::sample::trace())),
            ..crate::report::sample::code(1, exit)
        };
        let untraced = crate::report::sample::code(1, 1);
        let mut attachments = Attachments::beside(&report).unwrap();
        let mut add = |name: &str, attempt: &Attempt, outputs: &dyn Outputs| {
            let added = attachments.add_trace(&id(name, 1), attempt, outputs);
            added.unwrap().is_some()
        };
        assert!(!add("passed", &traced(0), &OneLine));
        assert!(!add("untraced", &untraced, &OneLine));
        assert!(!add("not kept", &traced(1), &Memory::default()));
        let names = (0..MOST_TRACES + 5).map(|number| number.to_string());
        let added = names.filter(|name| add(name, &traced(1), &OneLine)).count();
        assert_eq!(added, MOST_TRACES);
        let files = folder.path().join("r.xml.files");
        assert_eq!(fs::read_dir(files).unwrap().count(), MOST_TRACES);
    }

    #[test]
    fn a_path_is_shown_from_the_workspace() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let folder = folder.canonicalize_utf8().unwrap();
        let file = folder.join("junit.xml.files/a.txt");
        fs::create_dir(file.parent().unwrap()).unwrap();
        assert_eq!(shown(&file, &folder), "junit.xml.files/a.txt");
        assert_eq!(shown(&file, Utf8Path::new("/elsewhere")), file);
    }
}
