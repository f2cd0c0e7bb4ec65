//! The agent: makes one attempt as a slot of a run would, and leaves the result as files.
//!
//! It is this program, started by a worker of an engine. It exits with 0 if it has made the attempt, however the test
//! ended. What kept it from that it says on standard error and in its report.

mod layout;

use super::job::{JOB, Job, Kept, REPORT, Refusal, Report, STDERR, STDOUT, TOP, TRACE};
use crate::{
    protocol::Environment,
    report::less,
    run::{
        Capture, StandardInput, Tracing, Work,
        attempt::Over,
        capture::Captured,
        environment, serve, services,
        shared::Shared,
        slot::{Mail, Slot, Start},
        work::Binary,
    },
    store::{KeptTrace, Span, TraceFiles},
    stub::{
        self,
        link::{self, Stub},
    },
};
use camino::Utf8Path;
use harness_metadata::{RawString, TraceSummary, event::TraceLevel, exit_code, trace::Backend};
use layout::Layout;
use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    time::Instant,
};
use thiserror::Error;
use tokio::{sync::mpsc, task::LocalSet};

pub use super::job::AGENT_ARGUMENT as ARGUMENT;

/// The folder in which the stub writes the traces of the attempt's tries.
const TRACES: &str = "harness-remote/traces";

/// Variables of a worker that a test keeps, unless the job has them.
const KEPT: [&str; 6] = ["PATH", "HOME", "TMPDIR", "TZ", "LANG", "USER"];

/// The path of programs where a worker has none.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An error that kept an agent from making an attempt.
#[derive(Debug, Error)]
enum AgentError {
    #[error("the job cannot be read: {0}")]
    Job(io::Error),
    #[error("the files of the test could not be put in place: {0}")]
    Layout(io::Error),
    #[error("tracing was required, and `{backend}` does not work there: {why}")]
    Tracing { backend: &'static str, why: String },
    #[error(transparent)]
    Stub(#[from] link::StubError),
    #[error("the result cannot be written: {0}")]
    Write(io::Error),
    #[error("the attempt could not be driven: {0}")]
    Drive(io::Error),
}

/// Makes the attempt of the job in the input root. Returns the exit code.
pub fn serve() -> i32 {
    let made = env::current_dir()
        .map_err(AgentError::Job)
        .and_then(|cwd| make(&cwd));
    match made {
        Ok(()) => exit_code::OK,
        Err(error) => {
            let refused = error.to_string();
            let _ = writeln!(io::stderr(), "cargo-harness: {refused}");
            let refusal = serde_json::to_vec(&Refusal { refused });
            // An engine may lose standard error.
            let _ = fs::write(REPORT, refusal.unwrap_or_default());
            exit_code::OK
        }
    }
}

fn make(root: &Path) -> Result<(), AgentError> {
    let began = Instant::now();
    let bytes = fs::read(root.join(JOB)).map_err(AgentError::Job)?;
    let mut job: Job = postcard::from_bytes(&bytes)
        .map_err(|error| AgentError::Job(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    let layout = Layout::of(root, &job).map_err(AgentError::Layout)?;
    layout.relocate(&mut job);
    stub::open_files::raise();
    let stub = Stub::launch()?;
    job.tracing = tracing(&stub, &job)?;
    let over = attempt(root, job, stub)?;
    leave(root, over, &layout, began)
}

/// Returns the tracing that works here: what was asked for, or the lives of processes, or none.
fn tracing(stub: &Stub, job: &Job) -> Result<Tracing, AgentError> {
    let (available, wanted) = (stub.ready()?, job.tracing);
    let Some(missing) = available.missing(wanted.backend) else {
        return Ok(wanted);
    };
    if job.trace_required {
        let why = less::missing(missing);
        let backend = wanted.backend.as_str();
        return Err(AgentError::Tracing { backend, why });
    }
    let (level, backend) = match available.missing(Backend::Lifecycle) {
        None => (TraceLevel::Process.min(wanted.level), Backend::Lifecycle),
        Some(_) => (TraceLevel::Off, Backend::None),
    };
    let ladder = None;
    Ok(Tracing {
        level,
        backend,
        ladder,
        ..wanted
    })
}

fn attempt(root: &Path, mut job: Job, stub: Stub) -> Result<Over, AgentError> {
    let start = Start {
        test: 0,
        attempt: job.attempt,
        total_attempts: job.total_attempts,
        group_slot: job.group_slot,
        remote: false,
    };
    let (number, mark) = (job.slot, environment::mark(job.run_id));
    let _adopted = link::adopt_orphans(mark);
    let shared = Shared::new(work(root, &mut job), services::Shared::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AgentError::Drive)?;
    Ok(LocalSet::new().block_on(&runtime, async {
        let (_orders, orders) = mpsc::unbounded_channel();
        // All that counts is in the result, and nothing else is listened to.
        let (tell, _) = mpsc::unbounded_channel();
        let mut slot = Slot::new(number, Some(stub), Mail { orders, tell });
        let over = serve::attempt(&mut slot, &shared, start).await;
        slot.end_stub().await;
        over
    }))
}

/// Returns a run of one test.
fn work(root: &Path, job: &mut Job) -> Work {
    let (test, program) = job.take_test();
    let binary = Binary {
        program,
        cwd: PathBuf::from(OsString::from_vec(std::mem::take(&mut job.cwd))),
        environment: environment(root, job),
        libtest: job.libtest,
        image: None,
    };
    let traces = root.join(TRACES);
    // Without the folder there is no trace, which is noticed where one is missing.
    let _ = fs::create_dir_all(&traces);
    Work {
        run_id: job.run_id,
        mode: job.mode,
        profile: job.profile.clone(),
        started_at: job.started_at,
        tests: vec![test],
        binaries: vec![binary],
        slots: job.threads,
        cpus: 1,
        memory: None,
        groups: Default::default(),
        max_fail: crate::config::settings::MaxFail::All,
        stress: None,
        global_timeout: None,
        skipped: 0,
        output_cap: job.output_cap,
        capture: Capture::Pipes,
        stdin: StandardInput::Null,
        trace_live: false,
        output_live: false,
        break_exec: None,
        trace_files: Utf8Path::from_path(&traces).map(TraceFiles::new),
        entries: None,
        cgroups: None,
        stubs: Vec::new(),
        scripts: Vec::new(),
        services: Vec::new(),
        remote: None,
    }
}

/// Returns the environment of the test: that of the job, and what only the worker knows.
fn environment(root: &Path, job: &mut Job) -> Environment {
    let mut environment = Environment::default();
    for name in KEPT {
        if let Some(value) = env::var_os(name) {
            environment.set(name, value);
        }
    }
    if environment.get("PATH").is_none() {
        environment.set("PATH", USUAL_PATH);
    }
    if environment.get("HOME").is_none() {
        let home = root.join(TOP).join("home");
        // Without it the test finds a home that is not there.
        let _ = fs::create_dir_all(&home);
        environment.set("HOME", home);
    }
    for (name, value) in std::mem::take(&mut job.environment) {
        environment.set(OsString::from_vec(name), OsString::from_vec(value));
    }
    environment
}

/// Writes the result of the attempt.
fn leave(root: &Path, over: Over, layout: &Layout, began: Instant) -> Result<(), AgentError> {
    let (mut attempt, output) = (over.attempt, over.output);
    if let Some(kept) = over.trace {
        copy_trace(root, &kept).map_err(AgentError::Write)?;
    }
    if let Some(trace) = &mut attempt.trace {
        name_originals(trace, layout);
    }
    let keep = |captured: Option<&Captured>, to: &str| -> io::Result<Kept> {
        let Some(captured) = captured else {
            return Ok(Kept::default());
        };
        let mut kept = captured.open();
        let mut file = File::create(root.join(to))?;
        let head = io::copy(&mut kept.head, &mut file)?;
        io::copy(&mut kept.tail, &mut file)?;
        Ok(Kept {
            written: captured.size().written,
            head,
        })
    };
    let stdout = keep(output.as_ref().map(|output| &output.stdout), STDOUT);
    let stderr = keep(output.as_ref().map(|output| &output.stderr), STDERR);
    let report = Report {
        attempt,
        stdout: stdout.map_err(AgentError::Write)?,
        stderr: stderr.map_err(AgentError::Write)?,
        millis: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        same_paths: *layout == Layout::Same,
    };
    let bytes = serde_json::to_vec(&report).map_err(|error| AgentError::Write(error.into()))?;
    fs::write(root.join(REPORT), bytes).map_err(AgentError::Write)
}

/// Copies the trace of the last try to where it is fetched from.
fn copy_trace(root: &Path, kept: &KeptTrace) -> io::Result<()> {
    let mut from = File::open(root.join(TRACES).join(&kept.file))?;
    let mut to = File::create(root.join(TRACE))?;
    if let Some(Span { start, end }) = kept.part {
        from.seek(SeekFrom::Start(start))?;
        io::copy(&mut from.take(end - start), &mut to)?;
    }
    Ok(())
}

/// Has the summary of a trace name the files by the paths of the machine that sent them.
fn name_originals(trace: &mut TraceSummary, layout: &Layout) {
    let rename = |path: &mut RawString| {
        if let Some(original) = layout.original(path.as_bytes()) {
            *path = RawString::from(original.as_slice());
        }
    };
    trace
        .files
        .iter_mut()
        .for_each(|file| rename(&mut file.path));
    trace
        .failures
        .iter_mut()
        .for_each(|failure| rename(&mut failure.target));
    trace
        .files
        .sort_by(|one, other| one.path.as_bytes().cmp(other.path.as_bytes()));
}
