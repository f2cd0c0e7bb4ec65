//! `cargo harness policy`: policies and what the last traces show.

use super::{
    GlobalOptions,
    kept::Kept,
    prepared,
    recordings::{self, Place},
    show_config::Selected,
    who::doubts,
};
use crate::command_error::CommandError;
use clap::{Args, Subcommand};
use harness_metadata::{Violation, exit_code};
use harness_runner::{
    answers::policy::{Checked, Learnt, Violator, learn},
    policy::Roots,
    report::{
        plural,
        style::{Styles, escaped},
        violations::entry,
    },
    store::last::last_of_each,
};
use serde_json::json;
use std::io::{self, Write};

/// Write a policy that allows what traces show, or check traces against the policies of the tests.
#[derive(Debug, Args)]
pub(super) struct PolicyCommand {
    #[command(subcommand)]
    what: What,
}

/// The questions about policies.
#[derive(Debug, Subcommand)]
enum What {
    /// Print the lines of `.config/harness.toml` that allow what the last trace of each test shows.
    Init(Init),
    /// Name what the policies of the tests would deny of their last traces. Runs no test.
    Check(Box<Check>),
}

/// The place of the traces.
#[derive(Debug, Args)]
struct Init {
    #[command(flatten)]
    place: Place,
}

/// The tests, and the form of the answer.
#[derive(Debug, Args)]
struct Check {
    /// Print JSON, an object for each violation.
    #[arg(long, help_heading = "Output options")]
    json: bool,
    #[command(flatten)]
    selected: Selected,
}

impl PolicyCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        match self.what {
            What::Init(init) => init.run(global),
            What::Check(check) => check.run(global),
        }
    }
}

impl Init {
    fn run(&self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let Kept {
            root,
            store,
            target,
        } = self.place.locate(global)?;
        let roots = Roots::new(root.as_std_path(), target.as_std_path());
        let tests = last_of_each(&store, &root).map_err(recordings::find_error)?;
        let learnt = learn(tests, &roots);
        let profile = global.profile.as_deref().unwrap_or("default");
        let text = lines(&learnt, profile);
        recordings::written(io::stdout().write_all(text.as_bytes()), "the policy")?;
        let colors = global.stderr_colors();
        let tests = plural(learnt.tests, "test", "tests");
        prepared::note(&format!("from the last traces of {tests}"), colors);
        for ((key, entry), test) in &learnt.left_out {
            let text = format!(
                "`{key}` lacks {entry:?}, which would allow nearly everything: `{test}` uses it"
            );
            prepared::warn(&escaped(&text), colors);
        }
        for text in doubts(&learnt.unknown, global.verbose) {
            prepared::warn(&text, colors);
        }
        Ok(exit_code::OK)
    }
}

/// Returns the lines of a profile.
fn lines(learnt: &Learnt, profile: &str) -> String {
    let name = toml_key(profile);
    let mut text = format!("[profile.{name}.policy]\nmode = \"audit\"\n");
    for (key, entries) in &learnt.entries {
        let key = key.strip_prefix("policy.").unwrap_or(key);
        let entries: Vec<_> = entries.iter().map(|it| entry(it)).collect();
        text += &format!("{key} = [{}]\n", entries.join(", "));
    }
    text
}

/// Returns a key as TOML has it.
fn toml_key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    match name.chars().all(bare) {
        true => name.to_owned(),
        false => format!("{name:?}"),
    }
}

impl Check {
    fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let session = self.selected.prepare(global)?;
        let checked = session.check_policies().map_err(recordings::find_error)?;
        let styles = Styles::new(global.stdout_colors());
        let tests = checked.tests.iter();
        let text: String = match self.json {
            true => tests.map(json).collect(),
            false => tests.map(|it| details(it, &styles)).collect(),
        };
        recordings::written(io::stdout().write_all(text.as_bytes()), "the violations")?;
        conclude(&checked, global);
        Ok(exit_code::OK)
    }
}

fn details(violator: &Violator, styles: &Styles) -> String {
    let mut text = format!("{}\n", styles.name(&violator.test));
    for violation in &violator.violations {
        let Violation {
            at,
            pid,
            program,
            call,
            target,
            rule,
            allow,
            ..
        } = violation;
        let by = match program.is_empty() {
            true => format!("by {pid}"),
            false => format!("by {pid}, {program}"),
        };
        let line = format!(
            "    {rule}: {call} of {target} at {:.3} s {by}; to allow it, add {}",
            at.as_secs_f64(),
            entry(allow)
        );
        text += &escaped(&line);
        text.push('\n');
    }
    text
}

fn json(violator: &Violator) -> String {
    let lines = violator.violations.iter().map(|violation| {
        let line = json!({
            "test": violator.test,
            "run_id": violator.found.run.header.run_id,
            "violation": violation,
        });
        line.to_string() + "\n"
    });
    lines.collect()
}

/// Says how many tests keep to their policies, and of which that is unknown.
fn conclude(checked: &Checked, global: &GlobalOptions) {
    let colors = global.stderr_colors();
    let free = plural(checked.free, "test keeps", "tests keep");
    let others = checked.tests.len();
    let text =
        format!("{free} to the policy in the last trace, {others} would be denied something");
    prepared::note(&text, colors);
    for text in doubts(&checked.unknown, global.verbose) {
        prepared::warn(&text, colors);
    }
}
