//! Tests that need not run: what decides about them, and what their passes are compared with.

use super::{Notice, Session, cpus, machine, programs};
use crate::{
    changes::{self, GitError, Tree},
    config::{budget::Limit, settings::ReuseMode},
    list::ListedBinary,
    plan::PlannedTest,
    protocol::Environment,
    reuse::{
        self, Candidate, Decision, Digest, Here, Key, Ledger, Limits, Observing, OfRun, Programs,
        Since, Surroundings, Value, Watched,
    },
    store,
};
use harness_metadata::{
    EventKind, TestId,
    event::{RunMode, TestCached},
};
use std::{
    cell::{RefCell, RefMut},
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    fmt::Write as _,
    fs,
    os::unix::ffi::OsStrExt,
    sync::Arc,
    time::Duration,
};

/// Variables of a shell that tell of nothing but the shell.
const OF_THE_SHELL: [&str; 3] = ["_", "SHLVL", "OLDPWD"];

/// Variables that each run or attempt has anew, after `HARNESS_` and `NEXTEST_`.
const OF_THE_RUN: [&str; 12] = [
    "RUN_ID",
    "ATTEMPT",
    "ATTEMPT_ID",
    "TOTAL_ATTEMPTS",
    "TEST_NAME",
    "TEST_GROUP",
    "TEST_GLOBAL_SLOT",
    "TEST_GROUP_SLOT",
    "TEST_PHASE",
    "TRACE_BROKER",
    "RUN_MODE",
    "VERSION",
];

/// The measure by which tests of a plan need not run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Deciding {
    /// All that their last passes rest on, if the profile says so.
    #[default]
    Profile,
    /// The files that have changed since a revision.
    Affected(changes::Since),
}

/// The decisions about a plan, in its order.
#[derive(Debug, Default)]
pub struct Decided {
    /// Each test with its decision.
    pub tests: Vec<(TestId, Decision)>,
}

/// The passes that a run uses and stores.
pub(super) struct Reusing {
    candidates: Vec<Candidate>,
    here: Here,
    ledger: Ledger,
    programs: RefCell<Programs>,
    sampled: HashMap<TestId, reuse::Settled>,
    /// The events of the tests that do not run.
    cached: Vec<TestCached>,
}

impl Reusing {
    pub(super) fn events(&self) -> impl Iterator<Item = EventKind> {
        let cached = self.cached.iter().cloned();
        cached.map(|test| EventKind::TestCached(Box::new(test)))
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(super) fn programs(&self) -> RefMut<'_, Programs> {
        self.programs.borrow_mut()
    }

    pub(super) fn count(&self) -> usize {
        self.cached.len()
    }
}

impl Session {
    /// Returns whether passes are stored or used by this run.
    pub fn reuses(&self, deciding: &Deciding) -> bool {
        let mode = self.profile.run_settings().reuse_mode;
        self.profile.mode() == RunMode::Test
            && (mode != ReuseMode::Off || *deciding != Deciding::Profile)
    }

    /// Returns whether tests are left out, and not only looked at.
    pub fn uses_passes(&self, deciding: &Deciding) -> bool {
        let mode = self.profile.run_settings().reuse_mode;
        mode == ReuseMode::Cached || *deciding != Deciding::Profile
    }

    /// Decides which tests of the plan need not run. Nothing of the plan changes.
    ///
    /// # Errors
    ///
    /// When git does not say what has changed.
    pub fn decide(
        &mut self,
        deciding: &Deciding,
        notify: &mut dyn FnMut(Notice),
    ) -> Result<Decided, GitError> {
        let ledger = Ledger::load(&self.store).unwrap_or_else(|error| {
            notify(Notice::Ledger(error.to_string()));
            Ledger::empty(&self.store)
        });
        let since = match deciding {
            Deciding::Profile => None,
            Deciding::Affected(since) => Some(self.changed_since(since)?),
        };
        let mut here = Here::default();
        ledger.teach(&mut here);
        let candidates = self.candidates(&ledger, &mut here);
        let settings = self.profile.run_settings();
        let mut programs = match settings.reuse_functions {
            true => self.programs(&mut here, notify),
            false => Programs::none(&self.store),
        };
        let decisions = match &since {
            Some(since) => reuse::affected(&ledger, &candidates, since, &mut programs),
            None => {
                let limits = Limits {
                    now: reuse::now(),
                    lifetime: settings.reuse_lifetime,
                };
                reuse::choose(&ledger, &candidates, limits, &mut here, &mut programs)
            }
        };
        let tests = candidates.iter().map(|candidate| candidate.test.clone());
        let tests = tests.zip(decisions).collect();
        self.reusing = Some(Reusing {
            candidates,
            here,
            ledger,
            programs: RefCell::new(programs),
            sampled: HashMap::new(),
            cached: Vec::new(),
        });
        Ok(Decided { tests })
    }

    /// Takes the tests out of the plan that need not run, but for a sample.
    pub fn leave_out(&mut self, deciding: &Deciding, mut decided: Decided) {
        if *deciding == Deciding::Profile {
            let percent = self.profile.run_settings().reuse_audit;
            reuse::sample(decided.tests.iter_mut().map(|(_, it)| it), percent.0);
        }
        let decisions: HashMap<&TestId, &Decision> =
            decided.tests.iter().map(|(test, it)| (test, it)).collect();
        let mut cached = Vec::new();
        self.plan
            .tests
            .retain(|test| match decisions.get(&test.id) {
                Some(Decision::Reuse(known)) => {
                    cached.push(TestCached {
                        test: test.id.clone(),
                        location: test.location.as_deref().cloned(),
                        run: known.run,
                        started_at: date(known.at),
                        elapsed: known.elapsed,
                    });
                    false
                }
                _ => true,
            });
        if let Some(reusing) = &mut self.reusing {
            let sampled = decided.tests.iter().filter_map(|(test, decision)| {
                let settled = reuse::of_sample(&reusing.ledger, test, decision)?;
                Some((test.clone(), settled))
            });
            reusing.sampled = sampled.collect();
            reusing.cached = cached;
        }
    }

    /// Returns the processes by which a test came to ask for a path when it passed last, and the call; `None` if
    /// that trace is not kept any more.
    pub fn way_to(&self, test: &TestId, path: &[u8]) -> Option<(Vec<reuse::Link>, String)> {
        let ledger = &self.reusing.as_ref()?.ledger;
        let run = ledger.tests.get(test)?.passes.first()?.run;
        let query = store::Query {
            test: Some(test.to_string()),
            run: store::WhichRun::Id(run.to_string()),
            ..store::Query::default()
        };
        let found = store::find(&self.store, &query).ok()?;
        let reader = found.trace()?.ok()?;
        let root = reader.header().root;
        reuse::chain(root, reader, path)
    }

    /// Returns the number of tests that do not run because nothing has changed.
    pub fn cached(&self) -> usize {
        self.reusing.as_ref().map_or(0, Reusing::count)
    }

    /// Starts to read the traces of a run, and prepares the record of the functions that its tests enter.
    pub(super) fn observing(
        &self,
        run: Option<&store::Run>,
    ) -> (Option<Observing>, Option<programs::OfRun>) {
        let recording = self.recording();
        let observing = run.and_then(|run| self.observe(run, recording.as_ref()));
        let recording = recording.filter(|_| observing.is_some());
        (observing, recording)
    }

    /// Prepares that record, if passes are stored with functions.
    fn recording(&self) -> Option<programs::OfRun> {
        let reusing = self.reusing.as_ref()?;
        let wanted = self.profile.run_settings().reuse_functions && !self.plan.tests.is_empty();
        wanted
            .then(|| self.records(&mut reusing.programs.borrow_mut()))
            .flatten()
    }

    fn observe(&self, run: &store::Run, recording: Option<&programs::OfRun>) -> Option<Observing> {
        let reusing = self.reusing.as_ref()?;
        let watched = reusing.candidates.iter().map(|candidate| {
            let (key, ruled_out) = match &candidate.key {
                Ok(key) => (key.clone(), None),
                Err(reason) => (Key::none(), Some(reason.clone())),
            };
            let sampled = reusing.sampled.get(&candidate.test).cloned();
            let watched = Watched {
                key,
                ruled_out,
                sampled,
            };
            (candidate.test.clone(), watched)
        });
        let binaries = self.plan.tests.iter().map(|test| {
            let path = &self.tests.binaries[test.binary].binary.path;
            (test.id.clone(), path.clone())
        });
        let of = OfRun {
            programs: recording.map_or_else(Vec::new, |it| it.programs.clone()),
            entries: recording.map(programs::OfRun::files),
            binaries: binaries.collect(),
            store: self.store.clone(),
            folder: run.folder().to_owned(),
            run: self.run_id,
            watched: watched.collect::<BTreeMap<_, _>>(),
            secret: reusing.ledger.secret(),
            read_only: self.profile.run_settings().reuse_read_only,
        };
        // Without a thread nothing is stored, and the tests run as ever.
        Observing::start(of, reusing.here.with_digests_only()).ok()
    }

    fn changed_since(&self, since: &changes::Since) -> Result<Since, GitError> {
        let root = self.workspace.root();
        let tree = Tree::since(root, since)?;
        let all = tree.paths.iter().find_map(|path| {
            let why = changes::rule_of_all(root, path)?;
            Some((path.clone(), why))
        });
        Ok(Since {
            paths: tree.paths,
            all,
        })
    }

    fn candidates(&self, ledger: &Ledger, here: &mut Here) -> Vec<Candidate> {
        let mut binaries: HashMap<usize, Result<OfBinary, String>> = HashMap::new();
        let around = self.surroundings();
        let mut candidates = Vec::new();
        for test in &self.plan.tests {
            let of = binaries.entry(test.binary).or_insert_with(|| {
                let listed = &self.tests.binaries[test.binary];
                self.of_binary(listed, ledger, &around, here)
            });
            let key = match (self.rules_out(test), of) {
                (Some(reason), _) => Err(reason),
                (None, Err(reason)) => Err(reason.clone()),
                (None, Ok(of)) => Ok(of.key(test, ledger)),
            };
            candidates.push(Candidate {
                test: test.id.clone(),
                key,
            });
        }
        candidates
    }

    /// Returns why the result of a test is never used again.
    fn rules_out(&self, test: &PlannedTest) -> Option<String> {
        let listed = &self.tests.binaries[test.binary];
        let scripts = &test.scripts;
        if self.is_documentation(&test.id.binary) {
            return Some("documentation tests are compiled anew for each run".to_owned());
        }
        if !scripts.setup.is_empty() {
            return Some("a setup script runs before it".to_owned());
        }
        if !scripts.services.is_empty() {
            return Some("it uses a service".to_owned());
        }
        if scripts.run_wrapper.is_some() {
            return Some("it runs below a wrapper".to_owned());
        }
        if test.quarantine.is_some() {
            return Some("it is in quarantine".to_owned());
        }
        let target = listed.binary.target.as_deref();
        let runner = self.workspace.runners.get(target);
        runner.map(|_| "it runs below a target runner".to_owned())
    }

    fn of_binary(
        &self,
        listed: &ListedBinary,
        ledger: &Ledger,
        around: &Surroundings,
        here: &mut Here,
    ) -> Result<OfBinary, String> {
        let binary = &listed.binary;
        let digest = reuse::digest_of(here, &binary.path)
            .map_err(|error| format!("`{}` cannot be read: {error}", binary.path))?;
        let environment = self.built.environments.get(&binary.id);
        let environment = environment.map_or_else(Environment::inherited, |environment| {
            (**environment).clone()
        });
        let ignored = &self.profile.run_settings().reuse_ignore_environment;
        let mut around = around.clone();
        for (name, value) in environment.iter() {
            if !is_volatile(name, ignored) {
                around.set_variable(&name.to_string_lossy(), value.as_bytes(), |value| {
                    ledger.hidden(value)
                });
            }
        }
        Ok(OfBinary {
            digest,
            command: format!("{} {}", binary.path, binary.cwd),
            around: Arc::new(around),
        })
    }

    /// Returns the circumstances of all tests.
    fn surroundings(&self) -> Surroundings {
        let machine = machine::machine();
        let settings = self.profile.run_settings();
        let mut around = BTreeMap::new();
        let mut set = |name: &str, value: String| {
            around.insert(name.to_owned(), Value::Plain(value));
        };
        set("kernel", machine.kernel.unwrap_or_default());
        set("name of the machine", machine.host.unwrap_or_default());
        set("architecture", machine.architecture);
        set("set of processors", machine.processors.unwrap_or_default());
        set("number of processors", cpus().to_string());
        set("model of the processors", processors());
        set("memory", machine.memory.unwrap_or_default().to_string());
        set("user", machine.user.to_string());
        set("group", machine.group.to_string());
        set("supplementary groups", format!("{:?}", machine.groups));
        set("umask", format!("{:?}", machine.umask));
        for (name, limit) in machine.limits {
            set(
                &format!("limit {name}"),
                format!("{:?}/{:?}", limit.soft, limit.hard),
            );
        }
        let terminal = fs::File::open("/dev/tty").is_ok();
        set("terminal", terminal.to_string());
        set("profile", self.profile.name().to_owned());
        set(
            "number of slots",
            settings.test_threads.resolve(cpus()).to_string(),
        );
        Surroundings(around)
    }
}

/// The circumstances that the tests of a binary share.
struct OfBinary {
    digest: Digest,
    command: String,
    around: Arc<Surroundings>,
}

impl OfBinary {
    fn key(&self, test: &PlannedTest, ledger: &Ledger) -> Key {
        let settings = &test.settings;
        let mut command = self.command.clone();
        let reaching = (
            test.ignored,
            &settings.run_extra_args,
            &settings.limits,
            &settings.slow_timeout,
            (settings.leak_timeout, settings.leak),
            (settings.require_result, &settings.policy),
            settings
                .budget
                .0
                .iter()
                .map(Limit::written)
                .collect::<Vec<_>>(),
            (
                &settings.retries,
                settings.flaky_result,
                &settings.test_group,
            ),
        );
        // It is written to memory.
        let _ = write!(command, " {} {reaching:?}", test.id);
        let mut around = Arc::clone(&self.around);
        for (name, value) in &settings.env {
            Arc::make_mut(&mut around)
                .set_variable(name, value.as_bytes(), |value| ledger.hidden(value));
        }
        Key {
            harness: reuse::version().to_owned(),
            binary: self.digest,
            command: Digest::of(command.as_bytes()),
            surroundings: around,
        }
    }
}

fn is_volatile(name: &OsStr, ignored: &[String]) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let of_the_run = ["HARNESS_", "NEXTEST_"].iter().any(|prefix| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|rest| OF_THE_RUN.contains(&rest))
    });
    let is_ignored = |pattern: &String| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    };
    of_the_run || OF_THE_SHELL.contains(&name) || ignored.iter().any(is_ignored)
}

/// Returns what programs may choose their code by: the model and the features of the processors.
fn processors() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let names = ["vendor_id", "model name", "flags", "Features", "CPU part"];
    let mut lines: Vec<&str> = text
        .lines()
        .filter(|line| names.iter().any(|name| line.starts_with(name)))
        .collect();
    lines.sort_unstable();
    lines.dedup();
    Digest::of(lines.join("\n").as_bytes()).to_string()
}

fn date(since_1970: Duration) -> chrono::DateTime<chrono::FixedOffset> {
    let micros = i64::try_from(since_1970.as_micros()).unwrap_or(0);
    let date = chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default();
    date.with_timezone(&chrono::Local).fixed_offset()
}
