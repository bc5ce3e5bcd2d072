//! Actions over many letters or sagas, as rows: looked at, cancelled. How they are chosen stands in
//! [`super::bulk_choice`], what their driver writes in [`super::bulk_drive`].

use std::sync::Arc;

use saga_defs::time::Timestamp;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, FromQueryResult, TransactionTrait, Value,
};
use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::audit::AuditRow;
use super::commit::KeyWrite;
use super::queries::Reads;
use super::{ACQUIRE_TIMEOUT, StoreError, statement};

/// Connections of the pool: a driver uses one now and then, and a choice one for seconds.
pub const BULK_CONNECTIONS: u32 = 3;
/// Choices and looks at many values that are under way at a time: one connection is always left for what is short.
const LONG_AT_A_TIME: usize = 2;
/// A million letters are chosen in some seconds; who asks waits 45 s at most.
const STATEMENT_TIMEOUT_MS: &str = "40000";

/// The tables of the actions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bulk {
    pub(super) db: DatabaseConnection,
    long: Arc<Semaphore>,
}

/// What an action is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Dead letters.
    Letter,
    /// Sagas.
    Saga,
}

impl Subject {
    /// As in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Letter => "letter",
            Self::Saga => "saga",
        }
    }
}

/// A row of `bulk_action`.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Action {
    /// Its id, a UUIDv7.
    pub id: Uuid,
    /// `letter` or `saga`.
    pub subject: String,
    /// `redrive`, `cancel`, `skip` or `retry-now`.
    pub verb: String,
    /// `running`, `completed`, `stopped` or `cancelled`.
    pub status: String,
    /// Whether nothing is done, only looked at.
    pub dry_run: bool,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// What was asked for.
    pub filter: serde_json::Value,
    /// A merge patch for every letter's value.
    pub patch: Option<serde_json::Value>,
    /// How many in a second.
    pub rate: i32,
    /// The sizes of the first steps.
    pub ramp: serde_json::Value,
    /// How many were chosen.
    pub selected: i32,
    /// What has come of it.
    pub progress: serde_json::Value,
    /// Why it stopped by itself.
    pub stop_reason: Option<String>,
    /// When it was asked for.
    pub created_at: OffsetDateTime,
    /// When something came of it last.
    pub updated_at: OffsetDateTime,
    /// When everything had its outcome.
    pub finished_at: Option<OffsetDateTime>,
}

pub(super) const ACTION: &str =
    "id, subject, verb, status, dry_run, actor, reason, filter, patch, rate, ramp, selected,
    progress, stop_reason, created_at, updated_at, finished_at";

/// A row of `bulk_item`.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Item {
    /// Its place in the selection, from 1.
    pub place: i32,
    /// The letter or the saga.
    pub subject_id: Uuid,
    /// `chosen`, `sent`, `succeeded`, `failed_again`, `passed_over` or `examined`.
    pub state: String,
    /// Why it was passed over, or what a dry run found.
    pub code: Option<String>,
    /// The same, for people.
    pub note: Option<String>,
    /// When that was known.
    pub updated_at: Option<OffsetDateTime>,
}

impl Bulk {
    /// Over a pool of its own.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn connect(url: &SecretString) -> Result<Self, StoreError> {
        let mut options = ConnectOptions::new(url.expose_secret().to_owned());
        options
            .max_connections(BULK_CONNECTIONS)
            .min_connections(0)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(true)
            .sqlx_logging(false)
            .map_sqlx_postgres_opts(|postgres| {
                postgres.application_name("orchestrator-bulk").options([
                    ("statement_timeout", STATEMENT_TIMEOUT_MS),
                    ("lock_timeout", "10000"),
                    ("idle_in_transaction_session_timeout", "30000"),
                    ("jit", "off"),
                ])
            });
        Ok(Self { db: Database::connect(options).await?, long: Arc::new(Semaphore::new(LONG_AT_A_TIME)) })
    }

    /// Waits until something that takes long may begin; it may go on until what comes back is dropped.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // Never closed.
        self.long.clone().acquire_owned().await.ok()
    }

    /// One action on such subjects.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn action(&self, subject: Subject, id: Uuid) -> Result<Option<Action>, StoreError> {
        action(&self.db, subject, id).await
    }

    /// At most `limit` actions on such subjects, newest first, from below `before`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn actions(
        &self,
        subject: Subject,
        before: Option<Uuid>,
        limit: u64,
    ) -> Result<Vec<Action>, StoreError> {
        let sql = format!(
            "SELECT {ACTION} FROM bulk_action WHERE subject = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let values = vec![subject.as_str().into(), before.unwrap_or(Uuid::max()).into(), limit.into()];
        Ok(Action::find_by_statement(statement(&sql, values)).all(&self.db).await?)
    }

    /// At most `limit` of what an action chose, in order, after a place; those in one state, or all.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn items(
        &self,
        action: Uuid,
        state: Option<&str>,
        after: i32,
        limit: u64,
    ) -> Result<Vec<Item>, StoreError> {
        let of_state = if state.is_some() { "state = $4" } else { "$4::text IS NULL" };
        let sql = format!(
            "SELECT place, subject_id, state, code, note, updated_at FROM bulk_item
             WHERE action_id = $1 AND place > $2 AND {of_state} ORDER BY place LIMIT $3"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let values = vec![action.into(), after.into(), limit.into(), state.map(str::to_owned).into()];
        Ok(Item::find_by_statement(statement(&sql, values)).all(&self.db).await?)
    }

    /// Sends nothing more. `None`: there is no such action on such subjects; else what it was before.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with the constraint `request_key_pkey` when the key is taken.
    pub async fn cancel(
        &self,
        subject: Subject,
        id: Uuid,
        audit: &AuditRow,
        key: Option<&KeyWrite>,
    ) -> Result<Option<String>, StoreError> {
        let transaction = self.db.begin().await?;
        let sql = "SELECT status FROM bulk_action WHERE id = $1 AND subject = $2 FOR UPDATE";
        let row = transaction.query_one_raw(statement(sql, vec![id.into(), subject.as_str().into()])).await?;
        let Some(row) = row else { return Ok(None) };
        let status: String = row.try_get("", "status")?;
        if status == "running" {
            let sql = "UPDATE bulk_action SET status = 'cancelled', updated_at = $2 WHERE id = $1";
            let values = vec![id.into(), audit.at.to_utc().into()];
            transaction.execute_raw(statement(sql, values)).await?;
            transaction.execute_raw(audit.statement()).await?;
            if let Some(key) = key {
                transaction.execute_raw(key_statement(key)).await?;
            }
            transaction.commit().await?;
        }
        Ok(Some(status))
    }
}

impl Reads {
    /// As [`Bulk::action`], for those who only look.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn action(&self, subject: Subject, id: Uuid) -> Result<Option<Action>, StoreError> {
        action(self.db(), subject, id).await
    }

    /// Which state of its row an action is in: another one after each change. `None`: it is not there.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn action_state(&self, id: Uuid) -> Result<Option<String>, StoreError> {
        // Whoever writes a row leaves the number of the transaction in it; a time may be the same twice.
        let sql = "SELECT xmin::text AS state FROM bulk_action WHERE id = $1";
        let row = self.db().query_one_raw(statement(sql, vec![id.into()])).await?;
        Ok(row.map(|row| row.try_get("", "state")).transpose()?)
    }
}

async fn action(db: &DatabaseConnection, subject: Subject, id: Uuid) -> Result<Option<Action>, StoreError> {
    let sql = format!("SELECT {ACTION} FROM bulk_action WHERE id = $1 AND subject = $2");
    let values = vec![id.into(), subject.as_str().into()];
    Ok(Action::find_by_statement(statement(&sql, values)).one(db).await?)
}

/// Keeps an idempotency key, in the transaction that acts.
pub(super) fn key_statement(key: &KeyWrite) -> sea_orm::Statement {
    let sql = "INSERT INTO request_key (key_hash, request_hash, saga_id, created_at) VALUES ($1, $2, $3, $4)";
    let values: Vec<Value> = vec![
        key.key_hash.to_vec().into(),
        key.request_hash.to_vec().into(),
        key.saga.into(),
        key.at.to_utc().into(),
    ];
    statement(sql, values)
}

/// A moment as a column has it.
pub(super) fn at(moment: Timestamp) -> Value {
    moment.to_utc().into()
}
