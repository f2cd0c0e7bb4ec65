//! The tests that took the longest, or used the most of something, and what all of them used.

use super::{Terminal, traces::without_traces};
use crate::report::{style::escaped, wording};
use harness_metadata::{Attempt, Usage, event::TestFinished, level::DurationsBy};
use std::{io::Write, mem, time::Duration};

impl<W: Write> Terminal<W> {
    /// Keeps a test if it is one of the largest so far.
    pub(super) fn remember_slow(&mut self, finished: &TestFinished) {
        if self.options.durations == 0 {
            return;
        }
        let by = self.options.durations_by;
        let size = size(finished, by);
        let place = (self.slowest).partition_point(|other| self::size(other, by) >= size);
        if place < self.options.durations {
            self.slowest.insert(place, without_traces(finished));
            self.slowest.truncate(self.options.durations);
        }
    }

    pub(super) fn durations(&mut self) {
        let slowest = mem::take(&mut self.slowest);
        if slowest.is_empty() {
            return;
        }
        let heading = match self.options.durations_by {
            DurationsBy::Time => wording::plural(slowest.len(), "slowest test", "slowest tests"),
            by => {
                let tests = self.items(slowest.len());
                let what = match by {
                    DurationsBy::Time | DurationsBy::Cpu => "CPU time",
                    DurationsBy::Memory => "memory",
                    DurationsBy::Io => "input and output",
                    DurationsBy::Processes => "processes",
                };
                format!("{tests} with the most {what}")
            }
        };
        let heading = format!("{heading}, all attempts together");
        self.note("Durations", self.styles.count, &heading);
        self.say("                    time        user+sys   peak memory      disk i/o  processes");
        for test in &slowest {
            let used = Used::of(test);
            let processes = used
                .processes
                .map_or_else(|| "?".to_owned(), |it| it.to_string());
            let line = format!(
                "             {:>11} {:>15} {:>13} {:>13} {processes:>10}  {} {}",
                wording::seconds(used.elapsed),
                wording::seconds(used.cpu),
                wording::size(used.memory),
                wording::size(used.io),
                escaped(test.test.binary.as_str()),
                escaped(test.test.name.as_str()),
            );
            self.say(&line);
        }
    }
}

/// The use of all attempts of a test together; of memory, the most at a time.
struct Used {
    elapsed: Duration,
    cpu: Duration,
    memory: u64,
    io: u64,
    /// `None` if they were not counted.
    processes: Option<u64>,
}

impl Used {
    fn of(test: &TestFinished) -> Self {
        let usages = || test.attempts.iter().map(|attempt: &Attempt| attempt.usage);
        let memory = |usage: Usage| usage.peak_tree_memory.unwrap_or(usage.peak_memory);
        Self {
            elapsed: test.attempts.iter().map(|attempt| attempt.elapsed).sum(),
            cpu: usages().map(|usage| usage.user + usage.system).sum(),
            memory: usages().map(memory).max().unwrap_or(0),
            io: usages()
                .map(|usage| usage.disk_read + usage.disk_written)
                .sum(),
            processes: usages().map(|usage| usage.processes.map(u64::from)).sum(),
        }
    }
}

/// Returns how large a test is.
fn size(test: &TestFinished, by: DurationsBy) -> u128 {
    let used = Used::of(test);
    match by {
        DurationsBy::Time => used.elapsed.as_nanos(),
        DurationsBy::Cpu => used.cpu.as_nanos(),
        DurationsBy::Memory => used.memory.into(),
        DurationsBy::Io => used.io.into(),
        DurationsBy::Processes => used.processes.unwrap_or(0).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::sample, TerminalOptions},
        *,
    };

    #[test]
    fn tests_are_sorted_by_any_use() {
        let used = |name: &str, millis, cpu, memory, io, processes| {
            let mut attempt = sample::code(1, 0);
            attempt.elapsed = Duration::from_millis(millis);
            attempt.usage.user = Duration::from_millis(cpu);
            attempt.usage.peak_memory = memory;
            attempt.usage.disk_written = io;
            attempt.usage.processes = Some(processes);
            (sample::test(name), vec![attempt])
        };
        let events = sample::run(vec![
            used("waits", 900, 1, 1 << 20, 0, 1),
            used("computes", 100, 800, 2 << 20, 10, 2),
            used("allocates", 100, 2, 900 << 20, 20, 3),
            used("writes", 100, 3, 3 << 20, 9 << 20, 4),
            used("forks", 100, 4, 4 << 20, 30, 700),
        ]);
        for (by, first) in [
            (DurationsBy::Time, "waits"),
            (DurationsBy::Cpu, "computes"),
            (DurationsBy::Memory, "allocates"),
            (DurationsBy::Io, "writes"),
            (DurationsBy::Processes, "forks"),
        ] {
            let options = TerminalOptions {
                durations: 1,
                durations_by: by,
                ..TerminalOptions::default()
            };
            let mut sink = Terminal::new(Vec::new(), options);
            sample::feed(&mut sink, &events, &sample::Memory::default());
            let text = String::from_utf8(sink.into_inner()).expect("it is text");
            let (_, after) = text.split_once("processes\n").expect("there is a table");
            let line = after.lines().next().unwrap_or_default();
            assert!(line.ends_with(&format!("sample {first}")), "{by:?}: {line}");
        }
    }
}
