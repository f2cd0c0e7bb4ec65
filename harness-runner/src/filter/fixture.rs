//! A workspace for tests: `alpha` with a library and the test `integration`, `beta` which depends
//! on it, and the proc macro `macros`.

use guppy::{
    CargoMetadata, PackageId,
    graph::{PackageGraph, cargo::BuildPlatform},
};
use nextest_filtering::{BinaryQuery, TestQuery};
use nextest_metadata::{RustBinaryId, RustTestBinaryKind, TestCaseName};
use serde_json::{Value, json};

/// A binary of the workspace, and what a query of it borrows.
#[derive(Debug)]
pub(crate) struct Binary {
    package: PackageId,
    id: RustBinaryId,
    name: &'static str,
    kind: RustTestBinaryKind,
    platform: BuildPlatform,
}

impl Binary {
    fn new(package: &str, name: &'static str, kind: RustTestBinaryKind) -> Self {
        let platform = if kind == RustTestBinaryKind::PROC_MACRO {
            BuildPlatform::Host
        } else {
            BuildPlatform::Target
        };
        Self {
            package: PackageId::new(package_id(package)),
            id: RustBinaryId::from_parts(package, &kind, name),
            name,
            kind,
            platform,
        }
    }

    /// The same binary as one of several that are built for targets.
    pub(crate) fn of_target(mut self, target: &str) -> Self {
        self.id = RustBinaryId::new(&format!("{}@{target}", self.id));
        self
    }

    pub(crate) fn query(&self) -> BinaryQuery<'_> {
        BinaryQuery {
            package_id: &self.package,
            binary_id: &self.id,
            binary_name: self.name,
            kind: &self.kind,
            platform: self.platform,
        }
    }

    pub(crate) fn test<'a>(&'a self, name: &'a TestCaseName) -> TestQuery<'a> {
        TestQuery {
            binary_query: self.query(),
            test_name: name,
        }
    }
}

/// The library of `alpha`.
pub(crate) fn alpha() -> Binary {
    Binary::new("alpha", "alpha", RustTestBinaryKind::LIB)
}

/// The test `integration` of `alpha`.
pub(crate) fn integration() -> Binary {
    Binary::new("alpha", "integration", RustTestBinaryKind::TEST)
}

/// The library of `beta`.
pub(crate) fn beta() -> Binary {
    Binary::new("beta", "beta", RustTestBinaryKind::LIB)
}

/// The proc macro `macros`, which is built for the host.
pub(crate) fn macros() -> Binary {
    Binary::new("macros", "macros", RustTestBinaryKind::PROC_MACRO)
}

pub(crate) fn graph() -> PackageGraph {
    let lib = |name: &str, kind: &str| target(name, kind, &format!("/ws/{name}/src/lib.rs"));
    let integration = target("integration", "test", "/ws/alpha/tests/integration.rs");
    let ids: Vec<String> = ["alpha", "beta", "macros"].map(package_id).to_vec();
    let metadata = json!({
        "packages": [
            package("alpha", &[], &[lib("alpha", "lib"), integration]),
            package("beta", &["alpha"], &[lib("beta", "lib")]),
            package("macros", &[], &[lib("macros", "proc-macro")]),
        ],
        "workspace_members": ids,
        "workspace_default_members": ids,
        "resolve": {
            "nodes": [node("alpha", &[]), node("beta", &["alpha"]), node("macros", &[])],
            "root": null,
        },
        "target_directory": "/ws/target",
        "version": 1,
        "workspace_root": "/ws",
        "metadata": null,
    });
    CargoMetadata::parse_json(metadata.to_string())
        .and_then(CargoMetadata::build_graph)
        .expect("the metadata is well-formed")
}

fn package_id(name: &str) -> String {
    format!("path+file:///ws/{name}#0.1.0")
}

fn target(name: &str, kind: &str, path: &str) -> Value {
    let crate_type = if kind == "test" { "bin" } else { kind };
    json!({
        "kind": [kind], "crate_types": [crate_type], "name": name, "src_path": path,
        "edition": "2024", "doc": true, "doctest": true, "test": true,
    })
}

fn package(name: &str, dependencies: &[&str], targets: &[Value]) -> Value {
    let dependency = |name: &&str| {
        json!({
            "name": name, "source": null, "req": "*", "kind": null, "rename": null,
            "optional": false, "uses_default_features": true, "features": [], "target": null,
            "registry": null, "path": format!("/ws/{name}"),
        })
    };
    json!({
        "name": name, "version": "0.1.0", "id": package_id(name), "license": null,
        "license_file": null, "description": null, "source": null,
        "dependencies": dependencies.iter().map(dependency).collect::<Vec<_>>(),
        "targets": targets, "features": {}, "manifest_path": format!("/ws/{name}/Cargo.toml"),
        "metadata": null, "publish": null, "authors": [], "categories": [], "keywords": [],
        "readme": null, "repository": null, "homepage": null, "documentation": null,
        "edition": "2024", "links": null, "default_run": null, "rust_version": null,
    })
}

fn node(name: &str, dependencies: &[&str]) -> Value {
    let deps: Vec<Value> = dependencies
        .iter()
        .map(|name| {
            json!({
                "name": name, "pkg": package_id(name),
                "dep_kinds": [{ "kind": null, "target": null }],
            })
        })
        .collect();
    json!({
        "id": package_id(name),
        "dependencies": dependencies.iter().map(|name| package_id(name)).collect::<Vec<_>>(),
        "deps": deps, "features": [],
    })
}
