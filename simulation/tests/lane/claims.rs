//! Two processes that believe to be the same one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use orchestrator::engine::handle::StartError;
use orchestrator::engine::storage::Storage;
use orchestrator::store::StoreError;
use orchestrator::store::audit::AuditRow;
use orchestrator::store::commit::{Committed, JournalRow, KeyWrite, ShardAdvance, Writes};
use orchestrator::store::definitions::{Counts, Rows};
use orchestrator::store::letters::{LetterChange, StoredLetter};
use orchestrator::store::load::{OpenSagas, Unpublished};
use orchestrator::store::shards::{Claimant, Claimed};
use saga_defs::ids::{DeadLetterId, Revision, SagaId, Shard};
use saga_defs::saga::{Saga, Try};
use simulation::store::remote::Remote;
use simulation::world::World;
use uuid::Uuid;

use crate::harness::{Process, world};

const URL: &str = "http://both";

#[tokio::test(start_paused = true)]
async fn a_claim_of_another_process_with_the_same_url_is_not_taken_for_a_renewal() {
    let world = world();
    let store = Arc::new(Rivalled::new(&world));
    let process = Process::over(&world, store.clone(), URL);
    process.is_assigned(1).await;
    store.strikes.store(true, Ordering::Relaxed);
    let told = process.ask_for("booking").await;
    assert!(matches!(told, Err(StartError::Busy { .. })), "{told:?}");
    assert_eq!(process.handle.health().shards_owned, 0, "the shard is the other's");
    let rows = world.rows();
    assert!(rows.sagas.is_empty());
    let committed: Vec<(i64, i64)> =
        rows.updates.iter().filter(|update| update.seq.1 > update.seq.0).map(|update| update.seq).collect();
    assert_eq!(committed, [(1, 2)], "only the other's batch is there");
}

/// A database that hears nothing of one batch; and while nobody knows whether it did, another process with the same URL claims
/// the shard and commits a batch that looks the same from outside.
struct Rivalled {
    inner: Remote,
    strikes: AtomicBool,
}

impl Rivalled {
    fn new(world: &Arc<World>) -> Self {
        Self { inner: Remote::new(world, &"one".into()), strikes: AtomicBool::new(false) }
    }

    async fn rival(&self) {
        let other = Claimant { url: URL.into(), process: Uuid::from_u128(2) };
        let claim = self.inner.claim(&[Shard(0)], &other, "broker", None).await.unwrap().remove(0);
        let row = JournalRow {
            shard: claim.shard,
            seq: claim.next_seq,
            saga: Uuid::nil(),
            revision: Revision(0),
            at: saga_defs::time::Timestamp::from_unix_millis(0),
            status: "none",
            event: "{}".to_owned(),
            effects: "[]".to_owned(),
            body: Vec::new(),
        };
        let advance = ShardAdvance {
            shard: claim.shard,
            epoch: claim.epoch,
            first_seq: claim.next_seq,
            next_seq: claim.next_seq + 1,
            published_seq: claim.published_seq,
            inbox_offset: claim.inbox_offset,
            open_from: claim.open_from,
            republish: claim.republish,
        };
        let writes = Writes { shards: vec![advance], journal: vec![row], ..Writes::default() };
        assert_eq!(self.inner.commit(&writes).await.unwrap(), Committed::Yes);
    }
}

#[async_trait]
impl Storage for Rivalled {
    async fn commit(&self, writes: &Writes) -> Result<Committed, StoreError> {
        if self.strikes.load(Ordering::Relaxed) {
            return Err(StoreError::unanswered("the connection broke"));
        }
        self.inner.commit(writes).await
    }

    async fn renew(&self, held: &[(Shard, i64)]) -> Result<Vec<Claimed>, StoreError> {
        if self.strikes.swap(false, Ordering::Relaxed) {
            self.rival().await;
            return Err(StoreError::unanswered("the connection broke"));
        }
        self.inner.renew(held).await
    }

    async fn claim(
        &self,
        shards: &[Shard],
        owner: &Claimant,
        incarnation: &str,
        inbox: Option<&str>,
    ) -> Result<Vec<Claimed>, StoreError> {
        self.inner.claim(shards, owner, incarnation, inbox).await
    }

    async fn epochs(&self, shards: &[Shard]) -> Result<HashMap<Shard, (i64, i64)>, StoreError> {
        self.inner.epochs(shards).await
    }

    async fn epochs_of_owner(
        &self,
        shards: &[Shard],
        owner: &Claimant,
    ) -> Result<HashMap<Shard, i64>, StoreError> {
        self.inner.epochs_of_owner(shards, owner).await
    }

    async fn owner(&self, shard: Shard) -> Result<Option<String>, StoreError> {
        self.inner.owner(shard).await
    }

    async fn sagas(&self, ids: &[SagaId]) -> Result<HashMap<SagaId, Saga>, StoreError> {
        self.inner.sagas(ids).await
    }

    async fn taken_keys(&self, hashes: &[[u8; 32]]) -> Result<HashSet<Vec<u8>>, StoreError> {
        self.inner.taken_keys(hashes).await
    }

    async fn open_sagas(&self, shards: &[Shard], first: Uuid) -> Result<OpenSagas, StoreError> {
        self.inner.open_sagas(shards, first).await
    }

    async fn journal_above(&self, shard: Shard, after: i64) -> Result<Vec<Unpublished>, StoreError> {
        self.inner.journal_above(shard, after).await
    }

    async fn refused_above(&self, shard: Shard, after: i64) -> Result<HashSet<(Uuid, Try)>, StoreError> {
        self.inner.refused_above(shard, after).await
    }

    async fn last_commands(&self, ids: &[SagaId]) -> Result<Vec<Unpublished>, StoreError> {
        self.inner.last_commands(ids).await
    }

    async fn letters(&self, ids: &[DeadLetterId]) -> Result<Vec<StoredLetter>, StoreError> {
        self.inner.letters(ids).await
    }

    async fn discard(
        &self,
        change: &LetterChange,
        audit: &AuditRow,
        key: Option<&KeyWrite>,
    ) -> Result<bool, StoreError> {
        self.inner.discard(change, audit, key).await
    }

    async fn published_counts(&self) -> Result<Counts, StoreError> {
        self.inner.published_counts().await
    }

    async fn published(&self) -> Result<Rows, StoreError> {
        self.inner.published().await
    }

    async fn rest(&self) {
        self.inner.rest().await;
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }
}
