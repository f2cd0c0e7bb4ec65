//! The needs of a test, as text for people and for other programs.

use super::{Basis, Need, Needs, Places};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::{TestId, words};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

/// The form of the text.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A line for each, with its reason.
    #[default]
    List,
    /// The list of data of a rule, for Bazel.
    Bazel,
    /// Instructions that copy each into an image.
    Dockerfile,
}

words!(Format {
    List = "list",
    Bazel = "bazel",
    Dockerfile = "dockerfile",
});

/// Writes the needs of tests.
///
/// # Errors
///
/// When they cannot be written.
pub fn write(
    out: &mut dyn Write,
    format: Format,
    places: &Places,
    tests: &[(TestId, Needs)],
) -> io::Result<()> {
    match format {
        Format::List => tests
            .iter()
            .try_for_each(|(test, needs)| list(out, places, test, needs)),
        Format::Bazel => bazel(out, places, tests),
        Format::Dockerfile => dockerfile(out, places, tests),
    }
}

fn list(out: &mut dyn Write, places: &Places, test: &TestId, needs: &Needs) -> io::Result<()> {
    let basis = match needs.basis {
        Basis::Trace => "",
        Basis::DoubtfulTrace => " (its last trace may lack files)",
        Basis::Package => " (no trace: the whole package)",
        Basis::LargePackage => " (no trace, and its package has too many files to name them all)",
    };
    writeln!(out, "{test}{basis}")?;
    for (path, Need { folder, why }) in &needs.inputs {
        let slash = if *folder { "/" } else { "" };
        writeln!(out, "  {}{slash}  {why}", shown(places, path))?;
    }
    Ok(())
}

/// Returns a path below the root of the workspace if it is there, else the path.
fn shown<'a>(places: &Places, path: &'a Utf8Path) -> &'a Utf8Path {
    match path.strip_prefix(&places.root) {
        Ok(inside) if inside == "" => Utf8Path::new("."),
        Ok(inside) => inside,
        Err(_) => path,
    }
}

/// Returns the files of the workspace that any of the tests needs. What is built is built there again.
fn of_workspace(places: &Places, tests: &[(TestId, Needs)]) -> BTreeSet<Utf8PathBuf> {
    let all = tests.iter().flat_map(|(_, needs)| &needs.inputs);
    let files = all.filter(|(path, need)| !need.folder && !places.is_built(path));
    files
        .filter_map(|(path, _)| path.strip_prefix(&places.root).ok().map(Utf8Path::to_owned))
        .collect()
}

/// Writes a list for `data`. The package of a label is the folder of the nearest package of the workspace.
fn bazel(out: &mut dyn Write, places: &Places, tests: &[(TestId, Needs)]) -> io::Result<()> {
    let mut labels: BTreeMap<Utf8PathBuf, Vec<Utf8PathBuf>> = BTreeMap::new();
    for file in of_workspace(places, tests) {
        let absolute = places.root.join(&file);
        let package = absolute
            .ancestors()
            .skip(1)
            .find(|folder| places.packages.contains(*folder));
        let package = package.unwrap_or(&places.root);
        let (Ok(package), Ok(target)) = (
            package.strip_prefix(&places.root),
            absolute.strip_prefix(package),
        ) else {
            continue;
        };
        labels
            .entry(package.to_owned())
            .or_default()
            .push(target.to_owned());
    }
    writeln!(out, "data = [")?;
    for (package, targets) in labels {
        for target in targets {
            writeln!(out, "    {:?},", format!("//{package}:{target}"))?;
        }
    }
    writeln!(out, "]")
}

fn dockerfile(out: &mut dyn Write, places: &Places, tests: &[(TestId, Needs)]) -> io::Result<()> {
    writeln!(out, "WORKDIR {}", places.root)?;
    for file in of_workspace(places, tests) {
        // The form of an array takes blanks.
        writeln!(out, "COPY [{:?}, {:?}]", file.as_str(), format!("./{file}"))?;
    }
    Ok(())
}
