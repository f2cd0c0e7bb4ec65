//! The difference between the two values of a failed assertion.
//!
//! `assert_eq!` prints both values with `{:?}`, mostly on one long line each. They are laid out over lines
//! at their brackets, or at the line ends of a text, and the lines that differ are shown with two of context.

use similar::{Algorithm, DiffOp, capture_diff_slices, group_diff_ops};
use unicode_width::UnicodeWidthStr;

/// Values of more bytes than this are not compared.
const LONGEST: usize = 128 * 1024;

/// Values of more lines than this are not compared.
const MOST_LINES: usize = 4000;

/// The most lines of a difference that are shown.
const MOST_SHOWN: usize = 60;

/// The lines of context before and after a difference.
const CONTEXT: usize = 2;

/// A group in brackets stays on its line up to this many columns.
const GROUP: usize = 60;

/// The columns that are shown of a line before its first difference, if it is too long.
const BEFORE: usize = 20;

/// The values of a failed `assert_eq!`, and where they are in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Values<'a> {
    pub(super) left: &'a str,
    pub(super) right: &'a str,
    /// The end of the line that ends the right one.
    pub(super) end: usize,
}

impl<'a> Values<'a> {
    /// Finds the values in the text of a panic.
    pub(super) fn find(text: &'a str) -> Option<Self> {
        const RIGHT: &str = "\n right: ";
        let assertion = text.find("assertion `left == right` failed")?;
        let left = assertion + text[assertion..].find("\n  left: ")? + "\n  left: ".len();
        let right = left + text[left..].find(RIGHT)? + RIGHT.len();
        let after = [
            "\nnote: run with `RUST_BACKTRACE",
            "\nstack backtrace:\n",
            "\nthread '",
        ];
        let length = after
            .iter()
            .filter_map(|after| text[right..].find(after))
            .min();
        let end = length.map_or(text.len(), |length| right + length);
        Some(Self {
            left: &text[left..right - RIGHT.len()],
            right: text[right..end].trim_end_matches('\n'),
            end: (end + 1).min(text.len()),
        })
    }

    /// Returns the lines that show the difference in so many columns. Empty if it is plain to see, or too
    /// much to compare.
    pub(super) fn difference(&self, width: usize) -> Vec<Line> {
        let short = self.left.width() + self.right.width() < 24;
        let long = self.left.len().max(self.right.len()) > LONGEST;
        if short || long || self.left == self.right {
            return Vec::new();
        }
        let (left, right) = (laid_out(self.left), laid_out(self.right));
        if left.len().max(right.len()) > MOST_LINES {
            return Vec::new();
        }
        let mut lines = compared(&left, &right, width);
        if lines.len() > MOST_SHOWN {
            let more = lines.len() - MOST_SHOWN;
            lines.truncate(MOST_SHOWN);
            lines.push(Line::new(
                Kind::Gap,
                format!("… {more} more lines differ or are around those …"),
            ));
        }
        lines
    }
}

/// A line of a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) kind: Kind,
    /// The line with its mark in front.
    pub(super) text: String,
}

impl Line {
    fn new(kind: Kind, text: String) -> Self {
        Self { kind, text }
    }
}

/// The kind of a line in a difference.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Same,
    Left,
    Right,
    /// Marks below the characters that differ.
    Marks,
    Gap,
}

fn compared(left: &[String], right: &[String], width: usize) -> Vec<Line> {
    let operations = capture_diff_slices(Algorithm::Myers, left, right);
    let mut lines = Vec::new();
    for (nth, group) in group_diff_ops(operations, CONTEXT).iter().enumerate() {
        if nth > 0 {
            lines.push(Line::new(Kind::Gap, "…".to_owned()));
        }
        for operation in group {
            let old = left[operation.old_range()].iter();
            let new = right[operation.new_range()].iter();
            match operation {
                DiffOp::Equal { .. } => {
                    lines.extend(old.map(|line| shown(Kind::Same, line, 0, width)));
                }
                DiffOp::Replace {
                    old_len, new_len, ..
                } if old_len == new_len => {
                    for (old, new) in old.zip(new) {
                        lines.extend(pair(old, new, width));
                    }
                }
                _ => {
                    lines.extend(old.map(|line| shown(Kind::Left, line, 0, width)));
                    lines.extend(new.map(|line| shown(Kind::Right, line, 0, width)));
                }
            }
        }
    }
    lines
}

/// Shows two lines in place of each other, with marks below what differs.
fn pair(old: &str, new: &str, width: usize) -> Vec<Line> {
    let same = |(a, b): &(char, char)| a == b;
    let first: usize = old
        .chars()
        .zip(new.chars())
        .take_while(same)
        .map(|(c, _)| c.len_utf8())
        .sum();
    let (old_rest, new_rest) = (&old[first..], &new[first..]);
    let last: usize = (old_rest
        .chars()
        .rev()
        .zip(new_rest.chars().rev())
        .take_while(same))
    .map(|(c, _)| c.len_utf8())
    .sum();
    let differing = |rest: &str| rest[..rest.len() - last].width();
    let count = differing(old_rest).max(differing(new_rest)).max(1);
    // Only if it is out of sight, so that lines stay comparable to those around them.
    let room = width.saturating_sub(3).max(10);
    let skip = match old[..first].width() + count.min(room / 2) > room {
        true => {
            let mut skipped = first.saturating_sub(BEFORE);
            while !old.is_char_boundary(skipped) {
                skipped -= 1;
            }
            skipped
        }
        false => 0,
    };
    let marks_at = old[skip..first].width() + usize::from(skip > 0);
    let mut lines = vec![
        shown(Kind::Left, old, skip, width),
        shown(Kind::Right, new, skip, width),
    ];
    // Marks below the whole of both lines would say nothing.
    let indent = old.len() - old.trim_start().len();
    if (first > indent || last > 1) && marks_at < room {
        let marks = "^".repeat(count.min(room - marks_at));
        lines.push(Line::new(
            Kind::Marks,
            format!("  {}{marks}", " ".repeat(marks_at)),
        ));
    }
    lines
}

/// Returns a line from a byte on, with its mark, cut to fit.
fn shown(kind: Kind, line: &str, skip: usize, width: usize) -> Line {
    let mark = match kind {
        Kind::Left => "-",
        Kind::Right => "+",
        Kind::Same | Kind::Marks | Kind::Gap => " ",
    };
    let cut = if skip > 0 { "…" } else { "" };
    let text = format!("{mark} {cut}{}", &line[skip..]);
    Line::new(kind, super::fit::clipped(&text, width.max(12)))
}

/// Lays a value out over lines.
fn laid_out(value: &str) -> Vec<String> {
    if value.contains('\n') {
        return value.lines().map(str::to_owned).collect();
    }
    if let Some(text) = text(value) {
        return text;
    }
    let mut lines = Vec::new();
    lay_out(value, 0, &mut lines);
    lines
}

/// Returns the lines of a text that was printed with `{:?}`; `None` for anything else.
fn text(value: &str) -> Option<Vec<String>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    let mut lines = vec![String::new()];
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        let line = lines.last_mut()?;
        match c {
            // The end of the text, and more behind it.
            '"' => return None,
            '\\' => match chars.next()? {
                'n' => lines.push(String::new()),
                quote @ ('"' | '\\' | '\'') => line.push(quote),
                other => {
                    line.push('\\');
                    line.push(other);
                }
            },
            c => line.push(c),
        }
    }
    Some(lines)
}

/// Adds the lines of a piece of `{:?}` output: a group that is too long has each of its items on a line.
fn lay_out(value: &str, depth: usize, lines: &mut Vec<String>) {
    let indent = "    ".repeat(depth.min(20));
    let fits = value.len() <= GROUP;
    let opened = if fits {
        None
    } else {
        value
            .char_indices()
            .zip(states(value))
            .find(|(_, deep)| *deep == 1)
    };
    let closed = opened.and_then(|((at, _), _)| {
        let mut after = value
            .char_indices()
            .zip(states(value))
            .skip_while(|((other, _), _)| *other <= at);
        after
            .find(|(_, deep)| *deep == 0)
            .map(|((close, _), _)| close)
    });
    let (Some(((open, _), _)), Some(close)) = (opened, closed) else {
        lines.push(format!("{indent}{value}"));
        return;
    };
    lines.push(format!("{indent}{}", &value[..=open]));
    for item in items(&value[open + 1..close]) {
        if depth < 60 {
            lay_out(&format!("{item},"), depth + 1, lines);
        } else {
            lines.push(format!("{indent}    {item},"));
        }
    }
    lines.push(format!("{indent}{}", &value[close..]));
}

/// Splits what is in brackets at the commas between its items.
fn items(inner: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let mut start = 0;
    for ((at, c), deep) in inner.char_indices().zip(states(inner)) {
        if c == ',' && deep == 0 {
            items.push(inner[start..at].trim());
            start = at + 1;
        }
    }
    items.push(inner[start..].trim());
    items.retain(|item| !item.is_empty());
    items
}

/// Returns for each character how many brackets are open after it. Those in quotes do not count.
fn states(value: &str) -> impl Iterator<Item = usize> {
    let mut deep = 0_usize;
    let mut quoted = None;
    let mut escaped = false;
    let mut rest = value.chars();
    std::iter::from_fn(move || {
        let c = rest.next()?;
        match (quoted, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(quote), c) if c == quote => quoted = None,
            (Some(_), _) => {}
            (None, '"') => quoted = Some('"'),
            // A lifetime has no second quote.
            (None, '\'') if is_character(rest.as_str()) => quoted = Some('\''),
            (None, '{' | '[' | '(') => deep += 1,
            (None, '}' | ']' | ')') => deep = deep.saturating_sub(1),
            (None, _) => {}
        }
        Some(deep)
    })
}

/// Returns whether a character literal's rest follows.
fn is_character(rest: &str) -> bool {
    rest.starts_with('\\') || rest.chars().nth(1) == Some('\'')
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use proptest::prelude::*;

    fn shown(text: &str, width: usize) -> String {
        let values = Values::find(text).expect("both values are there");
        let lines: Vec<_> = values
            .difference(width)
            .into_iter()
            .map(|line| line.text)
            .collect();
        lines.join("\n")
    }

    fn assertion(left: &str, right: &str) -> String {
        format!(
            "thread 'a' panicked at a.rs:1:2:\nassertion `left == right` failed: why\n  left: {left}\n right: {right}\n\
             note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n"
        )
    }

    #[test]
    fn values_are_found_and_what_follows_them_is_not_theirs() {
        let text = assertion("1", "two\nlines");
        let values = Values::find(&text).unwrap();
        assert_eq!((values.left, values.right), ("1", "two\nlines"));
        assert!(text[values.end..].starts_with("note: run"));
        assert_eq!(
            Values::find("assertion `left != right` failed\n  left: 1\n right: 1\n"),
            None
        );
        assert_eq!(
            Values::find("assertion `left == right` failed\n  left: 1\n"),
            None
        );
    }

    #[test]
    fn a_value_on_one_line_is_laid_out_and_the_field_that_differs_is_marked() {
        let value = |count, total| {
            format!(
                "Order {{ customer: \"Ada, (x)\", lines: [Line {{ item: \"a\", count: 1 }}, Line {{ item: \"b\", count: \
                 {count} }}], empty: [], letter: '}}', total: {total} }}"
            )
        };
        expect![[r#"
                  lines: [
                      Line { item: "a", count: 1 },
            -         Line { item: "b", count: 2 },"#]]
        .assert_eq(
            &shown(&assertion(&value(2, 7), &value(30, 7)), 80)
                .lines()
                .take(3)
                .collect::<Vec<_>>()
                .join("\n"),
        );
    }

    #[test]
    fn the_lines_of_a_text_are_compared() {
        let left = r#""one\ntwo \"x\"\nthree\nfour\nfive\nsix""#;
        let right = r#""one\ntwo \"y\"\nthree\nfour\nfive\nsix""#;
        expect![[r#"
              one
            - two "x"
            + two "y"
                   ^
              three
              four"#]]
        .assert_eq(&shown(&assertion(left, right), 80));
    }

    #[test]
    fn a_difference_far_to_the_right_is_in_sight() {
        let long = "x".repeat(300);
        let (left, right) = (format!("\"{long}a{long}\""), format!("\"{long}b{long}\""));
        let shown = shown(&assertion(&left, &right), 40);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len(), 3, "{shown}");
        let mark = lines[2].find('^').unwrap();
        assert_eq!(lines[0].chars().nth(mark), Some('a'));
        assert_eq!(lines[1].chars().nth(mark), Some('b'));
        assert!(lines.iter().all(|line| line.width() <= 40), "{shown}");
    }

    #[test]
    fn short_equal_and_huge_values_have_no_difference_to_show() {
        assert_eq!(shown(&assertion("1", "2"), 80), "");
        let same = "x".repeat(50);
        assert_eq!(shown(&assertion(&same, &same), 80), "");
        let huge = "x".repeat(LONGEST + 1);
        assert_eq!(shown(&assertion(&huge, "y"), 80), "");
    }

    proptest! {
        #[test]
        fn any_two_values_can_be_compared(left in "[\\PC\n]{0,80}", right in "[a-c(){}\\[\\]\"', \\\\\n]{0,120}", width in 0usize..100) {
            let text = assertion(&left, &right);
            if let Some(values) = Values::find(&text) {
                for line in values.difference(width) {
                    prop_assert!(line.text.width() <= width.max(40) + 70);
                }
            }
        }
    }
}
