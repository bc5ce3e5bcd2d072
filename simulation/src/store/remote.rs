//! A connection to the database: what is asked takes time, its answer may be lost, and it may happen after its asker has
//! given up, or died.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ::orchestrator::engine::storage::Storage;
use ::orchestrator::store::audit::AuditRow;
use ::orchestrator::store::commit::{Committed, KeyWrite, Writes};
use ::orchestrator::store::definitions::{Counts, Rows as Published};
use ::orchestrator::store::letters::{LetterChange, StoredLetter};
use ::orchestrator::store::load::{OpenSagas, Unpublished};
use ::orchestrator::store::shards::{Claimant, Claimed};
use ::orchestrator::store::{ANSWER_LIMIT, StoreError};
use async_trait::async_trait;
use saga_defs::ids::{DeadLetterId, SagaId, Shard};
use saga_defs::saga::{Saga, Try};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::rows::Rows;
use crate::world::World;

/// The longest a statement and its answer are on their way, most of the time and now and then.
const USUAL_MS: u64 = 4;
const SLOW_MS: u64 = 400;
/// One statement in so many is slow while anything may go wrong.
const SLOW_ONCE_IN: u64 = 20;
/// The longest that nothing is heard of a connection that is about to break.
const SILENCE_MS: u64 = 600;
/// How long a refused connection takes.
const REFUSED_MS: u64 = 30;

/// The database as one process sees it.
pub struct Remote {
    world: Arc<World>,
    process: Arc<str>,
}

impl Remote {
    /// For this process.
    pub fn new(world: &Arc<World>, process: &Arc<str>) -> Self {
        Self { world: world.clone(), process: process.clone() }
    }

    fn way(&self) -> Duration {
        let slow = !self.world.is_calm() && self.world.dice.once_in(SLOW_ONCE_IN);
        self.world.dice.millis(0, if slow { SLOW_MS } else { USUAL_MS })
    }

    /// Asks the server, which goes on whatever becomes of the asker.
    async fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        run: impl FnOnce(&mut Rows) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let world = &self.world;
        if world.database_is_away() {
            sleep(world.dice.millis(1, REFUSED_MS)).await;
            return Err(StoreError::unanswered("no connection"));
        }
        if world.dice.once_in(world.odds().try_again) {
            sleep(self.way()).await;
            return Err(StoreError::TryAgain { message: "not now".to_owned() });
        }
        let (answer, answered) = oneshot::channel();
        let (there, back) = (self.way(), self.way());
        let (server, process) = (world.clone(), self.process.clone());
        tokio::spawn(async move {
            sleep(there).await;
            if server.database_is_away() {
                server.note(format_args!("{process} {what} does not arrive"));
                return;
            }
            let result = run(&mut server.rows());
            server.note(format_args!("{process} {what}{}", if result.is_err() { " refused" } else { "" }));
            sleep(back).await;
            // Whoever asked may be gone.
            let _ = answer.send(result);
        });
        if world.dice.once_in(world.odds().answer_lost) {
            sleep(world.dice.millis(0, SILENCE_MS)).await;
            world.note(format_args!("{} hears nothing of {what}", self.process));
            return Err(StoreError::unanswered("the connection broke"));
        }
        match timeout(ANSWER_LIMIT, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(StoreError::unanswered("no answer")),
        }
    }

    fn what(&self) -> (Arc<World>, Arc<str>) {
        (self.world.clone(), self.process.clone())
    }
}

#[async_trait]
impl Storage for Remote {
    async fn commit(&self, writes: &Writes) -> Result<Committed, StoreError> {
        let (writes, (world, process)) = (writes.clone(), self.what());
        self.ask("commits", move |rows| {
            let outcome = rows.commit(&writes, &process, world.now());
            let moved =
                writes.shards.iter().map(|advance| (advance.shard.0, advance.epoch, advance.next_seq));
            world.note(format_args!("{process} {outcome:?} {:?}", moved.collect::<Vec<_>>()));
            outcome
        })
        .await
    }

    async fn claim(
        &self,
        shards: &[Shard],
        owner: &Claimant,
        incarnation: &str,
        inbox: Option<&str>,
    ) -> Result<Vec<Claimed>, StoreError> {
        let (shards, owner, incarnation) = (shards.to_vec(), owner.clone(), incarnation.to_owned());
        let inbox = inbox.map(str::to_owned);
        let (world, process) = self.what();
        self.ask("claims", move |rows| {
            world.note(format_args!("{process} claims {shards:?}"));
            Ok(rows.claim(&shards, &owner, (incarnation.as_str(), inbox.as_deref()), &process, world.now()))
        })
        .await
    }

    async fn renew(&self, held: &[(Shard, i64)]) -> Result<Vec<Claimed>, StoreError> {
        let (held, (world, process)) = (held.to_vec(), self.what());
        self.ask("renews", move |rows| Ok(rows.renew(&held, &process, world.now()))).await
    }

    async fn epochs(&self, shards: &[Shard]) -> Result<HashMap<Shard, (i64, i64)>, StoreError> {
        let shards = shards.to_vec();
        self.ask("reads epochs", move |rows| Ok(rows.epochs(&shards))).await
    }

    async fn epochs_of_owner(
        &self,
        shards: &[Shard],
        owner: &Claimant,
    ) -> Result<HashMap<Shard, i64>, StoreError> {
        let (shards, owner) = (shards.to_vec(), owner.clone());
        self.ask("reads its epochs", move |rows| Ok(rows.epochs_of_owner(&shards, &owner))).await
    }

    async fn owner(&self, shard: Shard) -> Result<Option<String>, StoreError> {
        self.ask("reads an owner", move |rows| Ok(rows.owner(shard))).await
    }

    async fn sagas(&self, ids: &[SagaId]) -> Result<HashMap<SagaId, Saga>, StoreError> {
        let ids = ids.to_vec();
        self.ask("loads sagas", move |rows| rows.sagas(&ids)).await
    }

    async fn taken_keys(&self, hashes: &[[u8; 32]]) -> Result<HashSet<Vec<u8>>, StoreError> {
        if hashes.is_empty() {
            return Ok(HashSet::new());
        }
        let hashes = hashes.to_vec();
        self.ask("looks for keys", move |rows| Ok(rows.taken_keys(&hashes))).await
    }

    async fn open_sagas(&self, shards: &[Shard], first: Uuid) -> Result<OpenSagas, StoreError> {
        let shards = shards.to_vec();
        self.ask("looks what waits", move |rows| Ok(rows.open_sagas(&shards, first))).await
    }

    async fn journal_above(&self, shard: Shard, after: i64) -> Result<Vec<Unpublished>, StoreError> {
        self.ask("reads the journal", move |rows| Ok(rows.journal_above(shard, after))).await
    }

    async fn refused_above(&self, shard: Shard, after: i64) -> Result<HashSet<(Uuid, Try)>, StoreError> {
        self.ask("looks what was refused", move |rows| Ok(rows.refused_above(shard, after))).await
    }

    async fn last_commands(&self, ids: &[SagaId]) -> Result<Vec<Unpublished>, StoreError> {
        let ids = ids.to_vec();
        self.ask("reads last commands", move |rows| Ok(rows.last_commands(&ids))).await
    }

    async fn letters(&self, ids: &[DeadLetterId]) -> Result<Vec<StoredLetter>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids = ids.to_vec();
        self.ask("reads letters", move |rows| Ok(rows.letters.find(&ids))).await
    }

    async fn discard(
        &self,
        change: &LetterChange,
        audit: &AuditRow,
        key: Option<&KeyWrite>,
    ) -> Result<bool, StoreError> {
        let (change, audit, key) = (change.clone(), audit.clone(), key.cloned());
        self.ask("discards", move |rows| rows.discard(&change, &audit, key.as_ref())).await
    }

    /// Nothing is published while a schedule runs.
    async fn published_counts(&self) -> Result<Counts, StoreError> {
        self.ask("counts definitions", |_| Ok(Counts::default())).await
    }

    async fn published(&self) -> Result<Published, StoreError> {
        self.ask("reads definitions", |_| Ok(Published::default())).await
    }

    async fn rest(&self) {}

    async fn ping(&self) -> Result<(), StoreError> {
        self.ask("pings", |_| Ok(())).await
    }
}
