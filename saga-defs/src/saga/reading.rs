//! Reading an event fast: a journal has hundreds of millions.

use std::sync::Arc;

use serde::Deserialize;

use super::{Echo, Event, Outcome, Refusal};
use crate::Data;
use crate::ids::CommandId;

impl Event {
    /// From its JSON form, as serde reads it, and several times as fast for starts and replies: serde has to keep a
    /// tagged object as a whole until it has seen the tag, and an outcome within it once more.
    ///
    /// # Errors
    /// It is no event.
    pub fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        let read = if json.starts_with(br#"{"type":"replied","#) {
            serde_json::from_slice(json).ok().and_then(Reply::event)
        } else if json.starts_with(br#"{"type":"started","#) {
            serde_json::from_slice(json).ok().and_then(Start::event)
        } else {
            None
        };
        // What is not as expected is left to serde, which knows what to say about it.
        read.map_or_else(|| serde_json::from_slice(json), Ok)
    }
}

#[derive(Deserialize)]
struct Start {
    input: Option<Data>,
    #[serde(rename = "businessKey")]
    business_key: Option<Arc<str>>,
    traceparent: Option<Arc<str>>,
}

impl Start {
    fn event(self) -> Option<Event> {
        let Self { input, business_key, traceparent } = self;
        Some(Event::Started { input: input?, business_key, traceparent })
    }
}

/// A reply, with all fields side by side as they stand in the JSON.
#[derive(Deserialize)]
struct Reply {
    #[serde(rename = "commandId")]
    command_id: CommandId,
    echo: Option<Echo>,
    outcome: Kind,
    fields: Option<Data>,
    refusal: Option<Refusal>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Succeeded,
    Rejected,
    Failed,
}

impl Reply {
    fn event(self) -> Option<Event> {
        let outcome = match self.outcome {
            Kind::Succeeded => Outcome::Succeeded { fields: self.fields? },
            Kind::Rejected => Outcome::Rejected { refusal: self.refusal? },
            Kind::Failed => Outcome::Failed { refusal: self.refusal? },
        };
        Some(Event::Replied { command_id: self.command_id, echo: self.echo, outcome })
    }
}
