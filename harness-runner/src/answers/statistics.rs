//! Whether two tests fail more often together than alone: Fisher's exact test, in a few looks.
//!
//! A look compares how many of the runs together failed with how many of as many runs alone did. Each of
//! [`LOOKS`] may be wrong with a part of [`ERROR`], so that all together are wrong with no more than that
//! (Bonferroni).

/// The number of runs of each kind at each look.
pub const LOOKS: [u64; 3] = [10, 30, 60];

/// The probability of a false confirmation, over all looks.
pub const ERROR: f64 = 0.01;

/// Runs and failures.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The number of runs.
    pub runs: u64,
    /// The number of those in which a test failed.
    pub failed: u64,
}

/// The result of a look.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Look {
    /// They fail more often together: the probability that chance alone does so.
    Confirmed(f64),
    /// It is not clear yet.
    Unclear(f64),
}

/// Compares runs together with runs alone.
pub fn look(together: Counts, alone: Counts) -> Look {
    let chance = chance(together, alone);
    let limit = ERROR / 3.0;
    match chance < limit {
        true => Look::Confirmed(chance),
        false => Look::Unclear(chance),
    }
}

/// Returns the probability that at least so many of all failures fall among the runs together, if it makes no
/// difference (Fisher's exact test, one-sided).
pub fn chance(together: Counts, alone: Counts) -> f64 {
    let failed = together.failed + alone.failed;
    let all = together.runs + alone.runs;
    let most = failed.min(together.runs);
    let ways = |failures: u64| {
        let rest = failed - failures;
        if rest > alone.runs {
            return f64::NEG_INFINITY;
        }
        choose(together.runs, failures) + choose(alone.runs, rest) - choose(all, failed)
    };
    let sum: f64 = (together.failed..=most).map(|it| ways(it).exp()).sum();
    sum.min(1.0)
}

/// Returns the highest rate of failures that so many runs without one leave possible, with a confidence of 99
/// in 100.
pub fn highest_rate(runs: u64) -> f64 {
    match runs {
        0 => 1.0,
        #[expect(clippy::cast_precision_loss, reason = "there are a few dozen runs")]
        runs => 1.0 - ERROR.powf(1.0 / runs as f64),
    }
}

/// Returns the logarithm of the number of ways to choose `k` of `n`.
fn choose(n: u64, k: u64) -> f64 {
    factorial(n) - factorial(k) - factorial(n - k)
}

/// Returns the logarithm of the product of 1 to `n`.
#[expect(clippy::cast_precision_loss, reason = "there are a few dozen runs")]
fn factorial(n: u64) -> f64 {
    (1..=n).map(|factor| (factor as f64).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(failed: u64, runs: u64) -> Counts {
        Counts { runs, failed }
    }

    #[test]
    fn fishers_test_gives_the_values_of_its_tables() {
        for (together, alone, expected) in [
            // The lady tasting tea.
            (counts(3, 4), counts(1, 4), 0.242_857),
            (counts(10, 10), counts(0, 10), 0.000_005),
            (counts(5, 10), counts(0, 10), 0.016_254),
            (counts(0, 10), counts(0, 10), 1.0),
            (counts(10, 10), counts(10, 10), 1.0),
        ] {
            let found = chance(together, alone);
            assert!(
                (found - expected).abs() < 1e-6,
                "{together:?} {alone:?}: {found}"
            );
        }
    }

    #[test]
    fn tests_that_fail_alone_as_often_are_not_confirmed() {
        let confirmed = |together, alone| matches!(look(together, alone), Look::Confirmed(_));
        assert!(confirmed(counts(7, 10), counts(0, 10)));
        assert!(confirmed(counts(15, 30), counts(1, 30)));
        assert!(!confirmed(counts(3, 10), counts(0, 10)));
        assert!(!confirmed(counts(30, 30), counts(30, 30)));
        assert!(!confirmed(counts(0, 60), counts(0, 60)));
        assert!((highest_rate(60) - 0.073_9).abs() < 1e-3);
        assert!((highest_rate(0) - 1.0).abs() < 1e-9);
    }
}
