//! Test cases on their way into the report: they wait for a flush, and come into it together.

use super::{
    Junit, Span, Totals, add_counts,
    frame::{self, rendered},
    interim::{Change, Part},
    joined,
};
use harness_metadata::TestId;
use quick_junit::{Report, TestCase, TestSuite};
use std::{io, mem};

/// A test case, rendered.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Its suite.
    suite: usize,
    /// The counts of a suite that has no other.
    counts: TestSuite,
    text: String,
    span: Option<Span>,
}

/// The most bytes of test cases that wait for the next flush.
const WAITING: usize = 1 << 20;

/// The end of the report on disk, where the next test case goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    /// The offset of the closing part.
    pub(super) end: u64,
    /// The suite that is still open there.
    suite: Option<OpenSuite>,
    /// The counts of the whole report.
    totals: Totals,
}

/// A suite that is not closed yet. A binary may have several.
#[derive(Clone, Debug)]
pub(super) struct OpenSuite {
    /// Its number.
    suite: usize,
    /// The offset of its header.
    header_at: u64,
    counts: TestSuite,
    span: Option<Span>,
}

impl Junit {
    /// Adds a test case to its suite. It is on disk with the next flush.
    pub(super) fn add(
        &mut self,
        test: &TestId,
        case: TestCase,
        span: Option<Span>,
    ) -> io::Result<()> {
        let mut counts = TestSuite::new(test.binary.as_str());
        counts.add_test_case(case);
        let mut report = Report::unnamed();
        report.test_suites.push(counts);
        let text = rendered(&report)?;
        let text = frame::inside_suite(&text).to_owned();
        let mut counts = report.test_suites.remove(0);
        counts.test_cases.clear();

        let suite = self.suite(test);
        self.waiting.push(Waiting {
            suite,
            counts,
            text,
            span,
        });
        if self
            .waiting
            .iter()
            .map(|case| case.text.len())
            .sum::<usize>()
            > WAITING
        {
            self.write_waiting();
        }
        Ok(())
    }

    /// Writes the test cases that wait: all at once or, if there is no room for all, those that there is room for.
    pub(super) fn write_waiting(&mut self) {
        let waiting = mem::take(&mut self.waiting);
        if waiting.is_empty() || self.append(&waiting).is_ok() {
            return;
        }
        for one in waiting.chunks(1) {
            if let Err(error) = self.append(one) {
                self.lose(error);
            }
        }
    }

    /// Puts test cases in the place of what closes the report, and closes it again.
    fn append(&mut self, cases: &[Waiting]) -> io::Result<()> {
        let begun = self.open.end;
        let mut open = self.open.clone();
        let mut headers = Vec::new();
        let mut tail = String::new();
        let mut parts = Vec::with_capacity(cases.len());
        for case in cases {
            if let Some(other) = open.suite.take_if(|other| other.suite != case.suite) {
                headers.push(self.header_of(&other)?);
                tail.push_str(frame::CLOSE_SUITE);
            }
            let at = begun + tail.len() as u64;
            let suite = match &mut open.suite {
                Some(suite) => suite,
                none => {
                    let suite = none.insert(self.opened(case.suite, at));
                    // Its place; the numbers in it come when all are known.
                    tail.push_str(&frame::wide(&self.header_text(suite)?));
                    suite
                }
            };
            suite.span = joined(suite.span, case.span);
            add_counts(&mut suite.counts, &case.counts);
            open.totals = open.totals.add(&case.counts);
            parts.push(Part {
                offset: begun + tail.len() as u64,
                length: case.text.len() as u64,
            });
            tail.push_str(&case.text);
        }
        open.end = begun + tail.len() as u64;
        if let Some(last) = &open.suite {
            headers.push(self.header_of(last)?);
        }
        tail.push_str(&self.mark.in_suite);
        tail.push_str(frame::CLOSE_SUITE);
        tail.push_str(&self.mark.end);
        let root = frame::wide(&self.frame(open.totals, true)?.header);
        let mut changes = vec![Change {
            at: begun,
            bytes: tail.into_bytes(),
        }];
        changes.extend(headers);
        changes.push(Change {
            at: 0,
            bytes: root.into_bytes(),
        });
        let lost = || io::Error::other("there was no place for its parts");
        self.interim.as_mut().ok_or_else(lost)?.change(&changes)?;
        self.open = open;
        for (case, part) in cases.iter().zip(parts) {
            let suite = &mut self.suites[case.suite];
            suite.span = joined(suite.span, case.span);
            add_counts(&mut suite.counts, &case.counts);
            suite.parts.push(part);
        }
        Ok(())
    }

    /// Returns a suite whose header will be at `header_at`.
    fn opened(&self, suite: usize, header_at: u64) -> OpenSuite {
        let all = &self.suites[suite];
        OpenSuite {
            suite,
            header_at,
            counts: TestSuite::new(all.counts.name.clone()),
            span: all.span,
        }
    }

    fn header_text(&self, open: &OpenSuite) -> io::Result<String> {
        self.suite_header(&open.counts, open.span, true)
    }

    /// Returns the header of an open suite as it is to be now.
    fn header_of(&self, open: &OpenSuite) -> io::Result<Change> {
        Ok(Change {
            at: open.header_at,
            bytes: frame::wide(&self.header_text(open)?).into_bytes(),
        })
    }
}
