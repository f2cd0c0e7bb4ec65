//! Makes one recording of those of several parts of a run.

use harness_metadata::{
    Event, EventKind, RunId, RunStats, TestId, Verdict,
    event::{CommonCause, Findings, RunFinished, RunMode, RunStarted, Source, TestFinished},
};
use nextest_metadata::{MismatchReason, RustBinaryId};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use thiserror::Error;

/// A recording to merge.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Its file, for messages.
    pub name: String,
    /// Its events.
    pub events: Vec<Event>,
}

/// A recording of several.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    /// Its events.
    pub events: Vec<Event>,
    /// The recordings and parts that it lacks, each a sentence.
    pub missing: Vec<String>,
    /// Other differences between the recordings, each a sentence.
    pub warnings: Vec<String>,
}

/// A reason why recordings cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MergeError {
    /// There is none.
    #[error("there is no recording to merge")]
    Nothing,
    /// One does not begin as a recording does.
    #[error("`{0}` does not begin with the start of a run")]
    NoStart(String),
    /// Tests and benchmarks have no run in common.
    #[error("`{0}` is a run of tests and `{1}` one of benchmarks, so they are no parts of one run")]
    Modes(String, String),
}

/// A recording with its ends apart.
struct Parts<'a> {
    name: &'a str,
    start: &'a RunStarted,
    end: Option<&'a RunFinished>,
    events: &'a [Event],
    /// The time from the earliest start to this one.
    offset: Duration,
    /// The number of slots of the recordings before it.
    slots: usize,
}

/// Merges recordings: slots of each follow those of the ones before it, times count from the earliest
/// start, and counts are made anew.
///
/// # Errors
///
/// When there is nothing to merge, or one is no recording.
pub fn merge(pieces: &[Piece], run_id: RunId, command: Vec<String>) -> Result<Merged, MergeError> {
    let parts = parts(pieces)?;
    same_mode(&parts)?;
    let mut merged = Merged::default();
    for part in &parts {
        if part.end.is_none() {
            let sentence = format!("the run of `{}` did not come to its end", part.name);
            merged.missing.push(sentence);
        }
    }
    merged.missing.extend(missing_partitions(&parts));
    merged.warnings.extend(different_profiles(&parts));
    let chosen = choose(&parts, &mut merged.warnings);
    let skipped = skipped(&parts, &chosen);

    let mut events = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let own = |test: &TestId| chosen.get(test) == Some(&index);
        for event in part.events {
            if let Some(kind) = moved(&event.kind, part.slots, &own) {
                let at = part.offset + event.at;
                events.push(Event { at, kind });
            }
        }
    }
    // Stable: what happened at the same moment stays in order.
    events.sort_by_key(|event| event.at);
    let start = started(&parts, &chosen, skipped.len(), run_id, command);
    let at_start = |kind| Event {
        at: Duration::ZERO,
        kind,
    };
    merged
        .events
        .push(at_start(EventKind::RunStarted(Box::new(start))));
    merged.events.extend(skipped.into_values().map(at_start));
    let skipped = merged.events.len() - 1;
    let stats = counted(
        &mut events,
        chosen.len() + not_run(&parts, &chosen).len(),
        skipped,
    );
    merged.events.extend(events);
    merged.events.push(finished(&parts, &chosen, stats));
    Ok(merged)
}

fn parts(pieces: &[Piece]) -> Result<Vec<Parts<'_>>, MergeError> {
    let mut parts = Vec::new();
    let mut slots = 0;
    for piece in pieces {
        let Some(EventKind::RunStarted(start)) = piece.events.first().map(|event| &event.kind)
        else {
            return Err(MergeError::NoStart(piece.name.clone()));
        };
        let end = piece
            .events
            .iter()
            .rev()
            .find_map(|event| match &event.kind {
                EventKind::RunFinished(end) => Some(&**end),
                _ => None,
            });
        parts.push(Parts {
            name: &piece.name,
            start,
            end,
            events: &piece.events[1..],
            offset: Duration::ZERO,
            slots,
        });
        slots += start.slots;
    }
    let earliest = parts.iter().map(|part| part.start.started_at).min();
    let earliest = earliest.ok_or(MergeError::Nothing)?;
    for part in &mut parts {
        let offset = part.start.started_at - earliest;
        part.offset = offset.to_std().unwrap_or_default();
    }
    Ok(parts)
}

/// Returns the partition that a command line asks for: its scheme, M and N.
fn partition(command: &[String]) -> Option<(&str, u64, u64)> {
    let mut args = command.iter();
    let mut found = None;
    while let Some(arg) = args.next() {
        match arg.strip_prefix("--partition") {
            Some("") => found = args.next().map(String::as_str),
            Some(value) => found = value.strip_prefix('=').or(found),
            None if arg == "--" => break,
            None => {}
        }
    }
    let (scheme, numbers) = found?.split_once(':')?;
    let (part, total) = numbers.split_once('/')?;
    Some((scheme, part.parse().ok()?, total.parse().ok()?))
}

fn missing_partitions(parts: &[Parts<'_>]) -> Vec<String> {
    let mut schemes: BTreeMap<(&str, u64), BTreeSet<u64>> = BTreeMap::new();
    for part in parts {
        if let Some((scheme, number, total)) = partition(&part.start.command_line) {
            schemes.entry((scheme, total)).or_default().insert(number);
        }
    }
    let mut missing = Vec::new();
    for ((scheme, total), there) in schemes {
        // No run has more parts.
        for part in (1..=total.min(10_000)).filter(|part| !there.contains(part)) {
            missing.push(format!("part `{scheme}:{part}/{total}` is missing"));
        }
    }
    missing
}

fn different_profiles(parts: &[Parts<'_>]) -> Option<String> {
    let first = parts.first()?;
    let other = parts
        .iter()
        .find(|part| part.start.profile != first.start.profile)?;
    Some(format!(
        "`{}` is a run with profile `{}` and `{}` one with profile `{}`",
        first.name, first.start.profile, other.name, other.start.profile
    ))
}

fn results<'a>(part: &Parts<'a>) -> impl Iterator<Item = &'a TestFinished> {
    part.events.iter().filter_map(|event| match &event.kind {
        EventKind::TestFinished(test) => Some(&**test),
        _ => None,
    })
}

/// Chooses for each test the recording that has its result. Of several results the first failure counts.
fn choose(parts: &[Parts<'_>], warnings: &mut Vec<String>) -> BTreeMap<TestId, usize> {
    let mut chosen: BTreeMap<TestId, (usize, Verdict)> = BTreeMap::new();
    for (index, part) in parts.iter().enumerate() {
        for test in results(part) {
            let Some((before, verdict)) = chosen.get_mut(&test.test) else {
                chosen.insert(test.test.clone(), (index, test.verdict));
                continue;
            };
            let (first, second) = (parts[*before].name, part.name);
            if *verdict != Verdict::Fail && test.verdict == Verdict::Fail {
                (*before, *verdict) = (index, test.verdict);
            }
            let counts = parts[*before].name;
            warnings.push(format!(
                "`{}` has a result in `{first}` and in `{second}`; that of `{counts}` counts",
                test.test
            ));
        }
    }
    let chosen = chosen.into_iter().map(|(test, (index, _))| (test, index));
    chosen.collect()
}

/// Returns the events of tests that no recording ran. A test that is in no other part keeps a reason
/// other than its part.
fn skipped(parts: &[Parts<'_>], chosen: &BTreeMap<TestId, usize>) -> BTreeMap<TestId, EventKind> {
    let mut skipped: BTreeMap<TestId, EventKind> = BTreeMap::new();
    for event in parts.iter().flat_map(|part| part.events) {
        let (test, of_part) = match &event.kind {
            EventKind::TestSkipped { test, reason, .. } => {
                (test, *reason == MismatchReason::Partition)
            }
            EventKind::TestCached(cached) => (&cached.test, false),
            _ => continue,
        };
        let is_known = chosen.contains_key(test) || of_part && skipped.contains_key(test);
        if !is_known {
            skipped.insert(test.clone(), event.kind.clone());
        }
    }
    let not_run = not_run(parts, chosen);
    skipped.retain(|test, _| !not_run.contains(test));
    skipped
}

/// Returns the tests that were to run in a recording and have a result in none.
fn not_run(parts: &[Parts<'_>], chosen: &BTreeMap<TestId, usize>) -> BTreeSet<TestId> {
    let ends = parts.iter().filter_map(|part| part.end);
    let not_run = ends.flat_map(|end| &end.not_run);
    not_run
        .filter(|test| !chosen.contains_key(test))
        .cloned()
        .collect()
}

/// Returns an event as the merged recording has it, with its slot moved; `None` if it has it not.
fn moved(kind: &EventKind, slots: usize, own: &dyn Fn(&TestId) -> bool) -> Option<EventKind> {
    let mut kind = kind.clone();
    match &mut kind {
        EventKind::RunStarted(_)
        | EventKind::RunFinished(_)
        | EventKind::TestSkipped { .. }
        | EventKind::TestCached(_) => {
            return None;
        }
        EventKind::AttemptStarted(started) if own(&started.test) => started.slot += slots,
        EventKind::TestFinished(finished) if own(&finished.test) => finished.slot += slots,
        EventKind::AttemptStarted(_) | EventKind::TestFinished(_) => return None,
        EventKind::AttemptSlow { test, .. }
        | EventKind::AttemptTraced { test, .. }
        | EventKind::AttemptBroke { test, .. }
        | EventKind::AttemptFailed { test, .. } => return own(test).then_some(kind),
        // Each part had its own.
        EventKind::SetupStarted(_)
        | EventKind::SetupSlow { .. }
        | EventKind::SetupFinished(_)
        | EventKind::TeardownStarted(_)
        | EventKind::TeardownFinished(_)
        | EventKind::SetupLeft { .. }
        | EventKind::ServiceStarted(_)
        | EventKind::ServiceReady(_)
        | EventKind::ServiceFinished(_) => {}
        EventKind::AttemptPrinted(printed) => return own(&printed.test).then_some(kind),
        // These speak of one machine at one moment.
        EventKind::Status { .. }
        | EventKind::Progress { .. }
        | EventKind::Paused { .. }
        | EventKind::Continued { .. }
        | EventKind::IterationFinished(_)
        | EventKind::FewerSlots { .. }
        | EventKind::MoreSlots { .. }
        | EventKind::AwaitsSystem { .. }
        | EventKind::Stopped { .. }
        | EventKind::Cancelled { .. } => return None,
    }
    Some(kind)
}

/// Counts anew what events say of the run as a whole. Returns the counts at its end.
fn counted(events: &mut [Event], selected: usize, skipped: usize) -> RunStats {
    let mut stats = RunStats {
        selected,
        skipped,
        ..RunStats::default()
    };
    let mut running = BTreeSet::new();
    for event in events {
        match &mut event.kind {
            EventKind::AttemptStarted(started) => {
                running.insert(started.test.clone());
                started.running = running.len();
            }
            EventKind::TestFinished(finished) => {
                running.remove(&finished.test);
                stats.add(finished);
                finished.stats = stats;
                finished.running = running.len();
            }
            _ => {}
        }
    }
    stats
}

fn started(
    parts: &[Parts<'_>],
    chosen: &BTreeMap<TestId, usize>,
    skipped: usize,
    run_id: RunId,
    command_line: Vec<String>,
) -> RunStarted {
    let starts = || parts.iter().map(|part| part.start);
    let binaries: BTreeSet<_> = chosen.keys().map(|test| &test.binary).collect();
    let first = starts()
        .min_by_key(|start| start.started_at)
        .expect("there is at least one");
    RunStarted {
        run_id,
        command_line,
        slots: starts().map(|start| start.slots).sum(),
        tests: chosen.len() + not_run(parts, chosen).len(),
        binaries: binaries.len(),
        skipped_tests: skipped,
        partial: starts().any(|start| start.partial),
        sources: sources(parts, chosen),
        ..first.clone()
    }
}

/// Fails if some have tests and others benchmarks.
fn same_mode(parts: &[Parts<'_>]) -> Result<(), MergeError> {
    let of = |mode| parts.iter().find(|part| part.start.mode == mode);
    match (of(RunMode::Test), of(RunMode::Benchmark)) {
        (Some(tests), Some(benchmarks)) => Err(MergeError::Modes(
            tests.name.to_owned(),
            benchmarks.name.to_owned(),
        )),
        _ => Ok(()),
    }
}

/// Returns the binaries of all parts, each with the number of its tests in all of them.
fn sources(
    parts: &[Parts<'_>],
    chosen: &BTreeMap<TestId, usize>,
) -> BTreeMap<RustBinaryId, Source> {
    let starts = parts.iter().map(|part| part.start);
    let all = starts.flat_map(|start| start.sources.clone());
    let mut sources: BTreeMap<_, Source> = all.collect();
    for source in sources.values_mut() {
        source.tests = 0;
    }
    for test in chosen.keys().chain(&not_run(parts, chosen)) {
        if let Some(source) = sources.get_mut(&test.binary) {
            source.tests += 1;
        }
    }
    sources
}

fn finished(parts: &[Parts<'_>], chosen: &BTreeMap<TestId, usize>, stats: RunStats) -> Event {
    let ends = || {
        parts
            .iter()
            .filter_map(|part| Some((part.offset, part.end?)))
    };
    let elapsed = ends().map(|(offset, end)| offset + end.elapsed).max();
    let elapsed = elapsed.unwrap_or_default();
    let failed_scripts: BTreeSet<_> = ends()
        .flat_map(|(_, end)| end.failed_scripts.clone())
        .collect();
    let failed_services: BTreeSet<_> = ends()
        .flat_map(|(_, end)| end.failed_services.clone())
        .collect();
    Event {
        at: elapsed,
        kind: EventKind::RunFinished(Box::new(RunFinished {
            elapsed,
            stats,
            cancelled: ends().filter_map(|(_, end)| end.cancelled).max(),
            not_run: not_run(parts, chosen).into_iter().collect(),
            failed_scripts: failed_scripts.into_iter().collect(),
            failed_services: failed_services.into_iter().collect(),
            findings: findings(ends().map(|(_, end)| &end.findings)),
        })),
    }
}

/// Puts the findings of parts together. Causes that look alike are one.
fn findings<'a>(parts: impl Iterator<Item = &'a Findings>) -> Findings {
    let mut all = Findings::default();
    for part in parts {
        all.interferences.extend(part.interferences.iter().cloned());
        all.credentials.extend(part.credentials.iter().cloned());
        all.more_credentials += part.more_credentials;
        for common in &part.causes {
            let same = |it: &&mut CommonCause| it.cause == common.cause;
            match all.causes.iter_mut().find(same) {
                Some(known) => {
                    known.count += common.count;
                    known.tests.extend(common.tests.iter().cloned());
                }
                None => all.causes.push(common.clone()),
            }
        }
    }
    all.causes.sort_by_key(|it| Reverse(it.count));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use harness_metadata::RunId;

    fn piece(name: &str, part: &str, after: i64, tests: &[(&str, i32)]) -> Piece {
        let tests = tests.iter();
        let tests = tests.map(|(name, code)| (sample::test(name), vec![sample::code(1, *code)]));
        let mut events = sample::run(tests.collect());
        if let EventKind::RunStarted(start) = &mut events[0].kind {
            start.started_at += chrono::Duration::seconds(after);
            start.command_line = vec!["run".to_owned(), format!("--partition=time:{part}")];
        }
        Piece {
            name: name.to_owned(),
            events,
        }
    }

    fn merged(pieces: &[Piece]) -> Merged {
        merge(pieces, RunId::random(), Vec::new()).expect("they are recordings")
    }

    fn end(merged: &Merged) -> &RunFinished {
        match &merged.events.last().expect("there are events").kind {
            EventKind::RunFinished(end) => end,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn slots_times_and_counts_are_those_of_one_run() {
        let one = piece("one", "1/2", 10, &[("a", 0), ("b", 1)]);
        let two = piece("two", "2/2", 7, &[("c", 0)]);
        let merged = merged(&[one, two]);
        assert_eq!((&merged.missing, &merged.warnings), (&vec![], &vec![]));
        let EventKind::RunStarted(start) = &merged.events[0].kind else {
            panic!("it starts otherwise")
        };
        assert_eq!((start.tests, start.slots), (3, 4));
        assert!(merged.events.is_sorted_by_key(|event| event.at));
        let finished = merged.events.iter().filter_map(|event| match &event.kind {
            EventKind::TestFinished(test) => {
                let (name, slot) = (test.test.name.as_str(), test.slot);
                Some((name, slot, test.stats.finished, event.at.as_millis()))
            }
            _ => None,
        });
        let finished: Vec<_> = finished.collect();
        assert_eq!(
            finished,
            [("c", 2, 1, 200), ("a", 0, 2, 3200), ("b", 0, 3, 3400)]
        );
        let end = end(&merged);
        assert_eq!((end.stats.passed, end.stats.failed), (2, 1));
        assert_eq!(
            (end.stats.selected, end.elapsed),
            (3, Duration::from_secs(8))
        );
    }

    #[test]
    fn a_missing_part_and_a_run_without_an_end_are_named() {
        let one = piece("one", "1/3", 0, &[("a", 0)]);
        let mut three = piece("three", "3/3", 0, &[("c", 0)]);
        three.events.pop();
        assert_eq!(
            merged(&[one, three]).missing,
            [
                "the run of `three` did not come to its end",
                "part `time:2/3` is missing"
            ]
        );
    }

    #[test]
    fn of_two_results_of_a_test_the_failure_counts_and_both_are_named() {
        let one = piece("one", "1/2", 0, &[("a", 0)]);
        let mut two = piece("two", "2/2", 0, &[("a", 1)]);
        if let EventKind::RunStarted(start) = &mut two.events[0].kind {
            start.profile = "ci".to_owned();
        }
        let merged = merged(&[one, two]);
        assert_eq!(
            merged.warnings,
            [
                "`one` is a run with profile `default` and `two` one with profile `ci`",
                "`sample a` has a result in `one` and in `two`; that of `two` counts"
            ]
        );
        let end = end(&merged);
        assert_eq!((end.stats.finished, end.stats.failed), (1, 1));
    }

    #[test]
    fn what_is_no_recording_is_named() {
        let mut one = piece("one", "1/1", 0, &[]);
        one.events.remove(0);
        let error = merge(&[one], RunId::random(), Vec::new()).expect_err("it has no start");
        assert_eq!(error, MergeError::NoStart("one".to_owned()));
        let error = merge(&[], RunId::random(), Vec::new()).expect_err("there is none");
        assert_eq!(error, MergeError::Nothing);
    }

    #[test]
    fn tests_and_benchmarks_are_not_parts_of_one_run() {
        let mut benchmarks = piece("two", "2/2", 0, &[("b", 0)]);
        if let EventKind::RunStarted(start) = &mut benchmarks.events[0].kind {
            start.mode = RunMode::Benchmark;
        }
        let pieces = [benchmarks, piece("one", "1/2", 0, &[("a", 0)])];
        let error = merge(&pieces, RunId::random(), Vec::new()).unwrap_err();
        let expected =
            "`one` is a run of tests and `two` one of benchmarks, so they are no parts of one run";
        assert_eq!(error.to_string(), expected);
    }
}
