//! The broker: topics with partitions, kept in memory; it may be away for a while, or be replaced by an empty one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use messaging::{Placed, Received, Record};
use saga_defs::ids::{ShardCount, partition_of};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::dice::Dice;
use crate::world::lock;

/// A topic's partitions, each in order of offset.
type Partitions = Vec<Vec<Received>>;

/// The broker. Another incarnation is another, empty broker at the same place.
pub struct Broker {
    logs: Mutex<Logs>,
    back: Mutex<Instant>,
    grown: Notify,
}

struct Logs {
    incarnation: Arc<str>,
    topics: BTreeMap<Arc<str>, Partitions>,
    /// What earlier brokers had.
    past: BTreeMap<Arc<str>, Vec<Received>>,
    replaced: u32,
}

/// Why a record was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSuchPartition;

impl Broker {
    /// Without topics.
    pub fn new(dice: &Dice, now: Instant) -> Self {
        let logs = Logs {
            incarnation: dice.uuid().to_string().into(),
            topics: BTreeMap::new(),
            past: BTreeMap::new(),
            replaced: 0,
        };
        Self { logs: Mutex::new(logs), back: Mutex::new(now), grown: Notify::new() }
    }

    /// Makes a topic, unless it is there.
    pub fn create(&self, topic: &str, partitions: u16) {
        let mut logs = lock(&self.logs);
        logs.topics.entry(topic.into()).or_insert_with(|| vec![Vec::new(); usize::from(partitions.max(1))]);
    }

    /// Which broker it is.
    pub fn incarnation(&self) -> Arc<str> {
        lock(&self.logs).incarnation.clone()
    }

    /// How often it was replaced.
    pub fn replaced(&self) -> u32 {
        lock(&self.logs).replaced
    }

    /// From now on it is another one, and empty.
    pub fn replace(&self, dice: &Dice) {
        let mut logs = lock(&self.logs);
        logs.incarnation = dice.uuid().to_string().into();
        logs.replaced += 1;
        let Logs { topics, past, .. } = &mut *logs;
        for (topic, partitions) in topics {
            past.entry(topic.clone()).or_default().extend(partitions.iter_mut().flat_map(std::mem::take));
        }
    }

    /// Writes a record.
    ///
    /// # Errors
    /// There is no such topic or partition.
    pub fn append(&self, record: &Record, now_ms: i64) -> Result<Placed, NoSuchPartition> {
        let mut logs = lock(&self.logs);
        let partitions = logs.topics.get_mut(&record.topic).ok_or(NoSuchPartition)?;
        let partition = match (record.partition, &record.key) {
            (Some(partition), _) => usize::try_from(partition).map_err(|_| NoSuchPartition)?,
            (None, Some(key)) => {
                let count = u16::try_from(partitions.len()).ok().and_then(ShardCount::new);
                usize::from(partition_of(key, count.ok_or(NoSuchPartition)?).0)
            }
            (None, None) => 0,
        };
        let log = partitions.get_mut(partition).ok_or(NoSuchPartition)?;
        let placed = Placed { partition: partition as i32, offset: log.len() as i64 };
        log.push(Received {
            topic: record.topic.clone(),
            partition: placed.partition,
            offset: placed.offset,
            timestamp_ms: Some(record.timestamp_ms.unwrap_or(now_ms)),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        });
        drop(logs);
        self.grown.notify_waiters();
        Ok(placed)
    }

    /// Records of a partition from an offset on; `None` if that offset cannot exist.
    pub fn read(&self, topic: &str, partition: i32, from: i64, most: usize) -> Option<Vec<Received>> {
        let logs = lock(&self.logs);
        let log = logs.topics.get(topic)?.get(usize::try_from(partition).ok()?)?;
        let rest = log.get(usize::try_from(from).ok()?..)?;
        Some(rest.iter().take(most).cloned().collect())
    }

    /// Where the next record of a partition goes.
    pub fn end(&self, topic: &str, partition: i32) -> i64 {
        let logs = lock(&self.logs);
        let log = logs.topics.get(topic).and_then(|all| all.get(usize::try_from(partition).ok()?));
        log.map_or(0, |log| log.len() as i64)
    }

    /// All records of a topic, by partition and offset; with `ever` those of earlier brokers come first.
    pub fn dump(&self, topic: &str, ever: bool) -> Vec<Received> {
        let logs = lock(&self.logs);
        let past = logs.past.get(topic).filter(|_| ever).into_iter().flatten();
        past.chain(logs.topics.get(topic).into_iter().flatten().flatten()).cloned().collect()
    }

    /// The topics there are.
    pub fn topics(&self) -> Vec<Arc<str>> {
        lock(&self.logs).topics.keys().cloned().collect()
    }

    /// Returns when something was written after the call.
    pub async fn grown(&self) {
        self.grown.notified().await;
    }

    /// It answers nobody for so long.
    pub fn take_away(&self, length: Duration) {
        *lock(&self.back) = Instant::now() + length;
    }

    /// It answers from then on.
    pub fn come_back(&self, at: Instant) {
        *lock(&self.back) = at;
        self.grown.notify_waiters();
    }

    /// Whether it answers nobody.
    pub fn is_away(&self) -> bool {
        *lock(&self.back) > Instant::now()
    }
}
