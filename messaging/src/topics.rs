//! Topics: made if they are missing, and checked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::client_log::Logged;
use crate::settings::{KafkaError, KafkaSettings, MAX_RECORD_BYTES, QUESTION_TIMEOUT};

/// How long the cluster may take to create topics, and then to show them to everybody.
pub const CREATION_TIMEOUT: Duration = Duration::from_secs(30);
/// How often to look whether new topics are there.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How many partitions the embedded broker gives a topic that it is asked for and does not have.
pub const EMBEDDED_PARTITIONS: u16 = 4;

/// A topic as it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// The name.
    pub name: Arc<str>,
    /// How many partitions: exactly so many.
    pub partitions: i32,
    /// How many copies, when we make it. The embedded broker has one.
    pub replication: i32,
}

impl TopicSpec {
    /// A topic to be.
    pub fn new(name: impl Into<Arc<str>>, partitions: i32, replication: i32) -> Self {
        Self { name: name.into(), partitions, replication }
    }
}

/// The topics are not as they have to be.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// The cluster cannot be asked.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A topic has another number of partitions. They cannot be changed afterwards: keys would move.
    #[error("topic {topic} has {found} partitions, expected {expected}")]
    Partitions {
        /// The topic.
        topic: Arc<str>,
        /// How many it has.
        found: usize,
        /// How many it must have.
        expected: i32,
    },
    /// It is missing, and cannot be made with so many partitions: on the embedded broker its starter does that.
    #[error(
        "topic {topic} does not exist on the embedded broker, which by itself makes topics of {} partitions only",
        EMBEDDED_PARTITIONS
    )]
    Missing {
        /// The topic.
        topic: Arc<str>,
    },
    /// The cluster refuses to create it.
    #[error("topic {topic} cannot be created: {code}")]
    NotCreated {
        /// The topic.
        topic: String,
        /// Kafka's reason.
        code: RDKafkaErrorCode,
    },
    /// The cluster refuses to remove it.
    #[error("topic {topic} cannot be removed: {code}")]
    NotRemoved {
        /// The topic.
        topic: String,
        /// Kafka's reason.
        code: RDKafkaErrorCode,
    },
    /// It was created, and the cluster does not show it.
    #[error("topic {topic} was created but has no leader for all partitions after {CREATION_TIMEOUT:?}")]
    NotReady {
        /// The topic.
        topic: Arc<str>,
    },
    /// The runtime is shutting down.
    #[error("interrupted")]
    Interrupted,
}

/// Creates the topics that are missing and checks the partitions of all. The embedded broker can make one while it runs
/// only with [`EMBEDDED_PARTITIONS`].
///
/// # Errors
/// The first topic that is not as it has to be, or the cluster that does not answer.
pub async fn ensure(settings: &KafkaSettings, topics: &[TopicSpec]) -> Result<(), TopicError> {
    let admin = Arc::new(settings.admin()?);
    let missing = check(settings, &admin, topics).await?;
    if missing.is_empty() {
        return Ok(());
    }
    if settings.is_embedded() {
        let other = missing.iter().find(|spec| spec.partitions != i32::from(EMBEDDED_PARTITIONS));
        if let Some(TopicSpec { name, .. }) = other {
            return Err(TopicError::Missing { topic: name.clone() });
        }
        ask_for(settings, &admin, &missing).await?;
    } else {
        create(settings, &admin, &missing).await?;
    }
    let deadline = Instant::now() + CREATION_TIMEOUT;
    loop {
        let Some(TopicSpec { name, .. }) = check(settings, &admin, topics).await?.into_iter().next() else {
            return Ok(());
        };
        if Instant::now() >= deadline {
            return Err(TopicError::NotReady { topic: name });
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Removes topics with all their records and the offsets that groups have in them, and waits until they are gone; those
/// that do not exist are none. For tests: nothing in a service removes a topic.
///
/// # Errors
/// The cluster refuses, or does not answer.
pub async fn remove(settings: &KafkaSettings, topics: &[&str]) -> Result<(), TopicError> {
    let admin = Arc::new(settings.admin()?);
    let unreachable = |source: ClientError| KafkaError::Unreachable {
        question: "the removal of topics".to_owned(),
        servers: settings.bootstrap_servers.clone(),
        source: Some(source.into()),
    };
    for result in admin.delete_topics(topics, &patient()).await.map_err(unreachable)? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((topic, code)) => return Err(TopicError::NotRemoved { topic, code }),
        }
    }
    let specs: Vec<TopicSpec> = topics.iter().map(|name| TopicSpec::new(*name, 0, 1)).collect();
    let deadline = Instant::now() + CREATION_TIMEOUT;
    loop {
        // One that is still there has more than no partitions.
        match check(settings, &admin, &specs).await {
            Err(TopicError::Partitions { .. }) if Instant::now() < deadline => {}
            other => return other.map(drop),
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Deletes the records of a partition in front of this offset, as retention does, and says which offset is the oldest one then. For
/// tests: nothing in a service deletes records. The embedded broker cannot do it.
///
/// # Errors
/// The cluster refuses, or does not answer.
pub async fn cut_off(
    settings: &KafkaSettings,
    topic: &str,
    partition: i32,
    before: i64,
) -> Result<i64, TopicError> {
    let unreachable = |source: ClientError| KafkaError::Unreachable {
        question: format!("the deletion of records of {topic}"),
        servers: settings.bootstrap_servers.clone(),
        source: Some(source.into()),
    };
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, partition, Offset::Offset(before)).map_err(unreachable)?;
    let cut = settings.admin()?.delete_records(&offsets, &patient()).await.map_err(unreachable)?;
    let cut = cut.find_partition(topic, partition);
    let oldest = cut.and_then(|place| {
        place.error().ok()?;
        place.offset().to_raw()
    });
    oldest.ok_or_else(|| TopicError::NotReady { topic: topic.into() })
}

/// Those that are missing. Asks for the metadata of all topics: the question for one unknown topic would create it, on
/// the embedded broker and on a Kafka with `auto.create.topics.enable`.
async fn check(
    settings: &KafkaSettings,
    admin: &Arc<AdminClient<Logged>>,
    topics: &[TopicSpec],
) -> Result<Vec<TopicSpec>, TopicError> {
    let (admin, servers, topics) = (admin.clone(), settings.bootstrap_servers.clone(), topics.to_vec());
    let look = move || {
        let all = admin.inner().fetch_metadata(None, QUESTION_TIMEOUT).map_err(|source| {
            KafkaError::Unreachable {
                question: "its topics".to_owned(),
                servers,
                source: Some(source.into()),
            }
        })?;
        let mut missing = Vec::new();
        for spec in topics {
            let known = all.topics().iter().find(|topic| topic.name() == &*spec.name);
            let known = known.filter(|topic| topic.error().is_none());
            match known {
                Some(topic) if i32::try_from(topic.partitions().len()) != Ok(spec.partitions) => {
                    let (found, expected) = (topic.partitions().len(), spec.partitions);
                    return Err(TopicError::Partitions { topic: spec.name, found, expected });
                }
                Some(topic) if topic.partitions().iter().all(|partition| partition.leader() >= 0) => {}
                _ => missing.push(spec),
            }
        }
        Ok(missing)
    };
    tokio::task::spawn_blocking(look).await.unwrap_or(Err(TopicError::Interrupted))
}

/// The embedded broker makes a topic that is asked for.
async fn ask_for(
    settings: &KafkaSettings,
    admin: &Arc<AdminClient<Logged>>,
    topics: &[TopicSpec],
) -> Result<(), TopicError> {
    let (admin, servers, topics) = (admin.clone(), settings.bootstrap_servers.clone(), topics.to_vec());
    let ask = move || {
        for TopicSpec { name, .. } in topics {
            admin.inner().fetch_metadata(Some(&name), QUESTION_TIMEOUT).map_err(|source| {
                let (question, servers) = (format!("topic {name}"), servers.clone());
                KafkaError::Unreachable { question, servers, source: Some(source.into()) }
            })?;
        }
        Ok(())
    };
    tokio::task::spawn_blocking(ask).await.unwrap_or(Err(TopicError::Interrupted))
}

/// Without these, an admin call waits for a minute.
fn patient() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(CREATION_TIMEOUT)).operation_timeout(Some(CREATION_TIMEOUT))
}

async fn create(
    settings: &KafkaSettings,
    admin: &AdminClient<Logged>,
    missing: &[TopicSpec],
) -> Result<(), TopicError> {
    let largest = MAX_RECORD_BYTES.to_string();
    let new: Vec<NewTopic<'_>> = missing
        .iter()
        .map(|spec| {
            NewTopic::new(&spec.name, spec.partitions, TopicReplication::Fixed(spec.replication))
                .set("max.message.bytes", &largest)
        })
        .collect();
    let options = patient();
    let unreachable = |source: ClientError| KafkaError::Unreachable {
        question: "the creation of topics".to_owned(),
        servers: settings.bootstrap_servers.clone(),
        source: Some(source.into()),
    };
    for result in admin.create_topics(&new, &options).await.map_err(unreachable)? {
        match result {
            // Another process of ours was faster.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(TopicError::NotCreated { topic, code }),
        }
    }
    Ok(())
}
