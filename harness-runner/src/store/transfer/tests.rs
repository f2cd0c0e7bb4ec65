use super::*;
use crate::store::{Retention, RunsOf, WhichRun, ended_run, packing::tests::Scene, prune, runs};
use std::{error::Error, fs};

/// An export of one run, and an empty store.
struct Trip {
    from: Scene,
    _folder: tempfile::TempDir,
    to: Utf8PathBuf,
    file: Utf8PathBuf,
}

impl Trip {
    fn new() -> Self {
        let from = Scene::new();
        from.packed();
        let folder = tempfile::tempdir().unwrap();
        let to = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        let file = to.join("file");
        export(&runs(&from.target).unwrap(), &file).unwrap();
        Self {
            from,
            _folder: folder,
            to,
            file,
        }
    }

    /// Imports these bytes. Returns the sentences of the refusal; nothing is left of it.
    #[track_caller]
    fn refused(&self, bytes: &[u8]) -> String {
        fs::write(&self.file, bytes).unwrap();
        let error = import(&self.to, &self.file).expect_err("it is refused");
        assert_eq!(runs(&self.to).unwrap(), []);
        let left = folder(&self.to).read_dir_utf8();
        assert_eq!(left.map_or(0, Iterator::count), 0, "nothing is left of it");
        let source = error.source().map(ToString::to_string);
        let said = format!("{error}: {}", source.unwrap_or_default());
        let id = self.from.run.file_name().unwrap();
        said.replace(self.file.as_str(), "FILE").replace(id, "ID")
    }
}

/// An archive of these entries.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn an_imported_run_has_everything_and_is_meant_by_its_id_alone() {
    let trip = Trip::new();
    let imported = import(&trip.to, &trip.file).unwrap();
    assert_eq!(imported.len(), 1);
    assert!(!imported[0].known && imported[0].run.imported);
    let id = imported[0].run.header.run_id;
    let kept = runs(&trip.to).unwrap();
    assert_eq!(kept, [imported[0].run.clone()]);
    let original = crate::store::recording_bytes(&trip.from.run).unwrap();
    assert!(crate::store::recording_bytes(&kept[0].path).unwrap() == original);
    let root = Utf8Path::new("/work");
    assert!(ended_run(&trip.to, root, &WhichRun::Latest, RunsOf::Tests).is_err());
    let by_id = WhichRun::Id(id.to_string());
    assert_eq!(
        ended_run(&trip.to, root, &by_id, RunsOf::Tests).unwrap(),
        kept[0]
    );
    // No run deletes it.
    let nothing = Retention {
        runs: 0,
        bytes: 0,
        ..Retention::default()
    };
    prune(&trip.to, nothing).unwrap();
    assert_eq!(runs(&trip.to).unwrap(), kept);
    let again = import(&trip.to, &trip.file).unwrap();
    assert!(again[0].known);
    assert_eq!(runs(&trip.to).unwrap(), kept);
}

#[test]
fn the_file_of_a_run_is_imported_as_it_is_and_where_it_came_from_it_stays_what_it_was() {
    let trip = Trip::new();
    fs::copy(trip.from.packed(), &trip.file).unwrap();
    assert!(import(&trip.to, &trip.file).unwrap()[0].run.imported);
    trip.from.assert_whole();
    let known = import(&trip.from.target, &trip.file).unwrap();
    assert!(known[0].known && !known[0].run.imported);
    trip.from.assert_whole();
}

#[test]
fn a_run_that_is_not_packed_is_exported_and_stays_as_it_is() {
    let from = Scene::new();
    let file = from.target.join("file");
    export(&runs(&from.target).unwrap(), &file).unwrap();
    assert!(from.run.is_dir());
    let to = from.target.join("elsewhere");
    assert_eq!(import(&to, &file).unwrap().len(), 1);
}

#[test]
fn what_is_no_export_or_not_whole_is_refused_with_a_sentence() {
    let trip = Trip::new();
    let whole = fs::read(&trip.file).unwrap();
    let pack = fs::read(trip.from.packed()).unwrap();
    let id = trip.from.run.file_name().unwrap().to_owned();
    let name = format!("{id}.run");
    let list = format!("{{\"version\":1,\"runs\":[\"{id}\"]}}");
    let list: (&str, &[u8]) = (LIST, list.as_bytes());
    let says = |bytes: &[u8], sentence: &str| assert_eq!(trip.refused(bytes), sentence);
    let none = "`FILE` is no export of runs: it does not begin with `export.json`: ";
    says(b"", none);
    says(b"something else", none);
    says(&archive(&[(&name, &pack)]), none);
    says(
        &archive(&[list]),
        "`FILE` is no export of runs: it lacks 1 of its 1 runs: ",
    );
    says(
        &archive(&[list, ("x.run", b"")]),
        "`FILE` is no export of runs: it has `x.run`: ",
    );
    says(
        &archive(&[(LIST, b"{\"version\":7,\"runs\":[]}")]),
        "`FILE` is no export of runs: it has version 7, and this program reads version 1: ",
    );
    let mut newer = pack.clone();
    newer[8] = 3;
    says(
        &archive(&[list, (&name, &newer)]),
        "`ID.run` in `FILE` is not imported: `ID.run` is a recording of version 3, and this program \
         reads version 1; the program that wrote it reads it",
    );
    let cut = trip.refused(&whole[..whole.len() / 2]);
    assert!(cut.contains("`ID.run` is cut off after "), "{cut}");
    let mut flipped = pack.clone();
    flipped[pack.len() / 2] ^= 4;
    let flipped = trip.refused(&archive(&[list, (&name, &flipped)]));
    assert!(flipped.contains("is damaged at byte "), "{flipped}");
}

#[test]
fn a_pack_whose_parts_do_not_agree_is_forged() {
    let trip = Trip::new();
    let packed = trip.from.packed();
    let facts = Pack::facts_of(&packed).unwrap();
    let forged = |facts: &Facts| {
        let copy = trip.to.join("copy");
        fs::copy(&packed, &copy).unwrap();
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(&copy)
            .unwrap();
        let pack = Pack::of(file, &copy).unwrap();
        pack.replace_facts(facts).unwrap();
        trip.refused(&fs::read(&copy).unwrap())
    };
    let mut other = facts.clone();
    other.header.run_id = RunId::random();
    let said = forged(&other);
    assert!(
        said.ends_with("it is forged or damaged: its facts are those of another run"),
        "{said}"
    );
    let mut newer = facts.clone();
    newer.schema_version = 4;
    let said = forged(&newer);
    let sentence = "it has events of version 4, and this program reads versions 1 to 2";
    assert!(said.contains(sentence), "{said}");
}
