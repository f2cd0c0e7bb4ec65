//! `--open`: the HTML report in the browser, or the place of a failure in the editor.

use super::{
    GlobalOptions,
    open_options::{OpenArgs, Opened},
    prepared,
};
use crate::command_error::{CommandError, Kind};
use camino::{Utf8Path, Utf8PathBuf};
use harness_metadata::exit_code;
use harness_runner::report::{
    Sink,
    first_failure::{FirstFailure, Place},
};
use std::{
    cell::RefCell,
    env, io,
    path::Path,
    process::{Command, Stdio},
};

/// The things of a run that can be opened at its end.
#[derive(Debug, Default)]
pub(super) struct Openable {
    /// The path of the HTML report.
    pub(super) html: RefCell<Option<Utf8PathBuf>>,
    /// The sink that finds the place.
    pub(super) failure: FirstFailure,
}

impl OpenArgs {
    /// Prepares a run for it: its last reader finds the first failure.
    pub(super) fn prepare(
        &self,
        openable: &Openable,
        html: Option<Utf8PathBuf>,
        readers: &mut Vec<Box<dyn Sink>>,
    ) -> Result<(), CommandError> {
        *openable.html.borrow_mut() = html;
        if self.open.is_some() {
            readers.push(Box::new(openable.failure.clone()));
        }
        self.check(openable)
    }

    /// Opens what is to be opened after a run, whose result stays as it is.
    pub(super) fn open_after(
        &self,
        code: &Result<i32, CommandError>,
        openable: &Openable,
        global: &GlobalOptions,
    ) {
        let ran = match code {
            Ok(_) => true,
            Err(error) => error.exit_code() == exit_code::TEST_RUN_FAILED,
        };
        if !ran {
            return;
        }
        if let Err(error) = self.open(openable, global) {
            let _ = error.write(&mut io::stderr().lock(), global.stderr_colors());
        }
    }

    /// Checks that there can be something to open.
    pub(super) fn check(&self, openable: &Openable) -> Result<(), CommandError> {
        match (self.open, &*openable.html.borrow()) {
            (Some(Some(Opened::Report)), None) => {
                let text = "`--open=report` opens an HTML report, and none is written";
                Err(CommandError::new(Kind::Usage, text).with_hint("add `--html PATH`"))
            }
            _ => Ok(()),
        }
    }

    /// Opens what is to be opened, and waits for the program that shows it.
    pub(super) fn open(
        &self,
        openable: &Openable,
        global: &GlobalOptions,
    ) -> Result<(), CommandError> {
        let Some(asked) = self.open else {
            return Ok(());
        };
        let html = openable.html.borrow();
        let html = html.as_deref().filter(|_| asked != Some(Opened::Failure));
        if let Some(html) = html {
            return show(html);
        }
        match openable.failure.place() {
            Some(place) => edit(&place),
            None => {
                let text = "no test failed, so there is no place to open";
                prepared::note(text, global.stderr_colors());
                Ok(())
            }
        }
    }
}

/// Opens a page in the browser: those of `BROWSER` (environ(7)), else that of the desktop.
fn show(page: &Utf8Path) -> Result<(), CommandError> {
    if !page.is_file() {
        let text = format!("there is no report `{page}` to open");
        return Err(CommandError::new(Kind::Setup, text));
    }
    let mut commands: Vec<Command> = Vec::new();
    if let Ok(browsers) = env::var("BROWSER") {
        let browsers = browsers.split(':').filter_map(|it| browser(it, page));
        commands.extend(browsers);
    }
    commands.extend(open::commands(page));
    let mut tried: Vec<String> = Vec::new();
    for mut command in commands {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if command.status().is_ok_and(|status| status.success()) {
            return Ok(());
        }
        let program = format!("`{}`", command.get_program().to_string_lossy());
        if !tried.contains(&program) {
            tried.push(program);
        }
    }
    let text = format!(
        "no browser opened `{page}`; tried were {}",
        tried.join(", ")
    );
    let hint = "set `BROWSER` to the command of a browser; the report needs no server";
    Err(CommandError::new(Kind::Setup, text).with_hint(hint))
}

/// Returns the command of an entry of `BROWSER`, in which `%s` stands for the page.
fn browser(entry: &str, page: &Utf8Path) -> Option<Command> {
    let words = shell_words::split(entry).ok()?;
    let (program, arguments) = words.split_first()?;
    let mut command = Command::new(program);
    let named = arguments.iter().any(|word| word.contains("%s"));
    command.args(
        arguments
            .iter()
            .map(|word| word.replace("%s", page.as_str())),
    );
    if !named {
        command.arg(page);
    }
    Some(command)
}

/// Opens a place in the editor of the user.
fn edit(place: &Place) -> Result<(), CommandError> {
    let Place { test, at } = place;
    let Some((file, line)) = at else {
        let text = format!("the place of `{test}` is not known, so it cannot be opened");
        return Err(CommandError::new(Kind::Setup, text));
    };
    let set = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
    let Some(editor) = set("VISUAL").or_else(|| set("EDITOR")) else {
        let text = format!(
            "neither `VISUAL` nor `EDITOR` is set, so no editor opens {file}:{line}, where `{test}` failed"
        );
        let hint = "set one to the command of an editor, such as `code --wait` or `vim`";
        return Err(CommandError::new(Kind::Setup, text).with_hint(hint));
    };
    let wrong =
        |what: String| CommandError::new(Kind::Setup, format!("the editor `{editor}` {what}"));
    let words = shell_words::split(&editor);
    let words = words.map_err(|error| wrong(format!("is no command: {error}")))?;
    let Some((program, arguments)) = words.split_first() else {
        return Err(wrong("is no command".to_owned()));
    };
    let mut command = Command::new(program);
    command.args(arguments).args(at_line(program, file, *line));
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(wrong(format!("failed: {status}"))),
        Err(error) => Err(wrong(format!("could not be started: {error}"))),
    }
}

/// Returns the arguments by which an editor opens a file at a line; without the line for one that is not known.
fn at_line(program: &str, file: &Utf8Path, line: u32) -> Vec<String> {
    let name = Path::new(program).file_stem();
    let name = name.and_then(|name| name.to_str()).unwrap_or_default();
    let place = format!("{file}:{line}");
    let file = file.to_string();
    match name {
        "code" | "code-insiders" | "code-oss" | "codium" | "vscodium" | "cursor" | "windsurf" => {
            vec!["--goto".to_owned(), place]
        }
        "hx" | "helix" | "zed" | "zeditor" | "subl" | "sublime_text" | "lapce" | "micro" => {
            vec![place]
        }
        "vi" | "vim" | "nvim" | "gvim" | "nvim-qt" | "view" | "emacs" | "emacsclient" | "nano"
        | "pico" | "kak" | "joe" | "jed" | "mg" | "ne" | "gedit" | "geany" | "less" => {
            vec![format!("+{line}"), file]
        }
        "kate" | "kwrite" | "rustrover" | "clion" | "idea" => {
            vec!["--line".to_owned(), line.to_string(), file]
        }
        _ => vec![file],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_editor_has_its_own_form_of_a_line() {
        for (program, expected) in [
            ("code", "--goto /srv/a b.rs:7"),
            ("/usr/bin/code-insiders", "--goto /srv/a b.rs:7"),
            ("nvim", "+7 /srv/a b.rs"),
            ("emacsclient", "+7 /srv/a b.rs"),
            ("hx", "/srv/a b.rs:7"),
            ("kate", "--line 7 /srv/a b.rs"),
            ("my-editor.sh", "/srv/a b.rs"),
        ] {
            let arguments = at_line(program, Utf8Path::new("/srv/a b.rs"), 7);
            assert_eq!(arguments.join(" "), expected, "{program}");
        }
    }

    #[test]
    fn an_entry_of_the_variable_is_a_command_that_may_name_the_page() {
        for (entry, expected) in [
            ("firefox", Some("firefox /srv/r.html")),
            (
                "firefox --new-tab %s",
                Some("firefox --new-tab /srv/r.html"),
            ),
            (
                "'my browser' -x=file://%s",
                Some("my browser -x=file:///srv/r.html"),
            ),
            ("", None),
        ] {
            let command = browser(entry, Utf8Path::new("/srv/r.html"));
            let words = command.map(|command| {
                let arguments = command.get_args().map(|word| word.to_string_lossy());
                let program = command.get_program().to_string_lossy();
                [program]
                    .into_iter()
                    .chain(arguments)
                    .collect::<Vec<_>>()
                    .join(" ")
            });
            assert_eq!(words.as_deref(), expected, "{entry}");
        }
    }
}
