//! The handling of panics: the terminal is put back, and a sentence reports a fault of this
//! program. The stubs kill running tests when this process ends or drops them.

use harness_metadata::exit_code;
use harness_runner::{keys, report::style::escaped_lines};
use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, Write},
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    thread,
};

/// Has every panic told as [`tell`] does.
pub(crate) fn install() {
    panic::set_hook(Box::new(|info| {
        keys::give_back();
        // Nothing can be reported once standard error is gone.
        let _ = tell(&mut io::stderr().lock(), info, &Backtrace::capture());
    }));
}

/// Returns the exit code of what is done, or that of an internal error if it panics.
pub(crate) fn guarded(work: impl FnOnce() -> i32) -> i32 {
    // Nothing of it is used again.
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or(exit_code::INTERNAL)
}

/// Writes what went wrong and where, and the way there only if the user has asked for it by
/// `RUST_BACKTRACE`.
fn tell(to: &mut dyn Write, info: &PanicHookInfo<'_>, way: &Backtrace) -> io::Result<()> {
    let message = escaped_lines(info.payload_as_str().unwrap_or("no message"));
    let place = info.location().map_or_else(String::new, |location| {
        format!(", at {}:{}", location.file(), location.line())
    });
    let thread = thread::current();
    let thread = escaped_lines(thread.name().unwrap_or("unnamed"));
    writeln!(
        to,
        "\nerror: something went wrong inside of cargo harness that should not: {message}\n  \
         in thread `{thread}`{place}; this is a fault of the program, please report it"
    )?;
    if way.status() == BacktraceStatus::Captured {
        writeln!(to, "{way}")?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_panic_is_a_sentence_and_the_exit_code_of_an_internal_error() {
        let told = Arc::<Mutex<Vec<u8>>>::default();
        let to = Arc::clone(&told);
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let mut to = to.lock().expect("no thread panics with it");
            tell(&mut *to, info, &Backtrace::disabled()).expect("memory takes everything");
        }));
        let code = guarded(|| panic!("{} is wrong", "everything"));
        panic::set_hook(before);
        assert_eq!(code, exit_code::INTERNAL);
        assert_eq!(guarded(|| 7), 7);
        let told = told.lock().expect("no thread panics with it").clone();
        let told = String::from_utf8(told).expect("it is text");
        assert!(
            told.starts_with("\nerror: something went wrong inside of cargo harness that should not: everything is wrong\n"),
            "{told}"
        );
        assert!(told.contains(", at cargo-harness/src/panics.rs:"), "{told}");
    }
}
