//! JSON to bytes and back, by walking a [`RecordShape`](crate::RecordShape).

mod decode;
mod encode;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use saga_defs::Data;

use crate::registry::SchemaId;

pub(crate) use decode::{Decoder, read_as_written, read_message};
pub(crate) use encode::{Encoded, Encoder, UnknownNames};

/// Most bytes that one encoded message may have.
pub const ENCODED_LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// Most memory that the fields of one decoded message may take.
pub const DECODED_LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// Longest piece of a name from outside that is shown.
const SHOWN_NAME_LIMIT_CHARS: usize = 64;

/// First two bytes of Avro's single-object encoding.
const MAGIC: [u8; MAGIC_LEN] = [0xC3, 0x01];

/// Bytes before the fingerprint.
pub(crate) const MAGIC_LEN: usize = 2;

/// Magic and fingerprint.
pub(crate) const HEADER_LEN: usize = 10;

/// First byte of the wire format of schema registries.
const REGISTERED_MAGIC: u8 = 0;

/// Bytes before the id.
pub(crate) const REGISTERED_MAGIC_LEN: usize = 1;

/// Magic and id.
pub(crate) const REGISTERED_LEN: usize = 5;

/// The first ten bytes of every message that was written with the schema of this fingerprint.
pub(crate) fn header(fingerprint: u64) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..2].copy_from_slice(&MAGIC);
    header[2..].copy_from_slice(&fingerprint.to_le_bytes());
    header
}

/// What a message says of its writer's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    /// Its fingerprint.
    Fingerprint(u64),
    /// Its id in a registry.
    Registered(SchemaId),
}

impl Writer {
    /// How many bytes come before the body.
    pub(crate) const fn header_len(self) -> usize {
        match self {
            Self::Fingerprint(_) => HEADER_LEN,
            Self::Registered(_) => REGISTERED_LEN,
        }
    }
}

/// The first bytes of every message that was written with the schema of this id.
pub(crate) fn registered_header(id: SchemaId) -> [u8; REGISTERED_LEN] {
    let mut header = [REGISTERED_MAGIC; REGISTERED_LEN];
    header[1..].copy_from_slice(&id.0.to_be_bytes());
    header
}

/// Splits a message into what it says of its writer's schema, and the body.
pub(crate) fn split(bytes: &[u8]) -> Result<(Writer, &[u8]), DecodeError> {
    if bytes.first() == Some(&REGISTERED_MAGIC) {
        let Some((head, body)) = bytes.split_first_chunk::<REGISTERED_LEN>() else {
            return Err(DecodeError::TooShort { length: bytes.len(), header: REGISTERED_LEN });
        };
        let [_, id @ ..] = *head;
        return Ok((Writer::Registered(SchemaId(u32::from_be_bytes(id))), body));
    }
    if let Some(found) = bytes.first_chunk::<2>()
        && *found != MAGIC
    {
        return Err(DecodeError::WrongMagic { found: *found });
    }
    let Some((head, body)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return Err(DecodeError::TooShort { length: bytes.len(), header: HEADER_LEN });
    };
    let [_, _, fingerprint @ ..] = *head;
    Ok((Writer::Fingerprint(u64::from_le_bytes(fingerprint)), body))
}

/// A message that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// Full name of its record.
    pub message_type: Arc<str>,
    /// The fields of the newest version of that record.
    pub fields: Data,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// Where it is: `amountMinor`, `lines[2].price`; empty when it is about the message as a whole.
    pub field: String,
    /// What was expected and what was found.
    pub message: String,
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", at(&self.field), self.message)
    }
}

/// Why fields could not be written as a message.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// No schema has that name.
    #[error("no schema is named {message_type}")]
    UnknownType {
        /// The name asked for.
        message_type: String,
    },
    /// Some fields are missing or wrong; at most a hundred are named.
    #[error("{message_type} cannot be written: {}", in_one_line(problems))]
    Fields {
        /// The record.
        message_type: Arc<str>,
        /// Each wrong field.
        problems: Vec<FieldProblem>,
    },
    /// The message would be larger than [`ENCODED_LIMIT_BYTES`].
    #[error("{message_type} cannot be written: it takes more than {ENCODED_LIMIT_BYTES} bytes")]
    TooLarge {
        /// The record.
        message_type: Arc<str>,
    },
}

fn in_one_line(problems: &[FieldProblem]) -> String {
    problems.iter().map(FieldProblem::to_string).collect::<Vec<_>>().join("; ")
}

/// Why bytes could not be read as a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not even a header.
    #[error("{length} bytes are too few for a message: its header alone has {header}")]
    TooShort {
        /// How many bytes there are.
        length: usize,
        /// How many bytes its header has.
        header: usize,
    },
    /// It does not start as a message does.
    #[error("starts with {:02x} {:02x}, not with c3 01 as Avro's single-object encoding does", found[0], found[1])]
    WrongMagic {
        /// The first two bytes.
        found: [u8; 2],
    },
    /// No known schema wrote it.
    #[error("no known schema has the fingerprint {fingerprint:016x}")]
    UnknownFingerprint {
        /// CRC-64-AVRO of the writer's schema.
        fingerprint: u64,
    },
    /// It has an id of a schema registry, and there is none.
    #[error(
        "is in the wire format of a schema registry (schema id {id}), and none is set: SCHEMA_REGISTRY_URL says where it is"
    )]
    NoRegistry {
        /// The registry's id of the writer's schema.
        id: SchemaId,
    },
    /// It has an id whose schema is not known.
    #[error("the schema with the id {id} of the schema registry is not known: {why}")]
    UnknownId {
        /// The registry's id of the writer's schema.
        id: SchemaId,
        /// Why not.
        why: Arc<str>,
    },
    /// The registry knows who wrote it, but no schema is known here to read it with.
    #[error(
        "is a {message_type} (schema id {id} of the schema registry), and no schema is known here by that name"
    )]
    UnknownRecord {
        /// The registry's id of the writer's schema.
        id: SchemaId,
        /// The full name of its record.
        message_type: Arc<str>,
    },
    /// It is a message of another type than the one asked for.
    #[error("is a {found}, not a {expected}")]
    OtherType {
        /// The type asked for.
        expected: String,
        /// The type found.
        found: Arc<str>,
    },
    /// The bytes after the header do not fit the writer's schema.
    #[error("{message_type} cannot be read: {}{fault}", at(field))]
    Body {
        /// The record.
        message_type: Arc<str>,
        /// Where: `amountMinor`, `lines[2].price`; empty when it is the record as a whole.
        field: String,
        /// What is wrong there.
        fault: BodyFault,
    },
}

/// A name from outside, fit for a message: short, and without control characters.
fn shown_name(name: &str) -> Cow<'_, str> {
    if name.len() <= SHOWN_NAME_LIMIT_CHARS && !name.chars().any(char::is_control) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.chars().take(SHOWN_NAME_LIMIT_CHARS).flat_map(char::escape_debug).collect())
}

fn at(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("{field}: ") }
}

/// What is wrong with a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// It ends inside a value.
    #[error("the bytes end too early")]
    Truncated,
    /// Bytes are left after the last field.
    #[error("{count} bytes are left over after the last field")]
    LeftOver {
        /// How many.
        count: usize,
    },
    /// An integer with more bits than its type has.
    #[error("an integer does not fit its type")]
    IntegerRange,
    /// A boolean that is neither 0 nor 1.
    #[error("a boolean is {found}, not 0 or 1")]
    NotBoolean {
        /// The byte.
        found: u8,
    },
    /// A negative length.
    #[error("a length is negative")]
    NegativeLength,
    /// A text that is not UTF-8.
    #[error("a text is not UTF-8")]
    NotUtf8,
    /// A uuid that is none.
    #[error("a uuid is not in the hyphenated form")]
    NotUuid,
    /// NaN or infinity.
    #[error("a number is not finite")]
    NotFinite,
    /// The index of a union's branch or of an enum's symbol that does not exist.
    #[error("index {found} is not one of 0 to {last}")]
    NoSuchIndex {
        /// The index.
        found: i64,
        /// The highest one allowed.
        last: usize,
    },
    /// The value would take more memory than [`DECODED_LIMIT_BYTES`].
    #[error("the message takes more than {DECODED_LIMIT_BYTES} bytes of memory")]
    TooLarge,
    /// The newest version has no place for what another one wrote. Versions like that are refused when they are loaded, so
    /// this is only seen of what somebody else has registered.
    #[error("the newest version that is known here cannot hold what was written with another schema")]
    NoPlace,
}
