//! The broker of a stack: an embedded one in this process, or a real one that is shared by all scenarios, which then
//! run one after the other, each with topics made anew.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use messaging::embedded::Broker;
use messaging::topics::{self, TopicSpec};
use messaging::{AckedProducer, KafkaSettings, Placed, Received, Record, fetch};
use saga_defs::definition::Definition;
use saga_defs::ids::ShardCount;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;

/// Shards, that is partitions of `saga.inbox`.
pub const SHARDS: u16 = 4;
/// Partitions of each command topic.
pub const COMMAND_PARTITIONS: u16 = 4;
/// Partitions of all other topics.
pub const TOPIC_PARTITIONS: u16 = 2;

/// The topic that scenarios make by registering a definition.
const REGISTERED: &str = "courier.commands";

/// Where a real broker is. Without it each stack has an embedded one.
const REAL: &str = "TEST_KAFKA_BOOTSTRAP_SERVERS";

/// A stack's broker.
pub enum Kafka {
    /// In this process, for one stack.
    Embedded(Broker),
    /// Somebody else's process; nobody else uses it while the guard is held.
    Real {
        /// Where it is.
        settings: KafkaSettings,
        /// For as long as the stack lives.
        guard: OwnedMutexGuard<()>,
    },
    /// A real one that is the caller's, and may be disturbed.
    Own {
        /// For observers.
        settings: KafkaSettings,
        /// For services: perhaps by way of a proxy.
        services: KafkaSettings,
    },
}

/// Whether scenarios run against a real broker.
pub fn is_real() -> bool {
    std::env::var_os(REAL).is_some()
}

impl Kafka {
    /// A broker with empty topics.
    ///
    /// # Errors
    /// There is none to be had.
    pub async fn start(definitions: &[Definition]) -> Result<Self> {
        let specs = specs(definitions)?;
        let Ok(servers) = std::env::var(REAL) else { return Ok(Self::Embedded(Broker::start(&specs)?)) };
        static ALONE: OnceLock<Arc<Mutex<()>>> = OnceLock::new();
        let guard = ALONE.get_or_init(Arc::default).clone().lock_owned().await;
        let settings = KafkaSettings::plain(servers);
        anew(&settings, &specs).await?;
        Ok(Self::Real { settings, guard })
    }

    /// A broker of the caller's, with empty topics; services reach it at `services`.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn own(
        settings: KafkaSettings,
        services: KafkaSettings,
        definitions: &[Definition],
    ) -> Result<Self> {
        anew(&settings, &specs(definitions)?).await?;
        Ok(Self::Own { settings, services })
    }

    /// A broker in this process, with empty topics.
    ///
    /// # Errors
    /// It does not start.
    pub fn in_process(definitions: &[Definition]) -> Result<Self> {
        Ok(Self::Embedded(Broker::start(&specs(definitions)?)?))
    }

    /// For observers.
    pub fn settings(&self) -> KafkaSettings {
        match self {
            Self::Embedded(broker) => broker.settings(),
            Self::Real { settings, .. } | Self::Own { settings, .. } => settings.clone(),
        }
    }

    /// For services.
    pub fn service_settings(&self) -> KafkaSettings {
        match self {
            Self::Embedded(_) | Self::Real { .. } => self.settings(),
            Self::Own { services, .. } => services.clone(),
        }
    }

    /// The embedded broker, for faults.
    ///
    /// # Errors
    /// It is a real one, which a scenario does not disturb.
    pub fn embedded(&self) -> Result<&Broker> {
        match self {
            Self::Embedded(broker) => Ok(broker),
            Self::Real { .. } | Self::Own { .. } => bail!("a real broker is not disturbed by scenarios"),
        }
    }
}

/// Removes the topics of those before and makes them empty.
async fn anew(settings: &KafkaSettings, specs: &[TopicSpec]) -> Result<()> {
    let names: Vec<&str> = specs.iter().map(|spec| &*spec.name).chain([REGISTERED]).collect();
    topics::remove(settings, &names).await.context("remove the topics of those before")?;
    topics::ensure(settings, specs).await.context("make the topics")
}

fn specs(definitions: &[Definition]) -> Result<Vec<TopicSpec>> {
    let shards = ShardCount::new(SHARDS).context("at least one shard")?;
    let mut specs = orchestrator::topics(definitions, shards, COMMAND_PARTITIONS, TOPIC_PARTITIONS, 1);
    let domain_events = [
        booking_worker::CREATED,
        booking_worker::CONFIRMED,
        booking_worker::CANCELLED,
        payment_worker::COMPLETED,
        payment_worker::FAILED,
        payment_worker::REFUNDED,
    ];
    specs.extend(domain_events.map(|topic| TopicSpec::new(topic, i32::from(TOPIC_PARTITIONS), 1)));
    Ok(specs)
}

/// All records of a topic.
///
/// # Errors
/// The broker does not answer.
pub async fn read_all(settings: KafkaSettings, topic: impl Into<String>) -> Result<Vec<Received>> {
    let topic = topic.into();
    let read = tokio::task::spawn_blocking(move || fetch::read_all(&settings, &topic));
    Ok(read.await??)
}

/// Publishes records as a stranger would.
///
/// # Errors
/// They are not acknowledged.
pub async fn publish(settings: &KafkaSettings, records: Vec<Record>) -> Result<Vec<Placed>> {
    let producer = AckedProducer::start(settings, std::time::Duration::ZERO)?;
    Ok(producer.publish(records, &CancellationToken::new()).await?)
}

/// A received record as it would be sent once more, to the same place.
pub fn copy_of(record: &Received) -> Record {
    Record {
        topic: record.topic.clone(),
        partition: Some(record.partition),
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
        timestamp_ms: record.timestamp_ms,
    }
}
