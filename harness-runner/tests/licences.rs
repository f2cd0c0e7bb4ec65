//! Checks the dependencies by `.deny.toml`, as far as that needs no network and no other program:
//! licences, sources, and the Rust version that each needs.

use serde_json::Value;
use spdx::{Expression, ParseMode};
use std::{collections::BTreeSet, env, fs, path::Path, process::Command};

/// The prefix of a registry's address in `cargo metadata`.
const REGISTRY: &str = "registry+";

#[test]
fn every_dependency_has_a_licence_and_a_source_that_deny_toml_allows() {
    let deny: toml::Table = toml::from_str(&read(".deny.toml")).expect(".deny.toml is TOML");
    let licences = deny["licenses"]["allow"]
        .as_array()
        .expect("it is an array");
    let licences = licences.iter().filter_map(toml::Value::as_str);
    let licences: Vec<String> = licences.map(str::to_owned).collect();
    let mut registries = BTreeSet::new();
    let mut used = Vec::new();
    let mut wrong = Vec::new();
    for package in packages() {
        let name = &package["name"];
        let licence = package["license"].as_str().unwrap_or_default();
        match Expression::parse_mode(licence, ParseMode::LAX) {
            Ok(expression) => {
                let allowed = expression.evaluate(|wanted| licences.contains(&wanted.to_string()));
                if !allowed {
                    wrong.push(format!("{name}: `{licence}` is not allowed"));
                }
                used.extend(expression.requirements().map(|one| one.req.to_string()));
            }
            Err(error) => wrong.push(format!("{name}: no known licence, `{licence}`: {error}")),
        }
        if let Some(source) = package["source"].as_str() {
            registries.insert(source.to_owned());
            if !source.starts_with(REGISTRY) {
                wrong.push(format!("{name}: `{source}` is no registry"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        registries.len() <= 1,
        "more than one registry: {registries:?}"
    );
    let idle: Vec<_> = licences.iter().filter(|one| !used.contains(one)).collect();
    assert!(
        idle.is_empty(),
        "no dependency has the licences {idle:?}: take them out of .deny.toml"
    );
}

#[test]
fn no_dependency_needs_a_newer_rust_than_the_manifest_says() {
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).expect("Cargo.toml is TOML");
    let ours = manifest["workspace"]["package"]["rust-version"].as_str();
    let ours = parts(ours.expect("the workspace has a rust-version"));
    let newer: Vec<String> = packages()
        .iter()
        .filter_map(|package| Some((&package["name"], package["rust_version"].as_str()?)))
        .filter(|(_, version)| parts(version) > ours)
        .map(|(name, version)| format!("{name} needs {version}"))
        .collect();
    assert!(newer.is_empty(), "raise rust-version: {newer:?}");
}

/// Returns the packages that are built on this machine, those for tests included.
fn packages() -> Vec<Value> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let rustc = output(Command::new("rustc").arg("-vV"));
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--offline", "--locked"]);
    command.args(["--filter-platform", host.expect("rustc names its host")]);
    command
        .arg("--manifest-path")
        .arg(workspace().join("Cargo.toml"));
    let metadata: Value = serde_json::from_str(&output(&mut command)).expect("cargo writes JSON");
    let nodes = metadata["resolve"]["nodes"].as_array().expect("a resolve");
    let packages = metadata["packages"].as_array().expect("packages");
    let is_built = |package: &&Value| nodes.iter().any(|node| node["id"] == package["id"]);
    let built: Vec<Value> = packages.iter().filter(is_built).cloned().collect();
    assert!(
        built.len() > 150,
        "only {} packages were found",
        built.len()
    );
    built
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).expect("it is UTF-8")
}

/// Returns the numbers of a version, such as `1.85` or `1.85.0`.
fn parts(version: &str) -> [u32; 3] {
    let mut parts = [0; 3];
    for (part, text) in parts.iter_mut().zip(version.split('.')) {
        *part = text.parse().expect("a version has numbers");
    }
    parts
}

fn read(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn workspace() -> &'static Path {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    folder.expect("the crate is in a workspace")
}
