//! What the engine reads: sagas that are not in memory, and what a take-over needs.

use std::collections::{HashMap, HashSet};

use saga_defs::ids::{SagaId, Shard};
use saga_defs::saga::{Effect, Saga};
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

/// A saga that waits, as far as its timer needs to know it.
#[derive(Clone, Debug)]
pub struct OpenSaga {
    /// Which.
    pub id: SagaId,
    /// Its definition's name.
    pub definition: String,
    /// Its definition's version.
    pub version: u32,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it wakes by itself.
    pub wake_at: Option<Timestamp>,
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

    /// The waiting sagas of a shard after `after`, in order of id, at most [`LOAD_CHUNK`]. The scan begins at the
    /// shard's `open_from`, since what changes in a saga row is not indexed.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open_sagas(
        &self,
        shard: Shard,
        after: Uuid,
        inclusive: bool,
    ) -> Result<Vec<OpenSaga>, StoreError> {
        let compare = if inclusive { ">=" } else { ">" };
        let sql = format!(
            "SELECT id, definition, version, started_at, wake_at FROM saga
             WHERE id {compare} $1 AND shard = $2 AND finished_at IS NULL AND status <> 'stuck'
             ORDER BY id LIMIT {LOAD_CHUNK}"
        );
        let values = vec![after.into(), i32::from(shard.0).into()];
        let rows = self.db.query_all_raw(statement(&sql, values)).await?;
        rows.iter()
            .map(|row| {
                let version: i32 = row.try_get("", "version")?;
                let wake_at: Option<OffsetDateTime> = row.try_get("", "wake_at")?;
                Ok(OpenSaga {
                    id: SagaId::from_uuid(row.try_get("", "id")?),
                    definition: row.try_get("", "definition")?,
                    version: u32::try_from(version).unwrap_or_default(),
                    started_at: Timestamp::from_utc(row.try_get("", "started_at")?),
                    wake_at: wake_at.map(Timestamp::from_utc),
                })
            })
            .collect()
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
