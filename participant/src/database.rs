//! The worker's own database: how it is connected to, and what its errors mean.

use std::time::Duration;

use sea_orm::sqlx;
use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr, RuntimeErr};
use secrecy::{ExposeSecret, SecretString};

/// How many connections a worker keeps: one batch is in work at a time, and its calls outside may need some more.
pub const CONNECTIONS: u32 = 4;
/// How long to wait for a connection before the database counts as away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// A statement that runs longer is cancelled, in milliseconds.
const STATEMENT_TIMEOUT_MS: &str = "30000";
/// A lock that is waited for longer is given up, in milliseconds.
const LOCK_TIMEOUT_MS: &str = "5000";
/// A transaction of ours that hangs half way loses its connection, in milliseconds.
const IDLE_IN_TRANSACTION_TIMEOUT_MS: &str = "60000";

/// Session settings of every connection. Statements here join a few hundred array elements with a table by its key. On
/// tables without fresh statistics the planner at times reads or hashes the whole table for that; off, it cannot. So a
/// plan is made once only, too: one for the values of a batch would be the same.
const SESSION: [(&str, &str); 9] = [
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("statement_timeout", STATEMENT_TIMEOUT_MS),
    ("lock_timeout", LOCK_TIMEOUT_MS),
    ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT_MS),
];

/// Connects to a worker's database with the session settings that its statements need. Reports under `application`.
///
/// # Errors
/// The address is wrong or nobody answers there; the text never holds the address, which may hold a password.
pub async fn connect(url: &SecretString, application: &str) -> Result<DatabaseConnection, DbErr> {
    let application = application.to_owned();
    let mut options = ConnectOptions::new(url.expose_secret());
    options
        .max_connections(CONNECTIONS)
        .min_connections(1)
        .connect_timeout(ACQUIRE_TIMEOUT)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .sqlx_logging(false)
        .map_sqlx_postgres_opts(move |options| options.options(SESSION).application_name(&application));
    Database::connect(options).await
}

/// What a database error means for the work that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// The database is away, busy, or another process was in the way; the same work may succeed later. Also when it is
    /// not known whether a commit happened: the inbox makes the repeat harmless.
    TryAgain,
    /// The database refuses this work, and would again.
    Refused,
}

pub(crate) fn disposition(error: &DbErr) -> Disposition {
    match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Disposition::TryAgain,
        DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => {
            sqlx_disposition(error)
        }
        _ => Disposition::Refused,
    }
}

/// Whether the database answered with this SQLSTATE.
pub(crate) fn has_state(error: &DbErr, state: &str) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return false;
    };
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == state)
}

fn sqlx_disposition(error: &sqlx::Error) -> Disposition {
    match error {
        sqlx::Error::Database(error) => state_disposition(error.code().as_deref().unwrap_or_default()),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Disposition::TryAgain,
        _ => Disposition::Refused,
    }
}

/// By SQLSTATE: connection lost (08), read-only standby (25006), serialization and deadlock (40), out of resources (53),
/// lock not got (55P03), shut down (57, but not a statement that ran too long, which may be this work's fault), and
/// system errors such as a full disk (58).
fn state_disposition(state: &str) -> Disposition {
    const AGAIN: [&str; 5] = ["08", "40", "53", "57", "58"];
    let again = AGAIN.iter().any(|class| state.starts_with(class)) && state != "57014";
    if again || matches!(state, "25006" | "55P03") { Disposition::TryAgain } else { Disposition::Refused }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_by_itself_is_tried_again() {
        for (state, expected) in [
            ("08006", Disposition::TryAgain),
            ("40001", Disposition::TryAgain),
            ("40P01", Disposition::TryAgain),
            ("53300", Disposition::TryAgain),
            ("53100", Disposition::TryAgain),
            ("55P03", Disposition::TryAgain),
            ("57P01", Disposition::TryAgain),
            ("57014", Disposition::Refused),
            ("23505", Disposition::Refused),
            ("22P02", Disposition::Refused),
            ("42P01", Disposition::Refused),
            ("", Disposition::Refused),
        ] {
            assert_eq!(state_disposition(state), expected, "{state}");
        }
    }

    #[test]
    fn a_lost_connection_is_tried_again() {
        let lost = sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        assert_eq!(disposition(&DbErr::Exec(RuntimeErr::SqlxError(lost.into()))), Disposition::TryAgain);
        assert_eq!(disposition(&DbErr::Custom("a check of ours".to_owned())), Disposition::Refused);
    }
}
