//! Traces of the same program by stops and by the recorder, compared event by event.
//!
//! `RANDOM_PROGRAMS` says how many random programs are compared, `RANDOM_SEED` with which seed they begin.

use super::{Seen, watch_recorded};
use fixture_kit::random::Random;
use harness_metadata::{
    TraceEventKind,
    event::TraceLevel,
    trace::{Backend, CallResult},
};
use harness_runner::protocol::Recording;
use std::{collections::BTreeMap, env};

const PROGRAMS: u64 = 3;
/// The seed of the programs that every run of the tests compares.
const SEED: u64 = 20;

/// The events of each task, which has the name of its creator and a number.
type Told = BTreeMap<String, Vec<String>>;

/// Runs random programs by each way of recording.
pub(crate) fn random_programs_have_the_same_trace_with_and_without_a_recorder() {
    let number = |name, otherwise| {
        let text = env::var(name).ok();
        text.map_or(otherwise, |text| text.parse().expect("it is a number"))
    };
    let (programs, seed) = (
        number("RANDOM_PROGRAMS", PROGRAMS),
        number("RANDOM_SEED", SEED),
    );
    let mut seeds = Random::new(seed);
    let mut events = 0;
    for _ in 0..programs {
        let program = format!("random-{}", seeds.below(1 << 32));
        events += compare(&program);
    }
    // Nearly all that they do.
    assert!(
        events > 100 * programs,
        "only {events} events were compared"
    );
}

/// Compares the traces of a program. Returns how many events it has.
fn compare(program: &str) -> u64 {
    let told = |recording| {
        let seen = watch_recorded(
            (Backend::Ptrace, recording),
            TraceLevel::Full,
            program,
            |_| (),
        );
        told(&seen)
    };
    let stopped = told(Recording::Off);
    for recording in [Recording::On, Recording::Verified] {
        let recorded = told(recording);
        let none = Vec::new();
        for (task, stopped) in &stopped {
            let recorded = recorded.get(task).unwrap_or(&none);
            let differ = stopped
                .iter()
                .zip(recorded)
                .position(|(one, other)| one != other);
            let at = differ.unwrap_or(stopped.len().min(recorded.len()));
            assert!(
                stopped == recorded,
                "{program}, {recording:?}, task {task}, event {at}:\nstopped:  {:#?}\nrecorded: {:#?}",
                &stopped[at.saturating_sub(2).min(stopped.len())..stopped.len().min(at + 3)],
                &recorded[at.saturating_sub(2).min(recorded.len())..recorded.len().min(at + 3)],
            );
        }
        // A further task would be an event of its creator too, unless that is unknown.
        assert_eq!(stopped.len(), recorded.len());
    }
    stopped.values().map(|events| events.len() as u64).sum()
}

fn told(seen: &Seen) -> Told {
    let mut names = BTreeMap::from([(seen.root, "0".to_owned())]);
    let mut created: BTreeMap<i32, usize> = BTreeMap::new();
    let mut told = Told::new();
    for event in &seen.events {
        let text = match &event.kind {
            TraceEventKind::Created(creation) => {
                let count = created.entry(event.tid).or_default();
                let name = format!("{}.{count}", names[&event.tid]);
                *count += 1;
                names.insert(creation.child, name);
                format!("{:?}", creation.how)
            }
            // Those of a timer come at any time.
            TraceEventKind::Signal(_) => continue,
            TraceEventKind::Exec(exec) => format!("{:?} {:?}", exec.program.asked, exec.result),
            TraceEventKind::Exited(exited) => format!("{:?}", exited.exit),
            TraceEventKind::File(call) => {
                let mut call = (**call).clone();
                // Another run has other files, but of the same kind.
                if let Some(file) = &mut call.file {
                    (file.device, file.inode) = (0, 0);
                }
                // A name in /proc can be longer in one run than in another.
                if call.path.path().as_bytes().starts_with(b"/proc/")
                    && let CallResult::Ok(length) = &mut call.result
                {
                    *length = (*length).min(1);
                }
                format!("{call:?}")
            }
            other => format!("{other:?}"),
        };
        let task = told.entry(names[&event.tid].clone()).or_default();
        task.push(neutral(&text, seen));
    }
    told
}

/// Takes out of a text what differs from run to run: the folder, and ids.
fn neutral(text: &str, seen: &Seen) -> String {
    let text = text.replace(&seen.folder, "FOLDER");
    let mut parts = text.split("/proc/");
    let mut neutral = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|digit: char| digit.is_ascii_digit());
        neutral.push_str(if rest.len() < part.len() {
            "/proc/ID"
        } else {
            "/proc/"
        });
        neutral.push_str(rest);
    }
    neutral
}
