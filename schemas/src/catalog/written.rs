//! Messages and schemas as they were written: for people, who want to see what is in the bytes, and not what the
//! newest version of the record makes of it.

use std::sync::Arc;

use saga_defs::Data;
use serde_json::Value;

use super::Catalog;
use crate::codec::{self, DecodeError};

/// A message with the schema that wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Full name of its record.
    pub message_type: Arc<str>,
    /// The version that wrote it. Versions that lay out bytes alike cannot be told apart: the newest of them.
    pub version: u32,
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
        let (fingerprint, body) = codec::split(bytes).map_err(|error| {
            let at_byte = if matches!(error, DecodeError::TooShort { .. }) { bytes.len() } else { 0 };
            Unreadable { error, at_byte }
        })?;
        let found = self.messages.iter().find_map(|(name, message)| {
            let newest = *message.versions.keys().next_back()?;
            let wrote = message.versions.iter().rev().find(|(_, found)| found.fingerprint == fingerprint);
            wrote.map(|(number, version)| (name, *number, newest, version))
        });
        let Some((name, version, newest, wrote)) = found else {
            let error = DecodeError::UnknownFingerprint { fingerprint };
            return Err(Unreadable { error, at_byte: codec::MAGIC_LEN });
        };
        let fields = codec::read_as_written(&wrote.shape, body)
            .map_err(|(error, read)| Unreadable { error, at_byte: codec::HEADER_LEN + read })?;
        Ok(Written { message_type: name.clone(), version, newest, fields })
    }
}
