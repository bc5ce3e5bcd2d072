//! What a new version of a definition is to be held against: the sagas that are open, and recorded runs.

use std::collections::BTreeMap;

use saga_defs::ids::{Revision, SagaId};
use saga_defs::rehearsal::Move;
use saga_defs::time::Timestamp;
use sea_orm::{ConnectionTrait, QueryResult};
use uuid::Uuid;

use super::queries::{Reads, begun};
use super::{StoreError, statement};

/// Recorded runs are looked for among so many of the newest sagas, whatever their definition.
pub const LOOKED_AT: u32 = 20_000;
/// So many transitions are read in all; runs beyond are left out.
pub const MAX_TRANSITIONS: usize = 20_000;

/// How many sagas of a version are open, by status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenCount {
    /// The version.
    pub version: u32,
    /// `running`, `compensating` or `stuck`.
    pub status: String,
    /// How many.
    pub sagas: u64,
}

/// A recorded run.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedRun {
    /// The saga.
    pub saga: SagaId,
    /// The version it runs or ran on.
    pub version: u32,
    /// Its journal; empty where that is no longer kept, or cannot be read.
    pub moves: Vec<Move>,
}

impl Reads {
    /// The open sagas of a definition, by version and status.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open_by_version(&self, definition: &str) -> Result<Vec<OpenCount>, StoreError> {
        let rows = self.db().query_all_raw(statement(OPEN_BY_VERSION, vec![definition.into()])).await?;
        rows.iter()
            .map(|row| {
                let (version, sagas): (i32, i64) = (row.try_get("", "version")?, row.try_get("", "sagas")?);
                Ok(OpenCount {
                    version: u32::try_from(version).unwrap_or_default(),
                    status: row.try_get("", "status")?,
                    sagas: u64::try_from(sagas).unwrap_or_default(),
                })
            })
            .collect()
    }

    /// At most `limit` recorded runs of the definition's other versions, newest first, finished ones and open ones.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn recorded_runs(
        &self,
        definition: &str,
        but: u32,
        limit: u64,
    ) -> Result<Vec<RecordedRun>, StoreError> {
        let values = vec![
            definition.into(),
            i32::try_from(but).unwrap_or(i32::MAX).into(),
            i64::try_from(limit).unwrap_or(i64::MAX).into(),
        ];
        let rows = self.db().query_all_raw(statement(&recent(), values)).await?;
        let mut recent: Vec<(Uuid, u32)> = Vec::with_capacity(rows.len());
        for row in &rows {
            let version: i32 = row.try_get("", "version")?;
            recent.push((row.try_get("", "id")?, u32::try_from(version).unwrap_or_default()));
        }
        let Some((oldest, _)) = recent.last().copied() else { return Ok(Vec::new()) };
        let ids: Vec<Uuid> = recent.iter().map(|(id, _)| *id).collect();
        let values = vec![ids.into(), begun(SagaId::from_uuid(oldest)).into()];
        let lines = self.db().query_all_raw(statement(&journals(), values)).await?;
        let mut journals: BTreeMap<Uuid, Option<Vec<Move>>> = BTreeMap::new();
        for line in lines.iter().take(MAX_TRANSITIONS) {
            let saga: Uuid = line.try_get("", "saga_id")?;
            let entry = journals.entry(saga).or_insert_with(|| Some(Vec::new()));
            match (recorded(line)?, entry.as_mut()) {
                (Some(move_), Some(moves)) => moves.push(move_),
                _ => *entry = None,
            }
        }
        // The one that the limit cut through, and those that it left out. They are the oldest.
        let cut = match lines.get(MAX_TRANSITIONS) {
            Some(line) => Some(line.try_get::<Uuid>("", "saga_id")?),
            None => None,
        };
        Ok(recent
            .into_iter()
            .filter(|(id, _)| cut.is_none_or(|cut| *id > cut))
            .map(|(id, version)| RecordedRun {
                saga: SagaId::from_uuid(id),
                version,
                moves: journals.remove(&id).flatten().unwrap_or_default(),
            })
            .collect())
    }
}

fn recorded(line: &QueryResult) -> Result<Option<Move>, StoreError> {
    let revision: i32 = line.try_get("", "revision")?;
    let (event, effects): (String, String) = (line.try_get("", "event")?, line.try_get("", "effects")?);
    let (Ok(event), Ok(effects)) = (serde_json::from_str(&event), serde_json::from_str(&effects)) else {
        return Ok(None);
    };
    let revision = Revision(u32::try_from(revision).unwrap_or_default());
    Ok(Some(Move { revision, at: Timestamp::from_utc(line.try_get("", "at")?), event, effects }))
}

/// Waiting sagas are not below their shard's `open_from`; a stuck one has a dead letter. So neither needs an index of
/// its own, nor a look at every saga there ever was.
const OPEN_BY_VERSION: &str = "
WITH waiting AS (
    SELECT coalesce((SELECT open_from FROM shard ORDER BY open_from LIMIT 1),
                    '00000000-0000-0000-0000-000000000000') AS id
),
open AS (
    SELECT s.version, s.status FROM saga s, waiting
    WHERE s.id >= waiting.id AND s.definition = $1 AND s.finished_at IS NULL
    UNION ALL
    SELECT s.version, s.status FROM saga s, waiting
    WHERE s.id < waiting.id AND s.definition = $1 AND s.finished_at IS NULL
      AND s.id IN (SELECT saga_id FROM dead_letter WHERE saga_id IS NOT NULL)
)
SELECT version, status, count(*) AS sagas FROM open GROUP BY version, status ORDER BY version, status";

fn recent() -> String {
    format!(
        "SELECT id, version FROM (
             SELECT id, definition, version FROM saga ORDER BY id DESC LIMIT {LOOKED_AT}
         ) AS newest
         WHERE definition = $1 AND version <> $2 ORDER BY id DESC LIMIT $3"
    )
}

fn journals() -> String {
    format!(
        "SELECT saga_id, revision, at, event::text AS event, effects::text AS effects FROM journal
         WHERE saga_id = ANY($1::uuid[]) AND at >= $2 ORDER BY saga_id DESC, revision LIMIT {}",
        MAX_TRANSITIONS + 1
    )
}
