//! Which topics records go to, as far as it is known here: that gives the subjects of a schema registry.

use std::collections::BTreeSet;
use std::sync::Arc;

use saga_defs::definition::{Definition, StepKind};
use serde_json::Value;

use super::Catalog;

/// The topic that all replies go to.
pub const INBOX: &str = "saga.inbox";
/// What every participant may answer, whatever its definitions name.
const ANSWERS: [&str; 2] = ["saga.Refusal", "saga.Undone"];

/// The attribute of a record that names the topic on which it is published.
const TOPIC: &str = "topic";
/// The attribute of a reply that names the compensation which it answers.
const COMPENSATION: &str = "answers";
/// The longest name of a topic that Kafka allows, in bytes.
const MAX_TOPIC_BYTES: usize = 249;

/// Whether Kafka takes it as the name of a topic.
pub fn is_topic(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_TOPIC_BYTES).contains(&text.len()) && text.bytes().all(legal) && text != "." && text != ".."
}

impl Catalog {
    /// The same schemas, and where these definitions send their records: commands to `<participant>.commands`, replies to
    /// [`INBOX`]. What the catalog knew of topics it still knows.
    #[must_use]
    pub fn with_definitions<'d>(&self, definitions: impl IntoIterator<Item = &'d Definition>) -> Self {
        let mut carried = Vec::new();
        for step in definitions.into_iter().flat_map(|definition| &definition.steps) {
            let commands = format!("{}.commands", step.participant);
            carried.push((step.command.to_string(), commands.clone()));
            carried.push((step.reply.to_string(), INBOX.to_owned()));
            if let StepKind::Compensatable { compensation } = &step.kind {
                carried.push((compensation.to_string(), commands));
                let answers = self.message_types().filter(|name| {
                    self.text_attribute(name, COMPENSATION)
                        .is_some_and(|answered| *answered == **compensation)
                });
                carried.extend(answers.map(|name| (name.to_owned(), INBOX.to_owned())));
            }
        }
        self.with_topics(carried)
    }

    /// The same schemas, and topics that records go to: pairs of full name and topic.
    #[must_use]
    pub fn with_topics(&self, carried: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut catalog = self.clone();
        for (record, topic) in carried {
            catalog.carried.entry(record.into()).or_default().insert(topic.into());
        }
        catalog
    }

    /// The topics that a record is known to go to, in order of name: those that it has been told of, and the one that its
    /// newest version names itself (`"topic"`). None: it is no message, or nobody here knows where it goes.
    pub fn topics(&self, full_name: &str) -> BTreeSet<Arc<str>> {
        let mut topics = self.carried.get(full_name).cloned().unwrap_or_default();
        if let Some(own) = self.text_attribute(full_name, TOPIC).filter(|topic| is_topic(topic)) {
            topics.insert(own.into());
        }
        if ANSWERS.contains(&full_name) {
            topics.insert(INBOX.into());
        }
        topics
    }

    /// The records that go to no topic that is known here, in order of name. A registry is not asked for them.
    pub fn without_topic(&self) -> impl Iterator<Item = &str> {
        self.message_types().filter(|name| self.topics(name).is_empty())
    }

    fn text_attribute(&self, full_name: &str, attribute: &str) -> Option<&str> {
        self.source(full_name)?.1.get(attribute).and_then(Value::as_str)
    }
}
