//! Waiting for something to become true. No scenario sleeps: it says what it waits for, and for how long at most.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Long enough for anything that happens by itself on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// Looks until there is something to see, at most for `limit`.
///
/// # Errors
/// There is nothing after `limit` (the text says what was waited for), or looking fails.
pub async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        if Instant::now() >= deadline {
            bail!("within {limit:?} it did not happen that {what}");
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Looks until it is as wanted; what is seen last is part of the error.
///
/// # Errors
/// As [`eventually`].
pub async fn becomes<T: PartialEq + std::fmt::Debug>(
    what: &str,
    wanted: T,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T>,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let seen = look().await?;
        if seen == wanted {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("within {limit:?}, {what} did not become {wanted:?}; it is {seen:?}");
        }
        sleep(LOOK_EVERY).await;
    }
}
