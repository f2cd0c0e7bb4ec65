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
