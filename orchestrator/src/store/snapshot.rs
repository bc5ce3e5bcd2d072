//! The whole database as of one moment, streamed in order of saga: what `verify` reads.
//!
//! Every reader is a connection of its own in a transaction that sees the same snapshot, changes nothing and takes no
//! lock but the one that keeps a table from being dropped. The order comes from indexes (`journal_saga`, the keys): a
//! journal is never sorted, whatever its size.

use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use saga_defs::ids::Shard;
use saga_defs::time::Timestamp;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sea_orm::sqlx::{self, AssertSqlSafe, Connection, Executor, Row};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::audit::Hashed;
use super::copy::{CopyError, Fields, FromTuple};

/// The journal, saga by saga.
pub const JOURNAL: &str = "SELECT saga_id, revision, shard, seq, at, status, event, effects,
        coalesce(octet_length(body), 0)
    FROM journal ORDER BY saga_id, revision";
/// The saga rows.
pub const SAGAS: &str =
    "SELECT id, shard, definition, version, business_key, revision, status, step, wake_at,
        started_at, updated_at, finished_at, body
    FROM saga ORDER BY id";
/// The dead letters of sagas.
pub const LETTERS: &str =
    "SELECT saga_id, id, status FROM dead_letter WHERE saga_id IS NOT NULL ORDER BY saga_id, id";
/// The audit of sagas.
pub const AUDIT: &str =
    "SELECT saga_id, at, verb FROM audit WHERE saga_id IS NOT NULL ORDER BY saga_id, at, id";

/// The chains of the audit, one after the other.
pub const CHAINS: &str =
    "SELECT chain, chain_seq, previous_hash, hash, id, at, actor, verb, saga_id, dead_letter_id, reason,
        state_before, state_after
    FROM audit ORDER BY chain, chain_seq";

/// A row of the journal.
#[derive(Clone, Debug)]
pub struct JournalLine {
    /// Whose; nil for what concerns no saga.
    pub saga: Uuid,
    /// The saga's revision afterwards.
    pub revision: i32,
    /// Which shard.
    pub shard: i32,
    /// Its place in the shard.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// The saga's status afterwards.
    pub status: Bytes,
    /// What happened, as JSON.
    pub event: Bytes,
    /// What was to be done, as JSON.
    pub effects: Bytes,
    /// How long the command is that it asks to send, in bytes; 0 if there is none.
    pub body_bytes: i32,
}

impl FromTuple for JournalLine {
    fn from_tuple(fields: &mut Fields) -> Result<Self, CopyError> {
        Ok(Self {
            saga: fields.uuid()?,
            revision: fields.int()?,
            shard: fields.int()?,
            seq: fields.bigint()?,
            at: fields.time()?,
            status: fields.some()?,
            event: fields.some()?,
            effects: fields.some()?,
            body_bytes: fields.int()?,
        })
    }
}

/// A row of the saga table.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns, as the entity describes them")]
pub struct SagaLine {
    pub id: Uuid,
    pub shard: i32,
    pub definition: Arc<str>,
    pub version: i32,
    pub business_key: Option<Box<str>>,
    pub revision: i32,
    pub status: Bytes,
    pub step: Option<Box<str>>,
    pub wake_at: Option<Timestamp>,
    pub started_at: Timestamp,
    pub updated_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub body: Bytes,
}

impl FromTuple for SagaLine {
    fn from_tuple(fields: &mut Fields) -> Result<Self, CopyError> {
        Ok(Self {
            id: fields.uuid()?,
            shard: fields.int()?,
            definition: fields.text()?.into(),
            version: fields.int()?,
            business_key: fields.optional_text()?,
            revision: fields.int()?,
            status: fields.some()?,
            step: fields.optional_text()?,
            wake_at: fields.optional_time()?,
            started_at: fields.time()?,
            updated_at: fields.time()?,
            finished_at: fields.optional_time()?,
            body: fields.some()?,
        })
    }
}

/// A dead letter of a saga.
#[derive(Clone, Debug)]
pub struct LetterLine {
    /// Whose.
    pub saga: Uuid,
    /// Its id.
    pub id: Uuid,
    /// `open`, `redriven`, `resolved` or `discarded`.
    pub status: Box<str>,
}

impl FromTuple for LetterLine {
    fn from_tuple(fields: &mut Fields) -> Result<Self, CopyError> {
        Ok(Self { saga: fields.uuid()?, id: fields.uuid()?, status: fields.text()? })
    }
}

/// What an operator did to a saga.
#[derive(Clone, Debug)]
pub struct AuditLine {
    /// To which saga.
    pub saga: Uuid,
    /// When.
    pub at: Timestamp,
    /// What, e.g. `cancel`.
    pub verb: Box<str>,
}

impl FromTuple for AuditLine {
    fn from_tuple(fields: &mut Fields) -> Result<Self, CopyError> {
        Ok(Self { saga: fields.uuid()?, at: fields.time()?, verb: fields.text()? })
    }
}

/// A row of the audit as a link of its chain.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns, as the entity describes them")]
pub struct ChainLine {
    pub chain: i32,
    pub seq: i64,
    pub previous_hash: Bytes,
    pub hash: Bytes,
    pub id: Uuid,
    pub at_micros: i64,
    pub actor: Box<str>,
    pub verb: Box<str>,
    pub saga: Option<Uuid>,
    pub letter: Option<Uuid>,
    pub reason: Box<str>,
    pub before: Option<Box<str>>,
    pub after: Option<Box<str>>,
}

impl FromTuple for ChainLine {
    fn from_tuple(fields: &mut Fields) -> Result<Self, CopyError> {
        Ok(Self {
            chain: fields.int()?,
            seq: fields.bigint()?,
            previous_hash: fields.some()?,
            hash: fields.some()?,
            id: fields.uuid()?,
            at_micros: fields.unix_micros()?,
            actor: fields.text()?,
            verb: fields.text()?,
            saga: fields.optional_uuid()?,
            letter: fields.optional_uuid()?,
            reason: fields.text()?,
            before: fields.optional_text()?,
            after: fields.optional_text()?,
        })
    }
}

impl ChainLine {
    /// What its hash is taken of.
    pub fn hashed(&self) -> Hashed<'_> {
        Hashed {
            chain: self.chain,
            seq: self.seq,
            id: self.id,
            at_micros: self.at_micros,
            actor: &self.actor,
            verb: &self.verb,
            saga: self.saga,
            letter: self.letter,
            reason: &self.reason,
            before: self.before.as_deref(),
            after: self.after.as_deref(),
        }
    }
}

/// Where a chain of the audit ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainEnd {
    /// Which: a shard, or -1.
    pub chain: i32,
    /// How many rows it has.
    pub seq: i64,
    /// The hash of the last.
    pub hash: Vec<u8>,
}

/// A shard's row, as far as it can be held against its journal.
#[derive(Clone, Debug)]
pub struct ShardLine {
    /// Which.
    pub id: i32,
    /// The next sequence number.
    pub next_seq: i64,
    /// Everything up to here is acknowledged.
    pub published_seq: i64,
    /// No saga below waits.
    pub open_from: Uuid,
}

/// What is read at once, before the streams.
#[derive(Clone, Debug)]
pub struct Small {
    /// The number of shards, if the service was ever started.
    pub shard_count: Option<i32>,
    /// Every shard's row.
    pub shards: Vec<ShardLine>,
    /// Name, version and text of every definition.
    pub definitions: Vec<(String, i32, String)>,
    /// Where the journal begins, if older days have been dropped.
    pub journal_from: Option<Timestamp>,
    /// About how many rows the journal has.
    pub journal_rows: u64,
    /// Where each chain of the audit ends.
    pub chain_ends: Vec<ChainEnd>,
    /// Sagas that an idempotency key names and that are not there, some of them.
    pub keys_without_saga: Vec<Uuid>,
}

/// Two neighbours of a shard's sequence that should not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Which shard.
    pub shard: Shard,
    /// The lower number.
    pub before: i64,
    /// The next one there is: the same, or more than one above.
    pub after: i64,
}

/// A moment of the database, held open until it is dropped.
pub struct Snapshot {
    options: PgConnectOptions,
    first: PgConnection,
    id: String,
}

impl Snapshot {
    /// Takes a snapshot of now.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn take(url: &SecretString) -> Result<Self, CopyError> {
        let options =
            PgConnectOptions::from_str(url.expose_secret())?.application_name("orchestrator-verify");
        // No time limit: a large journal takes its time. In order, by index, on one core: see above.
        let options = options.options([
            ("statement_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
            ("default_transaction_read_only", "on"),
            ("timezone", "UTC"),
            ("enable_seqscan", "off"),
            ("enable_bitmapscan", "off"),
            ("enable_sort", "off"),
            ("max_parallel_workers_per_gather", "0"),
            ("jit", "off"),
        ]);
        let mut first = PgConnection::connect_with(&options).await?;
        first.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let id = first.fetch_one("SELECT pg_export_snapshot()").await?.try_get(0)?;
        Ok(Self { options, first, id })
    }

    /// A connection of its own that sees the same moment.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn reader(&self) -> Result<PgConnection, CopyError> {
        let mut connection = PgConnection::connect_with(&self.options).await?;
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        // The id is Postgres' own word.
        let same = format!("SET TRANSACTION SNAPSHOT '{}'", self.id);
        connection.execute(AssertSqlSafe(same)).await?;
        Ok(connection)
    }

    /// Where a shard's sequence has gaps or repetitions, some of them, lowest first.
    ///
    /// # Errors
    /// The database stopped answering.
    pub async fn gaps(&mut self, shard: Shard) -> Result<Vec<Gap>, CopyError> {
        let rows = sqlx::query(GAPS).bind(i32::from(shard.0)).fetch_all(&mut self.first).await?;
        let gap = |row: &PgRow| Ok(Gap { shard, before: row.try_get(0)?, after: row.try_get(1)? });
        rows.iter().map(gap).collect()
    }

    /// Reads what is small.
    ///
    /// # Errors
    /// The database stopped answering.
    pub async fn small(&mut self) -> Result<Small, CopyError> {
        let first = &mut self.first;
        let shard_count = first.fetch_optional("SELECT shard_count FROM cluster").await?;
        let shards =
            first.fetch_all("SELECT id, next_seq, published_seq, open_from FROM shard ORDER BY id").await?;
        let definitions = first.fetch_all("SELECT name, version, source FROM definition").await?;
        let journal_from: Option<i64> =
            first.fetch_optional(JOURNAL_FROM).await?.map(|row| row.try_get(0)).transpose()?;
        let journal_rows: i64 = first.fetch_one(JOURNAL_ROWS).await?.try_get(0)?;
        let orphans = first.fetch_all(KEYS_WITHOUT_SAGA).await?;
        let ends = first.fetch_all("SELECT id, last_seq, last_hash FROM audit_chain ORDER BY id").await?;
        Ok(Small {
            shard_count: shard_count.map(|row| row.try_get(0)).transpose()?,
            shards: shards
                .iter()
                .map(|row| {
                    Ok(ShardLine {
                        id: row.try_get(0)?,
                        next_seq: row.try_get(1)?,
                        published_seq: row.try_get(2)?,
                        open_from: row.try_get(3)?,
                    })
                })
                .collect::<Result<_, CopyError>>()?,
            definitions: definitions
                .iter()
                .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
                .collect::<Result<_, CopyError>>()?,
            chain_ends: ends
                .iter()
                .map(|row| {
                    Ok(ChainEnd { chain: row.try_get(0)?, seq: row.try_get(1)?, hash: row.try_get(2)? })
                })
                .collect::<Result<_, CopyError>>()?,
            journal_from: journal_from.map(Timestamp::from_unix_millis),
            journal_rows: u64::try_from(journal_rows).unwrap_or_default(),
            keys_without_saga: orphans.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?,
        })
    }
}

/// The oldest day kept, if the database is older: then days before it have been dropped.
const JOURNAL_FROM: &str = r"
SELECT (extract(epoch FROM oldest) * 1000)::bigint FROM (
    SELECT min(substring(pg_get_expr(c.relpartbound, c.oid) FROM 'FROM \(''([^'']+)''\)')::timestamptz) AS oldest
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'journal'::regclass
) AS days
WHERE oldest > (SELECT to_timestamp(min(applied_at)) FROM orchestrator_migrations)";

/// From statistics; a partition that was never looked at counts by its size.
const JOURNAL_ROWS: &str = "
SELECT coalesce(sum(CASE WHEN c.reltuples >= 0 THEN c.reltuples ELSE pg_relation_size(c.oid) / 500 END), 0)::bigint
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'journal'::regclass";

/// A key that began an action over many has the action's id.
const KEYS_WITHOUT_SAGA: &str = "
SELECT DISTINCT k.saga_id FROM request_key k
WHERE k.saga_id <> '00000000-0000-0000-0000-000000000000'
  AND NOT EXISTS (SELECT FROM saga s WHERE s.id = k.saga_id)
  AND NOT EXISTS (SELECT FROM bulk_action b WHERE b.id = k.saga_id)
LIMIT 1000";

const GAPS: &str = "
SELECT before, seq FROM (
    SELECT seq, lag(seq) OVER (ORDER BY seq) AS before FROM journal WHERE shard = $1
) AS numbered
WHERE seq <> before + 1
LIMIT 1000";
