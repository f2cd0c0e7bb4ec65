//! Tells the compiler where the pages are that `cargo harness help` shows.

use std::{env, path::PathBuf};

fn main() {
    let crate_folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    // In the repository they are the site's. A published crate has a copy, see CONTRIBUTING.md.
    let folders = [crate_folder.join("../site/docs"), crate_folder.join("help")];
    let Some(pages) = folders.iter().find(|folder| folder.is_dir()) else {
        panic!(
            "the pages of the help are neither in {} nor in {}",
            folders[0].display(),
            folders[1].display()
        );
    };
    println!("cargo:rustc-env=HELP_PAGES={}", pages.display());
    println!("cargo:rerun-if-changed=build.rs");
}
