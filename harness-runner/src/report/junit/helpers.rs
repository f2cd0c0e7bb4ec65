//! Setup scripts and services: suites of their own.

use super::{Junit, Schema, case, property};
use crate::report::{Outputs, entry, service};
use harness_metadata::{
    TestId,
    event::{ScriptFinished, ServiceFinished, TestFinished},
};
use quick_junit::{NonSuccessKind, TestCaseStatus};
use std::{collections::BTreeMap, io};

impl Junit {
    /// Adds a setup script or its teardown: a test case of a suite of its own.
    pub(super) fn script(
        &mut self,
        finished: &ScriptFinished,
        outputs: &dyn Outputs,
    ) -> io::Result<()> {
        let (command, environment) = (&finished.command, &finished.environment);
        self.add_command(&finished.test, command, environment);
        let problem = finished.problem.as_deref();
        let problem = problem.map(|problem| ("setup script failure", problem));
        self.with_attempt(&entry::of_script(finished), problem, outputs)
    }

    /// Adds a service: a test case of a suite of its own.
    pub(super) fn service(
        &mut self,
        finished: &ServiceFinished,
        outputs: &dyn Outputs,
    ) -> io::Result<()> {
        let (command, environment) = (&finished.command, &finished.environment);
        self.add_command(&finished.test, command, environment);
        let problem = service::problem(finished);
        let problem = problem.as_deref();
        let problem = problem.map(|problem| ("service failure", problem));
        self.with_attempt(&entry::of_service(finished), problem, outputs)
    }

    /// Adds a test case with one attempt. It failed if there is a problem, of a type.
    fn with_attempt(
        &mut self,
        finished: &TestFinished,
        problem: Option<(&str, &str)>,
        outputs: &dyn Outputs,
    ) -> io::Result<()> {
        let mut case = self.cases.finished(finished, outputs);
        if let Some((ty, problem)) = problem {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            let problem = case::legal(problem);
            status
                .set_type(ty)
                .set_message(problem.clone())
                .set_description(problem);
            case.status = status;
        }
        let took = finished.attempts.first().map(|attempt| {
            let took = chrono::TimeDelta::from_std(attempt.elapsed).unwrap_or_default();
            (attempt.started_at, attempt.started_at + took)
        });
        self.add(&finished.test, case, took)
    }

    /// Gives the suite of a script or a service its properties.
    fn add_command(
        &mut self,
        test: &TestId,
        command: &[String],
        environment: &BTreeMap<String, String>,
    ) {
        let at = self.suite(test);
        let suite = &mut self.suites[at].counts;
        if !suite.properties.is_empty() || self.options.schema != Schema::Free {
            return;
        }
        let mut words = command.iter();
        let program = words.next().cloned().unwrap_or_default();
        suite.add_property(property("command", program));
        let args: Vec<_> = words.map(|word| shell_words::quote(word)).collect();
        suite.add_property(property("args", args.join(" ")));
        for (name, value) in environment {
            suite.add_property(property(&format!("output-env:{name}"), value.clone()));
        }
    }
}
