//! Small changes of the sources of a commit, one at a time, each compared with the commit itself.

use super::{Known, Row, Shown, Side, Simulation, children::Failed, mutate};
use crate::{
    cli::{GlobalOptions, prepared},
    command_error::{CommandError, Kind},
};
use camino::Utf8PathBuf;
use harness_runner::{answers::simulation::Compared, changes::Commit, report::plural};
use mutate::Mutant;
use std::{fs, io};

/// Mutants that are tried for each that is wanted: some do not build.
const TRIES: usize = 4;

/// Folders whose files are in no test.
const NOT_TESTED: [&str; 4] = ["benches", "examples", "fuzz", "target"];

impl Simulation {
    /// Compares so many mutants, chosen by a seed, that build.
    pub(super) fn mutate(
        &self,
        commit: &Commit,
        (most, seed): (usize, u64),
        shown: &mut Shown,
        global: &GlobalOptions,
    ) -> Result<(), Failed> {
        let to = self.checkout.to(&commit.id);
        to.map_err(|error| self.git(error))?;
        self.take_lock();
        let base = self.begin(commit)?;
        let all = self.mutants()?;
        let text = format!(
            "{} can be made; {most} that build are compared, chosen by the seed {seed}",
            plural(all.len(), "mutant", "mutants")
        );
        prepared::note(&text, global.stderr_colors());
        let (mut compared, mut number) = (0, 0);
        for mutant in mutate::choose(all, seed).into_iter().take(most * TRIES) {
            if compared == most {
                break;
            }
            number += 1;
            let row = self.compare(&base, &mutant, number, global)?;
            compared += usize::from(row.is_compared());
            shown.add(row)?;
        }
        Ok(())
    }

    /// Returns the changes that can be made in the committed files of the workspace.
    fn mutants(&self) -> Result<Vec<Mutant>, Failed> {
        let tree = self.checkout.tree();
        let files = self.checkout.files().map_err(|error| self.git(error))?;
        let of_macros = |file: &str| {
            let mut folders = camino::Utf8Path::new(file).ancestors().skip(1);
            folders.any(|folder| {
                let manifest = fs::read_to_string(tree.join(folder).join("Cargo.toml"));
                manifest.is_ok_and(|text| text.contains("proc-macro = true"))
            })
        };
        let mut all = Vec::new();
        for file in files {
            let path = tree.join(&file);
            let mut parts = file.split('/');
            let tested = !parts.any(|part| NOT_TESTED.contains(&part));
            if !tested || !path.starts_with(&self.children.folder) {
                continue;
            }
            // Those that are no text have nothing to change.
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let name = path.file_name().unwrap_or_default();
            if name == "Cargo.toml" {
                all.extend(mutate::of_manifest(&file, &text));
            } else if name.ends_with(".rs") {
                let kind = match name {
                    "build.rs" => Some("build script"),
                    _ if of_macros(&file) => Some("procedural macro"),
                    _ => None,
                };
                all.extend(mutate::of_source(&file, &text, kind));
            }
        }
        all.retain(|mutant| tree.join(&mutant.file).is_file());
        Ok(all)
    }

    /// Makes a change, compares, and takes it back.
    fn compare(
        &self,
        base: &Known,
        mutant: &Mutant,
        number: usize,
        global: &GlobalOptions,
    ) -> Result<Row, Failed> {
        let path = self.checkout.tree().join(&mutant.file);
        let failed = |error: io::Error| {
            let message = format!("failed to change `{path}`: {error}");
            Failed::Broken(CommandError::new(Kind::Write, message))
        };
        let text = fs::read_to_string(&path).map_err(failed)?;
        let changed = mutant.applied(&text).unwrap_or_else(|| text.clone());
        let change = Change {
            path: path.clone(),
            text: &text,
            changed: &changed,
        };
        let commit = Commit {
            id: format!("m{number}"),
            subject: mutant.words(&text),
        };
        change.to(Side::Now).map_err(failed)?;
        let row = self.compare_change(base, &change, &commit, mutant, global);
        change.to(Side::Before).map_err(failed)?;
        let row = match row {
            Err(Failed::NotBuilt(reason)) => Row::not_built(&commit, reason),
            row => row?,
        };
        Ok(row.of_kind(mutant.kind))
    }

    fn compare_change(
        &self,
        base: &Known,
        change: &Change<'_>,
        commit: &Commit,
        mutant: &Mutant,
        global: &GlobalOptions,
    ) -> Result<Row, Failed> {
        let files = [mutant.file.clone()];
        let (selected, reasons) = self.selected(base, &files, "--changed=HEAD")?;
        let verdicts = self.children.run(&["--no-cached"])?;
        let mut compared = Compared::new(&base.verdicts, &verdicts, &selected);
        let suspects = compared.suspects();
        if !suspects.is_empty() {
            let to = |side| {
                let done = change.to(side);
                done.map_err(|error| Failed::Broken(CommandError::new(Kind::Write, error)))
            };
            let both = (&base.verdicts, &verdicts);
            compared.clear(self.by_chance(both, &suspects, &to, global)?);
        }
        Ok(Row::new(commit, &files, compared, reasons))
    }
}

/// A file with and without a change.
struct Change<'a> {
    path: Utf8PathBuf,
    text: &'a str,
    changed: &'a str,
}

impl Change<'_> {
    fn to(&self, side: Side) -> io::Result<()> {
        fs::write(
            &self.path,
            match side {
                Side::Before => self.text,
                Side::Now => self.changed,
            },
        )
    }
}
