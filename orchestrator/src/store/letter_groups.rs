//! Dead letters in groups: of one cause, one type of message and one step. What is counted stands in the tally, to which
//! triggers add as letters come and go; here it is summed up, and now and then folded, so that it stays small.

use sea_orm::{ConnectionTrait, FromQueryResult, TransactionTrait, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use super::queries::Reads;
use super::{Store, StoreError, statement};

/// Whoever has it folds; the others leave it to them.
const FOLD_LOCK: i64 = 0x5a6a_0004;
/// With fewer rows to be saved it is not worth the while.
const FOLD_FROM: i64 = 1_000;

/// Letters of one cause, type and step.
#[derive(Clone, Debug, PartialEq, FromQueryResult)]
pub struct Group {
    /// The group, as the list of letters takes it.
    pub group_id: Uuid,
    /// Why its letters are dead.
    pub reason: String,
    /// The Avro record name that their headers give.
    pub message_type: Option<String>,
    /// Their step, if known.
    pub step: Option<String>,
    /// How many there are.
    pub letters: i64,
    /// How many of them wait for somebody to decide.
    pub open: i64,
    /// How many were sent again and have no outcome yet.
    pub redriven: i64,
    /// How many are done with because their saga moved on.
    pub resolved: i64,
    /// How many were put aside.
    pub discarded: i64,
    /// The first failure of any of them.
    pub first_seen: OffsetDateTime,
    /// The last failure of any of them.
    pub last_seen: OffsetDateTime,
}

/// Which groups to list. Every condition that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupFilter {
    /// With letters in this status.
    pub status: Option<String>,
    /// Of this reason.
    pub reason: Option<String>,
}

impl Reads {
    /// At most `limit` groups, those that failed last first, after this place.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn letter_groups(
        &self,
        filter: &GroupFilter,
        after: Option<(OffsetDateTime, Uuid)>,
        limit: u64,
    ) -> Result<Vec<Group>, StoreError> {
        let values: Vec<Value> = vec![
            filter.status.clone().into(),
            filter.reason.clone().into(),
            after.map(|(at, _)| at).into(),
            after.map(|(_, group)| group).into(),
            i64::try_from(limit).unwrap_or(i64::MAX).into(),
        ];
        Ok(Group::find_by_statement(statement(GROUPS, values)).all(self.db()).await?)
    }
}

impl Store {
    /// Makes one row of each group and status out of all there are. `None`: there are too few, or another process is at
    /// it; else how many rows there were.
    ///
    /// # Errors
    /// When the database does not answer; nothing has changed then.
    pub async fn fold_letter_tally(&self) -> Result<Option<u64>, StoreError> {
        let transaction = self.db.begin().await?;
        let lock = format!(
            "SELECT (SELECT count(*) - count(DISTINCT (group_id, status)) FROM dead_letter_tally) >= {FOLD_FROM}
                 AND pg_try_advisory_xact_lock({FOLD_LOCK}) AS now"
        );
        let row = transaction.query_one_raw(statement(&lock, vec![])).await?;
        if !row.map_or(Ok(false), |row| row.try_get::<bool>("", "now"))? {
            return Ok(None);
        }
        let row = transaction.query_one_raw(statement(FOLD, vec![])).await?;
        let folded: i64 = row.map_or(Ok(0), |row| row.try_get("", "folded"))?;
        transaction.commit().await?;
        Ok(Some(u64::try_from(folded).unwrap_or_default()))
    }
}

const GROUPS: &str = "
SELECT * FROM (
    SELECT group_id, min(reason) AS reason, min(message_type) AS message_type, min(step) AS step,
        sum(letters)::bigint AS letters,
        coalesce(sum(letters) FILTER (WHERE status = 'open'), 0)::bigint AS open,
        coalesce(sum(letters) FILTER (WHERE status = 'redriven'), 0)::bigint AS redriven,
        coalesce(sum(letters) FILTER (WHERE status = 'resolved'), 0)::bigint AS resolved,
        coalesce(sum(letters) FILTER (WHERE status = 'discarded'), 0)::bigint AS discarded,
        min(first_seen) AS first_seen, max(last_seen) AS last_seen
    FROM dead_letter_tally WHERE $2::text IS NULL OR reason = $2
    GROUP BY group_id
    HAVING sum(letters) > 0 AND ($1::text IS NULL OR sum(letters) FILTER (WHERE status = $1) > 0)
) AS groups
WHERE $3::timestamptz IS NULL OR (last_seen, group_id) < ($3, $4)
ORDER BY last_seen DESC, group_id DESC LIMIT $5";

const FOLD: &str = "
WITH gone AS (
    DELETE FROM dead_letter_tally RETURNING *
), groups AS (
    SELECT group_id, min(first_seen) AS first_seen, max(last_seen) AS last_seen FROM gone
    GROUP BY group_id HAVING sum(letters) > 0
), folded AS (
    INSERT INTO dead_letter_tally
    SELECT gone.group_id, min(gone.reason), min(gone.message_type), min(gone.step), gone.status, sum(gone.letters),
        groups.first_seen, groups.last_seen
    FROM gone JOIN groups ON groups.group_id = gone.group_id
    GROUP BY gone.group_id, gone.status, groups.first_seen, groups.last_seen HAVING sum(gone.letters) <> 0
)
SELECT count(*) AS folded FROM gone";
