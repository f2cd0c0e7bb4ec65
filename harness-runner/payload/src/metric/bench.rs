//! The output of benchmark harnesses.

use super::{Findings, Found};

/// `test NAME ... bench:       1,234.56 ns/iter (+/- 78.90) = 12 MB/s`.
pub(super) fn libtest<'a>(line: &'a str, findings: &mut Findings<'a>) {
    let Some((name, rest)) = line
        .trim()
        .strip_prefix("test ")
        .and_then(|rest| rest.split_once(" ... bench:"))
    else {
        return;
    };
    let mut words = rest.split_whitespace();
    let (value, unit) = (words.next(), words.next());
    let (Some(value), Some(unit)) = (value, unit) else {
        return;
    };
    let Some(value) = findings.number(name, &value.replace(',', "")) else {
        return;
    };
    let name = name.trim();
    findings.add(Found::new(name, value).in_unit(unit));
    let deviation = rest
        .split_once("(+/- ")
        .and_then(|(_, rest)| rest.split_once(')'));
    if let Some((deviation, _)) = deviation
        && let Some(value) = findings.number(name, &deviation.replace(',', ""))
    {
        findings.add(Found::new(format!("{name}.deviation"), value).in_unit(unit));
    }
}

/// `NAME  time:   [1.0 µs 1.1 µs 1.2 µs]`, the name maybe in the line before. A comparison with an earlier
/// run, which criterion prints as `change:` with percents below, has no name of its own and is left out.
pub(super) fn criterion<'a>(part: &'a [u8], findings: &mut Findings<'a>) {
    let mut name = "";
    let mut in_change = false;
    for line in part.split(|byte| *byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        let indented = line.starts_with(char::is_whitespace);
        let label = ["time:", "thrpt:"].into_iter().find_map(|label| {
            let (before, values) = line.split_once(label)?;
            let values = values.trim().strip_prefix('[')?.split(']').next()?;
            Some((label.trim_end_matches(':'), before.trim(), values))
        });
        let Some((label, before, values)) = label else {
            in_change = line.trim_start().starts_with("change:");
            if !indented && !line.trim().is_empty() {
                name = line.trim();
            }
            continue;
        };
        if !before.is_empty() && before != "change:" {
            (name, in_change) = (before, false);
        }
        let words: Vec<&str> = values.split_whitespace().collect();
        let &[low, low_unit, middle, unit, high, high_unit] = words.as_slice() else {
            continue;
        };
        if in_change || before == "change:" || name.is_empty() {
            continue;
        }
        let parts = [
            (".low", low, low_unit),
            ("", middle, unit),
            (".high", high, high_unit),
        ];
        for (suffix, value, unit) in parts {
            let metric = format!("{name}.{label}{suffix}");
            let Some(value) = findings.number(&metric, value) else {
                continue;
            };
            match (label, nanoseconds(unit)) {
                ("time", Some(factor)) => {
                    findings.add(Found::new(metric, value * factor).in_unit("ns"));
                }
                _ => findings.add(Found::new(metric, value).in_unit(unit)),
            }
        }
    }
}

/// Returns how many nanoseconds a unit of time has.
fn nanoseconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ps" => 1e-3,
        "ns" => 1.0,
        "µs" | "μs" | "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    })
}

/// The columns of divan's table that are metrics.
const COLUMNS: [&str; 4] = ["fastest", "slowest", "median", "mean"];

/// divan's table: a tree of names below that of the crate, and columns of which each row of a benchmark has all.
///
/// ```text
/// parse      fastest       │ slowest       │ median        │ mean          │ samples │ iters
/// ├─ large   1.2 µs        │ 3.1 µs        │ 1.3 µs        │ 1.4 µs        │ 100     │ 3200
/// ╰─ of      │               │               │               │         │
///    ╰─ 10   5.2 ns        │ …
/// ```
pub(super) fn divan<'a>(part: &'a [u8], findings: &mut Findings<'a>) {
    // The names of the groups that a row is in, with the columns in which they begin.
    let mut groups: Vec<(usize, &str)> = Vec::new();
    let mut root = None;
    for line in part.split(|byte| *byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        if let Some((name, rest)) = line.split_once("fastest")
            && rest.trim_start().starts_with("│ slowest")
        {
            (root, groups) = (Some(name.trim()), Vec::new());
            continue;
        }
        let Some(root_name) = root else { continue };
        let Some((indent, rest)) = branch(line) else {
            // A line of throughput begins with spaces and bars, and has no name.
            root = root.filter(|_| !line.trim().is_empty());
            continue;
        };
        let mut cells = rest.split('│').map(str::trim);
        let first = cells.next().unwrap_or_default();
        let (name, fastest) = name_and_time(first);
        groups.retain(|(column, _)| *column < indent);
        groups.push((indent, name));
        let Some(fastest) = fastest else { continue };
        let names = groups.iter().map(|(_, name)| *name);
        let path: Vec<&str> = std::iter::once(root_name).chain(names).collect();
        let path = path.join("::");
        let times = std::iter::once(fastest).chain(cells);
        for (column, time) in COLUMNS.into_iter().zip(times) {
            let mut words = time.split_whitespace();
            let (Some(value), Some(factor)) = (words.next(), words.next().and_then(nanoseconds))
            else {
                continue;
            };
            let metric = format!("{path}.{column}");
            if let Some(value) = findings.number(&metric, value) {
                findings.add(Found::new(metric, value * factor).in_unit("ns"));
            }
        }
    }
}

/// Returns where the name of a row begins, and the row from there.
fn branch(line: &str) -> Option<(usize, &str)> {
    let at = line.find(['├', '╰'])?;
    let rest = line[at..].trim_start_matches(['├', '╰', '─']);
    let before = line[..at].chars();
    before
        .clone()
        .all(|it| it == ' ' || it == '│')
        .then(|| (before.count(), rest.trim_start()))
}

/// Splits a cell such as `large   1.2 µs` at its time. A group has none.
fn name_and_time(cell: &str) -> (&str, Option<&str>) {
    let timed = cell.rsplit_once("  ").and_then(|(name, time)| {
        let mut words = time.split_whitespace();
        words.next()?.parse::<f64>().ok()?;
        nanoseconds(words.next()?)?;
        Some((name.trim(), Some(time.trim())))
    });
    timed.unwrap_or((cell, None))
}
