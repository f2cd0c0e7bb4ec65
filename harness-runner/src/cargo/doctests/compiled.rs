//! Compiles the documentation tests of a package, once for all of them, and finds what runs each of them.

use super::{
    calls::{Call, Programs},
    extracted::{Example, Extracted},
    kept::{self, Place},
    refusal::DoctestError,
    signs::{ARGUMENT, FAILED, HAS_TO_FAIL, PASSED, PROGRAM},
};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs, io,
};

/// The variable by which the program of merged tests knows which one to run.
const NUMBER: &str = "RUSTDOC_DOCTEST_RUN_NB_TEST";
/// The beginning of rustdoc's line about error codes that did not come.
const CODES: &str = "Some expected error codes were not found";

/// The process of a documentation test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The program and its arguments.
    pub program: Vec<OsString>,
    /// A variable that it needs.
    pub variable: Option<(&'static str, String)>,
}

/// A compilation to do.
pub(super) struct Compilation<'a> {
    pub(super) call: &'a Call,
    pub(super) programs: &'a Programs,
    pub(super) extracted: &'a Extracted,
    /// The folder for what it leaves, and of what an earlier one has left.
    pub(super) folder: &'a Utf8Path,
    /// The folders of tests that are compiled only, with slashes between them.
    pub(super) not_linked: &'a str,
    /// The program that runs those of another target.
    pub(super) runner: &'a [OsString],
    /// Says that something has to be compiled.
    pub(super) starts: &'a dyn Fn(),
}

/// A line of `--format=json` that tells of a test.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    event: Option<String>,
    stdout: Option<String>,
}

/// The results of one call of rustdoc, by the names of tests.
struct Results {
    passed: BTreeMap<String, bool>,
    said: BTreeMap<String, String>,
    /// Merged tests: their program and their number.
    merged: BTreeMap<(String, usize), (Utf8PathBuf, usize)>,
    /// The beginning of what rustdoc printed for people.
    stderr: String,
}

impl Compilation<'_> {
    /// Compiles all tests of the package, and returns the processes of some.
    pub(super) fn processes(
        &self,
        wanted: &[&Example],
    ) -> Result<BTreeMap<String, Process>, DoctestError> {
        // Rustdoc leaves ignored tests out where it merges tests.
        let ignored = wanted.iter().any(|example| example.ignored);
        let mut results = self.compile("first", ignored, ignored)?;
        let mut found = self.find("first", &results, wanted)?;
        if found.len() < wanted.len() && !ignored {
            results = self.compile("second", false, true)?;
            found = self.find("second", &results, wanted)?;
        }
        for example in wanted {
            if !found.contains_key(&example.name) {
                let said = format!("rustdoc left no program for this test\n{}", results.stderr);
                found.insert(example.name.clone(), self.failed(example, &said)?);
            }
        }
        Ok(found)
    }

    fn compile(&self, part: &str, ignored: bool, single: bool) -> Result<Results, DoctestError> {
        let folder = self.folder.join(part);
        let mut format = "-Zunstable-options --format=json".to_owned();
        if ignored {
            format.push_str(" --include-ignored");
        }
        // Some releases run merged tests in spite of `--no-run`: `true` runs none.
        let words = ["--no-run", "--test-runtool", "true", "--persist-doctests"];
        let mut args: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
        args.extend([folder.as_str(), "--test-args", &format].map(OsStr::new));
        if single {
            args.push(OsStr::new("--merge-doctests=no"));
        }
        let (stdout, stderr) = self.output(&folder, &args)?;
        let mut results = Results {
            passed: BTreeMap::new(),
            said: BTreeMap::new(),
            merged: merged(&folder).map_err(DoctestError::Records)?,
            stderr: stderr.chars().take(4096).collect(),
        };
        for line in stdout.lines() {
            let Ok(line) = serde_json::from_str::<Line>(line) else {
                continue;
            };
            if let (Some(name), "test") = (line.name, line.kind.as_str()) {
                results.take(name, line.event.as_deref(), line.stdout);
            }
        }
        Ok(results)
    }

    /// Returns what rustdoc prints, now or when the same was compiled.
    fn output(&self, folder: &Utf8Path, args: &[&OsStr]) -> Result<(String, String), DoctestError> {
        let examples = self.extracted.digest;
        let place = Place {
            folder,
            key: kept::key(self.call, self.programs, examples, args),
        };
        if let Some(kept) = place.kept() {
            return Ok((kept.stdout, kept.stderr));
        }
        let (said, started) = place.clear().map_err(DoctestError::Records)?;
        (self.starts)();
        let (call, programs) = (self.call, self.programs);
        let output = call.unlocked(programs, args, self.not_linked, Some(&said))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        if self.extracted.links_only_named {
            place.keep((&stdout, &stderr), &call.cwd, started);
        }
        Ok((stdout, stderr))
    }

    /// Returns the processes of the tests of which something is known.
    fn find(
        &self,
        part: &str,
        results: &Results,
        wanted: &[&Example],
    ) -> Result<BTreeMap<String, Process>, DoctestError> {
        let mut found = BTreeMap::new();
        for example in wanted {
            if let Some(process) = self.process(part, results, example)? {
                found.insert(example.name.clone(), process);
            }
        }
        Ok(found)
    }

    fn process(
        &self,
        part: &str,
        results: &Results,
        example: &Example,
    ) -> Result<Option<Process>, DoctestError> {
        let key = (example.own_name.clone(), example.same_name);
        if let Some((program, number)) = results.merged.get(&key) {
            return Ok(Some(match example.no_run {
                true => self.decided(&[OsStr::new(PASSED)]),
                false => self.runs(example, program, Some(*number)),
            }));
        }
        match results.passed.get(&example.own_name) {
            Some(false) => {
                let said = results.said.get(&example.own_name);
                let said = said.map_or("", String::as_str);
                let only_codes = example.compile_fail && said.contains(CODES);
                if only_codes && !self.programs.knows_error_codes(self.call) {
                    return Ok(Some(self.decided(&[OsStr::new(PASSED)])));
                }
                return self.failed(example, said).map(Some);
            }
            Some(true) if example.compile_fail || example.no_run => {
                return Ok(Some(self.decided(&[OsStr::new(PASSED)])));
            }
            Some(true) | None => {}
        }
        let program = self.folder.join(part).join(example.folder()).join(PROGRAM);
        let runs = !example.compile_fail && !example.no_run && program.exists();
        Ok(runs.then(|| self.runs(example, &program, None)))
    }

    fn runs(&self, example: &Example, program: &Utf8Path, number: Option<usize>) -> Process {
        let mut words = Vec::new();
        if example.should_panic {
            let own = self.programs.own().to_owned();
            words.extend([own, ARGUMENT.into(), HAS_TO_FAIL.into()]);
        }
        words.extend(self.runner.iter().cloned());
        words.push(program.as_os_str().to_owned());
        Process {
            program: words,
            variable: number.map(|number| (NUMBER, number.to_string())),
        }
    }

    fn failed(&self, example: &Example, said: &str) -> Result<Process, DoctestError> {
        let file = self.folder.join(format!("{}.said", example.folder()));
        fs::write(&file, format!("{}\n", said.trim_end())).map_err(DoctestError::Records)?;
        Ok(self.decided(&[OsStr::new(FAILED), file.as_os_str()]))
    }

    /// Returns the process of a test whose verdict is known.
    fn decided(&self, words: &[&OsStr]) -> Process {
        let first = [self.programs.own(), OsStr::new(ARGUMENT)];
        let words = first.iter().chain(words);
        Process {
            program: words.map(|word| (*word).to_owned()).collect(),
            variable: None,
        }
    }
}

impl Results {
    /// Takes the result of a test. Of several with one name, one that failed decides for all.
    fn take(&mut self, name: String, event: Option<&str>, stdout: Option<String>) {
        let passed = match event {
            Some("ok") => true,
            Some("failed") => false,
            _ => return,
        };
        *self.passed.entry(name.clone()).or_insert(true) &= passed;
        if let Some(stdout) = stdout.filter(|_| !passed) {
            let said = self.said.entry(name).or_default();
            said.push_str(&stdout);
        }
    }
}

/// Returns the merged tests, by their name and their number among those of that name.
fn merged(folder: &Utf8Path) -> io::Result<BTreeMap<(String, usize), (Utf8PathBuf, usize)>> {
    let mut merged = BTreeMap::new();
    if !folder.exists() {
        return Ok(merged);
    }
    for entry in folder.read_dir_utf8()? {
        let inside = entry?.into_path();
        let program = inside.join(PROGRAM);
        // Where one of them does not compile, there is none.
        if !inside.is_dir() || !program.exists() {
            continue;
        }
        for entry in inside.read_dir_utf8()? {
            let file = entry?.into_path();
            let name = file.file_name().unwrap_or_default();
            if name.starts_with("doctest_runner_") && name.ends_with(".rs") {
                for (number, name) in names(&fs::read_to_string(&file)?).into_iter().enumerate() {
                    let same = (0..).find(|same| !merged.contains_key(&(name.clone(), *same)));
                    let same = same.expect("there are fewer tests than numbers");
                    merged.insert((name, same), (program.clone(), number));
                }
            }
        }
    }
    Ok(merged)
}

/// Returns the names of the tests in the source of the program that runs them, by their numbers there.
/// Nothing if the source is not understood.
fn names(source: &str) -> Vec<String> {
    let parts = source.split("test::TestDescAndFn::new_doctest(").skip(1);
    let names = parts.map(|part| unquoted(part.trim_start()));
    let names: Option<Vec<String>> = names.collect();
    let names = names.unwrap_or_default();
    let pushed = (0..names.len()).all(|number| {
        source.contains(&format!("tests.push(__doctest_{number}::TEST);"))
            && source.contains(&format!("mod __doctest_{number} {{"))
    });
    match pushed && source.contains(NUMBER) {
        true => names,
        false => Vec::new(),
    }
}

/// Returns the value of a string literal as `{:?}` writes it.
fn unquoted(source: &str) -> Option<String> {
    let mut value = String::new();
    let mut chars = source.strip_prefix('"')?.chars();
    loop {
        match chars.next()? {
            '"' => return Some(value),
            '\\' => match chars.next()? {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                '0' => value.push('\0'),
                'u' => {
                    let rest = chars.as_str().strip_prefix('{')?;
                    let (code, rest) = rest.split_once('}')?;
                    value.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
                    chars = rest.chars();
                }
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_merged_tests_are_read_from_the_program_that_runs_them() {
        let test = |number: usize, name: &str| {
            format!(
                "mod __doctest_{number} {{\npub const TEST: test::TestDescAndFn = \
                 test::TestDescAndFn::new_doctest(\n{name:?}, false, \"src/lib.rs\", 3, false, false,\n"
            )
        };
        let two = [test(0, "src/lib.rs - a (line 3)"), test(1, "q\"\\\u{1b}é")].concat();
        let pushed = format!(
            "tests.push(__doctest_0::TEST);\ntests.push(__doctest_1::TEST);\n const A = \"{NUMBER}\""
        );
        let source = format!("{two}{pushed}");
        assert_eq!(names(&source), ["src/lib.rs - a (line 3)", "q\"\\\u{1b}é"]);
        // Another form is not guessed at.
        assert_eq!(names(&two), Vec::<String>::new());
        assert_eq!(names(&pushed), Vec::<String>::new());
    }
}
