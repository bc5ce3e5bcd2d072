//! The idempotent producer: records go in with a token, and each token comes back once with what became of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig,
};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Message};

use crate::bootstrap::Silence;
use crate::cause::Cause;
use crate::client_log::{log_error, log_line};
use crate::record::Record;
use crate::reports::{RawReport, ReportQueue};
use crate::settings::{KafkaError, KafkaSettings, QUESTION_TIMEOUT};

/// How long one poll of the poll thread takes when nothing happens. Bounds how long a stop takes.
const POLL_WAIT: Duration = Duration::from_millis(50);
/// How long a producer that is given up waits for librdkafka to hand over its last reports.
const LAST_REPORTS: Duration = Duration::from_secs(2);

// A token travels as librdkafka's opaque pointer, without an allocation.
const _: () = assert!(usize::BITS == u64::BITS, "tokens are 64 bits wide");

/// Where a record went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Placed {
    /// The partition.
    pub partition: i32,
    /// The place in the partition.
    pub offset: i64,
}

/// A record whose delivery was not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryFailure {
    /// The broker refuses a record of this size. It was not written.
    #[error("too large: {0}")]
    TooLarge(String),
    /// The broker does not take this record and will not later: there is no such topic or partition, or the record
    /// is invalid. It was not written.
    #[error("refused: {0}")]
    Refused(String),
    /// No confirmation in time, or the connection broke, or a confirmation that does not say where the record is: it may
    /// have been written all the same.
    #[error("unknown: {0}")]
    Unknown(String),
    /// As `Unknown`; and the producer is of no more use, see [`Producer::rebuild`].
    #[error("fatal: {0}")]
    Fatal(String),
}

/// A record that was not even taken into the producer's queue: its token will not come back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The queue is full: try again when some deliveries are in.
    #[error("the producer's queue is full")]
    QueueFull,
    /// It is larger than [`crate::settings::MAX_VALUE_BYTES`] or [`crate::settings::MAX_RECORD_BYTES`].
    #[error("the record is too large")]
    TooLarge,
    /// Anything else, e.g. no such partition; or the producer is fatal, see [`Producer::is_fatal`].
    #[error("the record was not taken: {0}")]
    Other(String),
}

/// Why a record was not taken, in full.
pub(crate) enum NotTaken {
    QueueFull,
    TooLarge,
    Refused(String),
    Fatal(String),
}

/// A record's token, and what became of it.
pub type Report = (u64, Result<Placed, DeliveryFailure>);

/// Gets the outcomes. Called on the producer's poll thread, or on that which flushes, rebuilds or drops the producer:
/// must not block.
pub trait Deliveries: Send + Sync + 'static {
    /// What became of the record that was sent with this token: exactly one call for each that `send` took, or one
    /// report in a call of [`Deliveries::delivered_together`].
    fn delivered(&self, token: u64, outcome: Result<Placed, DeliveryFailure>);

    /// What became of several records, in order: those of one request to the broker.
    fn delivered_together(&self, reports: Vec<Report>) {
        for (token, outcome) in reports {
            self.delivered(token, outcome);
        }
    }
}

/// A new producer could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum WarmUpError {
    /// The topic does not exist.
    #[error("topic {topic} does not exist")]
    NoSuchTopic {
        /// The topic.
        topic: String,
    },
    /// The broker does not answer.
    #[error("the broker did not answer within {limit:?}")]
    Unreachable {
        /// How long we waited.
        limit: Duration,
        /// librdkafka's reason.
        #[source]
        source: Cause,
    },
    /// The runtime is shutting down.
    #[error("interrupted")]
    Interrupted,
}

/// An idempotent producer with a poll thread of its own. Dropping it reports what is still on its way as unknown.
pub struct Producer {
    settings: KafkaSettings,
    linger: Duration,
    deliveries: Arc<dyn Deliveries>,
    in_flight: Arc<AtomicUsize>,
    running: RwLock<Running>,
}

impl Producer {
    /// Starts a producer. It collects records for up to `linger` before it sends them.
    ///
    /// # Errors
    /// A property is not allowed, or the thread cannot be started. A broker that is away is not an error here.
    pub fn start(
        settings: &KafkaSettings,
        linger: Duration,
        deliveries: Arc<dyn Deliveries>,
    ) -> Result<Self, KafkaError> {
        let in_flight = Arc::new(AtomicUsize::new(0));
        let running = Running::start(settings, linger, deliveries.clone(), in_flight.clone())?;
        Ok(Self { settings: settings.clone(), linger, deliveries, in_flight, running: RwLock::new(running) })
    }

    /// Queues a record. What becomes of it is told with `token`; records of one partition keep their order, as long
    /// as nothing fails. Never blocks.
    ///
    /// # Errors
    /// It was not taken, and its token will not come back.
    pub fn send(&self, record: &Record, token: u64) -> Result<(), SendError> {
        self.offer(record, token).map_err(|not_taken| match not_taken {
            NotTaken::QueueFull => SendError::QueueFull,
            NotTaken::TooLarge => SendError::TooLarge,
            NotTaken::Refused(text) | NotTaken::Fatal(text) => SendError::Other(text),
        })
    }

    /// As [`Producer::send`], but tells what another thread could have mended since: whether the producer was fatal.
    pub(crate) fn offer(&self, record: &Record, token: u64) -> Result<(), NotTaken> {
        record.check_size().map_err(|_| NotTaken::TooLarge)?;
        let message = BaseRecord::<[u8], [u8], usize> {
            topic: &record.topic,
            partition: record.partition,
            payload: record.value.as_deref(),
            key: record.key.as_deref(),
            timestamp: record.timestamp_ms,
            headers: headers_of(record),
            delivery_opaque: token as usize,
        };
        // Before its report can come, so a record that is refused counts for a moment.
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.running().client.send(message).map_err(|(error, _)| {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => NotTaken::QueueFull,
                Some(RDKafkaErrorCode::MessageSizeTooLarge) => NotTaken::TooLarge,
                Some(RDKafkaErrorCode::Fatal) => NotTaken::Fatal(error.to_string()),
                _ => NotTaken::Refused(error.to_string()),
            }
        })
    }

    /// Makes the first delivery fast: connects, gets the producer id (which otherwise takes half a second), and learns
    /// where the partitions of these topics are. Sends no record.
    ///
    /// # Errors
    /// The broker does not answer within `limit`, or a topic does not exist.
    pub async fn warm_up(&self, topics: &[&str], limit: Duration) -> Result<(), WarmUpError> {
        let client = self.running().client.clone();
        let topics: Vec<String> = topics.iter().map(|&topic| topic.to_owned()).collect();
        let work = tokio::task::spawn_blocking(move || warm(&client, &topics, limit));
        work.await.unwrap_or(Err(WarmUpError::Interrupted))
    }

    /// Waits until everything that was sent is reported, at most this long. Whether it is: `in_flight() == 0`.
    pub fn flush(&self, limit: Duration) {
        // librdkafka does not wait for the linger time while something flushes.
        let client = self.running().client.clone();
        if let Err(error) = client.flush(limit) {
            tracing::debug!(%error, "records are still on their way");
        }
    }

    /// How many records are on their way: taken, and not yet reported. Counted here, because librdkafka's number has
    /// the errors in it that it has still to tell.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether an error has made this producer useless: nothing more can be sent before [`Producer::rebuild`].
    pub fn is_fatal(&self) -> bool {
        self.running().client.client().fatal_error().is_some()
    }

    /// Replaces a fatal producer by a new one. All tokens that are still out are reported as failed before this
    /// returns. Does nothing while the producer works, so all who meet the same failure may call it. Blocks, normally
    /// for some ten milliseconds.
    ///
    /// # Errors
    /// A new producer cannot be made; the old one stays.
    pub fn rebuild(&self) -> Result<(), KafkaError> {
        let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
        let Some((code, reason)) = running.client.client().fatal_error() else {
            return Ok(());
        };
        tracing::warn!(%code, reason, "the producer failed for good and is replaced");
        let (deliveries, in_flight) = (self.deliveries.clone(), self.in_flight.clone());
        let new = Running::start(&self.settings, self.linger, deliveries, in_flight)?;
        let old = std::mem::replace(&mut *running, new);
        drop(running);
        drop(old);
        Ok(())
    }

    fn running(&self) -> std::sync::RwLockReadGuard<'_, Running> {
        self.running.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One life of a producer.
struct Running {
    client: Arc<BaseProducer<Reports>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(
        settings: &KafkaSettings,
        linger: Duration,
        deliveries: Arc<dyn Deliveries>,
        in_flight: Arc<AtomicUsize>,
    ) -> Result<Self, KafkaError> {
        let config = settings.producer(linger)?;
        let client: BaseProducer<Reports> = config
            .create_with_context(Reports { deliveries, in_flight, client: OnceLock::new() })
            .map_err(|source| KafkaError::client("producer", source))?;
        let client = Arc::new(client);
        // Nothing is sent yet, so no report can miss it.
        let _ = client.context().client.set(Arc::downgrade(&client));
        let stop = Arc::new(AtomicBool::new(false));
        let poll = {
            let (client, stop) = (client.clone(), stop.clone());
            let mut silence = Silence::new(&settings.bootstrap_servers);
            move || {
                let Some(queue) = ReportQueue::of(&client) else {
                    tracing::error!("a producer without a queue");
                    return;
                };
                while !stop.load(Ordering::Acquire) {
                    let reports = queue.poll(POLL_WAIT);
                    let idle = client.context().in_flight.load(Ordering::Relaxed) == 0;
                    if idle || reports.iter().any(|(_, outcome)| outcome.is_ok()) {
                        silence.broken();
                    } else {
                        // SAFETY: we hold the client.
                        unsafe { silence.goes_on(client.client().native_ptr()) };
                    }
                    client.context().hand_over(reports);
                }
            }
        };
        let name = "poll producer".to_owned();
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(poll)
            .map_err(|source| KafkaError::Thread { name, source })?;
        Ok(Self { client, stop, thread: Some(thread) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the poll thread of a producer has panicked");
        }
        // Every token still out is reported now, as failed.
        self.client.purge(PurgeConfig::default().queue().inflight());
        if let Err(error) = self.client.flush(LAST_REPORTS) {
            tracing::warn!(%error, "not all deliveries were reported");
        }
    }
}

/// The context that gets librdkafka's delivery reports.
struct Reports {
    deliveries: Arc<dyn Deliveries>,
    in_flight: Arc<AtomicUsize>,
    client: OnceLock<Weak<BaseProducer<Reports>>>,
}

impl Reports {
    /// The record on which the producer failed for good is reported with the broker's reason, not with `Fatal`.
    fn is_fatal(&self) -> bool {
        let client = self.client.get().and_then(Weak::upgrade);
        client.is_some_and(|client| client.client().fatal_error().is_some())
    }

    fn failure(&self, error: &ClientError) -> DeliveryFailure {
        match classified(error) {
            DeliveryFailure::Unknown(text) if self.is_fatal() => DeliveryFailure::Fatal(text),
            failure => failure,
        }
    }

    fn hand_over(&self, reports: Vec<RawReport>) {
        if reports.is_empty() {
            return;
        }
        let told = |(token, outcome): RawReport| {
            let failure = |code| self.failure(&ClientError::MessageProduction(code));
            (token as u64, outcome.map_err(failure).and_then(certain))
        };
        let reports: Vec<Report> = reports.into_iter().map(told).collect();
        // First, so that whoever is told finds them counted.
        self.in_flight.fetch_sub(reports.len(), Ordering::Relaxed);
        self.deliveries.delivered_together(reports);
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }

    fn error(&self, error: ClientError, reason: &str) {
        log_error(&error, reason);
    }
}

/// Only of what is flushed or purged: else [`ReportQueue`] is read.
impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, token: usize) {
        let outcome = match result {
            Ok(message) => certain(Placed { partition: message.partition(), offset: message.offset() }),
            Err((error, _)) => Err(self.failure(error)),
        };
        // First, so that whoever is told finds it counted.
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.deliveries.delivered(token as u64, outcome);
    }
}

/// Only a record whose offset the broker has told is certainly there. librdkafka also reports success, without an offset,
/// for a record of unknown fate that was sent before one which succeeded, because a broker that checks sequence numbers
/// would have refused the later one; whether this broker does, we cannot see, and the embedded one does not. A record that
/// is sent again costs a duplicate, one that is wrongly believed is lost.
fn certain(placed: Placed) -> Result<Placed, DeliveryFailure> {
    if placed.offset < 0 {
        return Err(DeliveryFailure::Unknown("acknowledged without an offset".to_owned()));
    }
    Ok(placed)
}

/// What a failed delivery means. Unknown unless it is sure that the record was not, and will not be, written.
fn classified(error: &ClientError) -> DeliveryFailure {
    use RDKafkaErrorCode as Code;
    let text = error.to_string();
    match error.rdkafka_error_code() {
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge) => {
            DeliveryFailure::TooLarge(text)
        }
        Some(
            Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::InvalidTopic
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::PolicyViolation,
        ) => DeliveryFailure::Refused(text),
        Some(Code::Fatal | Code::Fenced) => DeliveryFailure::Fatal(text),
        _ => DeliveryFailure::Unknown(text),
    }
}

fn headers_of(record: &Record) -> Option<OwnedHeaders> {
    if record.headers.is_empty() {
        return None;
    }
    let empty = OwnedHeaders::new_with_capacity(record.headers.len());
    Some(record.headers.iter().fold(empty, |all, (key, value)| all.insert(Header { key, value })))
}

/// Asking for metadata makes librdkafka connect, and the answer makes it ask for the producer id at once; left alone
/// it looks for a connection every half second. The second question waits behind that of the id on the connection.
fn warm(client: &BaseProducer<Reports>, topics: &[String], limit: Duration) -> Result<(), WarmUpError> {
    let deadline = Instant::now() + limit;
    let unreachable = |error: ClientError| WarmUpError::Unreachable { limit, source: error.into() };
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        left.clamp(Duration::from_millis(1), QUESTION_TIMEOUT)
    };
    // All topics, not one by one: the question for an unknown topic would create it on the embedded broker.
    let all = loop {
        match client.client().fetch_metadata(None, left()) {
            Ok(all) => break all,
            Err(error) if Instant::now() >= deadline => return Err(unreachable(error)),
            Err(_) => std::thread::sleep(Duration::from_millis(50).min(left())),
        }
    };
    for topic in topics {
        if !all.topics().iter().any(|known| known.name() == topic && known.error().is_none()) {
            return Err(WarmUpError::NoSuchTopic { topic: topic.clone() });
        }
    }
    for topic in topics {
        client.client().fetch_metadata(Some(topic), left()).map_err(unreachable)?;
    }
    client.client().fetch_metadata(None, left()).map_err(unreachable)?;
    Ok(())
}
