//! A page of Markdown as text for a terminal: wrapped, with the marks of a terminal instead of Markdown's.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use std::mem;
use textwrap::core::display_width;

/// The properties of the terminal that shows a page.
#[derive(Copy, Clone, Debug)]
pub(super) struct Page {
    /// The columns of the terminal.
    pub(super) columns: usize,
    pub(super) colors: bool,
    /// Links as escape sequences that the terminal opens.
    pub(super) links: bool,
}

const BOLD: (&str, &str) = ("\x1b[1m", "\x1b[22m");
const EMPHASIS: (&str, &str) = ("\x1b[3m", "\x1b[23m");
const CODE: (&str, &str) = ("\x1b[36m", "\x1b[39m");
const HEADING: (&str, &str) = ("\x1b[1;32m", "\x1b[22;39m");

impl Page {
    /// Returns the text of a page, or of its part below a heading, down to the next heading of that level.
    pub(super) fn render(self, markdown: &str, part: Option<&str>) -> String {
        let markdown = match part {
            Some(heading) => section(markdown, heading),
            None => markdown,
        };
        let mut writer = Writer {
            page: self,
            out: String::new(),
            line: String::new(),
            indents: Vec::new(),
            marker: None,
            lists: Vec::new(),
            code: None,
            table: None,
            link: None,
        };
        let options = Options::ENABLE_TABLES | Options::ENABLE_HEADING_ATTRIBUTES;
        for event in Parser::new_ext(markdown, options) {
            writer.event(event);
        }
        writer.out.truncate(writer.out.trim_end().len());
        writer.out.push('\n');
        writer.out
    }

    fn paint(self, text: &str, (on, off): (&str, &str)) -> String {
        match self.colors {
            true => format!("{on}{text}{off}"),
            false => text.to_owned(),
        }
    }
}

/// Returns the lines below a heading, with it, to the next heading that is not below it.
fn section<'a>(markdown: &'a str, heading: &str) -> &'a str {
    let level = |line: &str| line.len() - line.trim_start_matches('#').len();
    let mut at = 0;
    let mut found: Option<(usize, usize)> = None;
    for line in markdown.split_inclusive('\n') {
        let depth = level(line);
        if let Some((start, own)) = found
            && depth > 0
            && depth <= own
        {
            return &markdown[start..at];
        }
        if depth > 0 && line[depth..].trim() == heading {
            found = Some((at, depth));
        }
        at += line.len();
    }
    found.map_or("", |(start, _)| &markdown[start..])
}

#[derive(Default)]
struct Table {
    rows: Vec<Vec<String>>,
    row: Vec<String>,
}

struct Writer {
    page: Page,
    out: String,
    /// The text of the paragraph, heading or cell that is being read.
    line: String,
    /// The start of each line, by depth.
    indents: Vec<String>,
    /// The mark of a list's item, before its first line.
    marker: Option<String>,
    /// The next number of each list; `None` for bullets.
    lists: Vec<Option<u64>>,
    code: Option<String>,
    table: Option<Table>,
    /// The address of a link, and where its text begins.
    link: Option<(String, usize)>,
}

impl Writer {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => match &mut self.code {
                Some(code) => code.push_str(&text),
                None => self.line.push_str(&text),
            },
            Event::Code(code) => self.line.push_str(&match self.page.colors {
                true => self.page.paint(&code, CODE),
                false => format!("`{code}`"),
            }),
            Event::SoftBreak => self.line.push(' '),
            Event::HardBreak => self.line.push('\n'),
            Event::Rule => self.block("───"),
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { .. } | Tag::Paragraph | Tag::TableCell => self.line.clear(),
            Tag::Emphasis if self.page.colors => self.line.push_str(EMPHASIS.0),
            Tag::Strong if self.page.colors => self.line.push_str(BOLD.0),
            Tag::CodeBlock(_) => self.code = Some(String::new()),
            Tag::List(first) => {
                // Text of an item before a list in it has no end of its own.
                self.flush();
                self.lists.push(first);
            }
            Tag::Item => self.item(),
            Tag::BlockQuote(_) => self.indents.push("│ ".to_owned()),
            Tag::Table(_) => self.table = Some(Table::default()),
            Tag::Link { dest_url, .. } => {
                self.link = Some((dest_url.into_string(), self.line.len()));
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => self.heading(level),
            TagEnd::Paragraph => self.flush(),
            TagEnd::Emphasis if self.page.colors => self.line.push_str(EMPHASIS.1),
            TagEnd::Strong if self.page.colors => self.line.push_str(BOLD.1),
            TagEnd::CodeBlock => self.code_block(),
            TagEnd::Item => {
                self.flush();
                self.indents.pop();
            }
            TagEnd::List(_) => {
                self.lists.pop();
                if self.lists.is_empty() {
                    self.out.push('\n');
                }
            }
            TagEnd::BlockQuote(_) => drop(self.indents.pop()),
            TagEnd::TableCell => {
                let cell = mem::take(&mut self.line);
                if let Some(table) = &mut self.table {
                    table.row.push(cell);
                }
            }
            TagEnd::TableHead | TagEnd::TableRow => {
                if let Some(table) = &mut self.table {
                    table.rows.push(mem::take(&mut table.row));
                }
            }
            TagEnd::Table => self.finish_table(),
            TagEnd::Link => self.finish_link(),
            _ => {}
        }
    }

    fn item(&mut self) {
        let marker = match self.lists.last_mut() {
            Some(Some(number)) => {
                *number += 1;
                format!("{}. ", *number - 1)
            }
            _ => "- ".to_owned(),
        };
        self.indents.push(" ".repeat(marker.len()));
        self.marker = Some(marker);
    }

    fn heading(&mut self, level: HeadingLevel) {
        let text = mem::take(&mut self.line);
        let text = match level {
            HeadingLevel::H1 => text.to_uppercase(),
            _ => text,
        };
        let text = self.page.paint(&text, HEADING);
        self.block(&text);
    }

    /// Writes the paragraph that was read.
    fn flush(&mut self) {
        let text = mem::take(&mut self.line);
        if !text.trim().is_empty() {
            self.block(&text);
        }
    }

    /// Writes a wrapped text, with an empty line after it where no item of a list goes on.
    fn block(&mut self, text: &str) {
        let indent = self.indents.concat();
        let first = match self.marker.take() {
            Some(marker) => {
                let outer = &self.indents[..self.indents.len().saturating_sub(1)];
                outer.concat() + &marker
            }
            None => indent.clone(),
        };
        let width = self.page.columns.max(20);
        let options = textwrap::Options::new(width)
            .initial_indent(&first)
            .subsequent_indent(&indent)
            .word_separator(textwrap::WordSeparator::AsciiSpace)
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        for line in textwrap::wrap(text, options) {
            self.out.push_str(line.trim_end());
            self.out.push('\n');
        }
        if self.lists.is_empty() {
            self.out.push('\n');
        }
    }

    /// Writes code as it stands: who copies it gets it whole.
    fn code_block(&mut self) {
        let code = self.code.take().unwrap_or_default();
        let indent = self.indents.concat() + "    ";
        for line in code.lines() {
            let line = format!("{indent}{line}");
            let line = self.page.paint(line.trim_end(), CODE);
            self.out.push_str(&line);
            self.out.push('\n');
        }
        self.out.push('\n');
    }

    /// Writes a table in columns if it fits, else each row as an entry with its cells below its first.
    fn finish_table(&mut self) {
        let Some(Table { rows, .. }) = self.table.take() else {
            return;
        };
        let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = rows.iter().filter_map(|row| row.get(column));
                cells
                    .map(|cell| display_width(cell))
                    .max()
                    .unwrap_or_default()
            })
            .collect();
        if widths.iter().sum::<usize>() + 2 * columns <= self.page.columns {
            for row in &rows {
                let mut line = String::new();
                for (cell, width) in row.iter().zip(&widths) {
                    line.push_str(cell);
                    line.push_str(&" ".repeat(width + 2 - display_width(cell)));
                }
                self.out.push_str(line.trim_end());
                self.out.push('\n');
            }
        } else {
            for row in rows.iter().skip(1) {
                self.entry(row);
            }
        }
        self.out.push('\n');
    }

    fn entry(&mut self, row: &[String]) {
        for (count, cell) in row.iter().enumerate() {
            let indent = if count == 0 { "" } else { "    " };
            let options = textwrap::Options::new(self.page.columns.max(20))
                .initial_indent(indent)
                .subsequent_indent("    ")
                .word_separator(textwrap::WordSeparator::AsciiSpace)
                .word_splitter(textwrap::WordSplitter::NoHyphenation);
            for line in textwrap::wrap(cell, options) {
                self.out.push_str(line.trim_end());
                self.out.push('\n');
            }
        }
    }

    /// Addresses outside the site are shown, or opened by the terminal; other pages are named by the text.
    fn finish_link(&mut self) {
        let Some((address, start)) = self.link.take() else {
            return;
        };
        if !address.contains("://") {
            return;
        }
        let text = self.line.split_off(start);
        if self.page.links {
            self.line
                .push_str(&format!("\x1b]8;;{address}\x1b\\{text}\x1b]8;;\x1b\\"));
        } else if text.contains(&address) {
            self.line.push_str(&text);
        } else {
            self.line.push_str(&format!("{text} <{address}>"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    const MARKDOWN: &str = "# A page\n\nSome `code` and **strong** words with a [page](other.md#part) and \
        [an address](https://example.org/a), wrapped.\n\n## Part\n\n- one\n- two words that are longer than the line is\n\
        \x20   1. inner\n    2. last\n\n```console\n$ command   --with blanks\n```\n\n| a | b |\n| --- | --- |\n\
        | `x` | y |\n\n## Next\n\n> a quotation\n";

    fn page(columns: usize, colors: bool) -> Page {
        Page {
            columns,
            colors,
            links: colors,
        }
    }

    #[test]
    fn a_page_is_wrapped_without_marks_of_markdown() {
        let text = page(40, false).render(MARKDOWN, None);
        expect![[r#"
            A PAGE

            Some `code` and strong words with a page
            and an address <https://example.org/a>,
            wrapped.

            Part

            - one
            - two words that are longer than the
              line is
              1. inner
              2. last

                $ command   --with blanks

            a    b
            `x`  y

            Next

            │ a quotation
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn colors_and_links_are_escape_sequences_that_take_no_room() {
        let plain = page(40, false).render("a `b` *c* **d** [e](https://example.org) f", None);
        let painted = page(40, true).render("a `b` *c* **d** [e](https://example.org) f", None);
        expect![[r#"
            a `b` c d e <https://example.org> f
        "#]]
        .assert_eq(&plain);
        expect![[r#"
            a ^[36mb^[39m ^[3mc^[23m ^[1md^[22m ^]8;;https://example.org^\e^]8;;^\ f
        "#]]
        .assert_eq(&painted.replace('\x1b', "^"));
    }

    #[test]
    fn a_part_ends_at_the_next_heading_of_its_level() {
        let text = page(40, false).render(MARKDOWN, Some("Part"));
        assert!(
            text.starts_with("Part\n") && !text.contains("Next"),
            "{text}"
        );
    }

    #[test]
    fn a_table_that_is_too_wide_becomes_entries() {
        let table =
            "| key | meaning |\n| --- | --- |\n| `a-key` | a long sentence that does not fit |\n";
        let text = page(24, false).render(table, None);
        expect![[r#"
            `a-key`
                a long sentence that
                does not fit
        "#]]
        .assert_eq(&text);
    }
}
