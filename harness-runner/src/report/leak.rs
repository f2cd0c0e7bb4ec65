//! The wording of leaks.

use super::{
    stuck::Pids,
    style::escaped,
    wording::{plural, seconds, size},
};
use harness_metadata::{
    Attempt, Survivor,
    outcome::{Ancestor, Held},
};

/// The most survivors that are named.
const MOST: usize = 16;

/// The most characters of an ancestor's command line: it is only to be recognized.
const COMMAND: usize = 40;

/// Returns what an attempt left behind and should not have, line by line.
pub(super) fn lines(attempt: &Attempt, pids: Pids) -> Vec<String> {
    let Some(leak) = attempt.leaked() else {
        return Vec::new();
    };
    let mut lines: Vec<_> = survivors(attempt, pids).take(MOST).collect();
    let more = leak.survivors.len().saturating_sub(MOST);
    if more > 0 {
        let more = plural(more, "more process", "more processes");
        lines.push(format!("left behind: {more}"));
    }
    if leak.survivors.is_empty() && leak.output_open {
        lines.push("left behind: an open output stream, by a process unknown".to_owned());
    }
    if leak.late_output > 0 {
        let late = size(leak.late_output);
        lines.push(format!("of the output, {late} came after the test's end"));
    }
    lines
}

/// Returns for each unwanted survivor its name, the things that it held, and the end of
/// it.
pub(super) fn survivors(attempt: &Attempt, pids: Pids) -> impl Iterator<Item = String> {
    let survivors = attempt
        .leaked()
        .into_iter()
        .flat_map(|leak| &leak.survivors);
    survivors.map(move |survivor| describe(attempt.pid, survivor, pids))
}

/// Returns the name of a survivor.
pub(super) fn named_survivor(survivor: &Survivor, pids: Pids) -> String {
    named(survivor.pid, &escaped(&survivor.command), pids)
}

fn describe(test: Option<i32>, survivor: &Survivor, pids: Pids) -> String {
    let end = if survivor.killed { "killed" } else { "gone" };
    let command = escaped(&survivor.command);
    let mut text = format!(
        "left behind: {}, {end} {} after the test's end",
        named(survivor.pid, &command, pids),
        seconds(survivor.outlived),
    );
    if let Some(age) = survivor.age {
        // By a clock that ticks a hundred times a second.
        text.push_str(&format!(", {:.2}s old", age.as_secs_f64()));
    }
    // The test itself is every survivor's ancestor.
    let parents = survivor.ancestry.iter();
    let parents: Vec<_> = parents
        .filter(|one| Some(one.pid) != test)
        .map(|one| ancestor(one, pids))
        .collect();
    if !parents.is_empty() {
        text.push_str(&format!(", child of {}", parents.join(" of ")));
    }
    if !survivor.holds.is_empty() {
        let holds: Vec<_> = survivor.holds.iter().map(held).collect();
        text.push_str(&format!(", held {}", holds.join(", ")));
    }
    text
}

fn ancestor(ancestor: &Ancestor, pids: Pids) -> String {
    let command = escaped(&ancestor.command);
    let mut short: String = command.chars().take(COMMAND).collect();
    if short.len() < command.len() {
        short.push('…');
    }
    named(ancestor.pid, &short, pids)
}

fn named(pid: i32, command: &str, pids: Pids) -> String {
    match (pids, command) {
        (Pids::Shown, "") => format!("pid {pid}"),
        (Pids::Shown, _) => format!("pid {pid} `{command}`"),
        (Pids::Hidden, "") => "an unknown process".to_owned(),
        (Pids::Hidden, _) => format!("`{command}`"),
    }
}

fn held(held: &Held) -> String {
    match held {
        Held::Stdout => "stdout of the test".to_owned(),
        Held::Stderr => "stderr of the test".to_owned(),
        Held::Socket { what } => escaped(what).into_owned(),
        Held::File { path } => format!("`{}`", escaped(path)),
    }
}
