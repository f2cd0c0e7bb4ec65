use super::*;
use crate::store::{Run, packing::tests::Scene};
use fixture_kit::sample;
use harness_metadata::{Event, EventKind, RunId, event::RunStarted};
use std::time::Duration;

/// A store with a run, and the place of another one.
struct Two {
    from: Scene,
    _folder: tempfile::TempDir,
    to: Utf8PathBuf,
    workspace: Utf8PathBuf,
}

impl Two {
    fn new() -> Self {
        let from = Scene::new();
        let folder = tempfile::tempdir().unwrap();
        let to = Utf8PathBuf::from_path_buf(folder.path().join("a/store")).unwrap();
        let workspace = runs(&from.target).unwrap()[0].header.workspace_root.clone();
        Self {
            from,
            _folder: folder,
            to,
            workspace,
        }
    }

    fn moved(&self) -> Moved {
        move_runs(&self.from.target, &self.to, &self.workspace).unwrap()
    }

    /// Begins a run of the workspace with this root.
    fn begin(&self, workspace: &Utf8Path) -> Run {
        let id = RunId::random();
        let mut run = Run::create(&self.from.target, id, None).unwrap();
        let kind = EventKind::RunStarted(Box::new(RunStarted {
            run_id: id,
            workspace_root: workspace.to_string(),
            ..sample::started()
        }));
        let at = Duration::ZERO;
        run.record(&Event { at, kind }, crate::store::Belongings::default())
            .unwrap();
        run
    }
}

#[test]
fn runs_and_what_is_remembered_of_them_move_to_another_store() {
    let two = Two::new();
    fs::write(two.from.target.join(HISTORY), "results").unwrap();
    assert_eq!(count(&two.from.target, &two.workspace), 1);
    let moved = two.moved();
    assert_eq!((moved.runs, moved.in_use, moved.others), (1, 0, 0));
    assert!(moved.bytes > 0);
    assert_eq!(runs(&two.from.target).unwrap(), []);
    assert_eq!(count(&two.to, &two.workspace), 1);
    assert_eq!(fs::read(two.to.join(HISTORY)).unwrap(), b"results");
    assert_eq!(two.moved(), Moved::default());
    // And back.
    move_runs(&two.to, &two.from.target, &two.workspace).unwrap();
    two.from.assert_whole();
}

#[test]
fn a_run_in_progress_and_those_of_other_workspaces_stay() {
    let two = Two::new();
    let other = tempfile::tempdir().unwrap();
    let other = Utf8Path::from_path(other.path()).unwrap();
    fs::write(other.join("Cargo.toml"), "").unwrap();
    fs::write(two.from.target.join(HISTORY), "of both").unwrap();
    let own = two.begin(&two.workspace);
    let others = two.begin(other);
    let moved = two.moved();
    assert_eq!((moved.runs, moved.in_use, moved.others), (1, 1, 1));
    assert_eq!(runs(&two.from.target).unwrap().len(), 2);
    assert!(!two.to.join(HISTORY).exists());
    drop((own, others));
}

#[test]
fn a_run_that_is_there_already_goes() {
    let two = Two::new();
    let pack = two.from.packed();
    let there = folder(&two.to);
    fs::create_dir_all(&there).unwrap();
    let known = there.join(pack.file_name().unwrap());
    fs::copy(&pack, &known).unwrap();
    assert_eq!(two.moved().runs, 1);
    assert!(known.exists() && !pack.exists());
}

#[test]
fn a_store_is_not_moved_to_itself() {
    let two = Two::new();
    let link = two.from.target.join("link");
    std::os::unix::fs::symlink(&two.from.target, &link).unwrap();
    for itself in [&two.from.target, &link] {
        let error = move_runs(&two.from.target, itself, &two.workspace).unwrap_err();
        let said = error.to_string().replace(two.from.target.as_str(), "STORE");
        assert_eq!(said, "the runs in `STORE/runs` are where they belong");
    }
    two.from.packed();
    two.from.assert_whole();
}

#[test]
fn what_cannot_be_renamed_is_copied() {
    let two = Two::new();
    let pack = two.from.packed();
    let bytes = fs::read(&pack).unwrap();
    fs::create_dir_all(&two.to).unwrap();
    let to = two.to.join("x.run");
    copy(&pack, &to).unwrap();
    assert_eq!(fs::read(&to).unwrap(), bytes);
    assert!(!pack.exists());
    assert_eq!(two.to.read_dir_utf8().unwrap().count(), 1);
}

#[test]
fn a_run_that_cannot_be_moved_is_named() {
    let two = Two::new();
    let pack = two.from.packed();
    fs::create_dir_all(two.to.parent().unwrap()).unwrap();
    fs::write(&two.to, "").unwrap();
    let error = two_error(&two);
    assert!(error.starts_with("failed to move `"), "{error}");
    assert!(pack.exists());
}

fn two_error(two: &Two) -> String {
    let moved = move_runs(&two.from.target, &two.to, &two.workspace);
    moved.expect_err("the store is a file").to_string()
}
