//! The scripts of a session: what they are as processes.

use super::{Session, query::query};
use crate::{
    cargo::{TestBinary, Workspace},
    config::{
        CommandBase, CompiledProfile, ScriptCommand, SetupScript, WithRunner, WrapperScript,
        settings::{
            FlakyResult, LeakPolicy, MemoryRequired, RetryPolicy, SlowTimeout, TestGroup,
            TestSettings, ThreadsRequired, TimeoutResult, TraceSetting,
        },
    },
    list::{self, ListedBinary},
    plan::PlannedTest,
    protocol::Environment,
    run,
};
use camino::Utf8Path;
use guppy::PackageId;
use harness_metadata::{
    Limits,
    event::{OutputPolicy, OutputWhen},
};
use std::{collections::BTreeMap, ffi::OsString, num::NonZeroU32, sync::Arc};

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
            retries: RetryPolicy::NONE,
            flaky_result: FlakyResult::Pass,
            slow_timeout: script.slow_timeout,
            leak_timeout: script.leak_timeout,
            leak: match script.leak_timeout.result {
                Some(result) => result.into(),
                None => LeakPolicy::Warn,
            },
            limits: Limits::default(),
            threads_required: ThreadsRequired::Count(1),
            exclusive: false,
            memory_required: MemoryRequired::None,
            test_group: TestGroup::Global,
            priority: 0,
            run_extra_args: Vec::new(),
            env: BTreeMap::new(),
            require_result: false,
            output,
            trace: TraceSetting::default(),
        };
        let teardown = script.teardown.as_ref().map(|command| {
            let limit = SlowTimeout {
                period: script.teardown_timeout,
                terminate_after: NonZeroU32::new(1),
                grace_period: settings.slow_timeout.grace_period,
                on_timeout: TimeoutResult::Fail,
            };
            let settings = TestSettings {
                slow_timeout: limit,
                ..settings.clone()
            };
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
    fn script_binary(&self, command: &ScriptCommand, first: &ListedBinary) -> run::Binary {
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
    pub(super) fn wrapped(&self, test: &PlannedTest) -> Option<run::Wrapped> {
        let (wrapper, _) = test.scripts.run_wrapper.as_ref()?;
        let binary = &self.tests.binaries[test.binary].binary;
        let mut program = before(&self.workspace, wrapper, binary)?;
        program.push(binary.path.clone().into_os_string());
        Some(run::Wrapped {
            program,
            env: wrapper.command.env.clone(),
        })
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
