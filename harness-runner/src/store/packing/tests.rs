use super::*;
use crate::{
    report::{Sink, Stream},
    store::{Belongings, KeptTrace, Overview, Recording, Run, Span, State, runs},
};
use fixture_kit::sample::{self, test};
use harness_metadata::{
    Attempt, Event, EventKind, RunId, RunStats, TraceSummary, Verdict,
    event::{Findings, RunFinished, RunStarted},
};
use std::{
    io::{Read, Write},
    os::unix::fs::FileExt,
    time::Duration,
};

/// Tests of a run: some megabytes of events and traces, so several blocks.
const TESTS: u64 = 40;

fn event(kind: EventKind) -> Event {
    let at = Duration::from_millis(3);
    Event { at, kind }
}

/// A run in its folder, that has ended.
pub(in crate::store) struct Scene {
    _folder: tempfile::TempDir,
    pub(in crate::store) target: Utf8PathBuf,
    pub(in crate::store) run: Utf8PathBuf,
    id: RunId,
}

/// The position of a trace: three are in a file, and the first one has a file for itself, as in old recordings.
fn kept_trace(number: u64) -> KeptTrace {
    let start = (number % 3) * TRACE_LENGTH;
    let end = start + TRACE_LENGTH;
    KeptTrace {
        file: format!("{}.trace", if number == 0 { 1_000 } else { number / 3 }),
        part: (number != 0).then_some(Span { start, end }),
    }
}

/// The bytes of a trace.
const TRACE_LENGTH: u64 = 20_000;

/// A trace: no zstd makes much of them.
fn trace(number: u64) -> Vec<u8> {
    let mut state = number + 1;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < TRACE_LENGTH {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

fn finished(number: u64) -> Event {
    let attempt = Attempt {
        trace: Some(Box::new(TraceSummary {
            counts: [("exec".to_owned(), 1)].into(),
            ..sample::trace()
        })),
        ..sample::code(1, i32::from(number.is_multiple_of(2)))
    };
    // Lines of some kilobytes.
    let name = format!("test_{number}_{}", "x".repeat(20_000));
    let finished = sample::finished(test("crate", &name), vec![attempt]);
    event(EventKind::TestFinished(Box::new(finished)))
}

impl Scene {
    pub(in crate::store) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let target = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        let id = RunId::random();
        let began = RunStarted {
            run_id: id,
            tests: TESTS as usize,
            ..sample::started()
        };
        let mut run = Run::create(&target, id, None).unwrap();
        let own = run.folder.clone();
        let started = event(EventKind::RunStarted(Box::new(began)));
        run.record(&started, Belongings::default()).unwrap();
        let mut spool = run.spool();
        for number in 0..TESTS {
            let path = own.join(kept_trace(number).file);
            let mut file = File::options().append(true).create(true).open(path);
            let whole = match number {
                1 => [trace(0), trace(1)].concat(),
                _ => trace(number),
            };
            file.as_mut().unwrap().write_all(&whole).unwrap();
            let text = format!("output of {number}").into_bytes();
            let kept = |bytes: &'static [u8]| crate::report::Kept {
                head: Box::new(bytes),
                dropped: 0,
                tail: Box::new(io::empty()),
            };
            let belongings = Belongings {
                trace: Some(kept_trace(number)),
                output: Some(spool.add(kept(text.leak()), kept(b"err")).unwrap()),
            };
            run.record(&finished(number), belongings).unwrap();
        }
        let last = RunFinished {
            elapsed: Duration::from_secs(1),
            stats: RunStats::default(),
            cancelled: None,
            not_run: Vec::new(),
            failed_scripts: Vec::new(),
            failed_services: Vec::new(),
            findings: Findings::default(),
        };
        let last = event(EventKind::RunFinished(Box::new(last)));
        run.record(&last, Belongings::default()).unwrap();
        fs::remove_file(own.join(LOCK)).unwrap();
        drop(run);
        Self {
            _folder: folder,
            target,
            run: own,
            id,
        }
    }

    pub(in crate::store) fn packed(&self) -> Utf8PathBuf {
        pack_one(&self.run).unwrap()
    }

    /// Fails unless the one run that is kept has everything.
    #[track_caller]
    pub(in crate::store) fn assert_whole(&self) {
        let runs = runs(&self.target).unwrap();
        assert_eq!(runs.len(), 1, "{runs:?}");
        let run = &runs[0];
        assert_eq!(run.header.run_id, self.id);
        assert_eq!(run.events().unwrap().count(), TESTS as usize + 2);
        for (number, record) in (0..).zip(run.records().unwrap()) {
            let kept = record.kept_trace.unwrap();
            assert_eq!(kept, kept_trace(number));
            let mut bytes = Vec::new();
            let files = crate::store::files::Files::of(&run.path).unwrap();
            files.trace(&kept).unwrap().read_to_end(&mut bytes).unwrap();
            assert!(bytes == trace(number), "{kept:?}");
            let output = run.output(record.output.unwrap(), Stream::Stdout);
            assert_eq!(output.unwrap(), format!("output of {number}").into_bytes());
            let output = run.output(record.output.unwrap(), Stream::Stderr);
            assert_eq!(output.unwrap(), b"err");
        }
        let overview = Overview::of(run.clone()).unwrap();
        assert!(matches!(overview.state, State::Ended(_)), "{overview:?}");
    }
}

/// Counts results.
struct Count<'a>(&'a mut usize);

impl Sink for Count<'_> {
    fn handle(
        &mut self,
        event: &Event,
        _: &dyn crate::report::Outputs,
    ) -> Result<(), crate::report::SinkError> {
        if let EventKind::TestFinished(test) = &event.kind {
            assert!(matches!(test.verdict, Verdict::Pass | Verdict::Fail));
            *self.0 += 1;
        }
        Ok(())
    }
}

/// Replays a file. Returns what it says of damage, the number of damaged lines, and of results.
fn replayed(path: &Utf8Path) -> Result<(Option<String>, usize, usize), String> {
    let recording = Recording::open(path).map_err(|error| error.to_string())?;
    let mut count = 0;
    let replayed = recording.replay(&mut [Box::new(Count(&mut count))], &|_| ());
    let damaged = replayed.map_err(|error| error.to_string())?.damaged.len();
    let damage = recording.damage.map(|it| it.replace(path.as_str(), "PATH"));
    Ok((damage, damaged, count))
}

#[test]
fn a_packed_run_is_one_file_that_has_all_that_its_folder_had() {
    let scene = Scene::new();
    scene.assert_whole();
    let before = fs::read(scene.run.join(RECORDING)).unwrap();
    let packed = scene.packed();
    let runs = folder(&scene.target);
    let entries: Vec<_> = runs.read_dir_utf8().unwrap().flatten().collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(entries[0].path(), packed);
    scene.assert_whole();
    // Byte for byte, by each of its names.
    for path in [&packed, &scene.run, &scene.run.join(RECORDING)] {
        assert!(crate::store::recording_bytes(path).unwrap() == before);
    }
    assert_eq!(replayed(&packed), Ok((None, 0, TESTS as usize)));
}

#[test]
fn whenever_a_packer_is_killed_the_run_is_kept_once_and_whole() {
    // While it writes.
    let scene = Scene::new();
    let packed = pack_of(&scene.run);
    let (file, name) = Beside::new(&packed, NEW).unwrap().into_parts();
    let left = name.keep().unwrap();
    drop(file);
    scene.assert_whole();
    scene.packed();
    scene.assert_whole();
    assert!(!left.exists(), "what a killed one has written is removed");
    // A moment later: all of it is written, and it has no name yet.
    let scene = Scene::new();
    let new = Beside::new(&pack_of(&scene.run), NEW).unwrap();
    copy_to(&new.file, &scene.run).unwrap();
    scene.assert_whole();
    drop(new);
    // After the file has its name.
    let scene = Scene::new();
    let packed = pack_of(&scene.run);
    write(&scene.run, &parts(&scene.run).unwrap(), &packed).unwrap();
    scene.assert_whole();
    pack_all(&scene.target);
    assert!(!scene.run.exists());
    scene.assert_whole();
    // After the folder has the name by which it is deleted.
    let scene = Scene::new();
    write(
        &scene.run,
        &parts(&scene.run).unwrap(),
        &pack_of(&scene.run),
    )
    .unwrap();
    fs::rename(&scene.run, scene.run.with_extension(DELETED)).unwrap();
    scene.assert_whole();
    // While that is deleted, and a second packer came too late.
    fs::remove_file(scene.run.with_extension(DELETED).join(RECORDING)).unwrap();
    scene.assert_whole();
    assert!(pack_one(&scene.run).is_ok());
    scene.assert_whole();
}

#[test]
fn a_file_that_vanishes_while_it_is_packed_costs_the_pack_and_not_the_run() {
    let scene = Scene::new();
    let parts = parts(&scene.run).unwrap();
    let moved = scene.run.join("3.trace");
    fs::rename(&moved, scene.run.join("kept")).unwrap();
    assert!(pack(&scene.run, parts).is_err());
    assert!(!pack_of(&scene.run).exists());
    fs::rename(scene.run.join("kept"), &moved).unwrap();
    scene.assert_whole();
}

#[test]
fn a_large_run_is_left_to_a_later_command() {
    let scene = Scene::new();
    let traces = File::create(scene.run.join("2000.trace")).unwrap();
    traces.set_len(AT_ONCE).unwrap();
    at_the_end(&scene.run).unwrap();
    assert!(scene.run.is_dir() && !pack_of(&scene.run).exists());
    pack_all(&scene.target);
    assert!(!scene.run.exists());
    scene.assert_whole();
    let small = Scene::new();
    at_the_end(&small.run).unwrap();
    assert!(!small.run.exists());
    small.assert_whole();
}

#[test]
fn a_run_in_progress_or_of_a_killed_runner_is_left_until_that_is_told() {
    let scene = Scene::new();
    let lock = own_files::create_private(scene.run.join(LOCK)).unwrap();
    lock.lock().unwrap();
    pack_all(&scene.target);
    assert!(pack_one(&scene.run).is_err());
    assert!(scene.run.exists());
    lock.unlock().unwrap();
    pack_all(&scene.target);
    assert!(scene.run.exists(), "it is not reported yet");
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    // A child that another test is just starting may have a copy of the lock.
    while crate::store::take_killed(&scene.target).is_empty() {
        assert!(std::time::Instant::now() < deadline, "it is never told");
    }
    assert!(!scene.run.exists());
    scene.assert_whole();
}

#[test]
fn what_is_wrong_with_a_pack_is_a_sentence_with_its_place() {
    let scene = Scene::new();
    let packed = scene.packed();
    let whole = fs::read(&packed).unwrap();
    let says = |bytes: &[u8]| {
        fs::write(&packed, bytes).unwrap();
        let said = replayed(&packed);
        said.map_err(|error| error.replace(packed.as_str(), "PATH"))
    };
    let mut newer = whole.clone();
    newer[8] = 9;
    assert_eq!(
        says(&newer).unwrap_err(),
        "`PATH` is a recording of version 9, and this program reads version 1; the program that wrote \
         it reads it"
    );
    assert_eq!(
        says(&whole[..8]).unwrap_err(),
        "`PATH` is no recording of a run: it does not begin like one"
    );
    let cut = whole.len() - 5;
    let (damage, lines, results) = says(&whole[..cut]).unwrap();
    assert_eq!(
        damage.unwrap(),
        format!(
            "`PATH` is cut off after {cut} bytes; what is there is read. If it came from elsewhere, \
             copy it again"
        )
    );
    assert_eq!((lines, results), (0, TESTS as usize));
    // A bit of the index.
    let mut flipped = whole.clone();
    let at = whole.len() - 600;
    flipped[at] ^= 1;
    let (damage, lines, results) = says(&flipped).unwrap();
    let damage = damage.unwrap();
    assert!(damage.starts_with("`PATH` is damaged at byte "), "{damage}");
    assert!(
        damage.contains(": a block has another checksum; the rest"),
        "{damage}"
    );
    assert_eq!((lines, results), (0, TESTS as usize));
}

#[test]
fn a_damaged_block_costs_what_is_in_it_and_no_more() {
    let scene = Scene::new();
    let packed = scene.packed();
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(&packed)
        .unwrap();
    // The first block has the beginning of the recording; the second one more of it.
    let mut head = [0; 16];
    file.read_exact_at(&mut head, 12).unwrap();
    let stored = u32::from_le_bytes(head[8..12].try_into().unwrap());
    let second = 12 + 32 + u64::from(stored);
    file.write_all_at(b"damage", second + 40).unwrap();
    let (damage, lines, results) = replayed(&packed).unwrap();
    assert_eq!(damage, None, "the index is whole");
    assert!(lines > 0 && results > 0, "{lines} {results}");
    assert_eq!(
        lines + results,
        TESTS as usize,
        "each line is one or the other"
    );
    let run = runs(&scene.target).unwrap().remove(0);
    let files = crate::store::files::Files::of(&run.path).unwrap();
    for number in 0..TESTS {
        let mut bytes = Vec::new();
        let mut trace_file = files.trace(&kept_trace(number)).unwrap();
        trace_file.read_to_end(&mut bytes).unwrap();
        assert!(bytes == trace(number));
    }
}

#[test]
fn no_flipped_bit_and_no_cut_is_a_panic_or_a_wrong_trace() {
    let scene = Scene::new();
    let packed = scene.packed();
    let whole = fs::read(&packed).unwrap();
    let check = |bytes: &[u8]| {
        fs::write(&packed, bytes).unwrap();
        if let Ok((_, _, results)) = replayed(&packed) {
            assert!(results <= TESTS as usize);
        }
        let Ok(files) = crate::store::files::Files::of(&packed) else {
            return;
        };
        for number in [0, TESTS / 2, TESTS - 1] {
            let mut bytes = Vec::new();
            let read = files.trace(&kept_trace(number));
            if read.and_then(|mut it| it.read_to_end(&mut bytes)).is_ok() {
                let whole = trace(number);
                assert!(whole.starts_with(&bytes), "it is another's");
            }
        }
    };
    let step = whole.len() / 25;
    for at in (0..whole.len())
        .step_by(step)
        .chain(whole.len() - 40..whole.len())
    {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        check(&flipped);
    }
    for at in (0..whole.len()).step_by(step) {
        check(&whole[..at]);
    }
}

#[test]
fn a_run_that_is_being_made_is_not_packed_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let target = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let own = crate::store::folder(&target).join(RunId::random().to_string());
    fs::create_dir_all(&own).unwrap();
    // What a packer finds that has seen the folder and no lock yet, when the run goes on meanwhile.
    let refused = |own: &Utf8Path| pack_one(own).unwrap_err().kind() == io::ErrorKind::ResourceBusy;
    assert!(refused(&own));
    let lock = own_files::create_private(own.join(LOCK)).unwrap();
    assert!(refused(&own));
    lock.lock().unwrap();
    fs::write(own.join(RECORDING), "").unwrap();
    assert!(refused(&own));
    pack_all(&target);
    assert!(own.join(LOCK).exists());
}

#[test]
fn a_run_that_another_process_packs_is_not_made_again_by_those_that_look_at_it() {
    let scene = Scene::new();
    let run = runs(&scene.target).unwrap().remove(0);
    let packed = scene.packed();
    // They have listed it a moment before.
    crate::store::retention::size(&run);
    Ending::of(&run);
    assert!(!scene.run.exists());
    // As a version before this one has left it.
    fs::create_dir(&scene.run).unwrap();
    fs::write(scene.run.join("size"), "2\n").unwrap();
    pack_all(&scene.target);
    assert!(!scene.run.exists() && packed.exists());
    scene.assert_whole();
}
