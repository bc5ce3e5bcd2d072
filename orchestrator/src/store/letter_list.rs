//! Lists of dead letters, newest first, by keyset. Whatever is asked for, a page costs about what it shows: by status,
//! reason or group it comes out of one index, `(group, status, id)`, in which each group and status that could match is
//! looked at for one page at most. Which groups there are stands in the tally.

use saga_defs::ids::{DeadLetterId, SagaId};
use sea_orm::{EntityTrait, FromQueryResult, QuerySelect, Value, sea_query::Expr};
use uuid::Uuid;

use super::entities::dead_letter::{self, Shown, Summary};
use super::queries::Reads;
use super::{StoreError, statement};

/// Which dead letters to list. Every condition that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// `open`, `redriven`, `resolved` or `discarded`.
    pub status: Option<String>,
    /// Of this reason.
    pub reason: Option<String>,
    /// Of this saga.
    pub saga: Option<SagaId>,
    /// Of this group.
    pub group: Option<Uuid>,
}

impl Reads {
    /// At most `limit` dead letters, newest first, from below `before`, without their records' bytes.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn letters(
        &self,
        filter: &LetterFilter,
        before: Option<Uuid>,
        limit: u64,
    ) -> Result<Vec<Summary>, StoreError> {
        let values: Vec<Value> = vec![
            before.unwrap_or(Uuid::max()).into(),
            i64::try_from(limit).unwrap_or(i64::MAX).into(),
            filter.status.clone().into(),
            filter.reason.clone().into(),
            filter.group.into(),
            filter.saga.map(SagaId::as_uuid).into(),
        ];
        let page = format!(
            "WITH page AS MATERIALIZED ({}) SELECT {COLUMNS} FROM dead_letter l JOIN page ON page.id = l.id ORDER BY l.id DESC",
            ids(filter)
        );
        Ok(Summary::find_by_statement(statement(&page, values)).all(self.db()).await?)
    }

    /// One dead letter with everything in it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn letter(&self, id: DeadLetterId) -> Result<Option<Shown>, StoreError> {
        let group = Expr::cust("dead_letter_group(reason, message_type, step)");
        let found = dead_letter::Entity::find_by_id(id.as_uuid()).expr_as(group, "group_id");
        Ok(found.into_model::<Shown>().one(self.db()).await?)
    }
}

const COLUMNS: &str = "
l.id, l.status, l.reason, l.message, l.source, l.topic, l.partition, l.record_offset, l.message_type, l.saga_id, l.step,
l.direction, l.attempts, l.first_failed_at, l.last_failed_at, l.updated_at,
dead_letter_group(l.reason, l.message_type, l.step) AS group_id";

/// The ids of a page. All use the same parameters, so that which of them runs is seen here alone.
fn ids(filter: &LetterFilter) -> &'static str {
    match filter {
        LetterFilter { saga: Some(_), .. } => OF_SAGA,
        LetterFilter { status: None, reason: None, group: None, saga: None } => ANY,
        LetterFilter { status: Some(status), reason: None, group: None, saga: None } if status == "open" => {
            OPEN
        }
        LetterFilter { saga: None, .. } => OF_GROUPS,
    }
}

/// A saga has a handful.
const OF_SAGA: &str = "
SELECT id FROM (SELECT * FROM dead_letter WHERE saga_id = $6 OFFSET 0) AS of_saga
WHERE id < $1 AND ($3::text IS NULL OR status = $3) AND ($4::text IS NULL OR reason = $4)
  AND ($5::uuid IS NULL OR dead_letter_group(reason, message_type, step) = $5)
ORDER BY id DESC LIMIT $2";

const ANY: &str = "
SELECT id FROM dead_letter
WHERE id < $1 AND $3::text IS NULL AND $4::text IS NULL AND $5::uuid IS NULL AND $6::uuid IS NULL
ORDER BY id DESC LIMIT $2";

const OPEN: &str = "
SELECT id FROM dead_letter
WHERE status = 'open' AND id < $1 AND $3 = 'open' AND $4::text IS NULL AND $5::uuid IS NULL AND $6::uuid IS NULL
ORDER BY id DESC LIMIT $2";

const OF_GROUPS: &str = "
SELECT l.id FROM (
    SELECT group_id, status FROM dead_letter_tally
    WHERE ($3::text IS NULL OR status = $3) AND ($4::text IS NULL OR reason = $4) AND ($5::uuid IS NULL OR group_id = $5)
    GROUP BY group_id, status HAVING sum(letters) > 0
) AS g CROSS JOIN LATERAL (
    SELECT id FROM dead_letter
    WHERE dead_letter_group(reason, message_type, step) = g.group_id AND status = g.status
      AND id < $1 AND $6::uuid IS NULL
    ORDER BY id DESC LIMIT $2
) AS l
ORDER BY l.id DESC LIMIT $2";
