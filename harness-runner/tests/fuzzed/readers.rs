//! Reads input of any kind as the runner would. Nothing may panic, and what is promised of each result
//! is checked.

use camino::Utf8Path;
use harness_runner::{
    archive::{Extraction, Format, To},
    config::{CliOverrides, Config, DEFAULT_PATH, PEER_PATH, UserSettings, migrate},
    filter::{Partition, check_filtersets},
};
use std::fs;

/// The first bytes of what zstd has compressed.
const COMPRESSED: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Reads a configuration as ours and as that of cargo-nextest, and carries the latter over.
pub(crate) fn configuration(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    for file in [DEFAULT_PATH, PEER_PATH] {
        match Config::parse(Utf8Path::new(file), text.to_owned()) {
            Ok((config, warnings)) => {
                for warning in warnings {
                    let _ = (warning.place(), warning.to_string());
                }
                let names: Vec<&str> = config.profile_names().collect();
                for name in names {
                    let profile = config.profile(name).expect("it has one of its names");
                    assert!(profile.chain().count() > 0);
                    profile.explain_run(&CliOverrides::default());
                }
            }
            Err(error) => {
                for mistake in error.into_each() {
                    assert!(!mistake.to_string().is_empty());
                    if let Some(filterset) = mistake.filterset() {
                        filterset.render(true);
                    }
                }
            }
        }
    }
    if let Ok(migrated) = migrate(text) {
        assert!(migrated.same, "the new file says something else");
    }
}

/// Reads the settings of a person.
pub(crate) fn person(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    match UserSettings::parse(Utf8Path::new("config.toml"), text.to_owned()) {
        Ok((_, warnings)) => warnings.iter().for_each(|warning| {
            let _ = (warning.place(), warning.to_string());
        }),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Reads a filterset, and a part of a run.
pub(crate) fn filterset(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    if let Err(error) = check_filtersets(&[text.to_owned()]) {
        for error in &error.0 {
            assert!(!error.render(false).is_empty());
            error.render(true);
        }
    }
    if let Ok(partition) = text.parse::<Partition>() {
        let _ = format!("{partition:?}");
    }
}

/// Extracts an archive: these bytes if they are compressed, or else the tar file that they are.
pub(crate) fn archive(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let folder: &Utf8Path = folder.path().try_into().expect("the name is UTF-8");
    let file = folder.join("a.tar.zst");
    let written = match data.starts_with(&COMPRESSED) {
        true => fs::write(&file, data),
        false => zstd::encode_all(data, 1).and_then(|data| fs::write(&file, data)),
    };
    written.expect("the folder is writable");
    let inside = folder.join("to");
    fs::create_dir(&inside).expect("the folder is writable");
    let extraction = Extraction {
        file,
        format: Format::Auto,
        to: To::Folder {
            path: inside,
            overwrite: false,
        },
    };
    match extraction.run() {
        Ok(extracted) => assert!(extracted.folder.ends_with("to")),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    // Nothing may be written outside.
    let mut names: Vec<_> = fs::read_dir(folder)
        .expect("the folder is readable")
        .map(|entry| entry.expect("it is readable").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["a.tar.zst", "to"]);
}
