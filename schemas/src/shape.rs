//! What a record looks like: the form of a schema that the codec walks and that definitions are checked against.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// The fields of one version of a record, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordShape {
    pub(crate) full_name: Arc<str>,
    pub(crate) fields: Vec<FieldShape>,
}

impl RecordShape {
    /// Namespace and name, e.g. `booking.ReserveBooking`.
    pub fn full_name(&self) -> &str {
        &self.full_name
    }

    /// All fields, in the order in which they are written.
    pub fn fields(&self) -> &[FieldShape] {
        &self.fields
    }

    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&FieldShape> {
        self.fields.iter().find(|field| &*field.name == name)
    }
}

/// One field of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldShape {
    pub(crate) name: Arc<str>,
    pub(crate) ty: FieldType,
    pub(crate) default: Option<DefaultValue>,
}

/// A default in the two forms that the codec needs, so that using it is a copy.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DefaultValue {
    pub(crate) json: Value,
    pub(crate) encoded: Box<[u8]>,
}

impl FieldShape {
    /// Its name, unique in the record.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of its value.
    pub fn ty(&self) -> &FieldType {
        &self.ty
    }

    /// Whether it may be absent.
    pub fn has_default(&self) -> bool {
        self.default.is_some()
    }

    /// The value of an absent one, in this crate's JSON form (bytes are base64 text).
    pub fn default(&self) -> Option<&Value> {
        self.default.as_ref().map(|default| &default.json)
    }
}

/// The type of a field's value. Comparable; `Display` writes it as in `long`, `null | uuid`, `array<string>`.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldType {
    /// Only null.
    Null,
    /// True or false.
    Boolean,
    /// 32 bits, signed.
    Int,
    /// 64 bits, signed.
    Long,
    /// 32 bits of binary floating point.
    Float,
    /// 64 bits of binary floating point.
    Double,
    /// Any bytes; base64 text in JSON.
    Bytes,
    /// Text.
    String,
    /// Text in the hyphenated form of a UUID.
    Uuid,
    /// A date or time as a number.
    Time(TimeType),
    /// So many bytes; base64 text in JSON.
    Fixed(Arc<FixedShape>),
    /// One of some symbols; text in JSON.
    Enum(Arc<EnumShape>),
    /// A list.
    Array(Arc<FieldType>),
    /// Any names, each with a value of this type.
    Map(Arc<FieldType>),
    /// One of two or more types that JSON can tell apart.
    Union(Arc<[FieldType]>),
    /// A record inside a record.
    Record(Arc<RecordShape>),
}

/// Avro's dates and times: what the number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeType {
    /// Days since 1970-01-01 (int).
    Date,
    /// Milliseconds after midnight (int).
    TimeMillis,
    /// Microseconds after midnight (long).
    TimeMicros,
    /// Milliseconds since 1970-01-01T00:00Z (long).
    TimestampMillis,
    /// Microseconds since 1970-01-01T00:00Z (long).
    TimestampMicros,
    /// Nanoseconds since 1970-01-01T00:00Z (long).
    TimestampNanos,
    /// Milliseconds since 1970-01-01T00:00 of some local time (long).
    LocalTimestampMillis,
    /// Microseconds since 1970-01-01T00:00 of some local time (long).
    LocalTimestampMicros,
    /// Nanoseconds since 1970-01-01T00:00 of some local time (long).
    LocalTimestampNanos,
}

impl TimeType {
    /// Avro's name for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Date => "date",
            Self::TimeMillis => "time-millis",
            Self::TimeMicros => "time-micros",
            Self::TimestampMillis => "timestamp-millis",
            Self::TimestampMicros => "timestamp-micros",
            Self::TimestampNanos => "timestamp-nanos",
            Self::LocalTimestampMillis => "local-timestamp-millis",
            Self::LocalTimestampMicros => "local-timestamp-micros",
            Self::LocalTimestampNanos => "local-timestamp-nanos",
        }
    }

    /// Whether the number is an int; else it is a long.
    pub const fn is_int(self) -> bool {
        matches!(self, Self::Date | Self::TimeMillis)
    }
}

/// A type of so many bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedShape {
    /// Its full name.
    pub full_name: Arc<str>,
    /// How many bytes.
    pub size: usize,
}

/// A type of some symbols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnumShape {
    /// Its full name.
    pub full_name: Arc<str>,
    /// The symbols, in order.
    pub symbols: Vec<Arc<str>>,
    /// Index of the symbol that a reader takes for one that it does not know.
    pub default: Option<usize>,
}

/// What a value looks like in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonKind {
    Null,
    Boolean,
    Number,
    Text,
    List,
    Object,
    /// A union: depends on the value.
    Any,
}

impl JsonKind {
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::Text,
            Value::Array(_) => Self::List,
            Value::Object(_) => Self::Object,
        }
    }
}

impl FieldType {
    pub(crate) fn json_kind(&self) -> JsonKind {
        match self {
            Self::Null => JsonKind::Null,
            Self::Boolean => JsonKind::Boolean,
            Self::Int | Self::Long | Self::Float | Self::Double | Self::Time(_) => JsonKind::Number,
            Self::Bytes | Self::String | Self::Uuid | Self::Fixed(_) | Self::Enum(_) => JsonKind::Text,
            Self::Array(_) => JsonKind::List,
            Self::Map(_) | Self::Record(_) => JsonKind::Object,
            Self::Union(_) => JsonKind::Any,
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean => f.write_str("boolean"),
            Self::Int => f.write_str("int"),
            Self::Long => f.write_str("long"),
            Self::Float => f.write_str("float"),
            Self::Double => f.write_str("double"),
            Self::Bytes => f.write_str("bytes"),
            Self::String => f.write_str("string"),
            Self::Uuid => f.write_str("uuid"),
            Self::Time(time) => f.write_str(time.as_str()),
            Self::Fixed(fixed) => write!(f, "fixed {} ({} bytes)", fixed.full_name, fixed.size),
            Self::Enum(symbols) => write!(f, "enum {}", symbols.full_name),
            Self::Array(items) => write!(f, "array<{items}>"),
            Self::Map(values) => write!(f, "map<{values}>"),
            Self::Union(branches) => {
                for (i, branch) in branches.iter().enumerate() {
                    let separator = if i == 0 { "" } else { " | " };
                    write!(f, "{separator}{branch}")?;
                }
                Ok(())
            }
            Self::Record(record) => write!(f, "record {}", record.full_name),
        }
    }
}
