//! Every way to outlive a test that we know of: each process is named, under the test that left it
//! behind, and killed.

use crate::{
    course::{Course, LEVELS},
    nobody::Nobody,
    package::{Visit, escapes},
    results::last_attempts,
    scene::{Scene, wait_until},
};
use fixture_kit::model::Runner;
use harness_metadata::exit_code;
use nix::unistd::geteuid;
use std::{collections::BTreeSet, fs, path::PathBuf, process::Command, time::Duration};

const VISIT: Visit<'_> = Visit {
    binary: "escapes",
    tests: ".*",
    config: "",
};

pub(crate) fn run(course: &mut Course<'_>) {
    let ways = escapes().len();
    let scene = Scene::new();
    let who = if geteuid().is_root() {
        "root"
    } else {
        "this user"
    };
    let mut users = vec![who];
    let mut count = Count::default();
    for _ in 0..course.times {
        for level in LEVELS {
            let mut command = VISIT.by_harness(&scene);
            command.args(["-j", "4", "--trace", level.as_str()]);
            count.add(course, &scene, command);
        }
    }
    let open = Scene::new();
    let target = |mut command: Command| {
        command.env("CARGO_TARGET_DIR", open.path("target"));
        command
    };
    match Nobody::who_can(&open, &target(VISIT.listed_by_harness(&open))) {
        Ok(nobody) => {
            users.push("nobody");
            for _ in 0..course.times {
                for level in LEVELS {
                    let mut command = target(VISIT.by_harness(&open));
                    command.args(["-j", "4", "--trace", level.as_str()]);
                    count.add(course, &open, nobody.wrapped(&open, &command));
                }
            }
        }
        Err(reason) => course.note(&format!("skipped: the zoo as another user: {reason}")),
    }
    let Count { named, tests } = count;
    let was = format!(
        "all {named} of {tests} tests ({ways} ways, levels off, process, io, as {})",
        users.join(" and ")
    );
    let what = "processes that outlive a test: named under their test, and killed";
    course.tell(Runner::Harness, what, "all", was);
    if course.has_peer() {
        tell_of_peer(course);
    }
}

/// The observations.
#[derive(Default)]
struct Count {
    named: usize,
    tests: usize,
}

impl Count {
    /// Runs the zoo once.
    fn add(&mut self, course: &Course<'_>, scene: &Scene, command: Command) {
        for name in escapes() {
            // There is none at first.
            let _ = fs::remove_file(left_by(scene, name));
        }
        let shown = format!("{command:?}");
        let run = scene.run(command);
        scene.assert_no_strays();
        run.assert_code(exit_code::OK);
        let attempts = last_attempts(scene);
        assert_eq!(attempts.len(), escapes().len(), "{shown}");
        for (name, attempt) in attempts {
            let left = fs::read_to_string(left_by(scene, &name)).expect("the test has written it");
            let survivors = attempt.leak.map_or_else(Vec::new, |leak| leak.survivors);
            let named: BTreeSet<i32> = survivors.iter().map(|survivor| survivor.pid).collect();
            if let Some(reason) = left.strip_prefix("impossible: ") {
                course.note(&format!("skipped: `{name}`: {}", reason.trim()));
                continue;
            }
            self.tests += 1;
            self.named += named.len();
            if left.starts_with("moving") {
                assert!(
                    !named.is_empty(),
                    "no process is named under `{name}` by {shown}"
                );
            } else {
                let left: BTreeSet<i32> = left.lines().flat_map(str::parse).collect();
                assert_eq!(named, left, "`{name}` left others than expected by {shown}");
            }
            for survivor in survivors {
                assert!(survivor.killed, "`{name}`: {survivor:?}");
                assert!(!survivor.command.is_empty(), "`{name}`: {survivor:?}");
            }
        }
    }
}

fn left_by(scene: &Scene, name: &str) -> PathBuf {
    scene.path(&format!("left-{name}"))
}

fn tell_of_peer(course: &mut Course<'_>) {
    let scene = Scene::new();
    scene.run(VISIT.by(Runner::Peer, &scene));
    // As long as the others get.
    wait_until(Duration::from_secs(2), || {
        scene.strays().is_empty().then_some(())
    });
    let left = scene.strays().len();
    scene.kill_strays();
    let what = "processes that outlive a test: named under their test, and killed";
    course.tell(
        Runner::Peer,
        what,
        "all",
        format!("none; {left} left behind"),
    );
}
