//! The files of a run, be they in its folder or in its pack.

use super::{
    CHAIN, OUTPUT, PRESENTATION, RECORDING, SpooledOutput, TRACED,
    pack::{Pack, Section},
    spool::SpoolFile,
    trace_files::{KeptTrace, Span},
};
use crate::{
    own_files,
    report::{Kept, Stream, trace_line},
    tracer::record::file::{Ending, ReadError, Reader},
};
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
};

/// The extension of a pack.
pub(super) const PACKED: &str = "run";

/// The files of a run.
#[derive(Debug)]
pub(super) enum Files {
    /// They lie beside its recording, or beside a file of `--events`.
    Beside {
        recording: Utf8PathBuf,
        /// The recording, if it has been opened.
        opened: Option<File>,
    },
    Packed(Pack),
}

impl Files {
    /// Opens the files of a run by its folder, its recording or its pack. A run that is packed at this
    /// moment is found in its pack.
    pub(super) fn of(path: &Utf8Path) -> io::Result<Self> {
        let recording = match path.is_dir() {
            true => path.join(RECORDING),
            false => path.to_owned(),
        };
        let file = match own_files::open(&recording) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pack = packed(&recording).map(|pack| Pack::open(&pack));
                return match pack {
                    Some(Ok(pack)) => Ok(Self::Packed(pack)),
                    _ => Err(error),
                };
            }
            file => file?,
        };
        match Pack::is_one(&file) {
            true => Pack::of(file, &recording).map(Self::Packed),
            false => Ok(Self::Beside {
                recording,
                opened: Some(file),
            }),
        }
    }

    /// Returns the file that the recording is in.
    pub(super) fn path(&self) -> Utf8PathBuf {
        match self {
            Self::Beside { recording, .. } => recording.clone(),
            Self::Packed(pack) => pack.path().to_owned(),
        }
    }

    /// Says what is wrong with a pack, if it could not be read in the usual way.
    pub(super) fn damage(&self) -> Option<String> {
        match self {
            Self::Beside { .. } => None,
            Self::Packed(pack) => pack.damage().map(ToString::to_string),
        }
    }

    /// Returns the recording's bytes. In the place of a line that is damaged there may be one that is no
    /// event.
    pub(super) fn recording(self) -> io::Result<Box<dyn Read>> {
        Ok(match self {
            Self::Beside { recording, opened } => Box::new(match opened {
                Some(file) => file,
                None => own_files::open(&recording)?,
            }),
            Self::Packed(pack) => Box::new(pack.lines(RECORDING).ok_or_else(|| {
                let why = "none of its events is whole: it is cut off or damaged";
                io::Error::new(io::ErrorKind::NotFound, why)
            })?),
        })
    }

    /// Reads a note that has no more than `longest` bytes.
    pub(super) fn note(&self, name: &str, longest: u64) -> io::Result<Vec<u8>> {
        debug_assert!([CHAIN, PRESENTATION, TRACED].contains(&name));
        let from = match self {
            Self::Beside { recording, .. } => {
                return own_files::read(recording.with_file_name(name), longest);
            }
            Self::Packed(pack) => pack.member(name).ok_or(io::ErrorKind::NotFound)?,
        };
        let mut bytes = Vec::new();
        from.take(longest).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Opens a trace.
    pub(super) fn trace(&self, trace: &KeptTrace) -> io::Result<Box<dyn Read>> {
        let name = &trace.file;
        // A recording is a file that anybody can write.
        if name.contains('/') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (start, end) = match trace.part {
            Some(Span { start, end }) => (start, end),
            None => (0, u64::MAX),
        };
        Ok(match self {
            Self::Beside { recording, .. } => {
                let mut file = own_files::open(recording.with_file_name(name))?;
                file.seek(SeekFrom::Start(start))?;
                Box::new(file.take(end.saturating_sub(start)))
            }
            Self::Packed(pack) => {
                let section = pack.section(name, start, end);
                Box::new(section.ok_or(io::ErrorKind::NotFound)?)
            }
        })
    }

    /// Returns the captured output.
    pub(super) fn output(&self) -> io::Result<PastOutput> {
        match self {
            Self::Beside { recording, .. } => {
                let path = recording.with_file_name(OUTPUT);
                SpoolFile::open_existing(path.as_std_path()).map(PastOutput::Spooled)
            }
            Self::Packed(pack) => Ok(PastOutput::Packed(pack.clone())),
        }
    }
}

/// Returns where the pack of the run is that has had this recording.
fn packed(recording: &Utf8Path) -> Option<Utf8PathBuf> {
    let folder = match recording.file_name() {
        Some(RECORDING) => recording.parent()?,
        _ => recording,
    };
    let is_run = |name: &str| uuid::Uuid::parse_str(name).is_ok();
    let is_run = folder.file_name().is_some_and(is_run);
    is_run.then(|| folder.with_extension(PACKED))
}

/// The captured output of a run that is over.
#[derive(Debug)]
pub(super) enum PastOutput {
    Spooled(SpoolFile),
    Packed(Pack),
}

impl PastOutput {
    /// Reads a stream.
    pub(super) fn open(&self, output: SpooledOutput, stream: Stream) -> io::Result<Kept<'_>> {
        let pack = match self {
            Self::Spooled(file) => return file.open(output, stream),
            Self::Packed(pack) => pack,
        };
        let stream = output.stream(stream);
        // A recording is a file that anybody can write: sums may not overflow.
        let tail = stream.offset.saturating_add(stream.head);
        let end = tail.saturating_add(stream.tail);
        let section = |start, end| -> io::Result<Section> {
            let section = pack.section(OUTPUT, start, end);
            section.ok_or_else(|| io::ErrorKind::NotFound.into())
        };
        Ok(Kept {
            head: Box::new(section(stream.offset, tail)?),
            dropped: stream.dropped,
            tail: Box::new(section(tail, end)?),
        })
    }
}

/// The most bytes of a trace that are written as text.
const MOST_TEXT: u64 = 16 * 1024 * 1024;

/// Writes a trace of a run as text, a line for each event, as [`open_trace`] finds it. The last line says if it is not whole.
///
/// # Errors
///
/// When it cannot be read, or not be written.
pub fn write_trace(run: &Utf8Path, trace: &KeptTrace, to: &mut dyn Write) -> io::Result<()> {
    let mut reader = open_trace(run, trace).map_err(io::Error::other)?;
    let mut written = 0;
    for event in reader.by_ref() {
        let line = trace_line::line(&event);
        written += line.len() as u64 + 1;
        if written > MOST_TEXT {
            let rest = "… and more, which `cargo harness trace --log` has …";
            return writeln!(to, "{rest}");
        }
        writeln!(to, "{line}")?;
    }
    match reader.ending() {
        Some(Ending::Truncated) => writeln!(to, "… the trace ends before the attempt did …"),
        _ => Ok(()),
    }
}

/// Opens a trace of a run, by the run's folder or pack. The run may still go on.
///
/// # Errors
///
/// When it cannot be read.
pub fn open_trace(run: &Utf8Path, trace: &KeptTrace) -> Result<Reader<Box<dyn Read>>, ReadError> {
    let path = run.join(&trace.file);
    let trace = Files::of(run).and_then(|files| files.trace(trace));
    let trace = trace.map_err(|source| ReadError::Read {
        path: path.clone().into(),
        source,
    })?;
    Reader::new(Box::new(io::BufReader::new(trace)), path.as_std_path())
}
