//! The headers of a dead letter: those of the original record, byte for byte, and after them our own.

use std::sync::Arc;

use saga_defs::ids::{DeadLetterId, SagaId};
use saga_defs::time::Timestamp;

use crate::headers::{HeaderError, Reader, UUID};
use crate::record::Headers;

const PREFIX: &str = "saga-dlq-";
const CONNECT_PREFIX: &str = "__connect.errors.";

const ID: &str = "saga-dlq-id";
const REASON: &str = "saga-dlq-reason";
const MESSAGE: &str = "saga-dlq-message";
const TOPIC: &str = "saga-dlq-topic";
const PARTITION: &str = "saga-dlq-partition";
const OFFSET: &str = "saga-dlq-offset";
const SOURCE: &str = "saga-dlq-source";
const ATTEMPTS: &str = "saga-dlq-attempts";
const FIRST_FAILED_AT: &str = "saga-dlq-first-failed-at";
const LAST_FAILED_AT: &str = "saga-dlq-last-failed-at";
const SAGA_ID: &str = "saga-dlq-saga-id";
const STEP: &str = "saga-dlq-step";
/// How many of the headers are the original's: they come first.
const ORIGINAL_HEADERS: &str = "saga-dlq-original-headers";
/// On the redriven copy of a dead letter: which letter that was.
const REDRIVE_OF: &str = "saga-dlq-redrive-of";

/// In place of a partition or an offset: none in particular.
pub const NOWHERE: i32 = -1;
const PLACE: &str = "a number from 0, or -1 for none in particular";

/// The longest text of a failure in a header, in characters.
const MAX_MESSAGE_CHARS: usize = 2_000;

/// Why, where and when a record became a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterHeaders {
    /// The letter: the same record makes the same letter.
    pub id: DeadLetterId,
    /// The kind of failure, e.g. `undecodable`, `unhandled`.
    pub reason: Arc<str>,
    /// The failure in words. Long texts are cut when written.
    pub message: String,
    /// Where the record was.
    pub topic: Arc<str>,
    /// Where in the topic; [`NOWHERE`] for none in particular.
    pub partition: i32,
    /// Where in the partition; [`NOWHERE`] for none in particular: a command that used up its attempts was at several.
    pub offset: i64,
    /// Who gave up on it: a participant's name, or `orchestrator`.
    pub source: Arc<str>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it failed first.
    pub first_failed_at: Timestamp,
    /// When it failed last.
    pub last_failed_at: Timestamp,
    /// The saga, if known.
    pub saga_id: Option<SagaId>,
    /// The step, if known.
    pub step: Option<Arc<str>>,
    /// The earlier letter that this is a redriven copy of. Read from the original's headers, and so not written anew.
    pub redrive_of: Option<DeadLetterId>,
}

impl DeadLetterHeaders {
    /// The headers of the letter for a record with these headers: first they, unchanged, then ours, then those that
    /// Kafka Connect's consoles know.
    pub fn write(&self, original: &Headers) -> Headers {
        let mut headers = original.clone();
        let message: String = self.message.chars().take(MAX_MESSAGE_CHARS).collect();
        headers.push(ORIGINAL_HEADERS, original.len().to_string());
        headers.push_text(ID, self.id);
        headers.push(REASON, &*self.reason);
        headers.push(MESSAGE, &*message);
        headers.push(TOPIC, &*self.topic);
        headers.push_text(PARTITION, self.partition);
        headers.push_text(OFFSET, self.offset);
        headers.push(SOURCE, &*self.source);
        headers.push_text(ATTEMPTS, self.attempts);
        headers.push_text(FIRST_FAILED_AT, self.first_failed_at);
        headers.push_text(LAST_FAILED_AT, self.last_failed_at);
        if let Some(saga_id) = self.saga_id {
            headers.push_text(SAGA_ID, saga_id);
        }
        if let Some(step) = &self.step {
            headers.push(STEP, &**step);
        }
        let stage = if &*self.reason == "undecodable" { "VALUE_CONVERTER" } else { "TASK_PUT" };
        headers.push("__connect.errors.topic", &*self.topic);
        headers.push_text("__connect.errors.partition", self.partition);
        headers.push_text("__connect.errors.offset", self.offset);
        headers.push("__connect.errors.connector.name", &*self.source);
        headers.push("__connect.errors.stage", stage);
        headers.push("__connect.errors.exception.class.name", &*self.reason);
        headers.push("__connect.errors.exception.message", &*message);
        headers
    }

    /// From the headers of a letter. A letter about a letter is no problem: the last header of a name counts.
    ///
    /// # Errors
    /// The first header that is not as it has to be.
    pub fn read(headers: &Headers) -> Result<Self, HeaderError> {
        let reader = Reader::last_of_each(headers);
        let optional = |name, allowed| reader.optional(name, allowed);
        let saga_id = match optional(SAGA_ID, UUID)? {
            Some(_) => Some(reader.parsed(SAGA_ID, UUID)?),
            None => None,
        };
        Ok(Self {
            id: reader.parsed(ID, UUID)?,
            reason: reader.name(REASON)?,
            message: reader.text(MESSAGE, "a text")?.to_owned(),
            topic: reader.topic(TOPIC)?,
            partition: reader.at_least(PARTITION, NOWHERE, PLACE)?,
            offset: reader.at_least(OFFSET, i64::from(NOWHERE), PLACE)?,
            source: reader.name(SOURCE)?,
            attempts: reader.at_least_zero(ATTEMPTS)?,
            first_failed_at: reader.time(FIRST_FAILED_AT)?,
            last_failed_at: reader.time(LAST_FAILED_AT)?,
            saga_id,
            step: optional(STEP, "a step's name")?.map(Into::into),
            redrive_of: redrive_of(&Self::original(headers)),
        })
    }

    /// The headers of the record that became the letter, byte for byte. If somebody else wrote the letter, those that
    /// do not look like ours.
    pub fn original(headers: &Headers) -> Headers {
        original_of_dead_letter(headers)
    }
}

/// As [`DeadLetterHeaders::original`].
pub fn original_of_dead_letter(headers: &Headers) -> Headers {
    let written = headers.text(ORIGINAL_HEADERS).and_then(|count| count.parse::<usize>().ok());
    let count = written.filter(|count| *count <= headers.len());
    let ours =
        |name: &str| (name.starts_with(PREFIX) && name != REDRIVE_OF) || name.starts_with(CONNECT_PREFIX);
    match count {
        Some(count) => headers.iter().take(count).collect(),
        None => headers.iter().filter(|(name, _)| !ours(name)).collect(),
    }
}

/// The headers for the one redriven copy of a letter: the original's, and which letter it is.
pub fn redriven_copy(original: &Headers, of: DeadLetterId) -> Headers {
    let mut headers = original.clone();
    headers.remove(REDRIVE_OF);
    headers.push_text(REDRIVE_OF, of);
    headers
}

/// Which letter this record is a redriven copy of, if it is one.
pub fn redrive_of(headers: &Headers) -> Option<DeadLetterId> {
    headers.text(REDRIVE_OF).and_then(|id| id.parse().ok())
}
