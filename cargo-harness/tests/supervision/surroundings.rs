//! The environment of a run: descriptors, signals, limits, folders, a namespace; and
//! who is killed with it.

use super::{await_processes, last_attempts, processes, zoo_run};
use crate::{
    environment::installed,
    scene::{Finished, Scene, skip},
};
use harness_metadata::{Verdict, exit_code};
use nix::{
    sys::signal::{self, Signal},
    unistd::{Pid, geteuid, getsid},
};
use std::{fs, os::unix::process::CommandExt, process::Command};

/// Builds the zoo, so that what cargo needs is not the subject.
fn build(scene: &Scene) {
    scene
        .run(zoo_run(scene, "", "passes"))
        .assert_code(exit_code::OK);
}

/// Runs a command by a script of the shell, which finds it in its arguments.
fn in_shell(scene: &Scene, script: &str, command: &Command) -> Finished {
    scene.run(scene.wrapped(command, "sh", &["-c", script, "sh"]))
}

#[test]
fn tests_get_three_descriptors_whatever_a_careless_parent_left_open() {
    let scene = Scene::new();
    for trace in ["io", "off"] {
        let mut run = zoo_run(&scene, "", "has_three_descriptors");
        run.args(["--trace", trace]);
        let script = "exec 5< /dev/null 7> /dev/null 9< / && exec \"$@\"";
        in_shell(&scene, script, &run).assert_code(exit_code::OK);
    }
}

#[test]
fn a_run_without_standard_streams_has_the_right_results() {
    let scene = Scene::new();
    build(&scene);
    for (tests, code) in [
        ("passes|has_three_descriptors", exit_code::OK),
        ("passes|fails", exit_code::TEST_RUN_FAILED),
    ] {
        // Cargo itself fails when it cannot say what it does.
        let mut run = zoo_run(&scene, "", tests);
        run.arg("--cargo-quiet");
        let run = in_shell(&scene, "exec \"$@\" <&- >&- 2>&-", &run);
        run.assert_code(code);
        let attempts = last_attempts(&scene);
        assert_eq!(attempts.len(), 2);
        for (name, attempt) in attempts {
            assert_eq!(
                attempt.verdict == Verdict::Pass,
                name != "fails",
                "{attempt:?}"
            );
        }
    }
}

#[test]
fn tests_inherit_what_a_run_has_no_business_with() {
    let scene = Scene::new();
    // These tests may themselves be nice to others, or the reverse.
    let own = niceness();
    let nice = |by: i32| (own + by).clamp(-20, 19);
    let mut ways = vec![(
        "umask 027; ulimit -c 0; exec nice -n 3 \"$@\"",
        format!("0027 {} 0 0 0", nice(3)),
    )];
    if installed("chrt", &["--batch", "0", "true"]) {
        let way = "umask 0; ulimit -c 0; exec chrt --batch 0 \"$@\"";
        ways.push((way, format!("0000 {own} 3 0 0")));
    }
    if geteuid().is_root() && installed("nice", &["-n", "-3", "true"]) {
        let way = "umask 022; ulimit -c 0; exec nice -n -3 \"$@\"";
        ways.push((way, format!("0022 {} 0 0 0", nice(-3))));
    }
    for (script, inherited) in ways {
        for trace in ["io", "off"] {
            let mut run = zoo_run(&scene, "", "inherits_what_the_run_has");
            run.args(["--trace", trace]).env("ZOO_INHERITS", &inherited);
            in_shell(&scene, script, &run).assert_code(exit_code::OK);
        }
    }
}

/// Returns the own niceness: field 19 of proc_pid_stat(5).
fn niceness() -> i32 {
    let stat = fs::read_to_string("/proc/self/stat").expect("/proc is mounted");
    let (_, fields) = stat.rsplit_once(") ").expect("it has a name");
    let field = fields.split(' ').nth(16).expect("there are more");
    field.parse().expect("it is a number")
}

#[test]
fn a_limit_of_file_sizes_is_told_and_kills_nobody() {
    let scene = Scene::new();
    build(&scene);
    if !installed("prlimit", &["true"]) {
        return skip("a limit of file sizes", "prlimit is not installed");
    }
    let run = zoo_run(&scene, "", "passes|naps_.*");
    let run = scene.run(scene.wrapped(&run, "prlimit", &["--fsize=4096"]));
    run.assert_code(exit_code::WRITE_FAILED)
        .assert_says("File too large");
}

#[test]
fn a_run_without_home_and_without_a_folder_for_temporary_files_goes_well() {
    let scene = Scene::new();
    build(&scene);
    let mut run = zoo_run(&scene, "", "passes|floods");
    // Cargo and rustup know their own folders by these.
    for (variable, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        if let (None, Some(home)) = (std::env::var_os(variable), std::env::home_dir()) {
            run.env(variable, home.join(folder));
        }
    }
    run.env_remove("HOME").env("TMPDIR", scene.path("nowhere"));
    scene.run(run).assert_code(exit_code::OK);
    let attempts = last_attempts(&scene);
    assert_eq!(attempts.len(), 2);
    let (_, floods) = attempts
        .iter()
        .find(|(name, _)| name == "floods")
        .expect("it ran");
    // 16 MiB, of which the first MiB needs no file.
    let (written, dropped) = (floods.stdout.written, floods.stdout.dropped);
    assert_eq!((written, dropped), (16 << 20, 15 << 20));
}

#[test]
fn a_working_directory_that_was_removed_is_a_sentence() {
    let scene = Scene::new();
    let mut run = zoo_run(&scene, "", "passes");
    run.current_dir(scene.path(""));
    let script = "mkdir gone && cd gone && rmdir ../gone && exec \"$@\"";
    let run = in_shell(&scene, script, &run);
    assert!(
        run.status.code().is_some_and(|code| code != 0),
        "{}",
        run.status
    );
    run.assert_sentence();
}

#[test]
fn the_first_process_of_a_namespace_can_be_a_run() {
    let name = "the_first_process_of_a_namespace_can_be_a_run";
    let namespace = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let tried = [namespace.as_slice(), &["true"]].concat();
    if !geteuid().is_root() || !installed("unshare", &tried) {
        return skip(name, "a process namespace needs root and unshare");
    }
    for trace in ["io", "off"] {
        let scene = Scene::new();
        let tests = "passes|subreaper_with_daemons|kills_its_parent";
        let mut run = zoo_run(&scene, "", tests);
        run.args(["--trace", trace]);
        let run = scene.run(scene.wrapped(&run, "unshare", &namespace));
        run.assert_code(exit_code::TEST_RUN_FAILED)
            .assert_says("3 tests run: 2 passed (1 leaky), 1 lost to harness faults");
    }
}

#[test]
fn what_was_started_before_a_run_became_itself_is_left_alone() {
    let scene = Scene::new();
    for trace in ["io", "off"] {
        let mut run = zoo_run(&scene, "", "kills_its_parent");
        run.args(["--trace", trace]);
        let own = scene.path("pid");
        let script = format!(
            "setsid sleep 300 & echo $! > {} && exec \"$@\"",
            own.display()
        );
        in_shell(&scene, &script, &run).assert_code(exit_code::TEST_RUN_FAILED);
        let pid = fs::read_to_string(own).expect("it was written");
        let left = processes(&scene, "sleep 300");
        scene.kill_strays();
        assert_eq!(left, [pid.trim().parse::<i32>().expect("it is a number")]);
    }
}

#[test]
fn nothing_outlives_a_run_whose_process_group_is_killed() {
    for trace in ["io", "off"] {
        let scene = Scene::new();
        let mut command = zoo_run(&scene, "", "hangs|forks_without_end|leaves_its_group");
        command.args(["-j", "3", "--trace", trace]).process_group(0);
        let run = scene.start(command);
        await_processes(&scene, "--exact", 15);
        signal::killpg(run.pid(), Signal::SIGKILL).expect("it is a group");
        run.finish();
        scene.assert_no_strays();
    }
}

#[test]
fn nothing_outlives_a_run_whose_session_is_killed() {
    if !installed("setsid", &["true"]) {
        return skip("a session that is killed", "there is no setsid");
    }
    let scene = Scene::new();
    let mut command = zoo_run(&scene, "", "hangs|leaves_its_group|subreaper_with_daemons");
    command.args(["-j", "3"]);
    let run = scene.start(scene.wrapped(&command, "setsid", &["--wait"]));
    await_processes(&scene, "--exact leaves_its_group", 2);
    // Not any: what belongs to the third one comes and goes, and leaves the session.
    let test = await_processes(&scene, "--exact hangs", 1)[0];
    let session = getsid(Some(Pid::from_raw(test))).expect("it has one");
    let own = getsid(None).expect("it has one");
    assert_ne!(session, own, "this must not end the tests themselves");
    for (pid, _) in scene.strays() {
        let pid = Pid::from_raw(pid);
        if getsid(Some(pid)) == Ok(session) {
            // Another may have ended it by now.
            let _ = signal::kill(pid, Signal::SIGKILL);
        }
    }
    run.finish();
    scene.assert_no_strays();
}
