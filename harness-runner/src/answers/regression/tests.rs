use super::*;
use fixture_kit::sample;
use harness_metadata::metric::Number;

const BOUNDS: Bounds = Bounds {
    latest: None,
    least: 0.05,
};

/// Random numbers that are the same in each run (xorshift64*).
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        (bits as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// A time with a long tail.
    fn time(&mut self) -> f64 {
        100.0 * (0.3 * self.normal()).exp()
    }

    /// A time that is now and then ten times as long.
    fn spiky(&mut self) -> f64 {
        let spike = self.uniform() < 0.05;
        self.time() * if spike { 10.0 } else { 1.0 }
    }

    /// A count with many ties.
    fn count(&mut self) -> f64 {
        (3.0 * self.uniform()).floor()
    }
}

fn series(name: usize, polarity: Polarity, values: Vec<f64>) -> Series {
    Series {
        test: sample::test("krate", "test"),
        name: format!("number {name}"),
        unit: None,
        polarity,
        values,
    }
}

fn of_time(values: Vec<f64>) -> Series {
    series(0, Polarity::LowerIsBetter, values)
}

/// The latest values and those before.
fn split(latest: &[f64], before: &[f64]) -> Vec<f64> {
    [latest, before].concat()
}

fn chance(some: &[f64], others: &[f64]) -> f64 {
    Splits::default().chance(some, others)
}

#[test]
fn the_probability_is_that_of_all_splits() {
    // There are 6 splits of 4 values into two and two: one has the two lowest together, and one the highest.
    assert!((chance(&[1.0, 2.0], &[3.0, 4.0]) - 2.0 / 6.0).abs() < 1e-12);
    assert!((chance(&[3.0, 4.0], &[1.0, 2.0]) - 2.0 / 6.0).abs() < 1e-12);
    // As tables of the test have it: 5 and 8 values without overlap, 2 of 1287.
    let before: Vec<f64> = (0..8).map(f64::from).collect();
    let latest: Vec<f64> = (10..15).map(f64::from).collect();
    assert!((chance(&latest, &before) - 2.0 / 1287.0).abs() < 1e-12);
    // U = 3 of 4 and 5 values: 7 of the 126 splits have 3 or less.
    let (some, others) = ([1.0, 2.0, 4.0, 6.0], [3.0, 5.0, 7.0, 8.0, 9.0]);
    assert!((chance(&some, &others) - 14.0 / 126.0).abs() < 1e-12);
    assert!((chance(&[5.0; 5], &[5.0; 20]) - 1.0).abs() < 1e-12);
}

#[test]
fn ties_share_their_ranks() {
    assert_eq!(doubled_ranks(&[1.0, 1.0], &[1.0, 2.0]), [4, 4, 4, 8]);
}

/// Independent noise: no more than one question in a hundred may report anything.
#[test]
fn noise_is_reported_in_no_more_than_one_question_in_a_hundred() {
    type Noise = fn(&mut Random) -> f64;
    let kinds: [(&str, Noise, usize); 3] = [
        ("time", Random::time, 20_000),
        ("spiky", Random::spiky, 20_000),
        // With ties each question has splits of its own, which takes longer.
        ("count", Random::count, 1_000),
    ];
    for (name, noise, questions) in kinds {
        for (count, runs, questions) in [(1, 25, questions), (30, 35, questions / 20)] {
            let mut random = Random(0x5eed ^ count as u64 ^ runs as u64);
            let mut wrong = 0;
            for _ in 0..questions {
                let all: Vec<_> = (0..count)
                    .map(|number| {
                        let values = (0..runs).map(|_| noise(&mut random)).collect();
                        series(number, Polarity::LowerIsBetter, values)
                    })
                    .collect();
                let answer = regressions(
                    &all,
                    Bounds {
                        least: 0.0,
                        ..BOUNDS
                    },
                );
                assert_eq!(answer.compared, count);
                wrong += usize::from(!answer.found.is_empty());
            }
            // With a rate of 1 in 100, more than this is seen once in a thousand simulations; the seed is fixed.
            let expected = questions as f64 * ERROR;
            let most = expected + 3.1 * (expected * (1.0 - ERROR)).sqrt();
            println!("{name}, {count} series: {wrong} of {questions} questions");
            assert!(
                (wrong as f64) <= most,
                "{name}: {wrong} of {questions}, may be {most}"
            );
        }
    }
}

/// The test itself, without the noise band: it keeps its own promise.
#[test]
fn the_test_rejects_noise_as_often_as_it_says() {
    let mut random = Random(7);
    let questions = 10_000;
    let chances: Vec<f64> = (0..questions)
        .map(|_| {
            let values: Vec<f64> = (0..25).map(|_| random.time()).collect();
            chance(&values[..5], &values[5..])
        })
        .collect();
    for level in [0.05, 0.01] {
        let wrong = chances.iter().filter(|chance| **chance <= level).count();
        let rate = wrong as f64 / f64::from(questions);
        // It is exact: no more than the level, and not far below, as 53130 splits have fine steps.
        assert!(
            rate < level * 1.25 && rate > level * 0.75,
            "{level}: {rate}"
        );
    }
}

#[test]
fn a_number_that_doubled_is_found_among_many() {
    let mut random = Random(11);
    let (mut found, questions) = (0, 60);
    for _ in 0..questions {
        let mut all: Vec<_> = (0..30)
            .map(|_| of_time((0..35).map(|_| random.time()).collect()))
            .collect();
        for value in &mut all[17].values[..6] {
            *value *= 2.5;
        }
        let answer = regressions(
            &all,
            Bounds {
                latest: Some(6),
                ..BOUNDS
            },
        );
        let right = answer.found.iter().any(|it| {
            std::ptr::eq(it.series, &raw const all[17]) && it.direction == Direction::Worse
        });
        found += i32::from(right);
    }
    println!("{found} of {questions} found");
    assert!(found >= 54, "{found} of {questions}");
}

#[test]
fn one_run_or_a_few_are_never_reported() {
    let quiet = |latest: &[f64]| {
        split(
            latest,
            &[
                100.0, 101.0, 99.0, 100.5, 98.0, 102.0, 100.0, 99.5, 101.5, 97.0,
            ],
        )
    };
    for latest in [&[900.0][..], &[900.0; 2], &[900.0; 3], &[900.0; 4]] {
        let values = quiet(latest);
        let all = [of_time(values)];
        let answer = regressions(&all, BOUNDS);
        assert!(answer.found.is_empty(), "{answer:?}");
    }
    let all = [of_time(quiet(&[900.0, 910.0, 905.0, 890.0, 920.0]))];
    let answer = regressions(&all, BOUNDS);
    assert_eq!(answer.found.len(), 1);
    assert_eq!(
        (answer.found[0].latest.len(), answer.found[0].before.len()),
        (5, 10)
    );
    // Without enough runs before, five are not enough either.
    let all = [of_time(split(&[900.0; 5], &[100.0; 7]))];
    let answer = regressions(&all, BOUNDS);
    assert_eq!((answer.found.len(), answer.too_few), (0, 1));
}

#[test]
fn the_polarity_says_what_is_worse() {
    let grown = || {
        split(
            &[20.0; 5],
            &[10.0, 10.1, 9.9, 10.0, 10.2, 9.8, 10.0, 10.1, 9.9, 10.0],
        )
    };
    for (polarity, direction) in [
        (Polarity::LowerIsBetter, Direction::Worse),
        (Polarity::HigherIsBetter, Direction::Better),
        (Polarity::Unknown, Direction::Changed),
        (Polarity::Target(Number(10.0)), Direction::Worse),
        (Polarity::Target(Number(20.0)), Direction::Better),
    ] {
        let all = [series(0, polarity, grown())];
        let answer = regressions(&all, BOUNDS);
        let found: Vec<_> = answer.found.iter().map(|it| it.direction).collect();
        assert_eq!(found, [direction], "{polarity:?}");
    }
}

#[test]
fn a_change_within_the_noise_or_too_small_is_none() {
    let wide: Vec<f64> = (0..30).map(|it| f64::from(it) * 10.0).collect();
    // All five are high, and none is beyond what was seen before.
    let all = [of_time(split(&[270.0, 275.0, 271.0, 272.0, 274.0], &wide))];
    assert!(regressions(&all, BOUNDS).found.is_empty());
    let narrow: Vec<f64> = (0..30).map(|it| 100.0 + f64::from(it) * 0.01).collect();
    let all = [of_time(split(
        &[101.0, 101.1, 101.2, 101.3, 101.4],
        &narrow,
    ))];
    assert!(regressions(&all, BOUNDS).found.is_empty());
    let finer = Bounds {
        least: 0.005,
        ..BOUNDS
    };
    assert_eq!(regressions(&all, finer).found.len(), 1);
}

#[test]
fn more_series_take_more_runs() {
    let long = |count| vec![of_time(vec![1.0; 60]); count];
    assert_eq!(enough(&long(1)), 5);
    assert_eq!(enough(&long(1_500)), 5);
    assert_eq!(enough(&long(5_000)), 6);
    let short = vec![of_time(vec![1.0; 14]); 100];
    assert!(enough(&short) > 5);
}
