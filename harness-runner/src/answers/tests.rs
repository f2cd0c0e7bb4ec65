//! Tests of answers, from events that were made by hand.

use super::{
    question::{Files, Peer, Program, Question},
    rules::{Effect, Roots, Shared, exclusion, noise, rules_of_clashes, rules_of_noise},
    uses::{Gap, How, Thing, Use, Uses},
};
use camino::Utf8Path;
use fixture_kit::sample::{exec, path, seen};
use harness_metadata::{
    TraceEvent, TraceEventKind,
    trace::{
        Access, Address, CallResult, FileCall, FileOperation, NetworkCall, NetworkOperation, Reach,
    },
};
use std::time::Duration;

pub(super) fn roots() -> Roots {
    Roots {
        workspace: "/srv/it".into(),
        target: "/srv/it/target".into(),
        home: Some("/home/me".into()),
        temp: "/tmp".into(),
    }
}

pub(super) fn file(
    millis: u64,
    operation: FileOperation,
    name: &str,
    access: Option<Access>,
    result: CallResult,
) -> TraceEvent {
    let call = FileCall {
        call: "openat".to_owned(),
        operation,
        path: path(name),
        to: None,
        access,
        result,
        file: None,
    };
    seen(10, millis, TraceEventKind::File(Box::new(call)))
}

pub(super) fn open(millis: u64, name: &str, access: Access) -> TraceEvent {
    file(
        millis,
        FileOperation::Open,
        name,
        Some(access),
        CallResult::Ok(3),
    )
}

pub(super) fn bind(millis: u64, port: u16, result: CallResult) -> TraceEvent {
    let call = NetworkCall {
        call: "bind".to_owned(),
        operation: NetworkOperation::Bind,
        fd: 3,
        address: Some(Address::Ip {
            ip: [127, 0, 0, 1].into(),
            port,
        }),
        reach: Reach::Tree,
        result,
    };
    seen(10, millis, TraceEventKind::Network(Box::new(call)))
}

const READ: Access = Access {
    read: true,
    write: false,
    create: false,
    exclusive: false,
    truncate: false,
    unnamed: false,
    directory: false,
    path_only: false,
};

fn ways(uses: &Uses, name: &str) -> Vec<How> {
    let uses = uses.things.get(&Thing::Path(name.into()));
    uses.into_iter().flatten().map(|it| it.how).collect()
}

#[test]
fn a_trace_becomes_the_uses_of_files_addresses_and_programs() {
    let write = Access {
        read: false,
        write: true,
        ..READ
    };
    let created = Access {
        create: true,
        exclusive: true,
        ..write
    };
    let events = [
        open(1, "/srv/it/data", READ),
        open(5, "/srv/it/data", READ),
        open(
            2,
            "/srv/it/out",
            Access {
                truncate: true,
                ..write
            },
        ),
        open(2, "/srv/it/new", created),
        open(
            2,
            "/srv/it/dir",
            Access {
                directory: true,
                ..READ
            },
        ),
        file(
            3,
            FileOperation::Open,
            "/srv/it/none",
            Some(READ),
            CallResult::Err(libc::ENOENT),
        ),
        file(
            3,
            FileOperation::MakeDirectory,
            "/srv/it/dir",
            None,
            CallResult::Err(libc::EEXIST),
        ),
        file(
            3,
            FileOperation::Remove,
            "/srv/it/new",
            None,
            CallResult::Ok(0),
        ),
        // It is made again.
        file(
            3,
            FileOperation::Open,
            "/srv/it/again",
            Some(READ),
            CallResult::Err(libc::EINTR),
        ),
        seen(
            10,
            4,
            TraceEventKind::Exec(Box::new(exec("/bin/cat", &["cat"], CallResult::Ok(0)))),
        ),
        bind(5, 8080, CallResult::Ok(0)),
        bind(6, 8081, CallResult::Err(libc::EADDRINUSE)),
    ];
    let uses = Uses::from_events(events.into_iter(), &|_| true);
    assert!(uses.complete());
    assert_eq!(ways(&uses, "/srv/it/data"), [How::Read]);
    assert_eq!(ways(&uses, "/srv/it/out"), [How::Emptied]);
    assert_eq!(ways(&uses, "/srv/it/new"), [How::Created, How::Removed]);
    assert_eq!(ways(&uses, "/srv/it/dir"), [How::Listed, How::Exists]);
    assert_eq!(ways(&uses, "/srv/it/none"), [How::Missing]);
    assert_eq!(ways(&uses, "/srv/it/again"), []);
    assert_eq!(ways(&uses, "/bin/cat"), [How::Executed]);
    let data = &uses.things[&Thing::Path("/srv/it/data".into())][0];
    assert_eq!(
        (data.at.as_millis(), data.last.as_millis(), data.count),
        (1, 5, 2)
    );
    let port = |port| uses.things[&Thing::Ip([127, 0, 0, 1].into(), port)][0].how;
    assert_eq!([port(8080), port(8081)], [How::Bound, How::Taken]);
}

#[test]
fn a_path_in_an_unknown_folder_is_a_gap() {
    let uses = Uses::from_events([open(1, "data", READ)].into_iter(), &|_| true);
    assert!(uses.things.is_empty());
    assert_eq!(uses.gaps, [Gap::Unplaced(1)]);
}

fn files(text: &str) -> Files {
    Files::new(text, Utf8Path::new("/srv/it/sub"), &roots()).unwrap()
}

fn thing(path: &str) -> Thing {
    Thing::Path(path.into())
}

#[test]
fn a_path_stands_for_all_below_it_and_a_glob_for_what_it_matches() {
    let reads = |text: &str, path: &str| {
        Question::Reads(files(text)).is_answered_by(&thing(path), How::Read)
    };
    for (text, path) in [
        ("data", "/srv/it/sub/data"),
        ("data/", "/srv/it/sub/data/below"),
        ("../data//x/.", "/srv/it/data/x"),
        ("~/.gitconfig", "/home/me/.gitconfig"),
        ("*.json", "/srv/it/sub/a.json"),
        ("/srv/**/*.json", "/srv/it/deep/er/a.json"),
        ("/", "/etc/hosts"),
    ] {
        assert!(reads(text, path), "{text} {path}");
    }
    for (text, path) in [
        ("data", "/srv/it/sub/database"),
        ("data", "/srv/it/data"),
        ("*.json", "/srv/it/sub/deep/a.json"),
    ] {
        assert!(!reads(text, path), "{text} {path}");
    }
    assert!(Files::new("", Utf8Path::new("/"), &roots()).is_err());
    assert!(Files::new("a[", Utf8Path::new("/"), &roots()).is_err());
}

#[test]
fn the_folder_above_counts_where_its_change_is_one_of_the_file() {
    let data = files("data/x");
    let reads = Question::Reads(data.clone());
    assert!(reads.is_answered_by(&thing("/srv/it/sub/data"), How::Listed));
    assert!(!reads.is_answered_by(&thing("/srv/it/sub"), How::Listed));
    assert!(!reads.is_answered_by(&thing("/srv/it/sub/data"), How::Entered));
    let writes = Question::Writes(data);
    assert!(writes.is_answered_by(&thing("/srv/it/sub"), How::RenamedFrom));
    assert!(!writes.is_answered_by(&thing("/srv/it/sub"), How::MadeFolder));
    assert!(writes.is_answered_by(&thing("/srv/it/sub/data/x"), How::Emptied));
    assert!(!writes.is_answered_by(&thing("/srv/it/sub/data/x"), How::Read));
}

#[test]
fn addresses_are_ports_hosts_and_sockets() {
    let peer = |text: &str| Peer::new(text, Utf8Path::new("/srv/it"), &roots());
    let is = |text: &str, thing: &Thing| {
        let question = Question::Connects(peer(text).unwrap());
        question.is_answered_by(thing, How::Connected)
    };
    let four = Thing::Ip([127, 0, 0, 1].into(), 80);
    let six = Thing::Ip("::1".parse().unwrap(), 80);
    assert!(is("80", &four) && is("80", &six));
    assert!(is("127.0.0.1:80", &four) && !is("127.0.0.1:80", &six));
    assert!(is("localhost:80", &four) && is("localhost:80", &six));
    assert!(is("[::1]:80", &six) && !is("[::1]:81", &six));
    let mapped = Thing::Ip("::ffff:127.0.0.1".parse().unwrap(), 80);
    assert!(is("127.0.0.1:80", &mapped));
    assert!(is("/run/x.sock", &thing("/run/x.sock")));
    assert!(is("./x.sock", &thing("/srv/it/x.sock")));
    assert!(is("@name", &Thing::Abstract("name".into())));
    for wrong in ["", "host", "host:", ":80", "host:99999", "a:b:80"] {
        assert!(peer(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_program_is_known_by_its_name_or_its_path() {
    let runs = |text: &str| {
        let program = Program::new(text, Utf8Path::new("/srv/it"), &roots()).unwrap();
        Question::Runs(program).is_answered_by(&thing("/usr/bin/git"), How::Executed)
    };
    assert!(runs("git") && runs("/usr/bin/git") && runs("/usr/*/g*") && runs("/usr"));
    assert!(!runs("gi") && !runs("/opt/git"));
}

#[test]
fn each_kind_of_noise_has_a_rule_and_what_a_test_uses_has_none() {
    for (path, rule) in [
        ("/proc/self/maps", "kernel"),
        ("/dev/null", "device"),
        ("/etc/ld.so.cache", "search"),
        ("/usr/share/terminfo/x/xterm", "search"),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", "system"),
        ("/etc/passwd", "accounts"),
        ("/home/me/.rustup/toolchains/stable/bin/cargo", "toolchain"),
        ("/srv/it/target/debug/deps/it-0a1b", "build"),
        ("/srv/it/default_1.profraw", "coverage"),
    ] {
        let found = noise(&thing(path), &roots());
        assert_eq!(found.map(|rule| rule.name), Some(rule), "{path}");
    }
    for path in [
        "/srv/it/data",
        "/home/me/.gitconfig",
        "/tmp/x",
        "/dev/shm/x",
        "/srv/it/target/tmp/x",
        "/etc/it.conf",
        "/usr/bin/git",
    ] {
        assert_eq!(noise(&thing(path), &roots()), None, "{path}");
    }
}

#[test]
fn paths_are_shown_from_the_root_that_they_are_in() {
    let roots = roots();
    for (path, shown, root) in [
        ("/srv/it/data", "data", Some("workspace")),
        ("/srv/it/target/x", "target/x", Some("target")),
        ("/home/me/.gitconfig", "~/.gitconfig", Some("home")),
        ("/tmp/x", "/tmp/x", Some("temp")),
        ("/etc/x", "/etc/x", None),
        ("/srv/item", "/srv/item", None),
        ("/srv/it", "/srv/it", None),
    ] {
        assert_eq!(roots.shown(path), shown);
        assert_eq!(roots.root_of(path), root, "{path}");
    }
}

#[test]
fn the_page_has_each_rule_with_its_reason() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../site/docs/answers.md");
    let page = std::fs::read_to_string(page).unwrap();
    let lacks = |row: &String| !page.contains(row.as_str());
    let noise = rules_of_noise().map(|rule| format!("| `{}` | {} |\n", rule.name, rule.reason));
    let clashes = rules_of_clashes().map(|(rule, effect)| {
        let effect = match effect {
            Effect::Excluded => "none",
            Effect::Weaker => "weak",
        };
        format!("| `{}` | {effect} | {} |\n", rule.name, rule.reason)
    });
    let rows = noise.chain(clashes);
    let lacking: String = rows.filter(lacks).collect();
    assert!(lacking.is_empty(), "rows for the page:\n{lacking}");
}

#[test]
fn what_cannot_clash_is_excluded_by_rule_and_what_may_be_harmless_is_weak() {
    fn used(hows: &[How]) -> Vec<Use> {
        let uses = hows.iter().map(|how| Use {
            how: *how,
            at: Duration::ZERO,
            last: Duration::ZERO,
            pid: 10,
            call: "call".to_owned(),
            count: 1,
        });
        uses.collect()
    }
    let rule = |thing: &Thing, one: &[How], other: &[How]| {
        let shared = Shared {
            thing,
            one: &used(one),
            other: &used(other),
            locked: &[b"/srv/it/target/".to_vec()],
            pids: (4242, 17),
            entry: false,
            same_run: false,
        };
        exclusion(&shared, &roots()).map(|(rule, effect)| (rule.name, effect))
    };
    let excluded = |name| Some((name, Effect::Excluded));
    let weak = |name| Some((name, Effect::Weaker));
    let port = |port| Thing::Ip([127, 0, 0, 1].into(), port);
    let (file, folder) = (thing("/srv/it/out"), thing("/srv/it/dir"));
    for (thing, one, other, expected) in [
        (
            &thing("/tmp"),
            &[How::MadeFolder][..],
            &[How::Listed][..],
            excluded("shared-root"),
        ),
        (
            &folder,
            &[How::MadeFolder],
            &[How::Exists, How::Listed],
            excluded("folder-that-stays"),
        ),
        // The one removes it.
        (
            &folder,
            &[How::MadeFolder, How::Removed],
            &[How::Exists],
            None,
        ),
        (
            &thing("/srv/it/target/debug/x"),
            &[How::Emptied],
            &[How::Read],
            excluded("cargo-lock"),
        ),
        (
            &thing("/tmp/__pycache__/x.pyc"),
            &[How::RenamedTo],
            &[How::Read],
            excluded("python-cache"),
        ),
        (
            &thing("/tmp/it-4242/x"),
            &[How::Emptied],
            &[How::Read],
            excluded("own-pid"),
        ),
        (
            &thing("/tmp/it-4243/x"),
            &[How::Emptied],
            &[How::Read],
            None,
        ),
        // Any test may have such a small number in its names.
        (&thing("/tmp/it-17/x"), &[How::Emptied], &[How::Read], None),
        (
            &port(40_000),
            &[How::Bound],
            &[How::Bound],
            weak("chosen-port"),
        ),
        (&port(40_000), &[How::Bound], &[How::Taken], None),
        (&port(8080), &[How::Bound], &[How::Connected], None),
        (
            &thing("/srv/it/x.log"),
            &[How::Written],
            &[How::Written],
            weak("log"),
        ),
        (
            &thing("/srv/it/x.log"),
            &[How::Written],
            &[How::Emptied],
            None,
        ),
        (
            &thing("/srv/it/x.lock"),
            &[How::Written],
            &[How::Written],
            weak("lock-file"),
        ),
        (
            &thing("/srv/it/x.lock"),
            &[How::Created, How::Removed],
            &[How::Exists],
            None,
        ),
        (
            &file,
            &[How::MetadataChanged],
            &[How::Read],
            weak("metadata-alone"),
        ),
        (&file, &[How::Emptied], &[How::Queried], weak("asked-only")),
        // Cargo locks nothing there.
        (
            &thing("/srv/it/target/tmp/x"),
            &[How::Emptied],
            &[How::Read],
            None,
        ),
        // It is opened in vain.
        (&file, &[How::Created], &[How::Missing], None),
        (&file, &[How::Emptied], &[How::Read], None),
        (&file, &[How::Emptied], &[How::Emptied], None),
    ] {
        assert_eq!(
            rule(thing, one, other),
            expected,
            "{thing:?} {one:?} {other:?}"
        );
        assert_eq!(rule(thing, other, one), expected, "{thing:?} turned");
    }
}

#[test]
fn a_dependence_is_classed_by_where_it_is_and_what_was_done() {
    let read = Access {
        read: true,
        ..Access::default()
    };
    let write = Access {
        write: true,
        create: true,
        ..Access::default()
    };
    let missing = |millis, name: &str| {
        let missing = CallResult::Err(libc::ENOENT);
        file(millis, FileOperation::Open, name, Some(read), missing)
    };
    let folder = tempfile::tempdir().unwrap();
    let temp = camino::Utf8Path::from_path(folder.path()).unwrap();
    std::fs::create_dir(temp.join("left")).unwrap();
    let roots = Roots {
        temp: temp.to_owned(),
        ..roots()
    };
    let make = |millis, name: &str| {
        let path = temp.join(name);
        let made = CallResult::Ok(0);
        file(
            millis,
            FileOperation::MakeDirectory,
            path.as_str(),
            None,
            made,
        )
    };
    let search = exec("/home/me/bin/sh", &[], CallResult::Err(libc::ENOENT));
    let events = vec![
        open(1, "/srv/it/src/lib.rs", read),
        open(2, "/srv/it/generated.rs", write),
        open(3, "/srv/it/target/x", write),
        missing(4, "/home/me/.gitconfig"),
        open(5, "/home/me/.ssh/id_rsa", read),
        missing(6, "/home/me/.aws/config"),
        open(7, "/home/me/.cache/x", write),
        open(8, "/etc/hostname", read),
        missing(9, "/etc/other"),
        make(10, "left"),
        make(11, "gone"),
        make(12, "left/below"),
        seen(10, 13, TraceEventKind::Exec(Box::new(search))),
    ];
    let mut uses = Uses::from_events(events.into_iter(), &|_| true);
    uses.began = Some(std::time::Duration::ZERO);
    let found = super::hermetic::findings(&uses, &roots);
    let found: Vec<String> = found
        .iter()
        .map(|it| {
            let path = String::from_utf8_lossy(it.thing.path().unwrap());
            format!(
                "{} {}",
                it.class.name(),
                path.replace(temp.as_str(), "TEMP")
            )
        })
        .collect();
    let expected = [
        "credentials /home/me/.ssh/id_rsa",
        "source /srv/it/generated.rs",
        "elsewhere /home/me/.cache/x",
        "left TEMP/left",
        "home /home/me/.gitconfig",
        "home /home/me/.aws/config",
        "outside /etc/hostname",
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_page_has_the_classes_of_dependences() {
    let page = include_str!("../../../site/docs/answers.md");
    for class in super::hermetic::Class::ALL {
        let row = format!("| `{}` | {}", class.name(), class.words());
        assert!(page.contains(&row), "the page lacks: {row}");
    }
    for secret in super::hermetic::CREDENTIALS {
        assert!(
            page.contains(&format!("`~/{secret}`")),
            "the page lacks {secret}"
        );
    }
}
