//! Setup scripts and services: suites of their own.

use super::{Junit, Schema, case, property};
use crate::report::Outputs;
use harness_metadata::{
    TestId,
    event::{ScriptFinished, ServiceFinished},
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
        let mut case = self
            .cases
            .finished(&crate::report::script::as_test(finished), outputs);
        if let Some(problem) = &finished.problem {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            let problem = case::legal(problem);
            status
                .set_type("setup script failure")
                .set_message(problem.clone())
                .set_description(problem);
            case.status = status;
        }
        let (command, environment) = (&finished.command, &finished.environment);
        self.add_command(&finished.test, command, environment);
        let started = finished.attempt.started_at;
        let took = chrono::TimeDelta::from_std(finished.attempt.elapsed).unwrap_or_default();
        self.add(&finished.test, case, Some((started, started + took)))
    }

    /// Adds a service: a test case of a suite of its own.
    pub(super) fn service(
        &mut self,
        finished: &ServiceFinished,
        outputs: &dyn Outputs,
    ) -> io::Result<()> {
        let mut case = (self.cases).finished(&crate::report::service::as_test(finished), outputs);
        if let Some(problem) = crate::report::service::problem(finished) {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            let problem = case::legal(&problem);
            status
                .set_type("service failure")
                .set_message(problem.clone())
                .set_description(problem);
            case.status = status;
        }
        let (command, environment) = (&finished.command, &finished.environment);
        self.add_command(&finished.test, command, environment);
        let started = finished.attempt.started_at;
        let took = chrono::TimeDelta::from_std(finished.attempt.elapsed).unwrap_or_default();
        self.add(&finished.test, case, Some((started, started + took)))
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
