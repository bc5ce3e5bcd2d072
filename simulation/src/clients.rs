//! Those who ask the engine: clients that start sagas and go on asking until they are told, and operators that meddle.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ::orchestrator::engine::handle::{Act, ActOnLetter, LetterVerb, RequestKey, StartError, StartSaga, Verb};
use ::orchestrator::store::commit::SagaWrite;
use saga_defs::definition::Definition;
use saga_defs::ids::SagaId;
use saga_defs::saga::Status;
use tests::oracle::evidence::Start;
use tokio::time::sleep;
use uuid::Uuid;

use crate::ledger::skipped;
use crate::orchestrator::{Running, Slot};
use crate::recipes;
use crate::world::{World, lock};

/// The longest between two starts.
const BETWEEN_STARTS_MS: u64 = 4_000;
/// The longest until a client asks again that was not told.
const AGAIN_MS: u64 = 1_500;
/// The longest between two things that an operator does.
const BETWEEN_VERBS_MS: u64 = 5_000;

/// Everybody outside.
pub struct Public {
    world: Arc<World>,
    slots: Vec<Arc<Slot>>,
    /// What is started.
    repertoire: Vec<Arc<Definition>>,
    starts: Mutex<Vec<Start>>,
    /// Starts that are still to be made, or whose clients were not told yet.
    ahead: AtomicUsize,
}

impl Public {
    /// Nobody has asked yet; sagas of these recipes will be asked for.
    pub fn new(world: &Arc<World>, slots: &[Arc<Slot>], repertoire: Vec<Arc<Definition>>) -> Arc<Self> {
        Arc::new(Self {
            world: world.clone(),
            slots: slots.to_vec(),
            repertoire,
            starts: Mutex::default(),
            ahead: AtomicUsize::new(0),
        })
    }

    /// The starts, as their clients remember them.
    pub fn starts(&self) -> Vec<Start> {
        lock(&self.starts).clone()
    }

    fn somebody(&self) -> Option<Running> {
        self.world.dice.pick(&self.slots)?.running().filter(|running| !running.process.is_dead())
    }

    /// Whether no client waits for an answer, or is yet to ask.
    pub fn all_told(&self) -> bool {
        self.ahead.load(Ordering::Relaxed) == 0
    }

    /// One more client, with so many starts, one after the other.
    pub fn add_client(self: &Arc<Self>, count: usize) {
        self.ahead.fetch_add(count, Ordering::Relaxed);
        tokio::spawn(self.clone().start_sagas(count));
    }

    async fn start_sagas(self: Arc<Self>, count: usize) {
        for _ in 0..count {
            sleep(self.world.dice.millis(0, BETWEEN_STARTS_MS)).await;
            if let Some(definition) = self.world.dice.pick(&self.repertoire) {
                self.start(definition).await;
            }
            self.ahead.fetch_sub(1, Ordering::Relaxed);
        }
    }

    async fn start(&self, definition: &Arc<Definition>) {
        let dice = &self.world.dice;
        let user = dice.uuid();
        let place = {
            let mut starts = lock(&self.starts);
            let user = recipes::names_its_user(definition).then_some(user);
            starts.push(Start { user, ..Start::default() });
            starts.len() - 1
        };
        let key = RequestKey { key_hash: hash(dice.uuid()), request_hash: hash(user) };
        let input = recipes::input(definition, user, dice);
        loop {
            let start = StartSaga {
                definition: definition.clone(),
                input: input.clone(),
                business_key: None,
                traceparent: None,
                key: Some(key),
            };
            if let Some(saga) = self.ask(place, start, &key).await {
                self.world.note(format_args!("{saga} {} accepted", definition.id));
                lock(&self.starts)[place].accepted.push(saga);
                return;
            }
            sleep(dice.millis(1, AGAIN_MS)).await;
        }
    }

    /// One request; `None`: to be asked again.
    async fn ask(&self, place: usize, start: StartSaga, key: &RequestKey) -> Option<SagaId> {
        let running = self.somebody()?;
        lock(&self.starts)[place].requests += 1;
        // A client may go away before it is told, and come again.
        let hurry = self.world.dice.millis(1, 6_000);
        let asked = running.handle.start(start);
        match tokio::time::timeout(hurry, asked).await.ok()? {
            Ok(saga) => Some(saga.id),
            // What the API does: it looks the key up.
            Err(StartError::KeyTaken) => {
                let rows = self.world.rows();
                let made = rows.keys.get(&key.key_hash).map(|key| SagaId::from_uuid(key.saga));
                drop(rows);
                if made.is_none() {
                    let odd = "a key is taken that nobody has used".to_owned();
                    lock(&self.starts)[place].odd.push(odd);
                }
                made
            }
            Err(StartError::Busy { .. } | StartError::Stopping) => None,
            Err(error @ (StartError::Refused { .. } | StartError::Defect)) => {
                lock(&self.starts)[place].odd.push(error.to_string());
                None
            }
        }
    }

    /// An operator that meddles until it is calm.
    pub async fn meddle(self: Arc<Self>) {
        while !self.world.is_calm() {
            sleep(self.world.dice.millis(100, BETWEEN_VERBS_MS)).await;
            let Some(running) = self.somebody() else { continue };
            if self.world.dice.once_in(4) {
                self.handle_letter(&running).await;
                continue;
            }
            let sagas: Vec<(SagaId, Status, bool)> = {
                let rows = self.world.rows();
                let open = rows.sagas.values().filter(|row| row.finished_at.is_none());
                open.map(|row| (row.id, row.status, row.definition.ends_with("booking"))).collect()
            };
            let Some(&(saga, status, booking)) = self.world.dice.pick(&sagas) else { continue };
            let verb = match (status, self.world.dice.below(6)) {
                // What is skipped is nobody's to judge, and of bookings everything is judged.
                (Status::Stuck, 0) if !booking => Verb::Skip,
                (Status::Stuck, 0..4) | (_, 0) => Verb::Redrive { input: None },
                (_, 1..3) => Verb::RetryNow,
                _ => Verb::Cancel,
            };
            self.act(&running, saga, verb).await;
        }
    }

    /// Does an operator's verb, whatever is answered.
    async fn act(&self, running: &Running, saga: SagaId, verb: Verb) -> bool {
        let word = verb.as_str();
        let act = Act {
            saga,
            verb,
            reason: "simulated".into(),
            actor: "operator".into(),
            key: None,
            expected: None,
        };
        let done = running.handle.act(act).await;
        self.world.note(format_args!("{word} {saga}: {}", if done.is_ok() { "done" } else { "not done" }));
        done.is_ok()
    }

    async fn handle_letter(&self, running: &Running) {
        let open: Vec<_> = {
            let rows = self.world.rows();
            let open = rows.letters.all().filter(|(_, status)| *status == "open");
            open.map(|(row, _)| row.id).collect()
        };
        let Some(&letter) = self.world.dice.pick(&open) else { return };
        let verb =
            if self.world.dice.once_in(3) { LetterVerb::Discard } else { LetterVerb::Redrive { edit: None } };
        let (reason, actor) = ("simulated".into(), "operator".into());
        let done = running.handle.act_on_letter(ActOnLetter { letter, verb, reason, actor, key: None }).await;
        self.world.note(format_args!("letter {letter}: {}", if done.is_ok() { "done" } else { "not done" }));
    }

    /// Helps what waits for an operator, and nothing else: whatever else does not end by itself is forgotten, and shall be seen.
    /// To be called again and again once it is calm.
    pub async fn help(&self) {
        let waiting: Vec<(SagaId, Verb)> = {
            let rows = self.world.rows();
            let skipped = skipped(&rows);
            let stuck = rows.sagas.values().filter(|row| row.status == Status::Stuck);
            // What was skipped gave no data, so that later commands may lack some for ever.
            let verb = |row: &SagaWrite| match skipped.contains(&row.id) {
                true => Verb::Skip,
                false => Verb::Redrive { input: None },
            };
            stuck.map(|row| (row.id, verb(row))).collect()
        };
        for (saga, verb) in waiting {
            for running in self.slots.iter().flat_map(|slot| slot.everybody()) {
                if self.act(&running, saga, verb.clone()).await {
                    break;
                }
            }
        }
    }
}

/// Stands for a hash.
fn hash(of: Uuid) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(of.as_bytes());
    hash
}
