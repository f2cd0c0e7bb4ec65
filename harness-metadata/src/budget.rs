//! The budgets that an attempt did not keep to.

use crate::metric::Number;
use serde::{Deserialize, Serialize};

/// A budget that an attempt did not keep to, or of which that is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "exhaustive"), non_exhaustive)]
pub struct BudgetFinding {
    /// The name in the configuration: of a number that the runner measured, or of a metric.
    pub name: String,
    /// The value, the worst of several; `None` if it was not measured.
    pub value: Option<Number>,
    /// The number of values that were not within the budget.
    #[serde(default)]
    pub values: u64,
    /// The unit of value and limits: `s`, `B`, that of the metric, or none.
    #[serde(default)]
    pub unit: Option<String>,
    /// The upper limit.
    #[serde(default)]
    pub max: Option<Number>,
    /// The lower limit.
    #[serde(default)]
    pub min: Option<Number>,
    /// True if it fails the attempt.
    pub fails: bool,
    /// The file that has the limit.
    pub file: String,
    /// Its line.
    pub line: u32,
    /// The reason why it was not measured, as a sentence fragment; `None` if it was.
    #[serde(default)]
    pub unmeasured: Option<String>,
    /// Facts that are known of the value, such as the processes that the trace has; a sentence fragment each.
    #[serde(default)]
    pub evidence: Vec<String>,
}
