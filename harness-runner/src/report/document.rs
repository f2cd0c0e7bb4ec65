//! A report that is whole or not there: a file that takes its name when it is finished, or bytes for
//! what is no file, such as a pipe.

use super::outlet::Outlet;
use crate::own_files::Beside;
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    fs,
    io::{self, BufWriter, Write},
};

/// The ending of the name of a file that is not finished.
const NEW: &str = ".new";

/// A report that is being written.
#[derive(Debug)]
pub struct Document {
    path: Utf8PathBuf,
    to: Target,
}

#[derive(Debug)]
enum Target {
    File(BufWriter<Beside>),
    Other(BufWriter<Outlet>),
}

impl Document {
    /// Begins a report at `path`. Its folder is made.
    ///
    /// # Errors
    ///
    /// When nothing can be written there.
    pub fn create(path: &Utf8Path) -> io::Result<Self> {
        let special = path.starts_with("/dev") || path.starts_with("/proc");
        let there = fs::metadata(path);
        if there.as_ref().is_ok_and(fs::Metadata::is_dir) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if special || there.is_ok_and(|there| !there.is_file()) {
            let outlet = Outlet::create(path.as_std_path())?;
            return Ok(Self {
                path: path.to_owned(),
                to: Target::Other(BufWriter::new(outlet)),
            });
        }
        // A link stays one.
        let path = path.canonicalize_utf8().unwrap_or_else(|_| path.to_owned());
        if let Some(folder) = path.parent().filter(|folder| *folder != "") {
            fs::create_dir_all(folder)?;
        }
        let file = BufWriter::new(Beside::new(&path, NEW)?);
        Ok(Self {
            path,
            to: Target::File(file),
        })
    }

    /// Gives the report its name.
    ///
    /// # Errors
    ///
    /// When the rest of it cannot be written, or it cannot be given its name.
    pub fn finish(self) -> io::Result<()> {
        match self.to {
            Target::File(file) => {
                let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.replace(&self.path).map(drop)
            }
            Target::Other(mut outlet) => outlet.flush(),
        }
    }
}

impl Write for Document {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.to {
            Target::File(file) => file.write(bytes),
            Target::Other(outlet) => outlet.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.to {
            Target::File(file) => file.flush(),
            Target::Other(outlet) => outlet.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_its_name_when_it_is_finished_and_its_folder_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let path = folder.join("made/report");
        let mut document = Document::create(&path).unwrap();
        document.write_all(b"text").unwrap();
        assert!(!path.exists());
        document.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"text");
        drop(Document::create(&path).unwrap());
        let left = fs::read_dir(folder.join("made")).unwrap().count();
        assert_eq!(left, 1, "an unfinished one leaves nothing");
    }

    #[test]
    fn a_report_whose_path_is_a_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let error = Document::create(folder).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }
}
