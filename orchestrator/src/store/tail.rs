//! The journal as it grows: what comes after a place in each shard, and what comes after a revision of some sagas. A shard's
//! rows are committed in their order and without gap, so whoever remembers a number per shard misses nothing.

use saga_defs::ids::{DefinitionRef, SagaId};
use saga_defs::time::Timestamp;
use sea_orm::{ConnectionTrait, QueryResult, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use super::queries::{Reads, begun, margin};
use super::{StoreError, statement};

/// A transition as it is told.
#[derive(Clone, Debug)]
pub struct TailRow {
    /// Which shard.
    pub shard: i32,
    /// Its place in the shard.
    pub seq: i64,
    /// Whose; `None` for what concerns a shard alone.
    pub saga: Option<SagaId>,
    /// The saga's definition; `None` where the saga has left meanwhile.
    pub definition: Option<DefinitionRef>,
    /// The saga's revision afterwards.
    pub revision: i32,
    /// When.
    pub at: OffsetDateTime,
    /// The saga's status afterwards.
    pub status: String,
    /// What happened, as JSON.
    pub event: String,
    /// What was to be done about it, as JSON.
    pub effects: String,
}

impl Reads {
    /// The last sequence number of each shard, by the shard's number.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn ends(&self) -> Result<Vec<i64>, StoreError> {
        let sql = "SELECT next_seq - 1 AS seq FROM shard ORDER BY id";
        let rows = self.db().query_all_raw(statement(sql, vec![])).await?;
        rows.iter().map(|row| Ok(row.try_get("", "seq")?)).collect()
    }

    /// The first sequence number that each shard's journal still has; one above its last where it has none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn beginnings(&self) -> Result<Vec<i64>, StoreError> {
        let sql = "SELECT coalesce((SELECT j.seq FROM journal j WHERE j.shard = s.id ORDER BY j.seq LIMIT 1), s.next_seq)
                       AS seq FROM shard s ORDER BY s.id";
        let rows = self.db().query_all_raw(statement(sql, vec![])).await?;
        rows.iter().map(|row| Ok(row.try_get("", "seq")?)).collect()
    }

    /// What comes after `after` up to `until`, both by the shard's number: about `limit` rows, shard by shard, each in
    /// order and without gap. None of them is older than `since`; without it every day of the journal is looked at.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn after(
        &self,
        after: &[i64],
        until: &[i64],
        since: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<TailRow>, StoreError> {
        let behind = after.iter().zip(until).enumerate().filter(|(_, (after, until))| after < until);
        let behind: Vec<(i32, i64, i64)> = behind
            .map(|(shard, (&after, &until))| (i32::try_from(shard).unwrap_or(i32::MAX), after, until))
            .collect();
        if behind.is_empty() {
            return Ok(Vec::new());
        }
        let each = i64::try_from((limit / behind.len()).max(1)).unwrap_or(i64::MAX);
        let since = since.map_or(OffsetDateTime::UNIX_EPOCH, |at| at.to_utc().saturating_sub(margin()));
        let values: Vec<Value> = vec![
            behind.iter().map(|(shard, ..)| *shard).collect::<Vec<i32>>().into(),
            behind.iter().map(|(_, after, _)| *after).collect::<Vec<i64>>().into(),
            behind.iter().map(|(.., until)| *until).collect::<Vec<i64>>().into(),
            each.into(),
            since.into(),
        ];
        let rows = self.db().query_all_raw(statement(AFTER, values)).await?;
        rows.iter().map(tail_row).collect()
    }

    /// The transitions of these sagas after these revisions, saga by saga in order.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn moved(&self, sagas: &[(SagaId, i32)]) -> Result<Vec<TailRow>, StoreError> {
        let ids: Vec<Uuid> = sagas.iter().map(|(saga, _)| saga.as_uuid()).collect();
        let revisions: Vec<i32> = sagas.iter().map(|(_, revision)| *revision).collect();
        let begun: Vec<OffsetDateTime> = sagas.iter().map(|(saga, _)| begun(*saga)).collect();
        let values: Vec<Value> = vec![ids.into(), revisions.into(), begun.into()];
        let rows = self.db().query_all_raw(statement(MOVED, values)).await?;
        rows.iter().map(tail_row).collect()
    }
}

fn tail_row(row: &QueryResult) -> Result<TailRow, StoreError> {
    let saga: Uuid = row.try_get("", "saga_id")?;
    let name: Option<String> = row.try_get("", "definition")?;
    let version: Option<i32> = row.try_get("", "version")?;
    let definition = name.zip(version).map(|(name, version)| DefinitionRef {
        name: name.into(),
        version: u32::try_from(version).unwrap_or_default(),
    });
    Ok(TailRow {
        shard: row.try_get("", "shard")?,
        seq: row.try_get("", "seq")?,
        saga: (!saga.is_nil()).then(|| SagaId::from_uuid(saga)),
        definition,
        revision: row.try_get("", "revision")?,
        at: row.try_get("", "at")?,
        status: row.try_get("", "status")?,
        event: row.try_get("", "event")?,
        effects: row.try_get("", "effects")?,
    })
}

const AFTER: &str = "
SELECT j.*, s.definition, s.version
FROM (SELECT unnest($1::int[]) AS shard, unnest($2::bigint[]) AS seq, unnest($3::bigint[]) AS until) AS place
CROSS JOIN LATERAL (
    SELECT shard, seq, saga_id, revision, at, status, event, effects FROM journal
    WHERE shard = place.shard AND seq > place.seq AND seq <= place.until AND at >= $5
    ORDER BY seq LIMIT $4
) AS j
LEFT JOIN saga s ON s.id = j.saga_id
ORDER BY j.shard, j.seq";

/// The saga's row tells whether it has moved, so the journal is asked only for those that have.
const MOVED: &str = "
SELECT j.*, s.definition, s.version
FROM (SELECT unnest($1::uuid[]) AS id, unnest($2::int[]) AS revision, unnest($3::timestamptz[]) AS begun) AS known
JOIN saga s ON s.id = known.id AND s.revision > known.revision
CROSS JOIN LATERAL (
    SELECT shard, seq, saga_id, revision, at, status, event, effects FROM journal
    WHERE saga_id = known.id AND revision > known.revision AND at >= known.begun
    ORDER BY revision LIMIT 200
) AS j
ORDER BY j.saga_id, j.revision";
