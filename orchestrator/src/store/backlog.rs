//! What waits for an operator, counted for the metrics.

use sea_orm::{ConnectionTrait, DatabaseConnection};

use super::{StoreError, statement};

/// So many open dead letters are counted at most: somebody who has this many needs no exact number, and the count stays
/// cheap for the database.
pub const COUNTED_AT_MOST: i64 = 10_000;

/// What waits for an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Dead letters that nobody has decided about, at most [`COUNTED_AT_MOST`].
    pub open_letters: u64,
    /// Stuck sagas that they belong to.
    pub stuck_sagas: u64,
    /// Since when the oldest of them is open, in seconds; 0 without any.
    pub oldest_letter_s: u64,
}

/// Counts over the index of open letters, oldest first.
pub(super) async fn backlog(db: &DatabaseConnection) -> Result<Backlog, StoreError> {
    let row = db.query_one_raw(statement(BACKLOG, vec![COUNTED_AT_MOST.into()])).await?;
    let Some(row) = row else { return Ok(Backlog::default()) };
    let number = |name: &str| -> Result<u64, StoreError> {
        Ok(u64::try_from(row.try_get::<i64>("", name)?).unwrap_or_default())
    };
    Ok(Backlog {
        open_letters: number("letters")?,
        stuck_sagas: number("stuck")?,
        oldest_letter_s: number("oldest_s")?,
    })
}

const BACKLOG: &str = "
SELECT count(*) AS letters,
       count(DISTINCT saga.id) FILTER (WHERE saga.status = 'stuck') AS stuck,
       coalesce(extract(epoch FROM now() - min(letter.first_failed_at)), 0)::bigint AS oldest_s
FROM (SELECT saga_id, first_failed_at FROM dead_letter WHERE status = 'open' ORDER BY id LIMIT $1) AS letter
LEFT JOIN saga ON saga.id = letter.saga_id";
