//! One batch, one commit. Everything the engine decides becomes durable here or not at all.
//!
//! The common batch is a single statement: it advances the shard rows where their epoch is still ours (the fence),
//! appends the journal, and inserts and updates saga rows. If the fence does not hold for every shard of the batch, the
//! statement fails as a whole (a division by zero): all parts of one statement commit together, so a false condition
//! alone would leave the numbers of the other shards advanced without their rows. Dead letters and audit rows are rare
//! and ride in the same transaction.

use saga_defs::ids::{Revision, SagaId, Shard};
use saga_defs::saga::Status;
use saga_defs::time::Timestamp;
use sea_orm::{ConnectionTrait, TransactionTrait, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use super::letters::{AuditRow, LetterChange};
use super::{Store, StoreError, statement};

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
    pub definition: String,
    /// Its definition's version.
    pub version: i32,
    /// The client's own name for it; empty for none.
    pub business_key: String,
    /// Its revision.
    pub revision: Revision,
    /// Its status.
    pub status: Status,
    /// The step it is at; empty for none.
    pub step: String,
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
        let main = statement(COMMIT, values(writes));
        let outcome = if writes.letters.is_empty() && writes.audit.is_empty() {
            self.db.execute_raw(main).await.map(|_| Committed::Yes).map_err(StoreError::from)
        } else {
            self.commit_with_letters(main, writes).await
        };
        match outcome {
            Err(StoreError::Refused { state, .. }) if state == FENCED => Ok(Committed::Fenced),
            other => other,
        }
    }

    async fn commit_with_letters(
        &self,
        main: sea_orm::Statement,
        writes: &Writes,
    ) -> Result<Committed, StoreError> {
        let transaction = self.db.begin().await?;
        transaction.execute_raw(main).await?;
        for change in &writes.letters {
            let rows = transaction.execute_raw(change.statement()).await?.rows_affected();
            if rows == 0 && change.must_apply() {
                transaction.rollback().await?;
                return Ok(Committed::LetterMoved);
            }
        }
        for row in &writes.audit {
            transaction.execute_raw(row.statement()).await?;
        }
        transaction.commit().await?;
        Ok(Committed::Yes)
    }
}

/// Collects one column of some rows as an array.
fn column<T, R>(rows: &[R], of: impl Fn(&R) -> T) -> Value
where
    Vec<T>: Into<Value>,
{
    rows.iter().map(of).collect::<Vec<T>>().into()
}

/// Arrays carry no nulls (the driver refuses them): the epoch stands for "none", and the statement turns it back.
fn or_epoch(at: Option<Timestamp>) -> OffsetDateTime {
    at.map_or(OffsetDateTime::UNIX_EPOCH, Timestamp::to_utc)
}

fn values(w: &Writes) -> Vec<Value> {
    vec![
        column(&w.shards, |s| i32::from(s.shard.0)),
        column(&w.shards, |s| s.epoch),
        column(&w.shards, |s| s.first_seq),
        column(&w.shards, |s| s.next_seq),
        column(&w.shards, |s| s.published_seq),
        column(&w.shards, |s| s.inbox_offset),
        column(&w.shards, |s| s.open_from),
        column(&w.shards, |s| s.republish),
        column(&w.journal, |j| i32::from(j.shard.0)),
        column(&w.journal, |j| j.seq),
        column(&w.journal, |j| j.saga),
        column(&w.journal, |j| j.revision.0 as i32),
        column(&w.journal, |j| j.at.to_utc()),
        column(&w.journal, |j| j.status.to_owned()),
        column(&w.journal, |j| j.event.clone()),
        column(&w.journal, |j| j.effects.clone()),
        column(&w.journal, |j| j.body.clone()),
        column(&w.inserts, |s| s.id.as_uuid()),
        column(&w.inserts, |s| i32::from(s.shard.0)),
        column(&w.inserts, |s| s.definition.clone()),
        column(&w.inserts, |s| s.version),
        column(&w.inserts, |s| s.business_key.clone()),
        column(&w.inserts, |s| s.revision.0 as i32),
        column(&w.inserts, |s| s.status.as_str().to_owned()),
        column(&w.inserts, |s| s.step.clone()),
        column(&w.inserts, |s| or_epoch(s.wake_at)),
        column(&w.inserts, |s| s.started_at.to_utc()),
        column(&w.inserts, |s| s.updated_at.to_utc()),
        column(&w.inserts, |s| or_epoch(s.finished_at)),
        column(&w.inserts, |s| s.body.clone()),
        column(&w.updates, |s| s.id.as_uuid()),
        column(&w.updates, |s| s.revision.0 as i32),
        column(&w.updates, |s| s.status.as_str().to_owned()),
        column(&w.updates, |s| s.step.clone()),
        column(&w.updates, |s| or_epoch(s.wake_at)),
        column(&w.updates, |s| s.updated_at.to_utc()),
        column(&w.updates, |s| or_epoch(s.finished_at)),
        column(&w.updates, |s| s.body.clone()),
        column(&w.keys, |k| k.key_hash.to_vec()),
        column(&w.keys, |k| k.request_hash.to_vec()),
        column(&w.keys, |k| k.saga),
        column(&w.keys, |k| k.at.to_utc()),
    ]
}

/// Besides the epoch the fence compares `next_seq`: a sequence can neither skip nor repeat.
const COMMIT: &str = r"
WITH fence AS (
    UPDATE shard AS s
    SET next_seq = f.next_seq, published_seq = f.published_seq,
        inbox_offset = f.inbox_offset, open_from = f.open_from, republish = f.republish
    FROM unnest($1::int[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::uuid[],
                $8::boolean[])
        AS f(id, epoch, first_seq, next_seq, published_seq, inbox_offset, open_from, republish)
    WHERE s.id = f.id AND s.epoch = f.epoch AND s.next_seq = f.first_seq
    RETURNING s.id
), held AS (
    SELECT 1 / (count(*) = cardinality($1::int[]))::int AS yes FROM fence
), journaled AS (
    INSERT INTO journal (shard, seq, saga_id, revision, at, status, event, effects, body)
    SELECT j.shard, j.seq, j.saga_id, j.revision, j.at, j.status, j.event::json, j.effects::json,
           NULLIF(j.body, ''::bytea)
    FROM held, unnest($9::int[], $10::bigint[], $11::uuid[], $12::int[], $13::timestamptz[], $14::text[],
                      $15::text[], $16::text[], $17::bytea[])
        AS j(shard, seq, saga_id, revision, at, status, event, effects, body)
    WHERE held.yes = 1
), started AS (
    INSERT INTO saga (id, shard, definition, version, business_key, revision, status, step, wake_at,
                      started_at, updated_at, finished_at, body)
    SELECT i.id, i.shard, i.definition, i.version, NULLIF(i.business_key, ''), i.revision, i.status,
           NULLIF(i.step, ''), NULLIF(i.wake_at, 'epoch'), i.started_at, i.updated_at,
           NULLIF(i.finished_at, 'epoch'), i.body::json
    FROM held, unnest($18::uuid[], $19::int[], $20::text[], $21::int[], $22::text[], $23::int[], $24::text[],
                      $25::text[], $26::timestamptz[], $27::timestamptz[], $28::timestamptz[],
                      $29::timestamptz[], $30::text[])
        AS i(id, shard, definition, version, business_key, revision, status, step, wake_at,
             started_at, updated_at, finished_at, body)
    WHERE held.yes = 1
), moved AS (
    UPDATE saga AS s
    SET revision = u.revision, status = u.status, step = NULLIF(u.step, ''),
        wake_at = NULLIF(u.wake_at, 'epoch'), updated_at = u.updated_at,
        finished_at = NULLIF(u.finished_at, 'epoch'), body = u.body::json
    FROM held, unnest($31::uuid[], $32::int[], $33::text[], $34::text[], $35::timestamptz[],
                      $36::timestamptz[], $37::timestamptz[], $38::text[])
        AS u(id, revision, status, step, wake_at, updated_at, finished_at, body)
    WHERE s.id = u.id AND held.yes = 1
), keyed AS (
    INSERT INTO request_key (key_hash, request_hash, saga_id, created_at)
    SELECT k.key_hash, k.request_hash, k.saga_id, k.created_at
    FROM held, unnest($39::bytea[], $40::bytea[], $41::uuid[], $42::timestamptz[])
        AS k(key_hash, request_hash, saga_id, created_at)
    WHERE held.yes = 1
)
SELECT yes FROM held
";
