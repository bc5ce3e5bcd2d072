//! Tables of the text, key by key: a key that is not known, one that is missing, a value of another type.

use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problems;
use crate::spelling::nearest;

/// What kind of table it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Definition,
    Step,
    Retry,
}

/// The longest piece of a key or value that is shown, in characters.
const SHOWN_CHARS: usize = 60;

/// Every key with a line that shows how it is written.
impl Place {
    const ALL: [Self; 3] = [Self::Definition, Self::Step, Self::Retry];

    const fn keys(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Definition => &[
                ("name", "name = \"booking\""),
                ("version", "version = 1"),
                ("deadline", "deadline = \"15m\""),
                ("deadline_stands_while_held", "deadline_stands_while_held = true"),
                ("input", "input = \"booking.StartBooking\""),
                ("step", "[[step]]"),
            ],
            Self::Step => &[
                ("name", "name = \"reserve-booking\""),
                ("participant", "participant = \"booking\""),
                ("kind", "kind = \"compensatable\""),
                ("command", "command = \"booking.ReserveBooking\""),
                ("with", "with = { reference = \"bookingId\" }"),
                ("reply", "reply = \"booking.BookingReserved\""),
                ("compensation", "compensation = \"booking.CancelBooking\""),
                ("timeout", "timeout = \"5s\""),
                ("retry", "retry = { max_attempts = 5, initial = \"200ms\" }"),
                ("compensation_retry", "compensation_retry = { max_attempts = 10, max = \"1m\" }"),
            ],
            Self::Retry => &[
                ("max_attempts", "max_attempts = 5"),
                ("initial", "initial = \"200ms\""),
                ("max", "max = \"10s\""),
                ("multiplier", "multiplier = 2.0"),
                ("jitter", "jitter = 0.2"),
            ],
        }
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        self.keys().iter().map(|(name, _)| *name)
    }

    fn example(self, key: &str) -> &'static str {
        self.keys().iter().find(|(name, _)| *name == key).map_or("", |(_, example)| example)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Definition => "a definition",
            Self::Step => "a step",
            Self::Retry => "a retry",
        }
    }

    /// What to do with a key that is not one of ours.
    fn advice(self, unknown: &str) -> String {
        if let Some(place) = Self::ALL.into_iter().find(|place| place.names().any(|name| name == unknown)) {
            return match place {
                Self::Definition => {
                    format!("`{unknown}` belongs to the definition: move it above the first [[step]]")
                }
                Self::Step => format!("`{unknown}` belongs to a step: move it below a [[step]]"),
                Self::Retry => {
                    format!("`{unknown}` belongs into `retry = {{ … }}` or `compensation_retry = {{ … }}`")
                }
            };
        }
        match nearest(unknown, self.names()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => {
                let known: Vec<&str> = self.names().collect();
                format!("remove it, or use one of {}", known.join(", "))
            }
        }
    }
}

/// A table of the text.
pub(super) struct Keys<'t> {
    place: Place,
    table: &'t DeTable<'t>,
    span: Range<usize>,
}

impl<'t> Keys<'t> {
    /// Complains about the keys that such a table does not have.
    pub(super) fn new(
        place: Place,
        table: &'t DeTable<'t>,
        span: Range<usize>,
        problems: &mut Problems<'_>,
    ) -> Self {
        for (key, _) in
            table.iter().filter(|(key, _)| place.names().all(|name| name != key.get_ref().as_ref()))
        {
            let text = key.get_ref();
            let message = format!("{} has no key `{}`", place.as_str(), shown(text));
            problems.report(key.span(), message, place.advice(text));
        }
        Self { place, table, span }
    }

    /// The table as a whole.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Whether the key is there, whatever its value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Where the key stands, if it is there.
    pub(super) fn key_span(&self, key: &str) -> Option<Range<usize>> {
        self.table.get_key_value(key).map(|(key, _)| key.span())
    }

    /// The value of a key that must be there.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        problems: &mut Problems<'_>,
        read: impl FnOnce(&Self, &'static str, &mut Problems<'_>) -> Option<T>,
    ) -> Option<T> {
        if self.table.get(key).is_none() {
            let message = format!("{} needs `{key}`", self.place.as_str());
            problems.report_missing(self.span(), message, self.advice_to_add(key));
            return None;
        }
        read(self, key, problems)
    }

    /// How a key that is missing is written.
    pub(super) fn advice_to_add(&self, key: &str) -> String {
        format!("add e.g. `{}`", self.place.example(key))
    }

    /// A text.
    pub(super) fn text(&self, key: &'static str, problems: &mut Problems<'_>) -> Option<Spanned<&'t str>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Spanned::new(value.span(), text.as_ref())),
            other => self.wrong(key, value.span(), "a text in quotes", other, problems),
        }
    }

    /// A whole number from `range`.
    pub(super) fn whole(
        &self,
        key: &'static str,
        range: std::ops::RangeInclusive<u32>,
        problems: &mut Problems<'_>,
    ) -> Option<Spanned<u32>> {
        let value = self.value(key)?;
        let DeValue::Integer(number) = value.get_ref() else {
            return self.wrong(key, value.span(), "a whole number", value.get_ref(), problems);
        };
        match u32::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) if range.contains(&number) => Some(Spanned::new(value.span(), number)),
            _ => self.out_of(key, value, &format!("{} to {}", range.start(), range.end()), problems),
        }
    }

    /// A number from `range`, with or without a fraction.
    pub(super) fn number(
        &self,
        key: &'static str,
        range: std::ops::RangeInclusive<f64>,
        problems: &mut Problems<'_>,
    ) -> Option<f64> {
        let value = self.value(key)?;
        let number = match value.get_ref() {
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(number) => {
                i32::from_str_radix(number.as_str(), number.radix()).ok().map(f64::from)
            }
            other => return self.wrong(key, value.span(), "a number", other, problems),
        };
        match number {
            Some(number) if range.contains(&number) => Some(number),
            _ => self.out_of(key, value, &format!("{:?} to {:?}", range.start(), range.end()), problems),
        }
    }

    /// Yes or no.
    pub(super) fn truth(&self, key: &'static str, problems: &mut Problems<'_>) -> Option<bool> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Boolean(truth) => Some(*truth),
            other => self.wrong(key, value.span(), "true or false", other, problems),
        }
    }

    /// A table inside this one.
    pub(super) fn table(
        &self,
        key: &'static str,
        problems: &mut Problems<'_>,
    ) -> Option<Spanned<&'t DeTable<'t>>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Spanned::new(value.span(), table)),
            other => self.wrong(key, value.span(), "a table", other, problems),
        }
    }

    /// The tables of a list.
    pub(super) fn tables(
        &self,
        key: &'static str,
        problems: &mut Problems<'_>,
    ) -> Option<Vec<Spanned<&'t DeTable<'t>>>> {
        let value = self.value(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            return self.wrong(key, value.span(), "a list of tables", value.get_ref(), problems);
        };
        let mut tables = Vec::with_capacity(items.len());
        for item in items {
            match item.get_ref() {
                DeValue::Table(table) => tables.push(Spanned::new(item.span(), table)),
                other => {
                    let _: Option<()> = self.wrong(key, item.span(), "a table", other, problems);
                }
            }
        }
        Some(tables)
    }

    fn value(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.table.get(key)
    }

    fn out_of<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        range: &str,
        problems: &mut Problems<'_>,
    ) -> Option<T> {
        let message = format!("`{key}` is {}, which is not allowed", Found(value.get_ref()));
        problems.report(value.span(), message, format!("give it a number from {range}"));
        None
    }

    fn wrong<T>(
        &self,
        key: &str,
        span: Range<usize>,
        expected: &str,
        found: &DeValue<'_>,
        problems: &mut Problems<'_>,
    ) -> Option<T> {
        let message = format!("`{key}` must be {expected}, not {}", Found(found));
        problems.report(span, message, format!("write e.g. `{}`", self.place.example(key)));
        None
    }
}

/// Text from outside, short enough for a message and without control characters.
pub(crate) fn shown(text: &str) -> String {
    let mut short = String::new();
    for c in text.chars().take(SHOWN_CHARS) {
        if c.is_control() { short.extend(c.escape_debug()) } else { short.push(c) }
    }
    if text.chars().nth(SHOWN_CHARS).is_some() {
        short.push('…');
    }
    short
}

/// A value as it is named in a message.
pub(super) struct Found<'a>(pub(super) &'a DeValue<'a>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            DeValue::String(text) => write!(f, "the text \"{}\"", shown(text)),
            DeValue::Integer(number) => write!(f, "the number {}", shown(&number.to_string())),
            DeValue::Float(number) => write!(f, "the number {}", shown(number.as_str())),
            DeValue::Boolean(truth) => write!(f, "{truth}"),
            DeValue::Datetime(_) => f.write_str("a date"),
            DeValue::Array(_) => f.write_str("a list"),
            DeValue::Table(_) => f.write_str("a table"),
        }
    }
}
