//! Decides which tests a watch runs next, and what its keys mean.

use harness_metadata::exit_code;
use std::{
    collections::BTreeSet,
    ffi::OsString,
    mem,
    path::{Path, PathBuf},
};

/// The tests to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Selection {
    /// All that the command line selects.
    #[default]
    All,
    /// Those that failed when they ran last.
    Failed,
    /// Those of these packages.
    Packages(BTreeSet<String>),
}

/// The answer to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Nothing,
    /// Print this.
    Show(String),
    /// Print the menu, on a line of its own.
    Menu,
    Run(Selection),
    Quit,
}

/// The part of a sequence that a key such as an arrow sends.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
enum Sequence {
    #[default]
    None,
    Escaped,
    Inside,
}

/// The state of a watch between runs.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// A part of the names of the tests to run; empty for all.
    pattern: String,
    /// The bytes that are being typed for a new one.
    typed: Option<Vec<u8>>,
    sequence: Sequence,
    last: Selection,
    /// Changes whose tests did not run, because the build failed or the like.
    owed: Option<Selection>,
    written: Written,
}

const BACKSPACE: [u8; 2] = [0x08, 0x7f];
const ESCAPE: u8 = 0x1b;
const ENTER: [u8; 2] = [b'\r', b'\n'];

impl Selection {
    /// Returns both.
    fn and(self, other: Option<Self>) -> Self {
        match (self, other) {
            (one, None) => one,
            (Self::Packages(mut one), Some(Self::Packages(other))) => {
                one.extend(other);
                Self::Packages(one)
            }
            _ => Self::All,
        }
    }
}

impl State {
    pub(super) fn key(&mut self, key: u8) -> Answer {
        match (mem::take(&mut self.sequence), key) {
            (Sequence::Escaped, b'[' | b'O') => {
                self.sequence = Sequence::Inside;
                return Answer::Nothing;
            }
            (Sequence::Inside, _) if !(0x40..=0x7e).contains(&key) => {
                self.sequence = Sequence::Inside;
                return Answer::Nothing;
            }
            (Sequence::Inside, _) => return Answer::Nothing,
            (_, ESCAPE) => self.sequence = Sequence::Escaped,
            (Sequence::None | Sequence::Escaped, _) => {}
        }
        if self.typed.is_some() {
            return self.type_in(key);
        }
        match key {
            b'a' | b'A' => {
                self.pattern.clear();
                Answer::Run(Selection::All)
            }
            b'f' | b'F' => Answer::Run(Selection::Failed),
            b'p' | b'P' => {
                self.typed = Some(Vec::new());
                Answer::Show("names that contain: ".to_owned())
            }
            b'q' | b'Q' => Answer::Quit,
            b'h' | b'H' | b'?' => Answer::Menu,
            _ if ENTER.contains(&key) => Answer::Run(self.last.clone()),
            _ => Answer::Nothing,
        }
    }

    fn type_in(&mut self, key: u8) -> Answer {
        let Some(typed) = &mut self.typed else {
            return Answer::Nothing;
        };
        if ENTER.contains(&key) {
            self.pattern = String::from_utf8_lossy(typed).into_owned();
            self.typed = None;
            return Answer::Run(Selection::All);
        }
        if key == ESCAPE {
            self.typed = None;
            return Answer::Menu;
        }
        if BACKSPACE.contains(&key) {
            // A character may have several bytes.
            let mut last = typed.pop();
            let any = last.is_some();
            while last.is_some_and(|byte| byte & 0xc0 == 0x80) {
                last = typed.pop();
            }
            return match any {
                true => Answer::Show("\u{8} \u{8}".to_owned()),
                false => Answer::Nothing,
            };
        }
        if key < b' ' {
            return Answer::Nothing;
        }
        typed.push(key);
        // Shown when its last byte has come.
        let whole = std::str::from_utf8(typed).ok();
        let last = whole.and_then(|text| text.chars().next_back());
        last.map_or(Answer::Nothing, |last| Answer::Show(last.to_string()))
    }

    /// Returns whether a name is being typed, so that a line is not at its end.
    pub(super) fn is_typing(&self) -> bool {
        self.typed.is_some()
    }

    /// Returns the tests to run for a change, and those that a change before should have run.
    pub(super) fn due(&mut self, selection: Selection) -> Selection {
        self.typed = None;
        selection.and(self.owed.take())
    }

    /// Takes the exit code of a run: whether its tests have run.
    pub(super) fn ended(&mut self, selection: &Selection, code: Option<i32>) {
        const RAN: [i32; 4] = [
            exit_code::OK,
            exit_code::TEST_RUN_FAILED,
            exit_code::NO_TESTS,
            exit_code::OUTSTANDING,
        ];
        if *selection == Selection::Failed {
            return;
        }
        if !code.is_some_and(|code| RAN.contains(&code)) {
            self.owed = Some(selection.clone().and(self.owed.take()));
        } else if *selection == Selection::All && self.pattern.is_empty() {
            self.owed = None;
        }
    }

    /// Takes the files that changed during a run. Leaves those that count, and returns those that begin
    /// not to: [`Written`].
    pub(super) fn changed_during_run(&mut self, files: &mut BTreeSet<PathBuf>) -> Vec<PathBuf> {
        self.written.filter(files)
    }

    /// Returns the flags that choose the tests of a run.
    pub(super) fn flags(&mut self, selection: &Selection) -> Vec<OsString> {
        self.last = selection.clone();
        let mut flags: Vec<OsString> = Vec::new();
        match selection {
            Selection::All => {}
            Selection::Failed => flags.push("--last-failed".into()),
            Selection::Packages(names) => {
                for name in names {
                    flags.extend(["--among-package".into(), name.into()]);
                }
            }
        }
        if !self.pattern.is_empty() {
            flags.push(format!("--among-names={}", self.pattern).into());
        }
        flags
    }

    /// Returns the line that names the keys.
    pub(super) fn menu(&self) -> String {
        let pattern = match self.pattern.as_str() {
            "" => String::new(),
            pattern => format!(" to tests named `{pattern}`"),
        };
        format!(
            "waiting for changes{pattern}; a: all tests, f: failed ones, p: by name, Enter: again, q: quit"
        )
    }
}

/// Files that tests write into the workspace, with other bytes each time: they would keep the runs going
/// for ever. A file is one if it changes in two runs, one after the other, of which its first change
/// caused the second. Then only its changes between runs count. Sources never are: tests that
/// generate them do not give them other bytes each time.
#[derive(Clone, Debug, Default)]
struct Written {
    known: BTreeSet<PathBuf>,
    /// Those that changed in the run before.
    before: BTreeSet<PathBuf>,
}

impl Written {
    fn filter(&mut self, files: &mut BTreeSet<PathBuf>) -> Vec<PathBuf> {
        let before = mem::replace(&mut self.before, files.clone());
        let is_source = |file: &Path| {
            let end = file.extension().and_then(|end| end.to_str());
            matches!(end, Some("rs" | "toml" | "lock"))
        };
        let again = files.intersection(&before);
        let new: Vec<PathBuf> = again
            .filter(|file| !is_source(file) && !self.known.contains(*file))
            .cloned()
            .collect();
        self.known.extend(new.iter().cloned());
        files.retain(|file| !self.known.contains(file));
        new
    }
}

/// Returns the arguments of a run: those of the watch, with others behind the name of the subcommand.
/// `is_run` says whether arguments are those of a run: the word may also be the value of a flag.
pub(super) fn arguments(
    watch: &[OsString],
    further: &[OsString],
    is_run: &dyn Fn(&[OsString]) -> bool,
) -> Option<Vec<OsString>> {
    let places = (0..watch.len()).filter(|place| watch[*place] == "watch");
    let with = |place: usize, more: &[OsString]| {
        let mut args = watch.to_vec();
        let words = std::iter::once("run".into()).chain(more.iter().cloned());
        args.splice(place..=place, words);
        args
    };
    let mut places = places.filter(|place| is_run(&with(*place, &[])));
    places.next().map(|place| with(place, further))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(state: &mut State, selection: &Selection) -> String {
        let flags = state.flags(selection);
        let flags: Vec<_> = flags.iter().map(|arg| arg.to_string_lossy()).collect();
        flags.join(" ")
    }

    fn packages(names: &[&str]) -> Selection {
        Selection::Packages(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn each_key_has_its_selection_and_enter_repeats_the_last_one() {
        let mut state = State::default();
        assert_eq!(flags(&mut state, &Selection::All), "");
        let two = packages(&["a", "b"]);
        assert_eq!(
            flags(&mut state, &two),
            "--among-package a --among-package b"
        );
        assert_eq!(state.key(b'\n'), Answer::Run(two));
        assert_eq!(state.key(b'f'), Answer::Run(Selection::Failed));
        assert_eq!(flags(&mut state, &Selection::Failed), "--last-failed");
        assert_eq!(state.key(b'x'), Answer::Nothing);
        assert_eq!(state.key(b'?'), Answer::Menu);
        assert_eq!(state.key(b'q'), Answer::Quit);
    }

    #[test]
    fn keys_that_send_several_bytes_mean_nothing() {
        for key in ["\x1b[A", "\x1bOP", "\x1b[1;5A", "\x1b[3~"] {
            let mut state = State::default();
            for byte in key.bytes() {
                assert_eq!(state.key(byte), Answer::Nothing, "{key:?}");
            }
            assert_eq!(state.key(b'q'), Answer::Quit, "{key:?}");
        }
        let mut state = State::default();
        state.key(0x1b);
        assert_eq!(state.key(b'q'), Answer::Quit);
    }

    #[test]
    fn a_pattern_is_typed_mended_and_kept_until_all_are_asked_for() {
        let mut state = State::default();
        let type_in = |state: &mut State, text: &[u8]| {
            let answers = text.iter().map(|key| state.key(*key));
            answers.last().expect("a key is typed")
        };
        let shown = type_in(&mut state, "pré".as_bytes());
        assert_eq!(shown, Answer::Show("é".to_owned()));
        assert_eq!(state.key(0x7f), Answer::Show("\u{8} \u{8}".to_owned()));
        // Keys of the menu are letters here.
        type_in(&mut state, b"ead_qfa\x7f");
        assert_eq!(state.key(b'\r'), Answer::Run(Selection::All));
        assert_eq!(
            flags(&mut state, &Selection::Failed),
            "--last-failed --among-names=read_qf"
        );
        assert!(state.menu().contains("`read_qf`"), "{}", state.menu());
        // A second thought.
        assert_eq!(type_in(&mut state, b"pnew\x1b"), Answer::Menu);
        assert!(state.menu().contains("`read_qf`"), "{}", state.menu());
        state.key(b'a');
        assert_eq!(flags(&mut state, &Selection::All), "");
    }

    #[test]
    fn tests_that_a_broken_build_kept_from_running_run_with_the_next_change() {
        let mut state = State::default();
        let due = state.due(packages(&["a"]));
        state.ended(&due, Some(exit_code::BUILD_FAILED));
        // Failed tests have not run either, and owe nothing.
        state.ended(&Selection::Failed, Some(exit_code::OK));
        let due = state.due(packages(&["b"]));
        assert_eq!(due, packages(&["a", "b"]));
        state.ended(&due, Some(exit_code::TEST_RUN_FAILED));
        assert_eq!(state.due(packages(&["b"])), packages(&["b"]));
        state.ended(&Selection::All, None);
        assert_eq!(state.due(packages(&["b"])), Selection::All);
    }

    #[test]
    fn a_file_that_changes_in_each_run_starts_no_further_one() {
        let mut state = State::default();
        let files =
            |names: &[&str]| -> BTreeSet<PathBuf> { names.iter().map(Into::into).collect() };
        let mut during = |names: &[&str]| {
            let mut changed = files(names);
            let new = state.changed_during_run(&mut changed);
            (changed, new)
        };
        let two = ["out.json", "src/lib.rs"];
        assert_eq!(during(&two), (files(&two), vec![]));
        assert_eq!(
            during(&two),
            (files(&["src/lib.rs"]), vec!["out.json".into()])
        );
        assert_eq!(during(&["out.json"]), (files(&[]), vec![]));
        // Now and then is not each time.
        assert_eq!(during(&["b"]), (files(&["b"]), vec![]));
        assert_eq!(during(&[]), (files(&[]), vec![]));
        assert_eq!(during(&["b"]), (files(&["b"]), vec![]));
    }

    #[test]
    fn a_run_has_the_arguments_of_the_watch() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        // As clap would have it for these lines.
        let is_run = |args: &[OsString]| {
            let place = match args.first().is_some_and(|arg| arg == "-P") {
                true => 2,
                false => 0,
            };
            args.get(place).is_some_and(|arg| arg == "run")
        };
        for (watch, run) in [
            ("watch -p a -- x", "run --last-failed -p a -- x"),
            ("-P watch watch", "-P watch run --last-failed"),
            ("watch watch", "run --last-failed watch"),
        ] {
            let made = arguments(&words(watch), &words("--last-failed"), &is_run);
            assert_eq!(made, Some(words(run)), "{watch}");
        }
    }
}
