//! The options of a run's reports, noted beside its recording: with them a replay shows what the run
//! showed, and a report that is made later is the one that the run would have written.

use super::{LONGEST_PRESENTATION, PRESENTATION, Run, files::Files};
use crate::{
    own_files,
    report::{junit::Schema, terminal::TerminalOptions},
};
use serde::{Deserialize, Serialize};
use std::io;

/// The options of a run's reports.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Presentation {
    /// Those of the terminal.
    pub terminal: TerminalOptions,
    /// Those of the JUnit report; `None` if they are not known.
    pub junit: Option<JunitPresentation>,
}

/// The options of a JUnit report that are not in the events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JunitPresentation {
    /// The report's name.
    pub name: String,
    /// The most bytes of one stream.
    pub stream_cap: u64,
    /// The host's name.
    pub hostname: String,
    /// The schema that the report keeps to.
    #[serde(default)]
    pub schema: Schema,
    /// Whether long output lies whole beside the report.
    #[serde(default)]
    pub attachments: bool,
}

impl Run {
    /// Notes the options of the run's reports.
    ///
    /// # Errors
    ///
    /// When they cannot be written. A replay then uses the defaults.
    pub fn note_presentation(&self, presentation: &Presentation) -> io::Result<()> {
        let text = serde_json::to_vec(presentation)?;
        own_files::replace_in(&self.folder.join(PRESENTATION), &text)
    }
}

impl Presentation {
    /// Reads the note of a run; the defaults if there is none, or it is damaged.
    pub(super) fn of(files: &Files) -> Self {
        let noted = files.note(PRESENTATION, LONGEST_PRESENTATION).ok();
        let noted = noted.and_then(|text| serde_json::from_slice(&text).ok());
        noted.unwrap_or_default()
    }
}
