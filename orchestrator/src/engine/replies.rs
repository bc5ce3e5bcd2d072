//! A record of `saga.inbox`, read: a reply to a saga of ours, or one of the things that it can be instead.

use messaging::Received;
use messaging::headers::{OutcomeKind, ReplyHeaders, redrive_of};
use saga_defs::ids::{CommandId, DeadLetterId, SagaId, Shard, ShardCount};
use saga_defs::saga::{Echo, Outcome, Refusal};
use saga_defs::time::Timestamp;
use schemas::Catalog;

use crate::store::letters::LetterRow;

/// The Avro record of a refusal or a failure.
const REFUSAL: &str = "saga.Refusal";
/// A value is decoded only up to this size; larger ones are dead letters.
pub const MAX_REPLY_BYTES: usize = 1024 * 1024;

/// What a record turned out to be.
#[derive(Debug)]
pub enum Reply {
    /// A reply, decoded.
    Read {
        /// To which saga.
        saga: SagaId,
        /// To which command.
        command: CommandId,
        /// The Avro record of its value.
        message_type: String,
        /// Which sending of the command it answers; kept only where that matters.
        echo: Option<Echo>,
        /// What it says.
        outcome: Outcome,
    },
    /// A reply to a saga of another shard: to be passed on.
    Elsewhere(Shard),
    /// Nothing that can be read.
    Unreadable {
        /// Why.
        message: String,
        /// The saga its header names, if that much can be read.
        saga: Option<SagaId>,
    },
}

/// Reads a record. Never fails: what cannot be read is said to be so.
pub fn read(record: &Received, shards: ShardCount, catalog: &Catalog) -> Reply {
    let headers = match ReplyHeaders::read(&record.headers) {
        Ok(headers) => headers,
        Err(error) => {
            let saga = record.headers.text("saga-id").and_then(|text| text.parse().ok());
            return Reply::Unreadable { message: error.to_string(), saga };
        }
    };
    let shard = headers.saga_id.shard(shards);
    if i32::from(shard.0) != record.partition {
        return Reply::Elsewhere(shard);
    }
    let saga = Some(headers.saga_id);
    let Some(value) = record.value.as_deref() else {
        return Reply::Unreadable { message: "the record has no value (a tombstone)".to_owned(), saga };
    };
    if value.len() > MAX_REPLY_BYTES {
        let message = format!("the value has {} bytes; at most {MAX_REPLY_BYTES} are read", value.len());
        return Reply::Unreadable { message, saga };
    }
    match outcome(&headers, value, catalog) {
        Ok((message_type, outcome)) => {
            // A success counts whichever sending it answers: the journal need not say which.
            let echo = headers.echo.filter(|_| headers.outcome != OutcomeKind::Succeeded);
            Reply::Read { saga: headers.saga_id, command: headers.command_id, message_type, echo, outcome }
        }
        Err(message) => Reply::Unreadable { message, saga },
    }
}

fn outcome(headers: &ReplyHeaders, value: &[u8], catalog: &Catalog) -> Result<(String, Outcome), String> {
    let decoded = catalog.decode(value).map_err(|error| error.to_string())?;
    if decoded.message_type != headers.message_type {
        return Err(format!(
            "the header message-type says {}, the value is a {}",
            headers.message_type, decoded.message_type
        ));
    }
    if headers.outcome == OutcomeKind::Succeeded {
        let outcome = Outcome::Succeeded { fields: decoded.fields };
        return Ok((decoded.message_type.to_string(), outcome));
    }
    if &*decoded.message_type != REFUSAL {
        return Err(format!(
            "the outcome {} comes with a {REFUSAL}, not with a {}",
            headers.outcome.as_str(),
            decoded.message_type
        ));
    }
    let text = |name: &str| decoded.fields.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    let refusal = Refusal::new(text("code"), text("message"));
    let outcome = match headers.outcome {
        OutcomeKind::Rejected => Outcome::Rejected { refusal },
        OutcomeKind::Failed | OutcomeKind::Succeeded => Outcome::Failed { refusal },
    };
    Ok((REFUSAL.to_owned(), outcome))
}

/// The dead letter of a record of the inbox.
pub fn letter(
    record: &Received,
    incarnation: &str,
    reason: &str,
    message: String,
    saga: Option<SagaId>,
    now: Timestamp,
) -> LetterRow {
    let timestamp = record.timestamp_ms.map(Timestamp::from_unix_millis);
    // The id's place in time is the record's, so that reading the record again makes the same letter.
    let placed_at = timestamp.filter(|at| at.unix_millis() > 0).unwrap_or(Timestamp::from_unix_millis(0));
    LetterRow {
        id: DeadLetterId::of_record(incarnation, &record.topic, record.partition, record.offset, placed_at),
        reason: reason.to_owned(),
        message,
        source: "orchestrator".to_owned(),
        topic: record.topic.to_string(),
        partition: Some(record.partition),
        offset: Some(record.offset),
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
        timestamp,
        message_type: record.headers.text("message-type").map(str::to_owned),
        saga,
        step: None,
        direction: None,
        attempts: 1,
        first_failed_at: now,
        last_failed_at: now,
    }
}

/// The letter that this record is a redriven copy of, if it is one.
pub fn copy_of(record: &Received) -> Option<DeadLetterId> {
    redrive_of(&record.headers)
}
