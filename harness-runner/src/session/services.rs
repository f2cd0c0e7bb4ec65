//! The services of a session: what they are as processes, and what the runner chooses for each.

use super::Session;
use crate::{
    config::{Placeholder, ScriptCommand, Service, ServiceScope, filled, settings::TestSettings},
    list::ListedBinary,
    plan::PlannedTest,
    run,
};
use harness_metadata::event::{OutputPolicy, OutputWhen};
use std::{collections::BTreeMap, io, net::TcpListener, path::PathBuf, sync::Arc};
use tempfile::TempDir;

/// The host of a port that is given without one.
const HOST: &str = "127.0.0.1";

/// The ports and the folder that the runner chose for an instance of a service.
#[derive(Default)]
struct Chosen {
    values: BTreeMap<Placeholder, String>,
    reserved: Vec<TcpListener>,
    folder: Option<TempDir>,
}

impl Chosen {
    fn new(service: &Service) -> io::Result<Self> {
        let mut chosen = Self::default();
        for placeholder in service.placeholders() {
            let value = match &placeholder {
                Placeholder::Port(_) => {
                    let listener = TcpListener::bind((HOST, 0))?;
                    let port = listener.local_addr()?.port();
                    chosen.reserved.push(listener);
                    port.to_string()
                }
                Placeholder::Dir => {
                    // A socket in it needs a short path (unix(7)).
                    let folder = tempfile::Builder::new().prefix("harness-svc-").tempdir()?;
                    let path = folder.path().to_string_lossy().into_owned();
                    chosen.folder = Some(folder);
                    path
                }
            };
            chosen.values.insert(placeholder, value);
        }
        Ok(chosen)
    }

    fn fill(&self, text: &str) -> String {
        filled(text, |placeholder| {
            self.values.get(&placeholder).cloned().unwrap_or_default()
        })
    }

    fn fill_command(&self, command: &ScriptCommand) -> ScriptCommand {
        let fill = |text: &String| self.fill(text);
        let env = command.env.iter();
        ScriptCommand {
            program: fill(&command.program),
            args: command.args.iter().map(fill).collect(),
            relative_to: command.relative_to,
            env: env
                .map(|(name, value)| (name.clone(), fill(value)))
                .collect(),
        }
    }

    /// Returns the variables that say what was chosen, with the names that begin with this.
    fn variables(&self, prefix: &str) -> BTreeMap<String, String> {
        let values = self.values.iter().map(|(placeholder, value)| {
            let end = match placeholder {
                Placeholder::Port(None) => "PORT".to_owned(),
                Placeholder::Port(Some(name)) => format!("PORT_{}", in_capitals(name)),
                Placeholder::Dir => "DIR".to_owned(),
            };
            (format!("{prefix}_{end}"), value.clone())
        });
        values.collect()
    }
}

fn in_capitals(name: &str) -> String {
    let capital = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_uppercase(),
        false => '_',
    };
    name.chars().map(capital).collect()
}

impl Session {
    /// Returns the instances of services that tests of the plan want, and for each test those that it
    /// wants, as indexes into them. `scripts` are the setup scripts of each test.
    pub(super) fn services(
        &self,
        scripts: &[Vec<usize>],
    ) -> io::Result<(Vec<run::Service>, Vec<Vec<usize>>)> {
        let mut of_tests = vec![Vec::new(); self.plan.tests.len()];
        let mut services = Vec::new();
        for (index, service) in self.profile.services().iter().enumerate() {
            for (instance, tests) in self.instances(index, service.scope) {
                for test in &tests {
                    of_tests[*test].push(services.len());
                }
                let mut own: Vec<usize> = tests
                    .iter()
                    .flat_map(|test| &scripts[*test])
                    .copied()
                    .collect();
                own.sort_unstable();
                own.dedup();
                services.push(self.service(service, instance, tests, own)?);
            }
        }
        Ok((services, of_tests))
    }

    /// Returns the tests that share each instance of a service.
    fn instances(&self, index: usize, scope: ServiceScope) -> Vec<(Option<String>, Vec<usize>)> {
        let wants = |test: &PlannedTest| {
            let mut services = test.scripts.services.iter();
            services.any(|(wanted, _)| *wanted == index)
        };
        let mut instances: Vec<(Option<String>, Vec<usize>)> = Vec::new();
        for (number, test) in self.plan.tests.iter().enumerate() {
            if !wants(test) {
                continue;
            }
            let instance = match scope {
                ServiceScope::Run => None,
                ServiceScope::Group => Some(test.settings.test_group.name().to_owned()),
                ServiceScope::Binary => Some(test.id.binary.to_string()),
            };
            match instances.iter_mut().find(|(known, _)| *known == instance) {
                Some((_, tests)) => tests.push(number),
                None => instances.push((instance, vec![number])),
            }
        }
        instances
    }

    fn service(
        &self,
        service: &Service,
        instance: Option<String>,
        tests: Vec<usize>,
        scripts: Vec<usize>,
    ) -> io::Result<run::Service> {
        let chosen = Chosen::new(service)?;
        let own = chosen.variables("HARNESS_SERVICE");
        let name = in_capitals(&service.name);
        let first = &self.tests.binaries[self.plan.tests[tests[0]].binary];
        let binary = |command: &ScriptCommand| self.service_binary(&chosen, command, first, &own);
        let mut variables = chosen.variables(&format!("HARNESS_SERVICE_{name}"));
        let env = service.env.iter();
        variables.extend(env.map(|(name, value)| (name.clone(), chosen.fill(value))));
        let output = OutputPolicy {
            success: OutputWhen::Never,
            failure: OutputWhen::Immediate,
            junit_success: service.junit_success,
            junit_failure: service.junit_failure,
            junit_flaky_fail_as_failure: true,
        };
        let settings = super::scripts::service_settings(service.grace_period, output);
        let probe = service.ready.command.as_ref().map(|command| {
            let settings = super::scripts::limited(&settings, service.ready.timeout);
            (Arc::<TestSettings>::new(settings), binary(command))
        });
        let root = self.workspace.root().as_std_path();
        let port = service.ready.port.as_deref().map(|port| {
            let port = chosen.fill(port);
            match port.contains(':') {
                true => port,
                false => format!("{HOST}:{port}"),
            }
        });
        let path = service.ready.path.as_deref();
        Ok(run::Service {
            name: service.name.to_string(),
            instance,
            binary: binary(&service.command),
            settings: Arc::new(settings),
            ready: run::ReadyWhen {
                line: service.ready.line.as_ref().map(|line| line.0.clone()),
                port,
                path: path.map(|path| root.join(PathBuf::from(chosen.fill(path)))),
                timeout: service.ready.timeout,
                interval: service.ready.interval,
            },
            probe,
            variables,
            stop_signal: service.stop_signal.number(),
            scripts,
            tests,
            reserved: chosen.reserved,
            folder: chosen.folder,
        })
    }

    fn service_binary(
        &self,
        chosen: &Chosen,
        command: &ScriptCommand,
        first: &ListedBinary,
        own: &BTreeMap<String, String>,
    ) -> run::Binary {
        let mut binary = self.script_binary(&chosen.fill_command(command), first);
        for (name, value) in own {
            binary.environment.set(name, value);
        }
        binary
    }
}
