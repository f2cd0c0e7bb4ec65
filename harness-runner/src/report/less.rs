//! The words for tracing at a lower level than requested.

use harness_metadata::trace::{Backend, Less, Missing, Reason};
use nix::errno::Errno;

/// The cost of a missing /proc for processes that are not traced.
const NOT_NAMED: &str = "what a test leaves behind is killed, but cannot be named";

/// Returns why tests are traced less, and what that costs.
pub fn less(less: &Less) -> String {
    let mut parts: Vec<String> = less.because.iter().map(reason).collect();
    parts.extend(cost(less));
    parts.join("; ")
}

/// Returns what it costs that some processes are to be stopped for a debugger.
pub fn breaks() -> String {
    "a process that `--break-exec` lets go of must not have a filter; \
     files and the network are not seen"
        .to_owned()
}

/// Returns what it costs that there is no usable /proc, where nothing else is missing.
pub fn nameless(why: &Missing) -> String {
    format!("{}; {NOT_NAMED}", missing(why))
}

fn reason(reason: &Reason) -> String {
    match reason {
        Reason::Unavailable(why) => missing(why),
        Reason::NoNewPrivsForbidden => {
            "a filter of system calls needs no_new_privs, which `trace.no-new-privs` forbids"
                .to_owned()
        }
        Reason::OuterLevel(level) => format!(
            "the run that this run is part of traces at level {} only",
            level.as_str()
        ),
        Reason::PrivilegedRunner(runner) => format!(
            "`{runner}`, which runs the tests, gets privileges from its file that a tracer would \
             take from it"
        ),
    }
}

fn cost(less: &Less) -> Option<String> {
    let cost = match (less.left, less.has_proc) {
        // It tells what ours would see, if it looks as closely.
        (Backend::Outer, _) => return None,
        (Backend::Ptrace, _) => "nothing is lost".to_owned(),
        (Backend::Notify, _) => {
            "seccomp notification is used instead, which sees the questions to \
                                 the kernel but not the answers"
                .to_owned()
        }
        (Backend::Lifecycle, true) => {
            "processes are followed, but files and the network are not seen".to_owned()
        }
        (Backend::Lifecycle, false) => {
            format!("processes are followed, but files and the network are not seen; {NOT_NAMED}")
        }
        (Backend::None, true) => "descendants are known by the subreaper and the process group \
                                  only, and processes are not counted"
            .to_owned(),
        (Backend::None, false) => format!("processes are not counted; {NOT_NAMED}"),
    };
    Some(cost)
}

/// Returns why a backend does not work here.
pub fn missing(missing: &Missing) -> String {
    let refused = |what: &str, errno: i32| {
        format!("{what} is refused here: {}", Errno::from_raw(errno).desc())
    };
    let why = match missing {
        Missing::Proc => "there is no /proc",
        Missing::OwnProc => {
            "/proc is that of another PID namespace (`unshare --mount-proc` mounts the own one)"
        }
        Missing::PtraceRefused(errno) => return refused("ptrace", *errno),
        Missing::PtraceUntrue => "ptrace does not report what it should here",
        Missing::Ptrace => "it needs ptrace",
        Missing::FilterRefused(errno) => return refused("seccomp", *errno),
        Missing::FilterUntrue => "a seccomp filter does not stop what it should here",
        Missing::NotifyRefused(errno) => return refused("seccomp notification", *errno),
        Missing::NotifyTaken => {
            "another program listens to system calls here already (seccomp), and only one can"
        }
        Missing::NotifyUntrue => "seccomp notification does not tell what it should here",
        Missing::TracedAlready => {
            "this run is part of a test that is traced, and a process has one tracer"
        }
        Missing::Outer => "no other run traces this one",
        Missing::OuterUnreachable(why) => {
            return format!("the outer tracer cannot be reached: {why}");
        }
        Missing::OuterSilent => "it is not traced by the outer tracer",
        Missing::OuterRefuses(why) => why,
        Missing::OuterUnknown(errno) => {
            return format!("nothing is known of it: {}", Errno::from_raw(*errno).desc());
        }
        Missing::OuterStranger(user) => {
            return format!("user {user} listens at the outer tracer's socket");
        }
        Missing::OuterElsewhere => "the outer tracer does not trace this process",
    };
    why.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_come_first_and_then_what_that_costs() {
        let refused = Reason::Unavailable(Missing::PtraceRefused(Errno::EPERM as i32));
        let mut told = Less {
            because: vec![refused, Reason::NoNewPrivsForbidden],
            left: Backend::None,
            has_proc: false,
        };
        assert_eq!(
            less(&told),
            "ptrace is refused here: Operation not permitted; a filter of system calls needs \
             no_new_privs, which `trace.no-new-privs` forbids; processes are not counted; what a \
             test leaves behind is killed, but cannot be named"
        );
        told.because = vec![Reason::OuterLevel(
            harness_metadata::event::TraceLevel::Process,
        )];
        told.left = Backend::Outer;
        assert_eq!(
            less(&told),
            "the run that this run is part of traces at level process only"
        );
        assert!(nameless(&Missing::Proc).starts_with("there is no /proc; what a test leaves"));
    }
}
