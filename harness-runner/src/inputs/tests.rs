use super::*;
use crate::tracer::record::Recorder;
use harness_metadata::{
    RawString,
    event::TraceLevel,
    trace::{Backend, FileSummary},
};
use std::fs;
use tempfile::TempDir;

/// A workspace of two packages, the second one in the folder of the first.
struct Scene {
    _folder: TempDir,
    places: Places,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().canonicalize().unwrap()).unwrap();
        for file in [
            "Cargo.toml",
            "one/data/a.txt",
            "one/data/b.txt",
            "one/inner/src/lib.rs",
            "one/.git/config",
            "target/debug/deps/one-1",
            "target/debug/tool",
        ] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let places = Places {
            store: root.join("target"),
            kept_in: root.join("target"),
            built: vec![root.join("target")],
            packages: [root.join("one"), root.join("one/inner")].into(),
            root,
        };
        Self {
            _folder: folder,
            places,
        }
    }

    fn needs(&self, trace: Option<TraceSummary>, learnt: &[&str]) -> Needs {
        let test = fixture_kit::sample::test("one", "t");
        let mut finder = Finder::new(self.places.clone(), &[]).unwrap();
        let learnt = learnt.iter().map(|path| self.places.root.join(path));
        finder.learnt.add(&test, learnt);
        finder
            .traces
            .extend(trace.map(|trace| (test.clone(), Box::new(trace))));
        let mut environment = Environment::default();
        environment.set(
            "CARGO_BIN_EXE_tool",
            self.places.root.join("target/debug/tool"),
        );
        environment.set("PATH", "/usr/bin");
        let binary = Binary {
            file: &self.places.root.join("target/debug/deps/one-1"),
            package: &self.places.root.join("one"),
            environment: &environment,
        };
        finder.needs(&test, binary)
    }

    fn trace(&self, files: &[(&str, &[FileUse])]) -> TraceSummary {
        let mut trace = Recorder::new(1, TraceLevel::Io, Backend::Ptrace, None).summary();
        trace.doubts.clear();
        trace.files = (files.iter())
            .map(|(path, uses)| FileSummary {
                path: RawString::from(self.places.root.join(path).as_str()),
                uses: uses.to_vec(),
            })
            .collect();
        trace
    }
}

fn shown(scene: &Scene, needs: &Needs) -> Vec<String> {
    let inputs = needs.inputs.iter();
    let shown = inputs.map(|(path, need)| {
        let slash = if need.folder { "/" } else { "" };
        format!("{}{slash}", path.strip_prefix(&scene.places.root).unwrap())
    });
    shown.collect()
}

#[test]
fn a_test_with_a_trace_needs_its_binary_its_programs_and_what_it_read() {
    let scene = Scene::new();
    let trace = scene.trace(&[
        ("one/data/a.txt", &[FileUse::Read]),
        ("one/inner/made", &[FileUse::Read, FileUse::Created]),
        ("one/gone", &[FileUse::Read]),
        ("../elsewhere", &[FileUse::Read]),
    ]);
    let needs = scene.needs(Some(trace), &[]);
    assert_eq!(needs.basis, Basis::Trace);
    let expected = [
        "/",
        "one/",
        "one/data/a.txt",
        "one/inner/",
        "target/debug/deps/one-1",
        "target/debug/tool",
    ];
    assert_eq!(shown(&scene, &needs), expected);
}

#[test]
fn a_test_that_lists_a_folder_finds_the_same_names_elsewhere() {
    let scene = Scene::new();
    let trace = scene.trace(&[("one/data", &[FileUse::Read])]);
    let needs = scene.needs(Some(trace), &[]);
    let of_data: Vec<_> = shown(&scene, &needs)
        .into_iter()
        .filter(|it| it.contains("data"))
        .collect();
    assert_eq!(of_data, ["one/data/", "one/data/a.txt", "one/data/b.txt"]);
}

#[test]
fn a_test_without_a_trace_needs_its_package_and_no_other_one() {
    let scene = Scene::new();
    let needs = scene.needs(None, &[]);
    assert_eq!(needs.basis, Basis::Package);
    let expected = [
        "/",
        "Cargo.toml",
        "one/",
        "one/data/",
        "one/data/a.txt",
        "one/data/b.txt",
        "target/debug/deps/one-1",
        "target/debug/tool",
    ];
    assert_eq!(shown(&scene, &needs), expected);
}

#[test]
fn what_a_run_elsewhere_lacked_is_needed_from_then_on() {
    let scene = Scene::new();
    let trace = scene.trace(&[]);
    let needs = scene.needs(Some(trace), &["one/data/b.txt"]);
    let path = scene.places.root.join("one/data/b.txt");
    assert_eq!(needs.inputs[&path].why, Why::Learnt);
}

#[test]
fn only_what_exists_here_and_was_not_sent_has_been_missed() {
    let scene = Scene::new();
    let trace = scene.trace(&[
        ("one/data/a.txt", &[FileUse::Missing]),
        ("one/data/b.txt", &[FileUse::Missing]),
        ("one/nowhere", &[FileUse::Missing]),
        ("one/inner", &[FileUse::Missing]),
        ("target/debug/made", &[FileUse::Missing]),
    ]);
    let sent = ["", "one", "one/data", "one/data/b.txt"].map(|path| scene.places.root.join(path));
    let missed = missed(&trace, &scene.places, &|path| {
        sent.iter().any(|it| it == path)
    });
    let expected = [
        "one/data/a.txt",
        "one/inner",
        "one/inner/src",
        "one/inner/src/lib.rs",
        "target/debug",
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|path| scene.places.root.join(path))
        .collect();
    assert_eq!(missed.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn lists_for_other_programs_have_the_files_of_the_workspace_only() {
    let scene = Scene::new();
    let test = fixture_kit::sample::test("one", "t");
    let needs = [(test, scene.needs(None, &[]))];
    let text = |format| {
        let mut out = Vec::new();
        write(&mut out, format, &scene.places, &needs).unwrap();
        String::from_utf8(out)
            .unwrap()
            .replace(scene.places.root.as_str(), "ROOT")
    };
    assert_eq!(
        text(Format::Bazel),
        "data = [\n    \"//:Cargo.toml\",\n    \"//one:data/a.txt\",\n    \"//one:data/b.txt\",\n]\n"
    );
    assert_eq!(
        text(Format::Dockerfile),
        "WORKDIR ROOT\nCOPY [\"Cargo.toml\", \"./Cargo.toml\"]\nCOPY [\"one/data/a.txt\", \"./one/data/a.txt\"]\n\
         COPY [\"one/data/b.txt\", \"./one/data/b.txt\"]\n"
    );
    let list = text(Format::List);
    assert!(
        list.contains("one t (no trace: the whole package)\n"),
        "{list}"
    );
    assert!(
        list.contains("  target/debug/tool  a program of its package\n"),
        "{list}"
    );
}
