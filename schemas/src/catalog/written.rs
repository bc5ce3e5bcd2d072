//! Messages and schemas as they were written: for people, who want to see what is in the bytes, and not what the
//! newest version of the record makes of it.

use std::sync::Arc;

use saga_defs::Data;
use serde_json::Value;

use super::Catalog;
use crate::codec::{self, DecodeError, Writer};
use crate::registry::SchemaId;
use crate::shape::RecordShape;

/// A message with the schema that wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Full name of its record.
    pub message_type: Arc<str>,
    /// The version that wrote it. Versions that lay out bytes alike cannot be told apart: the newest of them. `None`: a
    /// schema that is only known from the registry.
    pub version: Option<u32>,
    /// The newest version that is known.
    pub newest: u32,
    /// The fields of the version that wrote it.
    pub fields: Data,
}

/// Why bytes are no message, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}, at byte {at_byte}")]
pub struct Unreadable {
    /// What is wrong.
    pub error: DecodeError,
    /// The byte, counted from 0, where what is wrong begins.
    pub at_byte: usize,
}

impl Catalog {
    /// The newest version of a record as its `.avsc` has it, with its documentation and whatever attributes its author gave
    /// it: for those who show it to others.
    pub fn source(&self, full_name: &str) -> Option<(u32, &Value)> {
        let (number, version) = self.messages.get(full_name)?.versions.iter().next_back()?;
        Some((*number, &version.source))
    }

    /// Reads a message with the schema that wrote it, however old that is.
    ///
    /// # Errors
    /// What is wrong with the bytes, and where.
    pub fn decode_as_written(&self, bytes: &[u8]) -> Result<Written, Unreadable> {
        let (writer, body) = codec::split(bytes).map_err(|error| {
            let at_byte = if matches!(error, DecodeError::TooShort { .. }) { bytes.len() } else { 0 };
            Unreadable { error, at_byte }
        })?;
        let (wrote, at_byte) = match writer {
            Writer::Fingerprint(fingerprint) => (self.wrote(fingerprint), codec::MAGIC_LEN),
            Writer::Registered(id) => (self.wrote_by_id(id), codec::REGISTERED_MAGIC_LEN),
        };
        let wrote = wrote.map_err(|error| Unreadable { error, at_byte })?;
        let fields = codec::read_as_written(&wrote.shape, body)
            .map_err(|(error, read)| Unreadable { error, at_byte: writer.header_len() + read })?;
        let Wrote { message_type, version, newest, .. } = wrote;
        Ok(Written { message_type, version, newest, fields })
    }

    fn wrote(&self, fingerprint: u64) -> Result<Wrote, DecodeError> {
        let found = self.messages.iter().find_map(|(name, message)| {
            let newest = *message.versions.keys().next_back()?;
            let wrote = message.versions.iter().rev().find(|(_, found)| found.fingerprint == fingerprint);
            wrote.map(|(&version, wrote)| {
                let (message_type, shape) = (name.clone(), wrote.shape.clone());
                Wrote { message_type, version: Some(version), newest, shape }
            })
        });
        found.ok_or(DecodeError::UnknownFingerprint { fingerprint })
    }

    fn wrote_by_id(&self, id: SchemaId) -> Result<Wrote, DecodeError> {
        let learned = self.learned(id)?;
        if let Ok(ours) = self.wrote(learned.fingerprint) {
            return Ok(ours);
        }
        let message_type = learned.shape.full_name.clone();
        let known = self.messages.get(&message_type).and_then(|message| message.versions.keys().next_back());
        match known {
            Some(&newest) => Ok(Wrote { message_type, version: None, newest, shape: learned.shape.clone() }),
            None => Err(DecodeError::UnknownRecord { id, message_type }),
        }
    }
}

/// Who wrote a message.
struct Wrote {
    message_type: Arc<str>,
    version: Option<u32>,
    newest: u32,
    shape: Arc<RecordShape>,
}
