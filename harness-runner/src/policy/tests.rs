use super::*;
use harness_metadata::{
    RawString, TraceEvent, TraceEventKind, Violation,
    trace::{
        Access, Address, CallResult, FileCall, FileOperation, NetworkCall, NetworkOperation, Reach,
        TracedPath,
    },
};
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// The roots of a workspace in a folder.
fn roots(folder: &Path) -> Roots {
    let variable = |name: &str| match name {
        "HOME" => Some(OsString::from(folder.join("home"))),
        "TMPDIR" => Some(OsString::from(folder.join("tmp"))),
        _ => None,
    };
    let workspace = folder.join("ws");
    Roots::of(&workspace, &workspace.join("target"), &variable)
}

/// A folder with the roots in it, for a test.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let made = tempfile::tempdir().unwrap();
    let path = fs::canonicalize(made.path()).unwrap();
    for name in ["ws/target", "ws/src", "home", "tmp"] {
        fs::create_dir_all(path.join(name)).unwrap();
    }
    (made, path)
}

fn entries(texts: &[&str]) -> Entries {
    Entries::Only(texts.iter().map(|text| text.parse().unwrap()).collect())
}

fn file(operation: FileOperation, path: &Path, access: Access, result: CallResult) -> TraceEvent {
    let call = FileCall {
        call: "openat".to_owned(),
        operation,
        path: TracedPath {
            asked: RawString::from(path.to_str().unwrap()),
            absolute: None,
        },
        to: None,
        access: Some(access),
        result,
        file: None,
    };
    event(TraceEventKind::File(Box::new(call)))
}

fn event(kind: TraceEventKind) -> TraceEvent {
    TraceEvent {
        at: Duration::from_millis(5),
        pid: 7,
        tid: 7,
        kind,
    }
}

const READS: Access = Access {
    read: true,
    write: false,
    create: false,
    exclusive: false,
    truncate: false,
    unnamed: false,
    directory: false,
    path_only: false,
};
const CREATES: Access = Access {
    read: false,
    write: true,
    create: true,
    ..READS
};

fn judged(policy: &Policy, roots: Roots, look: Look, events: &[TraceEvent]) -> Vec<Violation> {
    let mut judge = Judge::new(Bounds::new(policy, roots), look, 9);
    for event in events {
        judge.event(event);
    }
    judge.violations().map(|it| it.found).unwrap_or_default()
}

#[test]
fn an_entry_is_written_as_it_is_read() {
    for text in ["workspace", "home/.gitconfig", "/opt/data", "system"] {
        let entry: Entry = text.parse().unwrap();
        assert_eq!(entry.to_string(), text);
    }
    let entry: Entry = "target/".parse().unwrap();
    assert_eq!(entry.to_string(), "target");
}

#[test]
fn what_the_kernel_cannot_enforce_is_no_entry() {
    let refused = |text: &str| text.parse::<Entry>().unwrap_err().to_string();
    assert!(refused("workspace/*.txt").contains("has the wildcard `*`"));
    assert!(refused("!workspace/src").contains("cannot deny a part"));
    assert!(refused("workspace/../x").contains("has `..`"));
    assert!(refused("src/data").contains("begins with `src`, which is no root"));
    assert!(refused("system/fonts").contains("stands for several folders"));
    assert!(refused("").contains("must not be empty"));
}

#[test]
fn a_file_beyond_the_allowed_folders_is_a_violation_with_the_entry_that_would_allow_it() {
    let (_made, folder) = folder();
    let policy = Policy {
        read: entries(&["workspace"]),
        write: entries(&["target"]),
        ..Policy::default()
    };
    let secret = folder.join("home/.netrc");
    let fresh = folder.join("ws/src/new.rs");
    let ok = CallResult::Ok(3);
    let found = judged(
        &policy,
        roots(&folder),
        Look::Audit,
        &[
            file(
                FileOperation::Open,
                &folder.join("ws/src/lib.rs"),
                READS,
                ok,
            ),
            file(FileOperation::Open, &secret, READS, ok),
            file(FileOperation::Open, &secret, READS, ok),
            file(FileOperation::Open, &fresh, CREATES, ok),
            file(
                FileOperation::Open,
                &folder.join("ws/target/x"),
                CREATES,
                ok,
            ),
            file(FileOperation::Stat, &secret, READS, ok),
            file(
                FileOperation::Open,
                &folder.join("home/no"),
                READS,
                CallResult::Err(libc::ENOENT),
            ),
        ],
    );
    let short: Vec<_> = found
        .iter()
        .map(|it| (it.rule.as_str(), it.target.to_string(), it.allow.as_str()))
        .collect();
    assert_eq!(
        short,
        [
            (
                "policy.fs.read",
                secret.display().to_string(),
                "home/.netrc"
            ),
            (
                "policy.fs.write",
                fresh.display().to_string(),
                "workspace/src"
            ),
        ]
    );
}

#[test]
fn a_symbolic_link_counts_as_the_file_that_it_leads_to() {
    let (_made, folder) = folder();
    fs::write(folder.join("home/secret"), "").unwrap();
    let link = folder.join("ws/link");
    std::os::unix::fs::symlink(folder.join("home/secret"), &link).unwrap();
    let policy = Policy {
        read: entries(&["workspace"]),
        write: entries(&["workspace"]),
        ..Policy::default()
    };
    let ok = CallResult::Ok(3);
    let read = file(FileOperation::Open, &link, READS, ok);
    let removed = file(FileOperation::Remove, &link, READS, ok);
    let found = judged(&policy, roots(&folder), Look::Audit, &[read, removed]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].allow, "home/secret");
}

#[test]
fn where_the_kernel_decides_only_denied_calls_count_and_those_that_it_cannot_deny() {
    let (_made, folder) = folder();
    let policy = Policy {
        mode: PolicyMode::Enforce,
        write: entries(&["target"]),
        ..Policy::default()
    };
    let path = folder.join("ws/src/lib.rs");
    let denied = file(
        FileOperation::Open,
        &path,
        CREATES,
        CallResult::Err(libc::EACCES),
    );
    let opened = file(FileOperation::Open, &path, CREATES, CallResult::Ok(3));
    let mode = file(
        FileOperation::ChangeMetadata,
        &path,
        READS,
        CallResult::Ok(0),
    );
    let errors = |events: &[TraceEvent]| {
        let found = judged(&policy, roots(&folder), Look::Enforce, events);
        found.iter().map(|it| it.errno).collect::<Vec<_>>()
    };
    assert_eq!(errors(&[opened]), []);
    assert_eq!(errors(&[denied]), [Some(libc::EACCES)]);
    assert_eq!(errors(&[mode]), [None]);
}

#[test]
fn abstract_names_of_others_are_a_violation_and_own_ones_are_not() {
    let policy = Policy {
        ipc: Ipc::Only(vec![]),
        ..Policy::default()
    };
    let connect = |reach| {
        let call = NetworkCall {
            call: "connect".to_owned(),
            operation: NetworkOperation::Connect,
            fd: 3,
            address: Some(Address::UnixAbstract(RawString::from("bus"))),
            reach,
            result: CallResult::Ok(0),
        };
        event(TraceEventKind::Network(Box::new(call)))
    };
    let found = |reach| judged(&policy, Roots::default(), Look::Audit, &[connect(reach)]);
    assert_eq!(found(Reach::Tree), []);
    let outside = found(Reach::Machine);
    assert_eq!(
        (outside[0].rule.as_str(), outside[0].allow.as_str()),
        (Ipc::KEY, "abstract-sockets")
    );
}

#[test]
fn no_more_violations_are_named_than_fit() {
    let (_made, folder) = folder();
    let policy = Policy {
        read: entries(&[]),
        ..Policy::default()
    };
    let mut judge = Judge::new(Bounds::new(&policy, roots(&folder)), Look::Past, 2);
    for number in 0..5 {
        let path = folder.join(format!("home/{number}"));
        judge.event(&file(FileOperation::Open, &path, READS, CallResult::Ok(3)));
    }
    let violations = judge.violations().unwrap();
    assert_eq!((violations.found.len(), violations.more), (2, 3));
}

#[test]
fn bounds_travel_as_bytes() {
    let (_made, folder) = folder();
    let policy = Policy {
        mode: PolicyMode::Enforce,
        exec: entries(&["target", "/opt/tool"]),
        ipc: Ipc::Only(vec![IpcWay::Signals]),
        ..Policy::default()
    };
    let bounds = Bounds::new(&policy, roots(&folder));
    assert_eq!(Bounds::from_bytes(&bounds.to_bytes()), Ok(bounds));
}
