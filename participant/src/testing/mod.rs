//! For the tests of workers (feature `testing`): a broker, a database, commands in, replies out, on a real Postgres and a
//! real Kafka protocol. Everything here panics when it does not go as it should: that is how a test fails.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends with the reason")]

mod throughput;

pub use throughput::measure;

use std::sync::Arc;
use std::time::{Duration, Instant};

use messaging::embedded::Broker;
use messaging::fetch::read_all;
use messaging::headers::{CommandHeaders, OutcomeKind, ReplyHeaders};
use messaging::topics::TopicSpec;
use messaging::{AckedProducer, KafkaSettings, Received, Record};
use saga_defs::Data;
use saga_defs::ids::{Attempt, CommandId, DefinitionRef, Direction, SagaId};
use saga_defs::time::Timestamp;
use schemas::Catalog;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::dead_letter::DEAD_LETTERS;

/// Where the commands made here want their replies.
pub const INBOX: &str = "saga.inbox";
/// Which partition of it.
pub const REPLY_PARTITION: i32 = 2;
const INBOX_PARTITIONS: i32 = 3;
/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(30);
/// The time between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// A broker and a database of one test's own.
pub struct Bench {
    /// The broker.
    pub broker: Broker,
    /// How to reach it.
    pub kafka: KafkaSettings,
    /// The schemas of the messages.
    pub catalog: Arc<Catalog>,
    /// The database, empty at first.
    pub database_url: String,
    /// A connection to it, of the test's own.
    pub database: DatabaseConnection,
    producer: AckedProducer,
    commands: Arc<str>,
}

impl Bench {
    /// Starts a broker with the topics of a participant and those of its events, and makes a database.
    pub async fn start(participant: &str, events: &[&str], catalog: Arc<Catalog>) -> Self {
        let commands: Arc<str> = format!("{participant}.commands").into();
        let one = |name: &str| TopicSpec::new(name, 1, 1);
        let mut topics = vec![one(&commands), one(DEAD_LETTERS), TopicSpec::new(INBOX, INBOX_PARTITIONS, 1)];
        topics.extend(events.iter().map(|name| one(name)));
        let broker = Broker::start(&topics).unwrap();
        let kafka = broker.settings();
        let database_url = local_postgres::TestServer::shared().fresh_database();
        let database = crate::connect(&database_url.clone().into(), "test").await.unwrap();
        let producer = AckedProducer::start(&kafka, Duration::ZERO).unwrap();
        Self { broker, kafka, catalog, database_url, database, producer, commands }
    }

    /// The same broker with another bench's database.
    #[must_use]
    pub fn on_database_of(self, other: &Self) -> Self {
        Self { database_url: other.database_url.clone(), database: other.database.clone(), ..self }
    }

    /// Publishes records as they are.
    pub async fn send(&self, records: Vec<Record>) {
        self.producer.publish(records, &CancellationToken::new()).await.unwrap();
    }

    /// Publishes commands, in order.
    pub async fn send_commands<'a>(&self, commands: impl IntoIterator<Item = &'a TestCommand>) {
        self.send(commands.into_iter().map(|command| self.record(command)).collect()).await;
    }

    /// A command as a record.
    pub fn record(&self, command: &TestCommand) -> Record {
        let value = self.catalog.encode(command.message_type, &command.fields).unwrap();
        Record::new(self.commands.clone(), command.saga.to_string(), value, command.headers().write())
    }

    /// All records of a topic, once there are at least `count`.
    pub async fn records(&self, topic: &str, count: usize) -> Vec<Received> {
        let what = format!("{count} records in {topic}");
        self.wait_for(&what, async || Some(self.read(topic).await).filter(|records| records.len() >= count))
            .await
    }

    /// All replies, once there are at least `count`.
    pub async fn replies(&self, count: usize) -> Vec<Reply> {
        self.records(INBOX, count)
            .await
            .into_iter()
            .map(|record| Reply::read(record, &self.catalog))
            .collect()
    }

    /// The replies to one command, in order, once there are at least `count`.
    pub async fn replies_to(&self, command: &TestCommand, count: usize) -> Vec<Reply> {
        let id = command.id();
        let look = async || {
            let mut replies = self.replies(0).await;
            replies.retain(|reply| reply.headers.command_id == id);
            Some(replies).filter(|replies| replies.len() >= count)
        };
        self.wait_for(&format!("{count} replies to {id}"), look).await
    }

    /// The only reply to a command, in words: `succeeded`, or e.g. `rejected: sold_out`.
    pub async fn reply_to(&self, command: &TestCommand) -> String {
        let replies = self.replies_to(command, 1).await;
        assert_eq!(replies.len(), 1, "{replies:?}");
        replies[0].summary()
    }

    /// The only column of the only row of a query, as a number.
    pub async fn count(&self, sql: &str) -> i64 {
        let statement = Statement::from_string(DbBackend::Postgres, sql.to_owned());
        let row = self.database.query_one_raw(statement).await.unwrap().unwrap();
        row.try_get_by_index(0).unwrap()
    }

    /// Waits until the only column of the only row of a query is this number.
    pub async fn wait_for_count(&self, sql: &str, expected: i64) {
        let look = async || (self.count(sql).await == expected).then_some(());
        self.wait_for(&format!("{expected} from {sql}"), look).await;
    }

    async fn wait_for<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < deadline, "waited {DEADLINE:?} for {what}");
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn read(&self, topic: &str) -> Vec<Received> {
        let (kafka, topic) = (self.kafka.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || read_all(&kafka, &topic)).await.unwrap().unwrap()
    }
}

/// A command to be sent.
#[derive(Debug, Clone)]
pub struct TestCommand {
    /// The saga.
    pub saga: SagaId,
    /// The step's name.
    pub step: &'static str,
    /// Doing or undoing.
    pub direction: Direction,
    /// The Avro full name.
    pub message_type: &'static str,
    /// The body.
    pub fields: Data,
    /// From 1.
    pub attempt: u32,
    /// From 0.
    pub redrive: u32,
}

impl TestCommand {
    /// A forward command. `fields` is a JSON object.
    pub fn forward(
        saga: SagaId,
        step: &'static str,
        message_type: &'static str,
        fields: serde_json::Value,
    ) -> Self {
        let fields = fields.as_object().cloned().unwrap_or_default();
        Self { saga, step, direction: Direction::Forward, message_type, fields, attempt: 1, redrive: 0 }
    }

    /// The compensation of a step. `fields` is a JSON object.
    pub fn compensation(
        saga: SagaId,
        step: &'static str,
        message_type: &'static str,
        fields: serde_json::Value,
    ) -> Self {
        let forward = Self::forward(saga, step, message_type, fields);
        Self { direction: Direction::Compensation, ..forward }
    }

    /// The same as another attempt.
    #[must_use]
    pub fn attempt(&self, attempt: u32) -> Self {
        Self { attempt, ..self.clone() }
    }

    /// The same, sent anew by an operator.
    #[must_use]
    pub fn redrive(&self, redrive: u32) -> Self {
        Self { redrive, ..self.clone() }
    }

    /// The same with a field changed.
    #[must_use]
    pub fn with(&self, field: &str, value: impl Into<serde_json::Value>) -> Self {
        let mut changed = self.clone();
        changed.fields.insert(field.to_owned(), value.into());
        changed
    }

    /// Its id.
    pub fn id(&self) -> CommandId {
        CommandId::derive(self.saga, self.step, self.direction)
    }

    /// Its headers.
    pub fn headers(&self) -> CommandHeaders {
        CommandHeaders {
            saga_id: self.saga,
            definition: DefinitionRef { name: "test".into(), version: 1 },
            step: self.step.into(),
            direction: self.direction,
            command_id: self.id(),
            attempt: Attempt(self.attempt),
            redrive: self.redrive,
            reply_topic: INBOX.into(),
            reply_partition: REPLY_PARTITION,
            deadline: Timestamp::from_unix_millis(1_900_000_000_000),
            message_type: self.message_type.into(),
            traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().ok(),
        }
    }
}

/// A reply as the orchestrator sees it.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Its headers.
    pub headers: ReplyHeaders,
    /// Its body.
    pub fields: Data,
    /// All of it.
    pub record: Received,
}

impl Reply {
    fn read(record: Received, catalog: &Catalog) -> Self {
        let headers = ReplyHeaders::read(&record.headers).unwrap();
        let fields = catalog.decode_as(&headers.message_type, record.value.as_ref().unwrap()).unwrap();
        Self { headers, fields, record }
    }

    /// `succeeded`, or e.g. `rejected: sold_out`.
    pub fn summary(&self) -> String {
        let outcome = self.headers.outcome;
        let code = self.fields.get("code").and_then(|code| code.as_str()).unwrap_or_default();
        if outcome == OutcomeKind::Succeeded { outcome.to_string() } else { format!("{outcome}: {code}") }
    }
}

/// A saga that nobody has heard of.
pub fn new_saga() -> SagaId {
    SagaId::from_uuid(Uuid::now_v7())
}
