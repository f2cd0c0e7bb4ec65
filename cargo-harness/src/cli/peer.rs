//! Flags and subcommands of cargo-nextest and cargo that this program lacks. A message names them,
//! instead of the nearest guess.

use std::ffi::{OsStr, OsString};

/// Flags of cargo-nextest that are not supported yet, and what to do instead.
const FLAGS: &[(&str, &str)] = &[
    ("--interceptor", "use `--break-exec`"),
    ("--libtest-json", "use `--message-format libtest-json`"),
];

/// Subcommands of cargo-nextest that are not supported yet, and what to do instead.
const SUBCOMMANDS: &[(&str, &str)] = &[
    ("debug", "use `-v`"),
    ("self", "`cargo install` updates the program"),
];

/// The output of `cargo nextest --version`: the version that this program stands for, then its own.
pub(super) const VERSION: &str = concat!("0.9.143 (cargo-harness ", env!("CARGO_PKG_VERSION"), ")");

/// The same in lines that programs read.
pub(super) const LONG_VERSION: &str = concat!(
    "0.9.143 (cargo-harness ",
    env!("CARGO_PKG_VERSION"),
    ")\nrelease: 0.9.143"
);

/// By which name the program is called.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    /// Its own.
    Harness,
    /// The version of cargo-nextest.
    Peer,
}

/// The meaning of an argument list that clap would reject.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// Run this instead.
    Means {
        /// The arguments.
        args: Vec<OsString>,
        /// The name by which the program is called.
        called: Called,
        /// A sentence about it.
        said: Option<String>,
    },
    /// There is no such thing, as this sentence says.
    Lacks(String),
}

/// Returns whether the first subcommand has a flag (`--name`), or whether there is a subcommand.
type Known<'a> = dyn Fn(Option<&str>, &str) -> bool + 'a;

/// Looks at the arguments: the program's name, and what follows. `None` if nothing in them is
/// another program's.
pub(crate) fn foreign(args: &[OsString], known: &Known<'_>) -> Option<Foreign> {
    let mut args = args.to_vec();
    let program = args.first().map(OsString::as_os_str).unwrap_or_default();
    let program = std::path::Path::new(program).file_name();
    let mut called = Called::Harness;
    // `cargo nextest run` with a link of that name runs `cargo-nextest nextest run`.
    if program == Some(OsStr::new("cargo-nextest")) {
        called = Called::Peer;
    }
    if args.get(1).is_some_and(|first| first == "nextest") {
        args.remove(1);
        called = Called::Peer;
    }
    let mut said = None;
    // Options that take no value of their own may stand before the subcommand.
    let own = || args.iter().skip(1).take_while(|arg| *arg != "--");
    let first = args.get(1).and_then(|first| first.to_str());
    let subcommand = own()
        .filter_map(|arg| arg.to_str())
        .find(|arg| known(None, arg))
        .map(str::to_owned);
    match first {
        Some("test" | "t") if !known(None, "test") => {
            args[1] = "run".into();
            said = Some("`cargo harness run` is meant; arguments of the tests' own go after `--`");
        }
        Some(first) if !known(None, first) => {
            if let Some((name, instead)) = SUBCOMMANDS.iter().find(|(name, _)| *name == first) {
                return Some(Foreign::Lacks(lacks(name, instead)));
            }
        }
        _ => {}
    }
    let own = args.iter().take_while(|arg| *arg != "--");
    for arg in own.filter_map(|arg| arg.to_str()) {
        let name = arg.split_once('=').map_or(arg, |(name, _)| name);
        let flag = FLAGS.iter().find(|(flag, _)| *flag == name);
        let subcommand = subcommand.as_deref();
        if let Some((name, instead)) = flag.filter(|(flag, _)| !known(subcommand, flag)) {
            return Some(Foreign::Lacks(lacks(name, instead)));
        }
    }
    let means = called == Called::Peer || said.is_some();
    means.then(|| Foreign::Means {
        args,
        called,
        said: said.map(str::to_owned),
    })
}

fn lacks(name: &str, instead: &str) -> String {
    format!("`{name}` is cargo-nextest's and not supported yet; {instead}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(line: &str) -> Option<Foreign> {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let known = |subcommand: Option<&str>, name: &str| match name {
            "run" | "list" | "--trace" => true,
            "--message-format" => subcommand == Some("list"),
            _ => false,
        };
        foreign(&args, &known)
    }

    fn means(line: &str, called: Called, said: bool) -> Option<Foreign> {
        let sentence = "`cargo harness run` is meant; arguments of the tests' own go after `--`";
        Some(Foreign::Means {
            args: line.split(' ').map(OsString::from).collect(),
            called,
            said: said.then(|| sentence.to_owned()),
        })
    }

    #[test]
    fn other_names_of_the_command_are_understood() {
        for line in [
            "cargo-harness run a",
            "cargo-harness list",
            "/bin/cargo-harness",
        ] {
            assert_eq!(look(line), None, "{line}");
        }
        assert_eq!(
            look("cargo-harness nextest run a"),
            means("cargo-harness run a", Called::Peer, false)
        );
        assert_eq!(
            look("/bin/cargo-nextest nextest run"),
            means("/bin/cargo-nextest run", Called::Peer, false)
        );
        assert_eq!(
            look("cargo-nextest run"),
            means("cargo-nextest run", Called::Peer, false)
        );
        assert_eq!(
            look("cargo-harness test -p a"),
            means("cargo-harness run -p a", Called::Harness, true)
        );
    }

    #[test]
    fn what_the_peer_has_and_we_lack_is_named() {
        for (line, name) in [
            ("cargo-harness run --interceptor a", "--interceptor"),
            ("cargo-harness run --interceptor=a", "--interceptor"),
            ("cargo-harness nextest run --libtest-json", "--libtest-json"),
            ("cargo-harness self", "self"),
            ("cargo-nextest nextest run --libtest-json", "--libtest-json"),
        ] {
            let Some(Foreign::Lacks(sentence)) = look(line) else {
                panic!("{line}")
            };
            assert!(sentence.starts_with(&format!("`{name}` is cargo-nextest's")));
        }
        assert_eq!(look("cargo-harness run -- --rerun"), None);
        assert_eq!(look("cargo-harness run self"), None);
        assert_eq!(look("cargo-harness list --message-format json"), None);
    }
}
