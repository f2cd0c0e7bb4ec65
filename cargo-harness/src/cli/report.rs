//! `cargo harness report`: reports of a run, from its recording.

use super::{
    GlobalOptions,
    events::Events,
    kept::working_directory,
    open::Openable,
    open_options::OpenArgs,
    prepared,
    recordings::{self, Place},
    run,
};
use crate::command_error::{CommandError, Kind};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use harness_metadata::exit_code;
use harness_runner::{
    report::{
        Sink,
        allure::Allure,
        chrome::ChromeTrace,
        ctrf::Ctrf,
        html::Html,
        junit::{Junit, JunitOptions},
    },
    store::{Earlier, Recording},
};

/// Write reports of a recorded run.
#[derive(Debug, Args)]
pub(super) struct ReportCommand {
    /// The run: `latest`, the beginning of its id, its folder, or a file of `--events`.
    #[arg(value_name = "RUN")]
    run: Option<String>,
    #[command(flatten)]
    reports: Reports,
    #[command(flatten)]
    open: OpenArgs,
    #[command(flatten)]
    place: Place,
}

/// The reports.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Reports {
    /// Write a JUnit report to this file.
    #[arg(long, value_name = "PATH")]
    junit: Option<Utf8PathBuf>,
    /// Write the events of the run to this place, one JSON object a line: a file, `-` for standard output,
    /// `fd:N` for a descriptor, `unix:PATH` for a socket.
    #[arg(long, value_name = "PATH")]
    events: Option<Utf8PathBuf>,
    /// Write a timeline for Perfetto and `chrome://tracing` to this file.
    #[arg(long, value_name = "PATH")]
    chrome_trace: Option<Utf8PathBuf>,
    /// Write an HTML report to this file: one page, without a network.
    #[arg(long, value_name = "PATH")]
    html: Option<Utf8PathBuf>,
    /// Write a report in the Common Test Report Format (JSON) to this file.
    #[arg(long, value_name = "PATH")]
    ctrf: Option<Utf8PathBuf>,
    /// Write results for Allure to this folder, a file for each attempt.
    #[arg(long, value_name = "DIR")]
    allure: Option<Utf8PathBuf>,
}

impl ReportCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let events = Events::to(self.reports.events.as_deref())?;
        let cwd = working_directory()?;
        let openable = Openable::default();
        *openable.html.borrow_mut() = self.reports.html.as_ref().map(|path| cwd.join(path));
        self.open.check(&openable)?;
        let recording = self.place.recording(self.run.as_deref(), global)?;
        let mut sinks = self.reports.sinks(&recording, &events, &cwd)?;
        if let Some(path) = &self.reports.html {
            let html = Html::new(cwd.join(path));
            // A file of a run from elsewhere may be shown outside of any workspace.
            let kept = self.place.find(global).ok();
            let earlier = kept.map(|kept| {
                let root = Utf8Path::new(&recording.started.workspace_root);
                Earlier::new(&kept.store, root)
            });
            sinks.push(Box::new(match earlier {
                Some(earlier) => html.against(earlier),
                None => html,
            }));
        }
        sinks.push(Box::new(openable.failure.clone()));
        let replayed = recording
            .replay(&mut sinks, &|_| ())
            .map_err(|error| CommandError::new(Kind::Setup, error))?;
        drop(sinks);
        if let Some(cut_off) = events.end() {
            prepared::warn(&cut_off, global.stderr_colors());
        }
        recordings::warn_of_gaps(&recording, &replayed, global);
        run::unwritten(replayed.errors, global.stderr_colors())?;
        self.open.open(&openable, global)?;
        Ok(exit_code::OK)
    }
}

impl Reports {
    fn sinks(
        &self,
        recording: &Recording,
        events: &Events,
        cwd: &Utf8Path,
    ) -> Result<Vec<Box<dyn Sink>>, CommandError> {
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        if let Some(path) = &self.junit {
            let options = junit(recording, cwd.join(path));
            sinks.push(Box::new(Junit::new(options)));
        }
        sinks.extend(events.sink(cwd)?);
        if let Some(path) = &self.chrome_trace {
            sinks.push(Box::new(ChromeTrace::new(cwd.join(path))));
        }
        if let Some(path) = &self.ctrf {
            sinks.push(Box::new(Ctrf::new(cwd.join(path))));
        }
        if let Some(path) = &self.allure {
            sinks.push(Box::new(Allure::new(cwd.join(path))));
        }
        Ok(sinks)
    }
}

/// Returns the options that the run had for its report, or would have had.
fn junit(recording: &Recording, path: Utf8PathBuf) -> JunitOptions {
    let mut options = JunitOptions::new(path);
    options.properties = true;
    let machine = recording.started.machine.as_ref();
    if let Some(host) = machine.and_then(|machine| machine.host.clone()) {
        options.hostname = host;
    }
    if let Some(noted) = recording.presentation().junit {
        options.name = noted.name;
        options.stream_cap = usize::try_from(noted.stream_cap).unwrap_or(usize::MAX);
        options.hostname = noted.hostname;
        options.schema = noted.schema;
        options.attachments = noted.attachments;
    }
    options
}
