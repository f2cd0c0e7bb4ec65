//! Executions as shell commands, for copy and paste.

use super::filter::file_name;
use harness_metadata::{
    RawString, TraceEvent, TraceEventKind,
    trace::{Creation, EnvironmentChange, Exec},
};
use nix::errno::Errno;
use std::{collections::BTreeMap, collections::HashMap, fmt::Write, rc::Rc};

/// Variables that were set, or removed.
type Changes = BTreeMap<RawString, Option<RawString>>;

/// Turns executions into commands. Must be shown all events in order: what a process finds in its
/// environment its creators have put there.
#[derive(Debug, Default)]
pub(super) struct Commands {
    environments: HashMap<i32, Rc<Changes>>,
}

impl Commands {
    /// Returns the command of an event if it is an execution: one that succeeded, or with
    /// `failed` one that did not.
    pub(super) fn event(&mut self, event: &TraceEvent, failed: bool) -> Option<String> {
        match &event.kind {
            TraceEventKind::Created(created) if created.how != Creation::Thread => {
                let environment = self.environments.get(&event.pid).cloned();
                self.environments
                    .insert(created.child, environment.unwrap_or_default());
                None
            }
            TraceEventKind::Exec(exec) => {
                let before = self.environments.entry(event.pid).or_default();
                let environment = changed(before, &exec.environment);
                let error = exec.result.error();
                if error.is_none() {
                    *before = Rc::clone(&environment);
                }
                (error.is_some() == failed).then(|| command(exec, &environment))
            }
            _ => None,
        }
    }
}

fn changed(before: &Rc<Changes>, change: &EnvironmentChange) -> Rc<Changes> {
    if change.set.is_empty() && change.unset.is_empty() {
        return Rc::clone(before);
    }
    let mut after = Changes::clone(before);
    let set = change.set.iter();
    after.extend(set.map(|(name, value)| (name.clone(), Some(value.clone()))));
    after.extend(change.unset.iter().map(|name| (name.clone(), None)));
    Rc::new(after)
}

/// Returns a command in one line for bash(1), and for sh(1) if all is text.
fn command(exec: &Exec, environment: &Changes) -> String {
    let mut line = String::new();
    if !exec.cwd.is_empty() {
        let _ = write!(line, "cd {} && ", quoted_path(exec.cwd.as_bytes()));
    }
    push_environment(&mut line, environment);
    let program = exec.program.path().as_bytes();
    let name = exec.args.first().map_or(program, RawString::as_bytes);
    // What is called by another name may be another program. And env(1) takes a program with `=`
    // in its path for a variable.
    if file_name(name) != file_name(program) || program.contains(&b'=') {
        let _ = write!(line, "bash -c 'exec -a \"$0\" \"$@\"' {} ", quoted(name));
    }
    line.push_str(&quoted_path(program));
    for arg in exec.args.iter().skip(1) {
        line.push(' ');
        line.push_str(&quoted(arg.as_bytes()));
    }
    if exec.truncated {
        line.push_str(" # cut: the rest was not recorded");
    }
    if let Some(errno) = exec.result.error() {
        let _ = write!(line, " # {:?}", Errno::from_raw(errno));
    }
    line
}

fn push_environment(line: &mut String, environment: &Changes) {
    // env(1) cannot speak of what has no name.
    let nameable = |name: &RawString| !name.is_empty() && !name.as_bytes().contains(&b'=');
    let named = || environment.iter().filter(|(name, _)| nameable(name));
    if named().next().is_none() {
        return;
    }
    line.push_str("env ");
    for (name, _) in named().filter(|(_, value)| value.is_none()) {
        let _ = write!(line, "-u {} ", quoted(name.as_bytes()));
    }
    let mut set = named().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let set: Vec<_> = set.by_ref().collect();
    if set
        .iter()
        .any(|(name, _)| name.as_bytes().starts_with(b"-"))
    {
        line.push_str("-- ");
    }
    for (name, value) in set {
        let variable = [name.as_bytes(), b"=", value.as_bytes()].concat();
        let _ = write!(line, "{} ", quoted(&variable));
    }
}

/// Returns a path as a word that is neither an option nor a name to search for.
fn quoted_path(path: &[u8]) -> String {
    match path.starts_with(b"/") {
        true => quoted(path),
        false => quoted(&[b"./", path].concat()),
    }
}

/// Returns a word of bash(1) on one line, and of sh(1) if it is text without control characters.
pub(super) fn quoted(bytes: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(byte);
    let safe = !bytes.is_empty() && bytes.iter().all(plain) && bytes[0] != b'=';
    match std::str::from_utf8(bytes) {
        Ok(text) if safe => text.to_owned(),
        Ok(text) if harness_runner::report::style::escaped(text) == text => {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
        _ => escaped(bytes),
    }
}

/// Returns `$'…'` (bash(1), QUOTING).
fn escaped(bytes: &[u8]) -> String {
    let mut word = "$'".to_owned();
    for byte in bytes {
        match byte {
            b'\n' => word.push_str(r"\n"),
            b'\t' => word.push_str(r"\t"),
            b'\'' | b'\\' => word.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => word.push(char::from(*byte)),
            byte => {
                // Always three digits, so that a digit may follow.
                let _ = write!(word, "\\{byte:03o}");
            }
        }
    }
    word.push('\'');
    word
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness_metadata::trace::{CallResult, TracedPath};
    use std::{os::unix::ffi::OsStrExt, path::Path, process::Command, time::Duration};

    fn exec(program: &Path, args: &[&[u8]]) -> Exec {
        Exec {
            program: TracedPath {
                asked: program.as_os_str().as_bytes().into(),
                absolute: None,
            },
            args: args.iter().map(|arg| RawString::from(*arg)).collect(),
            cwd: "/".into(),
            result: CallResult::Ok(0),
            ..Exec::default()
        }
    }

    fn event(pid: i32, kind: TraceEventKind) -> TraceEvent {
        TraceEvent {
            at: Duration::ZERO,
            pid,
            tid: pid,
            kind,
        }
    }

    fn line(exec: Exec) -> String {
        let event = event(1, TraceEventKind::Exec(Box::new(exec)));
        Commands::default().event(&event, false).unwrap()
    }

    /// Returns what a shell's command prints.
    fn printed(shell: &str, line: &str) -> Vec<u8> {
        let mut command = Command::new(shell);
        let output = command.args(["-c", line]).env("GONE", "here").output();
        let output = output.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{shell}: {line}: {errors}");
        output.stdout
    }

    /// A program that prints its arguments, each ended by NUL.
    fn arguments_printer(path: &Path) {
        let script = "#!/bin/sh\nprintf '%s\\0' \"$@\"\n";
        // By another process: what another test forks meanwhile would have our descriptor, too, and
        // a file that is open for writing is not executed (ETXTBSY, execve(2)).
        let written = Command::new("sh")
            .args(["-c", "printf '%s' \"$1\" > \"$0\" && chmod 755 \"$0\""])
            .arg(path)
            .arg(script)
            .status();
        assert!(written.unwrap().success());
    }

    #[test]
    fn a_shell_gives_the_program_the_same_arguments() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("it's a=program");
        arguments_printer(&program);
        let text: &[&[u8]] = &[
            b"",
            b"-n",
            b"--",
            b"it's",
            b"$HOME `id` \"quoted\" \\",
            b"~",
            b"=x",
            b"*",
            "ä\u{1f600}".as_bytes(),
            b"a;b&c|d>e",
            b"#no",
            b"!x",
        ];
        let odd: &[&[u8]] = &[
            b"line\nbreak\n",
            b"\xff\xfe0",
            b"\x1b[31m",
            b"\x017'\\",
            "\u{202e}x".as_bytes(),
        ];
        let expected = |args: &[&[u8]]| -> Vec<u8> {
            args.iter()
                .flat_map(|arg| [*arg, &b"\0"[..]].concat())
                .collect()
        };
        let name = program.as_os_str().as_bytes();
        let args = [&[name], text].concat();
        let all = [&[name], text, odd].concat();
        for (shells, args) in [(&["sh", "bash"][..], args), (&["bash"], all)] {
            let line = line(exec(&program, &args));
            assert!(!line.contains(char::is_control), "{line:?}");
            for shell in shells {
                assert_eq!(
                    printed(shell, &line),
                    expected(&args[1..]),
                    "{shell}: {line}"
                );
            }
        }
    }

    #[test]
    fn a_shell_gives_the_program_the_same_environment_and_name() {
        let env: &[&[u8]] = &[b"env", b"-0"];
        let mut changed = exec(Path::new("/usr/bin/env"), env);
        let variables: &[(&[u8], &[u8])] = &[
            (b"-dash", b"1"),
            (b"--", b"2"),
            (b"A B", b"it's"),
            (b"EMPTY", b""),
            (b"LINES", b"a\nb"),
            (b"\xff", b"\xfe"),
        ];
        let raw = |bytes: &[u8]| RawString::from(bytes);
        changed.environment.set = variables.iter().map(|(n, v)| (raw(n), raw(v))).collect();
        changed.environment.unset = vec!["GONE".into(), "-u".into(), "".into(), "a=b".into()];
        let output = printed("bash", &line(changed));
        let found: Vec<&[u8]> = output.split(|byte| *byte == 0).collect();
        for (name, value) in variables {
            let variable = [*name, b"=", *value].concat();
            assert!(found.contains(&variable.as_slice()), "{variable:?}");
        }
        assert!(!found.iter().any(|variable| variable.starts_with(b"GONE=")));

        let renamed = exec(Path::new("/bin/sh"), &[b"-other name", b"-c", b"echo $0"]);
        // What follows `-c COMMAND` would be $0, so it is the name of the program here.
        assert_eq!(printed("bash", &line(renamed)), b"-other name\n");
    }

    #[test]
    fn the_directory_is_where_it_ran() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("-a dir\n");
        std::fs::create_dir(&odd).unwrap();
        let mut pwd = exec(Path::new("/bin/pwd"), &[b"pwd"]);
        pwd.cwd = odd.as_os_str().as_bytes().into();
        let expected = [odd.as_os_str().as_bytes(), b"\n"].concat();
        assert_eq!(printed("bash", &line(pwd)), expected);
    }

    #[test]
    fn a_process_has_what_its_creators_put_into_the_environment() {
        let mut commands = Commands::default();
        let mut parent = exec(Path::new("/bin/sh"), &[b"sh"]);
        parent.environment.set = vec![("A".into(), "1".into()), ("B".into(), "2".into())];
        let mut child = exec(Path::new("/bin/true"), &[b"true"]);
        child.environment.unset = vec!["B".into()];
        let created = harness_metadata::trace::Created {
            child: 2,
            how: Creation::Vfork,
        };
        let mut lines = [
            event(1, TraceEventKind::Exec(Box::new(parent))),
            event(1, TraceEventKind::Created(created)),
            event(2, TraceEventKind::Exec(Box::new(child))),
        ]
        .into_iter()
        .filter_map(|event| commands.event(&event, false));
        assert_eq!(lines.next().unwrap(), "cd / && env A=1 B=2 /bin/sh");
        assert_eq!(lines.next().unwrap(), "cd / && env -u B A=1 /bin/true");
    }
}
