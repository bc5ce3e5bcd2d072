//! The engine: everything that happens to a saga goes through one lane per process.
//!
//! Read [`lane`] first: the loop. A [`batch`] is decided purely, committed once, and only then are clients answered and
//! commands handed to the [`publisher`]. Which sagas this process may move is a matter of [`shards`]; what a take-over
//! does stands in [`recovery`].

pub mod batch;
pub mod bus;
pub mod clock;
pub mod deliveries;
pub mod environment;
pub mod handle;
pub mod intake;
pub mod lane;
pub mod participants;
pub mod publisher;
pub mod rebalance;
pub mod records;
pub mod recovery;
pub mod replies;
pub mod shards;
pub mod storage;
pub mod traces;

use std::sync::Arc;
use std::time::Duration;

use messaging::{KafkaError, KafkaSettings};
use saga_defs::ids::ShardCount;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::bus::{Bus, Group};
use self::environment::Environment;
use self::handle::{EngineHandle, Shown};
use self::lane::{Lane, Sources};
use self::participants::board::Board;
use self::storage::Storage;
use crate::definitions::Definitions;
use crate::metrics::Metrics;

/// The consumer group that hands shards to processes.
pub const GROUP: &str = "saga-orchestrator";
/// How long the start waits for the producer's first delivery.
const WARM_UP_LIMIT: Duration = Duration::from_secs(5);
/// How long a stop waits for the lane to finish what it has in hand.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// The topic that replies come in on; one partition is one shard.
pub const INBOX: &str = schemas::INBOX;
/// The topic of each saga's start and end.
pub const EVENTS: &str = "saga.events";
/// The topic that dead letters are exported to and that workers send theirs to.
pub const DEAD_LETTERS: &str = "saga.dead-letters";

/// One batch takes at most this many inputs.
pub const BATCH_INPUTS: usize = 1_000;
/// Requests that wait for the lane; one more is answered with `503`.
pub const REQUEST_QUEUE: usize = 4_096;
/// Records handed to the producer and not yet acknowledged. Above it no starts are taken: a broker that is away must
/// not fill the memory.
pub const MAX_UNPUBLISHED: usize = 50_000;
/// So many bytes of them, keys, values and headers. The producers have as many again.
pub const MAX_UNPUBLISHED_BYTES: usize = 32 * 1024 * 1024;
/// Open sagas kept in memory; others are loaded, a batch at a time, when something happens to them. Each takes some
/// kilobytes, so this is room for two seconds of full load and not for all that wait for days.
pub const CACHED_SAGAS: usize = 25_000;
/// About so many bytes of them: sagas that carry much leave earlier.
pub const CACHED_BYTES: usize = 64 * 1024 * 1024;
/// A command's value is at most this long, well below what a broker takes by default (1 MB with headers).
pub const MAX_COMMAND_BYTES: usize = 900 * 1024;
/// The starts of one slice of time draw ids of one shard, so that a hop is one request to the broker.
pub const SLICE: Duration = Duration::from_millis(75);
/// A slice ends early after this many starts, so that all of several workers have work.
pub const SLICE_STARTS: u32 = 512;

/// What the engine is told at its start.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// The base URL under which other processes reach this one.
    pub advertise_url: Arc<str>,
    /// The broker's incarnation.
    pub incarnation: Arc<str>,
    /// Partitions of each command topic.
    pub command_partitions: u16,
    /// Partitions of [`EVENTS`].
    pub event_partitions: u16,
    /// How long a request waits for the lane before it is told to come again.
    pub answer_limit: Duration,
}

/// What the engine is built from.
pub struct EngineParts {
    /// The database.
    pub store: Arc<dyn Storage>,
    /// The recipes and the schemas of their messages.
    pub definitions: Definitions,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The number of shards.
    pub shard_count: ShardCount,
    /// Time and chance.
    pub environment: Arc<dyn Environment>,
    /// What operators say of participants, and what is shown of them.
    pub board: Arc<Board>,
    /// The rest.
    pub settings: EngineSettings,
}

/// A running engine.
pub struct Engine {
    /// For those who ask it.
    pub handle: EngineHandle,
    stop: CancellationToken,
    lane: JoinHandle<()>,
    group: Arc<dyn Group>,
}

impl Engine {
    /// Starts the lane, its consumer and its producers. Shards are claimed when the group hands them out.
    ///
    /// # Errors
    /// When a Kafka setting is refused.
    pub async fn start(parts: EngineParts, kafka: &KafkaSettings) -> Result<Self, KafkaError> {
        let mut bus = Bus::connect(kafka).await?;
        if let Some(registry) = parts.definitions.catalog().registry() {
            bus.records = intake::learning(bus.records, registry.clone());
        }
        let group = bus.group.clone();
        let (handle, lane) = assemble(parts, bus);
        let stop = CancellationToken::new();
        let lane = tokio::spawn(lane.run(stop.clone()));
        Ok(Self { handle, stop, lane, group })
    }

    /// Finishes what is in hand, publishes what is committed and leaves the group. `Err` if the lane had panicked.
    ///
    /// # Errors
    /// When the lane had panicked.
    pub async fn stop(self) -> Result<(), tokio::task::JoinError> {
        self.stop.cancel();
        let mut lane = self.lane;
        let ended = match tokio::time::timeout(STOP_LIMIT, &mut lane).await {
            Ok(ended) => ended,
            Err(_) => {
                // The database is away. What is committed is published by the next owner; nothing else happened.
                tracing::warn!(
                    "the lane does not finish in time; what it has in hand is left to the next owner"
                );
                lane.abort();
                Ok(())
            }
        };
        let group = self.group;
        // Leaving the group joins a thread.
        let left = tokio::task::spawn_blocking(move || drop(group)).await;
        ended.and(left)
    }

    /// Whether the lane has ended although nobody stopped it.
    pub fn has_died(&self) -> bool {
        self.lane.is_finished()
    }
}

/// An engine that is yet to run, and the way to ask it.
pub fn assemble(parts: EngineParts, bus: Bus) -> (EngineHandle, Lane) {
    let (requests, asked) = mpsc::channel(REQUEST_QUEUE);
    let shown = Arc::new(Shown::default());
    shown.update(|health| health.shard_count = parts.shard_count.get());
    let handle = EngineHandle {
        requests,
        shown: shown.clone(),
        store: parts.store.clone(),
        environment: parts.environment.clone(),
        shard_count: parts.shard_count,
        answer_limit: parts.settings.answer_limit,
        group: Arc::downgrade(&bus.group),
    };
    let Bus { records, rebalances, group, publisher } = bus;
    let sources = Sources { records, requests: asked, rebalances, group };
    (handle, Lane::new(parts, sources, publisher, shown))
}
