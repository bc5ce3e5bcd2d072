//! Reads `saga.dead-letters` and stores what others put there.
//!
//! Our own letters are stored by the commit that made them and come back here as an export: they are passed over. The
//! offset is committed after the letters are stored, and a letter that is stored stays as it is, so that reading a
//! record twice does no harm.

use std::sync::Arc;
use std::time::Duration;

use messaging::headers::{DeadLetterHeaders, NOWHERE, redrive_of};
use messaging::{
    Assignments, Consumer, ConsumerEvent, ConsumerLimits, Headers, KafkaError, KafkaSettings, Received,
    StartAt,
};
use participant::crash::{self, Point};
use saga_defs::ids::DeadLetterId;
use saga_defs::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::engine::{DEAD_LETTERS, clock};
use crate::metrics::Metrics;
use crate::store::letters::{LetterChange, LetterRow};
use crate::store::{Store, StoreError};

/// The consumer group.
pub const GROUP: &str = "saga-orchestrator-dead-letters";
/// Letters stored in one transaction.
const BATCH: usize = 200;
/// How long to wait before asking a database again that did not answer.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the last commit of offsets may take.
const LAST_COMMIT: Duration = Duration::from_secs(3);
/// The source of letters that are ours.
const OURS: &[u8] = b"orchestrator";

struct FromCommitted;

impl Assignments for FromCommitted {
    fn assigned(&self, _generation: u64, partitions: &[(Arc<str>, i32)]) -> Vec<StartAt> {
        vec![StartAt::CommittedOrEarliest; partitions.len()]
    }

    fn revoked(&self, _generation: u64, _partitions: &[(Arc<str>, i32)]) {}
}

/// Stores letters until told to stop.
///
/// # Errors
/// When a Kafka setting is refused.
pub async fn run(
    kafka: KafkaSettings,
    store: Store,
    incarnation: Arc<str>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> Result<(), KafkaError> {
    let limits = ConsumerLimits { batch_records: BATCH, queued_batches: 2 };
    let (consumer, mut events) =
        Consumer::start(&kafka.unhurried(), GROUP, &[DEAD_LETTERS], limits, Arc::new(FromCommitted))?;
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => break,
            event = events.recv() => event,
        };
        match event {
            Some(ConsumerEvent::Records(polled)) => {
                let changes: Vec<LetterChange> =
                    polled.records.iter().filter_map(|record| change(record, &incarnation)).collect();
                if !changes.is_empty() && !keep(&store, &changes, &stop).await {
                    break;
                }
                crash::pass(Point::LettersKept);
                for change in &changes {
                    if let LetterChange::Keep(letter) = change {
                        metrics.dead_letter(&letter.reason);
                    }
                }
                let next: Vec<_> =
                    polled.records.iter().map(|r| (r.topic.clone(), r.partition, r.offset + 1)).collect();
                consumer.commit(&furthest(next));
            }
            Some(ConsumerEvent::OffsetVanished { partition, text, .. }) => {
                tracing::error!(
                    partition,
                    text,
                    "dead letters were dropped from the topic before they were read"
                );
            }
            Some(ConsumerEvent::Failed(text)) => {
                tracing::debug!(text, "the dead-letter consumer has trouble")
            }
            None => break,
        }
    }
    if let Err(error) = consumer.flush_commits(LAST_COMMIT).await {
        tracing::info!(%error, "the last offsets were not committed; those letters are looked at again");
    }
    // Leaving the group joins a thread.
    let _ = tokio::task::spawn_blocking(move || consumer.stop()).await;
    Ok(())
}

/// Stores letters, asking until the database answers. `false`: told to stop meanwhile; they are read again.
async fn keep(store: &Store, changes: &[LetterChange], stop: &CancellationToken) -> bool {
    loop {
        match store.ingest(changes).await {
            Ok(()) => return true,
            Err(StoreError::Refused { message, .. }) if changes.len() == 1 => {
                tracing::error!(message, "the database refuses a dead letter; it stays on the topic only");
                return true;
            }
            Err(StoreError::Refused { .. }) => {
                // One of them is refused: store them one by one.
                for one in changes {
                    if !Box::pin(keep(store, std::slice::from_ref(one), stop)).await {
                        return false;
                    }
                }
                return true;
            }
            Err(error) => tracing::warn!(%error, "dead letters cannot be stored now; trying again"),
        }
        tokio::select! {
            () = stop.cancelled() => return false,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// The next offset of each partition.
fn furthest(mut next: Vec<(Arc<str>, i32, i64)>) -> Vec<(Arc<str>, i32, i64)> {
    next.sort_by_key(|(_, partition, offset)| (*partition, std::cmp::Reverse(*offset)));
    next.dedup_by_key(|(_, partition, _)| *partition);
    next
}

/// What a record of the topic means for the table; `None` for our own exports.
fn change(record: &Received, incarnation: &str) -> Option<LetterChange> {
    if record.headers.get("saga-dlq-source") == Some(OURS) {
        return None;
    }
    let read = DeadLetterHeaders::read(&record.headers);
    if let Ok(DeadLetterHeaders { redrive_of: Some(first), message, .. }) = &read {
        let reason = format!("failed again: {message}");
        return Some(LetterChange::Reopen { id: *first, at: clock::now(), reason });
    }
    let original = DeadLetterHeaders::original(&record.headers);
    if let (Err(error), Some(first)) = (&read, redrive_of(&original)) {
        // A record that was found on this topic and redriven is back: no second letter about it.
        let reason = format!("failed again: a record without a dead letter's headers: {error}");
        return Some(LetterChange::Reopen { id: first, at: clock::now(), reason });
    }
    let letter = match read {
        Ok(headers) => known(record, headers, original),
        Err(error) => foreign(record, incarnation, &error.to_string(), original),
    };
    Some(LetterChange::Keep(letter))
}

fn known(record: &Received, headers: DeadLetterHeaders, original: Headers) -> LetterRow {
    let direction = original.text("direction").and_then(|text| text.parse().ok());
    let message_type = original.text("message-type").map(str::to_owned);
    LetterRow {
        id: headers.id,
        reason: headers.reason.to_string(),
        message: headers.message,
        source: headers.source.to_string(),
        topic: headers.topic.to_string(),
        partition: Some(headers.partition).filter(|&partition| partition > NOWHERE),
        offset: Some(headers.offset).filter(|&offset| offset > i64::from(NOWHERE)),
        key: record.key.clone(),
        value: record.value.clone(),
        headers: original,
        timestamp: record.timestamp_ms.map(Timestamp::from_unix_millis),
        message_type,
        saga: headers.saga_id,
        step: headers.step.map(|step| step.to_string()),
        direction,
        attempts: i32::try_from(headers.attempts).unwrap_or(i32::MAX),
        first_failed_at: headers.first_failed_at,
        last_failed_at: headers.last_failed_at,
    }
}

/// Somebody else's record on our topic is kept as well, so that nothing is lost.
fn foreign(record: &Received, incarnation: &str, error: &str, original: Headers) -> LetterRow {
    let now = clock::now();
    let timestamp = record.timestamp_ms.map(Timestamp::from_unix_millis);
    let placed_at = timestamp.filter(|at| at.unix_millis() > 0).unwrap_or_default();
    LetterRow {
        id: DeadLetterId::of_record(incarnation, &record.topic, record.partition, record.offset, placed_at),
        reason: "unknown".to_owned(),
        message: format!("a record without a dead letter's headers: {error}"),
        source: "unknown".to_owned(),
        topic: record.topic.to_string(),
        partition: Some(record.partition),
        offset: Some(record.offset),
        key: record.key.clone(),
        value: record.value.clone(),
        message_type: original.text("message-type").map(str::to_owned),
        headers: original,
        timestamp,
        saga: None,
        step: None,
        direction: None,
        attempts: 1,
        first_failed_at: now,
        last_failed_at: now,
    }
}
