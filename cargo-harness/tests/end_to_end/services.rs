//! Services: what runs beside the tests that want it.

use crate::{
    environment::installed,
    scene::{Finished, Scene, skip, wait_until},
};
use harness_metadata::{Event, EventKind, exit_code};
use nix::{sys::signal::Signal, unistd::geteuid};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(120);

/// Answers `pong` to each line at a port, and says what it got.
const SERVER: &str = r#"$|=1; $s = IO::Socket::INET->new(LocalAddr=>"127.0.0.1", LocalPort=>$ARGV[0], Listen=>9) or die "$!"; print "listening\n"; while ($c = $s->accept) { $l = <$c>; print "got $l" if $l; print $c "pong\n" if $l; close $c }"#;

/// Two tests: one that talks to the server, and one that must not know it.
const TESTS: &str = r#"
use std::io::{BufRead, BufReader, Write};
#[test] fn net_talks() {
    let url = std::env::var("URL").expect("the service says where it is");
    assert_eq!(url.rsplit(':').next().unwrap(), std::env::var("HARNESS_SERVICE_ECHO_PORT").unwrap());
    let mut server = std::net::TcpStream::connect(url).expect("it is ready");
    server.write_all(b"hello\n").unwrap();
    let mut line = String::new();
    BufReader::new(server).read_line(&mut line).unwrap();
    assert_eq!(line, "pong\n");
    assert!(std::env::var("FAIL").is_err(), "as it was asked to");
}
#[test] fn plain() { assert!(std::env::var("URL").is_err()); }
"#;

fn echo() -> String {
    format!(
        "[scripts.service.echo]\n\
         command = ['perl', '-MIO::Socket::INET', '-e', '{SERVER}', '{{port}}']\n\
         ready = {{ port = '{{port}}' }}\n\
         env = {{ URL = '127.0.0.1:{{port}}' }}\n\
         [scripts.service.unwanted]\n\
         command = 'sh -c \"touch unwanted\"'\n\
         [[profile.default.scripts]]\n\
         filter = 'test(/^net_/)'\n\
         service = 'echo'\n\
         [[profile.default.scripts]]\n\
         filter = 'test(=there_is_none)'\n\
         service = 'unwanted'\n"
    )
}

/// A package with these tests and this configuration.
fn package(scene: &Scene, tests: &str, config: &str) -> PathBuf {
    let package = scene.package("served", tests);
    scene.write("served/.config/harness.toml", config);
    package
}

fn log(package: &Path) -> String {
    fs::read_to_string(package.join("log")).unwrap_or_default()
}

fn run(scene: &Scene, package: &Path) -> Finished {
    scene.run(scene.harness_in(package, &["run"]))
}

fn events(path: &Path) -> Vec<EventKind> {
    let text = fs::read_to_string(path).expect("the events were written");
    let event = |line: &str| {
        serde_json::from_str::<Event>(line)
            .expect("it is an event")
            .kind
    };
    text.lines().map(event).collect()
}

#[test]
fn a_service_on_a_free_port_serves_the_tests_that_want_it_and_is_ended() {
    let scene = Scene::new();
    let package = package(&scene, TESTS, &echo());
    let (junit, written) = (scene.path("junit.xml"), scene.path("events"));
    let args = ["run", "--junit", junit.to_str().unwrap(), "--events"];
    let args = [&args[..], &[written.to_str().unwrap()]].concat();
    let run = scene.run(scene.harness_in(&package, &args));
    run.assert_code(exit_code::OK)
        .assert_says("SERVICE [")
        .assert_says("SVC READY [")
        .assert_says("2 tests run: 2 passed");
    assert!(!package.join("unwanted").exists());
    let junit = fs::read_to_string(junit).expect("the report was written");
    for part in [
        r#"<testsuite name="@service:echo" tests="1""#,
        r#"<property name="command" value="perl"/>"#,
        r#"<property name="output-env:URL" value="127.0.0.1:"#,
        "<system-out>listening\ngot hello\n</system-out>",
    ] {
        assert!(junit.contains(part), "{part}\n{junit}");
    }
    let kinds = events(&written);
    let place = |is: fn(&EventKind) -> bool| kinds.iter().position(is).expect("it is among them");
    let order = [
        place(|kind| matches!(kind, EventKind::ServiceStarted(_))),
        place(|kind| matches!(kind, EventKind::ServiceReady(it) if it.environment.len() == 2)),
        place(
            |kind| matches!(kind, EventKind::AttemptStarted(it) if it.test.name.as_str() == "net_talks"),
        ),
        place(|kind| matches!(kind, EventKind::ServiceFinished(it) if it.problem.is_none())),
        place(|kind| matches!(kind, EventKind::RunFinished(_))),
    ];
    assert!(order.is_sorted(), "{order:?}");
    scene.assert_no_strays();
}

#[test]
fn a_failed_test_says_what_its_service_wrote_last() {
    let scene = Scene::new();
    let package = package(&scene, TESTS, &echo());
    let mut command = scene.harness_in(&package, &["run"]);
    command.env("FAIL", "1");
    scene
        .run(command)
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("it used the service `echo`, which wrote last: listening ⏎ got hello");
}

/// A service that says when it is asked to end, in the words of a shell.
fn shell(body: &str, rest: &str) -> String {
    format!(
        "[scripts.service.s]\n\
         command = ['sh', '-c', '''{body}''']\n{rest}\n\
         [[profile.default.scripts]]\nfilter = 'test(/^s_/)'\nservice = 's'\n"
    )
}

const LIVES: &str = r#"trap 'echo stopped >> log; exit 0' TERM; echo up >> log; echo ready; while :; do sleep 0.05; done"#;

#[test]
fn a_line_a_path_and_a_command_make_a_service_ready() {
    let scene = Scene::new();
    let tests =
        r#"#[test] fn s_sees() { assert_eq!(std::env::var("WRITTEN").as_deref(), Ok("x")); }"#;
    let body =
        r#"sleep 0.2; echo "WRITTEN=x" >> $HARNESS_ENV; echo ready; touch {dir}/there; sleep 1000"#;
    let rest = "ready = { line = '^ready$', path = '{dir}/there', interval = '10ms', \
                command = ['sh', '-c', 'echo probed >> log; test -e \"$HARNESS_SERVICE_DIR/there\"'] }";
    let package = package(&scene, tests, &shell(body, rest));
    run(&scene, &package).assert_code(exit_code::OK);
    assert_eq!(log(&package), "probed\n");
    scene.assert_no_strays();
}

#[test]
fn a_running_service_is_prepared_before_its_tests_and_cleaned_up_after_its_end() {
    let scene = Scene::new();
    let tests = "#[test] fn s_a() {
        let log = std::fs::read_to_string(\"log\").unwrap();
        assert!(log.ends_with(\"failed\\nprepared\\n\"), \"{log}\");
    }";
    let prepare = "test -e tried && { echo prepared >> log; exit 0; }; \
                   touch tried; echo failed >> log; exit 1";
    let rest = format!(
        "ready = {{ line = '^ready$', interval = '10ms', command = ['sh', '-c', '{prepare}'] }}\n\
         [scripts.setup.clean]\ncommand = 'true'\n\
         teardown = ['sh', '-c', 'echo cleaned >> log']\n\
         [[profile.default.scripts]]\nfilter = 'test(/^s_/)'\nsetup = 'clean'\n"
    );
    let package = package(&scene, tests, &shell(LIVES, &rest));
    run(&scene, &package).assert_code(exit_code::OK);
    assert_eq!(log(&package), "up\nfailed\nprepared\nstopped\ncleaned\n");
}

#[test]
fn a_test_waits_for_its_own_services_only() {
    let scene = Scene::new();
    // The service is ready once the other test has run.
    let tests = r#"
        #[test] fn s_waits() { assert!(std::path::Path::new("done").exists()); }
        #[test] fn t_does() { std::fs::write("done", "").unwrap(); }
    "#;
    let package = package(
        &scene,
        tests,
        &shell("sleep 1000", "ready = { path = 'done' }"),
    );
    scene
        .run(scene.harness_in(&package, &["run", "-j1"]))
        .assert_code(exit_code::OK);
}

#[test]
fn a_service_that_is_never_ready_ends_the_run_with_105_and_says_why() {
    let scene = Scene::new();
    let tests = "#[test] fn s_a() {}\n#[test] fn s_b() {}";
    let rest = "ready = { line = 'at your service', timeout = '300ms' }";
    let body = "echo still at it; sleep 1000";
    let package = package(&scene, tests, &shell(body, rest));
    run(&scene, &package)
        .assert_code(exit_code::SETUP_SCRIPT_FAILED)
        .assert_says("SVC FAIL")
        .assert_says(
            "`s` was not ready after 300ms: no line of its output matched `at your service`",
        )
        .assert_says("still at it")
        .assert_says("2/2 tests were not run due to")
        .assert_says("error: service `s` failed");
    scene.write(
        "served/.config/harness.toml",
        &shell("sleep 1000", "ready = { port = 1, timeout = '300ms' }"),
    );
    run(&scene, &package)
        .assert_code(exit_code::SETUP_SCRIPT_FAILED)
        .assert_says("300ms: nothing accepts connections at `127.0.0.1:1`: Connection refused");
    scene.write(
        "served/.config/harness.toml",
        &shell(
            "sleep 1000",
            "ready = { command = 'false', timeout = '300ms' }",
        ),
    );
    run(&scene, &package)
        .assert_code(exit_code::SETUP_SCRIPT_FAILED)
        .assert_says("300ms: its `ready.command` ended with exit code 1");
    scene.write(
        "served/.config/harness.toml",
        &shell("echo why >&2; exit 3", "ready = { path = 'never' }"),
    );
    run(&scene, &package)
        .assert_code(exit_code::SETUP_SCRIPT_FAILED)
        .assert_says("`s` ended with exit code 3 before it was ready")
        .assert_says("why");
    scene.assert_no_strays();
}

#[test]
fn variables_that_no_environment_can_take_fail_the_service() {
    let scene = Scene::new();
    let tests = "#[test] fn s_a() {}";
    let body = "echo wrong >> $HARNESS_ENV; echo ready; sleep 1000";
    let package = package(&scene, tests, &shell(body, "ready = { line = 'ready' }"));
    run(&scene, &package)
        .assert_code(exit_code::SETUP_SCRIPT_FAILED)
        .assert_says("line 1 of `$HARNESS_ENV` is not of the form `NAME=VALUE`: \"wrong\"");
}

#[test]
fn a_service_that_ends_too_early_fails_what_wants_it_and_nothing_else() {
    let scene = Scene::new();
    let tests = r#"
        #[test] fn s_a() {
            std::fs::write("crash", "").unwrap();
            loop { std::thread::sleep(std::time::Duration::from_secs(1)); }
        }
        #[test] fn s_b() {}
        #[test] fn t_other() {}
    "#;
    let body = "echo ready; while ! test -e crash; do sleep 0.01; done; echo oh no; exit 7";
    let package = package(&scene, tests, &shell(body, "ready = { line = 'ready' }"));
    let args = ["run", "-j1", "--no-fail-fast"];
    scene
        .run(scene.harness_in(&package, &args))
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("`s` ended with exit code 7 while tests wanted it")
        .assert_says("SVC-LOST")
        .assert_says("its service `s` ended with exit code 7 while tests wanted it, which wrote")
        .assert_says("which wrote last: ready ⏎ oh no")
        .assert_says("3 tests run: 1 passed, 1 failed, 1 exec failed");
    scene.assert_no_strays();
}

#[test]
fn a_binary_and_a_group_have_instances_of_their_own() {
    let scene = Scene::new();
    let tests = "#[test] fn s_a() {}\n#[test] fn s_b() {}\n#[test] fn s_c() {}";
    let body = "echo \"$HARNESS_SERVICE_DIR\" >> log; echo ready; sleep 1000";
    let rest = |scope: &str| {
        format!("scope = '{scope}'\nready = {{ line = 'ready' }}\nenv = {{ AT = '{{dir}}' }}")
    };
    let package = package(&scene, tests, &shell(body, &rest("binary")));
    scene.write("served/tests/more.rs", tests);
    run(&scene, &package)
        .assert_code(exit_code::OK)
        .assert_says("s for served::more")
        .assert_says("6 tests run: 6 passed");
    let folders = |package: &Path| {
        let text = log(package);
        let folders: std::collections::BTreeSet<_> = text.lines().map(str::to_owned).collect();
        assert!(folders.iter().all(|folder| !Path::new(folder).exists()));
        (text.lines().count(), folders.len())
    };
    assert_eq!(folders(&package), (2, 2));
    fs::remove_file(package.join("log")).unwrap();
    let groups = "[test-groups]\none = { max-threads = 1 }\n\
                  [[profile.default.overrides]]\nfilter = 'test(=s_a)'\ntest-group = 'one'\n";
    let config = format!("{groups}{}", shell(body, &rest("group")));
    scene.write("served/.config/harness.toml", &config);
    run(&scene, &package).assert_code(exit_code::OK);
    assert_eq!(folders(&package), (2, 2));
}

#[test]
fn a_service_that_ignores_its_signal_is_killed_with_all_that_it_has() {
    let scene = Scene::new();
    let body = "trap '' TERM; echo ready; setsid sleep 1000 & sleep 1000";
    let rest = "ready = { line = 'ready' }\ngrace-period = '200ms'";
    let package = package(&scene, "#[test] fn s_a() {}", &shell(body, rest));
    run(&scene, &package)
        .assert_code(exit_code::OK)
        .assert_says("SVC KILLED");
    scene.assert_no_strays();
}

/// A test that waits until its file is gone.
const WAITS: &str = r#"
#[test] fn s_waits() {
    std::fs::write("waiting", "").unwrap();
    while std::path::Path::new("waiting").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
"#;

fn waits(scene: &Scene) -> PathBuf {
    let body = format!("mkdir {{dir}}/kept; echo {{dir}} > folder; {LIVES}");
    package(scene, WAITS, &shell(&body, "ready = { line = 'ready' }"))
}

fn folder_is_gone(package: &Path) -> bool {
    let folder = fs::read_to_string(package.join("folder")).expect("it was written");
    !Path::new(folder.trim()).exists()
}

#[test]
fn ctrl_c_ends_services_by_their_signal() {
    let scene = Scene::new();
    let package = waits(&scene);
    let run = scene.start(scene.harness_in(&package, &["run"]));
    wait_until(LIMIT, || package.join("waiting").exists().then_some(())).expect("it waits");
    run.signal(Signal::SIGINT);
    run.finish().assert_code(exit_code::ended_by(2));
    assert_eq!(log(&package), "up\nstopped\n");
    assert!(folder_is_gone(&package));
    scene.assert_no_strays();
}

#[test]
fn a_service_that_starts_is_ended_by_ctrl_c() {
    let scene = Scene::new();
    let package = package(&scene, WAITS, &shell(LIVES, "ready = { path = 'never' }"));
    let run = scene.start(scene.harness_in(&package, &["run"]));
    wait_until(LIMIT, || (log(&package) == "up\n").then_some(())).expect("it starts");
    run.signal(Signal::SIGINT);
    run.finish().assert_code(exit_code::ended_by(2));
    assert_eq!(log(&package), "up\nstopped\n");
    scene.assert_no_strays();
}

#[test]
fn the_services_of_a_killed_runner_end_by_their_signal() {
    let scene = Scene::new();
    let package = waits(&scene);
    let run = scene.start(scene.harness_in(&package, &["run"]));
    wait_until(LIMIT, || package.join("waiting").exists().then_some(())).expect("it waits");
    run.signal(Signal::SIGKILL);
    run.finish();
    wait_until(LIMIT, || (log(&package) == "up\nstopped\n").then_some(())).expect("it is ended");
    wait_until(LIMIT, || folder_is_gone(&package).then_some(())).expect("nothing is left");
    wait_until(LIMIT, || scene.strays().is_empty().then_some(())).expect("nothing is left");
}

#[test]
fn the_time_limit_of_the_run_ends_services() {
    let scene = Scene::new();
    let config = shell(LIVES, "ready = { line = 'ready' }");
    let config = format!("{config}\n[profile.default]\nglobal-timeout = '2s'\n");
    let package = package(&scene, WAITS, &config);
    run(&scene, &package).assert_code(exit_code::GLOBAL_TIMEOUT);
    assert_eq!(log(&package), "up\nstopped\n");
    scene.assert_no_strays();
}

#[test]
fn a_service_has_the_variables_of_setup_scripts_and_ends_before_their_teardown() {
    let scene = Scene::new();
    let config = r#"
        [scripts.setup.first]
        command = ["sh", "-c", 'echo "FROM=setup" >> "$HARNESS_ENV"; echo setup >> log']
        teardown = ["sh", "-c", 'echo teardown >> log']
        [[profile.default.scripts]]
        filter = 'all()'
        setup = 'first'
    "#;
    let body = format!("echo \"$FROM\" >> log; {LIVES}");
    let config = format!("{config}\n{}", shell(&body, "ready = { line = 'ready' }"));
    let package = package(&scene, "#[test] fn s_a() {}", &config);
    run(&scene, &package).assert_code(exit_code::OK);
    assert_eq!(log(&package), "setup\nsetup\nup\nstopped\nteardown\n");
}

#[test]
fn scripts_and_services_run_as_another_user() {
    const NAME: &str = "scripts_and_services_run_as_another_user";
    const NOBODY: [&str; 9] = [
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        // The toolchain may be in another user's home.
        "--inh-caps",
        "-all,+dac_read_search",
        "--ambient-caps",
        "-all,+dac_read_search",
    ];
    if !geteuid().is_root() || !installed("setpriv", &["--version"]) {
        return skip(NAME, "only root, with setpriv, can become another user");
    }
    let scene = Scene::new();
    let config = r#"
        [scripts.setup.first]
        command = ["sh", "-c", 'echo "setup $(id -u)" >> log; sleep 1000 &']
        teardown = ["sh", "-c", 'echo "teardown $(id -u)" >> log']
        [[profile.default.scripts]]
        filter = 'all()'
        setup = 'first'
    "#;
    let body = format!("touch {{dir}}/own; {LIVES}");
    let config = format!("{config}\n{}", shell(&body, "ready = { line = 'ready' }"));
    let package = package(&scene, "#[test] fn s_a() {}", &config);
    scene
        .run(scene.harness_in(&package, &["list"]))
        .assert_code(exit_code::OK);
    let mut open = scene.command("chmod");
    open.args(["-R", "a+rwX"]).arg(scene.path(""));
    scene.run(open).assert_code(0);
    let as_nobody = |what: &str| {
        let command = scene.harness_in(&package, &[what]);
        let mut command = scene.wrapped(&command, "setpriv", &NOBODY);
        command
            .env("HOME", scene.path(""))
            .env("CARGO_HOME", scene.path("cargo-home"));
        scene.run(command)
    };
    if !as_nobody("list").status.success() {
        return skip(NAME, "another user cannot use cargo");
    }
    as_nobody("run").assert_code(exit_code::OK);
    let lines = "setup 65534\nup\nstopped\nteardown 65534\n";
    assert_eq!(log(&package), lines);
    scene.assert_no_strays();
}

#[test]
fn the_services_of_a_test_are_shown_with_their_rules() {
    let scene = Scene::new();
    let package = package(&scene, TESTS, &echo());
    let shown = scene.run(scene.harness_in(&package, &["show-config", "test", "net_talks"]));
    shown.assert_code(exit_code::OK);
    for part in [
        r#"service = "echo""#,
        "`scripts[0]` of profile `default` (filter `test(/^net_/)`)",
    ] {
        assert!(shown.stdout.contains(part), "{part}\n{}", shown.stdout);
    }
}
