//! What the engine asks of a database. [`Store`] is the one it runs on; the simulation brings one in memory that keeps the
//! same rules, and one suite of checks holds both to them (simulation/tests/conformance.rs).

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use saga_defs::ids::{DeadLetterId, SagaId, Shard};
use saga_defs::saga::{Saga, Try};
use uuid::Uuid;

use crate::store::audit::AuditRow;
use crate::store::commit::{Committed, KeyWrite, Writes};
use crate::store::definitions::{Counts, Rows};
use crate::store::letters::{LetterChange, StoredLetter, ping};
use crate::store::load::{OpenSagas, Unpublished};
use crate::store::shards::{Claimant, Claimed};
use crate::store::{Store, StoreError};

/// A database for the engine. Each method stands with its contract on [`Store`], under the same name. The futures are
/// boxed: it is a few calls a batch.
#[async_trait]
#[expect(missing_docs, reason = "the same as on Store")]
pub trait Storage: Send + Sync {
    async fn commit(&self, writes: &Writes) -> Result<Committed, StoreError>;
    async fn claim(
        &self,
        shards: &[Shard],
        owner: &Claimant,
        incarnation: &str,
        inbox: Option<&str>,
    ) -> Result<Vec<Claimed>, StoreError>;
    async fn renew(&self, held: &[(Shard, i64)]) -> Result<Vec<Claimed>, StoreError>;
    async fn epochs(&self, shards: &[Shard]) -> Result<HashMap<Shard, (i64, i64)>, StoreError>;
    async fn epochs_of_owner(
        &self,
        shards: &[Shard],
        owner: &Claimant,
    ) -> Result<HashMap<Shard, i64>, StoreError>;
    async fn owner(&self, shard: Shard) -> Result<Option<String>, StoreError>;
    async fn sagas(&self, ids: &[SagaId]) -> Result<HashMap<SagaId, Saga>, StoreError>;
    async fn taken_keys(&self, hashes: &[[u8; 32]]) -> Result<HashSet<Vec<u8>>, StoreError>;
    async fn open_sagas(&self, shards: &[Shard], first: Uuid) -> Result<OpenSagas, StoreError>;
    async fn journal_above(&self, shard: Shard, after: i64) -> Result<Vec<Unpublished>, StoreError>;
    async fn refused_above(&self, shard: Shard, after: i64) -> Result<HashSet<(Uuid, Try)>, StoreError>;
    async fn last_commands(&self, ids: &[SagaId]) -> Result<Vec<Unpublished>, StoreError>;
    async fn letters(&self, ids: &[DeadLetterId]) -> Result<Vec<StoredLetter>, StoreError>;
    async fn discard(
        &self,
        change: &LetterChange,
        audit: &AuditRow,
        key: Option<&KeyWrite>,
    ) -> Result<bool, StoreError>;
    async fn published_counts(&self) -> Result<Counts, StoreError>;
    async fn published(&self) -> Result<Rows, StoreError>;
    async fn rest(&self);
    /// Whether it answers at all.
    async fn ping(&self) -> Result<(), StoreError>;
}

#[async_trait]
impl Storage for Store {
    async fn commit(&self, writes: &Writes) -> Result<Committed, StoreError> {
        self.commit(writes).await
    }

    async fn claim(
        &self,
        shards: &[Shard],
        owner: &Claimant,
        incarnation: &str,
        inbox: Option<&str>,
    ) -> Result<Vec<Claimed>, StoreError> {
        self.claim(shards, owner, incarnation, inbox).await
    }

    async fn renew(&self, held: &[(Shard, i64)]) -> Result<Vec<Claimed>, StoreError> {
        self.renew(held).await
    }

    async fn epochs(&self, shards: &[Shard]) -> Result<HashMap<Shard, (i64, i64)>, StoreError> {
        self.epochs(shards).await
    }

    async fn epochs_of_owner(
        &self,
        shards: &[Shard],
        owner: &Claimant,
    ) -> Result<HashMap<Shard, i64>, StoreError> {
        self.epochs_of_owner(shards, owner).await
    }

    async fn owner(&self, shard: Shard) -> Result<Option<String>, StoreError> {
        self.owner(shard).await
    }

    async fn sagas(&self, ids: &[SagaId]) -> Result<HashMap<SagaId, Saga>, StoreError> {
        self.sagas(ids).await
    }

    async fn taken_keys(&self, hashes: &[[u8; 32]]) -> Result<HashSet<Vec<u8>>, StoreError> {
        self.taken_keys(hashes).await
    }

    async fn open_sagas(&self, shards: &[Shard], first: Uuid) -> Result<OpenSagas, StoreError> {
        self.open_sagas(shards, first).await
    }

    async fn journal_above(&self, shard: Shard, after: i64) -> Result<Vec<Unpublished>, StoreError> {
        self.journal_above(shard, after).await
    }

    async fn refused_above(&self, shard: Shard, after: i64) -> Result<HashSet<(Uuid, Try)>, StoreError> {
        self.refused_above(shard, after).await
    }

    async fn last_commands(&self, ids: &[SagaId]) -> Result<Vec<Unpublished>, StoreError> {
        self.last_commands(ids).await
    }

    async fn letters(&self, ids: &[DeadLetterId]) -> Result<Vec<StoredLetter>, StoreError> {
        self.letters(ids).await
    }

    async fn discard(
        &self,
        change: &LetterChange,
        audit: &AuditRow,
        key: Option<&KeyWrite>,
    ) -> Result<bool, StoreError> {
        self.discard(change, audit, key).await
    }

    async fn published_counts(&self) -> Result<Counts, StoreError> {
        self.published_counts().await
    }

    async fn published(&self) -> Result<Rows, StoreError> {
        self.published().await
    }

    async fn rest(&self) {
        self.rest().await;
    }

    async fn ping(&self) -> Result<(), StoreError> {
        ping(self.connection()).await
    }
}
