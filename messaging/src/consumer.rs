//! A member of a consumer group on a thread of its own.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, config::RDKafkaLogLevel};
use tokio::sync::mpsc;

use crate::cause::Cause;
use crate::client_log::{log_error, log_line};
use crate::events::Place;
use crate::poller::Poller;
use crate::record::Received;
use crate::settings::{KafkaError, KafkaSettings};

/// Where reading a partition starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At this offset. If it does not exist (any more), [`ConsumerEvent::OffsetVanished`] says so.
    Offset(i64),
    /// At the offset that the group committed, or at the oldest record if there is none.
    CommittedOrEarliest,
    /// Not at all: the partition is ours in the group, and not read.
    Skip,
}

/// Is told which partitions come and go. Called on the consumer's own poll thread; it may block, but nothing is read
/// meanwhile, and after [`crate::settings::MAX_POLL_INTERVAL_MS`] the group takes the partitions away again.
pub trait Assignments: Send + Sync + 'static {
    /// These are all our partitions from now on; says where to start, in the same order (what is missing is skipped).
    /// Every assignment has a generation of its own, rising from 1.
    fn assigned(&self, generation: u64, partitions: &[(Arc<str>, i32)]) -> Vec<StartAt>;
    /// The partitions of that generation are no longer ours; no batch of it is handed out after this.
    fn revoked(&self, generation: u64, partitions: &[(Arc<str>, i32)]);
    /// As [`Assignments::revoked`], but nobody asked for them: the group was not heard of for longer than a session, so
    /// that others may have them by now, or nobody.
    fn lost(&self, generation: u64, partitions: &[(Arc<str>, i32)]) {
        self.revoked(generation, partitions);
    }
}

/// How much a consumer hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerLimits {
    /// At most this many records in one batch (and about [`BATCH_BYTES`]).
    pub batch_records: usize,
    /// So many batches may wait to be taken; then the partitions are paused.
    pub queued_batches: usize,
}

/// A batch is closed when it is this big, in bytes: a few huge records do not fill the memory.
pub const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// How often offsets are committed at most: each commit is a request, and all that an older one costs is that a few more
/// records are read again after a crash.
pub const COMMIT_INTERVAL: Duration = Duration::from_millis(100);

/// The records of one poll round: all of one generation, in order per partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Polled {
    /// The assignment under which they were read.
    pub generation: u64,
    /// When the last of them was read.
    pub at: Instant,
    /// At least one.
    pub records: Vec<Received>,
}

/// What a consumer tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerEvent {
    /// Records were read.
    Records(Polled),
    /// The place to go on from does not exist, or what is there is damaged: the partition delivers nothing more until the
    /// next assignment. Others go on.
    OffsetVanished {
        /// The assignment under which it was found.
        generation: u64,
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// librdkafka's words.
        text: String,
    },
    /// The broker is away, or the like. At most one a second; the consumer goes on by itself.
    Failed(String),
}

/// A commit that did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The group refused it, or the coordinator is away.
    #[error("the offsets were not committed")]
    Refused(#[source] Cause),
    /// No answer in time: it may still happen.
    #[error("no answer to the commit of offsets within {limit:?}")]
    Unanswered {
        /// How long we waited.
        limit: Duration,
    },
}

/// A member of a consumer group. Dropping it leaves the group as well, see [`Consumer::stop`].
pub struct Consumer {
    client: Arc<BaseConsumer<Quiet>>,
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
}

impl Consumer {
    /// Joins `group` for `topics` and starts to read. Events come out of the receiver; dropping that ends the reading.
    ///
    /// # Errors
    /// A property is not allowed, or the thread cannot be started. A broker that is away is not an error here.
    pub fn start(
        settings: &KafkaSettings,
        group: &str,
        topics: &[&str],
        limits: ConsumerLimits,
        assignments: Arc<dyn Assignments>,
    ) -> Result<(Self, mpsc::Receiver<ConsumerEvent>), KafkaError> {
        let config = settings.consumer(group)?;
        let client: BaseConsumer<Quiet> =
            config.create_with_context(Quiet).map_err(|source| KafkaError::client("consumer", source))?;
        let client = Arc::new(client);
        client.subscribe(topics).map_err(|source| KafkaError::client("consumer", source))?;
        let (out, events) = mpsc::channel(limits.queued_batches.max(1));
        let progress = Arc::new(Progress::new());
        let name = format!("poll {group}");
        let poll = {
            let (client, progress) = (client.clone(), progress.clone());
            let settings = settings.clone();
            move || Poller::new(&client, &progress, assignments, limits, out, &settings).run()
        };
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(poll)
            .map_err(|source| KafkaError::Thread { name, source })?;
        Ok((Self { client, progress, thread: Some(thread) }, events))
    }

    /// Commits next offsets (that of the last record done, plus one) to the group within about
    /// [`COMMIT_INTERVAL`], without waiting; of those that come meanwhile the last one of a partition is enough. They are
    /// committed before a partition is let go. A refusal is only logged, and a partition that was revoked
    /// meanwhile is passed over: it is another member's business now.
    pub fn commit(&self, next_offsets: &[(Arc<str>, i32, i64)]) {
        let mut offsets = self.progress.offsets();
        for (topic, partition, next) in next_offsets {
            let place = (topic.clone(), *partition);
            // Kafka takes the offset of any member for any partition: one that another has now would go back.
            if offsets.owned.contains(&place) {
                offsets.to_commit.insert(place, *next);
            }
        }
    }

    /// Commits what [`Consumer::commit`] has been given and is not committed yet, and waits for the group's answer.
    ///
    /// # Errors
    /// Refused, e.g. because we are out of the group; or no answer within `limit`.
    pub async fn flush_commits(&self, limit: Duration) -> Result<(), CommitError> {
        let pending = std::mem::take(&mut self.progress.offsets().to_commit);
        if pending.is_empty() {
            return Ok(());
        }
        let offsets =
            list_with(pending.iter().map(|((topic, partition), next)| (&**topic, *partition, *next)))
                .map_err(|e| CommitError::Refused(e.into()))?;
        let client = self.client.clone();
        let commit = tokio::task::spawn_blocking(move || client.commit(&offsets, CommitMode::Sync));
        match tokio::time::timeout(limit, commit).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(CommitError::Refused(error.into())),
            Ok(Err(_)) | Err(_) => Err(CommitError::Unanswered { limit }),
        }
    }

    /// How long ago the poll thread last came round: the sign of life of this consumer. It grows while
    /// [`Assignments`] blocks, and for ever once the thread has ended.
    pub fn last_poll_age(&self) -> Duration {
        self.progress.age()
    }

    /// Leaves the group and joins it again, soon and without waiting: all partitions come with a new assignment, which says
    /// anew where to start.
    pub fn rejoin(&self) {
        self.progress.rejoin.store(true, Ordering::Release);
    }

    /// Stops reading, tells [`Assignments::revoked`], leaves the group and waits for all that. Blocks, normally for a
    /// fifth of a second, and for some seconds when the broker is away.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.progress.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the poll thread of a consumer has panicked");
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.end();
    }
}

/// A list of places with offsets, in librdkafka's form.
pub(crate) fn list_with<'a>(
    places: impl IntoIterator<Item = (&'a str, i32, i64)>,
) -> Result<TopicPartitionList, ClientError> {
    let mut list = TopicPartitionList::new();
    for (topic, partition, offset) in places {
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    }
    Ok(list)
}

/// Which partitions are ours, and how far their records are done.
#[derive(Default)]
pub(crate) struct Offsets {
    pub(crate) owned: HashSet<Place>,
    /// Next offsets that are not committed yet; of partitions that are ours only.
    pub(crate) to_commit: HashMap<Place, i64>,
}

/// What the poll thread and its owner know of each other.
pub(crate) struct Progress {
    pub(crate) stop: AtomicBool,
    rejoin: AtomicBool,
    offsets: Mutex<Offsets>,
    started: Instant,
    last_poll_ms: AtomicU64,
}

impl Progress {
    fn new() -> Self {
        Self {
            stop: AtomicBool::new(false),
            rejoin: AtomicBool::new(false),
            offsets: Mutex::default(),
            started: Instant::now(),
            last_poll_ms: AtomicU64::new(0),
        }
    }

    /// Held while they are handed to librdkafka, so that no older offset is committed after a newer one.
    pub(crate) fn offsets(&self) -> MutexGuard<'_, Offsets> {
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Whether somebody asked to join anew since the last time.
    pub(crate) fn rejoins(&self) -> bool {
        self.rejoin.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn polled(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_poll_ms.store(now, Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        let last = Duration::from_millis(self.last_poll_ms.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(last)
    }
}

/// The context that librdkafka's callbacks get: rebalances are served by [`Poller`], except in the client's drop.
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }

    fn error(&self, error: ClientError, reason: &str) {
        log_error(&error, reason);
    }
}

impl ConsumerContext for Quiet {
    /// Only while the client closes: our poll loop has ended, all that is left is to let go.
    fn rebalance(&self, client: &BaseConsumer<Self>, _: RDKafkaRespErr, _: &mut TopicPartitionList) {
        if let Err(error) = client.unassign() {
            tracing::debug!(%error, "cannot let go of partitions");
        }
    }
}
