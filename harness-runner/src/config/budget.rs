//! Budgets: limits on numbers that the runner or the test itself measured.
//!
//! A limit of [`Limits`](harness_metadata::Limits) is enforced while the test runs, by the kernel. A budget is judged
//! when an attempt is over.

use super::place::Place;
use harness_metadata::{Measure, MeasureUnit, words};

/// The budgets of a test, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Budget(pub Vec<Limit>);

/// A budget for one number.
#[derive(Clone, Debug)]
pub struct Limit {
    /// The name, as it is written.
    pub name: String,
    /// The number.
    pub of: Quantity,
    /// The upper limit, in seconds or bytes or as it is.
    pub max: Option<f64>,
    /// The lower limit.
    pub min: Option<f64>,
    /// The effect on an attempt that is not within it.
    pub result: BudgetResult,
    /// Whether an attempt fails of which the number is not known.
    pub required: bool,
    /// Its place in the configuration.
    pub place: Place,
}

/// Wherever they are written.
impl PartialEq for Limit {
    fn eq(&self, other: &Self) -> bool {
        self.written() == other.written()
    }
}

/// A number that has a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// One that the runner measures.
    Measured(Measure),
    /// A metric that the test or one of its programs records.
    Metric(String),
}

/// The effect of a budget that was not kept to.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum BudgetResult {
    /// The attempt fails.
    #[default]
    Fail,
    /// The attempt passes with a warning.
    Warn,
}

words!(BudgetResult {
    Fail = "fail",
    Warn = "warn",
});

impl Quantity {
    /// Returns the unit of a number that the runner measures; `None` for that of a metric.
    pub fn unit(&self) -> Option<MeasureUnit> {
        match self {
            Self::Measured(measure) => Some(measure.unit()),
            Self::Metric(_) => None,
        }
    }
}

impl Limit {
    /// Returns what is written, without its place.
    pub fn written(&self) -> (&str, Option<f64>, Option<f64>, BudgetResult, bool) {
        (&self.name, self.max, self.min, self.result, self.required)
    }
}

impl Budget {
    /// Lays budgets over each other, the one that wins first: each name by itself.
    pub(super) fn merged<'a>(layers: impl Iterator<Item = &'a Self>) -> Self {
        let mut merged: Vec<Limit> = Vec::new();
        for limit in layers.flat_map(|layer| &layer.0) {
            if !merged.iter().any(|known| known.of == limit.of) {
                merged.push(limit.clone());
            }
        }
        merged.retain(|limit| limit.max.is_some() || limit.min.is_some());
        Self(merged)
    }
}
