//! Documentation tests, which `cargo test --no-run` does not build.
//!
//! `cargo test --doc` calls rustdoc, and [`found`] has it call this program instead, to learn how
//! ([`calls`]). With its unstable options unlocked, rustdoc says which tests there are ([`extracted`]) and
//! leaves the programs that it compiles ([`compiled`]), which are [`kept`] until something that they are
//! made of changes. Where it refuses, `cargo test --doc` runs them as a
//! whole. A run that does not want them looks for them in the sources: to ask rustdoc takes a process
//! for each package.

mod calls;
mod compiled;
mod extracted;
mod found;
mod kept;
mod refusal;
mod signs;
mod stand_in;

pub use compiled::Process;
pub use extracted::Example;
pub use found::{CompiledDoctests, DoctestBinary};
pub use refusal::DoctestError;
pub use stand_in::stand_in;

use super::{CargoOptions, Workspace};
use crate::{own_files, sys::by_fork};
use camino::{Utf8Path, Utf8PathBuf};
use guppy::PackageId;
use guppy::graph::BuildTargetId;
use std::{
    collections::BTreeSet,
    io,
    process::{ExitStatus, Stdio},
};

/// The longest source that is looked at.
const LONGEST: u64 = 16 << 20;

/// The documentation tests of packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doctests {
    /// The packages that have any, by name.
    pub packages: Vec<String>,
    /// The number of examples in their documentation. Macros may make more, and `cfg` fewer.
    pub examples: usize,
}

impl Workspace {
    /// Looks for documentation tests in the sources of packages.
    pub fn doctests<'a>(&self, package_ids: impl IntoIterator<Item = &'a str>) -> Doctests {
        let package_ids: BTreeSet<&str> = package_ids.into_iter().collect();
        let mut found = Doctests::default();
        for id in package_ids {
            let Ok(package) = self.graph.metadata(&PackageId::new(id)) else {
                continue;
            };
            let library = package
                .build_targets()
                .find(|target| target.id() == BuildTargetId::Library);
            let library = library.filter(|library| library.doctest_by_default());
            let Some(folder) = library.and_then(|library| library.path().parent()) else {
                continue;
            };
            let examples = in_folder(folder);
            if examples > 0 {
                found.packages.push(package.name().to_owned());
                found.examples += examples;
            }
        }
        found
    }
}

impl CargoOptions {
    /// Returns whether they choose among targets, other than documentation.
    pub fn selects_targets(&self) -> bool {
        let lists = [&self.bin, &self.example, &self.test, &self.bench];
        let flags = [
            self.lib,
            self.bins,
            self.examples,
            self.tests,
            self.benches,
            self.all_targets,
        ];
        lists.iter().any(|list| !list.is_empty()) || flags.contains(&true)
    }

    /// Runs the documentation tests. What they and cargo print goes to standard error, like results.
    ///
    /// # Errors
    ///
    /// When cargo cannot be started.
    pub fn run_doctests(&self, cwd: &Utf8Path, fail_fast: bool) -> io::Result<ExitStatus> {
        let mut command = self.doctest_command();
        if !fail_fast {
            command.arg("--no-fail-fast");
        }
        let stderr = rustix::io::dup(io::stderr())?;
        let command = by_fork(&mut command);
        command
            .current_dir(cwd)
            .stdin(Stdio::null())
            .stdout(stderr)
            .status()
    }
}

/// Returns how many examples the sources in a folder have. Links are not followed.
fn in_folder(folder: &Utf8Path) -> usize {
    let mut examples = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = folder.read_dir_utf8() else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path.to_owned()),
                Ok(kind) if kind.is_file() && path.extension() == Some("rs") => {
                    examples += in_file(path);
                }
                _ => {}
            }
        }
    }
    examples
}

fn in_file(path: &Utf8Path) -> usize {
    let Some(text) = text(path) else {
        return 0;
    };
    let mut examples = Fences::default();
    let mut included = 0;
    for line in text.lines().map(str::trim_start) {
        let comment = ["///", "//!"]
            .iter()
            .find_map(|start| line.strip_prefix(start));
        if let Some(comment) = comment.filter(|comment| !comment.starts_with('/')) {
            examples.line(comment);
        } else if let Some(file) = included_file(line, path) {
            let markdown = self::text(&file).unwrap_or_default();
            let mut fences = Fences::default();
            markdown.lines().for_each(|line| fences.line(line));
            included += fences.examples;
        }
    }
    examples.examples + included
}

fn text(path: &Utf8Path) -> Option<String> {
    String::from_utf8(own_files::read(path, LONGEST).ok()?).ok()
}

/// Returns the file of `#![doc = include_str!("FILE")]`.
fn included_file(line: &str, source: &Utf8Path) -> Option<Utf8PathBuf> {
    if !line.starts_with('#') || !line.contains("doc") {
        return None;
    }
    let (_, rest) = line.split_once("include_str!(\"")?;
    let (name, _) = rest.split_once('"')?;
    Some(source.parent()?.join(name))
}

/// Counts the blocks of code that rustdoc tests.
#[derive(Default)]
struct Fences {
    examples: usize,
    /// The fence that ends the block, within one.
    open: Option<String>,
}

impl Fences {
    fn line(&mut self, line: &str) {
        let line = line.trim();
        let fence: String = match line.chars().next() {
            Some(mark @ ('`' | '~')) => line.chars().take_while(|c| *c == mark).collect(),
            _ => return,
        };
        if fence.len() < 3 {
            return;
        }
        match &self.open {
            Some(open) if fence.starts_with(open.as_str()) && line == fence => self.open = None,
            Some(_) => {}
            None => {
                self.examples += usize::from(is_tested(&line[fence.len()..]));
                self.open = Some(fence);
            }
        }
    }
}

/// Returns whether rustdoc takes a block with these words for Rust, and does not ignore it.
fn is_tested(words: &str) -> bool {
    const RUST: &[&str] = &[
        "rust",
        "should_panic",
        "no_run",
        "compile_fail",
        "allow_fail",
        "standalone_crate",
        "test_harness",
    ];
    let words = words
        .split([',', ' ', '\t'])
        .filter(|word| !word.is_empty());
    let mut words = words.map(|word| word.trim_matches(['{', '}', '.']));
    words.all(|word| {
        let is_code = word.len() == 5 && word.starts_with('E');
        RUST.contains(&word) || word.starts_with("edition") || is_code
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_the_blocks_that_rustdoc_tests() {
        let count = |lines: &str| {
            let mut fences = Fences::default();
            lines.lines().for_each(|line| fences.line(line));
            fences.examples
        };
        assert_eq!(count("```\nlet a = 1;\n```\n"), 1);
        assert_eq!(
            count("```text\nno\n```\n```sh\n$\n```\n```ignore\nx\n```\n"),
            0
        );
        assert_eq!(count("```rust,no_run\na\n```\n ```should_panic\n ```\n"), 2);
        assert_eq!(count("````md\n```\nno example\n```\n````\n"), 0);
        assert_eq!(
            count("~~~edition2021\n~~~\n```compile_fail,E0308\n```\n"),
            2
        );
        assert_eq!(count("``\ninline\n``\n"), 0);
    }

    #[test]
    fn comments_and_included_files_are_searched_and_other_text_is_not() {
        let made = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(made.path()).unwrap();
        std::fs::create_dir(folder.join("inside")).unwrap();
        std::fs::write(folder.join("README.md"), "```\nlet a = 1;\n```\n").unwrap();
        std::fs::write(
            folder.join("lib.rs"),
            "#![doc = include_str!(\"README.md\")]\n//! ```\n//! let a = 1;\n//! ```\n\
             // ```\n// ```\n//// ```\n//// ```\nconst A: &str = \"\n```\n```\n\";\n",
        )
        .unwrap();
        std::fs::write(folder.join("inside/mod.rs"), "    /// ```\n    /// ```\n").unwrap();
        assert_eq!(in_folder(folder), 3);
    }
}
