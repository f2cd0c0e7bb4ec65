//! Selection by change: `--changed` in repositories of all kinds.

use crate::{
    environment::installed,
    scene::{Finished, Scene, skip},
};
use harness_metadata::exit_code;
use std::{fs, path::PathBuf, process::Command};

/// A workspace in a repository: `b` depends on `a`, tests of `c` on `b`, `d` on nothing.
struct Repository {
    scene: Scene,
    root: PathBuf,
}

impl Repository {
    /// Returns `None`, having said so, where there is no git.
    fn new(test: &str) -> Option<Self> {
        if !installed("git", &["--version"]) {
            skip(test, "git is not installed");
            return None;
        }
        let scene = Scene::new();
        scene.write(
            "it/Cargo.toml",
            "[workspace]\nresolver = \"3\"\nmembers = [\"a\", \"b\", \"c\", \"d\"]\n",
        );
        for (name, dependencies) in [
            ("a", ""),
            ("b", "[dependencies]\na.path = \"../a\"\n"),
            ("c", "[dev-dependencies]\nb.path = \"../b\"\n"),
            ("d", ""),
        ] {
            let manifest = format!(
                "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n{dependencies}"
            );
            scene.write(&format!("it/{name}/Cargo.toml"), &manifest);
            scene.write(&format!("it/{name}/src/lib.rs"), "#[test] fn it() {}\n");
        }
        scene.write("it/.gitignore", "target\n");
        let root = scene.path("it");
        let repository = Self { scene, root };
        repository.harness(&["list"]).assert_code(exit_code::OK);
        repository.git(&["init", "-q", "-b", "main"]);
        repository.commit("first");
        Some(repository)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.scene.command(program);
        command
            .current_dir(&self.root)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "x");
            command.env(format!("GIT_{role}_EMAIL"), "x@example.com");
        }
        command
    }

    fn git(&self, args: &[&str]) {
        let mut command = self.command("git");
        command.args(args);
        self.scene.run(command).assert_code(0);
    }

    fn commit(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
    }

    fn write(&self, file: &str, text: &str) {
        self.scene.write(&format!("it/{file}"), text);
    }

    fn harness(&self, args: &[&str]) -> Finished {
        let mut command = self.scene.harness_in(&self.root, args);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.env("GIT_CONFIG_SYSTEM", "/dev/null");
        self.scene.run(command)
    }

    /// Returns the packages whose tests are selected.
    #[track_caller]
    fn selected(&self, changed: &str) -> String {
        let list = self.harness(&["list", changed]);
        list.assert_code(exit_code::OK);
        let names = list
            .stdout
            .lines()
            .filter_map(|line| line.split(' ').next());
        names.collect()
    }
}

#[test]
fn what_is_changed_selects_its_package_and_what_depends_on_it() {
    const NAME: &str = "what_is_changed_selects_its_package_and_what_depends_on_it";
    let Some(it) = Repository::new(NAME) else {
        return;
    };
    let run = it.harness(&["run", "--changed"]);
    run.assert_code(exit_code::OK)
        .assert_says("where this left `main`; no package is selected");

    // Not committed, then staged, then committed on a branch.
    it.write("b/src/lib.rs", "#[test] fn it() {}\n// changed\n");
    assert_eq!(it.selected("--changed"), "bc");
    it.git(&["add", "-A"]);
    assert_eq!(it.selected("--changed"), "bc");
    it.git(&["switch", "-q", "-c", "topic"]);
    it.commit("second");
    assert_eq!(it.selected("--changed"), "bc");
    assert_eq!(it.selected("--changed=HEAD"), "");
    assert_eq!(it.selected("--changed=topic~1"), "bc");

    // A file that is new, a file that is ignored, and what others did on the main branch.
    it.write("d/data/input", "");
    it.write("a/target/output", "");
    assert_eq!(it.selected("--changed"), "bcd");
    it.commit("third");
    it.git(&["switch", "-q", "main"]);
    it.write("a/src/lib.rs", "#[test] fn it() {}\n// by others\n");
    it.commit("by others");
    it.git(&["switch", "-q", "topic"]);
    assert_eq!(it.selected("--changed"), "bcd");

    let said = it.harness(&["run", "--changed", "-v"]);
    said.assert_code(exit_code::OK)
        .assert_says("2 files have changed since ")
        .assert_says("in 2 packages; with what depends on them 3 of 4 packages are selected")
        .assert_says("package `a` is left out")
        .assert_says("package `b` is selected: `b/src/lib.rs` has changed")
        .assert_says("package `c` is selected: it depends on `b`")
        .assert_says("3 tests run: 3 passed");

    // A rename is two changes; a test of a name is still needed.
    it.git(&["mv", "d/data/input", "a/input"]);
    assert_eq!(it.selected("--changed=HEAD"), "abcd");
    let narrowed = it.harness(&["list", "--changed=HEAD", "-E", "package(a) | package(=c)"]);
    assert_eq!(narrowed.stdout, "a it\nc it\n");
}

#[test]
fn rules_of_the_build_select_all_and_the_lock_file_what_it_changes() {
    const NAME: &str = "rules_of_the_build_select_all_and_the_lock_file_what_it_changes";
    let Some(it) = Repository::new(NAME) else {
        return;
    };
    it.write("rust-toolchain", "");
    fs::remove_file(it.root.join("rust-toolchain")).expect("it was written");
    it.write(".config/harness.toml", "profile.default.retries = 0\n");
    assert_eq!(it.selected("--changed"), "abcd");
    it.harness(&["list", "--changed"])
        .assert_says("`.config/harness.toml` has changed since");
    it.commit("settings");

    // A new version of a member is in the lock file.
    let manifest = fs::read_to_string(it.root.join("b/Cargo.toml")).expect("it is there");
    it.write("b/Cargo.toml", &manifest.replace("0.0.0", "0.0.1"));
    assert_eq!(it.selected("--changed"), "bc");
    let lock = fs::read_to_string(it.root.join("Cargo.lock")).expect("it is there");
    assert!(lock.contains("0.0.1"), "{lock}");
    it.commit("version");
    it.write("LICENSE", "");
    it.harness(&["run", "--changed"])
        .assert_code(exit_code::OK)
        .assert_says("which no test can depend on; no package is selected");
    it.harness(&["run", "--changed", "--no-tests", "fail"])
        .assert_code(exit_code::NO_TESTS);
}

#[test]
fn what_git_cannot_say_is_a_sentence() {
    let Some(it) = Repository::new("what_git_cannot_say_is_a_sentence") else {
        return;
    };
    let fails = |args: &[&str], says: &str| {
        let run = it.harness(args);
        run.assert_code(exit_code::SETUP).assert_says(says);
        run.assert_sentence();
    };
    fails(
        &["list", "--changed=nope"],
        "`nope` is no revision of the repository",
    );
    fails(
        &["list", "--changed=--all"],
        "`--all` is no revision of the repository",
    );
    // A clone of the last commit only, whose branch has another name.
    it.write("d/new", "");
    it.commit("second");
    let shallow = it.scene.path("shallow");
    let mut clone = it.command("git");
    let from = format!("file://{}", it.root.display());
    clone
        .args(["clone", "-q", "--depth", "1", &from])
        .arg(&shallow);
    it.scene.run(clone).assert_code(0);
    let mut list = it.scene.harness_in(&shallow, &["list", "--changed=HEAD~1"]);
    list.env("GIT_CONFIG_GLOBAL", "/dev/null");
    let list = it.scene.run(list);
    list.assert_code(exit_code::SETUP)
        .assert_says("this is a shallow clone")
        .assert_says("git fetch --unshallow");
    it.git(&["branch", "-q", "-m", "trunk"]);
    fails(
        &["list", "--changed"],
        "no branch `main` or `master` is known",
    );
    it.git(&["switch", "-q", "--orphan", "other"]);
    it.git(&["reset", "-q"]);
    it.git(&["checkout", "-q", "trunk", "--", "."]);
    fails(&["list", "--changed=trunk"], "has no commit yet");
    it.commit("of its own");
    fails(&["list", "--changed=trunk"], "have no commit in common");
    fs::remove_dir_all(it.root.join(".git")).expect("it is there");
    fails(&["list", "--changed"], "is in no working tree of git");
    let mut without = it.scene.harness_in(&it.root, &["list", "--changed"]);
    let path = std::env::var_os("PATH").expect("there is one");
    let folders = std::env::split_paths(&path).filter(|folder| !folder.join("git").exists());
    without.env(
        "PATH",
        std::env::join_paths(folders).expect("they were joined before"),
    );
    let cargo = env!("CARGO");
    without.env("CARGO", cargo);
    let without = it.scene.run(without);
    without
        .assert_code(exit_code::SETUP)
        .assert_says("`git` was not found, and is needed to know what has changed");
}
