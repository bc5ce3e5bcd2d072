//! Fields to bytes.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use saga_defs::Data;
use serde_json::{Number, Value};
use uuid::Uuid;

use super::{FieldProblem, shown_name};
use crate::shape::{FieldType, JsonKind, RecordShape};

/// More problems than this tell nobody more.
const PROBLEMS_LIMIT: usize = 100;

/// Longest piece of a wrong value that is shown.
const SHOWN_LIMIT_CHARS: usize = 40;

/// What to do with a name that the record does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnknownNames {
    /// Leave it out: fields are picked from a saga's data, which has more.
    Ignored,
    /// Say so: someone may have misspelt an optional field.
    Refused,
}

/// Writes one message, or one default. Goes on after a problem, to find the others.
pub(crate) struct Encoder {
    out: Vec<u8>,
    limit_bytes: usize,
    problems: Vec<FieldProblem>,
    unknown: UnknownNames,
}

/// What came of it.
pub(crate) enum Encoded {
    Bytes(Vec<u8>),
    Problems(Vec<FieldProblem>),
    TooLarge,
}

/// A place in the fields. Lives on the stack: it costs nothing while there is no problem to report.
#[derive(Clone, Copy)]
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    last: Segment<'a>,
}

#[derive(Clone, Copy)]
enum Segment<'a> {
    Name(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    fn name<'b>(parent: Option<&'b Place<'b>>, name: &'b str) -> Place<'b> {
        Place { parent, last: Segment::Name(name) }
    }

    fn item(&'a self, index: usize) -> Place<'a> {
        Place { parent: Some(self), last: Segment::Index(index) }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.last {
            Segment::Name(name) if self.parent.is_some() => write!(f, ".{}", shown_name(name)),
            Segment::Name(name) => f.write_str(&shown_name(name)),
            Segment::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl Encoder {
    /// Writes after what is in `out` already, at most `limit_bytes` in all.
    pub(crate) fn new(out: Vec<u8>, limit_bytes: usize, unknown: UnknownNames) -> Self {
        Self { out, limit_bytes, problems: Vec::new(), unknown }
    }

    /// Writes the fields of a message.
    pub(crate) fn message(mut self, shape: &RecordShape, fields: &Data) -> Encoded {
        self.record(shape, fields, None);
        self.finish()
    }

    /// Writes the value of one field.
    pub(crate) fn single(mut self, name: &str, ty: &FieldType, value: &Value) -> Encoded {
        self.value(ty, value, Place::name(None, name));
        self.finish()
    }

    fn finish(self) -> Encoded {
        if !self.problems.is_empty() {
            Encoded::Problems(self.problems)
        } else if self.out.len() > self.limit_bytes {
            Encoded::TooLarge
        } else {
            Encoded::Bytes(self.out)
        }
    }

    fn record(&mut self, shape: &RecordShape, fields: &Data, place: Option<&Place<'_>>) {
        for field in &shape.fields {
            match (fields.get(&*field.name), &field.default) {
                (Some(value), _) => self.value(&field.ty, value, Place::name(place, &field.name)),
                (None, Some(default)) => self.out.extend_from_slice(&default.encoded),
                (None, None) => {
                    self.problem(Place::name(place, &field.name), || {
                        format!("missing: expected {}", Expected(&field.ty))
                    });
                }
            }
        }
        if self.unknown == UnknownNames::Refused {
            self.refuse_unknown(shape, fields, place);
        }
    }

    fn refuse_unknown(&mut self, shape: &RecordShape, fields: &Data, place: Option<&Place<'_>>) {
        for name in fields.keys().filter(|name| shape.field(name).is_none()).take(PROBLEMS_LIMIT) {
            let known = || shape.fields.iter().map(|field| &*field.name).collect::<Vec<_>>().join(", ");
            self.problem(Place::name(place, name), || {
                format!("unknown: the fields of {} are {}", shape.full_name, known())
            });
        }
    }

    fn value(&mut self, ty: &FieldType, value: &Value, place: Place<'_>) {
        // An array of records may repeat a large default for each `{}`.
        if self.out.len() > self.limit_bytes {
            return;
        }
        match (ty, value) {
            (FieldType::Null, Value::Null) => {}
            (FieldType::Boolean, Value::Bool(truth)) => self.out.push(u8::from(*truth)),
            (FieldType::Int, Value::Number(number)) => self.integer(ty, true, number, place),
            (FieldType::Long, Value::Number(number)) => self.integer(ty, false, number, place),
            (FieldType::Time(time), Value::Number(number)) => self.integer(ty, time.is_int(), number, place),
            (FieldType::Float, Value::Number(number)) => self.float(ty, number, place),
            (FieldType::Double, Value::Number(number)) => match number.as_f64() {
                Some(number) => self.out.extend_from_slice(&number.to_le_bytes()),
                None => self.wrong(ty, value, place),
            },
            (FieldType::String, Value::String(text)) => self.bytes(text.as_bytes()),
            (FieldType::Uuid, Value::String(text)) if is_uuid(text) => self.bytes(text.as_bytes()),
            (FieldType::Bytes, Value::String(text)) => match BASE64.decode(text) {
                Ok(bytes) => self.bytes(&bytes),
                Err(_) => self.wrong(ty, value, place),
            },
            (FieldType::Fixed(fixed), Value::String(text)) => match BASE64.decode(text) {
                Ok(bytes) if bytes.len() == fixed.size => self.out.extend_from_slice(&bytes),
                _ => self.wrong(ty, value, place),
            },
            (FieldType::Enum(symbols), Value::String(text)) => {
                match symbols.symbols.iter().position(|symbol| **symbol == **text) {
                    Some(index) => self.long(index as i64),
                    None => self.wrong(ty, value, place),
                }
            }
            (FieldType::Array(items), Value::Array(values)) => self.list(items, values, place),
            (FieldType::Map(values), Value::Object(entries)) => self.map(values, entries, place),
            (FieldType::Union(branches), _) => {
                let kind = JsonKind::of(value);
                match branches.iter().position(|branch| branch.json_kind() == kind) {
                    Some(index) => {
                        self.long(index as i64);
                        self.value(&branches[index], value, place);
                    }
                    None => self.wrong(ty, value, place),
                }
            }
            (FieldType::Record(shape), Value::Object(fields)) => self.record(shape, fields, Some(&place)),
            _ => self.wrong(ty, value, place),
        }
    }

    fn integer(&mut self, ty: &FieldType, is_int: bool, number: &Number, place: Place<'_>) {
        match number.as_i64() {
            Some(number) if !is_int || i32::try_from(number).is_ok() => self.long(number),
            _ => self.wrong(ty, &Value::Number(number.clone()), place),
        }
    }

    fn float(&mut self, ty: &FieldType, number: &Number, place: Place<'_>) {
        match number.as_f64().map(|number| number as f32) {
            Some(number) if number.is_finite() => self.out.extend_from_slice(&number.to_le_bytes()),
            _ => self.wrong(ty, &Value::Number(number.clone()), place),
        }
    }

    fn list(&mut self, items: &FieldType, values: &[Value], place: Place<'_>) {
        if !values.is_empty() {
            self.long(values.len() as i64);
            for (index, value) in values.iter().enumerate() {
                self.value(items, value, place.item(index));
            }
        }
        self.out.push(0);
    }

    fn map(&mut self, values: &FieldType, entries: &Data, place: Place<'_>) {
        if !entries.is_empty() {
            self.long(entries.len() as i64);
            for (name, value) in entries {
                self.bytes(name.as_bytes());
                self.value(values, value, Place::name(Some(&place), name));
            }
        }
        self.out.push(0);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.long(bytes.len() as i64);
        self.out.extend_from_slice(bytes);
    }

    /// Zigzag, then seven bits a byte, lowest first.
    fn long(&mut self, number: i64) {
        let mut rest = ((number << 1) ^ (number >> 63)) as u64;
        while rest >= 0x80 {
            self.out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.out.push(rest as u8);
    }

    #[cold]
    fn wrong(&mut self, ty: &FieldType, value: &Value, place: Place<'_>) {
        self.problem(place, || format!("expected {}, found {}", Expected(ty), shown(value)));
    }

    #[cold]
    fn problem(&mut self, place: Place<'_>, message: impl FnOnce() -> String) {
        if self.problems.len() < PROBLEMS_LIMIT {
            self.problems.push(FieldProblem { field: place.to_string(), message: message() });
        }
    }
}

/// Whether a text is a UUID in the hyphenated form, the only one that has one spelling but for case.
pub(super) fn is_uuid(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

/// A wrong value, short enough for a message to a person.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        _ => {
            let text = value.to_string();
            match text.char_indices().nth(SHOWN_LIMIT_CHARS) {
                Some((end, _)) => format!("{}...", &text[..end]),
                None => text,
            }
        }
    }
}

/// What would have been right, as in "expected a long".
struct Expected<'a>(&'a FieldType);

impl fmt::Display for Expected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            FieldType::Null => f.write_str("null"),
            FieldType::Boolean => f.write_str("true or false"),
            FieldType::Int => f.write_str("an int (32 bits)"),
            FieldType::Long => f.write_str("a long"),
            FieldType::Float => f.write_str("a float"),
            FieldType::Double => f.write_str("a double"),
            FieldType::Bytes => f.write_str("base64 text"),
            FieldType::String => f.write_str("a string"),
            FieldType::Uuid => f.write_str("a uuid"),
            FieldType::Time(time) if time.is_int() => write!(f, "an int ({})", time.as_str()),
            FieldType::Time(time) => write!(f, "a long ({})", time.as_str()),
            FieldType::Fixed(fixed) => write!(f, "base64 text of {} bytes", fixed.size),
            FieldType::Enum(symbols) => {
                f.write_str("one of ")?;
                for (i, symbol) in symbols.symbols.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { ", " })?;
                    f.write_str(symbol)?;
                }
                Ok(())
            }
            FieldType::Array(_) => f.write_str("a list"),
            FieldType::Map(_) | FieldType::Record(_) => f.write_str("an object"),
            FieldType::Union(branches) => {
                for (i, branch) in branches.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { " or " })?;
                    Expected(branch).fmt(f)?;
                }
                Ok(())
            }
        }
    }
}
