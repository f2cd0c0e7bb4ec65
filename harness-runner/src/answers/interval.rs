//! The interval in which a median lies, without an assumption about the distribution.
//!
//! Of `n` independent values each is above the true median with a probability of one half. So the interval from the
//! `k`-th lowest to the `k`-th highest value misses it with the probability that fewer than `k` of `n` coins show
//! heads, twice. That holds for values of any distribution.

/// The probability that an interval misses.
pub const ERROR: f64 = 0.01;

/// The fewest values that have an interval: of 7 even the range of all misses once in 64 times.
pub const FEWEST: usize = 8;

/// Returns the narrowest interval that has the median with a probability of at least 99 %. `None` of fewer than
/// [`FEWEST`] values.
pub fn of_median(values: &[f64]) -> Option<(f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let mut ways = 1.0_f64;
    let mut below = 0.0;
    let mut rank = None;
    // The probability that fewer than `k` of `n` coins show heads grows with `k`.
    for k in 1..=n / 2 {
        below += ways * 0.5_f64.powi(i32::try_from(n).ok()?);
        if 2.0 * below > ERROR {
            break;
        }
        rank = Some(k);
        ways *= (n - k + 1) as f64 / k as f64;
    }
    let rank = rank?;
    Some((sorted[rank - 1], sorted[n - rank]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranks_are_those_of_the_binomial_distribution() {
        let of = |n: u32| {
            let values: Vec<f64> = (1..=n).map(f64::from).collect();
            of_median(&values)
        };
        assert_eq!(of(7), None);
        // 2 of 256 miss: less than 1 in 100. One further rank: 18 of 256.
        assert_eq!(of(8), Some((1.0, 8.0)));
        assert_eq!(of(12), Some((2.0, 11.0)));
        assert_eq!(of(20), Some((4.0, 17.0)));
        assert_eq!(of(30), Some((8.0, 23.0)));
    }

    /// Random numbers that are the same in each run.
    struct Random(u64);

    impl Random {
        fn uniform(&mut self) -> f64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
        }
    }

    #[test]
    fn an_interval_misses_no_more_often_than_it_says_whatever_the_distribution() {
        let mut random = Random(42);
        for n in [8, 12, 30] {
            let questions = 4_000;
            let missed = (0..questions)
                .filter(|_| {
                    // Exponential: a long tail. Its median is ln 2.
                    let values: Vec<f64> = (0..n).map(|_| -random.uniform().ln()).collect();
                    let (low, high) = of_median(&values).expect("there are enough");
                    !(low..=high).contains(&std::f64::consts::LN_2)
                })
                .count();
            let most = 40.0 + 3.1 * (40.0_f64 * 0.99).sqrt();
            println!("{n} values: {missed} of {questions} intervals miss");
            assert!((missed as f64) <= most, "{n}: {missed}");
        }
    }
}
