//! The services that run tests, how they are known, and the form of annotations that each understands.

use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;
use harness_runner::report::{
    annotations::{Form, Summary},
    terminal::Fold,
};
use std::{
    env,
    io::{self, Write},
    process::{Command, Stdio},
};

/// The choice of a service.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AnnotationsArg {
    /// The one whose variable is set; none otherwise.
    Auto,
    /// GitHub Actions.
    Github,
    /// Forgejo and Gitea Actions.
    Forgejo,
    /// GitLab.
    Gitlab,
    /// Buildkite.
    Buildkite,
    /// Azure Pipelines.
    Azure,
    /// TeamCity.
    Teamcity,
    /// None.
    None,
}

/// A service.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Github,
    Forgejo,
    Gitlab,
    Buildkite,
    Azure,
    Teamcity,
}

impl AnnotationsArg {
    /// Returns the service that annotations are for.
    pub(super) fn service(self) -> Option<Service> {
        match self {
            Self::Auto => Service::detected(&|name| env::var(name).ok()),
            Self::Github => Some(Service::Github),
            Self::Forgejo => Some(Service::Forgejo),
            Self::Gitlab => Some(Service::Gitlab),
            Self::Buildkite => Some(Service::Buildkite),
            Self::Azure => Some(Service::Azure),
            Self::Teamcity => Some(Service::Teamcity),
            Self::None => None,
        }
    }
}

impl Service {
    /// Returns the service that runs this, by the variables that it sets.
    fn detected(variable: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let on =
            |name: &str| variable(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        if on("FORGEJO_ACTIONS") || on("GITEA_ACTIONS") {
            // Both also say that they are GitHub.
            Some(Self::Forgejo)
        } else if on("GITHUB_ACTIONS") {
            Some(Self::Github)
        } else if on("GITLAB_CI") {
            Some(Self::Gitlab)
        } else if on("BUILDKITE") {
            Some(Self::Buildkite)
        } else if on("TF_BUILD") {
            Some(Self::Azure)
        } else if set("TEAMCITY_VERSION") {
            Some(Self::Teamcity)
        } else {
            None
        }
    }

    /// Returns the form of annotations, and the place of the summary; `reports` is the folder of reports.
    pub(super) fn form(self, reports: &Utf8Path) -> Option<(Form, Summary)> {
        Some(match self {
            Self::Github | Self::Forgejo => {
                let path = env::var("GITHUB_STEP_SUMMARY")
                    .ok()
                    .filter(|path| !path.is_empty());
                let summary = path.map_or(Summary::None, |path| {
                    Summary::Append(Utf8PathBuf::from(path))
                });
                (Form::Workflow, summary)
            }
            Self::Gitlab => {
                let path = reports.join("gl-code-quality-report.json");
                (Form::Quality, Summary::Create(path))
            }
            Self::Azure => (Form::Azure, Summary::Create(reports.join("summary.md"))),
            Self::Teamcity => (Form::Teamcity, Summary::None),
            Self::Buildkite => (Form::Summary, Summary::Hand(Box::new(annotate))),
        })
    }

    /// Returns how the lines of tests are folded in the service's log.
    pub(super) fn fold(self) -> Fold {
        match self {
            Self::Gitlab => Fold::Gitlab,
            Self::Buildkite => Fold::Buildkite,
            Self::Github | Self::Forgejo | Self::Azure | Self::Teamcity => Fold::None,
        }
    }
}

/// Hands a summary to the agent of Buildkite, which takes it from its standard input.
fn annotate(text: &str, failed: bool) -> io::Result<()> {
    let style = if failed { "error" } else { "success" };
    let mut agent = Command::new("buildkite-agent");
    agent.args(["annotate", "--context", "cargo-harness", "--style", style]);
    let agent = agent.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut agent = match agent {
        Ok(agent) => agent,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // As in a container of a job.
            let warning = "there is no `buildkite-agent` here, so the build gets no annotation";
            return writeln!(io::stderr().lock(), "warning: {warning}");
        }
        Err(error) => return Err(error),
    };
    let written = agent
        .stdin
        .take()
        .map_or(Ok(()), |mut input| input.write_all(text.as_bytes()));
    let status = agent.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!(
            "`buildkite-agent annotate` ended with {status}"
        )));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_is_known_by_its_variables() {
        let detected = |set: &[(&str, &str)]| {
            Service::detected(&|name| {
                let found = set.iter().find(|(other, _)| *other == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let github = ("GITHUB_ACTIONS", "true");
        for (set, expected) in [
            (&[github][..], Some(Service::Github)),
            (
                &[github, ("FORGEJO_ACTIONS", "true")],
                Some(Service::Forgejo),
            ),
            (&[github, ("GITEA_ACTIONS", "true")], Some(Service::Forgejo)),
            (&[("GITLAB_CI", "true")], Some(Service::Gitlab)),
            (&[("BUILDKITE", "true")], Some(Service::Buildkite)),
            (&[("TF_BUILD", "True")], Some(Service::Azure)),
            (&[("TEAMCITY_VERSION", "2025.07")], Some(Service::Teamcity)),
            (&[("GITHUB_ACTIONS", "false")], None),
            (&[("CI", "true")], None),
        ] {
            assert_eq!(detected(set), expected, "{set:?}");
        }
    }
}
