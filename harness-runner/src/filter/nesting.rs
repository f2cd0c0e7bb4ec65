//! Bounds how deep a filterset may be nested: its parser calls itself for each level, and a stack has an
//! end.

/// The greatest number of parentheses and negations inside each other.
pub(super) const DEEPEST: usize = 100;

/// Returns whether a filterset is nested deeper than that.
pub(super) fn is_too_deep(text: &str) -> bool {
    // The levels that each open parenthesis has added, and the negations just before this place.
    let (mut open, mut negations) = (Vec::new(), 0);
    let (mut depth, mut rest) = (0_usize, text);
    while let Some(first) = rest.chars().next() {
        let mut length = first.len_utf8();
        match first {
            '(' => {
                open.push(negations + 1);
                depth += negations + 1;
                negations = 0;
                length += in_front_of_end_of_regex(&rest[length..]);
            }
            ')' => {
                depth -= open.pop().unwrap_or_default();
                negations = 0;
            }
            '!' => negations += 1,
            '\\' => length += rest[length..].chars().next().map_or(0, char::len_utf8),
            _ if first.is_whitespace() => {}
            _ => {
                let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                length = word.unwrap_or(rest.len()).max(length);
                negations = if &rest[..length] == "not" {
                    negations + 1
                } else {
                    0
                };
            }
        }
        if depth + negations > DEEPEST {
            return true;
        }
        rest = &rest[length..];
    }
    false
}

/// Returns the length of a regular expression without its end; 0 if the text begins with none. It may
/// have parentheses of its own.
fn in_front_of_end_of_regex(text: &str) -> usize {
    let Some(regex) = text.trim_start().strip_prefix('/') else {
        return 0;
    };
    let mut escaped = false;
    let end = regex.find(|c| {
        let ends = c == '/' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    text.len() - regex.len() + end.unwrap_or(regex.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parentheses_and_negations_inside_each_other_are_counted() {
        let nested = |open: &str, close: &str, levels: usize| {
            format!("{}all(){}", open.repeat(levels), close.repeat(levels))
        };
        for (open, close) in [("(", ")"), ("!", ""), ("not ", ""), ("not\n! ", "")] {
            let each = open.matches('!').count() + open.matches("not").count();
            let each = each.max(1);
            let fits = (DEEPEST - 1) / each;
            assert!(!is_too_deep(&nested(open, close, fits)), "{open:?}");
            assert!(
                is_too_deep(&nested(open, close, fits + each + 1)),
                "{open:?}"
            );
        }
        assert!(is_too_deep(&nested("!(", ")", DEEPEST / 2 + 1)));
        assert!(is_too_deep(&"test(a) & (".repeat(DEEPEST + 1)));
    }

    #[test]
    fn many_predicates_side_by_side_are_not_deep() {
        for predicate in [
            "not test(a) | ",
            "test(/a\\(/) | ",
            "test(/[(]/) + ",
            "test(=a\\() & ",
            "(!binary(nothing)) - ",
            "test(not) or ",
            "test(/\\//) or ",
        ] {
            let many = format!("{}all()", predicate.repeat(5 * DEEPEST));
            assert!(!is_too_deep(&many), "{predicate}");
        }
    }
}
