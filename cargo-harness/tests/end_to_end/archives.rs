//! Builds that are run elsewhere: from archives, and from the files that describe them.

use crate::environment::installed;
use crate::scene::{Finished, Scene, skip};
use harness_metadata::exit_code;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const MANIFEST: &str = "[package]\nname = \"moved\"\nversion = \"1.2.3\"\nedition = \"2024\"\n\n\
                        [workspace]\nmembers = [\"macros\"]\n\n\
                        [dev-dependencies]\nmacros = { path = \"macros\" }\n";

const BUILD: &str = "fn main() {\n\
    let out = std::env::var(\"OUT_DIR\").unwrap();\n\
    std::fs::write(format!(\"{out}/generated\"), \"generated\").unwrap();\n\
    println!(\"cargo::rustc-env=FROM_BUILD={out}/generated\");\n}\n";

/// Looks for everything that has moved.
const TEST: &str = "use std::{env, fs, path::Path, process::Command};\n\
    fn variable(name: &str) -> String { env::var(name).expect(name) }\n\
    #[test] fn finds_what_its_build_script_made() {\n\
    let out = Path::new(&variable(\"OUT_DIR\")).join(\"generated\");\n\
    assert_eq!(fs::read_to_string(out).unwrap(), \"generated\");\n\
    assert_eq!(fs::read_to_string(variable(\"FROM_BUILD\")).unwrap(), \"generated\"); }\n\
    #[test] fn finds_its_program() {\n\
    let found = Command::new(variable(\"CARGO_BIN_EXE_moved\")).output().unwrap();\n\
    assert_eq!(found.stdout, b\"from the program\\n\"); }\n\
    #[test] fn finds_its_sources() {\n\
    let here = env::current_dir().unwrap();\n\
    assert_eq!(Path::new(&variable(\"CARGO_MANIFEST_DIR\")), here);\n\
    assert!(here.join(\"data.txt\").exists()); }\n\
    #[test] fn has_its_variables() {\n\
    assert_eq!(variable(\"CARGO_PKG_VERSION\"), \"1.2.3\");\n\
    assert_eq!(variable(\"NEXTEST_BINARY_ID\"), \"moved::it\"); }\n";

/// Writes a workspace with all that an archive has to carry. Returns its folder.
fn workspace(scene: &Scene) -> PathBuf {
    for (name, text) in [
        ("moved/Cargo.toml", MANIFEST),
        ("moved/build.rs", BUILD),
        (
            "moved/src/main.rs",
            "fn main() { println!(\"from the program\"); }\n",
        ),
        ("moved/tests/it.rs", TEST),
        ("moved/data.txt", "data"),
        (
            "moved/macros/Cargo.toml",
            "[package]\nname = \"macros\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
             [lib]\nproc-macro = true\n",
        ),
        ("moved/macros/src/lib.rs", "#[test] fn expands() {}\n"),
    ] {
        scene.write(name, text);
    }
    scene.path("moved")
}

/// Returns a command for a machine without a toolchain.
fn without_toolchain(scene: &Scene, args: &[&str], cwd: &Path) -> Command {
    let mut command = scene.harness([]);
    command
        .args(args)
        .current_dir(cwd)
        .env("PATH", "")
        .env_remove("CARGO")
        .env_remove("CARGO_TARGET_DIR");
    command
}

fn archive(scene: &Scene, folder: &Path, args: &[&str]) -> Finished {
    let mut all = vec!["archive", "--workspace", "--archive-file", "../a.tar.zst"];
    all.extend(args);
    scene.run(scene.harness_in(folder, &all))
}

#[test]
fn an_archive_runs_elsewhere_without_cargo_and_rustc() {
    let scene = Scene::new();
    let folder = workspace(&scene);
    archive(&scene, &folder, &[])
        .assert_code(exit_code::OK)
        .assert_says("test binaries in `../a.tar.zst`: ");
    // Another machine: the sources are elsewhere, and the target directory is not there.
    let elsewhere = scene.path("elsewhere");
    fs::rename(&folder, &elsewhere).unwrap();
    fs::remove_dir_all(elsewhere.join("target")).unwrap();
    let archive = ["--archive-file", "../a.tar.zst"];
    let run = scene.run(without_toolchain(
        &scene,
        &[&["run", "--workspace-remap", "."], &archive[..]].concat(),
        &elsewhere,
    ));
    run.assert_code(exit_code::OK)
        .assert_says("5 tests run: 5 passed");
    // The files of the run are with the sources, and not in the folder that is gone.
    let runs = fs::read_dir(elsewhere.join("target/harness/runs")).unwrap();
    assert_eq!(runs.count(), 1);
    let temporary = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    let said = run
        .stderr
        .lines()
        .find(|line| line.contains("extracted to"));
    let said = said.expect("the folder is named");
    for entry in temporary {
        let name = entry.file_name().into_string().unwrap_or_default();
        let is_it = name.starts_with("harness-archive-") && said.contains(&format!("/{name}`"));
        assert!(!is_it, "{name} is left");
    }
    // Without the sources there is nothing to run in.
    scene
        .run(without_toolchain(
            &scene,
            &[&["run"], &archive[..]].concat(),
            &elsewhere,
        ))
        .assert_code(exit_code::SETUP)
        .assert_says("the workspace of this build is not at `")
        .assert_says("`--workspace-remap` says where the sources are");
}

#[test]
fn an_extracted_archive_stays_where_it_was_asked_for() {
    let scene = Scene::new();
    let folder = scene.package("stays", "#[test] fn passes() {}\n");
    archive(&scene, &folder, &[]).assert_code(exit_code::OK);
    fs::create_dir(scene.path("to")).unwrap();
    let args = [
        "list",
        "--archive-file",
        "../a.tar.zst",
        "--extract-to",
        "../to",
    ];
    let listed = scene.run(without_toolchain(&scene, &args, &folder));
    listed.assert_code(exit_code::OK);
    assert_eq!(listed.stdout, "stays passes\n");
    assert!(
        scene
            .path("to/target/nextest/binaries-metadata.json")
            .exists()
    );
    scene
        .run(without_toolchain(&scene, &args, &folder))
        .assert_code(exit_code::SETUP)
        .assert_says("exists already; write `--extract-overwrite`");
    let again = [&args[..], &["--extract-overwrite"]].concat();
    scene
        .run(without_toolchain(&scene, &again, &folder))
        .assert_code(exit_code::OK);
    let settings = ["show-config", "test", "--archive-file", "../a.tar.zst"];
    let settings = scene.run(without_toolchain(&scene, &settings, &folder));
    settings.assert_code(exit_code::OK);
    assert!(
        settings.stdout.starts_with("stays passes\n"),
        "{}",
        settings.stdout
    );
}

#[test]
fn the_same_build_makes_the_same_archive() {
    let scene = Scene::new();
    let folder = scene.package("same", "#[test] fn passes() {}\n");
    archive(&scene, &folder, &[]).assert_code(exit_code::OK);
    let first = fs::read(scene.path("a.tar.zst")).unwrap();
    archive(&scene, &folder, &[]).assert_code(exit_code::OK);
    assert!(fs::read(scene.path("a.tar.zst")).unwrap() == first);
    archive(&scene, &folder, &["--zstd-level", "-7"]).assert_code(exit_code::OK);
    assert!(fs::read(scene.path("a.tar.zst")).unwrap().len() > first.len());
}

#[test]
fn an_archive_has_the_binaries_of_its_filterset_only() {
    let scene = Scene::new();
    let folder = workspace(&scene);
    archive(&scene, &folder, &["-E", "package(macros)"])
        .assert_code(exit_code::OK)
        .assert_says("1 test binary (2 are not in the filterset) in `../a.tar.zst`");
    let args = ["list", "--archive-file", "../a.tar.zst"];
    let list = scene.run(without_toolchain(&scene, &args, &folder));
    assert_eq!(list.stdout, "macros expands\n");
    archive(&scene, &folder, &["-E", "test(expands)"]).assert_code(exit_code::INVALID_FILTERSET);
    scene
        .run(scene.harness_in(&folder, &["archive", "--archive-file", "no/such/a.tar.zst"]))
        .assert_code(exit_code::ARCHIVE_FAILED)
        .assert_says("failed to write the archive `");
    scene
        .run(scene.harness_in(&folder, &["archive", "--archive-file", "a.zip"]))
        .assert_code(exit_code::SETUP)
        .assert_says("end it in `.tar.zst`");
}

#[test]
fn an_archive_takes_the_files_that_the_configuration_names_in_either_file() {
    let scene = Scene::new();
    let folder = scene.package("more", "#[test] fn passes() {}\n");
    let include = "[profile.default]\narchive.include = [\n\
                   { path = \"more\", relative-to = \"target\", depth = 1 },\n\
                   { path = \"none\", relative-to = \"target\" },\n]\n\
                   [profile.strict]\narchive.include = [\n\
                   { path = \"none\", relative-to = \"target\", on-missing = \"error\" },\n]\n";
    for (place, other) in [("nextest", "harness"), ("harness", "nextest")] {
        let _ = fs::remove_file(folder.join(format!(".config/{other}.toml")));
        scene.write(&format!("more/.config/{place}.toml"), include);
        scene.write("more/target/more/file", "file");
        scene.write("more/target/more/deep/file", "file");
        archive(&scene, &folder, &[])
            .assert_code(exit_code::OK)
            .assert_says("target/none` of `archive.include` does not exist");
        let to = scene.path(place);
        fs::create_dir(&to).unwrap();
        let to = format!("../{place}");
        let args = [
            "list",
            "--archive-file",
            "../a.tar.zst",
            "--extract-to",
            &to,
        ];
        scene
            .run(without_toolchain(&scene, &args, &folder))
            .assert_code(exit_code::OK);
        let to = scene.path(place).join("target/more");
        assert!(to.join("file").exists() && !to.join("deep").exists());
        archive(&scene, &folder, &["-P", "strict"])
            .assert_code(exit_code::ARCHIVE_FAILED)
            .assert_says("target/none` of `archive.include` does not exist");
    }
}

#[test]
fn a_build_is_taken_up_by_the_files_that_describe_it() {
    let scene = Scene::new();
    let folder = workspace(&scene);
    let mut metadata = scene.command("cargo");
    metadata
        .args(["metadata", "--format-version", "1"])
        .current_dir(&folder)
        .env("CARGO_TARGET_DIR", folder.join("target"));
    let metadata = scene.run(metadata);
    metadata.assert_code(0);
    scene.write("metadata.json", &metadata.stdout);
    let list = [
        "list",
        "--workspace",
        "--list-type",
        "binaries-only",
        "-T",
        "json",
    ];
    let list = scene.run(scene.harness_in(&folder, &list));
    list.assert_code(exit_code::OK);
    scene.write("binaries.json", &list.stdout);
    let elsewhere = scene.path("elsewhere");
    fs::rename(&folder, &elsewhere).unwrap();
    fs::rename(elsewhere.join("target"), scene.path("built")).unwrap();
    let args = [
        "run",
        "--cargo-metadata",
        "../metadata.json",
        "--binaries-metadata",
        "../binaries.json",
        "--workspace-remap",
        ".",
        "--target-dir-remap",
        "../built",
    ];
    scene
        .run(without_toolchain(&scene, &args, &elsewhere))
        .assert_code(exit_code::OK)
        .assert_says("5 tests run: 5 passed");
    if !installed("cargo-nextest", &["nextest", "--version"]) {
        return;
    }
    // Cargo-nextest understands the same files.
    let mut command = scene.command("cargo-nextest");
    command
        .arg("nextest")
        .args(args)
        // There, the variables of a build script lead to where they did.
        .args(["-E", "not test(=finds_what_its_build_script_made)"])
        .current_dir(&elsewhere);
    let run = scene.run(command);
    run.assert_code(0);
    assert!(
        run.stderr.contains("4 tests run: 4 passed"),
        "{}",
        run.stderr
    );
}

#[test]
fn cargo_nextest_runs_archives_of_this_program_and_the_other_way_round() {
    if !installed("cargo-nextest", &["nextest", "--version"]) {
        return skip(
            "cargo_nextest_runs_archives_of_this_program_and_the_other_way_round",
            "cargo-nextest is not installed",
        );
    }
    let scene = Scene::new();
    let folder = workspace(&scene);
    archive(&scene, &folder, &[]).assert_code(exit_code::OK);
    let nextest = |args: &[&str]| {
        let mut command = scene.command("cargo-nextest");
        command.arg("nextest").args(args).current_dir(&folder);
        command.env("CARGO_TARGET_DIR", folder.join("target"));
        scene.run(command)
    };
    let run = nextest(&["run", "--archive-file", "../a.tar.zst"]);
    run.assert_code(0);
    assert!(
        run.stderr.contains("5 tests run: 5 passed"),
        "{}",
        run.stderr
    );
    nextest(&["archive", "--workspace", "--archive-file", "../b.tar.zst"]).assert_code(0);
    let args = ["run", "--archive-file", "../b.tar.zst"];
    scene
        .run(without_toolchain(&scene, &args, &folder))
        .assert_code(exit_code::OK)
        .assert_says("5 tests run: 5 passed");
}

#[test]
fn options_of_the_build_do_not_go_with_a_build_that_is_there() {
    let scene = Scene::new();
    let folder = scene.package("none", "");
    for args in [
        &["--archive-file", "a.tar.zst", "--release"][..],
        &["--archive-file", "a.tar.zst", "--cargo-metadata", "m"],
        &["--extract-to", "."],
        &[
            "--archive-file",
            "a.tar.zst",
            "--extract-to",
            ".",
            "--persist-extract-tempdir",
        ],
        &["--workspace-remap", "."],
        &["--binaries-metadata", "b"],
        &["--target-dir-remap", "."],
    ] {
        let all = [&["run"], args].concat();
        scene
            .run(scene.harness_in(&folder, &all))
            .assert_code(exit_code::USAGE);
    }
    scene
        .run(scene.harness_in(&folder, &["run", "--archive-file", "none.tar.zst"]))
        .assert_code(exit_code::SETUP)
        .assert_says("failed to open the archive `");
}

#[test]
fn an_archive_with_the_inputs_that_tests_were_seen_to_use_runs_without_a_checkout() {
    let scene = Scene::new();
    let source = "#[test] fn reads() {\n\
        assert_eq!(std::fs::read_to_string(\"data/used.txt\").unwrap(), \"used\");\n\
        std::fs::write(\"made.txt\", \"made\").unwrap(); }\n\
        #[test] fn unseen() { assert!(std::fs::exists(\"data/unused.txt\").unwrap()); }\n";
    let folder = scene.package("inputs", source);
    scene.write("inputs/data/used.txt", "used");
    scene.write("inputs/data/unused.txt", "unused");
    let run = ["run", "--trace", "io", "-E", "test(=reads)"];
    scene
        .run(scene.harness_in(&folder, &run))
        .assert_code(exit_code::OK);
    archive(&scene, &folder, &["--with-inputs"])
        .assert_code(exit_code::OK)
        .assert_says("files of the workspace, which 1 traced test used")
        .assert_says("no trace with files is kept of 1 test: `inputs unseen`");
    fs::remove_dir_all(&folder).unwrap();
    let nowhere = scene.path("nowhere");
    fs::create_dir(&nowhere).unwrap();
    let archive = ["run", "--archive-file", "../a.tar.zst", "--no-fail-fast"];
    scene
        .run(without_toolchain(&scene, &archive, &nowhere))
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("2 tests run: 1 passed, 1 failed");
    // The recording stays where the run was started.
    assert!(nowhere.join("target/harness/runs").is_dir());
    let to = scene.path("to");
    fs::create_dir(&to).unwrap();
    let list = [
        "list",
        "--archive-file",
        "../a.tar.zst",
        "--extract-to",
        "../to",
    ];
    scene
        .run(without_toolchain(&scene, &list, &nowhere))
        .assert_code(exit_code::OK);
    let sources = to.join("target/harness/workspace");
    assert!(sources.join("Cargo.toml").exists() && sources.join("data/used.txt").exists());
    assert!(!sources.join("data/unused.txt").exists() && !sources.join("made.txt").exists());
}
