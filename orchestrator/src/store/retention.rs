//! What leaves at its age: days of the journal by dropping their partition, then the sagas that lived in them alone, with
//! their idempotency keys and closed dead letters, in small batches.
//!
//! The order matters. A saga's row leaves only after its whole journal has, so `verify` never sees a journal without a row;
//! a row whose journal has left is nothing new to it. What is open holds its first day and every later one.
//!
//! All of it runs on one connection of its own, a short transaction at a time, each under an advisory lock: the process that
//! does not get it leaves the rest to the one that has it.

use saga_defs::ids::SagaId;
use saga_defs::time::Timestamp;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, QueryResult,
    TransactionTrait, Value,
};
use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;
use uuid::Uuid;

use super::queries::{begun, lowest_id, margin};
use super::{ACQUIRE_TIMEOUT, STATEMENT_TIMEOUT_MS, StoreError, statement};

/// Whoever has it removes; the others leave it to them.
const RETENTION_LOCK: i64 = 0x5a6a_0003;
/// Dropping a partition locks the journal, then the partition, then the default one, and every commit waits meanwhile. So
/// each wait is kept to a third of the 100 ms that a commit may be held up.
const DROP_LOCK_LIMIT: &str = "30ms";
/// So many rows are looked at, or removed, in one transaction.
const CHUNK: i64 = 1_000;
/// So many pages of the idempotency keys are looked at in one transaction. They have no index by age: one would cost every
/// start, a walk through the table costs once a day.
const KEY_PAGES: i64 = 64;

/// A day's partition of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Day {
    /// The partition's name.
    pub partition: String,
    /// Its first moment.
    pub from: OffsetDateTime,
    /// The first moment after it.
    pub to: OffsetDateTime,
}

/// What became of dropping a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DayDropped {
    /// It is gone.
    Yes,
    /// Not every record that it asks for is acknowledged by the broker.
    Unpublished,
    /// Somebody reads the journal at length, or another process removes.
    Busy,
}

/// What one step of a walk did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<P> {
    /// So many rows were removed, and there is more after this place.
    More(u64, P),
    /// So many rows were removed, and that was the end.
    End(u64),
    /// Another process removes.
    Busy,
}

/// The connection that removes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Retention {
    db: DatabaseConnection,
}

impl Retention {
    /// Over a connection of its own.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn connect(url: &SecretString) -> Result<Self, StoreError> {
        let mut options = ConnectOptions::new(url.expose_secret().to_owned());
        options
            .max_connections(1)
            .min_connections(0)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(true)
            .sqlx_logging(false)
            .map_sqlx_postgres_opts(|postgres| {
                postgres.application_name("orchestrator-retention").options([
                    ("statement_timeout", STATEMENT_TIMEOUT_MS),
                    ("lock_timeout", DROP_LOCK_LIMIT),
                    ("enable_seqscan", "off"),
                    ("jit", "off"),
                ])
            });
        Ok(Self { db: Database::connect(options).await? })
    }

    /// The days that the journal has, oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn days(&self) -> Result<Vec<Day>, StoreError> {
        let rows = self.db.query_all_raw(statement(DAYS, vec![])).await?;
        let day = |row: &QueryResult| {
            Ok(Day {
                partition: row.try_get("", "partition")?,
                from: row.try_get("", "lower")?,
                to: row.try_get("", "upper")?,
            })
        };
        rows.iter().map(day).collect()
    }

    /// How many rows of the journal are in its default partition, 10,000 at most: there was no partition for their day. They
    /// stay there, and keep that day's partition from being made, until somebody moves them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn unpartitioned(&self) -> Result<u64, StoreError> {
        let row = self.db.query_one_raw(statement(UNPARTITIONED, vec![])).await?;
        let rows: i64 = row.map_or(Ok(0), |row| row.try_get("", "rows"))?;
        Ok(rows.unsigned_abs())
    }

    /// The oldest saga begun before `before` that must stay: it is open, it moved at `cutoff` or later, or a dead letter of
    /// it is open. `None`: none must. Walks in short transactions: sagas that moved meanwhile only became younger.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn oldest_kept(
        &self,
        cutoff: OffsetDateTime,
        before: OffsetDateTime,
    ) -> Result<Option<SagaId>, StoreError> {
        let end = lowest_id(before.saturating_add(margin()));
        let letter = self.db.query_one_raw(statement(OLDEST_LETTER, vec![end.into()])).await?;
        let letter: Option<Uuid> = letter.map(|row| row.try_get("", "saga_id")).transpose()?;
        let end = letter.unwrap_or(end);
        let mut after = Uuid::nil();
        loop {
            let values = vec![after.into(), end.into(), cutoff.into(), CHUNK.into()];
            let Some(row) = self.db.query_one_raw(statement(OLDEST_SAGA, values)).await? else { break };
            if let Some(kept) = row.try_get::<Option<Uuid>>("", "kept")? {
                return Ok(Some(SagaId::from_uuid(kept)));
            }
            match row.try_get::<Option<Uuid>>("", "last")? {
                Some(last) => after = last,
                None => break,
            }
        }
        Ok(letter.map(SagaId::from_uuid))
    }

    /// Drops a day of the journal, if all that it asks to publish is published. Whoever calls has made sure that no saga of
    /// that day must stay.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn drop_day(&self, day: &Day) -> Result<DayDropped, StoreError> {
        // A name out of the catalogue, and of our own making; still no place for surprises.
        if !day.partition.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Ok(DayDropped::Busy);
        }
        let Some(transaction) = self.locked().await? else { return Ok(DayDropped::Busy) };
        let unpublished = format!(
            "SELECT id FROM shard s WHERE published_seq <
                 (SELECT seq FROM {} WHERE shard = s.id ORDER BY seq DESC LIMIT 1) LIMIT 1",
            day.partition
        );
        if transaction.query_one_raw(statement(&unpublished, vec![])).await?.is_some() {
            return Ok(DayDropped::Unpublished);
        }
        match transaction.execute_unprepared(&format!("DROP TABLE {}", day.partition)).await {
            Ok(_) => {}
            Err(error) => match StoreError::from(error) {
                StoreError::TryAgain { .. } => return Ok(DayDropped::Busy),
                error => return Err(error),
            },
        }
        transaction.commit().await?;
        Ok(DayDropped::Yes)
    }

    /// Removes the idempotency keys that acted before `before` and whose saga leaves as well, from a page of the table on.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn remove_keys(&self, before: OffsetDateTime, page: i64) -> Result<Step<i64>, StoreError> {
        let Some(transaction) = self.locked().await? else { return Ok(Step::Busy) };
        let size = transaction.query_one_raw(statement(KEY_TABLE_PAGES, vec![])).await?;
        let pages: i64 = size.map_or(Ok(0), |row| row.try_get("", "pages"))?;
        let next = page.saturating_add(KEY_PAGES);
        let (from, to) = (format!("({page},0)"), format!("({next},0)"));
        let values = vec![from.into(), to.into(), before.into()];
        let removed = transaction.execute_raw(statement(REMOVE_KEYS, values)).await?.rows_affected();
        transaction.commit().await?;
        Ok(if next < pages { Step::More(removed, next) } else { Step::End(removed) })
    }

    /// Removes ended sagas that moved for the last time before `before` and have no open dead letter, from an id on. (A
    /// letter may be opened again after the day of its saga has left.)
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn remove_sagas(&self, before: OffsetDateTime, after: Uuid) -> Result<Step<Uuid>, StoreError> {
        let end = lowest_id(before.saturating_add(margin()));
        let values = vec![after.into(), end.into(), before.into(), CHUNK.into()];
        let Some((removed, row)) = self.remove(REMOVE_SAGAS, values).await? else { return Ok(Step::Busy) };
        let last: Option<Uuid> = row.try_get("", "last")?;
        Ok(last.map_or(Step::End(removed), |last| Step::More(removed, last)))
    }

    /// Removes dead letters that were closed before `before` and whose saga is no more, from an id on.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn remove_letters(
        &self,
        before: OffsetDateTime,
        after: Uuid,
    ) -> Result<Step<Uuid>, StoreError> {
        let values = vec![after.into(), before.into(), CHUNK.into()];
        let Some((removed, row)) = self.remove(REMOVE_LETTERS, values).await? else { return Ok(Step::Busy) };
        let last: Option<Uuid> = row.try_get("", "last")?;
        Ok(last.map_or(Step::End(removed), |last| Step::More(removed, last)))
    }

    /// Removes actions over many letters or sagas that were finished before `before`, with what they chose.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn remove_actions(&self, before: OffsetDateTime) -> Result<Step<()>, StoreError> {
        let values = vec![before.into(), CHUNK.into()];
        let Some((removed, _)) = self.remove(REMOVE_ACTIONS, values).await? else { return Ok(Step::Busy) };
        Ok(if removed == 0 { Step::End(0) } else { Step::More(removed, ()) })
    }

    /// A statement that says how many rows it `removed`, in a transaction of its own. `None`: another process removes.
    async fn remove(&self, sql: &str, values: Vec<Value>) -> Result<Option<(u64, QueryResult)>, StoreError> {
        let Some(transaction) = self.locked().await? else { return Ok(None) };
        let row = transaction.query_one_raw(statement(sql, values)).await?;
        transaction.commit().await?;
        let Some(row) = row else { return Ok(None) };
        let removed: i64 = row.try_get("", "removed")?;
        Ok(Some((u64::try_from(removed).unwrap_or_default(), row)))
    }

    async fn locked(&self) -> Result<Option<DatabaseTransaction>, StoreError> {
        let transaction = self.db.begin().await?;
        let lock = format!("SELECT pg_try_advisory_xact_lock({RETENTION_LOCK}) AS locked");
        let row = transaction.query_one_raw(statement(&lock, vec![])).await?;
        let locked: bool = row.map_or(Ok(false), |row| row.try_get("", "locked"))?;
        Ok(locked.then_some(transaction))
    }
}

/// A saga's first transition is not before this, so neither are its rows in the journal.
pub fn needed_from(saga: SagaId) -> OffsetDateTime {
    begun(saga)
}

/// What moved for the last time before this has come to its age.
pub fn age_limit(now: Timestamp, days: u32) -> OffsetDateTime {
    now.to_utc().saturating_sub(time::Duration::days(days.into()))
}

const DAYS: &str = r"
SELECT partition, lower, upper FROM (
    SELECT c.relname::text AS partition,
        substring(pg_get_expr(c.relpartbound, c.oid) FROM 'FROM \(''([^'']+)''\)')::timestamptz AS lower,
        substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''([^'']+)''\)')::timestamptz AS upper
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'journal'::regclass
) AS days
WHERE lower IS NOT NULL AND upper IS NOT NULL ORDER BY lower";

const UNPARTITIONED: &str = "SELECT count(*) AS rows FROM (SELECT FROM journal_default LIMIT 10000) AS rows";

const OLDEST_LETTER: &str = "
SELECT saga_id FROM dead_letter
WHERE status = 'open' AND saga_id IS NOT NULL AND saga_id < $1 ORDER BY saga_id LIMIT 1";

const OLDEST_SAGA: &str = "
WITH looked AS MATERIALIZED (
    SELECT id, finished_at IS NULL OR updated_at >= $3 AS stays FROM saga
    WHERE id > $1 AND id < $2 ORDER BY id LIMIT $4
)
SELECT (SELECT id FROM looked WHERE stays ORDER BY id LIMIT 1) AS kept,
    (SELECT id FROM looked ORDER BY id DESC LIMIT 1) AS last";

const KEY_TABLE_PAGES: &str =
    "SELECT pg_relation_size('request_key') / current_setting('block_size')::bigint AS pages";

const REMOVE_KEYS: &str = "
DELETE FROM request_key k
WHERE k.ctid >= $1::text::tid AND k.ctid < $2::text::tid AND k.created_at < $3
  AND NOT EXISTS (SELECT FROM saga s WHERE s.id = k.saga_id AND (s.finished_at IS NULL OR s.updated_at >= $3))";

const REMOVE_SAGAS: &str = "
WITH looked AS MATERIALIZED (
    SELECT s.id, s.finished_at IS NOT NULL AND s.updated_at < $3
        AND NOT EXISTS (SELECT FROM dead_letter l WHERE l.saga_id = s.id AND l.status = 'open') AS leaves
    FROM saga s WHERE s.id > $1 AND s.id < $2 ORDER BY s.id LIMIT $4
), gone AS (
    DELETE FROM saga WHERE id = ANY(ARRAY(SELECT id FROM looked WHERE leaves)) RETURNING id
)
SELECT (SELECT count(*) FROM gone) AS removed, (SELECT id FROM looked ORDER BY id DESC LIMIT 1) AS last";

/// By id: however many letters are open, none is looked at twice. Not only those of old ids: an id has the time that a
/// foreign record said of itself.
const REMOVE_LETTERS: &str = "
WITH looked AS MATERIALIZED (
    SELECT l.id, l.status <> 'open' AND l.updated_at < $2
        AND NOT EXISTS (SELECT FROM saga s WHERE s.id = l.saga_id) AS leaves
    FROM dead_letter l WHERE l.id > $1 ORDER BY l.id LIMIT $3
), gone AS (
    DELETE FROM dead_letter WHERE id = ANY(ARRAY(SELECT id FROM looked WHERE leaves)) RETURNING id
)
SELECT (SELECT count(*) FROM gone) AS removed, (SELECT id FROM looked ORDER BY id DESC LIMIT 1) AS last";

/// First what it chose, then itself.
const REMOVE_ACTIONS: &str = "
WITH old AS MATERIALIZED (
    SELECT id FROM bulk_action WHERE finished_at < $1 ORDER BY id LIMIT 1
), chosen AS MATERIALIZED (
    SELECT action_id, place FROM bulk_item WHERE action_id = (SELECT id FROM old) ORDER BY place LIMIT $2
), gone AS (
    DELETE FROM bulk_item i USING chosen c WHERE i.action_id = c.action_id AND i.place = c.place RETURNING i.place
), ended AS (
    DELETE FROM bulk_action WHERE id = (SELECT id FROM old) AND NOT EXISTS (SELECT FROM chosen) RETURNING id
)
SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM ended) AS removed";
