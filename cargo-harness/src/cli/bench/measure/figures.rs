//! The figures of many rounds, and what two sides differ by.

use harness_metadata::{Metric, Polarity, TestId};
use harness_runner::answers::{interval, regression::median};
use serde::Serialize;
use std::collections::BTreeMap;

/// A figure by its test, its name and its unit. A program that is measured by itself has no test.
type Key = (Option<TestId>, String, Option<String>);

/// The figures of one round.
pub(super) type Round = BTreeMap<Key, (Polarity, f64)>;

/// The figures of all rounds.
#[derive(Debug, Default)]
pub(super) struct Figures(BTreeMap<Key, Comparison>);

/// One figure over all rounds.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    pub(super) test: Option<TestId>,
    pub(super) name: String,
    pub(super) unit: Option<String>,
    polarity: Polarity,
    pub(super) now: Vec<f64>,
    /// In the same rounds, of the other side.
    pub(super) before: Option<Vec<f64>>,
}

/// The difference between two sides.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Better,
    Worse,
    /// Its polarity is not known.
    Changed,
    /// The interval has no change in it.
    Unclear,
}

/// A line of JSON.
#[derive(Serialize)]
struct Row<'a> {
    test: Option<&'a TestId>,
    metric: &'a str,
    unit: Option<&'a str>,
    polarity: Polarity,
    now: &'a [f64],
    before: Option<&'a [f64]>,
    median_now: f64,
    median_before: Option<f64>,
    /// The ratio of now to before: the median, and its bounds.
    ratio: Option<(f64, f64, f64)>,
    verdict: Option<&'static str>,
}

impl Figures {
    /// Adds a round. With two sides only figures that both have count.
    pub(super) fn add(&mut self, now: Round, before: Option<Round>) {
        for (key, (polarity, value)) in now {
            let other = match &before {
                None => None,
                Some(before) => match before.get(&key) {
                    Some((_, value)) => Some(*value),
                    None => continue,
                },
            };
            let (test, name, unit) = key.clone();
            let of = self.0.entry(key).or_insert_with(|| Comparison {
                test,
                name,
                unit,
                polarity,
                now: Vec::new(),
                before: before.as_ref().map(|_| Vec::new()),
            });
            of.now.push(value);
            if let (Some(values), Some(other)) = (&mut of.before, other) {
                values.push(other);
            }
        }
    }

    /// Returns how many figures are known to a part, and how many there are.
    pub(super) fn precise(&self, part: f64) -> (usize, usize) {
        let precise = self.0.values().filter(|it| it.is_precise(part));
        (precise.count(), self.0.len())
    }

    pub(super) fn comparisons(self) -> Vec<Comparison> {
        self.0.into_values().collect()
    }
}

impl Comparison {
    /// Returns the ratio of now to before: the median over the rounds, and its bounds. `None` of too few rounds,
    /// and where a figure is zero.
    pub(super) fn change(&self) -> Option<(f64, f64, f64)> {
        let rounds = self.now.iter().zip(self.before.as_ref()?);
        let ratios: Vec<f64> = rounds.map(|(now, before)| now / before).collect();
        if ratios.iter().any(|ratio| !ratio.is_finite()) {
            return None;
        }
        let (low, high) = interval::of_median(&ratios)?;
        Some((median(&ratios), low, high))
    }

    fn is_precise(&self, part: f64) -> bool {
        match &self.before {
            // Where no ratio can be had, no number of rounds gives one.
            Some(_) => self
                .change()
                .is_none_or(|(_, low, high)| high - low <= 2.0 * part),
            None => interval::of_median(&self.now)
                .is_some_and(|(low, high)| high - low <= 2.0 * part * median(&self.now).abs()),
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        let Some((_, low, high)) = self.change() else {
            return Verdict::Unclear;
        };
        let (less, more) = (high < 1.0, low > 1.0);
        match (self.polarity, less, more) {
            (_, false, false) => Verdict::Unclear,
            (Polarity::LowerIsBetter, true, _) | (Polarity::HigherIsBetter, _, true) => {
                Verdict::Better
            }
            (Polarity::LowerIsBetter | Polarity::HigherIsBetter, ..) => Verdict::Worse,
            _ => Verdict::Changed,
        }
    }

    pub(super) fn json(&self) -> String {
        let word = |verdict| match verdict {
            Verdict::Better => "better",
            Verdict::Worse => "worse",
            Verdict::Changed => "changed",
            Verdict::Unclear => "unclear",
        };
        let row = Row {
            test: self.test.as_ref(),
            metric: &self.name,
            unit: self.unit.as_deref(),
            polarity: self.polarity,
            now: &self.now,
            before: self.before.as_deref(),
            median_now: median(&self.now),
            median_before: self.before.as_deref().map(median),
            ratio: self.change(),
            verdict: self.before.as_ref().map(|_| word(self.verdict())),
        };
        serde_json::json!(row).to_string() + "\n"
    }
}

/// Names of figures that a benchmark harness derives from the same samples as the one that counts.
const DERIVED: [&str; 5] = ["deviation", "fastest", "slowest", "mean", "iters"];

/// Adds the figures of an attempt: its metrics, or its running time if it has none.
pub(super) fn of_attempt(test: &TestId, metrics: &[Metric], seconds: f64, into: &mut Round) {
    let found = of_metrics(Some(test), metrics);
    if found.is_empty() {
        let key = (Some(test.clone()), "time".to_owned(), Some("s".to_owned()));
        into.insert(key, (Polarity::LowerIsBetter, seconds));
    }
    into.extend(found);
}

/// Returns the metrics that count, of several with one name the median.
pub(super) fn of_metrics(test: Option<&TestId>, metrics: &[Metric]) -> Round {
    let mut values: BTreeMap<Key, (Polarity, Vec<f64>)> = BTreeMap::new();
    for metric in metrics
        .iter()
        .filter(|metric| counts(metric) && metric.value.0.is_finite())
    {
        let key = (test.cloned(), metric.full_name(), metric.unit.clone());
        let (_, values) = values.entry(key).or_insert((metric.polarity, Vec::new()));
        values.push(metric.value.0);
    }
    let values = values.into_iter();
    values
        .map(|(key, (polarity, values))| (key, (polarity, median(&values))))
        .collect()
}

fn counts(metric: &Metric) -> bool {
    let of_harness = matches!(
        metric.source.as_deref(),
        Some("libtest" | "criterion" | "divan")
    );
    let last = metric.name.rsplit('.').next().unwrap_or_default();
    !of_harness || !(DERIVED.contains(&last) || ["low", "high"].contains(&last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness_metadata::{RustBinaryId, TestCaseName};

    fn test() -> TestId {
        TestId {
            binary: RustBinaryId::new("krate"),
            name: TestCaseName::new("bench"),
        }
    }

    fn round(value: f64, polarity: Polarity) -> Round {
        Round::from([(
            (Some(test()), "iteration".to_owned(), None),
            (polarity, value),
        )])
    }

    fn compared(polarity: Polarity, now: f64, before: f64, rounds: u32) -> Comparison {
        let mut figures = Figures::default();
        for number in 0..rounds {
            // The machine becomes slower, for both.
            let slower = 1.0 + f64::from(number) / 10.0;
            let jitter = 1.0 + f64::from(number % 3) / 1000.0;
            figures.add(
                round(now * slower * jitter, polarity),
                Some(round(before * slower, polarity)),
            );
        }
        figures.comparisons().remove(0)
    }

    #[test]
    fn a_drift_of_the_machine_does_not_hide_a_change_of_five_percent() {
        let slower = compared(Polarity::LowerIsBetter, 105.0, 100.0, 8);
        assert_eq!(slower.verdict(), Verdict::Worse);
        assert!(slower.is_precise(0.02));
        let (middle, low, high) = slower.change().expect("there are enough rounds");
        assert!(
            low > 1.04 && high < 1.06 && (low..=high).contains(&middle),
            "{middle} {low} {high}"
        );
        assert_eq!(
            compared(Polarity::HigherIsBetter, 105.0, 100.0, 8).verdict(),
            Verdict::Better
        );
        assert_eq!(
            compared(Polarity::Unknown, 105.0, 100.0, 8).verdict(),
            Verdict::Changed
        );
        assert_eq!(
            compared(Polarity::LowerIsBetter, 105.0, 100.0, 7).verdict(),
            Verdict::Unclear
        );
        assert_eq!(
            compared(Polarity::LowerIsBetter, 5.0, 0.0, 8).verdict(),
            Verdict::Unclear
        );
    }

    #[test]
    fn only_figures_that_both_sides_have_are_compared() {
        let mut figures = Figures::default();
        let other = Round::from([(
            (Some(test()), "other".to_owned(), None),
            (Polarity::Unknown, 1.0),
        )]);
        figures.add(round(1.0, Polarity::Unknown), Some(other));
        assert!(figures.comparisons().is_empty());
    }

    #[test]
    fn the_figure_that_counts_is_that_of_an_iteration_or_else_the_time() {
        let metric = |line: &str| serde_json::from_str::<Metric>(line).expect("it is one");
        let of = |metrics: &[Metric]| {
            let mut round = Round::default();
            of_attempt(&test(), metrics, 2.5, &mut round);
            round
                .into_iter()
                .map(|((_, name, _), (_, value))| (name, value))
                .collect::<Vec<_>>()
        };
        let criterion = [
            metric(r#"{"name":"iteration.low","value":1,"source":"criterion"}"#),
            metric(r#"{"name":"iteration","value":2,"source":"criterion"}"#),
            metric(r#"{"name":"iteration.high","value":3,"source":"criterion"}"#),
        ];
        assert_eq!(of(&criterion), [("iteration".to_owned(), 2.0)]);
        let own = [
            metric(r#"{"payload":"redis","name":"mean","value":1,"source":"json"}"#),
            metric(r#"{"payload":"redis","name":"mean","value":3,"source":"json"}"#),
        ];
        assert_eq!(of(&own), [("redis.mean".to_owned(), 2.0)]);
        assert_eq!(of(&[]), [("time".to_owned(), 2.5)]);
    }
}
