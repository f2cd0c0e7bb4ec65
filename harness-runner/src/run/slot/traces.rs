//! The file that the traces of a slot are written to, one after the other.

use crate::store::{KeptTrace, TraceFile, TraceFiles};
use camino::Utf8Path;

/// The file of a slot.
#[derive(Default)]
pub(in crate::run) struct Traces {
    /// `None` before the first trace, and after a stub that may still write to it.
    file: Option<TraceFile>,
    /// The offset of the trace that is being written; `None` if none is.
    start: Option<u64>,
}

impl Traces {
    /// Returns the file that the trace of an attempt is to be added to.
    pub(in crate::run) fn begin(&mut self, files: &TraceFiles) -> &Utf8Path {
        let next = self.file.take().and_then(|file| Some((file.next()?, file)));
        let (start, file) = next.unwrap_or_else(|| (0, files.create()));
        self.start = Some(start);
        self.file.insert(file).path()
    }

    /// Returns where the trace of the attempt is, which is over; `None` if it has none. `whole` says whether
    /// its stub writes no more.
    pub(in crate::run) fn end(&mut self, whole: bool) -> Option<KeptTrace> {
        let start = self.start.take()?;
        let kept = self.file.as_ref()?.kept_since(start);
        if !whole {
            self.file = None;
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{own_files, store::Run};
    use camino::Utf8PathBuf;
    use harness_metadata::RunId;
    use std::{fs, io::Write};

    /// Writes a trace of this length as a stub does.
    fn write(path: &Utf8Path, length: u64) {
        let mut file = own_files::append(path).unwrap();
        file.write_all(&vec![b'x'; usize::try_from(length).unwrap()])
            .unwrap();
    }

    fn place(kept: Option<KeptTrace>) -> (String, u64, u64) {
        let kept = kept.unwrap();
        let span = kept.part.unwrap();
        (kept.file, span.start, span.end)
    }

    #[test]
    fn traces_follow_each_other_in_a_file_as_long_as_that_is_there_and_nobody_else_may_write_to_it()
    {
        let folder = tempfile::tempdir().unwrap();
        let target = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        let run = Run::create(&target, RunId::random(), None).unwrap();
        let files = run.trace_files();
        let mut traces = Traces::default();
        let mut made = |length: u64, whole: bool| {
            write(traces.begin(&files), length);
            traces.end(whole)
        };
        assert_eq!(place(made(10, true)), ("1.trace".to_owned(), 0, 10));
        assert_eq!(made(0, true), None, "it has nothing");
        assert_eq!(place(made(5, true)), ("1.trace".to_owned(), 10, 15));
        // Its stub was lost: what another process writes for it may come later.
        assert_eq!(place(made(7, false)), ("1.trace".to_owned(), 15, 22));
        assert_eq!(place(made(8, true)), ("2.trace".to_owned(), 0, 8));
        // A test has removed the file.
        let second = traces.begin(&files).to_owned();
        fs::remove_file(&second).unwrap();
        assert_eq!(traces.end(true), None);
        write(traces.begin(&files), 9);
        assert_eq!(place(traces.end(true)), ("3.trace".to_owned(), 0, 9));
        // It is full.
        write(traces.begin(&files), 64 * 1024 * 1024);
        let full = place(traces.end(true));
        assert_eq!(full, ("3.trace".to_owned(), 9, 9 + 64 * 1024 * 1024));
        write(traces.begin(&files), 1);
        assert_eq!(place(traces.end(true)), ("4.trace".to_owned(), 0, 1));
        // Without a file the next one is tried.
        fs::remove_dir_all(crate::store::folder(&target)).unwrap();
        let mut without = Traces::default();
        without.begin(&files);
        assert_eq!(without.end(true), None);
        run.end().unwrap_err();
    }
}
