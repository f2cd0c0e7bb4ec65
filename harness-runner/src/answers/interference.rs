//! Watches a run for tests that change what a failing test uses, while both run.
//!
//! While the run goes on, summaries are compared by hashes of paths: that costs little, and leaves few pairs. At the
//! end the whole traces of these are read, and the rules about clashes decide. All of it is bounded.

use super::{
    conflicts::{Clash, Conflict, Party, Sure, conflicts, micros},
    rules::{Roots, is_shared_root, noise},
    uses::{How, Thing, Use},
};
use crate::store::{Found, KeptTrace, PastRun, Record, last::Last};
use chrono::{DateTime, FixedOffset};
use harness_metadata::{
    Attempt, RawString, TestId, TraceSummary, Verdict,
    event::{Interference, ThingKind, TraceLevel},
    noise::file_name,
    trace::{Address, FileUse, NetworkOperation},
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::SocketAddr,
    ops::Range,
    time::Duration,
};
use xxhash_rust::xxh64::xxh64;

/// Failed attempts that are looked at.
const FAILURES: usize = 32;
/// Attempts that a failed one is compared with.
const OTHERS: usize = 8;
/// Attempts that ended, of which some test that still runs may have noticed something.
const RECENT: usize = 4096;
/// Changed paths of one attempt that are remembered.
const CHANGED: usize = 512;
/// Bytes of one trace that are read.
const LONGEST_TRACE: u64 = 8 * 1024 * 1024;

/// An attempt that ended, and what it changed, by hashes of names.
#[derive(Clone)]
struct Ended {
    test: TestId,
    attempt: u32,
    slot: usize,
    time: Range<DateTime<FixedOffset>>,
    changed: Vec<u64>,
    record: Record,
}

/// A failed attempt.
struct Failed {
    ended: Ended,
    /// Hashes of the things that it used.
    used: HashSet<u64>,
    others: Vec<Ended>,
}

/// The attempts of a run that may have met.
pub struct Watch {
    roots: Roots,
    /// The running attempts, with their slots and starts.
    running: HashMap<TestId, (usize, DateTime<FixedOffset>)>,
    recent: VecDeque<Ended>,
    failed: Vec<Failed>,
}

impl Watch {
    /// Returns a watch without attempts.
    pub fn new(roots: Roots) -> Self {
        Self {
            roots,
            running: HashMap::new(),
            recent: VecDeque::new(),
            failed: Vec::new(),
        }
    }

    /// Takes the start of an attempt.
    pub fn started(&mut self, test: &TestId, slot: usize, at: DateTime<FixedOffset>) {
        self.running.insert(test.clone(), (slot, at));
    }

    /// Takes the end of an attempt. Only those whose traces are kept can be looked at.
    pub fn ended(&mut self, test: &TestId, attempt: &Attempt, kept_trace: Option<&KeptTrace>) {
        let slot = self.running.remove(test).map_or(0, |(slot, _)| slot);
        let trace = attempt.trace.as_deref();
        let trace = trace.filter(|trace| trace.level >= TraceLevel::Io);
        if let (Some(trace), Some(kept)) = (trace, kept_trace)
            && kept
                .part
                .is_some_and(|part| part.end - part.start <= LONGEST_TRACE)
        {
            self.traced(test, slot, attempt, trace, kept);
        }
        self.forget();
    }

    fn traced(
        &mut self,
        test: &TestId,
        slot: usize,
        attempt: &Attempt,
        trace: &TraceSummary,
        kept: &KeptTrace,
    ) {
        let ended = Ended {
            test: test.clone(),
            attempt: attempt.number,
            slot,
            time: attempt.started_at..attempt.started_at + attempt.elapsed,
            changed: self.changed(trace),
            record: record(test, attempt, kept),
        };
        let failing = attempt.verdict == Verdict::Fail && self.failed.len() < FAILURES;
        if !ended.changed.is_empty() {
            for failed in &mut self.failed {
                failed.meets(&ended);
            }
        }
        if failing {
            let mut failed = Failed {
                used: used(trace),
                others: Vec::new(),
                ended: ended.clone(),
            };
            self.recent.iter().for_each(|other| failed.meets(other));
            self.failed.push(failed);
        }
        if !ended.changed.is_empty() {
            self.recent.push_back(ended);
        }
    }

    /// Forgets attempts that ended before all those that run now began.
    fn forget(&mut self) {
        let oldest = self.running.values().map(|(_, start)| start).min();
        let is_past = |ended: &Ended| oldest.is_none_or(|oldest| ended.time.end < *oldest);
        while self.recent.front().is_some_and(is_past) || self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    /// Returns hashes of what a trace says was changed, noise left out.
    fn changed(&self, trace: &TraceSummary) -> Vec<u64> {
        let mut changed = Vec::new();
        for file in &trace.files {
            let effect = file.uses.iter().any(|usage| is_effect(*usage));
            if !effect || noise(&Thing::Path(file.path.clone()), &self.roots).is_some() {
                continue;
            }
            let path = file.path.as_bytes();
            changed.push(hash(path, SELF));
            let folder = folder_of(path);
            let shared = is_shared_root(&Thing::Path(folder.into()), &self.roots);
            if !shared && file.uses.iter().any(|usage| changes_names(*usage)) {
                changed.push(hash(folder, ENTRY));
            }
            if file.uses.contains(&FileUse::RenamedFrom) {
                changed.push(hash(path, BELOW));
            }
            if changed.len() >= CHANGED {
                break;
            }
        }
        let bound = trace.peers.iter().filter(|peer| {
            let binds = peer.operation == NetworkOperation::Bind && peer.error.is_none();
            binds && has_a_name(&peer.address)
        });
        changed.extend(bound.map(|peer| hash(peer.address.to_string().as_bytes(), SELF)));
        changed
    }

    /// Returns whether some attempts may have met.
    pub fn has_some(&self) -> bool {
        self.failed.iter().any(|failed| !failed.others.is_empty())
    }

    /// Reads the traces of the attempts that may have met, from the folder of their run. Returns for each failed
    /// attempt the test that most likely disturbed it, if there is one.
    pub fn found(self, run: &PastRun) -> Vec<Interference> {
        let mut all: Vec<&Ended> = Vec::new();
        for failed in self.failed.iter().filter(|it| !it.others.is_empty()) {
            for ended in [&failed.ended].into_iter().chain(&failed.others) {
                if !all.iter().any(|it| it.is(&ended.test, ended.attempt)) {
                    all.push(ended);
                }
            }
        }
        let lasts = all.iter().map(|ended| Last {
            test: ended.test.clone(),
            found: Some(Found {
                run: run.clone(),
                record: ended.record.clone(),
                later: None,
            }),
        });
        let pairs = conflicts(lasts.collect(), &self.roots).pairs;
        let of = |failed: &Failed| {
            let met = pairs.iter().flat_map(|pair| met(&failed.ended, pair, &all));
            met.min_by_key(|met| met.weight)
        };
        let failed = self.failed.iter();
        failed
            .filter_map(|failed| Some(of(failed)?.told(&failed.ended, &self.roots)))
            .collect()
    }
}

impl Ended {
    fn is(&self, test: &TestId, attempt: u32) -> bool {
        self.test == *test && self.attempt == attempt
    }
}

/// Another attempt changed something that a failed one used.
struct Met<'a> {
    other: &'a Ended,
    clash: &'a Clash,
    how: How,
    weight: u8,
}

/// Returns what a failed attempt met, if the pair is about it.
fn met<'a>(failed: &Ended, pair: &'a Conflict, all: &[&'a Ended]) -> Vec<Met<'a>> {
    let is_it = |party: &Party| failed.is(&party.test, party.attempt);
    let (own, party, first) = match (is_it(&pair.one), is_it(&pair.other)) {
        (true, false) => (&pair.one, &pair.other, true),
        (false, true) => (&pair.other, &pair.one, false),
        _ => return Vec::new(),
    };
    let other = all.iter().find(|it| it.is(&party.test, party.attempt));
    let Some(other) = other.filter(|it| it.test != failed.test) else {
        return Vec::new();
    };
    let met = pair.clashes.iter().filter_map(|clash| {
        let (used, did) = match first {
            true => (&clash.one, &clash.other),
            false => (&clash.other, &clash.one),
        };
        let own = (own, used.as_slice());
        let (weight, how) = weight(clash, own, (party, did))?;
        Some(Met {
            other,
            clash,
            how,
            weight,
        })
    });
    met.collect()
}

impl Met<'_> {
    fn told(&self, failed: &Ended, roots: &Roots) -> Interference {
        let thing = &self.clash.thing;
        let entry = self.clash.entry.as_ref();
        let entry = entry.filter(|entry| is_entry(entry, thing));
        let uses = || self.clash.one.iter().chain(&self.clash.other);
        let folder = |it: &Use| matches!(it.how, How::Listed | How::MadeFolder | How::Entered);
        let kind = match thing {
            Thing::Path(_) if self.clash.entry.is_some() || uses().any(folder) => ThingKind::Folder,
            Thing::Path(_) => ThingKind::File,
            _ => ThingKind::Address,
        };
        Interference {
            test: failed.test.clone(),
            attempt: failed.attempt,
            other: self.other.test.clone(),
            slot: self.other.slot,
            did: verb(self.how).to_owned(),
            thing: shown(thing, roots),
            kind,
            entry: entry
                .and_then(Thing::path)
                .map(|path| file_name(path).into()),
        }
    }
}

fn shown(thing: &Thing, roots: &Roots) -> RawString {
    match thing {
        Thing::Path(path) => match std::str::from_utf8(path.as_bytes()) {
            Ok(text) => roots.shown(text).as_str().into(),
            Err(_) => path.clone(),
        },
        Thing::Ip(ip, port) => SocketAddr::new(*ip, *port).to_string().as_str().into(),
        Thing::Abstract(name) => [b"@", name.as_bytes()].concat().into(),
        Thing::Host(name) => name.clone(),
        Thing::Other(name) => name.as_str().into(),
    }
}

impl Failed {
    /// Keeps another attempt that ran at the same time, and changed something that this one used.
    fn meets(&mut self, other: &Ended) {
        let (own, its) = (&self.ended.time, &other.time);
        let overlap = own.start < its.end && its.start < own.end;
        let room = self.others.len() < OTHERS && other.test != self.ended.test;
        if overlap && room && other.changed.iter().any(|it| self.used.contains(it)) {
            self.others.push(other.clone());
        }
    }
}

/// The thing itself.
const SELF: u64 = 0;
/// An entry of a folder.
const ENTRY: u64 = 1;
/// Something below a folder.
const BELOW: u64 = 2;

fn hash(name: &[u8], part: u64) -> u64 {
    xxh64(name, part)
}

fn folder_of(path: &[u8]) -> &[u8] {
    let folder = &path[..path.len() - file_name(path).len()];
    folder.strip_suffix(b"/").unwrap_or(folder)
}

/// Returns hashes of all that a trace says was used.
fn used(trace: &TraceSummary) -> HashSet<u64> {
    let mut used = HashSet::new();
    for file in &trace.files {
        let path = file.path.as_bytes();
        used.insert(hash(path, SELF));
        if file.uses.contains(&FileUse::Listed) {
            used.insert(hash(path, ENTRY));
        }
        let mut folder = folder_of(path);
        while !folder.is_empty() && used.insert(hash(folder, BELOW)) {
            folder = folder_of(folder);
        }
    }
    let peers = trace.peers.iter().map(|peer| &peer.address);
    let named = peers.filter(|address| has_a_name(address));
    used.extend(named.map(|address| hash(address.to_string().as_bytes(), SELF)));
    used
}

fn has_a_name(address: &Address) -> bool {
    match address {
        Address::Ip { port, .. } => *port != 0,
        Address::Unix(_) | Address::UnixAbstract(_) => true,
        _ => false,
    }
}

fn record(test: &TestId, attempt: &Attempt, kept: &KeptTrace) -> Record {
    Record {
        test: test.clone(),
        attempt: attempt.number,
        verdict: attempt.verdict,
        outcome: attempt.outcome.clone(),
        started_at: attempt.started_at,
        elapsed: attempt.elapsed,
        kept_trace: Some(kept.clone()),
        output: None,
        trace: None,
    }
}

fn is_effect(usage: FileUse) -> bool {
    changes_names(usage)
        || matches!(
            usage,
            FileUse::Written | FileUse::Truncated | FileUse::MetadataChanged
        )
}

fn changes_names(usage: FileUse) -> bool {
    matches!(
        usage,
        FileUse::Created
            | FileUse::Removed
            | FileUse::RenamedFrom
            | FileUse::RenamedTo
            | FileUse::Linked
    )
}

/// Returns how much a clash tells of a failure, 0 the most, and what the other test did; `None` if that was at
/// another time, or nothing that a test notices.
fn weight(clash: &Clash, own: (&Party, &[Use]), other: (&Party, &[Use])) -> Option<(u8, How)> {
    let ((failed, used), (other, did)) = (own, other);
    let end = failed.started.saturating_add(micros(failed.elapsed));
    let own_has = |hows: &[How]| used.iter().any(|it| hows.contains(&it.how));
    let taken = own_has(&[How::Taken]);
    match clash.sure {
        Sure::Met => {}
        Sure::SameAddress if taken => {}
        Sure::SameAddress | Sure::Could | Sure::Weak(_) => return None,
    }
    let meanwhile = |it: &&Use| {
        let at = |time: Duration| {
            let moment = other.started.saturating_add(micros(time));
            (failed.started..=end).contains(&moment)
        };
        it.how == How::Bound || at(it.at) || at(it.last)
    };
    let effects = did.iter().filter(|it| it.how.is_effect()).filter(meanwhile);
    let how = effects.map(|it| it.how).min_by_key(|how| strength(*how))?;
    let weight = match () {
        () if taken || own_has(&[How::Missing, How::Refused, How::Exists]) => 0,
        () if clash.entry.is_none() && own_has(&[How::Read, How::Executed]) => 1,
        () if own_has(&[How::Listed]) => 2,
        () => 3,
    };
    Some((weight, how))
}

/// Returns the order of effects, the one that others notice most first.
fn strength(how: How) -> u8 {
    match how {
        How::Removed => 0,
        How::RenamedFrom => 1,
        How::RenamedTo => 2,
        How::Emptied => 3,
        How::Bound => 4,
        How::Written => 5,
        How::Created => 6,
        How::MadeFolder => 7,
        _ => 8,
    }
}

/// Returns a verb in the past tense.
fn verb(how: How) -> &'static str {
    match how {
        How::Removed => "removed",
        How::RenamedFrom => "renamed",
        How::RenamedTo => "replaced",
        How::Emptied => "emptied",
        How::Bound => "bound",
        How::Written => "wrote",
        How::Created => "created",
        How::MadeFolder => "made",
        _ => "changed the metadata of",
    }
}

/// Returns whether one path is an entry of another.
fn is_entry(entry: &Thing, folder: &Thing) -> bool {
    let (Some(entry), Some(folder)) = (entry.path(), folder.path()) else {
        return false;
    };
    folder_of(entry) == folder
}
