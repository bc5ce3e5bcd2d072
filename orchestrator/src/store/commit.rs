//! One batch, one commit. Everything the engine decides becomes durable here or not at all.
//!
//! The common batch is a single statement: it advances the shard rows where their epoch is still ours (the fence),
//! appends the journal, and inserts and updates saga rows. If the fence does not hold for every shard of the batch, the
//! statement fails as a whole (a division by zero): all parts of one statement commit together, so a false condition
//! alone would leave the numbers of the other shards advanced without their rows. Dead letters and audit rows are rare
//! and ride in the same transaction.
//!
//! A shard's row gets a new version with each commit. A transaction that somebody leaves open keeps all of them, and
//! finding the newest by its key would take longer with each (ADR 0026). So each commit
//! remembers where its versions lie, and the next goes straight to them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use saga_defs::ids::{Revision, SagaId, Shard};
use saga_defs::saga::Status;
use saga_defs::time::Timestamp;
use sea_orm::sqlx::postgres::{PgArguments, PgRow, Postgres};
use sea_orm::sqlx::query::Query;
use sea_orm::sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, query, query_with};
use sea_query_sqlx::SqlxValues;
use uuid::Uuid;

use super::audit::AuditRow;
use super::letters::LetterChange;
use super::{ANSWER_LIMIT, Kept, Store, StoreError};

/// Where the newest version of each shard's row lies (`ctid`, as text), as the last commit left it.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<i32, String>);

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
        let mut committing = self.committing.lock().await;
        // Taken out meanwhile: a connection that is left in the middle of something goes back to the pool, which looks
        // at it first.
        let mut connection = match committing.kept.take() {
            Some(kept) => kept.connection,
            None => self.pool().acquire().await?,
        };
        // Where rows lie is no more known if this fails or is given up.
        let known = std::mem::take(&mut committing.places);
        let commit = commit_at(&mut connection, writes, known);
        let outcome = tokio::time::timeout(ANSWER_LIMIT, commit).await.unwrap_or_else(|_| Err(unanswered()));
        // A transaction that failed is rolled back by the pool, at once.
        let clean = match &outcome {
            Ok(_) => true,
            Err(StoreError::Unknown(_)) => false,
            Err(_) => is_alone(writes),
        };
        if clean {
            committing.kept = Some(Kept { connection, used: Instant::now() });
        }
        let (committed, places) = outcome?;
        committing.places = places;
        Ok(committed)
    }
}

/// Whether the batch is one statement.
fn is_alone(writes: &Writes) -> bool {
    writes.letters.is_empty() && writes.audit.is_empty()
}

/// Commits at the places that are known. Rows may have been moved (`VACUUM FULL`), so a fence that does not hold there is
/// only believed where the rows have just been looked up.
async fn commit_at(
    connection: &mut PgConnection,
    writes: &Writes,
    mut places: Places,
) -> Result<(Committed, Places), StoreError> {
    let mut looked_up = places.look_up(connection, &writes.shards).await?;
    loop {
        let outcome = if is_alone(writes) {
            advance(connection, writes, &places).await.map(|advanced| (Committed::Yes, advanced))
        } else {
            commit_with_letters(connection, writes, &places).await
        };
        match outcome {
            Err(StoreError::Refused { state, .. }) if state == FENCED && !looked_up => {
                places = Places::default();
                looked_up = places.look_up(connection, &writes.shards).await?;
            }
            Err(StoreError::Refused { state, .. }) if state == FENCED => {
                return Ok((Committed::Fenced, Places::default()));
            }
            Ok((committed, advanced)) => {
                places.seen(advanced);
                return Ok((committed, places));
            }
            Err(error) => return Err(error),
        }
    }
}

impl Places {
    /// Finds the rows that are not known, by their key. Says whether all were unknown.
    async fn look_up(
        &mut self,
        connection: &mut PgConnection,
        shards: &[ShardAdvance],
    ) -> Result<bool, StoreError> {
        let ids = shards.iter().map(|shard| i32::from(shard.shard.0));
        let missing: Vec<i32> = ids.filter(|id| !self.0.contains_key(id)).collect();
        if missing.is_empty() {
            return Ok(false);
        }
        let all = missing.len() == shards.len();
        let sql = "SELECT id, ctid::text FROM shard WHERE id = ANY($1::int[])";
        let rows = query(sql).bind(missing).fetch_all(connection).await?;
        for row in rows {
            self.0.insert(row.try_get(0)?, row.try_get(1)?);
        }
        Ok(all)
    }

    /// Whoever claims rows has seen where their newest versions lie.
    pub(super) fn seen(&mut self, places: impl IntoIterator<Item = (i32, String)>) {
        self.0.extend(places);
    }

    /// The place of this shard's row; one that no row has if there is none.
    fn of(&self, shard: Shard) -> &str {
        self.0.get(&i32::from(shard.0)).map_or("(0,0)", String::as_str)
    }
}

/// The one statement; gives the new places.
async fn advance(
    connection: &mut PgConnection,
    writes: &Writes,
    places: &Places,
) -> Result<Vec<(i32, String)>, StoreError> {
    let rows = bound(writes, places).fetch_all(connection).await?;
    let place = |row: &PgRow| Ok(row.try_get::<Option<i32>, _>(0)?.zip(row.try_get(1)?));
    rows.iter().filter_map(|row| place(row).transpose()).collect()
}

fn unanswered() -> StoreError {
    StoreError::unanswered(format!("no answer within {ANSWER_LIMIT:?}"))
}

async fn commit_with_letters(
    connection: &mut PgConnection,
    writes: &Writes,
    places: &Places,
) -> Result<(Committed, Vec<(i32, String)>), StoreError> {
    let mut transaction = connection.begin().await?;
    let advanced = advance(&mut transaction, writes, places).await?;
    for change in &writes.letters {
        let rows = plain(change.statement()).execute(&mut *transaction).await?.rows_affected();
        if rows == 0 && change.must_apply() {
            transaction.rollback().await?;
            return Ok((Committed::LetterMoved, Vec::new()));
        }
    }
    for row in &writes.audit {
        plain(row.statement()).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok((Committed::Yes, advanced))
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

fn bound(w: &Writes, places: &Places) -> Bound {
    let places = column(&w.shards, |s| places.of(s.shard));
    let query =
        with_keys(with_updates(with_inserts(with_journal(with_shards(query(COMMIT), w), w), w), w), w);
    query.bind(places)
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
/// the select lists, row by row: `unnest` in FROM would first write each column to a store of its own. The outer join at
/// the end asks `held` in any case, also where nothing else of the batch does.
///
/// `IS NOT DISTINCT FROM`, since no index serves it: statistics that count no rows, which they do when dead versions fill more
/// pages than are sampled, make the way over the index look cheaper than going to the rows' places.
const COMMIT: &str = r"
WITH fence AS (
    UPDATE shard AS s
    SET next_seq = f.next_seq, published_seq = f.published_seq,
        inbox_offset = f.inbox_offset, open_from = f.open_from, republish = f.republish
    FROM (SELECT unnest($1::int[]) AS id, unnest($2::bigint[]) AS epoch, unnest($3::bigint[]) AS first_seq,
                 unnest($4::bigint[]) AS next_seq, unnest($5::bigint[]) AS published_seq,
                 unnest($6::bigint[]) AS inbox_offset, unnest($7::uuid[]) AS open_from,
                 unnest($8::boolean[]) AS republish, unnest($43::text[])::tid AS place) AS f
    WHERE s.ctid = f.place AND (s.id, s.epoch, s.next_seq) IS NOT DISTINCT FROM (f.id, f.epoch, f.first_seq)
    RETURNING s.id, s.ctid::text AS place
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
SELECT fence.id, fence.place FROM held LEFT JOIN fence ON held.yes = 1
";
