//! Making a stranger's text fit for one line.

/// A text from outside takes at most this many characters of a line.
pub(super) const MAX_CHARS: usize = 80;

/// The text on one line: white space becomes one blank, what cannot be seen becomes `?`, and what is too long is cut.
pub(super) fn plain(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(4 * MAX_CHARS));
    let mut length = 0;
    let mut blank = false;
    for c in text.chars() {
        if c.is_whitespace() {
            blank = length > 0;
            continue;
        }
        if length + usize::from(blank) >= MAX_CHARS {
            line.push_str("...");
            break;
        }
        if std::mem::take(&mut blank) {
            line.push(' ');
            length += 1;
        }
        line.push(if invisible(c) { '?' } else { c });
        length += 1;
    }
    line
}

/// Control characters (escape sequences of terminals begin with one) and those that turn or hide the text around them.
fn invisible(c: char) -> bool {
    c.is_control()
        || matches!(
            u32::from(c),
            0x00ad | 0x061c | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xfe00..=0xfe0f | 0xfeff
                | 0xfff0..=0xfffb | 0xe0000..=0xe0fff
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(plain("payment_declined"), "payment_declined");
        assert_eq!(plain("  two\r\n\tlines \u{2028} here "), "two lines here");
        assert_eq!(plain("\u{1b}[31mred\u{0}"), "?[31mred?");
        assert_eq!(plain("abc\u{202e}def\u{200b}"), "abc?def?");
        assert_eq!(plain(""), "");
    }

    #[test]
    fn what_is_too_long_is_cut() {
        assert_eq!(plain(&"x".repeat(MAX_CHARS)), "x".repeat(MAX_CHARS));
        assert_eq!(plain(&"x".repeat(MAX_CHARS + 1)), "x".repeat(MAX_CHARS) + "...");
        assert_eq!(plain(&"\u{10348}".repeat(1_000)).chars().count(), MAX_CHARS + 3);
    }
}
