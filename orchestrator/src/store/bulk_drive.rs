//! What the driver of an action reads and writes. Each write names the token of its lease and happens as a whole or not at
//! all: a driver that lost the lease, and does not know it yet, writes nothing.

use std::collections::HashMap;

use saga_defs::saga::Status;
use saga_defs::time::Timestamp;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QueryResult, TransactionTrait,
    Value,
};
use uuid::Uuid;

use super::bulk::{ACTION, Action, Bulk, at};
use super::entities::saga;
use super::queries::stored_saga;
use super::{StoreError, statement};
use crate::bulk::judge::{LetterNow, LetterSent, NOT_BACK_AFTER, SagaNow};

/// A driver that is not heard of for this long has lost its actions.
const LEASE: &str = "10 seconds";
/// One that only waits is left alone for so long.
const ASIDE: &str = "1 second";

/// What a driver learns about one of the selection.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Its place in the selection.
    pub place: i32,
    /// The letter or the saga.
    pub subject: Uuid,
    /// Of a saga: its revision when it was chosen.
    pub revision: Option<i32>,
    /// Of a saga: the step it was at when it was chosen.
    pub step: Option<String>,
}

/// A letter with its record.
#[derive(Clone, Debug)]
pub struct LetterHere {
    /// As it is now.
    pub now: LetterNow,
    /// The saga it is about.
    pub saga: Option<Uuid>,
    /// The record's value, if it was asked for.
    pub value: Option<Vec<u8>>,
}

/// What has become of one of the selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemChange {
    /// Its place in the selection.
    pub place: i32,
    /// `sent`, `succeeded`, `failed_again`, `passed_over` or `examined`.
    pub state: &'static str,
    /// Why it was passed over, or what a dry run found.
    pub code: Option<&'static str>,
    /// The same, for people.
    pub note: Option<String>,
}

/// What one round of a driver came to.
#[derive(Clone, Debug)]
pub struct Round<'a> {
    /// What has become of some of the selection.
    pub items: &'a [ItemChange],
    /// What has come of the action.
    pub progress: serde_json::Value,
    /// It is over: `completed`, or `stopped` with why. An action that was cancelled meanwhile stays cancelled.
    pub over: Option<(&'static str, Option<String>)>,
    /// Nothing is left to be seen.
    pub finished: bool,
    /// Now.
    pub at: Timestamp,
}

impl Bulk {
    /// Takes actions that are not finished and that nobody drives, first those that nobody has driven or that were given
    /// back, then those that were put aside, the longest ago first.
    ///
    /// # Errors
    /// When the database does not answer; a lease that was taken all the same ends by itself.
    pub async fn claim(&self, token: Uuid, limit: u64) -> Result<Vec<Action>, StoreError> {
        let sql = format!(
            "UPDATE bulk_action SET lease_token = $1, lease_until = now() + interval '{LEASE}'
             WHERE id IN (
                 SELECT id FROM bulk_action WHERE finished_at IS NULL AND (lease_until IS NULL OR lease_until < now())
                 ORDER BY lease_until NULLS FIRST, id LIMIT $2 FOR UPDATE SKIP LOCKED
             ) RETURNING {ACTION}"
        );
        let values = vec![token.into(), i64::try_from(limit).unwrap_or(i64::MAX).into()];
        Ok(Action::find_by_statement(statement(&sql, values)).all(&self.db).await?)
    }

    /// Goes on driving. `None`: the lease is lost; else the action's status.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn renew(&self, action: Uuid, token: Uuid) -> Result<Option<String>, StoreError> {
        let sql = format!(
            "UPDATE bulk_action SET lease_until = now() + interval '{LEASE}'
             WHERE id = $1 AND lease_token = $2 AND finished_at IS NULL RETURNING status"
        );
        let row = self.db.query_one_raw(statement(&sql, vec![action.into(), token.into()])).await?;
        Ok(row.map(|row| row.try_get("", "status")).transpose()?)
    }

    /// Drives no more: another process may at once.
    ///
    /// # Errors
    /// When the database does not answer; the lease ends by itself.
    pub async fn release(&self, action: Uuid, token: Uuid) -> Result<(), StoreError> {
        let sql = "UPDATE bulk_action SET lease_token = NULL, lease_until = NULL WHERE id = $1 AND lease_token = $2";
        self.db.execute_raw(statement(sql, vec![action.into(), token.into()])).await?;
        Ok(())
    }

    /// Puts aside an action that only waits, for a second: others come first.
    ///
    /// # Errors
    /// When the database does not answer; the lease ends by itself.
    pub async fn put_aside(&self, action: Uuid, token: Uuid) -> Result<(), StoreError> {
        let sql = format!(
            "UPDATE bulk_action SET lease_token = NULL, lease_until = now() + interval '{ASIDE}'
             WHERE id = $1 AND lease_token = $2"
        );
        self.db.execute_raw(statement(&sql, vec![action.into(), token.into()])).await?;
        Ok(())
    }

    /// The next ones of the selection that nothing was done about, after a place.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn next(&self, action: Uuid, after: u32, limit: u32) -> Result<Vec<Chosen>, StoreError> {
        let sql = "SELECT place, subject_id, revision, step FROM bulk_item
                   WHERE action_id = $1 AND state = 'chosen' AND place > $2 ORDER BY place LIMIT $3";
        let after = i32::try_from(after).unwrap_or(i32::MAX);
        let values = vec![action.into(), after.into(), i64::from(limit).into()];
        let rows = self.db.query_all_raw(statement(sql, values)).await?;
        rows.iter().map(chosen).collect()
    }

    /// Those that were sent and have no outcome yet, at most `limit`, after a place.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn waiting(&self, action: Uuid, after: i32, limit: u32) -> Result<Vec<Chosen>, StoreError> {
        let sql = "SELECT place, subject_id, revision, step FROM bulk_item
                   WHERE action_id = $1 AND state = 'sent' AND place > $2 ORDER BY place LIMIT $3";
        let values = vec![action.into(), after.into(), i64::from(limit).into()];
        let rows = self.db.query_all_raw(statement(sql, values)).await?;
        rows.iter().map(chosen).collect()
    }

    /// Letters as they are now, with their records' values only if these are asked for: each may be large.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn letters_now(
        &self,
        ids: &[Uuid],
        values: bool,
    ) -> Result<HashMap<Uuid, LetterHere>, StoreError> {
        let sql = "SELECT id, status, step, direction, saga_id, CASE WHEN $2 THEN record_value END AS value
                   FROM dead_letter WHERE id = ANY($1::uuid[])";
        let rows = self.db.query_all_raw(statement(sql, vec![ids.to_vec().into(), values.into()])).await?;
        let here = |row: &QueryResult| {
            let direction: Option<String> = row.try_get("", "direction")?;
            let saga: Option<Uuid> = row.try_get("", "saga_id")?;
            let now = LetterNow {
                status: row.try_get("", "status")?,
                step: row.try_get("", "step")?,
                direction: direction.and_then(|text| text.parse().ok()),
                of_saga: saga.is_some(),
            };
            Ok((row.try_get("", "id")?, LetterHere { now, saga, value: row.try_get("", "value")? }))
        };
        rows.iter().map(here).collect()
    }

    /// What has become of letters that were sent. One of a saga that waits is never [`LetterSent::NotBack`].
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn letters_sent(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, LetterSent>, StoreError> {
        let sql = "SELECT l.id, l.status,
                       l.updated_at < now() - make_interval(secs => $2) AND NOT EXISTS (
                           SELECT FROM saga s WHERE s.id = l.saga_id AND s.finished_at IS NULL
                       ) AS not_back
                   FROM dead_letter l WHERE l.id = ANY($1::uuid[])";
        let values = vec![ids.to_vec().into(), NOT_BACK_AFTER.as_secs_f64().into()];
        let rows = self.db.query_all_raw(statement(sql, values)).await?;
        let sent = |row: &QueryResult| {
            let (status, not_back): (String, bool) =
                (row.try_get("", "status")?, row.try_get("", "not_back")?);
            let sent = match status.as_str() {
                "redriven" if not_back => LetterSent::NotBack,
                "redriven" => LetterSent::UnderWay,
                "resolved" => LetterSent::Resolved,
                _ => LetterSent::Back,
            };
            Ok((row.try_get("", "id")?, sent))
        };
        rows.iter().map(sent).collect()
    }

    /// Sagas as they are now, with everything in them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sagas_now(
        &self,
        ids: &[Uuid],
    ) -> Result<HashMap<Uuid, (SagaNow, saga_defs::saga::Saga)>, StoreError> {
        let rows = saga::Entity::find().filter(saga::Column::Id.is_in(ids.to_vec())).all(&self.db).await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in rows {
            let (id, step, revision) = (row.id, row.step.clone(), row.revision);
            let saga = stored_saga(row)?.saga;
            let direction = saga.current().map(|at| at.direction);
            found.insert(id, (SagaNow { status: saga.status(), step, direction, revision }, saga));
        }
        Ok(found)
    }

    /// Where sagas are, for outcomes.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn saga_places(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, SagaNow>, StoreError> {
        let sql = "SELECT id, status, step, revision FROM saga WHERE id = ANY($1::uuid[])";
        let rows = self.db.query_all_raw(statement(sql, vec![ids.to_vec().into()])).await?;
        let place = |row: &QueryResult| {
            let status: String = row.try_get("", "status")?;
            let status = Status::parse(&status).unwrap_or(Status::Running);
            let (step, revision) = (row.try_get("", "step")?, row.try_get("", "revision")?);
            Ok((row.try_get("", "id")?, SagaNow { status, step, direction: None, revision }))
        };
        rows.iter().map(place).collect()
    }

    /// Keeps what a round came to. `None`: the lease is lost and nothing is kept; else the action's status now.
    ///
    /// # Errors
    /// Whether it is kept is not known when the connection breaks: read it again.
    pub async fn record(
        &self,
        action: Uuid,
        token: Uuid,
        round: &Round<'_>,
    ) -> Result<Option<String>, StoreError> {
        let transaction = self.db.begin().await?;
        let (status, why) = round.over.clone().unzip();
        let sql = format!(
            "UPDATE bulk_action SET progress = $3, updated_at = $4, lease_until = now() + interval '{LEASE}',
                 status = CASE WHEN status = 'running' THEN coalesce($5, status) ELSE status END,
                 stop_reason = CASE WHEN status = 'running' THEN $6 ELSE stop_reason END,
                 finished_at = CASE WHEN $7 THEN $4 END
             WHERE id = $1 AND lease_token = $2 AND finished_at IS NULL RETURNING status"
        );
        let values: Vec<Value> = vec![
            action.into(),
            token.into(),
            round.progress.clone().into(),
            at(round.at),
            status.map(str::to_owned).into(),
            why.flatten().into(),
            round.finished.into(),
        ];
        let Some(row) = transaction.query_one_raw(statement(&sql, values)).await? else { return Ok(None) };
        let status: String = row.try_get("", "status")?;
        if !round.items.is_empty() {
            transaction.execute_raw(items(action, round)).await?;
        }
        transaction.commit().await?;
        Ok(Some(status))
    }
}

fn items(action: Uuid, round: &Round<'_>) -> sea_orm::Statement {
    let sql = "UPDATE bulk_item AS i
               SET state = c.state, code = nullif(c.code, ''), note = nullif(c.note, ''), updated_at = $6
               FROM unnest($2::int[], $3::text[], $4::text[], $5::text[]) AS c(place, state, code, note)
               WHERE i.action_id = $1 AND i.place = c.place";
    let column = |of: fn(&ItemChange) -> &str| -> Value {
        round.items.iter().map(|item| of(item).to_owned()).collect::<Vec<_>>().into()
    };
    let notes = round
        .items
        .iter()
        .map(|item| item.note.as_deref().unwrap_or_default().replace(char::MIN, "\u{fffd}"));
    let notes: Vec<String> = notes.collect();
    let places: Vec<i32> = round.items.iter().map(|item| item.place).collect();
    statement(
        sql,
        vec![
            action.into(),
            places.into(),
            column(|item| item.state),
            column(|item| item.code.unwrap_or_default()),
            notes.into(),
            at(round.at),
        ],
    )
}

fn chosen(row: &QueryResult) -> Result<Chosen, StoreError> {
    Ok(Chosen {
        place: row.try_get("", "place")?,
        subject: row.try_get("", "subject_id")?,
        revision: row.try_get("", "revision")?,
        step: row.try_get("", "step")?,
    })
}
