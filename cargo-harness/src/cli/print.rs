//! Prints a finished text to standard output.

use crate::command_error::{CommandError, Kind};
use std::io::{self, ErrorKind, Write};

/// Prints a text. `what` names it in the message of an error, such as "the settings".
///
/// A reader that has seen enough (`| head`) is no error.
pub(super) fn print(text: &[u8], what: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            let message = format!("failed to write {what} to standard output: {error}");
            Err(CommandError::new(Kind::Write, message))
        }
    }
}
