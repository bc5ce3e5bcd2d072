//! One long outage under steady load, in a world in which nothing else goes wrong: minutes of it pass in seconds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::orchestrator::store::commit::JournalRow;
use messaging::Received;
use messaging::headers::name;
use saga_defs::definition::Definition;
use saga_defs::ids::{Attempt, SagaId, ShardCount};
use saga_defs::saga::{Effect, Status};
use saga_defs::time::Timestamp;
use tokio::time::{Instant, sleep};

use crate::recipes;
use crate::schedule::{Report, Stage};
use crate::world::World;

/// How long everything is well before the outage, and how long clients go on asking after it.
const WELL: Duration = Duration::from_secs(20);
const AFTERWARDS: Duration = Duration::from_secs(30);
/// How often it is looked how much waits.
const LOOK: Duration = Duration::from_secs(1);
/// As in orchestrator/src/store/load.rs.
const LOOKED_AT: usize = 20_000;
/// A client asks for a saga this often, about.
const BETWEEN_STARTS: Duration = Duration::from_secs(2);
/// Sagas that would be given up after less than this are not started: a deadline is a reason of its own to go back.
const PATIENT: Duration = Duration::from_secs(15 * 60);

/// What is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    /// The broker: nobody reaches it.
    Broker,
    /// The orchestrators' database. Workers have databases of their own, and go on.
    Database,
}

/// An outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// Everything else follows from it.
    pub seed: u64,
    /// What is away.
    pub away: Away,
    /// For how long.
    pub length: Duration,
    /// How many clients ask for sagas, before, meanwhile and afterwards: one every two seconds each.
    pub clients: usize,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What the oracle says, and how long it all took.
    pub report: Report,
    /// Sagas that were there when the outage began.
    pub before: usize,
    /// Sagas that were there when it ended.
    pub meanwhile: usize,
    /// Commands that were sent as a second or later attempt.
    pub tried_again: usize,
    /// Of these, those that were decided on before the outage was over.
    pub tried_again_meanwhile: usize,
    /// Sagas that did not complete.
    pub not_completed: usize,
    /// Distinct sendings of commands: each attempt of each command.
    pub commands: usize,
    /// Commands that lie on their topics once more, with the same attempt.
    pub copies: usize,
    /// How often records were given to producers during the outage.
    pub sendings: u64,
    /// The most records that waited for the broker in one process.
    pub most_unpublished: usize,
    /// From the end of the outage until nothing waited but what clients went on asking for.
    pub recovered_after: Duration,
}

/// Lets an outage pass. The runtime has to be of the kind `current_thread`, with time that is paused.
pub async fn pass(outage: Outage) -> Outcome {
    let began = Instant::now();
    let shards = ShardCount::new(4).unwrap_or(ONE);
    let world = World::kind_of(outage.seed, shards);
    // As Postgres does: there is much to look at, and every step of the walk takes its time.
    world.rows().looked_at = LOOKED_AT;
    let patient = |recipe: &&Arc<Definition>| recipe.deadline >= PATIENT;
    let stage = Stage::build(&world, outage.seed, recipes::all().iter().filter(patient).cloned().collect());
    stage.raise();
    let asking = WELL + outage.length + AFTERWARDS;
    let starts = asking.as_millis() / BETWEEN_STARTS.as_millis();
    for _ in 0..outage.clients {
        stage.public.add_client(usize::try_from(starts).unwrap_or(1));
    }
    sleep(WELL).await;
    let (before, sent_before) = (world.rows().sagas.len(), world.sendings.load(Ordering::Relaxed));
    match outage.away {
        Away::Broker => world.broker.take_away(outage.length),
        Away::Database => world.take_database_away(outage.length),
    }
    let most_unpublished = stage.watch(outage.length).await;
    let sendings = world.sendings.load(Ordering::Relaxed) - sent_before;
    let (meanwhile, over) = (world.rows().sagas.len(), world.now());
    let recovered_after = stage.recover().await;
    stage.settle().await;
    let all = commands(&world);
    let attempts: BTreeSet<(String, String)> = all.iter().map(attempt_of).collect();
    let first = |record: &&Received| record.headers.text(name::ATTEMPT) == Some("1");
    Outcome {
        before,
        meanwhile,
        tried_again: all.len() - all.iter().filter(first).count(),
        tried_again_meanwhile: retries_before(&world, over),
        not_completed: not_completed(&world),
        commands: attempts.len(),
        copies: all.len() - attempts.len(),
        sendings,
        most_unpublished,
        recovered_after,
        report: stage.report(outage.seed, began),
    }
}

const ONE: ShardCount = ShardCount::new(1).expect("one is not zero");

fn commands(world: &World) -> Vec<Received> {
    let topics = world.broker.topics();
    let of_commands = topics.iter().filter(|topic| topic.ends_with(".commands"));
    of_commands.flat_map(|topic| world.broker.dump(topic, true)).collect()
}

/// The transitions until then that ask for an attempt after the first.
fn retries_before(world: &World, until: Timestamp) -> usize {
    let rows = world.rows();
    let meanwhile = rows.journal.values().flatten().filter(|row| row.at <= until);
    let again = |effect: &Effect| matches!(effect, Effect::Send(at) if at.attempt > Attempt::FIRST);
    let effects = |row: &JournalRow| serde_json::from_str::<Vec<Effect>>(&row.effects).unwrap_or_default();
    meanwhile.filter(|row| effects(row).iter().any(again)).count()
}

fn not_completed(world: &World) -> usize {
    world.rows().sagas.values().filter(|saga| saga.status != Status::Completed).count()
}

fn attempt_of(command: &Received) -> (String, String) {
    let text = |header| command.headers.text(header).unwrap_or_default().to_owned();
    (text(name::COMMAND_ID), text(name::ATTEMPT))
}

impl Stage {
    /// Looks on for so long; the most that waited for the broker in one process.
    async fn watch(&self, length: Duration) -> usize {
        let end = Instant::now() + length;
        let mut most = 0;
        while Instant::now() < end {
            sleep(LOOK).await;
            let waiting = self.nemesis.slots.iter().filter_map(|slot| slot.running());
            most = waiting.map(|running| running.handle.health().unpublished).fold(most, usize::max);
        }
        most
    }

    /// Waits until whatever waited at the end of the outage has gone on; how long that takes.
    async fn recover(&self) -> Duration {
        let began = Instant::now();
        let waiting: Vec<_> = {
            let rows = self.world.rows();
            rows.sagas.values().filter(|saga| saga.finished_at.is_none()).map(|saga| saga.id).collect()
        };
        let limit = Duration::from_secs(3_600);
        loop {
            let open = {
                let rows = self.world.rows();
                let is_open = |id: &SagaId| {
                    rows.sagas.get(&id.as_uuid()).is_some_and(|saga| saga.finished_at.is_none())
                };
                waiting.iter().any(is_open)
            };
            if !open || began.elapsed() > limit {
                return began.elapsed();
            }
            sleep(LOOK).await;
        }
    }
}
