//! What a field's values look like, and which values can fill which field.

use std::fmt;
use std::sync::Arc;

/// An Avro record, as far as checking a definition needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Namespace and name, e.g. `booking.ReserveBooking`.
    pub full_name: Arc<str>,
    /// Its fields, each name once.
    pub fields: Vec<Field>,
}

impl Record {
    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| &*field.name == name)
    }
}

/// One field of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name.
    pub name: Arc<str>,
    /// The type of its value.
    pub ty: Type,
    /// Whether the record has a default for it, so that it may be left out.
    pub has_default: bool,
}

/// The type of a field's value. `Display` writes it as in `long`, `null | uuid`, `array<string>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Type {
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
    /// Any bytes; base64 text in the saga's data.
    Bytes,
    /// Text.
    String,
    /// Text in the hyphenated form of a UUID.
    Uuid,
    /// A date or time as a number.
    Time {
        /// What it counts, in Avro's words, e.g. `timestamp-millis`.
        unit: &'static str,
        /// Whether the number has 32 bits; else it has 64.
        is_int: bool,
    },
    /// So many bytes; base64 text in the saga's data.
    Fixed {
        /// How many.
        size: usize,
    },
    /// One of some symbols; text in the saga's data.
    Enum(Vec<Arc<str>>),
    /// A list.
    Array(Arc<Type>),
    /// Any names, each with a value of this type.
    Map(Arc<Type>),
    /// One of two or more types whose values look different in the saga's data.
    Union(Vec<Type>),
    /// A record inside a record.
    Record(Arc<Record>),
}

/// What a value looks like in the saga's data, which is JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Null,
    Boolean,
    Number,
    Text,
    List,
    Object,
    /// A union: depends on the value.
    Any,
}

impl Type {
    /// Whether every value of type `other` can fill a field of this type without losing anything.
    ///
    /// Beside equal types: int to long and double, float to double, a date or time to its number, a uuid or an enum to
    /// string, a fixed to bytes, a type to a union that has it, a union to a type that takes each of its branches, an
    /// enum to one with more symbols, a record to one whose fields it provides (with defaults for those it has not);
    /// arrays and maps as what is in them. Names of enums, fixed and records do not matter, since the data has none.
    ///
    /// Not a nullable value to a field that is not, nor a number to a time: its unit would be a guess.
    pub fn accepts(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Union(others)) => others.iter().all(|other| self.accepts(other)),
            (Self::Union(branches), _) => branches
                .iter()
                // Writing picks the branch by what the value looks like, so only that one counts.
                .any(|branch| branch.look() == other.look() && branch.accepts(other)),
            (Self::Long | Self::Double, Self::Int) | (Self::Double, Self::Float) => true,
            (Self::String, Self::Uuid | Self::Enum(_)) | (Self::Long, Self::Time { .. }) => true,
            (Self::Int, Self::Time { is_int, .. }) => *is_int,
            (Self::Bytes, Self::Fixed { .. }) => true,
            (Self::Enum(mine), Self::Enum(theirs)) => theirs.iter().all(|symbol| mine.contains(symbol)),
            (Self::Array(mine), Self::Array(theirs)) | (Self::Map(mine), Self::Map(theirs)) => {
                mine.accepts(theirs)
            }
            (Self::Record(mine), Self::Record(theirs)) => {
                mine.fields.iter().all(|field| match theirs.field(&field.name) {
                    Some(other) => field.ty.accepts(&other.ty),
                    None => field.has_default,
                })
            }
            _ => self == other,
        }
    }

    /// Whether its values may be null beside others.
    pub(super) fn is_nullable(&self) -> bool {
        matches!(self, Self::Union(branches) if branches.contains(&Self::Null))
    }

    fn look(&self) -> Look {
        match self {
            Self::Null => Look::Null,
            Self::Boolean => Look::Boolean,
            Self::Int | Self::Long | Self::Float | Self::Double | Self::Time { .. } => Look::Number,
            Self::Bytes | Self::String | Self::Uuid | Self::Fixed { .. } | Self::Enum(_) => Look::Text,
            Self::Array(_) => Look::List,
            Self::Map(_) | Self::Record(_) => Look::Object,
            Self::Union(_) => Look::Any,
        }
    }
}

impl fmt::Display for Type {
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
            Self::Time { unit, .. } => f.write_str(unit),
            Self::Fixed { size } => write!(f, "fixed of {size} bytes"),
            Self::Enum(symbols) => {
                let all: Vec<&str> = symbols.iter().take(SHOWN_SYMBOLS).map(|symbol| &**symbol).collect();
                let more = if symbols.len() > SHOWN_SYMBOLS { ", …" } else { "" };
                write!(f, "enum({}{more})", all.join(", "))
            }
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

/// Of an enum no more symbols than these are shown.
const SHOWN_SYMBOLS: usize = 8;
