//! A lane whose bus and group are the test's own hands, over the database in memory.

use std::future::Future;
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use messaging::{ConsumerEvent, Deliveries, DeliveryFailure, KafkaError, Placed, Record, SendError};
use orchestrator::definitions::Definitions;
use orchestrator::engine::bus::{Bus, Group, Outlet};
use orchestrator::engine::deliveries::DeliveryQueue;
use orchestrator::engine::environment::Environment;
use orchestrator::engine::handle::{EngineHandle, StartError, StartSaga};
use orchestrator::engine::publisher::Publisher;
use orchestrator::engine::rebalance::Rebalance;
use orchestrator::engine::storage::Storage;
use orchestrator::engine::{EngineParts, EngineSettings, assemble};
use orchestrator::metrics::Metrics;
use saga_defs::ids::{SagaId, Shard, ShardCount};
use saga_defs::saga::{Saga, Status};
use saga_defs::time::Timestamp;
use simulation::recipes;
use simulation::store::remote::Remote;
use simulation::world::World;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How long to wait for anything, in virtual time.
const PATIENCE: Duration = Duration::from_secs(300);

/// A world in which nothing goes wrong by itself.
pub(crate) fn world() -> Arc<World> {
    World::kind(ShardCount::new(1).unwrap())
}

/// A process, as far as its lane is concerned.
pub(crate) struct Process {
    pub(crate) handle: EngineHandle,
    pub(crate) rebalances: mpsc::UnboundedSender<Rebalance>,
    pub(crate) records: mpsc::Sender<ConsumerEvent>,
    pub(crate) commands: Sent,
    pub(crate) announcements: Sent,
    world: Arc<World>,
    lane: JoinHandle<()>,
}

/// What a producer was given, with the tokens.
#[derive(Clone)]
pub(crate) struct Sent {
    records: Arc<Mutex<Vec<(Record, u64)>>>,
    queue: Arc<DeliveryQueue>,
}

impl Process {
    /// Starts one under this URL, over the tables of the world.
    pub(crate) fn start(world: &Arc<World>, url: &str) -> Self {
        Self::over(world, Arc::new(Remote::new(world, &url.into())), url)
    }

    pub(crate) fn over(world: &Arc<World>, store: Arc<dyn Storage>, url: &str) -> Self {
        let queue = Arc::new(DeliveryQueue::default());
        let sent = || Sent { records: Arc::default(), queue: queue.clone() };
        let (commands, announcements) = (sent(), sent());
        let publisher =
            Publisher::over(Box::new(commands.clone()), Box::new(announcements.clone()), queue.clone());
        let (to_lane, rebalances) = mpsc::unbounded_channel();
        let (from_broker, records) = mpsc::channel(4);
        let parts = EngineParts {
            store,
            definitions: Definitions::of(recipes::all().iter().map(|recipe| (**recipe).clone())),
            metrics: Metrics::new().unwrap(),
            shard_count: world.shard_count,
            environment: Arc::new(Surroundings(world.clone())),
            board: Arc::default(),
            settings: EngineSettings {
                advertise_url: url.into(),
                incarnation: "broker".into(),
                command_partitions: 1,
                event_partitions: 1,
                answer_limit: Duration::from_secs(5),
            },
        };
        let (handle, lane) = assemble(parts, Bus { records, rebalances, group: Arc::new(Nobody), publisher });
        let lane = tokio::spawn(lane.run(CancellationToken::new()));
        Self {
            handle,
            rebalances: to_lane,
            records: from_broker,
            commands,
            announcements,
            world: world.clone(),
            lane,
        }
    }

    /// The group gives it the shard.
    pub(crate) async fn is_assigned(&self, generation: u64) -> Option<i64> {
        self.is_assigned_of(generation, None).await
    }

    /// The group gives it the shard, of an inbox with this id; where it is to be read from.
    pub(crate) async fn is_assigned_of(&self, generation: u64, inbox: Option<&str>) -> Option<i64> {
        let (answer, answered) = blocking::sync_channel(1);
        let shards = vec![Shard(0)];
        self.rebalances
            .send(Rebalance::Assigned { generation, shards, inbox: inbox.map(Into::into), answer })
            .unwrap();
        eventually(async || answered.try_recv().ok()).await.remove(0)
    }

    pub(crate) async fn start_saga(&self, definition: &str) -> SagaId {
        self.ask_for(definition).await.unwrap().id
    }

    /// Asks for a saga, whatever is answered.
    pub(crate) async fn ask_for(&self, definition: &str) -> Result<Saga, StartError> {
        let recipe = recipes::all().iter().find(|recipe| &*recipe.id.name == definition).unwrap();
        let start = StartSaga {
            definition: recipe.clone(),
            input: recipes::input(recipe, self.world.dice.uuid(), &self.world.dice),
            business_key: None,
            traceparent: None,
            key: None,
        };
        self.handle.start(start).await
    }

    /// It dies where it stands.
    pub(crate) fn kill(self) {
        self.lane.abort();
    }
}

impl Sent {
    /// Waits until there are so many; what they are, with their attempts.
    pub(crate) async fn are(&self, count: usize) -> Vec<String> {
        eventually(async || (self.all().len() >= count).then(|| self.all())).await
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.records.lock().unwrap().len()
    }

    /// What there is: what they are, with their attempts.
    pub(crate) fn all(&self) -> Vec<String> {
        let line = |(record, _): &(Record, u64)| {
            let text = |name| record.headers.text(name).unwrap_or_default().to_owned();
            format!("{} {}", text("message-type"), text("attempt")).trim_end().to_owned()
        };
        self.records.lock().unwrap().iter().map(line).collect()
    }

    /// The one that was given at this place, counted from 0.
    pub(crate) fn record(&self, place: usize) -> Record {
        self.records.lock().unwrap()[place].0.clone()
    }

    /// What became of the one that was given at this place, counted from 0.
    pub(crate) fn report(&self, place: usize, outcome: Result<Placed, DeliveryFailure>) {
        let token = self.records.lock().unwrap()[place].1;
        self.queue.delivered(token, outcome);
    }
}

impl Outlet for Sent {
    fn send(&self, record: &Record, token: u64) -> Result<(), SendError> {
        self.records.lock().unwrap().push((record.clone(), token));
        Ok(())
    }

    fn is_fatal(&self) -> bool {
        false
    }

    fn rebuild(&self) -> Result<(), KafkaError> {
        Ok(())
    }
}

pub(crate) fn written(offset: i64) -> Result<Placed, DeliveryFailure> {
    Ok(Placed { partition: 0, offset })
}

pub(crate) fn refused() -> Result<Placed, DeliveryFailure> {
    Err(DeliveryFailure::Refused("no such topic".to_owned()))
}

pub(crate) fn unknown() -> Result<Placed, DeliveryFailure> {
    Err(DeliveryFailure::Unknown("the connection broke".to_owned()))
}

/// A saga as it is committed.
pub(crate) fn saga(world: &World, id: SagaId) -> Saga {
    world.rows().sagas(&[id]).unwrap().remove(&id).unwrap()
}

/// Waits until a saga is so.
pub(crate) async fn becomes(world: &World, id: SagaId, status: Status) {
    eventually(async || (saga(world, id).status() == status).then_some(())).await;
}

/// Waits for something, in virtual time.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(mut look: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "it does not happen");
        sleep(Duration::from_millis(1)).await;
    }
}

/// Lets whatever is under way come to its end.
pub(crate) async fn all_is_quiet() {
    sleep(Duration::from_secs(2)).await;
}

struct Surroundings(Arc<World>);

impl Environment for Surroundings {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn random(&self) -> (u64, u64) {
        self.0.dice.uuid().as_u64_pair()
    }
}

struct Nobody;

impl Group for Nobody {
    fn commit(&self, _: &[(Arc<str>, i32, i64)]) {}

    fn last_poll_age(&self) -> Duration {
        Duration::ZERO
    }
}
