//! Lines in the log that a service understands, whatever names and messages hold.

use super::super::failure::Reason;
use harness_metadata::{TestId, event::TestFinished};

/// The most characters of a message.
const LONGEST_MESSAGE: usize = 300;

/// The severity of an annotation.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Error,
    Warning,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Returns a command of a workflow.
pub(super) fn github(level: Level, test: &TestId, what: &str, reason: &Reason) -> String {
    let property = |text: &str| {
        replaced(
            text,
            &[
                ('%', "%25"),
                ('\r', "%0D"),
                ('\n', "%0A"),
                (':', "%3A"),
                (',', "%2C"),
            ],
        )
    };
    let data = |text: &str| replaced(text, &[('%', "%25"), ('\r', "%0D"), ('\n', "%0A")]);
    let place = match &reason.place {
        Some((file, line)) => format!("file={},line={line},", property(file)),
        None => String::new(),
    };
    let title = property(&format!("{test} {what}"));
    let message = match reason.message.as_str() {
        "" => what.to_owned(),
        message => cut(message),
    };
    format!(
        "::{} {place}title={title}::{}",
        level.as_str(),
        data(&message)
    )
}

/// Returns a logging command of Azure Pipelines.
pub(super) fn azure(level: Level, test: &TestId, what: &str, reason: &Reason) -> String {
    let data = |text: &str| replaced(text, &[('%', "%AZP25"), ('\r', "%0D"), ('\n', "%0A")]);
    let property = |text: &str| replaced(&data(text), &[(';', "%3B"), (']', "%5D")]);
    let place = match &reason.place {
        Some((file, line)) => format!(";sourcepath={};linenumber={line}", property(file)),
        None => String::new(),
    };
    let message = data(&sentence(test, what, reason));
    format!(
        "##vso[task.logissue type={}{place}]{message}",
        level.as_str()
    )
}

/// Returns the service messages of TeamCity for a finished test. They come together, so that tests that run
/// at the same time do not mix.
pub(super) fn teamcity_finished(finished: &TestFinished, failed: Option<&Reason>) -> String {
    let name = teamcity(&name(&finished.test));
    let mut text = format!("##teamcity[testStarted name='{name}']\n");
    if let Some(reason) = failed {
        let message = match reason.message.as_str() {
            "" => "failed",
            message => message,
        };
        let details = match &reason.place {
            Some((file, line)) => format!("{file}:{line}"),
            None => String::new(),
        };
        text.push_str(&format!(
            "##teamcity[testFailed name='{name}' message='{}' details='{}']\n",
            teamcity(&cut(message)),
            teamcity(&details)
        ));
    }
    let elapsed: std::time::Duration = finished
        .attempts
        .iter()
        .map(|attempt| attempt.elapsed)
        .sum();
    text.push_str(&format!(
        "##teamcity[testFinished name='{name}' duration='{}']\n",
        elapsed.as_millis()
    ));
    text
}

/// Returns the service message of TeamCity for a test that was not run.
pub(super) fn teamcity_ignored(test: &TestId, reason: Option<&str>) -> String {
    let name = teamcity(&name(test));
    let message = teamcity(&cut(reason.unwrap_or_default()));
    format!("##teamcity[testIgnored name='{name}' message='{message}']\n")
}

fn name(test: &TestId) -> String {
    format!("{}: {}", test.binary, test.name)
}

/// Escapes a value of a service message.
fn teamcity(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '\'' | '[' | ']' => escaped.extend(['|', c]),
            '\n' => escaped.push_str("|n"),
            '\r' => escaped.push_str("|r"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                escaped.push_str(&format!("|0x{:04x}", u32::from(c)));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// Returns what is said of a test in a sentence.
pub(super) fn sentence(test: &TestId, what: &str, reason: &Reason) -> String {
    match reason.message.as_str() {
        "" => format!("{test} {what}"),
        message => format!("{test} {what}: {}", cut(message)),
    }
}

fn replaced(text: &str, pairs: &[(char, &str)]) -> String {
    let mut replaced = String::with_capacity(text.len());
    for c in text.chars() {
        match pairs.iter().find(|(from, _)| *from == c) {
            Some((_, to)) => replaced.push_str(to),
            None => replaced.push(c),
        }
    }
    replaced
}

pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_MESSAGE) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::sample::test, *};

    fn reason(message: &str) -> Reason {
        Reason {
            place: Some(("src/a,b:c];d.rs".into(), 3)),
            message: message.into(),
        }
    }

    #[test]
    fn nothing_in_a_name_or_a_message_ends_a_command() {
        let test = test("a,b::c%\n::error::x");
        let line = github(
            Level::Error,
            &test,
            "failed",
            &reason("100%\n::set-output x"),
        );
        assert_eq!(line.lines().count(), 1);
        let beginning = "::error file=src/a%2Cb%3Ac];d.rs,line=3,title=sample a%2Cb%3A%3Ac%25%0A";
        assert!(line.starts_with(beginning), "{line}");
        assert!(line.ends_with("::100%25%0A::set-output x"), "{line}");

        let line = azure(Level::Warning, &test, "is flaky", &reason("100%\n##vso[x]"));
        assert_eq!(line.lines().count(), 1);
        let beginning = "##vso[task.logissue type=warning;sourcepath=src/a,b:c%5D%3Bd.rs;linenumber=3]sample a,b::c%AZP25%0A";
        assert!(line.starts_with(beginning), "{line}");

        assert_eq!(
            teamcity("a|b'[c]\r\n\u{2028}\u{7}é"),
            "a||b|'|[c|]|r|n|0x2028|0x0007é"
        );
        let ignored = teamcity_ignored(&test, Some("it's"));
        let expected =
            "##teamcity[testIgnored name='sample: a,b::c%|n::error::x' message='it|'s']\n";
        assert_eq!(ignored, expected);
    }
}
