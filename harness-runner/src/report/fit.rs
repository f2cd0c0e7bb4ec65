//! Text made to fit: cut at its end, shortened in its middle or at its beginning, by columns of a terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The mark of a cut.
const CUT: char = '…';

/// Returns the text cut to `width` columns, with a mark where it was cut.
pub(super) fn clipped(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    if width == 0 {
        return String::new();
    }
    let mut cut = beginning(text, width - 1).to_owned();
    cut.push(CUT);
    cut
}

/// Returns the text without its middle if it is wider than `width` columns. Beginning and end are what tells
/// the names of tests apart, and the end more than the beginning.
pub(super) fn without_middle(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    if width == 0 {
        return String::new();
    }
    let first = beginning(text, (width - 1) / 3);
    let last = end(text, width - 1 - first.width());
    format!("{first}{CUT}{last}")
}

/// Returns the end of the text, with a mark before it, if the text is wider than `width` columns.
pub(super) fn without_beginning(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    if width == 0 {
        return String::new();
    }
    format!("{CUT}{}", end(text, width - 1))
}

/// Returns as much of the beginning as has room.
fn beginning(text: &str, width: usize) -> &str {
    let mut left = width;
    for (at, c) in text.char_indices() {
        let columns = c.width().unwrap_or(0);
        if columns > left {
            return &text[..at];
        }
        left -= columns;
    }
    text
}

/// Returns as much of the end as has room. It does not begin with a character that combines with the one before.
fn end(text: &str, width: usize) -> &str {
    let mut left = width;
    let mut from = text.len();
    for (at, c) in text.char_indices().rev() {
        let columns = c.width().unwrap_or(0);
        if columns > left {
            break;
        }
        left -= columns;
        if columns > 0 {
            from = at;
        }
    }
    &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_middle_goes_first() {
        assert_eq!(without_middle("a::long::name", 13), "a::long::name");
        assert_eq!(without_middle("a::long::name", 9), "a:…::name");
        assert_eq!(without_beginning("src/deep/lib.rs:12", 10), "…lib.rs:12");
        assert_eq!(clipped("message", 4), "mes…");
    }

    #[test]
    fn wide_and_combining_characters_are_whole() {
        // Each is two columns wide.
        assert_eq!(
            without_middle("測試測試測試", 7),
            "測…試試".replace("試試", "測試")
        );
        // An accent of its own stays with its letter.
        assert_eq!(without_beginning("xxae\u{301}b", 3), "…e\u{301}b");
        assert_eq!(without_middle("שלום::עולם", 5), "ש…ולם");
    }

    proptest! {
        #[test]
        fn whatever_is_cut_fits(text in "\\PC{0,40}", width in 0usize..30) {
            for cut in [clipped(&text, width), without_middle(&text, width), without_beginning(&text, width)] {
                prop_assert!(cut.width() <= width.max(text.width().min(width)), "{cut:?}");
                prop_assert!(text.width() > width || cut == text);
            }
        }
    }
}
