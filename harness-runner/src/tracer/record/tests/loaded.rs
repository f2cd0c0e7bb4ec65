//! Replays of loads as a whole: the result equals that of single events.

use super::*;
use crate::tracer::record::file::{
    CHUNK, EVENTS, HEADER, LOADED, LOADERS, LOADS, MAGIC, Repeated, push_frame,
};

/// An input of the recorder.
#[derive(Clone, Debug)]
enum Told {
    Event(TraceEvent),
    /// The number of the load.
    Loaded(Duration, i32, usize),
}

/// Tells it to two recorders, to one of them loaders as a whole. Returns the summaries and what is in
/// the files: all events, and the end.
fn both(
    loaders: &[Vec<TraceEventKind>],
    told: &[Told],
) -> [(TraceSummary, Vec<TraceEvent>, Ending); 2] {
    let loaders: Vec<_> = loaders
        .iter()
        .map(|events| Rc::new(Loaded::new(events.clone()).unwrap()))
        .collect();
    [false, true].map(|whole| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.trace");
        let mut recorder = recorder(Some(&path));
        for told in told {
            match told {
                Told::Event(event) => recorder.event(event),
                Told::Loaded(at, pid, which) if whole => {
                    recorder.loaded(*at, *pid, &loaders[*which]);
                }
                Told::Loaded(at, pid, which) => {
                    for event in loaders[*which].events(*at, *pid) {
                        recorder.event(&event);
                    }
                }
            }
        }
        let summary = recorder.summary();
        recorder.complete().unwrap();
        let mut reader = Reader::open(&path).unwrap();
        let events = reader.by_ref().collect();
        (summary, events, reader.ending().unwrap().clone())
    })
}

fn loaded(millis: u64, which: usize) -> Told {
    Told::Loaded(Duration::from_millis(millis), ROOT, which)
}

fn single(millis: u64, kind: TraceEventKind) -> Told {
    Told::Event(event(ROOT, millis, kind))
}

#[test]
fn what_is_no_call_on_a_file_is_no_loaders_doing() {
    assert!(Loaded::new(vec![open("/a", MISSING)]).is_some());
    assert!(Loaded::new(vec![open("/a", MISSING), fork(1)]).is_none());
}

#[test]
fn a_library_that_a_loader_found_makes_an_earlier_failure_forgotten() {
    let loader = vec![
        open("/a/libx.so", MISSING),
        open("/b/libx.so", CallResult::Found),
    ];
    let told = [
        single(1, open("/z/libx.so", MISSING)),
        single(2, open("/z/data", MISSING)),
        loaded(3, 0),
    ];
    let [one, whole] = both(&[loader], &told);
    let left: Vec<_> = whole
        .0
        .failures
        .iter()
        .map(|it| it.target.to_string())
        .collect();
    assert_eq!(left, ["/z/data"]);
    assert_eq!(whole, one);
}

#[test]
fn a_library_that_a_loader_did_not_find_is_a_failure() {
    let loader = vec![open("/a/libx.so", MISSING), open("/b/libx.so", MISSING)];
    let [one, whole] = both(&[loader], &[loaded(3, 0)]);
    let left: Vec<_> = whole
        .0
        .failures
        .iter()
        .map(|it| (it.at, it.target.to_string()))
        .collect();
    assert_eq!(left, [(Duration::from_millis(3), "/b/libx.so".to_owned())]);
    assert_eq!(whole, one);
}

#[test]
fn what_the_summary_has_no_room_for_is_counted_each_time() {
    let names = |from: usize, to: usize| (from..to).map(|number| format!("/{number}"));
    let found = |name: String| open(&name, CallResult::Found);
    // Of this loader's files, those of the second half do not fit, and one is used twice.
    let loader: Vec<_> = names(FILES - 10, FILES + 10)
        .chain(names(FILES + 5, FILES + 6))
        .map(found)
        .collect();
    let mut told: Vec<_> = names(0, FILES - 10)
        .map(|name| single(1, found(name)))
        .collect();
    told.extend([loaded(2, 0), loaded(3, 0)]);
    let [one, whole] = both(&[loader], &told);
    assert_eq!(whole.0.files.len(), FILES);
    assert_eq!(whole.0.dropped.files, 22);
    assert_eq!(whole, one);

    let long = "x".repeat(PATH_BYTES / 2);
    let loader = ["/1", "/2", "/3"].map(|name| found(format!("{name}{long}")));
    let told = [loaded(1, 0), loaded(2, 0), loaded(3, 0)];
    let [one, whole] = both(&[loader.to_vec()], &told);
    assert_eq!(whole.0.dropped.files, 6);
    assert_eq!(whole, one);
}

#[test]
fn more_loaders_than_have_numbers_and_large_ones_are_told_as_well() {
    let mut loaders: Vec<_> = (0..LOADERS + 10)
        .map(|number| vec![open(&format!("/{number}"), CallResult::Found)])
        .collect();
    let long = "x".repeat(CHUNK);
    loaders.insert(0, vec![open(&long, CallResult::Found)]);
    loaders.insert(1, Vec::new());
    let told: Vec<_> = (0..loaders.len())
        .chain(0..loaders.len())
        .map(|which| loaded(1, which))
        .collect();
    let [one, whole] = both(&loaders, &told);
    assert_eq!(whole.1.len(), 2 * (LOADERS + 11));
    assert_eq!(whole, one);
}

#[test]
fn a_loader_is_in_a_file_once_and_as_far_as_there_is_room() {
    let calls = (0..100).map(|number| open(&format!("/lib/{number:0100}"), CallResult::Found));
    let loader = Rc::new(Loaded::new(calls.collect()).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.trace");
    let write = |events: u64, times: u64| {
        let bytes = u64::MAX;
        let limits = file::Limits { events, bytes };
        // What is there is added to.
        let _ = fs::remove_file(&path);
        let mut writer = Writer::with_limits(path.clone(), header(), limits);
        for number in 0..times {
            writer.loaded(Duration::from_millis(number), ROOT, &loader);
        }
        let dropped = writer.dropped();
        writer.complete(&Trailer::default()).unwrap();
        let length = fs::metadata(&path).unwrap().len();
        (Reader::open(&path).unwrap().count() as u64, dropped, length)
    };
    let (_, _, once) = write(u64::MAX, 1);
    let (events, dropped, often) = write(u64::MAX, 50);
    assert_eq!((events, dropped), (5_000, 0));
    assert!(often < once + 1_000, "{often} bytes, {once} for one");
    let (events, dropped, _) = write(250, 4);
    assert_eq!((events, dropped), (250, 150));
}

#[test]
fn what_a_loader_did_a_second_ago_is_in_the_file_even_if_the_writer_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.trace");
    let mut recorder = recorder(Some(&path));
    let calls = vec![open("/a", MISSING), open("/b", CallResult::Found)];
    let loader = Rc::new(Loaded::new(calls).unwrap());
    for millis in [0, 1_500, 1_600] {
        recorder.loaded(Duration::from_millis(millis), ROOT, &loader);
    }
    // As a kill would have it.
    std::mem::forget(recorder);
    assert_eq!(Reader::open(&path).unwrap().count(), 4);
}

#[test]
fn what_a_loader_did_is_lost_whole_if_it_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = recorder(Some(&folder.path().join("missing/1.trace")));
    let calls = vec![open("/a", MISSING), open("/b", CallResult::Found)];
    let loader = Rc::new(Loaded::new(calls).unwrap());
    recorder.loaded(Duration::ZERO, ROOT, &loader);
    recorder.flush();
    assert_eq!(recorder.summary().dropped.events, 2);
    recorder.loaded(Duration::ZERO, ROOT, &loader);
    assert_eq!(recorder.summary().dropped.events, 4);
    recorder.complete().unwrap_err();
}

#[test]
fn a_file_from_before_there_were_items_is_read() {
    let events = [
        event(ROOT, 1, open("/a", MISSING)),
        event(ROOT, 2, TraceEventKind::ThreadEnded),
    ];
    let header = Header {
        version: 2,
        ..header()
    };
    let mut bytes = MAGIC.to_vec();
    push_frame(&mut bytes, HEADER, &postcard::to_stdvec(&header).unwrap());
    let chunk = events
        .each_ref()
        .map(|event| postcard::to_stdvec(event).unwrap());
    push_frame(&mut bytes, EVENTS, &chunk.concat());
    let reader = Reader::new(bytes.as_slice(), Path::new("old")).unwrap();
    assert_eq!(reader.collect::<Vec<_>>(), events);
}

/// A file that was tampered with, as far as it can be read: how many events, and how it ends.
fn read_of(chunks: &[Vec<u8>]) -> (usize, Ending) {
    let mut bytes = MAGIC.to_vec();
    push_frame(&mut bytes, HEADER, &postcard::to_stdvec(&header()).unwrap());
    for chunk in chunks {
        push_frame(&mut bytes, EVENTS, chunk);
    }
    let mut reader = Reader::new(bytes.as_slice(), Path::new("tampered")).unwrap();
    (reader.by_ref().count(), reader.ending().unwrap().clone())
}

/// An item with what a loader did: a number of events that are a byte long.
fn loads(length: usize) -> Vec<u8> {
    let kind = postcard::to_stdvec(&TraceEventKind::ThreadEnded).unwrap();
    let kinds = postcard::to_stdvec(&serde_bytes::Bytes::new(&kind.repeat(length))).unwrap();
    [&[LOADS][..], &kinds].concat()
}

#[test]
fn a_file_does_not_stand_for_more_than_a_writer_writes() {
    let again = Repeated {
        at: Duration::ZERO,
        pid: 1,
        number: 0,
    };
    let again = [&[LOADED][..], &postcard::to_stdvec(&again).unwrap()].concat();
    let chunk = [loads(CHUNK), again.repeat(100)].concat();
    assert_eq!(read_of(&[chunk]), (1_000_000, Ending::Truncated));
    let chunk = [loads(CHUNK + 1), again.clone()].concat();
    assert_eq!(read_of(&[chunk]), (0, Ending::Truncated));
    let many: Vec<_> = (0..=LOADERS).map(|_| loads(1)).collect();
    let chunk = [many.concat(), again].concat();
    assert_eq!(read_of(&[chunk]), (0, Ending::Truncated));
}

/// Calls on few files, so that they are about the same.
fn call() -> impl Strategy<Value = TraceEventKind> {
    let path = prop_oneof![
        (0..4, 0..4).prop_map(|(folder, name)| format!("/{folder}/lib{name}.so.1")),
        (0..40).prop_map(|name| format!("/data/{name}")),
        Just("/a/glibc-hwcaps/x86-64-v3/lib1.so.1".to_owned()),
        Just(String::new()),
    ];
    let result = prop_oneof![
        Just(CallResult::Found),
        Just(MISSING),
        Just(CallResult::Err(libc::EACCES)),
        Just(CallResult::Err(libc::EINTR)),
    ];
    let operation = prop_oneof![
        Just(FileOperation::Open),
        Just(FileOperation::Stat),
        Just(FileOperation::Rename),
    ];
    (path, result, operation).prop_map(|(path, result, operation)| {
        if operation == FileOperation::Open {
            return open(&path, result);
        }
        file(operation, "call", &path, result)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn told_as_a_whole_is_told_one_by_one(
        loaders in prop::collection::vec(prop::collection::vec(call(), 0..60), 1..4),
        told in prop::collection::vec((call(), 0..3, 0..3_000_u64, any::<bool>(), any::<usize>()), 0..60),
    ) {
        let told: Vec<_> = told
            .into_iter()
            .map(|(call, pid, millis, whole, which)| match whole {
                true => Told::Loaded(Duration::from_millis(millis), ROOT + pid, which % loaders.len()),
                false => Told::Event(event(ROOT + pid, millis, call)),
            })
            .collect();
        prop_assume!(!told.is_empty());
        prop_assume!(loaders.iter().all(|loader| !loader.is_empty()));
        let [one, whole] = both(&loaders, &told);
        prop_assert_eq!(whole, one);
    }
}
