//! Keeps the tally of the groups small.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// How often it is looked whether there is something to fold. A storm adds some thousand rows a second, and a list of the
/// groups reads them all.
const EVERY: Duration = Duration::from_secs(2);

/// Folds now and then, until told to stop.
pub async fn keep_folded(store: Store, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        match store.fold_letter_tally().await {
            Ok(None) => {}
            Ok(Some(rows)) => tracing::debug!(rows, "folded the tally of the dead letters"),
            Err(error) => {
                tracing::warn!(%error, "the tally of the dead letters was not folded; trying again")
            }
        }
    }
}
