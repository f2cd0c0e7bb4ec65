//! The answers about failures, for people and for programs.

use super::{Tested, Tried, judge::Came};
use harness_runner::report::{
    plural,
    style::{Styles, escaped},
};
use nix::errno::Errno;
use serde_json::json;

/// The limits of all this.
pub(super) const NOT_TRIED: &str = "only calls that a trace shows are tried, with one error each, and `read`, `write` and \
                                    `fsync` of the files that it shows; not memory, threads, pipes and \
                                    connections that are open already";

/// Returns the lines about a test.
pub(super) fn text(tested: &Tested, all: bool, styles: &Styles) -> String {
    let made = tested.tried.iter();
    let made = made
        .filter(|it| it.findings.result != Came::NotMade)
        .count();
    let calls = plural(made, "call", "calls");
    let mut text = format!(
        "{}\n  {calls} failed, each in a run of its own\n",
        styles.name(&tested.test)
    );
    let mut rows: Vec<&Tried> = tested.tried.iter().collect();
    rows.sort_by_key(|it| (!it.findings.is_fault(), it.findings.result.clone()));
    let mut quiet = 0;
    for tried in rows {
        if !all && !is_shown(tried) {
            quiet += usize::from(tried.findings.result == Came::Says);
            continue;
        }
        text += &row(tried);
    }
    if quiet > 0 {
        text += &format!(
            "  after {} it fails and says why\n",
            plural(quiet, "failure", "failures")
        );
    }
    let not_made = tested.tried.len() - made;
    if not_made > 0 {
        let calls = plural(not_made, "call was", "calls were");
        text += &format!("  {calls} not made when it was to fail\n");
    }
    if tested.left_out > 0 {
        let calls = plural(tested.left_out, "call was", "calls were");
        text += &format!("  {calls} not tried: `--limit` has more\n");
    }
    text
}

/// Returns whether there is something to say of it.
fn is_shown(tried: &Tried) -> bool {
    tried.findings.is_fault() || !matches!(tried.findings.result, Came::Says | Came::NotMade)
}

/// Returns a failure, its result, and how to see it again.
fn row(tried: &Tried) -> String {
    let errno = Errno::from_raw(tried.fault.errno);
    let name = tried.fault.name.replace("{workspace}/", "");
    let mut text = format!(
        "  {:<9} {} of {}: {errno:?} ({})\n",
        label(tried),
        tried.fault.call,
        escaped(&name),
        errno.desc()
    );
    let findings = &tried.findings;
    let mut line = |words: &str| text += &format!("            {}\n", escaped(words));
    line(&said(&findings.result));
    for process in &findings.processes {
        line(&format!("leaves a process behind: {process}"));
    }
    for file in &findings.files {
        line(&format!("leaves a file behind: {file}"));
    }
    line(&format!("again: --inject '{}'", tried.request));
    text
}

fn label(tried: &Tried) -> &str {
    match &tried.findings.result {
        Came::Hangs => "HANGS",
        Came::Killed(signal) => signal,
        _ if !tried.findings.processes.is_empty() => "LEAKS",
        _ if !tried.findings.files.is_empty() => "LEAVES",
        Came::Silent(_) => "SILENT",
        Came::Unnoticed => "UNNOTICED",
        Came::Passes(_) => "PASSES",
        Came::Says => "SAYS",
        Came::Otherwise => &tried.findings.status,
        Came::NotMade => "NOT-MADE",
    }
}

fn said(result: &Came) -> String {
    match result {
        Came::Hangs => "did not end in time".to_owned(),
        Came::Killed(signal) => format!("ended by {signal}"),
        Came::Silent(message) if message.is_empty() => "fails, and prints nothing".to_owned(),
        Came::Silent(message) => format!("fails, and does not name the error: {message}"),
        Came::Unnoticed => "passes, and asks for the same as without the failure".to_owned(),
        Came::Passes(count) => {
            let things = plural(*count, "thing", "things");
            format!("passes, and does {things} otherwise")
        }
        Came::Says => "fails, and names the error".to_owned(),
        Came::Otherwise => "ends in another way".to_owned(),
        Came::NotMade => "made no such call this time".to_owned(),
    }
}

/// Returns a row for each failure.
pub(super) fn json(tested: &Tested) -> String {
    let rows = tested.tried.iter().map(|tried| {
        let findings = &tried.findings;
        let result = match &findings.result {
            Came::Hangs => "hangs",
            Came::Killed(_) => "killed",
            Came::Silent(_) => "silent",
            Came::Unnoticed => "unnoticed",
            Came::Passes(_) => "passes",
            Came::Says => "says",
            Came::Otherwise => "otherwise",
            Came::NotMade => "not-made",
        };
        let row = json!({
            "test": tested.test,
            "call": tried.fault.call,
            "name": tried.fault.name,
            "errno": format!("{:?}", Errno::from_raw(tried.fault.errno)),
            "inject": tried.request,
            "status": findings.status,
            "result": result,
            "text": said(&findings.result),
            "processes": findings.processes,
            "files": findings.files,
            "left_out": tested.left_out,
        });
        row.to_string() + "\n"
    });
    rows.collect()
}
