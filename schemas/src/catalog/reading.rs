//! Messages to the fields of the newest version of their record.

use std::borrow::Cow;
use std::sync::Arc;

use saga_defs::Data;

use super::{Catalog, Reading};
use crate::codec::{self, DecodeError, Decoded, Writer};
use crate::registry::SchemaId;

impl Catalog {
    /// Reads a message: its bytes say which version of which record wrote it; the fields are those of the newest version.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes, see [`DecodeError`].
    pub fn decode(&self, bytes: &[u8]) -> Result<Decoded, DecodeError> {
        let (reading, body) = self.reading(bytes)?;
        let fields = codec::read_message(&reading.written, &reading.newest, body)?;
        Ok(Decoded { message_type: reading.newest.full_name.clone(), fields })
    }

    /// As [`Self::decode`], for one type of message.
    ///
    /// # Errors
    /// [`DecodeError::OtherType`] when it is another, or whatever is wrong with the bytes.
    pub fn decode_as(&self, full_name: &str, bytes: &[u8]) -> Result<Data, DecodeError> {
        let (reading, body) = self.reading(bytes)?;
        if *reading.newest.full_name != *full_name {
            let found = reading.newest.full_name.clone();
            return Err(DecodeError::OtherType { expected: full_name.to_owned(), found });
        }
        codec::read_message(&reading.written, &reading.newest, body)
    }

    /// Whether the schema that wrote this message is known. `true` also for what is no message at all.
    pub fn knows_writer(&self, bytes: &[u8]) -> bool {
        !matches!(
            self.reading(bytes),
            Err(DecodeError::UnknownFingerprint { .. } | DecodeError::UnknownRecord { .. })
        )
    }

    fn reading<'b>(&self, bytes: &'b [u8]) -> Result<(Cow<'_, Reading>, &'b [u8]), DecodeError> {
        let (writer, body) = codec::split(bytes)?;
        let reading = match writer {
            Writer::Fingerprint(fingerprint) => match self.readings.get(&fingerprint) {
                Some(reading) => Cow::Borrowed(reading),
                None => return Err(DecodeError::UnknownFingerprint { fingerprint }),
            },
            Writer::Registered(id) => self.registered_reading(id)?,
        };
        Ok((reading, body))
    }

    fn registered_reading(&self, id: SchemaId) -> Result<Cow<'_, Reading>, DecodeError> {
        let learned = self.learned(id)?;
        if let Some(reading) = self.readings.get(&learned.fingerprint) {
            return Ok(Cow::Borrowed(reading));
        }
        // Somebody registered a version that we do not have. What it has more is left out, what it lacks has defaults.
        let message_type = &learned.shape.full_name;
        match self.newest(message_type) {
            Some(newest) => {
                let (written, newest) = (Arc::clone(&learned.shape), newest.shape.clone());
                Ok(Cow::Owned(Reading { written, newest }))
            }
            None => Err(DecodeError::UnknownRecord { id, message_type: message_type.clone() }),
        }
    }
}
