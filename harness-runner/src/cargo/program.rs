//! The cargo that builds, and its rustc.

use crate::protocol::Environment;
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    env,
    ffi::OsStr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Returns the cargo that builds, as it names itself to tests. Cargo passes its path on to its
/// subcommands. Where this program was called directly, cargo is found in `PATH`; if that is
/// rustup's proxy, the cargo that it starts belongs to the toolchain.
pub(super) fn cargo_program(
    inherited: &Environment,
    sysroot: Option<&Utf8Path>,
) -> Option<Utf8PathBuf> {
    let absolute = |path: PathBuf| Utf8PathBuf::from_path_buf(path.canonicalize().ok()?).ok();
    if let Some(given) = inherited.get("CARGO") {
        let given = Utf8Path::new(given.to_str()?);
        if given.is_absolute() {
            return Some(given.to_owned());
        }
        if given.components().count() > 1 {
            return absolute(given.into());
        }
    }
    let name = inherited.get("CARGO").unwrap_or("cargo".as_ref());
    let found = found_in(inherited.get("PATH")?, name)?;
    let of_toolchain = sysroot.map(|sysroot| sysroot.join("bin/cargo"));
    match of_toolchain.filter(|cargo| cargo.is_file()) {
        Some(cargo) if is_proxy(&found) => Some(cargo),
        _ => absolute(found),
    }
}

/// Returns the rustc that rustup's proxy would start, if rustup has said which toolchain it is. Cargo
/// itself goes around the proxy in this way, which then need not find out the toolchain again.
pub(super) fn rustc_behind_proxy<'a>(
    variable: impl Fn(&str) -> Option<&'a str>,
) -> Option<BehindProxy> {
    let toolchain = variable("RUSTUP_TOOLCHAIN")?;
    let home = match variable("RUSTUP_HOME") {
        Some(home) => Utf8PathBuf::from(home),
        None => Utf8Path::new(variable("HOME")?).join(".rustup"),
    };
    let found = found_in(variable("PATH")?.as_ref(), "rustc".as_ref())?;
    let folder = home.join("toolchains").join(toolchain);
    let rustc = folder.join("bin/rustc");
    (is_proxy(&found) && rustc.is_file()).then(|| BehindProxy {
        host: host(toolchain, &folder),
        rustc,
    })
}

/// A rustc that rustup has installed, or knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BehindProxy {
    pub(super) rustc: Utf8PathBuf,
    /// Its host triple, where rustup's name of the toolchain says it.
    pub(super) host: Option<Host>,
}

/// A host, and where its standard library is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) triple: String,
    pub(super) libdir: Utf8PathBuf,
}

/// Returns the host of a toolchain that rustup has installed: its name is a channel, perhaps a date, and
/// the triple of the host. Rustup gives such names to no toolchain that it only links to.
fn host(toolchain: &str, folder: &Utf8Path) -> Option<Host> {
    let (channel, _) = toolchain.split_once('-')?;
    let is_version = channel.starts_with(|first: char| first.is_ascii_digit());
    if !is_version && !["stable", "beta", "nightly"].contains(&channel) || folder.is_symlink() {
        return None;
    }
    // As rustc, which finds itself.
    let rustlib = folder.canonicalize_utf8().ok()?.join("lib/rustlib");
    toolchain.match_indices('-').find_map(|(at, _)| {
        let triple = &toolchain[at + 1..];
        let libdir = rustlib.join(triple).join("lib");
        libdir.is_dir().then(|| Host {
            triple: triple.to_owned(),
            libdir,
        })
    })
}

fn found_in(folders: &OsStr, name: &OsStr) -> Option<PathBuf> {
    env::split_paths(folders)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// Returns whether a program is the same file as the rustup beside it, by whichever kind of link.
fn is_proxy(program: &Path) -> bool {
    let file = |path: &Path| {
        let metadata = path.metadata().ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    let resolved = program
        .canonicalize()
        .unwrap_or_else(|_| program.to_owned());
    let rustup = program.with_file_name("rustup");
    resolved.file_name() == Some("rustup".as_ref()) || file(program) == file(&rustup)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn the_cargo_of_a_test_is_the_one_that_builds() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().canonicalize().unwrap()).unwrap();
        for path in ["toolchain/bin/cargo", "proxies/rustup", "plain/cargo"] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::create_dir(root.join("links")).unwrap();
        symlink(root.join("proxies/rustup"), root.join("links/cargo")).unwrap();
        fs::hard_link(root.join("proxies/rustup"), root.join("proxies/cargo")).unwrap();
        let sysroot = root.join("toolchain");
        let of = |variables: &[(&str, &str)]| {
            let mut environment = Environment::default();
            for (name, value) in variables {
                environment.set(*name, value.replace('~', root.as_str()));
            }
            let program = cargo_program(&environment, Some(&sysroot))?;
            Some(program.strip_prefix(&root).unwrap().to_string())
        };
        let given = of(&[("CARGO", "~/any/cargo"), ("PATH", "~/plain")]);
        assert_eq!(given.as_deref(), Some("any/cargo"));
        for (path, found) in [
            ("~/none:~/plain:~/proxies", "plain/cargo"),
            ("~/proxies:~/plain", "toolchain/bin/cargo"),
            ("~/links", "toolchain/bin/cargo"),
        ] {
            assert_eq!(of(&[("PATH", path)]).as_deref(), Some(found), "{path}");
        }
        assert_eq!(of(&[("PATH", "~/none")]), None);
    }

    #[test]
    fn the_proxy_of_a_rustc_is_gone_around_where_rustup_has_named_the_toolchain() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().canonicalize().unwrap()).unwrap();
        for path in [
            ".rustup/toolchains/stable/bin/rustc",
            "elsewhere/toolchains/stable/bin/rustc",
            "proxies/rustup",
            "plain/rustc",
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        symlink("rustup", root.join("proxies/rustc")).unwrap();
        let of = |variables: &[(&str, &str)]| {
            let variables: Vec<_> = variables
                .iter()
                .map(|(name, value)| (*name, value.replace('~', root.as_str())))
                .collect();
            let variable = |wanted: &str| {
                let mut variables = variables.iter();
                let found = variables.find(|(name, _)| *name == wanted);
                found.map(|(_, value)| value.as_str())
            };
            let rustc = rustc_behind_proxy(variable)?.rustc;
            Some(rustc.strip_prefix(&root).unwrap().to_string())
        };
        let (home, path) = (("HOME", "~"), ("PATH", "~/proxies:~/plain"));
        let stable = ("RUSTUP_TOOLCHAIN", "stable");
        let found = of(&[home, path, stable]);
        assert_eq!(
            found.as_deref(),
            Some(".rustup/toolchains/stable/bin/rustc")
        );
        let found = of(&[home, path, stable, ("RUSTUP_HOME", "~/elsewhere")]);
        assert_eq!(
            found.as_deref(),
            Some("elsewhere/toolchains/stable/bin/rustc")
        );
        assert_eq!(of(&[home, path]), None, "rustup has not said which");
        let other = ("RUSTUP_TOOLCHAIN", "nightly");
        assert_eq!(of(&[home, path, other]), None, "it is not installed");
        let plain = ("PATH", "~/plain:~/proxies");
        assert_eq!(of(&[home, plain, stable]), None, "it is no proxy");
    }

    #[test]
    fn the_name_of_a_toolchain_names_its_host_if_rustup_has_installed_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().canonicalize().unwrap()).unwrap();
        let arm = "aarch64-unknown-linux-gnu";
        let of = |name: &str| {
            let folder = root.join(name);
            fs::create_dir_all(folder.join("lib/rustlib").join(arm).join("lib")).unwrap();
            Some(host(name, &folder)?.triple)
        };
        for name in ["stable", "nightly-2026-05-19", "1.95.0", "1.96.0-beta.2"] {
            assert_eq!(of(&format!("{name}-{arm}")).as_deref(), Some(arm), "{name}");
        }
        for name in ["stage1", "my", "stable", "nightly-x86_64-unknown-linux-gnu"] {
            assert_eq!(of(name), None, "{name}");
        }
        assert_eq!(of(&format!("stage1-{arm}")), None, "it is linked");
        let link = root.join(format!("beta-{arm}"));
        symlink(root.join("stage1"), &link).unwrap();
        assert_eq!(host(&format!("beta-{arm}"), &link), None);
    }

    #[test]
    fn what_the_name_of_a_toolchain_says_is_what_its_rustc_says() {
        let variable = |name: &str| Some(&*env::var(name).ok()?.leak());
        let Some(BehindProxy {
            rustc,
            host: Some(host),
        }) = rustc_behind_proxy(variable)
        else {
            // These tests run without rustup.
            return;
        };
        let output = std::process::Command::new(rustc)
            .args(["--print", "host-tuple", "--print", "target-libdir"])
            .output()
            .unwrap();
        let expected = format!("{}\n{}\n", host.triple, host.libdir);
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }
}
