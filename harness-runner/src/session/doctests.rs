//! Documentation tests as tests like all others: listed with them, and compiled before they run.

use super::{Notice, Session, SessionError, prepare::Source, query::query};
use crate::{
    cargo::{Built, CompiledDoctests, DoctestBinary, DoctestError, Example, Process, TestBinary},
    config::{CompiledProfile, settings::Doctests as Wanted},
    filter::{BinaryMatch, BinaryMismatch, TestFilter},
    list::{ListedBinary, ListedTest, Status, TestKind, TestList},
    report::plural,
    run,
};
use guppy::PackageId;
use harness_metadata::{Location, TestCaseName, TestId};
use nextest_metadata::RustBinaryId;
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// The documentation tests of a session.
#[derive(Debug, Default)]
pub(super) struct Documentation {
    binaries: Vec<DoctestBinary>,
    processes: HashMap<TestId, Process>,
    /// Their programs, which are those of this run.
    compiled: CompiledDoctests,
    /// The reason why they are run as a whole, if they are.
    refused: Option<DoctestError>,
}

/// Lists documentation tests if they are wanted, beside the others.
pub(super) fn list(
    source: Source<'_>,
    profile: &CompiledProfile,
    filter: &TestFilter,
    (built, tests): (&mut Built, &mut TestList),
) -> Result<Documentation, SessionError> {
    let Source {
        workspace, options, ..
    } = source;
    let mut documentation = Documentation::default();
    let wanted = profile.run_settings().doctests == Wanted::Run;
    if !wanted
        || !options.documentation
        || options.reuse.is_some()
        || options.cargo.selects_targets()
    {
        return Ok(documentation);
    }
    let matched = |binary: &TestBinary| {
        let package_id = PackageId::new(binary.package_id.clone());
        filter.matches_binary(&query(binary, &package_id))
    };
    let wants = |binary: &TestBinary| matched(binary) == BinaryMatch::Possible;
    let found = match workspace.find_doctests(&options.cargo, &wants) {
        Ok(found) => found,
        Err(error) if error.is_refusal() => {
            documentation.refused = Some(error);
            return Ok(documentation);
        }
        Err(error) => return Err(error.into()),
    };
    for found in found {
        let binary = &found.binary;
        let status = match (found.examples(), matched(binary)) {
            (Some([]), _) => continue,
            (Some(examples), _) => Status::Listed(listed(examples)),
            (None, BinaryMatch::Never(BinaryMismatch::DefaultFilter)) => {
                Status::SkippedDefaultFilter
            }
            (None, _) => Status::Skipped,
        };
        let environment = Arc::clone(&found.environment);
        built.environments.insert(binary.id.clone(), environment);
        tests.binaries.push(ListedBinary {
            binary: Arc::clone(binary),
            status,
            libtest: false,
            identity: None,
        });
        documentation.binaries.push(found);
    }
    let key = |listed: &ListedBinary| listed.binary.id.clone();
    tests.binaries.sort_by_key(key);
    Ok(documentation)
}

/// Returns a function that calls another one the first time that it is called.
fn once(call: &dyn Fn()) -> impl Fn() {
    let called = Cell::new(false);
    move || {
        if !called.replace(true) {
            call();
        }
    }
}

fn listed(examples: &[Example]) -> Vec<ListedTest> {
    let listed = |example: &Example| ListedTest {
        name: TestCaseName::new(&example.name),
        ignored: example.ignored,
        kind: TestKind::Test,
        reason: None,
        location: Some(Arc::new(Location {
            file: example.file.clone(),
            line: example.line,
            column: 1,
        })),
    };
    let mut tests: Vec<ListedTest> = examples.iter().map(listed).collect();
    tests.sort_by(|a, b| a.name.cmp(&b.name));
    tests
}

impl Session {
    /// Compiles the documentation tests of the plan, each package's at once, unless an earlier run has
    /// compiled the same.
    ///
    /// # Errors
    ///
    /// When rustdoc cannot be started, or its files cannot be read.
    pub fn compile_doctests(&mut self, notify: &mut dyn FnMut(Notice)) -> Result<(), SessionError> {
        let Documentation {
            binaries,
            processes,
            compiled,
            ..
        } = &mut self.documentation;
        let notify = RefCell::new(notify);
        for binary in &*binaries {
            let id = &binary.binary.id;
            let of_binary = self.plan.tests.iter().filter(|test| test.id.binary == *id);
            let planned: BTreeSet<&str> = of_binary.map(|test| test.id.name.as_str()).collect();
            if planned.is_empty() {
                continue;
            }
            let count = binary.examples().map_or(0, <[Example]>::len);
            let count = plural(count, "documentation test", "documentation tests");
            let package = &binary.binary.package_name;
            let starts = || {
                let mut notify = notify.borrow_mut();
                notify(Notice::Doctests(format!(
                    "compiling {count} of `{package}`"
                )));
            };
            let starts = once(&starts);
            let wanted = |example: &Example| planned.contains(example.name.as_str());
            let own = binary.compile(&wanted, &self.workspace, compiled, &starts)?;
            processes.extend(own.into_iter().map(|(name, process)| {
                let id = TestId {
                    binary: id.clone(),
                    name: TestCaseName::new(&name),
                };
                (id, process)
            }));
        }
        Ok(())
    }

    /// Returns true if documentation tests are among the tests.
    pub fn lists_doctests(&self) -> bool {
        !self.documentation.binaries.is_empty()
    }

    /// Returns why documentation tests cannot be listed one by one, if so.
    pub fn doctests_refused(&self) -> Option<&DoctestError> {
        self.documentation.refused.as_ref()
    }

    /// Returns true if a binary stands for the documentation tests of a package.
    pub(super) fn is_documentation(&self, binary: &RustBinaryId) -> bool {
        let mut binaries = self.documentation.binaries.iter();
        binaries.any(|own| own.binary.id == *binary)
    }

    /// Returns the process of a test, if it is a documentation test.
    pub(super) fn documented(&self, test: &TestId) -> Option<run::Wrapped> {
        let process = self.documentation.processes.get(test)?;
        let variable = process.variable.iter();
        Some(run::Wrapped {
            program: process.program.clone(),
            env: variable
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            selection: run::Selection::Command,
        })
    }
}
