//! The engine's ends of the bus: what it reads, the group that hands it shards, what it publishes through. On Kafka these
//! are clients with threads of their own; in the simulation they are queues.

use std::sync::Arc;
use std::time::Duration;

use messaging::{
    Consumer, ConsumerEvent, ConsumerLimits, KafkaError, KafkaSettings, Producer, Record, SendError,
};
use tokio::sync::mpsc;

use super::publisher::Publisher;
use super::rebalance::{Rebalance, ToLane, watch_inbox};
use super::{BATCH_INPUTS, GROUP, INBOX, WARM_UP_LIMIT};

/// What the engine is connected to.
pub struct Bus {
    /// What is read of [`INBOX`].
    pub records: mpsc::Receiver<ConsumerEvent>,
    /// Which shards come and go.
    pub rebalances: mpsc::UnboundedReceiver<Rebalance>,
    /// The group that hands shards out.
    pub group: Arc<dyn Group>,
    /// What is published.
    pub publisher: Publisher,
}

/// A membership in the group; dropping the last reference leaves it.
pub trait Group: Send + Sync {
    /// Tells the group how far partitions are read (topic, partition, next offset); for displays only.
    fn commit(&self, next_offsets: &[(Arc<str>, i32, i64)]);
    /// How long ago the group was last seen to be asked.
    fn last_poll_age(&self) -> Duration;
    /// Leaves and joins again, so that every shard is claimed and read anew.
    fn rejoin(&self) {}
}

impl Group for Consumer {
    fn commit(&self, next_offsets: &[(Arc<str>, i32, i64)]) {
        self.commit(next_offsets);
    }

    fn last_poll_age(&self) -> Duration {
        self.last_poll_age()
    }

    fn rejoin(&self) {
        self.rejoin();
    }
}

/// A producer: takes records with a token, and tells each token once to the [`super::deliveries::DeliveryQueue`].
pub trait Outlet: Send + Sync {
    /// As [`Producer::send`].
    ///
    /// # Errors
    /// It was not taken, and its token will not come back.
    fn send(&self, record: &Record, token: u64) -> Result<(), SendError>;
    /// As [`Producer::is_fatal`].
    fn is_fatal(&self) -> bool;
    /// As [`Producer::rebuild`].
    ///
    /// # Errors
    /// A new producer cannot be made; the old one stays.
    fn rebuild(&self) -> Result<(), KafkaError>;
}

impl Outlet for Producer {
    fn send(&self, record: &Record, token: u64) -> Result<(), SendError> {
        self.send(record, token)
    }

    fn is_fatal(&self) -> bool {
        self.is_fatal()
    }

    fn rebuild(&self) -> Result<(), KafkaError> {
        self.rebuild()
    }
}

impl Bus {
    /// On Kafka: starts two producers, then joins the group.
    ///
    /// # Errors
    /// When a setting is refused.
    pub async fn connect(kafka: &KafkaSettings) -> Result<Self, KafkaError> {
        let publisher = Publisher::start(kafka, WARM_UP_LIMIT).await?;
        let (to_lane, rebalances) = mpsc::unbounded_channel();
        let limits = ConsumerLimits { batch_records: BATCH_INPUTS, queued_batches: 4 };
        let assignments = Arc::new(ToLane::new(to_lane, kafka.clone()));
        let (consumer, records) = Consumer::start(kafka, GROUP, &[INBOX], limits, assignments)?;
        let group: Arc<dyn Group> = Arc::new(consumer);
        if let Err(error) = watch_inbox(kafka.clone(), Arc::downgrade(&group)) {
            // An assignment asks all the same.
            tracing::warn!(%error, "nobody looks whether {INBOX} is made again");
        }
        Ok(Self { records, rebalances, group, publisher })
    }
}
