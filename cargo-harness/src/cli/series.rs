//! The numbers of tests over the recorded runs, and how they are drawn.

use super::{GlobalOptions, recordings, recordings::Place};
use crate::command_error::CommandError;
use harness_metadata::{TestId, Verdict};
use harness_runner::{
    answers::regression::{Series, median},
    report::{size, style::escaped},
    store::{self, Measurements, PastRun, Quantity, RunsOf},
};
use std::collections::HashMap;

/// The characters of a distribution, by how many values a column has.
const HEIGHTS: [char; 5] = [' ', '.', ':', '|', '#'];

/// Series of numbers, and the number of runs that they come from.
pub(super) struct Gathered {
    pub(super) series: Vec<Series>,
    pub(super) runs: usize,
}

/// Returns the runs of the workspace with their numbers, the latest first. A run that cannot be read is left out.
pub(super) fn measured<'a>(
    place: &Place,
    global: &GlobalOptions,
    wanted: impl Fn(&TestId) -> bool + 'a,
    quantities: &'a [Quantity],
) -> Result<impl Iterator<Item = (PastRun, Measurements)> + 'a, CommandError> {
    let kept = place.locate(global)?;
    let runs = store::ended_runs(&kept.store, &kept.root, RunsOf::Everything);
    let runs = runs.map_err(recordings::find_error)?.into_iter();
    Ok(runs.filter_map(move |run| {
        let found = store::measurements(&run, &wanted, quantities).ok()?;
        Some((run, found))
    }))
}

/// Gathers a value for each run in which a test passed, the median of several, up to `most` of each. The
/// latest run that has a number says which others can be compared with it.
pub(super) fn gather(
    place: &Place,
    global: &GlobalOptions,
    wanted: impl Fn(&TestId) -> bool,
    quantities: &[Quantity],
    most: usize,
) -> Result<Gathered, CommandError> {
    let mut gathered = Gathered {
        series: Vec::new(),
        runs: 0,
    };
    let mut known = HashMap::new();
    for (_, measured) in measured(place, global, wanted, quantities)? {
        gathered.runs += 1;
        let Measurements { setting, samples } = measured;
        for sample in samples {
            let values: Vec<f64> = sample
                .values
                .into_iter()
                .filter(|it| it.is_finite())
                .collect();
            if sample.verdict != Verdict::Pass || values.is_empty() {
                continue;
            }
            let key = (
                sample.test.clone(),
                sample.name.clone(),
                sample.unit.clone(),
            );
            let (index, of) = known.entry(key).or_insert_with(|| {
                gathered.series.push(Series {
                    test: sample.test,
                    name: sample.name,
                    unit: sample.unit,
                    polarity: sample.polarity,
                    values: Vec::new(),
                });
                (gathered.series.len() - 1, setting.clone())
            });
            let series = &mut gathered.series[*index];
            if *of == setting && series.values.len() < most {
                series.values.push(median(&values));
            }
        }
    }
    Ok(gathered)
}

/// Returns a number with its unit.
pub(super) fn number(number: f64, unit: Option<&str>) -> String {
    match unit {
        Some("B") if number >= 0.0 => size(number as u64),
        Some("s") if number.abs() < 1.0 => format!("{} ms", rounded(number * 1e3)),
        Some("s") => format!("{number:.3} s"),
        Some(unit) => format!("{} {}", rounded(number), escaped(unit)),
        None => rounded(number),
    }
}

/// Returns a number with five digits, or all before the point.
fn rounded(number: f64) -> String {
    let digits = match number.abs() {
        magnitude if magnitude >= 10_000.0 || magnitude == 0.0 || number.fract() == 0.0 => 0,
        magnitude => (4 - magnitude.log10().floor() as i32).clamp(0, 12) as usize,
    };
    format!("{number:.digits$}")
}

/// Returns the lowest and the highest value.
pub(super) fn range(values: &[f64]) -> (f64, f64) {
    let finite = values.iter().copied().filter(|it| it.is_finite());
    finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), it| {
        (low.min(it), high.max(it))
    })
}

/// Returns the column of a value, from 0.
fn column(value: f64, (low, high): (f64, f64), columns: usize) -> usize {
    let last = columns - 1;
    match high > low {
        true => (((value - low) / (high - low) * last as f64).round() as usize).min(last),
        false => last / 2,
    }
}

/// Draws how many values each part of a range has.
pub(super) fn distribution(values: &[f64], range: (f64, f64), columns: usize) -> String {
    let mut counts = vec![0; columns];
    for value in values {
        counts[column(*value, range, columns)] += 1;
    }
    let drawn: String = counts
        .iter()
        .map(|count| HEIGHTS[HEIGHTS.len().min(count + 1) - 1])
        .collect();
    format!("[{drawn}]")
}

/// Draws a value in a range, with a band and the median.
pub(super) fn plot(
    value: f64,
    range: (f64, f64),
    band: (f64, f64),
    median: f64,
    columns: usize,
) -> String {
    let at = |value| column(value, range, columns);
    let (low, high) = (at(band.0), at(band.1));
    let drawn: String = (0..columns)
        .map(|place| match place {
            _ if value.is_finite() && place == at(value) => '*',
            _ if place == at(median) => '|',
            _ if place >= low && place <= high => '-',
            _ => ' ',
        })
        .collect();
    format!("[{drawn}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_has_its_ends_in_the_first_and_the_last_column() {
        assert_eq!(distribution(&[0.0, 10.0, 10.0], (0.0, 10.0), 5), "[.   :]");
        assert_eq!(distribution(&[0.0; 9], (0.0, 8.0), 4), "[#   ]");
        assert_eq!(distribution(&[7.0], (7.0, 7.0), 3), "[ . ]");
    }

    #[test]
    fn a_value_is_drawn_beside_the_band_and_the_median() {
        let drawn = |value| plot(value, (0.0, 10.0), (2.0, 6.0), 4.0, 11);
        assert_eq!(drawn(9.0), "[  --|--  * ]");
        assert_eq!(drawn(4.0), "[  --*--    ]");
        assert_eq!(drawn(f64::NAN), "[  --|--    ]");
    }

    #[test]
    fn numbers_have_as_many_digits_as_say_something() {
        let shown: Vec<_> = [1902.0, 0.001_234_56, 12.345_678, 123_456.7]
            .map(rounded)
            .into();
        assert_eq!(shown, ["1902", "0.0012346", "12.346", "123457"]);
        assert_eq!(number(2048.0, Some("B")), "2.0 KiB");
        assert_eq!(number(1.5, Some("us")), "1.5000 us");
        assert_eq!(number(1.5, Some("s")), "1.500 s");
        assert_eq!(number(0.021_52, Some("s")), "21.520 ms");
    }
}
