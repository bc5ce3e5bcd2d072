//! Shard rows: who owns which, under which epoch, and how far.

use std::collections::HashMap;
use std::sync::Arc;

use saga_defs::ids::{Shard, ShardCount};
use sea_orm::{ConnectionTrait, QueryResult, TransactionTrait, Value};
use uuid::Uuid;

use super::audit::AuditRow;
use super::{Store, StoreError, statement};

/// A process that claims shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// The base URL under which others reach it. Nothing keeps two processes from having the same.
    pub url: Arc<str>,
    /// Drawn at its start: no other process has it.
    pub process: Uuid,
}

impl Claimant {
    /// Under this URL, as this process.
    pub fn new(url: &str, process: Uuid) -> Self {
        Self { url: url.into(), process }
    }
}

/// A shard as it was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Which.
    pub shard: Shard,
    /// The new epoch: commits under any other are refused.
    pub epoch: i64,
    /// The next sequence number of its journal.
    pub next_seq: i64,
    /// Everything up to here was acknowledged by the broker.
    pub published_seq: i64,
    /// Where to go on reading `saga.inbox`.
    pub inbox_offset: i64,
    /// No saga below this id waits.
    pub open_from: Uuid,
    /// Whether the broker may lack commands that sagas wait for: all of them must be published again.
    pub republish: bool,
    /// Whether `inbox_offset` is one of another topic of the same name and broker: it must not be read from.
    pub other_topic: bool,
}

/// A shard as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardLine {
    /// Which.
    pub shard: Shard,
    /// The base URL of who claimed it last; empty if nobody did.
    pub owner: String,
    /// Under which epoch.
    pub epoch: i64,
    /// The next sequence number of its journal.
    pub next_seq: i64,
    /// Everything up to here was acknowledged by the broker.
    pub published_seq: i64,
    /// Where to go on reading `saga.inbox`.
    pub inbox_offset: i64,
    /// The broker that the offset belongs to.
    pub incarnation: String,
}

/// The number of shards is not what the database remembers.
#[derive(Debug, thiserror::Error)]
pub enum ShardCountError {
    /// It differs.
    #[error(
        "the database remembers {remembered} shards, but {found} are asked for: set SHARDS={remembered} and give \
         saga.inbox {remembered} partitions, or use another database"
    )]
    Differs {
        /// What the database remembers.
        remembered: u16,
        /// What the settings or the topic say.
        found: u16,
    },
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Makes the shard rows at the first start; afterwards holds the number to what it was then.
    ///
    /// # Errors
    /// When the number differs, or the database does not answer.
    pub async fn remember_shards(&self, count: ShardCount) -> Result<(), ShardCountError> {
        let transaction = self.db.begin().await.map_err(StoreError::from)?;
        let sql = "INSERT INTO cluster (shard_count) VALUES ($1) ON CONFLICT DO NOTHING";
        let number = i32::from(count.get());
        transaction.execute_raw(statement(sql, vec![number.into()])).await.map_err(StoreError::from)?;
        let row = transaction
            .query_one_raw(statement("SELECT shard_count FROM cluster", vec![]))
            .await
            .map_err(StoreError::from)?;
        let remembered: i32 =
            row.map_or(Ok(number), |row| row.try_get("", "shard_count")).map_err(StoreError::from)?;
        if remembered != number {
            let remembered = u16::try_from(remembered).unwrap_or(u16::MAX);
            return Err(ShardCountError::Differs { remembered, found: count.get() });
        }
        let sql = "INSERT INTO shard (id) SELECT generate_series(0, $1 - 1) ON CONFLICT DO NOTHING";
        transaction.execute_raw(statement(sql, vec![number.into()])).await.map_err(StoreError::from)?;
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(())
    }

    /// Takes shards over: raises their epochs, so that whoever had them can commit nothing more. Waits for a commit
    /// that is under way, and thereby tells whether it happened. If the offset is of another broker, it starts anew, and
    /// `republish` stays set until a commit under the new epoch clears it: a claim alone publishes nothing.
    ///
    /// `inbox` is the id of the topic `saga.inbox`, as far as the broker tells it. If the row's offset is of another one, the
    /// row keeps it, for an operator to decide.
    ///
    /// # Errors
    /// When the database does not answer; the epochs may have been raised all the same.
    pub async fn claim(
        &self,
        shards: &[Shard],
        owner: &Claimant,
        incarnation: &str,
        inbox: Option<&str>,
    ) -> Result<Vec<Claimed>, StoreError> {
        let ids: Vec<i32> = shards.iter().map(|shard| i32::from(shard.0)).collect();
        let sql = "WITH mine AS (
                       SELECT id, incarnation, inbox_topic FROM shard WHERE id = ANY($1::int[]) ORDER BY id FOR UPDATE
                   )
                   UPDATE shard AS s
                   SET epoch = s.epoch + 1, owner = $2, claimant = $4, claimed_at = now(), incarnation = $3,
                       inbox_offset = CASE WHEN mine.incarnation = $3 THEN s.inbox_offset ELSE 0 END,
                       inbox_topic = CASE WHEN mine.incarnation = $3 THEN coalesce(s.inbox_topic, $5) ELSE $5 END,
                       republish = s.republish OR mine.incarnation <> $3
                   FROM mine WHERE s.id = mine.id
                   RETURNING s.id, s.epoch, s.next_seq, s.published_seq, s.inbox_offset, s.open_from,
                       s.republish, coalesce(s.inbox_topic <> $5, false) AS other_topic, s.ctid::text AS place";
        let values =
            vec![ids.into(), (&*owner.url).into(), incarnation.into(), owner.process.into(), inbox.into()];
        self.claim_by(sql, values).await
    }

    /// Raises the epochs of shards that are still ours: waits for a commit that may be under way, keeps it from happening
    /// later, and shows how far the journal is. A shard that is missing from the answer has another owner.
    ///
    /// # Errors
    /// When the database does not answer; the epochs may have been raised all the same, so claim again in earnest.
    pub async fn renew(&self, held: &[(Shard, i64)]) -> Result<Vec<Claimed>, StoreError> {
        let ids: Vec<i32> = held.iter().map(|(shard, _)| i32::from(shard.0)).collect();
        let epochs: Vec<i64> = held.iter().map(|(_, epoch)| *epoch).collect();
        let sql = "WITH mine AS (
                       SELECT s.id FROM shard s JOIN unnest($1::int[], $2::bigint[]) AS h(id, epoch)
                           ON s.id = h.id AND s.epoch = h.epoch
                       ORDER BY s.id FOR UPDATE OF s
                   )
                   UPDATE shard AS s SET epoch = s.epoch + 1
                   FROM mine WHERE s.id = mine.id
                   RETURNING s.id, s.epoch, s.next_seq, s.published_seq, s.inbox_offset, s.open_from,
                       s.republish, false AS other_topic, s.ctid::text AS place";
        self.claim_by(sql, vec![ids.into(), epochs.into()]).await
    }

    async fn claim_by(&self, sql: &'static str, values: Vec<Value>) -> Result<Vec<Claimed>, StoreError> {
        let rows = self.db.query_all_raw(statement(sql, values)).await?;
        let place = |row: &QueryResult| Ok((row.try_get("", "id")?, row.try_get("", "place")?));
        let places: Vec<(i32, String)> = rows.iter().map(place).collect::<Result<_, StoreError>>()?;
        self.committing.lock().await.places.seen(places);
        rows.iter().map(claimed).collect()
    }

    /// The epoch and next sequence number of these shards.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn epochs(&self, shards: &[Shard]) -> Result<HashMap<Shard, (i64, i64)>, StoreError> {
        let ids: Vec<i32> = shards.iter().map(|shard| i32::from(shard.0)).collect();
        let sql = "SELECT id, epoch, next_seq FROM shard WHERE id = ANY($1::int[])";
        let rows = self.db.query_all_raw(statement(sql, vec![ids.into()])).await?;
        rows.iter()
            .map(|row| {
                let id: i32 = row.try_get("", "id")?;
                let numbers = (row.try_get("", "epoch")?, row.try_get("", "next_seq")?);
                Ok((Shard(u16::try_from(id).unwrap_or(u16::MAX)), numbers))
            })
            .collect()
    }

    /// The epochs of those shards that this process was the last to claim, unless an operator has moved their offset since.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn epochs_of_owner(
        &self,
        shards: &[Shard],
        owner: &Claimant,
    ) -> Result<HashMap<Shard, i64>, StoreError> {
        let ids: Vec<i32> = shards.iter().map(|shard| i32::from(shard.0)).collect();
        // Versions before this one write the URL alone.
        let sql = "SELECT id, epoch FROM shard WHERE id = ANY($1::int[]) AND owner = $2 AND claimant = $3";
        let values = vec![ids.into(), (&*owner.url).into(), owner.process.into()];
        let rows = self.db.query_all_raw(statement(sql, values)).await?;
        rows.iter()
            .map(|row| {
                let id: i32 = row.try_get("", "id")?;
                Ok((Shard(u16::try_from(id).unwrap_or(u16::MAX)), row.try_get("", "epoch")?))
            })
            .collect()
    }

    /// All shards, in order.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn shard_lines(&self) -> Result<Vec<ShardLine>, StoreError> {
        let sql = "SELECT id, owner, epoch, next_seq, published_seq, inbox_offset, incarnation FROM shard ORDER BY id";
        let rows = self.db.query_all_raw(statement(sql, vec![])).await?;
        rows.iter()
            .map(|row| {
                let id: i32 = row.try_get("", "id")?;
                Ok(ShardLine {
                    shard: Shard(u16::try_from(id).unwrap_or(u16::MAX)),
                    owner: row.try_get("", "owner")?,
                    epoch: row.try_get("", "epoch")?,
                    next_seq: row.try_get("", "next_seq")?,
                    published_seq: row.try_get("", "published_seq")?,
                    inbox_offset: row.try_get("", "inbox_offset")?,
                    incarnation: row.try_get("", "incarnation")?,
                })
            })
            .collect()
    }

    /// Lets a shard be read on from another offset: its owner is fenced, and whoever claims it next begins there and
    /// publishes again what its sagas wait for, since the answers may be among what is skipped. False if there is no such
    /// shard.
    ///
    /// # Errors
    /// When the database does not answer; it may have been done all the same.
    pub async fn resume_shard(
        &self,
        shard: Shard,
        offset: i64,
        audit: &AuditRow,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE shard SET inbox_offset = $2, epoch = epoch + 1, republish = true, claimant = NULL, inbox_topic = NULL WHERE id = $1";
        let transaction = self.db.begin().await?;
        let values = vec![i32::from(shard.0).into(), offset.into()];
        let there = transaction.execute_raw(statement(sql, values)).await?.rows_affected() == 1;
        if there {
            transaction.execute_raw(audit.statement()).await?;
        }
        transaction.commit().await?;
        Ok(there)
    }

    /// The base URL of the process that claimed a shard last; `None` if nobody did.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn owner(&self, shard: Shard) -> Result<Option<String>, StoreError> {
        let sql = "SELECT owner FROM shard WHERE id = $1";
        let row = self.db.query_one_raw(statement(sql, vec![i32::from(shard.0).into()])).await?;
        let owner: Option<String> = row.map(|row| row.try_get("", "owner")).transpose()?;
        Ok(owner.filter(|url| !url.is_empty()))
    }
}

fn claimed(row: &QueryResult) -> Result<Claimed, StoreError> {
    let id: i32 = row.try_get("", "id")?;
    Ok(Claimed {
        shard: Shard(u16::try_from(id).unwrap_or(u16::MAX)),
        epoch: row.try_get("", "epoch")?,
        next_seq: row.try_get("", "next_seq")?,
        published_seq: row.try_get("", "published_seq")?,
        inbox_offset: row.try_get("", "inbox_offset")?,
        open_from: row.try_get("", "open_from")?,
        republish: row.try_get("", "republish")?,
        other_topic: row.try_get("", "other_topic")?,
    })
}
