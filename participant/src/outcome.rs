//! What a handler answers: an outcome with a reply, domain events, or a refusal.

use std::borrow::Cow;

use saga_defs::Data;
use serde::Serialize;

use crate::command::Message;

/// The longest refusal message that is sent, in characters; longer ones are cut.
const MESSAGE_CHARACTERS: usize = 500;

/// Why a command was rejected or failed: `saga.Refusal` on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Refusal {
    /// A stable word for programs, e.g. `sold_out`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

impl Message for Refusal {
    const NAME: &'static str = "saga.Refusal";
}

impl Refusal {
    /// A refusal; a message over 500 characters is cut, and NUL characters (which Postgres cannot store) are left out.
    pub fn new(code: impl Into<String>, message: impl AsRef<str>) -> Self {
        let message = message.as_ref().chars().filter(|c| *c != '\0').take(MESSAGE_CHARACTERS).collect();
        Self { code: code.into(), message }
    }
}

/// Whether the reply reaches the orchestrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The reply is sent, and sent again whenever the command comes again.
    Sent,
    /// The reply is recorded and never sent: what a lost reply looks like, for demonstrations and tests.
    Lost,
}

/// What became of one command.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome<R> {
    /// The effect happened. It is recorded with its reply and events; the command will never run again.
    Succeeded {
        /// The reply's body.
        reply: R,
        /// What everyone else may know about it.
        events: Vec<DomainEvent>,
        /// Normally [`Delivery::Sent`].
        delivery: Delivery,
    },
    /// Business refuses, and nothing happened. It is recorded; only an operator's redrive runs the command again.
    Rejected {
        /// Why.
        refusal: Refusal,
        /// What everyone else may know about it.
        events: Vec<DomainEvent>,
    },
    /// It did not work, nothing happened, and it may work later. The attempt is recorded as failed, so that no copy of it
    /// runs; the next attempt does. The handler must have written nothing for this command.
    Failed(Refusal),
}

impl<R> Outcome<R> {
    /// The effect happened; no events.
    pub fn succeeded(reply: R) -> Self {
        Self::Succeeded { reply, events: Vec::new(), delivery: Delivery::Sent }
    }

    /// Business refuses; no events.
    pub fn rejected(code: impl Into<String>, message: impl AsRef<str>) -> Self {
        Self::Rejected { refusal: Refusal::new(code, message), events: Vec::new() }
    }

    /// The same with one more domain event. A failed command publishes none, so it stays as it is.
    pub fn with_event(mut self, event: DomainEvent) -> Self {
        match &mut self {
            Self::Succeeded { events, .. } | Self::Rejected { events, .. } => events.push(event),
            Self::Failed(_) => {}
        }
        self
    }

    /// The same with its reply lost; only a success has a reply to lose.
    pub fn losing_reply(mut self) -> Self {
        if let Self::Succeeded { delivery, .. } = &mut self {
            *delivery = Delivery::Lost;
        }
        self
    }
}

/// Something that happened, told to everyone on a topic of its own. Published at least once, after the commit that
/// recorded it; repeats carry the same `event-id` header.
#[derive(Debug, Clone, PartialEq)]
pub struct DomainEvent {
    pub(crate) topic: Cow<'static, str>,
    pub(crate) key: String,
    pub(crate) message_type: &'static str,
    pub(crate) body: Result<Data, String>,
}

impl DomainEvent {
    /// An event for `topic`, keyed by `key` (all events of one key stay in order).
    pub fn new<M: Message + Serialize>(
        topic: impl Into<Cow<'static, str>>,
        key: impl Into<String>,
        body: &M,
    ) -> Self {
        Self { topic: topic.into(), key: key.into(), message_type: M::NAME, body: to_data(body) }
    }
}

/// A message's fields by name, or why it has none.
pub(crate) fn to_data<M: Serialize>(message: &M) -> Result<Data, String> {
    match serde_json::to_value(message) {
        Ok(serde_json::Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(format!("a message must be a record with fields, found {other}")),
        Err(error) => Err(error.to_string()),
    }
}
