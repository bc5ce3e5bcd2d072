//! The loop: poll a batch, one transaction, publish, commit the offsets.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use messaging::pace::Pace;
use messaging::topics::{TopicError, TopicSpec, ensure};
use messaging::{
    AckedProducer, Assignments, Consumer, ConsumerEvent, ConsumerLimits, KafkaError, KafkaSettings,
    PublishError, Received, StartAt, WarmUpError,
};
use schemas::{Catalog, INBOX};
use sea_orm::DatabaseConnection;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use crate::batch::Batch;
use crate::command::Message;
use crate::dead_letter::{DEAD_LETTERS, Letters};
use crate::dynamic::{DynamicHandler, Untyped};
use crate::erased::AnyHandler;
use crate::executor::Executor;
use crate::handler::{ExternalHandler, Handler};
use crate::outcome::Refusal;
use crate::publisher::{Publication, Publisher, UNACKNOWLEDGED_BATCHES};
use crate::registry;
use crate::retry::{Stopped, Waits};
use crate::vitals::{Membership, Vitals};

/// How many records one poll hands over at most, and how many such batches wait.
const CONSUMER_LIMITS: ConsumerLimits = ConsumerLimits { batch_records: 500, queued_batches: 4 };
/// When so many records are together, no more are added to the batch.
const BATCH_RECORDS: usize = 500;
/// How long replies are collected before they are sent: they leave in batches already.
const LINGER: Duration = Duration::ZERO;
/// How long one question to the broker may take at the start.
const BROKER_QUESTION: Duration = Duration::from_secs(10);
/// The first and the longest wait at the start for what is not there yet.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long a stop waits for acknowledgements of what is committed.
const DRAIN_LIMIT: Duration = Duration::from_secs(20);
/// How much of that it waits, if need be, for room to hand the last batch over.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(5);
/// How long all calls to the outside of one round may take, unless the builder is told otherwise.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How missing topics of domain events are created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTopics {
    /// How many partitions.
    pub partitions: i32,
    /// How many copies; -1 is the broker's default.
    pub replication: i32,
}

impl Default for EventTopics {
    fn default() -> Self {
        Self { partitions: 8, replication: -1 }
    }
}

/// Why a participant cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Two handlers for one type of command.
    #[error("participant {participant}: two handlers for {message_type}")]
    TwoHandlers {
        /// The participant.
        participant: String,
        /// The command.
        message_type: String,
    },
    /// A message that no schema describes.
    #[error("participant {participant}: the catalogue has no schema {message_type}")]
    NoSchema {
        /// The participant.
        participant: String,
        /// The command or reply.
        message_type: String,
    },
}

/// Why a participant ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ParticipantError {
    /// A client could not be made.
    #[error("participant {participant}: Kafka")]
    Kafka {
        /// The participant.
        participant: String,
        /// Why.
        #[source]
        source: KafkaError,
    },
    /// Replies cannot be published any more.
    #[error("participant {participant}: publishing ended")]
    Publishing {
        /// The participant.
        participant: String,
        /// Why; `None` if the task itself broke.
        #[source]
        source: Option<PublishError>,
    },
    /// The consumer's thread ended by itself.
    #[error("participant {participant}: the consumer ended by itself")]
    ConsumerEnded {
        /// The participant.
        participant: String,
    },
}

/// A service that performs steps of sagas. Make one with [`Participant::builder`].
pub struct Participant {
    name: String,
    catalog: Arc<Catalog>,
    handlers: Vec<AnyHandler>,
    by_type: HashMap<String, usize>,
    publishes: Vec<&'static str>,
    event_topics: EventTopics,
    call_timeout: Duration,
    vitals: Arc<Vitals>,
}

/// Puts a participant together.
pub struct Builder {
    participant: Participant,
    /// Every message that must have a schema, and the topic that it goes to.
    messages: Vec<(String, String)>,
    twice: Option<String>,
}

impl Builder {
    /// Adds a handler whose effects are all in the worker's database.
    pub fn handler<H: Handler>(self, handler: H) -> Self {
        self.add([H::Command::NAME.to_owned()], [H::Reply::NAME], AnyHandler::local(handler))
    }

    /// Adds a handler that calls something outside.
    pub fn external_handler<H: ExternalHandler>(self, handler: H) -> Self {
        self.add([H::Command::NAME.to_owned()], [H::Reply::NAME], AnyHandler::external(handler))
    }

    /// Adds a handler of commands that are known by name only; all effects are in the worker's database. Whether a reply
    /// has a schema shows when it is given.
    pub fn dynamic_handler<H: DynamicHandler>(
        self,
        commands: impl IntoIterator<Item = impl Into<String>>,
        handler: H,
    ) -> Self {
        self.add(commands.into_iter().map(Into::into), [], AnyHandler::Local(Arc::new(Untyped(handler))))
    }

    /// Names the topics of the domain events that the handlers publish: created at the start if they are missing.
    pub fn publishes(mut self, topics: impl IntoIterator<Item = &'static str>) -> Self {
        self.participant.publishes.extend(topics);
        self
    }

    /// How missing topics of domain events are created.
    pub fn event_topics(mut self, event_topics: EventTopics) -> Self {
        self.participant.event_topics = event_topics;
        self
    }

    /// How long all calls to the outside of one batch may take together; 30 s unless told otherwise. What has not
    /// answered then may have happened, see [`crate::CallError::Unknown`].
    pub fn call_timeout(mut self, limit: Duration) -> Self {
        self.participant.call_timeout = limit;
        self
    }

    /// Where the participant shows how it is and what it measures; nowhere unless told otherwise.
    pub fn vitals(mut self, vitals: Arc<Vitals>) -> Self {
        self.participant.vitals = vitals;
        self
    }

    /// The participant.
    ///
    /// # Errors
    /// Two handlers for one command, or a message without a schema.
    pub fn build(self) -> Result<Participant, BuildError> {
        let participant = self.participant.name.clone();
        if let Some(message_type) = self.twice {
            return Err(BuildError::TwoHandlers { participant, message_type });
        }
        let catalog = &self.participant.catalog;
        if let Some((name, _)) = self.messages.iter().find(|(name, _)| catalog.record(name).is_none()) {
            return Err(BuildError::NoSchema { participant, message_type: name.clone() });
        }
        let catalog = Arc::new(catalog.with_topics(self.messages));
        Ok(Participant { catalog, ..self.participant })
    }

    fn add<const REPLIES: usize>(
        mut self,
        commands: impl IntoIterator<Item = String>,
        replies: [&str; REPLIES],
        handler: AnyHandler,
    ) -> Self {
        let at = self.participant.handlers.len();
        let commands_on = self.participant.command_topic();
        for command in commands {
            if self.participant.by_type.insert(command.clone(), at).is_some() {
                self.twice = Some(command.clone());
            }
            self.messages.push((command, commands_on.clone()));
        }
        self.participant.handlers.push(handler);
        self.messages.extend(replies.map(|reply| (reply.to_owned(), INBOX.to_owned())));
        self
    }
}

/// Gives all partitions from where the group left them.
struct FromCommitted {
    participant: String,
    membership: Arc<Membership>,
}

impl Assignments for FromCommitted {
    fn assigned(&self, generation: u64, partitions: &[(Arc<str>, i32)]) -> Vec<StartAt> {
        tracing::info!(participant = %self.participant, generation, partitions = partitions.len(), "assigned");
        self.membership.assigned(partitions.len());
        vec![StartAt::CommittedOrEarliest; partitions.len()]
    }

    fn revoked(&self, generation: u64, partitions: &[(Arc<str>, i32)]) {
        // What is still in work is answered by whoever gets the partitions as well: the inbox makes it a replay.
        tracing::info!(participant = %self.participant, generation, partitions = partitions.len(), "revoked");
        self.membership.waits_for("the group has not given it partitions again");
    }
}

impl Participant {
    /// Begins a participant. `name` gives its topic `<name>.commands` and its group `<name>-participant`.
    pub fn builder(name: impl Into<String>, catalog: Arc<Catalog>) -> Builder {
        let participant = Self {
            name: name.into(),
            catalog,
            handlers: Vec::new(),
            by_type: HashMap::new(),
            publishes: Vec::new(),
            event_topics: EventTopics::default(),
            call_timeout: CALL_TIMEOUT,
            vitals: Vitals::unseen(),
        };
        Builder { participant, messages: vec![(Refusal::NAME.to_owned(), INBOX.to_owned())], twice: None }
    }

    /// The topic that its commands come from.
    pub fn command_topic(&self) -> String {
        format!("{}.commands", self.name)
    }

    /// Serves commands until `stop` is cancelled; then finishes the batch in work, publishes what is committed, commits
    /// its offsets and leaves the group. Waits at the start until the broker and the topics are there; waits whenever
    /// the database or the broker is away. `database` comes from [`crate::connect`] and has the table `inbox`.
    ///
    /// # Errors
    /// A client cannot be made, or a thread or task of ours broke. A broker or database that is away is no error.
    pub async fn run(
        self,
        kafka: &KafkaSettings,
        database: DatabaseConnection,
        stop: CancellationToken,
    ) -> Result<(), ParticipantError> {
        let vitals = self.vitals.clone();
        vitals.has_database(&database);
        vitals.has_registry(self.catalog.registry());
        let _kept = registry::keep(&self.catalog);
        let Ok((producer, incarnation)) = self.prepare(kafka, &stop).await? else {
            return Ok(());
        };
        let letters = Letters::new(&self.name, &incarnation);
        let assignments = Arc::new(FromCommitted {
            participant: self.name.clone(),
            membership: vitals.membership().clone(),
        });
        let (group, topic) = (format!("{}-participant", self.name), self.command_topic());
        let (consumer, mut events) = Consumer::start(kafka, &group, &[&topic], CONSUMER_LIMITS, assignments)
            .map_err(|source| self.kafka_error(source))?;
        let consumer = Arc::new(consumer);
        vitals.reads(consumer.clone());
        let give_up = CancellationToken::new();
        let publisher = Publisher {
            producer,
            consumer,
            letters: letters.clone(),
            vitals: vitals.clone(),
            give_up: give_up.clone(),
            events: Mutex::default(),
        };
        let (publications, queue) = mpsc::channel(UNACKNOWLEDGED_BATCHES);
        let publishing = tokio::spawn(publisher.run(queue));
        tracing::info!(participant = %self.name, topic, group, "serving");

        let name = self.name.clone();
        let served = self.serve(database, &letters, &mut events, publications, &stop).await;
        // Reading ends here; what is committed is still published.
        drop(events);
        let mut publishing = publishing;
        let waited = if matches!(served, Served::StoppedWaiting) { HAND_OVER_LIMIT } else { Duration::ZERO };
        let left = DRAIN_LIMIT.saturating_sub(waited);
        let published = match tokio::time::timeout(left, &mut publishing).await {
            Ok(published) => published,
            Err(_) => {
                give_up.cancel();
                publishing.await
            }
        };
        let broken = |source| ParticipantError::Publishing { participant: name.clone(), source };
        vitals.reads_no_more();
        let (consumer, published) = published.map_err(|_| broken(None))?;
        // Leaving the group waits for a thread.
        let _ = tokio::task::spawn_blocking(move || Arc::into_inner(consumer).map(Consumer::stop)).await;
        published.map_err(|error| broken(Some(error)))?;
        match served {
            Served::Stopped | Served::StoppedWaiting => {
                tracing::info!(participant = %name, "stopped");
                Ok(())
            }
            Served::ConsumerEnded => Err(ParticipantError::ConsumerEnded { participant: name }),
            Served::PublisherEnded => Err(broken(None)),
        }
    }

    /// The loop itself.
    async fn serve(
        self,
        database: DatabaseConnection,
        letters: &Letters,
        events: &mut mpsc::Receiver<ConsumerEvent>,
        publications: mpsc::Sender<Publication>,
        stop: &CancellationToken,
    ) -> Served {
        let Self { catalog, handlers, by_type, call_timeout, vitals, .. } = self;
        let membership = vitals.membership().clone();
        // After a start the first commands may well be repeats.
        let all_new = AtomicBool::new(false);
        let executor = Executor { catalog, database, handlers, vitals, call_timeout, all_new };
        let mut pace = Pace::new(Instant::now());
        loop {
            let records = match next_batch(events, &membership, &pace, stop).await {
                Next::Records(records) => records,
                Next::Stopped => return Served::Stopped,
                Next::Ended => return Served::ConsumerEnded,
            };
            pace.begin(Instant::now(), records.len());
            if registry::learn(&executor.catalog, &records, stop).await.is_err() {
                return Served::Stopped;
            }
            let batch = Batch::read(records, &executor, &by_type, letters);
            let Ok(publication) = batch.answer(&executor, stop).await else {
                return Served::Stopped;
            };
            // While the broker is away nothing moves on; a stop waits for it as long as for all that is committed. What is
            // not handed over then is answered again after the next start.
            tokio::select! {
                sent = publications.send(publication) => {
                    if sent.is_err() {
                        return Served::PublisherEnded;
                    }
                }
                () = too_late(stop) => return Served::StoppedWaiting,
            }
        }
    }

    /// Waits for the ids of all schemas, the broker and the topics; gives a producer that is ready, and the broker's incarnation.
    async fn prepare(
        &self,
        kafka: &KafkaSettings,
        stop: &CancellationToken,
    ) -> Result<Result<(AckedProducer, String), Stopped>, ParticipantError> {
        let producer = AckedProducer::start(kafka, LINGER).map_err(|source| self.kafka_error(source))?;
        let waiting = |missing: &str| {
            self.vitals.membership().waits_for(missing);
            tracing::warn!(participant = %self.name, "waiting: {missing}");
        };
        if registry::ready(&self.catalog, stop, |error| waiting(&error.to_string())).await.is_err() {
            return Ok(Err(Stopped));
        }
        let commands = self.command_topic();
        let mut waits = Waits::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            match self.look(kafka, &producer, &commands).await {
                Ok(incarnation) => {
                    self.vitals.membership().waits_for("the group has not given it partitions yet");
                    return Ok(Ok((producer, incarnation)));
                }
                Err(missing) => waiting(&missing),
            }
            if waits.wait(stop).await.is_err() {
                return Ok(Err(Stopped));
            }
        }
    }

    /// One look at what must be there. An error is a sentence for the log.
    async fn look(
        &self,
        kafka: &KafkaSettings,
        producer: &AckedProducer,
        commands: &str,
    ) -> Result<String, String> {
        // These two belong to the orchestrator, which knows their partitions.
        producer.warm_up(&[commands, DEAD_LETTERS], BROKER_QUESTION).await.map_err(|error| match error {
            WarmUpError::NoSuchTopic { topic } => {
                format!("topic {topic} does not exist yet; the orchestrator creates it")
            }
            other => format!("Kafka at {} (KAFKA_BOOTSTRAP_SERVERS): {other}", kafka.bootstrap_servers),
        })?;
        for &topic in &self.publishes {
            let EventTopics { partitions, replication } = self.event_topics;
            match ensure(kafka, &[TopicSpec::new(topic, partitions, replication)]).await {
                // How many partitions an event topic has is its readers' business.
                Ok(()) | Err(TopicError::Partitions { .. }) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        let kafka = kafka.clone();
        let asked = tokio::task::spawn_blocking(move || kafka.incarnation()).await;
        asked.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    fn kafka_error(&self, source: KafkaError) -> ParticipantError {
        ParticipantError::Kafka { participant: self.name.clone(), source }
    }
}

/// When a stop was asked for and waiting any longer would hold it up.
async fn too_late(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(HAND_OVER_LIMIT).await;
}

/// How the loop ended.
enum Served {
    Stopped,
    /// After [`HAND_OVER_LIMIT`], with a batch in hand that is answered again after the next start.
    StoppedWaiting,
    ConsumerEnded,
    PublisherEnded,
}

enum Next {
    Records(Vec<Received>),
    Stopped,
    Ended,
}

/// Waits for records, lets them grow to a batch as the pace says, and takes what is there.
async fn next_batch(
    events: &mut mpsc::Receiver<ConsumerEvent>,
    membership: &Membership,
    pace: &Pace,
    stop: &CancellationToken,
) -> Next {
    let mut records = Vec::new();
    while records.is_empty() {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => return Next::Stopped,
            event = events.recv() => event,
        };
        let Some(event) = event else { return Next::Ended };
        take(event, membership, &mut records);
    }
    let pause = pace.pause(Instant::now());
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    while records.len() < BATCH_RECORDS
        && let Ok(event) = events.try_recv()
    {
        take(event, membership, &mut records);
    }
    Next::Records(records)
}

fn take(event: ConsumerEvent, membership: &Membership, records: &mut Vec<Received>) {
    match event {
        ConsumerEvent::Records(polled) => records.extend(polled.records),
        ConsumerEvent::OffsetVanished { topic, partition, text, .. } => {
            membership.stands_still(&topic, partition);
            tracing::error!(
                topic = &*topic,
                partition,
                "commands were lost before they were read, and the partition stands still: set the group's offset for it \
                 with Kafka's tools, then restart this worker: {text}"
            );
        }
        ConsumerEvent::Failed(text) => tracing::warn!("the consumer waits: {text}"),
    }
}
