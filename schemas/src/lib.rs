//! The Avro schemas of every message, and the codec that reads and writes them.
//!
//! Outside of this crate a message is [`Data`]: names to JSON values. Inside it is the body that its `.avsc` lays out,
//! in Avro's [single-object encoding]: `C3 01`, eight bytes that say which schema wrote it, the fields.
//!
//! ```
//! use schemas::Catalog;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let catalog = Catalog::shipped();
//! let fields = serde_json::json!({ "bookingId": "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b", "reason": "sold_out" });
//! let bytes = catalog.encode("booking.BookingCancelled", fields.as_object().ok_or("not an object")?)?;
//! let read = catalog.decode(&bytes)?;
//! assert_eq!(&*read.message_type, "booking.BookingCancelled");
//! assert_eq!(read.fields["reason"], "sold_out");
//! # Ok(())
//! # }
//! ```
//!
//! # Versions
//! `avro/<full name>.v<N>.avsc` holds version N of one record; every version ever published is kept, because its
//! messages may still lie in a topic. Writing uses the newest version; reading finds the version that wrote the bytes
//! by its fingerprint and hands out the fields of the newest. Any two versions of a name must be able to read each other
//! ([`SchemaError::Incompatible`] says when not), so readers and writers may be a version apart in either direction, and
//! a step back is possible. One order remains: the bytes name their schema but do not carry it, so give a new version to
//! those who read the message before those who write it.
//!
//! # How Avro becomes JSON
//! | Avro | JSON |
//! | --- | --- |
//! | null, boolean, string, array, map, record | the same |
//! | int, long | a number without fraction, in range |
//! | float, double | a number; what JSON cannot say (NaN, infinity) is refused |
//! | bytes, fixed | base64 text, standard alphabet, padded |
//! | enum | its symbol as text |
//! | uuid (a string) | text in the hyphenated form |
//! | date, time-millis, time-micros, timestamp-* | the number on the wire |
//! | union | the value itself, so no two branches may look alike in JSON |
//!
//! Refused when a schema is loaded, with a sentence that says so: decimal, big-decimal, duration, uuid that is not a
//! string, records that contain themselves, types that are defined in another file. Aliases are not followed.
//!
//! # Hostile bytes
//! Reading never panics. Every value is counted against [`DECODED_LIMIT_BYTES`] before there is room made for it,
//! whatever a length in the bytes claims (growing lists may hold some spare room on top), and the recursion is as deep
//! as the schema, which has no cycles.

mod avsc;
mod catalog;
mod codec;
mod compat;
mod messages;
pub mod registry;
mod shape;
#[cfg(feature = "testing")]
pub mod testing;

pub use catalog::{Catalog, INBOX, SOURCE_LIMIT_BYTES, SchemaError, Unreadable, Written, is_topic};
pub use codec::{
    BodyFault, DECODED_LIMIT_BYTES, DecodeError, Decoded, ENCODED_LIMIT_BYTES, EncodeError, FieldProblem,
};
pub use saga_defs::Data;
pub use shape::{EnumShape, FieldShape, FieldType, FixedShape, RecordShape, TimeType};
