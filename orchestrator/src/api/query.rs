//! Query strings: every parameter is known, given once, and what it should be.

use saga_defs::ids::DeadLetterId;
use saga_defs::ids::SagaId;
use saga_defs::saga::Status;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::problem::{FieldError, Kind, Problem};
use super::strict_json::shown;

/// Entries of a page unless the client asks for another number.
pub(crate) const DEFAULT_LIMIT: u64 = 50;
/// Entries of a page at most.
pub(crate) const MAX_LIMIT: u64 = 500;

/// Parameters of one query; no resource has nearly as many.
const MAX_PARAMETERS: usize = 64;

/// The parameters of one request. Taking them out one by one collects what is wrong; [`Query::done`] reports it, and
/// every parameter that nobody took.
#[derive(Debug)]
pub(crate) struct Query {
    left: Vec<(String, String)>,
    unreadable: Vec<FieldError>,
    wrong: Vec<FieldError>,
}

impl Query {
    /// Decodes a query string.
    pub(crate) fn parse(raw: &str) -> Result<Self, Problem> {
        let mut query = Self { left: Vec::new(), unreadable: Vec::new(), wrong: Vec::new() };
        let pairs = || raw.split('&').filter(|pair| !pair.is_empty());
        if pairs().nth(MAX_PARAMETERS).is_some() {
            let text = format!("the query has more than {MAX_PARAMETERS} parameters");
            return Err(Problem::new(Kind::BadQuery, text));
        }
        for pair in pairs() {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode_form(name)?, decode_form(value)?);
            if query.left.iter().any(|(other, _)| *other == name) {
                query.unreadable.push(FieldError::new(shown(&name), "is given twice"));
            } else {
                query.left.push((name, value));
            }
        }
        Ok(query)
    }

    /// A parameter's text. An empty one counts as not given.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        let at = self.left.iter().position(|(other, _)| other == name)?;
        let (_, value) = self.left.swap_remove(at);
        Some(value).filter(|value| !value.is_empty())
    }

    /// Whether a parameter is there and not `false`.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let Some(at) = self.left.iter().position(|(other, _)| other == name) else { return false };
        let (_, value) = self.left.swap_remove(at);
        match value.as_str() {
            "" | "true" | "1" => true,
            "false" | "0" => false,
            _ => {
                self.unreadable.push(FieldError::new(name, "must be true or false"));
                false
            }
        }
    }

    fn read<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Option<T>, expected: &str) -> Option<T> {
        let text = self.text(name)?;
        let value = parse(&text);
        if value.is_none() {
            let message = format!("must be {expected}; found `{}`", shown(&text));
            self.unreadable.push(FieldError::new(name, message));
        }
        value
    }

    /// A saga's id.
    pub(crate) fn saga_id(&mut self, name: &str) -> Option<SagaId> {
        self.read(name, |text| text.parse().ok(), "a UUID")
    }

    /// A UUID.
    pub(crate) fn uuid(&mut self, name: &str) -> Option<Uuid> {
        self.read(name, |text| text.parse().ok(), "a UUID")
    }

    /// An RFC 3339 time.
    pub(crate) fn time(&mut self, name: &str) -> Option<OffsetDateTime> {
        // An unescaped `+` of an offset arrives as a space.
        let parse = |text: &str| OffsetDateTime::parse(&text.replace(' ', "+"), &Rfc3339).ok();
        self.read(name, parse, "a time such as 2026-01-02T03:04:05Z")
    }

    /// One of a few words.
    pub(crate) fn word(&mut self, name: &str, words: &[&str]) -> Option<String> {
        let text = self.text(name)?;
        if words.contains(&text.as_str()) {
            return Some(text);
        }
        let message = format!("must be one of {}; found `{}`", words.join(", "), shown(&text));
        self.wrong.push(FieldError::new(name, message));
        None
    }

    /// A saga's status.
    pub(crate) fn status(&mut self, name: &str) -> Option<Status> {
        let words = Status::ALL.map(Status::as_str);
        self.word(name, &words).and_then(|text| Status::parse(&text))
    }

    /// How many entries a page has at most.
    pub(crate) fn limit(&mut self, default: u64, max: u64) -> u64 {
        let limit = self.read("limit", |text| text.parse::<u64>().ok(), "a whole number").unwrap_or(default);
        if (1..=max).contains(&limit) {
            return limit;
        }
        self.wrong.push(FieldError::new("limit", format!("must be 1 to {max}; found {limit}")));
        default
    }

    /// Where a page begins.
    pub(crate) fn cursor(&mut self, of: Page) -> Option<Uuid> {
        self.read("cursor", |text| of.read(text), "a nextCursor of an earlier answer to the same question")
    }

    /// A saga's revision after which a page begins.
    pub(crate) fn revision_cursor(&mut self) -> i32 {
        let expected = "a nextCursor of an earlier answer to the same question";
        let cursor = self.read("cursor", |text| Page::History.read(text), expected);
        cursor.map_or(0, |id| i32::try_from(id.as_u128()).unwrap_or(i32::MAX))
    }

    /// A place of a selection after which a page begins.
    pub(crate) fn place(&mut self) -> i32 {
        let expected = "a nextCursor of an earlier answer to the same question";
        let cursor = self.read("cursor", |text| Page::Items.read(text), expected);
        cursor.map_or(0, |id| i32::try_from(id.as_u128()).unwrap_or(i32::MAX))
    }

    /// A time and an id after which a page begins.
    pub(crate) fn place_cursor(&mut self) -> Option<(OffsetDateTime, Uuid)> {
        self.read("cursor", read_place, "a nextCursor of an earlier answer to the same question")
    }

    /// Everything is taken; was it right?
    pub(crate) fn done(mut self) -> Result<(), Problem> {
        for (name, _) in &self.left {
            self.unreadable.push(FieldError::new(shown(name), "is not a parameter of this resource"));
        }
        if !self.unreadable.is_empty() {
            return Err(Problem::fields(Kind::BadQuery, self.unreadable));
        }
        if self.wrong.is_empty() { Ok(()) } else { Err(Problem::validation(self.wrong)) }
    }
}

/// Which list a cursor belongs to: the cursor of one is none for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Page {
    Sagas,
    Letters,
    History,
    Actions,
    Items,
    Audit,
}

impl Page {
    const fn mark(self) -> u8 {
        match self {
            Self::Sagas => b's',
            Self::Letters => b'd',
            Self::History => b'h',
            Self::Actions => b'a',
            Self::Items => b'i',
            Self::Audit => b'u',
        }
    }

    fn write(self, last: Uuid) -> String {
        let mut bytes = [0_u8; 17];
        bytes[0] = self.mark();
        bytes[1..].copy_from_slice(last.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The cursor behind this saga.
    pub(crate) fn after_saga(last: SagaId) -> String {
        Self::Sagas.write(last.as_uuid())
    }

    /// The cursor behind this dead letter.
    pub(crate) fn after_letter(last: DeadLetterId) -> String {
        Self::Letters.write(last.as_uuid())
    }

    /// The cursor behind this action.
    pub(crate) fn after_action(last: Uuid) -> String {
        Self::Actions.write(last)
    }

    /// The cursor behind this place of a selection.
    pub(crate) fn after_item(last: i32) -> String {
        Self::Items.write(Uuid::from_u128(u128::try_from(last).unwrap_or(0)))
    }

    /// The cursor behind this entry of the audit.
    pub(crate) fn after_audit(last: Uuid) -> String {
        Self::Audit.write(last)
    }

    /// The cursor behind this revision.
    pub(crate) fn after_revision(last: i32) -> String {
        Self::History.write(Uuid::from_u128(u128::try_from(last).unwrap_or(0)))
    }

    fn read(self, text: &str) -> Option<Uuid> {
        let bytes: [u8; 17] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let [mark, id @ ..] = bytes;
        (mark == self.mark()).then(|| Uuid::from_bytes(id))
    }
}

/// The first byte of a cursor into the groups of dead letters.
const PLACE_MARK: u8 = b'g';

/// The cursor behind a group that was last seen then.
pub(crate) fn after_place(at: OffsetDateTime, id: Uuid) -> String {
    // Postgres keeps microseconds.
    let micros = i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or_default();
    let mut bytes = vec![PLACE_MARK];
    bytes.extend_from_slice(&micros.to_be_bytes());
    bytes.extend_from_slice(id.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn read_place(text: &str) -> Option<(OffsetDateTime, Uuid)> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (micros, id) = bytes.strip_prefix(&[PLACE_MARK])?.split_first_chunk::<8>()?;
    let nanos = i128::from(i64::from_be_bytes(*micros)).checked_mul(1_000)?;
    Some((OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?, Uuid::from_slice(id).ok()?))
}

fn decode_form(text: &str) -> Result<String, Problem> {
    decode(&text.replace('+', " ")).map_err(|why| Problem::new(Kind::BadQuery, format!("the query {why}")))
}

/// Undoes percent-encoding. The error completes a sentence.
pub(crate) fn decode(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return Err("has a % without two hexadecimal digits") };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
            return Err("has a % without two hexadecimal digits");
        };
        bytes.push((high * 16 + low) as u8);
        rest = tail;
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8")?;
    if text.contains('\0') { Err("contains NUL") } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_belongs_to_one_list() {
        let id = SagaId::from_uuid(Uuid::from_u128(7));
        let text = Page::after_saga(id);
        assert_eq!(Page::Sagas.read(&text), Some(id.as_uuid()));
        assert_eq!(Page::Letters.read(&text), None);
        for wrong in ["", "x", "AAAA", "!!!!", &format!("{text}A")] {
            assert_eq!(Page::Sagas.read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_place_comes_back_as_it_was() -> Result<(), time::error::ComponentRange> {
        let place =
            (OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_123_456_000)?, Uuid::from_u128(7));
        assert_eq!(read_place(&after_place(place.0, place.1)), Some(place));
        for wrong in ["", "x", "AAAA", "!!!!", &Page::after_revision(1)] {
            assert_eq!(read_place(wrong), None, "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn an_offset_may_come_unescaped() -> Result<(), Problem> {
        let mut query = Query::parse("a=2026-01-02T03:04:05+02:00&b=2026-01-02T03:04:05%2B02:00")?;
        assert!(query.time("a").is_some());
        assert!(query.time("b").is_some());
        query.done()
    }

    #[test]
    fn percent_encoding_is_undone_or_refused() {
        assert_eq!(decode("a%20b%C3%A9"), Ok("a b\u{e9}".to_owned()));
        for wrong in ["%", "%2", "%zz", "%00", "%ff", "a%+1"] {
            assert!(decode(wrong).is_err(), "{wrong}");
        }
    }
}
