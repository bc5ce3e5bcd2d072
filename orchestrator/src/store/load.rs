//! What the engine reads: sagas that are not in memory, and what a take-over needs.

use std::collections::{HashMap, HashSet};

use saga_defs::ids::{SagaId, Shard};
use saga_defs::saga::{Effect, Event, Saga, Try};
use saga_defs::time::Timestamp;
use sea_orm::{ConnectionTrait, QueryResult};
use time::OffsetDateTime;
use uuid::Uuid;

use super::body::{SagaRow, saga_from_row};
use super::{Store, StoreError, statement};

/// At most this many sagas or journal rows are asked for in one statement.
pub const LOAD_CHUNK: usize = 2_000;

const SAGA_COLUMNS: &str = "id, definition, version, business_key, revision, started_at, updated_at, finished_at, \
                            body::text AS body";

/// So many saga rows are looked at in one statement of a take-over, so that none runs long, however few of them wait.
const LOOKED_AT: usize = 20_000;

/// A saga that waits, as far as its timer needs to know it.
#[derive(Clone, Copy, Debug)]
pub struct OpenSaga {
    /// Which.
    pub id: SagaId,
    /// Its shard.
    pub shard: Shard,
    /// When it wakes by itself.
    pub wake_at: Option<Timestamp>,
}

/// Some of the sagas that wait.
#[derive(Clone, Debug)]
pub struct OpenSagas {
    /// In order of id.
    pub waiting: Vec<OpenSaga>,
    /// Where to go on; `None`: these were the last.
    pub next: Option<Uuid>,
}

/// A journal row whose effects have to be published (again).
#[derive(Clone, Debug)]
pub struct Unpublished {
    /// Which shard.
    pub shard: Shard,
    /// Its place.
    pub seq: i64,
    /// Whose; the nil UUID for what concerns no saga.
    pub saga: Uuid,
    /// When it was decided.
    pub at: Timestamp,
    /// What is to be done. What this version does not know is left out.
    pub effects: Vec<Effect>,
    /// The same as it stands in the row.
    pub effects_json: String,
    /// The command's value.
    pub body: Option<Vec<u8>>,
}

impl Store {
    /// The sagas of these ids that there are.
    ///
    /// A row that cannot be read is left out and logged: it must not stop its neighbours.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sagas(&self, ids: &[SagaId]) -> Result<HashMap<SagaId, Saga>, StoreError> {
        let mut found = HashMap::with_capacity(ids.len());
        for chunk in ids.chunks(LOAD_CHUNK) {
            let ids: Vec<Uuid> = chunk.iter().map(|id| id.as_uuid()).collect();
            let sql = format!("SELECT {SAGA_COLUMNS} FROM saga WHERE id = ANY($1::uuid[])");
            for row in self.db.query_all_raw(statement(&sql, vec![ids.into()])).await? {
                match saga_from_row(saga_row(&row)?) {
                    Ok(saga) => {
                        found.insert(saga.id, saga);
                    }
                    Err(error) => tracing::error!(%error, "a saga is left alone; mend its row or restore it"),
                }
            }
        }
        Ok(found)
    }

    /// Which of these idempotency keys have been used.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn taken_keys(&self, hashes: &[[u8; 32]]) -> Result<HashSet<Vec<u8>>, StoreError> {
        if hashes.is_empty() {
            return Ok(HashSet::new());
        }
        let hashes: Vec<Vec<u8>> = hashes.iter().map(|hash| hash.to_vec()).collect();
        let sql = "SELECT key_hash FROM request_key WHERE key_hash = ANY($1::bytea[])";
        let rows = self.db.query_all_raw(statement(sql, vec![hashes.into()])).await?;
        rows.iter().map(|row| Ok(row.try_get("", "key_hash")?)).collect()
    }

    /// Waiting sagas of these shards from `first` on. The walk begins at the shards' `open_from`, since what changes in a saga
    /// row is not indexed.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open_sagas(&self, shards: &[Shard], first: Uuid) -> Result<OpenSagas, StoreError> {
        let ids: Vec<i32> = shards.iter().map(|shard| i32::from(shard.0)).collect();
        let sql = format!(
            "WITH looked AS MATERIALIZED (
                 SELECT id, shard, wake_at,
                     finished_at IS NULL AND status <> 'stuck' AND shard = ANY($2::int[]) AS waits
                 FROM saga WHERE id >= $1 ORDER BY id LIMIT {LOOKED_AT}
             )
             SELECT id, shard, wake_at, true AS waits FROM looked WHERE waits
             UNION ALL
             (SELECT id, shard, wake_at, false FROM looked ORDER BY id DESC LIMIT 1)"
        );
        let rows = self.db.query_all_raw(statement(&sql, vec![first.into(), ids.into()])).await?;
        let mut found = OpenSagas { waiting: Vec::with_capacity(rows.len()), next: None };
        for row in &rows {
            let id: Uuid = row.try_get("", "id")?;
            if !row.try_get::<bool>("", "waits")? {
                // The last that was looked at.
                found.next = id.as_u128().checked_add(1).map(Uuid::from_u128);
                continue;
            }
            let shard: i32 = row.try_get("", "shard")?;
            let wake_at: Option<OffsetDateTime> = row.try_get("", "wake_at")?;
            found.waiting.push(OpenSaga {
                id: SagaId::from_uuid(id),
                shard: Shard(u16::try_from(shard).unwrap_or(u16::MAX)),
                wake_at: wake_at.map(Timestamp::from_utc),
            });
        }
        Ok(found)
    }

    /// The journal rows of a shard above `after`, in order, at most [`LOAD_CHUNK`].
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn journal_above(&self, shard: Shard, after: i64) -> Result<Vec<Unpublished>, StoreError> {
        let sql = format!(
            "SELECT shard, seq, saga_id, at, effects::text AS effects, body FROM journal
             WHERE shard = $1 AND seq > $2 ORDER BY seq LIMIT {LOAD_CHUNK}"
        );
        let values = vec![i32::from(shard.0).into(), after.into()];
        let rows = self.db.query_all_raw(statement(&sql, values)).await?;
        rows.iter().map(unpublished).collect()
    }

    /// The attempts of a shard whose commands the broker refused for good, as the journal rows above `after` say. They are
    /// looked for in one statement, since the row of a refusal may lie far behind the one that asked to send.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn refused_above(&self, shard: Shard, after: i64) -> Result<HashSet<(Uuid, Try)>, StoreError> {
        let sql = r#"SELECT saga_id, event FROM journal WHERE shard = $1 AND seq > $2 AND event LIKE '%"unsendable"%'"#;
        let values = vec![i32::from(shard.0).into(), after.into()];
        let mut refused = HashSet::new();
        for row in self.db.query_all_raw(statement(sql, values)).await? {
            let event: String = row.try_get("", "event")?;
            refused.extend(refused_attempt(row.try_get("", "saga_id")?, &event));
        }
        Ok(refused)
    }

    /// The last journal row with a command of each of these sagas: the command that may be out.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn last_commands(&self, ids: &[SagaId]) -> Result<Vec<Unpublished>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(LOAD_CHUNK) {
            let ids: Vec<Uuid> = chunk.iter().map(|id| id.as_uuid()).collect();
            let sql = "SELECT DISTINCT ON (saga_id) shard, seq, saga_id, at, effects::text AS effects, body
                       FROM journal
                       WHERE saga_id = ANY($1::uuid[]) AND body IS NOT NULL AND effects::text LIKE '%\"send\"%'
                       ORDER BY saga_id, revision DESC";
            let rows = self.db.query_all_raw(statement(sql, vec![ids.into()])).await?;
            for row in &rows {
                found.push(unpublished(row)?);
            }
        }
        Ok(found)
    }
}

/// The attempt that a journal row's event says was refused, and whose it is.
pub fn refused_attempt(saga: Uuid, event: &str) -> Option<(Uuid, Try)> {
    match Event::from_json(event.as_bytes()) {
        Ok(Event::Unsendable { attempt, .. }) => Some((saga, attempt)),
        _ => None,
    }
}

fn unpublished(row: &QueryResult) -> Result<Unpublished, StoreError> {
    let shard: i32 = row.try_get("", "shard")?;
    let effects_json: String = row.try_get("", "effects")?;
    Ok(Unpublished {
        shard: Shard(u16::try_from(shard).unwrap_or(u16::MAX)),
        seq: row.try_get("", "seq")?,
        saga: row.try_get("", "saga_id")?,
        at: Timestamp::from_utc(row.try_get("", "at")?),
        effects: serde_json::from_str(&effects_json).unwrap_or_default(),
        effects_json,
        body: row.try_get("", "body")?,
    })
}

fn saga_row(row: &QueryResult) -> Result<SagaRow, StoreError> {
    Ok(SagaRow {
        id: row.try_get("", "id")?,
        definition: row.try_get("", "definition")?,
        version: row.try_get("", "version")?,
        business_key: row.try_get("", "business_key")?,
        revision: row.try_get("", "revision")?,
        started_at: row.try_get("", "started_at")?,
        updated_at: row.try_get("", "updated_at")?,
        finished_at: row.try_get("", "finished_at")?,
        body: row.try_get("", "body")?,
    })
}
