//! Reads which functions a test has entered, from the files that its processes and its tracer have written.

use super::{Digest, programs::Entered};
use crate::{
    functions::Map,
    tracer::entries::{Execution, Shape, file_of, log_of},
};
use camino::{Utf8Path, Utf8PathBuf};
use std::{collections::BTreeMap, fs, sync::Arc};

/// An executable whose entries are recorded.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its path.
    pub path: Utf8PathBuf,
    /// Its content.
    pub digest: Digest,
    /// Its map.
    pub map: Arc<Map>,
    /// The places of its bits.
    pub shape: Shape,
}

/// Returns the entered functions of the executables that a test has executed, its own binary first, or why they are not
/// known. `executions` counts them by their paths, as the trace has them.
pub(super) fn read(
    prefix: &str,
    programs: &[Program],
    own: &Utf8Path,
    executions: &BTreeMap<Vec<u8>, usize>,
) -> Result<Vec<Entered>, String> {
    let log = fs::read_to_string(log_of(prefix)).unwrap_or_default();
    let mut recorded = vec![0_usize; programs.len()];
    for line in log.lines() {
        let execution: Execution =
            serde_json::from_str(line).map_err(|_| "its record is damaged".to_owned())?;
        if let Some(reason) = execution.failed {
            return Err(reason);
        }
        let count = recorded.get_mut(execution.executable);
        *count.ok_or("its record is damaged")? += 1;
    }
    let mut entered = Vec::new();
    for (number, program) in programs.iter().enumerate() {
        let path = program.path.as_str().as_bytes();
        let seen = executions.get(path).copied().unwrap_or(0);
        if seen != recorded[number] {
            return Err(format!("`{}` was executed unseen", program.path));
        }
        if seen == 0 {
            continue;
        }
        let file = file_of(prefix, number);
        let bits = fs::read(&file).map_err(|error| format!("`{file}` cannot be read: {error}"))?;
        entered.push(Entered {
            path: program.path.clone(),
            digest: program.digest,
            functions: functions(&bits, program),
        });
    }
    let first = entered.iter().position(|it| it.path == own);
    let first = first.ok_or("its own binary was not recorded")?;
    entered.swap(0, first);
    Ok(entered)
}

fn functions(bits: &[u8], program: &Program) -> Vec<u32> {
    let functions = program.map.functions.iter().zip(0_u32..);
    let entered = functions.filter(|(function, _)| {
        let bit = program.shape.bit(function.address);
        let byte = usize::try_from(bit / 8).ok().and_then(|at| bits.get(at));
        byte.is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    });
    entered.map(|(_, number)| number).collect()
}

/// Removes the files of a test.
pub(super) fn remove(prefix: &str, programs: usize) {
    let _ = fs::remove_file(log_of(prefix));
    for number in 0..programs {
        let _ = fs::remove_file(file_of(prefix, number));
    }
}
