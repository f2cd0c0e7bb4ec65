use super::*;
use proptest::prelude::*;

const ALL: Shown = Shown {
    colors: true,
    unicode: true,
};

fn line(bytes: &[u8]) -> (String, usize) {
    let mut captured = Captured::new(ALL);
    (captured.line(bytes), captured.take_left_out())
}

#[test]
fn colors_stay_and_end_with_the_line() {
    for (printed, shown) in [
        ("plain\ttext ä 漢", "plain\ttext ä 漢"),
        ("\x1b[31mred", "\x1b[31mred\x1b[0m"),
        ("\x1b[1;31mred\x1b[m.", "\x1b[1;31mred\x1b[0m."),
        ("\x1b[38;5;5mx\x1b[0m", "\x1b[38;5;5mx\x1b[0m"),
        ("\x1b[48;2;5;6;8mx\x1b[0m", "\x1b[48;2;5;6;8mx\x1b[0m"),
        ("\x1b[38:2::1:2:3mx\x1b[0m", "\x1b[38;2;1;2;3mx\x1b[0m"),
        ("\x1b[4:3mx\x1b[4:0m", "\x1b[4mx\x1b[24m\x1b[0m"),
    ] {
        assert_eq!(line(printed.as_bytes()), (shown.to_owned(), 0));
    }
}

#[test]
fn what_blinks_or_hides_is_left_out_of_colors() {
    for (printed, shown, left_out) in [
        ("\x1b[5mx", "x", 1),
        ("\x1b[8mx", "x", 1),
        ("\x1b[31;5;8mx\x1b[0m", "\x1b[31mx\x1b[0m", 0),
        ("\x1b[38;9;5mx", "x", 1),
        ("\x1b[38;5;256mx", "x", 1),
        ("\x1b[99999999mx", "x", 1),
        ("\x1b[>4;2mx", "x", 1),
        ("\x1b[?4mx", "x", 1),
        ("\x1b[1 mx", "x", 1),
    ] {
        let expected = (shown.to_owned(), left_out);
        assert_eq!(line(printed.as_bytes()), expected, "{printed:?}");
    }
}

#[test]
fn whole_sequences_that_act_on_the_terminal_are_left_out_and_counted() {
    for printed in [
        "\x1b[2J",
        "\x1b[?1049h",
        "\x1b[3;10r",
        "\x1b[6n",
        "\x1b[c",
        "\x1bc",
        "\x1b7",
        "\x1b(0",
        "\x1b#8",
        "\x1b]0;title\x07",
        "\x1b]52;c;aGk=\x1b\\",
        "\x1b]8;;http://x\x1b\\",
        "\x1bP$q\"p\x1b\\",
        "\x1b_apc\x1b\\",
        "\x1b^pm\x1b\\",
        "\x1bXsos\x1b\\",
        "\x1bktitle\x1b\\",
    ] {
        let text = format!("a{printed}b");
        assert_eq!(line(text.as_bytes()), ("ab".to_owned(), 1), "{printed:?}");
    }
}

#[test]
fn what_is_no_whole_sequence_is_shown_and_hides_nothing() {
    for (printed, shown) in [
        (&b"\x1b]0;the panic"[..], r"\u{1b}]0;the panic"),
        (b"\x1bPthe panic", r"\u{1b}Pthe panic"),
        (b"\x1b[", r"\u{1b}["),
        (b"\x1b[12", r"\u{1b}[12"),
        (b"\x1b", r"\u{1b}"),
        (b"\x1b[1\x07m", r"\u{1b}[1\u{7}m"),
        (
            b"a\0b\x08\x0b\x0c\x0e\x7f",
            r"a\u{0}b\u{8}\u{b}\u{c}\u{e}\u{7f}",
        ),
        (b"\x9b2J", r"\x9b2J"),
        (b"\xc2\x9b2J", r"\u{9b}2J"),
        (b"\xff\xed\xa0\x80x", r"\xff\xed\xa0\x80x"),
        ("\u{202e}x\u{2028}".as_bytes(), r"\u{202e}x\u{2028}"),
        (b"half \xc3\x1b[2J\xa4", r"half \xc3\xa4"),
    ] {
        assert_eq!(line(printed).0, shown, "{printed:?}");
    }
}

#[test]
fn colors_last_over_lines_and_a_cut() {
    let mut captured = Captured::new(ALL);
    assert_eq!(captured.line(b"\x1b[1mone"), "\x1b[1mone\x1b[0m");
    assert_eq!(captured.line(b"two"), "\x1b[1mtwo\x1b[0m");
    assert_eq!(captured.line(b"\x1b[0mthree"), "\x1b[1m\x1b[0mthree");
    assert_eq!(captured.line(b"four\x1b[3"), r"four\u{1b}[3");
    assert_eq!(captured.line(b"1mfive"), "1mfive");
    for _ in 0..1000 {
        captured.line(b"\x1b[31m\x1b[1m");
    }
    assert!(captured.line(b"").len() < 2 * REPEATED);
}

#[test]
fn without_colors_or_unicode_there_is_neither() {
    let mut captured = Captured::new(Shown {
        colors: false,
        unicode: false,
    });
    assert_eq!(captured.line("\x1b[31mä\x1b[0m".as_bytes()), r"\u{e4}");
    assert_eq!(captured.take_left_out(), 0);
}

#[test]
fn of_many_lines_that_overwrite_each_other_the_last_is_shown() {
    let progress: String = (0..50).map(|i| format!("\rprogress {i}%")).collect();
    let (lines, left_out) = overwritten(progress.as_bytes());
    assert_eq!((lines, left_out), (vec![&b"progress 49%"[..]], 49));
    let (lines, left_out) = overwritten(b"error\r  ok\r\x1b[K\r");
    assert_eq!((lines, left_out), (vec![&b"error"[..], b"  ok"], 0));
    assert_eq!(overwritten(b"dos\r"), (vec![&b"dos"[..]], 0));
    assert_eq!(overwritten(b"\r"), (vec![&b""[..]], 0));
}

#[test]
fn reports_have_text_without_sequences() {
    for (printed, expected) in [
        (&b"a\tb\n\tc"[..], "a       b\n        c"),
        (b"0%\r1%\r\n\r", "0%\n1%\n"),
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b]0;the panic", "]0;the panic"),
        (b"\x1b[3\nthread", "[3\nthread"),
    ] {
        assert_eq!(plain(printed), expected, "{printed:?}");
    }
}

/// Checks the shown text with a terminal's own parser.
#[derive(Default)]
struct Screen {
    wrong: Vec<String>,
    styled: bool,
}

impl vte::Perform for Screen {
    fn print(&mut self, c: char) {
        if is_hidden(c) {
            self.wrong.push(format!("print {c:?}"));
        }
    }

    fn execute(&mut self, byte: u8) {
        if byte != b'\t' {
            self.wrong.push(format!("execute {byte}"));
        }
    }

    fn csi_dispatch(
        &mut self,
        parameters: &vte::Params,
        intermediates: &[u8],
        ignore: bool,
        action: char,
    ) {
        let mut numbers = parameters.iter().flatten().copied();
        let mut allowed = intermediates.is_empty() && !ignore && action == 'm';
        while let Some(number) = numbers.next() {
            self.styled = number != 0;
            match number {
                38 | 48 | 58 => {
                    let skipped = match numbers.next() {
                        Some(5) => 1,
                        _ => 3,
                    };
                    let colors: Vec<_> = numbers.by_ref().take(skipped).collect();
                    allowed &= colors.len() == skipped && colors.iter().all(|part| *part < 256);
                }
                5 | 6 | 8 | 10..=20 => allowed = false,
                _ => {}
            }
        }
        if !allowed {
            self.wrong.push(format!("CSI {parameters:?} {action}"));
        }
    }

    fn hook(&mut self, _: &vte::Params, _: &[u8], _: bool, action: char) {
        self.wrong.push(format!("DCS {action}"));
    }

    fn osc_dispatch(&mut self, _: &[&[u8]], _: bool) {
        self.wrong.push("OSC".to_owned());
    }

    fn esc_dispatch(&mut self, _: &[u8], _: bool, byte: u8) {
        self.wrong.push(format!("ESC {byte}"));
    }
}

fn check(bytes: &[u8], shown: Shown) -> Result<(), TestCaseError> {
    let mut captured = Captured::new(shown);
    let mut screen = Screen::default();
    let mut parser = vte::Parser::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let (lines, _) = overwritten(line);
        for line in lines {
            let text = captured.line(line);
            prop_assert!(shown.colors || !text.contains('\x1b'), "{:?}", text);
            parser.advance(&mut screen, text.as_bytes());
            prop_assert!(!screen.styled, "a color is on after {:?}", text);
            prop_assert!(screen.wrong.is_empty(), "{:?} in {:?}", screen.wrong, text);
        }
    }
    Ok(())
}

/// Pieces of which sequences are made, whole and broken.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\x1b".to_vec()),
        Just(b"\x1b[".to_vec()),
        Just(b"\x1b]".to_vec()),
        Just(b"\x1bP".to_vec()),
        Just(b"\x1b(".to_vec()),
        Just(b"\x1b\\".to_vec()),
        Just(b"m".to_vec()),
        Just(b"\x07".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\n".to_vec()),
        Just("ä\u{9b}\u{202e}".as_bytes().to_vec()),
        "[0-9:;<?]{0,12}".prop_map(String::into_bytes),
        "[ -/@-~]{1,2}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn whatever_a_test_prints_a_terminal_only_prints_and_colors(
        bytes in pieces(),
        colors: bool,
        unicode: bool,
    ) {
        check(&bytes, Shown { colors, unicode })?;
    }

    #[test]
    fn random_bytes_are_harmless_too(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&bytes, ALL)?;
        let text = plain(&bytes);
        prop_assert!(!text.contains('\x1b'));
    }

    #[test]
    fn text_is_shown_as_it_is(text in "[ -~äöü漢]{0,80}") {
        prop_assert_eq!(line(text.as_bytes()), (text, 0));
    }
}
