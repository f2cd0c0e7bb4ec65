use super::*;
use crate::report::{
    json::{EmbeddedOutput, JsonLines},
    junit::{Junit, JunitOptions},
    sample,
    terminal::{Terminal, TerminalOptions},
};
use crate::store::{OUTPUT, RECORDING};
use serde_json::{Value, json};
use std::{cell::RefCell, fs, io::Write, rc::Rc, time::Duration};

/// A writer whose bytes can be read elsewhere.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A recording in a folder of its own.
struct Scene {
    _folder: tempfile::TempDir,
    path: Utf8PathBuf,
}

impl Scene {
    fn new(contents: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().expect("there is room");
        let path = Utf8Path::from_path(folder.path()).expect("it is UTF-8");
        let path = path.join(RECORDING);
        fs::write(&path, contents).expect("there is room");
        Self {
            _folder: folder,
            path,
        }
    }

    /// Replays it to a terminal. Returns what that shows.
    fn shown(&self) -> (String, Replayed) {
        let recording = Recording::open(&self.path).expect("it can be replayed");
        let writer = Shared::default();
        let terminal = Terminal::new(writer.clone(), TerminalOptions::default());
        let replayed = recording.replay(&mut [Box::new(terminal)], &|_| ());
        let text = writer.0.borrow().clone();
        let text = String::from_utf8(text).expect("it is text");
        (text, replayed.expect("it can be read"))
    }

    fn refused(&self) -> String {
        let error = Recording::open(&self.path).expect_err("it is refused");
        error.to_string().replace(self.path.as_str(), "PATH")
    }
}

fn events() -> Vec<Event> {
    sample::run(vec![
        (sample::test("passes"), vec![sample::code(1, 0)]),
        (
            sample::test("flaky"),
            vec![sample::code(1, 101), sample::code(2, 0)],
        ),
        (sample::test("fails"), vec![sample::code(1, 101)]),
        (sample::test("leaks"), vec![sample::leaky()]),
    ])
}

fn lines(events: &[Event]) -> Vec<String> {
    let lines = events
        .iter()
        .map(|event| serde_json::to_string(event).expect("it is JSON"));
    lines.collect()
}

fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_replay_shows_byte_for_byte_what_the_run_showed() {
    let mut live = Vec::new();
    let mut terminal = Terminal::new(&mut live, TerminalOptions::default());
    sample::feed(&mut terminal, &events(), &sample::Memory::default());
    drop(terminal);
    let (shown, replayed) = Scene::new(text(&lines(&events()))).shown();
    assert_eq!(shown, String::from_utf8(live).expect("it is text"));
    assert!(replayed.damaged.is_empty() && replayed.finished.is_some());
}

/// Returns a line as version 1 of the schema has it: each number with a fraction is a duration.
fn as_version_1(line: &str) -> String {
    fn replace(value: &mut Value) {
        match value {
            Value::Number(number) if number.is_f64() => {
                let seconds = number.as_f64().unwrap_or_default();
                let duration = Duration::from_secs_f64(seconds);
                *value = json!({ "secs": duration.as_secs(), "nanos": duration.subsec_nanos() });
            }
            Value::Array(values) => values.iter_mut().for_each(replace),
            Value::Object(fields) => fields.values_mut().for_each(replace),
            _ => {}
        }
    }
    let mut line: Value = serde_json::from_str(line).expect("it is JSON");
    replace(&mut line);
    let line = line.to_string();
    line.replace("\"schema_version\":2", "\"schema_version\":1")
}

#[test]
fn a_recording_of_the_schema_before_is_shown_alike_and_written_in_that_of_today() {
    let today = lines(&events());
    let before: Vec<_> = today.iter().map(|line| as_version_1(line)).collect();
    assert!(
        before[0].contains(r#""at":{"nanos":0,"secs":0}"#),
        "{}",
        before[0]
    );
    let (scene, before) = (Scene::new(text(&today)), Scene::new(text(&before)));
    assert_eq!(before.shown().0, scene.shown().0);
    let written = |scene: &Scene| {
        let recording = Recording::open(&scene.path).expect("it can be replayed");
        let writer = Shared::default();
        let events = JsonLines::new(writer.clone(), "a test", EmbeddedOutput::None);
        let replayed = recording.replay(&mut [Box::new(events)], &|_| ());
        replayed.expect("it can be read");
        String::from_utf8(writer.0.borrow().clone()).expect("it is text")
    };
    assert_eq!(written(&before), written(&scene));
}

#[test]
fn output_that_lines_carry_is_shown() {
    let mut lines = lines(&events());
    let failed = lines
        .iter_mut()
        .rfind(|line| line.contains("\"name\":\"fails\""));
    let failed = failed.expect("a test fails");
    failed.pop();
    failed.push_str(r#","stdout":"","stderr":"Error: of the test\n"}"#);
    let (shown, _) = Scene::new(text(&lines)).shown();
    assert!(shown.contains("Error: of the test"), "{shown}");
}

#[test]
fn a_recording_that_is_cut_off_is_replayed_to_its_end() {
    let lines = lines(&events());
    let whole = text(&lines);
    for cut in [lines[0].len() + 1, whole.len() / 2, whole.len() - 3] {
        let (shown, replayed) = Scene::new(&whole[..cut]).shown();
        assert!(shown.contains("Starting 4 tests"), "{shown}");
        assert!(replayed.finished.is_none() && replayed.damaged.is_empty());
    }
}

#[test]
fn damaged_lines_are_counted_and_cost_no_other() {
    let mut lines = lines(&events());
    let finished = lines.iter().position(|line| line.contains("test-finished"));
    let finished = finished.expect("a test finishes");
    lines[finished] = lines[finished].replace("\"verdict\":\"pass\"", "\"verdict\":\"pazz\"");
    // A second start is no event that can stand there.
    lines.insert(finished + 2, lines[0].clone());
    let (shown, replayed) = Scene::new(text(&lines)).shown();
    assert_eq!(replayed.damaged, [finished + 1, finished + 3]);
    assert!(
        shown.contains("FLAKY 2/2") && replayed.finished.is_some(),
        "{shown}"
    );
}

#[test]
fn what_is_no_recording_is_refused_with_a_sentence() {
    let lines = lines(&events());
    let older = lines[0].replace("\"schema_version\":2", "\"schema_version\":7");
    assert_eq!(
        Scene::new(older).refused(),
        "`PATH` has events of version 7, and this program reads versions 1 to 2"
    );
    let no_start = "`PATH` is no recording of a run: its first line is not the start of one";
    for contents in ["", "\n", "text\n", "\0\u{1}", "{}", &lines[1]] {
        assert_eq!(Scene::new(contents).refused(), no_start, "{contents:?}");
    }
    let cut = &lines[0][..40];
    assert_eq!(Scene::new(cut).refused(), no_start);
}

#[test]
fn no_flipped_bit_is_the_end_of_the_program() {
    let whole = text(&lines(&events())).into_bytes();
    let first_line = whole
        .iter()
        .position(|byte| *byte == b'\n')
        .expect("it has lines");
    let mut replays = 0;
    for at in (first_line + 1..whole.len()).step_by(37) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        let scene = Scene::new(&flipped);
        let recording = Recording::open(&scene.path).expect("its first line is whole");
        let junit = JunitOptions::new(scene.path.with_extension("xml"));
        let mut sinks: [Box<dyn Sink>; 3] = [
            Box::new(Terminal::new(io::sink(), TerminalOptions::default())),
            Box::new(Junit::new(junit)),
            Box::new(crate::report::chrome::ChromeTrace::new(
                scene.path.with_extension("json"),
            )),
        ];
        recording
            .replay(&mut sinks, &|_| ())
            .expect("it can be read");
        replays += 1;
    }
    assert!(replays > 100);
}

#[test]
fn output_at_a_forged_place_is_left_out() {
    let mut lines = lines(&events());
    let failed = lines
        .iter_mut()
        .rfind(|line| line.contains("\"name\":\"fails\""));
    let failed = failed.expect("a test fails");
    failed.pop();
    let stream =
        r#"{"offset":18446744073709551615,"head":18446744073709551615,"dropped":0,"tail":9}"#;
    failed.push_str(&format!(
        r#","kept_output":{{"stdout":{stream},"stderr":{stream}}}}}"#
    ));
    let scene = Scene::new(text(&lines));
    // Without the file of outputs, and with one that is shorter.
    let (shown, _) = scene.shown();
    assert!(shown.contains("output could not be read back"), "{shown}");
    fs::write(scene.path.with_file_name(OUTPUT), "short").expect("there is room");
    let (shown, replayed) = scene.shown();
    assert!(
        replayed.finished.is_some() && shown.contains("FAIL"),
        "{shown}"
    );
}

#[test]
fn a_pack_that_is_cut_off_before_its_events_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let target = Utf8Path::from_path(folder.path()).unwrap();
    let began = fixture_kit::sample::started();
    let mut run = super::super::Run::create(target, began.run_id, None).unwrap();
    let tests = vec![(sample::test("one"), vec![sample::code(1, 0)])];
    for event in sample::run(tests) {
        run.record(&event, Default::default()).unwrap();
    }
    run.end().unwrap();
    let path = super::super::folder(target).join(format!("{}.run", began.run_id));
    let bytes = std::fs::read(&path).unwrap();
    let cut = path.with_file_name("cut.run");
    std::fs::write(&cut, &bytes[..60]).unwrap();
    let error = Recording::open(&cut).unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    let said = format!("{error}: {}", cause.unwrap_or_default());
    assert!(said.contains("cut off"), "{said}");
}
