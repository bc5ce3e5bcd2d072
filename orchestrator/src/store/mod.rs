//! Postgres: the only place that speaks SQL. The engine writes through [`Store`]; the API reads through
//! [`queries::Reads`], over a pool of its own.

pub mod audit;
pub mod backlog;
pub mod body;
pub mod bulk;
pub mod bulk_choice;
pub mod bulk_drive;
pub mod commit;
pub mod copy;
pub mod definitions;
pub mod entities;
pub mod letter_groups;
pub mod letter_list;
pub mod letters;
pub mod listing;
pub mod load;
pub mod participants;
pub mod partitions;
pub mod plan;
pub mod queries;
pub mod retention;
pub mod shards;
pub mod snapshot;
pub mod tail;
pub mod time_of_day;
pub mod why;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sea_orm::sqlx::Postgres;
use sea_orm::sqlx::pool::PoolConnection;
use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DbBackend, DbErr, RuntimeErr, Statement, Value, sqlx,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

/// Connections of the engine's pool: one that the lane's commits keep, one for loading beside it, and two for whatever
/// else runs: registration, letters that come in, partitions.
pub const ENGINE_CONNECTIONS: u32 = 4;
/// How long to wait for a connection before saying that the database is away.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// No statement of the engine runs longer than this.
pub const STATEMENT_TIMEOUT_MS: &str = "30000";
/// A commit that is not answered within this, a little longer than the server allows a statement, will not be: the
/// connection is dead without a word.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(35);
/// After this long without a commit its connection goes back to the pool, which looks after idle ones: on the way to the
/// database somebody may drop a connection that is quiet for minutes.
pub const KEPT_IDLE: Duration = Duration::from_secs(5);

/// What a failed statement means for the caller.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Whether it happened is not known: the connection broke, or the server stopped.
    #[error("the database did not answer; whether the statement was carried out is not known")]
    Unknown(#[source] DbErr),
    /// It did not happen and may be tried again as it is: a deadlock, a full disk, a time limit.
    #[error("the database could not carry out the statement now: {message}")]
    TryAgain {
        /// What the database said.
        message: String,
    },
    /// It did not happen and never will: the data is refused.
    #[error("the database refuses the data (SQLSTATE {state}): {message}")]
    Refused {
        /// The five-character code.
        state: String,
        /// What the database said.
        message: String,
        /// The constraint that was violated, if it was one.
        constraint: Option<String>,
    },
    /// A row is not what this version writes.
    #[error(transparent)]
    Row(#[from] body::RowError),
}

impl StoreError {
    /// Nothing came back: whether it happened is not known.
    pub fn unanswered(text: impl Into<String>) -> Self {
        Self::Unknown(DbErr::Custom(text.into()))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        DbErr::Exec(RuntimeErr::SqlxError(Arc::new(error))).into()
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        let sqlx = match &error {
            DbErr::Exec(RuntimeErr::SqlxError(sqlx))
            | DbErr::Query(RuntimeErr::SqlxError(sqlx))
            | DbErr::Conn(RuntimeErr::SqlxError(sqlx)) => sqlx.clone(),
            _ => return Self::Unknown(error),
        };
        let Some(refusal) = sqlx.as_database_error() else { return Self::Unknown(error) };
        let state = refusal.code().unwrap_or_default().into_owned();
        let message = refusal.message().to_owned();
        match state.get(..2) {
            // Integrity, data, unknown names, unsupported: as it is, it will never work.
            Some("22" | "23" | "42" | "0A" | "21" | "54" | "P0") => {
                Self::Refused { state, message, constraint: refusal.constraint().map(str::to_owned) }
            }
            // Rolled back, out of resources, cancelled by a limit.
            Some("40" | "53" | "55") => Self::TryAgain { message },
            _ if state == "57014" => Self::TryAgain { message },
            _ => Self::Unknown(error),
        }
    }
}

/// A connection that is kept from one commit to the next.
struct Kept {
    connection: PoolConnection<Postgres>,
    used: Instant,
}

/// What commits keep from one to the next.
#[derive(Default)]
struct Committing {
    /// Their connection. The pool would ask the server after each whether it is still there, and give the next commit
    /// another one, whose caches are cold.
    kept: Option<Kept>,
    /// Where the shards' rows lie.
    places: commit::Places,
}

/// The engine's connection to Postgres. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    db: DatabaseConnection,
    committing: Arc<Mutex<Committing>>,
    /// Whoever publishes. The others wait here, where they hold no connection that the engine needs.
    publishing: Arc<Mutex<()>>,
    /// Whoever pauses or resumes a participant. The others wait here for the same reason.
    ordering: Arc<Mutex<()>>,
}

impl Store {
    /// Connects with the planner pinned for the batch statements: without statistics it may choose to scan the whole
    /// saga table for a batch, which costs four times as much; every join of the engine is a look-up by key. So a plan
    /// is also made once only: a plan for the values of one batch would be the same.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn connect(url: &SecretString) -> Result<Self, DbErr> {
        let mut options = ConnectOptions::new(url.expose_secret().to_owned());
        options
            .max_connections(ENGINE_CONNECTIONS)
            .min_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .sqlx_logging(false)
            .map_sqlx_postgres_opts(|postgres| {
                postgres.application_name("orchestrator-engine").options([
                    ("enable_seqscan", "off"),
                    ("enable_hashjoin", "off"),
                    ("enable_mergejoin", "off"),
                    ("enable_bitmapscan", "off"),
                    ("jit", "off"),
                    ("plan_cache_mode", "force_generic_plan"),
                    ("statement_timeout", STATEMENT_TIMEOUT_MS),
                    ("lock_timeout", "10000"),
                    ("idle_in_transaction_session_timeout", "30000"),
                ])
            });
        Ok(Self {
            db: Database::connect(options).await?,
            committing: Arc::default(),
            publishing: Arc::default(),
            ordering: Arc::default(),
        })
    }

    /// The connection pool, for migrations and tests.
    pub const fn connection(&self) -> &DatabaseConnection {
        &self.db
    }

    /// Gives the connection of the commits back if it has been idle for [`KEPT_IDLE`].
    pub async fn rest(&self) {
        let kept = &mut self.committing.lock().await.kept;
        if kept.as_ref().is_some_and(|kept| kept.used.elapsed() >= KEPT_IDLE) {
            *kept = None;
        }
    }

    /// The same pool as the driver beneath sea-orm knows it.
    fn pool(&self) -> &sqlx::PgPool {
        self.db.get_postgres_connection_pool()
    }
}

/// A statement for Postgres.
fn statement(sql: &str, values: Vec<Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}
