//! The scripts of a session: what they are as processes.

use super::{Session, query::query};
use crate::{
    cargo::{TestBinary, Workspace},
    config::{
        CommandBase, CompiledProfile, ScriptCommand, SetupScript, WithRunner, WrapperScript,
        scripts::{LEAK_PERIOD, NEVER_SLOW},
        settings::{LeakPolicy, LeakTimeout, SlowTimeout, TestSettings},
    },
    list::{self, ListedBinary},
    plan::PlannedTest,
    protocol::Environment,
    run,
};
use camino::Utf8Path;
use guppy::PackageId;
use harness_metadata::event::{OutputPolicy, OutputWhen};
use std::{ffi::OsString, num::NonZeroU32, sync::Arc, time::Duration};

/// The search path of the dynamic linker.
const LIBRARY_PATHS: [&str; 2] = ["LD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"];

impl Session {
    /// Returns the setup scripts that tests of the plan want, and for each test those that it wants, as
    /// indexes into them.
    pub(super) fn setup_scripts(&self) -> (Vec<run::Script>, Vec<Vec<usize>>) {
        let mut of_tests = vec![Vec::new(); self.plan.tests.len()];
        let mut scripts = Vec::new();
        for (index, script) in self.profile.setup_scripts().iter().enumerate() {
            let wants = |test: &PlannedTest| {
                let mut setup = test.scripts.setup.iter();
                setup.any(|(wanted, _)| *wanted == index)
            };
            let tests = self.plan.tests.iter().enumerate();
            let tests: Vec<usize> = tests
                .filter(|(_, test)| wants(test))
                .map(|(test, _)| test)
                .collect();
            let Some(first) = tests.first() else { continue };
            for test in &tests {
                of_tests[*test].push(scripts.len());
            }
            let binary = &self.tests.binaries[self.plan.tests[*first].binary];
            scripts.push(self.setup_script(script, tests, binary));
        }
        (scripts, of_tests)
    }

    fn setup_script(
        &self,
        script: &SetupScript,
        tests: Vec<usize>,
        first: &ListedBinary,
    ) -> run::Script {
        let output = OutputPolicy {
            success: OutputWhen::Never,
            failure: OutputWhen::Immediate,
            junit_success: script.junit_success,
            junit_failure: script.junit_failure,
            junit_flaky_fail_as_failure: true,
        };
        let settings = TestSettings {
            leak: match script.leak_timeout.result {
                Some(result) => result.into(),
                None => LeakPolicy::Warn,
            },
            ..settings(script.slow_timeout, script.leak_timeout, output)
        };
        let teardown = script.teardown.as_ref().map(|command| {
            let settings = limited(&settings, script.teardown_timeout);
            (Arc::new(settings), self.script_binary(command, first))
        });
        run::Script {
            name: script.name.to_string(),
            setup: (
                Arc::new(settings),
                self.script_binary(&script.command, first),
            ),
            teardown,
            capture: [script.capture_stdout, script.capture_stderr],
            tests,
        }
    }

    /// Returns the process of a script. Its dynamic linker searches where that of the first test does.
    pub(super) fn script_binary(
        &self,
        command: &ScriptCommand,
        first: &ListedBinary,
    ) -> run::Binary {
        let inherited = Environment::inherited();
        let mut environment = inherited.clone();
        let config = &self.workspace.config;
        config.apply_env(&mut environment, &inherited, |_| false);
        if let Some(of_tests) = self.built.environments.get(&first.binary.id) {
            for name in LIBRARY_PATHS {
                if let Some(path) = of_tests.get(name) {
                    environment.set(name, path);
                }
            }
        }
        let root = self.workspace.root();
        for prefix in ["HARNESS", "NEXTEST"] {
            environment.set(prefix, "1");
            environment.set(format!("{prefix}_EXECUTION_MODE"), "process-per-test");
            environment.set(format!("{prefix}_WORKSPACE_ROOT"), root.as_str());
        }
        for (name, value) in &command.env {
            environment.set(name, value);
        }
        run::Binary {
            program: words(command, root, self.workspace.target_directory()),
            cwd: root.as_std_path().to_owned(),
            environment,
            libtest: false,
            image: None,
        }
    }

    /// Returns what a test's process begins with and has in its environment, if a wrapper runs it.
    /// `below` runs the wrapper.
    pub(super) fn wrapped(
        &self,
        test: &PlannedTest,
        below: Option<&run::Below>,
    ) -> Option<run::Wrapped> {
        let wrapper = test.scripts.run_wrapper.as_ref();
        let wrapper = wrapper.map(|(wrapper, _)| wrapper);
        let mut program = below.map_or_else(Vec::new, |below| below.words.clone());
        if let Some(mut own) = self.documented(&test.id) {
            let (root, target) = (self.workspace.root(), self.workspace.target_directory());
            if let Some(wrapper) = wrapper {
                // The words of its process have the target runner already.
                program.extend(beginning(wrapper, None, root, target)?);
                own.env.extend(wrapper.command.env.clone());
            }
            program.append(&mut own.program);
            return Some(run::Wrapped { program, ..own });
        }
        let wrapper = wrapper?;
        let binary = &self.tests.binaries[test.binary].binary;
        program.extend(before(&self.workspace, wrapper, binary)?);
        program.push(binary.path.clone().into_os_string());
        Some(run::Wrapped {
            program,
            env: wrapper.command.env.clone(),
            selection: run::Selection::Harness,
        })
    }
}

/// Returns the settings of a process that is no test.
fn settings(slow: SlowTimeout, leak: LeakTimeout, output: OutputPolicy) -> TestSettings {
    TestSettings {
        slow_timeout: slow,
        leak_timeout: leak,
        leak: LeakPolicy::Warn,
        require_result: false,
        output,
        ..TestSettings::default()
    }
}

/// Returns settings with a time limit.
pub(super) fn limited(settings: &TestSettings, limit: Duration) -> TestSettings {
    let slow_timeout = SlowTimeout {
        period: limit,
        terminate_after: NonZeroU32::new(1),
        ..settings.slow_timeout
    };
    TestSettings {
        slow_timeout,
        ..settings.clone()
    }
}

/// Returns the settings of a service: it has no time limit, and what it leaves is killed.
pub(super) fn service_settings(grace_period: Duration, output: OutputPolicy) -> TestSettings {
    let slow = SlowTimeout {
        grace_period,
        ..NEVER_SLOW
    };
    let leak = LeakTimeout {
        period: LEAK_PERIOD,
        result: None,
    };
    TestSettings {
        leak: LeakPolicy::Allow,
        ..settings(slow, leak, output)
    }
}

/// Returns the wrapper that lists a binary, if one does.
pub(super) fn list_wrapper(
    workspace: &Workspace,
    profile: &CompiledProfile,
    binary: &TestBinary,
) -> Option<list::Wrapper> {
    let package_id = PackageId::new(binary.package_id.clone());
    let (wrapper, _) = profile.list_wrapper(&query(binary, &package_id))?;
    Some(list::Wrapper {
        words: before(workspace, &wrapper, binary)?,
        env: wrapper.command.env.clone(),
    })
}

/// Returns the words before a binary's path; `None` if the wrapper is not used.
fn before(
    workspace: &Workspace,
    wrapper: &WrapperScript,
    binary: &TestBinary,
) -> Option<Vec<OsString>> {
    let runner = workspace.runners.get(binary.target.as_deref());
    let runner = runner.map(|runner| {
        let program = runner.program.clone().into_os_string();
        let args = runner.args.iter().cloned();
        [program].into_iter().chain(args).collect()
    });
    beginning(
        wrapper,
        runner,
        workspace.root(),
        workspace.target_directory(),
    )
}

/// Returns the words before a binary's path that a wrapper and a target runner come to; `None` if the
/// wrapper is not used.
fn beginning(
    wrapper: &WrapperScript,
    runner: Option<Vec<OsString>>,
    root: &Utf8Path,
    target: &Utf8Path,
) -> Option<Vec<OsString>> {
    let own = words(&wrapper.command, root, target);
    Some(match (wrapper.target_runner, runner) {
        (WithRunner::Ignore, _) | (_, None) => own,
        (WithRunner::OverridesWrapper, Some(_)) => return None,
        (WithRunner::WithinWrapper, Some(runner)) => [own, runner].concat(),
        (WithRunner::AroundWrapper, Some(runner)) => [runner, own].concat(),
    })
}

/// Returns the words of a command.
fn words(command: &ScriptCommand, root: &Utf8Path, target: &Utf8Path) -> Vec<OsString> {
    let program = match command.relative_to {
        CommandBase::None => command.program.clone(),
        CommandBase::WorkspaceRoot => root.join(&command.program).into_string(),
        CommandBase::Target => target.join(&command.program).into_string(),
    };
    let args = command.args.iter().map(OsString::from);
    [OsString::from(program)].into_iter().chain(args).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn wrapper(target_runner: WithRunner) -> WrapperScript {
        WrapperScript {
            name: Arc::from("w"),
            command: ScriptCommand {
                program: "bin/w".to_owned(),
                args: vec!["-x".to_owned()],
                relative_to: CommandBase::WorkspaceRoot,
                env: BTreeMap::new(),
            },
            target_runner,
        }
    }

    #[track_caller]
    fn check(target_runner: WithRunner, with: Option<&str>, without: &str) {
        let joined = |runner: Option<Vec<OsString>>| {
            let words = beginning(&wrapper(target_runner), runner, "/repo".into(), "/t".into())?;
            let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
            Some(words.join(" "))
        };
        let runner = vec![OsString::from("qemu"), OsString::from("-q")];
        assert_eq!(joined(Some(runner)).as_deref(), with);
        assert_eq!(joined(None).as_deref(), Some(without));
    }

    #[test]
    fn a_wrapper_has_its_place_beside_a_target_runner() {
        let own = "/repo/bin/w -x";
        check(WithRunner::Ignore, Some(own), own);
        check(WithRunner::OverridesWrapper, None, own);
        check(
            WithRunner::WithinWrapper,
            Some("/repo/bin/w -x qemu -q"),
            own,
        );
        check(
            WithRunner::AroundWrapper,
            Some("qemu -q /repo/bin/w -x"),
            own,
        );
    }
}
