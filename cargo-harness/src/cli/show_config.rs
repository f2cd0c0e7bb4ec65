//! `cargo harness show-config`.

use super::{
    GlobalOptions,
    filter_options::FilterArgs,
    pager::Output,
    prepared::{self, session_error},
    reuse_options::ReuseArgs,
};
use crate::{
    cargo_options::CargoArgs,
    command_error::{CommandError, Kind, both},
};
use clap::{Args, Subcommand, ValueEnum};
use harness_metadata::exit_code;
use harness_runner::{
    config::{
        CliOverrides, Explained, Program, Requirement, Standing, schema, settings::TestThreads,
        user_schema,
    },
    filter::FilterOptions,
    report::style::escaped,
    session::{ExplainedProfile, ExplainedTest, Options, Session, Start},
};
use nextest_metadata::GLOBAL_TEST_GROUP;
use std::{collections::BTreeMap, io::Write};

/// Show the settings in force, with the origin of each.
#[derive(Debug, Args)]
pub(super) struct ShowConfigCommand {
    #[command(subcommand)]
    what: What,
}

/// The kinds of settings to show.
#[derive(Debug, Subcommand)]
enum What {
    /// Every setting of the selected tests, with its origin.
    Test(Box<Selected>),
    /// Every setting of the run as a whole, with its origin.
    Run(Box<CargoArgs>),
    /// The test groups, their limits, and the selected tests in them.
    #[command(visible_alias = "test-groups")]
    Groups(Box<Grouped>),
    /// This program's version, and the versions that the workspace requires and recommends.
    Version(Box<CargoArgs>),
    /// The profiles, and those that each inherits from.
    Profiles(Box<CargoArgs>),
    /// Whether all files, of the workspace, of tools and of the person, are right, in every profile.
    Check(Box<CargoArgs>),
    /// The JSON Schema of a file, for editors.
    Schema(SchemaOf),
}

/// The file that a schema describes.
#[derive(Debug, Args)]
struct SchemaOf {
    /// The file.
    #[arg(value_enum, default_value = "harness")]
    file: SchemaFile,
}

/// The files that have a schema.
#[derive(Copy, Clone, Debug, ValueEnum)]
enum SchemaFile {
    /// `.config/harness.toml`.
    Harness,
    /// `harness/config.toml`, the settings of a person.
    User,
}

/// Tests, which are built and listed to be selected.
#[derive(Debug, Args)]
pub(super) struct Selected {
    #[command(flatten)]
    cargo: CargoArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    reuse: ReuseArgs,
}

/// The same, and the groups to show.
#[derive(Debug, Args)]
struct Grouped {
    /// Show this group only; may be given several times. `@global` is for tests of no group.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    groups: Vec<String>,
    /// Has no effect: tests that no override puts into a group are always shown.
    #[arg(long, hide = true)]
    show_default: bool,
    #[command(flatten)]
    selected: Selected,
}

impl ShowConfigCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let mut verdict = None;
        let text = match self.what {
            What::Version(cargo) => {
                let cargo = prepared::options(
                    global,
                    *cargo,
                    &ReuseArgs::default(),
                    FilterOptions::default(),
                    CliOverrides::default(),
                )?;
                let asked =
                    Start::requirements(&cargo).map_err(session_error(global.stderr_colors()))?;
                let found = verdict.insert(Verdict::of(&asked));
                versions(&asked, *found)
            }
            What::Test(selected) => tests(&selected.prepare(global)?.explain_tests())?,
            What::Groups(grouped) => {
                let session = grouped.selected.prepare(global)?;
                let known = session.test_groups();
                check_groups(&grouped.groups, known)?;
                groups(known, &grouped.groups, &session.explain_tests())
            }
            What::Run(cargo) => {
                let (start, options) = start(
                    *cargo,
                    &ReuseArgs::default(),
                    FilterOptions::default(),
                    global,
                )?;
                settings(&start.explain_run(&options))
            }
            What::Profiles(cargo) => {
                let (start, _) = start(
                    *cargo,
                    &ReuseArgs::default(),
                    FilterOptions::default(),
                    global,
                )?;
                profiles(&start.explain_profiles())
            }
            What::Check(cargo) => check(*cargo, global)?,
            What::Schema(SchemaOf { file }) => match file {
                SchemaFile::Harness => format!("{:#}\n", schema()),
                SchemaFile::User => format!("{:#}\n", user_schema()),
            },
        };
        let code = match &verdict {
            Some(verdict) => verdict.exit_code(),
            None => exit_code::OK,
        };
        let mut out = Output::new(global, true)?;
        let written = out.write_all(text.as_bytes());
        out.finish(written, "the settings").map(|()| code)
    }
}

/// Whether this program is new enough for a workspace.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Met,
    OlderThanRecommended,
    OlderThanRequired,
}

impl Verdict {
    fn of(asked: &[Requirement]) -> Self {
        let lacks = |standing| {
            let mut asked = asked.iter();
            asked.any(|asked| asked.standing == standing && !asked.holds())
        };
        if lacks(Standing::Required) {
            Self::OlderThanRequired
        } else if lacks(Standing::Recommended) {
            Self::OlderThanRecommended
        } else {
            Self::Met
        }
    }

    fn exit_code(self) -> i32 {
        match self {
            Self::Met => exit_code::OK,
            Self::OlderThanRecommended => exit_code::RECOMMENDED_VERSION,
            Self::OlderThanRequired => exit_code::REQUIRED_VERSION,
        }
    }
}

/// Writes this program's versions, one line for each version asked for, and the verdict.
fn versions(asked: &[Requirement], verdict: Verdict) -> String {
    let mut text = format!(
        "cargo harness {}, in place of cargo-nextest {}\n",
        Program::Harness.version(),
        Program::Peer.version()
    );
    for asked in asked {
        let standing = match asked.standing {
            Standing::Required => "required",
            Standing::Recommended => "recommended",
        };
        let (key, version, place) = (asked.program.key(), &asked.version, &asked.place);
        let met = if asked.holds() { "met" } else { "not met" };
        text.push_str(&escaped(&format!(
            "{key}: {version} {standing}, {met}  # {place}"
        )));
        text.push('\n');
    }
    text.push_str(match verdict {
        Verdict::Met if asked.is_empty() => "no version is asked for\n",
        Verdict::Met => "every version asked for is met\n",
        Verdict::OlderThanRecommended => "older than recommended\n",
        Verdict::OlderThanRequired => "older than required\n",
    });
    text
}

impl Selected {
    pub(super) fn prepare(self, global: &GlobalOptions) -> Result<Session, CommandError> {
        let filters = self.filter.interpret(false)?;
        let (start, mut options) = start(self.cargo, &self.reuse, filters.options, global)?;
        let colors = global.stderr_colors();
        filters.before.apply(&mut options, global)?;
        let mut notify = |notice| prepared::tell(&notice, colors);
        start
            .prepare(&options, &mut notify)
            .map_err(session_error(colors))
    }
}

fn start(
    cargo: CargoArgs,
    reuse: &ReuseArgs,
    filter: FilterOptions,
    global: &GlobalOptions,
) -> Result<(Start, Options), CommandError> {
    let options = prepared::options(global, cargo, reuse, filter, CliOverrides::default())?;
    let colors = global.stderr_colors();
    let mut notify = |notice| prepared::tell(&notice, colors);
    let start = Start::new(&options, &mut notify).map_err(session_error(colors))?;
    Ok((start, options))
}

/// Reads all files, and says what is right about them.
fn check(cargo: CargoArgs, global: &GlobalOptions) -> Result<String, CommandError> {
    let reuse = ReuseArgs::default();
    let (filter, cli) = (FilterOptions::default(), CliOverrides::default());
    let options = prepared::options(global, cargo, &reuse, filter, cli)?;
    let colors = global.stderr_colors();
    let mut notify = |notice| prepared::tell(&notice, colors);
    let checked = Start::check(&options, &mut notify).map_err(session_error(colors));
    let (checked, _) = both(checked, global.user_settings())?;
    let list = |names: Vec<&str>| {
        let quoted = names.iter().map(|name| format!("`{name}`"));
        escaped(&quoted.collect::<Vec<_>>().join(", ")).into_owned()
    };
    let files = match &checked.files[..] {
        [] => "no file of the workspace or of a tool".to_owned(),
        files => list(files.iter().map(|file| file.as_str()).collect()),
    };
    let profiles = list(checked.config.profile_names().collect());
    Ok(format!("no mistakes: {files}; profiles {profiles}\n"))
}

/// Writes the settings of each test below its name.
fn tests(tests: &[ExplainedTest]) -> Result<String, CommandError> {
    if tests.is_empty() {
        return Err(CommandError::new(Kind::NoTests, "no test is selected"));
    }
    let block = |test: &ExplainedTest| {
        let all = [&test.settings[..], &test.scripts[..]].concat();
        let settings = settings(&all);
        let lines = settings.lines().map(|line| format!("    {line}\n"));
        format!(
            "{}\n{}",
            escaped(&test.id.to_string()),
            lines.collect::<String>()
        )
    };
    Ok(tests.iter().map(block).collect::<Vec<_>>().join("\n"))
}

/// A longer line does not move the column of reasons.
const WIDEST: usize = 48;

/// Writes one line a setting: key and value, then the reason in a column of its own.
fn settings(settings: &[Explained]) -> String {
    let lines: Vec<(String, String)> = settings
        .iter()
        .map(|setting| {
            let value = escaped(&setting.value);
            (format!("{} = {value}", setting.key), reason(setting))
        })
        .collect();
    let widths = lines.iter().map(|(line, _)| line.chars().count());
    let column = widths.filter(|width| *width <= WIDEST).max().unwrap_or(0);
    lines
        .iter()
        .map(|(line, reason)| format!("{line:column$}  # {reason}\n"))
        .collect()
}

fn reason(setting: &Explained) -> String {
    let reason = match &setting.place {
        Some(place) => format!("{place}, {}", setting.origin),
        None => setting.origin.to_string(),
    };
    escaped(&reason).into_owned()
}

/// Fails if there is no group of one of these names.
fn check_groups(
    wanted: &[String],
    known: &BTreeMap<String, TestThreads>,
) -> Result<(), CommandError> {
    let is_known = |name: &str| name == GLOBAL_TEST_GROUP || known.contains_key(name);
    let Some(unknown) = wanted.iter().find(|name| !is_known(name)) else {
        return Ok(());
    };
    let names = known.keys().map(String::as_str).chain([GLOBAL_TEST_GROUP]);
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    let message = format!(
        "the test group `{unknown}` does not exist; known groups: {}",
        names.join(", ")
    );
    Err(CommandError::new(Kind::Setup, message))
}

/// Writes each group with its limit, and the tests in it below, each with the place that says so. No
/// wanted ones are all.
fn groups(
    groups: &BTreeMap<String, TestThreads>,
    wanted: &[String],
    tests: &[ExplainedTest],
) -> String {
    let is_wanted = |group: &str| wanted.is_empty() || wanted.iter().any(|name| name == group);
    let mut text = String::new();
    for (name, threads) in groups.iter().filter(|(name, _)| is_wanted(name)) {
        let threads = match threads {
            TestThreads::Count(count) => count.to_string(),
            TestThreads::NumCpus => "num-cpus".to_owned(),
            TestThreads::CpusMinus(fewer) => format!("-{fewer}"),
        };
        text.push_str(&format!("{} (max-threads {threads})\n", escaped(name)));
        text.push_str(&members(tests, name));
    }
    let global = members(tests, GLOBAL_TEST_GROUP);
    let asked = !wanted.is_empty() || groups.is_empty() || !global.is_empty();
    if is_wanted(GLOBAL_TEST_GROUP) && asked {
        text.push_str(&format!("{GLOBAL_TEST_GROUP}\n{global}"));
    }
    text
}

fn members(tests: &[ExplainedTest], group: &str) -> String {
    let members = tests.iter().filter(|test| test.group == group);
    let members: Vec<(String, String)> = members
        .map(|test| {
            let mut settings = test.settings.iter();
            let setting = settings.find(|setting| setting.key == "test-group");
            // A test without a group needs no reason.
            let set = setting.filter(|setting| setting.place.is_some());
            let name = escaped(&test.id.to_string()).into_owned();
            (name, set.map_or_else(String::new, reason))
        })
        .collect();
    let explained = members.iter().filter(|(_, reason)| !reason.is_empty());
    let column = explained.map(|(name, _)| name.chars().count()).max();
    let column = column.unwrap_or(0).min(WIDEST);
    let line = |(name, reason): &(String, String)| match reason.as_str() {
        "" => format!("    {name}\n"),
        reason => format!("    {name:column$}  # {reason}\n"),
    };
    members.iter().map(line).collect()
}

/// Writes each profile with those that it inherits from; a star marks the one in use.
fn profiles(profiles: &[ExplainedProfile]) -> String {
    let line = |profile: &ExplainedProfile| {
        let mark = if profile.used { '*' } else { ' ' };
        let from = match profile.inherits.is_empty() {
            true => String::new(),
            false => format!(" (inherits from {})", profile.inherits.join(", ")),
        };
        format!("{mark} {}\n", escaped(&format!("{}{from}", profile.name)))
    };
    profiles.iter().map(line).collect()
}

#[cfg(test)]
mod unit_tests {
    use super::*;
    use camino::Utf8Path;
    use expect_test::expect;
    use harness_runner::config::{Origin, Place};
    use std::sync::Arc;

    fn explained(key: &'static str, value: &str, line: Option<u32>) -> Explained {
        Explained {
            key,
            value: value.to_owned(),
            origin: match line {
                Some(_) => Origin::Profile("ci".into()),
                None => Origin::Default,
            },
            place: line.map(|line| Place {
                file: Arc::from(Utf8Path::new(".config/harness.toml")),
                line,
                column: 1,
            }),
        }
    }

    #[test]
    fn the_reasons_of_settings_stand_in_a_column() {
        let long = format!("\"{}\"", "x".repeat(40));
        let text = settings(&[
            explained("retries", "2", Some(3)),
            explained("leak", "\"warn\"", None),
            explained("junit.report-name", &long, Some(9)),
        ]);
        let expected = expect![[r#"
            retries = 2    # .config/harness.toml:3:1, profile `ci`
            leak = "warn"  # built-in default
            junit.report-name = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"  # .config/harness.toml:9:1, profile `ci`
        "#]];
        expected.assert_eq(&text);
    }

    #[test]
    fn the_profile_in_use_has_a_star() {
        let profile = |name: &str, inherits: &[&str], used| ExplainedProfile {
            name: name.to_owned(),
            inherits: inherits.iter().map(|name| (*name).to_owned()).collect(),
            used,
        };
        expect![[r#"
            * ci (inherits from default)
              default
        "#]]
        .assert_eq(&profiles(&[
            profile("ci", &["default"], true),
            profile("default", &[], false),
        ]));
    }
}
