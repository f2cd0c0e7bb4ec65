//! Finds the lines of a workspace's CI files, makefiles and scripts that call or install cargo-nextest.

use super::super::peer;
use camino::{Utf8Path, Utf8PathBuf};
use regex::{Captures, Regex};
use std::{ffi::OsString, fs};

/// A line that calls or installs cargo-nextest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The file, relative to the workspace root.
    pub(super) file: Utf8PathBuf,
    /// The line, from 1.
    pub(super) line: usize,
    /// Its text.
    pub(super) text: String,
    /// The replacement.
    pub(super) instead: Instead,
}

/// The replacement of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Instead {
    /// This line.
    Line(String),
    /// The same, for another program calls the runner by the name of cargo-nextest.
    Same,
    /// The same, for this reason.
    Nothing(String),
}

/// The depth of the search for files below the workspace root.
const DEPTH: usize = 5;

/// A longer file is no script.
const LONGEST: u64 = 1 << 20;

/// Folders without anything that is written by hand, or that is not the workspace's own.
const SKIPPED: &[&str] = &[".git", "node_modules", "target", "third_party", "vendor"];

/// Folders of CI systems, whose files all count.
const OF_CI: &[&str] = &[
    ".azure-pipelines",
    ".buildkite",
    ".builds",
    ".ci",
    ".circleci",
    ".forgejo",
    ".gitea",
    ".github",
    ".gitlab",
    ".woodpecker",
    "ci",
];

/// Names of files that count wherever they are.
const NAMES: &[&str] = &[
    ".appveyor.yml",
    ".cirrus.star",
    ".cirrus.yml",
    ".drone.yml",
    ".gitlab-ci.yml",
    ".justfile",
    ".pre-commit-config.yaml",
    ".travis.yml",
    ".woodpecker.yml",
    "GNUmakefile",
    "Jenkinsfile",
    "Makefile",
    "Makefile.toml",
    "Taskfile.yaml",
    "Taskfile.yml",
    "appveyor.yml",
    "azure-pipelines.yml",
    "bitbucket-pipelines.yml",
    "flake.nix",
    "lefthook.yml",
    "makefile",
    "package.json",
];

/// The beginnings and endings of the names of further files.
const BEGINNINGS: &[&str] = &[
    "Dockerfile",
    "Containerfile",
    "azure-pipelines",
    "justfile",
    "Justfile",
];
const ENDS: &[&str] = &[".bash", ".just", ".mk", ".nu", ".ps1", ".sh"];

/// Looks through the files of a workspace.
pub(super) fn find(root: &Utf8Path) -> Vec<Found> {
    let mut files = Vec::new();
    gather(root, Utf8Path::new(""), false, &mut files);
    files.sort();
    let lines = Lines::new();
    let mut found = Vec::new();
    for file in files {
        let path = root.join(&file);
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > LONGEST) {
            continue;
        }
        // A file that is no text or cannot be read calls nothing.
        if let Ok(text) = fs::read_to_string(&path) {
            found.extend(lines.of(&file, &text));
        }
    }
    found
}

fn gather(root: &Utf8Path, below: &Utf8Path, of_ci: bool, files: &mut Vec<Utf8PathBuf>) {
    let Ok(entries) = root.join(below).read_dir_utf8() else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let path = below.join(name);
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            if !SKIPPED.contains(&name) && path.components().count() < DEPTH {
                let of_ci = of_ci || OF_CI.contains(&name);
                gather(root, &path, of_ci, files);
            }
        } else if kind.is_file() && (of_ci || counts(&path)) {
            files.push(path);
        }
    }
}

fn counts(path: &Utf8Path) -> bool {
    let Some(name) = path.file_name() else {
        return false;
    };
    NAMES.contains(&name)
        || BEGINNINGS
            .iter()
            .any(|beginning| name.starts_with(beginning))
        || ENDS.iter().any(|end| name.ends_with(end))
        || path.ends_with(".cargo/config.toml")
}

/// The form of lines.
struct Lines {
    call: Regex,
    alias: Regex,
    by_others: Regex,
    install: Regex,
    action: Regex,
    tools: Regex,
    download: Regex,
}

impl Lines {
    fn new() -> Self {
        let regex = |pattern: &str| Regex::new(pattern).expect("the pattern is right");
        Self {
            // Cargo by its name or by a variable of a shell, make or just, with a toolchain or not.
            call: regex(
                r#"(?x)
                (?P<cargo>\bcargo(?:\.exe)?|\$\(CARGO\)|"?\$\{?CARGO\}?"?|\{\{\s*cargo\s*\}\})
                (?P<toolchain>\s+\+\S+)?
                \s+nextest\b
                | \bcargo-nextest\s+nextest\b"#,
            ),
            // `t = "nextest run"` in `[alias]`, `args = ["nextest", "run"]` of cargo-make.
            alias: regex(r#"^\s*[\w-]+\s*=\s*(?:\[\s*)?"nextest\b"#),
            by_others: regex(
                r"\b(?:llvm-cov|miri|careful|hack|difftests|semver-checks)\s+(?:\S+\s+)*?nextest\b|--test-tool[=\s]nextest\b",
            ),
            install: regex(
                r"\bcargo(?:\s+\+\S+)?\s+(?:install|binstall|quickinstall)\b.*\b(?:cargo-)?nextest\b",
            ),
            action: regex(
                r#"(?P<before>.*?)uses:\s*["']?taiki-e/install-action@(?:cargo-)?nextest["']?"#,
            ),
            tools: regex(
                r#"(?P<before>.*\btools?:\s*["']?)(?P<tools>[\w@.,\s-]*\bnextest\b[\w@.,-]*)(?P<after>.*)"#,
            ),
            download: regex(
                r"(?P<before>.*?)\b(?:curl|wget)\b.*https://get\.nexte\.st/\S*(?P<after>.*)",
            ),
        }
    }

    fn of(&self, file: &Utf8Path, text: &str) -> Vec<Found> {
        let config = file.ends_with(".cargo/config.toml");
        let of_cargo = config || file.ends_with("Makefile.toml");
        let mut found = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let trimmed = line.trim_start();
            let comment = trimmed.starts_with('#') || trimmed.starts_with("//");
            if comment || !(line.contains("nextest") || line.contains("nexte.st")) {
                continue;
            }
            let instead = if of_cargo && self.alias.is_match(line) {
                Some(Instead::Line(line.replacen("nextest", "harness", 1)))
            } else if config {
                None
            } else {
                self.instead(line)
            };
            if let Some(instead) = instead {
                found.push(Found {
                    file: file.to_owned(),
                    line: index + 1,
                    text: line.to_owned(),
                    instead,
                });
            }
        }
        found
    }

    fn instead(&self, line: &str) -> Option<Instead> {
        if let Some(install) = self.install.find(line) {
            let (before, after) = (&line[..install.start()], &line[install.end()..]);
            return Some(installed(before, install.as_str(), after));
        }
        if let Some(action) = self.action.captures(line) {
            let before = &action["before"];
            return Some(Instead::Line(format!("{before}run: {INSTALL}")));
        }
        if line.contains("get.nexte.st") {
            return Some(match self.download.captures(line) {
                Some(download) => downloaded(&download["before"], &download["after"]),
                None => Instead::Nothing(format!("install with `{INSTALL}`")),
            });
        }
        if self.by_others.is_match(line) {
            return Some(Instead::Same);
        }
        if self.call.is_match(line) {
            if let Some(lacks) = self.lacks(line) {
                return Some(Instead::Nothing(lacks));
            }
            let replaced =
                self.call
                    .replace_all(line, |call: &Captures<'_>| match call.name("cargo") {
                        Some(cargo) => {
                            let toolchain =
                                call.name("toolchain").map_or("", |found| found.as_str());
                            format!("{}{toolchain} harness", cargo.as_str())
                        }
                        None => "cargo-harness harness".to_owned(),
                    });
            return Some(Instead::Line(replaced.into_owned()));
        }
        let tools = self.tools.captures(line)?;
        let others: Vec<&str> = tools["tools"]
            .split(',')
            .map(str::trim)
            .filter(|tool| !is_nextest(tool))
            .collect();
        Some(Instead::Line(match others.is_empty() {
            true => format!("(no tool; a step `run: {INSTALL}`)"),
            false => format!(
                "{}{}{}  (and a step `run: {INSTALL}`)",
                &tools["before"],
                others.join(","),
                &tools["after"]
            ),
        }))
    }

    /// Returns a sentence if the line asks for what is not supported yet.
    fn lacks(&self, line: &str) -> Option<String> {
        let call = self.call.find_iter(line).last()?;
        let rest = &line[call.end()..];
        let end = rest.find(['|', ';', '&', '>', '`']).unwrap_or(rest.len());
        let words = rest[..end].split_whitespace();
        let words = words.map(|word| word.trim_matches(['"', '\'', ',', ']']));
        let args = ["cargo-nextest", "nextest"].into_iter().chain(words);
        let args: Vec<OsString> = args.map(OsString::from).collect();
        match super::super::peer(&args) {
            Some(peer::Foreign::Lacks(sentence)) => Some(sentence),
            _ => None,
        }
    }
}

/// The ways to install cargo harness.
const INSTALL: &str = "cargo install --locked cargo-harness";

/// Returns the line that installs cargo harness instead.
fn installed(before: &str, command: &str, after: &str) -> Instead {
    // Other crates in the same command stay with it.
    let words: Vec<&str> = command
        .split_whitespace()
        .chain(after.split_whitespace())
        .collect();
    let crates = words
        .iter()
        .filter(|word| word.starts_with("cargo-"))
        .count();
    if crates > 1 {
        let kept = format!("{command}{after}");
        let kept: Vec<&str> = kept
            .split_whitespace()
            .filter(|word| !is_nextest(word))
            .collect();
        return Instead::Line(format!("{before}{} && {INSTALL}", kept.join(" ")));
    }
    // What follows the command in the line has nothing to do with it.
    let end = after.find(['|', ';', '&', '"', '\'', ')']);
    let rest = end.map_or("", |end| &after[end..]);
    let space = if rest.starts_with(['|', '&']) {
        " "
    } else {
        ""
    };
    Instead::Line(format!("{before}{INSTALL}{space}{rest}"))
}

/// Returns the line that installs cargo harness instead of downloading. What the download is piped into
/// goes with it; what comes after that stays.
fn downloaded(before: &str, after: &str) -> Instead {
    let next = after.find("&&").or_else(|| after.find(';'));
    let rest = match next {
        Some(next) if after[next..].starts_with(';') => after[next..].to_owned(),
        Some(next) => format!(" {}", &after[next..]),
        None if after.ends_with('\\') => " \\".to_owned(),
        None => String::new(),
    };
    Instead::Line(format!("{before}{INSTALL}{rest}"))
}

fn is_nextest(word: &str) -> bool {
    let name = word.split('@').next().unwrap_or_default();
    name == "nextest" || name == "cargo-nextest"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instead(line: &str) -> Option<Instead> {
        let found = Lines::new().of("ci.yml".into(), line);
        found.into_iter().next().map(|found| found.instead)
    }

    #[track_caller]
    fn becomes(line: &str, expected: &str) {
        assert_eq!(instead(line), Some(Instead::Line(expected.to_owned())));
    }

    #[test]
    fn calls_keep_their_arguments_and_their_toolchain() {
        for (line, expected) in [
            (
                "- run: cargo nextest run -P ci",
                "- run: cargo harness run -P ci",
            ),
            (
                "\tcargo +nightly nextest run --workspace -E 'not test(nextest)'",
                "\tcargo +nightly harness run --workspace -E 'not test(nextest)'",
            ),
            ("    $(CARGO) nextest list", "    $(CARGO) harness list"),
            ("x=\"${CARGO} nextest run\"", "x=\"${CARGO} harness run\""),
            ("cargo-nextest nextest run", "cargo-harness harness run"),
            (
                "cargo nextest list && cargo nextest run",
                "cargo harness list && cargo harness run",
            ),
        ] {
            becomes(line, expected);
        }
    }

    #[test]
    fn installations_become_those_of_this_program() {
        for (line, expected) in [
            (
                "      - uses: taiki-e/install-action@nextest",
                "      - run: cargo install --locked cargo-harness",
            ),
            (
                "- uses: 'taiki-e/install-action@cargo-nextest'",
                "- run: cargo install --locked cargo-harness",
            ),
            (
                "    tool: nextest@0.9,cargo-deny",
                "    tool: cargo-deny  (and a step `run: cargo install --locked cargo-harness`)",
            ),
            (
                "    tool: cargo-nextest",
                "(no tool; a step `run: cargo install --locked cargo-harness`)",
            ),
            (
                "RUN cargo install cargo-nextest --version 0.9.98 --locked && rm -r x",
                "RUN cargo install --locked cargo-harness && rm -r x",
            ),
            (
                "cargo binstall -y cargo-nextest@0.9 cargo-deny",
                "cargo binstall -y cargo-deny && cargo install --locked cargo-harness",
            ),
            (
                "- run: curl -LsSf https://get.nexte.st/latest/linux | tar zxf - -C ~/.cargo/bin",
                "- run: cargo install --locked cargo-harness",
            ),
            (
                "RUN curl -LsSf https://get.nexte.st/latest/linux | tar zxf - -C /usr/bin && \\",
                "RUN cargo install --locked cargo-harness && \\",
            ),
            (
                "    curl -LsSf \"https://get.nexte.st/$V/$X\" | tar zxf - -C /usr/bin; \\",
                "    cargo install --locked cargo-harness; \\",
            ),
            (
                "        with: { tool: cargo-nextest }",
                "(no tool; a step `run: cargo install --locked cargo-harness`)",
            ),
            (
                "          tool: cargo-nextest@${{ steps.setup.outputs.version }}",
                "(no tool; a step `run: cargo install --locked cargo-harness`)",
            ),
        ] {
            becomes(line, expected);
        }
    }

    #[test]
    fn programs_that_call_cargo_nextest_themselves_are_left_alone() {
        for line in [
            "cargo llvm-cov nextest --lcov",
            "cargo +nightly llvm-cov --no-report nextest",
            "cargo miri nextest run",
            "cargo mutants --test-tool=nextest",
            "cargo mutants --test-tool nextest",
        ] {
            assert_eq!(instead(line), Some(Instead::Same), "{line}");
        }
    }

    #[test]
    fn calls_for_what_is_missing_are_named_as_such() {
        let Some(Instead::Nothing(why)) = instead("cargo nextest self update") else {
            panic!("it is not supported");
        };
        assert!(why.starts_with("`self` is cargo-nextest's"), "{why}");
    }

    #[test]
    fn an_address_without_a_download_is_left_to_its_reader() {
        let line = "  x86_64) URL=https://get.nexte.st/latest/linux ;; \\";
        assert_eq!(
            instead(line),
            Some(Instead::Nothing(
                "install with `cargo install --locked cargo-harness`".to_owned()
            ))
        );
    }

    #[test]
    fn other_lines_are_none_of_them() {
        for line in [
            "# cargo nextest run",
            "name: nextest",
            "NEXTEST_PROFILE: ci",
            "path: target/nextest/ci/junit.xml",
            "cargo test",
        ] {
            assert_eq!(instead(line), None, "{line}");
        }
    }

    #[test]
    fn files_of_ci_and_of_builds_are_looked_through() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let root: &Utf8Path = folder.path().try_into().expect("the name is UTF-8");
        let call = "cargo nextest run\n";
        for (file, text) in [
            (".github/workflows/ci.yml", call),
            (".gitlab-ci.yml", call),
            (".buildkite/pipeline.yml", call),
            (".cargo/config.toml", "[alias]\nt = \"nextest run\"\n"),
            ("crates/a/Makefile", call),
            ("justfile", call),
            (
                "Makefile.toml",
                "[tasks.t]\ncommand = \"cargo\"\nargs = [\"nextest\", \"run\"]\n",
            ),
            ("README.md", call),
            ("src/lib.rs", call),
            ("target/debug/build/x/run.sh", call),
        ] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("it can be made");
            fs::write(path, text).expect("it can be written");
        }
        let found = find(root);
        let files: Vec<&str> = found.iter().map(|found| found.file.as_str()).collect();
        assert_eq!(
            files,
            [
                ".buildkite/pipeline.yml",
                ".cargo/config.toml",
                ".github/workflows/ci.yml",
                ".gitlab-ci.yml",
                "Makefile.toml",
                "crates/a/Makefile",
                "justfile",
            ]
        );
        assert_eq!(found[1].line, 2);
        assert_eq!(
            found[1].instead,
            Instead::Line("t = \"harness run\"".to_owned())
        );
    }
}
