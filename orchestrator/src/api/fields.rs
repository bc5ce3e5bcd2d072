//! The fields of a request's body: taken out one by one, so that all that is wrong is said at once.

use saga_defs::Data;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::problem::{FieldError, Problem};
use super::strict_json::shown;

/// The fields that are left, and what was wrong so far.
pub(crate) struct Fields {
    left: Data,
    wrong: Vec<FieldError>,
}

impl Fields {
    pub(crate) const fn new(fields: Data) -> Self {
        Self { left: fields, wrong: Vec::new() }
    }

    /// A field's value; `null` counts as absent.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    fn wrong(&mut self, name: &str, message: impl Into<String>) {
        self.wrong.push(FieldError::new(name, message));
    }

    /// Notes what somebody else found.
    pub(crate) fn complain(&mut self, errors: impl IntoIterator<Item = FieldError>) {
        self.wrong.extend(errors);
    }

    fn required(&mut self, name: &str, expected: &str) -> Option<Value> {
        let value = self.take(name);
        if value.is_none() {
            self.wrong(name, format!("is missing; {expected} is expected"));
        }
        value
    }

    /// A UUID that must be there, in its canonical spelling.
    pub(crate) fn uuid(&mut self, name: &str) -> Option<Uuid> {
        let value = self.required(name, "a UUID")?;
        let id = value.as_str().filter(|text| text.len() == 36).and_then(|text| Uuid::try_parse(text).ok());
        if id.is_none() {
            self.wrong(name, format!("must be a UUID as text; found {}", found(&value)));
        }
        id
    }

    /// A text that must be there and says something, of at most `limit` characters.
    pub(crate) fn text(&mut self, name: &str, limit: usize) -> Option<String> {
        let value = self.required(name, "a text")?;
        self.checked_text(name, value, limit)
    }

    /// Such a text that need not be there.
    pub(crate) fn optional_text(&mut self, name: &str, limit: usize) -> Option<String> {
        let value = self.take(name)?;
        self.checked_text(name, value, limit)
    }

    fn checked_text(&mut self, name: &str, value: Value, limit: usize) -> Option<String> {
        match value {
            Value::String(text) if text.trim().is_empty() => self.wrong(name, "must not be empty"),
            Value::String(text) if text.chars().count() > limit => {
                self.wrong(
                    name,
                    format!("must have at most {limit} characters; it has {}", text.chars().count()),
                );
            }
            Value::String(text) => return Some(text),
            other => self.wrong(name, format!("must be a text; found {}", found(&other))),
        }
        None
    }

    /// A whole number in a range that need not be there.
    pub(crate) fn optional_integer(&mut self, name: &str, min: i64, max: i64) -> Option<i64> {
        let value = self.take(name)?;
        match value.as_i64() {
            Some(number) if (min..=max).contains(&number) => return Some(number),
            Some(number) => self.wrong(name, format!("must be {min} to {max}; found {number}")),
            None => self.wrong(name, format!("must be a whole number; found {}", found(&value))),
        }
        None
    }

    /// An object that must be there.
    pub(crate) fn object(&mut self, name: &str) -> Option<Data> {
        let value = self.required(name, "an object")?;
        self.checked_object(name, value)
    }

    /// An object that need not be there.
    pub(crate) fn optional_object(&mut self, name: &str) -> Option<Data> {
        let value = self.take(name)?;
        self.checked_object(name, value)
    }

    fn checked_object(&mut self, name: &str, value: Value) -> Option<Data> {
        match value {
            Value::Object(fields) => return Some(fields),
            other => self.wrong(name, format!("must be an object; found {}", found(&other))),
        }
        None
    }

    /// An array of at most `limit` values that need not be there.
    pub(crate) fn optional_array(&mut self, name: &str, limit: usize) -> Option<Vec<Value>> {
        let value = self.take(name)?;
        match value {
            Value::Array(items) if items.len() <= limit => return Some(items),
            Value::Array(items) => {
                self.wrong(name, format!("must have at most {limit} entries; it has {}", items.len()));
            }
            other => self.wrong(name, format!("must be an array; found {}", found(&other))),
        }
        None
    }

    /// A truth value that need not be there.
    pub(crate) fn optional_flag(&mut self, name: &str) -> Option<bool> {
        let value = self.take(name)?;
        let flag = value.as_bool();
        if flag.is_none() {
            self.wrong(name, format!("must be true or false; found {}", found(&value)));
        }
        flag
    }

    /// A UUID that need not be there.
    pub(crate) fn optional_uuid(&mut self, name: &str) -> Option<Uuid> {
        let value = self.take(name)?;
        let id = value.as_str().and_then(|text| Uuid::try_parse(text).ok());
        if id.is_none() {
            self.wrong(name, format!("must be a UUID as text; found {}", found(&value)));
        }
        id
    }

    /// An array of UUIDs that need not be there.
    pub(crate) fn optional_uuids(&mut self, name: &str, limit: usize) -> Option<Vec<Uuid>> {
        let items = self.optional_array(name, limit)?;
        let id = |value: &Value| value.as_str().and_then(|text| Uuid::try_parse(text).ok());
        let ids: Vec<Option<Uuid>> = items.iter().map(id).collect();
        if let Some(at) = ids.iter().position(Option::is_none) {
            self.wrong(&format!("{name}[{at}]"), "must be a UUID as text");
        }
        ids.into_iter().collect()
    }

    /// An RFC 3339 time that need not be there.
    pub(crate) fn optional_time(&mut self, name: &str) -> Option<OffsetDateTime> {
        let value = self.take(name)?;
        let time = value.as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        if time.is_none() {
            self.wrong(name, format!("must be a time such as 2026-01-02T03:04:05Z; found {}", found(&value)));
        }
        time
    }

    /// One of a few words that must be there.
    pub(crate) fn word(&mut self, name: &str, words: &[&str]) -> Option<String> {
        if self.left.get(name).is_none_or(Value::is_null) {
            self.wrong(name, format!("is missing; {} is expected", words.join(" or ")));
            return None;
        }
        self.optional_word(name, words)
    }

    /// One of a few words that need not be there.
    pub(crate) fn optional_word(&mut self, name: &str, words: &[&str]) -> Option<String> {
        let value = self.take(name)?;
        match value.as_str() {
            Some(text) if words.contains(&text) => return Some(text.to_owned()),
            _ => self.wrong(name, format!("must be {}; found {}", words.join(" or "), found(&value))),
        }
        None
    }

    /// Everything is taken: what is left is unknown. Ends with everything that is wrong, if anything is.
    pub(crate) fn done(self) -> Result<(), Problem> {
        let wrong = self.errors();
        if wrong.is_empty() { Ok(()) } else { Err(Problem::validation(wrong)) }
    }

    /// The same as a list.
    pub(crate) fn errors(mut self) -> Vec<FieldError> {
        for name in self.left.keys() {
            self.wrong.push(FieldError::new(shown(name), "is not a field of this request"));
        }
        self.wrong
    }

    /// Notes what is wrong in an object below a field.
    pub(crate) fn complain_below(&mut self, name: &str, inner: Self) {
        let below = |error: FieldError| FieldError { field: format!("{name}.{}", error.field), ..error };
        self.wrong.extend(inner.errors().into_iter().map(below));
    }
}

/// A value as a message shows it.
fn found(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "a truth value".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("`{}`", shown(text)),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
