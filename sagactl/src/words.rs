//! Times, lengths and strangers' texts, as people read them.

use std::time::Duration;

use time::OffsetDateTime;
use time::macros::format_description;

/// The text on one line, with nothing in it that a terminal would obey: it comes from strangers.
pub(crate) fn plain(text: &str) -> String {
    let visible = |c: char| if hidden(c) { '?' } else { c };
    text.split_whitespace()
        .map(|word| word.chars().map(visible).collect::<String>())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Several lines, each as [`plain`] but with its white space.
pub(crate) fn plain_lines(text: &str) -> String {
    text.chars().map(|c| if c != '\n' && c != '\t' && hidden(c) { '?' } else { c }).collect()
}

/// Control characters (escape sequences of terminals begin with one) and those that turn or hide the text around them.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c), 0x00ad | 0x061c | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xfeff)
}

/// A length of time with the unit that fits, e.g. `43 ms`, `5.2 s`, `3 min`, `2 h`, `4 d`.
pub(crate) fn length(length: Duration) -> String {
    let (seconds, ms) = (length.as_secs(), length.as_millis());
    match seconds {
        0 => format!("{ms} ms"),
        1..10 => format!("{:.1} s", length.as_secs_f64()),
        10..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long it is from one moment to another; nothing if they are the other way round.
pub(crate) fn between(from: OffsetDateTime, to: OffsetDateTime) -> Duration {
    Duration::try_from(to - from).unwrap_or_default()
}

/// How long ago that was, e.g. `3 min`.
pub(crate) fn age(at: OffsetDateTime) -> String {
    length(between(at, OffsetDateTime::now_utc()))
}

/// A moment to the second, e.g. `2026-11-22 19:58:53Z`.
pub(crate) fn moment(at: OffsetDateTime) -> String {
    let form = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    at.to_offset(time::UtcOffset::UTC).format(form).unwrap_or_else(|_| at.to_string())
}

/// `1 saga`, `2 sagas`; 1,234 with its comma.
pub(crate) fn count(n: u64, one: &str) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    let plural = if n == 1 { "" } else { "s" };
    format!("{text} {one}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_the_unit_that_fits() {
        let shown = [0, 43, 999, 5_234, 11_000, 119_999, 600_000, 9_000_000, 400_000_000]
            .map(|ms| length(Duration::from_millis(ms)));
        let expected = ["0 ms", "43 ms", "999 ms", "5.2 s", "11 s", "119 s", "10 min", "2 h", "4 d"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn numbers_are_read_in_groups() {
        assert_eq!(count(1, "saga"), "1 saga");
        assert_eq!(count(0, "saga"), "0 sagas");
        assert_eq!(count(1_234_567, "saga"), "1,234,567 sagas");
    }

    #[test]
    fn a_terminal_obeys_nothing_that_strangers_wrote() {
        assert_eq!(plain("two\n lines \u{1b}[31mred\u{202e}"), "two lines ?[31mred?");
        assert_eq!(plain_lines("{\n  \"a\": \"\u{1b}[2J\"\n}"), "{\n  \"a\": \"?[2J\"\n}");
    }
}
