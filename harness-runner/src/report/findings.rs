//! The words for what the traces of a run tell at its end.

use super::{style::escaped, wording};
use harness_metadata::{
    RawString, TestId,
    event::{CommonCause, Findings, Interference, ThingKind},
};

/// Readers of credentials that are named in a line.
const NAMED: usize = 3;

/// Returns how another test disturbed a failed one.
pub fn interference(found: &Interference) -> String {
    let Interference {
        other, slot, did, ..
    } = found;
    let (other, did) = (test(other), escaped(did));
    let thing = text(&found.thing);
    let (did, what) = match (&found.entry, found.kind) {
        (Some(entry), _) => (
            format!("{did} `{}`", text(entry)),
            format!("in the folder `{thing}`, which it lists"),
        ),
        (None, ThingKind::Address) => (did.into_owned(), format!("the same address {thing}")),
        (None, ThingKind::Folder) => (did.into_owned(), format!("the same folder `{thing}`")),
        (None, _) => (did.into_owned(), format!("the same file `{thing}`")),
    };
    format!("failed while `{other}` (slot {slot}) {did} {what}")
}

/// Returns the disturbance of an attempt.
pub(super) fn of_attempt<'a>(
    findings: &'a Findings,
    test: &TestId,
    attempt: u32,
) -> Option<&'a Interference> {
    let mut all = findings.interferences.iter();
    all.find(|it| it.test == *test && it.attempt == attempt)
}

/// Returns a cause that tests have in common.
pub fn common_cause(common: &CommonCause) -> String {
    format!("{} tests: {}", common.count, escaped(&common.cause))
}

/// Returns which tests read credentials; `None` if none did.
pub(super) fn credentials(findings: &Findings) -> Option<String> {
    let readers = &findings.credentials;
    let count = readers.len() + findings.more_credentials;
    if count == 0 {
        return None;
    }
    let named = readers.iter().take(NAMED).map(|reader| {
        let files = reader.files.iter().map(|file| format!("`{}`", text(file)));
        let more = match reader.more {
            0 => String::new(),
            more => format!(" and {}", wording::plural(more, "more file", "more files")),
        };
        let files = files.collect::<Vec<_>>().join(", ");
        format!("`{}` read {files}{more}", test(&reader.test))
    });
    let more = match count.saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {}", wording::plural(more, "more test", "more tests")),
    };
    Some(format!(
        "{}{more} (`cargo harness hermetic` shows how; `warn-credentials = false` in the profile ends this warning)",
        named.collect::<Vec<_>>().join("; ")
    ))
}

fn test(test: &TestId) -> String {
    escaped(&test.to_string()).into_owned()
}

fn text(name: &RawString) -> String {
    escaped(&name.to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use harness_metadata::event::CredentialsRead;

    fn found(kind: ThingKind, did: &str, thing: &str, entry: Option<&str>) -> String {
        interference(&Interference {
            test: sample::test("a"),
            attempt: 1,
            other: sample::test("b"),
            slot: 3,
            did: did.to_owned(),
            thing: thing.into(),
            kind,
            entry: entry.map(RawString::from),
        })
    }

    #[test]
    fn a_disturbance_is_one_sentence() {
        for (said, expected) in [
            (
                found(ThingKind::File, "removed", "data/x.json", None),
                "failed while `sample b` (slot 3) removed the same file `data/x.json`",
            ),
            (
                found(ThingKind::Folder, "made", "out", None),
                "failed while `sample b` (slot 3) made the same folder `out`",
            ),
            (
                found(ThingKind::Folder, "created", "out", Some("y")),
                "failed while `sample b` (slot 3) created `y` in the folder `out`, which it lists",
            ),
            (
                found(ThingKind::Address, "bound", "127.0.0.1:80", None),
                "failed while `sample b` (slot 3) bound the same address 127.0.0.1:80",
            ),
        ] {
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn a_few_readers_of_credentials_are_named_and_the_rest_is_counted() {
        let reader = |name: &str, more| CredentialsRead {
            test: sample::test(name),
            files: vec!["~/.ssh/id_ed25519".into()],
            more,
        };
        let mut findings = Findings::default();
        assert_eq!(credentials(&findings), None);
        findings.credentials = vec![reader("a", 2)];
        let said = credentials(&findings).unwrap_or_default();
        let one = "`sample a` read `~/.ssh/id_ed25519` and 2 more files (`cargo harness hermetic`";
        assert!(said.starts_with(one), "{said}");
        let four = ["a", "b", "c", "d"];
        findings.credentials = four.map(|name| reader(name, 0)).into();
        findings.more_credentials = 2;
        let said = credentials(&findings).unwrap_or_default();
        assert!(
            said.contains("`sample c` read") && said.contains("; and 3 more tests ("),
            "{said}"
        );
    }
}
