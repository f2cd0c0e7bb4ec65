//! The setup scripts of a run: what their processes are, and the variables that they set.

use super::{
    dispatch::{ScriptCandidate, StepCandidate, Variables},
    work::{Binary, Role, Test, Tracing, Work},
};
use crate::{
    config::{scripts::check_variable, settings::TestSettings},
    own_files,
    protocol::{Environment, Recording, push_variable},
};
use harness_metadata::{RustBinaryId, TestCaseName, TestId, event::TraceLevel, trace::Backend};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs, io, mem,
    path::Path,
    sync::Arc,
};
use tempfile::TempPath;

/// The names of the variable that says where a setup script writes variables.
pub(super) const ENV_FILE: [&str; 2] = ["HARNESS_ENV", "NEXTEST_ENV"];

/// The most bytes that such a file can have: an environment has no room for more (execve(2)).
const LONGEST: u64 = 2 << 20;

/// Facts that the slots share about scripts.
#[derive(Default)]
pub(super) struct Shared {
    /// The variables of each script that has ended well.
    pub(super) variables: RefCell<BTreeMap<usize, BTreeMap<String, String>>>,
    files: RefCell<BTreeMap<usize, TempPath>>,
}

impl Shared {
    /// Makes the file for the variables of a script. Returns its path.
    pub(super) fn make_file(&self, script: usize) -> io::Result<OsString> {
        let file = tempfile::Builder::new()
            .prefix("harness-env-")
            .tempfile()?
            .into_temp_path();
        let path = file.as_os_str().to_owned();
        self.files.borrow_mut().insert(script, file);
        Ok(path)
    }

    /// Reads the variables of a script that has ended well.
    pub(super) fn read_file(&self, script: usize) -> Variables {
        let Some(file) = self.files.borrow_mut().remove(&script) else {
            return Ok(BTreeMap::new());
        };
        let variables = read(&file)?;
        self.variables
            .borrow_mut()
            .insert(script, variables.clone());
        Ok(variables)
    }

    /// Adds to an environment what scripts have set, those of later ones last.
    pub(super) fn add_to(&self, environment: &mut Environment, scripts: &[usize]) {
        let variables = self.variables.borrow();
        let set = scripts.iter().filter_map(|script| variables.get(script));
        for (name, value) in set.flatten() {
            environment.set(name, value);
        }
    }
}

fn read(file: &Path) -> Variables {
    let unreadable = |error: io::Error| format!("`$HARNESS_ENV` could not be read: {error}");
    match fs::symlink_metadata(file) {
        // Removed by the script: it sets nothing.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        _ => {}
    }
    let bytes = own_files::read(file, LONGEST).map_err(unreadable)?;
    parse(&bytes)
}

/// Reads lines of the form `NAME=VALUE`. Empty lines mean nothing, and of several lines for a name the
/// last one counts. A line may end with a return.
fn parse(bytes: &[u8]) -> Variables {
    let mut variables = BTreeMap::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let wrong = |problem: &str| format!("line {} of `$HARNESS_ENV` {problem}", index + 1);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let line = str::from_utf8(line).map_err(|_| wrong("is not UTF-8"))?;
        let Some((name, value)) = line.split_once('=') else {
            return Err(wrong(&format!("is not of the form `NAME=VALUE`: {line:?}")));
        };
        check_variable(name)
            .map_err(|problem| wrong(&format!("sets `{name}`, which {problem}")))?;
        if value.contains('\0') {
            return Err(wrong(&format!(
                "gives `{name}` a NUL, which no variable can have"
            )));
        }
        variables.insert(name.to_owned(), value.to_owned());
    }
    Ok(variables)
}

/// Scripts are not traced.
const UNTRACED: Tracing = Tracing {
    level: TraceLevel::Off,
    backend: Backend::None,
    recording: Recording::Off,
    no_new_privs: false,
    ladder: None,
};

/// Returns a process that is no test.
pub(super) fn unit(id: TestId, role: Role, settings: Arc<TestSettings>, binary: usize) -> Test {
    Test {
        location: None,
        id,
        settings,
        memory: 0,
        quarantine: None,
        binary,
        ignored: false,
        policy: None,
        inject: None,
        tracing: UNTRACED,
        keeps_trace: false,
        role,
        measured: false,
        scripts: Vec::new(),
        services: Vec::new(),
        wrapped: None,
    }
}

/// Adds the processes of scripts behind the tests of a run. Returns the scripts as the dispatcher knows
/// them.
pub(super) fn add_units(work: &mut Work) -> Vec<ScriptCandidate> {
    let scripts = mem::take(&mut work.scripts);
    let (tests, binaries) = (&mut work.tests, &mut work.binaries);
    let mut candidates = Vec::new();
    for (index, script) in scripts.into_iter().enumerate() {
        let mut add = |role: Role, settings, binary: Binary| {
            let teardown = matches!(role, Role::Teardown { .. });
            let name = match teardown {
                true => format!("{} teardown", script.name),
                false => script.name.clone(),
            };
            let command = binary.program.iter();
            let command = command.map(|arg| arg.to_string_lossy().into_owned());
            let step = StepCandidate {
                unit: tests.len(),
                id: TestId {
                    binary: RustBinaryId::new(&format!("@setup-script:{}", script.name)),
                    name: TestCaseName::new(&name),
                },
                command: command.collect(),
                uncaptured: script.capture != [true; 2],
            };
            binaries.push(binary);
            tests.push(unit(step.id.clone(), role, settings, binaries.len() - 1));
            step
        };
        let capture = script.capture;
        let teardown = script.teardown.map(|(settings, binary)| {
            let role = Role::Teardown {
                script: index,
                capture,
            };
            add(role, settings, binary)
        });
        let role = Role::Setup {
            script: index,
            capture,
            teardown: teardown.as_ref().map(|step| step.unit),
        };
        let output = script.setup.0.output;
        let setup = add(role, Arc::clone(&script.setup.0), script.setup.1);
        candidates.push(ScriptCandidate {
            name: script.name.clone(),
            setup,
            teardown,
            tests: script.tests.clone(),
            output,
        });
    }
    candidates
}

/// Appends to an environment block where a script writes variables.
pub(super) fn push_file(block: &mut Vec<u8>, path: &OsStr) {
    for name in ENV_FILE {
        push_variable(block, OsStr::new(name), path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn refused(bytes: &[u8], expected: Expect) {
        expected.assert_eq(&parse(bytes).expect_err("a line is wrong"));
    }

    #[test]
    fn lines_set_variables_and_the_last_of_a_name_counts() {
        let variables = parse(b"A=1\r\n\n_b2=x=y z\nA=\nC= two \r\n").expect("all lines are right");
        let expected = [("A", ""), ("C", " two "), ("_b2", "x=y z")];
        let found: Vec<_> = (variables.iter())
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(found, expected);
        assert!(parse(b"").expect("it is empty").is_empty());
    }

    #[test]
    fn a_line_that_no_environment_can_take_is_named() {
        refused(
            b"A=1\nexport",
            expect![[r#"line 2 of `$HARNESS_ENV` is not of the form `NAME=VALUE`: "export""#]],
        );
        refused(
            b"A=\xff\n",
            expect!["line 1 of `$HARNESS_ENV` is not UTF-8"],
        );
        refused(
            b"A=a\0b\n",
            expect!["line 1 of `$HARNESS_ENV` gives `A` a NUL, which no variable can have"],
        );
        refused(
            b"NEXTEST_X=1\n",
            expect![
                "line 1 of `$HARNESS_ENV` sets `NEXTEST_X`, which cannot be set: names that begin with `NEXTEST` are the runner's own"
            ],
        );
        refused(
            b"HARNESS_PROFILE=1\n",
            expect![
                "line 1 of `$HARNESS_ENV` sets `HARNESS_PROFILE`, which cannot be set: names that begin with `HARNESS_` are the runner's own"
            ],
        );
        refused(
            b"1a=b\n",
            expect![
                "line 1 of `$HARNESS_ENV` sets `1a`, which is not a name for a variable: it must begin with a letter or `_` and go on with letters, digits and `_`"
            ],
        );
    }
}
