//! Sources of public packages, as cargo fetches them from wherever it is configured to.

use crate::environment::command;
use nix::fcntl::{Flock, FlockArg};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
};

/// Puts the sources of a package into a folder of their own, as a workspace of their own, once.
/// Returns `None` if they cannot be had.
pub(crate) fn unpack(name: &str, version: &str) -> Option<PathBuf> {
    let packages = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
    let folder = packages.join(format!("{name}-{version}"));
    let sources = packages.join(format!("{name}-{version}-sources"));
    fs::create_dir_all(sources.join("src")).expect("the folder can be made");
    let lock = File::create(sources.join("lock")).expect("the lock can be made");
    let _lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .expect("the lock can be waited for");
    if folder.join("Cargo.toml").is_file() {
        return Some(folder);
    }

    let vendored = sources.join(format!("vendor/{name}-{version}"));
    if !vendored.is_dir() && !vendor(&sources, name, version) {
        return None;
    }
    copy(&vendored, &folder);
    // Last, because it says that the rest is complete.
    let mut manifest = fs::read_to_string(vendored.join("Cargo.toml")).expect("it has one");
    manifest.push_str("\n[workspace]\n");
    fs::write(folder.join("Cargo.toml"), manifest).expect("it can be written");
    Some(folder)
}

fn vendor(sources: &Path, name: &str, version: &str) -> bool {
    let manifest = format!(
        "[package]\nname = \"sources\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\n{name} = \"={version}\"\n"
    );
    fs::write(sources.join("Cargo.toml"), manifest).expect("it can be written");
    fs::write(sources.join("src/lib.rs"), "").expect("it can be written");
    let mut cargo = command("cargo");
    cargo
        .args(["vendor", "--versioned-dirs", "vendor"])
        .current_dir(sources);
    let status = cargo.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder can be made");
    for entry in fs::read_dir(from).expect("it is a folder") {
        let entry = entry.expect("it can be read");
        let (name, kind) = (entry.file_name(), entry.file_type().expect("it has a type"));
        if kind.is_dir() {
            copy(&entry.path(), &to.join(&name));
        } else if name != ".cargo-checksum.json" && name != "Cargo.toml" {
            fs::copy(entry.path(), to.join(&name)).expect("it can be copied");
        }
    }
}
