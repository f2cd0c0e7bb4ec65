//! The services of a run: what their processes are, the looks whether they are ready, and what the tests
//! that want them learn.

use super::{
    dispatch::{Conditions, ServiceCandidate, StepCandidate, Variables},
    scripts::{self, unit},
    work::{Binary, Role, Service, Work},
};
use crate::{config::settings::TestSettings, protocol::Environment};
use harness_metadata::{RustBinaryId, TestCaseName, TestId, event::OutputSoFar};
use regex::bytes::Regex;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    ffi::OsString,
    fmt::Display,
    fs, io, mem,
    net::TcpListener,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};

/// The time that a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Facts that the driver and the slots share about services.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) files: scripts::Shared,
    facts: Vec<Facts>,
    /// The last lines of services, as of the last look.
    tails: RefCell<BTreeMap<TestId, Vec<String>>>,
}

/// The part of a service that is needed while it runs.
struct Facts {
    line: Option<Regex>,
    port: Option<String>,
    path: Option<PathBuf>,
    variables: BTreeMap<String, String>,
    scripts: Vec<usize>,
    stop_signal: i32,
    /// They hold its ports until it starts.
    reserved: RefCell<Vec<TcpListener>>,
    folder: Option<TempDir>,
}

impl Shared {
    /// Returns the pattern of a line that a service prints when it is ready.
    pub(super) fn line(&self, service: usize) -> Option<&Regex> {
        self.facts[service].line.as_ref()
    }

    /// Returns the setup scripts whose variables a service has.
    pub(super) fn scripts(&self, service: usize) -> &[usize] {
        &self.facts[service].scripts
    }

    /// Returns the signal that asks a service to end, and the folder that goes with it.
    pub(super) fn farewell(&self, service: usize) -> (i32, Option<&Path>) {
        let facts = &self.facts[service];
        (facts.stop_signal, facts.folder.as_ref().map(TempDir::path))
    }

    /// Gives up the ports of a service, which is about to take them.
    pub(super) fn release_ports(&self, service: usize) {
        self.facts[service].reserved.borrow_mut().clear();
    }

    /// Reads the variables of a service that is ready.
    pub(super) fn publish(&self, service: usize) -> Variables {
        let written = self.files.read_file(service)?;
        let mut variables = self.facts[service].variables.clone();
        variables.extend(written);
        let mut all = self.files.variables.borrow_mut();
        all.insert(service, variables.clone());
        Ok(variables)
    }

    /// Adds to an environment what services have set.
    pub(super) fn add_to(&self, environment: &mut Environment, services: &[usize]) {
        self.files.add_to(environment, services);
    }

    /// Notes the last lines of a service.
    pub(super) fn note_tail(&self, service: &TestId, streams: [Option<OutputSoFar>; 2]) {
        let text =
            |so_far: OutputSoFar| String::from_utf8_lossy(so_far.last.as_bytes()).into_owned();
        let texts = streams.into_iter().flatten().map(text);
        let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
        let lines = lines.filter(|line| !line.trim().is_empty()).collect();
        self.tails.borrow_mut().insert(service.clone(), lines);
    }

    /// Returns the last lines of a service.
    pub(super) fn tail(&self, service: &TestId) -> Vec<String> {
        let tails = self.tails.borrow();
        tails.get(service).cloned().unwrap_or_default()
    }

    /// Looks whether the port and the path of a service are there. Fails with what is missing.
    pub(super) async fn look(&self, service: usize) -> Result<(), String> {
        let facts = &self.facts[service];
        if let Some(address) = &facts.port {
            let connected = timeout(CONNECT_LIMIT, TcpStream::connect(address)).await;
            let refused =
                |why: &dyn Display| format!("nothing accepts connections at `{address}`: {why}");
            match connected {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(refused(&error)),
                Err(_) => return Err(refused(&"it does not answer")),
            }
        }
        match &facts.path {
            Some(path) => look_at(path).await,
            None => Ok(()),
        }
    }
}

async fn look_at(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let kind = match fs::metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("`{shown}` is not there"));
        }
        Err(error) => return Err(format!("`{shown}` cannot be looked at: {error}")),
    };
    if !kind.is_socket() {
        return Ok(());
    }
    let refused = |why: &dyn Display| format!("nothing accepts connections at `{shown}`: {why}");
    match timeout(CONNECT_LIMIT, UnixStream::connect(path)).await {
        Ok(Ok(_)) => Ok(()),
        // It is there, and of another kind.
        Ok(Err(error)) if error.raw_os_error() == Some(libc::EPROTOTYPE) => Ok(()),
        Ok(Err(error)) => Err(refused(&error)),
        Err(_) => Err(refused(&"it does not answer")),
    }
}

/// Returns the id by which reports name an instance of a service.
fn id(service: &Service) -> TestId {
    let name = match &service.instance {
        Some(instance) => format!("{} for {instance}", service.name),
        None => service.name.clone(),
    };
    TestId {
        binary: RustBinaryId::new(&format!("@service:{}", service.name)),
        name: TestCaseName::new(&name),
    }
}

/// Adds the processes of services behind the tests of a run. Returns the services as the dispatcher, and
/// as the slots know them.
pub(super) fn add_units(work: &mut Work) -> (Vec<ServiceCandidate>, Shared) {
    let services = mem::take(&mut work.services);
    let (tests, binaries) = (&mut work.tests, &mut work.binaries);
    let (mut candidates, mut facts) = (Vec::new(), Vec::new());
    for (index, service) in services.into_iter().enumerate() {
        let id = id(&service);
        let mut add = |role: Role, settings: Arc<TestSettings>, binary: Binary| {
            binaries.push(binary);
            tests.push(unit(id.clone(), role, settings, binaries.len() - 1));
            tests.len() - 1
        };
        let command = displayed(&service.binary.program);
        let output = service.settings.output;
        let role = Role::Service { service: index };
        let process = StepCandidate {
            unit: add(role, service.settings, service.binary),
            id: id.clone(),
            command,
            uncaptured: false,
        };
        let ready = service.ready;
        let probe = service.probe.map(|(settings, binary)| {
            let role = Role::Probe { service: index };
            add(role, settings, binary)
        });
        candidates.push(ServiceCandidate {
            name: service.name,
            instance: service.instance,
            process,
            conditions: Conditions {
                line: ready.line.as_ref().map(|line| line.as_str().to_owned()),
                looks: ready.port.is_some() || ready.path.is_some(),
                command: probe,
                timeout: ready.timeout,
                interval: ready.interval,
            },
            stop_signal: service.stop_signal,
            tests: service.tests,
            scripts: service.scripts.clone(),
            output,
        });
        facts.push(Facts {
            line: ready.line,
            port: ready.port,
            path: ready.path,
            variables: service.variables,
            scripts: service.scripts,
            stop_signal: service.stop_signal,
            reserved: RefCell::new(service.reserved),
            folder: service.folder,
        });
    }
    let shared = Shared {
        facts,
        ..Shared::default()
    };
    (candidates, shared)
}

fn displayed(program: &[OsString]) -> Vec<String> {
    let words = program
        .iter()
        .map(|word| word.to_string_lossy().into_owned());
    words.collect()
}
