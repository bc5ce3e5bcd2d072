//! Dead letters: records that this participant cannot handle, passed on byte for byte with their cause.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use messaging::headers::{CommandHeaders, DeadLetterHeaders, name, redrive_of};
use messaging::{Received, Record};
use saga_defs::ids::DeadLetterId;
use saga_defs::time::Timestamp;

/// Where dead letters go.
pub const DEAD_LETTERS: &str = "saga.dead-letters";

/// Why a record became a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its headers or its body cannot be read.
    Undecodable,
    /// It can be read, and this participant has no handler for it.
    Unhandled,
    /// It was handled, but the broker will never take its reply or event.
    Unpublishable,
}

impl Reason {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::Unhandled => "unhandled",
            Self::Unpublishable => "unpublishable",
        }
    }
}

/// Writes dead letters.
#[derive(Debug, Clone)]
pub(crate) struct Letters {
    topic: Arc<str>,
    /// The participant.
    source: Arc<str>,
    /// Which broker the offsets are of.
    incarnation: Arc<str>,
}

impl Letters {
    pub(crate) fn new(source: &str, incarnation: &str) -> Self {
        Self { topic: DEAD_LETTERS.into(), source: source.into(), incarnation: incarnation.into() }
    }

    /// The letter for a record: its key, value, headers and timestamp as they are, and the cause in further headers.
    /// The same record gives a letter with the same id.
    pub(crate) fn of_record(&self, received: &Received, reason: Reason, message: &str) -> Record {
        let now = now();
        let at = received.timestamp_ms.map_or(now, Timestamp::from_unix_millis);
        let command = CommandHeaders::read(&received.headers).ok();
        // Headers that cannot be read as a whole may still say whose they are.
        let saga_id = received.headers.text(name::SAGA_ID).and_then(|text| text.parse().ok());
        let headers = DeadLetterHeaders {
            id: DeadLetterId::of_record(
                &self.incarnation,
                &received.topic,
                received.partition,
                received.offset,
                at,
            ),
            reason: reason.as_str().into(),
            message: message.to_owned(),
            topic: received.topic.clone(),
            partition: received.partition,
            offset: received.offset,
            source: self.source.clone(),
            attempts: command.as_ref().map_or(1, |command| command.attempt.0),
            first_failed_at: now,
            last_failed_at: now,
            saga_id,
            step: command.map(|command| command.step),
            redrive_of: redrive_of(&received.headers),
        };
        Record {
            topic: self.topic.clone(),
            partition: None,
            key: received.key.clone(),
            value: received.value.clone(),
            headers: headers.write(&received.headers),
            timestamp_ms: received.timestamp_ms,
        }
    }
}

/// The time of day.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
