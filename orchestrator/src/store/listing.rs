//! Lists of sagas. What changes in a saga has no index ([ADR 0006](../../../docs/adr/0006-no-index-on-what-changes.md)), so a list
//! by status or step walks back from the newest saga. A walk looks at a bounded number of rows and says where to go on, so
//! that no page costs more than that, however rare what it looks for.

use saga_defs::ids::SagaId;
use saga_defs::saga::Status;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, Value};
use uuid::Uuid;

use super::entities::saga;
use super::queries::{Reads, SagaFilter, StoredSaga, lowest_id, margin, stored_saga};
use super::{StoreError, statement};

/// One page looks at so many sagas at most.
pub const LOOKED_AT: i64 = 5_000;

/// A page of sagas.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Newest first.
    pub sagas: Vec<StoredSaga>,
    /// The next page begins below this id; `None`: this is the last one. The page may be short all the same, or empty.
    pub next: Option<SagaId>,
}

impl Reads {
    /// At most `limit` sagas, newest first, from below `before`.
    ///
    /// # Errors
    /// As [`Reads::saga`].
    pub async fn sagas(
        &self,
        filter: &SagaFilter,
        before: Option<Uuid>,
        limit: u64,
    ) -> Result<Listed, StoreError> {
        let (ids, walked_to) = self.matching(filter, before, limit.saturating_add(1)).await?;
        // One more than asked for tells whether there is another page.
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let here: Vec<Uuid> = ids.iter().copied().take(limit).collect();
        let next = if ids.len() > limit { here.last().copied() } else { walked_to };
        let rows = saga::Entity::find()
            .filter(saga::Column::Id.is_in(here))
            .order_by_desc(saga::Column::Id)
            .all(self.db())
            .await?;
        let sagas = rows.into_iter().map(stored_saga).collect::<Result<_, _>>()?;
        Ok(Listed { sagas, next: next.map(SagaId::from_uuid) })
    }

    /// The ids of the first sagas that match, newest first; and where the walk ended, if it did not come to the end.
    async fn matching(
        &self,
        filter: &SagaFilter,
        before: Option<Uuid>,
        limit: u64,
    ) -> Result<(Vec<Uuid>, Option<Uuid>), StoreError> {
        let mut below = before.unwrap_or(Uuid::max());
        if let Some(at) = filter.started_before {
            below = below.min(lowest_id(at.saturating_add(margin())));
        }
        let from = filter.started_after.map(|at| lowest_id(at.saturating_sub(margin())));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let all_match = SagaFilter { business_key: filter.business_key.clone(), ..SagaFilter::default() };
        let looked_at = if *filter == all_match { limit } else { LOOKED_AT };
        let values: Vec<Value> = vec![
            below.into(),
            from.unwrap_or_default().into(),
            looked_at.into(),
            limit.into(),
            filter.definition.clone().into(),
            filter.status.map(|status| status.as_str().to_owned()).into(),
            filter.step.clone().into(),
            filter.started_after.into(),
            filter.started_before.into(),
            filter.business_key.clone().into(),
        ];
        let rows = self.db().query_all_raw(statement(&walk(filter), values)).await?;
        let (mut ids, mut walked_to) = (Vec::with_capacity(rows.len()), None);
        for row in &rows {
            let id: Uuid = row.try_get("", "id")?;
            if row.try_get::<bool>("", "matches")? {
                ids.push(id);
            } else {
                walked_to = Some(id);
            }
        }
        ids.sort_unstable_by(|a, b| b.cmp(a));
        Ok((ids, walked_to))
    }
}

/// A stuck saga has a dead letter, and a waiting one is not below its shard's `open_from`: there the walk looks for them. The
/// first CTE ends as soon as the page is full; only where it is not is it asked where the walk ended.
fn walk(filter: &SagaFilter) -> String {
    let key = if filter.business_key.is_some() { "AND s.business_key = $10" } else { "" };
    let looked = match filter.status {
        Some(Status::Stuck) => format!("{LETTERS} LEFT JOIN saga s ON s.id = l.id {key} ORDER BY l.id DESC"),
        Some(Status::Running | Status::Compensating) => {
            format!("{NEWEST} {key} AND {WAITING} {FIRST}")
        }
        _ => format!("{NEWEST} {key} {FIRST}"),
    };
    format!(
        "WITH matching AS MATERIALIZED (SELECT id FROM ({looked}) AS looked {MATCHING})
         SELECT id, true AS matches FROM matching
         UNION ALL
         SELECT id, false FROM (SELECT id FROM ({looked}) AS looked OFFSET $3 - 1 LIMIT 1) AS last
         WHERE (SELECT count(*) FROM matching) < $4"
    )
}

const NEWEST: &str = "
SELECT s.id, s.definition, s.status, s.step, s.started_at, s.business_key
FROM saga s WHERE s.id < $1 AND s.id >= $2";

const WAITING: &str = "
s.id >= coalesce((SELECT open_from FROM shard ORDER BY open_from LIMIT 1),
                 '00000000-0000-0000-0000-000000000000'::uuid)";

const FIRST: &str = "ORDER BY s.id DESC LIMIT $3";

const LETTERS: &str = "
SELECT l.id, s.definition, s.status, s.step, s.started_at, s.business_key FROM (
    SELECT DISTINCT saga_id AS id FROM dead_letter WHERE saga_id < $1 AND saga_id >= $2
    ORDER BY saga_id DESC LIMIT $3
) AS l";

const MATCHING: &str = "
WHERE ($5::text IS NULL OR definition = $5) AND ($6::text IS NULL OR status = $6)
  AND ($7::text IS NULL OR step = $7) AND ($10::text IS NULL OR business_key = $10)
  AND ($8::timestamptz IS NULL OR started_at > $8) AND ($9::timestamptz IS NULL OR started_at < $9)
  AND status IS NOT NULL
ORDER BY id DESC LIMIT $4";
