//! A catalog with a registry: ids in front of messages.

use std::sync::Arc;

use serde_json::Value;

use super::{Catalog, Version};
use crate::codec::{self, DecodeError};
use crate::registry::ids::Learned;
use crate::registry::{Registry, SchemaId};
use crate::shape::RecordShape;

/// One version of one record on one topic, as a registry is asked for it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// `<topic>-<full name>`.
    pub(crate) subject: Arc<str>,
    /// `<subject>.v<N>`, for people.
    pub(crate) place: Arc<str>,
    /// `<name>.v<N>`.
    pub(crate) key: Arc<str>,
    /// The schema as it stands in its file.
    pub(crate) text: Arc<str>,
    /// What two texts must share to be the same schema.
    pub(crate) content: Arc<Value>,
    pub(crate) shape: Arc<RecordShape>,
    pub(crate) fingerprint: u64,
}

impl Catalog {
    /// The same schemas, whose messages are written with the ids that this registry has for them, and that reads messages
    /// with ids. A schema without an id is written in single-object encoding, which all readers take: see
    /// [`Registry::obtain`]. What grows from this catalog has the registry, too.
    #[must_use]
    pub fn with_registry(&self, registry: Arc<Registry>) -> Self {
        Self { registry: Some(registry), ..self.clone() }
    }

    /// The registry, if there is one.
    pub const fn registry(&self) -> Option<&Arc<Registry>> {
        self.registry.as_ref()
    }

    /// All versions of the records that go to a topic, by subject: in order of name and topic, each in order of number.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = Vec<Entry>> {
        self.messages.iter().flat_map(|(name, message)| {
            self.topics(name).into_iter().map(move |topic| {
                let subject: Arc<str> = format!("{topic}-{name}").into();
                let entry = |version: &Version| Entry {
                    subject: subject.clone(),
                    place: format!("{topic}-{}", version.key).into(),
                    key: version.key.clone(),
                    text: version.text.clone(),
                    content: version.content.clone(),
                    shape: version.shape.clone(),
                    fingerprint: version.fingerprint,
                };
                message.versions.values().map(entry).collect()
            })
        })
    }

    /// Begins a message.
    pub(super) fn begin(&self, version: &Version, out: &mut Vec<u8>) {
        match self.registry.as_ref().and_then(|registry| registry.ids().of_writer(&version.key)) {
            Some(id) => out.extend_from_slice(&codec::registered_header(id)),
            None => out.extend_from_slice(&version.header),
        }
    }

    /// What is known of an id.
    pub(super) fn learned(&self, id: SchemaId) -> Result<Arc<Learned>, DecodeError> {
        let registry = self.registry.as_ref().ok_or(DecodeError::NoRegistry { id })?;
        registry.ids().schema(id).map_err(|why| DecodeError::UnknownId { id, why })
    }
}
