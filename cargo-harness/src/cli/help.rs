//! `cargo harness help`: the help of a subcommand, or a page of the site in the terminal.

mod markdown;

use super::{App, GlobalOptions, pager::Output, surroundings};
use crate::command_error::{CommandError, Kind};
use clap::{Args, CommandFactory};
use harness_metadata::exit_code;
use markdown::Page;
use std::{fmt::Write as _, io::Write as _};

/// A page that can be read in the terminal.
struct Topic {
    /// The word that asks for it.
    name: &'static str,
    /// Other words for the same, some of them cargo-nextest's.
    aliases: &'static [&'static str],
    /// Its subject.
    about: &'static str,
    /// The page, in Markdown.
    text: &'static str,
    /// The heading of the part that is shown; `None` for the whole page.
    part: Option<&'static str>,
}

macro_rules! page {
    ($name:literal) => {
        include_str!(concat!(env!("HELP_PAGES"), "/", $name, ".md"))
    };
}

const TOPICS: &[Topic] = &[
    Topic {
        name: "filtersets",
        aliases: &["filterset", "selecting"],
        about: "names, filtersets and parts: which tests run",
        text: page!("selecting"),
        part: None,
    },
    Topic {
        name: "configuration",
        aliases: &["config", "repo-config"],
        about: "every key of .config/harness.toml",
        text: page!("configuration"),
        part: None,
    },
    Topic {
        name: "user-config",
        aliases: &[],
        about: "the settings of a person",
        text: page!("configuration"),
        part: Some("Settings of a person"),
    },
    Topic {
        name: "environment",
        aliases: &[],
        about: "variables that are read, and those that tests are given",
        text: page!("environment"),
        part: None,
    },
    Topic {
        name: "exit-codes",
        aliases: &[],
        about: "what each exit code means",
        text: page!("exit-codes"),
        part: None,
    },
    Topic {
        name: "scheduling",
        aliases: &["partition", "quarantine", "stress-tests"],
        about: "order, memory, quarantine, parts, stress",
        text: page!("scheduling"),
        part: None,
    },
    Topic {
        name: "benchmarks",
        aliases: &[],
        about: "benchmarks that measure",
        text: page!("bench"),
        part: None,
    },
    Topic {
        name: "limits",
        aliases: &["limits-of-a-test", "retries", "timeouts"],
        about: "retries, time limits, leaks, memory",
        text: page!("limits-of-a-test"),
        part: None,
    },
    Topic {
        name: "scripts",
        aliases: &["services"],
        about: "setup scripts, services and wrapper scripts",
        text: page!("scripts"),
        part: None,
    },
    Topic {
        name: "output",
        aliases: &["junit", "events"],
        about: "the terminal, JUnit, events and other reports",
        text: page!("output"),
        part: None,
    },
    Topic {
        name: "signals-and-keys",
        aliases: &["keys", "signals"],
        about: "Ctrl-C, Ctrl-Z, and the keys during a run",
        text: page!("signals-and-keys"),
        part: None,
    },
    Topic {
        name: "tracing",
        aliases: &["trace-levels"],
        about: "levels of tracing, what each sees and costs",
        text: page!("tracing"),
        part: None,
    },
    Topic {
        name: "reruns",
        aliases: &["again"],
        about: "what failed last time, and what a change touches",
        text: page!("again"),
        part: None,
    },
    Topic {
        name: "recordings",
        aliases: &[],
        about: "recorded runs: replay, reports, comparisons",
        text: page!("recordings"),
        part: None,
    },
    Topic {
        name: "sql",
        aliases: &["sqlite"],
        about: "recorded runs as a database: tables and questions",
        text: page!("sql"),
        part: None,
    },
    Topic {
        name: "archives",
        aliases: &[],
        about: "build here, run there",
        text: page!("archives"),
        part: None,
    },
    Topic {
        name: "coming-over",
        aliases: &["nextest"],
        about: "from cargo-nextest",
        text: page!("coming-over"),
        part: None,
    },
];

/// Print the help of a subcommand, or a page about a topic.
#[derive(Debug, Args)]
pub(super) struct HelpCommand {
    /// A subcommand, such as `run` or `show-config test`, or a topic; `topics` lists those.
    #[arg(value_name = "SUBCOMMAND|TOPIC")]
    words: Vec<String>,
}

impl HelpCommand {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<i32, CommandError> {
        let colors = global.stdout_colors();
        let text = if self.words == ["topics"] {
            list_of_topics()
        } else if let Some(topic) = self.topic() {
            let columns = surroundings::stdout_size().map_or(100, |(columns, _)| columns);
            let links = supports_hyperlinks::on(supports_hyperlinks::Stream::Stdout);
            Page {
                columns: usize::from(columns).min(100),
                colors,
                links: links && colors,
            }
            .render(topic.text, topic.part)
        } else {
            self.of_subcommand(colors)?
        };
        let mut out = Output::new(global, true)?;
        let written = out.write_all(text.as_bytes());
        out.finish(written, "the help").map(|()| exit_code::OK)
    }

    fn topic(&self) -> Option<&'static Topic> {
        let [word] = &self.words[..] else {
            return None;
        };
        let word = word.to_lowercase();
        TOPICS
            .iter()
            .find(|topic| topic.name == word || topic.aliases.contains(&word.as_str()))
    }

    fn of_subcommand(&self, colors: bool) -> Result<String, CommandError> {
        let mut app = App::command();
        app.build();
        let mut command = &mut app;
        for (count, word) in self.words.iter().enumerate() {
            command = match command.find_subcommand_mut(word) {
                Some(command) => command,
                None => return Err(unknown(&self.words[..=count])),
            };
        }
        let mut help = command.render_long_help();
        if self.words.is_empty() {
            write!(help, "\n{}", topics_hint()).expect("a text takes everything");
        }
        Ok(match colors {
            true => help.ansi().to_string(),
            false => help.to_string(),
        })
    }
}

fn topics_hint() -> &'static str {
    "`cargo harness help topics` lists pages about configuration, filtersets and more.\n"
}

fn list_of_topics() -> String {
    let mut list = String::from("Pages for `cargo harness help TOPIC`:\n\n");
    for Topic { name, about, .. } in TOPICS {
        writeln!(list, "  {name:<18}{about}").expect("a string takes everything");
    }
    list
}

fn unknown(words: &[String]) -> CommandError {
    let message = format!("there is no subcommand and no topic `{}`", words.join(" "));
    let hint = "`cargo harness help` lists the subcommands, `cargo harness help topics` the topics";
    CommandError::new(Kind::Usage, message).with_hint(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_means_two_topics_or_a_subcommand() {
        let app = App::command();
        let mut seen: Vec<&str> = Vec::new();
        for topic in TOPICS {
            for word in topic.aliases.iter().chain([&topic.name]) {
                assert!(!seen.contains(word), "`{word}` means two topics");
                // A topic hides the subcommand, which has `--help`.
                assert!(app.find_subcommand(word).is_none(), "`{word}` is both");
                seen.push(word);
            }
        }
    }

    #[test]
    fn every_topic_has_text_and_fits_a_terminal() {
        for topic in TOPICS {
            for columns in [40, 80] {
                let page = Page {
                    columns,
                    colors: false,
                    links: false,
                };
                let text = page.render(topic.text, topic.part);
                assert!(text.lines().count() > 5, "{} is empty", topic.name);
                assert!(!text.contains('\x1b'), "{} has escapes", topic.name);
                assert!(!text.contains("]("), "{} has a raw link", topic.name);
            }
        }
    }
}
