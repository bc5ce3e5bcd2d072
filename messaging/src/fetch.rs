//! Looking into topics and groups, for tests, tools and lag displays. All of this blocks and makes a client per call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::{Offset, TopicPartitionList};
use uuid::Uuid;

use crate::client_log::Logged;
use crate::events::{Event, EventQueue};
use crate::record::Received;
use crate::settings::{KafkaError, KafkaSettings, QUESTION_TIMEOUT};

/// How long reading a whole topic may take without any progress.
const STALLED: Duration = Duration::from_secs(15);
/// The wait before a question is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// The longest wait for one record.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// The records that a partition holds: from `low` to just below `high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// The partition.
    pub partition: i32,
    /// The offset of the oldest record.
    pub low: i64,
    /// The offset of the next record to come.
    pub high: i64,
}

/// The watermarks of all partitions of a topic, in order; empty if there is no such topic.
///
/// # Errors
/// The broker does not answer.
pub fn watermarks(settings: &KafkaSettings, topic: &str) -> Result<Vec<Watermarks>, KafkaError> {
    watermarks_of(settings, &reader(settings)?, topic)
}

/// All records that a topic holds at this moment, partition after partition, in order.
///
/// # Errors
/// The broker does not answer, or stops to deliver.
pub fn read_all(settings: &KafkaSettings, topic: &str) -> Result<Vec<Received>, KafkaError> {
    read_last(settings, topic, i64::MAX)
}

/// At most so many of the newest records of each partition of a topic, partition after partition, in order.
///
/// # Errors
/// The broker does not answer, or stops to deliver.
pub fn read_last(settings: &KafkaSettings, topic: &str, most: i64) -> Result<Vec<Received>, KafkaError> {
    let reader = reader(settings)?;
    let mut open: Vec<Watermarks> = watermarks_of(settings, &reader, topic)?;
    for partition in &mut open {
        partition.low = partition.low.max(partition.high.saturating_sub(most));
    }
    open.retain(|w| w.high > w.low);
    let failed = |source| unreachable(settings, format!("the records of {topic}"), source);
    let mut list = TopicPartitionList::new();
    for w in &open {
        list.add_partition_offset(topic, w.partition, Offset::Offset(w.low)).map_err(|e| failed(Some(e)))?;
    }
    reader.assign(&list).map_err(|e| failed(Some(e)))?;
    let mut events = EventQueue::of(&reader).ok_or_else(|| failed(None))?;
    let (mut records, mut deadline) = (Vec::new(), Instant::now() + STALLED);
    while !open.is_empty() {
        match events.poll(POLL_WAIT) {
            Some(Event::Record(record)) => {
                deadline = Instant::now() + STALLED;
                open.retain(|w| w.partition != record.partition || record.offset + 1 < w.high);
                records.push(record);
            }
            _ if Instant::now() >= deadline => return Err(failed(None)),
            _ => {}
        }
    }
    records.sort_by_key(|record: &Received| (record.partition, record.offset));
    Ok(records)
}

/// The offsets that a group has committed: the next one to be read, `None` if there is no commit.
///
/// # Errors
/// The broker or the group's coordinator does not answer.
pub fn committed(
    settings: &KafkaSettings,
    group: &str,
    places: &[(Arc<str>, i32)],
) -> Result<Vec<Option<i64>>, KafkaError> {
    let failed = |source| unreachable(settings, format!("the offsets of group {group}"), Some(source));
    let client: BaseConsumer<Logged> = settings
        .consumer(group)?
        .create_with_context(Logged)
        .map_err(|source| KafkaError::client("consumer", source))?;
    let mut list = TopicPartitionList::new();
    for (topic, partition) in places {
        list.add_partition(topic, *partition);
    }
    let list = client.committed_offsets(list, QUESTION_TIMEOUT).map_err(failed)?;
    let offset_of = |(topic, partition): &(Arc<str>, i32)| {
        let Some(element) = list.find_partition(topic, *partition) else {
            return Ok(None);
        };
        element.error().map_err(failed)?;
        Ok(match element.offset() {
            Offset::Offset(next) => Some(next),
            _ => None,
        })
    };
    places.iter().map(offset_of).collect()
}

/// A consumer needs a group even when it never joins one.
fn reader(settings: &KafkaSettings) -> Result<BaseConsumer<Logged>, KafkaError> {
    let group = format!("reader-{}", Uuid::new_v4());
    settings
        .consumer(&group)?
        .create_with_context(Logged)
        .map_err(|source| KafkaError::client("consumer", source))
}

fn watermarks_of(
    settings: &KafkaSettings,
    reader: &BaseConsumer<Logged>,
    topic: &str,
) -> Result<Vec<Watermarks>, KafkaError> {
    let failed = |source| unreachable(settings, format!("the watermarks of {topic}"), Some(source));
    let all = reader.fetch_metadata(None, QUESTION_TIMEOUT).map_err(failed)?;
    let Some(known) = all.topics().iter().find(|known| known.name() == topic) else {
        return Ok(Vec::new());
    };
    let mut partitions: Vec<i32> = known.partitions().iter().map(|partition| partition.id()).collect();
    partitions.sort_unstable();
    partitions
        .into_iter()
        .map(|partition| {
            let (low, high) =
                patiently(|limit| reader.fetch_watermarks(topic, partition, limit)).map_err(failed)?;
            Ok(Watermarks { partition, low, high })
        })
        .collect()
}

/// Asks again until there is an answer: a topic made a moment ago has a leader that does not know it yet.
fn patiently<T>(ask: impl Fn(Duration) -> Result<T, ClientError>) -> Result<T, ClientError> {
    let deadline = Instant::now() + QUESTION_TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match ask(left.max(ASK_AGAIN)) {
            Err(_) if left > ASK_AGAIN => std::thread::sleep(ASK_AGAIN),
            answer => return answer,
        }
    }
}

fn unreachable(settings: &KafkaSettings, question: String, source: Option<ClientError>) -> KafkaError {
    let source = source.map(Into::into);
    KafkaError::Unreachable { question, servers: settings.bootstrap_servers.clone(), source }
}
