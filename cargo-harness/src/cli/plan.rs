//! `cargo harness plan` and `cargo harness why`: which tests would run, which need not, and why.

use super::{
    GlobalOptions, changed,
    filter_options::FilterArgs,
    prepared::{self, session_error},
    recordings,
    reuse_options::ReuseArgs,
};
use crate::{cargo_options::CargoArgs, command_error::CommandError};
use clap::Args;
use harness_metadata::{TestId, exit_code};
use harness_runner::{
    changes::Since,
    config::CliOverrides,
    report::{
        plural,
        style::{Styles, escaped, paint},
    },
    reuse::{self, Changed, Decision, Why},
    session::{Decided, Deciding, Session, Start},
    store::the_test,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::Path,
};

/// Build, and say for each test whether it would run, or need not because nothing has changed since it passed.
#[derive(Debug, Args)]
pub(super) struct PlanCommand {
    #[command(flatten)]
    cargo: CargoArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    reuse: ReuseArgs,
    #[command(flatten)]
    form: PlanForm,
}

/// Build, and say why a test would run: the first thing that differs from its last pass, and how the test comes to
/// depend on it.
#[derive(Debug, Args)]
pub(super) struct WhyCommand {
    /// The test: its name, a part of it, or its binary's id and its name.
    #[arg(value_name = "TEST", num_args = 1..=2, required = true)]
    wanted: Vec<String>,
    #[command(flatten)]
    cargo: CargoArgs,
    #[command(flatten)]
    reuse: ReuseArgs,
    #[command(flatten)]
    form: PlanForm,
}

#[derive(Debug, Args)]
struct PlanForm {
    /// Decide by the files that have changed since this revision, or since the main branch.
    #[arg(
        long,
        value_name = "BASE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        help_heading = "Reuse options"
    )]
    affected: Option<String>,
    /// Compare executables as a whole, whatever functions a test entered.
    #[arg(long, help_heading = "Reuse options")]
    whole_executables: bool,
    /// Print JSON, an object for each test.
    #[arg(long, help_heading = "Output options")]
    json: bool,
}

impl PlanForm {
    fn deciding(&self) -> Deciding {
        match self.affected.as_deref() {
            None => Deciding::Profile,
            Some("") => Deciding::Affected(Since::Main),
            Some(base) => Deciding::Affected(Since::Revision(base.to_owned())),
        }
    }

    /// Builds, lists and decides.
    fn decide(
        &self,
        cargo: CargoArgs,
        filter: &FilterArgs,
        reuse: &ReuseArgs,
        global: &GlobalOptions,
    ) -> Result<(Session, Decided), CommandError> {
        let colors = global.stderr_colors();
        let filters = filter.interpret(false)?;
        let mut overrides = CliOverrides::default();
        overrides.run.reuse_functions = self.whole_executables.then_some(false);
        let mut options = prepared::options(global, cargo, reuse, filters.options, overrides)?;
        options.documentation = true;
        filters.before.apply(&mut options, global)?;
        let mut notify = |notice| prepared::tell(&notice, colors);
        let start = Start::new(&options, &mut notify).map_err(session_error(colors))?;
        let session = start.prepare(&options, &mut notify);
        let mut session = session.map_err(session_error(colors))?;
        let decided = session.decide(&self.deciding(), &mut notify);
        let decided = decided.map_err(changed::git_error)?;
        Ok((session, decided))
    }
}

impl PlanCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let form = self.form;
        let (session, decided) = form.decide(self.cargo, &self.filter, &self.reuse, global)?;
        let root = session.workspace.root().as_std_path();
        let styles = Styles::new(global.stdout_colors());
        let mut text = String::new();
        for (test, decision) in &decided.tests {
            text += &match form.json {
                true => json_of(test, decision, root).to_string(),
                false => line(test, decision, root, &styles),
            };
            text.push('\n');
        }
        let reused = decided.tests.iter();
        let reused = reused.filter(|(_, decision)| matches!(decision, Decision::Reuse(_)));
        let reused = reused.count();
        let says = format!(
            "{} of {} would run",
            decided.tests.len() - reused,
            plural(decided.tests.len(), "test", "tests")
        );
        prepared::note(&says, global.stderr_colors());
        recordings::written(io::stdout().write_all(text.as_bytes()), "the plan")
    }
}

impl WhyCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let filter = FilterArgs::default();
        let (session, decided) = self.form.decide(self.cargo, &filter, &self.reuse, global)?;
        let (test, decision) = chosen(&self.wanted, &decided)?;
        let root = session.workspace.root().as_std_path();
        let way = way(&session, test, decision);
        let text = match self.form.json {
            true => {
                let mut json = json_of(test, decision, root);
                if let Some(way) = way {
                    json["chain"] = way.into();
                }
                format!("{json}\n")
            }
            false => {
                let styles = Styles::new(global.stdout_colors());
                details(test, decision, way, root, &styles)
            }
        };
        recordings::written(io::stdout().write_all(text.as_bytes()), "the answer")?;
        Ok(exit_code::OK)
    }
}

/// Finds the test that a user names.
fn chosen<'a>(
    words: &[String],
    decided: &'a Decided,
) -> Result<&'a (TestId, Decision), CommandError> {
    let names: BTreeSet<TestId> = decided.tests.iter().map(|(test, _)| test.clone()).collect();
    let chosen = the_test(&names, &words.join(" ")).map_err(recordings::find_error)?;
    let mut tests = decided.tests.iter();
    let found = tests.find(|(test, _)| *test == chosen);
    Ok(found.expect("it is one of them"))
}

fn line(test: &TestId, decision: &Decision, root: &Path, styles: &Styles) -> String {
    let style = match decision {
        Decision::Reuse(_) => styles.pass,
        Decision::Run(_) => styles.count,
    };
    let word = format!("{:>6}", decision.word());
    let reason = decision.reason(root, reuse::now());
    format!(
        "{} {}: {}",
        paint(&word, style),
        escaped(&test.to_string()),
        escaped(&reason)
    )
}

fn changed_of(decision: &Decision) -> Option<&Changed> {
    match decision {
        Decision::Run(why) => match &**why {
            Why::Differs(changed) => Some(changed),
            _ => None,
        },
        Decision::Reuse(_) => None,
    }
}

/// Returns the processes that led the test to the path that differs.
fn way(session: &Session, test: &TestId, decision: &Decision) -> Option<Vec<String>> {
    let path = changed_of(decision)?.path()?;
    let (links, call) = session.way_to(test, path)?;
    let commands = links.into_iter().map(|link| match link.command.as_str() {
        "" => format!("process {}", link.pid),
        command => command.to_owned(),
    });
    Some(commands.chain([call]).collect())
}

fn details(
    test: &TestId,
    decision: &Decision,
    way: Option<Vec<String>>,
    root: &Path,
    styles: &Styles,
) -> String {
    let mut text = line(test, decision, root, styles);
    text.push('\n');
    if let Some((before, now)) = changed_of(decision).and_then(Changed::values) {
        text += &format!("       then: {}\n", escaped(&before));
        text += &format!("        now: {}\n", escaped(&now));
    }
    if let Some(way) = way {
        text += &format!("         by: {}\n", escaped(&way.join(" → ")));
    }
    text
}

fn json_of(test: &TestId, decision: &Decision, root: &Path) -> Value {
    let mut json = json!({
        "test": test,
        "decision": decision.word(),
        "reason": decision.reason(root, reuse::now()),
    });
    if let Decision::Reuse(known) = decision {
        json["run"] = known.run.to_string().into();
    }
    if let Some(changed) = changed_of(decision) {
        if let Some((before, now)) = changed.values() {
            json["before"] = before.into();
            json["now"] = now.into();
        }
        if let Some(path) = changed.path() {
            json["path"] = String::from_utf8_lossy(path).into();
        }
    }
    json
}
