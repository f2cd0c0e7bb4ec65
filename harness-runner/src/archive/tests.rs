use super::*;
use crate::archive::contents::Source;
use camino::Utf8PathBuf;
use expect_test::{Expect, expect};
use std::{
    error::Error,
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

fn folder() -> (TempDir, Utf8PathBuf) {
    let made = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::try_from(made.path().canonicalize().unwrap()).unwrap();
    (made, path)
}

/// An entry that no well-meaning program writes: the name is taken as it is.
fn entry(name: &[u8], kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    if kind.is_symlink() || kind.is_hard_link() {
        header.set_link_name("/etc/passwd").unwrap();
    }
    header.set_cksum();
    header
}

fn compressed(entries: &[(Header, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (header, data) in entries {
        builder.append(header, *data).unwrap();
    }
    zstd::encode_all(builder.into_inner().unwrap().as_slice(), 0).unwrap()
}

/// Extracts an archive into an empty folder, and checks the sentence that says why that fails.
#[track_caller]
fn refused(archive: &[u8], expected: Expect) {
    let (_made, at) = folder();
    let (_made, to) = folder();
    let file = at.join("a.tar.zst");
    fs::write(&file, archive).unwrap();
    let error = extract(&file, &to, false).expect_err("the archive is bad");
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\ncaused by: {error}"));
        cause = error.source();
    }
    let text = text.replace(at.as_str(), "AT").replace(to.as_str(), "TO");
    expected.assert_eq(&text);
}

fn extract(file: &Utf8Path, to: &Utf8Path, overwrite: bool) -> Result<Extracted, ExtractError> {
    let extraction = Extraction {
        file: file.to_owned(),
        format: Format::Auto,
        to: To::Folder {
            path: to.to_owned(),
            overwrite,
        },
    };
    extraction.run()
}

#[test]
fn an_entry_that_leads_elsewhere_is_refused_with_its_name() {
    let one = |name: &[u8], kind| compressed(&[(entry(name, kind, 0), &[])]);
    refused(
        &one(b"target/../../outside", EntryType::Regular),
        expect![[
            r#"the archive `AT/a.tar.zst` has an entry `target/../../outside`, which leads out of the folder that it is extracted to"#
        ]],
    );
    refused(
        &one(b"/etc/passwd", EntryType::Regular),
        expect![[
            r#"the archive `AT/a.tar.zst` has an entry `/etc/passwd`, which is an absolute path"#
        ]],
    );
    refused(
        &one(b"src/lib.rs", EntryType::Regular),
        expect![[
            r#"the archive `AT/a.tar.zst` has an entry `src/lib.rs`, which is not below `target`"#
        ]],
    );
    refused(
        &one(b"target/link", EntryType::Symlink),
        expect![[r#"the archive `AT/a.tar.zst` has an entry `target/link`, which is a link"#]],
    );
    refused(
        &one(b"target/link", EntryType::Link),
        expect![[r#"the archive `AT/a.tar.zst` has an entry `target/link`, which is a link"#]],
    );
    refused(
        &one(b"target/pipe", EntryType::Fifo),
        expect![[
            r#"the archive `AT/a.tar.zst` has an entry `target/pipe`, which is neither a file nor a folder"#
        ]],
    );
    refused(
        &one(b"target/\xff", EntryType::Regular),
        expect![[r#"the archive `AT/a.tar.zst` has an entry `target/�`, which is not UTF-8"#]],
    );
}

#[test]
fn an_archive_that_is_damaged_or_something_else_is_named() {
    let good = compressed(&[(entry(b"target/a", EntryType::Regular, 3), b"abc")]);
    refused(
        &[],
        expect![[r#"
        failed to read the archive `AT/a.tar.zst`; it is incomplete, damaged, or no archive
        caused by: incomplete frame"#]],
    );
    refused(
        b"no archive",
        expect![[r#"
        failed to read the archive `AT/a.tar.zst`; it is incomplete, damaged, or no archive
        caused by: Unknown frame descriptor"#]],
    );
    refused(
        &good[..good.len() - 6],
        expect![[r#"
        failed to read the archive `AT/a.tar.zst`; it is incomplete, damaged, or no archive
        caused by: incomplete frame"#]],
    );
    let mut damaged = entry(b"target/a", EntryType::Regular, 3);
    damaged.set_mode(0o600);
    refused(
        &compressed(&[(damaged, b"abc")]),
        expect![[r#"
        failed to read the archive `AT/a.tar.zst`; it is incomplete, damaged, or no archive
        caused by: archive header checksum mismatch"#]],
    );
    refused(
        &good,
        expect![
            "the archive `AT/a.tar.zst` has no `target/nextest/cargo-metadata.json`, so it is not one of test binaries"
        ],
    );
}

#[test]
fn an_archive_with_a_wrong_checksum_of_its_data_is_refused() {
    let mut data = Vec::new();
    let mut encoder = zstd::Encoder::new(&mut data, 0).unwrap();
    encoder.include_checksum(true).unwrap();
    let mut builder = Builder::new(encoder);
    let header = entry(b"target/a", EntryType::Regular, 3);
    builder.append(&header, &b"abc"[..]).unwrap();
    builder.into_inner().unwrap().finish().unwrap();
    *data.last_mut().unwrap() ^= 1;
    refused(
        &data,
        expect![[r#"
        failed to read the archive `AT/a.tar.zst`; it is incomplete, damaged, or no archive
        caused by: Restored data doesn't match checksum"#]],
    );
}

#[test]
fn an_entry_larger_than_the_disk_is_refused_before_it_is_written() {
    let (_made, to) = folder();
    let (_made, at) = folder();
    let header = entry(b"target/huge", EntryType::Regular, 1 << 60);
    let file = at.join("a.tar.zst");
    let mut data = header.as_bytes().to_vec();
    data.extend([0; 1024]);
    fs::write(&file, zstd::encode_all(data.as_slice(), 0).unwrap()).unwrap();
    let error = extract(&file, &to, false).expect_err("there is no such disk");
    assert!(
        error
            .to_string()
            .starts_with("`target/huge` in the archive has 1152921504606846976 bytes"),
        "{error}"
    );
    assert!(!to.join("target/huge").exists());
}

#[test]
fn nothing_is_written_through_a_link_that_is_there_already() {
    let (_made, to) = folder();
    let (_made, at) = folder();
    fs::create_dir(to.join("target")).unwrap();
    symlink(&at, to.join("target/out")).unwrap();
    let file = at.join("a.tar.zst");
    let header = entry(b"target/out/a", EntryType::Regular, 3);
    fs::write(&file, compressed(&[(header, b"abc")])).unwrap();
    let error = extract(&file, &to, true).expect_err("a link leads out");
    assert!(matches!(error, ExtractError::Write { .. }), "{error}");
    assert!(!at.join("a").exists());
    // Without permission to overwrite, a folder with a build is left alone.
    let error = extract(&file, &to, false).expect_err("it is there");
    assert!(matches!(error, ExtractError::Exists { .. }), "{error}");
}

/// Contents with a program, a file and the descriptions.
fn contents(at: &Utf8Path) -> Contents {
    let (program, file) = (at.join("program"), at.join("file"));
    fs::write(&program, "program").unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o700)).unwrap();
    fs::write(&file, vec![7; 3_000_000]).unwrap();
    let mut contents = Contents::default();
    for (path, source) in [
        ("target/debug/program", Source::File(program)),
        ("target/debug/file", Source::File(file)),
        (METADATA, Source::Made(b"{}".to_vec())),
    ] {
        contents.files.insert(path.into(), source);
    }
    contents
}

#[test]
fn the_same_files_make_the_same_archive_whenever_and_with_any_number_of_threads() {
    let (_made, at) = folder();
    let written = |name: &str, threads| {
        let contents = contents(&at);
        let file = at.join(name);
        let creation = Creation {
            file: file.clone(),
            level: 0,
            threads,
        };
        let created = creation.run(&contents).unwrap();
        assert_eq!((created.files, created.bytes), (3, 3_000_009));
        fs::read(file).unwrap()
    };
    let first = written("one.tar.zst", 1);
    // Made anew, so of another moment and with another inode.
    fs::remove_file(at.join("file")).unwrap();
    assert_eq!(written("two.tar.zst", 4), first);
}

#[test]
fn a_file_that_is_missing_leaves_the_old_archive_where_it_was() {
    let (_made, at) = folder();
    let contents = contents(&at);
    fs::remove_file(at.join("program")).unwrap();
    let file = at.join("a.tar.zst");
    File::create(&file).unwrap().write_all(b"old").unwrap();
    let creation = Creation {
        file: file.clone(),
        level: 0,
        threads: 1,
    };
    let error = creation.run(&contents).expect_err("a file is missing");
    assert!(matches!(error, CreateError::Read { .. }), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"old");
    let names = at.read_dir_utf8().unwrap();
    let names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().to_owned())
        .collect();
    assert!(
        names.iter().all(|name| !name.ends_with(".new")),
        "{names:?}"
    );
}

#[test]
fn the_form_of_an_archive_is_in_its_name_or_is_said() {
    let check = |format: Format, name: &str| format.check(name.into()).is_ok();
    assert!(check(Format::Auto, "a.tar.zst"));
    assert!(!check(Format::Auto, "a.zip"));
    assert!(check(Format::TarZst, "a"));
}
