//! What the person who started the stack sees.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Colours and weights, as far as every terminal has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Blue,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Red => "\x1b[31m",
            Self::Green => "\x1b[32m",
            Self::Yellow => "\x1b[33m",
            Self::Blue => "\x1b[36m",
        }
    }
}

/// Standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    /// Whether a person looks at it; else a file or another program.
    pub(crate) live: bool,
    colour: bool,
}

impl Terminal {
    /// Colours only on a terminal, and only if the environment does not say `NO_COLOR`.
    pub(crate) fn new() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let live = std::io::stdout().is_terminal();
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        Self { live, colour: live && !dumb && set("NO_COLOR").is_none() }
    }

    /// The text in that style, where colours are wanted.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        if self.colour && style != Style::Plain {
            format!("{}{text}\x1b[0m", style.code())
        } else {
            text.to_owned()
        }
    }

    /// One line. Nobody may be reading any more: that is no reason to stop.
    pub(crate) fn say(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}");
        let _ = out.flush();
    }

    /// A line that begins a part.
    pub(crate) fn head(&self, text: &str) {
        self.say(&format!("\n{}", self.paint(Style::Bold, text)));
    }

    /// Something is ready: what, since when it was worked on, and a word more.
    pub(crate) fn ready(&self, what: &str, begun: Instant, more: &str) {
        let took = format!("({})", seconds(begun.elapsed()));
        let tick = self.paint(Style::Green, "ok");
        self.say(format!("  {tick} {what} {} {more}", self.paint(Style::Dim, &took)).trim_end());
    }

    /// A name and its value.
    pub(crate) fn entry(&self, name: &str, value: &str) {
        self.say(&format!("  {}{value}", self.paint(Style::Dim, &format!("{name:<16}"))));
    }
}

/// A time as people read it: `0.4 s`, `12.0 s`.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// A time as short as it is: `850 us`, `12 ms`, `1.32 s`.
pub(crate) fn short(time: Duration) -> String {
    match time.as_micros() {
        us @ 0..1_000 => format!("{us} us"),
        us @ 1_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

/// A number with its thousands apart: `12,345`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 booking`, `2,000 bookings`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_easy_to_read() {
        assert_eq!(
            [0, 7, 999, 1_000, 12_345, 1_234_567].map(grouped).join(" "),
            "0 7 999 1,000 12,345 1,234,567"
        );
        let times = [0, 999, 1_000, 12_345, 999_999, 1_320_000].map(Duration::from_micros).map(short);
        assert_eq!(times.join(", "), "0 us, 999 us, 1 ms, 12 ms, 999 ms, 1.32 s");
        assert_eq!([1, 2_000].map(|n| counted(n, "booking")).join(", "), "1 booking, 2,000 bookings");
    }
}
