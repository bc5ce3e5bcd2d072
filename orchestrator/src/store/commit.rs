//! One batch, one commit. Everything the engine decides becomes durable here or not at all.
//!
//! The common batch is a single statement: it advances the shard rows where their epoch is still ours (the fence),
//! appends the journal, and inserts and updates saga rows. If the fence does not hold for every shard of the batch, the
//! statement fails as a whole (a division by zero): all parts of one statement commit together, so a false condition
//! alone would leave the numbers of the other shards advanced without their rows. Dead letters and audit rows are rare
//! and ride in the same transaction.

use std::sync::Arc;
use std::time::Instant;

use saga_defs::ids::{Revision, SagaId, Shard};
use saga_defs::saga::Status;
use saga_defs::time::Timestamp;
use sea_orm::DbErr;
use sea_orm::sqlx::postgres::{PgArguments, Postgres};
use sea_orm::sqlx::query::Query;
use sea_orm::sqlx::{AssertSqlSafe, Connection as _, PgConnection, query, query_with};
use sea_query_sqlx::SqlxValues;
use uuid::Uuid;

use super::audit::AuditRow;
use super::letters::LetterChange;
use super::{ANSWER_LIMIT, Kept, Store, StoreError};

/// SQLSTATE of a division by zero: the fence did not hold.
const FENCED: &str = "22012";

/// What one batch does to a shard row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardAdvance {
    /// Which shard.
    pub shard: Shard,
    /// The epoch under which it is ours.
    pub epoch: i64,
    /// The first sequence number of this batch: the row's `next_seq` before.
    pub first_seq: i64,
    /// The row's `next_seq` afterwards.
    pub next_seq: i64,
    /// Everything up to here is acknowledged by the broker.
    pub published_seq: i64,
    /// The next offset of `saga.inbox` to read.
    pub inbox_offset: i64,
    /// No saga below this id waits.
    pub open_from: Uuid,
    /// Whether the broker may lack commands that sagas wait for.
    pub republish: bool,
}

/// One appended line.
#[derive(Clone, Debug)]
pub struct JournalRow {
    /// Which shard.
    pub shard: Shard,
    /// Gapless within the shard.
    pub seq: i64,
    /// Whose; the nil UUID for what concerns no saga.
    pub saga: Uuid,
    /// The saga's revision afterwards.
    pub revision: Revision,
    /// When.
    pub at: Timestamp,
    /// The saga's status afterwards.
    pub status: &'static str,
    /// What happened, as JSON.
    pub event: String,
    /// What is to be done, as JSON.
    pub effects: String,
    /// The command's Avro value; empty where there is none.
    pub body: Vec<u8>,
}

/// A saga's row.
#[derive(Clone, Debug)]
pub struct SagaWrite {
    /// The saga.
    pub id: SagaId,
    /// Its shard.
    pub shard: Shard,
    /// Its definition's name.
    pub definition: Arc<str>,
    /// Its definition's version.
    pub version: i32,
    /// The client's own name for it.
    pub business_key: Option<Arc<str>>,
    /// Its revision.
    pub revision: Revision,
    /// Its status.
    pub status: Status,
    /// The step it is at.
    pub step: Option<Arc<str>>,
    /// When it wakes by itself.
    pub wake_at: Option<Timestamp>,
    /// When it was started.
    pub started_at: Timestamp,
    /// Now.
    pub updated_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// The rest, as JSON.
    pub body: String,
}

/// An idempotency key that acts in this batch.
#[derive(Clone, Debug)]
pub struct KeyWrite {
    /// SHA-256 of the key.
    pub key_hash: [u8; 32],
    /// SHA-256 of what was asked under it.
    pub request_hash: [u8; 32],
    /// The saga it started or acted on; for a letter's verb the nil UUID.
    pub saga: Uuid,
    /// When.
    pub at: Timestamp,
}

/// Everything one commit writes. A saga is in `inserts` or in `updates`, and once.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    /// The shards' rows.
    pub shards: Vec<ShardAdvance>,
    /// The journal.
    pub journal: Vec<JournalRow>,
    /// New sagas.
    pub inserts: Vec<SagaWrite>,
    /// Sagas that moved.
    pub updates: Vec<SagaWrite>,
    /// Idempotency keys.
    pub keys: Vec<KeyWrite>,
    /// Dead letters.
    pub letters: Vec<LetterChange>,
    /// What operators did.
    pub audit: Vec<AuditRow>,
}

/// What became of a commit that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// All of it is durable.
    Yes,
    /// Nothing happened: at least one shard is no longer ours under that epoch.
    Fenced,
    /// Nothing happened: a dead letter is no longer in the status that the batch found it in.
    LetterMoved,
}

impl Store {
    /// Commits a batch.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] means: find out by renewing the claim ([`Store::renew`]).
    pub async fn commit(&self, writes: &Writes) -> Result<Committed, StoreError> {
        let main = bound(writes);
        let mut kept = self.committing.lock().await;
        // Taken out meanwhile: a connection that is left in the middle of something goes back to the pool, which looks
        // at it first.
        let mut connection = match kept.take() {
            Some(kept) => kept.connection,
            None => self.pool().acquire().await?,
        };
        let alone = writes.letters.is_empty() && writes.audit.is_empty();
        let commit = async {
            if alone {
                main.execute(&mut *connection).await.map(|_| Committed::Yes).map_err(StoreError::from)
            } else {
                commit_with_letters(&mut connection, main, writes).await
            }
        };
        let outcome = tokio::time::timeout(ANSWER_LIMIT, commit).await.unwrap_or_else(|_| Err(unanswered()));
        // A transaction that failed is rolled back by the pool, at once.
        let clean = match &outcome {
            Ok(_) => true,
            Err(StoreError::Unknown(_)) => false,
            Err(_) => alone,
        };
        if clean {
            *kept = Some(Kept { connection, used: Instant::now() });
        }
        match outcome {
            Err(StoreError::Refused { state, .. }) if state == FENCED => Ok(Committed::Fenced),
            other => other,
        }
    }
}

fn unanswered() -> StoreError {
    StoreError::Unknown(DbErr::Custom(format!("no answer within {ANSWER_LIMIT:?}")))
}

async fn commit_with_letters(
    connection: &mut PgConnection,
    main: Bound,
    writes: &Writes,
) -> Result<Committed, StoreError> {
    let mut transaction = connection.begin().await?;
    main.execute(&mut *transaction).await?;
    for change in &writes.letters {
        let rows = plain(change.statement()).execute(&mut *transaction).await?.rows_affected();
        if rows == 0 && change.must_apply() {
            transaction.rollback().await?;
            return Ok(Committed::LetterMoved);
        }
    }
    for row in &writes.audit {
        plain(row.statement()).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(Committed::Yes)
}

/// The batch statement goes to the driver beneath sea-orm, which takes borrowed columns and nulls in arrays: sea-orm
/// would copy every text three times.
type Bound = Query<'static, Postgres, PgArguments>;

/// A statement that was made for sea-orm.
fn plain(statement: sea_orm::Statement) -> Query<'static, Postgres, SqlxValues> {
    let values = statement.values.unwrap_or_else(|| sea_orm::Values(Vec::new()));
    query_with(AssertSqlSafe(statement.sql), SqlxValues(values))
}

/// One column of some rows.
fn column<'a, T, R>(rows: &'a [R], of: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}

fn bound(w: &Writes) -> Bound {
    with_keys(with_updates(with_inserts(with_journal(with_shards(query(COMMIT), w), w), w), w), w)
}

fn with_shards(query: Bound, w: &Writes) -> Bound {
    query
        .bind(column(&w.shards, |s| i32::from(s.shard.0)))
        .bind(column(&w.shards, |s| s.epoch))
        .bind(column(&w.shards, |s| s.first_seq))
        .bind(column(&w.shards, |s| s.next_seq))
        .bind(column(&w.shards, |s| s.published_seq))
        .bind(column(&w.shards, |s| s.inbox_offset))
        .bind(column(&w.shards, |s| s.open_from))
        .bind(column(&w.shards, |s| s.republish))
}

fn with_journal(query: Bound, w: &Writes) -> Bound {
    query
        .bind(column(&w.journal, |j| i32::from(j.shard.0)))
        .bind(column(&w.journal, |j| j.seq))
        .bind(column(&w.journal, |j| j.saga))
        .bind(column(&w.journal, |j| j.revision.0 as i32))
        .bind(column(&w.journal, |j| j.at.to_utc()))
        .bind(column(&w.journal, |j| j.status))
        .bind(column(&w.journal, |j| j.event.as_str()))
        .bind(column(&w.journal, |j| j.effects.as_str()))
        .bind(column(&w.journal, |j| Some(j.body.as_slice()).filter(|body| !body.is_empty())))
}

fn with_inserts(query: Bound, w: &Writes) -> Bound {
    query
        .bind(column(&w.inserts, |s| s.id.as_uuid()))
        .bind(column(&w.inserts, |s| i32::from(s.shard.0)))
        .bind(column(&w.inserts, |s| &*s.definition))
        .bind(column(&w.inserts, |s| s.version))
        .bind(column(&w.inserts, |s| s.business_key.as_deref()))
        .bind(column(&w.inserts, |s| s.revision.0 as i32))
        .bind(column(&w.inserts, |s| s.status.as_str()))
        .bind(column(&w.inserts, |s| s.step.as_deref()))
        .bind(column(&w.inserts, |s| s.wake_at.map(Timestamp::to_utc)))
        .bind(column(&w.inserts, |s| s.started_at.to_utc()))
        .bind(column(&w.inserts, |s| s.updated_at.to_utc()))
        .bind(column(&w.inserts, |s| s.finished_at.map(Timestamp::to_utc)))
        .bind(column(&w.inserts, |s| s.body.as_str()))
}

fn with_updates(query: Bound, w: &Writes) -> Bound {
    query
        .bind(column(&w.updates, |s| s.id.as_uuid()))
        .bind(column(&w.updates, |s| s.revision.0 as i32))
        .bind(column(&w.updates, |s| s.status.as_str()))
        .bind(column(&w.updates, |s| s.step.as_deref()))
        .bind(column(&w.updates, |s| s.wake_at.map(Timestamp::to_utc)))
        .bind(column(&w.updates, |s| s.updated_at.to_utc()))
        .bind(column(&w.updates, |s| s.finished_at.map(Timestamp::to_utc)))
        .bind(column(&w.updates, |s| s.body.as_str()))
}

fn with_keys(query: Bound, w: &Writes) -> Bound {
    query
        .bind(column(&w.keys, |k| k.key_hash.as_slice()))
        .bind(column(&w.keys, |k| k.request_hash.as_slice()))
        .bind(column(&w.keys, |k| k.saga))
        .bind(column(&w.keys, |k| k.at.to_utc()))
}

/// Besides the epoch the fence compares `next_seq`: a sequence can neither skip nor repeat. The arrays are taken apart in
/// the select lists, row by row: `unnest` in FROM would first write each column to a store of its own.
const COMMIT: &str = r"
WITH fence AS (
    UPDATE shard AS s
    SET next_seq = f.next_seq, published_seq = f.published_seq,
        inbox_offset = f.inbox_offset, open_from = f.open_from, republish = f.republish
    FROM (SELECT unnest($1::int[]) AS id, unnest($2::bigint[]) AS epoch, unnest($3::bigint[]) AS first_seq,
                 unnest($4::bigint[]) AS next_seq, unnest($5::bigint[]) AS published_seq,
                 unnest($6::bigint[]) AS inbox_offset, unnest($7::uuid[]) AS open_from,
                 unnest($8::boolean[]) AS republish) AS f
    WHERE s.id = f.id AND s.epoch = f.epoch AND s.next_seq = f.first_seq
    RETURNING s.id
), held AS (
    SELECT 1 / (count(*) = cardinality($1::int[]))::int AS yes FROM fence
), journaled AS (
    INSERT INTO journal (shard, seq, saga_id, revision, at, status, event, effects, body)
    SELECT j.*
    FROM held, (SELECT unnest($9::int[]), unnest($10::bigint[]), unnest($11::uuid[]), unnest($12::int[]),
                       unnest($13::timestamptz[]), unnest($14::text[]), unnest($15::text[]), unnest($16::text[]),
                       unnest($17::bytea[])) AS j
    WHERE held.yes = 1
), started AS (
    INSERT INTO saga (id, shard, definition, version, business_key, revision, status, step, wake_at,
                      started_at, updated_at, finished_at, body)
    SELECT i.*
    FROM held, (SELECT unnest($18::uuid[]), unnest($19::int[]), unnest($20::text[]), unnest($21::int[]),
                       unnest($22::text[]), unnest($23::int[]), unnest($24::text[]), unnest($25::text[]),
                       unnest($26::timestamptz[]), unnest($27::timestamptz[]), unnest($28::timestamptz[]),
                       unnest($29::timestamptz[]), unnest($30::text[])) AS i
    WHERE held.yes = 1
), moved AS (
    UPDATE saga AS s
    SET revision = u.revision, status = u.status, step = u.step, wake_at = u.wake_at, updated_at = u.updated_at,
        finished_at = u.finished_at, body = u.body
    FROM held, (SELECT unnest($31::uuid[]) AS id, unnest($32::int[]) AS revision, unnest($33::text[]) AS status,
                       unnest($34::text[]) AS step, unnest($35::timestamptz[]) AS wake_at,
                       unnest($36::timestamptz[]) AS updated_at, unnest($37::timestamptz[]) AS finished_at,
                       unnest($38::text[]) AS body) AS u
    WHERE s.id = u.id AND held.yes = 1
), keyed AS (
    INSERT INTO request_key (key_hash, request_hash, saga_id, created_at)
    SELECT k.*
    FROM held, (SELECT unnest($39::bytea[]), unnest($40::bytea[]), unnest($41::uuid[]),
                       unnest($42::timestamptz[])) AS k
    WHERE held.yes = 1
)
SELECT yes FROM held
";
