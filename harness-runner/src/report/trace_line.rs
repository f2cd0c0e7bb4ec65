//! One event of a trace in one line, as readers of strace(1) know it.
//!
//! Text that a program chose (paths, arguments, names) is quoted and escaped, so that no line can
//! move the cursor, break, or pass for another.

use super::wording::signal_name;
use harness_metadata::{
    Exit, RawString, TraceEvent, TraceEventKind,
    trace::{
        Access, Address, CallResult, Created, Creation, Exec, Exited, FileCall, FileOperation,
        Injected, NameLookup, NetworkCall, Reach, Sender, Signal, TracedPath,
    },
};
use nix::errno::Errno;
use std::fmt::Write;

/// Returns the event as a line without a line break: seconds since the test was started, the
/// process (and the thread, if it is not the first), and what happened.
pub fn line(event: &TraceEvent) -> String {
    let task = if event.tid == event.pid {
        event.pid.to_string()
    } else {
        format!("{}/{}", event.pid, event.tid)
    };
    let what = what(&event.kind);
    format!("{:>10.6} {task} {what}", event.at.as_secs_f64())
}

/// Returns what happened.
fn what(kind: &TraceEventKind) -> String {
    match kind {
        TraceEventKind::Created(created) => self::created(created),
        TraceEventKind::Exec(exec) => self::exec(exec),
        TraceEventKind::Exited(exited) => self::exited(exited),
        TraceEventKind::ThreadEnded => "+++ thread ended +++".to_owned(),
        TraceEventKind::Signal(signal) => self::signal(signal),
        TraceEventKind::File(call) => file(call),
        TraceEventKind::Network(call) => network(call),
        TraceEventKind::Lookup(lookup) => self::lookup(lookup),
        TraceEventKind::Injected(injected) => {
            format!("+++ {} +++", self::injected(injected))
        }
        TraceEventKind::Doubt(doubt) => {
            format!("!!! {} !!!", super::style::escaped(&doubt.to_string()))
        }
    }
}

/// Returns one failure in a line.
pub(super) fn injected(injected: &Injected) -> String {
    let place = injected.place.as_ref();
    let of = place.map_or_else(String::new, |place| format!(" of {}", quoted(place)));
    format!(
        "injected: {}{of} failed with {} (`{}`, call {})",
        super::style::escaped(&injected.call),
        errno_name(injected.errno),
        super::style::escaped(&injected.request),
        injected.number,
    )
}

fn created(created: &Created) -> String {
    let call = match created.how {
        Creation::Fork => "fork()",
        Creation::Vfork => "vfork()",
        Creation::Clone => "clone()",
        Creation::Thread => "clone(CLONE_THREAD)",
        Creation::Unknown => "clone(?)",
    };
    format!("{call} = {}", created.child)
}

fn exec(exec: &Exec) -> String {
    let mut text = format!("execve({}, [", path(&exec.program));
    for (number, arg) in exec.args.iter().enumerate() {
        if number > 0 {
            text.push_str(", ");
        }
        push_quoted(&mut text, arg.as_bytes());
    }
    if exec.truncated {
        text.push_str("...");
    }
    text.push(']');
    let (set, unset) = (exec.environment.set.len(), exec.environment.unset.len());
    if set + unset > 0 {
        let _ = write!(text, ", environment +{set} -{unset}");
    }
    let _ = write!(text, ") = {}", result(exec.result));
    text
}

fn exited(exited: &Exited) -> String {
    let end = match exited.exit {
        Exit::Code(code) => format!("exited with {code}"),
        Exit::Signal {
            signal,
            core_dumped,
        } => {
            let core = if core_dumped { " (core dumped)" } else { "" };
            format!("killed by {}{core}", signal_name(signal))
        }
    };
    format!("+++ {end} +++")
}

fn signal(signal: &Signal) -> String {
    let sender = match signal.sender {
        Sender::Kernel => "the kernel".to_owned(),
        Sender::Tree(pid) => pid.to_string(),
        Sender::Harness => "the harness".to_owned(),
        Sender::Outside(pid) => format!("{pid}, which is no process of the test"),
    };
    format!("--- {} from {sender} ---", signal_name(signal.signal))
}

fn file(call: &FileCall) -> String {
    let mut text = format!("{}({}", super::style::escaped(&call.call), path(&call.path));
    match &call.to {
        // The text of a link is no path of its own.
        Some(to) if call.operation == FileOperation::SymbolicLink => {
            text.push_str(", to ");
            push_quoted(&mut text, to.asked.as_bytes());
        }
        Some(to) => {
            text.push_str(", ");
            text.push_str(&path(to));
        }
        None => {}
    }
    if let Some(access) = call.access {
        text.push_str(", ");
        text.push_str(&flags(access));
    }
    let _ = write!(text, ") = {}", result(call.result));
    text
}

fn network(call: &NetworkCall) -> String {
    let name = super::style::escaped(&call.call);
    let mut text = format!("{name}({}", call.fd);
    if let Some(address) = &call.address {
        text.push_str(", ");
        text.push_str(&self::address(address));
    }
    let _ = write!(text, ") = {}", result(call.result));
    text.push_str(match call.reach {
        Reach::Tree => " [the test's own]",
        Reach::Machine => " [this machine]",
        Reach::Outside => " [another machine]",
        Reach::Unknown => "",
    });
    text
}

fn lookup(lookup: &NameLookup) -> String {
    let server = address(&lookup.server);
    format!("looks up {} at {server}", quoted(&lookup.name))
}

/// Returns the path as asked, and in angle brackets what that means where it is another.
fn path(path: &TracedPath) -> String {
    let mut text = quoted(&path.asked);
    if let Some(absolute) = &path.absolute {
        let absolute = quoted(absolute);
        let _ = write!(text, "<{}>", &absolute[1..absolute.len() - 1]);
    }
    text
}

/// Returns the address; names in it are quoted.
pub(super) fn address(address: &Address) -> String {
    match address {
        Address::Unix(path) => quoted(path),
        Address::UnixAbstract(name) => format!("@{}", quoted(name)),
        Address::Ip { .. }
        | Address::UnixUnnamed
        | Address::Netlink
        | Address::Vsock { .. }
        | Address::Other(_) => address.to_string(),
    }
}

/// Returns the flags of open(2) that are known.
fn flags(access: Access) -> String {
    let mode = match (access.read, access.write) {
        (true, true) => "O_RDWR",
        (false, true) => "O_WRONLY",
        (true, false) => "O_RDONLY",
        (false, false) => "",
    };
    [
        (!mode.is_empty(), mode),
        (access.create, "O_CREAT"),
        (access.exclusive, "O_EXCL"),
        (access.truncate, "O_TRUNC"),
        (access.unnamed, "O_TMPFILE"),
        (access.directory, "O_DIRECTORY"),
        (access.path_only, "O_PATH"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect::<Vec<_>>()
    .join("|")
}

fn result(result: CallResult) -> String {
    match result {
        CallResult::Unknown => "?".to_owned(),
        CallResult::Ok(value) => value.to_string(),
        CallResult::Found => "found".to_owned(),
        CallResult::Err(errno) => format!("-1 {} ({})", errno_name(errno), errno_words(errno)),
    }
}

/// Returns the name of an error, such as `ENOENT`.
pub(super) fn errno_name(errno: i32) -> String {
    match Errno::from_raw(errno) {
        Errno::UnknownErrno => format!("errno {errno}"),
        known => format!("{known:?}"),
    }
}

/// Returns what an error means, in the C library's words.
pub(super) fn errno_words(errno: i32) -> &'static str {
    Errno::from_raw(errno).desc()
}

/// Returns the bytes between double quotes, fit for display on one line: text is kept, what is no
/// text or would not be seen is escaped as in Rust.
pub fn quoted(bytes: &RawString) -> String {
    let mut text = String::with_capacity(bytes.as_bytes().len() + 2);
    push_quoted(&mut text, bytes.as_bytes());
    text
}

fn push_quoted(text: &mut String, bytes: &[u8]) {
    text.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                c => text.push_str(&super::style::escaped(c.encode_utf8(&mut [0; 4]))),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixture_kit::sample::READ;
    use harness_metadata::trace::{Doubt, EnvironmentChange, FileId, NetworkOperation};
    use std::{net::Ipv4Addr, time::Duration};

    fn event(kind: TraceEventKind) -> TraceEvent {
        TraceEvent {
            at: Duration::from_micros(1_012_345),
            pid: 7,
            tid: 7,
            kind,
        }
    }

    fn shown(kind: TraceEventKind) -> String {
        line(&event(kind))
    }

    fn open(asked: &[u8], absolute: Option<&str>, access: Access, result: CallResult) -> String {
        shown(TraceEventKind::File(Box::new(FileCall {
            call: "openat".to_owned(),
            operation: FileOperation::Open,
            path: TracedPath {
                asked: asked.into(),
                absolute: absolute.map(Into::into),
            },
            to: None,
            access: Some(access),
            result,
            file: Some(FileId {
                device: 1,
                inode: 2,
                directory: false,
            }),
        })))
    }

    #[test]
    fn an_open_reads_as_strace_shows_it() {
        assert_eq!(
            open(b"/etc/hosts", None, READ, CallResult::Found),
            r#"  1.012345 7 openat("/etc/hosts", O_RDONLY) = found"#
        );
        let create = Access {
            read: false,
            write: true,
            create: true,
            truncate: true,
            ..READ
        };
        assert_eq!(
            open(b"out", Some("/work/out"), create, CallResult::Ok(3)),
            r#"  1.012345 7 openat("out"</work/out>, O_WRONLY|O_CREAT|O_TRUNC) = 3"#
        );
        assert_eq!(
            open(b"gone", None, READ, CallResult::Err(libc::ENOENT)),
            r#"  1.012345 7 openat("gone", O_RDONLY) = -1 ENOENT (No such file or directory)"#
        );
    }

    #[test]
    fn a_name_cannot_break_the_line_nor_end_its_quotes() {
        assert_eq!(
            open(
                b"a\n\x1b[2J\xff\"\\\xc3\xa4",
                None,
                READ,
                CallResult::Unknown
            ),
            r#"  1.012345 7 openat("a\n\u{1b}[2J\xff\"\\ä", O_RDONLY) = ?"#
        );
    }

    #[test]
    fn a_thread_is_shown_beside_its_process() {
        let mut event = event(TraceEventKind::ThreadEnded);
        event.tid = 9;
        assert_eq!(line(&event), "  1.012345 7/9 +++ thread ended +++");
    }

    #[test]
    fn processes_come_and_go() {
        let created = Created {
            child: 8,
            how: Creation::Vfork,
        };
        assert_eq!(
            shown(TraceEventKind::Created(created)),
            "  1.012345 7 vfork() = 8"
        );
        let exec = Exec {
            program: TracedPath {
                asked: "/bin/sh".into(),
                absolute: None,
            },
            args: vec!["sh".into(), "-c".into(), "exit 1".into()],
            environment: EnvironmentChange {
                set: vec![("A".into(), "1".into())],
                unset: vec!["B".into(), "C".into()],
            },
            result: CallResult::Ok(0),
            truncated: true,
            ..Exec::default()
        };
        assert_eq!(
            shown(TraceEventKind::Exec(Box::new(exec))),
            r#"  1.012345 7 execve("/bin/sh", ["sh", "-c", "exit 1"...], environment +1 -2) = 0"#
        );
        let exited = |exit| {
            shown(TraceEventKind::Exited(Exited {
                exit,
                user: Duration::ZERO,
                system: Duration::ZERO,
                peak_memory: 0,
            }))
        };
        assert_eq!(exited(Exit::Code(3)), "  1.012345 7 +++ exited with 3 +++");
        let crash = Exit::Signal {
            signal: libc::SIGSEGV,
            core_dumped: true,
        };
        assert_eq!(
            exited(crash),
            "  1.012345 7 +++ killed by SIGSEGV (core dumped) +++"
        );
        let signal = Signal {
            signal: libc::SIGTERM,
            code: 0,
            sender: Sender::Outside(1),
        };
        assert_eq!(
            shown(TraceEventKind::Signal(signal)),
            "  1.012345 7 --- SIGTERM from 1, which is no process of the test ---"
        );
    }

    #[test]
    fn a_network_call_tells_where_its_address_is() {
        let call = NetworkCall {
            call: "connect".to_owned(),
            operation: NetworkOperation::Connect,
            fd: 3,
            address: Some(Address::Ip {
                ip: Ipv4Addr::LOCALHOST.into(),
                port: 80,
            }),
            reach: Reach::Machine,
            result: CallResult::Err(libc::ECONNREFUSED),
        };
        assert_eq!(
            shown(TraceEventKind::Network(Box::new(call))),
            "  1.012345 7 connect(3, 127.0.0.1:80) = -1 ECONNREFUSED (Connection refused) \
             [this machine]"
        );
        let lookup = NameLookup {
            name: "a\n.example".into(),
            server: Address::Unix("/run/\x07".into()),
        };
        assert_eq!(
            shown(TraceEventKind::Lookup(lookup)),
            r#"  1.012345 7 looks up "a\n.example" at "/run/\u{7}""#
        );
    }

    #[test]
    fn a_doubt_stands_out() {
        assert_eq!(
            shown(TraceEventKind::Doubt(Doubt::IoUring)),
            "  1.012345 7 !!! io_uring was used, whose operations are not system calls !!!"
        );
    }

    #[test]
    fn an_error_that_nobody_knows_is_shown_by_its_number() {
        assert_eq!(
            result(CallResult::Err(9999)),
            "-1 errno 9999 (Unknown errno)"
        );
    }
}
