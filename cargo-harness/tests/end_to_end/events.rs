//! Events to a program, while the run goes on.

use crate::scene::{Finished, Scene};
use fixture_kit::model::check_schema;
use harness_metadata::exit_code;
use std::{fs, io::Read, os::unix::net::UnixListener, path::PathBuf, process::Command, thread};

const SOURCE: &str = r#"
#[cfg(test)]
mod tests {
    #[test] fn passes() {
        let wanted = std::env::var_os("WAIT_FOR");
        while wanted.as_ref().is_some_and(|file| !std::path::Path::new(file).exists()) {
            std::thread::yield_now();
        }
    }
    #[test] fn has_no_descriptor() {
        for descriptor in std::fs::read_dir("/proc/self/fd").unwrap() {
            let path = std::fs::read_link(descriptor.unwrap().path()).unwrap_or_default();
            assert!(!path.ends_with("events.ndjson"), "{path:?}");
        }
    }
}
"#;

struct Fed {
    scene: Scene,
    package: PathBuf,
}

impl Fed {
    fn new() -> Self {
        let scene = Scene::new();
        let package = scene.package("fed", SOURCE);
        Self { scene, package }
    }

    fn harness(&self, args: &[&str]) -> Finished {
        self.scene.run(self.command(args))
    }

    fn command(&self, args: &[&str]) -> Command {
        self.scene.harness_in(&self.package, args)
    }

    /// Runs the command by a shell that opens or closes descriptors.
    fn with_descriptors(&self, redirection: &str, args: &[&str]) -> Finished {
        let inner = self.command(args);
        let mut shell = Command::new("sh");
        let script = format!("exec \"$@\" {redirection}");
        shell.args(["-c", &script, "sh"]).arg(inner.get_program());
        shell.args(inner.get_args()).current_dir(&self.package);
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        self.scene.run(shell)
    }
}

fn check_whole(events: &str) {
    check_schema(events).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(events.matches("\"test-finished\"").count(), 2, "{events}");
    let last = events.lines().last().expect("there are events");
    assert!(last.contains("\"run-finished\""), "{last}");
}

#[test]
fn events_go_to_a_descriptor_that_no_test_inherits() {
    let fed = Fed::new();
    let run = fed.with_descriptors("3> events.ndjson", &["run", "--events", "fd:3"]);
    run.assert_code(exit_code::OK);
    let events = fs::read_to_string(fed.package.join("events.ndjson")).expect("it is there");
    check_whole(&events);
    let args = ["report", "--events", "fd:3"];
    let report = fed.with_descriptors("3> later.ndjson", &args);
    report.assert_code(exit_code::OK);
    let later = fs::read_to_string(fed.package.join("later.ndjson")).expect("it is there");
    assert_eq!(later, events);

    let closed = fed.with_descriptors("9>&-", &["run", "--events", "fd:9"]);
    closed.assert_code(exit_code::WRITE_FAILED);
    closed.assert_says("failed to open `fd:9` for the events: Bad file descriptor");
    let read_only = fed.with_descriptors("3< src/lib.rs", &["run", "--events", "fd:3"]);
    read_only.assert_code(exit_code::WRITE_FAILED);
    read_only.assert_says("it is open for reading only");
    let word = fed.harness(&["run", "--events", "fd:three"]);
    word.assert_says("`fd:three` needs the number of a descriptor");
    word.assert_says("a file of this name is `./fd:three`");
}

#[test]
fn events_go_to_a_socket_and_a_reader_that_leaves_fails_no_run() {
    let fed = Fed::new();
    let socket = fed.scene.path("socket");
    let place = format!("unix:{}", socket.display());
    let none = fed.harness(&["run", "--events", &place]);
    none.assert_code(exit_code::WRITE_FAILED);
    none.assert_says("for the events: No such file or directory");

    let gone = fed.scene.path("gone");
    let leaves = gone.clone();
    let listener = UnixListener::bind(&socket).expect("the folder can be written");
    let reader = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the run connects");
        let mut events = String::new();
        stream.read_to_string(&mut events).expect("it is UTF-8");
        // The next one leaves at once.
        drop(listener.accept().expect("the run connects"));
        fs::write(leaves, "").expect("the folder can be written");
        events
    });
    let run = fed.harness(&["run", "--events", &place]);
    run.assert_code(exit_code::OK);
    let mut left = fed.command(&["run", "--events", &place, "--junit", "run.xml"]);
    left.env("WAIT_FOR", &gone);
    let left = fed.scene.run(left);
    check_whole(&reader.join().expect("no panic"));
    left.assert_code(exit_code::OK);
    left.assert_says("the events to `unix:")
        .assert_says("were cut off: ");
    left.assert_says("2 passed");
    let junit = fs::read_to_string(fed.package.join("run.xml")).expect("it is there");
    assert_eq!(junit.matches("<testcase ").count(), 2, "{junit}");
}
