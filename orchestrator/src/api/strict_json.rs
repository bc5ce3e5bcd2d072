//! JSON as it is accepted: UTF-8, no NUL in any text, no name twice in one object, at most so deep, numbers that fit.
//!
//! What Postgres or another reader would refuse or change later is refused here, where the client still sees it.

use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Arrays and objects within each other.
pub(crate) const MAX_DEPTH: usize = 64;

/// From here on no number fits a long.
const LONG_RANGE: f64 = 9_223_372_036_854_775_808.0;

/// Reads one JSON text, or says what is wrong with it and where.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, String> {
    if bytes.is_empty() {
        return Err("the body is empty; JSON is expected".to_owned());
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("the body is not UTF-8 from byte {} on", error.valid_up_to()))?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let mut large = false;
    let value = Strict { depth: 0, large: &mut large }.deserialize(&mut reader).map_err(describe)?;
    reader.end().map_err(describe)?;
    // A whole number beyond 64 bits is silently read as a double; only its digits tell it from one that was meant so.
    if large && has_long_digits(text) {
        return Err("a whole number does not fit 64 bits".to_owned());
    }
    Ok(value)
}

#[expect(clippy::needless_pass_by_value, reason = "it is the argument of map_err")]
fn describe(error: serde_json::Error) -> String {
    format!("the body is not the JSON that is expected: {error}")
}

/// Whether a number without fraction and exponent does not fit a long.
fn has_long_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (mut at, mut in_text) = (0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if in_text => at += 1,
            b'"' => in_text = !in_text,
            b'0'..=b'9' if !in_text => {
                let length = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let after = bytes.get(at + length);
                let begin = if at > 0 && bytes[at - 1] == b'-' { at - 1 } else { at };
                let whole = !matches!(after, Some(b'.' | b'e' | b'E'));
                if whole && text[begin..at + length].parse::<i64>().is_err() {
                    return true;
                }
                // The rest of this number, so that its fraction is not taken for a number.
                let rest = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                at += bytes[at..].iter().take_while(rest).count() - 1;
            }
            _ => {}
        }
        at += 1;
    }
    false
}

struct Strict<'a> {
    depth: usize,
    large: &'a mut bool,
}

impl Strict<'_> {
    fn deeper<E: Error>(&mut self) -> Result<Strict<'_>, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!("deeper than {MAX_DEPTH} levels")));
        }
        Ok(Strict { depth: self.depth + 1, large: self.large })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

fn checked<E: Error>(text: &str) -> Result<&str, E> {
    if text.contains('\0') { Err(E::custom("a text contains NUL (\\u0000)")) } else { Ok(text) }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        match i64::try_from(value) {
            Ok(value) => Ok(Value::Number(value.into())),
            Err(_) => Err(E::custom(format_args!("{value} does not fit 64 bits with a sign"))),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        if value.abs() >= LONG_RANGE {
            *self.large = true;
        }
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(checked(value)?.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        checked::<E>(&value)?;
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.deeper()?)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            checked::<A::Error>(&name)?;
            let value = entries.next_value_seed(self.deeper()?)?;
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the name `{}` is there twice", shown(&name))));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// A client's text as far as a message repeats it.
pub(crate) fn shown(text: &str) -> String {
    const LIMIT: usize = 60;
    let mut short: String = text.chars().take(LIMIT).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &[u8], expected: &str) {
        let found = match parse(text) {
            Ok(value) => value.to_string(),
            Err(message) => message,
        };
        assert!(found.contains(expected), "{}: {found}", String::from_utf8_lossy(text));
    }

    #[test]
    fn what_is_accepted_comes_out_as_it_was() {
        check(
            br#" {"b":[1,-2.5,true,null],"a":"\u00e9\ud83d\ude00"} "#,
            "{\"a\":\"é😀\",\"b\":[1,-2.5,true,null]}",
        );
        check(b"9223372036854775807", "9223372036854775807");
        check(b"-9223372036854775808", "-9223372036854775808");
        check(b"[1e300, 9223372036854775808.0, -9223372036854775808, 9223372036854775807]", "1e+300");
        check(br#"{"text":"123456789012345678901234567890","n":1e20}"#, "1e+20");
        check(format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH)).as_bytes(), "[[[");
    }

    #[test]
    fn what_is_refused_is_refused_with_its_cause() {
        check(b"", "empty");
        check(b"{", "EOF");
        check(b"{} x", "trailing");
        check(b"nul", "not the JSON");
        check(br#"{"a":1,"a":2}"#, "`a` is there twice");
        check(br#"{"a":"x\u0000y"}"#, "NUL");
        check(br#"{"a\u0000":1}"#, "NUL");
        check(b"\"\x00\"", "control character");
        check(b"\"\xff\"", "not UTF-8 from byte 1");
        check(br#""\ud800""#, "not the JSON");
        check(b"9223372036854775808", "64 bits");
        check(b"18446744073709551616", "64 bits");
        check(b"[-9223372036854775809]", "64 bits");
        check(b"123456789012345678901234567890", "64 bits");
        check(b"1e400", "out of range");
        check(format!("{}1", "[".repeat(MAX_DEPTH + 1)).as_bytes(), "deeper than 64");
        check("[".repeat(100_000).as_bytes(), "deeper than 64");
        check("{\"a\":".repeat(100_000).as_bytes(), "deeper than 64");
    }
}
