//! Services: each key, and each mistake with its place.

use super::*;
use crate::config::{Placeholder, Service, ServiceScope, StopSignal};
use expect_test::expect;
use std::time::Duration;

const RULE: &str = "[[profile.default.scripts]]\nfilter = 'all()'\nservice = 's'\n";

/// Checks the message about a line of the service `s`, which a rule names.
#[track_caller]
fn service_error(line: &str, expected: Expect) {
    error(&format!("[scripts.service.s]\n{line}\n{RULE}"), expected);
}

#[track_caller]
fn service(lines: &str) -> Arc<Service> {
    let text = format!("[scripts.service.s]\n{lines}\n{RULE}");
    let (config, warnings) = parse(&text).expect("the configuration is right");
    assert_eq!(warnings, [], "{text}");
    Arc::clone(&config.scripts.service[0])
}

#[test]
fn every_key_of_a_service_is_read() {
    let all = service(
        "command = ['a', '{port}', '{port:admin}', '${port:shell}']\nscope = 'binary'\n\
         env = { URL = '{dir}' }\nstop-signal = 'SIGINT'\ngrace-period = '3s'\n\
         ready = { line = '^up$', port = 'localhost:{port}', path = 'x', command = 'true', \
         timeout = '5s', interval = '7ms' }\n\
         junit = { store-success-output = false, store-failure-output = false }",
    );
    assert_eq!(all.scope, ServiceScope::Binary);
    assert_eq!(all.stop_signal, StopSignal::Int);
    assert_eq!(all.grace_period, Duration::from_secs(3));
    assert_eq!(all.ready.port.as_deref(), Some("localhost:{port}"));
    assert_eq!(all.ready.timeout, Duration::from_secs(5));
    assert_eq!(all.ready.interval, Duration::from_millis(7));
    assert!(all.ready.line.is_some() && all.ready.command.is_some());
    assert!(!all.junit_success && !all.junit_failure);
    let used: Vec<_> = all.placeholders().into_iter().collect();
    let ports = [None, Some("admin".to_owned())].map(Placeholder::Port);
    assert_eq!(used, [&ports[..], &[Placeholder::Dir]].concat());
}

#[test]
fn a_service_needs_a_command_only() {
    let least = service("command = 'a'");
    assert_eq!(least.scope, ServiceScope::Run);
    assert_eq!(least.stop_signal, StopSignal::Term);
    assert_eq!(least.grace_period, Duration::from_secs(10));
    assert!(least.ready.line.is_none() && least.placeholders().is_empty());
}

#[test]
fn a_service_is_checked() {
    service_error("", expect!["1:1: `scripts.service.s` lacks `command`"]);
    service_error(
        "command = 'a'\nteardown = 'b'",
        expect![
            "3:1: `scripts.service.s.teardown` is unknown; known keys: `command`, `scope`, `ready`, `env`, `stop-signal`, `grace-period`, `junit`"
        ],
    );
    service_error(
        "command = 'a'\nscope = 'test'",
        expect![
            "3:9: `scripts.service.s.scope` must be one of `run`, `group`, `binary`, not `test`"
        ],
    );
    service_error(
        "command = 'a'\nstop-signal = 'TERM'",
        expect![
            "3:15: `scripts.service.s.stop-signal` must be one of `SIGTERM`, `SIGINT`, `SIGQUIT`, `SIGHUP`, `SIGKILL`, not `TERM`"
        ],
    );
    service_error(
        "command = 'a'\ngrace-period = 3",
        expect![[
            r#"3:16: `scripts.service.s.grace-period` must be a duration such as `"1m 30s"`, but is the integer 3; write `"3s"` for seconds"#
        ]],
    );
    service_error(
        "command = 'a'\nready = 'up'",
        expect![[r#"3:9: `scripts.service.s.ready` must be a table, but is the string "up""#]],
    );
    service_error(
        "command = 'a'\nready = {}",
        expect![
            "3:9: `scripts.service.s.ready` says nothing: it needs `line`, `port`, `path` or `command`"
        ],
    );
    service_error(
        "command = 'a'\nready = { socket = 'x' }",
        expect![
            "3:11: `scripts.service.s.ready.socket` is unknown; known keys: `line`, `port`, `path`, `command`, `timeout`, `interval`"
        ],
    );
    service_error(
        "command = 'a'\nready = { line = '(' }",
        expect!["3:18: `scripts.service.s.ready.line` is not a regular expression: unclosed group"],
    );
    service_error(
        "command = 'a'\nready = { port = 0 }",
        expect![
            "3:18: `scripts.service.s.ready.port` is not a port: it must be a number from 1 to 65535 or `{port}`, with a host and `:` before it if it is not on 127.0.0.1"
        ],
    );
    service_error(
        "command = 'a'\nready = { port = ':80' }",
        expect![
            "3:18: `scripts.service.s.ready.port` is not a port: it must be a number from 1 to 65535 or `{port}`, with a host and `:` before it if it is not on 127.0.0.1"
        ],
    );
    service_error(
        "command = 'a'\nready = { port = true }",
        expect![
            "3:18: `scripts.service.s.ready.port` must be a number or a string, but is the boolean true"
        ],
    );
    service_error(
        "command = 'a'\nready = { path = '' }",
        expect!["3:18: `scripts.service.s.ready.path` is not a path"],
    );
    service_error(
        "command = 'a'\nready = { path = 'x', timeout = '0s' }",
        expect!["3:33: `scripts.service.s.ready.timeout` must be longer than zero"],
    );
    service_error(
        "command = 'a'\nenv = { HARNESS_X = '1' }",
        expect![
            "3:21: `scripts.service.s.env.HARNESS_X` cannot be set: names that begin with `HARNESS_` are the runner's own"
        ],
    );
}

#[test]
fn a_rule_names_services_that_there_are() {
    let declared = "[scripts.service.db]\ncommand = 'a'\n[scripts.setup.s]\ncommand = 'a'\n";
    let rule = "[[profile.default.scripts]]\nfilter = 'all()'\n";
    error(
        &format!("{declared}{rule}service = 'dbb'\n"),
        expect![
            "7:11: `profile.default.scripts[0].service` names the service `dbb`, which does not exist (did you mean `db`?); known: `db`"
        ],
    );
    error(
        &format!("{declared}{rule}service = ['db', 's']\n"),
        expect![
            "7:18: `profile.default.scripts[0].service[1]` must name a service, and `s` is a setup script (3:16)"
        ],
    );
    warnings(
        "[scripts.service.db]\ncommand = 'a'\n",
        expect!["1:18: the service `db` never runs, because no rule of a profile names it"],
    );
}
