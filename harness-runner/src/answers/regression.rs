//! Whether a number of a test has changed: the latest runs against those before.
//!
//! The latest values are compared with the earlier ones by the two-sided Mann-Whitney test: it asks how often
//! a random split of all values into two such groups has ranks at least as far apart. It assumes no distribution:
//! times have long tails, and means and variances of a few of them mislead. The probability is exact, over
//! all splits, with midranks for ties. Of many series some look changed by chance, so the probabilities are
//! corrected (Holm): that any series is reported by mistake is no more likely than [`ERROR`].
//!
//! A change that is certain may still be of no interest. So the median of the latest values also has to lie outside
//! of the noise band of the earlier ones, and to differ from their median by a part.

use harness_metadata::{Polarity, TestId};
use std::collections::{HashMap, hash_map::Entry};

/// The probability of a false report among all series of one question.
pub const ERROR: f64 = 0.01;

/// The fewest latest runs that are compared, and the most.
pub const LATEST: (usize, usize) = (5, 10);

/// The most earlier runs that are compared.
pub const BEFORE: usize = 30;

/// The fewest of them: with 5 after 8 the least probability is 1 in 643.
pub const FEWEST_BEFORE: usize = 8;

/// The part of the values that is outside of the noise band, at each end.
const TAIL: f64 = 0.05;

/// The values of one number of a test over runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The test.
    pub test: TestId,
    /// The name of the number.
    pub name: String,
    /// Its unit.
    pub unit: Option<String>,
    /// The direction in which it is better.
    pub polarity: Polarity,
    /// A value for each run, the latest first. All are finite.
    pub values: Vec<f64>,
}

/// The direction of a change.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// By its polarity.
    Worse,
    /// Its polarity is not known.
    Changed,
    /// By its polarity.
    Better,
}

impl Direction {
    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Worse => "worse",
            Self::Changed => "changed",
            Self::Better => "better",
        }
    }
}

/// The bounds of a question.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Bounds {
    /// The number of latest runs; `None` for as few as can tell.
    pub latest: Option<usize>,
    /// The least difference of the medians, as a part of the earlier one.
    pub least: f64,
}

/// A change.
#[derive(Clone, Debug, PartialEq)]
pub struct Regression<'a> {
    /// The series.
    pub series: &'a Series,
    /// Its direction.
    pub direction: Direction,
    /// The latest values, the latest first.
    pub latest: &'a [f64],
    /// The values before.
    pub before: &'a [f64],
    /// The noise band of the values before.
    pub band: (f64, f64),
    /// The probability of such a difference by chance, corrected for the number of series.
    pub chance: f64,
}

/// The answer to a question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer<'a> {
    /// The changes, the worst first.
    pub found: Vec<Regression<'a>>,
    /// The number of series that were compared.
    pub compared: usize,
    /// The number of series with too few values.
    pub too_few: usize,
    /// The number of latest runs that were compared.
    pub latest: usize,
}

/// Finds the series that have changed.
pub fn regressions(series: &[Series], bounds: Bounds) -> Answer<'_> {
    let latest = bounds.latest.unwrap_or_else(|| enough(series));
    let (long, short): (Vec<_>, Vec<_>) = series
        .iter()
        .partition(|series| series.values.len() >= latest + FEWEST_BEFORE);
    let mut splits = Splits::default();
    let judged = long.iter().map(|series| judge(series, latest, &mut splits));
    let mut judged: Vec<_> = judged.collect();
    judged.sort_by(|a, b| a.chance.total_cmp(&b.chance));
    let compared = judged.len();
    let mut most: f64 = 0.0;
    for (rank, one) in judged.iter_mut().enumerate() {
        most = most.max((one.chance * (compared - rank) as f64).min(1.0));
        one.chance = most;
    }
    let mut found: Vec<_> = judged
        .into_iter()
        .filter(|one| one.chance <= ERROR && matters(one, bounds.least))
        .collect();
    found.sort_by(|a, b| {
        let order = a.direction.cmp(&b.direction);
        order.then(ratio(b).total_cmp(&ratio(a)))
    });
    Answer {
        found,
        compared,
        too_few: short.len(),
        latest,
    }
}

/// Returns the fewest latest runs with which a change can be told from chance among so many series.
fn enough(series: &[Series]) -> usize {
    let (fewest, most) = LATEST;
    (fewest..most)
        .find(|&latest| {
            let lengths = series.iter().map(|series| series.values.len());
            let long: Vec<_> = lengths.filter(|it| *it >= latest + FEWEST_BEFORE).collect();
            let before = long.iter().map(|it| (it - latest).min(BEFORE)).min();
            before.is_none_or(|before| {
                2.0 / choose(before + latest, latest) * long.len() as f64 <= ERROR
            })
        })
        .unwrap_or(most)
}

fn choose(n: usize, k: usize) -> f64 {
    (0..k).map(|it| (n - it) as f64 / (it + 1) as f64).product()
}

fn judge<'a>(series: &'a Series, latest: usize, splits: &mut Splits) -> Regression<'a> {
    let (now, before) = series.values.split_at(latest);
    let before = &before[..before.len().min(BEFORE)];
    let by_polarity = |values: &[f64]| -> Vec<f64> {
        let values = values.iter();
        match series.polarity {
            Polarity::HigherIsBetter => values.map(|it| -it).collect(),
            Polarity::Target(target) => values.map(|it| (it - target.0).abs()).collect(),
            _ => values.copied().collect(),
        }
    };
    let (cost_now, cost_before) = (by_polarity(now), by_polarity(before));
    let direction = match series.polarity {
        Polarity::HigherIsBetter | Polarity::LowerIsBetter | Polarity::Target(_) => {
            match median(&cost_now) > median(&cost_before) {
                true => Direction::Worse,
                false => Direction::Better,
            }
        }
        _ => Direction::Changed,
    };
    Regression {
        series,
        direction,
        latest: now,
        before,
        band: band(before),
        chance: splits.chance(&cost_now, &cost_before),
    }
}

/// Returns whether a change is beyond the noise, and large enough.
fn matters(one: &Regression<'_>, least: f64) -> bool {
    let (now, before) = (median(one.latest), median(one.before));
    let beyond = now < one.band.0 || now > one.band.1;
    beyond && (now - before).abs() >= least * before.abs()
}

/// Returns by how much the medians differ, whichever is greater.
fn ratio(one: &Regression<'_>) -> f64 {
    let (now, before) = (median(one.latest).abs(), median(one.before).abs());
    now.max(before) / now.min(before).max(f64::MIN_POSITIVE)
}

/// Returns the median; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    quantile(&sorted(values), 0.5)
}

/// Returns the noise band of values: the range without the lowest and the highest twentieth.
pub fn band(values: &[f64]) -> (f64, f64) {
    let sorted = sorted(values);
    (quantile(&sorted, TAIL), quantile(&sorted, 1.0 - TAIL))
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Returns a quantile of sorted values, by linear interpolation.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let at = part * last as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// The splits of values into two groups, by the ranks of the values. Series without ties have the same ones, and
/// to count them takes longer than all else.
#[derive(Debug, Default)]
struct Splits(HashMap<(Vec<usize>, usize), Sums>);

/// The number of splits by the sum of the ranks of the first group.
#[derive(Debug)]
struct Sums {
    /// The splits with this sum or a lower one. Up to 40 values: all are exact.
    up_to: Vec<f64>,
}

/// The most that are remembered: with ties each series may have its own.
const MOST_SPLITS: usize = 1_000;

impl Splits {
    /// Returns the probability that a random split into two such groups has ranks at least as far apart: twice that of
    /// the nearer end.
    fn chance(&mut self, some: &[f64], others: &[f64]) -> f64 {
        let mut ranks = doubled_ranks(some, others);
        let sum: usize = ranks[..some.len()].iter().sum();
        ranks.sort_unstable();
        if self.0.len() >= MOST_SPLITS {
            self.0.clear();
        }
        let sums = match self.0.entry((ranks, some.len())) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let (ranks, size) = new.key();
                let sums = Sums::of(ranks, *size);
                new.insert(sums)
            }
        };
        sums.chance(sum)
    }
}

impl Sums {
    /// Counts the splits of these ranks, the lowest first, with a first group of this size.
    fn of(ranks: &[usize], size: usize) -> Self {
        let most: usize = ranks.iter().rev().take(size).sum();
        // The number of ways to take `k` of the values seen so far with the sum `s`.
        let mut ways = vec![vec![0.0_f64; most + 1]; size + 1];
        ways[0][0] = 1.0;
        for (seen, rank) in ranks.iter().enumerate() {
            for taken in (1..=size.min(seen + 1)).rev() {
                for total in (*rank..=most).rev() {
                    ways[taken][total] += ways[taken - 1][total - rank];
                }
            }
        }
        let mut so_far = 0.0;
        let up_to = ways[size].iter().map(|ways| {
            so_far += ways;
            so_far
        });
        Self {
            up_to: up_to.collect(),
        }
    }

    fn chance(&self, sum: usize) -> f64 {
        let all = self.up_to.last().copied().unwrap_or(1.0);
        let below = self.up_to[sum];
        let above = all - sum.checked_sub(1).map_or(0.0, |less| self.up_to[less]);
        (2.0 * below.min(above) / all).min(1.0)
    }
}

/// Returns twice the rank of each value among all, the first group first. Values that are the same share the mean of their
/// ranks.
fn doubled_ranks(some: &[f64], others: &[f64]) -> Vec<usize> {
    let all: Vec<f64> = some.iter().chain(others).copied().collect();
    let rank = |value: &f64| {
        let less = all.iter().filter(|it| *it < value).count();
        let same = all.iter().filter(|it| *it == value).count();
        2 * less + same + 1
    };
    all.iter().map(rank).collect()
}

#[cfg(test)]
mod tests;
