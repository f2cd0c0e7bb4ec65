//! Bad surroundings: output that cannot be written, folders that cannot be changed, no /proc.

use crate::{
    environment::installed,
    nobody::Nobody,
    scene::{Finished, Scene, skip},
};
use harness_metadata::exit_code;
use nix::unistd::geteuid;
use std::{
    env,
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

const TWO_TESTS: &str = "#[test]\nfn one() {}\n#[test]\nfn two() { panic!(\"two fails\") }\n";

#[test]
fn a_closed_standard_output_fails_a_list_but_never_a_run() {
    let scene = Scene::new();
    let run = in_shell(&scene, ">&-", &["run", "-p", "targets"]);
    assert_eq!(run.status.code(), Some(exit_code::OK), "{}", run.stderr);
    let list = in_shell(&scene, ">&-", &["list", "-p", "targets"]);
    assert!(
        list.status.code().is_some(),
        "a signal killed it: {}",
        list.status
    );
}

#[test]
fn a_full_standard_output_fails_a_list() {
    let scene = Scene::new();
    let list = in_shell(&scene, "> /dev/full", &["list", "-p", "targets"]);
    list.assert_code(exit_code::WRITE_FAILED);
    list.assert_sentence();
}

#[test]
fn a_full_or_closed_standard_error_never_hides_that_a_test_failed() {
    let scene = Scene::new();
    let folder = scene.package("two", TWO_TESTS);
    for redirection in ["2> /dev/full", "2>&-"] {
        for (filter, passing) in [("one", true), ("two", false)] {
            let junit = scene.path("junit.xml");
            // Cargo itself fails when it cannot say what it does.
            let args = ["run", "--cargo-quiet", filter, "--junit"];
            let mut command = scene.harness_in(&folder, &args);
            command.arg(&junit);
            let run = redirected(&scene, &command, redirection);
            let code = run.status.code();
            let known = [
                Some(exit_code::WRITE_FAILED),
                Some(exit_code::TEST_RUN_FAILED),
            ];
            // A run whose messages cannot be written may say so; a failure is never a success.
            let right = known.contains(&code) || passing && code == Some(exit_code::OK);
            assert!(right, "{redirection} {filter}: {}", run.status);
            let report = fs::read_to_string(&junit).expect("the report was written");
            assert!(
                report.contains(&format!("name=\"{filter}\"")) && !report.contains("(incomplete)"),
                "{redirection} {filter}: {report}"
            );
            fs::remove_file(&junit).expect("it is there");
        }
    }
}

#[test]
fn a_reader_of_the_list_may_leave_early() {
    let scene = Scene::new();
    let command = scene.harness(["list", "--workspace"]);
    let run = piped(&scene, &command, "| head -n 1");
    assert_eq!(run.stdout.lines().count(), 1, "{}", run.stdout);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

#[test]
fn events_that_cannot_be_written_are_no_success() {
    let scene = Scene::new();
    let run = scene.run(scene.harness(["run", "-p", "targets", "--events", "/dev/full"]));
    run.assert_code(exit_code::WRITE_FAILED)
        .assert_says("failed to write all events to `/dev/full`");
    let mut command = scene.harness(["run", "-p", "targets", "--junit"]);
    command.arg(scene.write("a-file", "").join("junit.xml"));
    let run = scene.run(command);
    run.assert_code(exit_code::WRITE_FAILED)
        .assert_says("a-file");
    run.assert_says("7 tests run: 7 passed");
}

#[test]
fn a_target_folder_that_cannot_be_written_is_named() {
    let scene = Scene::new();
    let folder = scene.package("read-only", TWO_TESTS);
    let target = folder.join("target");
    if geteuid().is_root() {
        // Permissions do not stop root; a file in the place of the folder does.
        File::create(&target).unwrap();
    } else {
        fs::create_dir(&target).unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o500)).unwrap();
    }
    let run = scene.run(scene.harness_in(&folder, &["run"]));
    assert!(
        !run.status.success() && run.status.code().is_some(),
        "{}",
        run.status
    );
    run.assert_says("target");
    run.assert_sentence();
}

#[test]
fn a_built_target_folder_that_became_read_only_still_runs() {
    let name = "a_built_target_folder_that_became_read_only_still_runs";
    if !can_unshare() {
        return skip(name, "a mount namespace needs root");
    }
    let scene = Scene::new();
    let folder = scene.package("sealed", TWO_TESTS);
    scene
        .run(scene.harness_in(&folder, &["run", "one"]))
        .assert_code(exit_code::OK);
    let script = "mount --bind target target && mount -o remount,bind,ro target && exec \"$@\"";
    let run = in_namespace(&scene, &scene.harness_in(&folder, &["run", "one"]), script);
    // Cargo may refuse to work on a folder that it cannot lock; then that is what is said.
    let code = run.status.code();
    assert!(
        [Some(0), Some(exit_code::BUILD_FAILED)].contains(&code),
        "{}: {}",
        run.status,
        run.stderr
    );
}

#[test]
fn without_proc_it_degrades_and_says_so() {
    let name = "without_proc_it_degrades_and_says_so";
    if !can_unshare() {
        return skip(name, "a mount namespace needs root");
    }
    let scene = Scene::new();
    let leaks = "#[test]\nfn leaks() {\n    \
                 let mut sleep = std::process::Command::new(\"sleep\");\n    \
                 sleep.arg(\"300\").stdout(std::process::Stdio::null());\n    \
                 sleep.stderr(std::process::Stdio::null()).spawn().unwrap();\n}\n";
    let folder = scene.package("no-proc", &format!("{TWO_TESTS}{leaks}"));
    // Built first: neither cargo nor the compiler is the subject here.
    scene
        .run(scene.harness_in(&folder, &["run", "one"]))
        .assert_code(exit_code::OK);
    let mut command = scene.harness_in(&folder, &["run", "--no-fail-fast"]);
    without_proc_the_toolchain_needs_help(&scene, &mut command);
    let run = in_namespace(&scene, &command, "mount -t tmpfs none /proc && exec \"$@\"");
    run.assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("3 tests run: 2 passed (1 leaky), 1 failed");
    run.assert_says("there is no /proc; ");
    run.assert_says("what a test leaves behind is killed, but cannot be named");
    run.assert_says("[unknown: there is no /proc]");
}

/// A test that leaves `sleep` behind in a session of its own, and one that passes.
const LEAKS: &str = r#"
#[test]
fn one() {}

#[test]
fn leaks() {
    use std::process::{Command, Stdio};
    let mut leak = Command::new("setsid");
    leak.args(["sh", "-c", "echo; exec sleep 300 2> /dev/null > /dev/null"]);
    let mut leak = leak.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // Its first line: it is in its own session by then.
    std::io::Read::read_exact(&mut leak.stdout.take().unwrap(), &mut [0]).unwrap();
}
"#;

/// An id of ours in a foreign /proc is another process: it must be neither named nor
/// killed.
#[test]
fn a_proc_of_another_namespace_is_as_good_as_none() {
    let name = "a_proc_of_another_namespace_is_as_good_as_none";
    let namespace = ["--pid", "--fork", "--kill-child"];
    let tried = [namespace.as_slice(), &["true"]].concat();
    if !geteuid().is_root() || !installed("unshare", &tried) {
        return skip(name, "a process namespace needs root and unshare");
    }
    let scene = Scene::new();
    let folder = scene.package("foreign-proc", LEAKS);
    scene
        .run(scene.harness_in(&folder, &["run", "one"]))
        .assert_code(exit_code::OK);
    for (trace, limits) in [("off", true), ("process", false), ("io", false)] {
        let config = match limits {
            true => "[profile.default]\nleak = \"fail\"\nmemory-max = \"1 GiB\"\n",
            false => "[profile.default]\nleak = \"fail\"\n",
        };
        scene.write("foreign-proc/.config/harness.toml", config);
        let command = scene.harness_in(&folder, &["run", "--no-fail-fast", "--trace", trace]);
        let run = scene.run(scene.wrapped(&command, "unshare", &namespace));
        scene.assert_no_strays();
        run.assert_code(exit_code::TEST_RUN_FAILED)
            .assert_says("2 tests run: 1 passed, 1 failed (1 due to being leaky)")
            .assert_says("/proc is that of another PID namespace")
            .assert_says("what a test leaves behind is killed, but cannot be named");
        // Its id in the inner namespace, in which there are few.
        let left = run.stderr.lines().find_map(|line| {
            let pid = line.split_once("left behind: pid ")?.1;
            pid.split(' ').next()?.parse::<i32>().ok()
        });
        assert!(
            left.is_some_and(|pid| pid < 1000),
            "{trace}: {}",
            run.stderr
        );
    }
}

#[test]
fn a_proc_that_hides_others_costs_an_unprivileged_user_nothing() {
    let name = "a_proc_that_hides_others_costs_an_unprivileged_user_nothing";
    if !can_unshare() {
        return skip(name, "a mount namespace needs root");
    }
    let scene = Scene::new();
    let folder = scene.package("hidden-proc", LEAKS);
    let mut list = scene.harness_in(&folder, &["list"]);
    list.env("CARGO_HOME", scene.path("cargo-home"));
    let nobody = match Nobody::who_can(&scene, &list) {
        Ok(nobody) => nobody,
        Err(reason) => return skip(name, &reason),
    };
    for options in ["hidepid=2", "subset=pid"] {
        for trace in ["off", "io"] {
            let command = scene.harness_in(&folder, &["run", "--no-fail-fast", "--trace", trace]);
            let command = nobody.wrapped(&scene, &command);
            let script = format!("mount -t proc -o {options} proc /proc && exec \"$@\"");
            let run = in_namespace(&scene, &command, &script);
            scene.assert_no_strays();
            run.assert_code(exit_code::OK)
                .assert_says("2 tests run: 2 passed (1 leaky)");
            assert!(
                run.stderr.contains("`sleep 300`"),
                "{options}: {}",
                run.stderr
            );
        }
    }
}

/// Cargo as rustup installs it looks for itself in /proc, and the dynamic loader looks there for
/// the place of the compiler, next to which its libraries are.
fn without_proc_the_toolchain_needs_help(scene: &Scene, command: &mut Command) {
    let mut rustc = scene.command("rustc");
    rustc.args(["--print", "sysroot"]);
    let rustc = scene.run(rustc);
    let root = Path::new(rustc.stdout.trim());
    let rest = env::var_os("PATH").unwrap_or_default();
    let path = [root.join("bin")]
        .into_iter()
        .chain(env::split_paths(&rest));
    command
        .env("PATH", env::join_paths(path).expect("they were joined"))
        .env("LD_LIBRARY_PATH", root.join("lib"));
}

/// Runs the command with a redirection of the shell.
fn redirected(scene: &Scene, command: &Command, redirection: &str) -> Finished {
    shell(scene, command, &format!("exec \"$@\" {redirection}"))
}

fn piped(scene: &Scene, command: &Command, rest: &str) -> Finished {
    shell(scene, command, &format!("\"$@\" {rest}"))
}

fn in_shell(scene: &Scene, redirection: &str, args: &[&str]) -> Finished {
    let mut command = scene.harness([]);
    command.args(args);
    redirected(scene, &command, redirection)
}

/// Runs the command by a script of the shell, which finds it in its arguments.
fn shell(scene: &Scene, command: &Command, script: &str) -> Finished {
    scene.run(scene.wrapped(command, "sh", &["-c", script, "sh"]))
}

/// Runs the command in a mount namespace of its own, by a script that prepares it.
fn in_namespace(scene: &Scene, command: &Command, script: &str) -> Finished {
    let args = [
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        "sh",
    ];
    scene.run(scene.wrapped(command, "unshare", &args))
}

fn can_unshare() -> bool {
    geteuid().is_root() && installed("unshare", &["--mount", "true"])
}
