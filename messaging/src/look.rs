//! Quick looks at one partition and one group, for people who ask: each has a short time limit, and a client of its own.
//! All of this blocks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::{Offset, TopicPartitionList};

use crate::client_log::Logged;
use crate::events::{Event, EventQueue};
use crate::record::Received;
use crate::settings::{KafkaError, KafkaSettings};

/// The longest wait for one record.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// No question to the cluster is given less time than this.
const LEAST: Duration = Duration::from_millis(50);

/// How far a group is in a partition, and what the partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The offset of the oldest record.
    pub low: i64,
    /// The offset of the next record to come.
    pub high: i64,
    /// The next offset that the group reads; `None`: it has committed none.
    pub committed: Option<i64>,
}

/// A client that looks at one partition as a member of a group would, without joining it.
pub struct Look {
    settings: KafkaSettings,
    client: BaseConsumer<Logged>,
    topic: Arc<str>,
    partition: i32,
    until: Instant,
}

impl Look {
    /// At this partition, with that limit for everything that is asked. Connects when it is asked.
    ///
    /// # Errors
    /// A property is not allowed.
    pub fn at(
        settings: &KafkaSettings,
        group: &str,
        topic: &str,
        partition: i32,
        limit: Duration,
    ) -> Result<Self, KafkaError> {
        let client = settings
            .consumer(group)?
            .create_with_context(Logged)
            .map_err(|source| KafkaError::client("consumer", source))?;
        let until = Instant::now() + limit;
        Ok(Self { settings: settings.clone(), client, topic: topic.into(), partition, until })
    }

    /// How far the group is.
    ///
    /// # Errors
    /// The broker or the group's coordinator does not answer in time.
    pub fn standing(&self) -> Result<Standing, KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, self.partition);
        let committed = self
            .client
            .committed_offsets(list, self.left())
            .and_then(|list| match list.find_partition(&self.topic, self.partition) {
                Some(element) => element.error().map(|()| match element.offset() {
                    Offset::Offset(next) => Some(next),
                    _ => None,
                }),
                None => Ok(None),
            })
            .map_err(|source| self.unreachable("the offset of the group", source))?;
        let (low, high) = self.watermarks()?;
        Ok(Standing { low, high, committed })
    }

    /// The offset of the first record from `since` (milliseconds since 1970) on that is the one `wanted`, among the next
    /// `most` records. `None`: it is not among them.
    ///
    /// # Errors
    /// The broker does not answer in time, or has not given all of them by then.
    pub fn find(
        &self,
        since_ms: i64,
        most: i64,
        wanted: impl Fn(&Received) -> bool,
    ) -> Result<Option<i64>, KafkaError> {
        let (low, high) = self.watermarks()?;
        let from = self.first_since(since_ms).unwrap_or_else(|| low.max(high - most));
        if from >= high {
            return Ok(None);
        }
        let failed = |source| self.unreachable("its records", source);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, self.partition, Offset::Offset(from)).map_err(failed)?;
        self.client.assign(&list).map_err(failed)?;
        let Some(mut events) = EventQueue::of(&self.client) else { return Ok(None) };
        let last = high.min(from.saturating_add(most)) - 1;
        while Instant::now() < self.until {
            match events.poll(POLL_WAIT) {
                Some(Event::Record(record)) if wanted(&record) => return Ok(Some(record.offset)),
                Some(Event::Record(record)) if record.offset >= last => return Ok(None),
                _ => {}
            }
        }
        Err(KafkaError::Unreachable {
            question: format!("all of its records in time ({}/{})", self.topic, self.partition),
            servers: self.settings.bootstrap_servers.clone(),
            source: None,
        })
    }

    /// Not every broker knows its records by their time: the embedded one does not.
    fn first_since(&self, since_ms: i64) -> Option<i64> {
        if self.settings.is_embedded() {
            return None;
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, self.partition, Offset::Offset(since_ms)).ok()?;
        let found = self.client.offsets_for_times(list, self.left()).ok()?;
        match found.find_partition(&self.topic, self.partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    fn watermarks(&self) -> Result<(i64, i64), KafkaError> {
        let asked = self.client.fetch_watermarks(&self.topic, self.partition, self.left());
        asked.map_err(|source| self.unreachable("what the partition holds", source))
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now()).max(LEAST)
    }

    fn unreachable(&self, question: &str, source: ClientError) -> KafkaError {
        KafkaError::Unreachable {
            question: format!("{question} ({}/{})", self.topic, self.partition),
            servers: self.settings.bootstrap_servers.clone(),
            source: Some(source.into()),
        }
    }
}
