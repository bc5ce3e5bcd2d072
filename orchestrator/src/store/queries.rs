//! What the API reads, over a small pool of its own, so that a slow look never holds up a commit. Any process answers
//! for every saga. The one thing written here is the answer that an idempotency key was given.

use std::time::Duration;

use saga_defs::ids::SagaId;
use saga_defs::saga::{Event, Saga, Status};
use saga_defs::time::Timestamp;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectOptions, Database, DatabaseConnection, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;
use uuid::Uuid;

use super::backlog::Backlog;
use super::body::{SagaRow, saga_from_row};
use super::entities::{journal, request_key, saga};
use super::{ACQUIRE_TIMEOUT, StoreError};

/// Connections of the reading pool.
pub const READ_CONNECTIONS: u32 = 6;
/// No read runs longer than this: nobody waits for it any more.
pub const READ_STATEMENT_TIMEOUT_MS: &str = "10000";

/// An id's time and the row's time come from one clock, milliseconds apart. This much more is allowed for when a range
/// of time is turned into a range of ids or of partitions; the exact comparison follows.
const CLOCK_MARGIN: Duration = Duration::from_secs(3600);

/// A saga as it is stored.
#[derive(Clone, Debug)]
pub struct StoredSaga {
    /// The saga.
    pub saga: Saga,
    /// When it wakes by itself.
    pub wake_at: Option<Timestamp>,
}

/// Which sagas to list. Every condition that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SagaFilter {
    /// Of this definition.
    pub definition: Option<String>,
    /// In this status.
    pub status: Option<Status>,
    /// At this step.
    pub step: Option<String>,
    /// Of this business key.
    pub business_key: Option<String>,
    /// Started later than this.
    pub started_after: Option<OffsetDateTime>,
    /// Started earlier than this.
    pub started_before: Option<OffsetDateTime>,
}

/// An idempotency key that has acted.
#[derive(Clone, Debug)]
pub struct RecordedKey {
    /// SHA-256 of what was asked under it.
    pub request_hash: Vec<u8>,
    /// The saga it started or acted on; the nil UUID for a verb on a dead letter.
    pub saga: SagaId,
    /// The answer it was given, if that was kept.
    pub answer: Option<serde_json::Value>,
}

/// The read side. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reads {
    db: DatabaseConnection,
}

impl Reads {
    /// Over an existing pool.
    pub const fn new(db: DatabaseConnection) -> Self {
        Self { db }
    }

    /// Over a pool of its own, with a limit on the time of each statement.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn connect(url: &SecretString) -> Result<Self, DbErr> {
        let mut options = ConnectOptions::new(url.expose_secret().to_owned());
        options
            .max_connections(READ_CONNECTIONS)
            .min_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(true)
            .sqlx_logging(false)
            .map_sqlx_postgres_opts(|postgres| {
                postgres
                    .application_name("orchestrator-api")
                    .options([("statement_timeout", READ_STATEMENT_TIMEOUT_MS), ("jit", "off")])
            });
        Ok(Self::new(Database::connect(options).await?))
    }

    pub(super) const fn db(&self) -> &DatabaseConnection {
        &self.db
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        super::letters::ping(&self.db).await
    }

    /// What waits for an operator.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn backlog(&self) -> Result<Backlog, StoreError> {
        super::backlog::backlog(&self.db).await
    }

    /// One saga.
    ///
    /// # Errors
    /// When the database does not answer, or the row is not what this version writes.
    pub async fn saga(&self, id: SagaId) -> Result<Option<StoredSaga>, StoreError> {
        saga::Entity::find_by_id(id.as_uuid()).one(&self.db).await?.map(stored_saga).transpose()
    }

    /// At most `limit` transitions of a saga after revision `after`, in order.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn history(
        &self,
        saga: SagaId,
        after: i32,
        limit: u64,
    ) -> Result<Vec<journal::Model>, StoreError> {
        let rows = journal::Entity::find()
            .filter(journal::Column::SagaId.eq(saga.as_uuid()))
            .filter(journal::Column::Revision.gt(after))
            .filter(journal::Column::At.gte(begun(saga)))
            .order_by_asc(journal::Column::Revision)
            .limit(limit)
            .all(&self.db)
            .await?;
        Ok(rows)
    }

    /// How a saga began; `None` when its journal is no longer kept.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn first_event(&self, saga: SagaId) -> Result<Option<(Timestamp, Event)>, StoreError> {
        let row = self.history(saga, 0, 1).await?.into_iter().find(|row| row.revision == 1);
        Ok(row.and_then(|row| {
            let event = serde_json::from_str(&row.event).ok()?;
            Some((Timestamp::from_utc(row.at), event))
        }))
    }

    /// What an idempotency key did, if it acted.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn request_key(&self, key_hash: &[u8; 32]) -> Result<Option<RecordedKey>, StoreError> {
        let row = request_key::Entity::find_by_id(key_hash.to_vec()).one(&self.db).await?;
        Ok(row.map(|row| RecordedKey {
            request_hash: row.request_hash,
            saga: SagaId::from_uuid(row.saga_id),
            answer: row.answer,
        }))
    }

    /// Keeps the answer that a key was given, unless one is kept already. `false`: one is, and that one counts.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn record_answer(
        &self,
        key_hash: &[u8; 32],
        answer: serde_json::Value,
    ) -> Result<bool, StoreError> {
        let updated = request_key::Entity::update_many()
            .col_expr(request_key::Column::Answer, Expr::value(answer))
            .filter(request_key::Column::KeyHash.eq(key_hash.to_vec()))
            .filter(request_key::Column::Answer.is_null())
            .exec(&self.db)
            .await?;
        Ok(updated.rows_affected == 1)
    }
}

pub(super) fn stored_saga(row: saga::Model) -> Result<StoredSaga, StoreError> {
    let wake_at = row.wake_at.map(Timestamp::from_utc);
    let saga = saga_from_row(SagaRow {
        id: row.id,
        definition: row.definition,
        version: row.version,
        business_key: row.business_key,
        revision: row.revision,
        started_at: row.started_at,
        updated_at: row.updated_at,
        finished_at: row.finished_at,
        body: row.body,
    })?;
    Ok(StoredSaga { saga, wake_at })
}

pub(super) fn margin() -> time::Duration {
    time::Duration::try_from(CLOCK_MARGIN).unwrap_or(time::Duration::HOUR)
}

/// No id drawn at `at` or later is below this one.
pub(super) fn lowest_id(at: OffsetDateTime) -> Uuid {
    let millis = u64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).unwrap_or(0);
    let mut bytes = [0_u8; 16];
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    Uuid::from_bytes(bytes)
}

/// No transition of a saga is older than this: it lets Postgres pass over older partitions of the journal.
pub(super) fn begun(saga: SagaId) -> OffsetDateTime {
    let mut millis = [0_u8; 8];
    millis[2..].copy_from_slice(&saga.as_uuid().as_bytes()[..6]);
    let millis = i64::try_from(u64::from_be_bytes(millis)).unwrap_or(0);
    Timestamp::from_unix_millis(millis).to_utc().saturating_sub(margin())
}
