//! Deals the selected tests out to several machines.

use std::str::FromStr;
use thiserror::Error;
use xxhash_rust::xxh64::xxh64;

/// One of several parts of the selected tests. All parts together are the selection, and no test
/// is in two of them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    scheme: Scheme,
    /// From 1 to `total`.
    part: u64,
    total: u64,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Scheme {
    /// In turn, over all tests.
    Slice,
    /// In turn, anew in each binary.
    Count,
    /// By name.
    Hash,
    /// So that each part takes as long as the others, which takes all tests to decide.
    Time,
}

/// An error in the syntax of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PartitionError {
    /// It has another form.
    #[error("`{0}` is not of the form `slice:M/N`, `hash:M/N`, `count:M/N` or `time:M/N`")]
    Form(String),
    /// There is no such part.
    #[error("part {part} of {total} does not exist: in `M/N`, M goes from 1 to N")]
    Range {
        /// M.
        part: u64,
        /// N.
        total: u64,
    },
}

impl FromStr for Partition {
    type Err = PartitionError;

    fn from_str(text: &str) -> Result<Self, PartitionError> {
        let form = || PartitionError::Form(text.to_owned());
        let (scheme, parts) = text.split_once(':').ok_or_else(form)?;
        let (part, total) = parts.split_once('/').ok_or_else(form)?;
        let scheme = match scheme {
            "slice" => Scheme::Slice,
            "count" => Scheme::Count,
            "hash" => Scheme::Hash,
            "time" => Scheme::Time,
            _ => return Err(form()),
        };
        let part: u64 = part.parse().map_err(|_| form())?;
        let total: u64 = total.parse().map_err(|_| form())?;
        if part == 0 || part > total {
            return Err(PartitionError::Range { part, total });
        }
        Ok(Self {
            scheme,
            part,
            total,
        })
    }
}

impl Partition {
    /// Returns the part, counted from 0, and the number of parts, if tests are dealt out by their
    /// durations.
    pub fn by_time(self) -> Option<(usize, usize)> {
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let by_time = self.scheme == Scheme::Time;
        by_time.then(|| (number(self.part - 1), number(self.total)))
    }
}

/// Deals tests out in order. Ignored tests are dealt apart from the others, so that which others
/// are in a part does not depend on `--run-ignored`.
#[derive(Debug)]
pub struct Dealer {
    partition: Partition,
    ignored: u64,
    others: u64,
}

impl Dealer {
    /// Starts with no test dealt.
    pub fn new(partition: Partition) -> Self {
        Self {
            partition,
            ignored: 0,
            others: 0,
        }
    }

    /// Goes on to the tests of another binary.
    pub fn next_binary(&mut self) {
        if self.partition.scheme == Scheme::Count {
            (self.ignored, self.others) = (0, 0);
        }
    }

    /// Returns whether the next test is in the part.
    pub fn deal(&mut self, name: &str, ignored: bool) -> bool {
        let counter = if ignored {
            &mut self.ignored
        } else {
            &mut self.others
        };
        let index = match self.partition.scheme {
            Scheme::Slice | Scheme::Count => {
                let index = *counter;
                *counter += 1;
                index
            }
            Scheme::Hash => xxh64(name.as_bytes(), 0),
            // Decided when all tests are known.
            Scheme::Time => return true,
        };
        index % self.partition.total == self.partition.part - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dealt(partition: &str, tests: &[(String, bool)], binaries: usize) -> Vec<bool> {
        let mut dealer = Dealer::new(partition.parse().expect("it is a partition"));
        let per_binary = tests.len().div_ceil(binaries).max(1);
        let mut dealt = Vec::new();
        for binary in tests.chunks(per_binary) {
            dealer.next_binary();
            dealt.extend(
                binary
                    .iter()
                    .map(|(name, ignored)| dealer.deal(name, *ignored)),
            );
        }
        dealt
    }

    proptest! {
        #[test]
        fn every_test_is_in_exactly_one_part(
            tests in prop::collection::vec(("[a-z]{1,6}", any::<bool>()), 0..60),
            binaries in 1_usize..5,
            total in 1_u64..8,
            scheme in prop::sample::select(&["slice", "count", "hash"]),
        ) {
            let parts: Vec<Vec<bool>> = (1..=total)
                .map(|part| dealt(&format!("{scheme}:{part}/{total}"), &tests, binaries))
                .collect();
            for index in 0..tests.len() {
                prop_assert_eq!(parts.iter().filter(|part| part[index]).count(), 1);
            }
        }

        #[test]
        fn ignored_tests_do_not_change_the_part_of_others(
            tests in prop::collection::vec(("[a-z]{1,6}", any::<bool>()), 0..60),
            total in 1_u64..5,
            scheme in prop::sample::select(&["slice", "count", "hash"]),
        ) {
            let partition = format!("{scheme}:1/{total}");
            let with = dealt(&partition, &tests, 1);
            let with: Vec<bool> = with
                .into_iter()
                .zip(&tests)
                .filter(|(_, (_, ignored))| !ignored)
                .map(|(dealt, _)| dealt)
                .collect();
            let others: Vec<_> = tests.into_iter().filter(|(_, ignored)| !ignored).collect();
            prop_assert_eq!(with, dealt(&partition, &others, 1));
        }

        #[test]
        fn slices_differ_by_at_most_one_test(count in 0_usize..100, total in 1_u64..8) {
            let tests: Vec<_> = (0..count).map(|n| (n.to_string(), false)).collect();
            let sizes: Vec<usize> = (1..=total)
                .map(|part| dealt(&format!("slice:{part}/{total}"), &tests, 3))
                .map(|dealt| dealt.into_iter().filter(|&dealt| dealt).count())
                .collect();
            let (min, max) = (sizes.iter().min(), sizes.iter().max());
            prop_assert!(max.expect("total is positive") - min.expect("likewise") <= 1);
        }
    }

    #[test]
    fn counting_starts_anew_in_each_binary_and_slicing_goes_on() {
        let tests: Vec<_> = (0..6).map(|n| (n.to_string(), false)).collect();
        assert_eq!(
            dealt("count:1/2", &tests, 2),
            [true, false, true, true, false, true]
        );
        assert_eq!(
            dealt("slice:1/2", &tests, 2),
            [true, false, true, false, true, false]
        );
    }

    #[test]
    fn hashing_goes_by_the_name_with_xxh64() {
        assert_eq!(
            xxh64(b"tests::basic", 0) % 2,
            u64::from(!deal_alone("hash:1/2", "tests::basic"))
        );
        assert_eq!(xxh64(b"", 0), 0xef46_db37_51d8_e999);
    }

    fn deal_alone(partition: &str, name: &str) -> bool {
        dealt(partition, &[(name.to_owned(), false)], 1)[0]
    }

    #[test]
    fn malformed_partitions_are_errors() {
        let message = |text: &str| {
            text.parse::<Partition>()
                .expect_err("it is wrong")
                .to_string()
        };
        let form = "is not of the form `slice:M/N`, `hash:M/N`, `count:M/N` or `time:M/N`";
        assert_eq!(message("1/2"), format!("`1/2` {form}"));
        assert_eq!(message("shuffle:1/2"), format!("`shuffle:1/2` {form}"));
        assert_eq!(message("hash:1"), format!("`hash:1` {form}"));
        assert_eq!(message("hash:-1/2"), format!("`hash:-1/2` {form}"));
        let range = "in `M/N`, M goes from 1 to N";
        assert_eq!(
            message("slice:3/2"),
            format!("part 3 of 2 does not exist: {range}")
        );
        assert_eq!(
            message("slice:0/2"),
            format!("part 0 of 2 does not exist: {range}")
        );
        assert_eq!(
            message("count:0/0"),
            format!("part 0 of 0 does not exist: {range}")
        );
    }
}
