//! Another user, who owns nothing but the folder of a scene.

use crate::{environment::installed, scene::Scene};
use harness_metadata::exit_code;
use nix::unistd::geteuid;
use std::{env, path::PathBuf, process::Command};

const NOBODY: [&str; 5] = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];

/// The toolchain may be in another user's home: this lets it be read, and nothing else.
const READ_EVERYTHING: [&str; 4] = [
    "--inh-caps",
    "-all,+dac_read_search",
    "--ambient-caps",
    "-all,+dac_read_search",
];

/// A user who can use cargo.
pub(crate) struct Nobody {
    /// The command that becomes this user.
    args: Vec<&'static str>,
}

impl Nobody {
    /// Finds a user who can do what a command does. It is first done by the own one, so that
    /// everything is built: whether this user can use a linker is not the subject. What it writes has
    /// to be in the scene, which is opened to all.
    ///
    /// # Errors
    ///
    /// When there is none: why, in a sentence.
    pub(crate) fn who_can(scene: &Scene, command: &Command) -> Result<Self, String> {
        if !geteuid().is_root() {
            return Err("only root can become another user".to_owned());
        }
        if !installed("setpriv", &["--version"]) {
            return Err("setpriv is not installed".to_owned());
        }
        scene
            .run(scene.wrapped(command, "env", &[]))
            .assert_code(exit_code::OK);
        let mut open = scene.command("chmod");
        open.args(["-R", "a+rwX"]).arg(scene.path(""));
        scene.run(open).assert_code(0);
        let more = [NOBODY.as_slice(), READ_EVERYTHING.as_slice()].concat();
        [NOBODY.to_vec(), more]
            .into_iter()
            .map(|args| Self { args })
            .find(|nobody| scene.run(nobody.wrapped(scene, command)).status.success())
            .ok_or_else(|| "another user can use neither cargo nor its cache".to_owned())
    }

    /// Returns the same command as that user's.
    pub(crate) fn wrapped(&self, scene: &Scene, command: &Command) -> Command {
        let mut wrapped = scene.wrapped(command, "setpriv", &self.args);
        wrapped
            .env("HOME", scene.path(""))
            .env("CARGO_HOME", scene.path("cargo-home"));
        // Without it rustup looks for its toolchains in the new home.
        if let Some(toolchains) = toolchains() {
            wrapped.env("RUSTUP_HOME", toolchains);
        }
        wrapped
    }
}

/// Returns where rustup has its toolchains, if it has any.
fn toolchains() -> Option<PathBuf> {
    let folder = match env::var_os("RUSTUP_HOME") {
        Some(folder) => folder.into(),
        None => PathBuf::from(env::var_os("HOME")?).join(".rustup"),
    };
    folder.is_dir().then_some(folder)
}
