//! `cargo harness completions`: a script that completes the command line in a shell.
//!
//! The script completes `cargo-harness …` and, in bash, zsh and fish, also `cargo harness …`. Zsh's own
//! completion of cargo calls `_cargo-harness`; bash and fish need the few lines that are added here.

use super::{documented, print::print};
use crate::command_error::CommandError;
use clap::Args;
use clap_complete::{Shell, generate};
use harness_metadata::exit_code;

/// The file that the scripts complete. Cargo starts it for `cargo harness …`.
const PROGRAM: &str = "cargo-harness";
/// The same as an identifier.
const IDENTIFIER: &str = "cargo_harness";
/// Adds `cargo harness …` to the completion of cargo.
const BELOW_CARGO_IN_BASH: &str = include_str!("completions/cargo.bash");
const BELOW_CARGO_IN_FISH: &str = include_str!("completions/cargo.fish");

/// Print a script that completes the command line in a shell.
#[derive(Debug, Args)]
pub(super) struct CompletionsCommand {
    /// The shell that reads the script.
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsCommand {
    pub(super) fn run(self) -> Result<i32, CommandError> {
        print(script(self.shell).as_bytes(), "the completions").map(|()| exit_code::OK)
    }
}

/// Returns the script for a shell.
fn script(shell: Shell) -> String {
    // The functions in clap_complete's bash script do not find each other if the name has a hyphen.
    let name = match shell {
        Shell::Bash => IDENTIFIER,
        _ => PROGRAM,
    };
    let mut script = Vec::new();
    generate(shell, &mut documented(name), name, &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        Shell::Bash => {
            script = script.replace(
                &format!("default {IDENTIFIER}"),
                &format!("default {PROGRAM}"),
            );
            script.push_str(BELOW_CARGO_IN_BASH);
        }
        Shell::Fish => script.push_str(BELOW_CARGO_IN_FISH),
        _ => {}
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::subcommands;
    use clap::ValueEnum;
    use std::process::Command;

    #[test]
    fn every_script_has_every_subcommand_and_every_flag() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for (_, command) in subcommands() {
                let name = command.get_name();
                assert!(script.contains(name), "{shell} lacks `{name}`");
                for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
                    let written = match shell {
                        // Fish has its flags as words of their own.
                        Shell::Fish => format!("-l {flag}"),
                        _ => format!("--{flag}"),
                    };
                    let ends =
                        |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '-');
                    let found = script.split(&written).skip(1).any(ends);
                    assert!(found, "{shell} lacks `{flag}` of `{name}`");
                }
            }
        }
    }

    /// Completes a command line in bash, after an own completion of cargo was set up.
    fn complete_in_bash(line: &str) -> Vec<String> {
        let driver = r#"
            _own_cargo() { COMPREPLY=("own:$2"); }
            complete -F _own_cargo cargo
            source "$SCRIPT"
            # A second time, as in a shell that reads its start-up files again.
            source "$SCRIPT"
            read -ra COMP_WORDS <<< "$LINE"
            [[ $LINE == *' ' ]] && COMP_WORDS+=('')
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            [[ $(complete -p "${COMP_WORDS[0]}") =~ -F\ ([^ ]+) ]]
            "${BASH_REMATCH[1]}" "${COMP_WORDS[0]}" "${COMP_WORDS[COMP_CWORD]}" \
                "${COMP_WORDS[COMP_CWORD - 1]}"
            printf '%s\n' "${COMPREPLY[@]}"
        "#;
        // It is longer than a variable may be.
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let file = folder.path().join("script");
        std::fs::write(&file, script(Shell::Bash)).expect("it is ours");
        let output = Command::new("bash")
            .args(["--norc", "-c", driver])
            .env("SCRIPT", &file)
            .env("LINE", line)
            .output()
            .expect("bash starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.is_empty(), "bash wrote to standard error: {errors}");
        let replies = String::from_utf8_lossy(&output.stdout);
        replies.lines().map(str::to_owned).collect()
    }

    #[test]
    fn bash_completes_the_command_and_the_subcommand_of_cargo() {
        for line in [
            "cargo-harness run --flaky",
            "cargo harness run --flaky",
            "cargo +nightly harness run --flaky",
        ] {
            assert_eq!(complete_in_bash(line), ["--flaky-result"], "{line}");
        }
        assert_eq!(complete_in_bash("cargo harness show-c"), ["show-config"]);
        assert_eq!(
            complete_in_bash("cargo harness run --flaky-result "),
            ["pass", "fail"]
        );
    }

    #[test]
    fn bash_leaves_the_other_subcommands_of_cargo_to_their_own_completion() {
        for line in ["cargo bu", "cargo harness", "cargo build harness --re"] {
            let last = line.rsplit(' ').next().unwrap();
            assert_eq!(complete_in_bash(line), [format!("own:{last}")], "{line}");
        }
    }
}
