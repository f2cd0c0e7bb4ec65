//! The names of functions: their crates, and their text for people.

/// Returns the names of one thing as one.
pub(super) fn joined(names: &[&str]) -> String {
    names.join(" ")
}

/// Returns whether a name mentions one of the crates: it is a function of it, or one that was made for its types.
pub(super) fn mentions(name: &str, crates: &[String]) -> bool {
    crates.iter().any(|it| {
        // In both manglings a part of a path is a length and a name; types in the older one end in two dots.
        let of_path = format!("{}{it}", it.len());
        let of_type = format!("{it}..");
        let whole = |found: &str, at: usize| {
            let before = name[..at].bytes().next_back();
            match found.as_bytes()[0].is_ascii_digit() {
                true => !before.is_some_and(|byte| byte.is_ascii_digit()),
                false => !before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
            }
        };
        [of_path, of_type].iter().any(|wanted| {
            let mut found = name.match_indices(wanted.as_str());
            found.any(|(at, found)| whole(found, at))
        })
    })
}

/// Returns whether a function says where a panic is, or prints that.
pub(super) fn shows_places(name: &str) -> bool {
    name.contains("8location8Location") || is_of_panics(name)
}

/// Returns whether a function is one of the two by which each panic with a place begins.
pub(super) fn is_of_panics(name: &str) -> bool {
    let of_core = name.contains("17rust_begin_unwind");
    of_core || name.contains("9panicking11begin_panic") && !name.contains("Payload")
}

/// Returns a name for people.
pub fn shown(name: &str) -> String {
    let Some(rest) = name.strip_prefix("_ZN") else {
        return name.to_owned();
    };
    let mut parts: Vec<String> = Vec::new();
    let mut rest = rest;
    while let Some(digits) = rest.find(|letter: char| !letter.is_ascii_digit()) {
        let Some(length) = rest[..digits].parse::<usize>().ok() else {
            break;
        };
        let Some(part) = rest.get(digits..digits + length) else {
            return name.to_owned();
        };
        parts.push(readable(part));
        rest = &rest[digits + length..];
    }
    let hash = |part: &String| part.len() == 17 && part.starts_with('h');
    if parts.len() > 1 && parts.last().is_some_and(hash) {
        parts.pop();
    }
    match parts.is_empty() {
        true => name.to_owned(),
        false => parts.join("::"),
    }
}

/// Returns a part of a path with its punctuation.
fn readable(part: &str) -> String {
    const WORDS: [(&str, &str); 9] = [
        ("$LT$", "<"),
        ("$GT$", ">"),
        ("$LP$", "("),
        ("$RP$", ")"),
        ("$RF$", "&"),
        ("$BP$", "*"),
        ("$C$", ","),
        ("$u20$", " "),
        ("..", "::"),
    ];
    let part = part
        .strip_prefix("_$")
        .map_or(part.to_owned(), |rest| format!("${rest}"));
    let mut text = part.replace("$u7b$", "{").replace("$u7d$", "}");
    for (written, meant) in WORDS {
        text = text.replace(written, meant);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_mentions_its_crate_and_those_of_its_types() {
        let crates = ["app".to_owned()];
        let yes = [
            "_ZN3app4main17h538dc058c3597b0eE",
            "_ZN47_$LT$app..Thing$u20$as$u20$core..fmt..Debug$GT$3fmt17h00E",
            "_ZN4core3ptr28drop_in_place$LT$app..Thing$GT$17h00E",
            "_RNvCs1234_3app4main",
        ];
        for name in yes {
            assert!(mentions(name, &crates), "{name}");
        }
        let no = [
            "_ZN4core3fmt9Arguments8from_str17hff90d64afbea8296E",
            "_ZN8otherapp4main17h00E",
            "_ZN4core3ptr28drop_in_place$LT$myapp..Thing$GT$17h00E",
            "_RNvCs1234_13app_of_others4main",
        ];
        for name in no {
            assert!(!mentions(name, &crates), "{name}");
        }
    }

    #[test]
    fn a_name_is_shown_as_a_path() {
        let name = "_ZN47_$LT$app..Thing$u20$as$u20$core..fmt..Debug$GT$3fmt17h538dc058c3597b0eE";
        assert_eq!(shown(name), "<app::Thing as core::fmt::Debug>::fmt");
        assert_eq!(shown("_ZN3app4main17h538dc058c3597b0eE"), "app::main");
        assert_eq!(shown("memcpy"), "memcpy");
    }
}
