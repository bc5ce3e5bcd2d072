//! Participants that are paused by hand, or held by a process because they do not answer.

use std::sync::Arc;

use saga_defs::ids::SagaId;
use saga_defs::time::Timestamp;
use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult, TransactionTrait, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::AuditRow;
use super::bulk::key_statement;
use super::commit::KeyWrite;
use super::queries::Reads;
use super::{Store, StoreError, statement};
use crate::engine::participants::board::{Line, Order, State};
use crate::engine::participants::health::Cause;

/// What a process holds back, as it wrote it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLine {
    /// Its base URL and, after a `#`, what it drew at its start; versions before this one write the URL alone.
    pub process: String,
    /// What it holds.
    pub line: Line,
    /// When it was so.
    pub seen_at: Timestamp,
}

impl Store {
    /// The operators' last words on all participants.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn participant_orders(&self) -> Result<Vec<Order>, StoreError> {
        orders(&self.db).await
    }

    /// An operator's word on a participant, with its audit line and key. Returns the order as it is now. Words of this process
    /// wait for each other without a connection, so that no number of them takes those that the engine needs.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with the constraint `request_key_pkey` when the key is taken.
    pub async fn order_participant(
        &self,
        wanted: &Order,
        audit: AuditRow,
        key: Option<&KeyWrite>,
    ) -> Result<Order, StoreError> {
        let _alone = self.ordering.lock().await;
        let transaction = self.db.begin().await?;
        let values: Vec<Value> = vec![
            (&*wanted.participant).into(),
            wanted.paused.into(),
            wanted.actor.as_str().into(),
            wanted.reason.as_str().into(),
            wanted.at.to_utc().into(),
        ];
        // Makes the row if there is none, so that of two first words the second waits for the first and sees it.
        let first = "INSERT INTO participant_order (participant, paused, revision, actor, reason, at)
                     VALUES ($1, false, 0, $2, $3, $4) ON CONFLICT (participant) DO NOTHING";
        let first_values = [0, 2, 3, 4].map(|place| values[place].clone());
        transaction.execute_raw(statement(first, first_values.into())).await?;
        let was = "SELECT paused FROM participant_order WHERE participant = $1 FOR UPDATE";
        let was = statement(was, vec![(&*wanted.participant).into()]);
        let was = transaction.query_one_raw(was).await?;
        let was = was.map(|row| row.try_get::<bool>("", "paused")).transpose()?;
        let sql = "UPDATE participant_order
                   SET paused = $2, revision = revision + 1, actor = $3, reason = $4, at = $5 WHERE participant = $1
                   RETURNING participant, paused, revision, actor, reason, at";
        let row = transaction.query_one_raw(statement(sql, values)).await?;
        let now = row.as_ref().map(order).transpose()?.unwrap_or_else(|| wanted.clone());
        let state =
            |paused: bool| serde_json::json!({ "participant": &*wanted.participant, "paused": paused });
        let was = state(was.unwrap_or_default());
        transaction.execute_raw(audit.changing(was, state(now.paused)).statement()).await?;
        if let Some(key) = key {
            transaction.execute_raw(key_statement(key)).await?;
        }
        transaction.commit().await?;
        Ok(now)
    }

    /// What all processes hold back that said so after `after`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn participant_holds(&self, after: Timestamp) -> Result<Vec<StoredLine>, StoreError> {
        holds(&self.db, after).await
    }

    /// Writes down what this process holds back now, and nothing else of it. What nobody has confirmed since `stale` goes, and
    /// since `fresh` if it is about one of the `released`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn write_holds(
        &self,
        process: &str,
        lines: &[Line],
        released: Vec<String>,
        [now, fresh, stale]: [Timestamp; 3],
    ) -> Result<(), StoreError> {
        let transaction = self.db.begin().await?;
        let held: Vec<String> = lines.iter().map(|line| line.participant.to_string()).collect();
        let sql = "DELETE FROM participant_hold
                   WHERE (process = $1 AND participant <> ALL($2::text[])) OR seen_at < $3
                       OR (participant = ANY($4::text[]) AND seen_at < $5)";
        let values: Vec<Value> =
            vec![process.into(), held.into(), stale.to_utc().into(), released.into(), fresh.to_utc().into()];
        transaction.execute_raw(statement(sql, values)).await?;
        for line in lines {
            transaction.execute_raw(write(process, line, now)).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

impl Reads {
    /// As [`Store::participant_orders`], for those who only look.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn participant_orders(&self) -> Result<Vec<Order>, StoreError> {
        orders(self.db()).await
    }

    /// As [`Store::participant_holds`], for those who only look.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn participant_holds(&self, after: Timestamp) -> Result<Vec<StoredLine>, StoreError> {
        holds(self.db(), after).await
    }
}

async fn orders(db: &DatabaseConnection) -> Result<Vec<Order>, StoreError> {
    let sql = "SELECT participant, paused, revision, actor, reason, at FROM participant_order";
    let rows = db.query_all_raw(statement(sql, vec![])).await?;
    rows.iter().map(order).collect()
}

async fn holds(db: &DatabaseConnection, after: Timestamp) -> Result<Vec<StoredLine>, StoreError> {
    let sql =
        "SELECT participant, process, state, cause, since, waiting, oldest, last_answer, next_probe, seen_at
               FROM participant_hold WHERE seen_at > $1 ORDER BY participant, process";
    let rows = db.query_all_raw(statement(sql, vec![after.to_utc().into()])).await?;
    rows.iter().map(stored_line).collect()
}

fn write(process: &str, line: &Line, now: Timestamp) -> sea_orm::Statement {
    let sql = "INSERT INTO participant_hold
                   (participant, process, state, cause, since, waiting, oldest, last_answer, next_probe, seen_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
               ON CONFLICT (participant, process) DO UPDATE
               SET state = excluded.state, cause = excluded.cause, since = excluded.since, waiting = excluded.waiting,
                   oldest = excluded.oldest, last_answer = excluded.last_answer, next_probe = excluded.next_probe,
                   seen_at = excluded.seen_at";
    let values: Vec<Value> = vec![
        (&*line.participant).into(),
        process.into(),
        line.state.as_str().into(),
        line.cause.map_or("silence", Cause::as_str).into(),
        line.since.unwrap_or(now).to_utc().into(),
        i64::try_from(line.waiting).unwrap_or(i64::MAX).into(),
        line.oldest.map(SagaId::as_uuid).into(),
        line.last_answer.map(Timestamp::to_utc).into(),
        line.next_probe.map(Timestamp::to_utc).into(),
        now.to_utc().into(),
    ];
    statement(sql, values)
}

fn order(row: &QueryResult) -> Result<Order, StoreError> {
    Ok(Order {
        participant: Arc::from(row.try_get::<String>("", "participant")?),
        paused: row.try_get("", "paused")?,
        revision: row.try_get("", "revision")?,
        at: Timestamp::from_utc(row.try_get("", "at")?),
        actor: row.try_get("", "actor")?,
        reason: row.try_get("", "reason")?,
    })
}

fn stored_line(row: &QueryResult) -> Result<StoredLine, StoreError> {
    let moment = |name: &str| -> Result<Option<Timestamp>, StoreError> {
        Ok(row.try_get::<Option<OffsetDateTime>>("", name)?.map(Timestamp::from_utc))
    };
    let line = Line {
        participant: Arc::from(row.try_get::<String>("", "participant")?),
        // Whatever a later version writes here, it does not answer.
        state: State::parse(&row.try_get::<String>("", "state")?).unwrap_or(State::Held),
        cause: Cause::parse(&row.try_get::<String>("", "cause")?),
        since: moment("since")?,
        waiting: u64::try_from(row.try_get::<i64>("", "waiting")?).unwrap_or_default(),
        oldest: row.try_get::<Option<Uuid>>("", "oldest")?.map(SagaId::from_uuid),
        last_answer: moment("last_answer")?,
        next_probe: moment("next_probe")?,
    };
    let seen_at = Timestamp::from_utc(row.try_get("", "seen_at")?);
    Ok(StoredLine { process: row.try_get("", "process")?, line, seen_at })
}
