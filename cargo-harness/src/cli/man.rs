//! `cargo harness man`: the manual pages, one for each subcommand.

use super::{documented, print::print};
use crate::command_error::{CommandError, Kind};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Command};
use clap_mangen::Man;
use harness_metadata::exit_code;
use std::{fs, io};

/// The name of the pages' collection, in the middle of their head.
const MANUAL: &str = "Cargo Harness Manual";

/// Print a manual page, or write all of them to a folder.
#[derive(Debug, Args)]
pub(super) struct ManCommand {
    /// The subcommand, such as `run` or `show-config test`; without it the page of the whole program.
    #[arg(value_name = "SUBCOMMAND", conflicts_with = "dir")]
    subcommand: Vec<String>,
    /// Write all pages to this folder, which is created: `cargo-harness.1`, `cargo-harness-run.1`, …
    #[arg(long, value_name = "DIR")]
    dir: Option<Utf8PathBuf>,
}

impl ManCommand {
    pub(super) fn run(self) -> Result<i32, CommandError> {
        if let Some(dir) = &self.dir {
            return write_all(dir).map(|()| exit_code::OK);
        }
        let wanted = ["cargo-harness"].into_iter();
        let wanted = wanted.chain(self.subcommand.iter().map(String::as_str));
        let wanted: Vec<&str> = wanted.collect();
        let file = format!("{}.1", wanted.join("-"));
        let pages = pages().map_err(|error| {
            CommandError::new(Kind::Internal, format!("failed to make `{file}`: {error}"))
        })?;
        match pages.iter().find(|page| page.file == file) {
            Some(page) => print(&page.text, "the manual page").map(|()| exit_code::OK),
            None => {
                let names: Vec<&str> = pages.iter().map(|page| page.name.as_str()).collect();
                let message = format!("there is no subcommand `{}`", self.subcommand.join(" "));
                let hint = format!("use one of: {}", names[1..].join(", "));
                Err(CommandError::new(Kind::Usage, message).with_hint(hint))
            }
        }
    }
}

/// A manual page.
struct Page {
    /// The words of the subcommand; empty for the whole program.
    name: String,
    /// Its file's name.
    file: String,
    /// Its text in roff.
    text: Vec<u8>,
}

fn write_all(dir: &Utf8Path) -> Result<(), CommandError> {
    let failed = |path: &Utf8Path, error: io::Error| {
        CommandError::new(Kind::Write, format!("failed to write `{path}`: {error}"))
    };
    fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
    for page in pages().map_err(|error| failed(dir, error))? {
        let path = dir.join(page.file);
        fs::write(&path, page.text).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// Returns all pages, that of the whole program first.
fn pages() -> io::Result<Vec<Page>> {
    let mut app = documented("cargo harness");
    // Names and flags that subcommands take from their parents.
    app.build();
    let mut pages = Vec::new();
    let mut commands = vec![(String::new(), &app)];
    while let Some((name, command)) = commands.pop() {
        pages.push(page(&name, command)?);
        let mut below: Vec<_> = command
            .get_subcommands()
            .map(|below| (format!("{name} {}", below.get_name()), below))
            .map(|(name, below)| (name.trim_start().to_owned(), below))
            .collect();
        below.reverse();
        commands.append(&mut below);
    }
    Ok(pages)
}

fn page(name: &str, command: &Command) -> io::Result<Page> {
    let mut command = command.clone();
    // As `--help` has it: the generated synopsis repeats every flag.
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    let version = env!("CARGO_PKG_VERSION");
    let man = Man::new(command.override_usage(usage))
        .source(format!("cargo-harness {version}"))
        .manual(MANUAL);
    let mut text = Vec::new();
    man.render(&mut text)?;
    Ok(Page {
        name: name.to_owned(),
        file: man.get_filename(),
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::subcommands;

    #[test]
    fn every_subcommand_has_a_page_with_all_its_flags_and_values() {
        let pages = pages().unwrap();
        let subcommands = subcommands();
        assert_eq!(pages.len(), subcommands.len());
        for (file, command) in subcommands {
            let page = pages.iter().find(|page| page.file == file);
            let page = page.unwrap_or_else(|| panic!("there is no page `{file}`"));
            let text = String::from_utf8_lossy(&page.text);
            // Roff has hyphens of flags as `\-`.
            let text = text
                .replace("\\-", "-")
                .replace("\\fB", " ")
                .replace("\\fR", " ");
            let words: Vec<&str> = text
                .split(|c: char| c != '-' && c != '_' && !c.is_alphanumeric())
                .collect();
            for argument in command.get_arguments().filter(|one| !one.is_hide_set()) {
                if let Some(flag) = argument.get_long() {
                    let flag = format!("--{flag}");
                    assert!(words.contains(&flag.as_str()), "{file} lacks `{flag}`");
                }
                if argument.get_action().takes_values() {
                    for value in argument.get_possible_values() {
                        let value = value.get_name();
                        assert!(words.contains(&value), "{file} lacks `{value}`");
                    }
                }
                if let Some(variable) = argument.get_env() {
                    let variable = variable.to_string_lossy();
                    assert!(
                        words.contains(&variable.as_ref()),
                        "{file} lacks `{variable}`"
                    );
                }
            }
        }
    }

    #[test]
    fn a_page_is_found_by_the_words_of_its_subcommand() {
        let pages = pages().unwrap();
        let names: Vec<&str> = pages.iter().map(|page| page.name.as_str()).collect();
        assert_eq!(names[..2], ["", "run"]);
        assert!(names.contains(&"show-config test"), "{names:?}");
        for page in &pages {
            let file = format!("cargo-harness {}", page.name)
                .trim_end()
                .replace(' ', "-");
            assert_eq!(page.file, format!("{file}.1"));
        }
    }
}
