//! Tests that print much: one of them, and many at the same time. What is kept is exact to the
//! byte, and what is not kept takes no memory.

use crate::{
    course::Course,
    package::Visit,
    results::last_attempts,
    scene::Scene,
    watched::{Watched, watch},
};
use fixture_kit::model::Runner;
use harness_metadata::{exit_code, outcome::StreamSize};
use std::{
    fs::File,
    io::{BufRead, BufReader},
};

const MIB: u64 = 1 << 20;

/// The kept part of a stream: as much as the terminal shows.
const CAP: u64 = 16 * MIB;
const CONFIG: &str = "output-cap = '16 MiB'";

/// A line of a test that writes: its number in seven digits, and its end.
const LINE: u64 = 8;

/// The memory that a stream may take in the runner, and that which all of them may: both beside that of a
/// run whose test prints a line, which depends on the build of the runner.
const MIB_A_STREAM: u64 = 2;
const MIB_BESIDES: u64 = 34;

/// Runs so many tests at once that each print so much.
struct Load {
    tests: u64,
    bytes: u64,
}

/// The times are mebibytes of a single test.
pub(crate) fn run(course: &mut Course<'_>) {
    let single = Load {
        tests: 1,
        bytes: course.times * MIB,
    };
    let many = match course.times {
        1024.. => Load {
            tests: 100,
            bytes: 16 * MIB,
        },
        _ => Load {
            tests: 20,
            bytes: 4 * MIB,
        },
    };
    let little = Load {
        tests: 1,
        bytes: LINE,
    };
    let scene = Scene::new();
    let least = watch(&scene, little.command(Runner::Harness, &scene)).peak;
    for load in [single, many] {
        let Load { tests, bytes } = load;
        let what = format!(
            "{tests} tests at once print {} MiB each: memory",
            bytes / MIB
        );
        let most = least + MIB_BESIDES + tests * MIB_A_STREAM;
        let bound = MIB_BESIDES + tests * MIB_A_STREAM;
        let reach = format!("bounded: {bound} MiB more than the {least} MiB of a line");
        let scene = Scene::new();
        let Watched {
            finished,
            peak,
            wall,
        } = watch(&scene, load.command(Runner::Harness, &scene));
        finished.assert_code(exit_code::OK);
        scene.assert_no_strays();
        load.check(&scene);
        assert!(peak <= most, "{what}: {peak} MiB, more than {most}");
        let was = format!("{peak} MiB in {wall:.1?}, every byte right");
        course.tell(Runner::Harness, &what, &reach, was);
        if course.has_peer() {
            let scene = Scene::new();
            let Watched { peak, wall, .. } = watch(&scene, load.command(Runner::Peer, &scene));
            course.tell(
                Runner::Peer,
                &what,
                &reach,
                format!("{peak} MiB in {wall:.1?}"),
            );
        }
    }
}

impl Load {
    fn command(&self, runner: Runner, scene: &Scene) -> std::process::Command {
        let tests: Vec<String> = (0..self.tests).map(|n| format!("writes_{n:03}")).collect();
        let visit = Visit {
            binary: "weather",
            tests: &tests.join("|"),
            config: match runner {
                Runner::Harness => CONFIG,
                Runner::Peer => "",
            },
        };
        let mut command = visit.by(runner, scene);
        command.args(["-j", &self.tests.to_string()]);
        command.args(["--success-output", "immediate", "--no-output-indent"]);
        command.env("WEATHER_BYTES", self.bytes.to_string());
        command
    }

    /// The lines of every test are there in order, but for those past the cap.
    fn check(&self, scene: &Scene) {
        let attempts = last_attempts(scene);
        assert_eq!(attempts.len() as u64, self.tests);
        let dropped = self.bytes.saturating_sub(CAP);
        let size = StreamSize {
            written: self.bytes,
            dropped,
            no_room: false,
        };
        for (name, attempt) in attempts {
            assert_eq!(attempt.stdout, size, "{name}");
        }
        let shown = File::open(scene.path("stderr-0")).expect("it was written");
        let (mut tests, mut next) = (0, None);
        for line in BufReader::with_capacity(1 << 20, shown).lines() {
            let line = line.expect("it is text");
            match (number(&line), next) {
                (Some(number), Some(expected)) => {
                    assert_eq!(number, expected, "in test {tests}");
                    next = Some(number + 1);
                }
                (None, Some(at)) if line.contains(" left out ") => {
                    assert_eq!(at, CAP / 2 / LINE, "where bytes begin to be dropped");
                    next = Some(at + dropped / LINE);
                }
                (None, Some(at)) => {
                    assert_eq!(at, self.bytes / LINE, "`{line}` follows test {tests}");
                    next = None;
                }
                (None, None) if line.contains("stdout ─") => {
                    tests += 1;
                    next = Some(0);
                }
                (None, None) => {}
                (Some(_), None) => panic!("`{line}` belongs to no test"),
            }
        }
        assert_eq!(tests, self.tests, "tests whose output is shown");
    }
}

/// Returns the number of a line that a test has written.
fn number(line: &str) -> Option<u64> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_number = line.len() as u64 == LINE - 1 && line.bytes().all(is_digit);
    is_number.then(|| u64::from_str_radix(line, 16).expect("it has digits only"))
}
