//! The database at the start of a worker: waited for, and checked.

use std::time::Duration;

use sea_orm::{DatabaseConnection, DbErr};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::database::connect;
use crate::retry::{Stopped, Waits};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Connects to the worker's database (see [`crate::connect`]); waits until it is there, or until `stop`. What it waits for is
/// logged, and said to `told`.
///
/// # Errors
/// Stopped.
pub async fn open(
    url: &SecretString,
    application: &str,
    told: impl Fn(&str),
    stop: &CancellationToken,
) -> Result<DatabaseConnection, Stopped> {
    let mut waits = Waits::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        match connect(url, application).await {
            Ok(database) => return Ok(database),
            Err(error) => say(&told, &format!("waiting for the database (DATABASE_URL): {error}")),
        }
        waits.wait(stop).await?;
    }
}

/// Waits until `pending` names no migration any more, or until `stop`. `how` is the command that would apply them. What it
/// waits for is logged, and said to `told`.
///
/// # Errors
/// Stopped.
pub async fn wait_until_migrated<F>(
    how: &str,
    pending: impl Fn() -> F,
    told: impl Fn(&str),
    stop: &CancellationToken,
) -> Result<(), Stopped>
where
    F: Future<Output = Result<Vec<String>, DbErr>>,
{
    let mut waits = Waits::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        match pending().await {
            Ok(missing) if missing.is_empty() => return Ok(()),
            Ok(missing) => {
                say(&told, &format!("waiting for migrations, run `{how}`: missing {}", missing.join(", ")));
            }
            Err(error) => say(&told, &format!("waiting for the database (DATABASE_URL): {error}")),
        }
        waits.wait(stop).await?;
    }
}

fn say(told: impl Fn(&str), waiting: &str) {
    tracing::warn!("{waiting}");
    told(waiting);
}
