use super::*;
use crate::store::Run;
use harness_metadata::RunId;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// A workspace `app` and room beside it.
struct Scene {
    _folder: TempDir,
    top: Utf8PathBuf,
    root: Utf8PathBuf,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let top = Utf8PathBuf::from_path_buf(folder.path().canonicalize().unwrap()).unwrap();
        let root = top.join("app");
        fs::create_dir(&root).unwrap();
        Self {
            _folder: folder,
            top,
            root,
        }
    }

    fn place(&self, chosen: &str) -> Result<Utf8PathBuf, PlaceError> {
        place(&self.root, &self.root.join("target"), Some(chosen.into()))
    }

    /// Returns the place as seen from the top.
    #[track_caller]
    fn placed(&self, chosen: &str) -> String {
        let place = self.place(chosen).unwrap();
        place.strip_prefix(&self.top).unwrap().to_string()
    }

    #[track_caller]
    fn refused(&self, chosen: &str) -> String {
        let error = self.place(chosen).expect_err("it is refused").to_string();
        error.replace(self.top.as_str(), "TOP")
    }
}

#[test]
fn a_store_within_the_workspace_has_no_further_folder_and_another_has_one_a_workspace() {
    let scene = Scene::new();
    let usual = place(&scene.root, Utf8Path::new("/target"), None).unwrap();
    assert_eq!(usual, "/target/harness");
    assert_eq!(scene.placed(".runs"), "app/.runs");
    assert_eq!(scene.placed("a/./b/../c"), "app/a/c");
    let beside = scene.placed("../runs");
    let hash = beside.strip_prefix("runs/app-").expect("it is the app's");
    assert_eq!(hash.len(), 16);
    assert_eq!(scene.placed(scene.top.join("runs").as_str()), beside);
    // It has the name of a folder of the workspace, but is none.
    assert!(scene.placed("../app-runs").starts_with("app-runs/app-"));
    let other = scene.top.join("other/app");
    fs::create_dir_all(&other).unwrap();
    let other = place(&other, Utf8Path::new("/target"), Some("../../runs".into())).unwrap();
    assert!(other.starts_with(scene.top.join("runs")));
    assert_ne!(other, scene.top.join(&beside));
}

#[test]
fn a_workspace_and_a_store_are_the_same_behind_a_link() {
    let scene = Scene::new();
    let direct = scene.place("../runs").unwrap();
    symlink(&scene.root, scene.top.join("link")).unwrap();
    let root = scene.top.join("link");
    let linked = place(&root, Utf8Path::new("/target"), Some("../runs".into()));
    assert_eq!(linked.unwrap(), direct);
    symlink(scene.top.join("elsewhere"), scene.root.join("out")).unwrap();
    fs::create_dir(scene.top.join("elsewhere")).unwrap();
    assert!(scene.placed("out").starts_with("elsewhere/app-"));
}

#[test]
fn a_folder_of_something_else_is_no_store() {
    let scene = Scene::new();
    for itself in [".", "src/.."] {
        assert_eq!(
            scene.refused(itself),
            "runs cannot be kept in `TOP/app`: it is the workspace itself; name a folder for them alone"
        );
    }
    assert_eq!(
        scene.refused("~/runs"),
        "runs cannot be kept in `~/runs`: `~` has no meaning here; write the whole path"
    );
    fs::create_dir_all(scene.root.join("src/runs/results")).unwrap();
    fs::write(scene.root.join("Cargo.toml"), "").unwrap();
    assert_eq!(
        scene.refused("src/runs"),
        "runs cannot be kept in `TOP/app/src/runs`: it has `results`, which is not of a store; name a \
         folder for them alone"
    );
    assert_eq!(
        scene.refused("src"),
        "runs cannot be kept in `TOP/app/src`: it has `runs/results`, which is not of a store; name a \
         folder for them alone"
    );
    assert_eq!(
        scene.refused("Cargo.toml/runs"),
        "runs cannot be kept in `TOP/app/Cargo.toml/runs`: `TOP/app/Cargo.toml` is not a folder"
    );
    symlink("nowhere", scene.root.join("dangling")).unwrap();
    assert_eq!(
        scene.refused("dangling"),
        "runs cannot be kept in `TOP/app/dangling`: `TOP/app/dangling` is not a folder"
    );
}

#[test]
fn a_store_is_one_after_its_first_run_whatever_its_user_adds() {
    let scene = Scene::new();
    let store = scene.place(".runs").unwrap();
    make(&store, &scene.root).unwrap();
    drop(Run::create(&store, RunId::random(), None).unwrap());
    fs::write(store.join("notes"), "").unwrap();
    fs::write(folder(&store).join("notes"), "").unwrap();
    assert_eq!(scene.place(".runs").unwrap(), store);
}

#[test]
fn git_ignores_a_new_store_within_the_workspace() {
    let scene = Scene::new();
    let within = scene.place("a/runs").unwrap();
    make(&within, &scene.root).unwrap();
    assert_eq!(fs::read_to_string(within.join(IGNORE)).unwrap(), "*\n");
    fs::create_dir(scene.root.join("own")).unwrap();
    for known in ["own", "../beside"] {
        let store = scene.place(known).unwrap();
        make(&store, &scene.root).unwrap();
        assert!(store.is_dir() && !store.join(IGNORE).exists(), "{known}");
    }
}
