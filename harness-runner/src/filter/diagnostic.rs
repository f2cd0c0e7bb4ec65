//! Shows what is wrong with a filterset, with carets below the text.

use super::nesting::DEEPEST;
use miette::{GraphicalReportHandler, GraphicalTheme, Report};
use nextest_filtering::errors::{FiltersetParseErrors, ParseSingleError};
use std::fmt;

/// Everything that is wrong with one filterset.
///
/// Displays as diagrams without color; [`FiltersetError::render`] also does color.
#[derive(Clone, Debug)]
pub struct FiltersetError {
    /// The filterset as it was given.
    pub input: String,
    /// The parser's mistakes: at least one, unless it is too deep to parse.
    pub errors: Vec<ParseSingleError>,
    /// Whether it is nested too deep to be parsed.
    pub too_deep: bool,
}

impl FiltersetError {
    /// Returns the text with carets below what is wrong, one diagram an error, without a newline
    /// at the end.
    pub fn render(&self, color: bool) -> String {
        if self.too_deep {
            return format!(
                "  × more than {DEEPEST} parentheses and negations are inside each other"
            );
        }
        let theme = if color {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(100)
            .with_urls(false);
        // A label at the very end of the text would be left out.
        let source = format!("{} ", self.input);
        let mut text = String::new();
        for error in &self.errors {
            let report = Report::new(error.clone()).with_source_code(source.clone());
            let mut diagram = String::new();
            let rendered = handler.render_report(&mut diagram, report.as_ref());
            if !text.is_empty() {
                text.push('\n');
            }
            match rendered {
                Ok(()) => {
                    let lines: Vec<&str> = diagram
                        .trim_matches('\n')
                        .lines()
                        .map(str::trim_end)
                        .collect();
                    text.push_str(&lines.join("\n"));
                }
                // A label that does not fit the text. The sentence alone still helps.
                Err(fmt::Error) => text.push_str(&error.to_string()),
            }
        }
        text
    }
}

impl fmt::Display for FiltersetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for FiltersetError {}

impl From<FiltersetParseErrors> for FiltersetError {
    fn from(parsed: FiltersetParseErrors) -> Self {
        Self {
            input: parsed.input,
            errors: parsed.errors,
            too_deep: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use nextest_filtering::ParsedExpr;

    fn error(input: &str) -> FiltersetError {
        let errors = ParsedExpr::parse(input).expect_err("the input is wrong");
        FiltersetError {
            input: input.to_owned(),
            errors,
            too_deep: false,
        }
    }

    #[test]
    fn every_error_of_a_filterset_is_shown_with_carets() {
        expect![[r#"
            wrong:
              × invalid regex
               ╭────
             1 │ test(/a(/) | platform(moon)
               ·        ┬
               ·        ╰── unclosed group
               ╰────
              × invalid argument for platform
               ╭────
             1 │ test(/a(/) | platform(moon)
               ·                       ──┬─
               ·                         ╰── expected "target" or "host"
               ╰────"#]]
        .assert_eq(&format!("wrong:\n{}", error("test(/a(/) | platform(moon)")));
    }

    #[test]
    fn color_adds_escape_sequences_and_nothing_else() {
        let error = error("test(a) &&& test(b)");
        assert_eq!(
            strip_ansi_escapes::strip_str(error.render(true)),
            error.render(false)
        );
        assert_ne!(error.render(true), error.render(false));
    }
}
