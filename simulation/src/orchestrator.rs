//! Orchestrators: the real lane over the simulated database and bus, started again whenever it ends.

use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::orchestrator::definitions::Definitions;
use ::orchestrator::engine::bus::{Bus, Group as Shown};
use ::orchestrator::engine::deliveries::DeliveryQueue;
use ::orchestrator::engine::environment::Environment;
use ::orchestrator::engine::handle::EngineHandle;
use ::orchestrator::engine::lane::Lane;
use ::orchestrator::engine::participants::board::Board;
use ::orchestrator::engine::participants::health::Limits;
use ::orchestrator::engine::publisher::Publisher;
use ::orchestrator::engine::rebalance::{RELEASE_LIMIT, Rebalance};
use ::orchestrator::engine::{EngineParts, EngineSettings, assemble};
use ::orchestrator::metrics::Metrics;
use async_trait::async_trait;
use saga_defs::ids::Shard;
use saga_defs::time::Timestamp;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::group::{Assigned, Group, Membership};
use crate::process::Process;
use crate::producer::SimulatedProducer;
use crate::store::remote::Remote;
use crate::world::{World, lock};

/// A schedule has few sagas, so participants are held after few.
const HOLDS: Limits = Limits {
    sagas: 2,
    silence: Duration::ZERO,
    first_probe: Duration::from_secs(1),
    last_probe: Duration::from_secs(4),
};
/// Partitions of each command topic and of `saga.events`.
pub const PARTITIONS: u16 = 2;
/// How long a request waits for the lane.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Batches between the member of the group and the lane.
const QUEUED_BATCHES: usize = 4;
/// The longest until a process that ended is there again.
const RESTART_MS: u64 = 3_000;
/// How long a process that is told to stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Until a member has noticed that nobody listens any more, and has left its group.
const LEAVE: Duration = Duration::from_millis(1_500);
/// As good as for ever.
const AGES: Duration = Duration::from_secs(1_000_000);
/// The longest between two looks for an answer of the lane.
const LOOK: Duration = Duration::from_millis(40);

/// What all orchestrators are built from.
#[derive(Clone)]
pub struct Release {
    /// The recipes.
    pub definitions: Definitions,
    /// What is counted; nobody looks.
    pub metrics: Arc<Metrics>,
}

/// A place where an orchestrator runs, one process after the other.
pub struct Slot {
    world: Arc<World>,
    group: Arc<Group>,
    release: Release,
    name: String,
    running: Mutex<Option<Running>>,
    abandoned: Notify,
    /// Processes that were here and may still be alive.
    left: Mutex<Vec<Running>>,
}

/// A process at its place.
#[derive(Clone)]
pub struct Running {
    /// For those who ask it.
    pub handle: EngineHandle,
    /// The process.
    pub process: Process,
    stop: CancellationToken,
}

impl Running {
    /// Tells it to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

impl Slot {
    /// An empty place.
    pub fn new(world: &Arc<World>, group: &Arc<Group>, release: &Release, number: usize) -> Arc<Self> {
        Arc::new(Self {
            world: world.clone(),
            group: group.clone(),
            release: release.clone(),
            name: format!("o{number}"),
            running: Mutex::default(),
            abandoned: Notify::new(),
            left: Mutex::default(),
        })
    }

    /// The process that runs here at the moment.
    pub fn running(&self) -> Option<Running> {
        lock(&self.running).clone()
    }

    /// That one, and those that were here before it and may still be alive.
    pub fn everybody(&self) -> Vec<Running> {
        let left = lock(&self.left).clone();
        self.running().into_iter().chain(left).collect()
    }

    /// Whoever looks after this place believes that its process is gone, and starts another one under the same name.
    pub fn abandon(&self) {
        self.abandoned.notify_one();
    }

    /// Ends every process of this place.
    pub fn kill_all(&self) {
        for running in self.everybody() {
            running.process.kill();
        }
        lock(&self.left).clear();
    }

    /// Starts a process whenever there is none.
    pub async fn keep_running(self: Arc<Self>) {
        let mut number = 0;
        loop {
            number += 1;
            self.run(number).await;
            *lock(&self.running) = None;
            sleep(self.world.dice.millis(0, RESTART_MS)).await;
        }
    }

    async fn run(&self, number: u32) {
        let process = Process::new(&self.world, format!("{}.{number}", self.name).into());
        let (handle, lane) = self.build(&process);
        let stop = CancellationToken::new();
        let mut lane = process.spawn(lane.run(stop.clone()));
        let running = Running { handle, process: process.clone(), stop: stop.clone() };
        *lock(&self.running) = Some(running.clone());
        self.world.note(format_args!("{process:?} starts"));
        let ended = tokio::select! {
            biased;
            () = process.died() => return process.kill(),
            () = self.abandoned.notified() => {
                self.world.note(format_args!("{process:?} is abandoned"));
                lock(&self.left).push(running);
                return;
            }
            ended = &mut lane => Some(ended),
            () = stop.cancelled() => timeout(STOP_LIMIT, &mut lane).await.ok(),
        };
        if let Some(Err(error)) = ended
            && error.is_panic()
        {
            self.world.complain(format!("{process:?} panicked: {error}"));
        }
        self.world.note(format_args!("{process:?} ends"));
        sleep(LEAVE).await;
        process.kill();
    }

    fn build(&self, process: &Process) -> (EngineHandle, Lane) {
        let world = &self.world;
        let queue = Arc::new(DeliveryQueue::default());
        let producer = || Box::new(SimulatedProducer::start(world, process, queue.clone()));
        let publisher = Publisher::over(producer(), producer(), queue.clone());
        let (out, records) = mpsc::channel(QUEUED_BATCHES);
        let (to_lane, rebalances) = mpsc::unbounded_channel();
        let told = ToLane { lane: to_lane };
        let member = Membership { world: world.clone(), group: self.group.clone(), told, out };
        process.spawn(member.run());
        let parts = EngineParts {
            store: Arc::new(Remote::new(world, process.name())),
            definitions: self.release.definitions.clone(),
            metrics: self.release.metrics.clone(),
            shard_count: world.shard_count,
            environment: Arc::new(Surroundings(world.clone())),
            board: Arc::new(Board::new(HOLDS, Vec::new(), Vec::new())),
            settings: EngineSettings {
                advertise_url: format!("http://{}", self.name).into(),
                incarnation: world.broker.incarnation(),
                command_partitions: PARTITIONS,
                event_partitions: PARTITIONS,
                answer_limit: ANSWER_LIMIT,
            },
        };
        assemble(parts, Bus { records, rebalances, group: Arc::new(Unshown), publisher })
    }
}

/// Time and chance of the schedule.
struct Surroundings(Arc<World>);

impl Environment for Surroundings {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn random(&self) -> (u64, u64) {
        self.0.dice.uuid().as_u64_pair()
    }
}

/// Nobody looks at lag.
struct Unshown;

impl Shown for Unshown {
    fn commit(&self, _: &[(Arc<str>, i32, i64)]) {}

    fn last_poll_age(&self) -> Duration {
        Duration::ZERO
    }
}

/// As `::orchestrator::engine::rebalance::ToLane`, without a thread to block.
struct ToLane {
    lane: mpsc::UnboundedSender<Rebalance>,
}

fn shards(partitions: &[i32]) -> Vec<Shard> {
    partitions.iter().map(|&partition| Shard(u16::try_from(partition).unwrap_or(u16::MAX))).collect()
}

/// Waits for an answer; `None` if none comes.
async fn answered<T>(answer: blocking::Receiver<T>, limit: Duration) -> Option<T> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        match answer.try_recv() {
            Ok(answer) => return Some(answer),
            Err(blocking::TryRecvError::Disconnected) => return None,
            Err(blocking::TryRecvError::Empty) if Instant::now() >= deadline => return None,
            Err(blocking::TryRecvError::Empty) => sleep(pause).await,
        }
        pause = (pause * 2).min(LOOK);
    }
}

#[async_trait]
impl Assigned for ToLane {
    async fn assigned(&mut self, generation: u64, partitions: &[i32]) -> Option<Vec<Option<i64>>> {
        let (answer, lane) = blocking::sync_channel(1);
        self.lane
            .send(Rebalance::Assigned { generation, shards: shards(partitions), inbox: None, answer })
            .ok()?;
        answered(lane, AGES).await
    }

    async fn revoked(&mut self, partitions: &[i32]) {
        let (done, lane) = blocking::sync_channel(1);
        if self.lane.send(Rebalance::Revoked { shards: shards(partitions), done }).is_ok() {
            answered(lane, RELEASE_LIMIT).await;
        }
    }

    fn lost(&mut self, _: &[i32]) {
        // Without a lane the process is about to end.
        let _ = self.lane.send(Rebalance::Lost);
    }
}
