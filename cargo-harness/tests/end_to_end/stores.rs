//! Stores outside of the target directory.

use crate::{
    nobody::Nobody,
    scene::{Finished, Scene, skip},
};
use harness_metadata::exit_code;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

const SOURCE: &str = "#[cfg(test)] mod tests { #[test] fn a() {} #[test] fn b() {} }";

/// A package, and what is run in it.
struct Place {
    scene: Scene,
    package: PathBuf,
}

impl Place {
    /// Sets a scene with this configuration.
    fn new(config: &str) -> Self {
        let scene = Scene::new();
        let package = scene.package("kept", SOURCE);
        scene.write("kept/.config/harness.toml", config);
        Self { scene, package }
    }

    fn harness(&self, args: &[&str]) -> Finished {
        let command = self.scene.harness_in(&self.package, args);
        self.scene.run(command)
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> Finished {
        let finished = self.harness(args);
        finished.assert_code(exit_code::OK);
        finished
    }

    /// Returns how many runs the list has.
    #[track_caller]
    fn listed(&self, args: &[&str]) -> usize {
        let listed = self.ok(&[["store", "list", "-T", "json"].as_slice(), args].concat());
        listed.stdout.lines().count()
    }
}

/// Returns the packs in a store.
fn packs(store: &Path) -> usize {
    let entries = fs::read_dir(store.join("runs"));
    let names = entries.into_iter().flatten().flatten().map(|it| it.path());
    names.filter(|path| path.extension().is_some()).count()
}

/// Returns the only folder in another.
fn only_folder(folder: &Path) -> PathBuf {
    let entries = fs::read_dir(folder).expect("it is there").flatten();
    let found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn cargo_clean_leaves_what_is_known_of_runs_in_a_store_outside_of_target() {
    let place = Place::new("store.runs-dir = '.runs'");
    place.ok(&["run"]);
    place.ok(&["run", "a"]);
    let mut clean = place.scene.command("cargo");
    clean
        .arg("clean")
        .current_dir(&place.package)
        .env("CARGO_TARGET_DIR", place.package.join("target"));
    place.scene.run(clean).assert_code(0);
    assert!(!place.package.join("target/harness").exists());
    assert_eq!(place.listed(&[]), 2);
    let history = place.ok(&["history", "tests::a", "-T", "json"]);
    assert_eq!(history.stdout.lines().count(), 2);
    place.ok(&["replay"]);
    place.ok(&["trace", "tests::b"]);
    place.ok(&["compare"]);
    place.ok(&["flaky"]);
    place.ok(&["store", "show"]);
    place.ok(&["store", "export", "--to", "out.tar"]);
    place.ok(&["store", "prune", "--runs", "1"]);
    let store = place.package.join(".runs");
    assert!(packs(&store) >= 1 && store.join("history.cache").exists());
    // The store is not among the files that git would show.
    let ignored = fs::read_to_string(store.join(".gitignore"));
    assert_eq!(ignored.expect("it is there"), "*\n");
    // The next run knows which tests failed, and is kept there too.
    place.ok(&["run", "--rerun"]);
    assert!(!place.package.join("target/harness/runs").exists());
}

#[test]
fn the_command_line_beats_the_workspace_and_that_beats_the_person() {
    let place = Place::new("");
    let person = place
        .scene
        .write("person.toml", "store.runs-dir = 'person'");
    let person = person.to_str().expect("it is UTF-8");
    let by_person = ["run", "--user-config-file", person];
    place.ok(&by_person);
    assert_eq!(packs(&place.package.join("person")), 1);
    place
        .scene
        .write("kept/.config/harness.toml", "store.runs-dir = 'workspace'");
    place.ok(&by_person);
    assert_eq!(packs(&place.package.join("workspace")), 1);
    let mut by_variable = place.scene.harness_in(&place.package, &by_person);
    by_variable.env("HARNESS_RUNS_DIR", "variable");
    place.scene.run(by_variable).assert_code(exit_code::OK);
    assert_eq!(packs(&place.package.join("variable")), 1);
    let mut unset = place.scene.harness_in(&place.package, &by_person);
    unset.env("HARNESS_RUNS_DIR", "");
    place.scene.run(unset).assert_code(exit_code::OK);
    assert_eq!(packs(&place.package.join("workspace")), 2);
    // It is relative to the root, wherever the command is.
    let command = place.scene.harness_in(
        &place.package.join("src"),
        &[&by_person[..], &["--runs-dir", "flag"]].concat(),
    );
    place.scene.run(command).assert_code(exit_code::OK);
    assert_eq!(packs(&place.package.join("flag")), 1);
    assert_eq!(place.listed(&["--runs-dir", "flag"]), 1);
    assert_eq!(place.listed(&[]), 2);
    assert_eq!(packs(&place.package.join("person")), 1);
}

#[test]
fn two_workspaces_of_one_name_in_one_store_do_not_mix() {
    let scene = Scene::new();
    let store = scene.path("store");
    let config = format!("store.runs-dir = {:?}", store.to_str());
    let config = config.replace("Some(", "").replace(')', "");
    let mut packages = Vec::new();
    for name in ["one/kept", "two/kept"] {
        let package = scene.path(name);
        scene.write(&format!("{name}/src/lib.rs"), SOURCE);
        scene.write(
            &format!("{name}/Cargo.toml"),
            "[package]\nname = \"kept\"\nedition = \"2024\"\n[workspace]\n",
        );
        scene.write(&format!("{name}/.config/harness.toml"), &config);
        let command = scene.harness_in(&package, &["run"]);
        scene.run(command).assert_code(exit_code::OK);
        packages.push(package);
    }
    let folders = fs::read_dir(&store).expect("it is there").flatten();
    let folders: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
    assert_eq!(folders.len(), 2, "{folders:?}");
    for folder in folders {
        let name = folder.file_name().and_then(|name| name.to_str());
        assert!(name.is_some_and(|name| name.starts_with("kept-")));
        assert_eq!(packs(&folder), 1);
    }
    for package in packages {
        let list = scene.harness_in(&package, &["store", "list", "-T", "json"]);
        let list = scene.run(list);
        assert_eq!(list.stdout.lines().count(), 1);
        let history = scene.harness_in(&package, &["history", "tests::a", "-T", "json"]);
        assert_eq!(scene.run(history).stdout.lines().count(), 1);
    }
}

#[test]
fn runs_move_to_a_store_that_is_chosen_later_and_back() {
    let place = Place::new("");
    place.ok(&["run"]);
    place.ok(&["run", "a"]);
    place
        .scene
        .write("kept/.config/harness.toml", "store.runs-dir = '../store'");
    let said = "2 runs are kept in `";
    let replay = place.harness(&["replay"]);
    replay.assert_code(exit_code::SETUP).assert_says(said);
    replay.assert_says("`cargo harness store move` brings them here");
    let moved = place.ok(&["store", "move"]);
    assert!(moved.stdout.starts_with("2 runs moved from `"));
    let store = only_folder(&place.scene.path("store"));
    assert_eq!((packs(&store), place.listed(&[])), (2, 2));
    assert!(store.join("history.cache").exists());
    place.ok(&["replay"]);
    place.ok(&["trace", "tests::b"]);
    place.scene.write("kept/.config/harness.toml", "");
    place
        .harness(&["store", "move"])
        .assert_code(exit_code::SETUP)
        .assert_says("are where they belong");
    let moved = place.ok(&["store", "move", "--from", "../store"]);
    assert!(moved.stdout.starts_with("2 runs moved from `"));
    assert_eq!(place.listed(&[]), 2);
    let none = place.ok(&["store", "move", "--from", "nowhere"]);
    assert!(none.stdout.starts_with("0 runs moved from `"));
}

#[test]
fn a_folder_that_cannot_be_a_store_is_said_before_the_build() {
    let place = Place::new("store.runs-dir = 'src'");
    let says = "`src` has `lib.rs`, which is not of a store";
    for args in [["run"].as_slice(), &["history", "a"], &["store", "prune"]] {
        let refused = place.harness(args);
        refused.assert_code(exit_code::SETUP).assert_sentence();
        assert!(
            refused
                .stderr
                .contains("it has `lib.rs`, which is not of a store"),
            "{says}: {}",
            refused.stderr
        );
        assert!(!refused.stderr.contains("Compiling"));
    }
    for (folder, says) in [
        ("Cargo.toml", "Cargo.toml` is not a folder"),
        (".", "it is the workspace itself"),
    ] {
        let refused = place.harness(&["run", "--runs-dir", folder]);
        refused.assert_code(exit_code::SETUP).assert_says(says);
    }
    let config = place
        .scene
        .write("kept/.config/harness.toml", "store.runs-dir = 1\nx = 1");
    place
        .harness(&["store", "list"])
        .assert_code(exit_code::SETUP)
        .assert_says("`store.runs-dir` must be a string, but is the integer 1");
    // Other mistakes are nothing to a reader.
    fs::write(
        config,
        "store.runs-dir = '.runs'\nprofile.default.retries = -1",
    )
    .unwrap();
    assert_eq!(place.listed(&[]), 0);
}

#[test]
fn another_user_reads_a_store_and_runs_without_one_where_it_is_read_only() {
    let place = Place::new("store.runs-dir = '../store'");
    let run = place
        .scene
        .harness_in(&place.package, &["run", "--trace", "off"]);
    let nobody = match Nobody::who_can(&place.scene, &run) {
        Ok(nobody) => nobody,
        Err(why) => return skip("another_user_reads_a_store", &why),
    };
    let store = only_folder(&place.scene.path("store"));
    let runs = store.join("runs");
    let before = packs(&store);
    fs::set_permissions(&runs, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&store, fs::Permissions::from_mode(0o755)).unwrap();
    let finished = place.scene.run(nobody.wrapped(&place.scene, &run));
    finished.assert_code(exit_code::OK);
    finished.assert_says("so this run is not kept whole");
    assert_eq!(packs(&store), before);
    for args in [
        ["replay"].as_slice(),
        &["history", "tests::a"],
        &["store", "list"],
    ] {
        let read = place.scene.harness_in(&place.package, args);
        let read = place.scene.run(nobody.wrapped(&place.scene, &read));
        read.assert_code(exit_code::OK);
    }
    // Root may write there, and a link to the store is the store.
    symlink(place.scene.path("store"), place.scene.path("link")).unwrap();
    assert_eq!(place.listed(&["--runs-dir", "../link"]), before);
}

#[test]
fn recorded_runs_answer_queries_as_text_and_json_and_another_user_can_ask_elsewhere() {
    let place = Place::new("store.runs-dir = '../store'");
    place
        .harness(&["store", "sql"])
        .assert_code(exit_code::SETUP)
        .assert_says("no run is kept in");
    let run = place.scene.harness_in(&place.package, &["run"]);
    // As root that makes a run of all tests, too.
    let nobody = Nobody::who_can(&place.scene, &run);
    place.ok(&["run"]);
    place.ok(&["run", "a"]);
    let query = "SELECT name, count(*) AS times FROM attempts JOIN tests ON tests.id = test \
                 WHERE verdict = 'pass' GROUP BY 1 HAVING name = 'tests::b' ORDER BY 1";
    let runs = place.listed(&[]) - 1;
    let text = place.ok(&["store", "sql", query]);
    assert_eq!(text.stdout, format!("name\ttimes\ntests::b\t{runs}\n"));
    let json = place.ok(&["store", "sql", "-T", "json", query]);
    assert_eq!(
        json.stdout,
        format!("{{\"name\":\"tests::b\",\"times\":{runs}}}\n")
    );
    let path = place.ok(&["store", "sql"]);
    let store = only_folder(&place.scene.path("store"));
    assert_eq!(
        Path::new(path.stdout.trim_end()),
        store.join("history.sqlite")
    );
    // Values cannot move the cursor or make further columns.
    let hostile = place.ok(&[
        "store",
        "sql",
        "SELECT 'a' || char(9) || char(27) || char(10) AS x",
    ]);
    assert_eq!(hostile.stdout, "x\na\\t\\u{1b}\\n\n");
    place
        .harness(&["store", "sql", "DROP TABLE runs"])
        .assert_code(exit_code::USAGE)
        .assert_says("attempt to write a readonly database");
    fs::write(store.join("history.sqlite"), "x".repeat(9999)).unwrap();
    place
        .harness(&["store", "sql"])
        .assert_code(exit_code::SETUP)
        .assert_says("delete it: it is made anew");
    fs::remove_file(store.join("history.sqlite")).unwrap();
    let nobody = match nobody {
        Ok(nobody) => nobody,
        Err(why) => return skip("another_user_can_ask_elsewhere", &why),
    };
    fs::set_permissions(&store, fs::Permissions::from_mode(0o755)).unwrap();
    let ask = |args: &[&str]| {
        let args = [&["store", "sql", query], args].concat();
        let ask = place.scene.harness_in(&place.package, &args);
        place.scene.run(nobody.wrapped(&place.scene, &ask))
    };
    let refused = ask(&[]);
    refused.assert_code(exit_code::WRITE_FAILED);
    refused.assert_says("`--to FILE` writes the database elsewhere");
    let elsewhere = ask(&["--to", "../mine.sqlite"]);
    assert_eq!(elsewhere.assert_code(exit_code::OK).stdout, text.stdout);
}
