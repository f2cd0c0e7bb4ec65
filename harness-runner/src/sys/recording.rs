//! Whether calls are recorded.

use serde::{Deserialize, Serialize};

/// Whether the calls of an attempt are recorded in its own processes, or each of them stops its caller.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recording {
    /// Each call stops.
    #[default]
    Off,
    /// Calls are recorded where that is possible.
    On,
    /// Recorded calls stop as well, and both answers are compared.
    Verified,
}
