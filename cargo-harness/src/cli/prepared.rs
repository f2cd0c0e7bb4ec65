//! Shared parts of `run` and `list`: options to a session, and its errors to exit codes.

use super::{GlobalOptions, filter_options::filtersets_error, reuse_options::ReuseArgs};
use crate::{
    cargo_options::CargoArgs,
    command_error::{CommandError, Kind},
};
use camino::{Utf8Path, Utf8PathBuf};
use harness_runner::{
    config::{CliOverrides, ConfigError, DEFAULT_PATH, PEER_PATH},
    filter::FilterOptions,
    history::TimingsError,
    report::{awaits_system, style::escaped_lines},
    session::{self, Notice, Options, SessionError, TakeUpError},
    store,
};
use owo_colors::{OwoColorize, Style};
use std::{
    env,
    io::{self, Write},
};

pub(super) fn options(
    global: &GlobalOptions,
    cargo: CargoArgs,
    reuse: &ReuseArgs,
    filter: FilterOptions,
    overrides: CliOverrides,
) -> Result<Options, CommandError> {
    let cwd = env::current_dir().map_err(|source| {
        let message = format!("the current directory cannot be told: {source}");
        CommandError::new(Kind::Setup, message)
    })?;
    let cwd = Utf8PathBuf::from_path_buf(cwd).map_err(|path| {
        let message = format!("the current directory `{}` is not UTF-8", path.display());
        CommandError::new(Kind::Setup, message)
    })?;
    let mut cargo = cargo
        .into_options(global.color.into())
        .map_err(|error| CommandError::new(Kind::Setup, error))?;
    if let Some(manifest) = reuse.manifest()? {
        cargo.manifest_path = Some(manifest);
    }
    let reuse = reuse.reuse(&cwd)?;
    Ok(Options {
        cargo,
        cwd,
        sources: global.sources(),
        profile: global.profile.clone(),
        filter,
        rerun: None,
        first: None,
        overrides,
        seed: None,
        reuse,
        documentation: false,
        // Mistakes in the settings of a person are reported beside those in others.
        store: global.store().unwrap_or_else(|_| global.store_given()),
    })
}

/// Says something that is no error on standard error.
pub(super) fn tell(notice: &Notice, colors: bool) {
    match notice {
        Notice::PeerConfig => note(
            &format!(
                "settings are those of `{PEER_PATH}`; `cargo harness migrate` writes `{DEFAULT_PATH}` \
                 from it"
            ),
            colors,
        ),
        Notice::Config(warning) => warn(&warning.to_string(), colors),
        Notice::Archive(text) => note(text, colors),
        Notice::Ledger(why) => warn(&format!("{why}, so all tests run"), colors),
        Notice::LeftOut(text) | Notice::Functions(text) => warn(text, colors),
        Notice::Doctests(text) | Notice::Remote(text) => note(text, colors),
        Notice::Runner(warning) | Notice::Quarantine(warning) => warn(warning, colors),
        Notice::PartsOfThisMachine => warn(
            "the parts rest on the record of this machine, and another machine may have others; \
             `--write-timings FILE` and `timings = \"FILE\"` in the profile make them the same",
            colors,
        ),
        Notice::Killed(killed) => warn(&killed.to_string(), colors),
        Notice::UsesRunner(info) => note(info, colors),
        Notice::AwaitsSystem { because, limit } => {
            let awaited = awaits_system(because, *limit);
            warn(&format!("waiting {awaited}"), colors);
        }
    }
}

/// Says something that is neither a warning nor an error.
pub(super) fn note(text: &str, colors: bool) {
    say("info", Style::new().green().bold(), text, colors);
}

pub(super) fn warn(text: &str, colors: bool) {
    say("warning", Style::new().yellow().bold(), text, colors);
}

fn say(word: &str, style: Style, text: &str, colors: bool) {
    let style = if colors { style } else { Style::new() };
    // Nothing can be reported once standard error is gone.
    let _ = writeln!(
        io::stderr().lock(),
        "{}: {}",
        word.style(style),
        escaped_lines(text)
    );
}

/// Returns a function that gives a session's error its exit code and its hint.
pub(super) fn session_error(colors: bool) -> impl Fn(SessionError) -> CommandError {
    move |error| match error {
        SessionError::Filtersets(error) => filtersets_error(error, colors),
        SessionError::Config(error) => config_error(error, colors),
        SessionError::TakeUp(error @ TakeUpError::NoWorkspace { .. }) => {
            CommandError::new(Kind::Setup, error)
                .with_hint("`--workspace-remap` says where the sources are")
        }
        error => CommandError::new(kind(&error), error),
    }
}

/// Returns the mistakes of a configuration with their exit code and their hints.
pub(super) fn config_error(error: ConfigError, colors: bool) -> CommandError {
    let each = error.into_each().into_iter();
    let errors = each.map(|mistake| config_mistake(mistake, colors));
    CommandError::several(errors).expect("an error is at least one mistake")
}

fn config_mistake(mistake: ConfigError, colors: bool) -> CommandError {
    if let Some(filterset) = mistake.filterset() {
        // Its source is what the diagram shows.
        let detail = filterset.render(colors);
        return CommandError::new(Kind::Setup, mistake.to_string()).with_detail(detail);
    }
    match mistake {
        ConfigError::RequiredVersion(_) => CommandError::new(Kind::Version, mistake)
            .with_hint("`--override-version-check` goes on all the same"),
        mistake => CommandError::new(Kind::Setup, mistake),
    }
}

fn kind(error: &SessionError) -> Kind {
    match error {
        SessionError::Locate(_) | SessionError::Metadata(_) => Kind::Metadata,
        SessionError::Timings(TimingsError::Write { .. }) => Kind::Write,
        SessionError::Config(_)
        | SessionError::TraceRequired { .. }
        | SessionError::TakeUp(_)
        | SessionError::Store(_)
        | SessionError::Timings(_) => Kind::Setup,
        SessionError::Archive(_) => Kind::Archive,
        SessionError::Filtersets(_) => Kind::Filterset,
        SessionError::Build(_) | SessionError::Doctests(_) => Kind::Build,
        SessionError::List(_) => Kind::List,
        SessionError::Stub(_) | SessionError::Run { .. } => Kind::Internal,
    }
}

/// Tells of runs whose runner was killed, once, and packs what has ended.
pub(super) fn tidy(store: &Utf8Path, global: &GlobalOptions) {
    for killed in session::take_killed(store) {
        warn(&killed.to_string(), global.stderr_colors());
    }
    store::pack_all(store);
}
