use super::*;
use nix::{sys::stat::Mode, unistd::mkfifo};
use std::{os::unix::net::UnixListener, sync::Barrier, thread};

fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    (folder, path)
}

/// Things that can be in the place of a file, by what they are called.
fn obstacles(folder: &Utf8Path) -> Vec<(&'static str, Utf8PathBuf)> {
    let there = folder.join("there");
    fs::write(&there, "contents of something else").unwrap();
    let make = |name: &'static str, make: &dyn Fn(&Utf8Path)| {
        let path = folder.join(name.replace(' ', "-"));
        make(&path);
        (name, path)
    };
    let link = |to: &str| {
        let to = to.to_owned();
        move |path: &Utf8Path| std::os::unix::fs::symlink(&to, path).unwrap()
    };
    vec![
        make("a folder", &|path| fs::create_dir(path).unwrap()),
        make("a pipe", &|path| {
            mkfifo(path.as_std_path(), Mode::S_IRWXU).unwrap();
        }),
        make("a socket", &|path| drop(UnixListener::bind(path).unwrap())),
        make("a symbolic link to a file", &link(there.as_str())),
        make("a symbolic link to a device", &link("/dev/zero")),
        make("a symbolic link to nothing", &link("/nowhere")),
        make("a symbolic link to itself", &|path| {
            std::os::unix::fs::symlink(path, path).unwrap();
        }),
    ]
}

#[test]
fn only_regular_files_are_read_and_nothing_else_is_waited_for() {
    let (_folder, folder) = folder();
    for (name, path) in obstacles(&folder) {
        let message = read(&path, 100).unwrap_err().to_string();
        let what = name.split(" to ").next().unwrap();
        assert_eq!(
            message,
            format!("it is {what}, not a regular file"),
            "{path}"
        );
    }
    let device = read("/dev/zero", 100).unwrap_err().to_string();
    assert_eq!(device, "it is a device, not a regular file");
    assert_eq!(read(folder.join("there"), 26).unwrap().len(), 26);
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let (_folder, folder) = folder();
    let path = folder.join("large");
    let file = File::create(&path).unwrap();
    file.set_len(4 << 30).unwrap();
    let error = read(&path, 1 << 20).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
}

#[test]
fn everything_but_a_folder_is_replaced_and_no_link_is_followed() {
    let (_folder, folder) = folder();
    for (name, path) in obstacles(&folder) {
        let replaced = replace(&path, b"new");
        let created = create(&path);
        if name == "a folder" {
            replaced.unwrap_err();
            created.unwrap_err();
            continue;
        }
        replaced.unwrap();
        created.unwrap().write_all(b"newer").unwrap();
        assert_eq!(read(&path, 100).unwrap(), b"newer", "{name}");
    }
    create("/dev/full").unwrap().write_all(b"x").unwrap_err();
    read("/dev/full", 1).unwrap_err();
    let there = read(folder.join("there"), 100).unwrap();
    assert_eq!(there, b"contents of something else");
    let hidden = folder.read_dir_utf8().unwrap().flatten();
    let left = hidden.filter(|entry| entry.file_name().ends_with(NEW));
    assert_eq!(left.count(), 0, "something is left of replacing");
}

#[test]
fn a_folder_on_the_way_may_be_a_link() {
    let (_folder, folder) = folder();
    fs::create_dir(folder.join("real")).unwrap();
    std::os::unix::fs::symlink("real", folder.join("link")).unwrap();
    replace(&folder.join("link/file"), b"new").unwrap();
    assert_eq!(read(folder.join("link/file"), 9).unwrap(), b"new");
    assert!(folder.join("link").is_symlink());
}

#[test]
fn a_sweep_removes_what_has_no_owner_and_nothing_else() {
    let (_folder, folder) = folder();
    let path = folder.join("report");
    let kept = Beside::new(&path, ".part").unwrap();
    let dead = Beside::new(&path, ".part").unwrap();
    let (_, name) = dead.into_parts();
    let dead = name.keep().unwrap();
    sweep(&path, ".part");
    assert!(!dead.exists());
    assert!(is_at(&kept.file, &kept.name));
}

#[test]
fn files_are_made_and_swept_at_the_same_time_and_none_is_lost() {
    let (_folder, folder) = folder();
    let path = folder.join("report");
    let all = Barrier::new(8);
    thread::scope(|scope| {
        for number in 0..8 {
            let (path, all) = (&path, &all);
            scope.spawn(move || {
                all.wait();
                for _ in 0..200 {
                    sweep(path, NEW);
                    let mut made = Beside::new(path, NEW).unwrap();
                    write!(made.file, "{number}").unwrap();
                    made.replace(path).unwrap();
                }
            });
        }
    });
    assert_eq!(read(&path, 10).unwrap().len(), 1);
    assert_eq!(folder.read_dir_utf8().unwrap().count(), 1);
}
