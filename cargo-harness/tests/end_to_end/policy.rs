//! Policies: files, programs and other processes that tests may use, as root and as another user.
//!
//! A kernel without Landlock refuses to start the tests of an enforced policy; the tests here look at that then.

mod hostile;
mod peers;
mod suite;

use crate::{
    nobody::Nobody,
    scene::{Finished, Scene, skip},
};
use fixture_kit::results::last_attempts;
use harness_metadata::{Attempt, Outcome, PolicyMode, Verdict, exit_code};
use hostile::HOSTILE;
use std::{
    collections::BTreeMap,
    fs,
    net::{TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    path::PathBuf,
    process::Command,
};
use suite::SUITE;

const POLICY: &str = "[profile.default]\nfail-fast = false\n\
    [profile.default.policy]\nmode = 'enforce'\nipc = []\n\
    fs.read = ['workspace', 'target', 'tmp', 'toolchain', 'system']\n\
    fs.write = ['target', 'tmp']\n\
    fs.exec = ['target', 'toolchain', 'system']\n\
    [profile.audit]\n[profile.audit.policy]\nmode = 'audit'\n\
    [profile.observe]\n[profile.observe.policy]\nmode = 'observe'\n\
    [profile.strict]\ntrace.no-new-privs = false\n\
    [profile.tight]\n[profile.tight.policy]\nfs.read = ['workspace']\n";

/// All tests but one that asserts a denial.
const HARMLESS: &str = "not test(ends_a_process_outside)";

struct Suite {
    scene: Scene,
    package: PathBuf,
    /// Listens at an abstract name.
    _outside: UnixListener,
}

impl Suite {
    fn of(tests: &str) -> Self {
        let scene = Scene::new();
        scene.write("suite/.config/harness.toml", POLICY);
        scene.write("suite/data.txt", "data");
        scene.write("home/secret", "secret");
        scene.write("tmp/.keep", "");
        let tool = scene.write("home/tool", "#!/bin/sh\nexit 0\n");
        make_executable(&tool);
        scene.write("suite/tests/bounded.rs", tests);
        let package = scene.package("suite", "");
        let name =
            SocketAddr::from_abstract_name(abstract_name(&scene)).expect("it is short enough");
        Self {
            _outside: UnixListener::bind_addr(&name).expect("the name is free"),
            scene,
            package,
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let all = [&["run"], args].concat();
        let mut command = self.scene.harness_in(&self.package, &all);
        command.arg("--events").arg(self.scene.path("events"));
        command.arg("--junit").arg(self.scene.path("junit"));
        command.arg("--html").arg(self.scene.path("html"));
        self.surround(command)
    }

    /// Names the folders: those of the user of the machine are not touched.
    fn surround(&self, mut command: Command) -> Command {
        command.env("TMPDIR", self.scene.path("tmp"));
        command.env("SECRETS", self.scene.path("home"));
        command.env("OUTSIDE", abstract_name(&self.scene));
        command
    }

    /// Makes a program without a loader, if this can be linked here.
    fn make_static_program(&self) {
        let source = "fn main() { let file = std::env::args_os().nth(1).unwrap(); \
                      std::process::exit(i32::from(std::fs::read(file).is_err())) }";
        let source = self.scene.write("suite/target/tmp/static.rs", source);
        let mut rustc = self.scene.command("rustc");
        rustc.args(["-C", "target-feature=+crt-static", "-o"]);
        rustc.arg(source.with_extension("")).arg(source);
        if !self.scene.run(rustc).status.success() {
            skip("static program", "no static program can be linked");
        }
    }

    fn run(&self, args: &[&str]) -> Finished {
        self.scene.run(self.command(args))
    }

    fn attempts(&self) -> BTreeMap<String, Attempt> {
        let attempts = last_attempts(&self.scene).into_iter();
        let name = |name: String| name.rsplit(' ').next().unwrap_or_default().to_owned();
        attempts
            .map(|(test, attempt)| (name(test), attempt))
            .collect()
    }
}

/// Returns a name for a socket that no other scene has.
fn abstract_name(scene: &Scene) -> String {
    scene.path("outside").display().to_string()
}

fn make_executable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

/// Returns whether a policy can be enforced here; if not, the run has said so.
fn enforced(run: &Finished, test: &str) -> bool {
    let refused = run.stderr.contains("its policy cannot be enforced");
    if refused {
        run.assert_code(exit_code::TEST_RUN_FAILED);
        run.assert_says("with `policy.mode = \"audit\"` violations are reported and not denied");
        skip(test, "the kernel has no Landlock that is new enough");
    }
    !refused
}

/// Returns what the violations of an attempt are: the setting, the entry that would allow it, the error.
fn violations(attempt: &Attempt) -> Vec<(&str, &str, Option<i32>)> {
    let policy = attempt.policy.iter();
    let found = policy.flat_map(|policy| &policy.found);
    found.map(|it| (&*it.rule, &*it.allow, it.errno)).collect()
}

const DENIED: Option<i32> = Some(nix::libc::EACCES);

/// `home` is the folder with the secret, as entries have it.
fn assert_as_enforced(suite: &Suite, run: &Finished, home: &str, names_calls: bool) {
    let attempts = suite.attempts();
    let verdict = |test: &str| attempts[test].verdict;
    for test in [
        "uses_what_is_allowed",
        "a_denied_read_may_be_ignored",
        "ends_a_process_outside",
        "connects_to_an_abstract_name_of_its_own",
    ] {
        assert_eq!(verdict(test), Verdict::Pass, "{test}: {}", run.stderr);
    }
    for test in [
        "reads_a_secret",
        "a_grandchild_reads_a_secret",
        "writes_to_the_source",
        "lists_a_folder",
        "runs_a_program",
        "renames_a_source",
        "a_thread_reads_a_secret",
        "connects_to_an_abstract_name_outside",
    ] {
        assert_eq!(verdict(test), Verdict::Fail, "{test}: {}", run.stderr);
    }
    if !names_calls {
        return;
    }
    let secret = suite.scene.path("home/secret");
    let secret = secret.to_str().expect("it is UTF-8");
    let (entry, tool) = (format!("{home}/secret"), format!("{home}/tool"));
    for test in [
        "reads_a_secret",
        "a_thread_reads_a_secret",
        "a_denied_read_may_be_ignored",
    ] {
        let found = violations(&attempts[test]);
        assert_eq!(found, [("policy.fs.read", &*entry, DENIED)], "{test}");
    }
    let by_child = attempts["a_grandchild_reads_a_secret"]
        .policy
        .as_ref()
        .expect("it was denied something");
    assert!(
        by_child.found[0].program.to_string().ends_with("/cat"),
        "{by_child:?}"
    );
    assert_eq!(by_child.mode, PolicyMode::Enforce);
    let found = violations(&attempts["writes_to_the_source"]);
    assert_eq!(found, [("policy.fs.write", "workspace", DENIED)]);
    let found = violations(&attempts["runs_a_program"]);
    assert_eq!(found, [("policy.fs.exec", &*tool, DENIED)]);
    run.assert_says(&format!(
        "`policy.fs.read` denied openat of \"{secret}\" (EACCES) by "
    ));
    run.assert_says(&format!("to allow it, add \"{entry}\""));
    for report in ["junit", "html"] {
        let text = fs::read_to_string(suite.scene.path(report)).expect("it was written");
        // The data of an HTML report are packed.
        let told = report == "html" || text.contains("policy.fs.read` denied openat of");
        assert!(told, "{text}");
    }
}

#[test]
fn a_denied_call_fails_where_it_happens_and_the_report_names_it_at_every_level() {
    let suite = Suite::of(SUITE);
    for level in ["io", "full", "process", "off"] {
        let run = suite.run(&["--trace", level]);
        if !enforced(&run, "policy") {
            return;
        }
        let home = suite.scene.path("home");
        let home = home.to_str().unwrap();
        assert_as_enforced(&suite, &run, home, matches!(level, "io" | "full"));
        assert_eq!(
            run.stderr.contains("policy: "),
            matches!(level, "io" | "full")
        );
    }
}

#[test]
fn a_policy_holds_for_an_unprivileged_user_as_well() {
    let suite = Suite::of(SUITE);
    let command = suite.command(&[
        "--profile",
        "observe",
        "-E",
        "not test(ends_a_process_outside)",
    ]);
    match Nobody::who_can(&suite.scene, &command) {
        Err(why) => skip("unprivileged", &why),
        Ok(nobody) => {
            let command = suite.surround(nobody.wrapped(&suite.scene, &suite.command(&[])));
            let run = suite.scene.run(command);
            if enforced(&run, "unprivileged") {
                assert_as_enforced(&suite, &run, "home/home", true);
            }
            // Without no_new_privs the kernel takes no bounds from a user, and the tests do not run.
            let command = suite.command(&["--profile", "strict"]);
            let command = suite.surround(nobody.wrapped(&suite.scene, &command));
            let run = suite.scene.run(command);
            run.assert_code(exit_code::TEST_RUN_FAILED);
            run.assert_says("its policy cannot be enforced: ");
            let attempts = suite.attempts();
            let mut outcomes = attempts.values().map(|attempt| &attempt.outcome);
            assert!(outcomes.all(|outcome| matches!(outcome, Outcome::StartFailed(_))));
        }
    }
}

#[test]
fn what_cannot_be_denied_fails_the_test_and_says_so() {
    let suite = Suite::of(SUITE);
    let run = suite.run(&["-E", "test(changes_a_mode)"]);
    // As root or as the owner of the file, the kernel lets it happen.
    if enforced(&run, "changes_a_mode") {
        run.assert_code(exit_code::TEST_RUN_FAILED)
            .assert_says("POLICY [");
        run.assert_says("`policy.fs.write` could not deny ");
        run.assert_says("test did what its policy does not allow and could not deny");
        let junit = fs::read_to_string(suite.scene.path("junit")).unwrap();
        assert!(junit.contains("type=\"test policy\""), "{junit}");
    }
}

#[test]
fn an_audit_reports_what_would_be_denied_and_changes_no_result() {
    let suite = Suite::of(SUITE);
    let observed = suite.run(&["--profile", "observe", "-E", HARMLESS]);
    observed.assert_code(exit_code::OK);
    assert!(!observed.stderr.contains("policy: "), "{}", observed.stderr);
    assert!(
        suite
            .attempts()
            .values()
            .all(|attempt| attempt.policy.is_none())
    );

    let audited = suite.run(&["--profile", "audit", "-E", HARMLESS]);
    audited.assert_code(exit_code::OK);
    let attempts = suite.attempts();
    for test in [
        "uses_what_is_allowed",
        "connects_to_an_abstract_name_of_its_own",
    ] {
        assert_eq!(violations(&attempts[test]), [], "{test}");
    }
    for (test, rule) in [
        ("reads_a_secret", "policy.fs.read"),
        ("a_grandchild_reads_a_secret", "policy.fs.read"),
        ("writes_to_the_source", "policy.fs.write"),
        ("runs_a_program", "policy.fs.exec"),
        ("changes_a_mode", "policy.fs.write"),
        ("connects_to_an_abstract_name_outside", "policy.ipc"),
    ] {
        let found = violations(&attempts[test]);
        assert_eq!((found[0].0, found[0].2), (rule, None), "{test}: {found:?}");
    }
    audited.assert_says("`policy.fs.read` does not allow openat of ");
}

#[test]
fn no_way_leads_around_a_policy() {
    let suite = Suite::of(HOSTILE);
    suite.make_static_program();
    let run = suite.run(&[]);
    if !enforced(&run, "hostile") {
        return;
    }
    run.assert_code(exit_code::OK);
    match Nobody::who_can(&suite.scene, &suite.command(&[])) {
        Err(why) => skip("hostile", &why),
        Ok(nobody) => {
            let command = nobody.wrapped(&suite.scene, &suite.command(&[]));
            let run = suite.scene.run(suite.surround(command));
            run.assert_code(exit_code::OK);
        }
    }
}

#[test]
fn a_test_that_cannot_even_load_its_libraries_says_which_entry_is_missing() {
    let suite = Suite::of(SUITE);
    let run = suite.run(&["--profile", "tight", "-E", "test(reads_a_secret)"]);
    if enforced(&run, "tight") {
        let attempts = suite.attempts();
        let attempt = &attempts["reads_a_secret"];
        assert!(
            !matches!(attempt.outcome, Outcome::StartFailed(_)),
            "{attempt:?}"
        );
        let found = violations(attempt);
        assert_eq!(found[0], ("policy.fs.read", "system", DENIED), "{found:?}");
    }
}

#[test]
fn tests_pass_under_the_policy_that_their_traces_give() {
    let suite = Suite::of(SUITE);
    let harness = |args: &[&str]| {
        let command = suite.scene.harness_in(&suite.package, args);
        suite.scene.run(suite.surround(command))
    };
    harness(&["policy", "init"]).assert_code(exit_code::SETUP);
    let observed = suite.run(&["--profile", "observe", "-E", HARMLESS]);
    observed.assert_code(exit_code::OK);

    let learnt = harness(&["policy", "init"]);
    learnt
        .assert_code(exit_code::OK)
        .assert_says("from the last traces of ");
    let policy = &learnt.stdout;
    assert!(
        policy.starts_with("[profile.default.policy]\nmode = \"audit\"\n"),
        "{policy}"
    );
    assert!(
        policy.contains("ipc = [\"abstract-sockets\"]\n"),
        "{policy}"
    );
    assert!(
        policy.contains("\"system\"") && policy.contains("\"tmp\""),
        "{policy}"
    );
    // Few entries for all that loaders, shells and tests do.
    assert!(policy.matches('"').count() < 60, "{policy}");
    let enforced = policy.replace("\"audit\"", "\"enforce\"");
    suite.scene.write("suite/.config/harness.toml", &enforced);
    let run = suite.run(&["-E", HARMLESS]);
    if self::enforced(&run, "learnt") {
        run.assert_code(exit_code::OK);
        assert!(!run.stderr.contains("policy: "), "{}", run.stderr);
    }
}

#[test]
fn a_check_names_what_would_be_denied_of_the_last_traces() {
    let suite = Suite::of(SUITE);
    let observed = suite.run(&["--profile", "observe", "-E", HARMLESS]);
    observed.assert_code(exit_code::OK);
    let check = |args: &[&str]| {
        let args = [&["policy", "check"], args].concat();
        let command = suite.scene.harness_in(&suite.package, &args);
        suite.scene.run(suite.surround(command))
    };
    let all = check(&[]);
    all.assert_code(exit_code::OK)
        .assert_says("2 tests keep to the policy in the last trace");
    let secret = suite.scene.path("home/secret").display().to_string();
    assert!(
        all.stdout.contains("suite::bounded reads_a_secret\n"),
        "{}",
        all.stdout
    );
    let line = format!("    policy.fs.read: openat of {secret} at ");
    assert!(all.stdout.contains(&line), "{}", all.stdout);
    let one = check(&["--json", "-E", "test(writes_to_the_source)"]);
    one.assert_code(exit_code::OK);
    let json: serde_json::Value =
        serde_json::from_str(one.stdout.lines().next().expect("it has a violation"))
            .expect("it is JSON");
    assert_eq!(json["violation"]["rule"], "policy.fs.write");
    assert_eq!(json["violation"]["allow"], "workspace");
}

#[test]
fn peers_outside_are_denied_unless_a_rule_allows_them() {
    let suite = Suite::of(peers::PEERS);
    let (tcp, udp) = (
        TcpListener::bind("127.0.0.1:0"),
        UdpSocket::bind("127.0.0.1:0"),
    );
    let (tcp, udp) = (tcp.expect("a port is free"), udp.expect("a port is free"));
    let socket = suite.scene.path("tmp/outside.sock");
    let _server = UnixListener::bind(&socket).expect("the path is free");
    let ports = [tcp.local_addr(), udp.local_addr()].map(|at| at.expect("it is bound").port());
    let [tcp_port, udp_port] = ports;
    let run = |profile: &str, level: &str, expected: &str, nobody: Option<&Nobody>| {
        let command = suite.command(&["--profile", profile, "--trace", level]);
        let mut command = match nobody {
            Some(nobody) => suite.surround(nobody.wrapped(&suite.scene, &command)),
            None => command,
        };
        command.env("EXPECT", expected).env("SOCKET", &socket);
        command
            .env("TCP", tcp_port.to_string())
            .env("UDP", udp_port.to_string());
        command
    };
    let rules = format!(
        "[profile.default]\nfail-fast = false\n[profile.closed.policy]\nmode = 'enforce'\nnet = []\n\
         [profile.audit.policy]\nmode = 'audit'\nnet = []\n\
         [profile.open.policy]\nmode = 'enforce'\nnet = [{{ address = '127.0.0.0/8', port = {tcp_port} }}, \
         {{ action = 'deny', address = '127.0.0.9' }}, {{ host = 'localhost', port = '{udp_port}-{udp_port}' }}, \
         {{ unix = '/**/outside.*' }}]\n"
    );
    suite.scene.write("suite/.config/harness.toml", &rules);
    for level in ["io", "full"] {
        let denied = suite.scene.run(run("closed", level, "denied", None));
        denied.assert_code(exit_code::OK);
        denied.assert_says(&format!(
            "`policy.net` denied connect of \"127.0.0.1:{tcp_port}\" (EACCES) by "
        ));
        denied.assert_says(&format!(
            "add {{ address = \"127.0.0.1\", port = {tcp_port} }}"
        ));
        assert_eq!(violations(&suite.attempts()["within_its_own_tree"]), []);
        suite
            .scene
            .run(run("open", level, "reached", None))
            .assert_code(exit_code::OK);
    }
    let audited = suite.scene.run(run("audit", "io", "reached", None));
    audited.assert_code(exit_code::OK);
    let attempts = suite.attempts();
    let unix = format!("{{ unix = {:?} }}", socket.display().to_string());
    let found = violations(&attempts["by_a_unix_socket"]);
    assert_eq!(found, [("policy.net", &*unix, None)]);
    assert_eq!(violations(&attempts["by_tcp_in_a_grandchild"]).len(), 1);

    // Without a tracer nothing would be denied, so nothing runs.
    for level in ["process", "off"] {
        let refused = suite.scene.run(run("closed", level, "reached", None));
        refused.assert_code(exit_code::TEST_RUN_FAILED);
        refused.assert_says("`policy.net` needs `trace` from level `io` on");
        let outcomes = suite
            .attempts()
            .into_values()
            .map(|attempt| attempt.outcome);
        assert!({ outcomes }.all(|outcome| matches!(outcome, Outcome::StartFailed(_))));
    }
    match Nobody::who_can(&suite.scene, &run("audit", "io", "reached", None)) {
        Err(why) => skip("unprivileged", &why),
        Ok(nobody) => {
            let run = suite
                .scene
                .run(run("closed", "io", "denied", Some(&nobody)));
            run.assert_code(exit_code::OK);
        }
    }
}

#[test]
fn a_call_that_the_tracer_cannot_see_fails_a_test_whose_peers_are_bounded() {
    let suite = Suite::of(HOSTILE);
    let rules = "[profile.default.policy]\nmode = 'enforce'\nnet = []\n";
    suite.scene.write("suite/.config/harness.toml", rules);
    let run = suite.run(&["-E", "test(by_a_ring_of_the_kernel)"]);
    // Without a policy for files the ring opens the file, or there are no rings here.
    let attempts = suite.attempts();
    let ring = attempts["by_a_ring_of_the_kernel"].policy.is_some();
    assert_eq!(
        run.stderr.contains("io_uring was used"),
        ring,
        "{}",
        run.stderr
    );
    assert!(!ring || run.stderr.contains("`policy.net` could not deny"));
}
